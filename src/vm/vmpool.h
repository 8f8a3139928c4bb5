/*
 * Pools of VMs (ashlar/vmpool.h): what a VM is, and who has it.
 *
 *     VACANT --create--> BUSY --> IDLE <--> LEASED --release--> BUSY --> IDLE, or VACANT again
 *
 * A VM is a slot of the pool's array. In each state one party has it, and all fields that are
 * `owner`'s: VACANT, the pool's lock; IDLE, whoever takes it from vmidle; LEASED, the thread that
 * acquired it; BUSY, the thread that creates, resets or destroys it. State and lessee change hands
 * with it, and are read by everybody to name misuse and for statistics.
 *
 *  1. An idle VM is put into and taken from vmidle, without the lock: acquire and release are that,
 *     and the restore.
 *  2. Who finds none takes the lock and looks again; then takes a vacant slot, and creates a VM in
 *     it with no lock held; then waits, in a queue, with a record on its own stack, having marked
 *     all places of vmidle. While somebody waits there is no idle VM and no vacant slot: what comes
 *     back is refused by vmidle, and goes to the first of the queue by name, as does a slot that
 *     becomes vacant. So nobody overtakes.
 *  3. A sweep (VMs that are idle for long) takes them out of vmidle one by one with the lock held,
 *     so an acquire that misses one waits for the lock instead of creating another.
 *  4. No callback runs with the lock held.
 *
 * Rejected: respool's list under a lock for all of it. With eight threads that each use a VM for
 * some microseconds, the lock's line and the list's are what they wait for.
 */
#ifndef ASH_VMPOOL_H
#define ASH_VMPOOL_H

#include "ashlar/vmpool.h"
#include "base/name.h"
#include "os/os_fork.h"
#include "os/os_lock.h"
#include "vm/shown.h"
#include "vm/vmcount.h"
#include "vm/vmidle.h"

enum vm_state { VM_VACANT, VM_IDLE, VM_LEASED, VM_BUSY };

struct ash_vm {
    ASH_LINE_ALIGNED _Atomic(uint32_t) state; /* atomic: enum vm_state */
    _Atomic(uint32_t) worker;                 /* atomic: the lessee's number, for messages */
    _Atomic(uintptr_t) lessee;                /* atomic: the thread, of LEASED and BUSY */
    _Atomic(uint64_t) idle_ms;                /* atomic: the owner's; when it was last put back */
    _Atomic(uint64_t) image_bytes;            /* atomic: the owner's; 0 when VACANT */
    struct ash_vmpool *pool;                  /* const */
    struct ash_heap *heap;                    /* owner, as are all below */
    void *root;
    uint64_t uses;
    uint64_t born_ms;
    struct ash_vm *also; /* the next one that a sweep has taken */
    bool trimmed;
    bool surplus; /* of one that a sweep has taken: it is to be destroyed */
    bool found;   /* a forked child's: it is idle */
};

struct vmwaiter {
    struct vmwaiter *next;  /* lock */
    struct ash_vm *given;   /* lock, until `word` has changed; then the waiter */
    _Atomic(uint32_t) word; /* atomic: 0 until a slot is given; publishes `given` */
};

struct ash_vmpool {
    struct vmidle idle;
    struct ash_vm *vm;               /* const: config.max of them */
    struct ash_vm_ops ops;           /* const, as all up to the lock */
    struct ash_vmpool_config config; /* defaults filled in */
    void *user;
    bool through; /* ASHLAR_VMPOOL=0: no VM is used twice */
    char name[NAME_CAP];
    struct shown *shown;
    struct os_fork fork;
    ASH_LINE_ALIGNED struct os_lock lock;
    struct vmwaiter *first, **last;  /* lock: the queue */
    uint32_t *vacant;                /* lock: the vacant slots, the next one last */
    _Atomic(uint32_t) vacancies;     /* atomic: the lock's; how many those are */
    _Atomic(uint32_t) waiting;       /* atomic: the lock's; the queue's length */
    _Atomic(uint64_t) next_sweep_ms; /* atomic: whoever moves it on does the sweep */
    struct vmcounts counts;
};

#define VM_NS_PER_MS 1000000 /* ages are compared in ms */

/* ---- vmlife.c: one VM, in the caller's hands; no lock is held ---- */

/* Makes the caller the owner. */
void vm_own(struct ash_vm *vm, enum vm_state state);

/* Fills a vacant slot that is the caller's: 0 and BUSY, or a negative errno. */
int vm_create(struct ash_vm *vm);

/* Empties it. `whole`: the heap is as its image is, or can be made so. */
void vm_destroy(struct ash_vm *vm, bool whole);

/* Ends a use: the callbacks and the image. False: it is to be destroyed; why, has been counted. */
bool vm_reset(struct ash_vm *vm, bool poisoned, bool sampled);

/* ---- vmpool.c: who gets which ---- */

int vmpool_acquire(struct ash_vmpool *p, struct ash_vm **out, int64_t timeout_ns);
void vmpool_release(struct ash_vm *vm, bool poisoned);

/* Makes VMs until there are `n`. */
int vmpool_fill(struct ash_vmpool *p, unsigned n);

/* Deals with VMs that have been idle for `idle_ms` at the time `now_ms`. */
void vmpool_sweep(struct ash_vmpool *p, uint64_t now_ms, uint64_t idle_ms);

/* For os_fork_add. */
void vmpool_hold(struct os_fork *self);
void vmpool_unhold(struct os_fork *self, bool child);

#endif
