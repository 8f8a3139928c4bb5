/*
 * Damaged ELF files: a small one is built, as a file and as it lies in memory, bytes of it are overwritten and its end is
 * cut, and all of the reader is used on it. Undamaged, every answer is known; damaged, nothing outside of it is asked for
 * that would be believed, texts are whole, and every walk ends.
 */
#include "fuzz.h"

#include "base/base.h"
#include "tools/elf.h"

#include <stdlib.h>
#include <string.h>

enum { AT_HEADERS = 64, AT_NOTE = 512, AT_STRINGS = 640, AT_DYNAMIC = 1024, AT_SYMBOLS = 1280, AT_SECTIONS = 1536, SIZE = 2048 };
enum { SEGMENTS = 4, SECTIONS = 3, SYMBOLS = 3, READS_MAX = 5000000 };
#define ADDRESS ((uint64_t)0x10000) /* of the file's first byte, as the file counts */
#define BASE    ((uint64_t)0x7f0000000000)

static struct image {
    unsigned char bytes[SIZE];
    size_t n;
    uint64_t base;
    unsigned long reads;
} image;

static bool read_image(void *ctx, uint64_t at, void *to, size_t n)
{
    CHECK(ctx == &image && ++image.reads < READS_MAX, "%lu reads", image.reads);
    at -= image.base;
    if (n > image.n || at > image.n - n)
        return false;
    memcpy(to, image.bytes + at, n);
    return true;
}

/* ---- a whole one ---- */

static const char strings[] = "\0libc.so.6\0libjemalloc.so.2\0malloc\0printf\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_PRIVATE\0/lib/ld.so";

static uint64_t string_at(const char *text)
{
    const char *at = memmem(strings, sizeof strings, text, strlen(text) + 1);
    return (uint64_t)(at - strings);
}

static void put(size_t at, const void *from, size_t n)
{
    memcpy(image.bytes + at, from, n);
}

static void build(bool mapped)
{
    const uint16_t one = 1;
    Elf64_Ehdr e = {.e_type = ET_DYN,
                    .e_machine = EM_X86_64,
                    .e_phoff = AT_HEADERS,
                    .e_phentsize = sizeof(Elf64_Phdr),
                    .e_phnum = SEGMENTS,
                    .e_shoff = AT_SECTIONS,
                    .e_shentsize = sizeof(Elf64_Shdr),
                    .e_shnum = SECTIONS};
    memcpy(e.e_ident, ELFMAG, SELFMAG);
    e.e_ident[EI_CLASS] = ELFCLASS64;
    e.e_ident[EI_DATA] = *(const unsigned char *)&one == 1 ? ELFDATA2LSB : ELFDATA2MSB;
    const Elf64_Phdr segment[SEGMENTS] = {
        {.p_type = PT_LOAD, .p_vaddr = ADDRESS, .p_filesz = SIZE, .p_memsz = SIZE},
        {.p_type = PT_NOTE, .p_vaddr = ADDRESS + AT_NOTE, .p_filesz = 72},
        {.p_type = PT_DYNAMIC, .p_vaddr = ADDRESS + AT_DYNAMIC, .p_filesz = 96},
        {.p_type = PT_INTERP, .p_vaddr = ADDRESS + AT_STRINGS + string_at("/lib/ld.so"), .p_filesz = 11}};
    const Elf64_Dyn dynamic[] = {{DT_NEEDED, {string_at("libc.so.6")}},
                                 {DT_NEEDED, {string_at("libjemalloc.so.2")}},
                                 {DT_STRTAB, {ADDRESS + AT_STRINGS}},
                                 {DT_STRSZ, {sizeof strings}},
                                 {DT_NULL, {0}}};
    const Elf64_Sym symbol[SYMBOLS] = {{0},
                                       {.st_name = (Elf64_Word)string_at("malloc"), .st_shndx = 1},
                                       {.st_name = (Elf64_Word)string_at("printf"), .st_shndx = SHN_UNDEF}};
    const Elf64_Shdr section[SECTIONS] = {
        {0},
        {.sh_type = SHT_DYNSYM, .sh_offset = AT_SYMBOLS, .sh_size = sizeof symbol, .sh_link = 2},
        {.sh_type = SHT_STRTAB, .sh_offset = AT_STRINGS, .sh_size = sizeof strings}};
    const struct {
        Elf64_Nhdr other;
        char other_name[4], other_content[8];
        Elf64_Nhdr ours;
        char name[8], content[16];
    } notes = {{4, 8, 3}, "GNU", "1234567", {8, 16, 1}, "Ashlar", "123456789012345"};
    memset(&image, 0, sizeof image);
    image.n = SIZE;
    image.base = mapped ? BASE : 0;
    put(0, &e, sizeof e);
    put(AT_HEADERS, segment, sizeof segment);
    put(AT_NOTE, &notes, sizeof notes);
    put(AT_STRINGS, strings, sizeof strings);
    put(AT_DYNAMIC, dynamic, sizeof dynamic);
    put(AT_SYMBOLS, symbol, sizeof symbol);
    put(AT_SECTIONS, section, sizeof section);
}

/* ---- what is read ---- */

static char seen[4096];

static bool note_text(void *arg, const char *text)
{
    size_t n = strlen(seen);
    if (arg == NULL && n + strlen(text) + 2 < sizeof seen) {
        memcpy(seen + n, text, strlen(text) + 1);
        strcat(seen, " ");
    }
    return true;
}

static void read_everything(bool mapped, bool whole)
{
    struct elf e;
    Elf64_Phdr p;
    char text[40], note[8];
    uint64_t at = 0, value;
    seen[0] = '\0';
    enum elf_kind kind = elf_open(&e, read_image, &image, mapped, image.base);
    CHECK(!whole || kind == ELF_READABLE, "kind %d", kind);
    if (kind != ELF_READABLE)
        return;
    memset(note, '#', sizeof note);
    long n = elf_note(&e, "Ashlar", note, sizeof note - 1, &at);
    CHECK(note[sizeof note - 1] == '#', "more of the note than there is room for");
    CHECK(!whole || (n == 16 && memcmp(note, "1234567", 7) == 0 && at == ADDRESS + AT_NOTE + 44),
          "a note of %ld bytes at %lx", n, (unsigned long)at);
    bool found = elf_segment(&e, PT_INTERP, &p) && elf_text(&e, p.p_vaddr, text, sizeof text);
    CHECK(!found || memchr(text, '\0', sizeof text) != NULL, "a text without end");
    CHECK(!whole || (found && strcmp(text, "/lib/ld.so") == 0), "the interpreter is %s", text);
    CHECK(!whole || !elf_tag(&e, DT_SONAME, &value), "a tag that is not there");
    if (mapped)
        return; /* a loader changes addresses in the dynamic section: that part is of files */
    elf_each_text(&e, DT_NEEDED, note_text, NULL);
    struct elf_symbols symbols;
    elf_symbols_read(&e, SHT_DYNSYM, &symbols);
    for (size_t i = 0; i < symbols.count; i++)
        if (symbols.symbol[i].st_shndx != SHN_UNDEF)
            note_text(NULL, elf_symbol_name(&symbols, &symbols.symbol[i]));
    elf_symbols_free(&symbols);
    CHECK(!whole || (elf_address(&e, AT_NOTE, &value) && value == ADDRESS + AT_NOTE), "an offset's address");
    uint32_t newest = elf_newest(&e, "GLIBC_");
    CHECK(!whole || (strcmp(seen, "libc.so.6 libjemalloc.so.2 malloc ") == 0 && newest == (2 << 16 | 34)),
          "it has \"%s\", and glibc %x", seen, newest);
}

static void damage(struct input *in)
{
    unsigned changes = take_below(in, 8);
    for (unsigned i = 0; i < changes; i++) {
        size_t at = take_below(in, SIZE - 8);
        unsigned bytes = 1u << take_below(in, 4);
        uint64_t v = take_number(in);
        fuzz_trace("    %u bytes at %zu are 0x%lx\n", bytes, at, (unsigned long)v);
        memcpy(image.bytes + at, &v, bytes);
    }
    if (take_below(in, 8) == 0)
        image.n = take_below(in, SIZE + 1);
}

void fuzz_elf(struct input *in)
{
    while (input_left(in)) {
        bool mapped = take_below(in, 2) == 1;
        fuzz_trace("a file%s\n", mapped ? " in memory" : "");
        build(mapped);
        read_everything(mapped, true);
        damage(in);
        image.reads = 0;
        read_everything(mapped, false);
    }
}
