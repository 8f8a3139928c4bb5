/*
 * ashlar trace: what is in a trace, as tables for people or as JSON.
 *
 * Sizes and lifetimes are counted in buckets, four to a doubling. Time is counted in allocations:
 * a block's age is how many blocks were handed out while it lived, which is the same on every
 * machine. A realloc ends one life and begins another.
 */
#include "ashlar.h"
#include "show.h"
#include "trace_walk.h"

#include "base/base.h"
#include "base/fmt.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 4 * 48, AGES = 50, BRIEF_AGE = 16, BAR = 24 };

/* Of the sizes up to a bound; all are sums. */
struct bucket {
    uint64_t fresh;   /* blocks from malloc and its relatives */
    uint64_t born;    /* those and what realloc made of others */
    uint64_t bytes;   /* of all that were born */
    uint64_t ended;   /* freed or resized */
    uint64_t brief;   /* ended before they were BRIEF_AGE old */
    uint64_t ages;    /* of those that ended later */
    uint64_t resized; /* ended by a realloc */
    uint64_t from;    /* their bytes before */
    uint64_t to;      /* and after */
};

struct summary {
    struct bucket buckets[BUCKETS];
    uint64_t ages[AGES]; /* blocks that ended below 1, 2, 4, ... allocations of age */
    uint64_t age_bytes[AGES];
    uint64_t live, live_bytes, peak, peak_bytes; /* the peaks need not be of the same moment */
    uint64_t remote;                             /* ended by another thread than began them */
    uint64_t aligned;
};

/* 0 up to 8 bytes, then four steps to a doubling: up to 10, 12, 14, 16, 20, 24, 28, 32, ... */
static size_t bucket_of(uint64_t n)
{
    if (n <= 8)
        return 0;
    size_t high = 63u - (size_t)__builtin_clzll(n - 1);
    return (high - 3) * 4 + (((n - 1) >> (high - 2)) & 3) + 1;
}

static uint64_t bucket_limit(size_t b)
{
    return b == 0 ? 8 : (uint64_t)(5 + (b - 1) % 4) << ((b - 1) / 4 + 1);
}

static size_t age_of(uint64_t age)
{
    return age == 0 ? 0 : 64u - (size_t)__builtin_clzll(age);
}

static void count_end(struct summary *s, const struct walk *w, const struct walk_step *step,
                      bool resized)
{
    const struct walk_object *o = &step->ended;
    struct bucket *b = &s->buckets[bucket_of(o->size)];
    uint64_t age = w->clock - resized - o->birth; /* the resized block itself is none of them */
    b->ended++;
    b->brief += age < BRIEF_AGE;
    b->ages += age < BRIEF_AGE ? 0 : age;
    if (resized) {
        b->resized++;
        b->from += o->size;
        b->to += step->event.size;
    }
    s->ages[age_of(age)]++;
    s->age_bytes[age_of(age)] += o->size;
    s->live--;
    s->live_bytes -= o->size;
}

static void count_step(struct summary *s, const struct walk *w, const struct walk_step *step)
{
    const struct trace_event *e = &step->event;
    bool birth = e->op != TRACE_FREE && e->op != TRACE_FREE_REMOTE;
    if (step->ended.birth != 0)
        count_end(s, w, step, birth);
    s->remote += e->op == TRACE_FREE_REMOTE || e->op == TRACE_REALLOC_REMOTE;
    s->aligned += e->op == TRACE_ALIGNED;
    if (!birth)
        return;
    struct bucket *b = &s->buckets[bucket_of(e->size)];
    b->fresh += step->ended.birth == 0;
    b->born++;
    b->bytes += e->size;
    s->live++;
    s->live_bytes += e->size;
    s->peak = s->live > s->peak ? s->live : s->peak;
    s->peak_bytes = s->live_bytes > s->peak_bytes ? s->live_bytes : s->peak_bytes;
}

/* ---- for people ---- */

static void print_bar(uint64_t part, uint64_t whole)
{
    int n = whole == 0 ? 0 : (int)((double)part / (double)whole * BAR + 0.5);
    for (int i = 0; i < n; i++)
        putchar('#');
    putchar('\n');
}

static void print_sizes(const struct summary *s)
{
    uint64_t blocks = 0, most = 0;
    struct bucket rows[BUCKETS / 4 + 1];
    memset(rows, 0, sizeof rows);
    for (size_t i = 0; i < BUCKETS; i++) {
        struct bucket *row = &rows[(i + 3) / 4];
        row->born += s->buckets[i].born;
        row->bytes += s->buckets[i].bytes;
        row->ended += s->buckets[i].ended;
        blocks += s->buckets[i].born;
    }
    for (size_t i = 0; i < ASH_COUNT(rows); i++)
        most = rows[i].born > most ? rows[i].born : most;
    printf("\n  %-12s %11s %7s %11s %11s\n", "size up to", "blocks", "", "bytes", "kept");
    for (size_t i = 0; i < ASH_COUNT(rows); i++) {
        char limit[16], born[16], bytes[16], kept[16];
        if (rows[i].born == 0)
            continue;
        fmt_bytes_text(limit, (uint64_t)8 << i);
        fmt_count_text(born, rows[i].born);
        fmt_bytes_text(bytes, rows[i].bytes);
        fmt_count_text(kept, rows[i].born - rows[i].ended);
        printf("  %-12s %11s %5.1f %% %11s %11s  ", limit, born,
               100 * (double)rows[i].born / (double)blocks, bytes, kept);
        print_bar(rows[i].born, most);
    }
}

static void print_ages(const struct summary *s)
{
    uint64_t all = 0, most = 0, below = 0;
    for (size_t i = 0; i < AGES; i++) {
        all += s->ages[i];
        most = s->ages[i] > most ? s->ages[i] : most;
    }
    printf("\n  %-12s %11s %7s %11s %11s\n", "life below", "blocks", "so far", "bytes", "");
    for (size_t i = 0; i < AGES; i++) {
        char limit[16], count[16], bytes[16];
        if (s->ages[i] == 0)
            continue;
        below += s->ages[i];
        fmt_count_text(limit, (uint64_t)1 << i);
        fmt_count_text(count, s->ages[i]);
        fmt_bytes_text(bytes, s->age_bytes[i]);
        printf("  %-12s %11s %5.1f %% %11s %11s  ", limit, count, 100 * (double)below / (double)all,
               bytes, "");
        print_bar(s->ages[i], most);
    }
    puts("  (allocations made while the block lived)");
}

static void print_text(const struct trace *t, const struct summary *s)
{
    char calls[16], blocks[16], time[16], peak[16], bytes[16], live[16], remote[16];
    fmt_count_text(calls, trace_calls(t));
    fmt_count_text(blocks, trace_blocks(t));
    fmt_time_text(time, t->ns);
    fmt_count_text(peak, s->peak);
    fmt_bytes_text(bytes, s->peak_bytes);
    fmt_count_text(live, s->live);
    fmt_count_text(remote, s->remote);
    show_text(stdout, t->header.command, SIZE_MAX);
    printf(" (process %u)\n", t->header.pid);
    printf("%s calls by %zu thread%s in %s: %s blocks, %s freed by another thread\n", calls,
           t->thread_count, t->thread_count == 1 ? "" : "s", time, blocks, remote);
    printf("live at most: %s blocks, %s; at the end: %s blocks\n", peak, bytes, live);
    printf("malloc %" PRIu64 ", calloc %" PRIu64 ", aligned %" PRIu64 ", realloc %" PRIu64
           ", free %" PRIu64 "\n",
           t->events[TRACE_MALLOC], t->events[TRACE_CALLOC], t->events[TRACE_ALIGNED],
           t->events[TRACE_REALLOC] + t->events[TRACE_REALLOC_REMOTE],
           t->events[TRACE_FREE] + t->events[TRACE_FREE_REMOTE]);
    print_sizes(s);
    print_ages(s);
}

/* ---- JSON ---- */

static void print_bucket_json(size_t i, const struct bucket *b)
{
    printf("    {\"bucket\": %zu, \"limit\": %" PRIu64 ", \"fresh\": %" PRIu64
           ", \"born\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"ended\": %" PRIu64
           ", \"brief\": %" PRIu64 ", \"ages\": %" PRIu64 ", \"resized\": %" PRIu64
           ", \"from\": %" PRIu64 ", \"to\": %" PRIu64 "}",
           i, bucket_limit(i), b->fresh, b->born, b->bytes, b->ended, b->brief, b->ages, b->resized,
           b->from, b->to);
}

static void print_json(const struct trace *t, const struct walk *w, const struct summary *s)
{
    static const char *const names[] = {"marks", "malloc",  "calloc",      "aligned",
                                        "free",  "realloc", "free_remote", "realloc_remote"};
    printf("{\n  \"program\": ");
    show_json_text(stdout, t->header.program);
    printf(",\n  \"command\": ");
    show_json_text(stdout, t->header.command);
    printf(",\n  \"pid\": %u,\n  \"threads\": %zu,\n  \"ns\": %" PRIu64 ",\n  \"calls\": %" PRIu64
           ",\n  \"blocks\": %" PRIu64 ",\n",
           t->header.pid, t->thread_count, t->ns, trace_calls(t), trace_blocks(t));
    printf("  \"peak_blocks\": %" PRIu64 ",\n  \"peak_bytes\": %" PRIu64
           ",\n  \"live_blocks\": %" PRIu64 ",\n  \"live_bytes\": %" PRIu64 ",\n",
           s->peak, s->peak_bytes, s->live, s->live_bytes);
    for (size_t i = 0; i < ASH_COUNT(names); i++)
        printf("  \"%s\": %" PRIu64 ",\n", names[i], t->events[i]);
    printf("  \"contradictions\": %" PRIu64 ",\n  \"damaged_chunks\": %zu,\n  \"damage\": ",
           w->contradictions, t->damaged);
    show_json_text(stdout, t->damage);
    printf(",\n  \"brief_age\": %d,\n  \"sizes\": [", BRIEF_AGE);
    bool first = true;
    for (size_t i = 0; i < BUCKETS; i++) {
        if (s->buckets[i].born == 0)
            continue;
        printf(first ? "\n" : ",\n");
        print_bucket_json(i, &s->buckets[i]);
        first = false;
    }
    puts("\n  ]\n}");
}

static int help(void)
{
    puts("usage: ashlar trace [--json] FILE...\n\n"
         "Shows what is in traces of `ashlar record`: calls, threads, sizes, lifetimes, peaks.\n\n"
         "  --json  every count, for programs");
    return STATUS_OK;
}

static int summarize(const char *path, bool json)
{
    struct trace t;
    struct walk w;
    struct walk_step step;
    static struct summary sums;
    bool usable = trace_open(&t, path);
    if (t.damage[0] != '\0')
        fprintf(stderr, "ashlar: %s: %s%s\n", path, t.damage, usable ? "; the rest is used" : "");
    if (!usable || !walk_begin(&w, &t)) {
        trace_close(&t);
        return STATUS_FAILED;
    }
    memset(&sums, 0, sizeof sums);
    while (walk_next(&w, &step))
        count_step(&sums, &w, &step);
    if (json)
        print_json(&t, &w, &sums);
    else
        print_text(&t, &sums);
    if (w.contradictions != 0)
        fprintf(stderr, "ashlar: %s: %" PRIu64 " events end blocks that the trace does not have\n",
                path, w.contradictions);
    int status = t.damage[0] == '\0' && w.contradictions == 0 ? STATUS_OK : STATUS_FAILED;
    walk_end(&w);
    trace_close(&t);
    return status;
}

int command_trace(int argc, char **argv)
{
    bool json = false;
    int i = 1, status = STATUS_OK;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--help") == 0)
            return help();
        if (strcmp(argv[i], "--json") != 0)
            return usage_error("trace: option '%s' is not known; it takes --json", argv[i]);
        json = true;
    }
    if (i == argc)
        return usage_error("trace: no file given; `ashlar record -o FILE -- PROGRAM` writes one");
    for (bool first = true; i < argc; i++, first = false) {
        if (!first && !json)
            putchar('\n');
        if (summarize(argv[i], json) != STATUS_OK)
            status = STATUS_FAILED;
    }
    return status;
}
