/* A model that learns its user, on the device, in 256 KB. A wristband tells from a movement (rows of three
   numbers) which command it is (a class) and how fast (a number). The maker trains it on many people, on a
   heap, and writes it into memory. On the device it lies in one static arena, with what trains it: all is
   frozen but the command's head, which learns from the user's samples as they come, one update each. This
   user moves otherwise and means other commands; afterwards they are understood, and not one bit of the
   tempo's answers has changed. docs/step_by_step.md walks through it. Run: make && build/personalise */
#include "mtl_rnn.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMMAND, TEMPO, TASKS };
enum { CIRCLE, BACK_CIRCLE, SHAKE, NOD, MOVEMENTS };
enum { AXES = 3, LONGEST = 24, PEOPLE = 600, OWN = 80, TEST = 200, ARENA = 256 * 1024 };

/* Who moves: how far turned and how strongly; the command that each movement stands for. */
typedef struct person { double turned, strength; int commands[MOVEMENTS]; } person;

typedef struct sample { int length, command; mtl_real rows[LONGEST * AXES], tempo; } sample;

/* ---- movements ----------------------------------------------------------------------------------------- */

static unsigned long long seed = 1;
static double uniform(void)
{
    return (double)((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 40) / 16777216.0;
}

static sample move(const person *who)
{
    const int movement = (int)(uniform() * MOVEMENTS);
    const double tempo = 0.4 + 0.4 * uniform(), begin = 6.28 * uniform();
    sample s = { .length = 12 + (int)(uniform() * (LONGEST - 12)), .command = who->commands[movement],
                 .tempo = (mtl_real)tempo };
    for (int t = 0; t < s.length; t++) {
        const double angle = begin + tempo * t, x = movement == NOD ? 0 : cos(angle);
        const double y = movement == SHAKE ? 0 : movement == BACK_CIRCLE ? -sin(angle) : sin(angle);
        const double turned[AXES] = { x * cos(who->turned) - y * sin(who->turned),
                                      x * sin(who->turned) + y * cos(who->turned), 1 };     /* and gravity */
        for (int i = 0; i < AXES; i++)
            s.rows[t * AXES + i] = (mtl_real)(who->strength * turned[i] + 0.3 * (uniform() - 0.5));
    }
    return s;
}

/* ---- the maker's side: a model of many people, written into memory ------------------------------------- */

typedef struct bytes { unsigned char *data; size_t count; } bytes;

static int append(void *user, const void *from, size_t count)
{
    bytes *to = user;
    unsigned char *larger = realloc(to->data, to->count + count);
    if (!larger) return 1;
    memcpy(larger + to->count, from, count);
    to->data = larger, to->count += count;
    return 0;
}

static bytes make_model(mtl_error *err)
{
    static const mtl_input_desc inputs[] = { { .name = "motion", .features = AXES } };
    static const mtl_task_desc tasks[TASKS] = { { .name = "command", .classes = MOVEMENTS },
                                                { .name = "tempo", .kind = MTL_TASK_REAL } };
    const mtl_model_desc desc = { .inputs = inputs, .input_count = 1, .tasks = tasks, .task_count = TASKS,
                                  .encoder = { .cell = MTL_CELL_GRU, .hidden = 32 } };
    const mtl_trainer_desc how = { .lr = 1e-2f, .clip_norm = 1, .schedule = MTL_SCHEDULE_COSINE };
    const mtl_fit_desc fit = { .epochs = 30, .batch = 20 };
    static mtl_real rows[PEOPLE * LONGEST * AXES], tempos[PEOPLE];
    static int lengths[PEOPLE], commands[PEOPLE];
    const mtl_input input = { .rows = rows };
    const mtl_target targets[TASKS] = { { .labels = commands }, { .values = tempos } };
    const mtl_batch data = { .sequences = PEOPLE, .lengths = lengths, .inputs = &input, .targets = targets };
    bytes file = {0};
    const mtl_writer writer = { .user = &file, .write = append };
    for (int i = 0, row = 0; i < PEOPLE; row += lengths[i++]) {
        const person one = { 0.6 * (uniform() - 0.5), 0.7 + 0.6 * uniform(), { 0, 1, 2, 3 } };
        const sample s = move(&one);
        memcpy(rows + row * AXES, s.rows, (size_t)s.length * AXES * sizeof *rows);
        lengths[i] = s.length, commands[i] = s.command, tempos[i] = s.tempo;
    }
    mtl_model *model = mtl_model_create(&desc, err);
    mtl_trainer *trainer = mtl_trainer_create(model, &how, err);
    mtl_fit(trainer, &data, 1, NULL, 0, &fit, NULL, err);
    mtl_model_write(model, NULL, &writer, err);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    return file;
}

/* ---- the device ---------------------------------------------------------------------------------------- */

typedef struct device {
    mtl_arena arena;
    size_t model_bytes, trainer_bytes, predictor_bytes;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_predictor *predictor;
} device;

static unsigned char memory[ARENA + 63];    /* 63: pushes begin at a multiple of 64 */

/* A file is read on a heap, which is given back at once; the model goes into the arena. Within max_rows the
   trainer and the predictor take nothing more than what they say here. */
static void start(device *d, const bytes *file, mtl_error *err)
{
    const mtl_trainer_desc learns = { .lr = 2e-2f, .clip_norm = 1, .max_rows = LONGEST, .max_sequences = 1 };
    const mtl_predictor_desc answers = { .max_rows = LONGEST, .max_sequences = 1 };
    mtl_model *read = mtl_model_load_memory(file->data, file->count, err);
    if (!read) return;
    mtl_arena_init(&d->arena, memory, sizeof memory, NULL);
    d->model_bytes = mtl_model_size(mtl_model_describe(read), err);
    d->model = mtl_model_init(mtl_arena_push(&d->arena, d->model_bytes), d->model_bytes,
                              mtl_model_describe(read), err);
    mtl_model_transfer(d->model, read, NULL, err);
    mtl_model_destroy(read);
    mtl_model_freeze(d->model, "", 1);
    mtl_model_freeze(d->model, "command.", 0);
    d->trainer_bytes = mtl_trainer_size(d->model, &learns, err);
    d->trainer = mtl_trainer_init(mtl_arena_push(&d->arena, d->trainer_bytes), d->trainer_bytes, d->model,
                                  &learns, err);
    d->predictor_bytes = mtl_predictor_size(d->model, &answers, err);
    d->predictor = mtl_predictor_init(mtl_arena_push(&d->arena, d->predictor_bytes), d->predictor_bytes,
                                      d->model, &answers, err);
}

static int understands(device *d, const sample *s, mtl_real *tempo, mtl_error *err)
{
    const mtl_input input = { .rows = s->rows };
    const mtl_batch batch = { .sequences = 1, .lengths = &s->length, .inputs = &input };
    mtl_prediction out[TASKS];
    if (mtl_predict(d->predictor, &batch, out, err)) return 0;
    if (tempo) *tempo = out[TEMPO].values[0];
    return out[COMMAND].labels[0] == s->command;
}

/* The user has said which command was meant; of the tempo nobody says anything: it has no target. */
static void learn(device *d, const sample *s, mtl_error *err)
{
    const mtl_input input = { .rows = s->rows };
    const mtl_target targets[TASKS] = { { .labels = &s->command } };
    const mtl_batch batch = { .sequences = 1, .lengths = &s->length, .inputs = &input, .targets = targets };
    mtl_train_step(d->trainer, &batch, 1, NULL, err);
}

static int count_understood(device *d, const sample *samples, mtl_real *tempos, mtl_error *err)
{
    int right = 0;
    for (int i = 0; i < TEST; i++) right += understands(d, &samples[i], &tempos[i], err);
    return right;
}

int main(void)
{
    static const person other = { 0, 1, { 0, 1, 2, 3 } }, user = { 0.5, 0.6, { 1, 2, 0, 3 } };
    static sample others[TEST], tests[TEST];
    static mtl_real before[TEST], after[TEST];
    device d = {0};
    mtl_error err = {0};
    const bytes file = make_model(&err);
    int heard = 0;
    start(&d, &file, &err);
    for (int i = 0; i < TEST; i++) others[i] = move(&other), tests[i] = move(&user);
    printf("model %zu, trainer %zu, predictor %zu: %zu of %d bytes (its file: %zu)\n\n", d.model_bytes,
           d.trainer_bytes, d.predictor_bytes, d.arena.used, ARENA, file.count);
    printf("commands understood, of %d: ", TEST);
    printf("other people's %d, ", count_understood(&d, others, after, &err));
    printf("the user's %d\n", count_understood(&d, tests, before, &err));
    for (int i = 1; i <= OWN && !err.code; i++) {
        const sample s = move(&user);
        heard += understands(&d, &s, NULL, &err);
        learn(&d, &s, &err);
        if (i % 20) continue;
        printf("    samples %2d to %2d: %2d of 20 understood when they came\n", i - 19, i, heard);
        heard = 0;
    }
    printf("afterwards:                 other people's %d, ", count_understood(&d, others, after, &err));
    printf("the user's %d\n", count_understood(&d, tests, after, &err));
    printf("the user's tempos that have changed in any bit: %s\n",
           memcmp(before, after, sizeof before) ? "SOME" : "none");
    if (err.code) fprintf(stderr, "personalise: %s\n", err.message);
    free(file.data);
    return err.code != MTL_OK;
}
