/*
 * Map caches in several threads: files are opened, replaced, trimmed and evicted at the same time, and whoever has a map
 * reads what he opened for as long as he has it; one file is mapped once however many open it first; children of a fork
 * in the middle of that go on.
 */
#include "ashlar/ashlar.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { THREADS_MAX = 8, FILES = 24, BYTES = 5000 };

static char directory[] = "/tmp/test_mapcache_threads.XXXXXX";
static char paths[FILES][PATH_MAX];
static struct ash_mapcache *cache;
static atomic_int wrong, stop;

static unsigned below(uint64_t *seed, unsigned n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((*seed >> 33) % n);
}

static struct ash_mapcache_stats stats(void)
{
    struct ash_mapcache_stats s;
    ash_mapcache_stats(cache, &s);
    return s;
}

/* Every byte of a file is the same; another one at each replacement. */
static void replace(int file, int c)
{
    char name[PATH_MAX + 32], bytes[BYTES];
    snprintf(name, sizeof name, "%s.%lx", paths[file], (unsigned long)pthread_self());
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    memset(bytes, c, sizeof bytes);
    if (fd < 0 || write(fd, bytes, sizeof bytes) != BYTES || rename(name, paths[file]) != 0)
        abort();
    close(fd);
}

static int is_whole(const struct ash_map *map)
{
    for (size_t i = 1; i < map->len; i += 61)
        if (map->data[i] != map->data[0])
            return 0;
    return 1;
}

static void run(int threads, void *(*fn)(void *))
{
    pthread_t ids[THREADS_MAX];
    for (intptr_t t = 0; t < threads; t++)
        if (pthread_create(&ids[t], NULL, fn, (void *)t) != 0)
            abort();
    for (int t = 0; t < threads; t++)
        pthread_join(ids[t], NULL);
}

/* ---- everything at once ---- */

static void *work(void *arg)
{
    uint64_t seed = (uint64_t)(intptr_t)arg + 1;
    struct ash_map held[4] = {{0}};
    unsigned char content[4] = {0};
    for (int i = 0; i < 3000; i++) {
        unsigned at = below(&seed, 4), file = below(&seed, FILES);
        struct ash_map *map = &held[at];
        if (map->entry != NULL) {
            atomic_fetch_add(&wrong, map->data[0] != content[at] || !is_whole(map));
            ash_mapcache_close(cache, map);
        }
        int status = ash_mapcache_open(cache, paths[file], 7, 0, 0, map);
        atomic_fetch_add(&wrong, status != 0 && status != -ENOBUFS);
        if (map->entry != NULL)
            content[at] = map->data[0];
        switch (below(&seed, 40)) {
        case 0:
            replace((int)file, (int)below(&seed, 256));
            break;
        case 1:
            ash_mapcache_invalidate(cache, paths[file]);
            break;
        case 2:
            ash_mapcache_trim(cache, 0, 0);
            break;
        case 3:
            stats();
            break;
        }
    }
    for (int i = 0; i < 4; i++)
        ash_mapcache_close(cache, &held[i]);
    return NULL;
}

static void test_work(int threads, const struct ash_mapcache_config *config, const char *what)
{
    cache = ash_mapcache_create(config);
    atomic_store(&wrong, 0);
    run(threads, work);
    struct ash_mapcache_stats s = stats();
    is_int(atomic_load(&wrong), 0, what);
    ok(s.in_use == 0 && s.opens == s.hits + s.maps && s.opens <= (uint64_t)threads * 3000, "nothing is open, all is counted");
    ash_mapcache_trim(cache, 0, 0);
    s = stats();
    ok(s.maps == s.unmaps && s.mapped_bytes == 0, "%llu maps, as many unmaps", (unsigned long long)s.maps);
    is_int(ash_mapcache_destroy(cache), 0, "the end");
}

/* ---- one mapping for all who come first ---- */

static pthread_barrier_t barrier;
static const unsigned char *where[THREADS_MAX][FILES];

static void *first(void *arg)
{
    struct ash_map maps[FILES];
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < FILES; i++) {
        if (ash_mapcache_open(cache, paths[i], 0, 0, 0, &maps[i]) != 0)
            abort();
        where[(intptr_t)arg][i] = maps[i].data;
    }
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < FILES; i++)
        ash_mapcache_close(cache, &maps[i]);
    return NULL;
}

static void test_first(void)
{
    int apart = 0;
    for (int round = 0; round < 20; round++) {
        cache = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.revalidate_ns = -1));
        pthread_barrier_init(&barrier, NULL, 4);
        run(4, first);
        pthread_barrier_destroy(&barrier);
        for (int t = 1; t < 4; t++)
            apart += memcmp(where[0], where[t], sizeof where[0]) != 0;
        apart += stats().maps != FILES;
        ash_mapcache_destroy(cache);
    }
    is_int(apart, 0, "four threads that open the same files first share one mapping of each");
}

/* ---- caches that come and go while statistics are read ---- */

static void *create_and_destroy(void *arg)
{
    (void)arg;
    for (int i = 0; i < 300; i++) {
        struct ash_mapcache *c = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.max_maps = 64));
        struct ash_map map;
        if (c == NULL || ash_mapcache_open(c, paths[i % FILES], 0, 0, 0, &map) != 0)
            abort();
        ash_mapcache_close(c, &map);
        atomic_fetch_add(&wrong, ash_mapcache_destroy(c) != 0);
    }
    return NULL;
}

static void *dump(void *arg)
{
    int fd = open("/dev/null", O_WRONLY);
    (void)arg;
    while (!atomic_load(&stop))
        ash_stats_dump(fd, ASH_JSON);
    close(fd);
    return NULL;
}

static void test_dumps(void)
{
    pthread_t id;
    atomic_store(&stop, 0);
    atomic_store(&wrong, 0);
    pthread_create(&id, NULL, dump, NULL);
    run(4, create_and_destroy);
    atomic_store(&stop, 1);
    pthread_join(id, NULL);
    is_int(atomic_load(&wrong), 0, "caches come and go while statistics are read");
}

/* ---- forks ---- */

static void *open_and_evict(void *arg)
{
    uint64_t seed = (uint64_t)(intptr_t)arg;
    while (!atomic_load(&stop)) {
        struct ash_map map;
        if (ash_mapcache_open(cache, paths[below(&seed, FILES)], 0, 0, 0, &map) == 0)
            ash_mapcache_close(cache, &map);
        if (below(&seed, 4) == 0)
            ash_mapcache_trim(cache, 0, 0);
    }
    return NULL;
}

static void test_fork(void)
{
    cache = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.max_maps = 64, .flags = ASH_MAPCACHE_VALIDATE));
    pthread_t ids[3];
    struct ash_map mine, map;
    if (ash_mapcache_open(cache, paths[0], 0, 0, 0, &mine) != 0)
        abort();
    int before = mine.data[0], failed = 0;
    atomic_store(&stop, 0);
    for (intptr_t t = 0; t < 3; t++)
        pthread_create(&ids[t], NULL, open_and_evict, (void *)t);
    for (int i = 0; i < 60; i++) {
        pid_t child = fork();
        if (child == 0) {
            int bad = 0;
            alarm(20);
            for (int k = 0; k < 3 * FILES; k++) {
                bad += ash_mapcache_open(cache, paths[k % FILES], 0, 0, 0, &map) != 0 || !is_whole(&map);
                ash_mapcache_close(cache, &map);
                if (k % 10 == 0)
                    ash_mapcache_trim(cache, 0, 0);
            }
            bad += mine.data[0] != before || !is_whole(&mine);
            ash_mapcache_close(cache, &mine);
            _exit(bad != 0);
        }
        int status = 1;
        waitpid(child, &status, 0);
        failed += status != 0;
    }
    atomic_store(&stop, 1);
    for (int t = 0; t < 3; t++)
        pthread_join(ids[t], NULL);
    ash_mapcache_close(cache, &mine);
    is_int(failed, 0, "children forked while threads map and unmap go on with the cache");
    is_int(ash_mapcache_destroy(cache), 0, "so does the parent");
}

int main(void)
{
    if (mkdtemp(directory) == NULL)
        abort();
    for (int i = 0; i < FILES; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/file-%d", directory, i);
        replace(i, i);
    }
    for (int threads = 2; threads <= THREADS_MAX; threads *= 2) {
        test_work(threads, NULL, "threads open, replace and trim: everybody reads what he opened");
        test_work(threads, ASH_MAPCACHE_CONFIG(.max_bytes = 8 * BYTES, .max_maps = 12, .flags = ASH_MAPCACHE_VALIDATE),
                  "with a tight budget, and asking each time");
    }
    test_first();
    test_dumps();
    test_fork();
    char remove[64];
    snprintf(remove, sizeof remove, "rm -rf %s", directory);
    if (system(remove) != 0)
        abort();
    return tap_done();
}
