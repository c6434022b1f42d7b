#include "lm.h"

static const char NAME[] = "lm";
enum { WORDS_BESIDE = 500 };                /* that are told apart, by default, where it is not alone */
static const float DROPOUT = 0.5f;          /* of the rows that it reads */

static double lm_weight(const settings *given)
{
    double x = 0;
    if (!mtl_text_number(given->lm, strlen(given->lm), &x) || x <= 0 || x > 1e6)
        fail_usage("--lm %s: expected the weight of its loss, a number above 0, at most 1000000, such as "
                   "0.1, or none", given->lm);
    return x;
}

void check_lm(const settings *given)
{
    if (given->lm_words && !given->lm) fail_usage("--lm-words: is for --lm WEIGHT, which needs to be given");
    if (!given->lm || strcmp(given->lm, "none") == 0) return;
    if (arrlenu(given->frames))
        fail_usage("--lm: is for text; --frames are rows of numbers, which are no words");
    (void)lm_weight(given);
}

void check_lm_tasks(const settings *given, const corpus *all)
{
    if (given->lm && corpus_find(all, NAME))
        fail_usage("--lm: the data have a task named %s: rename its column, or leave it out with --only",
                   NAME);
}

int is_lm(const settings *given, const char *name) { return given->lm && strcmp(name, NAME) == 0; }

mtl_task_desc make_lm_task(const settings *given, const corpus *all)
{
    const size_t words = arrlenu(all->vocabulary.list);
    const size_t wanted = given->lm_words ? (size_t)given->lm_words
        : arrlenu(all->tasks) ? (size_t)WORDS_BESIDE : words;
    mtl_task_desc desc = { 0 };
    mtl_error err = { 0 };
    size_t i;
    desc.name = NAME;
    desc.kind = MTL_TASK_LM;
    desc.level = MTL_LEVEL_STEP;
    desc.classes = (int)(wanted + 1 < words ? wanted + 1 : words);
    desc.weight = (float)lm_weight(given);
    desc.dropout = DROPOUT;
    for (i = 0; i < arrlenu(given->assignments); i++)
        if (is_lm(given, given->assignments[i].task))
            mtl_field_set(given->assignments[i].field, &desc, given->assignments[i].text, &err);
    check(&err);
    return desc;
}

mtl_task_desc *add_lm_task(const settings *given, const corpus *all, mtl_model_desc *desc)
{
    mtl_task_desc *tasks = NULL, lm;
    mtl_error err = { 0 };
    size_t i;
    if (!given->lm) return NULL;
    for (i = 0; i < desc->task_count; i++) arrput(tasks, desc->tasks[i]);
    lm = make_lm_task(given, all);
    lm.tap.from = desc->columns[0].name;
    arrput(tasks, lm);
    desc->tasks = tasks;
    desc->task_count = arrlenu(tasks);
    if (!mtl_model_size(desc, &err) && strcmp(err.name, NAME) == 0)
        fail_usage("--lm: %s (--layers 1; --share levels has a column a layer, of which it reads the lowest)",
                   err.message);
    return tasks;
}
