/*
 * What the program's dynamic loader would load. It is asked with LD_TRACE_LOADED_OBJECTS, as ldd
 * does, but the loader itself is started, with the program as its argument: so the kernel runs no
 * interpreter that a foreign file names, and nothing of the program runs. It is done only with a
 * loader that root owns and nobody else may write, which is where a system's loaders are.
 */
#include "doctor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 10000, OUTPUT_MAX = 256 * 1024 };

static bool is_trusted(const char *loader)
{
    char real[PATH_MAX];
    struct stat s;
    return realpath(loader, real) != NULL && stat(real, &s) == 0 && S_ISREG(s.st_mode) &&
           s.st_uid == 0 && (s.st_mode & (S_IWGRP | S_IWOTH)) == 0 &&
           (strncmp(real, "/lib", 4) == 0 || strncmp(real, "/usr/lib", 8) == 0);
}

static void become_loader(int out, const struct binary *program, const struct binary *library)
{
    int null = open("/dev/null", O_RDWR);
    dup2(null, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    setenv("LD_PRELOAD", library->path, 1);
    setenv("LD_TRACE_LOADED_OBJECTS", "1", 1);
    setenv("LC_ALL", "C", 1);
    unsetenv("LD_AUDIT");
    unsetenv("LD_DEBUG");
    char *argv[] = {(char *)(uintptr_t)program->interpreter, (char *)(uintptr_t)program->path,
                    NULL};
    execv(program->interpreter, argv);
    _exit(127);
}

/* All that comes, as long as it comes in time. */
static size_t read_all(int fd, char *text, size_t cap)
{
    struct pollfd in = {.fd = fd, .events = POLLIN};
    size_t n = 0;
    while (n < cap - 1 && poll(&in, 1, PATIENCE_MS) > 0) {
        ssize_t k = read(fd, text + n, cap - 1 - n);
        if (k <= 0)
            break;
        n += (size_t)k;
    }
    text[n] = '\0';
    return n;
}

/* Starts it and waits; its status, or -1. */
static int ask(const struct binary *program, const struct binary *library, char *text, size_t cap)
{
    int ends[2], status = -1;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    pid_t child = fork();
    if (child == 0)
        become_loader(ends[1], program, library);
    close(ends[1]);
    if (child > 0) {
        read_all(ends[0], text, cap);
        kill(child, SIGKILL); /* it has said all, or is stuck */
        waitpid(child, &status, 0);
    }
    close(ends[0]);
    return status;
}

/* The path behind "NAME => " or in a line of its own; false: the name is not among them. */
static bool loaded(const char *text, const char *name, char path[PATH_MAX])
{
    const char *at = strstr(text, name);
    const char *arrow = at != NULL ? strstr(at, "=> ") : NULL;
    const char *end = at != NULL ? strchr(at, '\n') : NULL;
    if (arrow == NULL || (end != NULL && arrow > end))
        return false;
    return sscanf(arrow + 3, "%4095s", path) == 1;
}

static void check_version(struct report *r, const struct binary *library, const char *text)
{
    struct binary libc;
    char path[PATH_MAX];
    if (!loaded(text, "libc.so.6 ", path) || !binary_open(&libc, path))
        return;
    uint32_t has = libc.kind == ELF_READABLE ? elf_newest(&libc.elf, "GLIBC_") : 0;
    uint32_t needs = elf_newest(&library->elf, "GLIBC_");
    if (has < needs)
        found(r, GRADE_PROBLEM, "%s is glibc %u.%u, libashlar.so needs %u.%u: build it here", path,
              has >> 16, has & 0xffff, needs >> 16, needs & 0xffff);
    else
        found(r, GRADE_OK, "glibc is %u.%u, libashlar.so needs %u.%u", has >> 16, has & 0xffff,
              needs >> 16, needs & 0xffff);
    binary_close(&libc);
}

/* The first line that complains, or NULL. */
static char *complaint(char *text)
{
    static const char *const words[] = {"cannot be preloaded", "not found", "cannot open shared",
                                        "error while loading", "wrong ELF class"};
    for (char *line = text; line != NULL && *line != '\0';) {
        char *end = strchr(line, '\n');
        size_t n = end != NULL ? (size_t)(end - line) : strlen(line);
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
            if (memmem(line, n, words[i], strlen(words[i])) != NULL) {
                line[n] = '\0';
                return line + strspn(line, " \t");
            }
        line = end != NULL ? end + 1 : NULL;
    }
    return NULL;
}

void doctor_loader(struct report *r, const struct binary *program, const struct binary *library)
{
    static char text[OUTPUT_MAX];
    if (program->kind != ELF_READABLE || program->interpreter[0] == '\0' ||
        program->elf.header.e_machine != library->elf.header.e_machine ||
        strstr(program->interpreter, "ld-linux") == NULL)
        return; /* said before, or a loader that cannot be asked */
    if (!is_trusted(program->interpreter)) {
        found(r, GRADE_WARNING, "its loader, %s, is not one of the system's: it was not asked",
              program->interpreter);
        return;
    }
    int status = ask(program, library, text, sizeof text);
    check_version(r, library, text);
    char *line = complaint(text);
    if (line != NULL)
        found(r, GRADE_PROBLEM, "the loader says: %s", line);
    else if (strstr(text, library->path) == NULL)
        found(r, GRADE_PROBLEM, "the loader does not load the library%s",
              status == 0 ? "" : ": it failed");
    else
        found(r, GRADE_OK, "the loader takes %s", library->path);
}
