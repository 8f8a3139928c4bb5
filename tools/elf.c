#include "elf.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADERS_MAX = 1024, NOTES_MAX = 64 * 1024, DYNAMIC_MAX = 4096, NAME_MAX_N = 256 };
enum { TABLE_MAX = 256 << 20 };

static bool same_order(unsigned char data)
{
    const uint16_t one = 1;
    return data == (*(const unsigned char *)&one == 1 ? ELFDATA2LSB : ELFDATA2MSB);
}

bool elf_read_file(void *ctx, uint64_t at, void *to, size_t n)
{
    return at <= INT64_MAX && pread(*(const int *)ctx, to, n, (off_t)at) == (ssize_t)n;
}

enum elf_kind elf_open(struct elf *e, elf_read *read, void *ctx, bool mapped, uint64_t base)
{
    *e = (struct elf){.read = read, .ctx = ctx, .mapped = mapped, .base = base};
    enum { SHORT = offsetof(Elf64_Ehdr, e_version) }; /* as far as both classes agree */
    if (!read(ctx, base, &e->header, SHORT) || memcmp(e->header.e_ident, ELFMAG, SELFMAG) != 0)
        return ELF_NONE;
    if (e->header.e_ident[EI_CLASS] != ELFCLASS64 || !same_order(e->header.e_ident[EI_DATA]))
        return ELF_OTHER_CLASS;
    if (!read(ctx, base, &e->header, sizeof e->header) ||
        e->header.e_phentsize != sizeof(Elf64_Phdr) || e->header.e_phnum > HEADERS_MAX)
        return ELF_NONE;
    Elf64_Phdr first;
    if (mapped && elf_segment(e, PT_LOAD, &first))
        e->bias = base - (first.p_vaddr - first.p_offset);
    return ELF_READABLE;
}

static bool header_at(const struct elf *e, unsigned i, Elf64_Phdr *out)
{
    return e->read(e->ctx, e->base + e->header.e_phoff + i * sizeof *out, out, sizeof *out);
}

bool elf_segment(const struct elf *e, uint32_t type, Elf64_Phdr *out)
{
    for (unsigned i = 0; i < e->header.e_phnum && header_at(e, i, out); i++)
        if (out->p_type == type)
            return true;
    return false;
}

bool elf_bytes(const struct elf *e, uint64_t address, void *to, size_t n)
{
    if (e->mapped)
        return e->read(e->ctx, e->bias + address, to, n);
    Elf64_Phdr p;
    for (unsigned i = 0; i < e->header.e_phnum && header_at(e, i, &p); i++)
        if (p.p_type == PT_LOAD && address >= p.p_vaddr && address - p.p_vaddr < p.p_filesz &&
            n <= p.p_filesz - (address - p.p_vaddr))
            return e->read(e->ctx, p.p_offset + (address - p.p_vaddr), to, n);
    return false;
}

bool elf_address(const struct elf *e, uint64_t offset, uint64_t *address)
{
    Elf64_Phdr p;
    for (unsigned i = 0; i < e->header.e_phnum && header_at(e, i, &p); i++)
        if (p.p_type == PT_LOAD && offset >= p.p_offset && offset - p.p_offset < p.p_filesz) {
            *address = offset - p.p_offset + p.p_vaddr;
            return true;
        }
    return false;
}

bool elf_text(const struct elf *e, uint64_t address, char *to, size_t cap)
{
    for (size_t i = 0; i < cap; i++) {
        if (!elf_bytes(e, address + i, to + i, 1))
            return false;
        if (to[i] == '\0')
            return true;
    }
    to[cap - 1] = '\0';
    return true;
}

/* ---- notes ---- */

/* Looks through one segment of notes. */
static long note_in(const struct elf *e, const Elf64_Phdr *p, const char *name, void *to,
                    size_t cap, uint64_t *address)
{
    uint64_t end = p->p_filesz < NOTES_MAX ? p->p_filesz : NOTES_MAX;
    size_t length = strlen(name) + 1;
    Elf64_Nhdr n;
    char text[NAME_MAX_N];
    for (uint64_t at = 0; at + sizeof n <= end;) {
        if (!elf_bytes(e, p->p_vaddr + at, &n, sizeof n) || n.n_namesz > end || n.n_descsz > end)
            return -1;
        uint64_t desc = at + sizeof n + ((n.n_namesz + 3) & ~3u);
        bool named = n.n_namesz >= length && length <= sizeof text &&
                     elf_bytes(e, p->p_vaddr + at + sizeof n, text, length) &&
                     memcmp(text, name, length) == 0;
        if (named && desc + n.n_descsz <= end) {
            *address = p->p_vaddr + desc;
            size_t want = n.n_descsz < cap ? n.n_descsz : cap;
            return elf_bytes(e, *address, to, want) ? (long)n.n_descsz : -1;
        }
        at = desc + ((n.n_descsz + 3) & ~3u);
    }
    return -1;
}

long elf_note(const struct elf *e, const char *name, void *to, size_t cap, uint64_t *address)
{
    Elf64_Phdr p;
    for (unsigned i = 0; i < e->header.e_phnum && header_at(e, i, &p); i++) {
        long n = p.p_type == PT_NOTE ? note_in(e, &p, name, to, cap, address) : -1;
        if (n >= 0)
            return n;
    }
    return -1;
}

/* ---- the dynamic section ---- */

/* The entry `*i` or later of the tag, and `*i` behind it. */
static bool dynamic_next(const struct elf *e, int64_t tag, unsigned *i, uint64_t *value)
{
    Elf64_Phdr p;
    Elf64_Dyn d;
    if (!elf_segment(e, PT_DYNAMIC, &p))
        return false;
    while (*i < DYNAMIC_MAX && elf_bytes(e, p.p_vaddr + *i * sizeof d, &d, sizeof d) &&
           d.d_tag != DT_NULL) {
        ++*i;
        if (d.d_tag == tag) {
            *value = d.d_un.d_val;
            return true;
        }
    }
    return false;
}

bool elf_tag(const struct elf *e, int64_t tag, uint64_t *value)
{
    unsigned i = 0;
    return dynamic_next(e, tag, &i, value);
}

void elf_each_text(const struct elf *e, int64_t tag, bool (*fn)(void *arg, const char *text),
                   void *arg)
{
    char text[NAME_MAX_N];
    uint64_t strings, at;
    if (!elf_tag(e, DT_STRTAB, &strings))
        return;
    for (unsigned i = 0; dynamic_next(e, tag, &i, &at);)
        if (elf_text(e, strings + at, text, sizeof text) && !fn(arg, text))
            return;
}

/* ---- symbols ---- */

/* The whole of a table, with a NUL behind it; NULL: it is not there, or too large. */
static char *table_read(const struct elf *e, uint64_t offset, uint64_t size)
{
    char *table = size == 0 || size > TABLE_MAX ? NULL : malloc(size + 1);
    if (table != NULL && !e->read(e->ctx, offset, table, size)) {
        free(table);
        return NULL;
    }
    if (table != NULL)
        table[size] = '\0';
    return table;
}

static bool section_at(const struct elf *e, unsigned i, Elf64_Shdr *out)
{
    return i < e->header.e_shnum && e->header.e_shentsize == sizeof *out &&
           e->read(e->ctx, e->header.e_shoff + i * sizeof *out, out, sizeof *out);
}

static bool section_of(const struct elf *e, uint32_t type, Elf64_Shdr *out)
{
    for (unsigned i = 0; section_at(e, i, out); i++)
        if (out->sh_type == type)
            return true;
    return false;
}

bool elf_symbols_read(const struct elf *e, uint32_t type, struct elf_symbols *out)
{
    Elf64_Shdr symbols, strings;
    *out = (struct elf_symbols){0};
    if (e->mapped || !section_of(e, type, &symbols) || !section_at(e, symbols.sh_link, &strings))
        return false;
    out->symbol = (Elf64_Sym *)(void *)table_read(e, symbols.sh_offset, symbols.sh_size);
    out->count = symbols.sh_size / sizeof *out->symbol;
    out->text = table_read(e, strings.sh_offset, strings.sh_size);
    out->text_bytes = strings.sh_size;
    if (out->symbol != NULL && out->text != NULL)
        return true;
    elf_symbols_free(out);
    return false;
}

void elf_symbols_free(struct elf_symbols *s)
{
    free(s->symbol);
    free(s->text);
    *s = (struct elf_symbols){0};
}

const char *elf_symbol_name(const struct elf_symbols *s, const Elf64_Sym *symbol)
{
    return symbol->st_name < s->text_bytes ? s->text + symbol->st_name : "";
}

uint32_t elf_newest(const struct elf *e, const char *prefix)
{
    uint64_t address, size;
    uint32_t newest = 0;
    if (!elf_tag(e, DT_STRTAB, &address) || !elf_tag(e, DT_STRSZ, &size) || size > TABLE_MAX)
        return 0;
    char *text = malloc(size + 1);
    bool read = text != NULL && elf_bytes(e, address, text, size);
    if (read)
        text[size] = '\0';
    for (size_t at = 0; read && at < size; at += strlen(text + at) + 1) {
        if (strncmp(text + at, prefix, strlen(prefix)) != 0)
            continue;
        char *dot;
        unsigned long major = strtoul(text + at + strlen(prefix), &dot, 10);
        unsigned long minor = *dot == '.' ? strtoul(dot + 1, NULL, 10) : 0;
        uint32_t version = (uint32_t)(major << 16 | (minor & 0xffff));
        newest = major < 1 << 15 && version > newest ? version : newest;
    }
    free(text);
    return newest;
}
