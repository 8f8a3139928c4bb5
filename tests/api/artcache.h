/*
 * What the tests of ashlar/artcache.h share: a directory of their own, artifacts whose bytes follow from their keys,
 * and threads that ask for them.
 */
#ifndef ASH_TESTS_ARTCACHE_H
#define ASH_TESTS_ARTCACHE_H

#include "ashlar/layers.h"
#include "ashlar/malloc.h"
#include "ashlar/stats.h"
#include "clock.h"
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { KIB = 1024, MIB = 1 << 20 };

static char dir[200]; /* made anew for each test that asks */

static struct ash_artcache_stats stats(struct ash_artcache *c)
{
    struct ash_artcache_stats s;
    ash_artcache_stats(c, &s);
    return s;
}

/* Calls `fn` with the path of each file that is no "." or ".."; how many. */
static int each_file(void (*fn)(const char *path))
{
    DIR *d = opendir(dir);
    int n = 0;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char path[600];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        n++;
        if (fn != NULL)
            fn(path);
    }
    if (d != NULL)
        closedir(d);
    return n;
}

static void remove_file(const char *path)
{
    unlink(path);
}

__attribute__((unused)) static void fresh_dir(void)
{
    if (dir[0] != '\0') {
        each_file(remove_file);
        rmdir(dir);
    }
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/ash-artcache-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(dir) == NULL)
        _exit(99);
}

static struct ash_artcache_key key_of(const char *content, const char *config)
{
    return (struct ash_artcache_key){content, strlen(content), config, strlen(config)};
}

/* An artifact whose bytes follow from its content; `user` points to {length, builds, milliseconds}. */
struct recipe {
    size_t len;
    int builds; /* atomic */
    int ms;
    int error; /* for so many builds */
};

static unsigned char byte_of(const struct ash_artcache_key *key, size_t i)
{
    unsigned sum = 0;
    for (size_t k = 0; k < key->content_len; k++)
        sum = sum * 31 + ((const unsigned char *)key->content)[k];
    return (unsigned char)(sum + i * 7 + i / 251);
}

static int build(const struct ash_artcache_key *key, void **data, size_t *len, void *user)
{
    struct recipe *r = user;
    __atomic_add_fetch(&r->builds, 1, __ATOMIC_RELAXED);
    if (r->ms > 0)
        sleep_ms(r->ms);
    if (r->error > 0) {
        r->error--;
        return -EIO;
    }
    unsigned char *bytes = r->len > 0 ? ash_malloc(r->len) : NULL;
    for (size_t i = 0; i < r->len; i++)
        bytes[i] = byte_of(key, i);
    *data = bytes;
    *len = r->len;
    return 0;
}

static int is_right(const struct ash_artcache_key *key, const struct ash_artifact *a, size_t len)
{
    if (a->len != len || (uintptr_t)a->data % 64 != 0)
        return 0;
    for (size_t i = 0; i < len; i++)
        if (((const unsigned char *)a->data)[i] != byte_of(key, i))
            return 0;
    return 1;
}

/* Gets, checks and releases: 0, what get_or_build answers, or 1 if the bytes are wrong. */
__attribute__((unused)) static int use(struct ash_artcache *c, const char *content, struct recipe *r)
{
    struct ash_artcache_key key = key_of(content, "config");
    struct ash_artifact a;
    int status = ash_artcache_get_or_build(c, &key, build, r, -1, &a);
    if (status == 0) {
        status = !is_right(&key, &a, r->len);
        ash_artcache_release(c, &a);
    }
    return status;
}

__attribute__((unused)) static struct ash_artcache *open_cache(void)
{
    return ash_artcache_create("test", ASH_ARTCACHE_CONFIG(.dir = dir));
}

struct caller {
    pthread_t thread;
    struct ash_artcache *c;
    struct recipe *r;
    int64_t timeout_ns;
    int status, wrong;
};

static void *ask(void *arg)
{
    struct caller *w = arg;
    struct ash_artcache_key key = key_of("shared", "config");
    struct ash_artifact a;
    w->status = ash_artcache_get_or_build(w->c, &key, build, w->r, w->timeout_ns, &a);
    if (w->status == 0) {
        w->wrong = !is_right(&key, &a, w->r->len);
        ash_artcache_release(w->c, &a);
    }
    return NULL;
}

/* Starts them, the first a little before the others. */
__attribute__((unused)) static void start(struct caller *w, unsigned n, struct ash_artcache *c, struct recipe *r,
                                          int64_t timeout_ns)
{
    for (unsigned i = 0; i < n; i++) {
        w[i] = (struct caller){.c = c, .r = r, .timeout_ns = i == 0 ? -1 : timeout_ns};
        pthread_create(&w[i].thread, NULL, ask, &w[i]);
        while (i == 0 && __atomic_load_n(&r->builds, __ATOMIC_RELAXED) == 0)
            sleep_ms(1);
    }
}

/* Many keys, few of them in memory at a time; slices are read long after others have pushed them out. */
static void *roam(void *arg)
{
    struct caller *w = arg;
    uint64_t random = (uint64_t)(uintptr_t)arg;
    for (int i = 0; i < 3000; i++) {
        char content[3][16];
        struct ash_artifact a[3];
        struct ash_artcache_key key[3];
        int status[3];
        for (int k = 0; k < 3; k++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            snprintf(content[k], sizeof content[k], "roam %u", (unsigned)(random >> 40) % 200);
            key[k] = key_of(content[k], "config");
            status[k] = ash_artcache_get_or_build(w->c, &key[k], build, w->r, -1, &a[k]);
        }
        for (int k = 0; k < 3; k++) {
            w->wrong += status[k] != 0 || !is_right(&key[k], &a[k], w->r->len);
            if (status[k] == 0)
                ash_artcache_release(w->c, &a[k]);
        }
        if (i % 500 == 0)
            ash_artcache_trim(w->c);
        if (i % 100 == 0)
            ash_artcache_remove(w->c, &key[0]);
    }
    return NULL;
}

__attribute__((unused)) static void test_threads(unsigned count, const char *where)
{
    struct caller w[8];
    struct recipe r = {.len = 500};
    struct ash_artcache *c = ash_artcache_create(
        NULL, ASH_ARTCACHE_CONFIG(.dir = where, .memory_bytes = 40 * KIB, .disk_bytes = 100 * KIB, .disk_files = 150));
    for (unsigned i = 0; i < count; i++) {
        w[i] = (struct caller){.c = c, .r = &r};
        pthread_create(&w[i].thread, NULL, roam, &w[i]);
    }
    int wrong = 0;
    for (unsigned i = 0; i < count; i++) {
        pthread_join(w[i].thread, NULL);
        wrong += w[i].wrong;
    }
    is_int(wrong, 0,
           where != NULL ? "threads on memory and disk: every slice is right" : "threads: every slice is right");
    ok(stats(c).evictions > 100 && stats(c).hits > 100, "%u threads: %d hits, %d from disk, %d pushed out", count,
       (int)stats(c).hits, (int)stats(c).disk_hits, (int)stats(c).evictions);
    is_int((int)(stats(c).hits + stats(c).shared + stats(c).disk_hits + stats(c).builds), (int)count * 9000,
           "each call is counted as one thing");
    is_int((int)stats(c).in_use, 0, "all is released");
    is_int(ash_artcache_destroy(c), 0, "destroyed");
}

#endif
