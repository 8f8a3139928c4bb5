/*
 * Logs (ashlar/wal.h) in processes that fork: the child is told that the log is not its own, also when another thread
 * of the parent's was writing; what a log does once it has failed; locks that children have; and other users.
 */
#include "wals.h"

#include "tap.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static int count_only(void *user, uint64_t lsn, const void *data, size_t len)
{
    (void)lsn, (void)data, (void)len;
    ++*(int *)user;
    return 0;
}

static void *append_for_ever(void *log)
{
    uint64_t lsn;
    while (wal_put(log, "more", 4, &lsn) == 0 && ash_wal_sync(log, lsn) == 0)
        ;
    return NULL;
}

/* A child's copy while another thread writes: nothing of it is synced there, and it goes in one piece. */
static int child_of_writer(struct ash_wal *w, uint64_t synced)
{
    int wrong = ash_wal_sync(w, synced) != -EPERM || ash_wal_truncate(w, synced) != -EPERM;
    return wrong | (ash_wal_close(w) != 0) << 1;
}

static void test_fork_in_write(void)
{
    enum { FORKS = 20 };
    struct ash_wal *w = wal_reopen(wal_path("writer"), NULL);
    uint64_t lsn;
    pthread_t writer;
    int wrong = wal_put(w, "first", 5, &lsn) != 0 || ash_wal_sync(w, lsn) != 0, status = -1;
    pthread_create(&writer, NULL, append_for_ever, w);
    for (int i = 0; i < FORKS; i++) {
        usleep(1000);
        pid_t child = fork();
        if (child == 0)
            _exit(child_of_writer(w, lsn));
        waitpid(child, &status, 0);
        wrong += status != 0;
    }
    is_int(wrong, 0, "forked while a thread writes: the child's copy is closed");
    /* The only way out for the writer is an error. */
    struct rlimit all, none;
    getrlimit(RLIMIT_FSIZE, &all);
    none = (struct rlimit){.rlim_cur = 1, .rlim_max = all.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &none);
    pthread_join(writer, NULL);
    setrlimit(RLIMIT_FSIZE, &all);
    is_int(ash_wal_truncate(w, lsn), -EFBIG, "a log that has failed removes nothing");
    is_int(ash_wal_close(w), -EFBIG, "and says so at the end");
}

static void test_fork(void)
{
    const char *path = wal_path("fork");
    struct ash_wal *w = wal_reopen(path, NULL);
    uint64_t lsn;
    wal_put(w, "mine", 4, &lsn);
    pid_t child = fork();
    if (child == 0) {
        int good = wal_put(w, "x", 1, NULL) == -EPERM && ash_wal_sync(w, lsn) == -EPERM && ash_wal_truncate(w, 0) == -EPERM;
        _exit(good && ash_wal_close(w) == 0 ? 0 : 1);
    }
    int status = -1, got = 0;
    waitpid(child, &status, 0);
    is_int(status, 0, "a child is told that it is not its log");
    is_int(ash_wal_sync(w, lsn), 0, "the parent goes on");
    ash_wal_close(w);
    is_int(ash_wal_replay(path, count_only, &got), 0, "replayed");
    is_int(got, 1, "the parent's record alone");
}

static int gate[2];

/* A child that has not come to its exec; what forks itself is not told. */
static void *vfork_and_wait(void *arg)
{
    char byte;
    pid_t child = vfork();
    if (child == 0) {
        (void)!write(*(int *)arg, "x", 1);
        (void)!read(gate[0], &byte, 1);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    return NULL;
}

static void test_lock_in_child(void)
{
    const char *path = wal_path("spawn");
    struct ash_wal *w = wal_reopen(path, NULL);
    int said[2];
    char byte;
    pthread_t thread;
    if (pipe(gate) != 0 || pipe(said) != 0)
        exit(99);
    pthread_create(&thread, NULL, vfork_and_wait, &said[1]);
    (void)!read(said[0], &byte, 1);
    ash_wal_close(w);
    w = NULL;
    is_int(ash_wal_open(path, NULL, &w), 0, "closed, it can be opened while a child of vfork has its copies");
    (void)!write(gate[1], "x", 1);
    pthread_join(thread, NULL);
    ash_wal_close(w);
}

/* The directory above can be passed, not read. */
static void test_closed_above(void)
{
    if (geteuid() != 0) {
        skip("only root can give a directory away", 1);
        return;
    }
    const char *above = wal_path("above"), *path = wal_path("above/log");
    mkdir(above, 0711);
    mkdir(path, 0700);
    int status = chmod(wal_dir, 0711) | chown(path, 65534, 65534);
    pid_t child = fork();
    if (child == 0) {
        struct ash_wal *w;
        if (status != 0 || setegid(65534) != 0 || seteuid(65534) != 0)
            _exit(99);
        _exit(-ash_wal_open(path, NULL, &w));
    }
    waitpid(child, &status, 0);
    is_int(status, 0, "a log below a directory that cannot be read");
}

int main(void)
{
    test_fork();
    test_fork_in_write();
    test_lock_in_child();
    test_closed_above();
    wal_remove(wal_dir);
    return tap_done();
}
