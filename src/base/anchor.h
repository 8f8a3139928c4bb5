/*
 * The anchor: where a process keeps what its statistics are made of, for a tool that reads it from
 * outside (tools/mirror.c). Nothing in the process reads it.
 *
 * A variable that statistics are made of is named once, in the function that reads it. Each name is
 * an entry in the section ashlar_anchor: where the variable is, relative to the entry, how large,
 * and what it is called. A note of the ELF file (run/anchor.c) says where the entries are, of which
 * format and of which version, so that whoever finds the file mapped finds all of it, in a stripped
 * library and in a static program as well.
 *
 * The tool has the same code inside, hence the same entries for variables of its own: it fills the
 * one from the other by name, and where a size differs or a name is missing it is not made for this
 * process, and says so.
 *
 * Distances instead of addresses need no relocation, the entries share a page with other constants,
 * and the code that holds them gets no instruction more. An entry may be there twice (a function
 * that was inlined); both say the same. Rejected: a struct of pointers (a relocation each, at every
 * start of every program), exported symbols (static programs have none).
 */
#ifndef ASH_ANCHOR_H
#define ASH_ANCHOR_H

#include "base/base.h"

enum { ANCHOR_FORMAT = 1, ANCHOR_NAME = 16 };

/* One entry; 24 bytes. */
struct anchor {
    int32_t distance; /* from the entry to the variable */
    uint32_t size;
    char name[ANCHOR_NAME]; /* filled up with NUL */
};

/* The constraint for a symbol's address; in position-independent code "i" is not everywhere one. */
#if defined(__aarch64__)
#define ANCHOR_SYMBOL "S"
#else
#define ANCHOR_SYMBOL "i"
#endif

/*
 * `variable` is one of this file or declared hidden, so that its distance is a constant to the
 * linker; `label` is at most 15 characters of text.
 */
#define ANCHOR(label, variable)                                                                    \
    ANCHOR_ENTRY(label, "%c1 - .", "i"(sizeof(variable)), ANCHOR_SYMBOL(&(variable)))

/* Not a variable but the size of a record that one leads to. */
#define ANCHOR_RECORD(label, type) ANCHOR_ENTRY(label, "0", "i"(sizeof(type)))

#define ANCHOR_ENTRY(label, distance, ...)                                                         \
    __asm__(".pushsection ashlar_anchor,\"a\"\n\t"                                                 \
            ".balign 4\n\t"                                                                        \
            ".long " distance "\n\t"                                                               \
            ".long %c0\n"                                                                          \
            "9:\t.ascii \"" label "\"\n\t"                                                         \
            ".zero 16 - (. - 9b)\n\t"                                                              \
            ".popsection"                                                                          \
            :                                                                                      \
            : __VA_ARGS__)

#endif
