/*
 * Before anything is timed: does preloading take effect, and does the command do under each
 * allocator what it does under the first?
 *
 * The dynamic linker itself is asked whose malloc is used: LD_DEBUG=bindings makes it write down,
 * for every process that the command starts, which library each symbol was bound to. A library that
 * is merely in a process's map need not be used: programs have their own malloc. Where the linker
 * writes nothing, the program's file tells why preloading cannot work.
 */
#include "compare.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { SCRIPTS = 4 };

int subject_input(const struct subject *s)
{
    /* A redirected file is read anew by each run; a pipe or a terminal has nothing for a second. */
    const char *path = s->stdin_path != NULL ? s->stdin_path : "/proc/self/fd/0";
    struct stat st;
    if (s->stdin_path == NULL && (fstat(STDIN_FILENO, &st) != 0 || !S_ISREG(st.st_mode)))
        return -1;
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* ---- the program's file ---- */

static bool find_program(const char *name, char *path, size_t size)
{
    const char *at = getenv("PATH");
    if (strchr(name, '/') != NULL) {
        snprintf(path, size, "%s", name);
        return access(path, X_OK) == 0;
    }
    for (at = at != NULL ? at : "/bin:/usr/bin"; *at != '\0'; at += strspn(at, ":")) {
        size_t n = strcspn(at, ":");
        snprintf(path, size, "%.*s/%s", (int)n, at, name);
        if (access(path, X_OK) == 0)
            return true;
        at += n;
    }
    return false;
}

/* Whether a program of this file gets rights that its caller does not have. */
static bool is_privileged(const char *path)
{
    struct stat st;
    char capabilities[64];
    if (stat(path, &st) != 0)
        return false;
    return ((st.st_mode & S_ISUID) != 0 && st.st_uid != getuid()) ||
           ((st.st_mode & S_ISGID) != 0 && st.st_gid != getgid()) ||
           (getuid() != 0 &&
            getxattr(path, "security.capability", capabilities, sizeof capabilities) > 0);
}

static bool has_interpreter(int fd, const ElfW(Ehdr) * head)
{
    for (unsigned i = 0; i < head->e_phnum; i++) {
        ElfW(Phdr) segment;
        off_t at = (off_t)(head->e_phoff + (size_t)i * head->e_phentsize);
        if (pread(fd, &segment, sizeof segment, at) == (ssize_t)sizeof segment &&
            segment.p_type == PT_INTERP)
            return true;
    }
    return false;
}

/* Why nothing can be preloaded into the program; NULL when the file gives no reason. */
static const char *obstacle(const char *program)
{
    char path[PATH_MAX], text[PATH_MAX];
    snprintf(path, sizeof path, "%s", program);
    for (int depth = 0; depth < SCRIPTS; depth++) {
        ElfW(Ehdr) head;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return NULL;
        ssize_t n = pread(fd, text, sizeof text - 1, 0);
        text[n > 0 ? n : 0] = '\0';
        memcpy(&head, text, sizeof head);
        bool elf = n >= (ssize_t)sizeof head && memcmp(head.e_ident, ELFMAG, SELFMAG) == 0;
        bool other =
            elf && head.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32);
        bool linked = elf && !other && has_interpreter(fd, &head);
        close(fd);
        if (other)
            return "it is a program of another word size";
        if (elf && !linked)
            return "it is statically linked, so nothing can be preloaded";
        if (elf && is_privileged(path))
            return "it is setuid, setgid or has capabilities, so LD_PRELOAD is ignored";
        if (elf || strncmp(text, "#!", 2) != 0)
            return NULL;
        const char *next = text + 2 + strspn(text + 2, " \t");
        snprintf(path, sizeof path, "%.*s", (int)strcspn(next, " \t\n"), next);
    }
    return NULL;
}

/* ---- whose malloc ---- */

struct bindings {
    unsigned dynamic;   /* processes of which the linker wrote something */
    unsigned processes; /* that bound malloc or operator new */
    unsigned ours;      /* to the wanted library */
    char other[160];    /* another library that it was bound to, if possible not the C library */
};

/* Whose malloc, or operator new, is the C library's own. */
static bool is_c_library(const char *path)
{
    const char *name = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
    return strncmp(name, "libc.", 5) == 0 || strncmp(name, "libc-", 5) == 0 ||
           strncmp(name, "libstdc++.", 10) == 0 || strncmp(name, "libc++", 6) == 0;
}

static bool is_file(const char *path, const char *wanted)
{
    char real[PATH_MAX];
    return wanted[0] != '\0' && realpath(path, real) != NULL && strcmp(real, wanted) == 0;
}

/*
 * The library in "binding file A [0] to B [0]: normal symbol `malloc'"; NULL: another line, or what
 * the wanted library binds for itself.
 */
static const char *bound_to(char *line, const char *wanted)
{
    char *symbol = strstr(line, ": normal symbol `");
    char *from = strstr(line, "binding file "), *to = strstr(line, " to ");
    if (symbol == NULL || from == NULL || to == NULL)
        return NULL;
    symbol += strlen(": normal symbol `");
    if (strncmp(symbol, "malloc'", 7) != 0 && strncmp(symbol, "_Znwm'", 6) != 0)
        return NULL;
    from += strlen("binding file ");
    to += strlen(" to ");
    from[strcspn(from, " ")] = '\0';
    to[strcspn(to, " ")] = '\0';
    return is_file(from, wanted) ? NULL : to;
}

static void read_bindings(FILE *from, const char *wanted, struct bindings *b)
{
    char *line = NULL, other[sizeof b->other] = "";
    size_t room = 0;
    bool any = false, ours = false;
    while (getline(&line, &room, from) > 0) {
        const char *library = bound_to(line, wanted);
        if (library == NULL)
            continue;
        any = true;
        if (is_file(library, wanted))
            ours = true;
        else if (other[0] == '\0' || is_c_library(other))
            snprintf(other, sizeof other, "%s", library);
    }
    free(line);
    b->dynamic++;
    b->processes += any;
    b->ours += ours;
    if (any && !ours && (b->other[0] == '\0' || is_c_library(b->other)))
        memcpy(b->other, other, sizeof other);
}

/* Reads what the linker wrote to the directory, and removes it. */
static struct bindings collect(const char *directory, const char *library)
{
    struct bindings b = {0};
    char wanted[PATH_MAX] = "";
    struct dirent *entry;
    if (library[0] != '\0' && realpath(library, wanted) == NULL)
        wanted[0] = '\0';
    DIR *all = opendir(directory);
    while (all != NULL && (entry = readdir(all)) != NULL) {
        char path[PATH_MAX + 300];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        FILE *from = fopen(path, "re");
        if (from != NULL) {
            read_bindings(from, wanted, &b);
            fclose(from);
        }
        unlink(path);
    }
    if (all != NULL)
        closedir(all);
    rmdir(directory);
    return b;
}

/* ---- one run ---- */

struct probe {
    int out, err; /* memory files */
    struct child_figures figures;
    struct bindings bindings;
};

static void probe_close(struct probe *p)
{
    if (p->out >= 0)
        close(p->out);
    if (p->err >= 0)
        close(p->err);
}

/* 0, or the errno with which it could not be run. */
static int probe_run(struct contestant *who, const struct subject *s, bool debug, struct probe *p)
{
    const char *temporary = getenv("TMPDIR");
    char directory[PATH_MAX], target[PATH_MAX + 40];
    char *settings[8], debugging[] = "LD_DEBUG=bindings";
    size_t n = peers_settings(who, settings);
    *p = (struct probe){.out = memfd_create("out", MFD_CLOEXEC),
                        .err = memfd_create("err", MFD_CLOEXEC)};
    snprintf(directory, sizeof directory, "%s/ashlar-compare-XXXXXX",
             temporary != NULL && *temporary != '\0' ? temporary : "/tmp");
    debug = debug && mkdtemp(directory) != NULL;
    if (debug) {
        snprintf(target, sizeof target, "LD_DEBUG_OUTPUT=%s/ld", directory);
        settings[n++] = debugging;
        settings[n++] = target;
        settings[n] = NULL;
    }
    int in = subject_input(s);
    struct child_plan plan = {
        .command = s->command, .settings = settings, .in = in, .out = p->out, .err = p->err};
    int error = child_run(&plan, &p->figures);
    if (in >= 0)
        close(in);
    if (debug)
        p->bindings = collect(directory, who->library);
    return error;
}

static bool same_bytes(int a, int b)
{
    static char x[1 << 16], y[sizeof x];
    for (off_t at = 0;; at += (off_t)sizeof x) {
        ssize_t n = pread(a, x, sizeof x, at), m = pread(b, y, sizeof y, at);
        if (n != m || n < 0 || memcmp(x, y, (size_t)n) != 0)
            return false;
        if (n == 0)
            return true;
    }
}

/* The last line that went to standard error, as a reason. */
static void last_line(int fd, char *to, size_t size)
{
    char text[512];
    struct stat st;
    off_t from = fstat(fd, &st) == 0 && st.st_size > 500 ? st.st_size - 500 : 0;
    ssize_t n = pread(fd, text, sizeof text - 1, from);
    while (n > 0 && text[n - 1] == '\n')
        n--;
    text[n > 0 ? n : 0] = '\0';
    const char *line = strrchr(text, '\n');
    line = line != NULL ? line + 1 : text;
    snprintf(to, size, "%s%.120s", *line != '\0' ? ": " : "", line);
}

static void say_status(char *to, size_t size, const struct probe *p)
{
    char why[140];
    int status = p->figures.status;
    last_line(p->err, why, sizeof why);
    if (status > 128)
        snprintf(to, size, "the command dies by signal %d (%s)%s", status - 128,
                 strsignal(status - 128), why);
    else
        snprintf(to, size, "the command's exit status is %d%s", status, why);
}

/* ---- all of them ---- */

/* Whose malloc it was. */
static void check_bindings(const struct contestant *who, const struct probe *p, const char *reason,
                           struct check *c, size_t i)
{
    const struct bindings *b = &p->bindings;
    if (who->library[0] == '\0') {
        if (b->other[0] != '\0' && !is_c_library(b->other))
            snprintf(c->note[i], sizeof c->note[i], "malloc comes from %s", b->other);
        return;
    }
    if (reason != NULL) {
        c->left_out[i] = true;
        snprintf(c->note[i], sizeof c->note[i], "takes no effect: %s", reason);
    } else if (b->processes != 0 && b->ours == 0) {
        c->left_out[i] = true;
        snprintf(c->note[i], sizeof c->note[i], "takes no effect: malloc comes from %s", b->other);
    } else if (b->dynamic != 0 && b->processes == 0) {
        snprintf(c->note[i], sizeof c->note[i], "the command asked nobody for malloc");
    } else if (b->ours < b->processes) {
        snprintf(c->note[i], sizeof c->note[i], "%u of %u processes take malloc from %s",
                 b->processes - b->ours, b->processes, b->other);
    }
}

static bool check_one(struct contestants *all, size_t i, const struct subject *s, bool *outputs,
                      struct probe *first, const char *reason, struct check *c)
{
    struct probe p, again;
    int error = probe_run(&all->one[i], s, true, &p);
    if (error != 0) {
        fprintf(stderr, "ashlar: compare: %s: %s\n", s->command[0], strerror(error));
        probe_close(&p);
        return false;
    }
    check_bindings(&all->one[i], &p, reason, c, i);
    if (i == 0) {
        c->status = p.figures.status;
        if (c->status != 0)
            say_status(c->remark, sizeof c->remark, &p);
        if (*outputs && probe_run(&all->one[i], s, false, &again) == 0) {
            *outputs = same_bytes(p.out, again.out);
            if (!*outputs && c->remark[0] == '\0')
                snprintf(c->remark, sizeof c->remark,
                         "the command prints something else each time: outputs are not compared");
            probe_close(&again);
        }
        *first = p;
        return true;
    }
    if (!c->left_out[i] && p.figures.status != c->status) {
        c->failed[i] = c->left_out[i] = true;
        say_status(c->note[i], sizeof c->note[i], &p);
    } else if (!c->left_out[i] && *outputs && !same_bytes(first->out, p.out)) {
        c->failed[i] = true;
        snprintf(c->note[i], sizeof c->note[i], "the command prints something else than under %s",
                 all->one[0].name);
    }
    probe_close(&p);
    return true;
}

bool check_run(struct contestants *all, const struct subject *s, bool outputs, struct check *c)
{
    char program[PATH_MAX];
    struct probe first = {.out = -1, .err = -1};
    const char *reason = NULL;
    bool good = true;
    memset(c, 0, sizeof *c);
    if (find_program(s->command[0], program, sizeof program))
        reason = obstacle(program);
    for (size_t i = 0; good && i < all->count && child_interrupted == 0; i++)
        good = check_one(all, i, s, &outputs, &first, reason, c);
    probe_close(&first);
    return good && child_interrupted == 0;
}
