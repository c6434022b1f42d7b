#include "settings.h"

#include "names.h"
#include "system.h"

const command_entry commands[COMMAND_COUNT] = {
    { TRAIN,   "train",   "learns the tasks of labelled files and writes a model" },
    { EVAL,    "eval",    "scores a model on labelled files" },
    { PREDICT, "predict",
        "answers each line of standard input at once with a line: the text and each task's answer" },
    { INFO,    "info",
        "shows what is in a model file, or in any safetensors file; status 1 if it is no valid model" },
    { IMPORT,  "import",  "makes a model of a PyTorch state_dict that is saved as safetensors" },
    { EXPORT,  "export",  "writes a model as C constants, for programs without files or a heap" },
};

#define GROUP(name, desc, member, what) { name, MTL_DESC_##desc, offsetof(settings, member), what }
const group groups[GROUP_COUNT] = {
    GROUP("input",      INPUT,     input,        "the text input"),
    GROUP("characters", INPUT,     characters,   "the words' characters, with --chars"),
    GROUP("affixes",    INPUT,     affix_input,
          "the words' first and last letters and shapes, with --affixes"),
    GROUP("gazetteer",  INPUT,     gazetteer,    "the phrases of known types, with --gazetteer"),
    GROUP("tokens",     INPUT,     tokens_input, "the inputs of tokens beside the words, such as lemmas"),
    GROUP("frames",     INPUT,     frames_input, "the input of rows of numbers"),
    GROUP("encoder",    COLUMN,    encoder,      "the recurrent layers that all tasks share"),
    { "task", MTL_DESC_TASK, 0, "a task: task.NAME.weight=2, or task.*.weight for all" },
    GROUP("model",      MODEL,     model,        "the model as a whole"),
    GROUP("share",      SHARE,     share,        "how tasks share the encoder"),
    GROUP("trainer",    TRAINER,   trainer,      "the update rule"),
    GROUP("fit",        FIT,       fit,          "the training loop"),
    GROUP("predictor",  PREDICTOR, predictor,    "evaluation and prediction"),
};

/* Fields that the data or the command line's own options decide. */
static const char *const decided_fields[] = {
    "input.vocabulary", "input.features", "frames.vocabulary", "frames.features",
    "characters.vocabulary", "characters.features", "characters.kind", "characters.part",
    "characters.letters", "characters.speller", "affixes.vocabulary", "affixes.features", "affixes.kind",
    "affixes.part", "tokens.vocabulary", "tokens.features", "tokens.kind",
    "affixes.letters", "gazetteer.vocabulary", "gazetteer.features", "gazetteer.kind", "gazetteer.part",
    "gazetteer.letters", "input.phrase_count", "characters.phrase_count", "affixes.phrase_count",
    "frames.phrase_count", "gazetteer.phrase_count",
    "task.kind",        "task.level",     "task.classes",      "task.width",
};

/* The textbook model: one Bi-LSTM under all tasks; and what follows from the data instead: how long training
   takes, and which tasks share the encoder. */
typedef struct preset_row { const char *path, *text; } preset_row;
#define TEXTBOOK \
    { "input.width", "128" },       { "input.dropout", "0.3" },         { "encoder.cell", "lstm" }, \
    { "characters.dropout", "0.3" }, { "affixes.dropout", "0.3" }, \
    { "affixes.width", "24" },      { "affixes.lowercase", "1" },       { "gazetteer.width", "32" }, \
    { "tokens.width", "32" },       { "tokens.dropout", "0.3" }, \
    { "encoder.hidden", "128" },    { "encoder.dropout", "0.3" },       { "encoder.bidirectional", "1" }, \
    { "task.*.pool", "max" },       { "trainer.optimizer", "adam" },    { "trainer.clip_norm", "5" }
static const preset_row preset_auto[] = {
    TEXTBOOK, { "trainer.lr", "0.002" }, { "trainer.schedule", "linear" }, { "trainer.l2", "3e-5" },
    { "fit.keep", "parts" },
    { NULL, NULL } };
static const preset_row preset_plain[] = {
    TEXTBOOK, { "trainer.lr", "0.001" }, { "fit.epochs", "12" }, { "fit.batch", "32" }, { NULL, NULL } };
/* The most accurate one that was found, for all data; best.c has what it leaves to these. One mask a
   sequence: Gal & Ghahramani 2016. The rest: docs/results.md. */
#define MASKED(group) { group ".dropout", "0.5" }, { group ".dropout_per_sequence", "1" }
static const preset_row preset_best[] = {
    { "input.width", "128" },       MASKED("input"),                    MASKED("characters"),
    { "affixes.width", "24" },      { "affixes.lowercase", "1" },       MASKED("affixes"),
    { "gazetteer.width", "32" },    MASKED("gazetteer"),                { "tokens.width", "32" },
    MASKED("tokens"),               { "encoder.cell", "lstm" },         { "encoder.hidden", "200" },
    { "encoder.bidirectional", "1" }, { "encoder.forget_bias", "1" },   { "encoder.heads", "4" },
    { "encoder.head_width", "32" }, { "share.attention", "1" },         { "share.attention_dropout", "0.2" },
    MASKED("task.*"),               { "task.*.pool", "attention+max" }, { "trainer.optimizer", "adam" },
    { "trainer.lr", "0.004" },      { "trainer.schedule", "linear" },   { "trainer.lr_final", "0.05" },
    { "trainer.warmup", "200" },    { "trainer.clip_norm", "5" },       { "trainer.average", "0.999" },
    { "trainer.average_rises", "1" }, { "trainer.rdrop", "0.5" },       { "trainer.sum_steps", "1" },
    { "fit.equal_length", "1" },    { "fit.swap", "0.9" },              { "fit.keep", "parts" },
    { NULL, NULL } };
/* by_data: what is shared and for how long is chosen by the data; widest: the units of a joint model that it
   tries, at most, as a share of the encoder's: that of `best` is wide already. */
static const struct { const char *name; const preset_row *rows; int by_data; double widest; } presets[] = {
    { "auto", preset_auto, 1, 1.5 }, { "plain", preset_plain, 0, 1.5 }, { "best", preset_best, 1, 1 } };
enum { PRESETS = sizeof presets / sizeof *presets };

void add_fields_text(char **text, const settings *given, const group *of)
{
    static const char *const left_out[] = { "threads", "isa", "max_rows", "max_sequences", "max_steps",
                                            "checkpoint_every" };
    size_t i, k, count;
    const mtl_field *fields = mtl_fields(of->desc, &count);
    char value[64];
    for (i = 0; i < count; i++) {
        for (k = 0; k < sizeof left_out / sizeof *left_out && strcmp(fields[i].name, left_out[k]) != 0;
             k++) { }
        if (k < sizeof left_out / sizeof *left_out || fields[i].type >= MTL_NAME) continue;
        add_text(text, "%s.%s=%s\n", of->name, fields[i].name,
                 mtl_field_get(&fields[i], (const char *)given + of->offset, value, sizeof value));
    }
}

static const group *find_group(const char *text, size_t length)
{
    size_t i;
    for (i = 0; i < GROUP_COUNT; i++)
        if (strlen(groups[i].name) == length && memcmp(groups[i].name, text, length) == 0) return &groups[i];
    return NULL;
}

static const mtl_field *find_field(const group *in, const char *text)
{
    size_t i, count;
    const mtl_field *fields = mtl_fields(in->desc, &count);
    for (i = 0; i < count; i++)
        if (strcmp(fields[i].name, text) == 0) return &fields[i];
    return NULL;
}

const char *field_name(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

/* 1 when the data, not --set, decide the field. */
static int is_decided(const group *in, const char *field)
{
    char path[80];
    size_t i;
    snprintf(path, sizeof path, "%s.%s", in->name, field);
    for (i = 0; i < sizeof decided_fields / sizeof *decided_fields; i++)
        if (strcmp(path, decided_fields[i]) == 0) return 1;
    return 0;
}

EXITS
static void fail_path(const char *option, const char *path, const group *in)
{
    const char **candidates = NULL;
    char before[60];
    size_t i, count = 0;
    const mtl_field *fields = in ? mtl_fields(in->desc, &count) : NULL;
    for (i = 0; i < count; i++)
        if (!is_decided(in, fields[i].name)) arrput(candidates, fields[i].name);
    for (i = 0; i < GROUP_COUNT && !in; i++) arrput(candidates, groups[i].name);
    if (in && !strchr(path, '.'))
        fail_usage("%s %s: is a group; name one of its fields, as in %s.FIELD=VALUE%s", option, path,
                   in->desc == MTL_DESC_TASK ? "task.NAME" : in->name, suggestion("", candidates));
    if (in)
        fail_usage("%s %s: %s has no field '%.60s'%s", option, path, in->name, field_name(path),
                   suggestion(field_name(path), candidates));
    snprintf(before, sizeof before, "%.*s", (int)strcspn(path, "."), path);
    fail_usage("%s %s: expected GROUP.FIELD=VALUE, and '%s' is no group of fields%s", option, path, before,
               suggestion(before, candidates));
}

const mtl_field *resolve_path(const char *option, const char *path, const group **in)
{
    const mtl_field *field;
    *in = find_group(path, strcspn(path, "."));
    if (!*in) fail_path(option, path, NULL);
    field = find_field(*in, field_name(path));
    if (!field) fail_path(option, path, *in);
    if ((*in)->desc == MTL_DESC_TASK && strchr(path, '.') == strrchr(path, '.'))
        fail_usage("%s %s: which task? expected task.NAME.%s, or task.*.%s for all of them", option, path,
                   field->name, field->name);
    if (is_decided(*in, field->name))
        fail_usage("%s %s: this is known from the data and cannot be set", option, path);
    return field;
}

/* Sets a member of `desc` from the command line's text. */
static void set_member(const char *option, const mtl_field *field, void *desc, const char *text)
{
    mtl_error err = { 0 };
    double number;
    int out_of_range;
    if (!mtl_field_set(field, desc, text, &err)) return;
    out_of_range = mtl_text_number(text, strlen(text), &number) && !strstr(err.message, "whole number");
    fail_usage("%s %s: %s%s%s", option, text, out_of_range ? "out of range: " : "", err.message,
               strcmp(option, "--share") == 0 ? ", auto" : "");     /* which is the command's own */
}

/* Keeps a task's field for the time when the task is known; the value is checked now. */
static void assign_task_field(settings *given, const char *option, const char *path, const mtl_field *field,
                              const char *text)
{
    const char *begin = strchr(path, '.') + 1, *end = strrchr(path, '.');
    mtl_task_desc scratch = { 0 };
    assignment added;
    set_member(option, field, &scratch, text);
    added.option = option;
    added.text = text;
    added.field = field;
    added.task = (char *)checked_realloc(NULL, (size_t)(end - begin) + 1);
    memcpy(added.task, begin, (size_t)(end - begin));
    added.task[end - begin] = '\0';
    arrput(given->assignments, added);
}

/* "attention+max": a pool, and the one beside it; one alone has none beside it. */
static void assign_pools(settings *given, const char *option, const char *path, const group *in,
                         const char *text)
{
    const char *plus = strchr(text, '+');
    size_t length = plus ? (size_t)(plus - text) : strlen(text);
    char *first = (char *)checked_realloc(NULL, length + 1);
    memcpy(first, text, length);
    first[length] = '\0';
    assign_task_field(given, option, path, find_field(in, "pool"), first);
    assign_task_field(given, option, path, find_field(in, "pool_beside"), plus ? plus + 1 : "none");
}

/* A field that was set, and by which option. */
typedef struct origin { const group *in; const mtl_field *field; const char *option; } origin;

const char *set_by(const settings *given, const char *path)
{
    const group *in;
    const mtl_field *field = resolve_path("", path, &in);
    size_t i = arrlenu(given->origins);
    while (i-- > 0)
        if (given->origins[i].in == in && given->origins[i].field == field) return given->origins[i].option;
    return NULL;
}

int by_preset(const settings *given, const char *path)
{
    const char *option = set_by(given, path);
    return option && strcmp(option, "--preset") == 0;
}

void set_field(settings *given, const char *option, const char *path, const char *text)
{
    const group *in;
    const mtl_field *field = resolve_path(option, path, &in);
    origin from;
    if (in->desc == MTL_DESC_SHARE && strncmp(field->name, "attention", strlen("attention")) != 0) {
        given->automatic = strcmp(field->name, "kind") == 0 && strcmp(text, "auto") == 0;
        if (given->automatic) return;       /* who says how to share needs no search */
    }
    from.in = in;
    from.field = field;
    from.option = option;
    arrput(given->origins, from);
    if (in->desc == MTL_DESC_TASK && strcmp(field->name, "pool") == 0)
        assign_pools(given, option, path, in, text);
    else if (in->desc == MTL_DESC_TASK) assign_task_field(given, option, path, field, text);
    else set_member(option, field, (char *)given + in->offset, text);
}

/* The index of a preset in presets[]. */
static size_t find_preset(const char *name)
{
    const char **known = NULL;
    size_t i;
    for (i = 0; i < PRESETS; i++) {
        if (strcmp(presets[i].name, name) == 0) break;
        arrput(known, presets[i].name);
    }
    if (i == PRESETS) fail_usage("--preset %s: no such preset%s", name, suggestion(name, known));
    arrfree(known);
    return i;
}

void settings_init(settings *given, int command, const char *preset)
{
    const preset_row *row;
    char threads[24];
    const size_t i = find_preset(preset);
    long processors = usable_processors();
    memset(given, 0, sizeof *given);
    given->command = command;
    given->min_count = 1;
    given->max_tokens = 10000;
    given->preset = presets[i].name;
    given->automatic = given->by_data = presets[i].by_data;
    given->best = presets[i].rows == preset_best;
    given->widest = presets[i].widest;
    snprintf(threads, sizeof threads, "%ld", processors < 1 ? 1 : processors > 1024 ? 1024 : processors);
    set_field(given, "--threads", "trainer.threads", threads);
    set_field(given, "--threads", "predictor.threads", threads);
    if (command == IMPORT) return;          /* the file and the header's defaults say all */
    for (row = presets[i].rows; row->path; row++) set_field(given, "--preset", row->path, row->text);
}
