/*
 * What a test asks about its own process: who watches it, and what it takes.
 */
#ifndef ASH_TESTS_PROCESS_H
#define ASH_TESTS_PROCESS_H

#include "ashlar/stats.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((unused)) static bool under_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");
    return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

/* By valgrind or the address sanitizer: they report the use of what has ended. */
__attribute__((unused)) static bool memory_watched(void)
{
#ifdef __SANITIZE_ADDRESS__
    return true;
#else
    return under_valgrind();
#endif
}

/* Resident memory; asking for it allocates nothing. */
__attribute__((unused)) static long resident_kib(void)
{
    char text[128] = {0};
    int fd = open("/proc/self/statm", O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
        abort();
    close(fd);
    return strtol(strchr(text, ' '), NULL, 10) * (sysconf(_SC_PAGESIZE) / 1024);
}

/* By how much memory that stays flat may differ: sanitizers and valgrind keep records of their own. */
__attribute__((unused)) static long flat_kib(void)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    return 65536;
#else
    return under_valgrind() ? 65536 : 2048;
#endif
}

/* All that there ever were of small blocks. */
__attribute__((unused)) static uint64_t allocations(void)
{
    uint64_t sum = 0;
    struct ash_class_stats c = {0};
    for (unsigned i = 0; ash_stats_class(i, &c) == 0; i++)
        sum += c.hits + c.misses;
    return sum;
}

#endif
