/* Section 10: parameter sets, their gradients' states, and packings that follow the values. */

static void test_tensor_set(void **state)
{
    mtl_error err = {0};
    mtl_parameters set;
    mtl_arena arena;
    mtl_tensor *t;
    char name[32];
    size_t i, total = 0;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    mtl_parameters_init(&set, &arena);
    for (i = 0; i < 50; i++) {                                           /* more than the table begins with */
        snprintf(name, sizeof name, "tensor%d", (int)i);
        t = mtl_parameters_add(&set, name, i + 1, i % 3, MTL_TENSOR_WEIGHT, &err);
        TEST_FINE(&err);
        assert_int_equal(t->dims, i % 3 ? 2 : 1);
        assert_int_equal(t->shape[0], i + 1);
        assert_int_equal(t->shape[1], i % 3 ? i % 3 : 1);
        assert_int_equal(t->count, (i + 1) * (i % 3 ? i % 3 : 1));
        assert_int_equal(t->offset, total);
        assert_int_equal(t->offset % 16, 0);
        assert_int_equal(t->index, i);
        total += (t->count + 15) / 16 * 16;
    }
    strcpy(name, "spoilt");                                                 /* names were copied */
    assert_int_equal(set.count, 50);
    assert_int_equal(set.total, total);
    assert_ptr_equal(mtl_parameters_find(&set, "tensor49"), t);
    assert_null(mtl_parameters_find(&set, "tensor50"));
    assert_null(mtl_parameters_add(&set, "tensor3", 1, 1, MTL_TENSOR_WEIGHT, &err));
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "tensor3", "exists already");
    assert_null(mtl_parameters_add(&set, "huge", (size_t)-1 / 4, (size_t)-1 / 4, MTL_TENSOR_WEIGHT, &err));
    test_expect_error(&err, MTL_ERROR_MEMORY, "huge", "larger than memory");
    assert_int_equal(mtl_parameters_allocate(&set, &err), MTL_OK);
    for (i = 0; i < set.count; i++) {
        assert_ptr_equal(set.tensors[i]->value, set.block + set.tensors[i]->offset);
        assert_int_equal((uintptr_t)set.tensors[i]->value % 64, 0);
    }
    assert_null(mtl_parameters_add(&set, "late", 1, 1, MTL_TENSOR_WEIGHT, &err));
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "late", "allocated already");
    mtl_arena_destroy(&arena);
}

/* Buffers stand beside the parameters: neither their order nor their number moves the block. */
static void test_tensor_buffers(void **state)
{
    mtl_error err = {0};
    mtl_parameters set;
    mtl_arena arena;
    mtl_tensor *t;
    char name[32];
    int given = 0;
    size_t i;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    mtl_parameters_init(&set, &arena);
    for (i = 0; i < 60; i++) {
        snprintf(name, sizeof name, "%s%d", i % 2 ? "buffers.x" : "x", (int)i);
        t = mtl_parameters_add(&set, name, 3, 2, i % 2 ? MTL_TENSOR_BUFFER : MTL_TENSOR_WEIGHT, &err);
        TEST_FINE(&err);
        assert_int_equal(t->index, i % 2 ? 0 : i / 2);
        assert_int_equal(t->frozen, i % 2);
        if (i % 2) t->init = MTL_INIT_IDENTITY;
    }
    assert_int_equal(set.count, 30);
    assert_int_equal(set.buffer_count, 30);
    assert_int_equal(set.total, 30 * 16);
    assert_null(mtl_parameters_add(&set, "buffers.x1", 3, 0, MTL_TENSOR_BUFFER, &err));
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "buffers.x1", "exists already");
    assert_int_equal(mtl_parameters_allocate(&set, &err), MTL_OK);
    t = mtl_parameters_find(&set, "buffers.x59");
    assert_ptr_equal(t, set.buffers[29]);
    assert_true(t->value[0] == 0);
    mtl_parameters_randomise(&set, 1);
    assert_true(t->value[0] == 1 && t->value[1] == 0 && t->value[3] == 1);
    t->value[0] = 5;
    t->set = &given;
    mtl_parameters_randomise(&set, 1);                                      /* holds nothing: filled again */
    assert_true(t->value[0] == 1);
    t->value[0] = 5;
    given = 1;
    mtl_parameters_randomise(&set, 1);
    assert_true(t->value[0] == 5);
    mtl_arena_destroy(&arena);
}

/* Initial values depend on seed and name, not on what else is in the set. */
static void test_tensor_initial_values(void **state)
{
    mtl_error err = {0};
    mtl_parameters a, b;
    mtl_arena arena;
    mtl_tensor *t, *u, *normal;
    double sum = 0, squares = 0;
    size_t i;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    mtl_parameters_init(&a, &arena);
    mtl_parameters_init(&b, &arena);
    t = mtl_parameters_add(&a, "same", 100, 10, MTL_TENSOR_WEIGHT, &err);
    normal = mtl_parameters_add(&a, "normal", 300, 100, MTL_TENSOR_EMBEDDING, &err);
    mtl_parameters_add(&b, "other", 3, 3, MTL_TENSOR_WEIGHT, &err);
    u = mtl_parameters_add(&b, "same", 100, 10, MTL_TENSOR_WEIGHT, &err);
    t->initial = u->initial = 0.25f;
    mtl_parameters_allocate(&a, &err);
    mtl_parameters_allocate(&b, &err);
    TEST_FINE(&err);
    mtl_parameters_randomise(&a, 5);
    mtl_parameters_randomise(&b, 5);
    assert_memory_equal(t->value, u->value, t->count * sizeof(mtl_real));
    mtl_parameters_randomise(&b, 6);
    assert_true(memcmp(t->value, u->value, t->count * sizeof(mtl_real)) != 0);
    for (i = 0; i < t->count; i++) {
        assert_true(fabs((double)t->value[i]) <= 0.25);
        sum += (double)t->value[i];
        squares += (double)t->value[i] * (double)t->value[i];
    }
    assert_true(fabs(sum / 1000) < 0.02 && fabs(squares / 1000 - 0.25 * 0.25 / 3) < 0.003);
    for (i = 0, sum = squares = 0; i < normal->count; i++) {
        sum += (double)normal->value[i];
        squares += (double)normal->value[i] * (double)normal->value[i];
    }
    assert_true(fabs(sum / 30000) < 0.03 && fabs(squares / 30000 - 1) < 0.05);
    mtl_arena_destroy(&arena);
}

/* A set of one tensor, filled by a rule. */
typedef struct tensor_filled {
    mtl_arena arena;
    mtl_parameters set;
    mtl_tensor *t;
} tensor_filled;

static void tensor_fill(tensor_filled *f, int init, float initial, size_t gates, size_t rows, size_t columns)
{
    mtl_error err = {0};
    mtl_arena_init(&f->arena, NULL, 0, NULL);
    mtl_parameters_init(&f->set, &f->arena);
    f->t = mtl_parameters_add(&f->set, "t", rows, columns, MTL_TENSOR_WEIGHT, &err);
    f->t->init = init;
    f->t->initial = initial;
    f->t->gates = gates;
    mtl_parameters_allocate(&f->set, &err);
    TEST_FINE(&err);
    mtl_parameters_randomise(&f->set, 3);
}

static void test_tensor_init_names(void **state)
{
#define TENSOR_NAME_IS(value, name) assert_string_equal(mtl_init_name(value), name);
    (void)state;
    MTL_INIT_NAMES(TENSOR_NAME_IS)
    assert_null(mtl_init_name(MTL_INIT_DEFAULT));
    assert_null(mtl_init_name(MTL_INIT_IDENTITY + 1));
    assert_null(mtl_init_name(-1));
}

/* The bits of the first rules are those of the random numbers themselves. */
static void test_tensor_init_bits(void **state)
{
    static const struct { int init; float initial; } rules[] = {
        { MTL_INIT_DEFAULT, 0.1f }, { MTL_INIT_UNIFORM, 0.1f }, { MTL_INIT_DEFAULT, 0 },
        { MTL_INIT_NORMAL, 0 } };
    const uint64_t stream = mtl__hash(MTL__HASH_BEGIN, "t", 1);
    size_t i, k;
    (void)state;
    for (i = 0; i < 4; i++) {
        tensor_filled f;
        tensor_fill(&f, rules[i].init, rules[i].initial, 1, 40, 5);
        for (k = 0; k < f.t->count; k++) {
            mtl_real uniform = (mtl_real)((2 * mtl__random_uniform(3, stream, k) - 1) * (double)0.1f);
            assert_true(f.t->value[k] == (i < 2 ? uniform : (mtl_real)mtl__random_normal(3, stream, k)));
        }
        mtl_arena_destroy(&f.arena);
    }
}

/* Means and variances of the random rules; `largest`: what no element exceeds. */
static void test_tensor_init_statistics(void **state)
{
    static const struct { int init; float initial; size_t gates, rows, columns; double variance, largest; }
    rules[] = {
        { MTL_INIT_UNIFORM, 0.3f, 1, 400, 100, 0.3 * 0.3 / 3, 0.3001 },
        { MTL_INIT_NORMAL, 0.3f, 1, 400, 100, 0.3 * 0.3, 2 },
        { MTL_INIT_XAVIER, 0, 1, 300, 100, 2 / 400.0, 0.12248 },                /* sqrt(6 / 400) */
        { MTL_INIT_XAVIER, 2, 4, 400, 100, 4 * 2 / 200.0, 0.34642 },            /* 2 sqrt(6 / 200) */
        { MTL_INIT_HE, 0, 4, 400, 100, 2 / 100.0, 1 },
        { MTL_INIT_HE, 0.5f, 1, 400, 100, 0.25 * 2 / 100.0, 1 },
        { MTL_INIT_ORTHOGONAL, 0, 4, 400, 100, 1 / 100.0, 1 } };
    size_t i, k;
    (void)state;
    for (i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        tensor_filled f;
        double sum = 0, squares = 0, n, largest = 0;
        tensor_fill(&f, rules[i].init, rules[i].initial, rules[i].gates, rules[i].rows, rules[i].columns);
        for (k = 0; k < f.t->count; k++) {
            double x = (double)f.t->value[k];
            sum += x;
            squares += x * x;
            if (fabs(x) > largest) largest = fabs(x);
        }
        n = (double)f.t->count;
        assert_true(fabs(sum / n) < 4 * sqrt(rules[i].variance / n));
        assert_true(fabs(squares / n / rules[i].variance - 1) < 0.04);
        assert_true(largest <= rules[i].largest);
        mtl_arena_destroy(&f.arena);
    }
}

/* Largest difference between factor^2 I and the products of the vectors of a block: its rows, or its columns
   when these are fewer. */
static double tensor_not_orthogonal(const mtl_real *w, size_t rows, size_t columns, double factor)
{
    size_t count = rows < columns ? rows : columns, length = rows < columns ? columns : rows, i, j, k;
    double worst = 0;
    for (i = 0; i < count; i++)
        for (j = 0; j <= i; j++) {
            double dot = i == j ? -factor * factor : 0;
            for (k = 0; k < length; k++)
                dot += rows <= columns ? (double)w[i * columns + k] * (double)w[j * columns + k]
                                       : (double)w[k * columns + i] * (double)w[k * columns + j];
            if (fabs(dot) > worst) worst = fabs(dot);
        }
    return worst;
}

static void test_tensor_init_orthogonal(void **state)
{
    static const struct { size_t gates, rows, columns; float initial; double factor; } shapes[] = {
        { 1, 1, 1, 0, 1 }, { 1, 20, 20, 0, 1 }, { 1, 9, 31, 0, 1 }, { 1, 31, 9, 0, 1 }, { 4, 400, 100, 0, 1 },
        { 3, 96, 32, 0.5f, 0.5 }, { 3, 6, 40, 0, 1 }, { 4, 160, 7, 0, 1 } };
    const double most = sizeof(mtl_real) == sizeof(float) ? 1e-6 : 1e-14;
    size_t i, g;
    (void)state;
    for (i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const size_t rows = shapes[i].rows / shapes[i].gates, block = rows * shapes[i].columns;
        tensor_filled f;
        tensor_fill(&f, MTL_INIT_ORTHOGONAL, shapes[i].initial, shapes[i].gates, shapes[i].rows,
                    shapes[i].columns);
        for (g = 0; g < shapes[i].gates; g++)
            assert_true(tensor_not_orthogonal(f.t->value + g * block, rows, shapes[i].columns,
                                              shapes[i].factor) <= most);
        if (shapes[i].gates > 1) assert_true(memcmp(f.t->value, f.t->value + block, sizeof(mtl_real)) != 0);
        mtl_arena_destroy(&f.arena);
    }
}

static void test_tensor_init_exact(void **state)
{
    tensor_filled f;
    size_t k;
    (void)state;
    tensor_fill(&f, MTL_INIT_CONSTANT, -2.5f, 1, 7, 0);
    for (k = 0; k < 7; k++) assert_true(f.t->value[k] == -2.5f);
    mtl_arena_destroy(&f.arena);
    tensor_fill(&f, MTL_INIT_IDENTITY, 0, 3, 12, 4);
    for (k = 0; k < 48; k++) assert_true(f.t->value[k] == (k / 4 % 4 == k % 4));
    mtl_arena_destroy(&f.arena);
    tensor_fill(&f, MTL_INIT_IDENTITY, 0.01f, 1, 3, 5);
    for (k = 0; k < 15; k++) assert_true(f.t->value[k] == (k / 5 == k % 5 ? 0.01f : 0.0f));
    f.t->init = MTL_INIT_CONSTANT;                                          /* some rows begin otherwise */
    f.t->init_rows.first = 1;
    f.t->init_rows.count = 2;
    f.t->init_rows.factor = 2;
    f.t->init_rows.addend = 1;
    f.t->initial = 0.5f;
    mtl_parameters_randomise(&f.set, 3);
    for (k = 0; k < 15; k++) assert_true(f.t->value[k] == (k < 5 ? 0.5f : 2.0f));
    mtl_arena_destroy(&f.arena);
}

/* Every rule: from seed and name alone; the random ones change with either. */
static void test_tensor_init_depends_on_seed_and_name(void **state)
{
    int init;
    (void)state;
    for (init = MTL_INIT_UNIFORM; mtl_init_name(init); init++) {
        const int fixed = init == MTL_INIT_CONSTANT || init == MTL_INIT_IDENTITY;
        tensor_filled f;
        mtl_real first[64];
        size_t i;
        tensor_fill(&f, init, 0.5f, 2, 8, 8);
        memcpy(first, f.t->value, sizeof first);
        for (i = 0; i < 3; i++) {
            f.t->name = i == 1 ? "u" : "t";
            mtl_parameters_randomise(&f.set, i == 0 ? 4 : 3);
            assert_int_equal(memcmp(first, f.t->value, sizeof first) == 0, fixed || i == 2);
        }
        mtl_arena_destroy(&f.arena);
    }
}

/* ---- gradients ----------------------------------------------------------------------------------------- */

typedef struct tensor_set {
    mtl_arena arena;
    mtl_parameters set;
    mtl_tensor *weight, *embedding;
    mtl_gradients *gradients;
    mtl_error err;
    mtl_run run;
} tensor_set;

static void tensor_set_create(tensor_set *s)
{
    memset(s, 0, sizeof *s);
    mtl_arena_init(&s->arena, NULL, 0, NULL);
    mtl_parameters_init(&s->set, &s->arena);
    s->weight = mtl_parameters_add(&s->set, "weight", 3, 2, MTL_TENSOR_WEIGHT, &s->err);
    s->embedding = mtl_parameters_add(&s->set, "embedding", 10, 4, MTL_TENSOR_EMBEDDING, &s->err);
    mtl_parameters_allocate(&s->set, &s->err);
    s->gradients = mtl_gradients_create(&s->set, &s->arena, &s->err);
    s->run.arena = &s->arena;
    s->run.gradients = s->gradients;
    s->run.error = &s->err;
    TEST_FINE(&s->err);
}

static void test_tensor_gradient_states(void **state)
{
    static const int first[2] = { 2, 9 }, second[2] = { 0, 7 };
    tensor_set s;
    mtl_gradient *g;
    mtl_real *values;
    int add;
    size_t i, begin;
    (void)state;
    tensor_set_create(&s);
    g = mtl_gradients_get(s.gradients, s.weight);
    assert_int_equal(g->state, MTL_GRAD_NONE);
    assert_int_equal(mtl__gradient_ranges(g), 0);
    values = mtl_run_tensor_grad(&s.run, s.weight, &add);
    assert_ptr_equal(values, g->value);
    assert_int_equal(add, 0);                                               /* the first write assigns */
    assert_int_equal(g->state, MTL_GRAD_DENSE);
    (void)mtl_run_tensor_grad(&s.run, s.weight, &add);
    assert_int_equal(add, 1);                                               /* later ones add */
    assert_int_equal(mtl__gradient_ranges(g), 1);
    assert_int_equal(mtl__gradient_range(g, s.weight, 0, &begin), 6);

    g = mtl_gradients_get(s.gradients, s.embedding);
    for (i = 0; i < 40; i++) g->value[i] = 5;                               /* left over from before */
    g->state = MTL_GRAD_ROWS;
    mtl__gradient_add_rows(s.gradients, s.embedding, first, 2);             /* ascending lists, merged */
    mtl__gradient_add_rows(s.gradients, s.embedding, second, 2);
    mtl__gradient_add_rows(s.gradients, s.embedding, second, 0);
    assert_int_equal(g->row_count, 4);
    assert_true(g->rows[0] == 0 && g->rows[1] == 2 && g->rows[2] == 7 && g->rows[3] == 9);
    assert_int_equal(mtl__gradient_range(g, s.embedding, 2, &begin), 4);
    assert_int_equal(begin, 28);
    for (i = 0; i < 40; i++) g->value[i] = i / 4 == 0 || i / 4 == 2 || i / 4 == 7 || i / 4 == 9 ? 0 : 5;
    g->value[28] = 3;
    /* ROWS + DENSE = DENSE: the rest becomes zero */
    values = mtl_run_tensor_grad(&s.run, s.embedding, &add);
    assert_int_equal(add, 1);
    assert_int_equal(g->state, MTL_GRAD_DENSE);
    for (i = 0; i < 40; i++) assert_true(values[i] == (i == 28 ? 3 : 0));

    mtl__gradients_reset(s.gradients);
    assert_int_equal(g->state, MTL_GRAD_NONE);
    assert_int_equal(g->row_count, 0);
    g->state = MTL_GRAD_ROWS;
    /* the marks were forgotten, too */
    for (i = 0; i < 10; i++) assert_int_equal(s.gradients->touched[s.embedding->index][i], 0);
    s.embedding->frozen = 1;
    assert_null(mtl_gradients_get(s.gradients, s.embedding));
    assert_null(mtl_run_tensor_grad(&s.run, s.embedding, &add));
    mtl_arena_destroy(&s.arena);
}

/* What a batch does to an embedding's gradient: only rows that it used, padding never. */
static void test_tensor_embedding_rows(void **state)
{
    int number, cases = test_cases(50);
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = {0};
        mtl_error err = {0};
        test_problem p;
        mtl_model *model;
        mtl_trainer *trainer;
        mtl_gradient *g;
        const mtl_tensor *t;
        int used[TEST_VOCABULARY] = {0}, id, n = 0;
        size_t i;
        shape.sequences = 1 + number % 6;
        shape.seed = (unsigned long long)number;
        test_problem_create(&p, &shape);
        p.inputs[0].padding_zero = number % 2;
        test_ids(p.data)[0] = 0;
        model = mtl_model_create(&p.desc, &err);
        trainer = mtl_trainer_create(model, NULL, &err);
        mtl_train_gradients(trainer, p.batch, 1, NULL, &err);
        TEST_FINE(&err);
        t = mtl_model_tensor(model, "words.weight");
        g = mtl_gradients_get(mtl_trainer_gradients(trainer), t);
        for (i = 0; i < p.data->rows; i++) used[p.data->inputs[0].ids[i]] = 1;
        if (p.inputs[0].padding_zero) used[0] = 0;
        for (id = 0; id < TEST_VOCABULARY; id++)
            if (used[id]) assert_int_equal(g->rows[n++], id);
        assert_int_equal(g->row_count, n);
        if (n) assert_int_equal(g->state, MTL_GRAD_ROWS);
        for (id = 0; p.inputs[0].padding_zero && id < p.inputs[0].width; id++) assert_true(t->value[id] == 0);
        mtl_trainer_destroy(trainer);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

/* ---- packings ------------------------------------------------------------------------------------------ */

/* Products read packed weights: they follow a change by hand after mtl_parameters_prepare. */
static void test_tensor_prepare(void **state)
{
    mtl_error err = {0};
    mtl_arena arena;
    mtl_parameters set;
    mtl_dense *dense;
    mtl_activation *x, *y;
    mtl_run run;
    size_t n, o, i, round;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    mtl_parameters_init(&set, &arena);
    dense = mtl_dense_add(&set, "dense", 5, 20, 0, &err);
    mtl_parameters_allocate(&set, &err);
    memset(&run, 0, sizeof run);
    run.kernels = mtl__kernels_choose(MTL_ISA_AUTO);
    run.arena = &arena;
    run.error = &err;
    x = mtl_run_activation(&run, "x", 3, 5);
    TEST_FINE(&err);
    for (n = 0; n < 3; n++)
        for (i = 0; i < 5; i++) x->value[n * x->stride + i] = (mtl_real)(n + 1) * (mtl_real)i;
    for (round = 0; round < 2; round++) {
        mtl_parameters_randomise(&set, round);
        mtl_parameters_prepare(&set, MTL_ISA_AUTO, &err);
        y = mtl_dense_forward(&run, dense, x, "y");
        TEST_FINE(&err);
        for (n = 0; n < 3; n++)
            for (o = 0; o < 20; o++) {
                double sum = (double)set.tensors[1]->value[o];
                for (i = 0; i < 5; i++) sum += (double)set.tensors[0]->value[o * 5 + i]
                    * (double)x->value[n * x->stride + i];
                assert_true(fabs(sum - (double)y->value[n * y->stride + o]) < 1e-5);
            }
    }
    mtl_arena_destroy(&arena);
}

static void test_tensor_prepare_unsupported(void **state)
{
    mtl_error err = {0};
    mtl_arena arena;
    mtl_parameters set;
    int isa, missing = 0;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    mtl_parameters_init(&set, &arena);
    for (isa = 0; isa < MTL_ISA_COUNT; isa++) {
        if (mtl__kernels_choose(isa)) {
            assert_int_equal(mtl_parameters_prepare(&set, isa, &err), MTL_OK);
            continue;
        }
        missing++;
        assert_int_equal(mtl_parameters_prepare(&set, isa, &err), MTL_ERROR_UNSUPPORTED);
        test_expect_error(&err, MTL_ERROR_UNSUPPORTED, mtl__isa_name(isa), "this machine has no");
    }
    assert_true(missing > 0);                                          /* no machine has both SSE2 and NEON */
    mtl_arena_destroy(&arena);
}

/* What a kind of one's own keeps is counted in a dry run, and is there to be written to. */
static void test_tensor_make(void **state)
{
    static const char zeros[100] = { 0 };
    mtl_error err = {0};
    mtl_arena arena, shadow;
    mtl_parameters set;
    void *memory;
    (void)state;
    mtl_arena_init(&shadow, NULL, 0, NULL);
    mtl__arena_init_counting(&arena, &shadow);
    mtl_parameters_init(&set, &arena);
    memory = mtl_parameters_make(&set, sizeof zeros, &err);
    TEST_FINE(&err);
    assert_int_equal(arena.used, 128);
    assert_memory_equal(memory, zeros, sizeof zeros);
    memset(memory, 1, sizeof zeros);
    mtl_arena_fail_next(&arena, 1);
    assert_null(mtl_parameters_make(&set, 1, &err));
    test_expect_error(&err, MTL_ERROR_MEMORY, "a layer", "out of memory");
    mtl_arena_destroy(&shadow);
}

#define TEST_TENSOR \
    cmocka_unit_test(test_tensor_set), cmocka_unit_test(test_tensor_buffers), \
    cmocka_unit_test(test_tensor_initial_values), \
    cmocka_unit_test(test_tensor_init_names), cmocka_unit_test(test_tensor_init_bits), \
    cmocka_unit_test(test_tensor_init_statistics), cmocka_unit_test(test_tensor_init_orthogonal), \
    cmocka_unit_test(test_tensor_init_exact), \
    cmocka_unit_test(test_tensor_init_depends_on_seed_and_name), \
    cmocka_unit_test(test_tensor_gradient_states), cmocka_unit_test(test_tensor_embedding_rows), \
    cmocka_unit_test(test_tensor_prepare), cmocka_unit_test(test_tensor_prepare_unsupported), \
    cmocka_unit_test(test_tensor_make)
