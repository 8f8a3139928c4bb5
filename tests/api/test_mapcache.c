/*
 * Map caches in one thread: files of a temporary directory are opened, replaced, truncated and removed; what is mapped
 * when, in which order it goes, and what every function answers at the edges.
 */
#include "ashlar/ashlar.h"
#include "clock.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static char directory[] = "/tmp/test_mapcache.XXXXXX";

static const char *path_of(const char *name)
{
    static char paths[8][PATH_MAX];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    snprintf(path, PATH_MAX, "%s/%s", directory, name);
    return path;
}

/* A file of `n` bytes c, in place or by rename. */
static void write_file(const char *name, int c, size_t n)
{
    static char bytes[1 << 16];
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    memset(bytes, c, sizeof bytes);
    while (fd >= 0 && n > 0) {
        ssize_t wrote = write(fd, bytes, n < sizeof bytes ? n : sizeof bytes);
        if (wrote <= 0)
            abort();
        n -= (size_t)wrote;
    }
    if (fd < 0)
        abort();
    close(fd);
}

static void replace_file(const char *name, int c, size_t n)
{
    write_file("new", c, n);
    if (rename(path_of("new"), path_of(name)) != 0)
        abort();
}

static struct ash_mapcache_stats stats(struct ash_mapcache *c)
{
    struct ash_mapcache_stats s;
    ash_mapcache_stats(c, &s);
    return s;
}

static int holds(const struct ash_map *map, int c, size_t n)
{
    for (size_t i = 0; i < n && i < map->len; i++)
        if (map->data[i] != c)
            return 0;
    return map->len == n;
}

/* Opens all of a file; aborts when it cannot. */
static struct ash_map open_all(struct ash_mapcache *c, const char *name)
{
    struct ash_map map;
    int status = ash_mapcache_open(c, path_of(name), 0, 0, 0, &map);
    if (status != 0) {
        tap_line("# %s: %s", name, strerror(-status));
        abort();
    }
    return map;
}

/* Opens and closes; is it mapped anew for that? */
static int maps_anew(struct ash_mapcache *c, const char *name)
{
    uint64_t maps = stats(c).maps;
    struct ash_map map = open_all(c, name);
    ash_mapcache_close(c, &map);
    return stats(c).maps != maps;
}

/* ---- use ---- */

/* A server of pages: each request opens its page, and hands the bytes on as a buf that closes it when it was sent. */
static struct ash_mapcache *pages;

static void close_page(void *data, void *user)
{
    (void)data;
    ash_mapcache_close(pages, user);
    free(user);
}

static struct ash_buf page_of(const char *name)
{
    struct ash_buf b = {0};
    struct ash_map *map = malloc(sizeof *map);
    if (ash_mapcache_open(pages, path_of(name), 0, 0, ASH_MAP_SEQUENTIAL, map) != 0)
        abort();
    unsigned char *data = (unsigned char *)(uintptr_t)map->data;
    if (ash_buf_wrap(&b, data, map->len, close_page, map) != 0)
        abort();
    return b;
}

static void test_pages(void)
{
    pages = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.name = "pages", .max_bytes = 64 << 20));
    write_file("index.html", 'i', 5000);
    struct ash_buf first = page_of("index.html"), again = page_of("index.html");
    struct ash_buf range = ash_buf_slice(&first, 1000, 100);
    ok(first.data == again.data && first.len == 5000, "two requests share one mapping");
    ash_buf_drop(&first);
    ash_buf_drop(&again);
    replace_file("index.html", 'j', 6000);
    ash_mapcache_invalidate(pages, path_of("index.html"));
    struct ash_buf fresh = page_of("index.html");
    ok(fresh.len == 6000 && fresh.data[0] == 'j' && range.data[99] == 'i', "a slice of the old page stays what it is");
    is_int(ash_mapcache_destroy(pages), -EBUSY, "and holds up the cache's end");
    ash_buf_drop(&range);
    ash_buf_drop(&fresh);
    struct ash_mapcache_stats s = stats(pages);
    ok(s.opens == 3 && s.hits == 1 && s.maps == 2 && s.unmaps == 1 && s.in_use == 0, "all of it counted");
    is_int(ash_mapcache_destroy(pages), 0, "the end");
}

/* ---- one function after the other ---- */

static void test_create(void)
{
    static const struct ash_mapcache_config *none;
    char name[40];
    memset(name, 'n', sizeof name - 1);
    name[39] = '\0';
    struct ash_mapcache *c = ash_mapcache_create(none);
    ok(c != NULL && ash_mapcache_destroy(c) == 0 && ash_mapcache_destroy(NULL) == 0, "the default cache, and none");
    const struct ash_mapcache_config bad[] = {
        {.struct_size = 0},
        {.struct_size = sizeof bad[0], .name = name},
        {.struct_size = sizeof bad[0], .name = ""},
        {.struct_size = sizeof bad[0], .name = "two\nlines"},
        {.struct_size = sizeof bad[0], .name = "quo\"te"},
        {.struct_size = sizeof bad[0], .flags = 2},
        {.struct_size = sizeof bad[0], .max_maps = 1 << 21},
    };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        ok(ash_mapcache_create(&bad[i]) == NULL && errno == EINVAL, "configuration %u is refused", i);
    }
    struct ash_stats before = {.struct_size = sizeof before}, after = before;
    for (int i = 0; i < 100; i++) {
        if (i == 1)
            ash_stats_get(&before);
        c = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.max_maps = 100));
        write_file("x", 'x', 100);
        maps_anew(c, "x");
        ash_mapcache_destroy(c);
    }
    ash_stats_get(&after);
    ok(after.meta_bytes == before.meta_bytes && after.live_bytes <= before.live_bytes, "caches come and go");
}

static void test_open(struct ash_mapcache *c)
{
    struct ash_map map, part;
    write_file("a", 'a', 10000);
    write_file("empty", 0, 0);
    is_int(ash_mapcache_open(c, path_of("a"), 0, 0, 0, &map), 0, "open");
    ok(holds(&map, 'a', 10000), "all of the file");
    is_int(ash_mapcache_open(c, path_of("a"), 5001, 100, 0, &part), 0, "a part");
    ok(part.data == map.data + 5001 && part.len == 100, "of the same mapping");
    ash_mapcache_close(c, &part);
    ok(part.data == NULL && part.len == 0 && part.entry == NULL, "close empties the map");
    ash_mapcache_close(c, &part);
    is_int(ash_mapcache_open(c, path_of("a"), 9000, 0, 0, &part), 0, "to the end");
    is_int((long long)part.len, 1000, "is what there is");
    ash_mapcache_close(c, &part);
    is_int(ash_mapcache_open(c, path_of("a"), 10000, 0, 0, &part), 0, "from the end on");
    ok(part.len == 0 && part.data != NULL, "is nothing");
    ash_mapcache_close(c, &part);
    is_int(ash_mapcache_open(c, path_of("empty"), 0, 0, 15 - 2, &part), 0, "a file of no bytes");
    ok(part.len == 0 && part.data != NULL, "is a map of none");
    is_int((long long)stats(c).in_use, 2, "but open");
    ash_mapcache_close(c, &part);
    ash_mapcache_share(c, &map, &part);
    ash_mapcache_close(c, &map);
    ok(holds(&part, 'a', 10000), "shared, it stays open");
    ash_mapcache_close(c, &part);
    part.entry = NULL;
    ash_mapcache_share(c, &part, &map);
    ok(map.entry == NULL, "none, shared, is none");
    is_int((long long)stats(c).in_use, 0, "and nothing is open");
}

static void test_refusals(struct ash_mapcache *c)
{
    struct ash_map map;
    int fds_before = open("/dev/null", O_RDONLY);
    close(fds_before);
    struct ash_mapcache_stats before = stats(c);
    memset(&map, 0xff, sizeof map);
    is_int(ash_mapcache_open(c, path_of("none"), 0, 0, 0, &map), -ENOENT, "a file that is not there");
    ok(map.data == NULL && map.len == 0 && map.entry == NULL, "the map is none");
    is_int(ash_mapcache_open(c, directory, 0, 0, 0, &map), -EISDIR, "a directory");
    is_int(ash_mapcache_open(c, "/dev/null", 0, 0, 0, &map), -EINVAL, "a device");
    if (mkfifo(path_of("fifo"), 0600) != 0)
        abort();
    is_int(ash_mapcache_open(c, path_of("fifo"), 0, 0, 0, &map), -EINVAL, "a pipe without a writer: no waiting");
    is_int(ash_mapcache_open(c, "", 0, 0, 0, &map), -ENOENT, "no name");
    is_int(ash_mapcache_open(c, NULL, 0, 0, 0, &map), -EINVAL, "no path");
    is_int(ash_mapcache_open(NULL, "x", 0, 0, 0, &map), -EINVAL, "no cache");
    is_int(ash_mapcache_open(c, path_of("a"), 0, 0, 0, NULL), -EINVAL, "no map");
    is_int(ash_mapcache_open(c, path_of("a"), -1, 0, 0, &map), -EINVAL, "in front of the file");
    is_int(ash_mapcache_open(c, path_of("a"), 0, 0, 16, &map), -EINVAL, "an unknown hint");
    is_int(ash_mapcache_open(c, path_of("a"), 0, 0, 3, &map), -EINVAL, "hints that exclude each other");
    is_int(ash_mapcache_open(c, path_of("a"), 10001, 0, 0, &map), -ERANGE, "beyond the end");
    is_int(ash_mapcache_open(c, path_of("a"), 9999, 2, 0, &map), -ERANGE, "across the end");
    is_int(ash_mapcache_open(c, path_of("a"), 1, SIZE_MAX, 0, &map), -ERANGE, "a length that overflows");
    ash_mapcache_invalidate(c, path_of("a"));
    is_int(ash_mapcache_open(c, path_of("a"), 9999, 2, 0, &map), -ERANGE, "the same of a file that is not mapped");
    struct ash_mapcache_stats after = stats(c);
    ok(after.in_use == before.in_use && after.opens == before.opens && after.maps == before.maps, "nothing is held");
    int fd = open("/dev/null", O_RDONLY);
    is_int(fd, fds_before, "no descriptor is left open");
    close(fd);
}

static void test_hints(struct ash_mapcache *c)
{
    struct ash_map map;
    write_file("b", 'b', 200000);
    static const unsigned hints[] = {ASH_MAP_SEQUENTIAL, ASH_MAP_RANDOM, ASH_MAP_WILLNEED, ASH_MAP_POPULATE,
                                     ASH_MAP_SEQUENTIAL | ASH_MAP_WILLNEED | ASH_MAP_POPULATE};
    int wrong = 0;
    for (unsigned i = 0; i < 10; i++) {
        wrong += ash_mapcache_open(c, path_of("b"), 4000 + i, 100000, hints[i % 5], &map) != 0 || !holds(&map, 'b', 100000);
        ash_mapcache_close(c, &map);
    }
    is_int(wrong, 0, "hints of every kind, on a part");
}

/* ---- files that change ---- */

static void test_changes(void)
{
    struct ash_mapcache *c = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.flags = ASH_MAPCACHE_VALIDATE));
    write_file("f", '1', 5000);
    struct ash_map first = open_all(c, "f"), second, third;
    ok(!maps_anew(c, "f"), "a file that is the same is mapped once");
    replace_file("f", '2', 5000);
    second = open_all(c, "f");
    ok(holds(&first, '1', 5000) && holds(&second, '2', 5000), "replaced: each has what it opened");
    is_int((long long)stats(c).in_use, 2, "in two mappings");
    sleep_ms(20);
    write_file("f", '3', 5000); /* in place: another time of modification */
    third = open_all(c, "f");
    ok(third.data != second.data && holds(&third, '3', 5000), "written in place: mapped anew");
    ash_mapcache_close(c, &first);
    ash_mapcache_close(c, &second);
    is_int((long long)stats(c).unmaps, 2, "old mappings go with their last user");
    struct stat st;
    if (stat(path_of("f"), &st) != 0 || truncate(path_of("f"), 100) != 0)
        abort();
    struct timespec times[2] = {st.st_atim, st.st_mtim};
    if (utimensat(AT_FDCWD, path_of("f"), times, 0) != 0) /* the size alone tells */
        abort();
    is_int(ash_mapcache_open(c, path_of("f"), 200, 100, 0, &first), -ERANGE, "truncated: an open past the end is refused");
    first = open_all(c, "f");
    is_int((long long)first.len, 100, "one of the whole has what is left");
    ash_mapcache_close(c, &first);
    ash_mapcache_close(c, &third);
    unlink(path_of("f"));
    is_int(ash_mapcache_open(c, path_of("f"), 0, 0, 0, &first), -ENOENT, "removed: as the kernel says");
    ok(stats(c).validations >= 5, "the kernel was asked each time");
    is_int(ash_mapcache_destroy(c), 0, "nothing is open");
}

static void test_revalidation(void)
{
    struct ash_mapcache *ms = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.revalidate_ns = 300000000));
    struct ash_mapcache *never = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.revalidate_ns = -1));
    struct ash_mapcache *usual = ash_mapcache_create(NULL);
    write_file("r", '1', 100);
    maps_anew(ms, "r");
    maps_anew(never, "r");
    maps_anew(usual, "r");
    replace_file("r", '2', 100);
    ok(!maps_anew(ms, "r") && !maps_anew(never, "r"), "within revalidate_ns an open does not look");
    is_int((long long)stats(ms).validations, 0, "nor ask");
    sleep_ms(50);
    ok(maps_anew(usual, "r") && stats(usual).validations == 1, "the default sees a replaced file after 10 ms");
    sleep_ms(300);
    ok(maps_anew(ms, "r") && !maps_anew(ms, "r"), "after revalidate_ns it does");
    sleep_ms(1100);
    ok(!maps_anew(never, "r") && stats(never).validations == 0, "with a negative one it never does");
    is_int(ash_mapcache_invalidate(never, path_of("r")), 0, "until it is told");
    ok(maps_anew(never, "r"), "and sees the new file at once");
    is_int(ash_mapcache_invalidate(never, path_of("not")), -ENOENT, "invalidate what is not mapped");
    is_int(ash_mapcache_invalidate(never, NULL), 0, "invalidate all");
    is_int((long long)stats(never).mapped_bytes, 0, "unmaps what is not open");
    ash_mapcache_destroy(ms);
    ash_mapcache_destroy(never);
    ash_mapcache_destroy(usual);
}

/* ---- what goes when ---- */

static void test_budget(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct ash_mapcache *c = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.max_bytes = 3 * page, .revalidate_ns = -1));
    static const char *const names[] = {"p0", "p1", "p2", "p3", "p4"};
    for (int i = 0; i < 5; i++)
        write_file(names[i], '0' + i, page);
    for (int i = 0; i < 3; i++)
        maps_anew(c, names[i]);
    ok(!maps_anew(c, "p0") && stats(c).mapped_bytes == 3 * page, "three pages fit a budget of three");
    ok(maps_anew(c, "p3") && stats(c).mapped_bytes == 3 * page, "for a fourth");
    ok(!maps_anew(c, "p0") && !maps_anew(c, "p2") && !maps_anew(c, "p3"), "those used last stay");
    ok(maps_anew(c, "p1"), "and the one used longest ago went");
    struct ash_map maps[5];
    for (int i = 0; i < 5; i++)
        maps[i] = open_all(c, names[i]);
    is_int((long long)stats(c).mapped_bytes, (long long)(5 * page), "what is open is not unmapped for the budget");
    int wrong = 0;
    for (int i = 0; i < 5; i++) {
        wrong += !holds(&maps[i], '0' + i, page);
        ash_mapcache_close(c, &maps[i]);
    }
    is_int(wrong, 0, "and holds what it should");
    is_int(ash_mapcache_trim(c, -1, 2 * page), 0, "trim to two pages");
    ok(stats(c).mapped_bytes == 2 * page && !maps_anew(c, "p4") && !maps_anew(c, "p3"), "leaves the last two");
    is_int(ash_mapcache_trim(c, 3600000000000, SIZE_MAX), 0, "trim what is an hour old");
    is_int((long long)stats(c).mapped_bytes, (long long)(2 * page), "there is none");
    maps[0] = open_all(c, "p0");
    is_int(ash_mapcache_trim(c, 0, 0), 0, "trim all");
    ok(stats(c).mapped_bytes == page && holds(&maps[0], '0', page), "but what is open");
    ash_mapcache_close(c, &maps[0]);
    is_int(ash_mapcache_destroy(c), 0, "the end");

    c = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.max_maps = 2));
    maps[0] = open_all(c, "p0");
    maps_anew(c, "p1");
    ok(maps_anew(c, "p2") && maps_anew(c, "p1"), "two maps at a time: an unused one makes room");
    maps[1] = open_all(c, "p1");
    is_int(ash_mapcache_open(c, path_of("p2"), 0, 0, 0, &maps[2]), -ENOBUFS, "with both open there is none");
    ash_mapcache_close(c, &maps[1]);
    maps[2] = open_all(c, "p2");
    ok(holds(&maps[2], '2', page), "with one closed there is");
    ash_mapcache_close(c, &maps[0]);
    ash_mapcache_close(c, &maps[2]);
    is_int(ash_mapcache_destroy(c), 0, "the end");
}

static void test_age(void)
{
    struct ash_mapcache *c = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.max_age_ns = 100000000));
    struct ash_map open_map = open_all(c, "p0");
    maps_anew(c, "p1");
    sleep_ms(250);
    maps_anew(c, "p2");
    ok(maps_anew(c, "p1"), "unused for max_age_ns, a mapping goes with the next slow open");
    struct ash_map same = open_all(c, "p0");
    ok(same.data == open_map.data, "one that is open does not age");
    ash_mapcache_close(c, &same);
    ash_mapcache_close(c, &open_map);
    ok(ash_mapcache_trim(c, 0, SIZE_MAX) == 0 && stats(c).mapped_bytes == 0, "trim of all ages unmaps all");
    ash_mapcache_destroy(c);
}

/* A thousand files, paths of every length, in a table that is as full as can be. */
static void test_many(void)
{
    enum { MANY = 300 };
    struct ash_mapcache *c = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.max_maps = MANY, .revalidate_ns = -1));
    static struct ash_map maps[MANY];
    char name[200];
    int wrong = 0;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++) {
            memset(name, 'n', sizeof name);
            snprintf(name + i % 180, 10, "%d", i);
            if (round == 0)
                write_file(name, i, 10);
            maps[i] = open_all(c, name);
        }
        for (int i = 0; i < MANY; i++) {
            wrong += !holds(&maps[i], (unsigned char)i, 10);
            ash_mapcache_close(c, &maps[i]);
        }
    }
    struct ash_mapcache_stats s = stats(c);
    ok(wrong == 0 && s.maps == MANY && s.hits == MANY, "%d files, each mapped once, each its own", MANY);
    ash_mapcache_destroy(c);
}

static void test_shown(void)
{
    struct ash_mapcache *c = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.name = "shown"));
    struct ash_mapcache *gone = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.name = "gone"));
    maps_anew(c, "p0");
    maps_anew(c, "p0");
    ash_mapcache_destroy(gone);
    FILE *f = tmpfile();
    static char out[65536];
    static const char *const wants[] = {"\n  shown ", "{\"name\": \"shown\", \"opens\": 2, \"hits\": 1, ",
                                        "ashlar_mapcache_hits_total{name=\"shown\"} 1\n"};
    for (int format = 0; format < 4; format++) {
        if (f == NULL || ftruncate(fileno(f), 0) != 0)
            abort();
        lseek(fileno(f), 0, SEEK_SET);
        int status = format < 3 ? ash_stats_dump(fileno(f), (enum ash_format)format) : ash_mapcache_dump(c, fileno(f));
        ssize_t n = pread(fileno(f), out, sizeof out - 1, 0);
        out[n < 0 ? 0 : n] = '\0';
        if (format < 3)
            ok(status == 0 && strstr(out, wants[format]) != NULL && strstr(out, "gone") == NULL,
               "caches are in statistics of format %d, as long as there are", format);
        else
            ok(status == 0 && strstr(out, "mapcache shown: 2 opens, 1 hits") == out && strstr(out, "/p0\n") != NULL,
               "ash_mapcache_dump shows the mappings");
    }
    fclose(f);
    is_int(ash_mapcache_dump(c, -1), -EBADF, "to nowhere");
    is_int(ash_mapcache_stats(c, NULL), -EINVAL, "statistics to nowhere");
    ok(stats(c).in_use == 0 && stats(c).opens == 2, "looking is not opening");
    ash_mapcache_destroy(c);
}

static void test_misuse(void)
{
    struct ash_mapcache *c = ash_mapcache_create(NULL);
    int fds[2];
    char line[256] = "";
    if (pipe(fds) != 0)
        abort();
    pid_t child = fork();
    if (child == 0) {
        struct ash_map map = open_all(c, "p0"), copy = map;
        dup2(fds[1], STDERR_FILENO);
        ash_mapcache_close(c, &map);
        ash_mapcache_close(c, &copy);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (read(fds[0], line, sizeof line - 1) < 0)
        abort();
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(line, "ashlar: close of a map of 0x") == line,
       "a copy closed too is reported");
    close(fds[0]);
    close(fds[1]);
    ash_mapcache_destroy(c);
}

int main(void)
{
    if (mkdtemp(directory) == NULL)
        abort();
    struct ash_mapcache *c = ash_mapcache_create(NULL);
    test_pages();
    test_create();
    test_open(c);
    test_refusals(c);
    test_hints(c);
    test_changes();
    test_revalidation();
    test_budget();
    test_age();
    test_many();
    test_shown();
    test_misuse();
    is_int(ash_mapcache_destroy(c), 0, "nothing is open in the end");
    char remove[64];
    snprintf(remove, sizeof remove, "rm -rf %s", directory);
    if (system(remove) != 0)
        abort();
    return tap_done();
}
