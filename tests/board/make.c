/* tests/board/make.c    on the host: makes models, exports them, and writes what the board must answer

   make FOLDER CELL numbers|words    net.h, net.c (the model as constants), weights.h (its parameters by name), net.safetensors and expected.h,
       from a model with random weights */
#define MTL_RNN_IMPLEMENTATION
#include "mtl_rnn.h"
#include "run.h"
#include "desc.h"

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

static mtl_model *make(int cell, int words, mtl_error *err)
{
    const mtl_model_desc desc = describe(cell, words);
    mtl_model *model = mtl_model_create(&desc, err);
    if (model) set_scales(model, words, err);
    return model;
}

/* weights.h: every parameter with its name, for the program that has no file to read them from. */
static void write_weights(const char *folder, mtl_model *model)
{
    const mtl_parameters *set = mtl_model_parameters(model);
    FILE *file = create(folder, "weights.h");
    for (size_t i = 0; i < set->count; i++) {
        fprintf(file, "static const float weights_%zu[] = {", i);
        for (size_t j = 0; j < set->tensors[i]->count; j++)
            fprintf(file, "%s%.9ef,", j % 8 ? " " : "\n    ", (double)set->tensors[i]->value[j]);
        fprintf(file, "\n};\n");
    }
    fprintf(file, "static const struct { const char *name; const float *values; } weights[] = {\n");
    for (size_t i = 0; i < set->count; i++)
        fprintf(file, "    { \"%s\", weights_%zu },\n", set->tensors[i]->name, i);
    fprintf(file, "};\n");
    fclose(file);
}

int main(int count, char **arguments)
{
    mtl_error err = { 0 };
    if (count != 4) return fprintf(stderr, "make FOLDER rnn|gru|lstm numbers|words\n"), 2;
    const int words = !strcmp(arguments[3], "words");
    const int cell = !strcmp(arguments[2], "rnn") ? MTL_CELL_RNN : !strcmp(arguments[2], "gru") ? MTL_CELL_GRU : MTL_CELL_LSTM;
    mtl_model *model = make(cell, words, &err);
    const mtl_predictor_desc how = { .isa = MTL_ISA_SCALAR };
    const size_t bytes = mtl_stream_size(model, &how, &err);
    mtl_stream *stream = mtl_stream_init(aligned_alloc(64, (bytes + 63) / 64 * 64), bytes, model, &how, &err);
    FILE *header = create(arguments[1], "net.h"), *source = create(arguments[1], "net.c");
    const mtl_writer to_header = { header, write_file }, to_source = { source, write_file };
    mtl_model_export_c(model, "net", 0, &to_header, &to_source, &err);
    fclose(header), fclose(source);
    write_weights(arguments[1], model);
    char path[400];
    snprintf(path, sizeof path, "%s/net.safetensors", arguments[1]);
    mtl_model_save(model, path, &err);
    FILE *expected = create(arguments[1], "expected.h");
    fprintf(expected, "enum { CELL = %d, READS_WORDS = %d };\n", cell, words);
    fprintf(expected, "static const float expected[STEPS][OUTPUTS] = {\n");
    for (int step = 0; step < STEPS && !err.code; step++) {
        mtl_real x[INPUTS], answers[OUTPUTS];
        fill_inputs(step, x);
        const mtl_prediction *out = mtl_stream_step(stream, 0, &(mtl_input){ .ids = &(int){ word_of(step) }, .rows = x }, &err);
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
