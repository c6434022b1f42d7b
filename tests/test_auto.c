/* tests/test_auto.c    what --share auto chooses: examples/mtl/auto.c's rule, on given scores.

   The file is included, so that its own functions can be called; no model is trained. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail                                 /* the command has a function of that name */

#include "../examples/mtl/auto.c"

/* An attempt with tasks 0 to count - 1 (alone: with the task `only`). Scores: those given, on every block the
   same but for +- spread by turns, so that the standard error of a difference is about spread / sqrt(BLOCKS).
   */
static void add(search *s, int structure, int only, int count, const double *scores, double spread)
{
    attempt of = { 0 };
    int k, block;
    of.structure = &structures[structure];
    for (k = 0; k < count; k++) {
        arrput(of.tasks, structure == ALONE ? only : k);
        for (block = 0; block < BLOCKS; block++) arrput(of.scores, scores[k] + (block % 2 ? spread
                                                                                : -spread));
        arrput(of.scores, scores[k]);
    }
    arrput(s->attempts, of);
}

static void forget(search *s)
{
    size_t i;
    for (i = 0; i < arrlenu(s->attempts); i++) {
        arrfree(s->attempts[i].tasks);
        arrfree(s->attempts[i].scores);
    }
    arrfree(s->attempts);
}

/* Three tasks alone at 0.8, and one joint attempt with these scores: the tasks that are kept of it, as bits.
   */
static int kept_of(double a, double b, double c, double spread)
{
    const double alone[] = { 0.8, 0.8, 0.8 }, joint[] = { a, b, c };
    search s = { 0 };
    int *kept = NULL, bits = 0, k;
    for (k = 0; k < 3; k++) add(&s, ALONE, k, 1, &alone[k], 0);
    add(&s, FULL, 0, 3, joint, spread);
    if (choose(&s, &kept))
        for (k = 0; k < (int)arrlen(kept); k++) bits |= 1 << kept[k];
    arrfree(kept);
    forget(&s);
    return bits;
}

static void tasks_that_lose_stand_alone(void **state)
{
    (void)state;
    assert_int_equal(kept_of(0.82, 0.82, 0.82, 0), 7);
    assert_int_equal(kept_of(0.82, 0.79, 0.82, 0), 5);
    assert_int_equal(kept_of(0.79, 0.79, 0.79, 0), 0);
    assert_int_equal(kept_of(0.8, 0.8, 0.8, 0), 7);         /* equal: one encoder is smaller and faster */
}

/* The standard error of spread 0.1 is 0.0229: a loss of half of that is noise, but not in the sum of tasks.
   */
static void noise_is_no_loss_but_adds_up(void **state)
{
    (void)state;
    assert_int_equal(kept_of(0.792, 0.82, 0.82, 0.1), 7);
    assert_int_equal(kept_of(0.787, 0.82, 0.82, 0.1), 6);
    assert_int_equal(kept_of(0.792, 0.792, 0.81, 0.1), 0);  /* each within its noise, the sum is below zero */
    assert_int_equal(kept_of(0.792, 0.792, 0.82, 0.1), 7);
}

/* Of an encoder for one task others have nothing: it must gain more than its noise. */
static void one_task_alone_must_gain(void **state)
{
    (void)state;
    assert_int_equal(kept_of(0.81, 0.7, 0.7, 0.1), 0);
    assert_int_equal(kept_of(0.85, 0.7, 0.7, 0.1), 1);
}

static void a_task_without_labels_is_not_judged(void **state)
{
    (void)state;
    assert_int_equal(kept_of(0.82, (double)NAN, 0.82, 0), 5);
}

static void the_larger_gain_is_chosen(void **state)
{
    const double alone[] = { 0.8, 0.8 }, full[] = { 0.82, 0.81 }, partial[] = { 0.82, 0.83 };
    search s = { 0 };
    int *kept = NULL, k;
    (void)state;
    for (k = 0; k < 2; k++) add(&s, ALONE, k, 1, &alone[k], 0);
    assert_null(choose(&s, &kept));
    add(&s, FULL, 0, 2, full, 0);
    assert_ptr_equal(choose(&s, &kept), &s.attempts[2]);
    add(&s, PARTIAL, 0, 2, partial, 0);
    assert_ptr_equal(choose(&s, &kept), &s.attempts[3]);
    assert_int_equal(arrlen(kept), 2);
    assert_ptr_equal(chosen_attempt(&s, &s.attempts[3], kept, 1), &s.attempts[3]);
    arrfree(kept);
    forget(&s);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_that_lose_stand_alone), cmocka_unit_test(noise_is_no_loss_but_adds_up),
        cmocka_unit_test(one_task_alone_must_gain),    cmocka_unit_test(a_task_without_labels_is_not_judged),
        cmocka_unit_test(the_larger_gain_is_chosen),
    };
    return cmocka_run_group_tests_name("auto", tests, NULL, NULL);
}
