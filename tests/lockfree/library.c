#include "library.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

struct function {
    uintptr_t begin, end;
    const char *name;
};

static struct function functions[LIBRARY_FUNCTIONS_MAX];
static int count;

/* The file's content, kept for ever; NULL: cannot be read. */
static const char *content_of(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return NULL;
    void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    return at == MAP_FAILED ? NULL : at;
}

static int by_address(const void *a, const void *b)
{
    const struct function *f = a, *g = b;
    return f->begin < g->begin ? -1 : f->begin > g->begin;
}

/* Takes the functions out of a symbol table. */
static void functions_read(const char *file, const ElfW(Shdr) *table, const char *names, uintptr_t base)
{
    const ElfW(Sym) *symbol = (const void *)(file + table->sh_offset);
    for (size_t i = 0; i < table->sh_size / sizeof *symbol && count < LIBRARY_FUNCTIONS_MAX; i++) {
        if ((symbol[i].st_info & 0xf) != STT_FUNC || symbol[i].st_size == 0 || symbol[i].st_shndx == SHN_UNDEF)
            continue;
        uintptr_t begin = base + symbol[i].st_value;
        functions[count++] = (struct function){begin, begin + symbol[i].st_size, names + symbol[i].st_name};
    }
}

/* For dl_iterate_phdr: ends the walk at the library. */
static int library_read(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)size;
    (void)unused;
    if (info->dlpi_name == NULL || strstr(info->dlpi_name, "libashlar") == NULL)
        return 0;
    const char *file = content_of(info->dlpi_name);
    if (file == NULL)
        return 1;
    const ElfW(Ehdr) *header = (const void *)file;
    const ElfW(Shdr) *section = (const void *)(file + header->e_shoff);
    for (int i = 0; i < header->e_shnum; i++)
        if (section[i].sh_type == SHT_SYMTAB)
            functions_read(file, &section[i], file + section[section[i].sh_link].sh_offset, info->dlpi_addr);
    return 1;
}

#if defined(__x86_64__) || defined(__aarch64__)
enum { MACHINE_IS_KNOWN = 1 };
#else
enum { MACHINE_IS_KNOWN = 0 };
#endif

int library_open(void)
{
    if (MACHINE_IS_KNOWN)
        dl_iterate_phdr(library_read, NULL);
    qsort(functions, (size_t)count, sizeof *functions, by_address);
    int kept = 0;
    for (int i = 0; i < count; i++) /* a second name of a function goes */
        if (kept == 0 || functions[i].begin >= functions[kept - 1].end)
            functions[kept++] = functions[i];
    count = kept;
    return count;
}

int library_find(uintptr_t ip)
{
    int low = 0, high = count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (ip >= functions[middle].end)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && ip >= functions[low].begin ? low : -1;
}

const char *library_name(int function)
{
    return functions[function].name;
}

uintptr_t library_base(void)
{
    return functions[0].begin;
}

size_t library_bytes(void)
{
    return functions[count - 1].end - functions[0].begin;
}

uintptr_t library_interrupted(const void *context)
{
    const ucontext_t *u = context;
#if defined(__x86_64__)
    return (uintptr_t)u->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)u->uc_mcontext.pc;
#else
    (void)u;
    return 0;
#endif
}
