/* test_custom.c    kinds of a program's own, which are those of examples/custom_*.c: nothing in the header
                    knows them. Gradients, threads, limits, evaluation, files with and without their rows,
   options that are wrong. Included by tests/main.c. */
#define main custom_task_main
#include "../examples/custom_task.c"
#undef main
#define main custom_mix_main
#include "../examples/custom_mix.c"
#undef main
#define main custom_column_main
#include "../examples/custom_column.c"
#undef main
#define main custom_input_main
#include "../examples/custom_input.c"
#undef main
#define main custom_pool_main
#include "../examples/custom_pool.c"
#undef main

static const mtl_kind *const custom_rows[] = { &highway_kind.kind, &min_gru_kind.kind, &hashed_kind.kind,
                                               &attend_kind.kind, &quantile_kind.kind };

/* Hashed words and numbers, a column that reads both through a highway, a minGRU above it; quantiles of a
   sequence through another highway, of each step, and classes of sequences by attention. */
typedef struct custom_model {
    mtl_model_desc desc;
    mtl_input_desc inputs[2];
    mtl_column_desc columns[2];
    mtl_task_desc tasks[3];
    quantiles shares;
    highway_options carry;
    hashed_options hashing;
    mtl_model *model;
    test_batch *batch;
    mtl_error err;
} custom_model;

static void custom_highway(custom_model *m, mtl_mix_desc *mix, const char *from)
{
    mix->from = from;
    mix->own = &highway_kind;
    mix->options = &m->carry;
}

static void custom_describe(custom_model *m)
{
    size_t k;
    memset(m, 0, sizeof *m);
    m->carry.carry = 0.75f;
    m->shares.at[LOW] = 0.2f;
    m->inputs[0].name = "words";
    m->inputs[0].vocabulary = 11;
    m->inputs[0].width = 5;
    m->inputs[0].own = &hashed_kind;
    m->inputs[0].options = &m->hashing;
    m->hashing.rows = 7;
    m->hashing.hashes = 3;
    m->inputs[1].name = "numbers";
    m->inputs[1].features = 5;
    m->columns[0].name = "low";
    m->columns[0].cell = MTL_CELL_GRU;
    m->columns[0].hidden = 5;
    custom_highway(m, &m->columns[0].input, "words+numbers");
    m->columns[1].name = "high";
    m->columns[1].own = &min_gru_kind;
    m->columns[1].hidden = 5;
    m->columns[1].input.from = "low";
    m->tasks[0].name = "range";
    m->tasks[0].pool = MTL_POOL_MEAN;
    m->tasks[0].hidden[0] = 4;
    m->tasks[0].activation = MTL_ACTIVATION_TANH;
    custom_highway(m, &m->tasks[0].tap, "low+high");
    m->tasks[1].name = "curve";
    m->tasks[1].level = MTL_LEVEL_STEP;
    m->tasks[1].weight = 0.5f;
    m->tasks[2].name = "class";
    m->tasks[2].classes = 3;
    m->tasks[2].pool = MTL_POOL_MEAN;
    m->tasks[2].tap.from = "high";
    m->tasks[2].tap.by = "low";
    m->tasks[2].tap.own = &attend_kind;
    for (k = 0; k < 2; k++) {
        m->tasks[k].own = &quantile_kind;
        m->tasks[k].kind = MTL_TASK_REAL;       /* own wins; the tests' batches go by this */
        m->tasks[k].options = &m->shares;
    }
    m->desc.inputs = m->inputs, m->desc.input_count = 2;
    m->desc.columns = m->columns, m->desc.column_count = 2;
    m->desc.tasks = m->tasks, m->desc.task_count = 3;
}

static void custom_create(custom_model *m, unsigned long long seed)
{
    static const mtl_real mean[1] = { (mtl_real)0.25 }, scale[1] = { 2 };
    custom_describe(m);
    m->desc.seed = seed + 1;
    m->model = mtl_model_create(&m->desc, &m->err);
    mtl_model_set_target_scale(m->model, 0, mean, scale, &m->err);
    TEST_FINE(&m->err);
    m->batch = test_batch_create(&m->desc, NULL, 9, 6, 0.3, seed);
}

static void custom_destroy(custom_model *m)
{
    test_batch_destroy(m->batch);
    mtl_model_destroy(m->model);
}

static void test_custom_gradients(void **state)
{
    int i;
    (void)state;
    for (i = 0; i < test_cases(10); i++) {
        custom_model m;
        mtl_trainer_desc how = {0};
        custom_create(&m, (unsigned long long)i);
        how.isa = gradient_isa(i);
        model_check(m.model, &how, &m.batch->batch, 1, 1, "kinds of a program's own");
        custom_destroy(&m);
    }
}

/* One update with limits allocates nothing, and gives the same bits for any number of threads. */
static void test_custom_threads_and_limits(void **state)
{
    mtl_real *weights = NULL;
    int threads;
    (void)state;
    for (threads = 1; threads <= 4; threads++) {
        custom_model m;
        mtl_trainer_desc how = {0};
        mtl_trainer *trainer;
        size_t before;
        custom_create(&m, 3);
        how.threads = threads;
        how.max_rows = m.batch->rows;
        how.max_sequences = 9;
        how.max_steps = 6;
        trainer = mtl_trainer_create(m.model, &how, &m.err);
        before = test_malloc_count;
        mtl_train_step(trainer, &m.batch->batch, 1, NULL, &m.err);
        TEST_FINE(&m.err);
        assert_int_equal(test_malloc_count, before);
        if (weights) assert_true(test_weights_equal(m.model, weights));
        else weights = test_weights_copy(m.model);
        mtl_trainer_destroy(trainer);
        custom_destroy(&m);
    }
    free(weights);
}

/* Coverage and loss, counted anew. Kinds that judge nothing leave joint accuracy to the others. */
static void test_custom_scores(void **state)
{
    custom_model m;
    mtl_predictor *predictor;
    mtl_prediction out[3];
    mtl_task_score table[3];
    mtl_scores scores;
    double inside = 0, loss = 0, items = 0;
    size_t s, j, classes = 0;
    (void)state;
    custom_create(&m, 5);
    predictor = mtl_predictor_create(m.model, NULL, &m.err);
    mtl_predict(predictor, &m.batch->batch, out, &m.err);
    TEST_FINE(&m.err);
    assert_int_equal(out[0].width, QUANTILES);
    for (s = 0; s < 9; s++) {
        double y = (double)m.batch->targets[0].values[s];
        const mtl_real *q = out[0].values + s * QUANTILES;
        const double share[QUANTILES] = { (double)0.2f, (double)0.5f, (double)0.9f };
        classes += m.batch->targets[2].labels[s] >= 0;
        if (mtl__is_nan(m.batch->targets[0].values[s])) continue;
        items++;
        inside += y > (double)q[LOW] && y <= (double)q[HIGH];
        for (j = 0; j < QUANTILES; j++)
            loss += y > (double)q[j] ? share[j] * (y - (double)q[j]) : (1 - share[j]) * ((double)q[j] - y);
    }
    scores.tasks = table;
    mtl_evaluate(predictor, &m.batch->batch, 1, &scores, NULL, &m.err);
    TEST_FINE(&m.err);
    assert_true(items > 0);
    assert_int_equal(table[0].items, items);
    assert_true(fabs(table[0].own[0] - inside / items) < 1e-9);
    assert_true(fabs(table[0].loss - loss / items) < 1e-5);
    assert_true(table[0].score == 1 / (1 + table[0].loss));
    assert_int_equal(scores.joint_items, classes);
    mtl_predictor_destroy(predictor);
    custom_destroy(&m);
}

/* ---- files --------------------------------------------------------------------------------------------- */

/* The model that was read answers with the same bits, its options are there, and it can be written again. */
static void custom_expect_same(custom_model *m, mtl_model *model)
{
    mtl_predictor *first = mtl_predictor_create(m->model, NULL, &m->err);
    mtl_predictor *second = mtl_predictor_create(model, NULL, &m->err);
    const mtl_model_desc *desc = mtl_model_describe(model);
    mtl_prediction a[3], b[3];
    test_file again;
    mtl_writer writer;
    size_t k;
    memset(&again, 0, sizeof again);
    writer = test_file_writer(&again);
    mtl_predict(first, &m->batch->batch, a, &m->err);
    mtl_predict(second, &m->batch->batch, b, &m->err);
    mtl_model_write(model, NULL, &writer, &m->err);
    TEST_FINE(&m->err);
    for (k = 0; k < 3; k++)
        assert_memory_equal(test_outputs(&a[k]), test_outputs(&b[k]),
                            a[k].items * a[k].width * sizeof(mtl_real));
    assert_ptr_equal(desc->tasks[0].own, &quantile_kind);
    assert_ptr_equal(desc->columns[0].input.own, &highway_kind);
    assert_ptr_equal(desc->columns[1].own, &min_gru_kind);
    assert_ptr_equal(desc->inputs[0].own, &hashed_kind);
    assert_ptr_equal(desc->tasks[2].tap.own, &attend_kind);
    assert_int_equal(((const hashed_options *)desc->inputs[0].options)->rows, 7);
    assert_true(((const quantiles *)desc->tasks[1].options)->at[LOW] == 0.2f);
    assert_true(((const quantiles *)desc->tasks[1].options)->at[HIGH] == 0.9f);
    assert_true(((const highway_options *)desc->tasks[0].tap.options)->carry == 0.75f);
    free(again.bytes);
    mtl_predictor_destroy(first);
    mtl_predictor_destroy(second);
    mtl_model_destroy(model);
}

static void test_custom_files(void **state)
{
    const mtl_load_desc all = { custom_rows, 5, NULL }, others = { custom_rows, 4, NULL };
    const mtl_load_desc no_mix = { custom_rows + 1, 4, NULL };
    custom_model m;
    test_file file;
    mtl_writer writer;
    mtl_reader reader;
    const char *path = test_path("custom.safetensors");
    (void)state;
    custom_create(&m, 7);
    memset(&file, 0, sizeof file);
    writer = test_file_writer(&file);
    mtl_model_write(m.model, NULL, &writer, &m.err);
    mtl_model_save(m.model, path, &m.err);
    TEST_FINE(&m.err);
    custom_expect_same(&m, mtl_model_load_with(path, &all, &m.err));
    custom_expect_same(&m, mtl_model_load_memory_with(file.bytes, file.used, &all, &m.err));
    reader = test_file_reader(&file);
    custom_expect_same(&m, mtl_model_read_with(&reader, &all, &m.err));
    assert_null(mtl_model_load_with(path, &others, &m.err));
    test_expect_error(&m.err, MTL_ERROR_UNSUPPORTED, NULL,
                      "the kind \"quantiles\", which is a program's own");
    assert_null(mtl_model_load_memory_with(file.bytes, file.used, &no_mix, &m.err));
    test_expect_error(&m.err, MTL_ERROR_UNSUPPORTED, NULL, "the kind \"highway\", which is a program's own");
    assert_null(mtl_model_load(path, &m.err));
    test_expect_error(&m.err, MTL_ERROR_UNSUPPORTED, NULL, "mtl_load_desc.kinds");
    remove(path);
    free(file.bytes);
    custom_destroy(&m);
}

/* ---- what is wrong with a desc ------------------------------------------------------------------------- */

static const mtl_task_kind custom_nameless = { .kind = { MTL_DESC_TASK, NULL, NULL, 0, 0 } };
static const mtl_field custom_text_field[] = { { "text", MTL_NAME, 0, 0, 0, 0, "", NULL, 0, 0 } };
static const mtl_task_kind custom_texts = {
    .kind = { MTL_DESC_TASK, "texts", custom_text_field, 1, sizeof(char *) } };

static void custom_order(custom_model *m) { m->shares.at[HIGH] = 0.25f; }
static void custom_range(custom_model *m) { m->shares.at[MIDDLE] = 1.5f; }
static void custom_carry(custom_model *m) { m->carry.carry = -101; }
static void custom_none(custom_model *m) { m->tasks[1].options = NULL; }
static void custom_table(custom_model *m)
{
    m->tasks[0].own = (const mtl_task_kind *)(const void *)&highway_kind;
}
static void custom_name(custom_model *m) { m->tasks[0].own = &custom_nameless; }
static void custom_text(custom_model *m) { m->tasks[0].own = &custom_texts; }
static void custom_one(custom_model *m) { m->columns[0].input.from = "words"; }
static void custom_width(custom_model *m) { m->inputs[0].width = 6; }
static void custom_two(custom_model *m) { m->tasks[2].tap.from = "low+high"; }
static void custom_hashes(custom_model *m) { m->hashing.hashes = 9; }

static void test_custom_wrong_descs(void **state)
{
    static const struct { void (*spoil)(custom_model *m); const char *name, *part; } cases[] = {
        { custom_order, "tasks[0]", "quantiles must rise" },
        { custom_range, NULL, "tasks[0].options.middle is 1.5; it must lie between 0 and 1" },
        { custom_carry, NULL, "columns[0].input.options.carry is -101; it must lie between -100 and 100" },
        { custom_none, NULL, "tasks[1].options is NULL; the kind \"quantiles\" needs them" },
        { custom_table, NULL, "tasks[0].own is a row without a name, or of another table" },
        { custom_name, NULL, "tasks[0].own is a row without a name, or of another table" },
        { custom_text, NULL, "tasks[0]: the option text of the kind \"texts\" is no number" },
        { custom_one, "columns[0].input", "x and H(x), of the same width" },
        { custom_width, "columns[0].input", "x and H(x), of the same width" },
        { custom_two, "tasks[2].tap", "attention takes one source" },
        { custom_hashes, NULL, "inputs[0].options.hashes is 9; it must lie between 1 and 8" },
    };
    size_t i;
    (void)state;
    for (i = 0; i < MTL__COUNT(cases); i++) {
        custom_model m;
        custom_describe(&m);
        cases[i].spoil(&m);
        assert_null(mtl_model_create(&m.desc, &m.err));
        test_expect_error(&m.err, MTL_ERROR_FIELD, cases[i].name, cases[i].part);
    }
}

/* The program's examples do what they say. */
static void test_custom_examples(void **state)
{
    char name[] = "custom_column", *arguments[] = { name, NULL, NULL };
    (void)state;
    arguments[1] = (char *)(uintptr_t)test_path("custom_column.safetensors");
    assert_int_equal(custom_task_main(), 0);
    assert_int_equal(custom_mix_main(), 0);
    assert_int_equal(custom_column_main(2, arguments), 0);
    assert_int_equal(custom_input_main(), 0);
    assert_int_equal(custom_pool_main(), 0);
    remove(arguments[1]);
}

/* ---- widths that differ from what is read -------------------------------------------------------------- */

/* Rows of three numbers, of which a step has two sums; and a mix that makes three columns of any width. */
static mtl_status custom_sums_build(mtl_input_part *part, mtl_parameters *set, mtl_error *err)
{
    part->width = 2;
    part->data = mtl_dense_add(set, "sums", 3, 2, 0, err);
    return mtl__status(err);
}
static mtl_activation *custom_sums_forward(mtl_run *run, const mtl_input_part *part, const mtl_input *input)
{
    static const mtl_scaling as_they_are = { 3, 0, NULL, NULL };
    mtl_activation *x = mtl__features_forward(run, &run->packing->space[MTL_LEVEL_STEP], input->rows, 3,
                                              &as_they_are, "sums.rows");
    return x ? mtl_dense_forward(run, (const mtl_dense *)part->data, x, NULL) : NULL;
}
static mtl_status custom_narrow_build(mtl_mix *mix, mtl_parameters *set, const char *what, mtl_error *err)
{
    (void)what;
    mix->width = 3;
    mix->data = mtl_dense_add(set, "narrow", mix->widths[0], 3, 0, err);
    return mtl__status(err);
}
static mtl_activation *custom_narrow_forward(mtl_run *run, const mtl_mix *mix, mtl_activation *const *sources,
                                             mtl_activation *by)
{
    (void)by;
    return mtl_dense_forward(run, (const mtl_dense *)mix->data, sources[0], NULL);
}

/* Evaluation, which copies and sorts the sequences, finds the loss that prediction has. */
static void custom_expect_scores(mtl_model *model, const mtl_batch *batch)
{
    mtl_predictor *predictor;
    mtl_prediction out;
    mtl_task_score table;
    mtl_scores scores;
    mtl_error err = {0};
    double loss = 0;
    size_t s;
    predictor = mtl_predictor_create(model, NULL, &err);
    mtl_predict(predictor, batch, &out, &err);
    for (s = 0; s < out.items; s++)
        loss -= log((double)out.probabilities[s * out.width + (size_t)batch->targets[0].labels[s]]);
    scores.tasks = &table;
    mtl_evaluate(predictor, batch, 1, &scores, NULL, &err);
    TEST_FINE(&err);
    assert_int_equal(table.items, batch->sequences);
    assert_true(fabs(table.loss - loss / (double)batch->sequences) < 1e-5);
    mtl_predictor_destroy(predictor);
}

/* A mix of another width than its first source, which reads in two directions, is pooled whole; rows of
   another width than their input are copied whole by evaluation and training. */
static void test_custom_widths(void **state)
{
    mtl_input_kind sums = {0};
    mtl_mix_kind narrow = {0};
    mtl_input_desc input = {0};
    mtl_column_desc column = {0};
    mtl_task_desc task = {0};
    mtl_model_desc desc = {0};
    mtl_error err = {0};
    mtl_model *model;
    test_batch *batch;
    (void)state;
    sums.kind.desc = MTL_DESC_INPUT, sums.kind.name = "sums", sums.reads_rows = 1;
    sums.build = custom_sums_build, sums.forward = custom_sums_forward;
    narrow.kind.desc = MTL_DESC_MIX, narrow.kind.name = "narrow";
    narrow.build = custom_narrow_build, narrow.forward = custom_narrow_forward;
    input.name = "rows", input.features = 3, input.own = &sums;
    column.name = "column", column.hidden = 4, column.bidirectional = 1;
    task.name = "kind", task.classes = 3, task.pool = MTL_POOL_LAST, task.tap.from = "column";
    task.tap.own = &narrow;
    desc.inputs = &input, desc.input_count = 1, desc.columns = &column, desc.column_count = 1;
    desc.tasks = &task, desc.task_count = 1;
    model = mtl_model_create(&desc, &err);
    TEST_FINE(&err);
    batch = test_batch_create(&desc, NULL, 9, 6, 0, 3);
    model_check(model, NULL, &batch->batch, 1, 1, "a mix of another width");
    custom_expect_scores(model, &batch->batch);
    test_batch_destroy(batch);
    mtl_model_destroy(model);
}

/* What layers of a program's own ask of a run: rows and steps of an activation's packing. */
static void test_custom_rows_and_steps(void **state)
{
    static const int lengths[] = { 2, 4, 1 }, others[] = { 3 };
    mtl_error err = {0};
    mtl_arena arena;
    mtl_run run;
    mtl_activation *x, *loose;
    size_t s;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    mtl_run_init(&run, &arena, MTL_ISA_AUTO, &err);
    assert_int_equal(mtl_run_rows(&run, NULL, MTL_LEVEL_STEP), 0);
    assert_int_equal(mtl_run_steps(&run, NULL, 0), 0);
    mtl_run_pack(&run, lengths, 3);
    x = mtl_run_activation(&run, NULL, 7, 1);
    loose = mtl_run_activation(&run, NULL, 5, 1);
    mtl_run_pack(&run, others, 1);
    TEST_FINE(&err);
    assert_int_equal(mtl_run_rows(&run, x, MTL_LEVEL_STEP), 7);
    assert_int_equal(mtl_run_rows(&run, x, MTL_LEVEL_SEQUENCE), 3);
    assert_int_equal(mtl_run_rows(&run, NULL, MTL_LEVEL_STEP), 3);
    assert_int_equal(mtl_run_rows(&run, loose, MTL_LEVEL_STEP), 0);
    for (s = 0; s < 3; s++) assert_int_equal(mtl_run_steps(&run, x, s), lengths[s]);
    assert_int_equal(mtl_run_steps(&run, x, 3), 0);
    assert_int_equal(mtl_run_steps(&run, NULL, 0), 3);
    assert_int_equal(mtl_run_steps(&run, loose, 0), 0);
    arena.counting = 1;
    assert_int_equal(mtl_run_rows(&run, x, MTL_LEVEL_STEP), 7);
    assert_int_equal(mtl_run_steps(&run, x, 0), 0);
    arena.counting = 0;
    mtl_arena_destroy(&arena);
}

/* Ordered classes by cumulative logits (McCullagh 1980): P(y <= k) = s(cut_k - x). One output, two cuts that
   the kind adds itself, three probabilities: outputs and distribution differ in width. */
enum { ORDINAL_CLASSES = 3 };
typedef struct ordinal_layer {
    const mtl_tensor *cuts;
    mtl_activation *x, *p, *loss;           /* [n][1], [n][C], 1 x 1 */
    mtl_loss_items items;
} ordinal_layer;

static mtl_status ordinal_build(mtl_task_part *part, mtl_parameters *set, mtl_error *err)
{
    part->outputs = 1;
    part->width = ORDINAL_CLASSES;
    part->data = mtl_parameters_add(set, "grade.cuts", ORDINAL_CLASSES - 1, 0, MTL_TENSOR_BIAS, err);
    return err->code;
}

/* P(y <= k), and its slope by cut_k - x. */
static double ordinal_below(const ordinal_layer *d, size_t n, size_t k, double *slope)
{
    const double v = k >= ORDINAL_CLASSES - 1 ? 1
        : 1 / (1 + exp((double)d->x->value[n * d->x->stride] - (double)d->cuts->value[k]));
    *slope = v * (1 - v);
    return v;
}

static void ordinal_back(mtl_run *run, void *data)
{
    ordinal_layer *d = (ordinal_layer *)data;
    int add, add_cuts;
    mtl_real *dx = mtl_run_grad(run, d->x, &add), *dcuts = mtl_run_tensor_grad(run, d->cuts, &add_cuts);
    size_t n, k;
    double slope;
    for (k = 0; !mtl__dry(run) && dcuts && !add_cuts && k < ORDINAL_CLASSES - 1; k++) dcuts[k] = 0;
    for (n = 0; !mtl__dry(run) && n < d->x->rows; n++) {
        mtl_real *to = &dx[n * d->x->stride];
        if (!add) *to = 0;
        for (k = 0; k < ORDINAL_CLASSES - 1; k++) {
            const mtl_real *dp = d->p->grad + n * d->p->stride + k;
            ordinal_below(d, n, k, &slope);
            *to -= (mtl_real)slope * (dp[0] - dp[1]);
            if (dcuts) dcuts[k] += (mtl_real)slope * (dp[0] - dp[1]);
        }
    }
}

static mtl_activation *ordinal_distribution(mtl_run *run, const mtl_task_part *part, mtl_activation *x)
{
    ordinal_layer *d = (ordinal_layer *)mtl_run_make(run, sizeof *d);
    mtl_activation *p = mtl_run_activation(run, part->probabilities, x->rows, ORDINAL_CLASSES);
    size_t n, k;
    double slope, before;
    if (!d || !p) return NULL;
    d->cuts = (const mtl_tensor *)part->data;
    d->x = x;
    d->p = p;
    for (n = 0; !mtl__dry(run) && n < x->rows; n++)
        for (k = 0, before = 0; k < ORDINAL_CLASSES; k++) {
            const double below = ordinal_below(d, n, k, &slope);
            p->value[n * p->stride + k] = (mtl_real)(below - before);
            before = below;
        }
    mtl_run_record(run, p, ordinal_back, d);
    return p;
}

static void ordinal_loss_back(mtl_run *run, void *data)
{
    ordinal_layer *d = (ordinal_layer *)data;
    int add;
    mtl_real *dp = mtl_run_grad(run, d->p, &add);
    size_t n, j;
    for (n = 0; !mtl__dry(run) && n < d->p->rows; n++)
        for (j = 0; j < ORDINAL_CLASSES; j++) {
            const int gold = d->items.target->labels[d->items.items[n]] == (int)j;
            mtl_real *to = &dp[n * d->p->stride + j];
            *to = (add ? *to : 0) - (gold ? d->loss->grad[0] / (mtl_real)d->items.divisor
                                           / d->p->value[n * d->p->stride + j] : 0);
        }
}

static mtl_activation *ordinal_loss(mtl_run *run, const mtl_task_part *part, const mtl_loss_items *items,
                                    mtl_activation *x)
{
    ordinal_layer *d = (ordinal_layer *)mtl_run_make(run, sizeof *d);
    mtl_activation *p = ordinal_distribution(run, part, x), *loss = mtl_run_activation(run, NULL, 1, 1);
    double sum = 0;
    size_t n;
    if (!d || !p || !loss) return NULL;
    d->p = p;
    d->loss = loss;
    d->items = *items;
    for (n = 0; !mtl__dry(run) && n < p->rows; n++)
        sum -= log((double)p->value[n * p->stride + (size_t)items->target->labels[items->items[n]]]);
    if (!mtl__dry(run)) loss->value[0] = (mtl_real)(sum / items->divisor);
    mtl_run_record(run, loss, ordinal_loss_back, d);
    return loss;
}

static int ordinal_count(const mtl_task_part *part, const mtl_count *c)
{
    (void)part; (void)c;
    return MTL_JUDGED_NOT;
}
static void ordinal_score(const mtl_task_part *part, const void *counts, mtl_task_score *score)
{
    (void)part; (void)counts; (void)score;
}
static const mtl_task_kind ordinal_kind = {
    { MTL_DESC_TASK, "graded", NULL, 0, 0 }, { NULL, NULL }, MTL_TARGET_LABELS, 0, "score", NULL,
    ordinal_build, ordinal_loss, ordinal_distribution, mtl__class_answer, 1, 0, ordinal_count,
    ordinal_score, NULL, NULL, NULL, 0, 0, 0, 0, NULL
};

/* Grades, and classes whose head reads the grades' three probabilities beside the column. */
static void test_custom_distribution_apart(void **state)
{
    int i;
    (void)state;
    for (i = 0; i < test_cases(10); i++) {
        mtl_input_desc input = {0};
        mtl_task_desc tasks[2] = {{0}};
        mtl_model_desc desc = {0};
        mtl_trainer_desc how = {0};
        mtl_error err = {0};
        mtl_model *model;
        test_batch *batch;
        mtl_tensor *cuts;
        input.name = "x";
        input.features = 3;
        tasks[0].name = "grade";
        tasks[0].own = &ordinal_kind;
        tasks[0].classes = ORDINAL_CLASSES;
        tasks[1].name = "class";
        tasks[1].classes = 2;
        tasks[1].pool = MTL_POOL_MEAN;
        tasks[1].tap.from = "encoder+grade.probabilities";
        desc.inputs = &input, desc.input_count = 1;
        desc.tasks = tasks, desc.task_count = 2;
        desc.encoder.hidden = 4;
        model = mtl_model_create(&desc, &err);
        TEST_FINE(&err);
        cuts = mtl_model_tensor(model, "grade.cuts");
        assert_non_null(cuts);
        cuts->value[0] = (mtl_real)-0.5;
        cuts->value[1] = (mtl_real)0.75;
        assert_int_equal(mtl_model_tensor(model, "class.output.weight")->shape[1], 4 + 3);
        batch = test_batch_create(&desc, NULL, 9, 6, 0.3, (unsigned long long)i);
        model_check(model, &how, &batch->batch, 1, 1, "a distribution wider than the outputs");
        test_batch_destroy(batch);
        mtl_model_destroy(model);
    }
}

/* What a gate reads connects parts as well: a column that a head has from `by` alone learns with it, so both
   are clipped together. */
static void test_custom_gate_connects(void **state)
{
    mtl_input_desc inputs[2] = {{0}};
    mtl_column_desc columns[2] = {{0}};
    mtl_task_desc task = {0};
    mtl_model_desc desc = {0};
    mtl_error err = {0};
    mtl_model *model;
    int by;
    (void)state;
    inputs[0].name = "x", inputs[1].name = "y";
    inputs[0].features = inputs[1].features = 3;
    columns[0].name = "a", columns[1].name = "b";
    columns[0].hidden = columns[1].hidden = 4;
    columns[0].input.from = "x", columns[1].input.from = "y";
    task.name = "task";
    task.classes = 2;
    task.pool = MTL_POOL_MEAN;
    task.tap.from = "a";
    desc.inputs = inputs, desc.input_count = 2;
    desc.columns = columns, desc.column_count = 2;
    desc.tasks = &task, desc.task_count = 1;
    for (by = 0; by < 2; by++) {
        if (by) task.tap.own = &attend_kind, task.tap.by = "b";
        model = mtl_model_create(&desc, &err);
        TEST_FINE(&err);
        assert_int_equal(model->component_count, by ? 1 : 2);
        mtl_model_destroy(model);
    }
}

#define TEST_CUSTOM \
    cmocka_unit_test(test_custom_gradients), cmocka_unit_test(test_custom_threads_and_limits), \
    cmocka_unit_test(test_custom_scores), cmocka_unit_test(test_custom_files), \
    cmocka_unit_test(test_custom_wrong_descs), cmocka_unit_test(test_custom_examples), \
    cmocka_unit_test(test_custom_rows_and_steps), cmocka_unit_test(test_custom_widths), \
    cmocka_unit_test(test_custom_distribution_apart), \
    cmocka_unit_test(test_custom_gate_connects)
