/* use_model.c - a trained model in a C program: load it, give it sentences, read labels, tags and numbers.
   Run: build/use_model MODEL "turn the kitchen light off please" ["another sentence" ...]
   MODEL comes from `build/mtl train`, see examples/demo.sh. Nothing here depends on what the model's tasks
   are. */
#include "mtl_rnn.h"
#include <stdio.h>
#include <string.h>

/* One task's answer: numbers, labels, the class and how sure the model is, or a tag for every word. */
static void print_task(const mtl_model *model, int task, const mtl_prediction *p)
{
    const mtl_task_desc *desc = &mtl_model_describe(model)->tasks[task];
    size_t i;
    printf("  %-10s", desc->name);
    if (p->values) {
        for (i = 0; i < p->items; i++) printf(" %.2f", (double)p->values[i * p->width]);
    } else if (p->chosen) {
        for (i = 0; i < p->width; i++)
            if (p->chosen[i]) printf(" %s", mtl_model_label(model, task, (int)i));
    } else if (desc->level == MTL_LEVEL_SEQUENCE) {
        printf(" %s (%.0f %%)", mtl_model_label(model, task, p->labels[0]),
               100.0 * (double)p->probabilities[p->labels[0]]);
    } else {
        for (i = 0; i < p->items; i++) printf(" %s", mtl_model_label(model, task, p->labels[i]));
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    mtl_error err = {0};
    mtl_prediction out[16];
    mtl_model *model;
    mtl_predictor *predictor;
    int i, k, tasks;

    if (argc < 3) {
        fprintf(stderr, "use: %s MODEL \"a sentence\" ...\n", argv[0]);
        return 2;
    }
    model = mtl_model_load(argv[1], &err);
    predictor = model ? mtl_predictor_create(model, NULL, &err) : NULL;
    tasks = model ? (int)mtl_model_describe(model)->task_count : 0;
    if (tasks > (int)(sizeof out / sizeof out[0])) tasks = (int)(sizeof out / sizeof out[0]);
    for (i = 2; i < argc && predictor && mtl_predict_text(predictor, argv[i], out, NULL, &err) == MTL_OK; i++)
        {
        printf("%s\n", argv[i]);
        for (k = 0; k < tasks; k++) print_task(model, k, &out[k]);
    }
    if (err.code) fprintf(stderr, "%s: %s\n", argv[1], err.message);
    mtl_predictor_destroy(predictor);
    mtl_model_destroy(model);
    return err.code != MTL_OK;
}
