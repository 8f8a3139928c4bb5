/*
 * A file's symbols are read once, into a table by address. Frames are return addresses: the call is
 * the byte before. Where a file changed since the profile was written, names are wrong; where it is
 * gone, they are offsets.
 */
#include "symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <inttypes.h>
#include <link.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdio.h>

struct symbol {
    uint64_t at, bytes;
    const char *name;
};

/* A mapped file. */
struct file {
    const char *path;
    const char *data; /* NULL: it cannot be read */
    size_t size;
    struct symbol *symbols;
    size_t count;
    struct file *next;
};

/* ---- ELF ---- */

/* `n` bytes at `offset` of the file; NULL: it is not so long. */
static const void *part(const struct file *f, uint64_t offset, uint64_t n)
{
    return offset <= f->size && n <= f->size - offset ? f->data + offset : NULL;
}

static const ElfW(Ehdr) * header_of(const struct file *f)
{
    const ElfW(Ehdr) *e = part(f, 0, sizeof *e);
    if (e == NULL || memcmp(e->e_ident, ELFMAG, SELFMAG) != 0 ||
        e->e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32))
        return NULL;
    return e;
}

static int by_address(const void *a, const void *b)
{
    const struct symbol *s = a, *t = b;
    return s->at < t->at ? -1 : s->at > t->at;
}

static const ElfW(Shdr) * section_of_type(const struct file *f, const ElfW(Ehdr) * e, unsigned type)
{
    const ElfW(Shdr) *s = part(f, e->e_shoff, (uint64_t)e->e_shnum * sizeof *s);
    for (unsigned i = 0; s != NULL && i < e->e_shnum; i++)
        if (s[i].sh_type == type && s[i].sh_link < e->e_shnum)
            return &s[i];
    return NULL;
}

/* The functions of a table of symbols; false: there is none, or no memory. */
static bool read_table(struct file *f, const ElfW(Ehdr) * e, unsigned type)
{
    const ElfW(Shdr) *table = section_of_type(f, e, type);
    if (table == NULL)
        return false;
    const ElfW(Shdr) *texts =
        (const ElfW(Shdr) *)(const void *)(f->data + e->e_shoff) + table->sh_link;
    size_t n = table->sh_size / sizeof(ElfW(Sym));
    const ElfW(Sym) *sym = part(f, table->sh_offset, table->sh_size);
    const char *text = part(f, texts->sh_offset, texts->sh_size);
    if (sym == NULL || text == NULL || texts->sh_size == 0 || text[texts->sh_size - 1] != '\0')
        return false;
    f->symbols = calloc(n + 1, sizeof *f->symbols);
    for (size_t i = 0; f->symbols != NULL && i < n; i++)
        if ((sym[i].st_info & 15) == STT_FUNC && sym[i].st_value != 0 &&
            sym[i].st_name < texts->sh_size)
            f->symbols[f->count++] =
                (struct symbol){sym[i].st_value, sym[i].st_size, text + sym[i].st_name};
    if (f->count == 0)
        return false;
    qsort(f->symbols, f->count, sizeof *f->symbols, by_address);
    return true;
}

static void file_read(struct file *f)
{
    struct stat st;
    int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
        void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        f->data = data == MAP_FAILED ? NULL : data;
        f->size = (size_t)st.st_size;
    }
    close(fd);
    const ElfW(Ehdr) *e = f->data != NULL ? header_of(f) : NULL;
    if (e != NULL && !read_table(f, e, SHT_SYMTAB)) {
        free(f->symbols);
        f->symbols = NULL;
        read_table(f, e, SHT_DYNSYM);
    }
}

/* The address that the linker gave to what lies at `offset` of the file. */
static uint64_t address_of(const struct file *f, uint64_t offset)
{
    const ElfW(Ehdr) *e = f->data != NULL ? header_of(f) : NULL;
    const ElfW(Phdr) *p = e == NULL ? NULL : part(f, e->e_phoff, (uint64_t)e->e_phnum * sizeof *p);
    for (unsigned i = 0; p != NULL && i < e->e_phnum; i++)
        if (p[i].p_type == PT_LOAD && offset - p[i].p_offset < p[i].p_filesz)
            return offset - p[i].p_offset + p[i].p_vaddr;
    return offset;
}

/* The function at the address; NULL: none. One without a size reaches to the next. */
static const char *function_at(const struct file *f, uint64_t at)
{
    size_t low = 0, high = f->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (f->symbols[middle].at <= at)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    const struct symbol *s = &f->symbols[low - 1];
    return s->bytes == 0 || at - s->at < s->bytes ? s->name : NULL;
}

static struct file *file_of(struct file **files, const char *path)
{
    for (struct file *f = *files; f != NULL; f = f->next)
        if (strcmp(f->path, path) == 0)
            return f;
    struct file *f = calloc(1, sizeof *f);
    if (f == NULL)
        return NULL;
    f->path = path;
    f->next = *files;
    *files = f;
    file_read(f);
    return f;
}

/* ---- C++ ---- */

/* Runs c++filt from one file to another; false: it is not there, or failed. */
static bool filter(FILE *in, FILE *out)
{
    static char program[] = "c++filt";
    char *args[] = {program, NULL};
    extern char **environ;
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status = 1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fileno(in), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fileno(out), STDOUT_FILENO);
    if (posix_spawnp(&child, program, &actions, NULL, args, environ) == 0)
        waitpid(child, &status, 0);
    posix_spawn_file_actions_destroy(&actions);
    return status == 0;
}

/* All of a file that was written; NULL: it cannot be had. */
static char *content(FILE *f)
{
    struct stat st;
    if (fstat(fileno(f), &st) != 0)
        return NULL;
    char *text = malloc((size_t)st.st_size + 1);
    if (text == NULL || pread(fileno(f), text, (size_t)st.st_size, 0) != st.st_size) {
        free(text);
        return NULL;
    }
    text[st.st_size] = '\0';
    return text;
}

/* Replaces the names of C++ by what they stand for, as far as that can be had. */
static void demangle(struct names *n, size_t count)
{
    FILE *in = tmpfile(), *out = tmpfile();
    size_t mangled = 0;
    for (size_t i = 0; i < count && in != NULL; i++)
        if (strncmp(n->of[i], "_Z", 2) == 0)
            mangled += fprintf(in, "%s\n", n->of[i]) > 0;
    char *text = NULL;
    if (mangled > 0 && out != NULL && fflush(in) == 0) {
        rewind(in);
        if (filter(in, out))
            text = content(out);
    }
    char *line = text;
    for (size_t i = 0; line != NULL && i < count; i++) {
        if (strncmp(n->of[i], "_Z", 2) != 0)
            continue;
        char *end = strchr(line, '\n');
        if (end == NULL)
            break;
        *end = '\0';
        n->of[i] = line;
        line = end + 1;
    }
    free(n->text);
    n->text = text;
    if (in != NULL)
        fclose(in);
    if (out != NULL)
        fclose(out);
}

/* ---- names ---- */

static const struct heap_map *map_of(const struct heapfile *h, uint64_t at)
{
    for (size_t i = 0; i < h->map_count; i++)
        if (at >= h->maps[i].from && at < h->maps[i].to)
            return &h->maps[i];
    return NULL;
}

/* A frame's name, if it is not a function's, is made in `room`. */
static const char *name_of(const struct heapfile *h, struct file **files, uint64_t frame,
                           char *room, size_t cap)
{
    uint64_t at = frame - 1;
    const struct heap_map *m = map_of(h, at);
    if (m == NULL) {
        snprintf(room, cap, "0x%" PRIx64, frame);
        return room;
    }
    struct file *f = file_of(files, m->path);
    uint64_t offset = at - m->from + m->offset;
    const char *function = f != NULL ? function_at(f, address_of(f, offset)) : NULL;
    if (function != NULL && *function != '\0')
        return function;
    const char *slash = strrchr(m->path, '/');
    snprintf(room, cap, "%s+0x%" PRIx64, slash != NULL ? slash + 1 : m->path, offset);
    return room;
}

struct names *names_of(const struct heapfile *h)
{
    enum { ROOM = 96 };
    size_t count = 0;
    for (size_t i = 0; i < h->stack_count; i++)
        count += h->stacks[i].frames;
    struct names *n = calloc(1, sizeof *n);
    const char **of = calloc(count + 1, sizeof *of);
    char(*rooms)[ROOM] = calloc(count + 1, ROOM);
    if (n == NULL || of == NULL || rooms == NULL) {
        free(n);
        free(of);
        free(rooms);
        return NULL;
    }
    struct file *files = NULL;
    n->of = of;
    for (size_t i = 0; i < count; i++)
        of[i] = name_of(h, &files, h->frames[i], rooms[i], ROOM);
    n->files = files;
    n->rooms = rooms;
    demangle(n, count);
    return n;
}

void names_free(struct names *n)
{
    if (n == NULL)
        return;
    for (struct file *f = n->files, *next; f != NULL; f = next) {
        next = f->next;
        if (f->data != NULL)
            munmap((void *)(uintptr_t)f->data, f->size);
        free(f->symbols);
        free(f);
    }
    free(n->of);
    free(n->rooms);
    free(n->text);
    free(n);
}
