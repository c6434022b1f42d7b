/* >>balance: the weights of losses by each method, the gradients of groups of tasks out of one forward pass,
   what each may write, gradients of some tensors alone, the tape's mark. Included by tests/main.c. */

enum { BALANCE_LAST = MTL_BALANCE_IMTL };    /* the last of the methods */

typedef struct balance_case {
    test_problem p;
    mtl_error err;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_arena arena;                        /* gradient sets */
    mtl_gradients *of[TEST_TASKS_COUNT];
} balance_case;

static void balance_open(balance_case *c, const test_shape *shape, const mtl_trainer_desc *desc)
{
    size_t k;
    memset(c, 0, sizeof *c);
    test_problem_create(&c->p, shape);
    c->model = mtl_model_create(&c->p.desc, &c->err);
    c->trainer = mtl_trainer_create(c->model, desc, &c->err);
    mtl_arena_init(&c->arena, NULL, 0, NULL);
    TEST_FINE(&c->err);
    for (k = 0; k < TEST_TASKS_COUNT; k++)
        c->of[k] = mtl_gradients_create(mtl_model_parameters(c->model), &c->arena, &c->err);
    TEST_FINE(&c->err);
}

static void balance_close(balance_case *c)
{
    mtl_arena_destroy(&c->arena);
    mtl_trainer_destroy(c->trainer);
    mtl_model_destroy(c->model);
    test_problem_destroy(&c->p);
}

/* Gradients as numbers, NaN where none is wanted or no loss has come. */
static mtl_real *balance_numbers(const balance_case *c, mtl_gradients *gradients)
{
    const mtl_parameters *set = mtl_model_parameters(c->model);
    mtl_real *copy = (mtl_real *)calloc(set->total, sizeof *copy);
    size_t i, r, k, begin;
    assert_non_null(copy);
    for (i = 0; i < set->count; i++) {
        const mtl_tensor *t = set->tensors[i];
        const mtl_gradient *g = mtl_gradients_get(gradients, t);
        for (k = 0; k < t->count && (!g || g->state == MTL_GRAD_NONE); k++) copy[t->offset + k] = test_nan();
        for (r = 0; g && r < mtl__gradient_ranges(g); r++) {
            const size_t length = mtl__gradient_range(g, t, r, &begin);
            memcpy(copy + t->offset + begin, g->value + begin, length * sizeof *copy);
        }
    }
    return copy;
}

static int balance_is_nan(mtl_real x) { return mtl__is_nan(x); }      /* by its bits: -ffast-math */

/* The numbers from `from` on of a tensor: the same bits. */
static int balance_same(const mtl_tensor *t, const mtl_real *a, const mtl_real *b)
{
    size_t k;
    for (k = t->offset; k < t->offset + t->count; k++)
        if (memcmp(&a[k], &b[k], sizeof *a) && !(balance_is_nan(a[k]) && balance_is_nan(b[k]))) return 0;
    return 1;
}

static void balance_expect_same(const balance_case *c, const mtl_real *got, const mtl_real *expected)
{
    const mtl_parameters *set = mtl_model_parameters(c->model);
    size_t i;
    for (i = 0; i < set->count; i++)
        if (!balance_same(set->tensors[i], got, expected)) fail_msg("%s differs", set->tensors[i]->name);
}

/* sum += what of `more` is a number */
static void balance_add(const balance_case *c, mtl_real *sum, const mtl_real *more)
{
    size_t i;
    for (i = 0; i < mtl_model_parameters(c->model)->total; i++)
        if (!balance_is_nan(more[i])) sum[i] = (balance_is_nan(sum[i]) ? 0 : sum[i]) + more[i];
}

static mtl_real *balance_nothing(const balance_case *c)
{
    const size_t total = mtl_model_parameters(c->model)->total;
    mtl_real *none = (mtl_real *)calloc(total, sizeof *none);
    size_t i;
    assert_non_null(none);
    for (i = 0; i < total; i++) none[i] = test_nan();
    return none;
}

/* NaN for NaN, and numbers as close as sums in another order are. */
static void balance_expect_close(const balance_case *c, const mtl_real *got, const mtl_real *expected)
{
    const mtl_parameters *set = mtl_model_parameters(c->model);
    size_t i, k;
    for (i = 0; i < set->count; i++) {
        const mtl_tensor *t = set->tensors[i];
        assert_int_equal(balance_is_nan(got[t->offset]), balance_is_nan(expected[t->offset]));
        for (k = 0; k < t->count && !balance_is_nan(got[t->offset]); k++) {}
        if (k && test_distance(got + t->offset, expected + t->offset, t->count, 1e-6) > 4e-6)
            fail_msg("%s is %g off", t->name,
                     test_distance(got + t->offset, expected + t->offset, t->count, 1e-6));
    }
}

/* ---- weights of losses --------------------------------------------------------------------------------- */

/* What a method's formulas say, computed here in double from losses and counts alone. */
typedef struct balance_formulas {
    int method, descents;                   /* MTL_BALANCE_*; updates that learnt */
    double lr, temperature;
    size_t window, ended[TEST_TASKS_COUNT]; /* windows that ended */
    double s[TEST_TASKS_COUNT], m[TEST_TASKS_COUNT], v[TEST_TASKS_COUNT], steps[TEST_TASKS_COUNT];
    double first[TEST_TASKS_COUNT], sum[TEST_TASKS_COUNT], count[TEST_TASKS_COUNT];
    double means[2][TEST_TASKS_COUNT];      /* of the last window, of the one before */
} balance_formulas;

/* Adam, as its paper has it. */
static void balance_adam(balance_formulas *f, size_t k, double slope)
{
    f->steps[k]++;
    f->m[k] = 0.9 * f->m[k] + 0.1 * slope;
    f->v[k] = 0.999 * f->v[k] + 0.001 * slope * slope;
    f->s[k] -= f->lr * (f->m[k] / (1 - pow(0.9, f->steps[k])))
        / (sqrt(f->v[k] / (1 - pow(0.999, f->steps[k]))) + 1e-8);
}

static int balance_is_number(size_t k) { return k == TEST_NUMBER || k == TEST_CURVE; }

static double balance_factor(const balance_formulas *f, size_t k, size_t update, double per_sequence)
{
    switch (f->method) {
    case MTL_BALANCE_INITIAL: return f->first[k] > 0 ? 1 / f->first[k] : 1;
    case MTL_BALANCE_ITEMS: return k == TEST_TAGS || k == TEST_CURVE ? per_sequence : 1;
    case MTL_BALANCE_UNCERTAINTY: return exp(-f->s[k]) / (balance_is_number(k) ? 2 : 1);
    case MTL_BALANCE_DWA: return exp((f->means[1][k] > 0 ? f->means[0][k] / f->means[1][k] : 1)
                                     / f->temperature);
    case MTL_BALANCE_RANDOM: return exp(mtl__random_normal(9, MTL__BALANCE_STREAM,
                                                           update * TEST_TASKS_COUNT + k));
    case MTL_BALANCE_IMTL: return exp(f->s[k]);
    default: return 1;
    }
}

/* Into c[]: the factors of an update. */
static void balance_factors(const balance_formulas *f, const mtl_step *step, const double *per_sequence,
                            size_t update, double *c)
{
    double sum = 0;
    size_t k, n = 0;
    for (k = 0; k < TEST_TASKS_COUNT; k++) n += step->task_items[k] > 0;
    for (k = 0; k < TEST_TASKS_COUNT; k++) {
        c[k] = step->task_items[k] && n > 1 ? balance_factor(f, k, update, per_sequence[k]) : 1;
        if (step->task_items[k]) sum += c[k];
    }
    for (k = 0; k < TEST_TASKS_COUNT && n > 1; k++)
        if (step->task_items[k] && (f->method == MTL_BALANCE_DWA || f->method == MTL_BALANCE_RANDOM))
            c[k] *= (double)n / sum;
}

static void balance_learn(balance_formulas *f, const mtl_step *step, size_t update, const double *c)
{
    size_t k, n = 0;
    for (k = 0; k < TEST_TASKS_COUNT; k++) n += step->task_items[k] > 0;
    for (k = 0; k < TEST_TASKS_COUNT && n > 1; k++) {
        const double loss = step->task_loss[k];
        if (!step->task_items[k]) continue;
        if (f->first[k] == 0) f->first[k] = loss;
        if (f->method == MTL_BALANCE_UNCERTAINTY) balance_adam(f, k, 0.5 - c[k] * loss);
        if (f->method == MTL_BALANCE_IMTL) balance_adam(f, k, c[k] * loss - 1);
        f->sum[k] += loss;
        f->count[k]++;
        if ((update + 1) / f->window == f->ended[k]) continue;
        f->ended[k] = (update + 1) / f->window;
        f->means[1][k] = f->means[0][k];
        f->means[0][k] = f->sum[k] / f->count[k];
        f->sum[k] = f->count[k] = 0;
    }
}

/* Labelled steps of a sequence that has some, in the mean. */
static double balance_per_sequence(const mtl_batch *batch, size_t k, size_t width)
{
    const mtl_target *t = &batch->targets[k];
    size_t s, row = 0, items = 0, sequences = 0;
    int n;
    for (s = 0; s < batch->sequences; s++) {
        const size_t before = items;
        for (n = 0; n < batch->lengths[s]; n++, row++)
            items += t->labels ? t->labels[row] >= 0 : !balance_is_nan(t->values[row * width]);
        sequences += items > before;
    }
    return sequences ? (double)items / (double)sequences : 1;
}

static mtl_trainer_desc balance_how(int method)
{
    mtl_trainer_desc how;
    memset(&how, 0, sizeof how);
    how.balance = method;
    how.lr = 0.01f;
    how.seed = 9;
    how.balance_rate = 3;
    how.balance_window = 2;
    how.balance_temperature = 0.7f;
    return how;
}

/* Nine updates, the sixth of them with labels of one task alone: a plain sum, from which nothing is
   learnt. */
static void balance_method_follows(int method)
{
    const test_shape shape = { .cell = MTL_CELL_GRU, .hidden = 7, .sequences = 9, .longest = 5,
                               .missing = 0.4, .seed = 31 };
    const mtl_trainer_desc how = balance_how(method);
    balance_formulas f;
    balance_case c;
    size_t update, k;
    memset(&f, 0, sizeof f);
    f.method = method;
    f.lr = 0.03;
    f.temperature = 0.7;
    f.window = 2;
    balance_open(&c, &shape, &how);
    for (update = 0; update < 9; update++) {
        mtl_target targets[TEST_TASKS_COUNT];
        double factors[TEST_TASKS_COUNT], per_sequence[TEST_TASKS_COUNT], joint = 0;
        mtl_batch batch = *c.p.batch;
        mtl_step step, twice;
        for (k = 0; k < TEST_TASKS_COUNT; k++) {
            targets[k] = c.p.batch->targets[k];
            if (update == 5 && k != TEST_TAGS) memset(&targets[k], 0, sizeof targets[k]);
            per_sequence[k] = k == TEST_TAGS || k == TEST_CURVE
                ? balance_per_sequence(c.p.batch, k, k == TEST_CURVE ? 2 : 1) : 1;
        }
        batch.targets = targets;
        /* which learns nothing */
        assert_int_equal(mtl_train_gradients(c.trainer, &batch, 1, &twice, &c.err), MTL_OK);
        assert_int_equal(mtl_train_step(c.trainer, &batch, 1, &step, &c.err), MTL_OK);
        assert_true(twice.loss == step.loss);
        balance_factors(&f, &step, per_sequence, update, factors);
        for (k = 0; k < TEST_TASKS_COUNT; k++) {
            const double lambda = k == TEST_TAGS ? (double)0.7f : 1;
            if (fabs(step.task_weight[k] / (lambda * factors[k]) - 1) > 2e-5)
                fail_msg("method %d, update %d, task %d: weight %.9g, by the formula %.9g", method,
                         (int)update, (int)k, step.task_weight[k], lambda * factors[k]);
            joint += step.task_weight[k] * step.task_loss[k];
        }
        assert_true(fabs(joint - step.loss) <= 1e-12 * fabs(joint));
        balance_learn(&f, &step, update, factors);
    }
    balance_close(&c);
}

static void test_balance_formulas(void **state)
{
    int method;
    (void)state;
    for (method = MTL_BALANCE_STATIC; method <= BALANCE_LAST; method++) balance_method_follows(method);
}

/* The gradient of an update is that of the same weights set by hand. */
static void test_balance_gradient(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_LSTM, .hidden = 6, .sequences = 7, .longest = 6,
                               .missing = 0.3, .seed = 8 };
    int method;
    (void)state;
    for (method = MTL_BALANCE_INITIAL; method <= BALANCE_LAST; method++) {
        const mtl_trainer_desc how = balance_how(method);
        mtl_trainer *plain;
        mtl_real *got, *expected;
        balance_case c;
        mtl_step step;
        size_t k;
        balance_open(&c, &shape, &how);
        for (k = 0; k < 4; k++) mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
        mtl_train_gradients(c.trainer, c.p.batch, 1, &step, &c.err);
        TEST_FINE(&c.err);
        got = balance_numbers(&c, mtl_trainer_gradients(c.trainer));
        plain = mtl_trainer_create(c.model, NULL, &c.err);
        for (k = 0; k < TEST_TASKS_COUNT; k++)
            mtl_trainer_set_weight(plain, (int)k, (float)step.task_weight[k], &c.err);
        mtl_train_gradients(plain, c.p.batch, 1, NULL, &c.err);
        TEST_FINE(&c.err);
        expected = balance_numbers(&c, mtl_trainer_gradients(plain));
        balance_expect_close(&c, got, expected);
        free(got);
        free(expected);
        mtl_trainer_destroy(plain);
        balance_close(&c);
    }
}

/* A batch cut behind its first `first` sequences. */
static void balance_split(const test_problem *p, size_t first, mtl_batch *halves,
                          mtl_target targets[TEST_TASKS_COUNT], mtl_input inputs[2])
{
    size_t k, rows = 0;
    for (k = 0; k < first; k++) rows += (size_t)p->batch->lengths[k];
    halves[0] = halves[1] = *p->batch;
    halves[0].sequences = first;
    halves[1].sequences -= first;
    halves[1].lengths += first;
    halves[1].inputs = inputs;
    halves[1].targets = targets;
    for (k = 0; k < p->desc.input_count; k++) {
        inputs[k] = p->batch->inputs[k];
        if (inputs[k].ids) inputs[k].ids += rows;
        else inputs[k].rows += rows * (size_t)p->desc.inputs[k].features;
    }
    for (k = 0; k < TEST_TASKS_COUNT; k++) {
        const mtl_task_desc *d = &p->desc.tasks[k];
        const size_t items = d->level == MTL_LEVEL_STEP ? rows : first;
        const size_t width = d->classes ? (size_t)d->classes : d->width ? (size_t)d->width : 1;
        targets[k] = p->batch->targets[k];
        if (targets[k].labels) targets[k].labels += items;
        if (targets[k].values) targets[k].values += items * width;
        if (targets[k].distribution) targets[k].distribution += items * width;
    }
}

/* Two micro-batches are one large batch, whatever weighs their losses. */
static void balance_accumulates(const mtl_trainer_desc *how)
{
    const test_shape shape = { .cell = MTL_CELL_GRU, .hidden = 6, .sequences = 11, .longest = 6,
                               .missing = 0.4, .features = 2, .seed = 12 };
    mtl_target targets[TEST_TASKS_COUNT];
    mtl_input inputs[2];
    mtl_batch halves[2];
    balance_case c, whole;
    mtl_step step, large;
    size_t i, k;
    balance_open(&c, &shape, how);
    balance_open(&whole, &shape, how);
    balance_split(&c.p, 4, halves, targets, inputs);
    for (i = 0; i < 5; i++) {
        mtl_real *got, *expected;
        mtl_train_step(c.trainer, halves, 2, &step, &c.err);
        mtl_train_step(whole.trainer, whole.p.batch, 1, &large, &whole.err);
        TEST_FINE(&c.err);
        TEST_FINE(&whole.err);
        for (k = 0; k < TEST_TASKS_COUNT; k++)
            assert_true(fabs(step.task_weight[k] / large.task_weight[k] - 1) <= 2e-4);
        if (i > 0) continue;                                    /* later, Adam makes much of little */
        got = balance_numbers(&c, mtl_trainer_gradients(c.trainer));
        expected = balance_numbers(&whole, mtl_trainer_gradients(whole.trainer));
        balance_expect_close(&c, got, expected);
        free(got);
        free(expected);
    }
    balance_close(&c);
    balance_close(&whole);
}

static void test_balance_accumulation(void **state)
{
    int method;
    (void)state;
    for (method = MTL_BALANCE_STATIC; method <= BALANCE_LAST; method++) {
        const mtl_trainer_desc how = balance_how(method);
        balance_accumulates(&how);
    }
}

/* Six updates are three, a file, and three: weights of losses and of the model, to the bit. */
static void balance_resumes(const mtl_trainer_desc *how)
{
    const test_shape shape = { .cell = MTL_CELL_RNN, .hidden = 5, .sequences = 6, .longest = 5,
                               .missing = 0.3, .seed = 3 };
    mtl_step step, later;
    mtl_safetensors file;
    mtl_trainer *trainer;
    mtl_model *model;
    mtl_reader reader;
    mtl_real *expected;
    test_file f;
    mtl_writer writer = test_file_writer(&f);
    balance_case c;
    size_t i;
    memset(&f, 0, sizeof f);
    balance_open(&c, &shape, how);
    mtl_trainer_set_weight(c.trainer, TEST_SET, 0.25f, &c.err);
    for (i = 0; i < 3; i++) mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
    mtl_model_write(c.model, c.trainer, &writer, &c.err);
    for (i = 0; i < 3; i++) mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
    TEST_FINE(&c.err);
    expected = test_weights_copy(c.model);
    reader = test_file_reader(&f);
    model = mtl_model_read(&reader, &c.err);
    trainer = mtl_trainer_create(model, how, &c.err);
    mtl_safetensors_open_memory(&file, f.bytes, f.used, &c.err);
    assert_int_equal(mtl_trainer_resume(trainer, &file, &c.err), MTL_OK);
    for (i = 0; i < 3; i++) mtl_train_step(trainer, c.p.batch, 1, &later, &c.err);
    TEST_FINE(&c.err);
    assert_true(test_weights_equal(model, expected));
    assert_memory_equal(later.task_weight, step.task_weight, TEST_TASKS_COUNT * sizeof *step.task_weight);
    assert_true(step.task_weight[TEST_SET] != 1);
    mtl_safetensors_close(&file);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    free(expected);
    free(f.bytes);
    balance_close(&c);
}

static void test_balance_resume(void **state)
{
    int method;
    (void)state;
    for (method = MTL_BALANCE_STATIC; method <= BALANCE_LAST; method++) {
        mtl_trainer_desc how = balance_how(method);
        balance_resumes(&how);
        how.optimizer = MTL_OPTIMIZER_SGD;
        how.momentum = 0.5f;
        balance_resumes(&how);
    }
}

/* A file of one method does not go on as another, and what is wrong in it is named. */
static void test_balance_resume_errors(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_RNN, .hidden = 3, .sequences = 4, .longest = 4, .seed = 3 };
    static const int methods[][2] = { { MTL_BALANCE_IMTL, MTL_BALANCE_UNCERTAINTY },
        { MTL_BALANCE_STATIC, MTL_BALANCE_DWA }, { MTL_BALANCE_RANDOM, MTL_BALANCE_STATIC } };
    static const char *const parts[] = { "by imtl, and this one does by uncertainty", "by static",
                                         "by random" };
    size_t i, at;
    (void)state;
    for (i = 0; i < 4; i++) {
        mtl_trainer_desc how = balance_how(i < 3 ? methods[i][0] : MTL_BALANCE_IMTL);
        mtl_safetensors file;
        mtl_trainer *other;
        test_file f;
        mtl_writer writer = test_file_writer(&f);
        balance_case c;
        memset(&f, 0, sizeof f);
        balance_open(&c, &shape, &how);
        mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
        mtl_model_write(c.model, c.trainer, &writer, &c.err);
        if (i < 3) how.balance = methods[i][1];
        other = mtl_trainer_create(c.model, &how, &c.err);
        TEST_FINE(&c.err);
        if (i == 3)                                             /* the state's name is another */
            for (at = 0; at + 13 < f.used; at++)
                if (memcmp(f.bytes + at, "balance.state", 13) == 0) f.bytes[at] = 'B';
        mtl_safetensors_open_memory(&file, f.bytes, f.used, &c.err);
        mtl_trainer_resume(other, &file, &c.err);
        test_expect_error(&c.err, MTL_ERROR_TENSOR, i < 3 ? "balance.rule" : "balance.state", i < 3
                          ? parts[i] : "6 times 4 doubles");
        mtl_safetensors_close(&file);
        mtl_trainer_destroy(other);
        free(f.bytes);
        balance_close(&c);
    }
}

/* lambda moves from weight to weight_end over total_steps, and stays where it is set. */
static void test_balance_schedule(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_RNN, .hidden = 3, .sequences = 4, .longest = 4, .seed = 3 };
    mtl_trainer_desc how;
    balance_case c;
    mtl_step step;
    int i;
    (void)state;
    memset(&how, 0, sizeof how);
    how.total_steps = 4;
    balance_open(&c, &shape, NULL);
    mtl_trainer_destroy(c.trainer);
    mtl_model_destroy(c.model);
    c.p.tasks[TEST_CLASS].weight = 2;
    c.p.tasks[TEST_CLASS].weight_end = 0.5f;
    c.p.tasks[TEST_SET].weight_end = MTL_ZERO;
    c.model = mtl_model_create(&c.p.desc, &c.err);
    c.trainer = mtl_trainer_create(c.model, &how, &c.err);
    for (i = 1; i <= 6; i++) {
        const double share = i < 4 ? i / 4.0 : 1;
        if (i == 6) mtl_trainer_set_weight(c.trainer, TEST_SET, 3, &c.err);
        mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
        TEST_FINE(&c.err);
        assert_true(fabs(step.task_weight[TEST_CLASS] - (2 - 1.5 * share)) < 1e-12);
        assert_true(fabs(step.task_weight[TEST_SET] - (i < 6 ? 1 - share : 3)) < 1e-12);
        assert_true(step.task_weight[TEST_TAGS] == (double)0.7f);
    }
    balance_close(&c);
}

static void test_balance_method_errors(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_RNN, .hidden = 3, .sequences = 4, .longest = 4, .seed = 3 };
    mtl_trainer_desc how = balance_how(MTL_BALANCE_DWA);
    mtl_fit_desc fit;
    mtl_trainer *trainer;
    balance_case c;
    (void)state;
    balance_open(&c, &shape, NULL);
    how.balance_temperature = MTL_ZERO;
    assert_null(mtl_trainer_create(c.model, &how, &c.err));
    test_expect_error(&c.err, MTL_ERROR_FIELD, "trainer.balance_temperature", "between 0.001 and");
    how.balance_temperature = 0;
    how.balance_window = 0;
    trainer = mtl_trainer_create(c.model, &how, &c.err);
    mtl_train_step(trainer, c.p.batch, 1, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_FIELD, "trainer.balance_window", "mtl_fit");
    memset(&fit, 0, sizeof fit);
    fit.epochs = 2;
    fit.batch = 2;
    assert_int_equal(mtl_fit(trainer, c.p.batch, 1, NULL, 0, &fit, NULL, &c.err), MTL_OK);
    assert_int_equal(trainer->weighting.window, 2);                                 /* updates of an epoch */
    mtl_trainer_destroy(trainer);
    balance_close(&c);
}

/* ---- per task ------------------------------------------------------------------------------------------ */

/* Each task's gradient is bit for bit that of a trainer that trains this task alone, for any number of
   threads, in one micro-batch or two; together they are the joint gradient. */
static void balance_each_task(const test_shape *shape, int threads, int precision, size_t micro)
{
    mtl_trainer_desc desc;
    balance_case c, lone;
    mtl_batch batches[2];
    mtl_step step, plain;
    mtl_real *sum, *joint, *own, *alone;
    size_t k, other;
    memset(&desc, 0, sizeof desc);
    desc.threads = threads;
    desc.precision = precision;
    balance_open(&c, shape, &desc);
    batches[0] = batches[1] = *c.p.batch;
    assert_int_equal(mtl_train_gradients(c.trainer, batches, micro, &plain, &c.err), MTL_OK);
    joint = balance_numbers(&c, mtl_trainer_gradients(c.trainer));
    assert_int_equal(mtl_train_task_gradients(c.trainer, batches, micro, c.of, &step, &c.err), MTL_OK);
    assert_memory_equal(&step.loss, &plain.loss, sizeof step.loss);
    assert_true(step.grad_norm == 0);
    own = balance_numbers(&c, mtl_trainer_gradients(c.trainer));            /* as it was */
    balance_expect_same(&c, own, joint);
    free(own);
    sum = balance_nothing(&c);
    for (k = 0; k < TEST_TASKS_COUNT; k++) {
        own = balance_numbers(&c, c.of[k]);
        balance_add(&c, sum, own);
        balance_open(&lone, shape, NULL);
        mtl_trainer_destroy(lone.trainer);
        desc.threads = 1;
        lone.trainer = mtl_trainer_create(lone.model, &desc, &lone.err);
        for (other = 0; other < TEST_TASKS_COUNT; other++)
            if (other != k) mtl_trainer_set_weight(lone.trainer, (int)other, 0, &lone.err);
        batches[0] = batches[1] = *lone.p.batch;
        mtl_train_gradients(lone.trainer, batches, micro, NULL, &lone.err);
        TEST_FINE(&lone.err);
        alone = balance_numbers(&lone, mtl_trainer_gradients(lone.trainer));
        balance_expect_same(&c, own, alone);
        free(alone);
        free(own);
        balance_close(&lone);
    }
    if (precision != MTL_PRECISION_BF16) balance_expect_close(&c, sum, joint);
    free(sum);
    free(joint);
    balance_close(&c);
}

static void test_balance_each_task(void **state)
{
    test_random r = test_random_from(22);
    int number, cases = test_cases(20);
    (void)state;
    for (number = 0; number < cases; number++) {
        const test_shape shape = test_shape_random(number, &r);
        int threads;
        for (threads = 1; threads <= 3; threads++)
            balance_each_task(&shape, threads, number % 4 == 3 ? MTL_PRECISION_BF16 : MTL_PRECISION_F32,
                              1 + (size_t)number % 2);
    }
}

/* Tasks that share a set are one group; those without one are not played. A trainer goes on as if nobody had
   asked. */
static void test_balance_groups(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_GRU, .hidden = 9, .sequences = 6, .longest = 5,
                               .features = 2, .dropout = 0.2, .seed = 5 };
    mtl_gradients *of[TEST_TASKS_COUNT];
    mtl_real *got, *expected;
    balance_case c, twin;
    size_t k;
    (void)state;
    balance_open(&c, &shape, NULL);
    balance_open(&twin, &shape, NULL);
    for (k = 0; k < TEST_TASKS_COUNT; k++) of[k] = c.of[k % 2];
    of[TEST_CLASS] = NULL;
    assert_int_equal(mtl_train_task_gradients(c.trainer, c.p.batch, 1, of, NULL, &c.err), MTL_OK);
    mtl_train_task_gradients(twin.trainer, twin.p.batch, 1, twin.of, NULL, &twin.err);
    TEST_FINE(&twin.err);
    got = balance_numbers(&c, c.of[1]);
    expected = balance_numbers(&twin, twin.of[1]);
    for (k = 3; k < TEST_TASKS_COUNT; k += 2) {
        mtl_real *more = balance_numbers(&twin, twin.of[k]);
        balance_add(&twin, expected, more);
        free(more);
    }
    balance_expect_close(&c, got, expected);
    free(got);
    free(expected);
    got = balance_numbers(&c, c.of[0]);
    k = mtl_model_tensor(c.model, "class.output.weight")->offset;
    assert_true(balance_is_nan(got[k]));
    free(got);
    mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
    TEST_FINE(&c.err);
    mtl_trainer_destroy(twin.trainer);
    twin.trainer = mtl_trainer_create(twin.model, NULL, &twin.err);
    mtl_train_step(twin.trainer, twin.p.batch, 1, NULL, &twin.err);
    TEST_FINE(&twin.err);
    got = test_weights_copy(c.model);
    assert_true(test_weights_equal(twin.model, got));
    free(got);
    balance_close(&c);
    balance_close(&twin);
}

static void test_balance_errors(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_RNN, .hidden = 3, .sequences = 2, .longest = 3, .seed = 1 };
    balance_case c, other;
    (void)state;
    balance_open(&c, &shape, NULL);
    balance_open(&other, &shape, NULL);
    mtl_train_task_gradients(c.trainer, c.p.batch, 1, NULL, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_ARGUMENT, "of", "NULL");
    mtl_error_clear(&c.err);
    mtl_train_task_gradients(c.trainer, NULL, 1, c.of, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_ARGUMENT, "batches", "at least");
    mtl_error_clear(&c.err);
    c.of[3] = other.of[0];
    mtl_train_task_gradients(c.trainer, c.p.batch, 1, c.of, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_ARGUMENT, "of", "of[3]");
    mtl_error_clear(&c.err);
    balance_close(&c);
    balance_close(&other);
}

/* ---- in limits ----------------------------------------------------------------------------------------- */

/* A trainer that lies in a buffer of exactly its size, with the largest batch and a head that is larger than
   the rest: whatever is replayed finds room. */
static void test_balance_fits(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_LSTM, .hidden = 5, .sequences = 8, .longest = 9, .seed = 3 };
    const mtl_real one = 1;
    mtl_trainer_desc desc;
    balance_case c;
    mtl_arena memory;
    void *buffer;
    size_t bytes, k, round;
    int s;
    (void)state;
    memset(&desc, 0, sizeof desc);
    balance_open(&c, &shape, NULL);
    mtl_trainer_destroy(c.trainer);
    mtl_model_destroy(c.model);
    mtl_arena_destroy(&c.arena);
    c.p.tasks[TEST_TAGS].hidden[0] = 1700;
    desc.threads = 2;
    c.model = mtl_model_create(&c.p.desc, &c.err);
    mtl_arena_init(&c.arena, NULL, 0, NULL);
    for (k = 0; k < TEST_TASKS_COUNT; k++)
        c.of[k] = mtl_gradients_create(mtl_model_parameters(c.model), &c.arena, &c.err);
    desc.max_sequences = (size_t)shape.sequences;
    desc.max_steps = (size_t)shape.longest;
    for (s = 0; s < shape.sequences; s++)
        desc.max_rows += (size_t)c.p.batch->lengths[s];
    bytes = mtl_trainer_size(c.model, &desc, &c.err);
    TEST_FINE(&c.err);
    mtl_arena_init(&memory, NULL, 0, NULL);
    buffer = mtl_arena_push(&memory, bytes);                                /* aligned */
    c.trainer = mtl_trainer_init(buffer, bytes, c.model, &desc, &c.err);
    TEST_FINE(&c.err);
    for (round = 0; round < 2; round++) {
        mtl_run *run;
        mtl_activation *a;
        mtl_train_task_gradients(c.trainer, c.p.batch, 1, c.of, NULL, &c.err);
        TEST_FINE(&c.err);
        mtl_train_gradients(c.trainer, c.p.batch, 1, NULL, &c.err);
        TEST_FINE(&c.err);
        run = mtl_trainer_run(c.trainer);                       /* by hand, every loss that the tape has */
        for (a = run->tape->activations; a; a = a->next)
            if (a->rows == 1 && a->width == 1) {
                mtl_activation *loss = a;
                assert_int_equal(mtl_tape_backward(run, &loss, &one, 1, 0), MTL_OK);
            }
    }
    mtl_trainer_destroy(c.trainer);
    c.trainer = NULL;
    mtl_arena_destroy(&memory);
    balance_close(&c);
}

/* ---- what a group may write ---------------------------------------------------------------------------- */

/* A trainer's tape after a forward pass, and the masks of two groups: the tasks of even number may not write
   tensors of even number, those of odd number not those that 3 divides. */
typedef struct balance_masks {
    tape_case t;
    mtl_arena arena;
    size_t group_of[TEST_TASKS_COUNT];
    unsigned char *writes[2];
    mtl__balance_group groups[2];
    mtl__balance balance;
} balance_masks;

static void balance_masks_open(balance_masks *m, const test_shape *shape)
{
    const mtl_parameters *set;
    size_t k, g;
    memset(m, 0, sizeof *m);
    tape_case_create(&m->t, shape);
    mtl_arena_init(&m->arena, NULL, 0, NULL);
    set = mtl_model_parameters(m->t.model);
    for (k = 0; k < TEST_TASKS_COUNT; k++) m->group_of[k] = k % 2;
    for (g = 0; g < 2; g++) {
        m->writes[g] = (unsigned char *)mtl_arena_push(&m->arena, set->count);
        for (k = 0; k < set->count; k++) m->writes[g][k] = k % (2 + g) != 0;
        m->groups[g].gradients = m->t.run->gradients;
    }
    m->balance.groups = m->groups;
    m->balance.count = 2;
    m->balance.group_of = m->group_of;
}

/* What a group of tasks would write into nothing, as numbers. */
static mtl_real *balance_masks_alone(balance_masks *m, size_t group, const balance_case *c)
{
    mtl_gradients *apart = mtl_gradients_create(mtl_model_parameters(m->t.model), &m->arena, &m->t.err);
    mtl__balance_group groups[2];
    mtl__balance balance = m->balance;
    memset(groups, 0, sizeof groups);
    groups[group].gradients = apart;
    balance.groups = groups;
    mtl__balance_backward(m->t.run, &balance, &m->t.losses);
    TEST_FINE(&m->t.err);
    return balance_numbers(c, apart);
}

/* Two groups, one set: of a tensor that one of them may write there is its gradient alone, of one that both
   may write there is the sum, of one that none may write there is nothing. */
static void test_balance_masks(void **state)
{
    test_random r = test_random_from(9);
    int number, cases = test_cases(20);
    (void)state;
    for (number = 0; number < cases; number++) {
        const test_shape shape = test_shape_random(number, &r);
        const mtl_parameters *set;
        mtl_real *alone[2], *got, *none, *sum;
        balance_masks m;
        balance_case c;
        size_t i;
        balance_masks_open(&m, &shape);
        memset(&c, 0, sizeof c);
        c.model = m.t.model;
        set = mtl_model_parameters(c.model);
        none = balance_nothing(&c);
        sum = balance_nothing(&c);
        for (i = 0; i < 2; i++) balance_add(&c, sum, alone[i] = balance_masks_alone(&m, i, &c));
        m.groups[0].writes = m.writes[0];
        m.groups[1].writes = m.writes[1];
        mtl__balance_reset(&m.balance);
        mtl__balance_backward(m.t.run, &m.balance, &m.t.losses);
        TEST_FINE(&m.t.err);
        assert_null(m.t.run->gradients->writes);
        got = balance_numbers(&c, m.t.run->gradients);
        for (i = 0; i < set->count; i++) {
            const mtl_tensor *t = set->tensors[i];
            const int by = m.writes[0][i] + 2 * m.writes[1][i];
            if (by == 3) continue;
            memcpy(sum + t->offset, (by == 0 ? none : alone[by - 1]) + t->offset, t->count * sizeof *sum);
            if (!balance_same(t, got, sum)) fail_msg("case %d: %s, written by %d", number, t->name, by);
        }
        balance_expect_close(&c, got, sum);
        free(alone[0]);
        free(alone[1]);
        free(got);
        free(none);
        free(sum);
        mtl_arena_destroy(&m.arena);
        tape_case_destroy(&m.t);
    }
}

/* One group that may write everything: the bits of one backward pass of all losses. */
static void test_balance_one_group(void **state)
{
    test_random r = test_random_from(10);
    int number, cases = test_cases(10);
    (void)state;
    for (number = 0; number < cases; number++) {
        const test_shape shape = test_shape_random(number, &r);
        mtl_real *expected, *got;
        tape_case t;
        balance_case c;
        tape_case_create(&t, &shape);
        memset(&c, 0, sizeof c);
        c.model = t.model;
        mtl_tape_backward(t.run, t.losses.value, t.losses.weight, t.losses.count, 0);
        expected = balance_numbers(&c, t.run->gradients);
        mtl__balance_reset(&t.trainer->balance);
        mtl__balance_backward(t.run, &t.trainer->balance, &t.losses);
        TEST_FINE(&t.err);
        got = balance_numbers(&c, t.run->gradients);
        balance_expect_same(&c, got, expected);
        free(expected);
        free(got);
        tape_case_destroy(&t);
    }
}

/* ---- gradients of a part of the tensors ---------------------------------------------------------------- */

static void test_balance_part(void **state)
{
    test_random r = test_random_from(11);
    int number, cases = test_cases(20);
    (void)state;
    for (number = 0; number < cases; number++) {
        const test_shape shape = test_shape_random(number, &r);
        const mtl_parameters *set;
        unsigned char *wanted;
        mtl_gradients *part;
        mtl_real *expected, *got;
        mtl_arena arena;
        tape_case t;
        balance_case c;
        size_t i, k, total = 0;
        tape_case_create(&t, &shape);
        memset(&c, 0, sizeof c);
        c.model = t.model;
        set = mtl_model_parameters(t.model);
        mtl_arena_init(&arena, NULL, 0, NULL);
        wanted = (unsigned char *)mtl_arena_push(&arena, set->count);
        for (i = 0; i < set->count; i++) {
            wanted[i] = (unsigned char)test_random_between(&r, 0, 1);
            if (wanted[i]) total += set->tensors[i]->count;
        }
        part = mtl_gradients_create_part(set, wanted, &arena, &t.err);
        TEST_FINE(&t.err);
        mtl_tape_backward(t.run, t.losses.value, t.losses.weight, t.losses.count, 0);
        expected = balance_numbers(&c, t.run->gradients);
        mtl_tape_replay(t.run, part, MTL_TAPE_ALL, t.losses.value, t.losses.weight, t.losses.count, 0);
        TEST_FINE(&t.err);
        got = balance_numbers(&c, part);
        for (i = 0; i < set->count; i++) {
            const mtl_tensor *tensor = set->tensors[i];
            assert_int_equal(mtl_gradients_get(part, tensor) != NULL, wanted[i]);
            for (k = 0; !wanted[i] && k < tensor->count; k++) expected[tensor->offset + k] = test_nan();
        }
        balance_expect_same(&c, got, expected);
        free(got);
        free(expected);
        got = balance_numbers(&c, t.run->gradients);
        mtl_tape_replay(t.run, NULL, MTL_TAPE_ALL, t.losses.value, t.losses.weight, t.losses.count, 0);
        TEST_FINE(&t.err);
        expected = balance_numbers(&c, t.run->gradients);                   /* not touched by either */
        balance_expect_same(&c, got, expected);
        free(got);
        free(expected);
        mtl_arena_destroy(&arena);
        tape_case_destroy(&t);
    }
}

/* ---- the mark ------------------------------------------------------------------------------------------ */

enum { BALANCE_SHARED = 100 };

/* The activations that no head made (those of a cell have no record of their own). */
static size_t balance_shared(const mtl_run *run, mtl_activation **out)
{
    const mtl_record *record;
    mtl_activation *a;
    size_t n = 0;
    for (a = run->tape->activations; a; a = a->next) {
        for (record = run->tape->last; record != run->tape->mark && record->output != a;
             record = record->previous) {}
        if (record != run->tape->mark) continue;
        assert_true(n < BALANCE_SHARED);
        out[n++] = a;
    }
    return n;
}

/* Heads to the mark and then the shared part: the bits of one pass. And task by task: what their heads send
   to the shared activations, added up, needs the shared part once for the joint gradient. */
static void test_balance_mark(void **state)
{
    test_random r = test_random_from(12);
    int number, cases = test_cases(20);
    (void)state;
    for (number = 0; number < cases; number++) {
        const test_shape shape = test_shape_random(number, &r);
        mtl_activation *shared[BALANCE_SHARED];
        mtl_real *sums[BALANCE_SHARED], *expected, *got;
        int reached[BALANCE_SHARED];
        tape_case t;
        balance_case c;
        mtl_gradients *g;
        size_t n, i, k, j, count;
        tape_case_create(&t, &shape);
        memset(&c, 0, sizeof c);
        c.model = t.model;
        g = t.run->gradients;
        assert_non_null(t.run->tape->mark);
        mtl_tape_backward(t.run, t.losses.value, t.losses.weight, t.losses.count, 0);
        expected = balance_numbers(&c, g);
        mtl_tape_replay(t.run, g, MTL_TAPE_OWN, t.losses.value, t.losses.weight, t.losses.count, 0);
        assert_int_equal(g->of[mtl_model_tensor(t.model, "words.weight")->index].state, MTL_GRAD_NONE);
        mtl_tape_replay(t.run, g, MTL_TAPE_SHARED, NULL, NULL, 0, 1);
        TEST_FINE(&t.err);
        got = balance_numbers(&c, g);
        balance_expect_same(&c, got, expected);
        free(got);

        count = balance_shared(t.run, shared);
        memset(reached, 0, sizeof reached);
        for (i = 0; i < count; i++) {
            sums[i] = (mtl_real *)calloc(shared[i]->rows * shared[i]->stride, sizeof **sums);
            assert_non_null(sums[i]);
        }
        for (k = 0; k < t.losses.count; k++) {
            mtl_tape_replay(t.run, g, MTL_TAPE_OWN, &t.losses.value[k], &t.losses.weight[k], 1, k > 0);
            for (i = 0; i < count; i++) {
                if (shared[i]->grad_state == MTL_GRAD_NONE) continue;
                reached[i] = 1;
                for (n = 0; n < shared[i]->rows; n++)
                    for (j = 0; j < shared[i]->width; j++)
                        sums[i][n * shared[i]->stride + j] += shared[i]->grad[n * shared[i]->stride + j];
            }
        }
        for (i = 0; i < count; i++) {
            int add;
            mtl_real *grad;
            shared[i]->grad_state = MTL_GRAD_NONE;
            grad = reached[i] ? mtl_run_grad(t.run, shared[i], &add) : NULL;
            for (n = 0; grad && n < shared[i]->rows; n++)
                memcpy(grad + n * shared[i]->stride, sums[i] + n * shared[i]->stride,
                       shared[i]->width * sizeof *grad);
            free(sums[i]);
        }
        mtl_tape_replay(t.run, g, MTL_TAPE_SHARED, NULL, NULL, 0, 1);
        TEST_FINE(&t.err);
        got = balance_numbers(&c, g);
        balance_expect_close(&c, got, expected);
        free(got);
        free(expected);
        tape_case_destroy(&t);
    }
}

/* A run of one's own that lacks what backward products need says so. */
static void test_balance_packings_missing(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_LSTM, .hidden = 3, .sequences = 2, .longest = 3, .seed = 1 };
    tape_case t;
    (void)state;
    tape_case_create(&t, &shape);
    t.run->packings = NULL;
    mtl_tape_backward(t.run, t.losses.value, t.losses.weight, t.losses.count, 0);
    test_expect_error(&t.err, MTL_ERROR_ARGUMENT, "packings", "mtl_packings_create");
    mtl_error_clear(&t.err);
    tape_case_destroy(&t);
}

#define TEST_BALANCE \
    cmocka_unit_test(test_balance_formulas), cmocka_unit_test(test_balance_gradient), \
    cmocka_unit_test(test_balance_accumulation), cmocka_unit_test(test_balance_resume), \
    cmocka_unit_test(test_balance_resume_errors), cmocka_unit_test(test_balance_schedule), \
    cmocka_unit_test(test_balance_method_errors), \
    cmocka_unit_test(test_balance_each_task), cmocka_unit_test(test_balance_groups), \
    cmocka_unit_test(test_balance_errors), cmocka_unit_test(test_balance_fits), \
    cmocka_unit_test(test_balance_masks), cmocka_unit_test(test_balance_one_group), \
    cmocka_unit_test(test_balance_part), cmocka_unit_test(test_balance_mark), \
    cmocka_unit_test(test_balance_packings_missing)
