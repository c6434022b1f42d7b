#include "commands.h"

#include "models.h"
#include "options.h"
#include "system.h"

static int write_text(void *user, const void *bytes, size_t count)
{
    return fwrite(bytes, 1, count, (FILE *)user) != count;
}

/* Takes a text to see whether it can be made. */
static int write_nothing(void *user, const void *bytes, size_t count)
{
    (void)user;
    (void)bytes;
    (void)count;
    return 0;
}

/* OUT.h or OUT.c. The caller's memory. */
static char *ending(const char *out, const char *suffix)
{
    const size_t size = strlen(out) + strlen(suffix) + 1;
    char *path = (char *)checked_realloc(NULL, size);
    snprintf(path, size, "%s%s", out, suffix);
    return path;
}

static FILE *create_file(const char *path)
{
    FILE *file = file_open(path, "wb");
    if (!file) fail("%s: cannot be written: %s", path, strerror(errno));
    return file;
}

/* The last part of a path: what the plan is called. */
static const char *name_of(const char *out)
{
    const char *name = out, *at;
    for (at = out; *at; at++)
        if (*at == '/' || *at == '\\') name = at + 1;
    return name;
}

int command_export(const settings *given)
{
    mtl_model *model = load_model(given->model_path);
    const mtl_predictor_desc how = { .logits = given->logits };
    mtl_error err = { 0 };
    char *paths[2] = { ending(given->export_c, ".h"), ending(given->export_c, ".c") };
    const mtl_writer none = { NULL, write_nothing };
    FILE *files[2];
    mtl_writer writers[2];
    size_t i, bytes = mtl_stream_size(model, &how, &err);
    if (err.code) fail("%s: %s", given->model_path, err.message);
    mtl_model_export_c(model, name_of(given->export_c), given->logits, &none, &none, &err);
    if (err.code) fail("--c %s: %s", given->export_c, err.message);     /* before a file is touched */
    for (i = 0; i < 2; i++) {
        check_output(given, paths[i], "--c");
        files[i] = create_file(paths[i]);
        writers[i].user = files[i];
        writers[i].write = write_text;
    }
    mtl_model_export_c(model, name_of(given->export_c), given->logits, &writers[0], &writers[1], &err);
    for (i = 0; i < 2; i++)
        if (fclose(files[i]) && !err.code)
            mtl_error_set(&err, MTL_ERROR_IO, paths[i], -1, "the disk took no more bytes");
    for (i = 0; i < 2 && err.code; i++) file_remove(paths[i]);
    if (err.code) fail("--c %s: %s", given->export_c, err.message);
    if (!given->quiet)
        printf("%s and %s: a stream of %zu bytes here; "
               "mtl_stream_open(buffer, sizeof buffer, &%s, 1, 0, &err)\n",
               paths[0], paths[1], bytes, name_of(given->export_c));
    for (i = 0; i < 2; i++) free(paths[i]);
    mtl_model_destroy(model);
    return 0;
}
