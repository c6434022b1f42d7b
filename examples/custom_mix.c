/* custom_mix.c - a mix of your own, with parameters and a backward: a highway past a column (Srivastava et
   al. 2015), y = t H(x) + (1 - t) x with t = 1 / (1 + exp(carry - W x - b)). Run: build/custom_mix
   A tag is the step's own word, but after word 0 that of two steps before: there H must help. */
#include "mtl_rnn.h"
#include <math.h>
#include <stdio.h>

typedef struct highway_options { float carry; } highway_options;
static const mtl_field highway_fields[] = {
    { "carry", MTL_FLOAT, offsetof(highway_options, carry), 1, -100, 100, "for more of x", NULL, 0, 0 } };
typedef struct highway { mtl_activation *x, *h, *z, *y; double carry; } highway;             /* z = W x + b */
#define AT(of) ((double)(of)->value[n * (of)->stride + j])
/* Tensors OWNER.highway.weight and .bias. If the mix names a source `by`, the gate reads that instead. */
static mtl_status highway_build(mtl_mix *mix, mtl_parameters *set, const char *what, mtl_error *err)
{
    char name[128];
    if (mix->count != 2 || mix->widths[0] != mix->widths[1])
        return mtl_error_set(err, MTL_ERROR_FIELD, what, -1, "a highway takes x and H(x), of the same width");
    snprintf(name, sizeof name, "%s.highway", mix->owner);
    mix->width = mix->widths[0];
    mix->data = mtl_dense_add(set, name, mix->by_width ? mix->by_width : mix->width, mix->width, 0, err);
    return (mtl_status)err->code;
}
static double highway_t(const highway *p, size_t n, size_t j) { return 1 / (1 + exp(p->carry - AT(p->z))); }
/* Into the gradient of x, h or z: that of y times dy/dx = 1 - t, dy/dh = t or dy/dz = (h - x) t (1 - t). */
static void highway_send(mtl_run *run, const highway *p, mtl_activation *of)
{
    int add;
    mtl_real *to = mtl_run_grad(run, of, &add);
    for (size_t n = 0; to && !run->arena->counting && n < of->rows; n++)
        for (size_t j = 0; j < of->width; j++) {
            const double t = highway_t(p, n, j), dy = (double)p->y->grad[n * p->y->stride + j];
            const double slope = of == p->x ? 1 - t : of == p->h ? t : (AT(p->h) - AT(p->x)) * t * (1 - t);
            to[n * of->stride + j] = (add ? to[n * of->stride + j] : 0) + (mtl_real)(dy * slope);
        }
}
static void highway_backward(mtl_run *run, void *data)
{
    const highway *p = data;
    highway_send(run, p, p->x), highway_send(run, p, p->h), highway_send(run, p, p->z);
}
static mtl_activation *highway_forward(mtl_run *run, const mtl_mix *mix, mtl_activation *const *sources,
                                       mtl_activation *by)
{
    highway *p = mtl_run_make(run, sizeof *p);
    mtl_activation *z = mtl_dense_forward(run, mix->data, by ? by : sources[0], NULL);
    mtl_activation *y = mtl_run_activation(run, "highway", sources[0]->rows, mix->width);
    if (!p || !z || !y) return NULL;
    p->x = sources[0], p->h = sources[1], p->z = z, p->y = y;
    p->carry = (double)((const highway_options *)mix->desc->options)->carry;
    for (size_t n = 0; n < y->rows && !run->arena->counting; n++)
        for (size_t j = 0; j < y->width; j++)
            y->value[n * y->stride + j] =
                (mtl_real)(AT(p->x) + highway_t(p, n, j) * (AT(p->h) - AT(p->x)));
    mtl_run_record(run, y, highway_backward, p);
    return y;
}
static const mtl_mix_kind highway_kind = {
    .kind = { MTL_DESC_MIX, "highway", highway_fields, 1, sizeof(highway_options) },
    .build = highway_build, .forward = highway_forward };
int main(void)
{
    enum { N = 200, STEPS = 10, WORDS = 8, WIDTH = 16 };
    static int ids[N * STEPS], tags[N * STEPS], lengths[N];
    const highway_options usual = {0};                                              /* 0: the defaults */
    const mtl_input_desc input = { .name = "words", .vocabulary = WORDS, .width = WIDTH };
    const mtl_task_desc task = { .name = "tags",
        .tap = { .from = "words+encoder", .own = &highway_kind, .options = &usual },
        .level = MTL_LEVEL_STEP, .classes = WORDS };
    const mtl_model_desc desc = { .inputs = &input, .input_count = 1, .tasks = &task, .task_count = 1,
                                  .encoder = { .hidden = WIDTH } };
    const mtl_batch data = { .sequences = N, .lengths = lengths, .inputs = &(mtl_input){ .ids = ids },
                             .targets = &(mtl_target){ .labels = tags } };
    mtl_task_score score = {0};
    mtl_scores scores = { .tasks = &score };
    mtl_error err = {0};
    for (unsigned i = 0, random = 1; i < N * STEPS; i++, random = random * 1664525u + 1013904223u) {
        lengths[i / STEPS] = STEPS, ids[i] = (int)(random >> 29);
        tags[i] = i % STEPS > 1 && ids[i - 1] == 0 ? ids[i - 2] : ids[i];
    }
    mtl_model *model = mtl_model_create(&desc, &err);
    mtl_trainer *trainer = mtl_trainer_create(model, &(mtl_trainer_desc){ .lr = 0.01f }, &err);
    mtl_predictor *predictor = mtl_predictor_create(model, NULL, &err);
    mtl_fit(trainer, &data, 1, NULL, 0, &(mtl_fit_desc){ .epochs = 30 }, NULL, &err);
    if (mtl_evaluate(predictor, &data, 1, &scores, NULL, &err)) fprintf(stderr, "%s\n", err.message);
    else printf("%.1f %% of %zu tags are right\n", 100 * score.accuracy, score.items);
    mtl_predictor_destroy(predictor), mtl_trainer_destroy(trainer), mtl_model_destroy(model);
    return err.code != MTL_OK;
}
