#include "resume.h"

#include "inputs.h"
#include "options.h"
#include "scales.h"
#include "system.h"

typedef struct checkpoints {
    const corpus *all;
    mtl_model *model;
    char *path, *settings;
    char *from;                             /* the file of --resume; NULL: there is none to go on from */
    source file;                            /* its bytes */
    mtl_safetensors tensors;
    int failed;                             /* a checkpoint could not be written, which was told */
} checkpoints;

/* OUT.checkpoint, or of one training of several OUT.checkpoint.NUMBER, from 1 on. The caller's memory. */
static char *checkpoint_path(const char *out, const char *ending, size_t number)
{
    size_t size = strlen(out) + strlen(ending) + 24;
    char *path = (char *)checked_realloc(NULL, size);
    if (number) snprintf(path, size, "%s%s.%zu", out, ending, number);
    else snprintf(path, size, "%s%s", out, ending);
    return path;
}

static int is_there(const char *path) { return path && file_kind(path, NULL) == FILE_REGULAR; }

/* ---- what a run was asked for -------------------------------------------------------------------------- */

/* The options that name files, whose contents a run depends on; many: a growing array of them, else one. */
static const struct { const char *name; size_t offset; int many; } file_options[] = {
    { "--data", offsetof(settings, data), 1 },            { "--frames", offsetof(settings, frames), 1 },
    { "--valid", offsetof(settings, valid), 1 },          { "--teacher", offsetof(settings, teachers), 1 },
    { "--gazetteer", offsetof(settings, gazetteers), 1 }, { "--vectors", offsetof(settings, vectors), 0 },
    { "--init-from", offsetof(settings, init_from), 0 },
};
enum { FILE_OPTIONS = sizeof file_options / sizeof *file_options };

/* The files that an option names; *count: how many. */
static const char *const *files_of(const settings *given, size_t option, size_t *count)
{
    const void *member = (const char *)given + file_options[option].offset;
    const char *const *one = (const char *const *)member;
    char **many;
    if (!file_options[option].many) {
        *count = *one != NULL;
        return one;
    }
    many = *(char **const *)member;
    *count = arrlenu(many);
    return (const char *const *)many;
}

/* A line that tells a file's contents: its size and an FNV-1a hash (Fowler, Noll and Vo 1991). */
static void add_file_text(char **text, const char *option, size_t number, const char *path)
{
    static unsigned char bytes[1 << 16];
    unsigned long long hash = 14695981039346656037ull, size = 0;
    size_t got, i;
    FILE *file = file_kind(path, NULL) == FILE_REGULAR ? file_open(path, "rb") : NULL;
    while (file && (got = fread(bytes, 1, sizeof bytes, file)) > 0) {
        for (i = 0; i < got; i++) hash = (hash ^ bytes[i]) * 1099511628211ull;
        size += got;
    }
    if (file) fclose(file);
    add_text(text, "%s %zu=%llu bytes of checksum %016llx\n", option, number + 1, size, hash);
}

/* A line for each field of a task. */
static void add_task_text(char **text, const mtl_task_desc *task)
{
    size_t i, count;
    const mtl_field *fields = mtl_fields(MTL_DESC_TASK, &count);
    char value[64];
    for (i = 0; i < count; i++)
        if (fields[i].type < MTL_NAME)
            add_text(text, "task.%s.%s=%s\n", task->name, fields[i].name,
                     mtl_field_get(&fields[i], task, value, sizeof value));
}

/* Lines key=value: the data files' contents, the options, all fields. A growing array. */
static char *settings_text(const settings *given, const mtl_model_desc *desc)
{
    char *text = NULL, isa[64];
    const group *trainer;
    const mtl_field *field = resolve_path("--isa", "trainer.isa", &trainer);
    size_t i, k, count;
    for (i = 0; i < FILE_OPTIONS; i++) {
        const char *const *files = files_of(given, i, &count);
        for (k = 0; k < count; k++) add_file_text(&text, file_options[i].name, k, files[k]);
    }
    add_options_text(&text, given);
    for (i = 0; i < GROUP_COUNT; i++)
        if (groups[i].desc != MTL_DESC_TASK && groups[i].desc != MTL_DESC_PREDICTOR)
            add_fields_text(&text, given, &groups[i]);
    add_text(&text, "trainer.isa=%s\n", mtl_field_get(field, &given->trainer, isa, sizeof isa));
    for (i = 0; i < desc->task_count; i++) add_task_text(&text, &desc->tasks[i]);
    return text;
}

/* The line of `text` that begins with key[length], which includes the =; NULL: there is none. */
static const char *find_line(const char *text, const char *key, size_t length)
{
    while (*text && strncmp(text, key, length) != 0) {
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return *text ? text : NULL;
}

/* The file that a line such as "--data 2=..." is about; "" for other lines. */
static const char *file_of(const settings *given, const char *line)
{
    size_t i, number, count;
    for (i = 0; i < FILE_OPTIONS; i++) {
        const size_t length = strlen(file_options[i].name);
        const char *const *files = files_of(given, i, &count);
        if (strncmp(line, file_options[i].name, length) != 0 || line[length] != ' ') continue;
        number = strtoul(line + length, NULL, 10);
        return number - 1 < count ? files[number - 1] : "";
    }
    return "";
}

/* "KEY is X and was Y" for two lines of a key, of which one may be missing. */
static void add_change(const settings *given, char **changes, const char *now, const char *was)
{
    const char *line = now ? now : was;
    const size_t key = strcspn(line, "=");
    const char *new_value = now ? now + key + 1 : "not given", *old = was ? was + key + 1 : "not given";
    add_text(changes, "%s%.*s%s%s is %.*s and was %.*s", *changes ? "; " : "", (int)key, line,
             *file_of(given, line) ? " " : "", file_of(given, line), (int)strcspn(new_value, "\n"), new_value,
             (int)strcspn(old, "\n"), old);
}

/* Adds what the lines of `now` say otherwise than those of `was`, and which of these there are no more. */
static void add_changes(const settings *given, char **changes, const char *now, const char *was)
{
    const char *line, *other;
    for (line = now; *line; line += strcspn(line, "\n") + 1) {
        const size_t length = strcspn(line, "\n") + 1;
        other = find_line(was, line, strcspn(line, "=") + 1);
        if (!other || strncmp(other, line, length) != 0) add_change(given, changes, line, other);
    }
    for (line = was; *line; line += strcspn(line, "\n") + 1)
        if (!find_line(now, line, strcspn(line, "=") + 1)) add_change(given, changes, NULL, line);
}

/* Tells which data and options are not those of the checkpoint. */
static void check_settings(const settings *given, checkpoints *c, const char *asked)
{
    const mtl_safetensor *saved = mtl_safetensors_find(&c->tensors, "fit.settings");
    char *was = NULL, *changes = NULL;
    size_t i;
    for (i = 0; asked && asked[i]; i++) arrput(was, asked[i]);
    if (asked) arrput(was, '\n');
    for (i = 0; saved && saved->type == MTL_TYPE_U8 && i < saved->count; i++)
        arrput(was, ((const char *)saved->data)[i]);
    if (arrlenu(was)) was[arrlenu(was) - 1] = '\n';     /* whatever the file says, lines end */
    arrput(was, '\0');
    add_changes(given, &changes, c->settings, was);
    if (changes && !given->force)
        fail("--resume %s: not what its run was asked for: %s; --force goes on all the same", c->from,
             changes);
    if (changes) note("--resume %s: %s", c->from, changes);
    arrfree(changes);
    arrfree(was);
}

/* ---- going on ------------------------------------------------------------------------------------------ */

/* "intent, slots". A growing array. */
static char *task_list(const mtl_model_desc *desc)
{
    char *text = NULL;
    size_t i;
    for (i = 0; i < desc->task_count; i++) add_text(&text, "%s%s", i ? ", " : "", desc->tasks[i].name);
    return text;
}

/* How the checkpoint's model is not that of these data and options, a growing array; NULL: it is. */
static char *misfit(mtl_model *model, mtl_model *saved)
{
    const mtl_model_desc *a = mtl_model_describe(model), *b = mtl_model_describe(saved);
    const mtl_parameters *set = mtl_model_parameters(model), *other = mtl_model_parameters(saved);
    char *text = input_difference(b, a, 1);
    size_t i;
    for (i = 0; i < a->task_count && !text; i++)
        if (a->tasks[i].classes != b->tasks[i].classes ||
            !same_texts(a->tasks[i].labels, b->tasks[i].labels, (size_t)a->tasks[i].classes))
            add_text(&text, "its task %s has other labels than the data", a->tasks[i].name);
    for (i = 0; i < set->count && !text; i++) {
        const mtl_tensor *t = set->tensors[i], *f = mtl_parameters_find(other, t->name);
        if (!f || f->dims != t->dims || f->shape[0] != t->shape[0] || f->shape[1] != t->shape[1])
            add_text(&text, "its model has no tensor %s of this size", t->name);
    }
    if (set->count != other->count && !text) add_text(&text, "its model has more tensors");
    return text;
}

static void check_resumed(const checkpoints *c, const mtl_error *err)
{
    if (err->code) fail("--resume %s: %s", c->from, err->message);
}

/* Reads the file and makes sure that it is a checkpoint of these tasks, data and options. */
static mtl_model *open_checkpoint(const settings *given, checkpoints *c)
{
    mtl_error err = { 0 };
    mtl_model *saved;
    char *theirs, *ours, *difference;
    if (!is_there(c->from)) fail("--resume %s: there is no such file", c->from);
    c->file = source_open(c->from);
    mtl_safetensors_open_memory(&c->tensors, c->file.bytes, c->file.size, &err);
    saved = mtl_model_load_memory(c->file.bytes, c->file.size, &err);
    check_resumed(c, &err);
    theirs = task_list(mtl_model_describe(saved));
    ours = task_list(mtl_model_describe(c->model));
    if (strcmp(theirs, ours) != 0)
        fail("--resume %s: its tasks are %s, those of the data %s", c->from, theirs, ours);
    if (!mtl_safetensors_find(&c->tensors, "fit.counts") && !mtl_model_note(saved, "finished", NULL, NULL))
        fail("--resume %s: holds no optimiser state, as a model that is finished; expected the checkpoint of "
             "a run, which --checkpoint-every keeps", c->from);
    check_settings(given, c, mtl_model_note(saved, "run", NULL, NULL));
    if ((difference = misfit(c->model, saved)) != NULL)
        fail("--resume %s: %s; go on with what its run was asked for, --force or not", c->from, difference);
    arrfree(theirs);
    arrfree(ours);
    return saved;
}

/* Whole epochs before a checkpoint: element 2 of fit.counts is the one that was running. */
static size_t epochs_done(const mtl_safetensors *file)
{
    const mtl_safetensor *counts = mtl_safetensors_find(file, "fit.counts");
    double epoch = 0;
    if (counts->type == MTL_TYPE_F64 && counts->count > 2)
        memcpy(&epoch, (const char *)counts->data + 2 * sizeof epoch, sizeof epoch);
    return epoch >= 1 && epoch < 1e9 ? (size_t)epoch - 1 : 0;
}

static void resume(reporter *to, checkpoints *c, mtl_trainer *trainer, mtl_fit_desc *how)
{
    const settings *given = to->given;
    const mtl_model_desc *desc = mtl_model_describe(c->model);
    mtl_model *saved = open_checkpoint(given, c);
    mtl_error err = { 0 };
    size_t k;
    mtl_model_transfer(c->model, saved, NULL, &err);
    mtl_model_destroy(saved);
    set_means(c->all, c->model, 0, &err);   /* a file has them for C programs */
    mtl_trainer_resume(trainer, &c->tensors, &err);
    if (given->force && given->trainer.lr > 0) mtl_trainer_set_lr(trainer, given->trainer.lr);
    for (k = 0; given->force && k < desc->task_count; k++)
        mtl_trainer_set_weight(trainer, (int)k, desc->tasks[k].weight, &err);
    check_resumed(c, &err);
    how->resume = &c->tensors;
    how->resume_changed = given->force;
    to->epochs_done = epochs_done(&c->tensors);
    if (!given->quiet) printf("going on from %s\n", c->from);
}

/* ---- keeping checkpoints ------------------------------------------------------------------------------- */

/* The library's checkpoint callback; user: a reporter. Training that goes on is worth more than a checkpoint:
   one that cannot be written is told, once. */
static void on_checkpoint(void *user, const mtl_checkpoint *at, mtl_error *err)
{
    checkpoints *c = ((reporter *)user)->checkpoints;
    mtl_error own = { 0 };
    set_means(c->all, c->model, 1, err);
    mtl_checkpoint_save(at, c->path, &own);
    set_means(c->all, c->model, 0, err);
    if (own.code && !c->failed) warn("no checkpoint was written: %s", own.message);
    c->failed = own.code != MTL_OK;
}

/* The checkpoints of a training; those of one of several need not be there yet. */
static checkpoints *open_checkpoints(const reporter *to, mtl_model *model)
{
    const settings *given = to->given;
    checkpoints *c = (checkpoints *)checked_realloc(NULL, sizeof *c);
    memset(c, 0, sizeof *c);
    c->all = to->all;
    c->model = model;
    c->settings = settings_text(given, mtl_model_describe(model));
    c->path = checkpoint_path(given->out, ".checkpoint", to->number);
    if (given->resume) c->from = checkpoint_path(given->resume, "", to->number);
    if (to->number && !is_there(c->from)) {
        free(c->from);
        c->from = NULL;
    }
    return c;
}

static void close_checkpoints(checkpoints *c)
{
    if (c->file.bytes) mtl_safetensors_close(&c->tensors);
    arrfree(c->file.bytes);
    arrfree(c->settings);
    free(c->path);
    free(c->from);
    free(c);
}

void checkpoints_begin(reporter *to, mtl_model *model, mtl_trainer *trainer, mtl_fit_desc *how)
{
    const settings *given = to->given;
    checkpoints *c;
    to->epochs_done = 0;
    if (!given->resume && !how->checkpoint_every) return;
    c = to->checkpoints = open_checkpoints(to, model);
    if (c->from) resume(to, c, trainer, how);
    if (!how->checkpoint_every) return;
    check_output(given, c->path, "--checkpoint-every");
    how->checkpoint = on_checkpoint;
    how->settings = c->settings;
}

void checkpoints_end(reporter *to)
{
    if (to->checkpoints) close_checkpoints(to->checkpoints);
    to->checkpoints = NULL;
}

/* ---- several trainings --------------------------------------------------------------------------------- */

int checkpoints_finished(reporter *to, mtl_model *model, mtl_fit_result *result)
{
    checkpoints *c = to->given->resume ? open_checkpoints(to, model) : NULL;
    mtl_model *saved = c && c->from ? open_checkpoint(to->given, c) : NULL;
    const char *finished = saved ? mtl_model_note(saved, "finished", NULL, NULL) : NULL;
    mtl_error err = { 0 };
    if (finished && sscanf(finished, "%zu %zu %zu %lf %lf", &result->epochs, &result->updates,
                           &result->best_epoch, &result->best_score, &result->train_seconds) == 5) {
        mtl_model_transfer(model, saved, NULL, &err);
        set_means(to->all, model, 0, &err);
        check_resumed(c, &err);
        if (!to->given->quiet) printf("%s is finished\n", c->from);
    } else finished = NULL;
    if (saved) mtl_model_destroy(saved);
    if (c) close_checkpoints(c);
    return finished != NULL;
}

void checkpoints_keep(reporter *to, mtl_model *model, const mtl_fit_result *result)
{
    checkpoints *c;
    mtl_error err = { 0 };
    char text[120];
    if (!to->given->fit.checkpoint_every) return;
    c = open_checkpoints(to, model);
    snprintf(text, sizeof text, "%zu %zu %zu %.17g %.17g", result->epochs, result->updates,
             result->best_epoch, result->best_score, result->train_seconds);
    mtl_model_note(model, "finished", text, &err);
    mtl_model_note(model, "run", c->settings, &err);
    set_means(c->all, model, 1, &err);
    mtl_model_save(model, c->path, &err);
    set_means(c->all, model, 0, &err);
    if (err.code) warn("no checkpoint was written: %s", err.message);
    close_checkpoints(c);
}

void checkpoints_done(const settings *given, int stopped)
{
    char *first = checkpoint_path(given->out, ".checkpoint", 0), *path = first;
    int found = given->fit.checkpoint_every && is_there(path);
    size_t number;
    if (found && !stopped) file_remove(path);
    for (number = 1; given->fit.checkpoint_every && number > 0; number++) {
        path = checkpoint_path(given->out, ".checkpoint", number);
        if (!is_there(path)) number = (size_t)-1;
        else if (stopped) found = 1;
        else file_remove(path);
        free(path);
    }
    if (found && stopped) say("--resume %s goes on from there", first);
    free(first);
}
