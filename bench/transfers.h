/*
 * Transfers between accounts, run in several ways: what bench_txn measures of the parts that have
 * no public header. In C, since those headers are.
 */
#ifndef ASH_BENCH_TRANSFERS_H
#define ASH_BENCH_TRANSFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { TRANSFERS = 16384 };

struct transfers;

/* `accounts` accounts, two of them in each transfer, whose body takes about `body_ns`. */
struct transfers *transfers_create(unsigned accounts, unsigned body_ns, unsigned workers);
void transfers_destroy(struct transfers *t);

/* All of them, one after the other, by a loop. */
void transfers_loop(struct transfers *t);

/* Those of one of `threads` threads, with a lock for each account, or for many. */
void transfers_striped(struct transfers *t, unsigned thread, unsigned threads);

/* Through the dispatcher: 0 one by one, 1 in parallel, 2 as it decides. */
void transfers_dispatch(struct transfers *t, int way);

/* What the dispatcher did in parallel, in per cent. */
double transfers_parallel(const struct transfers *t);

/* A sum over the accounts that tells one order from another. */
uint64_t transfers_sum(const struct transfers *t);

/*
 * The same transfers as transactions with all that belongs to one, each order in `memory`; malloc
 * and free are those of libc.
 */
enum transfers_memory { MEMORY_NONE, MEMORY_ARENA, MEMORY_MALLOC };
void transfers_whole(struct transfers *t, enum transfers_memory memory);

/* As transactions that are written by hand (handtxn.h), with malloc and free of libc. */
void transfers_by_hand(struct transfers *t, bool queues);

/* Tasks pushed and taken by the deque's owner, `n` at a time; how many. */
uint64_t tasks_push_take(unsigned n);

/* Transactions of `keys` keys are given places and released, `window` of them at a time. */
struct places;
struct places *places_create(unsigned keys, unsigned of_keys);
void places_run(struct places *p, unsigned window);
void places_destroy(struct places *p);

#ifdef __cplusplus
}
#endif

#endif
