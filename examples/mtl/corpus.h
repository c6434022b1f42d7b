/* Data sets: tokens or rows of numbers, and targets by task.

   Words and labels become numbers as they are read. The corpus numbers them over all files; once it is closed
   (the training data are read, or a model is loaded) a task that it does not know is left out and a label
   that it does not know is MTL_UNKNOWN_LABEL or, each further one, a number below: both are counted and told,
   neither is an error. */
#ifndef MTL_CORPUS_H
#define MTL_CORPUS_H

#include "columns.h"
#include "parts.h"
#include "source.h"

typedef struct task {
    const char *name;
    const column_kind *kind;
    names labels;                           /* in the order of the model's classes */
    size_t classes;                         /* how many of them there were when the corpus was closed */
    size_t items;                           /* labelled items in the training data */
    const char *path;                       /* where the task was first seen */
    int clamped;                            /* --clamp: targets and predictions are cut to [low, high] */
    double low, high;
    const char **unknown;                   /* labels that are no class, MTL_UNKNOWN_LABEL - i */
    size_t width;                           /* numbers of an item; of classes 1 */
    double *means;                          /* [width] of its numbers: taken off before the model sees them */
    mtl_real *scales;                       /* [width] and learns them divided by this; 0: all are the same */
    int *digits;                            /* [width] that answers are worth; 0: as many as a float has */
    size_t unseen;                          /* labels of the current file that are no class */
    const char *first_unseen;
    size_t first_unseen_line;
} task;

/* One task's targets in one data set: of each item a label, a set of labels, or a number (NaN: missing). */
typedef struct target {
    int task;
    int *labels;
    double *values;                         /* [items][width] */
    mtl_real *centred;                      /* as the model takes them: the values less the task's mean; or a
                                               1 for each label of a set, else 0 */
    int **sets;                             /* each ascending; MTL_MISSING alone: missing */
    unsigned *strange;                      /* of each set: how many of its labels are no class */
} target;

/* Tokens that stand beside the words, one for each: lemmas, parts of speech. An input of the model reads
   them. */
typedef struct token_column {
    const char *name;
    names words;                            /* as corpus->words */
    names vocabulary;                       /* of a new model, token 0 is "<unk>" */
} token_column;

typedef struct dataset {
    const char *path;
    size_t bytes;                           /* of the file */
    int *lengths;                           /* [B] */
    size_t rows;                            /* N */
    int *words;                             /* [N] numbers in corpus->words */
    int **tokens;                           /* [columns][N] numbers in the words of corpus->columns */
    double *features;                       /* [N][F] as they stand in the file */
    mtl_real *rows_centred;                 /* [N][F] less corpus->means, as the model takes them */
    names sequences;                        /* [B] names of the sequences of a CSV file */
    target *targets;
    mtl_input *batch_inputs;                /* what batches.c makes of it for a model */
    mtl_target *batch_targets;
    int **batch_ids;
    mtl_spellings *batch_spellings;         /* of all words of the corpus; NULL: no input reads any */
} dataset;

/* Word vectors for a new model's words. */
typedef struct word_vectors {
    size_t width;                           /* 0: there are none */
    float *rows;                            /* [vocabulary][width] */
    unsigned char *found;                   /* [vocabulary] 0: the file has none of it */
} word_vectors;

typedef struct corpus {
    task *tasks;
    names words;                            /* as they stand in the files; value: uses in training data */
    token_column *columns;                  /* what is read beside them */
    char **ranks;                           /* --ranks: labels in their order, TASK=LABEL,LABEL */
    char **only;                            /* --only: the tasks that count; empty: all */
    names left_out;                         /* the tasks of the data that it leaves out, for suggestions */
    const char *sequence;                   /* CSV: the column of sequences' names; NULL: a file is one */
    const char *sequence_by, *features_by;  /* who names these columns, for messages: "--sequence names" */
    char **features;                        /* CSV: the columns of the input; NAME? says whether NAME is
                                               missing */
    const char *gaps;                       /* what a missing feature is read as: "mean" or "last"; NULL: it
                                               is an error */
    double *means;                          /* [F] taken off before they become float; NULL: by the model */
    mtl_real *scales;                       /* [F] and what the model divides the rest by */
    size_t max_tokens;
    int closed, quiet;
    int predicts_words;                     /* 1: the model has a language model, so data need no labels */
    dataset *train, *valid;
    names vocabulary;                       /* of a new model, word 0 is "<unk>" */
    names parts[WORD_PARTS];                /* the same of its other inputs of text: words.c */
    names phrases;                          /* --gazetteer: TYPE<TAB>words; value: uses as training spans */
    word_vectors vectors;                   /* of the words of the vocabulary */
    float *unknown_chances;                 /* of the same: --word-dropout; NULL: it is not given */
} corpus;

/* The task of that name, or NULL. */
task *corpus_find(const corpus *all, const char *text);

/* The names of all tasks, for suggestions. A growing array of the caller's. */
const char **corpus_task_names(const corpus *all);

/* 1 when --only leaves the task out. */
int is_left_out(corpus *all, const char *text);

/* What is wrong with a task's name, or NULL. The model's input and column have names too, which a task may
   not take. */
const char *name_fault(const char *text);

/* Number of a task in corpus->tasks, which is added if it is new; -1: it is to be left out. where: its name
   in the header line; NULL for one that has no place of its own. */
int corpus_task(corpus *all, const source *in, const char *where, const char *text, const column_kind *kind,
                size_t width);

/* The task's kind, as a column says it: "reals" or "reals:3". Static memory, of two calls. */
const char *kind_text(const column_kind *kind, size_t width);

/* Takes over one --clamp: TASK=LOW:HIGH. */
void apply_clamp(corpus *all, const char *text);

/* The value cut to the task's range, where it has one. */
double clamp(const task *of, double value);

/* What stands behind TASK= in the last of an option's texts about a task; NULL: none is about it. */
const char *option_of(char **list, const task *of);

/* Each text of an option must be TASK=SOMETHING, of a task of such a kind. */
void check_option(const corpus *all, char **list, const char *option, const char *form,
                  int (*is)(const column_kind *));

/* 1 for tags B-TYPE, I-TYPE and O. The corpus is closed. */
int has_spans(const task *of);

/* Labels that the task has met: its classes and those that are none. */
size_t label_count(const task *of);

/* Class of a label, or MTL_UNKNOWN_LABEL - i for the i-th that is none. */
int read_label(corpus *all, task *of, const source *in, const char *text);

/* Appends the target that a cell holds for one item (a sequence or a step); missing: the item has none. */
void read_item(corpus *all, target *to, const source *in, const char *cell, int missing);

/* Number of a word among those of the text or of a column; counts it while the training data are read. */
int read_word(const corpus *all, names *words, const source *in, const char *text);

/* Number of the column of tokens of that name, -1: there is none; and of one that is added. where: its name
   in the header line, or NULL. */
int find_tokens(const corpus *all, const char *text);
int add_tokens(corpus *all, const source *in, const char *where, const char *text);

/* Adds a sequence of `steps` rows, which the caller has appended. where: for a message about its length. */
void end_sequence(const corpus *all, dataset *set, const source *in, const char *where, size_t steps);

/* At the end of a file: tells which labels the model will never get right. */
void report_unseen(corpus *all, const char *path);

/* Tells that tags which look like spans get no span F1: most are written as in some scheme, and not all as
   B-TYPE, I-TYPE and O. A letter alone convinces only as B or I: S and M may be anything. */
void report_scheme(const task *of);

#endif
