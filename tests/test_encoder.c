/* >>encoder: columns over columns, mixes, taps: gradients of whole models of random shape, and what mixes
   promise. Included by tests/main.c. */
#include "gradient.h"

/* ---- models of random shape ---------------------------------------------------------------------------- */

/* Inputs "i0" (ids), "i1" (ids or features); columns "c0" ..; tasks "t0" ..; every column and task takes any
   mix of what stands before it. */
typedef struct encoder_model {
    test_random random;
    mtl_model_desc desc;
    mtl_input_desc inputs[2];
    mtl_column_desc columns[4];
    mtl_task_desc tasks[4];
    char names[10][8], mixes[8][64];
    size_t name_count, mix_count;
    int bent;
} encoder_model;

static const char *encoder_name(encoder_model *m, char letter, size_t i)
{
    char *name = m->names[m->name_count++];
    name[0] = letter;
    name[1] = (char)('0' + i);
    return name;
}

/* One to three of the inputs and of the first `columns` columns; now and then what the default takes. A
   task's tap must hold no more than inputs and columns either. */
static const char *encoder_mix(encoder_model *m, size_t columns)
{
    size_t sources = m->desc.input_count + columns, i, parts = (size_t)test_random_between(&m->random, 0, 3);
    char *mix = m->mixes[m->mix_count++];
    if (parts == 0) return NULL;
    for (i = 0; i < parts; i++) {
        size_t k = (size_t)test_random_between(&m->random, 0, (int)sources - 1);
        if (i) strcat(mix, "+");
        strcat(mix, k < m->desc.input_count ? m->inputs[k].name : m->columns[k - m->desc.input_count].name);
    }
    return mix;
}

static void encoder_random_inputs(encoder_model *m, float dropout)
{
    size_t i;
    m->desc.input_count = (size_t)test_random_between(&m->random, 1, 2);
    for (i = 0; i < m->desc.input_count; i++) {
        mtl_input_desc *d = &m->inputs[i];
        d->name = encoder_name(m, 'i', i);
        if (i == 1 && test_random_between(&m->random, 0, 1))
            d->features = test_random_between(&m->random, 2, 5);
        else d->vocabulary = test_random_between(&m->random, 2, 20);
        d->batch_norm = d->features > 2;
        d->width = test_random_between(&m->random, 2, 9);        /* of one column a norm leaves nothing */
        d->padding_zero = test_random_between(&m->random, 0, 1);
        d->scale = test_random_between(&m->random, 0, 1) ? 0.5f : 0;
        d->dropout = dropout;
        d->dropout_per_sequence = test_random_between(&m->random, 0, 1);
    }
}

static void encoder_random_columns(encoder_model *m, float dropout)
{
    size_t i;
    m->desc.column_count = (size_t)test_random_between(&m->random, 1, 4);
    for (i = 0; i < m->desc.column_count; i++) {
        mtl_column_desc *d = &m->columns[i];
        d->input.from = encoder_mix(m, i);
        d->name = encoder_name(m, 'c', i);
        d->cell = test_random_between(&m->random, 1, 3);
        d->hidden = test_random_between(&m->random, 2, 18);
        d->layers = test_random_between(&m->random, 1, 2);
        d->bidirectional = test_random_between(&m->random, 0, 1);
        d->activation = d->cell == MTL_CELL_RNN && test_random_between(&m->random, 0, 1)
            ? MTL_ACTIVATION_SIGMOID : MTL_ACTIVATION_TANH;
        d->reset = test_random_between(&m->random, 0, 2);
        d->no_bias = test_random_between(&m->random, 0, 3) == 0;
        d->forget_bias = 1;
        d->dropout = d->dropout_between = d->dropout_recurrent = dropout;
        d->dropout_per_sequence = test_random_between(&m->random, 0, 1);
        d->norm_input = test_random_between(&m->random, 0, 3) == 0;
        d->norm_between = test_random_between(&m->random, 0, 1);
        d->norm_output = test_random_between(&m->random, 0, 3) == 0;
        /* norms of rows of zeros, which stay zeros without a bias, would be ties at all steps for pool max */
        if (d->norm_input || d->norm_between || d->norm_output) d->no_bias = 0;
        d->norm_epsilon = MTL__REAL_IS_DOUBLE ? 0.05f : 1;   /* float: steps are large */
        d->residual = test_random_between(&m->random, 0, 1);
        if (test_random_between(&m->random, 0, 2) > 0) continue;
        d->kind = MTL_COLUMN_ATTENTION;
        d->dropout_recurrent = 0;
        d->heads = test_random_between(&m->random, 1, 3);
        d->rotary = test_random_between(&m->random, 0, 1);
        d->head_width = d->rotary ? 2 * test_random_between(&m->random, 1, 10)
            : test_random_between(&m->random, 0, 20);
    }
}

static void encoder_random_tasks(encoder_model *m, float dropout)
{
    size_t i;
    m->desc.task_count = (size_t)test_random_between(&m->random, 1, 4);
    for (i = 0; i < m->desc.task_count; i++) {
        mtl_task_desc *d = &m->tasks[i];
        d->tap.from = encoder_mix(m, m->desc.column_count);
        d->name = encoder_name(m, 't', i);
        d->kind = test_random_between(&m->random, MTL_TASK_CLASS, MTL_TASK_REAL);
        d->level = test_random_between(&m->random, MTL_LEVEL_SEQUENCE, MTL_LEVEL_STEP);
        d->classes = d->kind == MTL_TASK_CLASS ? test_random_between(&m->random, 1, 20) : 0;
        d->width = d->kind == MTL_TASK_REAL ? test_random_between(&m->random, 1, 4) : 0;
        d->weight = (float)test_random_real(&m->random, 0.3, 1.5);
        d->pool = test_random_between(&m->random, MTL_POOL_LAST, MTL_POOL_DOT);
        d->pool_beside = test_random_between(&m->random, 0, 1) ? 0
            : test_random_between(&m->random, MTL_POOL_LAST,
                                  d->pool > MTL_POOL_MAX ? MTL_POOL_MAX : MTL_POOL_DOT);
        d->pool_width = test_random_between(&m->random, 0, 20);
        d->activation = (int)test_random_between(&m->random, MTL_ACTIVATION_TANH, MTL_ACTIVATION_SILU);
        d->hidden[0] = test_random_between(&m->random, 0, 1) * 7;
        d->hidden[1] = d->hidden[0] && test_random_between(&m->random, 0, 1) ? 5 : 0;
        d->dropout = dropout;
        d->dropout_per_sequence = (int)(i % 2);
        d->batch_norm = d->hidden[0] && d->hidden[1];
        m->bent |= d->pool == MTL_POOL_MAX || d->pool_beside == MTL_POOL_MAX
            || (d->hidden[0] && d->activation == MTL_ACTIVATION_RELU);
    }
}

static mtl_model *encoder_random_model(encoder_model *m, int number)
{
    mtl_error err;
    mtl_model *model;
    float dropout = number % 3 == 0 ? 0.25f : 0;
    mtl_error_clear(&err);
    memset(m, 0, sizeof *m);
    m->random = test_random_from((unsigned long long)number);
    encoder_random_inputs(m, dropout);
    encoder_random_columns(m, dropout);
    encoder_random_tasks(m, dropout);
    m->desc.inputs = m->inputs;
    m->desc.columns = m->columns;
    m->desc.tasks = m->tasks;
    m->desc.seed = (unsigned long long)number + 1;
    model = mtl_model_create(&m->desc, &err);
    TEST_FINE(&err);
    return model;
}

/* Two micro-batches with a share of the labels missing, whole models of every shape. */
static void test_encoder_gradients(void **state)
{
    encoder_model m;
    int i;
    (void)state;
    for (i = 0; i < test_cases(80); i++) {
        mtl_model *model = encoder_random_model(&m, i);
        test_batch *a = test_batch_create(&m.desc, NULL, 1 + i % 9, 7, i % 2 * 0.4, (unsigned long long)i);
        test_batch *b = test_batch_create(&m.desc, NULL, i % 10 ? 3 : 33, 5, 0.4,
                                          (unsigned long long)i + 1000);
        mtl_trainer_desc how;
        mtl_batch batches[2];
        char what[64];
        memset(&how, 0, sizeof how);
        how.isa = gradient_isa(i);
        batches[0] = a->batch;
        batches[1] = b->batch;
        snprintf(what, sizeof what, "model, case %d", i);
        model_check(model, &how, batches, 1 + (size_t)(i % 2), m.bent, what);
        test_batch_destroy(a);
        test_batch_destroy(b);
        mtl_model_destroy(model);
    }
}

/* Columns that do not read one another run beside one another where there are threads: dropout between layers
   and shared inputs included, the bits are those of one thread. */
static void test_encoder_threads(void **state)
{
    encoder_model m;
    int i, threads;
    (void)state;
    for (i = 0; i < test_cases(60); i++) {
        mtl_real *one = NULL, *more;
        test_batch *b = NULL;
        for (threads = 1; threads <= 3; threads += 1 + i % 2) {
            mtl_model *model = encoder_random_model(&m, i);
            if (!b) b = test_batch_create(&m.desc, NULL, 1 + i * 5 % 40, 7, 0.2, (unsigned long long)i);
            more = test_train_three(model, &b->batch, threads);
            if (one) assert_memory_equal(one, more, mtl_model_parameters(model)->total * sizeof *one);
            if (one) free(more);
            else one = more;
            mtl_model_destroy(model);
        }
        free(one);
        test_batch_destroy(b);
    }
}

/* ---- freezing ------------------------------------------------------------------------------------------ */

/* A frozen column has no gradient, and those below it have theirs; an update leaves it alone. */
static void test_encoder_frozen_column(void **state)
{
    test_shape shape;
    test_problem p;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_error err;
    mtl_real *before;
    size_t i;
    (void)state;
    mtl_error_clear(&err);
    memset(&shape, 0, sizeof shape);
    shape.two_columns = 1;
    shape.bidirectional = 1;
    test_problem_create(&p, &shape);
    model = mtl_model_create(&p.desc, &err);
    TEST_FINE(&err);
    assert_int_equal(mtl_model_freeze(model, "high.", 1), 8);
    model_check(model, NULL, p.batch, 1, 1, "frozen column");
    trainer = mtl_trainer_create(model, NULL, &err);
    before = test_weights_copy(model);
    mtl_train_step(trainer, p.batch, 1, NULL, &err);
    TEST_FINE(&err);
    for (i = 0; i < mtl_model_parameters(model)->count; i++) {
        const mtl_tensor *t = mtl_model_parameters(model)->tensors[i];
        int frozen = strncmp(t->name, "high.", 5) == 0;
        assert_int_equal(mtl_gradients_get(mtl_trainer_gradients(trainer), t) == NULL, frozen);
        assert_int_equal(memcmp(before + t->offset, t->value, t->count * sizeof *before) == 0, frozen);
    }
    free(before);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

/* ---- mixes --------------------------------------------------------------------------------------------- */

enum { ENCODER_SEEN = 16 };
typedef struct encoder_seen { size_t count, width[ENCODER_SEEN]; char name[ENCODER_SEEN][32]; } encoder_seen;

static void encoder_observe(void *user, const mtl_run *run, const mtl_activation *a)
{
    encoder_seen *seen = (encoder_seen *)user;
    (void)run;
    if (seen->count == ENCODER_SEEN) return;
    snprintf(seen->name[seen->count], sizeof seen->name[0], "%s", a->name);
    seen->width[seen->count++] = a->width;
}

static size_t encoder_seen_width(const encoder_seen *seen, const char *name)
{
    size_t i;
    for (i = 0; i < seen->count; i++)
        if (strcmp(seen->name[i], name) == 0) return seen->width[i];
    return 0;
}

/* Widths of what a mix takes add up; layers, columns, pooled rows and outputs can be observed by name. */
static void test_encoder_mixes(void **state)
{
    mtl_input_desc inputs[2];
    mtl_column_desc columns[2];
    mtl_task_desc tasks[2];
    mtl_model_desc desc;
    encoder_seen seen;
    mtl_prediction out[2];
    mtl_error err;
    mtl_model *model;
    mtl_predictor *predictor;
    test_batch *b;
    (void)state;
    mtl_error_clear(&err);
    memset(inputs, 0, sizeof inputs);
    memset(columns, 0, sizeof columns);
    memset(tasks, 0, sizeof tasks);
    memset(&desc, 0, sizeof desc);
    memset(&seen, 0, sizeof seen);
    inputs[0].name = "words";
    inputs[0].vocabulary = 9;
    inputs[0].width = 6;
    inputs[1].name = "shape";
    inputs[1].features = 3;
    columns[0].name = "low";
    columns[0].hidden = 5;
    columns[0].layers = 2;
    columns[0].bidirectional = 1;
    columns[1].name = "high";
    columns[1].hidden = 4;
    columns[1].input.from = "low+words";
    tasks[0].name = "a";
    tasks[0].classes = 2;
    tasks[0].tap.from = "high+low+shape";
    tasks[1].name = "b";
    tasks[1].classes = 3;
    tasks[1].level = MTL_LEVEL_STEP;
    desc.inputs = inputs;
    desc.input_count = 2;
    desc.columns = columns;
    desc.column_count = 2;
    desc.tasks = tasks;
    desc.task_count = 2;
    model = mtl_model_create(&desc, &err);
    predictor = mtl_predictor_create(model, NULL, &err);
    TEST_FINE(&err);
    assert_int_equal(mtl_model_tensor(model, "low.weight_ih_l0")->shape[1], 9);         /* NULL: all inputs */
    assert_int_equal(mtl_model_tensor(model, "low.weight_ih_l1_reverse")->shape[1], 10);
    assert_int_equal(mtl_model_tensor(model, "high.weight_ih_l0")->shape[1], 16);
    assert_int_equal(mtl_model_tensor(model, "a.output.weight")->shape[1], 4 + 10 + 3);
    assert_int_equal(mtl_model_tensor(model, "b.output.weight")->shape[1], 4);     /* NULL: the last column */
    mtl_predictor_observe(predictor, encoder_observe, &seen);
    b = test_batch_create(&desc, NULL, 4, 5, 0, 1);
    mtl_predict(predictor, &b->batch, out, &err);
    TEST_FINE(&err);
    assert_int_equal(encoder_seen_width(&seen, "words"), 6);
    assert_int_equal(encoder_seen_width(&seen, "low.layer0"), 10);
    assert_int_equal(encoder_seen_width(&seen, "low"), 10);
    assert_int_equal(encoder_seen_width(&seen, "high"), 4);
    assert_int_equal(encoder_seen_width(&seen, "a.pooled"), 17);
    assert_int_equal(encoder_seen_width(&seen, "a.probabilities"), 2);
    assert_int_equal(encoder_seen_width(&seen, "b.logits"), 3);
    test_batch_destroy(b);
    mtl_predictor_destroy(predictor);
    mtl_model_destroy(model);
}

/* A model with one column and one task whose mixes are given, to be refused. */
static void encoder_expect_refused(const char *column_from, const char *tap_from, const char *where,
                                   const char *part)
{
    mtl_input_desc input;
    mtl_column_desc columns[2];
    mtl_task_desc task;
    mtl_model_desc desc;
    mtl_error err;
    mtl_error_clear(&err);
    memset(&input, 0, sizeof input);
    memset(columns, 0, sizeof columns);
    memset(&task, 0, sizeof task);
    memset(&desc, 0, sizeof desc);
    input.name = "words";
    input.vocabulary = 3;
    columns[0].name = "first";
    columns[0].input.from = column_from;
    columns[1].name = "second";
    task.name = "task";
    task.classes = 2;
    task.tap.from = tap_from;
    desc.inputs = &input;
    desc.input_count = 1;
    desc.columns = columns;
    desc.column_count = 2;
    desc.tasks = &task;
    desc.task_count = 1;
    assert_null(mtl_model_create(&desc, &err));
    test_expect_error(&err, MTL_ERROR_FIELD, where, part);
}

static void test_encoder_wrong_mixes(void **state)
{
    (void)state;
    encoder_expect_refused("nothing", NULL, "columns[0].input", "\"nothing\"");
    encoder_expect_refused("first", NULL, "first", "first <- first");               /* itself */
    encoder_expect_refused("words+", NULL, "columns[0].input", "\"\"");
    encoder_expect_refused("", NULL, "columns[0].input", "\"\"");
    encoder_expect_refused("word", NULL, "columns[0].input", "\"word\"");               /* a part of a name */
    encoder_expect_refused(NULL, "first+third", "tasks[0].tap", "\"third\"");
    encoder_expect_refused(NULL, "task", "task", "task <- task");
    encoder_expect_refused("task", "first", "first", "first <- task <- first");
    encoder_expect_refused("words.probabilities", NULL, "columns[0].input", "only tasks have probabilities");
}

/* ---- states carried from chunk to chunk ---------------------------------------------------------------- */

/* A model of two columns of two layers each. */
static mtl_model *encoder_carrying_model(test_problem *p, int cell, int bidirectional)
{
    test_shape shape;
    mtl_error err;
    mtl_model *model;
    mtl_error_clear(&err);
    memset(&shape, 0, sizeof shape);
    shape.cell = cell;
    shape.bidirectional = bidirectional;
    shape.two_columns = 1;
    shape.layers = 2;
    shape.features = 2;
    shape.sequences = 3;
    test_problem_create(p, &shape);
    model = mtl_model_create(&p->desc, &err);
    TEST_FINE(&err);
    return model;
}

/* Predictions for each step of long sequences, read whole and in chunks of 4 and 6 steps with carried states,
   are the same. */
static void test_encoder_carried_states(void **state)
{
    static const int whole[] = { 10, 10, 10 };
    test_problem p;
    mtl_prediction out[TEST_TASKS_COUNT];
    mtl_error err;
    int cell;
    (void)state;
    mtl_error_clear(&err);
    for (cell = MTL_CELL_RNN; cell <= MTL_CELL_LSTM; cell++) {
        mtl_model *model = encoder_carrying_model(&p, cell, 0);
        mtl_predictor *predictor = mtl_predictor_create(model, NULL, &err);
        test_batch *long_one = test_batch_create(&p.desc, whole, 3, 10, 0, 5);
        mtl_state *carried = mtl_state_create(model, 3, &err);
        mtl_real expected[30 * 5];
        size_t begin, s, t, i, steps;
        mtl_predict(predictor, &long_one->batch, out, &err);
        TEST_FINE(&err);
        memcpy(expected, out[TEST_TAGS].probabilities, sizeof expected);
        for (begin = 0; begin < 10; begin += steps) {
            int lengths[3], ids[30];
            mtl_real rows[60];
            mtl_input inputs[2];
            mtl_batch chunk;
            memset(inputs, 0, sizeof inputs);
            memset(&chunk, 0, sizeof chunk);
            steps = begin ? 6 : 4;
            for (s = 0; s < 3; s++) {
                lengths[s] = (int)steps;
                memcpy(ids + s * steps, long_one->inputs[0].ids + s * 10 + begin, steps * sizeof *ids);
                memcpy(rows + s * steps * 2, long_one->inputs[1].rows + (s * 10 + begin) * 2,
                       steps * 2 * sizeof *rows);
            }
            inputs[0].ids = ids;
            inputs[1].rows = rows;
            chunk.sequences = 3;
            chunk.lengths = lengths;
            chunk.inputs = inputs;
            chunk.state = carried;
            mtl_predict(predictor, &chunk, out, &err);
            TEST_FINE(&err);
            for (s = 0; s < 3; s++)
                for (t = 0; t < steps; t++)
                    for (i = 0; i < 5; i++)
                        assert_true(fabs((double)(out[TEST_TAGS].probabilities[(s * steps + t) * 5 + i]
                                                  - expected[(s * 10 + begin + t) * 5 + i])) < 1e-5);
        }
        mtl_state_destroy(carried);
        test_batch_destroy(long_one);
        mtl_predictor_destroy(predictor);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

/* Truncated backpropagation: what a chunk starts from is a constant, and its gradient is right. */
static void encoder_fill_state(void *user)
{
    mtl_state *carried = (mtl_state *)user;
    size_t i;
    for (i = 0; i < carried->rows * carried->width; i++)
        carried->values[i] = (mtl_real)(mtl__random_uniform(3, 0, i) - 0.5);
}

static void test_encoder_gradients_with_carried_states(void **state)
{
    test_problem p;
    mtl_error err;
    int number;
    (void)state;
    mtl_error_clear(&err);
    for (number = 0; number < 6; number++) {
        const int cell = MTL_CELL_RNN + number / 2, bidirectional = number % 2;
        mtl_model *model = encoder_carrying_model(&p, cell, bidirectional);
        mtl_state *carried = mtl_state_create(model, 3, &err);
        mtl_batch batch = *p.batch;
        TEST_FINE(&err);
        batch.state = carried;
        model_check_carried(model, NULL, &batch, 1, 1, "carried states", encoder_fill_state, carried);
        mtl_state_destroy(carried);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

/* A state for other sequences or another model is refused. */
static void test_encoder_wrong_state(void **state)
{
    test_problem p;
    mtl_error err;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_batch batch;
    (void)state;
    mtl_error_clear(&err);
    model = encoder_carrying_model(&p, MTL_CELL_GRU, 0);
    trainer = mtl_trainer_create(model, NULL, &err);
    batch = *p.batch;
    batch.state = mtl_state_create(model, 2, &err);
    TEST_FINE(&err);
    assert_int_equal(mtl_train_step(trainer, &batch, 1, NULL, &err), MTL_ERROR_RANGE);
    test_expect_error(&err, MTL_ERROR_RANGE, "state", "2 rows");
    mtl_state_destroy(batch.state);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

/* ---- self-attention ------------------------------------------------------------------------------------ */

enum { SELF_WIDTH = 5, SELF_HEADS = 2, SELF_HEAD = 4, SELF_STEPS = 30 };

typedef struct encoder_self {
    mtl_real rows[200 * SELF_WIDTH], y[200 * SELF_WIDTH], weights[200][SELF_HEADS][32];
} encoder_self;

/* Rows in the caller's order. */
static void encoder_see_self(void *user, const mtl_run *run, const mtl_activation *a)
{
    encoder_self *seen = (encoder_self *)user;
    const int reads = strcmp(a->name, "rows") == 0, makes = strcmp(a->name, "self") == 0;
    size_t s, t, row = 0;
    for (s = 0; (reads || makes) && s < mtl_run_rows(run, a, MTL_LEVEL_SEQUENCE); s++)
        for (t = 0; t < mtl_run_steps(run, a, s); t++, row++)
            memcpy((reads ? seen->rows : seen->y) + row * SELF_WIDTH, a->value + mtl_run_row(run, a, s, t)
                   * a->stride, SELF_WIDTH * sizeof(mtl_real));
    if (strcmp(a->name, "self.attention.0") != 0) return;
    assert_int_equal(a->width, SELF_HEADS * 32);
    for (row = 0; row < a->rows; row++)
        memcpy(seen->weights[row], a->value + row * a->stride, sizeof seen->weights[row]);
}

static const mtl_real *encoder_self_values(mtl_model *model, const char *name)
{
    char text[64];
    snprintf(text, sizeof text, "self.attention.0.%s", name);
    assert_non_null(mtl_model_tensor(model, text));
    return mtl_model_tensor(model, text)->value;
}

/* Number j of query, key or value (part) of head h of row n, turned as rotary positions say. */
static double encoder_self_part(mtl_model *model, const mtl_real *x, int part, int h, int j, int step,
                                int rotary)
{
    const mtl_real *w = encoder_self_values(model, "in.weight"), *b = encoder_self_values(model, "in.bias");
    const int even = j / 2 * 2, first = (part * SELF_HEADS + h) * SELF_HEAD;
    const double angle = step * pow(10000, -(double)even / SELF_HEAD);
    double pair[2];
    int k, i;
    for (k = 0; k < 2; k++)
        for (pair[k] = (double)b[first + even + k], i = 0; i < SELF_WIDTH; i++)
            pair[k] += (double)w[(first + even + k) * SELF_WIDTH + i] * (double)x[i];
    if (!rotary || part == 2) return pair[j - even];
    return j == even ? cos(angle) * pair[0] - sin(angle) * pair[1]
        : sin(angle) * pair[0] + cos(angle) * pair[1];
}

/* One step's outputs by the book, and its weights. */
static void encoder_expect_self(mtl_model *model, const encoder_self *seen, int first, int length, int t,
                                int rotary)
{
    const mtl_real *w = encoder_self_values(model, "out.weight"), *b = encoder_self_values(model, "out.bias");
    const mtl_real *gain = encoder_self_values(model, "norm.weight");
    const mtl_real *bias = encoder_self_values(model, "norm.bias");
    const mtl_real *x = seen->rows + first * SELF_WIDTH;
    double o[SELF_HEADS * SELF_HEAD] = {0}, y[SELF_WIDTH], mean = 0, variance = 0;
    int h, u, i, j;
    for (h = 0; h < SELF_HEADS; h++) {
        double e[SELF_STEPS], sum = 0;
        for (u = 0; u < length; u++) {
            for (e[u] = 0, j = 0; j < SELF_HEAD; j++)
                e[u] += encoder_self_part(model, x + t * SELF_WIDTH, 0, h, j, t, rotary)
                    * encoder_self_part(model, x + u * SELF_WIDTH, 1, h, j, u, rotary) / sqrt(SELF_HEAD);
            sum += e[u] = exp(e[u]);
        }
        for (u = 0; u < length; u++) {
            assert_true(fabs((double)seen->weights[first + t][h][u] - e[u] / sum) < 2e-5);
            for (j = 0; j < SELF_HEAD; j++)
                o[h * SELF_HEAD + j] += e[u] / sum * encoder_self_part(model, x + u * SELF_WIDTH, 2, h, j, u,
                                                                       rotary);
        }
        for (; u < 32; u++) assert_true(seen->weights[first + t][h][u] == 0);
    }
    for (i = 0; i < SELF_WIDTH; i++) {
        for (y[i] = (double)x[t * SELF_WIDTH + i] + (double)b[i], j = 0; j < SELF_HEADS * SELF_HEAD; j++)
            y[i] += (double)w[i * SELF_HEADS * SELF_HEAD + j] * o[j];
        mean += y[i] / SELF_WIDTH;
    }
    for (i = 0; i < SELF_WIDTH; i++) variance += (y[i] - mean) * (y[i] - mean) / SELF_WIDTH;
    for (i = 0; i < SELF_WIDTH; i++)
        assert_true(fabs((double)seen->y[(first + t) * SELF_WIDTH + i] - (double)bias[i]
                         - (y[i] - mean) / sqrt(variance + 1e-5) * (double)gain[i]) < 1e-4);
}

/* A column of the kind `attention` against plain sums, with and without positions, on each instruction set; a
   stream refuses it by name. */
static void test_encoder_self_attention(void **state)
{
    static const int lengths[5] = { 1, 17, SELF_STEPS, 2, 9 };
    mtl_input_desc input = {0};
    mtl_column_desc column = {0};
    mtl_task_desc task = {0};
    mtl_model_desc desc = {0};
    int isa, rotary, s, t, first;
    (void)state;
    input.name = "rows", input.features = SELF_WIDTH;
    column.name = "self", column.kind = MTL_COLUMN_ATTENTION;
    column.heads = SELF_HEADS, column.head_width = SELF_HEAD;
    task.name = "class", task.classes = 3;
    desc.inputs = &input, desc.columns = &column, desc.tasks = &task;
    desc.input_count = desc.column_count = desc.task_count = 1;
    for (rotary = 0; rotary < 2; rotary++) {
        mtl_error err = {0};
        test_batch *b;
        mtl_model *model;
        column.rotary = rotary;
        model = mtl_model_create(&desc, &err);
        b = test_batch_create(&desc, lengths, 5, 0, 0, 7);
        TEST_FINE(&err);
        model_enlarge(model, 2);
        mtl_model_prepare(model, &err);
        for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++) {
            static encoder_self seen;
            mtl_predictor_desc how = {0};
            mtl_predictor *predictor;
            mtl_prediction out;
            if (!mtl__isa_supported(isa)) continue;
            how.isa = isa;
            predictor = mtl_predictor_create(model, &how, &err);
            mtl_predictor_observe(predictor, encoder_see_self, &seen);
            mtl_predict(predictor, &b->batch, &out, &err);
            TEST_FINE(&err);
            for (s = first = 0; s < 5; first += lengths[s++])
                for (t = 0; t < lengths[s]; t++)
                    encoder_expect_self(model, &seen, first, lengths[s], t, rotary);
            mtl_predictor_destroy(predictor);
        }
        assert_int_equal(mtl_stream_size(model, NULL, &err), 0);
        test_expect_error(&err, MTL_ERROR_UNSUPPORTED, "self", "of the kind attention, which has no stream");
        mtl_model_destroy(model);
        test_batch_destroy(b);
    }
    {
        mtl_error err = {0};
        column.head_width = 3;
        assert_null(mtl_model_create(&desc, &err));
        test_expect_error(&err, MTL_ERROR_FIELD, "self", "give an even head_width");
    }
}

#define TEST_ENCODER \
    cmocka_unit_test(test_encoder_gradients), cmocka_unit_test(test_encoder_threads), \
    cmocka_unit_test(test_encoder_frozen_column), cmocka_unit_test(test_encoder_self_attention), \
    cmocka_unit_test(test_encoder_mixes), \
    cmocka_unit_test(test_encoder_wrong_mixes), cmocka_unit_test(test_encoder_carried_states), \
    cmocka_unit_test(test_encoder_gradients_with_carried_states), cmocka_unit_test(test_encoder_wrong_state)
