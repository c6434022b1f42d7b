/* Distillation: models of single tasks teach a joint one (born-again multi-task networks, Clark et al. 2019).
   An item's target is share * label + (1 - share) * what its teacher answers; the share of the labels grows
   over the training (teacher annealing). Items without a label have no target. */
#ifndef MTL_TEACH_H
#define MTL_TEACH_H

#include "corpus.h"
#include "settings.h"

typedef struct lesson {                     /* of one task in one data set */
    size_t task, set;                       /* their numbers */
    const int *labels;                      /* [items] or NULL */
    const mtl_real *values;                 /* [items][width] or NULL */
    mtl_real *answers, *target;             /* [items][width] the teachers' mean; what is learnt just now */
    size_t items, width, teachers;          /* teachers: how many have answered */
} lesson;

/* Adds the lessons of `task`, number `taught` of the teacher, in all data sets, and makes them the targets of
   the batches; of a task that has lessons, what it answers joins their mean. A crf learns from labels alone:
   of one there are no lessons. *lessons: a growing array. */
void add_lessons(lesson **lessons, const settings *given, const mtl_model *teacher, size_t taught,
                 mtl_batch *batches, size_t task);

/* The lessons of all --teacher models, for the model's tasks that they know. Ends the program when one of
   them has been trained on other data: its words and classes must be the model's. */
lesson *read_lessons(const settings *given, const corpus *all, const mtl_model *model, mtl_batch *batches);

/* For --set fit.curriculum=loss: the place of each sequence of each data set in the order of the teachers'
   losses, which are means over a task's items, added up. A growing array of growing arrays. */
int **rank_sequences(const lesson *lessons, const mtl_batch *batches);

/* The share of the labels after so many epochs: it grows from nothing to a half. */
double label_share(size_t done, size_t epochs);

/* Mixes what is learnt from now on. share: of the labels, 0 to 1. */
void mix_lessons(const lesson *lessons, double share);

void free_lessons(lesson *lessons);

#endif
