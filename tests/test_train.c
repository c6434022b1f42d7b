/* Section 24: the step, what stops it, evaluation, fit, resume. */

/* ---- a model in training ------------------------------------------------------------------------------- */

typedef struct train_case {
    test_problem p;
    mtl_error err;
    mtl_model *model;
    mtl_trainer *trainer;
} train_case;

static void train_case_create(train_case *c, const test_shape *shape, const mtl_trainer_desc *desc)
{
    memset(c, 0, sizeof *c);
    test_problem_create(&c->p, shape);
    c->model = mtl_model_create(&c->p.desc, &c->err);
    c->trainer = mtl_trainer_create(c->model, desc, &c->err);
    TEST_FINE(&c->err);
}

static void train_case_destroy(train_case *c)
{
    mtl_trainer_destroy(c->trainer);
    mtl_model_destroy(c->model);
    test_problem_destroy(&c->p);
}

/* The meaningful gradients of a trainer, zeros elsewhere. */
static mtl_real *train_gradients(const train_case *c)
{
    const mtl_parameters *set = mtl_model_parameters(c->model);
    mtl_real *copy = (mtl_real *)calloc(set->total, sizeof *copy);
    size_t i, r, begin;
    assert_non_null(copy);
    for (i = 0; i < set->count; i++) {
        const mtl_gradient *g = mtl_gradients_get(mtl_trainer_gradients(c->trainer), set->tensors[i]);
        for (r = 0; g && r < mtl__gradient_ranges(g); r++) {
            size_t length = mtl__gradient_range(g, set->tensors[i], r, &begin);
            memcpy(copy + set->tensors[i]->offset + begin, g->value + begin, length * sizeof *copy);
        }
    }
    return copy;
}

/* ---- the step ------------------------------------------------------------------------------------------ */

/* Sequences [first, first + count) of a batch, as pointers into it. */
static void train_part(const test_problem *p, const test_batch *b, size_t first, size_t count,
                       mtl_batch *part, mtl_input *inputs, mtl_target *targets)
{
    size_t row = 0, i, k;
    for (i = 0; i < first; i++) row += (size_t)b->lengths[i];
    memset(part, 0, sizeof *part);
    memset(targets, 0, TEST_MOST * sizeof *targets);
    part->sequences = count;
    part->lengths = b->lengths + first;
    part->inputs = inputs;
    part->targets = targets;
    for (i = 0; i < p->desc.input_count; i++) {
        inputs[i].ids = b->inputs[i].ids ? b->inputs[i].ids + row : NULL;
        inputs[i].rows = b->inputs[i].rows ? b->inputs[i].rows + row * (size_t)p->desc.inputs[i].features
            : NULL;
    }
    for (k = 0; k < TEST_TASKS_COUNT; k++) {
        size_t item = p->desc.tasks[k].level == MTL_LEVEL_STEP ? row : first;
        size_t width = k >= TEST_SHARE ? 4 : k == TEST_CURVE ? 2 : 1;
        if (b->targets[k].labels) targets[k].labels = b->targets[k].labels + item;
        if (b->targets[k].values) targets[k].values = b->targets[k].values + item * width;
        if (b->targets[k].distribution) targets[k].distribution = b->targets[k].distribution + item * width;
    }
}

/* One batch cut into micro-batches gives the loss and the gradient of the whole, wherever labels are
   missing. */
static void test_train_micro_batches(void **state)
{
    static const float weights[] = { 0.5f, 1, 3 };
    test_random r = test_random_from(9);
    int number, cases = test_cases(60);
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = test_shape_random(number, &r);
        mtl_batch parts[20];
        mtl_input inputs[20][TEST_MOST];
        mtl_target targets[20][TEST_MOST];
        mtl_step one, many;
        mtl_real *whole, *cut;
        double losses[TEST_TASKS_COUNT];
        size_t items[TEST_TASKS_COUNT], count = 0, first = 0, k;
        train_case c;
        shape.sequences = test_random_between(&r, 2, 20);
        train_case_create(&c, &shape, NULL);
        mtl_trainer_destroy(c.trainer);
        mtl_model_destroy(c.model);
        c.p.tasks[TEST_CLASS].class_weights = weights;           /* divisors are then sums of class weights */
        c.p.tasks[TEST_CLASS].label_smoothing = number % 2 ? 0.1f : 0;
        c.model = mtl_model_create(&c.p.desc, &c.err);
        c.trainer = mtl_trainer_create(c.model, NULL, &c.err);
        mtl_train_gradients(c.trainer, c.p.batch, 1, &one, &c.err);
        TEST_FINE(&c.err);
        memcpy(losses, one.task_loss, sizeof losses);
        memcpy(items, one.task_items, sizeof items);
        whole = train_gradients(&c);
        while (first < c.p.batch->sequences) {
            size_t left = c.p.batch->sequences - first, n = (size_t)test_random_between(&r, 1, (int)left);
            train_part(&c.p, c.p.data, first, n, &parts[count], inputs[count], targets[count]);
            first += n;
            count++;
        }
        mtl_train_gradients(c.trainer, parts, count, &many, &c.err);
        TEST_FINE(&c.err);
        cut = train_gradients(&c);
        assert_int_equal(one.tokens, many.tokens);
        assert_true(fabs(one.loss - many.loss) <= 1e-6 * fabs(one.loss) + 1e-9);
        for (k = 0; k < TEST_TASKS_COUNT; k++) {
            assert_int_equal(items[k], many.task_items[k]);
            assert_true(fabs(losses[k] - many.task_loss[k]) <= 1e-6 * fabs(losses[k]) + 1e-9);
        }
        assert_true(test_distance(cut, whole, mtl_model_parameters(c.model)->total, 1e-6) < 1e-5);
        free(whole);
        free(cut);
        train_case_destroy(&c);
    }
}

/* A micro-batch that has no targets at all, beside one that has. */
static void test_train_micro_batch_without_targets(void **state)
{
    const test_shape shape = {0};
    mtl_batch two[2];
    mtl_real *alone, *beside;
    train_case c;
    (void)state;
    train_case_create(&c, &shape, NULL);
    mtl_train_gradients(c.trainer, c.p.batch, 1, NULL, &c.err);
    alone = train_gradients(&c);
    two[0] = two[1] = *c.p.batch;
    two[0].targets = NULL;
    mtl_train_gradients(c.trainer, two, 2, NULL, &c.err);
    TEST_FINE(&c.err);
    beside = train_gradients(&c);
    assert_memory_equal(alone, beside, mtl_model_parameters(c.model)->total * sizeof(mtl_real));
    free(alone);
    free(beside);
    train_case_destroy(&c);
}

/* No label anywhere: an update of nothing. */
static void test_train_nothing_labelled(void **state)
{
    test_shape shape = {0};
    mtl_step step;
    mtl_real *weights;
    train_case c;
    (void)state;
    shape.missing = 2;
    train_case_create(&c, &shape, NULL);
    weights = test_weights_copy(c.model);
    mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
    c.p.data->batch.targets = NULL;
    mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
    TEST_FINE(&c.err);
    assert_true(step.loss == 0 && step.grad_norm == 0);
    assert_int_equal(step.task_items[TEST_TAGS], 0);
    assert_true(test_weights_equal(c.model, weights));
    free(weights);
    train_case_destroy(&c);
}

static void test_train_step_report(void **state)
{
    test_shape shape = {0};
    mtl_trainer_desc desc = {0};
    mtl_prediction out[TEST_TASKS_COUNT];
    mtl_predictor *predictor;
    mtl_step step;
    double loss = 0, tags = 0, squares = 0;
    size_t i, k, items = 0, numbers = 0;
    train_case c;
    (void)state;
    shape.missing = 0.4;
    shape.sequences = 12;
    desc.lr = 0.25f;
    desc.optimizer = MTL_OPTIMIZER_SGD;
    train_case_create(&c, &shape, &desc);
    mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
    predictor = mtl_predictor_create(c.model, NULL, &c.err);
    mtl_predict(predictor, c.p.batch, out, &c.err);                         /* what the second step finds */
    mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
    TEST_FINE(&c.err);
    assert_int_equal(step.step, 2);
    assert_int_equal(step.tokens, c.p.data->rows);
    assert_int_equal(step.task_count, TEST_TASKS_COUNT);
    assert_true(step.lr == 0.25);
    for (k = 0; k < TEST_TASKS_COUNT; k++) loss += (double)mtl_model_describe(c.model)->tasks[k].weight
        * step.task_loss[k];
    assert_true(fabs(loss - step.loss) < 1e-9);
    /* a task's loss is the mean over its labelled items */
    for (i = 0; i < c.p.data->rows; i++) {
        int label = c.p.data->targets[TEST_TAGS].labels[i];
        if (label == MTL_MISSING) continue;
        tags -= log((double)out[TEST_TAGS].probabilities[i * 5 + (size_t)label]);
        items++;
    }
    for (i = 0; i < c.p.batch->sequences; i++) {
        mtl_real target = c.p.data->targets[TEST_NUMBER].values[i];
        if (mtl__is_nan(target)) continue;
        squares += pow((double)(out[TEST_NUMBER].values[i] - target), 2);
        numbers++;
    }
    assert_int_equal(step.task_items[TEST_TAGS], items);
    assert_int_equal(step.task_items[TEST_NUMBER], numbers);
    assert_true(items > 0 && items < c.p.data->rows && numbers > 0 && numbers < c.p.batch->sequences);
    assert_true(fabs(step.task_loss[TEST_TAGS] - tags / (double)items) < 1e-5);
    assert_true(fabs(step.task_loss[TEST_NUMBER] - squares / (double)numbers) < 1e-5);
    assert_true(step.grad_norm > 0);
    mtl_predictor_destroy(predictor);
    train_case_destroy(&c);
}

/* ---- what stops a step before a weight is touched ------------------------------------------------------ */

static void train_label_large(train_case *c) { test_labels(c->p.data, TEST_TAGS)[5] = 5; }
static void train_label_negative(train_case *c) { test_labels(c->p.data, TEST_TAGS)[3] = -3; }
static void train_label_unnamed(train_case *c)
{
    static const char *const two[] = { "one", "two" };
    c->p.data->targets[TEST_TAGS].unknown = two;
    c->p.data->targets[TEST_TAGS].unknown_count = 2;
    test_labels(c->p.data, TEST_TAGS)[2] = MTL_UNKNOWN_LABEL - 1;
    test_labels(c->p.data, TEST_TAGS)[3] = MTL_UNKNOWN_LABEL - 2;
}
static void train_label_of_sequence(train_case *c) { test_labels(c->p.data, TEST_CLASS)[2] = 3; }
static void train_value_infinite(train_case *c)
{
    test_numbers(c->p.data, TEST_CURVE)[2 * 4 + 1] = test_infinity();
}
static void train_values_for_classes(train_case *c)
{
    c->p.data->targets[TEST_TAGS].values = c->p.data->targets[TEST_CURVE].values;
}
static void train_labels_for_numbers(train_case *c)
{
    c->p.data->targets[TEST_NUMBER].labels = c->p.data->targets[TEST_CLASS].labels;
}
static void train_share_infinite(train_case *c)
{
    test_numbers(c->p.data, TEST_SHARE)[4 * 1 + 2] = test_infinity();
}
static void train_share_nan_inside(train_case *c)
{
    test_numbers(c->p.data, TEST_SHARE)[4 * 1 + 2] = test_nan();
}
static void train_id_large(train_case *c) { test_ids(c->p.data)[7] = 1000; }
static void train_feature_nan(train_case *c)
{
    ((mtl_real *)(uintptr_t)c->p.data->inputs[1].rows)[4] = test_nan();
}

static void train_spoil_tensor(train_case *c, const char *name, mtl_real value)
{
    mtl_tensor *t = mtl_model_tensor(c->model, name);
    assert_non_null(t);
    t->value[0] = value;
    mtl_model_prepare(c->model, &c->err);
}
static void train_loss_overflows(train_case *c)
{
    train_spoil_tensor(c, "number.output.bias", sizeof(mtl_real) == 4 ? (mtl_real)1e30 : (mtl_real)1e300);
}
static void train_weight_is_nan(train_case *c) { train_spoil_tensor(c, "encoder.weight_hh_l0", test_nan()); }

static void test_train_stopped_steps(void **state)
{
    static const struct {
        void (*spoil)(train_case *c);
        int code;
        const char *name;
        long long position;
        const char *part;
    } cases[] = {
        { train_label_large, MTL_ERROR_RANGE, "tags", 5,
            "label 5 of sequence 2, step 1 is not among its 5 classes" },
        { train_label_negative, MTL_ERROR_RANGE, "tags", 3, "label -3 of sequence 1, step 0" },
        { train_label_unnamed, MTL_ERROR_RANGE, "tags", 3, "label -4 of sequence 1, step 0" },
        { train_label_of_sequence, MTL_ERROR_RANGE, "class", 2, "label 3 of sequence 2" },
        { train_value_infinite, MTL_ERROR_NUMBER, "curve", 4, "sequence 2, step 0" },
        { train_values_for_classes, MTL_ERROR_ARGUMENT, "tags", -1, "labels or distributions" },
        { train_labels_for_numbers, MTL_ERROR_ARGUMENT, "number", -1, "values" },
        { train_share_infinite, MTL_ERROR_NUMBER, "share", 1, "sequence 1" },
        { train_share_nan_inside, MTL_ERROR_NUMBER, "share", 1, "sequence 1" },
        { train_id_large, MTL_ERROR_RANGE, "words", 7, "id 1000 of sequence 2, step 3" },
        { train_feature_nan, MTL_ERROR_NUMBER, "numbers", 2, "column 0 of sequence 0, step 2" },
        { train_loss_overflows, MTL_ERROR_NUMBER, "number", -1, "no weight was changed" },
        { train_weight_is_nan, MTL_ERROR_NUMBER, NULL, -1, "no weight was changed" },
    };
    static const int lengths[] = { 3, 1, 5 };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        test_shape shape = {0};
        train_case c;
        mtl_step step;
        mtl_real *weights, *m, *v;
        size_t bytes;
        shape.features = 2;
        train_case_create(&c, &shape, NULL);
        test_batch_destroy(c.p.data);
        c.p.data = test_batch_create(&c.p.desc, lengths, 3, 0, 0, 1);
        c.p.batch = &c.p.data->batch;
        mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
        TEST_FINE(&c.err);
        cases[i].spoil(&c);
        bytes = mtl_model_parameters(c.model)->total * sizeof(mtl_real);
        weights = test_weights_copy(c.model);
        m = (mtl_real *)malloc(bytes);
        v = (mtl_real *)malloc(bytes);
        assert_true(m && v);
        memcpy(m, c.trainer->optimizer.m, bytes);
        memcpy(v, c.trainer->optimizer.v, bytes);
        mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
        if (c.err.position != cases[i].position)
            fail_msg("case %d: position %lld, \"%s\"", (int)i, c.err.position, c.err.message);
        test_expect_error(&c.err, cases[i].code, cases[i].name, cases[i].part);
        assert_true(test_weights_equal(c.model, weights));
        assert_memory_equal(m, c.trainer->optimizer.m, bytes);
        assert_memory_equal(v, c.trainer->optimizer.v, bytes);
        assert_int_equal(c.trainer->optimizer.step, 1);
        free(weights);
        free(m);
        free(v);
        train_case_destroy(&c);
    }
}

/* skip_bad: a task whose loss is no number is left out, and the others learn as if it were off. */
static void test_train_skip_bad(void **state)
{
    test_shape shape = {0};
    mtl_trainer_desc training = {0};
    train_case c, twin;
    mtl_step step;
    size_t k;
    (void)state;
    training.skip_bad = 1;
    shape.features = 2;
    train_case_create(&c, &shape, &training);
    train_case_create(&twin, &shape, NULL);
    train_loss_overflows(&c), train_loss_overflows(&twin);
    mtl_trainer_set_weight(twin.trainer, TEST_NUMBER, 0, &twin.err);
    mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
    mtl_train_step(twin.trainer, twin.p.batch, 1, NULL, &twin.err);
    TEST_FINE(&c.err);
    TEST_FINE(&twin.err);
    for (k = 0; k < step.task_count; k++) assert_int_equal(step.task_skipped[k], k == TEST_NUMBER);
    assert_true(step.task_loss[TEST_NUMBER] == 0 && step.task_loss[TEST_TAGS] > 0);
    assert_true(test_weights_equal(c.model, mtl_model_parameters(twin.model)->block));
    train_weight_is_nan(&c);                                    /* no task is left */
    mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
    test_expect_error(&c.err, MTL_ERROR_NUMBER, NULL, "no weight was changed");
    train_case_destroy(&c), train_case_destroy(&twin);
}

/* So is a head whose outputs are no numbers, in training and in the validation scores. */
static void test_train_fit_skip_bad(void **state)
{
    test_shape shape = {0};
    mtl_trainer_desc training = {0};
    mtl_fit_desc how = {0};
    mtl_fit_result result;
    train_case c;
    (void)state;
    training.skip_bad = 1;
    how.epochs = 3;
    train_case_create(&c, &shape, &training);
    mtl_model_tensor(c.model, "number.output.bias")->value[0] = mtl__nan();
    mtl_model_prepare(c.model, &c.err);
    mtl_fit(c.trainer, c.p.batch, 1, c.p.batch, 1, &how, &result, &c.err);
    TEST_FINE(&c.err);
    assert_int_equal(result.epochs, 3);
    assert_true(result.task_best_score[TEST_NUMBER] == 0 && result.task_best_score[TEST_TAGS] > 0);
    train_case_destroy(&c);
}

/* A step that failed leaves no trace: what follows is what would have followed without it. */
static void test_train_goes_on_after_an_error(void **state)
{
    test_shape shape = {0};
    train_case c, twin;
    mtl_real *weights;
    int i, held;
    (void)state;
    shape.dropout = 0.2;
    train_case_create(&c, &shape, NULL);
    train_case_create(&twin, &shape, NULL);
    for (i = 0; i < 3; i++) {
        int *labels = test_labels(c.p.data, TEST_CLASS);
        held = labels[1];
        labels[1] = 99;
        mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
        test_expect_error(&c.err, MTL_ERROR_RANGE, "class", "99");
        labels[1] = held;
        mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
        mtl_train_step(twin.trainer, twin.p.batch, 1, NULL, &twin.err);
        TEST_FINE(&c.err);
        TEST_FINE(&twin.err);
    }
    weights = test_weights_copy(c.model);
    assert_true(test_weights_equal(twin.model, weights));
    free(weights);
    train_case_destroy(&c);
    train_case_destroy(&twin);
}

/* Labels without a class are left out in training, as missing ones are. */
static void test_train_unknown_labels(void **state)
{
    const test_shape shape = {0};
    train_case missing, unknown;
    mtl_step one, other;
    (void)state;
    train_case_create(&missing, &shape, NULL);
    train_case_create(&unknown, &shape, NULL);
    test_labels(missing.p.data, TEST_TAGS)[2] = MTL_MISSING;
    test_labels(unknown.p.data, TEST_TAGS)[2] = MTL_UNKNOWN_LABEL;
    mtl_train_step(missing.trainer, missing.p.batch, 1, &one, &missing.err);
    mtl_train_step(unknown.trainer, unknown.p.batch, 1, &other, &unknown.err);
    TEST_FINE(&missing.err);
    TEST_FINE(&unknown.err);
    assert_true(one.loss == other.loss && one.grad_norm == other.grad_norm);
    assert_int_equal(other.task_items[TEST_TAGS], unknown.p.data->rows - 1);
    train_case_destroy(&missing);
    train_case_destroy(&unknown);
}

static void train_steps(train_case *c, mtl_trainer *trainer, int first, int count)
{
    int i;
    for (i = first; i < first + count; i++) {
        test_batch *b = test_batch_create(&c->p.desc, NULL, 4, 6, 0.3, (unsigned long long)i + 1000);
        mtl_train_step(trainer, &b->batch, 1, NULL, &c->err);
        TEST_FINE(&c->err);
        test_batch_destroy(b);
    }
}

/* ---- freezing, rates, task weights --------------------------------------------------------------------- */

static void test_train_freezing(void **state)
{
    const test_shape shape = {0};
    mtl_parameters *set;
    mtl_real *weights;
    train_case c;
    size_t i, k, frozen = 0;
    (void)state;
    train_case_create(&c, &shape, NULL);
    set = mtl_model_parameters(c.model);
    assert_int_equal(mtl_model_freeze(c.model, "encoder.", 1), 4);
    assert_int_equal(mtl_model_freeze(c.model, "words.", 1), 1);
    assert_int_equal(mtl_model_freeze(c.model, "none.", 1), 0);
    weights = test_weights_copy(c.model);
    for (i = 0; i < 3; i++) mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
    TEST_FINE(&c.err);
    for (i = 0; i < set->count; i++) {
        const mtl_tensor *t = set->tensors[i];
        int same = memcmp(t->value, weights + t->offset, t->count * sizeof(mtl_real)) == 0;
        assert_int_equal(same, t->frozen);
        frozen += (size_t)t->frozen;
    }
    assert_int_equal(frozen, 5);
    assert_int_equal(mtl_model_freeze(c.model, "", 0), set->count);
    mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
    TEST_FINE(&c.err);
    for (i = 0; i < set->count; i++) {
        const mtl_tensor *t = set->tensors[i];
        for (k = 0; k < t->count && t->value[k] == weights[t->offset + k];) k++;
        assert_true(k < t->count);
    }
    free(weights);
    train_case_destroy(&c);
}

/* Freezes what `pattern` says, tensor by tensor in turn: f: frozen. */
static void train_freeze(mtl_model *model, const char *pattern)
{
    const mtl_parameters *set = mtl_model_parameters(model);
    size_t i;
    for (i = 0; i < set->count; i++) set->tensors[i]->frozen = pattern[i % strlen(pattern)] == 'f';
}

/* What a frozen trunk under a free and a frozen head costs: nothing but the forward pass. */
static void test_train_frozen_costs(void **state)
{
    const size_t most = (MTL__REAL_IS_DOUBLE ? 4600 : 2300) * (size_t)1000;
    mtl_input_desc input = {0};
    mtl_task_desc tasks[2] = {{0}};
    mtl_model_desc desc = {0};
    mtl_trainer_desc how = {0};
    mtl_error err = {0};
    const mtl_parameters *set;
    const mtl_record *r;
    mtl_trainer *trainer;
    mtl_model *model;
    test_batch *b;
    size_t i, whole, free_bytes;
    (void)state;
    input.name = "text", input.vocabulary = 1000, input.width = 32;
    tasks[0].name = "intent", tasks[0].classes = 7;
    tasks[1].name = "slots", tasks[1].classes = 12, tasks[1].level = MTL_LEVEL_STEP;
    desc.inputs = &input, desc.input_count = 1, desc.tasks = tasks, desc.task_count = 2;
    desc.encoder.hidden = 64, desc.encoder.layers = 2, desc.encoder.bidirectional = 1;
    how.max_rows = 320, how.max_sequences = 16, how.max_steps = 20;
    model = mtl_model_create(&desc, &err);
    free_bytes = mtl_trainer_size(model, &how, &err);
    mtl_model_destroy(model);
    desc.freeze = "text.*,encoder.*+slots.*";
    model = mtl_model_create(&desc, &err);
    whole = mtl_model_size(&desc, &err) + mtl_trainer_size(model, &how, &err);
    trainer = mtl_trainer_create(model, &how, &err);
    TEST_FINE(&err);
    if (whole > most) fail_msg("model and trainer take %d bytes", (int)whole);
    assert_true(6 * mtl_trainer_size(model, &how, &err) < free_bytes);
    b = test_batch_create(&desc, NULL, 16, 20, 0, 3);
    mtl_train_step(trainer, &b->batch, 1, NULL, &err);
    TEST_FINE(&err);
    set = mtl_model_parameters(model);
    for (i = 0; i < set->count; i++) {
        const int frees = strncmp(set->tensors[i]->name, "intent.", 7) == 0;
        assert_int_equal(set->tensors[i]->frozen, !frees);
        assert_int_equal(trainer->gradients->of[i].value != NULL, frees);
        assert_int_equal(trainer->optimizer.steps[i], frees);
        assert_true(frees || (!trainer->optimizer.seen[i] && !trainer->optimizer.late[i]));
    }
    assert_int_equal(trainer->optimizer.at[set->count - 1], mtl__padded(7 * 128) + mtl__padded(7));
    for (i = 0; i < set->matrix_count; i++) assert_null(trainer->packings->of[i]);
    assert_int_equal(trainer->tape.count, 2);           /* the head's product and its loss */
    for (r = trainer->tape.last; r; r = r->previous)
        assert_true(r->backward == mtl__dense_backward || r->backward == mtl__loss_backward);
    test_batch_destroy(b);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
}

/* Steps of a model whose tensors are frozen by a pattern: when = 0: before its trainer is made, 1: after it,
   2: not, but at a rate of 0. */
static mtl_real *train_frozen(const test_shape *shape, const mtl_trainer_desc *how, const char *pattern,
                              int when)
{
    train_case c;
    mtl_real *weights;
    size_t i;
    memset(&c, 0, sizeof c);
    test_problem_create(&c.p, shape);
    c.model = mtl_model_create(&c.p.desc, &c.err);
    if (when == 0) train_freeze(c.model, pattern);
    c.trainer = mtl_trainer_create(c.model, how, &c.err);
    if (when == 1) train_freeze(c.model, pattern);
    for (i = 0; when == 2 && i < mtl_model_parameters(c.model)->count; i++)
        if (pattern[i % strlen(pattern)] == 'f') mtl_model_parameters(c.model)->tensors[i]->rate = 0;
    train_steps(&c, c.trainer, 0, 4);
    if (how->average > 0) mtl_trainer_swap_average(c.trainer, &c.err);
    TEST_FINE(&c.err);
    weights = test_weights_copy(c.model);
    train_case_destroy(&c);
    return weights;
}

/* What is free learns the same, whatever room the trainer has for the rest, with threads and without. */
static void test_train_frozen_updates(void **state)
{
    static const char *const patterns[] = { "fffff.", "f", "ff.", ".f", "fffffffffffff.......", "f..f." };
    int number, cases = test_quick() ? 12 : 48, i;
    (void)state;
    for (number = 0; number < cases; number++) {
        const char *pattern = patterns[number % 6];
        test_shape shape = {0};
        mtl_trainer_desc how = {0};
        mtl_real *weights[4];
        size_t total;
        train_case c;
        shape.cell = 1 + number % 3;
        shape.bidirectional = number / 3 % 2;
        shape.layers = 1 + number / 2 % 2;
        shape.two_columns = number / 4 % 2;
        shape.features = number % 4 == 3 ? 3 : 0;
        shape.dropout = number % 5 == 0 ? 0.2 : 0;
        how.optimizer = number % 2 ? MTL_OPTIMIZER_ADAM : MTL_OPTIMIZER_SGD;
        how.average = number % 4 == 1 ? 0.5f : 0;
        how.lazy = number % 7 == 1;
        how.lr = 0.01f;
        how.precision = number % 5 == 4 ? MTL_PRECISION_BF16 : MTL_PRECISION_F32;
        how.isa = number % 5 == 4 ? test_bf16_isa() : MTL_ISA_AUTO;
        for (i = 0; i < 3; i++) weights[i] = train_frozen(&shape, &how, pattern, i);
        how.threads = 3;
        weights[3] = train_frozen(&shape, &how, pattern, 0);
        train_case_create(&c, &shape, NULL);
        total = mtl_model_parameters(c.model)->total;
        if (memcmp(weights[0], weights[1], total * sizeof **weights))
            fail_msg("case %d: frozen later", number);
        if (memcmp(weights[0], weights[3], total * sizeof **weights)) fail_msg("case %d: threads", number);
        if (how.precision != MTL_PRECISION_BF16)
            assert_true(test_distance(weights[0], weights[2], total, 0.1) < 1e-5);
        for (i = 0; i < 4; i++) free(weights[i]);
        train_case_destroy(&c);
    }
}

/* A tensor that the trainer has no room for is told by name, until it is frozen again or there is a new
   one. */
static void test_train_unfreezing(void **state)
{
    const test_shape shape = {0};
    mtl_gradients *of[TEST_TASKS_COUNT] = { NULL };
    mtl_trainer *other;
    mtl_real *weights;
    train_case c;
    (void)state;
    train_case_create(&c, &shape, NULL);
    mtl_model_freeze(c.model, "encoder.", 1);
    other = mtl_trainer_create(c.model, NULL, &c.err);
    mtl_train_step(other, c.p.batch, 1, NULL, &c.err);
    TEST_FINE(&c.err);
    mtl_model_freeze(c.model, "encoder.weight_hh", 0);
    weights = test_weights_copy(c.model);
    mtl_train_step(other, c.p.batch, 1, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_UNSUPPORTED, "encoder.weight_hh_l0", "make a new trainer");
    mtl_train_gradients(other, c.p.batch, 1, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_UNSUPPORTED, "encoder.weight_hh_l0", "make a new trainer");
    mtl_train_task_gradients(other, c.p.batch, 1, of, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_UNSUPPORTED, "encoder.weight_hh_l0", "make a new trainer");
    assert_true(test_weights_equal(c.model, weights));
    mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);      /* made when all was free */
    TEST_FINE(&c.err);
    mtl_model_freeze(c.model, "encoder.weight_hh", 1);
    mtl_train_step(other, c.p.batch, 1, NULL, &c.err);
    TEST_FINE(&c.err);
    free(weights);
    mtl_trainer_destroy(other);
    train_case_destroy(&c);
}

/* Backward products of a frozen part, under which something learns, follow what another trainer made of
   it. */
static void test_train_frozen_packings(void **state)
{
    const test_shape shape = {0};
    train_case c;
    size_t i;
    mtl_trainer *fresh, *held;
    (void)state;
    train_case_create(&c, &shape, NULL);
    mtl_model_freeze(c.model, "encoder.", 1);
    held = mtl_trainer_create(c.model, NULL, &c.err);
    mtl_train_gradients(held, c.p.batch, 1, NULL, &c.err);      /* packs W_ih and W_hh, for words.weight */
    mtl_model_freeze(c.model, "encoder.", 0);
    train_steps(&c, c.trainer, 0, 3);
    mtl_model_freeze(c.model, "encoder.", 1);
    fresh = mtl_trainer_create(c.model, NULL, &c.err);
    mtl_train_gradients(fresh, c.p.batch, 1, NULL, &c.err);
    mtl_train_gradients(held, c.p.batch, 1, NULL, &c.err);
    TEST_FINE(&c.err);
    assert_true(held->packings->of[0] && held->gradients->of[0].row_count > 0);
    for (i = 0; i < held->gradients->of[0].row_count; i++) {
        const size_t width = c.model->set.tensors[0]->shape[1];
        const size_t at = (size_t)held->gradients->of[0].rows[i] * width;
        assert_memory_equal(held->gradients->of[0].value + at, fresh->gradients->of[0].value + at,
                            width * sizeof(mtl_real));
    }
    mtl_trainer_destroy(fresh);
    mtl_trainer_destroy(held);
    train_case_destroy(&c);
}

/* Everything frozen: a step is still a step. */
static void test_train_all_frozen(void **state)
{
    const test_shape shape = {0};
    mtl_step step;
    mtl_real *weights;
    train_case c;
    (void)state;
    train_case_create(&c, &shape, NULL);
    mtl_model_freeze(c.model, "", 1);
    weights = test_weights_copy(c.model);
    mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
    TEST_FINE(&c.err);
    assert_true(step.grad_norm == 0 && step.loss > 0);
    assert_true(test_weights_equal(c.model, weights));
    free(weights);
    train_case_destroy(&c);
}

static void test_train_rates(void **state)
{
    const test_shape shape = {0};
    mtl_trainer_desc desc = {0};
    train_case plain, slow;
    mtl_real *before;
    size_t i, k;
    (void)state;
    desc.optimizer = MTL_OPTIMIZER_SGD;
    desc.lr = 0.5f;
    train_case_create(&plain, &shape, &desc);
    train_case_create(&slow, &shape, &desc);
    before = test_weights_copy(plain.model);
    assert_int_equal(mtl_model_rate(slow.model, "tags.", 0.25f), 2);
    assert_int_equal(mtl_model_rate(slow.model, "class.", 0), 4);
    mtl_train_step(plain.trainer, plain.p.batch, 1, NULL, &plain.err);
    mtl_train_step(slow.trainer, slow.p.batch, 1, NULL, &slow.err);
    TEST_FINE(&plain.err);
    TEST_FINE(&slow.err);
    for (i = 0; i < mtl_model_parameters(plain.model)->count; i++) {
        const mtl_tensor *a = mtl_model_parameters(plain.model)->tensors[i],
            *b = mtl_model_parameters(slow.model)->tensors[i];
        double rate = strncmp(a->name, "tags.", 5) == 0 ? 0.25 : strncmp(a->name, "class.", 6) == 0 ? 0 : 1;
        for (k = 0; k < a->count; k++) {
            double full = (double)(a->value[k] - before[a->offset + k]),
                own = (double)(b->value[k] - before[a->offset + k]);
            assert_true(fabs(own - rate * full) < 1e-6);
        }
    }
    free(before);
    train_case_destroy(&plain);
    train_case_destroy(&slow);
}

static void test_train_set_weight(void **state)
{
    const test_shape shape = {0};
    mtl_step step;
    double tags;
    train_case c;
    (void)state;
    train_case_create(&c, &shape, NULL);
    mtl_train_gradients(c.trainer, c.p.batch, 1, &step, &c.err);
    tags = step.task_loss[TEST_TAGS];
    mtl_trainer_set_weight(c.trainer, TEST_TAGS, 3, &c.err);
    mtl_trainer_set_weight(c.trainer, TEST_CLASS, 0, &c.err);
    mtl_trainer_set_weight(c.trainer, TEST_NUMBER, 0, &c.err);
    mtl_trainer_set_weight(c.trainer, TEST_CURVE, 0, &c.err);
    mtl_trainer_set_weight(c.trainer, TEST_SHARE, 0, &c.err);
    mtl_trainer_set_weight(c.trainer, TEST_SET, 0, &c.err);
    mtl_train_gradients(c.trainer, c.p.batch, 1, &step, &c.err);
    TEST_FINE(&c.err);
    assert_true(step.task_loss[TEST_TAGS] == tags && step.task_loss[TEST_CLASS] == 0);
    assert_true(fabs(step.loss - 3 * tags) < 1e-9);
    assert_int_equal(mtl_gradients_get(mtl_trainer_gradients(c.trainer),
                                       mtl_model_tensor(c.model, "class.output.weight"))->state,
                                           MTL_GRAD_NONE);
    mtl_trainer_set_weight(c.trainer, TEST_TASKS_COUNT, 1, &c.err);
    test_expect_error(&c.err, MTL_ERROR_RANGE, "task", "task 6");
    mtl_trainer_set_weight(c.trainer, -1, 1, &c.err);
    test_expect_error(&c.err, MTL_ERROR_RANGE, "task", "task -1");
    mtl_trainer_set_weight(c.trainer, TEST_TAGS, -1, &c.err);
    test_expect_error(&c.err, MTL_ERROR_NUMBER, "tags", "at least 0");
    mtl_trainer_set_weight(c.trainer, TEST_TAGS, (float)test_nan(), &c.err);
    test_expect_error(&c.err, MTL_ERROR_NUMBER, "tags", "at least 0");
    train_case_destroy(&c);
}

/* A task that is evaluated only is scored and never trained. */
static void test_train_evaluate_only(void **state)
{
    const test_shape shape = {0};
    mtl_task_score table[TEST_TASKS_COUNT];
    mtl_scores scores;
    mtl_predictor *predictor;
    mtl_real *weights;
    train_case c;
    const mtl_tensor *t;
    (void)state;
    train_case_create(&c, &shape, NULL);
    mtl_trainer_destroy(c.trainer);
    mtl_model_destroy(c.model);
    c.p.tasks[TEST_CLASS].evaluate_only = 1;
    c.model = mtl_model_create(&c.p.desc, &c.err);
    c.trainer = mtl_trainer_create(c.model, NULL, &c.err);
    weights = test_weights_copy(c.model);
    mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
    t = mtl_model_tensor(c.model, "class.output.weight");
    assert_memory_equal(t->value, weights + t->offset, t->count * sizeof(mtl_real));
    t = mtl_model_tensor(c.model, "tags.output.weight");
    assert_true(memcmp(t->value, weights + t->offset, t->count * sizeof(mtl_real)) != 0);
    predictor = mtl_predictor_create(c.model, NULL, &c.err);
    scores.tasks = table;
    mtl_evaluate(predictor, c.p.batch, 1, &scores, NULL, &c.err);
    TEST_FINE(&c.err);
    assert_int_equal(table[TEST_CLASS].items, 5);
    mtl_predictor_destroy(predictor);
    free(weights);
    train_case_destroy(&c);
}

/* Dropout: another mask at every step, the same ones for the same seed. */
static void test_train_dropout(void **state)
{
    test_shape shape = {0};
    mtl_trainer_desc desc = {0};
    mtl_step first, again, later, other;
    train_case c, twin, reseeded;
    (void)state;
    shape.dropout = 0.5;
    desc.lr = MTL_ZERO;                                                     /* weights stay */
    train_case_create(&c, &shape, &desc);
    train_case_create(&twin, &shape, &desc);
    desc.seed = 2;
    train_case_create(&reseeded, &shape, &desc);
    mtl_train_step(c.trainer, c.p.batch, 1, &first, &c.err);
    mtl_train_step(twin.trainer, twin.p.batch, 1, &again, &twin.err);
    mtl_train_step(reseeded.trainer, reseeded.p.batch, 1, &other, &reseeded.err);
    mtl_train_step(c.trainer, c.p.batch, 1, &later, &c.err);
    TEST_FINE(&c.err);
    TEST_FINE(&twin.err);
    TEST_FINE(&reseeded.err);
    assert_true(first.loss == again.loss && first.grad_norm == again.grad_norm);
    assert_true(first.loss != later.loss && first.loss != other.loss);
    train_case_destroy(&c);
    train_case_destroy(&twin);
    train_case_destroy(&reseeded);
}

/* ---- R-Drop -------------------------------------------------------------------------------------------- */

static double train_rdrop_loss(void *user)
{
    train_case *c = (train_case *)user;
    mtl_step step;
    mtl_model_prepare(c->model, &c->err);
    mtl_train_gradients(c->trainer, c->p.batch, 1, &step, &c->err);
    TEST_FINE(&c->err);
    return step.loss;
}

/* Without dropout both passes agree, and all is as in one pass. With it, in double, every gradient is the
   slope of the loss; the agreement adds to the loss of the same masks; threads change no bit. */
static void test_train_rdrop(void **state)
{
    test_shape shape = {0};
    mtl_trainer_desc how = {0}, plain = {0}, threads, weak;
    mtl_check_array arrays[40] = {{0}};
    mtl_check_result result;
    train_case c, one, other;
    size_t i, n;
    (void)state;
    how.rdrop = 0.7f;
    train_case_create(&c, &shape, &how);
    train_case_create(&one, &shape, &plain);
    assert_true(fabs(train_rdrop_loss(&c) - train_rdrop_loss(&one)) < 1e-5);
    train_case_destroy(&c);
    train_case_destroy(&one);
    shape.dropout = 0.3;
    threads = weak = how;
    threads.threads = 3;
    weak.rdrop = 0.1f;
    train_case_create(&c, &shape, &how);
    train_case_create(&one, &shape, &weak);
    train_case_create(&other, &shape, &threads);
    assert_true(train_rdrop_loss(&c) > train_rdrop_loss(&one) + 1e-3);
    assert_true(train_rdrop_loss(&c) == train_rdrop_loss(&other));
    n = mtl_model_parameters(c.model)->count;
    assert_true(n <= sizeof arrays / sizeof *arrays);
    for (i = 0; i < n; i++) {
        const mtl_tensor *t = mtl_model_parameters(c.model)->tensors[i];
        mtl_gradient *g = mtl_gradients_get(mtl_trainer_gradients(c.trainer), t);
        const mtl_gradient *twin = mtl_gradients_get(mtl_trainer_gradients(other.trainer),
                                                     mtl_model_parameters(other.model)->tensors[i]);
        assert_memory_equal(g->value, twin->value, t->count * sizeof *g->value);
        arrays[i].name = t->name;
        arrays[i].value = t->value;
        arrays[i].grad = (mtl_real *)memcpy(malloc(t->count * sizeof *g->value), g->value,
                                            t->count * sizeof *g->value);
        arrays[i].count = t->count;
    }
    if (sizeof(mtl_real) == sizeof(double)) {
        mtl_check_gradients(train_rdrop_loss, &c, arrays, n, 3e-5, &result, &c.err);
        TEST_FINE(&c.err);
        if (result.worst_error > 1e-7)
            fail_msg("%s[%zu]: %.9g, slope %.9g", result.worst_name, result.worst_index, result.analytic,
                     result.numeric);
    }
    for (i = 0; i < n; i++) free((void *)(uintptr_t)arrays[i].grad);
    train_case_destroy(&c);
    train_case_destroy(&one);
    train_case_destroy(&other);
}

/* A batch that carries states cannot be run twice. */
static void test_train_rdrop_states(void **state)
{
    const test_shape shape = {0};
    mtl_trainer_desc how = {0};
    train_case c;
    mtl_state *carried;
    mtl_batch batch;
    (void)state;
    how.rdrop = 0.5f;
    train_case_create(&c, &shape, &how);
    carried = mtl_state_create(c.model, c.p.batch->sequences, &c.err);
    batch = *c.p.batch;
    batch.state = carried;
    mtl_train_step(c.trainer, &batch, 1, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_UNSUPPORTED, "trainer.rdrop", "state");
    mtl_state_destroy(carried);
    train_case_destroy(&c);
}

/* ---- schedules ----------------------------------------------------------------------------------------- */

enum { TRAIN_STEPS = 40 };

/* Rates of 40 updates of a schedule, as shares of the base rate. */
static void train_rates(mtl_trainer_desc *desc, double *rates)
{
    test_shape shape = {0};
    train_case c;
    mtl_step step;
    int i;
    shape.hidden = 1;
    shape.sequences = shape.longest = 1;
    desc->lr = 0.01f;
    train_case_create(&c, &shape, desc);
    for (i = 0; i < TRAIN_STEPS; i++) {
        mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
        TEST_FINE(&c.err);
        rates[i] = step.lr / (double)0.01f;
    }
    train_case_destroy(&c);
}

static void train_expect_rate(const double *rates, int step, double expected)
{
    if (fabs(rates[step - 1] - expected) > 1e-9)
        fail_msg("update %d: rate %.9g instead of %.9g", step, rates[step - 1], expected);
}

static void test_train_schedules(void **state)
{
    double rates[TRAIN_STEPS];
    int i;
    (void)state;
    {
        mtl_trainer_desc desc = {0};
        train_rates(&desc, rates);
        for (i = 1; i <= TRAIN_STEPS; i++) train_expect_rate(rates, i, 1);
        desc.warmup = 8;
        train_rates(&desc, rates);
        for (i = 1; i <= TRAIN_STEPS; i++) train_expect_rate(rates, i, i < 8 ? i / 8.0 : 1);
    }
    {
        mtl_trainer_desc desc = {0};
        desc.schedule = MTL_SCHEDULE_STEP;
        desc.schedule_every = 10;
        desc.schedule_factor = 0.3f;
        train_rates(&desc, rates);
        for (i = 1; i <= TRAIN_STEPS; i++) train_expect_rate(rates, i, pow((double)0.3f, (i - 1) / 10));
        desc.schedule = MTL_SCHEDULE_EXPONENTIAL;
        train_rates(&desc, rates);
        for (i = 1; i <= TRAIN_STEPS; i++) train_expect_rate(rates, i, pow((double)0.3f, (i - 1) / 10.0));
    }
    {
        mtl_trainer_desc desc = {0};
        desc.schedule = MTL_SCHEDULE_LINEAR;
        desc.warmup = 5;
        desc.total_steps = 25;
        desc.lr_final = 0.5f;
        train_rates(&desc, rates);
        for (i = 1; i <= TRAIN_STEPS; i++) train_expect_rate(rates, i, i <= 5 ? i / 5.0 : i >= 25
                                                             ? 0.5 : 1 - 0.5 * (i - 5) / 20);
        desc.schedule = MTL_SCHEDULE_COSINE;
        train_rates(&desc, rates);
        train_expect_rate(rates, 5, 1);
        train_expect_rate(rates, 15, 0.75);
        for (i = 25; i <= TRAIN_STEPS; i++) train_expect_rate(rates, i, 0.5);
        for (i = 6; i <= 25; i++) assert_true(rates[i - 1] < rates[i - 2]);
    }
    {
        mtl_trainer_desc desc = {0};
        desc.schedule = MTL_SCHEDULE_ONE_CYCLE;
        desc.total_steps = 40;                                              /* rises over 12 */
        train_rates(&desc, rates);
        train_expect_rate(rates, 1, 1.0 / 25);
        train_expect_rate(rates, 12, 1);
        for (i = 2; i <= 12; i++) assert_true(rates[i - 1] > rates[i - 2]);
        for (i = 13; i <= 40; i++) assert_true(rates[i - 1] < rates[i - 2]);
        train_expect_rate(rates, 40, 1e-4 / 25);
    }
}

static void test_train_set_lr(void **state)
{
    const test_shape shape = {0};
    mtl_trainer_desc desc = {0};
    mtl_step step;
    train_case c;
    (void)state;
    desc.schedule = MTL_SCHEDULE_STEP;
    desc.schedule_every = 1;
    train_case_create(&c, &shape, &desc);
    mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
    mtl_trainer_set_lr(c.trainer, 0.5f);
    mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
    TEST_FINE(&c.err);
    assert_true(step.lr == 0.25);
    train_case_destroy(&c);
}

/* ---- averages, lazy rows ------------------------------------------------------------------------------- */

static void test_train_average(void **state)
{
    const test_shape shape = {0};
    mtl_trainer_desc desc = {0};
    mtl_real *average, *last;
    train_case c;
    size_t total, i, s;
    (void)state;
    desc.average = 0.75f;
    desc.lr = 0.05f;
    train_case_create(&c, &shape, &desc);
    total = mtl_model_parameters(c.model)->total;
    average = test_weights_copy(c.model);
    for (s = 0; s < 4; s++) {
        mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
        for (i = 0; i < total; i++) average[i] += (mtl_real)0.25
            * (mtl_model_parameters(c.model)->block[i] - average[i]);
    }
    last = test_weights_copy(c.model);
    mtl_trainer_swap_average(c.trainer, &c.err);
    TEST_FINE(&c.err);
    assert_true(test_distance(mtl_model_parameters(c.model)->block, average, total, 0.1) < 1e-6);
    assert_false(test_weights_equal(c.model, last));
    mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_ARGUMENT, "average", "swap them back");
    mtl_trainer_swap_average(c.trainer, &c.err);
    TEST_FINE(&c.err);
    assert_true(test_weights_equal(c.model, last));
    mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
    TEST_FINE(&c.err);
    free(average);
    free(last);
    train_case_destroy(&c);
    train_case_create(&c, &shape, NULL);
    mtl_trainer_swap_average(c.trainer, &c.err);
    test_expect_error(&c.err, MTL_ERROR_ARGUMENT, "average", "keeps no average");
    train_case_destroy(&c);
}

/* Exact Adam goes on moving a row that a step does not touch; lazy Adam leaves it and its moments alone. */
static void test_train_lazy_rows(void **state)
{
    int lazy, row;
    (void)state;
    for (lazy = 0; lazy < 2; lazy++) {
        const test_shape shape = {0};
        mtl_trainer_desc desc = {0};
        test_batch *other;
        mtl_real *before;
        const mtl_tensor *t;
        train_case c;
        size_t i;
        int moved = 0, used[TEST_VOCABULARY] = {0}, used_first[TEST_VOCABULARY] = {0};
        desc.lazy = lazy;
        desc.lr = 0.1f;
        train_case_create(&c, &shape, &desc);
        other = test_batch_create(&c.p.desc, NULL, 2, 3, 0, 99);
        for (i = 0; i < c.p.data->rows; i++) used_first[c.p.data->inputs[0].ids[i]] = 1;
        for (i = 0; i < other->rows; i++) used[other->inputs[0].ids[i]] = 1;
        mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
        before = test_weights_copy(c.model);
        mtl_train_step(c.trainer, &other->batch, 1, NULL, &c.err);
        TEST_FINE(&c.err);
        t = mtl_model_tensor(c.model, "words.weight");
        for (row = 0; row < TEST_VOCABULARY; row++) {
            int same = memcmp(t->value + row * 6, before + t->offset + row * 6, 6 * sizeof(mtl_real)) == 0;
            if (used[row]) assert_false(same);
            else if (lazy || !used_first[row]) assert_true(same);
            else moved += !same;
        }
        if (!lazy) assert_true(moved > 3);
        free(before);
        test_batch_destroy(other);
        train_case_destroy(&c);
    }
}

/* ---- resume: bit for bit ------------------------------------------------------------------------------- */

static void test_train_resume(void **state)
{
    int number, cases = test_quick() ? 4 : 16;
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = {0};
        mtl_trainer_desc desc = {0};
        mtl_model *loaded;
        mtl_trainer *resumed;
        mtl_safetensors file;
        mtl_real *weights;
        train_case c;
        const char *path = test_path("resume");
        desc.optimizer = 1 + number % 4;
        desc.momentum = number % 3 ? 0.9f : 0;
        desc.average = number % 2 ? 0.9f : 0;
        desc.lazy = number / 4 % 2;
        desc.schedule = number % 4 == 3 ? MTL_SCHEDULE_EXPONENTIAL : MTL_SCHEDULE_COSINE;
        desc.total_steps = 30;
        desc.warmup = 3;
        desc.clip_norm = 1;
        shape.dropout = 0.3;
        shape.cell = 1 + number % 3;
        train_case_create(&c, &shape, &desc);
        train_steps(&c, c.trainer, 0, 5);
        mtl_trainer_set_lr(c.trainer, 0.002f);
        mtl_trainer_save(c.trainer, path, &c.err);
        train_steps(&c, c.trainer, 5, 5);
        if (desc.average > 0) mtl_trainer_swap_average(c.trainer, &c.err);
        weights = test_weights_copy(c.model);

        loaded = mtl_model_load(path, &c.err);
        resumed = mtl_trainer_create(loaded, &desc, &c.err);
        mtl_safetensors_open(&file, path, &c.err);
        mtl_trainer_resume(resumed, &file, &c.err);
        mtl_safetensors_close(&file);
        TEST_FINE(&c.err);
        train_steps(&c, resumed, 5, 5);
        if (desc.average > 0) mtl_trainer_swap_average(resumed, &c.err);
        TEST_FINE(&c.err);
        assert_true(test_weights_equal(loaded, weights));
        mtl_trainer_destroy(resumed);
        mtl_model_destroy(loaded);
        remove(path);
        free(weights);
        train_case_destroy(&c);
    }
}

static void train_write(train_case *c, mtl_trainer *trainer, test_file *file)
{
    const mtl_writer writer = test_file_writer(file);
    mtl_model_write(c->model, trainer, &writer, &c->err);
    TEST_FINE(&c->err);
}

/* Steps of a trainer from `first` to 6, with weights put back before; what it leaves, its average if it has
   one. */
static mtl_real *train_on(train_case *c, mtl_trainer *trainer, const mtl_real *weights, int first)
{
    const mtl_parameters *set = mtl_model_parameters(c->model);
    memcpy(set->block, weights, set->total * sizeof *weights);
    mtl_model_prepare(c->model, &c->err);
    train_steps(c, trainer, first, 6 - first);
    if (trainer->desc.average > 0) mtl_trainer_swap_average(trainer, &c->err);
    TEST_FINE(&c->err);
    return test_weights_copy(c->model);
}

/* Files have the moments of what has them. Those of what is frozen now are passed over; those of what is free
   now are missed. */
static void test_train_resume_frozen(void **state)
{
    int number, i;
    size_t k;
    (void)state;
    for (number = 0; number < 4; number++) {
        const test_shape shape = {0};
        mtl_trainer_desc desc = {0};
        test_file whole = {0}, part = {0};
        mtl_safetensors file;
        mtl_trainer *frozen, *again;
        mtl_real *after3, *after4, *ends[3];
        train_case c;
        desc.average = number % 2 ? 0.9f : 0;
        desc.optimizer = number / 2 ? MTL_OPTIMIZER_RMSPROP : MTL_OPTIMIZER_ADAM;
        train_case_create(&c, &shape, &desc);
        train_steps(&c, c.trainer, 0, 3);
        train_write(&c, c.trainer, &whole);
        mtl_model_freeze(c.model, "words.", 1);
        mtl_model_freeze(c.model, "encoder.", 1);
        after3 = test_weights_copy(c.model);
        ends[0] = train_on(&c, c.trainer, after3, 3);       /* frozen by now: it has room for all */
        frozen = mtl_trainer_create(c.model, &desc, &c.err);
        again = mtl_trainer_create(c.model, &desc, &c.err);
        mtl_safetensors_open_memory(&file, whole.bytes, whole.used, &c.err);
        mtl_trainer_resume(frozen, &file, &c.err);
        mtl_safetensors_close(&file);
        TEST_FINE(&c.err);
        memcpy(mtl_model_parameters(c.model)->block, after3, c.model->set.total * sizeof *after3);
        mtl_model_prepare(c.model, &c.err);
        train_steps(&c, frozen, 3, 1);
        train_write(&c, frozen, &part);
        after4 = test_weights_copy(c.model);
        ends[1] = train_on(&c, frozen, after4, 4);
        mtl_safetensors_open_memory(&file, part.bytes, part.used, &c.err);
        assert_null(mtl_safetensors_find(&file, "optimizer.m.words.weight"));
        assert_null(mtl_safetensors_find(&file, "optimizer.v.encoder.weight_hh_l0"));
        assert_non_null(mtl_safetensors_find(&file, "optimizer.v.tags.output.weight"));
        mtl_trainer_resume(c.trainer, &file, &c.err);
        test_expect_error(&c.err, MTL_ERROR_TENSOR, number / 2 ? "optimizer.v.words.weight"
                          : "optimizer.m.words.weight", "had words.weight frozen");
        memcpy(mtl_model_parameters(c.model)->block, after4, c.model->set.total * sizeof *after4);
        mtl_trainer_resume(again, &file, &c.err);
        mtl_safetensors_close(&file);
        ends[2] = train_on(&c, again, after4, 4);
        for (i = 1; i < 3; i++)             /* the average of what is frozen goes with its weights */
            for (k = 0; k < c.model->set.count; k++) {
                const mtl_tensor *t = c.model->set.tensors[k];
                const mtl_real *want = t->frozen && i == 2 ? ends[1] : t->frozen ? after3 : ends[0];
                if (memcmp(ends[i] + t->offset, want + t->offset, t->count * sizeof *want))
                    fail_msg("case %d: another %s of way %d", number, t->name, i);
            }
        assert_true(again->optimizer.step == 6 && again->optimizer.steps[0] == 3);
        for (i = 0; i < 3; i++) free(ends[i]);
        free(after3);
        free(after4);
        mtl_trainer_destroy(again);
        mtl_trainer_destroy(frozen);
        free(whole.bytes);
        free(part.bytes);
        train_case_destroy(&c);
    }
}

/* A file without optimiser state, one of another optimiser, one of another model. */
static void test_train_resume_refuses(void **state)
{
    test_shape shape = {0};
    mtl_trainer_desc sgd = {0};
    mtl_safetensors file;
    test_file plain = {0}, other = {0};
    mtl_writer writer = test_file_writer(&plain);
    train_case c, larger;
    unsigned long long steps;
    (void)state;
    train_case_create(&c, &shape, NULL);
    mtl_model_write(c.model, NULL, &writer, &c.err);
    mtl_safetensors_open_memory(&file, plain.bytes, plain.used, &c.err);
    TEST_FINE(&c.err);
    mtl_trainer_resume(c.trainer, &file, &c.err);
    test_expect_error(&c.err, MTL_ERROR_TENSOR, "optimizer.counts", "without a trainer");
    mtl_safetensors_close(&file);

    sgd.optimizer = MTL_OPTIMIZER_SGD;
    shape.hidden = 13;
    train_case_create(&larger, &shape, &sgd);
    train_steps(&larger, larger.trainer, 0, 1);
    writer = test_file_writer(&other);
    mtl_model_write(larger.model, larger.trainer, &writer, &c.err);
    mtl_safetensors_open_memory(&file, other.bytes, other.used, &c.err);
    TEST_FINE(&c.err);
    steps = c.trainer->optimizer.step;
    mtl_trainer_resume(c.trainer, &file, &c.err);
    test_expect_error(&c.err, MTL_ERROR_TENSOR, "optimizer.rule",
                      "the state of sgd, and the trainer is one of adam");
    assert_true(c.trainer->optimizer.step == steps);
    mtl_safetensors_close(&file);
    free(plain.bytes);
    free(other.bytes);
    train_case_destroy(&c);
    train_case_destroy(&larger);
}

/* State goes into a trainer of the same rule, with the same moments and average, and into no other; a file of
   an earlier build, which names no rule, into one with the same moments at least. */
static void test_train_resume_of_another_rule(void **state)
{
    enum { KINDS = 8 };
    static const struct { int optimizer; float momentum, average; int moments; } kinds[KINDS] = {
        { MTL_OPTIMIZER_SGD, 0, 0, 0 }, { MTL_OPTIMIZER_SGD, 0.9f, 0, 1 }, { MTL_OPTIMIZER_RMSPROP, 0, 0, 2 },
        { MTL_OPTIMIZER_RMSPROP, 0.9f, 0, 3 }, { MTL_OPTIMIZER_ADAM, 0, 0, 3 },
            { MTL_OPTIMIZER_ADAMW, 0, 0, 3 },
        { MTL_OPTIMIZER_ADAM, 0, 0.9f, 7 }, { MTL_OPTIMIZER_SGD, 0, 0.9f, 4 },
    };
    static const test_shape shape = {0};
    int from, to, old;
    (void)state;
    for (from = 0; from < KINDS; from++) {
        for (to = 0; to < KINDS; to++) {
            for (old = 0; old < 2; old++) {
                mtl_trainer_desc saved = {0}, other = {0};
                test_file file = {0};
                mtl_writer writer = test_file_writer(&file);
                mtl_safetensors opened;
                mtl_trainer *trainer;
                train_case c;
                size_t at;
                int same = kinds[from].moments == kinds[to].moments &&
                           (old || kinds[from].optimizer == kinds[to].optimizer);
                saved.optimizer = kinds[from].optimizer, saved.momentum = kinds[from].momentum,
                saved.average = kinds[from].average;
                other.optimizer = kinds[to].optimizer, other.momentum = kinds[to].momentum,
                other.average = kinds[to].average;
                train_case_create(&c, &shape, &saved);
                train_steps(&c, c.trainer, 0, 1);
                mtl_model_write(c.model, c.trainer, &writer, &c.err);
                for (at = 0; old && memcmp(file.bytes + at, "optimizer.rule", 14) != 0; at++) { }
                if (old) file.bytes[at] = '_';
                mtl_safetensors_open_memory(&opened, file.bytes, file.used, &c.err);
                trainer = mtl_trainer_create(c.model, &other, &c.err);
                TEST_FINE(&c.err);
                mtl_trainer_resume(trainer, &opened, &c.err);
                if (same) TEST_FINE(&c.err);
                else test_expect_error(&c.err, MTL_ERROR_TENSOR, NULL, "optimizer");
                mtl_safetensors_close(&opened);
                mtl_trainer_destroy(trainer);
                train_case_destroy(&c);
                free(file.bytes);
            }
        }
    }
}

/* ---- tasks added, removed, replaced -------------------------------------------------------------------- */

static void test_train_transfer(void **state)
{
    const test_shape shape = {0};
    mtl_task_desc tasks[4];
    mtl_model_desc desc;
    mtl_model *next;
    mtl_trainer *trainer;
    mtl_target targets[4];
    mtl_batch batch;
    mtl_step step;
    mtl_real *fresh;
    train_case c;
    size_t copied, i, kept = 0;
    (void)state;
    train_case_create(&c, &shape, NULL);
    train_steps(&c, c.trainer, 0, 3);
    desc = *mtl_model_describe(c.model);
    tasks[0] = desc.tasks[TEST_TAGS];                                       /* kept, in another place */
    tasks[1] = desc.tasks[TEST_CLASS];
    /* replaced: its output has another shape, its hidden layer not */
    tasks[1].classes = 6;
    memset(&tasks[2], 0, sizeof tasks[2]);
    tasks[2].name = "new";                                                  /* added */
    tasks[2].classes = 2;
    desc.tasks = tasks;
    desc.task_count = 3;                                                    /* three are removed */
    desc.seed = 77;
    next = mtl_model_create(&desc, &c.err);
    TEST_FINE(&c.err);
    fresh = test_weights_copy(next);
    mtl_model_transfer(next, c.model, &copied, &c.err);
    TEST_FINE(&c.err);
    for (i = 0; i < mtl_model_parameters(next)->count; i++) {
        const mtl_tensor *t = mtl_model_parameters(next)->tensors[i],
            *from = mtl_model_tensor(c.model, t->name);
        int same = from && from->count == t->count;
        assert_int_equal(same, strncmp(t->name, "new.", 4) != 0 &&
                         strncmp(t->name, "class.output.", 13) != 0);
        assert_memory_equal(t->value, same ? from->value : fresh + t->offset, t->count * sizeof(mtl_real));
        kept += (size_t)same;
    }
    assert_int_equal(copied, kept);
    trainer = mtl_trainer_create(next, NULL, &c.err);
    memset(targets, 0, sizeof targets);
    targets[0] = c.p.data->targets[TEST_TAGS];
    targets[1] = c.p.data->targets[TEST_CLASS];
    batch = *c.p.batch;
    batch.targets = targets;
    mtl_train_step(trainer, &batch, 1, &step, &c.err);
    TEST_FINE(&c.err);
    assert_true(step.task_items[0] > 0 && step.task_items[2] == 0);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(next);
    free(fresh);
    train_case_destroy(&c);
}

/* ---- evaluation ---------------------------------------------------------------------------------------- */

/* Accuracy, unknown and missing labels, confusion, joint accuracy, R2 and losses, counted here from the
   predictions. */
static void test_train_evaluate(void **state)
{
    static const char *const unseen[] = { "B-unseen", "I-unseen" };
    int number, cases = test_cases(40);
    test_random r = test_random_from(10);
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = test_shape_random(number, &r);
        mtl_predictor_desc limits = {0};
        mtl_task_score table[TEST_TASKS_COUNT];
        mtl_prediction out[TEST_TASKS_COUNT];
        mtl_scores scores;
        size_t class_counts[9] = {0}, tag_counts[35] = {0}, class_expected[9] = {0}, tag_expected[35] = {0};
        size_t *confusion[TEST_TASKS_COUNT] = { class_counts, tag_counts };
        size_t s, n, right[2] = {0}, items[2] = {0}, joint = 0, joint_right = 0, row = 0, numbers = 0, set;
        double squares = 0, sum = 0, sum_squares = 0, absolute = 0, class_loss = 0;
        size_t class_loss_items = 0;
        mtl_predictor *predictor, *limited;
        test_batch *two[2];
        mtl_batch data[2];
        train_case c;
        shape.sequences = 10 + number % 150;
        shape.missing = 0.4;
        train_case_create(&c, &shape, NULL);
        predictor = mtl_predictor_create(c.model, NULL, &c.err);
        limits.max_rows = 64;
        limits.max_sequences = 3;
        limits.max_steps = 12;
        limited = mtl_predictor_create(c.model, &limits, &c.err);
        for (set = 0; set < 2; set++) {
            two[set] = test_batch_create(&c.p.desc, NULL, shape.sequences, 12, 0.4, set);
            test_labels(two[set], TEST_TAGS)[0] = MTL_UNKNOWN_LABEL - (int)set;
            test_labels(two[set], TEST_CLASS)[1] = MTL_UNKNOWN_LABEL;
            two[set]->targets[TEST_TAGS].unknown = unseen;
            two[set]->targets[TEST_TAGS].unknown_count = 2;
            data[set] = two[set]->batch;
            mtl_predict(predictor, &data[set], out, &c.err);
            TEST_FINE(&c.err);
            for (s = 0, row = 0; s < data[set].sequences; s++) {
                int gold = two[set]->targets[TEST_CLASS].labels[s], labelled = 0, wrong = 0;
                if (gold != MTL_MISSING) {
                    items[0]++;
                    right[0] += gold == out[TEST_CLASS].labels[s];
                    labelled = 1;
                    wrong |= gold != out[TEST_CLASS].labels[s];
                    if (gold >= 0) {
                        class_expected[gold * 3 + out[TEST_CLASS].labels[s]]++;
                        class_loss -= log((double)out[TEST_CLASS].probabilities[s * 3 + (size_t)gold]);
                        class_loss_items++;
                    }
                }
                for (n = 0; n < (size_t)data[set].lengths[s]; n++, row++) {
                    gold = two[set]->targets[TEST_TAGS].labels[row];
                    if (gold == MTL_MISSING) continue;
                    items[1]++;
                    right[1] += gold == out[TEST_TAGS].labels[row];
                    labelled = 1;
                    wrong |= gold != out[TEST_TAGS].labels[row];
                    tag_expected[(gold < 0 ? 5 + MTL_UNKNOWN_LABEL - gold : gold) * 5 +
                                 out[TEST_TAGS].labels[row]]++;
                }
                joint += (size_t)labelled;
                joint_right += (size_t)(labelled && !wrong);
                if (!mtl__is_nan(two[set]->targets[TEST_NUMBER].values[s])) {
                    double target = (double)two[set]->targets[TEST_NUMBER].values[s];
                    double e = (double)out[TEST_NUMBER].values[s] - target;
                    squares += e * e;
                    absolute += fabs(e);
                    sum += target;
                    sum_squares += target * target;
                    numbers++;
                }
            }
        }
        scores.tasks = table;
        for (set = 0; set < 2; set++) {                    /* without limits and in small batches: the same */
            memset(class_counts, 0, sizeof class_counts);
            memset(tag_counts, 0, sizeof tag_counts);
            mtl_evaluate(set ? limited : predictor, data, 2, &scores, confusion, &c.err);
            TEST_FINE(&c.err);
            assert_int_equal(scores.task_count, TEST_TASKS_COUNT);
            assert_int_equal(scores.sequences, 2 * shape.sequences);
            assert_int_equal(scores.tokens, two[0]->rows + two[1]->rows);
            assert_int_equal(table[TEST_CLASS].items, items[0]);
            assert_int_equal(table[TEST_TAGS].items, items[1]);
            assert_true(fabs(table[TEST_CLASS].accuracy - (double)right[0] / (double)items[0]) < 1e-12);
            assert_true(fabs(table[TEST_TAGS].accuracy - (double)right[1] / (double)items[1]) < 1e-12);
            assert_int_equal(table[TEST_TAGS].spans, 1);
            assert_true(table[TEST_TAGS].score == table[TEST_TAGS].span_f1
                        && table[TEST_CLASS].score == table[TEST_CLASS].accuracy);
            assert_true(fabs(table[TEST_CLASS].loss - class_loss / (double)class_loss_items) < 1e-4);
            assert_memory_equal(class_counts, class_expected, sizeof class_counts);
            assert_memory_equal(tag_counts, tag_expected, sizeof tag_counts);
            assert_int_equal(scores.joint_items, joint);
            assert_true(fabs(scores.joint_accuracy - (double)joint_right / (double)joint) < 1e-12);
            assert_int_equal(table[TEST_NUMBER].items, numbers);
            assert_true(fabs(table[TEST_NUMBER].rmse - sqrt(squares / (double)numbers)) < 1e-5);
            assert_true(fabs(table[TEST_NUMBER].mae - absolute / (double)numbers) < 1e-5);
            assert_true(fabs(table[TEST_NUMBER].r2 - (1 - squares
                                                      / (sum_squares - sum * sum / (double)numbers))) < 1e-4);
            assert_true(fabs(table[TEST_NUMBER].loss - squares / (double)numbers) < 1e-4);
            for (n = 0; n < TEST_TASKS_COUNT; n++) assert_true(table[n].score >= 0 && table[n].score <= 1);
        }
        test_batch_destroy(two[0]);
        test_batch_destroy(two[1]);
        mtl_predictor_destroy(predictor);
        mtl_predictor_destroy(limited);
        train_case_destroy(&c);
    }
}

/* Micro and macro F1 of sets of labels, counted here anew: classes that nobody has nor was given count 0, and
   so does each label that the model does not have. Sets of labels are nothing for joint accuracy. */
static void test_train_scores_of_sets(void **state)
{
    enum { CLASSES = 4, UNKNOWN = 2 };
    int number, cases = test_cases(20);
    test_random r = test_random_from(11);
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = test_shape_random(number, &r);
        size_t gold[CLASSES] = {0}, given[CLASSES] = {0}, right[CLASSES] = {0}, items = 0, strange = 0, i, j;
        double loss = 0, macro = 0, golds = 0, givens = 0, rights = 0;
        mtl_task_score table[TEST_TASKS_COUNT];
        mtl_prediction out[TEST_TASKS_COUNT];
        mtl_target only[TEST_TASKS_COUNT];
        unsigned more[20];
        mtl_predictor *predictor;
        mtl_scores scores;
        mtl_batch data;
        train_case c;
        train_case_create(&c, &shape, NULL);
        predictor = mtl_predictor_create(c.model, NULL, &c.err);
        memset(only, 0, sizeof only);
        for (i = 0; i < c.p.batch->sequences; i++) more[i] = number % 2 ? (unsigned)i % 3 : 0;
        only[TEST_SET] = c.p.data->targets[TEST_SET];
        only[TEST_SET].strange = number % 2 ? more : NULL;
        only[TEST_SET].unknown_count = number % 2 ? UNKNOWN : 0;
        data = *c.p.batch;
        data.targets = only;
        for (i = 0; i < data.sequences; i++)                         /* nobody has the last class */
            if (!mtl__is_nan(test_numbers(c.p.data, TEST_SET)[i * CLASSES]))
                test_numbers(c.p.data, TEST_SET)[i * CLASSES + CLASSES - 1] = 0;
        mtl_predict(predictor, &data, out, &c.err);
        TEST_FINE(&c.err);
        for (i = 0; i < data.sequences; i++) {
            const mtl_real *p = out[TEST_SET].probabilities + i * CLASSES;
            const mtl_real *has = only[TEST_SET].values + i * CLASSES;
            if (mtl__is_nan(has[0])) continue;
            items++;
            strange += more[i];
            for (j = 0; j < CLASSES; j++) {
                gold[j] += has[j] > 0;
                given[j] += p[j] >= (mtl_real)0.5;
                right[j] += has[j] > 0 && p[j] >= (mtl_real)0.5;
                loss -= log(has[j] > 0 ? (double)p[j] : 1 - (double)p[j]) / CLASSES;
            }
        }
        for (j = 0; j < CLASSES; j++) {
            golds += (double)gold[j], givens += (double)given[j], rights += (double)right[j];
            if (gold[j] + given[j]) macro += 2 * (double)right[j] / (double)(gold[j] + given[j]);
        }
        golds += (double)strange;
        scores.tasks = table;
        mtl_evaluate(predictor, &data, 1, &scores, NULL, &c.err);
        TEST_FINE(&c.err);
        assert_int_equal(table[TEST_SET].items, items);
        assert_int_equal(table[TEST_SET].kind, MTL_TASK_MULTI);
        assert_true(fabs(table[TEST_SET].micro_f1 - (items && golds + givens > 0
                                                     ? 2 * rights / (golds + givens) : 0)) < 1e-12);
        assert_true(fabs(table[TEST_SET].macro_f1 -
                         (items ? macro / (CLASSES + (number % 2 ? UNKNOWN : 0)) : 0)) < 1e-12);
        assert_true(table[TEST_SET].score == table[TEST_SET].micro_f1 && table[TEST_SET].accuracy == 0);
        assert_true(!items || fabs(table[TEST_SET].loss - loss / (double)items) < 1e-4);
        assert_int_equal(scores.joint_items, 0);
        mtl_predictor_destroy(predictor);
        train_case_destroy(&c);
    }
}

/* The mean leaves out tasks without a label; data without targets scores nothing; a bad label is an error
   that says where. */
static void test_train_evaluate_edges(void **state)
{
    const test_shape shape = {0};
    mtl_task_score table[TEST_TASKS_COUNT];
    mtl_target targets[TEST_TASKS_COUNT];
    mtl_predictor *predictor;
    mtl_scores scores;
    mtl_batch data;
    train_case c;
    (void)state;
    train_case_create(&c, &shape, NULL);
    predictor = mtl_predictor_create(c.model, NULL, &c.err);
    scores.tasks = table;
    memset(targets, 0, sizeof targets);
    data = *c.p.batch;
    data.targets = targets;
    targets[TEST_CLASS] = c.p.data->targets[TEST_CLASS];
    mtl_evaluate(predictor, &data, 1, &scores, NULL, &c.err);
    TEST_FINE(&c.err);
    assert_true(scores.score == table[TEST_CLASS].accuracy);
    assert_int_equal(table[TEST_TAGS].items, 0);
    data.targets = NULL;
    mtl_evaluate(predictor, &data, 1, &scores, NULL, &c.err);
    TEST_FINE(&c.err);
    assert_true(scores.score == 0 && scores.joint_items == 0);
    test_labels(c.p.data, TEST_CLASS)[4] = 3;
    mtl_evaluate(predictor, c.p.batch, 1, &scores, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_RANGE, "class", "label 3 of sequence 4");
    c.p.data->lengths[1] = 0;
    mtl_evaluate(predictor, c.p.batch, 1, &scores, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_RANGE, "lengths", "sequence 1 has length 0");
    mtl_evaluate(NULL, c.p.batch, 1, &scores, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_ARGUMENT, "predictor", "NULL");
    mtl_evaluate(predictor, c.p.batch, 1, NULL, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_ARGUMENT, NULL, "NULL");
    mtl_predictor_destroy(predictor);
    train_case_destroy(&c);
}

/* ---- fit: samplers ------------------------------------------------------------------------------------- */

/* A data set whose sequence s holds its number in task "class" (label s) and in its length. */
typedef struct train_set { int *lengths, *ids, *labels; mtl_input input; mtl_target target; mtl_batch data;
} train_set;

static void train_set_create(train_set *set, int sequences, int longest)
{
    int i, rows = 0;
    memset(set, 0, sizeof *set);
    set->lengths = (int *)malloc((size_t)sequences * sizeof(int));
    set->labels = (int *)malloc((size_t)sequences * sizeof(int));
    set->ids = (int *)calloc((size_t)(sequences * longest), sizeof(int));
    assert_true(set->lengths && set->labels && set->ids);
    for (i = 0; i < sequences; i++) {
        set->lengths[i] = 1 + i * 7 % longest;
        set->labels[i] = i;
        /* the first step's id is the sequence's number, too */
        set->ids[rows] = i;
        rows += set->lengths[i];
    }
    set->input.ids = set->ids;
    set->target.labels = set->labels;
    set->data.sequences = (size_t)sequences;
    set->data.lengths = set->lengths;
    set->data.inputs = &set->input;
    set->data.targets = &set->target;
}

static void train_set_destroy(train_set *set)
{
    free(set->lengths);
    free(set->labels);
    free(set->ids);
}

enum { TRAIN_LARGE = 300, TRAIN_SMALL = 50, TRAIN_BATCH = 10 };

static mtl_model *train_set_model(mtl_error *err)
{
    mtl_input_desc input;
    mtl_task_desc task;
    mtl_model_desc desc;
    memset(&input, 0, sizeof input);
    memset(&task, 0, sizeof task);
    memset(&desc, 0, sizeof desc);
    input.name = "ids";
    input.vocabulary = TRAIN_LARGE;
    input.width = 2;
    task.name = "number";
    task.classes = TRAIN_LARGE;
    desc.inputs = &input;
    desc.input_count = 1;
    desc.tasks = &task;
    desc.task_count = 1;
    desc.encoder.hidden = 2;
    return mtl_model_create(&desc, err);
}

/* Draws one epoch; counts batches of each set and how often each sequence came. Checks that batches are what
   the set holds. */
static void train_draw_epoch(mtl__sampler *sampler, const mtl_model *model, size_t epoch, size_t batches[2],
                             int seen[2][TRAIN_LARGE], size_t *changes,
                             size_t *spread)
{
    mtl_error err = {0};
    size_t i, s, last = 9;
    mtl__sampler_begin(sampler, epoch);
    for (i = 0; i < sampler->total; i++) {
        mtl_arena arena;
        size_t set = sampler->kind->choose(sampler, i), row = 0;
        int shortest = 1000, longest = 0;
        mtl_batch b;
        mtl_arena_init(&arena, NULL, 0, NULL);
        b = mtl__sampler_next(sampler, model, i, &arena, &err);
        TEST_FINE(&err);
        assert_true(b.sequences >= 1 && b.sequences <= TRAIN_BATCH);
        for (s = 0; s < b.sequences; s++) {
            assert_int_equal(b.inputs[0].ids[row], b.targets[0].labels[s]);
            assert_int_equal(b.lengths[s], sampler->sets[set].set.data->lengths[b.targets[0].labels[s]]);
            seen[set][b.targets[0].labels[s]]++;
            if (b.lengths[s] < shortest) shortest = b.lengths[s];
            if (b.lengths[s] > longest) longest = b.lengths[s];
            row += (size_t)b.lengths[s];
        }
        *spread += (size_t)(longest - shortest);
        batches[set]++;
        *changes += set != last;
        last = set;
        mtl_arena_destroy(&arena);
    }
}

static void test_train_samplers(void **state)
{
    static const int samplers[] = { MTL_SAMPLER_PROPORTIONAL, MTL_SAMPLER_ROUND_ROBIN,
        MTL_SAMPLER_TEMPERATURE };
    mtl_error err = {0};
    mtl_model *model = train_set_model(&err);
    train_set large, small;
    mtl_batch sets[2];
    size_t n, i;
    (void)state;
    train_set_create(&large, TRAIN_LARGE, 40);
    train_set_create(&small, TRAIN_SMALL, 40);
    sets[0] = large.data;
    sets[1] = small.data;
    for (n = 0; n < 3; n++) {
        size_t batches[2] = {0}, changes = 0, spread = 0, epochs = n == 2 ? 60 : 3, epoch;
        static int seen[2][TRAIN_LARGE];
        mtl_fit_desc desc = {0};
        mtl__sampler sampler;
        mtl_arena arena;
        double share;
        memset(seen, 0, sizeof seen);
        mtl_arena_init(&arena, NULL, 0, NULL);
        desc.batch = TRAIN_BATCH;
        desc.sampler = samplers[n];
        mtl_desc_check(MTL_DESC_FIT, &desc, "fit", &err);
        mtl__sampler_init(&sampler, sets, 2, model, &desc, &arena, &err);
        TEST_FINE(&err);
        assert_int_equal(sampler.total, (TRAIN_LARGE + TRAIN_SMALL) / TRAIN_BATCH);
        for (epoch = 1; epoch <= epochs; epoch++) train_draw_epoch(&sampler, model, epoch, batches, seen,
                                                                   &changes, &spread);
        assert_int_equal(batches[0] + batches[1], sampler.total * epochs);
        switch (samplers[n]) {
        case MTL_SAMPLER_PROPORTIONAL:                          /* everything once an epoch, the sets mixed */
            assert_int_equal(batches[0], epochs * TRAIN_LARGE / TRAIN_BATCH);
            for (i = 0; i < TRAIN_LARGE; i++) assert_int_equal(seen[0][i], epochs);
            for (i = 0; i < TRAIN_SMALL; i++) assert_int_equal(seen[1][i], epochs);
            assert_true(changes > 2 * epochs);
            break;
        case MTL_SAMPLER_ROUND_ROBIN:                                       /* 105 batches, in turn */
            assert_true(batches[0] - batches[1] <= 1);
            assert_true(changes >= sampler.total * epochs - epochs);
            for (i = 0; i < TRAIN_SMALL; i++) assert_true(seen[1][i] >= 10 && seen[1][i] <= 11);
            break;
        default:                                                      /* sqrt(300) : sqrt(50) = 0.71 : 0.29 */
            share = (double)batches[0] / (double)(sampler.total * epochs);
            assert_true(fabs(share - sqrt(300.0) / (sqrt(300.0) + sqrt(50.0))) < 0.04);
        }
        /* lengths in a batch are similar: 1 .. 40 in all */
        assert_true((double)spread / (double)(sampler.total * epochs) < 8);
        mtl_arena_destroy(&arena);
    }
    train_set_destroy(&large);
    train_set_destroy(&small);
    mtl_model_destroy(model);
}

/* A sampler over the large and the small set. */
typedef struct train_draws { mtl__sampler sampler; mtl_arena arena; mtl_fit_desc desc; mtl_error err;
} train_draws;

static void train_draws_open(train_draws *d, const mtl_batch *sets, const mtl_model *model, int sampler,
                             const float *weights)
{
    mtl_arena_init(&d->arena, NULL, 0, NULL);
    d->desc.batch = TRAIN_BATCH;
    d->desc.sampler = sampler;
    d->desc.sampler_weights = weights;
    memset(&d->err, 0, sizeof d->err);
    mtl_desc_check(MTL_DESC_FIT, &d->desc, "fit", &d->err);
    mtl__sampler_init(&d->sampler, sets, 2, model, &d->desc, &d->arena, &d->err);
}

/* The share of the large set in the batches of epochs from .. to. */
static double train_draws_share(train_draws *d, const mtl_model *model, size_t from, size_t to)
{
    static int seen[2][TRAIN_LARGE];
    size_t batches[2] = {0}, changes = 0, spread = 0;
    for (; from <= to; from++) train_draw_epoch(&d->sampler, model, from, batches, seen, &changes, &spread);
    return (double)batches[0] / (double)(batches[0] + batches[1]);
}

/* What each sampler promises of shares and of turns, with weights of the sets and without. */
static void test_train_sampler_shares(void **state)
{
    static const float weights[][2] = { { 1, 3 }, { 0.5f, 2 }, { 0, 1 }, { 1, 0 }, { 0, 0 }, { 1, -1 } };
    const double flat = pow(300.0, 0.2) / (pow(300.0, 0.2) + pow(50.0, 0.2));
    mtl_error err = {0};
    mtl_model *model = train_set_model(&err);
    train_set large, small;
    mtl_batch sets[2];
    train_draws d;
    int i;
    (void)state;
    memset(&d, 0, sizeof d);
    train_set_create(&large, TRAIN_LARGE, 40), train_set_create(&small, TRAIN_SMALL, 40);
    sets[0] = large.data, sets[1] = small.data;
    train_draws_open(&d, sets, model, MTL_SAMPLER_UNIFORM, NULL);
    assert_true(fabs(train_draws_share(&d, model, 1, 40) - 0.5) < 0.04);
    mtl_arena_destroy(&d.arena);
    train_draws_open(&d, sets, model, MTL_SAMPLER_UNIFORM, weights[0]);
    assert_true(fabs(train_draws_share(&d, model, 1, 40) - 0.25) < 0.04);
    mtl_arena_destroy(&d.arena);
    d.desc.temperature = 5;                 /* 300 : 50 at first; 300^0.2 : 50^0.2 in the last epoch */
    d.desc.epochs = 60;
    train_draws_open(&d, sets, model, MTL_SAMPLER_ANNEALED, NULL);
    assert_true(fabs(train_draws_share(&d, model, 1, 8) - 300.0 / 350) < 0.06);
    assert_true(fabs(train_draws_share(&d, model, 53, 60) - flat) < 0.08);
    mtl_arena_destroy(&d.arena);
    train_draws_open(&d, sets, model, MTL_SAMPLER_PROPORTIONAL, weights[1]);
    assert_int_equal(d.sampler.total, TRAIN_LARGE / TRAIN_BATCH / 2 + TRAIN_SMALL / TRAIN_BATCH * 2);
    assert_true(train_draws_share(&d, model, 1, 3) == 0.6);
    mtl_arena_destroy(&d.arena);
    train_draws_open(&d, sets, model, MTL_SAMPLER_ROUND_ROBIN, weights[0]);
    assert_true(fabs(train_draws_share(&d, model, 1, 4) - 0.25) < 0.01);
    mtl_arena_destroy(&d.arena);
    for (i = MTL_SAMPLER_PROPORTIONAL; i <= MTL_SAMPLER_TOGETHER; i++) {
        train_draws_open(&d, sets, model, i, weights[2]);
        assert_true(train_draws_share(&d, model, 1, 2) == 0);
        mtl_arena_destroy(&d.arena);
        train_draws_open(&d, sets, model, i, weights[3]);
        assert_true(train_draws_share(&d, model, 1, 2) == 1);
        mtl_arena_destroy(&d.arena);
    }
    train_draws_open(&d, sets, model, 0, weights[4]);
    test_expect_error(&d.err, MTL_ERROR_FIELD, "fit.sampler_weights", "one must be greater than 0");
    mtl_arena_destroy(&d.arena);
    train_draws_open(&d, sets, model, 0, weights[5]);
    test_expect_error(&d.err, MTL_ERROR_FIELD, "fit.sampler_weights", "that of data set 1");
    mtl_arena_destroy(&d.arena);
    train_set_destroy(&large), train_set_destroy(&small);
    mtl_model_destroy(model);
}

/* together: an update has `accumulate` batches of each set, to the end of the epoch. */
static void test_train_sampler_together(void **state)
{
    mtl_error err = {0};
    mtl_model *model = train_set_model(&err);
    train_set large, small;
    mtl_batch sets[2], b;
    train_draws d;
    size_t i;
    (void)state;
    memset(&d, 0, sizeof d);
    d.desc.accumulate = 3;
    train_set_create(&large, TRAIN_LARGE, 40), train_set_create(&small, TRAIN_SMALL, 40);
    sets[0] = large.data, sets[1] = small.data;
    train_draws_open(&d, sets, model, MTL_SAMPLER_TOGETHER, NULL);
    TEST_FINE(&d.err);
    assert_int_equal(d.sampler.update, 6);
    assert_int_equal(d.sampler.total, 36);                                      /* 35, and one to be even */
    mtl__sampler_begin(&d.sampler, 1);
    for (i = 0; i < d.sampler.total; i++) {
        b = mtl__sampler_next(&d.sampler, model, i, &d.arena, &d.err);
        assert_int_equal(b.set, i % 2);
    }
    mtl_arena_destroy(&d.arena);
    train_set_destroy(&large), train_set_destroy(&small);
    mtl_model_destroy(model);
}

/* Curriculum: in the first epochs from the shortest sequences to the longest, later not. */
static void test_train_curriculum(void **state)
{
    mtl_error err = {0};
    mtl_model *model = train_set_model(&err);
    train_set large, small;
    mtl_batch sets[2];
    train_draws d;
    size_t epoch, i, s;
    (void)state;
    memset(&d, 0, sizeof d);
    d.desc.curriculum = MTL_CURRICULUM_LENGTH;
    d.desc.curriculum_share = 0.3f;
    d.desc.epochs = 10;
    train_set_create(&large, TRAIN_LARGE, 40), train_set_create(&small, TRAIN_SMALL, 40);
    sets[0] = large.data, sets[1] = small.data;
    train_draws_open(&d, sets, model, MTL_SAMPLER_PROPORTIONAL, NULL);
    TEST_FINE(&d.err);
    for (epoch = 1; epoch <= 6; epoch++) {
        int last[2] = {0}, falls = 0;
        mtl__sampler_begin(&d.sampler, epoch);
        for (i = 0; i < d.sampler.total; i++) {
            mtl_batch b = mtl__sampler_next(&d.sampler, model, i, &d.arena, &d.err);
            int longest = 0;
            for (s = 0; s < b.sequences; s++) {
                falls += b.lengths[s] < last[b.set];
                if (b.lengths[s] > longest) longest = b.lengths[s];
            }
            last[b.set] = longest;
        }
        assert_true(epoch <= 3 ? falls == 0 : falls > 20);
    }
    TEST_FINE(&d.err);
    mtl_arena_destroy(&d.arena);
    train_set_destroy(&large), train_set_destroy(&small);
    mtl_model_destroy(model);
}

/* equal_length: batches of one length each, of all sequences once a round, in another order in the next. */
static void test_train_equal_lengths(void **state)
{
    mtl_error err = {0};
    mtl_model *model = train_set_model(&err);
    int ranks[TRAIN_LARGE] = {0}, first[2] = {0}, small = 0;
    const int *of[2];
    train_set large, other;
    mtl_batch sets[2];
    train_draws d;
    size_t epoch, i, s;
    (void)state;
    memset(&d, 0, sizeof d);
    d.desc.equal_length = 1;
    train_set_create(&large, TRAIN_LARGE, 13), train_set_create(&other, TRAIN_SMALL, 40);
    sets[0] = large.data, sets[1] = other.data;
    train_draws_open(&d, sets, model, MTL_SAMPLER_PROPORTIONAL, NULL);
    TEST_FINE(&d.err);
    for (epoch = 1; epoch <= 2; epoch++) {
        int seen[2][TRAIN_LARGE] = {{0}};
        mtl__sampler_begin(&d.sampler, epoch);
        for (i = 0; i < d.sampler.total; i++) {
            const mtl_batch b = mtl__sampler_next(&d.sampler, model, i, &d.arena, &d.err);
            TEST_FINE(&d.err);
            assert_true(b.sequences >= 1 && b.sequences <= TRAIN_BATCH);
            small += b.sequences < TRAIN_BATCH;
            if (!i) first[epoch - 1] = b.targets[0].labels[0];
            for (s = 0; s < b.sequences; s++) {
                assert_int_equal(b.lengths[s], b.lengths[0]);
                seen[b.set][b.targets[0].labels[s]]++;
            }
        }
        for (i = 0; i < 2; i++)
            for (s = 0; s < sets[i].sequences; s++) assert_int_equal(seen[i][s], 1);
    }
    assert_true(small > 10 && first[0] != first[1]);
    mtl_arena_destroy(&d.arena);
    memset(&d.err, 0, sizeof d.err);
    d.desc.curriculum = MTL_CURRICULUM_LOSS;
    d.desc.ranks = of;
    of[0] = of[1] = ranks;
    train_draws_open(&d, sets, model, MTL_SAMPLER_PROPORTIONAL, NULL);
    test_expect_error(&d.err, MTL_ERROR_FIELD, "fit.equal_length", "fit.curriculum loss");
    mtl_arena_destroy(&d.arena);
    train_set_destroy(&large), train_set_destroy(&other);
    mtl_model_destroy(model);
}

/* ---- fit: swapped spans -------------------------------------------------------------------------------- */

enum { TRAIN_SWAP_SEQUENCES = 60, TRAIN_SWAP_STEPS = 12 };

/* A set whose ids are the numbers of its rows, so that a batch tells where its rows come from. */
static void train_swap_problem(test_problem *p)
{
    test_shape shape = {0};
    size_t n;
    shape.missing = 0.1;
    test_problem_create(p, &shape);
    test_batch_destroy(p->data);
    p->inputs[0].vocabulary = TRAIN_SWAP_SEQUENCES * TRAIN_SWAP_STEPS;
    p->data = test_batch_create(&p->desc, NULL, TRAIN_SWAP_SEQUENCES, TRAIN_SWAP_STEPS, shape.missing, 5);
    p->batch = &p->data->batch;
    for (n = 0; n < p->data->rows; n++) test_ids(p->data)[n] = (int)n;
}

/* Behind the span of B-/I- labels that begins at step t; t: none does. */
static int train_span(const int *labels, int t, int steps)
{
    int n = t + 1;
    if (labels[t] != 1 && labels[t] != 3) return t;
    while (n < steps && labels[n] == labels[t] + 1) n++;
    return n;
}

/* Steps that are left in the sequence of a data set's row. */
static int train_left(const test_problem *p, int row)
{
    const int *lengths = p->batch->lengths;
    while (row >= *lengths) row -= *lengths++;
    return *lengths - row;
}

/* Follows a batch's rows through the sequence whose first row is `row`: outside spans they are its own, and
   in place of a span stands one of its type. Returns how many steps of the batch it has; counts spans and
   those that are others. */
static int train_follow(const test_problem *p, const int *ids, int row, int steps, int *spans, int *swapped)
{
    const int *labels = p->batch->targets[TEST_TAGS].labels;
    int t = 0, n = 0, k;
    while (t < steps) {
        const int span = train_span(labels + row, t, steps) - t, from = ids[n];
        int length = 1;
        if (!span) assert_int_equal(from, row + t);
        if (span) {
            assert_int_equal(labels[from], labels[row + t]);
            length = train_span(labels + from, 0, train_left(p, from));
            for (k = 0; k < length; k++) assert_int_equal(ids[n + k], from + k);
            ++*spans;
            *swapped += from != row + t;
        }
        n += length;
        t += span ? span : 1;
    }
    return n;
}

/* Draws a round; returns the hash of its ids, counts spans and those that are others. */
static uint64_t train_swap_round(train_draws *d, const test_problem *p, const mtl_model *model, size_t epoch,
                                 int *spans, int *swapped)
{
    const mtl_batch *all = p->batch;
    uint64_t hash = MTL__HASH_BEGIN;
    size_t i, s, n;
    mtl__sampler_begin(&d->sampler, epoch);
    for (i = 0; i < d->sampler.total; i++) {
        const mtl_batch b = mtl__sampler_next(&d->sampler, model, i, &d->arena, &d->err);
        const mtl__sampler_set *set = &d->sampler.sets[0];
        const size_t *chosen = set->order + set->firsts[set->batch_order[set->next - 1]];
        size_t row = 0;
        TEST_FINE(&d->err);
        for (s = 0; s < b.sequences; row += (size_t)b.lengths[s++]) {
            const int first = (int)set->set.starts[chosen[s]];
            if (d->desc.equal_length) assert_int_equal(b.lengths[s], b.lengths[0]);
            assert_int_equal(train_follow(p, b.inputs[0].ids + row, first, all->lengths[chosen[s]], spans,
                                          swapped), b.lengths[s]);
            assert_int_equal(b.targets[TEST_CLASS].labels[s], all->targets[TEST_CLASS].labels[chosen[s]]);
            hash = mtl__hash(hash, (const char *)(b.inputs[0].ids + row), (size_t)b.lengths[s] * sizeof(int));
        }
        for (n = 0; n < row; n++) {
            const int id = b.inputs[0].ids[n];
            assert_int_equal(b.targets[TEST_TAGS].labels[n], all->targets[TEST_TAGS].labels[id]);
            assert_memory_equal(b.targets[TEST_CURVE].values + 2 * n,
                                all->targets[TEST_CURVE].values + 2 * id, 2 * sizeof(mtl_real));
        }
    }
    return hash;
}

/* Which spans are swapped depends on the seed, the round and the row. In the last case batches are of one
   length each, as sequences are with other spans, and rounds have other numbers of batches than epochs. */
static void test_train_swaps_spans(void **state)
{
    static const float shares[4][2] = { { 1, 1 }, { 0.5f, 0 }, { 0.9f, 0.2f }, { 1, 0 } };      /* 0: half */
    static const double expected[4] = { 1, 0.25, 0.18, 0.5 };
    mtl_error err = {0};
    test_problem p;
    mtl_model *model;
    int i;
    (void)state;
    train_swap_problem(&p);
    model = mtl_model_create(&p.desc, &err);
    TEST_FINE(&err);
    for (i = 0; i < 4; i++) {
        uint64_t rounds[2][8];
        int spans = 0, swapped = 0, others = 0, again, k;
        for (again = 0; again < 2; again++) {
            train_draws d;
            memset(&d, 0, sizeof d);
            d.desc.swap = shares[i][0], d.desc.swap_spans = shares[i][1], d.desc.batch = 7;
            d.desc.equal_length = i == 3;
            mtl_desc_check(MTL_DESC_FIT, &d.desc, "fit", &d.err);
            mtl_arena_init(&d.arena, NULL, 0, NULL);
            mtl__sampler_init(&d.sampler, p.batch, 1, model, &d.desc, &d.arena, &d.err);
            for (k = 0; k < 8; k++) {
                rounds[again][k] = train_swap_round(&d, &p, model, (size_t)k + 1, &spans, &swapped);
                others += d.sampler.sets[0].batches != d.sampler.sets[0].share;
            }
            assert_in_range(d.sampler.sets[0].round, 7, 10);
            mtl_arena_destroy(&d.arena);
        }
        assert_memory_equal(rounds[0], rounds[1], sizeof rounds[0]);
        assert_true(rounds[0][0] != rounds[0][1] && !others == (i < 3));
        if (fabs((double)swapped / spans - expected[i]) > 0.06)
            fail_msg("case %d: %d of %d spans are others", i, swapped, spans);
    }
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

/* Training with swapped spans goes on; a model without spans refuses. */
static void test_train_swap_fits(void **state)
{
    mtl_error err = {0};
    mtl_fit_desc how = {0};
    mtl_model *model;
    mtl_trainer *trainer;
    test_problem p;
    (void)state;
    train_swap_problem(&p);
    model = mtl_model_create(&p.desc, &err);
    trainer = mtl_trainer_create(model, NULL, &err);
    how.epochs = 2;
    how.swap = 0.9f;
    mtl_fit(trainer, p.batch, 1, p.batch, 1, &how, NULL, &err);
    TEST_FINE(&err);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    p.tasks[TEST_TAGS].labels = NULL;
    model = mtl_model_create(&p.desc, &err);
    trainer = mtl_trainer_create(model, NULL, &err);
    mtl_fit(trainer, p.batch, 1, NULL, 0, &how, NULL, &err);
    test_expect_error(&err, MTL_ERROR_FIELD, "fit.swap", "B-TYPE and I-TYPE");
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

/* Sequences of a batch of which a step is labelled. */
static size_t train_labelled_sequences(const mtl_batch *b, const mtl_target *t, size_t width)
{
    size_t s, row = 0, count = 0;
    for (s = 0; s < b->sequences; row += (size_t)b->lengths[s++]) {
        int n, found = 0;
        for (n = 0; n < b->lengths[s]; n++)
            found |= t->labels ? t->labels[row + (size_t)n] >= 0
                               : !mtl__is_nan(t->values[(row + (size_t)n) * width]);
        count += (size_t)found;
    }
    return count;
}

/* sum_steps: the losses of tasks of steps are those of means times labelled steps by sequences, those of
   other tasks stay, over one micro-batch or two; gradients follow. */
static void test_train_sum_steps(void **state)
{
    int number;
    (void)state;
    for (number = 0; number < 6; number++) {
        test_random r = test_random_from((unsigned long long)number + 3);
        const test_shape shape = test_shape_random(number, &r);
        mtl_trainer_desc how = {0};
        mtl_error err = {0};
        double mean[TEST_TASKS_COUNT];
        test_problem p;
        mtl_batch both[2];
        mtl_model *model;
        mtl_step step;
        size_t k;
        int sums;
        test_problem_create(&p, &shape);
        if (number % 2) p.tasks[TEST_TAGS].kind = MTL_TASK_CRF;
        model = mtl_model_create(&p.desc, &err);
        both[0] = both[1] = *p.batch;
        for (sums = 0; sums < 2; sums++) {
            mtl_trainer *trainer;
            how.sum_steps = sums;
            trainer = mtl_trainer_create(model, &how, &err);
            mtl_train_gradients(trainer, both, 1 + (size_t)number % 2, &step, &err);
            TEST_FINE(&err);
            for (k = 0; k < TEST_TASKS_COUNT; k++) {
                const double steps = (double)step.task_items[k] / (1 + number % 2);
                const size_t sequences = p.tasks[k].level != MTL_LEVEL_STEP ? 0
                    : train_labelled_sequences(p.batch, &p.batch->targets[k], k == TEST_CURVE ? 2 : 1);
                const double expected = mean[k] * (sequences ? steps / (double)sequences : 1);
                if (!sums) mean[k] = step.task_loss[k];
                else if (fabs(step.task_loss[k] - expected) > 1e-5 * (1 + fabs(expected)))
                    fail_msg("case %d, task %s: %g, not %g", number, p.tasks[k].name, step.task_loss[k],
                             expected);
            }
            mtl_trainer_destroy(trainer);
        }
        model_check(model, &how, p.batch, 1, 1, "sums over steps");
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

/* Curriculum by what `ranks` say, which here is the opposite of their lengths. */
static void test_train_curriculum_ranks(void **state)
{
    mtl_error err = {0};
    mtl_model *model = train_set_model(&err);
    int most[TRAIN_LARGE], last = 1000, ends = 0;
    const int *ranks[1];
    train_set large;
    train_draws d;
    size_t i, s;
    (void)state;
    memset(&d, 0, sizeof d);
    d.desc.curriculum = MTL_CURRICULUM_LOSS;
    train_set_create(&large, TRAIN_LARGE, 40);
    for (i = 0; i < TRAIN_LARGE; i++) most[i] = 40 - large.data.lengths[i];
    ranks[0] = most;
    d.desc.ranks = ranks;
    mtl_desc_check(MTL_DESC_FIT, &d.desc, "fit", &d.err);
    mtl_arena_init(&d.arena, NULL, 0, NULL);
    mtl__sampler_init(&d.sampler, &large.data, 1, model, &d.desc, &d.arena, &d.err);
    TEST_FINE(&d.err);
    for (i = 0; i < d.sampler.total; i++) {
        mtl_batch b = mtl__sampler_next(&d.sampler, model, i, &d.arena, &d.err);
        int shortest = 1000;
        for (s = 0; s < b.sequences; s++) {
            assert_true(b.lengths[s] <= last);
            if (b.lengths[s] < shortest) shortest = b.lengths[s];
        }
        ends += shortest < last;
        last = shortest;
    }
    assert_true(ends > 3);
    d.desc.ranks = NULL;
    mtl__sampler_init(&d.sampler, &large.data, 1, model, &d.desc, &d.arena, &d.err);
    test_expect_error(&d.err, MTL_ERROR_FIELD, "fit.curriculum", "ranks of the sequences of data set 0");
    mtl_arena_destroy(&d.arena);
    train_set_destroy(&large);
    mtl_model_destroy(model);
}

/* Other seeds, other orders; every epoch another order. */
static void test_train_sampler_seeds(void **state)
{
    mtl_error err = {0};
    mtl_model *model = train_set_model(&err);
    int orders[3][TRAIN_LARGE], n;
    train_set set;
    (void)state;
    train_set_create(&set, TRAIN_LARGE, 40);
    for (n = 0; n < 3; n++) {                             /* seed 1; seed 1 again, its second epoch; seed 2 */
        mtl_fit_desc desc = {0};
        mtl__sampler sampler;
        mtl_arena arena;
        size_t i, s, at = 0, epoch;
        mtl_arena_init(&arena, NULL, 0, NULL);
        desc.seed = n == 2 ? 2 : 1;
        desc.batch = TRAIN_BATCH;
        mtl_desc_check(MTL_DESC_FIT, &desc, "fit", &err);
        mtl__sampler_init(&sampler, &set.data, 1, model, &desc, &arena, &err);
        for (epoch = 1; epoch <= (n == 1 ? 2u : 1u); epoch++) {
            mtl__sampler_begin(&sampler, epoch);
            for (i = 0, at = 0; i < sampler.total; i++) {
                mtl_batch b = mtl__sampler_next(&sampler, model, i, &arena, &err);
                for (s = 0; s < b.sequences; s++) orders[n][at++] = b.targets[0].labels[s];
            }
        }
        TEST_FINE(&err);
        assert_int_equal(at, TRAIN_LARGE);
        mtl_arena_destroy(&arena);
    }
    assert_true(memcmp(orders[0], orders[1], sizeof orders[0]) != 0);
    assert_true(memcmp(orders[0], orders[2], sizeof orders[0]) != 0);
    train_set_destroy(&set);
    mtl_model_destroy(model);
}

/* ---- fit: rows that wait for their updates ------------------------------------------------------------- */

enum { TRAIN_WAIT_SEQUENCES = 280, TRAIN_WAIT_BATCH = 4, TRAIN_WAIT_EPOCHS = 2 };

/* How far the rows of the only embedding are behind, at most, of those that move. */
static unsigned long long train_rows_late(const mtl__optimizer *o)
{
    unsigned long long most = 0, late;
    size_t i, r;
    for (i = 0; i < o->set->count && !mtl__update_rows_only(o); i++)
        for (r = 0; o->seen[i] && r < o->set->tensors[i]->shape[0]; r++) {
            late = o->seen[i][r] ? o->steps[i] - o->applied[i][r] : 0;
            if (late > most) most = late;
        }
    return most;
}

typedef struct train_looker { mtl_trainer *trainer; mtl_model *model; const mtl_batch *data;
unsigned long long late; int how; } train_looker;

/* Looks at the model in the middle of an epoch, in one way or another. Nothing is late afterwards. */
static int train_look(void *user, const mtl_progress *p)
{
    train_looker *l = (train_looker *)user;
    const mtl__optimizer *o = &l->trainer->optimizer;
    unsigned long long late = train_rows_late(o);
    mtl_error err = {0};
    if (late > l->late) l->late = late;
    if (p->epoch_end || l->how == 0 || (l->how > 1 && p->batch % 10)) return 0;
    if (l->how == 1) assert_non_null(mtl_model_tensor(l->model, "ids.weight"));
    else if (l->how == 2) mtl_trainer_save(l->trainer, test_path("wait.safetensors"), &err);
    else {
        mtl_predictor *predictor = mtl_predictor_create(l->model, NULL, &err);
        mtl_prediction out;
        mtl_predict(predictor, l->data, &out, &err);
        mtl_predictor_destroy(predictor);
    }
    TEST_FINE(&err);
    assert_int_equal(train_rows_late(o), 0);
    return 0;
}

/* The same updates as mtl_fit, step by step: there no row waits. */
static void train_without_waiting(mtl_trainer *trainer, const mtl_batch *data, const mtl_fit_desc *fit,
                                  mtl_error *err)
{
    mtl_fit_desc desc = *fit;
    mtl__sampler sampler;
    mtl_arena arena;
    size_t epoch, i;
    memset(&sampler, 0, sizeof sampler);
    mtl_arena_init(&arena, NULL, 0, NULL);
    mtl_desc_check(MTL_DESC_FIT, &desc, "fit", err);
    mtl__sampler_init(&sampler, data, 1, trainer->model, &desc, &arena, err);
    for (epoch = 1; epoch <= TRAIN_WAIT_EPOCHS; epoch++) {
        mtl__sampler_begin(&sampler, epoch);
        for (i = 0; i < sampler.total; i++) {
            mtl_batch batch = mtl__sampler_next(&sampler, trainer->model, i, &arena, err);
            mtl_train_step(trainer, &batch, 1, NULL, err);
            assert_int_equal(train_rows_late(&trainer->optimizer), 0);
        }
    }
    TEST_FINE(err);
    mtl_arena_destroy(&arena);
}

/* Weights, then moments. */
static mtl_real *train_state_copy(const mtl_trainer *t)
{
    const mtl__optimizer *o = &t->optimizer;
    size_t total = o->set->total;
    mtl_real *copy = (mtl_real *)calloc(3 * total, sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, o->set->block, total * sizeof *copy);
    if (o->m) memcpy(copy + total, o->m, total * sizeof *copy);
    if (o->v) memcpy(copy + 2 * total, o->v, total * sizeof *copy);
    return copy;
}

/* how: of train_look, or -1 without mtl_fit. Returns the state at the end. */
static mtl_real *train_with_waiting(const mtl_batch *data, const mtl_trainer_desc *training, int how,
                                    unsigned long long *late, size_t *total)
{
    mtl_error err = {0};
    mtl_model *model = train_set_model(&err);
    mtl_trainer *trainer = mtl_trainer_create(model, training, &err);
    mtl_fit_desc fit = {0};
    train_looker looker;
    mtl_real *state;
    TEST_FINE(&err);
    memset(&looker, 0, sizeof looker);
    looker.trainer = trainer;
    looker.model = model;
    looker.data = data;
    looker.how = how;
    fit.batch = TRAIN_WAIT_BATCH;
    fit.epochs = TRAIN_WAIT_EPOCHS;
    fit.progress = train_look;
    fit.user = &looker;
    if (how < 0) train_without_waiting(trainer, data, &fit, &err);
    else mtl_fit(trainer, data, 1, NULL, 0, &fit, NULL, &err);
    TEST_FINE(&err);
    assert_int_equal(trainer->optimizer.steps[0], TRAIN_WAIT_EPOCHS * TRAIN_WAIT_SEQUENCES
                     / TRAIN_WAIT_BATCH);
    assert_null(mtl_model_parameters(model)->fresh);
    state = train_state_copy(trainer);
    *late = looker.late;
    *total = 3 * mtl_model_parameters(model)->total;
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    return state;
}

/* An id comes once in 70 updates and some ids never: with every rule, weights and moments end bit for bit as
   they do without waiting, whenever somebody looks at the model. */
static void test_train_rows_wait(void **state)
{
    size_t n, total, expected_total;
    unsigned long long late;
    train_set set;
    (void)state;
    train_set_create(&set, TRAIN_WAIT_SEQUENCES, 5);
    for (n = 0; n < sizeof optimise_rules / sizeof *optimise_rules; n++) {
        const struct optimise_rule *rule = &optimise_rules[n];
        const int moves = !rule->lazy && (rule->optimizer != MTL_OPTIMIZER_SGD || rule->momentum > 0 ||
                                          rule->l1 > 0);
        mtl_trainer_desc training;
        mtl_real *expected, *got;
        int how;
        optimise_fill_desc(&training, rule);
        training.lr = 0.01f;
        training.threads = n % 3;
        training.schedule = MTL_SCHEDULE_EXPONENTIAL;
        training.schedule_factor = 0.5f;
        training.schedule_every = 50;
        expected = train_with_waiting(&set.data, &training, -1, &late, &expected_total);
        for (how = 0; how < 4; how++) {
            got = train_with_waiting(&set.data, &training, how, &late, &total);
            assert_int_equal(total, expected_total);
            if (memcmp(got, expected, total * sizeof *got))
                fail_msg("%s, looked at in way %d: not the same bits", rule->name, how);
            if (how == 0 && moves) assert_true(late >= 20 && late < MTL__MOST_LATE);
            free(got);
        }
        free(expected);
    }
    remove(test_path("wait.safetensors"));
    train_set_destroy(&set);
}

/* ---- fit: the whole ------------------------------------------------------------------------------------ */

enum { TRAIN_EPOCHS_MOST = 64 };
typedef struct train_log {
    double scores[TRAIN_EPOCHS_MOST + 1];
    size_t epochs, updates, tokens, stop_at_update, stop_at_epoch;
    mtl_model *model;
    mtl_real *weights[TRAIN_EPOCHS_MOST + 1];
} train_log;

static int train_progress(void *user, const mtl_progress *p)
{
    train_log *log = (train_log *)user;
    assert_true(p->batch >= 1 && p->batch <= p->batches && p->epoch >= 1 && p->epoch <= p->epochs);
    if (!p->epoch_end) {
        assert_non_null(p->step);
        assert_null(p->scores);
        log->updates++;
        log->tokens += p->step->tokens;
        return log->stop_at_update && log->updates == log->stop_at_update;
    }
    log->epochs++;
    assert_int_equal(p->epoch, log->epochs);
    assert_int_equal(p->batch, p->batches);
    if (p->scores) log->scores[p->epoch] = p->scores->score;
    if (log->model) log->weights[p->epoch] = test_weights_copy(log->model);
    return log->stop_at_epoch && log->epochs == log->stop_at_epoch;
}

static double train_score(train_case *c, const mtl_batch *valid)
{
    mtl_task_score table[TEST_TASKS_COUNT];
    mtl_scores scores;
    mtl_predictor *predictor = mtl_predictor_create(c->model, NULL, &c->err);
    scores.tasks = table;
    mtl_evaluate(predictor, valid, 1, &scores, NULL, &c->err);
    mtl_predictor_destroy(predictor);
    TEST_FINE(&c->err);
    return scores.score;
}

/* The best epoch's weights are what stays; its score is what evaluation then gives. */
static void test_train_fit_keeps_the_best(void **state)
{
    int averaged;
    (void)state;
    for (averaged = 0; averaged < 2; averaged++) {
        test_shape shape = {0};
        mtl_trainer_desc training = {0};
        mtl_fit_desc desc = {0};
        mtl_fit_result result;
        test_batch *valid;
        train_log log;
        train_case c;
        size_t best = 1, e;
        shape.sequences = 60;
        training.lr = 0.03f;                                               /* coarse: scores go up and down */
        training.average = averaged ? 0.5f : 0;
        train_case_create(&c, &shape, &training);
        valid = test_batch_create(&c.p.desc, NULL, 40, 7, 0, 555);
        memset(&log, 0, sizeof log);
        log.model = averaged ? NULL : c.model;
        desc.epochs = 10;
        desc.batch = 8;
        desc.progress = train_progress;
        desc.user = &log;
        mtl_fit(c.trainer, c.p.batch, 1, &valid->batch, 1, &desc, &result, &c.err);
        TEST_FINE(&c.err);
        assert_int_equal(log.epochs, 10);
        assert_int_equal(result.epochs, 10);
        assert_int_equal(log.updates, 80);
        assert_int_equal(result.updates, 80);
        assert_int_equal(log.tokens, 10 * c.p.data->rows);
        assert_int_equal(result.stopped, 0);
        for (e = 2; e <= 10; e++)
            if (log.scores[e] > log.scores[best]) best = e;
        assert_int_equal(result.best_epoch, best);
        assert_true(result.best_score == log.scores[best]);
        assert_true(best < 10);                                             /* else this shows nothing */
        assert_true(fabs(train_score(&c, &valid->batch) - result.best_score) < 1e-12);
        if (!averaged) assert_true(test_weights_equal(c.model, log.weights[best]));
        for (e = 1; e <= 10; e++) free(log.weights[e]);
        test_batch_destroy(valid);
        train_case_destroy(&c);
    }
}

static void test_train_fit_patience(void **state)
{
    test_shape shape = {0};
    mtl_trainer_desc training = {0};
    mtl_fit_desc desc = {0};
    mtl_fit_result result;
    train_log log;
    train_case c;
    (void)state;
    shape.sequences = 20;
    training.lr = MTL_ZERO;                                /* nothing moves: the first epoch stays the best */
    train_case_create(&c, &shape, &training);
    memset(&log, 0, sizeof log);
    desc.epochs = 30;
    desc.patience = 3;
    desc.progress = train_progress;
    desc.user = &log;
    mtl_fit(c.trainer, c.p.batch, 1, c.p.batch, 1, &desc, &result, &c.err);
    TEST_FINE(&c.err);
    assert_int_equal(result.epochs, 4);
    assert_int_equal(result.best_epoch, 1);
    assert_int_equal(log.epochs, 4);
    assert_int_equal(result.stopped, 0);
    desc.patience = 0;                                                      /* never */
    desc.epochs = 6;
    memset(&log, 0, sizeof log);
    mtl_fit(c.trainer, c.p.batch, 1, c.p.batch, 1, &desc, &result, &c.err);
    TEST_FINE(&c.err);
    assert_int_equal(result.epochs, 6);
    train_case_destroy(&c);
}

/* Where nothing moves the first epoch is every task's best: with task_patience each stops, and training ends
   with the last; one that starts later has as many epochs from there. */
static void test_train_fit_task_patience(void **state)
{
    int late;
    (void)state;
    for (late = 0; late < 2; late++) {
        test_shape shape = {0};
        mtl_trainer_desc training = {0};
        mtl_fit_desc desc = {0};
        mtl_fit_result result;
        train_case c;
        size_t k;
        shape.sequences = 20;
        training.lr = MTL_ZERO;
        train_case_create(&c, &shape, &training);
        ((mtl_task_desc *)(uintptr_t)&c.model->desc.tasks[TEST_CLASS])->start = late ? 0.5f : 0;
        mtl_trainer_set_weight(c.trainer, TEST_SHARE, 0, &c.err);       /* never scored: it would go on */
        desc.epochs = 10;
        desc.task_patience = 2;
        mtl_fit(c.trainer, c.p.batch, 1, c.p.batch, 1, &desc, &result, &c.err);
        TEST_FINE(&c.err);
        assert_int_equal(result.epochs, late ? 7 : 3);
        for (k = 0; k < TEST_TASKS_COUNT; k++) assert_true(c.trainer->weights[k] == 0);
        train_case_destroy(&c);
    }
}

/* keep: parts: heads may come from the epochs best for their tasks, where that scores better; what is left in
   the model scores what the result says. */
static void test_train_fit_keeps_parts(void **state)
{
    size_t seed, k, parts = 0;
    (void)state;
    for (seed = 1; seed <= 12; seed++) {
        test_shape shape = {0};
        mtl_trainer_desc training = {0};
        mtl_fit_desc desc = {0};
        mtl_fit_result result;
        test_batch *valid;
        train_log log;
        train_case c;
        shape.sequences = 60;
        shape.seed = (uint64_t)seed;
        training.lr = 0.03f;
        training.average = seed % 3 ? 0 : 0.5f;
        train_case_create(&c, &shape, &training);
        valid = test_batch_create(&c.p.desc, NULL, 40, 7, 0, 555);
        memset(&log, 0, sizeof log);
        log.model = training.average > 0 ? NULL : c.model;
        desc.epochs = 6;
        desc.batch = 8;
        desc.keep = MTL_KEEP_PARTS;
        desc.progress = train_progress;
        desc.user = &log;
        mtl_fit(c.trainer, c.p.batch, 1, &valid->batch, 1, &desc, &result, &c.err);
        TEST_FINE(&c.err);
        assert_true(fabs(train_score(&c, &valid->batch) - result.best_score) < 1e-12);
        assert_true(result.parts ? result.best_score > log.scores[result.best_epoch]
                                 : result.best_score == log.scores[result.best_epoch]);
        parts += (size_t)result.parts;
        for (k = 0; k < mtl_model_parameters(c.model)->count && log.model; k++) {
            const mtl_tensor *t = mtl_model_parameters(c.model)->tensors[k];
            if (strncmp(t->name, "class.", 6) == 0 || strncmp(t->name, "encoder.", 8) == 0)
                assert_memory_equal(t->value, log.weights[result.parts && t->name[0] == 'c'
                                    ? result.task_best_epoch[TEST_CLASS] : result.best_epoch] + t->offset,
                                    t->count * sizeof(mtl_real));
        }
        for (k = 1; k <= 6; k++) free(log.weights[k]);
        test_batch_destroy(valid);
        train_case_destroy(&c);
    }
    assert_true(parts > 0 && parts < 12);
}

/* Plateau: the rate is cut when the score has not risen for plateau_patience evaluations. */
static void test_train_fit_plateau(void **state)
{
    test_shape shape = {0};
    mtl_trainer_desc training = {0};
    mtl_fit_desc desc = {0};
    mtl_step step;
    train_case c;
    (void)state;
    shape.sequences = 5;
    training.lr = 1e-20f;
    training.schedule = MTL_SCHEDULE_PLATEAU;
    training.schedule_factor = 0.25f;
    training.plateau_patience = 2;
    train_case_create(&c, &shape, &training);
    desc.epochs = 5;                                                        /* best: 1; cuts after 3 and 5 */
    mtl_fit(c.trainer, c.p.batch, 1, c.p.batch, 1, &desc, NULL, &c.err);
    mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
    TEST_FINE(&c.err);
    assert_true(fabs(step.lr / (double)1e-20f - 0.0625) < 1e-9);
    train_case_destroy(&c);
}

static void test_train_fit_callback_stops(void **state)
{
    int at_epoch;
    (void)state;
    for (at_epoch = 0; at_epoch < 2; at_epoch++) {
        test_shape shape = {0};
        mtl_fit_desc desc = {0};
        mtl_fit_result result;
        train_log log;
        train_case c;
        shape.sequences = 20;
        train_case_create(&c, &shape, NULL);
        memset(&log, 0, sizeof log);
        log.stop_at_update = at_epoch ? 0 : 7;
        log.stop_at_epoch = at_epoch ? 2 : 0;
        desc.batch = 4;
        desc.progress = train_progress;
        desc.user = &log;
        mtl_fit(c.trainer, c.p.batch, 1, c.p.batch, 1, &desc, &result, &c.err);
        TEST_FINE(&c.err);                                                  /* not an error */
        assert_int_equal(result.stopped, 1);
        assert_int_equal(result.epochs, 2);
        assert_int_equal(result.updates, at_epoch ? 10 : 7);
        assert_true(result.best_epoch >= 1);
        assert_true(fabs(train_score(&c, c.p.batch) - result.best_score) < 1e-12);
        train_case_destroy(&c);
    }
}

/* It learns: which of the labels a sequence carries is plain from its ids. And the score that decides may be
   one task's. */
static void test_train_fit_learns(void **state)
{
    test_shape shape = {0};
    mtl_trainer_desc training = {0};
    mtl_fit_desc desc = {0};
    mtl_fit_result result;
    train_case c;
    size_t i, s, row = 0;
    (void)state;
    shape.sequences = 80;
    shape.bidirectional = 1;
    training.lr = 0.01f;
    train_case_create(&c, &shape, &training);
    for (s = 0; s < c.p.batch->sequences; row += (size_t)c.p.data->lengths[s], s++)
        test_labels(c.p.data, TEST_CLASS)[s] = c.p.data->inputs[0].ids[row] % 3;
    for (i = 0; i < c.p.data->rows; i++)
        test_labels(c.p.data, TEST_TAGS)[i] = c.p.data->inputs[0].ids[i] % 5;
    desc.epochs = 30;
    desc.batch = 8;
    desc.score = "class";
    mtl_fit(c.trainer, c.p.batch, 1, c.p.batch, 1, &desc, &result, &c.err);
    TEST_FINE(&c.err);
    assert_true(result.best_score > 0.98);
    train_case_destroy(&c);
}

/* Without validation data the last weights stay, or their average when one is kept. */
static void test_train_fit_without_validation(void **state)
{
    int averaged;
    (void)state;
    for (averaged = 0; averaged < 2; averaged++) {
        const test_shape shape = {0};
        mtl_trainer_desc training = {0};
        mtl_fit_desc desc = {0};
        mtl_fit_result result;
        mtl_real *weights;
        train_case c, twin;
        int i;
        training.average = averaged ? 0.5f : 0;
        train_case_create(&c, &shape, &training);
        train_case_create(&twin, &shape, &training);
        desc.epochs = 3;
        mtl_fit(c.trainer, c.p.batch, 1, NULL, 0, &desc, &result, &c.err);
        TEST_FINE(&c.err);
        assert_int_equal(result.best_epoch, 0);
        assert_int_equal(result.updates, 3);
        mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);              /* it may go on */
        TEST_FINE(&c.err);
        if (!averaged) {
            for (i = 0; i < 3; i++) mtl_train_step(twin.trainer, twin.p.batch, 1, NULL, &twin.err);
            mtl_train_step(twin.trainer, twin.p.batch, 1, NULL, &twin.err);
            TEST_FINE(&twin.err);
            weights = test_weights_copy(twin.model);
            assert_true(test_distance(mtl_model_parameters(c.model)->block, weights,
                                      mtl_model_parameters(c.model)->total, 0.1) < 1e-4);
            free(weights);
        }
        train_case_destroy(&c);
        train_case_destroy(&twin);
    }
}

/* Accumulation: the updates are as many as batches by `accumulate`, the last one perhaps of fewer. */
static void test_train_fit_accumulates(void **state)
{
    test_shape shape = {0};
    mtl_fit_desc desc = {0};
    mtl_fit_result result;
    train_log log;
    train_case c;
    (void)state;
    shape.sequences = 21;
    train_case_create(&c, &shape, NULL);
    memset(&log, 0, sizeof log);
    desc.batch = 3;
    desc.accumulate = 2;
    desc.epochs = 2;
    desc.progress = train_progress;
    desc.user = &log;
    mtl_fit(c.trainer, c.p.batch, 1, NULL, 0, &desc, &result, &c.err);
    TEST_FINE(&c.err);
    assert_int_equal(result.updates, 8);                                    /* 7 batches: 2 + 2 + 2 + 1 */
    assert_int_equal(log.tokens, 2 * c.p.data->rows);
    train_case_destroy(&c);
}

/* Two data sets with a label each, from which one encoder learns both tasks. */
static void test_train_fit_two_sets(void **state)
{
    test_shape shape = {0};
    mtl_target only_class[TEST_TASKS_COUNT], only_tags[TEST_TASKS_COUNT];
    mtl_fit_desc desc = {0};
    mtl_fit_result result;
    mtl_batch sets[2];
    test_batch *other;
    mtl_real *weights;
    train_case c;
    const mtl_tensor *t;
    (void)state;
    shape.sequences = 20;
    train_case_create(&c, &shape, NULL);
    other = test_batch_create(&c.p.desc, NULL, 30, 9, 0, 3);
    memset(only_class, 0, sizeof only_class);
    memset(only_tags, 0, sizeof only_tags);
    only_class[TEST_CLASS] = c.p.data->targets[TEST_CLASS];
    only_tags[TEST_TAGS] = other->targets[TEST_TAGS];
    sets[0] = *c.p.batch;
    sets[0].targets = only_class;
    sets[1] = other->batch;
    sets[1].targets = only_tags;
    weights = test_weights_copy(c.model);
    desc.epochs = 2;
    desc.batch = 10;
    desc.sampler = MTL_SAMPLER_ROUND_ROBIN;
    mtl_fit(c.trainer, sets, 2, sets, 2, &desc, &result, &c.err);
    TEST_FINE(&c.err);
    assert_int_equal(result.updates, 10);
    t = mtl_model_tensor(c.model, "class.output.weight");
    assert_true(memcmp(t->value, weights + t->offset, t->count * sizeof(mtl_real)) != 0);
    t = mtl_model_tensor(c.model, "tags.output.weight");
    assert_true(memcmp(t->value, weights + t->offset, t->count * sizeof(mtl_real)) != 0);
    t = mtl_model_tensor(c.model, "number.output.weight");                /* no data set has a label for it */
    assert_memory_equal(t->value, weights + t->offset, t->count * sizeof(mtl_real));
    free(weights);
    test_batch_destroy(other);
    train_case_destroy(&c);
}

static void test_train_fit_errors(void **state)
{
    const test_shape shape = {0};
    mtl_fit_desc desc = {0};
    mtl_batch empty;
    train_case c;
    (void)state;
    train_case_create(&c, &shape, NULL);
    mtl_fit(c.trainer, NULL, 0, NULL, 0, NULL, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_ARGUMENT, "train", "one training data set");
    desc.score = "attic";
    mtl_fit(c.trainer, c.p.batch, 1, NULL, 0, &desc, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_FIELD, "fit.score", "\"attic\"");
    desc.score = NULL;
    desc.epochs = -1;
    mtl_fit(c.trainer, c.p.batch, 1, NULL, 0, &desc, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_FIELD, "fit.epochs", "fit.epochs is -1");
    desc.epochs = 0;
    empty = *c.p.batch;
    empty.sequences = 0;
    mtl_fit(c.trainer, &empty, 1, NULL, 0, &desc, NULL, &c.err);
    test_expect_error(&c.err, MTL_ERROR_ARGUMENT, "train", "no sequences");
    test_labels(c.p.data, TEST_CLASS)[3] = 9;
    mtl_fit(c.trainer, c.p.batch, 1, NULL, 0, &desc, NULL, &c.err);
    /* the caller's number, not the batch's */
    test_expect_error(&c.err, MTL_ERROR_RANGE, "class", "label 9 of sequence 3");
    train_case_destroy(&c);
}

/* A weight is no number after this update of this epoch. */
typedef struct train_breaking {
    mtl_model *model;
    size_t epoch, batch;
    mtl_real *first;                        /* weights after the first epoch */
} train_breaking;

static int train_break(void *user, const mtl_progress *p)
{
    train_breaking *b = (train_breaking *)user;
    if (p->epoch_end && p->epoch == 1) b->first = test_weights_copy(b->model);
    if (p->epoch_end || p->epoch != b->epoch || p->batch != b->batch) return 0;
    mtl_model_tensor(b->model, "encoder.weight_hh_l0")->value[0] = test_nan();
    mtl_model_prepare(b->model, NULL);
    return 0;
}

/* Numbers that are not finite end mtl_fit with an error that says where and what to try; the best epoch's
   weights stay. */
static void test_train_fit_breaks(void **state)
{
    static const struct { size_t epoch, batch, valid; const char *where, *kept; } cases[] = {
        { 2, 1, 1, "epoch 2, batch 2: ", "the weights of the best epoch (1)" },
        { 2, 4, 1, "epoch 2, validation: ", "the weights of the best epoch (1)" },
        { 1, 1, 1, "epoch 1, batch 2: ", "no epoch was finished" },
        { 2, 1, 0, "epoch 2, batch 2: ", "there is no validation data" } };
    size_t i;
    (void)state;
    for (i = 0; i < 2 * MTL__COUNT(cases); i++) {
        const size_t k = i / 2;
        const int clips = i % 2;
        test_shape shape = {0};
        mtl_trainer_desc training = {0};
        mtl_fit_desc desc = {0};
        mtl_fit_result result;
        train_breaking b = {0};
        train_case c;
        shape.sequences = 32;
        training.lr = 0.25f;
        training.clip_norm = clips ? 3.5f : 0;
        train_case_create(&c, &shape, &training);
        b.model = c.model;
        b.epoch = cases[k].epoch;
        b.batch = cases[k].batch;
        desc.epochs = 4;
        desc.batch = 8;
        desc.progress = train_break;
        desc.user = &b;
        mtl_fit(c.trainer, c.p.batch, 1, cases[k].valid ? c.p.batch : NULL, cases[k].valid, &desc, &result,
                &c.err);
        assert_int_equal(result.best_epoch, cases[k].epoch == 2 && cases[k].valid);
        assert_int_equal(result.epochs, cases[k].batch == 4 ? 2 : cases[k].epoch - 1);
        if (result.best_epoch) assert_true(test_weights_equal(c.model, b.first));
        if (!strstr(c.err.message, cases[k].kept)) fail_msg("%s", c.err.message);
        assert_non_null(strstr(c.err.message, "a smaller trainer.lr (now 0.25)"));
        assert_non_null(strstr(c.err.message, clips
                               ? "a smaller trainer.clip_norm (now 3.5)" : "trainer.clip_norm 1"));
        test_expect_error(&c.err, MTL_ERROR_NUMBER, NULL, cases[k].where);
        free(b.first);
        train_case_destroy(&c);
    }
}

/* ---- memory that runs out ------------------------------------------------------------------------------ */

typedef struct train_failing {
    test_problem p;
    mtl_model *model;
    mtl_trainer_desc desc;
    test_file file;
    const char *path;
} train_failing;

static void train_fail_create(void *user, mtl_error *err)
{
    const train_failing *f = (const train_failing *)user;
    mtl_model *model = mtl_model_create(&f->p.desc, err);
    mtl_trainer *trainer = mtl_trainer_create(model, &f->desc, err);
    mtl_train_step(trainer, f->p.batch, 1, NULL, err);
    mtl_model_note(model, "how", "by hand", err);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
}

static void train_fail_save(void *user, mtl_error *err)
{
    train_failing *f = (train_failing *)user;
    mtl_trainer *trainer = mtl_trainer_create(f->model, &f->desc, err);
    mtl_writer writer = test_file_writer(&f->file);
    f->file.used = 0;
    mtl_model_write(f->model, trainer, &writer, err);
    mtl_model_save(f->model, f->path, err);
    mtl_trainer_save(trainer, f->path, err);
    mtl_model_export(f->model, f->path, NULL, 0, err);
    mtl_trainer_destroy(trainer);
}

static void train_fail_load(void *user, mtl_error *err)
{
    train_failing *f = (train_failing *)user;
    mtl_reader reader = test_file_reader(&f->file);
    mtl_model *loaded = mtl_model_load_memory(f->file.bytes, f->file.used, err),
        *read = mtl_model_read(&reader, err);
    mtl_trainer *trainer = mtl_trainer_create(loaded, &f->desc, err);
    mtl_safetensors file;
    mtl_import map;
    map.from = map.to = "encoder.";
    if (!mtl_safetensors_open_memory(&file, f->file.bytes, f->file.used, err)) {
        mtl_trainer_resume(trainer, &file, err);
        mtl_model_import(loaded, &file, &map, 1, err);
        mtl_safetensors_close(&file);
    }
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(read);
    mtl_model_destroy(loaded);
}

static void train_fail_fit(void *user, mtl_error *err)
{
    const train_failing *f = (const train_failing *)user;
    mtl_model *model = mtl_model_create(&f->p.desc, err);
    mtl_trainer *trainer = mtl_trainer_create(model, &f->desc, err);
    mtl_fit_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.epochs = 2;
    desc.batch = 2;
    mtl_fit(trainer, f->p.batch, 1, f->p.batch, 1, &desc, NULL, err);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
}

static void test_train_allocations_fail(void **state)
{
    static const char *const words[TEST_VOCABULARY] = { "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k",
        "l", "m", "n",
                                                        "o", "p", "q", "r", "s",
                                                        "t", "u", "v", "w" };
    int number, cases = test_quick() ? 2 : 4;
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = {0};
        mtl_error err = {0};
        mtl_writer writer;
        train_failing f;
        memset(&f, 0, sizeof f);
        shape.cell = 1 + number % 3;
        shape.bidirectional = number % 2;
        shape.features = 2;
        shape.longest = 100;
        shape.hidden = 40;                                              /* large enough for scratch to grow */
        shape.dropout = 0.2;
        test_problem_create(&f.p, &shape);
        f.p.inputs[0].words = words;
        f.desc.max_rows = number % 2 ? 600 : 0;
        f.desc.threads = number / 2 ? 3 : 1;
        f.desc.average = 0.9f;
        f.path = test_path("allocations");
        f.p.desc.freeze = number % 2 ? "encoder.*" : NULL;
        f.model = mtl_model_create(&f.p.desc, &err);
        mtl_model_note(f.model, "how", "by hand", &err);
        TEST_FINE(&err);
        assert_true(test_each_allocation_fails(train_fail_create, &f) >= 5);
        assert_true(test_each_allocation_fails(train_fail_save, &f) >= 5);
        {
            mtl_trainer *trainer = mtl_trainer_create(f.model, &f.desc, &err);
            f.file.used = 0;
            writer = test_file_writer(&f.file);
            mtl_model_write(f.model, trainer, &writer, &err);
            TEST_FINE(&err);
            mtl_trainer_destroy(trainer);
        }
        assert_true(test_each_allocation_fails(train_fail_load, &f) >= 5);
        assert_true(test_each_allocation_fails(train_fail_fit, &f) >= 8);
        remove(f.path);
        free(f.file.bytes);
        mtl_model_destroy(f.model);
        test_problem_destroy(&f.p);
    }
}

/* Every push of an update fails in turn: MEMORY, no weight changed; afterwards it is as if nothing had
   been. */
static void test_train_pushes_fail(void **state)
{
    int number, cases = test_quick() ? 2 : 6;
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = {0};
        mtl_real *weights;
        train_case c, twin;
        long long n;
        shape.cell = 1 + number % 3;
        shape.reset = MTL_RESET_BEFORE;
        shape.bidirectional = number / 3;
        shape.features = 2;
        shape.dropout = 0.2;
        shape.missing = 0.3;
        train_case_create(&c, &shape, NULL);
        train_case_create(&twin, &shape, NULL);
        mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
        mtl_train_step(twin.trainer, twin.p.batch, 1, NULL, &twin.err);
        TEST_FINE(&c.err);
        weights = test_weights_copy(c.model);
        for (n = 1;; n++) {
            mtl_arena_fail_next(&c.trainer->session.scratch, n);
            mtl_train_step(c.trainer, c.p.batch, 1, NULL, &c.err);
            if (!c.err.code) break;
            test_expect_error(&c.err, MTL_ERROR_MEMORY, NULL, "out of memory");
            assert_true(test_weights_equal(c.model, weights));
        }
        assert_true(n > 100);
        free(weights);
        mtl_train_step(twin.trainer, twin.p.batch, 1, NULL, &twin.err);
        TEST_FINE(&twin.err);
        weights = test_weights_copy(twin.model);
        assert_true(test_weights_equal(c.model, weights));
        free(weights);
        train_case_destroy(&c);
        train_case_destroy(&twin);
    }
}

/* ---- bfloat16 ------------------------------------------------------------------------------------------ */

/* A shape of each form of cell: RNN, GRU, GRU with the reset before, LSTM. */
static test_shape train_bf16_shape(int number)
{
    test_shape shape = {0};
    shape.cell = number % 4 == 0 ? MTL_CELL_RNN : number % 4 < 3 ? MTL_CELL_GRU : MTL_CELL_LSTM;
    shape.reset = number % 4 == 2 ? MTL_RESET_BEFORE : MTL_RESET_AFTER;
    shape.bidirectional = number % 3 > 0;
    shape.layers = 1 + number % 2;
    shape.hidden = 21 + 3 * number;
    shape.features = number % 2 ? 3 : 0;
    shape.sequences = 37;
    shape.longest = 9;
    shape.missing = 0.2;
    shape.dropout = 0.2;
    shape.seed = (unsigned long long)number;
    return shape;
}

/* |a - b| / |b| */
static double train_distance(const mtl_real *a, const mtl_real *b, size_t n)
{
    double difference = 0, length = 0;
    size_t i;
    for (i = 0; i < n; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        length += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / length);
}

/* Gradients in bfloat16 are near those in float, without being the same; the kernels of AVX-512 and their
   scalar imitation agree better than that. */
static void test_train_bf16_gradients(void **state)
{
    int number, cases = test_quick() ? 4 : 12, i;
    (void)state;
    if (mtl__precision_choose(mtl__kernels_choose(test_bf16_isa()), MTL_PRECISION_BF16) != MTL_PRECISION_BF16)
        skip();
    for (number = 0; number < cases; number++) {
        test_shape shape = train_bf16_shape(number);
        const int isas[3] = { MTL_ISA_SCALAR, MTL_ISA_SCALAR, test_bf16_isa() };
        mtl_real *gradients[3];
        double far;
        size_t total = 0;
        for (i = 0; i < 3; i++) {
            mtl_trainer_desc how = {0};
            train_case c;
            how.isa = isas[i];
            how.precision = i ? MTL_PRECISION_BF16 : MTL_PRECISION_F32;
            train_case_create(&c, &shape, &how);
            assert_int_equal(mtl_trainer_precision(c.trainer), how.precision);
            mtl_train_gradients(c.trainer, c.p.batch, 1, NULL, &c.err);
            TEST_FINE(&c.err);
            gradients[i] = train_gradients(&c);
            total = mtl_model_parameters(c.model)->total;
            train_case_destroy(&c);
        }
        far = train_distance(gradients[1], gradients[0], total);
        if (!(far > 1e-4 && far < 2e-2)) fail_msg("case %d: bfloat16 is %.3g from float", number, far);
        far = train_distance(gradients[2], gradients[1], total);
        if (!(far < 1e-3)) fail_msg("case %d: %s is %.3g from scalar", number, mtl__isa_name(isas[2]), far);
        for (i = 0; i < 3; i++) free(gradients[i]);
    }
}

/* Trains `steps` steps and returns the weights. */
static mtl_real *train_bf16_weights(const test_shape *shape, int isa, int precision, int threads, int steps,
                                    double *loss)
{
    mtl_trainer_desc how = {0};
    mtl_real *weights;
    mtl_step step;
    train_case c;
    how.isa = isa;
    how.precision = precision;
    how.threads = threads;
    train_case_create(&c, shape, &how);
    for (; steps; steps--) mtl_train_step(c.trainer, c.p.batch, 1, &step, &c.err);
    TEST_FINE(&c.err);
    *loss = step.loss;
    weights = (mtl_real *)calloc(mtl_model_parameters(c.model)->total + 1, sizeof *weights);
    assert_non_null(weights);
    weights[0] = (mtl_real)mtl_model_parameters(c.model)->total;            /* the count stands before them */
    memcpy(weights + 1, mtl_model_parameters(c.model)->block,
           mtl_model_parameters(c.model)->total * sizeof *weights);
    train_case_destroy(&c);
    return weights;
}

/* The same bits for any number of threads; and it learns (dropout makes single steps noisy, so after
   some). */
static void test_train_bf16_threads(void **state)
{
    int number, cases = test_quick() ? 4 : 8;
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = train_bf16_shape(number);
        double first, one_loss, loss;
        mtl_real *start = train_bf16_weights(&shape, test_bf16_isa(), MTL_PRECISION_BF16, 1, 1, &first);
        mtl_real *one = train_bf16_weights(&shape, test_bf16_isa(), MTL_PRECISION_BF16, 1, 25, &one_loss);
        mtl_real *three = train_bf16_weights(&shape, test_bf16_isa(), MTL_PRECISION_BF16, 3, 25, &loss);
        assert_memory_equal(one, three, ((size_t)one[0] + 1) * sizeof *one);
        if (loss != one_loss || loss >= first)
            fail_msg("case %d: first loss %.9g, last %.9g, with threads %.9g", number, first, one_loss, loss);
        free(start);
        free(one);
        free(three);
    }
}

/* Where there are no products in bfloat16, asking for them is training in float. */
static void test_train_bf16_fallback(void **state)
{
    int isa, tried = 0;
    (void)state;
    for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++) {
        test_shape shape = train_bf16_shape(3);
        mtl_trainer_desc how = {0};
        mtl_real *asked, *plain;
        double loss;
        train_case c;
        if (!mtl__kernels_choose(isa)
            || mtl__precision_choose(mtl__kernels_choose(isa),
                                     MTL_PRECISION_BF16) == MTL_PRECISION_BF16) continue;
        how.isa = isa;
        how.precision = MTL_PRECISION_BF16;
        train_case_create(&c, &shape, &how);
        assert_int_equal(mtl_trainer_precision(c.trainer), MTL_PRECISION_F32);
        train_case_destroy(&c);
        asked = train_bf16_weights(&shape, isa, MTL_PRECISION_BF16, 1, 2, &loss);
        plain = train_bf16_weights(&shape, isa, MTL_PRECISION_F32, 1, 2, &loss);
        assert_memory_equal(asked, plain, ((size_t)plain[0] + 1) * sizeof *plain);
        free(asked);
        free(plain);
        tried++;
    }
    assert_int_equal(mtl_trainer_precision(NULL), MTL_PRECISION_DEFAULT);
    if (!tried) skip();
}

#define TEST_TRAIN \
    cmocka_unit_test(test_train_equal_lengths), cmocka_unit_test(test_train_sum_steps), \
    cmocka_unit_test(test_train_swaps_spans), cmocka_unit_test(test_train_swap_fits), \
    cmocka_unit_test(test_train_scores_of_sets), \
    cmocka_unit_test(test_train_bf16_gradients), cmocka_unit_test(test_train_bf16_threads), \
    cmocka_unit_test(test_train_bf16_fallback), \
    cmocka_unit_test(test_train_micro_batches), cmocka_unit_test(test_train_micro_batch_without_targets), \
    cmocka_unit_test(test_train_nothing_labelled), cmocka_unit_test(test_train_step_report), \
    cmocka_unit_test(test_train_stopped_steps), cmocka_unit_test(test_train_goes_on_after_an_error), \
    cmocka_unit_test(test_train_unknown_labels), cmocka_unit_test(test_train_freezing), \
    cmocka_unit_test(test_train_frozen_costs), cmocka_unit_test(test_train_frozen_updates), \
    cmocka_unit_test(test_train_unfreezing), cmocka_unit_test(test_train_frozen_packings), \
    cmocka_unit_test(test_train_resume_frozen), \
    cmocka_unit_test(test_train_all_frozen), cmocka_unit_test(test_train_rates), \
        cmocka_unit_test(test_train_set_weight), \
    cmocka_unit_test(test_train_evaluate_only), cmocka_unit_test(test_train_dropout), \
    cmocka_unit_test(test_train_rdrop), cmocka_unit_test(test_train_rdrop_states), \
        cmocka_unit_test(test_train_schedules), \
    cmocka_unit_test(test_train_set_lr), cmocka_unit_test(test_train_average), \
        cmocka_unit_test(test_train_lazy_rows), \
    cmocka_unit_test(test_train_resume), cmocka_unit_test(test_train_resume_refuses), \
    cmocka_unit_test(test_train_resume_of_another_rule), cmocka_unit_test(test_train_transfer), \
    cmocka_unit_test(test_train_evaluate), cmocka_unit_test(test_train_evaluate_edges), \
        cmocka_unit_test(test_train_samplers), \
    cmocka_unit_test(test_train_sampler_shares), cmocka_unit_test(test_train_sampler_together), \
    cmocka_unit_test(test_train_curriculum), \
    cmocka_unit_test(test_train_curriculum_ranks), \
    cmocka_unit_test(test_train_skip_bad), cmocka_unit_test(test_train_fit_skip_bad), \
    cmocka_unit_test(test_train_fit_task_patience), \
    cmocka_unit_test(test_train_fit_keeps_parts), \
    cmocka_unit_test(test_train_sampler_seeds), cmocka_unit_test(test_train_fit_keeps_the_best), \
    cmocka_unit_test(test_train_fit_patience), cmocka_unit_test(test_train_fit_plateau), \
    cmocka_unit_test(test_train_fit_callback_stops), cmocka_unit_test(test_train_fit_learns), \
    cmocka_unit_test(test_train_fit_without_validation), cmocka_unit_test(test_train_fit_accumulates), \
    cmocka_unit_test(test_train_fit_two_sets), cmocka_unit_test(test_train_fit_errors), \
        cmocka_unit_test(test_train_fit_breaks), \
    cmocka_unit_test(test_train_rows_wait), cmocka_unit_test(test_train_allocations_fail), \
        cmocka_unit_test(test_train_pushes_fail)
