/*
 * A guest that is no engine but shows all that matters of one: a root in the heap, blocks made in use, and a log of the
 * callbacks.
 */
#ifndef ASH_TESTS_VMS_H
#define ASH_TESTS_VMS_H

#include "ashlar/vm.h"
#include "clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GUEST_BLOCKS = 64, MS = 1000000 };

struct guest {
    struct ash_heap *heap;
    unsigned touched; /* uses since the image: 0 in every new one */
    unsigned char *block[GUEST_BLOCKS];
};

/* What the callbacks do, and have done. */
struct host {
    char log[256]; /* the first letters of those called */
    int answer[6]; /* of init, enter, leave, reset, health */
    unsigned inits, destroys;
    struct ash_vmpool *pool;
};

enum { INIT, ENTER, LEAVE, RESET, HEALTH };

static int host_note(void *user, unsigned which, const char *letter)
{
    struct host *h = user;
    if (h == NULL)
        return 0;
    if (strlen(h->log) + 2 < sizeof h->log)
        strcat(h->log, letter);
    return h->answer[which];
}

static int guest_init(void *user, struct ash_heap *heap, void **root)
{
    struct guest *g = ash_heap_calloc(heap, 1, sizeof *g);
    int status = host_note(user, INIT, "i");
    if (g == NULL || status != 0)
        return g == NULL ? -ENOMEM : status;
    g->heap = heap;
    for (int i = 0; i < GUEST_BLOCKS; i++) {
        g->block[i] = ash_heap_malloc(heap, 500);
        if (g->block[i] == NULL)
            return -ENOMEM;
        memset(g->block[i], i, 500);
    }
    if (user != NULL)
        ((struct host *)user)->inits++;
    *root = g;
    return 0;
}

static int guest_enter(void *user, void *root)
{
    return ((struct guest *)root)->touched != 0 ? -EIO : host_note(user, ENTER, "e");
}

static int guest_leave(void *user, void *root)
{
    (void)root;
    return host_note(user, LEAVE, "l");
}

static int guest_reset(void *user, void *root)
{
    (void)root;
    return host_note(user, RESET, "r");
}

static int guest_health(void *user, void *root)
{
    ((struct guest *)root)->touched = 99; /* what it does is undone */
    return host_note(user, HEALTH, "h");
}

/* The heap is as init left it. */
static void guest_destroy(void *user, void *root)
{
    if (((struct guest *)root)->touched == 0 && user != NULL)
        ((struct host *)user)->destroys++;
    host_note(user, HEALTH, "d");
}

static const struct ash_vm_ops guest_ops = {guest_init,  guest_enter,  guest_leave,
                                            guest_reset, guest_health, guest_destroy};
static const struct ash_vm_ops bare_ops = {.init = guest_init};

/* Changes everything; returns how much of it was not as it should be. */
__attribute__((unused)) static int guest_use(struct guest *g)
{
    int wrong = g->touched++ != 0;
    for (int i = 0; i < GUEST_BLOCKS; i++) {
        wrong += g->block[i][0] != i || g->block[i][499] != i;
        memset(g->block[i], 255 - i, 500);
        if (i % 3 == 0)
            ash_heap_free(g->heap, g->block[i]);
        g->block[i] = ash_heap_malloc(g->heap, 100 + 7 * (size_t)i);
        wrong += g->block[i] == NULL;
    }
    return wrong;
}

__attribute__((unused)) static struct ash_vmpool_stats stats(struct ash_vmpool *p)
{
    struct ash_vmpool_stats s;
    ash_vmpool_stats(p, &s);
    return s;
}

/* Without waiting; NULL: none. */
__attribute__((unused)) static struct ash_vm *acquired(struct ash_vmpool *p)
{
    struct ash_vm *vm = NULL;
    return ash_vmpool_acquire(p, &vm, 0) == 0 ? vm : NULL;
}

#endif
