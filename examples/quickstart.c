/* One recurrent encoder, three tasks on it: an intent for each sentence, a slot for each word, a mood as a
   number. Run: make && build/quickstart [MODEL.safetensors]
   Or without make, as your own program would: cc -std=c99 -O2 -DMTL_RNN_IMPLEMENTATION -I.
   examples/quickstart.c -lm -pthread */
#include "mtl_rnn.h"
#include <stdio.h>

enum { INTENT, SLOTS, MOOD, TASKS, BATCH = 32, LONGEST = 9, WORDS = 50 };
static int draw(unsigned *seed, int below)
{
    return (int)((*seed = *seed * 1664525u + 1013904223u) >> 16) % below;
}

/* Sentences of random words. Words 0-3 are verbs: the last one is the intent. Words 4-9 are adjectives: the
   word after one is a slot of that kind. The mood is the share of words below 25, minus one half. */
static void next_batch(unsigned *seed, int *lengths, int *words, int *intents, int *slots, mtl_real *moods)
{
    for (int s = 0, n = 0; s < BATCH; s++) {
        int low = 0;
        lengths[s] = 3 + draw(seed, LONGEST - 2);
        intents[s] = MTL_MISSING;                       /* a sentence without a verb: no label, no loss */
        for (int t = 0; t < lengths[s]; t++, n++) {
            words[n] = draw(seed, draw(seed, 2) ? WORDS : 10);
            slots[n] = t > 0 && words[n - 1] >= 4 && words[n - 1] < 10 ? words[n - 1] - 3 : 0;
            if (words[n] < 4) intents[s] = words[n];
            low += words[n] < 25;
        }
        moods[s] = (mtl_real)low / (mtl_real)lengths[s] - (mtl_real)0.5;
    }
}

int main(int argc, char **argv)
{
    static const mtl_input_desc inputs[] = { { .name = "text", .vocabulary = WORDS, .width = 32 } };
    static const mtl_task_desc tasks[TASKS] = {         /* left out = 0 = the sensible default */
        { .name = "intent", .kind = MTL_TASK_CLASS, .classes = 4 },
        { .name = "slots", .kind = MTL_TASK_CLASS, .level = MTL_LEVEL_STEP, .classes = 7, .weight = 0.7f },
        { .name = "mood", .kind = MTL_TASK_REAL, .weight = 0.3f },
    };
    const mtl_model_desc desc = { .inputs = inputs, .input_count = 1, .tasks = tasks, .task_count = TASKS,
                                  .encoder = { .cell = MTL_CELL_LSTM, .hidden = 64, .bidirectional = 1 } };
    const mtl_trainer_desc how = { .optimizer = MTL_OPTIMIZER_ADAM, .lr = 5e-3f, .clip_norm = 5.0f };
    int lengths[BATCH], words[BATCH * LONGEST], intents[BATCH], slots[BATCH * LONGEST];
    mtl_real moods[BATCH];
    const mtl_input input = { .ids = words };
    const mtl_target targets[TASKS] = { { .labels = intents }, { .labels = slots }, { .values = moods } };
    const mtl_batch batch = { .sequences = BATCH, .lengths = lengths, .inputs = &input, .targets = targets };
    mtl_error err = {0};                                    /* sticky: one check at the end of a straight
                                                               line */
    mtl_model *model = mtl_model_create(&desc, &err);
    mtl_trainer *trainer = mtl_trainer_create(model, &how, &err);
    mtl_step step = {0};
    unsigned seed = 1;
    while (err.code == MTL_OK && step.step <= 300) {
        next_batch(&seed, lengths, words, intents, slots, moods);
        if (mtl_train_step(trainer, &batch, 1, &step, &err) == MTL_OK && step.step % 50 == 1)
            printf("step %3zu   loss %.3f   intent %.3f   slots %.3f   mood %.4f   |g| %.2f\n", step.step,
                   step.loss, step.task_loss[INTENT], step.task_loss[SLOTS], step.task_loss[MOOD],
                       step.grad_norm);
    }
    if (argc > 1) mtl_model_save(model, argv[1], &err);     /* any program loads it, and so does Python: a
                                                               safetensors file */
    if (err.code) fprintf(stderr, "quickstart: %s\n", err.message);
    mtl_trainer_destroy(trainer);
    mtl_model_destroy(model);
    return err.code != MTL_OK;
}
