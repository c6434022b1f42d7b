/* tests/avx512_emulation.h    the AVX-512 kernels on a processor that has only AVX2 and FMA: for tests, never
                               for speed

   Included before the implementation, it gives each AVX-512 intrinsic that mtl_rnn.h uses a second
   definition: two AVX2 halves, or a loop over lanes. The values are the instructions' own, bit by bit, but
   for two things: reductions add in another order, and scalef is right for powers of -126 to 127 only, which
   is what the header asks of it. An intrinsic that the header uses and that is missing here does not compile.
   MTL__AVX512_EMULATED tells the header (see >>dispatch).

   bfloat16 products as Intel's manual defines them (volume 2, VDPBF16PS): of each pair the upper product is
   added first, each sum rounded to nearest; subnormal operands and results count as zero. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MTL__AVX512_EMULATED 1
#define EMULATED static inline __attribute__((always_inline, unused, target("avx2,fma")))
#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC diagnostic ignored "-Wpsabi"              /* 64-byte vectors only pass between inlined
                                                           functions */
#endif

typedef union emulated_512 {
    __m512 s;
    __m512d d;
    __m512i i;
    __m256 half[2];
    __m256d half_d[2];
    __m256i half_i[2];
    __m128 quarter[4];
    float lane[16];
    uint32_t word[16];
    uint16_t short_word[32];
} emulated_512;

/* Conversions between the three kinds, both ways. */
EMULATED emulated_512 emulated_of(__m512 x) { emulated_512 e; e.s = x; return e; }
EMULATED emulated_512 emulated_of_d(__m512d x) { emulated_512 e; e.d = x; return e; }
EMULATED emulated_512 emulated_of_i(__m512i x) { emulated_512 e; e.i = x; return e; }
EMULATED __m512i emulated_castps_si512(__m512 x) { return emulated_of(x).i; }
EMULATED __m512d emulated_castps_pd(__m512 x) { return emulated_of(x).d; }
EMULATED __m512 emulated_castsi512_ps(__m512i x) { return emulated_of_i(x).s; }
EMULATED __m512 emulated_castpd_ps(__m512d x) { return emulated_of_d(x).s; }
EMULATED __m256 emulated_castps512_ps256(__m512 x) { return emulated_of(x).half[0]; }
EMULATED __m256 emulated_extractf32x8_ps(__m512 x, int part) { return emulated_of(x).half[part]; }

/* ---- what is done half by half ------------------------------------------------------------------------- */
#define EMULATED_1(name, type, of, member, half) \
    EMULATED type emulated_##name(type a) \
    { \
        emulated_512 x = of(a); \
        x.member[0] = half(x.member[0]); \
        x.member[1] = half(x.member[1]); \
        return emulated_as_##of(x); \
    }
#define EMULATED_2(name, type, of, member, half) \
    EMULATED type emulated_##name(type a, type b) \
    { \
        emulated_512 x = of(a), y = of(b); \
        x.member[0] = half(x.member[0], y.member[0]); \
        x.member[1] = half(x.member[1], y.member[1]); \
        return emulated_as_##of(x); \
    }
#define EMULATED_3(name, type, of, member, half) \
    EMULATED type emulated_##name(type a, type b, type c) \
    { \
        emulated_512 x = of(a), y = of(b), z = of(c); \
        x.member[0] = half(x.member[0], y.member[0], z.member[0]); \
        x.member[1] = half(x.member[1], y.member[1], z.member[1]); \
        return emulated_as_##of(x); \
    }
#define emulated_as_emulated_of(x) ((x).s)
#define emulated_as_emulated_of_d(x) ((x).d)
#define emulated_as_emulated_of_i(x) ((x).i)

EMULATED_1(sqrt_ps, __m512, emulated_of, half, _mm256_sqrt_ps)
EMULATED_2(add_ps, __m512, emulated_of, half, _mm256_add_ps)
EMULATED_2(sub_ps, __m512, emulated_of, half, _mm256_sub_ps)
EMULATED_2(mul_ps, __m512, emulated_of, half, _mm256_mul_ps)
EMULATED_2(div_ps, __m512, emulated_of, half, _mm256_div_ps)
EMULATED_2(min_ps, __m512, emulated_of, half, _mm256_min_ps)
EMULATED_2(max_ps, __m512, emulated_of, half, _mm256_max_ps)
EMULATED_2(or_ps, __m512, emulated_of, half, _mm256_or_ps)
EMULATED_2(unpacklo_ps, __m512, emulated_of, half, _mm256_unpacklo_ps)
EMULATED_2(unpackhi_ps, __m512, emulated_of, half, _mm256_unpackhi_ps)
EMULATED_2(unpacklo_pd, __m512d, emulated_of_d, half_d, _mm256_unpacklo_pd)
EMULATED_2(unpackhi_pd, __m512d, emulated_of_d, half_d, _mm256_unpackhi_pd)
EMULATED_2(add_epi32, __m512i, emulated_of_i, half_i, _mm256_add_epi32)
EMULATED_2(mullo_epi32, __m512i, emulated_of_i, half_i, _mm256_mullo_epi32)
EMULATED_2(and_si512, __m512i, emulated_of_i, half_i, _mm256_and_si256)
EMULATED_2(xor_si512, __m512i, emulated_of_i, half_i, _mm256_xor_si256)
EMULATED_3(fmadd_ps, __m512, emulated_of, half, _mm256_fmadd_ps)
EMULATED_3(fnmadd_ps, __m512, emulated_of, half, _mm256_fnmadd_ps)
EMULATED_3(fmadd_pd, __m512d, emulated_of_d, half_d, _mm256_fmadd_pd)

EMULATED __m512i emulated_srli_epi32(__m512i a, unsigned count)
{
    emulated_512 x = emulated_of_i(a);
    x.half_i[0] = _mm256_srli_epi32(x.half_i[0], (int)count);
    x.half_i[1] = _mm256_srli_epi32(x.half_i[1], (int)count);
    return x.i;
}
EMULATED __m512d emulated_cvtps_pd(__m256 a)
{
    emulated_512 x;
    x.half_d[0] = _mm256_cvtps_pd(_mm256_castps256_ps128(a));
    x.half_d[1] = _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
    return x.d;
}
EMULATED __m512 emulated_scalef_ps(__m512 a, __m512 power)
{
    emulated_512 x = emulated_of(a), n = emulated_of(power);
    int i;
    for (i = 0; i < 2; i++) {
        const __m256i whole = _mm256_cvtps_epi32(_mm256_floor_ps(n.half[i]));
        const __m256i factor = _mm256_slli_epi32(_mm256_add_epi32(whole, _mm256_set1_epi32(127)), 23);
        x.half[i] = _mm256_mul_ps(x.half[i], _mm256_castsi256_ps(factor));
    }
    return x.s;
}
#define emulated_nearest(x) _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
EMULATED_1(nearest_ps, __m512, emulated_of, half, emulated_nearest)

/* ---- setting, loading, storing ------------------------------------------------------------------------- */
EMULATED __m512 emulated_set1_ps(float a)
{
    emulated_512 x; x.half[0] = x.half[1] = _mm256_set1_ps(a); return x.s;
}
EMULATED __m512i emulated_set1_epi32(int a)
{
    emulated_512 x; x.half_i[0] = x.half_i[1] = _mm256_set1_epi32(a); return x.i;
}
EMULATED __m512 emulated_setzero_ps(void) { return emulated_set1_ps(0); }
EMULATED __m512i emulated_setr_epi32(int a, int b, int c, int d, int e, int f, int g, int h,
                                     int i, int j, int k, int l, int m, int n, int o, int p)
{
    emulated_512 x;
    x.half_i[0] = _mm256_setr_epi32(a, b, c, d, e, f, g, h);
    x.half_i[1] = _mm256_setr_epi32(i, j, k, l, m, n, o, p);
    return x.i;
}
EMULATED __m512 emulated_loadu_ps(const void *p) { emulated_512 x; memcpy(&x, p, sizeof x); return x.s; }
EMULATED __m512d emulated_loadu_pd(const void *p) { emulated_512 x; memcpy(&x, p, sizeof x); return x.d; }
EMULATED void emulated_storeu_ps(void *p, __m512 a) { memcpy(p, &a, sizeof a); }
EMULATED void emulated_storeu_pd(void *p, __m512d a) { memcpy(p, &a, sizeof a); }

/* ---- masks: bit i for lane i --------------------------------------------------------------------------- */

/* All bits set in the lanes of a mask's half. */
EMULATED __m256i emulated_lanes(__mmask16 mask, int half)
{
    const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(mask >> 8 * half), bits), bits);
}
EMULATED __mmask16 emulated_mask(__m256i low, __m256i high)
{
    return (__mmask16)(_mm256_movemask_ps(_mm256_castsi256_ps(low))
                       | _mm256_movemask_ps(_mm256_castsi256_ps(high)) << 8);
}
EMULATED __m512 emulated_maskz_loadu_ps(__mmask16 mask, const float *p)
{
    emulated_512 x;
    x.half[0] = _mm256_maskload_ps(p, emulated_lanes(mask, 0));
    x.half[1] = _mm256_maskload_ps(p + 8, emulated_lanes(mask, 1));
    return x.s;
}
EMULATED void emulated_mask_storeu_ps(float *p, __mmask16 mask, __m512 a)
{
    _mm256_maskstore_ps(p, emulated_lanes(mask, 0), emulated_of(a).half[0]);
    _mm256_maskstore_ps(p + 8, emulated_lanes(mask, 1), emulated_of(a).half[1]);
}
EMULATED __m512 emulated_mask_mov_ps(__m512 other, __mmask16 mask, __m512 a)
{
    emulated_512 x = emulated_of(other), y = emulated_of(a);
    x.half[0] = _mm256_blendv_ps(x.half[0], y.half[0], _mm256_castsi256_ps(emulated_lanes(mask, 0)));
    x.half[1] = _mm256_blendv_ps(x.half[1], y.half[1], _mm256_castsi256_ps(emulated_lanes(mask, 1)));
    return x.s;
}
EMULATED __m512 emulated_maskz_mov_ps(__mmask16 mask, __m512 a)
{
    return emulated_mask_mov_ps(emulated_setzero_ps(), mask, a);
}
EMULATED __mmask16 emulated_cmpgt_ps_mask(__m512 a, __m512 b)
{
    const emulated_512 x = emulated_of(a), y = emulated_of(b);
    return emulated_mask(_mm256_castps_si256(_mm256_cmp_ps(x.half[0], y.half[0], _CMP_GT_OQ)),
                         _mm256_castps_si256(_mm256_cmp_ps(x.half[1], y.half[1], _CMP_GT_OQ)));
}
EMULATED __mmask16 emulated_cmpgt_epi32_mask(__m512i a, __m512i b)
{
    const emulated_512 x = emulated_of_i(a), y = emulated_of_i(b);
    return emulated_mask(_mm256_cmpgt_epi32(x.half_i[0], y.half_i[0]),
                         _mm256_cmpgt_epi32(x.half_i[1], y.half_i[1]));
}
EMULATED __mmask16 emulated_cmpge_epi32_mask(__m512i a, __m512i b)
{
    return (__mmask16)~emulated_cmpgt_epi32_mask(b, a);
}

/* ---- across lanes -------------------------------------------------------------------------------------- */
EMULATED __m512 emulated_shuffle_f32x4(__m512 a, __m512 b, int order)
{
    const emulated_512 x = emulated_of(a), y = emulated_of(b);
    emulated_512 r;
    r.quarter[0] = x.quarter[order & 3];
    r.quarter[1] = x.quarter[order >> 2 & 3];
    r.quarter[2] = y.quarter[order >> 4 & 3];
    r.quarter[3] = y.quarter[order >> 6 & 3];
    return r.s;
}
/* Bit i of `table` is the result for the three bits i of a, b, c. */
EMULATED __m512i emulated_ternarylogic_epi32(__m512i a, __m512i b, __m512i c, int table)
{
    const emulated_512 x = emulated_of_i(a), y = emulated_of_i(b), z = emulated_of_i(c);
    emulated_512 r;
    int lane, i;
    for (lane = 0; lane < 16; lane++) {
        r.word[lane] = 0;
        for (i = 0; i < 8; i++)
            if (table >> i & 1)
                r.word[lane] |= (i & 4 ? x.word[lane] : ~x.word[lane]) & (i & 2
                                                                          ? y.word[lane] : ~y.word[lane])
                                & (i & 1 ? z.word[lane] : ~z.word[lane]);
    }
    return r.i;
}
EMULATED float emulated_reduce_add_ps(__m512 a)
{
    const emulated_512 x = emulated_of(a);
    float sum[8];
    _mm256_storeu_ps(sum, _mm256_add_ps(x.half[0], x.half[1]));
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}
EMULATED float emulated_reduce_max_ps(__m512 a)
{
    const emulated_512 x = emulated_of(a);
    float best = x.lane[0];
    int i;
    for (i = 1; i < 16; i++) best = best > x.lane[i] ? best : x.lane[i];
    return best;
}
EMULATED __m512i emulated_permutexvar_epi16(__m512i index, __m512i a)
{
    const emulated_512 x = emulated_of_i(a), from = emulated_of_i(index);
    emulated_512 r;
    int i;
    for (i = 0; i < 32; i++) r.short_word[i] = x.short_word[from.short_word[i] & 31];
    return r.i;
}

/* ---- bfloat16 ------------------------------------------------------------------------------------------ */
typedef __m512i emulated_512bh;                         /* 32 bfloat16; the compilers' own type differs
                                                           between their versions */

/* x without what is subnormal: that counts as zero, with its sign. */
EMULATED __m256 emulated_normal(__m256 x)
{
    const __m256i exponent = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7f800000));
    const __m256i zero = _mm256_cmpeq_epi32(exponent, _mm256_setzero_si256());
    return _mm256_andnot_ps(_mm256_and_ps(_mm256_castsi256_ps(zero),
                                          _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff))), x);
}
/* 8 bfloat16, each in the lower half of a word, rounded to nearest even; NaN stays NaN. */
EMULATED __m256i emulated_rounded(__m256 x)
{
    const __m256i bits = _mm256_castps_si256(emulated_normal(x)), upper = _mm256_srli_epi32(bits, 16);
    const __m256i even = _mm256_add_epi32(_mm256_set1_epi32(0x7fff),
                                          _mm256_and_si256(upper, _mm256_set1_epi32(1)));
    const __m256i nearest = _mm256_srli_epi32(_mm256_add_epi32(bits, even), 16),
        quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    return _mm256_blendv_epi8(nearest, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}
/* b's 16 in the lower half, a's in the upper. */
EMULATED emulated_512bh emulated_cvtne2ps_pbh(__m512 a, __m512 b)
{
    const emulated_512 x = emulated_of(a), y = emulated_of(b);
    emulated_512 r;
    r.half_i[0] = _mm256_permute4x64_epi64(_mm256_packus_epi32(emulated_rounded(y.half[0]),
                                                               emulated_rounded(y.half[1])), 0xd8);
    r.half_i[1] = _mm256_permute4x64_epi64(_mm256_packus_epi32(emulated_rounded(x.half[0]),
                                                               emulated_rounded(x.half[1])), 0xd8);
    return r.i;
}
EMULATED __m512 emulated_dpbf16_ps(__m512 sum, emulated_512bh a, emulated_512bh b)
{
    const __m256i upper = _mm256_set1_epi32((int)0xffff0000u);
    const emulated_512 x = emulated_of_i(a), y = emulated_of_i(b);
    emulated_512 r = emulated_of(sum);
    int i;
    for (i = 0; i < 2; i++) {
        const __m256 x1 = _mm256_castsi256_ps(_mm256_and_si256(x.half_i[i], upper));
        const __m256 y1 = _mm256_castsi256_ps(_mm256_and_si256(y.half_i[i], upper));
        const __m256 x0 = _mm256_castsi256_ps(_mm256_slli_epi32(x.half_i[i], 16));
        const __m256 y0 = _mm256_castsi256_ps(_mm256_slli_epi32(y.half_i[i], 16));
        r.half[i] = emulated_normal(_mm256_fmadd_ps(emulated_normal(x1), emulated_normal(y1),
                                                    emulated_normal(r.half[i])));
        r.half[i] = emulated_normal(_mm256_fmadd_ps(emulated_normal(x0), emulated_normal(y0), r.half[i]));
    }
    return r.s;
}

/* ---- the intrinsics' names; some are macros of the compiler's headers ---------------------------------- */
#define __m512bh emulated_512bh
#undef _mm512_add_epi32
#undef _mm512_add_ps
#undef _mm512_and_si512
#undef _mm512_castpd_ps
#undef _mm512_castps512_ps256
#undef _mm512_castps_pd
#undef _mm512_castps_si512
#undef _mm512_castsi512_ps
#undef _mm512_cmp_ps_mask
#undef _mm512_cmpge_epi32_mask
#undef _mm512_cmpgt_epi32_mask
#undef _mm512_cvtne2ps_pbh
#undef _mm512_cvtps_pd
#undef _mm512_div_ps
#undef _mm512_dpbf16_ps
#undef _mm512_extractf32x8_ps
#undef _mm512_fmadd_pd
#undef _mm512_fmadd_ps
#undef _mm512_fnmadd_ps
#undef _mm512_loadu_pd
#undef _mm512_loadu_ps
#undef _mm512_mask_mov_ps
#undef _mm512_mask_storeu_ps
#undef _mm512_maskz_loadu_ps
#undef _mm512_maskz_mov_ps
#undef _mm512_max_ps
#undef _mm512_min_ps
#undef _mm512_mul_ps
#undef _mm512_mullo_epi32
#undef _mm512_or_ps
#undef _mm512_permutexvar_epi16
#undef _mm512_reduce_add_ps
#undef _mm512_reduce_max_ps
#undef _mm512_roundscale_ps
#undef _mm512_scalef_ps
#undef _mm512_set1_epi32
#undef _mm512_set1_ps
#undef _mm512_setr_epi32
#undef _mm512_setzero_ps
#undef _mm512_shuffle_f32x4
#undef _mm512_sqrt_ps
#undef _mm512_srli_epi32
#undef _mm512_storeu_pd
#undef _mm512_storeu_ps
#undef _mm512_sub_ps
#undef _mm512_ternarylogic_epi32
#undef _mm512_unpackhi_pd
#undef _mm512_unpackhi_ps
#undef _mm512_unpacklo_pd
#undef _mm512_unpacklo_ps
#undef _mm512_xor_si512
#define _mm512_add_epi32 emulated_add_epi32
#define _mm512_add_ps emulated_add_ps
#define _mm512_and_si512 emulated_and_si512
#define _mm512_castpd_ps emulated_castpd_ps
#define _mm512_castps512_ps256 emulated_castps512_ps256
#define _mm512_castps_pd emulated_castps_pd
#define _mm512_castps_si512 emulated_castps_si512
#define _mm512_castsi512_ps emulated_castsi512_ps
#define _mm512_cmp_ps_mask(a, b, predicate) emulated_cmpgt_ps_mask(a, b)     /* the header only asks for
                                                                                _CMP_GT_OQ */
#define _mm512_cmpge_epi32_mask emulated_cmpge_epi32_mask
#define _mm512_cmpgt_epi32_mask emulated_cmpgt_epi32_mask
#define _mm512_cvtne2ps_pbh emulated_cvtne2ps_pbh
#define _mm512_cvtps_pd emulated_cvtps_pd
#define _mm512_div_ps emulated_div_ps
#define _mm512_dpbf16_ps emulated_dpbf16_ps
#define _mm512_extractf32x8_ps emulated_extractf32x8_ps
#define _mm512_fmadd_pd emulated_fmadd_pd
#define _mm512_fmadd_ps emulated_fmadd_ps
#define _mm512_fnmadd_ps emulated_fnmadd_ps
#define _mm512_loadu_pd emulated_loadu_pd
#define _mm512_loadu_ps emulated_loadu_ps
#define _mm512_mask_mov_ps emulated_mask_mov_ps
#define _mm512_mask_storeu_ps emulated_mask_storeu_ps
#define _mm512_maskz_loadu_ps emulated_maskz_loadu_ps
#define _mm512_maskz_mov_ps emulated_maskz_mov_ps
#define _mm512_max_ps emulated_max_ps
#define _mm512_min_ps emulated_min_ps
#define _mm512_mul_ps emulated_mul_ps
#define _mm512_mullo_epi32 emulated_mullo_epi32
#define _mm512_or_ps emulated_or_ps
#define _mm512_permutexvar_epi16 emulated_permutexvar_epi16
#define _mm512_reduce_add_ps emulated_reduce_add_ps
#define _mm512_reduce_max_ps emulated_reduce_max_ps
#define _mm512_roundscale_ps(a, mode) emulated_nearest_ps(a)        /* ... and for the nearest whole number */
#define _mm512_scalef_ps emulated_scalef_ps
#define _mm512_set1_epi32 emulated_set1_epi32
#define _mm512_set1_ps emulated_set1_ps
#define _mm512_setr_epi32 emulated_setr_epi32
#define _mm512_setzero_ps emulated_setzero_ps
#define _mm512_shuffle_f32x4 emulated_shuffle_f32x4
#define _mm512_sqrt_ps emulated_sqrt_ps
#define _mm512_srli_epi32 emulated_srli_epi32
#define _mm512_storeu_pd emulated_storeu_pd
#define _mm512_storeu_ps emulated_storeu_ps
#define _mm512_sub_ps emulated_sub_ps
#define _mm512_ternarylogic_epi32 emulated_ternarylogic_epi32
#define _mm512_unpackhi_pd emulated_unpackhi_pd
#define _mm512_unpackhi_ps emulated_unpackhi_ps
#define _mm512_unpacklo_pd emulated_unpacklo_pd
#define _mm512_unpacklo_ps emulated_unpacklo_ps
#define _mm512_xor_si512 emulated_xor_si512
