/* Kinds of column: a kind of task of the library at a level, as data files and --task name it. This table is
   all that the command knows of kinds: every other file walks its rows and asks these functions, and none
   compares with a kind. */
#ifndef MTL_COLUMNS_H
#define MTL_COLUMNS_H

#include "messages.h"

/* A figure of a report: a member of mtl_task_score. */
typedef struct figure {
    const char *title, *key;                /* for readers; in JSON, NULL: it is not there */
    size_t offset;                          /* in mtl_task_score, of a double */
    int is_share;                           /* from 0 to 1: four decimals; else six digits */
    int of_spans;                           /* it is there where tags are scored as spans */
} figure;

enum { TARGET_LABELS, TARGET_NUMBERS };     /* what the items of a task are */

typedef struct column_kind {
    const char *name;
    int task, level;                        /* MTL_TASK_*, MTL_LEVEL_* */
    int target;                             /* TARGET_* */
    int has_spans;                          /* its labels may be B-TYPE, I-TYPE and O */
    const char *meaning;                    /* of a cell, for the help */
    const char *items;                      /* what the pieces of a cell are, for messages */
    const char *answer;                     /* the key of an answer in JSON */
    const figure *figures;                  /* up to the one without a title */
} column_kind;

extern const column_kind column_kinds[];    /* up to the one without a name */

/* The kind of that name, or NULL. */
const column_kind *kind_by_name(const char *text);

/* Why there is no kind of that name; in_file: it stands in a header line. */
const char *kind_fault(const char *text, int in_file);

/* The kind of a model's task. */
const column_kind *kind_of(const mtl_task_desc *desc);

/* The kind with the same items, one for each step. */
const column_kind *kind_at_steps(const column_kind *of);

int kind_is_step(const column_kind *of);    /* an item for each token or row; else one for the sequence */
int kind_has_labels(const column_kind *of);
int kind_has_numbers(const column_kind *of);

/* "real or reals": the kinds of which `is` is true. Static memory. */
const char *kinds_that(int (*is)(const column_kind *));

/* The value of a figure; 0 when the task has none. */
int figure_value(const figure *of, const mtl_task_score *score, double *value);

#endif
