/* Numbers as text and as floats, their mean and deviation. */
#ifndef MTL_NUMBERS_H
#define MTL_NUMBERS_H

#include "messages.h"

/* 1 when text is a number and nothing else. */
int is_number(const char *text);

/* The float next to a number; what lies beyond its range is cut. */
mtl_real nearest_real(double value);

/* The shortest text that reads back as the same number. */
void print_number(FILE *to, double value);

/* Mean and variance in one pass (Welford 1962): exactly 0 for a constant column. */
typedef struct moments { double count, mean, spread; } moments;

void add_value(moments *of, double value);

double deviation(const moments *of);

#endif
