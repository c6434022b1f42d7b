#include "names.h"

#include <stdarg.h>

#include "numbers.h"

void split(char *text, char separator, char ***pieces)
{
    char **list = *pieces;
    size_t count = 0, most = arrcap(list);
    for (;;) {
        char *end = strchr(text, separator);
        if (count == most) {
            arrsetlen(list, count);         /* what arrsetcap keeps */
            arrsetcap(list, most ? 2 * most : 64);
            most = arrcap(list);
        }
        list[count++] = text;
        if (!end) break;
        *end = '\0';
        text = end + 1;
    }
    arrsetlen(list, count);
    *pieces = list;
}

void add_list(char ***list, const char *text)
{
    char *copy = strcpy((char *)checked_realloc(NULL, strlen(text) + 1), text), **pieces = NULL;
    size_t i;
    split(copy, ',', &pieces);
    for (i = 0; i < arrlenu(pieces); i++)
        if (*pieces[i]) arrput(*list, pieces[i]);
    arrfree(pieces);
}

void add_text(char **text, const char *format, ...)
{
    char piece[512];
    va_list arguments;
    size_t length;
    va_start(arguments, format);
    vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    length = strlen(piece);
    if (arrlenu(*text)) arrsetlen(*text, arrlenu(*text) - 1);
    memcpy(arraddnptr(*text, length + 1), piece, length + 1);
}

/* Eight bytes at a time; the last ones overlap those before, so that no byte is taken alone. A multiplication
   spreads the bits upwards, a shift brings them down to where they are used (as wyhash does). */
static uint32_t hash_text(const char *text, size_t length)
{
    uint64_t hash = length, piece = 0;
    uint32_t first, last;
    if (length >= 8) {
        size_t i;
        for (i = 0; i + 8 < length; i += 8) {
            memcpy(&piece, text + i, 8);
            hash = (hash ^ piece) * 0x9e3779b97f4a7c15u;
            hash ^= hash >> 32;
        }
        memcpy(&piece, text + length - 8, 8);
    } else if (length >= 4) {
        memcpy(&first, text, 4);
        memcpy(&last, text + length - 4, 4);
        piece = (uint64_t)last << 32 | first;
    } else if (length) {
        piece = (uint64_t)(unsigned char)text[0] << 16 | (uint64_t)(unsigned char)text[length / 2] << 8 |
                (unsigned char)text[length - 1];
    }
    hash = (hash ^ piece) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(hash >> 32);
}

/* The slot of a string, or the free one where it belongs. text ends in 0. */
static name_slot *names_slot(const names *in, const char *text, uint32_t hash)
{
    size_t mask = in->slot_count - 1, i = hash & mask;
    while (in->slots[i].key && (in->slots[i].hash != hash || strcmp(in->slots[i].key, text) != 0)) i = (i + 1)
        & mask;
    return &in->slots[i];
}

ptrdiff_t names_find(const names *in, const char *text)
{
    const name_slot *slot = in->slot_count ? names_slot(in, text, hash_text(text, strlen(text))) : NULL;
    return slot && slot->key ? (ptrdiff_t)slot->number : -1;
}

void names_expect(const names *in, const char *text, size_t length)
{
#if defined(__GNUC__) || defined(__clang__)
    if (in->slot_count) __builtin_prefetch(&in->slots[hash_text(text, length) & (in->slot_count - 1)]);
#else
    (void)in, (void)text, (void)length;
#endif
}

static void names_grow(names *in)
{
    name_slot *old = in->slots;
    size_t count = in->slot_count, i, k;
    in->slot_count = count ? 2 * count : 64;
    in->slots = (name_slot *)checked_realloc(NULL, in->slot_count * sizeof *in->slots);
    memset(in->slots, 0, in->slot_count * sizeof *in->slots);
    for (i = 0; i < count; i++) {
        if (!old[i].key) continue;
        for (k = old[i].hash & (in->slot_count - 1); in->slots[k].key;) k = (k + 1) & (in->slot_count - 1);
        in->slots[k] = old[i];
    }
    free(old);
}

/* A copy of a string that lives until the program ends. */
static const char *names_keep(names *in, const char *text, size_t length)
{
    enum { ROOM = 1 << 16 };
    char *copy;
    if (in->room_bytes <= length) {
        in->room_bytes = length < ROOM ? ROOM : length + 1;
        in->room = (char *)checked_realloc(NULL, in->room_bytes);
    }
    copy = in->room;
    memcpy(copy, text, length + 1);
    in->room += length + 1;
    in->room_bytes -= length + 1;
    return copy;
}

size_t names_add(names *in, const char *text, size_t length)
{
    uint32_t hash = hash_text(text, length);
    name added = { 0 };
    name_slot *slot;
    if (2 * arrlenu(in->list) >= in->slot_count) names_grow(in);
    slot = names_slot(in, text, hash);
    if (!slot->key) {
        slot->key = added.key = names_keep(in, text, length);
        slot->hash = hash;
        slot->number = (uint32_t)arrlenu(in->list);
        arrput(in->list, added);
    }
    return slot->number;
}

const char **name_list(const names *of)
{
    const char **list = NULL;
    size_t i;
    for (i = 0; i < arrlenu(of->list); i++) arrput(list, of->list[i].key);
    return list;
}

/* Number of insertions, deletions and replacements of a byte that turn a into b (Levenshtein 1966); long
   names are cut. */
static size_t edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 63 };
    size_t row[LONGEST + 1], rows = strlen(a), columns = strlen(b), i, j;
    if (rows > LONGEST) rows = LONGEST;
    if (columns > LONGEST) columns = LONGEST;
    for (j = 0; j <= columns; j++) row[j] = j;
    for (i = 1; i <= rows; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (j = 1; j <= columns; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[columns];
}

const char *nearest_name(const char *wrong, const char *const *candidates)
{
    size_t i, length = strlen(wrong), best_distance = SIZE_MAX;
    const char *best = NULL;
    for (i = 0; i < arrlenu(candidates); i++) {
        size_t distance = edit_distance(wrong, candidates[i]);
        if (!*candidates[i] || (is_number(candidates[i]) && !is_number(wrong))) continue;
        if (distance < best_distance) best_distance = distance, best = candidates[i];
    }
    return best_distance < length && best_distance <= 1 + length / 3 ? best : NULL;
}

const char *suggestion(const char *wrong, const char *const *candidates)
{
    static char text[600];
    const char *nearest = nearest_name(wrong, candidates);
    size_t i, used = 0, count = arrlenu(candidates);
    text[0] = '\0';
    if (nearest) snprintf(text, sizeof text, "; did you mean %s?", nearest);
    for (i = 0; i < count && !nearest && count <= 40; i++) {
        if (!*candidates[i]) continue;
        if (used + strlen(candidates[i]) + 8 > sizeof text) return strcat(text, ", ...");
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? ", " : "; expected ",
                                 candidates[i]);
    }
    return text;
}

int same_texts(const char *const *a, const char *const *b, size_t count)
{
    size_t i;
    for (i = 0; a && b && i < count; i++)
        if (strcmp(a[i], b[i]) != 0) return 0;
    return !a == !b;
}
