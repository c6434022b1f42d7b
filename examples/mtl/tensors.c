#include "tensors.h"

#include "json.h"
#include "models.h"
#include "system.h"

static const char *const type_names[MTL_TYPE_COUNT] = { "F32", "F64", "F16", "BF16", "I64", "I32", "I16",
    "I8", "U8", "BOOL", "U16", "U32", "U64", "F8_E4M3", "F8_E5M2", "C64", "another" };

/* 1 when the file begins as torch.save writes: a zip archive, or before PyTorch 1.6 a pickle. */
static int is_pickled(const char *path)
{
    unsigned char begin[2] = { 0 };
    FILE *file = file_open(path, "rb");
    size_t got = file ? fread(begin, 1, sizeof begin, file) : 0;
    if (file) fclose(file);
    if (got < sizeof begin) return 0;
    return (begin[0] == 'P' && begin[1] == 'K') || (begin[0] == 0x80 && begin[1] < 6);
}

void open_tensors(const char *path, mtl_safetensors *file)
{
    mtl_error err = { 0 };
    if (file_kind(path, NULL) == FILE_FOLDER) fail("%s: is a directory; expected a safetensors file", path);
    if (!mtl_safetensors_open(file, path, &err)) return;
    if (is_pickled(path))
        fail("%s: is written by torch.save, which only Python reads; save the weights with "
             "safetensors.torch.save_file(model.state_dict(), \"FILE.safetensors\")", path);
    fail_model(path, &err);
}

const char *shape_text(const mtl_safetensor *of, char *out)
{
    int i;
    size_t used = 0;
    strcpy(out, "one number");
    for (i = 0; i < of->dims && used < 160; i++)
        used += (size_t)snprintf(out + used, 160 - used, "%s%zu", i ? "x" : "", of->shape[i]);
    return out;
}

void print_tensors(const mtl_safetensors *file)
{
    size_t i;
    char shape[160];
    for (i = 0; i < file->count; i++)
        printf("  %-36s %-5s %s\n", file->tensors[i].name, type_names[file->tensors[i].type],
               shape_text(&file->tensors[i], shape));
}

void print_metadata(const mtl_safetensors *file)
{
    size_t i;
    if (file->metadata_count) printf("metadata\n");
    for (i = 0; i < file->metadata_count; i++) {
        const char *value = file->metadata[2 * i + 1];
        const size_t most = 60, valid = strlen(value) > most ? mtl_text_valid(value, most) : strlen(value);
        printf("  %s=%.*s%s\n", file->metadata[2 * i], (int)valid, value, value[valid] ? "..." : "");
    }
}

void json_tensors(const mtl_safetensors *file)
{
    size_t i;
    int k;
    putchar('[');
    for (i = 0; i < file->count; i++) {
        const mtl_safetensor *of = &file->tensors[i];
        int first = 1;
        printf(i ? ", {" : "{");
        json_key(stdout, &first, "name");
        json_string(stdout, of->name);
        printf(", \"type\": \"%s\", \"shape\": [", type_names[of->type]);
        for (k = 0; k < of->dims; k++) printf("%s%zu", k ? ", " : "", of->shape[k]);
        printf("]}");
    }
    putchar(']');
}

void json_metadata(const mtl_safetensors *file)
{
    size_t i;
    int first = 1;
    putchar('{');
    for (i = 0; i < file->metadata_count; i++) {
        json_key(stdout, &first, file->metadata[2 * i]);
        json_string(stdout, file->metadata[2 * i + 1]);
    }
    putchar('}');
}

/* ---- mappings ---------------------------------------------------------------------------------------- */

mtl_import *read_mappings(char **texts)
{
    mtl_import *mappings = NULL;
    size_t i;
    for (i = 0; i < arrlenu(texts); i++) {
        char *copy = strcpy((char *)checked_realloc(NULL, strlen(texts[i]) + 1), texts[i]);
        char *equals = strchr(copy, '='), *star;
        mtl_import added;
        if (!equals)
            fail_usage("--map %s: expected FROM=TO: what names begin with in the file, and in the model, "
                       "e.g. lstm.=encoder.", copy);
        *equals = '\0';
        added.from = copy;
        added.to = equals + 1;
        if (((star = strchr(copy, '*')) && strchr(star + 1, '*')) ||
            ((star = strchr(equals + 1, '*')) && strchr(star + 1, '*')))
            fail_usage("--map %s: a name has at most one '*'", texts[i]);
        arrput(mappings, added);
    }
    return mappings;
}

int source_name(const mtl_import *mappings, const char *name, char *out)
{
    size_t i;
    for (i = 0; i < arrlenu(mappings); i++) {
        const char *to = mappings[i].to, *from = mappings[i].from;
        const size_t begin = strcspn(to, "*"), head = strcspn(from, "*"), all = strlen(name);
        const size_t end = to[begin] ? strlen(to + begin + 1) : 0;
        if (all < begin + end || strncmp(name, to, begin) != 0) continue;
        if (end && strcmp(name + all - end, to + begin + 1) != 0) continue;
        snprintf(out, 512, "%.*s%.*s%s", (int)head, from, (int)(all - begin - end), name + begin,
                 from[head] ? from + head + 1 : "");
        return (int)i;
    }
    return -1;
}

const mtl_safetensor *find_source(const mtl_safetensors *file, const mtl_import *mappings, const char *name)
{
    char source[512];
    return source_name(mappings, name, source) < 0 ? NULL : mtl_safetensors_find(file, source);
}

const char *mapping_suggestion(const mtl_safetensors *file, const char *name, size_t columns)
{
    static char text[700];
    const char *rest = strrchr(name, '.');
    char shape[160];
    size_t i;
    text[0] = '\0';
    for (i = 0; rest && i < file->count && !*text; i++) {
        const mtl_safetensor *of = &file->tensors[i];
        const size_t length = strlen(of->name), end = strlen(rest + 1), owner = length - end;
        if (length < end || strcmp(of->name + owner, rest + 1) != 0) continue;
        if ((owner && of->name[owner - 1] != '.') || of->dims != 2) continue;
        if (columns && of->shape[1] != columns) continue;
        snprintf(text, sizeof text, "; the file has %.150s (%s): --map %.*s=%.*s", of->name,
                 shape_text(of, shape), (int)(owner < 150 ? owner : 150), of->name, (int)(rest + 1 - name),
                 name);
    }
    return text;
}
