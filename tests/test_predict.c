/* Section 21: predictors: shared models, texts, carried states, chunks, memory. */

static void test_predict_probabilities(void **state)
{
    test_random r = test_random_from(8);
    int number, cases = test_cases(30);
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = test_shape_random(number, &r);
        mtl_error err = {0};
        mtl_prediction out[TEST_TASKS_COUNT];
        test_problem p;
        mtl_model *model;
        mtl_predictor *predictor;
        size_t k, i, j;
        test_problem_create(&p, &shape);
        model = mtl_model_create(&p.desc, &err);
        predictor = mtl_predictor_create(model, NULL, &err);
        mtl_predict(predictor, p.batch, out, &err);
        TEST_FINE(&err);
        for (k = 0; k < TEST_TASKS_COUNT; k++) {
            const mtl_task_desc *t = &p.desc.tasks[k];
            int is_class = t->kind == MTL_TASK_CLASS, is_set = t->kind == MTL_TASK_MULTI;
            assert_int_equal(out[k].items, t->level == MTL_LEVEL_STEP ? p.data->rows : p.batch->sequences);
            assert_int_equal(out[k].width, t->classes ? t->classes : t->width ? t->width : 1);
            assert_int_equal(out[k].labels != NULL, is_class);
            assert_int_equal(out[k].probabilities != NULL, is_class || is_set);
            assert_int_equal(out[k].values != NULL, !is_class && !is_set);
            assert_int_equal(out[k].chosen != NULL, is_set);
            for (i = 0; is_set && i < out[k].items * out[k].width; i++) {
                assert_true(out[k].probabilities[i] > 0 && out[k].probabilities[i] < 1);
                assert_int_equal(out[k].chosen[i], out[k].probabilities[i] >= (mtl_real)0.5);
            }
            for (i = 0; is_class && i < out[k].items; i++) {
                const mtl_real *row = out[k].probabilities + i * out[k].width;
                double sum = 0;
                for (j = 0; j < out[k].width; j++) {
                    assert_true(row[j] >= 0 && row[j] <= row[out[k].labels[i]]);
                    sum += (double)row[j];
                }
                assert_true(fabs(sum - 1) < 1e-5);
            }
        }
        mtl_predictor_destroy(predictor);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

/* Dropout is for training, and a model is read only: not one byte of it changes. */
static void test_predict_leaves_the_model_alone(void **state)
{
    test_shape shape = {0};
    mtl_error err = {0};
    mtl_prediction plain[TEST_TASKS_COUNT], dropped[TEST_TASKS_COUNT];
    test_problem p, q;
    mtl_model *model, *other;
    mtl_predictor *predictor, *with_dropout;
    void *memory, *copy, *start;
    size_t bytes, k;
    (void)state;
    test_problem_create(&p, &shape);
    shape.dropout = 0.5;
    test_problem_create(&q, &shape);
    bytes = mtl_model_size(&p.desc, &err);
    memory = test_aligned(bytes, &start);
    copy = malloc(bytes);
    assert_non_null(copy);
    model = mtl_model_init(memory, bytes, &p.desc, &err);
    other = mtl_model_create(&q.desc, &err);
    predictor = mtl_predictor_create(model, NULL, &err);
    with_dropout = mtl_predictor_create(other, NULL, &err);
    memcpy(copy, memory, bytes);
    mtl_predict(predictor, p.batch, plain, &err);
    mtl_predict(with_dropout, q.batch, dropped, &err);
    TEST_FINE(&err);
    assert_memory_equal(copy, memory, bytes);
    for (k = 0; k < TEST_TASKS_COUNT; k++)
        assert_memory_equal(test_outputs(&plain[k]), test_outputs(&dropped[k]),
                            plain[k].items * plain[k].width * sizeof(mtl_real));
    mtl_predictor_destroy(predictor);
    mtl_predictor_destroy(with_dropout);
    mtl_model_destroy(model);
    mtl_model_destroy(other);
    free(start);
    free(copy);
    test_problem_destroy(&p);
    test_problem_destroy(&q);
}

static void test_predict_lower_isa(void **state)
{
    test_shape shape = {0};
    mtl_error err = {0};
    mtl_prediction best[TEST_TASKS_COUNT], lower[TEST_TASKS_COUNT];
    mtl_predictor_desc desc = {0};
    test_problem p;
    mtl_model *model;
    mtl_predictor *automatic, *chosen;
    int isa;
    size_t k;
    (void)state;
    shape.bidirectional = 1;
    shape.hidden = 33;
    test_problem_create(&p, &shape);
    model = mtl_model_create(&p.desc, &err);
    automatic = mtl_predictor_create(model, NULL, &err);
    mtl_predict(automatic, p.batch, best, &err);
    for (isa = 1; isa < MTL_ISA_COUNT; isa++) {
        desc.isa = isa;
        chosen = mtl_predictor_create(model, &desc, &err);
        if (!chosen) {
            assert_null(mtl__kernels_choose(isa));
            test_expect_error(&err, MTL_ERROR_UNSUPPORTED, NULL, mtl__isa_name(isa));
            continue;
        }
        mtl_predict(chosen, p.batch, lower, &err);
        TEST_FINE(&err);
        for (k = 0; k < TEST_TASKS_COUNT; k++)
            assert_true(test_distance(test_outputs(&lower[k]), test_outputs(&best[k]),
                                      best[k].items * best[k].width, 0.1) < 1e-5);
        mtl_predictor_destroy(chosen);
    }
    mtl_predictor_destroy(automatic);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

/* ---- four threads, one model --------------------------------------------------------------------------- */

enum { PREDICT_BATCHES = 6 };
typedef struct predict_shared {
    const mtl_model *model;
    test_batch *batches[PREDICT_BATCHES];
    mtl_real *expected[PREDICT_BATCHES][TEST_TASKS_COUNT];
    int rounds;
} predict_shared;

/* One thread: its own predictor; returns NULL when every output was the expected one, bit for bit. */
static void *predict_in_thread(void *user)
{
    const predict_shared *shared = (const predict_shared *)user;
    mtl_error err = {0};
    mtl_prediction out[TEST_TASKS_COUNT];
    mtl_predictor *predictor = mtl_predictor_create(shared->model, NULL, &err);
    int i, wrong = 0;
    size_t k;
    for (i = 0; i < shared->rounds; i++) {
        int b = i % PREDICT_BATCHES;
        if (mtl_predict(predictor, &shared->batches[b]->batch, out, &err)) break;
        for (k = 0; k < TEST_TASKS_COUNT; k++)
            wrong += memcmp(test_outputs(&out[k]), shared->expected[b][k],
                            out[k].items * out[k].width * sizeof(mtl_real)) != 0;
    }
    mtl_predictor_destroy(predictor);
    return wrong || err.code ? user : NULL;
}

static void test_predict_four_threads(void **state)
{
    int cell;
    (void)state;
    for (cell = 1; cell <= 3; cell++) {
        test_shape shape = {0};
        mtl_error err = {0};
        mtl_prediction out[TEST_TASKS_COUNT];
        predict_shared shared;
        test_problem p;
        mtl_model *model;
        mtl_predictor *predictor;
        pthread_t threads[4];
        void *result;
        size_t i, k;
        shape.cell = cell;
        shape.bidirectional = 1;
        test_problem_create(&p, &shape);
        shared.model = model = mtl_model_create(&p.desc, &err);
        shared.rounds = test_cases(600);
        predictor = mtl_predictor_create(model, NULL, &err);
        for (i = 0; i < PREDICT_BATCHES; i++) {
            shared.batches[i] = test_batch_create(&p.desc, NULL, 1 + 5 * (int)i, 12, 0, i);
            mtl_predict(predictor, &shared.batches[i]->batch, out, &err);
            TEST_FINE(&err);
            for (k = 0; k < TEST_TASKS_COUNT; k++) {
                size_t bytes = out[k].items * out[k].width * sizeof(mtl_real);
                shared.expected[i][k] = (mtl_real *)malloc(bytes);
                assert_non_null(shared.expected[i][k]);
                memcpy(shared.expected[i][k], test_outputs(&out[k]), bytes);
            }
        }
        for (i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, predict_in_thread,
                                                                &shared), 0);
        for (i = 0; i < 4; i++) {
            pthread_join(threads[i], &result);
            assert_null(result);
        }
        for (i = 0; i < PREDICT_BATCHES; i++) {
            for (k = 0; k < TEST_TASKS_COUNT; k++) free(shared.expected[i][k]);
            test_batch_destroy(shared.batches[i]);
        }
        mtl_predictor_destroy(predictor);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

/* ---- texts --------------------------------------------------------------------------------------------- */

static const char *const predict_words[] = { "<unknown>", "turn", "the", "lamp", "on", "00",
    "\xc3\xa9t\xc3\xa9" };
enum { PREDICT_WORDS = 7 };

/* A model of two token inputs over the same words: one as they are, one in lower case with digits as 0. */
static mtl_model *predict_text_model(int words, int features, mtl_error *err)
{
    static const char *const labels[] = { "off", "on" };
    mtl_input_desc inputs[2];
    mtl_task_desc tasks[2];
    mtl_model_desc desc;
    memset(inputs, 0, sizeof inputs);
    memset(tasks, 0, sizeof tasks);
    memset(&desc, 0, sizeof desc);
    inputs[0].name = "forms";
    inputs[1].name = "plain";
    inputs[0].vocabulary = inputs[1].vocabulary = PREDICT_WORDS;
    inputs[0].width = inputs[1].width = 4;
    inputs[0].words = inputs[1].words = words ? predict_words : NULL;
    inputs[1].lowercase = inputs[1].digits = 1;
    if (features) {
        inputs[1].vocabulary = 0;
        inputs[1].features = 2;
        inputs[1].words = NULL;
    }
    tasks[0].name = "state";
    tasks[0].classes = 2;
    tasks[0].labels = labels;
    tasks[1].name = "steps";
    tasks[1].kind = MTL_TASK_REAL;
    tasks[1].level = MTL_LEVEL_STEP;
    desc.inputs = inputs;
    desc.input_count = 2;
    desc.tasks = tasks;
    desc.task_count = 2;
    desc.encoder.hidden = 5;
    return mtl_model_create(&desc, err);
}

static void test_predict_text(void **state)
{
    static const struct { const char *text; int count, forms[5], plain[5]; } cases[] = {
        { "turn the lamp on", 4, { 1, 2, 3, 4 }, { 1, 2, 3, 4 } },
        { "Turn THE lamp", 3, { 0, 0, 3 }, { 1, 2, 3 } },
        { "  on   17 ", 2, { 4, 0 }, { 4, 5 } },
        { "\xc3\x89T\xc3\x89 \xc3\xa9t\xc3\xa9 winter", 3, { 0, 6, 0 }, { 6, 6, 0 } },
        { "00", 1, { 5 }, { 5 } },
    };
    mtl_error err = {0};
    mtl_predictor_desc limits = {0};
    mtl_prediction text[2], ids[2];
    mtl_model *model = predict_text_model(1, 0, &err);
    mtl_predictor *reads, *takes_ids;
    size_t i, tokens, mallocs;
    (void)state;
    limits.max_rows = 4;
    limits.max_sequences = 1;
    reads = mtl_predictor_create(model, &limits, &err);
    takes_ids = mtl_predictor_create(model, NULL, &err);
    TEST_FINE(&err);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mtl_input inputs[2];
        mtl_batch batch;
        memset(&batch, 0, sizeof batch);
        memset(inputs, 0, sizeof inputs);
        inputs[0].ids = cases[i].forms;
        inputs[1].ids = cases[i].plain;
        batch.sequences = 1;
        batch.lengths = &cases[i].count;
        batch.inputs = inputs;
        mallocs = test_malloc_count;
        mtl_predict_text(reads, cases[i].text, text, &tokens, &err);
        TEST_FINE(&err);
        assert_int_equal(test_malloc_count, mallocs);
        assert_int_equal(tokens, cases[i].count);
        mtl_predict(takes_ids, &batch, ids, &err);
        TEST_FINE(&err);
        assert_int_equal(text[0].labels[0], ids[0].labels[0]);
        assert_memory_equal(text[0].probabilities, ids[0].probabilities, 2 * sizeof(mtl_real));
        assert_int_equal(text[1].items, cases[i].count);
        assert_memory_equal(text[1].values, ids[1].values, (size_t)cases[i].count * sizeof(mtl_real));
    }
    mtl_predict_text(reads, "one two three four five", text, NULL, &err);
    test_expect_error(&err, MTL_ERROR_LIMIT, "max_rows", "5 rows");
    mtl_predict_text(reads, "on \xff off", text, NULL, &err);
    assert_int_equal(err.position, 3);
    test_expect_error(&err, MTL_ERROR_TEXT, "text", "byte 3");
    mtl_predict_text(reads, "   ", text, &tokens, &err);
    assert_int_equal(tokens, 0);
    test_expect_error(&err, MTL_ERROR_TEXT, "text", "no words");
    mtl_predict_text(reads, "", text, NULL, &err);
    test_expect_error(&err, MTL_ERROR_TEXT, "text", "no words");
    mtl_predict_text(reads, NULL, text, NULL, &err);
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "text", "NULL");
    mtl_predict_text(reads, "on", NULL, NULL, &err);
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "out", "NULL");
    mtl_predict_text(NULL, "on", text, NULL, &err);
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "predictor", "NULL");
    mtl_predictor_destroy(reads);
    mtl_predictor_destroy(takes_ids);
    mtl_model_destroy(model);
}

static void test_predict_text_without_words(void **state)
{
    mtl_error err = {0};
    mtl_prediction out[2];
    int features;
    (void)state;
    for (features = 0; features < 2; features++) {
        mtl_model *model = predict_text_model(features, features, &err);
        mtl_predictor *predictor = mtl_predictor_create(model, NULL, &err);
        TEST_FINE(&err);
        mtl_predict_text(predictor, "turn", out, NULL, &err);
        test_expect_error(&err, MTL_ERROR_ARGUMENT, features ? "plain" : "forms", "no vocabulary");
        mtl_predictor_destroy(predictor);
        mtl_model_destroy(model);
    }
}

/* ---- carried states: chunks of long sequences give what the whole gives -------------------------------- */

static void test_predict_carried_states(void **state)
{
    enum { SEQUENCES = 3, CHUNKS = 4 };
    static const int pieces[CHUNKS][SEQUENCES] = { { 1, 5, 2 }, { 4, 1, 1 }, { 2, 9, 30 }, { 3, 2, 1 } };
    int whole[SEQUENCES] = {0}, number, c, s;
    (void)state;
    for (c = 0; c < CHUNKS; c++)
        for (s = 0; s < SEQUENCES; s++) whole[s] += pieces[c][s];
    for (number = 0; number < 8; number++) {
        test_shape shape = {0};
        mtl_error err = {0};
        mtl_prediction all[TEST_TASKS_COUNT], part[TEST_TASKS_COUNT];
        test_problem p;
        test_batch *b;
        mtl_model *model;
        mtl_predictor *together, *chunked;
        mtl_state *carried;
        size_t done[SEQUENCES] = {0}, k;
        int round;
        shape.cell = 1 + number % 3;
        shape.reset = number / 3 == 1 ? MTL_RESET_BEFORE : MTL_RESET_AFTER;
        shape.layers = 1 + number % 2;
        shape.two_columns = number % 4 == 3;
        test_problem_create(&p, &shape);
        b = test_batch_create(&p.desc, whole, SEQUENCES, 0, 0, 1);
        model = mtl_model_create(&p.desc, &err);
        together = mtl_predictor_create(model, NULL, &err);
        chunked = mtl_predictor_create(model, NULL, &err);
        carried = mtl_state_create(model, SEQUENCES, &err);
        mtl_predict(together, &b->batch, all, &err);
        TEST_FINE(&err);
        for (round = 0; round < 2; round++) {                              /* the second time after a reset */
            memset(done, 0, sizeof done);
            for (c = 0; c < CHUNKS; c++) {
                int ids[64];
                size_t start = 0, to = 0;
                mtl_input input = { NULL, NULL, NULL };
                mtl_batch batch;
                for (s = 0; s < SEQUENCES; s++) {
                    memcpy(ids + to, b->inputs[0].ids + start + done[s], (size_t)pieces[c][s] * sizeof(int));
                    to += (size_t)pieces[c][s];
                    start += (size_t)whole[s];
                }
                input.ids = ids;
                memset(&batch, 0, sizeof batch);
                batch.sequences = SEQUENCES;
                batch.lengths = pieces[c];
                batch.inputs = &input;
                batch.state = carried;
                mtl_predict(chunked, &batch, part, &err);
                TEST_FINE(&err);
                for (s = 0, start = 0, to = 0; s < SEQUENCES; s++) {
                    for (k = TEST_TAGS; k <= TEST_CURVE; k += TEST_CURVE - TEST_TAGS) {   /* the step tasks */
                        size_t w = all[k].width;
                        assert_true(test_distance(test_outputs(&part[k]) + to * w,
                                                  test_outputs(&all[k]) + (start + done[s]) * w,
                                                      (size_t)pieces[c][s] * w, 0.1) < 1e-5);
                    }
                    done[s] += (size_t)pieces[c][s];
                    to += (size_t)pieces[c][s];
                    start += (size_t)whole[s];
                }
            }
            for (k = 0; k < TEST_TASKS_COUNT; k++)          /* of sequences: by all steps so far */
                if (p.tasks[k].level == MTL_LEVEL_SEQUENCE)
                    assert_true(test_distance(test_outputs(&part[k]), test_outputs(&all[k]),
                                              SEQUENCES * all[k].width, 0.1) < 1e-5);
            mtl_state_reset(carried);
        }
        mtl_state_destroy(carried);
        mtl_predictor_destroy(together);
        mtl_predictor_destroy(chunked);
        mtl_model_destroy(model);
        test_batch_destroy(b);
        test_problem_destroy(&p);
    }
}

/* ---- inference in chunks of steps gives what a training forward gives ---------------------------------- */

typedef struct predict_kept { mtl_real *values; size_t rows, width; } predict_kept;

static void predict_keep_encoder(void *user, const mtl_run *run, const mtl_activation *a)
{
    predict_kept *kept = (predict_kept *)user;
    size_t n;
    (void)run;
    if (strcmp(a->name, "encoder") != 0) return;
    free(kept->values);
    kept->rows = a->rows;
    kept->width = a->width;
    kept->values = (mtl_real *)malloc(a->rows * a->width * sizeof(mtl_real));
    if (!kept->values) return;
    for (n = 0; n < a->rows; n++) memcpy(kept->values + n * a->width, a->value + n * a->stride,
                                         a->width * sizeof(mtl_real));
}

/* Characters of a game: rows of numbers in, two tasks of steps, one that pools by mean, one by maximum and
   one whose steps vote. Each acts for at most CHARACTER_STEPS frames. */
enum { CHARACTERS = 24, CHARACTER_STEPS = 40, CHARACTER_ROWS = 10, CHARACTER_FEATURES = 5,
      CHARACTER_TASKS = 5 };

typedef struct characters {
    mtl_model *model;
    mtl_real rows[CHARACTERS][CHARACTER_STEPS * CHARACTER_FEATURES];
    mtl_real alone[CHARACTERS][CHARACTER_STEPS][CHARACTER_TASKS][4];        /* answers after each step */
} characters;

static mtl_model *characters_model(int cell, mtl_error *err)
{
    static mtl_input_desc input;
    static mtl_task_desc tasks[CHARACTER_TASKS];
    static const char *const names[] = { "action", "mood", "threat", "role", "team" };
    mtl_model_desc desc;
    size_t k;
    memset(&desc, 0, sizeof desc);
    memset(&input, 0, sizeof input);
    memset(tasks, 0, sizeof tasks);
    input.name = "senses";
    input.features = CHARACTER_FEATURES;
    for (k = 0; k < CHARACTER_TASKS; k++) {
        tasks[k].name = names[k];
        tasks[k].classes = 4;
        tasks[k].level = k < 2 ? MTL_LEVEL_STEP : MTL_LEVEL_SEQUENCE;
    }
    tasks[1].kind = MTL_TASK_REAL;
    tasks[1].classes = 0;
    tasks[1].width = 4;
    tasks[2].pool = MTL_POOL_MEAN;
    tasks[3].pool = MTL_POOL_MAX;
    tasks[4].per_step = 1;
    desc.inputs = &input;
    desc.input_count = 1;
    desc.tasks = tasks;
    desc.task_count = CHARACTER_TASKS;
    desc.encoder.cell = cell;
    desc.encoder.hidden = 11;
    desc.encoder.layers = 2;
    return mtl_model_create(&desc, err);
}

/* What each character answers when it is the only one, by the whole of its steps so far. */
static void characters_init(characters *c, int cell, mtl_error *err)
{
    mtl_prediction out[CHARACTER_TASKS];
    mtl_predictor *predictor;
    size_t i, t, k;
    c->model = characters_model(cell, err);
    predictor = mtl_predictor_create(c->model, NULL, err);
    for (i = 0; i < CHARACTERS; i++) {
        for (t = 0; t < CHARACTER_STEPS * CHARACTER_FEATURES; t++)
            c->rows[i][t] = (mtl_real)(2 * mtl__random_uniform(7, i, t) - 1);
        for (t = 0; t < CHARACTER_STEPS; t++) {
            const int length = (int)t + 1;
            mtl_input input = { NULL, NULL, NULL };
            mtl_batch batch;
            memset(&batch, 0, sizeof batch);
            input.rows = c->rows[i];
            batch.sequences = 1;
            batch.lengths = &length;
            batch.inputs = &input;
            mtl_predict(predictor, &batch, out, err);
            TEST_FINE(err);
            for (k = 0; k < CHARACTER_TASKS; k++)
                memcpy(c->alone[i][t][k], test_outputs(&out[k]) + (k < 2 ? t * 4 : 0), 4 * sizeof(mtl_real));
        }
    }
    mtl_predictor_destroy(predictor);
}

/* A game of `frames` frames over a state in a buffer of its own. Who acts is drawn anew for each frame; who
   has acted CHARACTER_STEPS times leaves its row. Answers must be those of the character alone, and nothing
   may be allocated. Returns a hash of all answers' bits. */
static uint64_t characters_play(const characters *c, int frames, mtl_error *err)
{
    mtl_prediction out[CHARACTER_TASKS];
    mtl_predictor_desc how;
    mtl_predictor *predictor;
    mtl_state *carried;
    const size_t bytes = mtl_state_size(c->model, CHARACTER_ROWS, err);
    void *start, *buffer = test_aligned(bytes, &start);
    int who[CHARACTER_ROWS], done[CHARACTER_ROWS] = { 0 }, lengths[CHARACTER_ROWS], on[CHARACTER_ROWS];
    mtl_real rows[CHARACTER_ROWS * CHARACTER_FEATURES];
    uint64_t hash = MTL__HASH_BEGIN;
    size_t allocated, row, n, k;
    int frame, next = 0;
    memset(&how, 0, sizeof how);
    how.max_rows = CHARACTER_ROWS;
    how.max_steps = 1;
    predictor = mtl_predictor_create(c->model, &how, err);
    carried = mtl_state_init(buffer, bytes, c->model, CHARACTER_ROWS, err);
    TEST_FINE(err);
    for (row = 0; row < CHARACTER_ROWS; row++) who[row] = -1;
    allocated = test_malloc_count;
    for (frame = 0; frame < frames; frame++) {
        mtl_input input = { NULL, NULL, NULL };
        mtl_batch batch;
        memset(&batch, 0, sizeof batch);
        for (n = k = 0; k < CHARACTER_ROWS; k++) {          /* rows in another order each time */
            row = (k * 7 + (size_t)frame * 3) % CHARACTER_ROWS;
            if (who[row] < 0 && mtl__random_uniform(1, (uint64_t)frame, row) < 0.1) {
                who[row] = next++ % CHARACTERS;
                done[row] = 0;
                mtl_state_reset_row(carried, row, err);
            }
            if (who[row] < 0 || mtl__random_uniform(2, (uint64_t)frame, row) < 0.3) continue;
            memcpy(rows + n * CHARACTER_FEATURES, c->rows[who[row]] + done[row] * CHARACTER_FEATURES,
                   CHARACTER_FEATURES * sizeof *rows);
            lengths[n] = 1;
            on[n++] = (int)row;
        }
        if (!n) continue;
        input.rows = rows;
        batch.sequences = n;
        batch.lengths = lengths;
        batch.inputs = &input;
        batch.state = carried;
        batch.state_rows = on;
        mtl_predict(predictor, &batch, out, err);
        TEST_FINE(err);
        for (; n-- > 0; done[on[n]]++) {
            for (k = 0; k < CHARACTER_TASKS; k++) {
                const mtl_real *answer = test_outputs(&out[k]) + n * 4;
                assert_true(test_distance(answer, c->alone[who[on[n]]][done[on[n]]][k], 4, 0.1) < 1e-5);
                hash = mtl__hash(hash, (const char *)answer, 4 * sizeof *answer);
            }
            if (done[on[n]] + 1 == CHARACTER_STEPS) who[on[n]] = -1;
        }
    }
    assert_int_equal(test_malloc_count, allocated);
    assert_true(next > frames / 50);                        /* many have come and gone */
    mtl_predictor_destroy(predictor);
    mtl_state_destroy(carried);
    free(start);
    return hash;
}

static void test_predict_characters_come_and_go(void **state)
{
    int cell;
    (void)state;
    for (cell = MTL_CELL_RNN; cell < MTL_CELL_COUNT; cell++) {
        mtl_error err = {0};
        static characters c;
        characters_init(&c, cell, &err);
        assert_true(characters_play(&c, test_quick() ? 500 : 10000, &err)
                    == characters_play(&c, test_quick() ? 500 : 10000, &err));
        mtl_model_destroy(c.model);
    }
}

/* A row can be kept, given back, and copied; what there is not is refused. An LSTM's row has a c, a GRU's
   none. */
static void test_predict_state_rows(void **state)
{
    int cell;
    (void)state;
    for (cell = MTL_CELL_GRU; cell <= MTL_CELL_LSTM; cell++) {
        mtl_error err = {0};
        mtl_model *model = characters_model(cell, &err);
        mtl_state *a = mtl_state_create(model, 3, &err), *b = mtl_state_create(model, 2, &err);
        const size_t width = mtl_state_width(a);
        mtl_real numbers[128], kept[128];
        size_t j;
        TEST_FINE(&err);
        /* two layers of 11; mean and maximum over 11 and the number of steps; four votes and theirs */
        assert_int_equal(width, 2 * 11 * (cell == MTL_CELL_LSTM ? 2 : 1) + 12 + 12 + 5);
        for (j = 0; j < width; j++) numbers[j] = (mtl_real)j;
        mtl_state_set(a, 2, numbers, &err);
        mtl_state_copy_row(b, 0, a, 2, &err);
        mtl_state_reset_row(a, 2, &err);
        mtl_state_get(b, 0, kept, &err);
        TEST_FINE(&err);
        assert_memory_equal(kept, numbers, width * sizeof *kept);
        mtl_state_get(a, 2, kept, &err);
        for (j = 0; j < width; j++) assert_true(kept[j] == 0);
        mtl_state_copy_row(b, 2, a, 0, &err);
        test_expect_error(&err, MTL_ERROR_RANGE, "row", "row 2 of a state of 2 rows");
        mtl_state_get(a, 3, kept, &err);
        test_expect_error(&err, MTL_ERROR_RANGE, "row", "row 3 of a state of 3 rows");
        numbers[1] = mtl__nan();
        mtl_state_set(b, 0, numbers, &err);
        test_expect_error(&err, MTL_ERROR_NUMBER, "numbers", "number 1");
        mtl_state_get(b, 0, kept, &err);
        assert_true(kept[width - 1] == (mtl_real)(width - 1));
        mtl_state_init(numbers, 64, model, 3, &err);
        assert_int_equal(err.position, mtl_state_size(model, 3, NULL));
        test_expect_error(&err, MTL_ERROR_BUFFER, "buffer", "a state needs a buffer of");
        mtl_state_destroy(a);
        mtl_state_destroy(b);
        mtl_model_destroy(model);
    }
}

/* Sequences on rows that there are not, on one row twice, and a state of another model. */
static void test_predict_wrong_rows(void **state)
{
    static const struct { int rows[3]; mtl_status code; const char *name, *text; } wrong[] = {
        { { 0, 3, 1 }, MTL_ERROR_RANGE, "state_rows", "sequence 1 is on row 3 of a state of 3 rows" },
        { { 0, 1, -1 }, MTL_ERROR_RANGE, "state_rows", "sequence 2 is on row -1" },
        { { 2, 1, 2 }, MTL_ERROR_ARGUMENT, "state_rows",
         "sequence 2 is on row 2 of the state, as one before" } };
    static const int lengths[] = { 1, 1, 1 }, distinct[] = { 2, 0, 1 };
    mtl_real rows[3 * CHARACTER_FEATURES] = { 0 };
    mtl_prediction out[CHARACTER_TASKS];
    mtl_error err = {0};
    mtl_model *model = characters_model(MTL_CELL_GRU, &err), *other = characters_model(MTL_CELL_LSTM, &err);
    mtl_predictor *predictor = mtl_predictor_create(model, NULL, &err);
    mtl_state *carried = mtl_state_create(model, 3, &err), *others = mtl_state_create(other, 3, &err);
    mtl_input input = { NULL, NULL, NULL };
    mtl_batch batch;
    size_t i;
    (void)state;
    memset(&batch, 0, sizeof batch);
    input.rows = rows;
    batch.sequences = 3;
    batch.lengths = lengths;
    batch.inputs = &input;
    batch.state = carried;
    TEST_FINE(&err);
    for (i = 0; i < MTL__COUNT(wrong); i++) {
        batch.state_rows = wrong[i].rows;
        mtl_predict(predictor, &batch, out, &err);
        test_expect_error(&err, wrong[i].code, wrong[i].name, wrong[i].text);
    }
    batch.state_rows = distinct;
    carried->batch = (unsigned)-1;                          /* the count of batches goes round */
    mtl_predict(predictor, &batch, out, &err);
    TEST_FINE(&err);
    batch.state = others;
    mtl_predict(predictor, &batch, out, &err);
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "state", "another model");
    mtl_state_copy_row(carried, 0, others, 0, &err);
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "state", "different models");
    mtl_state_destroy(carried);
    mtl_state_destroy(others);
    mtl_predictor_destroy(predictor);
    mtl_model_destroy(model);
    mtl_model_destroy(other);
}

/* Three characters act, of whom one has a feature that is no number: it is named, or left out, and the two
   others answer as they do without it. */
static void test_predict_skips_bad_sequences(void **state)
{
    static const int lengths[] = { 2, 3, 1 };
    mtl_error err = {0};
    mtl_model *model = characters_model(MTL_CELL_LSTM, &err);
    mtl_predictor_desc how;
    mtl_predictor *strict = mtl_predictor_create(model, NULL, &err), *lenient;
    mtl_state *carried = mtl_state_create(model, 3, &err);
    mtl_real rows[6 * CHARACTER_FEATURES], good[6 * 4], before[128], after[128];
    mtl_prediction out[CHARACTER_TASKS];
    mtl_input input = { NULL, NULL, NULL };
    mtl_batch batch;
    size_t k, i;
    (void)state;
    memset(&how, 0, sizeof how);
    how.skip_bad = 1;
    how.max_rows = 6;
    lenient = mtl_predictor_create(model, &how, &err);
    for (i = 0; i < MTL__COUNT(rows); i++) rows[i] = (mtl_real)mtl__random_uniform(5, 0, i);
    memset(&batch, 0, sizeof batch);
    input.rows = rows;
    batch.sequences = 3;
    batch.lengths = lengths;
    batch.inputs = &input;
    batch.state = carried;
    mtl_predict(lenient, &batch, out, &err);
    TEST_FINE(&err);
    assert_null(mtl_predictor_skipped(strict));
    for (i = 0; i < 3; i++) assert_int_equal(mtl_predictor_skipped(lenient)[i], 0);
    for (k = 0; k < CHARACTER_TASKS; k++) {
        const size_t items = k < 2 ? 6 : 3, first = k < 2 ? 2 : 1, end = k < 2 ? 5 : 2;
        mtl_state_reset(carried);
        mtl_predict(strict, &batch, out, &err);
        memcpy(good, test_outputs(&out[k]), items * 4 * sizeof *good);
        mtl_state_reset(carried);
        memset(before, 0, sizeof before);
        before[3] = 0.5;
        mtl_state_set(carried, 1, before, &err);
        rows[3 * CHARACTER_FEATURES + 2] = mtl__nan();
        mtl_predict(strict, &batch, out, &err);
        test_expect_error(&err, MTL_ERROR_NUMBER, "senses", "column 2 of sequence 1, step 1");
        mtl_state_get(carried, 0, after, &err);
        for (i = 0; i < mtl_state_width(carried); i++) assert_true(after[i] == 0);  /* nothing has moved */
        mtl_predict(lenient, &batch, out, &err);
        TEST_FINE(&err);
        for (i = 0; i < items; i++)
            if (i < first || i >= end) assert_memory_equal(test_outputs(&out[k]) + i * 4, good + i * 4, 16);
            else assert_true(mtl_is_missing(test_outputs(&out[k])[i * 4 + 3]));
        if (out[k].labels)
            for (i = 0; i < items; i++)
                assert_int_equal(out[k].labels[i] == MTL_MISSING, i >= first && i < end);
        for (i = 0; i < 3; i++)
            assert_int_equal(mtl_predictor_skipped(lenient)[i], i == 1 ? MTL_SKIPPED_INPUT : 0);
        mtl_state_get(carried, 1, after, &err);
        assert_memory_equal(after, before, mtl_state_width(carried) * sizeof *after);
        mtl_state_get(carried, 0, after, &err);
        assert_true(after[0] != 0);
        rows[3 * CHARACTER_FEATURES + 2] = 0.5;
    }
    mtl_predictor_destroy(strict);
    mtl_predictor_destroy(lenient);
    mtl_state_destroy(carried);
    mtl_model_destroy(model);
}

/* A head that is broken: its task has no answers, scores nothing, and harms no other one. */
static void test_predict_skips_bad_outputs(void **state)
{
    test_shape shape = {0};
    mtl_error err = {0};
    mtl_prediction good[TEST_TASKS_COUNT], out[TEST_TASKS_COUNT];
    mtl_task_score before[TEST_TASKS_COUNT], after[TEST_TASKS_COUNT];
    mtl_scores scores = {0};
    mtl_predictor_desc how = {0};
    mtl_predictor *strict, *lenient;
    test_problem p;
    mtl_model *model;
    size_t k;
    (void)state;
    test_problem_create(&p, &shape);
    model = mtl_model_create(&p.desc, &err);
    how.skip_bad = 1;
    strict = mtl_predictor_create(model, NULL, &err);
    lenient = mtl_predictor_create(model, &how, &err);
    mtl_predict(strict, p.batch, good, &err);
    scores.tasks = before;
    mtl_evaluate(strict, p.batch, 1, &scores, NULL, &err);
    TEST_FINE(&err);
    for (k = 0; k < TEST_TASKS_COUNT; k++) {
        char name[40];
        mtl_tensor *bias;
        mtl_real was;
        size_t other;
        bias = mtl_model_tensor(model, mtl__print(name, sizeof name, "%s.output.bias", p.tasks[k].name));
        was = bias->value[0];
        bias->value[0] = mtl__nan();
        mtl_model_prepare(model, &err);
        mtl_predict(strict, p.batch, out, &err);
        test_expect_error(&err, MTL_ERROR_NUMBER, p.tasks[k].name, "not a finite number");
        mtl_predict(lenient, p.batch, out, &err);
        TEST_FINE(&err);
        assert_true(mtl_is_missing(test_outputs(&out[k])[0]));
        assert_int_equal(mtl_predictor_skipped(lenient)[0], MTL_SKIPPED_OUTPUT);
        if (out[k].labels) assert_int_equal(out[k].labels[0], MTL_MISSING);
        scores.tasks = after;
        mtl_evaluate(lenient, p.batch, 1, &scores, NULL, &err);
        TEST_FINE(&err);
        assert_true(after[k].score == 0 && after[k].items == before[k].items);
        for (other = 0; other < TEST_TASKS_COUNT; other++)
            if (other != k) assert_true(after[other].score == before[other].score);
        bias->value[0] = was;
        mtl_model_prepare(model, &err);
    }
    mtl_predictor_destroy(strict);
    mtl_predictor_destroy(lenient);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

/* Logits in place of probabilities: the same labels, and the softmax of them is what it was. */
static void test_predict_logits(void **state)
{
    test_shape shape = {0};
    mtl_error err = {0};
    mtl_prediction usual[TEST_TASKS_COUNT], raw[TEST_TASKS_COUNT];
    mtl_predictor_desc how = {0};
    mtl_predictor *a, *b;
    test_problem p;
    mtl_model *model;
    size_t k, i, j;
    (void)state;
    test_problem_create(&p, &shape);
    model = mtl_model_create(&p.desc, &err);
    how.logits = 1;
    a = mtl_predictor_create(model, NULL, &err);
    b = mtl_predictor_create(model, &how, &err);
    mtl_predict(a, p.batch, usual, &err);
    mtl_predict(b, p.batch, raw, &err);
    TEST_FINE(&err);
    for (k = 0; k < TEST_TASKS_COUNT; k++) {
        assert_null(raw[k].probabilities);
        if (usual[k].values) {
            assert_memory_equal(raw[k].values, usual[k].values,
                                usual[k].items * usual[k].width * sizeof(mtl_real));
            continue;
        }
        assert_non_null(raw[k].logits);
        for (i = 0; i < usual[k].items; i++) {
            const mtl_real *x = raw[k].logits + i * raw[k].width, *y = usual[k].probabilities
                + i * raw[k].width;
            double sum = 0;
            for (j = 0; j < raw[k].width; j++) sum += exp((double)x[j]);
            for (j = 0; j < raw[k].width; j++)
                assert_true(fabs((k == TEST_SET ? 1 / (1 + exp(-(double)x[j])) : exp((double)x[j]) / sum)
                                 - (double)y[j]) < 1e-6);
            if (raw[k].labels) assert_int_equal(raw[k].labels[i], usual[k].labels[i]);
            else assert_memory_equal(raw[k].chosen + i * raw[k].width, usual[k].chosen + i * raw[k].width,
                                     raw[k].width);
        }
    }
    mtl_predictor_destroy(a);
    mtl_predictor_destroy(b);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

static void test_predict_chunks(void **state)
{
    static const int lengths[][4] = { { 2000, 1, 700, 333 }, { 1500, 1500, 1500, 1 }, { 97, 96, 193, 192 } };
    int number, cases = test_quick() ? 3 : 24;
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = {0};
        mtl_error err = {0};
        mtl_prediction out[TEST_TASKS_COUNT];
        predict_kept training = {0}, predicting = {0};
        test_problem p;
        test_batch *b;
        mtl_model *model;
        mtl_trainer *trainer;
        mtl_predictor *predictor;
        mtl_state *carried, *twin;
        int with_state;
        shape.cell = 1 + number % 3;
        shape.reset = number / 6 % 2 ? MTL_RESET_BEFORE : MTL_RESET_AFTER;
        shape.bidirectional = test_quick() || number / 3 % 2;
        shape.layers = 1 + number / 12;
        /* 49152 / (64 * 4) = 192 rows of an LSTM in a chunk */
        shape.hidden = 60 + number;
        test_problem_create(&p, &shape);
        b = test_batch_create(&p.desc, lengths[test_quick() ? 2 : number % 3], 4, 0, 0.9, 1);
        model = mtl_model_create(&p.desc, &err);
        trainer = mtl_trainer_create(model, NULL, &err);
        predictor = mtl_predictor_create(model, NULL, &err);
        carried = mtl_state_create(model, 4, &err);
        twin = mtl_state_create(model, 4, &err);
        TEST_FINE(&err);
        mtl_trainer_observe(trainer, predict_keep_encoder, &training);
        mtl_predictor_observe(predictor, predict_keep_encoder, &predicting);
        for (with_state = 0; with_state < 3; with_state++) {    /* without; from zeros; from what that left */
            b->batch.state = with_state ? carried : NULL;
            mtl_train_gradients(trainer, &b->batch, 1, NULL, &err);
            b->batch.state = with_state ? twin : NULL;
            mtl_predict(predictor, &b->batch, out, &err);
            TEST_FINE(&err);
            assert_true(training.values && predicting.values);
            assert_int_equal(training.rows, b->rows);
            assert_int_equal(predicting.rows, b->rows);
            assert_true(test_distance(predicting.values, training.values, b->rows * training.width,
                                      0.1) < 1e-5);
        }
        free(training.values);
        free(predicting.values);
        mtl_state_destroy(carried);
        mtl_state_destroy(twin);
        mtl_trainer_destroy(trainer);
        mtl_predictor_destroy(predictor);
        mtl_model_destroy(model);
        test_batch_destroy(b);
        test_problem_destroy(&p);
    }
}

static void predict_expect_columns(const predict_kept *a, size_t row, const predict_kept *b, size_t first,
                                   size_t columns)
{
    size_t n, j;
    for (n = 0; n < b->rows; n++)
        for (j = first; j < first + columns; j++)
            assert_true(fabs((double)(a->values[(row + n) * a->width + j]
                                      - b->values[n * b->width + j])) < 1e-6);
}

/* With two directions the forward cells go on where the chunk before ended, and the cells that read from the
   end begin each chunk with zeros: as without a state, and, in the last chunk, as in the whole sequence. */
static void test_predict_chunks_in_two_directions(void **state)
{
    enum { WHOLE = 11, FIRST = 5, UNITS = 12 };
    static const int lengths[3] = { WHOLE, FIRST, WHOLE - FIRST };
    int cell, c;
    (void)state;
    for (cell = MTL_CELL_RNN; cell <= MTL_CELL_LSTM; cell++) {
        test_shape shape = {0};
        mtl_error err = {0};
        mtl_prediction out[TEST_TASKS_COUNT];
        predict_kept kept[4] = {{0}};                  /* whole, first chunk, second; first without a state */
        test_problem p;
        test_batch *b;
        mtl_model *model;
        mtl_predictor *predictor;
        mtl_state *carried;
        shape.cell = cell;
        shape.bidirectional = 1;
        test_problem_create(&p, &shape);
        b = test_batch_create(&p.desc, lengths, 1, 0, 0, 1);
        model = mtl_model_create(&p.desc, &err);
        predictor = mtl_predictor_create(model, NULL, &err);
        carried = mtl_state_create(model, 1, &err);
        for (c = 0; c < 4; c++) {
            mtl_input input = { NULL, NULL, NULL };
            mtl_batch batch = b->batch;
            input.ids = b->inputs[0].ids + (c == 2 ? FIRST : 0);
            batch.inputs = &input;
            batch.lengths = &lengths[c == 3 ? 1 : c];
            batch.state = c == 1 || c == 2 ? carried : NULL;
            mtl_predictor_observe(predictor, predict_keep_encoder, &kept[c]);
            mtl_predict(predictor, &batch, out, &err);
            TEST_FINE(&err);
        }
        predict_expect_columns(&kept[0], 0, &kept[1], 0, UNITS);
        predict_expect_columns(&kept[0], FIRST, &kept[2], 0, 2 * UNITS);
        predict_expect_columns(&kept[3], 0, &kept[1], UNITS, UNITS);
        for (c = 0; c < 4; c++) free(kept[c].values);
        mtl_state_destroy(carried);
        mtl_predictor_destroy(predictor);
        mtl_model_destroy(model);
        test_batch_destroy(b);
        test_problem_destroy(&p);
    }
}

/* ---- words that a batch has several times -------------------------------------------------------------- */

enum { PREDICT_SAME = 40 };

/* Sequence `s` of a batch of words, which begins at row `row`. */
static mtl_batch predict_one_of(const test_batch *b, size_t s, size_t row, mtl_input *input)
{
    mtl_batch one;
    memset(&one, 0, sizeof one);
    memset(input, 0, sizeof *input);
    input->ids = b->inputs[0].ids + row;
    one.sequences = 1;
    one.lengths = b->lengths + s;
    one.inputs = input;
    return one;
}

/* 40 sequences of 22 words (word 0 among them, which may be the padding word): each alone, where every step
   has its own input product, gives what the batch gives, where every word has one; with two threads the same
   bits. */
static void test_predict_words_repeat(void **state)
{
    int number;
    (void)state;
    for (number = 0; number < 16; number++) {
        test_shape shape = {0};
        mtl_error err = {0};
        mtl_prediction batch_out[TEST_TASKS_COUNT], threads_out[TEST_TASKS_COUNT], out[TEST_TASKS_COUNT];
        mtl_predictor_desc two = {0};
        mtl_predictor *all, *threads, *alone;
        mtl_model *model;
        mtl_input input;
        test_problem p;
        test_batch *b;
        size_t s, row = 0, tags;
        shape.cell = 1 + number % 3;
        shape.reset = number / 3 % 2 ? MTL_RESET_BEFORE : MTL_RESET_AFTER;
        shape.bidirectional = number / 6 % 2;
        shape.hidden = 10 + 13 * number;
        test_problem_create(&p, &shape);
        p.inputs[0].padding_zero = number % 2;
        b = test_batch_create(&p.desc, NULL, PREDICT_SAME, 9, 0, (unsigned long long)number);
        model = mtl_model_create(&p.desc, &err);
        two.threads = 2;
        all = mtl_predictor_create(model, NULL, &err);
        threads = mtl_predictor_create(model, &two, &err);
        alone = mtl_predictor_create(model, NULL, &err);
        mtl_predict(all, &b->batch, batch_out, &err);
        mtl_predict(threads, &b->batch, threads_out, &err);
        TEST_FINE(&err);
        tags = batch_out[TEST_TAGS].width;
        assert_int_equal(batch_out[TEST_TAGS].items, b->rows);
        assert_memory_equal(batch_out[TEST_TAGS].probabilities, threads_out[TEST_TAGS].probabilities,
                            b->rows * tags * sizeof(mtl_real));
        for (s = 0; s < PREDICT_SAME; row += (size_t)b->lengths[s++]) {
            mtl_batch one = predict_one_of(b, s, row, &input);
            mtl_predict(alone, &one, out, &err);
            TEST_FINE(&err);
            assert_true(test_distance(batch_out[TEST_TAGS].probabilities + row * tags,
                                      out[TEST_TAGS].probabilities, (size_t)b->lengths[s] * tags,
                                          0.1) < 1e-5);
            assert_true(fabs((double)(batch_out[TEST_NUMBER].values[s] - out[TEST_NUMBER].values[0])) < 1e-4);
        }
        mtl_predictor_destroy(alone);
        mtl_predictor_destroy(threads);
        mtl_predictor_destroy(all);
        mtl_model_destroy(model);
        test_batch_destroy(b);
        test_problem_destroy(&p);
    }
}

/* ---- memory that runs out ------------------------------------------------------------------------------ */

typedef struct predict_failing {
    const mtl_model *model;
    const mtl_batch *batch;
    mtl_predictor_desc desc;
} predict_failing;

static void predict_with_failures(void *user, mtl_error *err)
{
    const predict_failing *f = (const predict_failing *)user;
    mtl_prediction out[TEST_TASKS_COUNT];
    mtl_predictor *predictor = mtl_predictor_create(f->model, &f->desc, err);
    mtl_state *carried = mtl_state_create(f->model, f->batch->sequences, err);
    mtl_batch batch = *f->batch;
    batch.state = carried;
    mtl_predict(predictor, &batch, out, err);
    mtl_state_destroy(carried);
    mtl_predictor_destroy(predictor);
}

static void test_predict_allocations_fail(void **state)
{
    int number;
    (void)state;
    for (number = 0; number < 4; number++) {
        test_shape shape = {0};
        mtl_error err = {0};
        predict_failing f;
        test_problem p;
        mtl_model *model;
        shape.hidden = 60;
        shape.longest = 200;
        shape.bidirectional = 1;
        test_problem_create(&p, &shape);
        memset(&f, 0, sizeof f);
        f.model = model = mtl_model_create(&p.desc, &err);
        f.batch = p.batch;
        f.desc.max_rows = number % 2 ? 1000 : 0;
        f.desc.threads = number / 2 ? 3 : 1;
        TEST_FINE(&err);
        assert_true(test_each_allocation_fails(predict_with_failures, &f) >= 3);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

/* Every push of a prediction fails in turn; afterwards the same predictor gives the same result. */
static void test_predict_pushes_fail(void **state)
{
    int cell;
    (void)state;
    for (cell = 1; cell <= 3; cell++) {
        test_shape shape = {0};
        mtl_error err = {0};
        mtl_prediction before[TEST_TASKS_COUNT], after[TEST_TASKS_COUNT];
        test_problem p;
        mtl_model *model;
        mtl_predictor *first, *second;
        mtl_state *carried;
        long long n;
        size_t k;
        shape.cell = cell;
        shape.bidirectional = 1;
        shape.features = 2;
        shape.reset = MTL_RESET_BEFORE;
        test_problem_create(&p, &shape);
        model = mtl_model_create(&p.desc, &err);
        first = mtl_predictor_create(model, NULL, &err);
        second = mtl_predictor_create(model, NULL, &err);
        carried = mtl_state_create(model, p.batch->sequences, &err);
        p.data->batch.state = carried;
        mtl_predict(first, p.batch, before, &err);
        TEST_FINE(&err);
        for (n = 1;; n++) {
            mtl_arena_fail_next(&second->session.scratch, n);
            mtl_predict(second, p.batch, after, &err);
            if (!err.code) break;
            test_expect_error(&err, MTL_ERROR_MEMORY, NULL, "out of memory");
        }
        mtl_arena_fail_next(&second->session.scratch, 0);
        assert_true(n > 30);
        mtl_state_reset(carried);
        mtl_predict(second, p.batch, after, &err);
        TEST_FINE(&err);
        for (k = 0; k < TEST_TASKS_COUNT; k++)
            assert_memory_equal(test_outputs(&before[k]), test_outputs(&after[k]),
                                before[k].items * before[k].width * sizeof(mtl_real));
        mtl_state_destroy(carried);
        mtl_predictor_destroy(first);
        mtl_predictor_destroy(second);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

#define TEST_PREDICT \
    cmocka_unit_test(test_predict_probabilities), cmocka_unit_test(test_predict_leaves_the_model_alone), \
    cmocka_unit_test(test_predict_lower_isa), cmocka_unit_test(test_predict_four_threads), \
    cmocka_unit_test(test_predict_text), cmocka_unit_test(test_predict_text_without_words), \
    cmocka_unit_test(test_predict_carried_states), cmocka_unit_test(test_predict_characters_come_and_go), \
    cmocka_unit_test(test_predict_state_rows), \
    cmocka_unit_test(test_predict_wrong_rows), cmocka_unit_test(test_predict_skips_bad_sequences), \
    cmocka_unit_test(test_predict_skips_bad_outputs), cmocka_unit_test(test_predict_logits), \
    cmocka_unit_test(test_predict_chunks), \
    cmocka_unit_test(test_predict_chunks_in_two_directions), cmocka_unit_test(test_predict_words_repeat), \
    cmocka_unit_test(test_predict_allocations_fail), cmocka_unit_test(test_predict_pushes_fail)
