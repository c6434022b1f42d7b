/* An image is a sequence of rows: 16 steps of 16 grey values. Two tasks read it at once: which shape is in it
   (a class: square, cross, circle, or none), and which pixels are its own (a set of columns for each row:
   `multi` by step). The noise has half the strength of the lines, so a pixel alone tells little; a Bi-GRU
   that reads rows from the top and from the bottom sees what goes on above and below. Beside it stand plain
   baselines: the nearest of the four mean images, and the best threshold of a grey value.
   Run: make && build/image_rows */
#include "mtl_rnn.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 16, PIXELS = SIDE * SIDE, SHAPES = 4, BATCH = 32, STEPS = 1500, KNOWN = 4000, NEW = 1000 };
static const char *const shapes[SHAPES] = { "square", "cross", "circle", "none" };

typedef struct image { int shape; mtl_real grey[PIXELS], mask[PIXELS]; } image;

static unsigned seed = 1;
static double draw(void) { return ((seed = seed * 1664525u + 1013904223u) >> 8) / 16777216.0; }

/* 1: the pixel at (x, y) from the middle of a shape of this radius is on its line. */
static int is_drawn(int shape, int x, int y, int radius)
{
    const int far = abs(x) > abs(y) ? abs(x) : abs(y);
    if (shape == 0) return far == radius;
    if (shape == 1) return far <= radius && (x == 0 || y == 0);
    return shape == 2 && abs((int)(2 * sqrt(x * x + y * y) + 0.5) - 2 * radius) < 2;
}

/* A shape of any size anywhere, under noise of deviation 0.5. */
static void make_image(image *to)
{
    const int radius = 3 + (int)(4 * draw()), room = SIDE - 2 * radius;
    const int x = radius + (int)(room * draw()), y = radius + (int)(room * draw());
    to->shape = (int)(SHAPES * draw());
    for (int i = 0; i < PIXELS; i++) {
        const double noise = 0.5 * (draw() + draw() + draw() + draw() - 2) / sqrt(1.0 / 3);
        to->mask[i] = is_drawn(to->shape, i % SIDE - x, i / SIDE - y, radius);
        to->grey[i] = to->mask[i] + (mtl_real)noise;
    }
}

/* ---- scores -------------------------------------------------------------------------------------------- */

typedef struct tally { int images, right; double both, either; } tally;    /* F1 = 2 both / either */

static double f1(const tally *t) { return t->either > 0 ? 2 * t->both / t->either : 0; }

static void count(tally *t, const image *of, int shape, const unsigned char *chosen)
{
    t->images++;
    t->right += of->shape == shape;
    for (int i = 0; i < PIXELS; i++) {
        t->both += chosen[i] && of->mask[i] > 0;
        t->either += chosen[i] + (of->mask[i] > 0);
    }
}

static void print_score(const char *what, const tally *t)
{
    printf("%-32s  shape %5.1f %% right   pixels F1 %.3f\n", what, 100.0 * t->right / t->images, f1(t));
}

/* ---- baselines: the nearest mean image, a threshold ---------------------------------------------------- */

typedef struct plain { double mean[SHAPES][PIXELS], threshold; } plain;

static void threshold(const image *of, double at, unsigned char *chosen)
{
    for (int i = 0; i < PIXELS; i++) chosen[i] = of->grey[i] > at;
}

static int nearest(const plain *p, const image *of)
{
    int best = 0;
    double least = 1e30;
    for (int k = 0; k < SHAPES; k++) {
        double sum = 0;
        for (int i = 0; i < PIXELS; i++) sum += pow((double)of->grey[i] - p->mean[k][i], 2);
        if (sum < least) least = sum, best = k;
    }
    return best;
}

static void learn_plain(plain *p, const image *all, int images)
{
    int seen[SHAPES] = { 0 };
    double best = -1;
    memset(p, 0, sizeof *p);
    for (int n = 0; n < images; n++) seen[all[n].shape]++;
    for (int n = 0; n < images; n++)
        for (int i = 0; i < PIXELS; i++)
            p->mean[all[n].shape][i] += (double)all[n].grey[i] / seen[all[n].shape];
    for (double at = 0; at < 1.5; at += 0.05) {
        unsigned char chosen[PIXELS];
        tally t = { 0 };
        for (int n = 0; n < images; n++) threshold(&all[n], at, chosen), count(&t, &all[n], 0, chosen);
        if (f1(&t) > best) best = f1(&t), p->threshold = at;
    }
}

/* ---- the network --------------------------------------------------------------------------------------- */

enum { SHAPE, MASK, TASKS };
static int lengths[BATCH], labels[BATCH];
static mtl_real grey[BATCH * PIXELS], mask[BATCH * PIXELS];
static const mtl_input rows = { .rows = grey };
static const mtl_target targets[TASKS] = { { .labels = labels }, { .values = mask } };

/* A batch's rows stand end to end, which images do anyway. */
static mtl_batch make_batch(const image *all, int images)
{
    for (int n = 0; n < images; n++) {
        lengths[n] = SIDE;
        labels[n] = all[n].shape;
        memcpy(grey + n * PIXELS, all[n].grey, sizeof all[n].grey);
        memcpy(mask + n * PIXELS, all[n].mask, sizeof all[n].mask);
    }
    return (mtl_batch){ .sequences = (size_t)images, .lengths = lengths, .inputs = &rows,
                        .targets = targets };
}

/* The grey values, the pixels that are the shape's, and those that the network says are. */
static void show(const image *of, int shape, const unsigned char *chosen)
{
    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE; x++) {
            const double level = 2 + 4 * (double)of->grey[y * SIDE + x];
            putchar(" .:-=+*#"[(int)fmin(7, fmax(0, level))]);
        }
        printf("   ");
        for (int x = 0; x < SIDE; x++) putchar(of->mask[y * SIDE + x] > 0 ? '#' : '.');
        printf("   ");
        for (int x = 0; x < SIDE; x++) putchar(chosen[y * SIDE + x] ? '#' : '.');
        putchar('\n');
    }
    printf("%-16s   %-16s   %s\n\n", "read", shapes[of->shape], shapes[shape]);
}

static void judge(mtl_model *model, const plain *p, const image *all, mtl_error *err)
{
    mtl_predictor *predictor = mtl_predictor_create(model, NULL, err);
    tally by_net = { 0 }, by_plain = { 0 };
    mtl_prediction out[TASKS];
    unsigned char chosen[PIXELS];
    for (int n = 0; n < NEW; n++) {
        const mtl_batch batch = make_batch(&all[n], 1);
        if (mtl_predict(predictor, &batch, out, err)) break;
        if (n < 3) show(&all[n], out[SHAPE].labels[0], out[MASK].chosen);
        count(&by_net, &all[n], out[SHAPE].labels[0], out[MASK].chosen);
        threshold(&all[n], p->threshold, chosen);
        count(&by_plain, &all[n], nearest(p, &all[n]), chosen);
    }
    if (by_net.images) {
        print_score("nearest mean image, threshold", &by_plain);
        print_score("one Bi-GRU over rows", &by_net);
    }
    mtl_predictor_destroy(predictor);
}

int main(void)
{
    static const mtl_input_desc input = { .name = "rows", .features = SIDE };
    static const mtl_task_desc tasks[TASKS] = {
        { .name = "shape", .classes = SHAPES, .pool = MTL_POOL_MAX },
        { .name = "mask", .kind = MTL_TASK_MULTI, .level = MTL_LEVEL_STEP, .classes = SIDE } };
    const mtl_model_desc desc = { .inputs = &input, .input_count = 1, .tasks = tasks, .task_count = TASKS,
                                  .encoder = { .cell = MTL_CELL_GRU, .hidden = 64, .layers = 2,
                                               .bidirectional = 1 } };
    const mtl_trainer_desc how = { .lr = 4e-3f, .clip_norm = 5, .schedule = MTL_SCHEDULE_COSINE,
                                   .total_steps = STEPS };
    static image known[KNOWN], unseen[NEW];
    static plain baseline;
    mtl_error err = {0};
    mtl_model *model = mtl_model_create(&desc, &err);
    mtl_trainer *trainer = mtl_trainer_create(model, &how, &err);
    for (int n = 0; n < KNOWN; n++) make_image(&known[n]);
    for (int n = 0; n < NEW; n++) make_image(&unseen[n]);
    learn_plain(&baseline, known, KNOWN);
    for (int step = 0; step < STEPS && err.code == MTL_OK; step++) {
        const mtl_batch batch = make_batch(&known[step * BATCH % (KNOWN / BATCH * BATCH)], BATCH);
        mtl_step seen;
        if (mtl_train_step(trainer, &batch, 1, &seen, &err) == MTL_OK && step % 500 == 499)
            printf("%d steps: losses %.3f and %.3f\n", step + 1, seen.task_loss[SHAPE], seen.task_loss[MASK]);
    }
    if (!err.code) judge(model, &baseline, unseen, &err);
    if (err.code) fprintf(stderr, "image_rows: %s\n", err.message);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    return err.code != MTL_OK;
}
