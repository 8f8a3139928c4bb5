#include "os/os_fork.h"

#include "os/os_lock.h"

#include <errno.h>
#include <pthread.h>

static struct os_lock lock;   /* taken before any lock of a thing */
static struct os_fork *first; /* under the lock, like `attached` */
static bool attached;

static void prepare(void)
{
    os_lock(&lock);
    for (struct os_fork *f = first; f != NULL; f = f->next)
        f->hold(f);
}

static void release_all(bool child)
{
    for (struct os_fork *f = first; f != NULL; f = f->next)
        f->release(f, child);
    os_unlock(&lock);
}

static void parent(void)
{
    release_all(false);
}

static void child(void)
{
    release_all(true);
}

int os_fork_add(struct os_fork *self)
{
    os_lock(&lock);
    if (!attached)
        attached = pthread_atfork(prepare, parent, child) == 0;
    bool done = attached;
    if (done) {
        self->prev = NULL;
        self->next = first;
        if (first != NULL)
            first->prev = self;
        first = self;
    }
    os_unlock(&lock);
    return done ? 0 : -ENOMEM;
}

void os_fork_remove(struct os_fork *self)
{
    os_lock(&lock);
    if (self->prev != NULL)
        self->prev->next = self->next;
    else
        first = self->next;
    if (self->next != NULL)
        self->next->prev = self->prev;
    os_unlock(&lock);
}

uintptr_t os_fork_self(void)
{
    static ASH_TLS char mark;
    return (uintptr_t)&mark;
}
