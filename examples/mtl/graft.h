/* One model out of parts of trained ones. */
#ifndef MTL_GRAFT_H
#define MTL_GRAFT_H

#include "arrays.h"

/* The tasks to be kept of a trained model, and all that they read. Names other than tasks' get the prefix. */
typedef struct graft {
    mtl_model *model;
    const char *prefix;                     /* "" for the first, whose input's data the others read */
    int *tasks;                             /* numbers of the tasks in its desc; growing */
} graft;

/* A model of the parts' tasks, in the order of `names`, with their tensors. Task names must differ between
   parts. The caller destroys it. */
mtl_model *assemble(const graft *parts, size_t count, const char *const *names, size_t name_count,
                    unsigned long long seed);

#endif
