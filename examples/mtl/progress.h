/* Training as it is watched: the line on a terminal, a line for each epoch, the --log file. */
#ifndef MTL_PROGRESS_H
#define MTL_PROGRESS_H

#include "settings.h"
#include "teach.h"

/* What the progress callback needs. */
typedef struct reporter {
    const settings *given;
    const mtl_model *model;
    FILE *log;
    int terminal;
    double last_shown;                      /* seconds */
    const char *run;                        /* which of several trainings this is; NULL: the only one */
    lesson *lessons;                        /* growing: what teachers say, mixed anew after each epoch */
    size_t number;                          /* of several trainings, from 1 on; 0: the only one */
    size_t epochs_done;                     /* before this run, by a checkpoint */
    double step_weight;                     /* of tasks at steps in a joint model of a search; else 0 */
    double lr;                              /* of the last update */
    double norm_sum, norm_most, norms;      /* of the gradients of the epoch's updates; how many these are */
    long long updates;                      /* of this process */
    size_t *skipped;                        /* growing, [tasks] batches that --skip-bad left out */
    const corpus *all;                      /* for checkpoints; NULL: there are none */
    struct watcher *watcher;                /* watch.h; NULL: nobody asked */
    struct checkpoints *checkpoints;        /* resume.h; NULL: none are kept, and none is gone on from */
} reporter;

/* Before a training: nothing of the one before is left. */
void progress_begin(reporter *to, mtl_model *model);

/* After it: how often tasks were left out. */
void progress_end(reporter *to);

/* The library's progress callback; user: a reporter. */
int on_progress(void *user, const mtl_progress *now);

#endif
