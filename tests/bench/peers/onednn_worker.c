/* onednn_worker THREADS    oneDNN's worker (see worker.py), through its C API; oneDNN 3

   Its own LSTM and GRU (reset after the product) primitives: forward inference, and forward training + backward with the gradient
   of the inputs (`fwdbwd`). It has no softmax head on every step and no Adam, hence no `train`. Weights lie in whatever layout
   each primitive asks for, and what a training loop would pay to reorder them after every update is not counted. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "oneapi/dnnl/dnnl.h"

enum { ARGUMENTS = 32, MOST_TIMES = 1 << 18 };

/* A primitive with the memory of all its arguments. */
typedef struct pass {
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arguments[ARGUMENTS];
    int count;
} pass;

typedef struct point {
    pass forward, backward;                 /* backward.primitive NULL: inference */
} point;

static dnnl_engine_t engine;
static dnnl_stream_t stream;
static const char *failed;                  /* the first call that failed since a request began, or NULL */

static int good(dnnl_status_t status, const char *what)
{
    if (status != dnnl_success && !failed) failed = what;
    return !failed;
}
#define DO(call) good((call), #call)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- shapes ------------------------------------------------------------------------------------------------------- */

static dnnl_memory_desc_t shape(int count, const dnnl_dims_t sizes, dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t desc = NULL;
    DO(dnnl_memory_desc_create_with_tag(&desc, count, sizes, dnnl_f32, tag));
    return desc;
}

/* The primitive's descs. Layer inputs and outputs (T, B, H), time-major; weights (1, 1, H, G, H) in any layout;
   bias (1, 1, G, H), for this GRU with a fourth, the hidden product's own bias of the new gate. No states: zero at first. */
static dnnl_primitive_desc_t describe(int lstm, int B, int T, int H, dnnl_prop_kind_t kind, dnnl_primitive_desc_t forward)
{
    const dnnl_dims_t rows = { T, B, H }, matrix = { 1, 1, H, lstm ? 4 : 3, H }, bias = { 1, 1, 4, H };
    const dnnl_rnn_direction_t one_way = dnnl_unidirectional_left2right;
    const dnnl_memory_desc_t x = shape(3, rows, dnnl_tnc), w = shape(5, matrix, dnnl_format_tag_any), b = shape(4, bias, dnnl_ldgo);
    const unsigned overwrite = dnnl_rnn_flags_diff_weights_overwrite;       /* the gradient is assigned, not added to */
    dnnl_primitive_desc_t desc = NULL;
    if (kind != dnnl_backward && lstm)
        DO(dnnl_lstm_forward_primitive_desc_create(&desc, engine, kind, one_way, x, NULL, NULL, w, w, NULL, NULL, b, x, NULL,
                                                   NULL, 0, NULL));
    else if (kind != dnnl_backward)
        DO(dnnl_lbr_gru_forward_primitive_desc_create(&desc, engine, kind, one_way, x, NULL, w, w, b, x, NULL, 0, NULL));
    else if (lstm)
        DO(dnnl_lstm_backward_primitive_desc_create(&desc, engine, kind, one_way, x, NULL, NULL, w, w, NULL, NULL, b, x, NULL,
                                                    NULL, x, NULL, NULL, w, w, NULL, NULL, b, x, NULL, NULL, overwrite, forward,
                                                    NULL));
    else
        DO(dnnl_lbr_gru_backward_primitive_desc_create(&desc, engine, kind, one_way, x, NULL, w, w, b, x, NULL, x, NULL, w, w, b,
                                                       x, NULL, overwrite, forward, NULL));
    dnnl_memory_desc_destroy(x);
    dnnl_memory_desc_destroy(w);
    dnnl_memory_desc_destroy(b);
    return desc;
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

static void fill(dnnl_memory_t memory, size_t bytes, int argument)
{
    float *x = NULL;
    size_t i;
    if (!DO(dnnl_memory_map_data(memory, (void **)&x)) || !x) return;
    memset(x, 0, bytes);
    if (argument != DNNL_ARG_WORKSPACE)
        for (i = 0; i < bytes / sizeof *x; i++) x[i] = 0.2f * (float)rand() / (float)RAND_MAX - 0.1f;
    DO(dnnl_memory_unmap_data(memory, x));
}

static dnnl_memory_t argument_of(const pass *p, int argument)
{
    int i;
    for (i = 0; i < p->count; i++)
        if (p->arguments[i].arg == argument) return p->arguments[i].memory;
    return NULL;
}

/* Creates the primitive and memory for every argument that it names; those of `shared`, an earlier pass, that have the same
   layout are taken from there: inputs, outputs and the workspace, often not the weights. */
static void prepare_pass(pass *p, const pass *shared)
{
    static const int names[] = {
        DNNL_ARG_SRC_LAYER, DNNL_ARG_WEIGHTS_LAYER, DNNL_ARG_WEIGHTS_ITER, DNNL_ARG_BIAS, DNNL_ARG_DST_LAYER, DNNL_ARG_WORKSPACE,
        DNNL_ARG_DIFF_SRC_LAYER, DNNL_ARG_DIFF_WEIGHTS_LAYER, DNNL_ARG_DIFF_WEIGHTS_ITER, DNNL_ARG_DIFF_BIAS,
        DNNL_ARG_DIFF_DST_LAYER };
    size_t i;
    if (failed || !DO(dnnl_primitive_create(&p->primitive, p->desc))) return;
    for (i = 0; i < sizeof names / sizeof *names && !failed; i++) {
        const const_dnnl_memory_desc_t desc = dnnl_primitive_desc_query_md(p->desc, dnnl_query_exec_arg_md, names[i]);
        const size_t bytes = desc ? dnnl_memory_desc_get_size(desc) : 0;
        dnnl_memory_t memory = shared ? argument_of(shared, names[i]) : NULL;
        const_dnnl_memory_desc_t other = NULL;
        if (!bytes) continue;
        if (memory) DO(dnnl_memory_get_memory_desc(memory, &other));
        if (!memory || !dnnl_memory_desc_equal(desc, other)) {
            if (!DO(dnnl_memory_create(&memory, desc, engine, DNNL_MEMORY_ALLOCATE))) return;
            fill(memory, bytes, names[i]);
        }
        p->arguments[p->count].arg = names[i];
        p->arguments[p->count++].memory = memory;
    }
}

static void release_pass(pass *p, const pass *shared)
{
    int i;
    for (i = 0; i < p->count; i++)
        if (!shared || argument_of(shared, p->arguments[i].arg) != p->arguments[i].memory) dnnl_memory_destroy(p->arguments[i].memory);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->desc) dnnl_primitive_desc_destroy(p->desc);
}

/* ---- measuring ---------------------------------------------------------------------------------------------------- */

static void run(const point *p)
{
    DO(dnnl_primitive_execute(p->forward.primitive, stream, p->forward.count, p->forward.arguments));
    if (p->backward.primitive) DO(dnnl_primitive_execute(p->backward.primitive, stream, p->backward.count, p->backward.arguments));
    DO(dnnl_stream_wait(stream));
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void measure(const point *p, double seconds)
{
    static double times[MOST_TIMES];
    const double end = now() + seconds;
    int count = 0;
    run(p), run(p);
    while (!failed && count < MOST_TIMES && (count < 3 || now() < end)) {
        const double start = now();
        run(p);
        times[count++] = now() - start;
    }
    if (failed) return;
    qsort(times, (size_t)count, sizeof *times, ascending);
    printf("ok %.3f %.3f %d primitive\n", times[0] * 1e6, times[count / 2] * 1e6, count);
}

static void answer(const char *cell, const char *mode, int H, int B, int T, double milliseconds)
{
    const int lstm = !strcmp(cell, "lstm"), training = !strcmp(mode, "fwdbwd");
    point p;
    memset(&p, 0, sizeof p);
    failed = NULL;
    if (!training && strcmp(mode, "infer")) {
        printf("none it has no %s\n", mode);
        return;
    }
    p.forward.desc = describe(lstm, B, T, H, training ? dnnl_forward_training : dnnl_forward_inference, NULL);
    prepare_pass(&p.forward, NULL);
    if (training && !failed) {
        p.backward.desc = describe(lstm, B, T, H, dnnl_backward, p.forward.desc);
        prepare_pass(&p.backward, &p.forward);
    }
    if (!failed) measure(&p, milliseconds * 1e-3);
    if (failed) printf("none failed: %.80s\n", failed);
    release_pass(&p.backward, &p.forward);
    release_pass(&p.forward, NULL);
}

int main(void)
{
    const dnnl_version_t *version = dnnl_version();
    char line[256], cell[16], mode[16];
    int H, B, T;
    double milliseconds;
    if (!DO(dnnl_engine_create(&engine, dnnl_cpu, 0)) || !DO(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags))) {
        fprintf(stderr, "onednn_worker: failed: %s\n", failed);
        return 1;
    }
    printf("ready onednn %d.%d.%d\n", version->major, version->minor, version->patch);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%15s %15s %d %d %d %lf", cell, mode, &H, &B, &T, &milliseconds) != 6) printf("none not a request\n");
        else answer(cell, mode, H, B, T, milliseconds);
        fflush(stdout);
    }
    dnnl_stream_destroy(stream);
    dnnl_engine_destroy(engine);
    return 0;
}
