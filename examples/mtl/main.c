/* mtl: from a labelled text file to a model that a C program loads, with no C to write.

       mtl train   --data train.tsv --valid valid.tsv --out model.safetensors
       mtl eval    --model model.safetensors --data test.tsv
       echo "wake me at six" | mtl predict --model model.safetensors
       mtl info    --model model.safetensors
       mtl import  state_dict.safetensors --map lstm.=encoder. ... --out model.safetensors
       mtl export  --model model.safetensors --c model

   Built by plain `make` (it is linked with the library, compiled once); by hand, from the top folder:

       echo '#include "mtl_rnn.h"' | cc -O2 -DMTL_RNN_IMPLEMENTATION -I. -c -o mtl_rnn.o -x c -
       cc -O2 -I. -I/usr/include/stb -o mtl examples/mtl/?*.c mtl_rnn.o -lm -pthread

   `mtl train --help` lists the options; `mtl reference` prints every field that --set reaches. Exit status:
   0 done, 1 failed, 2 wrong usage; messages go to standard error.

   The headers, each of which says what its file is for, in dependency order: a file includes its own header
   and those above it, none below.

       messages  system              the ends of the program, the operating system (windows.c: its other half)
       arrays  numbers  names        growing arrays, numbers, sets of texts
       source  columns               lines of files, kinds of column
       corpus  formats  data         tasks and data sets; their forms (tsv.c conllu.c csv.c); all files
       settings  options             what the command line says
       scales  batches  scores       what the library is given, and what it answers
       json  reports                 scores for readers and programs
       models  create  inputs        a model from a file, a new one; does another one read the same?
       structure  desc_c             what a model is made of, for readers and as C
       tensors  derive               any safetensors file; the desc of a model that its tensors fit
       teach  progress  resume  fit  what models teach, training as it is watched, as it goes on; one training
       graft  auto                   one model out of parts of several; which tasks share, found by training
       commands                      train.c eval.c predict.c info.c import.c export.c reference.c;
                                     main.c calls them */
#include "commands.h"

#include "names.h"
#include "options.h"
#include "system.h"

EXITS
static void fail_command(const char *text)
{
    const char **candidates = NULL;
    size_t i;
    for (i = 0; i < COMMAND_COUNT; i++) arrput(candidates, commands[i].name);
    fail_usage("unknown command '%.40s'%s (mtl --help tells more)", text, suggestion(text, candidates));
}

static int run(int command, int count, char **arguments)
{
    static settings given;
    static corpus all;
    settings_init(&given, command, find_preset(count, arguments));
    parse_options(&given, count, arguments);
    check_options(&given);
    switch (command) {
    case TRAIN:   return command_train(&given, &all);
    case EVAL:    return command_eval(&given, &all);
    case IMPORT:  return command_import(&given, &all);
    case EXPORT:  return command_export(&given);
    case PREDICT: return command_predict(&given, &all);
    default:      return command_info(&given);
    }
}

int main(int count, char **arguments)
{
    size_t i;
    int status = 0;
    const char *word;
    arguments = system_begin(&count, arguments);
    word = count > 1 ? arguments[1] : "";
    if (count < 2) {
        print_help(stderr);
        return 2;
    }
    if (strcmp(word, "--version") == 0) {
        printf("mtl %s\n", MTL_RNN_VERSION);
    } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        print_help(stdout);
    } else if (strcmp(word, "reference") == 0 || strcmp(word, "--reference") == 0) {
        status = command_reference();
    } else {
        for (i = 0; i < COMMAND_COUNT && strcmp(word, commands[i].name) != 0; i++) { }
        if (i == COMMAND_COUNT) fail_command(word);
        status = run(commands[i].command, count - 2, arguments + 2);
    }
    flush_output();
    return status;
}
