/* tests/bench/guard.h    `bench guard`: every vector instruction set against the scalar stamp, in one process

   A kernel that has lost half its speed (a spilled accumulator, a vector taken apart) is found without
   knowing the machine: scalar code and vector code run on the same one, in turns, and the ratio of their
   least times is compared with a bound. The bounds are about half of what a healthy build shows where it
   shows least (gcc -O2 on a Zen 3: layers 2.6 to 4 for sse2, 5.7 to 8 for avx2); avx512 gives no more than
   avx2 on a machine with 256-bit pipes, so it has the same. A check that fails is measured again, up to five
   times: the best counts, so that a busy machine fails nothing. */

enum { BENCH_GUARD_TRIES = 5, BENCH_GUARD_ISAS = MTL_ISA_NEON + 1 };

/* One check: work for an instruction set, and for each one the ratio to scalar that it must reach at
   least. */
typedef struct bench_guard {
    const char *name;
    int cell, train;                        /* cell 0: a kernel by itself */
    size_t hidden;
    bench_work work;                        /* of a kernel by itself; its user is a bench_guard_kernel */
    double bound[BENCH_GUARD_ISAS];         /* by MTL_ISA_*; 0: not checked */
} bench_guard;

typedef struct bench_guard_kernel {
    const mtl__kernels *kernels;
    mtl_real *x[4], *sums;                  /* sums: [2][512] */
    mtl__update update;
} bench_guard_kernel;

enum { BENCH_GUARD_COUNT = 16384 };         /* reals of each array: 64 KB, rows of 512 */

static void bench_guard_adam(void *user)
{
    bench_guard_kernel *g = (bench_guard_kernel *)user;
    g->kernels->update(&g->update, BENCH_GUARD_COUNT, g->x[0], g->x[1], g->x[2], g->x[3]);
}

static void bench_guard_softmax(void *user)
{
    bench_guard_kernel *g = (bench_guard_kernel *)user;
    mtl__softmax s;
    memset(&s, 0, sizeof s);
    s.classes = 500;
    s.rows = BENCH_GUARD_COUNT / 512;
    s.x = g->x[1];
    s.p = g->x[0];
    s.x_stride = s.p_stride = 512;
    g->kernels->softmax(&s, 0, s.rows);
}

/* Forward and backward, with the gradients of gain and bias. */
static void bench_guard_norm(void *user)
{
    bench_guard_kernel *g = (bench_guard_kernel *)user;
    mtl_real saved[2 * BENCH_GUARD_COUNT / 512];
    mtl__layer_norm p;
    memset(&p, 0, sizeof p);
    p.rows = BENCH_GUARD_COUNT / 512;
    p.width = p.x_stride = p.y_stride = p.dy_stride = p.dx_stride = 512;
    p.x = p.gain = p.bias = g->x[1];
    p.dy = g->x[2];
    p.y = p.dx = g->x[0];
    p.saved = saved;
    p.epsilon = (mtl_real)1e-5;
    p.dgain = g->sums;
    p.dbias = g->sums + 512;
    g->kernels->layer_norm(&p, 0, p.rows);
    g->kernels->layer_norm_backward(&p, 0, p.rows);
    g->kernels->layer_norm_weights(&p, 0, p.width);
}

/* What attention's backward pass makes of four steps at a time. */
static void bench_guard_dots(void *user)
{
    bench_guard_kernel *g = (bench_guard_kernel *)user;
    const mtl_real *rows[4];
    double dots[4];
    size_t n, k;
    for (n = 0; n < BENCH_GUARD_COUNT; n += 4 * 512) {
        for (k = 0; k < 4; k++) rows[k] = g->x[1] + n + 512 * k;
        g->kernels->dots(512, g->x[2], rows, dots);
        bench_sink = dots[0];
    }
}

static void bench_guard_tanh(void *user)
{
    bench_guard_kernel *g = (bench_guard_kernel *)user;
    g->kernels->activate(MTL_ACTIVATION_TANH, BENCH_GUARD_COUNT, g->x[1], g->x[0]);
}

static void bench_guard_kernel_init(bench_guard_kernel *g, int isa, mtl_arena *keep)
{
    size_t i;
    memset(g, 0, sizeof *g);
    g->kernels = mtl__kernels_choose(isa);
    for (i = 0; i < 4; i++) g->x[i] = bench_reals(keep, BENCH_GUARD_COUNT, 300 + i);
    g->sums = bench_reals(keep, 2 * 512, 304);
    /* second moments */
    for (i = 0; i < BENCH_GUARD_COUNT; i++) g->x[3][i] = g->x[3][i] * g->x[3][i] + (mtl_real)0.01;
    g->update.rule = MTL_OPTIMIZER_ADAM;
    g->update.lr = 1e-6;
    g->update.beta1 = 0.9;
    g->update.beta2 = 0.999;
    g->update.epsilon = 1e-8;
    g->update.correction1 = g->update.correction2 = 1;
    g->update.scale = 1;
}

/* Least microseconds of a check's work for scalar and for another instruction set, taking turns for 0.15
   seconds. */
static void bench_guard_times(const bench_guard *check, int isa, double us[2])
{
    const int isas[2] = { MTL_ISA_SCALAR, isa };
    bench_guard_kernel kernels[2];
    bench_net nets[2];
    bench_point point;
    mtl_arena keep;
    void *users[2];
    int i;
    mtl_arena_init(&keep, NULL, 0, NULL);
    memset(&point, 0, sizeof point);
    point.cell = check->cell;
    point.hidden = check->hidden;
    point.directions = point.threads = 1;
    point.batch = 16;
    point.steps = 8;
    point.head = 1;
    for (i = 0; i < 2; i++) {
        point.isa = isas[i];
        if (check->cell) bench_net_init(&nets[i], &point, check->train);
        else bench_guard_kernel_init(&kernels[i], isas[i], &keep);
        users[i] = check->cell ? (void *)&nets[i] : (void *)&kernels[i];
    }
    bench_alternate(!check->cell ? check->work : check->train ? bench_train : bench_infer, users, 2, 0.15,
                    us);
    for (i = 0; i < 2 && check->cell; i++) bench_net_destroy(&nets[i]);
    mtl_arena_destroy(&keep);
}

/* Prints the check's row; 0 when the instruction set stays below its bound. */
static int bench_guard_holds(const bench_guard *check, int isa)
{
    double us[2], ratio = 0, best[2] = { 0, 0 };
    int tries, holds;
    for (tries = 0; tries < BENCH_GUARD_TRIES && ratio < check->bound[isa]; tries++) {
        bench_guard_times(check, isa, us);
        if (us[0] / us[1] <= ratio) continue;
        ratio = us[0] / us[1];
        best[0] = us[0];
        best[1] = us[1];
    }
    holds = ratio >= check->bound[isa];
    printf("%s\t%s\t%.2f\t%.2f\t%.2f\t%.2f\t%s\n", check->name, mtl__isa_name(isa), best[0], best[1], ratio,
           check->bound[isa], holds ? "ok" : "SLOW");
    fflush(stdout);
    if (!holds)
        fprintf(stderr, "bench: %s is slow with %s: %.2f times scalar's speed, %.2f are expected at least\n",
                check->name, mtl__isa_name(isa), ratio, check->bound[isa]);
    return holds;
}

/* All checks for all instruction sets of this machine; 1 when one is slow. */
static int bench_guard_command(void)
{
    static const bench_guard checks[] = {       /* bounds:                             auto scalar sse2 avx2
                                                   avx512 neon */
        { "lstm_train_32",  MTL_CELL_LSTM, 1, 32,  NULL,                { 0, 0, 1.5, 3.3, 3.3, 1.5 } },
        { "lstm_train_128", MTL_CELL_LSTM, 1, 128, NULL,                { 0, 0, 1.5, 3.3, 3.3, 1.5 } },
        { "gru_train_32",   MTL_CELL_GRU,  1, 32,  NULL,                { 0, 0, 1.5, 3.3, 3.3, 1.5 } },
        { "gru_train_128",  MTL_CELL_GRU,  1, 128, NULL,                { 0, 0, 1.5, 3.3, 3.3, 1.5 } },
        { "lstm_infer_32",  MTL_CELL_LSTM, 0, 32,  NULL,                { 0, 0, 1.5, 3.3, 3.3, 1.5 } },
        { "lstm_infer_128", MTL_CELL_LSTM, 0, 128, NULL,                { 0, 0, 1.5, 3.3, 3.3, 1.5 } },
        { "gru_infer_32",   MTL_CELL_GRU,  0, 32,  NULL,                { 0, 0, 1.5, 3.3, 3.3, 1.5 } },
        { "gru_infer_128",  MTL_CELL_GRU,  0, 128, NULL,                { 0, 0, 1.5, 3.3, 3.3, 1.5 } },
        { "adam",           0,             0, 0,   bench_guard_adam,    { 0, 0, 2.0, 2.5, 2.5, 1.5 } },
        { "softmax",        0,             0, 0,   bench_guard_softmax, { 0, 0, 2.0, 5.0, 5.0, 1.5 } },
        { "tanh",           0,             0, 0,   bench_guard_tanh,    { 0, 0, 2.0, 4.5, 4.5, 1.5 } },
        { "layer_norm",     0,             0, 0,   bench_guard_norm,    { 0, 0, 1.6, 3.2, 3.2, 1.5 } },
        { "dots",           0,             0, 0,   bench_guard_dots,    { 0, 0, 4.0, 8.0, 8.0, 1.5 } }
    };
    size_t i;
    int isa, slow = 0;
    printf("check\tisa\tus_scalar\tus_isa\tratio\tbound\tresult\n");
    for (i = 0; i < MTL__COUNT(checks); i++)
        for (isa = MTL_ISA_SCALAR + 1; isa < BENCH_GUARD_ISAS; isa++)
            if (mtl__isa_supported(isa)) slow |= !bench_guard_holds(&checks[i], isa);
    return slow;
}
