#include "graft.h"

#include "names.h"
#include "structure.h"

typedef struct assembly {
    mtl_input_desc *inputs;                 /* growing, like the rest */
    const char **data;                      /* of each: the input of its part's desc whose data it reads */
    mtl_column_desc *columns;
    mtl_task_desc *tasks;
    char **texts;                           /* names that were made */
} assembly;

static const char *keep_text(assembly *a, const char *prefix, const char *name, size_t length)
{
    size_t size = strlen(prefix) + length + 1;
    char *text = (char *)checked_realloc(NULL, size);
    snprintf(text, size, "%s%.*s", prefix, (int)length, name);
    arrput(a->texts, text);
    return text;
}

/* A name of the part's desc as the assembled one has it: tasks keep theirs. */
static const char *rename_part(assembly *a, const graft *of, const char *name, size_t length)
{
    const mtl_model_desc *d = mtl_model_describe(of->model);
    size_t i;
    for (i = 0; i < d->task_count; i++)
        if (strlen(d->tasks[i].name) == length && strncmp(name, d->tasks[i].name, length) == 0)
            return keep_text(a, "", name, length);
    return keep_text(a, of->prefix, name, length);
}

/* The same of a list, "a+b.probabilities"; NULL stays NULL. */
static const char *rename_list(assembly *a, const graft *of, const char *list)
{
    char *all = NULL;
    const char *kept;
    for (; list && *list; list += *list == '+') {
        size_t name = strcspn(list, "+."), whole = strcspn(list, "+");
        const char *renamed = rename_part(a, of, list, name);
        if (all) arrput(all, '+');
        memcpy(arraddnptr(all, strlen(renamed)), renamed, strlen(renamed));
        memcpy(arraddnptr(all, whole - name), list + name, whole - name);
        list += whole;
    }
    kept = all ? keep_text(a, "", all, arrlenu(all)) : NULL;
    arrfree(all);
    return kept;
}

static void rename_mix(assembly *a, const graft *of, mtl_mix_desc *mix)
{
    mix->from = rename_list(a, of, mix->from);
    mix->by = rename_list(a, of, mix->by);
    mix->stop = rename_list(a, of, mix->stop);
}

/* 1 when one of the tasks that are kept reads the part of that number. */
static int is_kept(const graft *of, const unsigned char *uses, size_t part)
{
    const size_t tasks = mtl_model_describe(of->model)->task_count;
    size_t i;
    for (i = 0; i < arrlenu(of->tasks); i++)
        if (uses[part * tasks + (size_t)of->tasks[i]]) return 1;
    return 0;
}

/* What a mix without `from` reads: a column all inputs of its part, "a+b"; a task the part's last column. */
static const char *default_sources(assembly *a, const graft *of, int is_task)
{
    const mtl_model_desc *d = mtl_model_describe(of->model);
    char *all = NULL;
    const char *renamed;
    size_t i;
    if (is_task) return rename_list(a, of, d->columns[d->column_count - 1].name);
    for (i = 0; i < d->input_count; i++) add_text(&all, "%s%s", i ? "+" : "", d->inputs[i].name);
    renamed = rename_list(a, of, all);
    arrfree(all);
    return renamed;
}

/* The first part has the data of all others' inputs: its input that reads what this one does, or NULL. */
static const char *data_input(const assembly *a, const char *data)
{
    size_t i;
    for (i = 0; i < arrlenu(a->inputs); i++)
        if (!a->inputs[i].reads && strcmp(a->data[i], data) == 0) return a->inputs[i].name;
    return NULL;
}

/* Adds a part's inputs, columns and tasks. */
static void add_part(assembly *a, const graft *of)
{
    const mtl_model_desc *d = mtl_model_describe(of->model);
    unsigned char *uses = trace_tasks(d);
    size_t i;
    for (i = 0; i < d->input_count; i++) {
        mtl_input_desc input = d->inputs[i];
        if (!is_kept(of, uses, i)) continue;
        input.name = rename_part(a, of, input.name, strlen(input.name));
        arrput(a->data, input.reads ? input.reads : d->inputs[i].name);
        input.reads = data_input(a, a->data[arrlenu(a->inputs)]);
        if (input.reads) input.words = NULL;
        arrput(a->inputs, input);
    }
    for (i = 0; i < d->column_count; i++) {
        mtl_column_desc column = d->columns[i];
        if (!is_kept(of, uses, d->input_count + i)) continue;
        column.name = rename_part(a, of, column.name, strlen(column.name));
        rename_mix(a, of, &column.input);
        if (!column.input.from) column.input.from = default_sources(a, of, 0);
        arrput(a->columns, column);
    }
    for (i = 0; i < arrlenu(of->tasks); i++) {
        mtl_task_desc task = d->tasks[of->tasks[i]];
        rename_mix(a, of, &task.tap);
        if (!task.tap.from) task.tap.from = default_sources(a, of, 1);
        arrput(a->tasks, task);
    }
    arrfree(uses);
}

/* Puts the tasks into the order of `names`. */
static void order_tasks(assembly *a, const char *const *names, size_t count)
{
    size_t i, k;
    for (i = 0; i < count; i++)
        for (k = i + 1; k < arrlenu(a->tasks); k++)
            if (strcmp(a->tasks[k].name, names[i]) == 0) {
                mtl_task_desc moved = a->tasks[k];
                a->tasks[k] = a->tasks[i];
                a->tasks[i] = moved;
            }
}

/* 1 when the owner of a tensor is a task that is not kept. */
static int is_left(const graft *of, const char *owner, size_t length)
{
    const mtl_model_desc *d = mtl_model_describe(of->model);
    size_t i, k;
    for (i = 0; i < d->task_count; i++) {
        if (strlen(d->tasks[i].name) != length || strncmp(owner, d->tasks[i].name, length) != 0) continue;
        for (k = 0; k < arrlenu(of->tasks) && (size_t)of->tasks[k] != i; k++) { }
        return k == arrlenu(of->tasks);
    }
    return 0;
}

/* Copies the tensors of what was kept. Buffers, which hold scales, are the caller's to set. */
static void copy_tensors(assembly *a, const graft *of, mtl_model *to)
{
    const mtl_parameters *set = mtl_model_parameters(of->model);
    size_t i;
    for (i = 0; i < set->count; i++) {
        const mtl_tensor *from = set->tensors[i];
        const size_t length = strcspn(from->name, ".");
        const char *owner = rename_part(a, of, from->name, length), *rest = from->name + length;
        const char *name = keep_text(a, owner, rest, strlen(rest));
        mtl_tensor *tensor = is_left(of, from->name, length) ? NULL : mtl_model_tensor(to, name);
        if (!tensor) continue;              /* nothing that is kept reads it */
        if (tensor->count != from->count) fail("%s: has another size in the joint model", name);
        memcpy(tensor->value, from->value, from->count * sizeof *from->value);
    }
}

mtl_model *assemble(const graft *parts, size_t count, const char *const *names, size_t name_count,
                    unsigned long long seed)
{
    assembly a = { 0 };
    mtl_model_desc desc = { 0 };
    mtl_error err = { 0 };
    mtl_model *model;
    size_t i;
    for (i = 0; i < count; i++) add_part(&a, &parts[i]);
    order_tasks(&a, names, name_count);
    desc.inputs = a.inputs, desc.input_count = arrlenu(a.inputs);
    desc.columns = a.columns, desc.column_count = arrlenu(a.columns);
    desc.tasks = a.tasks, desc.task_count = arrlenu(a.tasks);
    desc.seed = seed;
    model = mtl_model_create(&desc, &err);
    check(&err);
    for (i = 0; i < count; i++) copy_tensors(&a, &parts[i], model);
    mtl_model_prepare(model, &err);
    check(&err);
    for (i = 0; i < arrlenu(a.texts); i++) free(a.texts[i]);
    arrfree(a.texts);
    arrfree(a.inputs);
    arrfree(a.data);
    arrfree(a.columns);
    arrfree(a.tasks);
    return model;
}
