#include "auto.h"

#include <math.h>

#include "batches.h"
#include "create.h"
#include "graft.h"
#include "resume.h"
#include "scales.h"
#include "system.h"

/* What is tried beside tasks alone; the first row is they. */
typedef struct structure_row {
    const char *name, *what;
    int kind;                               /* MTL_SHARE_* */
    double hidden, own;                     /* units of shared and own columns, as a share of the encoder's */
} structure_row;
static const structure_row structures[] = {
    { "alone",   "an encoder for each task",                       MTL_SHARE_FULL,    1,   0    },
    { "full",    "one wider encoder for all tasks",                MTL_SHARE_FULL,    1.5, 0    },
    { "group",   "one for those that it did not harm",             MTL_SHARE_FULL,    1.5, 0    },
    { "partial", "a shared encoder beside one of each task's own", MTL_SHARE_PARTIAL, 0.5, 0.625 },
};
enum { ALONE, FULL, GROUP, PARTIAL };       /* rows of structures[] */
enum { STRUCTURES = sizeof structures / sizeof *structures, BLOCKS = 20 };

/* How many times what the tasks alone cost all trainings may, in multiply-adds, without --budget: three times
   the time, with what is not counted (embeddings, evaluation). */
static const char BUDGET[] = "2.8";
/* In joint models a task of steps weighs as many times what one of sequences does as a sequence has steps,
   but not more than so many: its loss is a mean over steps, of which most say little. */
static const double MOST_STEP_WEIGHT = 3;
/* A joint score may be lower than a task's alone by this many standard errors of their difference: within the
   noise the smaller and faster structure wins. */
static const double NOISE = 0.5;

/* One model that was trained. */
typedef struct attempt {
    const structure_row *structure;
    int *tasks;                             /* growing */
    mtl_model *model;
    mtl_fit_result result;
    double cost;                            /* multiply-adds */
    double *scores;                         /* [tasks][BLOCKS + 1] on blocks of the validation data, on all */
} attempt;

typedef struct search {
    reporter *to;
    corpus *all;
    const mtl_model_desc *whole;
    mtl_batch *train, *valid;
    attempt *attempts;                      /* growing: the tasks alone come first */
    size_t trainings;                       /* those that left no model included */
    double spent, alone;                    /* multiply-adds of all; of the tasks alone */
    double needed;                          /* by the cheapest attempt that the budget had no room for */
    double seconds;                         /* of training these */
    int stopped;                            /* 1: training is to end now */
} search;

/* The scores of the attempt's tasks on every BLOCKS-th sequence of the validation data from `block` on; on
   all of it where block is BLOCKS. */
static void score_block(const search *s, attempt *of, int block)
{
    mtl_error err = { 0 };
    mtl_predictor *predictor = mtl_predictor_create(of->model, &s->to->given->predictor, &err);
    mtl_scores scores = { 0 };
    mtl_batch *data = NULL;
    size_t i, n;
    for (i = 0; i < arrlenu(s->valid); i++) {
        unsigned char *keep = find_labelled(&s->valid[i], s->whole, of->tasks);
        mtl_batch one;
        for (n = 0; n < arrlenu(keep) && block < BLOCKS; n++) keep[n] &= (int)(n % BLOCKS) == block;
        one = pick_batch(&s->valid[i], s->whole, of->tasks, keep);
        if (one.sequences) arrput(data, one);
        arrfree(keep);
    }
    arrsetlen(scores.tasks, mtl_model_describe(of->model)->task_count);     /* with --lm one more */
    mtl_evaluate(predictor, data, arrlenu(data), &scores, NULL, &err);
    check(&err);
    for (i = 0; i < arrlenu(of->tasks); i++)
        of->scores[i * (BLOCKS + 1) + (size_t)block] = scores.tasks[i].items ? scores.tasks[i].score : NAN;
    arrfree(scores.tasks);
    arrfree(data);
    mtl_predictor_destroy(predictor);
}

/* Steps of a sequence. */
static double mean_length(const mtl_batch *data)
{
    double rows = 0, sequences = 0;
    size_t i, k;
    for (i = 0; i < arrlenu(data); i++) {
        sequences += (double)data[i].sequences;
        for (k = 0; k < data[i].sequences; k++) rows += data[i].lengths[k];
    }
    return rows / sequences;
}

/* Teachers of a joint model are those of its tasks alone. With R-Drop there are none, unless the curriculum
   asks them what is easy: answers have their twins to agree with, and in the mean of two data
   sets teachers gained nothing beside these (docs/results.md). */
static lesson *make_lessons(const search *s, const attempt *of, mtl_batch *train)
{
    const settings *given = s->to->given;
    lesson *lessons = NULL;
    size_t k;
    if (given->trainer.rdrop > 0 && given->fit.curriculum != MTL_CURRICULUM_LOSS) return NULL;
    for (k = 0; k < arrlenu(of->tasks); k++)
        add_lessons(&lessons, given, s->attempts[of->tasks[k]].model, 0, train, k);
    return lessons;
}

static mtl_model *make_model(const settings *given, corpus *all, const attempt *of)
{
    mtl_share_desc share = given->share;
    share.kind = of->structure->kind;
    share.hidden = (int)ceil(fmin(of->structure->hidden, given->widest) * given->encoder.hidden);
    share.own_hidden = (int)ceil(of->structure->own * given->encoder.hidden);
    return create_model(given, all, of->tasks, &share);
}

/* 1 when a rule of --init fits a model of this structure. */
static int fits_structure(const settings *given, corpus *all, const structure_row *structure, int *tasks)
{
    attempt of = { 0 };
    mtl_model *model;
    int fits;
    of.structure = structure;
    of.tasks = tasks;
    model = make_model(given, all, &of);
    fits = mtl_model_describe(model)->init != NULL;
    mtl_model_destroy(model);
    return fits;
}

/* Each rule of --init must fit a model of all tasks; one that fits none is refused as without a search. */
static void check_init(const search *s, int *tasks)
{
    settings one = *s->to->given;
    size_t i, k;
    one.init = NULL;
    for (i = 0; i < arrlenu(s->to->given->init); i++) {
        arrsetlen(one.init, 0);
        arrput(one.init, s->to->given->init[i]);
        one.automatic = 1;
        for (k = FULL; k < STRUCTURES && !fits_structure(&one, s->all, &structures[k], tasks); k++) { }
        one.automatic = 0;
        if (k == STRUCTURES) (void)create_model(&one, s->all, tasks, &one.share);
    }
    arrfree(one.init);
}

/* Words that only other tasks' data have are never trained: their rows begin as zeros, as that of unknown
   words does, which they are in a model of these tasks alone. */
static void forget_unseen_words(mtl_model *model, const mtl_batch *train)
{
    const mtl_model_desc *d = mtl_model_describe(model);
    mtl_error err = { 0 };
    size_t i, k, s, n, rows;
    for (k = 0; k < d->input_count; k++) {
        unsigned char *seen = NULL;
        mtl_tensor *table;
        char name[160];
        if (!d->inputs[k].vocabulary || d->inputs[k].reads ||
            mtl_input_kind_of(&d->inputs[k])->reads_spellings) continue;
        snprintf(name, sizeof name, "%s.weight", d->inputs[k].name);
        table = mtl_model_tensor(model, name);
        arrsetlen(seen, table->shape[0]);
        memset(seen, 0, table->shape[0]);
        for (i = 0; i < arrlenu(train); i++) {
            for (s = rows = 0; s < train[i].sequences; s++) rows += (size_t)train[i].lengths[s];
            for (n = 0; n < rows; n++) seen[train[i].inputs[k].ids[n]] = 1;
        }
        for (n = 0; n < table->shape[0]; n++)
            if (!seen[n]) memset(table->value + n * table->shape[1], 0, table->shape[1] * sizeof(mtl_real));
        arrfree(seen);
    }
    mtl_model_prepare(model, &err);
    check(&err);
}

/* What --budget says: a number, which is a multiple of the cost of the tasks alone, or one with s, m or h
   behind it, a time; *unit: seconds in it, 0 for a multiple. */
static double read_budget(const settings *given, double *unit)
{
    const char *text = given->budget ? given->budget : BUDGET;
    const size_t length = strlen(text), digits = length - (length && strchr("smh", text[length - 1]) != NULL);
    double number = 0;
    *unit = digits == length ? 0 : text[digits] == 's' ? 1 : text[digits] == 'm' ? 60 : 3600;
    if (!mtl_text_number(text, digits, &number) || number <= 0 || (*unit == 0 && number < 1))
        fail_usage("--budget %s: expected a multiple of training each task alone, at least 1, or a time such "
                   "as 90s, 10m, 2h", text);
    return number;
}

/* The budget in multiply-adds. A time is one at the speed at which the tasks alone were trained. */
static double budget(const search *s)
{
    double unit, number = read_budget(s->to->given, &unit);
    return unit == 0 ? number * s->alone : number * unit * s->alone / s->seconds;
}

/* 1 when tasks of steps need no weight of the search: a method of balancing or sums over steps give one. */
static int weighs_steps(const settings *given) { return given->trainer.balance || given->trainer.sum_steps; }

/* Trains an attempt, or takes what a finished checkpoint has of it. Returns 1 when there is a model to score,
   0 after numbers that ceased to be finite in the first epoch. */
static int train_attempt(search *s, attempt *of, const mtl_fit_desc *how, mtl_batch *train,
                         const mtl_batch *valid)
{
    const int joint = of->structure != &structures[ALONE];
    mtl_error broken = { 0 };
    int scored;
    s->to->run = joint ? of->structure->name : s->all->tasks[of->tasks[0]].name;
    s->to->number = ++s->trainings;
    s->to->lessons = joint ? make_lessons(s, of, train) : NULL;
    s->to->step_weight = !joint ? 0 : weighs_steps(s->to->given) ? 1
        : fmin(MOST_STEP_WEIGHT, mean_length(train));
    if (!checkpoints_finished(s->to, of->model, &of->result))
        fit_model(s->to, of->model, how, train, valid, &of->result, &broken);
    scored = !broken.code || of->result.best_epoch;
    if (scored && !of->result.stopped) checkpoints_keep(s->to, of->model, &of->result);
    if (broken.code) warn("%s: %s", s->to->run, broken.message);
    free_lessons(s->to->lessons);
    s->to->lessons = NULL;
    s->stopped = of->result.stopped;
    s->spent += of->cost;
    return scored;
}

/* Trains the structure for these tasks, if that fits into the budget, and adds it to the attempts. */
static void try_structure(search *s, const structure_row *structure, int *tasks)
{
    attempt of = { 0 };
    mtl_fit_desc how = s->to->given->fit;
    mtl_batch *train, *valid;
    mtl_error err = { 0 };
    int block;
    of.structure = structure;
    of.tasks = tasks;
    train = labelled_batches(s->train, s->whole, tasks);
    valid = labelled_batches(s->valid, s->whole, tasks);
    of.model = make_model(s->to->given, s->all, &of);
    forget_unseen_words(of.model, train);
    begin_from_files(s->to->given, s->all, of.model, 0);
    set_means(s->all, of.model, 0, &err);
    check(&err);
    plan_fit(s->to->given, &how, train, arrlenu(train));
    of.cost = fit_cost(of.model, &how, train, arrlenu(train));
    if (structure != &structures[ALONE] && s->spent + of.cost > budget(s)) {
        s->needed = s->needed > 0 ? fmin(s->needed, s->spent + of.cost) : s->spent + of.cost;
        mtl_model_destroy(of.model);
        return;
    }
    if (!train_attempt(s, &of, &how, train, valid)) {
        mtl_model_destroy(of.model);
        return;
    }
    if (structure == &structures[ALONE]) s->alone += of.cost, s->seconds += of.result.train_seconds;
    arrsetlen(of.scores, arrlenu(tasks) * (BLOCKS + 1));
    for (block = 0; block <= BLOCKS; block++) score_block(s, &of, block);
    arrput(s->attempts, of);
}

/* The difference of two attempts' scores of a task on the validation data, and in *error its standard error,
   from the differences on blocks of the data (a paired t test's). */
static double difference(const attempt *a, size_t i, const attempt *b, size_t k, double *error)
{
    const double *x = a->scores + i * (BLOCKS + 1), *y = b->scores + k * (BLOCKS + 1);
    double sum = 0, squares = 0, count = 0;
    int block;
    for (block = 0; block < BLOCKS; block++) {
        const double d = x[block] - y[block];
        if (isnan(d)) continue;
        sum += d;
        squares += d * d;
        count++;
    }
    *error = count > 1 ? sqrt(fmax(0, squares - sum * sum / count) / (count - 1) / count) : 0;
    return x[BLOCKS] - y[BLOCKS];
}

/* Which tasks of a joint attempt, by their place in it, are no worse than alone, but for noise; *gain: the
   sum of their gains. */
static int *tasks_that_gain(const search *s, const attempt *joint, double *gain)
{
    int *kept = NULL;
    double error = 0, first = 0;
    size_t k;
    *gain = 0;
    for (k = 0; k < arrlenu(joint->tasks); k++) {
        const attempt *alone = &s->attempts[joint->tasks[k]];
        const double d = difference(joint, k, alone, 0, &error);
        if (isnan(d) || d < -NOISE * error) continue;   /* not a number: it has no label there */
        *gain += d;
        arrput(kept, (int)k);
        if (arrlenu(kept) == 1) first = error;
    }
    if (arrlenu(kept) == 1 && *gain <= first) arrfree(kept);    /* one alone shares nothing: it must gain */
    return kept;
}

/* One encoder for the tasks that the one of all did not harm, where some were harmed and two were not. */
static void try_group(search *s)
{
    const attempt *full = &s->attempts[arrlenu(s->attempts) - 1];
    int *kept, *group = NULL;
    double gain;
    size_t i;
    if (full->structure != &structures[FULL]) return;
    kept = tasks_that_gain(s, full, &gain);
    for (i = 0; i < arrlenu(kept); i++) arrput(group, full->tasks[kept[i]]);
    if (arrlenu(group) > 1 && arrlenu(group) < arrlenu(full->tasks))
        try_structure(s, &structures[GROUP], group);
    arrfree(kept);
}

/* The joint attempt with the largest gain, NULL: with none do tasks gain as much as others lose within the
   noise; its tasks that are kept in *kept. */
static const attempt *choose(const search *s, int **kept)
{
    const attempt *best = NULL;
    double most = 0;
    size_t i;
    for (i = 0; i < arrlenu(s->attempts); i++) {
        double gain;
        int *tasks;
        if (s->attempts[i].structure == &structures[ALONE]) continue;
        tasks = tasks_that_gain(s, &s->attempts[i], &gain);
        if (arrlenu(tasks) && gain >= most) {
            best = &s->attempts[i];
            most = gain;
            arrfree(*kept);
            *kept = tasks;
        } else arrfree(tasks);
    }
    return best;
}

/* 1 when task k is one of those that are kept of a joint attempt. */
static int shares(const attempt *joint, const int *kept, int k)
{
    size_t i;
    for (i = 0; i < arrlenu(kept); i++)
        if (joint->tasks[kept[i]] == k) return 1;
    return 0;
}

/* The model of the tasks that share and of those that stand alone. */
static mtl_model *put_together(const search *s, const attempt *joint, int *kept)
{
    graft *parts = NULL;
    const char **names = corpus_task_names(s->all);
    mtl_model *model;
    size_t i;
    graft one = { 0 };
    one.prefix = "";
    if (joint) {
        one.model = joint->model;
        one.tasks = kept;
        arrput(parts, one);
    }
    for (i = 0; i < arrlenu(s->all->tasks); i++) {
        graft alone = { 0 };
        if (shares(joint, kept, (int)i)) continue;
        alone.model = s->attempts[i].model;
        arrput(alone.tasks, 0);
        alone.prefix = "";
        if (arrlenu(parts)) {
            size_t size = strlen(names[i]) + 2;
            char *prefix = (char *)checked_realloc(NULL, size);
            snprintf(prefix, size, "%s-", names[i]);
            alone.prefix = prefix;
        }
        arrput(parts, alone);
    }
    model = assemble(parts, arrlenu(parts), names, arrlenu(s->all->tasks), s->to->given->model.seed);
    arrfree(parts);
    arrfree(names);
    return model;
}

/* The attempt with that structure that task k has a part in, or NULL; *i: which of its tasks. */
static const attempt *find_attempt(const search *s, const structure_row *structure, int k, size_t *i)
{
    const attempt *of = s->attempts, *end = of + arrlenu(s->attempts);
    for (; of < end; of++)
        for (*i = 0; *i < arrlenu(of->tasks); ++*i)
            if (of->structure == structure && of->tasks[*i] == k) return of;
    return NULL;
}

static double whole_score(const attempt *of, size_t i) { return of->scores[i * (BLOCKS + 1) + BLOCKS]; }

/* What task k has been given: a joint attempt, or its own. */
static const attempt *chosen_attempt(const search *s, const attempt *joint, const int *kept, size_t k)
{
    return shares(joint, kept, (int)k) ? joint : &s->attempts[k];
}

/* A row for each task: its score in every attempt, * at what was chosen; then what each attempt took. */
static void print_table(const search *s, const attempt *joint, const int *kept)
{
    char cell[40];
    size_t i, k, at;
    double seconds;
    printf("%-16s", "task");
    for (i = 0; i < STRUCTURES; i++) printf(" %9s ", structures[i].name);
    for (k = 0; k < arrlenu(s->all->tasks); k++) {
        printf("\n%-16s", s->all->tasks[k].name);
        for (i = 0; i < STRUCTURES; i++) {
            const attempt *of = find_attempt(s, &structures[i], (int)k, &at);
            snprintf(cell, sizeof cell, of && !isnan(whole_score(of, at)) ? "%.4f" : "-",
                     of ? whole_score(of, at) : 0);
            printf(" %9s%c", cell, of && of == chosen_attempt(s, joint, kept, k) ? '*' : ' ');
        }
    }
    printf("\n%-16s", "seconds");
    for (i = 0; i < STRUCTURES; i++) {
        for (k = 0, seconds = 0; k < arrlenu(s->attempts); k++)
            if (s->attempts[k].structure == &structures[i]) seconds += s->attempts[k].result.train_seconds;
        snprintf(cell, sizeof cell, seconds > 0 ? "%.1f" : "-", seconds);
        printf(" %9s ", cell);
    }
    printf("\nmultiply-adds: %.3g alone, %.3g in all (%.2f times)\n", s->alone, s->spent,
           s->spent / s->alone);
    for (i = 0; i < STRUCTURES; i++)
        printf("%s%s: %s", i ? "; " : "", structures[i].name, structures[i].what);
    printf("; -: not tried, or over the budget.\n* chosen; joint is no worse down to %g standard errors "
           "below alone, nor in the sum of its tasks\n", NOISE);
}

/* The same as lines key=value, for the model file. */
static char *make_note(const search *s, const attempt *joint, const int *kept)
{
    char *text = NULL;
    size_t i, k, at;
    for (k = 0; k < arrlenu(s->all->tasks); k++) {
        for (i = 0; i < STRUCTURES; i++) {
            const attempt *of = find_attempt(s, &structures[i], (int)k, &at);
            if (!of || isnan(whole_score(of, at))) continue;
            add_text(&text, "%s.%s=%.6g\n", s->all->tasks[k].name, structures[i].name, whole_score(of, at));
        }
        add_text(&text, "%s.chosen=%s\n", s->all->tasks[k].name,
                 chosen_attempt(s, joint, kept, k)->structure->name);
    }
    add_text(&text, "multiply_adds.alone=%.6g\nmultiply_adds.all=%.6g\nmultiply_adds.budget=%.6g\n", s->alone,
             s->spent, budget(s));
    return text;
}

/* What all trainings took together, and the mean score of what was chosen. */
static void sum_up(const search *s, const attempt *joint, const int *kept, mtl_fit_result *result)
{
    double scored = 0;
    size_t i, at;
    for (i = 0; i < arrlenu(s->attempts); i++) {
        const mtl_fit_result *one = &s->attempts[i].result;
        result->seconds += one->seconds;
        result->train_seconds += one->train_seconds;
        result->epochs += one->epochs;
        result->updates += one->updates;
    }
    for (i = 0; i < arrlenu(s->all->tasks); i++) {
        const attempt *of = chosen_attempt(s, joint, kept, i);
        double score;
        of = find_attempt(s, of->structure, (int)i, &at);
        score = whole_score(of, at);
        if (!isnan(score)) result->best_score += (score - result->best_score) / ++scored;
    }
}

mtl_model *train_auto(reporter *to, corpus *all, const mtl_model_desc *whole, mtl_batch *train,
                      mtl_batch *valid, mtl_fit_result *result)
{
    search s = { 0 };
    const attempt *joint;
    mtl_error err = { 0 };
    mtl_model *model;
    int *kept = NULL, *tasks = NULL;
    double unit;
    char *text;
    size_t i;
    read_budget(to->given, &unit);
    s.to = to, s.all = all, s.whole = whole, s.train = train, s.valid = valid;
    for (i = 0; i < arrlenu(all->tasks); i++) arrput(tasks, (int)i);
    check_init(&s, tasks);
    for (i = 0; i < arrlenu(all->tasks); i++) {
        int *one = NULL;
        arrput(one, (int)i);
        try_structure(&s, &structures[ALONE], one);
        if (s.stopped && i + 1 < arrlenu(all->tasks))
            fail("interrupted before every task had been trained: %s was not written%s", to->given->out,
                 to->given->fit.checkpoint_every ? "; with --resume it goes on from its checkpoints" : "");
    }
    if (!s.stopped) try_structure(&s, &structures[FULL], tasks);
    if (!s.stopped) try_group(&s);
    if (!s.stopped) try_structure(&s, &structures[PARTIAL], tasks);
    result->stopped = s.stopped;
    joint = choose(&s, &kept);
    model = put_together(&s, joint, kept);
    sum_up(&s, joint, kept, result);
    if (s.trainings == arrlenu(all->tasks) && s.needed > 0 && !to->given->quiet)
        note("the budget has no room for a joint model: each task stands alone; --budget %.2f would have it",
             ceil(100 * s.needed / s.alone) / 100);
    if (!to->given->quiet) print_table(&s, joint, kept);
    text = make_note(&s, joint, kept);
    mtl_model_note(model, "auto", text, &err);
    check(&err);
    arrfree(text);
    return model;
}
