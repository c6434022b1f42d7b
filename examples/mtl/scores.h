/* Evaluation, with clamped answers where --clamp asks for them; and what was taken for what: a matrix of
   counts for each task with labels, rows gold and columns predicted. Rows are named by all of the task's
   labels: first its classes, then those that training has not seen. */
#ifndef MTL_SCORES_H
#define MTL_SCORES_H

#include "corpus.h"
#include "settings.h"

/* Scores of the model on data sets. scores->tasks is a growing array of the caller's. confusion: NULL, or
   what make_confusions made. */
mtl_scores evaluate(const settings *given, const corpus *all, mtl_model *model,
                    const mtl_batch *batches, size_t *const *confusion);

/* Empty matrices [tasks] for mtl_evaluate; NULL where an item has no single class, or of too many. */
size_t **make_confusions(const corpus *all, size_t tasks);

void free_confusions(size_t **list);

typedef struct class_score {
    size_t items, answers;                  /* of this label: in the data, in the predictions */
    double precision, recall, f1;           /* 0 where there is nothing to divide by */
} class_score;

/* The score of one of the task's labels. */
class_score score_class(const task *of, const size_t *confusion, size_t label);

#endif
