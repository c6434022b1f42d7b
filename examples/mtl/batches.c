#include "batches.h"

#include <math.h>

#include "numbers.h"

/* The ids of all words of the corpus, or of a column, for a token input: one look-up for each distinct word,
   through the model's own normalisation, so that training, evaluation and C programs read text alike. */
static int *word_ids(const names *words, const mtl_model *model, int input)
{
    size_t i, count = arrlenu(words->list);
    int *ids = NULL;
    arrsetlen(ids, count);
    for (i = 0; i < count; i++)
        ids[i] = mtl_model_word(model, input, words->list[i].key, strlen(words->list[i].key));
    return ids;
}

/* The characters of all words of the corpus, for a model's input of characters. */
static void spell_words(const names *words, const mtl_model *model, int input, mtl_spellings *to)
{
    size_t i, count = arrlenu(words->list), used = 0, *begins = NULL;
    int *characters = NULL;
    arrsetlen(begins, count + 1);
    begins[0] = 0;
    for (i = 0; i < count; i++) {
        const char *word = words->list[i].key;
        const size_t length = strlen(word);
        arrsetlen(characters, used + length);
        used += mtl_model_spell(model, input, word, length, characters + used);
        begins[i + 1] = used;
    }
    to->count = count;
    to->begins = begins;
    to->characters = characters;
}

/* What an input of text has for each token of a data set. */
static void make_tokens(corpus *all, dataset *set, const mtl_model *model, int index, mtl_input *input)
{
    const mtl_input_desc *desc = &mtl_model_describe(model)->inputs[index];
    const int column = desc->tokens ? find_tokens(all, desc->tokens) : -1;
    const names *words = column < 0 ? &all->words : &all->columns[column].words;
    const int *tokens = column < 0 ? set->words : set->tokens[column];
    int *table, *ids = NULL;
    size_t k;
    if (mtl_input_kind_of(desc)->reads_spellings) {
        set->batch_spellings = (mtl_spellings *)checked_realloc(NULL, sizeof *set->batch_spellings);
        spell_words(words, model, index, set->batch_spellings);
        input->spellings = set->batch_spellings;
        input->ids = tokens;
        return;
    }
    table = word_ids(words, model, index);
    arrsetlen(ids, set->rows);
    for (k = 0; k < set->rows; k++) ids[k] = table[tokens[k]];
    arrput(set->batch_ids, ids);
    arrfree(table);
    input->ids = ids;
}

/* The rows for the model, their means taken off; a gap is the mean. stored: means that the model takes off
   itself, or NULL. */
static void centre_rows(const corpus *all, dataset *set, const mtl_real *stored)
{
    size_t i, width = arrlenu(all->features), count = set->rows * width;
    arrsetlen(set->rows_centred, count);
    for (i = 0; i < count; i++) {
        const double x = set->features[i], mean = all->means ? all->means[i % width] : 0;
        set->rows_centred[i] = !isnan(x) ? nearest_real(x - mean) : stored ? stored[i % width] : 0;
    }
    arrfree(set->features);
}

static void centre_values(const corpus *all, target *of)
{
    const task *task = &all->tasks[of->task];
    size_t i;
    arrsetlen(of->centred, arrlenu(of->values));
    for (i = 0; i < arrlenu(of->values); i++)
        of->centred[i] = isnan(of->values[i]) ? (mtl_real)NAN
                                              : nearest_real(of->values[i] - task->means[i % task->width]);
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

/* Fills set->batch_inputs for the model's inputs: token inputs read the words or the tokens beside them, a
   feature input the CSV file's rows. */
static void make_inputs(corpus *all, dataset *set, const mtl_model *model)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    const mtl_real *mean, *scale;
    size_t i;
    for (i = 0; i < desc->input_count && !desc->inputs[i].reads; i++) {
        mtl_input input = { 0 };
        if (desc->inputs[i].vocabulary) make_tokens(all, set, model, (int)i, &input);
        if (desc->inputs[i].features)
            centre_rows(all, set, mtl_model_feature_scale(model, (int)i, &mean, &scale) ? mean : NULL);
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
        inputs[i] = batch->inputs[i];
        inputs[i].ids = batch->inputs[i].ids ? batch->inputs[i].ids + row : NULL;
        inputs[i].rows =
            batch->inputs[i].rows ? batch->inputs[i].rows + row * (size_t)desc->inputs[i].features : NULL;
    }
    one.sequences = 1;
    one.lengths = batch->lengths + index;
    one.inputs = inputs;
    return one;
}

/* ---- parts of a data set ------------------------------------------------------------------------------- */

/* Numbers in an item of `values`. */
static size_t target_width(const mtl_task_desc *task)
{
    return (size_t)(task->classes ? task->classes : task->width ? task->width : 1);
}

unsigned char *find_labelled(const mtl_batch *batch, const mtl_model_desc *desc, const int *chosen)
{
    unsigned char *keep = NULL;
    size_t s, i, n, row = 0;
    memset(arraddnptr(keep, batch->sequences), 0, batch->sequences);
    for (s = 0; s < batch->sequences; row += (size_t)batch->lengths[s++])
        for (i = 0; i < arrlenu(chosen); i++) {
            const mtl_target *of = &batch->targets[chosen[i]];
            const mtl_task_desc *task = &desc->tasks[chosen[i]];
            const int step = task->level == MTL_LEVEL_STEP;
            const size_t first = step ? row : s, width = target_width(task);
            for (n = first; n < first + (step ? (size_t)batch->lengths[s] : 1); n++)
                keep[s] |= (of->labels && of->labels[n] != MTL_MISSING) ||
                           (of->values && !isnan(of->values[n * width]));
        }
    return keep;
}

/* The sequences that are kept of an array with `size` bytes for each step, or for each sequence. NULL stays
   NULL. The caller's to free. */
static void *pick_array(const mtl_batch *batch, const unsigned char *keep, const void *from, size_t size,
                        int per_step)
{
    const char *next = (const char *)from;
    char *all = NULL;
    size_t s;
    for (s = 0; from && s < batch->sequences; s++) {
        const size_t bytes = size * (per_step ? (size_t)batch->lengths[s] : 1);
        if (keep[s]) memcpy(arraddnptr(all, bytes), next, bytes);
        next += bytes;
    }
    if (from && !all) arrsetcap(all, 1);
    return all;
}

static mtl_target pick_target(const mtl_batch *batch, const unsigned char *keep, const mtl_task_desc *task,
                              const mtl_target *from)
{
    const int step = task->level == MTL_LEVEL_STEP;
    mtl_target to = *from;
    to.labels = (const int *)pick_array(batch, keep, from->labels, sizeof(int), step);
    to.values = (const mtl_real *)pick_array(batch, keep, from->values, target_width(task) * sizeof(mtl_real),
                                             step);
    to.strange = (const unsigned *)pick_array(batch, keep, from->strange, sizeof(unsigned), step);
    return to;
}

mtl_batch pick_batch(const mtl_batch *batch, const mtl_model_desc *desc, const int *chosen,
                     const unsigned char *keep)
{
    mtl_batch to = *batch;
    mtl_input *inputs = NULL;
    mtl_target *targets = NULL;
    size_t i;
    to.lengths = (const int *)pick_array(batch, keep, batch->lengths, sizeof(int), 0);
    for (i = 0, to.sequences = 0; i < batch->sequences; i++) to.sequences += keep[i] != 0;
    for (i = 0; i < desc->input_count && !desc->inputs[i].reads; i++) {
        const mtl_input *from = &batch->inputs[i];
        mtl_input input = *from;
        input.ids = (const int *)pick_array(batch, keep, from->ids, sizeof(int), 1);
        input.rows = (const mtl_real *)pick_array(batch, keep, from->rows, (size_t)desc->inputs[i].features *
                                                  sizeof(mtl_real), 1);
        arrput(inputs, input);
    }
    for (i = 0; i < arrlenu(chosen); i++)
        arrput(targets, pick_target(batch, keep, &desc->tasks[chosen[i]], &batch->targets[chosen[i]]));
    to.inputs = inputs;
    to.targets = targets;
    return to;
}

mtl_batch *labelled_batches(const mtl_batch *from, const mtl_model_desc *desc, const int *chosen)
{
    mtl_batch *picked = NULL;
    size_t i;
    for (i = 0; i < arrlenu(from); i++) {
        unsigned char *keep = find_labelled(&from[i], desc, chosen);
        mtl_batch one = pick_batch(&from[i], desc, chosen, keep);
        if (one.sequences) arrput(picked, one);
        arrfree(keep);
    }
    return picked;
}

void check_sampler_weights(const settings *given, const corpus *all)
{
    const char **paths = NULL;
    size_t i, k;
    for (k = 0; k < arrlenu(all->train); k++) arrput(paths, all->train[k].path);
    for (i = 0; i < arrlenu(given->sampler_weights); i++) {
        const char *text = given->sampler_weights[i], *equals = strrchr(text, '=');
        const size_t length = equals ? (size_t)(equals - text) : 0;
        double x;
        if (!length || !mtl_text_number(equals + 1, strlen(equals + 1), &x) || x < 0 || x > 1e6)
            fail_usage("--sampler-weight %s: expected FILE=X, X from 0 to 1000000", text);
        for (k = 0; k < arrlenu(paths); k++)
            if (strlen(paths[k]) == length && memcmp(paths[k], text, length) == 0) break;
        if (k == arrlenu(paths))
            fail_usage("--sampler-weight %s: no such file among the training data%s", text,
                       suggestion(text, paths));
    }
    arrfree(paths);
}

const float *sampler_weights(const settings *given, const mtl_batch *train)
{
    float *weights = NULL;
    size_t i, k;
    for (k = 0; k < arrlenu(train) && arrlenu(given->sampler_weights); k++) {
        double x = 1;
        for (i = 0; i < arrlenu(given->sampler_weights); i++) {
            const char *text = given->sampler_weights[i], *number = strrchr(text, '=') + 1;
            if (strlen(train[k].name) == (size_t)(number - 1 - text) &&
                memcmp(train[k].name, text, strlen(train[k].name)) == 0)
                mtl_text_number(number, strlen(number), &x);
        }
        arrput(weights, (float)x);
    }
    return weights;
}
