/* >>metrics: spans against a port of conlleval, scores against figures worked out by hand. Included by
   tests/main.c. */

/* ---- the CoNLL evaluation, ported word by word from conlleval.pl (Tjong Kim Sang 2004) ------ */

static char conlleval_tag(const char *label) { return label[0]; }
static const char *conlleval_type(const char *label) { return label[0] == 'O' || label[1] != '-'
    ? "" : label + 2; }

static int conlleval_end_of_chunk(const char *previous, const char *label)
{
    char previous_tag = conlleval_tag(previous), tag = conlleval_tag(label);
    if (previous_tag == 'B' && tag == 'B') return 1;
    if (previous_tag == 'B' && tag == 'O') return 1;
    if (previous_tag == 'I' && tag == 'B') return 1;
    if (previous_tag == 'I' && tag == 'O') return 1;
    return previous_tag != 'O' && strcmp(conlleval_type(previous), conlleval_type(label)) != 0;
}

static int conlleval_start_of_chunk(const char *previous, const char *label)
{
    char previous_tag = conlleval_tag(previous), tag = conlleval_tag(label);
    if (previous_tag == 'B' && tag == 'B') return 1;
    if (previous_tag == 'I' && tag == 'B') return 1;
    if (previous_tag == 'O' && tag == 'B') return 1;
    if (previous_tag == 'O' && tag == 'I') return 1;
    return tag != 'O' && strcmp(conlleval_type(previous), conlleval_type(label)) != 0;
}

typedef struct conlleval_counts { size_t correct, found_correct, found_guessed; } conlleval_counts;

static void conlleval_sequence(conlleval_counts *counts, const char **correct, const char **guessed,
                               size_t steps)
{
    const char *last_correct = "O", *last_guessed = "O";
    int in_correct = 0;
    size_t t;
    for (t = 0; t <= steps; t++) {
        const char *now_correct = t < steps ? correct[t] : "O", *now_guessed = t < steps ? guessed[t] : "O";
        int end_correct = conlleval_end_of_chunk(last_correct, now_correct);
        int end_guessed = conlleval_end_of_chunk(last_guessed, now_guessed);
        int start_correct = conlleval_start_of_chunk(last_correct, now_correct);
        int start_guessed = conlleval_start_of_chunk(last_guessed, now_guessed);
        const char *type = conlleval_type(now_correct), *guess_type = conlleval_type(now_guessed);
        if (in_correct) {
            if (end_correct && end_guessed && strcmp(conlleval_type(last_guessed),
                                                     conlleval_type(last_correct)) == 0) {
                in_correct = 0;
                counts->correct++;
            } else if (end_correct != end_guessed || strcmp(guess_type, type) != 0) {
                in_correct = 0;
            }
        }
        if (start_correct && start_guessed && strcmp(guess_type, type) == 0) in_correct = 1;
        if (start_correct) counts->found_correct++;
        if (start_guessed) counts->found_guessed++;
        last_correct = now_correct;
        last_guessed = now_guessed;
    }
}

/* ---- helpers ------------------------------------------------------------------------------------------- */

enum { METRICS_O, METRICS_B_PER, METRICS_I_PER, METRICS_B_LOC, METRICS_I_LOC };
static const char *const metrics_labels[] = { "O", "B-PER", "I-PER", "B-LOC", "I-LOC" };

static void metrics_assert_near(double a, double b) { assert_true(fabs(a - b) < 1e-9); }

static mtl__metric metrics_tags(void)
{
    mtl__metric m;
    memset(&m, 0, sizeof m);
    m.spans = 1;
    return m;
}

static void metrics_assert_spans(const mtl__metric *m, size_t gold, size_t predicted, size_t right)
{
    assert_int_equal(m->gold_spans, gold);
    assert_int_equal(m->predicted_spans, predicted);
    assert_int_equal(m->right_spans, right);
}

/* ---- tests --------------------------------------------------------------------------------------------- */

static void test_metrics_spans_of_a_sentence(void **state)
{
    /* begin of span:     0        1        2      -    4        5        6        -    8        */
    const char *tags[] = { "B-PER", "B-PER", "I-LOC", "O", "I-LOC", "B-LOC", "I-PER", "O", "I-ORG" };
    const size_t begins[] = { 0, 1, 2, 4, 5, 6, 8 }, ends[] = { 1, 2, 3, 5, 6, 7, 9 };
    const char *types[] = { "PER", "PER", "LOC", "LOC", "LOC", "PER", "ORG" };
    const char *longer[] = { "B-A-B", "I-A-B", "I-A-B", "E-A-B", "I", "I", "B" };
    mtl_span spans[8], one[1];
    size_t i;
    (void)state;
    assert_int_equal(mtl_spans(tags, 9, spans, 8), 7);
    for (i = 0; i < 7; i++) {
        assert_int_equal(spans[i].begin, begins[i]);
        assert_int_equal(spans[i].end, ends[i]);
        assert_string_equal(spans[i].type, types[i]);
    }
    assert_int_equal(mtl_spans(tags, 9, one, 1), 7);         /* counts beyond the capacity */
    assert_int_equal(one[0].end, 1);
    assert_int_equal(mtl_spans(tags, 9, NULL, 0), 7);
    assert_int_equal(mtl_spans(tags, 0, spans, 8), 0);
    assert_int_equal(mtl_spans(NULL, 3, spans, 8), 0);
    assert_int_equal(mtl_spans(longer, 7, spans, 8), 3);     /* A-B, then the bare I I, then the bare B */
    assert_string_equal(spans[0].type, "A-B");
    assert_int_equal(spans[0].end, 3);
    assert_string_equal(spans[1].type, "");
    assert_int_equal(spans[1].end, 6);
}

static void test_metrics_labels_are_spans(void **state)
{
    const char *without_b[] = { "O", "I-PER" }, *other[] = { "O", "B-PER", "NOUN" },
        *bare[] = { "B-PER", "B-" };
    const char *hole[] = { "B-PER", NULL }, *only_b[] = { "B-x" };
    (void)state;
    assert_int_equal(mtl_labels_are_spans(metrics_labels, 5), 1);
    assert_int_equal(mtl_labels_are_spans(only_b, 1), 1);
    assert_int_equal(mtl_labels_are_spans(without_b, 2), 0);
    assert_int_equal(mtl_labels_are_spans(other, 3), 0);
    assert_int_equal(mtl_labels_are_spans(bare, 2), 0);
    assert_int_equal(mtl_labels_are_spans(hole, 2), 0);
    assert_int_equal(mtl_labels_are_spans(metrics_labels, 0), 0);
    assert_int_equal(mtl_labels_are_spans(NULL, 5), 0);
}

static void test_metrics_counts_as_conlleval(void **state)
{
    const char *const order[2][5] = {{"O", "B-PER", "I-PER", "B-LOC", "I-LOC"},
                                     {"I-LOC", "B-PER", "O", "I-PER", "B-LOC"}};
    mtl__metric m = metrics_tags();
    conlleval_counts counts = { 0, 0, 0 };
    size_t round, t;
    (void)state;
    for (round = 0; round < 20000; round++) {
        const char *const *labels = order[round % 2];
        int known = 5 - (int)(round / 2 % 4);                /* further tags are gold alone: no class, but a
                                                                name */
        const char *gold[12], *guessed[12];
        int gold_labels[12], guessed_labels[12];
        size_t steps = mtl__random_below(17, round, 0, 13);
        for (t = 0; t < steps; t++) {
            int tag = (int)mtl__random_below(17, round, 3 * t + 1, 5),
                other = (int)mtl__random_below(17, round, 3 * t + 3, (size_t)known);
            gold_labels[t] = tag < known ? tag : MTL_UNKNOWN_LABEL - (tag - known);
            guessed_labels[t] = tag < known && mtl__random_below(17, round, 3 * t + 2, 4) ? tag : other;
            gold[t] = labels[tag];
            guessed[t] = labels[guessed_labels[t]];
        }
        conlleval_sequence(&counts, gold, guessed, steps);
        mtl__metric_spans(&m, gold_labels, guessed_labels, steps, labels, labels + known);
        metrics_assert_spans(&m, counts.found_correct, counts.found_guessed, counts.correct);
    }
    assert_true(m.right_spans > 1000 && m.right_spans < m.gold_spans);
}

static void test_metrics_span_scores(void **state)
{
    /* gold: PER[0,2) LOC[3,4) PER[5,6)      predicted: PER[0,2) LOC[3,5)      right: the first alone */
    const int gold[] = { METRICS_B_PER, METRICS_I_PER, METRICS_O, METRICS_B_LOC, METRICS_O, METRICS_B_PER };
    const int guess[] = { METRICS_B_PER, METRICS_I_PER, METRICS_O, METRICS_B_LOC, METRICS_I_LOC, METRICS_O };
    mtl__metric m = metrics_tags();
    mtl_task_score score;
    (void)state;
    mtl__metric_class(&m, gold, guess, 6);
    mtl__metric_spans(&m, gold, guess, 6, metrics_labels, NULL);
    m.loss_sum = 3;
    m.loss_weight = 6;
    mtl__metric_finish_class(&m, &score);
    assert_int_equal(score.items, 6);
    metrics_assert_near(score.loss, 0.5);
    metrics_assert_near(score.accuracy, 4.0 / 6);
    metrics_assert_near(score.span_precision, 1.0 / 2);
    metrics_assert_near(score.span_recall, 1.0 / 3);
    metrics_assert_near(score.span_f1, 2.0 / 5);
    metrics_assert_near(score.score, score.span_f1);
}

static void test_metrics_missing_and_unknown_labels(void **state)
{
    const int missing_gold[] = { METRICS_B_PER, MTL_MISSING, METRICS_I_PER, MTL_MISSING };
    const int missing_guess[] = { METRICS_B_PER, METRICS_I_PER, METRICS_I_PER, METRICS_B_LOC };
    const int unknown_gold[] = { MTL_UNKNOWN_LABEL, MTL_UNKNOWN_LABEL, METRICS_O, METRICS_B_PER };
    const int unknown_guess[] = { METRICS_B_PER, METRICS_I_PER, METRICS_O, METRICS_B_PER };
    mtl__metric m = metrics_tags();
    (void)state;
    mtl__metric_class(&m, missing_gold, missing_guess, 4);
    mtl__metric_spans(&m, missing_gold, missing_guess, 4, metrics_labels, NULL);
    assert_int_equal(m.items, 2);
    assert_int_equal(m.correct, 2);
    metrics_assert_spans(&m, 2, 2, 2);                       /* the hole cuts the person in two on both
                                                                sides */

    m = metrics_tags();
    mtl__metric_class(&m, unknown_gold, unknown_guess, 4);
    mtl__metric_spans(&m, unknown_gold, unknown_guess, 4, metrics_labels, NULL);
    assert_int_equal(m.items, 4);
    assert_int_equal(m.correct, 2);
    metrics_assert_spans(&m, 2, 2, 1);
}

static void test_metrics_numbers(void **state)
{
    const mtl_real gold[] = { 1, 2, 3, 6 };       /* mean 3, SST 4+1+0+9 */
    mtl_real with_nan[5], guess_with_nan[] = { 1, 3, 100, 3, 4 };         /* SSE 0+1+0+4 */
    mtl_task_score score;
    mtl__metric m;
    (void)state;
    memcpy(with_nan, gold, 2 * sizeof *gold);
    memcpy(with_nan + 3, gold + 2, 2 * sizeof *gold);
    with_nan[2] = (mtl_real)NAN;
    memset(&m, 0, sizeof m);
    mtl__metric_real(&m, with_nan, guess_with_nan, 2);       /* in two parts, as batches come */
    mtl__metric_real(&m, with_nan + 2, guess_with_nan + 2, 3);
    mtl__metric_finish_real(&m, &score);
    assert_int_equal(score.items, 4);
    metrics_assert_near(score.rmse, sqrt(5.0 / 4));
    metrics_assert_near(score.mae, 3.0 / 4);
    metrics_assert_near(score.r2, 1 - 5.0 / 14);
    metrics_assert_near(score.score, score.r2);
}

static void test_metrics_vector_targets_and_edges(void **state)
{
    mtl_real gold[] = { 1, 2, 0, 5, 3, 6 }, guess[] = { 1, 3, 9, 9, 3, 4 }, same[] = { 2, 2 },
        off[] = { 2, 5 };
    mtl_real far_gold[4], far_guess[4];
    mtl_task_score score;
    mtl__metric m;
    size_t i;
    (void)state;
    memset(&m, 0, sizeof m);
    m.width = 2;
    gold[2] = (mtl_real)NAN;                                 /* its item is missing, the 5 beside it too */
    mtl__metric_real(&m, gold, guess, 6);
    mtl__metric_finish_real(&m, &score);
    assert_int_equal(score.items, 2);
    metrics_assert_near(score.r2, 1 - 5.0 / 14);

    memset(&m, 0, sizeof m);                                 /* targets without variance */
    mtl__metric_real(&m, same, same, 2);
    mtl__metric_finish_real(&m, &score);
    metrics_assert_near(score.r2, 1);
    mtl__metric_real(&m, same, off, 2);
    mtl__metric_finish_real(&m, &score);
    metrics_assert_near(score.r2, 0);

    memset(&m, 0, sizeof m);                                 /* a mean far from zero costs no digits */
    for (i = 0; i < 4; i++) {
        far_gold[i] = (mtl_real)(1048576 + (int)i);
        far_guess[i] = (mtl_real)(1048576 + 3 - (int)i);     /* SST 5, SSE 20: worse than the mean */
    }
    mtl__metric_real(&m, far_gold, far_guess, 4);
    mtl__metric_finish_real(&m, &score);
    metrics_assert_near(score.r2, -3);
    metrics_assert_near(score.score, 0);
}

static void test_metrics_of_nothing(void **state)
{
    mtl__metric m = metrics_tags();
    mtl_task_score score;
    (void)state;
    mtl__metric_finish_class(&m, &score);
    assert_int_equal(score.items, 0);
    assert_true(score.score == 0 && score.span_f1 == 0 && score.loss == 0);
    mtl__metric_finish_real(&m, &score);
    assert_true(score.score == 0 && score.r2 == 0 && score.rmse == 0);
}

#define TEST_METRICS \
    cmocka_unit_test(test_metrics_spans_of_a_sentence), \
    cmocka_unit_test(test_metrics_labels_are_spans), \
    cmocka_unit_test(test_metrics_counts_as_conlleval), \
    cmocka_unit_test(test_metrics_span_scores), \
    cmocka_unit_test(test_metrics_missing_and_unknown_labels), \
    cmocka_unit_test(test_metrics_numbers), \
    cmocka_unit_test(test_metrics_vector_targets_and_edges), \
    cmocka_unit_test(test_metrics_of_nothing)
