#include "ranks.h"

static double label_number(const task *of, size_t label)
{
    const char *text = of->labels.list[label].key;
    double value;
    if (!mtl_text_number(text, strlen(text), &value))
        fail("%s: task %s: the label '%.40s' is not a number, so its labels have no order of their own; give "
             "it with --ranks %s=LOWEST,..,HIGHEST", of->path, of->name, text, of->name);
    return value;
}

/* Labels that are numbers, by their size: insertion, as there are few. */
static names rank_by_number(const task *of)
{
    const size_t count = arrlenu(of->labels.list);
    size_t *order = NULL, i, k;
    names ranked = { 0 };
    for (i = 0; i < count; i++) {
        const double value = label_number(of, i);
        arrput(order, i);
        for (k = i; k > 0 && label_number(of, order[k - 1]) > value; k--) order[k] = order[k - 1];
        order[k] = i;
    }
    for (i = 0; i < count; i++) {
        const char *text = of->labels.list[order[i]].key;
        if (i && !(label_number(of, order[i - 1]) < label_number(of, order[i])))
            fail("%s: task %s: the labels '%.40s' and '%.40s' are the same number; write it in one way",
                 of->path, of->name, of->labels.list[order[i - 1]].key, text);
        names_add(&ranked, text, strlen(text));
    }
    arrfree(order);
    return ranked;
}

/* Labels as a list has them. */
static names rank_by_list(const task *of, const char *list)
{
    char **labels = NULL;
    names ranked = { 0 };
    size_t i, count;
    add_list(&labels, list);
    for (i = 0; i < arrlenu(labels); i++)
        if (names_add(&ranked, labels[i], strlen(labels[i])) != i)
            fail_usage("--ranks %s=%s: '%s' stands twice", of->name, list, labels[i]);
    arrfree(labels);
    count = arrlenu(ranked.list);
    for (i = 0; i < arrlenu(of->labels.list); i++) {
        const char *text = of->labels.list[i].key;
        if (names_add(&ranked, text, strlen(text)) >= count)
            fail_usage("--ranks %s=%s: the data have the label '%s', too; name all labels, the lowest first",
                       of->name, list, text);
    }
    return ranked;
}

void rank_labels(corpus *all, int index)
{
    task *of = &all->tasks[index];
    const char *list = option_of(all->ranks, of);
    names ranked = list ? rank_by_list(of, list) : rank_by_number(of);
    size_t *place = NULL, i, k, n;
    if (arrlenu(ranked.list) < 2)
        fail("%s: task %s has one label alone in the training data; an order needs two", of->path, of->name);
    for (i = 0; i < arrlenu(of->labels.list); i++) {
        const char *text = of->labels.list[i].key;
        arrput(place, names_add(&ranked, text, strlen(text)));
    }
    for (i = 0; i < arrlenu(all->train); i++)
        for (k = 0; k < arrlenu(all->train[i].targets); k++) {
            target *to = &all->train[i].targets[k];
            for (n = 0; to->task == index && n < arrlenu(to->labels); n++)
                if (to->labels[n] >= 0) to->labels[n] = (int)place[to->labels[n]];
        }
    of->labels = ranked;
    arrfree(place);
}

void check_ranks(const corpus *all)
{
    check_option(all, all->ranks, "--ranks", "TASK=LABEL,LABEL, the lowest first", kind_has_ranks);
}
