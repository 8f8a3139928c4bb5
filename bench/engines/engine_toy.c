#include "engines.h"
#include "toy.h"

#include <stdio.h>
#include <stdlib.h>

static void *heap_alloc(void *ud, size_t n)
{
    return ash_heap_malloc(ud, n);
}

static void heap_give(void *ud, void *p)
{
    ash_heap_free(ud, p);
}

static void *plain_alloc(void *ud, size_t n)
{
    (void)ud;
    return malloc(n);
}

static void plain_give(void *ud, void *p)
{
    (void)ud;
    free(p);
}

static void *toy_engine_open(struct ash_heap *heap, const char *script)
{
    char program[1024], out[64];
    struct toy *t = heap != NULL ? toy_open(heap_alloc, heap_give, heap)
                                 : toy_open(plain_alloc, plain_give, NULL);
    if (t == NULL)
        return NULL;
    int n = snprintf(program, sizeof program, "(set handle (fn (row) %s))", script);
    if (n < (int)sizeof program && toy_run(t, program, out, sizeof out) == 0)
        return t;
    toy_close(t);
    return NULL;
}

static void toy_engine_close(void *root)
{
    toy_close(root);
}

static void toy_engine_enter(void *root)
{
    (void)root;
}

static int toy_engine_call(void *root, const char *row, size_t n, char *out, size_t cap)
{
    return toy_call(root, "handle", row, n, out, cap);
}

static int toy_engine_run(void *root, const char *program, char *out, size_t cap)
{
    return toy_run(root, program, out, cap);
}

static void toy_engine_on_tick(void *root, void (*tick)(void))
{
    toy_on_tick(root, tick);
}

const struct engine engine_toy = {
    .name = "toy",
    .extract = "(get (json row) \"value\")",
    .spoil = "(set leak 1) (put Object \"poison\" 2) (later (fn () 3)) (set f1 nil)",
    .spoiled = "(+ \"\" (+ leak (+ \" \" (+ (get (new) \"poison\") (+ \" \" (+ (jobs 0) "
               "(+ \" \" ((f1 1) 2))))))))",
    .clean = "nil nil 0 3",
    .endless = "(set all (new)) (var i 0) (while 1 (set i (+ i 1)) (put all (+ \"k\" i) (new)))",
    .hungry = "(set all (new)) (var i 0) (while 1 (set i (+ i 1)) (put all (+ \"k\" i) (new)))",
    .open = toy_engine_open,
    .close = toy_engine_close,
    .enter = toy_engine_enter,
    .call = toy_engine_call,
    .run = toy_engine_run,
    .on_tick = toy_engine_on_tick,
};
