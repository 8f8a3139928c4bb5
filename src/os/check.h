/*
 * What the library says on standard error, and the checks of debug builds. Callable from anywhere:
 * inside malloc, in a signal handler, before libc has started.
 *
 * A message is one line, "ashlar: " and the text, written in one piece; control characters in it (a
 * value from the environment may hold them) are shown as '?', and a line that is too long is cut.
 * See base/fmt.h for what a format may hold. errno is kept.
 */
#ifndef ASH_CHECK_H
#define ASH_CHECK_H

#include "base/base.h"

/* The process cannot go on: one cause, one text, then abort(). */
ASH_COLD _Noreturn void fatal(const char *format, ...) ASH_PRINTF(1, 2);

/* The process goes on. */
ASH_COLD void warn_line(const char *format, ...) ASH_PRINTF(1, 2);

/* The same to another descriptor than standard error. */
ASH_COLD void warn_line_to(int fd, const char *format, ...) ASH_PRINTF(2, 3);

/*
 * ASH_ASSERT(condition) is for what costs a compare, ASH_AUDIT(statement) for walks over a
 * structure. Both run in debug builds (-DASH_DEBUG) only, and are compiled, never run, in the
 * others.
 */
#ifdef ASH_DEBUG
#define ASH_ASSERT(x)                                                                              \
    (ASH_LIKELY(x) ? (void)0 : fatal("assertion failed: %s (%s:%d)", #x, __FILE__, __LINE__))
#define ASH_AUDIT(statement)                                                                       \
    do {                                                                                           \
        statement;                                                                                 \
    } while (0)
#else
#define ASH_ASSERT(x) ((void)sizeof(!(x)))
#define ASH_AUDIT(statement)                                                                       \
    do {                                                                                           \
        if (0) {                                                                                   \
            statement;                                                                             \
        }                                                                                          \
    } while (0)
#endif

#endif
