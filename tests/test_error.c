/* Section 3, and what every section does with errors: texts, the formatter, stickiness, and messages that
   name what is wrong. */

static void test_error_texts(void **state)
{
    int i, k;
    (void)state;
    for (i = 0; i < MTL_ERROR_COUNT; i++) {
        assert_true(strlen(mtl_error_text(i)) > 5);
        for (k = 0; k < i; k++) assert_string_not_equal(mtl_error_text(i), mtl_error_text(k));
    }
    assert_string_equal(mtl_error_text(MTL_OK), "no error");
    assert_string_equal(mtl_error_text(-1), "unknown error");
    assert_string_equal(mtl_error_text(MTL_ERROR_COUNT), "unknown error");
}

static void test_error_clear(void **state)
{
    mtl_error err;
    (void)state;
    memset(&err, 0x55, sizeof err);
    mtl_error_clear(&err);
    assert_int_equal(err.code, MTL_OK);
    assert_int_equal(err.position, -1);
    assert_string_equal(err.name, "");
    assert_string_equal(err.message, "");
    mtl_error_clear(NULL);
}

static void test_error_first_cause_stays(void **state)
{
    mtl_error err = {0};
    (void)state;
    assert_int_equal(mtl__fail(&err, MTL_ERROR_RANGE, "first", 7, "the first of %d", 2), MTL_ERROR_RANGE);
    assert_int_equal(mtl__fail(&err, MTL_ERROR_MEMORY, "second", 8, "the second of %d", 2), MTL_ERROR_RANGE);
    assert_int_equal(err.code, MTL_ERROR_RANGE);
    assert_int_equal(err.position, 7);
    assert_string_equal(err.name, "first");
    assert_string_equal(err.message, "the first of 2");
}

static void test_error_formatter(void **state)
{
    mtl_error err = {0};
    char text[16];
    (void)state;
    mtl__fail(&err, MTL_ERROR_TEXT, NULL, -1, "%s|%d|%d|%z|%l|%g|%%|", "text", -2147483647 - 1, 42,
              (size_t)-1, -9223372036854775807ll - 1, 0.1);
    assert_string_equal(err.name, "");
    assert_true(strncmp(err.message, "text|-2147483648|42|", 20) == 0);
    if (sizeof(size_t) == 8) assert_non_null(strstr(err.message, "|18446744073709551615|"));
    assert_non_null(strstr(err.message, "|-9223372036854775808|0.1|%|"));
    assert_string_equal(mtl__print(text, sizeof text, "0123456789abcdef"), "0123456789abcde");
    /* no half of a letter */
    assert_string_equal(mtl__print(text, sizeof text, "%s", "0123456789abcd\xc3\xa9"), "0123456789abcd");
    assert_string_equal(mtl__print(text, sizeof text, "%s%s", "0123456789", "abcdefgh"), "0123456789abcde");
}

/* A long name never runs over. */
static void test_error_long_names(void **state)
{
    mtl_error err = {0};
    char name[600];
    (void)state;
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    mtl__fail(&err, MTL_ERROR_FIELD, name, 1, "%s and %s", name, name);
    assert_int_equal(strlen(err.name), sizeof err.name - 1);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

/* ---- stickiness: a call that is given a set error does nothing, fails, and leaves the error as it is --- */

static void test_error_sticky_calls(void **state)
{
    const test_shape shape = {0};
    test_problem p;
    mtl_error err = {0}, set, before;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_predictor *predictor;
    mtl_prediction out[TEST_TASKS_COUNT];
    mtl_task_score table[TEST_TASKS_COUNT];
    mtl_scores scores;
    mtl_safetensors file;
    mtl_import map = { "", "" };
    mtl_real *weights, one[8] = {0};
    size_t count = 77, tokens = 77;
    test_file written = {0};
    mtl_writer writer = test_file_writer(&written);
    char buffer[64];
    (void)state;
    test_problem_create(&p, &shape);
    model = mtl_model_create(&p.desc, &err);
    trainer = mtl_trainer_create(model, NULL, &err);
    predictor = mtl_predictor_create(model, NULL, &err);
    TEST_FINE(&err);
    weights = test_weights_copy(model);
    scores.tasks = table;

    mtl_error_clear(&set);
    mtl__fail(&set, MTL_ERROR_STOPPED, "cause", 3, "the first cause");
    before = set;
#define STICKY_FAILS(call) \
    do { \
        if ((call) != MTL_ERROR_STOPPED || memcmp(&set, &before, \
            sizeof set) != 0) fail_msg("not sticky: %s", #call); \
    } while (0)
#define STICKY_NOTHING(call) \
    do { \
        if ((call) || memcmp(&set, &before, sizeof set) != 0) fail_msg("not sticky: %s", #call); \
    } while (0)
    STICKY_NOTHING(mtl_model_size(&p.desc, &set));
    STICKY_NOTHING(mtl_model_create(&p.desc, &set));
    STICKY_NOTHING(mtl_model_init(buffer, sizeof buffer, &p.desc, &set));
    STICKY_NOTHING(mtl_model_load("/no/such/file", &set));
    STICKY_NOTHING(mtl_model_load_memory("", 0, &set));
    STICKY_NOTHING(mtl_trainer_size(model, NULL, &set));
    STICKY_NOTHING(mtl_trainer_create(model, NULL, &set));
    STICKY_NOTHING(mtl_predictor_size(model, NULL, &set));
    STICKY_NOTHING(mtl_predictor_create(model, NULL, &set));
    STICKY_NOTHING(mtl_state_create(model, 2, &set));
    STICKY_NOTHING(mtl_model_note(model, "new", "text", &set));
    STICKY_FAILS(mtl_model_prepare(model, &set));
    STICKY_FAILS(mtl_model_transfer(model, model, &count, &set));
    STICKY_FAILS(mtl_model_set_target_scale(model, TEST_NUMBER, one, one, &set));
    STICKY_FAILS(mtl_model_set_feature_scale(model, 0, one, one, &set));
    STICKY_FAILS(mtl_model_save(model, test_path("sticky"), &set));
    STICKY_FAILS(mtl_model_write(model, trainer, &writer, &set));
    STICKY_FAILS(mtl_model_export(model, test_path("sticky"), NULL, 0, &set));
    STICKY_FAILS(mtl_safetensors_open_memory(&file, "", 0, &set));
    STICKY_FAILS(mtl_safetensors_open(&file, "/no/such/file", &set));
    STICKY_FAILS(mtl_model_import(model, &file, &map, 1, &set));
    STICKY_FAILS(mtl_trainer_save(trainer, test_path("sticky"), &set));
    STICKY_FAILS(mtl_trainer_set_weight(trainer, 0, 9, &set));
    STICKY_FAILS(mtl_trainer_swap_average(trainer, &set));
    STICKY_FAILS(mtl_train_step(trainer, p.batch, 1, NULL, &set));
    STICKY_FAILS(mtl_train_gradients(trainer, p.batch, 1, NULL, &set));
    STICKY_FAILS(mtl_fit(trainer, p.batch, 1, NULL, 0, NULL, NULL, &set));
    STICKY_FAILS(mtl_predict(predictor, p.batch, out, &set));
    STICKY_FAILS(mtl_predict_text(predictor, "a", out, &tokens, &set));
    STICKY_FAILS(mtl_evaluate(predictor, p.batch, 1, &scores, NULL, &set));
#undef STICKY_FAILS
#undef STICKY_NOTHING
    assert_null(mtl_model_note(model, "new", NULL, NULL));
    assert_int_equal(count, 77);
    assert_int_equal(tokens, 77);
    assert_int_equal(written.used, 0);
    assert_int_equal(access(test_path("sticky"), F_OK), -1);
    assert_true(test_weights_equal(model, weights));

    free(weights);
    mtl_predictor_destroy(predictor);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

/* An error may be left out: the calls fail all the same. */
static void test_error_left_out(void **state)
{
    const test_shape shape = {0};
    test_problem p;
    mtl_model *model;
    mtl_trainer *trainer;
    (void)state;
    test_problem_create(&p, &shape);
    model = mtl_model_create(&p.desc, NULL);
    trainer = mtl_trainer_create(model, NULL, NULL);
    assert_int_equal(mtl_train_step(trainer, p.batch, 1, NULL, NULL), MTL_OK);
    p.data->lengths[0] = 0;
    assert_int_equal(mtl_train_step(trainer, p.batch, 1, NULL, NULL), MTL_ERROR_RANGE);
    p.inputs[0].name = NULL;
    assert_null(mtl_model_create(&p.desc, NULL));
    assert_null(mtl_model_load("/no/such/file", NULL));
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

/* Things that do not exist may be destroyed. */
static void test_error_destroy_nothing(void **state)
{
    (void)state;
    mtl_model_destroy(NULL);
    mtl_trainer_destroy(NULL);
    mtl_predictor_destroy(NULL);
    mtl_state_destroy(NULL);
}

/* ---- NULL and wrong descs: the message names the field ------------------------------------------------- */

static void error_input_name(test_problem *p) { p->inputs[0].name = NULL; }
static void error_input_empty_name(test_problem *p) { p->inputs[0].name = ""; }
static void error_input_dotted_name(test_problem *p) { p->inputs[0].name = "a.b"; }
static void error_input_bad_text(test_problem *p) { p->inputs[0].name = "\xff"; }
static void error_input_width(test_problem *p) { p->inputs[0].width = -1; }
static void error_input_vocabulary(test_problem *p) { p->inputs[0].vocabulary = 0; }
static void error_input_vocabulary_negative(test_problem *p) { p->inputs[0].vocabulary = -5; }
static void error_input_both(test_problem *p) { p->inputs[0].features = 3; }
static void error_input_dropout(test_problem *p) { p->inputs[0].dropout = 1; }
static void error_input_dropout_nan(test_problem *p)
{
    const uint32_t nan = 0x7fc00000; memcpy(&p->inputs[0].dropout, &nan, 4);
}
static void error_inputs(test_problem *p) { p->desc.inputs = NULL; }
static void error_input_count(test_problem *p) { p->desc.input_count = 0; }
static void error_encoder_hidden(test_problem *p) { p->desc.encoder.hidden = -1; }
static void error_encoder_hidden_large(test_problem *p) { p->desc.encoder.hidden = 1000000000; }
static void error_encoder_cell(test_problem *p) { p->desc.encoder.cell = 9; }
static void error_encoder_layers(test_problem *p) { p->desc.encoder.layers = 65; }
static void error_encoder_from(test_problem *p) { p->desc.encoder.input.from = "words+nowhere"; }
static void error_columns(test_problem *p) { p->desc.column_count = 2; p->desc.columns = NULL; }
static void error_column_flag(test_problem *p) { p->desc.column_count = 2; p->columns[1].bidirectional = 2; }
static void error_column_name(test_problem *p) { p->desc.column_count = 2; p->columns[1].name = NULL; }
static void error_column_circle(test_problem *p)
{
    p->desc.column_count = 2; p->columns[0].input.from = "high";
}
static void error_tasks(test_problem *p) { p->desc.tasks = NULL; }
static void error_task_count(test_problem *p) { p->desc.task_count = 0; }
static void error_task_name(test_problem *p) { p->tasks[3].name = NULL; }
static void error_task_twice(test_problem *p) { p->tasks[3].name = "tags"; }
static void error_task_as_input(test_problem *p) { p->tasks[3].name = "words"; }
static void error_task_classes(test_problem *p) { p->tasks[1].classes = 0; }
static void error_task_classes_negative(test_problem *p) { p->tasks[1].classes = -2; }
static void error_set_classes(test_problem *p) { p->tasks[5].classes = 0; }
static void error_set_loss(test_problem *p) { p->tasks[5].loss = MTL_LOSS_MSE; }
static void error_set_smoothing(test_problem *p) { p->tasks[5].label_smoothing = 0.1f; }
static void error_set_weights(test_problem *p)
{
    static const float weights[4] = { 1, 1, -2, 1 };
    p->tasks[5].class_weights = weights;
}
static void error_thresholds(test_problem *p) { p->tasks[2].thresholds = 1; }
static void error_real_bce(test_problem *p) { p->tasks[2].loss = MTL_LOSS_BCE; }
static void error_task_kind(test_problem *p) { p->tasks[2].kind = 99; }
static void error_task_level(test_problem *p) { p->tasks[2].level = -1; }
static void error_task_loss(test_problem *p) { p->tasks[0].loss = MTL_LOSS_MSE; }
static void error_task_loss_real(test_problem *p) { p->tasks[2].loss = MTL_LOSS_CROSS_ENTROPY; }
static void error_task_weight(test_problem *p) { p->tasks[4].weight = -0.5f; }
static void error_task_smoothing(test_problem *p) { p->tasks[0].label_smoothing = 1.5f; }
static void error_task_hidden(test_problem *p) { p->tasks[0].hidden[1] = -3; }
static void error_task_tap(test_problem *p) { p->tasks[0].tap.from = "attic"; }
static void error_task_class_weights(test_problem *p)
{
    static const float weights[] = { 1, -1, 1 };
    p->tasks[0].class_weights = weights;
}
static void error_task_labels(test_problem *p)
{
    static const char *const labels[] = { "a", NULL, "c" };
    p->tasks[0].labels = labels;
}

static void test_error_bad_descs(void **state)
{
    static const struct { void (*spoil)(test_problem *p); int code; const char *part; } cases[] = {
        { error_input_name, MTL_ERROR_FIELD, "inputs[0].name" },
        { error_input_empty_name, MTL_ERROR_FIELD, "inputs[0].name" },
        { error_input_dotted_name, MTL_ERROR_FIELD, "inputs[0].name" },
        { error_input_bad_text, MTL_ERROR_FIELD, "inputs[0].name" },
        { error_input_width, MTL_ERROR_FIELD, "inputs[0].width is -1" },
        { error_input_vocabulary, MTL_ERROR_FIELD, "inputs[0]" },
        { error_input_vocabulary_negative, MTL_ERROR_FIELD, "inputs[0].vocabulary is -5" },
        { error_input_both, MTL_ERROR_FIELD, "inputs[0]" },
        { error_input_dropout, MTL_ERROR_FIELD, "inputs[0].dropout is 1" },
        { error_input_dropout_nan, MTL_ERROR_FIELD, "inputs[0].dropout" },
        { error_inputs, MTL_ERROR_FIELD, "inputs" },
        { error_input_count, MTL_ERROR_FIELD, "inputs" },
        { error_encoder_hidden, MTL_ERROR_FIELD, "encoder.hidden is -1; it must lie between 1 and 1000000" },
        { error_encoder_hidden_large, MTL_ERROR_FIELD,
            "encoder.hidden is 1000000000; it must lie between 1 and 1000000" },
        { error_encoder_cell, MTL_ERROR_FIELD, "encoder.cell is 9, which is none of rnn, gru, lstm" },
        { error_encoder_layers, MTL_ERROR_FIELD, "encoder.layers is 65" },
        { error_encoder_from, MTL_ERROR_FIELD, "\"nowhere\"" },
        { error_columns, MTL_ERROR_FIELD, "columns" },
        { error_column_flag, MTL_ERROR_FIELD, "columns[1].bidirectional is 2" },
        { error_column_name, MTL_ERROR_FIELD, "columns[1].name" },
        { error_column_circle, MTL_ERROR_FIELD, "low <- high" },
        { error_tasks, MTL_ERROR_FIELD, "tasks" },
        { error_task_count, MTL_ERROR_FIELD, "tasks" },
        { error_task_name, MTL_ERROR_FIELD, "tasks[3].name" },
        { error_task_twice, MTL_ERROR_FIELD, "\"tags\"" },
        { error_task_as_input, MTL_ERROR_FIELD, "\"words\"" },
        { error_task_classes, MTL_ERROR_FIELD, "tasks[1].classes" },
        { error_task_classes_negative, MTL_ERROR_FIELD, "tasks[1].classes is -2" },
        { error_task_kind, MTL_ERROR_FIELD, "tasks[2].kind is 99, which is none of class, real" },
        { error_set_classes, MTL_ERROR_FIELD, "tasks[5].classes" },
        { error_set_loss, MTL_ERROR_FIELD, "tasks[5].loss" },
        { error_set_smoothing, MTL_ERROR_FIELD, "tasks[5] (task \"set\"): label_smoothing" },
        { error_set_weights, MTL_ERROR_FIELD, "tasks[5].class_weights[2] must be a number" },
        { error_thresholds, MTL_ERROR_FIELD, "tasks[2].thresholds (task \"number\"): only sets" },
        { error_real_bce, MTL_ERROR_FIELD, "tasks[2].loss" },
        { error_task_level, MTL_ERROR_FIELD, "tasks[2].level is -1" },
        { error_task_loss, MTL_ERROR_FIELD, "tasks[0].loss" },
        { error_task_loss_real, MTL_ERROR_FIELD, "tasks[2].loss" },
        { error_task_weight, MTL_ERROR_FIELD, "tasks[4].weight is -0.5" },
        { error_task_smoothing, MTL_ERROR_FIELD, "tasks[0].label_smoothing is 1.5" },
        { error_task_hidden, MTL_ERROR_FIELD, "tasks[0].hidden is -3" },
        { error_task_tap, MTL_ERROR_FIELD, "tasks[0].tap" },
        { error_task_class_weights, MTL_ERROR_FIELD, "tasks[0].class_weights[1]" },
        { error_task_labels, MTL_ERROR_ARGUMENT, "tasks[0].labels" },
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const test_shape shape = {0};
        test_problem p;
        mtl_error err = {0};
        test_problem_create(&p, &shape);
        cases[i].spoil(&p);
        assert_null(mtl_model_create(&p.desc, &err));
        assert_true(err.name[0]);
        test_expect_error(&err, cases[i].code, NULL, cases[i].part);
        assert_int_equal(mtl_model_size(&p.desc, &err), 0);
        test_expect_error(&err, cases[i].code, NULL, cases[i].part);
        test_problem_destroy(&p);
    }
}

static void test_error_null_arguments(void **state)
{
    const test_shape shape = {0};
    test_problem p;
    mtl_error err = {0};
    mtl_trainer_desc training = {0};
    mtl_predictor_desc predicting = {0};
    mtl_model *model;
    (void)state;
    test_problem_create(&p, &shape);
    model = mtl_model_create(&p.desc, &err);
    TEST_FINE(&err);
    assert_null(mtl_model_create(NULL, &err));
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "desc", "desc is NULL");
    assert_null(mtl_trainer_create(NULL, NULL, &err));
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "model", "model is NULL");
    assert_null(mtl_predictor_create(NULL, NULL, &err));
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "model", "model is NULL");
    mtl_train_step(NULL, p.batch, 1, NULL, &err);
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "trainer", "trainer");
    mtl_predict(NULL, p.batch, NULL, &err);
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "predictor", "predictor");
    training.lr = -1;
    assert_null(mtl_trainer_create(model, &training, &err));
    test_expect_error(&err, MTL_ERROR_FIELD, "trainer.lr", "trainer.lr is -1");
    training.lr = 0;
    training.optimizer = 77;
    assert_null(mtl_trainer_create(model, &training, &err));
    test_expect_error(&err, MTL_ERROR_FIELD, "trainer.optimizer", "sgd, rmsprop, adam, adamw");
    predicting.threads = 100000;
    assert_null(mtl_predictor_create(model, &predicting, &err));
    test_expect_error(&err, MTL_ERROR_FIELD, "predictor.threads", "predictor.threads is 100000");
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

#define TEST_ERROR \
    cmocka_unit_test(test_error_texts), cmocka_unit_test(test_error_clear), \
        cmocka_unit_test(test_error_first_cause_stays), \
    cmocka_unit_test(test_error_formatter), cmocka_unit_test(test_error_long_names), \
    cmocka_unit_test(test_error_sticky_calls), cmocka_unit_test(test_error_left_out), \
    cmocka_unit_test(test_error_destroy_nothing), cmocka_unit_test(test_error_bad_descs), \
    cmocka_unit_test(test_error_null_arguments)
