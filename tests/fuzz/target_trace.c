/*
 * Traces of allocations: calls of up to three threads, written as the recorder does, in chunks that are sealed or open,
 * and walked again: the same calls in the same order, each block's end with its size and birth. Then bytes are changed,
 * or the end is cut off: what is left is read without harm, and sealed chunks notice.
 */
#include "fuzz.h"

#include "../../tools/trace.h"
#include "../../tools/trace_walk.h"

#include <stdlib.h>
#include <string.h>

enum { THREADS = 3, CHUNKS = 3, STEPS = 2000, OBJECTS = 1000, FIRST_THREAD = 7 };

struct object {
    unsigned thread;
    uint64_t index, size, birth;
};

static struct file {
    unsigned char bytes[CHUNKS * TRACE_CHUNK];
    unsigned chunks;
    unsigned char *ends[CHUNKS];
    bool sealed[CHUNKS];
    unsigned char *at, *limit;
    uint64_t marks;
    unsigned thread; /* whose section it is; THREADS: nobody's */
    struct {
        uint64_t next;
        uint32_t sections;
    } threads[THREADS];
} file;

static struct {
    enum trace_op op;
    unsigned thread, align_log2;
    uint64_t size;
    struct object ended;
} steps[STEPS];
static unsigned step_count;
static struct object live[OBJECTS];
static unsigned live_count;
static uint64_t births;

/* ---- writing ---- */

static struct trace_chunk *chunk_head(unsigned number)
{
    size_t at = (size_t)number * TRACE_CHUNK + (number == 0 ? sizeof(struct trace_header) : 0);
    return (struct trace_chunk *)(void *)(file.bytes + at);
}

static void chunk_end(bool seal)
{
    struct trace_chunk *c = chunk_head(file.chunks - 1);
    file.ends[file.chunks - 1] = file.at;
    file.sealed[file.chunks - 1] = seal && file.at != (unsigned char *)(c + 1);
    if (!seal)
        return;
    c->bytes = (uint32_t)(file.at - (unsigned char *)(c + 1));
    c->checksum = trace_chunk_checksum(c, c + 1);
}

static void chunk_begin(void)
{
    struct trace_chunk *c = chunk_head(file.chunks);
    *c = (struct trace_chunk){.magic = TRACE_CHUNK_MAGIC, .number = file.chunks++};
    file.at = (unsigned char *)(c + 1);
    file.limit = file.bytes + (size_t)file.chunks * TRACE_CHUNK - 4 * TRACE_EVENT_MAX;
    file.thread = THREADS;
}

static void file_begin(void)
{
    struct trace_header h = {.version = TRACE_VERSION, .chunk_bytes = TRACE_CHUNK, .command = "fuzz"};
    memset(&file, 0, sizeof file);
    memcpy(h.magic, TRACE_MAGIC, sizeof h.magic);
    h.checksum = trace_header_checksum(&h);
    memcpy(file.bytes, &h, sizeof h);
    chunk_begin();
}

static void mark(void)
{
    file.at = trace_put_other(file.at, TRACE_MARK, 2, file.marks, file.marks * 1000, 0);
    file.marks++;
}

/* The thread goes on, in a section of its own. */
static void turn_to(unsigned thread)
{
    if (file.thread == thread)
        return;
    file.thread = thread;
    file.at = trace_put_other(file.at, TRACE_SECTION, 3, FIRST_THREAD + thread, file.threads[thread].sections++,
                              file.threads[thread].next);
    mark();
}

static void put(unsigned thread, enum trace_op op, uint64_t size, unsigned align_log2, const struct object *o)
{
    uint64_t next = file.threads[thread].next;
    if (o == NULL) {
        file.at = trace_put(file.at, op, op == TRACE_ALIGNED ? 2 : 1, size, align_log2, 0);
    } else if (o->thread == thread) {
        file.at = trace_put(file.at, op, op == TRACE_REALLOC ? 2 : 1, next - 1 - o->index, size, 0);
    } else {
        op = op == TRACE_REALLOC ? TRACE_REALLOC_REMOTE : TRACE_FREE_REMOTE;
        file.at = trace_put(file.at, op, op == TRACE_REALLOC_REMOTE ? 3 : 2, FIRST_THREAD + o->thread, o->index, size);
    }
    steps[step_count].op = op;
    steps[step_count].thread = thread;
    steps[step_count].size = size;
    steps[step_count].align_log2 = align_log2;
    steps[step_count++].ended = o != NULL ? *o : (struct object){.birth = 0};
}

/* One call of the thread. */
static void call(struct input *in, unsigned thread)
{
    unsigned how = (unsigned)take(in, 1);
    bool birth = live_count == 0 || (how % 4 != 0 && live_count < OBJECTS);
    struct object ended, *o = NULL;
    enum trace_op op = TRACE_FREE;
    uint64_t size = 0;
    if (birth) {
        size = take_number(in) % ((uint64_t)1 << 47);
        op = how % 16 == 1 ? TRACE_ALIGNED : how % 16 == 2 ? TRACE_CALLOC : TRACE_MALLOC;
    }
    if (!birth || (how % 16 == 3 && live_count != 0)) {
        op = birth ? TRACE_REALLOC : TRACE_FREE;
        unsigned place = take_below(in, live_count);
        ended = live[place];
        o = &ended;
        live[place] = live[--live_count];
    }
    put(thread, op, size, op == TRACE_ALIGNED ? how / 16 : 0, o);
    if (birth)
        live[live_count++] = (struct object){thread, file.threads[thread].next++, size, ++births};
}

/* ---- reading ---- */

static void compare_step(const struct walk_step *s, unsigned i)
{
    const struct trace_event *e = &s->event;
    CHECK(e->op == steps[i].op && e->size == steps[i].size && e->align_log2 == steps[i].align_log2 &&
              s->thread->trace->number == FIRST_THREAD + steps[i].thread,
          "call %u is operation %d of %llu bytes by thread %u", i, e->op, (unsigned long long)e->size,
          s->thread->trace->number);
    CHECK(s->ended.birth == steps[i].ended.birth && s->ended.size == steps[i].ended.size,
          "call %u ends the block born at %llu, of %llu bytes", i, (unsigned long long)s->ended.birth,
          (unsigned long long)s->ended.size);
}

static void read_whole(void)
{
    struct trace t;
    struct walk w;
    struct walk_step s;
    unsigned n = 0;
    bool any = trace_read(&t, file.bytes, (size_t)file.chunks * TRACE_CHUNK);
    CHECK(any == (file.marks != 0) && (t.damage[0] == '\0' || !any), "damage: %s", t.damage);
    if (any) {
        CHECK(trace_calls(&t) == step_count && trace_blocks(&t) == births, "%llu calls", (unsigned long long)trace_calls(&t));
        CHECK(walk_begin(&w, &t), "out of memory");
        while (walk_next(&w, &s)) {
            CHECK(n < step_count, "more calls than there were");
            compare_step(&s, n++);
        }
        CHECK(n == step_count && w.contradictions == 0, "%u calls of %u", n, step_count);
        walk_end(&w);
    }
    trace_close(&t);
}

static void read_damaged(size_t size, bool guarded)
{
    struct trace t;
    struct walk w;
    struct walk_step s;
    uint64_t n = 0;
    bool any = trace_read(&t, file.bytes, size);
    CHECK(!guarded || t.damage[0] != '\0', "a changed byte was not noticed");
    CHECK(any || t.damage[0] != '\0', "refused without a reason");
    if (any && walk_begin(&w, &t)) {
        while (walk_next(&w, &s))
            n++;
        CHECK(n + w.contradictions >= trace_calls(&t) && n <= trace_calls(&t), "%llu calls of %llu", (unsigned long long)n,
              (unsigned long long)trace_calls(&t));
        walk_end(&w);
    }
    trace_close(&t);
}

/* ---- the whole ---- */

static void damage(struct input *in)
{
    size_t used = (size_t)(file.at - file.bytes);
    for (unsigned i = 0; i < 8; i++) {
        unsigned chunk = take_below(in, file.chunks);
        unsigned char *begin = file.bytes + (size_t)chunk * TRACE_CHUNK;
        unsigned char *c = begin + (size_t)take(in, 2) % (size_t)(file.ends[chunk] - begin), before = *c;
        *c ^= (unsigned char)take(in, 1);
        fuzz_trace("byte %zu: %d instead of %d\n", (size_t)(c - file.bytes), *c, before);
        read_damaged((size_t)file.chunks * TRACE_CHUNK, *c != before && file.sealed[chunk]);
        *c = before;
    }
    size_t cut = (size_t)take(in, 3) % (used + 1);
    unsigned char *copy = malloc(cut + 1); /* so that memory checkers see its end */
    memcpy(copy, file.bytes, cut);
    struct trace t;
    trace_read(&t, copy, cut);
    trace_close(&t);
    free(copy);
}

void fuzz_traces(struct input *in)
{
    step_count = live_count = 0;
    births = 0;
    file_begin();
    unsigned count = take_below(in, STEPS / 2);
    while (step_count < count && input_left(in)) {
        unsigned how = (unsigned)take(in, 1);
        if (how >= 254 && file.chunks < CHUNKS) { /* sometimes the one before stays open */
            chunk_end(how == 254);
            chunk_begin();
        }
        if (file.at >= file.limit)
            break;
        turn_to(how % THREADS);
        if (how % 16 == 15)
            mark();
        call(in, how % THREADS);
    }
    chunk_end(take(in, 1) % 2 != 0);
    read_whole();
    damage(in);
}
