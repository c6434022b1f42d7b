/* Word vectors that were learnt elsewhere, as a new model's first embeddings (--vectors): word2vec's text and
   binary files, GloVe's, fastText's .vec. A file is read once from its begin to its end, so it may be a pipe;
   beside the rows that the vocabulary takes, a buffer of one row or two is all that is kept of it. */
#ifndef MTL_VECTORS_H
#define MTL_VECTORS_H

#include "corpus.h"
#include "settings.h"

/* Refuses --vectors for rows of numbers, and rates that are none. */
void check_vectors(const settings *given);

/* Reads --vectors for the words of all->vocabulary into all->vectors, and tells how many have one; nothing
   without the option. Words that have none get the mean of those found plus a tenth of their deviation of
   noise; the unknown word, where the file has none, the mean. */
void read_vectors(const settings *given, corpus *all);

/* What --freeze must name besides: the tables of vectors whose rate is 0; or NULL. */
const char *frozen_vectors(const settings *given);

/* Puts them into all inputs of the model that read the text's words, and sets these tables' rates. */
void apply_vectors(const settings *given, const corpus *all, mtl_model *model);

#endif
