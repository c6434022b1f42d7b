#include "formats.h"

#include <ctype.h>

enum { CONLLU_COLUMNS = 10, CONLLU_FORM = 1, CONLLU_TASKS = 4 };
static const struct { const char *name; int cell; int underscore_is_label; } conllu_tasks[CONLLU_TASKS] = {
    { "upos", 3, 0 }, { "xpos", 4, 0 }, { "feats", 5, 1 }, { "deprel", 7, 0 },
};

/* What may be read beside the words (--tokens). */
static const struct { const char *name; int cell; } conllu_tokens[] = {
    { "lemma", 2 }, { "upos", 3 }, { "xpos", 4 }, { "feats", 5 }, { "deprel", 7 },
};
enum { CONLLU_TOKENS = sizeof conllu_tokens / sizeof conllu_tokens[0] };

/* The cell of the corpus' column k; one that CoNLL-U has not ends the program. */
static int conllu_cell(const corpus *all, const source *in, size_t k)
{
    const char **list = NULL;
    size_t i;
    for (i = 0; i < CONLLU_TOKENS; i++)
        if (strcmp(conllu_tokens[i].name, all->columns[k].name) == 0) return conllu_tokens[i].cell;
    for (i = 0; i < CONLLU_TOKENS; i++) arrput(list, conllu_tokens[i].name);
    fail("%s: CoNLL-U has no tokens %s; it has lemma, upos, xpos, feats and deprel%s", in->path,
         all->columns[k].name, suggestion(all->columns[k].name, list));
}

/* The tokens beside a word, whose line is in `cells`. */
static void read_conllu_tokens(corpus *all, dataset *set, const source *in, char **cells)
{
    size_t k;
    while (arrlenu(set->tokens) < arrlenu(all->columns)) arrput(set->tokens, NULL);
    for (k = 0; k < arrlenu(all->columns); k++) {
        const char *cell = cells[conllu_cell(all, in, k)];
        if (!*cell) fail_at(in, cell, "%s: an empty cell; expected a token, or _", all->columns[k].name);
        arrput(set->tokens[k], read_word(all, &all->columns[k].words, in, cell));
    }
}

/* A column makes a task at its first cell that is not `_`; one that is wholly `_` makes none. */
static void start_conllu_task(corpus *all, target *to, const source *in, int column)
{
    size_t i, width;
    const column_kind *tags = kind_by_name("tags", &width);
    task *of;
    to->task = corpus_task(all, in, NULL, conllu_tasks[column].name, tags, width);
    if (to->task < 0 || !conllu_tasks[column].underscore_is_label) return;
    of = &all->tasks[to->task];
    for (i = 0; i < arrlenu(to->labels); i++) to->labels[i] = read_label(all, of, in, "_");
}

enum { CONLLU_UNDECIDED = -3 };             /* no cell but `_` so far */

static void read_conllu_target(corpus *all, target *to, const source *in, int column, const char *cell)
{
    int underscore = strcmp(cell, "_") == 0;
    if (to->task == CONLLU_UNDECIDED && !underscore) start_conllu_task(all, to, in, column);
    if (to->task >= 0) read_item(all, to, in, cell, underscore && !conllu_tasks[column].underscore_is_label);
    else arrput(to->labels, MTL_MISSING);
}

/* 1 when text is the number, written without a sign or leading zeros; number > 0. */
static int is_whole(const char *text, size_t number)
{
    const char *end = text + strlen(text);
    for (; number && end > text && end[-1] == (char)('0' + number % 10); number /= 10) end--;
    return !number && end == text;
}

/* One line of a sentence; returns 1 when it is a word. */
static int read_conllu_word(corpus *all, dataset *set, const source *in, char **cells, size_t words)
{
    const char *id = cells[0];
    int column;
    if (arrlenu(cells) != CONLLU_COLUMNS)
        fail_at(in, NULL, "%zu columns; expected the 10 of CoNLL-U, separated by tabs, or an empty line "
                "between sentences (tags of another form: a task TSV with a column such as tags:tags)",
                arrlenu(cells));
    if (isdigit((unsigned char)*id) && strpbrk(id, "-.")) return 0;       /* multi-word token or empty node */
    if (!is_whole(id, words + 1))
        fail_at(in, id,
                "the word's number is '%.20s'; expected %zu (sentences are separated by an empty line)", id,
                words + 1);
    if (!*cells[CONLLU_FORM])
        fail_at(in, cells[CONLLU_FORM], "an empty word; expected the word itself, or _");
    arrput(set->words, read_word(all, &all->words, in, cells[CONLLU_FORM]));
    read_conllu_tokens(all, set, in, cells);
    for (column = 0; column < CONLLU_TASKS; column++)
        if (find_tokens(all, conllu_tasks[column].name) < 0)
            read_conllu_target(all, &set->targets[column], in, column, cells[conllu_tasks[column].cell]);
    return 1;
}

dataset read_conllu(corpus *all, const char *path)
{
    dataset set = { 0 };
    target undecided = { CONLLU_UNDECIDED, NULL, NULL, NULL, NULL, NULL };
    char **cells = NULL;
    size_t words = 0, i;
    source in = source_open(path);
    set.path = path;
    for (i = 0; i < CONLLU_TASKS; i++) arrput(set.targets, undecided);
    while (source_line(&in)) {
        if (*in.line == '#' && !words) continue;
        if (*in.line) {
            split(in.line, '\t', &cells);
            words += (size_t)read_conllu_word(all, &set, &in, cells, words);
        } else if (words) {
            end_sequence(all, &set, &in, NULL, words);
            words = 0;
        }
    }
    if (words) end_sequence(all, &set, &in, NULL, words);
    if (!arrlenu(set.lengths))
        fail_at(&in, NULL, "%s; expected sentences in CoNLL-U",
                in.size ? "no sentence" : "the file is empty");
    for (i = CONLLU_TASKS; i-- > 0;)
        if (set.targets[i].task < 0) arrfree(set.targets[i].labels), arrdel(set.targets, i);
    arrfree(cells);
    set.bytes = in.size;
    source_close(&in);
    return set;
}
