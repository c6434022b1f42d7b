/* The field tables of >>desc: every row can be set, read, checked and left at its default. */

/* Room for any desc. */
typedef struct fields_memory { unsigned long long words[128]; } fields_memory;
enum { FIELDS_DESC_BYTES = sizeof(fields_memory) };

/* Bytes of a desc, and what messages call it in these tests. */
static size_t fields_desc_size(int desc)
{
    switch (desc) {
    case MTL_DESC_INPUT: return sizeof(mtl_input_desc);
    case MTL_DESC_COLUMN: return sizeof(mtl_column_desc);
    case MTL_DESC_TASK: return sizeof(mtl_task_desc);
    case MTL_DESC_MODEL: return sizeof(mtl_model_desc);
    case MTL_DESC_TRAINER: return sizeof(mtl_trainer_desc);
    case MTL_DESC_FIT: return sizeof(mtl_fit_desc);
    case MTL_DESC_CELL: return sizeof(mtl_cell_desc);
    case MTL_DESC_MIX: return sizeof(mtl_mix_desc);
    case MTL_DESC_SHARE: return sizeof(mtl_share_desc);
    case MTL_DESC_PENALTY: return sizeof(mtl_penalty_desc);
    default: return sizeof(mtl_predictor_desc);
    }
}

static size_t fields_member_size(const mtl_field *f)
{
    switch (f->type) {
    case MTL_FLOAT: return sizeof(float);
    case MTL_SIZE: return sizeof(size_t);
    case MTL_SEED: return sizeof(unsigned long long);
    case MTL_INTS: return MTL_MAX_HIDDEN * sizeof(int);
    default: return sizeof(int);
    }
}

static const mtl_field *fields_find(int desc, const char *name)
{
    size_t count, i;
    const mtl_field *f = mtl_fields(desc, &count);
    for (i = 0; i < count; i++)
        if (strcmp(f[i].name, name) == 0) return &f[i];
    fail_msg("there is no field %s", name);
    return NULL;
}

static void test_fields_tables(void **state)
{
    size_t count, i, k, rows = 0;
    int desc;
    (void)state;
    for (desc = 0; desc < MTL_DESC_COUNT; desc++) {
        const mtl_field *f = mtl_fields(desc, &count);
        assert_non_null(f);
        assert_true(count > 0);
        assert_true(fields_desc_size(desc) <= FIELDS_DESC_BYTES);
        rows += count;
        for (i = 0; i < count; i++) {
            assert_true(f[i].name[0] && strlen(f[i].help) > 5);
            assert_true(f[i].offset + fields_member_size(&f[i]) <= fields_desc_size(desc));
            assert_true(f[i].type >= MTL_INT && f[i].type <= MTL_INTS);
            assert_int_equal(f[i].choices != NULL, f[i].type == MTL_CHOICE);
            assert_true(f[i].low <= f[i].high);
            if (f[i].low < f[i].high && f[i].preset != 0)
                assert_true(f[i].preset >= f[i].low && f[i].preset <= f[i].high);
            for (k = 0; k < i; k++) {                    /* no two names alike, no two members in one place */
                assert_string_not_equal(f[i].name, f[k].name);
                assert_true(f[i].offset >= f[k].offset + fields_member_size(&f[k]));
            }
        }
    }
    assert_true(rows > 60);
    assert_null(mtl_fields(-1, &count));
    assert_int_equal(count, 0);
    assert_null(mtl_fields(MTL_DESC_COUNT, &count));
}

/* Sets a field from text in a zeroed desc; nothing but its member may change. Returns the text that
   mtl_field_get gives back. */
static const char *fields_set(int desc, const mtl_field *f, const char *text)
{
    static char out[128];
    fields_memory memory = {{0}};
    const unsigned char *bytes = (const unsigned char *)&memory;
    mtl_error err = {0};
    size_t i;
    if (mtl_field_set(f, &memory, text, &err)) fail_msg("%s = %s: %s", f->name, text, err.message);
    for (i = 0; i < sizeof memory; i++)
        if ((i < f->offset || i >= f->offset + fields_member_size(f)) && bytes[i])
            fail_msg("%s = %s changes byte %d of desc %d", f->name, text, (int)i, desc);
    return mtl_field_get(f, &memory, out, sizeof out);
}

static void fields_refuse(const mtl_field *f, const char *text, const char *part)
{
    fields_memory memory = {{0}}, zero = {{0}};
    mtl_error err = {0};
    if (mtl_field_set(f, &memory, text, &err) != MTL_ERROR_FIELD) fail_msg("%s = %s is taken", f->name, text);
    test_expect_error(&err, MTL_ERROR_FIELD, f->name, part);
    if (f->type != MTL_INTS) assert_memory_equal(&memory, &zero, sizeof zero);
}

/* Every row of every table: its smallest and largest value, each of its choices, and what lies beyond. */
static void test_fields_every_row(void **state)
{
    int desc;
    size_t count, i;
    (void)state;
    for (desc = 0; desc < MTL_DESC_COUNT; desc++) {
        const mtl_field *table = mtl_fields(desc, &count);
        for (i = 0; i < count; i++) {
            const mtl_field *f = &table[i];
            const mtl_choice *c;
            char text[64];
            if (f->choices) {
                for (c = f->choices; c->name; c++) {
                    if (c->value == 0 && f->preset != 0) continue;
                    assert_string_equal(fields_set(desc, f, c->name), c->name);
                }
                fields_refuse(f, "no such thing", f->choices[0].name);
                fields_refuse(f, "", f->choices[0].name);
                continue;
            }
            fields_refuse(f, "many", "must be a number");
            fields_refuse(f, "1x", "must be a number");
            fields_refuse(f, "nan", "must be a number");
            fields_refuse(f, "-1000000000000", f->low < f->high
                          ? "must lie between" : "must not be negative");
            if (f->type != MTL_FLOAT) fields_refuse(f, "1.5", "whole number");
            if (f->type == MTL_FLAG) {
                assert_string_equal(fields_set(desc, f, "true"), "1");
                assert_string_equal(fields_set(desc, f, "false"), "0");
                assert_string_equal(fields_set(desc, f, "1"), "1");
                fields_refuse(f, "2", "must lie between 0 and 1");
                continue;
            }
            if (f->low < f->high) {
                mtl_text_from_number(f->high, text);
                assert_string_equal(fields_set(desc, f, text), text);
                mtl_text_from_number(f->high * 2 + 1, text);
                fields_refuse(f, text, "must lie between");
                if (f->type != MTL_FLOAT && f->low > 0) {
                    mtl_text_from_number(f->low, text);
                    assert_string_equal(fields_set(desc, f, text), text);
                }
            } else {
                assert_string_equal(fields_set(desc, f, "123456"), "123456");
            }
            if (f->type == MTL_FLOAT && f->low > 0) fields_refuse(f, "0", "must lie between");
            /* a true zero, not the default */
            else if (f->type == MTL_FLOAT) assert_string_equal(fields_set(desc, f, "0"), "0");
            else if (f->preset != 0) fields_refuse(f, "0", f->low > 0 ? "" : "cannot be 0");
        }
    }
}

/* A zeroed desc reads as its defaults; a checked one holds them; checking twice changes nothing. */
static void test_fields_defaults(void **state)
{
    int desc;
    size_t count, i;
    (void)state;
    for (desc = 0; desc < MTL_DESC_COUNT; desc++) {
        fields_memory memory = {{0}}, copy;
        const mtl_field *f = mtl_fields(desc, &count);
        mtl_error err = {0};
        char zeroed[128], checked[128];
        for (i = 0; i < count; i++) {
            mtl_field_get(&f[i], &memory, zeroed, sizeof zeroed);
            if (f[i].type == MTL_INTS) assert_string_equal(zeroed, "");
            else assert_true(zeroed[0]);
        }
        copy = memory;
        assert_int_equal(mtl_desc_check(desc, &memory, "what", &err), MTL_OK);
        for (i = 0; i < count; i++)
            assert_string_equal(mtl_field_get(&f[i], &copy, zeroed, sizeof zeroed),
                                mtl_field_get(&f[i], &memory, checked, sizeof checked));
        copy = memory;
        assert_int_equal(mtl_desc_check(desc, &memory, "what", &err), MTL_OK);
        assert_memory_equal(&copy, &memory, sizeof copy);
    }
}

/* A few whose defaults users rely on. */
static void test_fields_known_defaults(void **state)
{
    mtl_trainer_desc training = {0};
    mtl_column_desc column = {0};
    mtl_task_desc task = {0};
    mtl_fit_desc fit = {0};
    mtl_error err = {0};
    (void)state;
    mtl_desc_check(MTL_DESC_TRAINER, &training, "", &err);
    mtl_desc_check(MTL_DESC_COLUMN, &column, "", &err);
    mtl_desc_check(MTL_DESC_TASK, &task, "", &err);
    mtl_desc_check(MTL_DESC_FIT, &fit, "", &err);
    TEST_FINE(&err);
    assert_int_equal(training.optimizer, MTL_OPTIMIZER_ADAM);
    assert_true(training.lr == 1e-3f && training.beta1 == 0.9f && training.beta2 == 0.999f &&
                training.epsilon == 1e-8f);
    assert_true(training.clip_norm == 0 && training.threads == 1 && training.seed == 1);
    assert_int_equal(column.cell, MTL_CELL_LSTM);
    assert_true(column.hidden == 128 && column.layers == 1 && !column.bidirectional &&
                column.reset == MTL_RESET_AFTER);
    assert_true(task.kind == MTL_TASK_CLASS && task.level == MTL_LEVEL_SEQUENCE && task.weight == 1
                && task.pool == MTL_POOL_LAST);
    assert_true(fit.epochs == 12 && fit.batch == 32 && fit.patience == 0 &&
                fit.sampler == MTL_SAMPLER_PROPORTIONAL);
}

static void test_fields_check_names_the_path(void **state)
{
    mtl_column_desc column = {0};
    mtl_trainer_desc training = {0};
    mtl_error err = {0};
    const uint32_t nan = 0x7fc00000, infinity = 0x7f800000;
    (void)state;
    column.layers = 100;
    mtl_desc_check(MTL_DESC_COLUMN, &column, "columns[3]", &err);
    assert_int_equal(err.position, 100);
    test_expect_error(&err, MTL_ERROR_FIELD, "columns[3].layers",
                      "columns[3].layers is 100; it must lie between 1 and 64");
    mtl_desc_check(MTL_DESC_COLUMN, &column, NULL, &err);
    test_expect_error(&err, MTL_ERROR_FIELD, "layers", "layers is 100");
    memcpy(&training.beta1, &nan, sizeof nan);
    mtl_desc_check(MTL_DESC_TRAINER, &training, "trainer", &err);
    test_expect_error(&err, MTL_ERROR_FIELD, "trainer.beta1", "finite number");
    memcpy(&training.beta1, &infinity, sizeof infinity);
    mtl_desc_check(MTL_DESC_TRAINER, &training, "trainer", &err);
    test_expect_error(&err, MTL_ERROR_FIELD, "trainer.beta1", "finite number");
    mtl__fail(&err, MTL_ERROR_STOPPED, "", -1, "set");
    assert_int_equal(mtl_desc_check(MTL_DESC_TRAINER, &training, "trainer", &err), MTL_ERROR_STOPPED);
}

static void test_fields_lists(void **state)
{
    const mtl_field *hidden = fields_find(MTL_DESC_TASK, "hidden");
    mtl_task_desc task = {0};
    mtl_error err = {0};
    char out[64], small[6];
    (void)state;
    mtl_field_set(hidden, &task, "64,32", &err);
    TEST_FINE(&err);
    assert_true(task.hidden[0] == 64 && task.hidden[1] == 32 && task.hidden[2] == 0);
    assert_string_equal(mtl_field_get(hidden, &task, out, sizeof out), "64,32");
    mtl_field_set(hidden, &task, "1,2,3,4", &err);
    TEST_FINE(&err);
    assert_string_equal(mtl_field_get(hidden, &task, out, sizeof out), "1,2,3,4");
    mtl_field_set(hidden, &task, "7", &err);
    assert_string_equal(mtl_field_get(hidden, &task, out, sizeof out), "7");     /* what was there is gone */
    mtl_field_set(hidden, &task, "", &err);
    assert_string_equal(mtl_field_get(hidden, &task, out, sizeof out), "");
    TEST_FINE(&err);
    mtl_field_set(hidden, &task, "1,2,3,4,5", &err);
    test_expect_error(&err, MTL_ERROR_FIELD, "hidden", "4 numbers at most");
    mtl_field_set(hidden, &task, "1,,2", &err);
    test_expect_error(&err, MTL_ERROR_FIELD, "hidden", "must be a number");
    mtl_field_set(hidden, &task, "1000,2000", &err);
    assert_true(strlen(mtl_field_get(hidden, &task, small, sizeof small)) < sizeof small);
}

static void test_fields_seeds(void **state)
{
    const mtl_field *seed = fields_find(MTL_DESC_TRAINER, "seed");
    mtl_trainer_desc training = {0};
    mtl_error err = {0};
    (void)state;
    mtl_field_set(seed, &training, "9007199254740992", &err);           /* 2^53: doubles are exact up to it */
    TEST_FINE(&err);
    assert_true(training.seed == 9007199254740992u);
    mtl_field_set(seed, &training, "1e30", &err);                           /* more than the member holds */
    test_expect_error(&err, MTL_ERROR_FIELD, "seed", "seed is 1e30; it must be 9007199254740992 at most");
    mtl_field_set(fields_find(MTL_DESC_TRAINER, "max_rows"), &training, "1e30", &err);
    test_expect_error(&err, MTL_ERROR_FIELD, "max_rows", "at most");
}

/* A kind's number, its name and its row of the table are three lists in one order. */
static void test_fields_kinds_are_their_rows(void **state)
{
    static const int descs[] = { MTL_DESC_INPUT, MTL_DESC_COLUMN, MTL_DESC_MIX, MTL_DESC_TASK,
                                 MTL_DESC_PENALTY };
    size_t i, k, row, count;
    (void)state;
    for (i = 0; i < MTL__COUNT(descs); i++) {
        const mtl_field *fields = mtl_fields(descs[i], &count);
        for (k = 0; k < count && strcmp(fields[k].name, "kind") != 0; k++) {}
        assert_true(k < count);
        for (row = 0; fields[k].choices[row].name; row++) {
            const mtl_kind *kind = mtl_kind_at(descs[i], row);
            assert_non_null(kind);
            assert_string_equal(kind->name, fields[k].choices[row].name);
            assert_int_equal(fields[k].choices[row].value, fields[k].choices[0].value + (int)row);
        }
        assert_null(mtl_kind_at(descs[i], row));
    }
}

#define TEST_FIELDS \
    cmocka_unit_test(test_fields_tables), cmocka_unit_test(test_fields_every_row), \
        cmocka_unit_test(test_fields_defaults), \
    cmocka_unit_test(test_fields_known_defaults), cmocka_unit_test(test_fields_check_names_the_path), \
    cmocka_unit_test(test_fields_lists), cmocka_unit_test(test_fields_seeds), \
    cmocka_unit_test(test_fields_kinds_are_their_rows)
