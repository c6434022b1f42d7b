/* The header's shortest test, in the part of the language that C99 and C++11 share: train, save, load,
   predict the same. Compiled by every compiler of `make matrix`. Status 0: all is well. */
#define MTL_RNN_IMPLEMENTATION
#include "mtl_rnn.h"
#include <stdio.h>
#include <string.h>

enum { SEQUENCES = 4, ROWS = 12, STEPS = 30 };

/* A file in memory, to write and to read. */
typedef struct memory_file { size_t used, at; unsigned char bytes[65536]; } memory_file;

static int memory_write(void *user, const void *bytes, size_t count)
{
    memory_file *file = (memory_file *)user;
    if (count > sizeof file->bytes - file->used) return 1;
    memcpy(file->bytes + file->used, bytes, count);
    file->used += count;
    return 0;
}

static size_t memory_read(void *user, void *bytes, size_t count)
{
    memory_file *file = (memory_file *)user;
    if (count > file->used - file->at) count = file->used - file->at;
    memcpy(bytes, file->bytes + file->at, count);
    file->at += count;
    return count;
}

/* Tells the last id of a sequence, whether a step's id is odd, and the sequence's mean id. */
static mtl_model *make_model(mtl_error *err)
{
    static const char *const names[] = { "even", "odd" };
    mtl_input_desc input;
    mtl_task_desc tasks[3];
    mtl_model_desc desc;

    memset(&input, 0, sizeof input);
    input.name = "ids";
    input.vocabulary = 6;
    input.width = 5;
    memset(tasks, 0, sizeof tasks);
    tasks[0].name = "last";
    tasks[0].classes = 6;
    tasks[1].name = "odd";
    tasks[1].level = MTL_LEVEL_STEP;
    tasks[1].classes = 2;
    tasks[1].labels = names;
    tasks[2].name = "mean";
    tasks[2].kind = MTL_TASK_REAL;
    tasks[2].pool = MTL_POOL_MEAN;
    memset(&desc, 0, sizeof desc);
    desc.inputs = &input;
    desc.input_count = 1;
    desc.tasks = tasks;
    desc.task_count = 3;
    desc.encoder.cell = MTL_CELL_GRU;
    desc.encoder.hidden = 17;
    desc.encoder.bidirectional = 1;
    return mtl_model_create(&desc, err);
}

/* Trains on one batch; returns the last loss as a share of the first. */
static double train(mtl_model *model, const mtl_batch *batch, mtl_error *err)
{
    mtl_trainer_desc desc;
    mtl_trainer *trainer;
    mtl_step step;
    double first = 1, last = 1;
    int i;

    memset(&desc, 0, sizeof desc);
    memset(&step, 0, sizeof step);
    desc.lr = 0.02f;
    trainer = mtl_trainer_create(model, &desc, err);
    for (i = 0; i < STEPS && mtl_train_step(trainer, batch, 1, &step, err) == MTL_OK; i++) {
        if (i == 0) first = step.loss;
        last = step.loss;
    }
    mtl_trainer_destroy(trainer);
    return last / first;
}

/* Values of all tasks, end to end, into out[]; returns how many. */
static size_t predict(const mtl_model *model, const mtl_batch *batch, mtl_real *out, mtl_error *err)
{
    mtl_predictor *predictor = mtl_predictor_create(model, NULL, err);
    mtl_prediction predictions[3];
    size_t count = 0, k, n;

    if (mtl_predict(predictor, batch, predictions, err) == MTL_OK)
        for (k = 0; k < 3; k++) {
            n = predictions[k].items * predictions[k].width;
            memcpy(out + count, k < 2 ? predictions[k].probabilities : predictions[k].values,
                   n * sizeof *out);
            count += n;
        }
    mtl_predictor_destroy(predictor);
    return count;
}

static int check(int fine, const char *what, const mtl_error *err)
{
    if (!fine || err->code) fprintf(stderr, "smoke: %s failed. %s\n", what, err->message);
    return !fine || err->code;
}

int main(void)
{
    const int lengths[SEQUENCES] = { 3, 1, 6, 2 }, ids[ROWS] = { 0, 1, 2, 5, 3, 3, 4, 0, 1, 4, 2, 0 };
    const int last[SEQUENCES] = { 2, 5, 4, MTL_MISSING };
    const mtl_real mean[SEQUENCES] = { 1, 5, (mtl_real)2.5, 1 };
    enum { VALUES = SEQUENCES * 6 + ROWS * 2 + SEQUENCES };
    static memory_file file;
    mtl_real before[VALUES], after[VALUES];
    int odd[ROWS], i, wrong = 0;
    mtl_input input;
    mtl_target targets[3];
    mtl_batch batch;
    mtl_writer writer;
    mtl_reader reader;
    mtl_error err;
    mtl_status status;
    mtl_model *model, *loaded;

    mtl_error_clear(&err);
    for (i = 0; i < ROWS; i++) odd[i] = ids[i] % 2;
    memset(&input, 0, sizeof input);
    input.ids = ids;
    memset(targets, 0, sizeof targets);
    targets[0].labels = last;
    targets[1].labels = odd;
    targets[2].values = mean;
    memset(&batch, 0, sizeof batch);
    batch.sequences = SEQUENCES;
    batch.lengths = lengths;
    batch.inputs = &input;
    batch.targets = targets;
    writer.user = reader.user = &file;
    writer.write = memory_write;
    reader.read = memory_read;

    model = make_model(&err);
    wrong |= check(train(model, &batch, &err) < 0.5, "training", &err);
    wrong |= check(predict(model, &batch, before, &err) == VALUES, "predicting", &err);
    status = mtl_model_write(model, NULL, &writer, &err);
    wrong |= check(status == MTL_OK, "writing", &err);
    loaded = mtl_model_read(&reader, &err);
    wrong |= check(loaded && strcmp(mtl_model_label(loaded, 1, 1), "odd") == 0, "reading", &err);
    wrong |= check(predict(loaded, &batch, after, &err) == VALUES &&
                   memcmp(before, after, sizeof before) == 0, "predicting the same after reading", &err);
    mtl_model_destroy(loaded);
    mtl_model_destroy(model);
    return wrong;
}
