#include "columns.h"

enum { LEVELS = 2, MOST_KINDS = 64 };

static const target_words words_of[] = {                            /* by MTL_TARGET_* */
    { { "one label", "one label a token" }, { "labels", "tags" }, { "label", "labels" } },
    { { "a number", "one a token" }, { "numbers", "numbers" }, { "value", "values" } },
    { { "any number of labels, separated by commas", "as many a token, - for none" }, { "sets", "sets" },
      { "labels", "labels" } },
    { { NULL, NULL }, { NULL, NULL }, { NULL, NULL } },             /* no file has data sets' numbers */
    { { "one label of some in an order", "one a token" }, { "labels", "labels" }, { "label", "labels" } },
    { { "a count: 0, 1, 2 ..", "one a token" }, { "counts", "counts" }, { "value", "values" } },
    { { NULL, NULL }, { NULL, NULL }, { NULL, NULL } }              /* nor words that are predicted */
};

/* All kinds of task at all levels: in the library's order, each with its levels. */
static const column_kind *all_kinds(size_t *count)
{
    static column_kind list[MOST_KINDS];
    static size_t filled;
    const mtl_kind *kind;
    size_t i;
    for (i = 0; !filled && (kind = mtl_kind_at(MTL_DESC_TASK, i / LEVELS)) != NULL && i < MOST_KINDS; i++) {
        const mtl_task_kind *task = (const mtl_task_kind *)(const void *)kind;
        list[i].level = (int)(i % LEVELS);
        list[i].task = task;
        list[i].name = task->file_column[i % LEVELS] ? task->file_column[i % LEVELS] : kind->name;
        list[i].words = &words_of[task->target];
    }
    if (!filled) filled = i;
    *count = filled;
    return list;
}

static int is_of_columns(const column_kind *of) { return of->task->file_column[of->level] != NULL; }

const column_kind *kind_number(size_t number)
{
    size_t count, i;
    const column_kind *kind = all_kinds(&count);
    for (i = 0; i < count; i++, kind++)
        if (is_of_columns(kind) && !number--) return kind;
    return NULL;
}

enum { MOST_NUMBERS = 1000000 };            /* of an item */

const column_kind *kind_by_name(const char *text, size_t *width)
{
    const size_t length = strcspn(text, ":");
    const column_kind *kind;
    double count = 1;
    size_t i;
    for (i = 0; (kind = kind_number(i)) != NULL; i++)
        if (strlen(kind->name) == length && memcmp(text, kind->name, length) == 0) break;
    *width = 1;
    if (!kind || !text[length]) return kind;
    if (!kind_has_numbers(kind) || !mtl_text_number(text + length + 1, strlen(text + length + 1), &count) ||
        count < 1 || count > MOST_NUMBERS || count > (double)(size_t)count)
        return NULL;
    *width = (size_t)count;
    return kind;
}

const char *kinds_that(int (*is)(const column_kind *))
{
    static char text[100];
    const column_kind *kind, *last = NULL;
    size_t used = 0, i;
    text[0] = '\0';
    for (i = 0; (kind = kind_number(i)) != NULL; i++)
        if (!is || is(kind)) last = kind;
    for (i = 0; (kind = kind_number(i)) != NULL && used < sizeof text; i++)
        if (!is || is(kind))
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s",
                                     !used ? "" : kind == last ? " or " : ", ", kind->name);
    return text;
}

static const column_kind *find_kind(const mtl_task_kind *task, int level)
{
    size_t count, i = 0;
    const column_kind *list = all_kinds(&count);
    while (i + 1 < count && (list[i].task != task || list[i].level != level)) i++;
    return &list[i];
}

const column_kind *kind_of(const mtl_task_desc *desc)
{
    return find_kind(mtl_task_kind_of(desc), desc->level);
}

const column_kind *kind_at_steps(const column_kind *of)
{
    const column_kind *found = find_kind(of->task, MTL_LEVEL_STEP);
    return is_of_columns(found) ? found : NULL;
}

/* Heads are the library's kinds with the same target: the one that files have columns of is softmax. */
const column_kind *kind_with_head(const column_kind *of, const char *head)
{
    size_t count, i;
    const column_kind *list = all_kinds(&count);
    for (i = 0; i < count && kind_has_one_class(of); i++)
        if (kind_is_read_from(&list[i], of) && (list[i].task->file_column[of->level] || kind_is_step(of)) &&
            strcmp(head, list[i].task->file_column[of->level] ? "softmax" : list[i].name) == 0)
            return &list[i];
    return NULL;
}

int kind_is_read_from(const column_kind *of, const column_kind *column)
{
    return of->level == column->level && of->task->target == column->task->target;
}

int kind_is_step(const column_kind *of) { return of->level == MTL_LEVEL_STEP; }
int kind_has_reals(const column_kind *of) { return of->task->target == MTL_TARGET_NUMBERS; }
int kind_has_counts(const column_kind *of) { return of->task->target == MTL_TARGET_COUNTS; }
int kind_has_numbers(const column_kind *of) { return kind_has_reals(of) || kind_has_counts(of); }
int kind_has_classes(const column_kind *of) { return !kind_has_numbers(of); }
int kind_has_ranks(const column_kind *of) { return of->task->target == MTL_TARGET_RANKS; }
int kind_has_one_class(const column_kind *of)
{
    return of->task->target == MTL_TARGET_LABELS || kind_has_ranks(of);
}
int kind_has_sets(const column_kind *of) { return of->task->target == MTL_TARGET_SET; }
int kind_is_made(const column_kind *of)
{
    return of->task->target == MTL_TARGET_ORIGIN || of->task->target == MTL_TARGET_WORDS;
}

int figure_value(const mtl_figure *of, const mtl_task_score *score, double *value)
{
    *value = *(const double *)((const char *)score + of->offset);
    return of->title[score->level] && (!of->spans || score->spans);
}
