#include "messages.h"

#include <stdarg.h>

static int progress_line_open;              /* a progress line stands unfinished on the terminal */

/* Messages quote files and cut what they quote: a character that was cut in two is left out. */
static void print_valid(const char *text)
{
    size_t left = strlen(text);
    while (left) {
        size_t valid = mtl_text_valid(text, left), next = valid + (valid < left);
        fwrite(text, 1, valid, stderr);
        text += next;
        left -= next;
    }
}

PRINTS(2, 0)
static void message(const char *kind, const char *format, va_list arguments)
{
    char text[8192];
    if (progress_line_open) putchar('\n');
    progress_line_open = 0;
    fflush(stdout);
    vsnprintf(text, sizeof text, format, arguments);
    fprintf(stderr, "mtl: %s", kind);
    print_valid(text);
    fputc('\n', stderr);
}

void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    message("", format, arguments);
    va_end(arguments);
}

void warn(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    message("warning: ", format, arguments);
    va_end(arguments);
}

void note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    message("note: ", format, arguments);
    va_end(arguments);
}

void leave(int status)
{
    fflush(stdout);
    _Exit(status);
}

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    message("", format, arguments);
    va_end(arguments);
    leave(1);
}

void fail_usage(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    message("", format, arguments);
    va_end(arguments);
    leave(2);
}

void check(const mtl_error *err)
{
    if (err->code) fail("%s", err->message);
}

void flush_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return;
    fail("standard output: %s", errno == EPIPE ? "its reader has gone; stopped" : strerror(errno));
}

void *checked_realloc(void *memory, size_t bytes)
{
    void *moved = realloc(memory, bytes);
    if (!moved) fail("out of memory: %zu bytes more are needed", bytes);
    return moved;
}

void show_progress(const char *text)
{
    printf("\r%s\033[K", text);
    progress_line_open = 1;
    fflush(stdout);
}

void clear_progress(void)
{
    if (progress_line_open) printf("\r\033[K");
    progress_line_open = 0;
}
