/* A new model for the training data. */
#ifndef MTL_CREATE_H
#define MTL_CREATE_H

#include "corpus.h"
#include "settings.h"

/* --weight, --set task.NAME.x and --score must name tasks that there are. */
void check_task_names(const settings *given, const corpus *all);

/* Gives tags tasks the heads that --head names. */
void apply_heads(const settings *given, corpus *all);

/* --class-weights must name tasks that have classes. */
void check_class_weights(const settings *given, const corpus *all);

/* --pool-of must name two tasks each. */
void check_shared_pools(const settings *given, const corpus *all);

/* Tells that rows of numbers are read backwards, too, when nobody has asked for it: what comes row by row, as
   measurements do, may have no end to read from. */
void report_direction(const settings *given);

/* Tells of settings that will have no effect. */
void report_useless(const settings *given);

/* The desc of a task, as --set and --pool want it. labels, weights: of its classes, or NULL. */
mtl_task_desc make_task_desc(const settings *given, const task *of, const char **labels,
                             const float *weights);

/* Refuses a model that this machine cannot train, with the bytes it would need: malloc alone may promise what
   is not there. */
void check_memory(const mtl_model_desc *desc);

/* A model of the data and the settings, with its initial values, for the tasks in `chosen`, a growing array
   of numbers in all->tasks. In a search (given->automatic) rules of --init that fit none of its tensors are
   left out: its desc's `init` has the others. */
mtl_model *create_model(const settings *given, corpus *all, const int *chosen, const mtl_share_desc *share);

/* Gives a new model what files say it begins with: --init-from, --vectors. told: 1: says how much it was, and
   refuses a file that has nothing. */
void begin_from_files(const settings *given, const corpus *all, mtl_model *model, int told);

#endif
