/* tests/bench/split.h    where the time of a training step goes: a kernel table whose entries measure
                          themselves

   Each kernel call costs two readings of the clock more; a step makes some tens of calls. What is not inside
   a kernel (tape, packing of the batch, sums over labels, the loop around the kernels) is the part "rest".
   One thread only. */

/* The parts: X(name, word in the table, floating-point operations in units of N H of one direction, G
   gates) */
#define BENCH_SPLIT_LIST(X) \
    X(INPUT,    "forward_input",      2.0 * g * h) \
    X(FORWARD,  "forward_recurrent",  2.0 * g * h) \
    X(HEAD,     "head_and_loss",      6.0 * BENCH_CLASSES) \
    X(BACKWARD, "backward_recurrent", 2.0 * g * h) \
    X(DX,       "dx",                 2.0 * g * h) \
    X(DW,       "dw",                 4.0 * g * h) \
    X(UPDATE,   "adam",               0.0) \
    X(PACK,     "packing",            0.0) \
    X(REST,     "rest",               0.0)
#define BENCH_SPLIT_ENUM(name, word, work) BENCH_SPLIT_##name,
enum { BENCH_SPLIT_LIST(BENCH_SPLIT_ENUM) BENCH_SPLIT_COUNT };

/* The step being measured. Kernels have no context of their own, so this stands alone in the program. */
static struct {
    const mtl__kernels *kernels;            /* those that do the work */
    double seconds[BENCH_SPLIT_COUNT];
} bench_split;

/* A dense layer's products are those with exact columns: only the head has any. */
#define BENCH_SPLIT_CALL(part, call) \
    const double start = mtl__seconds(); \
    bench_split.kernels->call; \
    bench_split.seconds[part] += mtl__seconds() - start

static void split_pack_forward(size_t gates, size_t units, size_t inputs, const mtl_real *w, mtl_real *packed)
{
    BENCH_SPLIT_CALL(BENCH_SPLIT_PACK, pack_forward(gates, units, inputs, w, packed));
}
static void split_pack_backward(size_t gates, size_t units, size_t inputs, const mtl_real *w,
                                const int *order, mtl_real *packed)
{
    BENCH_SPLIT_CALL(BENCH_SPLIT_PACK, pack_backward(gates, units, inputs, w, order, packed));
}
static void split_product_forward(const mtl__product_forward *p, size_t begin, size_t end)
{
    BENCH_SPLIT_CALL(p->exact ? BENCH_SPLIT_HEAD : BENCH_SPLIT_INPUT, product_forward(p, begin, end));
}
static void split_product_backward(const mtl__product_backward *p, size_t begin, size_t end)
{
    BENCH_SPLIT_CALL(p->exact ? BENCH_SPLIT_HEAD : BENCH_SPLIT_DX, product_backward(p, begin, end));
}
static void split_product_weights(const mtl__product_weights *p, size_t begin, size_t end, mtl_real *scratch)
{
    BENCH_SPLIT_CALL(p->exact ? BENCH_SPLIT_HEAD : BENCH_SPLIT_DW, product_weights(p, begin, end, scratch));
}
static void split_column_sums(const mtl__product_weights *p, mtl_real *db)
{
    BENCH_SPLIT_CALL(p->exact ? BENCH_SPLIT_HEAD : BENCH_SPLIT_DW, column_sums(p, db));
}
static void split_cell_forward(const mtl__cell_pass *p, size_t first, size_t count)
{
    BENCH_SPLIT_CALL(BENCH_SPLIT_FORWARD, cell_forward(p, first, count));
}
static void split_cell_backward(const mtl__cell_pass *p, size_t first, size_t count)
{
    BENCH_SPLIT_CALL(BENCH_SPLIT_BACKWARD, cell_backward(p, first, count));
}
static void split_cross_entropy_forward(const mtl__cross_entropy *p, size_t begin, size_t end)
{
    BENCH_SPLIT_CALL(BENCH_SPLIT_HEAD, cross_entropy_forward(p, begin, end));
}
static void split_cross_entropy_backward(const mtl__cross_entropy *p, size_t begin, size_t end)
{
    BENCH_SPLIT_CALL(BENCH_SPLIT_HEAD, cross_entropy_backward(p, begin, end));
}
static void split_update(const mtl__update *u, size_t n, mtl_real *p, const mtl_real *g, mtl_real *m,
                         mtl_real *v)
{
    BENCH_SPLIT_CALL(BENCH_SPLIT_UPDATE, update(u, n, p, g, m, v));
}

/* The table: the header's own, with the entries above in their places. */
static mtl__kernels bench_split_table(const mtl__kernels *kernels)
{
    mtl__kernels table = *kernels;
    table.pack_forward = split_pack_forward;
    table.pack_backward = split_pack_backward;
    table.product_forward = split_product_forward;
    table.product_backward = split_product_backward;
    table.product_weights = split_product_weights;
    table.column_sums = split_column_sums;
    table.cell_forward = split_cell_forward;
    table.cell_backward = split_cell_backward;
    table.cross_entropy_forward = split_cross_entropy_forward;
    table.cross_entropy_backward = split_cross_entropy_backward;
    table.update = split_update;
    return table;
}

/* Runs steps for 0.6 seconds (or `repeats`) and keeps each part's least time, in seconds. */
static void bench_split_measure(bench_net *net, size_t repeats, double *least)
{
    const double began = mtl__seconds();
    size_t done, part;
    for (part = 0; part < BENCH_SPLIT_COUNT; part++) least[part] = 1e300;
    for (done = 0; repeats ? done < repeats + 3 : done < 8 || mtl__seconds() - began < 0.6; done++) {
        double start = mtl__seconds(), whole, parts = 0;
        memset(bench_split.seconds, 0, sizeof bench_split.seconds);
        bench_train(net);
        whole = mtl__seconds() - start;
        for (part = 0; part < BENCH_SPLIT_REST; part++) parts += bench_split.seconds[part];
        bench_split.seconds[BENCH_SPLIT_REST] = whole - parts;
        if (done < 3) continue;             /* warming up */
        for (part = 0; part < BENCH_SPLIT_COUNT; part++)
            if (bench_split.seconds[part] < least[part]) least[part] = bench_split.seconds[part];
    }
}

static void bench_split_header(void)
{
    printf("cell\tdir\tisa\tH\tB\tT\tpart\tus_min\tof_step\tgflops\tshare\n");
}

/* A row a part: microseconds, how much of all parts' sum, and its share of the peak where it is a product. */
static void bench_split_print(const bench_point *p, const double *least, double peak)
{
    static const char *const words[] = {
#define BENCH_SPLIT_WORD(name, word, work) word,
        BENCH_SPLIT_LIST(BENCH_SPLIT_WORD)
    };
    const double g = (double)bench_gates(p->cell), h = (double)p->hidden;
    const double units = (double)(p->batch * p->steps * p->directions) * h;
    const double work[] = {
#define BENCH_SPLIT_WORK(name, word, work) work,
        BENCH_SPLIT_LIST(BENCH_SPLIT_WORK)
    };
    double step = 0;
    size_t part;
    for (part = 0; part < BENCH_SPLIT_COUNT; part++) step += least[part];
    for (part = 0; part < BENCH_SPLIT_COUNT; part++) {
        const double gflops = work[part] * units * 1e-9 / least[part];
        printf("%s\t%s\t%s\t%d\t%d\t%d\t%s\t%.3f\t%.4f\t", bench_cell_name(p->cell), p->directions == 2
               ? "bi" : "uni", mtl__isa_name(mtl__kernels_choose(p->isa)->isa), (int)p->hidden, (int)p->batch,
                   (int)p->steps, words[part],
               least[part] * 1e6, least[part] / step);
        if (gflops > 0) printf("%.2f\t%.4f\n", gflops, gflops / peak);
        else printf("-\t-\n");
    }
    fflush(stdout);
}

/* One point of `bench train --parts`. */
static void bench_split_run(const bench_point *point, size_t repeats)
{
    bench_net net;
    mtl__kernels table;
    double least[BENCH_SPLIT_COUNT], before, after;
    bench_net_init(&net, point, 1);
    bench_split.kernels = mtl__kernels_choose(point->isa);
    table = bench_split_table(bench_split.kernels);
    net.kernels = &table;
    before = bench_limit(&net, BENCH_TRAIN);
    bench_split_measure(&net, repeats, least);
    after = bench_limit(&net, BENCH_TRAIN);
    bench_split_print(point, least, before > after ? before : after);
    bench_net_destroy(&net);
}
