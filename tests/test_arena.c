/* Section 6: the arena, and the promise that the sizes of models, trainers and predictors are exact. */

/* ---- the arena itself ---------------------------------------------------------------------------------- */

static void test_arena_alignment_and_contents(void **state)
{
    mtl_arena arena;
    unsigned char *blocks[200];
    size_t sizes[200], used = 0, i, k;
    test_random r = test_random_from(1);
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    for (i = 0; i < 200; i++) {
        sizes[i] = i % 10 ? (size_t)test_random_between(&r, 0, 5000)
            : (size_t)test_random_between(&r, 60000, 300000);
        blocks[i] = (unsigned char *)mtl_arena_push(&arena, sizes[i]);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 64, 0);
        memset(blocks[i], (int)i, sizes[i]);
        used += (sizes[i] + 63) / 64 * 64;
        assert_int_equal(arena.used, used);
        assert_int_equal(arena.high_water, used);
    }
    for (i = 0; i < 200; i++)
        for (k = 0; k < sizes[i]; k++) assert_int_equal(blocks[i][k], i % 256);     /* nobody wrote into it */
    mtl_arena_destroy(&arena);
}

static void test_arena_mark_and_release(void **state)
{
    mtl_arena arena;
    mtl_arena_mark outer, inner;
    unsigned char *first, *again;
    size_t live = test_malloc_live, with_outer;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    assert_non_null(mtl_arena_push(&arena, 100));
    outer = mtl_arena_save(&arena);
    first = (unsigned char *)mtl_arena_push(&arena, 800);
    with_outer = test_malloc_live;
    inner = mtl_arena_save(&arena);
    assert_non_null(mtl_arena_push(&arena, 500000));                        /* needs chunks of its own */
    assert_non_null(mtl_arena_push(&arena, 5000000));
    assert_true(test_malloc_live > with_outer);
    mtl_arena_release(&arena, inner);
    assert_int_equal(test_malloc_live, with_outer);                         /* they are given back */
    assert_int_equal(arena.used, 128 + 832);
    mtl_arena_release(&arena, outer);
    assert_int_equal(arena.used, 128);
    assert_int_equal(arena.high_water, 128 + 832 + 500032 + 5000000);      /* the mark stays */
    again = (unsigned char *)mtl_arena_push(&arena, 10);
    assert_ptr_equal(again, first);                                  /* the same memory is handed out again */
    mtl_arena_destroy(&arena);
    assert_int_equal(test_malloc_live, live);
}

/* Everything since a mark that was taken on an empty arena. */
static void test_arena_release_all(void **state)
{
    mtl_arena arena;
    mtl_arena_mark empty;
    size_t live = test_malloc_live;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    empty = mtl_arena_save(&arena);
    assert_non_null(mtl_arena_push(&arena, 70000));
    mtl_arena_release(&arena, empty);
    assert_int_equal(test_malloc_live, live);
    assert_int_equal(arena.used, 0);
    assert_non_null(mtl_arena_push(&arena, 70000));
    mtl_arena_destroy(&arena);
    assert_int_equal(test_malloc_live, live);
}

static void test_arena_callers_buffer(void **state)
{
    unsigned char buffer[64 * 9 + 63];
    size_t count = test_malloc_count, skip;
    mtl_arena arena;
    (void)state;
    mtl_arena_init(&arena, buffer, sizeof buffer, NULL);
    assert_int_equal((uintptr_t)mtl_arena_push(&arena, 1) % 64, 0);
    assert_non_null(mtl_arena_push(&arena, 0));
    assert_non_null(mtl_arena_push(&arena, 8 * 64));
    skip = (64 - (uintptr_t)buffer % 64) % 64;
    assert_true(skip + 9 * 64 <= sizeof buffer);
    assert_null(mtl_arena_push(&arena, 64));                            /* full: nothing is taken elsewhere */
    assert_null(mtl_arena_push(&arena, (size_t)-1));
    assert_null(mtl_arena_push(&arena, (size_t)-1 / 4));
    assert_int_equal(arena.used, 9 * 64);
    mtl_arena_destroy(&arena);
    assert_int_equal(test_malloc_count, count);
    mtl_arena_init(&arena, buffer, 0, NULL);
    assert_null(mtl_arena_push(&arena, 1));
}

static void test_arena_fail_next(void **state)
{
    mtl_arena arena;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    mtl_arena_fail_next(&arena, 3);
    assert_non_null(mtl_arena_push(&arena, 8));
    assert_non_null(mtl_arena_push(&arena, 8));
    assert_null(mtl_arena_push(&arena, 8));
    assert_int_equal(arena.used, 128);
    assert_non_null(mtl_arena_push(&arena, 8));                             /* only once */
    mtl_arena_fail_next(&arena, 1);
    mtl_arena_fail_next(&arena, 0);
    assert_non_null(mtl_arena_push(&arena, 8));
    mtl_arena_destroy(&arena);
}

static void test_arena_out_of_memory(void **state)
{
    mtl_arena arena;
    size_t used;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    assert_non_null(mtl_arena_push(&arena, 100));
    used = arena.used;
    test_malloc_fail_at = 1;
    assert_null(mtl_arena_push(&arena, 1000000));
    assert_int_equal(test_malloc_fail_at, 0);
    assert_int_equal(arena.used, used);
    assert_non_null(mtl_arena_push(&arena, 1000000));
    assert_null(mtl_arena_push(&arena, (size_t)-1 / 8));                    /* more than there can be */
    mtl_arena_destroy(&arena);
}

/* An allocator of the caller's. */
typedef struct arena_allocator { size_t taken, given_back; } arena_allocator;
static void *arena_allocate(void *user, size_t bytes)
{
    ((arena_allocator *)user)->taken++;
    return malloc(bytes);
}
static void arena_give_back(void *user, void *memory)
{
    ((arena_allocator *)user)->given_back++;
    free(memory);
}

static void test_arena_callers_allocator(void **state)
{
    arena_allocator mine = { 0, 0 };
    mtl_allocator allocator = { &mine, arena_allocate, arena_give_back };
    mtl_arena arena;
    size_t count = test_malloc_count, i;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, &allocator);
    for (i = 0; i < 100; i++) assert_non_null(mtl_arena_push(&arena, 40000));
    assert_true(mine.taken > 1 && mine.taken < 20);                         /* chunks double */
    mtl_arena_destroy(&arena);
    assert_int_equal(mine.given_back, mine.taken);
    assert_int_equal(test_malloc_count, count);
}

/* An arena that chained chunks takes one when it is emptied, and none after that. */
static void test_arena_reset_settles(void **state)
{
    mtl_arena arena;
    size_t round, i, count = 0;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    for (round = 0; round < 4; round++) {
        if (round == 2) count = test_malloc_count;
        mtl__arena_reset(&arena);
        assert_int_equal(arena.used, 0);
        for (i = 0; i < 60; i++) assert_non_null(mtl_arena_push(&arena, 33333));
    }
    assert_int_equal(test_malloc_count, count);
    mtl_arena_destroy(&arena);
}

/* ---- exact sizes --------------------------------------------------------------------------------------- */

/* Batches at and within limits of `rows` rows, `sequences` sequences and `steps` steps, for any desc. number
   0 .. ARENA_BATCHES
   - 1. */
enum { ARENA_BATCHES = 8 };
static test_batch *arena_batch(const mtl_model_desc *desc, int number, int rows, int sequences, int steps)
{
    int *lengths = (int *)malloc((size_t)rows * sizeof *lengths), count = 0, left = rows;
    test_random r = test_random_from((unsigned long long)number + 5);
    test_batch *b;
    assert_non_null(lengths);
    for (; left > 0 && count < sequences; count++) {
        int longest = left < steps ? left : steps, length;
        switch (number) {
        case 0: length = longest; break;                                    /* as few and as long as can be */
        case 1: length = 1; break;                                        /* as many as can be, of one step */
        /* as many and as many rows as can be */
        case 2: length = (left + sequences - count - 1) / (sequences - count); break;
        case 3: length = count ? 1 : longest; break;                    /* one long one and many short ones */
        default: length = test_random_between(&r, 1, longest); break;
        }
        lengths[count] = length > longest ? longest : length;
        left -= lengths[count];
    }
    b = test_batch_create(desc, lengths, count, 0, number == 7 ? 0.6 : 0, (unsigned long long)number);
    free(lengths);
    return b;
}

typedef struct arena_case {
    test_problem problem;
    mtl_model *model;
    int rows, sequences, steps;
    void *memory[3];                        /* of the model, the trainer, the predictor: for free */
} arena_case;

/* The model in exactly the bytes that were asked for, and 64 fewer are refused with the size in the
   message. */
static void arena_case_model(arena_case *c, mtl_error *err)
{
    size_t bytes = mtl_model_size(&c->problem.desc, err), count;
    unsigned char *memory;
    char digits[32];
    TEST_FINE(err);
    memory = (unsigned char *)test_aligned(bytes + 64, &c->memory[0]);
    memset(memory + bytes, 0x77, 64);
    assert_null(mtl_model_init(memory, bytes - 64, &c->problem.desc, err));
    assert_int_equal(err->position, (long long)bytes);
    snprintf(digits, sizeof digits, "%lu bytes", (unsigned long)bytes);
    test_expect_error(err, MTL_ERROR_BUFFER, "buffer", digits);
    assert_null(mtl_model_init(memory + 8, bytes, &c->problem.desc, err));
    test_expect_error(err, MTL_ERROR_BUFFER, "buffer", "aligned to 64");
    assert_null(mtl_model_init(NULL, bytes, &c->problem.desc, err));
    test_expect_error(err, MTL_ERROR_BUFFER, "buffer", digits);
    count = test_malloc_live;
    c->model = mtl_model_init(memory, bytes, &c->problem.desc, err);
    TEST_FINE(err);
    assert_int_equal(test_malloc_live, count);
    assert_int_equal(c->model->arena.used, bytes);                          /* all of it is needed */
    for (count = 0; count < 64; count++) assert_int_equal(memory[bytes + count], 0x77);
}

static void arena_case_train(arena_case *c, const mtl_trainer_desc *desc, mtl_error *err)
{
    size_t bytes = mtl_trainer_size(c->model, desc, err), count, i;
    unsigned char *memory;
    mtl_trainer *trainer;
    char digits[32];
    int n;
    TEST_FINE(err);
    memory = (unsigned char *)test_aligned(bytes + 64, &c->memory[1]);
    memset(memory + bytes, 0x77, 64);
    assert_null(mtl_trainer_init(memory, bytes - 64, c->model, desc, err));
    snprintf(digits, sizeof digits, "%lu bytes", (unsigned long)bytes);
    test_expect_error(err, MTL_ERROR_BUFFER, "buffer", digits);
    trainer = mtl_trainer_init(memory, bytes, c->model, desc, err);
    TEST_FINE(err);
    for (n = 0; n < ARENA_BATCHES; n++) {
        test_batch *b = arena_batch(&c->problem.desc, n, c->rows, c->sequences, c->steps);
        const mtl_batch two[2] = { b->batch, b->batch };
        mtl_state *carried;
        count = test_malloc_count;
        mtl_train_step(trainer, &b->batch, 1, NULL, err);
        mtl_train_step(trainer, two, 2, NULL, err);
        if (err->code) fail_msg("batch %d (%d sequences, %d rows): %s", n, (int)b->batch.sequences,
                                (int)b->rows, err->message);
        assert_int_equal(test_malloc_count, count);
        carried = mtl_state_create(c->model, b->batch.sequences, err);
        b->batch.state = carried;
        count = test_malloc_count;
        mtl_train_step(trainer, &b->batch, 1, NULL, err);
        if (err->code) fail_msg("batch %d with states: %s", n, err->message);
        assert_int_equal(test_malloc_count, count);
        mtl_state_destroy(carried);
        test_batch_destroy(b);
    }
    for (i = 0; i < 64; i++) assert_int_equal(memory[bytes + i], 0x77);
    mtl_trainer_destroy(trainer);
}

static void arena_case_predict(arena_case *c, const mtl_predictor_desc *desc, mtl_error *err)
{
    size_t bytes = mtl_predictor_size(c->model, desc, err), count, i;
    unsigned char *memory;
    mtl_predictor *predictor;
    mtl_prediction out[TEST_TASKS_COUNT];
    char digits[32];
    int n;
    TEST_FINE(err);
    memory = (unsigned char *)test_aligned(bytes + 64, &c->memory[2]);
    memset(memory + bytes, 0x77, 64);
    assert_null(mtl_predictor_init(memory, bytes - 64, c->model, desc, err));
    snprintf(digits, sizeof digits, "%lu bytes", (unsigned long)bytes);
    test_expect_error(err, MTL_ERROR_BUFFER, "buffer", digits);
    predictor = mtl_predictor_init(memory, bytes, c->model, desc, err);
    TEST_FINE(err);
    for (n = 0; n < ARENA_BATCHES; n++) {
        test_batch *b = arena_batch(&c->problem.desc, n, c->rows, c->sequences, c->steps);
        mtl_state *carried = mtl_state_create(c->model, b->batch.sequences, err);
        count = test_malloc_count;
        mtl_predict(predictor, &b->batch, out, err);
        b->batch.state = carried;
        mtl_predict(predictor, &b->batch, out, err);
        if (err->code) fail_msg("batch %d (%d sequences, %d rows): %s", n, (int)b->batch.sequences,
                                (int)b->rows, err->message);
        assert_int_equal(test_malloc_count, count);
        mtl_state_destroy(carried);
        test_batch_destroy(b);
    }
    for (i = 0; i < 64; i++) assert_int_equal(memory[bytes + i], 0x77);
    mtl_predictor_destroy(predictor);
}

/* Freezes none; every third tensor; all but the last heads; all. */
static void arena_freeze(mtl_model *model, int number)
{
    const mtl_parameters *set = mtl_model_parameters(model);
    size_t i;
    for (i = 0; i < set->count; i++)
        set->tensors[i]->frozen = number % 4 == 1 ? i % 3 == 0 : number % 4 == 2 ? i + 6 < set->count
            : number % 4 == 3;
}

static void test_arena_exact_sizes(void **state)
{
    test_random r = test_random_from(2);
    int number, cases = test_cases(60), i;
    (void)state;
    for (number = 0; number < cases; number++) {
        test_shape shape = test_shape_random(number, &r);
        mtl_trainer_desc training;
        mtl_predictor_desc predicting;
        mtl_error err = {0};
        arena_case c;
        memset(&c, 0, sizeof c);
        memset(&training, 0, sizeof training);
        memset(&predicting, 0, sizeof predicting);
        shape.dropout = number % 2 ? 0.2 : 0;
        test_problem_create(&c.problem, &shape);
        c.rows = test_random_between(&r, 1, 90);
        c.sequences = c.steps = c.rows;
        if (number % 3) {
            training.max_sequences = predicting.max_sequences =
                (size_t)(c.sequences = test_random_between(&r, 1, c.rows));
            training.max_steps = predicting.max_steps =
                (size_t)(c.steps = test_random_between(&r, 1, c.rows));
        }
        /* batch 2 reaches all three at once */
        if (number % 3 == 1) c.rows = c.sequences * (c.steps = 1 + c.steps % 9);
        if (number % 3 == 1) training.max_steps = predicting.max_steps = (size_t)c.steps;
        training.max_rows = predicting.max_rows = (size_t)c.rows;
        training.optimizer = 1 + number % 4;
        training.momentum = number % 2 ? 0.5f : 0;
        training.precision = number % 5 < 2 ? MTL_PRECISION_BF16 : MTL_PRECISION_F32;
        training.isa = number % 5 < 2 ? test_bf16_isa() : MTL_ISA_AUTO;
        training.average = number % 5 ? 0 : 0.9f;
        training.lazy = number % 7 == 1;
        training.threads = predicting.threads = number % 6 == 5 ? 3 : 1;
        training.lr = 1e-3f;
        arena_case_model(&c, &err);
        arena_freeze(c.model, number / 5);
        arena_case_train(&c, &training, &err);
        arena_case_predict(&c, &predicting, &err);
        mtl_model_destroy(c.model);
        for (i = 0; i < 3; i++) free(c.memory[i]);
        test_problem_destroy(&c.problem);
    }
}

/* Sizes are no guesses: a batch that reaches all three limits at once, with states carried, uses a
   predictor's scratch to the last byte (but for what only a text needs) and nearly all of a trainer's, where
   a label is missing in each task. */
static void test_arena_sizes_are_tight(void **state)
{
    enum { SEQUENCES = 7, STEPS = 12, ROWS = SEQUENCES * STEPS };
    static const int lengths[SEQUENCES] = { STEPS, STEPS, STEPS, STEPS, STEPS, STEPS, STEPS };
    int number;
    (void)state;
    for (number = 0; number < (test_quick() ? 4 : 12); number++) {
        test_shape shape = {0};
        mtl_error err = {0};
        mtl_trainer_desc training = {0};
        mtl_predictor_desc predicting = {0};
        mtl_prediction out[TEST_TASKS_COUNT];
        test_problem p;
        test_batch *b;
        mtl_model *model;
        mtl_trainer *trainer;
        mtl_predictor *predictor;
        mtl_state *carried;
        mtl_arena sets;
        mtl_gradients *of[TEST_TASKS_COUNT];
        size_t text, size, k;
        shape.cell = 1 + number % 3;
        shape.bidirectional = number / 3 % 2;
        shape.two_columns = number / 6;
        shape.hidden = 20;
        shape.features = number % 2 ? 3 : 0;
        shape.dropout = 0.1;
        test_problem_create(&p, &shape);
        b = test_batch_create(&p.desc, lengths, SEQUENCES, 0, 0, 1);
        training.max_rows = predicting.max_rows = ROWS;
        training.max_sequences = predicting.max_sequences = SEQUENCES;
        training.max_steps = predicting.max_steps = STEPS;
        model = mtl_model_create(&p.desc, &err);
        if (number % 2) mtl_model_freeze(model, number % 4 == 1 ? "words" : "", 1);
        if (number % 4 == 3) mtl_model_freeze(model, "tags", 0);
        trainer = mtl_trainer_create(model, &training, &err);
        predictor = mtl_predictor_create(model, &predicting, &err);
        carried = mtl_state_create(model, SEQUENCES, &err);
        b->batch.state = carried;
        test_labels(b, TEST_CLASS)[0] = MTL_MISSING;
        test_labels(b, TEST_TAGS)[0] = MTL_MISSING;
        test_numbers(b, TEST_NUMBER)[0] = test_nan();
        test_numbers(b, TEST_CURVE)[0] = test_nan();
        test_numbers(b, TEST_SHARE)[0] = test_nan();
        test_numbers(b, TEST_SET)[0] = test_nan();
        mtl_predict(predictor, &b->batch, out, &err);
        mtl_arena_init(&sets, NULL, 0, NULL);
        for (k = 0; k < TEST_TASKS_COUNT; k++)
            of[k] = mtl_gradients_create(mtl_model_parameters(model), &sets, &err);
        mtl_train_step(trainer, &b->batch, 1, NULL, &err);
        mtl_train_task_gradients(trainer, &b->batch, 1, of, NULL, &err);    /* needs more than a step */
        TEST_FINE(&err);
        mtl_arena_destroy(&sets);
        text = 64 + p.desc.input_count * ((ROWS * sizeof(int) + 63) / 64 * 64);
        size = mtl_predictor_size(model, &predicting, &err) - predictor->session.arena.used;
        assert_int_equal(predictor->session.scratch.high_water + text, size);
        size = mtl_trainer_size(model, &training, &err) - trainer->session.arena.used;
        TEST_FINE(&err);
        if (trainer->session.scratch.high_water > size)
            fail_msg("case %d: %d bytes are used, %d were foretold", number,
                     (int)trainer->session.scratch.high_water, (int)size);
        assert_true((double)trainer->session.scratch.high_water > 0.97 * (double)size);
        mtl_state_destroy(carried);
        mtl_predictor_destroy(predictor);
        mtl_trainer_destroy(trainer);
        mtl_model_destroy(model);
        test_batch_destroy(b);
        test_problem_destroy(&p);
    }
}

/* Trainers and predictors of mtl_..._create keep the promise too: with limits there is no malloc after
   creation, without limits there is none any more once the largest batch has been seen. */
static void test_arena_no_malloc_after_creation(void **state)
{
    int limited, n;
    (void)state;
    for (limited = 0; limited < 2; limited++) {
        test_shape shape = {0};
        mtl_trainer_desc training = {0};
        mtl_predictor_desc predicting = {0};
        mtl_error err = {0};
        mtl_prediction out[TEST_TASKS_COUNT];
        mtl_model *model;
        mtl_trainer *trainer;
        mtl_predictor *predictor;
        test_problem p;
        size_t count;
        int round;
        shape.layers = 2;
        shape.dropout = 0.1;
        test_problem_create(&p, &shape);
        if (limited) training.max_rows = predicting.max_rows = 80;
        model = mtl_model_create(&p.desc, &err);
        trainer = mtl_trainer_create(model, &training, &err);
        predictor = mtl_predictor_create(model, &predicting, &err);
        TEST_FINE(&err);
        count = test_malloc_count;
        for (round = 0; round < 3; round++) {
            if (!limited && round == 2) count = test_malloc_count;
            for (n = 0; n < ARENA_BATCHES; n++) {
                test_batch *b = arena_batch(&p.desc, n, 80, 80, 80);
                mtl_train_step(trainer, &b->batch, 1, NULL, &err);
                mtl_predict(predictor, &b->batch, out, &err);
                TEST_FINE(&err);
                test_batch_destroy(b);
            }
        }
        assert_int_equal(test_malloc_count, count);
        mtl_predictor_destroy(predictor);
        mtl_trainer_destroy(trainer);
        mtl_model_destroy(model);
        test_problem_destroy(&p);
    }
}

/* One more than each limit is refused, by name, and a batch at the limit still works afterwards. */
static void test_arena_beyond_limits(void **state)
{
    static const int rows[] = { 4, 4, 3 }, many[] = { 2, 2, 2, 2, 1 }, steps[] = { 6 };
    const struct { const int *lengths; int sequences; const char *name; long long position; } cases[] = {
        { rows, 3, "max_rows", 11 }, { many, 5, "max_sequences", 5 }, { steps, 1, "max_steps", 6 },
    };
    const test_shape shape = {0};
    mtl_trainer_desc training = {0};
    mtl_predictor_desc predicting = {0};
    mtl_error err = {0};
    mtl_prediction out[TEST_TASKS_COUNT];
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_predictor *predictor;
    test_problem p;
    size_t i;
    (void)state;
    test_problem_create(&p, &shape);
    training.max_rows = predicting.max_rows = 10;
    training.max_sequences = predicting.max_sequences = 4;
    training.max_steps = predicting.max_steps = 5;
    model = mtl_model_create(&p.desc, &err);
    trainer = mtl_trainer_create(model, &training, &err);
    predictor = mtl_predictor_create(model, &predicting, &err);
    TEST_FINE(&err);
    for (i = 0; i < 3; i++) {
        test_batch *b = test_batch_create(&p.desc, cases[i].lengths, cases[i].sequences, 0, 0, 1);
        mtl_real *weights = test_weights_copy(model);
        mtl_train_step(trainer, &b->batch, 1, NULL, &err);
        assert_int_equal(err.position, cases[i].position);
        test_expect_error(&err, MTL_ERROR_LIMIT, cases[i].name, cases[i].name);
        mtl_predict(predictor, &b->batch, out, &err);
        assert_int_equal(err.position, cases[i].position);
        test_expect_error(&err, MTL_ERROR_LIMIT, cases[i].name, cases[i].name);
        assert_true(test_weights_equal(model, weights));
        free(weights);
        test_batch_destroy(b);
        b = test_batch_create(&p.desc, many + 1, 4, 0, 0, 1);
        mtl_train_step(trainer, &b->batch, 1, NULL, &err);
        mtl_predict(predictor, &b->batch, out, &err);
        TEST_FINE(&err);
        test_batch_destroy(b);
    }
    assert_int_equal(mtl_trainer_size(model, NULL, &err), 0);
    test_expect_error(&err, MTL_ERROR_FIELD, "trainer.max_rows", "max_rows");
    assert_int_equal(mtl_predictor_size(model, NULL, &err), 0);
    test_expect_error(&err, MTL_ERROR_FIELD, "predictor.max_rows", "max_rows");
    mtl_predictor_destroy(predictor);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    test_problem_destroy(&p);
}

/* An allocator over a buffer: blocks in any order, the last one's place is free again, then all of it. */
static void test_arena_scratch(void **state)
{
    unsigned char buffer[1024 + 15];
    mtl_scratch scratch;
    mtl_allocator from = mtl_scratch_init(&scratch, buffer, sizeof buffer);
    unsigned char *a, *b, *c;
    (void)state;
    a = (unsigned char *)from.allocate(from.user, 100);
    b = (unsigned char *)from.allocate(from.user, 200);
    assert_true(a && b && (uintptr_t)a % 16 == 0 && (uintptr_t)b % 16 == 0 && b >= a + 100);
    assert_null(from.allocate(from.user, 700));
    assert_null(from.allocate(from.user, (size_t)-1));
    from.release(from.user, b);
    c = (unsigned char *)from.allocate(from.user, 700);
    assert_ptr_equal(c, b);
    from.release(from.user, a);                             /* not the last one: its place waits */
    assert_null(from.allocate(from.user, 300));
    from.release(from.user, c);
    assert_int_equal(scratch.used, 0);
    assert_true(scratch.peak >= 800 && scratch.peak <= 1024);
    assert_ptr_equal(from.allocate(from.user, 1000), a);
}

/* A model's life without a heap: loaded, asked, streamed, one head learnt, saved and loaded again, in buffers
   of exactly the sizes that were told, and a scratch buffer for what is borrowed. */
static void test_arena_without_a_heap(void **state)
{
    enum { SCRATCH = 256 * 1024 };
    test_shape shape = {0};
    mtl_error err = {0};
    mtl_load_desc loading = { 0 };
    mtl_predictor_desc asking = { 0 };
    mtl_trainer_desc training = { 0 };
    mtl_prediction before[TEST_TASKS_COUNT], after[TEST_TASKS_COUNT];
    test_file file = { 0 }, saved = { 0 };
    mtl_writer writer = test_file_writer(&file);
    mtl_scratch scratch;
    mtl_allocator from;
    void *starts[7], *buffer, *begin = malloc(SCRATCH);
    size_t bytes, allocated, i;
    test_problem p;
    mtl_model *model;
    mtl_predictor *predictor;
    mtl_trainer *trainer;
    (void)state;
    shape.hidden = 8;
    test_problem_create(&p, &shape);
    model = mtl_model_create(&p.desc, &err);
    mtl_model_write(model, NULL, &writer, &err);
    mtl_model_destroy(model);
    TEST_FINE(&err);
    from = mtl_scratch_init(&scratch, begin, SCRATCH);
    loading.allocator = asking.allocator = training.allocator = &from;
    asking.max_rows = training.max_rows = p.data->rows;
    allocated = test_malloc_count;
    test_malloc_refuses = 1;
    bytes = mtl_model_file_size(file.bytes, file.used, &loading, &err);
    buffer = test_aligned(bytes, &starts[0]);
    assert_null(mtl_model_load_init(buffer, bytes - 1, file.bytes, file.used, &loading, &err));
    assert_int_equal(err.position, bytes);
    test_expect_error(&err, MTL_ERROR_BUFFER, "buffer", "the file's model needs a buffer of");
    model = mtl_model_load_init(buffer, bytes, file.bytes, file.used, &loading, &err);
    TEST_FINE(&err);
    assert_true(mtl_model_bytes(model) < bytes);
    assert_int_equal(mtl_model_bytes(model), mtl_model_size(mtl_model_describe(model), &err));
    bytes = mtl_predictor_size(model, &asking, &err);
    predictor = mtl_predictor_init(test_aligned(bytes, &starts[1]), bytes, model, &asking, &err);
    mtl_predict(predictor, p.batch, before, &err);
    TEST_FINE(&err);
    bytes = mtl_stream_size(model, &asking, &err);
    assert_non_null(mtl_stream_step(mtl_stream_init(test_aligned(bytes, &starts[2]), bytes, model, &asking,
                                                    &err),
                                    0, p.batch->inputs, &err));
    mtl_model_freeze(model, "", 1);
    mtl_model_freeze(model, "class.", 0);
    bytes = mtl_trainer_size(model, &training, &err);
    trainer = mtl_trainer_init(test_aligned(bytes, &starts[3]), bytes, model, &training, &err);
    for (i = 0; i < 3; i++) mtl_train_step(trainer, p.batch, 1, NULL, &err);
    TEST_FINE(&err);
    writer = test_file_writer(&saved);
    mtl_model_write(model, trainer, &writer, &err);
    bytes = mtl_model_file_size(saved.bytes, saved.used, &loading, &err);
    model = mtl_model_load_init(test_aligned(bytes, &starts[4]), bytes, saved.bytes, saved.used, &loading,
                                &err);
    TEST_FINE(&err);
    asking.max_rows = 0;                                    /* grows in the scratch buffer */
    predictor = mtl_predictor_create(model, &asking, &err);
    mtl_predict(predictor, p.batch, after, &err);
    TEST_FINE(&err);
    assert_memory_equal(after[TEST_TAGS].labels, before[TEST_TAGS].labels, p.data->rows * sizeof(int));
    mtl_predictor_destroy(predictor);
    assert_int_equal(scratch.blocks, 0);
    bytes = mtl_model_size(mtl_model_describe(model), &err);    /* which has the allocator, .. */
    p.desc.allocator = NULL;                                /* .. and an init measures in its own buffer */
    model = mtl_model_init(test_aligned(bytes, &starts[5]), bytes, &p.desc, &err);
    TEST_FINE(&err);
    asking.max_rows = training.max_rows = p.data->rows;
    bytes = mtl_trainer_size(model, &training, &err);
    asking.allocator = training.allocator = NULL;
    trainer = mtl_trainer_init(test_aligned(bytes, &starts[6]), bytes, model, &training, &err);
    mtl_train_step(trainer, p.batch, 1, NULL, &err);
    TEST_FINE(&err);
    assert_int_equal(test_malloc_count, allocated);         /* malloc was not even asked */
    test_malloc_refuses = 0;
    for (i = 0; i < 7; i++) free(starts[i]);
    free(begin);
    free(file.bytes);
    free(saved.bytes);
    test_problem_destroy(&p);
}

/* What a sensor's model takes of the heap: GRU 32 over 16 numbers, heads of 6 classes, a number, 3 classes.
   */
static void test_arena_peaks(void **state)
{
    enum { STATES = 1000 };
    static mtl_state *states[STATES];
    const size_t before = test_malloc_bytes, most = MTL__REAL_IS_DOUBLE ? 150 * 1024 : 95 * 1024;
    mtl_input_desc input = { 0 };
    mtl_task_desc tasks[3] = { { 0 } };
    mtl_model_desc desc = { 0 };
    mtl_error err = {0};
    mtl_prediction out[3];
    mtl_real rows[16] = { 0 };
    const int length = 1;
    mtl_input given = { NULL, rows, NULL };
    mtl_batch batch = { 0 };
    test_file file = { 0 };
    mtl_writer writer = test_file_writer(&file);
    mtl_model *model;
    mtl_predictor *predictor;
    size_t i;
    (void)state;
    input.name = "samples";
    input.features = 16;
    for (i = 0; i < 3; i++) tasks[i].level = MTL_LEVEL_STEP;
    tasks[0].name = "phase", tasks[0].classes = 6;
    tasks[1].name = "load", tasks[1].kind = MTL_TASK_REAL;
    tasks[2].name = "fault", tasks[2].classes = 3;
    desc.inputs = &input, desc.input_count = 1;
    desc.tasks = tasks, desc.task_count = 3;
    desc.encoder.cell = MTL_CELL_GRU, desc.encoder.hidden = 32;
    model = mtl_model_create(&desc, &err);
    mtl_model_write(model, NULL, &writer, &err);
    mtl_model_destroy(model);
    TEST_FINE(&err);
    assert_int_equal(test_malloc_bytes, before);
    test_malloc_peak = before;
    model = mtl_model_load_memory(file.bytes, file.used, &err);
    predictor = mtl_predictor_create(model, NULL, &err);
    batch.sequences = 1, batch.lengths = &length, batch.inputs = &given;
    for (i = 0; i < 3; i++) mtl_predict(predictor, &batch, out, &err);
    TEST_FINE(&err);
    assert_true(test_malloc_peak - before <= most);
    mtl_predictor_destroy(predictor);
    test_malloc_peak = test_malloc_bytes;
    for (i = 0; i < STATES; i++) states[i] = mtl_state_create(model, 1, &err);
    TEST_FINE(&err);
    assert_true(test_malloc_bytes - mtl_model_size(&desc, &err) - before <= 1200000);
    for (i = 0; i < STATES; i++) mtl_state_destroy(states[i]);
    mtl_model_destroy(model);
    free(file.bytes);
}

#define TEST_ARENA \
    cmocka_unit_test(test_arena_alignment_and_contents), cmocka_unit_test(test_arena_mark_and_release), \
    cmocka_unit_test(test_arena_release_all), cmocka_unit_test(test_arena_callers_buffer), \
    cmocka_unit_test(test_arena_fail_next), cmocka_unit_test(test_arena_out_of_memory), \
    cmocka_unit_test(test_arena_callers_allocator), cmocka_unit_test(test_arena_reset_settles), \
    cmocka_unit_test(test_arena_exact_sizes), cmocka_unit_test(test_arena_sizes_are_tight), \
    cmocka_unit_test(test_arena_no_malloc_after_creation), cmocka_unit_test(test_arena_beyond_limits), \
    cmocka_unit_test(test_arena_scratch), cmocka_unit_test(test_arena_without_a_heap), \
    cmocka_unit_test(test_arena_peaks)
