#include "options.h"

#include "columns.h"
#include "lm.h"
#include "names.h"
#include "system.h"
#include "vectors.h"
#include "words.h"

enum {
    SWITCH,                                 /* int at offset, no argument */
    TEXT,                                   /* const char * */
    COUNT,                                  /* long long, at least 1 */
    FILES,                                  /* char ** that grows: may be repeated */
    LIST,                                   /* char ** that grows: separated by commas, may be repeated */
    FIELD,                                  /* the fields named */
    FIELD_SWITCH,                           /* the same, set to 1, no argument */
    TASK_FIELD,                             /* TASK=VALUE for a field of one task */
    SET                                     /* PATH=VALUE */
};
typedef struct option {
    const char *name, *argument;
    int commands, takes;
    size_t offset;                          /* of the settings member */
    const char *fields;                     /* "encoder.hidden", several separated by spaces */
    const char *help;                       /* NULL: the first field's own help, default and range */
} option;

#define MEMBER(member) offsetof(settings, member), NULL
#define FIELDS(paths) 0, paths
#define TRAIN_FIELD(name, argument, path) { name, argument, TRAIN, FIELD, 0, path, NULL }
static const option options[] = {
    { "--data", "FILE", TRAIN | EVAL, FILES, MEMBER(data),
      "labelled text: task TSV, or CoNLL-U when its name ends in .conllu; may be repeated" },
    { "--valid", "FILE", TRAIN, FILES, MEMBER(valid),
      "the same, to score after each epoch and keep the best; may be repeated" },
    { "--out", "FILE", TRAIN | IMPORT, TEXT, MEMBER(out), "the model file to write (safetensors)" },
    { "--map", "FROM=TO", IMPORT, FILES, MEMBER(maps),
      "tensors whose names begin with FROM in the file and with TO in the model (a '*' in both stands for "
      "the rest); may be repeated" },
    { "--task", "NAME:KIND[:N]", IMPORT, FILES, MEMBER(tasks),
      "a task of a kind named below with N classes or numbers [from NAME.output.weight]; may be repeated" },
    { "--labels", "TASK=FILE", IMPORT, FILES, MEMBER(labels),
      "the names of its classes, one a line, in the order of the file's rows; may be repeated" },
    { "--words", "FILE", IMPORT, TEXT, MEMBER(words),
      "the words of the embedding, one a line, in the order of its rows; without it the model reads ids" },
    { "--unknown", "WORD", IMPORT, TEXT, MEMBER(unknown),
      "the one of --words that stands for all others [the first]; it changes places with the first" },
    { "--features", "A,B,C|N", IMPORT, LIST, MEMBER(features),
      "the model reads rows of numbers: CSV columns of these names, or N that have none" },
    { "--vocabulary", "N", IMPORT, COUNT, MEMBER(vocabulary),
      "token ids 0 to N-1 [from text.weight, the embedding]" },
    { "--cell", "rnn|gru|lstm", IMPORT, FIELD, FIELDS("encoder.cell"), "recurrent cell [from the file]" },
    { "--dir", "uni|bi", IMPORT, FIELD, FIELDS("encoder.bidirectional"),
      "one direction, or a second one that reads from the end [from the file]" },
    { "--hidden", "N", IMPORT, FIELD, FIELDS("encoder.hidden"), "units of each direction [from the file]" },
    { "--layers", "N", IMPORT, FIELD, FIELDS("encoder.layers"), "layers above one another [from the file]" },
    { "--embed", "N", IMPORT, FIELD, FIELDS("input.width"), "size of a token's embedding [from the file]" },
    { "--pool", "NAME", IMPORT, FIELD, FIELDS("task.*.pool"),
      "how a sequence's rows become one: last is what PyTorch calls h_n, of both directions [last]" },
    { "--model", "FILE", EVAL | PREDICT | INFO | EXPORT, TEXT, MEMBER(model_path), "the model file" },
    { "--only", "TASK,TASK", TRAIN | EVAL, LIST, MEMBER(only), "these tasks alone" },
    { "--frames", "FILE", READING, FILES, MEMBER(frames),
      "rows of numbers in CSV instead of text (--valid is CSV then, too)" },
    { "--sequence", "COLUMN", READING | IMPORT, TEXT, MEMBER(sequence),
      "CSV: the column that names a row's sequence; without it a file is one" },
    { "--features", "A,B,C", READING, LIST, MEMBER(features),
      "CSV: the columns that are the input; A? is 1 where A is missing, else 0" },
    { "--gaps", "mean|last", TRAIN, TEXT, MEMBER(gaps),
      "CSV: a missing feature is read as its column's mean, or as the last number of its sequence, where "
      "there is none as the mean; without it one is an error" },
    { "--task", "NAME:KIND", TRAIN | EVAL, FILES, MEMBER(tasks),
      "CSV: a column to learn, of a kind named below; may be repeated" },
    { "--clamp", "TASK=LOW:HIGH", READING, FILES, MEMBER(clamps),
      "cuts a real task's targets and answers to this range" },
    TRAIN_FIELD("--cell", "rnn|gru|lstm|mingru", "encoder.cell"),
    { "--dir", "uni|bi", TRAIN, FIELD, FIELDS("encoder.bidirectional"),
      "one direction, or a second one that reads from the end [bi]" },
    TRAIN_FIELD("--hidden", "N", "encoder.hidden"),
    TRAIN_FIELD("--layers", "N", "encoder.layers"),
    TRAIN_FIELD("--embed", "N", "input.width"),
    { "--chars", "none|cnn|gru|lstm", TRAIN, TEXT, MEMBER(chars),
      "words are read by their characters, too, so that unknown ones are told apart: by filters (cnn) or by "
      "cells in both directions [none]; fields: characters.widths, characters.hidden and so on" },
    { "--tokens", "NAME,NAME", TRAIN, LIST, MEMBER(tokens),
      "columns whose tokens are read beside the words, one for each: of a CoNLL-U file lemma, upos, xpos, "
      "feats, deprel; of a task TSV any tags; columns NAME:tokens always are; fields: tokens.width" },
    { "--affixes", NULL, TRAIN, SWITCH, MEMBER(affixes),
      "words are read by their first and last 2 and 3 letters and shapes, too; fields: affixes.width" },
    { "--no-affixes", NULL, TRAIN, SWITCH, MEMBER(no_affixes), "they are not, whatever the preset" },
    { "--gazetteer", "spans|FILE|none", TRAIN, FILES, MEMBER(gazetteers),
      "words are told of phrases that they are part of, by type: the training data's spans of B-/I- tags, or "
      "a file of lines TYPE<TAB>phrase; may be repeated; fields: gazetteer.width, gazetteer.ignore" },
    { "--word-dropout", "X", TRAIN, TEXT, MEMBER(word_dropout),
      "a word that the training data have n times is read as the unknown one with probability X/(X+n), "
      "e.g. 0.25 [0]" },
    { "--vectors", "FILE", TRAIN, TEXT, MEMBER(vectors),
      "the words' first embeddings, which also say how wide they are: word2vec (text or binary), GloVe or "
      "fastText .vec; may be a pipe" },
    { "--vectors-rate", "X", TRAIN, TEXT, MEMBER(vectors_rate),
      "their learning rate as a multiple of the others', 0: they stay as they are [1]" },
    TRAIN_FIELD("--share", "NAME", "share.kind"),
    { "--budget", "X|TIME", TRAIN, TEXT, MEMBER(budget),
      "without --share, or of --share auto: what the search may cost, as a multiple of training tasks alone, "
      "or a time such as 90s, 10m, 2h [2.8]" },
    { "--order", "TASK+TASK/TASK", TRAIN, TEXT, MEMBER(share.order),
      "--share hierarchical: the tasks by level, the lowest first [tasks of steps, then the others]" },
    { "--pool", "NAME[+NAME]", TRAIN, FIELD, FIELDS("task.*.pool"),
      "how a sequence's rows become one, for tasks with an item a sequence: last, mean, max, attention, "
      "additive or dot; two of them stand side by side, as in attention+max [max]" },
    { "--pool-of", "TASK=TASK", TRAIN, FILES, MEMBER(pool_of),
      "of attention, additive and dot: the first task uses the scores of the second one, which stands before "
      "it in the data; may be repeated" },
    { "--weight", "TASK=X", TRAIN, TASK_FIELD, FIELDS("task.*.weight"), NULL },
    { "--class-weights", "TASK=WEIGHTS", TRAIN, FILES, MEMBER(class_weights),
      "of its classes: balanced (as if all were equally frequent; multi: as if as often there as not), or "
      "LABEL:X,LABEL:X (the others: 1)" },
    { "--head", "TASK=softmax|crf", TRAIN | IMPORT, FILES, MEMBER(heads),
      "of a tags task: each tag for itself, or all of a sequence as one choice, by a conditional random "
      "field [softmax]" },
    { "--thresholds", "TASK,TASK", TRAIN, LIST, MEMBER(thresholds),
      "multi tasks whose classes get the thresholds of best F1 on the --valid data [0.5 for all]" },
    { "--ranks", "TASK=LABELS", TRAIN, FILES, MEMBER(ranks),
      "the labels of an ordinal task, the lowest first, separated by commas [numbers by their size]" },
    { "--dropout", "X", TRAIN, FIELD,
      FIELDS("input.dropout characters.dropout affixes.dropout encoder.dropout"),
      "share of the embeddings and of the encoder's outputs dropped in training [0.3]" },
    { "--min-count", "N", TRAIN, COUNT, MEMBER(min_count),
      "words that occur less often in the training data are unknown words [1]" },
    { "--lm", "WEIGHT|none", TRAIN, TEXT, MEMBER(lm),
      "a further task, lm, of this weight: each direction predicts the next word it reads; alone it needs no "
      "labels" },
    { "--lm-words", "N", TRAIN, COUNT, MEMBER(lm_words),
      "words that it tells apart, the commonest; all others are one [500; alone: all]" },
    { "--lowercase", NULL, TRAIN | IMPORT, FIELD_SWITCH, FIELDS("input.lowercase"), NULL },
    { "--digits", NULL, TRAIN | IMPORT, FIELD_SWITCH, FIELDS("input.digits"), NULL },
    { "--max-tokens", "N", READING, COUNT, MEMBER(max_tokens), "longest sequence allowed [10000]" },
    TRAIN_FIELD("--optimizer", "sgd|rmsprop|adam|adamw", "trainer.optimizer"),
    TRAIN_FIELD("--lr", "X", "trainer.lr"),
    TRAIN_FIELD("--schedule", "NAME", "trainer.schedule"),
    TRAIN_FIELD("--clip-norm", "X", "trainer.clip_norm"),
    TRAIN_FIELD("--clip-value", "X", "trainer.clip_value"),
    TRAIN_FIELD("--l1", "X", "trainer.l1"),
    TRAIN_FIELD("--l2", "X", "trainer.l2"),
    TRAIN_FIELD("--epochs", "N", "fit.epochs"),
    TRAIN_FIELD("--batch", "N", "fit.batch"),
    { "--equal-length", NULL, TRAIN, FIELD_SWITCH, FIELDS("fit.equal_length"), NULL },
    TRAIN_FIELD("--swap", "X", "fit.swap"),
    { "--sum-steps", NULL, TRAIN, FIELD_SWITCH, FIELDS("trainer.sum_steps"), NULL },
    TRAIN_FIELD("--patience", "N", "fit.patience"),
    TRAIN_FIELD("--sampler", "NAME", "fit.sampler"),
    { "--sampler-weight", "FILE=X", TRAIN, FILES, MEMBER(sampler_weights),
      "a file of --data counts as if it were X times as large, 0: not at all; may be repeated [1]" },
    { "--teacher", "MODEL", TRAIN, FILES, MEMBER(teachers),
      "a model of single tasks, whose answers to the training data are learnt, too; may be repeated" },
    { "--freeze", "NAMES", TRAIN, LIST, MEMBER(freeze),
      "tensors that stay as they are, at no cost, such as text.weight or 'encoder.*'; may be repeated" },
    { "--init", "NAME=KIND[:X]", TRAIN, LIST, MEMBER(init),
      "initial values of tensors by name, such as '*.weight_hh*=orthogonal' or text.weight=uniform:0.1: "
      "uniform:X, normal, constant:X, xavier, he, orthogonal, identity; may be repeated, the last that fits "
      "counts" },
    { "--init-from", "FILE", TRAIN, TEXT, MEMBER(init_from),
      "a safetensors file: tensors that it has by the model's names begin as there" },
    { "--score", "TASK", TRAIN, TEXT, MEMBER(score),
      "the task whose validation score decides; without it the mean over tasks" },
    { "--seed", "N", TRAIN | IMPORT, FIELD, FIELDS("model.seed trainer.seed fit.seed"),
      "of the initial values, dropout and the order of the data [1]" },
    { "--preset", "auto|plain|best", TRAIN, TEXT, MEMBER(preset),
      "values for these, which single options change: auto goes by the data, plain by the book, best for "
      "accuracy, takes longest [best]" },
    { "--set", "GROUP.FIELD=VALUE", READING | IMPORT, SET, FIELDS(NULL),
      "any field, e.g. encoder.forget_bias=1; `mtl reference` lists them all" },
    { "--threads", "N", READING, FIELD, FIELDS("trainer.threads predictor.threads"),
      "processors to use; results do not depend on it [all]" },
    TRAIN_FIELD("--balance", "NAME", "trainer.balance"),
    TRAIN_FIELD("--surgery", "NAME", "trainer.surgery"),
    { "--skip-bad", NULL, TRAIN, FIELD_SWITCH, FIELDS("trainer.skip_bad"), NULL },
    TRAIN_FIELD("--precision", "f32|bf16", "trainer.precision"),
    { "--isa", "NAME", READING, FIELD, FIELDS("trainer.isa predictor.isa"), NULL },
    { "--log", "FILE", TRAIN, TEXT, MEMBER(log), "writes a JSON object for each epoch" },
    { "--watch", "N", TRAIN, COUNT, MEMBER(watch),
      "every N updates, gradients, affinities of tasks, gates and units go to the --log file, too" },
    { "--checkpoint-every", "N", TRAIN, FIELD, FIELDS("fit.checkpoint_every"),
      "saves all that --resume needs every N updates and when stopped, to the file of --out with .checkpoint "
      "behind its name; training that comes to its end removes it [0: never]" },
    { "--resume", "FILE", TRAIN, TEXT, MEMBER(resume),
      "goes on from a checkpoint, given the same data and options, to the model, byte for byte, of a run "
      "that never stopped" },
    { "--force", NULL, TRAIN, SWITCH, MEMBER(force), "--resume although data or options have changed" },
    { "--stop-after", "N", TRAIN, COUNT, MEMBER(stop_after),
      "stops after N updates of this run, as Ctrl-C does" },
    { "--quiet", NULL, TRAIN | IMPORT | EXPORT, SWITCH, MEMBER(quiet),
     "prints nothing but warnings and errors" },
    { "--confusion", "FILE", EVAL, TEXT, MEMBER(confusion),
      "writes what was taken for what: a table for each class and tags task, rows gold, columns predicted" },
    { "--c", "OUT", EXPORT, TEXT, MEMBER(export_c),
      "writes OUT.h and OUT.c: the model as constants that a stream runs in place, without files or a heap" },
    { "--logits", NULL, EXPORT, SWITCH, MEMBER(logits), "classes are answered by labels and logits alone" },
    { "--desc-c", NULL, INFO, SWITCH, MEMBER(desc_c), "prints the model's desc as C" },
    { "--best", "K", PREDICT, FIELD, FIELDS("predictor.paths"),
      "with --json: the K likeliest taggings of each line by tasks of --head TASK=crf, with the logarithms "
      "of their probabilities" },
    { "--json", NULL, EVAL | PREDICT | INFO, SWITCH, MEMBER(json), "answers in JSON" },
};
enum { OPTION_COUNT = sizeof options / sizeof *options };

static const char DEFAULT_PRESET[] = "best";

const char *find_preset(int count, char **arguments)
{
    const char *found = DEFAULT_PRESET;
    int i;
    for (i = 0; i < count; i++)
        if (strncmp(arguments[i], "--preset=", 9) == 0) found = arguments[i] + 9;
        else if (strcmp(arguments[i], "--preset") == 0 && i + 1 < count) found = arguments[i + 1];
    return found;
}

static const char *command_name(int command)
{
    size_t i;
    for (i = 0; i < COMMAND_COUNT; i++)
        if (commands[i].command == command) return commands[i].name;
    return "";
}

/* "(default; choices or range)" of an option's first field, as the preset leaves it. out[300]. */
static char *describe_field(const settings *given, const option *of, char *out)
{
    char path[80], value[64] = "", range[100] = "";
    const group *in;
    const mtl_field *field;
    size_t used = 0;
    snprintf(path, sizeof path, "%.*s", (int)strcspn(of->fields, " "), of->fields);
    field = resolve_path(of->name, path, &in);
    if (in->desc != MTL_DESC_TASK)
        mtl_field_get(field, (const char *)given + in->offset, value, sizeof value);
    if (field->choices && !strchr(of->argument, '|')) {
        const mtl_choice *choice;
        for (choice = field->choices; choice->name && used < sizeof range; choice++)
            used += (size_t)snprintf(range + used, sizeof range - used, "%s%s", used ? "|" : ": ",
                                     choice->name);
    }
    snprintf(out, 300, "%s%s%s%s%s", field->help, range, *value && of->argument ? " [" : "",
             of->argument ? value : "", *value && of->argument ? "]" : "");
    return out;
}

static void print_kinds(void)
{
    const column_kind *kind;
    size_t i;
    printf("\nKinds: ");
    for (i = 0; (kind = kind_number(i)) != NULL; i++)
        printf("%s%s (%s)", i ? ", " : "", kind->name, kind->words->meaning[kind->level]);
}

static void print_data_help(void)
{
    printf("\nA task TSV's header line names its columns: text (tokens separated by one space) and "
           "NAME:KIND for each task (NAME:real:3: three numbers, with commas between).");
    print_kinds();
    printf(";\na cell _ is a missing "
           "label. Several files may have different tasks. Ctrl-C once keeps the best model so far, "
           "twice leaves at once.\n");
}

static void print_import_help(void)
{
    print_kinds();
    printf(".\n\nThe model's tensors are called text.weight (nn.Embedding), encoder.weight_ih_l0 .. "
           "(nn.LSTM, nn.GRU, nn.RNN),\nTASK.hidden.0.weight .. and TASK.output.weight (nn.Linear), and so "
           "on with .bias; `mtl info FILE` lists the file's.\nTensors that no --map leads to keep their "
           "initial values, which is said.\n\n"
           "  mtl import state_dict.safetensors --map embedding.=text. --map lstm.=encoder. \\\n"
           "      --map fc.=intent.output. --task intent:class --labels intent=labels.txt --words words.txt "
           "--out model.safetensors\n");
}

static void print_command_help(int command)
{
    static settings plain;
    size_t i;
    char left[48], text[300];
    settings_init(&plain, command, find_preset(0, NULL));
    for (i = 0; i < COMMAND_COUNT; i++)
        if (commands[i].command == command)
            printf("mtl %s%s: %s\n\nOptions:\n", commands[i].name, command == IMPORT ? " FILE" : "",
                   commands[i].summary);
    for (i = 0; i < OPTION_COUNT; i++) {
        const option *of = &options[i];
        if (!(of->commands & command)) continue;
        snprintf(left, sizeof left, "%s%s%s", of->name, of->argument ? " " : "",
                 of->argument ? of->argument : "");
        printf("  %-28s %s\n", left, of->help ? of->help : describe_field(&plain, of, text));
    }
    printf("  %-28s %s\n", "--help", "this text");
    if (command == TRAIN) print_data_help();
    if (command == IMPORT) print_import_help();
    if (command == PREDICT)
        printf("\nThe first line of the answer is a header line (not with --json). An empty line is "
               "answered by an empty line; a\n"
               "line that is not valid UTF-8 or too long ends the command with status 1, as does a reader "
               "that goes away.\n");
    flush_output();
    leave(0);
}

void print_help(FILE *to)
{
    size_t i;
    fprintf(to, "mtl %s: trains recurrent networks that do several tasks at once\n\n", MTL_RNN_VERSION);
    for (i = 0; i < COMMAND_COUNT; i++) fprintf(to, "  mtl %-8s %s\n", commands[i].name, commands[i].summary);
    fprintf(to,
            "\n`mtl COMMAND --help` lists its options; `mtl --version` prints the version. Smallest use:\n\n"
                "  mtl train --data train.tsv --valid valid.tsv --out model.safetensors\n"
                "  echo 'play some jazz' | mtl predict --model model.safetensors\n");
}

/* The option of that name for the command; none ends the program with the nearest name. */
static const option *find_option(int command, const char *text, size_t length)
{
    size_t i;
    char *wrong;
    const char **candidates = NULL, *elsewhere = NULL;
    for (i = 0; i < OPTION_COUNT; i++) {
        if (strlen(options[i].name) != length || memcmp(options[i].name, text, length) != 0) continue;
        if (options[i].commands & command) return &options[i];
        elsewhere = options[i].name;
    }
    if (elsewhere)
        fail_usage("%s is not an option of mtl %s; see mtl %s --help", elsewhere, command_name(command),
                   command_name(command));
    for (i = 0; i < OPTION_COUNT; i++)
        if (options[i].commands & command) arrput(candidates, options[i].name);
    wrong = strcpy((char *)checked_realloc(NULL, strlen(text) + 1), text);
    wrong[length] = '\0';
    fail_usage("unknown option %.60s%s (mtl %s --help lists all)", wrong, suggestion(wrong, candidates),
               command_name(command));
}

/* Sets every field that the option names. */
static void set_option_fields(settings *given, const option *of, const char *text)
{
    const char *path = of->fields;
    char one[80];
    if (strcmp(of->name, "--dir") == 0) {
        if (strcmp(text, "uni") != 0 && strcmp(text, "bi") != 0)
            fail_usage("--dir %s: expected uni or bi", text);
        text = strcmp(text, "bi") == 0 ? "1" : "0";
    }
    while (*path) {
        size_t length = strcspn(path, " ");
        snprintf(one, sizeof one, "%.*s", (int)length, path);
        set_field(given, of->name, one, text);
        path += length + strspn(path + length, " ");
    }
}

/* TASK=X for the field task.*.FIELD, or PATH=VALUE. */
static void set_assignment(settings *given, const option *of, const char *text)
{
    char *path;
    const char *equals = strchr(text, '=');
    size_t size = strlen(text) + 80;
    if (!equals || equals == text) fail_usage("%s %s: expected %s", of->name, text, of->argument);
    path = (char *)checked_realloc(NULL, size);
    if (of->takes == SET) snprintf(path, size, "%.*s", (int)(equals - text), text);
    else snprintf(path, size, "task.%.*s.%s", (int)(equals - text), text, field_name(of->fields));
    set_field(given, of->name, path, equals + 1);
    free(path);
}

static void set_count(settings *given, const option *of, const char *text)
{
    char *end;
    long long value;
    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end || errno || value < 1 || value > 1000000000)
        fail_usage("%s %s: expected a whole number from 1 to 1000000000", of->name, text);
    *(long long *)((char *)given + of->offset) = value;
}

static void set_option(settings *given, const option *of, const char *text)
{
    void *member = (char *)given + of->offset;
    switch (of->takes) {
    case SWITCH:       *(int *)member = 1; break;
    case TEXT:         *(const char **)member = text; break;
    case COUNT:        set_count(given, of, text); break;
    case FILES:        arrput(*(char ***)member, (char *)text); break;
    case LIST:         add_list((char ***)member, text); break;
    case FIELD_SWITCH: set_option_fields(given, of, "1"); break;
    case FIELD:        set_option_fields(given, of, text); break;
    default:           set_assignment(given, of, text); break;
    }
}

void parse_options(settings *given, int count, char **arguments)
{
    int i;
    for (i = 0; i < count; i++) {
        const char *text = arguments[i], *value = strchr(text, '=');
        const option *of;
        size_t length = value ? (size_t)(value - text) : strlen(text);
        if (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0) print_command_help(given->command);
        if (*text != '-' && given->command & (INFO | IMPORT) && !given->model_path) {
            given->model_path = text;
            continue;
        }
        if (strncmp(text, "--", 2) != 0)
            fail_usage("unexpected argument '%.60s'; options begin with -- (mtl %s --help lists them)", text,
                       command_name(given->command));
        of = find_option(given->command, text, length);
        if (!of->argument && value) fail_usage("%s takes no value", of->name);
        if (of->argument && value) value++;
        else if (of->argument) {
            if (i + 1 >= count || strncmp(arguments[i + 1], "--", 2) == 0)
                fail_usage("%s needs a value: %s %s", of->name, of->name, of->argument);
            value = arguments[++i];
        }
        set_option(given, of, value);
    }
}

/* "name=a,b" for the values of a growing list; nothing for none. */
static void add_values(char **text, const char *name, char **list)
{
    size_t i;
    for (i = 0; i < arrlenu(list); i++) add_text(text, "%s%s%s", i ? "" : name, i ? "," : "=", list[i]);
    if (i) add_text(text, "\n");
}

void add_options_text(char **text, const settings *given)
{
    static const char *const left_out[] = { "--data", "--valid", "--frames", "--out", "--log", "--quiet",
                                            "--resume", "--force", "--stop-after", "--watch" };
    size_t i, k;
    for (i = 0; i < OPTION_COUNT; i++) {
        const option *of = &options[i];
        const void *member = (const char *)given + of->offset;
        const char *value = of->takes == TEXT ? *(const char *const *)member : NULL;
        for (k = 0; k < sizeof left_out / sizeof *left_out && strcmp(of->name, left_out[k]) != 0; k++) { }
        if (k < sizeof left_out / sizeof *left_out || !(of->commands & given->command)) continue;
        if (value) add_text(text, "%s=%s\n", of->name, value);
        if (of->takes == SWITCH && *(const int *)member) add_text(text, "%s=1\n", of->name);
        if (of->takes == COUNT && *(const long long *)member)
            add_text(text, "%s=%lld\n", of->name, *(const long long *)member);
        if (of->takes == FILES || of->takes == LIST) add_values(text, of->name, *(char **const *)member);
    }
}

static void need_option(const settings *given, int given_it, const char *text)
{
    if (!given_it)
        fail_usage("mtl %s needs %s (mtl %s --help lists all options)", command_name(given->command), text,
                   command_name(given->command));
}

void check_options(const settings *given)
{
    int frames = arrlenu(given->frames) > 0;
    if (given->command == TRAIN)
        need_option(given, arrlenu(given->data) || frames, "--data FILE (or --frames FILE)");
    if (given->command == TRAIN) need_option(given, given->out != NULL, "--out FILE");
    if (given->command == TRAIN && frames)
        need_option(given, arrlenu(given->features) > 0, "--features A,B,C with --frames");
    if (given->command == TRAIN && frames)
        need_option(given, arrlenu(given->tasks) > 0, "--task NAME:KIND with --frames");
    if (given->command == EVAL)
        need_option(given, arrlenu(given->data) || frames, "--data FILE (or --frames FILE)");
    if (given->force && !given->resume) fail_usage("--force is for --resume");
    if (given->watch && !given->log) fail_usage("--watch is for --log FILE, which it writes to");
    if (given->command == IMPORT) {
        need_option(given, given->model_path != NULL, "the state_dict's file: mtl import FILE");
        need_option(given, arrlenu(given->maps) > 0, "--map FROM=TO, such as --map lstm.=encoder.");
        need_option(given, arrlenu(given->tasks) > 0, "--task NAME:KIND");
        need_option(given, given->out != NULL, "--out FILE");
        return;
    }
    if (given->command == EXPORT) need_option(given, given->export_c != NULL, "--c OUT");
    if (given->command != TRAIN) need_option(given, given->model_path != NULL, "--model FILE");
    check_words(given);
    check_lm(given);
    check_vectors(given);
    if (frames && arrlenu(given->data))
        fail_usage("--data and --frames: expected one of them: a model reads text or rows of numbers");
    if (given->command == TRAIN && !frames &&
        (arrlenu(given->features) || arrlenu(given->tasks) || given->sequence))
        fail_usage("--sequence, --features and --task describe CSV files: give those with --frames");
}

void check_output(const settings *given, const char *path, const char *shown)
{
    int kind;
    char *folder = strcpy((char *)checked_realloc(NULL, strlen(path) + 3), path);
    char *slash = last_separator(folder);
    char **lists[3];
    size_t i, k;
    if (given->model_path && same_file(path, given->model_path))
        fail("%s %s: is the model; expected another path", shown, path);
    lists[0] = given->data, lists[1] = given->valid, lists[2] = given->frames;
    for (i = 0; i < 3; i++)
        for (k = 0; k < arrlenu(lists[i]); k++)
            if (same_file(path, lists[i][k]))
                fail("%s %s: this file is read as data; expected another path", shown, path);
    if (slash) slash[slash == folder || slash[-1] == ':'] = '\0';
    else strcpy(folder, ".");
    if (!*path) fail("%s: an empty path; expected the name of a file", shown);
    kind = file_kind(path, NULL);
    if (kind == FILE_FOLDER) fail("%s %s: is a directory; expected the path of a file", shown, path);
    if (kind == FILE_OTHER && path == given->out)       /* saving would put a file in its place */
        fail("%s %s: is a device or a pipe; expected the path of a file", shown, path);
    kind = file_kind(folder, NULL);
    if (kind == FILE_NONE && errno == ENOENT)
        fail("%s %s: there is no folder %s; create it first", shown, path, folder);
    if (kind != FILE_FOLDER)
        fail("%s %s: %s is no folder that can be used; expected another path", shown, path, folder);
    if (!folder_is_writable(folder))
        fail("%s %s: the folder %s cannot be written to: %s", shown, path, folder, strerror(errno));
    free(folder);
}
