/* Do tasks pull shared layers in different directions? Three tasks on two stacked layers: the last word that
   is a verb, that verb's opposite number, and a slot for each word. While it trains, the norm of each task's
   gradient in each shared layer, the cosines between tasks, and what a step for one task does to the losses
   of the others. docs/watching.md says how to read it. Run: make && build/conflict */
#include "mtl_rnn.h"
#include <stdio.h>
#include <stdlib.h>

enum { VERB, OPPOSITE, SLOT, TASKS, BATCH = 32, LENGTH = 7, WORDS = 50 };

static int draw(unsigned *seed, int below)
{
    return (int)((*seed = *seed * 1664525u + 1013904223u) >> 16) % below;
}

/* Sentences of random words, of which 0-3 are verbs. The word after one of 4-9 is a slot of that kind. */
static void next_batch(unsigned *seed, int *words, int *verbs, int *opposites, int *slots)
{
    for (int n = 0; n < BATCH * LENGTH; n++) {
        const int s = n / LENGTH, first = n % LENGTH == 0;
        words[n] = draw(seed, draw(seed, 2) ? WORDS : 10);
        if (first) verbs[s] = opposites[s] = MTL_MISSING;
        if (words[n] < 4) verbs[s] = words[n], opposites[s] = 3 - words[n];
        slots[n] = !first && words[n - 1] >= 4 && words[n - 1] < 10 ? words[n - 1] - 3 : 0;
    }
}

static void print_part(const mtl_watched_part *part)
{
    printf("  %-16s", part->name);
    for (int k = 0; k < TASKS; k++) printf("  %7.4f", part->norm[k]);
    printf("   %+.2f %+.2f %+.2f", part->cosine[VERB * TASKS + OPPOSITE], part->cosine[VERB * TASKS + SLOT],
           part->cosine[OPPOSITE * TASKS + SLOT]);
    printf("   %zu of %zu conflict\n", part->conflicts, part->pairs);
}

int main(void)
{
    static const mtl_input_desc input = { .name = "text", .vocabulary = WORDS, .width = 32 };
    static const mtl_task_desc tasks[TASKS] = {
        { .name = "verb", .classes = 4 }, { .name = "opposite", .classes = 4 },
        { .name = "slots", .level = MTL_LEVEL_STEP, .classes = 7 } };
    const mtl_model_desc desc = { .inputs = &input, .input_count = 1, .tasks = tasks, .task_count = TASKS,
                                  .encoder = { .cell = MTL_CELL_GRU, .hidden = 48, .layers = 2 } };
    const mtl_trainer_desc how = { .lr = 5e-3f };
    int lengths[BATCH], words[BATCH * LENGTH], verbs[BATCH], opposites[BATCH], slots[BATCH * LENGTH];
    const mtl_input ids = { .ids = words };
    const mtl_target targets[TASKS] = { { .labels = verbs }, { .labels = opposites }, { .labels = slots } };
    const mtl_batch batch = { .sequences = BATCH, .lengths = lengths, .inputs = &ids, .targets = targets };
    mtl_error err = {0};
    mtl_model *model = mtl_model_create(&desc, &err);
    mtl_trainer *trainer = mtl_trainer_create(model, &how, &err);
    mtl_arena arena;
    double affinity[TASKS * TASKS];
    unsigned seed = 1;
    mtl_arena_init(&arena, NULL, 0, NULL);
    mtl_watch *watch = mtl_watch_create(trainer, &arena, &err);
    for (int s = 0; s < BATCH; s++) lengths[s] = LENGTH;
    for (int step = 0; step <= 300 && err.code == MTL_OK; step++) {
        mtl_watched seen;
        next_batch(&seed, words, verbs, opposites, slots);
        if (step % 100 == 0 && !mtl_watch_affinity(watch, &batch, 1, 0.1, affinity, &seen, &err)) {
            printf("step %d: losses %.3f %.3f %.3f\n  %-16s  %7s  %7s  %7s   cosines v+o, v+s, o+s\n", step,
                   seen.loss[0], seen.loss[1], seen.loss[2], "norms in", "verb", "opposite", "slots");
            for (size_t i = 0; i < seen.part_count; i++) print_part(&seen.parts[i]);
            for (int k = 0; k < TASKS; k++)
                printf("  a step for %-8s lowers the losses by %5.2f %5.2f %5.2f %%\n", tasks[k].name,
                       100 * affinity[3 * k], 100 * affinity[3 * k + 1], 100 * affinity[3 * k + 2]);
        }
        mtl_train_step(trainer, &batch, 1, NULL, &err);
    }
    if (err.code) fprintf(stderr, "conflict: %s\n", err.message);
    mtl_trainer_destroy(trainer);
    mtl_arena_destroy(&arena);
    mtl_model_destroy(model);
    return err.code != MTL_OK;
}
