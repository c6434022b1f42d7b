/* >>cells: values of every cell against its equations, written out below for one unit of one sequence at a
   time, and gradients against differences, through inputs, parameters, initial and final states. Included by
   tests/main.c. */
#include "gradient.h"

#define CELLS_CLOSE (MTL__REAL_IS_DOUBLE ? 1e-12 : 1e-5)

/* Every kind of cell. */
static const struct cells_kind { const char *name; int cell, activation, reset; } cells_kinds[] = {
    { "rnn tanh", MTL_CELL_RNN, MTL_ACTIVATION_TANH, 0 },
    { "rnn relu", MTL_CELL_RNN, MTL_ACTIVATION_RELU, 0 },
    { "rnn sigmoid", MTL_CELL_RNN, MTL_ACTIVATION_SIGMOID, 0 },
    { "gru, reset after", MTL_CELL_GRU, 0, MTL_RESET_AFTER },
    { "gru, reset before", MTL_CELL_GRU, 0, MTL_RESET_BEFORE },
    { "lstm", MTL_CELL_LSTM, 0, 0 },
    { "mingru", MTL_CELL_MINGRU, 0, 0 } };
enum { CELLS_KINDS = 7 };

/* Which of a cell's outputs enter the loss. */
enum { CELLS_STATES = 1, CELLS_LAST_H = 2, CELLS_LAST_C = 4, CELLS_INPUT = 8 };

typedef struct cells_case {
    const struct cells_kind *kind;
    mtl_cell_desc desc;
    size_t inputs, units;
    int reverse, given, losses;             /* given: initial states are */
    int layers;                             /* > 0: a stack of this many, each in two directions */
    mtl_cell *cells[6];
    mtl_activation *y;
    mtl_cell_state last;
    char what[128];
    mtl_tensor *table;                      /* words of characters: the characters' vectors; .. */
    mtl_packing *words;                     /* .. their words, */
    int *characters, *word;                 /* in the words' order; the word of each step of the batch, in the
                                               caller's order; */
    size_t word_count;
    mtl_activation *pooled, *steps;         /* the words' rows; the batch's */
    float rate;                             /* recurrent dropout; .. */
    const mtl_real *mask;                   /* .. [sequences][padded] of the last pass, NULL: none */
} cells_case;

static cells_case *cells_of(net *n) { return (cells_case *)n->user; }

/* As mtl_cell_forward, with recurrent dropout. */
static mtl_activation *cells_dropped(net *n, mtl_activation *x, const mtl_cell_state *initial,
                                     mtl_cell_state *last)
{
    cells_case *c = cells_of(n);
    const mtl_cell *cell = c->cells[0];
    mtl_activation *y = mtl__run_beside(&n->run, NULL, x, cell->units);
    mtl__layers *layers = mtl__layers_make(&n->run, 1);
    unsigned long long stream = 0;
    n->run.training = 1;
    layers->of[0] = mtl__layer_make(&n->run, &cell, 1, x, y, initial);
    mtl__layer_drop(&n->run, layers->of[0], (mtl_real)c->rate, &stream);
    assert_int_equal(stream, c->rate > 0);
    c->mask = layers->of[0]->cells[0].mask;
    mtl__layers_forward(&n->run, layers, &last);
    return y;
}

/* One cell: leaf 0 is x, leaves 1 and 2 the initial states. */
static void cells_one_forward(net *n)
{
    cells_case *c = cells_of(n);
    int lstm = c->kind->cell == MTL_CELL_LSTM;
    mtl_activation *x = net_leaf_forward(n, 0);
    mtl_cell_state initial;
    memset(&initial, 0, sizeof initial);
    if (c->given) initial.h = net_leaf_forward(n, 1);
    if (c->given && lstm) initial.c = net_leaf_forward(n, 2);
    if (c->rate > 0) c->y = cells_dropped(n, x, c->given ? &initial : NULL, &c->last);
    else c->y = mtl_cell_forward(&n->run, c->cells[0], x, c->given ? &initial : NULL, &c->last);
    if (c->losses & CELLS_STATES) net_loss(n, c->y);
    if (c->losses & CELLS_LAST_H) net_loss(n, c->last.h);
    if (c->losses & CELLS_LAST_C && lstm) net_loss(n, c->last.c);
    if (c->losses & CELLS_INPUT) net_loss(n, x);                    /* x is used twice: gradients add up */
}

/* A random case of kind number % 6, with at most `most` inputs and units. */
static void cells_open_sized(net *n, cells_case *c, void (*forward)(net *), int number, int most,
                             size_t sequences, int longest)
{
    test_random r = test_random_from((unsigned long long)number + 7);
    memset(c, 0, sizeof *c);
    c->kind = &cells_kinds[number % CELLS_KINDS];
    c->desc.cell = c->kind->cell;
    c->desc.activation = c->kind->activation;
    c->desc.reset = c->kind->reset;
    c->desc.no_bias = number / CELLS_KINDS % 3 == 2;
    c->reverse = number / CELLS_KINDS % 2;
    c->inputs = gradient_size(&r, most);
    c->units = gradient_size(&r, most);
    c->desc.hidden = (int)c->units;
    c->losses = CELLS_STATES;
    net_open(n, forward, c, (unsigned long long)number, sequences, longest);
    n->bent = c->kind->activation == MTL_ACTIVATION_RELU;
    net_add_leaf(n, "x", n->rows, c->inputs);
    snprintf(c->what, sizeof c->what, "%s, case %d: %lu inputs, %lu units, %lu sequences, %s%s",
             c->kind->name, number, (unsigned long)c->inputs, (unsigned long)c->units,
                 (unsigned long)sequences, c->reverse ? "reverse" : "forward", c->desc.no_bias
                     ? ", no bias" : "");
}

static void cells_open(net *n, cells_case *c, void (*forward)(net *), int number, int most)
{
    test_random r = test_random_from((unsigned long long)number);
    int sequences = number % 4 == 3 ? test_random_between(&r, 15, 36) : test_random_between(&r, 1, 6);
    /* short: far gradients drown in rounding */
    cells_open_sized(n, c, forward, number, most, (size_t)sequences, number % 7 == 0 ? 1 : 6);
}

static void cells_add(net *n, cells_case *c, int number)
{
    c->cells[0] = mtl_cell_add(&n->set, "cell.", &c->desc, c->inputs, 0, c->reverse, &n->err);
    net_add_leaf(n, "h0", n->sequences, c->units);
    net_add_leaf(n, "c0", n->sequences, c->units);
    if (!c->given || c->kind->cell != MTL_CELL_LSTM) n->leaf_count = c->given ? 2 : 1;
    net_ready(n, gradient_isa(number));
}

/* ---- values: the equations ----------------------------------------------------------------------------- */

/* Row `row` of W x + b; NULL b: none. */
static double cells_sum(const mtl_tensor *w, const mtl_tensor *b, size_t row, const double *x)
{
    double sum = b ? (double)b->value[row] : 0;
    size_t j;
    for (j = 0; j < w->shape[1]; j++) sum += (double)w->value[row * w->shape[1] + j] * x[j];
    return sum;
}

static double cells_sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* One step: h and cell state c of [units] are replaced. Gate g of unit u is row g * units + u. What W_hh sees
   of h is h o mask; NULL: all. */
static void cells_step(const cells_case *k, const mtl_cell *w, const double *x, double *h, double *c,
                       const mtl_real *mask)
{
    double next[80], reset[80], a[4], b[4], seen[80];
    size_t u, g, v, units = k->units;
    for (u = 0; u < units; u++) seen[u] = mask ? h[u] * (double)mask[u] : h[u];
    for (u = 0; u < units; u++) {
        for (g = 0; g < w->kind->gates; g++) {
            a[g] = cells_sum(w->w_ih, w->b_ih, g * units + u, x);
            b[g] = w->w_hh ? cells_sum(w->w_hh, w->b_hh, g * units + u, seen) : 0;
        }
        if (k->kind->cell == MTL_CELL_LSTM) {                       /* i f g o */
            c[u] = cells_sigmoid(a[1] + b[1]) * c[u] + cells_sigmoid(a[0] + b[0]) * tanh(a[2] + b[2]);
            next[u] = cells_sigmoid(a[3] + b[3]) * tanh(c[u]);
        } else if (k->kind->cell == MTL_CELL_MINGRU) {              /* z n */
            next[u] = (1 - cells_sigmoid(a[0])) * h[u] + cells_sigmoid(a[0]) * a[1];
        } else if (k->kind->cell == MTL_CELL_GRU) {                 /* r z n */
            double z = cells_sigmoid(a[1] + b[1]);
            if (k->kind->reset == MTL_RESET_BEFORE) {
                for (v = 0; v < units; v++)
                    reset[v] = seen[v] * cells_sigmoid(cells_sum(w->w_ih, w->b_ih, v, x)
                                                       + cells_sum(w->w_hh, w->b_hh, v, seen));
                next[u] = (1 - z) * tanh(a[2] + cells_sum(w->w_hh, w->b_hh, 2 * units + u, reset)) + z * h[u];
            } else {
                next[u] = (1 - z) * tanh(a[2] + cells_sigmoid(a[0] + b[0]) * b[2]) + z * h[u];
            }
        } else {
            next[u] = k->kind->activation == MTL_ACTIVATION_TANH ? tanh(a[0] + b[0])
                    : k->kind->activation == MTL_ACTIVATION_SIGMOID
                        ? cells_sigmoid(a[0] + b[0]) : a[0] + b[0] > 0 ? a[0] + b[0] : 0;
        }
    }
    memcpy(h, next, units * sizeof *h);
}

static void cells_compare(const cells_case *c, const mtl_activation *a, size_t row, const double *want,
                          const char *what)
{
    size_t u;
    for (u = 0; u < c->units; u++)
        if (!(fabs((double)a->value[row * a->stride + u] - want[u]) <= CELLS_CLOSE * (1 + fabs(want[u]))))
            fail_msg("%s: %s of unit %lu is %.12g, not %.12g", c->what, what, (unsigned long)u,
                     (double)a->value[row * a->stride + u], want[u]);
}

/* Sequence s of the last forward pass against the equations, step by step in reading direction. */
static void cells_compare_sequence(net *n, size_t s)
{
    const cells_case *c = cells_of(n);
    size_t place = (size_t)n->run.packing->place[s], length = (size_t)n->lengths[s], i, j;
    double h[80] = { 0 }, cell[80] = { 0 }, x[80];
    for (j = 0; c->given && j < c->units; j++) {
        h[j] = (double)n->leaves[1].value[place * c->units + j];
        if (c->kind->cell == MTL_CELL_LSTM) cell[j] = (double)n->leaves[2].value[place * c->units + j];
    }
    for (i = 0; i < length; i++) {
        size_t row = mtl_run_row(&n->run, c->y, s, c->reverse ? length - 1 - i : i);
        for (j = 0; j < c->inputs; j++) x[j] = (double)n->leaves[0].value[row * c->inputs + j];
        cells_step(c, c->cells[0], x, h, cell,
                   c->mask ? c->mask + place * mtl__padded(c->units) : NULL);
        cells_compare(c, c->y, row, h, "h");
    }
    cells_compare(c, c->last.h, place, h, "the last h");
    if (c->last.c) cells_compare(c, c->last.c, place, cell, "the last c");
}

static void test_cells_values(void **state)
{
    cells_case c;
    net n;
    int i, tape;
    size_t s;
    (void)state;
    for (i = 0; i < test_cases(72); i++) {
        cells_open(&n, &c, cells_one_forward, i, 70);
        c.given = i % 5 < 2;
        cells_add(&n, &c, i);
        for (tape = 0; tape < 2; tape++) {
            net_forward(&n, tape);
            for (s = 0; s < n.sequences; s++) cells_compare_sequence(&n, s);
        }
        net_close(&n);
    }
}

/* ---- gradients of one cell ----------------------------------------------------------------------------- */

static void cells_check(int number, int losses, int given, int most)
{
    cells_case c;
    net n;
    cells_open(&n, &c, cells_one_forward, number, most);
    c.given = given;
    c.losses = losses;
    cells_add(&n, &c, number);
    net_check(&n, c.what);
    net_close(&n);
}

static void test_cells_gradients(void **state)
{
    int i;
    (void)state;
    for (i = 0; i < test_cases(72); i++) cells_check(i, CELLS_STATES | (i % 5 == 0 ? CELLS_INPUT : 0), 0, 70);
}

/* Gradients into final states, alone or beside those of all steps, and out of initial states. */
static void test_cells_gradients_through_states(void **state)
{
    static const int losses[] = { CELLS_STATES | CELLS_LAST_H | CELLS_LAST_C, CELLS_LAST_H,
        CELLS_LAST_C | CELLS_LAST_H, CELLS_STATES | CELLS_LAST_C,
                                  CELLS_STATES };
    int i;
    (void)state;
    for (i = 0; i < test_cases(72); i++) cells_check(i, losses[i / CELLS_KINDS % 5], i % 7 != 6, 40);
}

/* More than 96 rows and more than two blocks of 16 sequences: where work is divided. */
static void test_cells_gradients_of_many_rows(void **state)
{
    static const size_t sequences[] = { 16, 17, 32, 33, 48, 97 };
    cells_case c;
    net n;
    int i;
    (void)state;
    for (i = 0; i < test_cases(24); i++) {
        cells_open_sized(&n, &c, cells_one_forward, i, 20, sequences[i % 6], 12);
        c.given = 1;
        c.losses = CELLS_STATES | CELLS_LAST_H | CELLS_LAST_C;
        cells_add(&n, &c, i);
        net_check(&n, c.what);
        net_close(&n);
    }
}

/* ---- recurrent dropout --------------------------------------------------------------------------------- */

/* Of the masks of a pass: 0 and 1 / keep, about as many as the rate says; sequences have masks of their
   own. */
static void cells_check_masks(const net *n, const cells_case *c)
{
    const size_t padded = mtl__padded(c->units);
    const mtl_real kept = 1 / (1 - (mtl_real)c->rate);
    size_t dropped = 0, other = 0, s, u;
    for (s = 0; s < n->sequences; s++)
        for (u = 0; u < c->units; u++) {
            const mtl_real m = c->mask[s * padded + u];
            assert_true(m == 0 || fabs((double)(m - kept)) < 1e-6);
            dropped += m == 0;
            other += m != c->mask[u];
        }
    assert_true(n->sequences * c->units < 200 ||
                fabs((double)dropped / (double)(n->sequences * c->units) - (double)c->rate) < 0.15);
    assert_true(n->sequences * c->units < 200 || other > 0);
}

/* Values, and gradients through states as well, of cells that have a recurrent matrix. */
static void test_cells_recurrent_dropout(void **state)
{
    static const float rates[] = { 0.25f, 0.5f, 0.9f };
    cells_case c;
    net n;
    int i, tape;
    size_t s;
    (void)state;
    for (i = 0; i < test_cases(72); i++) {
        if (cells_kinds[i % CELLS_KINDS].cell == MTL_CELL_MINGRU) continue;
        if (i % 6 == 5) cells_open_sized(&n, &c, cells_one_forward, i, 20, 33, 9);
        else cells_open(&n, &c, cells_one_forward, i, 40);
        c.rate = rates[i % 3];
        c.given = i % 5 < 3;
        c.losses = CELLS_STATES | (i % 2 ? CELLS_LAST_H | CELLS_LAST_C : 0);
        cells_add(&n, &c, i);
        for (tape = 0; tape < 2; tape++) {
            net_forward(&n, tape);
            cells_check_masks(&n, &c);
            for (s = 0; s < n.sequences; s++) cells_compare_sequence(&n, s);
        }
        net_check(&n, c.what);
        net_close(&n);
    }
}

/* ---- stacks of bidirectional layers -------------------------------------------------------------------- */

static void cells_stack_forward(net *n)
{
    cells_case *c = cells_of(n);
    mtl_activation *x = net_leaf_forward(n, 0), *parts[2];
    mtl_cell_state last[2];
    int l, d;
    for (l = 0; l < c->layers; l++) {
        for (d = 0; d < 2; d++) parts[d] = mtl_cell_forward(&n->run, c->cells[2 * l + d], x, NULL, &last[d]);
        x = mtl__concat_forward(&n->run, parts, 2, "layer");
    }
    net_loss(n, x);
    net_loss(n, last[0].h);
    net_loss(n, last[1].h);
}

static void test_cells_gradients_of_stacks(void **state)
{
    cells_case c;
    net n;
    int i, k;
    (void)state;
    for (i = 0; i < test_cases(36); i++) {
        cells_open(&n, &c, cells_stack_forward, i, 24);
        c.layers = 2 + i % 2;
        for (k = 0; k < 2 * c.layers; k++)
            c.cells[k] = mtl_cell_add(&n.set, "stack.", &c.desc, k < 2 ? c.inputs : 2 * c.units, k / 2, k % 2,
                                      &n.err);
        net_ready(&n, gradient_isa(i));
        net_check(&n, c.what);
        net_close(&n);
    }
}

/* ---- two row spaces in one run: words made of characters ----------------------------------------------- */

/* Characters through an embedding, a cell and pooling to one row for each distinct word: rows of a packing of
   their own. */
static void cells_words_of(net *n)
{
    cells_case *c = cells_of(n);
    const mtl_segment segment = { 0, c->units, c->reverse };
    mtl_activation *x = mtl__embedding_forward(&n->run, &c->words->space[MTL_LEVEL_STEP], c->table,
                                               c->characters, 1, 0, "characters");
    c->y = mtl_cell_forward(&n->run, c->cells[0], x, NULL, &c->last);
    c->pooled = mtl__pool_forward(&n->run, c->losses % 3 == 0 ? MTL_POOL_LAST : c->losses % 3 == 1
                                  ? MTL_POOL_MEAN : MTL_POOL_MAX, c->y, &segment, 1,
                                  (size_t)MTL__NOT_CARRIED, "words");
}

/* Then each step of the batch takes its word's row, and a second cell reads the steps. */
static void cells_words_forward(net *n)
{
    cells_case *c = cells_of(n);
    int *items = (int *)mtl_run_push(&n->run, n->rows * sizeof *items);
    size_t i;
    cells_words_of(n);
    for (i = 0; i < n->rows; i++) items[i] = c->words->place[c->word[n->run.packing->caller_row[i]]];
    c->steps = mtl__select_forward(&n->run, net_steps(n), c->pooled, items, n->rows, "steps");
    net_loss(n, c->last.h);
    net_loss(n, mtl_cell_forward(&n->run, c->cells[1], c->steps, NULL, NULL));
}

static void cells_words_open(net *n, cells_case *c, int number)
{
    enum { CHARACTERS = 11 };
    int *lengths;
    size_t i, rows = 0;
    cells_open(n, c, cells_words_forward, number, 12);
    n->leaf_count = 0;
    c->losses = number;
    c->word_count = (size_t)test_random_between(&n->random, 1, 40);
    lengths = (int *)mtl_arena_push(&n->memory, c->word_count * sizeof *lengths);
    for (i = 0; i < c->word_count; i++) rows += (size_t)(lengths[i] = test_random_between(&n->random, 1, 5));
    c->words = mtl__packing_create(&n->memory, lengths, c->word_count, &n->err);
    c->characters = (int *)mtl_arena_push(&n->memory, rows * sizeof *c->characters);
    for (i = 0; i < rows; i++) c->characters[i] = test_random_between(&n->random, 0, CHARACTERS - 1);
    c->word = (int *)mtl_arena_push(&n->memory, n->rows * sizeof *c->word);
    for (i = 0; i < n->rows; i++) c->word[i] = test_random_between(&n->random, 0, (int)c->word_count - 1);
    c->table = mtl_parameters_add(&n->set, "characters.weight", CHARACTERS, c->inputs, MTL_TENSOR_EMBEDDING,
                                  &n->err);
    c->cells[0] = mtl_cell_add(&n->set, "characters.", &c->desc, c->inputs, 0, c->reverse, &n->err);
    c->cells[1] = mtl_cell_add(&n->set, "steps.", &c->desc, c->units, 0, !c->reverse, &n->err);
    net_ready(n, gradient_isa(number));
}

/* Gradients; and the words' rows are to the bit those of a run whose batch they are. */
static void test_cells_two_spaces(void **state)
{
    cells_case c;
    net n;
    mtl_run alone;
    mtl_arena memory;
    int i;
    size_t s, t, row, k;
    (void)state;
    for (i = 0; i < test_cases(36); i++) {
        const mtl_activation *pooled, *steps;
        cells_words_open(&n, &c, i);
        net_check(&n, c.what);
        net_forward(&n, 0);
        pooled = c.pooled;
        steps = c.steps;
        assert_true(pooled->space == &c.words->space[MTL_LEVEL_SEQUENCE] && steps->space == net_steps(&n));
        assert_int_equal(pooled->rows, c.word_count);
        for (s = 0, row = 0; s < n.sequences; s++)
            for (t = 0; t < (size_t)n.lengths[s]; t++, row++)
                assert_memory_equal(pooled->value + mtl_run_row(&n.run, pooled, (size_t)c.word[row], 0)
                                    * pooled->stride, steps->value + mtl_run_row(&n.run, steps, s, t)
                                    * steps->stride, c.units * sizeof(mtl_real));
        alone = n.run;
        mtl_arena_init(&memory, NULL, 0, NULL);
        n.run.arena = &memory;
        n.run.packing = c.words;
        cells_words_of(&n);
        net_expect_ok(&n, c.what);
        for (k = 0; k < c.word_count; k++)
            assert_memory_equal(c.pooled->value + k * c.pooled->stride, pooled->value + k * pooled->stride,
                                c.units * sizeof(mtl_real));
        n.run = alone;
        mtl_arena_destroy(&memory);
        net_close(&n);
    }
}

/* Rows that are nobody's steps are refused: of a task's labelled items, or of sequences. */
static void test_cells_no_space(void **state)
{
    cells_case c;
    net n;
    int i;
    (void)state;
    for (i = 0; i < 2; i++) {
        mtl_activation *x;
        cells_open(&n, &c, cells_one_forward, 5, 8);
        cells_add(&n, &c, 5);
        mtl_arena_init(&n.scratch, n.buffer, NET_SCRATCH, NULL);
        x = mtl_run_activation(&n.run, NULL, n.rows, c.inputs);
        assert_true(x->space == net_steps(&n));
        x->space = i ? &n.run.packing->space[MTL_LEVEL_SEQUENCE] : NULL;
        assert_null(mtl_lstm_forward(&n.run, c.cells[0], x, NULL, NULL));
        test_expect_error(&n.err, MTL_ERROR_ARGUMENT, "x", "pack the run first");
        net_close(&n);
    }
}

/* ---- frozen cells and constant inputs ------------------------------------------------------------------ */

static void cells_two_forward(net *n)
{
    cells_case *c = cells_of(n);
    mtl_activation *x = net_leaf_forward(n, 0);
    x = mtl_cell_forward(&n->run, c->cells[0], x, NULL, NULL);
    net_loss(n, mtl_cell_forward(&n->run, c->cells[1], x, NULL, NULL));
}

/* A frozen cell gets no gradient and passes it on; one that has a single frozen tensor computes the others'
   as ever. */
static void test_cells_frozen(void **state)
{
    cells_case c;
    net n;
    int i;
    size_t k;
    (void)state;
    for (i = 0; i < CELLS_KINDS; i++) {
        cells_open(&n, &c, cells_two_forward, i, 20);
        c.cells[0] = mtl_cell_add(&n.set, "low.", &c.desc, c.inputs, 0, 0, &n.err);
        c.cells[1] = mtl_cell_add(&n.set, "high.", &c.desc, c.units, 0, 1, &n.err);
        net_ready(&n, gradient_isa(i));
        for (k = 0; k < n.set.count; k++) n.set.tensors[k]->frozen = strncmp(n.set.tensors[k]->name, "high.",
                                                                             5) == 0;
        n.set.tensors[i % 4]->frozen = 1;
        net_forward(&n, 1);
        net_backward(&n);
        for (k = 0; k < n.set.count; k++)
            assert_int_equal(n.gradients->of[k].state, n.set.tensors[k]->frozen
                             ? MTL_GRAD_NONE : MTL_GRAD_DENSE);
        net_check(&n, c.what);
        net_close(&n);
    }
}

static void cells_constant_forward(net *n)
{
    cells_case *c = cells_of(n);
    mtl_cell_state initial;
    mtl_activation *x = net_leaf_forward(n, 0);
    memset(&initial, 0, sizeof initial);
    initial.h = net_leaf_forward(n, 1);
    x->constant = initial.h->constant = 1;
    c->y = mtl_cell_forward(&n->run, c->cells[0], x, &initial, NULL);
    net_loss(n, c->y);
}

static void test_cells_constant_inputs(void **state)
{
    cells_case c;
    net n;
    int i;
    (void)state;
    for (i = 0; i < CELLS_KINDS; i++) {
        cells_open(&n, &c, cells_constant_forward, i, 20);
        c.given = 1;
        cells_add(&n, &c, i);
        n.leaf_count = 0;                                           /* not to be checked: they have no
                                                                       gradient */
        net_check(&n, c.what);
        assert_true(!n.leaves[0].x->grad && !n.leaves[1].x->grad);
        net_close(&n);
    }
}

/* ---- a long sequence in chunks ------------------------------------------------------------------------- */

/* States after T steps are those after two halves, the second started from the first one's last states. */
/* So many rows that forward and backward take several chunks of steps, whose order differs between the two
   directions. */
static void test_cells_gradients_of_chunks(void **state)
{
    cells_case c;
    net n;
    int i, k;
    (void)state;
    for (i = 0; i < test_cases(6); i++) {
        const int kind = 3 + i % 3;                                 /* GRU, GRU, LSTM: rows of an RNN are too
                                                                       small */
        cells_open_sized(&n, &c, cells_stack_forward, kind, 4, 30 + (size_t)i, 100);
        c.units = c.units + 16;                                     /* 2 blocks: 1024 rows a chunk of
                                                                       backward, 384 to 512 of forward */
        c.desc.hidden = (int)c.units;
        c.layers = 1;
        for (k = 0; k < 2; k++) c.cells[k] = mtl_cell_add(&n.set, "layer.", &c.desc, c.inputs, 0, k, &n.err);
        net_ready(&n, gradient_isa(i));
        if (n.rows < 1100) fail_msg("case %d has %lu rows only", i, (unsigned long)n.rows);
        net_check(&n, c.what);
        net_close(&n);
    }
}

static void test_cells_chunks(void **state)
{
    cells_case c;
    net n;
    int i, part;
    size_t u, t;
    (void)state;
    for (i = 0; i < CELLS_KINDS; i++) {
        mtl_real whole[10 * 20];
        mtl_cell_state at;
        cells_open_sized(&n, &c, cells_one_forward, i, 20, 1, 1);
        n.lengths[0] = 10;
        n.rows = 10;
        c.reverse = 0;
        n.leaf_count = 0;
        net_add_leaf(&n, "x", 10, c.inputs);
        cells_add(&n, &c, i);
        net_forward(&n, 0);
        for (t = 0; t < 10; t++) memcpy(whole + t * c.units, c.y->value + t * c.y->stride,
                                        c.units * sizeof *whole);
        memset(&at, 0, sizeof at);
        n.lengths[0] = 5;
        for (part = 0; part < 2; part++) {
            mtl_activation *x, *y;
            n.run.packing = mtl__packing_create(&n.memory, n.lengths, 1, &n.err);
            x = mtl_run_activation(&n.run, "x", 5, c.inputs);
            for (t = 0; t < 5; t++) memcpy(x->value + t * x->stride, n.leaves[0].value
                                           + ((size_t)part * 5 + t) * c.inputs, c.inputs * sizeof *whole);
            y = mtl_cell_forward(&n.run, c.cells[0], x, part ? &at : NULL, &at);
            net_expect_ok(&n, c.what);
            for (t = 0; t < 5; t++)
                for (u = 0; u < c.units; u++)
                    assert_true(fabs((double)(y->value[t * y->stride + u]
                                              - whole[((size_t)part * 5 + t) * c.units + u])) < CELLS_CLOSE);
        }
        net_close(&n);
    }
}

/* ---- names, shapes, options ---------------------------------------------------------------------------- */

static void test_cells_parameters(void **state)
{
    mtl_cell_desc desc;
    mtl_arena arena;
    mtl_parameters set;
    mtl_cell *cell;
    mtl_error err;
    size_t i;
    (void)state;
    mtl_error_clear(&err);
    memset(&desc, 0, sizeof desc);
    desc.cell = MTL_CELL_LSTM;
    desc.hidden = 5;
    mtl_arena_init(&arena, NULL, 0, NULL);
    mtl_parameters_init(&set, &arena);
    cell = mtl_cell_add(&set, "deep.", &desc, 3, 2, 1, &err);
    assert_non_null(cell);
    assert_string_equal(set.tensors[0]->name, "deep.weight_ih_l2_reverse");
    assert_string_equal(set.tensors[3]->name, "deep.bias_hh_l2_reverse");
    assert_true(set.tensors[0]->shape[0] == 20 && set.tensors[0]->shape[1] == 3);
    assert_true(set.tensors[1]->shape[0] == 20 && set.tensors[1]->shape[1] == 5);
    assert_int_equal(set.tensors[3]->dims, 1);
    desc.no_bias = 1;
    assert_non_null(mtl_cell_add(&set, "plain.", &desc, 3, 0, 0, &err));
    assert_int_equal(set.count, 6);
    assert_null(mtl_cell_add(&set, "plain.", &desc, 3, 0, 0, &err));
    test_expect_error(&err, MTL_ERROR_ARGUMENT, NULL, "plain.weight_ih_l0");
    desc.hidden = -5;
    assert_null(mtl_cell_add(&set, "plain.", &desc, 3, 1, 0, &err));
    test_expect_error(&err, MTL_ERROR_FIELD, "cell.hidden", "cell.hidden is -5; it must lie between 1 and");
    desc.hidden = 5;
    desc.cell = MTL_CELL_COUNT;
    assert_null(mtl_cell_add(&set, "plain.", &desc, 3, 1, 0, &err));
    test_expect_error(&err, MTL_ERROR_FIELD, "cell.cell", "rnn, gru, lstm, mingru");
    desc.cell = MTL_CELL_MINGRU;
    desc.no_bias = 0;
    assert_non_null(mtl_cell_add(&set, "min.", &desc, 3, 0, 0, &err));
    assert_int_equal(set.count, 8);                                         /* no W_hh, no b_hh */
    assert_string_equal(set.tensors[6]->name, "min.weight_ih_l0");
    assert_string_equal(set.tensors[7]->name, "min.bias_ih_l0");
    assert_true(set.tensors[6]->shape[0] == 10 && set.tensors[6]->shape[1] == 3);
    assert_int_equal(mtl_parameters_allocate(&set, &err), MTL_OK);
    mtl_parameters_randomise(&set, 1);
    for (i = 0; i < set.tensors[0]->count; i++)                             /* U(-1/sqrt(H), ..) */
        assert_true(fabs((double)set.tensors[0]->value[i]) <= 1 / sqrt(5.0) + 1e-6);
    mtl_arena_destroy(&arena);
}

/* mtl_rnn_forward and its like take cells of their own kind alone and do then what mtl_cell_forward does; the
   error names the call that fits. */
static void test_cells_wrong_kind(void **state)
{
    static const struct {
        int cell;
        const char *name;
        mtl_activation *(*forward)(mtl_run *, const mtl_cell *, mtl_activation *, const mtl_cell_state *,
                                   mtl_cell_state *);
    } calls[4] = { { MTL_CELL_RNN, "mtl_rnn_forward", mtl_rnn_forward },
                   { MTL_CELL_GRU, "mtl_gru_forward", mtl_gru_forward },
                   { MTL_CELL_LSTM, "mtl_lstm_forward", mtl_lstm_forward },
                   { MTL_CELL_MINGRU, "mtl_mingru_forward", mtl_mingru_forward } };
    int number, i, k;
    (void)state;
    for (number = 0; number < CELLS_KINDS; number++)
        for (i = 0; i < 4; i++) {
            mtl_activation *y;
            cells_case c;
            size_t row;
            net n;
            cells_open(&n, &c, cells_one_forward, number, 10);
            cells_add(&n, &c, number);
            net_forward(&n, 0);
            y = calls[i].forward(&n.run, c.cells[0], n.leaves[0].x, NULL, NULL);
            for (k = 0; calls[k].cell != c.kind->cell; k++) { }
            if (k != i) {
                assert_null(y);
                test_expect_error(&n.err, MTL_ERROR_ARGUMENT, "cell", calls[k].name);
            } else {
                TEST_FINE(&n.err);
                for (row = 0; row < y->rows && !c.given; row++)
                    assert_memory_equal(y->value + row * y->stride, c.y->value + row * y->stride,
                                        y->width * sizeof *y->value);
            }
            net_close(&n);
        }
}

/* ---- one step at a time -------------------------------------------------------------------------------- */

/* Gives every step of sequence s to the stream, after a reset, and compares what comes back with what the
   forward pass made. */
static void cells_compare_stream(net *n, mtl_cell_stream *stream, size_t s)
{
    const cells_case *c = cells_of(n);
    const size_t place = (size_t)n->run.packing->place[s], length = (size_t)n->lengths[s];
    const int lstm = c->kind->cell == MTL_CELL_LSTM;
    const mtl_real *h = NULL;
    double want[128];
    size_t i, u;
    mtl_activation got;
    memset(&got, 0, sizeof got);
    mtl_cell_stream_reset(stream, c->given ? n->leaves[1].value + place * c->units : NULL,
                          c->given && lstm ? n->leaves[2].value + place * c->units : NULL);
    for (i = 0; i < length; i++) {
        const size_t row = mtl_run_row(&n->run, c->y, s, c->reverse ? length - 1 - i : i);
        h = mtl_cell_stream_step(stream, n->leaves[0].value + row * c->inputs);
        for (u = 0; u < c->units; u++) want[u] = (double)c->y->value[row * c->y->stride + u];
        got.value = (mtl_real *)h;
        cells_compare(c, &got, 0, want, "a streamed h");
    }
    got.value = (mtl_real *)mtl_cell_stream_memory(stream);
    assert_true(lstm == (got.value != NULL));
    for (u = 0; lstm && u < c->units; u++) want[u] = (double)c->last.c->value[place * c->last.c->stride + u];
    if (lstm) cells_compare(c, &got, 0, want, "a streamed c");
}

/* Every kind of cell, instruction set and awkward width; a dirty buffer; two sequences with a reset
   between. */
static void test_cells_stream(void **state)
{
    static const size_t widths[] = { 1, 5, 16, 17, 33, 100 };
    cells_case c;
    net n;
    int isa, i;
    size_t s, bytes;
    (void)state;
    for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++) {
        if (!mtl__isa_supported(isa)) continue;
        for (i = 0; i < 6 * CELLS_KINDS; i++) {
            void *memory, *start;
            mtl_cell_stream *stream;
            memset(&c, 0, sizeof c);
            c.kind = &cells_kinds[i % CELLS_KINDS];
            c.desc.cell = c.kind->cell;
            c.desc.activation = c.kind->activation;
            c.desc.reset = c.kind->reset;
            c.desc.no_bias = i % 4 == 3;
            c.reverse = i % 5 == 0;
            c.units = widths[i / CELLS_KINDS];
            c.inputs = widths[(i + i / CELLS_KINDS) % 6];
            c.given = i % 3 == 1;
            c.desc.hidden = (int)c.units;
            c.losses = CELLS_STATES;
            snprintf(c.what, sizeof c.what, "stream %d, %s, %s", i, c.kind->name, mtl__isa_name(isa));
            net_open(&n, cells_one_forward, &c, (unsigned long long)i, 2, 6);
            net_add_leaf(&n, "x", n.rows, c.inputs);
            c.cells[0] = mtl_cell_add(&n.set, "cell.", &c.desc, c.inputs, 0, c.reverse, &n.err);
            net_add_leaf(&n, "h0", n.sequences, c.units);
            net_add_leaf(&n, "c0", n.sequences, c.units);
            if (!c.given || c.kind->cell != MTL_CELL_LSTM) n.leaf_count = c.given ? 2 : 1;
            net_ready(&n, isa);
            net_forward(&n, 0);
            bytes = mtl_cell_stream_size(c.cells[0]);
            memory = test_aligned(bytes, &start);
            memset(memory, 0xff, bytes);
            stream = mtl_cell_stream_init(memory, bytes, c.cells[0], isa, &n.err);
            assert_non_null(stream);
            for (s = 0; s < n.sequences; s++) cells_compare_stream(&n, stream, s);
            free(start);
            net_close(&n);
        }
    }
}

/* A buffer that is too small or not aligned, an unknown instruction set, no cell. */
static void test_cells_stream_errors(void **state)
{
    /* not every compiler aligns what is on the stack */
    char room[8192 + 64], *memory = room + (64 - (uintptr_t)room % 64) % 64;
    const size_t size = 8192;
    cells_case c;
    net n;
    size_t bytes;
    (void)state;
    cells_open(&n, &c, cells_one_forward, 5, 10);
    cells_add(&n, &c, 5);
    bytes = mtl_cell_stream_size(c.cells[0]);
    assert_true(bytes > 0 && bytes < size);
    assert_null(mtl_cell_stream_init(memory, bytes - 1, c.cells[0], MTL_ISA_AUTO, &n.err));
    test_expect_error(&n.err, MTL_ERROR_BUFFER, "buffer", "a stream");
    assert_null(mtl_cell_stream_init(memory + 8, size - 8, c.cells[0], MTL_ISA_AUTO, &n.err));
    test_expect_error(&n.err, MTL_ERROR_BUFFER, "buffer", "aligned");
    assert_null(mtl_cell_stream_init(memory, bytes, c.cells[0], MTL_ISA_COUNT, &n.err));
    test_expect_error(&n.err, MTL_ERROR_UNSUPPORTED, "isa", "unknown");
    assert_null(mtl_cell_stream_init(memory, bytes, NULL, MTL_ISA_AUTO, &n.err));
    test_expect_error(&n.err, MTL_ERROR_ARGUMENT, "cell", "");
    assert_int_equal(mtl_cell_stream_size(NULL), 0);
    assert_non_null(mtl_cell_stream_init(memory, bytes, c.cells[0], MTL_ISA_AUTO, &n.err));
    net_close(&n);
}

/* A cell that keeps 0.98 of its state at each step, without input: below the smallest normal number its
   states are true zeros, and the caller's own arithmetic stands afterwards. */
static void cells_check_silence(int cell, int isa)
{
    enum { UNITS = 20 };
    const mtl_real zero[2] = {0}, tiny = (mtl_real)2e-38;
    mtl_real start[UNITS];
    mtl_cell_desc desc = {0};
    mtl_parameters set;
    mtl_arena arena;
    mtl_cell_stream *stream;
    mtl_cell *layer;
    mtl_error err = {0};
    void *memory, *begin;
    const mtl_real *h = NULL;
    size_t bytes;
    int i, rounding;
    desc.cell = cell;
    desc.hidden = UNITS;
    mtl_arena_init(&arena, NULL, 0, NULL);
    mtl_parameters_init(&set, &arena);
    layer = mtl_cell_add(&set, "cell.", &desc, 2, 0, 0, &err);
    mtl_parameters_allocate(&set, &err);
    /* GRU: z; LSTM: f */
    for (i = UNITS; i < 2 * UNITS; i++) mtl_parameters_find(&set, "cell.bias_ih_l0")->value[i] = 4;
    for (i = 0; i < UNITS; i++) start[i] = i % 2 ? tiny : -tiny;
    mtl_parameters_prepare(&set, isa, &err);
    bytes = mtl_cell_stream_size(layer);
    memory = test_aligned(bytes, &begin);
    stream = mtl_cell_stream_init(memory, bytes, layer, isa, &err);
    TEST_FINE(&err);
    mtl_cell_stream_reset(stream, start, start);
    fesetround(FE_UPWARD);
    for (i = 0; i < 64; i++) h = mtl_cell_stream_step(stream, zero);
    rounding = fegetround();
    fesetround(FE_TONEAREST);
    assert_int_equal(rounding, FE_UPWARD);
    if (mtl_cell_stream_memory(stream)) h = mtl_cell_stream_memory(stream);
#if defined(MTL__X86) || defined(MTL__NEON)     /* elsewhere it is not in our hands */
    for (i = 0; i < UNITS; i++)
        if (h[i] != 0) fail_msg("%s, cell %d: state %d is %g", mtl__isa_name(isa), cell, i, (double)h[i]);
#else
    (void)h;
#endif
    free(begin);
    mtl_arena_destroy(&arena);
}

static void test_cells_stream_silence(void **state)
{
    int isa;
    (void)state;
    for (isa = MTL_ISA_SCALAR; isa < MTL_ISA_COUNT; isa++) {
        if (!mtl__isa_supported(isa)) continue;
        cells_check_silence(MTL_CELL_GRU, isa);
        cells_check_silence(MTL_CELL_LSTM, isa);
    }
}

/* What a layer keeps for backward, and backward's scratch, in reals per unit and row, as the head of >>cells
   states them: kept RNN 2, GRU 5, LSTM 7; scratch at most gates + 2, and no more for a batch of many rows
   than for a chunk of its steps. */
static void cells_check_memory(const struct cells_kind *kind, size_t steps, size_t kept_limit)
{
    enum { UNITS = 48, SEQUENCES = 8 };
    const size_t rows = SEQUENCES * steps, unit_rows = UNITS * sizeof(mtl_real), slack = 16384;
    int lengths[SEQUENCES], add, i;
    mtl_error err = { 0, "", 0, "" };
    mtl_arena keep, scratch;
    mtl_parameters set;
    mtl_cell_desc desc;
    mtl_cell *cell;
    mtl_run run;
    mtl_tape tape;
    mtl_activation *x, *y;
    mtl_real *grad;
    size_t before, used, gates;
    memset(&desc, 0, sizeof desc);
    memset(&tape, 0, sizeof tape);
    desc.cell = kind->cell;
    desc.activation = kind->activation;
    desc.reset = kind->reset;
    desc.hidden = UNITS;
    for (i = 0; i < SEQUENCES; i++) lengths[i] = (int)steps;
    mtl_arena_init(&keep, NULL, 0, NULL);
    mtl_arena_init(&scratch, NULL, 0, NULL);
    mtl_parameters_init(&set, &keep);
    cell = mtl_cell_add(&set, "", &desc, UNITS, 0, 0, &err);
    mtl_parameters_allocate(&set, &err);
    mtl_parameters_randomise(&set, 1);
    mtl_parameters_prepare(&set, MTL_ISA_AUTO, &err);
    mtl_run_init(&run, &scratch, MTL_ISA_AUTO, &err);
    run.gradients = mtl_gradients_create(&set, &keep, &err);
    run.packings = mtl_packings_create(&set, &keep, &err);
    run.tape = &tape;
    mtl_run_pack(&run, lengths, SEQUENCES);
    mtl_packings_prepare(run.packings, &run);
    x = mtl_run_activation(&run, NULL, rows, UNITS);
    TEST_FINE(&err);
    memset(x->value, 0, rows * unit_rows);
    gates = kind->cell == MTL_CELL_LSTM ? 4 : kind->cell == MTL_CELL_GRU ? 3
        : kind->cell == MTL_CELL_MINGRU ? 2 : 1;

    before = scratch.used;
    y = mtl_cell_forward(&run, cell, x, NULL, NULL);
    TEST_FINE(&err);
    used = scratch.used - before - steps * 64;              /* the list of chunks */
    if (used > kept_limit * rows * unit_rows + slack)
        fail_msg("%s keeps %lu bytes of %lu rows", kind->name, (unsigned long)used, (unsigned long)rows);

    grad = mtl_run_grad(&run, y, &add);
    memset(grad, 0, rows * unit_rows);
    before = scratch.high_water = scratch.used;
    tape.last->backward(&run, tape.last->data);
    TEST_FINE(&err);
    used = scratch.high_water - before - rows * unit_rows;  /* the gradient of x stays */
    if (used > (gates + 2) * rows * unit_rows + 65536 * sizeof(mtl_real) / 4 + slack ||
        used > 1024 * 1024 * sizeof(mtl_real) / 4)
        fail_msg("backward of %s, %lu rows: %lu bytes of scratch", kind->name, (unsigned long)rows,
                 (unsigned long)used);
    mtl_arena_destroy(&scratch);
    mtl_arena_destroy(&keep);
}

static void test_cells_memory(void **state)
{
    int i;
    (void)state;
    for (i = 0; i < CELLS_KINDS; i++) {
        const int cell = cells_kinds[i].cell;
        const size_t kept = cell == MTL_CELL_LSTM ? 7 : cell == MTL_CELL_GRU ? 5
            : cell == MTL_CELL_MINGRU ? 3 : 2;
        cells_check_memory(&cells_kinds[i], 64, kept);
        cells_check_memory(&cells_kinds[i], 512, kept);
    }
}

#define TEST_CELLS \
    cmocka_unit_test(test_cells_values), cmocka_unit_test(test_cells_gradients), \
    cmocka_unit_test(test_cells_gradients_through_states), \
        cmocka_unit_test(test_cells_gradients_of_many_rows), \
    cmocka_unit_test(test_cells_recurrent_dropout), \
    cmocka_unit_test(test_cells_gradients_of_stacks), cmocka_unit_test(test_cells_two_spaces), \
    cmocka_unit_test(test_cells_no_space), cmocka_unit_test(test_cells_frozen), \
        cmocka_unit_test(test_cells_constant_inputs), \
    cmocka_unit_test(test_cells_chunks), cmocka_unit_test(test_cells_gradients_of_chunks), \
        cmocka_unit_test(test_cells_parameters), cmocka_unit_test(test_cells_wrong_kind), \
    cmocka_unit_test(test_cells_stream), cmocka_unit_test(test_cells_stream_silence), \
        cmocka_unit_test(test_cells_stream_errors), \
    cmocka_unit_test(test_cells_memory)
