#include "formats.h"

/* COLUMN_TOKENS - k: number k in corpus->columns */
enum { COLUMN_IGNORED = -1, COLUMN_TEXT = -2, COLUMN_TOKENS = -3 };

typedef struct tsv {
    int *columns;                           /* of each column: a number in dataset->targets, or COLUMN_* */
    size_t text;                            /* the text column */
    char **cells, **pieces;
} tsv;

/* What the header cell name:tokens declares. Further data may not bring columns that others lack. */
static int read_tsv_tokens(corpus *all, dataset *set, const source *in, const char *cell)
{
    int k = find_tokens(all, cell);
    if (k < 0 && all->closed) {
        warn("%s: the tokens %s are none that the model reads; their column is left out", in->path, cell);
        return COLUMN_IGNORED;
    }
    if (k < 0 && arrlenu(all->train))
        fail_at(in, cell, "tokens %s, which %s has not; a model reads the same columns in all data", cell,
                all->train[0].path);
    if (k < 0) k = add_tokens(all, in, cell, cell);
    while (arrlenu(set->tokens) < arrlenu(all->columns)) arrput(set->tokens, NULL);
    return COLUMN_TOKENS - k;
}

/* What the header cell name:kind declares: a number in dataset->targets, COLUMN_TOKENS or COLUMN_IGNORED. */
static int read_tsv_column(corpus *all, dataset *set, const source *in, char *cell)
{
    char *colon = strchr(cell, ':');
    target added = { 0 };
    const column_kind *kind;
    size_t i, width;
    if (!colon)
        fail_at(in, cell, "column '%.60s' has no kind; expected text, or name:kind such as %.60s:class%s",
                cell, name_fault(cell) ? "intent" : cell,
                strchr(cell, ' ') ? " (line 1 is the header line: is it missing?)" : "");
    *colon = '\0';
    if (strcmp(colon + 1, "tokens") == 0 || find_tokens(all, cell) >= 0)
        return read_tsv_tokens(all, set, in, cell);
    /* --only may leave out a column of a kind that is none */
    if (is_left_out(all, cell)) return COLUMN_IGNORED;
    kind = kind_by_name(colon + 1, &width);
    if (!kind)
        fail_at(in, colon + 1, "column %.60s: '%.40s' is no kind of task; expected %s, or tokens", cell,
                colon + 1, kinds_that(NULL));
    added.task = corpus_task(all, in, cell, cell, kind, width);
    if (added.task < 0) return COLUMN_IGNORED;
    for (i = 0; i < arrlenu(set->targets); i++)
        if (set->targets[i].task == added.task)
            fail_at(in, cell, "task %s stands twice in the header line; remove one column", cell);
    arrput(set->targets, added);
    return (int)arrlenu(set->targets) - 1;
}

/* Each column of tokens that the model reads stands in the header line, once. */
static void check_tsv_tokens(const corpus *all, const source *in, const tsv *table)
{
    size_t k, i, found;
    for (k = 0; k < arrlenu(all->columns); k++) {
        for (i = found = 0; i < arrlenu(table->columns); i++) {
            if (table->columns[i] != COLUMN_TOKENS - (int)k) continue;
            if (found++)
                fail_at(in, table->cells[i], "tokens %s stand twice in the header line; remove one column",
                        all->columns[k].name);
        }
        if (!found)
            fail_at(in, NULL, "no column %s:tokens, which the model reads beside the words",
                    all->columns[k].name);
    }
}

static void read_tsv_header(corpus *all, dataset *set, source *in, tsv *table)
{
    size_t i, texts = 0;
    if (!source_line(in))
        fail_at(in, NULL,
                "the file is empty; expected a header line that names the columns, e.g. "
                "text<TAB>intent:class");
    split(in->line, '\t', &table->cells);
    for (i = 0; i < arrlenu(table->cells); i++) {
        char *cell = table->cells[i];
        int is_text = strcmp(cell, "text") == 0;
        if (is_text && texts++) fail_at(in, cell, "a second text column; expected one");
        if (is_text) table->text = i;
        arrput(table->columns, is_text ? COLUMN_TEXT : read_tsv_column(all, set, in, cell));
    }
    if (!texts)
        fail_at(in, NULL,
                "no text column; expected a header line with one column named text (columns are separated "
                "by tabs)");
    check_tsv_tokens(all, in, table);
}

/* The tokens of a text; returns how many. */
static size_t read_tokens(corpus *all, dataset *set, const source *in, char *cell, char ***pieces)
{
    size_t i, count;
    int *words;
    if (!*cell) fail_at(in, cell, "an empty text; expected at least one token: remove the row");
    split(cell, ' ', pieces);
    count = arrlenu(*pieces);
    for (i = 0; i + 1 < count; i++)
        names_expect(&all->words, (*pieces)[i], (size_t)((*pieces)[i + 1] - (*pieces)[i]) - 1);
    words = arraddnptr(set->words, count);
    for (i = 0; i < count; i++) words[i] = read_word(all, &all->words, in, (*pieces)[i]);
    end_sequence(all, set, in, cell, count);
    return count;
}

/* A cell of tokens beside the words: one for each, _ for one that is not known, or for all of them. */
static void read_beside(corpus *all, dataset *set, const source *in, size_t k, char *cell, size_t steps,
                        char ***pieces)
{
    const int missing = strcmp(cell, "_") == 0;
    size_t i;
    split(cell, ' ', pieces);
    if (!missing && arrlenu(*pieces) != steps)
        fail_at(in, cell, "%s: %zu tokens for the %zu of the text; expected one for each, separated by one "
                "space, or _ for none at all", all->columns[k].name, *cell ? arrlenu(*pieces) : 0, steps);
    for (i = 0; i < steps; i++)
        arrput(set->tokens[k], read_word(all, &all->columns[k].words, in, missing ? "_" : (*pieces)[i]));
}

/* A cell of a step task: one item for each token, or `_` for all of them. */
static void read_steps(corpus *all, target *to, const source *in, char *cell, size_t steps, char ***pieces)
{
    const task *of = &all->tasks[to->task];
    int missing = strcmp(cell, "_") == 0;
    size_t i;
    split(cell, ' ', pieces);
    if (!missing && arrlenu(*pieces) != steps)
        fail_at(in, cell,
                "%s: %zu %s for %zu tokens; expected one for each token, separated by one space, or _ for "
                "none at all",
                of->name, *cell ? arrlenu(*pieces) : 0, of->kind->words->items[of->kind->level], steps);
    for (i = 0; i < steps; i++) {
        const char *piece = missing ? "_" : (*pieces)[i];
        read_item(all, to, in, piece, strcmp(piece, "_") == 0);
    }
}

static void read_tsv_row(corpus *all, dataset *set, source *in, tsv *table)
{
    size_t i, steps, expected = arrlenu(table->columns);
    split(in->line, '\t', &table->cells);
    if (arrlenu(table->cells) != expected)
        fail_at(in, arrlenu(table->cells) > expected ? table->cells[expected] : in->line + in->length,
                "a row of %zu cells; expected %zu, as in the header line (they are separated by tabs; _ is a "
                "missing label)%s",
                arrlenu(table->cells), expected, in->length ? "" : ": remove the empty line");
    steps = read_tokens(all, set, in, table->cells[table->text], &table->pieces);
    for (i = 0; i < expected; i++) {
        char *cell = table->cells[i];
        target *to = table->columns[i] >= 0 ? &set->targets[table->columns[i]] : NULL;
        if (to && kind_is_step(all->tasks[to->task].kind))
            read_steps(all, to, in, cell, steps, &table->pieces);
        else if (to) read_item(all, to, in, cell, strcmp(cell, "_") == 0);
        else if (table->columns[i] <= COLUMN_TOKENS)
            read_beside(all, set, in, (size_t)(COLUMN_TOKENS - table->columns[i]), cell, steps,
                        &table->pieces);
    }
}

dataset read_tsv(corpus *all, const char *path)
{
    dataset set = { 0 };
    tsv table = { 0 };
    source in = source_open(path);
    set.path = path;
    read_tsv_header(all, &set, &in, &table);
    while (!source_at_end(&in) && source_line(&in)) read_tsv_row(all, &set, &in, &table);
    if (!arrlenu(set.lengths))
        fail_at(&in, NULL, "nothing but a header line; expected at least one row below it");
    arrfree(table.columns);
    arrfree(table.cells);
    arrfree(table.pieces);
    set.bytes = in.size;
    source_close(&in);
    return set;
}
