/* Section 11: packing, and what it promises to callers: ragged in, ragged out, in their own order. */

/* ---- packing: what must hold for any lengths ----------------------------------------------------------- */

static void batch_check_packing(const mtl_packing *p, const int *lengths, size_t sequences)
{
    size_t rows = 0, s, t, b, longest = 0, start = 0;
    char *row_seen;
    for (s = 0; s < sequences; s++) {
        rows += (size_t)lengths[s];
        if ((size_t)lengths[s] > longest) longest = (size_t)lengths[s];
    }
    assert_int_equal(p->sequences, sequences);
    assert_int_equal(p->rows, rows);                                        /* not one row of padding */
    assert_int_equal(p->steps, longest);
    /* sorted by falling length, equals in the caller's order */
    for (b = 0; b < sequences; b++) {
        assert_int_equal(p->place[p->order[b]], b);
        assert_int_equal(p->lengths[b], lengths[p->order[b]]);
        if (b)
            assert_true(p->lengths[b] < p->lengths[b - 1]
                        || (p->lengths[b] == p->lengths[b - 1] && p->order[b] > p->order[b - 1]));
    }
    for (t = 0, rows = 0; t < longest; t++) {
        assert_int_equal(p->time.offset[t], rows);
        if (t) assert_true(p->time.rows[t] <= p->time.rows[t - 1]);
        assert_true(p->time.rows[t] >= 1);
        rows += p->time.rows[t];
    }
    row_seen = (char *)calloc(rows, 1);
    assert_non_null(row_seen);
    for (s = 0; s < sequences; s++) {
        size_t place = (size_t)p->place[s];
        assert_int_equal(p->starts[s], start);
        for (t = 0; t < (size_t)lengths[s]; t++) {
            size_t n = p->time.offset[t] + place, last = (size_t)lengths[s] - 1;
            assert_true(place < p->time.rows[t] && n < p->rows && !row_seen[n]);
            row_seen[n] = 1;
            assert_int_equal(p->sequence[n], place);
            assert_int_equal(p->caller_sequence[n], s);
            assert_int_equal(p->caller_row[n], start + t);
            assert_int_equal(p->packed_row[start + (int)t], n);
            assert_int_equal(p->previous[0][n], t ? (int)(p->time.offset[t - 1] + place) : ~(int)place);
            assert_int_equal(p->previous[1][n], t < last
                             ? (int)(p->time.offset[t + 1] + place) : ~(int)place);
            if (t == last) assert_int_equal(p->last[place], n);
        }
        if ((size_t)lengths[s] < longest) assert_true(p->time.rows[lengths[s]] <= place);
        start += (size_t)lengths[s];
    }
    free(row_seen);
}

static void batch_pack(const int *lengths, size_t sequences)
{
    mtl_error err = {0};
    mtl_arena arena;
    mtl_packing *p;
    mtl_arena_init(&arena, NULL, 0, NULL);
    p = mtl__packing_create(&arena, lengths, sequences, &err);
    TEST_FINE(&err);
    batch_check_packing(p, lengths, sequences);
    mtl_arena_destroy(&arena);
}

static void test_batch_packing_random(void **state)
{
    test_random r = test_random_from(3);
    int number, cases = test_cases(400);
    (void)state;
    for (number = 0; number < cases; number++) {
        int longest = number % 10 == 0 ? 10000 : number % 3 ? test_random_between(&r, 1, 40) : 1 + number % 2,
            i;
        int sequences = longest > 1000 ? test_random_between(&r, 1, 8)
            : test_random_between(&r, 1, number % 7 ? 60 : 5000);
        int *lengths = (int *)malloc((size_t)sequences * sizeof *lengths);
        assert_non_null(lengths);
        for (i = 0; i < sequences; i++) lengths[i] = test_random_between(&r, 1, longest);
        batch_pack(lengths, (size_t)sequences);
        free(lengths);
    }
}

static void batch_same_ints(const int *got, const int *want, size_t count)
{
    assert_memory_equal(got, want, count * sizeof *want);
}

/* The drawing at the head of the section: lengths 2, 4, 1. */
static void test_batch_packing_drawing(void **state)
{
    static const int lengths[] = { 2, 4, 1 }, order[] = { 1, 0, 2 }, caller_row[] = { 2, 0, 6, 3, 1, 4, 5 },
        before[] = { ~0, ~1, ~2, 0, 1, 3, 5 }, after[] = { 3, 4, ~2, 5, ~1, 6, ~0 }, last[] = { 6, 4, 2 };
    static const size_t step_rows[] = { 3, 2, 1, 1 }, offset[] = { 0, 3, 5, 6 };
    mtl_error err = {0};
    mtl_arena arena;
    mtl_packing *p;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    p = mtl__packing_create(&arena, lengths, 3, &err);
    TEST_FINE(&err);
    batch_same_ints(p->order, order, 3);
    batch_same_ints(p->caller_row, caller_row, 7);
    batch_same_ints(p->previous[0], before, 7);
    batch_same_ints(p->previous[1], after, 7);
    batch_same_ints(p->last, last, 3);
    assert_memory_equal(p->time.rows, step_rows, sizeof step_rows);
    assert_memory_equal(p->time.offset, offset, sizeof offset);
    mtl_arena_destroy(&arena);
}

static void test_batch_packing_edges(void **state)
{
    static const int one[] = { 1 }, long_one[] = { 10000 }, equal[] = { 4, 4, 4, 4 };
    static const int rising[] = { 1, 2, 3, 4, 5 }, falling[] = { 5, 4, 3, 2, 1 },
        mixed[] = { 1, 10000, 1, 9999, 10000, 2 };
    (void)state;
    batch_pack(one, 1);
    batch_pack(long_one, 1);
    batch_pack(equal, 4);
    batch_pack(rising, 5);
    batch_pack(falling, 5);
    batch_pack(mixed, 6);
}

/* ---- outputs: each sequence gets what it would get alone ----------------------------------------------- */

/* A batch of sequence s of `from` alone; pointers into it. */
static void batch_alone(const test_problem *p, const test_batch *from, size_t s, mtl_batch *alone,
                        mtl_input *inputs)
{
    size_t start = 0, i;
    for (i = 0; i < s; i++) start += (size_t)from->lengths[i];
    memset(alone, 0, sizeof *alone);
    alone->sequences = 1;
    alone->lengths = from->lengths + s;
    alone->inputs = inputs;
    for (i = 0; i < p->desc.input_count; i++) {
        inputs[i].ids = from->inputs[i].ids ? from->inputs[i].ids + start : NULL;
        inputs[i].rows = from->inputs[i].rows ? from->inputs[i].rows + start
            * (size_t)p->desc.inputs[i].features : NULL;
    }
}

/* Compares a batch's predictions with each sequence's own. */
static void batch_check_outputs(const test_problem *p, const test_batch *b, size_t stride)
{
    mtl_error err = {0};
    mtl_prediction all[TEST_TASKS_COUNT], own[TEST_TASKS_COUNT];
    mtl_model *model = mtl_model_create(&p->desc, &err);
    mtl_predictor *together = mtl_predictor_create(model, NULL, &err),
        *single = mtl_predictor_create(model, NULL, &err);
    mtl_input inputs[TEST_MOST];
    mtl_batch alone;
    size_t s, k, start = 0;
    mtl_predict(together, &b->batch, all, &err);
    TEST_FINE(&err);
    for (s = 0; s < b->batch.sequences; start += (size_t)b->lengths[s], s++) {
        if (s % stride) continue;
        batch_alone(p, b, s, &alone, inputs);
        mtl_predict(single, &alone, own, &err);
        TEST_FINE(&err);
        for (k = 0; k < TEST_TASKS_COUNT; k++) {
            int per_step = p->desc.tasks[k].level == MTL_LEVEL_STEP;
            size_t items = per_step ? (size_t)b->lengths[s] : 1, first = per_step ? start : s;
            assert_int_equal(all[k].items, per_step ? b->rows : b->batch.sequences);
            assert_int_equal(own[k].items, items);
            if (test_distance(test_outputs(&all[k]) + first * all[k].width, test_outputs(&own[k]),
                              items * own[k].width, 0.1) > 1e-5)
                fail_msg("task %s, sequence %d of %d differs", p->desc.tasks[k].name, (int)s,
                         (int)b->batch.sequences);
        }
    }
    mtl_predictor_destroy(single);
    mtl_predictor_destroy(together);
    mtl_model_destroy(model);
}

static void test_batch_outputs_as_alone(void **state)
{
    test_random r = test_random_from(4);
    int number, cases = test_cases(60);
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = test_shape_random(number, &r);
        test_problem p;
        test_problem_create(&p, &shape);
        batch_check_outputs(&p, p.data, 1);
        test_problem_destroy(&p);
    }
}

/* Lengths of 1 to 10,000 in one batch; thousands of sequences; one sequence. */
static void test_batch_outputs_extremes(void **state)
{
    static const int lengths[] = { 3, 10000, 1, 117, 2500, 1, 40 };
    int cell;
    (void)state;
    for (cell = 1; cell <= 3; cell++) {
        test_shape shape = {0};
        test_problem p;
        test_batch *many, *extreme;
        shape.cell = cell;
        shape.hidden = 5;
        shape.bidirectional = 1;
        shape.reset = cell == MTL_CELL_GRU ? MTL_RESET_BEFORE : 0;
        test_problem_create(&p, &shape);
        extreme = test_batch_create(&p.desc, lengths, test_quick() ? 1 : 7, 0, 0, 1);
        many = test_batch_create(&p.desc, NULL, test_quick() ? 500 : 5000, 6, 0, 2);
        batch_check_outputs(&p, extreme, 1);
        batch_check_outputs(&p, many, 13);
        test_batch_destroy(many);
        test_batch_destroy(extreme);
        test_problem_destroy(&p);
    }
}

/* The order of the sequences in a batch does not matter: neither to outputs nor, but for rounding, to the
   loss. */
static void test_batch_any_order(void **state)
{
    test_random r = test_random_from(5);
    int number, cases = test_cases(30);
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = test_shape_random(number, &r);
        mtl_error err = {0};
        test_problem p;
        mtl_model *model;
        mtl_trainer *trainer;
        mtl_step step, turned;
        test_batch *b;
        size_t s, i, k, to = 0, sequences;
        shape.features = 0;
        test_problem_create(&p, &shape);
        sequences = p.batch->sequences;
        b = test_batch_create(&p.desc, NULL, (int)sequences, shape.longest, shape.missing, shape.seed);
        for (s = 0; s < sequences; s++) {                         /* the same sequences, the last one first */
            size_t from = sequences - 1 - s, start = 0, length = (size_t)p.data->lengths[from];
            for (i = 0; i < from; i++) start += (size_t)p.data->lengths[i];
            b->lengths[s] = (int)length;
            memcpy(test_ids(b) + to, test_ids(p.data) + start, length * sizeof(int));
            for (k = 0; k < TEST_TASKS_COUNT; k++) {
                size_t per_step = p.desc.tasks[k].level == MTL_LEVEL_STEP;
                size_t first = per_step ? start : from, at = per_step ? to : s;
                size_t items = per_step ? length : 1, width = k >= TEST_SHARE ? 4 : k == TEST_CURVE ? 2 : 1;
                int task = (int)k;
                if (b->targets[k].labels)
                    memcpy(test_labels(b, task) + at, test_labels(p.data, task) + first, items * sizeof(int));
                else
                    memcpy(test_numbers(b, task) + at * width, test_numbers(p.data, task) + first * width,
                           items * width * sizeof(mtl_real));
            }
            to += length;
        }
        model = mtl_model_create(&p.desc, &err);
        trainer = mtl_trainer_create(model, NULL, &err);
        mtl_train_gradients(trainer, p.batch, 1, &step, &err);
        TEST_FINE(&err);
        step.task_loss = NULL;                          /* the trainer's memory, which the next call writes */
        mtl_train_gradients(trainer, &b->batch, 1, &turned, &err);
        TEST_FINE(&err);
        assert_true(fabs(step.loss - turned.loss) <= 1e-5 * fabs(step.loss));
        assert_true(fabs(step.grad_norm - turned.grad_norm) <= 1e-4 * fabs(step.grad_norm));
        mtl_trainer_destroy(trainer);
        mtl_model_destroy(model);
        test_batch_destroy(b);
        test_problem_destroy(&p);
    }
}

/* ---- bad batches: the message names the sequence and the step ------------------------------------------ */

typedef struct batch_case {
    test_problem p;
    test_batch *b;                          /* lengths 3, 1, 4 */
    mtl_batch batch;                        /* b's; may be spoilt */
} batch_case;

static void batch_length_zero(batch_case *c) { c->b->lengths[1] = 0; }
static void batch_length_negative(batch_case *c) { c->b->lengths[2] = -4; }
static void batch_no_sequences(batch_case *c) { c->batch.sequences = 0; }
static void batch_no_lengths(batch_case *c) { c->batch.lengths = NULL; }
static void batch_no_inputs(batch_case *c) { c->batch.inputs = NULL; }
static void batch_no_ids(batch_case *c) { c->b->inputs[0].ids = NULL; }
static void batch_no_rows(batch_case *c) { c->b->inputs[1].rows = NULL; }
static void batch_id_large(batch_case *c) { test_ids(c->b)[6] = TEST_VOCABULARY; }
static void batch_id_negative(batch_case *c) { test_ids(c->b)[3] = -1; }
static void batch_row_nan(batch_case *c)
{
    ((mtl_real *)(uintptr_t)c->b->inputs[1].rows)[5 * 2 + 1] = test_nan();
}
static void batch_row_infinite(batch_case *c)
{
    ((mtl_real *)(uintptr_t)c->b->inputs[1].rows)[0] = test_infinity();
}

static void test_batch_bad_batches(void **state)
{
    static const struct {
        void (*spoil)(batch_case *c);
        int code;
        const char *name;
        long long position;
        const char *part;
    } cases[] = {
        { batch_length_zero, MTL_ERROR_RANGE, "lengths", 1, "sequence 1 has length 0" },
        { batch_length_negative, MTL_ERROR_RANGE, "lengths", 2, "sequence 2 has length -4" },
        { batch_no_sequences, MTL_ERROR_RANGE, "lengths", 0, "1 sequence at least" },
        { batch_no_lengths, MTL_ERROR_ARGUMENT, "batch", -1, "batch.lengths is NULL" },
        { batch_no_inputs, MTL_ERROR_ARGUMENT, "batch", -1, "batch.inputs is NULL" },
        { batch_no_ids, MTL_ERROR_ARGUMENT, "words", -1, "input words: ids is NULL" },
        { batch_no_rows, MTL_ERROR_ARGUMENT, "numbers", -1, "input numbers: rows is NULL" },
        { batch_id_large, MTL_ERROR_RANGE, "words", 6, "id 23 of sequence 2, step 2 is not in 0 .. 22" },
        { batch_id_negative, MTL_ERROR_RANGE, "words", 3, "id -1 of sequence 1, step 0" },
        { batch_row_nan, MTL_ERROR_NUMBER, "numbers", 5,
            "column 1 of sequence 2, step 1 is not a finite number" },
        { batch_row_infinite, MTL_ERROR_NUMBER, "numbers", 0, "column 0" },
    };
    static const int lengths[] = { 3, 1, 4 };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        test_shape shape = {0};
        mtl_error err = {0};
        mtl_prediction out[TEST_TASKS_COUNT];
        mtl_model *model;
        mtl_trainer *trainer;
        mtl_predictor *predictor;
        mtl_real *weights;
        batch_case c;
        shape.features = 2;
        test_problem_create(&c.p, &shape);
        c.b = test_batch_create(&c.p.desc, lengths, 3, 0, 0, 1);
        c.batch = c.b->batch;
        model = mtl_model_create(&c.p.desc, &err);
        trainer = mtl_trainer_create(model, NULL, &err);
        predictor = mtl_predictor_create(model, NULL, &err);
        TEST_FINE(&err);
        weights = test_weights_copy(model);
        cases[i].spoil(&c);
        mtl_train_step(trainer, &c.batch, 1, NULL, &err);
        if (err.position != cases[i].position) fail_msg("position %lld in \"%s\"", err.position, err.message);
        test_expect_error(&err, cases[i].code, cases[i].name, cases[i].part);
        mtl_predict(predictor, &c.batch, out, &err);
        assert_int_equal(err.position, cases[i].position);
        test_expect_error(&err, cases[i].code, cases[i].name, cases[i].part);
        assert_true(test_weights_equal(model, weights));
        free(weights);
        mtl_predictor_destroy(predictor);
        mtl_trainer_destroy(trainer);
        mtl_model_destroy(model);
        test_batch_destroy(c.b);
        test_problem_destroy(&c.p);
    }
}

/* A state that was made for another number of sequences, and one of a model with other cells. */
static void test_batch_wrong_state(void **state)
{
    test_shape shape = {0};
    mtl_error err = {0};
    test_problem p, q;
    mtl_model *other;
    mtl_prediction out[TEST_TASKS_COUNT];
    mtl_model *model;
    mtl_predictor *predictor;
    mtl_state *carried;
    mtl_batch batch;
    (void)state;
    test_problem_create(&p, &shape);
    model = mtl_model_create(&p.desc, &err);
    predictor = mtl_predictor_create(model, NULL, &err);
    carried = mtl_state_create(model, p.batch->sequences - 1, &err);
    TEST_FINE(&err);
    batch = *p.batch;
    batch.state = carried;
    mtl_predict(predictor, &batch, out, &err);
    test_expect_error(&err, MTL_ERROR_RANGE, "state", "4 rows");
    mtl_state_destroy(carried);
    shape.hidden = 13;
    test_problem_create(&q, &shape);
    other = mtl_model_create(&q.desc, &err);
    carried = mtl_state_create(other, p.batch->sequences, &err);
    batch.state = carried;
    mtl_predict(predictor, &batch, out, &err);
    test_expect_error(&err, MTL_ERROR_ARGUMENT, "state", "another model");
    mtl_state_destroy(carried);
    mtl_model_destroy(other);
    test_problem_destroy(&q);
    mtl_predictor_destroy(predictor);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

#define TEST_BATCH \
    cmocka_unit_test(test_batch_packing_random), cmocka_unit_test(test_batch_packing_drawing), \
    cmocka_unit_test(test_batch_packing_edges), \
    cmocka_unit_test(test_batch_outputs_as_alone), cmocka_unit_test(test_batch_outputs_extremes), \
    cmocka_unit_test(test_batch_any_order), cmocka_unit_test(test_batch_bad_batches), \
        cmocka_unit_test(test_batch_wrong_state)
