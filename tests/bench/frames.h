/* tests/bench/frames.h    a step of many sequences: all in one batch whose states are carried, or one after
   the other through a stream

   The model is that of examples/npc.c: an embedding, two numbers, a GRU, three heads of steps; labels
   alone. */

enum { BENCH_FRAME_MOST = 1000, BENCH_FRAME_TASKS = 3 };

typedef struct bench_frame {
    int streams;                            /* 1: by mtl_stream_step; 0: by mtl_predict */
    size_t sequences;
    mtl_predictor *predictor;
    mtl_stream *stream;
    mtl_state *state;
    const int *lengths, *ids;
    const mtl_real *rows;
    mtl_error *error;
} bench_frame;

static void bench_frame_run(void *user)
{
    const bench_frame *f = (const bench_frame *)user;
    mtl_prediction out[BENCH_FRAME_TASKS];
    mtl_input inputs[2];
    mtl_batch batch;
    size_t s;
    memset(inputs, 0, sizeof inputs);
    inputs[0].ids = f->ids;
    inputs[1].rows = f->rows;
    if (!f->streams) {
        memset(&batch, 0, sizeof batch);
        batch.sequences = f->sequences;
        batch.lengths = f->lengths;
        batch.inputs = inputs;
        batch.state = f->state;
        mtl_predict(f->predictor, &batch, out, f->error);
        return;
    }
    for (s = 0; s < f->sequences; s++) {
        inputs[0].ids = f->ids + s;
        inputs[1].rows = f->rows + 2 * s;
        mtl_stream_step(f->stream, s, inputs, f->error);
    }
}

static mtl_model *bench_frame_model(int hidden, mtl_error *err)
{
    mtl_input_desc inputs[2];
    mtl_task_desc tasks[BENCH_FRAME_TASKS];
    mtl_model_desc desc;
    int k;
    memset(inputs, 0, sizeof inputs);
    memset(tasks, 0, sizeof tasks);
    memset(&desc, 0, sizeof desc);
    inputs[0].name = "event"; inputs[0].vocabulary = 6; inputs[0].width = 8;
    inputs[1].name = "senses"; inputs[1].features = 2;
    tasks[0].name = "action"; tasks[0].classes = 5;
    tasks[1].name = "mood"; tasks[1].kind = MTL_TASK_REAL;
    tasks[2].name = "threat"; tasks[2].classes = 3;
    for (k = 0; k < BENCH_FRAME_TASKS; k++) tasks[k].level = MTL_LEVEL_STEP;
    desc.inputs = inputs; desc.input_count = 2;
    desc.tasks = tasks; desc.task_count = BENCH_FRAME_TASKS;
    desc.encoder.cell = MTL_CELL_GRU;
    desc.encoder.hidden = hidden;
    return mtl_model_create(&desc, err);
}

/* A row for each number of sequences: microseconds of a step of all of them. */
static void bench_frame_hidden(int hidden)
{
    static const size_t sequences[] = { 1, 4, 16, 64, 250, BENCH_FRAME_MOST };
    mtl_predictor_desc how;
    mtl_error err;
    mtl_arena keep;
    mtl_model *model;
    bench_frame f[2];
    void *users[2];
    int *lengths, i;
    size_t bytes, k;
    memset(&err, 0, sizeof err);
    memset(&how, 0, sizeof how);
    memset(f, 0, sizeof f);
    mtl_arena_init(&keep, NULL, 0, NULL);
    model = bench_frame_model(hidden, &err);
    how.max_rows = how.max_sequences = BENCH_FRAME_MOST;
    how.max_steps = 1;
    how.logits = 1;
    f[0].predictor = mtl_predictor_create(model, &how, &err);
    f[0].state = mtl_state_create(model, BENCH_FRAME_MOST, &err);
    bytes = mtl_stream_size(model, &how, &err);
    f[0].stream = mtl_stream_init(mtl_arena_push(&keep, bytes), bytes, model, &how, &err);
    bench_must(&err);
    lengths = bench_ints(&keep, BENCH_FRAME_MOST, 1, 1);
    for (i = 0; i < BENCH_FRAME_MOST; i++) lengths[i] = 1;
    f[0].lengths = lengths;
    f[0].ids = bench_ints(&keep, BENCH_FRAME_MOST, 6, 2);
    f[0].rows = bench_reals(&keep, 2 * BENCH_FRAME_MOST, 3);
    f[0].error = &err;
    for (k = 0; k < sizeof sequences / sizeof sequences[0]; k++) {
        double us[2];
        f[0].sequences = sequences[k];
        f[1] = f[0];
        f[1].streams = 1;
        for (i = 0; i < 2; i++) users[i] = &f[i];
        bench_alternate(bench_frame_run, users, 2, 0.5, us);
        bench_must(&err);
        printf("%d\t%d\t%.3f\t%.3f\n", hidden, (int)sequences[k], us[0], us[1]);
        fflush(stdout);
    }
    mtl_state_destroy(f[0].state);
    mtl_predictor_destroy(f[0].predictor);
    mtl_model_destroy(model);
    mtl_arena_destroy(&keep);
}

static int bench_frames_command(void)
{
    int hidden;
    printf("H\tsequences\tpredict_us\tstream_us\n");
    for (hidden = 32; hidden <= 128; hidden *= 2) bench_frame_hidden(hidden);
    return 0;
}
