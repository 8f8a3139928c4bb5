/*
 * bench_txn: the transaction layer (ashlar/txn.h), each part beside what a program would write itself.
 *
 *   exec        a task spawned and run: by a task, from outside, in groups; and a queue with a mutex
 *               and a condition variable
 *   exec_for    a loop of n additions, divided; and not divided
 *   gate        a unit in and out
 *   deque       a task pushed and taken by its owner, 1 or 100 at a time
 *   places      a transaction of 2 or 10 keys gets its place and is released
 *   transfers   between 2 to 1,000,000 accounts, with bodies of 100 to 3000 ns (the `body` column
 *               is what one took in the loop before): one after the other by a loop; by threads
 *               with locks, in any order; by the dispatcher, as it decides or in parallel always;
 *               as whole transactions, begun, submitted, polled and ended, with nothing else, with
 *               an order in the arena, with the order from malloc of libc; and as whole transactions
 *               by hand (handtxn.h), with malloc of libc, in a list or in queues for keys. txnmemory
 *               has their memory, txnload the worst second of many, bench_shards several shards
 *
 * Times are real time, for one task, element, pair or transaction.
 */
#include "transfers.h"

#include <ashlar/txn.h>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace
{

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
    struct ash_exec_stats s;
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

void deque(benchmark::State &state)
{
    uint64_t taken = 0;
    for (auto _ : state)
        taken += tasks_push_take(static_cast<unsigned>(state.range(0)));
    benchmark::DoNotOptimize(taken);
    state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(deque)->Arg(1)->Arg(100);

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

/* ---- transactions ---- */

void places(benchmark::State &state)
{
    ::places *p =
        places_create(static_cast<unsigned>(state.range(0)), static_cast<unsigned>(state.range(1)));
    for (auto _ : state)
        places_run(p, 64);
    state.SetItemsProcessed(state.iterations() * 4096);
    places_destroy(p);
}
BENCHMARK(places)->ArgsProduct({{2, 10}, {1000, 1000000}});

/* What a body takes in the loop, measured once for each setting. */
double body_ns(transfers *t, int64_t accounts, int64_t ns)
{
    static std::map<std::pair<int64_t, int64_t>, double> known;
    double &best = known[{accounts, ns}];
    for (int i = 0; i < 3 && (best == 0 || i > 0); i++) {
        auto begin = std::chrono::steady_clock::now();
        transfers_loop(t);
        std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
        double each = took.count() / TRANSFERS;
        best = best == 0 ? each : std::min(best, each);
    }
    return best;
}

struct accounts {
    accounts(benchmark::State &state, unsigned workers)
        : t(transfers_create(static_cast<unsigned>(state.range(0)),
                             static_cast<unsigned>(state.range(1)), workers))
    {
        state.counters["body"] = body_ns(t, state.range(0), state.range(1));
    }
    ~accounts()
    {
        transfers_destroy(t);
    }
    transfers *t;
};

void transfers_by_loop(benchmark::State &state)
{
    accounts a(state, 1);
    for (auto _ : state)
        transfers_loop(a.t);
    state.SetItemsProcessed(state.iterations() * TRANSFERS);
}

void transfers_by_locks(benchmark::State &state)
{
    accounts a(state, 1);
    unsigned threads = processors();
    for (auto _ : state) {
        std::vector<std::thread> running;
        for (unsigned i = 0; i < threads; i++)
            running.emplace_back(transfers_striped, a.t, i, threads);
        for (auto &t : running)
            t.join();
    }
    state.SetItemsProcessed(state.iterations() * TRANSFERS);
}

void dispatched(benchmark::State &state, int way)
{
    accounts a(state, processors() - 1);
    for (auto _ : state)
        transfers_dispatch(a.t, way);
    state.SetItemsProcessed(state.iterations() * TRANSFERS);
    state.counters["parallel%"] = ::transfers_parallel(a.t);
}

void transfers_adaptive(benchmark::State &state)
{
    dispatched(state, 2);
}

void transfers_parallel(benchmark::State &state)
{
    dispatched(state, 1);
}

void whole(benchmark::State &state, transfers_memory memory)
{
    accounts a(state, processors() - 1);
    for (auto _ : state)
        transfers_whole(a.t, memory);
    state.SetItemsProcessed(state.iterations() * TRANSFERS);
}

void transfers_bare(benchmark::State &state)
{
    whole(state, MEMORY_NONE);
}

void transfers_arena(benchmark::State &state)
{
    whole(state, MEMORY_ARENA);
}

void transfers_malloc(benchmark::State &state)
{
    whole(state, MEMORY_MALLOC);
}

void transfers_hand_list(benchmark::State &state)
{
    accounts a(state, 1);
    for (auto _ : state)
        transfers_by_hand(a.t, false);
    state.SetItemsProcessed(state.iterations() * TRANSFERS);
}

void transfers_hand_queues(benchmark::State &state)
{
    accounts a(state, 1);
    for (auto _ : state)
        transfers_by_hand(a.t, true);
    state.SetItemsProcessed(state.iterations() * TRANSFERS);
}

#define EACH ArgsProduct({{2, 16, 1000, 1000000}, {100, 300, 600, 1000, 3000}})->UseRealTime()
BENCHMARK(transfers_by_loop)->EACH;
BENCHMARK(transfers_adaptive)->EACH;
BENCHMARK(transfers_parallel)->EACH;
BENCHMARK(transfers_by_locks)->EACH;
BENCHMARK(transfers_bare)->EACH;
BENCHMARK(transfers_arena)->EACH;
BENCHMARK(transfers_malloc)->EACH;
BENCHMARK(transfers_hand_list)->EACH;
BENCHMARK(transfers_hand_queues)->EACH;

} // namespace

BENCHMARK_MAIN();
