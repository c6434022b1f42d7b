#include "parts.h"

#include "arrays.h"

const word_part word_parts[WORD_PARTS] = {
    { "characters", 0, MTL_PART_WORD,   0, 2 },
    { "prefix2",    1, MTL_PART_PREFIX, 2, 3 },
    { "prefix3",    1, MTL_PART_PREFIX, 3, 3 },
    { "suffix2",    1, MTL_PART_SUFFIX, 2, 3 },
    { "suffix3",    1, MTL_PART_SUFFIX, 3, 3 },
    { "shape",      1, MTL_PART_SHAPE,  0, 3 },
};

int is_input_name(const char *text)
{
    size_t i;
    for (i = 0; i < WORD_PARTS; i++)
        if (strcmp(text, word_parts[i].name) == 0) return 1;
    return strcmp(text, "text") == 0 || strcmp(text, "frames") == 0 || strcmp(text, "gazetteer") == 0;
}
