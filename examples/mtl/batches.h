/* Data sets as the library takes them. */
#ifndef MTL_BATCHES_H
#define MTL_BATCHES_H

#include "corpus.h"
#include "settings.h"

/* A data set as a batch of the model, whose tasks are numbered as the corpus'. The data set owns what the
   batch points to. */
mtl_batch make_batch(corpus *all, dataset *set, const mtl_model *model);

/* All data sets of a list. A growing array of the caller's. */
mtl_batch *make_batches(corpus *all, dataset *sets, const mtl_model *model);

/* Sequence `index` of a batch over feature rows or ids, whose rows begin at `row`; without targets. inputs:
   [input_count], to be used. */
mtl_batch one_sequence(const mtl_batch *batch, const mtl_model_desc *desc, size_t index, size_t row,
                       mtl_input *inputs);

/* A copy of the sequences of a data set whose `keep` is not 0, with the targets of the tasks in `chosen` (a
   growing array of numbers of the batch's tasks). desc: of a model of the whole batch. */
mtl_batch pick_batch(const mtl_batch *batch, const mtl_model_desc *desc, const int *chosen,
                     const unsigned char *keep);

/* 1 for each sequence that has a label of one of the tasks, else 0. A growing array. */
unsigned char *find_labelled(const mtl_batch *batch, const mtl_model_desc *desc, const int *chosen);

/* The sequences of all data sets that have a label of the tasks. A growing array of the caller's. */
mtl_batch *labelled_batches(const mtl_batch *from, const mtl_model_desc *desc, const int *chosen);

/* --sampler-weight must name files that there are. */
void check_sampler_weights(const settings *given, const corpus *all);

/* The weight of each data set by --sampler-weight, a growing array; NULL: none was given. */
const float *sampler_weights(const settings *given, const mtl_batch *train);

#endif
