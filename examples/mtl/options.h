/* The command line: one table says what it may hold, and which field each option sets. */
#ifndef MTL_OPTIONS_H
#define MTL_OPTIONS_H

#include "settings.h"

/* The preset that the arguments name, or the one that they need not name. */
const char *find_preset(int count, char **arguments);

/* Sets what the arguments say; --help and wrong ones end the program. */
void parse_options(settings *given, int count, char **arguments);

/* Ends the program when options that belong together are not. */
void check_options(const settings *given);

/* Adds a line "--option=value" for each option on which the result of training depends and which sets no
   field. */
void add_options_text(char **text, const settings *given);

/* Tells before hours of training what would go wrong after them. */
void check_output(const settings *given, const char *path, const char *shown);

/* The page of `mtl --help`. */
void print_help(FILE *to);

#endif
