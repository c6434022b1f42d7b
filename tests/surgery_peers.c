/* surgery_peers.c    the C half of surgery_peers.py: reads Gram matrices of tasks' gradients, prints weights

       surgery_peers <cases

   A case is a line METHOD TASKS C BETA SEED, as in trainer.surgery, surgery_c, surgery_beta, and TASKS *
   TASKS numbers. It is answered by a line of TASKS weights, and one of the orders in which each task's
   gradient meets the others: TASKS * (TASKS - 1) numbers. What gradvac keeps of pairs goes from a case to the
   next as long as both have as many tasks. */
#define MTL_RNN_IMPLEMENTATION
#include "mtl_rnn.h"

enum { MOST = 16 };

/* A part of a trainer, put together by hand. */
typedef struct bench {
    mtl__surgery surgery;
    mtl__weighting weighting;
    mtl__weighed of[MOST];
    double gram[MOST * MOST], raw[MOST * MOST], next[MOST * MOST], scratch[3 * MOST * MOST + 4 * MOST];
    double w[MOST], weight[MOST], scale[MOST];
    size_t component[MOST], task[MOST], order[MOST];
} bench;

static void bench_init(bench *b, const mtl_trainer_desc *desc, size_t tasks)
{
    mtl__surgery *s = &b->surgery;
    size_t k;
    if (s->tasks != tasks) memset(b, 0, sizeof *b);
    s->kind = &mtl__surgery_kinds[desc->surgery - MTL_SURGERY_NONE];
    s->desc = desc;
    s->tasks = tasks;
    s->gram = b->gram, s->raw = b->raw, s->next = b->next, s->scratch = b->scratch;
    s->w = b->w, s->weight = b->weight, s->scale = b->scale;
    s->component = b->component, s->task = b->task, s->order = b->order;
    s->seed = desc->seed;
    b->weighting.of = b->of;
    b->weighting.tasks = tasks;
    for (k = 0; k < tasks; k++) b->of[k].weight = b->scale[k] = 1;
}

static void print_orders(bench *b)
{
    mtl__surgery_case c;
    size_t i, k;
    memset(&c, 0, sizeof c);
    c.n = c.tasks = b->surgery.tasks;
    c.task = b->component;                          /* numbers 0 .. n - 1 for a moment */
    c.order = b->order;
    c.seed = b->surgery.seed;
    for (i = 0; i < c.n; i++) b->component[i] = i;
    for (i = 0; i < c.n; i++) {
        mtl__surgery_order(&c, i);
        for (k = 0; k + 1 < c.n; k++) printf("%d ", (int)b->order[k]);
    }
    printf("\n");
    memset(b->component, 0, sizeof b->component);
}

int main(void)
{
    static bench b;
    mtl_trainer_desc desc;
    mtl_error err;
    char method[32];
    int tasks, i;
    size_t count, k;
    const mtl_field *fields = mtl_fields(MTL_DESC_TRAINER, &count);
    memset(&err, 0, sizeof err);
    memset(&desc, 0, sizeof desc);
    while (scanf("%31s %d %f %f %llu", method, &tasks, &desc.surgery_c, &desc.surgery_beta, &desc.seed)
           == 5) {
        for (k = 0; k < count; k++)
            if (strcmp(fields[k].name, "surgery") == 0) mtl_field_set(&fields[k], &desc, method, &err);
        if (err.code || tasks < 2 || tasks > MOST) {
            fprintf(stderr, "surgery_peers: %s\n", err.code ? err.message : "2 to 16 tasks");
            return 1;
        }
        bench_init(&b, &desc, (size_t)tasks);
        for (i = 0; i < tasks * tasks; i++)
            if (scanf("%lf", &b.gram[i]) != 1) return 1;
        mtl__surgery_weigh(&b.surgery, &b.weighting, 0);
        for (i = 0; i < tasks; i++) printf("%.17g ", b.scale[i]);
        printf("\n");
        print_orders(&b);
    }
    return 0;
}
