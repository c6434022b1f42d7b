/* >>words, >>nodes: words by their characters, and inputs that look up a part of each word. */

enum { WORDS_CHARACTERS = 11 };

/* An input of characters beside one of words, by filters and both cells in turn; the second column of case 2
   reads the same words' characters through an input of its own. */
static void words_problem(test_problem *p, int number)
{
    static const int widths[3][MTL_MAX_HIDDEN] = { { 0 }, { 1, 5 }, { 12, 2 } };
    static float chances[TEST_VOCABULARY];
    test_shape shape = {0};
    mtl_input_desc *d = &p->inputs[1];
    chances[1] = chances[5] = chances[9] = 0.5f;
    shape.features = 1;
    shape.two_columns = number % 3 == 2;
    shape.missing = 0.2;
    shape.seed = 40 + (unsigned long long)number;
    test_problem_create(p, &shape);
    test_batch_destroy(p->data);
    if (number % 2) p->inputs[0].unknown_chances = chances;
    d->name = "letters";
    d->kind = MTL_INPUT_CHARACTERS;
    d->features = 0;
    d->vocabulary = WORDS_CHARACTERS;
    d->character_width = 1 + number % 7;
    d->filters = number % 4 == 3 ? 300 : 3 + 5 * (number % 5);
    d->speller = number / 3 % 3 == 0 ? MTL_SPELLER_DEFAULT : MTL_SPELLER_CNN + number / 3 % 3;
    d->hidden = 1 + 6 * (number % 5);
    memcpy(d->widths, widths[number % 3], sizeof d->widths);
    if (number % 3 == 2) {
        p->inputs[2] = *d;
        p->inputs[2].name = "again";
        p->inputs[2].reads = "letters";
        p->inputs[2].filters = 4;
        p->inputs[2].hidden = 5;
        p->columns[1].input.from = "low+again";
        p->desc.input_count = 3;
    }
    p->data = test_batch_create(&p->desc, NULL, 6, 8, shape.missing, shape.seed);
    p->batch = &p->data->batch;
}

static mtl_model *words_model(const mtl_model_desc *desc)
{
    mtl_error err = {0};
    mtl_model *model = mtl_model_create(desc, &err);
    TEST_FINE(&err);
    return model;
}

static void test_words_gradients(void **state)
{
    int number;
    (void)state;
    for (number = 0; number < (test_quick() ? 9 : 36); number++) {
        mtl_trainer_desc how = {0};
        test_problem p;
        mtl_model *model;
        char what[64];
        words_problem(&p, number);
        if (number % 6 == 5) p.desc.freeze = "letters.weight,letters.*bias*";
        model = words_model(&p.desc);
        how.isa = gradient_isa(number);
        snprintf(what, sizeof what, "characters, case %d", number);
        model_check(model, &how, p.batch, 1, 1, what);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

/* ---- values -------------------------------------------------------------------------------------------- */

/* What filter f of width w finds in a word: every place of begin, characters, end, and zeros behind them. */
static double words_filter(mtl_model *model, const int *characters, int length, int w, int f)
{
    const mtl_tensor *table = mtl_model_tensor(model, "letters.weight"), *weight, *bias;
    const int filters = mtl_model_describe(model)->inputs[1].filters;
    const size_t width = table->shape[1];
    double most = 0;
    char name[64];
    int p, k;
    size_t c;
    snprintf(name, sizeof name, "letters.width%d.weight", w);
    weight = mtl_model_tensor(model, name);
    snprintf(name, sizeof name, "letters.width%d.bias", w);
    bias = mtl_model_tensor(model, name);
    for (p = 0; p == 0 || p + w <= length + 2; p++) {
        double sum = (double)bias->value[f];
        for (k = 0; k < w && p + k < length + 2; k++) {
            const int at = p + k, row = at == 0 ? 0 : at > length ? 1 : 2 + characters[at - 1];
            for (c = 0; c < width; c++)
                sum += (double)table->value[(size_t)row * width + c]
                    * (double)weight->value[((size_t)k * (size_t)filters + (size_t)f) * width + c];
        }
        if (sum > most) most = sum;
    }
    return most;
}

/* The tensor letters.WHAT_l0, of the second direction letters.WHAT_l0_reverse. */
static const mtl_real *words_tensor(mtl_model *model, const char *what, int reverse)
{
    char name[64];
    snprintf(name, sizeof name, "letters.%s_l0%s", what, reverse ? "_reverse" : "");
    return mtl_model_tensor(model, name)->value;
}

static double words_sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* Gate g of unit u: what comes from the symbol's vector x [C], and from the states h [H]. */
static void words_gate(mtl_model *model, int reverse, int g, int u, const mtl_real *x, size_t width,
                       const double *h, int units, double *from_x, double *from_h)
{
    const size_t row = (size_t)(g * units + u);
    size_t i;
    *from_x = (double)words_tensor(model, "bias_ih", reverse)[row];
    *from_h = (double)words_tensor(model, "bias_hh", reverse)[row];
    for (i = 0; i < width; i++)
        *from_x += (double)words_tensor(model, "weight_ih", reverse)[row * width + i] * (double)x[i];
    for (i = 0; i < (size_t)units; i++)
        *from_h += (double)words_tensor(model, "weight_hh", reverse)[row * (size_t)units + i] * h[i];
}

/* The last state of each unit of the cell that reads the word in a direction, PyTorch's formulas. */
static void words_states(mtl_model *model, const int *characters, int length, int reverse, double *h)
{
    const mtl_tensor *table = mtl_model_tensor(model, "letters.weight");
    const mtl_input_desc *d = &mtl_model_describe(model)->inputs[1];
    double c[64] = {0}, before[64], x[4], y[4];
    int t, u, g;
    for (u = 0; u < d->hidden; u++) h[u] = 0;
    for (t = 0; t < length + 2; t++) {
        const int at = reverse ? length + 1 - t : t;
        const int row = at == 0 ? 0 : at > length ? 1 : 2 + characters[at - 1];
        memcpy(before, h, sizeof before);
        for (u = 0; u < d->hidden; u++) {
            for (g = 0; g < (d->speller == MTL_SPELLER_LSTM ? 4 : 3); g++)
                words_gate(model, reverse, g, u, table->value + (size_t)row * table->shape[1],
                           table->shape[1], before, d->hidden, &x[g], &y[g]);
            if (d->speller == MTL_SPELLER_LSTM) {
                c[u] = words_sigmoid(x[1] + y[1]) * c[u] + words_sigmoid(x[0] + y[0]) * tanh(x[2] + y[2]);
                h[u] = words_sigmoid(x[3] + y[3]) * tanh(c[u]);
            } else {
                const double z = words_sigmoid(x[1] + y[1]);
                h[u] = (1 - z) * tanh(x[2] + words_sigmoid(x[0] + y[0]) * y[2]) + z * before[u];
            }
        }
    }
}

/* The vector of a word, [width]. */
static void words_vector(mtl_model *model, const int *characters, int length, double *to, size_t width)
{
    const mtl_input_desc *d = &mtl_model_describe(model)->inputs[1];
    double h[64];
    size_t j;
    int reverse, u;
    if (d->speller == MTL_SPELLER_CNN) {
        for (j = 0; j < width; j++)
            to[j] = words_filter(model, characters, length, d->widths[j / (size_t)d->filters],
                                 (int)(j % (size_t)d->filters));
        return;
    }
    for (reverse = 0; reverse < 2; reverse++) {
        words_states(model, characters, length, reverse, h);
        for (u = 0; u < d->hidden; u++) to[reverse * d->hidden + u] = h[u];
    }
}

typedef struct words_seen { mtl_real *value; size_t rows, width; const test_batch *batch; } words_seen;

/* Keeps the rows of `letters` in the caller's order. */
static void words_observe(void *user, const mtl_run *run, const mtl_activation *a)
{
    words_seen *seen = (words_seen *)user;
    size_t n;
    if (strcmp(a->name, "letters") != 0) return;
    seen->rows = a->rows;
    seen->width = a->width;
    seen->value = (mtl_real *)malloc(a->rows * a->width * sizeof *a->value);
    assert_non_null(seen->value);
    for (n = 0; n < a->rows; n++)
        memcpy(seen->value + (size_t)run->packing->caller_row[n] * a->width, a->value + n * a->stride,
               a->width * sizeof *a->value);
}

/* Every row that the model's predictor made of `letters` is the word's vector. */
static void words_check_rows(mtl_model *model, const mtl_batch *batch, int isa, const char *what)
{
    mtl_predictor_desc how = {0};
    mtl_prediction out[TEST_TASKS_COUNT];
    mtl_error err = {0};
    words_seen seen = {0};
    const mtl_input *input = &batch->inputs[1];
    mtl_predictor *predictor;
    double expected[1024];
    size_t n, j;
    how.isa = isa;
    predictor = mtl_predictor_create(model, &how, &err);
    mtl_predictor_observe(predictor, words_observe, &seen);
    mtl_predict(predictor, batch, out, &err);
    TEST_FINE(&err);
    assert_true(seen.width <= MTL__COUNT(expected));
    for (n = 0; n < seen.rows; n++) {
        const size_t *begins = input->spellings->begins + input->ids[n];
        words_vector(model, input->spellings->characters + begins[0], (int)(begins[1] - begins[0]), expected,
                     seen.width);
        for (j = 0; j < seen.width; j++)
            if (fabs((double)seen.value[n * seen.width + j] - expected[j])
                > (MTL__REAL_IS_DOUBLE ? 1e-12 : 1e-4))
                fail_msg("%s, %s: row %d, column %d is %g, not %g", what, mtl__isa_name(isa), (int)n, (int)j,
                         (double)seen.value[n * seen.width + j], expected[j]);
    }
    free(seen.value);
    mtl_predictor_destroy(predictor);
}

static void test_words_values(void **state)
{
    int number, isa;
    (void)state;
    for (number = 0; number < 9; number++)
        for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++) {
            test_problem p;
            mtl_model *model;
            char what[64];
            if (!mtl__kernels_choose(isa)) continue;
            words_problem(&p, number);
            model = words_model(&p.desc);
            snprintf(what, sizeof what, "case %d", number);
            words_check_rows(model, p.batch, isa, what);
            mtl_model_destroy(model);
            test_problem_destroy(&p);
        }
}

/* Words of no character, of one and of 300 in one batch, by filters and by cells; longer ones than a limit
   lets them be are refused by name. */
static void test_words_of_any_length(void **state)
{
    enum { LONG = 300 };
    static int characters[LONG + 1];
    static const size_t begins[] = { 0, 0, 1, LONG + 1 };
    int number, i;
    (void)state;
    for (i = 0; i < LONG + 1; i++) characters[i] = i * i % WORDS_CHARACTERS;
    for (number = 0; number < 9; number += 3) {
        mtl_predictor_desc how = {0};
        mtl_prediction out[TEST_TASKS_COUNT];
        mtl_predictor *predictor;
        mtl_spellings all;
        mtl_error err = {0};
        test_problem p;
        mtl_model *model;
        words_problem(&p, number);
        model = words_model(&p.desc);
        all.count = 3, all.begins = begins, all.characters = characters;
        p.data->inputs[1].spellings = &all;
        for (i = 0; i < (int)p.data->rows; i++) ((int *)(uintptr_t)p.data->inputs[1].ids)[i] = i % 3;
        words_check_rows(model, p.batch, MTL_ISA_AUTO, "long words");
        p.data->batch.sequences = 1;
        p.data->lengths[0] = 3;
        how.max_rows = 3;
        predictor = mtl_predictor_create(model, &how, &err);
        mtl_predict(predictor, p.batch, out, &err);
        if (number) test_expect_error(&err, MTL_ERROR_LIMIT, "letters", "they may have 102");
        else TEST_FINE(&err);
        mtl_predictor_destroy(predictor);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

static void test_words_exact_sizes(void **state)
{
    int number, i;
    (void)state;
    for (number = 0; number < (test_quick() ? 9 : 18); number++) {
        mtl_trainer_desc training = {0};
        mtl_predictor_desc predicting = {0};
        mtl_error err = {0};
        arena_case c;
        memset(&c, 0, sizeof c);
        words_problem(&c.problem, number);
        c.rows = 5 + number * 7 % 60;
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

static void test_words_same_bits_for_threads(void **state)
{
    int number, threads;
    (void)state;
    for (number = 0; number < 9; number++) {
        threads_result one;
        test_problem p;
        words_problem(&p, number);
        one = threads_train(&p, 1, NULL, 1 + number % 4);
        for (threads = 2; threads <= 3; threads++) threads_expect_same(&p, &one, 1 + number % 4, threads,
                                                                       NULL);
        free(one.weights);
        free(one.outputs);
        test_problem_destroy(&p);
    }
}

/* ---- text ---------------------------------------------------------------------------------------------- */

static const char *const words_known[] = { "<unk>", "play", "Jazz" };
static const char *const words_letters[] = { "<unk>", "a", "l", "p", "y", "z", "\xc3\xa9" };
static const char *const words_ends[] = { "<unk>", "ay", "zz" };
static const char *const words_shapes[] = { "<unk>", "xx", "Xxx" };

enum { WORDS_INPUTS = 4 };

/* A model of text that reads words, characters, last two letters and shapes, and knows one task of steps. */
static mtl_model *words_text_model(void)
{
    static mtl_input_desc inputs[WORDS_INPUTS];
    mtl_task_desc task = {0};
    mtl_model_desc desc = {0};
    mtl_error err = {0};
    mtl_model *model;
    memset(inputs, 0, sizeof inputs);
    inputs[0].name = "text", inputs[0].words = words_known, inputs[0].vocabulary = 3;
    inputs[1].name = "letters", inputs[1].words = words_letters, inputs[1].vocabulary = 7;
    inputs[1].kind = MTL_INPUT_CHARACTERS, inputs[1].lowercase = 1;
    inputs[2].name = "ends", inputs[2].words = words_ends, inputs[2].vocabulary = 3;
    inputs[2].part = MTL_PART_SUFFIX, inputs[2].letters = 2;
    inputs[3].name = "shapes", inputs[3].words = words_shapes, inputs[3].vocabulary = 3;
    inputs[3].part = MTL_PART_SHAPE;
    task.name = "tags", task.level = MTL_LEVEL_STEP, task.classes = 3;
    desc.inputs = inputs, desc.input_count = WORDS_INPUTS, desc.tasks = &task, desc.task_count = 1;
    model = mtl_model_create(&desc, &err);
    TEST_FINE(&err);
    return model;
}

/* A text's answers are those of the ids and characters that a program gives itself: words that the model
   does not know are told apart by their characters, and a model that was written and read reads alike. */
static void test_words_of_a_text(void **state)
{
    static const int ids[4][3] = { { 1, 0, 0 }, { 0, 1, 2 }, { 1, 0, 2 }, { 1, 0, 2 } };
    static const int characters[] = { 3, 2, 1, 4, 3, 6, 4, 0, 1, 5, 5 }, lengths[] = { 3 };
    static const size_t begins[] = { 0, 4, 7, 11 };
    static const char text[] = "play  p\xc3\x89y Razz";
    char long_text[98];
    mtl_spellings spellings;
    mtl_input inputs[WORDS_INPUTS];
    mtl_batch batch = {0};
    mtl_model *model[2];
    mtl_real first[9];
    mtl_error err = {0};
    test_file file = {0};
    mtl_writer writer = test_file_writer(&file);
    mtl_reader reader;
    int i;
    (void)state;
    memset(long_text, 'a', sizeof long_text);
    long_text[97] = '\0';
    model[0] = words_text_model();
    mtl_model_write(model[0], NULL, &writer, &err);
    reader = test_file_reader(&file);
    model[1] = mtl_model_read(&reader, &err);
    TEST_FINE(&err);
    memset(inputs, 0, sizeof inputs);
    spellings.count = 3, spellings.begins = begins, spellings.characters = characters;
    for (i = 0; i < WORDS_INPUTS; i++) inputs[i].ids = ids[i];
    inputs[1].spellings = &spellings;
    batch.sequences = 1, batch.lengths = lengths, batch.inputs = inputs;
    for (i = 0; i < 2; i++) {
        mtl_predictor_desc how = {0};
        mtl_predictor *predictor;
        mtl_prediction out;
        size_t tokens = 0;
        how.max_rows = 3;
        predictor = mtl_predictor_create(model[i], &how, &err);
        mtl_predict(predictor, &batch, &out, &err);
        TEST_FINE(&err);
        if (!i) memcpy(first, out.probabilities, sizeof first);
        assert_memory_equal(first, out.probabilities, sizeof first);
        mtl_predict_text(predictor, text, &out, &tokens, &err);
        TEST_FINE(&err);
        assert_int_equal(tokens, 3);
        assert_memory_equal(first, out.probabilities, sizeof first);
        mtl_predict_text(predictor, long_text, &out, NULL, &err);
        test_expect_error(&err, MTL_ERROR_LIMIT, "text", "max_rows of 3");
        mtl_predictor_destroy(predictor);
        mtl_model_destroy(model[i]);
    }
    free(file.bytes);
}

/* Tokens beside the words: two inputs read one name, a third another; answers are those of ids, and texts
   that are missing, too many or too short are refused by name. */
static void test_words_tokens_beside(void **state)
{
    static const char *const tags[] = { "<unk>", "NN", "VB" };
    static const int ids[5][3] = { { 1, 0, 2 }, { 2, 0, 1 }, { 2, 0, 1 }, { 1, 2, 0 }, { 1, 0, 2 } };
    static const char *const texts[4] = { "play it Jazz", "VB _ NN", "NN  VB XX", "more" };
    static const int lengths[] = { 3 };
    mtl_input_desc inputs[5];
    mtl_input data[4];
    mtl_task_desc task = {0};
    mtl_model_desc desc = {0};
    mtl_batch batch = {0};
    mtl_prediction out;
    mtl_real first[9];
    mtl_error err = {0};
    mtl_predictor *predictor;
    mtl_model *model;
    size_t tokens = 0, i;
    (void)state;
    memset(inputs, 0, sizeof inputs);
    memset(data, 0, sizeof data);
    for (i = 0; i < 5; i++) {
        static const char *const names[] = { "text", "upos", "again", "xpos", "shared" };
        inputs[i].name = names[i];
        inputs[i].words = i && i < 4 ? tags : i ? NULL : words_known;
        inputs[i].vocabulary = 3;
        if (i < 4) data[i].ids = ids[i];
    }
    inputs[1].tokens = inputs[2].tokens = "upos", inputs[3].tokens = "xpos", inputs[4].reads = "text";
    task.name = "tags", task.level = MTL_LEVEL_STEP, task.classes = 3;
    desc.inputs = inputs, desc.input_count = 5, desc.tasks = &task, desc.task_count = 1;
    model = mtl_model_create(&desc, &err);
    predictor = mtl_predictor_create(model, NULL, &err);
    batch.sequences = 1, batch.lengths = lengths, batch.inputs = data;
    mtl_predict(predictor, &batch, &out, &err);
    TEST_FINE(&err);
    memcpy(first, out.probabilities, sizeof first);
    assert_string_equal(mtl_model_tokens(model, 0), "upos");
    assert_string_equal(mtl_model_tokens(model, 1), "xpos");
    assert_null(mtl_model_tokens(model, 2));
    mtl_predict_texts(predictor, texts, 3, &out, &tokens, &err);
    TEST_FINE(&err);
    assert_int_equal(tokens, 3);
    assert_memory_equal(first, out.probabilities, sizeof first);
    mtl_predict_text(predictor, texts[0], &out, NULL, &err);
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "upos", "mtl_predict_texts as text 1");
    mtl_predict_texts(predictor, texts, 4, &out, NULL, &err);
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "count", "4 texts, of which the model reads 3");
    mtl_predict_texts(predictor, texts + 1, 3, &out, NULL, &err);
    test_expect_error(&err, MTL_ERROR_TEXT, "xpos", "has 1 tokens, the text 3 words");
    mtl_predictor_destroy(predictor);
    mtl_model_destroy(model);
    inputs[3].features = 2, inputs[3].vocabulary = 0, inputs[3].words = NULL;
    assert_null(mtl_model_create(&desc, &err));
    test_expect_error(&err, MTL_ERROR_FIELD, "inputs[3]", "inputs[3].tokens");
}

static void words_expect_part(int part, int letters, int lowercase, const char *word, const char *expected)
{
    mtl_input_desc d = {0};
    char out[80];
    d.part = part, d.letters = letters, d.lowercase = lowercase;
    assert_int_equal(mtl_text_part(&d, word, strlen(word), out, sizeof out), strlen(expected));
    assert_string_equal(out, expected);
}

static void test_words_parts(void **state)
{
    (void)state;
    words_expect_part(0, 0, 0, "Word", "Word");
    words_expect_part(MTL_PART_WORD, 2, 1, "Word", "word");
    words_expect_part(MTL_PART_PREFIX, 2, 0, "Word", "Wo");
    words_expect_part(MTL_PART_PREFIX, 3, 1, "W\xc3\x89it", "w\xc3\xa9i");
    words_expect_part(MTL_PART_PREFIX, 0, 0, "Word", "Wor");
    words_expect_part(MTL_PART_SUFFIX, 2, 0, "nai\xc3\xa9", "i\xc3\xa9");
    words_expect_part(MTL_PART_SUFFIX, 3, 0, "ab", "ab");
    words_expect_part(MTL_PART_SUFFIX, 3, 0, "", "");
    words_expect_part(MTL_PART_SHAPE, 0, 0, "Ah-64D", "Xx-ddX");
    words_expect_part(MTL_PART_SHAPE, 0, 0, "\xc3\x89t\xc3\xa9ssss", "Xxx");
    words_expect_part(MTL_PART_SHAPE, 0, 0, "USA...", "XX..");
}

/* Words become unknown with the chances that they have: rows of those that always do have no gradient, and
   the unknown word's has one. */
static void test_words_unknown_chances(void **state)
{
    float chances[TEST_VOCABULARY] = {0};
    mtl_trainer *trainer;
    mtl_error err = {0};
    test_problem p;
    mtl_model *model;
    const mtl_gradient *g;
    size_t i;
    int *ids, k;
    (void)state;
    words_problem(&p, 0);
    for (k = 1; k < TEST_VOCABULARY; k += 2) chances[k] = 1;
    p.inputs[0].unknown_chances = chances;
    ids = test_ids(p.data);
    for (i = 0; i < p.data->rows; i++) ids[i] = 1 + (int)i % 4;
    model = words_model(&p.desc);
    trainer = mtl_trainer_create(model, NULL, &err);
    mtl_train_gradients(trainer, p.batch, 1, NULL, &err);
    TEST_FINE(&err);
    g = mtl_gradients_get(mtl_trainer_gradients(trainer), mtl_model_tensor(model, "words.weight"));
    assert_int_equal(g->row_count, 3);
    assert_true(g->rows[0] == 0 && g->rows[1] == 2 && g->rows[2] == 4);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    chances[2] = 1.5f;
    assert_null(mtl_model_create(&p.desc, &err));
    test_expect_error(&err, MTL_ERROR_FIELD, "inputs[0]", "unknown_chances[2]");
    test_problem_destroy(&p);
}

/* ---- what is refused ----------------------------------------------------------------------------------- */

static void words_refuse(mtl_input_desc input, const char *name, const char *part)
{
    mtl_input_desc inputs[2];
    mtl_task_desc task = {0};
    mtl_model_desc desc = {0};
    mtl_error err = {0};
    memset(inputs, 0, sizeof inputs);
    inputs[0].name = "text", inputs[0].vocabulary = 7;
    input.name = "letters";
    inputs[1] = input;
    task.name = "task", task.classes = 2;
    desc.inputs = inputs, desc.input_count = 2, desc.tasks = &task, desc.task_count = 1;
    assert_null(mtl_model_create(&desc, &err));
    test_expect_error(&err, MTL_ERROR_FIELD, name, part);
}

static void test_words_refused_descs(void **state)
{
    mtl_input_desc input = {0};
    (void)state;
    input.kind = MTL_INPUT_CHARACTERS;
    input.features = 4;
    words_refuse(input, "inputs[1]", "inputs[1].vocabulary");
    input.features = 0;
    input.vocabulary = 7;
    input.scale = 2;
    words_refuse(input, "inputs[1]", "inputs[1].scale");
    input.scale = 0;
    input.padding_zero = 1;
    words_refuse(input, "inputs[1]", "inputs[1].padding_zero");
    input.padding_zero = 0;
    input.widths[0] = input.widths[1] = 3;
    words_refuse(input, "inputs[1]", "3 stands twice");
    input.widths[1] = 65;
    words_refuse(input, "inputs[1].widths", "64");
    input.widths[1] = 2;
    input.reads = "text";
    words_refuse(input, "inputs[1]", "no input \"text\"");
}

static void test_words_refused_batches(void **state)
{
    mtl_predictor_desc how = {0};
    mtl_prediction out[TEST_TASKS_COUNT];
    mtl_predictor *predictor;
    mtl_error err = {0};
    mtl_spellings spoilt;
    const mtl_spellings *all;
    test_problem p;
    mtl_model *model;
    mtl_input *input;
    int *characters;
    (void)state;
    words_problem(&p, 0);
    model = words_model(&p.desc);
    input = &p.data->inputs[1];
    all = input->spellings;
    predictor = mtl_predictor_create(model, NULL, &err);
    input->spellings = NULL;
    mtl_predict(predictor, p.batch, out, &err);
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "letters", "spellings is NULL");
    spoilt = *all;
    spoilt.count = (size_t)input->ids[1];
    input->spellings = &spoilt;
    mtl_predict(predictor, p.batch, out, &err);
    if (spoilt.count) test_expect_error(&err, MTL_ERROR_RANGE, "letters", "none of the");
    characters = (int *)(uintptr_t)(all->characters + all->begins[input->ids[2]]);
    input->spellings = all;
    *characters = WORDS_CHARACTERS;
    mtl_error_clear(&err);
    mtl_predict(predictor, p.batch, out, &err);
    test_expect_error(&err, MTL_ERROR_RANGE, "letters", "character 11 of the word of sequence");
    mtl_predictor_destroy(predictor);
    how.skip_bad = 1;
    predictor = mtl_predictor_create(model, &how, &err);
    mtl_predict(predictor, p.batch, out, &err);
    TEST_FINE(&err);
    assert_int_equal(mtl_stream_size(model, NULL, &err), 0);
    test_expect_error(&err, MTL_ERROR_UNSUPPORTED, "letters", "cannot be streamed");
    mtl_predictor_destroy(predictor);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

#define TEST_WORDS \
    cmocka_unit_test(test_words_gradients), cmocka_unit_test(test_words_values), \
    cmocka_unit_test(test_words_of_any_length), \
    cmocka_unit_test(test_words_exact_sizes), cmocka_unit_test(test_words_same_bits_for_threads), \
    cmocka_unit_test(test_words_of_a_text), cmocka_unit_test(test_words_parts), \
    cmocka_unit_test(test_words_unknown_chances), cmocka_unit_test(test_words_tokens_beside), \
    cmocka_unit_test(test_words_refused_descs), cmocka_unit_test(test_words_refused_batches)
