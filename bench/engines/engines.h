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
    const char *library;        /* a program that is run first; NULL: there is none */
    const char *before, *after; /* what makes a program of a script */
    const char *extract;        /* a script: the number that is the row's "value" */
    /* Programs: one leaves a global, a changed prototype and a job; one shows what is left. */
    const char *spoil, *spoiled;
    const char *clean;   /* what `spoiled` shows in a new engine */
    const char *endless; /* runs for ever, and allocates */
    const char *hungry;  /* wants more memory than there is */

    void *(*open)(struct ash_heap *heap); /* see engine_open */
    void (*close)(void *root);
    /* Another program in the same runtime, as new as that can be, and its end: 0 or -1. */
    int (*context)(void *root, const char *program);
    void (*enter)(void *root); /* see engine_enter; NULL: nothing is to be done */
    /* The value as text, cut at `cap`; 0, or -1 with what went wrong. */
    int (*call)(void *root, const char *row, size_t n, char *out, size_t cap);
    int (*run)(void *root, const char *program, char *out, size_t cap);
    void (*watch)(void *root, int watched); /* engine_ticker is to be called, or not */
};

/* All there are; the last is followed by NULL. */
extern const struct engine *const engines[];

/* In a heap, or by malloc for NULL. NULL: no memory, or the script is wrong. */
void *engine_open(const struct engine *e, struct ash_heap *heap, const char *script);

/* In a thread that may be another one than before. */
void engine_enter(const struct engine *e, void *root);

/* As struct engine's context, for a script: 0 or -1. */
int engine_context(const struct engine *e, void *root, const char *script);

/*
 * `tick` is called now and then while a script runs in this thread; it may leave by longjmp. NULL:
 * nothing is.
 */
void engine_on_tick(const struct engine *e, void *root, void (*tick)(void));

/* For engines: calls it. */
void engine_ticker(void);

/* By its name; NULL: there is none. */
const struct engine *engine_find(const char *name);

#ifdef __cplusplus
}
#endif

#endif
