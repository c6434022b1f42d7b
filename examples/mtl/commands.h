/* What main calls: each command does its work and returns the exit status. */
#ifndef MTL_COMMANDS_H
#define MTL_COMMANDS_H

#include "corpus.h"
#include "settings.h"

/* Read, create, fit, save, score. */
int command_train(const settings *given, corpus *all);

/* Scores of a model on labelled files. */
int command_eval(const settings *given, corpus *all);

/* An answer for every line of standard input, at once; or for every sequence of CSV files. */
int command_predict(const settings *given, corpus *all);

/* What is in a model file, from the field tables. */
int command_info(const settings *given);

/* A model of another program's tensors. */
int command_import(const settings *given, corpus *all);

/* A model as C constants. */
int command_export(const settings *given);

/* Every field as a Markdown page: `make reference` writes docs/reference.md with it. */
int command_reference(void);

#endif
