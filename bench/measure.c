/*
 * measure [-n RUNS] [-e NAME=VALUE]... -o FILE COMMAND [ARGUMENT...]: runs a command and writes
 * what it cost.
 *
 * One line a run goes to FILE: wall ns, user us, system us, peak RSS KiB, minor faults, major
 * faults, exit status (128 + n for signal n). The variables are set in the command only, so what is
 * preloaded there does not load here.
 *
 * It is a program of its own, and a small one, because Linux counts the memory a process had before
 * exec as its peak: the children of an interpreter would all seem as large as the interpreter.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SETTINGS_MAX = 32 };

extern char **environ;

static int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static long microseconds(struct timeval t)
{
    return (long)t.tv_sec * 1000000 + t.tv_usec;
}

static _Noreturn void die(const char *what, int error)
{
    fprintf(stderr, "measure: %s: %s\n", what, strerror(error));
    exit(126);
}

/* The environment with `settings` in place of the variables they name; they come first. */
static char **environment(char **settings, size_t count)
{
    size_t old = 0;
    while (environ[old] != NULL)
        old++;
    char **env = calloc(old + count + 1, sizeof *env);
    if (env == NULL)
        die("environment", ENOMEM);
    memcpy(env, settings, count * sizeof *env);
    size_t n = count;
    for (size_t i = 0; i < old; i++) {
        size_t name = strcspn(environ[i], "=") + 1;
        size_t k = 0;
        while (k < count && strncmp(settings[k], environ[i], name) != 0)
            k++;
        if (k == count)
            env[n++] = environ[i];
    }
    return env;
}

/* Runs the command once and writes its line; gives back its exit status. */
static int run(char **command, char **env, FILE *to)
{
    pid_t pid;
    int status;
    struct rusage u;
    int64_t begin = clock_ns();
    int error = posix_spawnp(&pid, command[0], NULL, NULL, command, env);
    if (error != 0)
        die(command[0], error);
    while (wait4(pid, &status, 0, &u) < 0) {
        if (errno != EINTR)
            die("wait4", errno);
    }
    int64_t ns = clock_ns() - begin;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    fprintf(to, "%lld %ld %ld %ld %ld %ld %d\n", (long long)ns, microseconds(u.ru_utime),
            microseconds(u.ru_stime), u.ru_maxrss, u.ru_minflt, u.ru_majflt, code);
    return code;
}

int main(int argc, char **argv)
{
    char *settings[SETTINGS_MAX];
    size_t count = 0;
    const char *path = NULL;
    long runs = 1;
    int wrong = 0;
    int c;
    while ((c = getopt(argc, argv, "+n:e:o:")) != -1) {
        if (c == 'n')
            runs = atol(optarg);
        else if (c == 'o')
            path = optarg;
        else if (c == 'e' && count < SETTINGS_MAX && strchr(optarg, '=') != NULL)
            settings[count++] = optarg;
        else
            wrong = 1;
    }
    if (wrong || path == NULL || optind >= argc || runs < 1) {
        fputs("usage: measure [-n RUNS] [-e NAME=VALUE]... -o FILE COMMAND [ARGUMENT...]\n",
              stderr);
        return 2;
    }
    FILE *to = fopen(path, "we");
    if (to == NULL)
        die(path, errno);
    char **env = environment(settings, count);
    int status = 0;
    for (long i = 0; i < runs; i++)
        status = run(argv + optind, env, to);
    free(env);
    if (fclose(to) != 0)
        die(path, errno);
    return status;
}
