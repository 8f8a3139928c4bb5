/*
 * ELF files, read from anywhere: a file, or the memory of a process that has one mapped. Only
 * 64-bit ones of the machine's own byte order are looked into; of others elf_open tells class and
 * machine.
 *
 * What is read was made by others and may be damaged in any way: every offset, size and count is
 * checked against what the reader hands out or against a bound, nothing is read twice to be
 * trusted the second time, and every walk ends.
 */
#ifndef ASHLAR_TOOLS_ELF_H
#define ASHLAR_TOOLS_ELF_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads exactly `n` bytes from `at` on; false: they are not there. */
typedef bool elf_read(void *ctx, uint64_t at, void *to, size_t n);

/* From a descriptor; `ctx` is an int *. */
elf_read elf_read_file;

struct elf {
    elf_read *read;
    void *ctx;
    bool mapped;   /* `at` is an address, not an offset in a file */
    uint64_t base; /* mapped: where the file's first byte lies */
    uint64_t bias; /* mapped: what is added to an address in the file */
    Elf64_Ehdr header;
};

enum elf_kind { ELF_NONE, ELF_OTHER_CLASS, ELF_READABLE };

/*
 * ELF_NONE: no ELF file. ELF_OTHER_CLASS: 32 bits or the other byte order; e_machine and e_ident
 * alone are set. `base` is 0 for files.
 */
enum elf_kind elf_open(struct elf *e, elf_read *read, void *ctx, bool mapped, uint64_t base);

/* The first program header of a type; false: there is none. */
bool elf_segment(const struct elf *e, uint32_t type, Elf64_Phdr *out);

/* The bytes at an address of the file. */
bool elf_bytes(const struct elf *e, uint64_t address, void *to, size_t n);

/* A text at an address, ended by NUL, cut at `cap`; false: it is not there. */
bool elf_text(const struct elf *e, uint64_t address, char *to, size_t cap);

/*
 * The content of the first note of that name: at most `cap` bytes of it are copied, and `*address`
 * says where it begins, as the file counts. The number of bytes, or -1.
 */
long elf_note(const struct elf *e, const char *name, void *to, size_t cap, uint64_t *address);

/* Calls `fn` for each library that is needed, or text of another tag, until it answers false. */
void elf_each_text(const struct elf *e, int64_t tag, bool (*fn)(void *arg, const char *text),
                   void *arg);

/* True when the tag is there, with its value. */
bool elf_tag(const struct elf *e, int64_t tag, uint64_t *value);

/* The address of what lies at `offset` of the file; false: it is not to be mapped. */
bool elf_address(const struct elf *e, uint64_t offset, uint64_t *address);

/* A table of symbols, whole. */
struct elf_symbols {
    Elf64_Sym *symbol;
    size_t count;
    char *text; /* their names */
    size_t text_bytes;
};

/*
 * Reads the table of a type, SHT_SYMTAB or SHT_DYNSYM; false, and an empty one: there is none, or
 * no memory. Of a file, not of memory.
 */
bool elf_symbols_read(const struct elf *e, uint32_t type, struct elf_symbols *out);
void elf_symbols_free(struct elf_symbols *s);

/* "" where it has none. */
const char *elf_symbol_name(const struct elf_symbols *s, const Elf64_Sym *symbol);

/*
 * The newest of the versions PREFIX1.2 that its dynamic strings name, as 1 << 16 | 2; 0: none. For
 * libc.so.6 and "GLIBC_" the version it is of, for others the one they need.
 */
uint32_t elf_newest(const struct elf *e, const char *prefix);

#endif
