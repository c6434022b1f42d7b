/* tests/bench/clock.h    timing: how often a piece of work is repeated, and its least and median time

   Included by bench.c behind the implementation of mtl_rnn.h, whose monotonic clock and arena it uses. */

typedef void (*bench_work)(void *user);
typedef struct bench_timing {
    double us_min, us_median;               /* microseconds of one piece of work */
} bench_timing;

enum { BENCH_LEAST = 5, BENCH_MOST = 20000 };

static int bench_compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Microseconds of one piece of work, right now. */
static double bench_once(bench_work work, void *user)
{
    const double start = mtl__seconds();
    work(user);
    return (mtl__seconds() - start) * 1e6;
}

/* Warms up (a tenth of the time, three times at least: the run's arena finds its size in two), then measures
   `repeats` times; 0: as often as `seconds` allow. */
static bench_timing bench_measure(bench_work work, void *user, size_t repeats, double seconds)
{
    bench_timing result;
    double *us, fastest = 1e300, spent = 0;
    size_t i;
    for (i = 0; i < 3 || (spent < seconds * 1e5 && i < BENCH_MOST); i++) {
        const double now = bench_once(work, user);
        spent += now;
        if (now < fastest) fastest = now;
    }
    if (!repeats) {
        const double fitting = seconds * 1e6 / (fastest > 0.01 ? fastest : 0.01);
        repeats = fitting < BENCH_LEAST ? (size_t)BENCH_LEAST : fitting > BENCH_MOST
            ? (size_t)BENCH_MOST : (size_t)fitting;
    }
    us = (double *)malloc(repeats * sizeof *us);
    if (!us) { fprintf(stderr, "bench: out of memory\n"); exit(1); }
    for (i = 0; i < repeats; i++) us[i] = bench_once(work, user);
    qsort(us, repeats, sizeof *us, bench_compare);
    result.us_min = us[0];
    result.us_median = us[repeats / 2];
    free(us);
    return result;
}

/* ---- memory and numbers -------------------------------------------------------------------------------- */

/* `count` reals in [-1, 1), the same in every run, in the arena's memory. */
static mtl_real *bench_reals(mtl_arena *arena, size_t count, unsigned long long stream)
{
    mtl_real *x = (mtl_real *)mtl_arena_push(arena, count * sizeof *x);
    size_t i;
    if (!x) { fprintf(stderr, "bench: out of memory\n"); exit(1); }
    for (i = 0; i < count; i++) x[i] = (mtl_real)(2 * mtl__random_uniform(1, stream, i) - 1);
    return x;
}

static int *bench_ints(mtl_arena *arena, size_t count, int limit, unsigned long long stream)
{
    int *x = (int *)mtl_arena_push(arena, count * sizeof *x);
    size_t i;
    if (!x) { fprintf(stderr, "bench: out of memory\n"); exit(1); }
    for (i = 0; i < count; i++) x[i] = (int)(mtl__random_uniform(1, stream, i) * limit);
    return x;
}

/* Stops the program on a failed run: a benchmark of work that was not done would be no benchmark. */
static void bench_must(const mtl_error *err)
{
    if (!err->code) return;
    fprintf(stderr, "bench: %s\n", err->message);
    exit(1);
}
