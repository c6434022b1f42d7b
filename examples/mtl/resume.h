/* Checkpoints of training, and going on from one: --checkpoint-every and --resume. */
#ifndef MTL_RESUME_H
#define MTL_RESUME_H

#include "progress.h"

/* Before mtl_fit: lets it keep checkpoints, and puts model and trainer where the one of --resume stands. The
   reporter is how->user. Data or options that have changed end the program, with --force they are told. */
void checkpoints_begin(reporter *to, mtl_model *model, mtl_trainer *trainer, mtl_fit_desc *how);

/* After it. */
void checkpoints_end(reporter *to);

/* Of training number to->number of several: 1 when --resume finds that it is finished, whose model and result
   are then put in; else 0. */
int checkpoints_finished(reporter *to, mtl_model *model, mtl_fit_result *result);

/* It is finished: its model and result take the place of its checkpoint. */
void checkpoints_keep(reporter *to, mtl_model *model, const mtl_fit_result *result);

/* The model is saved: its checkpoint goes, or, when training was stopped, is named. */
void checkpoints_done(const settings *given, int stopped);

#endif
