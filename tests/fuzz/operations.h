/*
 * The operations of the target `malloc` that stand in a file of their own, and what they share with the others.
 */
#ifndef ASH_TESTS_OPERATIONS_H
#define ASH_TESTS_OPERATIONS_H

#include "fuzz.h"
#include "model.h"

extern _Thread_local unsigned self; /* which of the threads this is */

size_t take_size(struct input *in);
size_t take_align(struct input *in);
struct block *take_live(struct input *in); /* NULL: there is none */
unsigned slot_of(const struct block *b);

/* Frees the block by one of the ways to do so, of which there are eight. */
void release(struct block *b, unsigned how);

/* wrong_calls.c */
void op_foreign(struct input *in);
void op_interior(struct input *in);
void op_double_free(struct input *in);
void op_stale_free(struct input *in);
void op_stale_write(struct input *in);
void op_wrong_size(struct input *in);
void op_overflow(struct input *in);

#endif
