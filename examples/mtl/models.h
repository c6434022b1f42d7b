/* A model from a file, and the corpus that it knows. */
#ifndef MTL_MODELS_H
#define MTL_MODELS_H

#include "corpus.h"
#include "settings.h"

mtl_model *load_model(const char *path);

/* Ends the program with what mtl_model_load said of the file. */
EXITS
void fail_model(const char *path, const mtl_error *err);

/* The corpus of a model: its tasks and labels, closed. */
void corpus_from_model(const settings *given, corpus *all, const mtl_model *model);

/* Checks that the model reads what the command line gives, and takes from the model how CSV files are
   read. */
void check_inputs(const settings *given, corpus *all, mtl_model *model);

/* Classes of a model that stores no labels are called 0, 1, ... */
const char *label_text(const mtl_model *model, int index, int label, char number[24]);

/* Numbers in a model. */
size_t count_parameters(mtl_model *model);

#endif
