#include "desc_c.h"

/* Octal escapes, since \u names no control character; and ?? would begin a trigraph. */
static void print_text_c(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f) printf("\\%03o", c);
        else if (strchr("\"\\?", c)) printf("\\%c", c);
        else putchar(c);
    }
    putchar('"');
}

/* A float's text, from the field table or mtl_text_from_number. */
static void print_float_c(const char *value) { printf("%s%s", value, strpbrk(value, ".e") ? "f" : ".0f"); }

/* ", .name = value" of numbers that are not at their default. */
static void print_members_c(int desc, const void *members)
{
    size_t i, count;
    const mtl_field *f = mtl_fields(desc, &count);
    char value[64], preset[64], zero[4096] = { 0 };
    for (i = 0; i < count; i++) {
        mtl_field_get(&f[i], members, value, sizeof value);
        mtl_field_get(&f[i], zero, preset, sizeof preset);
        if (strcmp(value, preset) == 0) continue;
        printf(",\n      .%s = ", f[i].name);
        if (f[i].type == MTL_INTS) printf("{ %s }", value);
        else if (f[i].type == MTL_CHOICE) {
            int number;
            memcpy(&number, (const char *)members + f[i].offset, sizeof number);
            printf("%d /* %s */", number, value);
        } else if (f[i].type == MTL_FLOAT) print_float_c(value);
        else printf("%s", value);
    }
}

static void print_name_c(const char *member, const char *text)
{
    if (!text) return;
    printf(",\n      .%s = ", member);
    print_text_c(text);
}

static void print_mix_c(const char *member, const mtl_mix_desc *mix)
{
    printf(",\n      .%s = { .from = ", member);
    if (mix->from) print_text_c(mix->from);
    else printf("NULL");
    print_name_c("by", mix->by);
    print_name_c("stop", mix->stop);
    print_members_c(MTL_DESC_MIX, mix);
    printf(" }");
}

/* ---- lists: an array in front, such as words0 of input 0, which the desc names ------------------------- */

static void print_texts_c(const char *member, size_t owner, const char *const *texts, int count)
{
    int i;
    if (!texts) return;
    printf("static const char *const %s%zu[] = {", member, owner);
    for (i = 0; i < count; i++) {
        printf(i % 8 ? ", " : i ? ",\n    " : "\n    ");
        print_text_c(texts[i]);
    }
    printf("\n};\n");
}

static void print_floats_c(const char *member, size_t owner, const float *numbers, int count)
{
    char value[32];
    int i;
    if (!numbers) return;
    printf("static const float %s%zu[] = {", member, owner);
    for (i = 0; i < count; i++) {
        printf(i % 8 ? ", " : i ? ",\n    " : "\n    ");
        mtl_text_from_number((double)numbers[i], value);
        print_float_c(value);
    }
    printf("\n};\n");
}

static void print_lists_c(const mtl_model_desc *d)
{
    size_t i;
    for (i = 0; i < d->input_count; i++) {
        const mtl_input_desc *of = &d->inputs[i];
        print_texts_c("words", i, of->words, of->vocabulary);
        print_floats_c("unknown_chances", i, of->unknown_chances, of->vocabulary);
        print_texts_c("phrases", i, of->phrases, of->phrase_count);
        print_floats_c("phrase_uses", i, of->phrase_uses, of->phrase_count);
    }
    for (i = 0; i < d->task_count; i++) {
        print_texts_c("labels", i, d->tasks[i].labels, d->tasks[i].classes);
        print_floats_c("class_weights", i, d->tasks[i].class_weights, d->tasks[i].classes);
    }
}

static void print_list_name_c(const char *member, size_t owner, const void *list)
{
    if (list) printf(",\n      .%s = %s%zu", member, member, owner);
}

/* ---- the desc: C++20 wants members in the order of the fields ------------------------------------------ */

static void print_input_c(size_t i, const mtl_input_desc *of)
{
    print_list_name_c("words", i, of->words);
    print_list_name_c("unknown_chances", i, of->unknown_chances);
    print_name_c("reads", of->reads);
    print_name_c("tokens", of->tokens);
    print_list_name_c("phrases", i, of->phrases);
    print_list_name_c("phrase_uses", i, of->phrase_uses);
    print_members_c(MTL_DESC_INPUT, of);
}

static void print_column_c(const mtl_column_desc *of)
{
    print_mix_c("input", &of->input);
    print_name_c("trains", of->trains);
    print_members_c(MTL_DESC_COLUMN, of);
}

static void print_task_c(size_t i, const mtl_task_desc *of)
{
    print_mix_c("tap", &of->tap);
    print_list_name_c("labels", i, of->labels);
    print_list_name_c("class_weights", i, of->class_weights);
    print_name_c("pool_of", of->pool_of);
    print_members_c(MTL_DESC_TASK, of);
}

static void print_penalty_c(const mtl_penalty_desc *of)
{
    print_name_c("a", of->a);
    print_name_c("b", of->b);
    print_members_c(MTL_DESC_PENALTY, of);
}

static void begin_c(const char *name)
{
    printf("    { .name = ");
    print_text_c(name);
}

static void print_parts_c(const mtl_model_desc *d)
{
    size_t i;
    printf("static const mtl_input_desc inputs[] = {\n");
    for (i = 0; i < d->input_count; i++, printf(" },\n"))
        begin_c(d->inputs[i].name), print_input_c(i, &d->inputs[i]);
    printf("};\nstatic const mtl_column_desc columns[] = {\n");
    for (i = 0; i < d->column_count; i++, printf(" },\n"))
        begin_c(d->columns[i].name), print_column_c(&d->columns[i]);
    printf("};\nstatic const mtl_task_desc tasks[] = {\n");
    for (i = 0; i < d->task_count; i++, printf(" },\n"))
        begin_c(d->tasks[i].name), print_task_c(i, &d->tasks[i]);
    printf("};\n");
    if (d->penalty_count) printf("static const mtl_penalty_desc penalties[] = {\n");
    for (i = 0; i < d->penalty_count; i++, printf(" },\n"))
        begin_c(d->penalties[i].name), print_penalty_c(&d->penalties[i]);
    if (d->penalty_count) printf("};\n");
}

void print_desc_c(const mtl_model_desc *d)
{
    print_lists_c(d);
    print_parts_c(d);
    printf("static const mtl_model_desc desc = {\n      .inputs = inputs, .input_count = %zu, "
           ".columns = columns, .column_count = %zu,\n      .tasks = tasks, .task_count = %zu",
           d->input_count, d->column_count, d->task_count);
    if (d->penalty_count) printf(",\n      .penalties = penalties, .penalty_count = %zu", d->penalty_count);
    print_name_c("freeze", d->freeze);
    print_name_c("init", d->init);
    printf(",\n      .seed = %llu\n};\n", d->seed);
}
