/* mtl: from a labelled text file to a model that a C program loads, with no C to write.

       mtl train   --data train.tsv --valid valid.tsv --out model.safetensors
       mtl eval    --model model.safetensors --data test.tsv
       echo "wake me at six" | mtl predict --model model.safetensors
       mtl info    --model model.safetensors

   Built by plain `make` (it is linked with the library, compiled once). `mtl train --help` lists the options;
   `mtl reference` prints every field that --set reaches. Exit status: 0 done, 1 failed, 2 wrong usage;
   messages go to standard error.

   The text below is in dependency order, as in the header:
        1 messages      2 names        3 sources      4 data sets    5 task TSV     6 CoNLL-U      7 CSV
                                                                     frames
        8 settings      9 options     10 batches     11 scores      12 JSON        13 train       14 eval
       15 predict      16 info        17 reference   18 main

   A command ends at its first error, inside fail(): nothing is written before all input has been read and the
   model has been trained, and saving is atomic, so there is never anything to undo. What a command reads
   lives until it ends. */

#define _POSIX_C_SOURCE 200809L
#ifdef __linux__
#define _GNU_SOURCE                         /* sched_getaffinity */
#endif

#include <ctype.h>
#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#ifdef __linux__
#include <sched.h>
#endif
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef _WIN32
#include "mtl_windows.h"
#else
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

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

/* ===========================================================================================================
   1  messages      standard error, each beginning with "mtl: "
   ======================================================================================================== */

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

PRINTS(1, 2)
static void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    message("", format, arguments);
    va_end(arguments);
}

PRINTS(1, 2)
static void warn(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    message("warning: ", format, arguments);
    va_end(arguments);
}

PRINTS(1, 2)
static void note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    message("note: ", format, arguments);
    va_end(arguments);
}

/* Ends the program. Nothing is registered to be done at exit, and memory on the way here is the system's to
   take back. */
EXITS
static void leave(int status)
{
    fflush(stdout);
    _Exit(status);
}

PRINTS(1, 2) EXITS
static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    message("", format, arguments);
    va_end(arguments);
    leave(1);
}

PRINTS(1, 2) EXITS
static void fail_usage(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    message("", format, arguments);
    va_end(arguments);
    leave(2);
}

/* Ends the program if the library has reported an error. */
static void check(const mtl_error *err)
{
    if (err->code) fail("%s", err->message);
}

/* For results that must have arrived: a full disk, or a reader of our pipe that has gone, ends the command
   with status 1. */
static void flush_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return;
    fail("standard output: %s", errno == EPIPE ? "its reader has gone; stopped" : strerror(errno));
}

static void *checked_realloc(void *memory, size_t bytes)
{
    void *moved = realloc(memory, bytes);
    if (!moved) fail("out of memory: %zu bytes more are needed", bytes);
    return moved;
}

/* ===========================================================================================================
   2  names         growing arrays (stb_ds), sets of strings, and the nearest name to a misspelt one
   ======================================================================================================== */

#if defined(__GNUC__) || defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wsign-compare"
#endif
#define STBDS_REALLOC(context, memory, bytes) checked_realloc(memory, bytes)
#define STBDS_FREE(context, memory) free(memory)
#define STB_DS_IMPLEMENTATION
#include "stb_ds.h"

#if defined(__GNUC__) || defined(__clang__)
#pragma GCC diagnostic pop
#endif

/* Distinct strings, numbered from 0 in the order in which they were added; all zero is an empty set. Every
   token of a data file is looked up here: open addressing with linear probing, at most half full, so that
   most look-ups touch one slot and one string. */
typedef struct name { const char *key; size_t value; } name;            /* value: what its owner wants
                                                                           counted */
typedef struct name_slot { const char *key; uint32_t hash, number; } name_slot;     /* key NULL: free */
typedef struct names {
    name *list;                             /* a growing array */
    name_slot *slots;                       /* [slot_count] a power of two */
    size_t slot_count;
    char *room;                             /* where the next string is kept, and how many bytes are left
                                               there */
    size_t room_bytes;
} names;

/* Eight bytes at a time; the last ones overlap those before, so that no byte is taken alone. A multiplication
   spreads the bits upwards, a shift brings them down to where they are used (as wyhash does). */
static uint32_t hash_text(const char *text, size_t length)
{
    uint64_t hash = length, piece = 0;
    uint32_t first, last;
    if (length >= 8) {
        size_t i;
        for (i = 0; i + 8 < length; i += 8) {
            memcpy(&piece, text + i, 8);
            hash = (hash ^ piece) * 0x9e3779b97f4a7c15u;
            hash ^= hash >> 32;
        }
        memcpy(&piece, text + length - 8, 8);
    } else if (length >= 4) {
        memcpy(&first, text, 4);
        memcpy(&last, text + length - 4, 4);
        piece = (uint64_t)last << 32 | first;
    } else if (length) {
        piece = (uint64_t)(unsigned char)text[0] << 16 | (uint64_t)(unsigned char)text[length / 2] << 8 |
                (unsigned char)text[length - 1];
    }
    hash = (hash ^ piece) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(hash >> 32);
}

/* The slot of a string, or the free one where it belongs. text ends in 0. */
static name_slot *names_slot(const names *in, const char *text, uint32_t hash)
{
    size_t mask = in->slot_count - 1, i = hash & mask;
    while (in->slots[i].key && (in->slots[i].hash != hash || strcmp(in->slots[i].key, text) != 0)) i = (i + 1)
        & mask;
    return &in->slots[i];
}

/* Tells the processor that text[length] will be looked up soon. The slots of a large vocabulary lie in main
   memory: the look-ups of a whole sentence wait for it once instead of once for each word. */
static void names_expect(const names *in, const char *text, size_t length)
{
#if defined(__GNUC__) || defined(__clang__)
    if (in->slot_count) __builtin_prefetch(&in->slots[hash_text(text, length) & (in->slot_count - 1)]);
#else
    (void)in, (void)text, (void)length;
#endif
}

static void names_grow(names *in)
{
    name_slot *old = in->slots;
    size_t count = in->slot_count, i, k;
    in->slot_count = count ? 2 * count : 64;
    in->slots = (name_slot *)checked_realloc(NULL, in->slot_count * sizeof *in->slots);
    memset(in->slots, 0, in->slot_count * sizeof *in->slots);
    for (i = 0; i < count; i++) {
        if (!old[i].key) continue;
        for (k = old[i].hash & (in->slot_count - 1); in->slots[k].key;) k = (k + 1) & (in->slot_count - 1);
        in->slots[k] = old[i];
    }
    free(old);
}

/* A copy of a string that lives until the program ends. */
static const char *names_keep(names *in, const char *text, size_t length)
{
    enum { ROOM = 1 << 16 };
    char *copy;
    if (in->room_bytes <= length) {
        in->room_bytes = length < ROOM ? ROOM : length + 1;
        in->room = (char *)checked_realloc(NULL, in->room_bytes);
    }
    copy = in->room;
    memcpy(copy, text, length + 1);
    in->room += length + 1;
    in->room_bytes -= length + 1;
    return copy;
}

/* Number of text[length], which ends in 0; it is added if it is new. */
static size_t names_add(names *in, const char *text, size_t length)
{
    uint32_t hash = hash_text(text, length);
    name added = { 0 };
    name_slot *slot;
    if (2 * arrlenu(in->list) >= in->slot_count) names_grow(in);
    slot = names_slot(in, text, hash);
    if (!slot->key) {
        slot->key = added.key = names_keep(in, text, length);
        slot->hash = hash;
        slot->number = (uint32_t)arrlenu(in->list);
        arrput(in->list, added);
    }
    return slot->number;
}

/* Number of insertions, deletions and replacements of a byte that turn a into b (Levenshtein 1966); long
   names are cut. */
static size_t edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 63 };
    size_t row[LONGEST + 1], rows = strlen(a), columns = strlen(b), i, j;
    if (rows > LONGEST) rows = LONGEST;
    if (columns > LONGEST) columns = LONGEST;
    for (j = 0; j <= columns; j++) row[j] = j;
    for (i = 1; i <= rows; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (j = 1; j <= columns; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[columns];
}

static int is_number(const char *text)
{
    double value;
    return mtl_text_number(text, strlen(text), &value);
}

/* The candidate that a wrong name was meant to be, or NULL: one that shares more with it than a letter by
   chance. Nobody means an empty text or a number by a name. */
static const char *nearest_name(const char *wrong, const char *const *candidates)
{
    size_t i, length = strlen(wrong), best_distance = SIZE_MAX;
    const char *best = NULL;
    for (i = 0; i < arrlenu(candidates); i++) {
        size_t distance = edit_distance(wrong, candidates[i]);
        if (!*candidates[i] || (is_number(candidates[i]) && !is_number(wrong))) continue;
        if (distance < best_distance) best_distance = distance, best = candidates[i];
    }
    return best_distance < length && best_distance <= 1 + length / 3 ? best : NULL;
}

/* The end of a message about a wrong name: "; did you mean X?" when one of the candidates is near, else all
   of them when they are few. Static memory. */
static const char *suggestion(const char *wrong, const char *const *candidates)
{
    static char text[600];
    const char *nearest = nearest_name(wrong, candidates);
    size_t i, used = 0, count = arrlenu(candidates);
    text[0] = '\0';
    if (nearest) snprintf(text, sizeof text, "; did you mean %s?", nearest);
    for (i = 0; i < count && !nearest && count <= 24; i++) {
        if (!*candidates[i]) continue;
        if (used + strlen(candidates[i]) + 8 > sizeof text) return strcat(text, ", ...");
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? ", " : "; expected ",
                                 candidates[i]);
    }
    return text;
}

/* ===========================================================================================================
   3  sources       files as lines of valid UTF-8, with a position for every message
   ===========================================================================================================
   A byte order mark, CRLF and a last line without its newline are accepted; NUL bytes and invalid UTF-8 are
   not. Columns in messages count bytes from 1, as editors and compilers do. Cells are cut in place: a pointer
   into the line is a position.
   -------------------------------------------------------------------------------------------------------- */

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
static void fail_at(const source *in, const char *where, const char *format, ...)
{
    va_list arguments;
    char text[8192];
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fail("%s:%zu:%zu: %s", in->path, in->number ? in->number : 1, where ? (size_t)(where - in->line) + 1 : 1,
         text);
}

/* Reads all of a file; "-" is standard input. */
static source source_open(const char *path)
{
    enum { CHUNK = 1 << 16 };
    source in = { 0 };
    struct stat status;
    size_t got;
    FILE *file = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    in.path = strcmp(path, "-") ? path : "standard input";
    if (!file) fail("%s: cannot be opened: %s", in.path, strerror(errno));
    if (fstat(fileno(file), &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0)
        arrsetcap(in.bytes, (size_t)status.st_size + CHUNK + 1);
    do {
        arrsetcap(in.bytes,
                  arrlenu(in.bytes) + CHUNK > arrcap(in.bytes)
                      ? 2 * arrlenu(in.bytes) + CHUNK : arrcap(in.bytes));
        got = fread(in.bytes + arrlenu(in.bytes), 1, CHUNK, file);
        arrsetlen(in.bytes, arrlenu(in.bytes) + got);
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

/* Makes the bytes [begin, begin + length) the current line, without its line end. */
static void set_line(source *in, char *begin, size_t length)
{
    in->line = begin;
    in->number++;
    if (length && begin[length - 1] == '\n') length--;
    if (length && begin[length - 1] == '\r') length--;
    in->length = length;
    if (!in->is_text) check_text(in);
    begin[length] = '\0';
}

/* The next line; 0 at the end of the file. */
static int source_line(source *in)
{
    char *begin = in->bytes + in->next, *end;
    if (in->next >= in->size) return 0;
    end = (char *)memchr(begin, '\n', in->size - in->next);
    end = end ? end + 1 : in->bytes + in->size;
    in->next = (size_t)(end - in->bytes);
    set_line(in, begin, (size_t)(end - begin));
    return 1;
}

/* 1 when only line ends are left. */
static int source_at_end(const source *in)
{
    const char *next = in->bytes + in->next;
    while (*next == '\r' || *next == '\n') next++;
    return *next == '\0';
}

static void source_close(source *in)
{
    arrfree(in->bytes);
}

/* Cuts text at every separator; the pieces are written over the array `pieces`. */
static void split(char *text, char separator, char ***pieces)
{
    char **list = *pieces;
    size_t count = 0, most = arrcap(list);
    for (;;) {
        char *end = strchr(text, separator);
        if (count == most) {
            arrsetlen(list, count);         /* what arrsetcap keeps */
            arrsetcap(list, most ? 2 * most : 64);
            most = arrcap(list);
        }
        list[count++] = text;
        if (!end) break;
        *end = '\0';
        text = end + 1;
    }
    arrsetlen(list, count);
    *pieces = list;
}

/* A number as our own reader understands it, in every locale; anything else ends the program. gap: what to do
   where there is none. */
static double read_number(const source *in, const char *cell, const char *what, const char *gap)
{
    double value;
    if (!mtl_text_number(cell, strlen(cell), &value) || value > FLT_MAX || value < -FLT_MAX)
        fail_at(in, cell,
                "%s: '%.40s' is not a number; expected one such as 0.5 or -1e-3 (a point, no comma; not "
                "inf, not nan; "
                "within float's range), or %s",
                what, cell, gap);
    return value;
}

/* ===========================================================================================================
   4  data sets     tokens or rows of numbers, and targets by task
   ===========================================================================================================
   Words and labels become numbers as they are read. The corpus numbers them over all files; once it is closed
   (the training data are read, or a model is loaded) a task that it does not know is left out and a label
   that it does not know is MTL_UNKNOWN_LABEL or, each further one, a number below: both are counted and told,
   neither is an error.
   -------------------------------------------------------------------------------------------------------- */

enum { CLASS, TAGS, REAL, REALS, KIND_COUNT };
static const char *const kind_names[KIND_COUNT] = { "class", "tags", "real", "reals" };

static int kind_is_step(int kind) { return kind == TAGS || kind == REALS; }
static int kind_is_real(int kind) { return kind == REAL || kind == REALS; }

typedef struct task {
    const char *name;
    int kind;
    names labels;                           /* in the order of the model's classes */
    size_t classes;                         /* how many of them there were when the corpus was closed */
    size_t items;                           /* labelled items in the training data */
    const char *path;                       /* where the task was first seen */
    int clamped;                            /* --clamp: targets and predictions are cut to [low, high] */
    double low, high;
    const char **unknown;                   /* labels that are no class: unknown[i] is MTL_UNKNOWN_LABEL -
                                               i */
    double mean;                            /* of a real task: taken off before the model sees targets */
    mtl_real scale;                         /* and learns them divided by this; 0: all are the same */
    int digits;                             /* that its answers are worth; 0: as many as a float has */
    size_t unseen;                          /* labels of the current file that are no class */
    const char *first_unseen;
    size_t first_unseen_line;
} task;

/* One task's targets in one data set: labels of a class task, or values of a real one (NaN: missing). */
typedef struct target {
    int task;
    int *labels;
    double *values;
    mtl_real *centred;                      /* the values less the task's mean, as the model takes them */
} target;

typedef struct dataset {
    const char *path;
    size_t bytes;                           /* of the file */
    int *lengths;                           /* [B] */
    size_t rows;                            /* N */
    int *words;                             /* [N] numbers in corpus->words */
    double *features;                       /* [N][F] as they stand in the file */
    mtl_real *rows_centred;                 /* [N][F] less corpus->means, as the model takes them */
    names sequences;                        /* [B] names of the sequences of a CSV file */
    target *targets;
    mtl_input *batch_inputs;                /* what section 10 makes of it for a model */
    mtl_target *batch_targets;
    int **batch_ids;
} dataset;

typedef struct corpus {
    task *tasks;
    names words;                            /* as they stand in the files; value: how often in the training
                                               data */
    char **only;                            /* --only: the tasks that count; empty: all */
    names left_out;                         /* the tasks of the data that it leaves out, for suggestions */
    const char *sequence;                   /* CSV: the column that names a row's sequence; NULL: a file is
                                               one sequence */
    const char *sequence_by, *features_by;  /* who names these columns, for messages: "--sequence names" */
    char **features;                        /* CSV: the columns of the input */
    double *means;                          /* [F] taken off before they become float; NULL: by the model */
    mtl_real *scales;                       /* [F] and what the model divides the rest by */
    size_t max_tokens;
    int closed, quiet;
    dataset *train, *valid;
    names vocabulary;                       /* of a new model, word 0 is "<unk>" */
} corpus;

static task *corpus_find(const corpus *all, const char *text)
{
    size_t i;
    for (i = 0; i < arrlenu(all->tasks); i++)
        if (strcmp(all->tasks[i].name, text) == 0) return &all->tasks[i];
    return NULL;
}

/* The names of all tasks, for suggestions. A growing array of the caller's. */
static const char **corpus_task_names(const corpus *all)
{
    const char **list = NULL;
    size_t i;
    for (i = 0; i < arrlenu(all->tasks); i++) arrput(list, all->tasks[i].name);
    return list;
}

static int is_listed(char **list, const char *text)
{
    size_t i;
    for (i = 0; i < arrlenu(list); i++)
        if (strcmp(list[i], text) == 0) return 1;
    return 0;
}

/* 1 when --only leaves the task out. */
static int is_left_out(corpus *all, const char *text)
{
    if (!arrlenu(all->only) || is_listed(all->only, text)) return 0;
    names_add(&all->left_out, text, strlen(text));
    return 1;
}

/* What is wrong with a task's name, or NULL. The model's input and column have names too, which a task may
   not take. */
static const char *name_fault(const char *text)
{
    static const char *const taken[] = { "text", "frames", "encoder" };
    const char *c;
    size_t i;
    for (i = 0; i < sizeof taken / sizeof *taken; i++)
        if (strcmp(text, taken[i]) == 0)
            return "is a name that the model itself uses; give the task another one";
    for (c = text; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '_' && *c != '-')
            return "may hold only letters a-z, digits, _ and -";
    return c == text ? "is empty" : c - text > 60 ? "is too long (60 letters at most)" : NULL;
}

/* Number of the kind, or -1 with the reason in *fault. */
static int kind_by_name(const char *text, const char **fault)
{
    int kind;
    for (kind = 0; kind < KIND_COUNT; kind++)
        if (strcmp(text, kind_names[kind]) == 0) return kind;
    *fault = strcmp(text, "multi") ? "is no kind of task; expected class, tags, real or reals"
                                   : "(several labels for a text) is not supported yet; leave this task out";
    return -1;
}

/* Number of a task in corpus->tasks, which is added if it is new; -1: it is to be left out. where: its name
   in the header line; NULL for one that has no place of its own. */
static int corpus_task(corpus *all, const source *in, const char *where, const char *text, int kind)
{
    const char *fault;
    task *known = corpus_find(all, text);
    task added = { 0 };
    if (is_left_out(all, text)) return -1;
    if (known && known->kind != kind)
        fail_at(in, where,
                "task %s is of kind %s here and %s in %s; expected the same kind, or another name", text,
                kind_names[kind], kind_names[known->kind], known->path);
    if (known) return (int)(known - all->tasks);
    if (all->closed) {
        warn("%s: task %s is not one that the model learns; its column is left out", in->path, text);
        return -1;
    }
    if ((fault = name_fault(text)) != NULL)
        fail_at(in, where, "the task name '%.60s' %s (columns are separated by tabs)", text, fault);
    added.name = strcpy((char *)checked_realloc(NULL, strlen(text) + 1), text);
    added.kind = kind;
    added.path = in->path;
    arrput(all->tasks, added);
    return (int)arrlenu(all->tasks) - 1;
}

/* Class of a label, or MTL_UNKNOWN_LABEL - i for the i-th that is none. */
static int read_label(corpus *all, task *of, const source *in, const char *text)
{
    size_t label, length = strlen(text);
    if (!all->closed) {
        of->items++;
        return (int)names_add(&of->labels, text, length);
    }
    label = names_add(&of->labels, text, length);
    if (label < of->classes) return (int)label;
    if (!of->unseen++) of->first_unseen = of->labels.list[label].key, of->first_unseen_line = in->number;
    label -= of->classes;
    if (label == arrlenu(of->unknown)) arrput(of->unknown, of->labels.list[of->classes + label].key);
    return MTL_UNKNOWN_LABEL - (int)label;
}

static double read_value(corpus *all, task *of, const source *in, const char *text)
{
    double value = read_number(in, text, of->name, "_ where it is missing");
    if (of->clamped) value = value < of->low ? of->low : value > of->high ? of->high : value;
    if (!all->closed) of->items++;
    return value;
}

/* Appends the target that a cell holds for one item (a sequence or a step); missing: the item has none. */
static void read_item(corpus *all, target *to, const source *in, const char *cell, int missing)
{
    task *of = &all->tasks[to->task];
    if (kind_is_real(of->kind)) {
        arrput(to->values, missing ? (double)NAN : read_value(all, of, in, cell));
        return;
    }
    if (!*cell && !missing) fail_at(in, cell, "%s: an empty label; write _ where a label is missing",
                                    of->name);
    if (!missing && strchr(cell, ' '))
        fail_at(in, cell,
                "%s: '%.40s' holds a space; expected one label (a column of kind tags has one for each "
                "token): " "write _ in place of spaces inside a label", of->name, cell);
    arrput(to->labels, missing ? MTL_MISSING : read_label(all, of, in, cell));
}

/* Number of a word; counts it while the training data are read. */
static int read_word(corpus *all, const source *in, const char *text)
{
    size_t word, length = strlen(text);
    if (!length)
        fail_at(in, text,
                "an empty token; expected tokens separated by one space each, none before the first or "
                "after the last");
    if (length > LONGEST_WORD)
        fail_at(in, text, "a token of %zu bytes; expected at most %d: are the tokens separated by spaces?",
                length, (int)LONGEST_WORD);
    word = names_add(&all->words, text, length);
    if (!all->closed) all->words.list[word].value++;
    return (int)word;
}

/* Adds a sequence of `steps` rows, which the caller has appended. where: for a message about its length. */
static void end_sequence(const corpus *all, dataset *set, const source *in, const char *where, size_t steps)
{
    if (steps > all->max_tokens)
        fail_at(in, where,
                "%zu tokens in one sequence; expected at most %zu: cut it, or allow more with --max-tokens",
                    steps, all->max_tokens);
    arrput(set->lengths, (int)steps);
    set->rows += steps;
}

/* At the end of a file: tells which labels the model will never get right. */
static void report_unseen(corpus *all, const char *path)
{
    size_t i;
    for (i = 0; i < arrlenu(all->tasks); i++) {
        task *of = &all->tasks[i];
        if (of->unseen)
            warn("%s: task %s: %zu labels unseen in training (the first is '%s' in line %zu): they count as "
                 "wrong", path,
                 of->name, of->unseen, of->first_unseen, of->first_unseen_line);
        of->unseen = 0;
    }
}

/* 1 for the tags that are scored as spans. */
static int is_bio_tag(const char *tag)
{
    return strcmp(tag, "O") == 0 || ((*tag == 'B' || *tag == 'I') && tag[1] == '-' && tag[2]);
}

/* 1 for what schemes of spans (IOBES, BILOU, BMES ..) write inside a span: a letter, alone or before -TYPE.
   */
static int is_span_tag(const char *tag)
{
    return *tag && strchr("BIESLUM", *tag) && (!tag[1] || (tag[1] == '-' && tag[2]));
}

/* Tells that tags which look like spans get no span F1: most are written as in some scheme, and not all as
   B-TYPE, I-TYPE and O. A letter alone convinces only as B or I: S and M may be anything. */
static void report_scheme(const task *of)
{
    size_t i, spans = 0, others = 0, begins = 0, looks = 0;
    const char *misfit = NULL, *first = NULL;
    for (i = 0; i < of->classes && of->kind == TAGS; i++) {
        const char *tag = of->labels.list[i].key;
        if (!misfit && !is_bio_tag(tag)) misfit = tag;
        if (strcmp(tag, "O") == 0) continue;
        if (!first) first = tag;
        spans += (size_t)is_span_tag(tag);
        others += (size_t)!is_span_tag(tag);
        begins += is_bio_tag(tag) && *tag == 'B';
        looks += is_span_tag(tag) && (tag[1] || *tag == 'B' || *tag == 'I');
    }
    if (!looks || others > spans || (!misfit && begins)) return;
    warn("%s: task %s: its tags look like spans, but '%s' %s: its score, which chooses the best epoch, "
         "is token accuracy, not span F1; write all its tags as B-TYPE (the first of a span), I-TYPE and O "
         "to have F1",
         of->path, of->name, misfit ? misfit : first,
         misfit ? "is not B-TYPE, I-TYPE or O" : "and all others begin with no B-");
}

/* ===========================================================================================================
   5  task TSV      a header line that declares text and name:kind columns, then a row for each text
   ======================================================================================================== */

enum { COLUMN_IGNORED = -1, COLUMN_TEXT = -2 };

typedef struct tsv {
    int *columns;                           /* of each column: a number in dataset->targets, or COLUMN_* */
    size_t text;                            /* the text column */
    char **cells, **pieces;
} tsv;

/* What the header cell name:kind declares: a number in dataset->targets, or COLUMN_IGNORED. */
static int read_tsv_column(corpus *all, dataset *set, const source *in, char *cell)
{
    const char *fault;
    char *colon = strchr(cell, ':');
    target added = { 0 };
    int kind;
    size_t i;
    if (!colon)
        fail_at(in, cell, "column '%.60s' has no kind; expected text, or name:kind such as %.60s:class%s",
                cell, name_fault(cell) ? "intent" : cell,
                strchr(cell, ' ') ? " (line 1 is the header line: is it missing?)" : "");
    *colon = '\0';
    /* --only may leave out a column whose kind is not supported */
    if (is_left_out(all, cell)) return COLUMN_IGNORED;
    kind = kind_by_name(colon + 1, &fault);
    if (kind < 0)
        fail_at(in, colon + 1, "column %.60s: '%.40s' %s%s", cell, colon + 1, fault,
                strcmp(colon + 1, "multi") ? "" : ": name the others with --only");
    added.task = corpus_task(all, in, cell, cell, kind);
    if (added.task < 0) return COLUMN_IGNORED;
    for (i = 0; i < arrlenu(set->targets); i++)
        if (set->targets[i].task == added.task)
            fail_at(in, cell, "task %s stands twice in the header line; remove one column", cell);
    arrput(set->targets, added);
    return (int)arrlenu(set->targets) - 1;
}

static void read_tsv_header(corpus *all, dataset *set, source *in, tsv *table)
{
    size_t i, texts = 0;
    if (!source_line(in))
        fail_at(in, NULL,
                "the file is empty; expected a header line that names the columns, e.g. "
                "text<TAB>intent:class");
    split(in->line, '\t', &table->cells);
    for (i = 0; i < arrlenu(table->cells); i++) {
        char *cell = table->cells[i];
        int is_text = strcmp(cell, "text") == 0;
        if (is_text && texts++) fail_at(in, cell, "a second text column; expected one");
        if (is_text) table->text = i;
        arrput(table->columns, is_text ? COLUMN_TEXT : read_tsv_column(all, set, in, cell));
    }
    if (!texts)
        fail_at(in, NULL,
                "no text column; expected a header line with one column named text (columns are separated "
                "by tabs)");
}

/* The tokens of a text; returns how many. */
static size_t read_tokens(corpus *all, dataset *set, const source *in, char *cell, char ***pieces)
{
    size_t i, count;
    int *words;
    if (!*cell) fail_at(in, cell, "an empty text; expected at least one token: remove the row");
    split(cell, ' ', pieces);
    count = arrlenu(*pieces);
    for (i = 0; i + 1 < count; i++) names_expect(&all->words, (*pieces)[i],
                                                 (size_t)((*pieces)[i + 1] - (*pieces)[i]) - 1);
    words = arraddnptr(set->words, count);
    for (i = 0; i < count; i++) words[i] = read_word(all, in, (*pieces)[i]);
    end_sequence(all, set, in, cell, count);
    return count;
}

/* A cell of a step task: one item for each token, or `_` for all of them. */
static void read_steps(corpus *all, target *to, const source *in, char *cell, size_t steps, char ***pieces)
{
    const task *of = &all->tasks[to->task];
    int missing = strcmp(cell, "_") == 0;
    size_t i;
    split(cell, ' ', pieces);
    if (!missing && arrlenu(*pieces) != steps)
        fail_at(in, cell,
                "%s: %zu %s for %zu tokens; expected one for each token, separated by one space, or _ for "
                "none at all",
                of->name, *cell ? arrlenu(*pieces) : 0, of->kind == TAGS ? "tags" : "numbers", steps);
    for (i = 0; i < steps; i++) {
        const char *piece = missing ? "_" : (*pieces)[i];
        read_item(all, to, in, piece, strcmp(piece, "_") == 0);
    }
}

static void read_tsv_row(corpus *all, dataset *set, source *in, tsv *table)
{
    size_t i, steps, expected = arrlenu(table->columns);
    split(in->line, '\t', &table->cells);
    if (arrlenu(table->cells) != expected)
        fail_at(in, arrlenu(table->cells) > expected ? table->cells[expected] : in->line + in->length,
                "a row of %zu cells; expected %zu, as in the header line (they are separated by tabs; _ is a "
                "missing label)%s",
                arrlenu(table->cells), expected, in->length ? "" : ": remove the empty line");
    steps = read_tokens(all, set, in, table->cells[table->text], &table->pieces);
    for (i = 0; i < expected; i++) {
        char *cell = table->cells[i];
        target *to = table->columns[i] >= 0 ? &set->targets[table->columns[i]] : NULL;
        if (to && kind_is_step(all->tasks[to->task].kind))
            read_steps(all, to, in, cell, steps, &table->pieces);
        else if (to) read_item(all, to, in, cell, strcmp(cell, "_") == 0);
    }
}

static dataset read_tsv(corpus *all, const char *path)
{
    dataset set = { 0 };
    tsv table = { 0 };
    source in = source_open(path);
    set.path = path;
    read_tsv_header(all, &set, &in, &table);
    while (!source_at_end(&in) && source_line(&in)) read_tsv_row(all, &set, &in, &table);
    if (!arrlenu(set.lengths))
        fail_at(&in, NULL, "nothing but a header line; expected at least one row below it");
    arrfree(table.columns);
    arrfree(table.cells);
    arrfree(table.pieces);
    set.bytes = in.size;
    source_close(&in);
    return set;
}

/* ===========================================================================================================
   6  CoNLL-U       ten columns, a line for each word, an empty line after each sentence
   ======================================================================================================== */

enum { CONLLU_COLUMNS = 10, CONLLU_FORM = 1, CONLLU_TASKS = 4 };
static const struct { const char *name; int cell; int underscore_is_label; } conllu_tasks[CONLLU_TASKS] = {
    { "upos", 3, 0 }, { "xpos", 4, 0 }, { "feats", 5, 1 }, { "deprel", 7, 0 },
};

/* A column makes a task at its first cell that is not `_`; one that is wholly `_` makes none. */
static void start_conllu_task(corpus *all, target *to, const source *in, int column)
{
    size_t i;
    task *of;
    to->task = corpus_task(all, in, NULL, conllu_tasks[column].name, TAGS);
    if (to->task < 0 || !conllu_tasks[column].underscore_is_label) return;
    of = &all->tasks[to->task];
    for (i = 0; i < arrlenu(to->labels); i++) to->labels[i] = read_label(all, of, in, "_");
}

enum { CONLLU_UNDECIDED = -3 };             /* no cell but `_` so far */

static void read_conllu_target(corpus *all, target *to, const source *in, int column, const char *cell)
{
    int underscore = strcmp(cell, "_") == 0;
    if (to->task == CONLLU_UNDECIDED && !underscore) start_conllu_task(all, to, in, column);
    if (to->task >= 0) read_item(all, to, in, cell, underscore && !conllu_tasks[column].underscore_is_label);
    else arrput(to->labels, MTL_MISSING);
}

/* 1 when text is the number, written without a sign or leading zeros; number > 0. */
static int is_whole(const char *text, size_t number)
{
    const char *end = text + strlen(text);
    for (; number && end > text && end[-1] == (char)('0' + number % 10); number /= 10) end--;
    return !number && end == text;
}

/* One line of a sentence; returns 1 when it is a word. */
static int read_conllu_word(corpus *all, dataset *set, const source *in, char **cells, size_t words)
{
    const char *id = cells[0];
    int column;
    if (arrlenu(cells) != CONLLU_COLUMNS)
        fail_at(in, NULL, "%zu columns; expected the 10 of CoNLL-U, separated by tabs, or an empty line "
                "between sentences (tags of another form: a task TSV with a column such as tags:tags)",
                arrlenu(cells));
    if (isdigit((unsigned char)*id) && strpbrk(id, "-.")) return 0;       /* multi-word token or empty node */
    if (!is_whole(id, words + 1))
        fail_at(in, id,
                "the word's number is '%.20s'; expected %zu (sentences are separated by an empty line)", id,
                    words + 1);
    if (!*cells[CONLLU_FORM])
        fail_at(in, cells[CONLLU_FORM], "an empty word; expected the word itself, or _");
    arrput(set->words, read_word(all, in, cells[CONLLU_FORM]));
    for (column = 0; column < CONLLU_TASKS; column++)
        read_conllu_target(all, &set->targets[column], in, column, cells[conllu_tasks[column].cell]);
    return 1;
}

static dataset read_conllu(corpus *all, const char *path)
{
    dataset set = { 0 };
    target undecided = { CONLLU_UNDECIDED, NULL, NULL, NULL };
    char **cells = NULL;
    size_t words = 0, i;
    source in = source_open(path);
    set.path = path;
    for (i = 0; i < CONLLU_TASKS; i++) arrput(set.targets, undecided);
    while (source_line(&in)) {
        if (*in.line == '#' && !words) continue;
        if (*in.line) {
            split(in.line, '\t', &cells);
            words += (size_t)read_conllu_word(all, &set, &in, cells, words);
        } else if (words) {
            end_sequence(all, &set, &in, NULL, words);
            words = 0;
        }
    }
    if (words) end_sequence(all, &set, &in, NULL, words);
    if (!arrlenu(set.lengths))
        fail_at(&in, NULL, "%s; expected sentences in CoNLL-U", in.size
                ? "no sentence" : "the file is empty");
    for (i = CONLLU_TASKS; i-- > 0;)
        if (set.targets[i].task < 0) arrfree(set.targets[i].labels), arrdel(set.targets, i);
    arrfree(cells);
    set.bytes = in.size;
    source_close(&in);
    return set;
}

/* ===========================================================================================================
   7  CSV frames    rows of numbers: a row is a step, a column names its sequence
   ===========================================================================================================
   Rows are read in the file's order and grouped afterwards, since those of one sequence need not be adjacent.
   A cell may be quoted ("a,b", "" is a quote inside). An empty cell, `_` or `nan` is a missing target; in a
   feature it is an error.
   -------------------------------------------------------------------------------------------------------- */

typedef struct csv {
    source in;
    char **cells;
    size_t columns;
    ptrdiff_t sequence;                     /* columns by their use; -1: the file has none */
    size_t *features;
    ptrdiff_t *targets;                     /* column of each of dataset->targets */
    int *row_sequence;                      /* of each row: the number of its sequence */
    size_t *rows;                           /* of each sequence: how many so far */
    size_t *lines;                          /* [sequence][target] the line that gave a sequence's target, or
                                               0 */
} csv;

/* Files of countries where a comma stands in numbers. at: a semicolon or a tab between cells. */
EXITS
static void fail_separator(const source *in, const char *at)
{
    fail_at(in, at,
            "%s between cells; expected commas, and points in numbers: tr '%s,' ',.' <FILE >NEW makes them",
            *at == ';' ? "semicolons" : "tabs", *at == ';' ? ";" : "\\t");
}

/* One cell: from `text` to the comma or the line's end, in place. Returns where the next one begins, or
   NULL. */
static char *cut_csv_cell(const source *in, char *text, char **cell)
{
    char *to, *end;
    while (*text == ' ') text++;
    if (*text != '"') {
        *cell = text;
        end = strchr(text, ',');
        if (!end) end = text + strlen(text);
        for (to = end; to > text && to[-1] == ' '; to--) { }
    } else {
        *cell = to = text + 1;
        for (end = to; *end && (*end != '"' || end[1] == '"'); end++) {
            if (*end == '"') end++;
            *to++ = *end;
        }
        if (!*end) fail_at(in, text, "a quote that does not end; expected \" before the line's end");
        end += 1 + strspn(end + 1, " ");
        if (*end == ';' || *end == '\t') fail_separator(in, end);
        if (*end && *end != ',') fail_at(in, end, "text after a closing quote; expected a comma");
    }
    text = *end ? end + 1 : NULL;
    *to = '\0';
    return text;
}

static void split_csv(csv *table)
{
    char *text = table->in.line, *cell;
    arrsetlen(table->cells, 0);
    while (text) {
        text = cut_csv_cell(&table->in, text, &cell);
        arrput(table->cells, cell);
    }
}

/* Number of the column of that name, or -1. */
static ptrdiff_t find_csv_column(const csv *table, const char *text)
{
    size_t i;
    for (i = 0; i < arrlenu(table->cells); i++)
        if (strcmp(table->cells[i], text) == 0) return (ptrdiff_t)i;
    return -1;
}

/* The header line lacks a column: tells why, as far as the line shows it. who: "--task names". */
EXITS
static void fail_csv_column(const csv *table, const char *text, const char *who)
{
    const char *const *cells = (const char *const *)table->cells;
    const char *number = NULL, *separator = NULL;
    int first_unnamed = !*cells[0];
    size_t i, separators = 0;
    for (i = 0; i < table->columns; i++) {
        const char *at = cells[i];
        if (!number && is_number(at)) number = at;
        for (; (at = strpbrk(at, ";\t")) != NULL; at++, separators++)
            if (!separators) separator = at;
    }
    if (strncmp(cells[0], "sep=", 4) == 0)
        fail_at(&table->in, NULL, "%.10s is no header line but a hint for another program; remove this line",
                cells[0]);
    if (separators >= table->columns) fail_separator(&table->in, separator);
    if (number && !is_number(text) && !nearest_name(text, cells))
        fail_at(&table->in, number, "no column %s, which %s; line 1 holds the number %.20s: is the header "
                "line missing? Put a line with the columns' names above it", text, who, number);
    fail_at(&table->in, NULL, "no column %s, which %s%s%s", text, who, suggestion(text, cells),
            first_unnamed ? " (the first column has no name: give it one in this line)" : "");
}

static size_t need_csv_column(const csv *table, const char *text, const char *who)
{
    ptrdiff_t found = find_csv_column(table, text);
    if (found < 0) fail_csv_column(table, text, who);
    return (size_t)found;
}

static void read_csv_header(const corpus *all, dataset *set, csv *table)
{
    size_t i, j;
    if (!source_line(&table->in))
        fail_at(&table->in, NULL, "the file is empty; expected a header line that names the columns");
    split_csv(table);
    table->columns = arrlenu(table->cells);
    for (i = 0; i < table->columns; i++)
        for (j = i + 1; j < table->columns && *table->cells[i]; j++)
            if (strcmp(table->cells[i], table->cells[j]) == 0)
                fail_at(&table->in, table->cells[j],
                        "column %.60s stands twice in the header line; rename one", table->cells[j]);
    table->sequence = all->sequence ? (ptrdiff_t)need_csv_column(table, all->sequence, all->sequence_by) : -1;
    for (i = 0; i < arrlenu(all->features); i++)
        arrput(table->features, need_csv_column(table, all->features[i], all->features_by));
    for (i = 0; i < arrlenu(all->tasks); i++) {
        target added = { 0 };
        const char *wanted = all->tasks[i].name;
        ptrdiff_t column = all->closed ? find_csv_column(table, wanted)
                                       : (ptrdiff_t)need_csv_column(table, wanted, "--task names");
        added.task = (int)i;
        if (column < 0) continue;
        if (!all->closed) all->tasks[i].path = set->path;
        arrput(table->targets, column);
        arrput(set->targets, added);
    }
}

/* Number of the row's sequence; a new one gets empty targets. */
static size_t read_csv_sequence(const corpus *all, dataset *set, csv *table)
{
    const char *text = table->sequence >= 0 ? table->cells[table->sequence] : set->path;
    size_t known = arrlenu(set->sequences.list), sequence, i;
    if (!*text)
        fail_at(&table->in, text, "an empty cell in column %s; expected the name of the row's sequence",
                all->sequence);
    sequence = names_add(&set->sequences, text, strlen(text));
    for (i = 0; i < arrlenu(set->targets) && sequence == known; i++) arrput(table->lines, 0);
    if (sequence == known) arrput(table->rows, 0);
    for (i = 0; i < arrlenu(set->targets) && sequence == known; i++) {
        int kind = all->tasks[set->targets[i].task].kind;
        if (kind == CLASS) arrput(set->targets[i].labels, MTL_MISSING);
        if (kind == REAL) arrput(set->targets[i].values, (double)NAN);
    }
    if (++table->rows[sequence] > all->max_tokens)
        fail_at(&table->in, table->sequence >= 0 ? text : NULL,
                "more than %zu rows in sequence %.60s; cut it, or allow more with --max-tokens",
                    all->max_tokens, text);
    return sequence;
}

static int same_text(const char *a, const char *b)
{
    for (; *a && tolower((unsigned char)*a) == tolower((unsigned char)*b); a++, b++) { }
    return *a == *b;
}

static int csv_is_missing(const char *cell)
{
    return !*cell || strcmp(cell, "_") == 0 || same_text(cell, "nan");
}

/* A sequence's only target: the first row that has it gives it, further ones must agree. */
static void read_csv_sequence_target(corpus *all, dataset *set, csv *table, size_t which, size_t sequence,
                                     const char *cell)
{
    target *to = &set->targets[which], one = { 0 };
    task *of = &all->tasks[to->task];
    size_t *line = &table->lines[sequence * arrlenu(set->targets) + which], counted = of->items;
    int agrees;
    if (csv_is_missing(cell)) return;
    one.task = to->task;
    read_item(all, &one, &table->in, cell, 0);
    if (of->kind == CLASS) {
        agrees = !*line || to->labels[sequence] == one.labels[0];
        to->labels[sequence] = one.labels[0];
    } else {
        agrees = !*line || !(to->values[sequence] < one.values[0] || to->values[sequence] > one.values[0]);
        to->values[sequence] = one.values[0];
    }
    if (!agrees)
        fail_at(&table->in, cell,
                "%s: '%.40s' differs from the value in line %zu; a task of kind %s has one value for the "
                "whole "
                "sequence (kind %s: one for each row)",
                of->name, cell, *line, kind_names[of->kind], of->kind == CLASS ? "tags" : "reals");
    if (*line) of->items = counted;
    else *line = table->in.number;
    arrfree(one.labels);
    arrfree(one.values);
}

static void read_csv_row(corpus *all, dataset *set, csv *table)
{
    size_t i, sequence;
    const source *in = &table->in;
    split_csv(table);
    if (arrlenu(table->cells) != table->columns)
        fail_at(in, arrlenu(table->cells) > table->columns
                ? table->cells[table->columns] : in->line + in->length,
                    "a row of %zu cells; expected %zu, as in the header line (cells are separated by commas; "
                "numbers have a point, and \" stands around a text with a comma)",
                arrlenu(table->cells), table->columns);
    sequence = read_csv_sequence(all, set, table);
    arrput(table->row_sequence, (int)sequence);
    for (i = 0; i < arrlenu(table->features); i++) {
        const char *cell = table->cells[table->features[i]];
        if (csv_is_missing(cell))
            fail_at(in, cell, "feature %s: '%s' where a number was expected; a feature may not be missing: "
                    "fill it in, or remove the row", all->features[i], cell);
        arrput(set->features,
               read_number(in, cell, all->features[i], "remove the row: a feature may not be missing"));
    }
    for (i = 0; i < arrlenu(set->targets); i++) {
        const char *cell = table->cells[table->targets[i]];
        if (kind_is_step(all->tasks[set->targets[i].task].kind))
            read_item(all, &set->targets[i], in, cell, csv_is_missing(cell));
        else read_csv_sequence_target(all, set, table, i, sequence, cell);
    }
}

/* Rows in the order of their sequences: order[k] is the row that becomes the k-th. Fills set->lengths. */
static size_t *group_rows(const corpus *all, dataset *set, const csv *table)
{
    size_t i, sum = 0, sequences = arrlenu(set->sequences.list), rows = arrlenu(table->row_sequence),
        *order = NULL, *next = NULL;
    arrsetlen(next, sequences);
    arrsetlen(order, rows);
    for (i = 0; i < sequences; i++) {
        const size_t length = table->rows[i];
        end_sequence(all, set, &table->in, NULL, length);
        next[i] = sum;
        sum += length;
    }
    for (i = 0; i < rows; i++) order[next[table->row_sequence[i]]++] = i;
    arrfree(next);
    return order;
}

/* Puts the rows of all step arrays in that order. */
static void reorder_rows(const corpus *all, dataset *set, const size_t *order)
{
    size_t i, k, f, rows = arrlenu(order), width = arrlenu(all->features);
    double *features = NULL;
    arrsetlen(features, rows * width);
    for (k = 0; k < rows; k++)
        for (f = 0; f < width; f++) features[k * width + f] = set->features[order[k] * width + f];
    arrfree(set->features);
    set->features = features;
    for (i = 0; i < arrlenu(set->targets); i++) {
        target *of = &set->targets[i], moved = { 0 };
        if (!kind_is_step(all->tasks[of->task].kind)) continue;
        moved.task = of->task;
        for (k = 0; k < rows && of->labels; k++) arrput(moved.labels, of->labels[order[k]]);
        for (k = 0; k < rows && of->values; k++) arrput(moved.values, of->values[order[k]]);
        arrfree(of->labels);
        arrfree(of->values);
        *of = moved;
    }
}

static dataset read_csv(corpus *all, const char *path)
{
    dataset set = { 0 };
    csv table = { 0 };
    size_t *order;
    set.path = path;
    table.in = source_open(path);
    read_csv_header(all, &set, &table);
    while (!source_at_end(&table.in) && source_line(&table.in)) read_csv_row(all, &set, &table);
    if (!arrlenu(table.row_sequence))
        fail_at(&table.in, NULL, "nothing but a header line; expected at least one row below it");
    order = group_rows(all, &set, &table);
    reorder_rows(all, &set, order);
    arrfree(order);
    arrfree(table.cells);
    arrfree(table.features);
    arrfree(table.targets);
    arrfree(table.row_sequence);
    arrfree(table.rows);
    arrfree(table.lines);
    set.bytes = table.in.size;
    source_close(&table.in);
    return set;
}

static int ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static int is_conllu(const char *path)
{
    return ends_with(path, ".conllu") || ends_with(path, ".conll");
}

#ifndef _WIN32
static double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
#endif

enum { LARGE_FILE = 16000000 };             /* bytes from which on a user may wonder how long reading takes */

static void report_read(const corpus *all, const dataset *set, double seconds)
{
    if (set->bytes >= LARGE_FILE && !all->quiet) say("%s: %.1f MB read in %.3f s", set->path,
                                                     (double)set->bytes * 1e-6, seconds);
}

/* Reads a file in the form that its name and the options tell, and adds it to `sets`. */
static void read_dataset(corpus *all, const char *path, int frames, dataset **sets)
{
    double begin = clock_seconds();
    dataset set;
    if (!frames && ends_with(path, ".csv"))
        fail_usage("%s: CSV files hold rows of numbers: give them with --frames, --features and --task; "
                   "labelled texts stand in a task TSV, whose cells are separated by tabs", path);
    if (frames) set = read_csv(all, path);
    else if (is_conllu(path)) set = read_conllu(all, path);
    else set = read_tsv(all, path);
    report_read(all, &set, clock_seconds() - begin);
    report_unseen(all, path);
    arrput(*sets, set);
}

/* The columns of all tasks as a header line has them: with their kind in a task TSV. A growing array. */
static const char **columns_of_tasks(const corpus *all)
{
    const char **list = NULL;
    size_t i;
    for (i = 0; i < arrlenu(all->tasks); i++) {
        const task *of = &all->tasks[i];
        size_t size = strlen(of->name) + 8;
        char *text = (char *)checked_realloc(NULL, size);
        if (all->features) snprintf(text, size, "%s", of->name);
        else snprintf(text, size, "%s:%s", of->name, kind_names[of->kind]);
        arrput(list, text);
    }
    return list;
}

/* The labelled tasks, for --only: "intent,slots". Static memory; "" when there are none. */
static const char *labelled_tasks(const corpus *all)
{
    static char text[600];
    size_t i, used = 0;
    text[0] = '\0';
    for (i = 0; i < arrlenu(all->tasks) && used < sizeof text; i++)
        if (all->tasks[i].items)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? "," : "",
                                     all->tasks[i].name);
    return text;
}

/* Files that have no labels for any task cannot be scored. */
static void need_targets(const corpus *all, const dataset *sets)
{
    size_t i, targets = 0;
    for (i = 0; i < arrlenu(sets); i++) targets += arrlenu(sets[i].targets);
    if (arrlenu(sets) && !targets)
        fail("%s:1:1: no column for any task of the model%s", sets[0].path,
             suggestion("", columns_of_tasks(all)));
}

/* The training data are read: from now on tasks and classes are fixed. */
static void corpus_close(corpus *all)
{
    size_t i;
    const char **known = corpus_task_names(all);
    all->closed = 1;
    for (i = 0; i < arrlenu(all->left_out.list); i++) arrput(known, all->left_out.list[i].key);
    for (i = 0; i < arrlenu(all->only); i++)
        if (!corpus_find(all, all->only[i]))
            fail("--only %s: no such task in the data%s", all->only[i], suggestion(all->only[i], known));
    if (!arrlenu(all->tasks))
        fail("%s:1:1: no task to learn; expected %s", all->train[0].path,
             is_conllu(all->train[0].path) ? "labels in one of the columns UPOS, XPOS, FEATS and DEPREL"
                                           : "a column such as intent:class in the header line");
    for (i = 0; i < arrlenu(all->tasks); i++) {
        task *of = &all->tasks[i];
        if (!of->items)
            fail("%s:1:1: task %s has no labels at all in the training data; label some%s%s", of->path,
                 of->name, *labelled_tasks(all) ? ", or leave it out with --only " : "", labelled_tasks(all));
        of->classes = arrlenu(of->labels.list);
        report_scheme(of);
    }
    arrfree(known);
}

/* ===========================================================================================================
   8  settings      what the command line says, in the library's own descs
   ======================================================================================================== */

enum { TRAIN = 1, EVAL = 2, PREDICT = 4, INFO = 8, READING = TRAIN | EVAL | PREDICT };
static const struct { int command; const char *name, *summary; } commands[] = {
    { TRAIN,   "train",   "learns the tasks of labelled files and writes a model" },
    { EVAL,    "eval",    "scores a model on labelled files" },
    { PREDICT, "predict",
        "answers each line of standard input at once with a line: the text and each task's answer" },
    { INFO,    "info",    "shows what is in a model file; status 1 if it is not a valid model" },
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

/* A field of a task, to be set when the task is known. */
typedef struct assignment {
    const char *option, *text;              /* as they stand on the command line */
    char *task;                             /* "*": every task */
    const mtl_field *field;
} assignment;

typedef struct settings {
    int command;
    int json, quiet;
    long long min_count, max_tokens;
    char **data, **valid, **frames, **only, **features, **tasks, **clamps, **class_weights;
    const char *out, *model_path, *score, *log, *sequence, *preset, *confusion;
    assignment *assignments;
    mtl_input_desc input;                   /* of a text input */
    mtl_input_desc frames_input;            /* of a rows-of-numbers input */
    mtl_column_desc encoder;
    mtl_model_desc model;
    mtl_trainer_desc trainer;
    mtl_fit_desc fit;
    mtl_predictor_desc predictor;
} settings;

/* The groups of fields that --set reaches. Tasks have no member here: theirs are kept as assignments. */
typedef struct group { const char *name; int desc; size_t offset; const char *what; } group;
static const group groups[] = {
    { "input",     MTL_DESC_INPUT,     offsetof(settings, input),        "the text input" },
    { "frames",    MTL_DESC_INPUT,     offsetof(settings, frames_input), "the input of rows of numbers" },
    { "encoder",   MTL_DESC_COLUMN,    offsetof(settings, encoder),
        "the recurrent layers that all tasks share" },
    { "task",      MTL_DESC_TASK,      0,
        "a task: task.NAME.weight=2, or task.*.weight for all" },
    { "model",     MTL_DESC_MODEL,     offsetof(settings, model),        "the model as a whole" },
    { "trainer",   MTL_DESC_TRAINER,   offsetof(settings, trainer),      "the update rule" },
    { "fit",       MTL_DESC_FIT,       offsetof(settings, fit),          "the training loop" },
    { "predictor", MTL_DESC_PREDICTOR, offsetof(settings, predictor),    "evaluation and prediction" },
};
enum { GROUP_COUNT = sizeof groups / sizeof *groups };

/* Fields that the data or the command line's own options decide. */
static const char *const decided_fields[] = { "input.vocabulary", "input.features", "frames.vocabulary",
    "frames.features",
                                              "task.kind",        "task.level",     "task.classes",
                                                  "task.width" };

/* The textbook model: DESIGN section 8. */
typedef struct preset_row { const char *path, *text; } preset_row;
static const preset_row preset_plain[] = {
    { "input.width", "128" }, { "input.dropout", "0.3" }, { "encoder.cell", "lstm" },
        { "encoder.bidirectional", "1" },
    { "encoder.hidden", "128" }, { "encoder.dropout", "0.3" }, { "task.*.pool", "max" },
        { "trainer.optimizer", "adam" },
    { "trainer.lr", "0.001" }, { "trainer.clip_norm", "5" }, { "fit.epochs", "12" }, { "fit.batch", "32" },
};

static const group *find_group(const char *text, size_t length)
{
    size_t i;
    for (i = 0; i < GROUP_COUNT; i++)
        if (strlen(groups[i].name) == length && memcmp(groups[i].name, text, length) == 0) return &groups[i];
    return NULL;
}

static const mtl_field *find_field(const group *in, const char *text)
{
    size_t i, count;
    const mtl_field *fields = mtl_fields(in->desc, &count);
    for (i = 0; i < count; i++)
        if (strcmp(fields[i].name, text) == 0) return &fields[i];
    return NULL;
}

/* The part of a path after its group, and after the task's name in task.NAME.field. */
static const char *field_name(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

/* 1 when the data, not --set, decide the field. */
static int is_decided(const group *in, const char *field)
{
    char path[80];
    size_t i;
    snprintf(path, sizeof path, "%s.%s", in->name, field);
    for (i = 0; i < sizeof decided_fields / sizeof *decided_fields; i++)
        if (strcmp(path, decided_fields[i]) == 0) return 1;
    return 0;
}

EXITS
static void fail_path(const char *option, const char *path, const group *in)
{
    const char **candidates = NULL;
    char before[60];
    size_t i, count = 0;
    const mtl_field *fields = in ? mtl_fields(in->desc, &count) : NULL;
    for (i = 0; i < count; i++)
        if (!is_decided(in, fields[i].name)) arrput(candidates, fields[i].name);
    for (i = 0; i < GROUP_COUNT && !in; i++) arrput(candidates, groups[i].name);
    if (in && !strchr(path, '.'))
        fail_usage("%s %s: is a group; name one of its fields, as in %s.FIELD=VALUE%s", option, path,
                   in->desc == MTL_DESC_TASK ? "task.NAME" : in->name, suggestion("", candidates));
    if (in)
        fail_usage("%s %s: %s has no field '%.60s'%s", option, path, in->name, field_name(path),
                   suggestion(field_name(path), candidates));
    snprintf(before, sizeof before, "%.*s", (int)strcspn(path, "."), path);
    fail_usage("%s %s: expected GROUP.FIELD=VALUE, and '%s' is no group of fields%s", option, path, before,
               suggestion(before, candidates));
}

/* Group and field of "encoder.hidden" or "task.intent.weight"; wrong ones end the program. */
static const mtl_field *resolve_path(const char *option, const char *path, const group **in)
{
    const mtl_field *field;
    *in = find_group(path, strcspn(path, "."));
    if (!*in) fail_path(option, path, NULL);
    field = find_field(*in, field_name(path));
    if (!field) fail_path(option, path, *in);
    if ((*in)->desc == MTL_DESC_TASK && strchr(path, '.') == strrchr(path, '.'))
        fail_usage("%s %s: which task? expected task.NAME.%s, or task.*.%s for all of them", option, path,
                   field->name, field->name);
    if (is_decided(*in, field->name))
        fail_usage("%s %s: this is known from the data and cannot be set", option, path);
    return field;
}

/* Sets a member of `desc` from the command line's text. */
static void set_member(const char *option, const mtl_field *field, void *desc, const char *text)
{
    mtl_error err = { 0 };
    double number;
    int out_of_range;
    if (!mtl_field_set(field, desc, text, &err)) return;
    out_of_range = mtl_text_number(text, strlen(text), &number) && !strstr(err.message, "whole number");
    fail_usage("%s %s: %s%s", option, text, out_of_range ? "out of range: " : "", err.message);
}

/* Keeps a task's field for the time when the task is known; the value is checked now. */
static void assign_task_field(settings *given, const char *option, const char *path, const mtl_field *field,
                              const char *text)
{
    const char *begin = strchr(path, '.') + 1, *end = strrchr(path, '.');
    mtl_task_desc scratch = { 0 };
    assignment added;
    set_member(option, field, &scratch, text);
    added.option = option;
    added.text = text;
    added.field = field;
    added.task = (char *)checked_realloc(NULL, (size_t)(end - begin) + 1);
    memcpy(added.task, begin, (size_t)(end - begin));
    added.task[end - begin] = '\0';
    arrput(given->assignments, added);
}

/* Sets a field by its path. */
static void set_field(settings *given, const char *option, const char *path, const char *text)
{
    const group *in;
    const mtl_field *field = resolve_path(option, path, &in);
    if (in->desc == MTL_DESC_TASK) assign_task_field(given, option, path, field, text);
    else set_member(option, field, (char *)given + in->offset, text);
}

#ifndef _WIN32
/* Processors that this process may use: taskset and containers give it fewer than the machine has. */
static long usable_processors(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    return sysconf(_SC_NPROCESSORS_ONLN);
}

static double machine_memory(void) { return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE); }
#endif

static void settings_init(settings *given, int command)
{
    size_t i;
    char threads[24];
    long processors = usable_processors();
    memset(given, 0, sizeof *given);
    given->command = command;
    given->min_count = 1;
    given->max_tokens = 10000;
    given->preset = "plain";
    snprintf(threads, sizeof threads, "%ld", processors < 1 ? 1 : processors > 1024 ? 1024 : processors);
    set_field(given, "--threads", "trainer.threads", threads);
    set_field(given, "--threads", "predictor.threads", threads);
    for (i = 0; i < sizeof preset_plain / sizeof *preset_plain; i++)
        set_field(given, "--preset plain", preset_plain[i].path, preset_plain[i].text);
}

/* ===========================================================================================================
   9  options       one table: what the command line may say, and which field each option sets
   ======================================================================================================== */

enum {
    SWITCH,                                 /* int at offset, no argument */
    TEXT,                                   /* const char * */
    COUNT,                                  /* long long, at least 1 */
    FILES,                                  /* char ** that grows: may be repeated */
    LIST,                                   /* char ** that grows: separated by commas, may be repeated */
    FIELD,                                  /* the fields named */
    FIELD_SWITCH,                           /* the same, set to 1, no argument */
    TASK_FIELD,                             /* TASK=VALUE for a field of one task */
    SET                                     /* PATH=VALUE */
};
typedef struct option {
    const char *name, *argument;
    int commands, takes;
    size_t offset;                          /* of the settings member */
    const char *fields;                     /* "encoder.hidden", several separated by spaces */
    const char *help;                       /* NULL: the first field's own help, default and range */
} option;

#define MEMBER(member) offsetof(settings, member), NULL
#define FIELDS(paths) 0, paths
#define TRAIN_FIELD(name, argument, path) { name, argument, TRAIN, FIELD, 0, path, NULL }
static const option options[] = {
    { "--data", "FILE", TRAIN | EVAL, FILES, MEMBER(data),
      "labelled text: task TSV, or CoNLL-U when its name ends in .conllu; may be repeated" },
    { "--valid", "FILE", TRAIN, FILES, MEMBER(valid),
      "the same, to score after each epoch and keep the best; may be repeated" },
    { "--out", "FILE", TRAIN, TEXT, MEMBER(out), "the model file to write (safetensors)" },
    { "--model", "FILE", EVAL | PREDICT | INFO, TEXT, MEMBER(model_path), "the model file" },
    { "--only", "TASK,TASK", TRAIN | EVAL, LIST, MEMBER(only), "these tasks alone" },
    { "--frames", "FILE", READING, FILES, MEMBER(frames),
      "rows of numbers in CSV instead of text (--valid is CSV then, too)" },
    { "--sequence", "COLUMN", READING, TEXT, MEMBER(sequence),
      "CSV: the column that names a row's sequence; without it a file is one" },
    { "--features", "A,B,C", READING, LIST, MEMBER(features), "CSV: the columns that are the input" },
    { "--task", "NAME:KIND", TRAIN | EVAL, FILES, MEMBER(tasks),
      "CSV: a column to learn, of kind class, tags, real or reals; may be repeated" },
    { "--clamp", "TASK=LOW:HIGH", READING, FILES, MEMBER(clamps),
      "cuts a real task's targets and answers to this range" },
    TRAIN_FIELD("--cell", "rnn|gru|lstm", "encoder.cell"),
    { "--dir", "uni|bi", TRAIN, FIELD, FIELDS("encoder.bidirectional"),
      "one direction, or a second one that reads from the end [bi]" },
    TRAIN_FIELD("--hidden", "N", "encoder.hidden"),
    TRAIN_FIELD("--layers", "N", "encoder.layers"),
    TRAIN_FIELD("--embed", "N", "input.width"),
    { "--pool", "last|mean|max", TRAIN, FIELD, FIELDS("task.*.pool"),
      "how a sequence's rows become one, for class and real tasks [max]" },
    { "--weight", "TASK=X", TRAIN, TASK_FIELD, FIELDS("task.*.weight"), NULL },
    { "--class-weights", "TASK=WEIGHTS", TRAIN, FILES, MEMBER(class_weights),
      "of its classes: balanced (as if all were equally frequent), or LABEL:X,LABEL:X (the others: 1)" },
    { "--dropout", "X", TRAIN, FIELD, FIELDS("input.dropout encoder.dropout"),
      "share of the embeddings and of the encoder's outputs dropped in training [0.3]" },
    { "--min-count", "N", TRAIN, COUNT, MEMBER(min_count),
      "words that occur less often in the training data are unknown words [1]" },
    { "--lowercase", NULL, TRAIN, FIELD_SWITCH, FIELDS("input.lowercase"), NULL },
    { "--digits", NULL, TRAIN, FIELD_SWITCH, FIELDS("input.digits"), NULL },
    { "--max-tokens", "N", READING, COUNT, MEMBER(max_tokens), "longest sequence allowed [10000]" },
    TRAIN_FIELD("--optimizer", "sgd|rmsprop|adam|adamw", "trainer.optimizer"),
    TRAIN_FIELD("--lr", "X", "trainer.lr"),
    TRAIN_FIELD("--schedule", "NAME", "trainer.schedule"),
    TRAIN_FIELD("--clip-norm", "X", "trainer.clip_norm"),
    TRAIN_FIELD("--clip-value", "X", "trainer.clip_value"),
    TRAIN_FIELD("--l1", "X", "trainer.l1"),
    TRAIN_FIELD("--l2", "X", "trainer.l2"),
    TRAIN_FIELD("--epochs", "N", "fit.epochs"),
    TRAIN_FIELD("--batch", "N", "fit.batch"),
    TRAIN_FIELD("--patience", "N", "fit.patience"),
    TRAIN_FIELD("--sampler", "NAME", "fit.sampler"),
    { "--score", "TASK", TRAIN, TEXT, MEMBER(score),
      "the task whose validation score decides; without it the mean over tasks" },
    { "--seed", "N", TRAIN, FIELD, FIELDS("model.seed trainer.seed fit.seed"),
      "of the initial values, dropout and the order of the data [1]" },
    { "--preset", "plain", TRAIN, TEXT, MEMBER(preset),
      "a set of values for all of these; single options change it [plain]" },
    { "--set", "GROUP.FIELD=VALUE", READING, SET, FIELDS(NULL),
      "any field, e.g. encoder.forget_bias=1; `mtl reference` lists them all" },
    { "--threads", "N", READING, FIELD, FIELDS("trainer.threads predictor.threads"),
      "processors to use; results do not depend on it [all]" },
    TRAIN_FIELD("--precision", "f32|bf16", "trainer.precision"),
    { "--isa", "NAME", READING, FIELD, FIELDS("trainer.isa predictor.isa"), NULL },
    { "--log", "FILE", TRAIN, TEXT, MEMBER(log), "writes a JSON object for each epoch" },
    { "--quiet", NULL, TRAIN, SWITCH, MEMBER(quiet), "prints nothing but warnings and errors" },
    { "--confusion", "FILE", EVAL, TEXT, MEMBER(confusion),
      "writes what was taken for what: a table for each class and tags task, rows gold, columns predicted" },
    { "--json", NULL, EVAL | PREDICT | INFO, SWITCH, MEMBER(json), "answers in JSON" },
};
enum { OPTION_COUNT = sizeof options / sizeof *options };

static const char *command_name(int command)
{
    size_t i;
    for (i = 0; i < COMMAND_COUNT; i++)
        if (commands[i].command == command) return commands[i].name;
    return "";
}

/* "(default; choices or range)" of an option's first field, as the preset leaves it. out[200]. */
static char *describe_field(const settings *given, const option *of, char *out)
{
    char path[80], value[64] = "", range[100] = "";
    const group *in;
    const mtl_field *field;
    size_t used = 0;
    snprintf(path, sizeof path, "%.*s", (int)strcspn(of->fields, " "), of->fields);
    field = resolve_path(of->name, path, &in);
    if (in->desc != MTL_DESC_TASK) mtl_field_get(field, (const char *)given + in->offset, value,
                                                 sizeof value);
    if (field->choices && !strchr(of->argument, '|')) {
        const mtl_choice *choice;
        for (choice = field->choices; choice->name && used < sizeof range; choice++)
            used += (size_t)snprintf(range + used, sizeof range - used, "%s%s", used ? "|" : ": ",
                                     choice->name);
    }
    snprintf(out, 300, "%s%s%s%s%s", field->help, range, *value && of->argument ? " [" : "", of->argument
             ? value : "", *value && of->argument ? "]" : "");
    return out;
}

static void print_command_help(int command)
{
    static settings plain;
    size_t i;
    char left[48], text[300];
    settings_init(&plain, command);
    for (i = 0; i < COMMAND_COUNT; i++)
        if (commands[i].command == command) printf("mtl %s: %s\n\nOptions:\n", commands[i].name,
                                                   commands[i].summary);
    for (i = 0; i < OPTION_COUNT; i++) {
        const option *of = &options[i];
        if (!(of->commands & command)) continue;
        snprintf(left, sizeof left, "%s%s%s", of->name, of->argument ? " " : "", of->argument
                 ? of->argument : "");
        printf("  %-28s %s\n", left, of->help ? of->help : describe_field(&plain, of, text));
    }
    printf("  %-28s %s\n", "--help", "this text");
    if (command == TRAIN)
        printf("\nA task TSV's header line names its columns: text (tokens separated by one space) and "
               "NAME:KIND for each task.\n"
               "Kinds: class (one label), tags (one label a token), real (a number), reals (one a token); a "
               "cell _ is a missing\n"
               "label. Several files may have different tasks. Ctrl-C once keeps the best model so far, "
               "twice leaves at once.\n");
    if (command == PREDICT)
        printf("\nThe first line of the answer is a header line (not with --json). An empty line is "
               "answered by an empty line; a\n"
               "line that is not valid UTF-8 or too long ends the command with status 1, as does a reader "
               "that goes away.\n");
    flush_output();
    leave(0);
}

static void print_help(FILE *to)
{
    size_t i;
    fprintf(to, "mtl %s: trains recurrent networks that do several tasks at once\n\n", MTL_RNN_VERSION);
    for (i = 0; i < COMMAND_COUNT; i++) fprintf(to, "  mtl %-8s %s\n", commands[i].name, commands[i].summary);
    fprintf(to,
            "\n`mtl COMMAND --help` lists its options; `mtl --version` prints the version. Smallest use:\n\n"
                "  mtl train --data train.tsv --valid valid.tsv --out model.safetensors\n"
                "  echo 'play some jazz' | mtl predict --model model.safetensors\n");
}

/* The option of that name for the command; none ends the program with the nearest name. */
static const option *find_option(int command, const char *text, size_t length)
{
    size_t i;
    char *wrong;
    const char **candidates = NULL;
    for (i = 0; i < OPTION_COUNT; i++)
        if (strlen(options[i].name) == length && memcmp(options[i].name, text, length) == 0) break;
    if (i < OPTION_COUNT && options[i].commands & command) return &options[i];
    if (i < OPTION_COUNT)
        fail_usage("%s is not an option of mtl %s; see mtl %s --help", options[i].name, command_name(command),
                   command_name(command));
    for (i = 0; i < OPTION_COUNT; i++)
        if (options[i].commands & command) arrput(candidates, options[i].name);
    wrong = strcpy((char *)checked_realloc(NULL, strlen(text) + 1), text);
    wrong[length] = '\0';
    fail_usage("unknown option %.60s%s (mtl %s --help lists all)", wrong, suggestion(wrong, candidates),
               command_name(command));
}

static void add_list(char ***list, const char *text)
{
    char *copy = strcpy((char *)checked_realloc(NULL, strlen(text) + 1), text), **pieces = NULL;
    size_t i;
    split(copy, ',', &pieces);
    for (i = 0; i < arrlenu(pieces); i++)
        if (*pieces[i]) arrput(*list, pieces[i]);
    arrfree(pieces);
}

/* Sets every field that the option names. */
static void set_option_fields(settings *given, const option *of, const char *text)
{
    const char *path = of->fields;
    char one[80];
    if (strcmp(of->name, "--dir") == 0) {
        if (strcmp(text, "uni") != 0 && strcmp(text, "bi") != 0)
            fail_usage("--dir %s: expected uni or bi", text);
        text = strcmp(text, "bi") == 0 ? "1" : "0";
    }
    while (*path) {
        size_t length = strcspn(path, " ");
        snprintf(one, sizeof one, "%.*s", (int)length, path);
        set_field(given, of->name, one, text);
        path += length + strspn(path + length, " ");
    }
}

/* TASK=X for the field task.*.FIELD, or PATH=VALUE. */
static void set_assignment(settings *given, const option *of, const char *text)
{
    char *path;
    const char *equals = strchr(text, '=');
    size_t size = strlen(text) + 80;
    if (!equals || equals == text) fail_usage("%s %s: expected %s", of->name, text, of->argument);
    path = (char *)checked_realloc(NULL, size);
    if (of->takes == SET) snprintf(path, size, "%.*s", (int)(equals - text), text);
    else snprintf(path, size, "task.%.*s.%s", (int)(equals - text), text, field_name(of->fields));
    set_field(given, of->name, path, equals + 1);
    free(path);
}

static void set_count(settings *given, const option *of, const char *text)
{
    char *end;
    long long value;
    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end || errno || value < 1 || value > 1000000000)
        fail_usage("%s %s: expected a whole number from 1 to 1000000000", of->name, text);
    *(long long *)((char *)given + of->offset) = value;
}

static void set_option(settings *given, const option *of, const char *text)
{
    void *member = (char *)given + of->offset;
    switch (of->takes) {
    case SWITCH:       *(int *)member = 1; break;
    case TEXT:         *(const char **)member = text; break;
    case COUNT:        set_count(given, of, text); break;
    case FILES:        { char **list = *(char ***)member; arrput(list, (char *)text);
    *(char ***)member = list; } break;
    case LIST:         add_list((char ***)member, text); break;
    case FIELD_SWITCH: set_option_fields(given, of, "1"); break;
    case FIELD:        set_option_fields(given, of, text); break;
    default:           set_assignment(given, of, text); break;
    }
}

static void parse_options(settings *given, int count, char **arguments)
{
    int i;
    for (i = 0; i < count; i++) {
        const char *text = arguments[i], *value = strchr(text, '=');
        const option *of;
        size_t length = value ? (size_t)(value - text) : strlen(text);
        if (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0) print_command_help(given->command);
        if (strncmp(text, "--", 2) != 0)
            fail_usage("unexpected argument '%.60s'; options begin with -- (mtl %s --help lists them)", text,
                       command_name(given->command));
        of = find_option(given->command, text, length);
        if (!of->argument && value) fail_usage("%s takes no value", of->name);
        if (of->argument && value) value++;
        else if (of->argument) {
            if (i + 1 >= count || strncmp(arguments[i + 1], "--", 2) == 0)
                fail_usage("%s needs a value: %s %s", of->name, of->name, of->argument);
            value = arguments[++i];
        }
        set_option(given, of, value);
    }
}

static void need_option(const settings *given, int given_it, const char *text)
{
    if (!given_it)
        fail_usage("mtl %s needs %s (mtl %s --help lists all options)", command_name(given->command), text,
                   command_name(given->command));
}

static void check_options(const settings *given)
{
    int frames = arrlenu(given->frames) > 0;
    if (given->command == TRAIN) need_option(given, arrlenu(given->data) || frames,
                                             "--data FILE (or --frames FILE)");
    if (given->command == TRAIN) need_option(given, given->out != NULL, "--out FILE");
    if (given->command == TRAIN && frames)
        need_option(given, arrlenu(given->features) > 0, "--features A,B,C with --frames");
    if (given->command == TRAIN && frames) need_option(given, arrlenu(given->tasks) > 0,
                                                       "--task NAME:KIND with --frames");
    if (given->command == EVAL) need_option(given, arrlenu(given->data) || frames,
                                            "--data FILE (or --frames FILE)");
    if (given->command != TRAIN) need_option(given, given->model_path != NULL, "--model FILE");
    if (frames && arrlenu(given->data))
        fail_usage("--data and --frames: expected one of them: a model reads text or rows of numbers");
    if (given->command == TRAIN && !frames && (arrlenu(given->features) || arrlenu(given->tasks) ||
                                               given->sequence))
        fail_usage("--sequence, --features and --task describe CSV files: give those with --frames");
    if (strcmp(given->preset, "plain") != 0) fail_usage("--preset %s: no such preset; expected plain",
                                                        given->preset);
}

/* The tasks that --clamp may name. A growing array of the caller's. */
static const char **real_task_names(const corpus *all)
{
    const char **list = NULL;
    size_t i;
    for (i = 0; i < arrlenu(all->tasks); i++)
        if (kind_is_real(all->tasks[i].kind)) arrput(list, all->tasks[i].name);
    return list;
}

/* One --clamp: TASK=LOW:HIGH. */
static void apply_clamp(corpus *all, const char *text)
{
    const char *equals = strchr(text, '='), *colon = equals ? strchr(equals, ':') : NULL;
    char wanted[64] = "";
    task *of;
    double low, high;
    if (!colon || !mtl_text_number(equals + 1, (size_t)(colon - equals) - 1, &low) ||
        !mtl_text_number(colon + 1, strlen(colon + 1), &high) || low >= high)
        fail_usage("--clamp %s: expected TASK=LOW:HIGH with two numbers, the lower first, e.g. rul=0:125",
                   text);
    snprintf(wanted, sizeof wanted, "%.*s", (int)(equals - text), text);
    of = corpus_find(all, wanted);
    if (!of) fail_usage("--clamp %s: no such task%s", text, suggestion(wanted, real_task_names(all)));
    if (!kind_is_real(of->kind))
        fail_usage("--clamp %s: task %s is of kind %s; expected real or reals", text, wanted,
                   kind_names[of->kind]);
    of->clamped = 1;
    of->low = low;
    of->high = high;
}

static void apply_clamps(const settings *given, corpus *all)
{
    size_t i;
    for (i = 0; i < arrlenu(given->clamps); i++) apply_clamp(all, given->clamps[i]);
}

/* ===========================================================================================================
   10 batches       data sets as the library takes them
   ======================================================================================================== */

/* The ids of all words of the corpus for a token input: one look-up for each distinct word, through the
   model's own normalisation, so that training, evaluation and C programs read text alike. */
static int *word_ids(corpus *all, const mtl_model *model, int input)
{
    size_t i, count = arrlenu(all->words.list);
    int *ids = NULL;
    arrsetlen(ids, count);
    for (i = 0; i < count; i++) ids[i] = mtl_model_word(model, input, all->words.list[i].key,
                                                        strlen(all->words.list[i].key));
    return ids;
}

/* The float next to a number; what lies beyond its range is cut. */
static mtl_real nearest_real(double value)
{
    return (mtl_real)(value > FLT_MAX ? FLT_MAX : value < -FLT_MAX ? -FLT_MAX : value);
}

/* The rows for the model. The mean goes in double: a float counts seconds since 1970 in steps of 128. */
static void centre_rows(const corpus *all, dataset *set)
{
    size_t i, width = arrlenu(all->features), count = set->rows * width;
    arrsetlen(set->rows_centred, count);
    for (i = 0; i < count; i++)
        set->rows_centred[i] = nearest_real(set->features[i] - (all->means ? all->means[i % width] : 0));
    arrfree(set->features);
}

static void centre_values(const corpus *all, target *of)
{
    const double mean = all->tasks[of->task].mean;
    size_t i;
    arrsetlen(of->centred, arrlenu(of->values));
    for (i = 0; i < arrlenu(of->values); i++)
        of->centred[i] = isnan(of->values[i]) ? (mtl_real)NAN : nearest_real(of->values[i] - mean);
    arrfree(of->values);
}

/* Fills set->batch_inputs for the model's inputs: all token inputs read the same words, a feature input the
   CSV file's rows. */
static void make_inputs(corpus *all, dataset *set, const mtl_model *model)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    size_t i, k;
    for (i = 0; i < desc->input_count; i++) {
        mtl_input input = { 0 };
        if (desc->inputs[i].vocabulary) {
            int *table = word_ids(all, model, (int)i), *ids = NULL;
            arrsetlen(ids, set->rows);
            for (k = 0; k < set->rows; k++) ids[k] = table[set->words[k]];
            arrput(set->batch_ids, ids);
            arrfree(table);
            input.ids = ids;
        }
        if (desc->inputs[i].features) centre_rows(all, set);
        input.rows = set->rows_centred;
        arrput(set->batch_inputs, input);
    }
}

/* A data set as a batch of the model, whose tasks are numbered as the corpus'. The data set owns what the
   batch points to. */
static mtl_batch make_batch(corpus *all, dataset *set, const mtl_model *model)
{
    mtl_batch batch = { 0 };
    mtl_target none = { 0 };
    size_t i;
    make_inputs(all, set, model);
    for (i = 0; i < arrlenu(all->tasks); i++) arrput(set->batch_targets, none);
    for (i = 0; i < arrlenu(set->targets); i++) {
        mtl_target *to = &set->batch_targets[set->targets[i].task];
        if (set->targets[i].values) centre_values(all, &set->targets[i]);
        to->labels = set->targets[i].labels;
        to->values = set->targets[i].centred;
        to->unknown = all->tasks[set->targets[i].task].unknown;
        to->unknown_count = arrlenu(to->unknown);
    }
    batch.sequences = arrlenu(set->lengths);
    batch.lengths = set->lengths;
    batch.inputs = set->batch_inputs;
    batch.targets = set->batch_targets;
    batch.name = set->path;
    return batch;
}

/* All data sets of a list. A growing array of the caller's. */
static mtl_batch *make_batches(corpus *all, dataset *sets, const mtl_model *model)
{
    mtl_batch *batches = NULL;
    size_t i;
    for (i = 0; i < arrlenu(sets); i++) arrput(batches, make_batch(all, &sets[i], model));
    return batches;
}

/* Sequence `index` of a batch over feature rows or ids, whose rows begin at `row`; without targets. inputs:
   [input_count], to be used. */
static mtl_batch one_sequence(const mtl_batch *batch, const mtl_model_desc *desc, size_t index, size_t row,
                              mtl_input *inputs)
{
    mtl_batch one = { 0 };
    size_t i;
    for (i = 0; i < desc->input_count; i++) {
        inputs[i].ids = batch->inputs[i].ids ? batch->inputs[i].ids + row : NULL;
        inputs[i].rows = batch->inputs[i].rows ? batch->inputs[i].rows + row
            * (size_t)desc->inputs[i].features : NULL;
    }
    one.sequences = 1;
    one.lengths = batch->lengths + index;
    one.inputs = inputs;
    return one;
}

static double clamp(const task *of, double value)
{
    return !of->clamped ? value : value < of->low ? of->low : value > of->high ? of->high : value;
}

/* A task's mean and deviation, and how many digits its answers are worth: a float's, or, for numbers so
   far from 0 that a float would lose their differences, those that tell the distance from the mean as a float
   does. */
static void set_task_mean(task *of, double mean, mtl_real scale)
{
    double far = scale > 0 ? fabs(mean) / scale : 1e10;
    of->mean = mean;
    of->scale = scale;
    of->digits = mean == 0 || far < 1000 ? 0 : far > 1e9 ? 17 : 7 + (int)ceil(log10(far));
}

/* What a task's answer means in the file's own units. */
static double answer_value(const task *of, double centred)
{
    char text[40];
    double value = of->mean + centred;
    if (!of->digits) return clamp(of, (double)nearest_real(value));
    snprintf(text, sizeof text, "%.*e", of->digits - 1, value);
    mtl_text_number(text, strlen(text), &value);
    return clamp(of, value);
}

/* Index of the model's feature input, or -1. */
static int feature_input(const mtl_model_desc *desc)
{
    size_t i;
    for (i = 0; i < desc->input_count; i++)
        if (desc->inputs[i].features) return (int)i;
    return -1;
}

/* Sets what the model takes off: nothing while this program feeds it; in a file floats, for C programs. */
static void set_means(const corpus *all, mtl_model *model, int in_file, mtl_error *err)
{
    mtl_real *means = NULL, mean;
    size_t i;
    for (i = 0; i < arrlenu(all->means); i++) arrput(means, in_file ? nearest_real(all->means[i]) : 0);
    if (means)
        mtl_model_set_feature_scale(model, feature_input(mtl_model_describe(model)), means, all->scales, err);
    arrfree(means);
    for (i = 0; i < arrlenu(all->tasks); i++) {
        mean = in_file ? nearest_real(all->tasks[i].mean) : 0;
        if (kind_is_real(all->tasks[i].kind))
            mtl_model_set_target_scale(model, (int)i, &mean, &all->tasks[i].scale, err);
    }
}

/* ===========================================================================================================
   11 scores        evaluation, with clamped answers where --clamp asks for them
   ======================================================================================================== */

/* Sums over the items of a real task. */
typedef struct errors { double items, squares, absolutes, mean, spread; } errors;

static void add_error(errors *sums, double gold, double answer)
{
    double difference = answer - gold, from_mean = gold - sums->mean;
    sums->items += 1;
    sums->squares += difference * difference;
    sums->absolutes += fabs(difference);
    sums->mean += from_mean / sums->items;                      /* Welford's running mean and sum of
                                                                   squares */
    sums->spread += from_mean * (gold - sums->mean);
}

static void set_real_score(mtl_task_score *to, const errors *sums)
{
    to->rmse = sqrt(sums->squares / sums->items);
    to->mae = sums->absolutes / sums->items;
    to->r2 = sums->spread > 0 ? 1 - sums->squares / sums->spread : 0;
    to->score = to->r2 > 0 ? to->r2 : 0;
}

/* Adds up one task's errors over a data set, its answers clamped. */
static void add_clamped_errors(mtl_predictor *predictor, const mtl_model *model, const task *of, int index,
                               const mtl_batch *batch, errors *sums, mtl_error *err)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    const mtl_real *gold = batch->targets[index].values;
    size_t s, k, row = 0;
    mtl_input *inputs = NULL;
    mtl_prediction *answers = NULL;
    arrsetlen(inputs, desc->input_count);
    arrsetlen(answers, desc->task_count);
    for (s = 0; s < batch->sequences && gold; s++) {
        mtl_batch one = one_sequence(batch, desc, s, row, inputs);
        size_t first = of->kind == REALS ? row : s;
        if (mtl_predict(predictor, &one, answers, err)) break;
        for (k = 0; k < answers[index].items; k++)
            if (!isnan(gold[first + k]))
                add_error(sums, of->mean + gold[first + k], answer_value(of, answers[index].values[k]));
        row += (size_t)batch->lengths[s];
    }
    arrfree(inputs);
    arrfree(answers);
}

/* Replaces the scores of clamped tasks by those of clamped answers. */
static void rescore_clamped(mtl_predictor *predictor, const mtl_model *model, const corpus *all,
                            const mtl_batch *batches, mtl_scores *scores, mtl_error *err)
{
    size_t i, k, counted = 0;
    double sum = 0;
    for (i = 0; i < arrlenu(all->tasks); i++) {
        errors sums = { 0 };
        if (!all->tasks[i].clamped || !scores->tasks[i].items) continue;
        for (k = 0; k < arrlenu(batches); k++)
            add_clamped_errors(predictor, model, &all->tasks[i], (int)i, &batches[k], &sums, err);
        if (sums.items > 0) set_real_score(&scores->tasks[i], &sums);
    }
    for (i = 0; i < scores->task_count; i++)
        if (scores->tasks[i].items) sum += scores->tasks[i].score, counted++;
    if (counted) scores->score = sum / (double)counted;
}

/* Scores of the model on data sets. scores->tasks is a growing array of the caller's. confusion: NULL, or
   what make_confusions made. */
static mtl_scores evaluate(const settings *given, const corpus *all, mtl_model *model,
                           const mtl_batch *batches, size_t *const *confusion)
{
    mtl_scores scores = { 0 };
    mtl_error err = { 0 };
    mtl_predictor *predictor = mtl_predictor_create(model, &given->predictor, &err);
    scores.task_count = mtl_model_describe(model)->task_count;
    arrsetlen(scores.tasks, scores.task_count);
    mtl_evaluate(predictor, batches, arrlenu(batches), &scores, confusion, &err);
    check(&err);
    rescore_clamped(predictor, model, all, batches, &scores, &err);
    check(&err);
    mtl_predictor_destroy(predictor);
    return scores;
}

/* A task's kind as files name it. */
static int kind_of(const mtl_task_desc *desc)
{
    int step = desc->level == MTL_LEVEL_STEP;
    return desc->kind == MTL_TASK_CLASS ? (step ? TAGS : CLASS) : (step ? REALS : REAL);
}

static void print_scores(const mtl_model *model, const mtl_scores *scores)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    size_t i;
    for (i = 0; i < scores->task_count; i++) {
        const mtl_task_score *of = &scores->tasks[i];
        int kind = kind_of(&desc->tasks[i]);
        if (!of->items) continue;
        printf("%-16s %-6s ", desc->tasks[i].name, kind_names[kind]);
        if (kind == CLASS) printf("accuracy %.4f", of->accuracy);
        if (kind == TAGS) printf("token accuracy %.4f", of->accuracy);
        if (kind == TAGS && of->spans)
            printf("  span precision %.4f  recall %.4f  F1 %.4f", of->span_precision, of->span_recall,
                   of->span_f1);
        if (kind_is_real(kind)) printf("RMSE %.6g  MAE %.6g  R2 %.4f", of->rmse, of->mae, of->r2);
        printf("  (%zu items)\n", of->items);
    }
    if (scores->joint_items) printf("joint accuracy %.4f, ", scores->joint_accuracy);
    printf("mean score %.4f; %zu sequences, %zu tokens\n", scores->score, scores->sequences, scores->tokens);
}

/* ---- classes: a matrix of counts for each class and tags task, rows gold and columns predicted. Rows are
   named by all of the task's labels: first its classes, then those that training has not seen.
   -------------------- */

enum { MOST_CLASSES = 4096 };               /* a matrix of more would take more memory than all else */

static size_t label_count(const task *of) { return arrlenu(of->labels.list); }

/* Empty matrices [tasks] for mtl_evaluate; NULL where a task has numbers, or too many classes. */
static size_t **make_confusions(const corpus *all)
{
    size_t **list = NULL, i;
    for (i = 0; i < arrlenu(all->tasks); i++) {
        const task *of = &all->tasks[i];
        size_t bytes = label_count(of) * of->classes * sizeof(size_t);
        size_t *counts = NULL;
        if (!kind_is_real(of->kind) && label_count(of) > MOST_CLASSES)
            note("task %s has more than %d labels: no scores of single classes, no confusion matrix",
                 of->name, (int)MOST_CLASSES);
        else if (!kind_is_real(of->kind))
            counts = (size_t *)memset(checked_realloc(NULL, bytes), 0, bytes);
        arrput(list, counts);
    }
    return list;
}

static void free_confusions(size_t **list)
{
    size_t i;
    for (i = 0; i < arrlenu(list); i++) free(list[i]);
    arrfree(list);
}

typedef struct class_score {
    size_t items, answers;                  /* of this label: in the data, in the predictions */
    double precision, recall, f1;           /* 0 where there is nothing to divide by */
} class_score;

static class_score score_class(const task *of, const size_t *confusion, size_t label)
{
    class_score score = { 0 };
    size_t i, right = label < of->classes ? confusion[label * of->classes + label] : 0;
    for (i = 0; i < of->classes; i++) score.items += confusion[label * of->classes + i];
    for (i = 0; i < label_count(of) && label < of->classes; i++)
        score.answers += confusion[i * of->classes + label];
    if (score.answers) score.precision = (double)right / (double)score.answers;
    if (score.items) score.recall = (double)right / (double)score.items;
    if (right) score.f1 = 2 * score.precision * score.recall / (score.precision + score.recall);
    return score;
}

/* Labels that occur in the data or in the answers, the most frequent ones first. A growing array of the
   caller's. */
static size_t *order_classes(const task *of, const size_t *confusion, class_score **scores)
{
    size_t *order = NULL, i, k;
    for (i = 0; i < label_count(of); i++) {
        arrput(*scores, score_class(of, confusion, i));
        if (!(*scores)[i].items && !(*scores)[i].answers) continue;
        arrput(order, i);
        for (k = arrlenu(order) - 1; k > 0 && (*scores)[order[k - 1]].items < (*scores)[i].items; k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
    return order;
}

/* The cells off the diagonal with the largest counts, as a line. */
static void print_confused(const task *of, const size_t *confusion)
{
    enum { MOST = 5 };
    size_t cells = label_count(of) * of->classes, top[MOST + 1], found = 0, i, k;
    for (i = 0; i < cells; i++) {
        if (!confusion[i] || i / of->classes == i % of->classes) continue;
        for (k = found; k > 0 && confusion[top[k - 1]] < confusion[i]; k--) top[k] = top[k - 1];
        top[k] = i;
        if (found < MOST) found++;
    }
    if (found) printf("  most often wrong:");
    for (i = 0; i < found; i++)
        printf("%s %s for %s (%zu)", i ? "," : "", of->labels.list[top[i] % of->classes].key,
               of->labels.list[top[i] / of->classes].key, confusion[top[i]]);
    if (found) putchar('\n');
}

/* A table of a task's classes, and what is most often taken for what. */
static void print_classes(const task *of, const size_t *confusion)
{
    enum { MOST = 30 };
    class_score *scores = NULL;
    size_t *order = order_classes(of, confusion, &scores), i;
    if (arrlenu(order)) printf("\n%-25s precision  recall      F1   items\n", of->name);
    for (i = 0; i < arrlenu(order) && i < MOST; i++) {
        const class_score *one = &scores[order[i]];
        printf("  %-25s  %.4f  %.4f  %.4f  %6zu\n", of->labels.list[order[i]].key, one->precision,
               one->recall, one->f1, one->items);
    }
    if (arrlenu(order) > MOST)
        printf("  and %zu less frequent ones: --json and --confusion tell all\n", arrlenu(order) - MOST);
    print_confused(of, confusion);
    arrfree(order);
    arrfree(scores);
}

/* One table for each task with labels in the data, an empty line between two. */
static void write_confusions(const char *path, const corpus *all, const mtl_scores *scores,
                             size_t *const *confusion)
{
    size_t i, row, column, tables = 0;
    FILE *to = fopen(path, "w");
    if (!to) fail("--confusion %s: cannot be written: %s", path, strerror(errno));
    for (i = 0; i < arrlenu(all->tasks); i++) {
        const task *of = &all->tasks[i];
        if (!confusion[i] || !scores->tasks[i].items) continue;
        fprintf(to, "%s%s", tables++ ? "\n" : "", of->name);
        for (column = 0; column < of->classes; column++) fprintf(to, "\t%s", of->labels.list[column].key);
        for (row = 0; row < label_count(of); row++) {
            fprintf(to, "\n%s", of->labels.list[row].key);
            for (column = 0; column < of->classes; column++)
                fprintf(to, "\t%zu", confusion[i][row * of->classes + column]);
        }
        fputc('\n', to);
    }
    if (ferror(to) | fclose(to))
        fail("--confusion %s: not all of it could be written: %s", path, strerror(errno));
}

/* ===========================================================================================================
   12 JSON          written as it goes; setlocale is never called, so printf writes a point in every locale
   ======================================================================================================== */

static void json_string(FILE *to, const char *text)
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

/* "name": with a comma before it unless it is the first; *first is cleared. */
static void json_key(FILE *to, int *first, const char *text)
{
    if (!*first) fputs(", ", to);
    *first = 0;
    json_string(to, text);
    fputs(": ", to);
}

/* The shortest text that reads back as the same number. */
static void print_number(FILE *to, double value)
{
    char text[32];
    mtl_text_from_number(value, text);
    fputs(text, to);
}

/* Scores and times: the digits of a float are enough. */
static void json_number(FILE *to, int *first, const char *key, double value)
{
    json_key(to, first, key);
    if (isfinite(value)) print_number(to, (double)nearest_real(value));
    else fputs("null", to);
}

static void json_count(FILE *to, int *first, const char *key, size_t count)
{
    json_key(to, first, key);
    fprintf(to, "%zu", count);
}

/* "classes": {label: scores}, "confusion": {gold: {predicted: items}} with the counts that are not 0. */
static void json_classes(FILE *to, int *first, const task *of, const size_t *confusion)
{
    size_t row, column;
    int first_row = 1;
    json_key(to, first, "classes");
    fputc('{', to);
    for (row = 0; row < label_count(of); row++) {
        class_score score = score_class(of, confusion, row);
        int first_score = 1;
        if (!score.items && !score.answers) continue;
        json_key(to, &first_row, of->labels.list[row].key);
        fputc('{', to);
        json_number(to, &first_score, "precision", score.precision);
        json_number(to, &first_score, "recall", score.recall);
        json_number(to, &first_score, "f1", score.f1);
        json_count(to, &first_score, "items", score.items);
        fputc('}', to);
    }
    fputc('}', to);
    json_key(to, first, "confusion");
    fputc('{', to);
    for (row = 0, first_row = 1; row < label_count(of); row++) {
        int first_cell = 1;
        if (!score_class(of, confusion, row).items) continue;
        json_key(to, &first_row, of->labels.list[row].key);
        fputc('{', to);
        for (column = 0; column < of->classes; column++)
            if (confusion[row * of->classes + column])
                json_count(to, &first_cell, of->labels.list[column].key,
                           confusion[row * of->classes + column]);
        fputc('}', to);
    }
    fputc('}', to);
}

/* classes: the task with its confusion matrix, or NULL. */
static void json_task_score(FILE *to, int kind, const mtl_task_score *of, const task *classes,
                            const size_t *confusion)
{
    int first = 1;
    fputc('{', to);
    json_key(to, &first, "kind");
    json_string(to, kind_names[kind]);
    if (kind == CLASS) json_number(to, &first, "accuracy", of->accuracy);
    if (kind == TAGS) json_number(to, &first, "token_accuracy", of->accuracy);
    if (kind == TAGS && of->spans) {
        json_number(to, &first, "span_precision", of->span_precision);
        json_number(to, &first, "span_recall", of->span_recall);
        json_number(to, &first, "span_f1", of->span_f1);
    }
    if (kind_is_real(kind)) json_number(to, &first, "rmse", of->rmse),
        json_number(to, &first, "mae", of->mae);
    if (confusion) json_classes(to, &first, classes, confusion);
    fputc('}', to);
}

/* The object that `mtl eval --json` prints. confusion: of all->tasks; both NULL: without scores of single
   classes. */
static void json_scores(FILE *to, const mtl_model *model, const mtl_scores *scores, const corpus *all,
                        size_t *const *confusion)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    int first = 1, first_task = 1;
    size_t i;
    fputc('{', to);
    json_key(to, &first, "tasks");
    fputc('{', to);
    for (i = 0; i < scores->task_count; i++) {
        if (!scores->tasks[i].items) continue;
        json_key(to, &first_task, desc->tasks[i].name);
        json_task_score(to, kind_of(&desc->tasks[i]), &scores->tasks[i], all ? &all->tasks[i] : NULL,
                        confusion ? confusion[i] : NULL);
    }
    fputc('}', to);
    if (scores->joint_items) json_number(to, &first, "joint_accuracy", scores->joint_accuracy);
    json_key(to, &first, "sequences");
    fprintf(to, "%zu", scores->sequences);
    json_key(to, &first, "tokens");
    fprintf(to, "%zu", scores->tokens);
    fputc('}', to);
}

/* ===========================================================================================================
   13 train         read, create, fit, save, score
   ======================================================================================================== */

static volatile sig_atomic_t interrupts;

/* Once: the progress callback stops the training. Twice: leave now; saving is atomic, so the old file is
   intact. */
static void on_interrupt(int number)
{
    (void)number;
    if (interrupts) _exit(130);
    interrupts = 1;
}

static void catch_interrupts(void)
{
#ifdef _WIN32
    signal(SIGINT, on_interrupt);           /* a second one ends the program by itself */
#else
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
#endif
}

#ifndef _WIN32
/* 1 when both paths lead to one existing file. */
static int same_file(const char *a, const char *b)
{
    struct stat at_a, at_b;
    return stat(a, &at_a) == 0 && stat(b, &at_b) == 0 && at_a.st_dev == at_b.st_dev &&
        at_a.st_ino == at_b.st_ino;
}

static char *last_separator(char *path) { return strrchr(path, '/'); }
#endif

/* Tells before hours of training what would go wrong after them. */
static void check_output(const settings *given, const char *path, const char *shown)
{
    struct stat status;
    char *folder = strcpy((char *)checked_realloc(NULL, strlen(path) + 3), path);
    char *slash = last_separator(folder);
    char **lists[3];
    size_t i, k;
    if (given->model_path && same_file(path, given->model_path))
        fail("%s %s: is the model; expected another path", shown, path);
    lists[0] = given->data, lists[1] = given->valid, lists[2] = given->frames;
    for (i = 0; i < 3; i++)
        for (k = 0; k < arrlenu(lists[i]); k++)
            if (same_file(path, lists[i][k])) fail("%s %s: this file is read as data; expected another path",
                                                   shown, path);
    if (slash) slash[slash == folder || slash[-1] == ':'] = '\0';
    else strcpy(folder, ".");
    if (!*path) fail("%s: an empty path; expected the name of a file", shown);
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        fail("%s %s: is a directory; expected the path of a file", shown, path);
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode) &&
        path == given->out) /* saving would put a file in its place */
        fail("%s %s: is a device or a pipe; expected the path of a file", shown, path);
    if (stat(folder, &status) != 0 && errno == ENOENT)
        fail("%s %s: there is no folder %s; create it first", shown, path, folder);
    if (stat(folder, &status) != 0 || !S_ISDIR(status.st_mode))
        fail("%s %s: %s is no folder that can be used; expected another path", shown, path, folder);
    if (access(folder, W_OK) != 0)
        fail("%s %s: the folder %s cannot be written to: %s", shown, path, folder, strerror(errno));
    free(folder);
}

/* The words that the model will know: word 0 stands for all others. */
static void make_vocabulary(const settings *given, corpus *all)
{
    names counted = { 0 };
    char *text = NULL;
    size_t i, same;
    for (i = 0; i < arrlenu(all->words.list); i++) {
        const char *word = all->words.list[i].key;
        size_t length = strlen(word);
        arrsetlen(text, 2 * length + 1);
        mtl_text_normalise(word, length, given->input.lowercase, given->input.digits, text, 2 * length + 1);
        same = names_add(&counted, text, strlen(text));
        counted.list[same].value += all->words.list[i].value;
    }
    names_add(&all->vocabulary, "<unk>", 5);
    for (i = 0; i < arrlenu(counted.list); i++)
        if (counted.list[i].value >= (size_t)given->min_count)
            names_add(&all->vocabulary, counted.list[i].key, strlen(counted.list[i].key));
    if (arrlenu(all->vocabulary.list) < 2)
        fail("the vocabulary is empty: no word occurs %lld times in the training data; lower --min-count",
             given->min_count);
    free(counted.slots);
    arrfree(counted.list);
    arrfree(text);
}

/* The strings of a set in their order. A growing array of the caller's. */
static const char **name_list(const names *of)
{
    const char **list = NULL;
    size_t i;
    for (i = 0; i < arrlenu(of->list); i++) arrput(list, of->list[i].key);
    return list;
}

static mtl_input_desc make_input_desc(const settings *given, corpus *all, const char **words)
{
    mtl_input_desc input = arrlenu(given->frames) ? given->frames_input : given->input;
    if (arrlenu(given->frames)) {
        input.name = "frames";
        input.features = (int)arrlenu(all->features);
    } else {
        input.name = "text";
        input.words = words;
        input.vocabulary = (int)arrlenu(words);
    }
    return input;
}

static mtl_task_desc make_task_desc(const settings *given, const task *of, const char **labels,
                                    const float *weights)
{
    mtl_task_desc desc = { 0 };
    mtl_error err = { 0 };
    size_t i;
    for (i = 0; i < arrlenu(given->assignments); i++) {
        const assignment *set = &given->assignments[i];
        int pool_of_steps = kind_is_step(of->kind) && strcmp(set->field->name, "pool") == 0;
        if ((strcmp(set->task, "*") == 0 || strcmp(set->task, of->name) == 0) && !pool_of_steps)
            mtl_field_set(set->field, &desc, set->text, &err);
    }
    check(&err);
    desc.name = of->name;
    desc.kind = kind_is_real(of->kind) ? MTL_TASK_REAL : MTL_TASK_CLASS;
    desc.level = kind_is_step(of->kind) ? MTL_LEVEL_STEP : MTL_LEVEL_SEQUENCE;
    if (!kind_is_real(of->kind)) desc.classes = (int)of->classes;
    if (!kind_is_real(of->kind)) desc.labels = labels;
    desc.class_weights = weights;
    return desc;
}

/* How often each class of a task stands in the training data. A growing array of the caller's. */
static size_t *count_labels(const corpus *all, size_t index)
{
    size_t *counts = NULL, classes = all->tasks[index].classes, i, t, k;
    memset(arraddnptr(counts, classes), 0, classes * sizeof *counts);
    for (i = 0; i < arrlenu(all->train); i++)
        for (t = 0; t < arrlenu(all->train[i].targets); t++) {
            const target *of = &all->train[i].targets[t];
            for (k = 0; k < arrlenu(of->labels) && of->task == (int)index; k++)
                if (of->labels[k] >= 0) counts[of->labels[k]]++;
        }
    return counts;
}

/* What is wrong with the first LABEL:X of a list. */
EXITS
static void fail_class_weight(const task *of, const char *list, const char *text)
{
    const char **labels = NULL;
    char piece[120], *colon;
    size_t i;
    snprintf(piece, sizeof piece, "%.*s", (int)strcspn(text, ","), text);
    if (!(colon = strrchr(piece, ':')))
        fail_usage("--class-weights %s=%s: '%s' is not of the form LABEL:X", of->name, list, piece);
    *colon = '\0';
    for (i = 0; i < of->classes; i++) {
        if (strcmp(piece, of->labels.list[i].key) == 0)
            fail_usage("--class-weights %s=%s: '%s' is not a weight for %s; expected a number of at least 0, "
                       "and each label once",
                       of->name, list, colon + 1, piece);
        arrput(labels, of->labels.list[i].key);
    }
    fail_usage("--class-weights %s=%s: no label '%s' in the training data%s", of->name, list, piece,
               suggestion(piece, labels));
}

/* One LABEL:X of a list into weights[], where a negative number stands for none so far; labels may hold
   colons and commas, so they are compared with those that there are. Returns what follows. */
static const char *read_class_weight(const task *of, const char *list, const char *text, float *weights)
{
    size_t i, best = of->classes, longest = 0;
    double weight = 0, number;
    for (i = 0; i < of->classes; i++) {
        const char *key = of->labels.list[i].key;
        size_t length = strlen(key), digits;
        if (length < longest || strncmp(text, key, length) != 0 || text[length] != ':') continue;
        digits = strcspn(text + length + 1, ",");
        if (!mtl_text_number(text + length + 1, digits, &number) || number < 0 || number > FLT_MAX) continue;
        best = i;
        longest = length;
        weight = number;
    }
    if (best == of->classes || weights[best] >= 0) fail_class_weight(of, list, text);
    weights[best] = (float)weight;
    text += longest + 1;
    text += strcspn(text, ",");
    return *text ? text + 1 : text;
}

/* The last --class-weights of a task, behind its name and =; NULL: there is none. */
static const char *class_weights_of(const settings *given, const task *of)
{
    size_t length = strlen(of->name), i = arrlenu(given->class_weights);
    while (i-- > 0)
        if (strncmp(given->class_weights[i], of->name, length) == 0 && given->class_weights[i][length] == '=')
            return given->class_weights[i] + length + 1;
    return NULL;
}

/* The weights of a task's classes: for `balanced` items / (classes * items of the class), whose mean over the
   items is 1. A growing array of the caller's; NULL: no weights. */
static float *make_class_weights(const settings *given, const corpus *all, size_t index)
{
    const task *of = &all->tasks[index];
    const char *list = class_weights_of(given, of), *text = list;
    size_t i, *counts, sum = 0;
    float *weights = NULL, largest = 0;
    int balanced = list && strcmp(list, "balanced") == 0;
    if (!list) return NULL;
    counts = count_labels(all, index);
    for (i = 0; i < of->classes; i++) sum += counts[i];
    for (i = 0; i < of->classes; i++)
        arrput(weights, balanced ? (float)((double)sum / ((double)of->classes * (double)counts[i])) : -1);
    while (*text && !balanced) text = read_class_weight(of, list, text, weights);
    for (i = 0; i < of->classes; i++) {
        if (weights[i] < 0) weights[i] = 1;
        if (weights[i] > largest) largest = weights[i];
    }
    if (!*list || !(largest > 0))
        fail_usage("--class-weights %s=%s: expected balanced, or LABEL:X,LABEL:X of which one is above 0",
                   of->name, list);
    arrfree(counts);
    return weights;
}

/* --class-weights must name tasks that have classes. */
static void check_class_weights(const settings *given, const corpus *all)
{
    size_t i;
    for (i = 0; i < arrlenu(given->class_weights); i++) {
        const char *text = given->class_weights[i];
        char wanted[64];
        const task *of;
        snprintf(wanted, sizeof wanted, "%.*s", (int)strcspn(text, "="), text);
        of = corpus_find(all, wanted);
        if (!strchr(text, '='))
            fail_usage("--class-weights %s: expected TASK=balanced or TASK=LABEL:X,LABEL:X", text);
        if (!of)
            fail_usage("--class-weights %s: no such task%s", text,
                       suggestion(wanted, corpus_task_names(all)));
        if (kind_is_real(of->kind))
            fail_usage("--class-weights %s: task %s is of kind %s; expected class or tags", text, wanted,
                       kind_names[of->kind]);
    }
}

/* --weight, --set task.NAME.x and --score must name tasks that there are. */
static void check_task_names(const settings *given, const corpus *all)
{
    const char **known = corpus_task_names(all);
    size_t i;
    for (i = 0; i < arrlenu(given->assignments); i++) {
        const assignment *set = &given->assignments[i];
        if (strcmp(set->task, "*") != 0 && !corpus_find(all, set->task))
            fail_usage("%s: no task %s in the data%s", set->option, set->task, suggestion(set->task, known));
    }
    if (given->score && !corpus_find(all, given->score))
        fail_usage("--score %s: no such task%s", given->score, suggestion(given->score, known));
    arrfree(known);
}

/* Tells of settings that will have no effect. */
static void report_useless(const settings *given)
{
    if (given->encoder.dropout_between > 0 && given->encoder.layers < 2)
        warn("encoder.dropout_between has no effect: the encoder has one layer; give it more with --layers, "
             "or drop out its output with --set encoder.dropout=X");
}

/* Refuses a model that this machine cannot train, with the bytes it would need: malloc alone may promise what
   is not there. */
static void check_memory(const mtl_model_desc *desc)
{
    mtl_error err = { 0 };
    size_t bytes = mtl_model_size(desc, &err);
    double machine = machine_memory();
    check(&err);
    if (machine > 0 && 4.0 * (double)bytes > machine)   /* weights, gradients and two moments */
        fail("out of memory: the model needs %zu bytes, and about %.0f bytes while it is trained; this "
             "machine has %.0f: "
             "make --hidden, --embed or the vocabulary smaller", bytes, 4.0 * (double)bytes, machine);
}

static mtl_model *create_model(const settings *given, corpus *all)
{
    const char **words = name_list(&all->vocabulary), ***labels = NULL;
    float **weights = NULL;
    mtl_input_desc input = make_input_desc(given, all, words);
    mtl_task_desc *tasks = NULL;
    mtl_model_desc desc = given->model;
    mtl_error err = { 0 };
    mtl_model *model;
    size_t i;
    for (i = 0; i < arrlenu(all->tasks); i++) {
        arrput(labels, name_list(&all->tasks[i].labels));
        arrput(weights, make_class_weights(given, all, i));
        arrput(tasks, make_task_desc(given, &all->tasks[i], labels[i], weights[i]));
    }
    desc.inputs = &input;
    desc.input_count = 1;
    desc.encoder = given->encoder;
    desc.tasks = tasks;
    desc.task_count = arrlenu(tasks);
    report_useless(given);
    check_memory(&desc);
    model = mtl_model_create(&desc, &err);
    check(&err);
    for (i = 0; i < arrlenu(labels); i++) {
        arrfree(labels[i]);
        arrfree(weights[i]);
    }
    arrfree(labels);
    arrfree(weights);
    arrfree(tasks);
    arrfree(words);
    return model;
}

/* Mean and variance in one pass (Welford 1962): exactly 0 for a constant column. */
typedef struct moments { double count, mean, spread; } moments;

static void add_value(moments *of, double value)
{
    double from_mean = value - of->mean;
    of->count += 1;
    of->mean += from_mean / of->count;
    of->spread += from_mean * (value - of->mean);
}

static double deviation(const moments *of)
{
    return of->count > 0 ? sqrt(of->spread / of->count) : 0;
}

/* Means and scales of the training data: the means are taken off in section 10, scales are the model's. */
static void find_feature_scales(corpus *all)
{
    size_t f, i, k, width = arrlenu(all->features);
    for (f = 0; f < width; f++) {
        moments of = { 0 };
        for (i = 0; i < arrlenu(all->train); i++)
            for (k = 0; k < all->train[i].rows; k++) add_value(&of, all->train[i].features[k * width + f]);
        arrput(all->means, of.mean);
        arrput(all->scales, nearest_real(deviation(&of)));
    }
}

/* The values of a task in one data set. */
static void add_targets(moments *to, const dataset *set, int index)
{
    const target *of = set->targets, *end = of + arrlenu(of);
    size_t k;
    while (of < end && of->task != index) of++;
    for (k = 0; of < end && k < arrlenu(of->values); k++)
        if (!isnan(of->values[k])) add_value(to, of->values[k]);
}

static void find_target_scales(corpus *all)
{
    size_t i, t;
    for (t = 0; t < arrlenu(all->tasks); t++) {
        moments of = { 0 };
        if (!kind_is_real(all->tasks[t].kind)) continue;
        for (i = 0; i < arrlenu(all->train); i++) add_targets(&of, &all->train[i], (int)t);
        set_task_mean(&all->tasks[t], of.mean, nearest_real(deviation(&of)));
    }
}

PRINTS(2, 3)
static void add_text(char **text, const char *format, ...)
{
    char piece[512];
    va_list arguments;
    size_t length;
    va_start(arguments, format);
    vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    length = strlen(piece);
    if (arrlenu(*text)) arrsetlen(*text, arrlenu(*text) - 1);
    memcpy(arraddnptr(*text, length + 1), piece, length + 1);
}

/* Keeps in the model how it is trained, for `mtl info`, and how CSV files are read, for eval and predict.
   What the result does not depend on (threads, limits) stays out, so that equal runs write equal files. */
static void note_settings(const settings *given, const corpus *all, mtl_model *model, mtl_error *err)
{
    static const char *const left_out[] = { "threads", "isa", "max_rows", "max_sequences", "max_steps" };
    char *text = NULL, value[64];
    size_t g, i, k, count;
    add_text(&text, "preset=%s\n", given->preset);
    if (!arrlenu(given->frames)) add_text(&text, "min-count=%lld\n", given->min_count);
    if (given->score) add_text(&text, "score=%s\n", given->score);
    for (g = 0; g < GROUP_COUNT; g++) {
        const mtl_field *fields = mtl_fields(groups[g].desc, &count);
        if (groups[g].desc != MTL_DESC_TRAINER && groups[g].desc != MTL_DESC_FIT) continue;
        for (i = 0; i < count; i++) {
            for (k = 0; k < sizeof left_out / sizeof *left_out && strcmp(fields[i].name, left_out[k]) != 0;
                 k++) { }
            if (k < sizeof left_out / sizeof *left_out) continue;
            add_text(&text, "%s.%s=%s\n", groups[g].name, fields[i].name,
                     mtl_field_get(&fields[i], (const char *)given + groups[g].offset, value, sizeof value));
        }
    }
    for (i = 0; i < arrlenu(given->clamps); i++) add_text(&text, "clamp=%s\n", given->clamps[i]);
    mtl_model_note(model, "settings", text, err);
    arrfree(text);
    if (!arrlenu(given->frames)) return;
    if (all->sequence) mtl_model_note(model, "sequence", all->sequence, err);
    for (i = 0; i < arrlenu(all->features); i++) add_text(&text, "%s%s", i ? "," : "", all->features[i]);
    mtl_model_note(model, "features", text, err);
    arrfree(text);
}

/* Every digit of the means, of each feature and of each real task: the model's own are floats. */
static void note_means(const corpus *all, mtl_model *model, mtl_error *err)
{
    char *text = NULL;
    size_t i;
    for (i = 0; i < arrlenu(all->means); i++) add_text(&text, "%s%.17g", i ? "," : "", all->means[i]);
    if (text) mtl_model_note(model, "feature_means", text, err);
    arrfree(text);
    for (i = 0; i < arrlenu(all->tasks); i++)
        if (kind_is_real(all->tasks[i].kind)) add_text(&text, "%s%.17g", text ? "," : "", all->tasks[i].mean);
    if (text) mtl_model_note(model, "target_means", text, err);
    arrfree(text);
}

/* What the progress callback needs. */
typedef struct reporter {
    const settings *given;
    const mtl_model *model;
    FILE *log;
    int terminal;
    double last_shown;                      /* seconds */
    double lr;                              /* of the last update */
} reporter;

static char *format_time(double seconds, char out[24])
{
    long s = seconds > 0 && seconds < 1e8 ? (long)(seconds + 0.5) : 0;
    if (s >= 3600) snprintf(out, 24, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else snprintf(out, 24, "%ld:%02ld", s / 60, s % 60);
    return out;
}

/* "loss 0.53  intent 0.12  slots 0.41" into out. */
static void format_losses(const reporter *to, const mtl_progress *now, char *out, size_t size)
{
    const mtl_model_desc *desc = mtl_model_describe(to->model);
    size_t i, used = (size_t)snprintf(out, size, "loss %.4f", now->loss);
    for (i = 0; i < desc->task_count && used < size && now->task_loss; i++)
        used += (size_t)snprintf(out + used, size - used, "  %s %.4f", desc->tasks[i].name,
                                 now->task_loss[i]);
}

#ifndef _WIN32
static size_t terminal_width(void)
{
#ifdef TIOCGWINSZ
    struct winsize window;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 20) return window.ws_col;
#endif
    return 80;
}
#endif

/* The line that is written over and over on a terminal, cut to its width. */
static void show_batch(reporter *to, const mtl_progress *now)
{
    char losses[512], line[800], left[24];
    size_t width = terminal_width() - 1;
    if (now->seconds - to->last_shown < 0.2) return;
    to->last_shown = now->seconds;
    format_losses(to, now, losses, sizeof losses);
    snprintf(line, sizeof line, "epoch %zu/%zu  %3.0f%%  %.0f tokens/s  %s left  %s", now->epoch, now->epochs,
             now->batches ? 100.0 * (double)now->batch / (double)now->batches : 0.0, now->tokens_per_second,
             format_time(now->seconds_left, left), losses);
    if (width < sizeof line) line[width] = '\0';
    printf("\r%s\033[K", line);
    progress_line_open = 1;
    fflush(stdout);
}

static void show_epoch(reporter *to, const mtl_progress *now)
{
    char losses[512], left[24], valid[80] = "";
    format_losses(to, now, losses, sizeof losses);
    if (now->scores)
        snprintf(valid, sizeof valid, "  valid %.4f%s", now->scores->score, now->best_epoch == now->epoch
                 ? " (best)" : "");
    printf("%sepoch %zu/%zu  %s%s  %.0f tokens/s  %s left\n", progress_line_open ? "\r\033[K" : "",
           now->epoch, now->epochs, losses, valid, now->tokens_per_second,
               format_time(now->seconds_left, left));
    progress_line_open = 0;
    fflush(stdout);
}

/* One object for an epoch in the --log file. */
static void log_epoch(const reporter *to, const mtl_progress *now)
{
    const mtl_model_desc *desc = mtl_model_describe(to->model);
    int first = 1, first_task = 1;
    size_t i;
    fputc('{', to->log);
    json_number(to->log, &first, "epoch", (double)now->epoch);
    json_number(to->log, &first, "loss", now->loss);
    json_key(to->log, &first, "task_loss");
    fputc('{', to->log);
    for (i = 0; i < desc->task_count && now->task_loss; i++)
        json_number(to->log, &first_task, desc->tasks[i].name, now->task_loss[i]);
    fputc('}', to->log);
    json_number(to->log, &first, "lr", to->lr);
    json_number(to->log, &first, "seconds", now->seconds);
    json_number(to->log, &first, "train_seconds", now->train_seconds);
    json_number(to->log, &first, "tokens_per_second", now->tokens_per_second);
    if (now->scores) {
        json_number(to->log, &first, "score", now->scores->score);
        json_number(to->log, &first, "best_score", now->best_score);
        json_number(to->log, &first, "best_epoch", (double)now->best_epoch);
        json_key(to->log, &first, "valid");
        json_scores(to->log, to->model, now->scores, NULL, NULL);
    }
    fputs("}\n", to->log);
    fflush(to->log);
}

static int on_progress(void *user, const mtl_progress *now)
{
    reporter *to = (reporter *)user;
    if (now->step) to->lr = now->step->lr;
    if (now->epoch_end && to->log) log_epoch(to, now);
    if (now->epoch_end && !to->given->quiet) show_epoch(to, now);
    if (!now->epoch_end && to->terminal) show_batch(to, now);
    return interrupts != 0;
}

/* Reads everything that the command line names. */
static void read_training_data(const settings *given, corpus *all)
{
    int frames = arrlenu(given->frames) > 0;
    char **files = frames ? given->frames : given->data;
    source command_line = { 0 };
    size_t i;
    command_line.path = "--task";
    all->only = given->only;
    all->sequence = given->sequence;
    all->features = given->features;
    all->sequence_by = "--sequence names";
    all->features_by = "--features names";
    all->quiet = given->quiet;
    all->max_tokens = (size_t)given->max_tokens;
    for (i = 0; i < arrlenu(given->tasks); i++) {
        const char *fault = "is not of the form NAME:KIND";
        char *text = given->tasks[i], *colon = strchr(text, ':');
        int kind = colon ? kind_by_name(colon + 1, &fault) : -1;
        if (kind < 0) fail_usage("--task %s: '%s' %s", text, colon ? colon + 1 : text, fault);
        *colon = '\0';
        if (corpus_find(all, text)) fail_usage("--task %s: the same task twice", text);
        if (name_fault(text))
            fail_usage("--task %s: the name %s; rename the column in the file, too", text, name_fault(text));
        corpus_task(all, &command_line, NULL, text, kind);
    }
    if (frames) apply_clamps(given, all);
    for (i = 0; i < arrlenu(files); i++) read_dataset(all, files[i], frames, &all->train);
    corpus_close(all);
    if (!frames) {
        if (arrlenu(given->clamps)) fail_usage("--clamp is for --frames");
        make_vocabulary(given, all);
    }
    check_task_names(given, all);
    check_class_weights(given, all);
    for (i = 0; i < arrlenu(given->valid); i++) read_dataset(all, given->valid[i], frames, &all->valid);
    need_targets(all, all->valid);
}

static size_t count_parameters(mtl_model *model)
{
    const mtl_parameters *set = mtl_model_parameters(model);
    size_t i, sum = 0;
    for (i = 0; i < set->count; i++) sum += set->tensors[i]->count;
    return sum;
}

static void print_start(const settings *given, const corpus *all, mtl_model *model)
{
    size_t i, sequences = 0, rows = 0;
    for (i = 0; i < arrlenu(all->train); i++) sequences += arrlenu(all->train[i].lengths),
        rows += all->train[i].rows;
    if (given->quiet) return;
    printf("%zu sequences, %zu %s", sequences, rows, all->features ? "rows" : "tokens");
    if (arrlenu(all->vocabulary.list)) printf(", %zu words", arrlenu(all->vocabulary.list));
    printf("; tasks:");
    for (i = 0; i < arrlenu(all->tasks); i++) {
        printf("%s %s %s", i ? "," : "", all->tasks[i].name, kind_names[all->tasks[i].kind]);
        if (all->tasks[i].classes) printf(" of %zu", all->tasks[i].classes);
    }
    printf("; %zu parameters\n", count_parameters(model));
    fflush(stdout);
}

/* Says which weights were kept and why. */
static void report_end(const settings *given, const mtl_fit_result *result)
{
    char kept[80];
    if (result->best_epoch) snprintf(kept, sizeof kept, "the best model so far (epoch %zu)",
                                     result->best_epoch);
    else snprintf(kept, sizeof kept, "the model as it is after %zu updates", result->updates);
    if (interrupts) say("interrupted: %s is in %s", kept, given->out);
    if (given->quiet) return;
    if (!interrupts && result->best_epoch) printf("best epoch %zu, score %.4f", result->best_epoch,
                                                  result->best_score);
    else if (!interrupts) printf("no --valid data: the last epoch's weights were kept");
    else printf("interrupted");
    printf("; %.1f s of training; saved to %s\n", result->train_seconds, given->out);
}

/* bf16 is a wish: says what it ended as. Returns MTL_PRECISION_*. */
static int report_precision(const settings *given, const mtl_trainer *trainer)
{
    int precision = mtl_trainer_precision(trainer);
    if (given->trainer.precision == MTL_PRECISION_BF16 && precision != MTL_PRECISION_BF16 && !given->quiet)
        note("--precision bf16: this processor, or the --isa chosen, has no AVX512-BF16 products; training "
             "runs in f32");
    return precision;
}

/* Fits the model and leaves the result in *result; *broken says why it ended where a best model is worth
   keeping all the same. Returns the precision of its products, MTL_PRECISION_*. */
static int fit(const settings *given, corpus *all, mtl_model *model, const mtl_batch *train,
               const mtl_batch *valid,
                mtl_fit_result *result, mtl_error *broken)
{
    mtl_error err = { 0 };
    reporter to = { 0 };
    mtl_fit_desc how = given->fit;
    mtl_trainer *trainer = mtl_trainer_create(model, &given->trainer, &err);
    int precision;
    check(&err);
    precision = report_precision(given, trainer);
    to.given = given;
    to.model = model;
    to.terminal = isatty(STDOUT_FILENO) && !given->quiet;
    if (given->log && !(to.log = fopen(given->log, "w")))
        fail("--log %s: cannot be written: %s", given->log, strerror(errno));
    how.score = given->score;
    how.progress = on_progress;
    how.user = &to;
    print_start(given, all, model);
    catch_interrupts();
    mtl_fit(trainer, train, arrlenu(train), valid, arrlenu(valid), &how, result, &err);
    if (err.code == MTL_ERROR_STOPPED && interrupts) mtl_error_clear(&err);
    if (err.code == MTL_ERROR_NUMBER && result->best_epoch) *broken = err;
    else check(&err);
    mtl_trainer_destroy(trainer);
    if (to.log && (ferror(to.log) | fclose(to.log)))
        warn("--log %s: not all of it could be written", given->log);
    return precision;
}

static int command_train(const settings *given, corpus *all)
{
    mtl_error err = { 0 }, broken = { 0 };
    mtl_fit_result result = { 0 };
    mtl_model *model;
    size_t k;
    mtl_batch *train, *valid;
    char trained[140], score[32];
    int precision;
    check_output(given, given->out, "--out");
    if (given->log) check_output(given, given->log, "--log");
    if (given->log && strcmp(given->log, given->out) == 0)
        fail("--log %s: is --out, too; expected another path", given->log);
    read_training_data(given, all);
    model = create_model(given, all);
    find_feature_scales(all);
    find_target_scales(all);
    set_means(all, model, 0, &err);
    train = make_batches(all, all->train, model);
    valid = make_batches(all, all->valid, model);
    note_means(all, model, &err);
    note_settings(given, all, model, &err);
    check(&err);
    precision = fit(given, all, model, train, valid, &result, &broken);
    mtl_text_from_number(nearest_real(result.best_score), score);
    snprintf(trained, sizeof trained,
             "epochs=%zu\nupdates=%zu\nbest_epoch=%zu\nbest_score=%s\nprecision=%s\n", result.epochs,
             result.updates, result.best_epoch, score, precision == MTL_PRECISION_BF16 ? "bf16" : "f32");
    mtl_model_note(model, "trained", trained, &err);
    set_means(all, model, 1, &err);
    mtl_model_save(model, given->out, &err);
    set_means(all, model, 0, &err);
    check(&err);
    if (broken.code) fail("%s; the best model so far (epoch %zu) is in %s", broken.message, result.best_epoch,
                          given->out);
    report_end(given, &result);
    if (arrlenu(valid) && !given->quiet) {
        mtl_scores scores = evaluate(given, all, model, valid, NULL);
        print_scores(model, &scores);
        for (k = 0; k < scores.task_count; k++)
            if (!scores.tasks[k].items)
                warn("task %s has no label in the --valid data: it was trained, but had no part in the score",
                     mtl_model_describe(model)->tasks[k].name);
        arrfree(scores.tasks);
    }
    mtl_model_destroy(model);
    arrfree(train);
    arrfree(valid);
    return 0;
}

/* ===========================================================================================================
   14 eval          scores of a model on labelled files
   ======================================================================================================== */

static mtl_model *load_model(const settings *given)
{
    mtl_error err = { 0 };
    mtl_model *model;
    struct stat status;
    if (stat(given->model_path, &status) == 0 && S_ISDIR(status.st_mode))
        fail("%s: is a directory; expected a model file", given->model_path);
    model = mtl_model_load(given->model_path, &err);
    if (err.code)
        fail("%s%s%s", strstr(err.message, given->model_path) ? "" : given->model_path,
             strstr(err.message, given->model_path) ? "" : ": ", err.message);
    return model;
}

/* Reads the next number of a note of means; 0 when it is not the one that the model's own float rounds. */
static int read_mean(const char **text, mtl_real stored, double *mean)
{
    size_t length = *text ? strcspn(*text, ",") : 0;
    if (!length || !mtl_text_number(*text, length, mean) || nearest_real(*mean) != stored) return 0;
    *text += length + ((*text)[length] == ',');
    return 1;
}

/* Takes over the exact means of a model that this command trained. Any other takes them off, as floats. */
static void load_means(corpus *all, mtl_model *model)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    const char *features = mtl_model_note(model, "feature_means", NULL, NULL),
               *targets = mtl_model_note(model, "target_means", NULL, NULL);
    const mtl_real *mean, *scale;
    double exact = 0, *exacts = NULL;
    int input = feature_input(desc), f, known = 1;
    mtl_error err = { 0 };
    size_t i;
    if (input >= 0 && !mtl_model_feature_scale(model, input, &mean, &scale)) return;
    for (f = 0; input >= 0 && known && f < desc->inputs[input].features; f++) {
        known = read_mean(&features, mean[f], &exact);
        arrput(all->means, exact);
        arrput(all->scales, scale[f]);
    }
    for (i = 0; i < desc->task_count && known; i++) {
        exact = 0;
        if (kind_is_real(all->tasks[i].kind))
            known = mtl_model_target_scale(model, (int)i, &mean, &scale) &&
                    read_mean(&targets, *mean, &exact);
        arrput(exacts, exact);
    }
    if (!known) arrfree(all->means), arrfree(all->scales);
    for (i = 0; i < desc->task_count && known; i++)
        if (mtl_model_target_scale(model, (int)i, &mean, &scale))
            set_task_mean(&all->tasks[i], exacts[i], *scale);
    if (known) set_means(all, model, 0, &err);
    check(&err);
    arrfree(exacts);
}

/* Classes of a model that stores no labels are called 0, 1, ... */
static const char *label_text(const mtl_model *model, int index, int label, char number[24])
{
    const char *text = mtl_model_label(model, index, label);
    if (text) return text;
    snprintf(number, 24, "%d", label);
    return number;
}

/* The corpus of a model: its tasks and labels, closed. */
static void corpus_from_model(const settings *given, corpus *all, const mtl_model *model)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    size_t i;
    int label;
    for (i = 0; i < desc->task_count; i++) {
        task of = { 0 };
        char number[24];
        of.name = desc->tasks[i].name;
        of.kind = kind_of(&desc->tasks[i]);
        of.path = given->model_path;
        if (kind_is_real(of.kind) && desc->tasks[i].width > 1)
            fail("%s: task %s has %d numbers for each item; the command reads one", given->model_path,
                 of.name, desc->tasks[i].width);
        for (label = 0; label < desc->tasks[i].classes && !kind_is_real(of.kind); label++)
{
            const char *text = label_text(model, (int)i, label, number);
            names_add(&of.labels, text, strlen(text));
        }
        of.classes = (size_t)desc->tasks[i].classes;
        if (given->command == EVAL) report_scheme(&of);
        arrput(all->tasks, of);
    }
    all->closed = 1;
    all->only = given->only;
    all->max_tokens = (size_t)given->max_tokens;
    for (i = 0; i < arrlenu(given->only); i++)
        if (!corpus_find(all, given->only[i]))
            fail_usage("--only %s: no such task%s", given->only[i],
                       suggestion(given->only[i], corpus_task_names(all)));
    apply_clamps(given, all);
}

/* Checks that the model reads what the command line gives, and takes from the model how CSV files are
   read. */
static void check_inputs(const settings *given, corpus *all, mtl_model *model)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    int input = feature_input(desc);
    const char *features;
    mtl_error err = { 0 };
    if (input >= 0 && !arrlenu(given->frames))
        fail_usage("%s reads rows of numbers: give --frames FILE.csv", given->model_path);
    if (input < 0 && arrlenu(given->frames))
        fail_usage("%s reads text: give %s instead of --frames", given->model_path,
                   given->command == EVAL ? "--data FILE" : "lines on standard input");
    if (input < 0 && !desc->inputs[0].words) fail("%s reads token ids: it stores no words",
                                                  given->model_path);
    if (input < 0) return;
    if (desc->input_count > 1)
        fail("%s has %zu inputs; the command can feed one of numbers", given->model_path, desc->input_count);
    features = mtl_model_note(model, "features", NULL, &err);
    all->sequence = given->sequence ? given->sequence : mtl_model_note(model, "sequence", NULL, &err);
    all->features = given->features;
    all->sequence_by = given->sequence ? "--sequence names" : "the model reads (--sequence may name another)";
    all->features_by = given->features ? "--features names" : "the model reads (--features may name others)";
    if (!arrlenu(all->features) && features) add_list(&all->features, features);
    if ((int)arrlenu(all->features) != desc->inputs[input].features)
        fail_usage("--features names %zu columns; %s was trained on %d", arrlenu(all->features),
                   given->model_path, desc->inputs[input].features);
}

/* --task in eval says which kind a column has; it must be the model's. */
static void check_tasks(const settings *given, const corpus *all)
{
    size_t i;
    for (i = 0; i < arrlenu(given->tasks); i++) {
        char *text = given->tasks[i], *colon = strchr(text, ':');
        task *of;
        if (!colon) fail_usage("--task %s: expected NAME:KIND", text);
        *colon = '\0';
        of = corpus_find(all, text);
        if (!of) fail_usage("--task %s: no such task in the model%s", text,
                            suggestion(text, corpus_task_names(all)));
        if (strcmp(kind_names[of->kind], colon + 1) != 0)
            fail_usage("--task %s:%s: the model's task %s is of kind %s", text, colon + 1, text,
                       kind_names[of->kind]);
    }
}

static int command_eval(const settings *given, corpus *all)
{
    mtl_model *model = load_model(given);
    mtl_batch *batches;
    mtl_scores scores;
    int frames = arrlenu(given->frames) > 0;
    char **files = frames ? given->frames : given->data;
    size_t i, **confusion;
    const char *settings_note = mtl_model_note(model, "settings", NULL, NULL);
    if (given->confusion) check_output(given, given->confusion, "--confusion");
    corpus_from_model(given, all, model);
    check_inputs(given, all, model);
    load_means(all, model);
    check_tasks(given, all);
    for (i = 0; i < arrlenu(files); i++) read_dataset(all, files[i], frames, &all->valid);
    need_targets(all, all->valid);
    if (settings_note && strstr(settings_note, "\nclamp=") && !arrlenu(given->clamps))
        warn("the model was trained with --clamp; "
             "scores are of the whole range unless it is given here, too");
    batches = make_batches(all, all->valid, model);
    confusion = make_confusions(all);
    scores = evaluate(given, all, model, batches, confusion);
    if (given->json) json_scores(stdout, model, &scores, all, confusion), putchar('\n');
    else print_scores(model, &scores);
    for (i = 0; i < arrlenu(all->tasks) && !given->json; i++)
        if (confusion[i]) print_classes(&all->tasks[i], confusion[i]);
    if (given->confusion) write_confusions(given->confusion, all, &scores, confusion);
    free_confusions(confusion);
    arrfree(scores.tasks);
    arrfree(batches);
    mtl_model_destroy(model);
    return 0;
}

/* ===========================================================================================================
   15 predict       an answer for every line, at once
   ======================================================================================================== */

/* A task's answer as a cell: labels and numbers of steps are separated by spaces. */
static void print_answer(const mtl_model *model, const task *of, int index, const mtl_prediction *answer)
{
    size_t i;
    char number[24];
    for (i = 0; i < answer->items * (kind_is_real(of->kind) ? answer->width : 1); i++) {
        if (i) putchar(' ');
        if (kind_is_real(of->kind)) print_number(stdout, answer_value(of, answer->values[i]));
        else fputs(label_text(model, index, answer->labels[i], number), stdout);
    }
}

/* The probabilities of one item's labels: {"label": p, ...}. */
static void json_probabilities(const mtl_model *model, int index, const mtl_prediction *answer, size_t item)
{
    size_t c;
    int first = 1;
    char number[24];
    putchar('{');
    for (c = 0; c < answer->width; c++)
        json_number(stdout, &first, label_text(model, index, (int)c, number),
                    answer->probabilities[item * answer->width + c]);
    putchar('}');
}

/* class: {"label", "probabilities"}; tags: {"labels", "probabilities": one for each label chosen}; real:
   {"value"}; reals: {"values"}. */
static void json_answer(const mtl_model *model, const task *of, int index, const mtl_prediction *answer)
{
    size_t i;
    char number[24];
    if (of->kind == CLASS) {
        printf("{\"label\": ");
        json_string(stdout, label_text(model, index, answer->labels[0], number));
        printf(", \"probabilities\": ");
        json_probabilities(model, index, answer, 0);
    } else if (of->kind == TAGS) {
        printf("{\"labels\": [");
        for (i = 0; i < answer->items; i++) {
            if (i) printf(", ");
            json_string(stdout, label_text(model, index, answer->labels[i], number));
        }
        printf("], \"probabilities\": [");
        for (i = 0; i < answer->items; i++) {
            if (i) printf(", ");
            print_number(stdout, answer->probabilities[i * answer->width + (size_t)answer->labels[i]]);
        }
        putchar(']');
    } else {
        printf(of->kind == REAL ? "{\"value\": " : "{\"values\": [");
        for (i = 0; i < answer->items; i++) {
            if (i) printf(", ");
            print_number(stdout, answer_value(of, answer->values[i]));
        }
        if (of->kind == REALS) putchar(']');
    }
    putchar('}');
}

/* One line: what was asked, and each task's answer. what: "text" or "sequence". */
static void print_answers(const settings *given, const corpus *all, const mtl_model *model, const char *what,
                          const char *asked, const mtl_prediction *answers)
{
    size_t i;
    int first = 1;
    if (given->json) {
        putchar('{');
        json_key(stdout, &first, what);
        json_string(stdout, asked);
        json_key(stdout, &first, "tasks");
        putchar('{');
        first = 1;
    } else {
        fputs(asked, stdout);
    }
    for (i = 0; i < arrlenu(all->tasks); i++) {
        if (given->json)
            json_key(stdout, &first, all->tasks[i].name),
                json_answer(model, &all->tasks[i], (int)i, &answers[i]);
        else putchar('\t'), print_answer(model, &all->tasks[i], (int)i, &answers[i]);
    }
    puts(given->json ? "}}" : "");
    flush_output();
}

static void print_answer_header(const settings *given, const corpus *all, const char *what)
{
    size_t i;
    if (given->json) return;
    fputs(what, stdout);
    for (i = 0; i < arrlenu(all->tasks); i++) printf("\t%s", all->tasks[i].name);
    putchar('\n');
    flush_output();
}

/* Typed text is read generously: any run of spaces and tabs separates tokens. Returns how many tokens there
   are. */
static size_t tidy_line(const source *in, size_t max_tokens)
{
    char *from = in->line, *to = in->line;
    size_t tokens = 0;
    while (*(from += strspn(from, " \t"))) {
        size_t length = strcspn(from, " \t");
        if (length > LONGEST_WORD)
            fail_at(in, from, "a token of %zu bytes; expected at most %d", length, (int)LONGEST_WORD);
        if (++tokens > max_tokens)
            fail_at(in, from, "more than %zu tokens in a line; cut it, or allow more with --max-tokens",
                    max_tokens);
        if (tokens > 1) *to++ = ' ';
        memmove(to, from, length);
        to += length;
        from += length;
    }
    *to = '\0';
    return tokens;
}

static void predict_lines(const settings *given, corpus *all, mtl_model *model, mtl_predictor *predictor,
                          mtl_prediction *answers)
{
    source in = { 0 };
    char *buffer = NULL;
    size_t capacity = 0;
    ssize_t length;
    mtl_error err = { 0 };
    in.path = "standard input";
    while ((length = getline(&buffer, &capacity, stdin)) >= 0) {
        int mark = !in.number && length >= 3 && memcmp(buffer, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
        set_line(&in, buffer + mark, (size_t)(length - mark));
        if (tidy_line(&in, all->max_tokens)) {
            mtl_predict_text(predictor, in.line, answers, NULL, &err);
            if (err.code) fail_at(&in, NULL, "%s", err.message);
            print_answers(given, all, model, "text", in.line, answers);
        } else {
            putchar('\n');
            flush_output();
        }
    }
    if (ferror(stdin) || !feof(stdin)) fail("standard input: cannot be read: %s", strerror(errno));
    free(buffer);
}

static void predict_frames(const settings *given, corpus *all, mtl_model *model, mtl_predictor *predictor,
                           mtl_prediction *answers)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    mtl_input inputs[1];
    mtl_error err = { 0 };
    task *tasks = all->tasks;
    size_t i, s;
    all->tasks = NULL;                      /* the targets, if the file has any, are not read */
    for (i = 0; i < arrlenu(given->frames); i++) read_dataset(all, given->frames[i], 1, &all->valid);
    all->tasks = tasks;
    for (i = 0; i < arrlenu(all->valid); i++) {
        mtl_batch batch = make_batch(all, &all->valid[i], model);
        size_t row = 0;
        for (s = 0; s < batch.sequences; s++) {
            mtl_batch one = one_sequence(&batch, desc, s, row, inputs);
            mtl_predict(predictor, &one, answers, &err);
            check(&err);
            print_answers(given, all, model, "sequence", all->valid[i].sequences.list[s].key, answers);
            row += (size_t)batch.lengths[s];
        }
    }
}

static int command_predict(const settings *given, corpus *all)
{
    mtl_error err = { 0 };
    mtl_model *model = load_model(given);
    mtl_predictor *predictor;
    mtl_prediction *answers = NULL;
    int frames = arrlenu(given->frames) > 0;
    corpus_from_model(given, all, model);
    check_inputs(given, all, model);
    load_means(all, model);
    predictor = mtl_predictor_create(model, &given->predictor, &err);
    check(&err);
    arrsetlen(answers, arrlenu(all->tasks));
    print_answer_header(given, all, frames ? "sequence" : "text");
    if (frames) predict_frames(given, all, model, predictor, answers);
    else predict_lines(given, all, model, predictor, answers);
    arrfree(answers);
    mtl_predictor_destroy(predictor);
    mtl_model_destroy(model);
    return 0;
}

/* ===========================================================================================================
   16 info          what is in a model file, from the field tables
   ======================================================================================================== */

/* "name value" of every field of a desc that says something: those that stand at 0 and mean nothing then are
   left out. */
static void print_fields(int desc, const void *members)
{
    size_t i, count, column = 0;
    char value[64], piece[140];
    const mtl_field *fields = mtl_fields(desc, &count);
    for (i = 0; i < count; i++) {
        mtl_field_get(&fields[i], members, value, sizeof value);
        if (strcmp(value, "0") == 0 || !*value) continue;
        snprintf(piece, sizeof piece, "%s %s", fields[i].name, value);
        column += strlen(piece) + 2;
        if (column > 110) column = strlen(piece) + 2, printf("\n ");
        printf("  %s", piece);
    }
    putchar('\n');
}

static void print_labels(const mtl_task_desc *of)
{
    int i;
    size_t column = 9;
    if (!of->labels) return;
    printf("  labels:");
    for (i = 0; i < of->classes; i++) {
        column += strlen(of->labels[i]) + 1;
        if (column > 110) column = strlen(of->labels[i]) + 4, printf("\n   ");
        printf(" %s", of->labels[i]);
    }
    putchar('\n');
}

static void print_class_weights(const mtl_task_desc *of)
{
    char number[32], index[16];
    size_t column = 16;
    int i;
    if (!of->class_weights) return;
    printf("  class weights:");
    for (i = 0; i < of->classes; i++) {
        const char *label = index;
        size_t length = mtl_text_from_number((double)of->class_weights[i], number);
        snprintf(index, sizeof index, "%d", i);
        if (of->labels) label = of->labels[i];
        length += strlen(label) + 2;
        column += length;
        if (column > 110) column = length + 3, printf("\n   ");
        printf(" %s:%s", label, number);
    }
    putchar('\n');
}

/* The next line of a note and its length; NULL when there is none. *text moves on. */
static const char *next_note_line(const char **text, size_t *length)
{
    const char *line = *text;
    if (!line || !*line) return NULL;
    *length = strcspn(line, "\n");
    *text = line + *length + (line[*length] == '\n');
    return line;
}

/* A note's lines, indented. */
static void print_note(mtl_model *model, const char *key, const char *title)
{
    const char *text = mtl_model_note(model, key, NULL, NULL), *line;
    size_t length;
    if (text && *text) printf("%s\n", title);
    while ((line = next_note_line(&text, &length)) != NULL) printf("  %.*s\n", (int)length, line);
}

static void print_model(const settings *given, mtl_model *model, double bytes)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    size_t i;
    printf("%s: a valid model, %.0f bytes, %zu parameters\n", given->model_path, bytes,
           count_parameters(model));
    for (i = 0; i < desc->input_count; i++) {
        printf("input %s\n", desc->inputs[i].name);
        print_fields(MTL_DESC_INPUT, &desc->inputs[i]);
    }
    for (i = 0; i < desc->column_count; i++) {
        printf("column %s\n", desc->columns[i].name);
        print_fields(MTL_DESC_COLUMN, &desc->columns[i]);
    }
    for (i = 0; i < desc->task_count; i++) {
        printf("task %s: %s\n", desc->tasks[i].name, kind_names[kind_of(&desc->tasks[i])]);
        print_fields(MTL_DESC_TASK, &desc->tasks[i]);
        print_labels(&desc->tasks[i]);
        print_class_weights(&desc->tasks[i]);
    }
    printf("model\n");
    print_fields(MTL_DESC_MODEL, desc);
    print_note(model, "settings", "trained with");
    print_note(model, "trained", "training");
    print_note(model, "sequence", "CSV: sequence column");
    print_note(model, "features", "CSV: feature columns");
    print_note(model, "feature_means", "CSV: their means");
}

/* {"name": ..., field: value, ...} without its end. */
static void json_fields(int desc, const void *members, const char *key)
{
    size_t i, count;
    int first = 1;
    char value[64];
    const mtl_field *fields = mtl_fields(desc, &count);
    putchar('{');
    json_key(stdout, &first, "name");
    json_string(stdout, key);
    for (i = 0; i < count; i++) {
        mtl_field_get(&fields[i], members, value, sizeof value);
        json_key(stdout, &first, fields[i].name);
        if (fields[i].type == MTL_CHOICE) json_string(stdout, value);
        else if (fields[i].type == MTL_INTS) printf("[%s]", strcmp(value, "0") ? value : "");
        else fputs(*value ? value : "0", stdout);
    }
}

static void json_tasks(const mtl_model_desc *desc)
{
    size_t i;
    int c;
    char number[32];
    for (i = 0; i < desc->task_count; i++) {
        const mtl_task_desc *of = &desc->tasks[i];
        if (i) printf(", ");
        json_fields(MTL_DESC_TASK, of, of->name);
        for (c = 0; c < of->classes && of->labels; c++) {
            printf(c ? ", " : ", \"labels\": [");
            json_string(stdout, of->labels[c]);
        }
        if (of->classes && of->labels) putchar(']');
        for (c = 0; c < of->classes && of->class_weights; c++) {
            mtl_text_from_number((double)of->class_weights[c], number);
            printf("%s%s", c ? ", " : ", \"class_weights\": [", number);
        }
        printf(of->class_weights ? "]}" : "}");
    }
}

/* The lines key=value of a note as an object; values that are numbers are numbers. */
static void json_note(mtl_model *model, const char *key)
{
    const char *text = mtl_model_note(model, key, NULL, NULL), *line, *equals;
    int first = 1;
    double number;
    size_t length;
    char piece[512];
    putchar('{');
    while ((line = next_note_line(&text, &length)) != NULL) {
        if (!(equals = (const char *)memchr(line, '=', length))) continue;
        snprintf(piece, sizeof piece, "%.*s", (int)(equals - line), line);
        json_key(stdout, &first, piece);
        snprintf(piece, sizeof piece, "%.*s", (int)(line + length - equals - 1), equals + 1);
        if (mtl_text_number(piece, strlen(piece), &number)) fputs(piece, stdout);
        else json_string(stdout, piece);
    }
    putchar('}');
}

static void json_model(const settings *given, mtl_model *model, double bytes)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    size_t i;
    printf("{\"file\": ");
    json_string(stdout, given->model_path);
    printf(", \"bytes\": %.0f, \"parameters\": %zu, \"seed\": %llu, \"inputs\": [", bytes,
           count_parameters(model), desc->seed);
    for (i = 0; i < desc->input_count; i++) {
        if (i) printf(", ");
        json_fields(MTL_DESC_INPUT, &desc->inputs[i], desc->inputs[i].name);
        putchar('}');
    }
    printf("], \"columns\": [");
    for (i = 0; i < desc->column_count; i++) {
        if (i) printf(", ");
        json_fields(MTL_DESC_COLUMN, &desc->columns[i], desc->columns[i].name);
        putchar('}');
    }
    printf("], \"tasks\": [");
    json_tasks(desc);
    printf("], \"settings\": ");
    json_note(model, "settings");
    printf(", \"training\": ");
    json_note(model, "trained");
    printf("}\n");
}

static int command_info(const settings *given)
{
    mtl_model *model = load_model(given);
    struct stat status;
    double bytes = stat(given->model_path, &status) == 0 ? (double)status.st_size : 0;
    if (given->json) json_model(given, model, bytes);
    else print_model(given, model, bytes);
    mtl_model_destroy(model);
    return 0;
}

/* ===========================================================================================================
   17 reference     every field as a Markdown page: `make` writes docs/reference.md with it
   ======================================================================================================== */

static void print_range(const mtl_field *of)
{
    const mtl_choice *choice;
    if (of->choices) {
        for (choice = of->choices; choice->name; choice++)
            printf("%s`%s`", choice == of->choices ? "" : ", ", choice->name);
    } else if (of->type == MTL_FLAG) {
        printf("0 or 1");
    } else if (of->low < of->high) {
        printf("%.10g to %.10g", of->low, of->high);
    } else {
        printf("0 or more");
    }
}

static int command_reference(void)
{
    static settings defaults;               /* all zero: every field at its default */
    static mtl_task_desc no_task;
    size_t g, i, count;
    char value[64];
    printf("# Reference: every field\n\n"
           "Made by `mtl reference` from the field tables of mtl_rnn.h. The command sets any of them with "
           "`--set GROUP.FIELD=VALUE`;\n"
           "in C they are the members of the descs. The defaults are the header's; `mtl train` starts from "
           "its preset.\n");
    for (g = 0; g < GROUP_COUNT; g++) {
        const mtl_field *fields = mtl_fields(groups[g].desc, &count);
        const void *members = groups[g].desc == MTL_DESC_TASK ? (const void *)&no_task
                                                              : (const void *)((const char *)&defaults
                                                                               + groups[g].offset);
        if (strcmp(groups[g].name, "frames") == 0) continue;
        printf("\n## %s: %s\n\n| field | default | range | meaning |\n|---|---|---|---|\n", groups[g].name,
               groups[g].what);
        for (i = 0; i < count; i++) {
            printf("| `%s` | %s | ", fields[i].name, mtl_field_get(&fields[i], members, value, sizeof value));
            print_range(&fields[i]);
            printf(" | %s |\n", fields[i].help);
        }
        if (strcmp(groups[g].name, "input") == 0)
            printf("\nFor rows of numbers the same fields are set as `frames.FIELD`.\n");
    }
    return 0;
}

/* ===========================================================================================================
   18 main
   ======================================================================================================== */

EXITS
static void fail_command(const char *text)
{
    const char **candidates = NULL;
    size_t i;
    for (i = 0; i < COMMAND_COUNT; i++) arrput(candidates, commands[i].name);
    fail_usage("unknown command '%.40s'%s (mtl --help tells more)", text, suggestion(text, candidates));
}

/* A write beyond a file size limit or into a closed pipe is an error like any other, not the program's
   death. */
static void ignore_write_signals(void)
{
#ifdef SIGPIPE
    signal(SIGPIPE, SIG_IGN);
#endif
#ifdef SIGXFSZ
    signal(SIGXFSZ, SIG_IGN);
#endif
}

static int run(int command, int count, char **arguments)
{
    static settings given;
    static corpus all;
    settings_init(&given, command);
    parse_options(&given, count, arguments);
    check_options(&given);
    switch (command) {
    case TRAIN:   return command_train(&given, &all);
    case EVAL:    return command_eval(&given, &all);
    case PREDICT: return command_predict(&given, &all);
    default:      return command_info(&given);
    }
}

int main(int count, char **arguments)
{
    size_t i;
    int status = 0;
    const char *word;
#ifdef _WIN32
    arguments = windows_begin(&count, arguments);
#endif
    word = count > 1 ? arguments[1] : "";
    ignore_write_signals();
    if (count < 2) {
        print_help(stderr);
        return 2;
    }
    if (strcmp(word, "--version") == 0) {
        printf("mtl %s\n", MTL_RNN_VERSION);
    } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        print_help(stdout);
    } else if (strcmp(word, "reference") == 0 || strcmp(word, "--reference") == 0) {
        status = command_reference();
    } else {
        for (i = 0; i < COMMAND_COUNT && strcmp(word, commands[i].name) != 0; i++) { }
        if (i == COMMAND_COUNT) fail_command(word);
        status = run(commands[i].command, count - 2, arguments + 2);
    }
    flush_output();
    return status;
}
