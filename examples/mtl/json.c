#include "json.h"

#include <math.h>

#include "numbers.h"

void json_string(FILE *to, const char *text)
{
    fputc('"', to);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') fprintf(to, "\\%c", c);
        else if (c < 0x20 || c == 0x7f) fprintf(to, "\\u%04x", c);
        else fputc(c, to);
    }
    fputc('"', to);
}

void json_key(FILE *to, int *first, const char *text)
{
    if (!*first) fputs(", ", to);
    *first = 0;
    json_string(to, text);
    fputs(": ", to);
}

void json_item(FILE *to, int first, double value)
{
    if (!first) fputs(", ", to);
    if (isfinite(value)) print_number(to, (double)nearest_real(value));
    else fputs("null", to);
}

void json_number(FILE *to, int *first, const char *key, double value)
{
    json_key(to, first, key);
    json_item(to, 1, value);
}

void json_by_task(FILE *to, int *first, const char *key, const mtl_model_desc *desc, const double *values)
{
    int inner = 1;
    size_t i;
    json_key(to, first, key);
    fputc('{', to);
    for (i = 0; i < desc->task_count; i++) json_number(to, &inner, desc->tasks[i].name, values[i]);
    fputc('}', to);
}

void json_count(FILE *to, int *first, const char *key, size_t count)
{
    json_key(to, first, key);
    fprintf(to, "%zu", count);
}
