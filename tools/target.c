#include "target.h"

#include "ashlar/ashlar.h"
#include "elf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

bool target_read(int pid, uint64_t at, void *to, size_t n)
{
    struct iovec here = {to, n}, there = {(void *)(uintptr_t)at, n};
    return process_vm_readv(pid, &here, 1, &there, 1, 0) == (ssize_t)n;
}

/* ---- what the kernel tells ---- */

static FILE *proc_open(int pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return fopen(path, "re");
}

bool target_each_mapping(int pid, bool (*fn)(void *arg, const struct target_mapping *m), void *arg)
{
    FILE *f = proc_open(pid, "maps");
    if (f == NULL)
        return false;
    char *line = NULL;
    size_t cap = 0;
    for (bool on = true; on && getline(&line, &cap, f) > 0;) {
        struct target_mapping m = {.path = ""};
        int behind = 0;
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s%n", &m.from, &m.to,
                   m.mode, &m.offset, &behind) != 4)
            continue;
        m.path = line + behind + strspn(line + behind, " ");
        on = fn(arg, &m);
    }
    free(line);
    bool ended = ferror(f) == 0;
    fclose(f);
    return ended;
}

static void name_read(int pid, char name[TARGET_NAME])
{
    snprintf(name, TARGET_NAME, "?");
    FILE *f = proc_open(pid, "comm");
    if (f == NULL)
        return;
    if (fgets(name, TARGET_NAME, f) != NULL)
        name[strcspn(name, "\n")] = '\0';
    fclose(f);
    for (char *s = name; *s != '\0'; s++)
        if ((unsigned char)*s < ' ' || (unsigned char)*s >= 127)
            *s = '?';
}

/* The process's start in clock ticks since boot, and its state's letter. */
static bool stat_read(int pid, unsigned long long *start, char *state)
{
    char text[1024];
    FILE *f = proc_open(pid, "stat");
    if (f == NULL)
        return false;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *behind = strrchr(text, ')'); /* names may hold anything */
    return behind != NULL &&
           sscanf(behind,
                  ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                  "%*s %*s %llu",
                  state, start) == 2;
}

bool target_usage(int pid, struct target_usage *out)
{
    *out = (struct target_usage){0};
    unsigned long long start;
    char state, line[256];
    struct timespec now;
    FILE *f = proc_open(pid, "status");
    if (f == NULL || !stat_read(pid, &start, &state) || state == 'Z' || state == 'X') {
        if (f != NULL)
            fclose(f);
        return false;
    }
    while (fgets(line, sizeof line, f) != NULL) {
        (void)sscanf(line, "Uid: %*u %u", &out->uid);
        (void)sscanf(line, "Threads: %u", &out->threads);
        if (sscanf(line, "VmRSS: %" SCNu64, &out->rss) == 1)
            out->rss *= 1024;
        if (sscanf(line, "VmSwap: %" SCNu64, &out->swap) == 1)
            out->swap *= 1024;
    }
    fclose(f);
    clock_gettime(CLOCK_BOOTTIME, &now);
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    uint64_t began = start * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
    out->age_ms = ms > began ? ms - began : 0;
    return true;
}

/* ---- the anchor ---- */

struct search {
    struct target *t;
    char program[4096]; /* what /proc/PID/exe leads to */
    bool named;         /* look at files of Ashlar's name, and at the program, only; or at others */
    bool found;
};

static bool read_memory(void *ctx, uint64_t at, void *to, size_t n)
{
    return target_read(*(const int *)ctx, at, to, n);
}

/* Two distances, then the version. */
struct note {
    int32_t first, behind;
    char version[TARGET_VERSION];
};

static bool note_is_good(const struct note *n, long size, uint64_t at, uint64_t *first,
                         uint64_t *count)
{
    *first = at + (uint64_t)(int64_t)n->first;
    uint64_t behind = at + sizeof n->first + (uint64_t)(int64_t)n->behind;
    *count = (behind - *first) / sizeof(struct anchor);
    return size >= 2 * (long)sizeof n->first && behind >= *first;
}

static bool look_at(void *arg, const struct target_mapping *m)
{
    struct search *s = arg;
    struct target *t = s->t;
    const char *slash = strrchr(m->path, '/');
    if (m->offset != 0 || m->mode[0] != 'r' || slash == NULL)
        return true;
    bool named = strncmp(slash + 1, "libashlar.", 10) == 0 || strcmp(m->path, s->program) == 0;
    struct elf e;
    struct note note = {0};
    uint64_t address, count;
    if (named != s->named || elf_open(&e, read_memory, &t->pid, true, m->from) != ELF_READABLE)
        return true;
    long size = elf_note(&e, "Ashlar", &note, sizeof note - 1, &address);
    t->note = e.bias + address;
    if (size < 0 || !note_is_good(&note, size, t->note, &t->anchors, &count))
        return true;
    memcpy(t->version, note.version, sizeof t->version);
    t->count = count < TARGET_ANCHORS ? (unsigned)count : TARGET_ANCHORS;
    s->found = target_read(t->pid, t->anchors, t->anchor, t->count * sizeof t->anchor[0]);
    return !s->found;
}

uint64_t target_variable(const struct target *t, const struct anchor *own)
{
    for (unsigned i = 0; i < t->count; i++)
        if (t->anchor[i].size == own->size &&
            strncmp(t->anchor[i].name, own->name, ANCHOR_NAME) == 0)
            return t->anchors + i * sizeof t->anchor[0] + (uint64_t)(int64_t)t->anchor[i].distance;
    return 0;
}

bool target_is_there(const struct target *t)
{
    struct note note = {0};
    uint64_t first, count;
    return target_read(t->pid, t->note, &note, offsetof(struct note, version)) &&
           note_is_good(&note, sizeof note, t->note, &first, &count) && first == t->anchors;
}

/* ---- sentences ---- */

__attribute__((format(printf, 3, 4))) static enum target_state
say(char why[TARGET_WHY], enum target_state state, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, TARGET_WHY, format, args);
    va_end(args);
    return state;
}

static int ptrace_scope(void)
{
    int scope = 0;
    FILE *f = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%d", &scope) != 1)
        scope = 0;
    fclose(f);
    return scope;
}

static enum target_state forbidden(const struct target *t, char why[TARGET_WHY])
{
    struct target_usage u;
    int scope = ptrace_scope();
    if (!target_usage(t->pid, &u))
        return say(why, TARGET_GONE, "process %d (%s) has ended", t->pid, t->name);
    if (geteuid() != 0 && u.uid != geteuid())
        return say(why, TARGET_FORBIDDEN,
                   "process %d (%s) belongs to user %u: run this as that user or as root", t->pid,
                   t->name, u.uid);
    if (geteuid() != 0 && scope > 0)
        return say(
            why, TARGET_FORBIDDEN,
            "the kernel forbids reading process %d (%s): kernel.yama.ptrace_scope is %d. Run "
            "this as root, or set it to 0 (sysctl kernel.yama.ptrace_scope=0)",
            t->pid, t->name, scope);
    if (geteuid() != 0)
        return say(why, TARGET_FORBIDDEN,
                   "the kernel forbids reading process %d (%s): it has rights of its own (setuid, "
                   "capabilities). Run this as root",
                   t->pid, t->name);
    return say(why, TARGET_FORBIDDEN,
               "the kernel forbids reading process %d (%s), even as root: in a container, add the "
               "capability SYS_PTRACE",
               t->pid, t->name);
}

static enum target_state open_found(const struct target *t, char why[TARGET_WHY])
{
    return strncmp(t->version, ASHLAR_VERSION, sizeof t->version) == 0
               ? TARGET_READY
               : say(why, TARGET_OTHER,
                     "process %d (%s) runs with Ashlar %s, and this is %s: use the `ashlar` of "
                     "that "
                     "version",
                     t->pid, t->name, t->version[0] != '\0' ? t->version : "of an unknown version",
                     ASHLAR_VERSION);
}

enum target_state target_open(struct target *t, int pid, bool quick, char why[TARGET_WHY])
{
    unsigned long long start;
    char state = '?', link[64], byte;
    *t = (struct target){.pid = pid};
    name_read(pid, t->name);
    if (!stat_read(pid, &start, &state))
        return say(why, TARGET_GONE, "there is no process %d", pid);
    if (state == 'Z' || state == 'X')
        return say(why, TARGET_GONE, "process %d (%s) has ended", pid, t->name);

    struct search s = {.t = t, .named = true};
    snprintf(link, sizeof link, "/proc/%d/exe", pid);
    ssize_t n = readlink(link, s.program, sizeof s.program - 1);
    s.program[n > 0 ? n : 0] = '\0';
    errno = 0;
    bool readable = target_each_mapping(pid, look_at, &s);
    s.named = false;
    if (readable && !s.found && !quick)
        readable = target_each_mapping(pid, look_at, &s);
    if (s.found)
        return open_found(t, why);
    errno = 0;
    struct iovec here = {&byte, 1}, there = {(void *)(uintptr_t)4096, 1};
    if (!readable || (process_vm_readv(pid, &here, 1, &there, 1, 0) < 0 && errno == EPERM))
        return forbidden(t, why);
    return say(
        why, TARGET_WITHOUT,
        "process %d (%s) does not run with Ashlar: start it with `ashlar run -- PROGRAM`, or "
        "with libashlar.so in LD_PRELOAD",
        pid, t->name);
}
