/*
 * bench_respool: acquire and release of resources (ashlar/respool.h) beside a pool as programs write it themselves, a
 * stack behind a mutex with a condition variable, as google-benchmark programs.
 *
 * Resources are there already: nothing is opened while it is measured. `checked` has an age, an idle time and a check
 * that is good for a second, so the clock is read. Counters: `hits` is the part of acquires that found one, `waits` that
 * had to wait.
 */
#include "ashlar/respool.h"

#include <benchmark/benchmark.h>

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

namespace {

constexpr unsigned resources = 16;
constexpr int64_t second = 1000000000;

int open_one(void **res, void *)
{
    *res = new uint64_t(0);
    return 0;
}

void close_one(void *res, void *)
{
    delete static_cast<uint64_t *>(res);
}

int check_one(void *res, void *)
{
    return res == nullptr;
}

ash_respool_config config_of(unsigned max)
{
    ash_respool_config c{};
    c.struct_size = sizeof c;
    c.min = c.soft_max = c.hard_max = max;
    c.open = open_one;
    c.close = close_one;
    return c;
}

class plain {
protected:
    struct ash_respool *pool;
    explicit plain(const ash_respool_config &c) : pool(ash_respool_create("bench", &c)) {}

public:
    explicit plain(unsigned max) : plain(config_of(max)) {}
    ~plain() { ash_respool_destroy(pool); }
    void *acquire()
    {
        void *res;
        return ash_respool_acquire(pool, &res, -1) == 0 ? res : nullptr;
    }
    void release(void *res) { ash_respool_release(pool, res); }
    void count(benchmark::State &state)
    {
        struct ash_respool_stats s;
        ash_respool_stats(pool, &s);
        double all = static_cast<double>(s.hits + s.misses);
        state.counters["hits"] = static_cast<double>(s.hits) / all;
        state.counters["waits"] = static_cast<double>(s.waits) / all;
    }
};

class checked : public plain {
    static ash_respool_config with_checks(unsigned max)
    {
        ash_respool_config c = config_of(max);
        c.ttl_ns = 3600 * second;
        c.idle_ns = 600 * second;
        c.check = check_one;
        c.check_ns = second;
        return c;
    }

public:
    explicit checked(unsigned max) : plain(with_checks(max)) {}
};

class mutex_stack {
    std::mutex mutex;
    std::condition_variable some;
    std::vector<void *> idle;

public:
    explicit mutex_stack(unsigned max)
    {
        for (unsigned i = 0; i < max; i++)
            idle.push_back(new uint64_t(0));
    }
    ~mutex_stack()
    {
        for (void *res : idle)
            close_one(res, nullptr);
    }
    void *acquire()
    {
        std::unique_lock<std::mutex> hold(mutex);
        some.wait(hold, [this] { return !idle.empty(); });
        void *res = idle.back();
        idle.pop_back();
        return res;
    }
    void release(void *res)
    {
        {
            std::lock_guard<std::mutex> hold(mutex);
            idle.push_back(res);
        }
        some.notify_one();
    }
    void count(benchmark::State &) {}
};

/* The argument is how many resources there are, for the threads of the benchmark. */
template <class Pool> void acquire_release(benchmark::State &state)
{
    static Pool *pool;
    if (state.thread_index() == 0)
        pool = new Pool(static_cast<unsigned>(state.range(0)));
    for (auto _ : state) {
        void *res = pool->acquire();
        benchmark::DoNotOptimize(++*static_cast<uint64_t *>(res));
        pool->release(res);
    }
    if (state.thread_index() == 0) {
        pool->count(state);
        delete pool;
    }
}

#define ACQUIRE_RELEASE(pool)                                                                                          \
    BENCHMARK_TEMPLATE(acquire_release, pool)->ArgName("resources")->Arg(resources);                                   \
    BENCHMARK_TEMPLATE(acquire_release, pool)                                                                          \
        ->ArgName("resources")                                                                                         \
        ->Arg(resources)                                                                                               \
        ->Arg(1)                                                                                                       \
        ->Threads(4)                                                                                                   \
        ->UseRealTime()
ACQUIRE_RELEASE(plain);
ACQUIRE_RELEASE(checked);
ACQUIRE_RELEASE(mutex_stack);

} // namespace

BENCHMARK_MAIN();
