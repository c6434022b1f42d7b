/* tests/helpers.h    what several test files need: random cases, counted allocations, models and batches of
                      any shape, files in
   memory. Included by tests/main.c behind the implementation. Test code allocates with malloc itself, which
   is not counted. */

/* ---- how much to do ------------------------------------------------------------------------------------ */

static int test_quick(void)
{
    const char *quick = getenv("MTL_TEST_QUICK");
    return quick && *quick && strcmp(quick, "0") != 0;
}
#define TEST_QUICK() test_quick()

/* Random cases to run where n are run in full: a tenth when in a hurry, at least one. */
static int test_cases(int n) { return test_quick() ? (n + 9) / 10 : n; }

/* Instruction sets and precisions whose kernels tests called, for the line that tests/main.c ends with. */
static int test_executed_isas[MTL_ISA_COUNT];
static char test_executed_precisions[64];

static void test_executed(int isa, const char *precision)
{
    char word[16];
    test_executed_isas[isa] = 1;
    snprintf(word, sizeof word, " %s", precision);
    if (!strstr(test_executed_precisions, word)) strcat(test_executed_precisions, word);
}

/* An instruction set whose kernels multiply in bfloat16 here: AVX-512's where the processor has them, else
   the scalar imitation. */
static int test_bf16_isa(void)
{
    const mtl__kernels *best = mtl__kernels_choose(MTL_ISA_AVX512);
    return mtl__precision_choose(best, MTL_PRECISION_BF16) == MTL_PRECISION_BF16
        ? MTL_ISA_AVX512 : MTL_ISA_SCALAR;
}

/* ---- random numbers: a sequence of its own for every test, the same in every run ----------------------- */

typedef struct test_random { unsigned long long state; } test_random;

static test_random test_random_from(unsigned long long seed)
{
    test_random r;
    r.state = seed * 0x9e3779b97f4a7c15u + 1;
    return r;
}

/* 32 random bits: Knuth's linear congruence, the upper half. */
static unsigned test_random_bits(test_random *r)
{
    r->state = r->state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(r->state >> 32);
}
static int test_random_between(test_random *r, int low, int high)   /* low and high included */
{
    return low + (int)(test_random_bits(r) % (unsigned)(high - low + 1));
}
static double test_random_real(test_random *r, double low, double high)
{
    return low + (high - low) * (test_random_bits(r) / 4294967296.0);
}

/* By bits: the tests too are compiled with -ffast-math. */
static mtl_real test_nan(void)
{
    mtl_real x;
    memset(&x, 0xff, sizeof x);
    return x;
}
static mtl_real test_infinity(void)
{
    const uint64_t wide = (uint64_t)0x7ff << 52;
    const uint32_t narrow = (uint32_t)0xff << 23;
    mtl_real x;
    memcpy(&x, sizeof x == sizeof wide ? (const void *)&wide : (const void *)&narrow, sizeof x);
    return x;
}

/* ---- the library's allocations ------------------------------------------------------------------------- */

static pthread_mutex_t test_malloc_mutex = PTHREAD_MUTEX_INITIALIZER;
static size_t test_malloc_count;            /* allocations asked for since the program began */
static size_t test_malloc_live;             /* blocks that are in use */
static size_t test_malloc_bytes;            /* theirs, */
static size_t test_malloc_peak;             /* .. and the most that there have been since a test set it */
static size_t test_malloc_fail_at;          /* > 0: the allocation that counts it down to 0 fails, once; 0:
                                               none fails */

enum { TEST_MALLOC_HEAD = 16 };             /* before each block stands its size */

static int test_malloc_refuses;             /* 1: all fail */

static void *counted_malloc(size_t bytes)
{
    void *memory = NULL;
    int fails;
    pthread_mutex_lock(&test_malloc_mutex);
    test_malloc_count++;
    fails = test_malloc_refuses || (test_malloc_fail_at > 0 && --test_malloc_fail_at == 0);
    /* ASan takes more as a bug */
    if (!fails && bytes < (size_t)1 << (4 * sizeof(size_t))) memory = malloc(bytes + TEST_MALLOC_HEAD);
    if (memory) {
        memcpy(memory, &bytes, sizeof bytes);
        test_malloc_live++;
        test_malloc_bytes += bytes;
        if (test_malloc_bytes > test_malloc_peak) test_malloc_peak = test_malloc_bytes;
    }
    pthread_mutex_unlock(&test_malloc_mutex);
    return memory ? (char *)memory + TEST_MALLOC_HEAD : NULL;
}

static void counted_free(void *memory)
{
    char *block = memory ? (char *)memory - TEST_MALLOC_HEAD : NULL;
    size_t bytes = 0;
    if (!block) return;
    memcpy(&bytes, block, sizeof bytes);
    pthread_mutex_lock(&test_malloc_mutex);
    test_malloc_live--;
    test_malloc_bytes -= bytes;
    pthread_mutex_unlock(&test_malloc_mutex);
    free(block);
}

/* Runs work(user, err) again and again with its 1st, 2nd, .. allocation failing, until it gets through
   without one; returns how many of these failures it reported. It must give back all that it takes. A failure
   is reported as MEMORY, or does no harm: memory that was only wanted for later speed. */
static size_t test_each_allocation_fails(void (*work)(void *user, mtl_error *err), void *user)
{
    size_t n, live = test_malloc_live, reported = 0;
    for (n = 1;; n++) {
        mtl_error err;
        int reached;
        mtl_error_clear(&err);
        test_malloc_fail_at = n;
        work(user, &err);
        reached = test_malloc_fail_at == 0;
        test_malloc_fail_at = 0;
        if (test_malloc_live != live)
            fail_msg("allocation %d failed: %ld blocks are lost", (int)n, (long)(test_malloc_live - live));
        if (err.code && (!reached || err.code != MTL_ERROR_MEMORY || !err.message[0] || !err.name[0]))
            fail_msg("allocation %d: %s \"%s\"", (int)n, mtl_error_text(err.code), err.message);
        reported += err.code == MTL_ERROR_MEMORY;
        if (!reached) break;
    }
    assert_true(reported >= (n - 1) / 2);
    return reported;
}

/* malloc's memory aligned to 64, for what works in the caller's buffer; *start is for free. */
static void *test_aligned(size_t bytes, void **start)
{
    unsigned char *memory = (unsigned char *)malloc(bytes + 64);
    *start = memory;
    assert_non_null(memory);
    return memory + (64 - (uintptr_t)memory % 64) % 64;
}

/* ---- comparing ----------------------------------------------------------------------------------------- */

/* Fails when err is set, with its message. */
#define TEST_FINE(err) do { if ((err)->code) fail_msg("%s", (err)->message); } while (0)

/* Fails unless err has this code, this name and a message that holds `part`; then clears it. */
static void test_expect_error(mtl_error *err, int code, const char *name, const char *part)
{
    if (err->code != code || (name && strcmp(err->name, name) != 0) || !strstr(err->message, part))
        fail_msg("expected %s, name \"%s\", message with \"%s\"; there is %s, name \"%s\", message \"%s\"",
                 mtl_error_text(code), name ? name : "(any)", part, mtl_error_text(err->code), err->name,
                     err->message);
    mtl_error_clear(err);
}

/* Largest |a - b|, as a share of the largest |b| (at least `least`). */
static double test_distance(const mtl_real *a, const mtl_real *b, size_t count, double least)
{
    double largest = least, difference = 0;
    size_t i;
    for (i = 0; i < count; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        assert_true(mtl__is_finite(a[i]) && mtl__is_finite(b[i]));
        if (d > difference) difference = d;
        if (fabs((double)b[i]) > largest) largest = fabs((double)b[i]);
    }
    return difference / largest;
}

/* ---- batches ------------------------------------------------------------------------------------------- */

enum { TEST_MOST = 8 };                     /* most inputs, columns and tasks of a test's model */

/* A ragged batch and everything that it points to. */
typedef struct test_batch {
    mtl_batch batch;
    size_t rows;                            /* sum of lengths */
    int *lengths;
    mtl_input inputs[TEST_MOST];
    mtl_target targets[TEST_MOST];
    void *memory[4 * TEST_MOST];
    size_t memory_count;
} test_batch;

static void *test_batch_memory(test_batch *b, size_t bytes)
{
    void *memory = calloc(bytes ? bytes : 1, 1);
    assert_non_null(memory);
    assert_true(b->memory_count < 4 * TEST_MOST);
    return b->memory[b->memory_count++] = memory;
}

static void test_batch_target(test_batch *b, const mtl_task_desc *task, mtl_target *target, double missing,
                              test_random *r)
{
    size_t items = task->level == MTL_LEVEL_STEP ? b->rows : b->batch.sequences, i, j;
    const int counts = task->kind == MTL_TASK_POISSON, numbers = counts || task->kind == MTL_TASK_REAL;
    size_t width = (size_t)(!numbers ? task->classes : task->width > 0 ? task->width : 1);
    const int one_class = task->kind == MTL_TASK_CLASS || task->kind == MTL_TASK_ORDINAL;
    int shares = one_class && strncmp(task->name, "share", 5) == 0;
    int *labels = NULL;
    mtl_real *values = NULL;
    if ((one_class || task->kind == MTL_TASK_CRF) && !shares) target->labels = labels =
        (int *)test_batch_memory(b, items * sizeof *labels);
    else values = (mtl_real *)test_batch_memory(b, items * width * sizeof *values);
    if (shares) target->distribution = values;
    else target->values = values;
    for (i = 0; i < items; i++) {
        int lost = test_random_real(r, 0, 1) < missing;
        double sum = 0;
        if (labels) { labels[i] = lost ? MTL_MISSING : test_random_between(r, 0, task->classes - 1); continue;
        }
        for (j = 0; j < width; j++) sum += (double)(values[i * width + j] =
                                                    (mtl_real)test_random_real(r, shares ? 0.1 : -1, 1));
        for (j = 0; shares && j < width; j++) values[i * width + j] /= (mtl_real)sum;
        for (j = 0; task->kind == MTL_TASK_MULTI && j < width; j++)
            values[i * width + j] = values[i * width + j] > 0;
        for (j = 0; counts && j < width; j++)
            values[i * width + j] = (mtl_real)floor(4 + 4 * (double)values[i * width + j]);
        if (lost) values[i * width] = test_nan();
    }
}

/* Random words of 0 to 7 characters, and which of them each step has. */
static void test_batch_spell(test_batch *b, const mtl_input_desc *d, mtl_input *input, int *ids,
                             test_random *r)
{
    const int count = 1 + (int)b->rows * 2 / 3;
    mtl_spellings *all = (mtl_spellings *)test_batch_memory(b, sizeof *all);
    size_t *begins = (size_t *)test_batch_memory(b, ((size_t)count + 1) * sizeof *begins);
    int *characters = (int *)test_batch_memory(b, 7 * (size_t)count * sizeof *characters), i;
    for (i = 0; i < count; i++) begins[i + 1] = begins[i] + (size_t)test_random_between(r, 0, 7);
    for (i = 0; i < (int)begins[count]; i++) characters[i] = test_random_between(r, 0, d->vocabulary - 1);
    for (i = 0; i < (int)b->rows; i++) ids[i] = test_random_between(r, 0, count - 1);
    all->count = (size_t)count;
    all->begins = begins;
    all->characters = characters;
    input->spellings = all;
}

/* Random data for any desc: `sequences` sequences of these lengths, or (lengths NULL) of random ones in 1 ..
   longest. A share `missing` of the labels is left out. A class task whose name begins with "share" gets
   distributions. */
static test_batch *test_batch_create(const mtl_model_desc *desc, const int *lengths, int sequences,
                                     int longest, double missing, unsigned long long seed)
{
    test_batch *b = (test_batch *)calloc(1, sizeof *b);
    test_random r = test_random_from(seed);
    size_t i, n;
    assert_non_null(b);
    b->batch.sequences = (size_t)sequences;
    b->batch.lengths = b->lengths = (int *)test_batch_memory(b, (size_t)sequences * sizeof(int));
    b->batch.inputs = b->inputs;
    b->batch.targets = b->targets;
    for (i = 0; i < (size_t)sequences; i++) {
        b->lengths[i] = lengths ? lengths[i] : test_random_between(&r, 1, longest);
        b->rows += (size_t)b->lengths[i];
    }
    for (i = 0; i < desc->input_count && !desc->inputs[i].reads; i++) {
        const mtl_input_desc *d = &desc->inputs[i];
        int *ids = d->vocabulary ? (int *)test_batch_memory(b, b->rows * sizeof *ids) : NULL;
        mtl_real *rows = ids ? NULL : (mtl_real *)test_batch_memory(b, b->rows * (size_t)d->features
                                                                    * sizeof *rows);
        for (n = 0; ids && n < b->rows; n++) ids[n] = test_random_between(&r, 0, d->vocabulary - 1);
        for (n = 0; rows && n < b->rows * (size_t)d->features; n++)
            rows[n] = (mtl_real)test_random_real(&r, -1, 1);
        b->inputs[i].ids = ids;
        b->inputs[i].rows = rows;
        if (d->kind == MTL_INPUT_CHARACTERS) test_batch_spell(b, d, &b->inputs[i], ids, &r);
    }
    for (i = 0; i < desc->task_count; i++) test_batch_target(b, &desc->tasks[i], &b->targets[i], missing, &r);
    return b;
}

/* Arrays of a batch, to spoil them. */
static int *test_ids(const test_batch *b) { return (int *)(uintptr_t)b->inputs[0].ids; }
static int *test_labels(const test_batch *b, int task) { return (int *)(uintptr_t)b->targets[task].labels; }
static mtl_real *test_numbers(const test_batch *b, int task)
{
    const mtl_target *t = &b->targets[task];
    return (mtl_real *)(uintptr_t)(t->values ? t->values : t->distribution);
}

static void test_batch_destroy(test_batch *b)
{
    size_t i;
    for (i = 0; i < b->memory_count; i++) free(b->memory[i]);
    free(b);
}

/* ---- a model of any shape, and a batch for it ---------------------------------------------------------- */

/* Zeros mean: an LSTM of 12 units in one layer and direction, over token ids alone, no dropout, 5 sequences
   of at most 7 steps, no label missing. */
typedef struct test_shape {
    int cell, reset, bidirectional, layers, hidden;
    int features;                           /* > 0: a second input, of rows of this many numbers */
    int two_columns;                        /* 1: a second column over the first; the step tasks tap the lower
                                               one */
    double dropout;                         /* of inputs, outputs, between layers and in heads */
    int sequences, longest;
    double missing;
    unsigned long long seed;
} test_shape;

/* Tasks, one of each form: "class" (sequence, last, a hidden layer), "tags" (step), "number" (sequence,
   mean), "curve" (step, two numbers, Huber), "share" (sequence, maximum, distributions), "set" (sequence,
   mean, sets of labels). */
enum { TEST_CLASS, TEST_TAGS, TEST_NUMBER, TEST_CURVE, TEST_SHARE, TEST_SET, TEST_TASKS_COUNT };
enum { TEST_VOCABULARY = 23 };

typedef struct test_problem {
    mtl_model_desc desc;
    mtl_input_desc inputs[TEST_MOST];
    mtl_column_desc columns[TEST_MOST];
    mtl_task_desc tasks[TEST_MOST];
    test_batch *data;
    const mtl_batch *batch;                 /* data's */
} test_problem;

static void test_problem_tasks(test_problem *p, const test_shape *shape)
{
    static const char *const tags[] = { "O", "B-a", "I-a", "B-b", "I-b" };
    mtl_task_desc *t = p->tasks;
    size_t k;
    t[TEST_CLASS].name = "class";
    t[TEST_CLASS].classes = 3;
    t[TEST_CLASS].hidden[0] = 9;
    t[TEST_CLASS].activation = MTL_ACTIVATION_TANH;
    t[TEST_TAGS].name = "tags";
    t[TEST_TAGS].classes = 5;
    t[TEST_TAGS].labels = tags;
    t[TEST_TAGS].level = MTL_LEVEL_STEP;
    t[TEST_TAGS].weight = 0.7f;
    t[TEST_NUMBER].name = "number";
    t[TEST_NUMBER].kind = MTL_TASK_REAL;
    t[TEST_NUMBER].pool = MTL_POOL_MEAN;
    t[TEST_CURVE].name = "curve";
    t[TEST_CURVE].kind = MTL_TASK_REAL;
    t[TEST_CURVE].level = MTL_LEVEL_STEP;
    t[TEST_CURVE].width = 2;
    t[TEST_CURVE].loss = MTL_LOSS_HUBER;
    t[TEST_CURVE].huber_delta = 0.5f;
    t[TEST_SHARE].name = "share";
    t[TEST_SHARE].classes = 4;
    t[TEST_SHARE].pool = MTL_POOL_MAX;
    t[TEST_SET].name = "set";
    t[TEST_SET].kind = MTL_TASK_MULTI;
    t[TEST_SET].classes = 4;
    t[TEST_SET].pool = MTL_POOL_MEAN;
    for (k = 0; k < TEST_TASKS_COUNT; k++) {
        t[k].dropout = (float)shape->dropout;
        if (shape->two_columns && t[k].level == MTL_LEVEL_STEP) t[k].tap.from = "low";
    }
    p->desc.tasks = p->tasks;
    p->desc.task_count = TEST_TASKS_COUNT;
}

static void test_problem_create(test_problem *p, const test_shape *shape)
{
    mtl_column_desc column;
    memset(p, 0, sizeof *p);
    p->inputs[0].name = "words";
    p->inputs[0].vocabulary = TEST_VOCABULARY;
    p->inputs[0].width = 6;
    p->inputs[0].dropout = (float)shape->dropout;
    p->inputs[1].name = "numbers";
    p->inputs[1].features = shape->features;
    p->inputs[1].dropout_per_sequence = 1;
    p->inputs[1].dropout = (float)shape->dropout;
    p->desc.inputs = p->inputs;
    p->desc.input_count = shape->features > 0 ? 2 : 1;
    memset(&column, 0, sizeof column);
    column.cell = shape->cell;
    column.reset = shape->reset;
    column.bidirectional = shape->bidirectional;
    column.layers = shape->layers;
    column.hidden = shape->hidden ? shape->hidden : 12;
    column.dropout = column.dropout_between = (float)shape->dropout;
    p->desc.encoder = p->columns[0] = p->columns[1] = column;
    p->columns[0].name = "low";
    p->columns[1].name = "high";
    p->columns[1].input.from = "low";
    p->desc.columns = p->columns;
    p->desc.column_count = shape->two_columns ? 2 : 0;
    p->desc.seed = shape->seed + 1;
    test_problem_tasks(p, shape);
    p->data = test_batch_create(&p->desc, NULL, shape->sequences ? shape->sequences : 5, shape->longest
                                ? shape->longest : 7, shape->missing, shape->seed);
    p->batch = &p->data->batch;
}

static void test_problem_destroy(test_problem *p) { test_batch_destroy(p->data); }

/* A shape for case `number` of a test: walks through cells, directions, layers and columns, sizes at
   random. */
static test_shape test_shape_random(int number, test_random *r)
{
    test_shape s;
    memset(&s, 0, sizeof s);
    s.cell = number % 7 == 6 ? MTL_CELL_MINGRU : 1 + number % 3;
    s.bidirectional = number / 3 % 2;
    s.reset = number / 2 % 2 ? MTL_RESET_BEFORE : MTL_RESET_AFTER;
    s.layers = test_random_between(r, 1, 2);
    s.two_columns = number % 5 == 4;
    s.hidden = test_random_between(r, 1, 35);
    s.features = number % 4 == 1 ? test_random_between(r, 1, 5) : 0;
    s.sequences = test_random_between(r, 1, 20);
    s.longest = test_random_between(r, 1, 12);
    s.missing = 0.3;
    s.seed = (unsigned long long)number + 100;
    return s;
}

/* ---- outputs ------------------------------------------------------------------------------------------- */

/* Probabilities or values of a prediction. */
static const mtl_real *test_outputs(const mtl_prediction *p) { return p->probabilities
    ? p->probabilities : p->values; }

/* Copies of a model's weights, to compare with later. */
static mtl_real *test_weights_copy(mtl_model *model)
{
    const mtl_parameters *set = mtl_model_parameters(model);
    mtl_real *copy = (mtl_real *)malloc(set->total * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, set->block, set->total * sizeof *copy);
    return copy;
}

/* The weights after three steps. */
static mtl_real *test_train_three(mtl_model *model, const mtl_batch *batch, int threads)
{
    mtl_trainer_desc how;
    mtl_trainer *trainer;
    mtl_error err;
    int i;
    mtl_error_clear(&err);
    memset(&how, 0, sizeof how);
    how.threads = threads;
    how.lr = 0.01f;
    how.clip_norm = 0.5f;
    trainer = mtl_trainer_create(model, &how, &err);
    for (i = 0; i < 3; i++) mtl_train_step(trainer, batch, 1, NULL, &err);
    TEST_FINE(&err);
    mtl_trainer_destroy(trainer);
    return test_weights_copy(model);
}
static int test_weights_equal(mtl_model *model, const mtl_real *copy)
{
    return memcmp(mtl_model_parameters(model)->block, copy,
                  mtl_model_parameters(model)->total * sizeof *copy) == 0;
}

/* ---- files --------------------------------------------------------------------------------------------- */

/* A file in memory, to write and to read. Zero it; free its bytes. */
typedef struct test_file {
    unsigned char *bytes;
    size_t used, size, at;
} test_file;

static int test_file_write(void *user, const void *bytes, size_t count)
{
    test_file *f = (test_file *)user;
    if (f->used + count > f->size) {
        f->size = 2 * (f->used + count);
        f->bytes = (unsigned char *)realloc(f->bytes, f->size);
        if (!f->bytes) return 1;
    }
    memcpy(f->bytes + f->used, bytes, count);
    f->used += count;
    return 0;
}
static size_t test_file_read(void *user, void *bytes, size_t count)
{
    test_file *f = (test_file *)user;
    if (count > f->used - f->at) count = f->used - f->at;
    memcpy(bytes, f->bytes + f->at, count);
    f->at += count;
    return count;
}
static mtl_writer test_file_writer(test_file *f)
{
    mtl_writer w;
    w.user = f;
    w.write = test_file_write;
    return w;
}
static mtl_reader test_file_reader(test_file *f)
{
    mtl_reader r;
    r.user = f;
    r.read = test_file_read;
    f->at = 0;
    return r;
}

/* A path of this process in TMPDIR; static memory. Whoever writes it removes it. */
static const char *test_path(const char *name)
{
    static char path[1024];
    const char *folder = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/mtl_test_%ld_%s", folder && *folder ? folder : "/tmp", (long)getpid(),
             name);
    return path;
}
