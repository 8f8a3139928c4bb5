/* The `ashlar` program: finds the command and runs it. */
#include "ashlar.h"

#include "ashlar/ashlar.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct command {
    const char *name, *help;
    int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
    {"run", "run a program under Ashlar: ashlar run [--stats] -- PROGRAM [ARGUMENT...]",
     command_run},
    {"compare", "a program, or a trace, under every allocator here: ashlar compare -- PROGRAM",
     command_compare},
    {"record", "write a program's allocations to a trace: ashlar record -o FILE -- PROGRAM",
     command_record},
    {"replay", "play a trace back under an allocator: ashlar replay FILE", command_replay},
    {"trace", "what is in a trace: ashlar trace FILE", command_trace},
    {"stats", "statistics of a running process: ashlar stats PID", command_stats},
    {"top", "a running process, or all that have Ashlar: ashlar top [PID]", command_top},
    {"doctor", "whether a program will run under Ashlar: ashlar doctor PROGRAM", command_doctor},
    {"completion", "completion for a shell: ashlar completion bash", command_completion},
    {"report", "make a page of statistics and heap profiles: ashlar report -o PAGE.html FILE...",
     command_report},
    {"options", "list the ASHLAR_* environment variables", command_options},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

__attribute__((format(printf, 1, 0))) static void say(const char *format, va_list args)
{
    fputs("ashlar: ", stderr);
    vfprintf(stderr, format, args);
    fputs("\n", stderr);
}

int usage_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    return STATUS_USAGE;
}

int failed(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    return STATUS_FAILED;
}

static int help(FILE *out)
{
    fputs("usage: ashlar COMMAND [OPTION...]\n\n", out);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    fputs("\n`ashlar COMMAND --help` says more. Manual: ashlar(1), ashlar(7).\n", out);
    return STATUS_OK;
}

static int run(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
        return help(stdout);
    if (strcmp(name, "--version") == 0) {
        puts("ashlar " ASHLAR_VERSION);
        return STATUS_OK;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (*name != '\0')
        return usage_error("no command '%s'; `ashlar --help` lists them", name);
    help(stderr);
    return STATUS_USAGE;
}

int main(int argc, char **argv)
{
    int status = run(argc, argv);
    bool whole = fflush(stdout) == 0 && ferror(stdout) == 0;
    return whole || status != STATUS_OK ? status : failed("the output cannot be written");
}
