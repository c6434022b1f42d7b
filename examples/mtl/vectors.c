#include "vectors.h"

#include <math.h>
#include <stdarg.h>

#include "numbers.h"
#include "system.h"

enum { ABSENT, LOWERCASED, EXACT };         /* how a word was found */
enum { BUFFER = 1 << 20, LONGEST_ROW = 1 << 25 };

typedef struct reader {
    const char *path;
    FILE *file;
    char *bytes;                            /* [capacity] those read and not yet used: [begin, end) */
    size_t capacity, begin, end;
    size_t offset;                          /* of bytes[0] in the file */
    size_t line, rows;                      /* where we are; rows read */
    size_t width, expected;                 /* expected: the header's number of rows; 0: there is no header */
    int binary;
    const names *known;                     /* the vocabulary */
    names lowered;                          /* its words in lower case, */
    size_t *first, *next;                   /* .. and which of the words these are: lists, ends in 0 */
    word_vectors *to;
    float *row;                             /* [width] */
    char **fields;
    size_t twice, exact, lowercased;
    char first_twice[80];
} reader;

/* Ends the program: "PATH:LINE: .." of text, "PATH: byte N: .." of a binary file. */
PRINTS(2, 3) EXITS
static void fail_row(const reader *in, const char *format, ...)
{
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (in->binary) fail("%s: byte %zu: %s", in->path, in->offset + in->begin, text);
    fail("%s:%zu: %s", in->path, in->line, text);
}

/* Reads on; 0 at the end of the file. Pointers into the bytes move. A byte is left for a 0. */
static int read_more(reader *in)
{
    size_t count;
    memmove(in->bytes, in->bytes + in->begin, in->end - in->begin);
    in->offset += in->begin;
    in->end -= in->begin;
    in->begin = 0;
    if (in->end + 1 >= in->capacity) {
        if (in->capacity >= LONGEST_ROW)
            fail_row(in, "a row of more than %zu bytes; is this a file of vectors?", in->end);
        in->bytes = (char *)checked_realloc(in->bytes, in->capacity *= 2);
    }
    count = fread(in->bytes + in->end, 1, in->capacity - in->end - 1, in->file);
    if (!count && ferror(in->file)) fail("%s: cannot be read: %s", in->path, strerror(errno));
    in->end += count;
    return count > 0;
}

/* The next line without its end, ends in 0; NULL: there is none. */
static char *next_line(reader *in)
{
    char *end, *line;
    size_t seen = 0;
    while (!(end = (char *)memchr(in->bytes + in->begin + seen, '\n', in->end - in->begin - seen))) {
        seen = in->end - in->begin;
        if (read_more(in)) continue;
        if (in->begin == in->end) return NULL;
        end = in->bytes + in->end++;
        break;
    }
    line = in->bytes + in->begin;
    in->begin = (size_t)(end - in->bytes) + 1;
    while (end > line && (end[-1] == '\r' || end[-1] == ' ' || end[-1] == '\t')) end--;
    *end = '\0';
    in->line++;
    return line;
}

/* ---- which words are wanted ---------------------------------------------------------------------------- */

static void list_lowered(reader *in)
{
    size_t i, group, count = arrlenu(in->known->list);
    char *text = NULL;
    in->next = (size_t *)checked_realloc(NULL, count * sizeof *in->next);
    in->first = (size_t *)checked_realloc(NULL, count * sizeof *in->first);
    memset(in->first, 0, count * sizeof *in->first);
    for (i = 1; i < count; i++) {
        const char *word = in->known->list[i].key;
        const size_t length = strlen(word);
        arrsetlen(text, 2 * length + 1);
        mtl_text_normalise(word, length, 1, 0, text, 2 * length + 1);
        group = names_add(&in->lowered, text, strlen(text));
        in->next[i] = in->first[group];
        in->first[group] = i;
    }
    arrfree(text);
}

static void keep_row(reader *in, size_t word, unsigned char how)
{
    memcpy(in->to->rows + word * in->width, in->row, in->width * sizeof *in->row);
    in->to->found[word] = how;
}

/* 1 when the vocabulary has the word, as it is or in lower case. */
static int is_wanted(const reader *in, const char *word)
{
    return names_find(in->known, word) >= 0 || names_find(&in->lowered, word) >= 0;
}

/* Gives a row to the words that want it: a word's own vector goes before that of its lower case. */
static void give_row(reader *in, const char *word)
{
    const ptrdiff_t exact = names_find(in->known, word), group = names_find(&in->lowered, word);
    size_t i;
    if (exact >= 0 && in->to->found[exact] == EXACT) {
        if (!in->twice++) snprintf(in->first_twice, sizeof in->first_twice, "%s", word);
        return;
    }
    if (exact >= 0) keep_row(in, (size_t)exact, EXACT);
    for (i = group >= 0 ? in->first[group] : 0; i; i = in->next[i])
        if (in->to->found[i] == ABSENT) keep_row(in, i, LOWERCASED);
}

static void check_word(const reader *in, const char *word)
{
    const size_t length = strlen(word);
    if (!length) fail_row(in, "a row without a word");
    if (mtl_text_valid(word, length) != length) fail_row(in, "the word is not UTF-8: save the file as UTF-8");
}

/* ---- text ---------------------------------------------------------------------------------------------- */

/* Cuts a row into its fields, which spaces or tabs separate. */
static void cut_row(reader *in, char *line)
{
    arrsetlen(in->fields, 0);
    while (*line) {
        arrput(in->fields, line);
        line += strcspn(line, " \t");
        line += strspn(line, " \t");
    }
}

/* How many fields the word is of: GloVe has words with spaces in them. What looks like a number is none. */
static size_t word_fields(const reader *in)
{
    const size_t count = arrlenu(in->fields);
    size_t i, words = count > in->width ? count - in->width : 0;
    double number;
    for (i = 1; i < words; i++)
        if (mtl_text_number(in->fields[i], strcspn(in->fields[i], " \t"), &number)) words = 0;
    if (!words) fail_row(in, "a row of %zu numbers; expected %zu", count ? count - 1 : 0, in->width);
    return words;
}

static void read_text_row(reader *in, char *line)
{
    size_t i, words;
    double number;
    char *end;
    cut_row(in, line);
    words = word_fields(in);
    in->rows++;
    end = in->fields[words - 1] + strcspn(in->fields[words - 1], " \t");
    *end = '\0';
    check_word(in, line);
    if (!is_wanted(in, line)) return;
    for (i = 0; i < in->width; i++) {
        const char *field = in->fields[words + i];
        const size_t length = strcspn(field, " \t");
        if (!mtl_text_number(field, length, &number) || !isfinite((double)nearest_real(number)))
            fail_row(in, "'%.*s' is not a finite number", (int)(length < 40 ? length : 40), field);
        in->row[i] = (float)nearest_real(number);
    }
    give_row(in, line);
}

/* ---- word2vec's binary form ---------------------------------------------------------------------------- */

/* Makes `count` bytes be there. */
static void need_bytes(reader *in, size_t count)
{
    while (in->end - in->begin < count)
        if (!read_more(in)) fail_row(in, "the file ends within row %zu of %zu", in->rows + 1, in->expected);
}

/* A word and a space, then `width` floats, lowest byte first. */
static void read_binary_row(reader *in)
{
    size_t length = 0, i;
    char *word;
    need_bytes(in, 1);
    if (in->bytes[in->begin] == '\n') in->begin++;
    for (;; length++) {
        need_bytes(in, length + 1);
        if (in->bytes[in->begin + length] == ' ') break;
        if (length > LONGEST_WORD) fail_row(in, "no word of at most %d bytes", (int)LONGEST_WORD);
    }
    need_bytes(in, length + 1 + 4 * in->width);
    word = in->bytes + in->begin;
    word[length] = '\0';
    check_word(in, word);
    for (i = 0; i < in->width; i++) {
        const unsigned char *b = (const unsigned char *)word + length + 1 + 4 * i;
        const uint32_t low = (uint32_t)b[0] | (uint32_t)b[1] << 8;
        const uint32_t bits = low | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
        memcpy(&in->row[i], &bits, sizeof bits);
        if ((bits >> 23 & 255) == 255)
            fail_row(in, "number %zu of the word '%.60s' is not finite", i + 1, word);
    }
    in->rows++;
    give_row(in, word);
    in->begin += length + 1 + 4 * in->width;
}

/* 1 when what follows a header is no text: in a row's numbers there is a byte that no number has. */
static int is_binary(reader *in)
{
    size_t at = 0, i;
    while (in->end - in->begin < 4096 && read_more(in)) { }
    while (in->begin + at < in->end && in->bytes[in->begin + at] != ' ') at++;
    for (i = in->begin + at; i < in->end && in->bytes[i] != '\n'; i++)
        if (!in->bytes[i] || !strchr(" \t\r+-.0123456789eEnaifNAIF", in->bytes[i])) return 1;
    return 0;
}

/* ---- files --------------------------------------------------------------------------------------------- */

static void set_width(reader *in, size_t width)
{
    const size_t words = arrlenu(in->known->list);
    if (!width || width > 1000000) fail_row(in, "vectors of %zu numbers; is this a file of vectors?", width);
    in->width = in->to->width = width;
    in->row = (float *)checked_realloc(NULL, width * sizeof *in->row);
    in->to->rows = (float *)checked_realloc(NULL, words * width * sizeof *in->to->rows);
    in->to->found = (unsigned char *)checked_realloc(NULL, words);
    memset(in->to->found, ABSENT, words);
}

/* A first line "ROWS WIDTH" is word2vec's and fastText's header; GloVe's files begin with a row. */
static void read_begin(reader *in)
{
    char *line = next_line(in);
    double numbers[2] = { 0, 0 };
    size_t i;
    int header;
    if (!line) fail("%s: the file is empty; expected word vectors", in->path);
    cut_row(in, line);
    header = arrlenu(in->fields) == 2;
    for (i = 0; i < 2 && header; i++)
        header = mtl_text_number(in->fields[i], strcspn(in->fields[i], " \t"), &numbers[i]) && numbers[i] >= 1
            && numbers[i] < 1e12 && floor(numbers[i]) == numbers[i];
    set_width(in, header ? (size_t)numbers[1] : arrlenu(in->fields) ? arrlenu(in->fields) - 1 : 0);
    if (!header) {
        read_text_row(in, line);
        return;
    }
    in->expected = (size_t)numbers[0];
    in->binary = is_binary(in);
}

static void read_rows(reader *in)
{
    char *line;
    read_begin(in);
    while (in->binary && in->rows < in->expected) read_binary_row(in);
    while (in->binary && (in->begin < in->end || read_more(in)))
        if (in->bytes[in->begin++] != '\n')
            fail_row(in, "more than the %zu rows that the header tells of", in->expected);
    while (!in->binary && (line = next_line(in)) != NULL) read_text_row(in, line);
    if (in->expected && in->rows != in->expected)
        fail_row(in, "the file has %zu rows; its header says %zu", in->rows, in->expected);
}

/* ---- the other words ----------------------------------------------------------------------------------- */

/* A number in -1 .. 1 that depends on its place alone (splitmix64). */
static double noise(unsigned long long seed, size_t place)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + ((uint64_t)place + 1) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (double)((x ^ x >> 31) >> 11) / 4503599627370496.0 - 1;
}

/* U(-a, a) has the deviation a / sqrt(3). */
static void fill_others(reader *in, unsigned long long seed)
{
    const size_t words = arrlenu(in->known->list), width = in->width;
    double *mean = (double *)checked_realloc(NULL, width * sizeof *mean), spread = 0, found = 0, a;
    size_t i, j;
    for (j = 0; j < width; j++) mean[j] = 0;
    for (i = 0; i < words; i++) found += in->to->found[i] != ABSENT;
    for (i = 0; i < words; i++)
        for (j = 0; j < width && in->to->found[i] != ABSENT; j++)
            mean[j] += in->to->rows[i * width + j] / found;
    for (i = 0; i < words; i++)
        for (j = 0; j < width && in->to->found[i] != ABSENT; j++)
            spread += pow(in->to->rows[i * width + j] - mean[j], 2);
    a = 0.1 * sqrt(3 * spread / (found * (double)width));
    for (i = 0; i < words; i++)
        for (j = 0; j < width && in->to->found[i] == ABSENT; j++)
            in->to->rows[i * width + j] = (float)(mean[j] + (i ? a * noise(seed, i * width + j) : 0));
    free(mean);
}

static void report_vectors(reader *in, int quiet)
{
    const size_t words = arrlenu(in->known->list) - 1;
    size_t i;
    for (i = 1; i <= words; i++) {
        in->exact += in->to->found[i] == EXACT;
        in->lowercased += in->to->found[i] == LOWERCASED;
    }
    if (!in->exact && !in->lowercased)
        fail("--vectors %s: none of the %zu words of the training data is among its %zu", in->path, words,
             in->rows);
    if (in->twice)
        warn("%s: %zu rows of words that have one already; the first counts (as of '%s')", in->path,
             in->twice, in->first_twice);
    if (!quiet)
        printf("%s: %zu vectors of %zu numbers; of %zu words %zu have one as they are, %zu in lower case, "
               "%zu none\n", in->path, in->rows, in->width, words, in->exact, in->lowercased,
               words - in->exact - in->lowercased);
}

void read_vectors(const settings *given, corpus *all)
{
    reader in = { 0 };
    if (!given->vectors) return;
    in.path = given->vectors;
    in.known = &all->vocabulary;
    in.to = &all->vectors;
    if (file_kind(in.path, NULL) == FILE_FOLDER || !(in.file = file_open(in.path, "rb")))
        fail("--vectors %s: cannot be read: %s", in.path, in.file ? "" : strerror(errno ? errno : EISDIR));
    in.bytes = (char *)checked_realloc(NULL, in.capacity = BUFFER);
    list_lowered(&in);
    read_rows(&in);
    fclose(in.file);
    report_vectors(&in, given->quiet);
    fill_others(&in, given->model.seed ? given->model.seed : 1);
    if (!by_preset(given, "input.width") && given->input.width != (int)in.width)
        fail_usage("%s %d: the vectors of %s have %zu numbers; leave it out", set_by(given, "input.width"),
                   given->input.width, in.path, in.width);
    free(in.bytes);
    free(in.row);
    free(in.first);
    free(in.next);
    free(in.lowered.slots);
    arrfree(in.lowered.list);
    arrfree(in.fields);
}

/* ---- in the model -------------------------------------------------------------------------------------- */

static double vectors_rate(const settings *given)
{
    double rate = 1;
    const char *text = given->vectors_rate;
    if (text && (!mtl_text_number(text, strlen(text), &rate) || rate < 0 || rate > 1e6))
        fail_usage("--vectors-rate %s: expected a number from 0 (frozen) to 1000000", text);
    return rate;
}

void check_vectors(const settings *given)
{
    if (given->vectors && arrlenu(given->frames))
        fail_usage("--vectors: is for text; --frames are rows of numbers, which are no words");
    if (given->vectors_rate && !given->vectors) fail_usage("--vectors-rate is for --vectors FILE");
    (void)vectors_rate(given);
}

const char *frozen_vectors(const settings *given)
{
    return given->vectors && vectors_rate(given) == 0 ? "*text.weight" : NULL;
}

void apply_vectors(const settings *given, const corpus *all, mtl_model *model)
{
    const mtl_model_desc *desc = mtl_model_describe(model);
    const word_vectors *from = &all->vectors;
    const double rate = vectors_rate(given);
    mtl_error err = { 0 };
    size_t i, k;
    for (i = 0; i < desc->input_count && from->width; i++) {
        const mtl_input_desc *input = &desc->inputs[i];
        char name[160];
        mtl_tensor *table;
        if (strcmp(input->reads ? input->reads : input->name, "text") != 0) continue;
        snprintf(name, sizeof name, "%s.weight", input->name);
        table = mtl_model_tensor(model, name);
        for (k = 0; k < table->count; k++) table->value[k] = from->rows[k];
        if (rate > 0) mtl_model_rate(model, name, (float)rate);
    }
    mtl_model_prepare(model, &err);
    check(&err);
}
