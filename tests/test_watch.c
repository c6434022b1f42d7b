/* >>watch: tasks' gradients side by side against sums in double, trial steps against steps really made on
   another model, gradients through time against those of initial states, gates and units against what an
   observer sees. Included by tests/main.c. */

#define main conflict_main
#define draw conflict_draw
#include "../examples/conflict.c"
#undef main
#undef draw

typedef struct watch_case {
    balance_case b;
    mtl_watch *watch;
    mtl_arena arena;
    mtl_watched seen;
} watch_case;

static void watch_open(watch_case *c, const test_shape *shape, int threads)
{
    mtl_trainer_desc desc;
    memset(c, 0, sizeof *c);
    memset(&desc, 0, sizeof desc);
    desc.threads = threads;
    desc.lr = 0.05f;
    balance_open(&c->b, shape, &desc);
    mtl_arena_init(&c->arena, NULL, 0, NULL);
    c->watch = mtl_watch_create(c->b.trainer, &c->arena, &c->b.err);
    TEST_FINE(&c->b.err);
}

static void watch_close(watch_case *c)
{
    mtl_arena_destroy(&c->arena);
    balance_close(&c->b);
}

/* 1 when a tensor of these models is shared by tasks i and j: all columns and inputs are, but for those above
   what a task of steps taps. */
static int watch_reaches(const test_problem *p, size_t task, const char *tensor)
{
    size_t k;
    for (k = 0; k < TEST_TASKS_COUNT; k++)
        if (strncmp(tensor, p->tasks[k].name, strlen(p->tasks[k].name)) == 0) return 0;
    return strncmp(tensor, "high.", 5) != 0 || !p->tasks[task].tap.from;
}

/* Sum over the tensors whose name begins with `prefix` of <g_i, g_j>. */
static double watch_product(const balance_case *c, mtl_real *const *g, size_t i, size_t j, const char *prefix)
{
    const mtl_parameters *set = mtl_model_parameters(c->model);
    double sum = 0;
    size_t n, k;
    for (n = 0; n < set->count; n++) {
        const mtl_tensor *t = set->tensors[n];
        if (strncmp(t->name, prefix, strlen(prefix)) != 0) continue;
        if (!watch_reaches(&c->p, i, t->name) || !watch_reaches(&c->p, j, t->name)) continue;
        for (k = t->offset; k < t->offset + t->count; k++)
            if (!balance_is_nan(g[i][k]) && !balance_is_nan(g[j][k]))
                sum += (double)g[i][k] * (double)g[j][k];
    }
    return sum;
}

static void watch_close_to(double got, double expected, const char *what, size_t i, size_t j)
{
    if (!(fabs(got - expected) <= 1e-9 * (1 + fabs(expected))))
        fail_msg("%s of %d and %d: %.12g, expected %.12g", what, (int)i, (int)j, got, expected);
}

/* Norms, cosines and conflicts of a part against sums over the gradients of all tensors. */
static void watch_check_part(const watch_case *c, mtl_real *const *g, const mtl_watched_part *part,
                             const char *prefix)
{
    const size_t n = TEST_TASKS_COUNT;
    size_t i, j, pairs = 0, conflicts = 0;
    for (i = 0; i < n; i++) {
        const double own = watch_product(&c->b, g, i, i, prefix);
        watch_close_to(part->norm[i], sqrt(own), prefix, i, i);
        for (j = 0; j < n; j++) {
            const double other = watch_product(&c->b, g, j, j, prefix), both = own > 0 && other > 0;
            const double cosine = both != 0 ? watch_product(&c->b, g, i, j, prefix) / sqrt(own * other) : 0;
            watch_close_to(part->cosine[i * n + j], cosine, prefix, i, j);
            pairs += i < j && both != 0;
            conflicts += i < j && cosine < 0;
        }
    }
    assert_int_equal(part->pairs, pairs);
    assert_int_equal(part->conflicts, conflicts);
}

/* What the names of a part's tensors begin with. */
static const char *watch_prefix(const watch_case *c, const mtl_watched_part *part, char out[80])
{
    const char *layer = strstr(part->name, ".layer");
    const int below = layer != NULL;
    if (strcmp(part->name, "words") == 0 || c->b.p.columns[0].layers < 2)
        snprintf(out, 80, "%s.", part->name);
    else snprintf(out, 80, "%.*s.weight_ih_l%d", below ? (int)(layer - part->name) : 80, part->name,
                  below ? atoi(layer + 6) : c->b.p.columns[0].layers - 1);
    return out;
}

static void test_watch_gradients(void **state)
{
    test_random r = test_random_from(31);
    int number, cases = test_cases(30);
    (void)state;
    for (number = 0; number < cases; number++) {
        const test_shape shape = test_shape_random(number, &r);
        mtl_real *g[TEST_TASKS_COUNT];
        mtl_step step;
        watch_case c;
        size_t k, tensors = 0;
        char prefix[80];
        watch_open(&c, &shape, 1 + number % 3);
        mtl_trainer_set_weight(c.b.trainer, TEST_NUMBER, 0.25f, &c.b.err);
        mtl_train_task_gradients(c.b.trainer, c.b.p.batch, 1, c.b.of, &step, &c.b.err);
        TEST_FINE(&c.b.err);
        for (k = 0; k < TEST_TASKS_COUNT; k++) g[k] = balance_numbers(&c.b, c.b.of[k]);
        assert_int_equal(mtl_watch_step(c.watch, c.b.p.batch, 1, &c.seen, &c.b.err), MTL_OK);
        assert_int_equal(c.seen.task_count, TEST_TASKS_COUNT);
        for (k = 0; k < TEST_TASKS_COUNT; k++) {
            assert_true(c.seen.items[k] == step.task_items[k] && c.seen.loss[k] == step.task_loss[k]);
            assert_true(c.seen.weight[k] == (k == TEST_NUMBER ? 0.25 : k == TEST_TAGS ? (double)0.7f : 1));
        }
        watch_check_part(&c, g, &c.seen.parts[0], "");
        for (k = 1; k < c.seen.part_count; k++) {
            const mtl_watched_part *part = &c.seen.parts[k];
            tensors += part->tensors;
            if (c.b.p.columns[0].layers < 2 || strcmp(part->name, "words") == 0)
                watch_check_part(&c, g, part, watch_prefix(&c, part, prefix));
            else assert_non_null(mtl_model_tensor(c.b.model, watch_prefix(&c, part, prefix)));
        }
        assert_int_equal(tensors, c.seen.parts[0].tensors);
        assert_int_equal(c.seen.part_count, 2 + (size_t)(shape.two_columns ? 2 : 1) * (size_t)shape.layers);
        for (k = 0; k < TEST_TASKS_COUNT; k++) free(g[k]);
        watch_close(&c);
    }
}

/* Any number of threads gives the bits of one; training goes on with the bits that it would have had. */
static void test_watch_threads(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_LSTM, .hidden = 21, .bidirectional = 1, .layers = 2,
                               .sequences = 9, .longest = 8, .dropout = 0.2, .seed = 8 };
    const size_t squares = TEST_TASKS_COUNT * TEST_TASKS_COUNT;
    double cosine[TEST_TASKS_COUNT * TEST_TASKS_COUNT], affinity[2][TEST_TASKS_COUNT * TEST_TASKS_COUNT];
    double norm[2][8];
    mtl_real *plain = NULL;
    int threads, i;
    (void)state;
    for (threads = 0; threads <= 3; threads++) {
        watch_case c;
        watch_open(&c, &shape, threads ? threads : 1);
        for (i = 0; i < 3; i++) {
            mtl_train_step(c.b.trainer, c.b.p.batch, 1, NULL, &c.b.err);
            if (!threads) continue;         /* nobody watches */
            mtl_watch_affinity(c.watch, c.b.p.batch, 1, 0, affinity[threads > 1], &c.seen, &c.b.err);
            mtl_watch_steps(c.b.trainer, c.b.p.batch, -1,
                            mtl_model_tensor(c.b.model, "encoder.weight_hh_l1_reverse"), norm[threads > 1], 8,
                            &c.b.err);
            assert_true(norm[threads > 1][7] > 0 && norm[threads > 1][0] > 0);
        }
        TEST_FINE(&c.b.err);
        if (!threads) plain = test_weights_copy(c.b.model);
        else assert_true(test_weights_equal(c.b.model, plain));
        if (threads == 1) memcpy(cosine, c.seen.parts[0].cosine, squares * sizeof *cosine);
        if (threads > 1) {
            assert_memory_equal(cosine, c.seen.parts[0].cosine, squares * sizeof *cosine);
            assert_memory_equal(affinity[0], affinity[1], sizeof affinity[0]);
            assert_memory_equal(norm[0], norm[1], sizeof norm[0]);
        }
        watch_close(&c);
    }
    free(plain);
}

/* ---- trial steps --------------------------------------------------------------------------------------- */

/* The loss of task j on a model of its own after a step of `rate` against task i's gradient. */
static double watch_loss_after(const test_shape *shape, size_t i, size_t j, double rate)
{
    balance_case c;
    mtl_parameters *set;
    mtl_step step;
    mtl_real *g;
    double loss;
    size_t n, k;
    balance_open(&c, shape, NULL);
    set = mtl_model_parameters(c.model);
    for (k = 0; k < TEST_TASKS_COUNT; k++)              /* with the gradient of L, not weight * L */
        mtl_trainer_set_weight(c.trainer, (int)k, 1, &c.err);
    mtl_train_task_gradients(c.trainer, c.p.batch, 1, c.of, &step, &c.err);
    TEST_FINE(&c.err);
    g = balance_numbers(&c, c.of[i]);
    for (n = 0; n < set->count; n++) {
        const mtl_tensor *t = set->tensors[n];
        for (k = 0; k < t->count && watch_reaches(&c.p, i, t->name); k++)
            if (!balance_is_nan(g[t->offset + k])) t->value[k] -= (mtl_real)rate * g[t->offset + k];
    }
    free(g);
    mtl_model_prepare(c.model, &c.err);
    mtl_train_gradients(c.trainer, c.p.batch, 1, &step, &c.err);
    TEST_FINE(&c.err);
    loss = step.task_loss[j];
    balance_close(&c);
    return loss;
}

/* Affinity is what really happens on another model; afterwards all weights are as before, to the bit. */
static void test_watch_affinity(void **state)
{
    const double tolerance = sizeof(mtl_real) == sizeof(double) ? 1e-9 : 3e-5;
    test_random r = test_random_from(32);
    int number;
    (void)state;
    for (number = 0; number < test_cases(10); number++) {
        test_shape shape = test_shape_random(number, &r);
        double affinity[TEST_TASKS_COUNT * TEST_TASKS_COUNT], most = 0;
        mtl_real *before;
        watch_case c;
        size_t i, j;
        shape.dropout = number % 2 ? 0.3 : 0;
        watch_open(&c, &shape, 1);
        before = test_weights_copy(c.b.model);
        mtl_watch_affinity(c.watch, c.b.p.batch, 1, 0.02, affinity, NULL, &c.b.err);
        TEST_FINE(&c.b.err);
        assert_true(test_weights_equal(c.b.model, before));
        for (i = 0; i < TEST_TASKS_COUNT; i++)
            for (j = 0; j < TEST_TASKS_COUNT; j++) {
                const double loss = watch_loss_after(&shape, i, j, 0);
                const double expected = loss > 0 ? 1 - watch_loss_after(&shape, i, j, 0.02) / loss : 0;
                const double got = affinity[i * TEST_TASKS_COUNT + j];
                if (!(fabs(got - expected) <= tolerance))
                    fail_msg("case %d, %d to %d: %g, expected %g", number, (int)i, (int)j, got, expected);
                if (fabs(got) > most) most = fabs(got);
            }
        assert_true(most > 1e-4);
        free(before);
        watch_close(&c);
    }
}

/* A trial step whose loss is not finite is an error, and the weights are put back all the same. */
static void test_watch_affinity_fails(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_RNN, .hidden = 6, .sequences = 4, .longest = 5, .seed = 4 };
    double affinity[TEST_TASKS_COUNT * TEST_TASKS_COUNT];
    mtl_real *before;
    watch_case c;
    (void)state;
    watch_open(&c, &shape, 1);
    before = test_weights_copy(c.b.model);
    assert_int_equal(mtl_watch_affinity(c.watch, c.b.p.batch, 1, (double)HUGE_VAL, affinity, NULL, &c.b.err),
                     MTL_ERROR_NUMBER);
    mtl_error_clear(&c.b.err);
    assert_true(test_weights_equal(c.b.model, before));
    free(before);
    watch_close(&c);
}

/* ---- gradients through time ---------------------------------------------------------------------------- */

/* A cell over one sequence, whose steps have the gradients dy. */
typedef struct watch_cell {
    mtl_arena arena, memory;
    mtl_error err;
    mtl_parameters set;
    mtl_cell *cell;
    mtl_gradients *gradients;
    mtl_run run;
    mtl_tape tape;
} watch_cell;

enum { WATCH_STEPS = 6, WATCH_INPUTS = 3, WATCH_UNITS = 19 };

static void watch_cell_open(watch_cell *c, const mtl_cell_desc *desc, int reverse)
{
    test_random r = test_random_from(34);
    size_t i;
    memset(c, 0, sizeof *c);
    mtl_arena_init(&c->memory, NULL, 0, NULL);
    mtl_arena_init(&c->arena, NULL, 0, NULL);
    mtl_parameters_init(&c->set, &c->memory);
    c->cell = mtl_cell_add(&c->set, "c.", desc, WATCH_INPUTS, 0, reverse, &c->err);
    mtl_parameters_allocate(&c->set, &c->err);
    for (i = 0; i < c->set.total; i++) c->set.block[i] = (mtl_real)test_random_real(&r, -0.2, 0.2);
    mtl_parameters_prepare(&c->set, MTL_ISA_AUTO, &c->err);
    c->gradients = mtl_gradients_create(&c->set, &c->memory, &c->err);
    mtl_run_init(&c->run, &c->arena, MTL_ISA_AUTO, &c->err);
    c->run.tape = &c->tape;
    c->run.gradients = c->gradients;
    c->run.packings = mtl_packings_create(&c->set, &c->memory, &c->err);
    TEST_FINE(&c->err);
    mtl_packings_prepare(c->run.packings, &c->run);
}

static void watch_cell_close(watch_cell *c)
{
    mtl_arena_destroy(&c->arena);
    mtl_arena_destroy(&c->memory);
}

static mtl_activation *watch_rows(mtl_run *run, const mtl_real *from, size_t rows, size_t width)
{
    mtl_activation *a = mtl_run_activation(run, NULL, rows, width);
    size_t n;
    assert_non_null(a);
    for (n = 0; n < rows; n++) memcpy(a->value + n * a->stride, from + n * width, width * sizeof *from);
    return a;
}

/* Steps [first, end) from the states of `initial` on, and back; returns the hidden states. */
static mtl_activation *watch_cell_play(watch_cell *c, const mtl_real *x, const mtl_real *dy, int first,
                                       const mtl_cell_state *initial, mtl_cell_state *final)
{
    const int length = WATCH_STEPS - first;
    mtl_activation *in, *y;
    mtl_record *r;
    mtl_real *grad;
    int add, t;
    mtl_run_pack(&c->run, &length, 1);
    in = watch_rows(&c->run, x + first * WATCH_INPUTS, (size_t)length, WATCH_INPUTS);
    in->constant = 1;
    y = mtl_cell_forward(&c->run, c->cell, in, initial, final);
    TEST_FINE(&c->err);
    grad = mtl_run_grad(&c->run, y, &add);
    for (t = 0; t < length; t++)
        memcpy(grad + (size_t)t * y->stride, dy + (first + t) * WATCH_UNITS, WATCH_UNITS * sizeof *dy);
    for (r = c->tape.last; r; r = r->previous) r->backward(&c->run, r->data);
    c->tape.last = NULL;
    return y;
}

/* A cell that reads from the end says of a sequence's mirror image what the other one says of it. */
static void watch_steps_mirrored(const mtl_cell_desc *desc, const mtl_real *x, const mtl_real *dy,
                                 const double *norm)
{
    mtl_real back_x[WATCH_STEPS * WATCH_INPUTS], back_dy[WATCH_STEPS * WATCH_UNITS];
    struct mtl__step_norms norms;
    double back[WATCH_STEPS];
    watch_cell c;
    int t;
    for (t = 0; t < WATCH_STEPS; t++) {
        const int mirror = WATCH_STEPS - 1 - t;
        memcpy(back_x + mirror * WATCH_INPUTS, x + t * WATCH_INPUTS, WATCH_INPUTS * sizeof *x);
        memcpy(back_dy + mirror * WATCH_UNITS, dy + t * WATCH_UNITS, WATCH_UNITS * sizeof *dy);
    }
    watch_cell_open(&c, desc, 1);
    norms.weight = c.cell->w_hh;
    norms.norm = back;
    norms.count = WATCH_STEPS;
    c.run.norms = &norms;
    watch_cell_play(&c, back_x, back_dy, 0, NULL, NULL);
    for (t = 0; t < WATCH_STEPS; t++) assert_true(fabs(back[WATCH_STEPS - 1 - t] - norm[t]) < 1e-6 * norm[t]);
    watch_cell_close(&c);
}

/* dL/dh_t is the gradient of an initial state from which the steps behind t are played, and dy_t. */
static void watch_steps_of(const mtl_cell_desc *desc)
{
    const double tolerance = sizeof(mtl_real) == sizeof(double) ? 1e-12 : 1e-5;
    mtl_real x[WATCH_STEPS * WATCH_INPUTS], dy[WATCH_STEPS * WATCH_UNITS];
    test_random r = test_random_from(33);
    double norm[WATCH_STEPS + 1];
    struct mtl__step_norms norms;
    watch_cell c;
    mtl_activation *y;
    mtl_cell_state initial, final;
    int t, u;
    for (t = 0; t < WATCH_STEPS * WATCH_INPUTS; t++) x[t] = (mtl_real)test_random_real(&r, -1, 1);
    for (t = 0; t < WATCH_STEPS * WATCH_UNITS; t++) dy[t] = (mtl_real)test_random_real(&r, -1, 1);
    watch_cell_open(&c, desc, 0);
    memset(norm, 0, sizeof norm);
    norms.weight = c.cell->w_hh;
    norms.norm = norm;
    norms.count = WATCH_STEPS + 1;
    c.run.norms = &norms;
    y = watch_cell_play(&c, x, dy, 0, NULL, NULL);
    c.run.norms = NULL;
    assert_true(norm[WATCH_STEPS] == 0);
    for (t = 0; t < WATCH_STEPS; t++) {
        double squares = 0;
        memset(&initial, 0, sizeof initial);
        if (t + 1 < WATCH_STEPS) {          /* the states behind step t, from the steps up to it */
            watch_cell half;
            watch_cell_open(&half, desc, 0);
            memset(&final, 0, sizeof final);
            mtl_run_pack(&half.run, (u = t + 1, &u), 1);
            mtl_cell_forward(&half.run, half.cell,
                             watch_rows(&half.run, x, (size_t)t + 1, WATCH_INPUTS), NULL, &final);
            TEST_FINE(&half.err);
            mtl_run_pack(&c.run, (u = WATCH_STEPS - t - 1, &u), 1);
            initial.h = watch_rows(&c.run, y->value + (size_t)t * y->stride, 1, WATCH_UNITS);
            initial.c = final.c ? watch_rows(&c.run, final.c->value, 1, WATCH_UNITS) : NULL;
            watch_cell_close(&half);
            watch_cell_play(&c, x, dy, t + 1, &initial, NULL);
        }
        for (u = 0; u < WATCH_UNITS; u++) {
            const double later = initial.h ? (double)initial.h->grad[u] : 0;
            const double slope = (double)dy[t * WATCH_UNITS + u] + later;
            squares += slope * slope;
        }
        if (!(fabs(norm[t] - sqrt(squares)) <= tolerance * sqrt(squares)))
            fail_msg("cell %d, step %d: %.9g, expected %.9g", desc->cell, t, norm[t], sqrt(squares));
    }
    watch_steps_mirrored(desc, x, dy, norm);
    watch_cell_close(&c);
}

static void test_watch_steps(void **state)
{
    mtl_cell_desc desc;
    int number;
    (void)state;
    for (number = 0; number < 4; number++) {
        memset(&desc, 0, sizeof desc);
        desc.cell = number < 3 ? 1 + number : MTL_CELL_GRU;
        desc.reset = number == 3 ? MTL_RESET_BEFORE : MTL_RESET_DEFAULT;
        desc.hidden = WATCH_UNITS;
        watch_steps_of(&desc);
    }
}

/* A task that reads only the last step of a short and a long sequence: means are over those that have a step;
   the last step's is the gradient that the task sends; another task's loss is left out. */
static void test_watch_steps_of_tasks(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_GRU, .hidden = 7, .sequences = 5, .longest = 6, .seed = 6 };
    double one[8], other[8], all[8];
    mtl_activation *a;
    watch_case c;
    size_t s, longest = 0, t;
    const mtl_tensor *w;
    double sum = 0;
    int steps = 0;
    (void)state;
    watch_open(&c, &shape, 1);
    w = mtl_model_tensor(c.b.model, "encoder.weight_hh_l0");
    for (s = 0; s < 5; s++)
        if (c.b.p.batch->lengths[s] > steps) steps = c.b.p.batch->lengths[s];
    mtl_watch_steps(c.b.trainer, c.b.p.batch, TEST_TAGS, w, other, 8, &c.b.err);
    mtl_watch_steps(c.b.trainer, c.b.p.batch, -1, w, all, 8, &c.b.err);
    mtl_watch_steps(c.b.trainer, c.b.p.batch, TEST_CLASS, w, one, 8, &c.b.err);
    TEST_FINE(&c.b.err);
    for (a = mtl_trainer_run(c.b.trainer)->tape->activations; strcmp(a->name, "encoder") != 0;) a = a->next;
    for (s = 0; s < 5; s++) {
        const mtl_real *g = a->grad + a->stride * mtl_run_row(mtl_trainer_run(c.b.trainer), a, s,
                                                              (size_t)steps - 1);
        double squares = 0;
        if (c.b.p.batch->lengths[s] < steps) continue;
        for (t = 0; t < 7; t++) squares += (double)g[t] * (double)g[t];
        sum += sqrt(squares);
        longest++;
    }
    assert_true(fabs(one[steps - 1] - sum / (double)longest) <= 1e-6 * sum);
    assert_true(one[0] > 0 && other[0] > 0 && all[0] > 0 && one[0] != other[0] && one[steps] == 0);
    assert_null(c.b.trainer->norms);
    watch_close(&c);
}

/* ---- gates and units ----------------------------------------------------------------------------------- */

/* Forget gates held open by their bias, input gates shut, and a unit whose weights are zero. */
static void test_watch_units(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_LSTM, .hidden = 18, .bidirectional = 1, .sequences = 6,
                               .longest = 7, .seed = 9 };
    mtl_watched_units seen[4];
    watch_case c;
    mtl_tensor *w, *b;
    size_t gate, k;
    (void)state;
    watch_open(&c, &shape, 1);
    assert_int_equal(mtl_watch_units(c.b.trainer, seen, 4), 0);             /* nothing ran yet */
    w = mtl_model_tensor(c.b.model, "encoder.weight_ih_l0");
    b = mtl_model_tensor(c.b.model, "encoder.bias_ih_l0");
    for (k = 0; k < 18; k++) {
        b->value[k] = -9;                   /* i */
        b->value[18 + k] = 9;               /* f */
    }
    for (gate = 0; gate < 4; gate++)        /* unit 2: c stays 0 */
        for (k = 0; k < w->shape[1] && gate == 2; k++) w->value[(gate * 18 + 2) * w->shape[1] + k] = 0;
    mtl_model_prepare(c.b.model, &c.b.err);
    mtl_train_gradients(c.b.trainer, c.b.p.batch, 1, NULL, &c.b.err);
    TEST_FINE(&c.b.err);
    assert_int_equal(mtl_watch_units(c.b.trainer, NULL, 9), 2);
    assert_int_equal(mtl_watch_units(c.b.trainer, seen, 4), 2);
    assert_string_equal(seen[0].name, "encoder");
    assert_true(!seen[0].reverse && seen[1].reverse && seen[0].units == 18);
    assert_int_equal(seen[0].rows, c.b.p.data->rows);
    assert_int_equal(seen[0].gates, 3 * 18 * c.b.p.data->rows);
    assert_true(fabs(seen[0].closed - 1 / 3.) < 1e-12 && fabs(seen[0].open - 1 / 3.) < 1e-12);
    assert_true(seen[1].closed == 0 && seen[1].open == 0);
    assert_int_equal(seen[1].dead, 0);
    assert_true(seen[0].dead > 0);          /* next to nothing comes in */
    watch_close(&c);
}

/* A head's ReLU units: one that a bias keeps below 0 is dead, and no other. */
static void test_watch_relu(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_RNN, .hidden = 8, .sequences = 12, .longest = 4, .seed = 2 };
    mtl_watched_units seen[4];
    watch_case c;
    size_t n, k;
    (void)state;
    watch_open(&c, &shape, 1);
    mtl_trainer_destroy(c.b.trainer);
    mtl_model_destroy(c.b.model);
    c.b.p.tasks[TEST_CLASS].activation = MTL_ACTIVATION_RELU;
    c.b.model = mtl_model_create(&c.b.p.desc, &c.b.err);
    c.b.trainer = mtl_trainer_create(c.b.model, NULL, &c.b.err);
    TEST_FINE(&c.b.err);
    for (k = 0; k < 9; k++)
        mtl_model_tensor(c.b.model, "class.hidden.0.bias")->value[k] = k == 4 ? (mtl_real)-50 : (mtl_real)5;
    mtl_model_prepare(c.b.model, &c.b.err);
    mtl_train_gradients(c.b.trainer, c.b.p.batch, 1, NULL, &c.b.err);
    TEST_FINE(&c.b.err);
    n = mtl_watch_units(c.b.trainer, seen, 4);
    assert_int_equal(n, 2);
    assert_string_equal(seen[0].name, "class.hidden.0.weight");
    assert_true(seen[0].units == 9 && seen[0].dead == 1 && seen[0].gates == 0);
    assert_true(seen[1].units == 8 && seen[1].gates == 0);                  /* an RNN has none */
    watch_close(&c);
}

/* ---- errors, memory ------------------------------------------------------------------------------------ */

static void test_watch_errors(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_GRU, .hidden = 4, .sequences = 3, .longest = 4, .seed = 1 };
    double norm[4];
    const mtl_tensor *w;
    mtl_trainer *lone;
    mtl_batch batch;
    watch_case c;
    (void)state;
    watch_open(&c, &shape, 1);
    w = mtl_model_tensor(c.b.model, "encoder.weight_hh_l0");
    mtl_watch_steps(c.b.trainer, c.b.p.batch, -1, NULL, norm, 4, &c.b.err);
    test_expect_error(&c.b.err, MTL_ERROR_ARGUMENT, "weight", "NULL");
    mtl_watch_steps(c.b.trainer, c.b.p.batch, 17, w, norm, 4, &c.b.err);
    test_expect_error(&c.b.err, MTL_ERROR_RANGE, "task", "17");
    mtl_watch_step(NULL, c.b.p.batch, 1, &c.seen, &c.b.err);
    test_expect_error(&c.b.err, MTL_ERROR_ARGUMENT, "watch", "NULL");
    mtl_watch_affinity(c.watch, c.b.p.batch, 1, 0, NULL, NULL, &c.b.err);
    test_expect_error(&c.b.err, MTL_ERROR_ARGUMENT, "affinity", "NULL");
    batch = *c.b.p.batch;
    batch.state = mtl_state_create(c.b.model, batch.sequences, &c.b.err);
    mtl_watch_step(c.watch, &batch, 1, &c.seen, &c.b.err);
    test_expect_error(&c.b.err, MTL_ERROR_ARGUMENT, "state", "without");
    mtl_watch_steps(c.b.trainer, &batch, -1, w, norm, 4, &c.b.err);
    test_expect_error(&c.b.err, MTL_ERROR_ARGUMENT, "state", "without");
    mtl_state_destroy(batch.state);
    mtl_model_freeze(c.b.model, "encoder", 1);
    mtl_model_freeze(c.b.model, "words", 1);
    assert_null(mtl_watch_create(c.b.trainer, &c.arena, &c.b.err));
    test_expect_error(&c.b.err, MTL_ERROR_FIELD, "columns", "do not freeze");
    assert_int_equal(mtl_watch_size(c.b.trainer, &c.b.err), 0);
    test_expect_error(&c.b.err, MTL_ERROR_FIELD, "columns", "share no parameter");
    mtl_watch_steps(c.b.trainer, c.b.p.batch, -1, w, norm, 4, &c.b.err);
    test_expect_error(&c.b.err, MTL_ERROR_UNSUPPORTED, "encoder.weight_hh_l0", "no gradient goes through");
    assert_int_equal(mtl_watch_units(c.b.trainer, NULL, 0), 0);     /* no cell is on the tape */
    mtl_model_freeze(c.b.model, "words", 0);
    mtl_watch_steps(c.b.trainer, c.b.p.batch, -1, w, norm, 4, &c.b.err);
    TEST_FINE(&c.b.err);
    assert_true(norm[0] > 0);
    mtl_trainer_destroy(c.b.trainer);
    mtl_model_destroy(c.b.model);
    c.b.p.desc.task_count = 1;
    c.b.model = mtl_model_create(&c.b.p.desc, &c.b.err);
    lone = c.b.trainer = mtl_trainer_create(c.b.model, NULL, &c.b.err);
    assert_null(mtl_watch_create(lone, &c.arena, &c.b.err));
    test_expect_error(&c.b.err, MTL_ERROR_FIELD, "tasks", "two");
    watch_close(&c);
}

/* An arena of exactly mtl_watch_size bytes, a trainer within limits: nothing is allocated by any of them. */
static void test_watch_memory(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_LSTM, .hidden = 6, .layers = 2, .sequences = 5, .longest = 6,
                               .features = 2, .seed = 7 };
    double affinity[TEST_TASKS_COUNT * TEST_TASKS_COUNT], norm[6];
    mtl_trainer_desc desc;
    mtl_watched_units units[8];
    mtl_arena arena;
    balance_case c;
    mtl_watch *watch;
    void *buffer, *start;
    size_t bytes;
    size_t calls;
    (void)state;
    memset(&desc, 0, sizeof desc);
    balance_open(&c, &shape, NULL);
    mtl_trainer_destroy(c.trainer);
    desc.max_rows = c.p.data->rows;
    desc.threads = 2;
    c.trainer = mtl_trainer_create(c.model, &desc, &c.err);
    bytes = mtl_watch_size(c.trainer, &c.err);
    TEST_FINE(&c.err);
    buffer = test_aligned(bytes, &start);
    mtl_arena_init(&arena, buffer, bytes, NULL);
    calls = test_malloc_count;
    watch = mtl_watch_create(c.trainer, &arena, &c.err);
    mtl_watch_affinity(watch, c.p.batch, 1, 0, affinity, NULL, &c.err);
    mtl_watch_steps(c.trainer, c.p.batch, -1, mtl_model_tensor(c.model, "encoder.weight_hh_l0"), norm, 6,
                    &c.err);
    TEST_FINE(&c.err);
    assert_int_equal(mtl_watch_units(c.trainer, units, 8), 2);
    assert_int_equal(test_malloc_count, calls);
    assert_int_equal(arena.used, bytes);
    mtl_arena_init(&arena, buffer, bytes - 1, NULL);
    assert_null(mtl_watch_create(c.trainer, &arena, &c.err));
    assert_int_equal(c.err.code, MTL_ERROR_MEMORY);
    mtl_error_clear(&c.err);
    free(start);
    balance_close(&c);
}

/* ---- in mtl_fit ---------------------------------------------------------------------------------------- */

typedef struct watch_fit {
    mtl_trainer *trainer;
    mtl_watch *watch;                       /* NULL: nobody watches */
    size_t updates, epochs, best[TEST_TASKS_COUNT];
    double score[TEST_TASKS_COUNT];
} watch_fit;

static int watch_fit_progress(void *user, const mtl_progress *now)
{
    watch_fit *f = (watch_fit *)user;
    double affinity[TEST_TASKS_COUNT * TEST_TASKS_COUNT];
    mtl_error err;
    size_t k;
    mtl_error_clear(&err);
    if (!now->epoch_end) {
        assert_true(now->data && now->data_count == 2);
        if (f->watch) mtl_watch_affinity(f->watch, now->data, now->data_count, 0, affinity, NULL, &err);
        TEST_FINE(&err);
        f->updates++;
        return 0;
    }
    assert_null(now->data);
    f->epochs++;
    for (k = 0; k < TEST_TASKS_COUNT; k++) {
        const mtl_task_score *score = &now->scores->tasks[k];
        if (f->best[k] == 0 || score->score > f->score[k]) {
            f->best[k] = now->epoch;
            f->score[k] = score->score;
        }
        assert_int_equal(now->task_best_epoch[k], f->best[k]);
        assert_true(now->task_best_score[k] == f->score[k]);
        if (k == TEST_CURVE) assert_true(now->valid_loss[k] == -1);         /* Huber, two numbers */
        else if (k == TEST_NUMBER)
            assert_true(fabs(now->valid_loss[k] - score->loss / 4) < 1e-6 * score->loss);
        else assert_true(k == TEST_SHARE || now->valid_loss[k] == score->loss);
    }
    return 0;
}

/* Watching each update changes no bit of the result; each task's best epoch is told. */
static void test_watch_fit(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_GRU, .hidden = 9, .sequences = 24, .longest = 6, .seed = 3 };
    const mtl_real mean = 0, scale = 2;
    mtl_real *plain = NULL;
    int on;
    (void)state;
    for (on = 0; on < 2; on++) {
        mtl_fit_desc desc;
        mtl_fit_result result;
        watch_fit f;
        watch_case c;
        test_batch *valid;
        int *labels;
        size_t k;
        memset(&f, 0, sizeof f);
        memset(&desc, 0, sizeof desc);
        watch_open(&c, &shape, 1);
        valid = test_batch_create(&c.b.p.desc, NULL, 15, 6, 0, 88);
        labels = (int *)test_batch_memory(valid, 15 * sizeof *labels);
        valid->targets[TEST_SHARE].distribution = NULL;                     /* these are not scored */
        valid->targets[TEST_SHARE].labels = labels;
        mtl_model_set_target_scale(c.b.model, TEST_NUMBER, &mean, &scale, &c.b.err);
        desc.epochs = 4;
        desc.batch = 6;
        desc.accumulate = 2;
        desc.progress = watch_fit_progress;
        desc.user = &f;
        f.trainer = c.b.trainer;
        f.watch = on ? c.watch : NULL;
        mtl_fit(c.b.trainer, c.b.p.batch, 1, &valid->batch, 1, &desc, &result, &c.b.err);
        TEST_FINE(&c.b.err);
        assert_int_equal(f.updates, 8);
        assert_int_equal(f.epochs, 4);
        for (k = 0; k < TEST_TASKS_COUNT; k++) assert_int_equal(result.task_best_epoch[k], f.best[k]);
        if (!on) plain = test_weights_copy(c.b.model);
        else assert_true(test_weights_equal(c.b.model, plain));
        test_batch_destroy(valid);
        watch_close(&c);
    }
    free(plain);
}

static void test_watch_example(void **state)
{
    (void)state;
    assert_int_equal(conflict_main(), 0);
}

#define TEST_WATCH \
    cmocka_unit_test(test_watch_example), \
    cmocka_unit_test(test_watch_gradients), \
    cmocka_unit_test(test_watch_threads), \
    cmocka_unit_test(test_watch_affinity), \
    cmocka_unit_test(test_watch_affinity_fails), \
    cmocka_unit_test(test_watch_steps), \
    cmocka_unit_test(test_watch_steps_of_tasks), \
    cmocka_unit_test(test_watch_units), \
    cmocka_unit_test(test_watch_relu), \
    cmocka_unit_test(test_watch_errors), \
    cmocka_unit_test(test_watch_memory), \
    cmocka_unit_test(test_watch_fit)
