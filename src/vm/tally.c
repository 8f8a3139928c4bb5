#include "vm/tally.h"

#include <pthread.h>

ASH_TLS unsigned tally_self;

/* atomic: bit i: a thread has line i. Giving and taking it hands the line's counts over. */
static _Atomic(uint64_t) taken;
static _Atomic(uint32_t) exit_key; /* atomic: one more than the key; 0: none yet */

_Static_assert(TALLY_LINES == 64, "a bit for each line");

/* A thread's end: the line, which the key's value is one more than, is free. */
static void detach(void *line)
{
    uint64_t mine = (uint64_t)1 << ((uintptr_t)line - 1), seen = load_relaxed(&taken);
    tally_self = 0;
    while (!cas_release(&taken, &seen, seen & ~mine)) /* the counts; pairs with line_take */
        ;
}

/* Has `detach` called at the thread's end. Where there is no key the line stays taken. */
static void detach_at_exit(unsigned self)
{
    uint32_t seen = load_relaxed(&exit_key); /* a number, it publishes nothing */
    if (seen == 0) {
        pthread_key_t made;
        if (pthread_key_create(&made, detach) != 0)
            return;
        if (cas_strong_relaxed(&exit_key, &seen, made + 1))
            seen = made + 1;
        else
            pthread_key_delete(made);
    }
    (void)pthread_setspecific(seen - 1, (void *)(uintptr_t)self);
}

/* A free line's number, or TALLY_LINES. */
static unsigned line_take(void)
{
    uint64_t seen = load_relaxed(&taken);
    while (~seen != 0)
        /* acquire: the counts of the thread that had the line before; pairs with detach */
        if (cas_acquire(&taken, &seen, seen | (seen + 1)))
            return (unsigned)__builtin_ctzll(~seen);
    return TALLY_LINES;
}

void tally_attach(void)
{
    tally_self = 1 + line_take();
    if (tally_self <= TALLY_LINES)
        detach_at_exit(tally_self);
}

uint64_t tally_sum(const struct tally *t, unsigned which)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i <= TALLY_LINES; i++)
        sum += load_relaxed(&t->line[i].count[which]);
    return sum;
}
