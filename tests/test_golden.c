/* test_golden.c    values, gradients and updates against PyTorch's, from the fixtures in tests/golden

   golden/make.py wrote the fixtures and says what is in them. The folder "tests" is found from the
   repository's top, or where the environment's MTL_TEST_DIR says. */
#include "golden/cases.h"

/* Largest difference allowed, as a share of the largest value: PyTorch's numbers are float64. */
#define GOLDEN_TOLERANCE (sizeof(mtl_real) == sizeof(double) ? 1e-9 : 1e-5)

static void golden_open(case_file *file, const char *name)
{
    const char *folder = getenv("MTL_TEST_DIR");
    mtl_error err = {0};
    char path[1024];
    snprintf(path, sizeof path, "%s/golden/%s", folder ? folder : "tests", name);
    case_file_open(file, path, &err);
    if (err.code) fail_msg("%s: %s", path, err.message);
}

/* Fails when got and want differ by more than the tolerance. What is missing must be so in both. */
static void golden_compare(const char *test, const char *what, const mtl_real *got, const mtl_real *want,
                           size_t count)
{
    double worst = 0, largest = 0;
    size_t i, at = 0;
    for (i = 0; i < count; i++) {
        const int missing = mtl_is_missing(want[i]);
        double difference = missing ? !mtl_is_missing(got[i]) : fabs((double)got[i] - (double)want[i]);
        double size = missing ? 0 : fabs((double)want[i]);
        if (size > largest) largest = size;
        if (!(difference <= worst)) { worst = difference; at = i; }
    }
    if (!(worst <= GOLDEN_TOLERANCE * (largest > 0 ? largest : 1)))
        fail_msg("%s: %s[%lu of %lu] is %.12g, PyTorch has %.12g (largest %g)", test, what, (unsigned long)at,
                 (unsigned long)count, (double)got[at], (double)want[at], largest);
}

/* ---- layers: a stack of cells, or a linear layer ------------------------------------------------------- */

enum { GOLDEN_CELLS = 8, GOLDEN_LOSSES = 1 + 2 * GOLDEN_CELLS };

/* A case of cells.safetensors built from the public layers, with the run that its calls take. */
typedef struct golden_net {
    case_setup *c;
    mtl_error err;
    mtl_arena arena;
    mtl_parameters set;
    mtl_gradients *gradients;
    mtl_tape tape;
    mtl_run run;
    mtl_dense *dense;
    mtl_cell *cells[GOLDEN_CELLS];
    size_t layers, directions, sequences, rows, inputs, width;
    /* states: h, c of each cell */
    mtl_activation *x, *y, *initial[2][GOLDEN_CELLS], *final[2][GOLDEN_CELLS];
    mtl_activation *losses[GOLDEN_LOSSES];
    size_t loss_count;
} golden_net;

static const char *const golden_initial_names[2] = { "h0", "c0" },
    *const golden_final_names[2] = { "h_n", "c_n" };

static void golden_check(const golden_net *net)
{
    if (net->err.code) fail_msg("%s: %s", net->c->name, net->err.message);
}

static void golden_add_layers(golden_net *net)
{
    const case_setup *c = net->c;
    const mtl_safetensor *x = case_find(net->c, "x"), *y = case_find(net->c, "y");
    const mtl_cell_desc cell = mtl__column_cell(&c->cell);
    size_t l, d, inputs = x->shape[1], hidden = (size_t)c->cell.hidden;
    net->rows = x->shape[0];
    net->inputs = inputs;
    net->width = y->shape[1];
    if (c->linear) {
        net->dense = mtl_dense_add(&net->set, "linear", inputs, net->width, c->cell.no_bias, &net->err);
        return;
    }
    net->layers = c->cell.layers ? (size_t)c->cell.layers : 1;
    net->directions = c->cell.bidirectional ? 2 : 1;
    for (l = 0; l < net->layers; l++, inputs = hidden * net->directions)
        for (d = 0; d < net->directions; d++)
            net->cells[l * net->directions + d] = mtl_cell_add(&net->set, "", &cell, inputs, (int)l,
                                                               (int)d, &net->err);
}

/* The fixture's name of a tensor: PyTorch's of the layer alone. */
static const char *golden_tensor_name(const mtl_tensor *t)
{
    return strncmp(t->name, "linear.", 7) == 0 ? t->name + 7 : t->name;
}

static void golden_net_create(golden_net *net, case_setup *c, int isa)
{
    const mtl_safetensor *lengths = case_find(c, "lengths");
    size_t i;
    memset(net, 0, sizeof *net);
    net->c = c;
    mtl_arena_init(&net->arena, NULL, 0, NULL);
    mtl_parameters_init(&net->set, &net->arena);
    golden_add_layers(net);
    mtl_parameters_allocate(&net->set, &net->err);
    golden_check(net);
    for (i = 0; i < net->set.count; i++) {
        const mtl_safetensor *from = case_find(c, golden_tensor_name(net->set.tensors[i]));
        if (!from || from->count != net->set.tensors[i]->count)
            fail_msg("%s: no values for %s", c->name, net->set.tensors[i]->name);
        mtl_safetensor_values(from, net->set.tensors[i]->value, &net->err);
    }
    mtl_parameters_prepare(&net->set, isa, &net->err);
    net->gradients = mtl_gradients_create(&net->set, &net->arena, &net->err);
    net->sequences = lengths->count;
    net->run.kernels = mtl__kernels_choose(isa);
    net->run.arena = &net->arena;
    net->run.error = &net->err;
    net->run.gradients = net->gradients;
    net->run.packings = mtl_packings_create(&net->set, &net->arena, &net->err);
    net->run.packing = mtl__packing_create(&net->arena, case_ints(c, "lengths"), net->sequences, &net->err);
    golden_check(net);
    mtl_packings_prepare(net->run.packings, &net->run);
}

/* Row `item` in the caller's order of an activation: of a step or, for states, of a sequence. */
static size_t golden_row(const golden_net *net, const mtl_activation *a, int is_state, size_t item)
{
    const int *lengths = case_ints(net->c, "lengths");
    size_t s = 0;
    if (is_state) return mtl_run_row(&net->run, a, item, 0);
    while (item >= (size_t)lengths[s]) item -= (size_t)lengths[s++];
    return mtl_run_row(&net->run, a, s, item);
}

/* An activation with the fixture's values, rows in the caller's order. NULL when the fixture has none. */
static mtl_activation *golden_activation(golden_net *net, const char *name, size_t part, int is_state,
                                         size_t rows, size_t width)
{
    const mtl_real *values = case_reals(net->c, name, &net->err);
    mtl_activation *a = values ? mtl_run_activation(&net->run, name, rows, width) : NULL;
    size_t i;
    for (i = 0; a && i < rows; i++)
        memcpy(a->value + golden_row(net, a, is_state, i) * a->stride, values + (part * rows + i) * width,
               width * sizeof *values);
    golden_check(net);
    return a;
}

/* Compares an activation's values or gradient with the fixture's. */
static void golden_compare_rows(golden_net *net, const char *name, size_t part, int is_state,
                                const mtl_activation *a, const mtl_real *values)
{
    const mtl_real *want = case_reals(net->c, name, &net->err);
    mtl_real *got = (mtl_real *)mtl_arena_push(&net->arena, a->rows * a->width * sizeof *got);
    size_t i;
    if (!want) fail_msg("%s: the fixture has no %s", net->c->name, name);
    for (i = 0; i < a->rows; i++)
        memcpy(got + i * a->width, values + golden_row(net, a, is_state, i) * a->stride,
               a->width * sizeof *got);
    golden_compare(net->c->name, name, got, want + part * a->rows * a->width, a->rows * a->width);
}

/* A layer of our own, as a caller would write one: the sum of x times given factors. */
typedef struct golden_sum { mtl_activation *x, *factors, *y; } golden_sum;

static void golden_sum_backward(mtl_run *run, void *data)
{
    const golden_sum *sum = (const golden_sum *)data;
    size_t n, j;
    int add;
    mtl_real *dx = mtl_run_grad(run, sum->x, &add);
    for (n = 0; dx && n < sum->x->rows; n++)
        for (j = 0; j < sum->x->width; j++) {
            mtl_real *to = dx + n * sum->x->stride + j;
            *to = (add ? *to : 0) + sum->y->grad[0] * sum->factors->value[n * sum->factors->stride + j];
        }
}

/* One more loss: the sum of x times the fixture's NAME.grad. */
static void golden_add_loss(golden_net *net, mtl_activation *x, const char *name, size_t part, int is_state)
{
    golden_sum *sum = (golden_sum *)mtl_run_make(&net->run, sizeof *sum);
    char factors[64];
    snprintf(factors, sizeof factors, "%s.grad", name);
    sum->x = x;
    sum->factors = golden_activation(net, factors, part, is_state, x->rows, x->width);
    sum->y = mtl_run_activation(&net->run, "loss", 1, 1);
    golden_check(net);
    mtl_run_record(&net->run, sum->y, golden_sum_backward, sum);
    net->losses[net->loss_count++] = sum->y;
}

static mtl_activation *golden_cell_forward(golden_net *net, size_t k, mtl_activation *x)
{
    mtl_cell_state initial = {0}, final = {0};
    int lstm = net->c->cell.cell == MTL_CELL_LSTM;
    mtl_activation *y;
    initial.h = net->initial[0][k];
    initial.c = net->initial[1][k];
    y = lstm ? mtl_lstm_forward(&net->run, net->cells[k], x, &initial, &final)
      : net->c->cell.cell == MTL_CELL_GRU ? mtl_gru_forward(&net->run, net->cells[k], x, &initial, &final)
      : mtl_rnn_forward(&net->run, net->cells[k], x, &initial, &final);
    golden_check(net);
    net->final[0][k] = final.h;
    net->final[1][k] = final.c;
    return y;
}

/* All layers. Without a tape this is inference, which takes another path through the steps. */
static void golden_net_forward(golden_net *net)
{
    size_t k, l, d, s, hidden = (size_t)net->c->cell.hidden;
    mtl_activation *parts[2];
    net->x = net->y = golden_activation(net, "x", 0, 0, net->rows, net->inputs);
    if (net->dense) net->y = mtl_dense_forward(&net->run, net->dense, net->x, "y");
    for (k = 0; k < net->layers * net->directions; k++)
        for (s = 0; s < 2; s++)
            net->initial[s][k] = golden_activation(net, golden_initial_names[s], k, 1, net->sequences,
                                                   hidden);
    for (l = 0; l < net->layers; l++) {
        for (d = 0; d < net->directions; d++) parts[d] = golden_cell_forward(net, l * net->directions + d,
                                                                             net->y);
        net->y = mtl__concat_forward(&net->run, parts, net->directions, "y");
    }
    golden_check(net);
    golden_compare_rows(net, "y", 0, 0, net->y, net->y->value);
    for (k = 0; k < net->layers * net->directions; k++)
        for (s = 0; s < 2; s++)
            if (net->final[s][k]) golden_compare_rows(net, golden_final_names[s], k, 1, net->final[s][k],
                                                      net->final[s][k]->value);
}

static void golden_net_backward(golden_net *net)
{
    static const mtl_real ones[GOLDEN_LOSSES] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    char name[64];
    size_t k, s, i;
    golden_add_loss(net, net->y, "y", 0, 0);
    for (k = 0; k < net->layers * net->directions; k++)
        for (s = 0; s < 2; s++)
            if (net->final[s][k]) golden_add_loss(net, net->final[s][k], golden_final_names[s], k, 1);
    mtl_tape_backward(&net->run, net->losses, ones, net->loss_count, 0);
    golden_check(net);
    golden_compare_rows(net, "x.grad", 0, 0, net->x, net->x->grad);
    for (k = 0; k < net->layers * net->directions; k++)
        for (s = 0; s < 2; s++) {
            snprintf(name, sizeof name, "%s.grad", golden_initial_names[s]);
            if (net->initial[s][k]) golden_compare_rows(net, name, k, 1, net->initial[s][k],
                                                        net->initial[s][k]->grad);
        }
    for (i = 0; i < net->set.count; i++) {
        const mtl_tensor *t = net->set.tensors[i];
        const mtl_gradient *g = mtl_gradients_get(net->gradients, t);
        snprintf(name, sizeof name, "%s.grad", golden_tensor_name(t));
        assert_int_equal(g->state, MTL_GRAD_DENSE);
        golden_compare(net->c->name, name, g->value, case_reals(net->c, name, &net->err), t->count);
    }
}

static void golden_cell_case(case_setup *c, int isa)
{
    golden_net net;
    golden_net_create(&net, c, isa);
    golden_net_forward(&net);
    net.run.tape = &net.tape;
    golden_net_forward(&net);
    golden_net_backward(&net);
    mtl_arena_destroy(&net.arena);
}

/* Every case of a file in every instruction set that this machine has. */
static void golden_each(const char *name, void (*compare)(case_setup *c, int isa), int least)
{
    case_file file;
    case_setup c;
    mtl_error err = {0};
    int cases = 0, isa;
    golden_open(&file, name);
    for (; case_next(&file, &c, &err); cases++)
        for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++)
            if (mtl__isa_supported(isa)) compare(&c, isa);
    if (err.code) fail_msg("%s: %s", name, err.message);
    case_file_close(&file);
    assert_true(cases >= least);
}

static void test_golden_cells(void **state)
{
    (void)state;
    golden_each("cells.safetensors", golden_cell_case, 17);
}

/* ---- whole models -------------------------------------------------------------------------------------- */

/* A case with its model and trainer. */
typedef struct golden_training {
    case_setup *c;
    mtl_error err;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_batch batches[CASE_BATCHES];
    mtl_state *states[CASE_BATCHES];
} golden_training;

static void golden_training_check(const golden_training *g)
{
    if (g->err.code) fail_msg("%s: %s", g->c->name, g->err.message);
}

static void golden_training_create(golden_training *g, case_setup *c, int isa)
{
    memset(g, 0, sizeof *g);
    g->c = c;
    c->trainer.isa = isa;
    g->model = case_model(c, &g->err);
    g->trainer = mtl_trainer_create(g->model, &c->trainer, &g->err);
    golden_training_check(g);
}

static void golden_training_destroy(golden_training *g)
{
    size_t i;
    for (i = 0; i < CASE_BATCHES; i++) mtl_state_destroy(g->states[i]);
    mtl_trainer_destroy(g->trainer);
    mtl_model_destroy(g->model);
}

static void golden_compare_number(const golden_training *g, const char *what, double got, size_t index)
{
    mtl_error err = {0};
    const mtl_real *want = case_reals(g->c, what, &err);
    mtl_real value = (mtl_real)got;
    char name[64];
    if (!want || err.code) fail_msg("%s: the fixture has no %s", g->c->name, what);
    snprintf(name, sizeof name, "%s of %lu:", what, (unsigned long)index);
    golden_compare(g->c->name, name, &value, want + index, 1);
}

/* A gradient as the whole tensor's, whatever its state: rows and tensors that nothing reached are zero. */
static mtl_real *golden_dense_gradient(golden_training *g, const mtl_tensor *t)
{
    const mtl_gradient *from = mtl_gradients_get(mtl_trainer_gradients(g->trainer), t);
    mtl_real *all = (mtl_real *)mtl_arena_push(&g->c->file->arena, t->count * sizeof *all);
    size_t r, width = t->shape[1];
    memset(all, 0, t->count * sizeof *all);
    if (from->state == MTL_GRAD_DENSE) memcpy(all, from->value, t->count * sizeof *all);
    for (r = 0; from->state == MTL_GRAD_ROWS && r < from->row_count; r++) {
        size_t row = (size_t)from->rows[r] * width;
        memcpy(all + row, from->value + row, width * sizeof *all);
    }
    return all;
}

/* 1 when it is of the encoder that a desc without columns has, which these tasks do not read. */
static int golden_is_unused(const golden_training *g, const mtl_tensor *t)
{
    return !g->c->model.column_count && strncmp(t->name, "encoder.", 8) == 0;
}

/* The first update's losses and gradients. */
static void golden_compare_gradients(golden_training *g)
{
    const mtl_parameters *set = mtl_model_parameters(g->model);
    char name[192];
    mtl_step step = {0};
    size_t i;
    case_batches(g->c, g->model, 0, g->batches, g->states, &g->err);
    mtl_train_gradients(g->trainer, g->batches, (size_t)g->c->batches, &step, &g->err);
    golden_training_check(g);
    golden_compare_number(g, "losses", step.loss, 0);
    golden_compare_number(g, "norms", step.grad_norm, 0);
    for (i = 0; i < step.task_count; i++) golden_compare_number(g, "task_losses", step.task_loss[i], i);
    for (i = 0; i < set->count; i++) {
        const mtl_tensor *t = set->tensors[i];
        const mtl_real *want;
        if (t->frozen) continue;            /* running averages */
        if (golden_is_unused(g, t)) {
            assert_int_equal(mtl_gradients_get(mtl_trainer_gradients(g->trainer), t)->state, MTL_GRAD_NONE);
            continue;
        }
        snprintf(name, sizeof name, "grad.%s", t->name);
        want = case_reals(g->c, name, &g->err);
        if (!want) fail_msg("%s: the fixture has no %s", g->c->name, name);
        golden_compare(g->c->name, name, golden_dense_gradient(g, t), want, t->count);
    }
}

/* All updates, and the weights that they end in. */
static void golden_compare_updates(golden_training *g)
{
    const mtl_parameters *set = mtl_model_parameters(g->model);
    char name[192];
    mtl_step step = {0};
    size_t i;
    int u;
    for (u = 0; u < g->c->updates; u++) {
        case_batches(g->c, g->model, u, g->batches, g->states, &g->err);
        mtl_train_step(g->trainer, g->batches, (size_t)g->c->batches, &step, &g->err);
        golden_training_check(g);
        assert_int_equal(step.step, u + 1);
        golden_compare_number(g, "losses", step.loss, (size_t)u);
        golden_compare_number(g, "lr", step.lr, (size_t)u);
    }
    for (i = 0; i < set->count; i++) {
        if (golden_is_unused(g, set->tensors[i])) continue;
        snprintf(name, sizeof name, "final.%s", set->tensors[i]->name);
        golden_compare(g->c->name, name, set->tensors[i]->value, case_reals(g->c, name, &g->err),
                       set->tensors[i]->count);
    }
}

/* What every task answers to the first batch, from states of zeros. */
static void golden_compare_answers(golden_training *g)
{
    mtl_predictor_desc how = {0};
    mtl_predictor *predictor;
    mtl_prediction out[CASE_TASKS];
    size_t k;
    how.isa = g->c->trainer.isa;
    how.aside = 1;
    predictor = mtl_predictor_create(g->model, &how, &g->err);
    case_batches(g->c, g->model, 0, g->batches, g->states, &g->err);
    g->batches[0].state = NULL;
    mtl_predict(predictor, &g->batches[0], out, &g->err);
    golden_training_check(g);
    for (k = 0; k < g->c->model.task_count; k++) {
        const mtl_real *got = out[k].probabilities ? out[k].probabilities : out[k].values;
        const mtl_real *want = case_reals_of(g->c, "answer", g->c->tasks[k].name, &g->err);
        if (!want) fail_msg("%s: the fixture has no answer of %s", g->c->name, g->c->tasks[k].name);
        golden_compare(g->c->name, g->c->tasks[k].name, got, want, out[k].items * out[k].width);
    }
    mtl_predictor_destroy(predictor);
}

static void golden_gradients_case(case_setup *c, int isa)
{
    golden_training g;
    golden_training_create(&g, c, isa);
    golden_compare_gradients(&g);
    golden_training_destroy(&g);
}

static void golden_updates_case(case_setup *c, int isa)
{
    golden_training g;
    golden_training_create(&g, c, isa);
    golden_compare_updates(&g);
    golden_training_destroy(&g);
}

static void golden_part_case(case_setup *c, int isa)
{
    golden_training g;
    golden_training_create(&g, c, isa);
    if (c->updates > 1) golden_compare_updates(&g);
    else golden_compare_gradients(&g);
    golden_compare_answers(&g);
    golden_training_destroy(&g);
}

static void test_golden_models(void **state)
{
    (void)state;
    golden_each("models.safetensors", golden_gradients_case, 10);
}

/* Running variances are PyTorch's unbiased ones, so they need no allowance. */
static void test_golden_parts(void **state)
{
    static const struct { const char *file; int cases; } files[] = {
        { "norms.safetensors", 4 }, { "heads.safetensors", 4 }, { "columns.safetensors", 4 },
        { "kinds.safetensors", 2 }, { "characters.safetensors", 1 },
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof files / sizeof files[0]; i++)
        golden_each(files[i].file, golden_part_case, files[i].cases);
}

static void test_golden_optimisers(void **state)
{
    (void)state;
    golden_each("optimisers.safetensors", golden_updates_case, 20);
}

/* ---- a model that comes from PyTorch ------------------------------------------------------------------- */

static const mtl_import golden_mappings[] = {
    { "net.embed.", "words." }, { "net.rnn.", "encoder." }, { "net.head.0.", "tags.hidden.0." },
        { "net.head.2.", "tags.output." },
};
enum { GOLDEN_MAPPINGS = 4 };

static mtl_model *golden_tagger(mtl_error *err)
{
    mtl_model_desc desc = {0};
    mtl_input_desc words = {0};
    mtl_task_desc tags = {0};
    words.name = "words";
    words.vocabulary = 9;
    words.width = 4;
    tags.name = "tags";
    tags.level = MTL_LEVEL_STEP;
    tags.classes = 4;
    tags.hidden[0] = 5;
    tags.activation = MTL_ACTIVATION_TANH;
    desc.inputs = &words;
    desc.input_count = 1;
    desc.tasks = &tags;
    desc.task_count = 1;
    desc.encoder.cell = MTL_CELL_GRU;
    desc.encoder.hidden = 3;
    desc.encoder.layers = 2;
    desc.encoder.bidirectional = 1;
    return mtl_model_create(&desc, err);
}

static void golden_open_state_dict(mtl_safetensors *file, const char *path, mtl_error *err)
{
    char full[1024];
    const char *folder = getenv("MTL_TEST_DIR");
    snprintf(full, sizeof full, "%s/golden/state_dict.safetensors", folder ? folder : "tests");
    if (mtl_safetensors_open(file, path ? path : full, err)) fail_msg("%s", err->message);
}

/* A state_dict gives the probabilities that PyTorch computed with it. */
static void test_golden_import(void **state)
{
    case_file file;
    case_setup c;
    mtl_error err = {0};
    mtl_safetensors weights;
    mtl_model *model = golden_tagger(&err);
    mtl_predictor *predictor = mtl_predictor_create(model, NULL, &err);
    mtl_prediction out = {0};
    mtl_batch batch = {0};
    mtl_input input = {0};
    (void)state;
    golden_open_state_dict(&weights, NULL, &err);
    golden_open(&file, "tagger.safetensors");
    assert_true(case_next(&file, &c, &err));
    mtl_model_import(model, &weights, golden_mappings, GOLDEN_MAPPINGS, &err);
    input.ids = case_ints(&c, "ids");
    batch.sequences = case_find(&c, "lengths")->count;
    batch.lengths = case_ints(&c, "lengths");
    batch.inputs = &input;
    mtl_predict(predictor, &batch, &out, &err);
    if (err.code) fail_msg("%s", err.message);
    golden_compare("tagger", "probabilities", out.probabilities, case_reals(&c, "probabilities", &err),
                   out.items * out.width);
    mtl_predictor_destroy(predictor);
    mtl_model_destroy(model);
    mtl_safetensors_close(&weights);
    case_file_close(&file);
}

/* Exported with the same mappings it is the file that came in: names, shapes, values. */
static void test_golden_export(void **state)
{
    mtl_error err = {0};
    mtl_safetensors in, out;
    mtl_model *model = golden_tagger(&err);
    const char *path = test_path("export.safetensors");
    size_t i, j;
    (void)state;
    golden_open_state_dict(&in, NULL, &err);
    mtl_model_import(model, &in, golden_mappings, GOLDEN_MAPPINGS, &err);
    mtl_model_export(model, path, golden_mappings, GOLDEN_MAPPINGS, &err);
    golden_open_state_dict(&out, path, &err);
    assert_int_equal(out.count, in.count);
    for (i = 0; i < in.count; i++) {
        const mtl_safetensor *a = &in.tensors[i], *b = mtl_safetensors_find(&out, a->name);
        mtl_real x[256], y[256];
        if (!b || b->dims != a->dims || memcmp(a->shape, b->shape, (size_t)a->dims * sizeof *a->shape) != 0)
            fail_msg("%s is lost", a->name);
        assert_true(a->count <= 256);
        mtl_safetensor_values(a, x, &err);
        mtl_safetensor_values(b, y, &err);
        for (j = 0; j < a->count; j++) assert_true(x[j] == y[j]);
    }
    if (err.code) fail_msg("%s", err.message);
    mtl_safetensors_close(&in);
    mtl_safetensors_close(&out);
    mtl_model_destroy(model);
    remove(path);
}

#define TEST_GOLDEN cmocka_unit_test(test_golden_cells), cmocka_unit_test(test_golden_models), \
    cmocka_unit_test(test_golden_parts), \
    cmocka_unit_test(test_golden_optimisers), cmocka_unit_test(test_golden_import), \
        cmocka_unit_test(test_golden_export)
