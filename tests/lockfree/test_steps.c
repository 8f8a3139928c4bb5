/*
 * Lock-freedom, instruction by instruction: a thread is single-stepped through a slow path by its parent process, and
 * at every instruction of the library it stands still until each of the other threads has made its operations. So no
 * instruction of the path leaves a state that another thread would wait for.
 *
 * An instruction is stopped at the first few times that it comes; loops are walked through after that. The functions
 * are listed with the number of instructions stopped at. ASH_TEST_LONG=1: more operations, more visits, grain 16 too.
 *
 * The child process makes a victim thread for each path; it lets itself be traced, marks the path's beginning and end by
 * signals, and the parent steps it in between. Its other threads are not traced and just run.
 */
#include "ashlar/ashlar.h"
#include "library.h"
#include "load.h"
#include "tap.h"

#include <elf.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

enum { PATIENCE = 60, CANNOT_TRACE = 77, INSTRUCTIONS_MAX = 1 << 18 };

struct shared {
    struct load_count counts[LOAD_THREADS];
    _Atomic(int) path;               /* that the victim is on */
};

static struct shared *shared;
static volatile size_t impossible = (size_t)1 << 46; /* hidden from the compiler */

/* ---- paths: what is prepared untraced, what is stepped through, what is cleared up ---- */

enum { MANY = 1500 };

static unsigned char *held[MANY];

static void hold(int n, size_t size)
{
    for (int i = 0; i < n; i++)
        held[i] = load_make(size, 3);
}

static void drop(int n)
{
    for (int i = 0; i < n; i++) {
        load_free(held[i]);
        held[i] = NULL;
    }
}

static void *hold_and_end(void *size)
{
    hold(MANY, (size_t)size);
    return NULL;
}

static void *drop_and_end(void *size)
{
    drop(MANY);
    return size;
}

static void in_thread(void *(*work)(void *), size_t size)
{
    pthread_t t;
    if (pthread_create(&t, NULL, work, (void *)size) != 0)
        abort();
    pthread_join(t, NULL);
}

static void nothing(void) {}

static void first_call(void) { free(malloc(100)); }

static void own_blocks(void) { hold(MANY, 320); }
static void orphans(void) { in_thread(hold_and_end, 320); }
static void drop_all(void) { drop(MANY); }
static void drop_half(void) { drop(MANY / 2); }

static void own_freed_by_other(void)
{
    hold(MANY, 448);
    in_thread(drop_and_end, 0);
}

static void hold_more(void) { hold(MANY, 448); }

static void orphans_freed(void)
{
    in_thread(hold_and_end, 576);
    drop(MANY);
}

static void hold_adopted(void) { hold(MANY, 576); }
static void trim(void) { malloc_trim(0); }

static void free_pages(void)
{
    hold(MANY, 704);
    drop(MANY);
    free(malloc(3 << 20));
}

static void large(void)
{
    size_t n = 300000;
    unsigned char *p = load_make(n, 3), *wall = load_make(70000, 3);
    for (int k = 0; k < 2; k++, n *= 2)
        p = realloc(p, n * 2);
    p = realloc(p, 80000);
    p = realloc(p, 2000);
    free(p);
    load_free(wall);
    free(calloc(1, 200000));
    free(malloc((size_t)30 << 20)); /* fresh chunks */
}

static void refused(void) { free(malloc(impossible)); }

static void family(void)
{
    void *out[3], *p = NULL;
    free(calloc(7, 5));
    free(aligned_alloc(1024, 3000));
    free(aligned_alloc(1 << 18, 3000));
    free(memalign(64, 10));
    free(valloc(10));
    free(reallocarray(malloc(100), 30, 10));
    if (posix_memalign(&p, 256, 1000) == 0)
        free(p);
    if (ash_malloc_batch((size_t[]){10, 100, 1000}, out, 3) == 0)
        ash_free_batch(out, 3);
    ash_free_sized(malloc(1000), 1000);
    malloc_usable_size(NULL);
}

static void statistics(void)
{
    struct ash_stats s = {.struct_size = sizeof s};
    ash_stats_get(&s);
}

/* What a thread's end meets: blocks in its cache, slabs full and partial, blocks that others freed meanwhile. */
static void life(void)
{
    hold(MANY, 832);
    unsigned s = 7;
    for (int i = 0; i < 300; i++)
        load_operation(&s);
    in_thread(drop_and_end, 0);
    hold(200, 832);
}

static const struct path {
    const char *name;
    void (*prepare)(void);
    void (*run)(void); /* NULL: the thread ends */
    void (*clear)(void);
} paths[] = {
    {"a thread's first call", nothing, first_call, nothing},
    {"refills", nothing, own_blocks, drop_all},
    {"frees of its own blocks", own_blocks, drop_all, nothing},
    {"frees of an ended thread's", orphans, drop_half, drop_all},
    {"collecting what others freed", own_freed_by_other, hold_more, drop_all},
    {"adopting orphans", orphans_freed, hold_adopted, drop_all},
    {"trimming", free_pages, trim, nothing},
    {"large blocks", nothing, large, nothing},
    {"a refused request", own_freed_by_other, refused, nothing},
    {"the rest of the family", nothing, family, nothing},
    {"statistics", nothing, statistics, nothing},
    {"a thread's end", life, NULL, drop_all},
};

enum { PATHS = sizeof paths / sizeof *paths };

/* ---- the child ---- */

static void raise_here(int signal)
{
    syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), signal);
}

static void *victim_main(void *arg)
{
    const struct path *path = arg;
    path->prepare();
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(CANNOT_TRACE);
    raise_here(SIGUSR1);
    if (path->run != NULL) {
        path->run();
        raise_here(SIGUSR2);
        path->clear();
    }
    return NULL;
}

static int child_main(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    load_start(shared->counts);
    for (int i = 0; i < PATHS; i++) {
        shared->path = i;
        pthread_t t;
        if (pthread_create(&t, NULL, victim_main, (void *)(uintptr_t)&paths[i]) != 0)
            return 1;
        pthread_join(t, NULL);
        if (paths[i].run == NULL)
            paths[i].clear();
    }
    long damaged = load_finish();
    return damaged != 0 || ash_verify() != 0;
}

/* ---- the parent ---- */

static unsigned char visits[INSTRUCTIONS_MAX]; /* of each byte of the library's code, the instructions that begin there */
static unsigned most_visits;
static uint64_t operations;
static long path_stops[PATHS], all_stops;

static uintptr_t instruction_of(pid_t tid)
{
#if defined(__x86_64__)
    struct user_regs_struct registers;
#else
    struct user_pt_regs registers;
#endif
    struct iovec io = {&registers, sizeof registers};
    if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &io) != 0)
        return 0;
#if defined(__x86_64__)
    return (uintptr_t)registers.rip;
#else
    return (uintptr_t)registers.pc;
#endif
}

/* The thread has come to its next instruction: false when the others wait for it there. */
static int stand_still(pid_t tid)
{
    uintptr_t ip = instruction_of(tid);
    size_t at = ip - library_base();
    int f = at < INSTRUCTIONS_MAX ? library_find(ip) : -1;
    if (f < 0 || visits[at] >= most_visits)
        return 1;
    visits[at]++;
    all_stops++;
    path_stops[shared->path]++;
    if (load_progress(shared->counts, operations, PATIENCE))
        return 1;
    tap_line("# stopped in %s + %lu, others do not get on", library_name(f), (unsigned long)at);
    return 0;
}

/* Steps the victims of the child until that ends: its wait status, or -1. */
static int trace(pid_t child)
{
    for (;;) {
        int status;
        pid_t tid = waitpid(-1, &status, __WALL);
        if (tid == child && (WIFEXITED(status) || WIFSIGNALED(status)))
            return status;
        if (tid < 0)
            return -1;
        if (!WIFSTOPPED(status))
            continue;
        int signal = WSTOPSIG(status);
        if (signal == SIGUSR1)
            ptrace(PTRACE_SETOPTIONS, tid, NULL, PTRACE_O_EXITKILL);
        if (signal == SIGTRAP && !stand_still(tid)) {
            kill(child, SIGKILL);
            return -1;
        }
        if (signal == SIGUSR1 || signal == SIGTRAP)
            ptrace(PTRACE_SINGLESTEP, tid, NULL, NULL);
        else
            ptrace(PTRACE_DETACH, tid, NULL, signal == SIGUSR2 ? 0 : signal);
    }
}

/* The functions with the number of instructions stopped at, several a line. */
static int say_instructions(void)
{
    char line[110] = "#";
    int all = 0, f = -1, here = 0;
    for (size_t at = 0; at <= library_bytes() && at < INSTRUCTIONS_MAX; at++) {
        int next = visits[at] != 0 ? library_find(library_base() + at) : f;
        if (f >= 0 && (next != f || at == library_bytes())) {
            size_t used = strlen(line);
            if (used + strlen(library_name(f)) + 8 > sizeof line) {
                tap_line("%s", line);
                used = 1;
            }
            snprintf(line + used, sizeof line - used, " %s %d", library_name(f), here);
            here = 0;
        }
        f = next;
        here += visits[at] != 0;
        all += visits[at] != 0;
    }
    tap_line("%s", line);
    return all;
}

static int test(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(child_main());
    int status = trace(child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT_TRACE) {
        skip("a process may not trace its child here", 1);
        return 0;
    }
    ok(status != -1, "each of the others made %lu operations at every stop, of %ld", (unsigned long)operations, all_stops);
    for (int i = 0; i < PATHS; i++)
        ok(path_stops[i] > 0, "%s: %ld stops", paths[i].name, path_stops[i]);
    is_int(status, 0, "no block was damaged, everything verifies");
    return 1;
}

int main(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (library_open() == 0) {
        skip("the library has no symbol table, or the machine is not known", 1);
        return tap_done();
    }
    int is_long = getenv("ASH_TEST_LONG") != NULL;
    most_visits = is_long ? 5 : 1;
    operations = is_long ? 2000 : 100;
    if (test())
        ok(say_instructions() > 1000, "instructions stopped at");
    return tap_done();
}
