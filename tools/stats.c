/* ashlar stats: what ASHLAR_STATS shows at exit, of a process that runs, without its help. */
#include "ashlar.h"
#include "sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int help(void)
{
    puts("usage: ashlar stats [--json | --prom] PID\n\n"
         "Shows the statistics of a running process that has Ashlar in: what ASHLAR_STATS would\n"
         "show. The process is neither stopped nor asked; while it runs, figures are up to a few\n"
         "milliseconds apart. At rest they are exact.\n\n"
         "  --json  as JSON\n"
         "  --prom  as Prometheus text\n");
    return STATUS_OK;
}

static int print(int pid, emit_format *emit, char **argv)
{
    static struct target target;
    char why[TARGET_WHY];
    char *text;
    size_t n;
    if (target_open(&target, pid, false, why) != TARGET_READY)
        return failed("stats: %s", why);
    enum mirror_state state = sample_text(&target, emit, &text, &n);
    if (state == MIRROR_OVERLAP)
        mirror_restart(argv);
    if (state != MIRROR_READY) {
        mirror_say(state, &target, why);
        return failed("stats: %s", why);
    }
    bool written = fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0;
    free(text);
    return written ? STATUS_OK : failed("stats: the output cannot be written");
}

bool pid_read(const char *text, int *pid)
{
    char *end;
    long n = strtol(text, &end, 10);
    *pid = (int)n;
    return end != text && *end == '\0' && n > 0 && n < 1 << 30;
}

int command_stats(int argc, char **argv)
{
    emit_format *emit = emit_text;
    int pid = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            return help();
        if (strcmp(argv[i], "--json") == 0)
            emit = emit_json;
        else if (strcmp(argv[i], "--prom") == 0)
            emit = emit_prom;
        else if (pid != 0 || !pid_read(argv[i], &pid))
            return usage_error("stats: '%s' is neither an option nor a process; see `ashlar stats "
                               "--help`",
                               argv[i]);
    }
    if (pid == 0)
        return usage_error("stats: no process given; `ashlar top` lists those with Ashlar");
    return print(pid, emit, argv - 1);
}
