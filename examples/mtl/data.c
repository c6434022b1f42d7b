#include "data.h"

#include "formats.h"
#include "ranks.h"
#include "system.h"

static int ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static int is_conllu(const char *path)
{
    return ends_with(path, ".conllu") || ends_with(path, ".conll");
}

enum { LARGE_FILE = 16000000 };             /* bytes from which on a user may wonder how long reading takes */

static void report_read(const corpus *all, const dataset *set, double seconds)
{
    if (set->bytes >= LARGE_FILE && !all->quiet)
        say("%s: %.1f MB read in %.3f s", set->path, (double)set->bytes * 1e-6, seconds);
}

void read_dataset(corpus *all, const char *path, int frames, dataset **sets)
{
    double begin = clock_seconds();
    dataset set;
    if (!frames && ends_with(path, ".csv"))
        fail_usage("%s: CSV files hold rows of numbers: give them with --frames, --features and --task; "
                   "labelled texts stand in a task TSV, whose cells are separated by tabs", path);
    if (frames) set = read_csv(all, path);
    else if (is_conllu(path)) set = read_conllu(all, path);
    else set = read_tsv(all, path);
    report_read(all, &set, clock_seconds() - begin);
    report_unseen(all, path);
    arrput(*sets, set);
}

/* The columns of all tasks as a header line has them: with their kind in a task TSV. A growing array. */
static const char **columns_of_tasks(const corpus *all)
{
    const char **list = NULL;
    size_t i;
    for (i = 0; i < arrlenu(all->tasks); i++) {
        const task *of = &all->tasks[i];
        const char *kind = kind_text(of->kind, of->width);
        size_t size = strlen(of->name) + strlen(kind) + 2;
        char *text = (char *)checked_realloc(NULL, size);
        if (all->features) snprintf(text, size, "%s", of->name);
        else snprintf(text, size, "%s:%s", of->name, kind);
        arrput(list, text);
    }
    return list;
}

/* The labelled tasks, for --only: "intent,slots". Static memory; "" when there are none. */
static const char *labelled_tasks(const corpus *all)
{
    static char text[600];
    size_t i, used = 0;
    text[0] = '\0';
    for (i = 0; i < arrlenu(all->tasks) && used < sizeof text; i++)
        if (all->tasks[i].items)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? "," : "",
                                     all->tasks[i].name);
    return text;
}

void need_targets(const corpus *all, const dataset *sets)
{
    size_t i, targets = 0;
    for (i = 0; i < arrlenu(sets); i++) targets += arrlenu(sets[i].targets);
    if (arrlenu(sets) && !targets && !all->predicts_words)
        fail("%s:1:1: no column for any task of the model%s", sets[0].path,
             suggestion("", columns_of_tasks(all)));
}

void corpus_close(corpus *all)
{
    size_t i;
    const char **known = corpus_task_names(all);
    all->closed = 1;
    for (i = 0; i < arrlenu(all->left_out.list); i++) arrput(known, all->left_out.list[i].key);
    for (i = 0; i < arrlenu(all->only); i++)
        if (!corpus_find(all, all->only[i]))
            fail("--only %s: no such task in the data%s", all->only[i], suggestion(all->only[i], known));
    if (!arrlenu(all->tasks) && !all->predicts_words)
        fail("%s:1:1: no task to learn; expected %s", all->train[0].path,
             is_conllu(all->train[0].path) ? "labels in one of the columns UPOS, XPOS, FEATS and DEPREL"
                                           : "a column such as intent:class in the header line, or --lm 1 "
                                             "to learn the language alone");
    for (i = 0; i < arrlenu(all->tasks); i++) {
        task *of = &all->tasks[i];
        if (!of->items || (kind_has_classes(of->kind) && !label_count(of)))
            fail("%s:1:1: task %s has no labels at all in the training data; label some%s%s", of->path,
                 of->name, *labelled_tasks(all) ? ", or leave it out with --only " : "", labelled_tasks(all));
        if (kind_has_ranks(of->kind)) rank_labels(all, (int)i);
        of->classes = arrlenu(of->labels.list);
        report_scheme(of);
    }
    check_ranks(all);
    arrfree(known);
}
