/* >>optimise: every rule against its formulas in double for 50 updates, gradient states, clipping, schedules,
   averaging. Included by tests/main.c. PyTorch's own numbers stand in test_golden.c. */

enum { OPTIMISE_STEPS = 50, OPTIMISE_TENSORS = 4, OPTIMISE_WEIGHT = 0, OPTIMISE_BIAS, OPTIMISE_TABLE,
    OPTIMISE_LARGE };

/* Rounding of 50 float updates of numbers near 1. */
#define OPTIMISE_CLOSE (MTL__REAL_IS_DOUBLE ? 1e-12 : 2e-5)

/* One rule with its numbers; 0 where it has none. */
static const struct optimise_rule {
    const char *name;
    int optimizer, nesterov, lazy, decay_biases;
    double momentum, beta1, beta2, epsilon, l2, l1, decay, clip_value;
} optimise_rules[] = {
    { "sgd", MTL_OPTIMIZER_SGD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 },
    { "sgd, decays", MTL_OPTIMIZER_SGD, 0, 0, 1, 0, 0, 0, 0, 0.03, 0.002, 0, 0 },
    { "sgd, momentum", MTL_OPTIMIZER_SGD, 0, 0, 0, 0.9, 0, 0, 0, 0, 0, 0, 0 },
    { "sgd, momentum, lazy", MTL_OPTIMIZER_SGD, 0, 1, 0, 0.9, 0, 0, 0, 0, 0, 0, 0 },
    { "sgd, nesterov, l2", MTL_OPTIMIZER_SGD, 1, 0, 0, 0.8, 0, 0, 0, 0.01, 0, 0, 0 },
    { "rmsprop", MTL_OPTIMIZER_RMSPROP, 0, 0, 0, 0, 0, 0.99, 1e-8, 0, 0, 0, 0 },
    { "rmsprop, momentum, l1", MTL_OPTIMIZER_RMSPROP, 0, 0, 1, 0.7, 0, 0.95, 1e-4, 0, 0.01, 0, 0 },
    { "rmsprop, lazy", MTL_OPTIMIZER_RMSPROP, 0, 1, 0, 0.5, 0, 0.9, 1e-6, 0, 0, 0, 0 },
    { "adam", MTL_OPTIMIZER_ADAM, 0, 0, 0, 0, 0.9, 0.999, 1e-8, 0, 0, 0, 0 },
    { "adam, lazy", MTL_OPTIMIZER_ADAM, 0, 1, 0, 0, 0.9, 0.999, 1e-8, 0, 0, 0, 0 },
    { "adam, l2, clipped values", MTL_OPTIMIZER_ADAM, 0, 0, 1, 0, 0.8, 0.99, 1e-6, 0.02, 0, 0, 0.25 },
    { "adamw", MTL_OPTIMIZER_ADAMW, 0, 0, 0, 0, 0.9, 0.98, 1e-8, 0, 0, 0.05, 0 },
    { "adamw, biases too", MTL_OPTIMIZER_ADAMW, 0, 0, 1, 0, 0.9, 0.999, 1e-8, 0, 0, 0.05, 0 },
    { "adamw, everything", MTL_OPTIMIZER_ADAMW, 0, 0, 1, 0, 0.85, 0.9, 1e-5, 0.01, 0.003, 0.1, 0.5 } };

/* What one tensor should be: computed in double by the text-book. */
typedef struct optimise_reference {
    double *p, *g, *m, *v;
    unsigned char *seen;                    /* [count] 1: the element's row has a gradient in this update */
    size_t count;
    int steps;
} optimise_reference;

typedef struct optimise_setup {
    const struct optimise_rule *rule;
    mtl_error err;
    mtl_arena memory, scratch;
    mtl_parameters set;
    mtl_gradients *gradients;
    mtl_trainer_desc desc;
    mtl__optimizer optimizer;
    mtl_run run;
    test_random random;
    optimise_reference want[OPTIMISE_TENSORS];
} optimise_setup;

static void optimise_fill_desc(mtl_trainer_desc *d, const struct optimise_rule *rule)
{
    memset(d, 0, sizeof *d);
    d->optimizer = rule->optimizer;
    d->nesterov = rule->nesterov;
    d->lazy = rule->lazy;
    d->decay_biases = rule->decay_biases;
    d->momentum = (float)rule->momentum;
    d->beta1 = (float)rule->beta1;
    d->beta2 = (float)rule->beta2;
    d->epsilon = (float)rule->epsilon;
    d->l2 = (float)rule->l2;
    d->l1 = (float)rule->l1;
    d->decay = (float)rule->decay;
    d->clip_value = (float)rule->clip_value;
}

static void optimise_add_tensors(optimise_setup *s)
{
    size_t i, k;
    mtl_parameters_init(&s->set, &s->memory);
    mtl_parameters_add(&s->set, "weight", 7, 5, MTL_TENSOR_WEIGHT, &s->err);
    mtl_parameters_add(&s->set, "bias", 9, 0, MTL_TENSOR_BIAS, &s->err);
    mtl_parameters_add(&s->set, "table", 70, 3, MTL_TENSOR_EMBEDDING, &s->err);
    mtl_parameters_add(&s->set, "large", 331, 101, MTL_TENSOR_WEIGHT, &s->err);      /* more than one piece */
    mtl_parameters_allocate(&s->set, &s->err);
    TEST_FINE(&s->err);
    mtl_parameters_randomise(&s->set, 4);
    s->set.tensors[OPTIMISE_WEIGHT]->value[3] = 0;                                /* where |p| has no slope */
    s->set.tensors[OPTIMISE_LARGE]->no_decay = 1;
    for (i = 0; i < OPTIMISE_TENSORS; i++) {
        optimise_reference *w = &s->want[i];
        w->count = s->set.tensors[i]->count;
        w->p = (double *)calloc(4 * w->count, sizeof *w->p);
        w->seen = (unsigned char *)calloc(w->count, 1);
        assert_true(w->p && w->seen);
        w->g = w->p + w->count;
        w->m = w->g + w->count;
        w->v = w->m + w->count;
        for (k = 0; k < w->count; k++) w->p[k] = (double)s->set.tensors[i]->value[k];
    }
}

static void optimise_open(optimise_setup *s, const struct optimise_rule *rule, int isa)
{
    memset(s, 0, sizeof *s);
    s->rule = rule;
    s->random = test_random_from(3);
    mtl_arena_init(&s->memory, NULL, 0, NULL);
    mtl_arena_init(&s->scratch, NULL, 0, NULL);
    optimise_fill_desc(&s->desc, rule);
    optimise_add_tensors(s);
    s->gradients = mtl_gradients_create(&s->set, &s->memory, &s->err);
    TEST_FINE(&s->err);
    mtl__optimizer_init(&s->optimizer, &s->desc, &s->set, s->gradients, &s->memory, &s->err);
    TEST_FINE(&s->err);
    s->run.kernels = mtl__kernels_choose(isa);
    s->run.arena = &s->scratch;
    s->run.gradients = s->gradients;
    s->run.error = &s->err;
}

static void optimise_close(optimise_setup *s)
{
    size_t i;
    for (i = 0; i < OPTIMISE_TENSORS; i++) {
        free(s->want[i].p);
        free(s->want[i].seen);
    }
    mtl_arena_destroy(&s->memory);
    mtl_arena_destroy(&s->scratch);
}

/* ---- gradients of one update --------------------------------------------------------------------------- */

static void optimise_set_gradient(optimise_setup *s, size_t tensor, size_t k)
{
    double g = test_random_real(&s->random, -1, 1);
    s->gradients->of[tensor].value[k] = (mtl_real)g;
    s->want[tensor].g[k] = (double)(mtl_real)g;
    s->want[tensor].seen[k] = 1;
}

/* Random gradients: the weight always, the bias in two updates of three, rows of the table (now and then all
   of it, now and then none). What a state does not name holds NaN, as it may. */
static void optimise_set_gradients(optimise_setup *s, int step)
{
    size_t i, k, row;
    mtl__gradients_reset(s->gradients);
    for (i = 0; i < OPTIMISE_TENSORS; i++) {
        const mtl_tensor *t = s->set.tensors[i];
        mtl_gradient *g = &s->gradients->of[i];
        memset(s->want[i].g, 0, t->count * sizeof(double));
        memset(s->want[i].seen, 0, t->count);
        for (k = 0; k < t->count; k++) g->value[k] = test_nan();
        /* NONE */
        if ((i == OPTIMISE_BIAS && step % 3 == 1) || (i == OPTIMISE_TABLE && step % 7 == 6)) continue;
        g->state = i == OPTIMISE_TABLE && step % 5 ? MTL_GRAD_ROWS : MTL_GRAD_DENSE;
        if (g->state == MTL_GRAD_DENSE) {
            for (k = 0; k < t->count; k++) optimise_set_gradient(s, i, k);
            continue;
        }
        for (row = (size_t)(step % 4); row < t->shape[0];
             row += (size_t)test_random_between(&s->random, 1, 3)) {
            const int fresh = (int)row;
            mtl__gradient_add_rows(s->gradients, t, &fresh, 1);
            for (k = row * 3; k < row * 3 + 3; k++) optimise_set_gradient(s, i, k);
        }
    }
}

/* ---- the text-book ------------------------------------------------------------------------------------- */

static void optimise_element(const struct optimise_rule *r, optimise_reference *w, size_t k, double lr,
                             double scale, int decays)
{
    double g = scale * w->g[k], p = w->p[k], *m = &w->m[k], *v = &w->v[k];
    if (r->clip_value > 0) g = g > r->clip_value ? r->clip_value : g < -r->clip_value ? -r->clip_value : g;
    if (decays) {
        g += r->l2 * p + r->l1 * (p > 0 ? 1 : p < 0 ? -1 : 0);
        p -= lr * r->decay * p;
    }
    if (r->optimizer == MTL_OPTIMIZER_SGD) {
        *m = w->steps == 1 ? g : r->momentum * *m + g;
        p -= lr * (r->momentum == 0 ? g : r->nesterov ? g + r->momentum * *m : *m);
    } else if (r->optimizer == MTL_OPTIMIZER_RMSPROP) {
        *v = r->beta2 * *v + (1 - r->beta2) * g * g;
        *m = r->momentum * *m + g / (sqrt(*v) + r->epsilon);
        p -= lr * *m;
    } else {
        *m = r->beta1 * *m + (1 - r->beta1) * g;
        *v = r->beta2 * *v + (1 - r->beta2) * g * g;
        p -= lr * (*m / (1 - pow(r->beta1, w->steps)))
            / (sqrt(*v / (1 - pow(r->beta2, w->steps))) + r->epsilon);
    }
    w->p[k] = p;
}

/* Tensors without a gradient are skipped and keep their step count; lazy: so are rows without one. */
static void optimise_expect(optimise_setup *s, double lr, double scale)
{
    size_t i, k;
    for (i = 0; i < OPTIMISE_TENSORS; i++) {
        optimise_reference *w = &s->want[i];
        const mtl_tensor *t = s->set.tensors[i];
        int decays = !t->no_decay && (t->role != MTL_TENSOR_BIAS || s->rule->decay_biases);
        if (t->frozen || s->gradients->of[i].state == MTL_GRAD_NONE) continue;
        w->steps++;
        for (k = 0; k < w->count; k++)
            if (w->seen[k] || !s->rule->lazy) optimise_element(s->rule, w, k, lr * (double)t->rate, scale,
                                                               decays);
    }
}

static void optimise_compare(const optimise_setup *s, int step)
{
    size_t i, k;
    for (i = 0; i < OPTIMISE_TENSORS; i++)
        for (k = 0; k < s->want[i].count; k++) {
            double got = (double)s->set.tensors[i]->value[k], want = s->want[i].p[k];
            if (!mtl__is_finite(s->set.tensors[i]->value[k]) ||
                !(fabs(got - want) <= OPTIMISE_CLOSE * (1 + fabs(want))))
                fail_msg("%s: after update %d, %s[%lu] is %.12g, not %.12g", s->rule->name, step,
                         s->set.tensors[i]->name, (unsigned long)k, got, want);
        }
}

static void optimise_run(optimise_setup *s, int steps)
{
    int step;
    size_t i;
    for (step = 1; step <= steps; step++) {
        double lr = 0.01 / (1 + 0.1 * step), scale = step % 2 ? 1 : 0.6;
        optimise_set_gradients(s, step);
        optimise_expect(s, lr, scale);
        mtl__optimizer_apply(&s->optimizer, &s->run, lr, scale);
        TEST_FINE(&s->err);
        optimise_compare(s, step);
        for (i = 0; i < OPTIMISE_TENSORS; i++) assert_int_equal(s->optimizer.steps[i], s->want[i].steps);
    }
}

static void test_optimise_rules(void **state)
{
    size_t r;
    int isa;
    (void)state;
    for (r = 0; r < MTL__COUNT(optimise_rules); r++)
        for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++) {
            optimise_setup s;
            if (!mtl__kernels_choose(isa) || (test_quick() &&
                              mtl__kernels_choose(isa) != mtl__kernels_choose(MTL_ISA_AUTO))) continue;
            optimise_open(&s, &optimise_rules[r], isa);
            optimise_run(&s, OPTIMISE_STEPS);
            optimise_close(&s);
        }
}

/* Rates multiply the learning rate; what is frozen stays to the bit. */
static void test_optimise_rates_and_frozen(void **state)
{
    size_t r;
    (void)state;
    for (r = 0; r < MTL__COUNT(optimise_rules); r++) {
        optimise_setup s;
        mtl_real before[70 * 3];
        optimise_open(&s, &optimise_rules[r], MTL_ISA_AUTO);
        s.set.tensors[OPTIMISE_WEIGHT]->rate = 0.25f;
        s.set.tensors[OPTIMISE_BIAS]->rate = 3;
        s.set.tensors[OPTIMISE_TABLE]->frozen = 1;
        memcpy(before, s.set.tensors[OPTIMISE_TABLE]->value, sizeof before);
        optimise_run(&s, 10);
        assert_memory_equal(before, s.set.tensors[OPTIMISE_TABLE]->value, sizeof before);
        assert_int_equal(s.optimizer.steps[OPTIMISE_TABLE], 0);
        optimise_close(&s);
    }
}

/* Where every row has a gradient, lazy is exact. */
static void test_optimise_lazy_with_all_rows(void **state)
{
    optimise_setup lazy, exact;
    int step;
    size_t k;
    (void)state;
    optimise_open(&lazy, &optimise_rules[9], MTL_ISA_AUTO);
    optimise_open(&exact, &optimise_rules[8], MTL_ISA_AUTO);
    for (step = 1; step <= 5; step++) {
        for (k = 0; k < 70; k++) {
            const int fresh = (int)k;
            size_t j;
            if (step == 1) mtl__gradient_add_rows(lazy.gradients, lazy.set.tensors[OPTIMISE_TABLE], &fresh,
                                                  1);
            for (j = 0; j < 3; j++)
                lazy.gradients->of[OPTIMISE_TABLE].value[3 * k + j] =
                    exact.gradients->of[OPTIMISE_TABLE].value[3 * k + j]
                                                                    = (mtl_real)test_random_real(&lazy.random,
                                                                                                 -1, 1);
        }
        lazy.gradients->of[OPTIMISE_TABLE].state = MTL_GRAD_ROWS;
        exact.gradients->of[OPTIMISE_TABLE].state = MTL_GRAD_DENSE;
        mtl__optimizer_apply(&lazy.optimizer, &lazy.run, 0.01, 1);
        mtl__optimizer_apply(&exact.optimizer, &exact.run, 0.01, 1);
    }
    assert_true(test_distance(lazy.set.tensors[OPTIMISE_TABLE]->value,
                              exact.set.tensors[OPTIMISE_TABLE]->value, 210, 1) < 1e-6);
    optimise_close(&lazy);
    optimise_close(&exact);
}

/* ---- the norm of the whole gradient -------------------------------------------------------------------- */

static void test_optimise_norm(void **state)
{
    optimise_setup s;
    int step;
    size_t i, k;
    (void)state;
    optimise_open(&s, &optimise_rules[0], MTL_ISA_AUTO);
    for (step = 0; step < 21; step++) {
        double sum = 0, norm;
        s.set.tensors[OPTIMISE_WEIGHT]->frozen = step % 2;
        optimise_set_gradients(&s, step);
        for (i = 0; i < OPTIMISE_TENSORS; i++)
            for (k = 0; k < s.want[i].count && !s.set.tensors[i]->frozen; k++)
                sum += s.want[i].g[k] * s.want[i].g[k];
        norm = mtl__gradients_norm(&s.optimizer, &s.run);
        assert_true(fabs(norm - sqrt(sum)) < 1e-6 * sqrt(sum));
    }
    optimise_close(&s);
}

/* ---- through the trainer ------------------------------------------------------------------------------- */

typedef struct optimise_training {
    test_problem problem;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_real *before, *after, *gradient;    /* blocks of the parameters' layout */
    mtl_step step;
    mtl_error err;
} optimise_training;

static void optimise_training_open(optimise_training *t, const mtl_trainer_desc *how)
{
    test_shape shape;
    memset(t, 0, sizeof *t);
    memset(&shape, 0, sizeof shape);
    test_problem_create(&t->problem, &shape);
    t->model = mtl_model_create(&t->problem.desc, &t->err);
    t->trainer = mtl_trainer_create(t->model, how, &t->err);
    TEST_FINE(&t->err);
    t->gradient = (mtl_real *)calloc(mtl_model_parameters(t->model)->total, sizeof *t->gradient);
    assert_non_null(t->gradient);
}

static void optimise_training_close(optimise_training *t)
{
    free(t->before);
    free(t->after);
    free(t->gradient);
    mtl_trainer_destroy(t->trainer);
    mtl_model_destroy(t->model);
    test_problem_destroy(&t->problem);
}

/* Gradient and one update of a fresh trainer. */
static void optimise_training_step(optimise_training *t)
{
    const mtl_parameters *set = mtl_model_parameters(t->model);
    size_t i, r, begin;
    t->before = test_weights_copy(t->model);
    mtl_train_gradients(t->trainer, t->problem.batch, 1, &t->step, &t->err);
    for (i = 0; i < set->count; i++) {
        const mtl_gradient *g = mtl_gradients_get(mtl_trainer_gradients(t->trainer), set->tensors[i]);
        for (r = 0; r < mtl__gradient_ranges(g); r++) {
            size_t length = mtl__gradient_range(g, set->tensors[i], r, &begin);
            memcpy(t->gradient + set->tensors[i]->offset + begin, g->value + begin,
                   length * sizeof *t->gradient);
        }
    }
    mtl_train_step(t->trainer, t->problem.batch, 1, &t->step, &t->err);
    TEST_FINE(&t->err);
    t->after = test_weights_copy(t->model);
}

/* SGD at rate 0.5: what was really subtracted, against scale times the gradient, each element cut at
   limit. */
static void optimise_expect_update(const optimise_training *t, double scale, double limit)
{
    const mtl_parameters *set = mtl_model_parameters(t->model);
    size_t i, k;
    for (i = 0; i < set->count; i++)
        for (k = 0; k < set->tensors[i]->count; k++) {
            size_t at = set->tensors[i]->offset + k;
            double g = scale * (double)t->gradient[at];
            g = g > limit ? limit : g < -limit ? -limit : g;
            assert_true(fabs((double)t->before[at] - 0.5 * g - (double)t->after[at]) < (MTL__REAL_IS_DOUBLE
                                                                                        ? 1e-12 : 1e-6));
        }
}

static void test_optimise_clipping(void **state)
{
    static const struct { double norm, value; } cases[] = { { 0, 0 }, { 0.5, 0 }, { 1000, 0 }, { 0, 0.03125 },
        { 0.5, 0.03125 }, { 1.0 / 1024, 0 } };
    size_t i;
    (void)state;
    for (i = 0; i < MTL__COUNT(cases); i++) {
        optimise_training t;
        mtl_trainer_desc how;
        double norm = 0, scale = 1;
        size_t k;
        memset(&how, 0, sizeof how);
        how.optimizer = MTL_OPTIMIZER_SGD;
        how.lr = 0.5f;
        how.clip_norm = (float)cases[i].norm;
        how.clip_value = (float)cases[i].value;
        optimise_training_open(&t, &how);
        optimise_training_step(&t);
        for (k = 0; k < mtl_model_parameters(t.model)->total; k++)
            norm += (double)t.gradient[k] * (double)t.gradient[k];
        norm = sqrt(norm);
        assert_true(fabs(t.step.grad_norm - norm) < 1e-5 * norm);           /* before clipping */
        /* torch's clip_grad_norm_ */
        if (cases[i].norm > 0 && norm > cases[i].norm) scale = cases[i].norm / (norm + 1e-6);
        optimise_expect_update(&t, scale, cases[i].value > 0 ? cases[i].value : 1e30);
        optimise_training_close(&t);
    }
}

/* ---- schedules ----------------------------------------------------------------------------------------- */

static double optimise_half_cosine(double from, double to, double share)
{
    return to + (from - to) * (1 + cos(3.14159265358979 * share)) / 2;
}

/* Share of the base rate in update s of a trainer that is told of 20 updates. */
static double optimise_schedule(const mtl_trainer_desc *d, int s)
{
    double warm = d->warmup, after = s - warm, share = after / (20 - warm), final = (double)d->lr_final;
    switch (d->schedule) {
    case MTL_SCHEDULE_ONE_CYCLE:                           /* PyTorch's OneCycleLR: from 1/25 up, then down */
        if (warm == 0) warm = 6;
        if (s <= warm) return optimise_half_cosine(1.0 / 25, 1, (s - 1) / (warm - 1));
        return optimise_half_cosine(1, final > 0 ? final : 4e-6, (s - warm) / (20 - warm));
    default:
        if (s <= warm) return s / warm;
    }
    switch (d->schedule) {
    case MTL_SCHEDULE_STEP: return pow((double)d->schedule_factor, floor((after - 1) / d->schedule_every));
    case MTL_SCHEDULE_EXPONENTIAL: return pow((double)d->schedule_factor, (after - 1) / d->schedule_every);
    case MTL_SCHEDULE_LINEAR: return share < 1 ? 1 + (final - 1) * share : final;
    case MTL_SCHEDULE_COSINE: return share < 1 ? optimise_half_cosine(1, final, share) : final;
    default: return 1;
    }
}

/* The rate that each update reports, and that it really uses. */
static void test_optimise_schedules(void **state)
{
    int schedule, warmup, s;
    (void)state;
    for (schedule = MTL_SCHEDULE_CONSTANT; schedule <= MTL_SCHEDULE_ONE_CYCLE; schedule++)
        for (warmup = 0; warmup < 2; warmup++) {
            optimise_training t;
            mtl_trainer_desc how;
            memset(&how, 0, sizeof how);
            how.optimizer = MTL_OPTIMIZER_SGD;
            how.lr = 0.5f;
            how.schedule = schedule;
            how.total_steps = 20;
            how.warmup = warmup * 4;
            how.lr_final = warmup ? 0.125f : 0;
            how.schedule_every = 3;
            how.schedule_factor = 0.5f;
            optimise_training_open(&t, &how);
            for (s = 1; s <= 22; s++) {
                double want = 0.5 * optimise_schedule(&how, s > 20 && schedule == MTL_SCHEDULE_ONE_CYCLE
                                                      ? 20 : s);
                mtl_train_step(t.trainer, t.problem.batch, 1, &t.step, &t.err);
                TEST_FINE(&t.err);
                if (!(fabs(t.step.lr - want) <= 1e-7))
                    fail_msg("schedule %d, warm-up %d, update %d: rate %.9g, not %.9g", schedule, 4 * warmup,
                             s, t.step.lr, want);
                assert_int_equal(t.step.step, s);
            }
            optimise_training_close(&t);
        }
}

/* The base rate can be changed; the schedule goes on from it. */
static void test_optimise_set_rate(void **state)
{
    optimise_training t;
    mtl_trainer_desc how;
    (void)state;
    memset(&how, 0, sizeof how);
    how.lr = 0.5f;
    how.schedule = MTL_SCHEDULE_EXPONENTIAL;
    how.schedule_every = 1;
    optimise_training_open(&t, &how);
    mtl_train_step(t.trainer, t.problem.batch, 1, &t.step, &t.err);
    assert_true(t.step.lr == 0.5);
    mtl_trainer_set_lr(t.trainer, 0.125f);
    mtl_train_step(t.trainer, t.problem.batch, 1, &t.step, &t.err);
    TEST_FINE(&t.err);
    assert_true(t.step.lr == 0.0625);
    optimise_training_close(&t);
}

/* Plateau: a factor that mtl_fit cuts; here it is cut by hand. */
static void test_optimise_plateau(void **state)
{
    optimise_training t;
    mtl_trainer_desc how;
    (void)state;
    memset(&how, 0, sizeof how);
    how.lr = 0.5f;
    how.schedule = MTL_SCHEDULE_PLATEAU;
    optimise_training_open(&t, &how);
    mtl_train_step(t.trainer, t.problem.batch, 1, &t.step, &t.err);
    assert_true(t.step.lr == 0.5);
    t.trainer->optimizer.plateau *= 0.25f;
    mtl_train_step(t.trainer, t.problem.batch, 1, &t.step, &t.err);
    TEST_FINE(&t.err);
    assert_true(t.step.lr == 0.125);
    optimise_training_close(&t);
}

/* ---- the exponential average of the weights ------------------------------------------------------------ */

/* The average against the eager one, with other rows of the table touched at each step, and with swaps in
   between. */
static void optimise_average(int optimizer, int lazy, int rises)
{
    optimise_training t;
    mtl_trainer_desc how;
    const mtl_parameters *set;
    double *average;
    mtl_real *last;
    size_t k, total;
    int s;
    memset(&how, 0, sizeof how);
    how.lr = 0.05f;
    how.average = 0.5f;
    how.average_rises = rises;
    how.optimizer = optimizer;
    how.lazy = lazy;
    optimise_training_open(&t, &how);
    set = mtl_model_parameters(t.model);
    total = set->total;
    average = (double *)malloc(total * sizeof *average);
    assert_non_null(average);
    for (k = 0; k < total; k++) average[k] = (double)set->block[k];   /* it begins with the initial weights */
    for (s = 0; s < 12; s++) {
        int *ids = test_ids(t.problem.data);
        const double decay = rises && s < 8 ? (1.0 + s) / (10.0 + s) : 0.5;
        /* 0 .. 7, few at a time */
        for (k = 0; k < t.problem.data->rows; k++) ids[k] = (ids[k] + 3 * s) % 4 + s % 3 * 2;
        mtl_train_step(t.trainer, t.problem.batch, 1, NULL, &t.err);
        for (k = 0; k < total; k++) average[k] = decay * average[k] + (1 - decay) * (double)set->block[k];
        if (s % 5 == 3) {
            mtl_trainer_swap_average(t.trainer, &t.err);
            for (k = 0; k < total; k++) assert_true(fabs((double)set->block[k]
                                                         - average[k]) < (MTL__REAL_IS_DOUBLE
                                                                          ? 1e-12 : 1e-5));
            mtl_trainer_swap_average(t.trainer, &t.err);
        }
    }
    TEST_FINE(&t.err);
    last = test_weights_copy(t.model);
    mtl_trainer_swap_average(t.trainer, &t.err);
    for (k = 0; k < total; k++) assert_true(fabs((double)set->block[k] - average[k]) < (MTL__REAL_IS_DOUBLE
                                                                                        ? 1e-12 : 1e-5));
    mtl_train_step(t.trainer, t.problem.batch, 1, NULL, &t.err);            /* not while they are exchanged */
    test_expect_error(&t.err, MTL_ERROR_ARGUMENT, "average", "swap");
    mtl_trainer_swap_average(t.trainer, &t.err);
    TEST_FINE(&t.err);
    assert_true(test_weights_equal(t.model, last));
    free(last);
    free(average);
    optimise_training_close(&t);
}

static void test_optimise_average(void **state)
{
    optimise_training t;
    mtl_trainer_desc how;
    (void)state;
    optimise_average(MTL_OPTIMIZER_ADAM, 0, 0);
    optimise_average(MTL_OPTIMIZER_ADAM, 1, 0);
    optimise_average(MTL_OPTIMIZER_ADAM, 1, 1);
    optimise_average(MTL_OPTIMIZER_SGD, 0, 1);
    optimise_average(MTL_OPTIMIZER_ADAMW, 0, 0);
    optimise_average(MTL_OPTIMIZER_SGD, 0, 0);                                 /* without memory: rows only */
    memset(&how, 0, sizeof how);
    optimise_training_open(&t, &how);
    mtl_trainer_swap_average(t.trainer, &t.err);
    test_expect_error(&t.err, MTL_ERROR_ARGUMENT, "average", "no average");
    optimise_training_close(&t);
}

/* ---- rows that wait ------------------------------------------------------------------------------------ */

enum { OPTIMISE_WAIT_STEPS = 200 };

/* Weights and moments, bit for bit. */
static void optimise_expect_same(const mtl__optimizer *got, const mtl__optimizer *expected)
{
    const size_t bytes = got->set->total * sizeof(mtl_real);
    mtl__parameters_settle(got->set);
    assert_memory_equal(got->set->block, expected->set->block, bytes);
    if (got->m) assert_memory_equal(got->m, expected->m, bytes);
    if (got->v) assert_memory_equal(got->v, expected->v, bytes);
}

/* With every rule and in every order of gradients (some rows, all, none): whoever asks for the rows that it
   reads finds those of an optimiser that lets none wait. */
static void test_optimise_rows_wait(void **state)
{
    size_t n;
    (void)state;
    for (n = 0; n < sizeof optimise_rules / sizeof *optimise_rules; n++) {
        optimise_setup waits, exact;
        const mtl_gradient *g;
        int step;
        optimise_open(&waits, &optimise_rules[n], MTL_ISA_AUTO);
        optimise_open(&exact, &optimise_rules[n], MTL_ISA_AUTO);
        mtl__optimizer_wait(&waits.optimizer, &waits.run, 1);
        g = &waits.gradients->of[OPTIMISE_TABLE];
        for (step = 1; step <= OPTIMISE_WAIT_STEPS; step++) {
            optimise_set_gradients(&waits, step);
            optimise_set_gradients(&exact, step);
            if (g->state == MTL_GRAD_ROWS)                                  /* a layer has read these */
                mtl__parameters_fresh(&waits.set, waits.set.tensors[OPTIMISE_TABLE], g->rows, g->row_count);
            mtl__optimizer_apply(&waits.optimizer, &waits.run, 0.01, 1);
            mtl__optimizer_apply(&exact.optimizer, &exact.run, 0.01, 1);
            if (step % 37 == 0) optimise_expect_same(&waits.optimizer, &exact.optimizer);
        }
        mtl__optimizer_wait(&waits.optimizer, &waits.run, 0);
        assert_null(waits.set.fresh);
        optimise_expect_same(&waits.optimizer, &exact.optimizer);
        optimise_close(&waits);
        optimise_close(&exact);
    }
}

/* A table that is an embedding and in every third step the output matrix, too, beside one that is an
   embedding alone. */
typedef struct optimise_tied {
    net n;
    mtl_tensor *tied, *alone;
    mtl_dense *output;
    int *ids, step;                         /* [2][rows]; from 1 */
    mtl_trainer_desc how;
    mtl__optimizer optimizer;
} optimise_tied;

static void optimise_tied_forward(net *n)
{
    optimise_tied *t = (optimise_tied *)n->user;
    mtl_activation *x = mtl__embedding_forward(&n->run, net_steps(n), t->tied, t->ids, 1, 0, "x");
    mtl_activation *more = mtl__embedding_forward(&n->run, net_steps(n), t->alone, t->ids + n->rows, 1, 0,
                                                  "more");
    net_loss(n, t->step % 3 ? x : mtl_dense_forward(&n->run, t->output, x, "y"));
    net_loss(n, t->step % 3 ? more : mtl_dense_forward(&n->run, t->output, more, "z"));
}

static void optimise_tied_open(optimise_tied *t, int wait)
{
    memset(t, 0, sizeof *t);
    net_open(&t->n, optimise_tied_forward, t, 8, 3, 4);
    t->tied = mtl_parameters_add(&t->n.set, "tied", 90, 6, MTL_TENSOR_EMBEDDING, &t->n.err);
    t->alone = mtl_parameters_add(&t->n.set, "alone", 90, 6, MTL_TENSOR_EMBEDDING, &t->n.err);
    t->output = mtl__dense_over(&t->n.set, t->tied, NULL, &t->n.err);
    net_ready(&t->n, MTL_ISA_AUTO);
    t->ids = (int *)mtl_arena_push(&t->n.memory, 2 * t->n.rows * sizeof *t->ids);
    optimise_fill_desc(&t->how, &optimise_rules[8]);
    mtl__optimizer_init(&t->optimizer, &t->how, &t->n.set, t->n.gradients, &t->n.memory, &t->n.err);
    mtl__optimizer_wait(&t->optimizer, &t->n.run, wait);
    net_expect_ok(&t->n, "tied");
}

/* Ids that come again after a long time. */
static void optimise_tied_step(optimise_tied *t)
{
    size_t i;
    t->step++;
    for (i = 0; i < 2 * t->n.rows; i++) t->ids[i] = test_random_between(&t->n.random, 0, 89);
    net_forward(&t->n, 1);
    net_backward(&t->n);
    assert_int_equal(t->n.gradients->of[t->tied->index].state, t->step % 3 ? MTL_GRAD_ROWS : MTL_GRAD_DENSE);
    assert_int_equal(t->n.gradients->of[t->alone->index].state, MTL_GRAD_ROWS);
    mtl__optimizer_apply(&t->optimizer, &t->n.run, 0.01, 1);
}

static void test_optimise_tied_table(void **state)
{
    optimise_tied waits, exact;
    int step, late = 0;
    size_t r;
    (void)state;
    optimise_tied_open(&waits, 1);
    optimise_tied_open(&exact, 0);
    for (step = 1; step <= OPTIMISE_WAIT_STEPS; step++) {
        optimise_tied_step(&waits);
        optimise_tied_step(&exact);
        assert_memory_equal(&waits.n.total, &exact.n.total, sizeof waits.n.total);
        for (r = 0; r < 90; r++)
            late += waits.optimizer.applied[waits.alone->index][r] + 20 < (unsigned long long)step;
    }
    assert_true(late > 0);
    optimise_expect_same(&waits.optimizer, &exact.optimizer);
    mtl__optimizer_wait(&waits.optimizer, &waits.n.run, 0);
    net_close(&waits.n);
    net_close(&exact.n);
}

#define TEST_OPTIMISE \
    cmocka_unit_test(test_optimise_rows_wait), cmocka_unit_test(test_optimise_tied_table), \
    cmocka_unit_test(test_optimise_rules), cmocka_unit_test(test_optimise_rates_and_frozen), \
    cmocka_unit_test(test_optimise_lazy_with_all_rows), cmocka_unit_test(test_optimise_norm), \
        cmocka_unit_test(test_optimise_clipping), \
    cmocka_unit_test(test_optimise_schedules), cmocka_unit_test(test_optimise_set_rate), \
        cmocka_unit_test(test_optimise_plateau), \
    cmocka_unit_test(test_optimise_average)
