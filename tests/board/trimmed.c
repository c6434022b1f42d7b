/* tests/board/trimmed.c    a build that lacks parts: does what is left work, and is what was left out refused by name?

   trimmed MODEL.safetensors    the model that make.c wrote, with the answers in expected.h; the status is 0 when all is well.
       Compile with any of MTL_NO_TRAINING, _FILES (then nothing is loaded), _STDIO, _STREAMS, and with kinds left out */
#define MTL_RNN_STATIC
#define MTL_RNN_IMPLEMENTATION
#include "mtl_rnn.h"
#include <stdio.h>
#include <string.h>
#include "run.h"
#include "expected.h"
#include "desc.h"

static int complaints;

static void expect(int good, const char *what)
{
    if (good) return;
    printf("not ok: %s\n", what);
    complaints++;
}

#ifndef MTL_NO_FILES
static int near(const mtl_real *answers, int step)
{
    for (int j = 0; j < OUTPUTS; j++)
        if (!(answers[j] - expected[step][j] < 1e-5f && answers[j] - expected[step][j] > -1e-5f)) return 0;
    return 1;
}

#endif

/* A desc with a kind that the options name must be refused, and say so. */
static void refuse(const char *what, int is_in, const char *option, const mtl_model_desc *desc)
{
    mtl_error err = { 0 };
    mtl_model *model = mtl_model_create(desc, &err);
    expect((model != NULL) == is_in && (is_in || strstr(err.message, option)), what);
    if (is_in == !model) printf("    %s\n", err.message);
    mtl_model_destroy(model);
}

static void refusals(void)
{
    mtl_model_desc desc = describe(MTL_CELL_LSTM, 0);
    mtl_input_desc words = { .name = "words", .vocabulary = 5 };
    mtl_task_desc tasks[3];
    refuse("cells", (MTL_CELLS) >> MTL_CELL_LSTM & 1, "MTL_CELLS", &desc);
    desc = describe(MTL_CELL_GRU, 0);
    memcpy(tasks, desc.tasks, sizeof tasks);
    desc.tasks = tasks;
    tasks[2].kind = MTL_TASK_MULTI;
    refuse("tasks", (MTL_TASKS) >> MTL_TASK_MULTI & 1, "MTL_TASKS", &desc);
    desc = describe(MTL_CELL_GRU, 0);
    desc.encoder.kind = MTL_COLUMN_CONV;
    refuse("columns", (MTL_COLUMNS) >> MTL_COLUMN_CONV & 1, "MTL_COLUMNS", &desc);
    desc = describe(MTL_CELL_GRU, 0);
    desc.inputs = &words;
    refuse("inputs", (MTL_INPUTS) >> MTL_INPUT_EMBEDDING & 1, "MTL_INPUTS", &desc);
    desc = describe(MTL_CELL_GRU, 0);
    memcpy(tasks, desc.tasks, sizeof tasks);
    desc.tasks = tasks;
    tasks[1].tap.from = "encoder+phase";
    tasks[1].tap.kind = MTL_MIX_GATE;
    tasks[2].tap.from = "samples";
    tasks[2].tap.kind = MTL_MIX_SUM;
    if (!((MTL_MIXES) >> MTL_MIX_GATE & 1)) refuse("mixes", 0, "MTL_MIXES", &desc);
}

#ifndef MTL_NO_FILES
static mtl_model *load(const char *path, mtl_error *err)
{
    static unsigned char bytes[1 << 18];
    FILE *file = fopen(path, "rb");
    const size_t count = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    if (file) fclose(file);
#ifdef MTL_NO_STDIO
    mtl_error own = { 0 };
    expect(!mtl_model_load(path, &own) && strstr(own.message, "MTL_NO_STDIO"), "a path is refused");
#endif
    return mtl_model_load_memory(bytes, count, err);
}

static int count_bytes(void *user, const void *bytes, size_t count)
{
    (void)bytes;
    *(size_t *)user += count;
    return 0;
}

static void answers_of(mtl_model *model, mtl_error *err)
{
    size_t written = 0;
    const mtl_writer writer = { &written, count_bytes };
    mtl_predictor *predictor = mtl_predictor_create(model, NULL, err);
    mtl_state *state = mtl_state_create(model, 1, err);
    const int one = 1;
    for (int step = 0; step < STEPS && !err->code; step++) {
        mtl_real x[INPUTS], answers[OUTPUTS];
        const mtl_input input = { .rows = x };
        const mtl_batch batch = { .sequences = 1, .lengths = &one, .inputs = &input, .state = state };
        mtl_prediction out[3];
        fill_inputs(step, x);
        if (mtl_predict(predictor, &batch, out, err)) break;
        collect(out, answers);
        expect(near(answers, step), "mtl_predict answers as the full build does");
    }
    expect(!mtl_model_write(model, NULL, &writer, err) && written > 1000, "a model is written through a callback");
    mtl_state_destroy(state);
    mtl_predictor_destroy(predictor);
}

#ifndef MTL_NO_STREAMS
static void stream_of(mtl_model *model, mtl_error *err)
{
    const size_t bytes = mtl_stream_size(model, NULL, err);
    static MTL_EXPORTED unsigned char buffer[1 << 16];
    mtl_stream *stream = bytes <= sizeof buffer ? mtl_stream_init(buffer, sizeof buffer, model, NULL, err) : NULL;
    for (int step = 0; step < STEPS && stream && !err->code; step++) {
        mtl_real x[INPUTS], answers[OUTPUTS];
        fill_inputs(step, x);
        const mtl_prediction *out = mtl_stream_step(stream, 0, &(mtl_input){ .rows = x }, err);
        if (out) collect(out, answers);
        expect(out && near(answers, step), "a stream answers as the full build does");
    }
    expect(stream != NULL, "a stream is made");
}
#endif
#endif

int main(int count, char **arguments)
{
    mtl_error err = { 0 };
    if (count != 2) return fprintf(stderr, "trimmed MODEL.safetensors\n"), 2;
    refusals();
#ifndef MTL_NO_FILES
    mtl_model *model = load(arguments[1], &err);
    if (model) answers_of(model, &err);
#ifndef MTL_NO_STREAMS
    if (model) stream_of(model, &err);
#endif
    mtl_model_destroy(model);
    if (err.code) printf("not ok: %s\n", err.message);
#endif
    (void)arguments;
    return err.code || complaints;
}
