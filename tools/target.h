/*
 * Another process, read without its help: its memory by process_vm_readv, what the kernel tells of
 * it from /proc, and the anchor (base/anchor.h) of the Ashlar in it.
 *
 * The anchor is looked for in every file that the process has mapped, libraries of Ashlar's name
 * first, by the headers as they lie in its memory: so it is found in a stripped library, in a
 * static program, in another container, and where the file was replaced since.
 */
#ifndef ASHLAR_TOOLS_TARGET_H
#define ASHLAR_TOOLS_TARGET_H

#include "base/anchor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TARGET_NAME = 64, TARGET_ANCHORS = 256, TARGET_WHY = 400, TARGET_VERSION = 16 };

struct target {
    int pid;
    char name[TARGET_NAME]; /* of the program; control characters are replaced */
    char version[TARGET_VERSION];
    uint64_t note;    /* address of the note's content */
    uint64_t anchors; /* address of the first entry */
    unsigned count;
    struct anchor anchor[TARGET_ANCHORS];
};

enum target_state {
    TARGET_READY,
    TARGET_GONE,      /* no such process, or not any more */
    TARGET_FORBIDDEN, /* the kernel does not let us read it */
    TARGET_WITHOUT,   /* it has no Ashlar */
    TARGET_OTHER,     /* it has one that this tool does not know */
};

/*
 * Finds the process and its anchor. Unless TARGET_READY, `why` is a sentence with what to do about
 * it. `quick` looks only at the program and at files of Ashlar's name.
 */
enum target_state target_open(struct target *t, int pid, bool quick, char why[TARGET_WHY]);

/*
 * The same anchor is still at its place: the process has neither ended nor become another program.
 */
bool target_is_there(const struct target *t);

/* Reads memory of the process; all or nothing. */
bool target_read(int pid, uint64_t at, void *to, size_t n);

/* The address of the target's variable; 0: it has none of that name and size. */
uint64_t target_variable(const struct target *t, const struct anchor *own);

/* What the kernel tells of a process. */
struct target_usage {
    uint64_t rss, swap; /* bytes */
    unsigned threads;
    uint64_t age_ms; /* since it was started */
    unsigned uid;
};

bool target_usage(int pid, struct target_usage *out);

/* A mapping of a process, as /proc/PID/maps has it. */
struct target_mapping {
    uint64_t from, to, offset;
    char mode[5];     /* rwxp */
    const char *path; /* "" for none */
};

/* Calls `fn` for each until it answers false. False: they cannot be read; errno says why. */
bool target_each_mapping(int pid, bool (*fn)(void *arg, const struct target_mapping *m), void *arg);

#endif
