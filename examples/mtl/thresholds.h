/* From which probability on a class of a set is chosen: thresholds of single classes, by the validation
   data. */
#ifndef MTL_THRESHOLDS_H
#define MTL_THRESHOLDS_H

#include "corpus.h"
#include "settings.h"

/* 1 when --thresholds names the task. */
int has_thresholds(const settings *given, const char *name);

/* --thresholds must name tasks of sets, and there must be --valid data to choose by. */
void check_thresholds(const settings *given, const corpus *all);

/* Gives each class of these tasks the threshold that makes its F1 on the validation data best; one that no
   item there has keeps 0.5. */
void choose_thresholds(const settings *given, const corpus *all, mtl_model *model, const mtl_batch *valid);

#endif
