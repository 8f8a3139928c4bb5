/*
 * The work-stealing deque: its owner pushes and takes tasks at one end, thieves steal at the other.
 *
 * D. Chase, Y. Lev: Dynamic circular work-stealing deque, SPAA 2005, with the orders of N. M. Le,
 * A. Pop, A. Cohen, F. Zappa Nardelli: Correct and efficient work-stealing for weak memory models,
 * PPoPP 2013, whose figure 1 the comments "push 3" and the like count the lines of. What differs:
 *   push 8    the release fence before it and its relaxed store are one releasing store here
 *   take 4    releases, too: a thief may know a task by this store alone, which their fence of the
 *             push covers, and which continues no release sequence since C++20
 *   steal 6   the array is acquired, where theirs is consumed
 *   take 6    acquires, for top_seen
 *   CAS       theirs are seq_cst; the fences do the ordering (rule 4), so these are as strong only
 *             as their words need
 *
 * Tasks lie in the cells from `top` to `bottom`, positions that count on for ever; position p is in
 * cell p & mask of the array.
 *  1. A push writes the cell at `bottom`, then moves `bottom` up.
 *  2. A take moves `bottom` down first, and looks at `top` then: if more than one task was there,
 *     no thief comes near it. The last one is taken as a thief takes it.
 *  3. A steal reads `top`, then `bottom`, then the cell, and has the task if it moves `top` up from
 *     what it read. A cell is written again only when `top` has passed it, so a steal that succeeds
 *     has read the task that was there; what one that fails has read is thrown away.
 *  4. Between its two accesses each of 2 and 3 has a fence. A take and a steal that both get past
 *     theirs for the same last task: the later fence of the two has the earlier one's first access
 *     behind it, so the take finds top moved, or the steal finds bottom moved, or both go for the
 *     compare-and-swap of `top`, which one wins.
 *  5. The owner copies the tasks to an array of twice the size when one is full. Thieves may be
 *     reading the old one, which is never written again: it is kept until the deque's end, all old
 *     ones together being smaller than the present one.
 *
 * A task is three words, in three relaxed atomics: rule 3 makes one of them, read together, of no
 * use unless all are. So spawning a task allocates nothing.
 *
 * Rejected: top and bottom in one word, changed by read-modify-writes: without fences, but a locked
 * instruction for a push as well. Owners that take the oldest (as Go's) pay one for each take too,
 * and lose the cache's contents.
 */
#ifndef ASH_DEQUE_H
#define ASH_DEQUE_H

#include "base/atomic.h"

struct ash_group;

struct task {
    void (*fn)(void *arg);
    void *arg;
    struct ash_group *group; /* NULL: none, or TASK_KEPT */
};

/* Of no group, and run even where tasks are dropped. */
#define TASK_KEPT ((struct ash_group *)1)

/* Words that publish nothing: `bottom` does. */
struct task_cell {
    _Atomic(uintptr_t) fn, arg, group; /* atomic: owner writes, thieves read; relaxed */
};

struct deque_array {
    uint64_t mask;             /* const: cells - 1 */
    struct deque_array *older; /* const: the one that it replaced */
    struct task_cell cell[];
};

struct deque {
    ASH_LINE_ALIGNED _Atomic(uint64_t) top; /* atomic: whoever takes the task there moves it */
    /* atomic: owner writes; publishes the cells below it */
    ASH_LINE_ALIGNED _Atomic(uint64_t) bottom;
    /* atomic: owner writes; publishes the array's own words */
    _Atomic(struct deque_array *) array;
    uint64_t top_seen; /* owner: top was here at least */
};

enum deque_answer { DEQUE_EMPTY, DEQUE_TASK, DEQUE_LOST /* to another thief: look again */ };

/* The first array is made by the first push. */
void deque_init(struct deque *d);
void deque_fini(struct deque *d);

/* Room for one more task; false when there is no memory, and nothing has changed. The owner. */
ASH_COLD bool deque_grow(struct deque *d);

/* Any thread. */
enum deque_answer deque_steal(struct deque *d, struct task *out);

/* Whether tasks are there: a moment old, but after a fence_seq_cst not older than that. */
ASH_INLINE bool deque_has(struct deque *d)
{
    uint64_t top = load_relaxed(&d->top);
    return (int64_t)(load_relaxed(&d->bottom) - top) > 0;
}

/* Bytes of its arrays. The owner, or nobody else uses it. */
size_t deque_bytes(const struct deque *d);

/* Forgets all tasks, and what a vanished owner was doing; nobody else uses it. */
void deque_clear(struct deque *d);

ASH_INLINE void cell_write(struct deque_array *a, uint64_t at, const struct task *t)
{
    struct task_cell *c = &a->cell[at & a->mask];
    store_relaxed(&c->fn, (uintptr_t)t->fn);
    store_relaxed(&c->arg, (uintptr_t)t->arg);
    store_relaxed(&c->group, (uintptr_t)t->group);
}

ASH_INLINE void cell_read(struct deque_array *a, uint64_t at, struct task *t)
{
    struct task_cell *c = &a->cell[at & a->mask];
    t->fn = (void (*)(void *))load_relaxed(&c->fn);
    t->arg = (void *)load_relaxed(&c->arg);
    t->group = (struct ash_group *)load_relaxed(&c->group);
}

/* The owner. False when there is no memory for it. */
ASH_INLINE bool deque_push(struct deque *d, const struct task *task)
{
    uint64_t b = load_relaxed(&d->bottom);           /* push 2 */
    struct deque_array *a = load_relaxed(&d->array); /* push 4: the owner's own */
    if (ASH_UNLIKELY(a == NULL || b - d->top_seen > a->mask)) {
        d->top_seen = load_acquire(&d->top); /* push 3: the cell was read; pairs with steal 9 */
        if (a == NULL || b - d->top_seen > a->mask) {
            if (!deque_grow(d)) /* push 5 */
                return false;
            a = load_relaxed(&d->array);
        }
    }
    cell_write(a, b, task);
    store_release(&d->bottom, b + 1); /* push 6-7: the cell; pairs with steal 4 */
    return true;
}

/* Whether the next take gives a task of `fn`, or none. The owner, who alone writes the cell. */
ASH_INLINE bool deque_newest_is(struct deque *d, void (*fn)(void *arg))
{
    struct deque_array *a = load_relaxed(&d->array);
    uint64_t b = load_relaxed(&d->bottom);
    return b != d->top_seen && load_relaxed(&a->cell[(b - 1) & a->mask].fn) == (uintptr_t)fn;
}

/* The owner. */
ASH_INLINE bool deque_take(struct deque *d, struct task *out)
{
    uint64_t b = load_relaxed(&d->bottom) - 1; /* take 2 */
    struct deque_array *a = load_relaxed(&d->array);
    if ((int64_t)(b - d->top_seen) < 0) /* empty for certain: top never goes back */
        return false;
    store_release(&d->bottom, b);       /* take 4; release: the cells below; pairs with steal 4 */
    fence_seq_cst();                    /* take 5: rule 4 */
    uint64_t t = load_acquire(&d->top); /* take 6; acquire: as push 3, which top_seen spares */
    d->top_seen = t;
    if (ASH_LIKELY((int64_t)(b - t) > 0)) { /* take 8: more than one */
        cell_read(a, b, out);
        return true;
    }
    bool taken = false;
    if (b == t) { /* take 12: the last */
        cell_read(a, b, out);
        taken = cas_strong_relaxed(&d->top, &t, t + 1); /* take 13 */
        d->top_seen = b + taken;
    }
    store_relaxed(&d->bottom, b + 1); /* take 16, 20 */
    return taken;
}

#endif
