/* The three forms of a data file. Each is read whole into a data set; tasks that are new are added to the
   corpus. */
#ifndef MTL_FORMATS_H
#define MTL_FORMATS_H

#include "corpus.h"

/* Task TSV (tsv.c): a header line that declares text and name:kind columns, then a row for each text. */
dataset read_tsv(corpus *all, const char *path);

/* CoNLL-U (conllu.c): ten columns, a line for each word, an empty line after each sentence. */
dataset read_conllu(corpus *all, const char *path);

/* CSV frames (csv.c): rows of numbers; a row is a step, a column names its sequence. The corpus says which
   columns are features and tasks. */
dataset read_csv(corpus *all, const char *path);

#endif
