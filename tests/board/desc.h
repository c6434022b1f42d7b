/* tests/board/desc.h    the models that the host makes, and the board's program without an exported plan: CELL of 32 units over
   16 numbers, heads of 6 classes, one number and 3 classes, a step's; or, with `words`, over embedded ids, where the number and
   the 3 classes are a sequence's: they are answered for the steps so far */
static inline mtl_model_desc describe(int cell, int words)
{
    static const mtl_input_desc inputs[] = { { .name = "samples", .features = INPUTS },
                                             { .name = "words", .vocabulary = WORDS, .width = 8 } };
    static const mtl_task_desc tasks[2][3] = { {
        { .name = "phase", .level = MTL_LEVEL_STEP, .classes = 6 },
        { .name = "load", .kind = MTL_TASK_REAL, .level = MTL_LEVEL_STEP },
        { .name = "fault", .level = MTL_LEVEL_STEP, .classes = 3 } }, {
        { .name = "phase", .level = MTL_LEVEL_STEP, .classes = 6 },
        { .name = "load", .kind = MTL_TASK_REAL, .pool = MTL_POOL_MEAN },
        { .name = "fault", .classes = 3, .pool = MTL_POOL_MAX } } };
    mtl_model_desc desc = { .inputs = &inputs[words], .input_count = 1, .tasks = tasks[words], .task_count = 3,
                            .encoder.hidden = 32 };
    desc.encoder.cell = cell;
    return desc;
}

static inline void set_scales(mtl_model *model, int words, mtl_error *err)
{
    mtl_real mean[INPUTS], scale[INPUTS];
    int j;
    for (j = 0; j < INPUTS; j++) mean[j] = (mtl_real)0.01 * (mtl_real)j, scale[j] = (mtl_real)(1 + j % 3);
    if (!words) mtl_model_set_feature_scale(model, 0, mean, scale, err);
    mtl_model_set_target_scale(model, 1, &(mtl_real){ 3 }, &(mtl_real){ 2 }, err);
}
