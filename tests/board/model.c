/* tests/board/model.c    on the board: the same model through the interface of models, without files or heap: made of its
   desc in one buffer, weights set by name, a sample at a time predicted with a state; the status is 0 when all answers are
   within 1e-5 of the host's */
#include "mtl_rnn.h"
#include <string.h>
#include "run.h"
#include "desc.h"
#include "expected.h"
#include "weights.h"

static MTL_EXPORTED unsigned char room[72 * 1024];
static size_t used;

/* The next piece of the buffer, aligned as objects are. */
static void *take(size_t bytes)
{
    void *piece = room + used;
    used += (bytes + 63) / 64 * 64;
    return used <= sizeof room ? piece : NULL;
}

static mtl_model *load(const mtl_allocator *from, mtl_error *err)
{
    mtl_model_desc desc = describe(CELL, READS_WORDS);
    mtl_model *model;
    size_t bytes, i;
    desc.allocator = from;
    bytes = mtl_model_size(&desc, err);
    model = mtl_model_init(take(bytes), bytes, &desc, err);
    for (i = 0; model && i < sizeof weights / sizeof weights[0]; i++) {
        mtl_tensor *tensor = mtl_model_tensor(model, weights[i].name);
        if (!tensor) return NULL;
        memcpy(tensor->value, weights[i].values, tensor->count * sizeof(mtl_real));
    }
    if (model) set_scales(model, READS_WORDS, err);
    mtl_model_prepare(model, err);
    return err->code ? NULL : model;
}

int main(void)
{
    static unsigned char borrowed[16384];
    mtl_scratch scratch;
    mtl_error err = { 0 };
    const mtl_allocator from = mtl_scratch_init(&scratch, borrowed, sizeof borrowed);
    const mtl_predictor_desc how = { .max_rows = 1, .allocator = &from };
    mtl_model *model = load(&from, &err);
    const size_t state_bytes = model ? mtl_state_size(model, 1, &err) : 0;
    const size_t bytes = model ? mtl_predictor_size(model, &how, &err) : 0;
    mtl_state *state = model ? mtl_state_init(take(state_bytes), state_bytes, model, 1, &err) : NULL;
    mtl_predictor *predictor = state ? mtl_predictor_init(take(bytes), bytes, model, &how, &err) : NULL;
    const int one = 1;
    int step, j;
    for (step = 0; step < STEPS; step++) {
        mtl_real x[INPUTS], answers[OUTPUTS];
        const int id = word_of(step);
        const mtl_input input = { .ids = &id, .rows = x };
        const mtl_batch batch = { .sequences = 1, .lengths = &one, .inputs = &input, .state = state };
        mtl_prediction out[3];
        fill_inputs(step, x);
        if (!predictor || mtl_predict(predictor, &batch, out, &err)) return 2;
        collect(out, answers);
        for (j = 0; j < OUTPUTS; j++) {
            const float off = answers[j] - expected[step][j];
            if (!(off < 1e-5f && off > -1e-5f)) return 3;
        }
    }
    return 0;
}
