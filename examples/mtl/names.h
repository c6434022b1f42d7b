/* Texts: cut into pieces, kept in sets, and the nearest name to a misspelt one. */
#ifndef MTL_NAMES_H
#define MTL_NAMES_H

#include "arrays.h"

#include <stdint.h>

/* Cuts text at every separator; the pieces are written over the array `pieces`. */
void split(char *text, char separator, char ***pieces);

/* Adds the pieces between commas that are not empty. */
void add_list(char ***list, const char *text);

/* Adds to a text, a growing array that ends in 0; at most 511 bytes at once. */
PRINTS(2, 3)
void add_text(char **text, const char *format, ...);

/* Distinct strings, numbered from 0 in the order in which they were added; all zero is an empty set. Every
   token of a data file is looked up here: open addressing with linear probing, at most half full, so that
   most look-ups touch one slot and one string. */
typedef struct name { const char *key; size_t value; } name;    /* value: what its owner wants counted */
typedef struct name_slot { const char *key; uint32_t hash, number; } name_slot;     /* key NULL: free */
typedef struct names {
    name *list;                             /* a growing array */
    name_slot *slots;                       /* [slot_count] a power of two */
    size_t slot_count;
    char *room;                             /* where the next string is kept */
    size_t room_bytes;                      /* that are left there */
} names;

/* Tells the processor that text[length] will be looked up soon. The slots of a large vocabulary lie in main
   memory: the look-ups of a whole sentence wait for it once instead of once for each word. */
void names_expect(const names *in, const char *text, size_t length);

/* Number of text[length], which ends in 0; it is added if it is new. */
size_t names_add(names *in, const char *text, size_t length);

/* Number of a string that ends in 0, or -1. */
ptrdiff_t names_find(const names *in, const char *text);

/* The strings of a set in their order. A growing array of the caller's. */
const char **name_list(const names *of);

/* The candidate that a wrong name was meant to be, or NULL: one that shares more with it than a letter by
   chance. Nobody means an empty text or a number by a name. */
const char *nearest_name(const char *wrong, const char *const *candidates);

/* The end of a message about a wrong name: "; did you mean X?" when one of the candidates is near, else all
   of them when they are few. Static memory. */
const char *suggestion(const char *wrong, const char *const *candidates);

/* 1 when both lists hold the same texts; NULL: a list of none. */
int same_texts(const char *const *a, const char *const *b, size_t count);

#endif
