#include "watch.h"

#include "json.h"

/* Of a trial step against a task's gradient. Adam's own steps are longer than lr times the gradient; after
   one of that length a loss in float would have changed by little more than its rounding. */
static const double TRIAL_RATE = 0.1;

struct watcher {
    const settings *given;
    mtl_model *model;
    mtl_trainer *trainer;
    FILE *log;
    const char *run;
    mtl_arena arena;
    mtl_watch *watch;                       /* NULL: the tasks share nothing, or there is one */
    double *affinity;                       /* growing: [tasks][tasks] */
    double *norm;                           /* growing: by step */
    mtl_watched_units *units;               /* growing */
};

watcher *watch_begin(const settings *given, mtl_model *model, mtl_trainer *trainer, FILE *log,
                     const char *run)
{
    const size_t tasks = mtl_model_describe(model)->task_count;
    mtl_error err = { 0 };
    watcher *w;
    if (!given->watch) return NULL;
    w = (watcher *)checked_realloc(NULL, sizeof *w);
    memset(w, 0, sizeof *w);
    w->given = given;
    w->model = model;
    w->trainer = trainer;
    w->log = log;
    w->run = run;
    mtl_arena_init(&w->arena, NULL, 0, NULL);
    w->watch = mtl_watch_create(trainer, &w->arena, &err);
    arrsetlen(w->affinity, tasks * tasks);
    if (err.code != MTL_ERROR_FIELD) check(&err);
    else if (!run && !given->quiet) note("--watch: no gradients to compare: %s", err.message);
    return w;
}

void watch_end(watcher *w)
{
    if (!w) return;
    arrfree(w->affinity);
    arrfree(w->norm);
    arrfree(w->units);
    mtl_arena_destroy(&w->arena);
    free(w);
}

/* "NAME": {"norm": {"intent": 0.1, ..}, "cosine": {"intent+slots": -0.2, ..}, "conflicts": 0.5}; of pairs
   that both have a gradient. */
static void log_part(FILE *to, int *first, const mtl_model_desc *desc, const mtl_watched_part *part)
{
    const size_t tasks = desc->task_count;
    int inner = 1, pair = 1;
    size_t i, k;
    char name[256];
    json_key(to, first, part->name);
    fputc('{', to);
    json_by_task(to, &inner, "norm", desc, part->norm);
    json_key(to, &inner, "cosine");
    fputc('{', to);
    for (i = 0; i < tasks; i++)
        for (k = i + 1; k < tasks; k++) {
            if (!(part->norm[i] > 0) || !(part->norm[k] > 0)) continue;
            snprintf(name, sizeof name, "%s+%s", desc->tasks[i].name, desc->tasks[k].name);
            json_number(to, &pair, name, part->cosine[i * tasks + k]);
        }
    fputc('}', to);
    if (part->pairs) json_number(to, &inner, "conflicts", (double)part->conflicts / (double)part->pairs);
    fputc('}', to);
}

/* Losses, weights, gradients by layer, and what a step for each task does to the losses of all. */
static void log_gradients(watcher *w, int *first, const mtl_progress *now)
{
    const mtl_model_desc *desc = mtl_model_describe(w->model);
    mtl_watched seen;
    mtl_error err = { 0 };
    int inner = 1;
    size_t i;
    mtl_watch_affinity(w->watch, now->data, now->data_count, TRIAL_RATE, w->affinity, &seen, &err);
    if (err.code == MTL_ERROR_NUMBER) return;           /* a trial step was too long */
    check(&err);
    json_by_task(w->log, first, "loss", desc, seen.loss);
    json_by_task(w->log, first, "weight", desc, seen.weight);
    log_part(w->log, first, desc, &seen.parts[0]);
    json_key(w->log, first, "layers");
    fputc('{', w->log);
    for (i = 1; i < seen.part_count; i++) log_part(w->log, &inner, desc, &seen.parts[i]);
    fputc('}', w->log);
    json_key(w->log, first, "affinity");
    fputc('{', w->log);
    for (i = 0, inner = 1; i < desc->task_count; i++)
        json_by_task(w->log, &inner, desc->tasks[i].name, desc, w->affinity + i * desc->task_count);
    fputc('}', w->log);
}

/* Gates and units of the update itself. */
static void log_units(watcher *w, int *first)
{
    int inner = 1, unit;
    char name[256];
    size_t i;
    arrsetlen(w->units, mtl_watch_units(w->trainer, NULL, 0));
    mtl_watch_units(w->trainer, w->units, arrlenu(w->units));
    json_key(w->log, first, "units");
    fputc('{', w->log);
    for (i = arrlenu(w->units); i-- > 0;) {
        const mtl_watched_units *of = &w->units[i];
        snprintf(name, sizeof name, "%s%s", of->name, of->reverse ? ".reverse" : "");
        json_key(w->log, &inner, name);
        fputc('{', w->log);
        unit = 1;
        json_count(w->log, &unit, "units", of->units);
        json_count(w->log, &unit, "dead", of->dead);
        if (of->gates) json_number(w->log, &unit, "closed", of->closed);
        if (of->gates) json_number(w->log, &unit, "open", of->open);
        fputc('}', w->log);
    }
    fputc('}', w->log);
}

/* Norms by step of a column's last layer, in one direction; nothing where it has none. */
static void log_steps_of(watcher *w, int *first, const mtl_column_desc *column, int reverse,
                         const mtl_batch *batch)
{
    const mtl_tensor *weight;
    mtl_error err = { 0 };
    char name[256];
    size_t i;
    snprintf(name, sizeof name, "%s.weight_hh_l%d%s", column->name, column->layers - 1,
             reverse ? "_reverse" : "");
    weight = mtl_model_tensor(w->model, name);
    if (!weight) return;
    mtl_watch_steps(w->trainer, batch, -1, weight, w->norm, arrlenu(w->norm), &err);
    if (err.code == MTL_ERROR_NUMBER) return;
    check(&err);
    snprintf(name, sizeof name, "%s%s", column->name, reverse ? ".reverse" : "");
    json_key(w->log, first, name);
    fputc('[', w->log);
    for (i = 0; i < arrlenu(w->norm); i++) json_item(w->log, i == 0, w->norm[i]);
    fputc(']', w->log);
}

static void log_steps(watcher *w, int *first, const mtl_batch *batch)
{
    const mtl_model_desc *desc = mtl_model_describe(w->model);
    int inner = 1, longest = 0;
    size_t i;
    for (i = 0; i < batch->sequences; i++)
        if (batch->lengths[i] > longest) longest = batch->lengths[i];
    arrsetlen(w->norm, (size_t)longest);
    json_key(w->log, first, "steps");
    fputc('{', w->log);
    for (i = 0; i < desc->column_count; i++) {
        log_steps_of(w, &inner, &desc->columns[i], 0, batch);
        log_steps_of(w, &inner, &desc->columns[i], 1, batch);
    }
    fputc('}', w->log);
}

void watch_update(watcher *w, const mtl_progress *now)
{
    int first = 1, inner = 1;
    if (!w || now->step->step % (size_t)w->given->watch != 0) return;
    fputc('{', w->log);
    if (w->run) {
        json_key(w->log, &first, "run");
        json_string(w->log, w->run);
    }
    json_count(w->log, &first, "in_epoch", now->epoch);
    json_count(w->log, &first, "update", now->step->step);
    json_number(w->log, &first, "grad_norm", now->step->grad_norm);
    json_key(w->log, &first, "watch");
    fputc('{', w->log);
    log_units(w, &inner);                  /* before other passes take the update's place */
    if (w->watch) log_gradients(w, &inner, now);
    log_steps(w, &inner, &now->data[0]);
    fputs("}}\n", w->log);
    fflush(w->log);
}
