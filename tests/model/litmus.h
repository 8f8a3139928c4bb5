/*
 * Is the checker right? See litmus.c.
 */
#ifndef ASH_MODEL_LITMUS_H
#define ASH_MODEL_LITMUS_H

/* Test points for all of it; `programs` random ones. */
void litmus_test(unsigned programs);

#endif
