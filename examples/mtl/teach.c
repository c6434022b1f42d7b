#include "teach.h"

#include <math.h>

#include "batches.h"
#include "system.h"

enum { ASKED = 64 };                        /* sequences that a teacher is asked about at once */

/* Sequences `first` and up to ASKED after it, whose rows begin at `row`. */
static mtl_batch some_sequences(const mtl_batch *batch, const mtl_model_desc *desc, size_t first, size_t row,
                                mtl_input *inputs)
{
    mtl_batch some = one_sequence(batch, desc, first, row, inputs);
    some.sequences = batch->sequences - first < ASKED ? batch->sequences - first : ASKED;
    return some;
}

static size_t count_rows(const mtl_batch *batch)
{
    size_t s, rows = 0;
    for (s = 0; s < batch->sequences; s++) rows += (size_t)batch->lengths[s];
    return rows;
}

/* The teacher's answers to all items of a data set. */
static void ask(lesson *of, const settings *given, const mtl_model *teacher, size_t taught,
                const mtl_batch *batch)
{
    const mtl_model_desc *desc = mtl_model_describe(teacher);
    mtl_error err = { 0 };
    mtl_predictor *predictor = mtl_predictor_create(teacher, &given->predictor, &err);
    mtl_input *inputs = NULL;
    mtl_prediction *out = NULL;
    size_t s, row = 0, count;
    arrsetlen(inputs, desc->input_count);
    arrsetlen(out, desc->task_count);
    for (s = 0; s < batch->sequences; s += ASKED) {
        mtl_batch some = some_sequences(batch, desc, s, row, inputs);
        const mtl_real *answers;
        mtl_predict(predictor, &some, out, &err);
        check(&err);
        answers = out[taught].probabilities ? out[taught].probabilities : out[taught].values;
        of->width = out[taught].width;
        count = out[taught].items * of->width;
        memcpy(arraddnptr(of->answers, count), answers, count * sizeof *answers);
        of->items += out[taught].items;
        row += count_rows(&some);
    }
    mtl_predictor_destroy(predictor);
    arrfree(inputs);
    arrfree(out);
}

/* The lesson whose target this is, or NULL. */
static lesson *find_lesson(lesson *lessons, const mtl_target *target)
{
    lesson *of = lessons, *end = of + arrlenu(lessons);
    for (; of < end; of++)
        if (of->target == target->distribution || of->target == target->values) return of;
    return NULL;
}

/* Several teachers answer with their mean. */
static void add_teacher(lesson *to, const lesson *from)
{
    const mtl_real share = 1 / (mtl_real)++to->teachers;
    size_t i;
    for (i = 0; i < to->items * to->width; i++) to->answers[i] += share * (from->answers[i] - to->answers[i]);
}

void add_lessons(lesson **lessons, const settings *given, const mtl_model *teacher, size_t taught,
                 mtl_batch *batches, size_t task)
{
    size_t i;
    for (i = 0; i < arrlenu(batches); i++) {
        mtl_target *target = (mtl_target *)(uintptr_t)&batches[i].targets[task];
        lesson *known = find_lesson(*lessons, target), one = { 0 };
        if (!target->labels && !target->values && !known) continue;
        one.labels = target->labels;
        one.values = target->values;
        one.teachers = 1;
        ask(&one, given, teacher, taught, &batches[i]);
        if (known) {
            add_teacher(known, &one);
            arrfree(one.answers);
            continue;
        }
        arrsetlen(one.target, one.items * one.width);
        if (one.labels) target->labels = NULL, target->distribution = one.target;
        else target->values = one.target;
        arrput(*lessons, one);
    }
}

void mix_lessons(lesson *lessons, double share)
{
    const mtl_real gold = (mtl_real)share, rest = 1 - gold;
    size_t i, n, j;
    for (i = 0; i < arrlenu(lessons); i++)
        for (n = 0; n < lessons[i].items; n++) {
            const lesson *of = &lessons[i];
            const mtl_real *answer = of->answers + n * of->width;
            mtl_real *to = of->target + n * of->width;
            const int known = of->labels ? of->labels[n] >= 0 : !isnan(of->values[n * of->width]);
            for (j = 0; j < of->width; j++) {
                const mtl_real y = !known ? 0 : of->labels ? (mtl_real)(of->labels[n] == (int)j)
                                                           : of->values[n * of->width + j];
                to[j] = known ? gold * y + rest * answer[j] : answer[j];
            }
        }
}

void free_lessons(lesson *lessons)
{
    size_t i;
    for (i = 0; i < arrlenu(lessons); i++) {
        arrfree(lessons[i].answers);
        arrfree(lessons[i].target);
    }
    arrfree(lessons);
}
