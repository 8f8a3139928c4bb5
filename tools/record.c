/*
 * ashlar record: runs a program with libashlar-record.so preloaded and tells what was written.
 *
 * The program gets the terminal, standard input and the signals of this process group as if it had
 * been run alone; this process waits, passes on what is sent to it alone, and leaves as the program
 * did. Then it seals the chunks that were open when their processes ended, and cuts off what was
 * not used of the last one. A trace whose process still lives stays as it is: it is valid too.
 */
#include "ashlar.h"
#include "library.h"
#include "show.h"
#include "trace.h"

#include "base/fmt.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FILES_SHOWN = 20 };

static volatile sig_atomic_t child;

static void pass_on(int signal)
{
    if (child > 0)
        kill(child, signal);
}

static int help(void)
{
    puts("usage: ashlar record [-o FILE] [--quiet] [--] PROGRAM [ARGUMENT...]\n\n"
         "Writes down every call of malloc and its family that PROGRAM makes, in each thread.\n\n"
         "  -o FILE   the trace (ashlar.trace); %p in it is the process's id. Processes that\n"
         "            PROGRAM starts write FILE.ID\n"
         "  --quiet   do not tell what was written\n\n"
         "With LD_PRELOAD=.../libashlar.so set, the calls are those that Ashlar gets.\n"
         "See `ashlar trace FILE`, `ashlar replay FILE`, `ashlar compare --trace FILE`.");
    return STATUS_OK;
}

/* ---- after the program ---- */

/* Where the events of an open chunk end, which every thread has left. */
static const unsigned char *events_end(const struct trace *t, const unsigned char *begin,
                                       const unsigned char *end)
{
    const unsigned char *last = begin;
    for (size_t i = 0; i < t->section_count; i++) {
        const struct trace_section *s = &t->sections[i];
        if (s->at >= begin && s->at <= end && s->end > last)
            last = s->end;
    }
    return last;
}

static bool seal_one(int fd, const struct trace *t, size_t offset, size_t *size)
{
    struct trace_chunk c;
    size_t start = offset + (offset == 0 ? sizeof t->header : 0);
    size_t stop = size_min(offset + TRACE_CHUNK, t->size);
    memcpy(&c, t->data + start, sizeof c);
    const unsigned char *events = t->data + start + sizeof c;
    if (c.bytes == 0)
        c.bytes = (uint32_t)(events_end(t, events, t->data + stop) - events);
    *size = start + sizeof c + c.bytes;
    if (c.magic != TRACE_CHUNK_MAGIC || c.bytes == 0)
        return true; /* nothing was written to it */
    c.checksum = trace_chunk_checksum(&c, events);
    return pwrite(fd, &c, sizeof c, (off_t)start) == (ssize_t)sizeof c;
}

/* Seals what is open and cuts off the end. */
static void finish(const char *path, struct trace *t)
{
    size_t size = t->size;
    bool good = t->damage[0] == '\0';
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    for (size_t offset = 0; fd >= 0 && good && offset < t->size; offset += TRACE_CHUNK)
        good = seal_one(fd, t, offset, &size);
    if (fd >= 0 && good && ftruncate(fd, (off_t)size) == 0)
        t->size = size;
    if (fd >= 0)
        close(fd);
}

/* Whether the process that writes it may still write: it lives and has the file mapped. */
static bool is_written(const struct trace *t)
{
    return kill((pid_t)t->header.pid, 0) == 0;
}

/* False: not of this run, which began at `since`. */
static bool tell(const char *path, uint64_t since, bool quiet)
{
    struct trace t;
    bool usable = trace_open(&t, path) && t.header.start_ns >= since;
    bool written = usable && is_written(&t);
    if (usable && !written)
        finish(path, &t);
    if (!quiet && usable) {
        char calls[16], size[16];
        fmt_count_text(calls, trace_calls(&t));
        fmt_bytes_text(size, t.size);
        fprintf(stderr, "ashlar: %s: ", path);
        show_text(stderr, t.header.program, SIZE_MAX);
        fprintf(stderr, ", %s calls, %zu thread%s, %s%s\n", calls, t.thread_count,
                t.thread_count == 1 ? "" : "s", size, written ? "; still being written" : "");
    }
    trace_close(&t);
    return usable;
}

/* Every file of the name, with and without a process's id; the number of them. */
static size_t tell_all(const char *path, uint64_t since, bool quiet)
{
    char pattern[2 * PATH_MAX + 8];
    size_t n = 0;
    glob_t found;
    for (const char *p = path; *p != '\0' && n + 4 < sizeof pattern; p++) {
        if (p[0] == '%' && p[1] == 'p') {
            pattern[n++] = '*';
            p++;
            continue;
        }
        if (strchr("*?[\\", *p) != NULL)
            pattern[n++] = '\\';
        pattern[n++] = *p;
    }
    memcpy(pattern + n, "*", 2);
    if (glob(pattern, 0, NULL, &found) != 0)
        return 0;
    n = 0;
    for (size_t i = 0; i < found.gl_pathc; i++)
        n += tell(found.gl_pathv[i], since, quiet || n >= FILES_SHOWN);
    if (n > FILES_SHOWN && !quiet)
        fprintf(stderr, "ashlar: ... and %zu more\n", n - FILES_SHOWN);
    globfree(&found);
    return n;
}

/* ---- the program ---- */

/*
 * Removes what an earlier run wrote under the name; false, and said, where that, or writing there,
 * cannot be.
 */
static bool make_room(const char *path)
{
    char directory[PATH_MAX];
    struct stat st;
    snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(path, '/') - path) + 1, path);
    if (strstr(directory, "%p") == NULL && access(directory, W_OK | X_OK) != 0) {
        fprintf(stderr, "ashlar: record: %s: %s\n", path, strerror(errno));
        return false;
    }
    if (strstr(path, "%p") != NULL || lstat(path, &st) != 0)
        return true;
    if (S_ISREG(st.st_mode) && unlink(path) == 0)
        return true;
    fprintf(stderr, "ashlar: record: %s: %s; name another file with -o\n", path,
            S_ISREG(st.st_mode) ? strerror(errno) : "is there already, and is no file");
    return false;
}

static bool absolute(const char *path, char *to, size_t size)
{
    char here[PATH_MAX];
    int n;
    if (path[0] == '/')
        n = snprintf(to, size, "%s", path);
    else if (getcwd(here, sizeof here) == NULL)
        n = -1;
    else
        n = snprintf(to, size, "%s/%s", here, path);
    return n > 0 && (size_t)n < size;
}

/* The status to leave with; the child's signal is this process's too. */
static int leave_as(int status)
{
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    int signal = WTERMSIG(status);
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signal, &action, NULL);
    raise(signal);
    return 128 + signal;
}

static int run(char **command, const char *library)
{
    int status;
    struct sigaction action = {.sa_handler = SIG_IGN}, before[2];
    sigaction(SIGINT, &action, &before[0]); /* a terminal sends these to the program as well */
    sigaction(SIGQUIT, &action, &before[1]);
    pid_t pid = fork();
    if (pid == 0) {
        sigaction(SIGINT, &before[0], NULL);
        sigaction(SIGQUIT, &before[1], NULL);
        _exit(library_preload(library) ? library_exec(command) : STATUS_FAILED);
    }
    if (pid < 0) {
        fprintf(stderr, "ashlar: fork: %s\n", strerror(errno));
        return STATUS_FAILED << 8;
    }
    child = pid;
    action.sa_handler = pass_on;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    child = 0;
    return status;
}

int command_record(int argc, char **argv)
{
    const char *wanted = "ashlar.trace";
    bool quiet = false;
    char path[PATH_MAX], library[2 * PATH_MAX];
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (strcmp(argv[i], "--help") == 0)
            return help();
        if (strcmp(argv[i], "--quiet") == 0)
            quiet = true;
        else if (strcmp(argv[i], "-o") == 0 && i + 1 < argc)
            wanted = argv[++i];
        else if (strncmp(argv[i], "-o", 2) == 0 && argv[i][2] != '\0')
            wanted = argv[i] + 2;
        else
            return usage_error("record: option '%s' is not known or lacks its value; see "
                               "`ashlar record --help`",
                               argv[i]);
    }
    if (i == argc)
        return usage_error("record: no program given; see `ashlar record --help`");
    if (!absolute(wanted, path, sizeof path - 64))
        return usage_error("record: -o %s: the path is too long", wanted);
    if (!library_find("libashlar-record.so", library, sizeof library) || !make_room(path))
        return STATUS_FAILED;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    setenv("ASH_RECORD", path, 1);
    int status = run(argv + i, library);
    if (tell_all(path, (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec, quiet) == 0 &&
        WIFEXITED(status) && WEXITSTATUS(status) < 126)
        fprintf(stderr,
                "ashlar: %s: nothing was recorded: is the program static, setuid, or run without "
                "its environment?\n",
                argv[i]);
    return leave_as(status);
}
