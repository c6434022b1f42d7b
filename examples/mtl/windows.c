#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <fcntl.h>
#include <io.h>
#include <shellapi.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#include "system.h"

#ifdef _WIN32
/* The arguments as UTF-8; the console shows UTF-8 and obeys escape sequences, where it can. */
char **system_begin(int *count, char **arguments)
{
    HANDLE console = GetStdHandle(STD_OUTPUT_HANDLE);
    wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), count);
    DWORD mode;
    int i;
    _setmode(0, _O_BINARY);
    _setmode(1, _O_BINARY);
    SetConsoleOutputCP(CP_UTF8);
    if (GetConsoleMode(console, &mode)) SetConsoleMode(console, mode | ENABLE_VIRTUAL_TERMINAL_PROCESSING);
    if (!wide || !(arguments = calloc((size_t)*count + 1, sizeof *arguments))) abort();
    for (i = 0; i < *count; i++) {
        int bytes = WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, NULL, 0, NULL, NULL);
        if (!(arguments[i] = malloc((size_t)bytes + 1))) abort();
        arguments[i][WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, arguments[i], bytes, NULL, NULL)] = '\0';
    }
    LocalFree(wide);
    return arguments;
}

static wchar_t *wide_path(const char *path)                 /* in malloc's memory; NULL: there is no memory */
{
    int count = MultiByteToWideChar(CP_UTF8, 0, path, -1, NULL, 0);
    wchar_t *wide = malloc((size_t)(count + 1) * sizeof *wide);
    if (wide) wide[MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, count)] = 0;
    return wide;
}

FILE *file_open(const char *path, const char *mode)
{
    wchar_t *wide = wide_path(path), wide_mode[8] = { 0 };
    FILE *file = NULL;
    size_t i;
    for (i = 0; mode[i] && i < 6; i++) wide_mode[i] = (wchar_t)mode[i];
    if (!strchr(mode, 'b')) wide_mode[i] = L'b';
    if (wide) file = _wfopen(wide, wide_mode);
    free(wide);
    return file;
}

void file_remove(const char *path)
{
    wchar_t *wide = wide_path(path);
    if (wide) _wremove(wide);
    free(wide);
}

int file_kind(const char *path, double *bytes)
{
    struct _stat64 status;
    wchar_t *wide = wide_path(path);
    int found = wide && _wstat64(wide, &status) == 0;
    free(wide);
    if (!found) return FILE_NONE;
    if (bytes) *bytes = (double)status.st_size;
    return S_ISREG(status.st_mode) ? FILE_REGULAR : S_ISDIR(status.st_mode) ? FILE_FOLDER : FILE_OTHER;
}

/* Volume and number of a file; 0 where it cannot be opened. */
static int get_identity(const char *path, BY_HANDLE_FILE_INFORMATION *identity)
{
    const DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    wchar_t *wide = wide_path(path);
    HANDLE file = INVALID_HANDLE_VALUE;
    int found;
    if (wide) file = CreateFileW(wide, 0, share, NULL, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, NULL);
    found = file != INVALID_HANDLE_VALUE && GetFileInformationByHandle(file, identity);
    if (file != INVALID_HANDLE_VALUE) CloseHandle(file);
    free(wide);
    return found;
}

int same_file(const char *a, const char *b)
{
    BY_HANDLE_FILE_INFORMATION at_a, at_b;
    return get_identity(a, &at_a) && get_identity(b, &at_b) &&
           at_a.dwVolumeSerialNumber == at_b.dwVolumeSerialNumber &&
           at_a.nFileIndexHigh == at_b.nFileIndexHigh && at_a.nFileIndexLow == at_b.nFileIndexLow;
}

int folder_is_writable(const char *path)
{
    wchar_t *wide = wide_path(path);
    int writable = wide && _waccess(wide, W_OK) == 0;
    free(wide);
    return writable;
}

char *last_separator(char *path)
{
    char *slash = strrchr(path, '/'), *backslash = strrchr(path, '\\');
    return !slash || (backslash && backslash > slash) ? backslash : slash;
}

ptrdiff_t read_line(char **line, size_t *capacity, FILE *file)
{
    size_t length = 0;
    int c;
    while ((c = getc(file)) != EOF) {
        if (length + 2 > *capacity) {
            char *larger = realloc(*line, *capacity * 2 + 128);
            if (!larger) return -1;
            *line = larger;
            *capacity = *capacity * 2 + 128;
        }
        (*line)[length++] = (char)c;
        if (c == '\n') break;
    }
    if (length) (*line)[length] = '\0';
    return length ? (ptrdiff_t)length : -1;
}

double clock_seconds(void)
{
    LARGE_INTEGER now, rate;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&rate);
    return (double)now.QuadPart / (double)rate.QuadPart;
}

long usable_processors(void)
{
    DWORD_PTR ours, all;
    long count = 0;
    if (!GetProcessAffinityMask(GetCurrentProcess(), &ours, &all)) return 1;
    for (; ours; ours &= ours - 1) count++;
    return count;
}

double machine_memory(void)
{
    MEMORYSTATUSEX status;
    status.dwLength = sizeof status;
    return GlobalMemoryStatusEx(&status) ? (double)status.ullTotalPhys : 0;
}

int output_is_terminal(void) { return isatty(STDOUT_FILENO); }

size_t terminal_width(void)
{
    CONSOLE_SCREEN_BUFFER_INFO window;
    int width = 0;
    if (GetConsoleScreenBufferInfo(GetStdHandle(STD_OUTPUT_HANDLE), &window))
        width = window.srWindow.Right - window.srWindow.Left + 1;
    return width > 20 ? (size_t)width : 80;
}

static volatile sig_atomic_t interrupts;

static void on_interrupt(int number)
{
    (void)number;
    interrupts = 1;
}

/* A second one ends the program by itself. */
void catch_interrupts(void) { signal(SIGINT, on_interrupt); }

int interrupted(void) { return interrupts != 0; }
#endif
