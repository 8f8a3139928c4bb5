/* What a bus shows. */
#include "base/fmt.h"
#include "msg/bus.h"
#include "os/os_file.h"

#include <errno.h>
#include <string.h>

static uint64_t subsystem_sent(const struct subsystem *s)
{
    struct ash_ring_stats ring;
    ash_ring_stats(s->lane.ring, &ring);
    return ring.pushed - load_relaxed(&s->before);
}

/* Handled first, so that what is pending is never negative. */
static struct ash_bus_subsystem_stats subsystem_read(const struct subsystem *s)
{
    struct ash_bus_subsystem_stats out;
    out.delivered = load_acquire(&s->delivered); /* all handlers; pairs with subsystem_count */
    out.dead = load_acquire(&s->dead);           /* likewise */
    out.sent = subsystem_sent(s);
    out.pending = out.sent - out.delivered - out.dead;
    out.refused = load_relaxed(&s->refused);
    out.capacity = ash_ring_capacity(s->lane.ring);
    out.handlers = load_relaxed(&s->patterns);
    out.waited = load_relaxed(&s->lane.waited);
    out.highs = load_relaxed(&s->lane.highs);
    return out;
}

/*
 * All that was handled first, then all that was sent. Whoever reads a message as handled has
 * acquired what its handler sent; so if the sums are equal there was a moment without any.
 */
uint64_t bus_pending(const struct ash_bus *b)
{
    uint64_t handled = 0, sent = 0;
    uint32_t n = load_acquire(&b->subsystems); /* pairs with subsystem_add */
    for (uint32_t i = 0; i < n; i++) {
        const struct subsystem *s = b->subsystem[i];
        handled += load_acquire(&s->delivered) + load_acquire(&s->dead); /* with subsystem_count */
    }
    n = load_acquire(&b->subsystems);
    for (uint32_t i = 0; i < n; i++)
        sent += subsystem_sent(b->subsystem[i]);
    return sent - handled;
}

/* Without a lock, as it may be in a signal handler; threads are counted by those who may wait. */
static void bus_read(const struct ash_bus *b, struct ash_bus_stats *out)
{
    uint32_t n = load_acquire(&b->subsystems); /* pairs with subsystem_add */
    *out = (struct ash_bus_stats){
        .subsystems = n,
        .refused = load_relaxed(&b->refused),
        .requests = load_relaxed(&b->requests),
        .answered = load_relaxed(&b->answered),
        .timeouts = load_relaxed(&b->timeouts),
        .late = load_relaxed(&b->late),
        .lost = load_relaxed(&b->lost),
        .wakes = load_relaxed(&b->parking.wakes),
    };
    for (uint32_t i = 0; i < n; i++) {
        struct ash_bus_subsystem_stats s = subsystem_read(b->subsystem[i]);
        out->sent += s.sent;
        out->delivered += s.delivered;
        out->dead += s.dead;
        out->pending += s.pending;
        out->refused += s.refused;
    }
    for (unsigned i = 0; i < bus_places(b); i++)
        out->parked += load_relaxed(&b->worker[i].parked);
}

ASH_API int ash_bus_stats(const struct ash_bus *b, struct ash_bus_stats *out)
{
    if (b == NULL || out == NULL)
        return -EINVAL;
    bus_read(b, out);
    struct os_lock *lock = (struct os_lock *)(uintptr_t)&b->lock;
    os_lock(lock);
    for (unsigned i = 0; i < b->workers; i++)
        out->workers += b->worker[i].started;
    os_unlock(lock);
    return 0;
}

ASH_API int ash_bus_subsystem_stats(const struct ash_bus *b, const char *subsystem,
                                    struct ash_bus_subsystem_stats *out)
{
    if (b == NULL || subsystem == NULL || out == NULL)
        return -EINVAL;
    const struct subsystem *s =
        bus_find((struct ash_bus *)(uintptr_t)b, subsystem, strnlen(subsystem, NAME_CAP));
    if (s == NULL)
        return -ENOENT;
    *out = subsystem_read(s);
    return 0;
}

ASH_API int ash_bus_dump(const struct ash_bus *b, int fd)
{
    struct ash_bus_stats t;
    int status = ash_bus_stats(b, &t);
    if (status != 0)
        return status;
    char buf[1024];
    struct fmt f;
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_printf(&f, "bus %s: %ju subsystems, %ju workers, %ju lost\n", b->name, t.subsystems,
               t.workers, t.lost);
    fmt_printf(&f, "  sent %ju  delivered %ju  dead %ju  pending %ju  refused %ju\n", t.sent,
               t.delivered, t.dead, t.pending, t.refused);
    fmt_printf(&f, "  requests %ju  answered %ju  timeouts %ju  late %ju  parked %ju  wakes %ju\n",
               t.requests, t.answered, t.timeouts, t.late, t.parked, t.wakes);
    for (unsigned i = 0; i < t.subsystems; i++) {
        const struct subsystem *s = b->subsystem[i];
        struct ash_bus_subsystem_stats r = subsystem_read(s);
        fmt_printf(&f, "  %s%s: %ju handlers, %ju of %ju pending; sent %ju  delivered %ju", s->name,
                   s->lane.ordered ? "" : " (unordered)", r.handlers, r.pending, r.capacity, r.sent,
                   r.delivered);
        fmt_printf(&f, "  dead %ju  refused %ju  waited %ju  highs %ju\n", r.dead, r.refused,
                   r.waited, r.highs);
    }
    return fmt_end(&f);
}

/* ---- in the statistics ---- */

static const struct ash_stats_column bus_columns[] = {
    SHOWN_COLUMN("sent", COUNTER, COUNT, "Messages that were taken."),
    SHOWN_COLUMN("delivered", COUNTER, COUNT, "Messages whose handlers returned."),
    SHOWN_COLUMN("dead", COUNTER, COUNT, "Messages that became dead letters."),
    SHOWN_COLUMN("pending", GAUGE, COUNT, "Messages that are not handled yet."),
    SHOWN_COLUMN("refused", COUNTER, COUNT, "Messages that were not taken."),
};

static void bus_values(const void *bus, uint64_t *values)
{
    struct ash_bus_stats t;
    bus_read(bus, &t);
    values[0] = t.sent;
    values[1] = t.delivered;
    values[2] = t.dead;
    values[3] = t.pending;
    values[4] = t.refused;
}

static void subsystem_values(const void *subsystem, uint64_t *values)
{
    struct ash_bus_subsystem_stats t = subsystem_read(subsystem);
    values[0] = t.sent;
    values[1] = t.delivered;
    values[2] = t.dead;
    values[3] = t.pending;
    values[4] = t.refused;
}

SHOWN_KIND(bus_kind, "buses", "bus", bus_columns, bus_values)
SHOWN_KIND(subsystem_kind, "subsystems", "subsystem", bus_columns, subsystem_values)

struct shown *bus_show(const struct ash_bus *b)
{
    return shown_open(&bus_kind, b->name, b);
}

/* By the name of the bus and its own, of which the last characters may be missing. */
struct shown *bus_show_subsystem(const struct subsystem *s)
{
    char name[NAME_CAP] = "";
    fmt_text(name, sizeof name, "%s.%s", s->bus->name, s->name);
    return shown_open(&subsystem_kind, name, s);
}
