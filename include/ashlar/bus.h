/*
 * ashlar/bus.h: messages to handlers, by way of threads.
 *
 *     static void show(struct ash_msg *msg, const struct ash_match *match, void *user) { ... }
 *
 *     struct ash_bus *bus = ash_bus_create(ASH_BUS_CONFIG(.workers = 2));
 *     ash_bus_on(bus, "orders://items/{id}", show, NULL);
 *     struct ash_msg *m = ash_msg_new(pool, "orders://items/7", 16, body, 64);
 *     if (ash_bus_send(bus, m) != 0)
 *         ash_msg_free(m);
 *     ash_bus_drain(bus, -1);
 *     ash_bus_destroy(bus);
 *
 * A bus has subsystems, the words before :// in targets. Each has a bounded ring of its own and
 * patterns (ashlar/router.h) with handlers. Sending finds the subsystem and puts the message into
 * its ring, without waiting; workers take it out, find the pattern that fits, call the handler, and
 * free the message. Of an ordered subsystem, which is the default, one worker at a time takes
 * messages, so handlers see them in the order in which each thread sent them; of an unordered one
 * any number of workers do, each one message at a time.
 *
 * Workers are threads of the bus, or the program's own: those call ash_bus_poll.
 *
 * Ownership: a message that is taken is the bus'; the caller's reference went with it. One that is
 * refused is the caller's still. A handler may read and change the message while it runs; to keep
 * it longer it takes a reference (ash_msg_ref).
 *
 * Nothing is lost silently: a message that cannot be delivered becomes a dead letter. It is counted
 * and shown to a function of the program, with the reason, before it is freed. So at rest
 *
 *     sent = delivered + dead + pending
 *
 * holds exactly, for each subsystem and for the bus.
 *
 * Threads: every function may be called by any thread at any time, in handlers too, unless it says
 * otherwise; ash_bus_destroy when nobody uses the bus any more. What was written before a message
 * was sent is seen by its handler, and what handlers wrote is seen after ash_bus_drain, and by
 * those that the same ordered subsystem calls next. The functions of the configuration are called
 * without anything held, by whichever thread it was.
 *
 * A handler that blocks keeps its worker, and an ordered subsystem; other workers go on with all
 * others. A thread that ends in a handler (pthread_exit) is noticed: its message is a dead letter,
 * the subsystem goes on, and a thread of the bus is replaced.
 *
 * fork: the messages of the parent are handled in the parent. The child's copy of a bus is empty,
 * its figures begin at 0, and it starts its workers again at its first use. A handler that forks
 * goes on in both.
 *
 * Errors: NULL and errno, or a negative errno, -EINVAL for NULL. Times are in ns, negative for
 * ever, 0 not at all.
 *
 * Cost: nothing is allocated for a message. Sending one is a look into a table and three locked
 * instructions, however many are sent in a batch to one subsystem; a system call if all workers
 * sleep. Memory: a KiB for each subsystem and worker, 16 bytes for each place in a ring.
 *
 * Caveats
 *   A handler must return, or end its thread; it must not leave by longjmp or an exception. The
 *   functions of the configuration must return. A handler that waits for room in its own full
 *   subsystem, or for a reply that only its own worker could give, waits until it times out. A
 *   worker frees messages of an ordered subsystem up to 16 at a time, so some are freed a little
 *   after their handlers returned. A message is sent once at a time: whoever has further references
 *   to it waits for its handler before sending it again.
 */
#ifndef ASHLAR_BUS_H
#define ASHLAR_BUS_H

#include <ashlar/config.h>
#include <ashlar/router.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_bus;
struct ash_msg;

#define ASH_BUS_SUBSYSTEMS 64         /* of a bus, at most */
#define ASH_BUS_WORKERS    64         /* threads of a bus, at most; and likewise pollers */
#define ASH_BUS_CAPACITY   (1u << 24) /* messages in a ring, at most */

/* Why a message was not delivered. */
enum ash_bus_reason {
    ASH_BUS_NO_HANDLER, /* no pattern of its subsystem fits it */
    ASH_BUS_NO_MEMORY,  /* likewise, while there was no memory for the newest patterns */
    ASH_BUS_LOST,       /* its handler ended the thread */
    ASH_BUS_STOPPED,    /* the bus was stopped before its turn came */
    ASH_BUS_LATE        /* a reply that nobody waits for, or waits for any more */
};

struct ash_bus_config {
    size_t struct_size; /* of this struct: ASH_BUS_CONFIG sets it */
    const char *name;  /* 1 to 31 printable ASCII characters without quotes and backslashes; copied;
                           NULL for "bus" */
    unsigned workers;  /* threads of the bus; 0: the program's own threads poll */
    unsigned pollers;  /* threads that poll; 0 for 8 without workers, none with workers */
    unsigned capacity; /* messages in the ring of a subsystem that has no settings of its own,
                           rounded up to a power of two; 0 for 1024 */
    size_t max_body;   /* bytes in a body, at most; 0 for no bound */
    /* Each may be NULL. A dead letter, which is freed afterwards unless a reference is taken. */
    void (*dead)(struct ash_msg *msg, enum ash_bus_reason reason, void *user);
    /*
     * A subsystem has reached its `high` mark (is_high 1), or is down at `low` again (0). These
     * take turns, beginning with 1; of two threads the calls may overlap.
     */
    void (*mark)(struct ash_bus *bus, const char *subsystem, int is_high, void *user);
    void *user;         /* handed to both */
    size_t stack_bytes; /* of the threads; 0 for the system's default */
};

#define ASH_BUS_CONFIG(...) ASH_CONFIG(struct ash_bus_config, __VA_ARGS__)

/* A bus; NULL `config` for one that is polled. NULL with EINVAL, ENOMEM, or EAGAIN: no thread. */
struct ash_bus *ash_bus_create(const struct ash_bus_config *config);

/*
 * Stops the bus if that has not been done, as ash_bus_stop(bus, -1), and ends it. 0; -EDEADLK in a
 * handler of it. No other call may be under way.
 */
int ash_bus_destroy(struct ash_bus *bus);

/* ---- subsystems and handlers ---- */

enum {
    ASH_BUS_UNORDERED = 1 /* any number of workers handle its messages at the same time */
};

struct ash_bus_subsystem_config {
    size_t struct_size;
    unsigned capacity; /* messages in its ring, rounded up to a power of two; 0: as the bus says */
    unsigned flags;    /* ASH_BUS_UNORDERED */
    unsigned high;     /* tell when so many are in the ring; 0: no marks */
    unsigned low;      /* tell again when so few are; below `high` */
};

#define ASH_BUS_SUBSYSTEM_CONFIG(...) ASH_CONFIG(struct ash_bus_subsystem_config, __VA_ARGS__)

/*
 * Adds a subsystem with settings of its own; without this the first ash_bus_on does, with defaults.
 * `name` is copied: 1 to 31 printable ASCII characters without quotes, backslashes, : / ? and
 * braces. 0, -EINVAL, -EEXIST, -ENOSPC beyond ASH_BUS_SUBSYSTEMS, -ECANCELED after ash_bus_stop,
 * -ENOMEM.
 */
int ash_bus_subsystem(struct ash_bus *bus, const char *name,
                      const struct ash_bus_subsystem_config *config);

/*
 * Has `fn` called for messages whose target, without the query, fits `pattern`: subsystem:// and
 * what ash_router_add takes behind scheme://. `match` has the captures, `pattern` as a whole, and
 * `user` as its handler; it is valid during the call. Messages sent afterwards find it. 0; the
 * errors of ash_bus_subsystem, -EEXIST for a pattern that is there, and those of ash_router_add;
 * then nothing has changed. Handlers stay until the bus is destroyed.
 */
int ash_bus_on(struct ash_bus *bus, const char *pattern,
               void (*fn)(struct ash_msg *msg, const struct ash_match *match, void *user),
               void *user);

/* ---- sending ---- */

/*
 * Sends a message, without waiting. 0, and it is the bus'; otherwise it is the caller's still:
 *
 *     -EAGAIN     the subsystem's ring is full: an ordinary answer
 *     -ENOENT     there is no such subsystem
 *     -EINVAL     NULL, or a target without subsystem://
 *     -EMSGSIZE   a body of more than `max_body` bytes
 *     -ECANCELED  after ash_bus_stop
 */
int ash_bus_send(struct ash_bus *bus, struct ash_msg *msg);

/* The same, but waits for room: -ETIMEDOUT instead of -EAGAIN, unless `timeout_ns` is 0. */
int ash_bus_send_wait(struct ash_bus *bus, struct ash_msg *msg, int64_t timeout_ns);

/*
 * Sends messages in their order as far as they are taken: how many. Those from there on are the
 * caller's still; ash_bus_send of the first of them says why. Messages to the same subsystem that
 * stand side by side go into its ring together.
 */
unsigned ash_bus_send_batch(struct ash_bus *bus, struct ash_msg **msgs, unsigned n);

/*
 * Sends messages by subsystem, all of one together, in their order: how many were taken. One that
 * is refused does not keep those of other subsystems from being sent, only those behind it of its
 * own. The array is sorted: those that were taken come first, and msgs[taken] to msgs[n - 1] are
 * the caller's still, in their order.
 */
unsigned ash_bus_send_grouped(struct ash_bus *bus, struct ash_msg **msgs, unsigned n);

/* ---- asking ---- */

/*
 * Sends a message, waiting for room, and waits for the reply to it, both together `timeout_ns` at
 * most. 0, and *reply is the caller's. After -ETIMEDOUT (no reply in time) and -EPIPE (it became a
 * dead letter) the message was taken; after the errors of ash_bus_send, -EAGAIN for no room in time
 * among them, it was not. *reply is NULL then.
 */
int ash_bus_request(struct ash_bus *bus, struct ash_msg *msg, int64_t timeout_ns,
                    struct ash_msg **reply);

/*
 * Answers a request, in its handler or later; by any thread that has a reference to it. 0, and
 * `reply` is the bus' or whoever asked's: one that comes too late, or to a message that is no
 * request, becomes a dead letter. -EINVAL for NULL.
 */
int ash_bus_reply(struct ash_bus *bus, const struct ash_msg *request, struct ash_msg *reply);

/* ---- working ---- */

/*
 * Handles up to `max` messages as poller `worker`, counted from 0: how many. 0 with EINVAL when
 * there is no such poller, with EBUSY when another thread is it at the moment.
 */
unsigned ash_bus_poll(struct ash_bus *bus, unsigned worker, unsigned max);

/*
 * Waits until there is something to poll: 0, after which the caller is expected to poll;
 * -ETIMEDOUT; -ECANCELED when the bus is stopped and all has been handled; -EINVAL; -EBUSY.
 */
int ash_bus_wait(struct ash_bus *bus, unsigned worker, int64_t timeout_ns);

/*
 * Waits until there is a moment at which nothing is pending: 0, -ETIMEDOUT, -EDEADLK in a handler.
 * Without threads of the bus the caller handles messages as well.
 */
int ash_bus_drain(struct ash_bus *bus, int64_t timeout_ns);

/*
 * Lets nothing in any more, waits as ash_bus_drain, and ends the threads. What has not begun when
 * the time is over becomes dead letters, ASH_BUS_STOPPED. 0; -ETIMEDOUT when handlers are still
 * running then: they go on, what they hold back becomes dead letters as they return, and another
 * call waits for them. -EDEADLK in a handler.
 */
int ash_bus_stop(struct ash_bus *bus, int64_t timeout_ns);

/* ---- figures ---- */

/* sent = delivered + dead + pending, at rest exactly. */
struct ash_bus_stats {
    uint64_t sent;      /* messages that were taken */
    uint64_t delivered; /* whose handlers returned */
    uint64_t dead;      /* that became dead letters; late replies not counted */
    uint64_t pending;   /* in rings, or with a worker */
    uint64_t refused;   /* messages that were offered and not taken */
    uint64_t requests;  /* answered, timed out, and under way */
    uint64_t answered;
    uint64_t timeouts;
    uint64_t late;       /* replies that became dead letters */
    uint64_t lost;       /* threads that ended in a handler */
    uint64_t subsystems; /* there are */
    uint64_t workers;    /* threads of the bus that run */
    uint64_t parked;     /* times that a worker went to sleep */
    uint64_t wakes;      /* system calls made to wake one */
};

struct ash_bus_subsystem_stats {
    uint64_t sent, delivered, dead, pending, refused;
    uint64_t capacity; /* of its ring */
    uint64_t handlers; /* patterns */
    uint64_t waited;   /* sends that slept */
    uint64_t highs;    /* times that `high` was reached */
};

/* Reads the figures; of a subsystem: -ENOENT when there is none. */
int ash_bus_stats(const struct ash_bus *bus, struct ash_bus_stats *out);
int ash_bus_subsystem_stats(const struct ash_bus *bus, const char *subsystem,
                            struct ash_bus_subsystem_stats *out);

/* Writes them as text, with a line for each subsystem: 0, -EINVAL or the errno of the write. */
int ash_bus_dump(const struct ash_bus *bus, int fd);

#ifdef __cplusplus
}
#endif

#endif
