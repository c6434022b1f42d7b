/* Learns from sensor_signals.h what sensor.c tells of each sample, and exports the model as C constants,
   which the build links into sensor.c: on a board there is no file to read them from.
   Run: build/sensor_train OUT.h OUT.c */
#include "mtl_rnn.h"
#include "sensor_signals.h"
#include <stdio.h>

enum { PIECES = 240, LONG = 20 * SECOND, VALID = 40 };                  /* pieces of twenty seconds */
static mtl_real rows[PIECES * LONG * FEATURES], speed[PIECES * LONG], load[PIECES * LONG];
static int state[PIECES * LONG], lengths[PIECES];

/* Every piece is another motor, from some moment on. */
static void record(void)
{
    for (int piece = 0, n = 0; piece < PIECES; piece++) {
        motor m = motor_new(1000u + (unsigned)piece);
        for (int t = (int)(uniform(&m) * 20 * SECOND); t > 0; t--) motor_step(&m);
        for (int t = 0; t < LONG; t++, n++) {
            const sample s = motor_step(&m);
            for (int j = 0; j < FEATURES; j++) rows[n * FEATURES + j] = (mtl_real)s.row[j];
            state[n] = s.state, speed[n] = (mtl_real)s.speed, load[n] = (mtl_real)s.load;
        }
        lengths[piece] = LONG;
    }
}

/* Networks learn best from numbers around 0 of size 1; the model keeps the scales and answers in the original
   units. */
static void spread(const mtl_real *values, int stride, mtl_real *mean, mtl_real *deviation)
{
    const int count = (PIECES - VALID) * LONG;
    double sum = 0, squares = 0;
    for (int i = 0; i < count; i++) {
        const double value = (double)values[i * stride];
        sum += value, squares += value * value;
    }
    *mean = (mtl_real)(sum / count);
    *deviation = (mtl_real)sqrt(squares / count - sum / count * (sum / count));
}

static void set_scales(mtl_model *model, mtl_error *err)
{
    mtl_real mean[FEATURES], deviation[FEATURES];
    for (int j = 0; j < FEATURES; j++) spread(rows + j, FEATURES, &mean[j], &deviation[j]);
    mtl_model_set_feature_scale(model, 0, mean, deviation, err);
    spread(speed, 1, mean, deviation);
    mtl_model_set_target_scale(model, SPEED, mean, deviation, err);
    spread(load, 1, mean, deviation);
    mtl_model_set_target_scale(model, LOAD, mean, deviation, err);
}

static int show(void *user, const mtl_progress *progress)
{
    const mtl_task_score *scores = progress->epoch_end ? progress->scores->tasks : NULL;
    (void)user;
    if (scores && progress->epoch % 5 == 0)
        printf("epoch %2zu   state: accuracy %.3f   speed: rmse %.2f turns a second   load: rmse %.1f %%\n",
               progress->epoch, scores[STATE].accuracy, scores[SPEED].rmse, scores[LOAD].rmse);
    return 0;
}

static int write_bytes(void *user, const void *bytes, size_t count)
{
    return fwrite(bytes, 1, count, (FILE *)user) != count;
}

/* NAME.h and NAME.c, of one step of one sequence: the name of the constants is sensor_net. */
static void export_c(const mtl_model *model, const char *header_path, const char *source_path, mtl_error *err)
{
    FILE *header = fopen(header_path, "w"), *source = fopen(source_path, "w");
    const mtl_writer to_header = { header, write_bytes }, to_source = { source, write_bytes };
    if (!header || !source)
        mtl_error_set(err, MTL_ERROR_IO, header ? source_path : header_path, -1, "a file cannot be written");
    else mtl_model_export_c(model, "sensor_net", 0, &to_header, &to_source, err);
    if (header && fclose(header)) mtl_error_set(err, MTL_ERROR_IO, header_path, -1, "it cannot be written");
    if (source && fclose(source)) mtl_error_set(err, MTL_ERROR_IO, source_path, -1, "it cannot be written");
}

int main(int count, char **arguments)
{
    static const mtl_input_desc input = { .name = "sensors", .features = FEATURES };
    static const mtl_task_desc tasks[TASKS] = {
        { .name = "state", .labels = states, .level = MTL_LEVEL_STEP, .classes = STATES },
        { .name = "speed", .kind = MTL_TASK_REAL, .level = MTL_LEVEL_STEP, .loss = MTL_LOSS_HUBER },
        { .name = "load", .kind = MTL_TASK_REAL, .level = MTL_LEVEL_STEP, .loss = MTL_LOSS_HUBER },
    };
    const mtl_model_desc desc = { .inputs = &input, .input_count = 1, .tasks = tasks, .task_count = TASKS,
                                  .encoder = { .cell = MTL_CELL_GRU, .hidden = 32 } };
    const mtl_trainer_desc how = { .lr = 5e-3f, .clip_norm = 1, .schedule = MTL_SCHEDULE_COSINE };
    const mtl_fit_desc fit = { .epochs = 30, .batch = 8, .progress = show };
    const int first = PIECES - VALID;
    const mtl_input inputs[2] = { { .rows = rows }, { .rows = rows + first * LONG * FEATURES } };
    const mtl_target targets[2][TASKS] = {
        { { .labels = state }, { .values = speed }, { .values = load } },
        { { .labels = state + first * LONG }, { .values = speed + first * LONG },
          { .values = load + first * LONG } } };
    const mtl_batch data[2] = {
        { .sequences = PIECES - VALID, .lengths = lengths, .inputs = &inputs[0], .targets = targets[0] },
        { .sequences = VALID, .lengths = lengths, .inputs = &inputs[1], .targets = targets[1] } };
    mtl_error err = { 0 };
    mtl_model *model;
    mtl_trainer *trainer;
    if (count != 3) return fprintf(stderr, "sensor_train OUT.h OUT.c\n"), 2;
    record();
    model = mtl_model_create(&desc, &err);
    if (model) set_scales(model, &err);
    trainer = mtl_trainer_create(model, &how, &err);
    mtl_fit(trainer, &data[0], 1, &data[1], 1, &fit, NULL, &err);
    if (!err.code) export_c(model, arguments[1], arguments[2], &err);
    if (err.code) fprintf(stderr, "sensor_train: %s\n", err.message);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    return err.code != MTL_OK;
}
