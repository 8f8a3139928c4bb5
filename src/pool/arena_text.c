/* Copies and formatted text in arenas. */
#include "pool/arena.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

ASH_API void *ash_arena_memdup(struct ash_arena *arena, const void *from, size_t n)
{
    void *p = ash_arena_alloc(arena, n);
    return p != NULL && n > 0 ? memcpy(p, from, n) : p;
}

static char *text_dup(struct ash_arena *arena, const char *s, size_t n)
{
    char *p = ash_arena_alloc(arena, n + 1);
    if (p != NULL) {
        memcpy(p, s, n);
        p[n] = '\0';
    }
    return p;
}

ASH_API char *ash_arena_strdup(struct ash_arena *arena, const char *s)
{
    if (s != NULL)
        return text_dup(arena, s, strlen(s));
    errno = EINVAL;
    return NULL;
}

ASH_API char *ash_arena_strndup(struct ash_arena *arena, const char *s, size_t n)
{
    if (s != NULL)
        return text_dup(arena, s, strnlen(s, n));
    errno = EINVAL;
    return NULL;
}

/* The text is written where the next block will be; only one that does not fit is written twice. */
ASH_API char *ash_arena_vprintf(struct ash_arena *arena, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    char *p = arena->ash_at;
    size_t room = (size_t)(arena->ash_end - p);
    int n = vsnprintf(room > 0 ? p : NULL, room, format, args);
    if (n < 0) {
        p = NULL; /* vsnprintf has set errno */
    } else if ((size_t)n < room) {
        arena->ash_at = p + align_up((size_t)n + 1, ARENA_ALIGN);
    } else {
        p = ash_arena_alloc(arena, (size_t)n + 1);
        if (p != NULL)
            vsnprintf(p, (size_t)n + 1, format, again);
    }
    va_end(again);
    return p;
}

ASH_API char *ash_arena_printf(struct ash_arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *p = ash_arena_vprintf(arena, format, args);
    va_end(args);
    return p;
}
