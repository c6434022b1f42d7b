/* Section 12: UTF-8, normalisation, JSON, vocabulary, safetensors, saving with messages. */
#ifdef MTL__FILES_POSIX
#  include <dirent.h>
#endif

/* ---- text ---- */

static void test_formats_utf8(void **state)
{
    static const struct { const char *text; size_t valid; } cases[] = {
        { "", 0 }, { "abc", 3 }, { "\xc3\xa9", 2 }, { "\xe2\x82\xac", 3 }, { "\xf0\x9f\x98\x80", 4 },
            { "\xf4\x8f\xbf\xbf", 4 },
        { "a\x80", 1 }, { "a\xc0\x80", 1 }, { "a\xc1\xbf", 1 }, { "\xe0\x9f\xbf", 0 }, { "\xe0\xa0\x80", 3 },
        { "\xed\x9f\xbf", 3 },
        { "\xed\xa0\x80", 0 }, { "\xf0\x8f\xbf\xbf", 0 }, { "\xf4\x90\x80\x80", 0 },
            { "\xf8\x88\x80\x80\x80", 0 }, { "\xff", 0 },
        { "ab\xc3", 2 }, { "ab\xe2\x82", 2 }, { "ab\xf0\x9f\x98", 2 }, { "\xc3\x28", 0 } };
    size_t i;
    (void)state;
    for (i = 0; i < MTL__COUNT(cases); i++)
        assert_int_equal(mtl_text_valid(cases[i].text, strlen(cases[i].text)), cases[i].valid);
    assert_int_equal(mtl_text_valid("a\0b", 3), 3);
    for (i = 0; i < 0x110000; i++) {                    /* every character, there and back */
        char bytes[4];
        uint32_t character = 0;
        size_t count = mtl__utf8_encode((uint32_t)i, bytes);
        int surrogate = i >= 0xd800 && i <= 0xdfff;
        assert_int_equal(mtl__utf8_decode(bytes, count, &character), surrogate ? 0 : count);
        assert_int_equal(character, i);
    }
}

static const char *formats_normalise(const char *word, int lowercase, int digits)
{
    static char out[128];
    size_t length = mtl_text_normalise(word, strlen(word), lowercase, digits, out, sizeof out);
    assert_int_equal(length, strlen(out));
    return out;
}

static void test_formats_normalise(void **state)
{
    char out[8];
    size_t size;
    (void)state;
    assert_string_equal(formats_normalise("Hello World 2024!", 0, 0), "Hello World 2024!");
    assert_string_equal(formats_normalise("Hello World 2024!", 1, 0), "hello world 2024!");
    assert_string_equal(formats_normalise("Hello 2024", 0, 1), "Hello 0000");
    assert_string_equal(formats_normalise("\xc3\x84\xc3\x96\xc3\x9c\xc3\x9f \xc3\x97 \xc3\x9e", 1, 0),
                        "\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f \xc3\x97 \xc3\xbe");
    assert_string_equal(formats_normalise("\xc5\x81\xc3\x93\xc5\xb9 \xc4\xb0 \xc5\xb8", 1, 0),
                        "\xc5\x82\xc3\xb3\xc5\xba i \xc3\xbf");
    assert_string_equal(formats_normalise("\xce\x91\xce\x98\xce\x97\xce\x9d\xce\x86 \xce\xa3", 1, 0),
                        "\xce\xb1\xce\xb8\xce\xb7\xce\xbd\xce\xac \xcf\x83");
    assert_string_equal(formats_normalise("\xd0\x9c\xd0\x9e\xd0\xa1\xd0\x9a\xd0\x92\xd0\x90 \xd0\x81", 1, 0),
                        "\xd0\xbc\xd0\xbe\xd1\x81\xd0\xba\xd0\xb2\xd0\xb0 \xd1\x91");
    /* Vietnamese, capital sharp s */
    assert_string_equal(formats_normalise("\xe1\xba\xa4 \xe1\xba\x9e \xc6\xa0", 1, 0),
                        "\xe1\xba\xa5 \xc3\x9f \xc6\xa1");
    assert_string_equal(formats_normalise("\xf0\x9f\x98\x80 \xe6\x97\xa5", 1, 1),
                        "\xf0\x9f\x98\x80 \xe6\x97\xa5");
    assert_string_equal(formats_normalise("A\xff" "B\xc3", 1, 1), "a\xff" "b\xc3");
    for (size = 0; size < sizeof out; size++) {         /* whole characters that fit, always a 0 */
        static const char *const cut[] = { "", "", "a", "a", "a\xc3\xa9", "a\xc3\xa9" "b", "a\xc3\xa9" "b",
            "a\xc3\xa9" "b" };
        memset(out, '#', sizeof out);
        assert_int_equal(mtl_text_normalise("A\xc3\x89" "B\xc3\x89", 6, 1, 0, out, size), 6);
        if (size) assert_string_equal(out, size == 7 ? "a\xc3\xa9" "b\xc3\xa9" : cut[size]);
        assert_true(size == sizeof out || out[size] == '#');
    }
}

static void test_formats_lowercase_all(void **state)
{
    uint32_t c, capitals = 0;
    (void)state;
    for (c = 0; c < 0x110000; c++) {
        uint32_t small = mtl__lowercase(c);
        char a[4], b[4];
        assert_int_equal(mtl__lowercase(small), small);
        assert_true(mtl__utf8_encode(small, a) <= 2 * mtl__utf8_encode(c, b));
        capitals += small != c;
    }
    assert_int_equal(capitals, 495);                    /* the table, compared with Python's str.lower when it
                                                           was made */
}

/* ---- writing JSON ---- */

static void *formats_allocate(void *user, size_t bytes)
{
    int *left = (int *)user;
    return (*left)-- > 0 ? malloc(bytes) : NULL;
}
static void formats_release(void *user, void *memory)
{
    (void)user;
    free(memory);
}

static void formats_document(mtl__text *text)
{
    int i;
    mtl__json_open(text, '{');
    mtl__json_key(text, "a\"b\\c");
    mtl__json_add_text(text, "tab\t newline\n bell\x07 del\x7f \xe2\x82\xac");
    mtl__json_key(text, "list");
    mtl__json_open(text, '[');
    mtl__json_add_number(text, -1.5);
    mtl__json_add_whole(text, 18446744073709551615ull);
    mtl__json_open(text, '{');
    mtl__json_close(text, '}');
    mtl__json_add_text(text, "[");
    for (i = 0; i < 300; i++) mtl__json_add_whole(text, 7);
    mtl__json_close(text, ']');
    mtl__json_key(text, "end");
    mtl__json_add_whole(text, 0);
    mtl__json_close(text, '}');
}

static void test_formats_json_write(void **state)
{
    static const char start[] =
        "{\"a\\\"b\\\\c\":\"tab\\u0009 newline\\u000a bell\\u0007 del\\u007f \xe2\x82\xac\","
                                "\"list\":[-1.5,18446744073709551615,{},\"[\",7,7,";
    static const char end[] = "7,7],\"end\":0}";
    mtl__text text;
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    mtl__text_init(&text, NULL);
    formats_document(&text);
    assert_int_equal(mtl__text_check(&text, "test", &err), MTL_OK);
    assert_memory_equal(text.data, start, strlen(start));
    assert_string_equal(text.data + text.length - strlen(end), end);
    mtl__text_free(&text);
}

/* What JSON cannot hold: infinity becomes null, text that is not UTF-8 an error. */
static void test_formats_json_write_bad(void **state)
{
    const uint64_t infinity = (uint64_t)0x7ff << 52;
    double value;
    mtl__text text;
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    memcpy(&value, &infinity, sizeof value);
    mtl__text_init(&text, NULL);
    mtl__json_add_number(&text, value);
    assert_string_equal(text.data, "null");
    mtl__json_add_text(&text, "a\xff");
    assert_int_equal(mtl__text_check(&text, "test", &err), MTL_ERROR_TEXT);
    mtl__text_free(&text);
}

static void test_formats_json_write_memory(void **state)
{
    int most;
    (void)state;
    for (most = 0; most < 8; most++) {
        int left = most, code;
        mtl_allocator allocator;
        mtl__text text;
        mtl_error err;
        mtl_error_clear(&err);
        allocator.user = &left;
        allocator.allocate = formats_allocate;
        allocator.release = formats_release;
        mtl__text_init(&text, &allocator);
        formats_document(&text);
        code = mtl__text_check(&text, "test", &err);
        mtl__text_free(&text);
        if (code == MTL_OK) break;
        assert_int_equal(code, MTL_ERROR_MEMORY);
    }
    assert_in_range(most, 2, 7);
}

/* ---- reading JSON ---- */

/* Reads a text that lies in memory of exactly its size, so that the sanitizer sees a byte read beyond it. */
static int formats_parse(const char *text, size_t length, mtl_error *err)
{
    mtl_arena arena;
    char *copy = (char *)malloc(length ? length : 1);
    if (length) memcpy(copy, text, length);
    mtl_error_clear(err);
    mtl_arena_init(&arena, NULL, 0, NULL);
    assert_true((mtl__json_parse(copy, length, "test", 0, &arena, err) != NULL) == (err->code == MTL_OK));
    mtl_arena_destroy(&arena);
    free(copy);
    return err->code;
}

static void test_formats_json_read(void **state)
{
    static const char text[] = " {\"n\": -12.5e1, \"i\": 7, \"t\": \"a\\u00e9\\n\\ud83d\\ude00\\/\","
                               " \"f\": [true, false, null, [], {}],"
                               " \"seed\": 18446744073709551615, \"z\": \"a\\u0000b\", \"i\": 8}\r\n\t ";
    mtl_arena arena;
    mtl_error err;
    const mtl__json *root, *list;
    (void)state;
    mtl_error_clear(&err);
    mtl_arena_init(&arena, NULL, 0, NULL);
    root = mtl__json_parse(text, strlen(text), "test", 100, &arena, &err);
    assert_non_null(root);
    assert_int_equal(mtl__json_count(root), 7);
    assert_true(mtl__json_number(mtl__json_get(root, "n"), "n", &err) + 125 == 0);
    assert_int_equal(mtl__json_int(mtl__json_get(root, "i"), "i", 0, 8, &err), 8);         /* the later one */
    assert_string_equal(mtl__json_text(mtl__json_get(root, "t"), "t", &err), "a\xc3\xa9\n\xf0\x9f\x98\x80/");
    assert_true(mtl__json_whole(mtl__json_get(root, "seed"), "seed", ~0ull, &err) == ~0ull);
    list = mtl__json_get(root, "f");
    assert_int_equal(mtl__json_count(list), 5);
    assert_int_equal(mtl__json_at(list, 0)->type, MTL__JSON_FLAG);
    assert_true(mtl__json_at(list, 0)->number > 0.5 && mtl__json_at(list, 1)->number < 0.5);
    assert_int_equal(mtl__json_at(list, 2)->type, MTL__JSON_NULL);
    assert_int_equal(mtl__json_count(mtl__json_at(list, 4)), 0);
    assert_null(mtl__json_at(list, 5));
    assert_null(mtl__json_get(list, "f"));
    assert_null(mtl__json_get(NULL, "f"));
    assert_int_equal(mtl__json_count(NULL), 0);
    assert_int_equal(mtl__json_get(root, "n")->offset, 107);
    assert_int_equal(err.code, MTL_OK);
    mtl__json_text(mtl__json_get(root, "z"), "z", &err);
    assert_int_equal(err.code, MTL_ERROR_FORMAT);
    assert_string_equal(err.name, "z");
    mtl_arena_destroy(&arena);
}

static void test_formats_json_getters_refuse(void **state)
{
    static const char text[] =
        "{\"a\": \"x\", \"b\": 1.5, \"c\": -1, \"d\": 256, \"e\": 1e2, \"f\": 18446744073709551616}";
    mtl_arena arena;
    mtl_error err;
    const mtl__json *root;
    (void)state;
    mtl_error_clear(&err);
    mtl_arena_init(&arena, NULL, 0, NULL);
    root = mtl__json_parse(text, strlen(text), "test", 0, &arena, &err);
    assert_non_null(root);
#define FORMATS_REFUSED(call) (void)(call); assert_int_equal(err.code, \
    MTL_ERROR_FORMAT); mtl_error_clear(&err)
    FORMATS_REFUSED(mtl__json_number(mtl__json_get(root, "a"), "a", &err));
    FORMATS_REFUSED(mtl__json_number(mtl__json_get(root, "missing"), "missing", &err));
    FORMATS_REFUSED(mtl__json_text(mtl__json_get(root, "b"), "b", &err));
    FORMATS_REFUSED(mtl__json_int(mtl__json_get(root, "b"), "b", 0, 10, &err));
    FORMATS_REFUSED(mtl__json_int(mtl__json_get(root, "c"), "c", 0, 10, &err));
    FORMATS_REFUSED(mtl__json_whole(mtl__json_get(root, "b"), "b", 10, &err));
    FORMATS_REFUSED(mtl__json_whole(mtl__json_get(root, "c"), "c", 10, &err));
    FORMATS_REFUSED(mtl__json_whole(mtl__json_get(root, "d"), "d", 255, &err));
    FORMATS_REFUSED(mtl__json_whole(mtl__json_get(root, "e"), "e", 255, &err));
    FORMATS_REFUSED(mtl__json_whole(mtl__json_get(root, "f"), "f", ~0ull, &err));
#undef FORMATS_REFUSED
    assert_int_equal(mtl__json_whole(mtl__json_get(root, "d"), "d", 256, &err), 256);
    assert_int_equal(err.code, MTL_OK);
    mtl_arena_destroy(&arena);
}

static void test_formats_json_errors(void **state)
{
    static const struct { const char *text; int position; } cases[] = {
        { "", 0 }, { "  ", 2 }, { "[1,]", 3 }, { "[1 2]", 3 }, { "{\"a\" 1}", 5 }, { "{a:1}", 1 },
            { "[1}", 2 }, { "01", 1 },
        { "\"abc", 4 }, { "\"a\tb\"", 2 }, { "\"\xff\"", 1 }, { "\"\\x\"", 2 }, { "\"\\ud800\"", 7 },
            { "\"\\u12g4\"", 5 },
        { "1e999", 0 }, { "nul", 0 }, { "1 1", 2 }, { "-", 1 }, { "1.", 2 }, { "1e", 2 }, { "[", 1 },
            { "{\"a\":1,}", 7 } };
    size_t i;
    mtl_error err;
    (void)state;
    for (i = 0; i < MTL__COUNT(cases); i++) {
        assert_int_equal(formats_parse(cases[i].text, strlen(cases[i].text), &err), MTL_ERROR_FORMAT);
        if (err.position != cases[i].position) fail_msg("'%s': %s", cases[i].text, err.message);
    }
}

static void test_formats_json_deep(void **state)
{
    const size_t depth = 200000;
    char *text = (char *)malloc(2 * depth);
    mtl_error err;
    (void)state;
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    assert_int_equal(formats_parse(text, 2 * depth, &err), MTL_OK);
    assert_int_equal(formats_parse(text, 2 * depth - 1, &err), MTL_ERROR_FORMAT);
    assert_int_equal(formats_parse(text, depth, &err), MTL_ERROR_FORMAT);
    free(text);
}

static void test_formats_json_damaged(void **state)
{
    static const char text[] =
        "{\"a\":[1,-2.5e+3,true,{\"b\":null}],\"\\u00e9\\ud83d\\ude00\":\"x\xc3\xa9\\n\"}";
    char damaged[sizeof text];
    size_t i, length = sizeof text - 1;
    int bit;
    mtl_error err;
    (void)state;
    assert_int_equal(formats_parse(text, length, &err), MTL_OK);
    for (i = 0; i < length; i++) {
        assert_int_equal(formats_parse(text, i, &err), MTL_ERROR_FORMAT);
        for (bit = 0; bit < 8; bit++) {
            memcpy(damaged, text, sizeof text);
            damaged[i] = (char)(damaged[i] ^ 1 << bit);
            formats_parse(damaged, length, &err);       /* either way, but no byte beyond */
        }
    }
}

static void test_formats_json_memory(void **state)
{
    static const char text[] =
        "{\"a\":[1,[2,3],\"x\"],\"b\":{\"c\":[]},\"d\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}";
    long long push;
    (void)state;
    for (push = 1; push < 100; push++) {
        mtl_arena arena;
        mtl_error err;
        const mtl__json *root;
        mtl_error_clear(&err);
        mtl_arena_init(&arena, NULL, 0, NULL);
        mtl_arena_fail_next(&arena, push);
        root = mtl__json_parse(text, strlen(text), "test", 0, &arena, &err);
        mtl_arena_destroy(&arena);
        if (root) break;
        assert_int_equal(err.code, MTL_ERROR_MEMORY);
    }
    assert_in_range(push, 5, 99);
}

#ifdef MTL__FILES_POSIX
static int formats_suite_file(const char *folder, const char *name)
{
    char path[512];
    mtl__file_view view;
    mtl_error err;
    int code;
    mtl_error_clear(&err);
    assert_int_equal(mtl__file_map(&view, mtl__print(path, sizeof path, "%s/%s", folder, name), &err),
                     MTL_OK);
    code = formats_parse((const char *)view.bytes, view.count, &err);
    mtl__file_unmap(&view);
    if (name[0] == 'y' && code != MTL_OK) fail_msg("%s was refused: %s", name, err.message);
    if (name[0] == 'n' && code != MTL_ERROR_FORMAT) fail_msg("%s was accepted", name);
    return name[0] == 'y' || name[0] == 'n';
}

/* github.com/nst/JSONTestSuite: y_ must be accepted, n_ refused, i_ either. */
static void test_formats_json_suite(void **state)
{
    const char *data = getenv("MTL_DATA");
    char folder[400];
    struct dirent *entry;
    DIR *list;
    int files = 0;
    (void)state;
    list = opendir(mtl__print(folder, sizeof folder, "%s/json_test_suite/test_parsing", data
                              ? data : "../shared/data"));
    if (!list) skip();
    while ((entry = readdir(list)) != NULL)
        if (strstr(entry->d_name, ".json")) files += formats_suite_file(folder, entry->d_name);
    closedir(list);
    assert_true(files > 250);
}
#else
static void test_formats_json_suite(void **state) { (void)state; skip(); }
#endif

/* ---- vocabulary ---- */

static void test_formats_vocabulary(void **state)
{
    enum { WORDS = 5000 };
    static char text[WORDS][8];
    static const char *words[WORDS];
    mtl__vocabulary vocabulary;
    mtl_arena arena;
    mtl_error err;
    int i;
    (void)state;
    mtl_error_clear(&err);
    mtl_arena_init(&arena, NULL, 0, NULL);
    for (i = 0; i < WORDS; i++) words[i] = mtl__print(text[i], sizeof text[i], "w%d", i);
    words[17] = "";
    assert_int_equal(mtl__vocabulary_init(&vocabulary, words, WORDS, &arena, &err), MTL_OK);
    assert_int_equal(vocabulary.count, WORDS);
    for (i = 0; i < WORDS; i++) assert_int_equal(mtl__vocabulary_find(&vocabulary, words[i],
                                                                      strlen(words[i])), i);
    assert_int_equal(mtl__vocabulary_find(&vocabulary, "w5000", 5), -1);
    assert_int_equal(mtl__vocabulary_find(&vocabulary, "w12x", 3), 12);
    assert_int_equal(mtl__vocabulary_find(&vocabulary, "w1\0", 3), -1);
    words[4999] = "w12";
    assert_int_equal(mtl__vocabulary_init(&vocabulary, words, WORDS, &arena, &err), MTL_ERROR_TEXT);
    assert_int_equal(err.position, 4999);
    assert_string_equal(err.name, "w12");
    mtl_error_clear(&err);
    assert_int_equal(mtl__vocabulary_init(&vocabulary, NULL, 0, &arena, &err), MTL_OK);
    assert_int_equal(mtl__vocabulary_find(&vocabulary, "w1", 2), -1);
    mtl_arena_destroy(&arena);
}

/* ---- safetensors ---- */

/* A writer into a growing text, for files in memory. */
static int formats_write(void *user, const void *bytes, size_t count)
{
    mtl__text *text = (mtl__text *)user;
    mtl__text_append(text, (const char *)bytes, count);
    return text->failed;
}

static const float formats_a[6] = { 1, -2, 3.5f, 0, 1e-3f, 1e30f };
static const double formats_b[2] = { 0.1, -1e30 };
static const unsigned char formats_c[5] = { 0, 1, 2, 254, 255 };
static const char *const formats_metadata[] = { "config", "{\"x\": \"\xc3\xa9\\n\"}", "", "empty key" };

static size_t formats_entries(mtl__tensor_entry *entries)
{
    memset(entries, 0, 4 * sizeof *entries);
    entries[0].name = "a.weight";
    entries[0].type = MTL_TYPE_F32;
    entries[0].dims = 2;
    entries[0].shape[0] = 2;
    entries[0].shape[1] = 3;
    entries[0].data = formats_a;
    entries[1].name = "b \"quoted\"";
    entries[1].type = MTL_TYPE_F64;
    entries[1].dims = 1;
    entries[1].shape[0] = 2;
    entries[1].data = formats_b;
    entries[2].name = "nothing";
    entries[2].type = MTL_TYPE_I32;
    entries[2].dims = 2;
    entries[2].shape[1] = 7;
    entries[2].data = NULL;
    entries[3].name = "c";
    entries[3].type = MTL_TYPE_U8;
    entries[3].dims = 3;
    entries[3].shape[0] = 1;
    entries[3].shape[1] = 5;
    entries[3].shape[2] = 1;
    entries[3].data = formats_c;
    return 4;
}

static mtl__text formats_file(void)
{
    mtl__tensor_entry entries[4];
    mtl__text text;
    mtl_writer writer;
    mtl_error err;
    mtl_error_clear(&err);
    mtl__text_init(&text, NULL);
    writer.user = &text;
    writer.write = formats_write;
    assert_int_equal(mtl__safetensors_write(entries, formats_entries(entries), formats_metadata, 2, &writer,
                                            NULL,
                                            &err), MTL_OK);
    return text;
}

static void formats_check_file(const mtl_safetensors *file)
{
    const mtl_safetensor *tensor = mtl_safetensors_find(file, "a.weight");
    mtl_real values[6];
    mtl_error err;
    int i;
    mtl_error_clear(&err);
    assert_int_equal(file->count, 4);
    assert_non_null(tensor);
    assert_int_equal(tensor->dims, 2);
    assert_int_equal(tensor->shape[0], 2);
    assert_int_equal(tensor->shape[1], 3);
    assert_int_equal(tensor->count, 6);
    assert_int_equal(mtl_safetensor_values(tensor, values, &err), MTL_OK);
    for (i = 0; i < 6; i++) assert_true(values[i] == (mtl_real)formats_a[i]);
    tensor = mtl_safetensors_find(file, "b \"quoted\"");
    assert_non_null(tensor);
    assert_int_equal(mtl_safetensor_values(tensor, values, &err), MTL_OK);
    for (i = 0; i < 2; i++) assert_true(values[i] == (mtl_real)formats_b[i]);
    tensor = mtl_safetensors_find(file, "c");
    assert_non_null(tensor);
    assert_memory_equal(tensor->data, formats_c, 5);
    assert_int_equal(mtl_safetensor_values(tensor, values, &err), MTL_ERROR_TENSOR);
    assert_string_equal(err.name, "c");
    assert_int_equal(mtl_safetensors_find(file, "nothing")->count, 0);
    assert_null(mtl_safetensors_find(file, "d"));
    assert_string_equal(mtl_safetensors_metadata(file, "config"), formats_metadata[1]);
    assert_string_equal(mtl_safetensors_metadata(file, ""), "empty key");
    assert_null(mtl_safetensors_metadata(file, "x"));
}

static void test_formats_safetensors(void **state)
{
    mtl__text text = formats_file();
    mtl_safetensors file;
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    assert_int_equal(mtl_safetensors_open_memory(&file, text.data, text.length, &err), MTL_OK);
    formats_check_file(&file);
    assert_int_equal(((const char *)mtl_safetensors_find(&file, "a.weight")->data - text.data) % 64, 0);
    mtl_safetensors_close(&file);
    mtl_safetensors_close(&file);                       /* closing twice is harmless */
    mtl_safetensors_close(NULL);
    mtl__text_free(&text);
}

static void test_formats_safetensors_path(void **state)
{
    mtl__tensor_entry entries[4];
    mtl__file_writer saving;
    mtl_writer writer;
    mtl_safetensors file;
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    assert_int_equal(mtl__file_save_begin(platform_path("s"), &writer, &saving, &err), MTL_OK);
    mtl__safetensors_write(entries, formats_entries(entries), formats_metadata, 2, &writer, NULL, &err);
    assert_int_equal(mtl__file_save_end(platform_path("s"), &saving, &err), MTL_OK);
    assert_int_equal(mtl_safetensors_open(&file, platform_path("s"), &err), MTL_OK);
    formats_check_file(&file);
    mtl_safetensors_close(&file);
    remove(platform_path("s"));
    assert_int_equal(mtl_safetensors_open(&file, platform_path("s"), &err), MTL_ERROR_IO);
    assert_int_equal(mtl_safetensors_open(&file, platform_path("s"), &err), MTL_ERROR_IO);  /* sticky */
    mtl_safetensors_close(&file);
    assert_int_equal(mtl_safetensors_open(&file, NULL, NULL), MTL_ERROR_ARGUMENT);
    assert_int_equal(mtl_safetensors_open(NULL, "x", NULL), MTL_ERROR_ARGUMENT);
    assert_int_equal(mtl_safetensors_open_memory(&file, NULL, 9, NULL), MTL_ERROR_ARGUMENT);
}

/* Whatever opens must be safe to use: every value is read. */
static void formats_use(const mtl_safetensors *file, const unsigned char *bytes, size_t count)
{
    size_t i, j, sum = 0;
    for (i = 0; i < file->count; i++) {
        const mtl_safetensor *tensor = &file->tensors[i];
        const unsigned char *data = (const unsigned char *)tensor->data;
        size_t elements = 1, size;
        assert_in_range(tensor->type, 0, MTL_TYPE_COUNT - 1);
        assert_in_range(tensor->dims, 0, 8);
        size = mtl__types[tensor->type].bytes;
        for (j = 0; j < (size_t)tensor->dims; j++) elements *= tensor->shape[j];
        assert_int_equal(elements, tensor->count);
        assert_true(data >= bytes && (size_t)(data - bytes) <= count &&
                    tensor->count * size <= count - (size_t)(data - bytes));
        for (j = 0; j < tensor->count * size; j++) sum += data[j];
        assert_ptr_equal(mtl_safetensors_find(file, tensor->name), tensor);
        sum += mtl_text_valid(tensor->name, strlen(tensor->name));
    }
    for (i = 0; i < 2 * file->metadata_count; i++) sum += strlen(file->metadata[i]);
    assert_true(sum + 1 > 0);
}

static int formats_open(const unsigned char *bytes, size_t count, mtl_error *err)
{
    unsigned char *copy = (unsigned char *)malloc(count ? count : 1);   /* of exactly its size, for the
                                                                           sanitizer */
    mtl_safetensors file;
    int code;
    if (count) memcpy(copy, bytes, count);
    mtl_error_clear(err);
    code = mtl_safetensors_open_memory(&file, copy, count, err);
    assert_int_equal(code, err->code);
    if (code == MTL_OK) formats_use(&file, copy, count);
    else assert_true(err->message[0] != '\0' && file.count == 0 && file.tensors == NULL);
    mtl_safetensors_close(&file);
    free(copy);
    return code;
}

static void test_formats_safetensors_damaged(void **state)
{
    mtl__text text = formats_file();
    unsigned char *bytes = (unsigned char *)text.data;
    size_t header = 8 + (size_t)mtl__load_little(bytes, 8), i;
    int bit, opened = 0;
    mtl_error err;
    (void)state;
    for (i = 0; i < text.length; i++)
        if (formats_open(bytes, i, &err) == MTL_OK) fail_msg("a file cut to %d bytes was opened", (int)i);
    assert_int_equal(formats_open(bytes, text.length, &err), MTL_OK);
    for (i = 0; i < header; i++) {
        for (bit = 0; bit < 8; bit++) {
            bytes[i] = (unsigned char)(bytes[i] ^ 1 << bit);
            /* a name or metadata may well be another one */
            opened += formats_open(bytes, text.length, &err) == MTL_OK;
            bytes[i] = (unsigned char)(bytes[i] ^ 1 << bit);
        }
    }
    assert_true(opened < (int)header * 4);
    mtl__text_append(&text, "", 1);
    /* a byte too much */
    assert_int_equal(formats_open((unsigned char *)text.data, text.length, &err), MTL_ERROR_FORMAT);
    mtl__text_free(&text);
}

/* Opens a file of this header and `data` zero bytes. */
static int formats_open_header(const char *header, size_t length, size_t data, mtl_error *err)
{
    unsigned char bytes[1024];
    size_t i;
    assert_true(8 + length + data <= sizeof bytes);
    for (i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)length >> 8 * i & 255);
    memcpy(bytes + 8, header, length);
    memset(bytes + 8 + length, 0, data);
    return formats_open(bytes, 8 + length + data, err);
}

#define FORMATS_T(name, dtype, shape, begin, end) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void test_formats_safetensors_headers(void **state)
{
    static const struct { const char *header; int data, code; const char *name; } cases[] = {
        { "{}", 0, MTL_OK, "" }, { "{}      ", 0, MTL_OK, "" }, { "{}", 1, MTL_ERROR_FORMAT, "" },
        { " {}", 0, MTL_ERROR_FORMAT, "header" },
        { "[]", 0, MTL_ERROR_FORMAT, "header" }, { "{} x", 0, MTL_ERROR_FORMAT, "the safetensors header" },
        { "{" FORMATS_T("a", "F32", "[2]", "0", "8") "}", 8, MTL_OK, "" },
        { "{" FORMATS_T("a", "F32", "[]", "0", "4") "}", 4, MTL_OK, "" },                       /* a scalar */
        { "{" FORMATS_T("a", "F32", "[0]", "0", "0") "}", 0, MTL_OK, "" },
        { "{" FORMATS_T("a", "F32", "[0,4294967296,4294967296]", "0", "0") "}", 0, -1, "a" },   /* 0 or too
                                                                                                   large:
                                                                                                   either */
        { "{" FORMATS_T("a", "BF16", "[1,1,1,1,1,1,1,4]", "0", "8") "}", 8, MTL_OK, "" },
        { "{" FORMATS_T("a", "BF16", "[1,1,1,1,1,1,1,1,4]", "0", "8") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("b", "U8", "[3]", "5", "8") "," FORMATS_T("a", "BOOL", "[5]", "0", "5") "}", 8,
            MTL_OK, "" },
        { "{" FORMATS_T("b", "U8", "[3]", "0", "3") "," FORMATS_T("a", "I8", "[4]", "4", "8") "}", 8,
            MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("b", "U8", "[3]", "0", "3") "," FORMATS_T("a", "I8", "[6]", "2", "8") "}", 8,
            MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("b", "U8", "[8]", "0", "8") "," FORMATS_T("a", "I8", "[8]", "0", "8") "}", 8,
            MTL_ERROR_FORMAT, NULL },
        { "{" FORMATS_T("a", "U8", "[4]", "0", "4") "," FORMATS_T("a", "U8", "[4]", "4", "8") "}", 8,
            MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "U8", "[7]", "1", "8") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "U8", "[7]", "0", "7") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F32", "[3]", "0", "8") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F32", "[2]", "8", "0") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F32", "[4]", "0", "16") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F32", "[4611686018427387904,4]", "0", "0") "}", 0, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F32", "[4294967296,4294967296]", "0", "0") "}", 0, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F32", "[4611686018427387904]", "0", "0") "}", 0, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F32", "[18446744073709551618]", "0", "8") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F32", "[-2]", "0", "8") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F32", "[2.0]", "0", "8") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F32", "[\"2\"]", "0", "8") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F32", "2", "0", "8") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F32", "[2]", "-8", "0") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F32", "[2]", "0", "8,9") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F33", "[2]", "0", "8") "}", 8, MTL_OK, "" },             /* of a type to come */
        { "{" FORMATS_T("a", "F33", "[2]", "0", "9") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F33", "[2]", "4", "8") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "C64", "[1]", "0", "8") "}", 8, MTL_OK, "" },
        { "{" FORMATS_T("a", "U16", "[2]", "0", "8") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{" FORMATS_T("a", "F8_E4M3", "[2,4]", "0", "8") "}", 8, MTL_OK, "" },
        { "{" FORMATS_T("a\\u0000", "F32", "[2]", "0", "8") "}", 8, MTL_ERROR_FORMAT, "a" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, MTL_ERROR_FORMAT, "a" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"shape\":[2]}}", 8, MTL_ERROR_FORMAT, "a" },
        { "{\"a\":{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, MTL_ERROR_FORMAT, "a" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"more\":1}}", 8, MTL_ERROR_FORMAT,
            "a" },
        { "{\"a\":7}", 0, MTL_ERROR_FORMAT, "a" },
        { "{\"__metadata__\":{\"k\":\"v\"}}", 0, MTL_OK, "" }, { "{\"__metadata__\":{}}", 0, MTL_OK, "" },
        { "{\"__metadata__\":{\"k\":1}}", 0, MTL_ERROR_FORMAT, "k" },
        { "{\"__metadata__\":7}", 0, MTL_ERROR_FORMAT, "__metadata__" },
        { "{\"__metadata__\":{\"k\":\"a\\u0000\"}}", 0, MTL_ERROR_FORMAT, "k" },
        { "{\"__metadata__\":{\"k\":\"v\",\"k\":\"w\"}}", 0, MTL_ERROR_FORMAT, "k" },
        { "{\"__metadata__\":{},\"__metadata__\":{}}", 0, MTL_ERROR_FORMAT, "__metadata__" } };
    size_t i;
    mtl_error err;
    (void)state;
    for (i = 0; i < MTL__COUNT(cases); i++) {
        int code = formats_open_header(cases[i].header, strlen(cases[i].header), (size_t)cases[i].data, &err);
        if (cases[i].code < 0) continue;
        if (code != cases[i].code) fail_msg("%s: %s", cases[i].header, code ? err.message : "was accepted");
        if (cases[i].name) assert_string_equal(err.name, cases[i].name);
    }
    assert_int_equal(formats_open((const unsigned char *)"\x02\0\0\0\0\0\0\x80{}", 10, &err),
                     MTL_ERROR_FORMAT);
    assert_int_equal(formats_open((const unsigned char *)"\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, &err),
                     MTL_ERROR_FORMAT);
    assert_int_equal(formats_open((const unsigned char *)"\x03\0\0\0\0\0\0\0{}", 10, &err), MTL_ERROR_FORMAT);
}

static void test_formats_safetensors_memory(void **state)
{
    mtl__text text = formats_file();
    static const mtl_allocator none = { NULL, NULL, NULL };
    mtl_error err;
    long long push;
    (void)state;
    for (push = 1; push < 100; push++) {                /* the parts of opening that allocate */
        mtl_safetensors file;
        const mtl__json *root;
        const unsigned char *data = (const unsigned char *)text.data;
        size_t header = (size_t)mtl__load_little(data, 8);
        memset(&file, 0, sizeof file);
        mtl_error_clear(&err);
        mtl_arena_init(&file.arena, NULL, 0, &none);
        mtl_arena_fail_next(&file.arena, push);
        root = mtl__json_parse((const char *)data + 8, header, "test", 8, &file.arena, &err);
        if (root) mtl__safetensors_members(&file, root, data + 8 + header, text.length - 8 - header, &err);
        mtl_safetensors_close(&file);
        if (err.code == MTL_OK) break;
        assert_int_equal(err.code, MTL_ERROR_MEMORY);
    }
    assert_in_range(push, 8, 99);
    mtl__text_free(&text);
}

static void test_formats_half(void **state)
{
    unsigned i;
    (void)state;
    for (i = 0; i < 0x10000; i++) {                     /* every half: value by the definition, in doubles */
        int exponent = (int)(i >> 10 & 31), mantissa = (int)(i & 1023);
        double expected = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
        float got = mtl__float_of_half(i), negated;
        uint32_t bits;
        memcpy(&bits, &got, sizeof bits);
        assert_int_equal(bits >> 31, i >> 15);
        if (exponent == 31) {
            assert_int_equal(bits & 0x7fffffff, 0x7f800000u | (uint32_t)mantissa << 13);
            continue;
        }
        negated = i >> 15 ? -got : got;
        assert_true((double)negated == expected);
    }
}

static void test_formats_values(void **state)
{
    /* 1, -2 */
    static const unsigned char half[] = { 0x00, 0x3c, 0x00, 0xc0 }, bfloat[] = { 0x80, 0x3f, 0x00, 0xc0 };
    static const unsigned char single[] = { 9, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0 };
    static const unsigned char wide[] = { 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0 };
    static const struct { int type; const unsigned char *data; } cases[] = { { MTL_TYPE_F16, half },
        { MTL_TYPE_BF16, bfloat },
        { MTL_TYPE_F32, single + 1 }, { MTL_TYPE_F64, wide } };
    size_t i;
    (void)state;
    for (i = 0; i < MTL__COUNT(cases); i++) {
        mtl_safetensor tensor;
        mtl_real out[3] = { 7, 7, 7 };
        memset(&tensor, 0, sizeof tensor);
        tensor.name = "t";
        tensor.type = cases[i].type;
        tensor.count = 2;
        tensor.data = cases[i].data;                    /* the floats stand at an odd address */
        assert_int_equal(mtl_safetensor_values(&tensor, out, NULL), MTL_OK);
        assert_true(out[0] == 1 && out[1] == -2 && out[2] == 7);
    }
    assert_int_equal(mtl_safetensor_values(NULL, NULL, NULL), MTL_ERROR_ARGUMENT);
}

/* ---- writing: errors ---- */

static int formats_write_some(void *user, const void *bytes, size_t count)
{
    size_t *left = (size_t *)user;
    (void)bytes;
    if (count > *left) return 1;
    *left -= count;
    return 0;
}

static void test_formats_safetensors_write_fails(void **state)
{
    mtl__tensor_entry entries[4];
    size_t count = formats_entries(entries), room;
    static const char *const bad[] = { "key", "\xff" };
    mtl_writer writer;
    mtl_error err;
    (void)state;
    writer.write = formats_write_some;
    for (room = 0; room < 1000; room++) {
        size_t left = room;
        writer.user = &left;
        mtl_error_clear(&err);
        if (mtl__safetensors_write(entries, count, NULL, 0, &writer, NULL, &err) == MTL_OK) break;
        assert_int_equal(err.code, MTL_ERROR_IO);
    }
    assert_in_range(room, 100, 900);
    assert_int_equal(room % 64, 24 + 16 + 5);           /* data begins at a multiple of 64 */
    mtl_error_clear(&err);
    assert_int_equal(mtl__safetensors_write(entries, count, bad, 1, &writer, NULL, &err), MTL_ERROR_TEXT);
}

/* The message names the path and what the system says, and the old file stays. */
static void formats_check_save(const char *path, const char *reason)
{
    mtl__tensor_entry entries[4];
    mtl__file_writer saving;
    mtl_writer writer;
    mtl_error err;
    mtl_error_clear(&err);
    if (mtl__file_save_begin(path, &writer, &saving, &err) == MTL_OK) {
        mtl__safetensors_write(entries, formats_entries(entries), NULL, 0, &writer, NULL, &err);
        mtl__file_save_end(path, &saving, &err);
    }
    assert_int_equal(err.code, MTL_ERROR_IO);
    if (!strstr(err.message, path) || !strstr(err.message, reason)) fail_msg("%s", err.message);
}

static void test_formats_save_fails(void **state)
{
    mtl__file_writer saving;
    mtl_writer writer;
    mtl_error err;
    (void)state;
    mtl_error_clear(&err);
    assert_int_equal(mtl__file_save_begin(NULL, &writer, &saving, &err), MTL_ERROR_ARGUMENT);
#ifdef MTL__FILES_POSIX
    formats_check_save(platform_folder, strerror(EISDIR));
    formats_check_save(platform_path("missing/file"), strerror(ENOENT));
    if (mtl__os_kind("/dev/full") == MTL__FILE_OTHER) formats_check_save("/dev/full", strerror(ENOSPC));
#else
    (void)formats_check_save;
#endif
    /* an error of the caller's own, between begin and end, leaves the old file */
    assert_int_equal(platform_write(platform_path("f"), 10, 1), 0);
    mtl_error_clear(&err);
    assert_int_equal(mtl__file_save_begin(platform_path("f"), &writer, &saving, &err), MTL_OK);
    assert_int_equal(writer.write(writer.user, "abc", 3), 0);
    mtl__fail(&err, MTL_ERROR_NUMBER, "x", -1, "a test");
    assert_int_equal(mtl__file_save_end(platform_path("f"), &saving, &err), MTL_ERROR_NUMBER);
    assert_int_equal(platform_size(platform_path("f")), 10);
    remove(platform_path("f"));
}

typedef struct formats_source { size_t left, most; } formats_source;

static size_t formats_source_read(void *user, void *bytes, size_t count)
{
    formats_source *source = (formats_source *)user;
    size_t given = count < source->left ? count : source->left;
    memset(bytes, 'x', given);
    source->left -= given;
    return given;
}

static void test_formats_reader(void **state)
{
    static const size_t sizes[] = { 0, 1, 65535, 65536, 65537, 131072, 1000000 };
    size_t i;
    (void)state;
    for (i = 0; i < MTL__COUNT(sizes); i++) {
        formats_source source;
        mtl_reader reader;
        mtl__text text;
        mtl_error err;
        mtl_error_clear(&err);
        source.left = sizes[i];
        reader.user = &source;
        reader.read = formats_source_read;
        mtl__text_init(&text, NULL);
        assert_int_equal(mtl__text_read(&text, &reader, "test", &err), MTL_OK);
        assert_int_equal(text.length, sizes[i]);
        assert_int_equal(strlen(text.data), sizes[i]);
        mtl__text_free(&text);
    }
}

#define TEST_FORMATS \
    cmocka_unit_test(test_formats_utf8), cmocka_unit_test(test_formats_normalise), \
        cmocka_unit_test(test_formats_lowercase_all), \
    cmocka_unit_test(test_formats_json_write), cmocka_unit_test(test_formats_json_write_bad), \
    cmocka_unit_test(test_formats_json_write_memory), cmocka_unit_test(test_formats_json_read), \
    cmocka_unit_test(test_formats_json_getters_refuse), cmocka_unit_test(test_formats_json_errors), \
    cmocka_unit_test(test_formats_json_deep), cmocka_unit_test(test_formats_json_damaged), \
    cmocka_unit_test(test_formats_json_memory), cmocka_unit_test(test_formats_json_suite), \
    cmocka_unit_test(test_formats_vocabulary), cmocka_unit_test(test_formats_safetensors), \
    TEST_PLATFORM_FILE(test_formats_safetensors_path), \
    cmocka_unit_test(test_formats_safetensors_damaged), cmocka_unit_test(test_formats_safetensors_headers), \
    cmocka_unit_test(test_formats_safetensors_memory), cmocka_unit_test(test_formats_half), \
    cmocka_unit_test(test_formats_values), \
    cmocka_unit_test(test_formats_safetensors_write_fails), TEST_PLATFORM_FILE(test_formats_save_fails), \
    cmocka_unit_test(test_formats_reader)
