/* custom_task.c - a kind of task of your own: quantiles of a number, by the pinball loss (Koenker and Bassett
   1978). Numbers whose spread grows with x: 80 % should lie between the outer two. Run: build/custom_task */
#include "mtl_rnn.h"
#include <stdio.h>

enum { LOW, MIDDLE, HIGH, QUANTILES };
typedef struct quantiles { float at[QUANTILES]; } quantiles;          /* share of targets below each */
#define SHARE(name, i, preset) { name, MTL_FLOAT, i * sizeof(float), preset, 0, 1, "", NULL, 0, 0 }
static const mtl_field quantile_fields[] = { SHARE("low", LOW, 0.1), SHARE("middle", MIDDLE, 0.5),
                                             SHARE("high", HIGH, 0.9) };
typedef struct quantile_counts { double items, inside, loss; } quantile_counts;
static mtl_status quantile_check(mtl_task_desc *desc, const char *what, mtl_error *err)
{
    const float *q = ((const quantiles *)desc->options)->at;
    if (q[LOW] < q[MIDDLE] && q[MIDDLE] < q[HIGH]) return MTL_OK;
    return mtl_error_set(err, MTL_ERROR_FIELD, what, -1, "quantiles must rise: low < middle < high");
}
static mtl_status quantile_build(mtl_task_part *part, mtl_parameters *set, mtl_error *err)
{
    (void)set, (void)err;
    part->outputs = QUANTILES, part->width = 1;
    return MTL_OK;
}
/* q (y - x) where the target y lies above the answer x, (1 - q) (x - y) below. */
static mtl_real pinball(const mtl_task_part *part, size_t j, mtl_real x, mtl_real y, mtl_real *slope)
{
    const mtl_real q = (mtl_real)((const quantiles *)part->desc->options)->at[j];
    *slope = y > x ? -q : 1 - q;
    return (x - y) * *slope;
}
static mtl_activation *quantile_loss(mtl_run *run, const mtl_task_part *part, const mtl_loss_items *items,
                                     mtl_activation *x)
{
    return mtl_loss_of_outputs(run, part, items, x, pinball);
}
static int quantile_count(const mtl_task_part *part, const mtl_count *c)
{
    quantile_counts *sums = c->counts;
    for (size_t i = c->first; c->target->values && i < c->first + c->items; i++) {
        const mtl_real y = c->target->values[i], *q = c->answer->values + i * QUANTILES;
        mtl_real slope;
        if (mtl_is_missing(y)) continue;
        sums->items++, sums->inside += y > q[LOW] && y <= q[HIGH];
        for (size_t j = 0; j < QUANTILES; j++) sums->loss += (double)pinball(part, j, q[j], y, &slope);
    }
    return MTL_JUDGED_NOT;
}
static void quantile_score(const mtl_task_part *part, const void *counts, mtl_task_score *score)
{
    const quantile_counts *sums = counts;
    (void)part;
    if (!(score->items = (size_t)sums->items)) return;
    score->loss = sums->loss / sums->items, score->own[0] = sums->inside / sums->items;
    score->score = 1 / (1 + score->loss);                            /* for early stopping: more is better */
}
static const mtl_task_kind quantile_kind = {
    .kind = { MTL_DESC_TASK, "quantiles", quantile_fields, QUANTILES, sizeof(quantiles) },
    .target = MTL_TARGET_NUMBERS, .scaled = 1, .output_name = "quantiles",
    .check = quantile_check, .build = quantile_build, .loss = quantile_loss,
    .counts = sizeof(quantile_counts), .count = quantile_count, .score = quantile_score };

int main(void)
{
    enum { N = 2000 };
    static mtl_real x[N], y[N]; static int lengths[N];
    const quantiles usual = {{0}};                                                   /* 0: the defaults */
    const mtl_input_desc input = { .name = "x", .features = 1 };
    const mtl_task_desc task = { .name = "y", .tap = { .from = "x" }, .own = &quantile_kind,
                                 .options = &usual, .hidden = { 16 } };
    const mtl_model_desc desc = { .inputs = &input, .input_count = 1, .tasks = &task, .task_count = 1,
                                  .encoder = { .hidden = 1 } };
    const mtl_batch data = { .sequences = N, .lengths = lengths, .inputs = &(mtl_input){ .rows = x },
                             .targets = &(mtl_target){ .values = y } };
    mtl_task_score score = {0};
    mtl_scores scores = { .tasks = &score };
    mtl_error err = {0};
    for (unsigned i = 0, random = 1; i < N; i++) {
        random = random * 1664525u + 1013904223u, lengths[i] = 1, x[i] = (mtl_real)(i % 97) / 97;
        y[i] = 3 * x[i] * ((mtl_real)(random >> 8) / 16777216 - (mtl_real)0.5);
    }
    mtl_model *model = mtl_model_create(&desc, &err);
    mtl_trainer *trainer = mtl_trainer_create(model, NULL, &err);
    mtl_predictor *predictor = mtl_predictor_create(model, NULL, &err);
    mtl_fit(trainer, &data, 1, NULL, 0, &(mtl_fit_desc){ .epochs = 20 }, NULL, &err);
    if (mtl_evaluate(predictor, &data, 1, &scores, NULL, &err)) fprintf(stderr, "%s\n", err.message);
    else printf("%.1f %% of %zu numbers lie between the outer quantiles\n", 100 * score.own[0], score.items);
    mtl_predictor_destroy(predictor), mtl_trainer_destroy(trainer), mtl_model_destroy(model);
    return err.code != MTL_OK;
}
