/* >>kinds: language models. Losses, answers and scores against sums written out here; gradients against
   differences, of whole and of sampled softmaxes, with an output of their own or tied; what is drawn against
   how likely it is said to be. Included by tests/main.c. */

enum { LM_WORDS = 40, LM_CLASSES = 29, LM_SEQUENCES = 6, LM_HIDDEN = 5, LM_STEPS = 9 };
#define LM_TOLERANCE (MTL__REAL_IS_DOUBLE ? 1e-10 : 2e-5)

typedef struct lm_setup {
    mtl_model_desc desc;
    mtl_input_desc input;
    mtl_column_desc columns[2];
    mtl_task_desc tasks[2];
    mtl_model *model;
    test_batch *batch;
    mtl_error err;
} lm_setup;

/* A class task and a language model over one column. */
static void lm_describe(lm_setup *s, int bidirectional, int tied, int samples)
{
    memset(s, 0, sizeof *s);
    s->input.name = "text";
    s->input.vocabulary = LM_WORDS;
    s->input.width = 7;
    s->input.scale = 1.5f;
    s->tasks[0].name = "class";
    s->tasks[0].classes = 3;
    s->tasks[1].name = "lm";
    s->tasks[1].kind = MTL_TASK_LM;
    s->tasks[1].level = MTL_LEVEL_STEP;
    s->tasks[1].classes = LM_CLASSES;
    s->tasks[1].weight = 0.4f;
    s->tasks[1].tied = tied;
    s->tasks[1].samples = samples;
    s->desc.inputs = &s->input;
    s->desc.input_count = 1;
    s->desc.tasks = s->tasks;
    s->desc.task_count = 2;
    s->desc.encoder.cell = MTL_CELL_GRU;
    s->desc.encoder.hidden = LM_HIDDEN;
    s->desc.encoder.bidirectional = bidirectional;
}

static void lm_create(lm_setup *s, int bidirectional, int tied, int samples)
{
    static const int lengths[LM_SEQUENCES] = { 3, LM_STEPS, 1, 4, 6, 6 };
    lm_describe(s, bidirectional, tied, samples);
    s->model = mtl_model_create(&s->desc, &s->err);
    TEST_FINE(&s->err);
    s->batch = test_batch_create(&s->desc, lengths, LM_SEQUENCES, 0, 0, 4);
    s->batch->targets[1].values = NULL;
    model_enlarge(s->model, 2);
    mtl_model_prepare(s->model, &s->err);
}

static void lm_destroy(lm_setup *s)
{
    test_batch_destroy(s->batch);
    mtl_model_destroy(s->model);
}

/* The class of the caller's row. */
static int lm_class(const lm_setup *s, size_t row)
{
    const int id = test_ids(s->batch)[row];
    return id < LM_CLASSES ? id : 0;
}

/* ---- by hand ------------------------------------------------------------------------------------------- */

/* What the column made: [rows][width] in the caller's order. */
typedef struct lm_seen { const test_batch *batch; mtl_real rows[64 * 2 * LM_HIDDEN]; size_t width; } lm_seen;
static void lm_observe(void *user, const mtl_run *run, const mtl_activation *a)
{
    lm_seen *seen = (lm_seen *)user;
    size_t s, t, row = 0;
    if (strcmp(a->name, "encoder") != 0) return;
    seen->width = a->width;
    for (s = 0; s < seen->batch->batch.sequences; s++)
        for (t = 0; t < (size_t)seen->batch->lengths[s]; t++, row++)
            memcpy(seen->rows + row * a->width, a->value + mtl_run_row(run, a, s, t) * a->stride,
                   a->width * sizeof(mtl_real));
}

static double lm_dense(mtl_model *model, const char *name, size_t row, const double *x)
{
    char text[64];
    const mtl_tensor *w, *b;
    double sum;
    size_t j;
    snprintf(text, sizeof text, "%s.weight", name);
    w = mtl_model_tensor(model, text);
    snprintf(text, sizeof text, "%s.bias", name);
    b = mtl_model_tensor(model, text);
    for (sum = (double)b->value[row], j = 0; j < w->shape[1]; j++)
        sum += (double)w->value[row * w->shape[1] + j] * x[j];
    return sum;
}

/* Logits of a row in one direction. */
static void lm_logits(const lm_setup *s, const lm_seen *seen, size_t row, int reverse, double *logits)
{
    double h[LM_HIDDEN], e[16];
    const mtl_real *x = seen->rows + row * seen->width + reverse * LM_HIDDEN;
    const mtl_tensor *table = mtl_model_tensor(s->model, "text.weight");
    size_t c, j;
    for (j = 0; j < LM_HIDDEN; j++) h[j] = (double)x[j];
    for (j = 0; s->tasks[1].tied && j < 7; j++)
        e[j] = lm_dense(s->model, reverse ? "lm.project_reverse" : "lm.project", j, h);
    for (c = 0; c < LM_CLASSES; c++)
        if (!s->tasks[1].tied)
            logits[c] = lm_dense(s->model, reverse ? "lm.output_reverse" : "lm.output", c, h);
        else
            for (logits[c] = (double)mtl_model_tensor(s->model, reverse ? "lm.output_reverse.bias"
                                                      : "lm.output.bias")->value[c], j = 0; j < 7; j++)
                logits[c] += (double)table->value[c * 7 + j] * e[j];
}

static double lm_log_sum(const double *logits)
{
    double most = logits[0], sum = 0;
    size_t c;
    for (c = 0; c < LM_CLASSES; c++) most = logits[c] > most ? logits[c] : most;
    for (c = 0; c < LM_CLASSES; c++) sum += exp(logits[c] - most);
    return most + log(sum);
}

static int lm_best(const double *logits)
{
    int c, best = 0;
    for (c = 1; c < LM_CLASSES; c++)
        if (logits[c] > logits[best]) best = c;
    return best;
}

/* Adds up a sequence that begins at row `first`, compares its answers. Returns what was predicted. */
static size_t lm_sequence(const lm_setup *s, const lm_seen *seen, const mtl_prediction *out, size_t first,
                          int length, double *loss, size_t *right)
{
    double logits[LM_CLASSES];
    const int ways = s->desc.encoder.bidirectional ? 2 : 1;
    size_t count = 0;
    int t, way;
    for (t = 0; t < length; t++)
        for (way = 0; way < ways; way++) {
            const size_t row = first + (size_t)t, at = row * (size_t)ways + (size_t)way;
            const int other = way ? t - 1 : t + 1, there = other >= 0 && other < length;
            double p;
            lm_logits(s, seen, row, way, logits);
            if (!way) assert_int_equal(out->labels[row], lm_best(logits));
            assert_int_equal(mtl_is_missing(out->values[at]), !there);
            if (!there) continue;
            p = logits[lm_class(s, first + (size_t)other)] - lm_log_sum(logits);
            assert_true(fabs((double)out->values[at] - p) < LM_TOLERANCE * (1 + fabs(p)));
            assert_int_equal(out->chosen[at], lm_best(logits) == lm_class(s, first + (size_t)other));
            *loss -= p;
            *right += out->chosen[at];
            count++;
        }
    return count;
}

/* Answers, the loss of a training step and scores are what the formulas say, at each instruction set. */
static void lm_check_values(int bidirectional, int tied, int isa)
{
    lm_setup s;
    lm_seen seen;
    mtl_prediction out[2];
    mtl_task_score table[2];
    mtl_scores scores;
    mtl_predictor_desc how = {0};
    mtl_trainer_desc train = {0};
    mtl_predictor *predictor;
    mtl_trainer *trainer;
    mtl_step step;
    double loss = 0, other;
    size_t i, row = 0, count = 0, right = 0;
    lm_create(&s, bidirectional, tied, 0);
    how.isa = train.isa = isa;
    how.aside = 1;
    seen.batch = s.batch;
    scores.tasks = table;
    predictor = mtl_predictor_create(s.model, &how, &s.err);
    mtl_predictor_observe(predictor, lm_observe, &seen);
    mtl_predict(predictor, &s.batch->batch, out, &s.err);
    TEST_FINE(&s.err);
    assert_int_equal(out[1].width, bidirectional ? 2 : 1);
    for (i = 0; i < LM_SEQUENCES; row += (size_t)s.batch->lengths[i++])
        count += lm_sequence(&s, &seen, &out[1], row, s.batch->lengths[i], &loss, &right);
    assert_int_equal(count, (row - LM_SEQUENCES) * out[1].width);
    mtl_predictor_observe(predictor, NULL, NULL);
    mtl_evaluate(predictor, &s.batch->batch, 1, &scores, NULL, &s.err);
    TEST_FINE(&s.err);
    assert_int_equal(table[1].items, count);
    assert_true(fabs(table[1].perplexity / exp(loss / (double)count) - 1) < 10 * LM_TOLERANCE);
    assert_true(fabs(table[1].accuracy - (double)right / (double)count) < 1e-12);
    assert_true(fabs(table[1].score * table[1].perplexity - 1) < 1e-9);
    assert_true(scores.score == table[0].score);                    /* the language model stands aside */
    other = table[1].perplexity;
    s.batch->batch.targets = NULL;                                  /* .. unless it is alone */
    mtl_evaluate(predictor, &s.batch->batch, 1, &scores, NULL, &s.err);
    TEST_FINE(&s.err);
    assert_true(scores.score == table[1].score && table[1].perplexity == other && !table[0].items);
    trainer = mtl_trainer_create(s.model, &train, &s.err);
    mtl_train_step(trainer, &s.batch->batch, 1, &step, &s.err);
    TEST_FINE(&s.err);
    assert_true(fabs((double)step.task_loss[1] - loss / (double)count) < LM_TOLERANCE * loss);
    assert_true(fabs((double)step.loss - (double)0.4f * loss / (double)count) < LM_TOLERANCE * loss);
    mtl_trainer_destroy(trainer);
    mtl_predictor_destroy(predictor);
    lm_destroy(&s);
}

static void test_lm_is_its_formula(void **state)
{
    int isa, form;
    (void)state;
    for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++)
        for (form = 0; form < 4 && mtl__isa_supported(isa); form++) lm_check_values(form & 1, form >> 1, isa);
}

/* ---- gradients ----------------------------------------------------------------------------------------- */

/* Whole and sampled, own output and tied, one direction and two, with dropout and words read as unknown, of
   one batch and of two; a frozen table. */
static void test_lm_gradients(void **state)
{
    float chances[LM_WORDS];
    int form, i;
    (void)state;
    for (i = 0; i < LM_WORDS; i++) chances[i] = 0.3f;
    for (form = 0; form < 16; form++) {
        mtl_batch batches[2];
        lm_setup s;
        char what[64];
        lm_describe(&s, form & 1, form >> 1 & 1, form & 4 ? 9 : 0);
        s.tasks[1].dropout = form & 8 ? 0.4f : 0;
        s.input.unknown_chances = form & 8 ? chances : NULL;
        s.desc.freeze = form == 15 ? "text.weight" : NULL;
        s.model = mtl_model_create(&s.desc, &s.err);
        TEST_FINE(&s.err);
        s.batch = test_batch_create(&s.desc, NULL, 4 + form, 7, 0.2, (unsigned long long)form);
        s.batch->targets[1].values = NULL;
        batches[0] = batches[1] = s.batch->batch;
        batches[1].sequences = 2;
        snprintf(what, sizeof what, "language model %d", form);
        model_check(s.model, NULL, batches, 1 + (size_t)(form % 3 == 0), 0, what);
        lm_destroy(&s);
    }
}

/* With the table tied, a step's gradient of a class's row has both parts; rows that are neither read nor
   predicted have none. */
static void test_lm_sampled_rows(void **state)
{
    const int ids[4] = { 35, 1, 36, 2 }, length = 4;
    lm_setup s;
    mtl_trainer *trainer;
    const mtl_gradient *g;
    mtl_input input = {0};
    mtl_batch batch = {0};
    size_t i;
    (void)state;
    lm_create(&s, 0, 1, 3);
    input.ids = ids;
    batch.sequences = 1;
    batch.lengths = &length;
    batch.inputs = &input;
    trainer = mtl_trainer_create(s.model, NULL, &s.err);
    mtl_train_gradients(trainer, &batch, 1, NULL, &s.err);
    TEST_FINE(&s.err);
    g = mtl_gradients_get(mtl_trainer_gradients(trainer), mtl_model_tensor(s.model, "text.weight"));
    assert_int_equal(g->state, MTL_GRAD_ROWS);
    assert_in_range(g->row_count, 5, 8);                            /* 0, 1, 2 predicted; 35, 36; 3 drawn */
    for (i = 1; i < g->row_count; i++) assert_true(g->rows[i] > g->rows[i - 1]);
    assert_int_equal(g->rows[g->row_count - 1], 36);
    mtl_trainer_destroy(trainer);
    lm_destroy(&s);
}

/* ---- what is drawn ------------------------------------------------------------------------------------- */

static void test_lm_draws(void **state)
{
    enum { CLASSES = 200, ROUNDS = 20000 };
    mtl_arena arena;
    mtl_error err = {0};
    mtl_run run;
    mtl__lm lm;
    int place[CLASSES], *often = (int *)calloc(CLASSES, sizeof *often);
    size_t c, i;
    double sum = 0;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    mtl_run_init(&run, &arena, MTL_ISA_AUTO, &err);
    memset(&lm, 0, sizeof lm);
    lm.classes = CLASSES;
    lm.samples = 20;
    for (i = 0; i < ROUNDS; i++) {
        memset(place, 0, sizeof place);
        run.step = i;
        mtl__lm_draw(&run, &lm, place);
        for (c = 0; c < CLASSES; c++) often[c] += place[c] == 2;
    }
    for (c = 0; c < CLASSES; c++) {
        const double p = mtl__lm_chance(&lm, c), far = fabs(often[c] - ROUNDS * p);
        assert_true(far < 5 * sqrt(ROUNDS * p * (1 - p)) + 1);
        sum += log(((double)c + 2) / ((double)c + 1)) / log(CLASSES + 1);
    }
    assert_true(fabs(sum - 1) < 1e-12);
    memset(place, 0, sizeof place);
    place[0] = 1;                                                   /* a target stays one */
    mtl__lm_draw(&run, &lm, place);
    assert_int_equal(place[0], 1);
    free(often);
    mtl_arena_destroy(&arena);
}

/* The mean of many sampled gradients nears the whole one: the ratio of what is estimated has no bias but that
   of a logarithm, which 25 of 29 classes make small. */
static void test_lm_sampled_gradient_is_the_whole_one(void **state)
{
    enum { ROUNDS = 400 };
    lm_setup whole, sampled;
    mtl_real *expected;
    double *sum, far = 0, size = 0;
    mtl_gradient *g;
    size_t count, i, k;
    (void)state;
    lm_create(&whole, 1, 0, 0);
    lm_create(&sampled, 1, 0, 60);                                  /* from classes on: whole, too */
    assert_int_equal(((mtl__lm *)sampled.model->tasks[1].part.data)->samples, 0);
    lm_destroy(&sampled);
    lm_create(&sampled, 1, 0, 28);
    for (k = 0; k < whole.model->set.count; k++)
        memcpy(sampled.model->set.tensors[k]->value, whole.model->set.tensors[k]->value,
               whole.model->set.tensors[k]->count * sizeof(mtl_real));
    mtl_model_prepare(sampled.model, &sampled.err);
    count = mtl_model_tensor(whole.model, "encoder.weight_ih_l0")->count;
    expected = (mtl_real *)calloc(count, sizeof *expected);
    sum = (double *)calloc(count, sizeof *sum);
    for (k = 0; k <= ROUNDS; k++) {
        lm_setup *s = k ? &sampled : &whole;
        mtl_trainer_desc how = {0};
        mtl_trainer *trainer;
        how.seed = k + 1;
        trainer = mtl_trainer_create(s->model, &how, &s->err);
        mtl_trainer_set_weight(trainer, 0, 0, &s->err);
        mtl_train_gradients(trainer, &s->batch->batch, 1, NULL, &s->err);
        TEST_FINE(&s->err);
        g = mtl_gradients_get(mtl_trainer_gradients(trainer), mtl_model_tensor(s->model,
                                                                               "encoder.weight_ih_l0"));
        for (i = 0; i < count && k; i++) sum[i] += (double)g->value[i] / ROUNDS;
        if (!k) memcpy(expected, g->value, count * sizeof *expected);
        mtl_trainer_destroy(trainer);
    }
    for (i = 0; i < count; i++) {
        far += (sum[i] - (double)expected[i]) * (sum[i] - (double)expected[i]);
        size += (double)expected[i] * (double)expected[i];
    }
    assert_true(size > 0 && far < 0.002 * size);
    free(expected);
    free(sum);
    lm_destroy(&whole);
    lm_destroy(&sampled);
}

/* ---- everywhere ---------------------------------------------------------------------------------------- */

/* Three threads end with the bits of one; a file holds all there is; limits suffice. */
static void test_lm_everywhere(void **state)
{
    int form;
    (void)state;
    for (form = 0; form < 8; form++) {
        lm_setup s, twin;
        mtl_prediction out[2], again[2];
        mtl_predictor_desc how = {0};
        mtl_predictor *predictors[2];
        mtl_model *loaded;
        mtl_real *one, *three;
        test_file file;
        const mtl_writer writer = test_file_writer(&file);
        memset(&file, 0, sizeof file);
        how.aside = 1;
        lm_create(&s, form & 1, form >> 1 & 1, form & 4 ? 9 : 0);
        lm_create(&twin, form & 1, form >> 1 & 1, form & 4 ? 9 : 0);
        one = test_train_three(s.model, &s.batch->batch, 1);
        three = test_train_three(twin.model, &twin.batch->batch, 3);
        assert_true(test_weights_equal(twin.model, one));
        mtl_model_write(s.model, NULL, &writer, &s.err);
        loaded = mtl_model_load_memory(file.bytes, file.used, &s.err);
        TEST_FINE(&s.err);
        predictors[0] = mtl_predictor_create(s.model, &how, &s.err);
        predictors[1] = mtl_predictor_create(loaded, &how, &s.err);
        mtl_predict(predictors[0], &s.batch->batch, out, &s.err);
        mtl_predict(predictors[1], &s.batch->batch, again, &s.err);
        TEST_FINE(&s.err);
        assert_int_equal(mtl_model_describe(loaded)->tasks[1].tied, form >> 1 & 1);
        assert_memory_equal(out[1].values, again[1].values,
                            out[1].items * out[1].width * sizeof(mtl_real));
        mtl_predictor_destroy(predictors[0]);
        mtl_predictor_destroy(predictors[1]);
        mtl_model_destroy(loaded);
        free(one);
        free(three);
        free(file.bytes);
        lm_destroy(&s);
        lm_destroy(&twin);
    }
}

/* A trainer with limits allocates nothing more; mtl_fit, whose rows of tables wait for their updates, learns
   a language. */
static void test_lm_learns(void **state)
{
    enum { SEQUENCES = 60 };
    int form, lengths[SEQUENCES], i, t, *ids;
    (void)state;
    for (form = 0; form < 4; form++) {
        lm_setup s;
        mtl_fit_desc how = {0};
        mtl_trainer_desc train = {0};
        mtl_fit_result result = {0};
        mtl_trainer *trainer;
        size_t allocated;
        lm_describe(&s, 1, form & 1, form & 2 ? 6 : 0);
        s.desc.tasks = &s.tasks[1];                                 /* alone */
        s.desc.task_count = 1;
        s.desc.encoder.hidden = 12;
        s.model = mtl_model_create(&s.desc, &s.err);
        for (i = 0; i < SEQUENCES; i++) lengths[i] = 3 + i % 7;
        s.batch = test_batch_create(&s.desc, lengths, SEQUENCES, 0, 0, 5);
        s.batch->batch.targets = NULL;
        ids = test_ids(s.batch);
        for (i = 0; i < SEQUENCES; i++)                             /* each word tells the next one */
            for (t = 0; t < lengths[i]; t++) *ids++ = (5 * i + 3 * t) % LM_CLASSES;
        train.lr = 0.02f;
        train.max_rows = 4096;
        how.epochs = 30;
        how.batch = 8;
        trainer = mtl_trainer_create(s.model, &train, &s.err);
        TEST_FINE(&s.err);
        allocated = test_malloc_count;
        mtl_train_step(trainer, &s.batch->batch, 1, NULL, &s.err);
        TEST_FINE(&s.err);
        assert_int_equal(test_malloc_count, allocated);
        mtl_fit(trainer, &s.batch->batch, 1, &s.batch->batch, 1, &how, &result, &s.err);
        TEST_FINE(&s.err);
        if (!(result.best_score > 0.5)) fail_msg("form %d: score %g", form, result.best_score);
        mtl_trainer_destroy(trainer);
        lm_destroy(&s);
    }
}

/* A stream of a model that reads forwards has the probabilities of the next words. */
static void test_lm_streams(void **state)
{
    int form, isa;
    (void)state;
    for (form = 0; form < 4; form++)
        for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++) {
            lm_setup s;
            mtl_prediction out[2];
            mtl_predictor_desc how = {0};
            mtl_predictor *predictor;
            const mtl_prediction *got;
            mtl_stream *stream;
            mtl_input input = {0};
            void *start, *memory;
            size_t bytes, row, first = (size_t)3;                   /* the second sequence */
            if (!mtl__isa_supported(isa)) continue;
            lm_create(&s, 0, form & 1, form & 2 ? 9 : 0);
            how.isa = isa;
            how.aside = 1;
            predictor = mtl_predictor_create(s.model, &how, &s.err);
            mtl_predict(predictor, &s.batch->batch, out, &s.err);
            bytes = mtl_stream_size(s.model, &how, &s.err);
            TEST_FINE(&s.err);
            memory = test_aligned(bytes, &start);
            stream = mtl_stream_init(memory, bytes, s.model, &how, &s.err);
            for (row = first; row < first + LM_STEPS; row++) {
                input.ids = test_ids(s.batch) + row;
                got = mtl_stream_step(stream, 0, &input, &s.err);
                TEST_FINE(&s.err);
                assert_int_equal(got[1].width, LM_CLASSES);
                assert_int_equal(got[1].labels[0], out[1].labels[row]);
                if (row + 1 < first + LM_STEPS)
                    assert_true(fabs(log((double)got[1].probabilities[lm_class(&s, row + 1)])
                                     - (double)out[1].values[row]) < 1e-4);
            }
            free(start);
            mtl_predictor_destroy(predictor);
            lm_destroy(&s);
        }
}

/* An auxiliary task costs predictions and streams nothing unless its answers are wanted; alone they are. */
static void test_lm_stands_aside(void **state)
{
    mtl_prediction out[2];
    mtl_predictor *predictor;
    mtl_task_desc only;
    mtl_model *alone;
    mtl_predictor_desc how = {0};
    const mtl_prediction *got;
    mtl_stream *stream;
    mtl_input input = {0};
    void *start, *memory;
    size_t bytes;
    lm_setup s;
    int label;
    (void)state;
    lm_create(&s, 0, 0, 0);
    predictor = mtl_predictor_create(s.model, NULL, &s.err);
    mtl_predict(predictor, &s.batch->batch, out, &s.err);
    TEST_FINE(&s.err);
    assert_true(out[0].labels && !out[1].labels && !out[1].values && !out[1].items);
    label = out[0].labels[2];
    mtl_predictor_destroy(predictor);
    bytes = mtl_stream_size(s.model, NULL, &s.err);
    how.aside = 1;
    assert_true(mtl_stream_size(s.model, &how, &s.err) > bytes);
    memory = test_aligned(bytes, &start);
    stream = mtl_stream_init(memory, bytes, s.model, NULL, &s.err);
    input.ids = test_ids(s.batch) + 9 + 3;                          /* the sequence of one step */
    got = mtl_stream_step(stream, 0, &input, &s.err);
    TEST_FINE(&s.err);
    assert_int_equal(got[0].labels[0], label);
    assert_true(!got[1].items && !got[1].labels && !got[1].probabilities);
    free(start);
    only = s.tasks[1];
    s.desc.tasks = &only;
    s.desc.task_count = 1;
    alone = mtl_model_create(&s.desc, &s.err);
    predictor = mtl_predictor_create(alone, NULL, &s.err);
    mtl_predict(predictor, &s.batch->batch, out, &s.err);
    TEST_FINE(&s.err);
    assert_int_equal(out[0].items, s.batch->rows);
    mtl_predictor_destroy(predictor);
    mtl_model_destroy(alone);
    lm_destroy(&s);
}

/* ---- what is refused ----------------------------------------------------------------------------------- */

static void lm_refuse(lm_setup *s, const char *name, const char *part)
{
    mtl_model *model = mtl_model_create(&s->desc, &s->err);
    assert_null(model);
    test_expect_error(&s->err, MTL_ERROR_FIELD, name, part);
    lm_describe(s, 1, 0, 0);
}

/* Rows that know what is predicted. */
static void test_lm_leaks(void **state)
{
    static const char leak[] = "may not read what it predicts";
    mtl_model *model;
    lm_setup s;
    int i;
    (void)state;
    lm_describe(&s, 1, 0, 0);
    s.desc.encoder.layers = 2;
    lm_refuse(&s, "lm", leak);
    s.desc.encoder.norm_output = 1;
    lm_refuse(&s, "lm", leak);
    s.desc.encoder.kind = MTL_COLUMN_ATTENTION;
    lm_refuse(&s, "lm", leak);
    s.desc.encoder.kind = MTL_COLUMN_CONV;
    lm_refuse(&s, "lm", leak);
    for (i = 0; i < 4; i++) {                       /* over another column: fine where both read forwards */
        lm_describe(&s, 0, 0, 0);
        s.desc.columns = s.columns;
        s.desc.column_count = 2;
        s.columns[0] = s.columns[1] = s.desc.encoder;
        s.columns[0].name = "low";
        s.columns[1].name = "high";
        s.columns[1].input.from = "low";
        s.columns[0].bidirectional = i & 1;
        s.columns[1].bidirectional = i >> 1;
        if (i) { lm_refuse(&s, "lm", leak); continue; }
        model = mtl_model_create(&s.desc, &s.err);
        TEST_FINE(&s.err);
        mtl_model_destroy(model);
    }
    lm_describe(&s, 1, 0, 0);
    s.tasks[1].tap.from = "encoder+encoder";
    lm_refuse(&s, "lm", leak);
    s.tasks[1].tap.from = "encoder+class";
    lm_refuse(&s, "lm", leak);
}

static void test_lm_errors(void **state)
{
    static const float weights[LM_CLASSES] = { 1 };
    mtl_penalty_desc penalty = {0};
    mtl_model *model;
    lm_setup s;
    (void)state;
    lm_describe(&s, 1, 0, 0);
    s.tasks[1].level = MTL_LEVEL_SEQUENCE;
    lm_refuse(&s, "tasks[1]", "must be step");
    s.tasks[1].classes = 1;
    lm_refuse(&s, "tasks[1]", "must be 2 at least");
    s.tasks[1].classes = LM_WORDS + 1;
    lm_refuse(&s, "lm", "the input text has 40 words");
    s.tasks[1].label_smoothing = 0.1f;
    lm_refuse(&s, "tasks[1]", "label_smoothing is of class tasks");
    s.tasks[1].class_weights = weights;
    lm_refuse(&s, "tasks[1]", "class_weights are not of lm tasks");
    s.tasks[1].hidden[0] = 3;
    lm_refuse(&s, "tasks[1]", "no hidden layers");
    s.tasks[1].loss = MTL_LOSS_MSE;
    lm_refuse(&s, "tasks[1]", "does not fit the task's kind");
    s.tasks[0].tied = 1;
    lm_refuse(&s, "tasks[0]", "tied (task \"class\"): is of language models");
    s.tasks[0].samples = 5;
    lm_refuse(&s, "tasks[0]", "samples (task \"class\"): is of language models");
    s.tasks[1].tied = s.input.padding_zero = 1;
    lm_refuse(&s, "lm", "padding_zero");
    s.tasks[0].tap.from = "lm";
    lm_refuse(&s, "lm", "nothing can read the outputs of task lm");
    s.tasks[0].tap.from = "lm.probabilities";
    lm_refuse(&s, "tasks[0].tap", "only tasks have probabilities");
    penalty.name = "p";
    penalty.kind = MTL_PENALTY_ORTHOGONAL;
    penalty.a = "encoder";
    penalty.b = "lm";
    s.desc.penalties = &penalty;
    s.desc.penalty_count = 1;
    lm_refuse(&s, "lm", "nothing can read the outputs of task lm");
    s.input.vocabulary = 0;
    s.input.features = 3;
    lm_refuse(&s, "lm", "has no input of them");
    s.tasks[1].classes = 0;                                         /* all of the vocabulary */
    model = mtl_model_create(&s.desc, &s.err);
    TEST_FINE(&s.err);
    assert_int_equal(mtl_model_describe(model)->tasks[1].classes, LM_WORDS);
    assert_int_equal(mtl_stream_size(model, NULL, &s.err), 0);
    test_expect_error(&s.err, MTL_ERROR_UNSUPPORTED, "encoder", "cannot be streamed");
    mtl_model_destroy(model);
}

#define TEST_LM \
    cmocka_unit_test(test_lm_is_its_formula), cmocka_unit_test(test_lm_gradients), \
    cmocka_unit_test(test_lm_sampled_rows), cmocka_unit_test(test_lm_draws), \
    cmocka_unit_test(test_lm_sampled_gradient_is_the_whole_one), cmocka_unit_test(test_lm_everywhere), \
    cmocka_unit_test(test_lm_learns), cmocka_unit_test(test_lm_streams), \
    cmocka_unit_test(test_lm_stands_aside), cmocka_unit_test(test_lm_leaks), cmocka_unit_test(test_lm_errors)
