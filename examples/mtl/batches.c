#include "batches.h"

#include <math.h>

#include "numbers.h"

/* The ids of all words of the corpus for a token input: one look-up for each distinct word, through the
   model's own normalisation, so that training, evaluation and C programs read text alike. */
static int *word_ids(corpus *all, const mtl_model *model, int input)
{
    size_t i, count = arrlenu(all->words.list);
    int *ids = NULL;
    arrsetlen(ids, count);
    for (i = 0; i < count; i++)
        ids[i] = mtl_model_word(model, input, all->words.list[i].key, strlen(all->words.list[i].key));
    return ids;
}

/* The rows for the model, their means taken off. */
static void centre_rows(const corpus *all, dataset *set)
{
    size_t i, width = arrlenu(all->features), count = set->rows * width;
    arrsetlen(set->rows_centred, count);
    for (i = 0; i < count; i++)
        set->rows_centred[i] = nearest_real(set->features[i] - (all->means ? all->means[i % width] : 0));
    arrfree(set->features);
}

static void centre_values(const corpus *all, target *of)
{
    const double mean = all->tasks[of->task].mean;
    size_t i;
    arrsetlen(of->centred, arrlenu(of->values));
    for (i = 0; i < arrlenu(of->values); i++)
        of->centred[i] = isnan(of->values[i]) ? (mtl_real)NAN : nearest_real(of->values[i] - mean);
    arrfree(of->values);
}

/* Sets of labels as rows of 0 and 1, a column for each class. */
static void spread_sets(const corpus *all, target *of)
{
    const size_t width = all->tasks[of->task].classes, items = arrlenu(of->sets);
    size_t i, k;
    arrsetlen(of->centred, items * width);
    arrsetlen(of->strange, items);
    for (i = 0; i < items; i++) {
        mtl_real *row = of->centred + i * width;
        const int *set = of->sets[i], missing = set && set[0] == MTL_MISSING;
        for (k = 0; k < width; k++) row[k] = missing ? (mtl_real)NAN : 0;
        for (k = 0, of->strange[i] = 0; k < arrlenu(set) && !missing; k++)
            if (set[k] >= 0) row[set[k]] = 1;
            else of->strange[i]++;
        arrfree(of->sets[i]);
    }
    arrfree(of->sets);
}

/* Fills set->batch_inputs for the model's inputs: all token inputs read the same words, a feature input the
   CSV file's rows. */
static void make_inputs(corpus *all, dataset *set, const mtl_model *model)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    size_t i, k;
    for (i = 0; i < desc->input_count && !desc->inputs[i].reads; i++) {
        mtl_input input = { 0 };
        if (desc->inputs[i].vocabulary) {
            int *table = word_ids(all, model, (int)i), *ids = NULL;
            arrsetlen(ids, set->rows);
            for (k = 0; k < set->rows; k++) ids[k] = table[set->words[k]];
            arrput(set->batch_ids, ids);
            arrfree(table);
            input.ids = ids;
        }
        if (desc->inputs[i].features) centre_rows(all, set);
        input.rows = set->rows_centred;
        arrput(set->batch_inputs, input);
    }
}

mtl_batch make_batch(corpus *all, dataset *set, const mtl_model *model)
{
    mtl_batch batch = { 0 };
    mtl_target none = { 0 };
    size_t i;
    make_inputs(all, set, model);
    for (i = 0; i < arrlenu(all->tasks); i++) arrput(set->batch_targets, none);
    for (i = 0; i < arrlenu(set->targets); i++) {
        mtl_target *to = &set->batch_targets[set->targets[i].task];
        if (set->targets[i].values) centre_values(all, &set->targets[i]);
        if (set->targets[i].sets) spread_sets(all, &set->targets[i]);
        to->strange = set->targets[i].strange;
        to->labels = set->targets[i].labels;
        to->values = set->targets[i].centred;
        to->unknown = all->tasks[set->targets[i].task].unknown;
        to->unknown_count = arrlenu(to->unknown);
    }
    batch.sequences = arrlenu(set->lengths);
    batch.lengths = set->lengths;
    batch.inputs = set->batch_inputs;
    batch.targets = set->batch_targets;
    batch.name = set->path;
    return batch;
}

mtl_batch *make_batches(corpus *all, dataset *sets, const mtl_model *model)
{
    mtl_batch *batches = NULL;
    size_t i;
    for (i = 0; i < arrlenu(sets); i++) arrput(batches, make_batch(all, &sets[i], model));
    return batches;
}

mtl_batch one_sequence(const mtl_batch *batch, const mtl_model_desc *desc, size_t index, size_t row,
                       mtl_input *inputs)
{
    mtl_batch one = { 0 };
    size_t i;
    for (i = 0; i < desc->input_count && !desc->inputs[i].reads; i++) {
        inputs[i].ids = batch->inputs[i].ids ? batch->inputs[i].ids + row : NULL;
        inputs[i].rows =
            batch->inputs[i].rows ? batch->inputs[i].rows + row * (size_t)desc->inputs[i].features : NULL;
    }
    one.sequences = 1;
    one.lengths = batch->lengths + index;
    one.inputs = inputs;
    return one;
}
