/* The inputs that a model of text may have beside that of its words: what they read of each word. */
#ifndef MTL_PARTS_H
#define MTL_PARTS_H

#include <stddef.h>

enum { WORD_PARTS = 6 };
typedef struct word_part {
    const char *name;                       /* of the input */
    int affix;                              /* 1: --affixes asks for it; 0: --chars */
    int part, letters;                      /* as in mtl_input_desc */
    size_t least;                           /* how often what it reads must stand in the training data to be
                                               known */
} word_part;
extern const word_part word_parts[WORD_PARTS];

/* 1 when an input has this name, so that a task may not. */
int is_input_name(const char *text);

#endif
