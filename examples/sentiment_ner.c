/* Two data sets, one encoder: what a sentence feels (positive, negative, neutral) is learnt from reviews, and
   who and what it names (persons, locations, organisations) from news. No sentence has both labels; at the
   end the model tells both.

       tokens -> embedding -> Bi-LSTM -+- h_T ---------> sentiment   lambda 0.5
                                       +- every h_t ---> entities    lambda 0.5

   Run: make && build/sentiment_ner                  on sentences made up in memory
        build/sentiment_ner REVIEWS REVIEWS_VALID NAMES NAMES_VALID        on files, such as
                                                                           examples/data/reviews_train.tsv
            examples/data/reviews_valid.tsv examples/data/names_train.tsv examples/data/names_valid.tsv
   A file has a header line, then a line per sentence: words separated by spaces, a tab, and the sentiment or
   a tag per word. */
#include "mtl_rnn.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SENTIMENT, ENTITIES, TASKS };
enum { SENTIMENTS = 3, TAGS = 7, MOST_WORDS = 64 };

static const char *const sentiments[SENTIMENTS] = { "negative", "neutral", "positive" };
static const char *const tags[TAGS] = { "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG" };

/* ---- reading ------------------------------------------------------------------------------------------- */

typedef struct data_set {
    char *text;                             /* what the words point into */
    size_t sentences, count, labelled;      /* sentences; their words; labels */
    int *lengths;                           /* [sentences] */
    const char **words;                     /* [count] */
    int *ids;                               /* [count] */
    int *labels;                            /* [sentences] or [count] */
} data_set;

static void fail(const char *where, size_t line, const char *what, const char *which)
{
    fprintf(stderr, "sentiment_ner: %s:%zu: %s '%s'\n", where, line, what, which);
    exit(1);
}

static void *must(void *memory)
{
    if (!memory) {
        fprintf(stderr, "sentiment_ner: out of memory\n");
        exit(1);
    }
    return memory;
}

/* Room for one more element: the array doubles whenever its count is a power of two. */
static void *grown(void *array, size_t count, size_t size)
{
    return count & (count - 1) ? array : must(realloc(array, (count ? 2 * count : 1) * size));
}

static int label_of(const char *name, const char *const *names, int count, const char *where, size_t line)
{
    int i;
    if (strcmp(name, "_") == 0) return MTL_MISSING;
    for (i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0) return i;
    fail(where, line, "unknown label", name);
    return MTL_MISSING;
}

/* The next piece of text before a separator, which becomes its end; NULL when none is left. */
static char *next_piece(char **rest, char separator)
{
    char *piece = *rest, *end = piece ? strchr(piece, separator) : NULL;
    if (end) *end = '\0';
    *rest = end ? end + 1 : NULL;
    return piece;
}

static void add_label(data_set *set, int label)
{
    set->labels = grown(set->labels, set->labelled, sizeof *set->labels);
    set->labels[set->labelled++] = label;
}

/* Takes over text and cuts it up in place. task tells which labels are in the second column. */
static data_set parse(const char *name, char *text, int task)
{
    data_set set = { .text = text };
    size_t line;
    char *row, *word, *cell;

    next_piece(&text, '\n');
    for (line = 2; (row = next_piece(&text, '\n')) != NULL; line++) {
        size_t before = set.count, labels = set.labelled;
        row[strcspn(row, "\r")] = '\0';
        if (!*row) continue;
        cell = next_piece(&row, '\t');
        while ((word = next_piece(&cell, ' ')) != NULL) {
            set.words = grown(set.words, set.count, sizeof *set.words);
            set.words[set.count++] = word;
        }
        if (!row) fail(name, line, "no tab and label after", set.words[before]);
        if (task == SENTIMENT) {
            add_label(&set, label_of(row, sentiments, SENTIMENTS, name, line));
        } else {
            while ((word = next_piece(&row, ' ')) != NULL)
                add_label(&set, label_of(word, tags, TAGS, name, line));
            if (set.labelled - labels != set.count - before)
                fail(name, line, "not one tag per word after", set.words[before]);
        }
        set.lengths = grown(set.lengths, set.sentences, sizeof *set.lengths);
        set.lengths[set.sentences++] = (int)(set.count - before);
    }
    if (!set.sentences) fail(name, line, "expected sentences after the header", "text");
    return set;
}

static void forget(data_set *set)
{
    free(set->text);
    free(set->lengths);
    free((void *)set->words);
    free(set->ids);
    free(set->labels);
}

static char *read_file(const char *path)
{
    size_t used = 0, got;
    char *text = NULL;
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "sentiment_ner: cannot read %s\n", path);
        exit(1);
    }
    do {
        text = must(realloc(text, used + 65536));
        got = fread(text + used, 1, 65535, file);
        used += got;
    } while (got);
    fclose(file);
    text[used] = '\0';
    return text;
}

/* ---- sentences made up: lines of the same format ------------------------------------------------------- */

static unsigned seed = 1;
static unsigned draw(unsigned below) { return (seed = seed * 1664525u + 1013904223u) / 65536 % below; }
static const char *pick(const char *const *list, unsigned count) { return list[draw(count)]; }
#define PICK(list) pick(list, sizeof(list) / sizeof((list)[0]))

/* Good and bad words, each of which a `not` turns around; or plain facts. */
static void write_review(char *out, size_t size)
{
    static const char *const things[] = { "film", "story", "music", "ending", "game", "cast", "camera",
        "script" };
    static const char *const good[] = { "great", "charming", "clever", "moving", "funny", "brilliant" };
    static const char *const bad[] = { "dull", "clumsy", "boring", "flat", "awful", "lazy" };
    static const char *const facts[] = { "is two hours long", "was shot in spring", "has three parts",
        "comes from france" };
    static const char *const frames[] = { "the %s is %s%s", "i think the %s was %s%s",
        "everybody in oslo says the %s is %s%s",
                                          "the %s of clara marlow is %s%s" };
    static const char *const nots[] = { "", "", "not ", "never " };
    static const char *const kinds[] = { "good", "bad", "fact" };
    const char *thing = PICK(things), *kind = PICK(kinds), *turn = PICK(nots), *feeling;
    char sentence[128];
    if (*kind == 'f') {
        snprintf(out, size, "the %s %s\tneutral\n", thing, PICK(facts));
        return;
    }
    feeling = *kind == 'g' ? PICK(good) : PICK(bad);
    snprintf(sentence, sizeof sentence, PICK(frames), thing, turn, feeling);
    snprintf(out, size, "%s\t%s\n", sentence, (*kind == 'g') == !*turn ? "positive" : "negative");
}

/* The same words name persons, places and firms: only what stands around them tells which. */
static void write_news(char *out, size_t size)
{
    static const char *const first[] = { "anna", "jordan", "sofia", "austin", "paris", "clara" };
    static const char *const second[] = { "stone", "lane", "marlow", "weber", "banks", "moreau" };
    static const char *const places[] = { "oslo", "jordan", "austin", "paris", "marlow" };
    static const char *const firms[] = { "marlow", "weber", "moreau", "stone" };
    static const struct { const char *text, *tags; } frames[] = {
        { "%s %s lives in %s and works for %s bank", "B-PER I-PER O O B-LOC O O O B-ORG I-ORG" },
        { "yesterday %s %s left %s when %s motors closed", "O B-PER I-PER O B-LOC O B-ORG I-ORG O" },
        { "doctor %s %s from %s bought shares of %s and sons",
            "O B-PER I-PER O B-LOC O O O B-ORG I-ORG I-ORG" },
        { "the film of %s %s in %s is not dull says %s bank",
            "O O O B-PER I-PER O B-LOC O O O O B-ORG I-ORG" },
        { "i think %s %s saw %s when the music of %s motors was charming",
            "O O B-PER I-PER O B-LOC O O O O B-ORG I-ORG O O" },
    };
    unsigned frame = draw(5);
    char sentence[128];
    snprintf(sentence, sizeof sentence, frames[frame].text, PICK(first), PICK(second), PICK(places),
             PICK(firms));
    snprintf(out, size, "%s\t%s\n", sentence, frames[frame].tags);
}

static char *made_up(int task, size_t lines)
{
    const size_t longest = 256;
    char *text = must(malloc((lines + 1) * longest)), *at = text;
    at += sprintf(at, "text\tlabel\n");
    for (; lines > 0; lines--, at += strlen(at)) (task == SENTIMENT ? write_review : write_news)(at, longest);
    return text;
}

/* ---- the model ----------------------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Every word of the training sets once, after the one that stands for words not seen in training. */
static const char **vocabulary(const data_set *a, const data_set *b, size_t *count)
{
    const char **words = must(malloc((a->count + b->count + 1) * sizeof *words));
    size_t i, n = a->count + b->count + 1;
    words[0] = "<unknown>";
    memcpy(words + 1, a->words, a->count * sizeof *words);
    memcpy(words + 1 + a->count, b->words, b->count * sizeof *words);
    qsort(words + 1, n - 1, sizeof *words, by_text);
    for (*count = 1, i = 1; i < n; i++)
        if (*count == 1 || strcmp(words[i], words[*count - 1]) != 0) words[(*count)++] = words[i];
    return words;
}

/* The batch over a whole data set; inputs and targets are its caller's. */
static mtl_batch batch_of(data_set *set, int task, const mtl_model *model, mtl_input *input,
                          mtl_target *targets)
{
    size_t i;
    set->ids = must(malloc(set->count * sizeof *set->ids));
    for (i = 0; i < set->count; i++) set->ids[i] = mtl_model_word(model, 0, set->words[i],
                                                                  strlen(set->words[i]));
    input->ids = set->ids;
    targets[task].labels = set->labels;
    return (mtl_batch){ .sequences = set->sentences, .lengths = set->lengths, .inputs = input,
        .targets = targets };
}

static int show(void *user, const mtl_progress *progress)
{
    (void)user;
    if (progress->epoch_end)
        printf("epoch %2zu   sentiment: loss %.3f, accuracy %.3f   entities: loss %.3f, span F1 %.3f\n",
               progress->epoch, progress->task_loss[SENTIMENT], progress->scores->tasks[SENTIMENT].accuracy,
               progress->task_loss[ENTITIES], progress->scores->tasks[ENTITIES].span_f1);
    return 0;
}

/* Both answers for a set's first sentence, as any C program gets them from a line of text. */
static void tell(mtl_predictor *predictor, const data_set *set, mtl_error *err)
{
    mtl_prediction out[TASKS];
    const char *names[MOST_WORDS];
    mtl_span spans[MOST_WORDS];
    size_t words, used = 0, i, t, count;
    char text[1024] = "";

    for (t = 0; t < (size_t)set->lengths[0] && t < MOST_WORDS &&
         used + strlen(set->words[t]) + 2 < sizeof text; t++)
        used += (size_t)sprintf(text + used, "%s%s", t ? " " : "", set->words[t]);
    if (mtl_predict_text(predictor, text, out, &words, err) != MTL_OK) return;
    for (t = 0; t < words; t++) names[t] = tags[out[ENTITIES].labels[t]];
    count = mtl_spans(names, words, spans, MOST_WORDS);
    i = (size_t)out[SENTIMENT].labels[0];
    printf("\n%s\n    %s (%.2f)\n", text, sentiments[i], (double)out[SENTIMENT].probabilities[i]);
    for (i = 0; i < count; i++) {
        printf("    %s:", spans[i].type);
        for (t = spans[i].begin; t < spans[i].end; t++) printf(" %s", set->words[t]);
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    data_set sets[4];                       /* reviews, names, and the same for validation */
    mtl_batch batches[4] = { { 0 } };
    mtl_input inputs[4];
    mtl_target targets[4][TASKS] = { { { .labels = NULL } } };
    mtl_error err = {0};
    size_t word_count;
    const char **words;
    int i;

    if (argc != 1 && argc != 5) {
        fprintf(stderr, "usage: sentiment_ner [REVIEWS REVIEWS_VALID NAMES NAMES_VALID]\n");
        return 2;
    }
    for (i = 0; i < 4; i++) {
        int task = i % 2 ? ENTITIES : SENTIMENT;
        const char *path = argc > 1 ? argv[1 + 2 * (i % 2) + i / 2] : "made-up sentences";
        sets[i] = parse(path, argc > 1 ? read_file(path) : made_up(task, i < 2 ? 600 : 150), task);
    }
    words = vocabulary(&sets[0], &sets[1], &word_count);

    const mtl_input_desc input = { .name = "text", .words = words, .vocabulary = (int)word_count, .width = 48,
        .dropout = 0.2f };
    const mtl_task_desc tasks[TASKS] = {
        { .name = "sentiment", .labels = sentiments, .classes = SENTIMENTS, .weight = 0.5f,
            .pool = MTL_POOL_LAST },
        { .name = "entities", .labels = tags, .level = MTL_LEVEL_STEP, .classes = TAGS, .weight = 0.5f },
    };
    const mtl_model_desc desc = { .inputs = &input, .input_count = 1, .tasks = tasks, .task_count = TASKS,
                                  .encoder = { .cell = MTL_CELL_LSTM, .hidden = 48, .bidirectional = 1,
                                      .dropout = 0.2f } };
    const mtl_trainer_desc how = { .lr = 4e-3f, .clip_norm = 5 };
    const mtl_fit_desc fit = { .epochs = 10, .batch = 32, .progress = show };

    mtl_model *model = mtl_model_create(&desc, &err);
    mtl_trainer *trainer = mtl_trainer_create(model, &how, &err);
    for (i = 0; i < 4 && model; i++) batches[i] = batch_of(&sets[i], i % 2 ? ENTITIES : SENTIMENT, model,
                                                           &inputs[i], targets[i]);
    mtl_fit(trainer, batches, 2, batches + 2, 2, &fit, NULL, &err);

    mtl_predictor *predictor = mtl_predictor_create(model, NULL, &err);
    tell(predictor, &sets[2], &err);
    tell(predictor, &sets[3], &err);
    if (err.code) fprintf(stderr, "sentiment_ner: %s\n", err.message);
    mtl_predictor_destroy(predictor);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    for (i = 0; i < 4; i++) forget(&sets[i]);
    free((void *)words);
    return err.code != MTL_OK;
}
