/* plain.c    a multi-task Bi-LSTM in plain C, forward and backward: where to begin reading

   What mtl_rnn.h computes, as short as it can be said: doubles and loops, no library. One encoder reads
   sentences, two heads learn from it together. Below each forward stands its backward, beside each x stands
   dx, the gradient of the loss by x.

       words [N] - embedding - x [N][E] - Bi-LSTM - h [N][2H] -+- pool - y [B][2H] - head - intent [B]
                                                               +-------------------- head - slots [N]

   B sentences; T words of one of them; N words of all, end to end; V words that there are; E width of an
   embedding; H hidden units; C classes. ' marks the step before, * multiplies element by element. Shapes
   and the order of the gates are PyTorch's. docs/learn.md tells where the header does the same.
   Run: cc -std=c99 -O2 examples/plain.c -lm && ./a.out    (make plain: beside the header too, to compare) */
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { V = 30, E = 12, H = 20, INTENTS = 4, SLOTS = 4, MOST_B = 16, MOST_T = 9, MOST_N = MOST_B * MOST_T };
enum { FORWARD, REVERSE }; enum { LAST, MEAN, MAX };            /* directions d; ways to pool */
enum { MISSING = -1, NO_ROW = MOST_N };                         /* no label; the zeros before a first step */
static const double LAMBDA_INTENT = 1, LAMBDA_SLOTS = 0.5;      /* what each loss weighs in their sum */

typedef struct batch {
    int B, N, T[MOST_B];                                        /* T [B]: they sum to N */
    int words[MOST_N], intent[MOST_B], slots[MOST_N];           /* [N] 0 .. V-1; [B], [N] labels or MISSING */
} batch;

/* All that is learnt, doubles end to end. Its gradient dw is such a struct too; so are Adam's moments. */
typedef struct lstm {
    double W_ih[4 * H * E], W_hh[4 * H * H];                    /* [4H][E], [4H][H]: gates i, f, g, o */
    double b_ih[4 * H], b_hh[4 * H];                            /* [4H] */
} lstm;
typedef struct weights {
    double embedding[V][E];                                     /* a row for each word */
    lstm lstm[2];                                               /* one for each direction */
    double W_intent[INTENTS * 2 * H], b_intent[INTENTS];        /* the heads: [C][2H], [C] */
    double W_slots[SLOTS * 2 * H], b_slots[SLOTS];
} weights;
enum { WEIGHTS = sizeof(weights) / sizeof(double) };

/* All that lies between the words and the losses. Its gradient da is another one. */
typedef struct activations {
    double x[MOST_N][E];
    double gates[2][MOST_N][4 * H];                 /* i f g o; in da: of the sums inside s() and tanh() */
    double c[2][MOST_N + 1][H];                     /* cell states of each direction */
    double h[MOST_N + 1][2 * H];                    /* hidden states, the directions side by side */
    double share[MOST_N][2 * H], y[MOST_B][2 * H];                          /* pooled: y = sum of share * h */
    double z_intent[MOST_B][INTENTS], p_intent[MOST_B][INTENTS], L_intent;  /* logits, probabilities, loss */
    double z_slots[MOST_N][SLOTS], p_slots[MOST_N][SLOTS], L_slots;
} activations;

/* ---- embedding:  x_n = embedding[word_n] ------------------------------------------------------------ */
static void embedding_forward(const weights *w, const batch *b, activations *a)
{
    for (int n = 0; n < b->N; n++) memcpy(a->x[n], w->embedding[b->words[n]], sizeof a->x[n]);
}

/* dembedding[word_n] += dx_n      a word that stands there twice learns twice */
static void embedding_backward(weights *dw, const batch *b, const activations *da)
{
    for (int n = 0; n < b->N; n++)
        for (int e = 0; e < E; e++) dw->embedding[b->words[n]][e] += da->x[n][e];
}

/* ---- linear:  y += W x + b    of one row; W [out][in]. Cells and heads are made of it --------------- */
static void linear_forward(int in, int out, double *y, const double *x, const double *W, const double *b)
{
    for (int o = 0; o < out; o++) {
        y[o] += b[o];
        for (int i = 0; i < in; i++) y[o] += W[o * in + i] * x[i];
    }
}

/* dx += W^T dy      dW += dy x^T      db += dy */
static void linear_backward(int in, int out, const double *dy, const double *x, double *dx,
                            const double *W, double *dW, double *db)
{
    for (int o = 0; o < out; o++) {
        db[o] += dy[o];
        for (int i = 0; i < in; i++) dx[i] += W[o * in + i] * dy[o];
        for (int i = 0; i < in; i++) dW[o * in + i] += dy[o] * x[i];
    }
}

/* ---- LSTM (Hochreiter & Schmidhuber 1997, Gers 2000): direction d of rows first .. first+T-1 -------- */
static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* The row of step k = 0 .. T-1. The reverse direction begins at the end. */
static int row_of(int d, int first, int T, int k) { return k < 0 ? NO_ROW : first + (d ? T - 1 - k : k); }

/* i = s(W_ii x + b_ii + W_hi h' + b_hi)        f and o likewise
   g = tanh(W_ig x + b_ig + W_hg h' + b_hg)
   c = f * c' + i * g
   h = o * tanh(c)                              h' and c' are 0 before the first step */
static void lstm_forward(const lstm *w, int d, int first, int T, activations *a)
{
    for (int k = 0; k < T; k++) {
        int n = row_of(d, first, T, k), before = row_of(d, first, T, k - 1);
        double *i = a->gates[d][n], *f = i + H, *g = f + H, *o = g + H;
        double *c = a->c[d][n], *h = a->h[n] + d * H;
        linear_forward(E, 4 * H, a->gates[d][n], a->x[n], w->W_ih, w->b_ih);
        linear_forward(H, 4 * H, a->gates[d][n], a->h[before] + d * H, w->W_hh, w->b_hh);
        for (int u = 0; u < H; u++) {
            i[u] = sigmoid(i[u]);
            f[u] = sigmoid(f[u]);
            g[u] = tanh(g[u]);
            o[u] = sigmoid(o[u]);
            c[u] = f[u] * a->c[d][before][u] + i[u] * g[u];
            h[u] = o[u] * tanh(c[u]);
        }
    }
}

/* Back through time: dh is from the layers above and from step k+1. s' = s (1 - s), tanh' = 1 - tanh^2
   dc += dh * o * (1 - tanh(c)^2)               dc' += dc * f
   di = dc * g  * i * (1 - i)
   df = dc * c' * f * (1 - f)
   dg = dc * i  * (1 - g^2)
   do = dh * tanh(c) * o * (1 - o)              then through both products to x, h' and the weights */
static void lstm_backward(const lstm *w, lstm *dw, int d, int first, int T,
                          const activations *a, activations *da)
{
    for (int k = T - 1; k >= 0; k--) {
        int n = row_of(d, first, T, k), before = row_of(d, first, T, k - 1);
        const double *i = a->gates[d][n], *f = i + H, *g = f + H, *o = g + H;
        const double *c = a->c[d][n], *h_before = a->h[before] + d * H;
        double *di = da->gates[d][n], *df = di + H, *dg = df + H, *do_ = dg + H;
        double *dc = da->c[d][n], *dh = da->h[n] + d * H, *dh_before = da->h[before] + d * H;
        for (int u = 0; u < H; u++) {
            dc[u] += dh[u] * o[u] * (1 - tanh(c[u]) * tanh(c[u]));
            da->c[d][before][u] += dc[u] * f[u];
            di[u] = dc[u] * g[u] * i[u] * (1 - i[u]);
            df[u] = dc[u] * a->c[d][before][u] * f[u] * (1 - f[u]);
            dg[u] = dc[u] * i[u] * (1 - g[u] * g[u]);
            do_[u] = dh[u] * tanh(c[u]) * o[u] * (1 - o[u]);
        }
        linear_backward(E, 4 * H, da->gates[d][n], a->x[n], da->x[n], w->W_ih, dw->W_ih, dw->b_ih);
        linear_backward(H, 4 * H, da->gates[d][n], h_before, dh_before, w->W_hh, dw->W_hh, dw->b_hh);
    }
}

/* ---- pooling: the rows of sentence s become one, y_s ------------------------------------------------ */
/* y_s,j = sum_n share_n,j h_n,j        MEAN: all shares are 1/T; else one is 1 and the others 0:
   MAX: the first of the largest; LAST: the row where its direction has read everything */
static void pool_forward(int pool, int s, int first, int T, activations *a)
{
    for (int j = 0; j < 2 * H; j++) {
        int last = row_of(j < H ? FORWARD : REVERSE, first, T, T - 1), largest = first;
        for (int n = first; n < first + T; n++) if (a->h[n][j] > a->h[largest][j]) largest = n;
        for (int n = first; n < first + T; n++) {
            a->share[n][j] = pool == MEAN ? 1.0 / T : n == (pool == MAX ? largest : last);
            a->y[s][j] += a->share[n][j] * a->h[n][j];
        }
    }
}

/* dh_n,j += share_n,j dy_s,j */
static void pool_backward(int s, int first, int T, const activations *a, activations *da)
{
    for (int n = first; n < first + T; n++)
        for (int j = 0; j < 2 * H; j++) da->h[n][j] += a->share[n][j] * da->y[s][j];
}

/* ---- softmax and cross-entropy of one item ---------------------------------------------------------- */
/* p_c = exp(z_c) / sum_k exp(z_k)       less the largest z: the same p, and exp cannot overflow
   -log p_label, or 0 without a label */
static double cross_entropy_forward(int C, double *p, const double *z, int label)
{
    double largest = z[0], sum = 0;
    for (int c = 1; c < C; c++) largest = fmax(largest, z[c]);
    for (int c = 0; c < C; c++) sum += p[c] = exp(z[c] - largest);
    for (int c = 0; c < C; c++) p[c] /= sum;
    return label == MISSING ? 0 : log(sum) - (z[label] - largest);
}

/* dz_c = share (p_c - [c is the label])     an item without a label teaches nothing: its dz stays 0 */
static void cross_entropy_backward(int C, double *dz, const double *p, int label, double share)
{
    for (int c = 0; c < C && label != MISSING; c++) dz[c] = share * (p[c] - (c == label));
}

/* ---- the network ------------------------------------------------------------------------------------ */
/* How many labels are not missing; 1 for none, since a sum of 0 is to be divided by it. */
static int count_labelled(int items, const int *label)
{
    int count = 0;
    for (int m = 0; m < items; m++) count += label[m] != MISSING;
    return count > 0 ? count : 1;
}

/* L_k = sum of -log p_label over the labelled items of task k / their number
   L = lambda_intent L_intent + lambda_slots L_slots */
static double forward(int pool, const weights *w, const batch *b, activations *a)
{
    int intents = count_labelled(b->B, b->intent), slots = count_labelled(b->N, b->slots);
    memset(a, 0, sizeof *a);
    embedding_forward(w, b, a);
    for (int s = 0, n = 0; s < b->B; n += b->T[s++]) {
        for (int d = FORWARD; d <= REVERSE; d++) lstm_forward(&w->lstm[d], d, n, b->T[s], a);
        pool_forward(pool, s, n, b->T[s], a);
        linear_forward(2 * H, INTENTS, a->z_intent[s], a->y[s], w->W_intent, w->b_intent);
        a->L_intent += cross_entropy_forward(INTENTS, a->p_intent[s], a->z_intent[s], b->intent[s]) / intents;
    }
    for (int n = 0; n < b->N; n++) {
        linear_forward(2 * H, SLOTS, a->z_slots[n], a->h[n], w->W_slots, w->b_slots);
        a->L_slots += cross_entropy_forward(SLOTS, a->p_slots[n], a->z_slots[n], b->slots[n]) / slots;
    }
    return LAMBDA_INTENT * a->L_intent + LAMBDA_SLOTS * a->L_slots;
}

/* The same from last to first. Both heads add to da->h: there the tasks meet; what lies below, they share. */
static void backward(const weights *w, weights *dw, const batch *b, const activations *a, activations *da)
{
    int intents = count_labelled(b->B, b->intent), slots = count_labelled(b->N, b->slots);
    memset(dw, 0, sizeof *dw);
    memset(da, 0, sizeof *da);
    for (int n = 0; n < b->N; n++) {
        double *dz = da->z_slots[n];
        cross_entropy_backward(SLOTS, dz, a->p_slots[n], b->slots[n], LAMBDA_SLOTS / slots);
        linear_backward(2 * H, SLOTS, dz, a->h[n], da->h[n], w->W_slots, dw->W_slots, dw->b_slots);
    }
    for (int s = 0, n = 0; s < b->B; n += b->T[s++]) {
        double *dz = da->z_intent[s];
        cross_entropy_backward(INTENTS, dz, a->p_intent[s], b->intent[s], LAMBDA_INTENT / intents);
        linear_backward(2 * H, INTENTS, dz, a->y[s], da->y[s], w->W_intent, dw->W_intent, dw->b_intent);
        pool_backward(s, n, b->T[s], a, da);
        for (int d = FORWARD; d <= REVERSE; d++)
            lstm_backward(&w->lstm[d], &dw->lstm[d], d, n, b->T[s], a, da);
    }
    embedding_backward(dw, b, da);
}

/* ---- an update -------------------------------------------------------------------------------------- */
/* g is dw as one long vector: where |g| > most, g *= most / |g| (Pascanu et al. 2013). Returns |g|. */
static double clip(weights *dw, double most)
{
    double *g = (double *)dw, norm = 0;
    for (int j = 0; j < WEIGHTS; j++) norm = hypot(norm, g[j]);
    for (int j = 0; j < WEIGHTS && norm > most; j++) g[j] *= most / (norm + 1e-6);  /* as PyTorch */
    return norm;
}

/* Adam (Kingma & Ba 2015), update t = 1, 2, ..        m and v begin with 0; the divisors make up for it
   m = b1 m + (1 - b1) g      v = b2 v + (1 - b2) g^2
   w -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) */
static void adam_update(weights *w, const weights *dw, weights *m, weights *v, int t, double lr, double eps)
{
    const double b1 = 0.9, b2 = 0.999;
    for (int j = 0; j < WEIGHTS; j++) {
        double g = ((const double *)dw)[j], *mj = (double *)m + j, *vj = (double *)v + j;
        *mj = b1 * *mj + (1 - b1) * g;
        *vj = b2 * *vj + (1 - b2) * g * g;
        ((double *)w)[j] -= lr * *mj / (1 - pow(b1, t)) / (sqrt(*vj / (1 - pow(b2, t))) + eps);
    }
}

/* ---- something to learn ----------------------------------------------------------------------------- */
static int draw(unsigned *s, int below) { return (int)((*s = *s * 1664525u + 1013904223u) >> 16) % below; }

/* Uniform in [-1/sqrt(H), 1/sqrt(H)]; the embedding, which stands first, in [-1, 1]. */
static void weights_randomise(weights *w, unsigned *seed)
{
    for (int j = 0; j < WEIGHTS; j++)
        ((double *)w)[j] = (draw(seed, 20001) / 1e4 - 1) / (j < V * E ? 1 : sqrt(H));
}

/* Sentences of random words; words 0 .. INTENTS-1 are verbs. Intent: the last verb. Slots: 1 behind a verb,
   2 before one, 3 between two, 0 else. A quarter of the labels is missing, and an intent without a verb. */
static void batch_fill(batch *b, unsigned *seed)
{
    b->N = 0;
    for (b->B = 0; b->B < MOST_B; b->N += b->T[b->B++]) {
        int *word = b->words + b->N, T = b->T[b->B] = 1 + draw(seed, MOST_T), verb = MISSING;
        for (int t = 0; t < T; t++) word[t] = draw(seed, draw(seed, 4) ? V : INTENTS);
        for (int t = 0; t < T; t++) {
            int behind = t > 0 && word[t - 1] < INTENTS, before = t < T - 1 && word[t + 1] < INTENTS;
            b->slots[b->N + t] = draw(seed, 4) ? behind + 2 * before : MISSING;
            if (word[t] < INTENTS) verb = word[t];
        }
        b->intent[b->B] = draw(seed, 4) ? verb : MISSING;
    }
}

int main(void)
{
    static weights w, dw, m, v;
    static activations a, da;
    static batch b;
    unsigned seed = 1;
    weights_randomise(&w, &seed);
    for (int t = 1; t <= 500; t++) {
        batch_fill(&b, &seed);                      /* new sentences: the losses are those of unseen ones */
        double L = forward(MAX, &w, &b, &a);
        if (t % 50 == 1) printf("%3d  L %.4f   intent %.4f   slots %.4f\n", t, L, a.L_intent, a.L_slots);
        backward(&w, &dw, &b, &a, &da);
        clip(&dw, 1);
        adam_update(&w, &dw, &m, &v, t, 0.01, 1e-8);
    }
    return 0;
}
