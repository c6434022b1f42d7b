/* Labels in an order: of tasks of kinds such as ordinal, whose classes stand in it. */
#ifndef MTL_RANKS_H
#define MTL_RANKS_H

#include "corpus.h"

/* Puts a task's labels, and its targets in the training data, in the order of --ranks; without it the labels
   are numbers, which have one. */
void rank_labels(corpus *all, int index);

/* Each --ranks must name a task that has ranks. */
void check_ranks(const corpus *all);

#endif
