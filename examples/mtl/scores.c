#include "scores.h"

#include <math.h>

#include "batches.h"
#include "numbers.h"
#include "scales.h"

/* Sums over the items of a task of numbers. */
typedef struct errors {
    moments gold;
    double squares, absolutes;
} errors;

static void add_error(errors *sums, double gold, double answer)
{
    double difference = answer - gold;
    add_value(&sums->gold, gold);
    sums->squares += difference * difference;
    sums->absolutes += fabs(difference);
}

static void set_errors(mtl_task_score *to, const errors *sums)
{
    to->rmse = sqrt(sums->squares / sums->gold.count);
    to->mae = sums->absolutes / sums->gold.count;
    to->r2 = sums->gold.spread > 0 ? 1 - sums->squares / sums->gold.spread : 0;
    to->score = to->r2 > 0 ? to->r2 : 0;
}

/* Adds up one task's errors over a data set, its answers clamped. */
static void add_clamped_errors(mtl_predictor *predictor, const mtl_model *model, const task *of, int index,
                               const mtl_batch *batch, errors *sums, mtl_error *err)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    const mtl_real *gold = batch->targets[index].values;
    size_t s, k, j, row = 0, width = of->width;
    mtl_input *inputs = NULL;
    mtl_prediction *answers = NULL;
    arrsetlen(inputs, desc->input_count);
    arrsetlen(answers, desc->task_count);
    for (s = 0; s < batch->sequences && gold; s++) {
        mtl_batch one = one_sequence(batch, desc, s, row, inputs);
        size_t first = kind_is_step(of->kind) ? row : s;
        if (mtl_predict(predictor, &one, answers, err)) break;
        for (k = 0; k < answers[index].items * width; k++)
            if (!isnan(gold[first * width + k])) {
                j = k % width;
                add_error(sums, of->means[j] + gold[first * width + k],
                          answer_value(of, j, answers[index].values[k]));
            }
        row += (size_t)batch->lengths[s];
    }
    arrfree(inputs);
    arrfree(answers);
}

/* Replaces the scores of clamped tasks by those of clamped answers. */
static void rescore_clamped(mtl_predictor *predictor, const mtl_model *model, const corpus *all,
                            const mtl_batch *batches, mtl_scores *scores, mtl_error *err)
{
    size_t i, k, counted = 0;
    double sum = 0;
    for (i = 0; i < arrlenu(all->tasks); i++) {
        errors sums = { 0 };
        if (!all->tasks[i].clamped || !scores->tasks[i].items) continue;
        for (k = 0; k < arrlenu(batches); k++)
            add_clamped_errors(predictor, model, &all->tasks[i], (int)i, &batches[k], &sums, err);
        if (sums.gold.count > 0) set_errors(&scores->tasks[i], &sums);
    }
    for (i = 0; i < arrlenu(all->tasks); i++)
        if (scores->tasks[i].items) sum += scores->tasks[i].score, counted++;
    if (counted) scores->score = sum / (double)counted;
}

mtl_scores evaluate(const settings *given, const corpus *all, mtl_model *model,
                    const mtl_batch *batches, size_t *const *confusion)
{
    mtl_scores scores = { 0 };
    mtl_error err = { 0 };
    mtl_predictor *predictor = mtl_predictor_create(model, &given->predictor, &err);
    scores.task_count = mtl_model_describe(model)->task_count;
    arrsetlen(scores.tasks, scores.task_count);
    mtl_evaluate(predictor, batches, arrlenu(batches), &scores, confusion, &err);
    check(&err);
    rescore_clamped(predictor, model, all, batches, &scores, &err);
    check(&err);
    mtl_predictor_destroy(predictor);
    return scores;
}

enum { MOST_CLASSES = 4096 };               /* a matrix of more would take more memory than all else */

size_t **make_confusions(const corpus *all, size_t tasks)
{
    size_t **list = NULL, i;
    for (i = 0; i < arrlenu(all->tasks); i++) {
        const task *of = &all->tasks[i];
        size_t bytes = label_count(of) * of->classes * sizeof(size_t);
        size_t *counts = NULL;
        if (kind_has_one_class(of->kind) && label_count(of) > MOST_CLASSES)
            note("task %s has more than %d labels: no scores of single classes, no confusion matrix",
                 of->name, (int)MOST_CLASSES);
        else if (kind_has_one_class(of->kind))
            counts = (size_t *)memset(checked_realloc(NULL, bytes), 0, bytes);
        arrput(list, counts);
    }
    for (; i < tasks; i++) arrput(list, NULL);
    return list;
}

void free_confusions(size_t **list)
{
    size_t i;
    for (i = 0; i < arrlenu(list); i++) free(list[i]);
    arrfree(list);
}

class_score score_class(const task *of, const size_t *confusion, size_t label)
{
    class_score score = { 0 };
    size_t i, right = label < of->classes ? confusion[label * of->classes + label] : 0;
    for (i = 0; i < of->classes; i++) score.items += confusion[label * of->classes + i];
    for (i = 0; i < label_count(of) && label < of->classes; i++)
        score.answers += confusion[i * of->classes + label];
    if (score.answers) score.precision = (double)right / (double)score.answers;
    if (score.items) score.recall = (double)right / (double)score.items;
    if (right) score.f1 = 2 * score.precision * score.recall / (score.precision + score.recall);
    return score;
}
