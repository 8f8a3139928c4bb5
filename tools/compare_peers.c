/*
 * The allocators that are installed. A peer is known by the names its library has; these are looked
 * for where the dynamic linker's cache says, then in the usual directories.
 */
#include "compare.h"

#include "ashlar/ashlar.h"
#include "library.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { NAMES = 4 };

static const struct {
    const char *name;
    const char *files[NAMES]; /* patterns; the first that is there */
} known[] = {
    {"jemalloc", {"libjemalloc.so.2", "libjemalloc.so"}},
    {"mimalloc", {"libmimalloc.so.3*", "libmimalloc.so.2*", "libmimalloc.so"}},
    {"tcmalloc", {"libtcmalloc_minimal.so.4", "libtcmalloc_minimal.so", "libtcmalloc.so.4"}},
    {"snmalloc", {"libsnmallocshim.so*", "libsnmallocshim-*.so"}},
    {"rpmalloc", {"librpmallocwrap.so*", "librpmalloc.so*"}},
    {"scudo",
     {"libscudo.so*", "libclang_rt.scudo_standalone-*.so", "libclang_rt.scudo_standalone.so"}},
    {"hoard", {"libhoard.so*"}},
    {"mesh", {"libmesh.so*"}},
    {"tbbmalloc", {"libtbbmalloc_proxy.so.2", "libtbbmalloc_proxy.so"}},
    {"hardened", {"libhardened_malloc.so*"}},
    {"lockless", {"libllalloc.so*"}},
};

static const char *const directories[] = {"/usr/local/lib",
                                          "/usr/lib/*-linux-gnu*",
                                          "/usr/lib64",
                                          "/usr/lib",
                                          "/usr/lib/llvm-*/lib/clang/*/lib/linux",
                                          "/usr/lib/clang/*/lib/linux",
                                          "/usr/lib/llvm-*/lib/clang/*/lib/*-linux-gnu"};

/* Whether the file is a library for programs like this one. */
static bool fits(const char *path)
{
    unsigned char own[20], other[20];
    FILE *a = fopen("/proc/self/exe", "re"), *b = fopen(path, "re");
    bool same = a != NULL && b != NULL && fread(own, sizeof own, 1, a) == 1 &&
                fread(other, sizeof other, 1, b) == 1 && memcmp(own, other, 5) == 0 &&
                memcmp(own + 18, other + 18, 2) == 0; /* ELF and its class; the machine */
    if (a != NULL)
        fclose(a);
    if (b != NULL)
        fclose(b);
    return same;
}

static bool find_file(const char *pattern, char *path, size_t size)
{
    for (size_t d = 0; d < sizeof directories / sizeof directories[0]; d++) {
        char all[PATH_MAX];
        glob_t found;
        bool good = false;
        snprintf(all, sizeof all, "%s/%s", directories[d], pattern);
        if (glob(all, 0, NULL, &found) != 0)
            continue;
        for (size_t i = found.gl_pathc; i > 0 && !good; i--) { /* the highest version first */
            good = fits(found.gl_pathv[i - 1]);
            if (good)
                snprintf(path, size, "%s", found.gl_pathv[i - 1]);
        }
        globfree(&found);
        if (good)
            return true;
    }
    return false;
}

/* ---- versions ---- */

int peers_print_own(void)
{
    int (*mimalloc)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "mi_version");
    const char *(*tcmalloc)(int *, int *, const char **) =
        (const char *(*)(int *, int *, const char **))dlsym(RTLD_DEFAULT, "tc_version");
    int (*jemalloc)(const char *, void *, size_t *, void *, size_t) =
        (int (*)(const char *, void *, size_t *, void *, size_t))dlsym(RTLD_DEFAULT, "mallctl");
    if (mimalloc != NULL) {
        int v = mimalloc();
        if (v < 10000) /* 209 is 2.0.9, later 20401 is 2.4.1 */
            printf("%d.%d.%d", v / 100, v / 10 % 10, v % 10);
        else
            printf("%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    } else if (tcmalloc != NULL) {
        int major, minor;
        const char *patch = "";
        tcmalloc(&major, &minor, &patch);
        printf("%d.%d%s", major, minor, patch);
    } else if (jemalloc != NULL) {
        const char *version = "";
        size_t n = sizeof version;
        jemalloc("version", &version, &n, NULL, 0);
        printf("%.*s", (int)strcspn(version, "-"), version);
    }
    return 0;
}

/*
 * The version, by the library or by its file's name; "" where neither tells. The library is asked
 * in a process that it is preloaded into: allocators mostly cannot be opened later.
 */
static void find_version(const char *library, char *to, size_t size)
{
    char self[PATH_MAX] = "", preload[PATH_MAX + 16], real[PATH_MAX];
    char *settings[] = {preload, NULL};
    char *command[] = {self, (char[]){"compare"}, (char[]){"--own-version"}, NULL};
    struct child_figures figures;
    int out = memfd_create("version", MFD_CLOEXEC);
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", library);
    to[0] = '\0';
    if (readlink("/proc/self/exe", self, sizeof self - 1) > 0 && out >= 0) {
        struct child_plan plan = {
            .command = command, .settings = settings, .in = -1, .out = out, .err = -1};
        bool ran = child_run(&plan, &figures) == 0 && figures.status == 0;
        ssize_t n = ran ? pread(out, to, size - 1, 0) : 0;
        to[n > 0 ? n : 0] = '\0';
    }
    if (out >= 0)
        close(out);
    if (to[0] != '\0' || realpath(library, real) == NULL)
        return;
    const char *digits = strstr(real, ".so.");
    if (digits != NULL)
        snprintf(to, size, "%.*s", (int)size - 1, digits + 4);
}

/* ---- contestants ---- */

static void add(struct contestants *all, const char *name, enum contestant_kind kind,
                const char *library, const char *grain)
{
    if (all->count == CONTESTANTS_MAX)
        return;
    struct contestant *c = &all->one[all->count++];
    char text[NAME_BYTES];
    *c = (struct contestant){.kind = kind};
    snprintf(c->name, sizeof c->name, "%s", name);
    snprintf(c->library, sizeof c->library, "%s", library);
    if (kind == KIND_PEER)
        find_version(library, c->version, sizeof c->version);
    else if (kind == KIND_ASHLAR)
        snprintf(c->version, sizeof c->version, "%s", ASHLAR_VERSION);
    else if (confstr(_CS_GNU_LIBC_VERSION, text, sizeof text) > 0 && strchr(text, ' ') != NULL)
        snprintf(c->version, sizeof c->version, "%.20s", strchr(text, ' ') + 1);
    snprintf(c->preload, sizeof c->preload, library[0] != '\0' ? "LD_PRELOAD=%s" : "LD_PRELOAD",
             library);
    snprintf(c->grain, sizeof c->grain, grain != NULL ? "ASHLAR_GRAIN=%s" : "ASHLAR_GRAIN", grain);
}

size_t peers_settings(struct contestant *c, char **to)
{
    to[0] = c->preload;
    to[1] = c->grain;
    to[2] = NULL;
    return 2;
}

void peers_find(struct contestants *all)
{
    char path[PATH_MAX];
    all->count = 0;
    add(all, "glibc", KIND_GLIBC, "", NULL);
    if (library_find("libashlar.so", path, sizeof path)) {
        add(all, "ashlar", KIND_ASHLAR, path, "64");
        add(all, "ashlar-16", KIND_ASHLAR, path, "16");
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        for (size_t k = 0; k < NAMES && known[i].files[k] != NULL; k++)
            if (find_file(known[i].files[k], path, sizeof path)) {
                add(all, known[i].name, KIND_PEER, path, NULL);
                break;
            }
}

static struct contestant *find_name(struct contestants *all, const char *name, size_t length)
{
    for (size_t i = 0; i < all->count; i++)
        if (strlen(all->one[i].name) == length && memcmp(all->one[i].name, name, length) == 0)
            return &all->one[i];
    return NULL;
}

static void list_names(FILE *to, const struct contestants *all)
{
    for (size_t i = 0; i < all->count; i++)
        fprintf(to, "%s%s", i == 0 ? "" : ", ", all->one[i].name);
}

struct contestant *peers_one(struct contestants *all, const char *what)
{
    struct contestant *found = find_name(all, what, strlen(what));
    char path[PATH_MAX], name[NAME_BYTES];
    if (found != NULL)
        return found;
    const char *file = strchr(what, '=') != NULL ? strchr(what, '=') + 1 : what;
    if (realpath(file, path) == NULL || !fits(path)) {
        fprintf(stderr,
                "ashlar: '%s' is no library for this machine and no allocator of these: ", what);
        list_names(stderr, all);
        fputs("\n", stderr);
        return NULL;
    }
    const char *base = file == what ? strrchr(path, '/') + 1 : what;
    base += file == what && strncmp(base, "lib", 3) == 0 ? 3 : 0;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(base, file == what ? "." : "="), base);
    if (find_name(all, name, strlen(name)) != NULL) {
        fprintf(stderr, "ashlar: there are two allocators of the name %s; give one as NAME=%s\n",
                name, file);
        return NULL;
    }
    add(all, name, KIND_PEER, path, NULL);
    return find_name(all, name, strlen(name));
}

bool peers_choose(struct contestants *all, const char *names)
{
    static struct contestants chosen;
    chosen.count = 0;
    for (const char *at = names; *at != '\0';) {
        size_t n = strcspn(at, ",");
        struct contestant *c = find_name(all, at, n);
        if (c == NULL) {
            fprintf(stderr, "ashlar: no allocator is named '%.*s'; there are ", (int)n, at);
            list_names(stderr, all);
            fputs("\n", stderr);
            return false;
        }
        if (find_name(&chosen, at, n) == NULL)
            chosen.one[chosen.count++] = *c;
        at += n + (at[n] == ',');
    }
    if (chosen.count == 0)
        return fputs("ashlar: --only names no allocator\n", stderr), false;
    *all = chosen;
    return true;
}
