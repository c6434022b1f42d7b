/* What the command asks of the operating system. system.c answers for POSIX, windows.c for Windows
   (mingw-w64): there, too, paths, arguments and what is read and printed are UTF-8 with line ends as they
   are, so that files and results are the same bytes on every system. */
#ifndef MTL_SYSTEM_H
#define MTL_SYSTEM_H

#include <stddef.h>
#include <stdio.h>

/* Called first: makes a write into a closed pipe or beyond a file size limit an error like any other, not the
   program's death. Returns the arguments as UTF-8. */
char **system_begin(int *count, char **arguments);

/* fopen. */
FILE *file_open(const char *path, const char *mode);

/* What stands at a path, and its size in *bytes (NULL allowed). FILE_NONE: nothing that can be reached, and
   errno tells why; *bytes is left alone. */
enum { FILE_NONE, FILE_REGULAR, FILE_FOLDER, FILE_OTHER };
int file_kind(const char *path, double *bytes);

void file_remove(const char *path);

/* 1 when both paths lead to one existing file. */
int same_file(const char *a, const char *b);

/* 1 when files may be created in the folder; else errno tells why not. */
int folder_is_writable(const char *path);

/* The last separator of folders in a path, or NULL. */
char *last_separator(char *path);

/* The next line with its end and a 0, in *line of *capacity bytes, which grows. Returns its length, -1 at
   the end. */
ptrdiff_t read_line(char **line, size_t *capacity, FILE *file);

double clock_seconds(void);                 /* since some moment that does not change */

/* Processors that this process may use: taskset and containers give it fewer than the machine has. */
long usable_processors(void);

double machine_memory(void);                /* bytes; 0: unknown */

int output_is_terminal(void);
size_t terminal_width(void);                /* columns */

/* From now on Ctrl-C makes interrupted() true; a second one leaves at once: saving is atomic, so the old file
   is intact. */
void catch_interrupts(void);
int interrupted(void);

#endif
