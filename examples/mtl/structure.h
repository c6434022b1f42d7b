/* What a model is made of: who reads and trains what, as text. */
#ifndef MTL_STRUCTURE_H
#define MTL_STRUCTURE_H

#include "arrays.h"

/* 1 when a list of names, "a+b.probabilities", holds this one. */
int list_holds(const char *list, const char *name);

/* The name of a mix's kind. */
const char *mix_name(const mtl_mix_desc *mix);

/* uses[part * tasks + k]: 1 when task k's loss reaches the part; parts are inputs, columns and tasks,
   numbered in this order. A growing array of the caller's. */
unsigned char *trace_tasks(const mtl_model_desc *desc);

/* A line for each column and task: its mix, its parameters, which tasks train it. */
void print_structure(mtl_model *model);

#endif
