/*
 * The size mixes of real programs (mixes.h), played back.
 *
 * Before the clock starts, a schedule is drawn from the recorded table: a list of events, each of
 * which allocates, resizes or frees one place. Playing it back costs little beside the calls and
 * the writes; an event is a word or two, so that it costs little memory too. The rules of drawing:
 *   1. The clock of the schedule counts allocations, resized blocks included, as the recorder's
 *      does. A block's class is drawn by the weights, and with it its size.
 *   2. `kept` of 10,000 blocks stay until the end of the schedule. `brief` of the others live up to
 *      MIX_BRIEF allocations; the rest live an exponential time with the class's mean.
 *   3. A life that is over ends in a free or, by `resized`, in a realloc to `growth` percent, which
 *      begins another life in the class nearest to the new size.
 *   4. A schedule has at most PASS allocations and is played as often as `ops` asks for; at its end
 *      everything is freed, as between two runs of a program.
 *
 * Each block is filled up to FILL bytes and marked; what realloc leaves is checked.
 */
#include "patterns.h"
#include "mixes.h"

#include <math.h>
#include <string.h>

enum {
    PASS = 300000,
    FILL = 256,
    SIZE_MIN = 8,
    PLACE_BITS = 22,
    CLASS_BITS = 8,
    FIRST_ROOM = 1024
};

#define NOWHERE UINT32_MAX /* ends lists of places */

/* An event's kind is above the class, that above the place. A resize has its bytes behind it. */
enum kind { FREE, FRESH, RESIZE };

_Static_assert(PASS <= 1 << PLACE_BITS, "a place for every block of a schedule");

struct schedule {
    const struct mix_class *classes;
    uint32_t *events;
    size_t count;       /* words of them */
    size_t places;      /* most blocks alive at once */
    size_t allocations; /* those of realloc included */
};

/* ---- drawing a schedule ---- */

struct place {
    uint32_t cls;
    uint32_t bytes;
    uint32_t next; /* in the list of those that end at the same time, or of the free places */
};

struct draw {
    const struct mix_class *classes;
    size_t count;
    uint64_t *sums; /* of `fresh` up to and with each class */
    struct rng rng;
    struct schedule *schedule;
    struct place *place; /* `room` of them */
    size_t room;
    uint32_t free;    /* places that were used before */
    uint32_t *due;    /* per time: the places whose block ends then */
    uint32_t pending; /* places whose time has come */
    size_t now;       /* allocations so far */
    size_t end;
};

static int chance(struct draw *d, uint32_t parts)
{
    return rng_below(&d->rng, MIX_PARTS) < parts;
}

static void event_add(struct draw *d, enum kind kind, uint32_t cls, uint32_t place)
{
    uint32_t above = (uint32_t)kind << CLASS_BITS | cls;
    d->schedule->events[d->schedule->count++] = above << PLACE_BITS | place;
}

static uint32_t class_bytes(const struct mix_class *c)
{
    return c->bytes < SIZE_MIN ? SIZE_MIN : c->bytes;
}

static uint32_t place_new(struct draw *d)
{
    if (d->schedule->places == d->room) {
        d->room = d->room == 0 ? FIRST_ROOM : 2 * d->room;
        d->place = realloc(d->place, d->room * sizeof *d->place);
        if (d->place == NULL)
            die("out of memory");
    }
    return (uint32_t)d->schedule->places++;
}

static uint32_t class_draw(struct draw *d)
{
    uint64_t x = rng_next(&d->rng) % d->sums[d->count - 1];
    uint32_t low = 0;
    uint32_t high = (uint32_t)d->count - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (d->sums[middle] > x)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static uint32_t class_nearest(const struct draw *d, uint32_t bytes)
{
    uint32_t k = 0;
    while (k + 1 < d->count && d->classes[k + 1].bytes <= bytes)
        k++;
    if (k + 1 < d->count && d->classes[k + 1].bytes - bytes < bytes - d->classes[k].bytes)
        k++;
    return k;
}

/* A new life at the place: enters it in the list of the time when it ends, if it does. */
static void life_begin(struct draw *d, uint32_t place, uint32_t cls)
{
    const struct mix_class *c = &d->classes[cls];
    size_t age;
    d->place[place].cls = cls;
    if (chance(d, c->kept))
        return;
    if (chance(d, c->brief)) {
        age = rng_below(&d->rng, MIX_BRIEF);
    } else {
        double u = ((double)(rng_next(&d->rng) >> 11) + 1) * 0x1p-53; /* above 0, up to 1 */
        double mean = c->life > MIX_BRIEF ? c->life - MIX_BRIEF : 1;
        age = MIX_BRIEF + (size_t)(-mean * log(u));
    }
    size_t time = d->now + 1 + age;
    if (time >= d->end)
        return;
    d->place[place].next = d->due[time];
    d->due[time] = place;
}

static void draw_fresh(struct draw *d)
{
    uint32_t cls = class_draw(d);
    uint32_t place = d->free;
    if (place != NOWHERE)
        d->free = d->place[place].next;
    else
        place = place_new(d);
    d->place[place].bytes = class_bytes(&d->classes[cls]);
    event_add(d, FRESH, cls, place);
    life_begin(d, place, cls);
}

/* The end of the block's life; true when it was a realloc, which is an allocation too. */
static int draw_end(struct draw *d, uint32_t place)
{
    struct place *p = &d->place[place];
    const struct mix_class *c = &d->classes[p->cls];
    if (!chance(d, c->resized)) {
        event_add(d, FREE, 0, place);
        p->bytes = 0;
        p->next = d->free;
        d->free = place;
        return 0;
    }
    uint64_t bytes = (uint64_t)p->bytes * c->growth / 100;
    uint32_t limit = d->classes[d->count - 1].bytes;
    p->bytes = bytes < SIZE_MIN ? SIZE_MIN : bytes > limit ? limit : (uint32_t)bytes;
    event_add(d, RESIZE, 0, place);
    d->schedule->events[d->schedule->count++] = p->bytes;
    life_begin(d, place, class_nearest(d, p->bytes));
    return 1;
}

/* One allocation, and before it the frees whose time has come. */
static void draw_step(struct draw *d)
{
    for (uint32_t place = d->due[d->now]; place != NOWHERE;) {
        uint32_t next = d->place[place].next;
        d->place[place].next = d->pending;
        d->pending = place;
        place = next;
    }
    while (d->pending != NOWHERE) {
        uint32_t place = d->pending;
        d->pending = d->place[place].next;
        if (draw_end(d, place))
            return;
    }
    draw_fresh(d);
}

/* Each allocation takes two words at most: that of its free is the second, or that of its bytes. */
static struct schedule schedule_draw(const struct mix_class *classes, size_t count, uint64_t seed,
                                     size_t allocations)
{
    struct schedule s = {.classes = classes, .allocations = allocations};
    struct draw d = {.classes = classes,
                     .count = count,
                     .rng = rng_init(seed, 0),
                     .schedule = &s,
                     .free = NOWHERE,
                     .pending = NOWHERE,
                     .end = allocations};
    s.events = get_memory(2 * allocations * sizeof *s.events);
    d.sums = get_memory(count * sizeof *d.sums);
    d.due = get_memory(allocations * sizeof *d.due);
    memset(d.due, 0xFF, allocations * sizeof *d.due);
    for (size_t i = 0; i < count; i++)
        d.sums[i] = classes[i].fresh + (i > 0 ? d.sums[i - 1] : 0);
    for (; d.now < d.end; d.now++)
        draw_step(&d);
    for (uint32_t i = 0; i < s.places; i++) {
        if (d.place[i].bytes != 0)
            event_add(&d, FREE, 0, i);
    }
    free(d.sums);
    free(d.place);
    free(d.due);
    return s;
}

/* ---- playing it ---- */

struct player {
    const struct schedule *schedule;
    void **block;
    size_t rounds;
};

static void *fill(uint32_t bytes)
{
    void *p = malloc(bytes);
    if (p == NULL)
        die("out of memory");
    memset(p, 0x5A, bytes < FILL ? bytes : FILL);
    return block_mark(p);
}

static void *resize(void *p, uint32_t bytes)
{
    uint64_t mark = *(uint64_t *)p;
    uint64_t *q = realloc(p, bytes);
    if (q != NULL && *q != mark)
        die("realloc lost bytes");
    return block_mark(q);
}

static void play_once(const struct schedule *s, void **blocks)
{
    for (size_t i = 0; i < s->count; i++) {
        uint32_t event = s->events[i];
        uint32_t cls = event >> PLACE_BITS & ((1u << CLASS_BITS) - 1);
        void **block = &blocks[event & ((1u << PLACE_BITS) - 1)];
        switch ((enum kind)(event >> (PLACE_BITS + CLASS_BITS))) {
        case FREE:
            block_put(*block);
            break;
        case FRESH:
            *block = fill(class_bytes(&s->classes[cls]));
            break;
        case RESIZE:
            *block = resize(*block, s->events[++i]);
            break;
        }
    }
}

static void *play(void *arg)
{
    struct player *me = arg;
    for (size_t r = 0; r < me->rounds; r++)
        play_once(me->schedule, me->block);
    return NULL;
}

/* Every thread plays the same schedule with blocks of its own. */
static struct result mix(const struct settings *s, const struct mix_class *classes, size_t count)
{
    size_t each = s->ops / s->threads;
    size_t length = each < PASS ? each : PASS;
    struct schedule schedule = schedule_draw(classes, count, s->seed, length);
    size_t rounds = (each + length - 1) / length;
    struct player *players = get_memory(s->threads * sizeof *players);
    for (size_t i = 0; i < s->threads; i++) {
        void **block = get_memory(schedule.places * sizeof *block);
        players[i] = (struct player){&schedule, block, rounds};
    }
    uint64_t begin = clock_ns();
    if (s->threads == 1)
        play(players);
    else
        threads_run(s->threads, play, players, sizeof *players);
    uint64_t ns = clock_ns() - begin;
    for (size_t i = 0; i < s->threads; i++)
        free(players[i].block);
    free(players);
    free(schedule.events);
    return (struct result){ns, rounds * schedule.allocations * s->threads};
}

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

struct result pattern_mix_python(const struct settings *s)
{
    return mix(s, mix_python, COUNT(mix_python));
}

struct result pattern_mix_perl(const struct settings *s)
{
    return mix(s, mix_perl, COUNT(mix_perl));
}

struct result pattern_mix_sqlite(const struct settings *s)
{
    return mix(s, mix_sqlite, COUNT(mix_sqlite));
}

struct result pattern_mix_gcc(const struct settings *s)
{
    return mix(s, mix_gcc, COUNT(mix_gcc));
}

struct result pattern_mix_git(const struct settings *s)
{
    return mix(s, mix_git, COUNT(mix_git));
}

struct result pattern_mix_redis(const struct settings *s)
{
    return mix(s, mix_redis, COUNT(mix_redis));
}
