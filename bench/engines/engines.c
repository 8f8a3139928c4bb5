#include "engines.h"

#include <string.h>

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
