/* Trains one small network on a task whose answer lies far back, and prints a line of JSON: the score, when
   the task was learnt, and how large the gradient of its loss is at each step, before and after training.
   study_gradients.py runs a grid of such trainings. Arguments are NAME=VALUE: what `options` lists, or the
   fields of docs/reference.md as column.NAME (of all columns), task.NAME (of the long task) and trainer.NAME.

   Run: make build/study_gradients && build/study_gradients steps=60 column.cell=gru updates=500

   recall   The first of `steps` ids is the answer, one of 8. The others are noise, 8 further ids: half of
            them are the one that follows the last id, the rest are drawn at random.
   adding   A step has a number from 0 to 1 and a mark. Two steps are marked, one in each half; their sum is
            the answer (Hochreiter & Schmidhuber 1997).
   text     `join` sentences in a row, with id 1 between them; the answer is the class of the first. train and
            valid: files of numbers, "classes tags vocabulary sentences words", then for each sentence its
            class, its length, its ids, its tags.

   second   A task with an answer at each step beside it. echo: what the step holds. delay: what stood 5 steps
            before. next: the next id. answer: what the long task will want, as far as it is known (the first
            id, the sum so far). tags: the words' tags. */
#include "mtl_rnn.h"
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RECALL, ADDING, TEXT };
enum { NONE, ECHO, DELAY, NEXT, ANSWER, TAGS };
enum { SYMBOLS = 8, IDS = 2 * SYMBOLS, BACK = 5, WIDTH = 32, TESTED = 256, CURVE = 64 };
static const mtl_choice datas[] = { { RECALL, "recall" }, { ADDING, "adding" }, { TEXT, "text" },
                                    { 0, NULL } };
static const mtl_choice seconds[] = { { NONE, "none" }, { ECHO, "echo" }, { DELAY, "delay" },
                                      { NEXT, "next" }, { ANSWER, "answer" }, { TAGS, "tags" }, { 0, NULL } };
static const mtl_choice inits[] = { { 0, "uniform" }, { MTL_INIT_ORTHOGONAL, "orthogonal" },
                                    { MTL_INIT_IDENTITY, "identity" }, { 0, NULL } };

typedef struct settings {
    int data, second, init, steps, join, chrono, layers, skip, updates, every, batch, seed;
    float keep, goal, weight;
} settings;

#define INT(name, preset, low, high, help) \
    { #name, MTL_INT, offsetof(settings, name), preset, low, high, help, NULL, 0, 0 }
#define CHOICE(name, high, choices, help) \
    { #name, MTL_CHOICE, offsetof(settings, name), 0, 0, high, help, choices, 0, 0 }
static const mtl_field options[] = {
    CHOICE(data, TEXT, datas, "where sequences come from"),
    CHOICE(second, TAGS, seconds, "the task beside it"),
    CHOICE(init, MTL_INIT_IDENTITY, inits, "W_hh; identity: with biases of 0 and W_ih of N(0, 0.001^2)"),
    INT(steps, 60, 2, 4000, "of a sequence; text: of those that gradients are shown of"),
    INT(join, 1, 1, 100, "text: sentences in a row"),
    INT(chrono, 0, 0, 1, "gate biases for memories of 1 to `steps` steps"),
    INT(layers, 1, 1, 2, "columns above one another"),
    INT(skip, 0, 0, 1, "two layers: heads read the sum of both"),
    INT(updates, 0, 0, 1000000, "at most"),
    INT(every, 100, 1, 1000000, "updates between two looks at the score"),
    INT(batch, 32, 1, 10000, "sequences of an update"),
    INT(seed, 1, 1, 1000000, "of weights and data"),
    { "keep", MTL_FLOAT, offsetof(settings, keep), 0, -10, 10,
      "added to the bias of the gate that keeps the state: LSTM forget, GRU update", NULL, 0, 0 },
    { "goal", MTL_FLOAT, offsetof(settings, goal), 2, 0, 2, "the score that ends training", NULL, 0, 0 },
    { "weight", MTL_FLOAT, offsetof(settings, weight), 1, 0, 1e6, "of the second task's loss", NULL, 0, 0 }
};

/* ---- data ---------------------------------------------------------------------------------------------- */

typedef unsigned long long stream;
typedef struct corpus {
    int classes, tags, vocabulary, count, longest;
    int *label, *begin, *ids, *tag;         /* [count], [count + 1], words of all */
} corpus;
typedef struct sheet {                      /* a batch, and room for all that it points to */
    int *lengths, *ids, *answer, *each;
    mtl_real *rows, *sum, *each_value;
    mtl_input input;
    mtl_target targets[2];
    mtl_batch batch;
} sheet;

static void fail(const char *what, const char *which)
{
    fprintf(stderr, "study_gradients: %s %s\n", what, which);
    exit(1);
}

static void *room(size_t count, size_t size)
{
    void *memory = calloc(count + 1, size);
    if (!memory) fail("out of memory", "");
    return memory;
}

/* 0 to below - 1: splitmix64 (Steele et al. 2014). */
static int draw(stream *of, int below)
{
    unsigned long long z = *of += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (int)((z ^ (z >> 31)) % (unsigned long long)below);
}

static int number(FILE *file, const char *path)
{
    int value;
    if (fscanf(file, "%d", &value) != 1) fail("a number is missing in", path);
    return value;
}

static void read_numbers(FILE *file, const char *path, int *to, int count)
{
    int i;
    for (i = 0; i < count; i++) to[i] = number(file, path);
}

static void read_corpus(corpus *of, const char *path)
{
    FILE *file = fopen(path, "r");
    int head[5], one[2], i;
    if (!file) fail("cannot read", path);
    read_numbers(file, path, head, 5);
    of->classes = head[0], of->tags = head[1], of->vocabulary = head[2], of->count = head[3];
    of->label = room((size_t)of->count, sizeof(int)), of->begin = room((size_t)of->count, sizeof(int));
    of->ids = room((size_t)head[4], sizeof(int)), of->tag = room((size_t)head[4], sizeof(int));
    for (i = 0; i < of->count; i++) {
        read_numbers(file, path, one, 2);
        of->label[i] = one[0], of->begin[i + 1] = of->begin[i] + one[1];
        if (one[1] < 1 || one[1] > head[4] - of->begin[i]) fail("a wrong length in", path);
        if (one[1] > of->longest) of->longest = one[1];
        read_numbers(file, path, of->ids + of->begin[i], one[1]);
        read_numbers(file, path, of->tag + of->begin[i], one[1]);
    }
    fclose(file);
}

static void free_corpus(corpus *of) { free(of->label), free(of->begin), free(of->ids), free(of->tag); }

static void make_sheet(sheet *of, const settings *s, const corpus *text, size_t sequences)
{
    const size_t words = sequences * (size_t)(s->data == TEXT ? (text->longest + 1) * s->join : s->steps);
    memset(of, 0, sizeof *of);
    of->lengths = room(sequences, sizeof *of->lengths), of->answer = room(sequences, sizeof *of->answer);
    of->sum = room(sequences, sizeof *of->sum), of->each_value = room(words, sizeof *of->each_value);
    of->ids = room(words, sizeof *of->ids), of->each = room(words, sizeof *of->each);
    of->rows = room(2 * words, sizeof *of->rows);
    of->batch.inputs = &of->input, of->batch.targets = of->targets, of->batch.lengths = of->lengths;
    if (s->data == ADDING)
        of->input.rows = of->rows, of->targets[0].values = of->sum, of->targets[1].values = of->each_value;
    else
        of->input.ids = of->ids, of->targets[0].labels = of->answer, of->targets[1].labels = of->each;
}

static void free_sheet(sheet *of)
{
    free(of->lengths), free(of->answer), free(of->sum), free(of->each_value);
    free(of->ids), free(of->each), free(of->rows);
}

static void fill_recall(const settings *s, stream *of, sheet *to, size_t sequence)
{
    int *ids = to->ids + sequence * (size_t)s->steps, *each = to->each + sequence * (size_t)s->steps, t;
    to->lengths[sequence] = s->steps;
    to->answer[sequence] = ids[0] = draw(of, SYMBOLS);
    for (t = 1; t < s->steps; t++)
        ids[t] = SYMBOLS + (draw(of, 2) ? (ids[t - 1] + 1) % SYMBOLS : draw(of, SYMBOLS));
    for (t = 0; t < s->steps; t++)
        each[t] = s->second == ECHO ? ids[t] : s->second == ANSWER ? ids[0]
                : s->second == NEXT ? (t + 1 < s->steps ? ids[t + 1] : MTL_MISSING)
                : t >= BACK ? ids[t - BACK] : MTL_MISSING;
}

static void fill_adding(const settings *s, stream *of, sheet *to, size_t sequence)
{
    const int half = s->steps / 2, first = draw(of, half), second = half + draw(of, s->steps - half);
    mtl_real *rows = to->rows + 2 * sequence * (size_t)s->steps, sum = 0;
    mtl_real *each = to->each_value + sequence * (size_t)s->steps;
    int t;
    to->lengths[sequence] = s->steps;
    for (t = 0; t < s->steps; t++) {
        rows[2 * t] = (mtl_real)draw(of, 1 << 20) / (1 << 20);
        rows[2 * t + 1] = t == first || t == second;
        sum += rows[2 * t] * rows[2 * t + 1];
        each[t] = s->second == ECHO ? rows[2 * t] : s->second == ANSWER ? sum
                : t >= BACK ? rows[2 * (t - BACK)] : (mtl_real)NAN;
    }
    to->sum[sequence] = sum;
}

/* `join` sentences at word n of a sheet, the first of them sentence i. Returns where they end. */
static size_t put_sentences(const settings *s, const corpus *text, stream *of, sheet *to, size_t n, int i)
{
    int left;
    for (left = s->join; left; left--, i = draw(of, text->count)) {
        const size_t length = (size_t)(text->begin[i + 1] - text->begin[i]);
        if (left < s->join) to->ids[n] = 1, to->each[n++] = MTL_MISSING;
        memcpy(to->ids + n, text->ids + text->begin[i], length * sizeof(int));
        memcpy(to->each + n, text->tag + text->begin[i], length * sizeof(int));
        n += length;
    }
    return n;
}

/* Sequences of text. in_order: they begin with sentence 0, 1, ..; cut > 0: the first words of such as have so
   many. */
static void fill_text(const settings *s, const corpus *text, stream *of, sheet *to, size_t sequences,
                      int in_order, int cut)
{
    size_t n = 0, i = 0;
    long tries = 0;
    while (i < sequences) {
        const int first = in_order ? (int)i : draw(of, text->count);
        const size_t end = put_sentences(s, text, of, to, n, first);
        if (tries++ > 1000000) fail("no text of so many", "steps");
        if (cut && end - n < (size_t)cut) continue;
        to->answer[i] = text->label[first];
        to->lengths[i] = cut ? cut : (int)(end - n);
        n += (size_t)to->lengths[i++];
    }
}

static void fill(const settings *s, const corpus *text, stream *of, sheet *to, size_t sequences, int in_order,
                 int cut)
{
    size_t i;
    to->batch.sequences = sequences;
    if (s->data == TEXT) fill_text(s, text, of, to, sequences, in_order, cut);
    else for (i = 0; i < sequences; i++) (s->data == RECALL ? fill_recall : fill_adding)(s, of, to, i);
}

/* ---- the model ----------------------------------------------------------------------------------------- */

/* Memories of 1 to `steps` steps, spread evenly: the keeping gate's bias is log u, u from U(1, steps - 1); an
   LSTM's input gate gets -log u (Tallec & Ollivier 2018). */
static void set_chrono(const settings *s, mtl_tensor *bias, size_t units, int lstm)
{
    stream of = (stream)s->seed;
    size_t i;
    for (i = 0; i < units; i++) {
        const double u = 1 + (s->steps - 2) * (draw(&of, 1 << 20) / (double)(1 << 20));
        bias->value[units + i] = (mtl_real)log(u);
        if (lstm) bias->value[i] = (mtl_real)-log(u);
    }
}

/* Initial values that a column's desc has no field for: rules of its tensors. */
static void set_rules(const settings *s, mtl_model *model, const char *column, size_t units, int gated)
{
    static const char *const ends[] = { "weight_hh_l0", "weight_ih_l0", "bias_ih_l0", "bias_hh_l0" };
    mtl_tensor *of[4];
    char name[64];
    int i;
    for (i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.%s", column, ends[i]);
        of[i] = mtl_model_tensor(model, name);
    }
    if (s->init) of[0]->init = s->init, of[0]->initial = 0;
    if (s->init == MTL_INIT_IDENTITY) {
        of[1]->init = MTL_INIT_NORMAL, of[1]->initial = 1e-3f;
        of[2]->init = of[3]->init = MTL_INIT_CONSTANT, of[2]->initial = of[3]->initial = 0;
    }
    if (gated && s->keep != 0) {            /* LSTM i f g o, GRU r z n: the second one keeps */
        const mtl_init_rows rows = { units, units, 1, s->keep };
        of[2]->init_rows = rows;
    }
}

static mtl_model *make_model(const settings *s, const corpus *text, const mtl_column_desc *like,
                             const mtl_task_desc *task, mtl_error *err)
{
    mtl_input_desc input = { .name = "x", .width = WIDTH };
    mtl_task_desc tasks[2] = { *task, { .name = "each", .level = MTL_LEVEL_STEP, .weight = s->weight } };
    mtl_column_desc columns[2] = { *like, *like };
    mtl_model_desc desc = { .inputs = &input, .input_count = 1, .columns = columns, .tasks = tasks };
    const int gated = like->cell != MTL_CELL_RNN;
    mtl_model *model;
    int i;
    desc.column_count = (size_t)s->layers, desc.task_count = s->second ? 2 : 1;
    columns[0].name = "low", columns[1].name = "high", columns[1].input.from = "low";
    tasks[0].name = "far";
    if (s->skip) tasks[0].tap.from = "low+high", tasks[0].tap.kind = MTL_MIX_SUM;
    tasks[1].tap = tasks[0].tap;
    if (s->data == ADDING) input.features = 2, tasks[0].kind = tasks[1].kind = MTL_TASK_REAL;
    else if (s->data == RECALL) input.vocabulary = IDS, tasks[0].classes = SYMBOLS, tasks[1].classes = IDS;
    else input.vocabulary = text->vocabulary, tasks[0].classes = text->classes, tasks[1].classes = text->tags;
    if (!(model = mtl_model_create(&desc, err))) return NULL;
    for (i = 0; i < s->layers; i++) set_rules(s, model, columns[i].name, (size_t)like->hidden, gated);
    mtl_parameters_randomise(mtl_model_parameters(model), (unsigned long long)s->seed);
    if (s->chrono && gated)
        for (i = 0; i < s->layers; i++)
            set_chrono(s, mtl_model_tensor(model, i ? "high.bias_ih_l0" : "low.bias_ih_l0"),
                       (size_t)like->hidden, like->cell == MTL_CELL_LSTM);
    mtl_model_prepare(model, err);
    return model;
}

/* ---- one training -------------------------------------------------------------------------------------- */

typedef struct result { double score, second, most, *start, *end; int updates, learnt, diverged; } result;

/* ||dL/dh_t|| of the first layer, L the long task's loss of one sequence. */
static void watch(const settings *s, const corpus *text, mtl_trainer *trainer, mtl_model *model, double *norm,
                  mtl_error *err)
{
    stream of = 77;
    sheet seen;
    int t;
    make_sheet(&seen, s, text, CURVE);
    fill(s, text, &of, &seen, CURVE, 0, s->steps);
    mtl_watch_steps(trainer, &seen.batch, 0, mtl_model_tensor(model, "low.weight_hh_l0"), norm,
                    (size_t)s->steps, err);
    for (t = 0; t < s->steps; t++) norm[t] *= CURVE;        /* L is a mean over the sequences */
    free_sheet(&seen);
}

static void look(mtl_predictor *predictor, const sheet *tested, result *of, mtl_error *err)
{
    mtl_task_score tasks[2] = {{0}};
    mtl_scores scores = {0};
    scores.tasks = tasks;
    if (mtl_evaluate(predictor, &tested->batch, 1, &scores, NULL, err)) return;
    of->score = tasks[0].score, of->second = tasks[1].score;
}

static void train(const settings *s, const corpus *text, mtl_trainer *trainer, mtl_predictor *predictor,
                  const sheet *tested, result *of, mtl_error *err)
{
    stream draws = 1000 + (stream)s->seed;
    mtl_step step = {0};
    sheet batch;
    make_sheet(&batch, s, text, (size_t)s->batch);
    while (of->updates < s->updates && !of->learnt && !err->code) {
        fill(s, text, &draws, &batch, (size_t)s->batch, 0, 0);
        if (mtl_train_step(trainer, &batch.batch, 1, &step, err)) break;
        if (step.grad_norm > of->most) of->most = step.grad_norm;
        if (++of->updates % s->every && of->updates < s->updates) continue;
        look(predictor, tested, of, err);
        if (of->score >= s->goal) of->learnt = of->updates;
    }
    if (err->code == MTL_ERROR_NUMBER) of->diverged = 1, mtl_error_clear(err);
    free_sheet(&batch);
}

static void print_number(const char *before, double x)
{
    if (x - x == 0) printf("%s%.5g", before, x);
    else printf("%snull", before);          /* not finite: JSON has no such numbers */
}

static void print_curve(const char *name, const double *norm, int steps)
{
    int t;
    printf(", \"%s\": [", name);
    for (t = 0; t < steps; t++) print_number(t ? ", " : "", norm[t]);
    printf("]");
}

static void print_result(const settings *s, const result *of)
{
    printf("{\"updates\": %d, \"learnt\": %d, \"diverged\": %d", of->updates, of->learnt, of->diverged);
    print_number(", \"score\": ", of->score);
    print_number(", \"second\": ", of->second);
    print_number(", \"most\": ", of->most);
    print_number(", \"seconds\": ", (double)clock() / CLOCKS_PER_SEC);
    print_curve("start", of->start, s->steps);
    print_curve("end", of->end, s->steps);
    printf("}\n");
}

/* text: for training, and for the curves and the score. */
static void run(const settings *s, const corpus *text, const mtl_column_desc *column,
                const mtl_task_desc *task, const mtl_trainer_desc *how, mtl_error *err)
{
    const size_t tests = s->data == TEXT ? (size_t)text[1].count : TESTED;
    result of = { .start = room((size_t)s->steps, sizeof(double)),
                  .end = room((size_t)s->steps, sizeof(double)) };
    mtl_model *model = make_model(s, text, column, task, err);
    mtl_trainer *trainer = mtl_trainer_create(model, how, err);
    mtl_predictor *predictor = mtl_predictor_create(model, NULL, err);
    stream draws = 999;
    sheet tested;
    make_sheet(&tested, s, text + 1, tests);
    fill(s, text + 1, &draws, &tested, tests, 1, 0);
    if (!err->code) watch(s, text + 1, trainer, model, of.start, err);
    if (!err->code) train(s, text, trainer, predictor, &tested, &of, err);
    if (!err->code && !of.diverged) watch(s, text + 1, trainer, model, of.end, err);
    if (!err->code) print_result(s, &of);
    free_sheet(&tested), free(of.start), free(of.end);
    mtl_predictor_destroy(predictor), mtl_trainer_destroy(trainer), mtl_model_destroy(model);
}

/* ---- arguments ----------------------------------------------------------------------------------------- */

static void set(const mtl_field *fields, size_t count, void *desc, const char *argument, mtl_error *err)
{
    const char *value = strchr(argument, '=');
    size_t i;
    for (i = 0; value && i < count; i++)
        if (strlen(fields[i].name) == (size_t)(value - argument)
            && !strncmp(fields[i].name, argument, strlen(fields[i].name))) {
            mtl_field_set(&fields[i], desc, value + 1, err);
            return;
        }
    fail("unknown argument", argument);
}

int main(int argc, char **argv)
{
    mtl_column_desc column = {0};
    mtl_task_desc task = {0};
    mtl_trainer_desc how = {0};
    settings s = {0};
    corpus text[2] = {{0}};                 /* training, validation */
    const struct { const char *prefix; int desc; void *members; } of[] = {
        { "column.", MTL_DESC_COLUMN, &column }, { "task.", MTL_DESC_TASK, &task },
        { "trainer.", MTL_DESC_TRAINER, &how } };
    mtl_error err = {0};
    char value[32];
    size_t i, count;
    int a;
    for (i = 0; i < sizeof options / sizeof *options; i++)
        mtl_field_set(&options[i], &s, mtl_field_get(&options[i], &s, value, sizeof value), &err);
    for (a = 1; a < argc && !err.code; a++) {
        for (i = 0; i < 3 && strncmp(argv[a], of[i].prefix, strlen(of[i].prefix)); i++) {}
        if (i < 3) {
            const mtl_field *fields = mtl_fields(of[i].desc, &count);
            set(fields, count, of[i].members, argv[a] + strlen(of[i].prefix), &err);
        } else if (!strncmp(argv[a], "train=", 6)) read_corpus(&text[0], argv[a] + 6);
        else if (!strncmp(argv[a], "valid=", 6)) read_corpus(&text[1], argv[a] + 6);
        else set(options, sizeof options / sizeof *options, &s, argv[a], &err);
    }
    if (s.data == TEXT && !(text[0].count && text[1].count)) fail("text needs", "train= and valid=");
    if (!err.code) run(&s, text, &column, &task, &how, &err);
    if (err.code) fprintf(stderr, "study_gradients: %s\n", err.message);
    free_corpus(&text[0]), free_corpus(&text[1]);
    return err.code != MTL_OK;
}
