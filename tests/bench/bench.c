/* tests/bench/bench.c    the benchmark: what the machine can do, and how near to it the header comes

   bench peak                                clock, multiply-add peaks, bandwidths, element-wise rates of
                                             every instruction set
   bench infer|train|stream [options]        microseconds and share of the peak at every point of a grid
   bench guard                               every vector instruction set against scalar code; fails when one
                                             is slow
   bench growth                              a model's step as its vocabulary or its number of tasks grows
   bench frames                              a step of many sequences, by mtl_predict and by mtl_stream_step
   bench parts [options]                     embedding, large softmax, crf, Adam, dropout, many heads,
                                             characters, gazetteer, attention, norms, vocabulary, ragged
                                             batches
   (the options: see `usage` below)

   Standard output holds a TSV table with a header line and nothing else. Timings are only worth something on
   a processor of one's own: taskset -c 1 build/bench ... The implementation is included here, so that
   internals can be reached. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>

#define MTL_RNN_IMPLEMENTATION
#include "mtl_rnn.h"

#include "clock.h"
#include "peak.h"
#include "passes.h"
#include "split.h"
#include "parts.h"
#include "guard.h"
#include "frames.h"

static const char usage[] =
    "usage: bench peak\n"
    "       bench guard                          exit status 1 when a kernel is slow\n"
    "       bench frames                         a step of many sequences, in a batch and in a stream\n"
    "       bench growth                         steps of models with larger vocabularies and with more "
    "tasks\n"
    "       bench parts [--only "
    "embedding|softmax|crf|adam|dropout|recurrent|heads|lazy|denormal|sharing|columns|conv|\n"
    "                          surgery|watch|characters|gazetteer|pool|attention|norm|ragged] "
    "[--lengths FILE]\n"
    "           --lengths FILE       of the ragged batches: a length a line, 32 at least\n"
    "       bench infer|train|stream [options]   each takes a value or several, separated by commas; all "
    "combinations run\n"
    "           --cell lstm|gru|rnn|mingru [lstm]   --dir uni|bi    [uni]      --hidden H    [128; stream "
    "16,32,64,128,256]\n"
    "           --batch B            [16]        --steps T          [32]       --threads N   [1]\n"
    "           --isa NAME           [auto]      --precision f32|bf16 [f32]; bf16 is for train\n"
    "           --repeats R          as many as take 0.3 seconds\n"
    "           --no-head            train: no softmax head, the gradient of the outputs is given\n"
    "           --parts              train, one thread: a row for each part of the step instead\n"
    "           --norm               train: with the norm of the gradient, which mtl_train_step needs\n";

/* ---- options ------------------------------------------------------------------------------------------- */

enum { BENCH_LIST = 64 };                   /* most values of one option */
typedef struct bench_list {
    size_t count;
    int value[BENCH_LIST];
} bench_list;

typedef struct bench_options {
    bench_list cell, directions, hidden, batch, steps, threads, isa, bf16;
    size_t repeats;                         /* 0: by time */
    int no_head, norm, parts;
} bench_options;

static void fail_usage(const char *message, const char *what)
{
    fprintf(stderr, "bench: %s%s%s\n%s", message, what ? " " : "", what ? what : "", usage);
    exit(2);
}

/* A word of an option with names ("lstm"), or a whole number from 1 on (names NULL). -1: it is none. */
static int option_value(const char *text, size_t length, const mtl_choice *names)
{
    long number = 0;
    size_t i;
    for (i = 0; names && names[i].name; i++)
        if (strlen(names[i].name) == length && memcmp(names[i].name, text, length) == 0)
            return names[i].value;
    for (i = 0; !names && i < length && text[i] >= '0' && text[i] <= '9' && number < 100000000; i++)
        number = number * 10 + (text[i] - '0');
    return !names && length && i == length && number > 0 && number <= 100000000 ? (int)number : -1;
}

/* "a,b,c" into a list. */
static void option_list(bench_list *list, const char *option, const char *text, const mtl_choice *names)
{
    list->count = 0;
    for (;;) {
        const size_t length = strcspn(text, ",");
        const int value = option_value(text, length, names);
        if (value < 0 || list->count == BENCH_LIST) fail_usage("wrong value of", option);
        list->value[list->count++] = value;
        if (!text[length]) return;
        text += length + 1;
    }
}

static bench_list one_value(int value)
{
    bench_list list;
    list.count = 1;
    list.value[0] = value;
    return list;
}

static bench_options default_options(int mode)
{
    bench_options o;
    memset(&o, 0, sizeof o);
    o.cell = one_value(MTL_CELL_LSTM);
    o.directions = one_value(1);
    o.hidden = one_value(128);
    if (mode == BENCH_STREAM) option_list(&o.hidden, "--hidden", "16,32,64,128,256", NULL);
    o.batch = one_value(16);
    o.steps = one_value(32);
    o.threads = one_value(1);
    o.isa = one_value(MTL_ISA_AUTO);
    o.bf16 = one_value(0);
    return o;
}

static bench_options read_options(int mode, int argc, char **argv)
{
    static const mtl_choice cells[] = { { MTL_CELL_LSTM, "lstm" }, { MTL_CELL_GRU, "gru" },
        { MTL_CELL_RNN, "rnn" }, { MTL_CELL_MINGRU, "mingru" }, { 0, NULL } };
    static const mtl_choice directions[] = { { 1, "uni" }, { 2, "bi" }, { 0, NULL } };
    static const mtl_choice precisions[] = { { 0, "f32" }, { 1, "bf16" }, { 0, NULL } };
#define ISA_CHOICE(number, name) { number, name },
    static const mtl_choice isas[] = { MTL_ISA_NAMES(ISA_CHOICE) { 0, NULL } };
#undef ISA_CHOICE
    bench_options o = default_options(mode);
    const struct { const char *name; bench_list *list; const mtl_choice *names; } table[] = {
        { "--cell", &o.cell, cells },     { "--dir", &o.directions, directions },
            { "--hidden", &o.hidden, NULL },
        { "--batch", &o.batch, NULL },    { "--steps", &o.steps, NULL },
            { "--threads", &o.threads, NULL },
        { "--isa", &o.isa, isas },        { "--precision", &o.bf16, precisions }
    };
    bench_list repeats;
    size_t k;
    int i;
    for (i = 0; i < argc; i++) {
        if (!strcmp(argv[i], "--no-head")) { o.no_head = 1; continue; }
        if (!strcmp(argv[i], "--norm")) { o.norm = 1; continue; }
        if (mode == BENCH_TRAIN && !strcmp(argv[i], "--parts")) { o.parts = 1; continue; }
        if (i + 1 == argc) fail_usage("unknown option, or one without a value:", argv[i]);
        for (k = 0; k < MTL__COUNT(table) && strcmp(argv[i], table[k].name) != 0;) k++;
        if (k < MTL__COUNT(table)) {
            option_list(table[k].list, argv[i], argv[i + 1], table[k].names);
        } else if (!strcmp(argv[i], "--repeats")) {
            option_list(&repeats, argv[i], argv[i + 1], NULL);
            o.repeats = (size_t)repeats.value[0];
        } else {
            fail_usage("unknown option", argv[i]);
        }
        i++;
    }
    return o;
}

/* What can be known to fail before anything is measured. */
static void check_options(const bench_options *o)
{
    size_t i, k;
    for (i = 0; i < o->isa.count; i++) {
        const mtl__kernels *kernels = mtl__kernels_choose(o->isa.value[i]);
        if (!kernels) fail_usage("this machine has no", mtl__isa_name(o->isa.value[i]));
        for (k = 0; k < o->bf16.count; k++)
            if (o->bf16.value[k] && mtl__precision_choose(kernels, MTL_PRECISION_BF16) != MTL_PRECISION_BF16)
                fail_usage("this machine has no bf16 products in the kernels of", kernels->name);
    }
    for (i = 0; i < o->threads.count; i++)
        if (o->parts && o->threads.value[i] > 1) fail_usage("parts are measured with one thread", NULL);
}

/* ---- the grid ------------------------------------------------------------------------------------------ */

/* Runs every combination; the last axis moves fastest. */
static void run_grid(const bench_options *o, int mode)
{
    const bench_list *axis[8];
    size_t at[8] = { 0 }, k;
    bench_point p;
    axis[0] = &o->cell; axis[1] = &o->directions; axis[2] = &o->isa; axis[3] = &o->bf16;
    axis[4] = &o->threads; axis[5] = &o->batch; axis[6] = &o->steps; axis[7] = &o->hidden;
    do {
        memset(&p, 0, sizeof p);
        p.cell = o->cell.value[at[0]];
        p.directions = (size_t)o->directions.value[at[1]];
        p.isa = o->isa.value[at[2]];
        p.bf16 = o->bf16.value[at[3]];
        p.threads = (size_t)o->threads.value[at[4]];
        p.batch = mode == BENCH_STREAM ? 1 : (size_t)o->batch.value[at[5]];
        p.steps = mode == BENCH_STREAM ? 1 : (size_t)o->steps.value[at[6]];
        p.hidden = (size_t)o->hidden.value[at[7]];
        p.head = !o->no_head;
        p.norm = o->norm;
        if (o->parts) bench_split_run(&p, o->repeats);
        else bench_point_run(&p, mode, o->repeats);
        for (k = 8; k-- > 0;) {
            if (++at[k] < axis[k]->count) break;
            at[k] = 0;
        }
    } while (k < 8);
}

static int grid_command(int mode, int argc, char **argv)
{
    const bench_options o = read_options(mode, argc, argv);
    check_options(&o);
    if (o.parts) bench_split_header();
    else bench_print_header();
    run_grid(&o, mode);
    return 0;
}

static int parts_command(int argc, char **argv)
{
    const char *lengths = NULL, *only = NULL;
    int i;
    for (i = 0; i < argc; i += 2) {
        if (i + 1 == argc) fail_usage("unknown option, or one without a value:", argv[i]);
        if (!strcmp(argv[i], "--lengths")) lengths = argv[i + 1];
        else if (!strcmp(argv[i], "--only")) only = argv[i + 1];
        else fail_usage("unknown option", argv[i]);
    }
    if (!bench_parts_command(lengths, only)) fail_usage("there is no part", only);
    return 0;
}

int main(int argc, char **argv)
{
    int mode;
    if (argc < 2) fail_usage("a command is needed", NULL);
    if (!strcmp(argv[1], "--help")) { fputs(usage, stderr); return 0; }
    for (mode = BENCH_INFER; mode <= BENCH_STREAM; mode++)
        if (!strcmp(argv[1], bench_mode_names[mode])) return grid_command(mode, argc - 2, argv + 2);
    if (!strcmp(argv[1], "parts")) return parts_command(argc - 2, argv + 2);
    if (strcmp(argv[1], "peak") != 0 && strcmp(argv[1], "guard") != 0 && strcmp(argv[1], "growth") != 0 &&
        strcmp(argv[1], "frames") != 0)
        fail_usage("unknown command", argv[1]);
    if (argc > 2) fail_usage("this command takes no option:", argv[2]);
    if (!strcmp(argv[1], "frames")) return bench_frames_command();
    if (!strcmp(argv[1], "growth")) return bench_growth_command();
    return !strcmp(argv[1], "peak") ? bench_peak_command() : bench_guard_command();
}
