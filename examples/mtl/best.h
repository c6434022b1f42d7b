/* The preset `best`: what its rows of fields in settings.c leave to the data. */
#ifndef MTL_BEST_H
#define MTL_BEST_H

#include "corpus.h"
#include "settings.h"

/* After the training data are read: what of the words is read, heads, a language model beside the tasks, and
   what has no use here, as far as the command line does not say, with other presets nothing; then `none` of
   the command line is nothing, too. */
void choose_by_data(settings *given, const corpus *all);

/* `share` for a model of these tasks: the preset's self-attention is for tasks of steps. Where all are of
   sequences it kept rare labels from being learnt, and a task alone in a search is one trained alone. */
mtl_share_desc share_for(const settings *given, const corpus *all, const int *tasks,
                         const mtl_share_desc *share);

/* The preset's initial values, as --init has them: NULL, or [*count] rules, of which those count that fit. */
const char *const *preset_init(const settings *given, size_t *count);

#endif
