/* >>nodes: mixes of every kind, heads that columns and other heads read, gradients that are stopped or
   reversed. Plain columns over columns are in test_encoder.c. Included by tests/main.c. */
#include "gradient.h"

enum { NODES_KINDS = MTL_MIX_REVERSAL };
enum { NODES_READER, NODES_A, NODES_B, NODES_C, NODES_LATE, NODES_MIXED, NODES_COLUMNS };

/* ---- a model that mixes everywhere --------------------------------------------------------------------- */

/* What the gate of a mix of this kind reads, of some choice; other kinds have none. */
static const char *nodes_by(int kind, int number)
{
    static const char *const choices[] = { NULL, "words", "a+words", "tags.probabilities", "number" };
    return kind == MTL_MIX_GATE || kind == MTL_MIX_EXPERTS ? choices[number % 5] : NULL;
}

static void nodes_set_mix(mtl_mix_desc *mix, int kind, const char *from, int number)
{
    mix->kind = kind;
    mix->from = from;
    mix->by = nodes_by(kind, number);
    mix->per_sequence = number % 2;
    mix->share = number % 3 ? 0.7f : 0;
    mix->reversal = number % 3 ? 0.4f : 0;
}

/* The tasks of test_problem over columns a, b, c and three that mix: "mixed" by `kind` over columns of steps,
   "reader" (which stands before the tasks it reads) over words, tags and a class of the whole sequence,
   "late" over heads of sequences alone. Heads mix as well: "number" and "tags" columns, "share" heads of
   sequences. */
static void nodes_problem(test_problem *p, int kind, int number)
{
    static const char *const names[] = { "reader", "a", "b", "c", "late", "mixed" };
    test_shape shape;
    size_t i;
    memset(&shape, 0, sizeof shape);
    shape.cell = 1 + number % 3;
    shape.bidirectional = number / 3 % 2;
    shape.hidden = 2 + number * 5 % 7;
    shape.missing = 0.3;
    shape.sequences = number % 8 == 7 ? 35 : 2 + number % 3;
    shape.longest = 5;
    shape.seed = (unsigned long long)number;
    test_problem_create(p, &shape);
    for (i = 0; i < NODES_COLUMNS; i++) {
        p->columns[i] = p->desc.encoder;
        p->columns[i].name = names[i];
    }
    p->desc.columns = p->columns;
    p->desc.column_count = NODES_COLUMNS;
    p->columns[NODES_C].hidden = p->desc.encoder.hidden;
    p->columns[NODES_READER].input.from = "words+tags.probabilities+class";
    p->columns[NODES_LATE].input.from = "class+number";
    nodes_set_mix(&p->columns[NODES_MIXED].input, kind, kind == MTL_MIX_GATE ? "a+b" : "a+b+c", number);
    nodes_set_mix(&p->tasks[TEST_TAGS].tap, kind, "a+c", number / 2 % 3);
    nodes_set_mix(&p->tasks[TEST_NUMBER].tap, kind, "b+a", number % 4);
    nodes_set_mix(&p->tasks[TEST_SHARE].tap, kind, "class+class.probabilities", number);
    p->tasks[TEST_CLASS].tap.from = "b";
    p->tasks[TEST_CURVE].tap.from = "reader+late+mixed";
    p->tasks[TEST_CURVE].loss = MTL_LOSS_MSE;
}

static mtl_model *nodes_model(test_problem *p)
{
    mtl_error err = {0};
    mtl_model *model = mtl_model_create(&p->desc, &err);
    TEST_FINE(&err);
    return model;
}

static void test_nodes_gradients(void **state)
{
    int number;
    (void)state;
    for (number = 0; number < test_cases(36); number++) {
        const int kind = MTL_MIX_CONCAT + number % (NODES_KINDS - 1);   /* reversal is no derivative: below */
        mtl_trainer_desc how = {0};
        test_problem p;
        mtl_model *model;
        char what[64];
        nodes_problem(&p, kind, number / (NODES_KINDS - 1));
        model = nodes_model(&p);
        how.isa = gradient_isa(number);
        snprintf(what, sizeof what, "mix %d, case %d", kind, number);
        model_check(model, &how, p.batch, 1, 1, what);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

/* ---- values -------------------------------------------------------------------------------------------- */

enum { NODES_SEEN = 40 };
typedef struct nodes_seen {
    size_t count;
    struct { char name[32]; size_t rows, width; mtl_real *value; } of[NODES_SEEN];
    int sequence[64];
} nodes_seen;

static void nodes_observe(void *user, const mtl_run *run, const mtl_activation *a)
{
    nodes_seen *seen = (nodes_seen *)user;
    size_t n, k = seen->count++;
    assert_true(k < NODES_SEEN && run->packing->rows <= 64);
    snprintf(seen->of[k].name, sizeof seen->of[k].name, "%s", a->name);
    seen->of[k].rows = a->rows;
    seen->of[k].width = a->width;
    seen->of[k].value = (mtl_real *)malloc(a->rows * a->width * sizeof *a->value);
    assert_non_null(seen->of[k].value);
    for (n = 0; n < a->rows; n++)
        memcpy(seen->of[k].value + n * a->width, a->value + n * a->stride, a->width * sizeof *a->value);
    memcpy(seen->sequence, run->packing->sequence, run->packing->rows * sizeof(int));
}

/* Element of a named activation; a row a sequence is found by the step's packed row. */
static double nodes_at(const nodes_seen *seen, const char *name, size_t rows, size_t n, size_t j)
{
    size_t k;
    for (k = 0; k < seen->count; k++)
        if (strcmp(seen->of[k].name, name) == 0)
            return (double)seen->of[k].value[(seen->of[k].rows == rows ? n : (size_t)seen->sequence[n])
                                             * seen->of[k].width + j];
    fail_msg("nobody has shown %s", name);
    return 0;
}

/* What the mix of kind `kind` over a, b, c makes of row n, column j. */
static double nodes_expected(const nodes_seen *seen, const mtl_model *model, int kind, size_t rows, size_t n,
                             size_t j)
{
    static const char *const names[] = { "a", "b", "c" };
    const mtl_tensor *stitch = mtl_model_tensor((mtl_model *)(uintptr_t)model, "t.stitch.weight");
    const mtl_tensor *levels = mtl_model_tensor((mtl_model *)(uintptr_t)model, "t.levels.weight");
    const mtl_tensor *scale = mtl_model_tensor((mtl_model *)(uintptr_t)model, "t.levels.scale");
    double sum = 0, all = 0, w = 1;
    size_t i;
    if (kind == MTL_MIX_GATE) {
        w = nodes_at(seen, "t.gate", rows, n, j);
        return w * nodes_at(seen, "a", rows, n, j) + (1 - w) * nodes_at(seen, "b", rows, n, j);
    }
    for (i = 0; levels && i < 3; i++) all += exp((double)levels->value[i]);
    for (i = 0; i < 3; i++) {
        if (kind == MTL_MIX_EXPERTS) w = nodes_at(seen, "t.gates", rows, n, i);
        if (kind == MTL_MIX_CROSS_STITCH) w = (double)stitch->value[i];
        if (kind == MTL_MIX_LEVELS) w = (double)scale->value[0] * exp((double)levels->value[i]) / all;
        sum += w * nodes_at(seen, names[i], rows, n, j);
    }
    return sum;
}

/* A head of steps that copies its input: its outputs are the mix itself. */
static void nodes_check_values(int kind, int per_sequence)
{
    static const int lengths[] = { 3, 5, 1, 5 };
    mtl_input_desc input = {0};
    mtl_column_desc columns[3];
    mtl_task_desc task = {0};
    mtl_model_desc desc = {0};
    mtl_error err = {0};
    mtl_prediction out;
    nodes_seen seen;
    mtl_model *model;
    mtl_predictor *predictor;
    test_batch *b;
    size_t n, j;
    memset(columns, 0, sizeof columns);
    memset(&seen, 0, sizeof seen);
    input.name = "words";
    input.vocabulary = 9;
    columns[0].name = "a";
    columns[1].name = "b";
    columns[2].name = "c";
    for (j = 0; j < 3; j++) columns[j].hidden = 6;
    task.name = "t";
    task.kind = MTL_TASK_REAL;
    task.level = MTL_LEVEL_STEP;
    task.width = 6;
    task.tap.from = kind == MTL_MIX_GATE ? "a+b" : "a+b+c";
    task.tap.by = kind == MTL_MIX_EXPERTS ? "words" : NULL;
    task.tap.kind = kind;
    task.tap.per_sequence = per_sequence;
    desc.inputs = &input;
    desc.input_count = 1;
    desc.columns = columns;
    desc.column_count = 3;
    desc.tasks = &task;
    desc.task_count = 1;
    model = mtl_model_create(&desc, &err);
    TEST_FINE(&err);
    for (n = 0; n < 6; n++)
        for (j = 0; j < 6; j++) mtl_model_tensor(model, "t.output.weight")->value[n * 6 + j] = n == j;
    memset(mtl_model_tensor(model, "t.output.bias")->value, 0, 6 * sizeof(mtl_real));
    if (kind == MTL_MIX_LEVELS) mtl_model_tensor(model, "t.levels.weight")->value[1] = (mtl_real)0.7;
    if (kind == MTL_MIX_LEVELS) mtl_model_tensor(model, "t.levels.scale")->value[0] = (mtl_real)1.5;
    mtl_model_prepare(model, &err);
    predictor = mtl_predictor_create(model, NULL, &err);
    mtl_predictor_observe(predictor, nodes_observe, &seen);
    b = test_batch_create(&desc, lengths, 4, 0, 0, 3);
    mtl_predict(predictor, &b->batch, &out, &err);
    TEST_FINE(&err);
    for (n = 0; n < b->rows; n++)
        for (j = 0; j < 6; j++) {
            const double expected = nodes_expected(&seen, model, kind, b->rows, n, j);
            if (fabs(nodes_at(&seen, "t.values", b->rows, n, j) - expected) > 1e-5)
                fail_msg("mix %d: row %d, column %d is %g, not %g", kind, (int)n, (int)j,
                         nodes_at(&seen, "t.values", b->rows, n, j), expected);
        }
    for (n = 0; n < seen.count; n++) free(seen.of[n].value);
    test_batch_destroy(b);
    mtl_predictor_destroy(predictor);
    mtl_model_destroy(model);
}

static void test_nodes_values(void **state)
{
    int kind;
    (void)state;
    for (kind = MTL_MIX_SUM; kind <= MTL_MIX_LEVELS; kind++) nodes_check_values(kind, 0);
    nodes_check_values(MTL_MIX_EXPERTS, 1);
}

/* Factors begin where the descs say. */
static void test_nodes_initial_values(void **state)
{
    test_problem p;
    mtl_model *model;
    const mtl_tensor *t;
    (void)state;
    nodes_problem(&p, MTL_MIX_CROSS_STITCH, 0);
    p.tasks[TEST_NUMBER].tap.share = 0.5f;
    model = nodes_model(&p);
    t = mtl_model_tensor(model, "mixed.stitch.weight");
    assert_int_equal(t->count, 3);
    assert_true(fabs((double)t->value[0] - 0.9) < 1e-6 && fabs((double)t->value[1] - 0.05) < 1e-6 &&
                t->value[1] == t->value[2]);
    assert_true(mtl_model_tensor(model, "number.stitch.weight")->value[1] == (mtl_real)0.5);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
    nodes_problem(&p, MTL_MIX_LEVELS, 0);
    model = nodes_model(&p);
    t = mtl_model_tensor(model, "mixed.levels.weight");
    assert_true(t->value[0] == 0 && t->value[1] == 0 && t->value[2] == 0);
    assert_true(mtl_model_tensor(model, "mixed.levels.scale")->value[0] == 1);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

/* ---- gradients that are stopped or reversed ------------------------------------------------------------ */

/* A mix of a kind of the header's, some of whose sources are constants: the values that they had when they
   were kept. By differences of a model with it, the gradient of a model that stops these sources can be
   checked. */
typedef struct nodes_hold { int kept; mtl_real *values[4]; } nodes_hold;
typedef struct nodes_hold_options { unsigned mask; nodes_hold *hold; } nodes_hold_options;
static const mtl_mix_kind *nodes_held_kind;     /* whose functions the held mix has */

static mtl_activation *nodes_hold_source(mtl_run *run, nodes_hold *hold, size_t i, const mtl_activation *x)
{
    mtl_activation *y = mtl_run_activation(run, NULL, x->rows, x->width);
    const size_t bytes = x->rows * x->stride * sizeof *x->value;
    if (!y) return NULL;
    if (!hold->kept) {
        free(hold->values[i]);
        hold->values[i] = (mtl_real *)malloc(bytes);
        assert_non_null(hold->values[i]);
        memcpy(hold->values[i], x->value, bytes);
    }
    memcpy(y->value, hold->values[i], bytes);
    y->constant = 1;
    return y;
}

static mtl_activation *nodes_hold_forward(mtl_run *run, const mtl_mix *mix, mtl_activation *const *sources,
                                          mtl_activation *by)
{
    const nodes_hold_options *o = (const nodes_hold_options *)mix->desc->options;
    mtl_activation *held[4];
    size_t i;
    assert_true(mix->count < 4);
    for (i = 0; i < mix->count; i++)
        held[i] = o->mask >> i & 1 ? nodes_hold_source(run, o->hold, i, sources[i]) : sources[i];
    if (by && o->mask >> 3 & 1) by = nodes_hold_source(run, o->hold, 3, by);
    return nodes_held_kind->forward(run, mix, held, by);
}

/* The gradient of a model some of whose taps are stopped, by differences of one that holds the same sources.
   mask: sources that `stop` names; 8: what the gate reads. */
static void nodes_check_stopped(test_problem *p, mtl_mix_desc *mix, unsigned mask, const char *stop,
                                const char *what)
{
    const mtl_mix_desc plain = *mix;
    nodes_hold hold = {0};
    nodes_hold_options options;
    mtl_mix_kind kind = *(const mtl_mix_kind *)(const void *)
        mtl_kind_at(MTL_DESC_MIX, (size_t)(plain.kind ? plain.kind : MTL_MIX_CONCAT) - MTL_MIX_CONCAT);
    mtl_model *stopped, *held;
    mtl_trainer *trainer;
    mtl_step step;
    model_probe m;
    probe gradients;
    size_t i;
    memset(&m, 0, sizeof m);
    nodes_held_kind = (const mtl_mix_kind *)(const void *)
        mtl_kind_at(MTL_DESC_MIX, (size_t)(plain.kind ? plain.kind : MTL_MIX_CONCAT) - MTL_MIX_CONCAT);
    mix->stop = stop;
    stopped = nodes_model(p);
    *mix = plain;
    kind.kind.name = "held";
    kind.kind.options = sizeof options;
    kind.forward = nodes_hold_forward;
    options.mask = mask;
    options.hold = &hold;
    mix->own = &kind;
    mix->options = &options;
    held = nodes_model(p);
    model_enlarge(stopped, 2);
    memcpy(held->set.block, stopped->set.block, stopped->set.total * sizeof(mtl_real));
    mtl_model_prepare(stopped, &m.err);
    trainer = mtl_trainer_create(stopped, NULL, &m.err);
    mtl_train_gradients(trainer, p->batch, 1, &step, &m.err);
    m.model = held;
    m.batches = p->batch;
    m.count = 1;
    m.trainer = mtl_trainer_create(held, NULL, &m.err);
    TEST_FINE(&m.err);
    assert_true(model_probe_loss(&m) == step.loss);
    hold.kept = 1;
    probe_open(&gradients, held->set.count, model_probe_loss, &m, 17);
    gradients.bent = 1;
    for (i = 0; i < held->set.count; i++) {
        assert_string_equal(held->set.tensors[i]->name, stopped->set.tensors[i]->name);
        (void)probe_add_tensor(&gradients, mtl_trainer_gradients(trainer), held->set.tensors[i]);
    }
    probe_check(&gradients, what);
    for (i = 0; i < 4; i++) free(hold.values[i]);
    *mix = plain;
    mtl_trainer_destroy(m.trainer);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(held);
    mtl_model_destroy(stopped);
}

/* A column reads a head of every form, its outputs or its distribution, with the gradient passed and
   stopped; the head is trained by its own loss over labelled rows at the same time. */
static void test_nodes_heads_as_sources(void **state)
{
    static const char *const heads[] = { "tags", "tags.probabilities", "class", "class.probabilities",
        "number",
                                         "curve", "share.probabilities" };
    size_t i;
    int number;
    (void)state;
    for (number = 0; number < test_cases(2); number++)
        for (i = 0; i < MTL__COUNT(heads); i++) {
            mtl_column_desc *reader;
            test_problem p;
            mtl_model *model;
            char from[64], what[96];
            nodes_problem(&p, MTL_MIX_CONCAT, number + 3);
            p.columns[1] = p.desc.encoder;
            p.columns[1].name = "a";
            p.desc.column_count = 2;
            memset(&p.tasks[TEST_TAGS].tap, 0, sizeof(mtl_mix_desc));
            memset(&p.tasks[TEST_CURVE].tap, 0, sizeof(mtl_mix_desc));
            memset(&p.tasks[TEST_NUMBER].tap, 0, sizeof(mtl_mix_desc));
            memset(&p.tasks[TEST_SHARE].tap, 0, sizeof(mtl_mix_desc));
            p.tasks[TEST_CLASS].tap.from = "a";
            p.tasks[i < 2 ? TEST_CURVE : TEST_TAGS].tap.from = "reader+a";
            reader = &p.columns[NODES_READER];
            snprintf(from, sizeof from, "a+%s+words", heads[i]);
            reader->input.from = from;
            snprintf(what, sizeof what, "a column over %s", heads[i]);
            model = nodes_model(&p);
            model_check(model, NULL, p.batch, 1, 1, what);
            mtl_model_destroy(model);
            strcat(what, ", stopped");
            nodes_check_stopped(&p, &reader->input, 2, heads[i], what);
            test_problem_destroy(&p);
        }
}

/* Every kind with its sources, or with what its gate reads, stopped; all of them at once, too. */
static void test_nodes_stopped(void **state)
{
    int kind, number;
    (void)state;
    for (number = 0; number < test_cases(2); number++)
        for (kind = MTL_MIX_CONCAT; kind <= MTL_MIX_LEVELS; kind++) {
            const int gated = kind == MTL_MIX_GATE || kind == MTL_MIX_EXPERTS;
            test_problem p;
            mtl_mix_desc *mix = &p.columns[NODES_MIXED].input;
            nodes_problem(&p, kind, number);
            mix->from = "a+b";
            mix->by = gated ? "words+a" : NULL;
            nodes_check_stopped(&p, mix, 2, "b", "b stopped");
            nodes_check_stopped(&p, mix, 3 | 8, "*", "all stopped");
            mix->by = gated ? "words" : NULL;
            nodes_check_stopped(&p, mix, gated ? 2 | 8 : 2, gated ? "words+b" : "b",
                                "the gate's input stopped");
            mix = &p.tasks[TEST_SHARE].tap;
            mix->by = gated ? "words" : NULL;      /* sequences over steps */
            nodes_check_stopped(&p, mix, 2, "class.probabilities", "a head of sequences stopped");
            test_problem_destroy(&p);
        }
}

/* Under a tap that is stopped as a whole nothing learns, and no gradient is computed in vain. */
static void test_nodes_stopped_learns_nothing(void **state)
{
    test_problem p;
    test_shape shape;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_error err = {0};
    const mtl_activation *a, *encoder = NULL;
    size_t i;
    (void)state;
    memset(&shape, 0, sizeof shape);
    shape.features = 2;
    test_problem_create(&p, &shape);
    p.desc.task_count = 1;
    p.tasks[0].tap.stop = "*";
    model = nodes_model(&p);
    trainer = mtl_trainer_create(model, NULL, &err);
    mtl_train_gradients(trainer, p.batch, 1, NULL, &err);
    TEST_FINE(&err);
    for (i = 0; i < model->set.count; i++) {
        const mtl_tensor *t = model->set.tensors[i];
        assert_int_equal(mtl_gradients_get(mtl_trainer_gradients(trainer), t)->state == MTL_GRAD_NONE,
                         strncmp(t->name, "class.", 6) != 0);
    }
    for (a = mtl_trainer_run(trainer)->tape->activations; a; a = a->next)
        if (strcmp(a->name, "encoder") == 0) encoder = a;
    assert_non_null(encoder);
    for (a = mtl_trainer_run(trainer)->tape->activations; a; a = a->next)
        assert_true(a->value != encoder->value || a->grad_state == MTL_GRAD_NONE);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

/* Gradients of the one task of `p`, in a block as the set's. */
static mtl_real *nodes_gradients(test_problem *p)
{
    mtl_model *model = nodes_model(p);
    mtl_error err = {0};
    mtl_trainer *trainer = mtl_trainer_create(model, NULL, &err);
    mtl_real *all = (mtl_real *)calloc(model->set.total, sizeof *all);
    size_t i, r, begin;
    assert_non_null(all);
    mtl_train_gradients(trainer, p->batch, 1, NULL, &err);
    TEST_FINE(&err);
    for (i = 0; i < model->set.count; i++) {
        const mtl_tensor *t = model->set.tensors[i];
        const mtl_gradient *g = mtl_gradients_get(mtl_trainer_gradients(trainer), t);
        for (r = 0; r < mtl__gradient_ranges(g); r++) {
            const size_t length = mtl__gradient_range(g, t, r, &begin);
            memcpy(all + t->offset + begin, g->value + begin, length * sizeof *all);
        }
    }
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    return all;
}

/* Below a reversal gradients are -reversal times those of the same model with a concatenation, which
   differences confirm; above it they are the same. At a column and at a task's tap, of steps and
   sequences. */
static void test_nodes_reversal(void **state)
{
    int number;
    (void)state;
    for (number = 0; number < test_cases(24); number++) {
        const int at_column = number % 2, task = number % 4 < 2 ? TEST_CLASS : TEST_TAGS;
        test_problem p;
        test_shape shape;
        mtl_mix_desc *mix = at_column ? &p.columns[1].input : &p.tasks[task].tap;
        mtl_model *model;
        mtl_real *plain, *reversed;
        size_t i, k;
        memset(&shape, 0, sizeof shape);
        shape.cell = 1 + number % 3;
        shape.bidirectional = number / 3 % 2;
        shape.two_columns = 1;
        shape.hidden = 5;
        shape.seed = (unsigned long long)number;
        test_problem_create(&p, &shape);
        p.desc.tasks = &p.tasks[task];
        p.desc.task_count = 1;
        p.data->batch.targets = &p.data->targets[task];
        p.tasks[task].tap.from = NULL;
        mix->from = at_column ? "low" : "low+high";
        model = nodes_model(&p);
        model_check(model, NULL, p.batch, 1, 1, "without the reversal");
        plain = nodes_gradients(&p);
        mix->kind = MTL_MIX_REVERSAL;
        mix->reversal = number % 3 ? 0.25f : 0;
        reversed = nodes_gradients(&p);
        for (i = 0; i < model->set.count; i++) {
            const mtl_tensor *t = model->set.tensors[i];
            const int below = strncmp(t->name, "words", 5) == 0 || strncmp(t->name, "low.", 4) == 0 ||
                (!at_column && strncmp(t->name, "high.", 5) == 0);
            const mtl_real factor = below ? number % 3 ? (mtl_real)-0.25 : (mtl_real)-1 : (mtl_real)1;
            for (k = t->offset; k < t->offset + t->count; k++)
                if (fabs((double)(reversed[k] - factor * plain[k])) > 1e-6 * fabs((double)plain[k]) + 1e-12)
                    fail_msg("%s[%d]: %g reversed, %g plain", t->name, (int)(k - t->offset),
                             (double)reversed[k], (double)plain[k]);
        }
        free(plain);
        free(reversed);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

/* ---- what every kind keeps ----------------------------------------------------------------------------- */

/* Exactly the bytes that are told, and no allocation in a step. */
static void test_nodes_exact_sizes(void **state)
{
    int number, i;
    (void)state;
    for (number = 0; number < NODES_KINDS * (test_quick() ? 2 : 6); number++) {
        mtl_trainer_desc training = {0};
        mtl_predictor_desc predicting = {0};
        mtl_error err = {0};
        arena_case c;
        memset(&c, 0, sizeof c);
        nodes_problem(&c.problem, MTL_MIX_CONCAT + number % NODES_KINDS, number / NODES_KINDS);
        if (number % 2) c.problem.columns[NODES_MIXED].input.stop = "*";
        c.rows = 5 + number * 7 % 60;
        c.sequences = number % 3 ? 1 + c.rows / 3 : c.rows;
        c.steps = number % 3 == 1 ? 1 + c.rows / 2 : c.rows;
        training.max_rows = predicting.max_rows = (size_t)c.rows;
        training.max_sequences = predicting.max_sequences = (size_t)c.sequences;
        training.max_steps = predicting.max_steps = (size_t)c.steps;
        training.threads = predicting.threads = number % 4 == 3 ? 3 : 1;
        arena_case_model(&c, &err);
        arena_case_train(&c, &training, &err);
        arena_case_predict(&c, &predicting, &err);
        mtl_model_destroy(c.model);
        for (i = 0; i < 3; i++) free(c.memory[i]);
        test_problem_destroy(&c.problem);
    }
}

static void test_nodes_same_bits_for_threads(void **state)
{
    int number, threads;
    (void)state;
    for (number = 0; number < NODES_KINDS * (test_quick() ? 1 : 4); number++) {
        threads_result one;
        test_problem p;
        nodes_problem(&p, MTL_MIX_CONCAT + number % NODES_KINDS, 7 - number / NODES_KINDS);
        one = threads_train(&p, 1, NULL, 1 + number % 4);
        for (threads = 2; threads <= 3; threads++) threads_expect_same(&p, &one, 1 + number % 4, threads,
                                                                       NULL);
        free(one.weights);
        free(one.outputs);
        test_problem_destroy(&p);
    }
}

/* Gradients of every instruction set are those of scalar code within rounding. */
static void test_nodes_every_isa(void **state)
{
    int number, isa;
    (void)state;
    for (number = 0; number < NODES_KINDS * (test_quick() ? 1 : 4); number++) {
        test_problem p;
        mtl_model *model;
        mtl_real *scalar = NULL;
        nodes_problem(&p, MTL_MIX_CONCAT + number % NODES_KINDS, number);
        model = nodes_model(&p);
        for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++) {
            mtl_trainer_desc how = {0};
            mtl_error err = {0};
            mtl_trainer *trainer;
            mtl_real *all;
            size_t i;
            if (!mtl__kernels_choose(isa)) continue;
            how.isa = isa;
            trainer = mtl_trainer_create(model, &how, &err);
            mtl_train_gradients(trainer, p.batch, 1, NULL, &err);
            TEST_FINE(&err);
            all = (mtl_real *)calloc(model->set.total, sizeof *all);
            assert_non_null(all);
            for (i = 0; i < model->set.count; i++) {
                const mtl_tensor *t = model->set.tensors[i];
                const mtl_gradient *g = mtl_gradients_get(mtl_trainer_gradients(trainer), t);
                if (g->state == MTL_GRAD_DENSE)
                    memcpy(all + t->offset, g->value, t->count * sizeof *all);
            }
            if (scalar) {
                const double far = test_distance(all, scalar, model->set.total, 1e-3);
                if (far > 2e-4) fail_msg("case %d: %s is %g from scalar", number, mtl__isa_name(isa), far);
                free(all);
            } else scalar = all;
            mtl_trainer_destroy(trainer);
        }
        free(scalar);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

/* A model that was written and read answers and learns as before, to the bit. */
static void test_nodes_files(void **state)
{
    int number;
    (void)state;
    for (number = 0; number < 2 * NODES_KINDS; number++) {
        mtl_prediction out[2][TEST_TASKS_COUNT];
        mtl_predictor *predictor[2];
        mtl_trainer *trainer[2];
        mtl_model *model[2];
        mtl_error err = {0};
        mtl_step step[2];
        test_problem p;
        test_file file = {0};
        mtl_writer writer;
        mtl_reader reader;
        int i, k;
        nodes_problem(&p, MTL_MIX_CONCAT + number % NODES_KINDS, number);
        if (number % 2) p.columns[NODES_MIXED].input.stop = "a+b";
        model[0] = nodes_model(&p);
        writer = test_file_writer(&file);
        mtl_model_write(model[0], NULL, &writer, &err);
        TEST_FINE(&err);
        reader = test_file_reader(&file);
        model[1] = mtl_model_read(&reader, &err);
        TEST_FINE(&err);
        for (i = 0; i < 2; i++) {
            predictor[i] = mtl_predictor_create(model[i], NULL, &err);
            mtl_predict(predictor[i], p.batch, out[i], &err);
        }
        TEST_FINE(&err);
        for (k = 0; k < TEST_TASKS_COUNT; k++)
            assert_memory_equal(test_outputs(&out[0][k]), test_outputs(&out[1][k]),
                                out[0][k].items * out[0][k].width * sizeof(mtl_real));
        for (i = 0; i < 2; i++) {
            mtl_predictor_destroy(predictor[i]);
            trainer[i] = mtl_trainer_create(model[i], NULL, &err);
            mtl_train_step(trainer[i], p.batch, 1, &step[i], &err);
        }
        TEST_FINE(&err);
        assert_true(step[0].grad_norm == step[1].grad_norm);
        for (i = 0; i < 2; i++) {
            mtl_trainer_destroy(trainer[i]);
            mtl_model_destroy(model[i]);
        }
        free(file.bytes);
        test_problem_destroy(&p);
    }
}

/* A model's answers do not depend on the order of its columns, though one stands before the tasks and the
   columns that it reads. */
static void test_nodes_order(void **state)
{
    mtl_prediction out[2][TEST_TASKS_COUNT];
    mtl_predictor *predictor[2];
    mtl_model *model[2];
    mtl_column_desc columns[NODES_COLUMNS];
    mtl_error err = {0};
    test_problem p;
    int i, k;
    (void)state;
    nodes_problem(&p, MTL_MIX_EXPERTS, 3);
    p.columns[NODES_MIXED].input.by = "tags.probabilities";
    p.tasks[TEST_SET].tap.from = "c";       /* by default another column is the last one in another order */
    for (i = 0; i < 2; i++) {
        model[i] = nodes_model(&p);
        predictor[i] = mtl_predictor_create(model[i], NULL, &err);
        mtl_predict(predictor[i], p.batch, out[i], &err);
        TEST_FINE(&err);
        for (k = 0; k < NODES_COLUMNS; k++) columns[k] = p.columns[NODES_COLUMNS - 1 - k];
        p.desc.columns = columns;
    }
    for (k = 0; k < TEST_TASKS_COUNT; k++)
        assert_memory_equal(test_outputs(&out[0][k]), test_outputs(&out[1][k]),
                            out[0][k].items * out[0][k].width * sizeof(mtl_real));
    for (i = 0; i < 2; i++) {
        mtl_predictor_destroy(predictor[i]);
        mtl_model_destroy(model[i]);
    }
    test_problem_destroy(&p);
}

/* ---- what is refused ----------------------------------------------------------------------------------- */

/* Column "mixed" with this mix. */
static void nodes_expect_refused(int kind, const char *from, const char *by, const char *stop,
                                 const char *name, const char *part)
{
    test_problem p;
    mtl_error err = {0};
    mtl_mix_desc *mix = &p.columns[NODES_MIXED].input;
    nodes_problem(&p, MTL_MIX_CONCAT, 0);
    mix->kind = kind;
    mix->from = from;
    mix->by = by;
    mix->stop = stop;
    assert_null(mtl_model_create(&p.desc, &err));
    test_expect_error(&err, MTL_ERROR_FIELD, name, part);
    assert_int_equal(mtl_model_size(&p.desc, &err), 0);
    test_expect_error(&err, MTL_ERROR_FIELD, name, part);
    test_problem_destroy(&p);
}

static void test_nodes_wrong_mixes(void **state)
{
    static const char *const at = "columns[5].input", *const by = "columns[5].input.by",
        *const stop = "columns[5].input.stop";
    int kind;
    (void)state;
    nodes_expect_refused(MTL_MIX_GATE, "a", NULL, NULL, at, "a gate needs two sources; `from` names 1");
    nodes_expect_refused(MTL_MIX_GATE, "a+b+c", NULL, NULL, at, "`from` names 3");
    for (kind = MTL_MIX_SUM; kind <= MTL_MIX_LEVELS; kind++) {
        nodes_expect_refused(kind, "a+words", NULL, NULL, at, "number 2 has 6");
        nodes_expect_refused(kind, "", NULL, NULL, at, "\"\"");
        nodes_expect_refused(kind, "a+", NULL, NULL, at, "\"\"");
        nodes_expect_refused(kind, "a+b", "wordz", NULL, by, "\"wordz\"");
        nodes_expect_refused(kind, "a+b", "number.probabilities", NULL, by, "\"number\" has none");
        if (kind != MTL_MIX_GATE && kind != MTL_MIX_EXPERTS)
            nodes_expect_refused(kind, "a+b", "words", NULL, by, "only mixes with a gate");
    }
    nodes_expect_refused(MTL_MIX_CONCAT, "a+b", "words", NULL, by, "only mixes with a gate");
    nodes_expect_refused(MTL_MIX_REVERSAL, "a+b", "words", NULL, by, "only mixes with a gate");
    nodes_expect_refused(MTL_MIX_CONCAT, "a+b", NULL, "words", stop, "\"words\"");
    nodes_expect_refused(MTL_MIX_CONCAT, "a+b", NULL, "b+nothing", stop, "\"nothing\"");
    nodes_expect_refused(MTL_MIX_CONCAT, "tags+b", NULL, "tags.probabilities", stop,
                         "\"tags.probabilities\"");
    nodes_expect_refused(MTL_MIX_CONCAT, "a+b", NULL, "", stop, "\"\"");
    nodes_expect_refused(MTL_MIX_CONCAT, "curve", NULL, NULL, NULL, "mixed <- curve <- mixed");
    nodes_expect_refused(MTL_MIX_EXPERTS, "a+b", "curve", NULL, NULL, "mixed <- curve <- mixed");
    nodes_expect_refused(MTL_MIX_CONCAT + NODES_KINDS, "a+b", NULL, NULL, NULL, "none of concat, sum, gate");
}

/* ---- penalties ----------------------------------------------------------------------------------------- */

/* Two columns alike over the words, and one penalty: a tie of them, of their tasks' heads; orthogonal rows of
   steps, of heads, of sequences, of a part with itself; an anchor of a column, of the embedding. */
enum { NODES_PENALTIES = 8 };
static const mtl_penalty_desc nodes_penalties[NODES_PENALTIES] = {
    { "held", "low", "high", NULL, NULL, MTL_PENALTY_TIE, 0.3f },
    { "held", "tags.output", "twin.output", NULL, NULL, 0, 0 },
    { "held", "low", "high", NULL, NULL, MTL_PENALTY_ORTHOGONAL, 40 },
    { "held", "tags.probabilities", "low", NULL, NULL, MTL_PENALTY_ORTHOGONAL, 40 },
    { "held", "class", "number", NULL, NULL, MTL_PENALTY_ORTHOGONAL, 10 },
    { "held", "high", "high", NULL, NULL, MTL_PENALTY_ORTHOGONAL, 20 },
    { "held", "low", NULL, NULL, NULL, MTL_PENALTY_ANCHOR, 0.5f },
    { "held", "words", NULL, NULL, NULL, MTL_PENALTY_ANCHOR, 0.2f }
};

static void nodes_penalty_problem(test_problem *p, int penalty, int variant)
{
    test_shape shape;
    memset(&shape, 0, sizeof shape);
    shape.cell = 1 + variant % 3;
    shape.bidirectional = variant / 3 % 2;
    shape.layers = 1 + variant % 2;
    shape.hidden = 5;
    shape.two_columns = 1;
    shape.missing = 0.3;
    shape.seed = (unsigned long long)variant;
    test_problem_create(p, &shape);
    p->columns[1].input.from = "words";
    p->tasks[TEST_CURVE] = p->tasks[TEST_TAGS];
    p->tasks[TEST_CURVE].name = "twin";
    p->tasks[TEST_CURVE].tap.from = "high";
    p->data->targets[TEST_CURVE] = p->data->targets[TEST_TAGS];
    p->desc.penalties = &nodes_penalties[penalty];
    p->desc.penalty_count = 1;
}

static void test_nodes_penalty_gradients(void **state)
{
    int penalty, variant;
    (void)state;
    for (penalty = 0; penalty < NODES_PENALTIES - 1; penalty++)
        for (variant = 0; variant < test_cases(12); variant++) {
            test_problem p;
            mtl_batch batches[2];
            mtl_model *model;
            char what[64];
            nodes_penalty_problem(&p, penalty, variant);
            batches[0] = batches[1] = *p.batch;
            model = nodes_model(&p);
            snprintf(what, sizeof what, "penalty %d, variant %d", penalty, variant);
            model_check(model, NULL, batches, 1 + (size_t)(variant % 2), 1, what);
            mtl_model_destroy(model);
            test_problem_destroy(&p);
        }
}

/* An update's penalty_loss after the weights have become twice what they were. */
static double nodes_penalty_value(test_problem *p, const mtl_batch *batches, size_t count, mtl_model **made)
{
    mtl_error err = {0};
    mtl_step step, plain;
    mtl_model *model = nodes_model(p);
    mtl_trainer *trainer = mtl_trainer_create(model, NULL, &err);
    size_t k;
    model_enlarge(model, 2);
    mtl_model_prepare(model, &err);
    mtl_train_gradients(trainer, batches, count, &step, &err);
    TEST_FINE(&err);
    for (plain.loss = 0, k = 0; k < step.task_count; k++)
        plain.loss += (double)p->tasks[k].weight * step.task_loss[k] + (p->tasks[k].weight == 0
            ? step.task_loss[k] : 0);
    assert_true(fabs(step.loss - plain.loss - step.penalty_loss) < 1e-5 * step.loss);
    mtl_trainer_destroy(trainer);
    if (made) *made = model;
    else mtl_model_destroy(model);
    return step.penalty_loss;
}

/* What the formulas say; two micro-batches of the same rows have the penalty of one. */
static void test_nodes_penalty_values(void **state)
{
    int penalty;
    (void)state;
    for (penalty = 0; penalty < NODES_PENALTIES; penalty += 6) {
        test_problem p;
        mtl_batch twice[2];
        mtl_model *model;
        const mtl_parameters *set;
        double total = 0, value;
        size_t i, j;
        nodes_penalty_problem(&p, penalty, 1);
        twice[0] = twice[1] = *p.batch;
        value = nodes_penalty_value(&p, p.batch, 1, &model);
        set = mtl_model_parameters(model);
        for (i = 0; i < set->count; i++) {
            const mtl_tensor *t = set->tensors[i], *other;
            char name[96];
            if (strncmp(t->name, "low.", 4) != 0) continue;
            snprintf(name, sizeof name, penalty ? "buffers.held.%s" : "high.%s", t->name + (penalty ? 0 : 4));
            other = mtl_model_tensor(model, name);
            assert_non_null(other);
            for (j = 0; j < t->count; j++)
                total += pow((double)t->value[j] - (double)other->value[j], 2);
        }
        total *= (double)nodes_penalties[penalty].weight;
        assert_true(total > 0.01 && fabs(value - total) < 1e-5 * total);
        value = nodes_penalty_value(&p, twice, 2, NULL);
        assert_true(fabs(value - total) < 1e-5 * total);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

typedef struct nodes_two_rows { size_t rows, width[2]; mtl_real value[2][64 * 16]; } nodes_two_rows;

static void nodes_keep_rows(void *user, const mtl_run *run, const mtl_activation *a)
{
    nodes_two_rows *seen = (nodes_two_rows *)user;
    const int high = strcmp(a->name, "high") == 0;
    size_t n;
    (void)run;
    if (!high && strcmp(a->name, "low") != 0) return;
    assert_true(a->rows <= 64 && a->width <= 16);
    seen->rows = a->rows;
    seen->width[high] = a->width;
    for (n = 0; n < a->rows; n++)
        memcpy(seen->value[high] + n * a->width, a->value + n * a->stride, a->width * sizeof *a->value);
}

static void test_nodes_penalty_orthogonal(void **state)
{
    nodes_two_rows seen;
    test_problem p;
    mtl_error err = {0};
    mtl_step step;
    mtl_model *model;
    mtl_trainer *trainer;
    double total = 0;
    size_t i, j, n;
    (void)state;
    nodes_penalty_problem(&p, 2, 3);
    model = nodes_model(&p);
    trainer = mtl_trainer_create(model, NULL, &err);
    mtl_trainer_observe(trainer, nodes_keep_rows, &seen);
    mtl_train_gradients(trainer, p.batch, 1, &step, &err);
    TEST_FINE(&err);
    for (i = 0; i < seen.width[0]; i++)
        for (j = 0; j < seen.width[1]; j++) {
            double dot = 0;
            for (n = 0; n < seen.rows; n++)
                dot += (double)seen.value[0][n * seen.width[0] + i]
                    * (double)seen.value[1][n * seen.width[1] + j];
            total += dot * dot;
        }
    total *= 40.0 / (double)(seen.rows * seen.rows);
    assert_true(total > 0 && fabs(total - step.penalty_loss) < 1e-5 * total);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

/* Weights after three steps; the trainer's file, if it is wanted. */
static mtl_real *nodes_penalty_train(mtl_model *model, const mtl_batch *batch, int threads, float clip_norm)
{
    mtl_trainer_desc how = {0};
    mtl_error err = {0};
    mtl_trainer *trainer;
    int i;
    how.threads = threads;
    how.lr = 0.05f;
    how.clip_norm = clip_norm;
    trainer = mtl_trainer_create(model, &how, &err);
    for (i = 0; i < 3; i++) mtl_train_step(trainer, batch, 1, NULL, &err);
    TEST_FINE(&err);
    mtl_trainer_destroy(trainer);
    return test_weights_copy(model);
}

/* The same bits for any number of threads; a file that holds the anchor, towards which training goes on. */
static void test_nodes_penalty_threads_and_files(void **state)
{
    int penalty, threads;
    (void)state;
    for (penalty = 0; penalty < NODES_PENALTIES; penalty++) {
        mtl_real *one = NULL;
        for (threads = 1; threads <= 3; threads++) {
            test_problem p;
            mtl_model *model, *loaded;
            mtl_real *weights, *more;
            mtl_error err = {0};
            test_file file = {0};
            mtl_writer writer = test_file_writer(&file);
            nodes_penalty_problem(&p, penalty, 4);
            model = nodes_model(&p);
            weights = nodes_penalty_train(model, p.batch, threads, 0);
            if (one) assert_memory_equal(one, weights, mtl_model_parameters(model)->total * sizeof *one);
            mtl_model_write(model, NULL, &writer, &err);
            loaded = mtl_model_load_memory(file.bytes, file.used, &err);
            TEST_FINE(&err);
            assert_int_equal(mtl_model_describe(loaded)->penalty_count, 1);
            free(nodes_penalty_train(model, p.batch, 1, 0));
            more = nodes_penalty_train(loaded, p.batch, 1, 0);
            assert_true(test_weights_equal(model, more));
            free(more);
            free(file.bytes);
            mtl_model_destroy(loaded);
            mtl_model_destroy(model);
            test_problem_destroy(&p);
            if (one) free(weights);
            else one = weights;
        }
        free(one);
    }
}

/* Columns that nothing else connects are one part when a penalty names both; and the penalty reaches a column
   that only one task may train. */
static void test_nodes_penalty_connects(void **state)
{
    int tied;
    (void)state;
    for (tied = 0; tied < 2; tied++) {
        test_problem p;
        mtl_model *model;
        mtl_error err = {0};
        mtl_trainer *trainer;
        mtl_input_desc inputs[2];
        const mtl_gradient *g;
        nodes_penalty_problem(&p, 0, 0);
        p.desc.penalty_count = (size_t)tied;
        inputs[0] = inputs[1] = p.inputs[0];
        inputs[1].name = "again";
        inputs[1].reads = "words";
        p.desc.inputs = inputs;
        p.desc.input_count = 2;
        p.columns[0].input.from = "words";
        p.columns[1].input.from = "again";
        p.columns[1].trains = "tags";
        p.desc.task_count = 2;
        p.tasks[TEST_CLASS].tap.from = "high";
        p.tasks[TEST_TAGS].tap.from = "low";
        model = nodes_model(&p);
        assert_int_equal(mtl_model_tensor(model, "low.weight_ih_l0")->component
                         == mtl_model_tensor(model, "high.weight_ih_l0")->component, tied);
        trainer = mtl_trainer_create(model, NULL, &err);
        mtl_train_gradients(trainer, p.batch, 1, NULL, &err);
        TEST_FINE(&err);
        g = mtl_gradients_get(mtl_trainer_gradients(trainer), mtl_model_tensor(model, "high.weight_ih_l0"));
        assert_int_equal(g->state, tied ? MTL_GRAD_DENSE : MTL_GRAD_NONE);
        mtl_trainer_destroy(trainer);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

static void nodes_refuse_penalty(test_problem *p, mtl_penalty_desc penalty, const char *name,
                                 const char *part)
{
    mtl_error err = {0};
    p->desc.penalties = &penalty;
    assert_null(mtl_model_create(&p->desc, &err));
    test_expect_error(&err, MTL_ERROR_FIELD, name, part);
}

static void test_nodes_penalty_refuses(void **state)
{
    static const char *const at = "penalties[0]";
    mtl_penalty_desc penalty = nodes_penalties[0];
    test_problem p;
    (void)state;
    nodes_penalty_problem(&p, 0, 1);
    penalty.b = "hihg";
    nodes_refuse_penalty(&p, penalty, at, "no input, column or task \"hihg\"");
    penalty.b = "tags";
    nodes_refuse_penalty(&p, penalty, at, "low.weight_ih_l0, but there is no tags.weight_ih_l0");
    penalty.b = NULL;
    nodes_refuse_penalty(&p, penalty, at, "must name a and b");
    penalty.a = NULL;
    penalty.b = "low";
    nodes_refuse_penalty(&p, penalty, at, "must name a and b");
    penalty = nodes_penalties[0];
    p.columns[1].hidden = 4;
    nodes_refuse_penalty(&p, penalty, at, "high.weight_ih_l0");
    nodes_refuse_penalty(&p, penalty, at, "low.weight_ih_l0");
    penalty.kind = MTL_PENALTY_ANCHOR;
    nodes_refuse_penalty(&p, penalty, at, "must name a, and no b");
    penalty.kind = MTL_PENALTY_ORTHOGONAL;
    penalty.b = "class";
    nodes_refuse_penalty(&p, penalty, at, "a row a step");
    penalty.b = "low+high";
    nodes_refuse_penalty(&p, penalty, at, "one part each");
    penalty.b = "number.probabilities";
    nodes_refuse_penalty(&p, penalty, at, "\"number\" has none");
    penalty.b = "class";
    penalty.name = "low";
    nodes_refuse_penalty(&p, penalty, "low", "used twice");
    penalty.name = NULL;
    nodes_refuse_penalty(&p, penalty, at, "name is missing");
    p.desc.penalties = NULL;
    {
        mtl_error err = {0};
        assert_null(mtl_model_create(&p.desc, &err));
        test_expect_error(&err, MTL_ERROR_FIELD, "penalties", "NULL");
    }
    test_problem_destroy(&p);
}

#define TEST_NODES \
    cmocka_unit_test(test_nodes_gradients), cmocka_unit_test(test_nodes_values), \
    cmocka_unit_test(test_nodes_initial_values), cmocka_unit_test(test_nodes_heads_as_sources), \
    cmocka_unit_test(test_nodes_stopped), cmocka_unit_test(test_nodes_stopped_learns_nothing), \
    cmocka_unit_test(test_nodes_reversal), cmocka_unit_test(test_nodes_exact_sizes), \
    cmocka_unit_test(test_nodes_same_bits_for_threads), cmocka_unit_test(test_nodes_every_isa), \
    cmocka_unit_test(test_nodes_files), cmocka_unit_test(test_nodes_order), \
    cmocka_unit_test(test_nodes_wrong_mixes), cmocka_unit_test(test_nodes_penalty_gradients), \
    cmocka_unit_test(test_nodes_penalty_values), cmocka_unit_test(test_nodes_penalty_orthogonal), \
    cmocka_unit_test(test_nodes_penalty_threads_and_files), cmocka_unit_test(test_nodes_penalty_connects), \
    cmocka_unit_test(test_nodes_penalty_refuses)
