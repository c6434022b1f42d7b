/* A model's desc as C. */
#ifndef MTL_DESC_C_H
#define MTL_DESC_C_H

#include "arrays.h"

/* Definitions of the inputs, columns and tasks with their words, labels and phrases, and of a mtl_model_desc
   that names them: a model that is made of it is built as this one, with initial values of its own. */
void print_desc_c(const mtl_model_desc *desc);

#endif
