#include "reports.h"

#include "json.h"
#include "system.h"

void print_scores(const mtl_model *model, const mtl_scores *scores)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    size_t i;
    for (i = 0; i < scores->task_count; i++) {
        const mtl_task_score *of = &scores->tasks[i];
        const column_kind *kind = kind_of(&desc->tasks[i]);
        const mtl_figure *one;
        double value;
        int first = 1;
        if (!of->items) continue;
        printf("%-16s %-6s ", desc->tasks[i].name, kind->name);
        for (one = kind->task->figures; one->title[0] || one->title[1]; one++) {
            if (!figure_value(one, of, &value)) continue;
            printf(one->share ? "%s%s %.4f" : "%s%s %.6g", first ? "" : "  ", one->title[of->level], value);
            first = 0;
        }
        printf("  (%zu items)\n", of->items);
    }
    if (scores->joint_items) printf("joint accuracy %.4f, ", scores->joint_accuracy);
    printf("mean score %.4f; %zu sequences, %zu tokens\n", scores->score, scores->sequences, scores->tokens);
}

/* Labels that occur in the data or in the answers, the most frequent ones first. A growing array
   of the caller's. */
static size_t *order_classes(const task *of, const size_t *confusion, class_score **scores)
{
    size_t *order = NULL, i, k;
    for (i = 0; i < label_count(of); i++) {
        arrput(*scores, score_class(of, confusion, i));
        if (!(*scores)[i].items && !(*scores)[i].answers) continue;
        arrput(order, i);
        for (k = arrlenu(order) - 1; k > 0 && (*scores)[order[k - 1]].items < (*scores)[i].items; k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
    return order;
}

/* The cells off the diagonal with the largest counts, as a line. */
static void print_confused(const task *of, const size_t *confusion)
{
    enum { MOST = 5 };
    size_t cells = label_count(of) * of->classes, top[MOST + 1], found = 0, i, k;
    for (i = 0; i < cells; i++) {
        if (!confusion[i] || i / of->classes == i % of->classes) continue;
        for (k = found; k > 0 && confusion[top[k - 1]] < confusion[i]; k--) top[k] = top[k - 1];
        top[k] = i;
        if (found < MOST) found++;
    }
    if (found) printf("  most often wrong:");
    for (i = 0; i < found; i++)
        printf("%s %s for %s (%zu)", i ? "," : "", of->labels.list[top[i] % of->classes].key,
               of->labels.list[top[i] / of->classes].key, confusion[top[i]]);
    if (found) putchar('\n');
}

void print_classes(const task *of, const size_t *confusion)
{
    enum { MOST = 30 };
    class_score *scores = NULL;
    size_t *order = order_classes(of, confusion, &scores), i;
    if (arrlenu(order)) printf("\n%-25s precision  recall      F1   items\n", of->name);
    for (i = 0; i < arrlenu(order) && i < MOST; i++) {
        const class_score *one = &scores[order[i]];
        printf("  %-25s  %.4f  %.4f  %.4f  %6zu\n", of->labels.list[order[i]].key, one->precision,
               one->recall, one->f1, one->items);
    }
    if (arrlenu(order) > MOST)
        printf("  and %zu less frequent ones: --json and --confusion tell all\n", arrlenu(order) - MOST);
    print_confused(of, confusion);
    arrfree(order);
    arrfree(scores);
}

/* "classes": {label: scores}, "confusion": {gold: {predicted: items}} with the counts that are not 0. */
static void json_classes(FILE *to, int *first, const task *of, const size_t *confusion)
{
    size_t row, column;
    int first_row = 1;
    json_key(to, first, "classes");
    fputc('{', to);
    for (row = 0; row < label_count(of); row++) {
        class_score score = score_class(of, confusion, row);
        int first_score = 1;
        if (!score.items && !score.answers) continue;
        json_key(to, &first_row, of->labels.list[row].key);
        fputc('{', to);
        json_number(to, &first_score, "precision", score.precision);
        json_number(to, &first_score, "recall", score.recall);
        json_number(to, &first_score, "f1", score.f1);
        json_count(to, &first_score, "items", score.items);
        fputc('}', to);
    }
    fputc('}', to);
    json_key(to, first, "confusion");
    fputc('{', to);
    for (row = 0, first_row = 1; row < label_count(of); row++) {
        int first_cell = 1;
        if (!score_class(of, confusion, row).items) continue;
        json_key(to, &first_row, of->labels.list[row].key);
        fputc('{', to);
        for (column = 0; column < of->classes; column++)
            if (confusion[row * of->classes + column])
                json_count(to, &first_cell, of->labels.list[column].key,
                           confusion[row * of->classes + column]);
        fputc('}', to);
    }
    fputc('}', to);
}

/* classes: the task with its confusion matrix, or NULL. */
static void json_task_score(FILE *to, const column_kind *kind, const mtl_task_score *of, const task *classes,
                            const size_t *confusion)
{
    const mtl_figure *one;
    double value;
    int first = 1;
    fputc('{', to);
    json_key(to, &first, "kind");
    json_string(to, kind->name);
    for (one = kind->task->figures; one->title[0] || one->title[1]; one++)
        if (one->name[of->level] && figure_value(one, of, &value))
            json_number(to, &first, one->name[of->level], value);
    if (confusion) json_classes(to, &first, classes, confusion);
    fputc('}', to);
}

void json_scores(FILE *to, const mtl_model *model, const mtl_scores *scores, const corpus *all,
                 size_t *const *confusion)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    int first = 1, first_task = 1;
    size_t i;
    fputc('{', to);
    json_key(to, &first, "tasks");
    fputc('{', to);
    for (i = 0; i < scores->task_count; i++) {
        if (!scores->tasks[i].items) continue;
        json_key(to, &first_task, desc->tasks[i].name);
        json_task_score(to, kind_of(&desc->tasks[i]), &scores->tasks[i], all ? &all->tasks[i] : NULL,
                        confusion ? confusion[i] : NULL);
    }
    fputc('}', to);
    if (scores->joint_items) json_number(to, &first, "joint_accuracy", scores->joint_accuracy);
    json_key(to, &first, "sequences");
    fprintf(to, "%zu", scores->sequences);
    json_key(to, &first, "tokens");
    fprintf(to, "%zu", scores->tokens);
    fputc('}', to);
}

void write_confusions(const char *path, const corpus *all, const mtl_scores *scores,
                      size_t *const *confusion)
{
    size_t i, row, column, tables = 0;
    FILE *to = file_open(path, "w");
    if (!to) fail("--confusion %s: cannot be written: %s", path, strerror(errno));
    for (i = 0; i < arrlenu(all->tasks); i++) {
        const task *of = &all->tasks[i];
        if (!confusion[i] || !scores->tasks[i].items) continue;
        fprintf(to, "%s%s", tables++ ? "\n" : "", of->name);
        for (column = 0; column < of->classes; column++) fprintf(to, "\t%s", of->labels.list[column].key);
        for (row = 0; row < label_count(of); row++) {
            fprintf(to, "\n%s", of->labels.list[row].key);
            for (column = 0; column < of->classes; column++)
                fprintf(to, "\t%zu", confusion[i][row * of->classes + column]);
        }
        fputc('\n', to);
    }
    if (ferror(to) | fclose(to))
        fail("--confusion %s: not all of it could be written: %s", path, strerror(errno));
}
