/*
 * bench_malloc: the patterns as google-benchmark programs, one for each size or number of threads.
 *
 * It measures whatever malloc the process has: preload an allocator to see it. The rules are those
 * of the pattern programs: blocks pass through DoNotOptimize, sizes come from a fixed seed, an
 * operation is an allocation with its free. Times of threaded ones are real time per operation.
 *
 *   LD_PRELOAD=.../libashlar.so bench_malloc --benchmark_filter=pair
 *   bench_malloc --live=6000000 --benchmark_filter=replace
 */
#include "random.hh"

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <sched.h>

namespace {

constexpr size_t kib = 1024;
constexpr size_t mib = 1024 * kib;
constexpr size_t page_bytes = 4096;
constexpr size_t batch_blocks = 32;

size_t live_blocks = 1000000; /* --live */

/* Sizes drawn beforehand, so that drawing them costs the measured loop nothing. */
class size_table {
public:
    size_table(size_t min, size_t max, uint64_t seed)
    {
        random_numbers g(seed);
        for (auto &n : sizes)
            n = static_cast<uint32_t>(g.size(min, max));
    }

    size_t next() { return sizes[at++ % count]; }

private:
    static constexpr size_t count = 4096;
    uint32_t sizes[count];
    size_t at = 0;
};

void *get(size_t n)
{
    void *p = std::malloc(n);
    if (p == nullptr)
        std::abort();
    *static_cast<char *>(p) = 1;
    benchmark::DoNotOptimize(p);
    return p;
}

void count_operations(benchmark::State &state, size_t each = 1)
{
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * each));
}

/* ---- one thread ---- */

void pair(benchmark::State &state)
{
    size_t n = static_cast<size_t>(state.range(0));
    for (auto _ : state)
        std::free(get(n));
    count_operations(state);
}
BENCHMARK(pair)->Arg(16)->Arg(32)->Arg(48)->Arg(64)->Arg(128)->Arg(256)->Arg(512)->Arg(1024);
BENCHMARK(pair)->Name("pair_medium")->RangeMultiplier(2)->Range(2 * kib, 64 * kib);

void batch32(benchmark::State &state)
{
    size_t n = static_cast<size_t>(state.range(0));
    void *block[batch_blocks];
    for (auto _ : state) {
        for (auto &p : block)
            p = get(n);
        for (auto p : block)
            std::free(p);
    }
    count_operations(state, batch_blocks);
}
BENCHMARK(batch32)->RangeMultiplier(4)->Range(16, 1024);
BENCHMARK(batch32)->Name("batch32_medium")->RangeMultiplier(4)->Range(2 * kib, 64 * kib);

void aligned64(benchmark::State &state)
{
    size_t n = static_cast<size_t>(state.range(0));
    void *block[batch_blocks];
    for (auto _ : state) {
        for (auto &p : block) {
            p = std::aligned_alloc(64, n);
            benchmark::DoNotOptimize(p);
        }
        for (auto p : block)
            std::free(p);
    }
    count_operations(state, batch_blocks);
}
BENCHMARK(aligned64)->RangeMultiplier(4)->Range(64, 4096);

void zeroed(benchmark::State &state)
{
    size_t n = static_cast<size_t>(state.range(0));
    for (auto _ : state) {
        char *p = static_cast<char *>(std::calloc(1, n));
        benchmark::DoNotOptimize(p);
        p[0] = p[n - 1] = 1;
        std::free(p);
    }
    count_operations(state);
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * n));
}
BENCHMARK(zeroed)->Name("calloc")->RangeMultiplier(8)->Range(64, 256 * kib);

void operators(benchmark::State &state)
{
    size_t n = static_cast<size_t>(state.range(0));
    for (auto _ : state) {
        void *p = ::operator new(n);
        benchmark::DoNotOptimize(p);
        ::operator delete(p);
    }
    count_operations(state);
}
BENCHMARK(operators)->Name("new_delete")->Arg(16)->Arg(64)->Arg(512)->Arg(4096);

/* Replaces the block of a random place among `live`; filling the places is not timed. */
void replace_among(benchmark::State &state, size_t live, size_t min, size_t max)
{
    std::vector<void *> block(live);
    random_numbers g(1);
    size_table sizes(min, max, 2);
    for (auto &p : block)
        p = get(sizes.next());
    for (auto _ : state) {
        void *&p = block[g.below(live)];
        std::free(p);
        p = get(sizes.next());
    }
    for (auto p : block)
        std::free(p);
    count_operations(state);
}

void mixed(benchmark::State &state)
{
    replace_among(state, 4096, 16, 8 * kib);
}
BENCHMARK(mixed);

void replace(benchmark::State &state)
{
    replace_among(state, live_blocks, 64, 512);
}
BENCHMARK(replace)->MinTime(1);

/* A text that grows by a few bytes with each realloc, up to the size given; then a new one. */
void realloc_append(benchmark::State &state)
{
    size_t max = static_cast<size_t>(state.range(0));
    random_numbers g(1);
    char *p = nullptr;
    size_t n = 0;
    for (auto _ : state) {
        if (n >= max) {
            std::free(p);
            p = nullptr;
            n = 0;
        }
        n += 8 + g.below(max / 64);
        p = static_cast<char *>(std::realloc(p, n));
        benchmark::DoNotOptimize(p);
        p[n - 1] = 1;
    }
    std::free(p);
    count_operations(state);
}
BENCHMARK(realloc_append)->Arg(4 * kib)->Arg(64 * kib)->Arg(4 * mib);

/* ---- large blocks: every page is touched ---- */

void large(benchmark::State &state)
{
    size_t n = static_cast<size_t>(state.range(0)) * mib;
    for (auto _ : state) {
        char *p = static_cast<char *>(get(n));
        for (size_t i = 0; i < n; i += page_bytes)
            p[i] = 1;
        std::free(p);
    }
    count_operations(state);
}
BENCHMARK(large)->RangeMultiplier(2)->Range(1, 32);

void large_random(benchmark::State &state)
{
    char *block[6] = {};
    random_numbers g(1);
    for (auto _ : state) {
        char *&p = block[g.below(6)];
        size_t n = g.size(mib, 32 * mib);
        std::free(p);
        p = static_cast<char *>(get(n));
        for (size_t i = 0; i < n; i += page_bytes)
            p[i] = 1;
    }
    for (auto p : block)
        std::free(p);
    count_operations(state);
}
BENCHMARK(large_random);

/* ---- threads ---- */

/* One writer, one reader; both sides move batches. */
struct ring {
    static constexpr size_t slots = 1024;
    alignas(64) std::atomic<size_t> head{0};
    alignas(64) std::atomic<size_t> tail{0};
    alignas(64) void *slot[slots];

    /* acquire: the reader is done with the slots; release: the blocks written to them */
    void put(void *const *block)
    {
        size_t at = head.load(std::memory_order_relaxed);
        while (at + batch_blocks - tail.load(std::memory_order_acquire) > slots)
            sched_yield();
        for (size_t i = 0; i < batch_blocks; i++)
            slot[(at + i) % slots] = block[i];
        head.store(at + batch_blocks, std::memory_order_release);
    }

    void take(void **block)
    {
        size_t at = tail.load(std::memory_order_relaxed);
        while (head.load(std::memory_order_acquire) == at)
            sched_yield();
        for (size_t i = 0; i < batch_blocks; i++)
            block[i] = slot[(at + i) % slots];
        tail.store(at + batch_blocks, std::memory_order_release);
    }
};

ring rings[8];

/* Even threads allocate, the odd thread beside each frees; all do the same number of batches. */
void producer_consumer(benchmark::State &state)
{
    size_t index = static_cast<size_t>(state.thread_index());
    ring &r = rings[index / 2];
    void *block[batch_blocks];
    size_table sizes(16, 512, index);
    for (auto _ : state) {
        if (index % 2 == 0) {
            for (auto &p : block)
                p = get(sizes.next());
            r.put(block);
        } else {
            r.take(block);
            for (auto p : block)
                std::free(p);
        }
    }
    if (index % 2 == 0)
        count_operations(state, batch_blocks);
}
BENCHMARK(producer_consumer)->Threads(2)->Threads(4)->Threads(8)->UseRealTime();

void threads_start_stop(benchmark::State &state)
{
    for (auto _ : state) {
        std::thread brief([] {
            for (size_t i = 0; i < 4; i++)
                std::free(get(64));
        });
        brief.join();
    }
    count_operations(state);
}
BENCHMARK(threads_start_stop)->UseRealTime();

/* Generations of threads: each replaces blocks of its lane and leaves them to the next thread. */
void larson(benchmark::State &state)
{
    constexpr size_t places = 1000, turns = 10000;
    size_t threads = static_cast<size_t>(state.range(0));
    std::vector<std::vector<void *>> lanes(threads, std::vector<void *>(places));
    uint64_t seed = 0;
    for (auto _ : state) {
        std::vector<std::thread> generation;
        for (auto &lane : lanes) {
            generation.emplace_back([&lane, stream = seed++] {
                random_numbers g(stream);
                for (size_t i = 0; i < turns; i++) {
                    void *&p = lane[g.below(places)];
                    std::free(p);
                    p = get(g.size(16, 512));
                }
            });
        }
        for (auto &thread : generation)
            thread.join();
    }
    for (auto &lane : lanes) {
        for (auto p : lane)
            std::free(p);
    }
    count_operations(state, threads * turns);
}
BENCHMARK(larson)->Arg(2)->Arg(8)->UseRealTime()->Unit(benchmark::kMillisecond);

/* Takes `--live=N` out of the arguments. */
void take_live(int *argc, char **argv)
{
    int kept = 1;
    for (int i = 1; i < *argc; i++) {
        if (std::strncmp(argv[i], "--live=", 7) == 0)
            live_blocks = std::strtoull(argv[i] + 7, nullptr, 10);
        else
            argv[kept++] = argv[i];
    }
    *argc = kept;
    if (live_blocks == 0)
        live_blocks = 1;
}

} // namespace

int main(int argc, char **argv)
{
    take_live(&argc, argv);
    const char *preloaded = std::getenv("LD_PRELOAD");
    benchmark::AddCustomContext("preloaded", preloaded == nullptr ? "nothing" : preloaded);
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 2;
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
