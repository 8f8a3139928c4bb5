#include "txn/deque.h"

#include "ashlar/malloc.h"

enum { FIRST_CELLS = 256 };

void deque_init(struct deque *d)
{
    store_relaxed(&d->top, 0);
    store_relaxed(&d->bottom, 0);
    store_relaxed(&d->array, NULL);
    d->top_seen = 0;
}

void deque_fini(struct deque *d)
{
    for (struct deque_array *a = load_relaxed(&d->array), *older; a != NULL; a = older) {
        older = a->older;
        ash_free(a);
    }
}

static size_t array_bytes(uint64_t cells)
{
    return sizeof(struct deque_array) + cells * sizeof(struct task_cell);
}

size_t deque_bytes(const struct deque *d)
{
    size_t bytes = 0;
    for (struct deque_array *a = load_acquire(&d->array); a != NULL; a = a->older) /* as in steal */
        bytes += array_bytes(a->mask + 1);
    return bytes;
}

bool deque_grow(struct deque *d)
{
    struct deque_array *old = load_relaxed(&d->array);
    uint64_t cells = old == NULL ? FIRST_CELLS : 2 * (old->mask + 1);
    struct deque_array *a = ash_malloc(array_bytes(cells));
    if (a == NULL)
        return false;
    a->mask = cells - 1;
    a->older = old;
    for (uint64_t at = d->top_seen; at != load_relaxed(&d->bottom); at++) {
        struct task t;
        cell_read(old, at, &t);
        cell_write(a, at, &t);
    }
    store_release(&d->array, a); /* its mask; pairs with steal 6 */
    return true;
}

enum deque_answer deque_steal(struct deque *d, struct task *out)
{
    uint64_t t = load_acquire(&d->top);    /* steal 2: what was before the taking of t - 1 */
    fence_seq_cst();                       /* steal 3: rule 4 */
    uint64_t b = load_acquire(&d->bottom); /* steal 4: the cells, the array; pairs with push */
    if ((int64_t)(b - t) <= 0)
        return DEQUE_EMPTY;
    cell_read(load_acquire(&d->array), t, out); /* steal 6-7: pairs with deque_grow */
    /* steal 8-9. release: the cell is read; pairs with push 3 */
    return cas_strong_release(&d->top, &t, t + 1) ? DEQUE_TASK : DEQUE_LOST;
}

void deque_clear(struct deque *d)
{
    store_relaxed(&d->bottom, load_relaxed(&d->top));
    d->top_seen = load_relaxed(&d->top);
}
