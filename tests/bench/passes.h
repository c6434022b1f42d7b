/* tests/bench/passes.h    one recurrent layer under a softmax head, run as mtl_train_step and mtl_predict run
                           theirs

   infer   one layer without a tape over T steps of B equal sequences; weights are packed beforehand
   train   packing for backward, forward, 32-class softmax on every step, backward with the gradient of the
           inputs, Adam over all parameters, packing for forward
   stream  one step of one sequence

   Everything goes through the layers and the tape, so their cost is inside. Packing, layers, loss and tape
   are called as >>train calls them; what the trainer adds beside (reading targets, the norm of the gradient)
   is left out, as peers do without it; --norm puts the norm in. The learning rate is 1e-6: however often a
   step is repeated, its numbers stay those of a first one. */

enum { BENCH_CLASSES = 32 };

/* What a point of the grid is. */
typedef struct bench_point {
    int cell, isa, bf16;
    size_t directions, hidden, batch, steps, threads;
    int head, norm;                         /* train: with the softmax head; with the norm of the gradient */
} bench_point;

typedef struct bench_net {
    bench_point point;
    mtl_arena keep, scratch;                /* what stays; what a pass makes, emptied by each */
    mtl_error error;
    mtl_parameters set;
    mtl_gradients *gradients;
    mtl_trainer_desc how;
    mtl__optimizer optimizer;
    const mtl_scheduler *scheduler;
    mtl__pool *pool;
    mtl_tape tape;
    mtl_run run;
    const mtl_cell *cells[2];
    mtl_dense *head;
    mtl_activation x, dy;                   /* inputs; without a head: what the gradient of the outputs is */
    mtl_target target;
    int *lengths;
    const mtl__kernels *kernels;            /* NULL: those of the ISA; else a table to use instead (timed, for
                                               --parts) */
} bench_net;

static const char *bench_cell_name(int cell) { return mtl__cell_kind_find(cell, MTL_RESET_AFTER)->name; }
/* Gates by which x and h are multiplied; minGRU's two are by x alone. */
static size_t bench_gates(int cell)
{
    const mtl__cell_kind *kind = mtl__cell_kind_find(cell, MTL_RESET_AFTER);
    return (kind->gates + kind->joint) / 2;
}

/* Floating-point operations of a forward pass: 2 G H (I + H) for each row and direction, I = H. */
static double bench_work_of(const bench_point *p)
{
    const double hidden = (double)p->hidden;
    return 2.0 * (double)bench_gates(p->cell) * hidden * 2 * hidden
        * (double)(p->batch * p->steps * p->directions);
}

static void bench_net_add_layers(bench_net *net)
{
    const bench_point *p = &net->point;
    mtl_cell_desc desc;
    size_t d;
    memset(&desc, 0, sizeof desc);
    desc.cell = p->cell;
    desc.hidden = (int)p->hidden;
    mtl_parameters_init(&net->set, &net->keep);
    for (d = 0; d < p->directions; d++)
        net->cells[d] = mtl_cell_add(&net->set, "layer.", &desc, p->hidden, 0, (int)d, &net->error);
    net->head = mtl_dense_add(&net->set, "head", p->hidden * p->directions, BENCH_CLASSES, 0, &net->error);
    mtl_parameters_allocate(&net->set, &net->error);
    bench_must(&net->error);
    mtl_parameters_randomise(&net->set, 1);
    mtl_parameters_prepare(&net->set, p->isa, &net->error);
}

/* Inputs with the stride of an activation, labels and lengths. */
static void bench_net_add_data(bench_net *net)
{
    const size_t rows = net->point.batch * net->point.steps;
    int *labels = bench_ints(&net->keep, rows, BENCH_CLASSES, 11);
    size_t s;
    net->lengths = bench_ints(&net->keep, net->point.batch, 1, 12);
    for (s = 0; s < net->point.batch; s++) net->lengths[s] = (int)net->point.steps;
    net->target.labels = labels;
    net->x.name = "";
    net->x.rows = rows;
    net->x.width = net->point.hidden;
    net->x.stride = mtl__padded(net->point.hidden);
    net->x.value = bench_reals(&net->keep, rows * net->x.stride, 13);
    net->dy = net->x;
    net->dy.width = net->point.hidden * net->point.directions;
    net->dy.stride = mtl__padded(net->dy.width);
    net->dy.value = bench_reals(&net->keep, rows * net->dy.stride, 14);
}

/* A layer, its data and, for training, gradients and moments. */
static void bench_net_init(bench_net *net, const bench_point *point, int trains)
{
    memset(net, 0, sizeof *net);
    net->point = *point;
    mtl_arena_init(&net->keep, NULL, 0, NULL);
    mtl_arena_init(&net->scratch, NULL, 0, NULL);
    if (point->threads > 1) net->pool = mtl__pool_create(&net->keep, (int)point->threads, &net->error);
    net->scheduler = mtl__pool_scheduler(net->pool);
    bench_net_add_layers(net);
    bench_net_add_data(net);
    /* once, as a session does: it asks the processor what it can */
    mtl_run_init(&net->run, &net->scratch, point->isa, &net->error);
    if (trains) {
        mtl_desc_check(MTL_DESC_TRAINER, &net->how, "trainer", &net->error);
        net->how.lr = 1e-6f;
        net->gradients = mtl_gradients_create(&net->set, &net->keep, &net->error);
        net->run.packings = mtl__packings_build(&net->set, net->point.bf16
                                                ? MTL_PRECISION_BF16 : MTL_PRECISION_F32, &net->keep,
                                                &net->error);
        bench_must(&net->error);
        mtl__optimizer_init(&net->optimizer, &net->how, &net->set, net->gradients, &net->keep, &net->error);
    }
    bench_must(&net->error);
}

static void bench_net_destroy(bench_net *net)
{
    mtl__pool_destroy(net->pool);
    mtl_arena_destroy(&net->scratch);
    mtl_arena_destroy(&net->keep);
}

/* Readies the run for a pass over emptied scratch, with the batch packed. */
static void bench_net_begin(bench_net *net, int with_tape)
{
    mtl__arena_reset(&net->scratch);
    if (net->kernels) net->run.kernels = net->kernels;
    net->run.scheduler = net->scheduler;
    net->run.gradients = net->gradients;
    net->run.training = with_tape;
    memset(&net->tape, 0, sizeof net->tape);
    net->run.tape = with_tape ? &net->tape : NULL;
    mtl_run_pack(&net->run, net->lengths, net->point.batch);
    net->x.space = &net->run.packing->space[MTL_LEVEL_STEP];
    net->x.grad = NULL;
    net->x.constant = !with_tape;
    net->x.next = NULL;
    if (with_tape) net->tape.activations = &net->x;     /* so that its gradient's state is cleared like the
                                                           others' */
}

/* The layer over all steps, as a column of the encoder runs it. */
static mtl_activation *bench_net_layer(bench_net *net)
{
    mtl_activation *y = mtl_run_activation(&net->run, NULL, net->x.rows, net->dy.width);
    if (y) mtl__layer_forward(&net->run, net->cells, net->point.directions, &net->x, y, NULL, NULL);
    return y;
}

/* ---- infer --------------------------------------------------------------------------------------------- */

static void bench_infer(void *user)
{
    bench_net *net = (bench_net *)user;
    const mtl_activation *y;
    bench_net_begin(net, 0);
    y = bench_net_layer(net);
    bench_must(&net->error);
    bench_sink = (double)y->value[0];
}

/* ---- train --------------------------------------------------------------------------------------------- */

/* A loss for runs without a head: sum of y * dy, whose gradient is dy. */
static void bench_given_backward(mtl_run *run, void *data)
{
    mtl_activation **of = (mtl_activation **)data;      /* y, dy, the loss */
    int add;
    mtl_real *grad = mtl_run_grad(run, of[0], &add);
    if (grad) memcpy(grad, of[1]->value, of[0]->rows * of[0]->stride * sizeof *grad);
}

static mtl_activation *bench_given_loss(mtl_run *run, mtl_activation *y, mtl_activation *dy)
{
    mtl_activation **of = (mtl_activation **)mtl_run_make(run, 3 * sizeof *of);
    mtl_activation *loss = mtl_run_activation(run, NULL, 1, 1);
    bench_must(run->error);
    of[0] = y;
    of[1] = dy;
    of[2] = loss;
    loss->value[0] = 0;
    mtl_run_record(run, loss, bench_given_backward, of);
    return loss;
}

/* Softmax over 32 classes on every row, as a task of class kind at step level has it. */
static mtl_activation *bench_head_loss(bench_net *net, mtl_activation *y)
{
    mtl__loss_data how;
    memset(&how, 0, sizeof how);
    how.loss = MTL_LOSS_CROSS_ENTROPY;
    how.target = &net->target;
    how.items = net->run.packing->caller_row;
    how.divisor = (double)net->x.rows;
    return mtl__loss_forward(&net->run, &how, mtl_dense_forward(&net->run, net->head, y, NULL), NULL);
}

static void bench_train(void *user)
{
    bench_net *net = (bench_net *)user;
    const mtl_real one = 1;
    mtl_activation *y, *loss;
    bench_net_begin(net, 1);
    mtl_packings_prepare(net->run.packings, &net->run);
    y = bench_net_layer(net);
    bench_must(&net->error);
    loss = net->point.head ? bench_head_loss(net, y) : bench_given_loss(&net->run, y, &net->dy);
    bench_must(&net->error);
    mtl_tape_backward(&net->run, &loss, &one, 1, 0);
    bench_sink = (double)loss->value[0];
    if (net->point.norm) bench_sink = mtl__gradients_norm(&net->optimizer, &net->run);
    mtl__arena_reset(&net->scratch);
    mtl__optimizer_apply(&net->optimizer, &net->run, (double)net->how.lr, 1);
    net->optimizer.step++;
    mtl__parameters_pack(&net->set, mtl__run_kernels(&net->run), net->scheduler, NULL, 0);
    bench_must(&net->error);
}

/* ---- stream -------------------------------------------------------------------------------------------- */

/* One sequence, whose state the stream holds. */
typedef struct bench_stream {
    bench_net net;
    mtl_cell_stream *cell;
} bench_stream;

enum { BENCH_STREAM_STEPS = 256 };          /* steps of one measurement */

static void bench_stream_init(bench_stream *s, const bench_point *point)
{
    size_t bytes;
    bench_net_init(&s->net, point, 0);
    bytes = mtl_cell_stream_size(s->net.cells[0]);
    s->cell = mtl_cell_stream_init(mtl_arena_push(&s->net.keep, bytes), bytes, s->net.cells[0], point->isa,
                                   &s->net.error);
    bench_must(&s->net.error);
}

static void bench_stream_steps(void *user)
{
    bench_stream *s = (bench_stream *)user;
    int i;
    for (i = 0; i < BENCH_STREAM_STEPS; i++) bench_sink = (double)mtl_cell_stream_step(s->cell,
                                                                                       s->net.x.value)[0];
}

/* ---- one point of the grid ----------------------------------------------------------------------------- */

enum { BENCH_INFER, BENCH_TRAIN, BENCH_STREAM };
static const char *const bench_mode_names[] = { "infer", "train", "stream" };

/* Bytes of weights that one step reads. */
static size_t bench_weight_bytes(const bench_point *p)
{
    return bench_gates(p->cell) * p->hidden * 2 * p->hidden * sizeof(mtl_real);
}

/* The limit that a point runs against: multiply-add peak, or for a stream the bandwidth from its
   footprint. */
static double bench_limit(const bench_net *net, int mode)
{
    const bench_stamp *stamp = bench_stamp_find(net->point.isa);
    if (mode == BENCH_STREAM) return bench_load_bandwidth(stamp, bench_weight_bytes(&net->point));
    if (mode == BENCH_TRAIN && net->point.bf16 && bench_bf16_peak() > 0)
        return bench_bf16_peak() * (double)net->point.threads;
    return bench_peak(stamp, net->scheduler, net->point.threads);
}

/* us, GFLOP/s and share of the limit. */
static void bench_print_point(const bench_point *p, int mode, bench_timing t, double limit)
{
    const double gflops = bench_work_of(p) * (mode == BENCH_TRAIN ? 3 : 1) / (t.us_min * 1e3);
    const double rate = mode == BENCH_STREAM ? (double)bench_weight_bytes(p) / (t.us_min * 1e3) : gflops;
    printf("%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%.3f\t%.3f\t%.2f\t%.4f\n", bench_cell_name(p->cell),
           bench_mode_names[mode], p->directions == 2 ? "bi" : "uni",
               mtl__isa_name(mtl__kernels_choose(p->isa)->isa), p->bf16 ? "bf16" : "f32",
           (int)p->hidden, (int)p->batch, (int)p->steps, (int)p->threads, t.us_min, t.us_median, gflops,
               rate / limit);
    fflush(stdout);
}

static void bench_print_header(void)
{
    printf("cell\tmode\tdir\tisa\tprecision\tH\tB\tT\tthreads\tus_min\tus_median\tgflops\tshare\n");
}

static bench_timing bench_time_pass(bench_net *net, int mode, size_t repeats)
{
    return bench_measure(mode == BENCH_TRAIN ? bench_train : bench_infer, net, repeats, 0.3);
}

static bench_timing bench_time_stream(bench_stream *stream, size_t repeats)
{
    bench_timing t = bench_measure(bench_stream_steps, stream, repeats, 0.3);
    t.us_min /= BENCH_STREAM_STEPS;
    t.us_median /= BENCH_STREAM_STEPS;
    return t;
}

/* Measures a point between two measurements of its limit, of which the larger one counts, and prints its
   row. */
static void bench_point_run(const bench_point *point, int mode, size_t repeats)
{
    bench_stream stream;                    /* its net serves all modes */
    bench_timing t;
    double before, after;
    memset(&stream, 0, sizeof stream);
    if (mode == BENCH_STREAM) bench_stream_init(&stream, point);
    else bench_net_init(&stream.net, point, mode == BENCH_TRAIN);
    before = bench_limit(&stream.net, mode);
    t = mode == BENCH_STREAM ? bench_time_stream(&stream, repeats)
        : bench_time_pass(&stream.net, mode, repeats);
    after = bench_limit(&stream.net, mode);
    bench_print_point(point, mode, t, before > after ? before : after);
    bench_net_destroy(&stream.net);
}
