/* How long does a machine have left? Two answers in every cycle of its life: the cycles that remain (a
   number, at most 125, as no sensor tells more while all is well) and whether it fails within 30 (a class).
   Machines run to failure; a row has 12 sensors, some of which show wear and some nothing, and 2 settings,
   which move all of them. One GRU that learns both tasks stands beside one for each task, with the same
   updates, and beside what the age alone tells; five seeds each. Then a machine is watched live, a cycle at a
   time, through mtl_stream: when is the warning? docs/step_by_step.md walks through it.
   Run: make && build/machine_health */
#include "mtl_rnn.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { REMAINING, FAILS, TASKS };
enum { SENSORS = 12, SETTINGS = 2, FEATURES = SENSORS + SETTINGS };
enum { TRAIN = 80, TEST = 40, LONGEST = 320, MOST = 125, SOON = 30, SEEDS = 5, WARN_AFTER = 3 };

/* Machines' lives, end to end. */
typedef struct fleet {
    int machines, rows;
    int lengths[TRAIN], fails[TRAIN * LONGEST];
    mtl_real features[TRAIN * LONGEST * FEATURES], remaining[TRAIN * LONGEST];
} fleet;

static fleet train, test;

/* ---- the machines -------------------------------------------------------------------------------------- */

static unsigned long long seed = 1;
static double uniform(void)
{
    return (double)((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 40) / 16777216.0;
}
static double normal(void) { return 1.73 * (uniform() + uniform() + uniform() + uniform() - 2); }

/* What wear adds to each sensor, in units of its noise: four tell it early, three late, five nothing. */
static const double shows[SENSORS] = { 4, -3, 3, -2, 2, 1.5, -1.5, 0, 0, 0, 0, 0 };

/* Nothing wears until some day, which no sensor tells; from then on wear grows faster and faster, up to 1. */
static void live(fleet *f)
{
    const int life = 130 + (int)(uniform() * (LONGEST - 130));
    const int begin = (int)((0.1 + 0.5 * uniform()) * life);
    const double speed = 2 + 2 * uniform();
    double own[SENSORS];                    /* no two machines are alike */
    for (int i = 0; i < SENSORS; i++) own[i] = 0.5 * normal();
    for (int t = 0; t < life; t++) {
        const double age = t < begin ? 0 : (double)(t - begin) / (life - begin);
        const double wear = (exp(speed * age) - 1) / (exp(speed) - 1);
        const double load = uniform() < 0.5, height = uniform();                        /* the settings */
        mtl_real *row = f->features + f->rows * FEATURES;
        for (int i = 0; i < SENSORS; i++)
            row[i] = (mtl_real)(500 + 20 * i + (1 + i) * (own[i] + shows[i] * wear * (1 + 0.3 * load) +
                                                          4 * load * (i % 3 - 1) + 3 * height + normal()));
        row[SENSORS] = (mtl_real)load, row[SENSORS + 1] = (mtl_real)(40 * height);
        f->remaining[f->rows] = (mtl_real)(life - t < MOST ? life - t : MOST);
        f->fails[f->rows++] = life - t <= SOON;
    }
    f->lengths[f->machines++] = life;
}

/* Mean and standard deviation of every stride-th value. */
static void spread(const mtl_real *values, int count, int stride, mtl_real *mean, mtl_real *deviation)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < count * stride; i += stride) {
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
    }
    *mean = (mtl_real)(sum / count);
    *deviation = (mtl_real)sqrt(fmax(0, squares / count - sum / count * (sum / count)));
}

/* ---- scores -------------------------------------------------------------------------------------------- */

typedef struct score { double rmse, accuracy, f1; } score;

/* rmse: in cycles. counts: [truth][answer] of "fails within 30 cycles". */
static score score_of(double rmse, const size_t counts[4])
{
    const double hits = (double)counts[3], false_alarms = (double)counts[1], misses = (double)counts[2];
    const double all = hits + false_alarms + misses + (double)counts[0];
    const score s = { rmse, all > 0 ? 1 - (false_alarms + misses) / all : 0,
                      hits > 0 ? 2 * hits / (2 * hits + false_alarms + misses) : 0 };
    return s;
}

/* Without a network: always the same number of cycles, or the mean life less the age. */
static score baseline(double constant, double mean_life)
{
    size_t counts[4] = { 0 };
    double squares = 0;
    for (int m = 0, row = 0; m < test.machines; m++)
        for (int t = 0; t < test.lengths[m]; t++, row++) {
            const double says = mean_life > 0 ? fmin(MOST, fmax(1, mean_life - t)) : constant;
            counts[2 * test.fails[row] + (says <= SOON)]++;
            squares += pow(says - (double)test.remaining[row], 2);
        }
    return score_of(sqrt(squares / test.rows), counts);
}

static void print(const char *what, const score *scores, int count)
{
    score mean = {0};
    for (int i = 0; i < count; i++) {
        mean.rmse += scores[i].rmse / count;
        mean.accuracy += scores[i].accuracy / count;
        mean.f1 += scores[i].f1 / count;
    }
    printf("%-33s %8.1f %9.1f %7.1f", what, mean.rmse, 100 * mean.accuracy, 100 * mean.f1);
    for (int i = 0; i < count && count > 1; i++)
        printf("%s%.1f/%.0f", i ? " " : "    ", scores[i].rmse, 100 * scores[i].f1);
    printf("\n");
}

/* ---- learning ------------------------------------------------------------------------------------------ */

/* A model of tasks [first, first + count), trained and scored on the machines kept apart. */
static mtl_model *learn(int first, int count, unsigned long long number, score *out, mtl_error *err)
{
    static const char *const says[] = { "runs", "fails" };
    static const mtl_input_desc inputs[] = { { .name = "sensors", .features = FEATURES } };
    static const mtl_task_desc tasks[TASKS] = {
        { .name = "remaining", .kind = MTL_TASK_REAL, .level = MTL_LEVEL_STEP },
        { .name = "fails", .labels = says, .kind = MTL_TASK_CLASS, .level = MTL_LEVEL_STEP, .classes = 2 } };
    const mtl_model_desc desc = { .inputs = inputs, .input_count = 1, .tasks = tasks + first,
                                  .task_count = (size_t)count, .seed = number,
                                  .encoder = { .cell = MTL_CELL_GRU, .hidden = 32 } };
    const mtl_trainer_desc how = { .lr = 5e-3f, .clip_norm = 1, .schedule = MTL_SCHEDULE_COSINE };
    const mtl_fit_desc fit = { .epochs = 30, .batch = 8, .seed = number };
    const mtl_input input[2] = { { .rows = train.features }, { .rows = test.features } };
    const mtl_target targets[2][TASKS] = { { { .values = train.remaining }, { .labels = train.fails } },
                                           { { .values = test.remaining }, { .labels = test.fails } } };
    const mtl_batch data = { .sequences = TRAIN, .lengths = train.lengths, .inputs = &input[0],
                             .targets = targets[0] + first };
    const mtl_batch held = { .sequences = TEST, .lengths = test.lengths, .inputs = &input[1],
                             .targets = targets[1] + first };
    size_t counts[4] = { 0 }, *confusion[TASKS] = { NULL, NULL };
    mtl_task_score of[TASKS];
    mtl_scores scores = { .task_count = (size_t)count, .tasks = of };
    mtl_real mean[FEATURES], deviation[FEATURES];
    mtl_model *model = mtl_model_create(&desc, err);

    /* The model keeps the scales: it takes sensors as they are and answers in cycles. */
    for (int i = 0; i < FEATURES; i++)
        spread(train.features + i, train.rows, FEATURES, &mean[i], &deviation[i]);
    mtl_model_set_feature_scale(model, 0, mean, deviation, err);
    spread(train.remaining, train.rows, 1, mean, deviation);
    if (first == REMAINING) mtl_model_set_target_scale(model, REMAINING, mean, deviation, err);

    mtl_trainer *trainer = mtl_trainer_create(model, &how, err);
    mtl_fit(trainer, &data, 1, NULL, 0, &fit, NULL, err);
    mtl_predictor *predictor = mtl_predictor_create(model, NULL, err);
    if (first + count > FAILS) confusion[FAILS - first] = counts;
    if (!mtl_evaluate(predictor, &held, 1, &scores, confusion, err)) *out = score_of(of[0].rmse, counts);
    mtl_predictor_destroy(predictor);
    mtl_trainer_destroy(trainer);
    return model;
}

/* ---- live ---------------------------------------------------------------------------------------------- */

/* Machine m in the memory of a stream: no batch, no predictor, and nothing is allocated from step to step.
   One "fails" may be noise, so a warning takes three in a row. */
static void watch(const mtl_model *model, int m, mtl_error *err)
{
    const size_t bytes = mtl_stream_size(model, NULL, err);
    mtl_arena arena;
    mtl_arena_init(&arena, NULL, 0, NULL);      /* pushes are aligned to 64, as streams must be */
    mtl_stream *stream = mtl_stream_init(mtl_arena_push(&arena, bytes), bytes, model, NULL, err);
    int first = 0, in_a_row = 0, warned = -1;
    for (int i = 0; i < m; i++) first += test.lengths[i];
    printf("\nA machine that is not known, live, in a stream of %zu bytes:\n"
           "cycle   remaining: says   in truth   fails within %d\n", bytes, SOON);
    for (int t = 0; t < test.lengths[m] && !err->code; t++) {
        const mtl_input now = { .rows = test.features + (first + t) * FEATURES };
        const mtl_prediction *says = mtl_stream_step(stream, 0, &now, err);
        if (!says) break;
        in_a_row = says[FAILS].labels[0] ? in_a_row + 1 : 0;
        if (in_a_row == WARN_AFTER && warned < 0) warned = t;
        if (t == warned || t % 20 == 0)
            printf("%5d %17.0f %10d %13.0f %%%s\n", t, (double)says[REMAINING].values[0], test.lengths[m] - t,
                   100 * (double)says[FAILS].probabilities[1], t == warned ? "   <- the warning" : "");
    }
    if (warned < 0) printf("it failed without a warning\n");
    else printf("warned %d cycles before it failed\n", test.lengths[m] - warned);
    mtl_arena_destroy(&arena);
}

int main(void)
{
    score joint[SEEDS], single[SEEDS], alone;
    mtl_real mean, deviation;
    mtl_error err = {0};
    mtl_model *model = NULL;
    while (train.machines < TRAIN) live(&train);
    while (test.machines < TEST) live(&test);
    for (int i = 0; i < SEEDS && !err.code; i++) {
        mtl_model_destroy(learn(REMAINING, 1, (unsigned long long)i + 1, &single[i], &err));
        mtl_model_destroy(learn(FAILS, 1, (unsigned long long)i + 1, &alone, &err));
        single[i].accuracy = alone.accuracy, single[i].f1 = alone.f1;
        mtl_model_destroy(model);
        model = learn(REMAINING, TASKS, (unsigned long long)i + 1, &joint[i], &err);
    }
    if (!err.code) {
        spread(train.remaining, train.rows, 1, &mean, &deviation);
        alone = baseline((double)mean, 0);
        printf("%d machines to learn from, scores of %d others:\n\n%-33s %8s %9s %7s    each seed\n", TRAIN,
               TEST, "", "rmse", "right, %", "F1, %");
        print("always the mean, never a warning", &alone, 1);
        alone = baseline(0, (double)train.rows / TRAIN);
        print("the mean life less the age", &alone, 1);
        print("a GRU for each task", single, SEEDS);
        print("one GRU for both", joint, SEEDS);
        watch(model, 0, &err);
    }
    if (err.code) fprintf(stderr, "machine_health: %s\n", err.message);
    mtl_model_destroy(model);
    return err.code != MTL_OK;
}
