/* >>balance: the weights of losses by each method, surgery on gradients, the gradients of groups of tasks out
   of one forward pass, what each may write, gradients of some tensors alone, the tape's mark. Included by
   tests/main.c. */

enum { BALANCE_LAST = MTL_BALANCE_GRADNORM, SURGERY_LAST = MTL_SURGERY_UPGRAD };    /* the last ones */

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

/* NaN for NaN, and numbers whose distance is at most `most` of their size. */
static void balance_expect_within(const balance_case *c, const mtl_real *got, const mtl_real *expected,
                                  double most)
{
    const mtl_parameters *set = mtl_model_parameters(c->model);
    size_t i, k;
    for (i = 0; i < set->count; i++) {
        const mtl_tensor *t = set->tensors[i];
        assert_int_equal(balance_is_nan(got[t->offset]), balance_is_nan(expected[t->offset]));
        for (k = 0; k < t->count && !balance_is_nan(got[t->offset]); k++) {}
        if (k && test_distance(got + t->offset, expected + t->offset, t->count, 1e-6) > most)
            fail_msg("%s is %g off", t->name,
                     test_distance(got + t->offset, expected + t->offset, t->count, 1e-6));
    }
}

/* As close as sums in another order are. */
static void balance_expect_close(const balance_case *c, const mtl_real *got, const mtl_real *expected)
{
    balance_expect_within(c, got, expected, 4e-6);
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
    for (method = MTL_BALANCE_STATIC; method <= BALANCE_LAST; method++)
        if (method != MTL_BALANCE_GRADNORM) balance_method_follows(method);     /* it needs gradients, too */
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
        balance_expect_within(&c, got, expected, how->surgery > MTL_SURGERY_NONE ? 1e-3 : 4e-6);
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
    static const char *const parts[] = { "trainer.balance imtl, and this one has uncertainty",
                                         "trainer.balance static", "trainer.balance random" };
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
                          ? parts[i] : "24 doubles");
        mtl_safetensors_close(&file);
        mtl_trainer_destroy(other);
        free(f.bytes);
        balance_close(&c);
    }
}

static const test_shape balance_small = { .cell = MTL_CELL_RNN, .hidden = 3, .sequences = 4, .longest = 4,
                                          .seed = 3 };

/* A new model and trainer, of the tasks as they are now. */
static void balance_renew(balance_case *c, int total_steps)
{
    mtl_trainer_desc how;
    memset(&how, 0, sizeof how);
    how.total_steps = total_steps;
    mtl_trainer_destroy(c->trainer);
    mtl_model_destroy(c->model);
    c->model = mtl_model_create(&c->p.desc, &c->err);
    c->trainer = mtl_trainer_create(c->model, &how, &c->err);
}

/* lambda moves from weight to weight_end over total_steps, and stays where it is set. */
static void test_balance_schedule(void **state)
{
    balance_case c;
    mtl_step step;
    int i;
    (void)state;
    balance_open(&c, &balance_small, NULL);
    c.p.tasks[TEST_CLASS].weight = 2;
    c.p.tasks[TEST_CLASS].weight_end = 0.5f;
    c.p.tasks[TEST_SET].weight_end = MTL_ZERO;
    balance_renew(&c, 4);
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

/* Before `start` a task is not trained: what it alone trains stays as it is. */
static void test_balance_start(void **state)
{
    balance_case c;
    mtl_step step;
    int i;
    (void)state;
    balance_open(&c, &balance_small, NULL);
    c.p.tasks[TEST_CLASS].start = 0.5f;
    balance_renew(&c, 4);
    for (i = 1; i <= 4; i++) {
        const mtl_real before = mtl_model_tensor(c.model, "class.output.bias")->value[0];
        mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
        TEST_FINE(&c.err);
        assert_true((step.task_weight[TEST_CLASS] > 0) == (i > 2));
        assert_true((step.task_loss[TEST_CLASS] > 0) == (i > 2));
        assert_true((mtl_model_tensor(c.model, "class.output.bias")->value[0] != before) == (i > 2));
        assert_true(step.task_loss[TEST_TAGS] > 0);
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

/* ---- surgery: weights out of a Gram matrix ------------------------------------------------------------- */

enum { SURGERY_MOST = 8, SURGERY_WIDTH = 24 };

/* Random gradients of n tasks, and what a row makes of their Gram matrix. */
typedef struct surgery_set {
    size_t n, width;
    double g[SURGERY_MOST][SURGERY_WIDTH], w[SURGERY_MOST], weight[SURGERY_MOST];
    double gram[SURGERY_MOST * SURGERY_MOST], state[SURGERY_MOST * SURGERY_MOST];
    double scratch[3 * SURGERY_MOST * SURGERY_MOST + 4 * SURGERY_MOST];
    size_t task[SURGERY_MOST], order[SURGERY_MOST];
    mtl_trainer_desc desc;
    mtl__surgery_case c;
} surgery_set;

static double surgery_product(size_t width, const double *a, const double *b)
{
    double sum = 0;
    size_t k;
    for (k = 0; k < width; k++) sum += a[k] * b[k];
    return sum;
}

static void surgery_draw(surgery_set *s, int number, test_random *r)
{
    double trace = 0;
    size_t i, j;
    memset(s, 0, sizeof *s);
    s->n = 2 + (size_t)number % 7;
    s->width = s->n + (size_t)test_random_between(r, 1, 15);
    for (i = 0; i < s->n; i++) {
        const double length = number % 3 ? 1 : test_random_real(r, 0.1, 4);
        for (j = 0; j < s->width; j++)
            s->g[i][j] = length * (test_random_real(r, -1, 1) - (number % 2 && i ? 0.5 * s->g[0][j] : 0));
        s->w[i] = test_random_real(r, 0.3, 2);
        s->task[i] = i;
        trace += surgery_product(s->width, s->g[i], s->g[i]);
    }
    for (i = 0; i < s->n; i++)
        for (j = 0; j < s->n; j++)
            s->gram[i * s->n + j] = surgery_product(s->width, s->g[i], s->g[j]) / trace;
    for (i = 0; i < s->n * s->n; i++) s->state[i] = test_random_real(r, -0.5, 0.7);
    s->desc.surgery_c = 0.5f;
    s->desc.surgery_beta = 0.25f;
    s->c.desc = &s->desc;
    s->c.n = s->c.tasks = s->n;
    s->c.task = s->task;
    s->c.w = s->w;
    s->c.gram = s->gram;
    s->c.weight = s->weight;
    s->c.state = s->state;
    s->c.scratch = s->scratch;
    s->c.order = s->order;
    s->c.seed = (uint64_t)number;
}

static void surgery_run(surgery_set *s, int method)
{
    memset(s->weight, 0, sizeof s->weight);
    mtl__surgery_kinds[method - MTL_SURGERY_NONE].weigh(&s->c);
}

static void surgery_close(const char *what, int number, double got, double expected, double most)
{
    if (!(fabs(got - expected) <= most))
        fail_msg("case %d, %s: %.12g instead of %.12g", number, what, got, expected);
}

/* The gradient that the weights make, into out. */
static void surgery_joint(const surgery_set *s, const double *weight, double *out)
{
    size_t i, k;
    for (k = 0; k < s->width; k++)
        for (i = 0, out[k] = 0; i < s->n; i++) out[k] += weight[i] * s->g[i][k];
}

/* pcgrad and gradvac, on vectors, as their papers' algorithms say. */
static void surgery_meet(surgery_set *s, int vaccine, double *sum)
{
    double own[SURGERY_WIDTH], mean[SURGERY_MOST * SURGERY_MOST];
    size_t i, j, k, m;
    memcpy(mean, s->state, sizeof mean);
    memset(sum, 0, s->width * sizeof *sum);
    for (i = 0; i < s->n; i++) {
        memcpy(own, s->g[i], sizeof own);
        mtl__surgery_order(&s->c, i);
        for (m = 0; m + 1 < s->n; m++) {
            const double *other = s->g[j = s->order[m]], product = surgery_product(s->width, own, other);
            const double a = sqrt(surgery_product(s->width, own, own));
            const double b = sqrt(surgery_product(s->width, other, other)), cosine = product / (a * b);
            double *phi = &mean[i * s->n + j], add = product < 0 ? -product / (b * b) : 0;
            if (vaccine) {
                const double mean_sine = sqrt(1 - *phi * *phi);
                add = cosine >= *phi ? 0
                    : a * (*phi * sqrt(1 - cosine * cosine) - cosine * mean_sine) / (b * mean_sine);
                *phi = 0.75 * *phi + 0.25 * cosine;
            }
            for (k = 0; k < s->width; k++) own[k] += add * other[k];
        }
        for (k = 0; k < s->width; k++) sum[k] += s->w[i] * own[k];
    }
    surgery_run(s, vaccine ? MTL_SURGERY_GRADVAC : MTL_SURGERY_PCGRAD);
    for (k = 0; vaccine && k < s->n * s->n; k++)
        if (k % (s->n + 1)) surgery_close("the mean cosine", 0, s->state[k], mean[k], 1e-9);
}

/* No task's gradient may have a smaller product with the shortest combination than that has with itself. */
static void surgery_check_mgda(surgery_set *s, int number)
{
    double joint[SURGERY_WIDTH], sum = 0, size;
    size_t i;
    surgery_run(s, MTL_SURGERY_MGDA);
    surgery_joint(s, s->weight, joint);
    size = surgery_product(s->width, joint, joint);
    for (i = 0; i < s->n; i++) {
        sum += s->weight[i];
        assert_true(s->weight[i] >= 0);
        assert_true(surgery_product(s->width, joint, s->g[i]) * (double)s->n >= size - 1e-8);
    }
    surgery_close("the sum of weights", number, sum, (double)s->n, 1e-9);
}

/* min v'Gv, v >= w_i e_i, for each task: v_i = w_i, v >= 0, (Gv)_k >= 0 and v_k (Gv)_k = 0 for k != i, where
   G has its ridge. What they add up to is found here by going through all sets of free variables. */
static void surgery_check_upgrad(surgery_set *s, int number)
{
    double expected[SURGERY_MOST] = { 0 }, q[SURGERY_MOST][SURGERY_MOST];
    size_t i, j, k, m, n = s->n, set;
    for (i = 0; i < n; i++)
        for (j = 0; j < n; j++) q[i][j] = s->gram[i * n + j] + (i == j ? 1e-4 : 0);
    for (i = 0; i < n; i++)
        for (set = 0; set < (size_t)1 << n; set++) {
            double a[SURGERY_MOST][SURGERY_MOST + 1], v[SURGERY_MOST] = { 0 };
            int good = 1;
            if (set >> i & 1) continue;                         /* v_i is not free */
            for (k = 0; k < n; k++)                             /* Gauss & Jordan */
                for (j = 0; j <= n; j++)
                    a[k][j] = !(set >> k & 1) ? j == k || (j == n && k == i) ? j == k ? 1 : s->w[i] : 0
                        : j < n ? q[k][j] : 0;
            for (k = 0; k < n; k++)
                for (m = 0; m < n; m++) {
                    const double by = m == k ? 0 : a[m][k] / a[k][k];
                    for (j = 0; m != k && j <= n; j++) a[m][j] -= by * a[k][j];
                }
            for (k = 0; k < n; k++) v[k] = a[k][n] / a[k][k];
            for (k = 0; k < n; k++)
                if (k != i && (v[k] < -1e-12 || surgery_product(n, q[k], v) < -1e-12)) good = 0;
            if (!good) continue;
            for (k = 0; k < n; k++) expected[k] += v[k];
            break;
        }
    surgery_run(s, MTL_SURGERY_UPGRAD);
    for (k = 0; k < n; k++) surgery_close("a weight of upgrad", number, s->weight[k], expected[k], 1e-7);
}

/* The worst task's gain min_k g_k d is what cagrad makes large, among all d with |d - g_0| <= c |g_0|. */
static double surgery_gain(const surgery_set *s, const double *d)
{
    double least = 1e300;
    size_t i;
    for (i = 0; i < s->n; i++) {
        const double gain = surgery_product(s->width, s->g[i], d);
        if (gain < least) least = gain;
    }
    return least;
}
static void surgery_check_cagrad(surgery_set *s, int number, test_random *r)
{
    double mean[SURGERY_WIDTH], d[SURGERY_WIDTH], other[SURGERY_WIDTH], away = 0, size = 0;
    size_t k;
    int trial;
    surgery_run(s, MTL_SURGERY_CAGRAD);
    surgery_joint(s, s->w, mean);
    surgery_joint(s, s->weight, d);
    for (k = 0; k < s->width; k++) away += (d[k] - mean[k]) * (d[k] - mean[k]);
    size = surgery_product(s->width, mean, mean);
    surgery_close("the way from the sum", number, sqrt(away), 0.5 * sqrt(size), 1e-6 * sqrt(size));
    for (trial = 0; trial < 300; trial++) {                     /* neighbours on the ball's edge */
        const double reach = trial % 3 == 0 ? 1 : trial % 3 == 1 ? 0.1 : 0.01;
        double length = 0;
        for (k = 0; k < s->width; k++) {
            other[k] = d[k] - mean[k] + reach * sqrt(size) * test_random_real(r, -1, 1);
            length += other[k] * other[k];
        }
        for (k = 0; k < s->width; k++) other[k] = mean[k] + other[k] * 0.5 * sqrt(size / length);
        assert_true(surgery_gain(s, other) <= surgery_gain(s, d) + 1e-6 * size);
    }
}

/* With weights e_i the gradients are those that alignment makes: at right angles, all as long as the
   shortest. */
static void surgery_check_aligned(surgery_set *s, int number)
{
    double aligned[SURGERY_MOST][SURGERY_WIDTH], joint[SURGERY_WIDTH], w[SURGERY_MOST], length;
    size_t i, j, k;
    memcpy(w, s->w, sizeof w);
    for (i = 0; i < s->n; i++) {
        memset(s->w, 0, sizeof s->w);
        s->w[i] = 1;
        surgery_run(s, MTL_SURGERY_ALIGNED);
        surgery_joint(s, s->weight, aligned[i]);
    }
    memcpy(s->w, w, sizeof w);
    length = surgery_product(s->width, aligned[0], aligned[0]);
    for (i = 0; i < s->n; i++)
        for (j = 0; j < s->n; j++)
            surgery_close("a product of aligned gradients", number,
                          surgery_product(s->width, aligned[i], aligned[j]), i == j ? length : 0, 1e-7);
    surgery_run(s, MTL_SURGERY_ALIGNED);
    surgery_joint(s, s->weight, joint);
    for (k = 0; k < s->width; k++) {
        double sum = 0;
        for (i = 0; i < s->n; i++) sum += w[i] * aligned[i][k];
        surgery_close("the sum of aligned gradients", number, joint[k], sum, 1e-9);
    }
}

static void test_surgery_weights(void **state)
{
    test_random r = test_random_from(77);
    int number, cases = test_cases(140);
    (void)state;
    for (number = 0; number < cases; number++) {
        double expected[SURGERY_WIDTH], joint[SURGERY_WIDTH];
        surgery_set s;
        size_t k;
        int vaccine;
        surgery_draw(&s, number, &r);
        for (vaccine = 0; vaccine < 2; vaccine++) {
            surgery_meet(&s, vaccine, expected);
            surgery_joint(&s, s.weight, joint);
            for (k = 0; k < s.width; k++)
                surgery_close(vaccine ? "gradvac" : "pcgrad", number, joint[k], expected[k], 1e-8);
        }
        surgery_check_mgda(&s, number);
        surgery_check_upgrad(&s, number);
        surgery_check_cagrad(&s, number, &r);
        surgery_check_aligned(&s, number);
    }
}

/* Gradients that agree are left as they are by all that only mend conflicts; equal and opposite ones do not
   end in numbers that are not finite. */
static void test_surgery_extremes(void **state)
{
    test_random r = test_random_from(78);
    int method;
    (void)state;
    for (method = MTL_SURGERY_PCGRAD; method <= SURGERY_LAST; method++) {
        surgery_set s;
        size_t k, i;
        int kind;
        for (kind = 0; kind < 3; kind++) {                      /* perpendicular, equal, opposite */
            surgery_draw(&s, 2, &r);
            for (k = 0; k < s.n; k++)
                for (i = 0; i < s.n; i++)
                    s.gram[k * s.n + i] = kind == 0 ? (k == i) / (double)s.n
                        : (kind == 2 && (k + i) % 2 ? -1 : 1) / (double)s.n;
            memset(s.state, 0, sizeof s.state);
            surgery_run(&s, method);
            for (k = 0; k < s.n; k++) {
                if (!mtl__double_is_finite(s.weight[k])) fail_msg("method %d, case %d", method, kind);
                if (kind == 0 && (method == MTL_SURGERY_PCGRAD || method == MTL_SURGERY_GRADVAC
                                  || method == MTL_SURGERY_ALIGNED || method == MTL_SURGERY_UPGRAD))
                    surgery_close("no conflict", method, s.weight[k], s.w[k], 1e-9);
            }
        }
    }
}

/* Every instruction set's product is that of doubles. */
static void test_surgery_dot(void **state)
{
    test_random r = test_random_from(5);
    static mtl_real x[1024], y[4][1024];
    const mtl_real *rows[4] = { y[0], y[1], y[2], y[3] };
    size_t n, k, i;
    int isa;
    (void)state;
    for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++) {
        const mtl__kernels *kernels = mtl__kernels_choose(isa);
        for (n = 0; kernels && n <= 1024; n = n < 70 ? n + 1 : 2 * n - 13) {
            double sums[4], expected[4] = { 0 };
            for (k = 0; k < n; k++) {
                x[k] = (mtl_real)test_random_real(&r, -1, 1);
                for (i = 0; i < 4; i++) {
                    y[i][k] = (mtl_real)test_random_real(&r, -1, 1);
                    expected[i] += (double)x[k] * (double)y[i][k];
                }
            }
            kernels->dots(n, x, rows, sums);
            for (i = 0; i < 4; i++)
                surgery_close("a product", (int)n, sums[i], expected[i], 1e-7 * (1 + (double)n));
        }
    }
}

/* ---- surgery: in a trainer ----------------------------------------------------------------------------- */

/* A trainer with surgery over a model that may have frozen tensors, a penalty that reads tensors or rows, and
   a column that some tasks alone may train. */
static void surgery_open(balance_case *c, const test_shape *shape, const mtl_trainer_desc *how, int number)
{
    static const mtl_penalty_desc penalties[2] = {
        { .name = "keep", .a = "words", .kind = MTL_PENALTY_ANCHOR, .weight = 0.5f },
        { .name = "apart", .a = "words", .b = "numbers", .kind = MTL_PENALTY_ORTHOGONAL, .weight = 0.25f } };
    balance_open(c, shape, NULL);
    mtl_trainer_destroy(c->trainer);
    mtl_model_destroy(c->model);
    if (number % 3 == 1 || (number % 3 == 2 && c->p.desc.input_count == 2)) {
        c->p.desc.penalties = &penalties[number % 3 - 1];
        c->p.desc.penalty_count = 1;
    }
    if (shape->two_columns && number % 2) c->p.columns[1].trains = "class+set";
    mtl_arena_destroy(&c->arena);
    c->model = mtl_model_create(&c->p.desc, &c->err);
    if (number % 4 == 3) mtl_model_freeze(c->model, "words", 1);
    c->trainer = mtl_trainer_create(c->model, how, &c->err);
    mtl_arena_init(&c->arena, NULL, 0, NULL);
    TEST_FINE(&c->err);
    for (number = 0; number < TEST_TASKS_COUNT; number++)
        c->of[number] = mtl_gradients_create(mtl_model_parameters(c->model), &c->arena, &c->err);
}

/* How many tasks' gradients reached a tensor. */
static int surgery_reached(mtl_real *const *own, const mtl_tensor *t)
{
    int k, count = 0;
    for (k = 0; k < TEST_TASKS_COUNT; k++) count += !balance_is_nan(own[k][t->offset]);
    return count;
}

/* What the tasks' gradients of an update are multiplied by where they share, by the row of the table. */
static void surgery_scales(const balance_case *c, const mtl_trainer_desc *how, mtl_real *const *own,
                           const mtl_step *step, double *scale)
{
    const mtl_parameters *set = mtl_model_parameters(c->model);
    const mtl__surgery *trainer = &c->trainer->surgery;
    surgery_set s;
    double gram[TEST_TASKS_COUNT][TEST_TASKS_COUNT] = { { 0 } }, trace = 0;
    size_t i, j, k, at;
    memset(&s, 0, sizeof s);
    for (at = 0; at < set->count; at++) {
        const mtl_tensor *t = set->tensors[at];
        if (surgery_reached(own, t) < 2) continue;
        for (k = t->offset; k < t->offset + t->count; k++)
            for (i = 0; i < TEST_TASKS_COUNT; i++)
                for (j = 0; j < TEST_TASKS_COUNT; j++)
                    if (!balance_is_nan(own[i][k]) && !balance_is_nan(own[j][k]))
                        gram[i][j] += (double)own[i][k] * (double)own[j][k];
    }
    for (i = 0; i < TEST_TASKS_COUNT; i++) {
        scale[i] = 1;
        if (gram[i][i] > 0) s.task[s.n++] = i;
    }
    if (s.n < 2) return;
    for (i = 0; i < s.n; i++) {
        s.w[i] = step->task_weight[s.task[i]];
        trace += gram[s.task[i]][s.task[i]] / (s.w[i] * s.w[i]);
    }
    for (i = 0; i < s.n; i++)
        for (j = 0; j < s.n; j++)
            s.gram[i * s.n + j] = gram[s.task[i]][s.task[j]] / (s.w[i] * s.w[j]) / trace;
    memcpy(s.state, trainer->state, TEST_TASKS_COUNT * TEST_TASKS_COUNT * sizeof *s.state);
    s.c.desc = how;
    s.c.n = s.n;
    s.c.tasks = TEST_TASKS_COUNT;
    s.c.task = s.task;
    s.c.w = s.w;
    s.c.gram = s.gram;
    s.c.weight = s.weight;
    s.c.state = s.state;
    s.c.scratch = s.scratch;
    s.c.order = s.order;
    s.c.seed = trainer->seed;
    surgery_run(&s, how->surgery);
    for (i = 0; i < s.n; i++) scale[s.task[i]] = s.weight[i] / s.w[i];
}

/* The trainer's gradient is that of its tasks, weighted where they share, added up elsewhere, and
   penalties. */
static void surgery_gradient(int method, int number, const test_shape *shape)
{
    mtl_trainer_desc how;
    mtl_real *own[TEST_TASKS_COUNT], *got, *expected, *rest;
    const mtl_parameters *set;
    mtl_batch batches[2];
    mtl_trainer *plain;
    balance_case c;
    mtl_step step;
    double scale[TEST_TASKS_COUNT];
    size_t i, k, n, micro = 1 + (size_t)number % 2;
    memset(&how, 0, sizeof how);
    how.surgery = method;
    how.surgery_c = 0.5f;
    how.surgery_beta = 0.25f;
    how.lr = 0.02f;
    surgery_open(&c, shape, &how, number);
    set = mtl_model_parameters(c.model);
    batches[0] = batches[1] = *c.p.batch;
    for (k = 0; k < 2; k++) mtl_train_step(c.trainer, batches, micro, NULL, &c.err);
    mtl_train_gradients(c.trainer, batches, micro, &step, &c.err);
    TEST_FINE(&c.err);
    got = balance_numbers(&c, mtl_trainer_gradients(c.trainer));
    mtl_train_task_gradients(c.trainer, batches, micro, c.of, &step, &c.err);
    for (k = 0; k < TEST_TASKS_COUNT; k++) own[k] = balance_numbers(&c, c.of[k]);
    surgery_scales(&c, &how, own, &step, scale);
    plain = mtl_trainer_create(c.model, NULL, &c.err);                      /* for what penalties add */
    mtl_train_gradients(plain, batches, micro, NULL, &c.err);
    TEST_FINE(&c.err);
    rest = balance_numbers(&c, mtl_trainer_gradients(plain));
    expected = balance_nothing(&c);
    for (i = 0; i < set->count; i++) {
        const mtl_tensor *t = set->tensors[i];
        const int shared = surgery_reached(own, t) > 1;
        for (n = t->offset; n < t->offset + t->count; n++) {
            double sum = 0, left = (double)rest[n];
            if (balance_is_nan(rest[n])) continue;
            for (k = 0; k < TEST_TASKS_COUNT; k++) {
                if (balance_is_nan(own[k][n])) continue;
                sum += (shared ? scale[k] : 1) * (double)own[k][n];
                left -= (double)own[k][n];
            }
            expected[n] = (mtl_real)(sum + (c.p.desc.penalty_count ? left : 0));
        }
    }
    balance_expect_within(&c, got, expected, sizeof(mtl_real) > 4 ? 1e-8 : 2e-3);
    for (k = 0; k < TEST_TASKS_COUNT; k++) free(own[k]);
    free(got);
    free(rest);
    free(expected);
    mtl_trainer_destroy(plain);
    balance_close(&c);
}

static void test_surgery_gradient(void **state)
{
    test_random r = test_random_from(41);
    int number, method, cases = test_cases(20);
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = test_shape_random(number, &r);
        shape.sequences += 3;
        if (number % 3 == 2) shape.features = 6;                /* as wide as words: rows of both */
        for (method = MTL_SURGERY_PCGRAD; method <= SURGERY_LAST; method++)
            surgery_gradient(method, number, &shape);
    }
}

/* A trainer in exactly its bytes, without an allocation in a step, and the bits of one thread for any
   number. */
static void surgery_fits(const mtl_trainer_desc *desc)
{
    const test_shape shape = { .cell = MTL_CELL_GRU, .hidden = 40, .bidirectional = 1, .layers = 2,
                               .sequences = 9, .longest = 7, .missing = 0.3, .features = 3, .seed = 6 };
    mtl_real *first = NULL;
    int threads;
    for (threads = 1; threads <= 3; threads++) {
        mtl_trainer_desc how = *desc;
        balance_case c;
        mtl_arena memory;
        size_t bytes, before, i;
        void *buffer;
        balance_open(&c, &shape, NULL);
        mtl_trainer_destroy(c.trainer);
        how.threads = threads;
        how.max_rows = c.p.data->rows;
        how.max_sequences = c.p.batch->sequences;
        how.max_steps = 7;
        bytes = mtl_trainer_size(c.model, &how, &c.err);
        mtl_arena_init(&memory, NULL, 0, NULL);
        buffer = mtl_arena_push(&memory, bytes);
        c.trainer = mtl_trainer_init(buffer, bytes, c.model, &how, &c.err);
        TEST_FINE(&c.err);
        before = test_malloc_count;
        for (i = 0; i < 4; i++) mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
        TEST_FINE(&c.err);
        assert_int_equal(test_malloc_count, before);
        if (!first) first = test_weights_copy(c.model);
        else if (!test_weights_equal(c.model, first)) fail_msg("%d threads differ", threads);
        mtl_trainer_destroy(c.trainer);
        c.trainer = NULL;
        mtl_arena_destroy(&memory);
        balance_close(&c);
    }
    free(first);
}

static void test_surgery_fits(void **state)
{
    int method;
    (void)state;
    for (method = MTL_SURGERY_NONE; method <= SURGERY_LAST; method++) {
        mtl_trainer_desc how = balance_how(method == MTL_SURGERY_NONE ? MTL_BALANCE_GRADNORM
                                           : MTL_BALANCE_IMTL);
        how.surgery = method;
        surgery_fits(&how);
    }
    for (method = MTL_BALANCE_STATIC; method < BALANCE_LAST; method++) {
        const mtl_trainer_desc how = balance_how(method);
        surgery_fits(&how);
    }
}

/* Resuming, and two micro-batches, as for weights of losses. */
static void test_surgery_resume(void **state)
{
    int method;
    (void)state;
    for (method = MTL_SURGERY_PCGRAD; method <= SURGERY_LAST; method++) {
        mtl_trainer_desc how = balance_how(method % 2 ? MTL_BALANCE_STATIC : MTL_BALANCE_GRADNORM);
        how.surgery = method;
        balance_resumes(&how);
        balance_accumulates(&how);
    }
}

/* With labels of one task alone there is nothing to operate on, and nothing is learnt. */
static void test_surgery_one_task(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_RNN, .hidden = 5, .sequences = 6, .longest = 5, .seed = 3 };
    int method;
    (void)state;
    for (method = MTL_SURGERY_PCGRAD; method <= SURGERY_LAST; method++) {
        mtl_target targets[TEST_TASKS_COUNT];
        mtl_trainer_desc how;
        mtl_real *got;
        mtl_batch batch;
        balance_case c, twin;
        size_t i;
        memset(&how, 0, sizeof how);
        memset(targets, 0, sizeof targets);
        balance_open(&twin, &shape, &how);
        how.surgery = method;
        balance_open(&c, &shape, &how);
        batch = *c.p.batch;
        targets[TEST_SET] = batch.targets[TEST_SET];
        batch.targets = targets;
        for (i = 0; i < 3; i++) {
            mtl_train_step(c.trainer, &batch, 1, NULL, &c.err);
            mtl_train_step(twin.trainer, &batch, 1, NULL, &twin.err);
        }
        TEST_FINE(&c.err);
        got = test_weights_copy(c.model);
        assert_true(test_weights_equal(twin.model, got));
        for (i = 0; i < TEST_TASKS_COUNT * TEST_TASKS_COUNT; i++)
            assert_true(c.trainer->surgery.state[i] == 0);
        free(got);
        balance_close(&c);
        balance_close(&twin);
    }
}

/* Two parts that nothing connects: what the labels of one are changes no bit of the other. */
static void test_surgery_parts(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_GRU, .hidden = 6, .sequences = 7, .longest = 5, .features = 3,
                               .two_columns = 1, .seed = 13 };
    int method;
    (void)state;
    for (method = MTL_SURGERY_PCGRAD; method <= SURGERY_LAST; method++) {
        mtl_real *first = NULL, *got;
        int round;
        for (round = 0; round < 2; round++) {
            mtl_trainer_desc how;
            balance_case c;
            size_t i, k;
            memset(&how, 0, sizeof how);
            how.surgery = method;
            how.clip_norm = 0.1f;
            balance_open(&c, &shape, NULL);
            mtl_trainer_destroy(c.trainer);
            mtl_model_destroy(c.model);
            c.p.columns[0].input.from = "words";
            c.p.columns[1].input.from = "numbers";
            c.model = mtl_model_create(&c.p.desc, &c.err);
            c.trainer = mtl_trainer_create(c.model, &how, &c.err);
            for (i = 0; round && i < c.p.batch->sequences; i++) {
                int *label = &test_labels(c.p.data, TEST_CLASS)[i];
                *label = (*label + 1) % 3;
            }
            for (i = 0; i < 3; i++) mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
            TEST_FINE(&c.err);
            got = test_weights_copy(c.model);
            for (i = 0; round && i < mtl_model_parameters(c.model)->count; i++) {
                const mtl_tensor *t = mtl_model_parameters(c.model)->tensors[i];
                const int part = t->component == mtl_model_tensor(c.model, "tags.output.weight")->component;
                for (k = 0; part && k < t->count; k++)
                    if (memcmp(&got[t->offset + k], &first[t->offset + k], sizeof *got))
                        fail_msg("%s is not as it was", t->name);
                if (strcmp(t->name, "high.weight_ih_l0") == 0) assert_false(balance_same(t, got, first));
            }
            free(first);
            first = got;
            balance_close(&c);
        }
        free(first);
    }
}

/* GradNorm by its formulas, from the norms of gradients that mtl_train_task_gradients leaves. */
static void test_surgery_gradnorm(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_GRU, .hidden = 7, .sequences = 9, .longest = 5, .seed = 19 };
    mtl_trainer_desc how = balance_how(MTL_BALANCE_GRADNORM);
    balance_formulas f;
    balance_case c;
    size_t update, k, i, n;
    (void)state;
    memset(&f, 0, sizeof f);
    f.lr = 0.03;
    how.balance_alpha = 0.8f;
    balance_open(&c, &shape, &how);
    for (update = 0; update < 6; update++) {
        double norm[TEST_TASKS_COUNT] = { 0 }, left[TEST_TASKS_COUNT], norms = 0, lefts = 0, sum = 0;
        mtl_real *own[TEST_TASKS_COUNT];
        mtl_step step;
        mtl_train_task_gradients(c.trainer, c.p.batch, 1, c.of, &step, &c.err);
        for (k = 0; k < TEST_TASKS_COUNT; k++) own[k] = balance_numbers(&c, c.of[k]);
        for (i = 0; i < mtl_model_parameters(c.model)->count; i++) {
            const mtl_tensor *t = mtl_model_parameters(c.model)->tensors[i];
            for (k = 0; surgery_reached(own, t) > 1 && k < TEST_TASKS_COUNT; k++)
                for (n = t->offset; n < t->offset + t->count; n++)
                    norm[k] += (double)own[k][n] * (double)own[k][n];
        }
        mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
        TEST_FINE(&c.err);
        for (k = 0; k < TEST_TASKS_COUNT; k++) {
            if (update == 0) f.first[k] = step.task_loss[k];
            norm[k] = sqrt(norm[k]);
            left[k] = step.task_loss[k] / f.first[k];
            norms += norm[k] / TEST_TASKS_COUNT;
            lefts += left[k] / TEST_TASKS_COUNT;
            free(own[k]);
        }
        for (k = 0; k < TEST_TASKS_COUNT; k++) {
            const double v = 1 + f.s[k], lambda = k == TEST_TAGS ? (double)0.7f : 1;
            if (fabs(step.task_weight[k] / (lambda * v) - 1) > 2e-5)
                fail_msg("update %d, task %d: %.9g, by the formula %.9g", (int)update, (int)k,
                         step.task_weight[k], lambda * v);
            balance_adam(&f, k, (norm[k] > norms * pow(left[k] / lefts, (double)how.balance_alpha) ? 1 : -1)
                         * norm[k] / v);
            sum += 1 + f.s[k];
        }
        for (k = 0; k < TEST_TASKS_COUNT; k++) f.s[k] = (1 + f.s[k]) * TEST_TASKS_COUNT / sum - 1;
    }
    balance_close(&c);
}

/* A trainer that grows, made and used once. */
static void surgery_work(void *user, mtl_error *err)
{
    balance_case *c = (balance_case *)user;
    mtl_trainer_desc how = balance_how(MTL_BALANCE_GRADNORM);
    mtl_trainer *trainer;
    how.surgery = MTL_SURGERY_GRADVAC;
    trainer = mtl_trainer_create(c->model, &how, err);
    mtl_train_step(trainer, c->p.batch, 1, NULL, err);
    mtl_trainer_destroy(trainer);
}

static void test_surgery_memory(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_RNN, .hidden = 5, .sequences = 4, .longest = 4, .seed = 3 };
    balance_case c;
    (void)state;
    balance_open(&c, &shape, NULL);
    assert_true(test_each_allocation_fails(surgery_work, &c) > 0);
    balance_close(&c);
}

static void test_surgery_errors(void **state)
{
    const test_shape shape = { .cell = MTL_CELL_RNN, .hidden = 3, .sequences = 4, .longest = 4, .seed = 3 };
    mtl_share_desc share;
    mtl_model_desc apart;
    mtl_trainer_desc how;
    mtl_model *model;
    balance_case c;
    int round;
    (void)state;
    memset(&how, 0, sizeof how);
    balance_open(&c, &shape, NULL);
    for (round = 0; round < 2; round++) {
        const char *field = round ? "trainer.balance" : "trainer.surgery";
        how.surgery = round ? MTL_SURGERY_NONE : MTL_SURGERY_UPGRAD;
        how.balance = round ? MTL_BALANCE_GRADNORM : MTL_BALANCE_STATIC;
        c.p.desc.task_count = 1;
        model = mtl_model_create(&c.p.desc, &c.err);
        assert_null(mtl_trainer_create(model, &how, &c.err));
        test_expect_error(&c.err, MTL_ERROR_FIELD, field, "wants two tasks");
        mtl_model_destroy(model);
        c.p.desc.task_count = TEST_TASKS_COUNT;
        mtl_model_freeze(c.model, "encoder", 1);
        mtl_model_freeze(c.model, "words", 1);
        assert_null(mtl_trainer_create(c.model, &how, &c.err));
        test_expect_error(&c.err, MTL_ERROR_FIELD, field, "all of them are frozen");
        mtl_model_freeze(c.model, "words", 0);
        mtl_trainer_destroy(mtl_trainer_create(c.model, &how, &c.err));
        TEST_FINE(&c.err);
        memset(&share, 0, sizeof share);
        share.kind = MTL_SHARE_NONE;
        mtl_share(&share, &c.p.desc, &apart, &c.arena, &c.err);
        model = mtl_model_create(&apart, &c.err);
        assert_null(mtl_trainer_create(model, &how, &c.err));
        test_expect_error(&c.err, MTL_ERROR_FIELD, field, "share none");
        mtl_model_destroy(model);
    }
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
    cmocka_unit_test(test_balance_start), cmocka_unit_test(test_balance_method_errors), \
    cmocka_unit_test(test_surgery_weights), cmocka_unit_test(test_surgery_extremes), \
    cmocka_unit_test(test_surgery_dot), cmocka_unit_test(test_surgery_gradient), \
    cmocka_unit_test(test_surgery_fits), cmocka_unit_test(test_surgery_resume), \
    cmocka_unit_test(test_surgery_one_task), cmocka_unit_test(test_surgery_parts), \
    cmocka_unit_test(test_surgery_gradnorm), cmocka_unit_test(test_surgery_errors), \
    cmocka_unit_test(test_surgery_memory), \
    cmocka_unit_test(test_balance_each_task), cmocka_unit_test(test_balance_groups), \
    cmocka_unit_test(test_balance_errors), cmocka_unit_test(test_balance_fits), \
    cmocka_unit_test(test_balance_masks), cmocka_unit_test(test_balance_one_group), \
    cmocka_unit_test(test_balance_part), cmocka_unit_test(test_balance_mark), \
    cmocka_unit_test(test_balance_packings_missing)
