/*
 * ashlar/heap.h: isolated heaps, for script engines and other guests. A heap is one private region
 * of address space with an allocator of its own: everything that an engine has made is inside,
 * vanishes with the heap at once, and can be put back to an earlier state at once.
 *
 *     struct ash_heap *heap = ash_heap_create("script", 64 << 20, 0);
 *     lua_State *L = lua_newstate(ash_heap_lua_alloc, heap);
 *     luaL_openlibs(L);
 *     ash_heap_snapshot(heap, ASH_RESET_AUTO);
 *     for (;;) {
 *         serve_one_request(L);
 *         ash_heap_restore(heap);
 *     }
 *
 * QuickJS takes its allocator as a struct of functions; these fit as they are, with the heap as the
 * opaque pointer of JS_NewRuntime2:
 *
 *     static const JSMallocFunctions functions = ASH_HEAP_QUICKJS;     or ASH_HEAP_QUICKJS_NG
 *     JSRuntime *rt = JS_NewRuntime2(&functions, heap);
 *
 * Blocks are aligned to 16 bytes and packed: no headers, two bits for each 16 bytes. The same calls
 * on a new heap give the same offsets. Threads: one at a time in each heap; a heap may move from
 * thread to thread if something orders the two. Sizes are bytes.
 *
 * Caveats
 *   A heap's memory holds absolute pointers: an image serves the heap that it was made of, and the
 *   children that fork makes, no other. What is outside is not put back: file descriptors, locks,
 *   memory of malloc. Finalizers do not run in ash_heap_restore, so close what the guest holds
 *   before; pointers to blocks made after the snapshot dangle after it. Whatever the guest drew
 *   before the snapshot it has again after every restore: seed random numbers and hash keys anew
 *   after each, where guests are not to guess them. An engine's limit of the stack belongs to the
 *   thread that created it (QuickJS: JS_UpdateStackTop). A guest that is left with siglongjmp can
 *   be restored, wherever it stood, this heap's functions included. What system calls write for
 *   the guest (read, recv) is seen by scans; memory of the heap must not be handed to the system
 *   for writes that bypass the page tables (O_DIRECT, io_uring's fixed buffers, RDMA): scans do
 *   not see those, COPY puts them back too. Nor may the guest remap, protect or advise it. Locked
 *   memory (mlock, mlockall) is copied where pages cannot be dropped. A child of fork opens its
 *   own descriptors at its first restore; where it may not, after setuid, without /proc or under a
 *   filter of system calls, it copies. An image is a file in memory; where files may not be as
 *   large (RLIMIT_FSIZE) it is ordinary memory, and is copied. A heap does not count for
 *   ash_limit_set; its own limit holds. A heap with an image is up to four mappings for
 *   vm.max_map_count.
 */
#ifndef ASHLAR_HEAP_H
#define ASHLAR_HEAP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_heap;

enum {
    ASH_HEAP_VERIFY = 1 /* every ash_heap_restore is followed by ash_heap_verify, see there */
};

/* How ash_heap_restore puts the image back. */
enum ash_reset_mode {
    ASH_RESET_AUTO,      /* what is fastest for this heap's uses, see ash_heap_restore */
    ASH_RESET_COPY,      /* copies the whole image */
    ASH_RESET_SCAN,      /* asks the system which pages are no longer the image's (Linux 6.7) */
    ASH_RESET_SCAN_UFFD, /* the same of those written since: userfaultfd */
    ASH_RESET_DROP       /* drops all pages written: slow, and the least memory when idle */
};

struct ash_heap_stats {
    uint64_t live_bytes;  /* what live blocks occupy, their rounding to 16 included */
    uint64_t live_blocks; /* their number */
    uint64_t used_bytes;  /* all that was touched: records, blocks, what is free among them */
    uint64_t image_bytes; /* used_bytes at the snapshot; 0: there is none */
    uint64_t limit_bytes; /* of blocks: reserve_bytes */
    uint64_t dirty_pages; /* that the last restore copied; 0 for DROP */
    uint64_t restores;    /* since the heap was created */
    uint64_t mode;        /* enum ash_reset_mode in use, never AUTO while there is an image */
    uint64_t fallbacks;   /* modes that did not work here, so that another is in use */
    uint64_t mismatches;  /* restores that ash_heap_verify found wrong, each put right */
    uint64_t refused;     /* allocations beyond the limit */
    uint64_t copy_ns;     /* AUTO has tried: what a restore by COPY took; 0: it has not */
    uint64_t scan_ns;     /* likewise by scan, with the page faults of the use before it */
};

/*
 * A heap whose blocks take up to `reserve_bytes` (64 KiB to 32 GiB), rounded up to pages. Memory is
 * taken as it is used, address space at once. NULL and EINVAL: a size or a flag that is not
 * allowed, a name longer than 31 characters or with others than printable ASCII, quotes or
 * backslashes, or NULL; ENOMEM. Any thread. Cost: three system calls.
 */
struct ash_heap *ash_heap_create(const char *name, size_t reserve_bytes, unsigned flags);

/* Everything in the heap is gone. NULL is fine. Cost: up to two system calls and its pages. */
void ash_heap_destroy(struct ash_heap *heap);

/*
 * As malloc, realloc, calloc and free. NULL and ENOMEM beyond the limit; a block of 0 bytes is to
 * be freed too; ash_heap_realloc of NULL allocates, of 0 bytes frees and returns NULL. Growth is in
 * place where what follows is free, shrinking always. A double free, or a pointer that is no block
 * of this heap, is named (`ashlar: double free of 0x… in heap NAME`) and aborts, or with
 * ASHLAR_ON_ERROR=warn does nothing (NULL and EINVAL of ash_heap_realloc). errno is kept by frees.
 * Cost: some ten nanoseconds each.
 */
void *ash_heap_malloc(struct ash_heap *heap, size_t n);
void *ash_heap_realloc(struct ash_heap *heap, void *p, size_t n);
void *ash_heap_calloc(struct ash_heap *heap, size_t count, size_t n);
void ash_heap_free(struct ash_heap *heap, void *p);

/* `align` is a power of two, else NULL and EINVAL. */
void *ash_heap_aligned(struct ash_heap *heap, size_t align, size_t n);

/* Bytes that the block holds; 0 for NULL and for what is no live block of the heap. */
size_t ash_heap_usable(const struct ash_heap *heap, const void *p);

/* 1 when `p` points into the memory that the heap's blocks may take, else 0. */
int ash_heap_owns(const struct ash_heap *heap, const void *p);

/*
 * Makes the image of the heap as it is now; an earlier one is forgotten. A mode that does not work
 * here is replaced by one that does, which the statistics tell. 0; -EINVAL: no such mode; -ENOMEM:
 * the heap is as it was, but has no image. Cost: a copy of the memory used and ten system calls.
 *
 * Memory: the image is a file in memory, of which the heap is a private mapping from then on, so a
 * page is there once until a use writes to it. COPY writes to all. With scans it is the pages that
 * are written again and again; above 2 MiB the others come to a sixteenth of the image at most,
 * below it, and where each use writes more than a tenth, they are kept, since a page's first write
 * costs more than its copy. PSS and cgroups
 * count this right, RSS counts pages of the image twice.
 */
int ash_heap_snapshot(struct ash_heap *heap, enum ash_reset_mode mode);

/*
 * Puts the heap back to its image: content, blocks and free memory are exactly what they were; what
 * lies beyond is zero again. 0, or -EINVAL before a snapshot. It may be repeated, and be the first
 * call in a child of fork. Cost: microseconds, by mode and pages written.
 *
 * ASH_RESET_AUTO copies images up to 64 KiB. Up to 2 MiB it times the first 96 restores, scans and
 * then copies, and keeps to the faster, SCAN_UFFD or COPY (SCAN without userfaultfd), which the
 * statistics tell with its reasons; it tries again every 32,768 restores. Above 2 MiB it takes the
 * first of SCAN_UFFD, SCAN, DROP and COPY that passes a test.
 */
int ash_heap_restore(struct ash_heap *heap);

/*
 * Compares the heap with its image, byte by byte, and checks every record: the number of pages that
 * differ and of faults, so 0 after a restore; -EINVAL before a snapshot. Without changes
 * in between, a difference means that the system's answers were wrong: ASH_HEAP_VERIFY then copies
 * the image, counts a mismatch and goes on in mode COPY.
 */
int ash_heap_verify(struct ash_heap *heap);

/* Frees everything and forgets the image: the heap is as created. */
void ash_heap_reset(struct ash_heap *heap);

/*
 * For a heap that will be idle: puts the image back, and gives all memory but the image back to the
 * system. The next uses take what they need of it again, by page faults. 0, or -EINVAL before a
 * snapshot.
 */
int ash_heap_trim(struct ash_heap *heap);

/* Fills `out`; 0, or -EINVAL when it is NULL. Called by the thread that uses the heap. */
int ash_heap_stats(const struct ash_heap *heap, struct ash_heap_stats *out);

/* Writes the same as text; 0, or the negative errno of the write. */
int ash_heap_dump(const struct ash_heap *heap, int fd);

/* A lua_Alloc; `ud` is the heap. */
void *ash_heap_lua_alloc(void *ud, void *p, size_t old_size, size_t n);

/*
 * The functions of QuickJS, whose state counts blocks and bytes and has the heap as its opaque
 * pointer, and of quickjs-ng, which passes the heap itself, as Duktape does. ash_heap_block_usable
 * finds the heap of the block, fastest if that heap was the last that the thread allocated from
 * through these; 0 where there is none.
 */
struct JSMallocState;
void *ash_heap_quickjs_malloc(struct JSMallocState *state, size_t n);
void ash_heap_quickjs_free(struct JSMallocState *state, void *p);
void *ash_heap_quickjs_realloc(struct JSMallocState *state, void *p, size_t n);
void *ash_heap_quickjs_ng_calloc(void *heap, size_t count, size_t n);
void *ash_heap_quickjs_ng_malloc(void *heap, size_t n);
void ash_heap_quickjs_ng_free(void *heap, void *p);
void *ash_heap_quickjs_ng_realloc(void *heap, void *p, size_t n);
size_t ash_heap_block_usable(const void *p);

#define ASH_HEAP_QUICKJS                                                                           \
    {                                                                                              \
        ash_heap_quickjs_malloc, ash_heap_quickjs_free, ash_heap_quickjs_realloc,                  \
            ash_heap_block_usable                                                                  \
    }
#define ASH_HEAP_QUICKJS_NG                                                                        \
    {                                                                                              \
        ash_heap_quickjs_ng_calloc, ash_heap_quickjs_ng_malloc, ash_heap_quickjs_ng_free,          \
            ash_heap_quickjs_ng_realloc, ash_heap_block_usable                                     \
    }

#ifdef __cplusplus
}
#endif

#endif
