/* >>sharing: every preset, over every cell: gradients, threads, files, exact sizes; the control, whose tasks
   do not know of one another; presets that cannot be. Included by tests/main.c. */

/* Two inputs, four tasks: classes and numbers, of steps and of sequences. */
typedef struct sharing_plain {
    mtl_input_desc inputs[2];
    mtl_task_desc tasks[4];
    mtl_model_desc desc;
    mtl_share_desc how;
    mtl_model_desc shared;
    mtl_arena arena;
} sharing_plain;

static void sharing_fill(sharing_plain *p, int share, int variant)
{
    memset(p, 0, sizeof *p);
    mtl_arena_init(&p->arena, NULL, 0, NULL);
    p->inputs[0].name = "words";
    p->inputs[0].vocabulary = 7;
    p->inputs[0].width = 3;
    p->inputs[1].name = "numbers";
    p->inputs[1].features = 2;
    p->tasks[0].name = "tags";
    p->tasks[0].classes = 3;
    p->tasks[0].level = MTL_LEVEL_STEP;
    p->tasks[1].name = "intent";
    p->tasks[1].classes = 4;
    p->tasks[1].weight = 0.7f;
    p->tasks[1].pool = MTL_POOL_MEAN;
    p->tasks[2].name = "mood";
    p->tasks[2].kind = MTL_TASK_REAL;
    p->tasks[2].width = 2;
    p->tasks[3].name = "speed";
    p->tasks[3].kind = MTL_TASK_REAL;
    p->tasks[3].level = MTL_LEVEL_STEP;
    p->desc.inputs = p->inputs;
    p->desc.input_count = variant % 2 ? 2 : 1;
    p->desc.tasks = p->tasks;
    p->desc.task_count = variant % 3 ? 4 : 2;
    p->desc.encoder.cell = MTL_CELL_RNN + variant % 3;
    p->desc.encoder.hidden = 5;
    p->desc.encoder.layers = 1 + variant % 2;
    p->desc.encoder.bidirectional = variant / 2 % 2;
    p->desc.encoder.dropout = variant % 4 == 3 ? 0.2f : 0;
    p->how.kind = share;
    p->how.own_hidden = 4;
    p->how.hidden = 6;
    p->how.experts = 2;
    p->how.own_experts = 1 + variant % 2;
    p->how.per_sequence = variant / 2 % 2;
    p->how.above = variant % 2;
    p->how.distributions = 1;
    p->how.tie = 0.1f;
    p->how.orthogonal = 10;
    p->how.adversary = 0.5f;
    p->how.sets = 3;
    p->how.attention = variant % 3 == 1;
    p->desc.encoder.heads = 2;
    p->desc.encoder.head_width = 3;
    p->desc.encoder.norm_epsilon = 0.05f;
    if (share == MTL_SHARE_HIERARCHICAL && variant % 2)
        p->how.order = p->desc.task_count == 2 ? "intent/tags" : "tags+speed/mood/intent";
}

static mtl_model *sharing_model(sharing_plain *p, int share, int variant)
{
    mtl_error err;
    mtl_model *model;
    mtl_error_clear(&err);
    sharing_fill(p, share, variant);
    mtl_share(&p->how, &p->desc, &p->shared, &p->arena, &err);
    TEST_FINE(&err);
    model = mtl_model_create(&p->shared, &err);
    TEST_FINE(&err);
    return model;
}

static test_batch *sharing_batch(const sharing_plain *p, int number)
{
    test_batch *b = test_batch_create(&p->desc, NULL, 4 + number % 3, 6, 0.3, (unsigned long long)number);
    b->batch.set = number % 3;
    return b;
}

static int sharing_last(void)
{
    size_t count;
    const mtl_field *f = mtl_fields(MTL_DESC_SHARE, &count);
    while (strcmp(f->name, "kind") != 0) f++;
    return (int)f->high;
}

/* A model's loss as what lies below a reversal of the task `origin` sees it: that task's part with the other
   sign. */
typedef struct sharing_probe { model_probe of; int below; double weight; } sharing_probe;

static double sharing_probe_loss(void *user)
{
    sharing_probe *s = (sharing_probe *)user;
    const int origin = mtl_model_task(s->of.model, "origin");
    mtl_step step;
    mtl_model_prepare(s->of.model, &s->of.err);
    mtl_train_gradients(s->of.trainer, s->of.batches, 1, &step, &s->of.err);
    TEST_FINE(&s->of.err);
    assert_true(origin >= 0 && step.task_items[origin] == s->of.batches->sequences);
    /* the checker takes a loss's rounding from its size: nothing may cancel */
    return step.loss + (s->below ? 2 * s->weight * (10 - step.task_loss[origin]) : 0);
}

static void sharing_check_reversed(mtl_model *model, const mtl_batch *batch, double weight, const char *what)
{
    const mtl_parameters *set = mtl_model_parameters(model);
    mtl_error err;
    mtl_trainer *trainer;
    size_t i;
    int below;
    mtl_error_clear(&err);
    trainer = mtl_trainer_create(model, NULL, &err);
    TEST_FINE(&err);
    model_enlarge(model, 2);
    for (below = 0; below < 2; below++) {
        sharing_probe s;
        probe p;
        memset(&s, 0, sizeof s);
        s.of.model = model;
        s.of.trainer = trainer;
        s.of.batches = batch;
        s.below = below;
        s.weight = weight;
        sharing_probe_loss(&s);
        probe_open(&p, set->count, sharing_probe_loss, &s, 17);
        for (i = 0; i < set->count; i++)
            if (below == (strncmp(set->tensors[i]->name, "words", 5) == 0
                          || strncmp(set->tensors[i]->name, "shared", 6) == 0))
                (void)probe_add_tensor(&p, mtl_trainer_gradients(trainer), set->tensors[i]);
        assert_true(p.count > 2 - (size_t)below);
        probe_check(&p, what);
    }
    mtl_trainer_destroy(trainer);
}

static void test_sharing_gradients(void **state)
{
    int share, variant;
    (void)state;
    for (share = MTL_SHARE_FULL; share <= sharing_last(); share++)
        for (variant = 0; variant < test_cases(20); variant++) {
            sharing_plain p;
            char what[48];
            mtl_model *model = sharing_model(&p, share, variant);
            test_batch *b = sharing_batch(&p, variant);
            snprintf(what, sizeof what, "preset %d, variant %d", share, variant);
            if (share == MTL_SHARE_ADVERSARIAL)
                sharing_check_reversed(model, &b->batch, (double)p.how.adversary, what);
            else model_check(model, NULL, &b->batch, 1, 0, what);
            test_batch_destroy(b);
            mtl_model_destroy(model);
            mtl_arena_destroy(&p.arena);
        }
}

static void sharing_expect_round_trip(mtl_model *model)
{
    test_file file;
    mtl_writer writer = test_file_writer(&file);
    mtl_model *loaded;
    mtl_error err;
    mtl_error_clear(&err);
    memset(&file, 0, sizeof file);
    mtl_model_write(model, NULL, &writer, &err);
    loaded = mtl_model_load_memory(file.bytes, file.used, &err);
    TEST_FINE(&err);
    model_expect_same(model, loaded);
    mtl_model_destroy(loaded);
    free(file.bytes);
}

/* The same bits for any number of threads, and a file that answers as the model does. */
static void test_sharing_threads_and_files(void **state)
{
    int share, threads;
    (void)state;
    for (share = MTL_SHARE_FULL; share <= sharing_last(); share++) {
        mtl_real *one = NULL;
        size_t bytes = 0;
        for (threads = 1; threads <= 3; threads++) {
            sharing_plain p;
            mtl_model *model = sharing_model(&p, share, 7);
            test_batch *b = sharing_batch(&p, 3);
            mtl_real *weights = test_train_three(model, &b->batch, threads);
            bytes = mtl_model_parameters(model)->total * sizeof *weights;
            if (one) assert_memory_equal(one, weights, bytes);
            if (threads == 3) sharing_expect_round_trip(model);
            if (one) free(weights);
            else one = weights;
            test_batch_destroy(b);
            mtl_model_destroy(model);
            mtl_arena_destroy(&p.arena);
        }
        free(one);
    }
}

/* With `none`, a task learns the same whether another one has labels or not. */
static void test_sharing_none_keeps_apart(void **state)
{
    mtl_real *weights[2];
    int i;
    size_t k, compared = 0;
    (void)state;
    for (i = 0; i < 2; i++) {
        sharing_plain p;
        mtl_model *model = sharing_model(&p, MTL_SHARE_NONE, 3);
        test_batch *b = sharing_batch(&p, 3);
        mtl_target targets[4];
        memcpy(targets, b->batch.targets, sizeof targets);
        if (i) memset(&targets[1], 0, sizeof targets[1]);           /* intent has no labels */
        b->batch.targets = targets;
        weights[i] = test_train_three(model, &b->batch, 1);
        for (k = 0; i && k < mtl_model_parameters(model)->count; k++) {
            const mtl_tensor *t = mtl_model_parameters(model)->tensors[k];
            int of_intent = strncmp(t->name, "intent", 6) == 0;
            if (of_intent) continue;
            compared++;
            assert_memory_equal(weights[0] + t->offset, weights[1] + t->offset, t->count * sizeof(mtl_real));
        }
        test_batch_destroy(b);
        mtl_model_destroy(model);
        mtl_arena_destroy(&p.arena);
    }
    assert_true(compared > 10);
    free(weights[0]);
    free(weights[1]);
}

/* ---- stack: steps vote -------------------------------------------------------------------------------- */

/* The tags read what the steps say of the intent; under `stopped` with these held fixed. */
static void test_sharing_stack_stopped(void **state)
{
    int variant;
    (void)state;
    for (variant = 0; variant < test_cases(12); variant += 3) {
        sharing_plain p;
        test_problem problem;
        mtl_task_desc *tags;
        mtl_model *model = sharing_model(&p, MTL_SHARE_STACK, variant);
        test_batch *b = sharing_batch(&p, variant);
        char stop[32];
        mtl_model_destroy(model);
        memset(&problem, 0, sizeof problem);
        problem.desc = p.shared;
        problem.batch = &b->batch;
        tags = (mtl_task_desc *)(uintptr_t)&p.shared.tasks[0];
        assert_string_equal(tags->tap.from, "encoder+intent.probabilities");
        snprintf(stop, sizeof stop, "intent.probabilities");
        nodes_check_stopped(&problem, &tags->tap, 2, stop, "stacked, stopped");
        test_batch_destroy(b);
        mtl_arena_destroy(&p.arena);
        sharing_fill(&p, MTL_SHARE_STACK, variant);
        p.how.stopped = 1;
        {
            mtl_error err;
            mtl_error_clear(&err);
            mtl_share(&p.how, &p.desc, &p.shared, &p.arena, &err);
            TEST_FINE(&err);
            assert_string_equal(p.shared.tasks[0].tap.stop, "intent.probabilities");
        }
        mtl_arena_destroy(&p.arena);
    }
}

/* What the steps say, row by row, in the caller's order of sequences. */
typedef struct sharing_votes { double sum[16][4]; } sharing_votes;

static void sharing_add_votes(void *user, const mtl_run *run, const mtl_activation *a)
{
    sharing_votes *votes = (sharing_votes *)user;
    size_t n, j;
    if (strcmp(a->name, "intent.probabilities") != 0) return;
    assert_int_equal(a->rows, run->packing->rows);
    for (n = 0; n < a->rows; n++)
        for (j = 0; j < a->width; j++)
            votes->sum[run->packing->caller_sequence[n]][j] += (double)a->value[n * a->stride + j];
}

/* The answer for a sequence is the mean of its steps' distributions; the loss counts steps. */
static void test_sharing_stack_votes(void **state)
{
    sharing_plain p;
    mtl_error err;
    mtl_model *model = sharing_model(&p, MTL_SHARE_STACK, 1);
    test_batch *b = sharing_batch(&p, 2);
    mtl_predictor *predictor;
    mtl_trainer *trainer;
    mtl_prediction out[4];
    sharing_votes votes;
    mtl_step step;
    size_t s, j, items = 0;
    (void)state;
    mtl_error_clear(&err);
    memset(&votes, 0, sizeof votes);
    predictor = mtl_predictor_create(model, NULL, &err);
    mtl_predictor_observe(predictor, sharing_add_votes, &votes);
    mtl_predict(predictor, &b->batch, out, &err);
    trainer = mtl_trainer_create(model, NULL, &err);
    mtl_train_gradients(trainer, &b->batch, 1, &step, &err);
    TEST_FINE(&err);
    assert_int_equal(out[1].items, b->batch.sequences);
    assert_int_equal(out[1].width, 4);
    for (s = 0; s < b->batch.sequences; s++) {
        size_t best = 0;
        for (j = 0; j < 4; j++) {
            const double mean = votes.sum[s][j] / (double)b->lengths[s];
            if (votes.sum[s][j] > votes.sum[s][best]) best = j;
            assert_true(fabs(mean - (double)out[1].probabilities[s * 4 + j]) < 1e-6);
        }
        assert_int_equal(out[1].labels[s], best);
        if (b->targets[1].labels[s] >= 0) items += (size_t)b->lengths[s];
    }
    assert_int_equal(step.task_items[1], items);
    mtl_trainer_destroy(trainer);
    mtl_predictor_destroy(predictor);
    test_batch_destroy(b);
    mtl_model_destroy(model);
    mtl_arena_destroy(&p.arena);
}

/* ---- adversarial: which data set a batch comes from ---------------------------------------------------- */

static int sharing_score_is_apart(void *user, const mtl_progress *progress)
{
    const mtl_scores *scores = progress->scores;
    const size_t origin = progress->scores ? scores->task_count - 1 : 0;
    double sum = 0, counted = 0;
    size_t k;
    if (!scores) return 0;
    for (k = 0; k < scores->task_count; k++)
        if (scores->tasks[k].items) sum += scores->tasks[k].score, counted++;
    assert_int_equal(scores->tasks[origin].items, 0);
    assert_true(fabs(scores->score - sum / counted) < 1e-12);
    ++*(int *)user;
    return 0;
}

/* mtl_fit numbers the data sets, wants two of them, and scores without the task that tells them apart. */
static void test_sharing_adversarial_fit(void **state)
{
    sharing_plain p;
    mtl_error err;
    mtl_model *model = sharing_model(&p, MTL_SHARE_ADVERSARIAL, 1);
    test_batch *sets[2];
    mtl_batch train[2];
    mtl_fit_desc how;
    mtl_trainer *trainer;
    int told = 0;
    (void)state;
    mtl_error_clear(&err);
    memset(&how, 0, sizeof how);
    sets[0] = sharing_batch(&p, 3);
    sets[1] = sharing_batch(&p, 4);
    train[0] = sets[0]->batch;
    train[1] = sets[1]->batch;
    how.epochs = 2;
    how.progress = sharing_score_is_apart;
    how.user = &told;
    trainer = mtl_trainer_create(model, NULL, &err);
    mtl_fit(trainer, train, 2, train, 2, &how, NULL, &err);
    TEST_FINE(&err);
    assert_int_equal(told, 2);
    mtl_fit(trainer, train, 1, NULL, 0, &how, NULL, &err);
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "origin", "was given 1");
    mtl_error_clear(&err);
    how.score = "origin";
    mtl_fit(trainer, train, 2, NULL, 0, &how, NULL, &err);
    test_expect_error(&err, MTL_ERROR_FIELD, "fit.score", "never scored");
    mtl_error_clear(&err);
    train[0].set = 3;
    mtl_train_step(trainer, train, 1, NULL, &err);
    test_expect_error(&err, MTL_ERROR_RANGE, "origin", "label 3");
    mtl_trainer_destroy(trainer);
    test_batch_destroy(sets[0]);
    test_batch_destroy(sets[1]);
    mtl_model_destroy(model);
    mtl_arena_destroy(&p.arena);
}

static void sharing_refuse(sharing_plain *p, const char *name, const char *part)
{
    mtl_error err;
    mtl_error_clear(&err);
    assert_int_equal(mtl_share(&p->how, &p->desc, &p->shared, &p->arena, &err), MTL_ERROR_FIELD);
    test_expect_error(&err, MTL_ERROR_FIELD, name, part);
    mtl_arena_destroy(&p->arena);
}

static void test_sharing_refuses(void **state)
{
    sharing_plain p;
    mtl_column_desc column;
    (void)state;
    sharing_fill(&p, MTL_SHARE_PARTIAL, 1);
    p.desc.task_count = 1;
    sharing_refuse(&p, "share", "one task");
    sharing_fill(&p, MTL_SHARE_GATED, 1);
    p.tasks[1].tap.from = "words";
    sharing_refuse(&p, "share", "intent has one");
    sharing_fill(&p, MTL_SHARE_MMOE, 1);
    memset(&column, 0, sizeof column);
    p.desc.columns = &column;
    p.desc.column_count = 1;
    sharing_refuse(&p, "share", "has columns");
    sharing_fill(&p, MTL_SHARE_HIERARCHICAL, 1);
    p.how.order = "tags/intent+mood";
    sharing_refuse(&p, "share.order", "leaves out task speed");
    sharing_fill(&p, MTL_SHARE_MMOE, 1);
    p.how.experts = -1;
    sharing_refuse(&p, "share.experts", "between 1");
    sharing_fill(&p, MTL_SHARE_ADVERSARIAL, 1);
    p.how.sets = 1;
    sharing_refuse(&p, "share.sets", "share.sets is 1");
    sharing_fill(&p, MTL_SHARE_STACK, 1);
    p.desc.tasks = &p.tasks[2];
    p.desc.task_count = 2;
    sharing_refuse(&p, "share", "stacked");
}

/* Tasks read self-attention over what they would read, which tasks share where they shared the column. */
static void test_sharing_attention(void **state)
{
    static const char *const columns[] = { "shared", "tags-own", "intent-own", "shared-self", "tags-own-self",
                                           "intent-own-self" };
    sharing_plain p;
    mtl_error err = {0};
    size_t i;
    (void)state;
    sharing_fill(&p, MTL_SHARE_PARTIAL, 0);
    p.how.above = 0;
    p.how.attention = 2;
    p.how.attention_dropout = 0.2f;
    mtl_share(&p.how, &p.desc, &p.shared, &p.arena, &err);
    TEST_FINE(&err);
    assert_int_equal(p.shared.column_count, 6);
    for (i = 0; i < 6; i++) assert_string_equal(p.shared.columns[i].name, columns[i]);
    assert_string_equal(p.shared.tasks[0].tap.from, "shared-self+tags-own-self");
    assert_string_equal(p.shared.tasks[1].tap.from, "shared-self+intent-own-self");
    assert_int_equal(p.shared.columns[3].kind, MTL_COLUMN_ATTENTION);
    assert_string_equal(p.shared.columns[5].input.from, "intent-own");
    assert_int_equal(p.shared.columns[3].layers, 2);
    assert_int_equal(p.shared.columns[3].head_width, 3);
    assert_true(p.shared.columns[3].dropout == 0.2f);
    mtl_arena_destroy(&p.arena);
}

#define TEST_SHARING \
    cmocka_unit_test(test_sharing_attention), \
    cmocka_unit_test(test_sharing_gradients), cmocka_unit_test(test_sharing_threads_and_files), \
    cmocka_unit_test(test_sharing_none_keeps_apart), cmocka_unit_test(test_sharing_refuses), \
    cmocka_unit_test(test_sharing_stack_stopped), cmocka_unit_test(test_sharing_stack_votes), \
    cmocka_unit_test(test_sharing_adversarial_fit)
