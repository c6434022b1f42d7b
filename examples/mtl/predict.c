#include "commands.h"

#include "batches.h"
#include "data.h"
#include "json.h"
#include "models.h"
#include "numbers.h"
#include "scales.h"
#include "system.h"

static size_t set_size(const mtl_prediction *answer, size_t item)
{
    size_t c, count = 0;
    for (c = 0; c < answer->width; c++) count += answer->chosen[item * answer->width + c];
    return count;
}

/* The labels of an item's set: "a,b", or in JSON ["a", "b"]. */
static void print_set(const mtl_model *model, int index, const mtl_prediction *answer, size_t item, int json)
{
    const char *between = "";
    char number[24];
    size_t c;
    if (json) putchar('[');
    for (c = 0; c < answer->width; c++) {
        if (!answer->chosen[item * answer->width + c]) continue;
        fputs(between, stdout);
        between = json ? ", " : ",";
        if (json) json_string(stdout, label_text(model, index, (int)c, number));
        else fputs(label_text(model, index, (int)c, number), stdout);
    }
    if (json) putchar(']');
}

/* The numbers of an item: "1,2", or in JSON [1, 2]; one stands alone. */
static void print_values(const task *of, const mtl_prediction *answer, size_t item, int json)
{
    size_t j;
    if (json && of->width > 1) putchar('[');
    for (j = 0; j < of->width; j++) {
        if (j) fputs(json ? ", " : ",", stdout);
        print_number(stdout, answer_value(of, j, answer->values[item * of->width + j]));
    }
    if (json && of->width > 1) putchar(']');
}

/* A task's answer as a cell: labels and numbers of steps are separated by spaces. */
static void print_answer(const mtl_model *model, const task *of, int index, const mtl_prediction *answer)
{
    size_t i;
    char number[24];
    for (i = 0; i < answer->items; i++) {
        if (i) putchar(' ');
        if (answer->chosen && kind_is_step(of->kind) && !set_size(answer, i)) putchar('-');
        else if (answer->chosen) print_set(model, index, answer, i, 0);
        else if (kind_has_numbers(of->kind)) print_values(of, answer, i, 0);
        else fputs(label_text(model, index, answer->labels[i], number), stdout);
    }
}

/* The probabilities of one item's labels: {"label": p, ...}. */
static void json_probabilities(const mtl_model *model, int index, const mtl_prediction *answer, size_t item)
{
    size_t c;
    int first = 1;
    char number[24];
    putchar('{');
    for (c = 0; c < answer->width; c++)
        json_number(stdout, &first, label_text(model, index, (int)c, number),
                    answer->probabilities[item * answer->width + c]);
    putchar('}');
}

/* The items of an answer: labels, sets of labels, or numbers. */
static void json_items(const mtl_model *model, const task *of, int index, const mtl_prediction *answer)
{
    size_t i;
    char number[24];
    for (i = 0; i < answer->items; i++) {
        if (i) printf(", ");
        if (answer->chosen) print_set(model, index, answer, i, 1);
        else if (kind_has_numbers(of->kind)) print_values(of, answer, i, 1);
        else json_string(stdout, label_text(model, index, answer->labels[i], number));
    }
}

/* The probability of each label chosen. */
static void json_chosen(const mtl_prediction *answer)
{
    size_t i;
    putchar('[');
    for (i = 0; i < answer->items; i++) {
        if (i) printf(", ");
        print_number(stdout, answer->probabilities[i * answer->width + (size_t)answer->labels[i]]);
    }
    putchar(']');
}

/* Those of each item. */
static void json_all_probabilities(const mtl_model *model, int index, const mtl_prediction *answer)
{
    size_t i;
    putchar('[');
    for (i = 0; i < answer->items; i++) {
        if (i) printf(", ");
        json_probabilities(model, index, answer, i);
    }
    putchar(']');
}

/* The likeliest paths, of one sequence: [{"labels", "log_probability"}, ..]. */
static void json_paths(const mtl_model *model, int index, const mtl_prediction *answer)
{
    size_t k, i;
    char number[24];
    printf(", \"paths\": [");
    for (k = 0; k < answer->path_count && answer->path_log_p[k] == answer->path_log_p[k]; k++) {
        printf(k ? ", {\"labels\": [" : "{\"labels\": [");
        for (i = 0; i < answer->items; i++) {
            if (i) printf(", ");
            json_string(stdout, label_text(model, index, answer->paths[k * answer->items + i], number));
        }
        printf("], \"log_probability\": ");
        print_number(stdout, answer->path_log_p[k]);
        putchar('}');
    }
    putchar(']');
}

/* class: {"label", "probabilities"}; multi: {"labels", "probabilities"}; tags: {"labels", "probabilities": of
   each label chosen}, with --best "paths"; multis: the same of each step; real: {"value"}; reals:
   {"values"}. */
static void json_answer(const mtl_model *model, const task *of, int index, const mtl_prediction *answer)
{
    int is_list = kind_is_step(of->kind);
    printf(is_list ? "{\"%s\": [" : "{\"%s\": ", of->kind->words->answer[of->kind->level]);
    json_items(model, of, index, answer);
    if (is_list) putchar(']');
    if (kind_has_classes(of->kind)) {
        printf(", \"probabilities\": ");
        if (is_list && answer->labels) json_chosen(answer);
        else if (is_list) json_all_probabilities(model, index, answer);
        else json_probabilities(model, index, answer, 0);
    }
    if (answer->path_count) json_paths(model, index, answer);
    putchar('}');
}

/* One line: what was asked, and each task's answer. what: "text" or "sequence". */
static void print_answers(const settings *given, const corpus *all, const mtl_model *model, const char *what,
                          const char *asked, const mtl_prediction *answers)
{
    size_t i;
    int first = 1;
    if (given->json) {
        putchar('{');
        json_key(stdout, &first, what);
        json_string(stdout, asked);
        json_key(stdout, &first, "tasks");
        putchar('{');
        first = 1;
    } else {
        fputs(asked, stdout);
    }
    for (i = 0; i < arrlenu(all->tasks); i++) {
        if (given->json)
            json_key(stdout, &first, all->tasks[i].name),
                json_answer(model, &all->tasks[i], (int)i, &answers[i]);
        else putchar('\t'), print_answer(model, &all->tasks[i], (int)i, &answers[i]);
    }
    puts(given->json ? "}}" : "");
    flush_output();
}

static void print_answer_header(const settings *given, const corpus *all, const char *what)
{
    size_t i;
    if (given->json) return;
    fputs(what, stdout);
    for (i = 0; i < arrlenu(all->tasks); i++) printf("\t%s", all->tasks[i].name);
    putchar('\n');
    flush_output();
}

/* Typed text is read generously: any run of spaces (blanks) separates tokens. Returns how many tokens there
   are. */
static size_t tidy_text(const source *in, char *text, const char *blanks, size_t max_tokens)
{
    char *from = text, *to = text;
    size_t tokens = 0;
    while (*(from += strspn(from, blanks))) {
        size_t length = strcspn(from, blanks);
        if (length > LONGEST_WORD)
            fail_at(in, from, "a token of %zu bytes; expected at most %d", length, (int)LONGEST_WORD);
        if (++tokens > max_tokens)
            fail_at(in, from, "more than %zu tokens in a line; cut it, or allow more with --max-tokens",
                    max_tokens);
        if (tokens > 1) *to++ = ' ';
        memmove(to, from, length);
        to += length;
        from += length;
    }
    *to = '\0';
    return tokens;
}

/* Answers the current line. Where the model reads tokens beside the words they follow the text, a tab before
   those of each column. */
static void predict_line(const settings *given, corpus *all, mtl_model *model, mtl_predictor *predictor,
                         const source *in, mtl_prediction *answers)
{
    const size_t columns = arrlenu(all->columns);
    char **texts = NULL;
    mtl_error err = { 0 };
    size_t i, words;
    if (columns) split(in->line, '\t', &texts);
    else arrput(texts, in->line);
    words = tidy_text(in, texts[0], columns ? " " : " \t", all->max_tokens);
    if (words && arrlenu(texts) != columns + 1)
        fail_at(in, NULL, "%zu cells; expected the text and, a tab before each, its tokens of %zu %s (%s%s)",
                arrlenu(texts), columns, columns > 1 ? "columns" : "column", all->columns[0].name,
                columns > 1 ? " .." : "");
    for (i = 1; i < arrlenu(texts) && words; i++)
        if (tidy_text(in, texts[i], " ", all->max_tokens) != words)
            fail_at(in, texts[i], "%s: expected a token for each of the %zu words of the text",
                    all->columns[i - 1].name, words);
    if (words) {
        mtl_predict_texts(predictor, (const char *const *)texts, columns + 1, answers, NULL, &err);
        if (err.code) fail_at(in, NULL, "%s", err.message);
        print_answers(given, all, model, "text", texts[0], answers);
    } else {
        putchar('\n');
        flush_output();
    }
    arrfree(texts);
}

static void predict_lines(const settings *given, corpus *all, mtl_model *model, mtl_predictor *predictor,
                          mtl_prediction *answers)
{
    source in = { 0 };
    char *buffer = NULL;
    size_t capacity = 0;
    ptrdiff_t length;
    in.path = "standard input";
    while ((length = read_line(&buffer, &capacity, stdin)) >= 0) {
        int mark = !in.number && length >= 3 && memcmp(buffer, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
        set_line(&in, buffer + mark, (size_t)(length - mark));
        predict_line(given, all, model, predictor, &in, answers);
    }
    if (ferror(stdin) || !feof(stdin)) fail("standard input: cannot be read: %s", strerror(errno));
    free(buffer);
}

static void predict_frames(const settings *given, corpus *all, mtl_model *model, mtl_predictor *predictor,
                           mtl_prediction *answers)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    mtl_input inputs[1];
    mtl_error err = { 0 };
    task *tasks = all->tasks;
    size_t i, s;
    all->tasks = NULL;                      /* the targets, if the file has any, are not read */
    for (i = 0; i < arrlenu(given->frames); i++) read_dataset(all, given->frames[i], 1, &all->valid);
    all->tasks = tasks;
    for (i = 0; i < arrlenu(all->valid); i++) {
        mtl_batch batch = make_batch(all, &all->valid[i], model);
        size_t row = 0;
        for (s = 0; s < batch.sequences; s++) {
            mtl_batch one = one_sequence(&batch, desc, s, row, inputs);
            mtl_predict(predictor, &one, answers, &err);
            check(&err);
            print_answers(given, all, model, "sequence", all->valid[i].sequences.list[s].key, answers);
            row += (size_t)batch.lengths[s];
        }
    }
}

/* Paths are told in JSON alone, of crf tasks. */
static void check_paths(const settings *given, const mtl_model *model)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    size_t i;
    if (!given->predictor.paths) return;
    if (!given->json) fail_usage("--best is for --json");
    for (i = 0; i < desc->task_count && desc->tasks[i].kind != MTL_TASK_CRF; i++) { }
    if (i == desc->task_count)
        fail_usage("--best: %s has no task with a conditional random field; train with --head TASK=crf",
                   given->model_path);
}

int command_predict(const settings *given, corpus *all)
{
    mtl_error err = { 0 };
    mtl_model *model = load_model(given->model_path);
    mtl_predictor *predictor;
    mtl_prediction *answers = NULL;
    int frames = arrlenu(given->frames) > 0;
    corpus_from_model(given, all, model);
    check_inputs(given, all, model);
    load_means(all, model);
    if (!arrlenu(all->tasks))
        fail("%s: has a language model alone: mtl eval tells its perplexity, and a program has the next "
             "words' probabilities of mtl_stream_step", given->model_path);
    check_paths(given, model);
    predictor = mtl_predictor_create(model, &given->predictor, &err);
    check(&err);
    arrsetlen(answers, mtl_model_describe(model)->task_count);
    print_answer_header(given, all, frames ? "sequence" : "text");
    if (frames) predict_frames(given, all, model, predictor, answers);
    else predict_lines(given, all, model, predictor, answers);
    arrfree(answers);
    mtl_predictor_destroy(predictor);
    mtl_model_destroy(model);
    return 0;
}
