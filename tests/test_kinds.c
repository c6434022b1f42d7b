/* >>kinds: kinds of task beside classes, numbers and sets: classes in an order and counts, against the
   formulas in plain C; every one of them at every instruction set, in streams, on threads. Included by
   tests/main.c. */

enum { KINDS_CLASSES = 4, KINDS_STEPS = 9, KINDS_SEQUENCES = 3 };

/* One of each, by level; the last head reads the probabilities of the first. */
enum { KINDS_ORDINAL, KINDS_ORDINALS, KINDS_VOTE, KINDS_COUNT, KINDS_COUNTS, KINDS_READER, KINDS_TASKS };

typedef struct kinds_problem {
    mtl_model_desc desc;
    mtl_input_desc input;
    mtl_task_desc tasks[KINDS_TASKS];
    mtl_model *model;
    test_batch *batch;
    mtl_error err;
} kinds_problem;

static void kinds_task(mtl_task_desc *t, const char *name, int kind, int level, int size)
{
    t->name = name;
    t->kind = kind;
    t->level = level;
    if (kind == MTL_TASK_POISSON) t->width = size;
    else t->classes = size;
}

static void kinds_create(kinds_problem *p)
{
    static const int lengths[KINDS_SEQUENCES] = { KINDS_STEPS, 4, 7 };
    memset(p, 0, sizeof *p);
    p->input.name = "x";
    p->input.features = 3;
    kinds_task(&p->tasks[KINDS_ORDINAL], "grade", MTL_TASK_ORDINAL, MTL_LEVEL_SEQUENCE, KINDS_CLASSES);
    kinds_task(&p->tasks[KINDS_ORDINALS], "grades", MTL_TASK_ORDINAL, MTL_LEVEL_STEP, KINDS_CLASSES);
    kinds_task(&p->tasks[KINDS_VOTE], "vote", MTL_TASK_ORDINAL, MTL_LEVEL_SEQUENCE, 2);
    kinds_task(&p->tasks[KINDS_COUNT], "calls", MTL_TASK_POISSON, MTL_LEVEL_SEQUENCE, 1);
    kinds_task(&p->tasks[KINDS_COUNTS], "hits", MTL_TASK_POISSON, MTL_LEVEL_STEP, 2);
    kinds_task(&p->tasks[KINDS_READER], "reader", MTL_TASK_CLASS, MTL_LEVEL_STEP, 3);
    p->tasks[KINDS_VOTE].per_step = 1;
    p->tasks[KINDS_COUNT].pool = MTL_POOL_MEAN;
    p->tasks[KINDS_READER].tap.from = "encoder+grades.probabilities";
    p->desc.inputs = &p->input;
    p->desc.input_count = 1;
    p->desc.tasks = p->tasks;
    p->desc.task_count = KINDS_TASKS;
    p->desc.encoder.cell = MTL_CELL_GRU;
    p->desc.encoder.hidden = 7;
    p->model = mtl_model_create(&p->desc, &p->err);
    TEST_FINE(&p->err);
    p->batch = test_batch_create(&p->desc, lengths, KINDS_SEQUENCES, 0, 0.3, 4);
    model_enlarge(p->model, 2);
    mtl_model_tensor(p->model, "grade.cuts")->value[0] = (mtl_real)-1.5;
    mtl_model_tensor(p->model, "grade.cuts")->value[2] = (mtl_real)2;
    mtl_model_prepare(p->model, &p->err);
}

static void kinds_destroy(kinds_problem *p)
{
    test_batch_destroy(p->batch);
    mtl_model_destroy(p->model);
}

static void kinds_observe(void *user, const mtl_run *run, const mtl_activation *a)
{
    mtl_real *score = (mtl_real *)user;
    size_t s;
    if (strcmp(a->name, "grade.score") != 0) return;
    for (s = 0; s < KINDS_SEQUENCES; s++) score[s] = a->value[mtl_run_row(run, a, s, 0) * a->stride];
}

/* P(y <= k) of a score, as the paper has it. */
static double kinds_below(const mtl_real *cuts, int k, double score)
{
    double threshold = 0;
    int i;
    if (k < 0) return 0;
    if (k >= KINDS_CLASSES - 1) return 1;
    for (i = 0; i <= k; i++) threshold += i ? log(1 + exp((double)cuts[i] + 2)) : (double)cuts[0] - 2;
    return 1 / (1 + exp(score - threshold));
}

/* Probabilities are differences of P(y <= k), the label is the likeliest, the loss minus its logarithm. */
static void test_kinds_ordinal_is_its_formula(void **state)
{
    kinds_problem p;
    mtl_prediction out[KINDS_TASKS];
    mtl_predictor *predictor;
    mtl_trainer *trainer;
    mtl_step step;
    const mtl_real *cuts;
    mtl_real score[KINDS_SEQUENCES];
    double loss = 0;
    int s, k, labels[KINDS_SEQUENCES] = { 2, 0, 3 };
    (void)state;
    kinds_create(&p);
    cuts = mtl_model_tensor(p.model, "grade.cuts")->value;
    p.batch->targets[KINDS_ORDINAL].labels = labels;
    predictor = mtl_predictor_create(p.model, NULL, &p.err);
    mtl_predictor_observe(predictor, kinds_observe, score);
    mtl_predict(predictor, &p.batch->batch, out, &p.err);
    TEST_FINE(&p.err);
    for (s = 0; s < KINDS_SEQUENCES; s++) {
        const mtl_real *row = out[KINDS_ORDINAL].probabilities + s * KINDS_CLASSES;
        for (k = 0; k < KINDS_CLASSES; k++) {
            const double expected = kinds_below(cuts, k, (double)score[s])
                - kinds_below(cuts, k - 1, (double)score[s]);
            assert_true(fabs((double)row[k] - expected) < 1e-6);
            assert_true(row[k] <= row[out[KINDS_ORDINAL].labels[s]]);
            if (k == labels[s]) loss -= log(expected) / KINDS_SEQUENCES;
        }
    }
    trainer = mtl_trainer_create(p.model, NULL, &p.err);
    mtl_train_step(trainer, &p.batch->batch, 1, &step, &p.err);
    TEST_FINE(&p.err);
    assert_true(fabs((double)step.task_loss[KINDS_ORDINAL] - loss) < 1e-5);
    mtl_trainer_destroy(trainer);
    mtl_predictor_destroy(predictor);
    kinds_destroy(&p);
}

/* Far scores: no probability is NaN or below 0, and the loss stays a number. */
static void test_kinds_ordinal_far_away(void **state)
{
    const mtl_real cuts[3] = { 0, -60, 80 };
    mtl_real t[3], row[4];
    int i, k;
    (void)state;
    mtl__ordinal_thresholds(cuts, 3, t);
    assert_true(t[0] <= t[1] && t[1] < t[2]);
    for (i = -5; i <= 5; i++) {
        double sum = 0;
        mtl__ordinal_row(cuts, t, 3, (mtl_real)(40 * i), row);
        for (k = 0; k < 4; k++) {
            assert_true(row[k] >= 0 && row[k] <= 1);
            sum += (double)row[k];
        }
        assert_true(fabs(sum - 1) < 1e-6);
    }
}

/* The answer is exp of the output, times the scale of the targets; the loss exp x - y / s x. */
static void test_kinds_count_is_its_formula(void **state)
{
    const mtl_real mean[2] = { 0, 0 }, scale[2] = { 4, 4 };
    mtl_real calls[KINDS_SEQUENCES] = { 3, 0, 12 }, before[KINDS_SEQUENCES];
    kinds_problem p;
    mtl_prediction out[KINDS_TASKS];
    mtl_predictor *predictor;
    mtl_trainer *trainer;
    mtl_step step;
    double loss = 0;
    int s;
    (void)state;
    kinds_create(&p);
    p.batch->targets[KINDS_COUNT].values = calls;
    predictor = mtl_predictor_create(p.model, NULL, &p.err);
    mtl_predict(predictor, &p.batch->batch, out, &p.err);
    memcpy(before, out[KINDS_COUNT].values, sizeof before);
    mtl_model_set_target_scale(p.model, KINDS_COUNT, mean, scale, &p.err);
    mtl_predict(predictor, &p.batch->batch, out, &p.err);
    TEST_FINE(&p.err);
    for (s = 0; s < KINDS_SEQUENCES; s++) {
        const double rate = (double)before[s], y = (double)calls[s] / 4;
        assert_true(rate > 0 && fabs((double)out[KINDS_COUNT].values[s] / 4 - rate) < 1e-5 * rate);
        loss += (rate - y * log(rate)) / KINDS_SEQUENCES;
    }
    trainer = mtl_trainer_create(p.model, NULL, &p.err);
    mtl_train_step(trainer, &p.batch->batch, 1, &step, &p.err);
    TEST_FINE(&p.err);
    assert_true(fabs((double)step.task_loss[KINDS_COUNT] - loss) < 1e-5 * (1 + fabs(loss)));
    mtl_trainer_destroy(trainer);
    mtl_predictor_destroy(predictor);
    kinds_destroy(&p);
}

/* A stream says what a batch does, with probabilities and with logits, at each instruction set; training on
   three threads ends with the same bits; a file holds all there is. */
static void test_kinds_everywhere(void **state)
{
    const mtl_real mean[2] = { 0, 0 }, scale[2] = { 4, 3 };
    kinds_problem p, q;
    test_file file;
    mtl_reader reader;
    mtl_writer writer;
    mtl_model *loaded;
    mtl_real *one, *three;
    int isa, logits;
    (void)state;
    kinds_create(&p);
    kinds_create(&q);
    mtl_model_set_target_scale(p.model, KINDS_COUNTS, mean, scale, &p.err);
    for (logits = 0; logits < 2; logits++)
        for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++)
            if (mtl__isa_supported(isa)) stream_check(p.model, &p.batch->batch, logits, isa);
    memset(&file, 0, sizeof file);
    writer = test_file_writer(&file);
    mtl_model_write(p.model, NULL, &writer, &p.err);
    reader = test_file_reader(&file);
    loaded = mtl_model_read(&reader, &p.err);
    TEST_FINE(&p.err);
    assert_true(mtl_model_describe(loaded)->tasks[KINDS_COUNTS].kind == MTL_TASK_POISSON);
    assert_memory_equal(mtl_model_tensor(loaded, "grades.cuts")->value,
                        mtl_model_tensor(p.model, "grades.cuts")->value, 3 * sizeof(mtl_real));
    stream_check(loaded, &p.batch->batch, 0, MTL_ISA_AUTO);
    mtl_model_set_target_scale(p.model, KINDS_COUNTS, mean, mean, &p.err);
    mtl_model_set_target_scale(q.model, KINDS_COUNTS, mean, mean, &q.err);
    one = test_train_three(p.model, &p.batch->batch, 1);
    three = test_train_three(q.model, &q.batch->batch, 3);
    assert_true(test_weights_equal(q.model, one));
    free(one);
    free(three);
    free(file.bytes);
    mtl_model_destroy(loaded);
    kinds_destroy(&p);
    kinds_destroy(&q);
}

/* scikit-learn's cohen_kappa_score(gold, given, weights="quadratic") is 0.3182 of the first five; an item
   whose label is no class is wrong, and has no rank. */
static void test_kinds_scores_of_ranks(void **state)
{
    static const int gold[] = { 0, 1, 2, 2, 3, MTL_UNKNOWN_LABEL }, given[] = { 0, 2, 2, 1, 1, 0 };
    mtl_task_score score;
    mtl__metric r;
    int i;
    (void)state;
    memset(&r, 0, sizeof r);
    r.ranked = 1;
    mtl__metric_class(&r, gold, given, 6);
    for (i = 0; i < 5; i++) mtl__metric_rank(&r, gold[i], given[i]);
    mtl__metric_finish_class(&r, &score);
    metrics_assert_near(score.accuracy, 2.0 / 6);
    metrics_assert_near(score.mae, 4.0 / 5);
    metrics_assert_near(score.kappa, 1 - 6.0 / (18 + 10 - 2 * 8 * 6.0 / 5));
    metrics_assert_near(score.score, score.kappa * 5 / 6);
    memset(&r, 0, sizeof r);
    r.ranked = 1;
    mtl__metric_finish_class(&r, &score);
    assert_true(score.score == 0 && score.kappa == 0);
    mtl__metric_rank(&r, 2, 2);
    r.items = 1;
    mtl__metric_finish_class(&r, &score);
    metrics_assert_near(score.kappa, 1);
}

/* scikit-learn's mean_poisson_deviance and d2_tweedie_score(power=1), by hand. */
static void test_kinds_scores_of_counts(void **state)
{
    const mtl_real gold[] = { 0, 1, 5 }, given[] = { 0.5f, 2, 4 };
    const double deviance = 2 * (0.5 + (log(0.5) - 1 + 2) + (5 * log(1.25) - 1));
    const double null = 2 * ((log(0.5) + 5 * log(2.5)) - 6 + 6);
    mtl_task_score score;
    mtl__metric m;
    (void)state;
    memset(&m, 0, sizeof m);
    m.counts = 1;
    mtl__metric_real(&m, gold, given, 3);
    mtl__metric_finish_real(&m, &score);
    metrics_assert_near(score.deviance, deviance / 3);
    metrics_assert_near(score.d2, 1 - deviance / null);
    metrics_assert_near(score.rmse, sqrt((0.25 + 1 + 1) / 3));
    metrics_assert_near(score.score, score.d2);
    metrics_assert_near(score.loss, (0.5 + (2 - log(2)) + (4 - 5 * log(4))) / 3);
    assert_true(score.r2 == 0);
}

/* Sets at steps with thresholds of their own: an answer, a stream at each instruction set and a file know
   them, by probabilities and by logits; what cannot be a threshold is refused. */
static void test_kinds_thresholds(void **state)
{
    static const int lengths[KINDS_SEQUENCES] = { KINDS_STEPS, 4, 7 };
    static const mtl_real at[4] = { 0, 1, (mtl_real)0.3, (mtl_real)0.6 };
    mtl_real wrong[4] = { 0, 1, 2, 0 };
    kinds_problem p;
    mtl_prediction out[KINDS_TASKS];
    mtl_predictor *predictor;
    test_batch *batch;
    mtl_model *model, *twin, *loaded;
    test_file file;
    const mtl_writer writer = test_file_writer(&file);
    size_t i;
    int isa, logits;
    (void)state;
    kinds_create(&p);
    kinds_task(&p.tasks[0], "topics", MTL_TASK_MULTI, MTL_LEVEL_STEP, 4);
    p.tasks[0].thresholds = 1;
    p.desc.task_count = 2;
    model = mtl_model_create(&p.desc, &p.err);
    twin = mtl_model_create(&p.desc, &p.err);
    batch = test_batch_create(&p.desc, lengths, KINDS_SEQUENCES, 0, 0, 4);
    model_enlarge(model, 3);
    assert_true(mtl_model_tensor(model, "buffers.topics.thresholds") == NULL
                || mtl_model_tensor(model, "buffers.topics.thresholds")->value[3] == (mtl_real)0.5);
    mtl_model_set_thresholds(model, 0, at, &p.err);
    mtl_model_transfer(twin, model, NULL, &p.err);
    mtl_model_prepare(twin, &p.err);
    memset(&file, 0, sizeof file);
    mtl_model_write(model, NULL, &writer, &p.err);
    loaded = mtl_model_load_memory(file.bytes, file.used, &p.err);
    TEST_FINE(&p.err);
    assert_true(mtl_model_describe(loaded)->tasks[0].thresholds == 1);
    predictor = mtl_predictor_create(twin, NULL, &p.err);
    mtl_predict(predictor, &batch->batch, out, &p.err);
    TEST_FINE(&p.err);
    for (i = 0; i < out[0].items * 4; i++)
        assert_int_equal(out[0].chosen[i], out[0].probabilities[i] >= at[i % 4]);
    assert_true(out[0].chosen[0] && !out[0].chosen[1]);
    for (logits = 0; logits < 2; logits++)
        for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++)
            if (mtl__isa_supported(isa)) stream_check(loaded, &batch->batch, logits, isa);
    mtl_model_set_thresholds(model, 0, wrong, &p.err);
    test_expect_error(&p.err, MTL_ERROR_NUMBER, "topics", "threshold 2 is not in 0 .. 1");
    mtl_model_set_thresholds(model, 1, at, &p.err);
    test_expect_error(&p.err, MTL_ERROR_ARGUMENT, "grades", "has no thresholds");
    mtl_predictor_destroy(predictor);
    mtl_model_destroy(model);
    mtl_model_destroy(twin);
    mtl_model_destroy(loaded);
    free(file.bytes);
    test_batch_destroy(batch);
    kinds_destroy(&p);
}

static void kinds_refuse(kinds_problem *p, const char *name, const char *part)
{
    mtl_model *model = mtl_model_create(&p->desc, &p->err);
    assert_null(model);
    test_expect_error(&p->err, MTL_ERROR_FIELD, name, part);
}

static void test_kinds_errors(void **state)
{
    static const mtl_real one[2] = { 1, 1 };
    kinds_problem p;
    mtl_trainer *trainer;
    (void)state;
    kinds_create(&p);
    p.tasks[0].classes = 1;
    kinds_refuse(&p, "tasks[0]", "an order needs two classes");
    p.tasks[0].classes = 3;
    p.tasks[0].label_smoothing = 0.1f;
    kinds_refuse(&p, "tasks[0]", "label_smoothing is of class tasks");
    p.tasks[0].label_smoothing = 0;
    p.tasks[0].loss = MTL_LOSS_CROSS_ENTROPY;
    kinds_refuse(&p, "tasks[0]", "does not fit the task's kind");
    p.tasks[0].loss = 0;
    p.tasks[3].loss = MTL_LOSS_MSE;
    kinds_refuse(&p, "tasks[3]", "does not fit the task's kind");
    trainer = mtl_trainer_create(p.model, NULL, &p.err);
    test_numbers(p.batch, KINDS_COUNT)[1] = -1;
    mtl_train_step(trainer, &p.batch->batch, 1, NULL, &p.err);
    test_expect_error(&p.err, MTL_ERROR_NUMBER, "calls", "the target of sequence 1 is negative");
    mtl_model_set_target_scale(p.model, KINDS_COUNTS, one, one, &p.err);
    test_expect_error(&p.err, MTL_ERROR_NUMBER, "hits", "mean 0 must be 0");
    mtl_trainer_destroy(trainer);
    kinds_destroy(&p);
}

/* ---- minGRU at each instruction set -------------------------------------------------------------------- */

/* Answers, and weights after three steps, beside those of scalar code; in two layers of two directions, whose
   units and sequences fill no whole blocks, and of one sequence. */
static void test_kinds_mingru_isas(void **state)
{
    int isa, sequences, i;
    (void)state;
    for (sequences = 1; sequences < 20; sequences += 18)
        for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++) {
            const test_shape shape = { .cell = MTL_CELL_MINGRU, .bidirectional = 1, .layers = 2, .hidden = 21,
                                       .features = 3, .sequences = sequences, .longest = 9, .seed = 5 };
            mtl_prediction out[2][TEST_TASKS_COUNT];
            mtl_predictor_desc how = {0};
            mtl_trainer_desc train = {0};
            mtl_predictor *predictors[2];
            mtl_model *models[2];
            mtl_error err = {0};
            test_problem p;
            size_t k;
            if (!mtl__isa_supported(isa)) continue;
            test_problem_create(&p, &shape);
            for (i = 0; i < 2; i++) {
                mtl_trainer *trainer;
                int step;
                models[i] = mtl_model_create(&p.desc, &err);
                how.isa = train.isa = i ? isa : MTL_ISA_SCALAR;
                trainer = mtl_trainer_create(models[i], &train, &err);
                for (step = 0; step < 3; step++) mtl_train_step(trainer, p.batch, 1, NULL, &err);
                TEST_FINE(&err);
                mtl_trainer_destroy(trainer);
                predictors[i] = mtl_predictor_create(models[i], &how, &err);
                mtl_predict(predictors[i], p.batch, out[i], &err);
                TEST_FINE(&err);
            }
            for (k = 0; k < TEST_TASKS_COUNT; k++)
                assert_true(test_distance(test_outputs(&out[1][k]), test_outputs(&out[0][k]),
                                          out[0][k].items * out[0][k].width, 0.1) < 1e-3);
            for (i = 0; i < 2; i++) {
                mtl_predictor_destroy(predictors[i]);
                mtl_model_destroy(models[i]);
            }
            test_problem_destroy(&p);
        }
}

/* ---- convolutions -------------------------------------------------------------------------------------- */

/* A column of convolutions over numbers and words; form walks widths, layers, dilation, causal. */
static void kinds_conv_create(kinds_problem *p, int form)
{
    static const int widths[4][3] = { { 0, 0, 0 }, { 1, 0, 0 }, { 2, 3, 0 }, { 5, 2, 3 } };
    mtl_column_desc *c = &p->desc.encoder;
    memset(p, 0, sizeof *p);
    p->input.name = "x";
    p->input.features = 3;
    kinds_task(&p->tasks[0], "tags", MTL_TASK_CLASS, MTL_LEVEL_STEP, 3);
    kinds_task(&p->tasks[1], "number", MTL_TASK_REAL, MTL_LEVEL_SEQUENCE, 0);
    p->tasks[1].pool = MTL_POOL_MEAN;
    p->desc.inputs = &p->input;
    p->desc.input_count = 1;
    p->desc.tasks = p->tasks;
    p->desc.task_count = 2;
    c->kind = MTL_COLUMN_CONV;
    c->hidden = 5;
    memcpy(c->widths, widths[form % 4], sizeof widths[0]);
    c->layers = 1 + form % 3;
    c->dilation = form / 2 % 3;
    c->causal = form % 2;
    p->model = mtl_model_create(&p->desc, &p->err);
    TEST_FINE(&p->err);
    model_enlarge(p->model, 2);
    mtl_model_prepare(p->model, &p->err);
}

enum { KINDS_FORMS = 12 };

static void test_kinds_conv_errors(void **state)
{
    kinds_problem p;
    (void)state;
    kinds_conv_create(&p, 0);
    p.batch = test_batch_create(&p.desc, NULL, 2, 3, 0, 1);
    p.desc.encoder.dilation = 1000;
    p.desc.encoder.layers = 4;
    kinds_refuse(&p, "encoder", "windows of layer 3 take steps that lie 1000000000 apart");
    kinds_destroy(&p);
}

static void test_kinds_conv_gradients(void **state)
{
    kinds_problem p;
    char what[32];
    int form;
    (void)state;
    for (form = 0; form < KINDS_FORMS; form++) {
        kinds_conv_create(&p, form);
        p.batch = test_batch_create(&p.desc, NULL, form % 3 ? 5 : 20, 7, 0.2, (unsigned long long)form);
        snprintf(what, sizeof what, "convolution %d", form);
        model_check(p.model, NULL, &p.batch->batch, 1, 1, what);
        kinds_destroy(&p);
    }
}

/* One layer of one window of 3 steps, 2 apart in the layer above, by its formula: zeros beyond the ends. */
static double kinds_conv_at(const mtl_model *model, const mtl_real *x, int length, int t, int u, int width)
{
    const mtl_tensor *w = mtl_model_tensor((mtl_model *)(uintptr_t)model, "encoder.layer0.window3.weight");
    const mtl_tensor *b = mtl_model_tensor((mtl_model *)(uintptr_t)model, "encoder.layer0.window3.bias");
    double sum = (double)b->value[u];
    int k, j;
    for (k = 0; k < 3; k++)
        for (j = 0; j < width && t + k - 1 >= 0 && t + k - 1 < length; j++)
            sum += (double)w->value[(u * 3 + k) * width + j] * (double)x[(t + k - 1) * width + j];
    return sum > 0 ? sum : 0;
}

typedef struct kinds_seen { const mtl_batch *batch; const mtl_model *model; int compared; } kinds_seen;
static void kinds_conv_observe(void *user, const mtl_run *run, const mtl_activation *a)
{
    kinds_seen *seen = (kinds_seen *)user;
    const mtl_real *x = seen->batch->inputs[0].rows;
    size_t s;
    int t, u;
    if (strcmp(a->name, "encoder") != 0) return;
    for (s = 0; s < seen->batch->sequences; x += 3 * seen->batch->lengths[s++])
        for (t = 0; t < seen->batch->lengths[s]; t++)
            for (u = 0; u < 5; u++, seen->compared++) {
                const double want = kinds_conv_at(seen->model, x, seen->batch->lengths[s], t, u, 3);
                assert_true(fabs((double)a->value[mtl_run_row(run, a, s, (size_t)t) * a->stride + (size_t)u]
                                 - want) < 1e-5);
            }
}

static void test_kinds_conv_is_its_formula(void **state)
{
    kinds_problem p;
    kinds_seen seen;
    mtl_prediction out[2];
    mtl_predictor *predictor;
    int isa;
    (void)state;
    kinds_conv_create(&p, 0);
    p.batch = test_batch_create(&p.desc, NULL, 9, 7, 0, 3);
    for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++) {
        mtl_predictor_desc how = {0};
        if (!mtl__isa_supported(isa)) continue;
        how.isa = isa;
        seen.batch = &p.batch->batch;
        seen.model = p.model;
        seen.compared = 0;
        predictor = mtl_predictor_create(p.model, &how, &p.err);
        mtl_predictor_observe(predictor, kinds_conv_observe, &seen);
        mtl_predict(predictor, &p.batch->batch, out, &p.err);
        TEST_FINE(&p.err);
        assert_true(seen.compared > 0);
        mtl_predictor_destroy(predictor);
    }
    kinds_destroy(&p);
}

/* Causal ones are streamed, others refused by name; a file holds all; three threads end with one's bits. */
static void test_kinds_conv_streams(void **state)
{
    static const int lengths[KINDS_SEQUENCES] = { KINDS_STEPS, 4, 7 };
    kinds_problem p, q;
    test_file file;
    mtl_model *loaded;
    mtl_real *one, *three;
    int form, isa;
    (void)state;
    for (form = 0; form < KINDS_FORMS; form++) {
        const mtl_writer writer = test_file_writer(&file);
        memset(&file, 0, sizeof file);
        kinds_conv_create(&p, form);
        kinds_conv_create(&q, form);
        p.batch = test_batch_create(&p.desc, lengths, KINDS_SEQUENCES, 0, 0, 4);
        q.batch = test_batch_create(&p.desc, lengths, KINDS_SEQUENCES, 0, 0, 4);
        mtl_model_write(p.model, NULL, &writer, &p.err);
        loaded = mtl_model_load_memory(file.bytes, file.used, &p.err);
        TEST_FINE(&p.err);
        for (isa = MTL_ISA_SCALAR; form % 2 && isa < MTL_ISA_COUNT; isa++)
            if (mtl__isa_supported(isa)) stream_check(loaded, &p.batch->batch, 0, isa);
        if (form % 2 == 0) {
            assert_int_equal(mtl_stream_size(loaded, NULL, &p.err), 0);
            test_expect_error(&p.err, MTL_ERROR_UNSUPPORTED, "encoder", "its windows reach ahead");
        }
        one = test_train_three(p.model, &p.batch->batch, 1);
        three = test_train_three(q.model, &q.batch->batch, 3);
        assert_true(test_weights_equal(q.model, one));
        free(one);
        free(three);
        free(file.bytes);
        mtl_model_destroy(loaded);
        kinds_destroy(&p);
        kinds_destroy(&q);
    }
}

#define TEST_KINDS \
    cmocka_unit_test(test_kinds_conv_errors), \
    cmocka_unit_test(test_kinds_conv_gradients), cmocka_unit_test(test_kinds_conv_is_its_formula), \
    cmocka_unit_test(test_kinds_conv_streams), cmocka_unit_test(test_kinds_mingru_isas), \
    cmocka_unit_test(test_kinds_ordinal_is_its_formula), cmocka_unit_test(test_kinds_ordinal_far_away), \
    cmocka_unit_test(test_kinds_count_is_its_formula), cmocka_unit_test(test_kinds_everywhere), \
    cmocka_unit_test(test_kinds_scores_of_ranks), cmocka_unit_test(test_kinds_scores_of_counts), \
    cmocka_unit_test(test_kinds_thresholds), cmocka_unit_test(test_kinds_errors)
