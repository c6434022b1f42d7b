/* Kinds of column: a kind of task of the library at a level, as data files and --task name it. The kinds are
   the library's own rows (mtl_kind_at); what else the command knows goes by what an item's target is. Every
   other file asks these functions, and none compares with a kind. */
#ifndef MTL_COLUMNS_H
#define MTL_COLUMNS_H

#include "messages.h"

/* What items of a target (MTL_TARGET_*) are called, by MTL_LEVEL_*. */
typedef struct target_words {
    const char *meaning[2];                 /* of a cell, for the help */
    const char *items[2];                   /* what the pieces of a cell are, for messages */
    const char *answer[2];                  /* the key of an answer in JSON */
} target_words;

typedef struct column_kind {
    const char *name;                       /* of the column; of the task's kind where files have none */
    int level;                              /* MTL_LEVEL_* */
    const mtl_task_kind *task;
    const target_words *words;
} column_kind;

/* The kinds that columns may have, from 0 on; NULL after the last. */
const column_kind *kind_number(size_t number);

/* The kind of that name, or NULL. Behind one of numbers may stand how many an item has, as in real:3: *width,
   else 1. */
const column_kind *kind_by_name(const char *text, size_t *width);

/* The kind of a model's task. */
const column_kind *kind_of(const mtl_task_desc *desc);

/* The kind of column with the same items, one for each step; NULL: there is none. */
const column_kind *kind_at_steps(const column_kind *of);

/* The same column with a head of that name ("softmax", "crf"); NULL: it cannot have one. */
const column_kind *kind_with_head(const column_kind *of, const char *head);

/* 1 when a task of this kind learns from columns of that one. */
int kind_is_read_from(const column_kind *of, const column_kind *column);

int kind_is_step(const column_kind *of);    /* an item for each token or row; else one for the sequence */
int kind_has_numbers(const column_kind *of);    /* of any size, or counts: */
int kind_has_reals(const column_kind *of);
int kind_has_counts(const column_kind *of);
int kind_has_classes(const column_kind *of);    /* of which an item has one, or any number: */
int kind_has_one_class(const column_kind *of);
int kind_has_ranks(const column_kind *of);      /* one class, and classes have an order */
int kind_has_sets(const column_kind *of);
int kind_is_made(const column_kind *of);    /* of the data themselves: no file has a column of it */

/* "real or reals": the kinds of which `is` is true; NULL: all. Static memory. */
const char *kinds_that(int (*is)(const column_kind *));

/* The value of a kind's figure, 1; 0: it is not reported. */
int figure_value(const mtl_figure *of, const mtl_task_score *score, double *value);

#endif
