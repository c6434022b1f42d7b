#include "commands.h"

static void print_range(const mtl_field *of)
{
    const mtl_choice *choice;
    if (of->choices) {
        for (choice = of->choices; choice->name; choice++)
            printf("%s`%s`", choice == of->choices ? "" : ", ", choice->name);
    } else if (of->type == MTL_FLAG) {
        printf("0 or 1");
    } else if (of->low < of->high) {
        printf("%.10g to %.10g", of->low, of->high);
    } else {
        printf("0 or more");
    }
}

int command_reference(void)
{
    static settings defaults;               /* all zero: every field at its default */
    static mtl_task_desc no_task;
    size_t g, i, count;
    char value[64];
    printf("# Reference: every field\n\n"
           "Made by `mtl reference` from the field tables of mtl_rnn.h. The command sets any of them with "
           "`--set GROUP.FIELD=VALUE`;\n"
           "in C they are the members of the descs. The defaults are the header's; `mtl train` starts from "
           "its preset.\n");
    for (g = 0; g < GROUP_COUNT; g++) {
        const mtl_field *fields = mtl_fields(groups[g].desc, &count);
        const void *members = groups[g].desc == MTL_DESC_TASK ? (const void *)&no_task
                                                              : (const void *)((const char *)&defaults
                                                                               + groups[g].offset);
        if (groups[g].desc == MTL_DESC_INPUT && strcmp(groups[g].name, "input") != 0) continue;
        printf("\n## %s: %s\n\n| field | default | range | meaning |\n|---|---|---|---|\n", groups[g].name,
               groups[g].what);
        for (i = 0; i < count; i++) {
            printf("| `%s` | %s | ", fields[i].name, mtl_field_get(&fields[i], members, value, sizeof value));
            print_range(&fields[i]);
            printf(" | %s |\n", fields[i].help);
        }
        if (strcmp(groups[g].name, "input") == 0)
            printf("\nFor rows of numbers the same fields are set as `frames.FIELD`, for what --chars, "
                   "--affixes and\n--gazetteer read as `characters.FIELD`, `affixes.FIELD` and "
                   "`gazetteer.FIELD`.\n");
    }
    return 0;
}
