/*
 * Compiled artifacts (ashlar/artcache.h). The first test is how a runtime uses the cache; then errors, one build for
 * many callers, the budget of memory, and fork. Files are in test_artdisk.
 */
#include "artcache.h"

/* ---- how it is used ---- */

static int compilations;

static int compile(const struct ash_artcache_key *source, void **code, size_t *len, void *user)
{
    (void)user;
    compilations++;
    *len = source->content_len + 1;
    char *text = ash_calloc(1, *len);
    if (text == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < source->content_len; i++)
        text[i] = (char)(((const char *)source->content)[i] - 32); /* an optimising compiler */
    *code = text;
    return 0;
}

static void test_example(void)
{
    fresh_dir();
    for (int process = 0; process < 2; process++) {
        struct ash_artcache *code = ash_artcache_create("code", ASH_ARTCACHE_CONFIG(.dir = dir));
        struct ash_artcache_key key = key_of("source", "v1 -O");
        for (int i = 0; i < 3; i++) {
            struct ash_artifact a;
            is_int(ash_artcache_get_or_build(code, &key, compile, NULL, -1, &a), 0, "an artifact");
            is_str(a.data, "SOURCE", "is what the compiler makes");
            ash_artcache_release(code, &a);
        }
        is_int(compilations, 1, "compiled once, for this cache and the next on the directory");
        is_int(ash_artcache_destroy(code), 0, "the end");
    }
    struct ash_artcache *code = ash_artcache_create("code", ASH_ARTCACHE_CONFIG(.dir = dir));
    struct ash_artcache_key other = key_of("source", "v2 -O");
    struct ash_artifact a;
    ash_artcache_get_or_build(code, &other, compile, NULL, -1, &a);
    is_int(compilations, 2, "another configuration is another artifact");
    ash_artcache_release(code, &a);
    ash_artcache_destroy(code);
}

/* ---- errors ---- */

static int build_nothing(const struct ash_artcache_key *key, void **data, size_t *len, void *user)
{
    (void)key, (void)data;
    *len = *(size_t *)user;
    return 0;
}

static int build_positive(const struct ash_artcache_key *key, void **data, size_t *len, void *user)
{
    (void)key, (void)user;
    *data = ash_malloc(100);
    *len = 100;
    return 7;
}

static int build_itself(const struct ash_artcache_key *key, void **data, size_t *len, void *user)
{
    struct ash_artifact a;
    (void)data, (void)len;
    return ash_artcache_get_or_build(user, key, build_itself, user, -1, &a);
}

static void test_errors(void)
{
    struct ash_artcache_key key = key_of("a", "b"), no_content = {NULL, 3, NULL, 0}, no_config = {NULL, 0, NULL, 3};
    struct ash_artifact a;
    struct recipe r = {.len = 10, .error = 1};
    struct ash_artcache *c = ash_artcache_create(NULL, NULL);
    is_int(ash_artcache_get_or_build(NULL, &key, build, &r, -1, &a), -EINVAL, "no cache");
    is_int(ash_artcache_get_or_build(c, NULL, build, &r, -1, &a), -EINVAL, "no key");
    is_int(ash_artcache_get_or_build(c, &no_content, build, &r, -1, &a), -EINVAL, "no content");
    is_int(ash_artcache_get_or_build(c, &no_config, build, &r, -1, &a), -EINVAL, "no configuration");
    is_int(ash_artcache_get_or_build(c, &key, build, &r, -1, NULL), -EINVAL, "nowhere to");
    is_int(ash_artcache_get_or_build(c, &key, NULL, NULL, -1, &a), -ENOENT, "a look finds nothing");
    is_int(ash_artcache_get_or_build(c, &key, build, &r, -1, &a), -EIO, "a build that fails");
    is_int((int)stats(c).entries, 0, "is not kept");
    is_int(ash_artcache_get_or_build(c, &key, build_positive, NULL, -1, &a), -ECANCELED,
           "one that fails with a positive number");
    size_t len = 5;
    is_int(ash_artcache_get_or_build(c, &key, build_nothing, &len, -1, &a), -EINVAL,
           "one that makes 5 bytes of nothing");
    is_int(ash_artcache_get_or_build(c, &key, build_itself, c, -1, &a), -EDEADLK, "one that asks for its own key");
    is_int((int)stats(c).failures, 4, "failures are counted");
    len = 0;
    is_int(ash_artcache_get_or_build(c, &key, build_nothing, &len, -1, &a), 0, "an empty artifact");
    ok(a.len == 0 && a.owner != NULL, "is one");
    is_int(ash_artcache_destroy(c), -EBUSY, "destroy: not while it is in use");
    ash_artcache_release(c, &a);
    ok(a.owner == NULL && a.data == NULL, "release clears it");
    ash_artcache_release(c, &a);
    is_int((int)stats(c).in_use, 0, "so a second time is nothing");
    struct ash_artcache_key empty = {NULL, 0, NULL, 0};
    is_int(ash_artcache_get_or_build(c, &empty, build, &r, -1, &a), 0, "an empty key is a key");
    ash_artcache_release(c, &a);
    is_int(ash_artcache_remove(c, &empty), 0, "which can be removed");
    is_int(ash_artcache_remove(c, &empty), -ENOENT, "once");
    is_int(ash_artcache_remove(c, NULL), -EINVAL, "remove: no key");
    is_int(ash_artcache_remove(NULL, &key), -EINVAL, "remove: no cache");
    is_int(ash_artcache_trim(NULL), -EINVAL, "trim: no cache");
    is_int(ash_artcache_stats(c, NULL), -EINVAL, "stats: nowhere to");
    is_int(ash_artcache_dump(c, -1), -EBADF, "dump: no descriptor");
    is_int(ash_artcache_destroy(c), 0, "destroyed");
    is_int(ash_artcache_destroy(NULL), -EINVAL, "destroy: no cache");
    errno = 0;
    ok(ash_artcache_create("a\\b", NULL) == NULL && errno == EINVAL, "EINVAL: a name");
    ok(ash_artcache_create(NULL, ASH_ARTCACHE_CONFIG(.flags = 64)) == NULL && errno == EINVAL, "EINVAL: flags");
    ok(ash_artcache_create(NULL, ASH_ARTCACHE_CONFIG(.dir = "/nowhere/at/all")) == NULL && errno == ENOENT,
       "ENOENT: a directory in none");
    ok(ash_artcache_create(NULL, ASH_ARTCACHE_CONFIG(.dir = "/dev/null")) == NULL && errno == ENOTDIR,
       "ENOTDIR: a device");
}

/* What halves of a key are is part of it. */
static void test_keys(void)
{
    struct ash_artcache *c = ash_artcache_create(NULL, NULL);
    static const struct ash_artcache_key keys[] = {{"ab", 2, "c", 1}, {"a", 1, "bc", 2},   {"abc", 3, "", 0},
                                                   {"", 0, "abc", 3}, {"ab\0", 3, "c", 1}, {"ab", 2, "c\0", 2}};
    struct recipe r = {.len = 100};
    for (unsigned i = 0; i < 6; i++) {
        struct ash_artifact a;
        ash_artcache_get_or_build(c, &keys[i], build, &r, -1, &a);
        ash_artcache_release(c, &a);
    }
    is_int(r.builds, 6, "six keys of nearly the same bytes");
    ash_artcache_destroy(c);
}

/* ---- one build ---- */

static int count_status(struct caller *w, unsigned n, int status)
{
    int count = 0;
    for (unsigned i = 0; i < n; i++)
        count += w[i].status == status && !w[i].wrong;
    return count;
}

static void test_one_build(void)
{
    struct caller w[8];
    struct ash_artcache *c = ash_artcache_create(NULL, NULL);
    struct recipe r = {.len = MIB, .ms = 100};
    start(w, 8, c, &r, -1);
    for (unsigned i = 0; i < 8; i++)
        pthread_join(w[i].thread, NULL);
    is_int(count_status(w, 8, 0), 8, "8 threads have the artifact");
    is_int(r.builds, 1, "which was built once");
    is_int((int)(stats(c).shared + stats(c).hits), 7, "the others waited or came later");
    is_int(ash_artcache_destroy(c), 0, "all is released");
}

static void test_timeouts(void)
{
    struct caller w[3];
    struct ash_artcache *c = ash_artcache_create(NULL, NULL);
    struct ash_artcache_key key = key_of("shared", "config");
    struct recipe r = {.len = 100, .ms = 400};
    start(w, 1, c, &r, -1);
    start(w + 1, 1, c, &r, -1);
    struct caller late = {.c = c, .r = &r, .timeout_ns = 0};
    ask(&late);
    is_int(late.status, -EAGAIN, "no waiting: EAGAIN");
    late.timeout_ns = 20 * 1000000;
    ask(&late);
    is_int(late.status, -ETIMEDOUT, "20 ms are not enough");
    is_int(ash_artcache_remove(c, &key), -EBUSY, "remove: not while it is made");
    is_int(ash_artcache_destroy(c), -EBUSY, "destroy: neither");
    late.timeout_ns = (int64_t)60 * 1000000000;
    ask(&late);
    is_int(late.status, 0, "a minute is");
    pthread_join(w[0].thread, NULL);
    pthread_join(w[1].thread, NULL);
    is_int(r.builds, 1, "one build in all");
    is_int((int)stats(c).timeouts, 2, "two did not wait for it");
    ash_artcache_destroy(c);
}

static void test_failing_builds(void)
{
    struct caller w[6];
    struct ash_artcache *c = ash_artcache_create(NULL, NULL);
    struct recipe r = {.len = 100, .ms = 50, .error = 2};
    start(w, 6, c, &r, -1);
    for (unsigned i = 0; i < 6; i++)
        pthread_join(w[i].thread, NULL);
    is_int(r.builds, 3, "two builds fail, those who waited try again, the third succeeds");
    is_int(count_status(w, 6, -EIO), 2, "the two who ran them are told");
    is_int(count_status(w, 6, 0), 4, "four have the artifact");
    ash_artcache_destroy(c);
}

/* ---- budgets ---- */

static void test_memory_budget(void)
{
    struct ash_artcache *c = ash_artcache_create(NULL, ASH_ARTCACHE_CONFIG(.memory_bytes = 100 * KIB));
    struct recipe r = {.len = KIB};
    char content[16];
    struct ash_artcache_key first = key_of("item 0", "config"), huge = key_of("huge", "config");
    struct ash_artifact held, a;
    ash_artcache_get_or_build(c, &first, build, &r, -1, &held);
    int over = 0;
    for (int i = 1; i <= 300; i++) {
        snprintf(content, sizeof content, "item %d", i);
        use(c, content, &r);
        use(c, "item 1", &r);
        over += stats(c).bytes > 100 * KIB;
        sleep_ms(i % 20 == 0 ? 10 : 0);
    }
    is_int(over, 0, "never more than the budget");
    is_int(r.builds, 301, "what is used again and again stays");
    ok(stats(c).evictions >= 200, "the rest goes: %d", (int)stats(c).evictions);
    ok(is_right(&first, &held, KIB), "what is in use stays right");
    use(c, "item 0", &r);
    is_int(r.builds, 301, "and findable");
    ash_artcache_release(c, &held);
    struct recipe large = {.len = 90 * KIB};
    int entries = (int)stats(c).entries;
    is_int(ash_artcache_get_or_build(c, &huge, build, &large, -1, &a), 0, "one that takes nearly all");
    ok(is_right(&huge, &a, large.len), "is handed out");
    is_int((int)stats(c).entries, entries, "and pushes nothing out");
    ash_artcache_release(c, &a);
    is_int(ash_artcache_trim(c), 0, "trim");
    is_int((int)stats(c).entries, 0, "lets all go");
    is_int((int)stats(c).bytes, 0, "to the last byte");
    ash_artcache_destroy(c);
}

/* ---- fork ---- */

static void test_fork(void)
{
    struct caller w[1];
    struct ash_artcache *c = ash_artcache_create(NULL, NULL);
    struct recipe r = {.len = 1000, .ms = 300};
    struct ash_artcache_key key = key_of("held", "config");
    struct ash_artifact held;
    use(c, "held", &r);
    ash_artcache_get_or_build(c, &key, build, &r, -1, &held);
    r.builds = 0;
    start(w, 1, c, &r, -1);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        int good = is_right(&key, &held, 1000) && use(c, "held", &r) == 0 && r.builds == 1;
        r.ms = 0;
        good = good && use(c, "shared", &r) == 0 && r.builds == 2;
        ash_artcache_release(c, &held);
        _exit(good && ash_artcache_destroy(c) == 0 ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    is_int(status, 0, "the child builds what another thread was building, and releases what it held");
    pthread_join(w[0].thread, NULL);
    is_int(w[0].status, 0, "the parent's build goes on");
    ash_artcache_release(c, &held);
    is_int(ash_artcache_destroy(c), 0, "and so do its artifacts");
}

/* ---- the end ---- */

static void test_memory(void)
{
    struct ash_stats before = {.struct_size = sizeof before}, after = before;
    struct recipe r = {.len = 1000};
    fresh_dir();
    ash_stats_get(&before);
    for (int round = 0; round < 3; round++) {
        struct ash_artcache *c = open_cache();
        for (int i = 0; i < 3000; i++) {
            char content[16];
            snprintf(content, sizeof content, "item %d", i % 2000);
            use(c, content, &r);
        }
        ash_artcache_destroy(c);
    }
    ash_stats_get(&after);
    is_int((long long)after.live_blocks, (long long)before.live_blocks, "no block is left");
    is_int(r.builds, 2000, "2000 artifacts, built once");
}

static void test_dump(void)
{
    struct recipe r = {.len = 1000};
    struct ash_artcache *c = ash_artcache_create("code", NULL);
    char text[1024] = "";
    int fd[2];
    use(c, "a", &r);
    use(c, "a", &r);
    if (pipe(fd) != 0)
        _exit(99);
    is_int(ash_artcache_dump(c, fd[1]), 0, "dump");
    ok(read(fd[0], text, sizeof text - 1) > 0 && strstr(text, "artcache code: 1 artifacts") != NULL &&
           strstr(text, "hits 1  shared 0  disk hits 0  builds 1  failures 0") != NULL,
       "says what there is");
    close(fd[0]);
    close(fd[1]);
    ash_artcache_destroy(c);
}

int main(void)
{
    test_example();
    test_errors();
    test_keys();
    test_one_build();
    test_timeouts();
    test_failing_builds();
    test_threads(2, NULL);
    test_threads(8, NULL);
    test_memory_budget();
    test_fork();
    test_memory();
    test_dump();
    each_file(remove_file);
    rmdir(dir);
    return tap_done();
}
