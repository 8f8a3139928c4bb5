/*
 * bench_pool: object pools beside what they replace.
 *
 *   pool    ash_pool_get and ash_pool_put
 *   called  the same where they are not compiled in
 *   cache   the same through a cache that the program holds
 *   single  a pool for one thread
 *   malloc  this library's malloc and free
 *   glibc   those of a second libc, loaded beside the process's
 *   mutex   an array of free objects under a mutex, which pools begin as
 *   nothing no pool at all: what the pattern itself costs
 *
 * Objects are written to, and an operation is a get with its put. Figures of one pattern are from
 * one run and comparable; between runs a machine may differ from itself.
 */
#include "random.hh"

#include <ashlar/malloc.h>
#include <ashlar/pool.h>
#include <ashlar/stats.h>
#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <sched.h>

namespace {

constexpr unsigned batch_objects = 32;

ash_pool *make_pool(size_t size, unsigned flags = 0, unsigned cache = 0)
{
    ash_pool_config config{};
    config.struct_size = sizeof config;
    config.obj_size = size;
    config.flags = flags;
    config.cache = cache;
    ash_pool *pool = ash_pool_create(nullptr, &config);
    if (pool == nullptr)
        std::abort();
    return pool;
}

/* ---- the contestants: get(), put(p) ---- */

struct by_pool {
    ash_pool *pool;
    explicit by_pool(size_t size) : pool(make_pool(size)) {}
    ~by_pool() { ash_pool_destroy(pool); }
    void *get() { return ash_pool_get(pool); }
    void put(void *p) { ash_pool_put(pool, p); }
};

/* The library's functions: the compiler does not know what the pointers point to. */
struct by_called {
    ash_pool *pool;
    void *(*get_function)(ash_pool *) = ash_pool_get;
    void (*put_function)(ash_pool *, void *) = ash_pool_put;
    explicit by_called(size_t size) : pool(make_pool(size))
    {
        benchmark::DoNotOptimize(get_function);
        benchmark::DoNotOptimize(put_function);
    }
    ~by_called() { ash_pool_destroy(pool); }
    void *get() { return get_function(pool); }
    void put(void *p) { put_function(pool, p); }
};

struct by_cache {
    ash_pool *pool;
    ash_pool_cache *cache;
    explicit by_cache(size_t size) : pool(make_pool(size)), cache(ash_pool_cache_create(pool, 0)) {}
    ~by_cache()
    {
        ash_pool_cache_destroy(cache);
        ash_pool_destroy(pool);
    }
    void *get() { return ash_pool_cache_get(cache); }
    void put(void *p) { ash_pool_cache_put(cache, p); }
};

struct by_single {
    ash_pool *pool;
    explicit by_single(size_t size) : pool(make_pool(size, ASH_POOL_SINGLE_THREAD)) {}
    ~by_single() { ash_pool_destroy(pool); }
    void *get() { return ash_pool_get(pool); }
    void put(void *p) { ash_pool_put(pool, p); }
};

struct by_malloc {
    size_t size;
    explicit by_malloc(size_t n) : size(n) {}
    void *get() { return ash_malloc(size); }
    void put(void *p) { ash_free(p); }
};

struct by_glibc {
    using malloc_function = void *(size_t);
    using free_function = void(void *);
    size_t size;
    malloc_function *allocate;
    free_function *release;
    explicit by_glibc(size_t n) : size(n)
    {
        static void *libc = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
        if (libc == nullptr)
            std::abort();
        allocate = reinterpret_cast<malloc_function *>(dlsym(libc, "malloc"));
        release = reinterpret_cast<free_function *>(dlsym(libc, "free"));
    }
    void *get() { return allocate(size); }
    void put(void *p) { release(p); }
};

struct by_mutex {
    size_t size;
    std::mutex mutex;
    std::vector<void *> free;
    explicit by_mutex(size_t n) : size(n) {}
    ~by_mutex()
    {
        for (void *p : free)
            ash_free(p);
    }
    void *get()
    {
        std::lock_guard<std::mutex> lock(mutex);
        if (free.empty())
            return ash_malloc(size);
        void *p = free.back();
        free.pop_back();
        return p;
    }
    void put(void *p)
    {
        std::lock_guard<std::mutex> lock(mutex);
        free.push_back(p);
    }
};

void *touched(void *p)
{
    *static_cast<volatile char *>(p) = 1;
    benchmark::DoNotOptimize(p);
    return p;
}

void count_operations(benchmark::State &state, size_t each = 1)
{
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * each));
}

/* What the pool counted since the last call. */
void show_hits(benchmark::State &state, const ash_pool *pool)
{
    struct ash_pool_stats s;
    ash_pool_stats(pool, &s);
    state.counters["hit_%"] = 100.0 * static_cast<double>(s.hits) / static_cast<double>(s.hits + s.misses);
}

/* ---- one thread ---- */

template <class Source> void pair(benchmark::State &state)
{
    Source source(static_cast<size_t>(state.range(0)));
    for (auto _ : state)
        source.put(touched(source.get()));
    count_operations(state);
}

template <class Source> void batch32(benchmark::State &state)
{
    Source source(static_cast<size_t>(state.range(0)));
    void *object[batch_objects];
    for (auto _ : state) {
        for (auto &p : object)
            p = touched(source.get());
        for (auto p : object)
            source.put(p);
    }
    count_operations(state, batch_objects);
}

/* Ten times as many as a cache holds. */
template <class Source> void batch640(benchmark::State &state)
{
    Source source(static_cast<size_t>(state.range(0)));
    std::vector<void *> object(640);
    for (auto _ : state) {
        for (auto &p : object)
            p = touched(source.get());
        for (auto p : object)
            source.put(p);
    }
    count_operations(state, object.size());
}

#define SIZES ->Arg(64)->Arg(256)->Arg(4096)
#define ALL_OF(pattern)                                                                            \
    BENCHMARK(pattern<by_pool>)->Name(#pattern "/pool") SIZES;                                     \
    BENCHMARK(pattern<by_called>)->Name(#pattern "/called") SIZES;                                 \
    BENCHMARK(pattern<by_cache>)->Name(#pattern "/cache") SIZES;                                   \
    BENCHMARK(pattern<by_single>)->Name(#pattern "/single") SIZES;                                 \
    BENCHMARK(pattern<by_malloc>)->Name(#pattern "/malloc") SIZES;                                 \
    BENCHMARK(pattern<by_glibc>)->Name(#pattern "/glibc") SIZES;                                   \
    BENCHMARK(pattern<by_mutex>)->Name(#pattern "/mutex") SIZES
ALL_OF(pair);
ALL_OF(batch32);
ALL_OF(batch640);

void bulk(benchmark::State &state)
{
    unsigned n = static_cast<unsigned>(state.range(0));
    std::vector<void *> object(n);
    ash_pool *pool = make_pool(256);
    for (auto _ : state) {
        if (ash_pool_get_bulk(pool, object.data(), n) != 0)
            std::abort();
        benchmark::DoNotOptimize(object.data());
        ash_pool_put_bulk(pool, object.data(), n);
    }
    count_operations(state, n);
    show_hits(state, pool);
    ash_pool_destroy(pool);
}
BENCHMARK(bulk)->Arg(8)->Arg(32)->Arg(256);

/* ---- batches of mixed sizes from malloc: an operation is a block allocated and freed ---- */

struct mixed_sizes {
    static constexpr size_t batches = 64, blocks = 64;
    size_t n[batches][blocks];
    mixed_sizes()
    {
        random_numbers g(1);
        for (auto &batch : n)
            for (auto &size : batch)
                size = g.size(1, 1024);
    }
};

void mixed_batch(benchmark::State &state)
{
    mixed_sizes sizes;
    void *block[mixed_sizes::blocks];
    size_t at = 0;
    for (auto _ : state) {
        if (ash_malloc_batch(sizes.n[at++ % mixed_sizes::batches], block, mixed_sizes::blocks) != 0)
            std::abort();
        benchmark::DoNotOptimize(block);
        ash_free_batch(block, mixed_sizes::blocks);
    }
    count_operations(state, mixed_sizes::blocks);
}
BENCHMARK(mixed_batch)->Name("mixed/batch");

template <class Source> void mixed(benchmark::State &state)
{
    mixed_sizes sizes;
    Source source(0);
    void *block[mixed_sizes::blocks];
    size_t at = 0;
    for (auto _ : state) {
        const size_t *n = sizes.n[at++ % mixed_sizes::batches];
        for (auto &p : block) {
            source.size = *n++;
            p = source.get();
        }
        benchmark::DoNotOptimize(block);
        for (auto p : block)
            source.put(p);
    }
    count_operations(state, mixed_sizes::blocks);
}
BENCHMARK(mixed<by_malloc>)->Name("mixed/malloc");
BENCHMARK(mixed<by_glibc>)->Name("mixed/glibc");

/* ---- traces: what part of the gets a thread's cache serves ---- */

enum trace { steady, burst, requests };

/* How many objects are wanted next, after `now`. */
size_t next_level(trace kind, random_numbers &g, size_t now, size_t step)
{
    switch (kind) {
    case steady: /* some dozens, up and down by one */
        return now < 10 ? now + 1 : now > 50 ? now - 1 : now + 1 - 2 * g.below(2);
    case burst: /* 64, and every thousand steps ten times as many */
        return step % 1000 < 500 ? 64 : 640;
    default: /* requests of 1 to 40 objects each, of which 4 run at a time */
        return g.below(4) * 10 + g.below(40);
    }
}

void hit_rate(benchmark::State &state)
{
    trace kind = static_cast<trace>(state.range(0));
    ash_pool *pool = make_pool(256);
    std::vector<void *> object(1000);
    random_numbers g(1);
    size_t out = 0, step = 0, gets = 0;
    for (auto _ : state) {
        size_t level = next_level(kind, g, out, step++);
        for (; out < level; gets++)
            object[out++] = touched(ash_pool_get(pool));
        while (out > level)
            ash_pool_put(pool, object[--out]);
    }
    count_operations(state);
    state.counters["gets"] = static_cast<double>(gets);
    show_hits(state, pool);
    while (out > 0)
        ash_pool_put(pool, object[--out]);
    ash_pool_destroy(pool);
}
BENCHMARK(hit_rate)->Name("hit_rate/steady")->Arg(steady);
BENCHMARK(hit_rate)->Name("hit_rate/burst")->Arg(burst);
BENCHMARK(hit_rate)->Name("hit_rate/requests")->Arg(requests);

/* ---- threads: items_per_second is of all together ---- */

template <class Source> Source *shared_source;

/* Each thread gets and puts its own. */
template <class Source> void local(benchmark::State &state)
{
    if (state.thread_index() == 0)
        shared_source<Source> = new Source(256);
    void *object[batch_objects];
    Source *source = nullptr;
    for (auto _ : state) {
        source = shared_source<Source>; /* set by now: all threads have come to the loop */
        for (auto &p : object)
            p = touched(source->get());
        for (auto p : object)
            source->put(p);
    }
    count_operations(state, batch_objects);
    if (state.thread_index() == 0)
        delete shared_source<Source>;
}

/* One writer, one reader; both sides move batches. */
struct ring {
    static constexpr size_t slots = 1024;
    alignas(64) std::atomic<size_t> head{0};
    alignas(64) std::atomic<size_t> tail{0};
    alignas(64) void *slot[slots];

    /* acquire: the reader is done with the slots; release: the objects written to them */
    void put(void *const *object)
    {
        size_t at = head.load(std::memory_order_relaxed);
        while (at + batch_objects - tail.load(std::memory_order_acquire) > slots)
            sched_yield();
        for (size_t i = 0; i < batch_objects; i++)
            slot[(at + i) % slots] = object[i];
        head.store(at + batch_objects, std::memory_order_release);
    }

    void take(void **object)
    {
        size_t at = tail.load(std::memory_order_relaxed);
        while (head.load(std::memory_order_acquire) == at)
            sched_yield();
        for (size_t i = 0; i < batch_objects; i++)
            object[i] = slot[(at + i) % slots];
        tail.store(at + batch_objects, std::memory_order_release);
    }
};

ring rings[4];

/* Even threads get, the odd one beside each puts; all do the same number of batches. */
template <class Source> void passed_on(benchmark::State &state)
{
    size_t index = static_cast<size_t>(state.thread_index());
    ring &r = rings[index / 2];
    if (index == 0)
        shared_source<Source> = new Source(256);
    void *object[batch_objects];
    for (auto _ : state) {
        if (index % 2 == 0) {
            for (auto &p : object)
                p = touched(shared_source<Source>->get());
            r.put(object);
        } else {
            r.take(object);
            for (auto p : object)
                shared_source<Source>->put(p);
        }
    }
    if (index % 2 == 0)
        count_operations(state, batch_objects);
    if (index == 0)
        delete shared_source<Source>;
}

/* The same by one thread: what there is to share. */
template <class Source> void passed_alone(benchmark::State &state)
{
    Source source(256);
    void *object[batch_objects];
    for (auto _ : state) {
        for (auto &p : object)
            p = touched(source.get());
        rings[0].put(object);
        rings[0].take(object);
        for (auto p : object)
            source.put(p);
    }
    count_operations(state, batch_objects);
}

/* The hand-over alone: objects come out of an array and are not taken back. */
struct by_nothing {
    static constexpr size_t objects = 2 * ring::slots;
    size_t size, next = 0;
    std::vector<char> memory;
    explicit by_nothing(size_t n) : size(n), memory(n * objects) {}
    void *get() { return &memory[next++ % objects * size]; }
    void put(void *p) { benchmark::DoNotOptimize(p); }
};

BENCHMARK(passed_alone<by_pool>)->Name("passed_alone/pool");
BENCHMARK(passed_alone<by_nothing>)->Name("passed_alone/nothing");
BENCHMARK(passed_on<by_nothing>)->Name("passed_on/nothing")->Threads(2)->UseRealTime();
BENCHMARK(local<by_pool>)->Name("local/pool")->ThreadRange(1, 4)->UseRealTime();
BENCHMARK(local<by_malloc>)->Name("local/malloc")->ThreadRange(1, 4)->UseRealTime();
BENCHMARK(local<by_mutex>)->Name("local/mutex")->ThreadRange(1, 4)->UseRealTime();
BENCHMARK(passed_on<by_pool>)->Name("passed_on/pool")->Threads(2)->Threads(4)->UseRealTime();
BENCHMARK(passed_on<by_malloc>)->Name("passed_on/malloc")->Threads(2)->Threads(4)->UseRealTime();
BENCHMARK(passed_on<by_mutex>)->Name("passed_on/mutex")->Threads(2)->Threads(4)->UseRealTime();

/* ---- memory: 100,000 objects, all out and then all put back ---- */

uint64_t held_bytes()
{
    struct ash_stats s;
    s.struct_size = sizeof s;
    ash_stats_get(&s);
    return s.live_bytes + s.meta_bytes;
}

void memory(benchmark::State &state)
{
    constexpr size_t objects = 100000;
    size_t size = static_cast<size_t>(state.range(0));
    std::vector<void *> object(objects);
    double out = 0, back = 0;
    for (auto _ : state) {
        uint64_t before = held_bytes();
        ash_pool *pool = make_pool(size);
        struct ash_pool_stats s;
        auto overhead = [&] {
            ash_pool_stats(pool, &s);
            double all = static_cast<double>(held_bytes() - before + s.bytes);
            return 100 * (all / static_cast<double>(objects * size) - 1);
        };
        for (auto &p : object)
            p = touched(ash_pool_get(pool));
        out = overhead();
        for (auto p : object)
            ash_pool_put(pool, p);
        back = overhead();
        ash_pool_destroy(pool);
    }
    state.counters["overhead_%"] = out;
    state.counters["put_back_%"] = back;
}
BENCHMARK(memory)->Arg(64)->Arg(128)->Arg(256)->Arg(512)->Arg(1024)->Arg(2048)->Arg(4096)->Iterations(1);

} // namespace

BENCHMARK_MAIN();
