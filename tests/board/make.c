/* tests/board/make.c    on the host: makes models, exports them, and writes what the board must answer

   make FOLDER CELL    net.h, net.c (the model as constants) and expected.h,
       from a model with random weights: CELL of 32
   units over 16 numbers, heads of 6 classes, one number and 3 classes. */
#define MTL_RNN_IMPLEMENTATION
#include "mtl_rnn.h"
#include "run.h"

static int write_file(void *user, const void *bytes, size_t count)
{
    return fwrite(bytes, 1, count, (FILE *)user) != count;
}

static FILE *create(const char *folder, const char *name)
{
    char path[400];
    FILE *file;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "w");
    if (!file) perror(path), exit(1);
    return file;
}

static mtl_model *make(const char *cell, mtl_error *err)
{
    static const mtl_input_desc input = { .name = "samples", .features = INPUTS };
    static const mtl_task_desc tasks[] = {
        { .name = "phase", .level = MTL_LEVEL_STEP, .classes = 6 },
        { .name = "load", .kind = MTL_TASK_REAL, .level = MTL_LEVEL_STEP },
        { .name = "fault", .level = MTL_LEVEL_STEP, .classes = 3 } };
    mtl_model_desc desc = { .inputs = &input, .input_count = 1, .tasks = tasks, .task_count = 3,
                           .encoder.hidden = 32 };
    mtl_real mean[INPUTS], scale[INPUTS];
    desc.encoder.cell = !strcmp(cell, "rnn") ? MTL_CELL_RNN : !strcmp(cell, "gru") ? MTL_CELL_GRU
        : MTL_CELL_LSTM;
    mtl_model *model = mtl_model_create(&desc, err);
    for (int j = 0; j < INPUTS; j++) mean[j] = (mtl_real)0.01 * (mtl_real)j, scale[j] = (mtl_real)(1 + j % 3);
    mtl_model_set_feature_scale(model, 0, mean, scale, err);
    mtl_model_set_target_scale(model, 1, &(mtl_real){ 3 }, &(mtl_real){ 2 }, err);
    return model;
}

int main(int count, char **arguments)
{
    mtl_error err = { 0 };
    if (count != 3) return fprintf(stderr, "make FOLDER rnn|gru|lstm\n"), 2;
    mtl_model *model = make(arguments[2], &err);
    const mtl_predictor_desc how = { .isa = MTL_ISA_SCALAR };
    const size_t bytes = mtl_stream_size(model, &how, &err);
    mtl_stream *stream = mtl_stream_init(aligned_alloc(64, (bytes + 63) / 64 * 64), bytes, model, &how, &err);
    FILE *header = create(arguments[1], "net.h"), *source = create(arguments[1], "net.c");
    const mtl_writer to_header = { header, write_file }, to_source = { source, write_file };
    mtl_model_export_c(model, "net", 0, &to_header, &to_source, &err);
    fclose(header), fclose(source);
    FILE *expected = create(arguments[1], "expected.h");
    fprintf(expected, "static const float expected[STEPS][OUTPUTS] = {\n");
    for (int step = 0; step < STEPS && !err.code; step++) {
        mtl_real x[INPUTS], answers[OUTPUTS];
        fill_inputs(step, x);
        const mtl_prediction *out = mtl_stream_step(stream, 0, &(mtl_input){ .rows = x }, &err);
        if (out) collect(out, answers);
        for (int j = 0; j < OUTPUTS && out; j++) fprintf(expected, "%s%.9ef,", j ? " " : "    {",
                                                         (double)answers[j]);
        fprintf(expected, " },\n");
    }
    fprintf(expected, "};\n");
    fclose(expected);
    if (err.code) fprintf(stderr, "%s\n", err.message);
    return err.code != 0;
}
