#include "words.h"

#include "gazetteer.h"
#include "names.h"
#include "system.h"

/* What reads characters, as the library's field calls it: sets input->speller. 0: no such name. */
static int find_speller(const char *text, mtl_input_desc *input)
{
    size_t count, i;
    const mtl_field *fields = mtl_fields(MTL_DESC_INPUT, &count);
    mtl_error err = { 0 };
    for (i = 0; i < count; i++)
        if (strcmp(fields[i].name, "speller") == 0)
            return mtl_field_set(&fields[i], input, text, &err) == MTL_OK;
    return 0;
}

static int is_wanted(const settings *given, size_t part)
{
    return word_parts[part].affix ? given->affixes : given->chars && strcmp(given->chars, "none") != 0;
}

static double word_dropout(const settings *given)
{
    const char *text = given->word_dropout;
    double x = 0;
    if (text && (!mtl_text_number(text, strlen(text), &x) || x < 0 || x > 1e6))
        fail_usage("--word-dropout %s: expected a number from 0 to 1000000", text);
    return x;
}

void check_words(const settings *given)
{
    const int frames = arrlenu(given->frames) > 0;
    mtl_input_desc input = { 0 };
    if (is_wanted(given, 0) && !find_speller(given->chars, &input))
        fail_usage("--chars %s: expected none, cnn, gru or lstm", given->chars);
    if (frames && is_wanted(given, 0))
        fail_usage("--chars %s: is for text; --frames are rows of numbers, which have no characters",
                   given->chars);
    if (frames && given->affixes)
        fail_usage("--affixes: is for text; --frames are rows of numbers, which have no affixes");
    if (frames && arrlenu(given->gazetteers) && strcmp(given->gazetteers[0], "none") != 0)
        fail_usage("--gazetteer: is for text; --frames are rows of numbers, which are no phrases");
    if (frames && given->word_dropout)
        fail_usage("--word-dropout: is for text; --frames are rows of numbers, which are no words");
    (void)word_dropout(given);
}

/* The desc of an input, but for its texts. */
static mtl_input_desc part_desc(const settings *given, size_t part)
{
    mtl_input_desc input = word_parts[part].affix ? given->affix_input : given->characters;
    input.name = word_parts[part].name;
    input.part = word_parts[part].part;
    input.letters = word_parts[part].letters;
    if (!word_parts[part].affix) {
        input.kind = MTL_INPUT_CHARACTERS;
        if (given->chars) (void)find_speller(given->chars, &input);
    }
    if (input.part == MTL_PART_SHAPE) input.lowercase = input.digits = 0;
    return input;
}

/* What an input makes of a text, counted `uses` times. *room grows. */
static void count_text(names *counted, const mtl_input_desc *input, const char *text, size_t length,
                       size_t uses, char **room)
{
    size_t known, needed = 2 * length + 65;
    arrsetlen(*room, needed);
    length = mtl_text_part(input, text, length, *room, needed);
    known = names_add(counted, *room, length);
    counted->list[known].value += uses;
}

/* Bytes of the character that text begins with, which is valid UTF-8. */
static size_t character_bytes(const char *text)
{
    size_t bytes = 1;
    while (((unsigned char)text[bytes] & 0xc0) == 0x80) bytes++;
    return bytes;
}

/* The commonest first, others as they were met. */
static int compare_uses(const void *one, const void *other)
{
    const name *const *a = (const name *const *)one, *const *b = (const name *const *)other;
    return (*a)->value != (*b)->value ? (*a)->value < (*b)->value ? 1 : -1 : *a > *b ? 1 : -1;
}

/* Fills `to` with "<unk>" and what an input knows of the training data's words, or tokens: what stands there
   `least` times. sorted: a language model wants the commonest first. */
static void make_texts(const names *words, const mtl_input_desc *input, size_t least, int sorted, names *to)
{
    const name **order = NULL;
    names counted = { 0 };
    char *room = NULL;
    size_t i, at, bytes;
    for (i = 0; i < arrlenu(words->list); i++) {
        const char *word = words->list[i].key;
        const size_t uses = words->list[i].value, length = strlen(word);
        const int whole = !mtl_input_kind_of(input)->reads_spellings;
        for (at = 0; at < length && uses; at += bytes) {
            bytes = whole ? length : character_bytes(word + at);
            count_text(&counted, input, word + at, bytes, uses, &room);
        }
    }
    names_add(to, "<unk>", 5);
    for (i = 0; i < arrlenu(counted.list); i++)
        if (counted.list[i].value >= least) arrput(order, &counted.list[i]);
    if (sorted && arrlenu(order)) qsort(order, arrlenu(order), sizeof *order, compare_uses);
    for (i = 0; i < arrlenu(order); i++) {
        at = names_add(to, order[i]->key, strlen(order[i]->key));
        to->list[at].value = order[i]->value;
    }
    arrfree(order);
    free(counted.slots);
    arrfree(counted.list);
    arrfree(room);
}

void make_vocabulary(const settings *given, corpus *all)
{
    mtl_input_desc input;
    size_t i;
    make_texts(&all->words, &given->input, (size_t)given->min_count, given->lm != NULL, &all->vocabulary);
    if (arrlenu(all->vocabulary.list) < 2)
        fail("the vocabulary is empty: no word occurs %lld times in the training data; lower --min-count",
             given->min_count);
    for (i = 0; i < arrlenu(all->vocabulary.list) && word_dropout(given) > 0; i++)
        arrput(all->unknown_chances, i ? (float)(word_dropout(given) / (word_dropout(given)
                                                 + (double)all->vocabulary.list[i].value)) : 0);
    for (i = 0; i < WORD_PARTS; i++) {
        input = part_desc(given, i);
        if (is_wanted(given, i)) make_texts(&all->words, &input, word_parts[i].least, 0, &all->parts[i]);
    }
    for (i = 0; i < arrlenu(all->columns); i++) {
        token_column *of = &all->columns[i];
        const size_t unknown = names_add(&of->words, "_", 1);
        of->words.list[unknown].value = 0;
        make_texts(&of->words, &given->tokens_input, (size_t)given->min_count, 0, &of->vocabulary);
    }
}

static void add_input(mtl_input_desc **inputs, mtl_input_desc input, const names *known, const char ****texts)
{
    const char **list = name_list(known);
    arrput(*texts, list);
    input.words = list;
    input.vocabulary = (int)arrlenu(list);
    arrput(*inputs, input);
}

mtl_input_desc *make_text_inputs(const settings *given, const corpus *all, const int *tasks,
                                 const char ****texts, float **uses)
{
    mtl_input_desc *inputs = NULL, input = given->input;
    size_t i;
    input.name = "text";
    input.unknown_chances = all->unknown_chances;
    if (all->vectors.width) input.width = (int)all->vectors.width;
    add_input(&inputs, input, &all->vocabulary, texts);
    for (i = 0; i < WORD_PARTS; i++)
        if (is_wanted(given, i)) add_input(&inputs, part_desc(given, i), &all->parts[i], texts);
    for (i = 0; i < arrlenu(all->columns); i++) {
        input = given->tokens_input;
        input.name = input.tokens = all->columns[i].name;
        add_input(&inputs, input, &all->columns[i].vocabulary, texts);
    }
    if (wants_phrases(given, all, tasks)) add_gazetteer(given, all, &inputs, texts, uses);
    return inputs;
}
