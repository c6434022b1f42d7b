/* Section 13: the tape can be played again, for some of the losses, and onto what is there; observers see
   what a run makes. */

/* ---- a trainer's tape, played by hand ------------------------------------------------------------------ */

typedef struct tape_case {
    test_problem p;
    mtl_error err;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl__losses losses;
    mtl_run *run;
} tape_case;

/* A forward pass whose tape stands ready. */
static void tape_case_create(tape_case *c, const test_shape *shape)
{
    memset(c, 0, sizeof *c);
    test_problem_create(&c->p, shape);
    c->model = mtl_model_create(&c->p.desc, &c->err);
    c->trainer = mtl_trainer_create(c->model, NULL, &c->err);
    mtl_train_gradients(c->trainer, c->p.batch, 1, NULL, &c->err);        /* counts divisors, packs weights */
    TEST_FINE(&c->err);
    c->run = mtl__trainer_begin(c->trainer, &c->trainer->session.scratch, &c->err);
    mtl__arena_reset(c->run->arena);
    c->run->packing = mtl__packing_create(c->run->arena, c->p.batch->lengths, c->p.batch->sequences, &c->err);
    mtl__trainer_forward(c->trainer, c->p.batch, &c->losses);
    TEST_FINE(&c->err);
    assert_true(c->losses.count > 0);
}

static void tape_case_destroy(tape_case *c)
{
    mtl_trainer_destroy(c->trainer);
    mtl_model_destroy(c->model);
    test_problem_destroy(&c->p);
}

/* All gradients, with zeros for what no loss reached. */
static mtl_real *tape_gradients(tape_case *c)
{
    const mtl_parameters *set = mtl_model_parameters(c->model);
    mtl_real *copy = (mtl_real *)calloc(set->total, sizeof *copy);
    size_t i, r, begin;
    assert_non_null(copy);
    for (i = 0; i < set->count; i++) {
        const mtl_tensor *t = set->tensors[i];
        const mtl_gradient *g = mtl_gradients_get(mtl_trainer_gradients(c->trainer), t);
        for (r = 0; r < mtl__gradient_ranges(g); r++) {
            size_t length = mtl__gradient_range(g, t, r, &begin);
            memcpy(copy + t->offset + begin, g->value + begin, length * sizeof *copy);
        }
    }
    return copy;
}

static void test_tape_plays_again(void **state)
{
    test_random r = test_random_from(6);
    int number, cases = test_cases(30), round;
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = test_shape_random(number, &r);
        mtl_real *first, *again;
        tape_case c;
        size_t bytes;
        shape.dropout = number % 2 ? 0.3 : 0;
        tape_case_create(&c, &shape);
        bytes = mtl_model_parameters(c.model)->total * sizeof(mtl_real);
        assert_int_equal(mtl_tape_backward(c.run, c.losses.value, c.losses.weight, c.losses.count, 0),
                         MTL_OK);
        first = tape_gradients(&c);
        for (round = 0; round < 2; round++) {
            mtl_tape_backward(c.run, c.losses.value, c.losses.weight, c.losses.count, 0);
            again = tape_gradients(&c);
            assert_memory_equal(first, again, bytes);
            free(again);
        }
        free(first);
        tape_case_destroy(&c);
    }
}

/* Once per task: each gives that task's gradient alone, which is what a trainer gives whose other weights are
   0; together they are the joint gradient. */
static void test_tape_per_task(void **state)
{
    test_random r = test_random_from(7);
    int number, cases = test_cases(30);
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = test_shape_random(number, &r);
        mtl_real *joint, *sum, *own, *alone;
        tape_case c;
        size_t total, i, k, other;
        tape_case_create(&c, &shape);
        total = mtl_model_parameters(c.model)->total;
        mtl_tape_backward(c.run, c.losses.value, c.losses.weight, c.losses.count, 0);
        joint = tape_gradients(&c);
        sum = (mtl_real *)calloc(total, sizeof *sum);
        assert_non_null(sum);
        for (k = 0; k < c.losses.count; k++) {
            size_t task = c.losses.task[k];
            tape_case lone;
            char head[64];
            mtl_tape_backward(c.run, &c.losses.value[k], &c.losses.weight[k], 1, 0);
            TEST_FINE(&c.err);
            own = tape_gradients(&c);
            for (i = 0; i < total; i++) sum[i] += own[i];
            for (i = 0; i < TEST_TASKS_COUNT; i++) {              /* no gradient of another head is reached */
                snprintf(head, sizeof head, "%s.output.weight", c.p.desc.tasks[i].name);
                assert_int_equal(mtl_gradients_get(c.run->gradients, mtl_model_tensor(c.model, head))->state,
                                 i == task ? MTL_GRAD_DENSE : MTL_GRAD_NONE);
            }
            tape_case_create(&lone, &shape);
            for (other = 0; other < TEST_TASKS_COUNT; other++)
                if (other != task) mtl_trainer_set_weight(lone.trainer, (int)other, 0, &lone.err);
            mtl_train_gradients(lone.trainer, lone.p.batch, 1, NULL, &lone.err);
            TEST_FINE(&lone.err);
            alone = tape_gradients(&lone);
            assert_true(test_distance(own, alone, total, 1e-6) < 1e-6);
            free(alone);
            free(own);
            tape_case_destroy(&lone);
        }
        assert_true(test_distance(sum, joint, total, 1e-6) < 2e-6);
        free(sum);
        free(joint);
        tape_case_destroy(&c);
    }
}

static void test_tape_accumulates(void **state)
{
    const test_shape shape = {0};
    mtl_real *once, *twice;
    tape_case c;
    size_t total, i;
    (void)state;
    tape_case_create(&c, &shape);
    total = mtl_model_parameters(c.model)->total;
    mtl_tape_backward(c.run, c.losses.value, c.losses.weight, c.losses.count, 0);
    once = tape_gradients(&c);
    mtl_tape_backward(c.run, c.losses.value, c.losses.weight, c.losses.count, 1);
    twice = tape_gradients(&c);
    for (i = 0; i < total; i++) once[i] *= 2;
    assert_true(test_distance(twice, once, total, 1e-6) < 1e-6);
    free(once);
    free(twice);
    tape_case_destroy(&c);
}

/* Other weights scale the gradients; the stored forward values are as before. */
static void test_tape_other_weights(void **state)
{
    const test_shape shape = {0};
    mtl_real *plain, *scaled, weights[TEST_TASKS_COUNT];
    tape_case c;
    size_t total, i;
    (void)state;
    tape_case_create(&c, &shape);
    total = mtl_model_parameters(c.model)->total;
    mtl_tape_backward(c.run, c.losses.value, c.losses.weight, c.losses.count, 0);
    plain = tape_gradients(&c);
    for (i = 0; i < c.losses.count; i++) weights[i] = -4 * c.losses.weight[i];
    mtl_tape_backward(c.run, c.losses.value, weights, c.losses.count, 0);
    scaled = tape_gradients(&c);
    for (i = 0; i < total; i++) plain[i] *= -4;
    assert_true(test_distance(scaled, plain, total, 1e-6) < 1e-6);
    free(plain);
    free(scaled);
    tape_case_destroy(&c);
}

/* No loss at all: nothing is reached. */
static void test_tape_no_losses(void **state)
{
    const test_shape shape = {0};
    tape_case c;
    size_t i;
    (void)state;
    tape_case_create(&c, &shape);
    assert_int_equal(mtl_tape_backward(c.run, NULL, NULL, 0, 0), MTL_OK);
    for (i = 0; i < mtl_model_parameters(c.model)->count; i++)
        assert_int_equal(c.run->gradients->of[i].state, MTL_GRAD_NONE);
    tape_case_destroy(&c);
}

/* ---- errors inside a run ------------------------------------------------------------------------------- */

static int tape_played;
static void tape_count_play(mtl_run *run, void *data) { (void)run; (void)data; tape_played++; }
static void tape_fail(mtl_run *run, void *data)
{
    (void)data;
    mtl__fail(run->error, MTL_ERROR_STOPPED, "layer", -1, "a layer failed");
}

static void test_tape_sticky_run(void **state)
{
    const test_shape shape = {0};
    mtl_activation *x;
    tape_case c;
    size_t records;
    (void)state;
    tape_case_create(&c, &shape);
    x = mtl_run_activation(c.run, "mine", 2, 3);
    assert_non_null(x);
    mtl_run_record(c.run, x, tape_count_play, NULL);
    mtl_run_record(c.run, NULL, tape_fail, NULL);
    records = c.run->tape->count;
    assert_int_equal(mtl_tape_backward(c.run, &x, &c.losses.weight[0], 1, 0), MTL_ERROR_STOPPED);
    assert_int_equal(tape_played, 0);                                  /* nothing is played after a failure */
    assert_null(mtl_run_activation(c.run, "more", 1, 1));                   /* and nothing is made */
    assert_null(mtl_run_push(c.run, 8));
    assert_null(mtl_run_make(c.run, 8));
    mtl_run_record(c.run, x, tape_count_play, NULL);
    assert_int_equal(c.run->tape->count, records);
    assert_int_equal(mtl_tape_backward(c.run, c.losses.value, c.losses.weight, 1, 0), MTL_ERROR_STOPPED);
    assert_string_equal(c.err.message, "a layer failed");
    mtl_error_clear(&c.err);
    c.run->tape = NULL;
    mtl_tape_backward(c.run, c.losses.value, c.losses.weight, 1, 0);
    test_expect_error(&c.err, MTL_ERROR_ARGUMENT, "tape", "no tape");
    tape_case_destroy(&c);
}

/* A record is skipped while its output has no gradient; constants get none. */
static void test_tape_skips_what_no_gradient_reaches(void **state)
{
    const mtl_real weights[2] = { 1, 2 };
    const test_shape shape = {0};
    mtl_activation *reached, *other, *constant, *losses[2];
    tape_case c;
    int add;
    (void)state;
    tape_case_create(&c, &shape);
    reached = mtl_run_activation(c.run, NULL, 1, 1);
    other = mtl_run_activation(c.run, NULL, 1, 1);
    constant = mtl_run_activation(c.run, NULL, 1, 1);
    TEST_FINE(&c.err);
    constant->constant = 1;
    mtl_run_record(c.run, other, tape_fail, NULL);
    mtl_run_record(c.run, constant, tape_fail, NULL);
    mtl_run_record(c.run, reached, tape_count_play, NULL);
    tape_played = 0;
    losses[0] = reached;
    losses[1] = reached;
    assert_int_equal(mtl_tape_backward(c.run, losses, weights, 2, 0), MTL_OK);
    assert_int_equal(tape_played, 1);
    assert_true(reached->grad[0] == 3);                                  /* given twice, its weights add up */
    losses[1] = constant;
    assert_int_equal(mtl_tape_backward(c.run, losses, weights, 2, 0), MTL_OK);
    assert_true(reached->grad[0] == 1);
    assert_null(mtl_run_grad(c.run, constant, &add));
    assert_null(constant->grad);
    tape_case_destroy(&c);
}

/* ---- observers ----------------------------------------------------------------------------------------- */

enum { TAPE_SEEN_MOST = 64 };
typedef struct tape_seen {
    char names[TAPE_SEEN_MOST][64];
    mtl_real *values[TAPE_SEEN_MOST];       /* by the caller's items: [items][width], copied through
                                               mtl_run_row */
    size_t items[TAPE_SEEN_MOST], widths[TAPE_SEEN_MOST], count;
    const mtl_batch *batch;
} tape_seen;

static void tape_observe(void *user, const mtl_run *run, const mtl_activation *a)
{
    tape_seen *seen = (tape_seen *)user;
    size_t i = seen->count++, s, n = 0, rows = 0, t;
    assert_true(i < TAPE_SEEN_MOST);
    for (s = 0; s < seen->batch->sequences; s++) rows += (size_t)seen->batch->lengths[s];
    assert_true(strlen(a->name) > 0 && strlen(a->name) < 64);
    assert_true(a->stride >= a->width);
    strcpy(seen->names[i], a->name);
    for (s = 0; strstr(a->name, ".probabilities") && !strstr(a->name, "set.") && s < a->rows; s++) {
        double sum = 0;
        for (t = 0; t < a->width; t++) sum += (double)a->value[s * a->stride + t];
        assert_true(fabs(sum - 1) < 1e-5);
    }
    seen->values[i] = NULL;
    seen->widths[i] = a->width;
    seen->items[i] = a->rows;
    if (!a->space) {                        /* only the labelled items */
        assert_int_equal(mtl_run_row(run, a, 0, 0), a->rows);
        return;
    }
    assert_int_equal(a->rows, a->space->level == MTL_LEVEL_STEP ? rows : seen->batch->sequences);
    seen->values[i] = (mtl_real *)malloc(a->rows * a->width * sizeof(mtl_real));
    assert_non_null(seen->values[i]);
    for (s = 0; s < seen->batch->sequences; s++)
        for (t = 0; t < (a->space->level == MTL_LEVEL_STEP ? (size_t)seen->batch->lengths[s] : 1); t++, n++)
            memcpy(seen->values[i] + n * a->width, a->value + mtl_run_row(run, a, s, t) * a->stride,
                   a->width * sizeof(mtl_real));
}

static const mtl_real *tape_seen_values(const tape_seen *seen, const char *name, size_t items, size_t width)
{
    size_t i;
    for (i = 0; i < seen->count; i++)
        if (strcmp(seen->names[i], name) == 0) {
            if (seen->items[i] != items || seen->widths[i] != width)
                fail_msg("%s is %d x %d", name, (int)seen->items[i], (int)seen->widths[i]);
            return seen->values[i];
        }
    fail_msg("%s was not observed", name);
    return NULL;
}

static void tape_seen_clear(tape_seen *seen)
{
    while (seen->count) free(seen->values[--seen->count]);
}

/* Names and values during a prediction: inputs, columns, pooled states, logits, probabilities, in the
   caller's order. */
static void test_tape_observers(void **state)
{
    static const int lengths[] = { 2, 7, 1, 4 };
    test_shape shape = {0};
    mtl_error err = {0};
    mtl_prediction out[TEST_TASKS_COUNT];
    const mtl_real *words, *high, *pooled, *logits, *probabilities, *numbers, *mean;
    test_problem p;
    test_batch *b;
    mtl_model *model;
    mtl_predictor *predictor;
    const mtl_tensor *embedding;
    tape_seen seen;
    size_t n, j, s, start;
    (void)state;
    memset(&seen, 0, sizeof seen);
    shape.two_columns = shape.bidirectional = 1;
    shape.hidden = 6;
    shape.layers = 2;
    shape.features = 3;
    test_problem_create(&p, &shape);
    p.inputs[0].scale = 2;
    b = test_batch_create(&p.desc, lengths, 4, 0, 0, 3);
    seen.batch = &b->batch;
    model = mtl_model_create(&p.desc, &err);
    predictor = mtl_predictor_create(model, NULL, &err);
    mtl_predictor_observe(predictor, tape_observe, &seen);
    mtl_predict(predictor, &b->batch, out, &err);
    TEST_FINE(&err);
    words = tape_seen_values(&seen, "words", 14, 6);
    embedding = mtl_model_tensor(model, "words.weight");
    for (n = 0; n < 14; n++)
        for (j = 0; j < 6; j++) assert_true(words[n * 6 + j] == 2
                                            * embedding->value[b->inputs[0].ids[n] * 6 + (int)j]);
    assert_memory_equal(tape_seen_values(&seen, "numbers", 14, 3), b->inputs[1].rows,
                        14 * 3 * sizeof(mtl_real));
    (void)tape_seen_values(&seen, "low.layer0", 14, 12);
    (void)tape_seen_values(&seen, "low", 14, 12);
    high = tape_seen_values(&seen, "high", 14, 12);
    pooled = tape_seen_values(&seen, "class.pooled", 4, 12);
    mean = tape_seen_values(&seen, "number.pooled", 4, 12);
    for (s = 0, start = 0; s < 4; start += (size_t)lengths[s], s++)
        /* forward columns: the last step; the others: the first */
        for (j = 0; j < 12; j++) {
            double sum = 0;
            for (n = 0; n < (size_t)lengths[s]; n++) sum += (double)high[(start + n) * 12 + j];
            assert_true(pooled[s * 12 + j] == high[(start + (j < 6 ? (size_t)lengths[s] - 1 : 0)) * 12 + j]);
            assert_true(fabs((double)mean[s * 12 + j] - sum / lengths[s]) < 1e-6);
        }
    logits = tape_seen_values(&seen, "tags.logits", 14, 5);
    probabilities = tape_seen_values(&seen, "tags.probabilities", 14, 5);
    assert_memory_equal(probabilities, out[TEST_TAGS].probabilities, 14 * 5 * sizeof(mtl_real));
    for (n = 0; n < 14; n++) {
        double sum = 0;
        for (j = 0; j < 5; j++) sum += exp((double)logits[n * 5 + j]);
        for (j = 0; j < 5; j++) assert_true(fabs((double)probabilities[n * 5 + j]
                                                 - exp((double)logits[n * 5 + j]) / sum) < 1e-6);
    }
    numbers = tape_seen_values(&seen, "curve.values", 14, 2);
    assert_memory_equal(numbers, out[TEST_CURVE].values, 14 * 2 * sizeof(mtl_real));
    tape_seen_clear(&seen);
    mtl_predictor_observe(predictor, NULL, NULL);
    mtl_predict(predictor, &b->batch, out, &err);
    TEST_FINE(&err);
    assert_int_equal(seen.count, 0);                                        /* off again */
    mtl_predictor_destroy(predictor);
    mtl_model_destroy(model);
    test_batch_destroy(b);
    test_problem_destroy(&p);
}

static const mtl_activation *tape_named(const mtl_run *run, const char *name)
{
    const mtl_activation *a = run->tape->activations;
    while (a && strcmp(a->name, name) != 0) a = a->next;
    return a;
}

/* A trainer's observer sees every micro-batch; the run that mtl_trainer_run gives maps its rows. */
static void test_tape_observes_training(void **state)
{
    const test_shape shape = {0};
    mtl_error err = {0};
    test_problem p;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_batch two[2];
    const mtl_activation *a;
    tape_seen seen;
    size_t i, words = 0, probabilities = 0;
    (void)state;
    memset(&seen, 0, sizeof seen);
    test_problem_create(&p, &shape);
    two[0] = two[1] = *p.batch;
    seen.batch = p.batch;
    model = mtl_model_create(&p.desc, &err);
    trainer = mtl_trainer_create(model, NULL, &err);
    mtl_trainer_observe(trainer, tape_observe, &seen);
    mtl_train_gradients(trainer, two, 2, NULL, &err);
    TEST_FINE(&err);
    for (i = 0; i < seen.count; i++) {
        words += strcmp(seen.names[i], "words") == 0;
        probabilities += strcmp(seen.names[i], "tags.probabilities") == 0;
    }
    assert_int_equal(words, 2);
    assert_int_equal(probabilities, 2);
    (void)tape_seen_values(&seen, "encoder", p.data->rows, 12);
    a = tape_named(mtl_trainer_run(trainer), "encoder");
    assert_non_null(a);                                       /* of the last micro-batch, with its gradient */
    assert_int_equal(a->rows, p.data->rows);
    assert_int_equal(a->grad_state, MTL_GRAD_DENSE);
    tape_seen_clear(&seen);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

/* Of the absolute values and of the absolute gradients, which differ when anything has written over them. */
static void tape_sums(const mtl_activation *a, double sums[2])
{
    size_t n, j;
    sums[0] = sums[1] = 0;
    for (n = 0; n < a->rows; n++)
        for (j = 0; j < a->width; j++) {
            sums[0] += fabs((double)a->value[n * a->stride + j]) * (double)(n + 1);
            sums[1] += fabs((double)a->grad[n * a->stride + j]) * (double)(n + 1);
        }
}

/* After an update, too, the trainer's run holds the tape and the activations of the last micro-batch: the
   same as after mtl_train_gradients, in memory that grows and within limits. */
static void test_tape_stays_after_an_update(void **state)
{
    int limits, optimizer;
    (void)state;
    for (limits = 0; limits < 2; limits++)
        for (optimizer = MTL_OPTIMIZER_SGD; optimizer <= MTL_OPTIMIZER_ADAM; optimizer++) {
            const test_shape shape = {0};
            mtl_trainer_desc desc = {0};
            mtl_error err = {0};
            test_problem p;
            mtl_model *model;
            mtl_trainer *trainer;
            const mtl_activation *a;
            double sums[2], again[2];
            int step;
            test_problem_create(&p, &shape);
            desc.optimizer = optimizer;
            desc.max_rows = limits ? p.data->rows : 0;
            desc.average = 0.5f;
            model = mtl_model_create(&p.desc, &err);
            trainer = mtl_trainer_create(model, &desc, &err);
            for (step = 0; step < 2; step++) {
                mtl_train_gradients(trainer, p.batch, 1, NULL, &err);
                TEST_FINE(&err);
                a = tape_named(mtl_trainer_run(trainer), "encoder");
                tape_sums(a, sums);
                mtl_train_step(trainer, p.batch, 1, NULL, &err);
                TEST_FINE(&err);
                a = tape_named(mtl_trainer_run(trainer), "encoder");
                assert_non_null(a);
                tape_sums(a, again);
                assert_true(sums[0] == again[0] && sums[1] == again[1] && sums[1] > 0);
                assert_int_equal(mtl_trainer_run(trainer)->packing->rows, p.data->rows);
            }
            mtl_trainer_destroy(trainer);
            mtl_model_destroy(model);
            test_problem_destroy(&p);
        }
}

/* The batches that mtl_fit made are gone at an epoch's end: so is the tape that read them. */
static int tape_fit_progress(void *user, const mtl_progress *progress)
{
    mtl_run *run = mtl_trainer_run((mtl_trainer *)user);
    if (progress->epoch_end) {
        assert_true(!run->tape->activations && !run->tape->last && !run->packing);
    } else {
        const mtl_activation *a = tape_named(run, "words");
        size_t s;
        assert_non_null(a);
        for (s = 0; s < run->packing->sequences; s++)
            assert_true(mtl_run_row(run, a, s, 0) < a->rows && a->ids[s] >= 0);
    }
    return 0;
}

static void test_tape_within_fit(void **state)
{
    const test_shape shape = {0};
    mtl_fit_desc how = {0};
    mtl_error err = {0};
    test_problem p;
    mtl_model *model;
    mtl_trainer *trainer;
    (void)state;
    test_problem_create(&p, &shape);
    model = mtl_model_create(&p.desc, &err);
    trainer = mtl_trainer_create(model, NULL, &err);
    how.epochs = 2;
    how.batch = 2;
    how.progress = tape_fit_progress;
    how.user = trainer;
    mtl_fit(trainer, p.batch, 1, p.batch, 1, &how, NULL, &err);
    TEST_FINE(&err);
    assert_null(mtl_trainer_run(trainer)->tape->activations);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

#define TEST_TAPE \
    cmocka_unit_test(test_tape_plays_again), cmocka_unit_test(test_tape_per_task), \
        cmocka_unit_test(test_tape_accumulates), \
    cmocka_unit_test(test_tape_other_weights), cmocka_unit_test(test_tape_no_losses), \
        cmocka_unit_test(test_tape_sticky_run), \
    cmocka_unit_test(test_tape_skips_what_no_gradient_reaches), cmocka_unit_test(test_tape_observers), \
    cmocka_unit_test(test_tape_observes_training), cmocka_unit_test(test_tape_stays_after_an_update), \
        cmocka_unit_test(test_tape_within_fit)
