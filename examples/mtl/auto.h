/* --share auto: which tasks share what, found by training. */
#ifndef MTL_AUTO_H
#define MTL_AUTO_H

#include "fit.h"

/* Trains every task alone and all of them together in several ways, and makes one model of what scored best
   on the validation data, task by task. train, valid: of all tasks, for a model described by `whole`. What
   was tried and chosen is printed and kept in the model's note "auto". *result sums up all trainings. The
   caller destroys the model. */
mtl_model *train_auto(reporter *to, corpus *all, const mtl_model_desc *whole, mtl_batch *train,
                      mtl_batch *valid, mtl_fit_result *result);

#endif
