/*
 * Pools of virtual machines: script engines that are made once and are as new for every use. Part
 * of ashlar/vm.h.
 *
 * A VM is an isolated heap (ashlar/heap.h) in which `init` builds an engine: libraries loaded,
 * globals set, scripts compiled. Then the heap's image is taken. A release puts the image back, so
 * the next user finds exactly what `init` left, whatever the last one did to it: globals, changed
 * prototypes, pending jobs, a script that ran out of memory or was left by longjmp.
 *
 *     static int js_init(void *user, struct ash_heap *heap, void **root);    0, or an errno
 *     static int js_enter(void *user, void *root);
 *
 *     struct ash_vmpool *pool = ash_vmpool_create("js",
 *         &(struct ash_vm_ops){.init = js_init, .enter = js_enter},
 *         ASH_VMPOOL_CONFIG(.heap_bytes = 32 << 20, .max = 8, .flags = ASH_VM_STICKY), NULL);
 *
 *     struct ash_vm *vm;
 *     int status = ash_vmpool_acquire(pool, &vm, 50 * INT64_C(1000000));
 *     if (status == 0) {
 *         run(ash_vm_root(vm), row);
 *         ash_vmpool_release(pool, vm, 0);         or ASH_VM_POISON: it is not used any more
 *     }
 *
 * The callbacks, all of which but `init` may be NULL; `root` is what `init` has set. Those that
 * return an int return 0, or an errno (of any sign), and then the VM is destroyed and another takes
 * its place.
 *
 *     init      builds the engine, all of whose memory comes from the heap
 *     enter     in acquire: what depends on the thread (QuickJS: JS_UpdateStackTop), on the moment
 *               (the seed of random numbers), or on the clock
 *     leave     in release: closes what the guest holds outside its heap. The engine may have been
 *               left in the middle of anything, so it must not be run
 *     reset     then: puts back what lies outside the heap
 *     health    then: says whether all is well. What it does inside the heap is undone as well
 *     destroy   at the VM's end: gives back what lies outside. The heap is as `init` left it, and
 *               is gone at once afterwards; so there is no need to free the engine
 *
 * How many: an acquire takes an idle VM, makes one while there are fewer than `max`, or waits. Who
 * waits is served in order, and nobody who comes later gets one before. Idle VMs are taken last in,
 * first out, so those that are not needed for as many as are in use at a time stay idle; when they
 * have been for `idle_trim_ns`, they are destroyed down to `min`, and the others' memory goes back
 * to the system as far as the image can stand for it. So no more are kept than were in use at a
 * time lately. With ASH_VM_STICKY a thread gets the VM that it used last, caches warm, and takes
 * another thread's before it makes a new one.
 *
 * Threads: any thread may call anything. A VM belongs to the thread that acquired it; others must
 * not use it, unless they adopt it. An acquire that finds an idle VM, and a release that nobody
 * waits for, take no lock: two or three locked instructions. A forked child has the idle VMs, and
 * those of the thread that forked; the others' are dropped. It may go on using the pool.
 *
 * ASHLAR_VMPOOL=0 in the environment makes a VM for each acquire and destroys it in the release:
 * the same program without the pool, to compare with.
 *
 * Caveats
 *   All of ashlar/heap.h's: what is drawn before the image is drawn again after every restore, so
 *   seed in `enter`; memory made in a VM is gone after its release. A VM that is not released is
 *   never anybody else's, also when its thread ends. A VM takes its image and the pages that uses
 *   write, see ash_heap_snapshot: of a small one that may be all of it once more, until it has been
 *   idle for `idle_trim_ns`. Misuse (releasing twice, or what is not the pool's, or another
 *   thread's VM) is refused and named on standard error; using another thread's engine without
 *   asking the pool for it cannot be seen. There is no thread behind a pool: what is idle too long
 *   is looked for in releases now and then, and in ash_vmpool_maintain. Do not fork in a signal
 *   handler.
 */
#ifndef ASHLAR_VMPOOL_H
#define ASHLAR_VMPOOL_H

#include <ashlar/config.h>
#include <ashlar/heap.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_vm;
struct ash_vmpool;

struct ash_vm_ops {
    int (*init)(void *user, struct ash_heap *heap, void **root);
    int (*enter)(void *user, void *root);
    int (*leave)(void *user, void *root);
    int (*reset)(void *user, void *root);
    int (*health)(void *user, void *root);
    void (*destroy)(void *user, void *root);
};

enum { ASH_VM_STICKY = 1 }; /* of the pool: a thread gets its last VM again */
enum { ASH_VM_POISON = 1 }; /* of a release: the VM is destroyed */

struct ash_vmpool_config {
    size_t struct_size;       /* set by ASH_VMPOOL_CONFIG */
    size_t heap_bytes;        /* what a VM may allocate at most; 0: 128 MiB */
    size_t max_bytes;         /* one that used more is made anew; 0: 64 MiB */
    unsigned min;             /* made with the pool, and kept */
    unsigned max;             /* at a time, up to 65536; 0: 64, or `min` if that is more */
    uint64_t max_uses;        /* one that had so many is made anew; 0: no bound */
    int64_t max_age_ns;       /* likewise for its age; 0: no bound */
    int64_t idle_trim_ns;     /* see above; 0: 10 s, negative: never */
    enum ash_reset_mode mode; /* of the heaps */
    unsigned verify_every;    /* every so many releases of a VM are checked; 0: none */
    unsigned flags;           /* ASH_VM_STICKY */
};

#define ASH_VMPOOL_CONFIG(...) ASH_CONFIG(struct ash_vmpool_config, __VA_ARGS__)

/*
 * Durations in nanoseconds. The two parts are half an octave apart, so percentiles are at most
 * half as much again as the true ones. Of acquires and releases of VMs that were there, and of
 * resets, one in 16 is measured, and counts for 16.
 */
struct ash_vm_time {
    uint64_t count, total_ns, p50_ns, p99_ns, max_ns;
};

struct ash_vmpool_stats {
    uint64_t vms;             /* there are now; of them… */
    uint64_t idle;            /* … ready to be acquired */
    uint64_t leased;          /* … acquired */
    uint64_t waiting;         /* threads that wait for one */
    uint64_t image_bytes;     /* of all images together */
    uint64_t acquires;        /* that got a VM */
    uint64_t hits;            /* of them, one that was there */
    uint64_t own;             /* of them, the thread's own last one */
    uint64_t created;         /* VMs made */
    uint64_t create_failures; /* and not made: no memory, or `init` failed */
    uint64_t destroyed;       /* for whatever reason; because… */
    uint64_t expired;         /* … of uses, age or bytes */
    uint64_t poisoned;        /* … of ASH_VM_POISON */
    uint64_t unfit;           /* … a callback said so */
    uint64_t mismatches;      /* … the check after a release found it different from its image */
    uint64_t surplus;         /* … it was not needed any more */
    uint64_t trimmed;         /* idle VMs whose memory went back */
    uint64_t waits;           /* acquires that had to wait */
    uint64_t timeouts;        /* and in vain, or did not want to */
    uint64_t misuses;         /* calls that were refused */
    struct ash_vm_time create, acquire, reset, release;
};

/*
 * A pool of that name (1 to 31 printable ASCII characters without quotes and backslashes, copied;
 * NULL: "vms"), with `min` VMs. `config` may be NULL: all defaults. `ops` is copied. NULL and
 * EINVAL: no `init`, a bad name, min > max, negative ages, a heap of less than 64 KiB or more than
 * 32 GiB, unknown modes or flags; ENOMEM; or what `init` returned.
 */
struct ash_vmpool *ash_vmpool_create(const char *name, const struct ash_vm_ops *ops,
                                     const struct ash_vmpool_config *config, void *user);

/*
 * Destroys all VMs and the pool, which nobody uses any more. 0, or -EBUSY and nothing done while a
 * VM is acquired, or somebody waits for one. NULL is fine.
 */
int ash_vmpool_destroy(struct ash_vmpool *pool);

/*
 * A VM for the calling thread into `*vm`. Where none is to be had it waits `timeout_ns`: negative
 * for ever, 0 not at all. 0; -ETIMEDOUT; -ENOMEM; what `init` or `enter` returned, negative;
 * -EINVAL for NULL. Cost: some 50 ns and `enter`.
 */
int ash_vmpool_acquire(struct ash_vmpool *pool, struct ash_vm **vm, int64_t timeout_ns);

/*
 * Gives a VM back. 0, or -EINVAL, a message and nothing done: it is not acquired, not by this
 * thread or not from this pool; without a message for NULL and unknown flags. Cost: some 50 ns, the
 * callbacks, and ash_heap_restore.
 */
int ash_vmpool_release(struct ash_vmpool *pool, struct ash_vm *vm, unsigned flags);

/*
 * The calling thread has the VM from now on, instead of the one that acquired it and does not use
 * it meanwhile; `enter` is called. 0; -EINVAL: it is not acquired; what `enter` returned: the VM
 * is the caller's, to be released as poisoned.
 */
int ash_vm_adopt(struct ash_vm *vm);

/*
 * What `init` has set, and the heap. NULL, EINVAL and a message in a thread that has not acquired
 * the VM. Cost: 2 ns.
 */
void *ash_vm_root(struct ash_vm *vm);
struct ash_heap *ash_vm_heap(struct ash_vm *vm);

/* Makes VMs until there are `n`. 0, -EINVAL: more than `max`; or why one could not be made. */
int ash_vmpool_warm(struct ash_vmpool *pool, unsigned n);

/* Does to all idle VMs what their time would bring, for when memory is short. 0 or -EINVAL. */
int ash_vmpool_trim(struct ash_vmpool *pool);

/*
 * Looks for VMs that have been idle too long, and makes new ones up to `min`. `now_ns` is the time
 * of CLOCK_MONOTONIC, or a later one to test with; negative: to be read from the clock. 0, or why
 * one could not be made.
 */
int ash_vmpool_maintain(struct ash_vmpool *pool, int64_t now_ns);

/* Reads the figures: 0, or -EINVAL. Cost: a walk over the workers and VMs. */
int ash_vmpool_stats(struct ash_vmpool *pool, struct ash_vmpool_stats *out);

/*
 * The part of one worker, numbered from 0: a thread, or those that had its number after each other;
 * number 64 are all that were there when 64 others were. What is not a worker's is 0. -EINVAL past
 * the last number, -ENOENT where no thread of that number has used the pool.
 */
int ash_vmpool_worker_stats(struct ash_vmpool *pool, unsigned worker, struct ash_vmpool_stats *out);

/* Writes the figures as text, of the pool and of each worker: 0, -EINVAL, or the write's errno. */
int ash_vmpool_dump(struct ash_vmpool *pool, int fd);

#ifdef __cplusplus
}
#endif

#endif
