#include "structure.h"

/* Inputs, columns and tasks are parts, numbered in this order. */
static const char *part_name(const mtl_model_desc *d, size_t i)
{
    if (i < d->input_count) return d->inputs[i].name;
    i -= d->input_count;
    return i < d->column_count ? d->columns[i].name : d->tasks[i - d->column_count].name;
}

static const mtl_mix_desc *part_mix(const mtl_model_desc *d, size_t i)
{
    if (i < d->input_count) return NULL;
    i -= d->input_count;
    return i < d->column_count ? &d->columns[i].input : &d->tasks[i - d->column_count].tap;
}

static size_t part_count(const mtl_model_desc *d) { return d->input_count + d->column_count + d->task_count; }

int list_holds(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (; list && *list; list += list[strcspn(list, "+")] ? strcspn(list, "+") + 1 : strlen(list))
        if (strncmp(list, name, length) == 0 && (list[length] == '\0' || strchr("+.", list[length])))
            return 1;
    return 0;
}

/* 1 when part `reader` takes rows from part `source` itself. */
static int part_reads(const mtl_model_desc *d, size_t reader, size_t source)
{
    const mtl_mix_desc *mix = part_mix(d, reader);
    if (!mix) return 0;
    if (mix->from) return list_holds(mix->from, part_name(d, source)) ||
        list_holds(mix->by, part_name(d, source));
    return reader < d->input_count + d->column_count ? source < d->input_count
                                                     : source == d->input_count + d->column_count - 1;
}

unsigned char *trace_tasks(const mtl_model_desc *d)
{
    size_t parts = part_count(d), i, source, k, round;
    unsigned char *uses = NULL;
    arrsetlen(uses, parts * d->task_count);
    memset(uses, 0, arrlenu(uses));
    for (k = 0; k < d->task_count; k++) uses[(d->input_count + d->column_count + k) * d->task_count + k] = 1;
    for (round = 0; round < parts; round++)
        for (i = 0; i < parts; i++)
            for (source = 0; source < parts; source++)
                for (k = 0; k < d->task_count && part_reads(d, i, source); k++)
                    uses[source * d->task_count + k] |= uses[i * d->task_count + k];
    return uses;
}

/* Numbers in the tensors whose names begin with "NAME.". */
static size_t part_parameters(mtl_model *model, const char *name)
{
    const mtl_parameters *set = mtl_model_parameters(model);
    size_t i, count = 0, length = strlen(name);
    for (i = 0; i < set->count; i++)
        if (strncmp(set->tensors[i]->name, name, length) == 0 && set->tensors[i]->name[length] == '.')
            count += set->tensors[i]->count;
    return count;
}

const char *mix_name(const mtl_mix_desc *mix)
{
    const mtl_kind *kind = mtl_kind_at(MTL_DESC_MIX, (size_t)mix->kind - 1);
    const mtl_kind *own = (const mtl_kind *)(const void *)mix->own;
    return own ? own->name : kind ? kind->name : "";
}

void print_structure(mtl_model *model)
{
    const mtl_model_desc *d = mtl_model_describe(model);
    unsigned char *uses = trace_tasks(d);
    size_t i, k, parts = part_count(d), shared = 0, all = 0;
    printf("structure\n");
    for (i = 0; i < parts; i++) {
        const mtl_mix_desc *mix = part_mix(d, i);
        size_t count = part_parameters(model, part_name(d, i)), tasks = 0;
        const char *trains = mix && i < d->input_count + d->column_count
            ? d->columns[i - d->input_count].trains : NULL;
        printf("  %-24s %9zu parameters", part_name(d, i), count);
        if (mix && mix->from) printf("  <- %s(%s%s%s)", mix_name(mix), mix->from, mix->by ? " by " : "",
                                     mix->by ? mix->by : "");
        for (k = 0; k < d->task_count; k++) {
            if (!uses[i * d->task_count + k]) continue;
            if (i < d->input_count + d->column_count)
                printf("%s%s", tasks ? ", " : "  for ", d->tasks[k].name);
            tasks++;
        }
        if (trains) printf("; trained by %s", trains);
        putchar('\n');
        shared += tasks > 1 ? count : 0;
        all += count;
    }
    printf("  shared %zu, of one task %zu\n", shared, all - shared);
    arrfree(uses);
}
