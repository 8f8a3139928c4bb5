/*
 * Remote frees, orphans and adoption: heaps are driven by hand from one thread, each state checked;
 * then threads that hand every block to a neighbour and come and go, with every slab accounted for
 * at the end.
 */
#include "heap/bin.h"
#include "heap/boot.h"
#include "heap/front.h"
#include "heap/remote.h"
#include "heap/slabs.h"
#include "heap/thread.h"
#include "heap/verify.h"
#include "mem/meta.h"
#include "mem/reserve.h"
#include "tap.h"

#include <pthread.h>

static unsigned cls;

static struct block *block_of(struct heap *h)
{
    struct block *p = bin_refill(h, cls);
    p->mark = 0;
    return p;
}

static void test_inbox(void)
{
    struct heap *a = heap_open(), *b = heap_open();
    struct block *p = block_of(a);
    struct slab *s = slab_of(cls, p);
    unsigned free = s->free;
    ok(load_relaxed(&s->owner) == a && !remote_is_listed(s), "a slab belongs to the heap that made it");
    bin_free_direct(b, cls, p);
    ok(remote_is_listed(s) && s->free == free, "a remote free waits on the slab's word");
    slabs_collect(a);
    ok(!remote_is_listed(s) && s->free == free + 1, "and is taken in by the owner");
    bin_drain(a);
    slabs_abandon(a);
    slabs_abandon(b);
    heap_close(a);
    heap_close(b);
}

static void test_orphan(void)
{
    struct heap *a = heap_open(), *b = heap_open();
    enum { MANY = 3000 };
    static struct block *p[MANY];
    for (int i = 0; i < MANY; i++) {
        p[i] = block_of(a);
        bin_drain(a); /* every block out is one that the test holds */
    }
    struct slab *full = slab_of(cls, p[0]), *partial = slab_of(cls, p[MANY - 1]);
    ok(full->free == 0 && partial->free != 0, "one slab full, one not");
    slabs_abandon(a);
    ok(load_relaxed(&full->owner) == NULL && !remote_is_listed(full), "a full orphan is on no stack");
    ok(load_relaxed(&partial->owner) == NULL && remote_is_listed(partial), "a partial one is");
    bin_free_direct(b, cls, p[0]);
    ok(remote_is_listed(full), "the first block freed puts the full one there");
    struct block *q = block_of(b);
    struct slab *adopted = slab_of(cls, q);
    ok(adopted == full || adopted == partial, "a heap's first refill of a class takes from an orphan");
    ok(load_relaxed(&adopted->owner) == NULL && remote_is_listed(adopted) == (adopted->free != 0), "and leaves it one");
    adopted = slabs_find(b, cls);
    ok(adopted == full || adopted == partial, "a heap that needs more adopts an orphan");
    ok(load_relaxed(&adopted->owner) == b && !remote_is_listed(adopted), "and owns it then");
    bin_free_direct(b, cls, q);
    bin_drain(b);
    for (int i = 1; i < MANY; i++)
        bin_free_direct(b, cls, p[i]);
    slabs_reap(b);
    slabs_collect(b);
    slabs_abandon(b);
    is_int((long)remote_orphans(), 0, "reaping leaves no orphan without blocks");
    heap_close(a);
    heap_close(b);
}

/* What many heaps hold a few blocks of lies together. */
static void test_guests(void)
{
    enum { HEAPS = 64 };
    struct heap *h[HEAPS];
    struct block *p[HEAPS];
    unsigned fresh = class_of(192), together = 0;
    struct heap *first = heap_open(); /* which has slabs of its own */
    uint64_t meta = meta_bytes();
    for (int i = 0; i < HEAPS; i++) {
        h[i] = heap_open();
        p[i] = bin_refill(h[i], fresh);
        p[i]->mark = 0;
        together += slab_of(fresh, p[i]) == slab_of(fresh, p[0]);
    }
    is_int(together, HEAPS, "blocks of heaps that have one each lie in one slab");
    ok(heap_class(h[1], fresh) + CLASS_GROUP == heap_class(h[2], fresh), "and what they know of the class, too");
    ok(meta_bytes() - meta < HEAPS * (uint64_t)(16 * 1024), "records: %lu bytes a heap",
       (unsigned long)(meta_bytes() - meta) / HEAPS);
    for (int i = 0; i < HEAPS; i++) {
        bin_free_direct(h[i], fresh, p[i]);
        bin_drain(h[i]);
        slabs_abandon(h[i]);
        heap_close(h[i]);
    }
    slabs_reap(first);
    slabs_abandon(first);
    heap_close(first);
    is_int((long)remote_orphans(), 0, "the slab is given back when all have");
}

/* A ring of threads: each frees what its neighbour allocates. */
enum { THREADS = 6, ITEMS = 20000, ROUNDS = 4, QUEUE = 256 };

static _Atomic(void *) queue[THREADS][QUEUE];

static void *ring_main(void *arg)
{
    uintptr_t me = (uintptr_t)arg;
    unsigned state = (unsigned)me + 1;
    for (unsigned i = 0; i < ITEMS; i++) {
        state = state * 1664525 + 1013904223;
        void *p = front_malloc(1 + (state >> 8) % 2000);
        void *mine = atomic_exchange(&queue[(me + 1) % THREADS][i % QUEUE], p);
        if (mine != NULL)
            front_free(mine);
        void *theirs = atomic_exchange(&queue[me][(i * 7) % QUEUE], NULL);
        if (theirs != NULL)
            front_free(theirs);
    }
    return NULL;
}

static void test_ring(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[THREADS];
        for (uintptr_t i = 0; i < THREADS; i++)
            pthread_create(&threads[i], NULL, ring_main, (void *)i);
        for (unsigned i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
    }
    for (unsigned i = 0; i < THREADS; i++)
        for (unsigned k = 0; k < QUEUE; k++)
            front_free(atomic_exchange(&queue[i][k], NULL));
    is_int(verify_all(), 0, "everything verifies");
    front_trim();
    struct reserve_totals t;
    reserve_totals_get(&t);
    ok(t.used <= 64 * (uint64_t)UNIT_BYTES, "no slab is lost: %lu KiB in use", (unsigned long)t.used / 1024);
    is_int((long)remote_orphans(), 0, "no orphan is left");
}

int main(void)
{
    ok(boot(), "boot");
    cls = class_of(64);
    test_inbox();
    test_orphan();
    test_guests();
    test_ring();
    return tap_done();
}
