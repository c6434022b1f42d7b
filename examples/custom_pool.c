/* custom_pool.c - a pool of your own: attention, sum_t a_t x_t with a = softmax over the steps of w . k_t. A
   mix makes b_t x_t of each step, b = T a, and the pool `mean` above it adds these up and divides by T. One
   step of each sequence is marked, and its word is the sequence's class. Run: build/custom_pool */
#include "custom_common.h"
#include <math.h>

typedef struct attention { mtl_activation *x, *z, *y; mtl_real *b; } attention;     /* z = w . k, b: [N] */
/* Tensor TASK.attention.weight [1][width of k]: w. k is what the mix names `by`, else x itself. */
static mtl_status attend_build(mtl_mix *mix, mtl_parameters *set, const char *what, mtl_error *err)
{
    char name[128];
    if (mix->count != 1 || mix->level != MTL_LEVEL_STEP)
        return mtl_error_set(err, MTL_ERROR_FIELD, what, -1, "attention takes one source, with a row a step");
    snprintf(name, sizeof name, "%s.attention", mix->owner);
    mix->width = mix->widths[0];
    mix->data = mtl_dense_add(set, name, mix->by_width ? mix->by_width : mix->width, 1, 1, err);
    return (mtl_status)err->code;
}
/* b and y of one sequence, with the largest z taken off, so that no exponential overflows. */
static void attend(const mtl_run *run, const attention *p, size_t s, size_t steps)
{
#define Z(t) ((double)p->z->value[mtl_run_row(run, p->z, s, t) * p->z->stride])
    double most = Z(0), sum = 0;
    for (size_t t = 1; t < steps; t++) most = Z(t) > most ? Z(t) : most;
    for (size_t t = 0; t < steps; t++) sum += exp(Z(t) - most);
    for (size_t t = 0; t < steps; t++) {
        const size_t n = mtl_run_row(run, p->x, s, t);
        p->b[n] = (mtl_real)((double)steps * exp(Z(t) - most) / sum);
        for (size_t j = 0; j < p->y->width; j++)
            p->y->value[n * p->y->stride + j] = p->b[n] * p->x->value[n * p->x->stride + j];
    }
}
/* dx_t = b_t dy_t and dz_t = b_t (dy_t . x_t - mean) with the mean over t of b_t dy_t . x_t = dy_t . y_t. */
static void attend_backward(mtl_run *run, void *data)
{
    const attention *p = data;
    const mtl_activation *x = p->x, *y = p->y;
    int add, add_z;
    mtl_real *dx = mtl_run_grad(run, p->x, &add), *dz = mtl_run_grad(run, p->z, &add_z);
    for (size_t s = 0, steps; (steps = mtl_run_steps(run, y, s)) > 0; s++) {
        double mean = 0;
#define DY_DOT(of, n) custom_dot(y->grad + (n) * y->stride, (of)->value + (n) * (of)->stride, y->width)
        for (size_t t = 0; t < steps; t++) mean += DY_DOT(y, mtl_run_row(run, y, s, t)) / (double)steps;
        for (size_t t = 0; t < steps; t++) {
            const size_t n = mtl_run_row(run, y, s, t), at = n * x->stride, at_z = n * p->z->stride;
            if (dz) dz[at_z] = (add_z ? dz[at_z] : 0) + p->b[n] * (mtl_real)(DY_DOT(x, n) - mean);
            for (size_t j = 0; dx && j < y->width; j++)
                dx[at + j] = (add ? dx[at + j] : 0) + p->b[n] * y->grad[n * y->stride + j];
        }
    }
}
static mtl_activation *attend_forward(mtl_run *run, const mtl_mix *mix, mtl_activation *const *sources,
                                      mtl_activation *by)
{
    attention *p = mtl_run_make(run, sizeof *p);
    mtl_activation *x = sources[0], *z = mtl_dense_forward(run, mix->data, by ? by : x, NULL);
    mtl_activation *y = mtl_run_activation(run, "attention", x->rows, mix->width);
    if (!p || !z || !y) return NULL;
    p->x = x, p->z = z, p->y = y, p->b = mtl_run_push(run, x->rows * sizeof *p->b);
    for (size_t s = 0, steps; p->b && (steps = mtl_run_steps(run, x, s)) > 0; s++) attend(run, p, s, steps);
    mtl_run_record(run, y, attend_backward, p);
    return y;
}
static const mtl_mix_kind attend_kind = {
    .kind = { MTL_DESC_MIX, "attention", NULL, 0, 0 }, .build = attend_build, .forward = attend_forward };
int main(void)
{
    enum { N = 200, STEPS = 8, WORDS = 4, CHECKED = 8 };
    static int words[N * STEPS], marks[N * STEPS], classes[N], lengths[N];
    const mtl_input_desc inputs[] = { { .name = "words", .vocabulary = WORDS, .width = 8 },
                                      { .name = "marks", .vocabulary = 2, .width = 4 } };
    mtl_task_desc task = { .name = "class",
                           .tap = { .from = "words", .by = "marks", .own = &attend_kind },
                           .classes = WORDS, .pool = MTL_POOL_MEAN };
    const mtl_model_desc desc = { .inputs = inputs, .input_count = 2, .tasks = &task, .task_count = 1,
                                  .encoder = { .hidden = 1 } };
    mtl_batch data = { .sequences = CHECKED, .lengths = lengths,
                       .inputs = (mtl_input[]){ { .ids = words }, { .ids = marks } },
                       .targets = &(mtl_target){ .labels = classes } };
    mtl_error err = {0};
    for (unsigned i = 0, random = 1; i < N * STEPS; i++, random = random * 1664525u + 1013904223u) {
        lengths[i / STEPS] = STEPS, words[i] = (int)(random >> 30);
        marks[i] = i % STEPS == i / STEPS * 5 % STEPS, classes[i / STEPS] += marks[i] * words[i];
    }
    custom_check(&desc, &data, &err);
    data.sequences = N;
    custom_show("attention", &desc, &data, 30, &err);
    task.tap = (mtl_mix_desc){ .from = "words+marks" };
    custom_show("mean", &desc, &data, 30, &err);
    return custom_status(&err);
}
