/* tests/main.c    every test of the header, in one program

   Includes the implementation once, then a file of tests per section of the header, in the header's order.
   One compile is one configuration: see Makefile and .ci/matrix.sh. Run it from the top of the repository.

       MTL_TEST_QUICK=1              a tenth of the random cases
       MTL_TEST_ONLY="tape train"    only tests/test_tape.c and tests/test_train.c
       TMPDIR                        the only folder that is written to (/tmp), under names of this process;
                                     left clean

   Compiled with -DTEST_EMULATE_AVX512, the AVX-512 kernels run on any x86 that has AVX2
   (tests/avx512_emulation.h). The last line names the instruction sets and the precisions whose kernels were
   called.

   The status is 0 when all tests passed. */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <fenv.h>
#include <time.h>
#include <unistd.h>
#include <pthread.h>
#include <cmocka.h>

/* Every allocation of the library goes through these: tests count them and make them fail. */
static void *counted_malloc(size_t bytes);
static void counted_free(void *memory);
#define MTL_MALLOC(bytes) counted_malloc(bytes)
#define MTL_FREE(memory) counted_free(memory)

#ifdef TEST_EMULATE_AVX512
#  include "avx512_emulation.h"
#  define TEST_EMULATED 1
#else
#  define TEST_EMULATED 0
#endif
#define MTL__BF16_REFERENCE                  /* the scalar kernels imitate bfloat16 products */
#define MTL_RNN_IMPLEMENTATION
#define MTL__SAME_WORK 1
#define MTL__CELL_GROUPED 65536          /* so that the tests reach what only very large weights need */
#include "mtl_rnn.h"

#include "helpers.h"

#include "test_platform.c"
#include "test_error.c"
#include "test_random.c"
#include "test_arena.c"
#include "test_threads.c"
#include "test_kernels.c"
#include "test_tensor.c"
#include "test_batch.c"
#include "test_formats.c"
#include "test_fields.c"
#include "test_tape.c"
#include "test_layers.c"
#include "test_cells.c"
#include "test_losses.c"
#include "test_metrics.c"
#include "test_encoder.c"
#include "test_nodes.c"
#include "test_words.c"
#include "test_gazetteer.c"
#include "test_tasks.c"
#include "test_crf.c"
#include "test_model.c"
#include "test_sharing.c"
#include "test_predict.c"
#include "test_stream.c"
#include "test_kinds.c"
#include "test_lm.c"
#include "test_balance.c"
#include "test_optimise.c"
#include "test_train.c"
#include "test_resume.c"
#include "test_watch.c"
#include "test_check.c"
#include "test_golden.c"
#include "test_old_files.c"
#include "test_plain.c"
#include "test_custom.c"

/* One group of tests per file: X(file's word, the macro's word). */
#define TEST_FILES(X) \
    X(platform, PLATFORM) X(error, ERROR) X(random, RANDOM) X(arena, ARENA) X(threads, THREADS) X(kernels, \
      KERNELS) \
    X(tensor, TENSOR) X(batch, BATCH) X(formats, FORMATS) X(fields, FIELDS) X(tape, TAPE) X(layers, LAYERS) \
      X(cells, CELLS) \
    X(losses, LOSSES) X(metrics, METRICS) X(encoder, ENCODER) X(nodes, NODES) X(words, WORDS) \
    X(gazetteer, GAZETTEER) \
    X(tasks, TASKS) X(crf, CRF) \
    X(model, MODEL) \
    X(sharing, SHARING) X(predict, \
      PREDICT) X(stream, STREAM) X(kinds, KINDS) X(lm, LM) \
    X(balance, BALANCE) X(optimise, OPTIMISE) X(train, TRAIN) X(resume, RESUME) X(watch, WATCH) \
    X(check, CHECK) X(golden, GOLDEN) \
    X(old_files, OLD_FILES) \
    X(plain, PLAIN) X(custom, CUSTOM)

static size_t live_before;                  /* blocks of the library in use when a group began */

static int group_setup(void **state)
{
    (void)state;
    live_before = test_malloc_live;
    return 0;
}

/* What a group of tests took, it has given back. */
static int group_teardown(void **state)
{
    (void)state;
    if (test_malloc_live == live_before) return 0;
    print_error("%ld blocks of memory were not freed\n", (long)(test_malloc_live - live_before));
    return 1;
}

#define TEST_GROUP(word, WORD) \
    static int run_##word(void) \
    { \
        const struct CMUnitTest tests[] = { TEST_##WORD }; \
        return cmocka_run_group_tests_name(#word, tests, group_setup, group_teardown); \
    }
TEST_FILES(TEST_GROUP)

/* 1 when MTL_TEST_ONLY is not set or holds the word. */
static int wanted(const char *word)
{
    const char *only = getenv("MTL_TEST_ONLY"), *at;
    size_t length = strlen(word);
    if (!only || !*only) return 1;
    for (at = strstr(only, word); at; at = strstr(at + 1, word))
        if ((at == only || at[-1] == ' ') && (at[length] == ' ' || !at[length])) return 1;
    return 0;
}

int main(void)
{
    static const struct { const char *word; int (*run)(void); } files[] = {
#define TEST_ROW(word, WORD) { #word, run_##word },
        TEST_FILES(TEST_ROW)
    };
    int failed = 0, isa;
    size_t i;
    setvbuf(stdout, NULL, _IOLBF, 0);       /* a crash loses nothing, and the order with standard error
                                               stays */
    for (i = 0; i < sizeof files / sizeof files[0]; i++) {
        clock_t start = clock();
        if (!wanted(files[i].word)) continue;
        failed += files[i].run() != 0;
        if (getenv("MTL_TEST_VERBOSE"))
            printf("%s: %.2f s of processor time\n", files[i].word,
                   (double)(clock() - start) / CLOCKS_PER_SEC);
    }
    printf("isas:");
    for (isa = 0; isa < MTL_ISA_COUNT; isa++)
        if (test_executed_isas[isa])
            printf(" %s%s", mtl__isa_name(isa), isa == MTL_ISA_AVX512 && TEST_EMULATED ? " (emulated)" : "");
    printf("  precisions:%s\n", test_executed_precisions);
    return failed != 0;
}
