#ifndef _WIN32
#define _POSIX_C_SOURCE 200809L
#ifdef __linux__
#define _GNU_SOURCE                         /* sched_getaffinity */
#endif
#endif

#include "system.h"

#ifndef _WIN32
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#endif

char **system_begin(int *count, char **arguments)
{
    (void)count;
    signal(SIGPIPE, SIG_IGN);
#ifdef SIGXFSZ
    signal(SIGXFSZ, SIG_IGN);
#endif
    return arguments;
}

FILE *file_open(const char *path, const char *mode) { return fopen(path, mode); }

int file_kind(const char *path, double *bytes)
{
    struct stat status;
    if (stat(path, &status) != 0) return FILE_NONE;
    if (bytes) *bytes = (double)status.st_size;
    return S_ISREG(status.st_mode) ? FILE_REGULAR : S_ISDIR(status.st_mode) ? FILE_FOLDER : FILE_OTHER;
}

void file_remove(const char *path) { remove(path); }

int same_file(const char *a, const char *b)
{
    struct stat at_a, at_b;
    return stat(a, &at_a) == 0 && stat(b, &at_b) == 0 && at_a.st_dev == at_b.st_dev &&
           at_a.st_ino == at_b.st_ino;
}

int folder_is_writable(const char *path) { return access(path, W_OK) == 0; }

char *last_separator(char *path) { return strrchr(path, '/'); }

ptrdiff_t read_line(char **line, size_t *capacity, FILE *file) { return getline(line, capacity, file); }

double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

long usable_processors(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    return sysconf(_SC_NPROCESSORS_ONLN);
}

double machine_memory(void) { return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE); }

int output_is_terminal(void) { return isatty(STDOUT_FILENO); }

size_t terminal_width(void)
{
#ifdef TIOCGWINSZ
    struct winsize window;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 20) return window.ws_col;
#endif
    return 80;
}

static volatile sig_atomic_t interrupts;

static void on_interrupt(int number)
{
    (void)number;
    if (interrupts) _exit(130);
    interrupts = 1;
}

void catch_interrupts(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

int interrupted(void) { return interrupts != 0; }

#endif /* not _WIN32 */
