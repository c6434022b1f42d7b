/* custom_input.c - an input of your own: ids without a vocabulary, by hashing. An id's row is the sum of rows
   of a small table that hashes of it choose (Svenstrup et al. 2017, without their importance weights). 1000
   ids have one of 4 classes each. 200 rows serve them where two hashes choose: hardly any two ids have both
   rows in common. Where one hash chooses, five share a row. Run: build/custom_input */
#include "custom_common.h"

typedef struct hashed_options { int rows, hashes; } hashed_options;
static const mtl_field hashed_fields[] = {
    { "rows", MTL_INT, offsetof(hashed_options, rows), 1000, 2, 100000000, "of the table", NULL, 0, 0 },
    { "hashes", MTL_INT, offsetof(hashed_options, hashes), 2, 1, 8, "rows that are added up", NULL, 0, 0 } };
typedef struct hashed { const mtl_tensor *table; mtl_activation *y; int *rows; size_t hashes; } hashed;
/* Tensor INPUT.table [rows][width]. No EMBEDDING: updates of single rows of these may wait. */
static mtl_status hashed_build(mtl_input_part *part, mtl_parameters *set, mtl_error *err)
{
    const size_t rows = (size_t)((const hashed_options *)part->desc->options)->rows;
    char name[128];
    snprintf(name, sizeof name, "%s.table", part->desc->name);
    part->width = (size_t)part->desc->width;
    part->data = mtl_parameters_add(set, name, rows, part->width, MTL_TENSOR_WEIGHT, err);    /* N(0, 1) */
    return (mtl_status)err->code;
}
/* The end of MurmurHash3: each bit of the id, and k, matter to all bits. */
static int hashed_row(unsigned id, unsigned k, size_t rows)
{
    unsigned h = id + (k + 1) * 0x9e3779b9u;
    h = (h ^ h >> 16) * 0x85ebca6bu, h = (h ^ h >> 13) * 0xc2b2ae35u;
    return (int)((h ^ h >> 16) % rows);
}
static void hashed_backward(mtl_run *run, void *data)
{
    const hashed *p = data;
    const mtl_activation *y = p->y;
    int add;
    mtl_real *grad = mtl_run_tensor_grad(run, p->table, &add);
    if (!grad || run->arena->counting) return;
    if (!add) memset(grad, 0, p->table->count * sizeof *grad);                  /* for rows that no id has */
    for (size_t i = 0; i < y->rows * p->hashes; i++)
        for (size_t j = 0; j < y->width; j++)
            grad[(size_t)p->rows[i] * y->width + j] += y->grad[i / p->hashes * y->stride + j];
}
static mtl_activation *hashed_forward(mtl_run *run, const mtl_input_part *part, const mtl_input *input)
{
    const hashed_options *how = part->desc->options;
    const size_t rows = mtl_run_rows(run, NULL, MTL_LEVEL_STEP), width = part->width;
    mtl_activation *y = mtl_run_activation(run, part->desc->name, rows, width);
    hashed *p = mtl_run_make(run, sizeof *p);
    if (!y || !p) return NULL;
    p->table = part->data, p->y = y, p->hashes = (size_t)how->hashes;
    p->rows = mtl_run_push(run, rows * p->hashes * sizeof *p->rows);            /* [N][hashes], packed */
    for (size_t s = 0, i = 0, steps; p->rows && (steps = mtl_run_steps(run, y, s)) > 0; s++)
        for (size_t t = 0; t < steps; t++, i++) {                           /* i: the caller's order */
            const size_t n = mtl_run_row(run, y, s, t);
            memset(y->value + n * y->stride, 0, width * sizeof(mtl_real));
            for (unsigned k = 0; k < p->hashes; k++) {
                const int row = hashed_row((unsigned)input->ids[i], k, p->table->shape[0]);
                p->rows[n * p->hashes + k] = row;
                for (size_t j = 0; j < width; j++)
                    y->value[n * y->stride + j] += p->table->value[(size_t)row * width + j];
            }
        }
    mtl_run_record(run, y, hashed_backward, p);
    return y;
}
static const mtl_input_kind hashed_kind = {                             /* no verify: any int is an id */
    .kind = { MTL_DESC_INPUT, "hashed", hashed_fields, 2, sizeof(hashed_options) },
    .build = hashed_build, .forward = hashed_forward };
int main(void)
{
    enum { IDS = 1000, STEPS = 10, CHECKED = 5 };
    static int ids[IDS], classes[IDS], lengths[IDS / STEPS];
    hashed_options how = { .rows = 200 };                                       /* hashes: 0, the default */
    const mtl_input_desc input = { .name = "things", .own = &hashed_kind, .options = &how, .width = 16 };
    const mtl_task_desc task = { .name = "class", .tap = { .from = "things" }, .level = MTL_LEVEL_STEP,
                                 .classes = 4, .hidden = { 64 }, .activation = MTL_ACTIVATION_TANH };
    const mtl_model_desc desc = { .inputs = &input, .input_count = 1, .tasks = &task, .task_count = 1,
                                  .encoder = { .hidden = 1 } };
    mtl_batch data = { .sequences = CHECKED, .lengths = lengths, .inputs = &(mtl_input){ .ids = ids },
                       .targets = &(mtl_target){ .labels = classes } };
    mtl_error err = {0};
    for (unsigned i = 0, random = 1; i < IDS; i++, random = random * 1664525u + 1013904223u)
        lengths[i / STEPS] = STEPS, ids[i] = (int)(i * 2654435761u >> 1), classes[i] = (int)(random >> 30);
    custom_check(&desc, &data, &err);
    data.sequences = IDS / STEPS;
    custom_show("two hashes", &desc, &data, 60, &err);
    how.hashes = 1;
    custom_show("one hash", &desc, &data, 60, &err);
    return custom_status(&err);
}
