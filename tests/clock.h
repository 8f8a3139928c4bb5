/*
 * Time, for tests: the clock that the library waits by, and sleep.
 */
#ifndef ASH_TESTS_CLOCK_H
#define ASH_TESTS_CLOCK_H

#include <stdint.h>
#include <time.h>

__attribute__((unused)) static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

__attribute__((unused)) static void sleep_ns(int64_t ns)
{
    nanosleep(&(struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000}, NULL);
}

__attribute__((unused)) static void sleep_ms(int64_t ms)
{
    sleep_ns(ms * 1000000);
}

#endif
