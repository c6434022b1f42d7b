#include "inputs.h"

#include "names.h"

static const mtl_input_desc **list_inputs(const mtl_model_desc *desc, int all)
{
    const mtl_input_desc **list = NULL;
    size_t i;
    for (i = 0; i < desc->input_count; i++)
        if (all || !desc->inputs[i].reads) arrput(list, &desc->inputs[i]);
    return list;
}

/* 1 when both read the same column of tokens, or both the words or rows, and make the same of it. */
static int reads_alike(const mtl_input_desc *a, const mtl_input_desc *b)
{
    return same_texts(a->tokens ? &a->tokens : NULL, b->tokens ? &b->tokens : NULL, 1)
        && mtl_input_kind_of(a) == mtl_input_kind_of(b);
}

static int lists_alike(const mtl_input_desc *const *a, const mtl_input_desc *const *b)
{
    size_t i = 0;
    while (i < arrlenu(a) && i < arrlenu(b) && reads_alike(a[i], b[i])) i++;
    return i == arrlenu(a) && i == arrlenu(b);
}

static void add_names(char **text, const mtl_input_desc *const *list)
{
    size_t i;
    for (i = 0; i < arrlenu(list); i++) add_text(text, "%s%s", i ? ", " : "", list[i]->name);
}

/* Adds where two lists of texts, or how many there are, differ; nothing if they do not. */
static void compare_texts(char **text, const mtl_input_desc *of, const char *what,
                          const char *const *theirs, int their_count, const char *const *ours, int our_count)
{
    int i = 0;
    while (theirs && ours && i < their_count && i < our_count && strcmp(theirs[i], ours[i]) == 0) i++;
    if (theirs && ours && i < their_count && i < our_count)
        add_text(text, "its input %s knows other %s than the data have: \"%.100s\" in place of \"%.100s\"",
                 of->name, what, theirs[i], ours[i]);
    else if (their_count != our_count || !theirs != !ours)
        add_text(text, "its input %s knows other %s than the data have: %d in place of %d", of->name, what,
                 theirs || !ours ? their_count : 0, ours || !theirs ? our_count : 0);
}

static void compare_inputs(char **text, const mtl_input_desc *theirs, const mtl_input_desc *ours)
{
    const char *what = mtl_input_kind_of(ours)->reads_spellings ? "characters" : ours->tokens ? "tokens"
        : ours->part != MTL_PART_WORD ? "parts of words" : "words";
    if (theirs->features != ours->features)
        add_text(text, "its input %s reads rows of %d numbers, those of the data have %d", theirs->name,
                 theirs->features, ours->features);
    compare_texts(text, theirs, what, theirs->words, theirs->vocabulary, ours->words, ours->vocabulary);
    if (!*text)
        compare_texts(text, theirs, "phrases", theirs->phrases, theirs->phrase_count, ours->phrases,
                      ours->phrase_count);
}

char *input_difference(const mtl_model_desc *theirs, const mtl_model_desc *ours, int all)
{
    const mtl_input_desc **a = list_inputs(theirs, all), **b = list_inputs(ours, all);
    char *text = NULL;
    size_t i;
    if (!lists_alike(a, b)) {
        add_text(&text, "its inputs are ");
        add_names(&text, a);
        add_text(&text, ", those of the data and options ");
        add_names(&text, b);
    }
    for (i = 0; i < arrlenu(a) && !text; i++) compare_inputs(&text, a[i], b[i]);
    arrfree(a);
    arrfree(b);
    return text;
}
