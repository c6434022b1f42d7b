#include "commands.h"

#include <stdint.h>

#include "create.h"
#include "derive.h"
#include "models.h"
#include "numbers.h"
#include "options.h"

typedef struct importing {
    const settings *given;
    corpus *all;
    derivation from;
    mtl_safetensors file;
    int *counts;                            /* growing: classes or numbers of each task; 0: not known yet */
    const char ***labels;                   /* growing, of each task; NULL: none were given */
    const char **words;
    mtl_task_desc *tasks;                   /* growing */
} importing;

/* ---- what the command line says ----------------------------------------------------------------------- */

/* The lines of a file, none empty and none twice. what: what a line is. A growing array of the caller's. */
static const char **read_lines(const char *path, const char *what)
{
    source in = source_open(path);
    names lines = { 0 };
    size_t place;
    while (source_line(&in)) {
        if (!in.length && source_at_end(&in)) break;
        if (!in.length) fail_at(&in, NULL, "an empty line; expected %s a line", what);
        place = names_add(&lines, in.line, in.length) + 1;
        if (place != in.number)
            fail_at(&in, NULL, "'%.60s' stands in line %zu, too; expected %s a line, each once", in.line,
                    place, what);
    }
    source_close(&in);
    if (!arrlenu(lines.list)) fail("%s: is empty; expected %s a line", path, what);
    return name_list(&lines);
}

/* NAME:KIND or NAME:KIND:N. */
static void read_task(importing *in, const char *given)
{
    char *text = strcpy((char *)checked_realloc(NULL, strlen(given) + 1), given), **pieces = NULL;
    const column_kind *kind;
    source command_line = { 0 };
    double count = 0;
    size_t width;
    split(text, ':', &pieces);
    if (arrlenu(pieces) < 2 || arrlenu(pieces) > 3)
        fail_usage("--task %s: expected NAME:KIND or NAME:KIND:N, as in intent:class:4", given);
    kind = kind_by_name(pieces[1], &width);
    if (!kind)
        fail_usage("--task %s: '%s' is no kind of task; expected %s", given, pieces[1], kinds_that(NULL));
    if (arrlenu(pieces) == 3 && (!mtl_text_number(pieces[2], strlen(pieces[2]), &count) || count < 1 ||
                                 count > INT32_MAX || count != (double)(int)count))
        fail_usage("--task %s: '%s' is no number of classes; expected 4, for instance", given, pieces[2]);
    if (corpus_find(in->all, text)) fail_usage("--task %s: the same task twice", given);
    if (name_fault(text)) fail_usage("--task %s: the name %s", given, name_fault(text));
    command_line.path = "--task";
    corpus_task(in->all, &command_line, NULL, text, kind, width);
    arrput(in->counts, (int)count);
    arrput(in->labels, NULL);
    arrfree(pieces);
}

static void read_labels(importing *in, const char *given)
{
    const char *equals = strchr(given, '=');
    char wanted[64];
    task *of;
    if (!equals) fail_usage("--labels %s: expected TASK=FILE", given);
    snprintf(wanted, sizeof wanted, "%.*s", (int)(equals - given), given);
    of = corpus_find(in->all, wanted);
    if (!of)
        fail_usage("--labels %s: no --task %s%s", given, wanted,
                   suggestion(wanted, corpus_task_names(in->all)));
    if (!kind_has_classes(of->kind))
        fail_usage("--labels %s: task %s is of kind %s, which has no classes", given, wanted, of->kind->name);
    in->labels[of - in->all->tasks] = read_lines(equals + 1, "a label");
}

/* Puts the word that stands for unknown ones first, where the library has it. Returns its place in the file,
   which is that of its row. */
static size_t place_unknown(importing *in)
{
    static const char *const usual[] = { "<unk>", "<UNK>", "[UNK]", "UNK", "<oov>", "<OOV>" };
    const char *wanted = in->given->unknown, *first;
    size_t i, k;
    if (wanted && !in->words) fail_usage("--unknown %s: is one of --words: give those too", wanted);
    for (i = 0; i < arrlenu(in->words) && wanted && strcmp(in->words[i], wanted) != 0; i++) { }
    if (wanted && i == arrlenu(in->words))
        fail("--unknown %s: %s has no such line%s", wanted, in->given->words, suggestion(wanted, in->words));
    for (k = 0; !wanted && k < sizeof usual / sizeof *usual; k++)
        for (i = 1; i < arrlenu(in->words); i++)
            if (strcmp(in->words[i], usual[k]) == 0)
                warn("--words %s: unknown words are read as the first line's, %s; if they are %s, give "
                     "--unknown '%s'", in->given->words, in->words[0], usual[k], usual[k]);
    if (!wanted || !i) return 0;
    first = in->words[0];
    in->words[0] = in->words[i];
    in->words[i] = first;
    return i;
}

/* ---- the model ----------------------------------------------------------------------------------------- */

/* --features A,B,C names columns, --features N only counts them. */
static int features_are_named(const settings *given)
{
    return arrlenu(given->features) > 1 || (arrlenu(given->features) && !is_number(given->features[0]));
}

static int count_features(const settings *given)
{
    double number;
    if (!arrlenu(given->features) || features_are_named(given)) return (int)arrlenu(given->features);
    mtl_text_number(given->features[0], strlen(given->features[0]), &number);
    if (number < 1 || number > 1e6 || number != (double)(int)number)
        fail_usage("--features %s: expected names of columns, or how many there are", given->features[0]);
    return (int)number;
}

static mtl_input_desc make_rows_input(importing *in, int reads)
{
    mtl_input_desc input = in->given->frames_input;
    const int features = count_features(in->given);
    if (!features)
        fail("%s: no --map leads to text.weight, the embedding%s; a model that reads rows of %d numbers "
             "wants --features %d (or their names), one whose embedding is still to be learnt --vocabulary N",
             in->from.path, mapping_suggestion(&in->file, "text.weight", (size_t)reads), reads, reads);
    if (features != reads)
        fail("%s: --features says %d numbers a row; the encoder's %s reads %d", in->from.path, features,
             derived_from(&in->from, "encoder.weight_ih_l0"), reads);
    if (in->words) fail_usage("--words: a model of --features reads rows of numbers, no words");
    input.name = "frames";
    input.features = features;
    return input;
}

static mtl_input_desc make_input(importing *in, int reads)
{
    mtl_input_desc input = in->given->input;
    input.vocabulary = (int)in->given->vocabulary;
    if (arrlenu(in->given->features) && find_source(&in->file, in->from.mappings, "text.weight"))
        fail_usage("--features: --map leads from %s to an embedding, and a model reads tokens or rows of "
                   "numbers", derived_from(&in->from, "text.weight"));
    if (!derive_embedding(&in->from, reads, &input)) {
        if (!input.vocabulary) return make_rows_input(in, reads);
        if (input.width && input.width != reads)
            fail("%s: --embed says %d numbers a token; the encoder's %s reads %d", in->from.path, input.width,
                 derived_from(&in->from, "encoder.weight_ih_l0"), reads);
        input.width = reads;
    }
    if (in->words && (int)arrlenu(in->words) != input.vocabulary)
        fail("--words %s: has %zu lines; the vocabulary has %d words (tensor %s): expected a line for each "
             "row", in->given->words, arrlenu(in->words), input.vocabulary,
             derived_from(&in->from, "text.weight"));
    input.name = "text";
    input.words = in->words;
    return input;
}

static void add_task(importing *in, size_t index)
{
    task *of = &in->all->tasks[index];
    const char **labels = in->labels[index];
    char name[80];
    mtl_task_desc desc = make_task_desc(in->given, of, labels, NULL);
    int count = in->counts[index];
    derive_head(&in->from, &desc, &count);
    snprintf(name, sizeof name, "%s.output.weight", of->name);
    if (labels && count && count != (int)arrlenu(labels))
        fail("--labels %s: %zu lines, but %d classes (tensor %s): expected a line for each class", of->name,
             arrlenu(labels), count, derived_from(&in->from, name));
    if (labels) count = (int)arrlenu(labels);
    if (!count)
        fail("%s: how many classes or numbers does task %s have? no --map leads to %s%s; or give "
             "--task %s:%s:N", in->from.path, of->name, name, mapping_suggestion(&in->file, name, 0),
             of->name, of->kind->name);
    if (kind_has_classes(of->kind)) desc.classes = count;
    else desc.width = count;
    arrput(in->tasks, desc);
}

static mtl_model *make_model(importing *in)
{
    mtl_model_desc desc = in->given->model;
    mtl_column_desc encoder = in->given->encoder;
    const int reads = derive_encoder(&in->from, set_by(in->given, "encoder.bidirectional") != NULL, &encoder);
    mtl_input_desc input = make_input(in, reads);
    mtl_error err = { 0 };
    mtl_model *model;
    size_t i;
    for (i = 0; i < arrlenu(in->all->tasks); i++) add_task(in, i);
    desc.inputs = &input;
    desc.input_count = 1;
    desc.encoder = encoder;
    desc.tasks = in->tasks;
    desc.task_count = arrlenu(in->tasks);
    check_memory(&desc);
    model = mtl_model_create(&desc, &err);
    check(&err);
    return model;
}

/* ---- its values --------------------------------------------------------------------------------------- */

/* A Linear without a bias has one of zeros here. */
static void clear_bias(importing *in, mtl_model *model, const mtl_tensor *weight)
{
    const size_t length = strlen(weight->name);
    char name[512];
    mtl_tensor *bias;
    if (length < 7 || length > 500 || strcmp(weight->name + length - 7, ".weight") != 0) return;
    snprintf(name, sizeof name, "%.*s.bias", (int)(length - 7), weight->name);
    bias = mtl_model_tensor(model, name);
    if (bias && !find_source(&in->file, in->from.mappings, name))
        memset(bias->value, 0, bias->count * sizeof *bias->value);
}

static void swap_rows(mtl_tensor *of, size_t a, size_t b)
{
    size_t k;
    for (k = 0; k < of->shape[1]; k++) {
        const mtl_real kept = of->value[a * of->shape[1] + k];
        of->value[a * of->shape[1] + k] = of->value[b * of->shape[1] + k];
        of->value[b * of->shape[1] + k] = kept;
    }
}

/* Ends the program with what mtl_model_import said, the mapping or tensor that is meant, and what to do. */
EXITS
static void fail_import(const importing *in, mtl_model *model, const mtl_error *err)
{
    if (strcmp(err->name, "mappings") == 0 && err->position >= 0)
        fail("--map %s: %s", in->given->maps[err->position], err->message);
    if (mtl_model_tensor(model, err->name))
        fail("%s: %s; %s is read from %s: give a --map that leads to another tensor, or --task and --set "
             "that fit this one", in->from.path, err->message, err->name, derived_from(&in->from, err->name));
    if (mtl_safetensors_find(&in->file, err->name))
        fail("%s: %s; or narrow the --map to what the model has", in->from.path, err->message);
    fail("%s: %s", in->from.path, err->message);
}

/* Reads the tensors. */
static void read_tensors(importing *in, mtl_model *model, size_t unknown)
{
    mtl_error err = { 0 };
    const mtl_parameters *set = mtl_model_parameters(model);
    size_t i;
    mtl_model_import(model, &in->file, in->from.mappings, arrlenu(in->from.mappings), &err);
    if (err.code) fail_import(in, model, &err);
    for (i = 0; i < set->count; i++)
        if (find_source(&in->file, in->from.mappings, set->tensors[i]->name))
            clear_bias(in, model, set->tensors[i]);
    if (unknown && find_source(&in->file, in->from.mappings, "text.weight"))
        swap_rows(mtl_model_tensor(model, "text.weight"), 0, unknown);
    mtl_model_prepare(model, &err);
    check(&err);
}

/* Adds a name to a list of a message, which ends with how many there are more. */
static void list_name(char **text, size_t *count, const char *name)
{
    if ((*count)++ < 8) add_text(text, "%s%.100s", *count > 1 ? ", " : "", name);
}

/* Tells what of the model is not from the file, and what of the file is not in the model; returns how many of
   the file's tensors are. */
static size_t report_left(importing *in, mtl_model *model)
{
    const mtl_parameters *set = mtl_model_parameters(model);
    char *kept = NULL, *left = NULL, source[512];
    size_t kept_count = 0, left_count = 0, i, k;
    for (i = 0; i < set->count; i++)
        if (source_name(in->from.mappings, set->tensors[i]->name, source) < 0)
            list_name(&kept, &kept_count, set->tensors[i]->name);
    for (k = 0; k < in->file.count; k++) {
        for (i = 0; i < set->count; i++)
            if (source_name(in->from.mappings, set->tensors[i]->name, source) >= 0 &&
                strcmp(source, in->file.tensors[k].name) == 0)
                break;
        if (i == set->count) list_name(&left, &left_count, in->file.tensors[k].name);
    }
    if (kept && !in->given->quiet)
        note("no --map leads to %zu of the model's tensors: they have initial values (biases of layers that "
             "are read: zeros): %s%s", kept_count, kept, kept_count > 8 ? ", ..." : "");
    if (left && !in->given->quiet)
        note("%zu of the file's tensors are not read: %s%s", left_count, left, left_count > 8 ? ", ..." : "");
    arrfree(kept);
    arrfree(left);
    return in->file.count - left_count;
}

/* How the model was made, for `mtl info`; and how CSV files are read. */
static void note_import(importing *in, mtl_model *model, mtl_error *err)
{
    const settings *given = in->given;
    char *text = NULL;
    size_t i;
    add_text(&text, "file=%.500s\n", given->model_path);
    for (i = 0; i < arrlenu(given->maps); i++) add_text(&text, "map=%.500s\n", given->maps[i]);
    mtl_model_note(model, "imported", text, err);
    arrfree(text);
    if (given->sequence) mtl_model_note(model, "sequence", given->sequence, err);
    if (!features_are_named(given)) return;
    for (i = 0; i < arrlenu(given->features); i++) add_text(&text, "%s%s", i ? "," : "", given->features[i]);
    mtl_model_note(model, "features", text, err);
    arrfree(text);
}

int command_import(const settings *given, corpus *all)
{
    importing in = { 0 };
    mtl_error err = { 0 };
    mtl_model *model;
    size_t i, unknown;
    check_output(given, given->out, "--out");
    in.given = given;
    in.all = all;
    for (i = 0; i < arrlenu(given->tasks); i++) read_task(&in, given->tasks[i]);
    apply_heads(given, in.all);
    check_task_names(given, all);
    for (i = 0; i < arrlenu(given->labels); i++) read_labels(&in, given->labels[i]);
    if (given->words) in.words = read_lines(given->words, "a word");
    unknown = place_unknown(&in);
    open_tensors(given->model_path, &in.file);
    in.from.path = given->model_path;
    in.from.file = &in.file;
    in.from.mappings = read_mappings(given->maps);
    model = make_model(&in);
    read_tensors(&in, model, unknown);
    note_import(&in, model, &err);
    mtl_model_save(model, given->out, &err);
    check(&err);
    i = report_left(&in, model);
    if (!given->quiet)
        printf("%zu of %zu tensors read; %zu parameters; saved to %s\n", i, in.file.count,
               count_parameters(model), given->out);
    mtl_model_destroy(model);
    mtl_safetensors_close(&in.file);
    return 0;
}
