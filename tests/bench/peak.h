/* tests/bench/peak.h    what the machine can do: clock, multiply-add peaks, bandwidths, element-wise rates

   The loops are written with the vector primitives of the header's kernel template, once, in peak_stamp.h. So
   a peak is that of the instructions that the kernels are made of: without FMA (scalar, sse2) a
   multiplication and an addition. */

typedef struct bench_stamp {
    int isa, lanes, sums;
    mtl_real (*fma)(size_t rounds);
    mtl_real (*load_fma)(const mtl_real *x, size_t n, size_t rounds);
    void (*triad)(mtl_real *x, const mtl_real *y, const mtl_real *z, size_t n, size_t rounds);
} bench_stamp;

#define BENCH_NUMBER_OF_scalar MTL_ISA_SCALAR
#define BENCH_NUMBER_OF_sse2   MTL_ISA_SSE2
#define BENCH_NUMBER_OF_avx2   MTL_ISA_AVX2
#define BENCH_NUMBER_OF_avx512 MTL_ISA_AVX512
#define BENCH_NUMBER_OF_neon   MTL_ISA_NEON

#define BENCH_ISA scalar
#define BENCH_TARGET
#define BENCH_SUMS 12
#include "peak_stamp.h"
#ifdef MTL__X86
#  define BENCH_ISA sse2
#  define BENCH_TARGET
#  define BENCH_SUMS 12
#  include "peak_stamp.h"
#  define BENCH_ISA avx2
#  define BENCH_TARGET __attribute__((target("avx2,fma")))
#  define BENCH_SUMS 12
#  include "peak_stamp.h"
#  define BENCH_ISA avx512
#  define BENCH_TARGET __attribute__((target(MTL__BF16_TARGET "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))
#  define BENCH_SUMS 24
#  include "peak_stamp.h"
#endif
#ifdef MTL__NEON
#  define BENCH_ISA neon
#  define BENCH_TARGET
#  define BENCH_SUMS 24
#  include "peak_stamp.h"
#endif

static const bench_stamp *const bench_stamps[] = {
    &bench_stamp_of_scalar,
#ifdef MTL__X86
    &bench_stamp_of_sse2, &bench_stamp_of_avx2, &bench_stamp_of_avx512,
#endif
#ifdef MTL__NEON
    &bench_stamp_of_neon,
#endif
    NULL
};

/* The loops of an instruction set that this machine has; MTL_ISA_AUTO: of the best. */
static const bench_stamp *bench_stamp_find(int isa)
{
    const mtl__kernels *table = mtl__kernels_choose(isa);
    size_t i = 0;
    while (table && bench_stamps[i] && bench_stamps[i]->isa != table->isa) i++;
    if (!table || !bench_stamps[i]) {
        fprintf(stderr, "bench: this machine has no %s\n", mtl__isa_name(isa));
        exit(2);
    }
    return bench_stamps[i];
}

static volatile double bench_sink;          /* where results go that nobody reads */

/* ---- clock --------------------------------------------------------------------------------------------- */

#if defined(__GNUC__) && !defined(__TINYC__)
#  define BENCH_HIDE_INTEGER(x) __asm__ volatile("" : "+r"(x))
#else
#  define BENCH_HIDE_INTEGER(x) ((void)0)
#endif

/* GHz, by additions that wait for one another, a cycle each. The best of 20 runs of about 0.1 ms. */
static double bench_clock(void)
{
    size_t run, i, k, x = 1, step = 3;
    const size_t rounds = 20000;
    double best = 0;
    BENCH_HIDE_INTEGER(step);
    for (run = 0; run < 20; run++) {
        const double start = mtl__seconds();
        double rate;
        for (i = 0; i < rounds; i++) {
            MTL__UNROLL
            for (k = 0; k < 16; k++) {
                x += step;
                BENCH_HIDE_INTEGER(x);
            }
        }
        rate = 16e-9 * (double)rounds / (mtl__seconds() - start);
        if (rate > best) best = rate;
    }
    bench_sink = (double)x;
    return best;
}

/* ---- multiply-add peaks -------------------------------------------------------------------------------- */

enum { BENCH_PEAK_ROUNDS = 50000, BENCH_PEAK_RUNS = 20 };

static void bench_peak_job(void *context, size_t i)
{
    const bench_stamp *stamp = (const bench_stamp *)context;
    const mtl_real sum = stamp->fma(BENCH_PEAK_ROUNDS);
    (void)i;
    if (sum == -1) bench_sink = 1;          /* never: keeps the work without a store that threads would
                                               share */
}

/* GFLOP/s of `threads` threads together, from registers; the best of 20 runs of about 0.1 ms. scheduler NULL:
   one thread. */
static double bench_peak(const bench_stamp *stamp, const mtl_scheduler *scheduler, size_t threads)
{
    const double flop = 2.0 * BENCH_PEAK_ROUNDS * stamp->sums * stamp->lanes * (double)threads;
    double best = 0;
    size_t run;
    for (run = 0; run < BENCH_PEAK_RUNS; run++) {
        const double start = mtl__seconds();
        double rate;
        mtl__parallel_for(scheduler, threads, bench_peak_job, (void *)(size_t)stamp);
        rate = flop * 1e-9 / (mtl__seconds() - start);
        if (rate > best) best = rate;
    }
    return best;
}

/* ---- bandwidths ---------------------------------------------------------------------------------------- */

/* Rounds over `bytes` that take some 0.1 ms at 50 GB/s, one at least. */
static size_t bench_rounds(size_t bytes) { return bytes < 5000000 ? 5000000 / bytes : 1; }

/* GB/s of weights that multiply-adds can take in from a footprint of `bytes` (rounded up to whole rounds of
   the loop). */
static double bench_load_bandwidth(const bench_stamp *stamp, size_t bytes)
{
    const size_t unit = 8 * (size_t)stamp->lanes, n = (bytes / sizeof(mtl_real) + unit - 1) / unit * unit;
    const size_t rounds = bench_rounds(n * sizeof(mtl_real));
    mtl_arena arena;
    mtl_real *x;
    double best = 0;
    int run;
    mtl_arena_init(&arena, NULL, 0, NULL);
    x = bench_reals(&arena, n, 1);
    for (run = 0; run < 20; run++) {
        const double start = mtl__seconds();
        double rate;
        bench_sink = (double)stamp->load_fma(x, n, rounds);
        rate = 1e-9 * (double)(n * sizeof(mtl_real) * rounds) / (mtl__seconds() - start);
        if (rate > best) best = rate;
    }
    mtl_arena_destroy(&arena);
    return best;
}

/* GB/s of x = y + a z over three arrays of `bytes` together: two read, one written. in_place: of x += a z
   over two arrays, which is quicker, as what is written need not be fetched for that; both count three
   accesses an element. */
static double bench_triad_bandwidth(const bench_stamp *stamp, size_t bytes, int in_place)
{
    const size_t unit = 64, arrays = in_place ? 2 : 3,
        n = (bytes / arrays / sizeof(mtl_real) + unit - 1) / unit * unit;
    const size_t rounds = bench_rounds(3 * n * sizeof(mtl_real));
    mtl_arena arena;
    mtl_real *x, *y, *z;
    double best = 0;
    int run;
    mtl_arena_init(&arena, NULL, 0, NULL);
    x = bench_reals(&arena, n, 1);
    y = in_place ? x : bench_reals(&arena, n, 2);
    z = bench_reals(&arena, n, 3);
    for (run = 0; run < 20; run++) {
        const double start = mtl__seconds();
        double rate;
        stamp->triad(x, y, z, n, rounds);
        rate = 1e-9 * (double)(3 * n * sizeof(mtl_real) * rounds) / (mtl__seconds() - start);
        if (rate > best) best = rate;
    }
    mtl_arena_destroy(&arena);
    return best;
}

/* ---- element-wise rates -------------------------------------------------------------------------------- */

/* Elements per second of the header's exp (which 0) or tanh (1) over an array in the first-level cache. */
static double bench_activation_rate(int isa, int which)
{
    const mtl__kernels *k = mtl__kernels_choose(isa);
    enum { COUNT = 2048, ROUNDS = 20 };
    mtl_arena arena;
    mtl_real *x, *y;
    double best = 0;
    int run, i;
    mtl_arena_init(&arena, NULL, 0, NULL);
    x = bench_reals(&arena, COUNT, 4);
    y = bench_reals(&arena, COUNT, 5);
    for (run = 0; run < 20; run++) {
        const double start = mtl__seconds();
        double rate;
        for (i = 0; i < ROUNDS; i++) {
            if (which) k->activate(MTL_ACTIVATION_TANH, COUNT, x, y);
            else k->exponential(COUNT, x, y);
        }
        rate = (double)COUNT * ROUNDS / (mtl__seconds() - start);
        if (rate > best) best = rate;
    }
    mtl_arena_destroy(&arena);
    return best;
}

/* ---- bfloat16 products --------------------------------------------------------------------------------- */

#if defined(MTL__X86) && (defined(__clang__) ? __clang_major__ >= 9 : __GNUC__ >= 10)
#  define BENCH_BF16 1
/* 24 chains of vdpbf16ps: 32 products of bfloat16, added in pairs to 16 floats, an instruction. */
static MTL__NOINLINE __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
float bench_bf16_loop(size_t rounds)
{
    __m512 sum[24], ones = _mm512_set1_ps(0.5f);
    __m512bh a;
    size_t r, i;
    MTL__HIDE_512(ones);
    a = _mm512_cvtne2ps_pbh(ones, ones);
    MTL__UNROLL
    for (i = 0; i < 24; i++) sum[i] = ones;
    for (r = 0; r < rounds; r++) {
        MTL__UNROLL
        for (i = 0; i < 24; i++) {
            sum[i] = _mm512_dpbf16_ps(sum[i], a, a);
            MTL__HIDE_512(sum[i]);
        }
    }
    MTL__UNROLL
    for (i = 1; i < 24; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_reduce_add_ps(sum[0]);
}
#endif

/* GFLOP/s of bfloat16 products with float sums; 0 where the machine (or the compiler) has none. */
static double bench_bf16_peak(void)
{
    double best = 0;
#ifdef BENCH_BF16
    int run;
    if (!mtl__cpu_supports(MTL_ISA_AVX512) || !(mtl__cpuid(7, 1).a & 1u << 5)) return 0;
    for (run = 0; run < BENCH_PEAK_RUNS; run++) {
        const double start = mtl__seconds();
        double rate;
        bench_sink = (double)bench_bf16_loop(BENCH_PEAK_ROUNDS);
        rate = 2.0 * 24 * 32 * BENCH_PEAK_ROUNDS * 1e-9 / (mtl__seconds() - start);
        if (rate > best) best = rate;
    }
#endif
    return best;
}

/* ---- the command --------------------------------------------------------------------------------------- */

static void bench_peak_row(const char *what, const char *isa, size_t bytes, double value, const char *unit,
                           double per_cycle)
{
    printf("%s\t%s\t%.0f\t%.4g\t%s\t", what, isa, (double)bytes, value, unit);
    if (per_cycle > 0) printf("%.3g\n", per_cycle);
    else printf("-\n");
    fflush(stdout);
}

/* All rows of one instruction set; `clock` in GHz. */
static void bench_peak_isa(int isa, double clock)
{
    const bench_stamp *stamp = bench_stamp_find(isa);
    const char *name = mtl__isa_name(isa);
    double rate = bench_peak(stamp, NULL, 1);
    size_t bytes;
    bench_peak_row("fma", name, 0, rate, "GFLOP/s", rate / clock);
    for (bytes = 16384; bytes <= (size_t)16 << 20; bytes *= 2) {
        rate = bench_load_bandwidth(stamp, bytes);
        bench_peak_row("load_fma", name, bytes, rate, "GB/s", rate / clock);
    }
    for (bytes = 16384; bytes <= (size_t)64 << 20; bytes *= 4) {
        rate = bench_triad_bandwidth(stamp, bytes, 0);
        bench_peak_row("triad", name, bytes, rate, "GB/s", rate / clock);
        rate = bench_triad_bandwidth(stamp, bytes, 1);
        bench_peak_row("triad_in_place", name, bytes, rate, "GB/s", rate / clock);
    }
    rate = bench_activation_rate(isa, 0);
    bench_peak_row("exp", name, 0, rate, "elements/s", rate * 1e-9 / clock);
    rate = bench_activation_rate(isa, 1);
    bench_peak_row("tanh", name, 0, rate, "elements/s", rate * 1e-9 / clock);
}

/* `bench peak`: everything about the machine. per_cycle: the value (FLOP, bytes, elements) per cycle of the
   clock. */
static int bench_peak_command(void)
{
    const double clock = bench_clock(), bf16 = bench_bf16_peak();
    int isa;
    printf("what\tisa\tbytes\tvalue\tunit\tper_cycle\n");
    bench_peak_row("clock", "-", 0, clock, "GHz", 0);
    for (isa = MTL_ISA_SCALAR; isa <= MTL_ISA_NEON; isa++)
        if (mtl__isa_supported(isa)) bench_peak_isa(isa, clock);
    if (bf16 > 0) bench_peak_row("bf16_product", "avx512", 0, bf16, "GFLOP/s", bf16 / clock);
    else fprintf(stderr, "bench: bf16_product is not available on this machine\n");
    return 0;
}
