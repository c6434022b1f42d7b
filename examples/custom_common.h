/* custom_common.h - what custom_column.c, custom_input.c and custom_pool.c do with a kind of their own:
   compare gradients with differences of the loss, train a model that uses it, count what it gets right.
   Differences in float are right to 2 or 3 digits; compiled with -DMTL_REAL=double, to 8. */
#ifndef CUSTOM_COMMON_H
#define CUSTOM_COMMON_H
#include "mtl_rnn.h"
#include <stdio.h>
#include <string.h>

enum { CUSTOM_TENSORS = 16, CUSTOM_NUMBERS = 8192 };        /* at most, of a model that is checked */
typedef struct custom_checked {
    mtl_model *model;
    mtl_trainer *trainer;
    const mtl_batch *batch;
    mtl_error *err;
} custom_checked;

static double custom_loss(void *user)
{
    const custom_checked *c = user;
    mtl_step step = {0};
    mtl_model_prepare(c->model, c->err);                    /* the checker has changed a weight */
    mtl_train_gradients(c->trainer, c->batch, 1, &step, c->err);
    return step.loss;
}

/* All tensors, with copies of their gradients: the next custom_loss makes new ones. Returns how many. */
static size_t custom_arrays(const custom_checked *c, mtl_check_array *arrays)
{
    static mtl_real copies[CUSTOM_NUMBERS];
    const mtl_parameters *set = mtl_model_parameters(c->model);
    size_t i, used = 0;
    for (i = 0; i < set->count; used += set->tensors[i++]->count) {
        const mtl_tensor *t = set->tensors[i];
        const mtl_gradient *g = mtl_gradients_get(mtl_trainer_gradients(c->trainer), t);
        const mtl_check_array array = { t->name, t->value, g && g->state ? copies + used : NULL, t->count };
        if (i == CUSTOM_TENSORS || used + t->count > CUSTOM_NUMBERS) {
            mtl_error_set(c->err, MTL_ERROR_LIMIT, t->name, -1, "custom_common.h: the model is too large");
            break;
        }
        if (array.grad) memcpy(copies + used, g->value, t->count * sizeof *copies);
        arrays[i] = array;
    }
    return i;
}

/* All gradients of a new model. The batch must have every id of an embedding, whose other rows have none. */
static void custom_check(const mtl_model_desc *desc, const mtl_batch *batch, mtl_error *err)
{
    const int is_double = sizeof(mtl_real) == sizeof(double);
    mtl_check_array arrays[CUSTOM_TENSORS];
    mtl_check_result result = {0};
    custom_checked c = { mtl_model_create(desc, err), NULL, batch, err };
    c.trainer = mtl_trainer_create(c.model, NULL, err);
    custom_loss(&c);
    custom_loss(&c);                                        /* what the first pass left may not matter */
    if (!err->code) {
        const size_t count = custom_arrays(&c, arrays);
        mtl_check_gradients(custom_loss, &c, arrays, count, is_double ? 1e-5 : 1e-2, &result, err);
    }
    if (!err->code)
        printf("%zu gradients, error at most %.0e (%s), %zu at a kink\n", result.elements, result.worst_error,
               result.worst_name, result.kinks);
    if (!err->code && !(result.worst_error < (is_double ? 1e-6 : 1e-2)))
        mtl_error_set(err, MTL_ERROR_NUMBER, result.worst_name, -1, "a gradient is wrong");
    mtl_trainer_destroy(c.trainer), mtl_model_destroy(c.model);
}

static inline double custom_dot(const mtl_real *a, const mtl_real *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

static mtl_model *custom_train(const mtl_model_desc *desc, const mtl_batch *data, int epochs, mtl_error *err)
{
    mtl_model *model = mtl_model_create(desc, err);
    mtl_trainer *trainer = mtl_trainer_create(model, &(mtl_trainer_desc){ .lr = 0.02f }, err);
    mtl_fit(trainer, data, 1, NULL, 0, &(mtl_fit_desc){ .epochs = epochs }, NULL, err);
    mtl_trainer_destroy(trainer);
    return model;
}

/* Share of labels of the model's only task that it gives rightly, in percent. */
static double custom_right(const mtl_model *model, const mtl_batch *data, mtl_error *err)
{
    mtl_task_score score = {0};
    mtl_scores scores = { .tasks = &score };
    mtl_predictor *predictor = mtl_predictor_create(model, NULL, err);
    mtl_evaluate(predictor, data, 1, &scores, NULL, err);
    mtl_predictor_destroy(predictor);
    return 100 * score.accuracy;
}

/* Trains a model, and prints how often it is right. */
static inline void custom_show(const char *what, const mtl_model_desc *desc, const mtl_batch *data,
                               int epochs, mtl_error *err)
{
    mtl_model *model = custom_train(desc, data, epochs, err);
    printf("%-10s %5.1f %% right\n", what, custom_right(model, data, err));
    mtl_model_destroy(model);
}

/* Says what went wrong, if anything did; a program's exit status. */
static int custom_status(const mtl_error *err)
{
    if (err->code) fprintf(stderr, "%s\n", err->message);
    return err->code != MTL_OK;
}
#endif
