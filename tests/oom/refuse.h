/*
 * The seam of the tests without memory: the linker puts these in front of the mapping functions of the core
 * (-Wl,--wrap=os_map_at,--wrap=os_map,--wrap=os_reserve).
 */
#ifndef ASH_TESTS_REFUSE_H
#define ASH_TESTS_REFUSE_H

#include <errno.h>
#include <stddef.h>

int __real_os_map_at(void *at, size_t n);
void *__real_os_map(size_t n);
void *__real_os_reserve(size_t n);
int __wrap_os_map_at(void *at, size_t n);
void *__wrap_os_map(size_t n);
void *__wrap_os_reserve(size_t n);

static _Atomic(long) calls, fail_at, fail_count;

/* True for the calls number fail_at .. fail_at + fail_count - 1. */
static int refused(void)
{
    long i = ++calls;
    return i >= fail_at && i < fail_at + fail_count;
}

int __wrap_os_map_at(void *at, size_t n)
{
    return refused() ? -ENOMEM : __real_os_map_at(at, n);
}

void *__wrap_os_map(size_t n)
{
    return refused() ? NULL : __real_os_map(n);
}

void *__wrap_os_reserve(size_t n)
{
    return refused() ? NULL : __real_os_reserve(n);
}

#endif
