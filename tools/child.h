/* Commands as children: what they are given, what they cost, and how they are ended. */
#ifndef ASHLAR_TOOLS_CHILD_H
#define ASHLAR_TOOLS_CHILD_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct child_plan {
    char *const *command;
    char *const *settings; /* NAME=VALUE, or NAME to take it out of the environment; NULL ends */
    int in, out, err;      /* descriptors; -1: /dev/null */
};

struct child_figures {
    int64_t wall_ns, user_ns, system_ns;
    int64_t rss; /* bytes; of the largest process */
    int64_t minor_faults, major_faults;
    int64_t waits;    /* times it gave up a processor */
    int64_t preempts; /* times it was made to */
    int status;       /* of exit; 128 + n for signal n */
};

/* Set by SIGINT, SIGTERM and SIGHUP once child_catch was called; the child was ended by then. */
extern volatile sig_atomic_t child_interrupted;
void child_catch(void);

/*
 * Runs the command in a process group of its own and waits for it. 0, or the errno with which it
 * could not be started. A process's peak memory counts from before it becomes the command, and that
 * is this program: what it reports is never below some 2 MiB.
 */
int child_run(const struct child_plan *plan, struct child_figures *figures);

#endif
