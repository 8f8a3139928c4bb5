/*
 * Reads traces. Every event is decoded once when the file is opened, with every bound checked; what
 * passed is then decoded without checks that could fail. A chunk that does not fit its checksum or
 * does not parse is left out as a whole, and the others are used.
 */
#include "trace.h"

#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_LIMIT ((uint64_t)1 << 47)

/* ---- decoding ---- */

/* NULL when it does not end in time or has too many bits. */
static const unsigned char *get_number(const unsigned char *p, const unsigned char *end,
                                       uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; p < end && shift < 63; shift += 7) {
        *v |= (uint64_t)(*p & 0x7F) << shift;
        if ((*p++ & 0x80) == 0)
            return p;
    }
    return NULL;
}

/* Checks the numbers of an event and gives them their names. */
static bool name_numbers(struct trace_event *e, const uint64_t v[4])
{
    switch (e->op) {
    case TRACE_OTHER:
        e->other = (enum trace_other)v[0];
        e->mark = v[e->other == TRACE_MARK ? 1 : 2];
        e->ns = e->other == TRACE_MARK ? v[2] : 0;
        e->thread = e->other == TRACE_SECTION ? (uint32_t)v[1] : 0;
        e->object = v[3];
        return v[0] == TRACE_MARK || (v[0] == TRACE_SECTION && v[1] - 1 < UINT32_MAX);
    case TRACE_MALLOC:
    case TRACE_CALLOC:
    case TRACE_ALIGNED:
        e->size = v[0];
        e->align_log2 = (unsigned)v[1];
        return v[0] < SIZE_LIMIT && v[1] < 47;
    case TRACE_FREE:
    case TRACE_REALLOC:
        e->object = e->made - 1 - v[0];
        e->size = v[1];
        return v[0] < e->made && v[1] < SIZE_LIMIT;
    case TRACE_FREE_REMOTE:
    case TRACE_REALLOC_REMOTE:
        e->thread = (uint32_t)v[0];
        e->object = v[1];
        e->size = v[2];
        return v[0] - 1 < UINT32_MAX && v[2] < SIZE_LIMIT;
    }
    return false;
}

/* The event at `p`, which is not the end; NULL when it is none. `next` is the next object. */
static const unsigned char *decode(const unsigned char *p, const unsigned char *end, uint64_t next,
                                   struct trace_event *e)
{
    static const signed char numbers[] = {0, 1, 1, 2, 1, 2, 2, 3};
    unsigned first = *p++;
    uint64_t v[4] = {first >> 3 & 15, 0, 0, 0};
    if ((first & 0x80) != 0) {
        uint64_t rest;
        p = get_number(p, end, &rest);
        if (p == NULL || rest >> 59 != 0)
            return NULL;
        v[0] |= rest << 4;
    }
    *e = (struct trace_event){.op = (enum trace_op)(first & 7), .made = next};
    int count = numbers[e->op];
    if (e->op == TRACE_OTHER)
        count = v[0] == TRACE_SECTION ? 4 : 3;
    for (int i = 1; i < count && p != NULL; i++)
        p = get_number(p, end, &v[i]);
    return p != NULL && name_numbers(e, v) ? p : NULL;
}

static bool makes_object(enum trace_op op)
{
    return op != TRACE_OTHER && op != TRACE_FREE && op != TRACE_FREE_REMOTE;
}

bool trace_next(struct trace_cursor *c, struct trace_event *e)
{
    while (c->section != NULL && c->at == c->section->end) {
        c->section = c->section == c->last ? NULL : c->section + 1;
        if (c->section != NULL) {
            c->at = c->section->at;
            c->next = c->section->first;
        }
    }
    if (c->section == NULL)
        return false;
    c->at = decode(c->at, c->section->end, c->next, e);
    c->next += makes_object(e->op);
    return true;
}

void trace_rewind(struct trace_cursor *c, const struct trace_thread *thread)
{
    *c = (struct trace_cursor){.section = thread->sections,
                               .last = thread->sections + thread->count - 1,
                               .at = thread->sections->at,
                               .next = thread->sections->first};
}

/* ---- a chunk ---- */

/* What a chunk adds to its trace; nothing before all of it was found right. */
struct contents {
    uint64_t events[ASH_COUNT(((struct trace *)0)->events)];
    uint64_t marks, ns;
};

/* Says what is wrong, if nothing was before; always false. */
__attribute__((format(printf, 2, 3))) static bool wrong(struct trace *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (t->damage[0] == '\0')
        vsnprintf(t->damage, sizeof t->damage, format, args);
    va_end(args);
    return false;
}

static struct trace_section *section_add(struct trace *t)
{
    if (t->section_count == t->section_room) {
        size_t room = t->section_room == 0 ? 64 : 2 * t->section_room;
        struct trace_section *more = realloc(t->sections, room * sizeof *more);
        if (more == NULL)
            return NULL;
        t->sections = more;
        t->section_room = room;
    }
    return &t->sections[t->section_count++];
}

/* Takes the events in; false, with the place in *failed, at the first that is none. */
static bool chunk_parse(struct trace *t, struct contents *sums, const unsigned char *p,
                        const unsigned char *end, const unsigned char **failed)
{
    struct trace_section *section = NULL;
    struct trace_event e;
    uint64_t next = 0;
    bool mark_due = false; /* a section begins with one */
    while (p < end && *p != TRACE_END) {
        *failed = p;
        const unsigned char *after = decode(p, end, next, &e);
        bool other = after != NULL && e.op == TRACE_OTHER;
        bool begins = other && e.other == TRACE_SECTION;
        if (after == NULL || (section == NULL && !begins) || (mark_due && (!other || begins)))
            return false;
        mark_due = begins;
        if (section != NULL)
            *section = (struct trace_section){.at = section->at,
                                              .end = begins ? p : after,
                                              .thread = section->thread,
                                              .number = section->number,
                                              .first = section->first,
                                              .made = section->made + makes_object(e.op)};
        if (begins) {
            if ((section = section_add(t)) == NULL || e.mark > UINT32_MAX ||
                e.object >= TRACE_OBJECTS)
                return false;
            *section = (struct trace_section){.at = after,
                                              .end = after,
                                              .thread = e.thread,
                                              .number = (uint32_t)e.mark,
                                              .first = e.object};
            next = e.object;
        } else if (e.op == TRACE_OTHER) {
            sums->marks = e.mark + 1 > sums->marks ? e.mark + 1 : sums->marks;
            sums->ns = e.ns > sums->ns ? e.ns : sums->ns;
        }
        sums->events[e.op] += !begins;
        next += makes_object(e.op);
        p = after;
    }
    if (mark_due) /* it died between the two */
        t->section_count--;
    return true;
}

/* The chunk at `offset`; one that is wrong leaves nothing behind. */
static void chunk_read(struct trace *t, size_t offset)
{
    struct trace_chunk c;
    size_t start = offset + (offset == 0 ? sizeof t->header : 0);
    size_t number = offset / TRACE_CHUNK;
    size_t stop = size_min(offset + TRACE_CHUNK, t->size);
    const unsigned char *failed = t->data + start;
    size_t sections = t->section_count;
    struct contents sums = {.marks = 0};
    bool good = false;
    if (stop - start < sizeof c) {
        wrong(t, "offset %zu: the file ends in the head of chunk %zu", start, number);
        t->damaged++;
        return;
    }
    memcpy(&c, t->data + start, sizeof c);
    const unsigned char *events = t->data + start + sizeof c;
    size_t room = stop - start - sizeof c;
    if (c.magic == 0 && c.bytes == 0)
        return; /* was made, and nothing written to it */
    if (c.magic != TRACE_CHUNK_MAGIC || c.number != number || c.reserved != 0)
        wrong(t, "offset %zu: no chunk begins here", start);
    else if (c.bytes > room)
        wrong(t, "offset %zu: the file ends in chunk %zu, which has %u bytes", t->size, number,
              c.bytes);
    else if (c.bytes != 0 && c.checksum != trace_chunk_checksum(&c, events))
        wrong(t, "offset %zu: chunk %zu does not fit its checksum", start, number);
    else if (!chunk_parse(t, &sums, events, events + (c.bytes != 0 ? c.bytes : room), &failed))
        wrong(t, "offset %zu: no event begins here", (size_t)(failed - t->data));
    else
        good = true;
    if (!good) {
        t->section_count = sections;
        t->damaged++;
        return;
    }
    for (size_t i = 0; i < ASH_COUNT(sums.events); i++)
        t->events[i] += sums.events[i];
    t->marks = sums.marks > t->marks ? sums.marks : t->marks;
    t->ns = sums.ns > t->ns ? sums.ns : t->ns;
}

/* ---- the whole ---- */

static int section_order(const void *a, const void *b)
{
    const struct trace_section *x = a, *y = b;
    if (x->thread != y->thread)
        return x->thread < y->thread ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

/*
 * Groups the sections by thread. Objects of a thread go upward from section to section. What is
 * missing between two of them was in lost chunks; where those would be more than the file itself
 * has, the numbers are made up, and tables for them could need any amount of memory.
 */
static bool threads_build(struct trace *t)
{
    uint64_t lost = t->size + TRACE_CHUNK;
    struct trace_thread *thread = NULL;
    if (t->section_count == 0)
        return wrong(t, "offset 0: no event can be read");
    qsort(t->sections, t->section_count, sizeof *t->sections, section_order);
    t->threads = calloc(t->section_count + 1, sizeof *t->threads);
    if (t->threads == NULL)
        return wrong(t, "out of memory");
    for (size_t i = 0; i < t->section_count; i++) {
        struct trace_section *s = &t->sections[i];
        if (thread == NULL || thread->number != s->thread) {
            thread = &t->threads[t->thread_count++];
            *thread = (struct trace_thread){.number = s->thread, .sections = s};
        } else if (s->number == s[-1].number) {
            return wrong(t, "thread %u has two sections of number %u", s->thread, s->number);
        }
        if (s->first < thread->objects || s->first - thread->objects > lost)
            return wrong(t, "thread %u: objects do not continue at section %u", s->thread,
                         s->number);
        lost -= s->first - thread->objects;
        thread->objects = s->first + s->made;
        thread->count++;
    }
    return true;
}

static bool header_read(struct trace *t)
{
    if (t->size < sizeof t->header + sizeof(struct trace_chunk))
        return wrong(t, "offset 0: %zu bytes are too few for a trace", t->size);
    memcpy(&t->header, t->data, sizeof t->header);
    if (memcmp(t->header.magic, TRACE_MAGIC, sizeof t->header.magic) != 0)
        return wrong(t, "offset 0: this is no trace of `ashlar record`");
    if (t->header.version != TRACE_VERSION || t->header.chunk_bytes != TRACE_CHUNK)
        return wrong(t, "offset 8: version %u of the format; this program reads version %d",
                     t->header.version, TRACE_VERSION);
    if (t->header.checksum != trace_header_checksum(&t->header))
        wrong(t, "offset 0: the header does not fit its checksum");
    t->header.program[sizeof t->header.program - 1] = '\0';
    t->header.command[sizeof t->header.command - 1] = '\0';
    return true;
}

static bool read_all(struct trace *t)
{
    if (!header_read(t))
        return false;
    for (size_t offset = 0; offset < t->size; offset += TRACE_CHUNK)
        chunk_read(t, offset);
    return threads_build(t);
}

bool trace_read(struct trace *t, const void *data, size_t size)
{
    *t = (struct trace){.data = data, .size = size};
    return read_all(t);
}

bool trace_open(struct trace *t, const char *path)
{
    struct stat st;
    void *data = MAP_FAILED;
    *t = (struct trace){.size = 0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        wrong(t, "%s", strerror(errno));
    } else if (!S_ISREG(st.st_mode) || st.st_size == 0) {
        wrong(t, "not a file with anything in it");
    } else {
        data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            wrong(t, "%s", strerror(errno));
    }
    if (fd >= 0)
        close(fd);
    if (data == MAP_FAILED)
        return false;
    t->data = data;
    t->size = (size_t)st.st_size;
    t->mapped = true;
    return read_all(t);
}

void trace_close(struct trace *t)
{
    if (t->mapped)
        munmap((void *)(uintptr_t)t->data, t->size);
    free(t->sections);
    free(t->threads);
    *t = (struct trace){.size = 0};
}

uint64_t trace_calls(const struct trace *t)
{
    uint64_t sum = 0;
    for (int op = TRACE_MALLOC; op <= TRACE_REALLOC_REMOTE; op++)
        sum += t->events[op];
    return sum;
}

uint64_t trace_blocks(const struct trace *t)
{
    return trace_calls(t) - t->events[TRACE_FREE] - t->events[TRACE_FREE_REMOTE];
}

size_t trace_thread_find(const struct trace *t, uint32_t number)
{
    size_t low = 0, high = t->thread_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->threads[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < t->thread_count && t->threads[low].number == number ? low : t->thread_count;
}

bool trace_has(const struct trace_thread *thread, uint64_t object)
{
    size_t low = 0, high = thread->count; /* of the sections that begin at or before it, the last */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (thread->sections[middle].first <= object)
            low = middle;
        else
            high = middle;
    }
    const struct trace_section *s = &thread->sections[low];
    return object >= s->first && object - s->first < s->made;
}
