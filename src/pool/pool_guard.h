/*
 * What finds misuse of objects: the cookies of debug pools, and what memcheck and AddressSanitizer
 * are told of other pools.
 *
 * An object of a debug pool lies between a head and a tail:
 *
 *   head   who it is and whether it is out, and what it held when it was put
 *   tail   bytes of one value up to the next object, at least 16
 *
 * A put that does not find the head of an object that is out, is a second put, or follows a write
 * in front of the object; a tail that differs, one behind it. What a free object holds must not
 * change until it is got again: it is filled with one value where the pool has no constructor, and
 * else summed up, since its state is kept.
 *
 * Pools that are not for debugging are known to memcheck as memory pools when the program runs
 * under valgrind, if its header was there at build time; AddressSanitizer, where built with it,
 * has their free objects poisoned. So a use after put is reported with its stack, and memcheck
 * counts objects that nobody refers to as leaks.
 */
#ifndef ASH_POOL_GUARD_H
#define ASH_POOL_GUARD_H

#include "base/atomic.h"
#include "pool/store.h"

/* The store of a debug pool is to have so many bytes before and behind each object. */
enum { GUARD_BEFORE = 16, GUARD_BEHIND = 16 };

enum guard_state { GUARD_FREE, GUARD_OUT, GUARD_BROKEN };

/* ---- debug pools ---- */

/* A new object, free; `keeps`: its content is its user's also while it is free. */
void guard_init(const struct store *s, void *obj, bool keeps);

/*
 * Sets what it is and returns what it was. BROKEN is a head that was written over. Of two threads
 * that do so at once, one comes second.
 */
enum guard_state guard_mark(void *obj, enum guard_state state);

/* Fills or sums up an object that has come back. */
void guard_seal(const struct store *s, void *obj, bool keeps);

enum guard_state guard_state(const void *obj);

#define GUARD_INTACT (~(size_t)0)

/* The first byte behind the object that was written, counted from its beginning. */
size_t guard_overrun(const struct store *s, const void *obj);

/* The first byte of a free object that was written, 0 where it is not known which. */
size_t guard_written(const struct store *s, const void *obj, bool keeps);

/* ---- tools ---- */

/* Whether a tool wants to know about objects. */
bool guard_has_tool(void);

/* The pool comes and goes. */
void guard_tool_create(const void *pool);
void guard_tool_destroy(const void *pool);

/* A chunk is about to leave the pool. */
void guard_tool_leave(const struct store *s, const struct store_chunk *c);

/* The object goes out, its content `defined` or not; or comes back. */
void guard_tool_out(const void *pool, void *obj, size_t size, bool defined);
void guard_tool_back(const void *pool, void *obj, size_t size);

/* A callback of the pool may use a free object: until guard_tool_shut. */
void guard_tool_open(void *obj, size_t size, bool defined);
void guard_tool_shut(void *obj, size_t size);

#endif
