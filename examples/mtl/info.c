#include "commands.h"

#include "columns.h"
#include "desc_c.h"
#include "json.h"
#include "models.h"
#include "structure.h"
#include "system.h"
#include "tensors.h"

/* "name value" of every field of a desc that says something: those that stand at 0 and mean nothing then are
   left out. */
static void print_fields(int desc, const void *members)
{
    size_t i, count, column = 0;
    char value[64], piece[140];
    const mtl_field *fields = mtl_fields(desc, &count);
    for (i = 0; i < count; i++) {
        mtl_field_get(&fields[i], members, value, sizeof value);
        if (strcmp(value, "0") == 0 || !*value) continue;
        snprintf(piece, sizeof piece, "%s %s", fields[i].name, value);
        column += strlen(piece) + 2;
        if (column > 110) column = strlen(piece) + 2, printf("\n ");
        printf("  %s", piece);
    }
    putchar('\n');
}

static void print_labels(const mtl_task_desc *of)
{
    int i;
    size_t column = 9;
    if (!of->labels) return;
    printf("  labels:");
    for (i = 0; i < of->classes; i++) {
        column += strlen(of->labels[i]) + 1;
        if (column > 110) column = strlen(of->labels[i]) + 4, printf("\n   ");
        printf(" %s", of->labels[i]);
    }
    putchar('\n');
}

static void print_class_weights(const mtl_task_desc *of)
{
    char number[32], index[16];
    size_t column = 16;
    int i;
    if (!of->class_weights) return;
    printf("  class weights:");
    for (i = 0; i < of->classes; i++) {
        const char *label = index;
        size_t length = mtl_text_from_number((double)of->class_weights[i], number);
        snprintf(index, sizeof index, "%d", i);
        if (of->labels) label = of->labels[i];
        length += strlen(label) + 2;
        column += length;
        if (column > 110) column = length + 3, printf("\n   ");
        printf(" %s:%s", label, number);
    }
    putchar('\n');
}

/* The next line of a note and its length; NULL when there is none. *text moves on. */
static const char *next_note_line(const char **text, size_t *length)
{
    const char *line = *text;
    if (!line || !*line) return NULL;
    *length = strcspn(line, "\n");
    *text = line + *length + (line[*length] == '\n');
    return line;
}

/* A note's lines, indented. */
static void print_note(mtl_model *model, const char *key, const char *title)
{
    const char *text = mtl_model_note(model, key, NULL, NULL), *line;
    size_t length;
    if (text && *text) printf("%s\n", title);
    while ((line = next_note_line(&text, &length)) != NULL) printf("  %.*s\n", (int)length, line);
}

/* Why the model cannot be fed step by step, in *err; 1: it can. */
static int streams(const mtl_model *model, mtl_error *err)
{
    mtl_error_clear(err);
    return mtl_stream_size(model, NULL, err) > 0;
}

static void print_stream(const mtl_model *model)
{
    mtl_error err;
    if (streams(model, &err)) printf("stream      yes, step by step\n");
    else printf("stream      no: %s%s\n", err.message,
                strstr(err.message, "bidirectional") ? ": --dir uni" : "");
}

static void print_model(const settings *given, mtl_model *model, const mtl_safetensors *file, double bytes)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    size_t i;
    printf("%s: a valid model, %.0f bytes, %zu parameters\n", given->model_path, bytes,
           count_parameters(model));
    for (i = 0; i < desc->input_count; i++) {
        printf("input %s\n", desc->inputs[i].name);
        print_fields(MTL_DESC_INPUT, &desc->inputs[i]);
        if (desc->inputs[i].tokens) printf("  tokens %s\n", desc->inputs[i].tokens);
    }
    for (i = 0; i < desc->column_count; i++) {
        printf("column %s\n", desc->columns[i].name);
        print_fields(MTL_DESC_COLUMN, &desc->columns[i]);
    }
    for (i = 0; i < desc->task_count; i++) {
        printf("task %s: %s\n", desc->tasks[i].name, kind_of(&desc->tasks[i])->name);
        print_fields(MTL_DESC_TASK, &desc->tasks[i]);
        if (desc->tasks[i].pool_of) printf("  pool_of %s\n", desc->tasks[i].pool_of);
        print_labels(&desc->tasks[i]);
        print_class_weights(&desc->tasks[i]);
    }
    for (i = 0; i < desc->penalty_count; i++) {
        printf("penalty %s: %s%s%s\n", desc->penalties[i].name, desc->penalties[i].a,
               desc->penalties[i].b ? ", " : "", desc->penalties[i].b ? desc->penalties[i].b : "");
        print_fields(MTL_DESC_PENALTY, &desc->penalties[i]);
    }
    printf("model\n");
    if (desc->freeze) printf("  freeze %s\n", desc->freeze);
    if (desc->init) printf("  init %s\n", desc->init);
    print_fields(MTL_DESC_MODEL, desc);
    print_stream(model);
    print_structure(model);
    printf("tensors\n");
    print_tensors(file);
    print_note(model, "imported", "imported");
    print_note(model, "settings", "trained with");
    print_note(model, "trained", "training");
    print_note(model, "auto", "scores of what was tried");
    print_note(model, "sequence", "CSV: sequence column");
    print_note(model, "features", "CSV: feature columns");
    print_note(model, "gaps", "CSV: gaps are read as");
    print_note(model, "feature_means", "CSV: their means");
}

/* {"name": ..., field: value, ...} without its end. */
static void json_fields(int desc, const void *members, const char *key)
{
    size_t i, count;
    int first = 1;
    char value[64];
    const mtl_field *fields = mtl_fields(desc, &count);
    putchar('{');
    json_key(stdout, &first, "name");
    json_string(stdout, key);
    for (i = 0; i < count; i++) {
        mtl_field_get(&fields[i], members, value, sizeof value);
        json_key(stdout, &first, fields[i].name);
        if (fields[i].type == MTL_CHOICE) json_string(stdout, value);
        else if (fields[i].type == MTL_INTS) printf("[%s]", strcmp(value, "0") ? value : "");
        else fputs(*value ? value : "0", stdout);
    }
}

static void json_tasks(const mtl_model_desc *desc)
{
    size_t i;
    int c;
    char number[32];
    for (i = 0; i < desc->task_count; i++) {
        const mtl_task_desc *of = &desc->tasks[i];
        if (i) printf(", ");
        json_fields(MTL_DESC_TASK, of, of->name);
        for (c = 0; c < of->classes && of->labels; c++) {
            printf(c ? ", " : ", \"labels\": [");
            json_string(stdout, of->labels[c]);
        }
        if (of->classes && of->labels) putchar(']');
        for (c = 0; c < of->classes && of->class_weights; c++) {
            mtl_text_from_number((double)of->class_weights[c], number);
            printf("%s%s", c ? ", " : ", \"class_weights\": [", number);
        }
        printf(of->class_weights ? "]}" : "}");
    }
}

/* The lines key=value of a note as an object; values that are numbers are numbers. */
static void json_note(mtl_model *model, const char *key)
{
    const char *text = mtl_model_note(model, key, NULL, NULL), *line, *equals;
    int first = 1;
    double number;
    size_t length;
    char piece[512];
    putchar('{');
    while ((line = next_note_line(&text, &length)) != NULL) {
        if (!(equals = (const char *)memchr(line, '=', length))) continue;
        snprintf(piece, sizeof piece, "%.*s", (int)(equals - line), line);
        json_key(stdout, &first, piece);
        snprintf(piece, sizeof piece, "%.*s", (int)(line + length - equals - 1), equals + 1);
        if (mtl_text_number(piece, strlen(piece), &number)) fputs(piece, stdout);
        else json_string(stdout, piece);
    }
    putchar('}');
}

static void json_penalties(const mtl_model_desc *desc)
{
    size_t i;
    for (i = 0; i < desc->penalty_count; i++) {
        const mtl_penalty_desc *of = &desc->penalties[i];
        int first = 0;
        if (i) printf(", ");
        json_fields(MTL_DESC_PENALTY, of, of->name);
        json_key(stdout, &first, "a");
        json_string(stdout, of->a);
        if (of->b) json_key(stdout, &first, "b"), json_string(stdout, of->b);
        putchar('}');
    }
}

static void json_stream(const mtl_model *model)
{
    mtl_error err;
    const int can = streams(model, &err);
    printf(", \"stream\": %s", can ? "true" : "false");
    if (!can) printf(", \"stream_fault\": "), json_string(stdout, err.message);
}

/* A note under its own key, where there is one. */
static void json_note_if_any(mtl_model *model, const char *key)
{
    if (!mtl_model_note(model, key, NULL, NULL)) return;
    printf(", \"%s\": ", key);
    json_note(model, key);
}

static void json_model(const settings *given, mtl_model *model, const mtl_safetensors *file, double bytes)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    size_t i;
    printf("{\"file\": ");
    json_string(stdout, given->model_path);
    printf(", \"model\": true, \"bytes\": %.0f, \"parameters\": %zu, \"seed\": %llu, ", bytes,
           count_parameters(model), desc->seed);
    if (desc->freeze) printf("\"freeze\": "), json_string(stdout, desc->freeze), printf(", ");
    if (desc->init) printf("\"init\": "), json_string(stdout, desc->init), printf(", ");
    printf("\"inputs\": [");
    for (i = 0; i < desc->input_count; i++) {
        if (i) printf(", ");
        json_fields(MTL_DESC_INPUT, &desc->inputs[i], desc->inputs[i].name);
        putchar('}');
    }
    printf("], \"columns\": [");
    for (i = 0; i < desc->column_count; i++) {
        if (i) printf(", ");
        json_fields(MTL_DESC_COLUMN, &desc->columns[i], desc->columns[i].name);
        putchar('}');
    }
    printf("], \"tasks\": [");
    json_tasks(desc);
    printf("], \"penalties\": [");
    json_penalties(desc);
    putchar(']');
    json_stream(model);
    printf(", \"tensors\": ");
    json_tensors(file);
    json_note_if_any(model, "imported");
    printf(", \"settings\": ");
    json_note(model, "settings");
    printf(", \"training\": ");
    json_note(model, "trained");
    json_note_if_any(model, "auto");
    printf("}\n");
}

/* What a safetensors file holds that is no model, and on standard error why it is none. */
static void show_tensors(const settings *given, const mtl_safetensors *file, double bytes,
                         const mtl_error *err)
{
    const int foreign = !mtl_safetensors_metadata(file, "mtl_rnn.config");
    if (given->json) {
        printf("{\"file\": ");
        json_string(stdout, given->model_path);
        printf(", \"model\": false, \"bytes\": %.0f, \"fault\": ", bytes);
        json_string(stdout, err->message);
        printf(", \"tensors\": ");
        json_tensors(file);
        printf(", \"metadata\": ");
        json_metadata(file);
        printf("}\n");
    } else {
        printf("%s: no valid model; a safetensors file, %.0f bytes, %zu tensors\n", given->model_path, bytes,
               file->count);
        print_tensors(file);
        print_metadata(file);
    }
    flush_output();
    if (foreign)
        fail("%s: holds tensors of another program and is no model; mtl import makes one of them "
             "(mtl import --help)", given->model_path);
    fail_model(given->model_path, err);
}

int command_info(const settings *given)
{
    mtl_error err = { 0 };
    mtl_safetensors file;
    mtl_model *model;
    double bytes = 0;
    file_kind(given->model_path, &bytes);
    open_tensors(given->model_path, &file);
    model = mtl_model_load(given->model_path, &err);
    if (!model) show_tensors(given, &file, bytes, &err);
    else if (given->desc_c) print_desc_c(mtl_model_describe(model));
    else if (given->json) json_model(given, model, &file, bytes);
    else print_model(given, model, &file, bytes);
    mtl_model_destroy(model);
    mtl_safetensors_close(&file);
    return 0;
}
