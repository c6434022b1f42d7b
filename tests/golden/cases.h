/* cases.h    reads the cases that tests/golden/make.py and tests/parity.py write: models, weights, data, by
              name

   Included after the implementation of mtl_rnn.h. reference.py describes the form: a safetensors file whose
   metadata has one text, "cases"; a line `case NAME` begins a case and a line per desc follows. Only public
   functions are used. What is missing or wrong in a file ends in the sticky error that everything here
   takes. */
#ifndef MTL_TEST_CASES_H
#define MTL_TEST_CASES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CASE_INPUTS = 4, CASE_COLUMNS = 8, CASE_TASKS = 16, CASE_PENALTIES = 4, CASE_PREFIXES = 8,
    CASE_EDITS = 8, CASE_BATCHES = 4 };

/* A name and a number: `freeze encoder`, `rate words value=0.5`. */
typedef struct case_prefix { const char *name; float rate; } case_prefix;

/* What a line changes of a column or task that a preset has made: `edit shared trains=intent`. */
typedef struct case_edit { const char *name; char *fields; } case_edit;

typedef struct case_file {
    mtl_safetensors tensors;
    char *text;                             /* the cases, cut into words by zero bytes as they are read */
    char *next;                             /* the line that is read next */
    mtl_arena arena;                        /* of arrays that are read */
} case_file;

typedef struct case_setup {
    case_file *file;
    const char *name, *share;               /* tensors are NAME/..., or those of the case that it shares
                                               with */
    mtl_input_desc inputs[CASE_INPUTS];
    mtl_column_desc columns[CASE_COLUMNS];
    mtl_task_desc tasks[CASE_TASKS];
    mtl_penalty_desc penalties[CASE_PENALTIES];
    mtl_model_desc model;                   /* as it is written */
    mtl_share_desc preset;                  /* the line `share`, which makes another model of it */
    int is_shared;
    case_edit edits[CASE_EDITS];
    size_t edit_count;
    mtl_model_desc built;                   /* what case_model makes */
    mtl_trainer_desc trainer;
    mtl_column_desc cell;                   /* cells.safetensors: the case line itself describes a cell or
                                               linear layer */
    int linear;
    case_prefix frozen[CASE_PREFIXES], rates[CASE_PREFIXES];
    size_t frozen_count, rate_count;
    int updates, data, batches, carry;      /* the line `run` */
} case_setup;

/* ---- the text ------------------------------------------------------------------------------------------ */

static void case_fail(mtl_error *err, const char *what, const char *name)
{
    if (err->code) return;
    err->code = MTL_ERROR_FORMAT;
    snprintf(err->message, sizeof err->message, "%.200s: %.200s", what, name);
}

static void case_file_open(case_file *file, const char *path, mtl_error *err)
{
    const char *text;
    memset(file, 0, sizeof *file);
    mtl_arena_init(&file->arena, NULL, 0, NULL);
    if (mtl_safetensors_open(&file->tensors, path, err)) return;
    text = mtl_safetensors_metadata(&file->tensors, "cases");
    if (!text) { case_fail(err, "no cases in the metadata of", path); return; }
    file->text = (char *)mtl_arena_push(&file->arena, strlen(text) + 1);
    if (!file->text) { case_fail(err, "out of memory for", path); return; }
    file->next = strcpy(file->text, text);
}

static void case_file_close(case_file *file)
{
    mtl_safetensors_close(&file->tensors);
    mtl_arena_destroy(&file->arena);
}

/* Cuts the first word, ended by `end`, off *rest. NULL when there is none. */
static char *case_cut(char **rest, char end)
{
    char *word = *rest, *stop = word ? strchr(word, end) : NULL;
    if (!word || !*word) return NULL;
    if (stop) *stop = '\0';
    *rest = stop ? stop + 1 : NULL;
    return word;
}

/* field=value of a desc with a field table. */
static void case_set_field(int kind, void *desc, const char *name, const char *value, mtl_error *err)
{
    size_t count, i;
    const mtl_field *fields = mtl_fields(kind, &count);
    for (i = 0; i < count; i++)
        if (strcmp(fields[i].name, name) == 0) { mtl_field_set(&fields[i], desc, value, err); return; }
    case_fail(err, "there is no field", name);
}

/* A field that names other parts: those cannot be set from text by a field table. */
typedef struct case_name { const char *field, **to; } case_name;

/* The rest of a line. names: ends with a NULL field; mix: whose fields begin with "mix.", or NULL. */
static void case_set_fields(int kind, void *desc, const case_name *names, mtl_mix_desc *mix, char *rest,
                            mtl_error *err)
{
    char *value, *name;
    while ((value = case_cut(&rest, ' ')) != NULL) {
        const case_name *n = names;
        name = case_cut(&value, '=');
        while (n->field && strcmp(n->field, name) != 0) n++;
        if (n->field) *n->to = value;
        else if (mix && strncmp(name, "mix.", 4) == 0)
            case_set_field(MTL_DESC_MIX, mix, name + 4, value, err);
        else case_set_field(kind, desc, name, value, err);
    }
}

static void case_set_input(mtl_input_desc *input, char *rest, mtl_error *err)
{
    const case_name names[] = { { "reads", &input->reads }, { NULL, NULL } };
    case_set_fields(MTL_DESC_INPUT, input, names, NULL, rest, err);
}

static void case_set_column(mtl_column_desc *column, char *rest, mtl_error *err)
{
    mtl_mix_desc *mix = &column->input;
    const case_name names[] = { { "from", &mix->from }, { "by", &mix->by }, { "stop", &mix->stop },
                                { "trains", &column->trains }, { NULL, NULL } };
    case_set_fields(MTL_DESC_COLUMN, column, names, mix, rest, err);
}

static void case_set_task(mtl_task_desc *task, char *rest, mtl_error *err)
{
    mtl_mix_desc *mix = &task->tap;
    const case_name names[] = { { "from", &mix->from }, { "by", &mix->by }, { "stop", &mix->stop },
                                { "pool_of", &task->pool_of }, { NULL, NULL } };
    case_set_fields(MTL_DESC_TASK, task, names, mix, rest, err);
}

static void case_set_penalty(mtl_penalty_desc *penalty, char *rest, mtl_error *err)
{
    const case_name names[] = { { "a", &penalty->a }, { "b", &penalty->b }, { NULL, NULL } };
    case_set_fields(MTL_DESC_PENALTY, penalty, names, NULL, rest, err);
}

static void case_set_preset(case_setup *c, char *rest, mtl_error *err)
{
    const case_name names[] = { { "order", &c->preset.order }, { NULL, NULL } };
    c->is_shared = 1;
    case_set_fields(MTL_DESC_SHARE, &c->preset, names, NULL, rest, err);
}

static double case_number(const char *text, mtl_error *err)
{
    double value = 0;
    if (!text || !mtl_text_number(text, strlen(text), &value))
        case_fail(err, "not a number", text ? text : "(nothing)");
    return value;
}

/* A field of a line that describes no desc. */
static void case_set_other(case_setup *c, const char *name, const char *value, mtl_error *err)
{
    if (strcmp(name, "share") == 0) c->share = value;
    else if (strcmp(name, "linear") == 0) c->linear = 1;
    else if (strcmp(name, "updates") == 0) c->updates = (int)case_number(value, err);
    else if (strcmp(name, "data") == 0) c->data = (int)case_number(value, err);
    else if (strcmp(name, "batches") == 0) c->batches = (int)case_number(value, err);
    else if (strcmp(name, "carry") == 0) c->carry = (int)case_number(value, err);
    else case_set_field(MTL_DESC_COLUMN, &c->cell, name, value, err);
}

static void case_set_others(case_setup *c, char *rest, mtl_error *err)
{
    char *value, *name;
    while ((value = case_cut(&rest, ' ')) != NULL) {
        name = case_cut(&value, '=');
        case_set_other(c, name, value, err);
    }
}

static void case_add_prefix(case_prefix *list, size_t *count, const char *name, float rate, mtl_error *err)
{
    if (*count == CASE_PREFIXES) { case_fail(err, "too many prefixes", name); return; }
    list[*count].name = name;
    list[(*count)++].rate = rate;
}

/* The place of one more desc; without room for it that of the first, and an error. */
static size_t case_place(size_t *count, size_t most, const char *name, mtl_error *err)
{
    if (*count < most) return (*count)++;
    case_fail(err, "too many descs", name);
    return 0;
}

/* One line after the case's own. */
static void case_read_line(case_setup *c, const char *kind, const char *name, char *rest, mtl_error *err)
{
    static const case_name no_names[] = { { NULL, NULL } };
    if (strcmp(kind, "input") == 0) {
        mtl_input_desc *input = &c->inputs[case_place(&c->model.input_count, CASE_INPUTS, name, err)];
        input->name = name;
        case_set_input(input, rest, err);
    } else if (strcmp(kind, "column") == 0) {
        mtl_column_desc *column = &c->columns[case_place(&c->model.column_count, CASE_COLUMNS, name, err)];
        column->name = name;
        case_set_column(column, rest, err);
    } else if (strcmp(kind, "encoder") == 0) {
        c->model.encoder.name = name;
        case_set_column(&c->model.encoder, rest, err);
    } else if (strcmp(kind, "task") == 0) {
        mtl_task_desc *task = &c->tasks[case_place(&c->model.task_count, CASE_TASKS, name, err)];
        task->name = name;
        case_set_task(task, rest, err);
    } else if (strcmp(kind, "penalty") == 0) {
        size_t place = case_place(&c->model.penalty_count, CASE_PENALTIES, name, err);
        c->penalties[place].name = name;
        case_set_penalty(&c->penalties[place], rest, err);
    } else if (strcmp(kind, "share") == 0) {
        case_set_preset(c, rest, err);
    } else if (strcmp(kind, "edit") == 0) {
        case_edit *edit = &c->edits[case_place(&c->edit_count, CASE_EDITS, name, err)];
        edit->name = name;
        edit->fields = rest;
    } else if (strcmp(kind, "trainer") == 0) {
        case_set_fields(MTL_DESC_TRAINER, &c->trainer, no_names, NULL, rest, err);
    } else if (strcmp(kind, "run") == 0) {
        case_set_others(c, rest, err);
    } else if (strcmp(kind, "freeze") == 0) {
        case_add_prefix(c->frozen, &c->frozen_count, name, 0, err);
    } else if (strcmp(kind, "rate") == 0) {
        case_add_prefix(c->rates, &c->rate_count, name, (float)case_number(rest, err), err);
    } else {
        case_fail(err, "unknown line", kind);
    }
}

/* ---- the tensors --------------------------------------------------------------------------------------- */

/* The case's tensor of that name, or the one of the case that it shares with; NULL: there is none. */
static const mtl_safetensor *case_find(const case_setup *c, const char *name)
{
    char full[256];
    const mtl_safetensor *t;
    snprintf(full, sizeof full, "%s/%s", c->name, name);
    t = mtl_safetensors_find(&c->file->tensors, full);
    if (t || !c->share) return t;
    snprintf(full, sizeof full, "%s/%s", c->share, name);
    return mtl_safetensors_find(&c->file->tensors, full);
}

/* Values of a float tensor in the file's arena; NULL when there is none of that name. */
static mtl_real *case_reals(case_setup *c, const char *name, mtl_error *err)
{
    const mtl_safetensor *t = case_find(c, name);
    mtl_real *values = t ? (mtl_real *)mtl_arena_push(&c->file->arena, t->count * sizeof *values) : NULL;
    if (values) mtl_safetensor_values(t, values, err);
    return values;
}

static int *case_ints(case_setup *c, const char *name)
{
    const mtl_safetensor *t = case_find(c, name);
    int *values = t && t->type == MTL_TYPE_I32 ? (int *)mtl_arena_push(&c->file->arena,
                                                                       t->count * sizeof *values) : NULL;
    if (values) memcpy(values, t->data, t->count * sizeof *values);     /* the machines that we test on are
                                                                           little-endian */
    return values;
}

static mtl_real *case_reals_of(case_setup *c, const char *name, const char *what, mtl_error *err)
{
    char full[192];
    snprintf(full, sizeof full, "%.150s.%.30s", name, what);
    return case_reals(c, full, err);
}

/* ---- cases --------------------------------------------------------------------------------------------- */

static void case_read_class_weights(case_setup *c, mtl_error *err)
{
    size_t k;
    int i;
    for (k = 0; k < c->model.task_count; k++) {
        mtl_task_desc *task = &c->tasks[k];
        const mtl_real *values = case_reals_of(c, task->name, "class_weights", err);
        float *weights = values ? (float *)mtl_arena_push(&c->file->arena,
                                                          (size_t)task->classes * sizeof *weights) : NULL;
        for (i = 0; weights && i < task->classes; i++) weights[i] = (float)values[i];
        task->class_weights = weights;
    }
}

/* Reads the next case; 0 when there is none or err is set. c may be moved nowhere: its model points into
   it. */
static int case_next(case_file *file, case_setup *c, mtl_error *err)
{
    char *line = err->code ? NULL : case_cut(&file->next, '\n'), *kind, *name;
    memset(c, 0, sizeof *c);
    while (line && !*line) line = case_cut(&file->next, '\n');
    if (!line) return 0;
    c->file = file;
    c->model.inputs = c->inputs;
    c->model.columns = c->columns;
    c->model.tasks = c->tasks;
    c->model.penalties = c->penalties;
    c->model.encoder.hidden = 1;            /* a case without columns */
    kind = case_cut(&line, ' ');
    name = case_cut(&line, ' ');
    if (!name || strcmp(kind, "case") != 0) { case_fail(err, "not the beginning of a case", kind); return 0; }
    c->name = name;
    case_set_others(c, line, err);
    while (!err->code && (line = file->next) != NULL && *line && strncmp(line, "case ", 5) != 0 &&
           *line != '\n') {
        line = case_cut(&file->next, '\n');
        kind = case_cut(&line, ' ');
        name = case_cut(&line, ' ');
        case_read_line(c, kind, name ? name : "", line, err);
    }
    case_read_class_weights(c, err);
    return !err->code;
}

/* ---- models and batches -------------------------------------------------------------------------------- */

/* Every tensor of the model from initial.NAME; only the encoder that a case without columns does not use has
   none. */
static void case_set_weights(case_setup *c, mtl_model *model, mtl_error *err)
{
    const mtl_parameters *set = mtl_model_parameters(model);
    char name[192];
    size_t i;
    for (i = 0; i < set->count && !err->code; i++) {
        mtl_tensor *t = set->tensors[i];
        const mtl_safetensor *from;
        snprintf(name, sizeof name, "initial.%s", t->name);
        from = case_find(c, name);
        if (from && from->count == t->count && (from->dims == 1 || from->shape[0] == t->shape[0]))
            mtl_safetensor_values(from, t->value, err);
        else if (c->built.column_count || strncmp(t->name, "encoder.", 8) != 0) case_fail(err,
                                                            "no tensor of its shape for", t->name);
    }
    mtl_model_prepare(model, err);
}

static void case_set_scales(case_setup *c, mtl_model *model, mtl_error *err)
{
    size_t i;
    for (i = 0; i < c->model.input_count; i++) {
        const mtl_real *mean = case_reals_of(c, c->inputs[i].name, "mean", err);
        if (mean) mtl_model_set_feature_scale(model, (int)i, mean,
                                              case_reals_of(c, c->inputs[i].name, "deviation", err), err);
    }
    for (i = 0; i < c->model.task_count; i++) {
        const mtl_real *mean = case_reals_of(c, c->tasks[i].name, "mean", err);
        if (mean) mtl_model_set_target_scale(model, (int)i, mean,
                                             case_reals_of(c, c->tasks[i].name, "deviation", err), err);
    }
}

/* What a line `edit` changes of the parts that the preset has made, which lie in the file's arena. */
static void case_edit_part(case_setup *c, const case_edit *edit, mtl_error *err)
{
    size_t i;
    for (i = 0; i < c->built.column_count; i++)
        if (strcmp(c->built.columns[i].name, edit->name) == 0) {
            case_set_column((mtl_column_desc *)(uintptr_t)&c->built.columns[i], edit->fields, err);
            return;
        }
    for (i = 0; i < c->built.task_count; i++)
        if (strcmp(c->built.tasks[i].name, edit->name) == 0) {
            case_set_task((mtl_task_desc *)(uintptr_t)&c->built.tasks[i], edit->fields, err);
            return;
        }
    case_fail(err, "no column or task to edit", edit->name);
}

/* Once for each case: edits are cut into words as they are read. */
static void case_build(case_setup *c, mtl_error *err)
{
    size_t i;
    c->built = c->model;
    if (c->is_shared) mtl_share(&c->preset, &c->model, &c->built, &c->file->arena, err);
    for (i = 0; i < c->edit_count && !err->code; i++) case_edit_part(c, &c->edits[i], err);
}

/* The case's model with its initial weights; NULL and a set error when it cannot be made. */
static mtl_model *case_model(case_setup *c, mtl_error *err)
{
    mtl_model *model;
    size_t i;
    case_build(c, err);
    model = mtl_model_create(&c->built, err);
    if (!model) return NULL;
    case_set_weights(c, model, err);
    case_set_scales(c, model, err);
    for (i = 0; i < c->frozen_count; i++) mtl_model_freeze(model, c->frozen[i].name, 1);
    for (i = 0; i < c->rate_count; i++) mtl_model_rate(model, c->rates[i].name, c->rates[i].rate);
    if (!err->code) return model;
    mtl_model_destroy(model);
    return NULL;
}

/* Words as their characters, NAME.begins and NAME.characters; NULL when there are none of that name. */
static const mtl_spellings *case_spellings(case_setup *c, const char *name)
{
    char full[192];
    mtl_spellings *all;
    const int *begins;
    size_t *to, i;
    snprintf(full, sizeof full, "%.150s.begins", name);
    begins = case_ints(c, full);
    if (!begins) return NULL;
    all = (mtl_spellings *)mtl_arena_push(&c->file->arena, sizeof *all);
    all->count = case_find(c, full)->count - 1;
    all->begins = to = (size_t *)mtl_arena_push(&c->file->arena, (all->count + 1) * sizeof *to);
    for (i = 0; i <= all->count; i++) to[i] = (size_t)begins[i];
    snprintf(full, sizeof full, "%.150s.characters", name);
    all->characters = case_ints(c, full);
    return all;
}

/* Micro-batch `number` of update data `data`. Its arrays are in the file's arena. */
static void case_batch(case_setup *c, int data, int number, mtl_batch *batch, mtl_error *err)
{
    mtl_input *inputs = (mtl_input *)mtl_arena_push(&c->file->arena, sizeof *inputs * CASE_INPUTS);
    mtl_target *targets = (mtl_target *)mtl_arena_push(&c->file->arena, sizeof *targets * CASE_TASKS);
    char name[192];
    const int *set;
    size_t i;
    memset(batch, 0, sizeof *batch);
    if (!inputs || !targets) { case_fail(err, "out of memory for", c->name); return; }
    memset(targets, 0, sizeof *targets * CASE_TASKS);
    snprintf(name, sizeof name, "data%d.%d.lengths", data, number);
    batch->lengths = case_ints(c, name);
    if (!batch->lengths) { case_fail(err, "no tensor", name); return; }
    batch->sequences = case_find(c, name)->count;
    snprintf(name, sizeof name, "data%d.%d.set", data, number);
    set = case_ints(c, name);
    batch->set = set ? *set : 0;
    batch->inputs = inputs;
    batch->targets = targets;
    for (i = 0; i < c->model.input_count; i++) {
        snprintf(name, sizeof name, "data%d.%d.%s.ids", data, number, c->inputs[i].name);
        inputs[i].ids = case_ints(c, name);
        snprintf(name, sizeof name, "data%d.%d.%s", data, number, c->inputs[i].name);
        inputs[i].rows = case_reals_of(c, name, "rows", err);
        inputs[i].spellings = case_spellings(c, name);
    }
    for (i = 0; i < c->model.task_count; i++) {
        snprintf(name, sizeof name, "data%d.%d.%s.labels", data, number, c->tasks[i].name);
        targets[i].labels = case_ints(c, name);
        snprintf(name, sizeof name, "data%d.%d.%s", data, number, c->tasks[i].name);
        targets[i].values = case_reals_of(c, name, "values", err);
        targets[i].distribution = case_reals_of(c, name, "distribution", err);
    }
}

/* All micro-batches of an update; states: [CASE_BATCHES] made here for a case that carries them, else
   NULL. */
static void case_batches(case_setup *c, const mtl_model *model, int update, mtl_batch *batches,
                         mtl_state **states, mtl_error *err)
{
    int i;
    for (i = 0; i < c->batches && i < CASE_BATCHES && !err->code; i++) {
        case_batch(c, update % c->data, i, &batches[i], err);
        if (c->carry && !states[i]) states[i] = mtl_state_create(model, batches[i].sequences, err);
        batches[i].state = states[i];
    }
}
#endif
