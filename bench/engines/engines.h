/*
 * Script engines that are run in VMs by benchmarks, tests and bench/vmlines: the small one here
 * always, Lua 5.4 and QuickJS where configure has found them. All are used alike: a script is the
 * body of a function of `row`, a string.
 */
#ifndef ENGINES_H
#define ENGINES_H

#include <ashlar/heap.h>

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct engine {
    const char *name;
    const char *extract; /* a script: the number that is the row's "value" */
    /* Programs: one leaves a global, a changed prototype and a job; one shows what is left. */
    const char *spoil, *spoiled;
    const char *clean;   /* what `spoiled` shows in a new engine */
    const char *endless; /* runs for ever, and allocates */
    const char *hungry;  /* wants more memory than there is */

    /* In a heap, or by malloc for NULL. NULL: no memory, or the script is wrong. */
    void *(*open)(struct ash_heap *heap, const char *script);
    void (*close)(void *root);
    void (*enter)(void *root); /* in a thread that may be another one than before */
    /* The value as text, cut at `cap`; 0, or -1 with what went wrong. */
    int (*call)(void *root, const char *row, size_t n, char *out, size_t cap);
    int (*run)(void *root, const char *program, char *out, size_t cap);
    /* Called now and then while a script runs; it may leave by longjmp. */
    void (*on_tick)(void *root, void (*tick)(void));
};

/* All there are; the last is followed by NULL. */
extern const struct engine *const engines[];

/* By its name; NULL: there is none. */
const struct engine *engine_find(const char *name);

#ifdef __cplusplus
}
#endif

#endif
