/* tests/bench/parts.h    `bench parts`: what is not the recurrent layer, each against the limit that it runs
                          into

   Each row: part, size, microseconds, a rate with its unit, and its share of the limit where there is one.
   Where two things are compared they take turns, and the least time of each counts. */

/* ---- taking turns -------------------------------------------------------------------------------------- */

enum { BENCH_TURNS = 4 };                   /* most contestants */

/* Runs the contestants in turn for `seconds` (5 rounds at least, after 2 to warm up); least times in
   us[count]. */
static void bench_alternate(bench_work work, void *const *users, size_t count, double seconds, double *us)
{
    double began = mtl__seconds();
    size_t round, k;
    for (k = 0; k < count; k++) us[k] = 1e300;
    for (round = 0; round < 7 || mtl__seconds() - began < seconds; round++)
        for (k = 0; k < count; k++) {
            const double now = bench_once(work, users[k]);
            if (round >= 2 && now < us[k]) us[k] = now;
        }
}

static void bench_part_row(const char *part, const char *size, double us, double rate, const char *unit,
                           double share)
{
    printf("%s\t%s\t%.3f\t%.4g\t%s\t", part, size, us, rate, unit);
    if (share > 0) printf("%.4f\n", share);
    else printf("-\n");
    fflush(stdout);
}

/* `count` ids, id k with a probability like 1/(k+1). */
static int *bench_zipf(mtl_arena *arena, size_t count, int vocabulary, unsigned long long stream)
{
    int *ids = bench_ints(arena, count, 1, stream);
    size_t i;
    for (i = 0; i < count; i++)
        ids[i] = (int)exp(mtl__random_uniform(1, stream, i) * log((double)vocabulary)) - 1;
    return ids;
}

/* ---- a run of one's own -------------------------------------------------------------------------------- */

typedef struct bench_bare {
    mtl_arena keep, scratch;
    mtl_error error;
    mtl_parameters set;
    mtl_gradients *gradients;
    mtl_tape tape;
    mtl_run run;
    mtl_tensor *table;                      /* embedding */
    mtl_dense *dense;
    mtl__chain chain;
    mtl_activation x;
    mtl_target target;
    mtl_trainer_desc how;
    mtl__optimizer optimizer;
    int *ids, length;
} bench_bare;

static void bench_bare_init(bench_bare *b)
{
    memset(b, 0, sizeof *b);
    mtl_arena_init(&b->keep, NULL, 0, NULL);
    mtl_arena_init(&b->scratch, NULL, 0, NULL);
    mtl_parameters_init(&b->set, &b->keep);
}

/* After the layers were added: values, gradients, moments; a run over one sequence of `rows` steps. */
static void bench_bare_ready(bench_bare *b, size_t rows)
{
    mtl_parameters_allocate(&b->set, &b->error);
    bench_must(&b->error);
    mtl_parameters_randomise(&b->set, 1);
    mtl_parameters_prepare(&b->set, MTL_ISA_AUTO, &b->error);
    b->gradients = mtl_gradients_create(&b->set, &b->keep, &b->error);
    mtl_desc_check(MTL_DESC_TRAINER, &b->how, "trainer", &b->error);
    b->how.lr = 1e-6f;
    bench_must(&b->error);
    mtl__optimizer_init(&b->optimizer, &b->how, &b->set, b->gradients, &b->keep, &b->error);
    mtl_run_init(&b->run, &b->keep, MTL_ISA_AUTO, &b->error);
    b->length = (int)rows;
    mtl_run_pack(&b->run, &b->length, 1);
    b->run.arena = &b->scratch;
    b->run.tape = &b->tape;
    b->run.gradients = b->gradients;
    b->run.packings = mtl_packings_create(&b->set, &b->keep, &b->error);
    mtl_packings_prepare(b->run.packings, &b->run);
    bench_must(&b->error);
}

/* `sequences` of `steps` steps in place of the one sequence. */
static void bench_bare_pack(bench_bare *b, size_t sequences, size_t steps)
{
    int *lengths = bench_ints(&b->keep, sequences, 1, 31);
    size_t i;
    for (i = 0; i < sequences; i++) lengths[i] = (int)steps;
    b->run.arena = &b->keep;
    mtl_run_pack(&b->run, lengths, sequences);
    b->run.arena = &b->scratch;
    b->x.space = &b->run.packing->space[MTL_LEVEL_STEP];
    bench_must(&b->error);
}

/* Rows to read, which get a gradient. */
static void bench_bare_input(bench_bare *b, size_t rows, size_t width, unsigned long long stream)
{
    b->x.name = "";
    b->x.rows = rows;
    b->x.width = width;
    b->x.stride = mtl__padded(width);
    b->x.value = bench_reals(&b->keep, rows * b->x.stride, stream);
}

static void bench_bare_begin(bench_bare *b)
{
    mtl__arena_reset(&b->scratch);
    memset(&b->tape, 0, sizeof b->tape);
    if (b->x.rows) {
        b->x.grad = NULL;
        b->x.next = NULL;
        b->tape.activations = &b->x;
    }
}

static void bench_bare_destroy(bench_bare *b)
{
    mtl_arena_destroy(&b->scratch);
    mtl_arena_destroy(&b->keep);
}

/* ---- embedding ----------------------------------------------------------------------------------------- */

static void bench_gather(void *user)
{
    bench_bare *b = (bench_bare *)user;
    bench_bare_begin(b);
    (void)mtl__embedding_forward(&b->run, &b->run.packing->space[MTL_LEVEL_STEP], b->table, b->ids, 1, 0,
                                 NULL);
    bench_must(&b->error);
}

/* Backward alone, over the record that the last gather left. */
static void bench_scatter(void *user)
{
    bench_bare *b = (bench_bare *)user;
    mtl__gradients_reset(b->gradients);
    b->tape.last->backward(&b->run, b->tape.last->data);
    bench_must(&b->error);
}

/* Gather reads and writes `rows` rows; scatter reads a gradient and reads and writes a row of the table's,
   for each (the lists of touched rows, and clearing them, are inside). */
static void bench_embedding_part(size_t rows, size_t width, size_t vocabulary)
{
    const double row_bytes = (double)(rows * width * sizeof(mtl_real));
    const bench_stamp *stamp = bench_stamp_find(MTL_ISA_AUTO);
    const double triad = bench_triad_bandwidth(stamp, 2 * rows * width * sizeof(mtl_real), 0);
    const double in_place = bench_triad_bandwidth(stamp, 2 * rows * width * sizeof(mtl_real), 1);
    bench_bare b;
    bench_timing t;
    char size[64];
    int add;
    sprintf(size, "N=%d,E=%d,V=%d", (int)rows, (int)width, (int)vocabulary);
    bench_bare_init(&b);
    b.table = mtl_parameters_add(&b.set, "table", vocabulary, width, MTL_TENSOR_EMBEDDING, &b.error);
    b.ids = bench_ints(&b.keep, rows, (int)vocabulary, 21);
    bench_bare_ready(&b, rows);
    t = bench_measure(bench_gather, &b, 0, 0.3);
    bench_part_row("embedding_gather", size, t.us_min, 2e-3 * row_bytes / t.us_min, "GB/s",
                   2e-3 * row_bytes / t.us_min / triad);
    (void)mtl_run_grad(&b.run, b.tape.last->output, &add);
    memset(b.tape.last->output->grad, 0, (size_t)row_bytes);
    t = bench_measure(bench_scatter, &b, 0, 0.3);
    bench_part_row("embedding_scatter", size, t.us_min, 3e-3 * row_bytes / t.us_min, "GB/s",
                   3e-3 * row_bytes / t.us_min / in_place);
    bench_bare_destroy(&b);
}

/* ---- a large softmax head ------------------------------------------------------------------------------ */

static void bench_softmax_head(void *user)
{
    bench_bare *b = (bench_bare *)user;
    const mtl_real one = 1;
    mtl__loss_data how;
    mtl_activation *loss;
    bench_bare_begin(b);
    memset(&how, 0, sizeof how);
    how.loss = MTL_LOSS_CROSS_ENTROPY;
    how.target = &b->target;
    how.items = b->run.packing->caller_row;
    how.divisor = (double)b->x.rows;
    loss = mtl__loss_forward(&b->run, &how, mtl_dense_forward(&b->run, b->dense, &b->x, NULL), NULL);
    bench_must(&b->error);
    mtl_tape_backward(&b->run, &loss, &one, 1, 0);
    bench_must(&b->error);
}

/* Forward and backward with the gradient of the inputs: three products of 2 N H C. */
static void bench_softmax_part(size_t hidden, size_t classes, size_t rows)
{
    const double work = 6.0 * (double)hidden * (double)classes * (double)rows;
    bench_bare b;
    bench_timing t;
    double before, after;
    char size[64];
    sprintf(size, "H=%d,C=%d,N=%d", (int)hidden, (int)classes, (int)rows);
    bench_bare_init(&b);
    b.dense = mtl_dense_add(&b.set, "head", hidden, classes, 0, &b.error);
    bench_bare_input(&b, rows, hidden, 22);
    b.target.labels = bench_ints(&b.keep, rows, (int)classes, 23);
    bench_bare_ready(&b, rows);
    before = bench_peak(bench_stamp_find(MTL_ISA_AUTO), NULL, 1);
    t = bench_measure(bench_softmax_head, &b, 0, 0.5);
    after = bench_peak(bench_stamp_find(MTL_ISA_AUTO), NULL, 1);
    bench_part_row("softmax_head", size, t.us_min, work / (t.us_min * 1e3), "GFLOP/s",
                   work / (t.us_min * 1e3) / (before > after ? before : after));
    bench_bare_destroy(&b);
}

/* ---- a conditional random field over 32 sequences of 16 steps ------------------------------------------ */

static void bench_crf(void *user)
{
    bench_bare *b = (bench_bare *)user;
    const mtl_real one = 1;
    mtl_activation *loss;
    bench_bare_begin(b);
    loss = mtl__chain_loss_forward(&b->run, &b->chain, &b->x, b->target.labels, 0, (double)b->x.rows);
    bench_must(&b->error);
    mtl_tape_backward(&b->run, &loss, &one, 1, 0);
    bench_must(&b->error);
}

/* What mtl_predict does: probabilities, and the best paths. */
static void bench_crf_answer(void *user)
{
    bench_bare *b = (bench_bare *)user;
    bench_bare_begin(b);
    (void)mtl__chain_marginals(&b->run, &b->chain, &b->x, 0, NULL);
    mtl__chain_best_paths(&b->run, &b->chain, &b->x, 0, b->run.packing->caller_row, b->ids);
    bench_must(&b->error);
}

static void bench_crf_add(bench_bare *b, size_t labels)
{
    mtl_tensor **const tensors[3] = { &b->chain.transitions, &b->chain.start, &b->chain.end };
    static const char *const names[3] = { "transitions", "start", "end" };
    int i;
    b->chain.labels = labels;
    for (i = 0; i < 3; i++) {
        *tensors[i] = mtl_parameters_add(&b->set, names[i], labels, i ? 0 : labels, MTL_TENSOR_WEIGHT,
                                         &b->error);
        bench_must(&b->error);
        (*tensors[i])->initial = 0.1f;
    }
}

/* Three products of 2 N C^2: forward, backward, the gradient of the transitions. */
static void bench_crf_part(size_t labels)
{
    enum { SEQUENCES = 32, STEPS = 16, ROWS = SEQUENCES * STEPS };
    const double work = 6.0 * (double)labels * (double)labels * ROWS;
    const double peak = bench_peak(bench_stamp_find(MTL_ISA_AUTO), NULL, 1);
    bench_bare b;
    bench_timing t;
    char size[64];
    sprintf(size, "C=%d,B=%d,T=%d", (int)labels, SEQUENCES, STEPS);
    bench_bare_init(&b);
    bench_crf_add(&b, labels);
    bench_bare_ready(&b, ROWS);
    bench_bare_input(&b, ROWS, labels, 32);
    bench_bare_pack(&b, SEQUENCES, STEPS);
    b.ids = bench_ints(&b.keep, ROWS, (int)labels, 33);
    b.target.labels = bench_ints(&b.keep, ROWS, (int)labels, 34);
    t = bench_measure(bench_crf, &b, 0, 0.5);
    bench_part_row("crf", size, t.us_min, work / (t.us_min * 1e3), "GFLOP/s", work / (t.us_min * 1e3) / peak);
    t = bench_measure(bench_crf_answer, &b, 0, 0.5);
    bench_part_row("crf_answer", size, t.us_min, ROWS / t.us_min, "rows/us", 0);
    bench_bare_destroy(&b);
}

/* ---- words by their characters ------------------------------------------------------------------------- */

enum { BENCH_SPELL_ROWS = 1024, BENCH_SPELL_WORDS = 4000, BENCH_SPELL_CHARACTERS = 60 };

typedef struct bench_speller {
    bench_bare bare;
    mtl_input_desc desc;
    mtl_input_part part;
    mtl_spellings words;
    mtl_input input;
    size_t distinct, places;                /* of the batch: words, and their characters with both ends */
} bench_speller;

static void bench_spell(void *user)
{
    bench_speller *s = (bench_speller *)user;
    bench_bare *b = &s->bare;
    mtl_activation *y;
    int add;
    bench_bare_begin(b);
    y = mtl__characters_input(&b->run, &s->part, &s->input);
    bench_must(&b->error);
    mtl_tape_mark(&b->run);
    (void)mtl_run_grad(&b->run, y, &add);
    memset(y->grad, 0, y->rows * y->stride * sizeof *y->grad);
    mtl__gradients_reset(b->gradients);
    (void)mtl_tape_replay(&b->run, b->gradients, MTL_TAPE_SHARED, NULL, NULL, 0, 0);
    bench_must(&b->error);
}

/* Words of 2 to 9 characters, which a text has with a probability like 1/(k+1). */
static void bench_speller_words(bench_speller *s)
{
    mtl_arena *keep = &s->bare.keep;
    size_t *begins = (size_t *)mtl_arena_push(keep, (BENCH_SPELL_WORDS + 1) * sizeof *begins), k;
    unsigned char *seen = (unsigned char *)mtl__arena_zero(keep, BENCH_SPELL_WORDS, 1, "words",
                                                           &s->bare.error);
    const int *more = bench_ints(keep, BENCH_SPELL_WORDS, 8, 51);
    const int *ids = bench_zipf(keep, BENCH_SPELL_ROWS, BENCH_SPELL_WORDS, 53);
    bench_must(&s->bare.error);
    for (k = 0, begins[0] = 0; k < BENCH_SPELL_WORDS; k++) begins[k + 1] = begins[k] + 2 + (size_t)more[k];
    for (k = 0; k < BENCH_SPELL_ROWS; k++) {
        if (seen[ids[k]]++) continue;
        s->distinct++;
        s->places += begins[ids[k] + 1] - begins[ids[k]] + 2;
    }
    s->words.count = BENCH_SPELL_WORDS;
    s->words.begins = begins;
    s->words.characters = bench_ints(keep, begins[BENCH_SPELL_WORDS], BENCH_SPELL_CHARACTERS, 54);
    s->input.ids = ids;
    s->input.spellings = &s->words;
}

/* Forward and backward. Of cells the products of the states count, three of 2 places H 4H in each direction;
   those of the inputs are made once for each character. */
static void bench_speller_part(const char *name, int speller, int hidden)
{
    const double peak = bench_peak(bench_stamp_find(MTL_ISA_AUTO), NULL, 1);
    bench_speller s;
    bench_timing t;
    double work;
    char size[64];
    memset(&s, 0, sizeof s);
    bench_bare_init(&s.bare);
    s.desc.name = "characters";
    s.desc.kind = MTL_INPUT_CHARACTERS;
    s.desc.vocabulary = BENCH_SPELL_CHARACTERS;
    s.desc.speller = speller;
    s.desc.hidden = hidden;
    mtl_desc_check(MTL_DESC_INPUT, &s.desc, "input", &s.bare.error);
    s.part.desc = &s.desc;
    mtl__characters_check(&s.desc, "input", &s.bare.error);
    mtl__characters_build(&s.part, &s.bare.set, &s.bare.error);
    bench_must(&s.bare.error);
    bench_bare_ready(&s.bare, BENCH_SPELL_ROWS);
    bench_speller_words(&s);
    t = bench_measure(bench_spell, &s, 0, 0.5);
    work = 6.0 * 2 * 4 * (double)hidden * (double)hidden * (double)s.places;
    sprintf(size, "width=%d,words=%d,places=%d", (int)s.part.width, (int)s.distinct, (int)s.places);
    if (hidden) bench_part_row(name, size, t.us_min, work / (t.us_min * 1e3), "GFLOP/s",
                               work / (t.us_min * 1e3) / peak);
    else bench_part_row(name, size, t.us_min, (double)s.distinct / t.us_min, "words/us", 0);
    bench_bare_destroy(&s.bare);
}

static void bench_speller_parts(void)
{
    bench_speller_part("characters_cnn", MTL_SPELLER_CNN, 0);
    bench_speller_part("characters_lstm", MTL_SPELLER_LSTM, 32);
    bench_speller_part("characters_lstm", MTL_SPELLER_LSTM, 64);
}

/* ---- layers: forward, and backward of a given gradient, of the inputs too ------------------------------ */

enum { BENCH_LAYER_SEQUENCES = 32 };

typedef struct bench_layer {
    bench_bare bare;
    mtl_activation dy;
    mtl_activation *(*forward)(struct bench_layer *layer);
    mtl__scores scores;                     /* each row uses what it needs of these */
    mtl_column_desc desc;
    mtl_column_part column;
    mtl_norm *norm;
    mtl_batch_norm *batch_norm;
    mtl_input_part part;
    mtl_input input;
} bench_layer;

static void bench_layer_pass(void *user)
{
    bench_layer *l = (bench_layer *)user;
    const mtl_real one = 1;
    mtl_activation *y, *loss;
    bench_bare_begin(&l->bare);
    y = l->forward(l);
    bench_must(&l->bare.error);
    loss = bench_given_loss(&l->bare.run, y, &l->dy);
    bench_must(&l->bare.error);
    mtl_tape_backward(&l->bare.run, &loss, &one, 1, 0);
    bench_must(&l->bare.error);
}

static void bench_layer_init(bench_layer *l, mtl_activation *(*forward)(bench_layer *layer))
{
    memset(l, 0, sizeof *l);
    bench_bare_init(&l->bare);
    l->forward = forward;
}

/* After its tensors were added: x [32 sequences of `steps`][width], of a width; dy [rows][outputs]. */
static void bench_layer_ready(bench_layer *l, size_t steps, size_t width, size_t rows, size_t outputs)
{
    bench_bare *b = &l->bare;
    bench_must(&b->error);
    if (width) bench_bare_input(b, BENCH_LAYER_SEQUENCES * steps, width, 61);
    bench_bare_ready(b, BENCH_LAYER_SEQUENCES * steps);
    bench_bare_pack(b, BENCH_LAYER_SEQUENCES, steps);
    b->run.training = 1;
    l->dy.value = bench_reals(&b->keep, rows * mtl__padded(outputs), 62);
}

/* A row of a layer that multiply-adds bound. */
static void bench_layer_products(bench_layer *l, const char *part, const char *size, double flop)
{
    const bench_stamp *stamp = bench_stamp_find(MTL_ISA_AUTO);
    const double before = bench_peak(stamp, NULL, 1);
    const double us = bench_measure(bench_layer_pass, l, 0, 0.5).us_min, after = bench_peak(stamp, NULL, 1);
    bench_part_row(part, size, us, flop / (us * 1e3), "GFLOP/s", flop / (us * 1e3) / (before > after
                   ? before : after));
}

/* One of a layer that moving its `reals` bounds; footprint: all arrays. */
static void bench_layer_moves(bench_layer *l, bench_work work, const char *part, const char *size,
                              size_t reals, size_t footprint)
{
    const double triad = bench_triad_bandwidth(bench_stamp_find(MTL_ISA_AUTO), footprint * sizeof(mtl_real),
                                               0);
    const double us = bench_measure(work, l, 0, 0.5).us_min;
    const double rate = 1e-3 * (double)(reals * sizeof(mtl_real)) / us;
    bench_part_row(part, size, us, rate, "GB/s", rate / triad);
}

static mtl_activation *bench_pool_forward(bench_layer *l)
{
    return mtl__attend_forward(&l->bare.run, &l->scores, &l->bare.x, (size_t)MTL__NOT_CARRIED, NULL, NULL);
}

/* Attention by one product with v: x is read forward and backward, dx is written. Additive attention has
   three products with W beside. */
static void bench_pool_part(int pool, size_t width, size_t steps)
{
    const size_t reals = BENCH_LAYER_SEQUENCES * steps * width;
    bench_layer l;
    char size[64];
    sprintf(size, "W=%d,B=%d,T=%d", (int)width, BENCH_LAYER_SEQUENCES, (int)steps);
    bench_layer_init(&l, bench_pool_forward);
    mtl__scores_build(&l.scores, &mtl__pool_kinds[pool], "task", width, 0, &l.bare.set, &l.bare.error);
    bench_layer_ready(&l, steps, width, BENCH_LAYER_SEQUENCES, width);
    if (l.scores.keys) bench_layer_products(&l, "pool_additive", size, 6.0 * (double)(reals * width));
    else bench_layer_moves(&l, bench_layer_pass, "pool_attention", size, 3 * reals, 2 * reals);
    bench_bare_destroy(&l.bare);
}

static void bench_pool_parts(void)
{
    bench_pool_part(MTL_POOL_ATTENTION, 400, 16);
    bench_pool_part(MTL_POOL_ATTENTION, 128, 64);
    bench_pool_part(MTL_POOL_ADDITIVE, 400, 16);
    bench_pool_part(MTL_POOL_ADDITIVE, 128, 64);
}

static mtl_activation *bench_self_forward(bench_layer *l)
{
    return mtl__self_forward(&l->bare.run, &l->column, &l->bare.x, NULL, NULL);
}

/* D = heads * head_width. Three products of 2 N W 4D of W_in and W_o; two of 2 N T D forward, four
   backward. */
static void bench_self_part(size_t width, int heads, int head_width, size_t steps, float dropout)
{
    const double rows = (double)(BENCH_LAYER_SEQUENCES * steps), inner = (double)(heads * head_width);
    bench_layer l;
    char size[64];
    sprintf(size, "W=%d,heads=%dx%d,B=%d,T=%d%s", (int)width, heads, head_width, BENCH_LAYER_SEQUENCES,
            (int)steps, dropout > 0 ? ",dropout" : "");
    bench_layer_init(&l, bench_self_forward);
    l.desc.name = "self";
    l.desc.kind = MTL_COLUMN_ATTENTION;
    l.desc.heads = heads;
    l.desc.head_width = head_width;
    l.desc.dropout = dropout;
    mtl_desc_check(MTL_DESC_COLUMN, &l.desc, "column", &l.bare.error);
    l.column.desc = &l.desc;
    l.column.inputs = width;
    mtl__self_build(&l.column, &l.bare.set, &l.bare.error);
    bench_layer_ready(&l, steps, width, BENCH_LAYER_SEQUENCES * steps, width);
    bench_layer_products(&l, "self_attention", size, 24 * rows * (double)width * inner
                         + 12 * rows * (double)steps * inner);
    bench_bare_destroy(&l.bare);
}

static void bench_self_parts(void)
{
    bench_self_part(400, 4, 32, 16, 0);
    bench_self_part(400, 4, 32, 16, 0.2f);
    bench_self_part(128, 4, 32, 64, 0);
}

static mtl_activation *bench_norm_forward(bench_layer *l)
{
    return l->norm ? mtl_norm_forward(&l->bare.run, l->norm, &l->bare.x, "")
        : mtl_batch_norm_forward(&l->bare.run, l->batch_norm, &l->bare.x, "");
}

/* Of rows: x is read and y written, then x and dy read and dx written. Of columns, whose sums must be there
   before the values: x is read twice forward, x and dy backward. */
static void bench_norm_part(int of_rows, size_t width, size_t steps)
{
    const size_t reals = BENCH_LAYER_SEQUENCES * steps * width;
    bench_layer l;
    char size[64];
    sprintf(size, "W=%d,N=%d", (int)width, (int)(BENCH_LAYER_SEQUENCES * steps));
    bench_layer_init(&l, bench_norm_forward);
    if (of_rows) l.norm = mtl_norm_add(&l.bare.set, "norm", width, 1e-5f, &l.bare.error);
    else l.batch_norm = mtl_batch_norm_add(&l.bare.set, "norm", width, &l.bare.error);
    bench_layer_ready(&l, steps, width, BENCH_LAYER_SEQUENCES * steps, width);
    bench_layer_moves(&l, bench_layer_pass, of_rows ? "layer_norm" : "batch_norm", size,
                      (of_rows ? 5 : 8) * reals, 4 * reals);
    bench_bare_destroy(&l.bare);
}

static void bench_norm_parts(void)
{
    int of_rows;
    for (of_rows = 1; of_rows >= 0; of_rows--) {
        bench_norm_part(of_rows, 400, 16);
        bench_norm_part(of_rows, 128, 32);
    }
}

/* ---- gazetteer ----------------------------------------------------------------------------------------- */

enum { BENCH_PHRASES = 10000, BENCH_PHRASE_TYPES = 39, BENCH_PHRASE_WORDS = 5000 };

static mtl_activation *bench_gazetteer_forward(bench_layer *l)
{
    return mtl__gazetteer_input(&l->bare.run, &l->part, &l->input);
}

/* Matching alone. */
static void bench_gazetteer_match(void *user)
{
    bench_layer *l = (bench_layer *)user;
    bench_bare *b = &l->bare;
    bench_bare_begin(b);
    (void)mtl__gazetteer_forward(&b->run, &b->run.packing->space[MTL_LEVEL_STEP],
                                 (const mtl__gazetteer *)l->part.data, l->input.ids, l->part.desc->ignore);
    bench_must(&b->error);
}

/* Phrases of one to three words "w0", "w1" .., frequent ones more often. */
static const char **bench_phrases(mtl_arena *keep)
{
    const char **phrases = (const char **)mtl_arena_push(keep, BENCH_PHRASES * sizeof *phrases);
    const int *words = bench_zipf(keep, BENCH_PHRASES * 3, BENCH_PHRASE_WORDS, 71);
    const int *counts = bench_ints(keep, BENCH_PHRASES, 3, 72);
    const int *types = bench_ints(keep, BENCH_PHRASES, BENCH_PHRASE_TYPES, 73);
    size_t i;
    int k;
    for (i = 0; i < BENCH_PHRASES; i++) {
        char *text = (char *)mtl_arena_push(keep, 64), *end = text;
        end += sprintf(end, "type%d\tw%d", types[i], words[3 * i]);
        for (k = 1; k <= counts[i]; k++) end += sprintf(end, " w%d", words[3 * i + (size_t)k]);
        phrases[i] = text;
    }
    return phrases;
}

static const char **bench_phrase_words(mtl_arena *keep)
{
    const char **words = (const char **)mtl_arena_push(keep, BENCH_PHRASE_WORDS * sizeof *words);
    int i;
    for (i = 0; i < BENCH_PHRASE_WORDS; i++) {
        char *text = (char *)mtl_arena_push(keep, 16);
        sprintf(text, "w%d", i);
        words[i] = text;
    }
    return words;
}

/* The input: its two products, forward and of the weights, are 4 N 2types W, and the matches cost no
   multiply-add. Matching: what it leaves is written once. */
static void bench_gazetteer_part(size_t width, size_t steps)
{
    const size_t rows = BENCH_LAYER_SEQUENCES * steps, bits = rows * mtl__padded(2 * BENCH_PHRASE_TYPES);
    mtl__vocabulary vocabulary;
    mtl_input_desc desc, source;
    mtl_model_desc model;
    bench_layer l;
    char size[64];
    sprintf(size, "types=%d,W=%d,N=%d", BENCH_PHRASE_TYPES, (int)width, (int)rows);
    bench_layer_init(&l, bench_gazetteer_forward);
    memset(&vocabulary, 0, sizeof vocabulary);
    memset(&desc, 0, sizeof desc);
    memset(&source, 0, sizeof source);
    memset(&model, 0, sizeof model);
    source.name = "words";
    source.words = bench_phrase_words(&l.bare.keep);
    source.vocabulary = desc.vocabulary = BENCH_PHRASE_WORDS;
    desc.name = "gazetteer";
    desc.kind = MTL_INPUT_GAZETTEER;
    desc.phrases = bench_phrases(&l.bare.keep);
    desc.phrase_count = BENCH_PHRASES;
    desc.width = (int)width;
    mtl_desc_check(MTL_DESC_INPUT, &desc, "input", &l.bare.error);
    mtl__vocabulary_init(&vocabulary, source.words, BENCH_PHRASE_WORDS, &l.bare.keep, &l.bare.error);
    l.part.desc = &desc;
    l.part.source = &source;
    l.part.words = &vocabulary;
    l.part.model = &model;
    mtl__gazetteer_build(&l.part, &l.bare.set, &l.bare.error);
    l.input.ids = bench_zipf(&l.bare.keep, rows, BENCH_PHRASE_WORDS, 74);
    bench_layer_ready(&l, steps, 0, rows, width);
    bench_layer_products(&l, "gazetteer", size, 8.0 * BENCH_PHRASE_TYPES * (double)(rows * width));
    bench_layer_moves(&l, bench_gazetteer_match, "gazetteer_match", size, bits, bits);
    bench_bare_destroy(&l.bare);
}

static void bench_gazetteer_parts(void) { bench_gazetteer_part(32, 16); }

/* ---- Adam ---------------------------------------------------------------------------------------------- */

static void bench_adam(void *user)
{
    bench_bare *b = (bench_bare *)user;
    bench_bare_begin(b);
    mtl__optimizer_apply(&b->optimizer, &b->run, 1e-6, 1);
    bench_must(&b->error);
}

/* Reads p, g, m, v and writes p, m, v: 7 reals an element, out of a footprint of 4. All in place, so that is
   what it is held against. */
static void bench_adam_part(size_t count)
{
    const double bytes = 7.0 * (double)(count * sizeof(mtl_real));
    const double triad = bench_triad_bandwidth(bench_stamp_find(MTL_ISA_AUTO), 4 * count * sizeof(mtl_real),
                                               1);
    bench_bare b;
    bench_timing t;
    mtl_real *g;
    size_t i;
    int add;
    char size[32];
    sprintf(size, "%d", (int)count);
    bench_bare_init(&b);
    b.table = mtl_parameters_add(&b.set, "weights", count, 0, MTL_TENSOR_WEIGHT, &b.error);
    bench_bare_ready(&b, 1);
    g = mtl_run_tensor_grad(&b.run, b.table, &add);
    for (i = 0; i < count; i++) g[i] = (mtl_real)mtl__random_normal(1, 24, i);
    t = bench_measure(bench_adam, &b, 0, 0.3);
    bench_part_row("adam", size, t.us_min, bytes * 1e-3 / t.us_min, "GB/s", bytes * 1e-3 / t.us_min / triad);
    bench_bare_destroy(&b);
}

/* ---- whole models, through the public calls ------------------------------------------------------------ */

/* A model with a trainer and batches that its steps take in turn. */
typedef struct bench_model {
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_batch *batches;
    size_t count, next;                     /* batches; which is next */
    mtl_error error;
} bench_model;

static void bench_model_step(void *user)
{
    bench_model *m = (bench_model *)user;
    mtl_train_step(m->trainer, &m->batches[m->next], 1, NULL, &m->error);
    m->next = (m->next + 1) % m->count;
    bench_must(&m->error);
}

static void bench_model_destroy(bench_model *m)
{
    mtl_trainer_destroy(m->trainer);
    mtl_model_destroy(m->model);
}

/* What a model is made from: LSTM, H = 128; `tasks` heads of `classes` on every step. */
typedef struct bench_shape {
    int vocabulary, width, features, tasks, classes, lazy, surgery;
    float dropout, dropout_recurrent;
} bench_shape;

static void bench_model_init(bench_model *m, const bench_shape *shape)
{
    static const char *const names[] = { "t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9" };
    mtl_input_desc input;
    mtl_task_desc tasks[10];
    mtl_model_desc desc;
    mtl_trainer_desc how;
    int k;
    memset(m, 0, sizeof *m);
    memset(&input, 0, sizeof input);
    memset(tasks, 0, sizeof tasks);
    memset(&desc, 0, sizeof desc);
    memset(&how, 0, sizeof how);
    input.name = "x";
    input.vocabulary = shape->vocabulary;
    input.width = shape->width;
    input.features = shape->features;
    input.dropout = desc.encoder.dropout = shape->dropout;
    desc.inputs = &input;
    desc.input_count = 1;
    desc.encoder.dropout_recurrent = shape->dropout_recurrent;
    desc.encoder.hidden = 128;
    desc.tasks = tasks;
    desc.task_count = (size_t)shape->tasks;
    for (k = 0; k < shape->tasks; k++) {
        tasks[k].name = names[k];
        tasks[k].level = MTL_LEVEL_STEP;
        tasks[k].classes = shape->classes;
    }
    how.lr = 1e-6f;
    how.lazy = shape->lazy;
    how.surgery = shape->surgery;
    m->model = mtl_model_create(&desc, &m->error);
    m->trainer = mtl_trainer_create(m->model, &how, &m->error);
    bench_must(&m->error);
}

/* One data set: `sequences` lengths, inputs and labels as the shape needs them. */
static void bench_model_data(mtl_batch *data, const bench_shape *shape, const int *lengths, size_t sequences,
                             mtl_arena *keep, unsigned long long stream)
{
    mtl_input *input = (mtl_input *)mtl_arena_push(keep, sizeof *input);
    mtl_target *targets = (mtl_target *)mtl_arena_push(keep, (size_t)shape->tasks * sizeof *targets);
    size_t rows = 0, s;
    int k;
    for (s = 0; s < sequences; s++) rows += (size_t)lengths[s];
    memset(data, 0, sizeof *data);
    memset(input, 0, sizeof *input);
    memset(targets, 0, (size_t)shape->tasks * sizeof *targets);
    data->sequences = sequences;
    data->lengths = lengths;
    data->inputs = input;
    data->targets = targets;
    if (shape->features) {
        input->rows = bench_reals(keep, rows * (size_t)shape->features, stream);
    } else {
        input->ids = bench_zipf(keep, rows, shape->vocabulary, stream);
    }
    for (k = 0; k < shape->tasks; k++) targets[k].labels = bench_ints(keep, rows, shape->classes,
                                                                      stream + 1 + (unsigned)k);
}

/* `count` batches of 32 sequences of 32 steps. */
static void bench_model_batches(bench_model *m, const bench_shape *shape, size_t count, mtl_arena *keep)
{
    int *lengths = bench_ints(keep, 32, 1, 31);
    size_t i;
    for (i = 0; i < 32; i++) lengths[i] = 32;
    m->batches = (mtl_batch *)mtl_arena_push(keep, count * sizeof *m->batches);
    m->count = count;
    for (i = 0; i < count; i++) bench_model_data(&m->batches[i], shape, lengths, 32, keep, 100 + 20 * i);
}

/* Least microseconds of a training step for each shape, taking turns. */
static void bench_model_compare(const bench_shape *shapes, size_t count, size_t batches, double seconds,
                                double *us)
{
    bench_model models[BENCH_TURNS];
    void *users[BENCH_TURNS];
    mtl_arena keep;
    size_t i;
    mtl_arena_init(&keep, NULL, 0, NULL);
    for (i = 0; i < count; i++) {
        bench_model_init(&models[i], &shapes[i]);
        bench_model_batches(&models[i], &shapes[i], batches, &keep);
        users[i] = &models[i];
    }
    bench_alternate(bench_model_step, users, count, seconds, us);
    for (i = 0; i < count; i++) bench_model_destroy(&models[i]);
    mtl_arena_destroy(&keep);
}

static bench_shape bench_shape_plain(void)
{
    bench_shape shape;
    memset(&shape, 0, sizeof shape);
    shape.features = 128;
    shape.width = 128;
    shape.tasks = 1;
    shape.classes = 32;
    return shape;
}

/* ---- sharing: columns that are mixed against the same columns unmixed ---------------------------------- */

enum { BENCH_SHARING_COLUMNS = 4, BENCH_SHARING_TASKS = 2 };

/* LSTM columns of H = 64 over 64 features; two tasks of 8 classes on every step. kind 0: each task taps one
   column, the others train as well by a task of their own; else each task mixes from[task], by the input. */
static void bench_sharing_init(bench_model *m, int column_kind, size_t columns, int kind,
                               const char *const *from, int threads)
{
    static const char *const names[] = { "a", "b", "c", "d" }, *const heads[] = { "ta", "tb", "tc", "td" };
    mtl_input_desc input;
    mtl_column_desc column[BENCH_SHARING_COLUMNS];
    mtl_task_desc tasks[BENCH_SHARING_COLUMNS];
    mtl_model_desc desc;
    mtl_trainer_desc how;
    size_t k;
    memset(m, 0, sizeof *m);
    memset(&input, 0, sizeof input);
    memset(column, 0, sizeof column);
    memset(tasks, 0, sizeof tasks);
    memset(&desc, 0, sizeof desc);
    memset(&how, 0, sizeof how);
    input.name = "x";
    input.features = 64;
    for (k = 0; k < columns; k++) {
        column[k].name = names[k];
        column[k].hidden = 64;
        column[k].kind = column_kind;
    }
    desc.inputs = &input;
    desc.input_count = 1;
    desc.columns = column;
    desc.column_count = columns;
    desc.tasks = tasks;
    desc.task_count = kind ? (size_t)BENCH_SHARING_TASKS : columns;
    for (k = 0; k < desc.task_count; k++) {
        tasks[k].name = heads[k];
        tasks[k].level = MTL_LEVEL_STEP;
        tasks[k].classes = 8;
        tasks[k].tap.kind = kind;
        tasks[k].tap.from = kind ? from[k] : names[k];
        tasks[k].tap.by = kind == MTL_MIX_EXPERTS ? "x" : NULL;
    }
    how.lr = 1e-6f;
    how.threads = threads;
    m->model = mtl_model_create(&desc, &m->error);
    m->trainer = mtl_trainer_create(m->model, &how, &m->error);
    bench_must(&m->error);
}

/* Two experts' gates over four columns (Ma et al. 2018); a gate between a shared column and each task's own;
   the two side by side. */
static void bench_sharing_part(void)
{
    static const char *const experts[] = { "a+b+c+d", "a+b+c+d" }, *const own[] = { "a+b", "a+c" };
    static const struct { const char *name; size_t columns; int kind; const char *const *from; } rows[] = {
        { "mmoe", 4, MTL_MIX_EXPERTS, experts }, { "gated", 3, MTL_MIX_GATE, own },
        { "partial", 3, MTL_MIX_CONCAT, own }
    };
    size_t i, k;
    for (i = 0; i < MTL__COUNT(rows); i++) {
        bench_shape shape = bench_shape_plain();
        bench_model models[2];
        void *users[2];
        double us[2];
        mtl_arena keep;
        mtl_arena_init(&keep, NULL, 0, NULL);
        shape.features = 64;
        shape.classes = 8;
        shape.tasks = BENCH_SHARING_COLUMNS;
        for (k = 0; k < 2; k++) {
            bench_sharing_init(&models[k], MTL_COLUMN_CELLS, rows[i].columns, k ? rows[i].kind : 0,
                               rows[i].from, 1);
            bench_model_batches(&models[k], &shape, 1, &keep);
            users[k] = &models[k];
        }
        bench_alternate(bench_model_step, users, 2, 1.0, us);
        bench_part_row(rows[i].name, "H=64,C=8,B=32,T=32", us[1], us[1] / us[0], "x_columns_alone", 0);
        for (k = 0; k < 2; k++) bench_model_destroy(&models[k]);
        mtl_arena_destroy(&keep);
    }
}

/* Two columns of one level: together against the sum of each alone on one thread; on two threads against what
   two threads gain at multiply-adds in registers. */
static void bench_columns_part(void)
{
    enum { ALONE, TOGETHER, THREADS, MODELS };
    static const size_t columns[MODELS] = { 1, 2, 2 };
    const bench_stamp *stamp = bench_stamp_find(MTL_ISA_AUTO);
    bench_shape shape = bench_shape_plain();
    bench_model models[MODELS];
    void *users[MODELS];
    double us[MODELS], peak, gain;
    mtl_arena keep;
    size_t k;
    mtl_arena_init(&keep, NULL, 0, NULL);
    shape.features = 64;
    shape.classes = 8;
    shape.tasks = BENCH_SHARING_COLUMNS;
    for (k = 0; k < MODELS; k++) {
        bench_sharing_init(&models[k], MTL_COLUMN_CELLS, columns[k], 0, NULL, k == THREADS ? 2 : 1);
        bench_model_batches(&models[k], &shape, 1, &keep);
        users[k] = &models[k];
    }
    bench_alternate(bench_model_step, users, MODELS, 3.0, us);
    peak = bench_peak(stamp, models[THREADS].trainer->session.run.scheduler, 2) / bench_peak(stamp, NULL, 1);
    gain = us[TOGETHER] / us[THREADS];
    bench_part_row("columns", "H=64,C=8,B=32,T=32", us[TOGETHER], us[TOGETHER] / (2 * us[ALONE]),
                   "x_sum_of_each_alone", 0);
    bench_part_row("columns_2_threads", "H=64,C=8,B=32,T=32", us[THREADS], gain / peak, "x_gain_of_peak", 0);
    for (k = 0; k < MODELS; k++) bench_model_destroy(&models[k]);
    mtl_arena_destroy(&keep);
}

/* A step of 64 filters of three steps beside one of an LSTM of 64 units. */
static void bench_conv_part(void)
{
    static const int kinds[2] = { MTL_COLUMN_CELLS, MTL_COLUMN_CONV };
    bench_shape shape = bench_shape_plain();
    bench_model models[2];
    void *users[2];
    double us[2];
    mtl_arena keep;
    size_t k;
    mtl_arena_init(&keep, NULL, 0, NULL);
    shape.features = 64;
    shape.classes = 8;
    shape.tasks = BENCH_SHARING_COLUMNS;
    for (k = 0; k < 2; k++) {
        bench_sharing_init(&models[k], kinds[k], 1, 0, NULL, 1);
        bench_model_batches(&models[k], &shape, 1, &keep);
        users[k] = &models[k];
    }
    bench_alternate(bench_model_step, users, 2, 2.0, us);
    bench_part_row("conv", "K=3,H=64,C=8,B=32,T=32", us[1], us[1] / us[0], "x_lstm_column", 0);
    for (k = 0; k < 2; k++) bench_model_destroy(&models[k]);
    mtl_arena_destroy(&keep);
}

/* Dropout on the inputs and on the column's outputs against none; inputs of 128 features. */
static void bench_dropout_part(void)
{
    bench_shape shapes[2];
    double us[2];
    shapes[0] = shapes[1] = bench_shape_plain();
    shapes[1].dropout = 0.3f;
    bench_model_compare(shapes, 2, 1, 1.0, us);
    bench_part_row("dropout", "H=128,B=32,T=32", us[1], 100 * (us[1] - us[0]) / us[1], "%_of_step", 0);
}

/* The same at the recurrent matrix. Its share of the peak: of an LSTM's products over inputs whose gradient
   nobody wants, 8 N H of 2H forward, H of dh and 2H of the weights, and of the head's two and dh. */
static void bench_recurrent_part(void)
{
    const double work = (40 * 128 + 6 * 32) * 128.0 * 32 * 32;
    bench_shape shapes[2];
    double us[2], peak;
    shapes[0] = shapes[1] = bench_shape_plain();
    shapes[1].dropout_recurrent = 0.3f;
    peak = bench_peak(bench_stamp_find(MTL_ISA_AUTO), NULL, 1);
    bench_model_compare(shapes, 2, 1, 1.0, us);
    bench_part_row("dropout_recurrent", "H=128,B=32,T=32", us[1], 100 * (us[1] - us[0]) / us[1], "%_of_step",
                   work / (us[1] * 1e3) / peak);
}

static void bench_heads_part(void)
{
    bench_shape shapes[2];
    double us[2];
    shapes[0] = shapes[1] = bench_shape_plain();
    shapes[0].classes = shapes[1].classes = 8;
    shapes[1].tasks = 10;
    bench_model_compare(shapes, 2, 1, 1.0, us);
    bench_part_row("one_head", "H=128,C=8,B=32,T=32", us[0], 1, "x_one_head", 0);
    bench_part_row("ten_heads", "H=128,C=8,B=32,T=32", us[1], us[1] / us[0], "x_one_head", 0);
}

/* 16 batches in turn, so that a step finds the rows of rare words outside the caches, as in training. */
static void bench_lazy_part(void)
{
    static const int vocabularies[3] = { 10000, 100000, 1000000 };
    bench_shape shapes[3];
    double us[3];
    char size[32];
    int i;
    for (i = 0; i < 3; i++) {
        shapes[i] = bench_shape_plain();
        shapes[i].features = 0;
        shapes[i].vocabulary = vocabularies[i];
        shapes[i].width = 64;
        shapes[i].lazy = 1;
    }
    bench_model_compare(shapes, 3, 16, 2.0, us);
    for (i = 0; i < 3; i++) {
        sprintf(size, "V=%d", vocabularies[i]);
        bench_part_row("lazy_adam_step", size, us[i], us[i] / us[0], "x_V=10000", 0);
    }
}

/* ---- surgery ------------------------------------------------------------------------------------------- */

/* A step of K tasks with surgery beside one without: forward once and backward K times, where a plain step
   takes a third and two thirds, so (1 + 2 K) / 3 would be free of what surgery itself costs. */
static void bench_surgery_step(int tasks)
{
    static const struct { int surgery; const char *name; } rows[BENCH_TURNS] = {
        { MTL_SURGERY_NONE, "plain_sum" }, { MTL_SURGERY_PCGRAD, "pcgrad" }, { MTL_SURGERY_CAGRAD, "cagrad" },
        { MTL_SURGERY_UPGRAD, "upgrad" } };
    bench_shape shapes[BENCH_TURNS];
    double us[BENCH_TURNS];
    char size[32];
    int i;
    for (i = 0; i < BENCH_TURNS; i++) {
        shapes[i] = bench_shape_plain();
        shapes[i].classes = 8;
        shapes[i].tasks = tasks;
        shapes[i].surgery = rows[i].surgery;
    }
    bench_model_compare(shapes, BENCH_TURNS, 1, 1.0, us);
    sprintf(size, "H=128,C=8,K=%d", tasks);
    for (i = 0; i < BENCH_TURNS; i++)
        bench_part_row(rows[i].name, size, us[i], us[i] / us[0] / (i ? (1 + 2 * tasks) / 3.0 : 1),
                       i ? "x_(1+2K)/3_plain" : "x_plain", 0);
}

/* The Gram matrix of K gradients, and their weighted sum, of one tensor. */
typedef struct bench_gram {
    bench_bare bare;
    mtl__weighting weighting;
    mtl__surgery surgery;
    mtl__surgery_piece *pieces;
    mtl__surgery_job job;
    size_t count;                           /* pieces */
} bench_gram;

static void bench_gram_matrix(void *user)
{
    bench_gram *g = (bench_gram *)user;
    mtl__run_for(&g->bare.run, g->count, mtl__surgery_gram_piece, &g->job);
    mtl__surgery_gram(&g->surgery, &g->job, g->count);
}
static void bench_gram_join(void *user)
{
    bench_gram *g = (bench_gram *)user;
    mtl__run_for(&g->bare.run, g->count, mtl__surgery_join_piece, &g->job);
}

static void bench_gram_part(size_t tasks, size_t elements)
{
    const double bytes = (double)(tasks * elements * sizeof(mtl_real));
    const bench_stamp *stamp = bench_stamp_find(MTL_ISA_AUTO);
    bench_gram g;
    bench_timing t;
    mtl_tensor *tensor;
    char size[48];
    double rate, load;
    size_t k, i;
    int add;
    const unsigned char learns = 1;         /* the one tensor */
    memset(&g, 0, sizeof g);
    bench_bare_init(&g.bare);
    tensor = mtl_parameters_add(&g.bare.set, "weights", elements, 0, MTL_TENSOR_WEIGHT, &g.bare.error);
    bench_bare_ready(&g.bare, 1);
    g.bare.how.surgery = MTL_SURGERY_UPGRAD;
    mtl__weighting_init(&g.weighting, &g.bare.how, tasks, &g.bare.keep, &g.bare.error);
    mtl__surgery_build(&g.surgery, &g.bare.how, g.bare.gradients, &learns, &g.weighting, &g.bare.keep,
                       &g.bare.error);
    bench_must(&g.bare.error);
    for (k = 0; k < tasks; k++) {
        mtl_real *values;
        g.bare.run.gradients = g.surgery.of[k];
        values = mtl_run_tensor_grad(&g.bare.run, tensor, &add);
        for (i = 0; i < elements; i++) values[i] = (mtl_real)mtl__random_normal(1, 50 + k, i);
        g.surgery.scale[k] = 1;
    }
    mtl__surgery_prepare(&g.surgery, tensor, NULL);
    g.count = mtl__surgery_pieces(&g.surgery, NULL);
    g.pieces = (mtl__surgery_piece *)mtl_arena_push(&g.bare.keep, g.count * sizeof *g.pieces);
    (void)mtl__surgery_pieces(&g.surgery, g.pieces);
    g.job.surgery = &g.surgery;
    g.job.kernels = mtl__run_kernels(&g.bare.run);
    g.job.pieces = g.pieces;
    g.job.sums = (double *)mtl_arena_push(&g.bare.keep, g.count * tasks * (tasks + 1) / 2 * sizeof(double));
    sprintf(size, "K=%d,%d", (int)tasks, (int)elements);
    load = bench_load_bandwidth(stamp, (size_t)bytes);
    t = bench_measure(bench_gram_matrix, &g, 0, 0.3);
    rate = bytes * 1e-3 / t.us_min;
    bench_part_row("gram_matrix", size, t.us_min, rate, "GB/s", rate / load);
    t = bench_measure(bench_gram_join, &g, 0, 0.3);
    rate = bytes * 1e-3 * (double)(tasks + 1) / (double)tasks / t.us_min;      /* the result is written */
    bench_part_row("weighted_sum", size, t.us_min, rate, "GB/s",
                   rate / bench_triad_bandwidth(stamp, (size_t)bytes, 0));
    bench_bare_destroy(&g.bare);
}

static void bench_surgery_parts(void)
{
    bench_surgery_step(2);
    bench_surgery_step(4);
    bench_gram_part(2, 4000000);
    bench_gram_part(4, 250000);
    bench_gram_part(4, 4000000);
    bench_gram_part(8, 4000000);
}

/* ---- instruments --------------------------------------------------------------------------------------- */

/* A model, its watch, and which instrument is asked after a step; 0: none. */
typedef struct bench_watch {
    bench_model model;
    mtl_watch *watch;
    int asked;
} bench_watch;

enum { BENCH_WATCH_OFF, BENCH_WATCH_STEP, BENCH_WATCH_AFFINITY, BENCH_WATCH_TIME, BENCH_WATCH_UNITS,
       BENCH_WATCH_COUNT };

static void bench_watch_run(void *user)
{
    bench_watch *w = (bench_watch *)user;
    const mtl_tensor *weight;
    mtl_watched seen;
    mtl_watched_units units;
    double affinity[16], norm[32];
    bench_model_step(&w->model);
    if (w->asked == BENCH_WATCH_STEP)
        mtl_watch_step(w->watch, w->model.batches, 1, &seen, &w->model.error);
    if (w->asked == BENCH_WATCH_AFFINITY)
        mtl_watch_affinity(w->watch, w->model.batches, 1, 0, affinity, NULL, &w->model.error);
    weight = mtl_model_tensor(w->model.model, "encoder.weight_hh_l0");
    if (w->asked == BENCH_WATCH_TIME)
        mtl_watch_steps(w->model.trainer, w->model.batches, -1, weight, norm, 32, &w->model.error);
    if (w->asked == BENCH_WATCH_UNITS) (void)mtl_watch_units(w->model.trainer, &units, 1);
}

/* A step of K tasks that is watched beside one that is not: what each instrument costs in steps. */
static void bench_watch_of(int tasks)
{
    static const char *const names[] = { "watch_off", "watch_step", "watch_affinity", "watch_steps",
                                         "watch_units" };
    bench_shape shape = bench_shape_plain();
    bench_watch w;
    mtl_arena keep;
    double us, off = 0;
    char size[32];
    shape.classes = 8;
    shape.tasks = tasks;
    mtl_arena_init(&keep, NULL, 0, NULL);
    bench_model_init(&w.model, &shape);
    bench_model_batches(&w.model, &shape, 1, &keep);
    w.watch = mtl_watch_create(w.model.trainer, &keep, &w.model.error);
    bench_must(&w.model.error);
    sprintf(size, "H=128,C=8,K=%d", tasks);
    for (w.asked = 0; w.asked < BENCH_WATCH_COUNT; w.asked++) {
        us = bench_measure(bench_watch_run, &w, 0, 1.0).us_min;
        if (!w.asked) off = us;
        bench_part_row(names[w.asked], size, w.asked ? us - off : us, w.asked ? us / off - 1 : 1, "x_plain",
                       0);
    }
    bench_must(&w.model.error);
    bench_model_destroy(&w.model);
    mtl_arena_destroy(&keep);
}

static void bench_watch_part(void)
{
    bench_watch_of(2);
    bench_watch_of(4);
}

/* ---- ragged batches ------------------------------------------------------------------------------------ */

enum { BENCH_RAGGED_BATCH = 32, BENCH_RAGGED_MOST = 1600 };   /* 50 batches: a pool out of which mtl_fit cuts
                                                                 them */

/* Lengths from a file, one a line (NULL: a geometric mix of mean 20, as sentences have). Returns how many. */
static size_t bench_lengths(const char *path, int *lengths)
{
    FILE *file = path ? fopen(path, "r") : NULL;
    size_t n = 0;
    if (path && !file) { fprintf(stderr, "bench: cannot read %s\n", path); exit(2); }
    if (path) {
        while (n < BENCH_RAGGED_MOST && fscanf(file, "%d", &lengths[n]) == 1 && lengths[n] > 0) n++;
        fclose(file);
    }
    for (; !path && n < BENCH_RAGGED_MOST; n++) {
        const double u = mtl__random_uniform(1, 41, n);
        lengths[n] = 1 + (int)(log(1 - u) / log(1 - 1.0 / 20));
    }
    if (n < BENCH_RAGGED_BATCH) { fprintf(stderr, "bench: %s: a length a line, 32 of them at least\n", path);
    exit(2); }
    return n / BENCH_RAGGED_BATCH * BENCH_RAGGED_BATCH;
}

/* The batches of an epoch of mtl_fit over this data set, with the trainer's own sampler. */
static void bench_ragged_batches(bench_model *m, const mtl_batch *data, mtl_arena *keep)
{
    mtl_fit_desc desc;
    mtl__sampler sampler;
    size_t i;
    memset(&desc, 0, sizeof desc);
    mtl_desc_check(MTL_DESC_FIT, &desc, "fit", &m->error);
    desc.batch = BENCH_RAGGED_BATCH;
    mtl__sampler_init(&sampler, data, 1, m->model, &desc, keep, &m->error);
    bench_must(&m->error);
    mtl__sampler_begin(&sampler, 0);
    m->batches = (mtl_batch *)mtl_arena_push(keep, sampler.total * sizeof *m->batches);
    m->count = sampler.total;
    for (i = 0; i < sampler.total; i++) m->batches[i] = mtl__sampler_next(&sampler, m->model, i, keep,
                                                                          &m->error);
    bench_must(&m->error);
}

/* Epochs of both models for 4 seconds (4 of them at least, after one to warm up), batch by batch in turns.
   us[model]: the sum over batches of the least time of each, so that a disturbed moment costs one batch its
   turn and no epoch its result. */
static void bench_ragged_epochs(bench_model *models, double *us)
{
    static double least[2][BENCH_RAGGED_MOST / BENCH_RAGGED_BATCH];
    const double began = mtl__seconds();
    size_t epoch, batch, k;
    for (epoch = 0; epoch < 5 || mtl__seconds() - began < 4; epoch++)
        for (batch = 0; batch < models[0].count; batch++)
            for (k = 0; k < 2; k++) {
                const double now = bench_once(bench_model_step, &models[k]);
                if (epoch < 2 || now < least[k][batch]) least[k][batch] = now;
            }
    us[0] = us[1] = 0;
    for (batch = 0; batch < models[0].count; batch++)
        for (k = 0; k < 2; k++) us[k] += least[k][batch];
}

/* Training on ragged batches against batches of equal lengths (the mean, in two lengths next to each other),
   with the same number of tokens. */
static void bench_ragged_part(const char *path)
{
    static int lengths[BENCH_RAGGED_MOST], equal[BENCH_RAGGED_MOST];
    const bench_shape shape = bench_shape_plain();
    bench_model models[2];
    mtl_batch data[2];
    mtl_arena keep;
    size_t n = bench_lengths(path, lengths), tokens = 0, batches = n / BENCH_RAGGED_BATCH, longer, i;
    double us[2];
    char size[64];
    for (i = 0; i < n; i++) tokens += (size_t)lengths[i];
    longer = (tokens - tokens / n * n) / BENCH_RAGGED_BATCH;            /* batches that are a step longer */
    for (i = 0; i < n; i++) equal[i] = (int)(tokens / n) + (i / BENCH_RAGGED_BATCH < longer);
    mtl_arena_init(&keep, NULL, 0, NULL);
    for (i = 0; i < 2; i++) {
        bench_model_init(&models[i], &shape);
        bench_model_data(&data[i], &shape, i ? equal : lengths, n, &keep, 200);
        bench_ragged_batches(&models[i], &data[i], &keep);
    }
    bench_ragged_epochs(models, us);
    sprintf(size, "%s,batches=%d,tokens=%d", path ? "file" : "geometric", (int)batches, (int)tokens);
    us[0] /= (double)tokens;
    us[1] /= (double)(tokens / n * n + longer * BENCH_RAGGED_BATCH);    /* up to 31 tokens fewer: counted by
                                                                           token */
    bench_part_row("equal_lengths", size, us[1], 1e6 / us[1], "tokens/s", 0);
    bench_part_row("ragged_lengths", size, us[0], us[0] / us[1], "x_equal_lengths", 0);
    for (i = 0; i < 2; i++) bench_model_destroy(&models[i]);
    mtl_arena_destroy(&keep);
}

/* ---- the command --------------------------------------------------------------------------------------- */

/* ---- growth -------------------------------------------------------------------------------------------- */

/* `bench growth`: time of a step of `series` as one size of the model grows. */
static void bench_growth_series(const char *series, const int *sizes, int lazy)
{
    bench_shape shapes[BENCH_TURNS];
    double us[BENCH_TURNS];
    int i;
    for (i = 0; i < BENCH_TURNS; i++) {
        shapes[i] = bench_shape_plain();
        if (lazy < 0) {
            shapes[i].classes = 8;
            shapes[i].tasks = sizes[i];
            continue;
        }
        shapes[i].features = 0;
        shapes[i].vocabulary = sizes[i];
        shapes[i].width = 64;
        shapes[i].lazy = lazy;
    }
    bench_model_compare(shapes, BENCH_TURNS, 8, 1.5, us);
    for (i = 0; i < BENCH_TURNS; i++) printf("%s\t%d\t%.3f\n", series, sizes[i], us[i]);
}

static int bench_growth_command(void)
{
    static const int vocabularies[BENCH_TURNS] = { 1000, 10000, 100000, 1000000 },
        tasks[BENCH_TURNS] = { 1, 2, 5, 10 };
    printf("series\tsize\tus\n");
    bench_growth_series("lazy Adam vocabulary", vocabularies, 1);
    bench_growth_series("exact Adam vocabulary", vocabularies, 0);
    bench_growth_series("heads tasks", tasks, -1);
    return 0;
}

/* ---- denormal numbers ---------------------------------------------------------------------------------- */

enum { BENCH_DENORMAL_HIDDEN = 128 };

/* A layer whose inputs and whose outputs' gradients are below 2^-126, against the same with ordinary ones. */
static void bench_denormal_case(int cell, int trains, const char *what)
{
    bench_net nets[2];
    void *users[2];
    bench_point point;
    double us[2];
    size_t i, k;
    memset(&point, 0, sizeof point);
    point.cell = cell;
    point.directions = point.threads = 1;
    point.hidden = BENCH_DENORMAL_HIDDEN;
    point.batch = 16;
    point.steps = 32;
    for (i = 0; i < 2; i++) {
        bench_net_init(&nets[i], &point, trains);
        users[i] = &nets[i];
    }
    for (k = 0; k < nets[1].x.rows * nets[1].x.stride; k++) nets[1].x.value[k] *= 1e-39f;
    for (k = 0; k < nets[1].dy.rows * nets[1].dy.stride; k++) nets[1].dy.value[k] *= 1e-39f;
    bench_alternate(trains ? bench_train : bench_infer, users, 2, 0.5, us);
    bench_part_row("denormal_inputs", what, us[1], us[1] / us[0], "x_ordinary", 0);
    for (i = 0; i < 2; i++) bench_net_destroy(&nets[i]);
}

static void bench_denormal_parts(void)
{
    bench_denormal_case(MTL_CELL_LSTM, 0, "lstm,infer,H=128");
    bench_denormal_case(MTL_CELL_LSTM, 1, "lstm,train,H=128");
    bench_denormal_case(MTL_CELL_GRU, 0, "gru,infer,H=128");
    bench_denormal_case(MTL_CELL_GRU, 1, "gru,train,H=128");
}

static void bench_embedding_parts(void)
{
    bench_embedding_part(1024, 64, 10000);
    bench_embedding_part(1024, 128, 1000000);
    bench_embedding_part(16384, 128, 100000);
}

static void bench_softmax_parts(void)
{
    bench_softmax_part(128, 10000, 512);
    bench_softmax_part(256, 10000, 512);
}

static void bench_crf_parts(void)
{
    bench_crf_part(9);
    bench_crf_part(72);
}

static void bench_adam_parts(void)
{
    bench_adam_part((size_t)1 << 14);
    bench_adam_part((size_t)1 << 18);
    bench_adam_part((size_t)1 << 22);
    bench_adam_part((size_t)1 << 24);
}

/* only: one part's name, NULL: all. Returns 0 when there is no part of that name. */
static int bench_parts_command(const char *lengths, const char *only)
{
    static const struct { const char *name; void (*run)(void); } parts[] = {
        { "embedding", bench_embedding_parts }, { "softmax", bench_softmax_parts },
            { "adam", bench_adam_parts },
        { "dropout", bench_dropout_part },      { "heads", bench_heads_part },
            { "lazy", bench_lazy_part },
        { "denormal", bench_denormal_parts },   { "sharing", bench_sharing_part },
            { "columns", bench_columns_part }, { "conv", bench_conv_part },
        { "surgery", bench_surgery_parts },     { "watch", bench_watch_part },
        { "crf", bench_crf_parts },             { "characters", bench_speller_parts },
            { "gazetteer", bench_gazetteer_parts },
        { "pool", bench_pool_parts },           { "attention", bench_self_parts },
            { "norm", bench_norm_parts },
        { "recurrent", bench_recurrent_part }
    };
    size_t i;
    int ragged = !only || !strcmp(only, "ragged"), found = ragged;
    for (i = 0; only && i < MTL__COUNT(parts); i++) found |= !strcmp(only, parts[i].name);
    if (!found) return 0;
    printf("part\tsize\tus_min\trate\tunit\tshare\n");
    for (i = 0; i < MTL__COUNT(parts); i++)
        if (!only || !strcmp(only, parts[i].name)) parts[i].run();
    if (ragged) bench_ragged_part(lengths);
    return 1;
}
