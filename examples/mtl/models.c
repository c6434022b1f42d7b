#include "models.h"

#include "scales.h"
#include "system.h"

void fail_model(const char *path, const mtl_error *err)
{
    const int named = strstr(err->message, path) != NULL;
    fail("%s%s%s", named ? "" : path, named ? "" : ": ", err->message);
}

mtl_model *load_model(const char *path)
{
    mtl_error err = { 0 };
    mtl_model *model;
    if (file_kind(path, NULL) == FILE_FOLDER) fail("%s: is a directory; expected a model file", path);
    model = mtl_model_load(path, &err);
    if (err.code) fail_model(path, &err);
    return model;
}

const char *label_text(const mtl_model *model, int index, int label, char number[24])
{
    const char *text = mtl_model_label(model, index, label);
    if (text) return text;
    snprintf(number, 24, "%d", label);
    return number;
}

static void corpus_columns_from_model(const settings *given, corpus *all, const mtl_model *model)
{
    const char *name;
    source in = { 0 };
    in.path = given->model_path;
    while ((name = mtl_model_tokens(model, arrlenu(all->columns))) != NULL) add_tokens(all, &in, NULL, name);
}

void corpus_from_model(const settings *given, corpus *all, const mtl_model *model)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    size_t i;
    int label;
    for (i = 0; i < desc->task_count; i++) {
        task of = { 0 };
        char number[24];
        of.name = desc->tasks[i].name;
        of.kind = kind_of(&desc->tasks[i]);
        all->predicts_words |= of.kind->task->target == MTL_TARGET_WORDS;
        if (kind_is_made(of.kind)) continue;                        /* they stand last */
        of.path = given->model_path;
        of.width = kind_has_numbers(of.kind) ? (size_t)desc->tasks[i].width : 1;
        for (label = 0; label < desc->tasks[i].classes && kind_has_classes(of.kind); label++) {
            const char *text = label_text(model, (int)i, label, number);
            names_add(&of.labels, text, strlen(text));
        }
        of.classes = (size_t)desc->tasks[i].classes;
        if (given->command == EVAL) report_scheme(&of);
        arrput(all->tasks, of);
    }
    corpus_columns_from_model(given, all, model);
    all->closed = 1;
    all->only = given->only;
    all->max_tokens = (size_t)given->max_tokens;
    for (i = 0; i < arrlenu(given->only); i++)
        if (!corpus_find(all, given->only[i]))
            fail_usage("--only %s: no such task%s", given->only[i],
                       suggestion(given->only[i], corpus_task_names(all)));
    for (i = 0; i < arrlenu(given->clamps); i++) apply_clamp(all, given->clamps[i]);
}

void check_inputs(const settings *given, corpus *all, mtl_model *model)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    int input = feature_input(desc);
    const char *features;
    mtl_error err = { 0 };
    if (input >= 0 && !arrlenu(given->frames))
        fail_usage("%s reads rows of numbers: give --frames FILE.csv", given->model_path);
    if (input < 0 && arrlenu(given->frames))
        fail_usage("%s reads text: give %s instead of --frames", given->model_path,
                   given->command == EVAL ? "--data FILE" : "lines on standard input");
    if (input < 0 && !desc->inputs[0].words)
        fail("%s reads token ids: it stores no words", given->model_path);
    if (input < 0) return;
    if (desc->input_count > 1 && !desc->inputs[desc->input_count - 1].reads)
        fail("%s has %zu inputs; the command can feed one of numbers", given->model_path, desc->input_count);
    features = mtl_model_note(model, "features", NULL, &err);
    all->sequence = given->sequence ? given->sequence : mtl_model_note(model, "sequence", NULL, &err);
    all->gaps = mtl_model_note(model, "gaps", NULL, &err);
    all->features = given->features;
    all->sequence_by = given->sequence ? "--sequence names" : "the model reads (--sequence may name another)";
    all->features_by = given->features ? "--features names" : "the model reads (--features may name others)";
    if (!arrlenu(all->features) && features) add_list(&all->features, features);
    if ((int)arrlenu(all->features) != desc->inputs[input].features)
        fail_usage("--features names %zu columns; %s was trained on %d", arrlenu(all->features),
                   given->model_path, desc->inputs[input].features);
}

size_t count_parameters(mtl_model *model)
{
    const mtl_parameters *set = mtl_model_parameters(model);
    size_t i, sum = 0;
    for (i = 0; i < set->count; i++) sum += set->tensors[i]->count;
    return sum;
}
