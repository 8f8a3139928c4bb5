#include "engines.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { PROGRAM = 1024 };

extern const struct engine engine_toy, engine_lua, engine_quickjs;

const struct engine *const engines[] = {
    &engine_toy,
#if HAVE_LUA
    &engine_lua,
#endif
#if HAVE_QUICKJS
    &engine_quickjs,
#endif
    NULL,
};

const struct engine *engine_find(const char *name)
{
    for (const struct engine *const *e = engines; *e != NULL; e++)
        if (strcmp((*e)->name, name) == 0)
            return *e;
    return NULL;
}

/* The script's program in `out`; false: it is too long. */
static bool program_of(const struct engine *e, const char *script, char out[PROGRAM])
{
    return snprintf(out, PROGRAM, "%s%s%s", e->before, script, e->after) < PROGRAM;
}

void *engine_open(const struct engine *e, struct ash_heap *heap, const char *script)
{
    char program[PROGRAM], out[64];
    void *root = program_of(e, script, program) ? e->open(heap) : NULL;
    if (root == NULL)
        return NULL;
    if ((e->library == NULL || e->run(root, e->library, out, sizeof out) == 0) &&
        e->run(root, program, out, sizeof out) == 0)
        return root;
    e->close(root);
    return NULL;
}

void engine_enter(const struct engine *e, void *root)
{
    if (e->enter != NULL)
        e->enter(root);
}

int engine_context(const struct engine *e, void *root, const char *script)
{
    char program[PROGRAM];
    return program_of(e, script, program) ? e->context(root, program) : -1;
}

static __thread void (*ticker)(void);

void engine_on_tick(const struct engine *e, void *root, void (*tick)(void))
{
    ticker = tick;
    e->watch(root, tick != NULL);
}

void engine_ticker(void)
{
    ticker();
}
