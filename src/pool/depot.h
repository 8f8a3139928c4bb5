/*
 * The depot of a pool: where threads exchange free objects, half a magazine at a time.
 *
 * Objects are known here by number (pool/store.h), four bytes each, and lie in batches of up to
 * `room`. Batches are on stacks:
 *
 *   DEPOT_FULL   free objects, constructed
 *   DEPOT_RAW    objects of preallocated memory that no constructor has seen yet
 *   DEPOT_SPARE  memory of objects that do not exist: taken away by a smaller capacity, or not
 *                constructed since the constructor failed
 *   DEPOT_BLANK  batches that hold nothing
 *
 * A stack's head is {tag : 32 | batch : 32}, a batch's number counted from 1; the tag counts pops,
 * so that a head which was popped and pushed again meanwhile is not taken for the old one. Batches
 * are never given back while the pool lives, so reading the link of one that was just popped reads
 * a link, and the compare-and-swap then fails. Whoever has popped a batch holds it alone.
 *
 * Order: a push releases what the holder wrote to the batch; the pop's load of the head acquires
 * it, also past pops by others, which continue the push's release sequence.
 *
 * Where one thread gets and another puts, what a batch costs is the lines that go from one to the
 * other, one after the other: so the heads share one, and whoever pops a batch fetches all of its
 * lines together (11.0 to 9.3 ns an object, of which 4 to 6 are the hand-over of the objects).
 *
 * Numbers instead of links through the objects: a free object's content is its user's (constructed
 * state is kept). Numbers instead of pointers: with 100,000 objects of 64 bytes put back, pointers
 * would cost 12.5 % of their memory, these 6.6 %.
 *
 * Putting an object back must not fail. So batches are made along with the objects they may have to
 * hold: room in all batches >= objects that have a number + a batch for each thread (depot_ensure).
 * When no blank one can be had, there is room in one of those on the stack.
 */
#ifndef ASH_DEPOT_H
#define ASH_DEPOT_H

#include "pool/table.h"

enum depot_stack { DEPOT_FULL, DEPOT_BLANK, DEPOT_RAW, DEPOT_SPARE, DEPOT_STACKS };

struct batch {
    _Atomic(uint32_t) link; /* atomic: the batch below on its stack; 0 for none */
    uint32_t count;         /* holder: numbers in `object` */
    uint32_t object[];      /* holder */
};

struct depot {
    uint32_t room;                 /* const: numbers in a batch at most */
    uint32_t bytes;                /* const: of a batch */
    uint32_t per_block;            /* const: batches that are made together */
    uint32_t shift;                /* const: a batch's number is block << shift | index, + 1 */
    bool single;                   /* const: one thread uses all of it, no locked instructions */
    struct table blocks;           /* atomic: entries are filled once */
    _Atomic(uint32_t) top;         /* atomic: numbers of blocks given out */
    _Atomic(uint32_t) blocks_made; /* atomic: those that there was memory for */
    ASH_LINE_ALIGNED _Atomic(uint64_t) stack[DEPOT_STACKS]; /* atomic: see above */
};

/* `d` is all zero, or was ended; `room` is at least 1. */
void depot_init(struct depot *d, unsigned room, bool single);

/* Nobody else uses the depot. */
void depot_fini(struct depot *d);

/* Makes batches until they hold `objects` objects; false: no memory. */
bool depot_ensure(struct depot *d, uint64_t objects);

struct batch *depot_batch(const struct depot *d, uint32_t b);

/* The batch on top, now the caller's; 0 when the stack is empty. */
uint32_t depot_pop(struct depot *d, enum depot_stack which);

void depot_push(struct depot *d, enum depot_stack which, uint32_t b);

/* A blank batch, with count 0; 0: no memory. */
uint32_t depot_blank(struct depot *d);

/* Takes a number out of a batch that the caller holds, which is not empty. */
ASH_INLINE uint32_t batch_take(struct batch *batch)
{
    return batch->object[--batch->count];
}

/* Puts a batch that the caller holds where it belongs: empty ones to the blank. */
void depot_return(struct depot *d, enum depot_stack which, uint32_t b);

/* Puts a number on top, in the batch that is there if it has room. Never fails. */
void depot_put(struct depot *d, enum depot_stack which, uint32_t object);

/* The first batch of a stack and the one below, for walks while nobody else uses the depot. */
uint32_t depot_first(const struct depot *d, enum depot_stack which);

uint32_t depot_below(const struct depot *d, uint32_t b);

#endif
