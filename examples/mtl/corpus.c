#include "corpus.h"

#include <ctype.h>
#include <math.h>

task *corpus_find(const corpus *all, const char *text)
{
    size_t i;
    for (i = 0; i < arrlenu(all->tasks); i++)
        if (strcmp(all->tasks[i].name, text) == 0) return &all->tasks[i];
    return NULL;
}

const char **corpus_task_names(const corpus *all)
{
    const char **list = NULL;
    size_t i;
    for (i = 0; i < arrlenu(all->tasks); i++) arrput(list, all->tasks[i].name);
    return list;
}

static int is_listed(char **list, const char *text)
{
    size_t i;
    for (i = 0; i < arrlenu(list); i++)
        if (strcmp(list[i], text) == 0) return 1;
    return 0;
}

int is_left_out(corpus *all, const char *text)
{
    if (!arrlenu(all->only) || is_listed(all->only, text)) return 0;
    names_add(&all->left_out, text, strlen(text));
    return 1;
}

const char *name_fault(const char *text)
{
    const char *c;
    if (strcmp(text, "encoder") == 0 || is_input_name(text))
        return "is a name that the model itself uses; give the task another one";
    for (c = text; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '_' && *c != '-')
            return "may hold only letters a-z, digits, _ and -";
    return c == text ? "is empty" : c - text > 60 ? "is too long (60 letters at most)" : NULL;
}

const char *kind_text(const column_kind *kind, size_t width)
{
    static char text[2][40];
    static int last;
    last = !last;
    snprintf(text[last], sizeof text[last], width > 1 ? "%s:%zu" : "%s", kind->name, width);
    return text[last];
}

int corpus_task(corpus *all, const source *in, const char *where, const char *text, const column_kind *kind,
                size_t width)
{
    const char *fault;
    task *known = corpus_find(all, text);
    task added = { 0 };
    if (is_left_out(all, text)) return -1;
    if (known && (!kind_is_read_from(known->kind, kind) || known->width != width))
        fail_at(in, where,
                "task %s is of kind %s here and %s in %s; expected the same kind, or another name", text,
                kind_text(kind, width), kind_text(known->kind, known->width), known->path);
    if (known) return (int)(known - all->tasks);
    if (find_tokens(all, text) >= 0)
        fail_at(in, where, "%s is a task and tokens to read; give one of them another name", text);
    if (all->closed) {
        warn("%s: task %s is not one that the model learns; its column is left out", in->path, text);
        return -1;
    }
    if ((fault = name_fault(text)) != NULL)
        fail_at(in, where, "the task name '%.60s' %s (columns are separated by tabs)", text, fault);
    added.name = strcpy((char *)checked_realloc(NULL, strlen(text) + 1), text);
    added.kind = kind;
    added.width = width;
    added.path = in->path;
    arrput(all->tasks, added);
    return (int)arrlenu(all->tasks) - 1;
}

/* The tasks that --clamp may name. A growing array of the caller's. */
static const char **real_task_names(const corpus *all)
{
    const char **list = NULL;
    size_t i;
    for (i = 0; i < arrlenu(all->tasks); i++)
        if (kind_has_reals(all->tasks[i].kind)) arrput(list, all->tasks[i].name);
    return list;
}

void apply_clamp(corpus *all, const char *text)
{
    const char *equals = strchr(text, '='), *colon = equals ? strchr(equals, ':') : NULL;
    char wanted[64] = "";
    task *of;
    double low, high;
    if (!colon || !mtl_text_number(equals + 1, (size_t)(colon - equals) - 1, &low) ||
        !mtl_text_number(colon + 1, strlen(colon + 1), &high) || low >= high)
        fail_usage("--clamp %s: expected TASK=LOW:HIGH with two numbers, the lower first, e.g. rul=0:125",
                   text);
    snprintf(wanted, sizeof wanted, "%.*s", (int)(equals - text), text);
    of = corpus_find(all, wanted);
    if (!of) fail_usage("--clamp %s: no such task%s", text, suggestion(wanted, real_task_names(all)));
    if (!kind_has_reals(of->kind))
        fail_usage("--clamp %s: task %s is of kind %s; expected %s", text, wanted, of->kind->name,
                   kinds_that(kind_has_reals));
    of->clamped = 1;
    of->low = low;
    of->high = high;
}

double clamp(const task *of, double value)
{
    return !of->clamped ? value : value < of->low ? of->low : value > of->high ? of->high : value;
}

const char *option_of(char **list, const task *of)
{
    const size_t length = strlen(of->name);
    size_t i = arrlenu(list);
    while (i-- > 0)
        if (strncmp(list[i], of->name, length) == 0 && list[i][length] == '=') return list[i] + length + 1;
    return NULL;
}

void check_option(const corpus *all, char **list, const char *option, const char *form,
                  int (*is)(const column_kind *))
{
    size_t i;
    for (i = 0; i < arrlenu(list); i++) {
        char wanted[64];
        const task *of;
        snprintf(wanted, sizeof wanted, "%.*s", (int)strcspn(list[i], "="), list[i]);
        of = corpus_find(all, wanted);
        if (!strchr(list[i], '=')) fail_usage("%s %s: expected %s", option, list[i], form);
        if (!of)
            fail_usage("%s %s: no such task%s", option, list[i], suggestion(wanted, corpus_task_names(all)));
        if (!is(of->kind))
            fail_usage("%s %s: task %s is of kind %s; expected %s", option, list[i], wanted, of->kind->name,
                       kinds_that(is));
    }
}

int has_spans(const task *of)
{
    const char **labels = name_list(&of->labels);
    const int spans = kind_is_step(of->kind) && kind_has_one_class(of->kind)
        && mtl_labels_are_spans(labels, of->classes);
    arrfree(labels);
    return spans;
}

size_t label_count(const task *of) { return arrlenu(of->labels.list); }

int read_label(corpus *all, task *of, const source *in, const char *text)
{
    size_t label, length = strlen(text);
    if (!all->closed) {
        of->items++;
        return (int)names_add(&of->labels, text, length);
    }
    label = names_add(&of->labels, text, length);
    if (label < of->classes) return (int)label;
    if (!of->unseen++) of->first_unseen = of->labels.list[label].key, of->first_unseen_line = in->number;
    label -= of->classes;
    if (label == arrlenu(of->unknown)) arrput(of->unknown, of->labels.list[of->classes + label].key);
    return MTL_UNKNOWN_LABEL - (int)label;
}

static double read_value(const task *of, const source *in, const char *text)
{
    double value = clamp(of, read_number(in, text, of->name, "_ where it is missing"));
    if (kind_has_counts(of->kind) && (value < 0 || floor(value) < value))
        fail_at(in, text, "%s: '%.40s' is no count; expected a whole number of at least 0, or _ where it is "
                "missing", of->name, text);
    return value;
}

/* "1,2.5": the numbers of an item between commas, as many as the task has. */
static void read_values(corpus *all, task *of, const source *in, const char *cell, double **values)
{
    char *at = (char *)(uintptr_t)cell, *comma;             /* a part of the line */
    size_t k;
    for (k = 0; k < of->width; k++, at = comma ? comma + 1 : at + strlen(at)) {
        comma = of->width > 1 ? strchr(at, ',') : NULL;
        if ((k + 1 < of->width) != (comma != NULL))
            fail_at(in, comma ? comma : at, "%s: %s numbers than the %zu of its kind, %s; expected them with "
                    "commas between, or _ alone where they are missing", of->name, comma ? "more" : "fewer",
                    of->width, kind_text(of->kind, of->width));
        if (comma) *comma = '\0';
        arrput(*values, read_value(of, in, at));
        if (comma) *comma = ',';
    }
    if (!all->closed) of->items++;
}

/* Puts a label where it belongs in an ascending set; *set moves. */
static void add_to_set(int **set, int label, const task *of, const source *in, const char *where)
{
    size_t i = arrlenu(*set);
    arrput(*set, label);
    for (; i > 0 && (*set)[i - 1] >= label; i--) {
        if ((*set)[i - 1] == label) fail_at(in, where, "%s: this label stands twice; remove one", of->name);
        (*set)[i] = (*set)[i - 1];
    }
    (*set)[i] = label;
}

/* "a,b": the labels between commas; an empty cell has none. */
static int *read_set(corpus *all, task *of, const source *in, const char *cell)
{
    int *set = NULL;
    const size_t items = of->items;
    const char *at = cell;
    char piece[LONGEST_WORD + 1];
    while (*cell) {
        const size_t length = strcspn(at, ",");
        if (!length || (length == 1 && *at == '_'))
            fail_at(in, at,
                    "%s: %s label among others; expected labels separated by commas, nothing for none of "
                    "them, or _ alone where they are missing", of->name, length ? "a missing" : "an empty");
        if (length > LONGEST_WORD || memchr(at, ' ', length))
            fail_at(in, at, "%s: a label %s; expected labels separated by commas alone", of->name,
                    length > LONGEST_WORD ? "that is too long" : "that holds a space");
        memcpy(piece, at, length);
        piece[length] = '\0';
        add_to_set(&set, read_label(all, of, in, piece), of, in, at);
        if (!at[length]) break;
        at += length + 1;
    }
    if (!all->closed) of->items = items + 1;
    return set;
}

static int *missing_set(void)
{
    int *set = NULL;
    arrput(set, MTL_MISSING);
    return set;
}

void read_item(corpus *all, target *to, const source *in, const char *cell, int missing)
{
    task *of = &all->tasks[to->task];
    size_t k;
    if (kind_has_sets(of->kind)) {
        if (kind_is_step(of->kind) && strcmp(cell, "-") == 0) cell++;       /* the set of none among others */
        arrput(to->sets, missing ? missing_set() : read_set(all, of, in, cell));
        return;
    }
    if (kind_has_numbers(of->kind)) {
        if (!missing) read_values(all, of, in, cell, &to->values);
        else for (k = 0; k < of->width; k++) arrput(to->values, (double)NAN);
        return;
    }
    if (!*cell && !missing)
        fail_at(in, cell, "%s: an empty label; write _ where a label is missing", of->name);
    if (!missing && strchr(cell, ' '))
        fail_at(in, cell,
                "%s: '%.40s' holds a space; expected one label (a column of kind tags has one for each "
                "token): write _ in place of spaces inside a label", of->name, cell);
    arrput(to->labels, missing ? MTL_MISSING : read_label(all, of, in, cell));
}

int find_tokens(const corpus *all, const char *text)
{
    size_t i;
    for (i = 0; i < arrlenu(all->columns); i++)
        if (strcmp(all->columns[i].name, text) == 0) return (int)i;
    return -1;
}

int add_tokens(corpus *all, const source *in, const char *where, const char *text)
{
    const char *fault = name_fault(text);
    token_column added = { 0 };
    if (fault) fail_at(in, where, "the name '%.60s' of tokens %s", text, fault);
    if (corpus_find(all, text))
        fail_at(in, where, "%s is a task and tokens to read; give one of them another name", text);
    added.name = strcpy((char *)checked_realloc(NULL, strlen(text) + 1), text);
    arrput(all->columns, added);
    return (int)arrlenu(all->columns) - 1;
}

int read_word(const corpus *all, names *words, const source *in, const char *text)
{
    size_t word, length = strlen(text);
    if (!length)
        fail_at(in, text,
                "an empty token; expected tokens separated by one space each, none before the first or "
                "after the last");
    if (length > LONGEST_WORD)
        fail_at(in, text, "a token of %zu bytes; expected at most %d: are the tokens separated by spaces?",
                length, (int)LONGEST_WORD);
    word = names_add(words, text, length);
    if (!all->closed) words->list[word].value++;
    return (int)word;
}

void end_sequence(const corpus *all, dataset *set, const source *in, const char *where, size_t steps)
{
    if (steps > all->max_tokens)
        fail_at(in, where,
                "%zu tokens in one sequence; expected at most %zu: cut it, or allow more with --max-tokens",
                steps, all->max_tokens);
    arrput(set->lengths, (int)steps);
    set->rows += steps;
}

void report_unseen(corpus *all, const char *path)
{
    size_t i;
    for (i = 0; i < arrlenu(all->tasks); i++) {
        task *of = &all->tasks[i];
        if (of->unseen)
            warn("%s: task %s: %zu labels unseen in training (the first is '%s' in line %zu): they count as "
                 "wrong", path, of->name, of->unseen, of->first_unseen, of->first_unseen_line);
        of->unseen = 0;
    }
}

/* 1 for the tags that are scored as spans. */
static int is_bio_tag(const char *tag)
{
    return strcmp(tag, "O") == 0 || ((*tag == 'B' || *tag == 'I') && tag[1] == '-' && tag[2]);
}

/* 1 for what schemes of spans (IOBES, BILOU, BMES ..) write inside a span: a letter, alone or before
   -TYPE. */
static int is_span_tag(const char *tag)
{
    return *tag && strchr("BIESLUM", *tag) && (!tag[1] || (tag[1] == '-' && tag[2]));
}

void report_scheme(const task *of)
{
    size_t i, spans = 0, others = 0, begins = 0, looks = 0;
    const char *misfit = NULL, *first = NULL;
    for (i = 0; i < of->classes && kind_has_one_class(of->kind) && kind_is_step(of->kind); i++) {
        const char *tag = of->labels.list[i].key;
        if (!misfit && !is_bio_tag(tag)) misfit = tag;
        if (strcmp(tag, "O") == 0) continue;
        if (!first) first = tag;
        spans += (size_t)is_span_tag(tag);
        others += (size_t)!is_span_tag(tag);
        begins += is_bio_tag(tag) && *tag == 'B';
        looks += is_span_tag(tag) && (tag[1] || *tag == 'B' || *tag == 'I');
    }
    if (!looks || others > spans || (!misfit && begins)) return;
    warn("%s: task %s: its tags look like spans, but '%s' %s: its score, which chooses the best epoch, "
         "is token accuracy, not span F1; write all its tags as B-TYPE (the first of a span), I-TYPE and O "
         "to have F1",
         of->path, of->name, misfit ? misfit : first,
         misfit ? "is not B-TYPE, I-TYPE or O" : "and all others begin with no B-");
}
