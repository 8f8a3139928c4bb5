/*
 * The system calls of src/os where programs rarely get: waiting and being woken, full and broken pipes, low limits on
 * descriptors, address space that is refused or taken.
 */
#include "os/os_file.h"
#include "os/os_mem.h"
#include "os/os_process.h"
#include "os/os_wait.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { MS = 1000000, WAITERS = 4 };

static _Atomic(uint32_t) word;
static _Atomic(int) woken, asleep;

static void *waiter(void *arg)
{
    asleep++;
    while (word == 1)
        if (os_wait(&word, 1, -1) != 0)
            return arg;
    woken++;
    return arg;
}

static void nothing(int number)
{
    (void)number;
}

static void test_wait(void)
{
    word = 1;
    is_int(os_wait(&word, 0, -1), 0, "another value: no wait");
    is_int(os_wait(&word, 1, 0), -ETIMEDOUT, "no time");
    is_int(os_wait(&word, 1, 2 * MS), -ETIMEDOUT, "two milliseconds");
    pthread_t t[WAITERS];
    for (int i = 0; i < WAITERS; i++)
        pthread_create(&t[i], NULL, waiter, NULL);
    while (asleep < WAITERS)
        os_yield();
    usleep(2000);
    os_wake(&word, 1); /* nothing changed: it waits on */
    word = 2;
    os_wake(&word, WAITERS);
    for (int i = 0; i < WAITERS; i++)
        pthread_join(t[i], NULL);
    is_int(woken, WAITERS, "all are woken");

    struct sigaction action = {.sa_handler = nothing}; /* without SA_RESTART */
    sigaction(SIGUSR1, &action, NULL);
    pid_t self = getpid(), child = fork();
    if (child == 0) {
        while (getppid() == self && usleep(1000) == 0)
            kill(self, SIGUSR1);
        _exit(0);
    }
    is_int(os_wait(&word, 2, -1), -EINTR, "a signal's handler ends it");
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) != child)
        ;
    signal(SIGUSR1, SIG_IGN);
}

static void test_pipes(void)
{
    static char text[1 << 17];
    int ends[2];
    if (pipe(ends) != 0)
        abort();
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    is_int(os_write_all(ends[1], text, sizeof text), -EAGAIN, "a reader that does not read for a second");
    close(ends[0]);

    struct os_sigpipe held;
    os_sigpipe_hold(&held);
    int status = os_write_all(ends[1], text, 1);
    os_sigpipe_release(&held, status == -EPIPE);
    is_int(status, -EPIPE, "a broken pipe, without its signal");

    sigset_t set, waiting;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGPIPE);
    os_sigpipe_hold(&held);
    status = os_write_all(ends[1], text, 1);
    os_sigpipe_release(&held, status == -EPIPE);
    sigpending(&waiting);
    ok(status == -EPIPE && sigismember(&waiting, SIGPIPE), "a signal that waited before goes on waiting");
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    signal(SIGPIPE, SIG_DFL);
    close(ends[1]);
    is_int(os_write_all(ends[1], text, 1), -EBADF, "a closed descriptor");
    is_int(os_write_all(ends[1], text, 0), 0, "nothing to write");
}

static void test_files(void)
{
    char path[] = "/tmp/ash-test-os-XXXXXX", back[16];
    int fd = mkstemp(path);
    os_close(fd);
    fd = os_open_write(path);
    is_int(os_write_all(fd, "0123456789abcdefgh", 18), 0, "a file");
    is_int(os_read_small(path, back, sizeof back), 15, "read as far as there is room");
    is_str(back, "0123456789abcde", "and ended");

    struct os_file_id one, other;
    int high = os_dup_high(fd);
    ok(high >= 500 && fcntl(high, F_GETFD) == FD_CLOEXEC, "a second descriptor, high up");
    is_int(os_file_id(fd, &one) | os_file_id(high, &other), 0, "its identity");
    ok(one.device == other.device && one.inode == other.inode, "is the same");
    os_close(high);
    is_int(os_file_id(high, &other), -EBADF, "none when it is closed");
    struct rlimit all, few;
    getrlimit(RLIMIT_NOFILE, &all);
    few = (struct rlimit){.rlim_cur = 64, .rlim_max = all.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
    high = os_dup_high(fd);
    ok(high >= 10 && high < 64, "lower where the limit is");
    setrlimit(RLIMIT_NOFILE, &all);
    os_close(high);
    os_close(fd);
    fd = os_open_write(path);
    is_int(os_read_small(path, back, sizeof back), 0, "opened for writing, it is emptied");
    os_close(fd);
    unlink(path);
    is_int(os_read_small(path, back, sizeof back), -ENOENT, "no file");
    is_int(os_open_write("/"), -EISDIR, "a directory");
    is_int(os_cwd(back, 1), -ERANGE, "no room for the working directory");

    /* Each has words of its own, and other numbers have none. */
    static const int errors[] = {EACCES, EAGAIN, EBADF,  EDQUOT, EFBIG,   EIO,   EISDIR, ELOOP, EMFILE,
                                 ENOENT, ENOSPC, ENOTDIR, ENXIO,  EPIPE,   EROFS, ETXTBSY, ENAMETOOLONG};
    int without = 0, alike = 0;
    for (unsigned i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        const char *text = os_error_text(errors[i]);
        without += text == NULL || *text == '\0';
        for (unsigned k = 0; k < i && text != NULL; k++)
            alike += strcmp(text, os_error_text(errors[k])) == 0;
    }
    is_int(without, 0, "what files answer has words");
    is_int(alike, 0, "each its own");
    is_ptr(os_error_text(EPERM), os_error_text(EACCES), "but those of one meaning");
    is_ptr(os_error_text(EDOM), NULL, "other errors have none");
}

static void test_memory(void)
{
    size_t page = os_page_size(), far = (size_t)1 << 62;
    ok(os_map(far) == NULL && os_reserve(far) == NULL, "too much is refused");
    char *p = os_reserve(8 * page);
    is_int(os_map_at(p, page), -EEXIST, "a place that is taken");
    is_int(os_map_at((void *)(~(size_t)0 & ~(page - 1)), page), -ENOMEM, "a place that there is not");
    is_int(os_commit(p, 4 * page), 0, "commit");
    memset(p, 1, 4 * page);
    is_int(os_move(p, p + 4 * page, 2 * page) == 0 ? p[0] == 0 && p[4 * page] == 1 : p[0] == 1 && p[4 * page] == 0, 1,
           "moved or not, as it was answered");
    os_protect(p + page, page);
    is_int(os_commit(p + page, page), 0, "what was protected can be used again");
    ok(p[page] == 0 && p[2 * page] == 1, "and is empty");
    is_int(os_purge(p, 4 * page), 0, "purge");
    is_int(p[2 * page] + p[3 * page], 0, "reads as zero");
    os_populate(p, 4 * page);
    os_huge_pages(p, 4 * page, true);
    os_huge_pages(p, 4 * page, false);
    is_int(p[0], 0, "advice changes nothing");
    os_unmap(p, 8 * page);
    is_int(os_purge(p, page), -ENOMEM, "nothing is there any more");
    is_int(os_protect(p, page), -ENOMEM, "to protect either");
    char *to = os_map(page);
    to[0] = 1;
    is_int(os_move(p, to, page), -ENOSYS, "nor to move");
    is_int(to[0], 0, "the place is mapped anew");
    os_unmap(to, page);
}

static void test_random(void)
{
    static unsigned char bytes[1 << 10];
    int counts[256] = {0}, used = 0;
    os_random(bytes, sizeof bytes);
    for (unsigned i = 0; i < sizeof bytes; i++)
        used += counts[bytes[i]]++ == 0;
    ok(used > 200, "random bytes are of %d kinds", used);
}

int main(void)
{
    alarm(60);
    errno = 77;
    test_wait();
    test_pipes();
    test_files();
    test_memory();
    test_random();
    return tap_done();
}
