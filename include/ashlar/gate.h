/*
 * Gates: a bound on what is under way.
 *
 *     struct ash_gate *gate = ash_gate_create("requests", ASH_GATE_CONFIG(.limit = 1000));
 *     if (ash_gate_enter(gate, 1, 0) != 0)
 *         return busy(client);
 *     serve(client);
 *     ash_gate_leave(gate, 1);
 *
 * Units enter and leave, and there are never more than `limit` inside. Past `high` a gate tells the
 * program once, which may slow down those who ask; and again once when it is down at `low`.
 *
 * Functions that return int give 0 or a negative errno, -EINVAL for an argument that is none.
 *
 * Threads: every function may be called by any thread at any time, but no other while a gate is
 * being destroyed. Who waits is not served in order.
 *
 * Caveats
 *   Waiters for many units may wait long while others come and go. A forked child has a copy, with
 *   the units inside that were: they stay, as a program's own counters would, until the child has
 *   them leave.
 */
#ifndef ASHLAR_GATE_H
#define ASHLAR_GATE_H

#include <ashlar/config.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_gate;

struct ash_gate_config {
    size_t struct_size;
    uint64_t limit; /* 1 to 2^32 - 1 */
    uint64_t high;  /* tell when so many are inside; 0 for `limit` */
    uint64_t low;   /* tell when so few are; below `high`; 0 for none at all */
    /*
     * Called by the thread whose enter or leave it was; may use the gate. `is_high` takes turns
     * beginning with 1; of two threads the calls may overlap. NULL: nobody is told.
     */
    void (*mark)(struct ash_gate *gate, int is_high, void *user);
    void *user;
};

#define ASH_GATE_CONFIG(...) ASH_CONFIG(struct ash_gate_config, __VA_ARGS__)

/* A gate; `name` as that of an executor, NULL for "gate". NULL and EINVAL or ENOMEM. */
struct ash_gate *ash_gate_create(const char *name, const struct ash_gate_config *config);

/* 0; -EBUSY while units are inside or threads wait, and nothing happens then. NULL is fine. */
int ash_gate_destroy(struct ash_gate *gate);

/*
 * Lets `n` units in, all or none, waiting for room `timeout_ns` nanoseconds at most: negative for
 * ever, 0 not at all. 0; -EAGAIN, when it does not wait; -ETIMEDOUT; -ECANCELED when the gate is
 * closed; -EINVAL for no units or more than the limit. Those that wait are not served in order.
 * Cost: one locked instruction, and a system call to wait.
 */
int ash_gate_enter(struct ash_gate *gate, uint64_t n, int64_t timeout_ns);

/*
 * `n` units leave. More than are inside is reported (`ashlar: gate NAME: 3 leave, 2 are inside`),
 * and aborts.
 */
void ash_gate_leave(struct ash_gate *gate, uint64_t n);

/* Lets nothing in any more, and tells those who wait. What is inside leaves as usual. */
void ash_gate_close(struct ash_gate *gate);

struct ash_gate_stats {
    uint64_t limit;
    uint64_t inside;   /* units */
    uint64_t most;     /* that there ever were */
    uint64_t entered;  /* units */
    uint64_t refused;  /* calls answered -EAGAIN */
    uint64_t waited;   /* calls that slept */
    uint64_t timeouts; /* calls answered -ETIMEDOUT */
    uint64_t highs;    /* times that `high` was reached */
};

int ash_gate_stats(const struct ash_gate *gate, struct ash_gate_stats *out);
int ash_gate_dump(const struct ash_gate *gate, int fd);

#ifdef __cplusplus
}
#endif

#endif
