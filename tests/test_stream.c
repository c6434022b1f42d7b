/* >>stream: a step of a stream says what mtl_predict says of the whole sequence so far, for every kind of
   cell, mix, pooling and task; nothing is allocated; what cannot be streamed is refused by name. Included by
   tests/main.c. */

enum { STREAM_TASKS = 8, STREAM_SEQUENCES = 3, STREAM_STEPS = 9 };

/* A stream of a model in a buffer of its own. */
typedef struct stream_case {
    mtl_stream *stream;
    void *start;
} stream_case;

static mtl_stream *stream_open(stream_case *c, const mtl_model *model, const mtl_predictor_desc *how)
{
    mtl_error err = {0};
    const size_t bytes = mtl_stream_size(model, how, &err);
    void *buffer = test_aligned(bytes, &c->start);
    TEST_FINE(&err);
    memset(buffer, 0xa5, bytes);                            /* a caller's buffer holds anything */
    c->stream = mtl_stream_init(buffer, bytes, model, how, &err);
    TEST_FINE(&err);
    return c->stream;
}

/* The inputs of `steps` steps from `step` on of the caller's sequence s. */
static void stream_inputs(const mtl_model *model, const mtl_batch *batch, size_t s, size_t step,
                          mtl_input *out)
{
    const mtl_model_desc *d = mtl_model_describe(model);
    size_t i, first = step;
    for (i = 0; i < s; i++) first += (size_t)batch->lengths[i];
    for (i = 0; i < model->data_count; i++) {
        out[i].ids = batch->inputs[i].ids ? batch->inputs[i].ids + first : NULL;
        out[i].rows = batch->inputs[i].rows ? batch->inputs[i].rows + first * (size_t)d->inputs[i].features
            : NULL;
    }
}

static const mtl_real *stream_numbers(const mtl_prediction *p) { return p->logits ? p->logits
                                                                : test_outputs(p); }

/* The answer after step t of sequence s, against that of a predictor over steps 0 .. t. */
static void stream_expect(const mtl_model *model, mtl_predictor *predictor, const mtl_batch *batch, size_t s,
                          size_t t, const mtl_prediction *got)
{
    const mtl_model_desc *d = mtl_model_describe(model);
    mtl_prediction whole[STREAM_TASKS];
    mtl_input inputs[4];
    mtl_error err = {0};
    const int length = (int)t + 1;
    mtl_batch one;
    size_t k;
    memset(&one, 0, sizeof one);
    stream_inputs(model, batch, s, 0, inputs);
    one.sequences = 1;
    one.lengths = &length;
    one.inputs = inputs;
    mtl_predict(predictor, &one, whole, &err);
    TEST_FINE(&err);
    for (k = 0; k < d->task_count; k++) {
        const size_t at = d->tasks[k].level == MTL_LEVEL_STEP ? t : 0, width = whole[k].width;
        assert_int_equal(got[k].items, 1);
        assert_int_equal(got[k].width, width);
        assert_true(test_distance(stream_numbers(&got[k]), stream_numbers(&whole[k]) + at * width, width,
                                  0.1) < 5e-5);       /* norms of nearly even rows enlarge rounding */
        assert_int_equal(got[k].labels != NULL, whole[k].labels != NULL);
        assert_int_equal(got[k].chosen != NULL, whole[k].chosen != NULL);
        if (got[k].labels) assert_int_equal(got[k].labels[0], whole[k].labels[at]);
        if (got[k].chosen) assert_memory_equal(got[k].chosen, whole[k].chosen + at * width, width);
    }
}

/* All sequences of the batch by turns, twice, with the same bits; nothing is allocated. */
static void stream_check(const mtl_model *model, const mtl_batch *batch, int logits, int isa)
{
    const mtl_model_desc *d = mtl_model_describe(model);
    mtl_predictor_desc how = {0};
    mtl_predictor *predictor;
    mtl_error err = {0};
    mtl_input inputs[4];
    uint64_t hash[2] = { MTL__HASH_BEGIN, MTL__HASH_BEGIN };
    size_t allocated, s, t, k;
    stream_case c;
    int round;
    how.logits = logits;
    how.max_sequences = batch->sequences;
    how.isa = isa;
    predictor = mtl_predictor_create(model, &how, &err);
    stream_open(&c, model, &how);
    for (round = 0; round < 2; round++) {
        for (t = 0; t < STREAM_STEPS; t++)
            for (s = 0; s < batch->sequences; s++) {
                const mtl_prediction *got;
                if (t >= (size_t)batch->lengths[s]) continue;
                stream_inputs(model, batch, s, t, inputs);
                allocated = test_malloc_count;
                got = mtl_stream_step(c.stream, s, inputs, &err);
                TEST_FINE(&err);
                assert_int_equal(test_malloc_count, allocated);
                for (k = 0; k < d->task_count; k++)
                    hash[round] = mtl__hash(hash[round], (const char *)stream_numbers(&got[k]),
                                            got[k].width * sizeof(mtl_real));
                if (!round) stream_expect(model, predictor, batch, s, t, got);
            }
        for (s = 0; s < batch->sequences; s++) mtl_stream_reset(c.stream, s, &err);
    }
    assert_true(hash[0] == hash[1]);
    mtl_predictor_destroy(predictor);
    free(c.start);
}

/* Cells, stacks, columns over columns, ids and numbers, scales, hidden layers, every kind of task and pool.
   */
static void test_stream_models(void **state)
{
    static const int lengths[STREAM_SEQUENCES] = { STREAM_STEPS, 4, 7 };
    test_random r = test_random_from(5);
    int number, isa, cases = test_quick() ? 8 : 60;
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = test_shape_random(number, &r);
        mtl_real mean[8], scale[8];
        test_problem p;
        test_batch *b;
        mtl_error err = {0};
        mtl_model *model;
        size_t j;
        shape.bidirectional = 0;
        test_problem_create(&p, &shape);
        if (number % 3 == 1) p.tasks[TEST_CLASS].per_step = 1;
        p.desc.encoder.norm_input = number % 4 == 1;
        p.desc.encoder.norm_between = number % 3 == 1;
        p.desc.encoder.norm_output = number % 2;
        p.desc.encoder.residual = number % 3 == 2;
        p.tasks[TEST_CLASS].pool = MTL_POOL_LAST + number % 6;
        p.tasks[TEST_NUMBER].pool = MTL_POOL_LAST + (number + 4) % 6;
        p.tasks[TEST_NUMBER].pool_beside = number % 2 ? MTL_POOL_MAX : MTL_POOL_DEFAULT;
        p.inputs[0].scale = number % 2 ? 2.5f : 0;
        p.inputs[0].padding_zero = number % 4 == 2;
        b = test_batch_create(&p.desc, lengths, STREAM_SEQUENCES, 0, 0, 3);
        model = mtl_model_create(&p.desc, &err);
        TEST_FINE(&err);
        for (j = 0; j < 8; j++) mean[j] = (mtl_real)0.1 * (mtl_real)j, scale[j] = j == 1 ? 0 : (mtl_real)1.5;
        if (shape.features) mtl_model_set_feature_scale(model, 1, mean, scale, &err);
        mtl_model_set_target_scale(model, TEST_CURVE, mean, scale, &err);
        TEST_FINE(&err);
        model_enlarge(model, 2);
        for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++)
            if (mtl__isa_supported(isa)) stream_check(model, &b->batch, number % 5 == 2, isa);
        mtl_model_destroy(model);
        test_batch_destroy(b);
        test_problem_destroy(&p);
    }
}

/* Every way to share, so every mix. */
static void test_stream_sharing(void **state)
{
    static const int lengths[STREAM_SEQUENCES] = { STREAM_STEPS, 4, 7 };
    int share, variant, streamed = 0, refused = 0;
    (void)state;
    for (share = MTL_SHARE_FULL; share <= MTL_SHARE_STACK; share++)
        for (variant = 0; variant < 6; variant++) {
            sharing_plain p;
            test_batch *b;
            mtl_error err = {0};
            mtl_model *model;
            sharing_fill(&p, share, variant);
            p.how.attention = 0;                            /* looks at steps to come */
            p.desc.encoder.bidirectional = 0;
            p.how.per_sequence = 0;
            p.how.attention = 0;                            /* which looks ahead */
            mtl_share(&p.how, &p.desc, &p.shared, &p.arena, &err);
            model = mtl_model_create(&p.shared, &err);
            TEST_FINE(&err);
            model_enlarge(model, 2);
            b = test_batch_create(&p.shared, lengths, STREAM_SEQUENCES, 0, 0, 3);
            if (mtl_stream_size(model, NULL, &err)) {
                stream_check(model, &b->batch, 0, MTL_ISA_AUTO);
                streamed++;
            } else {                                        /* a level above that of an intent */
                assert_int_equal(share, MTL_SHARE_HIERARCHICAL);
                test_expect_error(&err, MTL_ERROR_UNSUPPORTED, NULL, "which is known at a sequence's end");
                refused++;
            }
            mtl_model_destroy(model);
            mtl_arena_destroy(&p.arena);
            test_batch_destroy(b);
        }
    assert_true(streamed >= 70 && refused > 0);
}

/* What reads backwards, or the whole sequence, is named. */
static void test_stream_refused(void **state)
{
    sharing_plain p;
    test_shape shape = {0};
    test_problem q;
    mtl_error err = {0};
    mtl_model *model;
    (void)state;
    shape.bidirectional = 1;
    test_problem_create(&q, &shape);
    model = mtl_model_create(&q.desc, &err);
    assert_int_equal(mtl_stream_size(model, NULL, &err), 0);
    test_expect_error(&err, MTL_ERROR_UNSUPPORTED, "encoder",
                      "column encoder cannot be streamed: it reads backwards");
    mtl_model_destroy(model);
    test_problem_destroy(&q);
    sharing_fill(&p, MTL_SHARE_MMOE, 2);                    /* gates a sequence */
    p.desc.encoder.bidirectional = 0;
    p.how.per_sequence = 1;
    mtl_share(&p.how, &p.desc, &p.shared, &p.arena, &err);
    model = mtl_model_create(&p.shared, &err);
    TEST_FINE(&err);
    assert_int_equal(mtl_stream_size(model, NULL, &err), 0);
    test_expect_error(&err, MTL_ERROR_UNSUPPORTED, "tags", "one gate a sequence");
    mtl_model_destroy(model);
    mtl_arena_destroy(&p.arena);
}

/* Inputs that cannot be read, sequences that there are not, buffers that are too small; what was refused has
   changed nothing. */
static void test_stream_errors(void **state)
{
    test_shape shape = {0};
    test_problem p;
    mtl_error err = {0};
    mtl_model *model;
    stream_case c, twin;
    int id = 3, wrong = TEST_VOCABULARY;
    mtl_real rows[3] = { 1, 2, 3 };
    mtl_input inputs[2] = { { NULL, NULL, NULL }, { NULL, NULL, NULL } };
    mtl_predictor_desc how = {0};
    char small[64];
    mtl_real before[64];
    size_t width;
    (void)state;
    shape.features = 3;
    test_problem_create(&p, &shape);
    model = mtl_model_create(&p.desc, &err);
    how.max_sequences = 2;
    stream_open(&c, model, &how);
    stream_open(&twin, model, &how);
    inputs[0].ids = &id;
    inputs[1].rows = rows;
    memcpy(before, mtl_stream_step(twin.stream, 1, inputs, &err)[TEST_TAGS].probabilities,
           5 * sizeof *before);
    inputs[0].ids = &wrong;
    assert_null(mtl_stream_step(c.stream, 1, inputs, &err));
    test_expect_error(&err, MTL_ERROR_RANGE, "words", "id 23 of sequence 1");
    inputs[0].ids = &id;
    rows[1] = mtl__nan();
    assert_null(mtl_stream_step(c.stream, 1, inputs, &err));
    test_expect_error(&err, MTL_ERROR_NUMBER, "numbers", "column 1 of sequence 1");
    rows[1] = 2;
    assert_null(mtl_stream_step(c.stream, 2, inputs, &err));
    test_expect_error(&err, MTL_ERROR_RANGE, "sequence", "sequence 2 of a stream of 2");
    assert_memory_equal(mtl_stream_step(c.stream, 1, inputs, &err)[TEST_TAGS].probabilities, before,
                        5 * sizeof *before);
    TEST_FINE(&err);
    assert_null(mtl_stream_init(small, sizeof small, model, &how, &err));
    width = (size_t)err.position;
    test_expect_error(&err, MTL_ERROR_BUFFER, "buffer", "a stream needs a buffer of");
    assert_int_equal(width, mtl_stream_size(model, &how, NULL));
    mtl_model_tensor(model, "tags.output.bias")->value[0] = mtl__nan();
    mtl_model_prepare(model, &err);
    assert_null(mtl_stream_step(c.stream, 0, inputs, &err));
    test_expect_error(&err, MTL_ERROR_NUMBER, "tags", "an output of sequence 0");
    mtl_model_destroy(model);
    test_problem_destroy(&p);
    free(c.start);
    free(twin.start);
}

#define TEST_STREAM \
    cmocka_unit_test(test_stream_models), cmocka_unit_test(test_stream_sharing), \
    cmocka_unit_test(test_stream_refused), cmocka_unit_test(test_stream_errors)
