/* Section 5: random numbers that depend on (seed, stream, index) alone. */

/* Values are part of what a seed means: if they change, every seeded result changes. These were worked out by
   another program. */
static void test_random_known_values(void **state)
{
    static const struct { uint64_t seed, stream, index, bits; } known[] = {
        { 0, 0, 0, 0xe220a8397b1dcdaf }, { 1, 0, 0, 0xa706dd2f4d197e6f }, { 1, 2, 3, 0x8ea264d0125c8328 },
        { 0xffffffffffffffff, 0xffffffffffffffff, 0xffffffff, 0x1c998cace72a851c },
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint64_t bits = mtl__random_bits(known[i].seed, known[i].stream, known[i].index);
        if (bits != known[i].bits) fail_msg("value %d is 0x%llx", (int)i, (unsigned long long)bits);
    }
    assert_true(fabs(mtl__random_uniform(1, 2, 3) - 0.557165432738076) < 1e-15);
    assert_true(fabs(mtl__random_normal(1, 2, 3) - 0.05078320257482175) < 1e-12);
}

static void test_random_any_order(void **state)
{
    enum { N = 1000 };
    double forward[N];
    int i;
    (void)state;
    for (i = 0; i < N; i++) forward[i] = mtl__random_uniform(7, 8, (uint64_t)i);
    for (i = N; i-- > 0;) assert_true(mtl__random_uniform(7, 8, (uint64_t)i) == forward[i]);
}

/* Streams, seeds and indices that are neighbours have nothing in common. */
static void test_random_neighbours_differ(void **state)
{
    enum { N = 40 };
    static uint64_t seen[N * N * N];
    size_t n = 0, i, k, seed, stream, index;
    int counts[64] = {0};
    (void)state;
    for (seed = 0; seed < N; seed++)
        for (stream = 0; stream < N; stream++)
            for (index = 0; index < N; index++) seen[n++] = mtl__random_bits(seed, stream, index);
    for (i = 0; i < n; i++)
        for (k = 0; k < 64; k++) counts[k] += (int)(seen[i] >> k & 1);
    /* 5.5 standard deviations of 126 */
    for (k = 0; k < 64; k++) assert_true(abs(counts[k] - (int)n / 2) < 700);
    for (i = 0; i < n; i++) {               /* no two alike: a table by their upper bits holds at most a few
                                               of each */
        static uint64_t table[1 << 18];
        size_t slot = (size_t)(seen[i] >> 46);
        if (i == 0) memset(table, 0, sizeof table);
        for (k = 0; table[(slot + k) & ((1u << 18) - 1)]; k++)
            assert_true(table[(slot + k) & ((1u << 18) - 1)] != seen[i]);
        table[(slot + k) & ((1u << 18) - 1)] = seen[i];
    }
}

static void test_random_moments(void **state)
{
    enum { N = 200000 };
    double sum = 0, squares = 0, normal = 0, normal_squares = 0, lowest = 1, highest = 0, fourth = 0;
    size_t below[10] = {0}, i;
    (void)state;
    for (i = 0; i < N; i++) {
        double u = mtl__random_uniform(3, 5, i), g = mtl__random_normal(3, 6, i);
        size_t b = mtl__random_below(3, 7, i, 10);
        sum += u;
        squares += u * u;
        if (u < lowest) lowest = u;
        if (u > highest) highest = u;
        normal += g;
        normal_squares += g * g;
        fourth += g * g * g * g;
        assert_true(b < 10);
        below[b]++;
    }
    assert_true(lowest >= 0 && highest < 1 && lowest < 1e-4 && highest > 1 - 1e-4);
    assert_true(fabs(sum / N - 0.5) < 0.004 && fabs(squares / N - 1.0 / 3) < 0.004);
    assert_true(fabs(normal / N) < 0.013 && fabs(normal_squares / N - 1) < 0.018 &&
                fabs(fourth / N - 3) < 0.15);
    for (i = 0; i < 10; i++) assert_true(below[i] > N / 10 - 800 && below[i] < N / 10 + 800);
}

static void test_random_shuffle(void **state)
{
    enum { N = 7 };
    size_t items[N], first[N] = {0}, i, trial;
    unsigned seen;
    (void)state;
    for (trial = 0; trial < 7000; trial++) {
        for (i = 0; i < N; i++) items[i] = i;
        mtl__random_shuffle(items, N, 11, trial);
        for (i = 0, seen = 0; i < N; i++) seen |= 1u << items[i];
        assert_int_equal(seen, (1u << N) - 1);
        first[items[0]]++;
    }
    for (i = 0; i < N; i++) assert_true(first[i] > 850 && first[i] < 1150);
    items[0] = 5;
    mtl__random_shuffle(items, 1, 1, 1);
    mtl__random_shuffle(items, 0, 1, 1);
    assert_int_equal(items[0], 5);
}

#define TEST_RANDOM \
    cmocka_unit_test(test_random_known_values), cmocka_unit_test(test_random_any_order), \
    cmocka_unit_test(test_random_neighbours_differ), cmocka_unit_test(test_random_moments), \
    cmocka_unit_test(test_random_shuffle)
