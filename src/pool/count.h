/*
 * Pools in the statistics.
 */
#ifndef ASH_COUNT_H
#define ASH_COUNT_H

/* Adds them to every format. More than once is once. */
void count_boot(void);

#endif
