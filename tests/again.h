/*
 * A test program that runs itself once more with an environment variable set: "again" is its argument then. The points of
 * that run go to standard error, and its exit status is one point here. In C and C++. ASH_TEST_RUNNER names the program that
 * runs it where the system does not, an emulator.
 */
#ifndef ASH_TESTS_AGAIN_H
#define ASH_TESTS_AGAIN_H

#include "tap.h"

#include <stdlib.h>
#include <sys/wait.h>

/* Replaces this process by the program at its beginning; args[0] is its path. */
__attribute__((unused)) static void exec_self(char **args)
{
    char *runner = getenv("ASH_TEST_RUNNER"), *all[8] = {runner};
    for (int i = 0; i < 6 && args[i] != NULL; i++)
        all[i + 1] = args[i];
    if (runner != NULL)
        execvp(runner, all);
    else
        execv("/proc/self/exe", args);
    _exit(99);
}

__attribute__((unused)) static void run_again(char **argv, const char *name, const char *value, const char *what)
{
    char again[] = "again";
    char *args[] = {argv[0], again, NULL};
    pid_t child = fork();
    if (child == 0) {
        setenv(name, value, 1);
        dup2(STDERR_FILENO, STDOUT_FILENO);
        exec_self(args);
    }
    int status = -1;
    waitpid(child, &status, 0);
    is_int(status, 0, what);
}

__attribute__((unused)) static void run_again_in_grain_16(char **argv)
{
    run_again(argv, "ASHLAR_GRAIN", "16", "all of it in grain 16 (points on standard error)");
}

#endif
