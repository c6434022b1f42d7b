/* From the files that the command line names to a corpus that is complete. */
#ifndef MTL_DATA_H
#define MTL_DATA_H

#include "corpus.h"

/* Reads a file in the form that its name and the options tell, and adds it to `sets`. */
void read_dataset(corpus *all, const char *path, int frames, dataset **sets);

/* The training data are read: from now on tasks and classes are fixed. */
void corpus_close(corpus *all);

/* Files that have no labels for any task cannot be scored. */
void need_targets(const corpus *all, const dataset *sets);

#endif
