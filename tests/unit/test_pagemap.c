/*
 * What the system says of pages: which were copied, which were written since they were protected, and which of those
 * have memory of their own. A system that cannot tell is skipped.
 */
#include "os/os_mem.h"
#include "os/os_memfd.h"
#include "os/os_pagemap.h"
#include "tap.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { PAGES = 300 };

static size_t page;
static unsigned char *range;

/* Pages of a kind, found `room` stretches at a time; below 0: what the system answers instead. */
static long count(enum os_page_kind kind, size_t room)
{
    struct os_page_range found[PAGES] = {{0}}; /* for tools that do not know this system call */
    uintptr_t from = (uintptr_t)range, end = from + PAGES * page;
    long bytes = 0;
    while (from < end) {
        long got = os_pages_scan(&from, end, kind, found, room);
        if (got < 0)
            return got;
        for (long i = 0; i < got; i++)
            bytes += (long)(found[i].end - found[i].start);
    }
    return bytes / (long)page;
}

/* A private mapping of a file whose pages are all of one byte. */
static int range_map(void)
{
    range = os_map(PAGES * page);
    memset(range, 7, PAGES * page);
    int fd = os_memfd_create(range, PAGES * page);
    int status = fd < 0 ? fd : os_memfd_overlay(fd, range, PAGES * page);
    close(fd);
    return status;
}

/* Every third page is written. */
static void write_some(void)
{
    for (size_t i = 0; i < PAGES; i += 3)
        range[i * page + 5]++;
}

static int sum(void)
{
    int all = 0;
    for (size_t i = 0; i < PAGES; i++)
        all += range[i * page + 5];
    return all;
}

static void drop_some(void)
{
    struct os_page_range third[PAGES / 3];
    for (size_t i = 0; i < PAGES / 3; i++) {
        uint64_t start = (uintptr_t)range + 3 * i * page;
        third[i] = (struct os_page_range){.start = start, .end = start + page};
    }
    is_int(os_pages_drop(third, 0), 0, "nothing is dropped");
    is_int(os_pages_drop(third, OS_PAGES_RANGES), 0, "so many stretches are dropped at once");
    is_int(os_pages_drop(third + OS_PAGES_RANGES, PAGES / 3 - OS_PAGES_RANGES), 0, "and the rest");
    is_int(sum(), 7 * PAGES, "they are the file's again");
}

static void test_copied(void)
{
    int status = range_map();
    is_int(sum(), 7 * PAGES, "pages are read");
    if (status < 0 || count(OS_PAGES_COPIED, PAGES) < 0) {
        skip("the system does not tell of pages", 1);
        os_unmap(range, PAGES * page);
        return;
    }
    is_int(count(OS_PAGES_COPIED, PAGES), 0, "none is the process's own");
    write_some();
    is_int(count(OS_PAGES_COPIED, PAGES), PAGES / 3, "those are that were written");
    is_int(count(OS_PAGES_COPIED, 1), PAGES / 3, "likewise one by one");
    is_int(count(OS_PAGES_COPIED, 7), PAGES / 3, "likewise by seven");
    is_int(count(OS_PAGES_WRITTEN, PAGES), -EPERM, "nobody watches");
    drop_some();
    is_int(count(OS_PAGES_COPIED, PAGES), 0, "none is the process's own again");
    os_unmap(range, PAGES * page);
}

static void test_watched(void)
{
    if (range_map() < 0 || os_pages_watch(range, PAGES * page) < 0 || os_pages_protect(range, PAGES * page) < 0) {
        skip("the system does not watch pages", 1);
        os_unmap(range, PAGES * page);
        return;
    }
    is_int(count(OS_PAGES_WRITTEN, PAGES), 0, "protected: none is written");
    is_int(count(OS_PAGES_COLD, PAGES), 0, "and none is cold, as none is there");
    is_int(sum(), 7 * PAGES, "pages are read");
    is_int(count(OS_PAGES_WRITTEN, PAGES), 0, "which is no write");
    is_int(count(OS_PAGES_COLD, PAGES), 0, "and takes no memory of the process's own");
    write_some();
    is_int(count(OS_PAGES_WRITTEN, 7), PAGES / 3, "a third is written");
    is_int(count(OS_PAGES_TAKEN, 7), PAGES / 3, "a scan that protects what it finds");
    is_int(count(OS_PAGES_WRITTEN, PAGES), 0, "has protected it");
    is_int(count(OS_PAGES_COLD, 7), PAGES / 3, "so it is cold");
    range[5]++;
    is_int(count(OS_PAGES_WRITTEN, PAGES), 1, "a page is written again");
    is_int(count(OS_PAGES_COLD, PAGES), PAGES / 3 - 1, "and no longer cold");
    drop_some();
    is_int(count(OS_PAGES_COLD, PAGES), 0, "nor are the others that are dropped, protected as they are");
    write_some();
    is_int(count(OS_PAGES_WRITTEN, PAGES), PAGES / 3, "their next writes are seen");
    os_unmap(range, PAGES * page);
}

int main(void)
{
    page = os_page_size();
    test_copied();
    test_watched();
    return tap_done();
}
