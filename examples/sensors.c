/* Rows of numbers in, two answers out at every step: a machine's state (a class) and the hours until it fails
   (a number). The machine stands idle at times, when its sensors tell nothing, so the answer must be
   remembered: that is what the GRU is for. The state is labelled at every step, the hours at one step in
   four. At the end the model watches a machine live, one row at a time, with its hidden state carried from
   call to call. Run: make && build/sensors */
#include "mtl_rnn.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { STATE, HOURS, TASKS };
enum { RUNNING, WORN, FAILING, STATES };
enum { VIBRATION, TEMPERATURE, CURRENT, FEATURES };
enum { TRAIN = 200, VALID = 50, LONGEST = 140, FORESEEN = 60 };     /* machines; hours of a life; all beyond
                                                                       60 h is 60 h */

static const char *const states[STATES] = { "running", "worn", "failing" };

/* Machines' lives, end to end. */
typedef struct machines {
    int count, rows;
    int *lengths, *state;
    mtl_real *features, *hours;             /* [rows][FEATURES]; [rows], NaN where nobody knows */
    mtl_real *truth;                        /* [rows] the hours, all of them */
} machines;

/* ---- the vibrating machine ----------------------------------------------------------------------------- */

static unsigned long long seed = 1;
static double uniform(void)
{
    return (double)((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 40) / 16777216.0;
}
static double noise(double size) { return size * (uniform() + uniform() + uniform() + uniform() - 2) * 1.73; }

/* Wear grows with the third power of age: it shakes, then heats. An idle machine is still and cools down. */
static void live(machines *m)
{
    int life = 60 + (int)(uniform() * (LONGEST - 60)), idle = 0, t;
    double temperature = 20, load = uniform();
    for (t = 0; t < life; t++) {
        double age = (double)t / life, wear = age * age * age;
        int left = life - t, row = m->rows++;
        if (idle > 0) idle--;
        else if (uniform() < 0.06) idle = 3 + (int)(uniform() * 8);
        load = idle ? 0 : 0.9 * load + 0.1 * uniform() + 0.03;
        temperature += 0.3 * (20 + 30 * load + 40 * wear * (idle == 0) - temperature);
        m->features[row * FEATURES + VIBRATION] = (mtl_real)(idle
                                                             ? noise(0.1) : 1 + load + 5 * wear + noise(0.7));
        m->features[row * FEATURES + TEMPERATURE] = (mtl_real)(temperature + noise(1));
        m->features[row * FEATURES + CURRENT] = (mtl_real)(idle ? 0 : 200 + 800 * load + noise(40));
        m->state[row] = left <= 15 ? FAILING : left <= FORESEEN ? WORN : RUNNING;
        m->truth[row] = (mtl_real)(left < FORESEEN ? left : FORESEEN);
        m->hours[row] = t % 4 ? (mtl_real)NAN : m->truth[row];
    }
    m->lengths[m->count++] = life;
}

static machines make(int count)
{
    machines m = { 0 };
    size_t rows = (size_t)count * LONGEST;
    m.lengths = malloc((size_t)count * sizeof *m.lengths);
    m.state = malloc(rows * sizeof *m.state);
    m.features = malloc(rows * FEATURES * sizeof *m.features);
    m.hours = malloc(rows * sizeof *m.hours);
    m.truth = malloc(rows * sizeof *m.truth);
    if (!m.lengths || !m.state || !m.features || !m.hours || !m.truth) {
        fprintf(stderr, "sensors: out of memory\n");
        exit(1);
    }
    while (m.count < count) live(&m);
    return m;
}

static void scrap(machines *m)
{
    free(m->lengths);
    free(m->state);
    free(m->features);
    free(m->hours);
    free(m->truth);
}

/* ---- scales and baselines ------------------------------------------------------------------------------ */

/* Mean and standard deviation of every stride-th value. */
static void spread(const mtl_real *values, int count, int stride, mtl_real *mean, mtl_real *deviation)
{
    double sum = 0, squares = 0;
    int i;
    for (i = 0; i < count * stride; i += stride) {
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
    }
    *mean = (mtl_real)(sum / count);
    *deviation = (mtl_real)sqrt(squares / count - sum / count * (sum / count));
}

/* Networks learn best from numbers around 0 of size 1; the model keeps the scales and answers in the original
   units. */
static void set_scales(mtl_model *model, const machines *m, mtl_error *err)
{
    mtl_real mean[FEATURES], deviation[FEATURES];
    int f;
    for (f = 0; f < FEATURES; f++) spread(m->features + f, m->rows, FEATURES, &mean[f], &deviation[f]);
    mtl_model_set_feature_scale(model, 0, mean, deviation, err);
    spread(m->truth, m->rows, 1, mean, deviation);
    mtl_model_set_target_scale(model, HOURS, mean, deviation, err);
}

static void show_baselines(const machines *m)
{
    mtl_real mean, deviation;
    int counts[STATES] = { 0 }, best = 0, i;
    for (i = 0; i < m->rows; i++) counts[m->state[i]]++;
    for (i = 1; i < STATES; i++) best = counts[i] > counts[best] ? i : best;
    spread(m->truth, m->rows, 1, &mean, &deviation);
    printf("always '%s', always %.0f h:                   accuracy %.3f                  off by %4.1f h "
           "(rmse)\n", states[best],
           (double)mean, (double)counts[best] / m->rows, (double)deviation);
}

static int show(void *user, const mtl_progress *progress)
{
    const mtl_task_score *scores = progress->epoch_end ? progress->scores->tasks : NULL;
    (void)user;
    if (scores && (progress->epoch == 1 || progress->epoch % 5 == 0))
        printf("epoch %2zu   state: loss %.3f, accuracy %.3f   hours: loss %.3f, off by %4.1f h (rmse)\n",
               progress->epoch, progress->task_loss[STATE], scores[STATE].accuracy,
                   progress->task_loss[HOURS], scores[HOURS].rmse);
    return 0;
}

/* ---- live ---------------------------------------------------------------------------------------------- */

/* The first machine, a row at a time, as it would come from the sensors. */
static void watch(const mtl_model *model, const machines *m, mtl_error *err)
{
    mtl_predictor *predictor = mtl_predictor_create(model, NULL, err);
    mtl_state *state = mtl_state_create(model, 1, err);
    mtl_prediction out[TASKS];
    const int one = 1;
    int t;

    printf("\nhour   vibration  temperature  current   says              in truth\n");
    for (t = 0; t < m->lengths[0] && !err->code; t++) {
        const mtl_real *row = m->features + t * FEATURES;
        const mtl_input input = { .rows = row };
        const mtl_batch batch = { .sequences = 1, .lengths = &one, .inputs = &input, .state = state };
        if (mtl_predict(predictor, &batch, out, err) == MTL_OK && (t % 8 == 0 || t == m->lengths[0] - 1))
            printf("%4d      %6.2f       %6.1f   %6.0f   %-8s %4.0f h   %-8s %4d h\n", t,
                   (double)row[VIBRATION], (double)row[TEMPERATURE], (double)row[CURRENT],
                       states[out[STATE].labels[0]], (double)out[HOURS].values[0],
                   states[m->state[t]], m->lengths[0] - t);
    }
    mtl_state_destroy(state);
    mtl_predictor_destroy(predictor);
}

int main(void)
{
    static const mtl_input_desc inputs[] = { { .name = "sensors", .features = FEATURES } };
    static const mtl_task_desc tasks[TASKS] = {
        { .name = "state", .labels = states, .kind = MTL_TASK_CLASS, .level = MTL_LEVEL_STEP,
            .classes = STATES },
        { .name = "hours", .kind = MTL_TASK_REAL, .level = MTL_LEVEL_STEP, .loss = MTL_LOSS_HUBER },
    };
    const mtl_model_desc desc = { .inputs = inputs, .input_count = 1, .tasks = tasks, .task_count = TASKS,
                                  .encoder = { .cell = MTL_CELL_GRU, .hidden = 32 } };
    const mtl_trainer_desc how = { .lr = 5e-3f, .clip_norm = 1, .schedule = MTL_SCHEDULE_COSINE };
    const mtl_fit_desc fit = { .epochs = 20, .batch = 16, .progress = show };
    machines train = make(TRAIN), valid = make(VALID);
    mtl_input input[2] = { { .rows = train.features }, { .rows = valid.features } };
    mtl_target targets[2][TASKS] = { { { .labels = train.state }, { .values = train.hours } },
                                     { { .labels = valid.state }, { .values = valid.hours } } };
    mtl_batch data[2] = { { .sequences = TRAIN, .lengths = train.lengths, .inputs = &input[0],
        .targets = targets[0] },
                          { .sequences = VALID, .lengths = valid.lengths, .inputs = &input[1],
                              .targets = targets[1] } };
    mtl_error err = {0};
    mtl_model *model = mtl_model_create(&desc, &err);
    mtl_trainer *trainer;

    if (model) set_scales(model, &train, &err);
    trainer = mtl_trainer_create(model, &how, &err);
    show_baselines(&valid);
    mtl_fit(trainer, &data[0], 1, &data[1], 1, &fit, NULL, &err);
    if (!err.code) watch(model, &valid, &err);
    if (err.code) fprintf(stderr, "sensors: %s\n", err.message);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    scrap(&train);
    scrap(&valid);
    return err.code != MTL_OK;
}
