/* gradient.h    small nets under a gradient check: what the tests of layers, cells, tasks and models share

   probe   arrays with their analytic gradients, and a function that computes the loss anew. Differencing
           every element of a large array would take hours, so of each array are checked: some random
           elements, the one with the largest gradient, and the derivative along one direction that moves all
           elements at once (a wrong element anywhere shows there)
   net     a run with parameters, a ragged batch, inputs that want gradients too, and a forward pass that the
           test gives. Its loss is a random weighted sum of whatever the test passes to net_loss. Memory that
           nobody has written holds NaN. */
#ifndef MTL_TEST_GRADIENT_H
#define MTL_TEST_GRADIENT_H

#define GRADIENT_STEP (MTL__REAL_IS_DOUBLE ? 6e-5 : 1.0 / 64)   /* balances rounding and curvature:
                                                                   measured */
#define GRADIENT_TOLERANCE (MTL__REAL_IS_DOUBLE ? 1e-7 : 3e-2)   /* float: only blunders can be seen by
                                                                    differencing */
#define GRADIENT_LEAST (MTL__REAL_IS_DOUBLE ? 5e-4 : 2e-3)       /* a parameter with less (but not zero)
                                                                    drowns in the loss's rounding */

/* A size near where something changes: around 16 (a block) and 64 (a panel), or any other up to `most`. */
static size_t gradient_size(test_random *r, int most)
{
    static const int edges[] = { 1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65 };
    int edge = edges[test_random_between(r, 0, (int)MTL__COUNT(edges) - 1)];
    return (size_t)(edge <= most && test_random_between(r, 0, 1) ? edge : test_random_between(r, 1, most));
}

/* The instruction sets of this machine in turn. */
static int gradient_isa(int i)
{
    int isa = MTL_ISA_SCALAR + i % (MTL_ISA_COUNT - MTL_ISA_SCALAR);
    return mtl__kernels_choose(isa) ? isa : MTL_ISA_AUTO;
}

/* ---- probe --------------------------------------------------------------------------------------------- */

enum { PROBE_SAMPLE = 8 };

typedef struct probe_array {
    const char *name;
    mtl_real *value;                        /* what the loss reads */
    mtl_real *base, *grad;                  /* [count] the values, and the analytic gradient */
    size_t count, sampled, index[PROBE_SAMPLE];
    mtl_real sample[PROBE_SAMPLE], sample_grad[PROBE_SAMPLE];
    mtl_real along, along_grad;             /* how far all elements are moved along the direction */
} probe_array;

typedef struct probe {
    mtl_arena arena;
    probe_array *arrays;
    size_t count, capacity;
    double (*loss)(void *user);
    void *user;
    int bent;                               /* 1: the function has kinks (ReLU, max, |x|): in float they are
                                               hard to tell */
    unsigned long long seed;
} probe;

static void probe_open(probe *p, size_t capacity, double (*loss)(void *), void *user, unsigned long long seed)
{
    memset(p, 0, sizeof *p);
    mtl_arena_init(&p->arena, NULL, 0, NULL);
    p->arrays = (probe_array *)mtl_arena_push(&p->arena, capacity * sizeof *p->arrays);
    assert_non_null(p->arrays);
    p->capacity = capacity;
    p->loss = loss;
    p->user = user;
    p->seed = seed;
}

/* Component i of the direction: never against the gradient, so that nothing cancels. */
static double probe_direction(const probe *p, const probe_array *a, size_t i)
{
    double size = 0.5 + mtl__random_uniform(p->seed, 3, i);
    return (a->grad[i] < 0 ? -size : size) / sqrt((double)a->count);
}

static void probe_choose(const probe *p, probe_array *a, test_random *r)
{
    size_t i, largest = 0;
    double along = 0;
    for (i = 0; i < a->count; i++) {
        if (fabs((double)a->grad[i]) > fabs((double)a->grad[largest])) largest = i;
        along += (double)a->grad[i] * probe_direction(p, a, i);
    }
    a->along_grad = (mtl_real)along;
    a->sampled = test_quick() ? 3 : PROBE_SAMPLE;
    if (a->sampled > a->count) a->sampled = a->count;
    for (i = 0; i < a->sampled; i++) {
        a->index[i] = a->sampled == a->count ? i : i == 0
            ? largest : (size_t)test_random_between(r, 0, (int)a->count - 1);
        a->sample[i] = a->base[a->index[i]];
        a->sample_grad[i] = a->grad[a->index[i]];
    }
}

/* Adds an array. grad NULL: zeros. Values and gradient are copied. */
static void probe_add(probe *p, const char *name, mtl_real *value, const mtl_real *grad, size_t count)
{
    probe_array *a = &p->arrays[p->count++];
    test_random r = test_random_from(p->seed + p->count);
    assert_true(p->count <= p->capacity);
    memset(a, 0, sizeof *a);
    a->name = name;
    a->value = value;
    a->count = count;
    a->base = (mtl_real *)mtl_arena_push(&p->arena, count * sizeof *a->base);
    a->grad = (mtl_real *)mtl_arena_push(&p->arena, count * sizeof *a->grad);
    assert_true(a->base && a->grad && count > 0);
    memcpy(a->base, value, count * sizeof *value);
    if (grad) memcpy(a->grad, grad, count * sizeof *grad);
    else memset(a->grad, 0, count * sizeof *a->grad);
    probe_choose(p, a, &r);
}

/* A parameter with its gradient, whatever the gradient's state. Returns the state. */
static int probe_add_tensor(probe *p, mtl_gradients *gradients, mtl_tensor *t)
{
    const mtl_gradient *g = mtl_gradients_get(gradients, t);
    mtl_real *all = (mtl_real *)calloc(t->count, sizeof *all);
    double largest = 0;
    size_t r, begin;
    assert_non_null(all);
    for (r = 0; g && r < mtl__gradient_ranges(g); r++) {
        size_t length = mtl__gradient_range(g, t, r, &begin);
        memcpy(all + begin, g->value + begin, length * sizeof *all);
    }
    for (r = 0; r < t->count; r++)
        if (fabs((double)all[r]) > largest) largest = fabs((double)all[r]);
    if (g && (largest > GRADIENT_LEAST || (MTL__REAL_IS_DOUBLE && largest == 0)))
        probe_add(p, t->name, t->value, all, t->count);
    free(all);
    return g ? g->state : MTL_GRAD_NONE;
}

/* The loss with the arrays moved as the checker wants them. */
static double probe_loss(void *user)
{
    probe *p = (probe *)user;
    size_t k, i;
    for (k = 0; k < p->count; k++) {
        probe_array *a = &p->arrays[k];
        if (a->along == 0) memcpy(a->value, a->base, a->count * sizeof *a->base);
        for (i = 0; i < a->count && a->along != 0; i++)
            a->value[i] = (mtl_real)((double)a->base[i] + (double)a->along * probe_direction(p, a, i));
        for (i = 0; i < a->sampled && a->along == 0; i++)          /* an element may be in the sample twice */
            if (a->sample[i] != a->base[a->index[i]]) a->value[a->index[i]] = a->sample[i];
    }
    return p->loss(p->user);
}

/* Runs the checker and fails the test when a gradient is wrong. Puts all values back. */
static void probe_check(probe *p, const char *what)
{
    mtl_check_array *arrays = (mtl_check_array *)mtl_arena_push(&p->arena, 2 * p->count * sizeof *arrays);
    mtl_check_result result;
    mtl_error err = {0};
    size_t k, n = 0;
    assert_non_null(arrays);
    memset(arrays, 0, 2 * p->count * sizeof *arrays);
    for (k = 0; k < p->count; k++) {
        probe_array *a = &p->arrays[k];
        arrays[n].name = a->name;
        arrays[n].value = a->sample;
        arrays[n].grad = a->sample_grad;
        arrays[n++].count = a->sampled;
        if (!MTL__REAL_IS_DOUBLE) continue;
        arrays[n].name = a->name;
        arrays[n].value = &a->along;
        arrays[n].grad = &a->along_grad;
        arrays[n++].count = 1;
    }
    mtl_check_gradients(probe_loss, p, arrays, n, GRADIENT_STEP, &result, &err);
    /* curvature falls with the square of the step, rounding grows; a wrong gradient stays wrong */
    if (MTL__REAL_IS_DOUBLE && result.worst_error > GRADIENT_TOLERANCE)
        mtl_check_gradients(probe_loss, p, arrays, n, GRADIENT_STEP / 4, &result, &err);
    if (err.code) fail_msg("%s: %s", what, err.message);
    if (result.worst_error > (p->bent && !MTL__REAL_IS_DOUBLE ? 10 : 1) * GRADIENT_TOLERANCE)
        fail_msg("%s: gradient of %s[%lu] is %.12g, differences say %.12g (error %.3g)", what,
                 result.worst_name, (unsigned long)result.worst_index, result.analytic, result.numeric,
                     result.worst_error);
    /* curvature and rounding look like kinks, too */
    if (MTL__REAL_IS_DOUBLE && result.kinks > result.elements / 2 + 4)
        fail_msg("%s: %lu kinks beside %lu elements", what, (unsigned long)result.kinks,
                 (unsigned long)result.elements);
    probe_loss(p);
    mtl_arena_destroy(&p->arena);
}

/* ---- net ----------------------------------------------------------------------------------------------- */

enum { NET_LEAVES = 8, NET_LOSSES = 8, NET_SCRATCH = 16 << 20 };

/* An input whose gradient is checked too. */
typedef struct net_leaf {
    const char *name;
    size_t rows, width;
    mtl_real *value;                        /* [rows][width] */
    mtl_activation *x;                      /* of the last forward pass */
} net_leaf;

typedef struct net net;
struct net {
    mtl_error err;
    unsigned long long seed;
    test_random random;
    mtl_arena memory, scratch;              /* what stays; what each forward pass makes anew */
    void *buffer;
    mtl_parameters set;
    mtl_gradients *gradients;
    mtl_tape tape;
    mtl_run run;
    size_t sequences, rows;
    int *lengths;
    net_leaf leaves[NET_LEAVES];
    size_t leaf_count, loss_count;
    mtl_activation *losses[NET_LOSSES];
    double total, squares;                  /* the loss in double; the sum of its terms' squares */
    double offset;                          /* added to the loss while differencing: see net_probe_loss */
    int bent;
    void (*forward)(net *n);
    void *user;
};

static void net_expect_ok(const net *n, const char *what)
{
    if (n->err.code) fail_msg("%s: %s", what, n->err.message);
}

/* Lengths are random in 1 .. longest. Add layers and leaves next, then net_ready. */
static void net_open(net *n, void (*forward)(net *), void *user, unsigned long long seed, size_t sequences,
                     int longest)
{
    size_t s;
    memset(n, 0, sizeof *n);
    n->seed = seed;
    n->random = test_random_from(seed);
    n->forward = forward;
    n->user = user;
    n->buffer = malloc(NET_SCRATCH);
    assert_non_null(n->buffer);
    mtl_arena_init(&n->memory, NULL, 0, NULL);
    mtl_parameters_init(&n->set, &n->memory);
    n->sequences = sequences;
    n->lengths = (int *)mtl_arena_push(&n->memory, sequences * sizeof *n->lengths);
    for (s = 0; s < sequences; s++) n->rows += (size_t)(n->lengths[s] = test_random_between(&n->random, 1,
                                                                                            longest));
}

/* An input of rows x width with random values in -1 .. 1. Returns its number. */
static size_t net_add_leaf(net *n, const char *name, size_t rows, size_t width)
{
    net_leaf *leaf = &n->leaves[n->leaf_count];
    size_t i;
    assert_true(n->leaf_count < NET_LEAVES);
    leaf->name = name;
    leaf->rows = rows;
    leaf->width = width;
    leaf->value = (mtl_real *)mtl_arena_push(&n->memory, rows * width * sizeof *leaf->value);
    for (i = 0; i < rows * width; i++) leaf->value[i] = (mtl_real)test_random_real(&n->random, -1, 1);
    return n->leaf_count++;
}

/* Memory for parameters and gradients, random values, packed rows; a run for the given instruction set. */
static void net_ready(net *n, int isa)
{
    mtl_parameters_allocate(&n->set, &n->err);
    net_expect_ok(n, "net");
    mtl_parameters_randomise(&n->set, n->seed);
    n->gradients = mtl_gradients_create(&n->set, &n->memory, &n->err);
    n->run.kernels = mtl__kernels_choose(isa);
    n->run.error = &n->err;
    n->run.arena = &n->scratch;
    n->run.gradients = n->gradients;
    n->run.packings = mtl_packings_create(&n->set, &n->memory, &n->err);
    n->run.seed = n->seed;
    n->run.packing = mtl__packing_create(&n->memory, n->lengths, n->sequences, &n->err);
    net_expect_ok(n, "net");
    assert_non_null(n->run.kernels);
}

/* The rows of a net's batch. */
static const mtl_space *net_steps(const net *n) { return &n->run.packing->space[MTL_LEVEL_STEP]; }

static void net_close(net *n)
{
    mtl_arena_destroy(&n->memory);
    free(n->buffer);
}

/* In the forward pass: leaf number i. Its padding holds NaN: nobody may read it. */
static mtl_activation *net_leaf_forward(net *n, size_t i)
{
    net_leaf *leaf = &n->leaves[i];
    mtl_activation *x = mtl_run_activation(&n->run, leaf->name, leaf->rows, leaf->width);
    size_t r;
    leaf->x = x;
    for (r = 0; x && r < x->rows; r++) memcpy(x->value + r * x->stride, leaf->value + r * leaf->width,
                                              leaf->width * sizeof *x->value);
    return x;
}

/* A layer of the test's own: the sum of x times factors in -1 .. 1. */
typedef struct net_sum { mtl_activation *x, *y; unsigned long long stream; } net_sum;

static double net_factor(const net_sum *sum, size_t n, size_t j)
{
    return 2 * mtl__random_uniform(99, sum->stream, n * sum->x->width + j) - 1;
}

static void net_sum_backward(mtl_run *run, void *data)
{
    const net_sum *sum = (const net_sum *)data;
    size_t n, j;
    int add;
    mtl_real *dx = mtl_run_grad(run, sum->x, &add);
    for (n = 0; dx && n < sum->x->rows; n++)
        for (j = 0; j < sum->x->width; j++) {
            mtl_real *to = dx + n * sum->x->stride + j;
            *to = (add ? *to : 0) + sum->y->grad[0] * (mtl_real)net_factor(sum, n, j);
        }
}

/* In the forward pass: what the loss is made of. */
static void net_loss(net *n, mtl_activation *x)
{
    net_sum *sum = (net_sum *)mtl_run_make(&n->run, sizeof *sum);
    size_t r, j;
    double total = 0, term;
    if (!x || !sum) return;
    assert_true(n->loss_count < NET_LOSSES);
    sum->x = x;
    sum->y = mtl_run_activation(&n->run, "loss", 1, 1);
    sum->stream = n->loss_count;
    for (r = 0; r < x->rows; r++)
        for (j = 0; j < x->width; j++) {
            total += term = net_factor(sum, r, j) * (double)x->value[r * x->stride + j];
            n->squares += term * term;
        }
    n->total += total;
    n->losses[n->loss_count++] = sum->y;
    mtl_run_record(&n->run, sum->y, net_sum_backward, sum);
}

/* One forward pass over memory full of NaN, with or without a tape. */
static void net_forward(net *n, int with_tape)
{
    memset(n->buffer, 0xff, n->scratch.high_water + 4096 < NET_SCRATCH
           ? n->scratch.high_water + 4096 : NET_SCRATCH);
    mtl_arena_init(&n->scratch, n->buffer, NET_SCRATCH, NULL);
    memset(&n->tape, 0, sizeof n->tape);
    mtl_parameters_prepare(&n->set, MTL_ISA_AUTO, &n->err);
    n->run.tape = with_tape ? &n->tape : NULL;
    n->run.stream = 0;
    n->loss_count = 0;
    n->total = n->squares = 0;
    n->forward(n);
    net_expect_ok(n, "forward");
}

static void net_backward(net *n)
{
    static const mtl_real ones[NET_LOSSES] = { 1, 1, 1, 1, 1, 1, 1, 1 };
    mtl_packings_prepare(n->run.packings, &n->run);
    mtl_tape_backward(&n->run, n->losses, ones, n->loss_count, 0);
    net_expect_ok(n, "backward");
}

/* What is differenced is the pass without a tape, so both passes are checked against each other as well. The
   checker takes the rounding of a loss from its size; terms that cancel would make that too small, so an
   offset of their typical sum is added. */
static double net_probe_loss(void *user)
{
    net_forward((net *)user, 0);
    return ((net *)user)->total + ((net *)user)->offset;
}

static void net_probe_leaf(probe *p, const net_leaf *leaf)
{
    const mtl_activation *x = leaf->x;
    mtl_real *grad = (mtl_real *)calloc(leaf->rows * leaf->width, sizeof *grad);
    size_t r;
    assert_non_null(grad);
    for (r = 0; x->grad_state != MTL_GRAD_NONE && r < x->rows; r++)
        memcpy(grad + r * leaf->width, x->grad + r * x->stride, leaf->width * sizeof *grad);
    probe_add(p, leaf->name, leaf->value, grad, leaf->rows * leaf->width);
    free(grad);
}

/* A tape that is played again gives the same bits. */
static void net_expect_replay(net *n, const probe *p, const char *what)
{
    probe again;
    size_t i;
    net_backward(n);
    probe_open(&again, p->capacity, NULL, NULL, p->seed);
    for (i = 0; i < n->set.count; i++) (void)probe_add_tensor(&again, n->gradients, n->set.tensors[i]);
    for (i = 0; i < n->leaf_count; i++) net_probe_leaf(&again, &n->leaves[i]);
    for (i = 0; i < p->count; i++)
        if (memcmp(p->arrays[i].grad, again.arrays[i].grad, p->arrays[i].count * sizeof(mtl_real)) != 0)
            fail_msg("%s: a second backward pass gives another gradient of %s", what, p->arrays[i].name);
    mtl_arena_destroy(&again.arena);
}

/* Gradients of all parameters and leaves against differences. */
static void net_check(net *n, const char *what)
{
    probe p;
    size_t i;
    double taped;
    net_forward(n, 1);
    taped = n->total;
    n->offset = taped < 0 ? -sqrt(n->squares) : sqrt(n->squares);
    net_backward(n);
    probe_open(&p, n->set.count + n->leaf_count, net_probe_loss, n, n->seed);
    p.bent = n->bent;
    for (i = 0; i < n->set.count; i++)
        if (probe_add_tensor(&p, n->gradients, n->set.tensors[i]) != MTL_GRAD_NONE)
            assert_int_equal(n->set.tensors[i]->frozen, 0);
    for (i = 0; i < n->leaf_count; i++) net_probe_leaf(&p, &n->leaves[i]);
    net_expect_replay(n, &p, what);
    net_forward(n, 0);
    if (!(fabs(n->total - taped) <= (MTL__REAL_IS_DOUBLE ? 1e-11 : 1e-3) * (1 + fabs(taped))))
        fail_msg("%s: the loss is %.12g with a tape and %.12g without", what, taped, n->total);
    probe_check(&p, what);
}

/* ---- whole models, by the public interface ------------------------------------------------------------- */

typedef struct model_probe {
    mtl_model *model;
    mtl_trainer *trainer;
    const mtl_batch *batches;
    size_t count;
    void (*before)(void *user);             /* NULL, or called before each pass, e.g. to put carried states
                                               back */
    void *user;
    mtl_error err;
} model_probe;

static double model_probe_loss(void *user)
{
    model_probe *m = (model_probe *)user;
    mtl_step step;
    if (m->before) m->before(m->user);
    mtl_model_prepare(m->model, &m->err);
    mtl_train_gradients(m->trainer, m->batches, m->count, &step, &m->err);
    if (m->err.code) fail_msg("%s", m->err.message);
    return step.loss;
}

/* Initial weights are so small that gradients of deep models would drown in rounding: makes all of them
   larger. */
static void model_enlarge(mtl_model *model, mtl_real factor)
{
    const mtl_parameters *set = mtl_model_parameters(model);
    size_t i, k;
    for (i = 0; i < set->count; i++)
        for (k = 0; set->tensors[i]->role != MTL_TENSOR_EMBEDDING && k < set->tensors[i]->count; k++)
            set->tensors[i]->value[k] *= factor;
}

/* Gradients of every parameter of a model for an update from these batches. Embeddings must have ROWS. */
static void model_check_carried(mtl_model *model, const mtl_trainer_desc *how, const mtl_batch *batches,
                                size_t count, int bent, const char *what, void (*before)(void *), void *user)
{
    const mtl_parameters *set = mtl_model_parameters(model);
    model_probe m;
    probe p;
    size_t i;
    memset(&m, 0, sizeof m);
    m.model = model;
    m.batches = batches;
    m.count = count;
    m.before = before;
    m.user = user;
    m.trainer = mtl_trainer_create(model, how, &m.err);
    TEST_FINE(&m.err);
    model_enlarge(model, 2);
    model_probe_loss(&m);
    probe_open(&p, set->count, model_probe_loss, &m, 17);
    p.bent = bent;
    for (i = 0; i < set->count; i++)
        if (probe_add_tensor(&p, mtl_trainer_gradients(m.trainer), set->tensors[i]) == MTL_GRAD_DENSE)
            assert_true(set->tensors[i]->role != MTL_TENSOR_EMBEDDING);
    probe_check(&p, what);
    mtl_trainer_destroy(m.trainer);
}

static void model_check(mtl_model *model, const mtl_trainer_desc *how, const mtl_batch *batches, size_t count,
                        int bent, const char *what)
{
    model_check_carried(model, how, batches, count, bent, what, NULL, NULL);
}

#endif
