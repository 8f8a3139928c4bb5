/*
 * bench_buf: bufs against what programs do without them, as google-benchmark programs.
 *
 * Slices against copying the bytes and against shared_ptr, whose count is a locked instruction
 * each; fan-out; alloc and drop against a bare malloc and free of the same size; appending and
 * prepending against std::string. The baselines stand beside, in the same run.
 */
#include <ashlar/ashlar.h>

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

uint64_t copied_bytes()
{
    struct ash_buf_stats s;
    ash_buf_stats(&s);
    return s.copied_bytes;
}

/* ---- slices: a received block is cut into 64 messages, which are then dropped ---- */

constexpr size_t messages = 64, message_bytes = 200;

ash_buf received()
{
    ash_buf b;
    if (ash_buf_alloc(&b, messages * message_bytes, 0) != 0)
        std::abort();
    std::memset(b.data, 1, b.len);
    return b;
}

/* Slices alone, 256 at a time: they are dropped outside of the time. An item is a slice. */
void slice(benchmark::State &state)
{
    constexpr size_t held = 256;
    ash_buf b = received(), parts[held];
    for (auto _ : state) {
        auto start = std::chrono::steady_clock::now();
        for (size_t i = 0; i < held; i++)
            parts[i] = ash_buf_slice(&b, (i % messages) * message_bytes, message_bytes);
        benchmark::DoNotOptimize(parts);
        auto end = std::chrono::steady_clock::now();
        state.SetIterationTime(std::chrono::duration<double>(end - start).count());
        for (auto &part : parts)
            ash_buf_drop(&part);
    }
    ash_buf_drop(&b);
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(held));
    state.counters["ns_each"] = benchmark::Counter(
        static_cast<double>(held), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
BENCHMARK(slice)->UseManualTime();

void slice_and_drop(benchmark::State &state)
{
    ash_buf b = received();
    uint64_t before = copied_bytes();
    for (auto _ : state) {
        ash_buf parts[messages];
        for (size_t i = 0; i < messages; i++)
            parts[i] = ash_buf_slice(&b, i * message_bytes, message_bytes);
        benchmark::DoNotOptimize(parts);
        for (auto &part : parts)
            ash_buf_drop(&part);
    }
    ash_buf_drop(&b);
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(messages));
    state.counters["copied_bytes"] = static_cast<double>(copied_bytes() - before);
}
BENCHMARK(slice_and_drop)->Threads(1)->Threads(2);

struct shared_view {
    std::shared_ptr<unsigned char> owner;
    unsigned char *data;
    size_t len;
};

void slice_and_drop_shared_ptr(benchmark::State &state)
{
    std::shared_ptr<unsigned char> b(new unsigned char[messages * message_bytes],
                                     std::default_delete<unsigned char[]>());
    for (auto _ : state) {
        shared_view parts[messages];
        for (size_t i = 0; i < messages; i++)
            parts[i] = shared_view{b, b.get() + i * message_bytes, message_bytes};
        benchmark::DoNotOptimize(parts);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(messages));
}
BENCHMARK(slice_and_drop_shared_ptr)->Threads(1)->Threads(2);

void slice_and_drop_copying(benchmark::State &state)
{
    std::string b(messages * message_bytes, 'x');
    for (auto _ : state) {
        std::string parts[messages];
        for (size_t i = 0; i < messages; i++)
            parts[i].assign(b, i * message_bytes, message_bytes);
        benchmark::DoNotOptimize(parts);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(messages));
}
BENCHMARK(slice_and_drop_copying)->Threads(1)->Threads(2);

/* One value for 16 receivers. An item is a receiver's value, made and dropped. */
void fan_out(benchmark::State &state)
{
    constexpr unsigned receivers = 16;
    ash_buf b = received();
    for (auto _ : state) {
        ash_buf each = ash_buf_share(&b, receivers), values[receivers];
        for (auto &value : values)
            value = each;
        benchmark::DoNotOptimize(values);
        for (auto &value : values)
            ash_buf_drop(&value);
    }
    ash_buf_drop(&b);
    state.SetItemsProcessed(state.iterations() * receivers);
}
BENCHMARK(fan_out);

/* ---- blocks ---- */

void alloc_and_drop(benchmark::State &state)
{
    auto len = static_cast<size_t>(state.range(0));
    for (auto _ : state) {
        ash_buf b;
        if (ash_buf_alloc(&b, len, 0) != 0)
            std::abort();
        benchmark::DoNotOptimize(b.data);
        ash_buf_drop(&b);
    }
}
BENCHMARK(alloc_and_drop)->Arg(64)->Arg(2048)->Arg(16384)->Arg(65536 - 64)->Arg(65536);

void malloc_and_free(benchmark::State &state)
{
    auto len = static_cast<size_t>(state.range(0));
    for (auto _ : state) {
        void *p = ash_malloc(len);
        benchmark::DoNotOptimize(p);
        ash_free(p);
    }
}
BENCHMARK(malloc_and_free)->Arg(64)->Arg(2048)->Arg(16384)->Arg(65536 - 64)->Arg(65536);

void release_nothing(void *, void *) {}

void wrap_and_drop(benchmark::State &state)
{
    static char memory[100];
    for (auto _ : state) {
        ash_buf b;
        if (ash_buf_wrap(&b, memory, sizeof memory, release_nothing, nullptr) != 0)
            std::abort();
        benchmark::DoNotOptimize(b.data);
        ash_buf_drop(&b);
    }
}
BENCHMARK(wrap_and_drop);

/* ---- room: 16 bytes at a time to 4 KiB ---- */

void append(benchmark::State &state)
{
    for (auto _ : state) {
        ash_buf b{};
        for (int i = 0; i < 256; i++)
            std::memset(ash_buf_append(&b, 16), i, 16);
        benchmark::DoNotOptimize(b.data);
        ash_buf_drop(&b);
    }
    state.SetItemsProcessed(state.iterations() * 256);
}
BENCHMARK(append);

void append_string(benchmark::State &state)
{
    for (auto _ : state) {
        std::string b;
        for (int i = 0; i < 256; i++)
            b.append(16, static_cast<char>(i));
        benchmark::DoNotOptimize(b.data());
    }
    state.SetItemsProcessed(state.iterations() * 256);
}
BENCHMARK(append_string);

/* Three protocol headers in front of a body of 1000 bytes. */
void prepend_headers(benchmark::State &state)
{
    uint64_t before = copied_bytes();
    for (auto _ : state) {
        ash_buf b;
        if (ash_buf_alloc(&b, 1000, 64) != 0)
            std::abort();
        std::memset(ash_buf_prepend(&b, 20), 3, 20);
        std::memset(ash_buf_prepend(&b, 20), 2, 20);
        std::memset(ash_buf_prepend(&b, 14), 1, 14);
        benchmark::DoNotOptimize(b.data);
        ash_buf_drop(&b);
    }
    state.counters["copied_bytes"] = static_cast<double>(copied_bytes() - before);
}
BENCHMARK(prepend_headers);

void prepend_headers_string(benchmark::State &state)
{
    for (auto _ : state) {
        std::string b(1000, 'b');
        b.insert(0, 20, 3);
        b.insert(0, 20, 2);
        b.insert(0, 14, 1);
        benchmark::DoNotOptimize(b.data());
    }
}
BENCHMARK(prepend_headers_string);

} // namespace

BENCHMARK_MAIN();
