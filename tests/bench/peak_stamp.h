/* tests/bench/peak_stamp.h    the loops that find an instruction set's limits; peak.h includes it once per
                               instruction set

   BENCH_ISA     the end of the names of the header's vector primitives: mtl__muladd_avx2
   BENCH_TARGET  what the functions may use
   BENCH_SUMS    accumulators: enough to cover latency times width, few enough for the registers
   No include guard: it is read several times. */
#define BENCH_FN(name) MTL__CAT(name##_, BENCH_ISA)
#define V(name) MTL__CAT(mtl__##name##_, BENCH_ISA)
enum { BENCH_FN(bench_lanes) = sizeof(V(vec)) / sizeof(mtl_real) };

/* rounds x BENCH_SUMS independent chains of s = s*a + b, all in registers. a < 1: sums stay small and
   normal. */
static MTL__NOINLINE BENCH_TARGET mtl_real BENCH_FN(bench_fma)(size_t rounds)
{
    const V(vec) a = V(hidden)(V(all)(0.5f)), b = V(hidden)(V(all)(1.0f));
    V(vec) sum[BENCH_SUMS];
    size_t r, i;
    MTL__UNROLL
    for (i = 0; i < BENCH_SUMS; i++) sum[i] = b;
    for (r = 0; r < rounds; r++) {
        MTL__UNROLL
        for (i = 0; i < BENCH_SUMS; i++) sum[i] = V(hidden)(V(muladd)(sum[i], a, b));
    }
    MTL__UNROLL
    for (i = 1; i < BENCH_SUMS; i++) sum[0] = V(add)(sum[0], sum[i]);
    return V(lanes_sum)(sum[0]);
}

/* s += x[k] * a over all n reals of x (a multiple of 8 vectors), `rounds` times: one load for every
   multiplication, as in the product of one row with packed weights. */
static MTL__NOINLINE BENCH_TARGET mtl_real BENCH_FN(bench_load_fma)(const mtl_real *x, size_t n,
                                                                    size_t rounds)
{
    const V(vec) a = V(hidden)(V(all)(0.5f));
    V(vec) sum[8];
    size_t r, k, i;
    MTL__UNROLL
    for (i = 0; i < 8; i++) sum[i] = V(all)(0);
    for (r = 0; r < rounds; r++)
        for (k = 0; k < n; k += 8 * BENCH_FN(bench_lanes)) {
            MTL__UNROLL
            for (i = 0; i < 8; i++)
                sum[i] = V(hidden)(V(muladd)(V(load)(x + k + i * BENCH_FN(bench_lanes)), a, sum[i]));
        }
    MTL__UNROLL
    for (i = 1; i < 8; i++) sum[0] = V(add)(sum[0], sum[i]);
    return V(lanes_sum)(sum[0]);
}

/* x = y + a z over n reals (a multiple of 4 vectors), `rounds` times. */
static MTL__NOINLINE BENCH_TARGET void BENCH_FN(bench_triad)(mtl_real *x, const mtl_real *y,
                                                             const mtl_real *z, size_t n, size_t rounds)
{
    const V(vec) a = V(hidden)(V(all)(0.5f));
    size_t r, k, i;
    for (r = 0; r < rounds; r++)
        for (k = 0; k < n; k += 4 * BENCH_FN(bench_lanes)) {
            MTL__UNROLL
            for (i = 0; i < 4; i++) {
                const size_t at = k + i * BENCH_FN(bench_lanes);
                V(store)(x + at, V(muladd)(a, V(load)(z + at), V(load)(y + at)));
            }
        }
}

static const bench_stamp BENCH_FN(bench_stamp_of) = {
    MTL__CAT(BENCH_NUMBER_OF_, BENCH_ISA), BENCH_FN(bench_lanes), BENCH_SUMS,
    BENCH_FN(bench_fma), BENCH_FN(bench_load_fma), BENCH_FN(bench_triad)
};

#undef V
#undef BENCH_FN
#undef BENCH_ISA
#undef BENCH_TARGET
#undef BENCH_SUMS
