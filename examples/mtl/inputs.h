/* Do two models read the same of the same data? */
#ifndef MTL_INPUTS_H
#define MTL_INPUTS_H

#include "arrays.h"

/* How the inputs of another model differ from those of ours, which was made for the data, as a message says
   it: a growing array; NULL: they do not. all 0: those alone that a batch has data for, since a gazetteer,
   which reads what another one does, brings its own phrases. */
char *input_difference(const mtl_model_desc *theirs, const mtl_model_desc *ours, int all);

#endif
