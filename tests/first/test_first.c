/*
 * Every entry point as the first act: of a process, from .preinit_array, before any constructor of the program; and of
 * a thread. The program is linked statically, so that no dynamic loader has allocated before.
 */
#include "ashlar/ashlar.h"
#include "again.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

/* The operators of C++, in a program without its library: there is no new_handler and nothing to throw. */
void *_Znwm(size_t);
void *_ZnamSt11align_val_t(size_t, size_t);
struct nothrow;
void *_ZnwmRKSt9nothrow_t(size_t, const struct nothrow *);
void _ZdlPv(void *);

enum { ENTRIES = 30, MIB = 1 << 20 };

static volatile size_t huge = SIZE_MAX; /* hidden from the compiler's own checks */

/* The limit holds although nothing was allocated before it was set. */
static int limit_first(void)
{
    int status = ash_limit_set(64 * MIB);
    void *p = malloc(100 * MIB);
    ash_limit_set(0);
    return status != 0 || p != NULL;
}

/* 0 when the entry did what it should. */
static int act(int entry)
{
    void *p = NULL;
    switch (entry) {
    case 0: p = malloc(100); break;
    case 1: p = calloc(10, 10); break;
    case 2: p = realloc(NULL, 100); break;
    case 3: free(NULL); return 0;
    case 4: p = reallocarray(NULL, 10, 10); break;
    case 5: p = aligned_alloc(64, 100); break;
    case 6: return posix_memalign(&p, 64, 100) != 0 || p == NULL;
    case 7: p = memalign(64, 100); break;
    case 8: return malloc_usable_size(NULL) != 0;
    case 9: p = malloc(10 << 20); break;
    case 10: return malloc_trim(0) < 0;
    case 11: return mallinfo2().uordblks != 0 && entry < 0;
    case 12: return realloc(NULL, 0) == NULL;
    case 13: return ash_verify();
    case 14: return ash_good_size(100) < 100;
    case 15: p = ash_aligned_alloc(1 << 20, 100); break;
    case 16: {
        struct ash_stats s = {.struct_size = sizeof s};
        return ash_stats_get(&s);
    }
    case 17: p = ash_malloc(100); break;
    case 18: p = ash_calloc(10, 10); break;
    case 19: p = ash_realloc(NULL, 100); break;
    case 20: return ash_malloc_batch((size_t[]){100}, &p, 1) != 0 || p == NULL;
    case 21: return ash_usable_size(NULL) != 0;
    case 22: return limit_first();
    case 23: return ash_trim() < 0;
    case 24: p = valloc(100); break;
    case 25: p = pvalloc(100); break;
    case 26: p = _Znwm(100); break;
    case 27: p = _ZnamSt11align_val_t(100, 4096); break;
    case 28: _ZdlPv(NULL); return 0;
    case 29: return _ZnwmRKSt9nothrow_t(huge, NULL) != NULL;
    }
    int bad = p == NULL || malloc_usable_size(p) < 100;
    free(p);
    return bad;
}

static int first_status = -1;

static void first(int argc, char **argv, char **envp)
{
    (void)envp;
    if (argc == 2)
        first_status = act(atoi(argv[1]));
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **, char **) = first;

static void *thread_main(void *arg)
{
    return (void *)(intptr_t)act((int)(intptr_t)arg);
}

int main(int argc, char **argv)
{
    if (argc == 2)
        _exit(first_status);
    for (int entry = 0; entry < ENTRIES; entry++) {
        char number[12];
        snprintf(number, sizeof number, "%d", entry);
        pid_t child = fork();
        if (child == 0) {
            exec_self((char *[]){argv[0], number, NULL});
        }
        int status;
        waitpid(child, &status, 0);
        ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "entry %d first in a process (status %x)", entry, status);
        pthread_t t;
        void *result;
        pthread_create(&t, NULL, thread_main, (void *)(intptr_t)entry);
        pthread_join(t, &result);
        ok(result == NULL, "entry %d first in a thread", entry);
    }
    pid_t child = fork();
    if (child == 0) {
        _Znwm(huge);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "operator new without a way to throw aborts");
    return tap_done();
}
