#include "derive.h"

enum { LARGEST = 100000000 };               /* of a shape; what no desc allows is refused there */

const char *derived_from(const derivation *from, const char *name)
{
    static char text[700];
    char shape[160];
    const mtl_safetensor *of = find_source(from->file, from->mappings, name);
    snprintf(text, sizeof text, "%s (%s)", of ? of->name : name,
             of ? shape_text(of, shape) : "not in the file");
    return text;
}

/* The file's matrix for a tensor of the model; NULL: no mapping leads to one. A mapping that leads to nothing
   is left to mtl_model_import, which names all of them. */
static const mtl_safetensor *find_matrix(const derivation *from, const char *name)
{
    const mtl_safetensor *of = find_source(from->file, from->mappings, name);
    if (!of) return NULL;
    if (of->dims != 2 || !of->shape[0] || !of->shape[1] || of->shape[0] > LARGEST || of->shape[1] > LARGEST)
        fail("%s: tensor %s is read as %s, which is a matrix; expected another tensor there (--map)",
             from->path, derived_from(from, name), name);
    return of;
}

/* Sets a number of a desc from the file; one that the command line has set must be the same. what: the
   number's name with the option that sets it; name: the tensor that tells it. */
static void settle(const derivation *from, int *member, int found, const char *what, const char *name)
{
    if (*member && *member != found)
        fail("%s: tensor %s makes %s %d; the command line says %d: leave that out, or map another tensor",
             from->path, derived_from(from, name), what, found, *member);
    *member = found;
}

/* ---- the encoder ------------------------------------------------------------------------------------- */

static const struct { int cell; size_t gates; const char *name; } cells[] = {
    { MTL_CELL_RNN, 1, "rnn" }, { MTL_CELL_GRU, 3, "gru" }, { MTL_CELL_LSTM, 4, "lstm" } };
enum { CELLS = sizeof cells / sizeof *cells };

static void derive_cell(const derivation *from, const mtl_safetensor *of, mtl_column_desc *encoder)
{
    const size_t gates = of->shape[0] % of->shape[1] ? 0 : of->shape[0] / of->shape[1];
    size_t i;
    for (i = 0; i < CELLS && cells[i].gates != gates; i++) { }
    if (i == CELLS)
        fail("%s: tensor %s is of no cell: of H units a rnn has HxH numbers there, a gru 3HxH, a lstm 4HxH "
             "(one with proj_size, which is not supported, has others)",
             from->path, derived_from(from, "encoder.weight_hh_l0"));
    if (encoder->cell && encoder->cell != cells[i].cell)
        fail("%s: tensor %s is of a %s; the command line says another --cell: leave that out",
             from->path, derived_from(from, "encoder.weight_hh_l0"), cells[i].name);
    encoder->cell = cells[i].cell;
}

/* Whether cells read from the end, and whether they have biases. */
static void derive_kind(const derivation *from, int dir_told, mtl_column_desc *encoder)
{
    char source[512];
    const int reverse = find_source(from->file, from->mappings, "encoder.weight_hh_l0_reverse") != NULL;
    source_name(from->mappings, "encoder.weight_hh_l0_reverse", source);
    if (dir_told && encoder->bidirectional != reverse)
        fail("%s: --dir %s, but the file has %s%s, so the encoder reads in %s: leave --dir out", from->path,
             reverse ? "uni" : "bi", reverse ? "" : "no ", source,
             reverse ? "two directions" : "one direction");
    encoder->bidirectional = reverse;
    if (!find_source(from->file, from->mappings, "encoder.bias_ih_l0") &&
        !find_source(from->file, from->mappings, "encoder.bias_hh_l0"))
        encoder->no_bias = 1;
}

EXITS
static void fail_without_encoder(const derivation *from)
{
    char source[512];
    const char *wanted = "encoder.weight_hh_l0";
    const int mapping = source_name(from->mappings, wanted, source);
    if (mapping >= 0)
        fail("%s: --map %s=%s leads from %s to %s, which is not in the file%s", from->path,
             from->mappings[mapping].from, from->mappings[mapping].to, wanted, source,
             mapping_suggestion(from->file, wanted, 0));
    fail("%s: no --map leads to %s, the recurrent weights of the first layer%s", from->path, wanted,
         mapping_suggestion(from->file, wanted, 0));
}

int derive_encoder(const derivation *from, int dir_told, mtl_column_desc *encoder)
{
    const char *first = "encoder.weight_hh_l0";
    const mtl_safetensor *hidden = find_matrix(from, first), *input;
    char name[64], last[64];
    int layers = 0;
    if (!hidden) fail_without_encoder(from);
    derive_cell(from, hidden, encoder);
    settle(from, &encoder->hidden, (int)hidden->shape[1], "encoder.hidden (--hidden)", first);
    do {
        snprintf(last, sizeof last, "encoder.weight_hh_l%d", layers++);
        snprintf(name, sizeof name, "encoder.weight_hh_l%d", layers);
    } while (layers < 64 && find_matrix(from, name));
    settle(from, &encoder->layers, layers, "encoder.layers (--layers)", last);
    derive_kind(from, dir_told, encoder);
    input = find_matrix(from, "encoder.weight_ih_l0");
    if (!input)
        fail("%s: no --map leads to encoder.weight_ih_l0, the input weights of the first layer%s", from->path,
             mapping_suggestion(from->file, "encoder.weight_ih_l0", 0));
    return (int)input->shape[1];
}

/* ---- the input and heads ----------------------------------------------------------------------------- */

int derive_embedding(const derivation *from, int reads, mtl_input_desc *input)
{
    const char *name = "text.weight";
    const mtl_safetensor *of = find_matrix(from, name);
    char first[700];
    if (!of) return 0;
    settle(from, &input->vocabulary, (int)of->shape[0], "the vocabulary (--vocabulary)", name);
    settle(from, &input->width, (int)of->shape[1], "input.width (--embed)", name);
    snprintf(first, sizeof first, "%s", derived_from(from, "encoder.weight_ih_l0"));
    if (input->width != reads)
        fail("%s: the embedding %s has %d numbers for a token, but the encoder's %s reads %d", from->path,
             derived_from(from, name), input->width, first, reads);
    return 1;
}

void derive_head(const derivation *from, mtl_task_desc *desc, int *outputs)
{
    char name[160], what[160];
    const mtl_safetensor *of;
    int k;
    for (k = 0; k < MTL_MAX_HIDDEN; k++) {
        snprintf(name, sizeof name, "%s.hidden.%d.weight", desc->name, k);
        if (!(of = find_matrix(from, name))) break;
        snprintf(what, sizeof what, "task.%s.hidden, layer %d,", desc->name, k);
        settle(from, &desc->hidden[k], (int)of->shape[0], what, name);
    }
    snprintf(name, sizeof name, "%s.output.weight", desc->name);
    if (!(of = find_matrix(from, name))) return;
    snprintf(what, sizeof what, "the classes or numbers of task %s", desc->name);
    settle(from, outputs, (int)of->shape[0], what, name);
    for (; k < MTL_MAX_HIDDEN; k++)
        if (desc->hidden[k])
            fail("%s: task.%s.hidden has %d layers or more, but no --map leads to %s.hidden.%d.weight",
                 from->path, desc->name, k + 1, desc->name, k);
}
