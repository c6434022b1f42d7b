/* >>tasks: heads and losses of every form under a gradient check, tasks without labels, adding and replacing
   tasks. What a loss's value is, test_losses.c says. Included by tests/main.c. */
#include "gradient.h"

/* ---- one task of every form ---------------------------------------------------------------------------- */

static const float tasks_class_weights[5] = { 0.5f, 2, 1, 0.25f, 1.5f };

/* X: what a row sets beside level, hidden layers and pooling, which the cases walk through. A name that
   begins with "share" gets distributions as targets (test_batch_create). */
static const struct tasks_form {
    const char *name;
    int kind, outputs, loss, weighted;
    float smoothing, delta;
} tasks_forms[] = {
    { "plain", MTL_TASK_CLASS, 5, 0, 0, 0, 0 },
    { "two", MTL_TASK_CLASS, 2, MTL_LOSS_CROSS_ENTROPY, 0, 0, 0 },
    { "many", MTL_TASK_CLASS, 33, 0, 0, 0, 0 },
    { "weighted", MTL_TASK_CLASS, 5, 0, 1, 0, 0 },
    { "smoothed", MTL_TASK_CLASS, 5, 0, 0, 0.2f, 0 },
    { "smoothed_weighted", MTL_TASK_CLASS, 5, 0, 1, 0.1f, 0 },
    { "share", MTL_TASK_CLASS, 5, 0, 0, 0, 0 },
    { "share_weighted", MTL_TASK_CLASS, 5, 0, 1, 0.1f, 0 },
    { "mse", MTL_TASK_REAL, 1, MTL_LOSS_MSE, 0, 0, 0 },
    { "mse_vector", MTL_TASK_REAL, 3, 0, 0, 0, 0 },
    { "mae", MTL_TASK_REAL, 1, MTL_LOSS_MAE, 0, 0, 0 },
    { "mae_vector", MTL_TASK_REAL, 17, MTL_LOSS_MAE, 0, 0, 0 },
    { "huber", MTL_TASK_REAL, 1, MTL_LOSS_HUBER, 0, 0, 0 },
    { "huber_vector", MTL_TASK_REAL, 4, MTL_LOSS_HUBER, 0, 0, 0.3f },
    { "multi_one", MTL_TASK_MULTI, 1, 0, 0, 0, 0 },
    { "multi", MTL_TASK_MULTI, 17, MTL_LOSS_BCE, 0, 0, 0 },
    { "multi_weighted", MTL_TASK_MULTI, 5, 0, 1, 0, 0 },
    { "ordinal", MTL_TASK_ORDINAL, 5, 0, 0, 0, 0 },
    { "ordinal_two", MTL_TASK_ORDINAL, 2, MTL_LOSS_ORDINAL, 0, 0, 0 },
    { "ordinal_weighted", MTL_TASK_ORDINAL, 5, 0, 1, 0, 0 },
    { "share_ordinal", MTL_TASK_ORDINAL, 5, 0, 1, 0, 0 },
    { "count", MTL_TASK_POISSON, 1, 0, 0, 0, 0 },
    { "count_vector", MTL_TASK_POISSON, 3, MTL_LOSS_POISSON, 0, 0, 0 } };
enum { TASKS_FORMS = sizeof tasks_forms / sizeof tasks_forms[0] };

typedef struct tasks_model {
    mtl_model_desc desc;
    mtl_input_desc input;
    mtl_task_desc tasks[4];
    mtl_model *model;
    test_batch *batch;
    int bent;
    mtl_error err;
} tasks_model;

/* A small encoder over ids; the tasks are the caller's. */
static void tasks_open(tasks_model *m)
{
    memset(m, 0, sizeof *m);
    m->input.name = "ids";
    m->input.vocabulary = 11;
    m->input.width = 4;
    m->desc.inputs = &m->input;
    m->desc.input_count = 1;
    m->desc.encoder.cell = MTL_CELL_GRU;
    m->desc.encoder.hidden = 6;
    m->desc.encoder.bidirectional = 1;
    m->desc.tasks = m->tasks;
}

static void tasks_create(tasks_model *m, size_t count, int sequences, double missing, unsigned long long seed)
{
    m->desc.task_count = count;
    m->desc.seed = seed + 1;
    m->model = mtl_model_create(&m->desc, &m->err);
    TEST_FINE(&m->err);
    m->batch = test_batch_create(&m->desc, NULL, sequences, 6, missing, seed);
}

static void tasks_close(tasks_model *m)
{
    test_batch_destroy(m->batch);
    mtl_model_destroy(m->model);
}

/* The task of form `number`, with hidden layers, pooling and dropout by turns. */
static void tasks_fill(tasks_model *m, mtl_task_desc *t, int number)
{
    const struct tasks_form *f = &tasks_forms[number % TASKS_FORMS];
    int turn = number / TASKS_FORMS;
    t->name = f->name;
    t->kind = f->kind;
    *(f->kind != MTL_TASK_REAL && f->kind != MTL_TASK_POISSON ? &t->classes : &t->width) = f->outputs;
    t->loss = f->loss;
    t->label_smoothing = f->smoothing;
    t->huber_delta = f->delta;
    t->class_weights = f->weighted ? tasks_class_weights : NULL;
    t->level = turn % 2 ? MTL_LEVEL_STEP : MTL_LEVEL_SEQUENCE;
    t->pool = MTL_POOL_LAST + turn % 6;
    t->pool_beside = turn % 4 == 3 ? MTL_POOL_MEAN : MTL_POOL_DEFAULT;
    t->hidden[0] = turn % 4 > 1 ? 17 : 0;
    t->hidden[1] = turn % 4 > 2 ? 3 : 0;
    t->activation = MTL_ACTIVATION_NONE + turn % 4;
    t->dropout = turn % 5 == 4 ? 0.3f : 0;
    t->weight = 1.5f;
    m->bent |= t->pool == MTL_POOL_MAX || f->loss == MTL_LOSS_MAE || f->loss == MTL_LOSS_HUBER ||
        t->activation == MTL_ACTIVATION_RELU;
}

static void test_tasks_gradients(void **state)
{
    tasks_model m;
    int i;
    (void)state;
    for (i = 0; i < test_cases(12) * TASKS_FORMS; i++) {
        char what[64];
        tasks_open(&m);
        tasks_fill(&m, &m.tasks[0], i);
        tasks_create(&m, 1, i % 3 == 0 ? 19 : 4, i % 2 * 0.5, (unsigned long long)i);
        snprintf(what, sizeof what, "task %s, case %d", m.tasks[0].name, i);
        model_check(m.model, NULL, &m.batch->batch, 1, m.bent, what);
        tasks_close(&m);
    }
}

/* Targets that are standardised first. */
static void test_tasks_gradients_of_scaled_targets(void **state)
{
    static const mtl_real mean[3] = { 1, -2, 5 }, scale[3] = { (mtl_real)0.5, 3, 0 };
    static const int losses[] = { MTL_LOSS_MSE, MTL_LOSS_MAE, MTL_LOSS_HUBER };
    tasks_model m;
    int i;
    (void)state;
    for (i = 0; i < 3; i++) {
        tasks_open(&m);
        m.tasks[0].name = "scaled";
        m.tasks[0].kind = MTL_TASK_REAL;
        m.tasks[0].width = 3;
        m.tasks[0].loss = losses[i];
        tasks_create(&m, 1, 8, 0.2, 3);
        mtl_model_set_target_scale(m.model, 0, mean, scale, &m.err);
        TEST_FINE(&m.err);
        model_check(m.model, NULL, &m.batch->batch, 1, 1, "scaled targets");
        tasks_close(&m);
    }
}

/* ---- tasks that do not learn --------------------------------------------------------------------------- */

/* Three tasks: the second one is given no labels, or weight 0, or is scored only: its head has no gradient,
   and its step count, its moments and its weights stay, while the others move. */
static void tasks_three(tasks_model *m, int evaluate_only)
{
    tasks_open(m);
    tasks_fill(m, &m->tasks[0], 0);
    tasks_fill(m, &m->tasks[1], 2 + 2 * TASKS_FORMS);
    tasks_fill(m, &m->tasks[2], 9);
    m->tasks[1].evaluate_only = evaluate_only;
    tasks_create(m, 3, 7, 0.2, 5);
}

static int tasks_is_of(const mtl_tensor *t, const char *task)
{
    return strncmp(t->name, task, strlen(task)) == 0;
}

static void tasks_expect_untouched(tasks_model *m, mtl_trainer *trainer, const char *task,
                                   const mtl_real *before)
{
    const mtl_parameters *set = mtl_model_parameters(m->model);
    size_t i;
    for (i = 0; i < set->count; i++) {
        const mtl_tensor *t = set->tensors[i];
        int untouched = tasks_is_of(t, task);
        assert_int_equal(mtl_gradients_get(mtl_trainer_gradients(trainer), t)->state == MTL_GRAD_NONE,
                         untouched);
        assert_int_equal(trainer->optimizer.steps[i], untouched ? 1 : 2);
        assert_int_equal(memcmp(t->value, before + t->offset, t->count * sizeof *before) == 0, untouched);
    }
}

static void test_tasks_without_labels(void **state)
{
    mtl_target targets[3];
    mtl_batch batch;
    mtl_step step;
    int *missing, way;
    (void)state;
    for (way = 0; way < 3; way++) {
        tasks_model m;
        mtl_trainer *trainer;
        mtl_real *before;
        size_t i;
        tasks_three(&m, 0);
        trainer = mtl_trainer_create(m.model, NULL, &m.err);
        mtl_train_step(trainer, &m.batch->batch, 1, &step, &m.err);   /* all three have been trained before */
        TEST_FINE(&m.err);
        before = test_weights_copy(m.model);
        missing = (int *)malloc(m.batch->rows * sizeof *missing);
        assert_non_null(missing);
        for (i = 0; i < m.batch->rows; i++) missing[i] = i % 2 ? MTL_MISSING : MTL_UNKNOWN_LABEL;
        memcpy(targets, m.batch->targets, sizeof targets);
        batch = m.batch->batch;
        batch.targets = targets;
        if (way == 0) targets[1].labels = missing;                             /* labels, but none is known */
        if (way == 1) targets[1].labels = NULL;                                 /* no labels at all */
        if (way == 2) mtl_trainer_set_weight(trainer, 1, 0, &m.err);            /* turned off */
        mtl_train_step(trainer, &batch, 1, &step, &m.err);
        TEST_FINE(&m.err);
        assert_true(way == 2 || (step.task_items[1] == 0 && step.task_loss[1] == 0));
        tasks_expect_untouched(&m, trainer, "many", before);
        free(missing);
        free(before);
        mtl_trainer_destroy(trainer);
        tasks_close(&m);
    }
}

static void test_tasks_evaluate_only(void **state)
{
    tasks_model m;
    mtl_trainer *trainer;
    size_t i;
    (void)state;
    tasks_three(&m, 1);
    model_check(m.model, NULL, &m.batch->batch, 1, 1, "a task that is scored only");
    trainer = mtl_trainer_create(m.model, NULL, &m.err);
    mtl_train_step(trainer, &m.batch->batch, 1, NULL, &m.err);
    TEST_FINE(&m.err);
    for (i = 0; i < mtl_model_parameters(m.model)->count; i++) {
        const mtl_tensor *t = mtl_model_parameters(m.model)->tensors[i];
        assert_int_equal(mtl_gradients_get(mtl_trainer_gradients(trainer), t)->state == MTL_GRAD_NONE,
                         tasks_is_of(t, "many"));
    }
    mtl_trainer_destroy(trainer);
    tasks_close(&m);
}

/* A batch without any label: nothing moves, and it is no error. */
static void test_tasks_no_labels_at_all(void **state)
{
    tasks_model m;
    mtl_trainer *trainer;
    mtl_batch batch;
    mtl_step step;
    mtl_real *before;
    (void)state;
    tasks_three(&m, 0);
    trainer = mtl_trainer_create(m.model, NULL, &m.err);
    before = test_weights_copy(m.model);
    batch = m.batch->batch;
    batch.targets = NULL;
    mtl_train_step(trainer, &batch, 1, &step, &m.err);
    TEST_FINE(&m.err);
    assert_true(step.loss == 0 && step.grad_norm == 0);
    assert_true(test_weights_equal(m.model, before));
    free(before);
    mtl_trainer_destroy(trainer);
    tasks_close(&m);
}

/* ---- adding, removing, replacing ----------------------------------------------------------------------- */

static void tasks_train(tasks_model *m)
{
    mtl_trainer *trainer = mtl_trainer_create(m->model, NULL, &m->err);
    int i;
    for (i = 0; i < 5; i++) mtl_train_step(trainer, &m->batch->batch, 1, NULL, &m->err);
    TEST_FINE(&m->err);
    mtl_trainer_destroy(trainer);
}

/* A model with one task kept, one gone and one new: what both have is copied, and the kept task predicts as
   before. */
static void test_tasks_replaced(void **state)
{
    tasks_model old, new;
    mtl_prediction before[3], after[2];
    mtl_predictor *predict_old, *predict_new;
    mtl_real *fresh;
    size_t copied = 0, i, kept = 0;
    (void)state;
    tasks_three(&old, 0);
    tasks_train(&old);
    tasks_open(&new);
    tasks_fill(&new, &new.tasks[0], 9);                                         /* was the third */
    tasks_fill(&new, &new.tasks[1], 0);
    new.tasks[1].classes = 4;                                            /* another shape under an old name */
    new.tasks[1].class_weights = NULL;
    tasks_create(&new, 2, 7, 0, 6);
    fresh = test_weights_copy(new.model);
    mtl_model_transfer(new.model, old.model, &copied, &new.err);
    TEST_FINE(&new.err);
    for (i = 0; i < mtl_model_parameters(new.model)->count; i++) {
        const mtl_tensor *t = mtl_model_parameters(new.model)->tensors[i];
        const mtl_tensor *from = mtl_model_tensor(old.model, t->name);
        int same = from && from->count == t->count &&
            memcmp(from->value, t->value, t->count * sizeof *t->value) == 0;
        assert_int_equal(same, !tasks_is_of(t, "plain"));
        assert_int_equal(memcmp(fresh + t->offset, t->value, t->count * sizeof *t->value) == 0,
                         tasks_is_of(t, "plain"));
        kept += (size_t)same;
    }
    assert_int_equal(copied, kept);
    predict_old = mtl_predictor_create(old.model, NULL, &old.err);
    predict_new = mtl_predictor_create(new.model, NULL, &new.err);
    mtl_predict(predict_old, &old.batch->batch, before, &old.err);
    mtl_predict(predict_new, &old.batch->batch, after, &new.err);
    TEST_FINE(&old.err);
    TEST_FINE(&new.err);
    assert_memory_equal(before[2].values, after[0].values,
                        before[2].items * before[2].width * sizeof(mtl_real));
    mtl_predictor_destroy(predict_old);
    mtl_predictor_destroy(predict_new);
    free(fresh);
    tasks_close(&old);
    tasks_close(&new);
}

/* ---- registry ------------------------------------------------------------------------------------------ */

static void test_tasks_by_name(void **state)
{
    static const char *const labels[] = { "O", "B-x", "I-x", "B-y", "I-y" };
    tasks_model m;
    (void)state;
    tasks_open(&m);
    tasks_fill(&m, &m.tasks[0], 0);
    m.tasks[0].labels = labels;
    tasks_fill(&m, &m.tasks[1], 3 * TASKS_FORMS + 9);
    tasks_create(&m, 2, 3, 0, 1);
    assert_int_equal(mtl_model_task(m.model, "plain"), 0);
    assert_int_equal(mtl_model_task(m.model, "mse_vector"), 1);
    assert_int_equal(mtl_model_task(m.model, "mse"), -1);
    assert_string_equal(mtl_model_label(m.model, 0, 3), "B-y");
    assert_null(mtl_model_label(m.model, 0, 5));
    assert_null(mtl_model_label(m.model, 0, -1));
    assert_null(mtl_model_label(m.model, 1, 0));
    assert_null(mtl_model_label(m.model, 2, 0));
    assert_int_equal(mtl_model_find_label(m.model, 0, "I-y"), 4);
    assert_int_equal(mtl_model_find_label(m.model, 0, "I-z"), -1);
    assert_int_equal(mtl_model_find_label(m.model, 1, "O"), -1);
    assert_int_equal(mtl_model_find_label(m.model, 7, "O"), -1);
    assert_non_null(mtl_model_tensor(m.model, "mse_vector.hidden.0.weight"));
    assert_non_null(mtl_model_tensor(m.model, "mse_vector.hidden.1.bias"));
    assert_int_equal(mtl_model_tensor(m.model, "mse_vector.output.weight")->shape[1], 3);
    tasks_close(&m);
}

static void test_tasks_weights_are_checked(void **state)
{
    tasks_model m;
    mtl_trainer *trainer;
    float nan_weight;
    (void)state;
    tasks_three(&m, 0);
    trainer = mtl_trainer_create(m.model, NULL, &m.err);
    memset(&nan_weight, 0xff, sizeof nan_weight);
    assert_int_equal(mtl_trainer_set_weight(trainer, 3, 1, &m.err), MTL_ERROR_RANGE);
    test_expect_error(&m.err, MTL_ERROR_RANGE, NULL, "3");
    assert_int_equal(mtl_trainer_set_weight(trainer, -1, 1, &m.err), MTL_ERROR_RANGE);
    mtl_error_clear(&m.err);
    assert_int_equal(mtl_trainer_set_weight(trainer, 0, -1, &m.err), MTL_ERROR_NUMBER);
    test_expect_error(&m.err, MTL_ERROR_NUMBER, "plain", "plain");
    assert_int_equal(mtl_trainer_set_weight(trainer, 0, nan_weight, &m.err), MTL_ERROR_NUMBER);
    mtl_error_clear(&m.err);
    mtl_trainer_destroy(trainer);
    tasks_close(&m);
}

/* ---- pools with attention ------------------------------------------------------------------------------ */

/* What an observer has seen: rows of the encoder, and of one task the weights and what is pooled. */
typedef struct tasks_seen {
    const char *task;
    const mtl_run *run;
    mtl_activation x, a, pooled;
    mtl_real values[3][6000];
} tasks_seen;

static void tasks_keep(mtl_activation *to, const mtl_activation *a, mtl_real *values)
{
    assert_true(a->rows * a->stride <= 6000);
    memcpy(values, a->value, a->rows * a->stride * sizeof *values);
    *to = *a;
    to->value = values;
}

static void tasks_see(void *user, const mtl_run *run, const mtl_activation *a)
{
    tasks_seen *seen = (tasks_seen *)user;
    char attention[40], pooled[40];
    snprintf(attention, sizeof attention, "%s.attention", seen->task);
    snprintf(pooled, sizeof pooled, "%s.pooled", seen->task);
    seen->run = run;
    if (strcmp(a->name, "encoder") == 0) tasks_keep(&seen->x, a, seen->values[0]);
    if (strcmp(a->name, attention) == 0) tasks_keep(&seen->a, a, seen->values[1]);
    if (strcmp(a->name, pooled) == 0) tasks_keep(&seen->pooled, a, seen->values[2]);
}

/* The score of a row by the book. */
static double tasks_score(mtl_model *model, const mtl_task_desc *d, const mtl_real *x, size_t width)
{
    const char *owner = d->pool_of ? d->pool_of : d->name;
    char name[64];
    const mtl_tensor *v, *w, *b;
    double s = 0, u;
    size_t i, j;
    snprintf(name, sizeof name, "%s.attention.score.weight", owner);
    v = mtl_model_tensor(model, name);
    snprintf(name, sizeof name, "%s.attention.keys.weight", owner);
    w = mtl_model_tensor(model, name);
    snprintf(name, sizeof name, "%s.attention.keys.bias", owner);
    b = mtl_model_tensor(model, name);
    assert_int_equal(v->shape[0], 1);
    for (i = 0; i < v->shape[1]; i++) {
        for (u = w ? (double)b->value[i] : (double)x[i], j = 0; w && j < width; j++)
            u += (double)w->value[i * width + j] * (double)x[j];
        s += (double)v->value[i] * (w ? tanh(u) : u);
    }
    return d->pool == MTL_POOL_DOT ? s / sqrt((double)width) : s;
}

/* Sequence s of what has been seen, against softmax and sum by the book. */
static void tasks_expect_attention(const tasks_model *m, const mtl_task_desc *d, const tasks_seen *seen,
                                   size_t s)
{
    const size_t width = seen->x.width, steps = (size_t)m->batch->lengths[s];
    const mtl_real *y = seen->pooled.value
        + mtl_run_row(seen->run, &seen->pooled, s, 0) * seen->pooled.stride;
    double e[8], sum = 0, want;
    size_t t, j;
    for (t = 0; t < steps; t++) {
        const mtl_real *x = seen->x.value + mtl_run_row(seen->run, &seen->x, s, t) * seen->x.stride;
        sum += e[t] = exp(tasks_score(m->model, d, x, width));
    }
    for (t = 0; t < steps; t++) {
        const size_t row = mtl_run_row(seen->run, &seen->a, s, t);
        assert_true(fabs((double)seen->a.value[row * seen->a.stride] - e[t] / sum) < 1e-5);
    }
    for (j = 0; j < width; j++) {
        for (want = 0, t = 0; t < steps; t++)
            want += e[t] / sum * (double)seen->x.value[mtl_run_row(seen->run, &seen->x, s, t)
                                                       * seen->x.stride + j];
        assert_true(fabs((double)y[j] - want) < 1e-5);
    }
}

/* Two tasks, of which the second uses the scores of the first one, that has a pool beside. */
static void tasks_open_attention(tasks_model *m, int pool)
{
    int k;
    tasks_open(m);
    for (k = 0; k < 3; k++) {
        m->tasks[k].name = k == 0 ? "first" : k == 1 ? "second" : "third";
        m->tasks[k].classes = 3;
        m->tasks[k].pool = pool;
    }
    m->tasks[0].pool_beside = MTL_POOL_MAX;
    m->tasks[0].pool_width = 5;
    m->tasks[1].pool_of = "first";
    m->desc.task_count = 3;
}

/* The weights and the sums of each kind on each instruction set; gradients of shared scores; a training step
   with surgery, which counts who may write them. */
static void test_tasks_attention(void **state)
{
    tasks_model m;
    int pool, isa, k;
    size_t s;
    (void)state;
    for (pool = MTL_POOL_ATTENTION; pool <= MTL_POOL_DOT; pool++) {
        mtl_trainer_desc how = {0};
        mtl_trainer *trainer;
        mtl_step step;
        tasks_open_attention(&m, pool);
        tasks_create(&m, 3, 19, 0.2, (unsigned long long)pool);
        model_enlarge(m.model, 2);
        mtl_model_prepare(m.model, &m.err);
        assert_null(mtl_model_tensor(m.model, "second.attention.score.weight"));
        assert_int_equal(mtl_model_tensor(m.model, "first.output.weight")->shape[1], 24);
        for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++)
            for (k = 0; k < 3 && mtl__isa_supported(isa); k++) {
                mtl_predictor_desc by = {0};
                mtl_prediction out[3];
                mtl_predictor *predictor;
                static tasks_seen seen;
                by.isa = isa;
                predictor = mtl_predictor_create(m.model, &by, &m.err);
                seen.task = m.tasks[k].name;
                mtl_predictor_observe(predictor, tasks_see, &seen);
                mtl_predict(predictor, &m.batch->batch, out, &m.err);
                TEST_FINE(&m.err);
                for (s = 0; s < m.batch->batch.sequences; s++)
                    tasks_expect_attention(&m, &m.tasks[k], &seen, s);
                mtl_predictor_destroy(predictor);
            }
        model_check(m.model, NULL, &m.batch->batch, 1, 1, "scores of two tasks");
        how.surgery = MTL_SURGERY_PCGRAD;
        trainer = mtl_trainer_create(m.model, &how, &m.err);
        mtl_train_step(trainer, &m.batch->batch, 1, &step, &m.err);
        TEST_FINE(&m.err);
        assert_int_equal(mtl__trainer_writers(trainer, mtl_model_tensor(m.model,
                                                                        "first.attention.score.weight")), 2);
        assert_int_equal(mtl__trainer_writers(trainer, mtl_model_tensor(m.model,
                                                                        "third.attention.score.weight")), 1);
        mtl_trainer_destroy(trainer);
        tasks_close(&m);
    }
}

static void test_tasks_wrong_attention(void **state)
{
    tasks_model m;
    (void)state;
    tasks_open_attention(&m, MTL_POOL_DOT);
    m.tasks[0].pool_beside = MTL_POOL_ATTENTION;
    assert_null(mtl_model_create(&m.desc, &m.err));
    test_expect_error(&m.err, MTL_ERROR_FIELD, NULL, "one of the two pools may have scores");
    tasks_open_attention(&m, MTL_POOL_DOT);
    m.tasks[2].pool = MTL_POOL_MAX, m.tasks[2].pool_of = "first";
    assert_null(mtl_model_create(&m.desc, &m.err));
    test_expect_error(&m.err, MTL_ERROR_FIELD, NULL, "only the pools attention, additive and dot");
    tasks_open_attention(&m, MTL_POOL_DOT);
    m.tasks[0].pool_of = "third";
    assert_null(mtl_model_create(&m.desc, &m.err));
    test_expect_error(&m.err, MTL_ERROR_FIELD, "first", "is no task that stands before it");
    tasks_open_attention(&m, MTL_POOL_DOT);
    m.tasks[1].pool = MTL_POOL_ADDITIVE;
    assert_null(mtl_model_create(&m.desc, &m.err));
    test_expect_error(&m.err, MTL_ERROR_FIELD, "second", "both need equal pools over rows of equal width");
}

/* With dropout_per_sequence what a head sees of equal rows is the same at all steps of a sequence, and not
   the same in another sequence; without it, steps differ. Labelled rows alone, and votes. */
static void test_tasks_dropout_per_sequence(void **state)
{
    enum { ROWS = 12, SEQUENCES = 3 };
    int lengths[SEQUENCES] = { 5, 1, 6 }, labels[ROWS], i, mode;
    mtl_real rows[ROWS * 8];
    (void)state;
    for (i = 0; i < ROWS * 8; i++) rows[i] = 1;
    for (i = 0; i < ROWS; i++) labels[i] = i % 4 == 2 ? MTL_MISSING : i % 3;
    for (mode = 0; mode < 4; mode++) {                      /* 2, 3: steps that vote for their sequence */
        mtl_input_desc input = {0};
        mtl_task_desc task = {0};
        mtl_model_desc desc = {0};
        mtl_input given = {0};
        mtl_target target = {0};
        mtl_batch batch = {0};
        mtl_step step;
        mtl_error err = {0};
        mtl_model *model;
        mtl_trainer *trainer;
        const mtl_activation *a;
        size_t n, equal = 0, pairs = 0, across = 0;
        input.name = "x", input.features = 8;
        task.name = "t", task.tap.from = "x", task.classes = 3, task.hidden[0] = 7, task.dropout = 0.5f;
        task.activation = MTL_ACTIVATION_TANH;
        task.level = mode < 2 ? MTL_LEVEL_STEP : MTL_LEVEL_SEQUENCE;
        task.per_step = mode >= 2;
        task.dropout_per_sequence = mode % 2;
        desc.inputs = &input, desc.input_count = 1, desc.tasks = &task, desc.task_count = 1;
        desc.encoder.hidden = 2;
        given.rows = rows, target.labels = labels;
        batch.sequences = SEQUENCES, batch.lengths = lengths, batch.inputs = &given, batch.targets = &target;
        model = mtl_model_create(&desc, &err);
        trainer = mtl_trainer_create(model, NULL, &err);
        mtl_train_step(trainer, &batch, 1, &step, &err);
        TEST_FINE(&err);
        for (a = mtl_trainer_run(trainer)->tape->activations; a; a = a->next)
            if (strcmp(a->name, "t.logits") == 0) break;
        assert_non_null(a);
        if (mode >= 2) assert_int_equal(a->rows, 6);        /* sequence 2 has no label */
        else assert_int_equal(a->rows, 9);
        for (n = 1; n < a->rows; n++) {
            const mtl_real *x = a->value, *y = a->value + n * a->stride;
            pairs++;
            equal += memcmp(x, y, 3 * sizeof *x) == 0;
        }
        for (n = 0; n < pairs; n++) across += memcmp(a->value + n * a->stride, a->value + (n + 1) * a->stride,
                                                     3 * sizeof *rows) != 0;
        /* packed: row 0 is of the longest sequence, which has one row in each step */
        if (mode % 2) assert_true(equal >= 3 && across > 0 && equal < pairs);
        else assert_true(equal <= 1);
        mtl_trainer_destroy(trainer);
        mtl_model_destroy(model);
    }
}

/* ---- batch normalisation ------------------------------------------------------------------------------- */

enum { TASKS_BATCH_ROWS = 40, TASKS_BATCH_SEQUENCES = 9, TASKS_BATCH_FEATURES = 5 };
typedef struct tasks_batch_setup {
    mtl_input_desc input;
    mtl_task_desc task;
    mtl_model_desc desc;
    mtl_trainer_desc how;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_error err;
    mtl_step step;
    mtl_input given;
    mtl_target target;
    mtl_batch batch;
    int lengths[TASKS_BATCH_SEQUENCES], labels[TASKS_BATCH_ROWS];
    mtl_real rows[TASKS_BATCH_ROWS * TASKS_BATCH_FEATURES];
} tasks_batch_setup;

static void tasks_batch_open(tasks_batch_setup *s, int threads)
{
    test_random r = test_random_from(5);
    int i, left = TASKS_BATCH_ROWS;
    memset(s, 0, sizeof *s);
    for (i = 0; i < TASKS_BATCH_SEQUENCES; i++) {
        s->lengths[i] = i + 1 < TASKS_BATCH_SEQUENCES ? 1 + i % 7 : left;
        left -= s->lengths[i];
    }
    for (i = 0; i < TASKS_BATCH_ROWS; i++) s->labels[i] = i % 5 == 4 ? MTL_MISSING : i % 3;
    for (i = 0; i < TASKS_BATCH_ROWS * TASKS_BATCH_FEATURES; i++)
        s->rows[i] = (mtl_real)test_random_real(&r, -1, 4);
    s->input.name = "x", s->input.features = TASKS_BATCH_FEATURES, s->input.batch_norm = 1;
    s->task.name = "t", s->task.classes = 3, s->task.level = MTL_LEVEL_STEP, s->task.batch_norm = 1;
    s->task.hidden[0] = 20, s->task.hidden[1] = 6, s->task.activation = MTL_ACTIVATION_SILU;
    s->desc.inputs = &s->input, s->desc.input_count = 1, s->desc.tasks = &s->task, s->desc.task_count = 1;
    s->desc.encoder.hidden = 7, s->desc.encoder.cell = MTL_CELL_GRU;
    s->given.rows = s->rows, s->target.labels = s->labels;
    s->batch.sequences = TASKS_BATCH_SEQUENCES, s->batch.lengths = s->lengths;
    s->batch.inputs = &s->given, s->batch.targets = &s->target;
    s->how.threads = threads, s->how.lr = 0.01f;
    s->model = mtl_model_create(&s->desc, &s->err);
    s->trainer = mtl_trainer_create(s->model, &s->how, &s->err);
    TEST_FINE(&s->err);
}

static void tasks_batch_close(tasks_batch_setup *s)
{
    mtl_trainer_destroy(s->trainer);
    mtl_model_destroy(s->model);
}

static const mtl_real *tasks_batch_value(const tasks_batch_setup *s, const char *name)
{
    return mtl_model_tensor(s->model, name)->value;
}

static void tasks_batch_near(const tasks_batch_setup *s, const char *name, int j, double want)
{
    if (!(fabs((double)tasks_batch_value(s, name)[j] - want) < 1e-5))
        fail_msg("%s[%d] is %g, not %g", name, j, (double)tasks_batch_value(s, name)[j], want);
}

/* Running averages go where PyTorch's go, in updates that are made alone; files and further training keep
   them; any number of threads makes the same bits. */
static void test_tasks_batch_norm(void **state)
{
    tasks_batch_setup s, other;
    double mean[TASKS_BATCH_FEATURES] = { 0 }, variance[TASKS_BATCH_FEATURES], total, squares;
    test_file file = {0};
    const mtl_writer writer = test_file_writer(&file);
    mtl_safetensors read;
    mtl_real saved[TASKS_BATCH_FEATURES];
    int i, j, n;
    (void)state;
    tasks_batch_open(&s, 1);
    for (j = 0; j < TASKS_BATCH_FEATURES; j++) variance[j] = 1;
    for (i = 0; i < 4; i++) {
        mtl_train_gradients(s.trainer, &s.batch, 1, &s.step, &s.err);       /* moves nothing */
        mtl_train_step(s.trainer, &s.batch, 1, &s.step, &s.err);
        TEST_FINE(&s.err);
        for (j = 0; j < TASKS_BATCH_FEATURES; j++) {
            for (n = 0, total = 0; n < TASKS_BATCH_ROWS; n++)
                total += (double)s.rows[n * TASKS_BATCH_FEATURES + j];
            for (n = 0, squares = 0; n < TASKS_BATCH_ROWS; n++)
                squares += pow((double)s.rows[n * TASKS_BATCH_FEATURES + j] - total / TASKS_BATCH_ROWS, 2);
            mean[j] += 0.1 * (total / TASKS_BATCH_ROWS - mean[j]);
            variance[j] += 0.1 * (squares / (TASKS_BATCH_ROWS - 1) - variance[j]);
            tasks_batch_near(&s, "buffers.x.norm.running_mean", j, mean[j]);
            tasks_batch_near(&s, "buffers.x.norm.running_var", j, variance[j]);
        }
    }
    tasks_batch_open(&other, 3);
    for (i = 0; i < 4; i++) mtl_train_step(other.trainer, &other.batch, 1, &other.step, &other.err);
    TEST_FINE(&other.err);
    assert_memory_equal(other.model->set.block, s.model->set.block, s.model->set.total * sizeof *s.rows);
    mtl_model_write(s.model, s.trainer, &writer, &s.err);
    TEST_FINE(&s.err);
    tasks_batch_close(&other);
    other.model = mtl_model_load_memory(file.bytes, file.used, &other.err);
    other.trainer = mtl_trainer_create(other.model, &other.how, &other.err);
    mtl_safetensors_open_memory(&read, file.bytes, file.used, &other.err);
    mtl_trainer_resume(other.trainer, &read, &other.err);
    mtl_train_step(other.trainer, &s.batch, 1, &other.step, &other.err);
    TEST_FINE(&other.err);
    mtl_train_step(s.trainer, &s.batch, 1, &s.step, &s.err);
    assert_memory_equal(other.model->set.block, s.model->set.block, s.model->set.total * sizeof *s.rows);
    mtl_safetensors_close(&read);
    tasks_batch_close(&other);
    free(file.bytes);
    memcpy(saved, tasks_batch_value(&s, "buffers.x.norm.running_mean"), sizeof saved);
    s.rows[7] = mtl__nan();                                                 /* a step that fails */
    assert_true(mtl_train_step(s.trainer, &s.batch, 1, &s.step, &s.err) != MTL_OK);
    mtl_error_clear(&s.err);
    s.rows[7] = 1;
    assert_memory_equal(saved, tasks_batch_value(&s, "buffers.x.norm.running_mean"), sizeof saved);
    mtl_trainer_destroy(s.trainer);
    mtl_model_freeze(s.model, "x.", 1);                                     /* frozen: they stay */
    s.trainer = mtl_trainer_create(s.model, &s.how, &s.err);
    mtl_train_step(s.trainer, &s.batch, 1, &s.step, &s.err);
    TEST_FINE(&s.err);
    assert_memory_equal(saved, tasks_batch_value(&s, "buffers.x.norm.running_mean"), sizeof saved);
    mtl_model_freeze(s.model, "", 0);                                       /* but never learn */
    assert_true(mtl_model_tensor(s.model, "buffers.t.norm.1.running_var")->frozen);
    tasks_batch_close(&s);
}

/* Answers go by the running averages: the same for a sequence alone, in a batch, in a stream. */
static void test_tasks_batch_norm_answers(void **state)
{
    tasks_batch_setup s;
    mtl_predictor *predictor;
    mtl_prediction out;
    const mtl_prediction *told;
    mtl_batch one;
    mtl_input row = {0};
    mtl_stream *stream;
    mtl_real whole[TASKS_BATCH_ROWS * 3];
    void *memory, *start;
    size_t bytes;
    int i, t, n = 0;
    (void)state;
    tasks_batch_open(&s, 1);
    for (i = 0; i < 20; i++) mtl_train_step(s.trainer, &s.batch, 1, &s.step, &s.err);
    predictor = mtl_predictor_create(s.model, NULL, &s.err);
    mtl_predict(predictor, &s.batch, &out, &s.err);
    TEST_FINE(&s.err);
    memcpy(whole, out.probabilities, sizeof whole);
    bytes = mtl_stream_size(s.model, NULL, &s.err);
    memory = test_aligned(bytes, &start);
    stream = mtl_stream_init(memory, bytes, s.model, NULL, &s.err);
    one = s.batch;
    one.sequences = 1;
    for (i = 0; i < TASKS_BATCH_SEQUENCES; i++) {
        mtl_input alone = {0};
        alone.rows = s.rows + n * TASKS_BATCH_FEATURES;
        one.lengths = s.lengths + i;
        one.inputs = &alone;
        mtl_predict(predictor, &one, &out, &s.err);
        mtl_stream_reset(stream, 0, &s.err);
        for (t = 0; t < s.lengths[i]; t++, n++) {
            int c;
            row.rows = s.rows + n * TASKS_BATCH_FEATURES;
            told = mtl_stream_step(stream, 0, &row, &s.err);
            TEST_FINE(&s.err);
            for (c = 0; c < 3; c++) {
                assert_true(fabs((double)(out.probabilities[t * 3 + c] - whole[n * 3 + c])) < 1e-6);
                assert_true(fabs((double)(told->probabilities[c] - whole[n * 3 + c])) < 1e-5);
            }
        }
    }
    free(start);
    mtl_predictor_destroy(predictor);
    tasks_batch_close(&s);
}

static void test_tasks_wrong_batch_norm(void **state)
{
    tasks_batch_setup s;
    (void)state;
    tasks_batch_open(&s, 1);
    s.task.hidden[0] = 0;
    assert_null(mtl_model_create(&s.desc, &s.err));
    test_expect_error(&s.err, MTL_ERROR_FIELD, "tasks[0]",
                      "batch_norm (task \"t\"): is of hidden dense layers");
    s.task.batch_norm = 0;
    s.input.features = 0, s.input.vocabulary = 4;
    assert_null(mtl_model_create(&s.desc, &s.err));
    test_expect_error(&s.err, MTL_ERROR_FIELD, "inputs[0]", "batch_norm (\"x\"): is of features");
    tasks_batch_close(&s);
}

#define TEST_TASKS \
    cmocka_unit_test(test_tasks_batch_norm), cmocka_unit_test(test_tasks_batch_norm_answers), \
    cmocka_unit_test(test_tasks_wrong_batch_norm), \
    cmocka_unit_test(test_tasks_dropout_per_sequence), \
    cmocka_unit_test(test_tasks_gradients), cmocka_unit_test(test_tasks_gradients_of_scaled_targets), \
    cmocka_unit_test(test_tasks_without_labels), cmocka_unit_test(test_tasks_evaluate_only), \
    cmocka_unit_test(test_tasks_no_labels_at_all), cmocka_unit_test(test_tasks_replaced), \
        cmocka_unit_test(test_tasks_by_name), \
    cmocka_unit_test(test_tasks_attention), cmocka_unit_test(test_tasks_wrong_attention), \
    cmocka_unit_test(test_tasks_weights_are_checked)
