/*
 * A mapping's symbols are read once, into a table by address. Frames are return addresses: the call
 * is the byte before. Where a file changed since the profile was written, names are wrong; where it
 * is gone, they are offsets.
 */
#include "symbols.h"

#include "elf.h"

#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The functions of a mapping's file. */
struct place {
    bool read;
    uint64_t shift; /* from an address of the process to one of the file */
    struct elf_symbols functions;
};

/* ---- functions ---- */

static int by_address(const void *a, const void *b)
{
    const Elf64_Sym *s = a, *t = b;
    if (s->st_value != t->st_value)
        return s->st_value < t->st_value ? -1 : 1;
    return (s->st_name > t->st_name) - (s->st_name < t->st_name);
}

/* The functions of a table of symbols; false: it has none. */
static bool functions_read(const struct elf *e, uint32_t type, struct elf_symbols *s)
{
    size_t n = 0;
    elf_symbols_read(e, type, s);
    for (size_t i = 0; i < s->count; i++)
        if (ELF64_ST_TYPE(s->symbol[i].st_info) == STT_FUNC && s->symbol[i].st_value != 0)
            s->symbol[n++] = s->symbol[i];
    s->count = n;
    if (n == 0) {
        elf_symbols_free(s);
        return false;
    }
    qsort(s->symbol, n, sizeof *s->symbol, by_address);
    return true;
}

static void place_read(struct place *p, const struct heap_map *m)
{
    struct stat st;
    struct elf e;
    uint64_t at;
    int fd = *m->path == '/' ? open(m->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    p->read = true;
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        elf_open(&e, elf_read_file, &fd, false, 0) == ELF_READABLE &&
        elf_address(&e, m->offset, &at)) {
        p->shift = at - m->from;
        if (!functions_read(&e, SHT_SYMTAB, &p->functions))
            functions_read(&e, SHT_DYNSYM, &p->functions);
    }
    close(fd);
}

/* The function at the address; NULL: none. One without a size reaches to the next. */
static const char *function_at(const struct elf_symbols *f, uint64_t at)
{
    size_t low = 0, high = f->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (f->symbol[middle].st_value <= at)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    const Elf64_Sym *s = &f->symbol[low - 1];
    return s->st_size == 0 || at - s->st_value < s->st_size ? elf_symbol_name(f, s) : NULL;
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

/* The mapping of code that the address lies in; the number of mappings: none. */
static size_t map_of(const struct heapfile *h, uint64_t at)
{
    size_t i = 0;
    while (i < h->map_count && (at < h->maps[i].from || at >= h->maps[i].to))
        i++;
    return i;
}

/* A frame's name, if it is not a function's, is made in `room`. */
static const char *name_of(const struct heapfile *h, struct place *places, uint64_t frame,
                           char *room, size_t cap)
{
    uint64_t at = frame - 1;
    size_t i = map_of(h, at);
    if (i == h->map_count) {
        snprintf(room, cap, "0x%" PRIx64, frame);
        return room;
    }
    const struct heap_map *m = &h->maps[i];
    struct place *p = &places[i];
    if (!p->read)
        place_read(p, m);
    const char *function = function_at(&p->functions, at + p->shift);
    if (function != NULL && *function != '\0')
        return function;
    const char *slash = strrchr(m->path, '/');
    snprintf(room, cap, "%s+0x%" PRIx64, slash != NULL ? slash + 1 : m->path,
             at - m->from + m->offset);
    return room;
}

struct names *names_of(const struct heapfile *h)
{
    enum { ROOM = 96 };
    size_t count = 0;
    for (size_t i = 0; i < h->stack_count; i++)
        count += h->stacks[i].frames;
    struct names *n = calloc(1, sizeof *n);
    if (n == NULL)
        return NULL;
    char(*rooms)[ROOM] = calloc(count + 1, ROOM);
    n->of = calloc(count + 1, sizeof *n->of);
    n->places = calloc(h->map_count + 1, sizeof *n->places);
    n->count = h->map_count;
    n->rooms = rooms;
    if (n->of == NULL || n->places == NULL || rooms == NULL) {
        names_free(n);
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        n->of[i] = name_of(h, n->places, h->frames[i], rooms[i], ROOM);
    demangle(n, count);
    return n;
}

void names_free(struct names *n)
{
    if (n == NULL)
        return;
    for (size_t i = 0; n->places != NULL && i < n->count; i++)
        elf_symbols_free(&n->places[i].functions);
    free(n->places);
    free(n->of);
    free(n->rooms);
    free(n->text);
    free(n);
}
