/*
 * More ends, each repeated while eight threads allocate: exit with handlers of atexit and on_exit, and one that runs
 * after every ELF destructor, the library's too; pthread_exit of the first thread, whose others go on; threads that are
 * cancelled. The statistics written at that moment are a whole JSON object, and nothing hangs: alarms watch.
 * ASH_TEST_LONG=1: ten times as often; ASH_TEST_SHORT=1: a fifth.
 */
#include "ashlar/ashlar.h"
#include "again.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { THREADS = 8, STATUS = 5 };

static _Atomic(int) handlers;
static int leaving;

/* What an end may do: every kind of block, and memory that was allocated long before. */
static void allocate_late(void)
{
    static void *kept;
    void *p = realloc(malloc(100), 5000);
    free(kept);
    kept = calloc(1, 1 << 20);
    free(aligned_alloc(4096, 100));
    free(p);
    handlers++;
}

#if defined(__GLIBC__)
static void with_status(int status, void *arg)
{
    allocate_late();
    free(arg);
    if (status != STATUS)
        _exit(41);
}
#endif

#if defined(__GLIBC__)
enum { HANDLERS_BEFORE = 2 };
#else
enum { HANDLERS_BEFORE = 1 }; /* other libcs run destructors last */
#endif

/* Registered before the loader has registered its own handler, which runs the ELF destructors: so it runs after them. */
static void after_all(void)
{
    if (!leaving)
        return;
    if (handlers < HANDLERS_BEFORE)
        _exit(42);
    allocate_late();
    if (write(STDOUT_FILENO, "last", 4) != 4)
        _exit(43);
}

static void first(void)
{
    atexit(after_all);
}

#if defined(__GLIBC__)
__attribute__((section(".preinit_array"), used)) static void (*const preinit)(void) = first;
#else /* musl knows no .preinit_array */
__attribute__((constructor(101))) static void early(void)
{
    first();
}
#endif

__attribute__((destructor)) static void destructor(void)
{
    allocate_late();
}

/* Allocates for a number of rounds, or for ever. */
static void *busy(void *rounds)
{
    long left = (long)rounds;
    for (unsigned s = (unsigned)(size_t)&left; left-- != 0; s = s * 1664525 + 1013904223)
        free(malloc(1 + (s >> 8) % (s % 32 == 0 ? 200000 : 3000)));
    return NULL;
}

static int leave(char how)
{
    leaving = 1;
    atexit(allocate_late);
#if defined(__GLIBC__)
    if (how == 'e')
        on_exit(with_status, malloc(300));
#endif
    for (int i = 0; i < THREADS; i++) {
        pthread_t t;
        if (pthread_create(&t, NULL, busy, (void *)(how == 'p' ? 5000L + i * 1000 : -1L)) != 0)
            _exit(44);
    }
    usleep(1000);
    if (how == 'p')
        pthread_exit(malloc(10));
    exit(STATUS);
}

/* ---- JSON: the text behind a value that `s` begins with, NULL: it is none ---- */

static const char *blank(const char *s)
{
    return s + strspn(s, " \t\r\n");
}

static const char *text_end(const char *s)
{
    if (*s++ != '"')
        return NULL;
    while (*s != '"')
        if (*s == '\0' || (*s++ == '\\' && *s++ == '\0'))
            return NULL;
    return s + 1;
}

static const char *value_end(const char *s, int depth)
{
    s = blank(s);
    if (*s == '"')
        return text_end(s);
    if (*s != '{' && *s != '[')
        return strspn(s, "-+.0123456789eE") > 0 ? s + strspn(s, "-+.0123456789eE") : NULL;
    char close = *s == '{' ? '}' : ']';
    for (char before = *s++; s != NULL && depth < 10; before = *s++) {
        s = blank(s);
        if (*s == close)
            return before == ',' ? NULL : s + 1;
        if (close == '}') {
            s = text_end(s);
            if (s == NULL || *(s = blank(s)) != ':')
                return NULL;
            s++;
        }
        s = value_end(s, depth + 1);
        if (s == NULL || (*(s = blank(s)) != ',' && *s != close))
            return NULL;
        if (*s == close)
            return s + 1;
    }
    return NULL;
}

static int is_json(const char *path)
{
    static char text[1 << 16];
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *end = value_end(text, 0);
    return text[0] == '{' && strstr(text, "\"misses\"") != NULL && end != NULL && *blank(end) == '\0';
}

static int test_json(void)
{
    static const char *const bad[] = {"{", "{}x", "{\"a\":}", "[1,]", "{\"a\" 1}", "{\"a\":1", "", "[1 2]"};
    static const char *const good[] = {"{}", "[1, 2.5e3]", "{\"a\": [{\"b\":\"c\\\"\"}], \"d\":-1}\n"};
    int right = 0;
    for (int i = 0; i < 8; i++) {
        const char *end = value_end(bad[i], 0);
        right += end == NULL || *blank(end) != '\0';
    }
    for (int i = 0; i < 3; i++) {
        const char *end = value_end(good[i], 0);
        right += end != NULL && *blank(end) == '\0';
    }
    return right;
}

/* ---- the tests ---- */

static void test_leave(char *self, char how, int want, int times, const char *name)
{
    char path[64], option[80];
    snprintf(path, sizeof path, "test_ends-%d.json", (int)getpid());
    snprintf(option, sizeof option, "json:%s", path);
    int good = 0, last = 0, whole = 0;
    for (int i = 0; i < times; i++) {
        int out[2];
        unlink(path);
        if (pipe(out) != 0)
            abort();
        pid_t child = fork();
        if (child == 0) {
            dup2(out[1], STDOUT_FILENO);
            setenv("ASHLAR_STATS", option, 1);
            alarm(30);
            exec_self((char *[]){self, (char[]){how, '\0'}, NULL});
        }
        close(out[1]);
        char word[5] = "";
        last += read(out[0], word, 4) == 4 && strcmp(word, "last") == 0;
        close(out[0]);
        int status;
        waitpid(child, &status, 0);
        good += WIFEXITED(status) && WEXITSTATUS(status) == want;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != want)
            tap_line("# status 0x%x", status);
        whole += is_json(path);
    }
    unlink(path);
    is_int(good, times, name);
    is_int(last, times, "to the last handler");
    is_int(whole, times, "with whole statistics");
}

static void give(void *block)
{
    free(block);
    free(malloc(70000));
}

static void hold_and_test(unsigned s)
{
    pthread_cleanup_push(give, malloc(1 + (s >> 8) % 3000));
    if (s % 8 == 0)
        pthread_testcancel();
    pthread_cleanup_pop(1);
}

static void *until_cancelled(void *arg)
{
    for (unsigned s = 1; s != 0; s = s * 1664525 + 1013904223)
        hold_and_test(s);
    return arg;
}

static uint64_t live_blocks(void)
{
    struct ash_stats s = {.struct_size = sizeof s};
    ash_stats_get(&s);
    return s.live_blocks;
}

static void test_cancel(int times)
{
    int cancelled = 0;
    uint64_t before = 0;
    for (int i = 0; i < times; i++) {
        pthread_t t[THREADS];
        for (int k = 0; k < THREADS; k++)
            pthread_create(&t[k], NULL, until_cancelled, NULL);
        usleep(500);
        for (int k = 0; k < THREADS; k++) {
            void *result;
            pthread_cancel(t[k]);
            pthread_join(t[k], &result);
            cancelled += result == PTHREAD_CANCELED;
        }
        if (i == times / 5)
            before = live_blocks();
    }
    is_int(cancelled, times * THREADS, "threads cancelled while they allocate");
    is_int((long)(live_blocks() - before), 0, "what they held is freed");
    is_int(ash_verify(), 0, "everything verifies");
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return leave(argv[1][0]);
    alarm(900);
    int times = getenv("ASH_TEST_LONG") != NULL ? 500 : getenv("ASH_TEST_SHORT") != NULL ? 10 : 50;
    is_int(test_json(), 11, "the reader of JSON knows good from bad");
    test_leave(argv[0], 'e', STATUS, times, "exit with handlers while eight threads allocate");
    test_leave(argv[0], 'p', 0, times, "pthread_exit of the first thread, eight others end later");
    test_cancel(times);
    return tap_done();
}
