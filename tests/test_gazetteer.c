/* >>words, >>nodes: gazetteers, inputs that look for phrases of known types. */

enum { GAZETTEER_WORDS = 6, GAZETTEER_PHRASES = 40, GAZETTEER_TYPES = 3 };

/* Few words and many phrases of them, so that they nest and overlap; texts of the desc live as long as it. */
typedef struct gazetteer_problem {
    test_problem p;
    char words[TEST_VOCABULARY][8], phrases[GAZETTEER_PHRASES][40];
    const char *word[TEST_VOCABULARY], *phrase[GAZETTEER_PHRASES];
    float uses[GAZETTEER_PHRASES];
} gazetteer_problem;

static void gazetteer_create(gazetteer_problem *g, int number)
{
    test_shape shape = {0};
    test_random r = test_random_from((unsigned long long)number + 70);
    mtl_input_desc *d = &g->p.inputs[1];
    int *ids, *labels;
    int i, k;
    shape.two_columns = number % 3 == 2;
    shape.missing = 0.2;
    shape.sequences = 7;
    shape.longest = 9;
    shape.seed = 30 + (unsigned long long)number;
    test_problem_create(&g->p, &shape);
    for (i = 0; i < TEST_VOCABULARY; i++) {
        snprintf(g->words[i], sizeof g->words[i], i ? "W%d" : "<unk>", i);
        g->word[i] = g->words[i];
    }
    for (i = 0; i < GAZETTEER_PHRASES; i++) {
        int used = snprintf(g->phrases[i], sizeof g->phrases[i], "%c\t", "abc"[i % GAZETTEER_TYPES]);
        const int words = test_random_between(&r, 1, 3);
        for (k = 0; k < words; k++)         /* one word is in no vocabulary */
            used += snprintf(g->phrases[i] + used, sizeof g->phrases[i] - (size_t)used, "%sW%d", k ? " " : "",
                             i % 13 == 12 ? 99 : test_random_between(&r, 1, GAZETTEER_WORDS - 1));
        g->phrase[i] = g->phrases[i];
        g->uses[i] = (float)test_random_between(&r, 0, 2);
    }
    g->p.inputs[0].words = g->word;
    d->name = "phrases", d->features = 0, d->kind = MTL_INPUT_GAZETTEER, d->reads = "words";
    d->vocabulary = TEST_VOCABULARY, d->width = 1 + number % 7;
    d->phrases = g->phrase, d->phrase_uses = g->uses, d->phrase_count = GAZETTEER_PHRASES;
    g->p.desc.input_count = 2;
    ids = test_ids(g->p.data);
    labels = test_labels(g->p.data, TEST_TAGS);
    for (i = 0; i < (int)g->p.data->rows; i++) {
        ids[i] %= GAZETTEER_WORDS;
        if (number % 2 && labels[i] >= 0) labels[i] = 1 + labels[i] % 2;    /* B-a, I-a: many gold spans */
    }
}

/* 1 when `count` ids are the words of phrase i. */
static int gazetteer_equals(const gazetteer_problem *g, int i, const int *ids, size_t count)
{
    char text[64];
    size_t n;
    int used = snprintf(text, sizeof text, "%c", g->phrases[i][0]);
    for (n = 0; n < count; n++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%s%s", n ? " " : "\t", g->words[ids[n]]);
    return strcmp(text, g->phrases[i]) == 0;
}

/* Uses of phrase i, of all that are the same. */
static float gazetteer_uses(const gazetteer_problem *g, int i)
{
    float sum = 0;
    int k;
    for (k = 0; k < GAZETTEER_PHRASES; k++)
        if (strcmp(g->phrases[k], g->phrases[i]) == 0) sum += g->uses[k];
    return sum;
}

/* 1 when steps [first, end) of a sequence of so many steps are a span of the type among its labels. */
static int gazetteer_is_span(const gazetteer_problem *g, const int *labels, size_t steps, size_t first,
                             size_t end, const char *type)
{
    const char *tags[16];
    mtl_span spans[16];
    size_t n, count;
    for (n = 0; n < steps; n++) tags[n] = labels[n] < 0 ? "O" : g->p.tasks[TEST_TAGS].labels[labels[n]];
    count = mtl_spans(tags, steps, spans, 16);
    for (n = 0; n < count; n++)
        if (spans[n].begin == first && spans[n].end == end && strcmp(spans[n].type, type) == 0) return 1;
    return 0;
}

/* m [N][2 * types] by comparing every run of words with every phrase. hides: as in training. */
static double *gazetteer_expect(const gazetteer_problem *g, int hides)
{
    const test_batch *b = g->p.data;
    double *m = (double *)calloc(b->rows * 2 * GAZETTEER_TYPES, sizeof *m);
    size_t s, row = 0, first, end, n;
    int i;
    assert_non_null(m);
    for (s = 0; s < b->batch.sequences; row += (size_t)b->lengths[s++])
        for (first = 0; first < (size_t)b->lengths[s]; first++)
            for (end = first + 1; end <= (size_t)b->lengths[s]; end++)
                for (i = 0; i < GAZETTEER_PHRASES; i++) {
                    const char type[2] = { g->phrases[i][0], '\0' };
                    if (!gazetteer_equals(g, i, b->inputs[0].ids + row + first, end - first)) continue;
                    if (hides && gazetteer_uses(g, i) == 1
                        && gazetteer_is_span(g, b->targets[TEST_TAGS].labels + row, (size_t)b->lengths[s],
                                             first, end, type)) continue;
                    for (n = first; n < end; n++)
                        m[(row + n) * 2 * GAZETTEER_TYPES + 2 * (size_t)(type[0] - 'a') + (n > first)] = 1;
                }
    return m;
}

typedef struct gazetteer_seen { mtl_real *value; size_t rows, width; } gazetteer_seen;

/* Keeps the rows of `phrases` in the caller's order. */
static void gazetteer_observe(void *user, const mtl_run *run, const mtl_activation *a)
{
    gazetteer_seen *seen = (gazetteer_seen *)user;
    size_t n;
    if (strcmp(a->name, "phrases") != 0) return;
    free(seen->value);
    seen->rows = a->rows;
    seen->width = a->width;
    seen->value = (mtl_real *)malloc(a->rows * a->width * sizeof *a->value);
    assert_non_null(seen->value);
    for (n = 0; n < a->rows; n++)
        memcpy(seen->value + (size_t)run->packing->caller_row[n] * a->width, a->value + n * a->stride,
               a->width * sizeof *a->value);
}

/* What was seen is tanh(W m + b). */
static void gazetteer_expect_seen(mtl_model *model, const gazetteer_seen *seen, const double *m,
                                  const char *what, int number)
{
    const mtl_tensor *weight = mtl_model_tensor(model, "phrases.weight");
    const mtl_tensor *bias = mtl_model_tensor(model, "phrases.bias");
    size_t n, j, k;
    assert_int_equal(weight->shape[1], 2 * GAZETTEER_TYPES);
    for (n = 0; n < seen->rows; n++)
        for (j = 0; j < seen->width; j++) {
            double sum = (double)bias->value[j];
            for (k = 0; k < 2 * GAZETTEER_TYPES; k++)
                sum += (double)weight->value[j * 2 * GAZETTEER_TYPES + k] * m[n * 2 * GAZETTEER_TYPES + k];
            if (fabs((double)seen->value[n * seen->width + j] - tanh(sum)) > (MTL__REAL_IS_DOUBLE ? 1e-12
                                                                                                  : 1e-5))
                fail_msg("%s, case %d: row %d, column %d is %g, not %g", what, number, (int)n, (int)j,
                         (double)seen->value[n * seen->width + j], tanh(sum));
        }
}

static void test_gazetteer_values(void **state)
{
    int number, hidden = 0;
    (void)state;
    for (number = 0; number < 8; number++) {
        gazetteer_problem g;
        gazetteer_seen seen = {0};
        mtl_prediction out[TEST_TASKS_COUNT];
        mtl_error err = {0};
        mtl_model *model;
        mtl_predictor *predictor;
        mtl_trainer *trainer;
        double *all, *some;
        size_t i;
        gazetteer_create(&g, number);
        g.p.inputs[1].ignore = MTL_ZERO;
        model = words_model(&g.p.desc);
        predictor = mtl_predictor_create(model, NULL, &err);
        mtl_predictor_observe(predictor, gazetteer_observe, &seen);
        mtl_predict(predictor, g.p.batch, out, &err);
        TEST_FINE(&err);
        all = gazetteer_expect(&g, 0);
        gazetteer_expect_seen(model, &seen, all, "predicting", number);
        trainer = mtl_trainer_create(model, NULL, &err);
        mtl_trainer_observe(trainer, gazetteer_observe, &seen);
        mtl_train_gradients(trainer, g.p.batch, 1, NULL, &err);
        TEST_FINE(&err);
        some = gazetteer_expect(&g, 1);
        gazetteer_expect_seen(model, &seen, some, "training", number);
        for (i = 0; i < g.p.data->rows * 2 * GAZETTEER_TYPES; i++) hidden += all[i] != some[i];
        free(all);
        free(some);
        free(seen.value);
        mtl_predictor_destroy(predictor);
        mtl_trainer_destroy(trainer);
        mtl_model_destroy(model);
        test_problem_destroy(&g.p);
    }
    assert_true(hidden > 10);
}

static void test_gazetteer_gradients(void **state)
{
    int number;
    (void)state;
    for (number = 0; number < (test_quick() ? 3 : 8); number++) {
        mtl_trainer_desc how = {0};
        gazetteer_problem g;
        mtl_model *model;
        char what[64];
        gazetteer_create(&g, number);
        if (number % 3 == 1) g.p.inputs[1].dropout = 0.3f;
        if (number % 4 == 3) how.rdrop = 1;
        model = words_model(&g.p.desc);
        how.isa = gradient_isa(number);
        snprintf(what, sizeof what, "gazetteer, case %d", number);
        model_check(model, &how, g.p.batch, 1, 1, what);
        mtl_model_destroy(model);
        test_problem_destroy(&g.p);
    }
}

/* Trains a model of one phrase of one word, which all steps are, and tells the share of steps where it fires.
   A step that fires is one whose row is not that of the biases alone. */
static double gazetteer_share(float ignore, int steps)
{
    gazetteer_problem g;
    gazetteer_seen seen = {0};
    mtl_error err = {0};
    mtl_model *model;
    mtl_trainer *trainer;
    int *ids, i, fired = 0, all = 0;
    size_t n;
    gazetteer_create(&g, 0);
    g.p.inputs[1].phrase_count = 1;
    g.phrase[0] = "a\tW1";
    g.uses[0] = 2;
    g.p.inputs[1].ignore = ignore;
    ids = test_ids(g.p.data);
    for (n = 0; n < g.p.data->rows; n++) ids[n] = 1;
    model = words_model(&g.p.desc);
    trainer = mtl_trainer_create(model, NULL, &err);
    mtl_trainer_observe(trainer, gazetteer_observe, &seen);
    for (i = 0; i < steps; i++) {
        const mtl_real bias = mtl_model_tensor(model, "phrases.bias")->value[0];
        mtl_train_step(trainer, g.p.batch, 1, NULL, &err);
        TEST_FINE(&err);
        for (n = 0; n < seen.rows; n++, all++)
            fired += fabs((double)seen.value[n * seen.width] - tanh((double)bias)) > 1e-5;
    }
    free(seen.value);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    test_problem_destroy(&g.p);
    return (double)fired / all;
}

static void test_gazetteer_ignores(void **state)
{
    (void)state;
    assert_true(fabs(gazetteer_share(0, 40) - 0.8) < 0.05);     /* the default */
    assert_true(fabs(gazetteer_share(0.5f, 40) - 0.5) < 0.05);
    assert_true(gazetteer_share(MTL_ZERO, 2) == 1);
}

static void test_gazetteer_exact_sizes(void **state)
{
    int number, i;
    (void)state;
    for (number = 0; number < (test_quick() ? 2 : 6); number++) {
        mtl_trainer_desc training = {0};
        mtl_predictor_desc predicting = {0};
        mtl_error err = {0};
        gazetteer_problem g;
        arena_case c;
        memset(&c, 0, sizeof c);
        gazetteer_create(&g, number);
        c.problem = g.p;
        c.problem.desc.inputs = c.problem.inputs;
        c.problem.desc.tasks = c.problem.tasks;
        c.problem.desc.columns = c.problem.columns;
        c.rows = 5 + number * 17 % 60;
        c.sequences = 1 + c.rows / 2;
        c.steps = c.rows;
        training.max_rows = predicting.max_rows = (size_t)c.rows;
        training.max_sequences = predicting.max_sequences = (size_t)c.sequences;
        training.threads = predicting.threads = number % 4 == 3 ? 3 : 1;
        arena_case_model(&c, &err);
        arena_case_train(&c, &training, &err);
        arena_case_predict(&c, &predicting, &err);
        mtl_model_destroy(c.model);
        for (i = 0; i < 3; i++) free(c.memory[i]);
        test_problem_destroy(&c.problem);
    }
}

static void test_gazetteer_same_bits_for_threads(void **state)
{
    int number, threads;
    (void)state;
    for (number = 0; number < (test_quick() ? 2 : 6); number++) {
        threads_result one;
        gazetteer_problem g;
        gazetteer_create(&g, number);
        one = threads_train(&g.p, 1, NULL, 1 + number % 4);
        for (threads = 2; threads <= 3; threads++)
            threads_expect_same(&g.p, &one, 1 + number % 4, threads, NULL);
        free(one.weights);
        free(one.outputs);
        test_problem_destroy(&g.p);
    }
}

/* A model of text, written and read again, finds its phrases in a text, whose words are normalised as the
   input's are: answers differ from those where no phrase is. */
static void test_gazetteer_of_a_text(void **state)
{
    static const char *const words[] = { "<unk>", "new", "york", "in" };
    static const char *const phrases[] = { "city\tNew  York", "city\tNew York" };
    mtl_input_desc inputs[2] = {{0}};
    mtl_task_desc task = {0};
    mtl_model_desc desc = {0};
    mtl_error err = {0};
    test_file file = {0};
    mtl_writer writer = test_file_writer(&file);
    mtl_reader reader;
    mtl_model *model[2];
    mtl_real first[8];
    gazetteer_seen seen = {0};
    int i, k;
    (void)state;
    inputs[0].name = "text", inputs[0].words = words, inputs[0].vocabulary = 4, inputs[0].lowercase = 1;
    inputs[1].name = "phrases", inputs[1].kind = MTL_INPUT_GAZETTEER, inputs[1].reads = "text";
    inputs[1].vocabulary = 4, inputs[1].width = 1, inputs[1].phrases = phrases, inputs[1].phrase_count = 1;
    task.name = "tags", task.level = MTL_LEVEL_STEP, task.classes = 2;
    desc.inputs = inputs, desc.input_count = 2, desc.tasks = &task, desc.task_count = 1;
    assert_null(mtl_model_create(&desc, &err));
    test_expect_error(&err, MTL_ERROR_FIELD, "inputs[1]", "New  York");
    mtl_error_clear(&err);
    inputs[1].phrases = phrases + 1;
    model[0] = words_model(&desc);
    mtl_model_write(model[0], NULL, &writer, &err);
    reader = test_file_reader(&file);
    model[1] = mtl_model_read(&reader, &err);
    TEST_FINE(&err);
    for (i = 0; i < 2; i++) {
        mtl_predictor *predictor = mtl_predictor_create(model[i], NULL, &err);
        mtl_prediction out;
        mtl_predictor_observe(predictor, gazetteer_observe, &seen);
        mtl_predict_text(predictor, "in NEW york new", &out, NULL, &err);
        TEST_FINE(&err);
        if (!i) memcpy(first, out.probabilities, sizeof first);
        assert_memory_equal(first, out.probabilities, sizeof first);
        for (k = 0; k < 4; k++)
            assert_int_equal(seen.value[k] == seen.value[0], k == 0 || k == 3);
        assert_true(seen.value[1] != seen.value[2]);
        mtl_predictor_destroy(predictor);
        mtl_model_destroy(model[i]);
    }
    free(seen.value);
    free(file.bytes);
}

static void gazetteer_refuse(gazetteer_problem *g, const char *name, const char *part)
{
    mtl_error err = {0};
    assert_null(mtl_model_create(&g->p.desc, &err));
    test_expect_error(&err, MTL_ERROR_FIELD, name, part);
}

static void test_gazetteer_refused(void **state)
{
    static const char *const bad[] = { "a", "\tW1", "a\t", "a\tW1 ", "a\t W1", "a\tW1  W2", "a\tW1\tW2" };
    gazetteer_problem g;
    mtl_input_desc *d = &g.p.inputs[1];
    mtl_error err = {0};
    mtl_model *model;
    size_t i;
    (void)state;
    gazetteer_create(&g, 1);
    model = words_model(&g.p.desc);
    assert_int_equal(mtl_stream_size(model, NULL, &err), 0);
    test_expect_error(&err, MTL_ERROR_UNSUPPORTED, "phrases", "cannot be streamed");
    mtl_model_destroy(model);
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        g.phrase[3] = bad[i];
        gazetteer_refuse(&g, "inputs[1]", "phrases[3]");
    }
    g.phrase[3] = g.phrases[3];
    g.uses[2] = -1;
    gazetteer_refuse(&g, "inputs[1]", "phrase_uses[2]");
    g.uses[2] = 1;
    d->ignore = 1;
    gazetteer_refuse(&g, "inputs[1].ignore", "0.99");
    d->ignore = 0;
    d->phrase_count = 0;
    gazetteer_refuse(&g, "inputs[1]", "needs one at least");
    d->phrase_count = GAZETTEER_PHRASES;
    d->scale = 2;
    gazetteer_refuse(&g, "inputs[1]", "inputs[1].scale");
    d->scale = 0;
    d->reads = "nothing";
    gazetteer_refuse(&g, "inputs[1]", "inputs[1].reads");
    d->reads = "words";
    d->kind = MTL_INPUT_EMBEDDING;
    gazetteer_refuse(&g, "inputs[1]", "inputs[1].phrases");
    d->kind = MTL_INPUT_GAZETTEER;
    g.p.inputs[0].words = NULL;
    gazetteer_refuse(&g, "phrases", "the input words");
    test_problem_destroy(&g.p);
}

#define TEST_GAZETTEER \
    cmocka_unit_test(test_gazetteer_values), cmocka_unit_test(test_gazetteer_gradients), \
    cmocka_unit_test(test_gazetteer_ignores), cmocka_unit_test(test_gazetteer_exact_sizes), \
    cmocka_unit_test(test_gazetteer_same_bits_for_threads), cmocka_unit_test(test_gazetteer_of_a_text), \
    cmocka_unit_test(test_gazetteer_refused)
