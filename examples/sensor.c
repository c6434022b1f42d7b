/* A stream of samples from a motor's sensors: what state is it in (a class), how fast does it turn and how
   loaded is it (two numbers)? Told of each sample as it comes. The weights are constants of the program,
   which sensor_train.c made while it was built: no model is read, nothing is allocated, and a sample takes
   less than a microsecond.

   sensor              a minute of generated signals (sensor_signals.h)
   sensor FILE.csv     samples of a file: a line of titles, then x,y,current,temperature and, where they are
                       known, state,speed,load
   sensor --write      the generated signals as such a file, on standard output */
#include "mtl_rnn.h"
#include "sensor_net.h"
#include "sensor_signals.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MINUTE = 60 * SECOND };
static MTL_EXPORTED unsigned char buffer[sensor_net_BYTES(1)];

/* How right the answers were, of samples that say what is true. */
typedef struct tally { int samples, known, right; double speed, load; } tally;

enum { AGAIN = 1000000 };                   /* samples to take the time with */

static void show_time(mtl_stream *stream, mtl_error *err)
{
    mtl_real row[FEATURES] = { 0 };
    const clock_t begin = clock();
    for (int i = 0; i < AGAIN; i++) mtl_stream_step(stream, 0, &(mtl_input){ .rows = row }, err);
    printf("%.2f us a sample; %zu bytes of memory beside the constants\n",
           1e6 * (double)(clock() - begin) / CLOCKS_PER_SEC / AGAIN, sizeof buffer);
}

/* One sample through the stream; every second one line. state < 0: nobody knows. */
static int tell(mtl_stream *stream, const sample *s, tally *sums, mtl_error *err)
{
    mtl_real row[FEATURES];
    for (int j = 0; j < FEATURES; j++) row[j] = (mtl_real)s->row[j];
    const mtl_prediction *out = mtl_stream_step(stream, 0, &(mtl_input){ .rows = row }, err);
    if (!out) return 0;
    const int state = out[sensor_net_state].labels[0];
    const double speed = (double)out[sensor_net_speed].values[0];
    const double load = (double)out[sensor_net_load].values[0];
    const char *truth = s->state >= 0 && s->state != state ? states[s->state] : "";
    if (sums->samples++ % SECOND == 0)
        printf("%5d s   %-10s %4.1f turns a second   %3.0f %% load%s%s\n", sums->samples / SECOND,
               states[state], speed, load, *truth ? "   in truth " : "", truth);
    if (s->state < 0) return 1;
    sums->known++;
    sums->right += s->state == state;
    sums->speed += (speed - (double)s->speed) * (speed - (double)s->speed);
    sums->load += (load - (double)s->load) * (load - (double)s->load);
    return 1;
}

/* ---- files --------------------------------------------------------------------------------------------- */

static void write_signals(void)
{
    motor m = motor_new(1);
    printf("x,y,current,temperature,state,speed,load\n");
    for (int t = 0; t < MINUTE; t++) {
        const sample s = motor_step(&m);
        printf("%.4f,%.4f,%.4f,%.3f,%s,%.3f,%.1f\n", (double)s.row[0], (double)s.row[1], (double)s.row[2],
               (double)s.row[3], states[s.state], (double)s.speed, (double)s.load);
    }
}

static int complain(const char *path, int line, int column, const char *what, const char *field)
{
    fprintf(stderr, "sensor: %s:%d: column %d: %s: '%s'\n", path, line, column, what, field);
    return 0;
}

/* One line into a sample; 0 when something in it is wrong, which is told. */
static int read_line(const char *path, int line, char *text, sample *s)
{
    float numbers[FEATURES + 3] = { 0 };
    int column = 0;
    s->state = -1;
    text[strcspn(text, "\r\n")] = '\0';
    for (char *field = text, *comma; field; field = comma ? comma + 1 : NULL, column++) {
        char *end;
        comma = strchr(field, ',');
        if (comma) *comma = '\0';
        if (column == FEATURES + 3)
            return complain(path, line, column + 1, "a line has at most 7 fields", field);
        if (column == FEATURES) {
            while (++s->state < STATES && strcmp(field, states[s->state]) != 0) {}
            if (s->state < STATES) continue;
            return complain(path, line, column + 1, "this is none of the four states", field);
        }
        numbers[column] = strtof(field, &end);
        if (end == field || *end || !isfinite(numbers[column]))
            return complain(path, line, column + 1, "this is no finite number", field);
    }
    if (column != FEATURES && column != FEATURES + 3)
        return complain(path, line, column, "a line has 4 fields or 7, this one ends here", "");
    memcpy(s->row, numbers, sizeof s->row);
    s->speed = numbers[FEATURES + 1], s->load = numbers[FEATURES + 2];
    return 1;
}

static int tell_file(mtl_stream *stream, const char *path, tally *sums, mtl_error *err)
{
    char text[256];
    sample s;
    FILE *file = fopen(path, "r");
    int good = file && fgets(text, sizeof text, file) != NULL;
    if (!good) fprintf(stderr, "sensor: cannot read '%s', or it is empty\n", path);
    else if (strncmp(text, "x,y,current,temperature", 23) != 0)
        good = complain(path, 1, 1, "the titles must be x,y,current,temperature[,state,speed,load]", "");
    for (int line = 2; good && fgets(text, sizeof text, file); line++)
        good = read_line(path, line, text, &s) && tell(stream, &s, sums, err);
    if (file) fclose(file);
    return good;
}

int main(int count, char **arguments)
{
    mtl_error err = { 0 };
    tally sums = { 0 };
    int good = 1;
    if (count == 2 && strcmp(arguments[1], "--write") == 0) return write_signals(), 0;
    if (count > 2 || (count == 2 && arguments[1][0] == '-'))
        return fprintf(stderr, "sensor [FILE.csv | --write]\n"), 2;
    mtl_stream *stream = mtl_stream_open(buffer, sizeof buffer, &sensor_net, 1, MTL_ISA_AUTO, &err);
    motor m = motor_new(1);
    if (stream && count == 2) good = tell_file(stream, arguments[1], &sums, &err);
    for (int t = 0; count < 2 && good && stream && t < MINUTE; t++) {
        const sample s = motor_step(&m);
        good = tell(stream, &s, &sums, &err);
    }
    if (err.code) fprintf(stderr, "sensor: %s\n", err.message);
    if (sums.known)
        printf("%d samples: state right %.1f %%, speed off by %.2f turns a second, load by %.1f %% (rmse)\n",
               sums.known, 100.0 * sums.right / sums.known, sqrt(sums.speed / sums.known),
               sqrt(sums.load / sums.known));
    if (sums.samples) show_time(stream, &err);
    return err.code || !good;
}
