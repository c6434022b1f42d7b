#include "fit.h"

#include <math.h>

#include "batches.h"
#include "resume.h"
#include "system.h"
#include "watch.h"

/* Small data sets need many passes, large ones few: updates grow with the root of the number of sequences. */
static const double UPDATES_PER_ROOT = 60, FEWEST_UPDATES = 1000;
/* Of the preset best, whose updates cost more and whose rate is higher: so many, and so many more; below 385
   sentences fewer, since more gained little there (docs/results.md). */
static const double BEST_UPDATES = 2000, BEST_UPDATES_PER_ROOT = 18, BEST_MOST_PER_ROOT = 120;

static double planned_updates(const settings *given, size_t sequences)
{
    const double root = sqrt((double)sequences);
    if (given->best) return fmin(BEST_UPDATES + BEST_UPDATES_PER_ROOT * root, BEST_MOST_PER_ROOT * root);
    return fmax(FEWEST_UPDATES, UPDATES_PER_ROOT * root);
}

void plan_fit(const settings *given, mtl_fit_desc *how, const mtl_batch *train, size_t count)
{
    double updates = 0;
    size_t i, sequences = 0, batches = 0;
    for (i = 0; i < count; i++) {
        sequences += train[i].sequences;
        updates += planned_updates(given, train[i].sequences);
    }
    if (!how->batch) how->batch = sequences < 256 ? 4 : sequences > 2048 ? 32 : (int)(sequences / 64);
    for (i = 0; i < count; i++)
        batches += (train[i].sequences + (size_t)how->batch - 1) / (size_t)how->batch;
    if (!how->epochs) {
        how->epochs = (int)fmax(1, floor(updates / (double)batches + 0.5));
        if (!how->patience) how->patience = how->epochs < 8 ? 4 : how->epochs / 2;
    }
}

double fit_cost(mtl_model *model, const mtl_fit_desc *how, const mtl_batch *train, size_t count)
{
    const mtl_model_desc *d = mtl_model_describe(model);
    const mtl_parameters *set = mtl_model_parameters(model);
    double rows = 0, sequences = 0, at_steps = 0, at_sequences = 0;
    size_t i, k, s;
    for (i = 0; i < count; i++) {
        sequences += (double)train[i].sequences;
        for (s = 0; s < train[i].sequences; s++) rows += train[i].lengths[s];
    }
    for (i = 0; i < set->count; i++) {
        const mtl_tensor *t = set->tensors[i];
        const size_t owner = strcspn(t->name, ".");
        if (t->role == MTL_TENSOR_EMBEDDING) continue;
        for (k = 0; k < d->task_count; k++)
            if (d->tasks[k].level == MTL_LEVEL_SEQUENCE && strlen(d->tasks[k].name) == owner &&
                strncmp(t->name, d->tasks[k].name, owner) == 0) break;
        *(k < d->task_count ? &at_sequences : &at_steps) += (double)t->count;
    }
    return 3 * (at_steps * rows + at_sequences * sequences) * how->epochs;
}

/* In a joint model the rate is so many times as high: of an update each task gets a part. */
static const float JOINT_RATE = 2;

/* 1 for one of the data's tasks of steps; a language model is none of these. */
static int is_of_steps(const mtl_task_desc *task)
{
    return task->level == MTL_LEVEL_STEP && task->kind != MTL_TASK_LM;
}

/* Weights in a joint model of a search: `step_weight` times as much at steps, and 1 in all, so that a
   penalty such as l2 stands to the loss as in the models of single tasks. Weights that move stay. */
static void set_weights(const reporter *to, mtl_model *model, mtl_trainer *trainer)
{
    const mtl_model_desc *d = mtl_model_describe(model);
    mtl_error err = { 0 };
    double *weights = NULL, sum = 0;
    size_t k;
    for (k = 0; k < d->task_count; k++) {
        const mtl_task_desc *task = &d->tasks[k];
        arrput(weights, (double)task->weight * (is_of_steps(task) ? to->step_weight : 1));
        sum += weights[k];
    }
    for (k = 0; k < d->task_count && sum > 0; k++)
        if (d->tasks[k].weight_end < 0)
            mtl_trainer_set_weight(trainer, (int)k, (float)(weights[k] / sum), &err);
    check(&err);
    arrfree(weights);
}

/* What the tasks of a model are. */
static void look_at_tasks(const mtl_model_desc *d, int *steps, int *classes)
{
    size_t k;
    for (k = *steps = *classes = 0; k < d->task_count; k++) {
        *steps |= is_of_steps(&d->tasks[k]);
        *classes |= mtl_task_kind_of(&d->tasks[k])->softmax;
    }
}

/* In a search balance and surgery are for its joint models alone. Without a task of steps a language model's
   loss, summed over a sequence's steps, would drown the losses of sequences that it is to help; without one
   of classes there is nothing that both runs of R-Drop agree in. */
static mtl_trainer *create_trainer(const reporter *to, mtl_model *model, mtl_error *err)
{
    mtl_trainer_desc desc = to->given->trainer;
    int steps, classes;
    look_at_tasks(mtl_model_describe(model), &steps, &classes);
    if (!steps && by_preset(to->given, "trainer.sum_steps")) desc.sum_steps = 0;
    if (!classes && by_preset(to->given, "trainer.rdrop")) desc.rdrop = 0;
    if (to->step_weight > 0 && !to->given->best) desc.lr *= JOINT_RATE;
    else if (to->number) desc.balance = desc.surgery = 0;
    return mtl_trainer_create(model, &desc, err);
}

/* bf16 is a wish: says what it ended as. Returns MTL_PRECISION_*. */
static int report_precision(const settings *given, const mtl_trainer *trainer)
{
    int precision = mtl_trainer_precision(trainer);
    if (given->trainer.precision == MTL_PRECISION_BF16 && precision != MTL_PRECISION_BF16 && !given->quiet)
        note("--precision bf16: this processor, or the --isa chosen, has no AVX512-BF16 products; training "
             "runs in f32");
    return precision;
}

/* What --set fit.curriculum=loss goes by: teachers, which the tasks alone of a search do not have. */
static int **find_ranks(reporter *to, mtl_fit_desc *how, const mtl_batch *train)
{
    if (how->curriculum != MTL_CURRICULUM_LOSS) return NULL;
    if (to->lessons) return rank_sequences(to->lessons, train);
    if (!to->number) fail_usage("--set fit.curriculum=loss: needs --teacher MODEL, which says what is easy");
    how->curriculum = MTL_CURRICULUM_NONE;
    return NULL;
}

/* 1 when a task has spans that --swap may exchange: in a search not every model has one. */
static int knows_spans(const mtl_model_desc *d)
{
    size_t k;
    for (k = 0; k < d->task_count; k++)
        if (d->tasks[k].level == MTL_LEVEL_STEP && d->tasks[k].labels &&
            mtl_labels_are_spans(d->tasks[k].labels, (size_t)d->tasks[k].classes)) return 1;
    return 0;
}

int fit_model(reporter *to, mtl_model *model, const mtl_fit_desc *how, const mtl_batch *train,
              const mtl_batch *valid, mtl_fit_result *result, mtl_error *broken)
{
    mtl_error err = { 0 };
    mtl_fit_desc watched = *how;
    const int joint = to->step_weight > 0;
    mtl_trainer *trainer = create_trainer(to, model, &err);
    size_t k;
    int precision, **ranks;
    check(&err);
    precision = report_precision(to->given, trainer);
    progress_begin(to, model);
    if (!knows_spans(mtl_model_describe(model))) watched.swap = 0;
    watched.progress = on_progress;
    watched.user = to;
    if (!watched.score && mtl_model_task(model, to->given->score ? to->given->score : "") >= 0)
        watched.score = to->given->score;
    watched.sampler_weights = sampler_weights(to->given, train);
    watched.ranks = (const int *const *)(ranks = find_ranks(to, &watched, train));
    if (joint) set_weights(to, model, trainer);
    checkpoints_begin(to, model, trainer, &watched);        /* which sets them as they were */
    mix_lessons(to->lessons, label_share(to->epochs_done, (size_t)how->epochs));
    to->watcher = watch_begin(to->given, model, trainer, to->log, to->run);
    mtl_fit(trainer, train, arrlenu(train), valid, arrlenu(valid), &watched, result, &err);
    if (err.code == MTL_ERROR_STOPPED && interrupted()) mtl_error_clear(&err);
    if (err.code == MTL_ERROR_NUMBER && (result->best_epoch || joint)) *broken = err;
    else check(&err);
    checkpoints_end(to);
    progress_end(to);
    watch_end(to->watcher);
    to->watcher = NULL;
    mtl_trainer_destroy(trainer);
    for (k = 0; k < arrlenu(ranks); k++) arrfree(ranks[k]);
    arrfree(ranks);
    return precision;
}
