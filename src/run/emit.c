#include "run/emit.h"

#include "base/anchor.h"
#include "base/atomic.h"
#include "mem/meta.h"
#include "os/os_file.h"
#include "os/os_process.h"

#include <errno.h>

enum { EMIT_BUFFER = 2048 };

bool emit_next_class(unsigned *cls, struct ash_class_stats *c)
{
    while (ash_stats_class((*cls)++, c) == 0)
        if (c->hits + c->misses > 0 || c->slabs > 0)
            return true;
    return false;
}

/* Kinds are pushed and never removed: a walk from the head is always whole. */
static _Atomic(struct emit_kind *) kinds;

void emit_kind_add(struct emit_kind *kind)
{
    struct emit_kind *head = load_acquire(&kinds); /* pairs with the release: its link */
    do {
        for (struct emit_kind *k = head; k != NULL; k = k->link)
            if (k == kind)
                return;
        kind->link = head;
    } while (!cas_acq_rel(&kinds, &head, kind)); /* its fields; pairs with emit_kinds */
}

struct emit_kind *emit_kinds(void)
{
    ANCHOR("kinds", kinds);
    ANCHOR_RECORD("kind", struct emit_kind);
    return load_acquire(&kinds); /* pairs with emit_kind_add */
}

/* ---- kinds of the program's own ---- */

/* A name that every format takes as it stands. */
static bool word_is_good(const char *s)
{
    size_t n = 0;
    for (; s != NULL && s[n] != '\0'; n++)
        if (s[n] != '_' && (s[n] < 'a' || s[n] > 'z') && (n == 0 || s[n] < '0' || s[n] > '9'))
            return false;
    return n != 0;
}

static bool outer_is_good(const struct ash_stats_kind *outer)
{
    bool good = outer != NULL && word_is_good(outer->plural) && word_is_good(outer->singular) &&
                outer->count != 0 && outer->count <= EMIT_VALUES && outer->next != NULL;
    for (size_t i = 0; good && i < outer->count; i++) {
        const struct ash_stats_column *c = &outer->columns[i];
        good = word_is_good(c->name) && c->help != NULL && (unsigned)c->type <= ASH_STATS_GAUGE &&
               (unsigned)c->unit <= ASH_STATS_NS;
    }
    return good;
}

ASH_API int ash_stats_add(const struct ash_stats_kind *outer)
{
    if (!outer_is_good(outer))
        return -EINVAL;
    struct emit_kind *k = meta_take(sizeof *k + outer->count * sizeof *k->columns);
    if (k == NULL)
        return -ENOMEM;
    struct stat_field *columns = (struct stat_field *)(void *)(k + 1);
    for (size_t i = 0; i < outer->count; i++) {
        const struct ash_stats_column *c = &outer->columns[i];
        columns[i] = (struct stat_field){c->name, c->help, (enum stat_kind)c->type,
                                         (enum stat_unit)c->unit, i * sizeof(uint64_t)};
    }
    *k = (struct emit_kind){.plural = outer->plural,
                            .singular = outer->singular,
                            .columns = columns,
                            .count = outer->count,
                            .outer = outer};
    emit_kind_add(k);
    return 0;
}

/* ---- writing ---- */

ASH_API int ash_stats_dump(int fd, enum ash_format format)
{
    static emit_format *const emit[] = {
        [ASH_TEXT] = emit_text,
        [ASH_JSON] = emit_json,
        [ASH_PROMETHEUS] = emit_prom,
    };
    if ((unsigned)format >= ASH_COUNT(emit))
        return -EINVAL;

    struct ash_stats total = {.struct_size = sizeof total};
    int status = ash_stats_get(&total);
    if (status != 0)
        return status;
    char buf[EMIT_BUFFER];
    struct fmt f;
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    emit[format](&f, &total, os_pid());
    return fmt_end(&f);
}
