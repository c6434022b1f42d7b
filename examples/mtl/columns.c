#include "columns.h"

#define SHARE(title, key, member) { title, key, offsetof(mtl_task_score, member), 1, 0 }
#define OF_SPANS(title, key, member) { title, key, offsetof(mtl_task_score, member), 1, 1 }
#define AMOUNT(title, key, member) { title, key, offsetof(mtl_task_score, member), 0, 0 }
#define LAST { NULL, NULL, 0, 0, 0 }
static const figure class_figures[] = { SHARE("accuracy", "accuracy", accuracy), LAST };
static const figure tags_figures[] = {
    SHARE("token accuracy", "token_accuracy", accuracy),
    OF_SPANS("span precision", "span_precision", span_precision),
    OF_SPANS("recall", "span_recall", span_recall),
    OF_SPANS("F1", "span_f1", span_f1),
    LAST
};
static const figure real_figures[] = {
    AMOUNT("RMSE", "rmse", rmse), AMOUNT("MAE", "mae", mae), SHARE("R2", NULL, r2), LAST
};

const column_kind column_kinds[] = {
    { "class", MTL_TASK_CLASS, MTL_LEVEL_SEQUENCE, TARGET_LABELS, 0,
      "one label", "labels", "label", class_figures },
    { "tags", MTL_TASK_CLASS, MTL_LEVEL_STEP, TARGET_LABELS, 1,
      "one label a token", "tags", "labels", tags_figures },
    { "real", MTL_TASK_REAL, MTL_LEVEL_SEQUENCE, TARGET_NUMBERS, 0,
      "a number", "numbers", "value", real_figures },
    { "reals", MTL_TASK_REAL, MTL_LEVEL_STEP, TARGET_NUMBERS, 0,
      "one a token", "numbers", "values", real_figures },
    { NULL, 0, 0, 0, 0, NULL, NULL, NULL, NULL }
};

const column_kind *kind_by_name(const char *text)
{
    const column_kind *kind;
    for (kind = column_kinds; kind->name; kind++)
        if (strcmp(text, kind->name) == 0) return kind;
    return NULL;
}

const char *kinds_that(int (*is)(const column_kind *))
{
    static char text[100];
    const column_kind *kind, *last = NULL;
    size_t used = 0;
    text[0] = '\0';
    for (kind = column_kinds; kind->name; kind++)
        if (!is || is(kind)) last = kind;
    for (kind = column_kinds; kind->name && used < sizeof text; kind++)
        if (!is || is(kind))
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s",
                                     !used ? "" : kind == last ? " or " : ", ", kind->name);
    return text;
}

const char *kind_fault(const char *text, int in_file)
{
    static char fault[200];
    if (strcmp(text, "multi") == 0)
        snprintf(fault, sizeof fault,
                 "(several labels for a text) is not supported yet; leave this task out%s",
                 in_file ? ": name the others with --only" : "");
    else snprintf(fault, sizeof fault, "is no kind of task; expected %s", kinds_that(NULL));
    return fault;
}

static const column_kind *find_kind(int task, int level)
{
    const column_kind *kind = column_kinds;
    while (kind->name && (kind->task != task || kind->level != level)) kind++;
    return kind;
}

const column_kind *kind_of(const mtl_task_desc *desc) { return find_kind(desc->kind, desc->level); }

const column_kind *kind_at_steps(const column_kind *of) { return find_kind(of->task, MTL_LEVEL_STEP); }

int kind_is_step(const column_kind *of) { return of->level == MTL_LEVEL_STEP; }
int kind_has_labels(const column_kind *of) { return of->target == TARGET_LABELS; }
int kind_has_numbers(const column_kind *of) { return of->target == TARGET_NUMBERS; }

int figure_value(const figure *of, const mtl_task_score *score, double *value)
{
    *value = *(const double *)((const char *)score + of->offset);
    return !of->of_spans || score->spans;
}
