/*
 * ashlar run: sets the environment and becomes the program, so exit status and signals are the
 * program's own.
 *
 * The library is the one beside the tool (a build tree), else the installed one.
 */
#include "ashlar.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int help(void)
{
    puts("usage: ashlar run [OPTION...] [--] PROGRAM [ARGUMENT...]\n\n"
         "Runs PROGRAM with libashlar.so preloaded.\n\n"
         "  --stats[=FORMAT[:PATH]]  statistics at exit: text, json or prom (ASHLAR_STATS)\n"
         "  --grain=16|64            step between small size classes (ASHLAR_GRAIN)\n"
         "  --limit=BYTES            memory in use at most (ASHLAR_LIMIT)\n"
         "  --purge-ms=MS            how long freed memory stays resident (ASHLAR_PURGE_MS)\n");
    return STATUS_OK;
}

/* The environment variable for `--name=value`; false when there is no such option. */
static bool set_option(const char *arg)
{
    static const struct {
        const char *option, *variable;
    } table[] = {{"--stats", "ASHLAR_STATS"},
                 {"--grain", "ASHLAR_GRAIN"},
                 {"--limit", "ASHLAR_LIMIT"},
                 {"--purge-ms", "ASHLAR_PURGE_MS"}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        size_t n = strlen(table[i].option);
        if (strncmp(arg, table[i].option, n) != 0 || (arg[n] != '=' && arg[n] != '\0'))
            continue;
        if (arg[n] == '\0' && i != 0)
            return false;
        setenv(table[i].variable, arg[n] == '=' ? arg + n + 1 : "1", 1);
        return true;
    }
    return false;
}

bool find_library(char *path, size_t size)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = '\0';
        char *slash = strrchr(self, '/');
        static const char *const places[] = {"libashlar.so", ".libs/libashlar.so",
                                             "../lib/libashlar.so"};
        for (size_t i = 0; slash != NULL && i < sizeof places / sizeof places[0]; i++) {
            snprintf(path, size, "%.*s/%s", (int)(slash - self), self, places[i]);
            if (access(path, R_OK) == 0)
                return true;
        }
    }
    snprintf(path, size, "%s/libashlar.so", ASHLAR_LIBDIR);
    return access(path, R_OK) == 0;
}

static void preload(const char *library)
{
    const char *others = getenv("LD_PRELOAD");
    char *all;
    if (others == NULL || *others == '\0')
        setenv("LD_PRELOAD", library, 1);
    else if (asprintf(&all, "%s:%s", library, others) > 0)
        setenv("LD_PRELOAD", all, 1);
}

int command_run(int argc, char **argv)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (strcmp(argv[i], "--help") == 0)
            return help();
        if (!set_option(argv[i]))
            return usage_error(
                "run: option '%s' is not known or lacks its value; see `ashlar run --help`",
                argv[i]);
    }
    if (i == argc)
        return usage_error("run: no program given; see `ashlar run --help`");
    char library[2 * PATH_MAX];
    if (!find_library(library, sizeof library)) {
        fprintf(stderr,
                "ashlar: libashlar.so is neither beside this program nor in %s; install it or run "
                "from the build tree\n",
                ASHLAR_LIBDIR);
        return STATUS_FAILED;
    }
    preload(library);
    execvp(argv[i], argv + i);
    fprintf(stderr, "ashlar: %s: %s\n", argv[i], strerror(errno));
    return errno == ENOENT ? 127 : 126;
}
