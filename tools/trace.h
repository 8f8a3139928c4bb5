/*
 * Allocation traces: what `ashlar record` writes, and what reads it.
 *
 * A file is a row of chunks of TRACE_CHUNK bytes, the last one perhaps shorter. Each begins with a
 * struct trace_chunk; in front of the first one's stands the struct trace_header. Numbers are
 * little-endian. The rules:
 *   1. A chunk holds sections, and a section events of one thread. It says whose they are, which of
 *      the thread's sections it is (0, 1, 2, ...), and the index of the next object.
 *   2. An object is the n-th block that a thread got, from malloc, its relatives or realloc: no
 *      address is written. A block of the same thread is named by how many came after it, one of
 *      another thread by both numbers. So what depends on another thread is seen in the event.
 *   3. An event is a byte, whose low three bits are the operation, and up to three numbers of 7
 *      bits a byte, the lowest first, the high bit of a byte saying that another one follows. Of
 *      the first number the four lowest bits are in the first byte (bits 3 to 6, bit 7: more).
 *   4. Order: a section begins with a mark, each thread ends with one, and every TRACE_STRIDE
 *      events there is another. Marks are numbered through the whole process as they happened, and
 *      bear the time. Between two marks of a thread the order towards the others is known by
 *      rule 2 alone.
 *   5. A chunk is sealed when it is full: its length and checksum are written then. One whose
 *      process died is open: zero bytes follow its last event, of which the first byte is written
 *      last. Both are valid.
 *   6. Failed calls and free(NULL) are not there. realloc is one event: an object ends and the next
 *      one begins. A process that is forked writes a file of its own; what it frees of its parent's
 *      is not there. Its threads' numbers continue the parent's.
 *
 * Typical events have 1 (a free) or 2 bytes (a malloc). A number for every event instead of marks
 * would cost a contended word at each call; addresses would need 3 to 6 bytes and a search.
 */
#ifndef ASHLAR_TOOLS_TRACE_H
#define ASHLAR_TOOLS_TRACE_H

#include "base/hash.h"

#define TRACE_MAGIC       "ashtrace"
#define TRACE_CHUNK_MAGIC 0x6B6E6863u         /* "chnk" */
#define TRACE_OBJECTS     ((uint64_t)1 << 40) /* of a thread, at most */

enum {
    TRACE_VERSION = 1,
    TRACE_CHUNK = 1 << 16,
    TRACE_STRIDE = 512,  /* events of a thread from mark to mark, at most */
    TRACE_EVENT_MAX = 32 /* bytes of the longest event, rounded up */
};

enum trace_op {
    TRACE_OTHER,         /* the "first number" is an enum trace_other; the byte 0 is the end */
    TRACE_MALLOC,        /* bytes */
    TRACE_CALLOC,        /* bytes in all */
    TRACE_ALIGNED,       /* bytes, logarithm of the alignment */
    TRACE_FREE,          /* objects that came after it */
    TRACE_REALLOC,       /* objects that came after it, bytes */
    TRACE_FREE_REMOTE,   /* thread, index */
    TRACE_REALLOC_REMOTE /* thread, index, bytes */
};

enum trace_other {
    TRACE_END,
    TRACE_MARK,   /* number, ns since the beginning */
    TRACE_SECTION /* thread, number of the section, index of the next object */
};

struct trace_header {
    char magic[8];
    uint32_t version;
    uint32_t chunk_bytes;
    uint64_t start_ns; /* time of day */
    uint32_t pid;
    uint32_t reserved;
    char program[24];  /* as the kernel names it */
    char command[192]; /* words separated by blanks, cut */
    uint64_t checksum; /* of everything before */
};

struct trace_chunk {
    uint32_t magic;
    uint32_t number;
    uint32_t bytes; /* of the events; 0: open */
    uint32_t reserved;
    uint64_t checksum; /* of the events, seeded with number and bytes */
};

_Static_assert(sizeof(struct trace_header) == 256 && sizeof(struct trace_chunk) == 24,
               "the format has no padding");

static inline uint64_t trace_header_checksum(const struct trace_header *h)
{
    return hash_bytes(h, offsetof(struct trace_header, checksum), TRACE_VERSION);
}

static inline uint64_t trace_chunk_checksum(const struct trace_chunk *c, const void *events)
{
    return hash_bytes(events, c->bytes, (uint64_t)c->number << 32 | c->bytes);
}

/* ---- writing ---- */

static inline unsigned char *trace_put_number(unsigned char *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *p++ = (unsigned char)(v | 0x80);
    *p++ = (unsigned char)v;
    return p;
}

/*
 * The event at `p`; gives back its end. `count` of a, b and c are written. The first byte comes
 * last: who reads after a crash finds the whole event or the end.
 */
static inline unsigned char *trace_put(unsigned char *p, enum trace_op op, int count, uint64_t a,
                                       uint64_t b, uint64_t c)
{
    unsigned char *first = p++;
    if (a >> 4 != 0)
        p = trace_put_number(p, a >> 4);
    if (count > 1)
        p = trace_put_number(p, b);
    if (count > 2)
        p = trace_put_number(p, c);
    __asm__ volatile("" ::: "memory");
    *first = (unsigned char)((unsigned)op | (a & 15) << 3 | (a >> 4 != 0 ? 0x80u : 0));
    return p;
}

/* Marks and sections, whose kind stands in the first byte; `b` and `c` follow, then `d`. */
static inline unsigned char *trace_put_other(unsigned char *p, enum trace_other kind, int count,
                                             uint64_t b, uint64_t c, uint64_t d)
{
    unsigned char *first = p++;
    p = trace_put_number(trace_put_number(p, b), c);
    if (count > 2)
        p = trace_put_number(p, d);
    __asm__ volatile("" ::: "memory");
    *first = (unsigned char)((unsigned)kind << 3);
    return p;
}

/* ---- reading ---- */

/* Of a remote object `thread` and `object` name it, of all others `object` does. */
struct trace_event {
    enum trace_op op;
    enum trace_other other; /* when `op` is TRACE_OTHER */
    unsigned align_log2;
    uint32_t thread;
    uint64_t object; /* the one that ends; of a section, the index of the next one */
    uint64_t made;   /* index of the one that begins */
    uint64_t size;
    uint64_t mark; /* number; of a section, the section's */
    uint64_t ns;
};

struct trace_section {
    const unsigned char *at, *end; /* its events, behind the one that names it */
    uint32_t thread;
    uint32_t number;
    uint64_t first; /* index of its first object */
    uint64_t made;  /* objects that begin in it */
};

struct trace_thread {
    uint32_t number;
    struct trace_section *sections; /* in order */
    size_t count;
    uint64_t objects; /* indices are below */
};

struct trace {
    const unsigned char *data;
    size_t size;
    bool mapped;
    struct trace_header header;
    struct trace_section *sections; /* by thread, then by number */
    size_t section_count, section_room;
    struct trace_thread *threads; /* by number */
    size_t thread_count;
    uint64_t events[TRACE_REALLOC_REMOTE + 1]; /* of each operation; of TRACE_OTHER, the marks */
    uint64_t marks;                            /* numbers of marks are below */
    uint64_t ns;                               /* of the last mark */
    size_t damaged;                            /* chunks that were left out */
    char damage[200]; /* the first thing that is wrong; "" when nothing is */
};

struct trace_cursor {
    const struct trace_section *section, *last;
    const unsigned char *at;
    uint64_t next; /* index of the object that begins next */
};

/*
 * Reads the file through once. False: nothing in it is of use. Where `damage` is not empty, the
 * rest is: it says what was left out, and where.
 */
bool trace_open(struct trace *t, const char *path);
/* The same for bytes in memory, which must stay. */
bool trace_read(struct trace *t, const void *data, size_t size);
void trace_close(struct trace *t);

/* Events of malloc and its family, and the blocks that they hand out. */
uint64_t trace_calls(const struct trace *t);
uint64_t trace_blocks(const struct trace *t);

/* The place of a thread in `threads`; thread_count: it has none. */
size_t trace_thread_find(const struct trace *t, uint32_t number);
/* Whether the object's beginning is in the trace, where pieces of it may be missing. */
bool trace_has(const struct trace_thread *thread, uint64_t object);

void trace_rewind(struct trace_cursor *c, const struct trace_thread *thread);
/* False at the end of the thread. */
bool trace_next(struct trace_cursor *c, struct trace_event *e);

#endif
