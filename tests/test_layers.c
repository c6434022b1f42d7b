/* >>layers, >>norms, >>pooling: every layer under a gradient check, and what else each of them promises.
   Included by tests/main.c.

   The last part, "a layer of your own", shows how a caller adds a layer and checks its gradient with the
   public interface alone. */
#include "gradient.h"

#define LAYERS_CLOSE (MTL__REAL_IS_DOUBLE ? 1e-13 : 1e-5)

/* One random case of one layer. What a layer does not know stays unused. */
typedef struct layers_case {
    int isa, number;                        /* which of the table's rows */
    int rows_of;                            /* LAYERS_STEPS or LAYERS_SEQUENCES */
    size_t widths[3];
    int choice;                             /* an activation, a pooling */
    int flag, twice;                        /* twice: the input is used by a second part of the loss, so that
                                               gradients add up */
    double rate;
    int *items;                             /* ids, or rows to select */
    size_t item_count;
    mtl_dense *dense;
    mtl_tensor *table;
    mtl_segment segments[2];
    mtl_target target;
} layers_case;

static layers_case *layers_of(net *n) { return (layers_case *)n->user; }

/* The layer's output enters the loss; with `twice` its input does too. */
static void layers_end(net *n, mtl_activation *x, mtl_activation *y)
{
    net_loss(n, y);
    if (layers_of(n)->twice) net_loss(n, x);
}

/* A net of random size with one leaf "x" [N][widths[0]]. Layers are to be added, then net_ready. */
static void layers_open(net *n, layers_case *c, void (*forward)(net *), int number)
{
    test_random r = test_random_from((unsigned long long)number + 1);
    size_t i;
    c->number = number;
    c->isa = gradient_isa(number);
    for (i = 0; i < 3; i++) c->widths[i] = gradient_size(&r, 70);
    c->flag = number % 2;
    c->twice = number % 3 == 0;
    net_open(n, forward, c, (unsigned long long)number + 100, (size_t)test_random_between(&r, 1, 40),
             number % 5 == 0 ? 1 : 9);
    net_add_leaf(n, "x", n->rows, c->widths[0]);
}

static int *layers_random_items(net *n, size_t count, int limit)
{
    int *items = (int *)mtl_arena_push(&n->memory, count * sizeof *items);
    size_t i;
    assert_non_null(items);
    for (i = 0; i < count; i++) items[i] = test_random_between(&n->random, 0, limit - 1);
    return items;
}

static void layers_finish(net *n, const char *what)
{
    layers_case *c = layers_of(n);
    char text[64];
    snprintf(text, sizeof text, "%s, case %d", what, c->number);
    net_check(n, text);
    net_close(n);
}

/* ---- embedding ----------------------------------------------------------------------------------------- */

static void layers_embedding_forward(net *n)
{
    layers_case *c = layers_of(n);
    net_loss(n, mtl__embedding_forward(&n->run, net_steps(n), c->table, c->items, (mtl_real)c->rate, c->flag,
                                       "words"));
}

static void layers_embedding_open(net *n, layers_case *c, void (*forward)(net *), int number)
{
    size_t vocabulary;
    layers_open(n, c, forward, number);
    n->leaf_count = 0;
    vocabulary = (size_t)test_random_between(&n->random, 1, 30);
    c->rate = number % 3 ? 1 : 0.37;
    c->table = mtl_parameters_add(&n->set, "words.weight", vocabulary, c->widths[1], MTL_TENSOR_EMBEDDING,
                                  &n->err);
    c->items = layers_random_items(n, n->rows, (int)vocabulary);
    net_ready(n, c->isa);
}

/* The gradient names exactly the ids of the batch, ascending, without the padding. */
static void layers_expect_rows(net *n)
{
    layers_case *c = layers_of(n);
    const mtl_gradient *g = mtl_gradients_get(n->gradients, c->table);
    size_t id, i, count = 0;
    net_forward(n, 1);
    net_backward(n);
    assert_int_equal(g->state, MTL_GRAD_ROWS);
    for (id = 0; id < c->table->shape[0]; id++) {
        int used = 0;
        for (i = 0; i < n->rows; i++) used |= c->items[i] == (int)id && !(c->flag && id == 0);
        if (!used) continue;
        assert_true(count < g->row_count);
        assert_int_equal(g->rows[count++], id);
    }
    assert_int_equal(g->row_count, count);
}

static void test_layers_embedding(void **state)
{
    layers_case c;
    net n;
    int i;
    (void)state;
    for (i = 0; i < test_cases(30); i++) {
        memset(&c, 0, sizeof c);
        layers_embedding_open(&n, &c, layers_embedding_forward, i);
        layers_expect_rows(&n);
        layers_finish(&n, "embedding");
    }
}

/* Ids over a large vocabulary, used by two layers: the gradient's rows are the ids in order, each the sum of
   its rows. */
static void test_layers_embedding_scatter(void **state)
{
    enum { VOCABULARY = 70001, ROWS = 400, WIDTH = 5 };
    test_random random;
    int number;
    (void)state;
    random.state = 77;
    for (number = 0; number < test_cases(20); number++) {
        const size_t vocabulary = number % 4 == 0 ? VOCABULARY : number % 4 == 1 ? 300 : number % 4 == 2
            ? 256 : 1;
        double *want = (double *)calloc(VOCABULARY * WIDTH, sizeof *want);
        int *used = (int *)calloc(VOCABULARY, sizeof *used), ids[2][ROWS], length = ROWS, layer, k, j, n = 0;
        mtl_parameters set;
        mtl_arena arena;
        mtl_error err = {0};
        mtl_tensor *table;
        mtl_tape tape = {0};
        mtl_gradient *g;
        mtl_run run;
        mtl_arena_init(&arena, NULL, 0, NULL);
        mtl_parameters_init(&set, &arena);
        table = mtl_parameters_add(&set, "table", vocabulary, WIDTH, MTL_TENSOR_EMBEDDING, &err);
        mtl_parameters_allocate(&set, &err);
        mtl_run_init(&run, &arena, MTL_ISA_AUTO, &err);
        run.tape = &tape;
        run.gradients = mtl_gradients_create(&set, &arena, &err);
        mtl_run_pack(&run, &length, 1);
        TEST_FINE(&err);
        for (layer = 0; layer < 2; layer++) {
            mtl_activation *y;
            int add;
            for (k = 0; k < ROWS; k++) {
                ids[layer][k] = test_random_between(&random, 0, (int)vocabulary - 1);
                if (k % 3 == 0) ids[layer][k] = ids[0][0];
            }
            y = mtl__embedding_forward(&run, &run.packing->space[MTL_LEVEL_STEP], table, ids[layer],
                                       (mtl_real)0.5, number % 2, "");
            TEST_FINE(&err);
            (void)mtl_run_grad(&run, y, &add);
            for (k = 0; k < ROWS; k++)
                for (j = 0; j < WIDTH; j++) {
                    y->grad[(size_t)k * y->stride + (size_t)j] = (mtl_real)test_random_real(&random, -1, 1);
                    if (number % 2 && ids[layer][k] == 0) continue;
                    used[ids[layer][k]] = 1;
                    want[ids[layer][k] * WIDTH + j] +=
                        0.5 * (double)y->grad[(size_t)k * y->stride + (size_t)j];
                }
        }
        {
            mtl_record *r;
            for (r = tape.last; r; r = r->previous) r->backward(&run, r->data);
        }
        TEST_FINE(&err);
        g = mtl_gradients_get(run.gradients, table);
        assert_int_equal(g->state, MTL_GRAD_ROWS);
        for (k = 0; k < (int)vocabulary; k++) {
            if (!used[k]) continue;
            assert_int_equal(g->rows[n++], k);
            for (j = 0; j < WIDTH; j++) assert_true(fabs((double)g->value[k * WIDTH + j]
                                                         - want[k * WIDTH + j]) < 1e-4);
        }
        assert_int_equal(n, g->row_count);
        free(want);
        free(used);
        mtl_arena_destroy(&arena);
    }
}

/* The table again as a whole: a layer of the test's own, sum of factors times W, as tied embeddings would
   read it. */
typedef struct layers_tied { mtl_tensor *table; mtl_activation *y; } layers_tied;

static void layers_tied_backward(mtl_run *run, void *data)
{
    const layers_tied *t = (const layers_tied *)data;
    int add;
    size_t i;
    mtl_real *dw = mtl_run_tensor_grad(run, t->table, &add);
    for (i = 0; dw && i < t->table->count; i++)
        dw[i] = (add ? dw[i] : 0) + t->y->grad[0] * (mtl_real)mtl__random_uniform(5, 5, i);
}

static void layers_tied_forward(net *n, mtl_tensor *table)
{
    layers_tied *t = (layers_tied *)mtl_run_make(&n->run, sizeof *t);
    double total = 0;
    size_t i;
    t->table = table;
    t->y = mtl_run_activation(&n->run, "tied", 1, 1);
    for (i = 0; i < table->count; i++) total += (double)table->value[i] * mtl__random_uniform(5, 5, i);
    n->total += total;
    n->losses[n->loss_count++] = t->y;
    mtl_run_record(&n->run, t->y, layers_tied_backward, t);
}

static void layers_rows_then_dense(net *n)      /* backward plays the dense part last */
{
    layers_tied_forward(n, layers_of(n)->table);
    layers_embedding_forward(n);
}
static void layers_dense_then_rows(net *n)
{
    layers_embedding_forward(n);
    layers_tied_forward(n, layers_of(n)->table);
}
static void layers_rows_twice(net *n)
{
    layers_case *c = layers_of(n);
    layers_embedding_forward(n);
    net_loss(n, mtl__embedding_forward(&n->run, net_steps(n), c->table, c->items, 1, 0, "again"));
}

static void test_layers_embedding_rows_and_dense(void **state)
{
    static void (*const forwards[])(net *) = { layers_rows_then_dense, layers_dense_then_rows,
        layers_rows_twice };
    layers_case c;
    net n;
    int i;
    (void)state;
    for (i = 0; i < test_cases(12); i++) {
        memset(&c, 0, sizeof c);
        layers_embedding_open(&n, &c, forwards[i % 3], i);
        net_forward(&n, 1);
        net_backward(&n);
        assert_int_equal(mtl_gradients_get(n.gradients, c.table)->state, i % 3 == 2
                         ? MTL_GRAD_ROWS : MTL_GRAD_DENSE);
        layers_finish(&n, "embedding used twice");
    }
}

static void test_layers_embedding_values(void **state)
{
    layers_case c;
    net n;
    mtl_activation *y;
    size_t s, t, j, at = 0;
    (void)state;
    memset(&c, 0, sizeof c);
    layers_embedding_open(&n, &c, layers_embedding_forward, 3);
    net_forward(&n, 0);
    y = mtl__embedding_forward(&n.run, net_steps(&n), c.table, c.items, (mtl_real)0.37, 1, "words");
    for (s = 0; s < n.sequences; s++)
        for (t = 0; t < (size_t)n.lengths[s]; t++, at++)
            for (j = 0; j < y->width; j++) {
                mtl_real w = c.items[at] ? c.table->value[(size_t)c.items[at] * y->width + j] : 0;
                mtl_real got = y->value[mtl_run_row(&n.run, y, s, t) * y->stride + j];
                assert_true(fabs((double)got - 0.37 * (double)w) <= LAYERS_CLOSE);
            }
    net_close(&n);
}

/* ---- rows of features ---------------------------------------------------------------------------------- */

static void test_layers_features(void **state)
{
    static const int lengths[] = { 2, 3, 1 };
    const mtl_real x[6 * 2] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
    mtl_real mean[2] = { 1, 2 }, scale[2] = { 2, 0 };
    mtl_scaling scaling;
    layers_case c;
    net n;
    mtl_activation *y;
    (void)state;
    memset(&c, 0, sizeof c);
    net_open(&n, NULL, &c, 1, 3, 3);
    memcpy(n.lengths, lengths, sizeof lengths);
    net_ready(&n, MTL_ISA_AUTO);
    mtl_arena_init(&n.scratch, n.buffer, NET_SCRATCH, NULL);
    memset(&scaling, 0, sizeof scaling);
    y = mtl__features_forward(&n.run, net_steps(&n), x, 2, &scaling, "x");
    net_expect_ok(&n, "features");
    assert_true(y->constant);
    assert_true(y->value[0] == 4 && y->value[1] == 5);              /* the longest sequence comes first */
    assert_true(y->value[mtl_run_row(&n.run, y, 2, 0) * y->stride] == 10);
    scaling.width = 2;
    scaling.mean = mean;
    scaling.scale = scale;
    scaling.set = 1;
    y = mtl__features_forward(&n.run, net_steps(&n), x, 2, &scaling, "x");
    assert_true(y->value[mtl_run_row(&n.run, y, 0, 1) * y->stride] == (mtl_real)0.5);
    assert_true(y->value[mtl_run_row(&n.run, y, 0, 1) * y->stride + 1] == 0);    /* a column without spread */
    net_close(&n);
}

/* ---- dense --------------------------------------------------------------------------------------------- */

static void layers_dense_forward(net *n)
{
    mtl_activation *x = net_leaf_forward(n, 0);
    layers_end(n, x, mtl_dense_forward(&n->run, layers_of(n)->dense, x, "dense"));
}

static void test_layers_dense(void **state)
{
    layers_case c;
    net n;
    int i;
    (void)state;
    for (i = 0; i < test_cases(60); i++) {
        memset(&c, 0, sizeof c);
        layers_open(&n, &c, layers_dense_forward, i);
        c.dense = mtl_dense_add(&n.set, "dense", c.widths[0], c.widths[1], c.flag, &n.err);
        net_ready(&n, c.isa);
        layers_finish(&n, "dense");
    }
}

/* Frozen parameters get no gradient and pass it on; a constant input gets none. */
static void layers_two_dense_forward(net *n)
{
    mtl_activation *x = net_leaf_forward(n, 0);
    x = mtl_dense_forward(&n->run, layers_of(n)->dense, x, "first");
    net_loss(n, mtl_dense_forward(&n->run, layers_of(n)->dense + 1, x, "second"));
}

static void test_layers_frozen(void **state)
{
    layers_case c;
    mtl_dense layers[2];
    net n;
    (void)state;
    memset(&c, 0, sizeof c);
    layers_open(&n, &c, layers_two_dense_forward, 0);
    layers[0] = *mtl_dense_add(&n.set, "first", c.widths[0], c.widths[1], 0, &n.err);
    layers[1] = *mtl_dense_add(&n.set, "second", c.widths[1], c.widths[2], 0, &n.err);
    c.dense = layers;
    net_ready(&n, c.isa);
    layers[1].weight->frozen = layers[1].bias->frozen = 1;
    net_forward(&n, 1);
    net_backward(&n);
    assert_null(mtl_gradients_get(n.gradients, layers[1].weight));
    assert_int_equal(n.gradients->of[layers[1].weight->index].state, MTL_GRAD_NONE);
    assert_int_equal(n.gradients->of[layers[1].bias->index].state, MTL_GRAD_NONE);
    assert_int_equal(mtl_gradients_get(n.gradients, layers[0].weight)->state, MTL_GRAD_DENSE);
    layers_finish(&n, "frozen second layer");
}

/* ---- activation functions ------------------------------------------------------------------------------ */

static void layers_activate_forward(net *n)
{
    mtl_activation *x = net_leaf_forward(n, 0);
    layers_end(n, x, mtl__activate_forward(&n->run, layers_of(n)->choice, x, "y"));
}

static double layers_activate(int activation, double x)
{
    switch (activation) {
    case MTL_ACTIVATION_TANH: return tanh(x);
    case MTL_ACTIVATION_RELU: return x > 0 ? x : 0;
    case MTL_ACTIVATION_SIGMOID: return 1 / (1 + exp(-x));
    case MTL_ACTIVATION_GELU: return 0.5 * x * erfc(-x / sqrt(2));
    case MTL_ACTIVATION_SILU: return x / (1 + exp(-x));
    default: return x;
    }
}

static void test_layers_activations(void **state)
{
    layers_case c;
    net n;
    mtl_activation *x, *y;
    int i;
    size_t r, j;
    (void)state;
    for (i = 0; i < test_cases(24); i++) {
        memset(&c, 0, sizeof c);
        layers_open(&n, &c, layers_activate_forward, i);
        c.choice = MTL_ACTIVATION_NONE + i % 6;
        net_ready(&n, c.isa);
        n.bent = c.choice == MTL_ACTIVATION_RELU;
        net_forward(&n, 0);
        x = n.leaves[0].x;
        y = mtl__activate_forward(&n.run, c.choice, x, "y");
        for (r = 0; r < x->rows; r++)
            for (j = 0; j < x->width; j++)
                assert_true(fabs(layers_activate(c.choice, (double)x->value[r * x->stride + j])
                                 - (double)y->value[r * y->stride + j]) < LAYERS_CLOSE);
        layers_finish(&n, "activation");
    }
}

/* ---- dropout ------------------------------------------------------------------------------------------- */

static mtl_activation *layers_dropout(net *n, mtl_activation *x)
{
    layers_case *c = layers_of(n);
    const mtl_packing *p = n->run.packing;
    return mtl__dropout_layer(&n->run, (mtl_real)c->rate, c->choice == 0 ? p->caller_row : c->choice == 1
                              ? p->caller_sequence : NULL, x, "dropped");
}

static void layers_dropout_forward(net *n)
{
    mtl_activation *x = net_leaf_forward(n, 0);
    layers_end(n, x, layers_dropout(n, layers_dropout(n, x)));
}

static void test_layers_dropout_gradient(void **state)
{
    layers_case c;
    net n;
    int i;
    (void)state;
    for (i = 0; i < test_cases(18); i++) {
        memset(&c, 0, sizeof c);
        layers_open(&n, &c, layers_dropout_forward, i);
        c.choice = i % 3;
        c.rate = 0.1 + 0.2 * (i % 4);
        net_ready(&n, c.isa);
        n.run.training = 1;
        layers_finish(&n, "dropout");
    }
}

/* Each value is 0 or x / (1 - rate); about `rate` of them are 0. Returns the share. */
static double layers_dropped_share(const mtl_activation *x, const mtl_activation *y, double rate)
{
    size_t r, j, dropped = 0;
    for (r = 0; r < x->rows; r++)
        for (j = 0; j < x->width; j++) {
            double from = (double)x->value[r * x->stride + j], to = (double)y->value[r * y->stride + j];
            dropped += to == 0;
            assert_true(to == 0 || fabs(to - from / (1 - rate)) < 1e-5);
        }
    return (double)dropped / (double)(x->rows * x->width);
}

static void test_layers_dropout_masks(void **state)
{
    layers_case c;
    net n;
    mtl_activation *x, *a, *b;
    size_t j, s;
    (void)state;
    memset(&c, 0, sizeof c);
    layers_open(&n, &c, layers_dropout_forward, 1);
    n.leaf_count = 0;
    net_add_leaf(&n, "x", n.rows, 300);
    c.rate = 0.3;
    net_ready(&n, MTL_ISA_AUTO);
    net_forward(&n, 0);
    x = n.leaves[0].x;
    assert_ptr_equal(layers_dropout(&n, x), x);                     /* not in training: nothing happens */
    n.run.training = 1;
    n.run.stream = 0;
    a = layers_dropout(&n, x);
    assert_true(fabs(layers_dropped_share(x, a, 0.3) - 0.3) < 0.02);
    n.run.stream = 0;
    b = layers_dropout(&n, x);                                      /* the same seed, step and place: the same
                                                                       mask */
    for (j = 0; j < x->rows; j++) assert_memory_equal(a->value + j * a->stride, b->value + j * b->stride,
                                                      x->width * sizeof(mtl_real));
    b = layers_dropout(&n, x);                                      /* another place */
    assert_true(memcmp(a->value, b->value, x->width * sizeof(mtl_real)) != 0);
    n.run.stream = 0;
    n.run.step = 1;                                                 /* another step */
    b = layers_dropout(&n, x);
    assert_true(memcmp(a->value, b->value, x->width * sizeof(mtl_real)) != 0);
    c.choice = 1;                                                   /* one mask for all steps of a sequence */
    a = layers_dropout(&n, x);
    assert_true(fabs(layers_dropped_share(x, a, 0.3) - 0.3) < 0.04);
    for (s = 0; s < n.sequences; s++)
        for (j = 0; j < x->width; j++) {
            size_t first = mtl_run_row(&n.run, a, s, 0),
                last = mtl_run_row(&n.run, a, s, (size_t)n.lengths[s] - 1);
            assert_int_equal(a->value[first * a->stride + j] == 0, a->value[last * a->stride + j] == 0);
        }
    net_close(&n);
}

/* ---- selection and concatenation ----------------------------------------------------------------------- */

static void layers_select_forward(net *n)
{
    layers_case *c = layers_of(n);
    mtl_activation *x = net_leaf_forward(n, 0);
    layers_end(n, x, mtl__select_forward(&n->run, NULL, x, c->items, c->item_count, "chosen"));
}

static void test_layers_selection(void **state)
{
    layers_case c;
    net n;
    int i;
    (void)state;
    for (i = 0; i < test_cases(20); i++) {
        memset(&c, 0, sizeof c);
        layers_open(&n, &c, layers_select_forward, i);
        c.item_count = (size_t)test_random_between(&n.random, 1, (int)n.rows);
        c.items = layers_random_items(&n, c.item_count, (int)n.rows);   /* a row may be chosen twice, another
                                                                           never */
        net_ready(&n, c.isa);
        layers_finish(&n, "selection");
    }
}

static void layers_concat_forward(net *n)
{
    mtl_activation *parts[4], *y;
    size_t i;
    for (i = 0; i < 3; i++) parts[i] = net_leaf_forward(n, i);
    parts[3] = parts[0];                                            /* one part twice */
    y = mtl__concat_forward(&n->run, parts, layers_of(n)->flag ? 4 : 3, "all");
    net_loss(n, y);
    if (layers_of(n)->twice) net_loss(n, parts[1]);
}

static void test_layers_concatenation(void **state)
{
    layers_case c;
    net n;
    int i;
    (void)state;
    for (i = 0; i < test_cases(20); i++) {
        memset(&c, 0, sizeof c);
        layers_open(&n, &c, layers_concat_forward, i);
        net_add_leaf(&n, "second", n.rows, c.widths[1]);
        net_add_leaf(&n, "third", n.rows, c.widths[2]);
        net_ready(&n, c.isa);
        layers_finish(&n, "concatenation");
    }
}

/* ---- layer normalisation ------------------------------------------------------------------------------- */

static mtl_norm *layers_norm;               /* of the case that runs */

static void layers_norm_forward(net *n)
{
    mtl_activation *x = net_leaf_forward(n, 0);
    layers_end(n, x, mtl_norm_forward(&n->run, layers_norm, x, "normal"));
}

/* Against the formula, in double; rows of one column are all bias. */
static void layers_expect_norm(net *n)
{
    const mtl_activation *x, *y;
    size_t row, j, width;
    net_forward(n, 0);
    x = n->leaves[0].x;
    y = mtl_norm_forward(&n->run, layers_norm, n->leaves[0].x, "normal");
    width = x->width;
    for (row = 0; row < x->rows; row++) {
        const mtl_real *from = x->value + row * x->stride, *to = y->value + row * y->stride;
        double mean = 0, variance = 0;
        for (j = 0; j < width; j++) mean += (double)from[j] / (double)width;
        for (j = 0; j < width; j++)
            variance += ((double)from[j] - mean) * ((double)from[j] - mean) / (double)width;
        for (j = 0; j < width; j++) {
            const double want = ((double)from[j] - mean) / sqrt(variance + (double)layers_norm->epsilon)
                * (double)layers_norm->gain->value[j] + (double)layers_norm->bias->value[j];
            assert_true(fabs((double)to[j] - want) < 20 * LAYERS_CLOSE);
        }
    }
}

static void test_layers_norm(void **state)
{
    layers_case c;
    net n;
    int i;
    size_t j;
    (void)state;
    for (i = 0; i < test_cases(36); i++) {
        memset(&c, 0, sizeof c);
        layers_open(&n, &c, layers_norm_forward, i);
        layers_norm = mtl_norm_add(&n.set, "norm", c.widths[0], (mtl_real)0.01, &n.err);
        net_ready(&n, c.isa);
        for (j = 0; j < c.widths[0]; j++)
            layers_norm->gain->value[j] = (mtl_real)test_random_real(&n.random, -2, 2);
        for (j = 0; j < c.widths[0]; j++)
            layers_norm->bias->value[j] = (mtl_real)test_random_real(&n.random, -1, 1);
        layers_expect_norm(&n);
        layers_finish(&n, "layer norm");
    }
}

/* ---- batch normalisation ------------------------------------------------------------------------------- */

static mtl_batch_norm *layers_batch;        /* of the case that runs */

static void layers_batch_forward(net *n)
{
    mtl_activation *x = net_leaf_forward(n, 0);
    layers_end(n, x, mtl_batch_norm_forward(&n->run, layers_batch, x, "normal"));
}

/* As torch.nn.BatchNorm1d: values, and where the running averages would go. by_batch: in training. */
static void layers_expect_batch(net *n, int by_batch)
{
    const mtl_batch_norm *b = layers_batch;
    const mtl_activation *x, *y;
    size_t r, j;
    mtl__batch_norms_move(&n->set, 0);
    net_forward(n, 0);
    x = n->leaves[0].x;
    y = mtl_batch_norm_forward(&n->run, b, n->leaves[0].x, "normal");
    for (j = 0; j < b->width; j++) {
        const double m0 = (double)b->mean->value[j], v0 = (double)b->variance->value[j];
        double mean = 0, variance = 0, rows = (double)x->rows, m = m0, v = v0;
        for (r = 0; r < x->rows; r++) mean += (double)x->value[r * x->stride + j] / rows;
        for (r = 0; r < x->rows; r++) variance += pow((double)x->value[r * x->stride + j] - mean, 2) / rows;
        if (by_batch) {                                     /* twice: net_forward ran it, too */
            const double unbiased = variance * rows / (rows - 1);
            m = 0.9 * (0.9 * m + 0.1 * mean) + 0.1 * mean;
            v = 0.9 * (0.9 * v + 0.1 * unbiased) + 0.1 * unbiased;
        }
        assert_true(fabs((double)b->next_mean[j] - m) < LAYERS_CLOSE * 10);
        assert_true(fabs((double)b->next_variance[j] - v) < LAYERS_CLOSE * 10);
        assert_true((double)b->mean->value[j] == m0 && (double)b->variance->value[j] == v0);
        if (!by_batch) mean = m0, variance = v0;
        for (r = 0; r < x->rows; r++) {
            const double want = ((double)x->value[r * x->stride + j] - mean) / sqrt(variance + 1e-5)
                * (double)b->gain->value[j] + (double)b->bias->value[j];
            assert_true(fabs((double)y->value[r * y->stride + j] - want)
                        < LAYERS_CLOSE * 100 * (1 + fabs(want)));
        }
    }
}

/* In training; out of it; with one row; frozen, when it stays an affine function. */
static void test_layers_batch_norm(void **state)
{
    layers_case c;
    net n;
    int i;
    size_t j;
    (void)state;
    for (i = 0; i < test_cases(48); i++) {
        memset(&c, 0, sizeof c);
        if (i % 6 == 5) {
            net_open(&n, layers_batch_forward, &c, (unsigned long long)i, 1, 1);
            c.isa = gradient_isa(i);
            c.widths[0] = 5;
            net_add_leaf(&n, "x", n.rows, c.widths[0]);
        } else layers_open(&n, &c, layers_batch_forward, i);
        layers_batch = mtl_batch_norm_add(&n.set, "norm", c.widths[0], &n.err);
        net_ready(&n, c.isa);
        for (j = 0; j < c.widths[0]; j++) {
            layers_batch->gain->value[j] = (mtl_real)test_random_real(&n.random, -2, 2);
            layers_batch->bias->value[j] = (mtl_real)test_random_real(&n.random, -1, 1);
            layers_batch->mean->value[j] = (mtl_real)test_random_real(&n.random, -1, 1);
            layers_batch->variance->value[j] = (mtl_real)test_random_real(&n.random, 0.2, 2);
        }
        n.run.training = i % 3 != 1;
        if (i % 4 == 3) layers_batch->gain->frozen = layers_batch->bias->frozen = 1;
        layers_expect_batch(&n, i % 3 != 1 && i % 4 != 3 && n.rows > 1);
        layers_finish(&n, "batch norm");
    }
}

/* ---- pooling ------------------------------------------------------------------------------------------- */

static mtl_activation *layers_pool(net *n, mtl_activation *x)
{
    layers_case *c = layers_of(n);
    return mtl__pool_forward(&n->run, c->choice, x, c->segments, c->flag ? 2 : 1,
                             (size_t)MTL__NOT_CARRIED, "pooled");
}

static void layers_pool_forward(net *n)
{
    mtl_activation *x = net_leaf_forward(n, 0);
    layers_end(n, x, layers_pool(n, x));
}

/* Columns in one direction, or in two halves. */
static void layers_set_segments(layers_case *c)
{
    size_t width = c->widths[0], half = c->flag ? width / 2 : width;
    if (half == 0) half = width;
    c->flag = half < width;
    c->segments[0].width = half;
    c->segments[1].begin = half;
    c->segments[1].width = width - half;
    c->segments[1].reverse = 1;
}

/* Pooled value of column j of sequence s, from the caller's view of x. */
static double layers_pooled(const net *n, const layers_case *c, const mtl_activation *x, size_t s, size_t j)
{
    size_t t, length = (size_t)n->lengths[s];
    double sum = 0, most = -1e30;
    for (t = 0; t < length; t++) {
        double value = (double)x->value[mtl_run_row(&n->run, x, s, t) * x->stride + j];
        sum += value / (double)length;
        if (value > most) most = value;
    }
    t = c->flag && j >= c->segments[1].begin ? 0 : length - 1;      /* the reverse half ends at the first
                                                                       step */
    return c->choice == MTL_POOL_MEAN ? sum : c->choice == MTL_POOL_MAX ? most
         : (double)x->value[mtl_run_row(&n->run, x, s, t) * x->stride + j];
}

static void test_layers_pooling(void **state)
{
    layers_case c;
    net n;
    int i;
    size_t s, j;
    (void)state;
    for (i = 0; i < test_cases(36); i++) {
        mtl_activation *x, *y;
        memset(&c, 0, sizeof c);
        layers_open(&n, &c, layers_pool_forward, i);
        c.choice = MTL_POOL_LAST + i / 2 % 3;
        layers_set_segments(&c);
        net_ready(&n, c.isa);
        n.bent = c.choice == MTL_POOL_MAX;
        net_forward(&n, 0);
        x = n.leaves[0].x;
        y = layers_pool(&n, x);
        assert_int_equal(y->rows, n.sequences);
        for (s = 0; s < n.sequences; s++)
            for (j = 0; j < y->width; j++)
                assert_true(fabs((double)y->value[(size_t)n.run.packing->place[s] * y->stride + j]
                                 - layers_pooled(&n, &c, x, s, j)) < LAYERS_CLOSE);
        layers_finish(&n, "pooling");
    }
}

/* Of equal values the first one counts, and it alone gets the gradient. */
static void test_layers_pooling_of_equals(void **state)
{
    layers_case c;
    net n;
    size_t i;
    double total = 0;
    (void)state;
    memset(&c, 0, sizeof c);
    net_open(&n, layers_pool_forward, &c, 1, 1, 1);
    n.lengths[0] = 4;
    n.rows = 4;
    net_add_leaf(&n, "x", 4, 1);
    c.choice = MTL_POOL_MAX;
    for (i = 0; i < 4; i++) n.leaves[0].value[i] = i == 0 ? -1 : 1;
    net_ready(&n, MTL_ISA_AUTO);
    net_forward(&n, 1);
    net_backward(&n);
    for (i = 0; i < 4; i++) {
        double grad = (double)n.leaves[0].x->grad[i * n.leaves[0].x->stride];
        assert_int_equal(grad != 0, i == 1);
        total += grad;
    }
    assert_true(total != 0);
    net_close(&n);
}

/* ---- passes over rows: the same bits on any number of threads ------------------------------------------ */

/* Every layer that only copies or changes values, wide and long enough for several jobs, and a loss. */
static void layers_passes_forward(net *n)
{
    static const mtl_scaling scaling;      /* not set */
    layers_case *c = layers_of(n);
    mtl_activation *x = net_leaf_forward(n, 0), *parts[3], *y;
    mtl__loss_data how;
    parts[0] = mtl__features_forward(&n->run, net_steps(n), n->leaves[1].value, n->leaves[1].width, &scaling,
                                     "");
    parts[1] = mtl__activate_forward(&n->run, MTL_ACTIVATION_TANH, x, "");
    parts[2] = mtl__activate_forward(&n->run, MTL_ACTIVATION_RELU, x, "");
    y = mtl__select_forward(&n->run, NULL, mtl__concat_forward(&n->run, parts, 3, ""), c->items,
                            c->item_count, "");
    memset(&how, 0, sizeof how);
    how.loss = MTL_LOSS_HUBER;
    how.delta = (mtl_real)0.3;
    how.target = &c->target;
    how.items = c->items;
    how.scaling = &scaling;
    how.divisor = 7;
    n->losses[0] = mtl__loss_forward(&n->run, &how, y, "");
    n->losses[1] = mtl__loss_forward(&n->run, &how, parts[1], "");
    n->loss_count = 2;
}

static void test_layers_passes_on_threads(void **state)
{
    enum { SEQUENCES = 60, WIDTH = 300, VALUES = SEQUENCES * 9 * 2 * WIDTH };
    static const int threads[] = { 1, 2, 3, 8 };
    mtl_real *first = (mtl_real *)calloc(VALUES, sizeof *first), loss[2] = { 0, 0 };
    size_t i, k;
    (void)state;
    assert_non_null(first);
    for (i = 0; i < 4; i++) {
        layers_case c;
        mtl__pool *pool;
        net n;
        memset(&c, 0, sizeof c);
        net_open(&n, layers_passes_forward, &c, 5, SEQUENCES, 9);
        net_add_leaf(&n, "x", n.rows, WIDTH);
        net_add_leaf(&n, "features", n.rows, 60);
        net_add_leaf(&n, "targets", n.rows, 2 * WIDTH + 60);
        c.item_count = n.rows;
        c.items = layers_random_items(&n, n.rows, (int)n.rows);
        c.target.values = n.leaves[2].value;
        net_ready(&n, MTL_ISA_AUTO);
        pool = threads[i] > 1 ? mtl__pool_create(&n.memory, threads[i], &n.err) : NULL;
        n.run.scheduler = mtl__pool_scheduler(pool);
        net_forward(&n, 1);
        net_backward(&n);
        for (k = 0; k < 2; k++) {
            if (i == 0) loss[k] = n.losses[k]->value[0];
            assert_true(loss[k] > 0 && n.losses[k]->value[0] == loss[k]);
        }
        for (k = 0; k < n.rows; k++) {
            const mtl_real *grad = n.leaves[0].x->grad + k * n.leaves[0].x->stride;
            if (i == 0) memcpy(first + k * WIDTH, grad, WIDTH * sizeof *grad);
            assert_memory_equal(first + k * WIDTH, grad, WIDTH * sizeof *grad);
        }
        mtl__pool_destroy(pool);
        net_close(&n);
    }
    free(first);
}

/* ---- a layer of your own ----------------------------------------------------------------------------------
   y = x * tanh(gain), with one gain a column. Forward computes, then records; backward asks where its
   gradients go, and adds or assigns as it is told. Everything here is of the public interface. */

typedef struct gain_layer { mtl_tensor *gain; } gain_layer;
typedef struct gain_data { const gain_layer *layer; mtl_activation *x, *y; } gain_data;

static void gain_add(gain_layer *layer, mtl_parameters *set, const char *name, size_t width, mtl_error *err)
{
    layer->gain = mtl_parameters_add(set, name, width, 0, MTL_TENSOR_WEIGHT, err);
    if (layer->gain) layer->gain->initial = 0.5f;
}

static void gain_backward(mtl_run *run, void *data)
{
    const gain_data *d = (const gain_data *)data;
    const mtl_real *gain = d->layer->gain->value;
    int add_x, add_gain;
    mtl_real *dx = mtl_run_grad(run, d->x, &add_x);                         /* NULL: the input wants none */
    /* NULL: the parameter is frozen */
    mtl_real *dgain = mtl_run_tensor_grad(run, d->layer->gain, &add_gain);
    size_t n, j;
    for (j = 0; dgain && !add_gain && j < d->x->width; j++) dgain[j] = 0;
    for (n = 0; n < d->x->rows; n++) {
        const mtl_real *x = d->x->value + n * d->x->stride, *dy = d->y->grad + n * d->y->stride;
        for (j = 0; j < d->x->width; j++) {
            mtl_real factor = (mtl_real)tanh((double)gain[j]), *to = dx ? dx + n * d->x->stride + j : NULL;
            if (to) *to = (add_x ? *to : 0) + factor * dy[j];
            if (dgain) dgain[j] += (1 - factor * factor) * x[j] * dy[j];
        }
    }
}

static mtl_activation *gain_forward(mtl_run *run, const gain_layer *layer, mtl_activation *x)
{
    gain_data *d = (gain_data *)mtl_run_make(run, sizeof *d);
    mtl_activation *y = mtl_run_activation(run, "gain", x->rows, x->width);
    size_t n, j;
    if (!d || !y) return NULL;                                              /* run->error says why */
    d->layer = layer;
    d->x = x;
    d->y = y;
    for (n = 0; n < x->rows; n++)
        for (j = 0; j < x->width; j++)
            y->value[n * y->stride + j] = x->value[n * x->stride + j]
                * (mtl_real)tanh((double)layer->gain->value[j]);
    mtl_run_record(run, y, gain_backward, d);
    return y;
}

/* A small program around it: dense, gain, dense, one number out for one row in. */
typedef struct gain_program {
    mtl_arena memory, scratch;
    mtl_parameters set;
    mtl_gradients *gradients;
    mtl_dense *first, *last;
    gain_layer gain;
    mtl_tape tape;
    mtl_run run;
    mtl_error err;
    mtl_activation *loss;
} gain_program;

static double gain_loss(void *user)
{
    static const mtl_real input[3] = { (mtl_real)0.3, (mtl_real)-0.8, (mtl_real)0.5 };
    gain_program *p = (gain_program *)user;
    mtl_activation *x;
    mtl_arena_destroy(&p->scratch);                                         /* what the last pass made */
    mtl_arena_init(&p->scratch, NULL, 0, NULL);
    memset(&p->tape, 0, sizeof p->tape);
    mtl_parameters_prepare(&p->set, MTL_ISA_AUTO, &p->err);         /* values have changed: pack them again */
    x = mtl_run_activation(&p->run, "x", 1, 3);
    memcpy(x->value, input, sizeof input);
    x->constant = 1;
    x = mtl_dense_forward(&p->run, p->first, x, "first");
    x = gain_forward(&p->run, &p->gain, x);
    p->loss = mtl_dense_forward(&p->run, p->last, x, "last");
    return (double)p->loss->value[0];
}

static void gain_open(gain_program *p)
{
    memset(p, 0, sizeof *p);
    mtl_arena_init(&p->memory, NULL, 0, NULL);
    mtl_parameters_init(&p->set, &p->memory);
    p->first = mtl_dense_add(&p->set, "first", 3, 5, 0, &p->err);
    gain_add(&p->gain, &p->set, "gain", 5, &p->err);
    p->last = mtl_dense_add(&p->set, "last", 5, 1, 0, &p->err);
    mtl_parameters_allocate(&p->set, &p->err);
    mtl_parameters_randomise(&p->set, 3);
    p->gradients = mtl_gradients_create(&p->set, &p->memory, &p->err);
    p->run.kernels = mtl__kernels_choose(MTL_ISA_AUTO);             /* or mtl_trainer_run(trainer)->kernels */
    p->run.arena = &p->scratch;
    p->run.tape = &p->tape;
    p->run.gradients = p->gradients;
    p->run.packings = mtl_packings_create(&p->set, &p->memory, &p->err);
    p->run.error = &p->err;
}

static void test_layers_of_your_own(void **state)
{
    static const mtl_real one = 1;
    gain_program p;
    mtl_check_array arrays[5];
    mtl_check_result result;
    size_t i;
    (void)state;
    gain_open(&p);
    gain_loss(&p);
    mtl_packings_prepare(p.run.packings, &p.run);
    mtl_tape_backward(&p.run, &p.loss, &one, 1, 0);
    TEST_FINE(&p.err);
    memset(arrays, 0, sizeof arrays);
    for (i = 0; i < p.set.count; i++) {
        arrays[i].name = p.set.tensors[i]->name;
        arrays[i].value = p.set.tensors[i]->value;
        arrays[i].grad = mtl_gradients_get(p.gradients, p.set.tensors[i])->value;
        arrays[i].count = p.set.tensors[i]->count;
    }
    mtl_check_gradients(gain_loss, &p, arrays, p.set.count, GRADIENT_STEP, &result, &p.err);
    TEST_FINE(&p.err);
    if (result.worst_error > GRADIENT_TOLERANCE) fail_msg("%s: %g", result.worst_name, result.worst_error);
    assert_int_equal(result.elements + result.kinks, 3 * 5 + 5 + 5 + 5 + 1);
    mtl_arena_destroy(&p.scratch);
    mtl_arena_destroy(&p.memory);
}

#define TEST_LAYERS \
    cmocka_unit_test(test_layers_embedding), cmocka_unit_test(test_layers_embedding_rows_and_dense), \
    cmocka_unit_test(test_layers_embedding_values), cmocka_unit_test(test_layers_embedding_scatter), \
        cmocka_unit_test(test_layers_features), cmocka_unit_test(test_layers_dense), \
    cmocka_unit_test(test_layers_frozen), cmocka_unit_test(test_layers_activations), \
        cmocka_unit_test(test_layers_dropout_gradient), \
    cmocka_unit_test(test_layers_dropout_masks), cmocka_unit_test(test_layers_selection), \
        cmocka_unit_test(test_layers_concatenation), cmocka_unit_test(test_layers_passes_on_threads), \
    cmocka_unit_test(test_layers_batch_norm), cmocka_unit_test(test_layers_norm), \
    cmocka_unit_test(test_layers_pooling), cmocka_unit_test(test_layers_pooling_of_equals), \
        cmocka_unit_test(test_layers_of_your_own)
