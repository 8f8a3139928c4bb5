#include "list.h"

#include "ashlar/ashlar.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct target target;
static struct sample sample;

static const struct listed *find(const struct list *l, int pid)
{
    for (size_t i = 0; l != NULL && i < l->n; i++)
        if (l->all[i].pid == pid)
            return &l->all[i];
    return NULL;
}

static struct listed *add(struct list *l)
{
    if ((l->n & (l->n + 1)) == 0) { /* 0, 1, 3, 7 ...: twice as many */
        struct listed *all = realloc(l->all, (2 * l->n + 1) * sizeof *all);
        if (all == NULL)
            return NULL;
        l->all = all;
    }
    struct listed *one = &l->all[l->n++];
    *one = (struct listed){.pid = target.pid};
    memcpy(one->name, target.name, sizeof one->name);
    return one;
}

static void fill(struct listed *one, const struct listed *before)
{
    const struct ash_stats *t = &sample.total;
    one->live = t->live_bytes;
    one->allocations = t->hits + t->misses;
    one->at_ns = sample.at_ns;
    one->hits = sample_hits(&sample, &sample);
    if (before != NULL && one->at_ns > before->at_ns && one->allocations > before->allocations)
        one->rate = (uint64_t)((double)(one->allocations - before->allocations) * 1e9 /
                               (double)(one->at_ns - before->at_ns));
}

/* False: no memory. */
static bool look_at(struct list *l, int pid, const struct list *before)
{
    char why[TARGET_WHY];
    enum target_state state = target_open(&target, pid, true, why);
    l->forbidden += state == TARGET_FORBIDDEN;
    if (state != TARGET_READY && state != TARGET_OTHER)
        return true;
    enum mirror_state read = MIRROR_OTHER;
    if (state == TARGET_READY)
        read = sample_read(&target, true, &sample);
    l->overlap |= read == MIRROR_OVERLAP;
    if (read == MIRROR_GONE || !target_usage(pid, &sample.usage))
        return true;
    struct listed *one = add(l);
    if (one == NULL)
        return false;
    one->rss = sample.usage.rss;
    one->threads = sample.usage.threads;
    if (read == MIRROR_READY)
        fill(one, find(before, pid));
    else if (state == TARGET_OTHER)
        snprintf(one->note, sizeof one->note, "Ashlar %s, not %s", target.version, ASHLAR_VERSION);
    else
        snprintf(one->note, sizeof one->note, "%s",
                 read == MIRROR_OTHER ? "another build of Ashlar" : "not readable now");
    return true;
}

static int larger_first(const void *left, const void *right)
{
    const struct listed *a = left, *b = right;
    if (a->rss != b->rss)
        return a->rss < b->rss ? 1 : -1;
    return a->pid - b->pid;
}

bool list_read(struct list *l, const struct list *before)
{
    *l = (struct list){0};
    DIR *proc = opendir("/proc");
    if (proc == NULL)
        return false;
    bool good = true;
    for (const struct dirent *entry; good && (entry = readdir(proc)) != NULL;)
        if (isdigit((unsigned char)entry->d_name[0]) && atoi(entry->d_name) != getpid())
            good = look_at(l, atoi(entry->d_name), before);
    closedir(proc);
    if (l->n > 1)
        qsort(l->all, l->n, sizeof l->all[0], larger_first);
    return good;
}

void list_free(struct list *l)
{
    free(l->all);
}
