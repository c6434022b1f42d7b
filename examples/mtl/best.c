#include "best.h"

#include "system.h"

/* The sums of a conditional random field grow with the square of its labels. */
enum { MOST_CRF_LABELS = 128 };
/* A step's attention to all others grows with their number. */
enum { MOST_ATTENDED_STEPS = 512 };

static const char *const rules[] = {
    "text.weight=uniform:0.1", "characters.weight=uniform:0.1", "prefix*.weight=uniform:0.1",
    "suffix*.weight=uniform:0.1", "shape.weight=uniform:0.1", "*.weight_ih*=xavier",
    "*.weight_hh*=orthogonal"
};

const char *const *preset_init(const settings *given, size_t *count)
{
    *count = given->best && !arrlenu(given->init) ? sizeof rules / sizeof *rules : 0;
    return *count ? rules : NULL;
}

static int is_assigned(char *const *assignments, const char *name)
{
    const size_t length = strlen(name);
    size_t i;
    for (i = 0; i < arrlenu(assignments); i++)
        if (strncmp(assignments[i], name, length) == 0 && assignments[i][length] == '=') return 1;
    return 0;
}

/* 1 when the encoder needs whole sequences. One that reads forwards alone may be meant for a stream, so it
   gets nothing that has none. */
static int reads_whole(const settings *given) { return given->encoder.bidirectional; }

/* A conditional random field for tags, the best thresholds for sets of labels. */
static void choose_head(settings *given, const task *of, int thresholds)
{
    char *text = NULL;
    if (reads_whole(given) && of->classes <= MOST_CRF_LABELS && kind_with_head(of->kind, "crf")
        && !is_assigned(given->heads, of->name)) {
        add_text(&text, "%s=crf", of->name);
        arrput(given->heads, text);
    }
    if (kind_has_sets(of->kind) && thresholds) arrput(given->thresholds, (char *)of->name);
}

static size_t longest_sequence(const corpus *all)
{
    size_t i, k, longest = 0;
    for (i = 0; i < arrlenu(all->train); i++)
        for (k = 0; k < arrlenu(all->train[i].lengths); k++)
            if ((size_t)all->train[i].lengths[k] > longest) longest = (size_t)all->train[i].lengths[k];
    return longest;
}

/* What is read of words beside themselves, and the language model, which wants one layer: under a second that
   reads both ways it would see what it predicts. */
static void choose_words(settings *given, const corpus *all, int spans)
{
    given->affixes |= !given->no_affixes;
    if (!given->word_dropout) given->word_dropout = "0.25";
    if (!reads_whole(given)) return;
    if (!given->chars) given->chars = "cnn";
    if (spans && !arrlenu(given->gazetteers)) arrput(given->gazetteers, (char *)"spans");
    if (!given->lm && given->encoder.layers <= 1 && !corpus_find(all, "lm")) given->lm = "0.1";
}

/* 'none' keeps the preset from choosing. */
static void forget_none(settings *given)
{
    if (given->lm && strcmp(given->lm, "none") == 0) given->lm = NULL;
    if (arrlenu(given->gazetteers) == 1 && strcmp(given->gazetteers[0], "none") == 0)
        arrsetlen(given->gazetteers, 0);
}

static void choose(settings *given, const corpus *all)
{
    const int thresholds = arrlenu(given->valid) && !arrlenu(given->thresholds);
    int spans = 0, classes = 0, steps = 0;
    size_t k;
    for (k = 0; k < arrlenu(all->tasks); k++) {
        choose_head(given, &all->tasks[k], thresholds);
        spans |= has_spans(&all->tasks[k]);
        classes |= all->tasks[k].kind->task->softmax;
        steps |= kind_is_step(all->tasks[k].kind);
    }
    if (!arrlenu(given->frames)) choose_words(given, all, spans);
    if (!spans && by_preset(given, "fit.swap")) given->fit.swap = 0;
    if (!classes && by_preset(given, "trainer.rdrop")) given->trainer.rdrop = 0;
    if (!steps && by_preset(given, "trainer.sum_steps")) given->trainer.sum_steps = 0;
    if ((longest_sequence(all) > MOST_ATTENDED_STEPS || !reads_whole(given))
        && by_preset(given, "share.attention")) given->share.attention = 0;
}

void choose_by_data(settings *given, const corpus *all)
{
    if (given->best) choose(given, all);
    forget_none(given);
}

mtl_share_desc share_for(const settings *given, const corpus *all, const int *tasks,
                         const mtl_share_desc *share)
{
    mtl_share_desc of = *share;
    int steps = 0;
    size_t k;
    for (k = 0; k < arrlenu(tasks); k++) steps |= kind_is_step(all->tasks[tasks[k]].kind);
    if (given->best && !steps && by_preset(given, "share.attention")) of.attention = 0;
    return of;
}
