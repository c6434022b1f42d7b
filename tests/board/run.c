/* tests/board/run.c    on the board: runs the exported model from its constants; the status is 0 when all
   answers are within 1e-5 of the host's */
#include "net.h"
#include "run.h"
#include "expected.h"

static MTL_EXPORTED unsigned char buffer[net_BYTES(1)];

int main(void)
{
    mtl_real x[INPUTS], answers[OUTPUTS];
    int id;
    mtl_input input = { &id, x };
    mtl_error err = { 0 };
    mtl_stream *stream = mtl_stream_open(buffer, sizeof buffer, &net, 1, MTL_ISA_AUTO, &err);
    int step, j;
    if (sizeof(mtl_real *) == 4 && sizeof buffer > (READS_WORDS ? 2560 : 2048)) return 4;
    for (step = 0; step < STEPS; step++) {
        const mtl_prediction *out;
        fill_inputs(step, x);
        id = word_of(step);
        out = stream ? mtl_stream_step(stream, 0, &input, &err) : 0;
        if (!out) return 2;
        collect(out, answers);
        for (j = 0; j < OUTPUTS; j++) {
            const float off = answers[j] - expected[step][j];
            if (!(off < 1e-5f && off > -1e-5f)) return 3;
        }
    }
    return 0;
}
