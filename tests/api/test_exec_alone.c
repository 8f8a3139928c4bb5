/*
 * Executors without workers: three threads join, and one of them leaves when its own group is done, with a task of
 * another's group in its deque. The one that sleeps until that is done has to wake up and run it.
 */
#include "ashlar/txn.h"
#include "clock.h"
#include "tap.h"

#include <pthread.h>
#include <sched.h>

static void count(void *arg)
{
    __atomic_add_fetch((int *)arg, 1, __ATOMIC_RELAXED);
}

static struct {
    struct ash_exec *exec;
    struct ash_group slow, quick, other;
    int slow_runs, quick_left, other_runs, other_ran, other_joined;
} left;

static void flag_set(int *flag)
{
    __atomic_store_n(flag, 1, __ATOMIC_RELEASE);
}

static void flag_wait(const int *flag)
{
    while (__atomic_load_n(flag, __ATOMIC_ACQUIRE) == 0)
        sched_yield();
}

static void left_slow(void *arg)
{
    flag_set(&left.slow_runs);
    flag_wait(arg);
}

/* It is run by the one that joins `slow`, and adds to its group when everybody else has left or sleeps. */
static void left_other(void *arg)
{
    flag_set(&left.other_runs);
    flag_wait(&left.quick_left);
    sleep_ms(50);
    ash_exec_spawn_in(left.exec, &left.other, count, arg);
}

static void *join_quick(void *arg)
{
    ash_exec_join(left.exec, &left.quick);
    flag_set(&left.quick_left);
    return arg;
}

static void *join_other(void *arg)
{
    flag_wait(&left.other_runs);
    ash_exec_join(left.exec, &left.other);
    flag_set(&left.other_joined);
    return arg;
}

int main(void)
{
    pthread_t quick, other;
    int ran = 0;
    struct ash_exec *e = left.exec = ash_exec_create(0, ASH_EXEC_CONFIG(.flags = ASH_EXEC_NO_THREADS));
    ash_exec_spawn_in(e, &left.slow, left_slow, &left.other_runs);
    ash_exec_spawn_in(e, &left.quick, count, &ran);
    ash_exec_spawn_in(e, &left.other, left_other, &left.other_ran);
    pthread_create(&quick, NULL, join_quick, NULL);
    flag_wait(&left.slow_runs);
    pthread_create(&other, NULL, join_other, NULL);
    is_int(ash_exec_join(e, &left.slow), 0, "a join that runs another's task, and leaves what that spawns");
    pthread_join(quick, NULL);
    for (int i = 0; i < 5000 && __atomic_load_n(&left.other_joined, __ATOMIC_ACQUIRE) == 0; i++)
        sleep_ms(1);
    ok(left.other_joined == 1 && left.other_ran == 1, "who sleeps until it is done runs it");
    ash_exec_drain(e);
    pthread_join(other, NULL);
    ash_exec_destroy(e);
    return tap_done();
}
