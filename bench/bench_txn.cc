/*
 * bench_txn: the transaction layer (ashlar/txn.h), each part beside what a program would write itself.
 *
 *   deque       a task pushed and taken by its owner; 64 pushed, then taken
 *   exec        a task spawned and run: by a task, from outside, in groups; and a queue with a mutex
 *               and a condition variable
 *   exec_for    a loop of n additions, divided; and not divided
 *   gate        a unit in and out
 *
 * Times are real time, for one task, element or pair.
 */
#include "random.hh"

#include <ashlar/txn.h>

#include <benchmark/benchmark.h>

#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace {

void need(bool good)
{
    if (!good)
        std::abort();
}

unsigned processors()
{
    unsigned n = std::thread::hardware_concurrency();
    return n == 0 ? 1 : n;
}

struct counted {
    uint64_t value;
    char rest[56];
};

void count(void *arg)
{
    static_cast<counted *>(arg)->value++;
}

ash_exec *exec_make(unsigned workers)
{
    ash_exec_config config{};
    config.struct_size = sizeof config;
    config.queue = 1 << 16;
    config.flags = workers == 0 ? ASH_EXEC_NO_THREADS : 0;
    ash_exec *e = ash_exec_create(workers, &config);
    need(e != nullptr);
    return e;
}

void figures(benchmark::State &state, ash_exec *e)
{
    struct ash_exec_stats s{};
    s.struct_size = sizeof s;
    need(ash_exec_stats(e, &s) == 0);
    state.counters["stolen%"] = 100.0 * static_cast<double>(s.stolen) / static_cast<double>(s.run);
    state.counters["wakes%"] = 100.0 * static_cast<double>(s.wakes) / static_cast<double>(s.run);
}

/* ---- spawning ---- */

constexpr unsigned batch = 10000;

struct spawner {
    ash_exec *exec;
    counted *to;
    unsigned n;
};

void spawn_all(void *arg)
{
    auto *s = static_cast<spawner *>(arg);
    for (unsigned i = 0; i < s->n; i++)
        need(ash_exec_spawn(s->exec, count, &s->to[i % 64]) == 0);
}

/* A task spawns and its worker, or those that steal, run: argument 0 is the number of workers. */
void exec_spawn_inside(benchmark::State &state)
{
    static counted to[64];
    ash_exec *e = exec_make(static_cast<unsigned>(state.range(0)));
    spawner s{e, to, batch};
    for (auto _ : state) {
        need(ash_exec_spawn(e, spawn_all, &s) == 0);
        need(ash_exec_drain(e) == 0);
    }
    state.SetItemsProcessed(state.iterations() * batch);
    figures(state, e);
    ash_exec_destroy(e);
}
BENCHMARK(exec_spawn_inside)->Arg(0)->Arg(1)->Arg(2)->UseRealTime();

void exec_spawn_outside(benchmark::State &state)
{
    static counted to[64];
    ash_exec *e = exec_make(static_cast<unsigned>(state.range(0)));
    spawner s{e, to, batch};
    for (auto _ : state) {
        spawn_all(&s);
        need(ash_exec_drain(e) == 0);
    }
    state.SetItemsProcessed(state.iterations() * batch);
    figures(state, e);
    ash_exec_destroy(e);
}
BENCHMARK(exec_spawn_outside)->Arg(0)->Arg(1)->Arg(2)->UseRealTime();

void exec_group(benchmark::State &state)
{
    static counted to[64];
    ash_exec *e = exec_make(static_cast<unsigned>(state.range(0)));
    for (auto _ : state) {
        ash_group g{};
        for (unsigned i = 0; i < 64; i++)
            need(ash_exec_spawn_in(e, &g, count, &to[i]) == 0);
        need(ash_exec_join(e, &g) == 0);
    }
    state.SetItemsProcessed(state.iterations() * 64);
    ash_exec_destroy(e);
}
BENCHMARK(exec_group)->Arg(0)->Arg(1)->UseRealTime();

/* What there is without: a queue of std::function's parts, a mutex, a condition variable. */
class queue
{
public:
    explicit queue(unsigned workers)
    {
        for (unsigned i = 0; i < workers; i++)
            threads.emplace_back([this] { work(); });
    }
    ~queue()
    {
        {
            std::lock_guard<std::mutex> hold(mutex);
            stop = true;
        }
        more.notify_all();
        for (auto &t : threads)
            t.join();
    }
    void spawn(void (*fn)(void *), void *arg)
    {
        {
            std::lock_guard<std::mutex> hold(mutex);
            tasks.emplace_back(fn, arg);
            left++;
        }
        more.notify_one();
    }
    void drain()
    {
        std::unique_lock<std::mutex> hold(mutex);
        done.wait(hold, [this] { return left == 0; });
    }

private:
    void work()
    {
        std::unique_lock<std::mutex> hold(mutex);
        for (;;) {
            more.wait(hold, [this] { return stop || !tasks.empty(); });
            if (tasks.empty())
                return;
            auto task = tasks.front();
            tasks.pop_front();
            hold.unlock();
            task.first(task.second);
            hold.lock();
            if (--left == 0)
                done.notify_all();
        }
    }
    std::mutex mutex;
    std::condition_variable more, done;
    std::deque<std::pair<void (*)(void *), void *>> tasks;
    size_t left = 0;
    bool stop = false;
    std::vector<std::thread> threads;
};

void mutex_queue(benchmark::State &state)
{
    static counted to[64];
    queue q(static_cast<unsigned>(state.range(0)));
    for (auto _ : state) {
        for (unsigned i = 0; i < batch; i++)
            q.spawn(count, &to[i % 64]);
        q.drain();
    }
    state.SetItemsProcessed(state.iterations() * batch);
}
BENCHMARK(mutex_queue)->Arg(1)->Arg(2)->UseRealTime();

/* ---- loops ---- */

struct numbers {
    std::vector<uint64_t> of;
    uint64_t sum;
};

uint64_t sum_of(const numbers &n, size_t begin, size_t end)
{
    uint64_t sum = 0;
    for (size_t i = begin; i < end; i++)
        sum += n.of[i] * n.of[i] % 1000003; /* a division: some nanoseconds */
    return sum;
}

void sum_part(size_t begin, size_t end, void *arg)
{
    auto *n = static_cast<numbers *>(arg);
    __atomic_add_fetch(&n->sum, sum_of(*n, begin, end), __ATOMIC_RELAXED);
}

void exec_for(benchmark::State &state)
{
    numbers n{std::vector<uint64_t>(1000000, 7), 0};
    ash_exec *e = exec_make(static_cast<unsigned>(state.range(0)));
    for (auto _ : state)
        need(ash_exec_for(e, n.of.size(), 0, sum_part, &n) == 0);
    benchmark::DoNotOptimize(n.sum);
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(n.of.size()));
    ash_exec_destroy(e);
}
BENCHMARK(exec_for)->Arg(0)->Arg(1)->Arg(3)->UseRealTime();

void plain_for(benchmark::State &state)
{
    numbers n{std::vector<uint64_t>(1000000, 7), 0};
    for (auto _ : state)
        n.sum += sum_of(n, 0, n.of.size());
    benchmark::DoNotOptimize(n.sum);
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(n.of.size()));
}
BENCHMARK(plain_for)->UseRealTime();

/* ---- gates ---- */

void gate(benchmark::State &state)
{
    static ash_gate *g;
    if (state.thread_index() == 0) {
        ash_gate_config config{};
        config.struct_size = sizeof config;
        config.limit = 1000;
        g = ash_gate_create(nullptr, &config);
    }
    for (auto _ : state) {
        need(ash_gate_enter(g, 1, 0) == 0);
        ash_gate_leave(g, 1);
    }
    if (state.thread_index() == 0)
        need(ash_gate_destroy(g) == 0);
}
BENCHMARK(gate)->Threads(1)->Threads(2)->UseRealTime();

} // namespace

BENCHMARK_MAIN();
