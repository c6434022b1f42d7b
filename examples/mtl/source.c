#include "source.h"

#include <float.h>
#include <stdarg.h>

#include "system.h"

void fail_at(const source *in, const char *where, const char *format, ...)
{
    va_list arguments;
    char text[8192];
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fail("%s:%zu:%zu: %s", in->path, in->number ? in->number : 1, where ? (size_t)(where - in->line) + 1 : 1,
         text);
}

source source_open(const char *path)
{
    enum { CHUNK = 1 << 16 };
    source in = { 0 };
    double bytes;
    size_t got;
    FILE *file = strcmp(path, "-") ? file_open(path, "rb") : stdin;
    in.path = strcmp(path, "-") ? path : "standard input";
    if (!file) fail("%s: cannot be opened: %s", in.path, strerror(errno));
    if (file != stdin && file_kind(path, &bytes) == FILE_REGULAR)
        arrsetcap(in.bytes, (size_t)bytes + CHUNK + 1);
    do {
        size_t length = arrlenu(in.bytes);
        arrsetcap(in.bytes, length + CHUNK > arrcap(in.bytes) ? 2 * length + CHUNK : arrcap(in.bytes));
        got = fread(in.bytes + length, 1, CHUNK, file);
        arrsetlen(in.bytes, length + got);
    } while (got);
    if (ferror(file)) fail("%s: cannot be read: %s", in.path, strerror(errno));
    if (file != stdin) fclose(file);
    in.size = arrlenu(in.bytes);
    arrput(in.bytes, '\0');
    in.is_text = !memchr(in.bytes, '\0', in.size) && mtl_text_valid(in.bytes, in.size) == in.size;
    if (in.size >= 3 && memcmp(in.bytes, "\xef\xbb\xbf", 3) == 0) in.next = 3;
    return in;
}

static void check_text(const source *in)
{
    const char *nul = (const char *)memchr(in->line, '\0', in->length);
    size_t valid = mtl_text_valid(in->line, in->length);
    if (nul && (size_t)(nul - in->line) <= valid)
        fail_at(in, nul, "a NUL byte; expected UTF-8 text: is this a binary file, or text in UTF-16?");
    if (valid < in->length)
        fail_at(in, in->line + valid, "invalid UTF-8 (byte 0x%02x); save the file as UTF-8",
                (unsigned char)in->line[valid]);
}

void set_line(source *in, char *begin, size_t length)
{
    in->line = begin;
    in->number++;
    if (length && begin[length - 1] == '\n') length--;
    if (length && begin[length - 1] == '\r') length--;
    in->length = length;
    if (!in->is_text) check_text(in);
    begin[length] = '\0';
}

int source_line(source *in)
{
    char *begin = in->bytes + in->next, *end;
    if (in->next >= in->size) return 0;
    end = (char *)memchr(begin, '\n', in->size - in->next);
    end = end ? end + 1 : in->bytes + in->size;
    in->next = (size_t)(end - in->bytes);
    set_line(in, begin, (size_t)(end - begin));
    return 1;
}

int source_at_end(const source *in)
{
    const char *next = in->bytes + in->next;
    while (*next == '\r' || *next == '\n') next++;
    return *next == '\0';
}

void source_close(source *in)
{
    arrfree(in->bytes);
}

double read_number(const source *in, const char *cell, const char *what, const char *gap)
{
    double value;
    if (!mtl_text_number(cell, strlen(cell), &value) || value > FLT_MAX || value < -FLT_MAX)
        fail_at(in, cell,
                "%s: '%.40s' is not a number; expected one such as 0.5 or -1e-3 (a point, no comma; not "
                "inf, not nan; within float's range), or %s",
                what, cell, gap);
    return value;
}
