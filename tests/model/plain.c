/*
 * Plain memory: races, mappings, and taking back what a run has written.
 *
 * A plain access is stamped with its thread's clock (memory.c). Two accesses to one byte, one of them a write, race
 * when the later one's thread does not know the other's stamp (Flanagan, Freund: FastTrack, 2009). Since that is a
 * question of who has synchronised with whom and not of time, plain accesses are no steps of the search.
 */
#include "model.h"

#include <string.h>

static uint64_t run_number;

/* ---- taking back ---- */

struct saved {
    void *p;
    uint8_t size;
    uint8_t bytes[16];
};

enum { SAVED = 1 << 16 };
static struct saved saved[SAVED];
static unsigned saved_count;

void plain_save(void *p, size_t size)
{
    for (size_t part; size != 0; size -= part, p = (char *)p + part) {
        struct saved *s = &saved[saved_count++];
        if (saved_count == SAVED)
            model_fail("a run writes too much");
        part = size_min(size, sizeof s->bytes);
        s->p = p;
        s->size = (uint8_t)part;
        memcpy(s->bytes, p, part);
    }
}

void plain_rewind(void)
{
    while (saved_count != 0) {
        struct saved *s = &saved[--saved_count];
        memcpy(s->p, s->bytes, s->size);
    }
}

/* ---- mappings ---- */

/*
 * What a run maps is zeroed by the system in the name of the thread that asks for it: whoever touches it must know of
 * the mapping by way of that thread. What it unmaps nobody may touch.
 */
struct mapping {
    uintptr_t from, to;
    int thread;
    uint16_t clock;
    bool gone;
};

enum { MAPPINGS = 16 };
static struct mapping mappings[MAPPINGS];
static unsigned mapping_count;

void plain_mapped(void *p, size_t n, bool gone)
{
    if (machine_thread < 0)
        return;
    if (mapping_count == MAPPINGS)
        model_fail("a run maps too often");
    mappings[mapping_count++] = (struct mapping){(uintptr_t)p, (uintptr_t)p + n, machine_thread,
                                                 memory_clocks()[machine_thread], gone};
}

static void mapping_check(uintptr_t p)
{
    for (unsigned i = 0; i < mapping_count; i++) {
        const struct mapping *m = &mappings[i];
        if (p < m->from || p >= m->to)
            continue;
        if (m->gone)
            model_fail("thread %d touches %p, which thread %d has unmapped", machine_thread, (void *)p, m->thread);
        if (m->clock > memory_clocks()[m->thread])
            model_fail("thread %d touches %p and does not know that thread %d has mapped it", machine_thread, (void *)p,
                       m->thread);
    }
}

/* ---- accesses ---- */

/* What is known of eight bytes: who wrote each last, and when everybody read it last; times are clocks. */
struct shadow {
    uintptr_t granule;
    uint64_t run;
    uint16_t written[8], read[8][THREADS];
    int8_t writer[8];
};

enum { SHADOWS = 1 << 14 };
static struct shadow shadows[SHADOWS];

static struct shadow *shadow_of(uintptr_t granule)
{
    size_t i = (granule * 0x9e3779b97f4a7c15 >> 40) % SHADOWS;
    for (unsigned tries = 0; tries < SHADOWS; tries++, i = (i + 1) % SHADOWS) {
        struct shadow *s = &shadows[i];
        if (s->run == run_number && s->granule == granule)
            return s;
        if (s->run != run_number) {
            memset(s, 0, sizeof *s);
            s->run = run_number;
            s->granule = granule;
            return s;
        }
    }
    model_fail("the threads touch too much memory");
}

/* The thread that byte `i` races with, -1: none. */
static int races_with(const struct shadow *s, unsigned i, bool write)
{
    const uint16_t *known = memory_clocks();
    if (s->written[i] > known[s->writer[i]])
        return s->writer[i];
    for (int t = 0; write && t < THREADS; t++)
        if (s->read[i][t] > known[t])
            return t;
    return -1;
}

void plain_access(uintptr_t p, size_t size, bool write)
{
    if (machine_thread < 0 && !machine_checking)
        return;
    if (machine_is_own(p))
        return;
    if (write)
        plain_save((void *)p, size);
    if (machine_checking)
        return;
    mapping_check(p);
    uint16_t clock = memory_clocks()[machine_thread];
    struct shadow *s = NULL;
    for (; size != 0; size--, p++) {
        unsigned i = p % 8;
        if (s == NULL || i == 0)
            s = shadow_of(p - i);
        int other = races_with(s, i, write);
        if (other >= 0)
            model_fail("thread %d %s %p, unordered with what thread %d did there: a data race", machine_thread,
                       write ? "writes" : "reads", (void *)p, other);
        if (write) {
            s->written[i] = clock;
            s->writer[i] = (int8_t)machine_thread;
        } else {
            s->read[i][machine_thread] = clock;
        }
    }
}

/* An atomic access races with a plain write that its thread does not know, such as that of the word's first value. */
void plain_atomic(uintptr_t p, size_t size)
{
    mapping_check(p);
    const struct shadow *s = shadow_of(p - p % 8);
    for (unsigned i = p % 8; size != 0; size--, i++)
        if (s->written[i] > memory_clocks()[s->writer[i]])
            model_fail("thread %d touches %p, unordered with what thread %d wrote there plainly: a data race",
                       machine_thread, (void *)p, s->writer[i]);
}

void plain_begin(void)
{
    mapping_count = 0;
    run_number++;
}
