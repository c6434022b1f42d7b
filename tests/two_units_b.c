/* The other half of two_units_a.c: sees the interface alone, unless all is static. */
#ifdef MTL_RNN_STATIC
#  define MTL_RNN_IMPLEMENTATION
#endif
#include "mtl_rnn.h"

int two_units_train(mtl_error *err);

/* 1 when a tiny model learns. */
int two_units_train(mtl_error *err)
{
    const int lengths[] = { 2, 3 }, ids[] = { 0, 1, 1, 1, 0 };
    const mtl_input_desc input = { .name = "ids", .vocabulary = 2, .width = 4 };
    const mtl_task_desc task = { .name = "copy", .level = MTL_LEVEL_STEP, .classes = 2 };
    const mtl_model_desc desc = { .inputs = &input, .input_count = 1, .tasks = &task, .task_count = 1,
        .encoder = { .hidden = 8 } };
    const mtl_input inputs[] = { { .ids = ids } };
    const mtl_target targets[] = { { .labels = ids } };
    const mtl_batch batch = { .sequences = 2, .lengths = lengths, .inputs = inputs, .targets = targets };
    mtl_model *model = mtl_model_create(&desc, err);
    mtl_trainer *trainer = mtl_trainer_create(model, NULL, err);
    mtl_step step = {0};
    double first = 0;
    int i;

    for (i = 0; i < 20 && mtl_train_step(trainer, &batch, 1, &step, err) == MTL_OK; i++)
        if (i == 0) first = step.loss;
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    return err->code == MTL_OK && step.loss < first;
}
