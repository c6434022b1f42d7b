#include "progress.h"

#include "json.h"
#include "reports.h"
#include "system.h"

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

/* One object for an epoch in the --log file. */
static void log_epoch(const reporter *to, const mtl_progress *now)
{
    const mtl_model_desc *desc = mtl_model_describe(to->model);
    int first = 1, first_task = 1;
    size_t i;
    fputc('{', to->log);
    if (to->run) {
        json_key(to->log, &first, "run");
        json_string(to->log, to->run);
    }
    json_number(to->log, &first, "epoch", (double)now->epoch);
    json_number(to->log, &first, "loss", now->loss);
    json_key(to->log, &first, "task_loss");
    fputc('{', to->log);
    for (i = 0; i < desc->task_count && now->task_loss; i++)
        json_number(to->log, &first_task, desc->tasks[i].name, now->task_loss[i]);
    fputc('}', to->log);
    json_number(to->log, &first, "lr", to->lr);
    json_number(to->log, &first, "seconds", now->seconds);
    json_number(to->log, &first, "train_seconds", now->train_seconds);
    json_number(to->log, &first, "tokens_per_second", now->tokens_per_second);
    if (now->scores) {
        json_number(to->log, &first, "score", now->scores->score);
        json_number(to->log, &first, "best_score", now->best_score);
        json_number(to->log, &first, "best_epoch", (double)now->best_epoch);
        json_key(to->log, &first, "valid");
        json_scores(to->log, to->model, now->scores, NULL, NULL);
    }
    fputs("}\n", to->log);
    fflush(to->log);
}

int on_progress(void *user, const mtl_progress *now)
{
    reporter *to = (reporter *)user;
    if (now->step) to->lr = now->step->lr;
    if (now->epoch_end && to->lessons)
        mix_lessons(to->lessons, label_share(now->epoch, now->epochs));
    if (now->epoch_end && to->log) log_epoch(to, now);
    if (now->epoch_end && !to->given->quiet) show_epoch(to, now);
    if (!now->epoch_end && to->terminal) show_batch(to, now);
    if (!now->epoch_end) to->updates++;
    return interrupted() || (to->given->stop_after && to->updates >= to->given->stop_after);
}
