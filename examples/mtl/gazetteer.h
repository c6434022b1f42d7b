/* Phrases of known types that a model of text looks for: --gazetteer. */
#ifndef MTL_GAZETTEER_H
#define MTL_GAZETTEER_H

#include "corpus.h"
#include "settings.h"

/* Collects the phrases of all that --gazetteer names: the training data's spans, or files. */
void make_phrases(const settings *given, corpus *all);

/* Adds the input that looks for them, if there are any; *uses: a growing array that lasts as long. */
void add_gazetteer(const settings *given, const corpus *all, mtl_input_desc **inputs, const char ****texts,
                   float **uses);

#endif
