/*
 * Magazines: what a thread keeps of a pool's free objects, newest last. The idea is Bonwick's and
 * Adams' (Magazines and Vmem, USENIX 2001); the exchange with the depot is by halves, so that a
 * thread which gets and puts around a full or an empty magazine does not go there each time.
 *
 *   get   pops the newest; from an empty magazine, takes a batch from the depot first
 *   put   pushes; into a full magazine, sends the older half to the depot first
 *
 * A thread finds its magazine of a pool at the pool's slot in a table of its own, the beginning of
 * which is thread-local itself: hit paths (in ashlar/pool.h: they are compiled into programs) are
 * bound by the loads that wait for one another, and one less is a third of their time. `ash_fast`
 * of a pool whose objects must be looked at at each call is 0, the place of no pool.
 *
 * When a thread ends, its magazines are LEFT with what they hold, by one store each: the next
 * thread takes one over as it is, or whoever finds the depot empty sends the objects there. When a
 * pool goes, magazines of threads that are still there are emptied and DEAD; their threads put them
 * away when they next meet them. So neither waits for the other.
 *
 * In a forked child, magazines of threads that are not there stay as they are: what they hold is
 * not handed out again, and counts as cached. Objects that such a thread was just moving count as
 * out: a magazine counts as empty while some of its objects go to the depot. So whenever a child is
 * forked no object is in two places, where the end of the pool would destruct it twice.
 */
#ifndef ASH_MAGAZINE_H
#define ASH_MAGAZINE_H

#include "pool/pool.h"

/* The thread's table, which the inline functions use: see ashlar/pool.h. */
extern ASH_API ASH_TLS struct ash_pool_thread ash_pool_caches;

/* The magazine of which `cache` is the beginning. */
ASH_INLINE struct magazine *magazine_of(struct ash_pool_cache *cache)
{
    return (struct magazine *)cache;
}

/* The calling thread's; its pool's `direct` where it can have none. */
struct magazine *magazine_self(struct ash_pool *pool);

/* A magazine for up to `capacity` objects that belongs to no thread; NULL: no memory. */
struct magazine *magazine_create(struct ash_pool *pool, uint32_t capacity);

/* It is given up by its owner: left for others, or put away when its pool is gone. */
void magazine_leave(struct magazine *m);

/* Takes it away from a pool that is going: whoever owns it still puts it away. */
void magazine_kill(struct magazine *m);

/* An object; NULL, and *error says why. */
void *magazine_get(struct magazine *m, int *error);
void magazine_put(struct magazine *m, void *obj);

/* All of `n` objects or none: 0 or an errno. */
int magazine_get_bulk(struct magazine *m, void **objs, uint32_t n);
void magazine_put_bulk(struct magazine *m, void *const *objs, uint32_t n);

/* Sends all of its objects to the depot. */
void magazine_flush(struct magazine *m);

/* Clears the places above the objects, so that memcheck finds no stale pointers there. */
void magazine_forget(struct magazine *m);

/* Has the ends of threads noticed. */
void magazine_boot(void);

#endif
