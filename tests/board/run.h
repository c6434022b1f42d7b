/* tests/board/run.h    what the host and the board have in common: the inputs of a step, and its answers in
   one row */
enum { INPUTS = 16, WORDS = 40, STEPS = 60, OUTPUTS = 10 };

static inline void fill_inputs(int step, mtl_real *x)
{
    int j;
    for (j = 0; j < INPUTS; j++) x[j] = (mtl_real)((step * 7 + j * j * 3 + step * j) % 23) * 0.125f - 1.25f;
}

static inline int word_of(int step) { return step * 7 % WORDS; }

static inline void collect(const mtl_prediction *out, mtl_real *answers)
{
    int j;
    for (j = 0; j < 6; j++) answers[j] = out[0].probabilities[j];
    answers[6] = out[1].values[0];
    for (j = 0; j < 3; j++) answers[7 + j] = out[2].probabilities[j];
}
