/*
 * A test program that runs itself once more with an environment variable set: "again" is its argument then. The points of
 * that run go to standard error, and its exit status is one point here. In C and C++.
 */
#ifndef ASH_TESTS_AGAIN_H
#define ASH_TESTS_AGAIN_H

#include "tap.h"

#include <stdlib.h>
#include <sys/wait.h>

__attribute__((unused)) static void run_again(char **argv, const char *name, const char *value, const char *what)
{
    char again[] = "again";
    char *args[] = {argv[0], again, NULL};
    pid_t child = fork();
    if (child == 0) {
        setenv(name, value, 1);
        dup2(STDERR_FILENO, STDOUT_FILENO);
        execv("/proc/self/exe", args);
        _exit(99);
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
