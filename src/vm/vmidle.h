/*
 * Where idle VMs are found: a place for each thread, which holds the one that the thread used last,
 * and a stack for the others. A VM is a number here, its index plus one.
 *
 *  1. An idle VM is in one place: a thread's own, or on the stack. Whoever takes it out has it.
 *  2. Only its thread fills an own place; anyone may empty it (a thread that finds nothing else).
 *  3. The stack's head holds {tag, top}; every change adds one to the tag, so a compare-and-swap
 *     that succeeds has read the links of this very stack.
 *  4. Who is going to wait first turns every empty place into WANTED, the stack's head too. Nothing
 *     can be put into a WANTED place: whoever tries has to give the VM to those who wait. So a VM
 *     that was put back before a place was marked is found by the marking, and one that comes later
 *     meets the mark: none is missed, with no order between two words but that of each alone.
 *
 * Putting is a release and taking an acquire of the same word: what the last user of a VM wrote.
 * Every change of the head is a read-modify-write, so whoever takes a VM off the stack also
 * acquires from the one that pushed it, however many have changed the head in between.
 */
#ifndef ASH_VMIDLE_H
#define ASH_VMIDLE_H

#include "vm/tally.h"

enum { VMIDLE_NONE = 0 };
#define VMIDLE_WANTED UINT32_MAX

struct vmidle {
    ASH_LINE_ALIGNED _Atomic(uint64_t) head; /* atomic: {tag : 32 | VM, NONE or WANTED : 32} */
    struct {
        ASH_LINE_ALIGNED _Atomic(uint32_t) vm; /* atomic: VM, NONE or WANTED; see rule 2 */
    } own[TALLY_LINES];
    _Atomic(uint32_t) *below; /* atomic: for each VM on the stack the one below; under `head` */
    unsigned lines;           /* const: own places in use */
};

/* For VMs 1 to n, and threads of the first `lines` lines; false: no memory. */
bool vmidle_init(struct vmidle *v, unsigned n, unsigned lines);
void vmidle_fini(struct vmidle *v);

/*
 * `line` is the thread's (vm/tally), TALLY_LINES for one without a place of its own. False: it is
 * wanted, and the caller still has it.
 */
bool vmidle_put(struct vmidle *v, unsigned line, uint32_t vm);

/* From the thread's own place; NONE. */
uint32_t vmidle_take_own(struct vmidle *v, unsigned line);

/* From the stack: the one that was put there last; NONE. */
uint32_t vmidle_pop(struct vmidle *v);

/* The VM in a thread's place, which may be gone by now. */
uint32_t vmidle_peek(const struct vmidle *v, unsigned line);

/* From any place; NONE. */
uint32_t vmidle_take_any(struct vmidle *v);

/* One thread at a time: marks all places, or undoes that and returns a VM that it has found. */
uint32_t vmidle_want(struct vmidle *v);
void vmidle_unwant(struct vmidle *v);

#endif
