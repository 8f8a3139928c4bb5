/*
 * The functions of libashlar in this process, from the symbol table of its file: which of them an instruction belongs
 * to. All but library_open may be called in signal handlers.
 */
#ifndef ASH_TESTS_LIBRARY_H
#define ASH_TESTS_LIBRARY_H

#include <stddef.h>
#include <stdint.h>

enum { LIBRARY_FUNCTIONS_MAX = 1024 };

/* The number of functions found; 0: the library or its symbols are not there, or the machine is not known. */
int library_open(void);

/* The index of the function that holds the instruction at `ip`; -1: none of the library's. */
int library_find(uintptr_t ip);

const char *library_name(int function);

/* The first instruction's address and the bytes of all functions: `ip` of the library are in [base, base + bytes). */
uintptr_t library_base(void);
size_t library_bytes(void);

/* Where an interrupted thread is, from the third argument of its signal handler. */
uintptr_t library_interrupted(const void *context);

#endif
