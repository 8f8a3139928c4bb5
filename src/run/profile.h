/*
 * The heap profile and the report of leaks, as far as libashlar.so is concerned: whether they are
 * asked for, when they are written, and what their library and this one need of each other.
 *
 * The call stacks, the table of sites, the writer and the search for leaks are
 * libashlar-profile.so, beside libashlar.so, which is opened where ASHLAR_PROFILE or ASHLAR_LEAKS
 * asks: a program that does not ask has neither its code nor its tables.
 */
#ifndef ASH_PROFILE_H
#define ASH_PROFILE_H

#include "heap/walk.h"

/* Changes when one of the two structs does. */
#define PROFILE_VERSION 1u

/* What the profile library gets. */
struct profile_host {
    unsigned version;
    uint64_t mean; /* bytes between samples; 0: no profile, leaks alone */
    const char *path;
    bool leaks;
    bool (*expand)(char *out, size_t cap, const char *path, int pid); /* dump_expand */
    bool (*absolute)(char *out, size_t cap, const char *path);        /* dump_absolute */
    int (*standard_error)(void);                                      /* dump_stderr */
    void (*walk)(void (*fn)(const struct walk_block *, void *), void *arg);
    const uintptr_t *window_from; /* all blocks lie from here, which is in no other word … */
    uintptr_t (*window_to)(void); /* … to here */
    const void *code, *code_end;  /* of libashlar.so, which call stacks are shown without */
};

/* What it gives. */
struct profile_library {
    struct sample_sink sink;
    int (*dump)(int fd);  /* the profile as it is now: ash_profile_dump */
    int (*leaks)(int fd); /* ash_leaks_dump */
    void (*write)(void);  /* the profile to its path; also in a signal handler */
    void (*end)(void);    /* the process exits: the profile, the leaks */
};

#define PROFILE_ENTRY "ash_profile_attach"

/* Fills `out` and is ready; false: it is of another version. */
typedef bool profile_attach(const struct profile_host *host, struct profile_library *out);

/*
 * Opens the profile library and returns its entry; NULL, and it has said why. In the shared object
 * alone: a program linked statically has none.
 */
profile_attach *profile_open(void);

/* Reads the options, once, before main, after dump_init. */
void profile_init(void);

/* The process ends: writes what the options ask for. */
void profile_at_exit(void);

#endif
