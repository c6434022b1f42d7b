/* Phrases of known types that a model of text looks for: --gazetteer. */
#ifndef MTL_GAZETTEER_H
#define MTL_GAZETTEER_H

#include "corpus.h"
#include "settings.h"

/* Collects the phrases of all that --gazetteer names: the training data's spans, or files. */
void make_phrases(const settings *given, corpus *all);

/* 1 when a model of these tasks looks for phrases: the data's spans are for tasks that have spans, so that a
   task alone in a search reads what it reads when it is trained alone; those of files are for all. */
int wants_phrases(const settings *given, const corpus *all, const int *tasks);

/* Adds the input that looks for them; *uses: a growing array that lasts as long. */
void add_gazetteer(const settings *given, const corpus *all, mtl_input_desc **inputs, const char ****texts,
                   float **uses);

#endif
