/* Checkpoints of training, and going on from one: --checkpoint-every and --resume. */
#ifndef MTL_RESUME_H
#define MTL_RESUME_H

#include "progress.h"

/* Before mtl_fit: lets it keep checkpoints, and puts model and trainer where the one of --resume stands. The
   reporter is how->user. Data or options that have changed end the program, with --force they are told. */
void checkpoints_begin(reporter *to, mtl_model *model, mtl_trainer *trainer, mtl_fit_desc *how);

/* After it. */
void checkpoints_end(reporter *to);

/* The model is saved: its checkpoint goes, or, when training was stopped, is named. */
void checkpoints_done(const settings *given, int stopped);

#endif
