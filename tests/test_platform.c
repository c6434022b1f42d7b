/* Section 2: number text, atomic files, mapping, the clock. */
#include <locale.h>
#include <errno.h>
#ifdef MTL__FILES_POSIX
#  include <dirent.h>
#  include <signal.h>
#  include <sys/resource.h>
#  if defined(__STRICT_ANSI__) && !defined(__cplusplus) && (!defined(_POSIX_C_SOURCE) || \
    _POSIX_C_SOURCE < 200112L)
extern int symlink(const char *target, const char *path);       /* hidden by -std=c99, see the header's
                                                                   section 2 */
#  endif
#endif

#ifndef TEST_QUICK
#define TEST_QUICK() (getenv("MTL_TEST_QUICK") != NULL)
#endif

/* ---- number text ---- */

static uint64_t platform_bits(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static double platform_double(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A xorshift of the tests' own, so that a defect in >>random cannot hide one here. */
static uint64_t platform_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t platform_read(const char *text)
{
    double value = 0;
    if (!mtl_text_number(text, strlen(text), &value)) fail_msg("'%s' was refused", text);
    return platform_bits(value);
}

static void test_platform_number_read(void **state)
{
    static const struct { const char *text; uint64_t bits; } cases[] = {
        { "0", 0 }, { "-0", (uint64_t)1 << 63 }, { "0e999999999999", 0 }, { "0.000", 0 },
            { "1", 0x3ff0000000000000u },
        { "+1", 0x3ff0000000000000u }, { "1.", 0x3ff0000000000000u }, { ".5", 0x3fe0000000000000u },
        { "0.1", 0x3fb999999999999au },
        { "-1.5e-3", 0xbf589374bc6a7efau }, { "1e22", 0x4480f0cf064dd592u }, { "1e23", 0x44b52d02c7e14af6u },
        { "9007199254740993", 0x4340000000000000u },                    /* half-way: to even */
        { "9007199254740995", 0x4340000000000002u },
        { "9007199254740993.00000000000000000000000000000000000001", 0x4340000000000001u },
        { "1.7976931348623157e308", 0x7fefffffffffffffu }, { "1.7976931348623158e+308", 0x7fefffffffffffffu },
        { "2.2250738585072014e-308", 0x0010000000000000u },
            { "2.2250738585072011e-308", 0x000fffffffffffffu },
        { "2.2250738585072012e-308", 0x0010000000000000u },             /* the one that hung PHP and Java */
        { "5e-324", 1 }, { "2.4703282292062327e-324", 0 }, { "2.4703282292062328e-324", 1 }, { "1e-400", 0 },
        { "7.2057594037927933e16", 0x4370000000000000u },
        { "6929495644600919.5", 0x43389e56ee5e7a58u }, { "3.518437208883201171875e13", 0x42c0000000000002u },
        { "1e-22", 0x3b5e392010175ee6u }, { "123456789012345678901234567890", 0x45f8ee90ff6c373eu },
        { "100000000000000000000000000000000000000000000e-44", 0x3ff0000000000000u } };
    size_t i;
    (void)state;
    for (i = 0; i < MTL__COUNT(cases); i++) {
        uint64_t bits = platform_read(cases[i].text);
        if (bits != cases[i].bits) fail_msg("'%s' was read as %.17g", cases[i].text, platform_double(bits));
    }
}

static void test_platform_number_refuse(void **state)
{
    static const char *const cases[] = { "", "-", "+", ".", "-.", "e5", ".e5", "1e", "1e+", "1e-", "1,5",
        "1.5.2", "1 ", " 1",
        "0x10", "inf", "-inf", "nan", "infinity", "1e999", "-1e999", "1e309", "1.7976931348623159e308",
        "1e99999999999999999999", "1f", "1e5.0", "--1", "1-", "1_000", "\xd9\xa1" };
    double value = 7;
    size_t i;
    (void)state;
    for (i = 0; i < MTL__COUNT(cases); i++)
        if (mtl_text_number(cases[i], strlen(cases[i]), &value))
            fail_msg("'%s' was read as %g", cases[i], value);
    assert_int_equal(mtl_text_number("1\0002", 3, &value), 0);
    assert_int_equal(mtl_text_number(NULL, 0, &value), 0);
    assert_true(value > 6.9 && value < 7.1);                            /* left alone */
    assert_int_equal(mtl_text_number("123456", 3, &value), 1);          /* length, not a 0, ends it */
    assert_true(platform_bits(value) == platform_bits(123.0));
}

/* Random decimals of 1 to 40 digits against the C library's own reader, which is correctly rounding in
   glibc. */
static void test_platform_number_against_libc(void **state)
{
    uint64_t seed = 88172645463325252u;
    int i, cases = TEST_QUICK() ? 20000 : 200000;
    char locale[64];
    (void)state;
    mtl__copy_text(locale, sizeof locale, setlocale(LC_NUMERIC, NULL));
    setlocale(LC_NUMERIC, "C");
    for (i = 0; i < cases; i++) {
        double value = platform_double(platform_random(&seed)), expected, got = 0;
        char text[96];
        int length;
        if (!mtl__double_is_finite(value)) continue;
        length = sprintf(text, "%.*e", (int)(platform_random(&seed) % 40), value);
        expected = strtod(text, NULL);
        if (!mtl__double_is_finite(expected)) assert_int_equal(mtl_text_number(text, (size_t)length, &got),
                                                               0);
        else if (platform_read(text) != platform_bits(expected)) fail_msg("'%s' was not read as strtod "
                                                                          "reads it", text);
    }
    setlocale(LC_NUMERIC, locale);
}

static void test_platform_number_write(void **state)
{
    static const struct { double value; const char *text; } cases[] = {
        { 0, "0" }, { 1, "1" }, { -1, "-1" }, { 0.1, "0.1" }, { 0.1f, "0.1" }, { 0.5, "0.5" },
            { 1.0 / 3, "0.3333333333333333" },
        { 1.0f / 3, "0.33333334" }, { 100, "100" }, { 123456.75, "123456.75" }, { -0.0015, "-0.0015" },
            { 0.00001, "0.00001" },
        { 0.000001, "1e-6" }, { 1e15, "1000000000000000" }, { 1e16, "10000000000000000" }, { 1e17, "1e17" },
            { 1e22, "1e22" },
        { 1e23, "1e23" }, { 1.5e300, "1.5e300" }, { 5.684341886080802e-14, "5.684342e-14" },
        { 9007199254740991.0, "9007199254740991" },
        { 1073741824, "1073741824" }, { 9007199254740992.0, "9007199254740992" },
            { 3.4028234663852886e38, "3.4028235e38" },
        { 1.7976931348623157e308, "1.7976931348623157e308" },
            { 2.2250738585072014e-308, "2.2250738585072014e-308" },
        { 4.35, "4.35" }, { 1e-7, "1e-7" }, { 1.17549435e-38f, "1.1754944e-38" } };
    char text[32];
    size_t i;
    (void)state;
    for (i = 0; i < MTL__COUNT(cases); i++) {
        assert_int_equal(mtl_text_from_number(cases[i].value, text), strlen(cases[i].text));
        assert_string_equal(text, cases[i].text);
    }
    mtl_text_from_number(platform_double((uint64_t)1 << 63), text);
    assert_string_equal(text, "-0");
    mtl_text_from_number(platform_double(1), text);
    assert_string_equal(text, "5e-324");
    mtl_text_from_number(platform_double(0x7ff0000000000000u), text);
    assert_string_equal(text, "inf");
    mtl_text_from_number(platform_double(0xfff0000000000000u), text);
    assert_string_equal(text, "-inf");
    mtl_text_from_number(platform_double(0x7ff8000000000000u), text);
    assert_string_equal(text, "nan");
    mtl_text_from_number(platform_double(0xfff8000000000000u), text);
    assert_string_equal(text, "nan");
}

/* Digits of a text without leading and trailing zeros. */
static int platform_digits(const char *text)
{
    int digits = 0, zeros = 0;
    for (; *text && *text != 'e'; text++) {
        if (*text < '0' || *text > '9') continue;
        if (*text != '0') {
            digits += zeros + 1;
            zeros = 0;
        } else if (digits) {
            zeros++;
        }
    }
    return digits;
}

/* No nearest decimal with one digit less may read back as the value: checks doubles that no float can
   hold. */
static void platform_check_double(uint64_t bits)
{
    char text[32], shorter[64];
    double value = platform_double(bits), back;
    size_t length = mtl_text_from_number(value, text);
    int digits = platform_digits(text), i;
    assert_true(length < sizeof text && length == strlen(text));
    if (platform_read(text) != bits) fail_msg("%.17g was written as '%s'", value, text);
    if (digits < 2) return;
    sprintf(shorter, "%.*e", digits - 2, value);
    for (i = 0; shorter[i]; i++)
        if (shorter[i] == ',') shorter[i] = '.';
    if (mtl_text_number(shorter, strlen(shorter), &back) && platform_bits(back) == bits)
        fail_msg("'%s' is longer than '%s'", text, shorter);
}

static void test_platform_number_round_trip(void **state)
{
    uint64_t seed = 362436069362436069u;
    int i, cases = TEST_QUICK() ? 20000 : 200000;
    (void)state;
    for (i = 0; i < cases; i++) {
        uint64_t bits = platform_random(&seed), mask = ((uint64_t)1 << 52) - 1;
        if ((bits >> 52 & 0x7ff) == 0x7ff) continue;
        if (i % 8 == 0) bits &= ~mask;                  /* powers of two have uneven neighbours */
        if (i % 8 == 1) bits &= mask;                   /* denormals */
        if (!(bits << 1)) continue;
        if ((bits & 0x1fffffff) || (bits >> 52 & 0x7ff) < 800) platform_check_double(bits);
    }
}

/* A float is written as the shortest text that is that float again, also by way of a double. */
static void test_platform_float_round_trip(void **state)
{
    uint64_t seed = 521288629521288629u;
    int i, cases = TEST_QUICK() ? 20000 : 200000;
    (void)state;
    for (i = 0; i < cases; i++) {
        uint32_t bits = (uint32_t)platform_random(&seed), back_bits;
        float value, back;
        char text[32];
        double wide = 0;
        if (i % 8 == 0) bits &= 0xff800000u;
        /* -ffast-math may flush denormals in the cast */
        if ((bits >> 23 & 0xff) == 0xff || (bits >> 23 & 0xff) == 0) continue;
        memcpy(&value, &bits, sizeof value);
        assert_true(mtl_text_number(text, mtl_text_from_number(value, text), &wide));
        back = (float)wide;
        memcpy(&back_bits, &back, sizeof back_bits);
        if (bits != back_bits) fail_msg("%.9g was written as '%s'", (double)value, text);
        /* whole numbers keep all their digits */
        if (value > -18446744073709551616.0f && value < 18446744073709551616.0f && value == floorf(value))
            continue;
        if (platform_digits(text) > 9) fail_msg("%.9g was written as '%s'", (double)value, text);
    }
}

static void test_platform_number_locale(void **state)
{
    static const char *const locales[] = { "de_DE.UTF-8", "de_DE.utf8", "de_DE", "fr_FR.UTF-8" };
    char before[64], text[32];
    size_t i;
    (void)state;
    mtl__copy_text(before, sizeof before, setlocale(LC_ALL, NULL));
    for (i = 0; i < MTL__COUNT(locales); i++) {
        double value;
        setlocale(LC_ALL, locales[i]);          /* where it is not installed, this tests the present one */
        mtl_text_from_number(1234.5, text);
        assert_string_equal(text, "1234.5");
        assert_true(platform_read("1234.5") == platform_bits(1234.5));
        assert_false(mtl_text_number("1234,5", 6, &value));
    }
    setlocale(LC_ALL, before);
}

static void test_platform_seconds(void **state)
{
    double last = mtl__seconds(), start = last;
    int i;
    (void)state;
    for (i = 0; i < 100000; i++) {
        double now = mtl__seconds();
        assert_true(now >= last);
        last = now;
    }
    assert_true(last - start < 60 && last > start);
}

/* ---- files ---- */

static char platform_folder[64];

static const char *platform_path(const char *name)
{
    static char path[160];
    return mtl__print(path, sizeof path, "%s/%s", platform_folder, name);
}

/* Every file test has a folder of its own, which must be empty of anything but what the test removes
   itself. */
#ifdef MTL__FILES_POSIX
static int platform_setup(void **state)
{
    (void)state;
    sprintf(platform_folder, "/tmp/mtl-test-%ld", (long)getpid());
    return mkdir(platform_folder, 0777);
}

static int platform_entries(void)
{
    DIR *folder = opendir(platform_folder);
    int count = -2;
    if (!folder) return -1;
    while (readdir(folder)) count++;
    closedir(folder);
    return count;
}

static int platform_teardown(void **state)
{
    (void)state;
    if (platform_entries() != 0) return -1;             /* a temporary file was left */
    return rmdir(platform_folder);
}
#else
static int platform_setup(void **state) { (void)state; strcpy(platform_folder, "."); return 0; }
static int platform_teardown(void **state) { (void)state; return 0; }
static int platform_entries(void) { return 1; }
#endif

/* Writes `count` bytes of a pattern; returns errno's number. */
static int platform_write(const char *path, size_t count, int keep)
{
    mtl__file_writer writer;
    unsigned char pattern[251];
    size_t i, part;
    int error = mtl__file_writer_open(&writer, path);
    if (error) return error;
    for (i = 0; i < sizeof pattern; i++) pattern[i] = (unsigned char)i;
    for (; count; count -= part) {
        part = count < sizeof pattern ? count : sizeof pattern;
        if (mtl__file_writer_write(&writer, pattern, part) != 0) break;
    }
    return mtl__file_writer_close(&writer, keep);
}

/* Size of a file whose bytes follow the pattern, or -1. */
static long platform_size(const char *path)
{
    FILE *file = fopen(path, "rb");
    long count = 0;
    int c;
    if (!file) return -1;
    for (; (c = getc(file)) != EOF; count++) assert_int_equal(c, count % 251);
    fclose(file);
    return count;
}

static void test_platform_write(void **state)
{
    static const size_t sizes[] = { 0, 1, 250, 251, 8191, 8192, 8193, 100000 };
    size_t i;
    (void)state;
    for (i = 0; i < MTL__COUNT(sizes); i++) {           /* from the second on over an old file */
        assert_int_equal(platform_write(platform_path("a"), sizes[i], 1), 0);
        assert_int_equal(platform_size(platform_path("a")), sizes[i]);
        assert_int_equal(platform_entries(), 1);
    }
    assert_int_equal(platform_write(platform_path("a"), 10, 0), 0);     /* given up: the old one stays */
    assert_int_equal(platform_size(platform_path("a")), 100000);
    assert_int_equal(platform_entries(), 1);
    remove(platform_path("a"));
}

/* One write larger than the buffer, between small ones. */
static void test_platform_write_large(void **state)
{
    static unsigned char bytes[50000];
    mtl__file_writer writer;
    size_t i;
    (void)state;
    for (i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i % 251);
    assert_int_equal(mtl__file_writer_open(&writer, platform_path("b")), 0);
    assert_int_equal(mtl__file_writer_write(&writer, bytes, 100), 0);
    assert_int_equal(mtl__file_writer_write(&writer, bytes + 100, 40000), 0);
    assert_int_equal(mtl__file_writer_write(&writer, bytes, 0), 0);
    assert_int_equal(mtl__file_writer_write(&writer, bytes + 40100, 9900), 0);
    assert_int_equal(mtl__file_writer_close(&writer, 1), 0);
    assert_int_equal(platform_size(platform_path("b")), 50000);
    remove(platform_path("b"));
}

#ifdef MTL__FILES_POSIX
static void test_platform_write_fails(void **state)
{
    char longer[400];
    (void)state;
    assert_int_equal(platform_write(platform_path("missing/a"), 10, 1), ENOENT);
    assert_int_equal(platform_write("", 10, 1), ENOENT);
    assert_int_equal(platform_write(platform_folder, 10, 1), EISDIR);
    assert_int_equal(platform_write(platform_path("none/"), 10, 1), ENOENT);
    assert_int_equal(platform_write(platform_path("f"), 10, 1), 0);
    assert_int_equal(platform_write(platform_path("f/a"), 10, 1), ENOTDIR);
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    memcpy(longer, platform_folder, strlen(platform_folder));
    longer[strlen(platform_folder)] = '/';
    assert_int_equal(platform_write(longer, 10, 1), ENAMETOOLONG);
    if (geteuid() != 0) {                               /* root may write everywhere */
        assert_int_equal(chmod(platform_path("f"), 0444), 0);
        assert_int_equal(platform_write(platform_path("f"), 20, 1), EACCES);
        assert_int_equal(chmod(platform_folder, 0555), 0);
        assert_int_equal(platform_write(platform_path("g"), 10, 1), EACCES);
        assert_int_equal(chmod(platform_folder, 0777), 0);
    }
    assert_int_equal(platform_size(platform_path("f")), 10);
    remove(platform_path("f"));
}

/* A full disk: a device that is always full, and a limit on file sizes. The old file must stay. */
static void test_platform_write_full(void **state)
{
    struct rlimit before, limit;
    void (*handler)(int);
    (void)state;
    if (mtl__os_kind("/dev/full") == MTL__FILE_OTHER)
        assert_int_equal(platform_write("/dev/full", 100, 1), ENOSPC);
    if (mtl__os_kind("/dev/null") == MTL__FILE_OTHER) {
        assert_int_equal(platform_write("/dev/null", 100000, 1), 0);
        assert_int_equal(mtl__os_kind("/dev/null"), MTL__FILE_OTHER);   /* still the device */
    }
    assert_int_equal(platform_write(platform_path("f"), 10, 1), 0);
    handler = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 20000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(platform_write(platform_path("f"), 30000, 1), EFBIG);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(platform_size(platform_path("f")), 10);
    remove(platform_path("f"));
}

static void test_platform_write_links(void **state)
{
    struct stat status;
    char path[160];
    (void)state;
    assert_int_equal(platform_write(platform_path("file"), 10, 1), 0);
    assert_int_equal(chmod(platform_path("file"), 0640), 0);
    assert_int_equal(symlink("file", platform_path("near")), 0);
    strcpy(path, platform_path("near"));
    assert_int_equal(symlink(path, platform_path("far")), 0);           /* absolute, and a link to a link */
    assert_int_equal(symlink("new", platform_path("dangling")), 0);
    assert_int_equal(symlink("loop", platform_path("loop")), 0);
    assert_int_equal(platform_write(platform_path("far"), 300, 1), 0);
    assert_int_equal(platform_size(platform_path("file")), 300);
    assert_int_equal(stat(platform_path("file"), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);                     /* who may read it has not changed */
    assert_int_equal(platform_write(platform_path("dangling"), 20, 1), 0);
    assert_int_equal(platform_size(platform_path("new")), 20);
    assert_int_equal(platform_write(platform_path("loop"), 20, 1), ELOOP);
    assert_int_equal(platform_entries(), 6);
    remove(platform_path("file"));
    remove(platform_path("near"));
    remove(platform_path("far"));
    remove(platform_path("dangling"));
    remove(platform_path("loop"));
    remove(platform_path("new"));
}

/* Two saves at once, and a temporary file that a crash has left: neither may be touched. */
static void test_platform_write_twice(void **state)
{
    mtl__file_writer first, second;
    (void)state;
    assert_int_equal(mtl__file_writer_open(&first, platform_path("f")), 0);
    assert_int_equal(mtl__file_writer_open(&second, platform_path("f")), 0);
    assert_string_not_equal(first.temporary, second.temporary);
    assert_int_equal(mtl__file_writer_write(&second, "\0\1\2", 3), 0);
    assert_int_equal(mtl__file_writer_close(&second, 1), 0);
    assert_int_equal(mtl__file_writer_close(&first, 1), 0);
    assert_int_equal(platform_size(platform_path("f")), 0);
    remove(platform_path("f"));
}
#endif

static void test_platform_map(void **state)
{
    mtl__file_view view;
    mtl_error err;
    size_t i;
    (void)state;
    mtl_error_clear(&err);
    assert_int_equal(platform_write(platform_path("m"), 70000, 1), 0);
    assert_int_equal(mtl__file_map(&view, platform_path("m"), &err), MTL_OK);
    assert_int_equal(view.count, 70000);
    for (i = 0; i < view.count; i++) assert_int_equal(((const unsigned char *)view.bytes)[i], i % 251);
#ifdef MTL__FILES_POSIX
    assert_int_equal(view.mapped_bytes, 70000);
#endif
    mtl__file_unmap(&view);
    assert_int_equal(platform_write(platform_path("m"), 0, 1), 0);
    assert_int_equal(mtl__file_map(&view, platform_path("m"), &err), MTL_OK);
    assert_int_equal(view.count, 0);
    mtl__file_unmap(&view);
    remove(platform_path("m"));
    assert_int_equal(mtl__file_map(&view, platform_path("m"), &err), MTL_ERROR_IO);
    assert_string_equal(err.name, platform_path("m"));
    assert_non_null(strstr(err.message, platform_path("m")));
    mtl_error_clear(&err);
    assert_int_equal(mtl__file_map(&view, NULL, &err), MTL_ERROR_ARGUMENT);
#ifdef MTL__FILES_POSIX
    mtl_error_clear(&err);
    assert_int_equal(mtl__file_map(&view, platform_folder, &err), MTL_ERROR_IO);
    assert_non_null(strstr(err.message, strerror(EISDIR)));
    mtl_error_clear(&err);
    assert_int_equal(mtl__file_map(&view, "/dev/null", &err), MTL_OK);  /* not a file that can be mapped */
    assert_int_equal(view.count, 0);
    mtl__file_unmap(&view);
#endif
}

#define TEST_PLATFORM_FILE(test) cmocka_unit_test_setup_teardown(test, platform_setup, platform_teardown)
#ifdef MTL__FILES_POSIX
#  define TEST_PLATFORM_POSIX TEST_PLATFORM_FILE(test_platform_write_fails), \
    TEST_PLATFORM_FILE(test_platform_write_full), \
                              TEST_PLATFORM_FILE(test_platform_write_links), \
                                  TEST_PLATFORM_FILE(test_platform_write_twice),
#else
#  define TEST_PLATFORM_POSIX
#endif
#define TEST_PLATFORM \
    cmocka_unit_test(test_platform_number_read), cmocka_unit_test(test_platform_number_refuse), \
    cmocka_unit_test(test_platform_number_against_libc), cmocka_unit_test(test_platform_number_write), \
    cmocka_unit_test(test_platform_number_round_trip), cmocka_unit_test(test_platform_float_round_trip), \
    cmocka_unit_test(test_platform_number_locale), cmocka_unit_test(test_platform_seconds), \
    TEST_PLATFORM_FILE(test_platform_write), TEST_PLATFORM_FILE(test_platform_write_large), \
        TEST_PLATFORM_POSIX \
    TEST_PLATFORM_FILE(test_platform_map)
