#include "teach.h"

#include <math.h>

#include "batches.h"
#include "inputs.h"
#include "models.h"
#include "scales.h"
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

static lesson *find_lesson(lesson *lessons, size_t set, size_t task)
{
    size_t i;
    for (i = 0; i < arrlenu(lessons); i++)
        if (lessons[i].set == set && lessons[i].task == task) return &lessons[i];
    return NULL;
}

/* Makes a further teacher's answers part of the mean. */
static void join_lesson(lesson *of, const settings *given, const mtl_model *teacher, size_t taught,
                        const mtl_batch *batch)
{
    lesson more = { 0 };
    size_t n;
    ask(&more, given, teacher, taught, batch);
    of->teachers++;
    for (n = 0; n < of->items * of->width; n++)
        of->answers[n] += (more.answers[n] - of->answers[n]) / (mtl_real)of->teachers;
    arrfree(more.answers);
}

void add_lessons(lesson **lessons, const settings *given, const mtl_model *teacher, size_t taught,
                 mtl_batch *batches, size_t task)
{
    size_t i;
    if (mtl_task_kind_of(&mtl_model_describe(teacher)->tasks[taught])->whole) return;
    for (i = 0; i < arrlenu(batches); i++) {
        mtl_target *target = (mtl_target *)(uintptr_t)&batches[i].targets[task];
        lesson *known = find_lesson(*lessons, i, task), one = { 0 };
        if (known) join_lesson(known, given, teacher, taught, &batches[i]);
        if (known || (!target->labels && !target->values)) continue;
        one.set = i;
        one.task = task;
        one.teachers = 1;
        one.labels = target->labels;
        one.values = target->values;
        ask(&one, given, teacher, taught, &batches[i]);
        arrsetlen(one.target, one.items * one.width);
        if (one.labels) target->labels = NULL, target->distribution = one.target;
        else target->values = one.target;
        arrput(*lessons, one);
    }
}

/* Adds what one teacher knows of the model's tasks. */
static void add_file(lesson **lessons, const settings *given, const corpus *all, const char *path,
                     const mtl_model *model, mtl_batch *batches)
{
    const mtl_model_desc *ours = mtl_model_describe(model), *theirs;
    mtl_error err = { 0 };
    mtl_model *teacher = load_model(path);
    size_t k, taught = 0;
    char *difference;
    theirs = mtl_model_describe(teacher);
    if ((difference = input_difference(theirs, ours, 0)) != NULL)
        fail("--teacher %s: %s; train it on the same files, with the same options about what is read", path,
             difference);
    set_means(all, teacher, 0, &err);       /* its answers are centred, as what the model learns */
    check(&err);
    for (k = 0; k < theirs->task_count; k++) {
        const int index = mtl_model_task(model, theirs->tasks[k].name);
        const mtl_task_desc *task = index < 0 ? NULL : &ours->tasks[index];
        if (!task) continue;
        if (theirs->tasks[k].classes != task->classes || theirs->tasks[k].kind != task->kind ||
            theirs->tasks[k].level != task->level ||
            !same_texts(theirs->tasks[k].labels, task->labels, (size_t)task->classes))
            fail("--teacher %s: its task %s has other classes than the training data: train it on the same "
                 "files", path, task->name);
        if (mtl_task_kind_of(task)->whole)
            fail("--teacher %s: its task %s has the head %s, which learns from labels alone; leave out "
                 "--head %s=%s", path, task->name, mtl_task_kind_of(task)->kind.name, task->name,
                 mtl_task_kind_of(task)->kind.name);
        add_lessons(lessons, given, teacher, k, batches, (size_t)index);
        taught++;
    }
    if (!taught) fail("--teacher %s: knows none of the tasks", path);
    mtl_model_destroy(teacher);
}

lesson *read_lessons(const settings *given, const corpus *all, const mtl_model *model, mtl_batch *batches)
{
    lesson *lessons = NULL;
    size_t i;
    for (i = 0; i < arrlenu(given->teachers); i++)
        add_file(&lessons, given, all, given->teachers[i], model, batches);
    return lessons;
}

/* What a teacher makes of an item's label: cross-entropy, or the squared error; 0 without a label. */
static double teacher_loss(const lesson *of, size_t n)
{
    const mtl_real *answer = of->answers + n * of->width;
    double loss = 0;
    size_t j;
    if (of->labels) return of->labels[n] < 0 ? 0 : -log(fmax(1e-9, (double)answer[of->labels[n]]));
    for (j = 0; j < of->width && !isnan(of->values[n * of->width + j]); j++)
        loss += pow((double)(of->values[n * of->width + j] - answer[j]), 2);
    return loss;
}

typedef struct hardness { double loss; size_t sequence; } hardness;

static int by_loss(const void *a, const void *b)
{
    const hardness *x = (const hardness *)a, *y = (const hardness *)b;
    return x->loss != y->loss ? (x->loss > y->loss) - (x->loss < y->loss)
                              : (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

/* Adds a lesson's losses to those of its data set's sequences. */
static void add_losses(const lesson *of, const mtl_batch *batch, hardness *to)
{
    const int at_steps = of->items > batch->sequences;
    size_t s, n = 0, count, i;
    for (s = 0; s < batch->sequences; s++) {
        count = at_steps ? (size_t)batch->lengths[s] : 1;
        to[s].sequence = s;
        for (i = 0; i < count; i++) to[s].loss += teacher_loss(of, n++) / (double)count;
    }
}

int **rank_sequences(const lesson *lessons, const mtl_batch *batches)
{
    int **ranks = NULL;
    hardness *of = NULL;
    size_t i, k, s;
    for (i = 0; i < arrlenu(batches); i++) {
        int *rank = NULL;
        arrsetlen(of, batches[i].sequences);
        memset(of, 0, batches[i].sequences * sizeof *of);
        for (k = 0; k < arrlenu(lessons); k++)
            if (lessons[k].set == i) add_losses(&lessons[k], &batches[i], of);
        qsort(of, arrlenu(of), sizeof *of, by_loss);
        arrsetlen(rank, arrlenu(of));
        for (s = 0; s < arrlenu(of); s++) rank[of[s].sequence] = (int)s;
        arrput(ranks, rank);
    }
    arrfree(of);
    return ranks;
}

double label_share(size_t done, size_t epochs) { return 0.5 * (double)done / (double)epochs; }

/* One item. Without a label it has no target: what a teacher with few labels says of the others misleads. */
static void mix_item(const lesson *of, size_t n, mtl_real share)
{
    const size_t first = n * of->width;
    const int known = of->labels ? of->labels[n] >= 0 : !isnan(of->values[first]);
    size_t j;
    for (j = 0; j < of->width; j++) {
        const mtl_real label = !known ? (mtl_real)NAN : of->labels ? (mtl_real)(of->labels[n] == (int)j)
                                                                   : of->values[first + j];
        of->target[first + j] = share * label + (1 - share) * of->answers[first + j];
    }
}

void mix_lessons(const lesson *lessons, double share)
{
    size_t i, n;
    for (i = 0; i < arrlenu(lessons); i++)
        for (n = 0; n < lessons[i].items; n++) mix_item(&lessons[i], n, (mtl_real)share);
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
