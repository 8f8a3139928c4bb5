#include "sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct job {
    struct sample *s;
    bool brief;
};

static void kind_read(const struct emit_kind *kind, struct sample_kind *k)
{
    struct emit_row row;
    snprintf(k->plural, sizeof k->plural, "%s", kind->plural);
    k->count = kind->count < EMIT_VALUES ? kind->count : EMIT_VALUES;
    k->rows = k->all = 0;
    for (size_t i = 0; i < k->count; i++) {
        snprintf(k->column[i], sizeof k->column[i], "%s", kind->columns[i].name);
        k->unit[i] = kind->columns[i].unit;
        k->kind[i] = kind->columns[i].kind;
    }
    for (size_t at = 0; emit_next(kind, &at, &row); k->all++)
        if (k->rows < SAMPLE_ROWS) {
            row.name[EMIT_NAME - 1] = '\0';
            k->row[k->rows++] = row;
        }
}

static void read_all(void *arg)
{
    struct job *job = arg;
    struct sample *s = job->s;
    s->total.struct_size = sizeof s->total;
    ash_stats_get(&s->total);
    if (job->brief)
        return;
    for (unsigned cls = 0; s->classes < SAMPLE_CLASSES;)
        if (!emit_next_class(&cls, &s->class[s->classes++])) {
            s->classes--;
            break;
        }
    for (const struct emit_kind *k = emit_kinds(); k != NULL && s->kinds < SAMPLE_KINDS;
         k = k->link)
        kind_read(k, &s->kind[s->kinds++]);
}

enum mirror_state sample_read(const struct target *t, bool brief, struct sample *out)
{
    struct job job = {out, brief};
    struct timespec now;
    out->classes = out->kinds = 0;
    out->total = (struct ash_stats){0};
    if (!target_usage(t->pid, &out->usage))
        return MIRROR_GONE;
    clock_gettime(CLOCK_MONOTONIC, &now);
    out->at_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    return mirror_run(t, read_all, &job);
}

/* ---- as text ---- */

struct text {
    emit_format *emit;
    int pid, failed;
    char *at;
    size_t n, cap;
};

static int text_add(void *ctx, const char *s, size_t n)
{
    struct text *t = ctx;
    if (t->n + n > t->cap) {
        char *at = realloc(t->at, 2 * (t->n + n));
        if (at == NULL)
            return -1;
        t->at = at;
        t->cap = 2 * (t->n + n);
    }
    for (size_t i = 0; i < n; i++) /* names are the target's: no sequences for the terminal */
        t->at[t->n++] = (s[i] < ' ' && s[i] != '\n') || s[i] > '~' ? '?' : s[i];
    return 0;
}

static void write_all(void *arg)
{
    struct text *t = arg;
    struct ash_stats total = {.struct_size = sizeof total};
    char buf[2048];
    struct fmt f;
    t->failed = ash_stats_get(&total);
    if (t->failed != 0)
        return;
    fmt_init(&f, buf, sizeof buf, text_add, t);
    t->emit(&f, &total, t->pid);
    t->failed = fmt_end(&f);
}

enum mirror_state sample_text(const struct target *t, emit_format *emit, char **text, size_t *n)
{
    struct text out = {.emit = emit, .pid = t->pid, .failed = -1};
    enum mirror_state state = mirror_run(t, write_all, &out);
    if (state == MIRROR_READY && out.failed != 0)
        state = MIRROR_GONE;
    if (state != MIRROR_READY) {
        free(out.at);
        return state;
    }
    *text = out.at;
    *n = out.n;
    return state;
}

/* ---- between two ---- */

static uint64_t allocations(const struct sample *s)
{
    return s->total.hits + s->total.misses;
}

uint64_t sample_rate(const struct sample *before, const struct sample *now)
{
    uint64_t was = allocations(before), is = allocations(now), ns = now->at_ns - before->at_ns;
    return ns == 0 || is < was ? 0 : (uint64_t)((double)(is - was) * 1e9 / (double)ns);
}

unsigned sample_hits(const struct sample *before, const struct sample *now)
{
    uint64_t all = allocations(now), hits = now->total.hits;
    if (all > allocations(before) && hits >= before->total.hits) {
        all -= allocations(before);
        hits -= before->total.hits;
    }
    return all == 0 ? 0 : (unsigned)((double)hits / (double)all * 1000);
}
