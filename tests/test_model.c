/* >>model: descs that are refused, model files there and back, damaged files, weights from and to other
   programs. Included by tests/main.c. */

/* ---- a model that sets every field of its descs -------------------------------------------------------- */

static const char *const model_words[] = { "<unk>", "the", "na\xc3\xafve", "cat", "0", "\xe2\x82\xac" };
static const char *const model_labels[] = { "O", "B-x", "I-x" };
static const char *const model_moods[] = { "good \"or\" so", "back\\slash", "new\nline", "" };
static const float model_class_weights[] = { 0.1f, 2, 1e-3f };

typedef struct model_desc {
    mtl_model_desc desc;
    mtl_input_desc inputs[2];
    mtl_column_desc columns[4];
    mtl_task_desc tasks[4];
} model_desc;

static void model_fill_inputs(model_desc *d)
{
    mtl_input_desc *i = d->inputs;
    i[0].name = "words";
    i[0].vocabulary = 6;
    i[0].width = 3;
    i[0].padding_zero = 1;
    i[0].scale = 0.7f;
    i[0].dropout = 0.1f;
    i[0].dropout_per_sequence = 1;
    i[0].lowercase = 1;
    i[0].digits = 1;
    i[0].words = model_words;
    i[0].kind = MTL_INPUT_EMBEDDING;
    i[0].part = MTL_PART_SUFFIX;
    i[0].letters = 5;
    i[0].tokens = "stems";
    i[1].name = "sensors";
    i[1].features = 2;
    i[1].width = 7;
    i[1].batch_norm = 1;
    i[1].dropout = 0.2f;
    i[1].character_width = 3;                   /* a member that is of another kind stays, too */
    i[1].filters = 4;
    i[1].widths[0] = 2;
    i[1].phrase_count = 5;
    i[1].ignore = 0.4f;
    i[1].speller = MTL_SPELLER_LSTM;
    i[1].hidden = 9;
}

static void model_fill_columns(model_desc *d)
{
    mtl_column_desc *c = d->columns;
    c[0].name = "low";
    c[0].kind = MTL_COLUMN_CELLS;
    c[0].cell = MTL_CELL_GRU;
    c[0].hidden = 4;
    c[0].layers = 2;
    c[0].reset = MTL_RESET_BEFORE;
    c[0].dropout_between = 0.15f;
    c[0].dropout_recurrent = 0.2f;
    c[0].dropout_per_sequence = 1;
    c[1].name = "middle";
    c[1].input.from = "words+low";
    c[1].cell = MTL_CELL_RNN;
    c[1].hidden = 3;
    c[1].activation = MTL_ACTIVATION_SIGMOID;
    c[1].no_bias = 1;
    c[1].dropout = 0.3f;
    c[1].rate = 0.5f;
    c[2].name = "high";
    c[2].input.from = "middle";
    c[2].hidden = 2;
    c[2].bidirectional = 1;
    c[2].forget_bias = 1.5f;
    c[2].layers = 2;
    c[2].norm_input = c[2].norm_between = c[2].norm_output = c[2].residual = 1;
    c[2].norm_epsilon = 1e-3f;
    c[2].heads = 2, c[2].head_width = 4, c[2].rotary = 1;
    c[3].name = "windows";
    c[3].input.from = "words";
    c[3].kind = MTL_COLUMN_CONV;
    c[3].hidden = 2;
    c[3].widths[0] = 2, c[3].widths[1] = 3;
    c[3].dilation = 2;
    c[3].causal = 1;
}

static void model_fill_tasks(model_desc *d)
{
    mtl_task_desc *t = d->tasks;
    t[0].name = "slots";
    t[0].tap.from = "low+high+windows";
    t[0].level = MTL_LEVEL_STEP;
    t[0].classes = 3;
    t[0].labels = model_labels;
    t[0].class_weights = model_class_weights;
    t[0].label_smoothing = 0.05f;
    t[0].dropout_per_sequence = 1;
    t[0].weight = 0.7f;
    t[0].weight_end = 0.2f;
    t[0].start = 0.25f;
    t[1].name = "mood";
    t[1].classes = 4;
    t[1].labels = model_moods;
    t[1].pool = MTL_POOL_MAX;
    t[1].hidden[0] = 5;
    t[1].hidden[1] = 3;
    t[1].activation = MTL_ACTIVATION_TANH;
    t[1].dropout = 0.25f;
    t[1].batch_norm = 1;
    t[1].evaluate_only = 1;
    t[1].pool_beside = MTL_POOL_ADDITIVE;
    t[1].pool_width = 6;
    t[2].name = "speed";
    t[2].pool = MTL_POOL_ADDITIVE;
    t[2].pool_of = "mood";
    t[2].kind = MTL_TASK_REAL;
    t[2].width = 2;
    t[2].loss = MTL_LOSS_HUBER;
    t[2].huber_delta = 0.3f;
    t[3].name = "plain";                        /* but for the vote all defaults */
    t[3].per_step = 1;
    t[3].classes = 2;
    t[3].constraints = MTL_CONSTRAINTS_NONE;    /* a member that is of another kind stays, too */
}

static void model_desc_fill(model_desc *d)
{
    memset(d, 0, sizeof *d);
    model_fill_inputs(d);
    model_fill_columns(d);
    model_fill_tasks(d);
    d->desc.inputs = d->inputs;
    d->desc.input_count = 2;
    d->desc.columns = d->columns;
    d->desc.column_count = 4;
    d->desc.tasks = d->tasks;
    d->desc.task_count = 4;
    d->desc.seed = 18446744073709551615ull;     /* more than a double can tell apart */
}

static mtl_model *model_create(const mtl_model_desc *desc)
{
    mtl_error err;
    mtl_model *model;
    mtl_error_clear(&err);
    model = mtl_model_create(desc, &err);
    TEST_FINE(&err);
    return model;
}

/* The full model, with scales and notes. */
static mtl_model *model_create_full(void)
{
    static const mtl_real mean[2] = { (mtl_real)0.1, -3 }, scale[2] = { (mtl_real)1.7, 0 };
    model_desc d;
    mtl_error err;
    mtl_model *model;
    mtl_error_clear(&err);
    model_desc_fill(&d);
    model = model_create(&d.desc);
    mtl_model_set_feature_scale(model, 1, mean, scale, &err);
    mtl_model_set_target_scale(model, 2, scale, mean, &err);
    mtl_model_note(model, "how", "--lr 0.1 \"quoted\" \xe2\x82\xac\n\t\x01", &err);
    mtl_model_note(model, "empty", "", &err);
    TEST_FINE(&err);
    return model;
}

/* ---- predictions: equal to the bit --------------------------------------------------------------------- */

enum { MODEL_MOST_OUTPUTS = 4096 };

/* All outputs for a fixed batch, end to end; returns how many, 0 when predicting failed. */
static size_t model_predict(const mtl_model *model, mtl_real *out, mtl_error *err)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    test_batch *b = test_batch_create(desc, NULL, 5, 4, 0, 9);
    mtl_prediction *p = (mtl_prediction *)calloc(desc->task_count, sizeof *p);
    mtl_predictor *predictor = mtl_predictor_create(model, NULL, err);
    size_t k, n = 0;
    assert_non_null(p);
    if (mtl_predict(predictor, &b->batch, p, err) == MTL_OK)
        for (k = 0; k < desc->task_count; k++) {
            size_t count = p[k].items * p[k].width;
            assert_true(n + count <= MODEL_MOST_OUTPUTS);
            memcpy(out + n, test_outputs(&p[k]), count * sizeof *out);
            n += count;
        }
    for (k = 0; k < n; k++) assert_true(mtl__is_finite(out[k]));
    mtl_predictor_destroy(predictor);
    free(p);
    test_batch_destroy(b);
    return n;
}

static void model_expect_same_predictions(const mtl_model *a, const mtl_model *b)
{
    static mtl_real first[MODEL_MOST_OUTPUTS], second[MODEL_MOST_OUTPUTS];
    mtl_error err;
    size_t count;
    mtl_error_clear(&err);
    count = model_predict(a, first, &err);
    assert_int_equal(model_predict(b, second, &err), count);
    TEST_FINE(&err);
    assert_true(count > 0);
    assert_memory_equal(first, second, count * sizeof *first);
}

/* ---- round trips --------------------------------------------------------------------------------------- */

static void model_expect_same_text(const char *a, const char *b)
{
    assert_int_equal(a == NULL, b == NULL);
    if (a) assert_string_equal(a, b);
}

static void model_expect_same_texts(const char *const *a, const char *const *b, size_t count)
{
    size_t i;
    assert_int_equal(a == NULL, b == NULL);
    for (i = 0; a && i < count; i++) assert_string_equal(a[i], b[i]);
}

static void model_expect_same_fields(int kind, const void *a, const void *b)
{
    size_t count, i;
    const mtl_field *f = mtl_fields(kind, &count);
    char first[128], second[128];
    for (i = 0; i < count; i++, f++) {
        mtl_field_get(f, a, first, sizeof first);
        mtl_field_get(f, b, second, sizeof second);
        if (strcmp(first, second) != 0) fail_msg("field %s: %s before, %s after", f->name, first, second);
    }
}

static void model_expect_same_desc(const mtl_model_desc *a, const mtl_model_desc *b)
{
    size_t i;
    assert_true(a->input_count == b->input_count && a->column_count == b->column_count &&
                a->task_count == b->task_count);
    assert_true(a->seed == b->seed);
    for (i = 0; i < a->input_count; i++) {
        model_expect_same_text(a->inputs[i].name, b->inputs[i].name);
        model_expect_same_text(a->inputs[i].tokens, b->inputs[i].tokens);
        model_expect_same_fields(MTL_DESC_INPUT, &a->inputs[i], &b->inputs[i]);
        model_expect_same_texts(a->inputs[i].words, b->inputs[i].words, (size_t)a->inputs[i].vocabulary);
        model_expect_same_texts(a->inputs[i].phrases, b->inputs[i].phrases,
                                (size_t)a->inputs[i].phrase_count);
    }
    for (i = 0; i < a->column_count; i++) {
        model_expect_same_text(a->columns[i].name, b->columns[i].name);
        model_expect_same_text(a->columns[i].input.from, b->columns[i].input.from);
        model_expect_same_fields(MTL_DESC_COLUMN, &a->columns[i], &b->columns[i]);
    }
    for (i = 0; i < a->task_count; i++) {
        model_expect_same_text(a->tasks[i].name, b->tasks[i].name);
        model_expect_same_text(a->tasks[i].tap.from, b->tasks[i].tap.from);
        model_expect_same_fields(MTL_DESC_TASK, &a->tasks[i], &b->tasks[i]);
        model_expect_same_texts(a->tasks[i].labels, b->tasks[i].labels, (size_t)a->tasks[i].classes);
        assert_int_equal(a->tasks[i].class_weights == NULL, b->tasks[i].class_weights == NULL);
        if (a->tasks[i].class_weights)
            assert_memory_equal(a->tasks[i].class_weights, b->tasks[i].class_weights,
                                (size_t)a->tasks[i].classes * sizeof(float));
    }
}

static void model_expect_same(mtl_model *a, mtl_model *b)
{
    const mtl_parameters *x = mtl_model_parameters(a), *y = mtl_model_parameters(b);
    size_t i;
    model_expect_same_desc(mtl_model_describe(a), mtl_model_describe(b));
    assert_int_equal(x->count, y->count);
    for (i = 0; i < x->count; i++) {
        assert_string_equal(x->tensors[i]->name, y->tensors[i]->name);
        assert_memory_equal(x->tensors[i]->value, y->tensors[i]->value,
                            x->tensors[i]->count * sizeof(mtl_real));
    }
    model_expect_same_text(mtl_model_note(a, "how", NULL, NULL), mtl_model_note(b, "how", NULL, NULL));
    model_expect_same_text(mtl_model_note(a, "empty", NULL, NULL), mtl_model_note(b, "empty", NULL, NULL));
    assert_null(mtl_model_note(b, "none", NULL, NULL));
    model_expect_same_predictions(a, b);
}

/* Each field of these descs is somewhere not at its default: a field that is new fails here until
   model_desc_fill sets it. */
static void model_expect_all_set(int kind, const void *descs, size_t size, size_t count)
{
    size_t fields, i, k;
    const mtl_field *f = mtl_fields(kind, &fields);
    for (i = 0; i < fields; i++, f++) {
        int set = f->choices && !f->choices[1].name;                /* there is nothing else to choose */
        for (k = 0; k < count; k++) {
            double value = mtl__field_number(f, (const char *)descs + k * size, 0);
            set |= value != 0 && value != f->preset;
        }
        if (!set) fail_msg("test_model.c sets no desc's %s: add it to model_desc_fill", f->name);
    }
}

static void test_model_every_field_is_kept(void **state)
{
    mtl_model *model = model_create_full(), *loaded;
    test_file file;
    mtl_writer writer = test_file_writer(&file);
    model_desc d;
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    memset(&file, 0, sizeof file);
    model_desc_fill(&d);
    d.tasks[3].thresholds = 1;                                      /* of sets alone: tests/test_kinds.c */
    d.tasks[3].tied = d.tasks[3].samples = 1;                       /* of language models: tests/test_lm.c */
    model_expect_all_set(MTL_DESC_INPUT, d.inputs, sizeof d.inputs[0], 2);
    model_expect_all_set(MTL_DESC_COLUMN, d.columns, sizeof d.columns[0], 4);
    model_expect_all_set(MTL_DESC_TASK, d.tasks, sizeof d.tasks[0], 4);
    model_expect_all_set(MTL_DESC_MODEL, &d.desc, sizeof d.desc, 1);
    mtl_model_write(model, NULL, &writer, &err);
    loaded = mtl_model_load_memory(file.bytes, file.used, &err);
    TEST_FINE(&err);
    free(file.bytes);                                               /* nothing points into it */
    model_expect_same(model, loaded);
    assert_string_equal(mtl_model_label(loaded, 1, 0), model_moods[0]);
    assert_int_equal(mtl_model_word(loaded, 0, "NA\xc3\x8fVE", 6), 2);
    assert_int_equal(mtl_model_word(loaded, 0, "7", 1), 4);
    assert_int_equal(mtl_model_word(loaded, 0, "dog", 3), 0);
    mtl_model_destroy(loaded);
    mtl_model_destroy(model);
}

static void test_model_path_memory_and_callbacks(void **state)
{
    test_shape shape;
    test_random r = test_random_from(1);
    int i;
    (void)state;
    for (i = 0; i < test_cases(20); i++) {
        test_problem p;
        mtl_model *model, *loaded[3];
        test_file file, again;
        mtl_writer writer = test_file_writer(&file), second = test_file_writer(&again);
        mtl_reader reader;
        mtl_error err;
        size_t k;
        mtl_error_clear(&err);
        memset(&file, 0, sizeof file);
        memset(&again, 0, sizeof again);
        shape = test_shape_random(i, &r);
        test_problem_create(&p, &shape);
        model = model_create(&p.desc);
        mtl_model_save(model, test_path("round.safetensors"), &err);
        mtl_model_write(model, NULL, &writer, &err);
        reader = test_file_reader(&file);
        loaded[0] = mtl_model_load(test_path("round.safetensors"), &err);
        loaded[1] = mtl_model_load_memory(file.bytes, file.used, &err);
        loaded[2] = mtl_model_read(&reader, &err);
        TEST_FINE(&err);
        mtl_model_write(loaded[2], NULL, &second, &err);
        assert_true(file.used == again.used && memcmp(file.bytes, again.bytes, file.used) == 0);
        for (k = 0; k < 3; k++) {
            model_expect_same(model, loaded[k]);
            mtl_model_destroy(loaded[k]);
        }
        remove(test_path("round.safetensors"));
        free(file.bytes);
        free(again.bytes);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

static void test_model_notes(void **state)
{
    mtl_model *model = model_create_full();
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    assert_string_equal(mtl_model_note(model, "how", "again", &err), "again");
    assert_string_equal(mtl_model_note(model, "how", NULL, &err), "again");
    assert_string_equal(mtl_model_note(model, "more", "text", &err), "text");
    assert_string_equal(mtl_model_note(model, "empty", NULL, NULL), "");
    assert_null(mtl_model_note(model, "\xff", "text", &err));
    test_expect_error(&err, MTL_ERROR_TEXT, NULL, "UTF-8");
    assert_null(mtl_model_note(model, "bad", "\xc0\x80", &err));
    test_expect_error(&err, MTL_ERROR_TEXT, NULL, "UTF-8");
    assert_null(mtl_model_note(model, "bad", NULL, &err));
    mtl_model_destroy(model);
}

/* ---- saving replaces the old file or leaves it --------------------------------------------------------- */

static long model_file_size(const char *path)
{
    FILE *f = fopen(path, "rb");
    long size = -1;
    if (f && fseek(f, 0, SEEK_END) == 0) size = ftell(f);
    if (f) fclose(f);
    return size;
}

typedef struct model_saving { mtl_model *model; char path[1024]; } model_saving;

static void model_save_work(void *user, mtl_error *err)
{
    model_saving *s = (model_saving *)user;
    mtl_model_save(s->model, s->path, err);
}

static void test_model_save_keeps_the_old_file(void **state)
{
    static const char old[] = "the old file";
    model_saving s;
    mtl_error err;
    FILE *f;
    size_t n;
    (void)state;
    mtl_error_clear(&err);
    s.model = model_create_full();
    snprintf(s.path, sizeof s.path, "%s", test_path("old"));
    f = fopen(s.path, "wb");
    assert_non_null(f);
    fwrite(old, 1, sizeof old, f);
    fclose(f);
    for (n = 1;; n++) {                                             /* each allocation of a save fails in
                                                                       turn */
        mtl_error_clear(&err);
        test_malloc_fail_at = n;
        model_save_work(&s, &err);
        if (test_malloc_fail_at) break;
        assert_int_equal(err.code, MTL_ERROR_MEMORY);
        assert_int_equal(model_file_size(s.path), sizeof old);
    }
    test_malloc_fail_at = 0;
    TEST_FINE(&err);
    assert_true(n > 1 && model_file_size(s.path) > (long)sizeof old);
    err.code = MTL_ERROR_IO;                                        /* a set error: nothing is written */
    remove(s.path);
    mtl_model_save(s.model, s.path, &err);
    assert_int_equal(model_file_size(s.path), -1);
    mtl_model_destroy(s.model);
}

static void test_model_save_to_wrong_places(void **state)
{
    mtl_model *model = model_create_full();
    const char *folder = getenv("TMPDIR");
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    assert_int_equal(mtl_model_save(model, folder && *folder ? folder : "/tmp", &err), MTL_ERROR_IO);
    test_expect_error(&err, MTL_ERROR_IO, folder && *folder ? folder : "/tmp", "cannot write");
    mtl_model_save(model, "/nowhere/at/all.safetensors", &err);
    test_expect_error(&err, MTL_ERROR_IO, "/nowhere/at/all.safetensors", "cannot write");
    mtl_model_save(model, NULL, &err);
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "path", "NULL");
    assert_null(mtl_model_load("/nowhere/at/all.safetensors", &err));
    test_expect_error(&err, MTL_ERROR_IO, "/nowhere/at/all.safetensors", "cannot read");
    assert_null(mtl_model_load(folder && *folder ? folder : "/tmp", &err));
    test_expect_error(&err, MTL_ERROR_IO, NULL, "cannot read");
    assert_null(mtl_model_load(NULL, &err));
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "path", "NULL");
    mtl_model_destroy(model);
}

/* A writer that takes `left` more bytes. */
static int model_write_some(void *user, const void *bytes, size_t count)
{
    size_t *left = (size_t *)user;
    (void)bytes;
    if (count > *left) return 1;
    *left -= count;
    return 0;
}

static void test_model_full_writer(void **state)
{
    mtl_model *model = model_create_full();
    size_t room, left;
    mtl_writer writer;
    mtl_error err;
    (void)state;
    writer.user = &left;
    writer.write = model_write_some;
    for (room = 0; room < 100000; room = room * 2 + 1) {
        mtl_error_clear(&err);
        left = room;
        mtl_model_write(model, NULL, &writer, &err);
        if (!err.code) break;
        assert_int_equal(err.code, MTL_ERROR_IO);
    }
    assert_true(room > 1000 && room < 100000);
    mtl_model_destroy(model);
}

/* ---- damaged files ------------------------------------------------------------------------------------- */

static void model_file_create(test_file *file, mtl_model *model)
{
    mtl_writer writer = test_file_writer(file);
    mtl_error err;
    mtl_error_clear(&err);
    memset(file, 0, sizeof *file);
    mtl_model_write(model, NULL, &writer, &err);
    TEST_FINE(&err);
    assert_true(file->used <= 16384);
}

/* Loading fails with a message, or gives a model that predicts finite numbers. Returns whether it loaded. */
static int model_try(const unsigned char *bytes, size_t count)
{
    static mtl_real out[MODEL_MOST_OUTPUTS];
    mtl_error err;
    mtl_model *model;
    int loaded;
    mtl_error_clear(&err);
    model = mtl_model_load_memory(bytes, count, &err);
    loaded = model != NULL;
    assert_int_equal(loaded, err.code == MTL_OK);
    if (!loaded) assert_true(err.message[0] && mtl_text_valid(err.message,
                                                              strlen(err.message)) == strlen(err.message));
    else if (model_predict(model, out, &err) == 0) fail_msg("it loaded, but: %s", err.message);
    mtl_model_destroy(model);
    return loaded;
}

/* Bytes in a block of their own size, so that sanitizers see what is read behind them. */
static void test_model_truncated_files(void **state)
{
    mtl_model *model = model_create_full();
    test_file file;
    size_t length, step = test_quick() ? 7 : 1;
    (void)state;
    model_file_create(&file, model);
    for (length = 0; length < file.used; length += length > 400 ? step : 1) {
        unsigned char *copy = (unsigned char *)malloc(length ? length : 1);
        assert_non_null(copy);
        memcpy(copy, file.bytes, length);
        if (model_try(copy, length)) fail_msg("a file of %lu bytes, cut to %lu, was loaded",
                                              (unsigned long)file.used, (unsigned long)length);
        free(copy);
    }
    assert_true(model_try(file.bytes, file.used));
    free(file.bytes);
    mtl_model_destroy(model);
}

static void test_model_flipped_bits(void **state)
{
    mtl_model *model = model_create_full();
    test_file file;
    unsigned char *copy;
    size_t header, at, step = test_quick() ? 11 : 1, loaded = 0;
    int bit;
    (void)state;
    model_file_create(&file, model);
    header = 8 + (size_t)(file.bytes[0] | file.bytes[1] << 8);
    assert_true(header < file.used);
    copy = (unsigned char *)malloc(file.used);
    assert_non_null(copy);
    memcpy(copy, file.bytes, file.used);
    for (at = 0; at < header; at += at > 300 ? step : 1)
        for (bit = 0; bit < 8; bit++) {
            copy[at] ^= (unsigned char)(1 << bit);
            loaded += (size_t)model_try(copy, file.used);
            copy[at] = file.bytes[at];
        }
    assert_true(loaded > 0);                                        /* a letter of a word, for example */
    free(copy);
    free(file.bytes);
    mtl_model_destroy(model);
}

/* Replaces `from` in the file's header by `to`, which must be as long. */
static void model_replace(test_file *file, const char *from, const char *to)
{
    size_t length = strlen(from), i;
    assert_int_equal(length, strlen(to));
    for (i = 0; i + length <= file->used; i++)
        if (memcmp(file->bytes + i, from, length) == 0) {
            memcpy(file->bytes + i, to, length);
            return;
        }
    fail_msg("the file holds no %s", from);
}

static void model_expect_refused(const char *from, const char *to, int code, const char *name,
                                 const char *part)
{
    mtl_model *model = model_create_full();
    test_file file;
    mtl_error err;
    mtl_error_clear(&err);
    model_file_create(&file, model);
    model_replace(&file, from, to);
    assert_null(mtl_model_load_memory(file.bytes, file.used, &err));
    test_expect_error(&err, code, name, part);
    free(file.bytes);
    mtl_model_destroy(model);
}

/* What is inside the configuration's text is quoted: " is \". */
static void test_model_wrong_files(void **state)
{
    (void)state;
    model_expect_refused("\"mtl_rnn.version\":\"1\"", "\"mtl_rnn.version\":\"2\"", MTL_ERROR_VERSION,
                         "mtl_rnn.version", "newer");
    model_expect_refused("\"mtl_rnn.version\":\"1\"", "\"mtl_rnn.version\":\"x\"", MTL_ERROR_FORMAT,
                         "mtl_rnn.version", "\"x\"");
    model_expect_refused("\"mtl_rnn.version\":\"1\"", "\"mtl_rnn.version\":\"0\"", MTL_ERROR_FORMAT,
                         "mtl_rnn.version", "\"0\"");
    model_expect_refused("\"mtl_rnn.config\"", "\"mtl_rnn.confix\"", MTL_ERROR_FORMAT, "mtl_rnn.config",
                         "another program");
    model_expect_refused("\\\"hidden\\\":4", "\\\"hidden\\\":5", MTL_ERROR_TENSOR, NULL, "low.weight_ih_l0");
    model_expect_refused("\\\"hidden\\\":4", "\\\"hidden\\\":-", MTL_ERROR_FORMAT, NULL, "configuration");
    model_expect_refused("\\\"classes\\\":3", "\\\"classes\\\":9", MTL_ERROR_FORMAT, "labels", "labels");
    model_expect_refused("\\\"vocabulary\\\":6", "\\\"vocabulary\\\":7", MTL_ERROR_FORMAT, "words", "words");
    model_expect_refused("\"slots.output.bias\"", "\"slots.output.bios\"", MTL_ERROR_TENSOR,
                         "slots.output.bias", "slots.output.bias");
    model_expect_refused("\\\"gru\\\"", "\\\"grU\\\"", MTL_ERROR_FIELD, NULL, "gru");
    model_expect_refused("\\\"from\\\":\\\"middle\\\"", "\\\"from\\\":\\\"muddle\\\"", MTL_ERROR_FIELD, NULL,
                         "muddle");
}

static void test_model_file_of_another_program(void **state)
{
    static const float values[2] = { 1, 2 };
    mtl__tensor_entry entry;
    test_file file;
    mtl_writer writer = test_file_writer(&file);
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    memset(&file, 0, sizeof file);
    memset(&entry, 0, sizeof entry);
    entry.name = "weight";
    entry.type = MTL_TYPE_F32;
    entry.dims = 1;
    entry.shape[0] = 2;
    entry.data = values;
    mtl__safetensors_write(&entry, 1, NULL, 0, &writer, NULL, &err);
    TEST_FINE(&err);
    assert_null(mtl_model_load_memory(file.bytes, file.used, &err));
    test_expect_error(&err, MTL_ERROR_FORMAT, "mtl_rnn.config", "another program");
    assert_null(mtl_model_load_memory("no such thing at all", 20, &err));
    test_expect_error(&err, MTL_ERROR_FORMAT, NULL, "not a safetensors file");
    free(file.bytes);
}

/* A weight that is no number is found, and named. */
static void test_model_weights_that_are_no_numbers(void **state)
{
    mtl_model *model = model_create_full();
    mtl_tensor *t = mtl_model_tensor(model, "high.weight_hh_l0");
    test_file file;
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    t->value[3] = test_nan();
    model_file_create(&file, model);
    assert_null(mtl_model_load_memory(file.bytes, file.used, &err));
    assert_int_equal(err.position, 3);
    test_expect_error(&err, MTL_ERROR_NUMBER, "high.weight_hh_l0", "element 3");
    free(file.bytes);
    mtl_model_destroy(model);
}

/* ---- descs that are refused ---------------------------------------------------------------------------- */

static const char *const model_half_labels[] = { "O", NULL, "I-x" },
    *const model_same_labels[] = { "O", "I-x", "O" };
static const float model_negative_weights[] = { 1, -1, 1 };

/* What is changed in the full desc, and what is said about it. */
#define MODEL_WRONG(X) \
    X(d.inputs[0].name = NULL, "inputs[0]", "inputs[0].name is missing") \
    X(d.inputs[1].name = "", "inputs[1]", "inputs[1].name is missing") \
    X(d.inputs[0].name = "a b", "inputs[0]", "spaces") \
    X(d.inputs[0].name = "a.b", "inputs[0]", "dots") \
    X(d.columns[1].name = "a+b", "columns[1]", "plus signs") \
    X(d.columns[1].name = NULL, "columns[1]", "columns[1].name is missing") \
    X(d.tasks[1].name = "say\"", "tasks[1]", "quotes") \
    X(d.tasks[1].name = "\xff", "tasks[1]", "UTF-8") \
    X(d.tasks[1].name = "a_name_that_is_much_longer_than_the_sixty_three_bytes_it_might_have", "tasks[1]", \
      "63 bytes") \
    X(d.tasks[1].name = "slots", "slots", "used twice") \
    X(d.tasks[1].name = "words", "words", "used twice") \
    X(d.tasks[1].name = "low", "low", "used twice") \
    X(d.columns[1].name = "low", "low", "used twice") \
    X(d.columns[1].name = "sensors", "sensors", "used twice") \
    X(d.inputs[1].name = "words", "words", "used twice") \
    X(d.inputs[0].vocabulary = 0, "inputs[0]", "either a vocabulary or features") \
    X(d.inputs[0].features = 2, "inputs[0]", "either a vocabulary or features") \
    X(d.inputs[0].vocabulary = -1, "inputs[0].vocabulary", "between 0 and 100000000") \
    X(d.inputs[0].width = -3, "inputs[0].width", "between 1 and") \
    X(d.inputs[0].dropout = 1, "inputs[0].dropout", "between 0 and 0.99") \
    X(d.inputs[0].padding_zero = 2, "inputs[0].padding_zero", "between 0 and 1") \
    X(d.columns[0].hidden = -1, "columns[0].hidden", "between 1 and 1000000") \
    X(d.columns[2].hidden = 1000001, "columns[2].hidden", "between 1 and 1000000") \
    X(d.columns[0].layers = 65, "columns[0].layers", "between 1 and 64") \
    X(d.columns[0].cell = MTL_CELL_COUNT, "columns[0].cell", "rnn, gru, lstm") \
    X(d.columns[0].reset = 3, "columns[0].reset", "after, before") \
    X(d.columns[0].dropout = -0.1f, "columns[0].dropout", "between 0 and 0.99") \
    X(d.columns[0].input.from = "nothing", "columns[0].input", \
      "no input, column or task named \"nothing\"") \
    X(d.columns[0].input.from = "middle", "low", "low <- middle <- low") \
    X(d.tasks[0].tap.from = "low+muddle", "tasks[0].tap", "\"muddle\"") \
    X(d.tasks[0].classes = 0, "tasks[0]", "tasks[0].classes (task \"slots\") must be at least 1") \
    X(d.tasks[0].classes = -4, "tasks[0].classes", "between 0 and") \
    X(d.tasks[0].kind = 9, "tasks[0].kind", "class, real") \
    X(d.tasks[0].level = 7, "tasks[0].level", "sequence, step") \
    X(d.tasks[0].loss = MTL_LOSS_MSE, "tasks[0]", "does not fit") \
    X(d.tasks[2].loss = MTL_LOSS_CROSS_ENTROPY, "tasks[2]", "does not fit") \
    X(d.tasks[2].width = -1, "tasks[2].width", "between 1 and") \
    X(d.tasks[1].hidden[1] = -3, "tasks[1].hidden", "between 0 and") \
    X(d.tasks[1].weight = -1, "tasks[1].weight", "between 0 and") \
    X(d.tasks[0].per_step = 1, "tasks[0]", "tasks[0].per_step (task \"slots\"): only classes of sequences") \
    X(d.tasks[2].per_step = 1, "tasks[2]", "only classes of sequences") \
    X(d.tasks[0].kind = MTL_TASK_ORIGIN, "tasks[0]", "level must be sequence") \
    X(d.tasks[1].pool = 9, "tasks[1].pool", "last, mean, max") \
    X(memset(&d.tasks[1].weight, 0xff, sizeof(float)), "tasks[1].weight", "finite number") \
    X(d.tasks[0].class_weights = model_negative_weights, "tasks[0]", "class_weights[1]") \
    X(d.tasks[0].labels = model_half_labels, "tasks[0]", "1") \
    X(d.tasks[0].labels = model_same_labels, "O", "twice") \
    X(d.desc.inputs = NULL, "inputs", "one input") \
    X(d.desc.input_count = 0, "inputs", "one input") \
    X(d.desc.tasks = NULL, "tasks", "one task") \
    X(d.desc.task_count = 0, "tasks", "one task") \
    X(d.desc.columns = NULL, "columns", "columns is NULL")

static void model_expect_wrong(const model_desc *d, const char *change, const char *name, const char *part)
{
    mtl_error err;
    mtl_model *model;
    size_t bytes;
    mtl_error_clear(&err);
    model = mtl_model_create(&d->desc, &err);
    if (model) fail_msg("a model was made although %s", change);
    if (!strstr(err.name, name) || !strstr(err.message, part))
        fail_msg("%s: name \"%s\", message \"%s\"", change, err.name, err.message);
    mtl_error_clear(&err);
    bytes = mtl_model_size(&d->desc, &err);
    assert_int_equal(bytes == 0, err.code != MTL_OK);                   /* two labels alike are seen later */
}

static void test_model_wrong_descs(void **state)
{
    model_desc d;
    mtl_error err;
    (void)state;
#define MODEL_TRY(change, name, part) \
    model_desc_fill(&d); \
    change; \
    model_expect_wrong(&d, #change, name, part);
    MODEL_WRONG(MODEL_TRY)
    mtl_error_clear(&err);
    assert_null(mtl_model_create(NULL, &err));
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "desc", "NULL");
    assert_null(mtl_model_create(NULL, NULL));
}

/* Larger than memory: said before anything is taken. */
static void test_model_too_large(void **state)
{
    model_desc d;
    mtl_error err;
    mtl_model *model;
    (void)state;
    mtl_error_clear(&err);
    model_desc_fill(&d);
    d.columns[0].hidden = d.columns[1].hidden = d.columns[2].hidden = 1000000;
    d.columns[2].layers = 64;
    model = mtl_model_create(&d.desc, &err);
    assert_null(model);
    test_expect_error(&err, MTL_ERROR_MEMORY, NULL, "");
}

/* Everything that a desc points to is copied. */
static void test_model_copies_its_desc(void **state)
{
    char name[] = "words", word[] = "<unk>", from[] = "words+low";
    const char *words[6];
    float weights[3] = { 1, 2, 3 };
    model_desc d;
    mtl_model *model;
    (void)state;
    model_desc_fill(&d);
    memcpy(words, model_words, sizeof words);
    words[0] = word;
    d.inputs[0].name = name;
    d.inputs[0].words = words;
    d.columns[1].input.from = from;
    d.tasks[0].class_weights = weights;
    model = model_create(&d.desc);
    memset(name, 'x', sizeof name - 1);
    memset(word, 'x', sizeof word - 1);
    memset(from, 'x', sizeof from - 1);
    memset(weights, 0, sizeof weights);
    memset(&d, 0, sizeof d);
    assert_string_equal(mtl_model_describe(model)->inputs[0].name, "words");
    assert_string_equal(mtl_model_describe(model)->inputs[0].words[0], "<unk>");
    assert_string_equal(mtl_model_describe(model)->columns[1].input.from, "words+low");
    assert_true(mtl_model_describe(model)->tasks[0].class_weights[2] == 3);
    assert_int_equal(mtl_model_describe(model)->tasks[3].pool, MTL_POOL_LAST);       /* defaults are put in */
    assert_int_equal(mtl_model_describe(model)->tasks[3].loss, MTL_LOSS_CROSS_ENTROPY);
    mtl_model_destroy(model);
}

/* ---- looking at a model -------------------------------------------------------------------------------- */

static void test_model_lookup(void **state)
{
    mtl_model *model = model_create_full();
    (void)state;
    assert_int_equal(mtl_model_input(model, "sensors"), 1);
    assert_int_equal(mtl_model_input(model, "low"), -1);
    assert_int_equal(mtl_model_task(model, "speed"), 2);
    assert_null(mtl_model_tensor(model, "low.weight_ih_l7"));
    assert_int_equal(mtl_model_tensor(model, "words.weight")->role, MTL_TENSOR_EMBEDDING);
    assert_int_equal(mtl_model_word(model, 0, "The", 3), 1);
    assert_int_equal(mtl_model_word(model, 0, "Theory", 3), 1);         /* length counts, not a final 0 */
    assert_int_equal(mtl_model_word(model, 1, "the", 3), 0);            /* features have no words */
    assert_int_equal(mtl_model_word(model, 5, "the", 3), 0);
    assert_int_equal(mtl_model_freeze(model, "low.", 1), 8);
    assert_int_equal(mtl_model_freeze(model, "", 0), mtl_model_parameters(model)->count);
    assert_int_equal(mtl_model_rate(model, "mood.", 0.5f), 13);
    assert_int_equal(mtl_model_rate(model, "nothing", 0.5f), 0);
    assert_true(mtl_model_tensor(model, "mood.output.bias")->rate == 0.5f);
    mtl_model_destroy(model);
}

/* Of unknown words training may show none: they begin, and then stay, as zeros. Ids without words do not. */
static void test_model_unknown_word(void **state)
{
    int named;
    (void)state;
    for (named = 0; named < 2; named++) {
        mtl_input_desc input = {0};
        mtl_task_desc task = {0};
        mtl_model_desc d = {0};
        mtl_error err = {0};
        mtl_model *model;
        const mtl_tensor *t;
        size_t k, zeros = 0;
        input.name = "words", input.vocabulary = 6, input.width = 5, input.words = named ? model_words : NULL;
        task.name = "mood", task.kind = MTL_TASK_CLASS, task.classes = 2;
        d.inputs = &input, d.input_count = 1, d.tasks = &task, d.task_count = 1;
        model = mtl_model_create(&d, &err);
        TEST_FINE(&err);
        t = mtl_model_tensor(model, "words.weight");
        for (k = 0; k < 10; k++) zeros += t->value[k] == 0;
        assert_int_equal(zeros, named ? 5 : 0);
        mtl_model_destroy(model);
    }
}

/* A word may be of any length, as it stands and once it is normalised. */
static void test_model_long_words(void **state)
{
    enum { LONG = 5000 };
    static char lower[LONG + 1], upper[LONG + 1], digits[301];
    const char *words[] = { "<unk>", lower, digits, lower + LONG - 256, lower + LONG - 254 };
    mtl_input_desc input = {0};
    mtl_task_desc task = {0};
    mtl_model_desc desc = {0};
    mtl_error err = {0};
    mtl_model *model;
    size_t i;
    (void)state;
    for (i = 0; i < LONG; i += 2) {                                     /* a-umlaut: two bytes, the second one
                                                                           changes */
        memcpy(lower + i, "\xc3\xa4", 2);
        memcpy(upper + i, "\xc3\x84", 2);
    }
    memset(digits, '0', 300);
    input.name = "words";
    input.words = words;
    input.vocabulary = 5;
    input.width = 2;
    input.lowercase = input.digits = 1;
    task.name = "kind";
    task.classes = 2;
    desc.inputs = &input;
    desc.input_count = 1;
    desc.encoder.hidden = 2;
    desc.tasks = &task;
    desc.task_count = 1;
    model = mtl_model_create(&desc, &err);
    TEST_FINE(&err);
    assert_int_equal(mtl_model_word(model, 0, upper, LONG), 1);
    assert_int_equal(mtl_model_word(model, 0, lower, LONG), 1);
    assert_int_equal(mtl_model_word(model, 0, upper, 256), 3);
    assert_int_equal(mtl_model_word(model, 0, upper, 254), 4);
    assert_int_equal(mtl_model_word(model, 0, upper, LONG - 2), 0);
    assert_int_equal(mtl_model_word(model, 0, upper, LONG - 1), 0);     /* half a character at its end */
    memset(digits, '7', 300);                                           /* the model has its own copy */
    assert_int_equal(mtl_model_word(model, 0, digits, 300), 2);
    assert_int_equal(mtl_model_word(model, 0, digits, 299), 0);
    mtl_model_destroy(model);
}

/* Initial values: padding zero, forget gates open, the rest within PyTorch's bounds; from seed and name
   alone. */
static void test_model_initial_values(void **state)
{
    mtl_model *model = model_create_full(), *other;
    model_desc d;
    const mtl_tensor *t = mtl_model_tensor(model, "words.weight");
    double mean = 0;
    size_t i;
    (void)state;
    for (i = 0; i < 3; i++) assert_true(t->value[i] == 0 && t->value[3 + i] != 0);
    t = mtl_model_tensor(model, "high.bias_ih_l0");
    for (i = 0; i < 2; i++) mean += (double)t->value[2 + i] / 2;        /* gates i f g o of two units */
    assert_true(mean > 1.5 - 0.71 && mean < 1.5 + 0.71);
    model_desc_fill(&d);
    d.desc.task_count = 1;                                              /* another set of tasks: the rest
                                                                           begins alike */
    other = model_create(&d.desc);
    assert_memory_equal(mtl_model_tensor(other, "middle.weight_ih_l0")->value,
                        mtl_model_tensor(model, "middle.weight_ih_l0")->value, t->count * sizeof(mtl_real));
    mtl_model_destroy(other);
    d.desc.seed = 5;
    other = model_create(&d.desc);
    assert_true(memcmp(mtl_model_tensor(other, "middle.weight_ih_l0")->value,
                       mtl_model_tensor(model, "middle.weight_ih_l0")->value,
                           t->count * sizeof(mtl_real)) != 0);
    mtl_model_destroy(other);
    mtl_model_destroy(model);
}

static void test_model_scales_are_checked(void **state)
{
    mtl_model *model = model_create_full();
    mtl_real mean[2] = { 0, 0 }, scale[2] = { 1, 1 };
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    mtl_model_set_feature_scale(model, 0, mean, scale, &err);
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "words", "words");
    mtl_model_set_feature_scale(model, 2, mean, scale, &err);
    test_expect_error(&err, MTL_ERROR_RANGE, NULL, "2");
    mtl_model_set_target_scale(model, 0, mean, scale, &err);
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "slots", "slots");
    mtl_model_set_target_scale(model, -1, mean, scale, &err);
    test_expect_error(&err, MTL_ERROR_RANGE, NULL, "-1");
    scale[1] = test_nan();
    mtl_model_set_target_scale(model, 2, mean, scale, &err);
    test_expect_error(&err, MTL_ERROR_NUMBER, "speed", "speed");
    mean[0] = test_infinity();
    mtl_model_set_feature_scale(model, 1, mean, scale, &err);
    test_expect_error(&err, MTL_ERROR_NUMBER, "sensors", "sensors");
    mtl_model_destroy(model);
}

static void test_model_scales_are_told(void **state)
{
    mtl_model *model = model_create_full();
    const mtl_real *mean = NULL, *scale = NULL;
    (void)state;
    assert_int_equal(mtl_model_feature_scale(model, 1, &mean, &scale), 1);
    assert_true(mean[0] == (mtl_real)0.1 && mean[1] == -3 && scale[0] == (mtl_real)1.7 && scale[1] == 0);
    assert_int_equal(mtl_model_target_scale(model, 2, &mean, &scale), 1);
    assert_true(mean[0] == (mtl_real)1.7 && scale[0] == (mtl_real)0.1);
    assert_int_equal(mtl_model_feature_scale(model, 0, &mean, &scale), 0);
    assert_int_equal(mtl_model_feature_scale(model, 99, &mean, &scale), 0);
    assert_int_equal(mtl_model_target_scale(model, -1, &mean, &scale), 0);
    assert_int_equal(mtl_model_target_scale(NULL, 0, &mean, &scale), 0);
    mtl_model_destroy(model);
}

/* What the interface says of numbers far from 0: less their mean, with a mean of 0, they are as small
   ones. */
static void test_model_rows_far_from_zero(void **state)
{
    static const double stamps[3] = { 1700000000007.0, 1700000000011.0, 1700000000010.0 };
    static const double beyond = 1700000000000.0;
    mtl_real rows[3], mean = 9, scale = 2, zero = 0, near_answers[4], far_answers[4];
    int length = 3, i;
    mtl_input_desc inputs[1];
    mtl_task_desc tasks[1];
    mtl_model_desc desc;
    mtl_input input = { NULL, rows, NULL };
    mtl_batch batch;
    mtl_prediction out;
    mtl_predictor *predictor;
    mtl_model *model;
    mtl_error err;
    (void)state;
    memset(inputs, 0, sizeof inputs), memset(tasks, 0, sizeof tasks), memset(&desc, 0, sizeof desc);
    memset(&batch, 0, sizeof batch), memset(&err, 0, sizeof err);
    inputs[0].name = "stamps", inputs[0].features = 1;
    tasks[0].name = "late", tasks[0].level = MTL_LEVEL_STEP, tasks[0].kind = MTL_TASK_REAL;
    desc.inputs = inputs, desc.input_count = 1, desc.tasks = tasks, desc.task_count = 1;
    desc.encoder.hidden = 4;
    batch.sequences = 1, batch.lengths = &length, batch.inputs = &input;
    model = model_create(&desc);
    predictor = mtl_predictor_create(model, NULL, &err);
    mtl_model_set_feature_scale(model, 0, &mean, &scale, &err);
    for (i = 0; i < 3; i++) rows[i] = (mtl_real)(stamps[i] - beyond);
    mtl_predict(predictor, &batch, &out, &err);
    TEST_FINE(&err);
    memcpy(near_answers, out.values, sizeof *rows * 3);
    mtl_model_set_feature_scale(model, 0, &zero, &scale, &err);
    for (i = 0; i < 3; i++) rows[i] = (mtl_real)(stamps[i] - (beyond + 9));
    mtl_predict(predictor, &batch, &out, &err);
    TEST_FINE(&err);
    memcpy(far_answers, out.values, sizeof *rows * 3);
    assert_memory_equal(near_answers, far_answers, sizeof *rows * 3);
    assert_true(near_answers[0] != near_answers[2]);
    mtl_predictor_destroy(predictor);
    mtl_model_destroy(model);
}

/* ---- weights from and to other programs ---------------------------------------------------------------- */

/* A model as PyTorch would have it: embedding "emb", bidirectional layers "rnn", linear "head.1". */
static mtl_model *model_create_layers(int cell, int layers)
{
    mtl_input_desc input;
    mtl_task_desc task;
    mtl_model_desc desc;
    memset(&input, 0, sizeof input);
    memset(&task, 0, sizeof task);
    memset(&desc, 0, sizeof desc);
    input.name = "words";
    input.vocabulary = 5;
    input.width = 3;
    task.name = "intent";
    task.classes = 4;
    desc.inputs = &input;
    desc.input_count = 1;
    desc.encoder.cell = cell;
    desc.encoder.hidden = 2;
    desc.encoder.layers = layers;
    desc.encoder.bidirectional = 1;
    desc.encoder.no_bias = cell == MTL_CELL_RNN;
    desc.tasks = &task;
    desc.task_count = 1;
    return model_create(&desc);
}

static mtl_model *model_create_plain(int cell) { return model_create_layers(cell, 2); }

static const mtl_import model_mappings[] = { { "model.emb.", "words." }, { "model.rnn.", "encoder." },
    { "model.head.1.", "intent.output." } };

/* Exported under other names and imported again: the same model. */
static void test_model_import_export(void **state)
{
    mtl_safetensors file;
    mtl_error err;
    int cell;
    (void)state;
    for (cell = MTL_CELL_RNN; cell <= MTL_CELL_LSTM; cell++) {
        mtl_model *model = model_create_plain(cell), *other = model_create_plain(cell);
        mtl_error_clear(&err);
        mtl_parameters_randomise(mtl_model_parameters(other), 77);
        mtl_model_export(model, test_path("export.safetensors"), model_mappings, 3, &err);
        mtl_safetensors_open(&file, test_path("export.safetensors"), &err);
        TEST_FINE(&err);
        assert_int_equal(file.count, mtl_model_parameters(model)->count);
        assert_non_null(mtl_safetensors_find(&file, "model.emb.weight"));
        assert_non_null(mtl_safetensors_find(&file, "model.rnn.weight_hh_l1_reverse"));
        assert_non_null(mtl_safetensors_find(&file, "model.head.1.bias"));
        mtl_model_import(other, &file, model_mappings, 3, &err);
        TEST_FINE(&err);
        model_expect_same(model, other);
        mtl_safetensors_close(&file);
        remove(test_path("export.safetensors"));
        mtl_model_destroy(model);
        mtl_model_destroy(other);
    }
}

/* count 0: all tensors under their own names; mappings that name a part export that part. */
static void test_model_export_of_parts(void **state)
{
    mtl_model *model = model_create_plain(MTL_CELL_GRU);
    mtl_safetensors file;
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    mtl_model_export(model, test_path("all"), NULL, 0, &err);
    mtl_safetensors_open(&file, test_path("all"), &err);
    TEST_FINE(&err);
    assert_int_equal(file.count, mtl_model_parameters(model)->count);
    assert_non_null(mtl_safetensors_find(&file, "encoder.bias_ih_l0"));
    mtl_safetensors_close(&file);
    mtl_model_export(model, test_path("all"), model_mappings, 1, &err);
    mtl_safetensors_open(&file, test_path("all"), &err);
    TEST_FINE(&err);
    assert_int_equal(file.count, 1);
    mtl_safetensors_close(&file);
    remove(test_path("all"));
    mtl_model_export(model, "/nowhere/at/all", NULL, 0, &err);
    test_expect_error(&err, MTL_ERROR_IO, "/nowhere/at/all", "cannot write");
    mtl_model_destroy(model);
}

/* The model's tensors as entries of a file, named by the mappings, one of them damaged; returns how many. */
enum { MODEL_MISSING, MODEL_RENAMED, MODEL_TRANSPOSED, MODEL_FLAT, MODEL_INTEGER, MODEL_DAMAGES };

static void model_damaged_file(mtl_model *model, int damage, test_file *file)
{
    const mtl_parameters *set = mtl_model_parameters(model);
    mtl__tensor_entry entries[32];
    mtl_writer writer = test_file_writer(file);
    mtl_error err;
    size_t i, n = 0;
    mtl_error_clear(&err);
    memset(file, 0, sizeof *file);
    memset(entries, 0, sizeof entries);
    assert_true(set->count <= 32);
    for (i = 0; i < set->count; i++) {
        const mtl_tensor *t = set->tensors[i];
        mtl__tensor_entry *e = &entries[n++];
        int hit = strcmp(t->name, "encoder.weight_ih_l1") == 0;
        e->name = hit && damage == MODEL_RENAMED ? "encoder.weight_xx_l1" : t->name;
        e->type = MTL__REAL_IS_DOUBLE ? MTL_TYPE_F64 : MTL_TYPE_F32;
        e->dims = t->dims;
        e->shape[0] = t->shape[0];
        e->shape[1] = t->shape[1];
        e->data = t->value;
        if (hit && damage == MODEL_MISSING) n--;
        if (hit && damage == MODEL_TRANSPOSED) { e->shape[0] = t->shape[1]; e->shape[1] = t->shape[0]; }
        if (hit && damage == MODEL_FLAT) { e->dims = 1; e->shape[0] = t->count; }
        if (hit && damage == MODEL_INTEGER) e->type = MTL__REAL_IS_DOUBLE ? MTL_TYPE_I64 : MTL_TYPE_I32;
    }
    mtl__safetensors_write(entries, n, NULL, 0, &writer, NULL, &err);
    TEST_FINE(&err);
}

/* Each mismatch names the tensor, and nothing is changed. */
static void test_model_import_mismatches(void **state)
{
    static const mtl_import same = { "", "" };
    mtl_safetensors opened;
    test_file file;
    mtl_error err;
    int damage;
    (void)state;
    for (damage = 0; damage < MODEL_DAMAGES; damage++) {
        mtl_model *model = model_create_plain(MTL_CELL_LSTM), *other = model_create_plain(MTL_CELL_LSTM);
        mtl_real *before;
        mtl_error_clear(&err);
        mtl_parameters_randomise(mtl_model_parameters(other), 77);
        before = test_weights_copy(other);
        model_damaged_file(model, damage, &file);
        mtl_safetensors_open_memory(&opened, file.bytes, file.used, &err);
        TEST_FINE(&err);
        assert_int_equal(mtl_model_import(other, &opened, &same, 1, &err), MTL_ERROR_TENSOR);
        test_expect_error(&err, MTL_ERROR_TENSOR, "encoder.weight_ih_l1", "encoder.weight_ih_l1");
        assert_true(test_weights_equal(other, before));
        mtl_safetensors_close(&opened);
        free(file.bytes);
        free(before);
        mtl_model_destroy(model);
        mtl_model_destroy(other);
    }
}

/* Every mismatch is in the message; mappings that name nothing are an error too. */
static void test_model_import_of_another_shape(void **state)
{
    static const mtl_import same = { "", "" }, nothing = { "", "no_such_tensor" };
    mtl_model *model = model_create_plain(MTL_CELL_GRU), *other = model_create_plain(MTL_CELL_LSTM);
    mtl_safetensors opened;
    test_file file;
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    model_damaged_file(model, MODEL_MISSING, &file);
    mtl_safetensors_open_memory(&opened, file.bytes, file.used, &err);
    TEST_FINE(&err);
    mtl_model_import(other, &opened, &same, 1, &err);
    assert_non_null(strstr(err.message, "encoder.weight_ih_l0"));
    assert_non_null(strstr(err.message, "encoder.weight_hh_l0"));
    test_expect_error(&err, MTL_ERROR_TENSOR, "encoder.weight_ih_l0", "16 ");
    mtl_model_import(other, &opened, &nothing, 1, &err);
    test_expect_error(&err, MTL_ERROR_TENSOR, "mappings", "no tensor");
    mtl_model_import(other, &opened, &same, 0, &err);
    test_expect_error(&err, MTL_ERROR_TENSOR, "mappings", "no tensor");
    mtl_safetensors_close(&opened);
    free(file.bytes);
    mtl_model_destroy(model);
    mtl_model_destroy(other);
}

/* A mapping that fits nothing is an error and says what has no mapping, and so is what the file has more of
   under a mapped prefix; mtl_model_import_part counts and names that. */
static void test_model_import_of_a_part(void **state)
{
    static const mtl_import misspelt[] = { { "model.emb.", "words." }, { "model.rnn.", "encoder." },
        { "model.head.1.", "intnt.output." } };
    static const mtl_import hidden[] = { { "model.", "encoder." }, { "model.rnn.", "encoder.weight_ih_l0" } };
    static const mtl_import stars[] = { { "model.rnn.*_l0", "encoder.*_l0" } };
    mtl_model *two = model_create_layers(MTL_CELL_LSTM, 2), *one = model_create_layers(MTL_CELL_LSTM, 1);
    mtl_real *before = test_weights_copy(one);
    const char *path = test_path("two.safetensors");
    mtl_import_result result;
    mtl_safetensors file;
    mtl_error err = {0};
    (void)state;
    mtl_parameters_randomise(mtl_model_parameters(two), 77);
    mtl_model_export(two, path, model_mappings, 3, &err);
    mtl_safetensors_open(&file, path, &err);
    TEST_FINE(&err);
    assert_int_equal(mtl_model_import(one, &file, misspelt, 3, &err), MTL_ERROR_TENSOR);
    assert_int_equal(err.position, 2);
    assert_non_null(strstr(err.message, "no mapping fits: intent.output.weight, intent.output.bias"));
    test_expect_error(&err, MTL_ERROR_TENSOR, "mappings",
                      "mappings[2]: no tensor of the model fits \"intnt.output.\"");
    mtl_model_import_part(one, &file, hidden, 2, &result, &err);
    test_expect_error(&err, MTL_ERROR_TENSOR, "mappings", "mappings[1]: no tensor");
    mtl_model_import(one, &file, model_mappings, 3, &err);
    assert_non_null(strstr(err.message, "mtl_model_import_part"));
    test_expect_error(&err, MTL_ERROR_TENSOR, "model.rnn.weight_ih_l1",
                      "8 tensors of the file fit a mapping");
    assert_true(test_weights_equal(one, before));
    mtl_model_import_part(one, &file, model_mappings, 3, &result, &err);
    TEST_FINE(&err);
    assert_int_equal(result.taken, mtl_model_parameters(one)->count);
    assert_int_equal(result.left, 8);
    assert_non_null(strstr(result.left_names, "model.rnn.weight_ih_l1, model.rnn.weight_hh_l1, "));
    assert_memory_equal(mtl_model_tensor(one, "encoder.weight_hh_l0_reverse")->value,
                        mtl_model_tensor(two, "encoder.weight_hh_l0_reverse")->value,
                            mtl_model_tensor(one, "encoder.weight_hh_l0_reverse")->count * sizeof(mtl_real));
    mtl_model_import_part(one, &file, stars, 1, &result, &err);
    assert_true(result.taken == 4 && result.left == 0 && result.left_names[0] == '\0');
    mtl_model_import_part(two, &file, model_mappings, 3, NULL, &err);
    mtl_model_import(two, &file, model_mappings, 3, &err);
    TEST_FINE(&err);
    mtl_safetensors_close(&file);
    remove(path);
    free(before);
    mtl_model_destroy(one);
    mtl_model_destroy(two);
}

/* A file whose tensors are of types that nobody reads: they are in the way of no other, and are named where
   they are wanted. */
static void test_model_import_beside_other_types(void **state)
{
    static const char header[] =
        "{\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
        "\"f\":{\"dtype\":\"F8_E5M2\",\"shape\":[4],\"data_offsets\":[16,20]},"
        "\"g\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[20,22]},\"n\":{\"dtype\":\"C64\","
        "\"shape\":[1],\"data_offsets\":[22,30]}}";
    static const mtl_import good = { "b", "intent.output.bias" }, eight = { "f", "intent.output.bias" },
        four = { "g", "intent.output.bias" };
    static const float values[4] = { 0.5f, -1, 3, -0.25f };
    mtl_model *model = model_create_plain(MTL_CELL_GRU);
    unsigned char bytes[8 + sizeof header - 1 + 30] = {0};
    mtl_safetensors file;
    mtl_error err = {0};
    mtl_real out[4];
    size_t i;
    (void)state;
    bytes[0] = (unsigned char)((sizeof header - 1) & 255);
    bytes[1] = (unsigned char)((sizeof header - 1) >> 8);
    memcpy(bytes + 8, header, sizeof header - 1);
    mtl__copy_little(bytes + 8 + sizeof header - 1, values, 4, sizeof *values);
    mtl_safetensors_open_memory(&file, bytes, sizeof bytes, &err);
    TEST_FINE(&err);
    assert_int_equal(mtl_safetensors_find(&file, "f")->type, MTL_TYPE_F8_E5M2);
    assert_int_equal(mtl_safetensors_find(&file, "g")->type, MTL_TYPE_OTHER);
    mtl_model_import(model, &file, &good, 1, &err);
    TEST_FINE(&err);
    for (i = 0; i < 4; i++) assert_true(mtl_model_tensor(model,
                              "intent.output.bias")->value[i] == (mtl_real)values[i]);
    mtl_model_import(model, &file, &eight, 1, &err);
    test_expect_error(&err, MTL_ERROR_TENSOR, "intent.output.bias", "file: F8_E5M2, read are F32");
    mtl_model_import(model, &file, &four, 1, &err);
    test_expect_error(&err, MTL_ERROR_TENSOR, "intent.output.bias", "file: another type");
    mtl_safetensor_values(mtl_safetensors_find(&file, "g"), out, &err);
    test_expect_error(&err, MTL_ERROR_TENSOR, "g", "F32, F64, F16, BF16");
    mtl_safetensors_close(&file);
    mtl_model_destroy(model);
}

/* Double, half and bfloat16 sources of one linear layer: numbers that all of them hold exactly. */
static void test_model_import_of_other_types(void **state)
{
    static const uint16_t half[4] = { 0x3800, 0xbc00, 0x4200, 0xb400 },
        brain[4] = { 0x3f00, 0xbf80, 0x4040, 0xbe80 };
    static const double wide[4] = { 0.5, -1, 3, -0.25 };
    static const float narrow[4] = { 0.5f, -1, 3, -0.25f };
    static const mtl_import map = { "b", "intent.output.bias" };
    static const struct { int type; const void *data; } sources[] = {
        { MTL_TYPE_F64, wide }, { MTL_TYPE_F32, narrow }, { MTL_TYPE_F16, half }, { MTL_TYPE_BF16, brain } };
    mtl_error err;
    size_t k, i;
    (void)state;
    for (k = 0; k < MTL__COUNT(sources); k++) {
        mtl_model *model = model_create_plain(MTL_CELL_GRU);
        mtl__tensor_entry entry;
        test_file file;
        mtl_writer writer = test_file_writer(&file);
        mtl_safetensors opened;
        mtl_error_clear(&err);
        memset(&file, 0, sizeof file);
        memset(&entry, 0, sizeof entry);
        entry.name = "b";
        entry.type = sources[k].type;
        entry.dims = 1;
        entry.shape[0] = 4;
        entry.data = sources[k].data;
        mtl__safetensors_write(&entry, 1, NULL, 0, &writer, NULL, &err);
        mtl_safetensors_open_memory(&opened, file.bytes, file.used, &err);
        mtl_model_import(model, &opened, &map, 1, &err);
        TEST_FINE(&err);
        for (i = 0; i < 4; i++) assert_true(mtl_model_tensor(model,
                              "intent.output.bias")->value[i] == (mtl_real)wide[i]);
        mtl_safetensors_close(&opened);
        free(file.bytes);
        mtl_model_destroy(model);
    }
}

/* Every kind of file that is written, opened by Python's own safetensors. Skipped where there is none: see
   .ci/test.sh. */
static void test_model_files_in_the_stock_loader(void **state)
{
    const char *python = getenv("MTL_TEST_PYTHON");
    mtl_error err = {0};
    mtl_model *model;
    mtl_trainer *trainer;
    char path[3][1024], command[4096];
    int i, status;
    (void)state;
    if (!python || !*python) skip();
    for (i = 0; i < 3; i++) snprintf(path[i], sizeof path[i], "%s",
                                     test_path(i == 0 ? "model" : i == 1 ? "trainer" : "export"));
    model = model_create_full();
    trainer = mtl_trainer_create(model, NULL, &err);
    mtl_model_save(model, path[0], &err);
    mtl_trainer_save(trainer, path[1], &err);
    mtl_model_export(model, path[2], NULL, 0, &err);
    TEST_FINE(&err);
    snprintf(command, sizeof command, "%s tests/stock_loader.py '%s' '%s' '%s'", python, path[0], path[1],
             path[2]);
    status = system(command);
    for (i = 0; i < 3; i++) remove(path[i]);
    assert_int_equal(status, 0);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
}

/* ---- buffers ------------------------------------------------------------------------------------------- */

/* The full model as it is described, without scales. */
static mtl_model *model_create_bare(void)
{
    model_desc d;
    model_desc_fill(&d);
    return model_create(&d.desc);
}

static int model_scaled(const mtl_model *model)
{
    const mtl_real *mean, *scale;
    return mtl_model_feature_scale(model, 1, &mean, &scale) + 2
        * mtl_model_target_scale(model, 2, &mean, &scale);
}

/* Means and scales are tensors, but no parameters: they stand in no list that training walks. */
static void test_model_buffers_are_tensors(void **state)
{
    static const char *const names[] = { "buffers.sensors.mean", "buffers.sensors.scale",
        "buffers.speed.mean", "buffers.speed.scale" };
    mtl_model *model = model_create_full(), *bare = model_create_bare();
    mtl_parameters *set = mtl_model_parameters(model);
    const mtl_real *mean, *scale;
    size_t i, total = 0;
    (void)state;
    assert_int_equal(set->buffer_count, 4);
    for (i = 0; i < 4; i++) {
        mtl_tensor *t = mtl_model_tensor(model, names[i]);
        assert_ptr_equal(t, set->buffers[i]);
        assert_string_equal(t->name, names[i]);
        assert_int_equal(t->role, MTL_TENSOR_BUFFER);
        assert_int_equal(t->count, 2);
        assert_true(t->frozen && *t->set);
        t = mtl_model_tensor(bare, names[i]);                               /* they begin as 0 and 1 */
        assert_true(!*t->set && t->value[1] == (i % 2 ? 1 : 0));
    }
    mtl_model_feature_scale(model, 1, &mean, &scale);
    assert_ptr_equal(mean, set->buffers[0]->value);
    assert_ptr_equal(scale, set->buffers[1]->value);
    for (i = 0; i < set->count; i++) {
        /* running averages stand among the parameters */
        assert_int_equal(set->tensors[i]->role == MTL_TENSOR_BUFFER,
                         strstr(set->tensors[i]->name, ".running_") != NULL);
        assert_true(set->tensors[i]->role != MTL_TENSOR_BUFFER || set->tensors[i]->frozen);
        total += mtl__padded(set->tensors[i]->count);
    }
    assert_int_equal(set->total, total);
    mtl_parameters_randomise(set, 9);                                       /* what was set stays */
    assert_true(mean[1] == -3 && scale[1] == 0);
    assert_int_equal(model_scaled(bare), 0);
    mtl_model_destroy(model);
    mtl_model_destroy(bare);
}

/* Transfer carries the scales; a model without them takes none from the other. */
static void test_model_transfer_of_buffers(void **state)
{
    mtl_model *model = model_create_full(), *to = model_create_bare(), *bare = model_create_bare();
    mtl_error err = {0};
    size_t copied = 0;
    (void)state;
    mtl_model_transfer(to, bare, &copied, &err);
    assert_int_equal(copied, mtl_model_parameters(to)->count);
    assert_int_equal(model_scaled(to), 0);
    mtl_model_transfer(to, model, &copied, &err);
    TEST_FINE(&err);
    assert_int_equal(copied, mtl_model_parameters(to)->count + 4);
    assert_int_equal(model_scaled(to), 3);
    model_expect_same_predictions(model, to);
    mtl_model_transfer(to, bare, &copied, &err);                            /* nothing to take: they stay */
    assert_int_equal(model_scaled(to), 3);
    mtl_model_destroy(model);
    mtl_model_destroy(bare);
    mtl_model_destroy(to);
}

/* Out under another name and in again; a mapping of everything takes the buffers that the file has. */
static void test_model_import_of_buffers(void **state)
{
    static const mtl_import everything = { "", "" }, norm = { "norm.*", "buffers.sensors.*" };
    mtl_model *model = model_create_full(), *to = model_create_bare(), *bare = model_create_bare();
    const char *path = test_path("buffers");
    mtl_safetensors file;
    mtl_error err = {0};
    (void)state;
    mtl_model_export(model, path, &norm, 1, &err);
    mtl_safetensors_open(&file, path, &err);
    TEST_FINE(&err);
    assert_int_equal(file.count, 4);
    assert_non_null(mtl_safetensors_find(&file, "norm.scale"));
    mtl_model_import(to, &file, &norm, 1, &err);
    TEST_FINE(&err);
    assert_int_equal(model_scaled(to), 1);
    mtl_safetensors_close(&file);

    mtl_model_export(bare, path, NULL, 0, &err);                            /* none is set: none is written */
    mtl_safetensors_open(&file, path, &err);
    TEST_FINE(&err);
    assert_int_equal(file.count, mtl_model_parameters(bare)->count);
    mtl_model_import(to, &file, &everything, 1, &err);                      /* and none is missed */
    TEST_FINE(&err);
    assert_int_equal(model_scaled(to), 1);
    mtl_model_import(to, &file, &norm, 1, &err);                            /* but where one is asked for */
    test_expect_error(&err, MTL_ERROR_TENSOR, "buffers.sensors.norm.running_mean",
                      "no norm.mean in the file");
    mtl_safetensors_close(&file);

    mtl_model_save(model, path, &err);                                      /* a model file as any other */
    mtl_safetensors_open(&file, path, &err);
    mtl_model_import(bare, &file, &everything, 1, &err);
    TEST_FINE(&err);
    model_expect_same_predictions(model, bare);
    mtl_safetensors_close(&file);
    remove(path);
    mtl_model_destroy(model);
    mtl_model_destroy(bare);
    mtl_model_destroy(to);
}

/* A mean without a scale is half a file. */
static void test_model_file_with_half_a_scaling(void **state)
{
    mtl_model *model = model_create_full();
    mtl_tensor *scale = mtl_model_tensor(model, "buffers.speed.scale");
    test_file file;
    mtl_writer writer = test_file_writer(&file);
    mtl_error err = {0};
    int unset = 0;
    (void)state;
    memset(&file, 0, sizeof file);
    scale->set = &unset;
    mtl_model_write(model, NULL, &writer, &err);
    TEST_FINE(&err);
    assert_null(mtl_model_load_memory(file.bytes, file.used, &err));
    test_expect_error(&err, MTL_ERROR_TENSOR, "buffers.speed.scale", "no tensor buffers.speed.scale");
    free(file.bytes);
    mtl_model_destroy(model);
}

/* Tensors that the desc freezes, by patterns; a file keeps them. */
static void test_model_freeze_patterns(void **state)
{
    static const struct { const char *freeze; size_t frozen; } cases[] = {
        { NULL, 0 }, { "", 0 }, { "words.weight", 1 }, { "encoder.*", 4 }, { "words.*,encoder.*", 5 },
        { "encoder.*_l0+words.weight", 5 }, { "*weight_*h_l*", 2 }, { "*.bias*,", 9 }, { "enc*.*ias*0", 2 },
        { "*", 19 }, { "encoder.weight_hh_l0,encoder.weight_hh_l0", 1 },
    };
    static const char *const wrong[] = { "word", "words.weight,encodr.*", ",words.weight", "encoder.*x",
                                         "**z" };
    const test_shape shape = {0};
    mtl_error err = {0};
    test_problem p;
    size_t i, k, frozen;
    (void)state;
    test_problem_create(&p, &shape);
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_file file = {0};
        const mtl_writer writer = test_file_writer(&file);
        mtl_model *model, *loaded;
        p.desc.freeze = cases[i].freeze;
        model = mtl_model_create(&p.desc, &err);
        mtl_model_write(model, NULL, &writer, &err);
        loaded = mtl_model_load_memory(file.bytes, file.used, &err);
        TEST_FINE(&err);
        for (k = frozen = 0; k < loaded->set.count; k++) {
            assert_int_equal(loaded->set.tensors[k]->frozen, model->set.tensors[k]->frozen);
            frozen += (size_t)loaded->set.tensors[k]->frozen;
        }
        if (frozen != (cases[i].frozen == 19 ? loaded->set.count : cases[i].frozen))
            fail_msg("%s: %d tensors are frozen", cases[i].freeze, (int)frozen);
        mtl_model_destroy(model);
        mtl_model_destroy(loaded);
        free(file.bytes);
    }
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        p.desc.freeze = wrong[i];
        assert_null(mtl_model_create(&p.desc, &err));
        test_expect_error(&err, MTL_ERROR_FIELD, "freeze", "; there are words.weight, encoder.weight_ih_l0");
    }
    test_problem_destroy(&p);
}

/* Rules of initial values by name: the last that fits counts, vectors keep theirs where a rule is of
   matrices, forget gates their bias; each gate's matrix is orthogonal by itself; files keep the text. */
static void test_model_initial_values_by_name(void **state)
{
    static const struct { const char *init, *text; } wrong[] = {
        { "wrds.*=xavier", "init: no matrix fits \"wrds.*\"; there are words.weight" },
        { "*.bias_ih*=orthogonal", "init: no matrix fits \"*.bias_ih*\"" },
        { "*.none=constant:1", "init: no tensor fits \"*.none\"" },
        { "words.weight=xavir", "\"words.weight=xavir\" names no kind of initial values, which are "
                                "uniform:X, normal, constant:X, xavier, he, orthogonal, identity" },
        { "words.weight", "\"words.weight\" names no kind" }, { "*=he,", NULL },
        { "*=uniform", "\"*=uniform\": uniform needs a number, as in uniform:0.1" },
        { "*=constant:", "needs a number" }, { "*=uniform:1e99", "needs a number" },
        { "*=normal:0", "behind normal stands nothing, or a factor other than 0, as in normal:0.1" },
        { "*=he:x", "behind he stands" } };
    const test_shape shape = {0};
    mtl_error err = {0};
    test_problem p;
    mtl_model *model, *plain, *loaded;
    test_file file = {0};
    const mtl_writer writer = test_file_writer(&file);
    const mtl_tensor *t;
    size_t i, g, a, b, k, h;
    (void)state;
    test_problem_create(&p, &shape);
    p.desc.encoder.cell = MTL_CELL_LSTM;
    p.desc.encoder.forget_bias = 1.5f;
    plain = mtl_model_create(&p.desc, &err);
    p.desc.init = "*=normal:0.5,encoder.bias*=constant:0.25,*.weight_hh*=he,*weight_hh*=orthogonal:2,"
                  "words.weight=constant:-3,encoder.*ih*=xavier";
    model = mtl_model_create(&p.desc, &err);
    TEST_FINE(&err);
    t = mtl_model_tensor(model, "words.weight");
    for (k = t->shape[1]; k < t->count; k++) assert_true(t->value[k] == -3);
    t = mtl_model_tensor(model, "encoder.bias_ih_l0");
    h = t->count / 4;
    for (k = 0; k < t->count; k++) assert_true(t->value[k] == (k / h == 1 ? 1.75f : 0.25f));
    t = mtl_model_tensor(model, "encoder.weight_hh_l0");
    for (g = 0; g < 4; g++)
        for (a = 0; a < h; a++)
            for (b = 0; b < h; b++) {
                double dot = 0;
                for (k = 0; k < h; k++)
                    dot += (double)t->value[(g * h + a) * h + k] * (double)t->value[(g * h + b) * h + k];
                assert_true(fabs(dot - (a == b ? 4 : 0)) < 1e-4);
            }
    mtl_model_write(model, NULL, &writer, &err);
    loaded = mtl_model_load_memory(file.bytes, file.used, &err);
    TEST_FINE(&err);
    assert_string_equal(mtl_model_describe(loaded)->init, p.desc.init);
    for (i = 0; i < model->set.count; i++)
        for (k = 0; k < model->set.tensors[i]->count; k++)
            assert_true(loaded->set.tensors[i]->value[k] == model->set.tensors[i]->value[k]);
    mtl_parameters_randomise(&loaded->set, p.desc.seed);            /* by the rules that the file says */
    for (k = 0; k < t->count; k++)
        assert_true(mtl_model_tensor(loaded, "encoder.weight_hh_l0")->value[k] == t->value[k]);
    assert_true(mtl_model_tensor(plain, t->name)->value[0] != t->value[0]);
    mtl_model_destroy(loaded);
    mtl_model_destroy(plain);
    mtl_model_destroy(model);
    free(file.bytes);
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        p.desc.init = wrong[i].init;
        model = mtl_model_create(&p.desc, &err);
        if (wrong[i].text) test_expect_error(&err, MTL_ERROR_FIELD, "init", wrong[i].text);
        TEST_FINE(&err);
        mtl_model_destroy(model);
    }
    test_problem_destroy(&p);
}

#define TEST_MODEL \
    cmocka_unit_test(test_model_initial_values_by_name), \
    cmocka_unit_test(test_model_freeze_patterns), \
    cmocka_unit_test(test_model_buffers_are_tensors), cmocka_unit_test(test_model_transfer_of_buffers), \
    cmocka_unit_test(test_model_import_of_buffers), \
    cmocka_unit_test(test_model_file_with_half_a_scaling), \
    cmocka_unit_test(test_model_every_field_is_kept), \
        cmocka_unit_test(test_model_path_memory_and_callbacks), \
    cmocka_unit_test(test_model_notes), cmocka_unit_test(test_model_save_keeps_the_old_file), \
    cmocka_unit_test(test_model_save_to_wrong_places), cmocka_unit_test(test_model_full_writer), \
    cmocka_unit_test(test_model_truncated_files), cmocka_unit_test(test_model_flipped_bits), \
        cmocka_unit_test(test_model_wrong_files), \
    cmocka_unit_test(test_model_file_of_another_program), \
        cmocka_unit_test(test_model_weights_that_are_no_numbers), \
    cmocka_unit_test(test_model_wrong_descs), cmocka_unit_test(test_model_too_large), \
        cmocka_unit_test(test_model_copies_its_desc), \
    cmocka_unit_test(test_model_lookup), cmocka_unit_test(test_model_unknown_word), \
    cmocka_unit_test(test_model_long_words), \
    cmocka_unit_test(test_model_initial_values), cmocka_unit_test(test_model_scales_are_checked), \
    cmocka_unit_test(test_model_scales_are_told), cmocka_unit_test(test_model_rows_far_from_zero), \
    cmocka_unit_test(test_model_import_export), cmocka_unit_test(test_model_export_of_parts), \
    cmocka_unit_test(test_model_import_mismatches), cmocka_unit_test(test_model_import_of_another_shape), \
    cmocka_unit_test(test_model_import_of_a_part), \
    cmocka_unit_test(test_model_import_beside_other_types), \
        cmocka_unit_test(test_model_import_of_other_types), \
            cmocka_unit_test(test_model_files_in_the_stock_loader)
