/* Messages on standard error, each beginning with "mtl: ", and the ends of the program.

   A command ends at its first error, inside fail(): nothing is written before all input has been read and the
   model has been trained, and saving is atomic, so there is never anything to undo. What a command reads
   lives until it ends.

   Every file that prints includes this header before any of libc's. */
#ifndef MTL_MESSAGES_H
#define MTL_MESSAGES_H

#ifdef _WIN32
#define __USE_MINGW_ANSI_STDIO 1            /* printf as in C99: %zu */
#endif

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mtl_rnn.h"

#if defined(__MINGW32__)
#define PRINTS(text, first) __attribute__((format(gnu_printf, text, first)))
#define EXITS __attribute__((noreturn))
#elif defined(__GNUC__) || defined(__clang__)
#define PRINTS(text, first) __attribute__((format(printf, text, first)))
#define EXITS __attribute__((noreturn))
#else
#define PRINTS(text, first)
#define EXITS
#endif

/* A line on standard error: as it is, as a warning, as a note. Formats as of printf. */
PRINTS(1, 2)
void say(const char *format, ...);

PRINTS(1, 2)
void warn(const char *format, ...);

PRINTS(1, 2)
void note(const char *format, ...);

/* Ends the program. Nothing is registered to be done at exit, and memory on the way here is the system's to
   take back. */
EXITS
void leave(int status);

/* End the program with a message: status 1; 2, a wrong command line. */
PRINTS(1, 2) EXITS
void fail(const char *format, ...);

PRINTS(1, 2) EXITS
void fail_usage(const char *format, ...);

/* Ends the program if the library has reported an error. */
void check(const mtl_error *err);

/* For results that must have arrived: a full disk, or a reader of our pipe that has gone, ends the command
   with status 1. */
void flush_output(void);

/* realloc that ends the program when there is no memory. */
void *checked_realloc(void *memory, size_t bytes);

/* A line that is written over and over on a terminal, text without a line end. The next message ends it;
   clear_progress makes way for a line to stay. */
void show_progress(const char *text);
void clear_progress(void);

#endif
