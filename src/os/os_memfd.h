/*
 * Memory that has no address of its own: an anonymous file, mapped where it is wanted. Nothing here
 * sets errno; answers are 0 or a negative errno. Any thread.
 */
#ifndef ASH_OS_MEMFD_H
#define ASH_OS_MEMFD_H

#include "base/base.h"

/*
 * An anonymous file that holds `n` bytes from `from`, whole pages; its descriptor, closed on exec.
 * The mappings below keep the file when the descriptor is closed.
 */
int os_memfd_create(const void *from, size_t n);

/* The file, read-only and shared; NULL when refused. */
const void *os_memfd_view(int fd, size_t n);

/*
 * Puts the file in place of what is mapped at `at`, in one step: its content is seen there, pages
 * that are written become this process's own, and os_purge makes them the file's again.
 */
int os_memfd_overlay(int fd, void *at, size_t n);

#endif
