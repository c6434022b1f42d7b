#include "progress.h"

#include <math.h>

#include "json.h"
#include "reports.h"
#include "system.h"
#include "watch.h"

static char *format_time(double seconds, char out[24])
{
    long s = seconds > 0 && seconds < 1e8 ? (long)(seconds + 0.5) : 0;
    if (s >= 3600) snprintf(out, 24, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else snprintf(out, 24, "%ld:%02ld", s / 60, s % 60);
    return out;
}

/* "loss 0.53  intent 0.12  slots 0.41" into out. */
static void format_losses(const reporter *to, const mtl_progress *now, char *out, size_t size)
{
    const mtl_model_desc *desc = mtl_model_describe(to->model);
    size_t i, used = (size_t)snprintf(out, size, "loss %.4f", now->loss);
    for (i = 0; i < desc->task_count && used < size && now->task_loss; i++)
        used += (size_t)snprintf(out + used, size - used, "  %s %.4f", desc->tasks[i].name,
                                 now->task_loss[i]);
}

/* The line that is written over and over on a terminal, cut to its width. */
static void show_batch(reporter *to, const mtl_progress *now)
{
    char losses[512], line[800], left[24];
    size_t width = terminal_width() - 1;
    if (now->seconds - to->last_shown < 0.2) return;
    to->last_shown = now->seconds;
    format_losses(to, now, losses, sizeof losses);
    snprintf(line, sizeof line, "%s%sepoch %zu/%zu  %3.0f%%  %.0f tokens/s  %s left  %s",
             to->run ? to->run : "", to->run ? ": " : "", now->epoch, now->epochs,
             now->batches ? 100.0 * (double)now->batch / (double)now->batches : 0.0, now->tokens_per_second,
             format_time(now->seconds_left, left), losses);
    if (width < sizeof line) line[width] = '\0';
    show_progress(line);
}

static void show_epoch(reporter *to, const mtl_progress *now)
{
    char losses[512], left[24], valid[80] = "";
    format_losses(to, now, losses, sizeof losses);
    if (now->scores)
        snprintf(valid, sizeof valid, "  valid %.4f%s", now->scores->score,
                 now->best_epoch == now->epoch ? " (best)" : "");
    clear_progress();
    printf("%s%sepoch %zu/%zu  %s%s  %.0f tokens/s  %s left\n", to->run ? to->run : "", to->run ? ": " : "",
           now->epoch, now->epochs, losses, valid, now->tokens_per_second,
           format_time(now->seconds_left, left));
    fflush(stdout);
}

/* What the validation data say of each task by itself: how much larger its loss is than in training (null:
   not known), and its best epoch so far. */
static void log_tasks(const reporter *to, int *first, const mtl_progress *now)
{
    const mtl_model_desc *desc = mtl_model_describe(to->model);
    double *gaps = NULL, *best = NULL;
    size_t i;
    for (i = 0; i < desc->task_count; i++) {
        arrput(gaps, now->valid_loss[i] < 0 ? NAN : now->valid_loss[i] - now->task_loss[i]);
        arrput(best, now->task_best_epoch[i] ? (double)now->task_best_epoch[i] : NAN);
    }
    json_by_task(to->log, first, "gap", desc, gaps);
    json_by_task(to->log, first, "task_best_epoch", desc, best);
    arrfree(gaps);
    arrfree(best);
}

/* One object for an epoch in the --log file. */
static void log_epoch(const reporter *to, const mtl_progress *now)
{
    int first = 1;
    fputc('{', to->log);
    if (to->run) {
        json_key(to->log, &first, "run");
        json_string(to->log, to->run);
    }
    json_number(to->log, &first, "epoch", (double)now->epoch);
    json_number(to->log, &first, "loss", now->loss);
    json_by_task(to->log, &first, "task_loss", mtl_model_describe(to->model), now->task_loss);
    json_number(to->log, &first, "lr", to->lr);
    json_number(to->log, &first, "grad_norm", to->norms > 0 ? to->norm_sum / to->norms : NAN);
    json_number(to->log, &first, "grad_norm_most", to->norm_most);
    json_number(to->log, &first, "seconds", now->seconds);
    json_number(to->log, &first, "train_seconds", now->train_seconds);
    json_number(to->log, &first, "tokens_per_second", now->tokens_per_second);
    if (now->scores) {
        json_number(to->log, &first, "score", now->scores->score);
        json_number(to->log, &first, "best_score", now->best_score);
        json_number(to->log, &first, "best_epoch", (double)now->best_epoch);
        log_tasks(to, &first, now);
        json_key(to->log, &first, "valid");
        json_scores(to->log, to->model, now->scores, NULL, NULL);
    }
    fputs("}\n", to->log);
    fflush(to->log);
}

/* The rate and the gradient's norm, which cost nothing: each update has them. */
static void count_step(reporter *to, const mtl_step *step)
{
    to->lr = step->lr;
    to->norm_sum += step->grad_norm;
    to->norm_most = fmax(to->norm_most, step->grad_norm);
    to->norms++;
}

/* Says where a task was left out for the first time; how often in all comes at the end. */
static void count_skipped(reporter *to, const mtl_progress *now)
{
    const mtl_model_desc *desc = mtl_model_describe(to->model);
    size_t k;
    for (k = 0; k < now->step->task_count; k++) {
        const size_t count = now->step->task_skipped[k];
        if (count && !to->skipped[k])
            warn("epoch %zu, batch %zu: the loss of task %s is not a finite number: it is left out of the "
                 "batch (--skip-bad)", now->epoch, now->batch, desc->tasks[k].name);
        to->skipped[k] += count;
    }
}

void progress_end(reporter *to)
{
    size_t k;
    for (k = 0; k < arrlenu(to->skipped); k++)
        if (to->skipped[k] > 1)
            warn("task %s was left out of %zu batches in all", mtl_model_describe(to->model)->tasks[k].name,
                 to->skipped[k]);
}

static void forget_steps(reporter *to) { to->norm_sum = to->norm_most = to->norms = 0; }

void progress_begin(reporter *to, mtl_model *model)
{
    const size_t tasks = mtl_model_describe(model)->task_count;
    to->model = model;
    forget_steps(to);
    arrsetlen(to->skipped, tasks);
    memset(to->skipped, 0, tasks * sizeof *to->skipped);
}

int on_progress(void *user, const mtl_progress *now)
{
    reporter *to = (reporter *)user;
    if (now->step) count_step(to, now->step);
    if (now->step) count_skipped(to, now);
    if (now->step) watch_update(to->watcher, now);
    if (now->epoch_end && to->lessons)
        mix_lessons(to->lessons, label_share(now->epoch, now->epochs));
    if (now->epoch_end && to->log) log_epoch(to, now);
    if (now->epoch_end) forget_steps(to);
    if (now->epoch_end && !to->given->quiet) show_epoch(to, now);
    if (!now->epoch_end && to->terminal) show_batch(to, now);
    if (!now->epoch_end) to->updates++;
    return interrupted() || (to->given->stop_after && to->updates >= to->given->stop_after);
}
