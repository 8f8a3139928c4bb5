/* Where Ashlar's libraries are, and how a program gets them. */
#include "library.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool library_find(const char *name, char *path, size_t size)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = NULL;
    if (n > 0) {
        self[n] = '\0';
        slash = strrchr(self, '/');
    }
    static const char *const beside[] = {"", ".libs/", "../lib/", "../lib/ashlar/"};
    for (size_t i = 0; slash != NULL && i < sizeof beside / sizeof beside[0]; i++) {
        snprintf(path, size, "%.*s/%s%s", (int)(slash - self), self, beside[i], name);
        if (access(path, R_OK) == 0)
            return true;
    }
    static const char *const installed[] = {"", "ashlar/"};
    for (size_t i = 0; i < sizeof installed / sizeof installed[0]; i++) {
        snprintf(path, size, "%s/%s%s", ASHLAR_LIBDIR, installed[i], name);
        if (access(path, R_OK) == 0)
            return true;
    }
    fprintf(stderr,
            "ashlar: %s is neither beside this program nor in %s; install it or run from the build "
            "tree\n",
            name, ASHLAR_LIBDIR);
    return false;
}

bool library_preload(const char *library)
{
    const char *others = getenv("LD_PRELOAD");
    char *all;
    if (others == NULL || *others == '\0')
        return setenv("LD_PRELOAD", library, 1) == 0;
    if (asprintf(&all, "%s:%s", library, others) < 0)
        return false;
    bool set = setenv("LD_PRELOAD", all, 1) == 0;
    free(all);
    return set;
}

int library_exec(char **command)
{
    execvp(command[0], command);
    int error = errno;
    fprintf(stderr, "ashlar: %s: %s\n", command[0], strerror(error));
    return error == ENOENT ? 127 : 126;
}
