/* Growing arrays: arrput, arrlenu, arrfree .. of stb_ds, whose memory is checked. NULL is an empty one. */
#ifndef MTL_ARRAYS_H
#define MTL_ARRAYS_H

#include "messages.h"

#define STBDS_REALLOC(context, memory, bytes) checked_realloc(memory, bytes)
#define STBDS_FREE(context, memory) free(memory)
#include "stb_ds.h"

#endif
