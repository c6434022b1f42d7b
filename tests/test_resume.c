/* Section 29: a run of mtl_fit that is interrupted, saved and resumed in a new model and a new trainer ends
   with the same bits as one that never was. */

enum { RESUME_SETS = 3 };

/* What a run is made of. Data sets: one with all labels, one with sequences' labels only, one with steps'. */
typedef struct resume_setup {
    test_problem p;
    test_batch *more[RESUME_SETS], *held;
    mtl_target targets[RESUME_SETS][TEST_TASKS_COUNT];
    mtl_batch sets[RESUME_SETS];
    size_t count, valid;
    float weights[RESUME_SETS];
    mtl_trainer_desc training;
    mtl_fit_desc fit;
    mtl_error err;
} resume_setup;

/* One process of it. */
typedef struct resume_run {
    size_t stop, stop_epoch, told, saved;   /* after so many updates, or at the end of that epoch; 0: never */
    float lr;                               /* set after 3 updates of all, with a task's weight; 0: not */
    mtl_trainer *trainer;
    test_file file;
    mtl_fit_result result;
    mtl_real *state;                        /* train_state_copy */
    size_t best_epoch[TEST_TASKS_COUNT];    /* of each task */
    double best_score[TEST_TASKS_COUNT];
} resume_run;

static int resume_progress(void *user, const mtl_progress *p)
{
    resume_run *r = (resume_run *)user;
    mtl_error err = {0};
    if (p->epoch_end) return r->stop_epoch == p->epoch;
    if (r->lr > 0 && p->step->step == 3) {
        mtl_trainer_set_lr(r->trainer, r->lr);
        mtl_trainer_set_weight(r->trainer, TEST_TAGS, 0.25f, &err);
    }
    return ++r->told == r->stop;
}

static void resume_checkpoint(void *user, const mtl_checkpoint *at, mtl_error *err)
{
    resume_run *r = (resume_run *)user;
    mtl_writer writer = test_file_writer(&r->file);
    r->file.used = 0;
    r->saved++;
    mtl_checkpoint_write(at, &writer, err);
}

/* A run from the start, or from a file. */
static void resume_go(resume_setup *s, resume_run *r, const test_file *from)
{
    mtl_fit_desc fit = s->fit;
    mtl_safetensors file;
    mtl_model *model = from ? mtl_model_load_memory(from->bytes, from->used, &s->err)
                            : mtl_model_create(&s->p.desc, &s->err);
    r->trainer = mtl_trainer_create(model, &s->training, &s->err);
    fit.progress = resume_progress;
    fit.checkpoint = resume_checkpoint;
    fit.user = r;
    if (from) {
        mtl_safetensors_open_memory(&file, from->bytes, from->used, &s->err);
        TEST_FINE(&s->err);
        mtl_trainer_resume(r->trainer, &file, &s->err);
        fit.resume = &file;
    }
    mtl_fit(r->trainer, s->sets, s->count, &s->held->batch, s->valid, &fit, &r->result, &s->err);
    if (from) mtl_safetensors_close(&file);
    TEST_FINE(&s->err);
    r->state = train_state_copy(r->trainer);
    memcpy(r->best_epoch, r->result.task_best_epoch, sizeof r->best_epoch);
    memcpy(r->best_score, r->result.task_best_score, sizeof r->best_score);
    mtl_trainer_destroy(r->trainer);
    mtl_model_destroy(model);
}

static void resume_free(resume_run *r)
{
    free(r->state);
    free(r->file.bytes);
    memset(r, 0, sizeof *r);
}

static void resume_open(resume_setup *s, const test_shape *shape)
{
    size_t i, k;
    memset(s, 0, sizeof *s);
    test_problem_create(&s->p, shape);
    s->held = test_batch_create(&s->p.desc, NULL, 9, 6, 0.2, 5);
    for (i = 0; i < RESUME_SETS; i++) {
        s->more[i] = test_batch_create(&s->p.desc, NULL, 13 - 4 * (int)i, 7, 0.3, 70 + i);
        s->sets[i] = s->more[i]->batch;
        s->sets[i].targets = s->targets[i];
        for (k = 0; k < TEST_TASKS_COUNT; k++)
            if (i == 0 || (s->p.tasks[k].level == MTL_LEVEL_STEP) == (i == 2))
                s->targets[i][k] = s->more[i]->targets[k];
    }
    s->count = RESUME_SETS;
    s->valid = 1;
    s->fit.epochs = 4;
    s->fit.batch = 3;
    s->fit.bucket = 2;
    s->training.lr = 0.02f;
}

static void resume_close(resume_setup *s)
{
    size_t i;
    for (i = 0; i < RESUME_SETS; i++) test_batch_destroy(s->more[i]);
    test_batch_destroy(s->held);
    test_problem_destroy(&s->p);
}

static void resume_expect_same(const resume_setup *s, const resume_run *got, const resume_run *want,
                               const char *what, int number)
{
    mtl_error err = {0};
    mtl_model *model = mtl_model_create(&s->p.desc, &err);
    const size_t total = 3 * mtl_model_parameters(model)->total;
    TEST_FINE(&err);
    mtl_model_destroy(model);
    if (memcmp(got->state, want->state, total * sizeof *want->state))
        fail_msg("%s %d: not the same weights and moments", what, number);
    assert_int_equal(got->result.updates, want->result.updates);
    assert_int_equal(got->result.epochs, want->result.epochs);
    assert_int_equal(got->result.best_epoch, want->result.best_epoch);
    assert_true(got->result.best_score == want->result.best_score);
    assert_memory_equal(got->best_epoch, want->best_epoch, sizeof want->best_epoch);
    assert_memory_equal(got->best_score, want->best_score, sizeof want->best_score);
    assert_true(got->result.last_loss == want->result.last_loss);
}

/* Interrupted twice: after `first` updates, then `second` further ones (`by_epoch`: at that epoch's end). */
static void resume_expect(resume_setup *s, size_t first, size_t second, int by_epoch, int threads,
                          const char *what, int number)
{
    resume_run whole, begun, middle, rest;
    memset(&whole, 0, sizeof whole), memset(&begun, 0, sizeof begun);
    memset(&middle, 0, sizeof middle), memset(&rest, 0, sizeof rest);
    whole.lr = begun.lr = middle.lr = rest.lr = number % 3 ? 0 : 0.01f;
    resume_go(s, &whole, NULL);
    assert_int_equal(whole.saved, 0);
    begun.stop = first;
    resume_go(s, &begun, NULL);
    assert_int_equal(begun.saved, 1);
    assert_int_equal(begun.result.updates, first);
    s->training.threads = threads;
    if (by_epoch) middle.stop_epoch = begun.result.epochs;
    else middle.stop = second;
    resume_go(s, &middle, &begun.file);
    if (middle.saved) resume_go(s, &rest, &middle.file);
    resume_expect_same(s, middle.saved ? &rest : &middle, &whole, what, number);
    resume_free(&whole), resume_free(&begun), resume_free(&middle), resume_free(&rest);
}

/* Every rule of updates, half of them with an average, under every schedule, on one to three data sets under
   every sampler, interrupted anywhere. */
static void test_resume_fit(void **state)
{
    const size_t rules = sizeof optimise_rules / sizeof *optimise_rules;
    const int cases = test_quick() ? 28 : 84;
    test_random r = test_random_from(11);
    int number;
    (void)state;
    for (number = 0; number < cases; number++) {
        const struct optimise_rule *rule = &optimise_rules[(size_t)number % rules];
        test_shape shape = {0};
        resume_setup s;
        shape.dropout = number % 3 == 1 ? 0 : 0.3;
        shape.cell = 1 + number % 3;
        shape.bidirectional = number % 2;
        resume_open(&s, &shape);
        optimise_fill_desc(&s.training, rule);
        s.training.lr = 0.02f;
        s.training.average = number / 14 % 2 ? 0.9f : 0;
        s.training.schedule = 1 + number % 7;
        s.training.schedule_every = 3;
        s.training.plateau_patience = 1;
        s.training.warmup = number % 5 == 4 ? 4 : 0;
        s.training.clip_norm = number % 4 ? 0 : 1;
        s.fit.sampler = 1 + number % 6;
        s.fit.accumulate = 1 + number % 4 / 2;
        s.fit.curriculum = number % 5 == 3 ? MTL_CURRICULUM_LENGTH : 0;
        s.fit.patience = number % 6 == 5 ? 1 : 0;
        s.fit.task_patience = number % 5 == 4 ? 1 : 0;
        s.fit.keep = number % 4 / 2 ? MTL_KEEP_PARTS : 0;
        s.count = 1 + (size_t)number % RESUME_SETS;
        s.valid = number % 7 != 6;
        s.weights[0] = 0.5f, s.weights[1] = 2, s.weights[2] = 1.5f;
        if (number % 4 == 1) s.fit.sampler_weights = s.weights;
        resume_expect(&s, (size_t)test_random_between(&r, 1, 4), (size_t)test_random_between(&r, 1, 9),
                      number % 4 == 0, 1 + number % 3, rule->name, number);
        resume_close(&s);
    }
}

/* Epochs without gain are counted over an interruption; so are updates of an average whose rows have moments
   that went to zero. */
static void test_resume_counts(void **state)
{
    const test_shape shape = {0};
    resume_setup s;
    (void)state;
    resume_open(&s, &shape);
    s.count = 1;                            /* of 5 updates an epoch */
    s.training.lr = 1e-30f;
    s.fit.patience = 2;
    resume_expect(&s, 12, 1, 0, 1, "patience", 1);
    s.fit.patience = 0;
    s.training.optimizer = MTL_OPTIMIZER_SGD;
    s.training.lr = 0.1f;
    s.training.momentum = 1e-30f;
    s.training.average = 0.9f;
    s.valid = 0;                            /* the average is the result */
    resume_expect(&s, 8, 5, 0, 1, "moments of zero", 1);
    resume_close(&s);
}

/* Saving again and again, as against never, changes no bit; nor does an interrupted run's evaluation. */
static void test_resume_checkpoints_change_nothing(void **state)
{
    int number;
    (void)state;
    for (number = 0; number < 6; number++) {
        const test_shape shape = {0};
        resume_setup s;
        resume_run plain, often, rest;
        memset(&plain, 0, sizeof plain), memset(&often, 0, sizeof often), memset(&rest, 0, sizeof rest);
        resume_open(&s, &shape);
        s.training.lazy = number % 2;
        s.training.average = number / 2 ? 0.8f : 0;
        s.training.optimizer = number / 4 ? MTL_OPTIMIZER_SGD : MTL_OPTIMIZER_ADAM;
        s.training.momentum = number / 4 ? 0.9f : 0;
        resume_go(&s, &plain, NULL);
        s.fit.checkpoint_every = 1 + number % 3;
        resume_go(&s, &often, NULL);
        assert_int_equal(often.saved, often.result.updates / (size_t)s.fit.checkpoint_every);
        resume_expect_same(&s, &often, &plain, "checkpoints", number);
        resume_go(&s, &rest, &often.file);                  /* the last one: at or near the end */
        resume_expect_same(&s, &rest, &plain, "the last checkpoint", number);
        resume_free(&plain), resume_free(&often), resume_free(&rest);
        resume_close(&s);
    }
}

/* A trainer that was not resumed, files that are no checkpoint, other data sets, an error of the callback. */
static void resume_fails(void *user, const mtl_checkpoint *at, mtl_error *err)
{
    (void)user, (void)at;
    mtl__fail(err, MTL_ERROR_IO, "disk", -1, "the disk is full");
}

static void test_resume_refuses(void **state)
{
    const test_shape shape = {0};
    resume_setup s;
    resume_run begun, rest;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_safetensors file;
    mtl_fit_desc fit;
    (void)state;
    memset(&begun, 0, sizeof begun), memset(&rest, 0, sizeof rest);
    resume_open(&s, &shape);
    begun.stop = 5;
    resume_go(&s, &begun, NULL);
    mtl_safetensors_open_memory(&file, begun.file.bytes, begun.file.used, &s.err);
    model = mtl_model_load_memory(begun.file.bytes, begun.file.used, &s.err);
    trainer = mtl_trainer_create(model, &s.training, &s.err);
    TEST_FINE(&s.err);
    fit = s.fit;
    fit.resume = &file;
    mtl_fit(trainer, s.sets, 3, &s.held->batch, 1, &fit, NULL, &s.err);
    test_expect_error(&s.err, MTL_ERROR_TENSOR, "fit.counts", "0 updates, that of the checkpoint 5");
    mtl_trainer_resume(trainer, &file, &s.err);
    mtl_fit(trainer, s.sets, 2, &s.held->batch, 1, &fit, NULL, &s.err);
    test_expect_error(&s.err, MTL_ERROR_TENSOR, "fit.train", "made with 3 data sets, and 2 are given");
    mtl_fit(trainer, s.sets, 3, NULL, 0, &fit, NULL, &s.err);
    test_expect_error(&s.err, MTL_ERROR_TENSOR, "fit.valid", "made with 1 data sets, and 0 are given");
    s.sets[1] = s.sets[2];
    mtl_fit(trainer, s.sets, 3, &s.held->batch, 1, &fit, NULL, &s.err);
    test_expect_error(&s.err, MTL_ERROR_TENSOR, "fit.train", "data set 1 has 5 sequences");
    fit.resume_changed = 1;
    mtl_fit(trainer, s.sets, 3, &s.held->batch, 1, &fit, NULL, &s.err);
    TEST_FINE(&s.err);
    mtl_safetensors_close(&file);

    begun.file.used = 0;                    /* a trainer's file is no run's */
    {
        mtl_writer writer = test_file_writer(&begun.file);
        mtl_model_write(model, trainer, &writer, &s.err);
    }
    mtl_safetensors_open_memory(&file, begun.file.bytes, begun.file.used, &s.err);
    TEST_FINE(&s.err);
    mtl_fit(trainer, s.sets, 3, &s.held->batch, 1, &fit, NULL, &s.err);
    test_expect_error(&s.err, MTL_ERROR_TENSOR, "fit.counts", "no checkpoint of mtl_fit");
    mtl_safetensors_close(&file);
    fit.resume = NULL;
    fit.checkpoint = resume_fails;
    fit.checkpoint_every = 2;
    mtl_fit(trainer, s.sets, 3, &s.held->batch, 1, &fit, NULL, &s.err);
    test_expect_error(&s.err, MTL_ERROR_IO, "disk", "full");
    mtl_checkpoint_save(NULL, test_path("none"), &s.err);
    test_expect_error(&s.err, MTL_ERROR_ARGUMENT, "model", "NULL");
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    resume_free(&begun);
    resume_close(&s);
}

/* Bytes of a checkpoint's numbers, changed at random, end in an error or in a run; never in a crash. */
static void test_resume_hostile(void **state)
{
    const test_shape shape = {0};
    const double strange[] = { -1, 0.5, 1e9, 1e18, 1e300, -1e300 };
    const int cases = test_quick() ? 60 : 400;
    test_random r = test_random_from(3);
    resume_setup s;
    resume_run begun;
    int number;
    (void)state;
    memset(&begun, 0, sizeof begun);
    resume_open(&s, &shape);
    s.fit.epochs = 2;
    begun.stop = 14;                        /* in the second epoch: there is a best one */
    resume_go(&s, &begun, NULL);
    for (number = 0; number < cases; number++) {
        static const char *const names[] = { "fit.counts", "fit.losses", "fit.train", "fit.valid",
                                             "optimizer.counts", "optimizer.weights" };
        unsigned char *copy = (unsigned char *)malloc(begun.file.used);
        const mtl_safetensor *t;
        mtl_fit_desc fit = s.fit;
        mtl_safetensors file;
        mtl_model *model;
        mtl_trainer *trainer;
        mtl_error err = {0};
        size_t at;
        assert_non_null(copy);
        memcpy(copy, begun.file.bytes, begun.file.used);
        mtl_safetensors_open_memory(&file, copy, begun.file.used, &err);
        t = mtl_safetensors_find(&file, names[number % 6]);
        assert_non_null(t);
        at = (size_t)((const unsigned char *)t->data - copy);
        memcpy(copy + at + 8 * (size_t)test_random_between(&r, 0, (int)t->count - 1),
               &strange[test_random_between(&r, 0, 5)], 8);
        model = mtl_model_load_memory(copy, begun.file.used, &err);
        trainer = mtl_trainer_create(model, &s.training, &err);
        TEST_FINE(&err);
        mtl_trainer_resume(trainer, &file, &err);
        fit.resume = &file;
        fit.resume_changed = number % 2;
        mtl_fit(trainer, s.sets, 3, &s.held->batch, 1, &fit, NULL, &err);
        mtl_safetensors_close(&file);
        mtl_trainer_destroy(trainer);
        mtl_model_destroy(model);
        free(copy);
    }
    resume_free(&begun);
    resume_close(&s);
}

/* Every allocation of a run that is saved and resumed may fail. */
typedef struct resume_failing { resume_setup *s; const test_file *from; test_file to; } resume_failing;

static void resume_fail_write(void *user, const mtl_checkpoint *at, mtl_error *err)
{
    resume_failing *f = (resume_failing *)user;
    mtl_writer writer = test_file_writer(&f->to);
    f->to.used = 0;
    mtl_checkpoint_write(at, &writer, err);
}

static void resume_fail_go(void *user, mtl_error *err)
{
    resume_failing *f = (resume_failing *)user;
    mtl_fit_desc fit = f->s->fit;
    mtl_safetensors file;
    mtl_model *model = mtl_model_load_memory(f->from->bytes, f->from->used, err);
    mtl_trainer *trainer = mtl_trainer_create(model, &f->s->training, err);
    if (!mtl_safetensors_open_memory(&file, f->from->bytes, f->from->used, err)) {
        mtl_trainer_resume(trainer, &file, err);
        fit.resume = &file;
        fit.checkpoint = resume_fail_write;
        fit.checkpoint_every = 1;
        fit.user = f;
        mtl_fit(trainer, f->s->sets, 3, &f->s->held->batch, 1, &fit, NULL, err);
        mtl_safetensors_close(&file);
    }
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
}

static void test_resume_allocations_fail(void **state)
{
    const test_shape shape = {0};
    resume_setup s;
    resume_run begun;
    resume_failing f;
    (void)state;
    memset(&begun, 0, sizeof begun), memset(&f, 0, sizeof f);
    resume_open(&s, &shape);
    s.training.average = 0.9f;
    s.fit.epochs = 2;
    begun.stop = 14;
    resume_go(&s, &begun, NULL);
    f.s = &s;
    f.from = &begun.file;
    assert_true(test_each_allocation_fails(resume_fail_go, &f) >= 12);
    free(f.to.bytes);
    resume_free(&begun);
    resume_close(&s);
}

#define TEST_RESUME \
    cmocka_unit_test(test_resume_fit), cmocka_unit_test(test_resume_counts), \
    cmocka_unit_test(test_resume_checkpoints_change_nothing), \
    cmocka_unit_test(test_resume_refuses), cmocka_unit_test(test_resume_hostile), \
    cmocka_unit_test(test_resume_allocations_fail)
