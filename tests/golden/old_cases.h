/* tests/golden/old_cases.h    models, batches and answers of the files in tests/golden/old

   old_files.c wrote the folder with an older header, tests/test_old_files.c reads it with this tree's; so
   this file uses public functions alone, and of those only what the older header had. A reader takes the
   model from the file; the trainer's desc and the batches come from here. Their numbers are made by a counter
   and are multiples of 1/512: no rounding. */
enum { OLD_SEQUENCES = 3, OLD_LONGEST = 5, OLD_MOST_ROWS = OLD_SEQUENCES * OLD_LONGEST, OLD_MOST_WIDTH = 4,
       OLD_MOST = 5 /* inputs, columns, tasks of a model */, OLD_UPDATES = 5 };

/* ---- the cases ----------------------------------------------------------------------------------------- */

typedef struct old_case {
    const char *name;
    size_t real_bytes;                  /* of the mtl_real that its files were written with */
    mtl_trainer_desc trainer;
    mtl_model_desc desc;
    mtl_input_desc inputs[OLD_MOST];
    mtl_column_desc columns[OLD_MOST];
    mtl_task_desc tasks[OLD_MOST];
} old_case;

static mtl_task_desc *old_task(old_case *c, const char *name, int level, int kind, int width)
{
    mtl_task_desc *t = &c->tasks[c->desc.task_count++];
    t->name = name, t->level = level, t->kind = kind;
    if (kind == MTL_TASK_CLASS) t->classes = width;
    else t->width = width;
    return t;
}

static mtl_column_desc *old_column(old_case *c, const char *name, const char *from, int cell, int hidden)
{
    mtl_column_desc *d = &c->columns[c->desc.column_count++];
    d->name = name, d->input.from = from, d->cell = cell, d->hidden = hidden;
    return d;
}

/* Columns over columns, taps side by side, class weights; lazy Adam with an average. */
static void old_columns(old_case *c)
{
    static const float class_weights[3] = { 1, 0.5f, 2 };
    mtl_column_desc *d;
    mtl_task_desc *t;
    c->inputs[0].name = "words", c->inputs[0].vocabulary = 11, c->inputs[0].width = 5;
    c->inputs[0].dropout = 0.1f, c->inputs[0].scale = 2;
    c->inputs[1].name = "shape", c->inputs[1].features = 2;
    c->desc.input_count = 2;
    old_column(c, "left", "words", MTL_CELL_LSTM, 3)->bidirectional = 1;
    d = old_column(c, "right", "words+shape", MTL_CELL_GRU, 4);
    d->reset = MTL_RESET_BEFORE, d->dropout = 0.2f, d->dropout_per_sequence = 1;
    d = old_column(c, "top", "left+right+shape", MTL_CELL_RNN, 5);
    d->activation = MTL_ACTIVATION_RELU, d->no_bias = 1;
    t = old_task(c, "tag", MTL_LEVEL_STEP, MTL_TASK_CLASS, 3);
    t->tap.from = "left", t->class_weights = class_weights, t->label_smoothing = 0.1f;
    t = old_task(c, "rate", MTL_LEVEL_STEP, MTL_TASK_REAL, 2);
    t->tap.from = "right+top", t->loss = MTL_LOSS_HUBER, t->huber_delta = 0.4f, t->weight = 0.7f;
    t = old_task(c, "intent", MTL_LEVEL_SEQUENCE, MTL_TASK_CLASS, 4);
    t->pool = MTL_POOL_MAX, t->hidden[0] = 4, t->activation = MTL_ACTIVATION_TANH, t->dropout = 0.1f;
    t = old_task(c, "watch", MTL_LEVEL_SEQUENCE, MTL_TASK_CLASS, 2);
    t->tap.from = "words+left", t->evaluate_only = 1;
    c->trainer.optimizer = MTL_OPTIMIZER_ADAM, c->trainer.lr = 0.01f, c->trainer.lazy = 1;
    c->trainer.average = 0.9f, c->trainer.clip_norm = 0.5f;
}

/* Two layers in both directions; a class, tags and numbers; standardised features; SGD with momentum. */
static void old_layers(old_case *c)
{
    mtl_task_desc *t;
    c->inputs[0].name = "words", c->inputs[0].vocabulary = 8, c->inputs[0].width = 3;
    c->inputs[0].padding_zero = 1;
    c->inputs[1].name = "sensors", c->inputs[1].features = 3;
    c->desc.input_count = 2;
    c->desc.encoder.cell = MTL_CELL_LSTM, c->desc.encoder.hidden = 3, c->desc.encoder.layers = 2;
    c->desc.encoder.bidirectional = 1, c->desc.encoder.forget_bias = 1;
    c->desc.encoder.dropout_between = 0.2f;
    old_task(c, "class", MTL_LEVEL_SEQUENCE, MTL_TASK_CLASS, 3);
    old_task(c, "tags", MTL_LEVEL_STEP, MTL_TASK_CLASS, 4)->hidden[0] = 3;
    t = old_task(c, "number", MTL_LEVEL_SEQUENCE, MTL_TASK_REAL, 1);
    t->pool = MTL_POOL_MEAN, t->loss = MTL_LOSS_MAE;
    old_task(c, "curve", MTL_LEVEL_STEP, MTL_TASK_REAL, 2);
    c->trainer.optimizer = MTL_OPTIMIZER_SGD, c->trainer.lr = 0.05f, c->trainer.momentum = 0.9f;
    c->trainer.nesterov = 1, c->trainer.l2 = 1e-3f, c->trainer.l1 = 1e-4f;
    c->trainer.schedule = MTL_SCHEDULE_STEP, c->trainer.schedule_every = 4, c->trainer.warmup = 2;
}

/* Words and labels in the file, free texts; RMSProp. */
static void old_words(old_case *c)
{
    static const char *const words[7] = { "<unknown>", "the", "caf\xc3\xa9", "\"quoted\"", "00",
                                          "back\\slash", "light" };
    static const char *const tags[3] = { "O", "B-place", "I-place" };
    static const char *const moods[2] = { "good", "b\xc3\xb6se" };
    c->inputs[0].name = "text", c->inputs[0].vocabulary = 7, c->inputs[0].width = 4;
    c->inputs[0].words = words, c->inputs[0].lowercase = c->inputs[0].digits = 1;
    c->desc.input_count = 1;
    c->desc.encoder.cell = MTL_CELL_GRU, c->desc.encoder.hidden = 5, c->desc.encoder.dropout = 0.3f;
    old_task(c, "slots", MTL_LEVEL_STEP, MTL_TASK_CLASS, 3)->labels = tags;
    old_task(c, "mood", MTL_LEVEL_SEQUENCE, MTL_TASK_CLASS, 2)->labels = moods;
    c->trainer.optimizer = MTL_OPTIMIZER_RMSPROP, c->trainer.lr = 0.01f, c->trainer.momentum = 0.5f;
    c->trainer.schedule = MTL_SCHEDULE_COSINE, c->trainer.total_steps = 20, c->trainer.clip_value = 0.1f;
}

/* A model of doubles; AdamW. */
static void old_double(old_case *c)
{
    old_columns(c);
    c->trainer.optimizer = MTL_OPTIMIZER_ADAMW, c->trainer.decay = 0.01f, c->trainer.decay_biases = 1;
    c->trainer.average = 0;
}

static const struct { const char *name; size_t real_bytes; void (*describe)(old_case *c); } old_list[] = {
    { "columns", 4, old_columns }, { "layers", 4, old_layers }, { "words", 4, old_words },
    { "double", 8, old_double },
};
enum { OLD_CASES = sizeof old_list / sizeof old_list[0] };

static void old_case_init(old_case *c, int number, int isa)
{
    memset(c, 0, sizeof *c);
    c->desc.inputs = c->inputs, c->desc.columns = c->columns, c->desc.tasks = c->tasks;
    c->desc.seed = (unsigned long long)number + 7;
    c->name = old_list[number].name, c->real_bytes = old_list[number].real_bytes;
    old_list[number].describe(c);
    c->trainer.isa = isa;
}

/* ---- batches ------------------------------------------------------------------------------------------- */

typedef struct old_batch {
    mtl_batch batch;
    unsigned long long counter;
    int lengths[OLD_SEQUENCES], ids[OLD_MOST][OLD_MOST_ROWS], labels[OLD_MOST][OLD_MOST_ROWS];
    mtl_real rows[OLD_MOST][OLD_MOST_ROWS * OLD_MOST_WIDTH], values[OLD_MOST][OLD_MOST_ROWS * OLD_MOST_WIDTH];
    mtl_input inputs[OLD_MOST];
    mtl_target targets[OLD_MOST];
} old_batch;

static int old_below(old_batch *b, int limit)
{
    b->counter = b->counter * 6364136223846793005u + 1442695040888963407u;
    return (int)((b->counter >> 33) % (unsigned)limit);
}

static mtl_real old_real(old_batch *b) { return (mtl_real)(old_below(b, 2049) - 1024) / 512; }

/* Batch `number` of a model: every third label is missing. */
static void old_batch_init(old_batch *b, const mtl_model_desc *desc, int number)
{
    size_t i, n, rows = 0;
    memset(b, 0, sizeof *b);
    b->counter = (unsigned long long)number + 1;
    b->batch.sequences = OLD_SEQUENCES, b->batch.lengths = b->lengths;
    b->batch.inputs = b->inputs, b->batch.targets = b->targets;
    for (i = 0; i < OLD_SEQUENCES; i++) rows += (size_t)(b->lengths[i] = 1 + old_below(b, OLD_LONGEST));
    for (i = 0; i < desc->input_count; i++) {
        const mtl_input_desc *d = &desc->inputs[i];
        for (n = 0; n < rows && d->vocabulary; n++) b->ids[i][n] = old_below(b, d->vocabulary);
        for (n = 0; n < rows * (size_t)d->features; n++) b->rows[i][n] = old_real(b);
        if (d->vocabulary) b->inputs[i].ids = b->ids[i];
        else b->inputs[i].rows = b->rows[i];
    }
    for (i = 0; i < desc->task_count; i++) {
        const mtl_task_desc *t = &desc->tasks[i];
        size_t items = t->level == MTL_LEVEL_STEP ? rows : (size_t)OLD_SEQUENCES;
        for (n = 0; n < items && t->kind == MTL_TASK_CLASS; n++)
            b->labels[i][n] = old_below(b, 3) ? old_below(b, t->classes) : MTL_MISSING;
        for (n = 0; n < items * (size_t)(t->kind == MTL_TASK_REAL ? t->width : 0); n++)
            b->values[i][n] = old_below(b, 3) ? old_real(b) : (mtl_real)NAN;
        if (t->kind == MTL_TASK_CLASS) b->targets[i].labels = b->labels[i];
        else b->targets[i].values = b->values[i];
    }
}

/* OLD_UPDATES updates, of one batch and of two by turns; `first` counts those that the trainer has done. */
static void old_train(mtl_trainer *trainer, const mtl_model_desc *desc, int first, mtl_error *err)
{
    old_batch data[2];
    mtl_batch batches[2];
    int i, k;
    for (i = first; i < first + OLD_UPDATES; i++) {
        for (k = 0; k < 2; k++) old_batch_init(&data[k], desc, 2 * i + k), batches[k] = data[k].batch;
        mtl_train_step(trainer, batches, (size_t)(1 + i % 2), NULL, err);
    }
}

/* ---- answers: probabilities and values of one batch, task after task ----------------------------------- */

enum { OLD_MOST_ANSWERS = OLD_MOST * OLD_MOST_ROWS * OLD_MOST_WIDTH };

/* Writes the model's answers, returns how many there are. */
static size_t old_answers(const mtl_model *model, int isa, mtl_real *out, mtl_error *err)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    mtl_predictor_desc options;
    mtl_predictor *predictor;
    mtl_prediction tasks[OLD_MOST];
    old_batch data;
    size_t i, k, count = 0;
    memset(&options, 0, sizeof options);
    options.isa = isa;
    predictor = mtl_predictor_create(model, &options, err);
    old_batch_init(&data, desc, 99);
    mtl_predict(predictor, &data.batch, tasks, err);
    for (k = 0; k < desc->task_count && !err->code; k++) {
        const mtl_real *from = tasks[k].probabilities ? tasks[k].probabilities : tasks[k].values;
        for (i = 0; i < tasks[k].items * tasks[k].width; i++) out[count++] = from[i];
    }
    mtl_predictor_destroy(predictor);
    return count;
}
