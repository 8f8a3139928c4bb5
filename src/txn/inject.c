#include "txn/inject.h"

#include "ashlar/malloc.h"

#include <string.h>

bool inject_init(struct inject *q, unsigned shift)
{
    q->shift = shift;
    q->mask = ((uint64_t)1 << shift) - 1;
    q->cells = ash_calloc(q->mask + 1, sizeof *q->cells);
    store_relaxed(&q->tail, 0);
    store_relaxed(&q->head, 0);
    return q->cells != NULL;
}

void inject_fini(struct inject *q)
{
    ash_free(q->cells);
}

void inject_clear(struct inject *q)
{
    memset(q->cells, 0, (q->mask + 1) * sizeof *q->cells);
    store_relaxed(&q->tail, 0);
    store_relaxed(&q->head, 0);
}

ASH_INLINE struct inject_cell *cell_at(struct inject *q, uint64_t at)
{
    return &q->cells[at & q->mask];
}

ASH_INLINE uint64_t turn_at(const struct inject *q, uint64_t at, bool full)
{
    return (at >> q->shift) * 2 + full;
}

/*
 * Claims the position at `word` whose cell has its turn; false when the cell's turn is yet to come.
 * A turn that is ahead was acquired after the position had been moved: it was a stale one.
 */
ASH_INLINE bool claim(struct inject *q, _Atomic(uint64_t) *word, bool full, uint64_t *at)
{
    uint64_t seen = load_relaxed(word);
    for (;;) {
        /* acquire: the task, or that the one before was read; pairs with push and pop */
        uint64_t turn = load_acquire(&cell_at(q, seen)->turn);
        if (turn == turn_at(q, seen, full)) {
            *at = seen;
            if (cas_relaxed(word, &seen, seen + 1)) /* the cells publish, not the positions */
                return true;
        } else if (turn < turn_at(q, seen, full)) {
            return false;
        } else {
            seen = load_relaxed(word);
        }
    }
}

bool inject_push(struct inject *q, const struct task *task)
{
    uint64_t at;
    if (!claim(q, &q->tail, false, &at))
        return false;
    cell_at(q, at)->task = *task;
    store_release(&cell_at(q, at)->turn, turn_at(q, at, true)); /* the task, to pop */
    return true;
}

bool inject_pop(struct inject *q, struct task *out)
{
    uint64_t at;
    if (!claim(q, &q->head, true, &at))
        return false;
    *out = cell_at(q, at)->task;
    store_release(&cell_at(q, at)->turn, turn_at(q, at, false) + 2); /* it is read; to push */
    return true;
}

bool inject_has(struct inject *q)
{
    uint64_t at, turn;
    do { /* again if `head` was stale */
        at = load_relaxed(&q->head);
        turn = load_acquire(&cell_at(q, at)->turn); /* acquire: the newer head, from pop */
    } while (turn > turn_at(q, at, true));
    return turn == turn_at(q, at, true);
}
