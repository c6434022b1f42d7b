#include "commands.h"

#include "auto.h"
#include "batches.h"
#include "best.h"
#include "create.h"
#include "data.h"
#include "gazetteer.h"
#include "lm.h"
#include "models.h"
#include "numbers.h"
#include "options.h"
#include "reports.h"
#include "resume.h"
#include "scales.h"
#include "system.h"
#include "thresholds.h"
#include "vectors.h"
#include "words.h"

static void check_swap(const settings *given, const corpus *all)
{
    size_t i;
    if (!(given->fit.swap > 0)) return;
    for (i = 0; i < arrlenu(all->tasks); i++)
        if (has_spans(&all->tasks[i])) return;
    fail_usage("--swap: no task of the training data has tags B-TYPE and I-TYPE, whose spans it exchanges");
}

/* Adds the columns of --task. */
static void add_named_tasks(const settings *given, corpus *all)
{
    source command_line = { 0 };
    size_t i;
    command_line.path = "--task";
    for (i = 0; i < arrlenu(given->tasks); i++) {
        char *text = given->tasks[i], *colon = strchr(text, ':');
        size_t width = 1;
        const column_kind *kind = colon ? kind_by_name(colon + 1, &width) : NULL;
        if (!colon) fail_usage("--task %s: '%s' is not of the form NAME:KIND", text, text);
        if (!kind)
            fail_usage("--task %s: '%s' is no kind of task; expected %s", text, colon + 1, kinds_that(NULL));
        *colon = '\0';
        if (corpus_find(all, text)) fail_usage("--task %s: the same task twice", text);
        if (name_fault(text))
            fail_usage("--task %s: the name %s; rename the column in the file, too", text, name_fault(text));
        corpus_task(all, &command_line, NULL, text, kind, width);
    }
}

/* Adds the columns of --tokens. */
static void add_named_tokens(const settings *given, corpus *all)
{
    source command_line = { 0 };
    size_t i;
    command_line.path = "--tokens";
    if (arrlenu(given->frames) && arrlenu(given->tokens))
        fail_usage("--tokens: are read beside words; --frames are rows of numbers, named by --features");
    for (i = 0; i < arrlenu(given->tokens); i++)
        if (find_tokens(all, given->tokens[i]) < 0) add_tokens(all, &command_line, NULL, given->tokens[i]);
}

/* What the command line says of the columns, before a file is read. */
static void describe_columns(const settings *given, corpus *all)
{
    const int frames = arrlenu(given->frames) > 0;
    size_t i;
    all->only = given->only;
    all->ranks = given->ranks;
    all->sequence = given->sequence;
    all->features = given->features;
    all->sequence_by = "--sequence names";
    all->features_by = "--features names";
    all->quiet = given->quiet;
    all->predicts_words = given->lm && strcmp(given->lm, "none") != 0;
    all->gaps = given->gaps;
    if (given->gaps && strcmp(given->gaps, "mean") != 0 && strcmp(given->gaps, "last") != 0)
        fail_usage("--gaps %s: expected mean or last", given->gaps);
    if (given->gaps && !frames) fail_usage("--gaps: is for --frames; texts have no gaps");
    all->max_tokens = (size_t)given->max_tokens;
    add_named_tasks(given, all);
    add_named_tokens(given, all);
    if (!frames && arrlenu(given->clamps)) fail_usage("--clamp is for --frames");
    for (i = 0; i < arrlenu(given->clamps); i++) apply_clamp(all, given->clamps[i]);
}

/* Reads everything that the command line names. */
static void read_training_data(settings *given, corpus *all)
{
    const int frames = arrlenu(given->frames) > 0;
    char **files = frames ? given->frames : given->data;
    size_t i;
    describe_columns(given, all);
    for (i = 0; i < arrlenu(files); i++) read_dataset(all, files[i], frames, &all->train);
    corpus_close(all);
    choose_by_data(given, all);
    if (!frames) {
        make_vocabulary(given, all);
        make_phrases(given, all);
        read_vectors(given, all);
    }
    check_task_names(given, all);
    check_class_weights(given, all);
    check_swap(given, all);
    apply_heads(given, all);
    check_thresholds(given, all);
    check_shared_pools(given, all);
    for (i = 0; i < arrlenu(given->valid); i++) read_dataset(all, given->valid[i], frames, &all->valid);
    need_targets(all, all->valid);
}

/* Keeps in the model how it is trained, for `mtl info`, and how CSV files are read, for eval and predict.
   What the result does not depend on stays out, so that equal runs write equal files. */
static void note_settings(const settings *given, const corpus *all, mtl_model *model, mtl_error *err)
{
    char *text = NULL;
    size_t g, i;
    add_text(&text, "preset=%s\n", given->preset);
    if (!arrlenu(given->frames)) add_text(&text, "min-count=%lld\n", given->min_count);
    if (given->score) add_text(&text, "score=%s\n", given->score);
    if (given->vectors) add_text(&text, "vectors=%s\n", given->vectors);
    for (g = 0; g < GROUP_COUNT; g++)
        if (groups[g].desc == MTL_DESC_TRAINER || groups[g].desc == MTL_DESC_FIT)
            add_fields_text(&text, given, &groups[g]);
    if (arrlenu(given->frames))
        add_text(&text, "dir=%s\ndir_by=%s\n", given->encoder.bidirectional ? "bi" : "uni",
                 set_by(given, "encoder.bidirectional"));
    for (i = 0; i < arrlenu(given->clamps); i++) add_text(&text, "clamp=%s\n", given->clamps[i]);
    mtl_model_note(model, "settings", text, err);
    arrfree(text);
    if (!arrlenu(given->frames)) return;
    if (all->sequence) mtl_model_note(model, "sequence", all->sequence, err);
    for (i = 0; i < arrlenu(all->features); i++) add_text(&text, "%s%s", i ? "," : "", all->features[i]);
    mtl_model_note(model, "features", text, err);
    if (all->gaps) mtl_model_note(model, "gaps", all->gaps, err);
    arrfree(text);
}

static void print_start(const settings *given, const corpus *all, mtl_model *model)
{
    size_t i, sequences = 0, rows = 0;
    for (i = 0; i < arrlenu(all->train); i++)
        sequences += arrlenu(all->train[i].lengths), rows += all->train[i].rows;
    if (given->quiet) return;
    printf("%zu sequences, %zu %s", sequences, rows, all->features ? "rows" : "tokens");
    if (arrlenu(all->vocabulary.list)) printf(", %zu words", arrlenu(all->vocabulary.list));
    printf("; tasks:");
    for (i = 0; i < arrlenu(all->tasks); i++) {
        printf("%s %s %s", i ? "," : "", all->tasks[i].name,
               kind_text(all->tasks[i].kind, all->tasks[i].width));
        if (all->tasks[i].classes) printf(" of %zu", all->tasks[i].classes);
    }
    for (; i < mtl_model_describe(model)->task_count; i++)
        printf("%s %s of %d", i ? "," : "", mtl_model_describe(model)->tasks[i].name,
               mtl_model_describe(model)->tasks[i].classes);
    printf("; %zu parameters\n", count_parameters(model));
    fflush(stdout);
}

/* Says which weights were kept and why: result->stopped by Ctrl-C or --stop-after. */
static void report_end(const settings *given, const mtl_fit_result *result)
{
    char kept[80];
    if (result->best_epoch)
        snprintf(kept, sizeof kept, "the best model so far (epoch %zu)", result->best_epoch);
    else snprintf(kept, sizeof kept, "the model as it is after %zu updates", result->updates);
    if (result->stopped) say("interrupted: %s is in %s", kept, given->out);
    if (given->quiet) return;
    if (!result->stopped && result->best_epoch)
        printf("best epoch %zu%s, score %.4f", result->best_epoch,
               result->parts ? ", with what single tasks train from the epochs best for these" : "",
               result->best_score);
    else if (!result->stopped && given->automatic) printf("score %.4f", result->best_score);
    else if (!result->stopped) printf("no --valid data: the last epoch's weights were kept");
    else printf("interrupted");
    printf("; %.1f s of training; saved to %s\n", result->train_seconds, given->out);
}

/* One training, or the search for what is shared; the model's notes say how it was trained. *broken: see
   fit_model. */
static mtl_model *train(const settings *given, corpus *all, mtl_model *whole, mtl_batch *data,
                        mtl_batch *valid, const int *tasks, mtl_fit_result *result, mtl_error *broken)
{
    mtl_model *model = whole;
    mtl_fit_desc how = given->fit;
    mtl_error err = { 0 };
    reporter to = { 0 };
    char trained[140], score[32];
    int precision = MTL_PRECISION_F32;
    to.given = given;
    to.terminal = output_is_terminal() && !given->quiet;
    if (given->log && !(to.log = file_open(given->log, given->resume ? "a" : "w")))
        fail("--log %s: cannot be written: %s", given->log, strerror(errno));
    to.all = all;
    print_start(given, all, model);
    catch_interrupts();
    if (given->automatic) {
        model = train_auto(&to, all, mtl_model_describe(whole), data, valid, result);
        mtl_model_destroy(whole);
    } else {
        if (given->by_data && !given->lm) data = labelled_batches(data, mtl_model_describe(model), tasks);
        plan_fit(given, &how, data, arrlenu(data));
        to.lessons = read_lessons(given, all, model, data);
        precision = fit_model(&to, model, &how, data, valid, result, broken);
    }
    if (to.log && (ferror(to.log) | fclose(to.log)))
        warn("--log %s: not all of it could be written", given->log);
    note_means(all, model, &err);
    note_settings(given, all, model, &err);
    mtl_text_from_number(nearest_real(result->best_score), score);
    snprintf(trained, sizeof trained,
             "epochs=%zu\nupdates=%zu\nbest_epoch=%zu\nbest_score=%s\nprecision=%s\n", result->epochs,
             result->updates, result->best_epoch, score, precision == MTL_PRECISION_BF16 ? "bf16" : "f32");
    mtl_model_note(model, "trained", trained, &err);
    check(&err);
    return model;
}

/* Scores of the validation data, at the end. */
static void report_scores(const settings *given, const corpus *all, mtl_model *model, const mtl_batch *valid)
{
    mtl_scores scores = evaluate(given, all, model, valid, NULL);
    size_t k;
    print_scores(model, &scores);
    for (k = 0; k < scores.task_count; k++)
        if (!scores.tasks[k].items && k < arrlenu(all->tasks))
            warn("task %s has no label in the --valid data: it was trained, but had no part in the score",
                 mtl_model_describe(model)->tasks[k].name);
    arrfree(scores.tasks);
}

static void check_outputs(const settings *given)
{
    check_output(given, given->out, "--out");
    if (given->log) check_output(given, given->log, "--log");
    if (given->log && strcmp(given->log, given->out) == 0)
        fail("--log %s: is --out, too; expected another path", given->log);
}

/* There is a search for what is shared if there are several tasks, and data to choose by. */
static void decide_search(settings *given, const corpus *all)
{
    const int several = given->automatic && arrlenu(all->tasks) > 1;
    const char *fixed = arrlenu(given->freeze) ? "--freeze"
        : frozen_vectors(given) ? "--vectors-rate 0" : NULL;
    given->automatic = several && arrlenu(all->valid) > 0;
    if (given->automatic && fixed)
        fail_usage("%s is for a model of known structure: give --share NAME, too, such as --share full",
                   fixed);
    if (several && !given->automatic && !given->quiet)
        note("without --valid data there is nothing to choose by: all tasks share one encoder");
}

/* The untrained model of all tasks, with the means of the data's numbers, which scale inputs and answers. */
static mtl_model *begin_model(const settings *given, corpus *all, const int *tasks)
{
    mtl_share_desc share = given->share;
    mtl_error err = { 0 };
    mtl_model *model;
    if (!share.sets) share.sets = (int)arrlenu(all->train);
    model = create_model(given, all, tasks, &share);
    begin_from_files(given, all, model, 1);
    find_feature_scales(all);
    find_target_scales(all);
    set_means(all, model, 0, &err);
    check(&err);
    return model;
}

static void save_model(const settings *given, const corpus *all, mtl_model *model)
{
    mtl_error err = { 0 };
    set_means(all, model, 1, &err);
    mtl_model_save(model, given->out, &err);
    set_means(all, model, 0, &err);
    check(&err);
}

int command_train(const settings *told, corpus *all)
{
    settings chosen = *told, *given = &chosen;      /* with what the data say */
    mtl_error broken = { 0 };
    mtl_fit_result result = { 0 };
    mtl_model *model;
    mtl_batch *data, *valid;
    int *tasks = NULL;
    size_t k;
    check_outputs(given);
    read_training_data(given, all);
    check_lm_tasks(given, all);
    check_sampler_weights(given, all);
    decide_search(given, all);
    report_direction(given);
    report_useless(given);
    for (k = 0; k < arrlenu(all->tasks); k++) arrput(tasks, (int)k);
    model = begin_model(given, all, tasks);
    data = make_batches(all, all->train, model);
    valid = make_batches(all, all->valid, model);
    model = train(given, all, model, data, valid, tasks, &result, &broken);
    choose_thresholds(given, all, model, valid);
    save_model(given, all, model);
    if (broken.code)
        fail("%s; the best model so far (epoch %zu) is in %s", broken.message, result.best_epoch, given->out);
    report_end(given, &result);
    checkpoints_done(given, result.stopped);
    if (arrlenu(valid) && !given->quiet) report_scores(given, all, model, valid);
    mtl_model_destroy(model);
    return 0;
}
