/* >>check: the gradient checker itself: it must pass right gradients, find wrong ones, and know a kink.
   Included by tests/main.c. */

/* Steps and tolerances that suit the precision: the losses below compute in double, the arrays hold
   mtl_real. */
#define CHECK_STEP (MTL__REAL_IS_DOUBLE ? 1e-5 : 1.0 / 128)
#define CHECK_TOLERANCE (MTL__REAL_IS_DOUBLE ? 1e-9 : 1e-3)

typedef struct check_case {
    mtl_real x[4], grad[4], y[2], grad_y[2];
    double kink;                            /* where check_bent has its kink */
    int calls, nan_at_call;
} check_case;

/* x0^3 + sin x1 + x0 x2 + 3 y0; x3 and y1 do not matter. */
static double check_smooth(void *user)
{
    check_case *c = (check_case *)user;
    double x0 = (double)c->x[0];
    if (++c->calls == c->nan_at_call) return (double)NAN;
    return x0 * x0 * x0 + sin((double)c->x[1]) + x0 * (double)c->x[2] + 3 * (double)c->y[0];
}

static check_case check_smooth_case(void)
{
    check_case c;
    memset(&c, 0, sizeof c);
    c.x[0] = (mtl_real)1.25;
    c.x[1] = (mtl_real)-0.5;
    c.x[2] = (mtl_real)0.75;
    c.grad[0] = (mtl_real)(3 * 1.25 * 1.25 + 0.75);
    c.grad[1] = (mtl_real)cos(-0.5);
    c.grad[2] = (mtl_real)1.25;
    c.grad_y[0] = 3;
    return c;
}

static int check_run(check_case *c, double (*loss)(void *), mtl_check_result *result, mtl_error *err)
{
    mtl_check_array arrays[2];
    memset(arrays, 0, sizeof arrays);
    arrays[0].name = "x";
    arrays[0].value = c->x;
    arrays[0].grad = c->grad;
    arrays[0].count = 4;
    arrays[1].name = "y";
    arrays[1].value = c->y;
    arrays[1].grad = c->grad_y;
    arrays[1].count = 2;
    return mtl_check_gradients(loss, c, arrays, 2, CHECK_STEP, result, err);
}

static void test_check_right_gradients_pass(void **state)
{
    check_case c = check_smooth_case(), before = c;
    mtl_check_result result;
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    assert_int_equal(check_run(&c, check_smooth, &result, &err), MTL_OK);
    assert_true(result.worst_error < CHECK_TOLERANCE);
    assert_int_equal(result.elements, 6);
    assert_int_equal(result.kinks, 0);
    assert_memory_equal(c.x, before.x, sizeof c.x);          /* every value is put back, to the bit */
    assert_memory_equal(c.y, before.y, sizeof c.y);
}

static void test_check_wrong_gradients_are_found(void **state)
{
    check_case c = check_smooth_case();
    mtl_check_result result;
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    c.grad[1] += (mtl_real)0.5;
    assert_int_equal(check_run(&c, check_smooth, &result, &err), MTL_OK);
    assert_true(result.worst_error > 0.03);
    assert_string_equal(result.worst_name, "x");
    assert_int_equal(result.worst_index, 1);
    assert_true(fabs(result.analytic - result.numeric - 0.5) < 0.01);
    assert_int_equal(result.kinks, 0);

    c = check_smooth_case();
    c.grad_y[1] = (mtl_real)0.125;                           /* a gradient where there is none */
    check_run(&c, check_smooth, &result, &err);
    assert_string_equal(result.worst_name, "y");
    assert_int_equal(result.worst_index, 1);
}

static void test_check_missing_gradient_is_zero(void **state)
{
    check_case c = check_smooth_case();
    mtl_check_array array;
    mtl_check_result result;
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    memset(&array, 0, sizeof array);
    array.value = c.x + 3;                                   /* does not matter: zero is right */
    array.count = 1;
    assert_int_equal(mtl_check_gradients(check_smooth, &c, &array, 1, CHECK_STEP, &result, &err), MTL_OK);
    assert_true(result.worst_error == 0);
    array.value = c.x;                                       /* matters: zero is as wrong as can be */
    assert_int_equal(mtl_check_gradients(check_smooth, &c, &array, 1, CHECK_STEP, &result, &err), MTL_OK);
    assert_true(fabs(result.worst_error - 1) < 1e-12);
    assert_string_equal(result.worst_name, "");
}

/* A slope of 1 left of the kink and of 3 right of it, and a curved part. */
static double check_bent(void *user)
{
    check_case *c = (check_case *)user;
    double x = (double)c->x[0], over = x - c->kink;
    return x + (over > 0 ? 2 * over : 0) + 0.5 * x * x;
}

static void test_check_kinks_are_left_out(void **state)
{
    /* in steps from x */
    const double places[] = { 0, 0.1, 1.0 / 3, 0.5, 0.75, 0.9, -0.1, -1.0 / 3, -0.5, -0.9 };
    mtl_check_result result;
    mtl_error err;
    size_t i;
    (void)state;
    mtl_error_clear(&err);
    for (i = 0; i < MTL__COUNT(places); i++) {
        check_case c;
        memset(&c, 0, sizeof c);
        c.x[0] = (mtl_real)0.5;
        c.kink = 0.5 + places[i] * CHECK_STEP;
        c.grad[0] = (mtl_real)(places[i] < 0 ? 3.5 : 1.5);
        assert_int_equal(check_run(&c, check_bent, &result, &err), MTL_OK);
        assert_int_equal(result.kinks, 1);
        assert_true(result.worst_error < CHECK_TOLERANCE);
        c.kink = 0.75;                                       /* far away: a wrong gradient is no kink */
        c.grad[0] = (mtl_real)1.75;
        assert_int_equal(check_run(&c, check_bent, &result, &err), MTL_OK);
        assert_int_equal(result.kinks, 0);
        assert_true(result.worst_error > 0.05);
    }
}

static void test_check_errors(void **state)
{
    check_case c = check_smooth_case(), before = c;
    mtl_check_result result;
    mtl_check_array array;
    mtl_error err;
    (void)state;
    memset(&array, 0, sizeof array);
    array.name = "x";
    array.count = 1;
    mtl_error_clear(&err);
    assert_int_equal(mtl_check_gradients(check_smooth, &c, &array, 1, CHECK_STEP, &result, &err),
                     MTL_ERROR_ARGUMENT);
    assert_string_equal(err.name, "x");
    assert_int_equal(check_run(&c, check_smooth, &result, &err), MTL_ERROR_ARGUMENT);        /* sticky */
    assert_int_equal(c.calls, 1);
    mtl_error_clear(&err);
    assert_int_equal(mtl_check_gradients(NULL, &c, &array, 1, CHECK_STEP, &result, &err), MTL_ERROR_ARGUMENT);
    mtl_error_clear(&err);
    assert_int_equal(mtl_check_gradients(check_smooth, &c, NULL, 1, CHECK_STEP, &result, &err),
                     MTL_ERROR_ARGUMENT);
    mtl_error_clear(&err);
    assert_int_equal(mtl_check_gradients(check_smooth, &c, &array, 1, -1, &result, &err), MTL_ERROR_ARGUMENT);
    assert_int_equal(mtl_check_gradients(check_smooth, &c, NULL, 1, 0, NULL, NULL), MTL_ERROR_ARGUMENT);

    c = before;
    c.nan_at_call = 1 + 2 + 1;                               /* the base, two for x[0], the first of x[1] */
    mtl_error_clear(&err);
    assert_int_equal(check_run(&c, check_smooth, &result, &err), MTL_ERROR_NUMBER);
    assert_string_equal(err.name, "x");
    assert_int_equal(err.position, 1);
    assert_memory_equal(c.x, before.x, sizeof c.x);
}

/* ---- a layer of the caller's own, recorded on a tape, checked as a user would -------------------------- */

/* y = x^2, element by element. */
typedef struct check_square { mtl_activation *x, *y; } check_square;

static void check_square_backward(mtl_run *run, void *data)
{
    check_square *layer = (check_square *)data;
    int add;
    size_t n, i;
    mtl_real *grad = mtl_run_grad(run, layer->x, &add);
    for (n = 0; grad && n < layer->y->rows; n++)
        for (i = 0; i < layer->y->width; i++) {
            mtl_real d = 2 * layer->x->value[n * layer->x->stride + i]
                * layer->y->grad[n * layer->y->stride + i];
            mtl_real *to = &grad[n * layer->x->stride + i];
            *to = add ? *to + d : d;
        }
}

static mtl_activation *check_square_forward(mtl_run *run, mtl_activation *x)
{
    check_square *layer = (check_square *)mtl_run_make(run, sizeof *layer);
    size_t n, i;
    if (!layer || !x) return NULL;
    layer->x = x;
    layer->y = mtl_run_activation(run, NULL, x->rows, x->width);
    if (!layer->y) return NULL;
    for (n = 0; n < x->rows; n++)
        for (i = 0; i < x->width; i++) {
            mtl_real value = x->value[n * x->stride + i];
            layer->y->value[n * layer->y->stride + i] = value * value;
        }
    mtl_run_record(run, layer->y, check_square_backward, layer);
    return layer->y;
}

/* Loss: a dense layer with one output, on one row, over the square of another dense layer. */
typedef struct check_net {
    mtl_arena memory, scratch;
    mtl_parameters set;
    mtl_gradients *gradients;
    mtl_dense *first, *second;
    mtl_run run;
    mtl_tape tape;
    mtl_error err;
    mtl_activation *loss;
} check_net;

static double check_net_loss(void *user)
{
    check_net *net = (check_net *)user;
    mtl_activation *x;
    int i;
    mtl_arena_destroy(&net->scratch);
    mtl_arena_init(&net->scratch, NULL, 0, NULL);
    memset(&net->tape, 0, sizeof net->tape);
    mtl_parameters_prepare(&net->set, MTL_ISA_AUTO, &net->err);
    x = mtl_run_activation(&net->run, "x", 1, 3);
    if (!x) return 0;
    for (i = 0; i < 3; i++) x->value[i] = (mtl_real)(0.5 * i - 0.4);
    x->constant = 1;
    x = mtl_dense_forward(&net->run, net->first, x, "first");
    x = x ? check_square_forward(&net->run, x) : NULL;
    net->loss = x ? mtl_dense_forward(&net->run, net->second, x, "second") : NULL;
    return net->loss ? (double)net->loss->value[0] : 0;
}

static void check_net_open(check_net *net)
{
    memset(net, 0, sizeof *net);
    mtl_error_clear(&net->err);
    mtl_arena_init(&net->memory, NULL, 0, NULL);
    mtl_arena_init(&net->scratch, NULL, 0, NULL);
    mtl_parameters_init(&net->set, &net->memory);
    net->first = mtl_dense_add(&net->set, "first", 3, 4, 0, &net->err);
    net->second = mtl_dense_add(&net->set, "second", 4, 1, 0, &net->err);
    mtl_parameters_allocate(&net->set, &net->err);
    if (net->err.code == MTL_OK) mtl_parameters_randomise(&net->set, 5);
    net->gradients = mtl_gradients_create(&net->set, &net->memory, &net->err);
    net->run.packings = mtl_packings_create(&net->set, &net->memory, &net->err);
    assert_int_equal(net->err.code, MTL_OK);
    net->run.arena = &net->scratch;
    net->run.tape = &net->tape;
    net->run.gradients = net->gradients;
    net->run.error = &net->err;
    net->run.kernels = mtl__kernels_choose(MTL_ISA_AUTO);
}

static void test_check_of_an_own_layer(void **state)
{
    const mtl_real one = 1;
    check_net net;
    mtl_check_array arrays[4];
    mtl_check_result result;
    size_t i;
    (void)state;
    check_net_open(&net);
    check_net_loss(&net);
    mtl_packings_prepare(net.run.packings, &net.run);
    assert_int_equal(mtl_tape_backward(&net.run, &net.loss, &one, 1, 0), MTL_OK);
    assert_int_equal(net.set.count, 4);
    memset(arrays, 0, sizeof arrays);
    for (i = 0; i < 4; i++) {
        const mtl_tensor *tensor = net.set.tensors[i];
        arrays[i].name = tensor->name;
        arrays[i].value = tensor->value;
        arrays[i].grad = mtl_gradients_get(net.gradients, tensor)->value;
        arrays[i].count = tensor->count;
    }
    assert_int_equal(mtl_check_gradients(check_net_loss, &net, arrays, 4, CHECK_STEP, &result, &net.err),
                     MTL_OK);
    assert_int_equal(result.elements, 3 * 4 + 4 + 4 + 1);
    assert_true(result.worst_error < (MTL__REAL_IS_DOUBLE ? 1e-7 : 1e-2));
    mtl_arena_destroy(&net.scratch);
    mtl_arena_destroy(&net.memory);
}

#define TEST_CHECK \
    cmocka_unit_test(test_check_right_gradients_pass), \
    cmocka_unit_test(test_check_wrong_gradients_are_found), \
    cmocka_unit_test(test_check_missing_gradient_is_zero), \
    cmocka_unit_test(test_check_kinks_are_left_out), \
    cmocka_unit_test(test_check_errors), \
    cmocka_unit_test(test_check_of_an_own_layer)
