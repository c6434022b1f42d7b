/* Generated signals of a motor, which sensor_train.c learns from and sensor.c shows: 50 samples a second of
   its acceleration in two directions, its current and its temperature; with what is to be told of each. */
#ifndef SENSOR_SIGNALS_H
#define SENSOR_SIGNALS_H
#include <math.h>

enum { STATE, SPEED, LOAD, TASKS };                             /* a class, turns a second, percent */
enum { STOPPED, RUNNING, UNBALANCED, BLOCKED, STATES };
enum { FEATURES = 4, SECOND = 50 };                                     /* samples in a second */

static const char *const states[STATES] = { "stopped", "running", "unbalanced", "blocked" };
static const char *const features[FEATURES] = { "x", "y", "current", "temperature" };

typedef struct sample { float row[FEATURES]; int state; float speed, load; } sample;
typedef struct motor {
    unsigned long long seed;
    int state, left;                        /* samples until it changes */
    double speed, wanted, load, phase, temperature;
} motor;

static inline double uniform(motor *m)
{
    return (double)((m->seed = m->seed * 6364136223846793005u + 1442695040888963407u) >> 40) / 16777216.0;
}
static inline double noise(motor *m)
{
    return 1.73 * (uniform(m) + uniform(m) + uniform(m) + uniform(m) - 2);
}

static inline motor motor_new(unsigned long long seed)
{
    motor m = { 0 };
    m.seed = seed;
    m.temperature = 20;
    return m;
}

static inline void motor_change(motor *m)
{
    m->state = (int)(uniform(m) * STATES);
    m->left = 2 * SECOND + (int)(uniform(m) * 6 * SECOND);
    m->wanted = m->state == STOPPED || m->state == BLOCKED ? 0 : 3 + 9 * uniform(m);
    m->load = m->state == STOPPED ? 0 : m->state == BLOCKED ? 100 : 10 + 80 * uniform(m);
}

/* Speed follows what is wanted within a second. A turn shakes, more with the square of the speed, and most
   when the wheel is out of balance; the current follows the load, which is highest in a blocked motor. */
static inline sample motor_step(motor *m)
{
    sample s;
    double shake;
    if (m->left-- <= 0) motor_change(m);
    m->speed += 3.0 / SECOND * (m->wanted - m->speed);
    m->phase += 6.283185307 * m->speed / SECOND;
    shake = m->speed * m->speed * (m->state == UNBALANCED ? 0.06 : 0.01);
    m->temperature += 0.02 / SECOND * (20 + 0.5 * m->load - m->temperature);
    s.row[0] = (float)(shake * sin(m->phase) + 0.1 * noise(m));
    s.row[1] = (float)(shake * cos(m->phase) + 0.1 * noise(m));
    s.row[2] = (float)(m->load * 0.04 + 0.05 * m->speed + 0.1 * noise(m));
    s.row[3] = (float)(m->temperature + 0.3 * noise(m));
    s.state = m->state;
    s.speed = (float)m->speed;
    s.load = (float)m->load;
    return s;
}
#endif
