#include "scales.h"

#include <math.h>

#include "numbers.h"

int feature_input(const mtl_model_desc *desc)
{
    size_t i;
    for (i = 0; i < desc->input_count; i++)
        if (desc->inputs[i].features) return (int)i;
    return -1;
}

void find_feature_scales(corpus *all)
{
    size_t f, i, k, width = arrlenu(all->features);
    for (f = 0; f < width; f++) {
        moments of = { 0 };
        for (i = 0; i < arrlenu(all->train); i++)
            for (k = 0; k < all->train[i].rows; k++)
                if (!isnan(all->train[i].features[k * width + f]))
                    add_value(&of, all->train[i].features[k * width + f]);
        if (!(of.count > 0))
            fail("%s: feature %s has no number at all in the training data; leave it out of --features",
                 all->train[0].path, all->features[f]);
        arrput(all->means, of.mean);
        arrput(all->scales, nearest_real(deviation(&of)));
    }
}

/* Mean and deviation of a task's next number, and how many digits its answers are worth: a float's, or,
   for numbers so far from 0 that a float would lose their differences, those that tell the distance from
   the mean as a float does. */
static void add_task_mean(task *of, double mean, mtl_real scale)
{
    double far = scale > 0 ? fabs(mean) / scale : 1e10;
    arrput(of->means, mean);
    arrput(of->scales, scale);
    arrput(of->digits, mean == 0 || far < 1000 ? 0 : far > 1e9 ? 17 : 7 + (int)ceil(log10(far)));
}

/* Number j of a task's items in one data set. */
static void add_targets(moments *to, const dataset *set, int index, size_t j, size_t width)
{
    const target *of = set->targets, *end = of + arrlenu(of);
    size_t k;
    while (of < end && of->task != index) of++;
    for (k = j; of < end && k < arrlenu(of->values); k += width)
        if (!isnan(of->values[k])) add_value(to, of->values[k]);
}

void find_target_scales(corpus *all)
{
    size_t i, t, j;
    for (t = 0; t < arrlenu(all->tasks); t++)
        for (j = 0; j < all->tasks[t].width && kind_has_numbers(all->tasks[t].kind); j++) {
            task *to = &all->tasks[t];
            moments of = { 0 };
            for (i = 0; i < arrlenu(all->train); i++)
                add_targets(&of, &all->train[i], (int)t, j, to->width);
            if (kind_has_counts(to->kind)) add_task_mean(to, 0, nearest_real(of.mean));
            else add_task_mean(to, of.mean, nearest_real(deviation(&of)));
        }
}

void set_means(const corpus *all, mtl_model *model, int in_file, mtl_error *err)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    mtl_real *means = NULL;
    size_t i, j;
    for (i = 0; i < arrlenu(all->means); i++) arrput(means, in_file ? nearest_real(all->means[i]) : 0);
    for (i = 0; means && i < desc->input_count; i++)
        if (desc->inputs[i].features) mtl_model_set_feature_scale(model, (int)i, means, all->scales, err);
    for (i = 0; i < arrlenu(all->tasks); i++) {
        const task *of = &all->tasks[i];
        const int index = mtl_model_task(model, of->name);
        if (index < 0 || !kind_has_numbers(of->kind)) continue;
        arrsetlen(means, 0);
        for (j = 0; j < of->width; j++) arrput(means, in_file ? nearest_real(of->means[j]) : 0);
        mtl_model_set_target_scale(model, index, means, of->scales, err);
    }
    arrfree(means);
}

void note_means(const corpus *all, mtl_model *model, mtl_error *err)
{
    char *text = NULL;
    size_t i, j;
    for (i = 0; i < arrlenu(all->means); i++) add_text(&text, "%s%.17g", i ? "," : "", all->means[i]);
    if (text) mtl_model_note(model, "feature_means", text, err);
    arrfree(text);
    for (i = 0; i < arrlenu(all->tasks); i++)
        for (j = 0; j < arrlenu(all->tasks[i].means); j++)
            add_text(&text, "%s%.17g", text ? "," : "", all->tasks[i].means[j]);
    if (text) mtl_model_note(model, "target_means", text, err);
    arrfree(text);
}

/* Reads the next number of a note of means; 0 when it is not the one that the model's own float rounds. */
static int read_mean(const char **text, mtl_real stored, double *mean)
{
    size_t length = *text ? strcspn(*text, ",") : 0;
    if (!length || !mtl_text_number(*text, length, mean) || nearest_real(*mean) != stored) return 0;
    *text += length + ((*text)[length] == ',');
    return 1;
}

void load_means(corpus *all, mtl_model *model)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    const char *features = mtl_model_note(model, "feature_means", NULL, NULL),
               *targets = mtl_model_note(model, "target_means", NULL, NULL);
    const mtl_real *mean, *scale;
    double exact = 0, *exacts = NULL;
    int input = feature_input(desc), f, known = 1;
    mtl_error err = { 0 };
    size_t i, j, n = 0;
    if (input >= 0) known = mtl_model_feature_scale(model, input, &mean, &scale);
    for (f = 0; input >= 0 && known && f < desc->inputs[input].features; f++) {
        known = read_mean(&features, mean[f], &exact);
        arrput(all->means, exact);
        arrput(all->scales, scale[f]);
    }
    for (i = 0; i < arrlenu(all->tasks) && known; i++)
        for (j = 0; j < all->tasks[i].width && known && kind_has_numbers(all->tasks[i].kind); j++) {
            known = mtl_model_target_scale(model, (int)i, &mean, &scale) &&
                    read_mean(&targets, mean[j], &exact);
            arrput(exacts, exact);
        }
    if (!known) arrfree(all->means), arrfree(all->scales);
    for (i = 0; i < arrlenu(all->tasks); i++)
        for (j = 0; j < all->tasks[i].width && kind_has_numbers(all->tasks[i].kind); j++)
            if (known && mtl_model_target_scale(model, (int)i, &mean, &scale))
                add_task_mean(&all->tasks[i], exacts[n++], scale[j]);
            else add_task_mean(&all->tasks[i], 0, 0);
    if (known) set_means(all, model, 0, &err);
    check(&err);
    arrfree(exacts);
}

double answer_value(const task *of, size_t j, double centred)
{
    char text[40];
    double value = of->means[j] + centred;
    if (!of->digits[j]) return clamp(of, (double)nearest_real(value));
    snprintf(text, sizeof text, "%.*e", of->digits[j] - 1, value);
    mtl_text_number(text, strlen(text), &value);
    return clamp(of, value);
}
