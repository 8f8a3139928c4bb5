/*
 * What has to happen around fork, for layers that keep locks: before it every lock is taken, so
 * that no other thread is in the middle of a change; afterwards both processes give theirs back.
 * Rejected: a child that repairs what a vanished thread left half done, which needs a story for
 * each instruction.
 */
#ifndef ASH_OS_FORK_H
#define ASH_OS_FORK_H

#include "base/base.h"

/* A thing's part, in the thing's own memory. */
struct os_fork {
    void (*hold)(struct os_fork *self); /* takes all its locks; calls nobody */
    /* Gives them back. In the child no other thread exists: what those were doing is dropped. */
    void (*release)(struct os_fork *self, bool child);
    struct os_fork *next; /* under the lock of os_fork.c */
    struct os_fork *prev;
};

/* Adds a thing; 0 or -ENOMEM. Any thread, none of the thing's locks held. */
int os_fork_add(struct os_fork *self);

/* Afterwards neither function is called any more. */
void os_fork_remove(struct os_fork *self);

/* The calling thread: equal for two calls exactly if one thread made them, in parent and child. */
uintptr_t os_fork_self(void);

#endif
