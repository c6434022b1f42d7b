#include "thresholds.h"

#include <math.h>

#include "batches.h"

/* What one class was given for one labelled item, and whether the item has it. */
typedef struct given_class { mtl_real p; int has; } given_class;

int has_thresholds(const settings *given, const char *name)
{
    size_t i;
    for (i = 0; i < arrlenu(given->thresholds); i++)
        if (strcmp(given->thresholds[i], name) == 0) return 1;
    return 0;
}

void check_thresholds(const settings *given, const corpus *all)
{
    size_t i;
    for (i = 0; i < arrlenu(given->thresholds); i++) {
        const char *name = given->thresholds[i];
        const task *of = corpus_find(all, name);
        if (!of)
            fail_usage("--thresholds %s: no such task%s", name, suggestion(name, corpus_task_names(all)));
        if (!kind_has_sets(of->kind))
            fail_usage("--thresholds %s: the task is of kind %s; expected %s", name, of->kind->name,
                       kinds_that(kind_has_sets));
        if (!arrlenu(given->valid))
            fail_usage("--thresholds %s: thresholds are chosen on data that was not trained on; give it with "
                       "--valid", name);
    }
}

static int falls(const void *a, const void *b)
{
    const mtl_real x = ((const given_class *)a)->p, y = ((const given_class *)b)->p;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Between the last item that is given the class and the next one, where F1 = 2 right / (given + have) is
   best. */
static mtl_real best_threshold(given_class *items)
{
    const size_t count = arrlenu(items);
    size_t i, have = 0, right = 0;
    double best = 0;
    mtl_real threshold = (mtl_real)0.5;
    qsort(items, count, sizeof *items, falls);
    for (i = 0; i < count; i++) have += (size_t)items[i].has;
    for (i = 0; i < count; i++) {
        const mtl_real next = i + 1 < count ? items[i + 1].p : 0;
        double f1;
        right += (size_t)items[i].has;
        f1 = 2 * (double)right / ((double)(i + 1) + (double)have);
        if (!(next < items[i].p) || !(f1 > best)) continue;
        best = f1;
        threshold = next + (items[i].p - next) / 2;
    }
    return threshold;
}

/* Adds the answers to one data set's labelled items to the lists of the classes. */
static void collect(mtl_predictor *predictor, const mtl_model_desc *desc, int task, const mtl_batch *batch,
                    given_class **lists, mtl_error *err)
{
    const mtl_real *gold = batch->targets[task].values;
    const size_t width = (size_t)desc->tasks[task].classes;
    size_t s, k, c, row = 0;
    mtl_input *inputs = NULL;
    mtl_prediction *out = NULL;
    arrsetlen(inputs, desc->input_count);
    arrsetlen(out, desc->task_count);
    for (s = 0; gold && s < batch->sequences; row += (size_t)batch->lengths[s++]) {
        mtl_batch one = one_sequence(batch, desc, s, row, inputs);
        const mtl_real *of = gold + (desc->tasks[task].level == MTL_LEVEL_STEP ? row : s) * width;
        if (mtl_predict(predictor, &one, out, err)) break;
        for (k = 0; k < out[task].items * width; k++) {
            given_class item = { out[task].probabilities[k], of[k] > 0 };
            c = k % width;
            if (!isnan(of[k - c])) arrput(lists[c], item);
        }
    }
    arrfree(inputs);
    arrfree(out);
}

static void choose(const settings *given, mtl_model *model, int task, const mtl_batch *valid, mtl_error *err)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    const size_t width = (size_t)desc->tasks[task].classes;
    mtl_predictor *predictor = mtl_predictor_create(model, &given->predictor, err);
    given_class **lists = NULL;
    mtl_real *thresholds = NULL;
    size_t i;
    memset(arraddnptr(lists, width), 0, width * sizeof *lists);
    for (i = 0; i < arrlenu(valid) && predictor; i++) collect(predictor, desc, task, &valid[i], lists, err);
    for (i = 0; i < width; i++) {
        arrput(thresholds, best_threshold(lists[i]));
        arrfree(lists[i]);
    }
    mtl_model_set_thresholds(model, task, thresholds, err);
    mtl_predictor_destroy(predictor);
    arrfree(thresholds);
    arrfree(lists);
}

void choose_thresholds(const settings *given, const corpus *all, mtl_model *model, const mtl_batch *valid)
{
    mtl_error err = { 0 };
    size_t i;
    for (i = 0; i < arrlenu(all->tasks); i++) {
        const char *name = all->tasks[i].name;
        const int task = mtl_model_task(model, name);
        if (task >= 0 && has_thresholds(given, name)) choose(given, model, task, valid, &err);
    }
    check(&err);
}
