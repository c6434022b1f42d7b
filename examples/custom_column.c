/* custom_column.c - a column of your own: units that recur without a matrix, minGRU (Feng et al. 2024)
       h_t = (1 - z_t) h_{t-1} + z_t u_t      z = 1 / (1 + exp(-W_z x - b_z))      u = W_u x + b_u
   A tag is the last word below 4 so far, which needs a memory. Checks its gradients, trains, saves the model,
   loads it and counts what that one gets right. Run: build/custom_column [FILE] */
#include "custom_common.h"
#include <math.h>

typedef struct min_gru { mtl_activation *a, *y; } min_gru;      /* a = [W_z x + b_z, W_u x + b_u]; y = h */
#define AT_ROW(of, n, j) ((double)(of)->value[(n) * (of)->stride + (j)])
/* Tensors COLUMN.gates.weight and .bias: rows of W_z, then those of W_u. part->states stays 0: each batch
   begins with h = 0, nothing is carried into the next chunk of a long sequence. */
static mtl_status min_gru_build(mtl_column_part *part, mtl_parameters *set, mtl_error *err)
{
    char name[128];
    part->width = (size_t)part->desc->hidden, part->directions = 1;
    snprintf(name, sizeof name, "%s.gates", part->desc->name);
    part->data = mtl_dense_add(set, name, part->inputs, 2 * part->width, 0, err);
    return (mtl_status)err->code;
}
static double min_gru_z(const min_gru *p, size_t n, size_t j) { return 1 / (1 + exp(-AT_ROW(p->a, n, j))); }
/* From a sequence's last step to its first: dh = dy + (1 - z) dh of the step after, du = z dh,
   d(W_z x + b_z) = (u - h_{t-1}) z (1 - z) dh. The dense layer below goes on from there. */
static void min_gru_backward(mtl_run *run, void *data)
{
    const min_gru *p = data;
    const size_t width = p->y->width;
    int add;
    mtl_real *da = mtl_run_grad(run, p->a, &add), *to;
    for (size_t s = 0, steps; da && (steps = mtl_run_steps(run, p->y, s)) > 0; s++)
        for (size_t j = 0; j < width; j++) {
            double dh = 0;
            for (size_t t = steps; t-- > 0;) {
                const size_t n = mtl_run_row(run, p->y, s, t);
                const double z = min_gru_z(p, n, j), u = AT_ROW(p->a, n, width + j);
                const double before = t > 0 ? AT_ROW(p->y, mtl_run_row(run, p->y, s, t - 1), j) : 0;
                to = da + n * p->a->stride + j, dh += (double)p->y->grad[n * p->y->stride + j];
                to[0] = (add ? to[0] : 0) + (mtl_real)(dh * (u - before) * z * (1 - z));
                to[width] = (add ? to[width] : 0) + (mtl_real)(dh * z);
                dh *= 1 - z;
            }
        }
}
static mtl_activation *min_gru_forward(mtl_run *run, const mtl_column_part *part, mtl_activation *x,
                                       const mtl_cell_state *initial, mtl_cell_state *final)
{
    min_gru *p = mtl_run_make(run, sizeof *p);
    mtl_activation *a = mtl_dense_forward(run, part->data, x, NULL);                /* [N][2 width] */
    mtl_activation *y = a ? mtl_run_activation(run, part->desc->name, a->rows, part->width) : NULL;
    (void)initial, (void)final;                                                     /* there are no states */
    if (!p || !y) return NULL;
    p->a = a, p->y = y;
    for (size_t s = 0, steps; (steps = mtl_run_steps(run, y, s)) > 0; s++)
        for (size_t j = 0; j < y->width; j++)
            for (size_t t = 0; t < steps; t++) {
                const size_t n = mtl_run_row(run, y, s, t);
                const double h = t > 0 ? AT_ROW(y, mtl_run_row(run, y, s, t - 1), j) : 0;
                y->value[n * y->stride + j] =
                    (mtl_real)(h + min_gru_z(p, n, j) * (AT_ROW(a, n, y->width + j) - h));
            }
    mtl_run_record(run, y, min_gru_backward, p);
    return y;
}
static const mtl_column_kind min_gru_kind = {
    .kind = { MTL_DESC_COLUMN, "min-gru", NULL, 0, 0 }, .build = min_gru_build, .forward = min_gru_forward };
int main(int argc, char **argv)
{
    enum { N = 200, STEPS = 10, WORDS = 8, KEPT = 4, CHECKED = 8 };
    static int ids[N * STEPS], tags[N * STEPS], lengths[N];
    static const mtl_kind *const own[] = { &min_gru_kind.kind };
    const char *path = argc > 1 ? argv[1] : "build/custom_column.safetensors";
    const mtl_input_desc input = { .name = "words", .vocabulary = WORDS, .width = 8 };
    const mtl_task_desc task = { .name = "tags", .level = MTL_LEVEL_STEP, .classes = KEPT };
    const mtl_model_desc desc = { .inputs = &input, .input_count = 1, .tasks = &task, .task_count = 1,
                                  .encoder = { .own = &min_gru_kind, .hidden = 16 } };
    mtl_batch data = { .sequences = CHECKED, .lengths = lengths, .inputs = &(mtl_input){ .ids = ids },
                       .targets = &(mtl_target){ .labels = tags } };
    mtl_error err = {0};
    for (unsigned i = 0, random = 1; i < N * STEPS; i++, random = random * 1664525u + 1013904223u) {
        lengths[i / STEPS] = STEPS, ids[i] = (int)(random >> 29);
        tags[i] = ids[i] < KEPT ? ids[i] : i % STEPS ? tags[i - 1] : MTL_MISSING;
    }
    custom_check(&desc, &data, &err);
    data.sequences = N;
    mtl_model *model = custom_train(&desc, &data, 30, &err), *loaded;
    mtl_model_save(model, path, &err);
    loaded = mtl_model_load_with(path, &(mtl_load_desc){ .kinds = own, .kind_count = 1 }, &err);
    printf("%.1f %% of the tags are right, by the model in %s\n", custom_right(loaded, &data, &err), path);
    mtl_model_destroy(loaded), mtl_model_destroy(model);
    return custom_status(&err);
}
