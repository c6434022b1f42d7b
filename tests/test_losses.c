/* >>losses: what L_k is, from the outside: losses and gradients of mtl_train_gradients against formulas
   written out here, missing labels, weights, micro-batches, and what is refused. Included by tests/main.c.

   Most models here are a head straight on the features, logits = W x + b, so that everything can be worked
   out. */

enum { LOSSES_SEQUENCES = 4, LOSSES_ROWS = 12, LOSSES_FEATURES = 3, LOSSES_OUTPUTS = 4 };
static const int losses_lengths[LOSSES_SEQUENCES] = { 4, 1, 5, 2 };

#define LOSSES_TOLERANCE (sizeof(mtl_real) == sizeof(double) ? 1e-11 : 1e-5)

static mtl_real losses_random(unsigned long long stream, size_t i)
{
    return (mtl_real)mtl__random_normal(7, stream, i);
}

static void losses_fill(mtl_real *values, size_t count, unsigned long long stream)
{
    size_t i;
    for (i = 0; i < count; i++) values[i] = losses_random(stream, i);
}

static void losses_close(const char *what, double got, double want, double size)
{
    if (!(fabs(got - want) <= LOSSES_TOLERANCE * (size > 1 ? size : 1)))
        fail_msg("%s is %.12g, not %.12g", what, got, want);
}

/* ---- a model, its trainer, a batch --------------------------------------------------------------------- */

enum { LOSSES_TASKS = 3 };

typedef struct losses_setup {
    mtl_error err;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_step step;
    mtl_batch batch;
    mtl_input input;
    mtl_target targets[LOSSES_TASKS];
    mtl_real x[LOSSES_ROWS * LOSSES_FEATURES];
} losses_setup;

/* encoder NULL: tasks should tap the features, "x". */
static void losses_create(losses_setup *s, const mtl_task_desc *tasks, size_t count,
                          const mtl_column_desc *encoder, const mtl_trainer_desc *how)
{
    mtl_model_desc desc = {0};
    mtl_input_desc input = {0};
    memset(s, 0, sizeof *s);
    input.name = "x";
    input.features = LOSSES_FEATURES;
    desc.inputs = &input;
    desc.input_count = 1;
    if (encoder) desc.encoder = *encoder;
    else desc.encoder.hidden = 1;
    desc.tasks = tasks;
    desc.task_count = count;
    s->model = mtl_model_create(&desc, &s->err);
    s->trainer = mtl_trainer_create(s->model, how, &s->err);
    TEST_FINE(&s->err);
    losses_fill(s->x, LOSSES_ROWS * LOSSES_FEATURES, 1);
    s->input.rows = s->x;
    s->batch.sequences = LOSSES_SEQUENCES;
    s->batch.lengths = losses_lengths;
    s->batch.inputs = &s->input;
    s->batch.targets = s->targets;
}

static void losses_destroy(losses_setup *s)
{
    mtl_trainer_destroy(s->trainer);
    mtl_model_destroy(s->model);
}

static void losses_gradients(losses_setup *s)
{
    mtl_train_gradients(s->trainer, &s->batch, 1, &s->step, &s->err);
    TEST_FINE(&s->err);
}

static mtl_task_desc losses_task(const char *name, int kind, int outputs)
{
    mtl_task_desc task = {0};
    task.name = name;
    task.kind = kind;
    task.level = MTL_LEVEL_STEP;
    task.tap.from = "x";
    if (kind == MTL_TASK_CLASS) task.classes = outputs;
    else if (kind == MTL_TASK_MULTI) task.classes = outputs;
    else task.width = outputs;
    return task;
}

static const mtl_gradient *losses_gradient(const losses_setup *s, const char *tensor)
{
    const mtl_tensor *t = mtl_model_tensor(s->model, tensor);
    if (!t) fail_msg("the model has no tensor %s", tensor);
    return mtl_gradients_get(mtl_trainer_gradients(s->trainer), t);
}

/* ---- the formulas -------------------------------------------------------------------------------------- */

/* How a loss is defined, as the test chose it. */
typedef struct losses_definition {
    int loss;
    double smoothing, delta, mean, scale;   /* scale 0: targets as they are */
    const float *weights;
} losses_definition;

/* What is expected of one task: the loss and its slope at every output. */
typedef struct losses_expected {
    double loss, slopes[LOSSES_ROWS][LOSSES_OUTPUTS];
    size_t items;
} losses_expected;

/* Outputs of the head, W x + b. */
static void losses_outputs(const losses_setup *s, const char *task, size_t outputs,
                           double out[LOSSES_ROWS][LOSSES_OUTPUTS])
{
    char name[64];
    const mtl_real *w, *b;
    size_t n, c, i;
    snprintf(name, sizeof name, "%s.output.weight", task);
    w = mtl_model_tensor(s->model, name)->value;
    snprintf(name, sizeof name, "%s.output.bias", task);
    b = mtl_model_tensor(s->model, name)->value;
    for (n = 0; n < LOSSES_ROWS; n++)
        for (c = 0; c < outputs; c++)
            for (i = 0, out[n][c] = (double)b[c]; i < LOSSES_FEATURES; i++)
                out[n][c] += (double)w[c * LOSSES_FEATURES + i] * (double)s->x[n * LOSSES_FEATURES + i];
}

/* -sum_c a_c log p_c with a_c = w_c ((1 - smoothing) q_c + smoothing / C); q is one at the label, or the
   distribution. */
static double losses_cross_entropy(const losses_definition *how, const mtl_target *target, size_t n,
                                   const double *x, size_t classes, double *slopes)
{
    double largest = x[0], sum = 0, all = 0, loss = 0;
    size_t c;
    for (c = 1; c < classes; c++) if (x[c] > largest) largest = x[c];
    for (c = 0; c < classes; c++) sum += exp(x[c] - largest);
    for (c = 0; c < classes; c++) {
        double q = target->labels ? target->labels[n] == (int)c
            : (double)target->distribution[n * classes + c];
        double a = (how->weights ? (double)how->weights[c] : 1)
            * ((1 - how->smoothing) * q + how->smoothing / (double)classes);
        loss -= a * (x[c] - largest - log(sum));
        slopes[c] = -a;
        all += a;
    }
    for (c = 0; c < classes; c++) slopes[c] += all * exp(x[c] - largest) / sum;
    return loss;
}

static double losses_real(const losses_definition *how, double error, double *slope)
{
    double size = fabs(error), sign = error > 0 ? 1 : -1;
    if (how->loss == MTL_LOSS_MAE) { *slope = sign; return size; }
    if (how->loss == MTL_LOSS_HUBER && size > how->delta)
        { *slope = how->delta * sign; return how->delta * (size - how->delta / 2); }
    if (how->loss == MTL_LOSS_HUBER) { *slope = error; return error * error / 2; }
    *slope = 2 * error;
    return error * error;
}

static double losses_vector(const losses_definition *how, const mtl_target *target, size_t n, const double *x,
                            size_t width, double *slopes)
{
    double loss = 0;
    size_t j;
    for (j = 0; j < width; j++) {
        double wanted = (double)target->values[n * width + j];
        if (how->scale != 0) wanted = (wanted - how->mean) / how->scale;
        if (how->loss == MTL_LOSS_BCE) {    /* log(1 + exp z), z = x with the sign of what is not wanted */
            const double z = wanted > 0 ? -x[j] : x[j];
            slopes[j] = (wanted > 0 ? -1 : 1) / (1 + exp(-z));
            if (how->weights && wanted > 0) {
                slopes[j] *= (double)how->weights[j];
                loss += (double)how->weights[j] * (z > 30 ? z : log(1 + exp(z)));
            } else loss += z > 30 ? z : log(1 + exp(z));
        } else loss += losses_real(how, x[j] - wanted, &slopes[j]);
    }
    return loss;
}

/* given: [rows] whether an item has a target. */
static losses_expected losses_expect(const losses_setup *s, const char *task, size_t k,
                                     const losses_definition *how, size_t outputs, const int *given)
{
    losses_expected e;
    double x[LOSSES_ROWS][LOSSES_OUTPUTS], divisor = 0;
    const mtl_target *target = &s->targets[k];
    size_t n, c;
    memset(&e, 0, sizeof e);
    losses_outputs(s, task, outputs, x);
    for (n = 0; n < LOSSES_ROWS; n++) {
        if (!given[n]) continue;
        e.items++;
        if (target->values) {
            e.loss += losses_vector(how, target, n, x[n], outputs, e.slopes[n]);
            divisor += (double)outputs;
        } else {
            e.loss += losses_cross_entropy(how, target, n, x[n], outputs, e.slopes[n]);
            divisor += target->labels && how->weights ? (double)how->weights[target->labels[n]] : 1;
        }
    }
    e.loss /= divisor;
    for (n = 0; n < LOSSES_ROWS; n++)
        for (c = 0; c < outputs; c++) e.slopes[n][c] /= divisor;
    return e;
}

/* Compares task k's loss and the gradients of its head, which are those of lambda L_k. */
static void losses_compare(const losses_setup *s, const char *task, size_t k, const losses_expected *e,
                           size_t outputs, double lambda)
{
    char name[64];
    const mtl_gradient *weight, *bias;
    size_t n, c, i;
    snprintf(name, sizeof name, "%s.output.weight", task);
    weight = losses_gradient(s, name);
    snprintf(name, sizeof name, "%s.output.bias", task);
    bias = losses_gradient(s, name);
    assert_int_equal(s->step.task_items[k], e->items);
    losses_close("the task's loss", s->step.task_loss[k], e->loss, e->loss);
    assert_int_equal(weight->state, MTL_GRAD_DENSE);
    for (c = 0; c < outputs; c++) {
        double sum = 0;
        for (n = 0; n < LOSSES_ROWS; n++) sum += lambda * e->slopes[n][c];
        losses_close("a bias's gradient", (double)bias->value[c], sum, 1);
        for (i = 0; i < LOSSES_FEATURES; i++) {
            for (n = 0, sum = 0; n < LOSSES_ROWS; n++)
                sum += lambda * e->slopes[n][c] * (double)s->x[n * LOSSES_FEATURES + i];
            losses_close("a weight's gradient", (double)weight->value[c * LOSSES_FEATURES + i], sum, 1);
        }
    }
}

/* ---- cross-entropy ------------------------------------------------------------------------------------- */

static const float losses_class_weights[LOSSES_OUTPUTS] = { 0.5f, 2, 1, 0.25f };

static void losses_draw_labels(int *labels, int *given)
{
    size_t n;
    for (n = 0; n < LOSSES_ROWS; n++) {
        labels[n] = (int)(n * 7 % LOSSES_OUTPUTS);
        if (given) given[n] = n != 2 && n != 4 && n != 11;
        if (given && !given[n]) labels[n] = n == 4 ? MTL_UNKNOWN_LABEL : MTL_MISSING;
    }
}

/* Rows that sum to one; rows 2, 4 and 11 are missing. */
static void losses_draw_distributions(mtl_real *rows, int *given)
{
    size_t n, c;
    for (n = 0; n < LOSSES_ROWS; n++) {
        double sum = 0, values[LOSSES_OUTPUTS];
        for (c = 0; c < LOSSES_OUTPUTS; c++) sum += values[c] =
            exp((double)losses_random(3, n * LOSSES_OUTPUTS + c));
        for (c = 0; c < LOSSES_OUTPUTS; c++) rows[n * LOSSES_OUTPUTS + c] = (mtl_real)(values[c] / sum);
        given[n] = n != 2 && n != 4 && n != 11;
        if (!given[n]) rows[n * LOSSES_OUTPUTS] = test_nan();
    }
}

/* Every combination of labels or distributions, class weights and smoothing, some items missing. */
static void test_losses_cross_entropy(void **state)
{
    int labels[LOSSES_ROWS], given[LOSSES_ROWS], combination;
    mtl_real rows[LOSSES_ROWS * LOSSES_OUTPUTS];
    (void)state;
    for (combination = 0; combination < 8; combination++) {
        mtl_task_desc task = losses_task("task", MTL_TASK_CLASS, LOSSES_OUTPUTS);
        losses_definition how = {0};
        losses_expected expected;
        losses_setup s;
        task.class_weights = how.weights = combination & 1 ? losses_class_weights : NULL;
        task.label_smoothing = combination & 2 ? 0.25f : 0;
        how.smoothing = (double)task.label_smoothing;
        task.weight = 0.5f;
        losses_create(&s, &task, 1, NULL, NULL);
        if (combination & 4) losses_draw_distributions(rows, given);
        else losses_draw_labels(labels, given);
        if (combination & 4) s.targets[0].distribution = rows;
        else s.targets[0].labels = labels;
        losses_gradients(&s);
        expected = losses_expect(&s, "task", 0, &how, LOSSES_OUTPUTS, given);
        losses_compare(&s, "task", 0, &expected, LOSSES_OUTPUTS, 0.5);
        losses_close("the joint loss", s.step.loss, 0.5 * expected.loss, 1);
        losses_destroy(&s);
    }
}

/* Logits of a thousand: exp of them is not a number, the loss is. */
static void test_losses_large_logits(void **state)
{
    mtl_task_desc task = losses_task("task", MTL_TASK_CLASS, LOSSES_OUTPUTS);
    losses_definition how = {0};
    losses_expected expected;
    losses_setup s;
    int labels[LOSSES_ROWS], given[LOSSES_ROWS];
    (void)state;
    losses_create(&s, &task, 1, NULL, NULL);
    mtl_model_tensor(s.model, "task.output.bias")->value[1] = 1000;
    mtl_model_tensor(s.model, "task.output.bias")->value[2] = -1000;
    mtl_model_prepare(s.model, &s.err);
    losses_draw_labels(labels, given);
    s.targets[0].labels = labels;
    losses_gradients(&s);
    expected = losses_expect(&s, "task", 0, &how, LOSSES_OUTPUTS, given);
    losses_compare(&s, "task", 0, &expected, LOSSES_OUTPUTS, 1);
    assert_true(s.step.task_loss[0] > 100);
    losses_destroy(&s);
}

/* One class is always right: no gradient at all, whatever the smoothing; what rounding leaves of one, Adam
   would make whole steps of. */
static void test_losses_single_class(void **state)
{
    static const float smoothing[] = { 0, 0.071f, 0.249f, 0.372f, 0.9f };
    static const int labels[LOSSES_ROWS] = {0};
    size_t i;
    (void)state;
    for (i = 0; i < sizeof smoothing / sizeof *smoothing; i++) {
        mtl_task_desc task = losses_task("task", MTL_TASK_CLASS, 1);
        losses_setup s;
        task.label_smoothing = smoothing[i];
        losses_create(&s, &task, 1, NULL, NULL);
        s.targets[0].labels = labels;
        losses_gradients(&s);
        assert_true(fabs(s.step.task_loss[0]) <= (smoothing[i] > 0 ? 1e-6 : 0));
        assert_true(s.step.grad_norm == 0);
        losses_destroy(&s);
    }
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

/* Each loss at widths 1 to 3, standardised and not; a NaN anywhere in a vector makes the item missing. */
static void test_losses_real(void **state)
{
    static const int losses[] = { MTL_LOSS_DEFAULT, MTL_LOSS_MSE, MTL_LOSS_MAE, MTL_LOSS_HUBER };
    mtl_real values[LOSSES_ROWS * 3];
    const mtl_real mean[3] = { 0.5f, 0.5f, 0.5f }, scale[3] = { 2, 2, 2 };
    int given[LOSSES_ROWS], combination, width, n;
    (void)state;
    for (combination = 0; combination < 4 * 3 * 2; combination++) {
        mtl_task_desc task = losses_task("task", MTL_TASK_REAL, width = combination / 8 + 1);
        losses_definition how = {0};
        losses_expected expected;
        losses_setup s;
        task.loss = how.loss = losses[combination % 4];
        task.huber_delta = 0.75f;
        how.delta = 0.75;
        how.mean = 0.5;
        how.scale = combination & 4 ? 2 : 0;
        losses_create(&s, &task, 1, NULL, NULL);
        if (combination & 4) mtl_model_set_target_scale(s.model, 0, mean, scale, &s.err);
        losses_fill(values, LOSSES_ROWS * 3, 4);
        for (n = 0; n < LOSSES_ROWS; n++) {
            given[n] = n % 5 != 1;
            if (!given[n]) values[n * width + n % width] = test_nan();
        }
        s.targets[0].values = values;
        losses_gradients(&s);
        expected = losses_expect(&s, "task", 0, &how, (size_t)width, given);
        losses_compare(&s, "task", 0, &expected, (size_t)width, 1);
        losses_destroy(&s);
    }
}

/* Sets of labels, their classes weighted or not: the divisor counts items times classes; a NaN anywhere makes
   the item missing. Logits of a thousand, whose exp is no number, are fine on either side. */
static void test_losses_multi(void **state)
{
    mtl_real values[LOSSES_ROWS * LOSSES_OUTPUTS];
    int given[LOSSES_ROWS], large, n, j, combination;
    (void)state;
    for (combination = 0; combination < 4; combination++) {
        mtl_task_desc task = losses_task("task", MTL_TASK_MULTI, LOSSES_OUTPUTS);
        losses_definition how = {0};
        losses_expected expected;
        losses_setup s;
        large = combination & 1;
        task.weight = 0.5f;
        task.class_weights = how.weights = combination & 2 ? losses_class_weights : NULL;
        how.loss = MTL_LOSS_BCE;
        losses_create(&s, &task, 1, NULL, NULL);
        if (large) {
            mtl_model_tensor(s.model, "task.output.bias")->value[0] = 1000;
            mtl_model_tensor(s.model, "task.output.bias")->value[1] = -1000;
            mtl_model_prepare(s.model, &s.err);
        }
        for (n = 0; n < LOSSES_ROWS; n++) {
            for (j = 0; j < LOSSES_OUTPUTS; j++)
                values[n * LOSSES_OUTPUTS + j] = losses_random(5, (size_t)(n * LOSSES_OUTPUTS + j)) > 0;
            given[n] = n % 5 != 1;
            if (!given[n]) values[n * LOSSES_OUTPUTS + n % LOSSES_OUTPUTS] = test_nan();
        }
        s.targets[0].values = values;
        losses_gradients(&s);
        expected = losses_expect(&s, "task", 0, &how, LOSSES_OUTPUTS, given);
        losses_compare(&s, "task", 0, &expected, LOSSES_OUTPUTS, 0.5);
        assert_true(!large || s.step.task_loss[0] > 100);
        losses_destroy(&s);
    }
}

/* ---- missing labels, weights, several tasks ------------------------------------------------------------ */

/* What stands at an unlabelled step changes nothing. */
static void test_losses_missing_has_no_gradient(void **state)
{
    mtl_task_desc task = losses_task("task", MTL_TASK_CLASS, LOSSES_OUTPUTS);
    int labels[LOSSES_ROWS], given[LOSSES_ROWS];
    mtl_real before[LOSSES_OUTPUTS * LOSSES_FEATURES];
    losses_setup s;
    size_t n;
    double loss;
    (void)state;
    losses_create(&s, &task, 1, NULL, NULL);
    losses_draw_labels(labels, given);
    s.targets[0].labels = labels;
    losses_gradients(&s);
    loss = s.step.loss;
    memcpy(before, losses_gradient(&s, "task.output.weight")->value, sizeof before);
    for (n = 0; n < LOSSES_ROWS * LOSSES_FEATURES; n++)
        if (!given[n / LOSSES_FEATURES]) s.x[n] = 100;
    losses_gradients(&s);
    assert_true(s.step.loss == loss);
    assert_memory_equal(before, losses_gradient(&s, "task.output.weight")->value, sizeof before);
    losses_destroy(&s);
}

/* Tasks for what follows: class, real and a second class task, on a small bidirectional encoder. */
static void losses_joint(losses_setup *s, size_t count, const mtl_trainer_desc *how, float weight)
{
    mtl_task_desc tasks[LOSSES_TASKS];
    mtl_column_desc encoder = {0};
    tasks[0] = losses_task("class", MTL_TASK_CLASS, LOSSES_OUTPUTS);
    tasks[0].class_weights = losses_class_weights;
    tasks[0].weight = weight;
    tasks[1] = losses_task("real", MTL_TASK_REAL, 1);
    tasks[1].level = MTL_LEVEL_SEQUENCE;
    tasks[2] = losses_task("other", MTL_TASK_CLASS, 2);
    tasks[0].tap.from = tasks[1].tap.from = tasks[2].tap.from = NULL;
    encoder.cell = MTL_CELL_GRU;
    encoder.hidden = 5;
    encoder.bidirectional = 1;
    losses_create(s, tasks, count, &encoder, how);
}

static const mtl_real losses_numbers[LOSSES_SEQUENCES] = { 0.25f, -1, 2, 0.5f };

/* The gradients of every tensor, which must lie in `rows` of the same total. */
static void losses_copy_gradients(const losses_setup *s, mtl_real *all)
{
    const mtl_parameters *set = mtl_model_parameters(s->model);
    size_t i;
    memset(all, 0, set->total * sizeof *all);
    for (i = 0; i < set->count; i++) {
        const mtl_gradient *g = mtl_gradients_get(mtl_trainer_gradients(s->trainer), set->tensors[i]);
        if (g->state == MTL_GRAD_DENSE) memcpy(all + set->tensors[i]->offset, g->value,
                                               set->tensors[i]->count * sizeof *all);
    }
}

static mtl_real *losses_alloc(const losses_setup *s)
{
    mtl_real *all = (mtl_real *)calloc(mtl_model_parameters(s->model)->total, sizeof *all);
    assert_non_null(all);
    return all;
}

static void losses_compare_all(const losses_setup *s, const mtl_real *got, const mtl_real *want)
{
    const mtl_parameters *set = mtl_model_parameters(s->model);
    size_t i, j;
    for (i = 0; i < set->count; i++)
        for (j = 0; j < set->tensors[i]->count; j++)
            losses_close(set->tensors[i]->name, (double)got[set->tensors[i]->offset + j],
                         (double)want[set->tensors[i]->offset + j], 1);
}

/* A task that the batch has no label for: no loss, no gradient, and an update leaves its head alone whatever
   the rule. */
static void test_losses_task_without_labels(void **state)
{
    mtl_trainer_desc how = {0};
    int labels[LOSSES_ROWS], none[LOSSES_ROWS], n;
    mtl_real before[2 * 10];
    losses_setup s;
    (void)state;
    how.optimizer = MTL_OPTIMIZER_ADAMW;
    how.decay = 0.5f;
    how.decay_biases = 1;
    losses_joint(&s, 3, &how, 1);
    losses_draw_labels(labels, NULL);
    for (n = 0; n < LOSSES_ROWS; n++) none[n] = n & 1 ? MTL_MISSING : MTL_UNKNOWN_LABEL;
    s.targets[0].labels = labels;
    s.targets[2].labels = none;
    losses_gradients(&s);
    assert_int_equal(s.step.task_items[0], LOSSES_ROWS);
    assert_int_equal(s.step.task_items[1], 0);
    assert_int_equal(s.step.task_items[2], 0);
    assert_true(s.step.task_loss[1] == 0 && s.step.task_loss[2] == 0);
    assert_int_equal(losses_gradient(&s, "class.output.weight")->state, MTL_GRAD_DENSE);
    assert_int_equal(losses_gradient(&s, "real.output.weight")->state, MTL_GRAD_NONE);
    assert_int_equal(losses_gradient(&s, "other.output.bias")->state, MTL_GRAD_NONE);
    memcpy(before, mtl_model_tensor(s.model, "other.output.weight")->value, sizeof before);
    mtl_train_step(s.trainer, &s.batch, 1, NULL, &s.err);
    TEST_FINE(&s.err);
    assert_memory_equal(before, mtl_model_tensor(s.model, "other.output.weight")->value, sizeof before);
    losses_destroy(&s);
}

/* A batch without any label, or without targets, is no error: loss 0, nothing moves. */
static void test_losses_no_labels_at_all(void **state)
{
    losses_setup s;
    mtl_real *before;
    int part;
    (void)state;
    losses_joint(&s, 3, NULL, 1);
    before = test_weights_copy(s.model);
    for (part = 0; part < 2; part++) {
        mtl_train_step(s.trainer, &s.batch, 1, &s.step, &s.err);
        TEST_FINE(&s.err);
        assert_true(s.step.loss == 0 && s.step.grad_norm == 0);
        assert_true(test_weights_equal(s.model, before));
        s.batch.targets = NULL;
    }
    free(before);
    losses_destroy(&s);
}

/* The gradient of the joint loss is the sum of lambda_k times each task's own; lambda 0 turns a task off. */
static void test_losses_weights(void **state)
{
    static const float lambda[2] = { 0.5f, 3 };
    int labels[LOSSES_ROWS];
    mtl_real *sum, *one;
    losses_setup s;
    size_t i, k, total;
    (void)state;
    losses_joint(&s, 2, NULL, 0.5f);
    total = mtl_model_parameters(s.model)->total;
    sum = losses_alloc(&s);
    one = losses_alloc(&s);
    losses_draw_labels(labels, NULL);
    s.targets[0].labels = labels;
    s.targets[1].values = losses_numbers;
    for (k = 0; k < 2; k++) {
        mtl_trainer_set_weight(s.trainer, (int)k, 1, &s.err);
        mtl_trainer_set_weight(s.trainer, 1 - (int)k, 0, &s.err);
        losses_gradients(&s);
        losses_close("the loss of one task", s.step.loss, s.step.task_loss[k], 1);
        losses_copy_gradients(&s, one);
        for (i = 0; i < total; i++) sum[i] += lambda[k] * one[i];
    }
    for (k = 0; k < 2; k++) mtl_trainer_set_weight(s.trainer, (int)k, lambda[k], &s.err);
    losses_gradients(&s);
    losses_close("the joint loss", s.step.loss, 0.5 * s.step.task_loss[0] + 3 * s.step.task_loss[1], 1);
    losses_copy_gradients(&s, one);
    losses_compare_all(&s, one, sum);
    mtl_trainer_set_weight(s.trainer, 0, -1, &s.err);
    assert_int_equal(s.err.code, MTL_ERROR_NUMBER);
    free(sum);
    free(one);
    losses_destroy(&s);
}

/* A model of several tasks, given one task's labels, learns like a model of that task alone. */
static void test_losses_subset_of_tasks(void **state)
{
    int labels[LOSSES_ROWS];
    losses_setup joint, alone;
    const mtl_parameters *set;
    size_t i;
    (void)state;
    losses_joint(&joint, 3, NULL, 1);
    losses_joint(&alone, 1, NULL, 1);
    mtl_model_transfer(alone.model, joint.model, NULL, &alone.err);
    losses_draw_labels(labels, NULL);
    joint.targets[0].labels = alone.targets[0].labels = labels;
    losses_gradients(&joint);
    losses_gradients(&alone);
    assert_true(joint.step.loss == alone.step.loss);
    set = mtl_model_parameters(alone.model);
    for (i = 0; i < set->count; i++)
        assert_memory_equal(losses_gradient(&joint, set->tensors[i]->name)->value,
                            losses_gradient(&alone, set->tensors[i]->name)->value,
                                set->tensors[i]->count * sizeof(mtl_real));
    losses_destroy(&joint);
    losses_destroy(&alone);
}

/* A task that is only scored takes no part in training. */
static void test_losses_evaluate_only(void **state)
{
    mtl_task_desc tasks[2];
    int labels[LOSSES_ROWS];
    losses_setup s;
    (void)state;
    tasks[0] = losses_task("trained", MTL_TASK_CLASS, LOSSES_OUTPUTS);
    tasks[1] = losses_task("scored", MTL_TASK_CLASS, LOSSES_OUTPUTS);
    tasks[1].evaluate_only = 1;
    losses_create(&s, tasks, 2, NULL, NULL);
    losses_draw_labels(labels, NULL);
    s.targets[0].labels = s.targets[1].labels = labels;
    losses_gradients(&s);
    losses_close("the joint loss", s.step.loss, s.step.task_loss[0], 1);
    assert_int_equal(losses_gradient(&s, "trained.output.weight")->state, MTL_GRAD_DENSE);
    assert_int_equal(losses_gradient(&s, "scored.output.weight")->state, MTL_GRAD_NONE);
    losses_destroy(&s);
}

/* ---- micro-batches and order --------------------------------------------------------------------------- */

/* The batch cut into sequences first .. first + count - 1 of the whole. */
typedef struct losses_part { mtl_input input; mtl_target targets[LOSSES_TASKS]; mtl_batch batch;
} losses_part;

static void losses_cut(const losses_setup *s, losses_part *part, size_t first, size_t count)
{
    size_t row = 0, i;
    memset(part, 0, sizeof *part);
    for (i = 0; i < first; i++) row += (size_t)losses_lengths[i];
    part->input.rows = s->x + row * LOSSES_FEATURES;
    part->targets[0].labels = s->targets[0].labels + row;
    part->targets[1].values = s->targets[1].values + first;
    part->targets[2].labels = s->targets[2].labels + row;
    part->batch.sequences = count;
    part->batch.lengths = losses_lengths + first;
    part->batch.inputs = &part->input;
    part->batch.targets = part->targets;
}

/* Labels, class weights and lengths are spread unevenly: the mean over parts would be another number. */
static void test_losses_micro_batches(void **state)
{
    int labels[LOSSES_ROWS], given[LOSSES_ROWS], other[LOSSES_ROWS], n;
    mtl_real numbers[LOSSES_SEQUENCES], *whole, *parts;
    losses_setup s;
    losses_part part[LOSSES_SEQUENCES];
    mtl_batch batches[LOSSES_SEQUENCES];
    double loss, norm;
    size_t i;
    (void)state;
    losses_joint(&s, 3, NULL, 0.5f);
    losses_draw_labels(labels, given);
    memcpy(numbers, losses_numbers, sizeof numbers);
    numbers[1] = test_nan();
    for (n = 0; n < LOSSES_ROWS; n++) other[n] = n < 9 ? MTL_MISSING : n & 1;
    s.targets[0].labels = labels;
    s.targets[1].values = numbers;
    s.targets[2].labels = other;
    whole = losses_alloc(&s);
    parts = losses_alloc(&s);
    losses_gradients(&s);
    losses_copy_gradients(&s, whole);
    loss = s.step.loss;
    norm = s.step.grad_norm;
    for (i = 0; i < LOSSES_SEQUENCES; i++) {
        losses_cut(&s, &part[i], i, 1);
        batches[i] = part[i].batch;
    }
    mtl_train_gradients(s.trainer, batches, LOSSES_SEQUENCES, &s.step, &s.err);
    TEST_FINE(&s.err);
    losses_copy_gradients(&s, parts);
    losses_compare_all(&s, parts, whole);
    losses_close("the loss in parts", s.step.loss, loss, 1);
    losses_close("the norm in parts", s.step.grad_norm, norm, 1);
    assert_int_equal(s.step.tokens, LOSSES_ROWS);
    assert_int_equal(s.step.task_items[0], 9);
    assert_int_equal(s.step.task_items[1], 3);
    assert_int_equal(s.step.task_items[2], 3);
    losses_cut(&s, &part[0], 0, 3);         /* two unequal parts, the longer first and then second */
    losses_cut(&s, &part[1], 3, 1);
    for (i = 0; i < 2; i++) {
        batches[i] = part[0].batch;
        batches[1 - i] = part[1].batch;
        mtl_train_gradients(s.trainer, batches, 2, &s.step, &s.err);
        TEST_FINE(&s.err);
        losses_copy_gradients(&s, parts);
        losses_compare_all(&s, parts, whole);
    }
    free(whole);
    free(parts);
    losses_destroy(&s);
}

/* Sequences in another order: the same loss and gradients. */
static void test_losses_order_of_sequences(void **state)
{
    static const size_t order[LOSSES_SEQUENCES] = { 2, 0, 3, 1 };
    int labels[LOSSES_ROWS], given[LOSSES_ROWS], moved_labels[LOSSES_ROWS], moved_lengths[LOSSES_SEQUENCES];
    mtl_real x[LOSSES_ROWS * LOSSES_FEATURES], numbers[LOSSES_SEQUENCES], *before, *after;
    losses_setup s;
    size_t i, k, row, to = 0;
    double loss;
    (void)state;
    losses_joint(&s, 2, NULL, 1);
    losses_draw_labels(labels, given);
    s.targets[0].labels = labels;
    s.targets[1].values = losses_numbers;
    before = losses_alloc(&s);
    after = losses_alloc(&s);
    losses_gradients(&s);
    losses_copy_gradients(&s, before);
    loss = s.step.loss;
    for (i = 0; i < LOSSES_SEQUENCES; i++) {
        size_t length = (size_t)losses_lengths[order[i]];
        for (k = row = 0; k < order[i]; k++) row += (size_t)losses_lengths[k];
        memcpy(x + to * LOSSES_FEATURES, s.x + row * LOSSES_FEATURES, length * LOSSES_FEATURES * sizeof *x);
        memcpy(moved_labels + to, labels + row, length * sizeof *labels);
        moved_lengths[i] = (int)length;
        numbers[i] = losses_numbers[order[i]];
        to += length;
    }
    memcpy(s.x, x, sizeof x);
    s.targets[0].labels = moved_labels;
    s.targets[1].values = numbers;
    s.batch.lengths = moved_lengths;
    losses_gradients(&s);
    losses_copy_gradients(&s, after);
    losses_close("the loss in another order", s.step.loss, loss, 1);
    losses_compare_all(&s, after, before);
    free(before);
    free(after);
    losses_destroy(&s);
}

/* ---- what is refused ----------------------------------------------------------------------------------- */

/* The step fails as said and changes no weight; then err is reset. position: of the error, or -2: any. */
static void losses_refused(losses_setup *s, int code, const char *name, long long position, const char *words)
{
    mtl_real *before = test_weights_copy(s->model);
    assert_int_equal(mtl_train_step(s->trainer, &s->batch, 1, &s->step, &s->err), code);
    if (position != -2) assert_int_equal(s->err.position, position);
    test_expect_error(&s->err, code, name, words);
    assert_true(test_weights_equal(s->model, before));
    free(before);
}

static void test_losses_refused_targets(void **state)
{
    int labels[LOSSES_ROWS];
    mtl_real numbers[LOSSES_SEQUENCES];
    losses_setup s;
    (void)state;
    losses_joint(&s, 3, NULL, 1);
    losses_draw_labels(labels, NULL);
    memcpy(numbers, losses_numbers, sizeof numbers);
    s.targets[0].labels = labels;
    s.targets[1].values = numbers;
    labels[6] = LOSSES_OUTPUTS;             /* sequences of 4, 1, 5: item 6 is step 1 of sequence 2 */
    losses_refused(&s, MTL_ERROR_RANGE, "class", 6, "sequence 2, step 1");
    labels[6] = -3;
    losses_refused(&s, MTL_ERROR_RANGE, "class", 6, "label -3");
    labels[6] = 0;
    numbers[2] = test_infinity();
    losses_refused(&s, MTL_ERROR_NUMBER, "real", 2, "not finite");
    numbers[2] = -test_infinity();
    losses_refused(&s, MTL_ERROR_NUMBER, "real", 2, "not finite");
    numbers[2] = 0;
    s.targets[1].values = NULL;
    s.targets[1].labels = labels;
    losses_refused(&s, MTL_ERROR_ARGUMENT, "real", -2, "values");
    s.targets[1].labels = NULL;
    s.targets[0].labels = NULL;
    s.targets[0].values = numbers;
    losses_refused(&s, MTL_ERROR_ARGUMENT, "class", -2, "labels");
    s.targets[0].values = NULL;
    s.targets[0].labels = labels;
    mtl_train_step(s.trainer, &s.batch, 1, &s.step, &s.err);
    TEST_FINE(&s.err);
    assert_int_equal(s.step.step, 1);       /* the refused ones did not count */
    losses_destroy(&s);
}

static void test_losses_refused_sets(void **state)
{
    mtl_task_desc task = losses_task("topics", MTL_TASK_MULTI, 2);
    mtl_real values[LOSSES_ROWS * 2] = {0};
    int labels[LOSSES_ROWS] = {0};
    losses_setup s;
    (void)state;
    losses_create(&s, &task, 1, NULL, NULL);
    s.targets[0].values = values;
    values[6 * 2 + 1] = (mtl_real)0.5;      /* sequences of 4, 1, 5: item 6 is step 1 of sequence 2 */
    losses_refused(&s, MTL_ERROR_NUMBER, "topics", 6, "class 1 of sequence 2, step 1 is neither 0 nor 1");
    values[6 * 2 + 1] = -1;
    losses_refused(&s, MTL_ERROR_NUMBER, "topics", 6, "neither 0 nor 1");
    values[6 * 2 + 1] = test_infinity();
    losses_refused(&s, MTL_ERROR_NUMBER, "topics", 6, "not finite");
    s.targets[0].labels = labels;
    losses_refused(&s, MTL_ERROR_ARGUMENT, "topics", -2, "values");
    losses_destroy(&s);
}

static void test_losses_refused_inputs(void **state)
{
    int labels[LOSSES_ROWS];
    const int lengths[LOSSES_SEQUENCES] = { 4, 0, 5, 2 };
    losses_setup s;
    mtl_real held;
    (void)state;
    losses_joint(&s, 1, NULL, 1);
    losses_draw_labels(labels, NULL);
    s.targets[0].labels = labels;
    held = s.x[7 * LOSSES_FEATURES + 1];
    s.x[7 * LOSSES_FEATURES + 1] = test_nan();
    losses_refused(&s, MTL_ERROR_NUMBER, "x", 7, "sequence 2");
    s.x[7 * LOSSES_FEATURES + 1] = test_infinity();
    losses_refused(&s, MTL_ERROR_NUMBER, "x", 7, "column 1");
    s.x[7 * LOSSES_FEATURES + 1] = held;
    s.batch.lengths = lengths;
    losses_refused(&s, MTL_ERROR_RANGE, "lengths", 1, "sequence 1");
    s.batch.lengths = NULL;
    losses_refused(&s, MTL_ERROR_ARGUMENT, "batch", -2, "lengths");
    s.batch.lengths = losses_lengths;
    s.input.rows = NULL;
    losses_refused(&s, MTL_ERROR_ARGUMENT, "x", -2, "rows");
    s.input.rows = s.x;
    assert_int_equal(mtl_train_step(s.trainer, NULL, 1, NULL, &s.err), MTL_ERROR_ARGUMENT);
    mtl_error_clear(&s.err);
    assert_int_equal(mtl_train_step(s.trainer, &s.batch, 0, NULL, &s.err), MTL_ERROR_ARGUMENT);
    assert_int_equal(mtl_train_step(s.trainer, &s.batch, 1, NULL, &s.err), MTL_ERROR_ARGUMENT);   /* sticky */
    assert_int_equal(mtl_train_step(s.trainer, &s.batch, 1, NULL, NULL), MTL_OK);
    losses_destroy(&s);
}

/* Weights so large that the loss, or only its gradient, overflows: the step stops before any weight is
   touched. */
static void test_losses_not_finite(void **state)
{
    mtl_task_desc task = losses_task("task", MTL_TASK_REAL, 1);
    mtl_real values[LOSSES_ROWS], *bias, huge = sizeof(mtl_real) == sizeof(double)
        ? (mtl_real)1e300 : (mtl_real)1e30;
    losses_setup s;
    (void)state;
    losses_create(&s, &task, 1, NULL, NULL);
    losses_fill(values, LOSSES_ROWS, 5);
    s.targets[0].values = values;
    bias = mtl_model_tensor(s.model, "task.output.bias")->value;
    bias[0] = huge;                         /* its square is infinite */
    mtl_model_prepare(s.model, &s.err);
    losses_refused(&s, MTL_ERROR_NUMBER, "task", -2, "no weight was changed");
    bias[0] = test_nan();
    mtl_model_prepare(s.model, &s.err);
    losses_refused(&s, MTL_ERROR_NUMBER, "task", -2, "no weight was changed");
    bias[0] = 0;
    mtl_model_prepare(s.model, &s.err);
    mtl_train_step(s.trainer, &s.batch, 1, &s.step, &s.err);
    TEST_FINE(&s.err);
    assert_int_equal(s.step.step, 1);
    losses_destroy(&s);
}

#define TEST_LOSSES \
    cmocka_unit_test(test_losses_multi), cmocka_unit_test(test_losses_refused_sets), \
    cmocka_unit_test(test_losses_cross_entropy), cmocka_unit_test(test_losses_large_logits), \
    cmocka_unit_test(test_losses_single_class), cmocka_unit_test(test_losses_real), \
    cmocka_unit_test(test_losses_missing_has_no_gradient), \
        cmocka_unit_test(test_losses_task_without_labels), \
    cmocka_unit_test(test_losses_no_labels_at_all), cmocka_unit_test(test_losses_weights), \
    cmocka_unit_test(test_losses_subset_of_tasks), cmocka_unit_test(test_losses_evaluate_only), \
    cmocka_unit_test(test_losses_micro_batches), cmocka_unit_test(test_losses_order_of_sequences), \
    cmocka_unit_test(test_losses_refused_targets), cmocka_unit_test(test_losses_refused_inputs), \
    cmocka_unit_test(test_losses_not_finite)
