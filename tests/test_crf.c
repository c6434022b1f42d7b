/* >>crf and >>kinds: conditional random fields. Losses, gradients, probabilities and best paths against
   sums over all paths, written out here; large ones against the same model with a label that is never likely,
   which takes the other way through the code. Included by tests/main.c.

   The model is a head straight on the features, with W the unit matrix and b = 0: emissions are the
   features. */

enum { CRF_LABELS = 5, CRF_SEQUENCES = 37, CRF_STEPS = 5, CRF_ROWS = CRF_SEQUENCES * CRF_STEPS };
#define CRF_TOLERANCE (MTL__REAL_IS_DOUBLE ? 1e-10 : 1e-5)

static const char *const crf_tags[CRF_LABELS] = { "O", "I-x", "B-y", "B-x", "I-y" };

typedef struct crf_setup {
    mtl_error err;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_step step;
    mtl_batch batch;
    mtl_input input;
    mtl_target target;
    mtl_task_desc task;
    size_t labels, rows;
    int *lengths, *gold;
    mtl_real *x;
} crf_setup;

static void crf_task(mtl_task_desc *task, size_t labels, const char *const *names, int constraints)
{
    memset(task, 0, sizeof *task);
    task->name = "slots";
    task->kind = MTL_TASK_CRF;
    task->level = MTL_LEVEL_STEP;
    task->tap.from = "x";
    task->classes = (int)labels;
    task->labels = names;
    task->constraints = constraints;
}

static void crf_describe(mtl_model_desc *desc, mtl_input_desc *input, const mtl_task_desc *tasks,
                         size_t count, size_t features)
{
    memset(desc, 0, sizeof *desc);
    memset(input, 0, sizeof *input);
    input->name = "x";
    input->features = (int)features;
    desc->inputs = input;
    desc->input_count = 1;
    desc->encoder.hidden = 1;
    desc->tasks = tasks;
    desc->task_count = count;
}

static void crf_unit_head(mtl_model *model, const char *weight, const char *bias)
{
    mtl_tensor *w = mtl_model_tensor(model, weight), *b = mtl_model_tensor(model, bias);
    size_t i;
    memset(w->value, 0, w->count * sizeof *w->value);
    memset(b->value, 0, b->count * sizeof *b->value);
    for (i = 0; i < w->shape[0]; i++) w->value[i * w->shape[1] + i] = 1;
}

/* Scores of a width of `size`; a share of the labels is missing. */
static void crf_open(crf_setup *s, size_t labels, const char *const *names, int constraints, int sequences,
                     int longest, double size, double missing, unsigned long long seed,
                     const mtl_trainer_desc *how)
{
    static const char *const tensors[] = { "slots.transitions", "slots.start", "slots.end" };
    test_random r = test_random_from(seed);
    mtl_model_desc desc;
    mtl_input_desc input;
    size_t i, k;
    memset(s, 0, sizeof *s);
    s->labels = labels;
    s->lengths = (int *)calloc((size_t)sequences, sizeof(int));
    for (i = 0; i < (size_t)sequences; i++)
        s->rows += (size_t)(s->lengths[i] = test_random_between(&r, 1, longest));
    crf_task(&s->task, labels, names, constraints);
    crf_describe(&desc, &input, &s->task, 1, labels);
    s->model = mtl_model_create(&desc, &s->err);
    s->trainer = mtl_trainer_create(s->model, how, &s->err);
    TEST_FINE(&s->err);
    crf_unit_head(s->model, "slots.output.weight", "slots.output.bias");
    for (i = 0; i < 3; i++) {
        mtl_tensor *t = mtl_model_tensor(s->model, tensors[i]);
        for (k = 0; k < t->count; k++) t->value[k] = (mtl_real)test_random_real(&r, -size / 2, size / 2);
    }
    mtl_model_prepare(s->model, &s->err);
    s->gold = (int *)calloc(s->rows, sizeof(int));
    s->x = (mtl_real *)calloc(s->rows * labels, sizeof(mtl_real));
    for (i = 0; i < s->rows; i++)
        s->gold[i] = test_random_real(&r, 0, 1) < missing ? i % 2 ? MTL_MISSING : MTL_UNKNOWN_LABEL
            : test_random_between(&r, 0, (int)labels - 1);
    for (i = 0; i < s->rows * labels; i++) s->x[i] = (mtl_real)test_random_real(&r, -size / 2, size / 2);
    s->input.rows = s->x;
    s->target.labels = s->gold;
    s->batch.sequences = (size_t)sequences;
    s->batch.lengths = s->lengths;
    s->batch.inputs = &s->input;
    s->batch.targets = &s->target;
}

static void crf_close(crf_setup *s)
{
    mtl_trainer_destroy(s->trainer);
    mtl_model_destroy(s->model);
    free(s->lengths);
    free(s->gold);
    free(s->x);
}

static const mtl_real *crf_value(const crf_setup *s, const char *tensor)
{
    return mtl_model_tensor(s->model, tensor)->value;
}

static const mtl_real *crf_gradient(const crf_setup *s, const char *tensor)
{
    const mtl_gradient *g = mtl_gradients_get(mtl_trainer_gradients(s->trainer),
                                              mtl_model_tensor(s->model, tensor));
    assert_int_equal(g->state, MTL_GRAD_DENSE);
    return g->value;
}

static void crf_close_to(double got, double want, double size, const char *what, int number)
{
    if (!(fabs(got - want) <= CRF_TOLERANCE * (size > 1 ? size : 1)))
        fail_msg("%s of case %d is %.12g, not %.12g", what, number, got, want);
}

/* ---- all paths ----------------------------------------------------------------------------------------- */

/* What is expected. */
typedef struct crf_expected {
    double loss, transitions[CRF_LABELS][CRF_LABELS], start[CRF_LABELS], end[CRF_LABELS];
    double slopes[CRF_ROWS][CRF_LABELS];
    int best[CRF_ROWS];
} crf_expected;

/* 1: the path keeps to the scheme. */
static int crf_is_legal(const int *path, int steps)
{
    int t;
    for (t = 0; t < steps; t++) {
        const char *tag = crf_tags[path[t]], *before = t ? crf_tags[path[t - 1]] : "O";
        if (tag[0] == 'I' && (before[0] == 'O' || strcmp(before + 1, tag + 1) != 0)) return 0;
    }
    return 1;
}

static double crf_score(const crf_setup *s, const int *path, int steps, size_t first)
{
    const mtl_real *from = crf_value(s, "slots.transitions");
    double score = (double)crf_value(s, "slots.start")[path[0]]
        + (double)crf_value(s, "slots.end")[path[steps - 1]];
    int t;
    for (t = 0; t < steps; t++) {
        score += (double)s->x[(first + (size_t)t) * s->labels + (size_t)path[t]];
        if (t) score += (double)from[(size_t)path[t - 1] * s->labels + (size_t)path[t]];
    }
    return score;
}

/* The next path, 0 after the last. */
static int crf_next(const crf_setup *s, int *path, int steps)
{
    int t = 0;
    while (t < steps && ++path[t] == (int)s->labels) path[t++] = 0;
    return t < steps;
}

/* Which paths are in a sum: all, those that keep to the labels, in both cases perhaps legal ones alone. */
static int crf_counts(const crf_setup *s, const int *path, int steps, size_t first, int given, int legal)
{
    int t;
    for (t = 0; given && t < steps; t++)
        if (s->gold[first + (size_t)t] >= 0 && s->gold[first + (size_t)t] != path[t]) return 0;
    return !legal || crf_is_legal(path, steps);
}

static void crf_add_path(crf_expected *e, const int *path, int steps, size_t first, double share)
{
    int t;
    e->start[path[0]] += share;
    e->end[path[steps - 1]] += share;
    for (t = 0; t < steps; t++) {
        e->slopes[first + (size_t)t][path[t]] += share;
        if (t) e->transitions[path[t - 1]][path[t]] += share;
    }
}

/* log of the sum over paths; -1e300: there is none. What is expected grows by the factor times how often each
   number is used. */
static double crf_paths(const crf_setup *s, crf_expected *e, int steps, size_t first, int given, int legal,
                        double factor)
{
    int path[CRF_STEPS] = { 0 };
    double most = -1e300, sum = 0;
    do if (crf_counts(s, path, steps, first, given, legal) && crf_score(s, path, steps, first) > most)
        most = crf_score(s, path, steps, first);
    while (crf_next(s, path, steps));
    if (most == -1e300) return most;
    memset(path, 0, sizeof path);
    do if (crf_counts(s, path, steps, first, given, legal))
        sum += exp(crf_score(s, path, steps, first) - most);
    while (crf_next(s, path, steps));
    memset(path, 0, sizeof path);
    do if (factor != 0 && crf_counts(s, path, steps, first, given, legal))
        crf_add_path(e, path, steps, first, factor * exp(crf_score(s, path, steps, first) - most) / sum);
    while (crf_next(s, path, steps));
    return most + log(sum);
}

static void crf_best(const crf_setup *s, crf_expected *e, int steps, size_t first, int legal)
{
    int path[CRF_STEPS] = { 0 };
    double most = -1e300;
    do if (crf_counts(s, path, steps, first, 0, legal) && crf_score(s, path, steps, first) > most) {
        most = crf_score(s, path, steps, first);
        memcpy(e->best + first, path, (size_t)steps * sizeof *path);
    }
    while (crf_next(s, path, steps));
}

static void crf_expect(const crf_setup *s, crf_expected *e)
{
    const int scheme = s->task.labels && s->task.constraints != MTL_CONSTRAINTS_NONE;
    size_t b, n, first = 0, labelled = 0;
    memset(e, 0, sizeof *e);
    for (n = 0; n < s->rows; n++) labelled += s->gold[n] >= 0;
    for (b = 0; b < s->batch.sequences; first += (size_t)s->lengths[b++]) {
        const int steps = s->lengths[b];
        const double share = 1 / (double)labelled;
        const int legal = s->task.constraints == MTL_CONSTRAINTS_TRAINING
            && crf_paths(s, e, steps, first, 1, 1, 0) > -1e300;
        int here = 0, t;
        for (t = 0; t < steps; t++) here |= s->gold[first + (size_t)t] >= 0;
        if (here)
            e->loss += share * (crf_paths(s, e, steps, first, 0, legal, share)
                                - crf_paths(s, e, steps, first, 1, legal, -share));
        crf_best(s, e, steps, first, scheme);
    }
}

/* Probabilities into slopes: of all paths, or all legal ones, whatever the labels are. */
static void crf_expect_p(const crf_setup *s, crf_expected *e)
{
    size_t b, first = 0;
    memset(e->slopes, 0, sizeof e->slopes);
    for (b = 0; b < s->batch.sequences; first += (size_t)s->lengths[b++])
        crf_paths(s, e, s->lengths[b], first, 0, s->task.constraints == MTL_CONSTRAINTS_TRAINING, 1);
}

static void crf_compare(crf_setup *s, const crf_expected *e, int number)
{
    const mtl_real *w = crf_gradient(s, "slots.output.weight"), *b = crf_gradient(s, "slots.output.bias");
    size_t i, j, n;
    crf_close_to(s->step.loss, e->loss, fabs(e->loss), "the loss", number);
    for (i = 0; i < s->labels; i++) {
        double bias = 0;
        crf_close_to((double)crf_gradient(s, "slots.start")[i], e->start[i], 1, "a slope of start", number);
        crf_close_to((double)crf_gradient(s, "slots.end")[i], e->end[i], 1, "a slope of end", number);
        for (n = 0; n < s->rows; n++) bias += e->slopes[n][i];
        crf_close_to((double)b[i], bias, 1, "a slope of a bias", number);
        for (j = 0; j < s->labels; j++) {
            double weight = 0, size = 0;
            crf_close_to((double)crf_gradient(s, "slots.transitions")[i * s->labels + j],
                         e->transitions[i][j], 1, "a slope of a transition", number);
            for (n = 0; n < s->rows; n++) {
                weight += e->slopes[n][i] * (double)s->x[n * s->labels + j];
                size += fabs(e->slopes[n][i] * (double)s->x[n * s->labels + j]);
            }
            crf_close_to((double)w[i * s->labels + j], weight, size, "a slope of a weight", number);
        }
    }
}

static void crf_compare_answers(crf_setup *s, const crf_expected *e, int number)
{
    mtl_predictor_desc how;
    int logits;
    size_t n, j;
    memset(&how, 0, sizeof how);
    for (logits = 0; logits < 2; logits++) {
        mtl_predictor *predictor;
        mtl_prediction out;
        how.logits = logits;
        predictor = mtl_predictor_create(s->model, &how, &s->err);
        mtl_predict(predictor, &s->batch, &out, &s->err);
        TEST_FINE(&s->err);
        assert_true((out.probabilities == NULL) == logits && (out.logits != NULL) == logits);
        for (n = 0; n < s->rows; n++) {
            assert_int_equal(out.labels[n], e->best[n]);
            for (j = 0; !logits && j < s->labels; j++)
                crf_close_to((double)out.probabilities[n * s->labels + j], e->slopes[n][j], 1,
                             "a probability", number);
        }
        if (logits) assert_memory_equal(out.logits, s->x, s->rows * s->labels * sizeof *s->x);
        mtl_predictor_destroy(predictor);
    }
}

/* Every size, labels missing or not, schemes, scores near each other (scaled sums) and far apart
   (logarithms). */
static void test_crf_all_paths(void **state)
{
    static const double sizes[] = { 2, 12, 200 }, shares[] = { 0, 0.4, 0.8 };
    crf_expected *e = (crf_expected *)malloc(sizeof *e);
    int i;
    (void)state;
    assert_non_null(e);
    for (i = 0; i < test_cases(360); i++) {
        const size_t labels = i % 5 < 2 ? CRF_LABELS : (size_t)(i % 5);
        const int scheme = labels == CRF_LABELS ? i / 5 % 4 : 3;
        crf_setup s;
        crf_open(&s, labels, scheme < 3 ? crf_tags : NULL, scheme < 3 ? scheme + MTL_CONSTRAINTS_DECODING : 0,
                 i % 7 == 0 ? CRF_SEQUENCES : 1 + i % 4, i % 2 ? CRF_STEPS : CRF_STEPS - 1, sizes[i / 20 % 3],
                 shares[i / 60 % 3], (unsigned long long)i, NULL);
        if (s.gold[0] < 0) s.gold[0] = 0;
        mtl_train_gradients(s.trainer, &s.batch, 1, &s.step, &s.err);
        TEST_FINE(&s.err);
        crf_expect(&s, e);
        crf_compare(&s, e, i);
        crf_expect_p(&s, e);
        crf_compare_answers(&s, e, i);
        crf_close(&s);
    }
    free(e);
}

/* ---- the k best paths ---------------------------------------------------------------------------------- */

enum { CRF_PATHS = 3125 };                  /* CRF_LABELS to the power CRF_STEPS */

static int crf_falling(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x > y ? -1 : x < y;
}

/* Scores of all paths that count, best first; returns how many. */
static size_t crf_all_scores(const crf_setup *s, int steps, size_t first, int legal, double *scores)
{
    int path[CRF_STEPS] = { 0 };
    size_t count = 0;
    do if (crf_counts(s, path, steps, first, 0, legal)) scores[count++] = crf_score(s, path, steps, first);
    while (crf_next(s, path, steps));
    qsort(scores, count, sizeof *scores, crf_falling);
    return count;
}

/* Path k of a sequence has the k-th best score, and the probability that belongs to it. */
static void crf_compare_path(const crf_setup *s, const mtl_prediction *out, size_t b, size_t first, size_t k,
                             const double *scores, size_t count, double log_z, int legal, int number)
{
    const int *path = out->paths + k * out->items + first;
    const double log_p = (double)out->path_log_p[k * s->batch.sequences + b];
    const size_t steps = (size_t)s->lengths[b];
    size_t t, other;
    if (k >= count) {
        assert_true(mtl__is_nan((mtl_real)log_p));
        for (t = 0; t < steps; t++) assert_int_equal(path[t], MTL_MISSING);
        return;
    }
    assert_true(!legal || crf_is_legal(path, (int)steps));
    crf_close_to(crf_score(s, path, (int)steps, first), scores[k], 1e-6 + fabs(scores[k]), "a path's score",
                 number);
    crf_close_to(log_p, scores[k] - log_z, 1 + fabs(log_z), "a path's log p", number);
    for (other = 0; other < k; other++)
        assert_true(memcmp(path, out->paths + other * out->items + first, steps * sizeof *path) != 0);
}

static void crf_compare_paths(crf_setup *s, crf_expected *e, int k, int threads, int number)
{
    const int scheme = s->task.labels && s->task.constraints != MTL_CONSTRAINTS_NONE;
    static double scores[CRF_PATHS];
    mtl_predictor_desc how = {0};
    mtl_predictor *predictor;
    mtl_prediction out;
    void *memory, *start;
    size_t b, i, bytes, first = 0;
    how.paths = k;
    how.threads = threads;
    how.max_rows = s->rows;                                         /* all memory is the caller's */
    how.max_sequences = s->batch.sequences;
    bytes = mtl_predictor_size(s->model, &how, &s->err);
    memory = test_aligned(bytes, &start);
    predictor = mtl_predictor_init(memory, bytes, s->model, &how, &s->err);
    mtl_predict(predictor, &s->batch, &out, &s->err);
    TEST_FINE(&s->err);
    assert_int_equal(out.path_count, k);
    for (b = 0; b < s->batch.sequences; first += (size_t)s->lengths[b++]) {
        const size_t count = crf_all_scores(s, s->lengths[b], first, scheme, scores);
        const double log_z = crf_paths(s, e, s->lengths[b], first, 0,
                                       s->task.constraints == MTL_CONSTRAINTS_TRAINING, 0);
        for (i = 0; i < (size_t)k; i++)
            crf_compare_path(s, &out, b, first, i, scores, count, log_z, scheme, number);
        crf_close_to(crf_score(s, out.labels + first, s->lengths[b], first), scores[0],
                     1e-6 + fabs(scores[0]), "the labels' score", number);
    }
    mtl_predictor_destroy(predictor);
    free(start);
}

/* Against all paths, listed and sorted: every size, schemes, scores near each other and far apart, more paths
   asked for than there are. */
static void test_crf_k_best_paths(void **state)
{
    static const double sizes[] = { 2, 12, 200 };
    static const int counts[] = { 1, 2, 7, 40 };
    crf_expected *e = (crf_expected *)calloc(1, sizeof *e);
    int i;
    (void)state;
    assert_non_null(e);
    for (i = 0; i < test_cases(240); i++) {
        const size_t labels = i % 5 < 2 ? CRF_LABELS : (size_t)(i % 5);
        const int scheme = labels == CRF_LABELS ? i / 5 % 4 : 3;
        crf_setup s;
        crf_open(&s, labels, scheme < 3 ? crf_tags : NULL, scheme < 3 ? scheme + MTL_CONSTRAINTS_DECODING : 0,
                 i % 17 == 0 ? CRF_SEQUENCES : 1 + i % 4, i % 2 ? CRF_STEPS : CRF_STEPS - 1,
                 sizes[i / 20 % 3], 0, (unsigned long long)i, NULL);
        crf_compare_paths(&s, e, counts[i % 4], 1 + i % 3, i);
        crf_close(&s);
    }
    free(e);
}

/* A sequence that is left out, and one whose output is no number, have no paths; none are told unasked. */
static void test_crf_paths_that_are_none(void **state)
{
    crf_setup s;
    mtl_predictor_desc how = {0};
    mtl_predictor *predictor;
    mtl_prediction out;
    size_t k, n;
    (void)state;
    crf_open(&s, 3, NULL, 0, 2, CRF_STEPS, 2, 0, 1, NULL);
    how.skip_bad = 1;
    predictor = mtl_predictor_create(s.model, &how, &s.err);
    mtl_predict(predictor, &s.batch, &out, &s.err);
    TEST_FINE(&s.err);
    assert_true(!out.path_count && !out.paths && !out.path_log_p);
    mtl_predictor_destroy(predictor);
    how.paths = 3;
    predictor = mtl_predictor_create(s.model, &how, &s.err);
    s.x[0] = mtl__nan();
    mtl_predict(predictor, &s.batch, &out, &s.err);
    TEST_FINE(&s.err);
    for (k = 0; k < 3; k++) {
        assert_true(mtl__is_nan(out.path_log_p[2 * k]) && !mtl__is_nan(out.path_log_p[2 * k + 1]));
        for (n = 0; n < s.rows; n++)
            assert_int_equal(out.paths[k * s.rows + n] == MTL_MISSING, n < (size_t)s.lengths[0]);
    }
    mtl_predictor_destroy(predictor);
    how.paths = 1001;
    assert_null(mtl_predictor_create(s.model, &how, &s.err));
    test_expect_error(&s.err, MTL_ERROR_FIELD, "predictor.paths", "between 0 and 1000");
    crf_close(&s);
}

/* ---- many labels --------------------------------------------------------------------------------------- */

/* Gradients of `from` among those of `to`, which has one label more. */
static void crf_compare_wider(crf_setup *narrow, crf_setup *wide, int number)
{
    static const char *const tensors[] = { "slots.transitions", "slots.start", "slots.end" };
    size_t k, i, j;
    crf_close_to(wide->step.loss, narrow->step.loss, narrow->step.loss, "the loss", number);
    for (k = 0; k < 3; k++) {
        const mtl_real *a = crf_gradient(narrow, tensors[k]), *b = crf_gradient(wide, tensors[k]);
        const size_t rows = k ? 1 : narrow->labels;
        for (i = 0; i < rows; i++)
            for (j = 0; j < narrow->labels; j++)
                crf_close_to((double)b[i * wide->labels + j], (double)a[i * narrow->labels + j], 1,
                             tensors[k], number);
    }
}

/* A label whose emission is -300 takes sums in logarithms, and changes nothing. */
static void crf_widen(const crf_setup *from, crf_setup *to)
{
    static const char *const tensors[] = { "slots.transitions", "slots.start", "slots.end" };
    size_t k, i, j;
    for (k = 0; k < 3; k++) {
        const mtl_tensor *a = mtl_model_tensor(from->model, tensors[k]);
        mtl_tensor *b = mtl_model_tensor(to->model, tensors[k]);
        for (i = 0; i < (k ? 1 : from->labels); i++)
            memcpy(b->value + i * to->labels, a->value + i * from->labels, from->labels * sizeof(mtl_real));
    }
    for (i = 0; i < from->rows; i++) {
        for (j = 0; j < from->labels; j++) to->x[i * to->labels + j] = from->x[i * from->labels + j];
        to->x[i * to->labels + j] = -300;
    }
    memcpy(to->gold, from->gold, from->rows * sizeof *to->gold);
    memcpy(to->lengths, from->lengths, from->batch.sequences * sizeof *to->lengths);
}

static void test_crf_many_labels(void **state)
{
    static const size_t sizes[] = { 15, 16, 17, 40, 72 };
    int i;
    (void)state;
    for (i = 0; i < 5; i++) {
        crf_setup narrow, wide;
        mtl_prediction a, b;
        mtl_predictor *p, *q;
        size_t n, j;
        crf_open(&narrow, sizes[i], NULL, 0, 19, 9, 6, i % 2 * 0.3, (unsigned long long)i, NULL);
        crf_open(&wide, sizes[i] + 1, NULL, 0, 19, 9, 6, 0, (unsigned long long)i, NULL);
        crf_widen(&narrow, &wide);
        mtl_train_gradients(narrow.trainer, &narrow.batch, 1, &narrow.step, &narrow.err);
        mtl_train_gradients(wide.trainer, &wide.batch, 1, &wide.step, &wide.err);
        TEST_FINE(&wide.err);
        crf_compare_wider(&narrow, &wide, i);
        p = mtl_predictor_create(narrow.model, NULL, &narrow.err);
        q = mtl_predictor_create(wide.model, NULL, &wide.err);
        mtl_predict(p, &narrow.batch, &a, &narrow.err);
        mtl_predict(q, &wide.batch, &b, &wide.err);
        TEST_FINE(&narrow.err);
        TEST_FINE(&wide.err);
        assert_memory_equal(a.labels, b.labels, narrow.rows * sizeof(int));
        for (n = 0; n < narrow.rows; n++)
            for (j = 0; j < narrow.labels; j++)
                crf_close_to((double)b.probabilities[n * wide.labels + j],
                             (double)a.probabilities[n * narrow.labels + j], 1, "a probability", i);
        mtl_predictor_destroy(p);
        mtl_predictor_destroy(q);
        crf_close(&narrow);
        crf_close(&wide);
    }
}

/* ---- in a model ---------------------------------------------------------------------------------------- */

/* An encoder, a crf, and a task that reads the crf's outputs and probabilities; some labels missing. */
static void crf_encoder_tasks(mtl_task_desc *tasks, int number)
{
    crf_task(&tasks[0], CRF_LABELS, crf_tags, number % 4);
    tasks[0].tap.from = NULL;
    tasks[0].hidden[0] = number % 2 ? 7 : 0;
    tasks[0].activation = MTL_ACTIVATION_TANH;
    tasks[0].dropout = number % 3 == 2 ? 0.3f : 0;
    memset(&tasks[1], 0, sizeof tasks[1]);
    tasks[1].name = "intent";
    tasks[1].classes = 3;
    tasks[1].tap.from = number % 4 < 2 ? "encoder+slots" : "encoder";
}

static void test_crf_gradients(void **state)
{
    int i;
    (void)state;
    for (i = 0; i < test_cases(40); i++) {
        tasks_model m;
        char what[32];
        tasks_open(&m);
        crf_encoder_tasks(m.tasks, i);
        tasks_create(&m, 2, i % 3 == 0 ? 19 : 4, i % 4 * 0.3, (unsigned long long)i);
        snprintf(what, sizeof what, "crf, case %d", i);
        model_check(m.model, NULL, &m.batch->batch, 1, 0, what);
        tasks_close(&m);
    }
}

/* A sequence without a label adds nothing, and a batch without any leaves the chain alone. Parts of an update
   add up to it. */
static void test_crf_parts_of_an_update(void **state)
{
    mtl_real *before;
    crf_setup s;
    mtl_batch halves[2];
    mtl_input inputs[2];
    mtl_target targets[2];
    double whole;
    size_t i, first = 0, count;
    (void)state;
    crf_open(&s, CRF_LABELS, NULL, 0, 21, 6, 4, 0.3, 1, NULL);
    for (i = 0; i < (size_t)s.lengths[0]; i++) s.gold[i] = MTL_MISSING;
    mtl_train_gradients(s.trainer, &s.batch, 1, &s.step, &s.err);
    whole = s.step.loss;
    count = s.labels * s.labels;
    before = (mtl_real *)malloc(count * sizeof *before);
    memcpy(before, crf_gradient(&s, "slots.transitions"), count * sizeof *before);
    for (i = 0; i < 10; i++) first += (size_t)s.lengths[i];
    halves[0] = halves[1] = s.batch;
    halves[0].sequences = 10;
    halves[1].sequences -= 10;
    halves[1].lengths += 10;
    inputs[0].rows = s.x;
    inputs[1].rows = s.x + first * s.labels;
    inputs[0].ids = inputs[1].ids = NULL;
    targets[0] = targets[1] = s.target;
    targets[1].labels += first;
    for (i = 0; i < 2; i++) {
        halves[i].inputs = &inputs[i];
        halves[i].targets = &targets[i];
    }
    mtl_train_gradients(s.trainer, halves, 2, &s.step, &s.err);
    TEST_FINE(&s.err);
    crf_close_to(s.step.loss, whole, whole, "the loss", 0);
    assert_true(test_distance(crf_gradient(&s, "slots.transitions"), before, count, 1e-3) < 1e-4);
    for (i = 0; i < s.rows; i++) s.gold[i] = MTL_MISSING;
    mtl_train_gradients(s.trainer, &s.batch, 1, &s.step, &s.err);
    TEST_FINE(&s.err);
    assert_true(s.step.loss == 0 && s.step.task_items[0] == 0);
    free(before);
    crf_close(&s);
}

/* The same bits for any number of threads; for instruction sets the same but for rounding. */
static void test_crf_threads_and_isas(void **state)
{
    mtl_trainer_desc how;
    mtl_real *first = NULL;
    size_t count = 0, i;
    int threads, isa;
    (void)state;
    memset(&how, 0, sizeof how);
    for (threads = 1; threads < 5; threads += threads < 3 ? 1 : 2) {
        mtl_predictor_desc reading;
        mtl_predictor *predictor;
        mtl_prediction out;
        crf_setup s;
        how.threads = threads;
        crf_open(&s, 19, NULL, 0, 70, 11, 9, 0.2, 5, &how);
        s.x[0] = 90;                        /* one in logarithms */
        for (i = 0; i < 3; i++) mtl_train_step(s.trainer, &s.batch, 1, &s.step, &s.err);
        memset(&reading, 0, sizeof reading);
        reading.threads = threads;
        predictor = mtl_predictor_create(s.model, &reading, &s.err);
        mtl_predict(predictor, &s.batch, &out, &s.err);
        TEST_FINE(&s.err);
        count = s.rows * s.labels;
        if (!first) first = (mtl_real *)memcpy(malloc(count * sizeof *first), out.probabilities,
                                               count * sizeof *first);
        assert_memory_equal(first, out.probabilities, count * sizeof *first);
        mtl_predictor_destroy(predictor);
        crf_close(&s);
    }
    how.threads = 1;
    for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++) {
        mtl_predictor_desc reading;
        mtl_predictor *predictor;
        mtl_prediction out;
        crf_setup s;
        if (!mtl__kernels_choose(isa)) continue;
        how.isa = isa;
        crf_open(&s, 19, NULL, 0, 70, 11, 9, 0.2, 5, &how);
        s.x[0] = 90;
        for (i = 0; i < 3; i++) mtl_train_step(s.trainer, &s.batch, 1, &s.step, &s.err);
        memset(&reading, 0, sizeof reading);
        reading.isa = isa;
        predictor = mtl_predictor_create(s.model, &reading, &s.err);
        mtl_predict(predictor, &s.batch, &out, &s.err);
        TEST_FINE(&s.err);
        assert_true(test_distance(out.probabilities, first, count, 1) < 1e-4);
        mtl_predictor_destroy(predictor);
        crf_close(&s);
    }
    free(first);
}

/* ---- files, streams, bad use --------------------------------------------------------------------------- */

static void test_crf_files(void **state)
{
    const char *path = test_path("crf.safetensors");
    mtl_model *loaded;
    mtl_prediction a, b;
    mtl_predictor *p, *q;
    crf_setup s;
    (void)state;
    crf_open(&s, CRF_LABELS, crf_tags, MTL_CONSTRAINTS_TRAINING, 5, 5, 3, 0, 2, NULL);
    mtl_model_save(s.model, path, &s.err);
    loaded = mtl_model_load(path, &s.err);
    TEST_FINE(&s.err);
    assert_int_equal(mtl_model_describe(loaded)->tasks[0].kind, MTL_TASK_CRF);
    assert_int_equal(mtl_model_describe(loaded)->tasks[0].constraints, MTL_CONSTRAINTS_TRAINING);
    p = mtl_predictor_create(s.model, NULL, &s.err);
    q = mtl_predictor_create(loaded, NULL, &s.err);
    mtl_predict(p, &s.batch, &a, &s.err);
    mtl_predict(q, &s.batch, &b, &s.err);
    TEST_FINE(&s.err);
    assert_memory_equal(a.labels, b.labels, s.rows * sizeof(int));
    assert_memory_equal(a.probabilities, b.probabilities, s.rows * s.labels * sizeof(mtl_real));
    assert_int_equal(mtl_stream_size(loaded, NULL, &s.err), 0);
    test_expect_error(&s.err, MTL_ERROR_UNSUPPORTED, "slots", "crf");
    mtl_predictor_destroy(p);
    mtl_predictor_destroy(q);
    mtl_model_destroy(loaded);
    remove(path);
    crf_close(&s);
}

static void crf_refuse(const mtl_task_desc *task, const char *part)
{
    mtl_model_desc desc;
    mtl_input_desc input;
    mtl_error err = {0};
    crf_describe(&desc, &input, task, 1, 3);
    assert_null(mtl_model_create(&desc, &err));
    test_expect_error(&err, MTL_ERROR_FIELD, "tasks[0]", part);
}

static void test_crf_bad_use(void **state)
{
    static const float weights[CRF_LABELS] = { 1, 1, 1, 1, 1 };
    mtl_real shares[CRF_ROWS * CRF_LABELS];
    mtl_task_desc task;
    crf_setup s;
    size_t i;
    (void)state;
    crf_task(&task, CRF_LABELS, crf_tags, 0);
    task.level = MTL_LEVEL_SEQUENCE;
    crf_refuse(&task, "level");
    crf_task(&task, CRF_LABELS, crf_tags, 0);
    task.class_weights = weights;
    crf_refuse(&task, "class_weights");
    crf_task(&task, CRF_LABELS, crf_tags, 0);
    task.loss = MTL_LOSS_MSE;
    crf_refuse(&task, "loss");
    crf_task(&task, CRF_LABELS, NULL, MTL_CONSTRAINTS_TRAINING);
    crf_refuse(&task, "constraints");
    crf_task(&task, 0, NULL, 0);
    crf_refuse(&task, "classes");
    crf_open(&s, CRF_LABELS, NULL, 0, 4, 5, 3, 0, 2, NULL);
    for (i = 0; i < s.rows * s.labels; i++) shares[i] = (mtl_real)0.2;
    s.target.labels = NULL;
    s.target.distribution = shares;
    assert_int_equal(mtl_train_step(s.trainer, &s.batch, 1, &s.step, &s.err), MTL_ERROR_ARGUMENT);
    test_expect_error(&s.err, MTL_ERROR_ARGUMENT, "slots", "labels");
    crf_close(&s);
}

/* A score that is not finite spoils the loss; of answers its own sequence alone. */
static void test_crf_not_finite(void **state)
{
    mtl_predictor_desc how;
    mtl_predictor *predictor;
    mtl_prediction out;
    crf_setup s;
    size_t n, last;
    (void)state;
    crf_open(&s, CRF_LABELS, NULL, 0, 6, 5, 3, 0, 2, NULL);
    last = s.rows - 1;
    mtl_model_tensor(s.model, "slots.output.weight")->value[0] = (mtl_real)1e38;
    mtl_model_prepare(s.model, &s.err);
    for (n = 0; n < s.rows; n++) s.x[n * s.labels] = 0;
    s.x[last * s.labels] = MTL__REAL_IS_DOUBLE ? (mtl_real)1e300 : (mtl_real)1e30;
    mtl_model_tensor(s.model, "slots.output.bias")->value[1] = 0;
    assert_int_equal(mtl_train_step(s.trainer, &s.batch, 1, &s.step, &s.err), MTL_ERROR_NUMBER);
    test_expect_error(&s.err, MTL_ERROR_NUMBER, NULL, "slots");
    memset(&how, 0, sizeof how);
    how.skip_bad = 1;
    predictor = mtl_predictor_create(s.model, &how, &s.err);
    mtl_predict(predictor, &s.batch, &out, &s.err);
    TEST_FINE(&s.err);
    for (n = 0; n < s.rows; n++) {
        const int bad = n + (size_t)s.lengths[5] > last;
        assert_int_equal(out.labels[n] == MTL_MISSING, bad);
        assert_int_equal(mtl_is_missing(out.probabilities[n * s.labels]), bad);
    }
    mtl_predictor_destroy(predictor);
    crf_close(&s);
}

#define TEST_CRF \
    cmocka_unit_test(test_crf_k_best_paths), cmocka_unit_test(test_crf_paths_that_are_none), \
    cmocka_unit_test(test_crf_all_paths), cmocka_unit_test(test_crf_many_labels), \
    cmocka_unit_test(test_crf_gradients), cmocka_unit_test(test_crf_parts_of_an_update), \
    cmocka_unit_test(test_crf_threads_and_isas), cmocka_unit_test(test_crf_files), \
    cmocka_unit_test(test_crf_bad_use), cmocka_unit_test(test_crf_not_finite)
