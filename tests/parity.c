/* parity.c    the C half of parity.py: predicts and trains each case of the files it is given and says what
               came out

       parity_float SUFFIX FILE...     (parity_double: compiled with -DMTL_REAL=double)

   A file is one case as golden/reference.py writes it. Beside FILE it leaves FILE.gradients.SUFFIX, the first
   update's gradients under their parameters' names, and FILE.final.SUFFIX, the parameters after the last
   update. On standard output, a line each:
       file FILE
       predict TASK NUMBER...              probabilities or values of the first micro-batch at the initial
                                           weights
       first LOSS NORM TASK_LOSS...        of the first update, by mtl_train_gradients
       step LOSS NORM RATE                 of each update
       done FILE    or    error MESSAGE */
#define MTL_RNN_IMPLEMENTATION
#include "mtl_rnn.h"
#include "golden/cases.h"

typedef struct parity {
    const char *path, *suffix;
    case_setup c;
    mtl_model *model;
    mtl_trainer *trainer;
    mtl_batch batches[CASE_BATCHES];
    mtl_state *states[CASE_BATCHES];
} parity;

/* Probabilities and values of every task: the way without a tape. */
static void parity_predict(parity *p, mtl_error *err)
{
    mtl_predictor *predictor = mtl_predictor_create(p->model, NULL, err);
    mtl_prediction out[CASE_TASKS];
    const mtl_model_desc *d = mtl_model_describe(p->model);
    mtl_batch batch = p->batches[0];
    size_t k, i;
    batch.state = NULL;
    mtl_predict(predictor, &batch, out, err);
    for (k = 0; k < d->task_count && !err->code; k++) {
        const mtl_real *numbers = out[k].probabilities ? out[k].probabilities : out[k].values;
        printf("predict %s", d->tasks[k].name);
        for (i = 0; i < out[k].items * out[k].width; i++) printf(" %.17g", (double)numbers[i]);
        printf("\n");
    }
    mtl_predictor_destroy(predictor);
}

static void parity_export(const parity *p, const mtl_model *model, const char *what, mtl_error *err)
{
    char path[1024];
    snprintf(path, sizeof path, "%s.%s.%s", p->path, what, p->suffix);
    mtl_model_export(model, path, NULL, 0, err);
}

/* A gradient's values where its state says that there are some, else zeros. */
static void parity_copy_gradient(mtl_tensor *to, const mtl_gradient *from)
{
    size_t r, width = to->shape[1];
    memset(to->value, 0, to->count * sizeof *to->value);
    if (from && from->state == MTL_GRAD_DENSE) memcpy(to->value, from->value, to->count * sizeof *to->value);
    for (r = 0; from && from->state == MTL_GRAD_ROWS && r < from->row_count; r++) {
        size_t row = (size_t)from->rows[r] * width;
        memcpy(to->value + row, from->value + row, width * sizeof *to->value);
    }
}

/* Gradients are written by exporting a model that holds them as its parameters. */
static void parity_gradients(parity *p, mtl_error *err)
{
    mtl_model *copy = mtl_model_create(&p->c.built, err);
    const mtl_parameters *from = mtl_model_parameters(p->model);
    mtl_step step;
    size_t i;
    int m;
    mtl_train_gradients(p->trainer, p->batches, (size_t)p->c.batches, &step, err);
    for (i = 0; i < from->count && !err->code; i++)
        parity_copy_gradient(mtl_model_parameters(copy)->tensors[i],
                             mtl_gradients_get(mtl_trainer_gradients(p->trainer), from->tensors[i]));
    if (!err->code) {
        parity_export(p, copy, "gradients", err);
        printf("first %.17g %.17g", step.loss, step.grad_norm);
        for (i = 0; i < step.task_count; i++) printf(" %.17g", step.task_loss[i]);
        printf("\n");
    }
    for (m = 0; m < CASE_BATCHES; m++)
        if (p->states[m]) mtl_state_reset(p->states[m]);
    mtl_model_destroy(copy);
}

static void parity_train(parity *p, mtl_error *err)
{
    mtl_step step;
    int u;
    for (u = 0; u < p->c.updates && !err->code; u++) {
        case_batches(&p->c, p->model, u, p->batches, p->states, err);
        if (mtl_train_step(p->trainer, p->batches, (size_t)p->c.batches, &step, err)) return;
        printf("step %.17g %.17g %.17g\n", step.loss, step.grad_norm, step.lr);
    }
    parity_export(p, p->model, "final", err);
}

static void parity_case(parity *p, mtl_error *err)
{
    int m;
    p->model = case_model(&p->c, err);
    if (!p->model) return;
    p->trainer = mtl_trainer_create(p->model, &p->c.trainer, err);
    case_batches(&p->c, p->model, 0, p->batches, p->states, err);
    if (!err->code) parity_predict(p, err);
    if (!err->code) parity_gradients(p, err);
    if (!err->code) parity_train(p, err);
    for (m = 0; m < CASE_BATCHES; m++) mtl_state_destroy(p->states[m]);
    mtl_trainer_destroy(p->trainer);
    mtl_model_destroy(p->model);
}

int main(int argc, char **argv)
{
    int i;
    for (i = 2; i < argc; i++) {
        mtl_error err = {0};
        case_file file;
        parity p;
        memset(&p, 0, sizeof p);
        p.path = argv[i];
        p.suffix = argv[1];
        printf("file %s\n", p.path);
        fflush(stdout);
        case_file_open(&file, p.path, &err);
        if (case_next(&file, &p.c, &err)) parity_case(&p, &err);
        case_file_close(&file);
        if (err.code) printf("error %s\n", err.message);
        else printf("done %s\n", p.path);
        fflush(stdout);
    }
    return argc < 3;
}
