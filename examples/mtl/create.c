#include "create.h"

#include <float.h>

#include "best.h"
#include "lm.h"
#include "system.h"
#include "tensors.h"
#include "thresholds.h"
#include "vectors.h"
#include "words.h"

/* The inputs of a new model of these tasks; *texts, *uses: as make_text_inputs. */
static mtl_input_desc *make_inputs(const settings *given, const corpus *all, const int *tasks,
                                   const char ****texts, float **uses)
{
    mtl_input_desc *inputs = NULL, input = given->frames_input;
    if (!arrlenu(given->frames)) return make_text_inputs(given, all, tasks, texts, uses);
    input.name = "frames";
    input.features = (int)arrlenu(all->features);
    arrput(inputs, input);
    return inputs;
}

/* The library's number of a kind, by its name. */
static void set_kind(mtl_task_desc *desc, const column_kind *kind, mtl_error *err)
{
    size_t i, count;
    const mtl_field *fields = mtl_fields(MTL_DESC_TASK, &count);
    for (i = 0; i < count; i++)
        if (fields[i].offset == offsetof(mtl_task_desc, kind))
            mtl_field_set(&fields[i], desc, kind->task->kind.name, err);
}

mtl_task_desc make_task_desc(const settings *given, const task *of, const char **labels,
                             const float *weights)
{
    mtl_task_desc desc = { 0 };
    mtl_error err = { 0 };
    size_t i;
    for (i = 0; i < arrlenu(given->assignments); i++) {
        const assignment *set = &given->assignments[i];
        int pool_of_steps = kind_is_step(of->kind) && strncmp(set->field->name, "pool", 4) == 0;
        if ((strcmp(set->task, "*") == 0 || strcmp(set->task, of->name) == 0) && !pool_of_steps)
            mtl_field_set(set->field, &desc, set->text, &err);
    }
    set_kind(&desc, of->kind, &err);
    check(&err);
    desc.name = of->name;
    desc.level = of->kind->level;
    if (kind_has_classes(of->kind)) desc.classes = (int)of->classes;
    if (kind_has_classes(of->kind)) desc.labels = labels;
    else desc.width = (int)of->width;
    desc.class_weights = weights;
    desc.thresholds |= has_thresholds(given, of->name);
    return desc;
}

/* How often each class of a task stands in the training data, and behind these how many items there are. A
   growing array of the caller's. */
static size_t *count_labels(const corpus *all, size_t index)
{
    size_t *counts = NULL, classes = all->tasks[index].classes, i, t, k, n;
    memset(arraddnptr(counts, classes + 1), 0, (classes + 1) * sizeof *counts);
    for (i = 0; i < arrlenu(all->train); i++)
        for (t = 0; t < arrlenu(all->train[i].targets); t++) {
            const target *of = &all->train[i].targets[t];
            for (k = 0; k < arrlenu(of->labels) && of->task == (int)index; k++)
                if (of->labels[k] >= 0) counts[of->labels[k]]++, counts[classes]++;
            for (k = 0; k < arrlenu(of->sets) && of->task == (int)index; k++) {
                counts[classes] += !(arrlenu(of->sets[k]) && of->sets[k][0] == MTL_MISSING);
                for (n = 0; n < arrlenu(of->sets[k]); n++)
                    if (of->sets[k][n] >= 0) counts[of->sets[k][n]]++;
            }
        }
    return counts;
}

/* What is wrong with the first LABEL:X of a list. */
EXITS
static void fail_class_weight(const task *of, const char *list, const char *text)
{
    const char **labels = NULL;
    char piece[120], *colon;
    size_t i;
    snprintf(piece, sizeof piece, "%.*s", (int)strcspn(text, ","), text);
    if (!(colon = strrchr(piece, ':')))
        fail_usage("--class-weights %s=%s: '%s' is not of the form LABEL:X", of->name, list, piece);
    *colon = '\0';
    for (i = 0; i < of->classes; i++) {
        if (strcmp(piece, of->labels.list[i].key) == 0)
            fail_usage("--class-weights %s=%s: '%s' is not a weight for %s; expected a number of at least 0, "
                       "and each label once",
                       of->name, list, colon + 1, piece);
        arrput(labels, of->labels.list[i].key);
    }
    fail_usage("--class-weights %s=%s: no label '%s' in the training data%s", of->name, list, piece,
               suggestion(piece, labels));
}

/* One LABEL:X of a list into weights[], where a negative number stands for none so far; labels may hold
   colons and commas, so they are compared with those that there are. Returns what follows. */
static const char *read_class_weight(const task *of, const char *list, const char *text, float *weights)
{
    size_t i, best = of->classes, longest = 0;
    double weight = 0, number;
    for (i = 0; i < of->classes; i++) {
        const char *key = of->labels.list[i].key;
        size_t length = strlen(key), digits;
        if (length < longest || strncmp(text, key, length) != 0 || text[length] != ':') continue;
        digits = strcspn(text + length + 1, ",");
        if (!mtl_text_number(text + length + 1, digits, &number) || number < 0 || number > FLT_MAX) continue;
        best = i;
        longest = length;
        weight = number;
    }
    if (best == of->classes || weights[best] >= 0) fail_class_weight(of, list, text);
    weights[best] = (float)weight;
    text += longest + 1;
    text += strcspn(text, ",");
    return *text ? text + 1 : text;
}

/* The weight that makes a class as heavy as others: items / (classes * items of the class), whose mean over
   the items is 1; in sets, items without it / items with it. */
static float balanced_weight(const task *of, const size_t *counts, size_t label)
{
    const double with = (double)counts[label], items = (double)counts[of->classes];
    if (!counts[label]) return 1;
    return (float)(kind_has_sets(of->kind) ? (items - with) / with : items / ((double)of->classes * with));
}

/* The weights of a task's classes. A growing array of the caller's; NULL: no weights. */
static float *make_class_weights(const settings *given, const corpus *all, size_t index)
{
    const task *of = &all->tasks[index];
    const char *list = option_of(given->class_weights, of), *text = list;
    size_t i, *counts;
    float *weights = NULL, largest = 0;
    int balanced = list && strcmp(list, "balanced") == 0;
    if (!list) return NULL;
    counts = count_labels(all, index);
    for (i = 0; i < of->classes; i++) arrput(weights, balanced ? balanced_weight(of, counts, i) : -1);
    while (*text && !balanced) text = read_class_weight(of, list, text, weights);
    for (i = 0; i < of->classes; i++) {
        if (weights[i] < 0) weights[i] = 1;
        if (weights[i] > largest) largest = weights[i];
    }
    if (!*list || !(largest > 0))
        fail_usage("--class-weights %s=%s: expected balanced, or LABEL:X,LABEL:X of which one is above 0",
                   of->name, list);
    arrfree(counts);
    return weights;
}

void check_class_weights(const settings *given, const corpus *all)
{
    check_option(all, given->class_weights, "--class-weights", "TASK=balanced or TASK=LABEL:X,LABEL:X",
                 kind_has_classes);
}

void apply_heads(const settings *given, corpus *all)
{
    size_t i;
    for (i = 0; i < arrlenu(given->heads); i++) {
        const char *text = given->heads[i], *equals = strchr(text, '=');
        const column_kind *kind;
        char wanted[64];
        task *of;
        snprintf(wanted, sizeof wanted, "%.*s", (int)strcspn(text, "="), text);
        of = corpus_find(all, wanted);
        if (!equals || (strcmp(equals, "=softmax") != 0 && strcmp(equals, "=crf") != 0))
            fail_usage("--head %s: expected TASK=softmax or TASK=crf", text);
        if (!of)
            fail_usage("--head %s: no such task%s", text, suggestion(wanted, corpus_task_names(all)));
        kind = kind_with_head(of->kind, equals + 1);
        if (!kind)
            fail_usage("--head %s: task %s is of kind %s; only tags tasks have a choice of heads", text,
                       wanted, of->kind->name);
        of->kind = kind;
    }
}

void check_shared_pools(const settings *given, const corpus *all)
{
    const char **known = corpus_task_names(all);
    size_t i;
    for (i = 0; i < arrlenu(given->pool_of); i++) {
        const char *text = given->pool_of[i], *equals = strchr(text, '=');
        char first[64];
        snprintf(first, sizeof first, "%.*s", (int)strcspn(text, "="), text);
        if (!equals) fail_usage("--pool-of %s: expected TASK=TASK", text);
        if (!corpus_find(all, first))
            fail_usage("--pool-of %s: no task %s in the data%s", text, first, suggestion(first, known));
        if (!corpus_find(all, equals + 1))
            fail_usage("--pool-of %s: no task %s in the data%s", text, equals + 1,
                       suggestion(equals + 1, known));
    }
    arrfree(known);
}

/* The last of `tasks` uses the scores of the one that --pool-of names, if the model has it. */
static void share_pool(const settings *given, mtl_task_desc *tasks)
{
    mtl_task_desc *task = &arrlast(tasks);
    const size_t length = strlen(task->name);
    size_t i, k;
    for (i = 0; i < arrlenu(given->pool_of); i++) {
        const char *text = given->pool_of[i];
        if (strncmp(text, task->name, length) != 0 || text[length] != '=') continue;
        for (k = 0; k + 1 < arrlenu(tasks); k++)
            if (strcmp(tasks[k].name, text + length + 1) == 0) task->pool_of = tasks[k].name;
    }
}

void check_task_names(const settings *given, const corpus *all)
{
    const char **known = corpus_task_names(all);
    size_t i;
    for (i = 0; i < arrlenu(given->assignments); i++) {
        const assignment *set = &given->assignments[i];
        if (strcmp(set->task, "*") != 0 && !corpus_find(all, set->task) && !is_lm(given, set->task))
            fail_usage("%s: no task %s in the data%s", set->option, set->task, suggestion(set->task, known));
    }
    if (given->score && !corpus_find(all, given->score) && !is_lm(given, given->score))
        fail_usage("--score %s: no such task%s", given->score, suggestion(given->score, known));
    arrfree(known);
}

void report_direction(const settings *given)
{
    if (given->quiet || !arrlenu(given->frames) || !given->encoder.bidirectional) return;
    if (!by_preset(given, "encoder.bidirectional")) return;
    note("the model will read each sequence forwards and from its end, so it cannot be fed row by row as "
         "they come; --dir uni reads forwards alone, --dir bi says that this is meant");
}

void report_useless(const settings *given)
{
    if (given->encoder.dropout_between > 0 && given->encoder.layers < 2)
        warn("encoder.dropout_between has no effect: the encoder has one layer; give it more with --layers, "
             "or drop out its output with --set encoder.dropout=X");
}

void check_memory(const mtl_model_desc *desc)
{
    mtl_error err = { 0 };
    size_t bytes = mtl_model_size(desc, &err);
    double machine = machine_memory();
    check(&err);
    if (machine > 0 && 4.0 * (double)bytes > machine)   /* weights, gradients and two moments */
        fail("out of memory: the model needs %zu bytes, and about %.0f bytes while it is trained; this "
             "machine has %.0f: make --hidden, --embed or the vocabulary smaller",
             bytes, 4.0 * (double)bytes, machine);
}

/* What --freeze and --vectors-rate 0 name, as the library's desc wants it. A growing array, NULL for
   nothing. */
static char *frozen_names(const settings *given)
{
    char *text = NULL;
    size_t i;
    const char *vectors = frozen_vectors(given);
    for (i = 0; i < arrlenu(given->freeze); i++) add_text(&text, "%s%s", i ? "," : "", given->freeze[i]);
    if (vectors) add_text(&text, "%s%s", i ? "," : "", vectors);
    return text;
}

/* Initial values as the library's desc wants them: what --init says, or the preset. The preset's rules, and
   in a search all, are left out where they fit no tensor of the model. A growing array, NULL for nothing. */
static char *init_rules(const settings *given, mtl_model_desc *desc)
{
    size_t i, count;
    const char *const *rules = preset_init(given, &count);
    const int all = !rules && !given->automatic;
    char *text = NULL;
    if (!rules) rules = (const char *const *)given->init, count = arrlenu(given->init);
    for (i = 0; i < count; i++) {
        mtl_error err = { 0 };
        desc->init = rules[i];
        if (all || mtl_model_size(desc, &err) || strcmp(err.name, "init") != 0)
            add_text(&text, "%s%s", text ? "," : "", rules[i]);
    }
    return text;
}

/* Reads from --init-from what the file has of the model's tensors, by name; in a search, what has another
   shape there is left out. Returns how many there were. */
static size_t read_initial(const settings *given, mtl_model *model, const mtl_safetensors *file)
{
    const mtl_parameters *set = mtl_model_parameters(model);
    mtl_error err = { 0 };
    char shape[160];
    size_t i, taken = 0;
    for (i = 0; i < set->count; i++) {
        mtl_tensor *of = set->tensors[i];
        const mtl_safetensor *from = mtl_safetensors_find(file, of->name);
        const int fits = from && from->dims == of->dims && from->count == of->count &&
            from->shape[0] == of->shape[0];
        if (from && !fits && !given->automatic)
            fail("--init-from %s: its %s is %s, that of this model %zux%zu; rename it in the file, or leave "
                 "it out", given->init_from, of->name, shape_text(from, shape), of->shape[0], of->shape[1]);
        if (fits) mtl_safetensor_values(from, of->value, &err);
        taken += (size_t)fits;
    }
    mtl_model_prepare(model, &err);
    if (err.code) fail("--init-from %s: %s", given->init_from, err.message);
    return taken;
}

void begin_from_files(const settings *given, const corpus *all, mtl_model *model, int told)
{
    const mtl_parameters *set = mtl_model_parameters(model);
    mtl_safetensors file;
    size_t taken;
    if (given->init_from) {
        open_tensors(given->init_from, &file);
        taken = read_initial(given, model, &file);
        if (told && !taken)
            fail("--init-from %s: has none of this model's tensors, which are %s, ..; mtl info FILE lists "
                 "the file's", given->init_from, set->tensors[0]->name);
        if (told && !given->quiet)
            note("--init-from %s: %zu of %zu tensors begin as there", given->init_from, taken, set->count);
        mtl_safetensors_close(&file);
    }
    apply_vectors(given, all, model);
}

/* What the desc of a new model points to, growing arrays; a model has its own copies. */
typedef struct model_parts {
    mtl_input_desc *inputs;
    const char ***words;                    /* of inputs; a growing array each */
    float *uses;
    mtl_task_desc *tasks, *with_lm;
    const char ***labels;                   /* of tasks; growing arrays each */
    float **weights;
    char *frozen, *rules;
} model_parts;

static void make_parts(model_parts *parts, const settings *given, corpus *all, const int *chosen)
{
    size_t i;
    memset(parts, 0, sizeof *parts);
    parts->inputs = make_inputs(given, all, chosen, &parts->words, &parts->uses);
    parts->frozen = frozen_names(given);
    for (i = 0; i < arrlenu(chosen); i++) {
        const task *of = &all->tasks[chosen[i]];
        arrput(parts->labels, name_list(&of->labels));
        arrput(parts->weights, make_class_weights(given, all, (size_t)chosen[i]));
        arrput(parts->tasks, make_task_desc(given, of, parts->labels[i], parts->weights[i]));
        share_pool(given, parts->tasks);
    }
    if (!arrlenu(chosen)) arrput(parts->tasks, make_lm_task(given, all));
}

static void free_parts(model_parts *parts)
{
    size_t i;
    for (i = 0; i < arrlenu(parts->words); i++) arrfree(parts->words[i]);
    for (i = 0; i < arrlenu(parts->labels); i++) {
        arrfree(parts->labels[i]);
        arrfree(parts->weights[i]);
    }
    arrfree(parts->inputs);
    arrfree(parts->words);
    arrfree(parts->uses);
    arrfree(parts->tasks);
    arrfree(parts->with_lm);
    arrfree(parts->labels);
    arrfree(parts->weights);
    arrfree(parts->frozen);
    arrfree(parts->rules);
}

/* Refuses what is wrong with options that become parts of the desc, by the option's name. */
static void check_names(const model_parts *parts, const mtl_model_desc *desc)
{
    mtl_error err = { 0 };
    if (!mtl_model_size(desc, &err) && ((parts->frozen && strcmp(err.name, "freeze") == 0) ||
                                        (parts->rules && strcmp(err.name, "init") == 0)))
        fail_usage("--%s", err.message);
}

mtl_model *create_model(const settings *given, corpus *all, const int *chosen, const mtl_share_desc *share)
{
    const mtl_share_desc of_tasks = share_for(given, all, chosen, share);
    mtl_model_desc desc = given->model, shared;
    model_parts parts;
    mtl_error err = { 0 };
    mtl_arena arena;
    mtl_model *model;
    mtl_arena_init(&arena, NULL, 0, NULL);
    make_parts(&parts, given, all, chosen);
    desc.inputs = parts.inputs;
    desc.input_count = arrlenu(parts.inputs);
    desc.encoder = given->encoder;
    desc.tasks = parts.tasks;
    desc.task_count = arrlenu(parts.tasks);
    desc.freeze = parts.frozen;
    mtl_share(&of_tasks, &desc, &shared, &arena, &err);
    check(&err);
    if (arrlenu(chosen)) parts.with_lm = add_lm_task(given, all, &shared);
    shared.init = parts.rules = init_rules(given, &shared);
    check_names(&parts, &shared);
    check_memory(&shared);
    model = mtl_model_create(&shared, &err);
    check(&err);
    mtl_arena_destroy(&arena);
    free_parts(&parts);
    return model;
}
