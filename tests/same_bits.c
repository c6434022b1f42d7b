/* tests/same_bits.c    trains models of several columns and prints all that comes out, for tests/same_bits.py

       same_bits isas                     the instruction sets of this machine, a line each
       same_bits recipes                  the names of the recipes below
       same_bits RECIPE ISA THREADS FILE  trains, prints losses, scores and predictions in hexadecimal, writes
                                          the model with the trainer's state to FILE (`stream` writes none)

   It is compiled against the header of this tree and against that of an older one: it uses public functions
   alone, and of those only what both have. What the command cannot ask for is here: columns over columns,
   taps into different ones, distributions as targets, states carried over chunks, frozen tensors, streams. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mtl_rnn.h"

enum { SEQUENCES = 9, LONGEST = 12, ROWS = SEQUENCES * LONGEST, WORDS = 40, FEATURES = 5, STEPS = 6 };
enum { TAG, CHUNK, RATE, INTENT, MOOD, KIND, WATCH, TASKS };

static void fail_on(const mtl_error *err)
{
    if (!err->code) return;
    fprintf(stderr, "same_bits: %s\n", err->message);
    exit(1);
}

/* ---- what is trained ----------------------------------------------------------------------------------- */

typedef enum form { BY_STEP, BY_FIT, BY_CHUNK } form;

typedef struct recipe {
    const char *name;
    form form;
    mtl_column_desc left, right, top;
    mtl_trainer_desc trainer;
    int frozen;         /* 1: the left column's input weights stay, the top learns at a third of the rate */
} recipe;

static const recipe recipes[] = {
    { .name = "lazy-average", .form = BY_STEP, .frozen = 0,
      .left = { .cell = MTL_CELL_LSTM, .bidirectional = 1, .dropout = 0.1f },
      .right = { .cell = MTL_CELL_GRU },
      .top = { .cell = MTL_CELL_RNN, .layers = 2, .dropout_between = 0.2f },
      .trainer = { .optimizer = MTL_OPTIMIZER_ADAM, .lr = 0.01f, .lazy = 1, .clip_norm = 0.5f,
                   .average = 0.9f } },
    { .name = "momentum-frozen", .form = BY_STEP, .frozen = 1,
      .left = { .cell = MTL_CELL_GRU, .bidirectional = 1, .reset = MTL_RESET_BEFORE, .layers = 2 },
      .right = { .cell = MTL_CELL_RNN, .activation = MTL_ACTIVATION_RELU, .no_bias = 1 },
      .top = { .cell = MTL_CELL_LSTM, .bidirectional = 1, .dropout = 0.3f, .dropout_per_sequence = 1 },
      .trainer = { .optimizer = MTL_OPTIMIZER_SGD, .lr = 0.05f, .momentum = 0.9f, .nesterov = 1, .l1 = 1e-4f,
                   .l2 = 1e-3f, .clip_value = 0.05f, .schedule = MTL_SCHEDULE_STEP, .schedule_every = 2,
                   .warmup = 3 } },
    { .name = "fit-two-sets", .form = BY_FIT, .frozen = 0,
      .left = { .cell = MTL_CELL_RNN, .bidirectional = 1 },
      .right = { .cell = MTL_CELL_LSTM, .forget_bias = 1 },
      .top = { .cell = MTL_CELL_GRU, .dropout = 0.2f },
      .trainer = { .optimizer = MTL_OPTIMIZER_RMSPROP, .lr = 0.01f, .momentum = 0.5f,
                   .schedule = MTL_SCHEDULE_COSINE } },
    { .name = "fit-waiting-rows", .form = BY_FIT, .frozen = 0,
      .left = { .cell = MTL_CELL_LSTM, .bidirectional = 1 },
      .right = { .cell = MTL_CELL_LSTM },
      .top = { .cell = MTL_CELL_LSTM },
      .trainer = { .optimizer = MTL_OPTIMIZER_ADAM, .lr = 0.01f, .average = 0.8f, .clip_norm = 1 } },
    { .name = "chunks-bf16", .form = BY_CHUNK, .frozen = 0,
      .left = { .cell = MTL_CELL_LSTM },
      .right = { .cell = MTL_CELL_GRU, .layers = 2 },
      .top = { .cell = MTL_CELL_LSTM },
      .trainer = { .optimizer = MTL_OPTIMIZER_ADAMW, .lr = 0.02f, .decay = 0.01f, .decay_biases = 1,
                   .precision = MTL_PRECISION_BF16 } },
};
enum { RECIPES = sizeof recipes / sizeof recipes[0] };

static const float class_weights[5] = { 1, 0.5f, 2, 1, 0.25f };
static const char *const tag_names[3] = { "O", "B-x", "I-x" };

/* Two columns over the inputs, one over both; the tasks tap all three, alone and side by side. */
static mtl_model *create_model(const recipe *r, mtl_error *err)
{
    const mtl_input_desc inputs[2] = {
        { .name = "words", .vocabulary = WORDS, .width = 12, .dropout = 0.1f },
        { .name = "shape", .features = FEATURES },
    };
    const mtl_task_desc tasks[TASKS] = {
        [TAG] = { .name = "tag", .tap.from = "left", .level = MTL_LEVEL_STEP, .classes = 5,
                  .label_smoothing = 0.1f, .class_weights = class_weights, .weight = 0.7f },
        [CHUNK] = { .name = "chunk", .tap.from = "right+top", .level = MTL_LEVEL_STEP, .classes = 3,
                    .hidden = { 9 }, .dropout = 0.2f, .labels = tag_names },
        [RATE] = { .name = "rate", .tap.from = "top", .level = MTL_LEVEL_STEP, .kind = MTL_TASK_REAL,
                   .width = 2, .loss = MTL_LOSS_HUBER, .huber_delta = 0.4f },
        [INTENT] = { .name = "intent", .tap.from = "top", .classes = 4, .pool = MTL_POOL_MAX,
                     .hidden = { 7, 6 }, .activation = MTL_ACTIVATION_TANH, .dropout = 0.1f },
        [MOOD] = { .name = "mood", .tap.from = "left+top+words", .kind = MTL_TASK_REAL,
                   .pool = MTL_POOL_MEAN },
        [KIND] = { .name = "kind", .classes = 3, .hidden = { 5 } },
        [WATCH] = { .name = "watch", .tap.from = "right", .classes = 2, .evaluate_only = 1 },
    };
    mtl_column_desc columns[3];
    mtl_model_desc desc = { .inputs = inputs, .input_count = 2, .columns = columns, .column_count = 3,
                            .tasks = tasks, .task_count = TASKS, .seed = 7 };
    columns[0] = r->left;
    columns[0].name = "left", columns[0].input.from = "words", columns[0].hidden = 16;
    columns[1] = r->right;
    columns[1].name = "right", columns[1].input.from = "words+shape", columns[1].hidden = 11;
    columns[2] = r->top;
    columns[2].name = "top", columns[2].input.from = "left+right+shape", columns[2].hidden = 13;
    return mtl_model_create(&desc, err);
}

/* ---- data: made from a counter, a third of the labels missing ------------------------------------------ */

typedef struct data {
    mtl_batch batch;
    int lengths[SEQUENCES], ids[ROWS];
    mtl_real rows[ROWS * FEATURES], rate[ROWS * 2], mood[SEQUENCES], kind[SEQUENCES * 3];
    int tag[ROWS], chunk[ROWS], intent[SEQUENCES], watch[SEQUENCES];
    mtl_input inputs[2];
    mtl_target targets[TASKS];
} data;

static unsigned long long counter;

static int below(int limit)
{
    counter = counter * 6364136223846793005u + 1442695040888963407u;
    return (int)((counter >> 33) % (unsigned)limit);
}

static mtl_real real_value(void) { return (mtl_real)(below(20001) - 10000) / 5000; }
static mtl_real missing_or(mtl_real value) { return below(3) ? value : (mtl_real)NAN; }
static int label_below(int limit) { return below(3) ? below(limit) : MTL_MISSING; }

static void make_data(data *d, unsigned long long seed, int same_length)
{
    size_t s, n, rows = 0, k;
    memset(d, 0, sizeof *d);
    counter = seed;
    for (s = 0; s < SEQUENCES; s++) {
        d->lengths[s] = same_length ? LONGEST : 1 + below(LONGEST);
        rows += (size_t)d->lengths[s];
        d->intent[s] = label_below(4), d->watch[s] = label_below(2), d->mood[s] = missing_or(real_value());
        for (k = 0; k < 3; k++) d->kind[3 * s + k] = (mtl_real)(k == s % 3 ? 0.5 : 0.25);
        if (s % 4 == 3) d->kind[3 * s] = (mtl_real)NAN;
    }
    for (n = 0; n < rows; n++) {
        d->ids[n] = below(WORDS - 8);       /* eight words never occur */
        d->tag[n] = label_below(5), d->chunk[n] = label_below(3);
        d->rate[2 * n] = missing_or(real_value()), d->rate[2 * n + 1] = real_value();
        for (k = 0; k < FEATURES; k++) d->rows[n * FEATURES + k] = real_value();
    }
    d->inputs[0].ids = d->ids, d->inputs[1].rows = d->rows;
    d->targets[TAG].labels = d->tag, d->targets[CHUNK].labels = d->chunk, d->targets[RATE].values = d->rate;
    d->targets[INTENT].labels = d->intent, d->targets[MOOD].values = d->mood;
    d->targets[KIND].distribution = d->kind, d->targets[WATCH].labels = d->watch;
    d->batch.sequences = SEQUENCES, d->batch.lengths = d->lengths;
    d->batch.inputs = d->inputs, d->batch.targets = d->targets;
}

/* ---- what is printed: a value a line, so that the first line that differs names it --------------------- */

static void print_values(const char *what, const char *name, const mtl_real *values, size_t count)
{
    size_t i;
    for (i = 0; values && i < count; i++) printf("%s %s[%zu] %a\n", what, name, i, (double)values[i]);
}

static void print_step(const mtl_step *step)
{
    size_t k;
    printf("step %zu loss %a grad_norm %a lr %a tokens %zu\n", step->step, step->loss, step->grad_norm,
           step->lr, step->tokens);
    for (k = 0; k < step->task_count; k++)
        printf("step %zu task[%zu] loss %a items %zu\n", step->step, k, step->task_loss[k],
               step->task_items[k]);
}

static int print_progress(void *user, const mtl_progress *p)
{
    size_t k;
    (void)user;
    if (p->step) print_step(p->step);
    if (!p->epoch_end) return 0;
    printf("epoch %zu loss %a score %a joint %a best %a\n", p->epoch, p->loss, p->scores->score,
           p->scores->joint_accuracy, p->best_score);
    for (k = 0; k < p->scores->task_count; k++) {
        const mtl_task_score *t = &p->scores->tasks[k];
        printf("epoch %zu task[%zu] items %zu loss %a accuracy %a f1 %a rmse %a mae %a r2 %a\n", p->epoch, k,
               t->items, t->loss, t->accuracy, t->span_f1, t->rmse, t->mae, t->r2);
    }
    return 0;
}

static void print_predictions(const char *what, const mtl_model *model, int isa, int threads, mtl_error *err)
{
    static data d;
    const mtl_predictor_desc desc = { .isa = isa, .threads = threads };
    mtl_predictor *predictor = mtl_predictor_create(model, &desc, err);
    mtl_prediction out[TASKS];
    size_t k, i;
    make_data(&d, 99, 0);
    mtl_predict(predictor, &d.batch, out, err);
    fail_on(err);
    for (k = 0; k < TASKS; k++) {
        const char *name = mtl_model_describe(model)->tasks[k].name;
        for (i = 0; out[k].labels && i < out[k].items; i++)
            printf("%s %s.label[%zu] %d\n", what, name, i, out[k].labels[i]);
        print_values(what, name, out[k].probabilities, out[k].items * out[k].width);
        print_values(what, name, out[k].values, out[k].items * out[k].width);
    }
    mtl_predictor_destroy(predictor);
}

/* ---- training ------------------------------------------------------------------------------------------ */

/* Updates of one batch and of two by turns; of one when states are carried from each to the next. */
static void train_steps(mtl_trainer *trainer, mtl_state *state, mtl_error *err)
{
    static data d[2];
    mtl_batch batches[2];
    mtl_step step;
    int i, k;
    for (i = 0; i < STEPS; i++) {
        for (k = 0; k < 2; k++) {
            make_data(&d[k], (unsigned long long)(2 * i + k + 1), state != NULL);
            batches[k] = d[k].batch;
            batches[k].state = state;
        }
        mtl_train_step(trainer, batches, state ? 1 : (size_t)(1 + i % 2), &step, err);
        fail_on(err);
        print_step(&step);
    }
}

static void train_fit(mtl_trainer *trainer, mtl_error *err)
{
    static data first, second, valid;
    const mtl_fit_desc desc = { .score = "intent", .epochs = 3, .batch = 4, .bucket = 2, .accumulate = 2,
                                .sampler = MTL_SAMPLER_TEMPERATURE, .progress = print_progress };
    mtl_batch sets[2];
    mtl_fit_result result;
    size_t k;
    make_data(&first, 1, 0);
    make_data(&second, 2, 0);
    make_data(&valid, 3, 0);
    for (k = 0; k < TASKS; k++) if (k % 2) memset(&second.targets[k], 0, sizeof second.targets[k]);
    sets[0] = first.batch, sets[1] = second.batch;
    mtl_fit(trainer, sets, 2, &valid.batch, 1, &desc, &result, err);
    fail_on(err);
    printf("fit epochs %zu best %zu updates %zu score %a loss %a\n", result.epochs, result.best_epoch,
           result.updates, result.best_score, result.last_loss);
}

static void run_recipe(const recipe *r, int isa, int threads, const char *path)
{
    static const mtl_real mean[FEATURES] = { 0.1f, -0.2f, 0, 0.3f, 0 };
    static const mtl_real scale[FEATURES] = { 1, 2, 0.5f, 0, 1 };
    mtl_error err = { 0 };
    mtl_trainer_desc desc = r->trainer;
    mtl_model *model = create_model(r, &err);
    mtl_trainer *trainer;
    mtl_state *state = NULL;
    fail_on(&err);
    mtl_model_set_feature_scale(model, 1, mean, scale, &err);
    mtl_model_set_target_scale(model, RATE, mean, scale, &err);
    if (r->frozen) printf("frozen %zu\n", mtl_model_freeze(model, "left.weight_ih", 1));
    if (r->frozen) printf("slowed %zu\n", mtl_model_rate(model, "top.", 0.3f));
    desc.isa = isa, desc.threads = threads;
    trainer = mtl_trainer_create(model, &desc, &err);
    if (r->form == BY_CHUNK) state = mtl_state_create(model, SEQUENCES, &err);
    fail_on(&err);
    if (r->form == BY_FIT) train_fit(trainer, &err);
    else train_steps(trainer, state, &err);
    print_predictions("predict", model, isa, threads, &err);
    if (desc.average > 0) {
        mtl_trainer_swap_average(trainer, &err);
        print_predictions("average", model, isa, threads, &err);
    }
    mtl_trainer_save(trainer, path, &err);
    fail_on(&err);
    mtl_state_destroy(state);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
}

/* A cell a step at a time. */
static void run_stream(int cell, int isa)
{
#ifdef MTL_CELL_FIELDS
    const mtl_cell_desc desc = { .cell = cell, .hidden = 19 };
#else                                                   /* revisions before mtl_cell_desc */
    const mtl_column_desc desc = { .cell = cell, .hidden = 19 };
#endif
    const char *const name = cell == MTL_CELL_LSTM ? "lstm" : cell == MTL_CELL_GRU ? "gru" : "rnn";
    mtl_error err = { 0 };
    mtl_arena arena;
    mtl_parameters set;
    mtl_cell *of;
    mtl_cell_stream *stream;
    mtl_real x[FEATURES];
    size_t bytes;
    int t, k;
    mtl_arena_init(&arena, NULL, 0, NULL);
    mtl_parameters_init(&set, &arena);
    of = mtl_cell_add(&set, "cell.", &desc, FEATURES, 0, 0, &err);
    mtl_parameters_allocate(&set, &err);
    fail_on(&err);
    mtl_parameters_randomise(&set, 5);
    mtl_parameters_prepare(&set, isa, &err);
    bytes = mtl_cell_stream_size(of);
    stream = mtl_cell_stream_init(mtl_arena_push(&arena, bytes), bytes, of, isa, &err);
    fail_on(&err);
    for (counter = 11, t = 0; t < LONGEST; t++) {
        for (k = 0; k < FEATURES; k++) x[k] = real_value();
        print_values("stream", name, mtl_cell_stream_step(stream, x), 19);
    }
    mtl_arena_destroy(&arena);
}

/* ---- the command line ---------------------------------------------------------------------------------- */

#define ISA_NAME(number, name) { number, name },
static const mtl_choice isas[] = { MTL_ISA_NAMES(ISA_NAME) { 0, NULL } };

static int has_isa(int isa)
{
    mtl_error err = { 0 };
    mtl_arena arena;
    mtl_run run;
    mtl_arena_init(&arena, NULL, 0, NULL);
    mtl_run_init(&run, &arena, isa, &err);
    mtl_arena_destroy(&arena);
    return err.code == MTL_OK;
}

int main(int argc, char **argv)
{
    size_t i, isa = 0;
    if (argc == 2 && !strcmp(argv[1], "isas")) {
        for (i = 0; isas[i].name; i++)
            if (isas[i].value != MTL_ISA_AUTO && has_isa(isas[i].value)) puts(isas[i].name);
        return 0;
    }
    if (argc == 2 && !strcmp(argv[1], "recipes")) {
        for (i = 0; i < RECIPES; i++) puts(recipes[i].name);
        puts("stream");
        return 0;
    }
    if (argc == 5) while (isas[isa].name && strcmp(isas[isa].name, argv[2]) != 0) isa++;
    if (argc != 5 || !isas[isa].name) {
        fprintf(stderr, "usage: same_bits isas | recipes | RECIPE ISA THREADS FILE\n");
        return 2;
    }
    for (i = 0; i < RECIPES; i++)
        if (!strcmp(recipes[i].name, argv[1]))
            run_recipe(&recipes[i], isas[isa].value, atoi(argv[3]), argv[4]);
    for (i = MTL_CELL_RNN; !strcmp(argv[1], "stream") && i <= MTL_CELL_LSTM; i++)
        run_stream((int)i, isas[isa].value);
    return 0;
}
