/*
 * bench_ring: the rings of ashlar/ring.h beside the obvious alternatives, as google-benchmark programs.
 *
 *   queue/locked     a mutex, a condition variable, a circular buffer
 *   queue/naive      one producer, one consumer: two positions, one item a call, no batches, no waiting
 *
 * An item is one pointer pushed and popped. Counters: `refused` is the part of pushes that found the ring full, `empty`
 * the part of pops that found nothing; both cost time and are not items.
 */

#include "ashlar/ring.h"

#include <benchmark/benchmark.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace {

constexpr unsigned capacity = 1024, most = 64;

/* ---- the queues, with the same face ---- */

template <ash_ring_kind kind> struct ring {
    ash_ring *r = ash_ring_create(capacity, kind);
    ~ring() { ash_ring_destroy(r); }
    unsigned push(void *const *items, unsigned n) { return ash_ring_push(r, items, n); }
    unsigned pop(void **items, unsigned n) { return ash_ring_pop(r, items, n); }
};

class locked {
    std::mutex mutex;
    std::condition_variable some;
    std::array<void *, capacity> items{};
    size_t head = 0, count = 0;

public:
    unsigned push(void *const *from, unsigned n)
    {
        std::lock_guard<std::mutex> hold(mutex);
        unsigned k = 0;
        for (; k < n && count < capacity; k++)
            items[(head + count++) % capacity] = from[k];
        some.notify_one();
        return k;
    }
    unsigned pop(void **to, unsigned n)
    {
        std::lock_guard<std::mutex> hold(mutex);
        unsigned k = 0;
        for (; k < n && count > 0; k++, count--)
            to[k] = items[head++ % capacity];
        return k;
    }
};

class naive {
    std::array<void *, capacity> items{};
    std::atomic<size_t> head{0}, tail{0};

    bool push_one(void *item)
    {
        size_t t = tail.load(std::memory_order_relaxed);
        if (t - head.load(std::memory_order_acquire) == capacity)
            return false;
        items[t % capacity] = item;
        tail.store(t + 1, std::memory_order_release);
        return true;
    }
    bool pop_one(void *&item)
    {
        size_t h = head.load(std::memory_order_relaxed);
        if (h == tail.load(std::memory_order_acquire))
            return false;
        item = items[h % capacity];
        head.store(h + 1, std::memory_order_release);
        return true;
    }

public:
    unsigned push(void *const *from, unsigned n)
    {
        unsigned k = 0;
        while (k < n && push_one(from[k]))
            k++;
        return k;
    }
    unsigned pop(void **to, unsigned n)
    {
        unsigned k = 0;
        while (k < n && pop_one(to[k]))
            k++;
        return k;
    }
};

std::array<void *, most> some_items()
{
    std::array<void *, most> items;
    for (size_t i = 0; i < most; i++)
        items[i] = reinterpret_cast<void *>(i + 1);
    return items;
}

/* ---- one thread: what the calls cost without another cache ---- */

template <class Queue> void one_thread(benchmark::State &state)
{
    auto queue = std::make_unique<Queue>();
    unsigned batch = static_cast<unsigned>(state.range(0));
    auto items = some_items();
    std::array<void *, most> out{};
    uint64_t sum = 0;
    for (auto _ : state) {
        queue->push(items.data(), batch);
        unsigned n = queue->pop(out.data(), batch);
        benchmark::DoNotOptimize(out.data());
        sum += reinterpret_cast<uintptr_t>(out[n - 1]);
    }
    benchmark::DoNotOptimize(sum);
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * batch);
}

#define ONE_THREAD(queue) BENCHMARK_TEMPLATE(one_thread, queue)->ArgName("batch")->Arg(1)->Arg(8)->Arg(64)
ONE_THREAD(ring<ASH_SPSC>);
ONE_THREAD(ring<ASH_MPSC>);
ONE_THREAD(ring<ASH_MPMC>);
ONE_THREAD(locked);
ONE_THREAD(naive);

/* ---- producers and consumers: the first half of the threads push, the second pop ---- */

/*
 * Each iteration moves `round` items in all, from threads that are started for it; their start is not counted, since
 * they wait for each other before the clock is read.
 */
constexpr uint64_t round_items = 1 << 20;

template <class Queue> void move_items(Queue &queue, unsigned threads, unsigned batch, std::atomic<unsigned> &ready,
                                       std::atomic<uint64_t> &refused, std::atomic<uint64_t> &empty,
                                       std::vector<std::thread> &started)
{
    static std::atomic<uint64_t> popped;
    popped = 0;
    auto begin = [&ready, threads] {
        ready++;
        while (ready < 2 * threads + 1)
            std::this_thread::yield();
    };
    for (unsigned t = 0; t < threads; t++) {
        started.emplace_back([&queue, &refused, begin, threads, batch] {
            auto items = some_items();
            uint64_t failed = 0;
            begin();
            for (uint64_t left = round_items / threads; left > 0;) {
                unsigned n = queue.push(items.data(), static_cast<unsigned>(left < batch ? left : batch));
                left -= n;
                if (n == 0 && ++failed % 64 == 0)
                    std::this_thread::yield();
            }
            refused += failed;
        });
        started.emplace_back([&queue, &empty, begin, batch] {
            std::array<void *, most> out{};
            uint64_t failed = 0, mine = 0;
            begin();
            for (bool all = false; !all;) {
                unsigned n = queue.pop(out.data(), batch);
                benchmark::DoNotOptimize(out.data());
                mine += n;
                if (n == 0 && ++failed % 64 == 0) { /* seldom: all consumers share the word */
                    all = (popped += mine) == round_items;
                    mine = 0;
                    std::this_thread::yield();
                }
            }
            empty += failed;
        });
    }
}

template <class Queue> void between_threads(benchmark::State &state)
{
    unsigned threads = static_cast<unsigned>(state.range(0)), batch = static_cast<unsigned>(state.range(1));
    std::atomic<uint64_t> refused{0}, empty{0};
    double seconds = 0;
    auto queue = std::make_unique<Queue>();
    for (auto _ : state) {
        std::atomic<unsigned> ready{0};
        std::vector<std::thread> started;
        move_items(*queue, threads, batch, ready, refused, empty, started);
        while (ready < 2 * threads)
            std::this_thread::yield();
        auto from = std::chrono::steady_clock::now();
        ready++;
        for (auto &t : started)
            t.join();
        std::chrono::duration<double> took = std::chrono::steady_clock::now() - from;
        state.SetIterationTime(took.count());
        seconds += took.count();
    }
    double items = static_cast<double>(state.iterations()) * round_items;
    state.SetItemsProcessed(static_cast<int64_t>(items));
    state.counters["refused"] = static_cast<double>(refused) / items;
    state.counters["empty"] = static_cast<double>(empty) / items;
    state.counters["ns_item"] = seconds * 1e9 / items;
}

#define BETWEEN(queue, threads, batch)                                                                                 \
    BENCHMARK_TEMPLATE(between_threads, queue)                                                                         \
        ->ArgNames({"pairs", "batch"})                                                                                 \
        ->Args({threads, batch})                                                                                       \
        ->UseManualTime()                                                                                              \
        ->Unit(benchmark::kMillisecond)
BETWEEN(ring<ASH_SPSC>, 1, 1);
BETWEEN(naive, 1, 1);
BETWEEN(ring<ASH_SPSC>, 1, 64);
BETWEEN(naive, 1, 64);
BETWEEN(ring<ASH_MPMC>, 1, 1);
BETWEEN(locked, 1, 1);
BETWEEN(ring<ASH_MPMC>, 2, 1);
BETWEEN(locked, 2, 1);
BETWEEN(ring<ASH_MPMC>, 2, 8);
BETWEEN(locked, 2, 8);
BETWEEN(ring<ASH_MPMC>, 2, 64);
BETWEEN(locked, 2, 64);

/* ---- a question and an answer: both sides sleep in between ---- */

template <ash_ring_kind kind> void round_trip(benchmark::State &state)
{
    ring<kind> there, back;
    std::thread other([&there, &back] {
        void *item;
        while (ash_ring_wait(there.r, -1) == 0)
            if (there.pop(&item, 1) == 1)
                back.push(&item, 1);
    });
    void *item = &there;
    for (auto _ : state) {
        there.push(&item, 1);
        while (ash_ring_wait(back.r, -1) == 0 && back.pop(&item, 1) == 0)
            ;
        benchmark::DoNotOptimize(item);
    }
    ash_ring_close(there.r);
    other.join();
    struct ash_ring_stats s;
    ash_ring_stats(there.r, &s);
    state.counters["sleeps"] = static_cast<double>(s.sleeps) / static_cast<double>(s.pushed);
}
BENCHMARK_TEMPLATE(round_trip, ASH_SPSC)->UseRealTime();
BENCHMARK_TEMPLATE(round_trip, ASH_MPMC)->UseRealTime();

} // namespace

BENCHMARK_MAIN();
