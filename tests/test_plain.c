/* test_plain.c    the header beside examples/plain.c, which computes the same in loops that an eye can check

   Both begin with the same parameters and get the same batches, a new one for each of ten updates. Losses,
   all gradients before clipping, their norm and the weights after each update must agree. What forward and
   backward do wrong together passes every gradient check; it does not pass here. A line for each way to pool
   tells how far apart they were. Included by tests/main.c. */
#define main plain_main
#include "../examples/plain.c"
#undef main

enum { PLAIN_UPDATES = 10 };
#define PLAIN_TOLERANCE (sizeof(mtl_real) == sizeof(double) ? 1e-9 : 1e-5)
#define PLAIN_LR 0.0078125f                 /* the same number in float and double */
#define PLAIN_CLIP 0.5f                     /* about half of the ten gradients are longer */
/* Adam's first step is lr g / (|g| + epsilon). A float gradient is off by 1e-8 or so; where |g| is no larger,
   the step means nothing unless epsilon is. */
#define PLAIN_EPSILON (sizeof(mtl_real) == sizeof(double) ? 1e-8 : 1e-4)

/* The same tensors: by name in a model, by place in `weights`. */
#define PLAIN_DOUBLES(bytes) ((bytes) / sizeof(double))
#define PLAIN_TENSOR(name, member) \
    { name, PLAIN_DOUBLES(offsetof(weights, member)), PLAIN_DOUBLES(sizeof ((weights *)0)->member) }
#define PLAIN_LSTM(d, suffix) \
    PLAIN_TENSOR("encoder.weight_ih_l0" suffix, lstm[d].W_ih), \
    PLAIN_TENSOR("encoder.weight_hh_l0" suffix, lstm[d].W_hh), \
    PLAIN_TENSOR("encoder.bias_ih_l0" suffix, lstm[d].b_ih), \
    PLAIN_TENSOR("encoder.bias_hh_l0" suffix, lstm[d].b_hh)
static const struct { const char *name; size_t first, count; } plain_tensors[] = {
    PLAIN_TENSOR("words.weight", embedding),
    PLAIN_LSTM(FORWARD, ""), PLAIN_LSTM(REVERSE, "_reverse"),
    PLAIN_TENSOR("intent.output.weight", W_intent), PLAIN_TENSOR("intent.output.bias", b_intent),
    PLAIN_TENSOR("slots.output.weight", W_slots), PLAIN_TENSOR("slots.output.bias", b_slots),
};
enum { PLAIN_TENSORS = sizeof plain_tensors / sizeof plain_tensors[0] };

/* Both networks in the middle of their training, and the largest differences so far. */
typedef struct plain_pair {
    weights w, dw, m, v;
    activations a, da;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_error err;
    double losses, gradients, updates;
} plain_pair;

static mtl_model *plain_model(int pool, mtl_error *err)
{
    mtl_input_desc input = {0};
    mtl_task_desc tasks[2];
    mtl_model_desc desc = {0};
    memset(tasks, 0, sizeof tasks);
    input.name = "words";
    input.vocabulary = V;
    input.width = E;
    tasks[0].name = "intent";
    tasks[0].classes = INTENTS;
    tasks[0].pool = pool == LAST ? MTL_POOL_LAST : pool == MEAN ? MTL_POOL_MEAN : MTL_POOL_MAX;
    tasks[0].weight = (float)LAMBDA_INTENT;
    tasks[1].name = "slots";
    tasks[1].classes = SLOTS;
    tasks[1].level = MTL_LEVEL_STEP;
    tasks[1].weight = (float)LAMBDA_SLOTS;
    desc.inputs = &input;
    desc.input_count = 1;
    desc.tasks = tasks;
    desc.task_count = 2;
    desc.encoder.hidden = H;
    desc.encoder.bidirectional = 1;
    return mtl_model_create(&desc, err);
}

/* Copies the parameters of the plain network into the model; every tensor of the model must be among them. */
static void plain_give_weights(const weights *w, mtl_model *model)
{
    size_t i, j;
    assert_int_equal(mtl_model_parameters(model)->count, PLAIN_TENSORS);
    for (i = 0; i < PLAIN_TENSORS; i++) {
        mtl_tensor *t = mtl_model_tensor(model, plain_tensors[i].name);
        const double *from = (const double *)w + plain_tensors[i].first;
        if (!t || t->count != plain_tensors[i].count) fail_msg("there is no such %s", plain_tensors[i].name);
        for (j = 0; j < t->count; j++) t->value[j] = (mtl_real)from[j];
    }
}

static void plain_begin(plain_pair *p, int pool, int isa, unsigned *seed)
{
    mtl_trainer_desc how = {0};
    size_t j;
    weights_randomise(&p->w, seed);
    for (j = 0; j < WEIGHTS; j++) ((double *)&p->w)[j] = (double)(mtl_real)((double *)&p->w)[j];
    p->model = plain_model(pool, &p->err);
    TEST_FINE(&p->err);
    plain_give_weights(&p->w, p->model);
    mtl_model_prepare(p->model, &p->err);
    how.lr = PLAIN_LR;
    how.clip_norm = PLAIN_CLIP;
    how.epsilon = (float)PLAIN_EPSILON;
    how.isa = isa;
    p->trainer = mtl_trainer_create(p->model, &how, &p->err);
    TEST_FINE(&p->err);
}

/* Largest |got - want| as a share of the largest |want|; raises *worst to it. */
static void plain_compare(const char *what, int update, const mtl_real *got, const double *want, size_t count,
                          double *worst)
{
    double largest = 0, distance = 0;
    size_t j;
    for (j = 0; j < count; j++) {
        assert_true(mtl__is_finite(got[j]));
        distance = fmax(distance, fabs((double)got[j] - want[j]));
        largest = fmax(largest, fabs(want[j]));
    }
    assert_true(largest > 0);
    distance /= largest;
    *worst = fmax(*worst, distance);
    if (distance > PLAIN_TOLERANCE) fail_msg("update %d, %s: %g apart", update, what, distance);
}

static void plain_compare_number(const char *what, int update, double got, double want, double *worst)
{
    mtl_real value = (mtl_real)got;
    plain_compare(what, update, &value, &want, 1, worst);
}

static void plain_compare_losses(plain_pair *p, int update, const mtl_step *step, double L)
{
    plain_compare_number("loss of intent", update, step->task_loss[0], p->a.L_intent, &p->losses);
    plain_compare_number("loss of slots", update, step->task_loss[1], p->a.L_slots, &p->losses);
    plain_compare_number("joint loss", update, step->loss, L, &p->losses);
}

/* Tensor by tensor: gradients (1) or weights (0). Rows that no gradient reached are zero. */
static void plain_compare_tensors(plain_pair *p, int update, int gradients)
{
    const double *want = (const double *)(gradients ? &p->dw : &p->w);
    static mtl_real all[WEIGHTS];
    char what[96];
    size_t i, r;
    for (i = 0; i < PLAIN_TENSORS; i++) {
        const mtl_tensor *t = mtl_model_tensor(p->model, plain_tensors[i].name);
        const mtl_gradient *g = mtl_gradients_get(mtl_trainer_gradients(p->trainer), t);
        memset(all, 0, sizeof all);
        if (!gradients) memcpy(all, t->value, t->count * sizeof *all);
        else if (g->state == MTL_GRAD_DENSE) memcpy(all, g->value, t->count * sizeof *all);
        else
            for (r = 0; r < g->row_count; r++)
                memcpy(all + (size_t)g->rows[r] * E, g->value + (size_t)g->rows[r] * E, E * sizeof *all);
        snprintf(what, sizeof what, "%s of %s", gradients ? "gradient" : "weights", t->name);
        plain_compare(what, update, all, want + plain_tensors[i].first, t->count,
                      gradients ? &p->gradients : &p->updates);
    }
}

/* One batch through both. The gradients come first: an update does not leave them. */
static void plain_update(plain_pair *p, int pool, int update, const batch *b)
{
    mtl_input input = {0};
    mtl_target targets[2];
    mtl_batch whole = {0};
    mtl_step step;
    double L = forward(pool, &p->w, b, &p->a), norm;
    memset(targets, 0, sizeof targets);
    backward(&p->w, &p->dw, b, &p->a, &p->da);
    input.ids = b->words;
    targets[0].labels = b->intent;
    targets[1].labels = b->slots;
    whole.sequences = (size_t)b->B;
    whole.lengths = b->T;
    whole.inputs = &input;
    whole.targets = targets;
    mtl_train_gradients(p->trainer, &whole, 1, &step, &p->err);
    TEST_FINE(&p->err);
    plain_compare_losses(p, update, &step, L);
    plain_compare_tensors(p, update, 1);
    norm = clip(&p->dw, PLAIN_CLIP);
    adam_update(&p->w, &p->dw, &p->m, &p->v, update, PLAIN_LR, PLAIN_EPSILON);
    mtl_train_step(p->trainer, &whole, 1, &step, &p->err);
    TEST_FINE(&p->err);
    plain_compare_losses(p, update, &step, L);
    plain_compare_number("norm", update, step.grad_norm, norm, &p->gradients);
    plain_compare_tensors(p, update, 0);
}

static void plain_train(int pool, const char *name)
{
    double losses = 0, gradients = 0, updates = 0;
    int isa, update;
    for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++) {
        plain_pair *p;
        unsigned seed = 7;
        if (!mtl__isa_supported(isa)) continue;
        test_executed(isa, sizeof(mtl_real) == sizeof(double) ? "f64" : "f32");
        p = (plain_pair *)calloc(1, sizeof *p);
        assert_non_null(p);
        plain_begin(p, pool, isa, &seed);
        for (update = 1; update <= PLAIN_UPDATES; update++) {
            batch b;
            batch_fill(&b, &seed);
            plain_update(p, pool, update, &b);
        }
        losses = fmax(losses, p->losses);
        gradients = fmax(gradients, p->gradients);
        updates = fmax(updates, p->updates);
        mtl_trainer_destroy(p->trainer);
        mtl_model_destroy(p->model);
        free(p);
    }
    printf("plain.c and the header, %s pooling, in %s: losses agree within %.1e, all gradients within %.1e, "
           "%d updates within %.1e\n", name, sizeof(mtl_real) == sizeof(double) ? "double" : "float",
           losses, gradients, PLAIN_UPDATES, updates);
}

static void plain_last(void **state) { (void)state; plain_train(LAST, "last"); }
static void plain_mean(void **state) { (void)state; plain_train(MEAN, "mean"); }
static void plain_max(void **state) { (void)state; plain_train(MAX, "max"); }

#define TEST_PLAIN cmocka_unit_test(plain_last), cmocka_unit_test(plain_mean), cmocka_unit_test(plain_max)
