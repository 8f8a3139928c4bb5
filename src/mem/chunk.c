#include "mem/chunk.h"

#include "mem/meta.h"

size_t chunk_header_bytes;
ASH_TABLE _Atomic(char *) chunk_headers[WINDOW_CHUNKS];

void chunk_boot(size_t header_bytes)
{
    chunk_header_bytes = header_bytes;
}

bool chunk_ensure(size_t unit, size_t units)
{
    for (size_t c = unit / CHUNK_UNITS; c <= (unit + units - 1) / CHUNK_UNITS; c++) {
        if (load_relaxed(&chunk_headers[c]) != NULL)
            continue;
        char *none = NULL;
        char *headers = meta_take(CHUNK_UNITS * chunk_header_bytes);
        if (headers == NULL)
            return false;
        /*
         * release: the zeroed headers; pairs with chunk_header. Two threads meet here only where
         * the first runs of a chunk are taken at the same moment; the loser's stays unused.
         */
        atomic_compare_exchange_strong_explicit(&chunk_headers[c], &none, headers,
                                                memory_order_release, memory_order_relaxed);
    }
    return true;
}
