/*
 * Freeing a block of a slab that another heap owns, or that nobody owns. The one file with hard
 * memory orders.
 *
 * Each slab has one 64-bit word
 *      count : 16 | head : 16 | LISTED | ORPHAN
 * where head is the index + 1 of the first block of a list linked by block->next, and count its
 * length.
 *
 * Rules
 *  1. Freeing threads push a whole chain with one compare-and-swap, which also sets LISTED. Nothing
 *     else changes in the slab: a thread that dies between two instructions leaves the word right,
 *     and so does one that is not in a forked child, which has the memory of one instant (see
 *     heap/heap.c).
 *  2. Whoever turned LISTED on owes the slab a place on a list: the owner's inbox, or the orphan
 *     stack of its class when ORPHAN is set. Until a thread has taken the slab off that list,
 *     LISTED stays on.
 *  3. While LISTED is on, the slab is neither given back nor does its ownership change, except by
 *     the thread that took it off the list. So between its compare-and-swap and its push the
 *     freeing thread may use the slab's record and `owner` freely.
 *  4. Taking the slab off its list, and only that, clears LISTED, and takes the chain in the same
 *     exchange.
 *  5. To make an orphan, the owner first turns LISTED on itself, which needs it off and the chain
 *     empty; then clears `owner`; then sets ORPHAN. A slab with free blocks, or with a chain that
 *     came meanwhile, goes on the orphan stack; of a full one LISTED is turned off again, and it is
 *     put there by whoever frees its first block.
 *  6. Popping an orphan gives the sole right to it: the popper sets `owner`, then clears the word.
 *
 * Orders: a push releases the chain's links, taking acquires them. Becoming an orphan releases the
 * record's owner fields, adopting acquires them (through the stack's head).
 *
 * An orphan stack's head is {tag : 32 | unit + 1 : 32}; the tag counts pops, so a head that was
 * popped and pushed again meanwhile is not taken for the old one. Records are never given back, so
 * reading the link of a slab that was just popped reads a record, and the compare-and-swap then
 * fails.
 */
#ifndef ASH_REMOTE_H
#define ASH_REMOTE_H

#include "heap/heap.h"

/*
 * Frees a chain of blocks of one slab that the caller does not own. Any thread, with or without a
 * heap.
 */
void remote_push(struct slab *s, struct chain c);

/* Blocks of one slab that are gathered, to be freed at once; slab == NULL: none. */
struct group {
    struct slab *slab;
    struct chain chain;
};

/* Frees the blocks of a group for `h`, which may be no real heap, and empties it. */
void remote_send(struct heap *h, struct group *g);

/*
 * Unlists a slab that the caller has taken off a list, and takes its chain, which ends in NULL;
 * `tail` is not set.
 */
struct chain remote_take(struct slab *s);

/* Takes all slabs of the inbox: the first, to be followed with remote_next. NULL: empty. */
struct slab *remote_inbox(struct heap *h);

/* The slab behind `s` on a list that remote_inbox took; before `s` is unlisted. */
struct slab *remote_next(const struct slab *s);

/* Puts a slab that the caller took off a list, and did not unlist, in front of `next`. */
void remote_link(struct slab *s, const struct slab *next);

/* True when another thread is about to put the slab on a list, or has. */
bool remote_is_listed(const struct slab *s);

/* The slab becomes an orphan, its owner fields in order: false when it is listed. */
bool remote_orphan(struct slab *s);

/* An orphan of the class, now owned by `h`; remote_take is due. NULL: none. */
struct slab *remote_adopt(struct heap *h, unsigned cls);

/* Orphans pushed and not yet adopted, for statistics: of all classes. */
uint64_t remote_orphans(void);

#endif
