/*
 * Logs (ashlar/wal.h) in processes that fork: the child is told that the log is not its own, also when another thread
 * of the parent's was writing; and what a log does once it has failed.
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

int main(void)
{
    test_fork();
    test_fork_in_write();
    wal_remove(wal_dir);
    return tap_done();
}
