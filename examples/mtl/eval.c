#include "commands.h"

#include "batches.h"
#include "data.h"
#include "models.h"
#include "options.h"
#include "reports.h"
#include "scales.h"

/* --task in eval says which kind a column has; it must be the model's. */
static void check_tasks(const settings *given, const corpus *all)
{
    size_t i;
    for (i = 0; i < arrlenu(given->tasks); i++) {
        char *text = given->tasks[i], *colon = strchr(text, ':');
        task *of;
        if (!colon) fail_usage("--task %s: expected NAME:KIND", text);
        *colon = '\0';
        of = corpus_find(all, text);
        if (!of)
            fail_usage("--task %s: no such task in the model%s", text,
                       suggestion(text, corpus_task_names(all)));
        if (strcmp(kind_text(of->kind, of->width), colon + 1) != 0)
            fail_usage("--task %s:%s: the model's task %s is of kind %s", text, colon + 1, text,
                       kind_text(of->kind, of->width));
    }
}

int command_eval(const settings *given, corpus *all)
{
    mtl_model *model = load_model(given->model_path);
    mtl_batch *batches;
    mtl_scores scores;
    int frames = arrlenu(given->frames) > 0;
    char **files = frames ? given->frames : given->data;
    size_t i, **confusion;
    const char *settings_note = mtl_model_note(model, "settings", NULL, NULL);
    if (given->confusion) check_output(given, given->confusion, "--confusion");
    corpus_from_model(given, all, model);
    check_inputs(given, all, model);
    load_means(all, model);
    check_tasks(given, all);
    for (i = 0; i < arrlenu(files); i++) read_dataset(all, files[i], frames, &all->valid);
    need_targets(all, all->valid);
    if (settings_note && strstr(settings_note, "\nclamp=") && !arrlenu(given->clamps))
        warn("the model was trained with --clamp; scores are of the whole range unless it is given here, "
             "too");
    batches = make_batches(all, all->valid, model);
    confusion = make_confusions(all, mtl_model_describe(model)->task_count);
    scores = evaluate(given, all, model, batches, confusion);
    if (given->json) json_scores(stdout, model, &scores, all, confusion), putchar('\n');
    else print_scores(model, &scores);
    for (i = 0; i < arrlenu(all->tasks) && !given->json; i++)
        if (confusion[i]) print_classes(&all->tasks[i], confusion[i]);
    if (given->confusion) write_confusions(given->confusion, all, &scores, confusion);
    free_confusions(confusion);
    arrfree(scores.tasks);
    arrfree(batches);
    mtl_model_destroy(model);
    return 0;
}
