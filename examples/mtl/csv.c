/* Rows are read in the file's order and grouped afterwards, since those of one sequence need not be adjacent.
   A cell may be quoted ("a,b", "" is a quote inside). An empty cell, `_` or `nan` is a missing target; in a
   feature it is an error, or, with --gaps, NaN until batches.c reads it as the column's mean. */
#include "formats.h"

#include <ctype.h>
#include <math.h>

#include "numbers.h"

typedef struct csv {
    source in;
    char **cells;
    size_t columns;
    ptrdiff_t sequence;                     /* columns by their use; -1: the file has none */
    size_t *features;
    unsigned char *marks;                   /* of each feature: 1 when it says whether a cell is missing */
    ptrdiff_t *targets;                     /* column of each of dataset->targets */
    int *row_sequence;                      /* of each row: the number of its sequence */
    size_t *rows;                           /* of each sequence: how many so far */
    size_t *lines;                          /* [sequence][target] line that gave a sequence's target, or 0 */
} csv;

/* Files of countries where a comma stands in numbers. at: a semicolon or a tab between cells. */
EXITS
static void fail_separator(const source *in, const char *at)
{
    fail_at(in, at,
            "%s between cells; expected commas, and points in numbers: tr '%s,' ',.' <FILE >NEW makes them",
            *at == ';' ? "semicolons" : "tabs", *at == ';' ? ";" : "\\t");
}

/* One cell: from `text` to the comma or the line's end, in place. Returns where the next one begins, or
   NULL. */
static char *cut_csv_cell(const source *in, char *text, char **cell)
{
    char *to, *end;
    while (*text == ' ') text++;
    if (*text != '"') {
        *cell = text;
        end = strchr(text, ',');
        if (!end) end = text + strlen(text);
        for (to = end; to > text && to[-1] == ' '; to--) { }
    } else {
        *cell = to = text + 1;
        for (end = to; *end && (*end != '"' || end[1] == '"'); end++) {
            if (*end == '"') end++;
            *to++ = *end;
        }
        if (!*end) fail_at(in, text, "a quote that does not end; expected \" before the line's end");
        end += 1 + strspn(end + 1, " ");
        if (*end == ';' || *end == '\t') fail_separator(in, end);
        if (*end && *end != ',') fail_at(in, end, "text after a closing quote; expected a comma");
    }
    text = *end ? end + 1 : NULL;
    *to = '\0';
    return text;
}

static void split_csv(csv *table)
{
    char *text = table->in.line, *cell;
    arrsetlen(table->cells, 0);
    while (text) {
        text = cut_csv_cell(&table->in, text, &cell);
        arrput(table->cells, cell);
    }
}

/* Number of the column of that name, or -1. */
static ptrdiff_t find_csv_column(const csv *table, const char *text)
{
    size_t i;
    for (i = 0; i < arrlenu(table->cells); i++)
        if (strcmp(table->cells[i], text) == 0) return (ptrdiff_t)i;
    return -1;
}

/* The header line lacks a column: tells why, as far as the line shows it. who: "--task names". */
EXITS
static void fail_csv_column(const csv *table, const char *text, const char *who)
{
    const char *const *cells = (const char *const *)table->cells;
    const char *number = NULL, *separator = NULL;
    int first_unnamed = !*cells[0];
    size_t i, separators = 0;
    for (i = 0; i < table->columns; i++) {
        const char *at = cells[i];
        if (!number && is_number(at)) number = at;
        for (; (at = strpbrk(at, ";\t")) != NULL; at++, separators++)
            if (!separators) separator = at;
    }
    if (strncmp(cells[0], "sep=", 4) == 0)
        fail_at(&table->in, NULL, "%.10s is no header line but a hint for another program; remove this line",
                cells[0]);
    if (separators >= table->columns) fail_separator(&table->in, separator);
    if (number && !is_number(text) && !nearest_name(text, cells))
        fail_at(&table->in, number, "no column %s, which %s; line 1 holds the number %.20s: is the header "
                "line missing? Put a line with the columns' names above it", text, who, number);
    fail_at(&table->in, NULL, "no column %s, which %s%s%s", text, who, suggestion(text, cells),
            first_unnamed ? " (the first column has no name: give it one in this line)" : "");
}

static size_t need_csv_column(const csv *table, const char *text, const char *who)
{
    ptrdiff_t found = find_csv_column(table, text);
    if (found < 0) fail_csv_column(table, text, who);
    return (size_t)found;
}

/* The column of a feature. "NAME?", where no column is called so, marks the gaps of NAME. */
static void read_csv_feature(csv *table, const char *text, const char *who)
{
    const size_t length = strlen(text);
    const int is_mark = length > 1 && text[length - 1] == '?' && find_csv_column(table, text) < 0;
    char *wanted = strcpy((char *)checked_realloc(NULL, length + 1), text);
    if (is_mark) wanted[length - 1] = '\0';
    arrput(table->features, need_csv_column(table, wanted, who));
    arrput(table->marks, (unsigned char)is_mark);
    free(wanted);
}

static void read_csv_header(const corpus *all, dataset *set, csv *table)
{
    size_t i, j;
    if (!source_line(&table->in))
        fail_at(&table->in, NULL, "the file is empty; expected a header line that names the columns");
    split_csv(table);
    table->columns = arrlenu(table->cells);
    for (i = 0; i < table->columns; i++)
        for (j = i + 1; j < table->columns && *table->cells[i]; j++)
            if (strcmp(table->cells[i], table->cells[j]) == 0)
                fail_at(&table->in, table->cells[j],
                        "column %.60s stands twice in the header line; rename one", table->cells[j]);
    table->sequence = all->sequence ? (ptrdiff_t)need_csv_column(table, all->sequence, all->sequence_by) : -1;
    for (i = 0; i < arrlenu(all->features); i++)
        read_csv_feature(table, all->features[i], all->features_by);
    for (i = 0; i < arrlenu(all->tasks); i++) {
        target added = { 0 };
        const char *wanted = all->tasks[i].name;
        ptrdiff_t column = all->closed ? find_csv_column(table, wanted)
                                       : (ptrdiff_t)need_csv_column(table, wanted, "--task names");
        added.task = (int)i;
        if (column < 0) continue;
        if (!all->closed) all->tasks[i].path = set->path;
        arrput(table->targets, column);
        arrput(set->targets, added);
    }
}

/* Number of the row's sequence; a new one gets empty targets. */
static size_t read_csv_sequence(corpus *all, dataset *set, csv *table)
{
    const char *text = table->sequence >= 0 ? table->cells[table->sequence] : set->path;
    size_t known = arrlenu(set->sequences.list), sequence, i;
    if (!*text)
        fail_at(&table->in, text, "an empty cell in column %s; expected the name of the row's sequence",
                all->sequence);
    sequence = names_add(&set->sequences, text, strlen(text));
    for (i = 0; i < arrlenu(set->targets) && sequence == known; i++) arrput(table->lines, 0);
    if (sequence == known) arrput(table->rows, 0);
    for (i = 0; i < arrlenu(set->targets) && sequence == known; i++)
        if (!kind_is_step(all->tasks[set->targets[i].task].kind))
            read_item(all, &set->targets[i], &table->in, text, 1);
    if (++table->rows[sequence] > all->max_tokens)
        fail_at(&table->in, table->sequence >= 0 ? text : NULL,
                "more than %zu rows in sequence %.60s; cut it, or allow more with --max-tokens",
                all->max_tokens, text);
    return sequence;
}

static int same_text(const char *a, const char *b)
{
    for (; *a && tolower((unsigned char)*a) == tolower((unsigned char)*b); a++, b++) { }
    return *a == *b;
}

static int csv_is_missing(const char *cell)
{
    return !*cell || strcmp(cell, "_") == 0 || same_text(cell, "nan");
}

/* The same of a target: an empty cell of a set is the set of no labels. */
static int csv_target_is_missing(const task *of, const char *cell)
{
    return csv_is_missing(cell) && (*cell || !kind_has_sets(of->kind));
}

static int same_values(const double *a, const double *b, size_t count)
{
    size_t i = 0;
    while (i < count && !(a[i] < b[i] || a[i] > b[i])) i++;
    return i == count;
}

static int same_set(const int *a, const int *b)
{
    return arrlenu(a) == arrlenu(b) && (!a || memcmp(a, b, arrlenu(a) * sizeof *a) == 0);
}

/* A sequence's only target: the first row that has it gives it, further ones must agree. */
static void read_csv_sequence_target(corpus *all, dataset *set, csv *table, size_t which, size_t sequence,
                                     const char *cell)
{
    target *to = &set->targets[which], one = { 0 };
    task *of = &all->tasks[to->task];
    const column_kind *steps = kind_at_steps(of->kind);
    size_t *line = &table->lines[sequence * arrlenu(set->targets) + which], counted = of->items;
    int agrees;
    if (csv_target_is_missing(of, cell)) return;
    one.task = to->task;
    read_item(all, &one, &table->in, cell, 0);
    if (one.sets) {
        agrees = !*line || same_set(to->sets[sequence], one.sets[0]);
        arrfree(to->sets[sequence]);
        to->sets[sequence] = one.sets[0];
    } else if (one.labels) {
        agrees = !*line || to->labels[sequence] == one.labels[0];
        to->labels[sequence] = one.labels[0];
    } else {
        double *of_sequence = to->values + sequence * of->width;
        agrees = !*line || same_values(of_sequence, one.values, of->width);
        memcpy(of_sequence, one.values, of->width * sizeof *of_sequence);
    }
    if (!agrees)
        fail_at(&table->in, cell,
                "%s: '%.40s' differs from the value in line %zu; a task of kind %s has one value for the "
                "whole sequence%s%s%s", of->name, cell, *line, kind_text(of->kind, of->width),
                steps ? " (kind " : "",
                steps ? steps->name : "", steps ? ": one for each row)" : "");
    if (*line) of->items = counted;
    else *line = table->in.number;
    arrfree(one.labels);
    arrfree(one.values);
    arrfree(one.sets);
}

/* Number f of a row's features. */
static double read_feature(const corpus *all, const csv *table, size_t f)
{
    const char *cell = table->cells[table->features[f]], *name = all->features[f];
    if (table->marks[f]) return csv_is_missing(cell);
    if (!csv_is_missing(cell))
        return read_number(&table->in, cell, name, "remove the row: a feature may not be missing");
    if (!all->gaps)
        fail_at(&table->in, cell,
                "feature %s: '%s' where a number was expected; a feature may not be missing: "
                "fill it in, remove the row, or train with --gaps mean or --gaps last", name, cell);
    return (double)NAN;
}

static void read_csv_row(corpus *all, dataset *set, csv *table)
{
    size_t i, sequence;
    const source *in = &table->in;
    split_csv(table);
    if (arrlenu(table->cells) != table->columns)
        fail_at(in,
                arrlenu(table->cells) > table->columns ? table->cells[table->columns] : in->line + in->length,
                "a row of %zu cells; expected %zu, as in the header line (cells are separated by commas; "
                "numbers have a point, and \" stands around a text with a comma)",
                arrlenu(table->cells), table->columns);
    sequence = read_csv_sequence(all, set, table);
    arrput(table->row_sequence, (int)sequence);
    for (i = 0; i < arrlenu(table->features); i++) arrput(set->features, read_feature(all, table, i));
    for (i = 0; i < arrlenu(set->targets); i++) {
        const char *cell = table->cells[table->targets[i]];
        const task *of = &all->tasks[set->targets[i].task];
        if (kind_is_step(of->kind))
            read_item(all, &set->targets[i], in, cell, csv_target_is_missing(of, cell));
        else read_csv_sequence_target(all, set, table, i, sequence, cell);
    }
}

/* Rows in the order of their sequences: order[k] is the row that becomes the k-th. Fills set->lengths. */
static size_t *group_rows(const corpus *all, dataset *set, const csv *table)
{
    size_t i, sum = 0, sequences = arrlenu(set->sequences.list), rows = arrlenu(table->row_sequence),
        *order = NULL, *next = NULL;
    arrsetlen(next, sequences);
    arrsetlen(order, rows);
    for (i = 0; i < sequences; i++) {
        const size_t length = table->rows[i];
        end_sequence(all, set, &table->in, NULL, length);
        next[i] = sum;
        sum += length;
    }
    for (i = 0; i < rows; i++) order[next[table->row_sequence[i]]++] = i;
    arrfree(next);
    return order;
}

/* Puts the rows of all step arrays in that order. */
static void reorder_rows(const corpus *all, dataset *set, const size_t *order)
{
    size_t i, k, f, rows = arrlenu(order), width = arrlenu(all->features), numbers;
    double *features = NULL;
    arrsetlen(features, rows * width);
    for (k = 0; k < rows; k++)
        for (f = 0; f < width; f++) features[k * width + f] = set->features[order[k] * width + f];
    arrfree(set->features);
    set->features = features;
    for (i = 0; i < arrlenu(set->targets); i++) {
        target *of = &set->targets[i], moved = { 0 };
        if (!kind_is_step(all->tasks[of->task].kind)) continue;
        moved.task = of->task;
        numbers = all->tasks[of->task].width;
        for (k = 0; k < rows && of->labels; k++) arrput(moved.labels, of->labels[order[k]]);
        for (k = 0; k < rows * numbers && of->values; k++)
            arrput(moved.values, of->values[order[k / numbers] * numbers + k % numbers]);
        for (k = 0; k < rows && of->sets; k++) arrput(moved.sets, of->sets[order[k]]);
        arrfree(of->sets);
        arrfree(of->labels);
        arrfree(of->values);
        *of = moved;
    }
}

/* --gaps last: a gap has the number of the row before it in its sequence, where there is one. */
static void fill_gaps(const corpus *all, dataset *set)
{
    const size_t width = arrlenu(all->features);
    size_t s, f, row = 0;
    int step;
    if (!all->gaps || strcmp(all->gaps, "last") != 0) return;
    for (s = 0; s < arrlenu(set->lengths); s++)
        for (step = 0; step < set->lengths[s]; step++, row++)
            for (f = 0; f < width && step; f++)
                if (isnan(set->features[row * width + f]))
                    set->features[row * width + f] = set->features[(row - 1) * width + f];
}

dataset read_csv(corpus *all, const char *path)
{
    dataset set = { 0 };
    csv table = { 0 };
    size_t *order;
    set.path = path;
    table.in = source_open(path);
    read_csv_header(all, &set, &table);
    while (!source_at_end(&table.in) && source_line(&table.in)) read_csv_row(all, &set, &table);
    if (!arrlenu(table.row_sequence))
        fail_at(&table.in, NULL, "nothing but a header line; expected at least one row below it");
    order = group_rows(all, &set, &table);
    reorder_rows(all, &set, order);
    fill_gaps(all, &set);
    arrfree(order);
    arrfree(table.cells);
    arrfree(table.features);
    arrfree(table.marks);
    arrfree(table.targets);
    arrfree(table.row_sequence);
    arrfree(table.rows);
    arrfree(table.lines);
    set.bytes = table.in.size;
    source_close(&table.in);
    return set;
}
