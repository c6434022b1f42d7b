/* Files as lines of valid UTF-8, with a position for every message.

   A byte order mark, CRLF and a last line without its newline are accepted; NUL bytes and invalid UTF-8 are
   not. Columns in messages count bytes from 1, as editors and compilers do. Cells are cut in place: a pointer
   into the line is a position. */
#ifndef MTL_SOURCE_H
#define MTL_SOURCE_H

#include "names.h"

enum { LONGEST_WORD = 10000 };              /* bytes; a longer one is no word but a file of another kind */

typedef struct source {
    const char *path;
    char *bytes;                            /* the file and a 0 */
    size_t size, next;                      /* where the next line begins */
    int is_text;                            /* all of the file is valid: no line need be checked */
    char *line;                             /* the current line, ends in 0 */
    size_t length, number;                  /* of the current line; the first is 1 */
} source;

/* where: inside the current line, or NULL for its begin. */
PRINTS(3, 4) EXITS
void fail_at(const source *in, const char *where, const char *format, ...);

/* Reads all of a file; "-" is standard input. */
source source_open(const char *path);

/* The next line; 0 at the end of the file. */
int source_line(source *in);

/* Makes the bytes [begin, begin + length) the current line, without its line end. */
void set_line(source *in, char *begin, size_t length);

/* 1 when only line ends are left. */
int source_at_end(const source *in);

/* Frees the file's bytes. */
void source_close(source *in);

/* A number as our own reader understands it, in every locale; anything else ends the program. gap: what to do
   where there is none. */
double read_number(const source *in, const char *cell, const char *what, const char *gap);

#endif
