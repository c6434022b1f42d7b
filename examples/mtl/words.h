/* What a model of text reads of each word: the word itself and, with --chars and --affixes, its characters,
   its first and last letters and its shape, for which it needs no training to have shown the word. */
#ifndef MTL_WORDS_H
#define MTL_WORDS_H

#include "corpus.h"
#include "settings.h"

/* The words that the model will know, word 0 stands for all others; with them the characters and parts of
   words that --chars and --affixes ask for. */
void make_vocabulary(const settings *given, corpus *all);

/* Refuses --chars and --affixes for rows of numbers, and names of --chars that there are not. */
void check_words(const settings *given);

/* The inputs of a model of text for these tasks, a growing array; adds the texts of each to *texts, and how
   often phrases are used to *uses, which last as long. */
mtl_input_desc *make_text_inputs(const settings *given, const corpus *all, const int *tasks,
                                 const char ****texts, float **uses);

#endif
