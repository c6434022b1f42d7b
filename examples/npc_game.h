/* What examples/npc.c takes from its game: characters and what happens to them, lessons of them, a world that
   counts what they do, a clock, and a job system as small as one can be. Include it first. */
#if !defined(_POSIX_C_SOURCE) && !defined(_WIN32)
#define _POSIX_C_SOURCE 200112L             /* clock_gettime, which -std=c99 hides */
#endif
#include "mtl_rnn.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- characters ---------------------------------------------------------------------------------------- */

enum { QUIET, NOISE, SEEN, HIT, ALLY_DOWN, FOOD, EVENTS };
enum { WANDER, EAT, GUARD, ATTACK, FLEE, ACTIONS };
enum { CALM, WARY, ALARMED, THREATS };

typedef struct character {
    int present, asleep;                    /* asleep: frames until it wakes */
    float health, distance;                 /* 0 .. 1; from the player */
    float anger, fear, alert;               /* nobody sees these */
    int event;                              /* what has just happened to it */
    int action, threat;                     /* what the rules below make of all that has */
    float mood;
    int does;                               /* what the network says */
} character;

static double uniform(unsigned long long *seed)
{
    return (double)((*seed = *seed * 6364136223846793005u + 1442695040888963407u) >> 40) / 16777216.0;
}

static character born(unsigned long long *seed)
{
    character c = { .present = 1, .health = 1, .distance = (float)uniform(seed) };
    return c;
}

/* Anger, fear and alertness come from what happened before, and fade: whoever sees events, health and
   distance alone has to remember. */
static void happen(character *c, unsigned long long *seed)
{
    const double danger = 0.3 * (1 - (double)c->distance), chance = uniform(seed);
    c->event = chance < 0.5 * danger ? HIT : chance < danger ? SEEN : chance < danger + 0.04 ? ALLY_DOWN
        : chance < danger + 0.12 ? NOISE : chance < danger + 0.2 ? FOOD : QUIET;
    const float hit = c->event == HIT, fallen = c->event == ALLY_DOWN;
    c->distance = fminf(1, fmaxf(0, c->distance + 0.1f * (float)(uniform(seed) - 0.5)));
    c->health = fminf(1, fmaxf(0, c->health - 0.15f * hit + 0.01f));
    c->anger = 0.92f * c->anger + 0.5f * hit + 0.3f * fallen;
    c->fear = 0.95f * c->fear + (0.7f - 0.5f * c->health) * (hit + fallen);
    c->alert = 0.85f * c->alert + 0.6f * (float)(c->event == SEEN || c->event == NOISE);
    c->action = c->fear > 0.8f ? FLEE : c->anger > 0.5f ? ATTACK : c->alert > 0.3f ? GUARD
        : c->event == FOOD || c->health < 0.5f ? EAT : WANDER;
    c->threat = c->fear + c->alert > 1 ? ALARMED : c->fear + c->alert > 0.4f ? WARY : CALM;
    c->mood = 1 - c->anger - c->fear;
}

/* Falls asleep, wakes and leaves. */
static int is_awake(character *c, unsigned long long *seed)
{
    if (c->asleep && c->asleep--) return 0;
    if (uniform(seed) < 0.004) c->asleep = 60;
    if (uniform(seed) < 0.002) c->present = 0;
    return 1;
}

/* What the network may know of it. */
enum { HEALTH, DISTANCE, NUMBERS };
static void sense(const character *c, int *event, mtl_real numbers[NUMBERS])
{
    *event = c->event;
    numbers[HEALTH] = c->health, numbers[DISTANCE] = c->distance;
}

/* ---- lessons: characters that follow the rules --------------------------------------------------------- */

enum { LESSONS = 400, LENGTH = 64, STEPS = LESSONS * LENGTH };

typedef struct lessons {
    int lengths[LESSONS], events[STEPS], actions[STEPS], threats[STEPS];
    mtl_real numbers[STEPS * NUMBERS], moods[STEPS];
} lessons;

static void write_lessons(lessons *to)
{
    unsigned long long seed = 1;
    character c = {0};
    for (int n = 0; n < STEPS; n++) {
        if (n % LENGTH == 0) c = born(&seed);
        happen(&c, &seed);
        to->lengths[n / LENGTH] = LENGTH;
        sense(&c, &to->events[n], &to->numbers[n * NUMBERS]);
        to->actions[n] = c.action, to->moods[n] = c.mood, to->threats[n] = c.threat;
    }
}

/* ---- the world: what a saved game holds beside the memories -------------------------------------------- */

enum { CHARACTERS = 1000 };

typedef struct world {
    unsigned long long seed, answers;       /* answers: all actions so far, as one number */
    size_t frame, asked, agreed, left_out;
    size_t taught[ACTIONS];                 /* how often the rules said so */
    character all[CHARACTERS];
} world;

static void count_action(world *w, const character *c)
{
    w->answers = w->answers * 31 + (unsigned long long)c->does;
    w->agreed += c->does == c->action;
    w->taught[c->action]++;
    w->asked++;
}

static double percent(size_t part, size_t all) { return all ? 100 * (double)part / (double)all : 0; }

static void print_rest(const world *w)
{
    size_t most = 0;
    for (size_t a = 0; a < ACTIONS; a++) most = w->taught[a] > most ? w->taught[a] : most;
    printf("\nThe most frequent action alone: %.1f %%. Steps left out: %zu of %zu.\n",
           percent(most, w->asked), w->left_out, w->asked);
}

static void print_head(double learnt, size_t frames)
{
    printf("learnt in %.1f s; %d characters, %zu frames, which have 16667 us at 60 Hz\n\n", learnt,
           CHARACTERS, frames);
    printf("%-34s %6s %7s %8s %10s %9s %6s\n", "us of a frame", "mean", "median", "longest", "character",
           "right, %", "KB");
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A line of the table; took: the seconds of each frame, which are sorted. */
static void print_frames(const char *what, double *took, const world *w, size_t bytes)
{
    double sum = 0;
    for (size_t f = 0; f < w->frame; f++) sum += took[f];
    qsort(took, w->frame, sizeof *took, compare);
    printf("%-34s %6.0f %7.0f %8.0f %10.3f %9.1f %6.0f\n", what, 1e6 * sum / (double)w->frame,
           1e6 * took[w->frame / 2], 1e6 * took[w->frame - 1], 1e6 * sum / (double)w->asked,
           percent(w->agreed, w->asked), (double)bytes / 1024);
}

/* ---- jobs: workers sleep until there are some. On Windows they are done one after the other ------------ */

enum { WORKERS = 3 };                       /* beside the thread that hands out jobs, and does some itself */

#ifdef _WIN32
typedef struct jobs { int none; } jobs;
static double seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }
static void jobs_begin(jobs *j) { (void)j; }
static void jobs_end(jobs *j) { (void)j; }
static void parallel_for(void *user, size_t count, void (*job)(void *context, size_t index), void *context)
{
    (void)user;
    for (size_t i = 0; i < count; i++) job(context, i);
}
#else
#include <pthread.h>

typedef struct jobs {
    size_t workers, next, count, left;      /* the next job, how many there are, how many are not done yet */
    void (*job)(void *context, size_t index);
    void *context;
    int ends;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    pthread_t threads[WORKERS];
} jobs;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The lock is held before and after. */
static void jobs_do_one(jobs *j)
{
    const size_t index = j->next++;
    pthread_mutex_unlock(&j->lock);
    j->job(j->context, index);
    pthread_mutex_lock(&j->lock);
    if (--j->left == 0) pthread_cond_signal(&j->done);
}

static void *jobs_work(void *user)
{
    jobs *j = user;
    pthread_mutex_lock(&j->lock);
    while (!j->ends)
        if (j->next < j->count) jobs_do_one(j);
        else pthread_cond_wait(&j->work, &j->lock);
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

/* j: zeroed. With fewer threads than asked for, or none, all jobs are done all the same. */
static void jobs_begin(jobs *j)
{
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->work, NULL);
    pthread_cond_init(&j->done, NULL);
    while (j->workers < WORKERS && !pthread_create(&j->threads[j->workers], NULL, jobs_work, j)) j->workers++;
}

static void jobs_end(jobs *j)
{
    pthread_mutex_lock(&j->lock);
    j->ends = 1;
    pthread_cond_broadcast(&j->work);
    pthread_mutex_unlock(&j->lock);
    for (size_t i = 0; i < j->workers; i++) pthread_join(j->threads[i], NULL);
    pthread_cond_destroy(&j->done);
    pthread_cond_destroy(&j->work);
    pthread_mutex_destroy(&j->lock);
}

/* mtl_scheduler.parallel_for, and what the game calls for jobs of its own. */
static void parallel_for(void *user, size_t count, void (*job)(void *context, size_t index), void *context)
{
    jobs *j = user;
    pthread_mutex_lock(&j->lock);
    j->job = job, j->context = context;
    j->next = 0, j->count = j->left = count;
    pthread_cond_broadcast(&j->work);
    while (j->next < j->count) jobs_do_one(j);
    while (j->left) pthread_cond_wait(&j->done, &j->lock);
    pthread_mutex_unlock(&j->lock);
}
#endif
