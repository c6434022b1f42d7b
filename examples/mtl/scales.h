/* Means and deviations of features and of tasks of numbers. In this program the means go in double: a float
   counts seconds since 1970 in steps of 128. A file holds both as floats, for C programs, and every digit of
   the means as a note. */
#ifndef MTL_SCALES_H
#define MTL_SCALES_H

#include "corpus.h"

/* Index of the model's feature input, or -1. */
int feature_input(const mtl_model_desc *desc);

/* Means and scales of the training data: batches.c takes off the means, the scales are the model's. */
void find_feature_scales(corpus *all);
void find_target_scales(corpus *all);

/* Sets what the model takes off: nothing while this program feeds it; in a file floats, for C programs. */
void set_means(const corpus *all, mtl_model *model, int in_file, mtl_error *err);

/* Every digit of the means, of each feature and of each real task: the model's own are floats. */
void note_means(const corpus *all, mtl_model *model, mtl_error *err);

/* Takes over the exact means of a model that this command trained. Any other takes them off, as floats. */
void load_means(corpus *all, mtl_model *model);

/* What number j of a task's answer means in the file's own units. */
double answer_value(const task *of, size_t j, double centred);

#endif
