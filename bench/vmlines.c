/*
 * vmlines: runs a script for each line of standard input, in a pool of VMs, and writes what it
 * returns, in the order of the lines.
 *
 *     vmlines [-j THREADS] [-n VMS] [-m MIB] [-s ENGINE] [-q] SCRIPT < rows.jsonl
 *
 * SCRIPT is a file with the body of a function of `row`, the line as a string; `-` is the value of
 * "value", as the engine does that. Engines: toy, and lua and quickjs where configure found them.
 * At the end the rate and the pool's figures go to standard error, unless -q. ASHLAR_VMPOOL=0 runs
 * the same with a new VM for each line. A script that fails gives a line with what was wrong, and
 * the exit status 1.
 */
#include "engines/engines.h"

#include <ashlar/vm.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 4096, RESULT = 256, SCRIPT = 800 };

struct line {
    char *text;
    size_t cap;
    ssize_t n;
    int failed;
    char result[RESULT];
};

/* Threads take lines of a batch by turns; the batch is read and written by the first. */
struct job {
    const struct engine *engine;
    const char *script;
    struct ash_vmpool *pool;
    struct line *lines;
    size_t count;
    _Atomic(size_t) next;
    int end;
    pthread_barrier_t begin, done;
};

static int vm_init(void *user, struct ash_heap *heap, void **root)
{
    const struct job *j = user;
    *root = engine_open(j->engine, heap, j->script);
    return *root == NULL ? -ENOEXEC : 0;
}

static int vm_enter(void *user, void *root)
{
    engine_enter(((const struct job *)user)->engine, root);
    return 0;
}

static void run_line(struct job *j, struct line *l)
{
    struct ash_vm *vm;
    int status = ash_vmpool_acquire(j->pool, &vm, -1);
    if (status != 0) {
        snprintf(l->result, sizeof l->result, "no VM: %s", strerror(-status));
        l->failed = 1;
        return;
    }
    l->failed = j->engine->call(ash_vm_root(vm), l->text, (size_t)l->n, l->result, RESULT) != 0;
    ash_vmpool_release(j->pool, vm, 0);
}

static void run_batch(struct job *j)
{
    for (size_t i; (i = j->next++) < j->count;)
        run_line(j, &j->lines[i]);
}

static void *work(void *arg)
{
    struct job *j = arg;
    for (;;) {
        pthread_barrier_wait(&j->begin);
        if (j->end)
            return NULL;
        run_batch(j);
        pthread_barrier_wait(&j->done);
    }
}

/* Reads the next lines; their number. */
static size_t read_batch(struct line *lines)
{
    size_t count = 0;
    while (count < BATCH) {
        struct line *l = &lines[count];
        l->n = getline(&l->text, &l->cap, stdin);
        if (l->n < 0)
            break;
        if (l->n > 0 && l->text[l->n - 1] == '\n')
            l->text[--l->n] = '\0';
        count++;
    }
    return count;
}

/* All batches; the number of lines, and of those that failed into `*failed`. */
static size_t run_all(struct job *j, size_t *failed)
{
    size_t lines = 0;
    while ((j->count = read_batch(j->lines)) > 0) {
        j->next = 0;
        pthread_barrier_wait(&j->begin);
        run_batch(j);
        pthread_barrier_wait(&j->done);
        for (size_t i = 0; i < j->count; i++) {
            puts(j->lines[i].result);
            *failed += j->lines[i].failed != 0;
        }
        lines += j->count;
    }
    j->end = 1;
    pthread_barrier_wait(&j->begin);
    return lines;
}

static int usage(void)
{
    fputs("usage: vmlines [-j THREADS] [-n VMS] [-m MIB] [-s ENGINE] [-q] SCRIPT|- < LINES\n"
          "engines:",
          stderr);
    for (const struct engine *const *e = engines; *e != NULL; e++)
        fprintf(stderr, " %s", (*e)->name);
    fputs("\n", stderr);
    return 2;
}

/* The script's text in `buf`; NULL: it cannot be read, or is too long. */
static const char *read_script(const struct engine *e, const char *path, char *buf)
{
    if (strcmp(path, "-") == 0)
        return e->extract;
    FILE *f = fopen(path, "r");
    size_t n = f != NULL ? fread(buf, 1, SCRIPT, f) : SCRIPT;
    if (f != NULL)
        fclose(f);
    if (n == SCRIPT) {
        fprintf(stderr, "vmlines: %s: %s\n", path,
                f == NULL ? strerror(errno) : "a script is shorter than 800 bytes");
        return NULL;
    }
    buf[n] = '\0';
    return buf;
}

static int run(struct job *j, unsigned threads, int quiet)
{
    struct timespec from, to;
    size_t failed = 0;
    pthread_t *thread = calloc(threads, sizeof *thread);
    j->lines = calloc(BATCH, sizeof *j->lines);
    if (thread == NULL || j->lines == NULL)
        return 2;
    pthread_barrier_init(&j->begin, NULL, threads);
    pthread_barrier_init(&j->done, NULL, threads);
    for (unsigned i = 1; i < threads; i++)
        if (pthread_create(&thread[i], NULL, work, j) != 0)
            abort();
    clock_gettime(CLOCK_MONOTONIC, &from);
    size_t lines = run_all(j, &failed);
    clock_gettime(CLOCK_MONOTONIC, &to);
    for (unsigned i = 1; i < threads; i++)
        pthread_join(thread[i], NULL);
    fflush(stdout);
    double s = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) * 1e-9;
    if (!quiet) {
        fprintf(stderr, "%zu lines, %zu failed, %.0f a second\n", lines, failed, (double)lines / s);
        ash_vmpool_dump(j->pool, STDERR_FILENO);
    }
    for (size_t i = 0; i < BATCH; i++)
        free(j->lines[i].text);
    free(j->lines);
    free(thread);
    return failed != 0;
}

int main(int argc, char **argv)
{
    long threads = 1, vms = 0, mib = 64;
    int quiet = 0;
    struct job j = {.engine = engine_find("toy")};
    for (int c; (c = getopt(argc, argv, "j:n:m:s:q")) != -1;)
        switch (c) {
        case 'j':
            threads = strtol(optarg, NULL, 10);
            break;
        case 'n':
            vms = strtol(optarg, NULL, 10);
            break;
        case 'm':
            mib = strtol(optarg, NULL, 10);
            break;
        case 's':
            j.engine = engine_find(optarg);
            break;
        case 'q':
            quiet = 1;
            break;
        default:
            return usage();
        }
    if (optind + 1 != argc || j.engine == NULL || threads < 1 || threads > 1024 || vms < 0 ||
        mib < 1)
        return usage();
    char buf[SCRIPT + 1];
    j.script = read_script(j.engine, argv[optind], buf);
    if (j.script == NULL)
        return 2;
    j.pool = ash_vmpool_create(
        j.engine->name, &(struct ash_vm_ops){.init = vm_init, .enter = vm_enter},
        ASH_VMPOOL_CONFIG(.heap_bytes = (size_t)mib << 20, .min = 1,
                          .max = (unsigned)(vms == 0 ? threads : vms), .flags = ASH_VM_STICKY),
        &j);
    if (j.pool == NULL) {
        fprintf(stderr, "vmlines: %s\n",
                errno == ENOEXEC ? "the script is wrong, or its VM too small" : strerror(errno));
        return 2;
    }
    int status = run(&j, (unsigned)threads, quiet);
    ash_vmpool_destroy(j.pool);
    return status;
}
