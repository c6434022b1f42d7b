/* One training of a model, as it is watched. */
#ifndef MTL_FIT_H
#define MTL_FIT_H

#include "progress.h"

/* Fills in what the settings leave to the data: sequences in a batch, epochs, patience. */
void plan_fit(const settings *given, mtl_fit_desc *how, const mtl_batch *train, size_t count);

/* Multiply-adds of training a model that long: each weight of a column or of a head at steps is used once for
   every step, each of another head once for every sequence; backward costs twice as much as forward. */
double fit_cost(mtl_model *model, const mtl_fit_desc *how, const mtl_batch *train, size_t count);

/* Fits the model and leaves the result in *result; *broken says why it ended where a best model is worth
   keeping all the same, or where a search can do without the model (no best epoch). to: for whom it is
   watched; its lessons are learnt. Returns the precision of its products, MTL_PRECISION_*. */
int fit_model(reporter *to, mtl_model *model, const mtl_fit_desc *how, const mtl_batch *train,
              const mtl_batch *valid, mtl_fit_result *result, mtl_error *broken);

#endif
