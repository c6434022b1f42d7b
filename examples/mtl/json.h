/* JSON written as it goes; setlocale is never called, so printf writes a point in every locale. */
#ifndef MTL_JSON_H
#define MTL_JSON_H

#include "messages.h"

void json_string(FILE *to, const char *text);

/* "name": with a comma before it unless it is the first; *first is cleared. */
void json_key(FILE *to, int *first, const char *text);

/* Scores and times: the digits of a float are enough. */
void json_number(FILE *to, int *first, const char *key, double value);

void json_count(FILE *to, int *first, const char *key, size_t count);

/* A number of a list. */
void json_item(FILE *to, int first, double value);

/* An object with a number for each task. */
void json_by_task(FILE *to, int *first, const char *key, const mtl_model_desc *desc, const double *values);

#endif
