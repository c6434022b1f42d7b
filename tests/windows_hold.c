/* Holds a file open for tests/test_windows.sh: windows_hold HOW PATH prints "open", ends with its standard
   input. HOW: ours, as the library opens files; or alone, so that nobody may replace it. Status 1: the file
   has gone bad. */
#define MTL_RNN_IMPLEMENTATION
#include "mtl_rnn.h"

int main(int count, char **arguments)
{
    mtl__handle handle = -1;
    char begin[8] = { 0 }, end[64];
    int error = 0;
    if (count != 3) return 2;
    if (strcmp(arguments[1], "ours") == 0) error = mtl__os_open(arguments[2], MTL__OPEN_READ, &handle);
    else handle = _open(arguments[2], _O_RDONLY | _O_BINARY);
    if (error || handle < 0) return 2;
    puts("open");
    fflush(stdout);
    while (fgets(end, sizeof end, stdin)) { }
    return mtl__os_read(handle, begin, sizeof begin, &error) != sizeof begin || error;
}
