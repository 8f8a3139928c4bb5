/*
 * ashlar doctor: what speaks for and against preloading libashlar.so, one line each.
 */
#ifndef ASHLAR_TOOLS_DOCTOR_H
#define ASHLAR_TOOLS_DOCTOR_H

#include "elf.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

enum grade { GRADE_OK, GRADE_WARNING, GRADE_PROBLEM };

struct report {
    unsigned count[GRADE_PROBLEM + 1];
};

__attribute__((format(printf, 3, 4))) void found(struct report *r, enum grade grade,
                                                 const char *format, ...);

/* An ELF file that is open; `kind` says whether `elf` may be used. */
struct binary {
    char path[PATH_MAX];
    int fd;
    struct stat stat;
    enum elf_kind kind;
    struct elf elf;
    char interpreter[256]; /* "" for none */
};

bool binary_open(struct binary *b, const char *path);
void binary_close(struct binary *b);

/* The program that a name means: by PATH, scripts followed to their interpreter. False: none. */
bool doctor_resolve(struct report *r, const char *name, struct binary *out);

/* The library against the program, and the program against being preloaded. */
void doctor_program(struct report *r, const struct binary *program, const struct binary *library);

/* Asks the program's dynamic loader what it would load; nothing of the program runs. */
void doctor_loader(struct report *r, const struct binary *program, const struct binary *library);

/* The environment, the kernel and its limits. */
void doctor_system(struct report *r);

/* The first line of a file without its end; false: it is not there, or empty. */
bool doctor_line(const char *path, char *line, size_t cap);

#endif
