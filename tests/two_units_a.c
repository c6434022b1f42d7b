/* Two translation units: the implementation is here, its other user is two_units_b.c. With MTL_RNN_STATIC
   each unit has an implementation of its own. Build: cc tests/two_units_a.c tests/two_units_b.c -I. -lm
   -pthread. Status 0: all is well. */
#define MTL_RNN_IMPLEMENTATION
#include "mtl_rnn.h"
#include <stdio.h>

int two_units_train(mtl_error *err);        /* two_units_b.c */

int main(void)
{
    mtl_error err = {0};
    mtl_arena arena;
    mtl_arena_init(&arena, NULL, 0, NULL);
    if (!mtl_arena_push(&arena, 100)) return 1;
    mtl_arena_destroy(&arena);
    if (!two_units_train(&err)) fprintf(stderr, "two_units: the loss did not fall. %s\n", err.message);
    else return err.code;
    return 1;
}
