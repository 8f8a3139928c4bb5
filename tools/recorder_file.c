#include "recorder_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { NAMES_TRIED = 100 };

unsigned char file_page[2 * FILE_PAGE];
_Atomic(uint32_t) file_threads;

static char wanted[PATH_MAX];    /* of ASH_RECORD, absolute; lock */
static char path[PATH_MAX + 40]; /* of this process's file; lock until it is begun */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t file_ns(void)
{
    struct file *file = file_own();
    return clock_ns(CLOCK_MONOTONIC) - file->start_ns;
}

static void lock(void)
{
    struct file *file = file_own();
    while (exchange_acquire(&file->lock, 1) != 0) /* acquire: pairs with unlock's release */
        sched_yield();
}

static void unlock(void)
{
    struct file *file = file_own();
    store_release(&file->lock, 0); /* release: what the lock guards */
}

/* ---- chunks ---- */

static ASH_COLD bool stop(int error)
{
    struct file *file = file_own();
    char line[PATH_MAX + 200];
    if (exchange_acquire(&file->stopped, 1) != 0)
        return false;
    int n =
        snprintf(line, sizeof line, "ashlar: recording to %s stopped: %s; the program goes on\n",
                 path, strerror(error));
    if (write(STDERR_FILENO, line, (size_t)n) < 0)
        return false;
    return false;
}

/* 0, or what is wrong. The blocks are there afterwards. */
static int chunk_reserve(int fd, off_t offset)
{
    static const char zeroes[4096];
    struct rlimit limit;
    /* Beyond the limit there would be a signal. */
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < (rlim_t)offset + TRACE_CHUNK)
        return EFBIG;
    if (fallocate(fd, 0, offset, TRACE_CHUNK) == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return errno;
    for (off_t i = 0; i < TRACE_CHUNK; i += (off_t)sizeof zeroes) {
        if (pwrite(fd, zeroes, sizeof zeroes, offset + i) != (ssize_t)sizeof zeroes)
            return errno != 0 ? errno : ENOSPC;
    }
    return 0;
}

static unsigned char *chunk_map(int fd, uint32_t number)
{
    off_t offset = (off_t)number * TRACE_CHUNK;
    int error = chunk_reserve(fd, offset);
    if (error == 0) {
        void *p = mmap(NULL, TRACE_CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
        if (p != MAP_FAILED)
            return p;
        error = errno;
    }
    stop(error);
    return NULL;
}

static struct trace_chunk *chunk_head(unsigned char *chunk)
{
    /* The first one's is behind the file's header, which begins like no chunk. */
    bool first = memcmp(chunk, TRACE_MAGIC, sizeof TRACE_MAGIC - 1) == 0;
    return (struct trace_chunk *)(void *)(chunk + (first ? sizeof(struct trace_header) : 0));
}

static struct file_spare chunk_begin(unsigned char *chunk, uint32_t number)
{
    struct trace_chunk *head = chunk_head(chunk);
    *head = (struct trace_chunk){.magic = TRACE_CHUNK_MAGIC, .number = number};
    return (struct file_spare){chunk, (unsigned char *)(head + 1)};
}

static bool chunk_new(struct file_spare *room)
{
    struct file *file = file_own();
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return stop(errno);
    bool same = fstat(fd, &st) == 0 && st.st_dev == file->device && st.st_ino == file->inode;
    uint32_t number = same ? add_relaxed(&file->chunks, 1) : 0;
    unsigned char *chunk = same ? chunk_map(fd, number) : NULL;
    close(fd);
    if (!same)
        return stop(ESTALE);
    if (chunk == NULL)
        return false;
    *room = chunk_begin(chunk, number);
    return true;
}

bool file_take(struct file_spare *room)
{
    struct file *file = file_own();
    lock();
    bool spare = file->spare_count != 0;
    if (spare)
        *room = file->spare[--file->spare_count];
    unlock();
    return spare || (load_relaxed(&file->stopped) == 0 && chunk_new(room));
}

void file_give(const struct file_spare *rest)
{
    struct file *file = file_own();
    lock();
    bool kept = file->spare_count < FILE_SPARES;
    if (kept)
        file->spare[file->spare_count++] = *rest;
    unlock();
    if (!kept)
        file_seal(rest->chunk, rest->at);
}

void file_seal(unsigned char *chunk, const unsigned char *at)
{
    struct trace_chunk *head = chunk_head(chunk);
    head->bytes = (uint32_t)(at - (unsigned char *)(head + 1));
    head->checksum = trace_chunk_checksum(head, head + 1);
    munmap(chunk, TRACE_CHUNK);
}

unsigned char *file_chunk_end(unsigned char *chunk)
{
    return chunk + TRACE_CHUNK;
}

/* ---- the beginning ---- */

static size_t read_proc(const char *name, char *to, size_t size)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, to, size - 1) : 0;
    if (fd >= 0)
        close(fd);
    n = n < 0 ? 0 : n;
    to[n] = '\0';
    return (size_t)n;
}

static void header_write(struct trace_header *h)
{
    *h = (struct trace_header){.version = TRACE_VERSION,
                               .chunk_bytes = TRACE_CHUNK,
                               .start_ns = clock_ns(CLOCK_REALTIME),
                               .pid = (uint32_t)getpid()};
    memcpy(h->magic, TRACE_MAGIC, sizeof h->magic);
    read_proc("/proc/self/comm", h->program, sizeof h->program);
    h->program[strcspn(h->program, "\n")] = '\0';
    size_t n = read_proc("/proc/self/cmdline", h->command, sizeof h->command);
    for (size_t i = 0; i + 1 < n; i++)
        if ((unsigned char)h->command[i] < ' ')
            h->command[i] = ' ';
    h->checksum = trace_header_checksum(h);
}

/*
 * Creates the process's file: the wanted name with the process's id in place of %p. Where that is
 * taken (a child, or what the process was before it executed something else), the id and then a
 * number are appended.
 */
static int file_create(void)
{
    const char *mark = strstr(wanted, "%p");
    int pid = (int)getpid();
    for (int i = 0; i < NAMES_TRIED; i++) {
        int n = mark == NULL ? snprintf(path, sizeof path, "%s", wanted)
                             : snprintf(path, sizeof path, "%.*s%d%s", (int)(mark - wanted), wanted,
                                        pid, mark + 2);
        if (i > 0 && mark == NULL)
            n += snprintf(path + n, sizeof path - (size_t)n, ".%d", pid);
        if (i > (mark == NULL))
            snprintf(path + n, sizeof path - (size_t)n, ".%d", i + (mark != NULL));
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

/* False: the environment asks for no recording. */
static bool find_wanted(void)
{
    const char *name = getenv("ASH_RECORD");
    size_t n = 0;
    if (wanted[0] != '\0')
        return true;
    if (name == NULL || name[0] == '\0')
        return false;
    if (name[0] != '/') {
        if (getcwd(wanted, sizeof wanted - 1) == NULL)
            return false;
        n = strlen(wanted);
        wanted[n++] = '/';
    }
    if (strlen(name) >= sizeof wanted - n) {
        wanted[0] = '\0';
        return false;
    }
    strcpy(wanted + n, name);
    return true;
}

static bool begin_locked(void)
{
    struct file *file = file_own();
    struct stat st;
    struct file_spare first;
    if (!find_wanted() || madvise(file, FILE_PAGE, MADV_WIPEONFORK) != 0) {
        store_relaxed(&file->stopped, 1);
        return false;
    }
    int fd = file_create();
    if (fd < 0)
        return stop(errno);
    unsigned char *chunk = fstat(fd, &st) == 0 ? chunk_map(fd, 0) : NULL;
    close(fd);
    if (chunk == NULL)
        return stop(errno);
    file->device = (uint64_t)st.st_dev;
    file->inode = (uint64_t)st.st_ino;
    file->start_ns = clock_ns(CLOCK_MONOTONIC);
    store_relaxed(&file->chunks, 1);
    header_write((struct trace_header *)(void *)chunk);
    first = chunk_begin(chunk, 0);
    file->spare[file->spare_count++] = first;
    /* release: what was begun; pairs with the acquire in file_begin and in whoever compares it */
    store_release(&file->epoch, load_relaxed(&file_threads) + 1);
    return true;
}

bool file_begin(void)
{
    struct file *file = file_own();
    if (environ == NULL || load_relaxed(&file->stopped) != 0)
        return false; /* libc has not begun, or nothing is to be recorded */
    if (load_acquire(&file->epoch) != 0)
        return true;
    lock();
    bool begun = load_relaxed(&file->epoch) != 0 || begin_locked();
    unlock();
    return begun;
}
