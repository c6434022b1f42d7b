/* A game's 1,000 characters. In each frame every character that is awake reads one event and two numbers, and
   one GRU with three heads says what it does next (a class), its mood (a number) and how threatened it is (a
   class). A character's memory is a row of a state: it waits while the character sleeps, begins anew when
   another one takes the row, and goes into a saved game. Nothing is allocated in the loop; a broken sensor
   (NaN) disturbs nobody else; labels need no probabilities; four slices run on the game's own job system.
   docs/step_by_step.md walks through it. Run: make && build/npc [FRAMES] */
#include "npc_game.h"
#include <string.h>

enum { ACTION, MOOD, THREAT, TASKS };
enum { SLICES = 4 };

/* ---- learning, once, from characters that follow the rules --------------------------------------------- */

static mtl_model *learn(mtl_error *err)
{
    static const mtl_input_desc inputs[] = { { .name = "event", .vocabulary = EVENTS, .width = 8 },
                                             { .name = "senses", .features = NUMBERS } };
    static const mtl_task_desc tasks[TASKS] = {
        { .name = "action", .kind = MTL_TASK_CLASS, .level = MTL_LEVEL_STEP, .classes = ACTIONS },
        { .name = "mood", .kind = MTL_TASK_REAL, .level = MTL_LEVEL_STEP },
        { .name = "threat", .kind = MTL_TASK_CLASS, .level = MTL_LEVEL_STEP, .classes = THREATS } };
    const mtl_model_desc desc = { .inputs = inputs, .input_count = 2, .tasks = tasks, .task_count = TASKS,
                                  .encoder = { .cell = MTL_CELL_GRU, .hidden = 32 } };
    const mtl_trainer_desc how = { .lr = 1e-2f, .clip_norm = 1, .schedule = MTL_SCHEDULE_COSINE };
    const mtl_fit_desc fit = { .epochs = 30, .batch = 16 };
    static lessons of;
    const mtl_input input[] = { { .ids = of.events }, { .rows = of.numbers } };
    const mtl_target goal[] = { { .labels = of.actions }, { .values = of.moods }, { .labels = of.threats } };
    const mtl_batch data = { .sequences = LESSONS, .lengths = of.lengths, .inputs = input, .targets = goal };
    write_lessons(&of);
    mtl_model *model = mtl_model_create(&desc, err);
    mtl_trainer *trainer = mtl_trainer_create(model, &how, err);
    mtl_fit(trainer, &data, 1, NULL, 0, &fit, NULL, err);
    mtl_trainer_destroy(trainer);
    return model;
}

/* ---- the frame loop ------------------------------------------------------------------------------------ */

/* Characters that think together, with all that this takes: one job, or a whole game. */
typedef struct slice {
    size_t first, count, awake;             /* its characters; of them awake */
    mtl_predictor *predictor;
    mtl_state *state;
    int rows[CHARACTERS], events[CHARACTERS];               /* [awake] */
    mtl_real numbers[CHARACTERS * NUMBERS];
    mtl_prediction out[TASKS];
    mtl_error err;
} slice;

typedef struct game {
    world world;
    size_t slice_count;
    slice slices[SLICES];
} game;

static const mtl_model *brain;
static int lengths[CHARACTERS];             /* one step each */

/* Characters appear, fall asleep, wake and leave. What happens to those awake goes into the slice's batch. */
static void move(world *w, slice *s)
{
    s->awake = 0;
    for (size_t row = 0; row < s->count; row++) {
        character *c = &w->all[s->first + row];
        if (!c->present) {
            if (uniform(&w->seed) > 0.05) continue;
            *c = born(&w->seed);
            mtl_state_reset_row(s->state, row, &s->err);
        }
        if (!is_awake(c, &w->seed)) continue;
        happen(c, &w->seed);
        sense(c, &s->events[s->awake], &s->numbers[s->awake * NUMBERS]);
        s->rows[s->awake++] = (int)row;
    }
    if (w->frame == 100 && s->first == 0) s->numbers[DISTANCE] = (mtl_real)NAN;     /* a bug in the game */
}

/* What the network does in a frame; a job. */
static void think(void *user, size_t index)
{
    slice *s = &((slice *)user)[index];
    const mtl_input inputs[] = { { .ids = s->events }, { .rows = s->numbers } };
    const mtl_batch batch = { .sequences = s->awake, .lengths = lengths, .inputs = inputs, .state = s->state,
                              .state_rows = s->rows };
    if (s->awake) mtl_predict(s->predictor, &batch, s->out, &s->err);
}

static void act(world *w, slice *s)
{
    for (size_t i = 0; i < s->awake && !s->err.code; i++) {     /* who was left out goes on as before */
        character *c = &w->all[s->first + (size_t)s->rows[i]];
        if (mtl_predictor_skipped(s->predictor)[i]) w->left_out++;
        else c->does = s->out[ACTION].labels[i];
        count_action(w, c);
    }
}

/* Plays on to a frame. took, NULL or for each frame: the seconds in which the network thought. */
static void play(game *g, size_t to, jobs *j, double *took)
{
    for (; g->world.frame < to; g->world.frame++) {
        for (size_t k = 0; k < g->slice_count; k++) move(&g->world, &g->slices[k]);
        const double start = seconds();
        if (g->slice_count > 1) parallel_for(j, g->slice_count, think, g->slices);
        else think(g->slices, 0);
        if (took) took[g->world.frame] = seconds() - start;
        for (size_t k = 0; k < g->slice_count; k++) act(&g->world, &g->slices[k]);
    }
}

/* A saved game: the world, and each character's memory behind it. */
static void save(const game *g, world *w, mtl_real *memories, mtl_error *err)
{
    const size_t width = mtl_state_width(g->slices[0].state), each = g->slices[0].count;
    *w = g->world;
    for (size_t i = 0; i < CHARACTERS; i++)
        mtl_state_get(g->slices[i / each].state, i % each, memories + i * width, err);
}

static void load(game *g, const world *w, const mtl_real *memories, mtl_error *err)
{
    const size_t width = mtl_state_width(g->slices[0].state), each = g->slices[0].count;
    g->world = *w;
    for (size_t i = 0; i < CHARACTERS; i++)
        mtl_state_set(g->slices[i / each].state, i % each, memories + i * width, err);
}

/* All memory that the frames need: within max_rows a predictor in a buffer of ours takes nothing more. */
static void open_game(game *g, size_t slices, mtl_predictor_desc how, mtl_arena *arena, mtl_error *err)
{
    memset(g, 0, sizeof *g);
    g->world.seed = 2;
    g->slice_count = slices;
    for (size_t k = 0; k < slices; k++) {
        slice *s = &g->slices[k];
        s->count = how.max_rows = CHARACTERS / slices;
        s->first = k * s->count;
        const size_t size = mtl_predictor_size(brain, &how, err);
        const size_t state = mtl_state_size(brain, s->count, err);
        s->predictor = mtl_predictor_init(mtl_arena_push(arena, size), size, brain, &how, err);
        s->state = mtl_state_init(mtl_arena_push(arena, state), state, brain, s->count, err);
    }
}

/* A hundred frames, twice: from where the game is, and from where it was saved. */
static void check_saving(game *g, jobs *j, mtl_error *err)
{
    static world saved;
    const size_t at = g->world.frame;
    mtl_real *memories = malloc(CHARACTERS * mtl_state_width(g->slices[0].state) * sizeof *memories);
    if (!memories) return;
    print_rest(&g->world);
    save(g, &saved, memories, err);
    play(g, at + 100, j, NULL);
    const unsigned long long answers = g->world.answers;
    load(g, &saved, memories, err);
    play(g, at + 100, j, NULL);
    printf("The game saved at frame %zu and loaded again: 100 frames on its characters have done %s.\n", at,
           answers == g->world.answers ? "the same" : "OTHER THINGS");
    free(memories);
}

/* One game from its beginning. */
static void measure(const char *what, size_t slices, mtl_predictor_desc how, jobs *j, size_t frames,
                    mtl_error *err)
{
    static game g;
    mtl_arena arena;
    double *took = calloc(frames, sizeof *took);
    mtl_arena_init(&arena, NULL, 0, NULL);
    open_game(&g, slices, how, &arena, err);
    if (took && !err->code) {
        play(&g, frames, j, took);
        print_frames(what, took, &g.world, arena.used);
        if (slices == SLICES) check_saving(&g, j, err);
    }
    free(took);
    for (size_t k = 0; k < slices && !err->code; k++) *err = g.slices[k].err;
    mtl_arena_destroy(&arena);
}

int main(int argc, char **argv)
{
    const size_t frames = argc > 1 && atoi(argv[1]) > 0 ? (size_t)atoi(argv[1]) : 600;
    mtl_error err = {0};
    jobs j = {0};
    const mtl_scheduler scheduler = { .user = &j, .parallel_for = parallel_for, .threads = WORKERS + 1 };
    const double start = seconds();
    mtl_model *model = learn(&err);
    brain = model;
    for (int i = 0; i < CHARACTERS; i++) lengths[i] = 1;
    jobs_begin(&j);
    print_head(seconds() - start, frames);
    const mtl_predictor_desc full = { .max_steps = 1, .skip_bad = 1 };
    const mtl_predictor_desc labels = { .max_steps = 1, .skip_bad = 1, .logits = 1 };
    const mtl_predictor_desc spread = { .max_steps = 1, .skip_bad = 1, .logits = 1, .scheduler = &scheduler };
    measure("one thread, probabilities", 1, full, &j, frames, &err);
    measure("one thread, labels alone", 1, labels, &j, frames, &err);
    measure("its passes on the game's threads", 1, spread, &j, frames, &err);
    measure("four slices on the game's threads", SLICES, labels, &j, frames, &err);
    jobs_end(&j);
    if (err.code) fprintf(stderr, "npc: %s\n", err.message);
    mtl_model_destroy(model);
    return err.code != MTL_OK;
}
