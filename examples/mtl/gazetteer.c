#include "gazetteer.h"

#include "system.h"

static const char SPANS[] = "spans";
enum { LONGEST_PHRASE = 7 };                /* words; longer spans hardly occur twice */

/* Counts a span as a phrase, whose words are numbers in all->words. */
static void count_span(corpus *all, const char *type, const int *words, size_t count)
{
    char *text = NULL;
    size_t i, known;
    add_text(&text, "%s", type);
    for (i = 0; i < count; i++) {
        const char *word = all->words.list[words[i]].key;
        const size_t length = strlen(word);
        arrsetlen(text, arrlenu(text) - 1);
        arrput(text, i ? ' ' : '\t');
        memcpy(arraddnptr(text, length + 1), word, length + 1);
    }
    known = names_add(&all->phrases, text, arrlenu(text) - 1);
    all->phrases.list[known].value++;
    arrfree(text);
}

/* Counts the spans of one task's tags in a data set; labels: the task's. */
static void count_spans(corpus *all, const dataset *set, const target *of, const char *const *labels)
{
    const char **tags = NULL;
    mtl_span *spans = NULL;
    size_t s, n, row = 0, count;
    for (s = 0; s < arrlenu(set->lengths); row += (size_t)set->lengths[s++]) {
        const size_t steps = (size_t)set->lengths[s];
        arrsetlen(tags, steps);
        arrsetlen(spans, steps);
        for (n = 0; n < steps; n++) tags[n] = of->labels[row + n] < 0 ? "O" : labels[of->labels[row + n]];
        count = mtl_spans(tags, steps, spans, steps);
        for (n = 0; n < count; n++)
            if (spans[n].end - spans[n].begin <= LONGEST_PHRASE)
                count_span(all, spans[n].type, set->words + row + spans[n].begin,
                           spans[n].end - spans[n].begin);
    }
    arrfree(tags);
    arrfree(spans);
}

static void read_spans(corpus *all)
{
    const dataset *set;
    const target *of;
    for (set = all->train; set < all->train + arrlenu(all->train); set++)
        for (of = set->targets; of < set->targets + arrlenu(set->targets); of++) {
            const char **labels = name_list(&all->tasks[of->task].labels);
            if (of->labels && has_spans(&all->tasks[of->task])) count_spans(all, set, of, labels);
            arrfree(labels);
        }
    if (!arrlenu(all->phrases.list))
        fail_usage("--gazetteer spans: no task of the training data has tags B-TYPE and I-TYPE; give a file "
                   "of lines TYPE<TAB>phrase");
}

/* The current line as a phrase. */
static void read_phrase(corpus *all, const source *in)
{
    const char *tab = strchr(in->line, '\t'), *word;
    if (!tab || tab == in->line)
        fail_at(in, tab, "%s; expected TYPE<TAB>phrase, such as city<TAB>new york",
                !*in->line ? "an empty line" : tab ? "no type before the tab" : "no tab");
    if ((word = strchr(tab + 1, '\t')) != NULL) fail_at(in, word, "a second tab; expected TYPE<TAB>phrase");
    for (word = tab; word; word = strchr(word + 1, ' '))
        if (word[1] == ' ' || !word[1])
            fail_at(in, word + 1, "%s; expected words separated by one space each",
                    tab[1] ? "an empty word" : "an empty phrase");
    names_add(&all->phrases, in->line, in->length);
}

static void read_phrases(corpus *all, const char *path)
{
    source in = source_open(path);
    while (source_line(&in)) read_phrase(all, &in);
    if (!in.number) fail("%s: the file is empty; expected lines TYPE<TAB>phrase", path);
    source_close(&in);
}

void make_phrases(const settings *given, corpus *all)
{
    size_t i;
    for (i = 0; i < arrlenu(given->gazetteers); i++)
        if (strcmp(given->gazetteers[i], SPANS) == 0) read_spans(all);
        else read_phrases(all, given->gazetteers[i]);
}

int wants_phrases(const settings *given, const corpus *all, const int *tasks)
{
    size_t i;
    int wants = 0;
    for (i = 0; i < arrlenu(given->gazetteers); i++) wants |= strcmp(given->gazetteers[i], SPANS) != 0;
    for (i = 0; i < arrlenu(tasks); i++) wants |= has_spans(&all->tasks[tasks[i]]);
    return wants && arrlenu(all->phrases.list);
}

void add_gazetteer(const settings *given, const corpus *all, mtl_input_desc **inputs, const char ****texts,
                   float **uses)
{
    mtl_input_desc input = given->gazetteer;
    const char **phrases;
    size_t i;
    phrases = name_list(&all->phrases);
    arrput(*texts, phrases);
    for (i = 0; i < arrlenu(all->phrases.list); i++) arrput(*uses, (float)all->phrases.list[i].value);
    input.name = "gazetteer";
    input.kind = MTL_INPUT_GAZETTEER;
    input.reads = (*inputs)->name;
    input.vocabulary = (*inputs)->vocabulary;
    input.phrases = phrases;
    input.phrase_uses = *uses;
    input.phrase_count = (int)arrlenu(phrases);
    arrput(*inputs, input);
}
