/* What a program's file tells. */
#include "doctor.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

bool binary_open(struct binary *b, const char *path)
{
    Elf64_Phdr p;
    *b = (struct binary){.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    snprintf(b->path, sizeof b->path, "%s", path);
    if (b->fd < 0 || fstat(b->fd, &b->stat) != 0 || !S_ISREG(b->stat.st_mode)) {
        binary_close(b);
        return false;
    }
    b->kind = elf_open(&b->elf, elf_read_file, &b->fd, false, 0);
    if (b->kind == ELF_READABLE && elf_segment(&b->elf, PT_INTERP, &p) &&
        !elf_text(&b->elf, p.p_vaddr, b->interpreter, sizeof b->interpreter))
        b->interpreter[0] = '\0';
    return true;
}

void binary_close(struct binary *b)
{
    if (b->fd >= 0)
        close(b->fd);
    b->fd = -1;
}

/* ---- finding it ---- */

static bool is_program(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode) && access(path, X_OK) == 0;
}

/* As execvp looks for it. */
static bool search(const char *name, char out[PATH_MAX])
{
    const char *path = getenv("PATH");
    if (strchr(name, '/') != NULL) {
        snprintf(out, PATH_MAX, "%s", name);
        return is_program(out);
    }
    for (path = path != NULL ? path : "/usr/local/bin:/usr/bin:/bin"; *path != '\0';) {
        size_t n = strcspn(path, ":");
        snprintf(out, PATH_MAX, "%.*s%s%s", (int)n, path, n > 0 ? "/" : "./", name);
        if (is_program(out))
            return true;
        path += n + (path[n] == ':');
    }
    return false;
}

/* The interpreter that a script's first line names; false: it is no script. */
static bool script_of(const struct binary *b, char interpreter[PATH_MAX])
{
    char line[PATH_MAX];
    ssize_t n = pread(b->fd, line, sizeof line - 1, 0);
    if (n < 3 || line[0] != '#' || line[1] != '!')
        return false;
    line[n] = '\0';
    line[strcspn(line, "\n")] = '\0';
    char *rest, *word = strtok_r(line + 2, " \t", &rest);
    const char *slash = word != NULL ? strrchr(word, '/') : NULL;
    if (slash != NULL && strcmp(slash + 1, "env") == 0) {
        do /* env [-S] [NAME=VALUE...] PROGRAM */
            word = strtok_r(NULL, " \t", &rest);
        while (word != NULL && (word[0] == '-' || strchr(word, '=') != NULL));
        return word != NULL && search(word, interpreter);
    }
    snprintf(interpreter, PATH_MAX, "%s", word != NULL ? word : "");
    return true;
}

bool doctor_resolve(struct report *r, const char *name, struct binary *out)
{
    enum { SCRIPTS_MAX = 5 };
    char path[PATH_MAX], next[PATH_MAX], real[PATH_MAX];
    if (!search(name, path)) {
        found(r, GRADE_PROBLEM, "%s is not there, or cannot be run: check the name and PATH", name);
        return false;
    }
    for (int i = 0; i < SCRIPTS_MAX; i++) {
        if (realpath(path, real) == NULL || !binary_open(out, real)) {
            found(r, GRADE_PROBLEM, "%s cannot be read: %s", path, strerror(errno));
            return false;
        }
        snprintf(next, sizeof next, "%s", path);
        if (out->kind != ELF_NONE || !script_of(out, next))
            return true;
        found(r, GRADE_OK, "%s is a script; what runs is %s", path, next);
        binary_close(out);
        memcpy(path, next, sizeof path);
    }
    found(r, GRADE_PROBLEM, "%s leads from script to script: name the program itself", name);
    return false;
}

/* ---- programs that are known ---- */

/* By the name of the file, or a part of its path. */
static const struct {
    const char *pattern;
    enum grade grade;
    const char *text;
} known[] = {
    {"*/snap/bin/*", GRADE_PROBLEM,
     "snap starts it confined, where the library cannot be seen: run the program outside of snap"},
    {"*/usr/bin/snap", GRADE_PROBLEM,
     "snap starts it confined, where the library cannot be seen: run the program outside of snap"},
    {"*/flatpak", GRADE_PROBLEM,
     "flatpak runs it in a sandbox without the library: use `flatpak override --env` and "
     "--filesystem to take it in"},
    {"*/bwrap", GRADE_WARNING, "bwrap shows it other files: bind the library into the sandbox"},
    {"*/docker", GRADE_WARNING,
     "what runs in a container is started by a daemon: preload it inside of the image"},
    {"*/podman", GRADE_WARNING,
     "what runs in a container sees other files: preload it inside of the image"},
    {"*/systemctl", GRADE_WARNING,
     "services are started by systemd: set Environment=LD_PRELOAD=... in the unit"},
    {"*/chrom*", GRADE_WARNING,
     "Chromium's own allocator serves most of it, and its sandbox may refuse what is preloaded"},
    {"*/electron*", GRADE_WARNING,
     "Chromium's own allocator serves most of it, and its sandbox may refuse what is preloaded"},
    {"*/firefox*", GRADE_WARNING,
     "Firefox brings its own malloc (mozglue), which serves most of it"},
    {"*/java", GRADE_WARNING, "Java's heap is not malloc's: only native memory is served"},
    {"*/php*", GRADE_OK, "PHP opens its extensions with RTLD_DEEPBIND, which Ashlar ignores"},
    {"*/apache2", GRADE_OK, "its modules use RTLD_DEEPBIND, which Ashlar ignores"},
    {"*/httpd", GRADE_OK, "its modules use RTLD_DEEPBIND, which Ashlar ignores"},
};

static void check_known(struct report *r, const struct binary *p)
{
    const char *deepbind = getenv("ASHLAR_DEEPBIND");
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (fnmatch(known[i].pattern, p->path, 0) == 0) {
            bool obeyed = strstr(known[i].text, "DEEPBIND") != NULL && deepbind != NULL &&
                          strcmp(deepbind, "1") == 0;
            if (obeyed)
                found(r, GRADE_PROBLEM, "%s, unless ASHLAR_DEEPBIND=1 as it is now: unset it",
                      known[i].text);
            else
                found(r, known[i].grade, "%s", known[i].text);
            return;
        }
}

/* ---- the file ---- */

static const char *machine_name(unsigned machine)
{
    switch (machine) {
    case EM_X86_64:
        return "x86-64";
    case EM_AARCH64:
        return "aarch64";
    case EM_386:
        return "32-bit x86";
    case EM_ARM:
        return "32-bit ARM";
    case EM_RISCV:
        return "RISC-V";
    case EM_PPC64:
        return "POWER";
    case EM_S390:
        return "s390";
    default:
        return "another machine";
    }
}

static bool check_machine(struct report *r, const struct binary *p, const struct binary *library)
{
    unsigned is = p->elf.header.e_machine, ours = library->elf.header.e_machine;
    unsigned char magic[3] = {0};
    if (elf_read_file((int[]){p->fd}, 8, magic, sizeof magic) && magic[0] == 'A' && magic[1] == 'I')
        found(r, GRADE_WARNING,
              "%s is an AppImage: preloading reaches its starter; run what it has "
              "inside (--appimage-extract)",
              p->path);
    if (p->kind == ELF_READABLE && is == ours) {
        found(r, GRADE_OK, "%s is for %s, as libashlar.so", p->path, machine_name(is));
        return true;
    }
    if (p->kind == ELF_NONE)
        found(r, GRADE_PROBLEM, "%s is neither an ELF program nor a script", p->path);
    else
        found(r, GRADE_PROBLEM, "%s is for %s, libashlar.so for %s: build Ashlar for that machine",
              p->path,
              p->kind == ELF_OTHER_CLASS && is == ours ? "another class" : machine_name(is),
              machine_name(ours));
    return false;
}

static bool check_dynamic(struct report *r, const struct binary *p)
{
    char note[32];
    uint64_t at;
    if (elf_note(&p->elf, "Ashlar", note, sizeof note, &at) >= 0) {
        found(r, GRADE_OK, "Ashlar is linked into it: nothing needs to be preloaded");
        return false;
    }
    if (p->interpreter[0] != '\0')
        return true;
    found(r, GRADE_PROBLEM,
          "it is linked statically, so nothing can be preloaded: link libashlar.a "
          "into it");
    return false;
}

static void check_rights(struct report *r, const struct binary *p)
{
    mode_t mode = p->stat.st_mode;
    bool uid = (mode & S_ISUID) != 0 && p->stat.st_uid != getuid();
    bool gid = (mode & S_ISGID) != 0 && p->stat.st_gid != getgid();
    if (uid || gid)
        found(r, GRADE_PROBLEM,
              "it is %s, for which the loader ignores LD_PRELOAD: run it as its owner, or list the "
              "library in /etc/ld.so.preload",
              uid ? "setuid" : "setgid");
    else if (fgetxattr(p->fd, "security.capability", NULL, 0) > 0 && getuid() != 0)
        found(r, GRADE_PROBLEM,
              "it has file capabilities, for which the loader ignores LD_PRELOAD: give them by "
              "ambient capabilities instead, or list the library in /etc/ld.so.preload");
    else
        found(r, GRADE_OK, "it runs with the rights of its caller: LD_PRELOAD is obeyed");
}

/* ---- libc and malloc ---- */

static bool is_musl(const struct binary *b)
{
    return strstr(b->interpreter, "ld-musl") != NULL;
}

struct needs {
    bool glibc;
    char allocator[64];
};

static bool note_need(void *arg, const char *name)
{
    static const char *const allocators[] = {"libjemalloc", "libtcmalloc", "libmimalloc",
                                             "libsnmalloc", "librpmalloc", "libhoard"};
    struct needs *n = arg;
    n->glibc |= strcmp(name, "libc.so.6") == 0;
    for (size_t i = 0; i < sizeof allocators / sizeof allocators[0]; i++)
        if (strncmp(name, allocators[i], strlen(allocators[i])) == 0)
            snprintf(n->allocator, sizeof n->allocator, "%.63s", name);
    return true;
}

static void check_libc(struct report *r, const struct binary *p, const struct binary *library)
{
    struct needs n = {0};
    elf_each_text(&library->elf, DT_NEEDED, note_need, &n);
    if (n.glibc == is_musl(p))
        found(r, GRADE_PROBLEM, "it is built for %s, libashlar.so for %s: build Ashlar with %s",
              is_musl(p) ? "musl" : "glibc", n.glibc ? "glibc" : "musl",
              is_musl(p) ? "CC=musl-gcc" : "the system's compiler");
    else
        found(r, GRADE_OK, "both are built for %s", n.glibc ? "glibc" : "musl");
}

static bool defines_malloc(const struct binary *p)
{
    struct elf_symbols s;
    bool own = false;
    elf_symbols_read(&p->elf, SHT_DYNSYM, &s);
    for (size_t i = 0; i < s.count && !own; i++)
        own = s.symbol[i].st_shndx != SHN_UNDEF &&
              strcmp(elf_symbol_name(&s, &s.symbol[i]), "malloc") == 0;
    elf_symbols_free(&s);
    return own;
}

static void check_malloc(struct report *r, const struct binary *p)
{
    struct needs n = {0};
    elf_each_text(&p->elf, DT_NEEDED, note_need, &n);
    if (defines_malloc(p))
        found(r, GRADE_PROBLEM,
              "it has a malloc of its own inside, which comes before any that is preloaded: build "
              "it without");
    else if (n.allocator[0] != '\0')
        found(r, GRADE_WARNING,
              "it is linked to %s: its malloc is replaced, but calls of its own functions (mallctl "
              "...) go on to see that one",
              n.allocator);
    else
        found(r, GRADE_OK, "its malloc comes from a library that can be replaced");
}

void doctor_program(struct report *r, const struct binary *program, const struct binary *library)
{
    check_known(r, program);
    if (!check_machine(r, program, library) || !check_dynamic(r, program))
        return;
    check_rights(r, program);
    check_libc(r, program, library);
    check_malloc(r, program);
}
