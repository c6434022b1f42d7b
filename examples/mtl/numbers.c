#include "numbers.h"

#include <float.h>
#include <math.h>

int is_number(const char *text)
{
    double value;
    return mtl_text_number(text, strlen(text), &value);
}

mtl_real nearest_real(double value)
{
    return (mtl_real)(value > FLT_MAX ? FLT_MAX : value < -FLT_MAX ? -FLT_MAX : value);
}

void print_number(FILE *to, double value)
{
    char text[32];
    mtl_text_from_number(value, text);
    fputs(text, to);
}

void add_value(moments *of, double value)
{
    double from_mean = value - of->mean;
    of->count += 1;
    of->mean += from_mean / of->count;
    of->spread += from_mean * (value - of->mean);
}

double deviation(const moments *of)
{
    return of->count > 0 ? sqrt(of->spread / of->count) : 0;
}
