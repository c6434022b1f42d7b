/* Two threads against one, and what a pool costs the rest of the program.

   build:  cc -std=c99 -O2 -I. -pthread -o build/bench_threads tests/bench/threads.c -lm
   run:    build/bench_threads [step|single|crowd|pool] [THREADS [MILLISECONDS [H]]]   all four by default, 2
           threads, 60 ms a point

   step    a training step (forward, 32-class softmax head on every step, backward with the gradient of the
           inputs, Adam), B = T = 32
   single  one sequence of 64 steps through a layer of two directions, forward and training
   crowd   step, H = 64, with more threads than processors, and beside a busy process on each processor but
           one
   pool    an empty loop of jobs; the time from a pause to the first answer; processor time of 50 ms of
           idling; caller's scheduler

   TSV on standard output. Contestants take turns and the least time of each counts. `peak_ratio` is how much
   faster the processor's arithmetic becomes with that many threads (independent multiply-adds in registers),
   measured the same way in the same run: what a speedup is to be held against. */
#define _GNU_SOURCE
#define MTL_RNN_IMPLEMENTATION
#include "mtl_rnn.h"
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static double patience = 0.06;              /* seconds a point */
static int threads = 2, only;           /* only: this H, 0: all */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(const mtl_error *err)
{
    if (!err->code) return;
    fprintf(stderr, "threads: %s\n", err->message);
    exit(1);
}

/* ---- what the processor gives -------------------------------------------------------------------------- */

/* Multiply-adds without memory; the result is kept so that they are not optimised away. */
static void spin_job(void *context, size_t index)
{
    float a[64], *kept = (float *)context;
    int i, k;
    for (i = 0; i < 64; i++) a[i] = 1 + (float)i;
    for (k = 0; k < 100000; k++)
        for (i = 0; i < 64; i++) a[i] = a[i] * 0.999f + 0.5f;
    for (i = 1; i < 64; i++) a[0] += a[i];
    kept[index * 64] = a[0];
}

static double peak_ratio(const mtl_scheduler *pool)
{
    static float kept[64 * 64];
    double one = 1e9, many = 1e9, start;
    int i;
    for (i = 0; i < 20; i++) {
        start = now();
        mtl__parallel_for(NULL, (size_t)threads, spin_job, kept);
        one = fmin(one, now() - start);
        start = now();
        mtl__parallel_for(pool, (size_t)threads, spin_job, kept);
        many = fmin(many, now() - start);
    }
    return one / many;
}

/* ---- a training step ----------------------------------------------------------------------------------- */

typedef struct step_case {
    int cell, bidirectional, train;
    size_t hidden, sequences, steps;
    mtl_arena model, scratch;
    mtl_parameters set;
    mtl__column column;
    mtl_dense *head;
    mtl_gradients *gradients;
    mtl_packings *packings;
    mtl__optimizer optimizer;
    mtl_column_desc desc;
    mtl_trainer_desc how;
    mtl_error err;
    mtl_run run;                            /* begun once, as a trainer does: it asks the processor what it
                                               is */
    mtl_activation x;
    int *lengths, *labels;
    double loss;
} step_case;

static void step_create(step_case *c)
{
    size_t i, rows = c->sequences * c->steps;
    mtl_arena_init(&c->model, NULL, 0, NULL);
    mtl_arena_init(&c->scratch, NULL, 0, NULL);
    mtl_parameters_init(&c->set, &c->model);
    c->desc.name = "shared";
    c->desc.cell = c->cell;
    c->desc.hidden = (int)c->hidden;
    c->desc.layers = 1;
    c->desc.bidirectional = c->bidirectional;
    c->column.input.width = c->hidden;
    mtl__column_build(&c->column, &c->desc, &c->set, &c->err);
    c->head = mtl_dense_add(&c->set, "head", c->hidden * c->column.directions, 32, 0, &c->err);
    mtl_parameters_allocate(&c->set, &c->err);
    must(&c->err);
    mtl_parameters_randomise(&c->set, 1);
    mtl_parameters_prepare(&c->set, MTL_ISA_AUTO, &c->err);
    c->gradients = mtl_gradients_create(&c->set, &c->model, &c->err);
    c->packings = mtl_packings_create(&c->set, &c->model, &c->err);
    c->how.optimizer = MTL_OPTIMIZER_ADAM;
    c->how.lr = 1e-3f, c->how.beta1 = 0.9f, c->how.beta2 = 0.999f, c->how.epsilon = 1e-8f;
    mtl__optimizer_init(&c->optimizer, &c->how, &c->set, c->gradients, &c->model, &c->err);
    must(&c->err);
    c->lengths = (int *)malloc(c->sequences * sizeof(int));
    c->labels = (int *)malloc(rows * sizeof(int));
    if (!c->lengths || !c->labels) exit(1);
    for (i = 0; i < c->sequences; i++) c->lengths[i] = (int)c->steps;
    for (i = 0; i < rows; i++) c->labels[i] = (int)(i % 32);
    c->x.name = "";
    c->x.rows = rows;
    c->x.width = c->x.stride = c->hidden;
    c->x.value = (mtl_real *)mtl_arena_push(&c->model, rows * c->hidden * sizeof(mtl_real));
    if (!c->x.value) exit(1);
    for (i = 0; i < rows * c->hidden; i++) c->x.value[i] = (mtl_real)(i * 37 % 101) / 50 - 1;
    mtl_run_init(&c->run, &c->scratch, MTL_ISA_AUTO, &c->err);
    must(&c->err);
}

static void step_destroy(step_case *c)
{
    free(c->lengths);
    free(c->labels);
    mtl_arena_destroy(&c->scratch);
    mtl_arena_destroy(&c->model);
}

static void step_loss(mtl_run *run, step_case *c, mtl_activation *y, mtl_tape *tape)
{
    mtl__loss_data how;
    mtl_target target;
    mtl_activation *loss;
    mtl_real one = 1;
    memset(&how, 0, sizeof how);
    memset(&target, 0, sizeof target);
    target.labels = c->labels;
    how.loss = MTL_LOSS_CROSS_ENTROPY;
    how.target = &target;
    how.items = run->packing->caller_row;
    how.divisor = (double)run->packing->rows;
    run->tape = tape;
    loss = mtl__loss_forward(run, &how, mtl_dense_forward(run, c->head, y, NULL), NULL);
    mtl_packings_prepare(c->packings, run);
    mtl_tape_backward(run, &loss, &one, 1, 0);
    c->loss = loss ? (double)loss->value[0] : 0;
    mtl__optimizer_apply(&c->optimizer, run, 1e-3, 1);
    mtl__parameters_pack(&c->set, mtl__run_kernels(run), run->scheduler, NULL, 0);
}

static void step_run(step_case *c, const mtl_scheduler *scheduler)
{
    mtl_tape tape;
    mtl_run run = c->run;
    mtl_activation *x = &c->x, *y;
    int source = 0;
    memset(&tape, 0, sizeof tape);
    mtl__arena_reset(&c->scratch);
    run.scheduler = scheduler;
    if (c->train) run.tape = &tape, run.gradients = c->gradients, run.packings = c->packings;
    mtl_run_pack(&run, c->lengths, c->sequences);
    x->space = &run.packing->space[MTL_LEVEL_STEP];
    x->grad = NULL;
    x->grad_state = MTL_GRAD_NONE;
    c->column.input.count = 1;
    c->column.input.sources = &source;
    y = mtl__column_forward(&run, &c->column, &x, NULL);
    if (c->train) step_loss(&run, c, y, &tape);
    must(&c->err);
}

/* Least seconds of a step, by one thread and by the pool, which take turns. */
static void step_measure(step_case *c, const mtl_scheduler *pool, double best[2])
{
    double end, start, took;
    int turn, i;
    best[0] = best[1] = 1e9;
    step_create(c);
    step_run(c, NULL);
    for (end = now() + patience; now() < end;)
        for (turn = 0; turn < 2; turn++)
            for (i = 0; i < 3; i++) {
                start = now();
                step_run(c, turn ? pool : NULL);
                took = now() - start;
                best[turn] = fmin(best[turn], took);
            }
    step_destroy(c);
}

static const char *cell_name(int cell) { return cell == MTL_CELL_LSTM ? "lstm" : cell == MTL_CELL_GRU
    ? "gru" : "rnn"; }

static void step_line(const char *what, const step_case *c, double one, double many, double peak)
{
    printf("%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t%.3f\t%.3f\t%.3f\n", what, cell_name(c->cell),
           c->bidirectional ? "bi" : "uni", c->train ? "train" : "infer", (int)c->hidden, (int)c->sequences,
               (int)c->steps, threads, one * 1e6, many * 1e6, one / many,
           peak, one / many / peak);
    fflush(stdout);
}

static void grid(const char *what, int single, const mtl_scheduler *pool)
{
    static const size_t sizes[] = { 32, 64, 128, 256 };
    int cell, bidirectional, train;
    size_t s;
    for (train = single ? 0 : 1; train < 2; train++)
        for (cell = MTL_CELL_RNN + 1; cell <= MTL_CELL_LSTM; cell++)
            for (bidirectional = single; bidirectional < 2; bidirectional++)
                for (s = (size_t)single; s < 4; s++) {
                    step_case c;
                    double best[2], peak;
                    if (only && (size_t)only != sizes[s]) continue;
                    memset(&c, 0, sizeof c);
                    c.cell = cell, c.bidirectional = bidirectional, c.train = train;
                    c.hidden = sizes[s];
                    c.sequences = single ? 1 : 32;
                    c.steps = single ? 64 : 32;
                    peak = peak_ratio(pool);
                    step_measure(&c, pool, best);
                    step_line(what, &c, best[0], best[1], fmax(peak, peak_ratio(pool)));
                }
}

/* ---- a crowded machine --------------------------------------------------------------------------------- */

static pid_t start_busy(int processor)
{
    pid_t child = fork();
    if (child == 0) {
#ifdef __linux__
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(processor, &set);
        (void)sched_setaffinity(0, sizeof set, &set);
#endif
        for (;;) spin_job(malloc(64 * sizeof(float)), 0);
    }
    return child;
}

/* Mean seconds of a step: a crowd shows in the mean, not in the least. */
static double crowd_mean(step_case *c, const mtl_scheduler *scheduler)
{
    double start = now();
    int n = 0;
    do step_run(c, scheduler);
    while (++n, now() - start < 10 * patience);
    return (now() - start) / n;
}

static void crowd_line(const char *what, double seconds, double one)
{
    printf("crowd\t%s\t%.1f\t%.3f\n", what, seconds * 1e6, seconds / one);
    fflush(stdout);
}

static void crowd(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN), i;
    mtl_error err = {0};
    mtl_arena arena;
    mtl__pool *even, *twice;
    pid_t busy[64];
    step_case c;
    double one;
    if (processors < 2 || processors > 64) return;
    memset(&c, 0, sizeof c);
    c.cell = MTL_CELL_LSTM, c.train = 1, c.hidden = 64, c.sequences = c.steps = 32;
    step_create(&c);
    mtl_arena_init(&arena, NULL, 0, NULL);
    even = mtl__pool_create(&arena, (int)processors, &err);
    twice = mtl__pool_create(&arena, 2 * (int)processors, &err);
    must(&err);
    one = crowd_mean(&c, NULL);
    crowd_line("one thread", one, one);
    crowd_line("a thread per processor", crowd_mean(&c, mtl__pool_scheduler(even)), one);
    crowd_line("two threads per processor", crowd_mean(&c, mtl__pool_scheduler(twice)), one);
    for (i = 0; i + 1 < processors; i++) busy[i] = start_busy((int)i);
    crowd_line("one thread, all processors but one busy", crowd_mean(&c, NULL), one);
    crowd_line("a thread per processor, all but one busy", crowd_mean(&c, mtl__pool_scheduler(even)), one);
    crowd_line("two threads per processor, all but one busy", crowd_mean(&c, mtl__pool_scheduler(twice)),
               one);
    for (i = 0; i + 1 < processors; i++) {
        kill(busy[i], SIGKILL);
        waitpid(busy[i], NULL, 0);
    }
    mtl__pool_destroy(even);
    mtl__pool_destroy(twice);
    mtl_arena_destroy(&arena);
    step_destroy(&c);
}

/* ---- the pool itself ----------------------------------------------------------------------------------- */

static void nothing(void *context, size_t index) { (void)context; (void)index; }

static double processor_seconds(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + 1e-6
        * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

/* A caller's job system, at its simplest: it hands the loop on. */
static void handed_on(void *user, size_t count, mtl_job job, void *context)
{
    const mtl_scheduler *pool = (const mtl_scheduler *)user;
    pool->parallel_for(pool->user, count, job, context);
}

static void pool_figures(const mtl_scheduler *pool)
{
    static const size_t counts[] = { 2, 8, 32 };
    mtl_scheduler callers = { NULL, handed_on, 0 };
    struct timespec idle = { 0, 50000000 };
    step_case c;
    double best[2], start, used;
    size_t k;
    int i;
    for (k = 0; k < 3; k++) {
        double least = 1e9;
        for (i = 0; i < 200; i++) {
            int n;
            start = now();
            for (n = 0; n < 50; n++) mtl__parallel_for(pool, counts[k], nothing, NULL);
            least = fmin(least, (now() - start) / 50);
        }
        printf("pool\tloop of %d empty jobs\t%.3f us\n", (int)counts[k], least * 1e6);
    }
    used = processor_seconds();
    nanosleep(&idle, NULL);
    printf("pool\tprocessor time of 50 ms of idling\t%.1f us\n", (processor_seconds() - used) * 1e6);
    memset(&c, 0, sizeof c);
    c.cell = MTL_CELL_LSTM, c.train = 1, c.hidden = 64, c.sequences = c.steps = 32;
    callers.user = (void *)(uintptr_t)pool;
    step_measure(&c, pool, best);
    start = best[1];
    memset(&c, 0, sizeof c);
    c.cell = MTL_CELL_LSTM, c.train = 1, c.hidden = 64, c.sequences = c.steps = 32;
    step_measure(&c, &callers, best);
    printf("pool\tstep by the callback form, times the pool's\t%.3f\n", best[1] / start);
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "all";
    int all = strcmp(what, "all") == 0;
    mtl_error err = {0};
    mtl_arena arena;
    mtl__pool *pool;
    if (count > 2) threads = atoi(arguments[2]);
    if (count > 3) patience = 1e-3 * atof(arguments[3]);
    if (count > 4) only = atoi(arguments[4]);
    mtl_arena_init(&arena, NULL, 0, NULL);
    pool = mtl__pool_create(&arena, threads, &err);
    must(&err);
    if (all || strcmp(what, "step") == 0 || strcmp(what, "single") == 0)
        printf("what\tcell\tdir\tmode\tH\tB\tT\tthreads\tone_us\tmany_us\tspeedup\tpeak_ratio\tshare\n");
    if (all || strcmp(what, "step") == 0) grid("step", 0, mtl__pool_scheduler(pool));
    if (all || strcmp(what, "single") == 0) grid("single", 1, mtl__pool_scheduler(pool));
    if (all || strcmp(what, "crowd") == 0) crowd();
    if (all || strcmp(what, "pool") == 0) pool_figures(mtl__pool_scheduler(pool));
    mtl__pool_destroy(pool);
    mtl_arena_destroy(&arena);
    return 0;
}
