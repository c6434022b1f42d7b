/* test_old_files.c    files that an older header wrote load, answer and go on learning as they did

   tests/golden/old has the files, tests/golden/old_files.c tells how they were made. On scalar code every bit
   must be the same, where the compiler may neither join a product and a sum into one operation nor change
   their order; other instruction sets, and a reader with another mtl_real than the writer's, may round
   otherwise. */
#include "golden/old_cases.h"

#if defined(__x86_64__) && !defined(__FMA__) && !defined(__FAST_MATH__)
#  define OLD_EXACT 1
#else
#  define OLD_EXACT 0
#endif

static const char *old_path(const old_case *c, const char *end)
{
    static char path[1024];
    const char *folder = getenv("MTL_TEST_DIR");
    snprintf(path, sizeof path, "%s/golden/old/%s%s", folder ? folder : "tests", c->name, end);
    return path;
}

/* Fails unless got is want, to the bit where that can be asked. */
static void old_compare(const old_case *c, const char *what, const mtl_real *got, const mtl_real *want,
                        size_t count)
{
    size_t i;
    if (OLD_EXACT && c->trainer.isa == MTL_ISA_SCALAR && c->real_bytes == sizeof(mtl_real)) {
        for (i = 0; i < count; i++)
            if (memcmp(&got[i], &want[i], sizeof got[i]) != 0)
                fail_msg("%s: %s[%lu] is %a, was %a", c->name, what, (unsigned long)i, (double)got[i],
                         (double)want[i]);
    } else if (!(test_distance(got, want, count, 1e-3) < 1e-4))
        fail_msg("%s, %s: %s is off by %g", c->name, mtl__isa_name(c->trainer.isa), what,
                 test_distance(got, want, count, 1e-3));
}

/* Answers of the trainer's file, then of the model's: all that stand in the case's text. */
static void old_read_answers(const old_case *c, mtl_real *answers, size_t count)
{
    FILE *file = fopen(old_path(c, ".txt"), "r");
    char line[64];
    size_t i;
    assert_non_null(file);
    for (i = 0; fgets(line, sizeof line, file) && i < count; i++) answers[i] = (mtl_real)strtod(line, NULL);
    assert_true(i == count && feof(file));
    fclose(file);
}

static void old_check_weights(const old_case *c, mtl_model *got, mtl_model *want)
{
    const mtl_parameters *set = mtl_model_parameters(want);
    size_t i;
    assert_true(set->count == mtl_model_parameters(got)->count);
    for (i = 0; i < set->count; i++) {
        const mtl_tensor *tensor = mtl_model_tensor(got, set->tensors[i]->name);
        assert_non_null(tensor);
        assert_true(tensor->count == set->tensors[i]->count);
        old_compare(c, tensor->name, tensor->value, set->tensors[i]->value, tensor->count);
    }
}

/* Loads both files of a case, compares answers, resumes the trainer and trains the one to the other. */
static void old_check(int number, int isa)
{
    mtl_real got[2 * OLD_MOST_ANSWERS], want[2 * OLD_MOST_ANSWERS];
    mtl_error err = {0};
    mtl_safetensors file;
    mtl_trainer *trainer;
    mtl_model *model, *later;
    size_t count;
    old_case c;
    old_case_init(&c, number, isa);
    test_executed_isas[isa] = 1;
    model = mtl_model_load(old_path(&c, ".trainer.safetensors"), &err);
    later = mtl_model_load(old_path(&c, ".model.safetensors"), &err);
    TEST_FINE(&err);
    count = old_answers(model, isa, got, &err);
    assert_true(old_answers(later, isa, got + count, &err) == count);
    TEST_FINE(&err);
    old_read_answers(&c, want, 2 * count);
    old_compare(&c, "answer", got, want, 2 * count);

    trainer = mtl_trainer_create(model, &c.trainer, &err);
    mtl_safetensors_open(&file, old_path(&c, ".trainer.safetensors"), &err);
    mtl_trainer_resume(trainer, &file, &err);
    mtl_safetensors_close(&file);
    old_train(trainer, mtl_model_describe(model), OLD_UPDATES, &err);
    TEST_FINE(&err);
    old_check_weights(&c, model, later);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    mtl_model_destroy(later);
}

static void test_old_files(void **state)
{
    int number, isa;
    (void)state;
    for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++)
        for (number = 0; number < OLD_CASES && mtl__kernels_choose(isa); number++) old_check(number, isa);
}

static void old_check_text(mtl_model *model, const char *word, int id)
{
    if (mtl_model_word(model, 0, word, strlen(word)) != id) fail_msg("the word %s is not %d", word, id);
}

/* Words, labels, free texts and scales are those that were written. */
static void test_old_texts(void **state)
{
    mtl_error err = {0};
    mtl_model *model;
    const mtl_real *mean, *scale;
    old_case c;
    (void)state;
    old_case_init(&c, 2, MTL_ISA_SCALAR);
    model = mtl_model_load(old_path(&c, ".model.safetensors"), &err);
    TEST_FINE(&err);
    old_check_text(model, "CAF\xc3\x89", 2);
    old_check_text(model, "37", 4);
    old_check_text(model, "back\\slash", 5);
    old_check_text(model, "dark", 0);
    assert_string_equal(mtl_model_label(model, 0, 1), "B-place");
    assert_int_equal(mtl_model_find_label(model, 1, "b\xc3\xb6se"), 1);
    assert_string_equal(mtl_model_note(model, "made by", NULL, &err), "tests/golden/old_files.c");
    assert_string_equal(mtl_model_note(model, "a \"name\"", NULL, &err), "two\nlines");
    mtl_model_destroy(model);

    old_case_init(&c, 1, MTL_ISA_SCALAR);
    model = mtl_model_load(old_path(&c, ".trainer.safetensors"), &err);
    TEST_FINE(&err);
    assert_true(mtl_model_feature_scale(model, 1, &mean, &scale));
    assert_true(mean[1] == (mtl_real)-0.25 && scale[0] == (mtl_real)1.5 && scale[2] == 0);
    assert_true(mtl_model_target_scale(model, 3, &mean, &scale));
    assert_true(mean[0] == (mtl_real)0.125 && scale[1] == 2);
    mtl_model_destroy(model);
}

#define TEST_OLD_FILES cmocka_unit_test(test_old_files), cmocka_unit_test(test_old_texts)
