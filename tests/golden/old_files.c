/* tests/golden/old_files.c    wrote the files of tests/golden/old, with the header of commit 1d12ca1

       mkdir -p build/old
       git show 1d12ca1:mtl_rnn.h >build/old/mtl_rnn.h
       for real in float double; do
           cc -std=c99 -pthread -DMTL_REAL=$real -Ibuild/old -o build/old/files tests/golden/old_files.c -lm
           build/old/files tests/golden/old
       done

   It has done its work: run with a newer header it would write other old files. New cases come beside these,
   with the commit that wrote them. Of each case of old_cases.h:

       NAME.trainer.safetensors    model and trainer after OLD_UPDATES updates, by mtl_trainer_save
       NAME.model.safetensors      the model after as many again, by mtl_model_save
       NAME.txt                    answers of the one, then of the other, on scalar code: a number a line */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MTL_RNN_IMPLEMENTATION
#include "mtl_rnn.h"

#include "old_cases.h"

/* In hexadecimal with a whole significand: exact, and no locale's decimal point comes into it. */
static void print_number(FILE *to, double x)
{
    int exponent;
    const long long significand = (long long)ldexp(frexp(fabs(x), &exponent), 53);
    fprintf(to, "%s0x%llxp%d\n", x < 0 ? "-" : "", significand, exponent - 53);
}

static void print_answers(FILE *to, const mtl_model *model, mtl_error *err)
{
    mtl_real answers[OLD_MOST_ANSWERS];
    size_t i, count = old_answers(model, MTL_ISA_SCALAR, answers, err);
    for (i = 0; i < count; i++) print_number(to, (double)answers[i]);
}

static void set_texts(mtl_model *model, mtl_error *err)
{
    static const mtl_real mean[3] = { 0.125f, -0.25f, 0 }, scale[3] = { 1.5f, 2, 0 };
    const int sensors = mtl_model_input(model, "sensors"), curve = mtl_model_task(model, "curve");
    if (sensors >= 0) mtl_model_set_feature_scale(model, sensors, mean, scale, err);
    if (curve >= 0) mtl_model_set_target_scale(model, curve, mean, scale, err);
    mtl_model_note(model, "made by", "tests/golden/old_files.c", err);
    mtl_model_note(model, "a \"name\"", "two\nlines", err);
}

static void write_case(int number, const char *folder, mtl_error *err)
{
    char path[3][512];
    old_case c;
    mtl_model *model;
    mtl_trainer *trainer;
    FILE *answers;
    old_case_init(&c, number, MTL_ISA_SCALAR);
    if (c.real_bytes != sizeof(mtl_real)) return;
    snprintf(path[0], sizeof path[0], "%s/%s.trainer.safetensors", folder, c.name);
    snprintf(path[1], sizeof path[1], "%s/%s.model.safetensors", folder, c.name);
    snprintf(path[2], sizeof path[2], "%s/%s.txt", folder, c.name);
    answers = fopen(path[2], "w");
    model = mtl_model_create(&c.desc, err);
    if (!answers || !model) { fprintf(stderr, "%s: %s\n", path[2], err->message); exit(1); }
    set_texts(model, err);
    trainer = mtl_trainer_create(model, &c.trainer, err);
    old_train(trainer, mtl_model_describe(model), 0, err);
    mtl_trainer_save(trainer, path[0], err);
    print_answers(answers, model, err);
    old_train(trainer, mtl_model_describe(model), OLD_UPDATES, err);
    mtl_model_save(model, path[1], err);
    print_answers(answers, model, err);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    fclose(answers);
}

int main(int argc, char **argv)
{
    mtl_error err = {0};
    int number;
    for (number = 0; argc == 2 && number < OLD_CASES; number++) write_case(number, argv[1], &err);
    if (err.code || argc != 2) fprintf(stderr, "%s\n", err.code ? err.message : "usage: old_files FOLDER");
    return err.code || argc != 2;
}
