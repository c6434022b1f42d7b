/* Section 7: every job is done once, by any scheduler, and results are the same bits for any number of
   threads. */

/* ---- the pool ------------------------------------------------------------------------------------------ */

typedef struct threads_tally { int *done; double *sums; } threads_tally;

static void threads_job(void *context, size_t index)
{
    threads_tally *tally = (threads_tally *)context;
    size_t i;
    double sum = 0;
    tally->done[index]++;
    for (i = 0; i <= index % 17; i++) sum += (double)(index + i);
    tally->sums[index] = sum;
}

/* Runs `rounds` loops of at most `most` jobs; `pause`: nanoseconds of idling between two of them. */
static void threads_loops(const mtl_scheduler *scheduler, int rounds, int most, long pause,
                          unsigned long long seed)
{
    test_random r = test_random_from(seed);
    threads_tally tally;
    int round, i;
    tally.done = (int *)malloc((size_t)most * sizeof *tally.done);
    tally.sums = (double *)malloc((size_t)most * sizeof *tally.sums);
    assert_true(tally.done && tally.sums);
    for (round = 0; round < rounds; round++) {
        int count = test_random_between(&r, 0, most);
        memset(tally.done, 0, (size_t)most * sizeof *tally.done);
        mtl__parallel_for(scheduler, (size_t)count, threads_job, &tally);
        for (i = 0; i < most; i++)
            if (tally.done[i] != (i < count))
                fail_msg("round %d: job %d of %d was done %d times", round, i, count, tally.done[i]);
        if (pause) {
            struct timespec idle = { 0, 0 };
            idle.tv_nsec = pause;
            nanosleep(&idle, NULL);
        }
    }
    free(tally.done);
    free(tally.sums);
}

/* Whether a job rounds to nearest, and whether a product below 2^-126 was 0. */
static void threads_compute(void *context, size_t index)
{
    volatile float tiny = 1e-30f, third = 1, three = 3;
    int *seen = (int *)context;
    third /= three;
    tiny *= tiny / 1e-20f;
    seen[index] = (third == (float)(1 / 3.0)) + (tiny == 0 ? 2 : 0);
}

/* 1e-40, or 0 where the caller's own setting (or -ffast-math) makes it that. */
static float threads_tiny(void)
{
    volatile float tiny = 1e-20f;
    tiny *= tiny;
    return tiny;
}

/* All jobs compute alike whatever the caller has set, and the caller finds its own setting again. */
static void test_threads_arithmetic(void **state)
{
#if defined(MTL__X86) || defined(MTL__NEON)
    enum { EXPECTED = 3 };
#else
    enum { EXPECTED = 0 };                  /* not in our hands */
#endif
    mtl_error err = {0};
    mtl_arena arena;
    mtl__pool *pool;
    const float tiny_before = threads_tiny();
    float tiny;
    int way, i, seen[40];
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    pool = mtl__pool_create(&arena, 2, &err);
    TEST_FINE(&err);
    for (way = 0; way < 2; way++) {
        assert_int_equal(fesetround(FE_UPWARD), 0);
        mtl__parallel_for(way ? mtl__pool_scheduler(pool) : NULL, 40, threads_compute, seen);
        assert_int_equal(fegetround(), FE_UPWARD);
        fesetround(FE_TONEAREST);
        tiny = threads_tiny();
        assert_memory_equal(&tiny, &tiny_before, sizeof tiny);
        for (i = 0; EXPECTED && i < 40; i++) assert_int_equal(seen[i], EXPECTED);
    }
    mtl__pool_destroy(pool);
    mtl_arena_destroy(&arena);
}

static void test_threads_none(void **state)
{
    (void)state;
    threads_loops(NULL, 50, 100, 0, 1);
}

static void test_threads_pool_many_small_loops(void **state)
{
    static const int threads[] = { 2, 3, 8 };
    size_t i;
    (void)state;
    for (i = 0; i < 3; i++) {
        mtl_error err = {0};
        mtl_arena arena;
        mtl__pool *pool;
        mtl_arena_init(&arena, NULL, 0, NULL);
        pool = mtl__pool_create(&arena, threads[i], &err);
        TEST_FINE(&err);
        threads_loops(mtl__pool_scheduler(pool), test_cases(threads[i] == 8 ? 3000 : 20000), 9, 0, 2);
        threads_loops(mtl__pool_scheduler(pool), test_cases(300), 2000, 0, 3);
        /* workers have fallen asleep */
        threads_loops(mtl__pool_scheduler(pool), test_cases(100), 20, 300000, 4);
        mtl__pool_destroy(pool);
        mtl_arena_destroy(&arena);
    }
}

/* Pools that are made and destroyed at once, used and unused. */
static void test_threads_pool_short_lives(void **state)
{
    int i, cases = test_cases(200);
    (void)state;
    for (i = 0; i < cases; i++) {
        mtl_error err = {0};
        mtl_arena arena;
        mtl__pool *pool;
        mtl_arena_init(&arena, NULL, 0, NULL);
        pool = mtl__pool_create(&arena, 2 + i % 7, &err);
        TEST_FINE(&err);
        if (i % 2) threads_loops(mtl__pool_scheduler(pool), 2, 10, 0, 5);
        mtl__pool_destroy(pool);
        mtl_arena_destroy(&arena);
    }
}

/* More threads than processors, several pools at once. */
static void *threads_oversubscribe(void *user)
{
    mtl_error err = {0};
    mtl_arena arena;
    mtl__pool *pool;
    mtl_arena_init(&arena, NULL, 0, NULL);
    pool = mtl__pool_create(&arena, 8, &err);
    if (!err.code) threads_loops(mtl__pool_scheduler(pool), test_cases(500), 50, 0,
                                 (unsigned long long)(uintptr_t)user);
    mtl__pool_destroy(pool);
    mtl_arena_destroy(&arena);
    return err.code ? NULL : user;
}

static void test_threads_oversubscribed(void **state)
{
    pthread_t others[3];
    void *result;
    uintptr_t i;
    (void)state;
    for (i = 0; i < 3; i++) assert_int_equal(pthread_create(&others[i], NULL, threads_oversubscribe,
                                                            (void *)(i + 1)), 0);
    assert_non_null(threads_oversubscribe((void *)(uintptr_t)9));
    for (i = 0; i < 3; i++) {
        pthread_join(others[i], &result);
        assert_ptr_equal(result, (void *)(i + 1));
    }
}

/* ---- the same bits ------------------------------------------------------------------------------------- */

/* Job systems of the caller's: from last to first; and in an order that changes from loop to loop. */
static void threads_backwards(void *user, size_t count, mtl_job job, void *context)
{
    ++*(size_t *)user;
    while (count-- > 0) job(context, count);
}
static void threads_shuffled(void *user, size_t count, mtl_job job, void *context)
{
    size_t *order = (size_t *)malloc(count * sizeof *order), i;
    for (i = 0; i < count; i++) order[i] = i;
    mtl__random_shuffle(order, count, 77, ++*(size_t *)user);
    for (i = 0; i < count; i++) job(context, order[i]);
    free(order);
}

typedef struct threads_result {
    mtl_real *weights, *outputs;
    double losses[3], norms[3];
} threads_result;

/* How the caller rounds while threads_train trains and predicts. */
static int threads_rounding = FE_TONEAREST;

/* Three updates (the last of two micro-batches) and a prediction. */
static threads_result threads_train(const test_problem *p, int threads, const mtl_scheduler *scheduler,
                                    int optimizer)
{
    mtl_error err = {0};
    mtl_trainer_desc training = {0};
    mtl_predictor_desc predicting = {0};
    mtl_prediction out[TEST_TASKS_COUNT];
    const mtl_batch two[2] = { *p->batch, *p->batch };
    threads_result result;
    size_t used = 0, k;
    int i;
    mtl_model *model = mtl_model_create(&p->desc, &err);
    mtl_trainer *trainer;
    mtl_predictor *predictor;
    mtl_step step;
    training.threads = predicting.threads = threads;
    training.scheduler = predicting.scheduler = scheduler;
    training.optimizer = optimizer;
    training.clip_norm = 0.5f;
    training.average = 0.5f;
    trainer = mtl_trainer_create(model, &training, &err);
    predictor = mtl_predictor_create(model, &predicting, &err);
    fesetround(threads_rounding);
    for (i = 0; i < 3; i++) {
        mtl_train_step(trainer, two, i == 2 ? 2 : 1, &step, &err);
        TEST_FINE(&err);
        result.losses[i] = step.loss;
        result.norms[i] = step.grad_norm;
    }
    mtl_predict(predictor, p->batch, out, &err);
    mtl_trainer_swap_average(trainer, &err);
    assert_int_equal(fegetround(), threads_rounding);
    fesetround(FE_TONEAREST);
    TEST_FINE(&err);
    result.weights = test_weights_copy(model);
    for (k = 0; k < TEST_TASKS_COUNT; k++) used += out[k].items * out[k].width;
    result.outputs = (mtl_real *)malloc(used * sizeof *result.outputs);
    assert_non_null(result.outputs);
    for (k = 0, used = 0; k < TEST_TASKS_COUNT; used += out[k].items * out[k].width, k++)
        memcpy(result.outputs + used, test_outputs(&out[k]),
               out[k].items * out[k].width * sizeof *result.outputs);
    mtl_predictor_destroy(predictor);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    return result;
}

static void threads_expect_same(const test_problem *p, const threads_result *one, int optimizer, int threads,
                                const mtl_scheduler *scheduler)
{
    threads_result other = threads_train(p, threads, scheduler, optimizer);
    mtl_error err = {0};
    mtl_model *model = mtl_model_create(&p->desc, &err);
    size_t weights = mtl_model_parameters(model)->total, rows = p->data->rows,
        sequences = p->batch->sequences;
    TEST_FINE(&err);
    if (memcmp(one->losses, other.losses, sizeof one->losses) != 0 ||
        memcmp(one->norms, other.norms, sizeof one->norms) != 0)
        fail_msg("%d threads: loss %.17g or norm %.17g, not %.17g and %.17g", threads, other.losses[2],
                 other.norms[2], one->losses[2], one->norms[2]);
    if (memcmp(one->weights, other.weights, weights * sizeof(mtl_real)) != 0)
        fail_msg("%d threads: other weights", threads);
    if (memcmp(one->outputs, other.outputs, (sequences * (3 + 1 + 4) + rows * (5 + 2))
        * sizeof(mtl_real)) != 0)
        fail_msg("%d threads: other predictions", threads);
    free(other.weights);
    free(other.outputs);
    mtl_model_destroy(model);
}

static void test_threads_same_bits(void **state)
{
    static const int threads[] = { 2, 3, 8 };
    int number, cases = test_cases(12) < 8 ? 8 : test_cases(12);
    size_t loops = 0, i;
    (void)state;
    for (number = 0; number < cases; number++) {
        mtl_scheduler backwards = { NULL, threads_backwards, 0 }, shuffled = { NULL, threads_shuffled, 2 };
        test_shape shape = {0};
        threads_result one;
        test_problem p;
        backwards.user = shuffled.user = &loops;
        /* each form of each cell within the first four and on; one sequence of two directions is number 3 of
           four */
        shape.cell = number < 2 ? MTL_CELL_GRU : 1 + number % 3;
        shape.reset = number == 1 || number % 4 == 3 ? MTL_RESET_BEFORE : MTL_RESET_AFTER;
        shape.bidirectional = number % 2;
        shape.layers = 1 + number % 2;
        shape.two_columns = number % 3 == 0;
        shape.hidden = 19 + number;
        shape.features = number % 4 == 1 ? 3 : 0;
        shape.sequences = number % 4 == 3 ? 1 : number % 4 == 2 ? 33 : 37;
        shape.longest = number % 4 == 3 ? 70 : 9;
        shape.dropout = 0.25;
        shape.missing = 0.2;
        shape.seed = (unsigned long long)number;
        test_problem_create(&p, &shape);
        one = threads_train(&p, 1, NULL, 1 + number % 4);
        for (i = 0; i < 3; i++) threads_expect_same(&p, &one, 1 + number % 4, threads[i], NULL);
        threads_expect_same(&p, &one, 1 + number % 4, 1, &backwards);
        threads_expect_same(&p, &one, 1 + number % 4, 5, &shuffled);   /* a scheduler goes before `threads` */
        free(one.weights);
        free(one.outputs);
        test_problem_destroy(&p);
    }
    assert_true(loops > 100);
}

/* What a caller has set about rounding changes no bit of training, averages and predictions, and stands
   afterwards. */
static void test_threads_callers_arithmetic(void **state)
{
#if defined(MTL__X86) || defined(MTL__NEON)
    int optimizer;
    (void)state;
    for (optimizer = MTL_OPTIMIZER_SGD; optimizer <= MTL_OPTIMIZER_ADAMW; optimizer++) {
        test_shape shape = {0};
        threads_result one;
        test_problem p;
        shape.features = 3;
        shape.dropout = 0.25;
        shape.bidirectional = optimizer % 2;
        test_problem_create(&p, &shape);
        p.tasks[TEST_TAGS].label_smoothing = 0.1f;
        one = threads_train(&p, 1, NULL, optimizer);
        threads_rounding = FE_UPWARD;
        threads_expect_same(&p, &one, optimizer, 1, NULL);
        threads_rounding = FE_TONEAREST;
        free(one.weights);
        free(one.outputs);
        test_problem_destroy(&p);
    }
#else
    (void)state;                            /* not in our hands */
#endif
}

/* Threads are really used: jobs of a pool run on several of them. */
static pthread_t threads_seen[64];
static void threads_note_who(void *context, size_t index)
{
    struct timespec busy = { 0, 2000000 };
    (void)context;
    threads_seen[index] = pthread_self();
    nanosleep(&busy, NULL);
}

static void test_threads_pool_shares_work(void **state)
{
    mtl_error err = {0};
    mtl_arena arena;
    mtl__pool *pool;
    int i, others = 0;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    pool = mtl__pool_create(&arena, 4, &err);
    TEST_FINE(&err);
    mtl__parallel_for(mtl__pool_scheduler(pool), 64, threads_note_who, NULL);
    for (i = 0; i < 64; i++) others += !pthread_equal(threads_seen[i], pthread_self());
    if (MTL__POOL) assert_true(others > 8);
    mtl__pool_destroy(pool);
    mtl_arena_destroy(&arena);
}

/* Processor time of the whole process, nanoseconds. */
static double threads_processor_time(void)
{
    struct timespec used;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used), 0);
    return (double)used.tv_sec * 1e9 + (double)used.tv_nsec;
}

/* Idle workers sleep: 50 ms of nothing after some work cost less than a few (of 7 workers that spun: 350). */
static void test_threads_idle_workers_sleep(void **state)
{
    struct timespec pause = { 0, 50000000 };
    mtl_error err = {0};
    mtl_arena arena;
    mtl__pool *pool;
    double used, least = 1e18;
    int i;
    (void)state;
    mtl_arena_init(&arena, NULL, 0, NULL);
    pool = mtl__pool_create(&arena, 8, &err);
    TEST_FINE(&err);
    for (i = 0; i < 3; i++) {               /* a crowded machine lets workers spin late, once */
        threads_loops(mtl__pool_scheduler(pool), 20, 50, 0, 6);
        used = threads_processor_time();
        nanosleep(&pause, NULL);
        used = threads_processor_time() - used;
        if (used < least) least = used;
    }
    if (least > 5e6) fail_msg("8 idle threads took %.1f ms of 50", least / 1e6);
    mtl__pool_destroy(pool);
    mtl_arena_destroy(&arena);
}

/* ---- lists of jobs ------------------------------------------------------------------------------------- */

/* More passes than a list holds, of all sizes: every row once, by any number of threads. */
static void test_threads_job_lists(void **state)
{
    static const size_t sizes[] = { 1, 24, 95, 96, 97, 192, 383, 384, 385, 481, 1024 };
    static const int threads[] = { 1, 2, 3, 8 };
    enum { PASSES = 3 * MTL__JOBS_PASSES, ROWS = 1024, WIDTH = 5 };
    mtl_real *x = (mtl_real *)calloc(ROWS * 16, sizeof *x),
        *y = (mtl_real *)calloc(PASSES * ROWS * 16, sizeof *y);
    size_t t, i, row;
    (void)state;
    assert_true(x && y);
    for (row = 0; row < ROWS; row++) {
        for (i = 0; i < WIDTH; i++) x[row * 16 + i] = (mtl_real)(row + 1);
    }
    for (t = 0; t < 4; t++) {
        mtl_error err = {0};
        mtl_arena arena;
        mtl__pool *pool;
        mtl__jobs jobs;
        mtl_run run;
        memset(y, 0, PASSES * ROWS * 16 * sizeof *y);
        mtl_arena_init(&arena, NULL, 0, NULL);
        pool = threads[t] > 1 ? mtl__pool_create(&arena, threads[t], &err) : NULL;
        mtl_run_init(&run, &arena, MTL_ISA_AUTO, &err);
        run.scheduler = mtl__pool_scheduler(pool);
        TEST_FINE(&err);
        mtl__jobs_begin(&jobs, &run);
        for (i = 0; i < PASSES; i++) {
            size_t rows = sizes[i % 11];
            /* of rate 0: y += x */
            mtl__dropout s;
            memset(&s, 0, sizeof s);
            s.rows = rows;
            s.width = WIDTH;
            s.x = x;
            s.x_stride = s.y_stride = 16;
            s.y = y + i * ROWS * 16;
            s.accumulate = 1;
            mtl__jobs_add_rows(&jobs, mtl__dropout_part, &s, sizeof s, rows, i % 3 ? 0 : 1000000);
        }
        mtl__jobs_run(&jobs);
        TEST_FINE(&err);
        for (i = 0; i < PASSES; i++)
            for (row = 0; row < ROWS; row++)
                if (y[(i * ROWS + row) * 16] != (row < sizes[i % 11] ? x[row * 16] : 0))
                    fail_msg("%d threads, pass %d: row %d of %d is %g", threads[t], (int)i, (int)row,
                             (int)sizes[i % 11], (double)y[(i * ROWS + row) * 16]);
        mtl__pool_destroy(pool);
        mtl_arena_destroy(&arena);
    }
    free(x);
    free(y);
}

#define TEST_THREADS \
    cmocka_unit_test(test_threads_none), cmocka_unit_test(test_threads_arithmetic), \
        cmocka_unit_test(test_threads_callers_arithmetic), \
    cmocka_unit_test(test_threads_pool_many_small_loops), \
    cmocka_unit_test(test_threads_pool_short_lives), cmocka_unit_test(test_threads_oversubscribed), \
    cmocka_unit_test(test_threads_pool_shares_work), cmocka_unit_test(test_threads_idle_workers_sleep), \
    cmocka_unit_test(test_threads_job_lists), cmocka_unit_test(test_threads_same_bits)
