/* fine_tune.c - goes on training a model that came from elsewhere, and sends it back under its own names.
   Run: build/fine_tune MODEL DATA.txt TUNED BACK FROM=TO ...      docs/pytorch.md walks through it
   MODEL comes from `mtl import` (or `mtl train`), with words and labels. DATA.txt has a line for each
   sentence, its label and a tab before it; the label is of the model's first task, a class. TUNED is the
   model afterwards, BACK its tensors alone, renamed by mtl_model_export: FROM=TO as they were given to
   `mtl import`. */
#include "mtl_rnn.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 4096, MOST_MAPPINGS = 32 };

/* Sentences end to end, as a batch takes them. */
typedef struct sentences {
    size_t count, words;
    int *lengths, *ids, *labels;
} sentences;

static void *grow(void *memory, size_t count)
{
    void *larger = realloc(memory, count * sizeof(int));
    if (larger) return larger;
    fprintf(stderr, "fine_tune: out of memory\n");
    exit(1);
}

static void add_sentence(sentences *to, const mtl_model *model, const char *label, char *text)
{
    const size_t first = to->words;
    char *word;
    for (word = strtok(text, " \r\n"); word; word = strtok(NULL, " \r\n")) {
        to->ids = grow(to->ids, to->words + 1);
        to->ids[to->words++] = mtl_model_word(model, 0, word, strlen(word));
    }
    if (to->words == first) return;
    to->lengths = grow(to->lengths, to->count + 1);
    to->labels = grow(to->labels, to->count + 1);
    to->lengths[to->count] = (int)(to->words - first);
    to->labels[to->count++] = mtl_model_find_label(model, 0, label);    /* -1, none: it has no such class */
}

static sentences read_sentences(const char *path, const mtl_model *model)
{
    sentences all = {0};
    char line[LINE];
    FILE *file = fopen(path, "rb");
    while (file && fgets(line, sizeof line, file)) {
        char *tab = strchr(line, '\t');
        if (!tab) continue;
        *tab = '\0';
        add_sentence(&all, model, line, tab + 1);
    }
    if (file) fclose(file);
    return all;
}

/* FROM=TO, which is cut in two. */
static size_t read_mappings(int count, char **texts, mtl_import *mappings)
{
    size_t made = 0;
    for (int i = 0; i < count && made < MOST_MAPPINGS; i++) {
        char *equals = strchr(texts[i], '=');
        if (!equals) continue;
        *equals = '\0';
        mappings[made].from = texts[i];
        mappings[made++].to = equals + 1;
    }
    return made;
}

/* The encoder learns a tenth as fast as the embedding and the head: it knows most already. Other tasks have
   no targets, so their heads stay. */
static void train(mtl_model *model, const sentences *all, mtl_error *err)
{
    const mtl_input input = { .ids = all->ids };
    mtl_target *targets = calloc(mtl_model_describe(model)->task_count, sizeof *targets);
    const mtl_trainer_desc how = { .lr = 1e-3f, .clip_norm = 1 };
    const mtl_fit_desc fit = { .epochs = 5, .batch = 8 };
    const mtl_batch data = { .sequences = all->count, .lengths = all->lengths, .inputs = &input,
                             .targets = targets };
    mtl_trainer *trainer;
    targets[0].labels = all->labels;
    mtl_model_rate(model, "encoder.", 0.1f);
    trainer = mtl_trainer_create(model, &how, err);
    mtl_fit(trainer, &data, 1, NULL, 0, &fit, NULL, err);
    mtl_trainer_destroy(trainer);
    free(targets);
}

int main(int argc, char **argv)
{
    mtl_error err = {0};
    mtl_import mappings[MOST_MAPPINGS];
    mtl_model *model;
    sentences all;
    size_t count;
    if (argc < 6) {
        fprintf(stderr, "use: %s MODEL DATA.txt TUNED BACK FROM=TO ...\n", argv[0]);
        return 2;
    }
    model = mtl_model_load(argv[1], &err);
    if (!model) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    all = read_sentences(argv[2], model);
    if (all.count) train(model, &all, &err);
    count = read_mappings(argc - 5, argv + 5, mappings);
    mtl_model_save(model, argv[3], &err);
    mtl_model_export(model, argv[4], mappings, count, &err);
    if (err.code) fprintf(stderr, "%s\n", err.message);
    else printf("%zu sentences; the model is in %s, its tensors are in %s\n", all.count, argv[3], argv[4]);
    free(all.lengths);
    free(all.ids);
    free(all.labels);
    mtl_model_destroy(model);
    return err.code != MTL_OK;
}
