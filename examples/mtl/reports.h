/* Scores for readers, for programs, and as tables of what was taken for what. */
#ifndef MTL_REPORTS_H
#define MTL_REPORTS_H

#include "scores.h"

void print_scores(const mtl_model *model, const mtl_scores *scores);

/* A table of a task's classes, and what is most often taken for what. */
void print_classes(const task *of, const size_t *confusion);

/* The object that `mtl eval --json` prints. confusion: of all->tasks; both NULL: without scores of single
   classes. */
void json_scores(FILE *to, const mtl_model *model, const mtl_scores *scores, const corpus *all,
                 size_t *const *confusion);

/* One table for each task with labels in the data, an empty line between two. */
void write_confusions(const char *path, const corpus *all, const mtl_scores *scores,
                      size_t *const *confusion);

#endif
