/*
 * ashlar run: sets the environment and becomes the program, so exit status and signals are the
 * program's own.
 */
#include "ashlar.h"
#include "library.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    return library_find("libashlar.so", library, sizeof library) && library_preload(library)
               ? library_exec(argv + i)
               : STATUS_FAILED;
}
