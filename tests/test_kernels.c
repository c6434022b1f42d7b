/* Kernels: every instruction set that this machine has, against plain loops in double. What may not be read
   (padding, the space between width and stride, red zones before and behind) is NaN, and what may not be
   written is compared bit for bit. MTL_TEST_QUICK=1 runs a tenth of the cases. */

/* ---- tools --------------------------------------------------------------------------------------------- */

#define KERNELS_IS_DOUBLE (sizeof(mtl_real) == sizeof(double))
#define KERNELS_EPSILON (KERNELS_IS_DOUBLE ? 2e-15 : 1e-6)  /* of a sum of terms, times the sum of their
                                                               magnitudes */

/* Random numbers that differ from case to case but not from run to run. */
static unsigned kernels_next(void)
{
    static unsigned state = 12345;
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}
static size_t kernels_below(size_t n) { return kernels_next() % n; }
static double kernels_uniform(void) { return kernels_next() / 8388608.0 - 1.0; }

static int kernels_cases(int n)
{
    const char *quick = getenv("MTL_TEST_QUICK");
    return quick && *quick && *quick != '0' ? (n + 9) / 10 : n;
}

/* By bits, because the tests too are compiled with -ffast-math. */
static int kernels_is_nan(mtl_real x)
{
    if (KERNELS_IS_DOUBLE) {
        uint64_t bits;
        memcpy(&bits, &x, sizeof bits);
        return (bits & 0x7fffffffffffffffu) > 0x7ff0000000000000u;
    } else {
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        return (bits & 0x7fffffffu) > 0x7f800000u;
    }
}

/* [rows][width] with a stride; everything outside is NaN and remembered. */
enum { KERNELS_ZONE = 40 };
typedef struct kernels_matrix {
    size_t rows, width, stride, total;
    mtl_real *memory, *data, *before;
} kernels_matrix;

static kernels_matrix kernels_create(size_t rows, size_t width, size_t stride)
{
    kernels_matrix m;
    m.rows = rows;
    m.width = width;
    m.stride = stride;
    m.total = rows * stride + 2 * KERNELS_ZONE;
    m.memory = (mtl_real *)malloc(m.total * sizeof(mtl_real));
    m.before = (mtl_real *)malloc(m.total * sizeof(mtl_real));
    memset(m.memory, 0xff, m.total * sizeof(mtl_real));
    memcpy(m.before, m.memory, m.total * sizeof(mtl_real));
    m.data = m.memory + KERNELS_ZONE + kernels_below(3);    /* no particular alignment */
    return m;
}
static void kernels_remember(kernels_matrix *m) { memcpy(m->before, m->memory, m->total * sizeof(mtl_real)); }
static kernels_matrix kernels_random(size_t rows, size_t width, size_t stride, double range)
{
    kernels_matrix m = kernels_create(rows, width, stride);
    size_t i, j;
    for (i = 0; i < rows; i++)
        for (j = 0; j < width; j++) m.data[i * stride + j] = (mtl_real)(range * kernels_uniform());
    kernels_remember(&m);
    return m;
}
static void kernels_destroy(kernels_matrix *m)
{
    free(m->memory);
    free(m->before);
}
static void kernels_restore(kernels_matrix *m) { memcpy(m->memory, m->before, m->total * sizeof(mtl_real)); }
/* Nothing but [rows][width] changed. */
static void kernels_assert_inside(const kernels_matrix *m)
{
    const size_t offset = (size_t)(m->data - m->memory);
    size_t i;
    for (i = 0; i < m->total; i++) {
        const size_t at = i - offset;
        if (i >= offset && at < m->rows * m->stride && at % m->stride < m->width) continue;
        if (memcmp(&m->memory[i], &m->before[i], sizeof(mtl_real)))
            fail_msg("written outside: row %ld column %ld of %d x %d stride %d", i < offset
                     ? -1L : (long)(at / m->stride), i < offset ? -1L : (long)(at % m->stride), (int)m->rows,
                         (int)m->width, (int)m->stride);
    }
}
static void kernels_assert_unchanged(const kernels_matrix *m)
{
    assert_int_equal(memcmp(m->memory, m->before, m->total * sizeof(mtl_real)), 0);
}

static void kernels_assert_near(double got, double expected, double tolerance, const char *what)
{
    const mtl_real bits = (mtl_real)got;
    if (kernels_is_nan(bits) || !(fabs(got - expected) <= tolerance))
        fail_msg("%s: %.9g, expected %.9g +- %.2g", what, got, expected, tolerance);
}

static const mtl__kernels *kernels_of(int isa)
{
    const mtl__kernels *k = mtl__kernels_choose(isa);
    if (k) test_executed(k->isa, MTL__REAL_IS_DOUBLE ? "f64" : "f32");
    return k;
}
#define KERNELS_EACH(k) \
    for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++) \
        if ((k = kernels_of(isa)) != NULL)

/* 1 or 2: products in reals, and in pairs of bfloat16 where kernels and processor have them. */
static int kernels_precisions(const mtl__kernels *k)
{
    if (mtl__precision_choose(k, MTL_PRECISION_BF16) != MTL_PRECISION_BF16) return 1;
    test_executed(k->isa, "bf16");
    return 2;
}
#define KERNELS_EACH_PRECISION(k) \
    KERNELS_EACH(k) \
        for (pairs = 0; pairs < kernels_precisions(k); pairs++)

/* The operand that a product sees: x, or the nearest bfloat16, of two equally near ones the one whose last
   bit is 0. */
static double kernels_operand(int pairs, double x)
{
    int exponent;
    double scaled, whole;
    if (!pairs || x == 0) return x;
    scaled = frexp(x, &exponent) * 256;                     /* 8 bits before the point */
    whole = floor(scaled);
    if (scaled - whole > 0.5 || (scaled - whole == 0.5 && fmod(whole, 2) != 0)) whole += 1;
    return ldexp(whole, exponent - 8);
}
static double kernels_upper(uint32_t word)                  /* the bfloat16 in a word's upper half */
{
    float x;
    word &= 0xffff0000u;
    memcpy(&x, &word, sizeof x);
    return (double)x;
}
static double kernels_half(mtl_real pairs, size_t which)    /* number `which`, 0 or 1, of a pair */
{
    uint32_t word;
    memcpy(&word, &pairs, sizeof word);
    return kernels_upper(which ? word : word << 16);
}

/* Sizes of case number i: each of rows, units and inputs takes every value from 1 to 33; the last cases are
   large. */
static void kernels_sizes(int i, size_t *rows, size_t *units, size_t *inputs)
{
    size_t size[3];
    size[0] = 1 + kernels_below(33);
    size[1] = 1 + kernels_below(33);
    size[2] = 1 + kernels_below(33);
    if (i < 99) size[i % 3] = (size_t)(1 + i / 3);
    if (i == 99) size[0] = 230;
    if (i == 100) size[2] = 1100;
    if (i == 101) { size[0] = 600; size[2] = 130; }
    if (i == 102) { size[1] = 150; size[2] = 200; }
    if (i == 103) { size[1] = 600; size[0] = 7; }
    *rows = size[0];
    *units = size[1];
    *inputs = size[2];
}
enum { KERNELS_SIZES = 104 };
static size_t kernels_stride_of(size_t width) { return width + kernels_below(3) * kernels_below(20); }
static size_t kernels_least(size_t a, size_t b) { return a < b ? a : b; }
static size_t kernels_blocks(size_t units) { return (units + 15) / 16; }

/* ---- dispatch ------------------------------------------------------------------------------------------ */

static void test_kernels_choice(void **state)
{
    const mtl__kernels *best = mtl__kernels_choose(MTL_ISA_AUTO), *k;
    int isa, found = 0;
    (void)state;
    assert_non_null(best);
    KERNELS_EACH(k) {
        assert_int_equal(k->isa, isa);
        assert_string_equal(k->name, mtl__isa_name(isa));
        assert_true(best->isa >= isa);
        assert_true(mtl__isa_supported(isa));
        found++;
    }
    assert_true(found > 0);
    assert_null(mtl__kernels_choose(MTL_ISA_COUNT));
    assert_null(mtl__kernels_choose(-1));
    assert_false(mtl__isa_supported(MTL_ISA_COUNT));
    assert_string_equal(mtl__isa_name(MTL_ISA_AUTO), "auto");
}

/* ---- activations --------------------------------------------------------------------------------------- */

enum { KERNELS_EXP = 100 };
static void kernels_function(const mtl__kernels *k, int which, size_t n, const mtl_real *x, mtl_real *y)
{
    if (which == KERNELS_EXP) k->exponential(n, x, y);
    else k->activate(which, n, x, y);
}
static double kernels_exact(int which, double x)
{
    if (which == MTL_ACTIVATION_GELU)
        return x <= 0 ? 0.5 * x * erfc(-x / sqrt(2)) : x - 0.5 * x * erfc(x / sqrt(2));
    if (which == MTL_ACTIVATION_SILU) return x / (1 + exp(-x));
    return which == KERNELS_EXP ? exp(x) : which == MTL_ACTIVATION_TANH
        ? tanh(x) : which == MTL_ACTIVATION_SIGMOID ? 1 / (1 + exp(-x))
         : which == MTL_ACTIVATION_RELU ? (x > 0 ? x : 0) : x;
}

static mtl_real kernels_from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return (mtl_real)x;
}

/* Distance in units of the last place of a float, or, below 2^-126, in units of a third of 2^-126: 3 is the
   limit for both. */
static double kernels_ulp(float got, double exact)
{
    int exponent;
    if (fabs(exact) < ldexp(1, -126)) return fabs(got - exact) * ldexp(3, 126);
    if (exact >= ldexp(1, 128)) return got >= FLT_MAX ? 0 : 1e9;
    frexp(exact, &exponent);
    if (fabs((double)got) > FLT_MAX) return exact > FLT_MAX ? 0 : 1e9;
    return fabs(got - exact) / ldexp(1, exponent - 24);
}

/* The i-th float of the test: near where results cross 2^-126 all of them, then every step-th of all, NaN and
   infinities among them. 0 behind the last one. */
static int kernels_nth_float(uint64_t i, uint32_t step, uint32_t *bits)
{
    /* +-2^-126 and, of exp and sigmoid, -87.3365 */
    static const uint32_t near[] = { 0x00800000u, 0x80800000u, 0xc2aeac50u };
    enum { NEAR = 4096 };
    if (i < 3 * NEAR) *bits = near[i / NEAR] - NEAR / 2 + (uint32_t)(i % NEAR);
    else *bits = (i -= 3 * NEAR) * step <= 0xffffffffu ? (uint32_t)(i * step) : 0;
    return i * step <= 0xffffffffu;
}

/* With numbers below 2^-126 as they are, and with the arithmetic of jobs, where they are 0. */
static void test_kernels_activations(void **state)
{
    static const int functions[] = { KERNELS_EXP, MTL_ACTIVATION_TANH, MTL_ACTIVATION_SIGMOID,
        MTL_ACTIVATION_RELU, MTL_ACTIVATION_NONE };
    enum { PIECE = 1021 };                                  /* no multiple of any vector */
    const uint32_t step = kernels_cases(10) == 1 ? 10007 : 1009;
    mtl_real x[PIECE], y[PIECE];
    double exact[PIECE], worst[MTL_ISA_COUNT];
    const mtl__kernels *k;
    uint64_t number;
    size_t f, i;
    int isa, more, shielded;
    (void)state;
    for (f = 0; f < sizeof functions / sizeof *functions; f++) {
        memset(worst, 0, sizeof worst);
        for (number = 0, more = 1; more;) {
            for (i = 0; i < PIECE; i++) {
                uint32_t bits;
                more = kernels_nth_float(number++, step, &bits);
                x[i] = kernels_from_bits(bits);
                exact[i] = kernels_is_nan(x[i]) ? 0 : kernels_exact(functions[f], (double)x[i]);
            }
            KERNELS_EACH(k) for (shielded = 0; shielded < 2; shielded++) {
                const uint64_t before = shielded ? mtl__arithmetic_set() : 0;
                kernels_function(k, functions[f], PIECE, x, y);
                if (shielded) mtl__arithmetic_restore(before);
                for (i = 0; i < PIECE; i++) {
                    double ulp;
                    if (kernels_is_nan(x[i])) {
                        if (!kernels_is_nan(y[i])) fail_msg("%s: function %d loses NaN", k->name,
                                                            functions[f]);
                        continue;
                    }
                    if (kernels_is_nan(y[i])) fail_msg("%s: function %d of %g is NaN", k->name, functions[f],
                                                       (double)x[i]);
                    ulp = kernels_ulp((float)y[i], exact[i]);
                    if (ulp > worst[isa]) worst[isa] = ulp;
                    if (ulp > 3) fail_msg("%s: function %d of %.9g is %.9g, exactly %.9g: %.2f ulp", k->name,
                                          functions[f], (double)x[i], (double)y[i], exact[i], ulp);
                }
            }
        }
        if (getenv("MTL_TEST_VERBOSE")) KERNELS_EACH(k)
            printf("function %d %s: %.3f ulp\n", functions[f], k->name, worst[isa]);
    }
}

static void test_kernels_special_values(void **state)
{
    static const uint32_t special[] = { 0x00000000u, 0x80000000u, 0x7f800000u, 0xff800000u, 0x00000001u,
        0x80000001u, 0x007fffffu, 0x7f7fffffu,
                                        0xff7fffffu, 0x42b17217u, 0x42b17218u, 0xc2aeac50u, 0xc2cff1b5u,
                                            0x7fc00000u, 0xffc00000u, 0x7f800001u, 0xff800001u };
    enum { COUNT = sizeof special / sizeof *special };
    mtl_real x[COUNT], y[COUNT], dy[COUNT];
    const mtl__kernels *k;
    size_t i, n;
    int isa;
    (void)state;
    for (i = 0; i < COUNT; i++) x[i] = kernels_from_bits(special[i]);
    KERNELS_EACH(k) for (i = 0; i < 2; i++) {       /* 0 and infinity, x and 0, and no NaN but of NaN */
        k->activate(i ? MTL_ACTIVATION_GELU : MTL_ACTIVATION_SILU, COUNT, x, y);
        assert_true(y[0] == 0 && y[1] == 0 && y[2] == x[2] && y[7] == x[7] && y[9] == x[9]);
        assert_true(fabs((double)y[3]) < 1e-35 && fabs((double)y[8]) < 1e-35);
        for (n = 13; n < COUNT; n++) assert_true(kernels_is_nan(y[n]));
        for (n = 0; n < COUNT; n++) dy[n] = 1;
        k->activate_backward(i ? MTL_ACTIVATION_GELU : MTL_ACTIVATION_SILU, COUNT, x, dy, y);
        assert_true(fabs((double)y[0] - 0.5) < 1e-6 && y[2] == 1 && y[7] == 1);
        assert_true(fabs((double)y[3]) < 1e-35 && fabs((double)y[8]) < 1e-35);
    }
    KERNELS_EACH(k) {
        k->exponential(COUNT, x, y);
        assert_true(y[0] == 1 && y[1] == 1 && y[3] == 0 && y[4] == 1 && y[8] == 0);
        assert_true(fabs((double)y[2]) > FLT_MAX || !KERNELS_IS_DOUBLE);
        k->activate(MTL_ACTIVATION_TANH, COUNT, x, y);
        assert_true(y[0] == 0 && y[2] == 1 && y[3] == -1 && y[7] == 1 && y[8] == -1);
        k->activate(MTL_ACTIVATION_SIGMOID, COUNT, x, y);
        assert_true(y[0] == (mtl_real)0.5 && y[2] == 1 && y[3] < ldexp(1, -126) && y[7] == 1 &&
                    y[8] < ldexp(1, -126));
        for (i = 13; i < COUNT; i++) assert_true(kernels_is_nan(y[i]));
    }
}

/* GELU and SiLU: in floats 2e-6 of the value, where it is not less than 1e-7, and of 1e-7 below. */
static void test_kernels_gelu_and_silu(void **state)
{
    enum { COUNT = 24003 };
    const double close = KERNELS_IS_DOUBLE ? 1e-14 : 2e-6;
    static mtl_real x[COUNT], y[COUNT], dx[COUNT], dy[COUNT];
    const mtl__kernels *k;
    int isa, activation;
    size_t i;
    (void)state;
    for (i = 0; i < COUNT; i++) {
        x[i] = ((mtl_real)i - COUNT / 2) / 1000;
        dy[i] = (mtl_real)(0.5 + (double)(i % 7));
    }
    for (activation = MTL_ACTIVATION_GELU; activation <= MTL_ACTIVATION_SILU; activation++)
        KERNELS_EACH(k) {
            k->activate(activation, COUNT, x, y);
            k->activate_backward(activation, COUNT, x, dy, dx);
            for (i = 0; i < COUNT; i++) {
                const double v = (double)x[i], s = 1 / (1 + exp(-v)), exact = kernels_exact(activation, v);
                const double slope = activation == MTL_ACTIVATION_SILU ? s * (1 + v * (1 - s))
                    : 0.5 * erfc(-v / sqrt(2)) + v * exp(-v * v / 2) / sqrt(2 * acos(-1.0));
                if (!(fabs((double)y[i] - exact) <= close * (fabs(exact) + 1e-7)))
                    fail_msg("%s: %d of %g is %.9g, exactly %.9g", k->name, activation, v, (double)y[i],
                             exact);
                if (!(fabs((double)dx[i] - (double)dy[i] * slope) <= close * (double)dy[i]))
                    fail_msg("%s: slope %d of %g is %.9g, exactly %.9g", k->name, activation, v,
                             (double)dx[i], (double)dy[i] * slope);
            }
        }
}

static void test_kernels_activation_slopes(void **state)
{
    const mtl__kernels *k;
    int isa, activation;
    size_t n, i;
    (void)state;
    for (n = 1; n <= 33; n++) {
        kernels_matrix y = kernels_random(1, n, n, 1), dy = kernels_random(1, n, n, 1),
            dx = kernels_create(1, n, n);
        for (activation = MTL_ACTIVATION_NONE; activation <= MTL_ACTIVATION_SIGMOID; activation++)
            KERNELS_EACH(k) {
                kernels_restore(&dx);
                k->activate_backward(activation, n, y.data, dy.data, dx.data);
                kernels_assert_inside(&dx);
                for (i = 0; i < n; i++) {
                    const double v = (double)y.data[i], slope = activation == MTL_ACTIVATION_TANH ? 1 - v * v
                        : activation == MTL_ACTIVATION_SIGMOID
                            ? v * (1 - v) : activation == MTL_ACTIVATION_RELU ? v > 0 : 1;
                    kernels_assert_near((double)dx.data[i], (double)dy.data[i] * slope, KERNELS_EPSILON,
                                        k->name);
                }
            }
        kernels_destroy(&y);
        kernels_destroy(&dy);
        kernels_destroy(&dx);
    }
}

/* ---- whole arrays and rows ----------------------------------------------------------------------------- */

/* The largest of a, b and b again: its gradient goes to a or to the first b, never to the second; added to
   what dx holds, or not. */
static void kernels_maximum(const mtl__kernels *k, size_t n, const kernels_matrix *a, const kernels_matrix *b,
                            const kernels_matrix *g)
{
    kernels_matrix y = kernels_create(1, n, n), left = kernels_create(1, n, n),
        dx = kernels_random(1, n, n, 1);
    const kernels_matrix *x[3];
    size_t i, which;
    int accumulate;
    x[0] = a;
    x[1] = x[2] = b;
    memcpy(y.data, a->data, n * sizeof(mtl_real));
    k->maximum(n, b->data, y.data);
    kernels_assert_inside(&y);
    for (i = 0; i < n; i++) assert_true(y.data[i] == (a->data[i] > b->data[i] ? a->data[i] : b->data[i]));
    for (accumulate = 0; accumulate < 2; accumulate++) {
        memcpy(left.data, g->data, n * sizeof(mtl_real));
        for (which = 0; which < 3; which++) {
            kernels_restore(&dx);
            k->maximum_backward(n, x[which]->data, y.data, left.data, accumulate, dx.data);
            kernels_assert_inside(&dx);
            kernels_assert_inside(&left);
            for (i = 0; i < n; i++) {
                const mtl_real old = accumulate ? dx.before[dx.data - dx.memory + (ptrdiff_t)i] : 0;
                const int taken = which == 0 ? a->data[i] >= b->data[i] : which == 1 &&
                    b->data[i] > a->data[i];
                assert_true(dx.data[i] == old + (taken ? g->data[i] : 0));
            }
        }
    }
    kernels_destroy(&y);
    kernels_destroy(&left);
    kernels_destroy(&dx);
}

/* Layer norm of a few rows of n columns, forward and backward, against sums in double. */
static void kernels_layer_norm(const mtl__kernels *k, size_t n, int accumulate)
{
    enum { ROWS = 3 };
    kernels_matrix x = kernels_random(ROWS, n, n + 3, 1), dy = kernels_random(ROWS, n, n + 3, 1);
    kernels_matrix gain = kernels_random(1, n, n, 1), bias = kernels_random(1, n, n, 1);
    kernels_matrix y = kernels_random(ROWS, n, n + 3, 1), dx = kernels_random(ROWS, n, n + 3, 1);
    kernels_matrix dgain = kernels_random(1, n, n, 1), dbias = kernels_random(1, n, n, 1);
    double sums[2][80] = {{0}};
    mtl_real saved[2 * ROWS];
    mtl__layer_norm p;
    size_t row, j;
    memset(&p, 0, sizeof p);
    p.rows = ROWS, p.width = n, p.epsilon = (mtl_real)0.01, p.saved = saved, p.accumulate = accumulate;
    p.x = x.data, p.dy = dy.data, p.y = y.data, p.dx = dx.data, p.gain = gain.data, p.bias = bias.data;
    p.x_stride = p.y_stride = p.dy_stride = p.dx_stride = n + 3;
    p.dgain = dgain.data, p.dbias = dbias.data, p.add_gain = p.add_bias = accumulate;
    k->layer_norm(&p, 0, ROWS);
    k->layer_norm_backward(&p, 0, ROWS);
    k->layer_norm_weights(&p, 0, n / 2);
    k->layer_norm_weights(&p, n / 2, n);
    kernels_assert_inside(&y);
    kernels_assert_inside(&dx);
    kernels_assert_inside(&dgain);
    kernels_assert_inside(&dbias);
    for (row = 0; row < ROWS; row++) {
        const mtl_real *from = x.data + row * (n + 3), *slope = dy.data + row * (n + 3);
        double mean = 0, variance = 0, r, g = 0, gh = 0, h;
        for (j = 0; j < n; j++) mean += (double)from[j] / (double)n;
        for (j = 0; j < n; j++) variance += ((double)from[j] - mean) * ((double)from[j] - mean) / (double)n;
        r = 1 / sqrt(variance + 0.01);
        for (j = 0; j < n; j++) {
            h = ((double)from[j] - mean) * r;
            g += (double)slope[j] * (double)gain.data[j] / (double)n;
            gh += (double)slope[j] * (double)gain.data[j] * h / (double)n;
            sums[0][j] += (double)slope[j] * h, sums[1][j] += (double)slope[j];
        }
        for (j = 0; j < n; j++) {
            const size_t at = row * (n + 3) + j;
            const double old = accumulate ? (double)dx.before[dx.data - dx.memory + (ptrdiff_t)at] : 0;
            h = ((double)from[j] - mean) * r;
            assert_true(fabs((double)y.data[at] - (h * (double)gain.data[j] + (double)bias.data[j])) < 1e-4);
            assert_true(fabs((double)dx.data[at] - old - r * ((double)slope[j] * (double)gain.data[j] - g
                                                              - h * gh)) < 1e-4);
        }
    }
    for (j = 0; j < n; j++) {
        const double old[2] = { (double)dgain.before[dgain.data - dgain.memory + (ptrdiff_t)j],
                                (double)dbias.before[dbias.data - dbias.memory + (ptrdiff_t)j] };
        assert_true(fabs((double)dgain.data[j] - sums[0][j] - (accumulate ? old[0] : 0)) < 1e-4);
        assert_true(fabs((double)dbias.data[j] - sums[1][j] - (accumulate ? old[1] : 0)) < 1e-4);
    }
    kernels_destroy(&x), kernels_destroy(&dy), kernels_destroy(&gain), kernels_destroy(&bias);
    kernels_destroy(&y), kernels_destroy(&dx), kernels_destroy(&dgain), kernels_destroy(&dbias);
}

static void test_kernels_layer_norm(void **state)
{
    const mtl__kernels *k;
    size_t n;
    int isa;
    (void)state;
    for (n = 2; n <= 75; n++)
        KERNELS_EACH(k) kernels_layer_norm(k, n, n % 2 != 0);
}

static void test_kernels_arrays(void **state)
{
    static const int rows[4] = { 3, 1, 4, 1 };
    const mtl__kernels *k;
    size_t n, i;
    int isa;
    (void)state;
    for (n = 1; n <= 70; n++) {
        kernels_matrix a = kernels_random(1, n, n, 1), b = kernels_random(1, n, n, 1),
            y = kernels_random(1, n, n, 1);
        const double squares = mtl__kernel_tables[0]->sum_squares(n, a.data);
        double sum = 0;
        for (i = 0; i < n; i++) sum += (double)a.data[i] * (double)a.data[i];
        KERNELS_EACH(k) {
            const double got = k->sum_squares(n, a.data);
            kernels_assert_near(got, sum, 1e-12, "sum of squares");
            assert_memory_equal(&got, &squares, sizeof got);
            kernels_restore(&y);
            k->approach(n, (mtl_real)0.75, a.data, y.data);
            kernels_assert_inside(&y);
            for (i = 0; i < n; i++) {
                const double old = (double)y.before[y.data - y.memory + (ptrdiff_t)i];
                kernels_assert_near((double)y.data[i], old + 0.75 * ((double)a.data[i] - old),
                                    2 * KERNELS_EPSILON, "approach");
            }
            kernels_restore(&y);
            k->add_rows(n, n % 5, rows, (mtl_real)-0.5, a.data, 0, n % 2 != 0, y.data);
            kernels_assert_inside(&y);
            for (i = 0; i < n; i++) {
                const double old = n % 2 ? (double)y.before[y.data - y.memory + (ptrdiff_t)i] : 0;
                kernels_assert_near((double)y.data[i], old - 0.5 * (double)(n % 5) * (double)a.data[i],
                                    KERNELS_EPSILON, "add_rows");
            }
            kernels_restore(&y);
            k->scale(n, (mtl_real)-1.5, y.data);
            kernels_assert_inside(&y);
            for (i = 0; i < n; i++) {
                const double old = (double)y.before[y.data - y.memory + (ptrdiff_t)i];
                kernels_assert_near((double)y.data[i], -1.5 * old, KERNELS_EPSILON, "scale");
            }
            kernels_assert_unchanged(&a);
            kernels_assert_unchanged(&b);
            kernels_maximum(k, n, &a, &b, &y);
        }
        kernels_destroy(&a);
        kernels_destroy(&b);
        kernels_destroy(&y);
    }
}

static void test_kernels_softmax(void **state)
{
    const mtl__kernels *k;
    int isa, round;
    (void)state;
    for (round = 0; round < kernels_cases(100); round++) {
        const size_t rows = 1 + kernels_below(5), classes = round < 70
            ? (size_t)(1 + round) : 300 + kernels_below(50);
        const double range = round % 3 == 0 ? 50 : 3;
        kernels_matrix x = kernels_random(rows, classes, kernels_stride_of(classes), range);
        kernels_matrix p = kernels_create(rows, classes, kernels_stride_of(classes));
        KERNELS_EACH(k) {
            size_t row, j;
            mtl__softmax s;
            memset(&s, 0, sizeof s);
            s.rows = rows;
            s.classes = classes;
            s.x = x.data;
            s.x_stride = x.stride;
            s.p = p.data;
            s.p_stride = p.stride;
            kernels_restore(&p);
            k->softmax(&s, 0, rows / 2);
            k->softmax(&s, rows / 2, rows);
            kernels_assert_inside(&p);
            kernels_assert_unchanged(&x);
            for (row = 0; row < rows; row++) {
                double sum = 0;
                for (j = 0; j < classes; j++) sum += exp((double)x.data[row * x.stride + j]);
                for (j = 0; j < classes; j++)
                    kernels_assert_near((double)p.data[row * p.stride + j],
                                        exp((double)x.data[row * x.stride + j]) / sum, KERNELS_EPSILON,
                                            "softmax");
            }
            s.p = x.data;                                   /* in place */
            s.p_stride = x.stride;
            k->softmax(&s, 0, rows);
            kernels_assert_inside(&x);
            for (row = 0; row < rows; row++)
                assert_memory_equal(x.data + row * x.stride, p.data + row * p.stride,
                                    classes * sizeof(mtl_real));
            kernels_restore(&x);
        }
        kernels_destroy(&x);
        kernels_destroy(&p);
    }
}

/* The cross-entropy of a row by its definition, in double: coefficients a, their sum, loss = -sum a log p. */
static double kernels_cross_entropy(const mtl__cross_entropy *p, size_t row, double *a, double *sum_a,
                                    double *probability)
{
    const mtl_real *x = p->x + row * p->x_stride;
    const size_t item = (size_t)p->items[row];
    double largest = (double)x[0], sum = 0, loss = 0;
    size_t c;
    for (c = 0; c < p->classes; c++) largest = (double)x[c] > largest ? (double)x[c] : largest;
    for (c = 0; c < p->classes; c++) sum += exp((double)x[c] - largest);
    *sum_a = 0;
    for (c = 0; c < p->classes; c++) {
        const double hit = p->q ? (double)p->q[item * p->classes + c] : p->labels[item] == (int)c;
        a[c] = (p->w ? (double)p->w[c] : 1.0) * ((1 - (double)p->smoothing) * hit + (double)p->smoothing
                                                 / (double)p->classes);
        *sum_a += a[c];
        probability[c] = exp((double)x[c] - largest) / sum;
        loss -= a[c] * ((double)x[c] - largest - log(sum));
    }
    return loss;
}

/* Labels and distributions, with and without class weights and smoothing; gradients that assign and that
   add. */
static void test_kernels_cross_entropy(void **state)
{
    enum { ITEMS = 7 };
    static double a[400], probability[400], loss[ITEMS];
    const mtl__kernels *k;
    int isa, round, items[ITEMS], labels[ITEMS];
    (void)state;
    for (round = 0; round < kernels_cases(160); round++) {
        const size_t rows = 1 + kernels_below(ITEMS), classes = round % 80 < 70
            ? (size_t)(1 + round % 80) : 300 + kernels_below(50);
        const double range = round % 3 == 0 ? 60 : 3;
        kernels_matrix x = kernels_random(rows, classes, kernels_stride_of(classes), range),
            q = kernels_random(ITEMS, classes, classes, 1);
        kernels_matrix w = kernels_random(1, classes, classes, 1), kept = kernels_create(rows, 3, 3);
        kernels_matrix dx = kernels_random(rows, classes, x.stride, 1);
        size_t i, row, j;
        for (i = 0; i < ITEMS; i++) {
            items[i] = (int)kernels_below(ITEMS);
            labels[i] = (int)kernels_below(classes);
        }
        KERNELS_EACH(k) {
            mtl__cross_entropy s;
            memset(&s, 0, sizeof s);
            s.classes = classes;
            s.x = x.data;
            s.x_stride = x.stride;
            s.items = items;
            if (round % 2) s.q = q.data;
            else s.labels = labels;
            s.w = round / 2 % 2 ? w.data : NULL;
            s.smoothing = round / 4 % 2 ? (mtl_real)0.2 : 0;
            s.saved = kept.data;
            s.loss = loss;
            s.dx = dx.data;
            s.dx_stride = dx.stride;
            s.factor = (mtl_real)0.75;
            s.accumulate = round / 8 % 2;
            kernels_restore(&kept);
            kernels_restore(&dx);
            k->cross_entropy_forward(&s, 0, rows / 2);
            k->cross_entropy_forward(&s, rows / 2, rows);
            k->cross_entropy_backward(&s, 0, rows);
            kernels_assert_unchanged(&x);
            kernels_assert_unchanged(&w);
            kernels_assert_inside(&kept);
            kernels_assert_inside(&dx);
            for (row = 0; row < rows; row++) {
                double sum_a, value = kernels_cross_entropy(&s, row, a, &sum_a, probability), size = 1;
                for (j = 0; j < classes; j++) size += fabs(a[j]) * (2 * range + log((double)classes));
                kernels_assert_near(loss[row], value, 4 * KERNELS_EPSILON * size, "cross-entropy");
                for (j = 0; j < classes; j++) {
                    const double old = s.accumulate
                        ? (double)dx.before[(size_t)(dx.data - dx.memory) + row * dx.stride + j] : 0;
                    kernels_assert_near((double)dx.data[row * dx.stride + j],
                                        old + 0.75 * (sum_a * probability[j] - a[j]), 8 * KERNELS_EPSILON
                                            * (1 + fabs(sum_a)), "gradient of the cross-entropy");
                }
            }
        }
        kernels_destroy(&x);
        kernels_destroy(&q);
        kernels_destroy(&w);
        kernels_destroy(&kept);
        kernels_destroy(&dx);
    }
}

/* Same mask for every instruction set and every split; the right share is dropped; keys decide, not rows. */
static void test_kernels_dropout(void **state)
{
    const mtl__kernels *k;
    int isa, round;
    (void)state;
    for (round = 0; round < kernels_cases(60); round++) {
        const size_t rows = 1 + kernels_below(6), width = round < 40
            ? (size_t)(1 + round) : 100 + kernels_below(900);
        kernels_matrix x = kernels_random(rows, width, kernels_stride_of(width), 1),
            y = kernels_random(rows, width, kernels_stride_of(width), 1);
        mtl_real *first = NULL;
        int key[6], accumulate = round & 1;
        size_t i, row, kept = 0;
        mtl__dropout d;
        for (i = 0; i < 6; i++) key[i] = (int)kernels_below(1000);
        memset(&d, 0, sizeof d);
        d.rows = rows;
        d.width = width;
        d.x = x.data;
        d.x_stride = x.stride;
        d.y = y.data;
        d.y_stride = y.stride;
        d.key = round % 3 ? key : NULL;
        d.seed = (unsigned long long)round;
        d.stream = 7;
        d.rate = (mtl_real)0.3;
        d.accumulate = accumulate;
        KERNELS_EACH(k) {
            kernels_restore(&y);
            k->dropout(&d, 0, rows / 2);
            k->dropout(&d, rows / 2, rows);
            kernels_assert_inside(&y);
            if (!first) {
                first = (mtl_real *)malloc(y.total * sizeof *first);
                memcpy(first, y.memory, y.total * sizeof *first);
            }
            /* else a compiler may fuse the addition */
            if (!accumulate) assert_memory_equal(first, y.memory, y.total * sizeof *first);
            for (row = 0; row < rows; row++)
                for (i = 0; i < width; i++) {
                    const size_t at = (size_t)(y.data - y.memory) + row * y.stride + i;
                    kernels_assert_near((double)y.memory[at], (double)first[at], 3 * KERNELS_EPSILON,
                                        k->name);
                }
        }
        for (row = 0; row < rows; row++)
            for (i = 0; i < width; i++) {
                const double old = accumulate ? (double)y.before[(size_t)(y.data - y.memory) + row * y.stride
                                                                 + i] : 0;
                const double value = (double)x.data[row * x.stride + i] / 0.7,
                    got = (double)y.data[row * y.stride + i] - old;
                if (fabs(got) < fabs(value) / 2) kernels_assert_near(got, 0, KERNELS_EPSILON, "dropped");
                else kernels_assert_near(got, value, 3 * KERNELS_EPSILON, "kept"), kept++;
            }
        if (rows * width > 1000) kernels_assert_near((double)kept / (double)(rows * width), 0.7,
                                                     4 * sqrt(0.21 / (double)(rows * width)), "share kept");
        if (!accumulate && d.key && rows > 1) {             /* the same key makes the same mask */
            key[1] = key[0];
            for (i = 0; i < width; i++) x.data[x.stride + i] = x.data[i];
            mtl__kernels_choose(MTL_ISA_AUTO)->dropout(&d, 0, rows);
            assert_memory_equal(y.data, y.data + y.stride, width * sizeof(mtl_real));
        }
        free(first);
        kernels_destroy(&x);
        kernels_destroy(&y);
    }
}

/* ---- packing and products ------------------------------------------------------------------------------ */

static void test_kernels_packing(void **state)
{
    static const int turned[4] = { 2, 0, 1, 3 };
    const mtl__kernels *k;
    int isa, round;
    (void)state;
    for (round = 0; round < kernels_cases(KERNELS_SIZES); round++) {
        size_t rows, units, inputs, g, u, i;
        const size_t gates = 1 + kernels_below(4);
        const int *order = gates > 2 && round % 2 ? turned : NULL;
        kernels_matrix w, forward, backward;
        kernels_sizes(round, &rows, &units, &inputs);
        w = kernels_random(gates * units, inputs, inputs, 1);
        forward = kernels_create(1, kernels_blocks(units) * 16 * gates * inputs,
                                 kernels_blocks(units) * 16 * gates * inputs);
        backward = kernels_create(1, kernels_blocks(units) * 16 * gates * kernels_blocks(inputs) * 16,
                                  kernels_blocks(units) * 16 * gates * kernels_blocks(inputs) * 16);
        KERNELS_EACH(k) {
            kernels_restore(&forward);
            kernels_restore(&backward);
            k->pack_forward(gates, units, inputs, w.data, forward.data);
            k->pack_backward(gates, units, inputs, w.data, order, backward.data);
            kernels_assert_inside(&forward);
            kernels_assert_inside(&backward);
            for (g = 0; g < gates; g++)
                for (u = 0; u < kernels_blocks(units) * 16; u++)
                    for (i = 0; i < kernels_blocks(inputs) * 16; i++) {
                        const size_t from = order ? (size_t)order[g] : g;
                        const mtl_real value = u < units && i < inputs
                            ? w.data[(g * units + u) * inputs + i] : 0;
                        const mtl_real ordered = u < units && i < inputs
                            ? w.data[(from * units + u) * inputs + i] : 0;
                        if (i < inputs) assert_true(forward.data[((u / 16 * gates + g) * inputs + i) * 16
                                                                 + u % 16] == value);
                        assert_true(backward.data[(((i / 16 * kernels_blocks(units) + u / 16) * gates + g)
                                                   * 16 + u % 16) * 16 + i % 16] == ordered);
                    }
        }
        kernels_destroy(&w);
        kernels_destroy(&forward);
        kernels_destroy(&backward);
    }
}

/* Every element of both packings in pairs, paddings too. */
static void test_kernels_packing_pairs(void **state)
{
    static const int turned[4] = { 2, 0, 1, 3 };
    const mtl__kernels *k;
    int isa, round;
    (void)state;
    for (round = 0; round < kernels_cases(KERNELS_SIZES); round++) {
        size_t rows, units, inputs, g, u, i, pairs, padded;
        const size_t gates = 1 + kernels_below(4);
        const int *order = gates > 2 && round % 2 ? turned : NULL;
        kernels_matrix w, forward, backward;
        kernels_sizes(round, &rows, &units, &inputs);
        pairs = (inputs + 1) / 2;
        padded = kernels_blocks(units) * 16;
        w = kernels_random(gates * units, inputs, inputs, 1);
        if (round % 3 == 0)                                 /* ties, to even numbers below and above */
            for (i = 0; i < gates * units * inputs; i++)
                w.data[i] = (mtl_real)((256 + (double)kernels_below(256) + 0.5) / 512);
        forward = kernels_create(1, padded * gates * pairs, padded * gates * pairs);
        backward = kernels_create(1, padded / 2 * gates * kernels_blocks(inputs) * 16,
                                  padded / 2 * gates * kernels_blocks(inputs) * 16);
        KERNELS_EACH(k) {
            if (kernels_precisions(k) < 2) continue;
            kernels_restore(&forward);
            kernels_restore(&backward);
            k->pack_pairs_forward(gates, units, inputs, w.data, forward.data);
            k->pack_pairs_backward(gates, units, inputs, w.data, order, backward.data);
            kernels_assert_inside(&forward);
            kernels_assert_inside(&backward);
            for (g = 0; g < gates; g++)
                for (u = 0; u < padded; u++)
                    for (i = 0; i < kernels_blocks(inputs) * 16; i++) {
                        const size_t from = order ? (size_t)order[g] : g;
                        const double value = u < units && i < inputs
                            ? (double)w.data[(g * units + u) * inputs + i] : 0;
                        const double ordered = u < units && i < inputs
                            ? (double)w.data[(from * units + u) * inputs + i] : 0;
                        if (i < 2 * pairs)
                            assert_true(kernels_half(forward.data[((u / 16 * gates + g) * pairs + i / 2) * 16
                                                                  + u % 16],
                                                                      i % 2) == kernels_operand(1, value));
                        assert_true(kernels_half(backward.data[(((i / 16 * (padded / 16) + u / 16) * gates
                                                                 + g) * 8 + u % 16 / 2) * 16 + i % 16], u % 2)
                                    == kernels_operand(1, ordered));
                    }
        }
        kernels_destroy(&w);
        kernels_destroy(&forward);
        kernels_destroy(&backward);
    }
}

/* A matrix of gate values [block][row][gate][16], whose padding is NaN. */
static kernels_matrix kernels_gates(size_t rows, size_t units, size_t gates, double range)
{
    const size_t total = kernels_blocks(units) * rows * gates * 16;
    kernels_matrix z = kernels_create(1, total, total);
    size_t row, g, u;
    for (row = 0; row < rows; row++)
        for (g = 0; g < gates; g++)
            for (u = 0; u < units; u++) z.data[((u / 16 * rows + row) * gates + g) * 16 + u % 16] =
                (mtl_real)(range * kernels_uniform());
    kernels_remember(&z);
    return z;
}
static size_t kernels_at(size_t rows, size_t gates, size_t row, size_t g, size_t u)
{
    return ((u / 16 * rows + row) * gates + g) * 16 + u % 16;
}

/* The packings needed to feed a product, by the scalar kernel or, in pairs, by k's: tested above. */
static mtl_real *kernels_packed(const mtl__kernels *k, int pairs, size_t gates, size_t units, size_t inputs,
                                const mtl_real *w)
{
    mtl_real *packed = (mtl_real *)malloc(kernels_blocks(units) * 16 * gates * (pairs ? (inputs + 1) / 2
                                                                                : inputs) * sizeof *packed);
    (pairs ? k->pack_pairs_forward : mtl__kernel_tables[0]->pack_forward)(gates, units, inputs, w, packed);
    return packed;
}
static mtl_real *kernels_packed_back(const mtl__kernels *k, int pairs, size_t gates, size_t units,
                                     size_t inputs, const mtl_real *w, const int *order)
{
    mtl_real *packed = (mtl_real *)malloc(kernels_blocks(units) * (pairs ? 8 : 16) * gates
                                          * kernels_blocks(inputs) * 16 * sizeof *packed);
    (pairs ? k->pack_pairs_backward : mtl__kernel_tables[0]->pack_backward)(gates, units, inputs, w, order,
                                                                            packed);
    return packed;
}

static void test_kernels_product_forward(void **state)
{
    const mtl__kernels *k;
    int isa, round, pairs;
    (void)state;
    for (round = 0; round < kernels_cases(2 * KERNELS_SIZES); round++) {
        size_t rows, units, inputs, row, g, u, i;
        const size_t gates = round & 1 ? 1 : 1 + kernels_below(4);
        const int exact = gates == 1 && round % 3 != 0, with_bias = round % 5 != 0,
            accumulate = round % 7 == 0;
        kernels_matrix w, x, z, bias;
        mtl_real *packed, *whole;
        kernels_sizes(round % KERNELS_SIZES, &rows, &units, &inputs);
        w = kernels_random(gates * units, inputs, inputs, 1);
        x = kernels_random(rows, inputs, kernels_stride_of(inputs), 1);
        bias = kernels_gates(1, units, gates, 1);
        for (i = 0; i < bias.width; i++)
            if (kernels_is_nan(bias.data[i])) bias.data[i] = 0;
        z = exact ? kernels_random(rows, units, kernels_stride_of(units), 1)
            : kernels_gates(rows, units, gates, 1);
        whole = (mtl_real *)malloc(z.total * sizeof *whole);
        KERNELS_EACH_PRECISION(k) {
            mtl__product_forward p;
            memset(&p, 0, sizeof p);
            packed = kernels_packed(k, pairs, gates, units, inputs, w.data);
            p.pairs = pairs;
            p.gates = gates;
            p.units = units;
            p.inputs = inputs;
            p.x = x.data;
            p.x_stride = x.stride;
            p.packed = packed;
            p.bias = with_bias ? bias.data : NULL;
            p.z = z.data;
            p.z_block = exact ? 16 : rows * gates * 16;
            p.z_row = exact ? z.stride : gates * 16;
            p.exact = exact;
            p.accumulate = accumulate;
            kernels_restore(&z);
            k->product_forward(&p, 0, rows);
            memcpy(whole, z.memory, z.total * sizeof *whole);
            kernels_restore(&z);
            for (i = 0; i < rows; i += MTL__FINE_ROWS)
                k->product_forward(&p, i, kernels_least(i + MTL__FINE_ROWS, rows));
            if (exact || !accumulate) assert_memory_equal(whole, z.memory, z.total * sizeof *whole);
            kernels_assert_inside(&z);
            kernels_assert_unchanged(&x);
            for (row = 0; row < rows; row++)
                for (g = 0; g < gates; g++)
                    for (u = 0; u < units; u++) {
                        const size_t at = exact ? row * z.stride + u : kernels_at(rows, gates, row, g, u);
                        double sum = 0, magnitude = 1;
                        if (accumulate) sum = (double)z.before[(size_t)(z.data - z.memory) + at];
                        else if (with_bias) sum = (double)bias.data[kernels_at(1, gates, 0, g, u)];
                        for (i = 0; i < inputs; i++) {
                            const double term = kernels_operand(pairs, (double)x.data[row * x.stride + i])
                                                * kernels_operand(pairs, (double)w.data[(g * units + u)
                                                                                        * inputs + i]);
                            sum += term;
                            magnitude += fabs(term);
                        }
                        kernels_assert_near((double)z.data[at], sum, KERNELS_EPSILON * magnitude, k->name);
                    }
            free(packed);
        }
        free(whole);
        kernels_destroy(&w);
        kernels_destroy(&x);
        kernels_destroy(&z);
        kernels_destroy(&bias);
    }
}

static void test_kernels_product_backward(void **state)
{
    static const int turned[4] = { 2, 0, 1, 3 };
    const mtl__kernels *k;
    int isa, round, pairs;
    (void)state;
    for (round = 0; round < kernels_cases(2 * KERNELS_SIZES); round++) {
        size_t rows, units, inputs, row, g, u, i;
        const size_t gates = round & 1 ? 1 : 1 + kernels_below(4),
            slots = gates + (gates == 3 && round % 4 == 0);
        const int exact = gates == 1 && round % 3 != 0, accumulate = round % 5 == 0;
        const int *order = gates > 2 && round % 4 < 2 ? turned : NULL;
        kernels_matrix w, dz, dx;
        mtl_real *packed, *whole;
        kernels_sizes(round % KERNELS_SIZES, &rows, &units, &inputs);
        w = kernels_random(gates * units, inputs, inputs, 1);
        dz = exact ? kernels_random(rows, units, kernels_stride_of(units), 1)
            : kernels_gates(rows, units, slots, 1);
        if (!exact)                                         /* its padding is zero by contract */
            for (i = 0; i < dz.width; i++)
                if (kernels_is_nan(dz.data[i])) dz.data[i] = 0;
        kernels_remember(&dz);
        dx = kernels_random(rows, inputs, kernels_stride_of(inputs), 1);
        whole = (mtl_real *)malloc(dx.total * sizeof *whole);
        KERNELS_EACH_PRECISION(k) {
            mtl__product_backward p;
            memset(&p, 0, sizeof p);
            packed = kernels_packed_back(k, pairs, gates, units, inputs, w.data, order);
            p.pairs = pairs;
            p.gates = gates;
            p.units = units;
            p.inputs = inputs;
            p.dz = dz.data;
            p.dz_block = exact ? 16 : rows * slots * 16;
            p.dz_row = exact ? dz.stride : slots * 16;
            p.exact = exact;
            p.packed = packed;
            p.dx = dx.data;
            p.dx_stride = dx.stride;
            p.accumulate = accumulate;
            kernels_restore(&dx);
            k->product_backward(&p, 0, rows);
            memcpy(whole, dx.memory, dx.total * sizeof *whole);
            kernels_restore(&dx);
            for (i = 0; i < rows; i += MTL__FINE_ROWS)
                k->product_backward(&p, i, kernels_least(i + MTL__FINE_ROWS, rows));
            assert_memory_equal(whole, dx.memory, dx.total * sizeof *whole);
            kernels_assert_inside(&dx);
            kernels_assert_unchanged(&dz);
            for (row = 0; row < rows; row++)
                for (i = 0; i < inputs; i++) {
                    double sum = accumulate ? (double)dx.before[(size_t)(dx.data - dx.memory) + row
                                                                * dx.stride + i] : 0, magnitude = 1;
                    for (g = 0; g < gates; g++)
                        for (u = 0; u < units; u++) {
                            const size_t from = order ? (size_t)order[g] : g;
                            const double term = kernels_operand(pairs,
                                                                (double)dz.data[exact
                                                                                ? row * dz.stride + u
                                                                                    : kernels_at(rows, slots,
                                                                                                 row, g, u)])
                                                * kernels_operand(pairs, (double)w.data[(from * units + u)
                                                                                        * inputs + i]);
                            sum += term;
                            magnitude += fabs(term);
                        }
                    kernels_assert_near((double)dx.data[row * dx.stride + i], sum,
                                        KERNELS_EPSILON * magnitude, k->name);
                }
            free(packed);
        }
        free(whole);
        kernels_destroy(&w);
        kernels_destroy(&dz);
        kernels_destroy(&dx);
    }
}

static void test_kernels_product_weights(void **state)
{
    static const int turned[4] = { 2, 0, 1, 3 };
    const mtl__kernels *k;
    int isa, round, pairs;
    (void)state;
    for (round = 0; round < kernels_cases(2 * KERNELS_SIZES); round++) {
        size_t rows, units, inputs, row, g, u, i, unit;
        const size_t gates = round & 1 ? 1 : 1 + kernels_below(4),
            slots = gates + (gates == 3 && round % 4 == 0);
        const int exact = gates == 1 && round % 3 != 0, accumulate = round % 5 == 0;
        const int *order = gates > 2 && round % 4 < 2 ? turned : NULL;
        kernels_matrix dz, x, x0, dw, db;
        mtl_real *whole, *scratch;
        int *source;
        kernels_sizes(round % KERNELS_SIZES, &rows, &units, &inputs);
        dz = exact ? kernels_random(rows, units, kernels_stride_of(units), 1)
            : kernels_gates(rows, units, slots, 1);
        x = kernels_random(rows, inputs, kernels_stride_of(inputs), 1);
        x0 = kernels_random(4, inputs, kernels_stride_of(inputs), 1);
        dw = kernels_random(gates * units, inputs, inputs, 1);
        db = kernels_random(1, gates * units, gates * units, 1);
        source = round % 2 ? (int *)malloc(rows * sizeof *source) : NULL;
        for (row = 0; source && row < rows; row++) source[row] = kernels_below(3)
            ? (int)kernels_below(rows) : ~(int)kernels_below(4);
        whole = (mtl_real *)malloc(dw.total * sizeof *whole);
        KERNELS_EACH_PRECISION(k) {
            mtl__product_weights p;
            memset(&p, 0, sizeof p);
            p.pairs = pairs;
            p.gates = gates;
            p.units = units;
            p.inputs = inputs;
            p.rows = rows;
            p.dz = dz.data;
            p.dz_block = exact ? 16 : rows * slots * 16;
            p.dz_row = exact ? dz.stride : slots * 16;
            p.exact = exact;
            p.x = x.data;
            p.x_stride = x.stride;
            p.x0 = round % 4 < 3 ? x0.data : NULL;
            p.x0_stride = x0.stride;
            p.source = source;
            p.order = order;
            p.dw = dw.data;
            p.accumulate = accumulate;
            scratch = (mtl_real *)malloc(mtl__weight_scratch(&p) * sizeof *scratch);
            kernels_restore(&dw);
            k->product_weights(&p, 0, mtl__weight_units(&p), scratch);
            memcpy(whole, dw.memory, dw.total * sizeof *whole);
            kernels_restore(&dw);
            for (unit = 0; unit < mtl__weight_units(&p);) {
                const size_t left = mtl__weight_units(&p) - unit, here = 1 + kernels_below(left);
                k->product_weights(&p, unit, unit + here, scratch);
                unit += here;
            }
            free(scratch);
            assert_memory_equal(whole, dw.memory, dw.total * sizeof *whole);
            kernels_assert_inside(&dw);
            kernels_restore(&db);
            k->column_sums(&p, db.data);
            kernels_assert_inside(&db);
            kernels_assert_unchanged(&dz);
            for (g = 0; g < gates; g++)
                for (u = 0; u < units; u++) {
                    const size_t to = (order ? (size_t)order[g] : g) * units + u;
                    double sum = accumulate ? (double)db.before[(size_t)(db.data - db.memory) + to] : 0,
                        magnitude = 1;
                    for (row = 0; row < rows; row++) {
                        const double term = (double)dz.data[exact ? row * dz.stride + u
                                                            : kernels_at(rows, slots, row, g, u)];
                        sum += term;
                        magnitude += fabs(term);
                    }
                    kernels_assert_near((double)db.data[to], sum, KERNELS_EPSILON * magnitude, "column_sums");
                    for (i = 0; i < inputs; i += rows * units * inputs > 100000 ? 1 + kernels_below(40) : 1) {
                        sum = accumulate ? (double)dw.before[(size_t)(dw.data - dw.memory) + to * inputs + i]
                            : 0;
                        magnitude = 1;
                        for (row = 0; row < rows; row++) {
                            const int from = source ? source[row] : (int)row;
                            const double value = from >= 0 ? (double)x.data[(size_t)from * x.stride + i]
                                : p.x0 ? (double)x0.data[(size_t)~from * x0.stride + i] : 0;
                            const double term = kernels_operand(pairs, value)
                                                * kernels_operand(pairs,
                                                                  (double)dz.data[exact
                                                                                  ? row * dz.stride + u
                                                                                      : kernels_at(rows,
                                                                                                   slots, row,
                                                                                                       g,
                                                            u)]);
                            sum += term;
                            magnitude += fabs(term);
                        }
                        kernels_assert_near((double)dw.data[to * inputs + i], sum,
                                            KERNELS_EPSILON * magnitude, k->name);
                    }
                }
        }
        free(whole);
        free(source);
        kernels_destroy(&dz);
        kernels_destroy(&x);
        kernels_destroy(&x0);
        kernels_destroy(&dw);
        kernels_destroy(&db);
    }
}

/* ---- cells: a plain reference in double ---------------------------------------------------------------- */

enum { KERNELS_MOST = 600 };                                /* rows, sequences, steps of a case */

/* One random layer over one random ragged batch. */
typedef struct kernels_layer {
    const mtl__cell_kind *cell;
    int kind, activation, before, reverse;
    size_t units, gates, slots, steps, sequences, rows;
    size_t step_rows[KERNELS_MOST], offset[KERNELS_MOST];
    mtl__steps time;
    kernels_matrix w, z, bias_n, h0, c0, dy, last_h, last_c;
    int with_h0, with_c0, with_dy, with_last;
    int pairs;                                              /* the reference rounds as products in pairs do */
} kernels_layer;

static void kernels_layer_create(kernels_layer *l, int kind, int before, int reverse, size_t units,
                                 size_t sequences, size_t longest)
{
    size_t t, b, length[KERNELS_MOST], stride = kernels_stride_of(units);
    memset(l, 0, sizeof *l);
    l->kind = kind;
    l->activation = MTL_ACTIVATION_TANH + (int)kernels_below(3);
    l->before = kind == MTL_CELL_GRU && before;
    l->reverse = reverse;
    l->units = units;
    l->cell = mtl__cell_kind_find(kind, before ? MTL_RESET_BEFORE : MTL_RESET_AFTER);
    l->gates = kind == MTL_CELL_LSTM ? 4 : kind == MTL_CELL_GRU ? 3 : 1;
    l->slots = kind == MTL_CELL_GRU && !l->before ? 4 : l->gates;
    l->sequences = sequences;
    for (b = 0; b < sequences; b++) length[b] = 1 + kernels_below(longest);
    for (t = 0; t < longest; t++) {
        l->offset[t] = l->rows;
        for (b = 0; b < sequences; b++) l->step_rows[t] += length[b] > t;
        if (l->step_rows[t]) l->steps = t + 1;
        l->rows += l->step_rows[t];
    }
    l->time.steps = l->steps;
    l->time.rows = l->step_rows;
    l->time.offset = l->offset;
    l->w = kernels_random(l->gates * units, units, units, 1.5 / sqrt((double)units));
    l->z = kernels_gates(l->rows, units, l->gates, 1.5);
    l->bias_n = kernels_gates(1, units, 1, 1);
    for (t = 0; t < l->bias_n.width; t++)
        if (kernels_is_nan(l->bias_n.data[t])) l->bias_n.data[t] = 0;
    l->h0 = kernels_random(sequences, units, stride, 1);
    l->c0 = kernels_random(sequences, units, stride, 1);
    l->dy = kernels_random(l->rows, units, stride, 1);
    l->last_h = kernels_random(sequences, units, kernels_blocks(units) * 16, 1);
    l->last_c = kernels_random(sequences, units, kernels_blocks(units) * 16, 1);
    l->with_h0 = (int)kernels_below(2);
    l->with_c0 = kind == MTL_CELL_LSTM && kernels_below(2);
    l->with_dy = kernels_below(6) > 0;
    l->with_last = (int)kernels_below(2) || !l->with_dy;
}
static void kernels_layer_destroy(kernels_layer *l)
{
    kernels_destroy(&l->w);
    kernels_destroy(&l->z);
    kernels_destroy(&l->bias_n);
    kernels_destroy(&l->h0);
    kernels_destroy(&l->c0);
    kernels_destroy(&l->dy);
    kernels_destroy(&l->last_h);
    kernels_destroy(&l->last_c);
}

/* What cells in pairs may be off: where a state falls on the other side of a rounding, 2^-9 of it, times
   weights of 1.5/sqrt(H), over some steps. A term left out of a sum, or a wrong one, is tenths. */
#define KERNELS_BF16 0.01

/* What the reference computes, and where a finite difference pushes it. */
enum { KERNELS_PUSH_NONE, KERNELS_PUSH_GATE, KERNELS_PUSH_HIDDEN_N, KERNELS_PUSH_H0, KERNELS_PUSH_C0 };
typedef struct kernels_push {
    int where;
    size_t row, gate, unit;                                 /* row: of a sequence for H0, C0 */
    double by;
} kernels_push;

static double kernels_pushed(const kernels_push *push, int where, size_t row, size_t gate, size_t unit)
{
    return push->where == where && push->row == row && push->gate == gate && push->unit == unit
        ? push->by : 0;
}
static double kernels_sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* Sequence b over its steps: hidden states to y [rows][units] at its packed rows; adds its share of the loss
   sum dy y + sum last_h h_last + sum last_c c_last. */
static double kernels_reference_sequence(const kernels_layer *l, size_t b, const kernels_push *push,
                                         double *y)
{
    const size_t H = l->units;
    double *h = (double *)calloc(8 * H, sizeof *h), *c = h + H, *next = h + 2 * H, *m = h + 3 * H,
        *pre = h + 4 * H, loss = 0;
    size_t length = 0, i, u, g, j;
    while (length < l->steps && l->step_rows[length] > b) length++;
    for (u = 0; u < H; u++) {
        h[u] = (l->with_h0 ? (double)l->h0.data[b * l->h0.stride + u] : 0)
            + kernels_pushed(push, KERNELS_PUSH_H0, b, 0, u);
        c[u] = (l->with_c0 ? (double)l->c0.data[b * l->c0.stride + u] : 0)
            + kernels_pushed(push, KERNELS_PUSH_C0, b, 0, u);
    }
    for (i = 0; i < length; i++) {
        const size_t t = l->reverse ? length - 1 - i : i, row = l->offset[t] + b;
#define KERNELS_Z(g, u) ((double)l->z.data[kernels_at(l->rows, l->gates, row, g, u)] + kernels_pushed(push, \
    KERNELS_PUSH_GATE, row, g, u))
        for (g = 0; g < l->gates; g++)
            for (u = 0; u < H; u++) {
                double sum = 0;
                for (j = 0; j < H; j++) sum += kernels_operand(l->pairs,
                                                               (double)l->w.data[(g * H + u) * H + j])
                                                                   * kernels_operand(l->pairs, h[j]);
                pre[g * H + u] = sum;
            }
        if (l->before)                                      /* the product with W_n comes after the reset */
            for (u = 0; u < H; u++) m[u] = kernels_sigmoid(KERNELS_Z(0, u) + pre[u]) * h[u];
        for (u = 0; u < H; u++) {
            if (l->kind == MTL_CELL_LSTM) {
                const double in = kernels_sigmoid(KERNELS_Z(0, u) + pre[u]),
                    forget = kernels_sigmoid(KERNELS_Z(1, u) + pre[H + u]);
                const double cell = tanh(KERNELS_Z(2, u) + pre[2 * H + u]),
                    out = kernels_sigmoid(KERNELS_Z(3, u) + pre[3 * H + u]);
                c[u] = forget * c[u] + in * cell;
                next[u] = out * tanh(c[u]);
            } else if (l->kind == MTL_CELL_GRU) {
                const double r = kernels_sigmoid(KERNELS_Z(0, u) + pre[u]),
                    z = kernels_sigmoid(KERNELS_Z(1, u) + pre[H + u]);
                double n = 0;
                if (l->before) {
                    for (j = 0; j < H; j++) n += kernels_operand(l->pairs,
                                                                 (double)l->w.data[(2 * H + u) * H + j])
                                                                     * kernels_operand(l->pairs, m[j]);
                    n = tanh(KERNELS_Z(2, u) + n);
                } else {
                    n = pre[2 * H + u] + (double)l->bias_n.data[u / 16 * 16 + u % 16]
                        + kernels_pushed(push, KERNELS_PUSH_HIDDEN_N, row, 0, u);
                    n = tanh(KERNELS_Z(2, u) + r * n);
                }
                next[u] = (1 - z) * n + z * h[u];
            } else next[u] = kernels_exact(l->activation, KERNELS_Z(0, u) + pre[u]);
        }
        for (u = 0; u < H; u++) {
            h[u] = next[u];
            if (y) y[row * H + u] = h[u];
            if (l->with_dy) loss += (double)l->dy.data[row * l->dy.stride + u] * h[u];
        }
#undef KERNELS_Z
    }
    for (u = 0; u < H && l->with_last; u++)
        loss += (double)l->last_h.data[b * l->last_h.stride + u] * h[u]
            + (l->kind == MTL_CELL_LSTM ? (double)l->last_c.data[b * l->last_c.stride + u] * c[u] : 0);
    free(h);
    return loss;
}

/* ---- cells: the kernels' run of it --------------------------------------------------------------------- */

typedef struct kernels_run {
    const mtl__kernels *k;
    mtl__cell_pass pass;
    kernels_matrix z, y, c, extra, scratch, dz, dh, dc, rounded;
    mtl_real *packed, *packed_n, *packed_t, *packed_n_t;
} kernels_run;

static void kernels_run_create(kernels_run *r, const mtl__kernels *k, const kernels_layer *l, int keep)
{
    const size_t padded = kernels_blocks(l->units) * 16, H = l->units, first_gates = l->before ? 2 : l->gates;
    const size_t states = keep ? l->rows : l->sequences;
    mtl__cell_pass *p = &r->pass;
    memset(r, 0, sizeof *r);
    r->k = k;
    r->z = kernels_create(1, l->z.width, l->z.width);
    memcpy(r->z.data, l->z.data, l->z.width * sizeof(mtl_real));
    r->y = kernels_create(l->rows, H, H + kernels_below(2) * 19);
    r->c = kernels_create(states, padded, padded);
    r->extra = kernels_create(l->rows, padded, padded);
    r->scratch = kernels_create(l->sequences, padded, padded);
    r->rounded = kernels_create(l->sequences, padded / 2 * l->gates, padded / 2 * l->gates);
    r->packed = kernels_packed(k, l->pairs, first_gates, H, H, l->w.data);
    r->packed_t = kernels_packed_back(k, l->pairs, first_gates, H, H, l->w.data, NULL);
    if (l->before) {
        r->packed_n = kernels_packed(k, l->pairs, 1, H, H, l->w.data + 2 * H * H);
        r->packed_n_t = kernels_packed_back(k, l->pairs, 1, H, H, l->w.data + 2 * H * H, NULL);
    }
    p->pairs = l->pairs;
    p->rounded = r->rounded.data;
    p->rounded_row = r->rounded.stride;
    p->kind = l->cell;
    p->activation = l->activation;
    p->reverse = l->reverse;
    p->keep = keep;
    p->units = H;
    p->time = &l->time;
    p->z = r->z.data;
    p->z_block = l->rows * l->gates * 16;
    p->packed = r->packed;
    p->packed_n = r->packed_n;
    p->bias_n = l->bias_n.data;
    p->y = r->y.data;
    p->y_stride = r->y.stride;
    p->c = l->kind == MTL_CELL_LSTM ? r->c.data : NULL;
    p->c_stride = padded;
    p->extra = keep && l->kind != MTL_CELL_RNN ? r->extra.data : NULL;
    p->scratch = l->before ? r->scratch.data : NULL;
    p->h0 = l->with_h0 ? l->h0.data : NULL;
    p->h0_stride = l->h0.stride;
    p->c0 = l->with_c0 ? l->c0.data : NULL;
    p->c0_stride = l->c0.stride;
}
static void kernels_run_destroy(kernels_run *r)
{
    free(r->packed);
    free(r->packed_n);
    free(r->packed_t);
    free(r->packed_n_t);
    kernels_destroy(&r->z);
    kernels_destroy(&r->y);
    kernels_destroy(&r->c);
    kernels_destroy(&r->extra);
    kernels_destroy(&r->scratch);
    kernels_destroy(&r->rounded);
    if (r->dz.memory) kernels_destroy(&r->dz);
    if (r->dh.memory) kernels_destroy(&r->dh);
    if (r->dc.memory) kernels_destroy(&r->dc);
}
static void kernels_run_forward(kernels_run *r, const kernels_layer *l, int split)
{
    size_t i;
    if (!split) r->k->cell_forward(&r->pass, 0, l->sequences);
    else for (i = 0; i < l->sequences; i += MTL__SEQUENCES) r->k->cell_forward(&r->pass, i,
                                                                               kernels_least(l->sequences - i,
                                                                                             MTL__SEQUENCES));
    kernels_assert_inside(&r->y);
    kernels_assert_inside(&r->z);
    kernels_assert_inside(&r->c);
    kernels_assert_inside(&r->extra);
    kernels_assert_inside(&r->scratch);
    kernels_assert_inside(&r->rounded);
}
/* Carries start as the gradients of the last states, or zeros; their padding stays NaN. */
static void kernels_run_backward(kernels_run *r, const kernels_layer *l, int split, int want_dh0)
{
    const size_t padded = kernels_blocks(l->units) * 16;
    mtl__cell_pass *p = &r->pass;
    size_t i, b, u;
    if (!r->dz.memory) {
        r->dz = kernels_create(1, l->rows * padded * l->slots, l->rows * padded * l->slots);
        r->dh = kernels_create(l->sequences, padded, padded);
        r->dc = kernels_create(l->sequences, padded, padded);
    }
    kernels_restore(&r->dz);
    kernels_restore(&r->dh);
    kernels_restore(&r->dc);
    for (b = 0; b < l->sequences; b++)
        for (u = 0; u < l->units; u++) {
            r->dh.data[b * padded + u] = l->with_last ? l->last_h.data[b * padded + u] : 0;
            r->dc.data[b * padded + u] = l->with_last ? l->last_c.data[b * padded + u] : 0;
        }
    p->dy = l->with_dy ? l->dy.data : NULL;
    p->dy_stride = l->dy.stride;
    p->dz = r->dz.data;
    p->dz_block = l->rows * l->slots * 16;
    p->packed_t = r->packed_t;
    p->packed_n_t = r->packed_n_t;
    p->dh = r->dh.data;
    p->dh_stride = padded;
    p->dc = l->kind == MTL_CELL_LSTM ? r->dc.data : NULL;
    p->want_dh0 = want_dh0;
    if (!split) r->k->cell_backward(p, 0, l->sequences);
    else for (i = 0; i < l->sequences; i += MTL__SEQUENCES) r->k->cell_backward(p, i,
                                                                                kernels_least(l->sequences
                                                                                              - i,
                                                            MTL__SEQUENCES));
    kernels_assert_inside(&r->dz);
    kernels_assert_inside(&r->dh);
    kernels_assert_inside(&r->dc);
    kernels_assert_inside(&r->scratch);
    kernels_assert_inside(&r->rounded);
    for (i = 0; i < r->dz.width; i++)
        if (i / (l->rows * l->slots * 16) * 16 + i % 16 >= l->units) assert_true(r->dz.data[i] == 0);
}

/* A random layer. The first four have weights that are read for several groups of sequences at once, and more
   than one such group; then units, sequences and steps take all small sizes, sometimes with more sequences
   than one group. */
static void kernels_layer_random(kernels_layer *l, int round, size_t longest)
{
    static const int kinds[4] = { MTL_CELL_LSTM, MTL_CELL_GRU, MTL_CELL_GRU, MTL_CELL_RNN };
    static const size_t large[4] = { 131, 150, 150, 260 };
    const size_t units = round < 4 ? large[round] : round < 136 ? (size_t)(round / 4) : 1 + kernels_below(90);
    const size_t sequences = round < 4 ? 1 + MTL__CELL_TOGETHER + kernels_below(30)
        : 1 + kernels_below(round % 3 ? 5 : 37);
    const int before = round % 4 == 2;
    kernels_layer_create(l, kinds[round % 4], before, (int)kernels_below(2), units, sequences,
                         1 + kernels_below(round < 4 ? 3 : longest));
    if (round < 4) assert_true(l->gates * units * units > MTL__CELL_GROUPED);
}

static void test_kernels_cell_forward(void **state)
{
    const mtl__kernels *k;
    int isa, round;
    (void)state;
    for (round = 0; round < kernels_cases(164); round++) {
        const kernels_push none = { KERNELS_PUSH_NONE, 0, 0, 0, 0 };
        kernels_layer l;
        double *y;
        size_t b, row, u;
        int keep, pairs;
        kernels_layer_random(&l, round, 9);
        y = (double *)malloc(l.rows * l.units * sizeof *y);
        KERNELS_EACH_PRECISION(k) {
            const double tolerance = pairs ? KERNELS_BF16 : 50 * KERNELS_EPSILON;
            l.pairs = pairs;
            for (b = 0; b < l.sequences; b++) kernels_reference_sequence(&l, b, &none, y);
            for (keep = 0; keep < 2; keep++) {
                kernels_run whole, split;
                kernels_run_create(&whole, k, &l, keep);
                kernels_run_create(&split, k, &l, keep);
                kernels_run_forward(&whole, &l, 0);
                kernels_run_forward(&split, &l, 1);
                for (row = 0; row < l.rows; row++) {
                    assert_memory_equal(whole.y.data + row * whole.y.stride,
                                        split.y.data + row * split.y.stride, l.units * sizeof(mtl_real));
                    for (u = 0; u < l.units; u++)
                        kernels_assert_near((double)whole.y.data[row * whole.y.stride + u],
                                            y[row * l.units + u],
                                                tolerance * (1 + fabs(y[row * l.units + u])), k->name);
                }
                kernels_assert_unchanged(&l.h0);
                kernels_assert_unchanged(&l.c0);
                kernels_run_destroy(&whole);
                kernels_run_destroy(&split);
            }
        }
        free(y);
        kernels_layer_destroy(&l);
    }
}

/* d loss / d (what push names), by central differences of the reference. */
static double kernels_slope(const kernels_layer *l, size_t sequence, kernels_push push)
{
    const double step = 1e-5;
    kernels_layer smooth = *l;
    double up, down;
    smooth.pairs = 0;                                       /* rounding has no slope */
    push.by = step;
    up = kernels_reference_sequence(&smooth, sequence, &push, NULL);
    push.by = -step;
    down = kernels_reference_sequence(&smooth, sequence, &push, NULL);
    return (up - down) / (2 * step);
}

/* One random element of each gradient against its difference quotient. */
static void kernels_check_gradient(const kernels_layer *l, const kernels_run *r)
{
    static const int gru_gate[4] = { 2, 0, 1, -1 };         /* of slots n r z and n*r */
    const double tolerance = r->pass.pairs ? 2 * KERNELS_BF16 : KERNELS_IS_DOUBLE ? 1e-7 : 2e-4;
    const size_t b = kernels_below(l->sequences), u = kernels_below(l->units);
    size_t length = 0, slot;
    kernels_push push;
    double slope;
    while (length < l->steps && l->step_rows[length] > b) length++;
    push.unit = u;
    push.gate = 0;
    push.row = l->offset[kernels_below(length)] + b;
    for (slot = 0; slot < l->slots; slot++) {
        const int gate = l->kind == MTL_CELL_GRU ? gru_gate[slot] : (int)slot;
        push.where = gate < 0 ? KERNELS_PUSH_HIDDEN_N : KERNELS_PUSH_GATE;
        push.gate = gate < 0 ? 0 : (size_t)gate;
        slope = kernels_slope(l, b, push);
        kernels_assert_near((double)r->dz.data[kernels_at(l->rows, l->slots, push.row, slot, u)], slope,
                            tolerance * (1 + fabs(slope)), r->k->name);
    }
    push.gate = 0;
    push.row = b;
    push.where = KERNELS_PUSH_H0;
    slope = kernels_slope(l, b, push);
    kernels_assert_near((double)r->dh.data[b * r->dh.stride + u], slope, tolerance * (1 + fabs(slope)),
                        "gradient of h0");
    if (l->kind != MTL_CELL_LSTM) return;
    push.where = KERNELS_PUSH_C0;
    slope = kernels_slope(l, b, push);
    kernels_assert_near((double)r->dc.data[b * r->dc.stride + u], slope, tolerance * (1 + fabs(slope)),
                        "gradient of c0");
}

/* ReLU has a kink that a difference may straddle: tanh takes its place here, its slope is tested above. */
static void test_kernels_cell_backward(void **state)
{
    const mtl__kernels *k;
    int isa, round, check, pairs;
    (void)state;
    for (round = 0; round < kernels_cases(164); round++) {
        kernels_layer l;
        kernels_layer_random(&l, round, 7);
        if (l.activation == MTL_ACTIVATION_RELU) l.activation = MTL_ACTIVATION_TANH;
        KERNELS_EACH_PRECISION(k) {
            kernels_run r;
            mtl_real *dz, *dh;
            l.pairs = pairs;
            kernels_run_create(&r, k, &l, 1);
            kernels_run_forward(&r, &l, 0);
            kernels_remember(&r.z);
            kernels_remember(&r.y);
            kernels_remember(&r.c);
            kernels_remember(&r.extra);
            kernels_run_backward(&r, &l, 0, 1);
            for (check = 0; check < 12; check++) kernels_check_gradient(&l, &r);
            kernels_assert_unchanged(&r.z);                 /* replay: the same again, from what forward
                                                               left */
            kernels_assert_unchanged(&r.y);
            kernels_assert_unchanged(&r.c);
            kernels_assert_unchanged(&r.extra);
            dz = (mtl_real *)malloc(r.dz.width * sizeof *dz);
            dh = (mtl_real *)malloc(r.dh.total * sizeof *dh);
            memcpy(dz, r.dz.data, r.dz.width * sizeof *dz);
            memcpy(dh, r.dh.memory, r.dh.total * sizeof *dh);
            kernels_run_backward(&r, &l, 1, 1);
            assert_memory_equal(dz, r.dz.data, r.dz.width * sizeof *dz);
            for (check = 0; check < (int)r.dh.rows; check++)
                assert_memory_equal(dh + (r.dh.data - r.dh.memory) + check * (int)r.dh.stride,
                                    r.dh.data + check * (int)r.dh.stride, l.units * sizeof *dh);
            kernels_run_backward(&r, &l, 1, 0);             /* leaving out the gradient of h0 changes no
                                                               other */
            assert_memory_equal(dz, r.dz.data, r.dz.width * sizeof *dz);
            free(dz);
            free(dh);
            kernels_run_destroy(&r);
        }
        kernels_layer_destroy(&l);
    }
}

/* NaN in one sequence stays in it, and does not vanish. */
static void test_kernels_cell_nan(void **state)
{
    static const int kinds[3] = { MTL_CELL_LSTM, MTL_CELL_GRU, MTL_CELL_RNN };
    const mtl__kernels *k;
    int isa, kind;
    (void)state;
    for (kind = 0; kind < 3; kind++)
        KERNELS_EACH(k) {
            kernels_layer l;
            kernels_run r;
            size_t row;
            kernels_layer_create(&l, kinds[kind], 0, 0, 21, 3, 1);
            memset(l.z.data + kernels_at(l.rows, l.gates, 1, 0, 4), 0xff, sizeof(mtl_real));
            kernels_run_create(&r, k, &l, 1);
            kernels_run_forward(&r, &l, 0);
            for (row = 0; row < 3; row++) assert_int_equal(kernels_is_nan(r.y.data[row * r.y.stride + 4]),
                                                           row == 1);
            kernels_run_destroy(&r);
            kernels_layer_destroy(&l);
        }
}

/* ---- optimisers ---------------------------------------------------------------------------------------- */

/* torch.optim's rules, single tensor, in double. */
static void kernels_torch_step(const mtl__update *u, int t, double *p, double g, double *m, double *v)
{
    g *= u->scale;
    if (u->limit > 0) g = g > u->limit ? u->limit : g < -u->limit ? -u->limit : g;
    g += u->l2 * *p + u->l1 * ((*p > 0) - (*p < 0));
    *p *= 1 - u->lr * u->decay;
    if (u->rule == MTL_OPTIMIZER_SGD) {
        if (u->momentum != 0) {
            *m = t == 1 ? g : u->momentum * *m + g;
            g = u->nesterov ? g + u->momentum * *m : *m;
        }
        *p -= u->lr * g;
    } else if (u->rule == MTL_OPTIMIZER_RMSPROP) {
        *v = u->beta2 * *v + (1 - u->beta2) * g * g;
        g /= sqrt(*v) + u->epsilon;
        if (u->momentum != 0) g = *m = u->momentum * *m + g;
        *p -= u->lr * g;
    } else {
        *m += (1 - u->beta1) * (g - *m);
        *v = u->beta2 * *v + (1 - u->beta2) * g * g;
        *p -= u->lr / (1 - pow(u->beta1, t)) * *m / (sqrt(*v) / sqrt(1 - pow(u->beta2, t)) + u->epsilon);
    }
}

static void test_kernels_update(void **state)
{
    const mtl__kernels *k;
    int isa, round, t;
    (void)state;
    for (round = 0; round < kernels_cases(48); round++) {
        const size_t n = 1 + kernels_below(40);
        mtl__update u;
        memset(&u, 0, sizeof u);
        u.rule = MTL_OPTIMIZER_SGD + round % 4;
        u.lr = 0.01;
        u.momentum = round % 3 ? 0.9 : 0;
        u.nesterov = round % 8 >= 4;
        u.beta1 = 0.9;
        u.beta2 = u.rule == MTL_OPTIMIZER_RMSPROP ? 0.99 : 0.999;
        u.epsilon = 1e-8;
        u.scale = round % 5 ? 1 : 0.7;
        u.limit = round % 7 ? 0 : 0.4;
        u.l1 = round % 6 ? 0 : 0.01;
        u.l2 = round % 4 == 1 ? 0.02 : 0;
        u.decay = u.rule == MTL_OPTIMIZER_ADAMW ? 0.05 : 0;
        KERNELS_EACH(k) {
            kernels_matrix p = kernels_random(1, n, n, 1), m = kernels_create(1, n, n),
                v = kernels_create(1, n, n), g;
            double *exact = (double *)calloc(3 * n, sizeof *exact);
            const int need_m = u.rule >= MTL_OPTIMIZER_ADAM || u.momentum != 0,
                need_v = u.rule != MTL_OPTIMIZER_SGD;
            size_t i;
            for (i = 0; i < n; i++) {
                exact[i] = (double)p.data[i];
                m.data[i] = v.data[i] = 0;
            }
            for (t = 1; t <= 50; t++) {
                g = kernels_random(1, n, n, 1);
                u.first = t == 1;
                u.correction1 = 1 - pow(u.beta1, t);
                u.correction2 = 1 - pow(u.beta2, t);
                for (i = 0; i < n; i++) kernels_torch_step(&u, t, &exact[i], (double)g.data[i], &exact[n + i],
                                                           &exact[2 * n + i]);
                k->update(&u, n, p.data, g.data, need_m ? m.data : NULL, need_v ? v.data : NULL);
                kernels_assert_unchanged(&g);
                kernels_destroy(&g);
            }
            kernels_assert_inside(&p);
            kernels_assert_inside(&m);
            kernels_assert_inside(&v);
            for (i = 0; i < n; i++) kernels_assert_near((double)p.data[i], exact[i],
                                                        (KERNELS_IS_DOUBLE
                                                         ? 1e-13 : 1e-5) * (1 + fabs(exact[i])), k->name);
            free(exact);
            kernels_destroy(&p);
            kernels_destroy(&m);
            kernels_destroy(&v);
        }
    }
}

/* A gradient that is not there counts as zeros, to the bit, and is not read. */
static void test_kernels_update_without_gradient(void **state)
{
    const mtl__kernels *k;
    int isa, round;
    (void)state;
    for (round = 0; round < kernels_cases(48); round++) {
        const size_t n = 1 + kernels_below(40);
        mtl__update u;
        memset(&u, 0, sizeof u);
        u.rule = MTL_OPTIMIZER_SGD + round % 4;
        u.lr = 0.01;
        u.momentum = round % 3 ? 0.9 : 0;
        u.nesterov = round % 8 >= 4;
        u.beta1 = 0.9;
        u.beta2 = 0.999;
        u.epsilon = 1e-8;
        u.correction1 = u.correction2 = u.scale = 0.5;
        u.limit = round % 7 ? 0 : 0.4;
        u.l1 = round % 6 ? 0 : 0.01;
        u.l2 = round % 4 == 1 ? 0.02 : 0;
        KERNELS_EACH(k) {
            kernels_matrix p = kernels_random(1, n, n, 1), m = kernels_random(1, n, n, 1),
                v = kernels_random(1, n, n, 1);
            kernels_matrix zeros = kernels_create(1, n, n);
            mtl_real *want = (mtl_real *)calloc(3 * n, sizeof *want);
            size_t i;
            for (i = 0; i < n; i++) {
                v.data[i] *= v.data[i];
                zeros.data[i] = 0;
                want[i] = p.data[i];
                want[n + i] = m.data[i];
                want[2 * n + i] = v.data[i];
            }
            k->update(&u, n, want, zeros.data, want + n, want + 2 * n);
            k->update(&u, n, p.data, NULL, m.data, v.data);
            assert_memory_equal(p.data, want, n * sizeof *want);
            assert_memory_equal(m.data, want + n, n * sizeof *want);
            assert_memory_equal(v.data, want + 2 * n, n * sizeof *want);
            kernels_assert_inside(&p);
            kernels_assert_inside(&m);
            kernels_assert_inside(&v);
            free(want);
            kernels_destroy(&p);
            kernels_destroy(&m);
            kernels_destroy(&v);
            kernels_destroy(&zeros);
        }
    }
}

#define TEST_KERNELS \
    cmocka_unit_test(test_kernels_choice), \
    cmocka_unit_test(test_kernels_activations), \
    cmocka_unit_test(test_kernels_special_values), \
    cmocka_unit_test(test_kernels_gelu_and_silu), cmocka_unit_test(test_kernels_activation_slopes), \
    cmocka_unit_test(test_kernels_arrays), cmocka_unit_test(test_kernels_layer_norm), \
    cmocka_unit_test(test_kernels_softmax), \
    cmocka_unit_test(test_kernels_cross_entropy), \
    cmocka_unit_test(test_kernels_dropout), \
    cmocka_unit_test(test_kernels_packing), \
    cmocka_unit_test(test_kernels_packing_pairs), \
    cmocka_unit_test(test_kernels_product_forward), \
    cmocka_unit_test(test_kernels_product_backward), \
    cmocka_unit_test(test_kernels_product_weights), \
    cmocka_unit_test(test_kernels_cell_forward), \
    cmocka_unit_test(test_kernels_cell_backward), \
    cmocka_unit_test(test_kernels_cell_nan), \
    cmocka_unit_test(test_kernels_update), \
    cmocka_unit_test(test_kernels_update_without_gradient)
