/* What the command line says, in the library's own descs; and the fields that --set reaches. */
#ifndef MTL_SETTINGS_H
#define MTL_SETTINGS_H

#include "arrays.h"

enum { TRAIN = 1, EVAL = 2, PREDICT = 4, INFO = 8, IMPORT = 16, EXPORT = 32,
       READING = TRAIN | EVAL | PREDICT };
enum { COMMAND_COUNT = 6, GROUP_COUNT = 13 };
typedef struct command_entry { int command; const char *name, *summary; } command_entry;
extern const command_entry commands[COMMAND_COUNT];

/* A field of a task, to be set when the task is known. */
typedef struct assignment {
    const char *option, *text;              /* as they stand on the command line */
    char *task;                             /* "*": every task */
    const mtl_field *field;
} assignment;

typedef struct settings {
    int command;
    int json, quiet, desc_c, force, logits;
    int by_data;                            /* --preset auto: sequences without a label are left out */
    int automatic;                          /* what tasks share is to be found out */
    int no_affixes;                         /* not even where the preset would */
    int affixes;                            /* words' first and last letters and shapes are read, too */
    const char *chars;                      /* what reads their characters; NULL or "none": nothing does */
    long long min_count, max_tokens, stop_after, watch, vocabulary, lm_words;
    char **data, **valid, **frames, **only, **features, **tasks, **clamps, **class_weights,
        **ranks, **thresholds, **teachers, **tokens;
    char **sampler_weights, **maps, **labels, **freeze, **heads, **pool_of, **gazetteers, **init;
    const char *out, *model_path, *score, *log, *sequence, *preset, *confusion, *budget, *resume;
    const char *words, *unknown, *export_c, *init_from, *gaps;
    const char *vectors, *vectors_rate, *word_dropout, *lm;
    struct origin *origins;                 /* set_by */
    int best;                               /* the preset is `best`: best.h */
    double widest;                          /* units of a joint model by those of a task's alone, at most */
    assignment *assignments;
    mtl_input_desc input;                   /* of a text input */
    mtl_input_desc characters, affix_input; /* of inputs beside it: words.c */
    mtl_input_desc gazetteer;               /* gazetteer.c */
    mtl_input_desc tokens_input;            /* of tokens beside the words */
    mtl_input_desc frames_input;            /* of a rows-of-numbers input */
    mtl_column_desc encoder;
    mtl_model_desc model;
    mtl_share_desc share;
    mtl_trainer_desc trainer;
    mtl_fit_desc fit;
    mtl_predictor_desc predictor;
} settings;

/* The groups of fields that --set reaches. Tasks have no member here: theirs are kept as assignments. */
typedef struct group { const char *name; int desc; size_t offset; const char *what; } group;
extern const group groups[GROUP_COUNT];

/* Adds a line "group.field=value" for each field of a group that the result of training depends on: not
   threads, limits and checkpoints. */
void add_fields_text(char **text, const settings *given, const group *of);

/* The part of a path after its group, and after the task's name in task.NAME.field. */
const char *field_name(const char *path);

/* Group and field of "encoder.hidden" or "task.intent.weight"; wrong ones end the program. */
const mtl_field *resolve_path(const char *option, const char *path, const group **in);

/* The option that set a field last, "--preset" too; NULL: none has. by_preset: a preset has, no option. */
const char *set_by(const settings *given, const char *path);
int by_preset(const settings *given, const char *path);

/* Sets a field by its path. */
void set_field(settings *given, const char *option, const char *path, const char *text);

/* The command's defaults and the preset's, before any option. */
void settings_init(settings *given, int command, const char *preset);

#endif
