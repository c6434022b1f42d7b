/* --watch: every N updates a line in the --log file with what the library's instruments say of it. */
#ifndef MTL_WATCH_H
#define MTL_WATCH_H

#include "settings.h"

typedef struct watcher watcher;

/* The instruments of a training, where the settings ask for them, else NULL. run: which of several trainings
   it is, NULL: the only one. */
watcher *watch_begin(const settings *given, mtl_model *model, mtl_trainer *trainer, FILE *log,
                     const char *run);
void watch_end(watcher *w);

/* Writes the line, when it is time for one. now: of an update. */
void watch_update(watcher *w, const mtl_progress *now);

#endif
