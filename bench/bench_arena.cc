/*
 * bench_arena: arenas beside what else there is for memory that dies together.
 *
 *   cycle/NAME/N/BYTES   N blocks of BYTES are allocated, and all of them go.
 *       arena     create, N allocations, destroy; child: the same below another arena
 *       reset     the same arena, reset each time
 *       obstack   likewise, emptied each time
 *       pmr       a std::pmr::monotonic_buffer_resource on new, made and destroyed
 *       ashlar    ash_malloc and ash_free, a chain through the blocks
 *       glibc     the same with glibc's malloc, which is asked for by name in libc: this program
 *                 has its malloc replaced
 *   alloc         one of many allocations: inline; by a call of the library, out of line; and
 *                 `call`, the price of a call of a library that does next to nothing
 *   mark          a mark, an allocation and the rollback; out of line without the allocation
 *
 * The first word of each block of a cycle is written. `each` is the time for one block. Times of
 * repetitions that interleave are comparable:
 *
 *   bench_arena --benchmark_enable_random_interleaving=true --benchmark_repetitions=9
 */
#include <ashlar/ashlar.h>

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory_resource>
#include <string>

#include <dlfcn.h>
#include <obstack.h>
#include <unistd.h>

#define obstack_chunk_alloc ash_malloc
#define obstack_chunk_free  ash_free

namespace {

/* The library's own functions, which the header's inline ones stand for. */
extern "C" void *out_of_line_alloc(ash_arena *, size_t) __asm__("ash_arena_alloc");
extern "C" ash_mark out_of_line_mark(ash_arena *) __asm__("ash_arena_mark");
extern "C" void out_of_line_rollback(ash_arena *, ash_mark) __asm__("ash_arena_rollback");

extern "C" int libc_abs(int) __asm__("abs");

void write_to(void *p)
{
    if (p == nullptr)
        std::abort();
    *static_cast<size_t *>(p) = 1;
    benchmark::DoNotOptimize(p);
}

void count(benchmark::State &state, size_t blocks)
{
    auto all = static_cast<double>(state.iterations()) * static_cast<double>(blocks);
    state.counters["each"] =
        benchmark::Counter(all, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
    state.SetItemsProcessed(static_cast<int64_t>(all));
}

struct shape {
    size_t blocks, bytes;
    explicit shape(const benchmark::State &state)
        : blocks(static_cast<size_t>(state.range(0))), bytes(static_cast<size_t>(state.range(1)))
    {
    }
};

void shapes(benchmark::internal::Benchmark *b)
{
    b->Args({64, 64})->Args({8, 32})->Args({1000, 48})->Args({64, 1024})->Args({20000, 64});
}

/* ---- everything goes at once ---- */

void cycle_arena(benchmark::State &state)
{
    shape s(state);
    for (auto _ : state) {
        ash_arena *a = ash_arena_create(nullptr, "cycle", nullptr);
        for (size_t i = 0; i < s.blocks; i++)
            write_to(ash_arena_alloc(a, s.bytes));
        ash_arena_destroy(a);
    }
    count(state, s.blocks);
}
BENCHMARK(cycle_arena)->Name("cycle/arena")->Apply(shapes);

void cycle_child(benchmark::State &state)
{
    shape s(state);
    ash_arena *parent = ash_arena_create(nullptr, "parent", nullptr);
    for (auto _ : state) {
        ash_arena *a = ash_arena_create(parent, "cycle", nullptr);
        for (size_t i = 0; i < s.blocks; i++)
            write_to(ash_arena_alloc(a, s.bytes));
        ash_arena_destroy(a);
    }
    ash_arena_destroy(parent);
    count(state, s.blocks);
}
BENCHMARK(cycle_child)->Name("cycle/child")->Apply(shapes);

void cycle_reset(benchmark::State &state)
{
    shape s(state);
    ash_arena *a = ash_arena_create(nullptr, "reset", nullptr);
    for (auto _ : state) {
        for (size_t i = 0; i < s.blocks; i++)
            write_to(ash_arena_alloc(a, s.bytes));
        ash_arena_reset(a);
    }
    struct ash_arena_stats stats;
    ash_arena_stats(a, &stats);
    state.counters["held"] = static_cast<double>(stats.total);
    ash_arena_destroy(a);
    count(state, s.blocks);
}
BENCHMARK(cycle_reset)->Name("cycle/reset")->Apply(shapes);

void cycle_obstack(benchmark::State &state)
{
    shape s(state);
    obstack stack;
    obstack_init(&stack);
    obstack_alignment_mask(&stack) = 15;
    void *first = obstack_alloc(&stack, 0);
    for (auto _ : state) {
        for (size_t i = 0; i < s.blocks; i++)
            write_to(obstack_alloc(&stack, s.bytes));
        obstack_free(&stack, first);
        first = obstack_alloc(&stack, 0);
    }
    obstack_free(&stack, nullptr);
    count(state, s.blocks);
}
BENCHMARK(cycle_obstack)->Name("cycle/obstack")->Apply(shapes);

void cycle_pmr(benchmark::State &state)
{
    shape s(state);
    for (auto _ : state) {
        std::pmr::monotonic_buffer_resource resource(8192, std::pmr::new_delete_resource());
        for (size_t i = 0; i < s.blocks; i++)
            write_to(resource.allocate(s.bytes, 16));
    }
    count(state, s.blocks);
}
BENCHMARK(cycle_pmr)->Name("cycle/pmr")->Apply(shapes);

struct link {
    link *next;
};

template <class Allocate, class Free>
void cycle_chain(benchmark::State &state, Allocate allocate, Free release)
{
    shape s(state);
    for (auto _ : state) {
        link *head = nullptr;
        for (size_t i = 0; i < s.blocks; i++) {
            auto *p = static_cast<link *>(allocate(s.bytes));
            write_to(p);
            p->next = head;
            head = p;
        }
        while (head != nullptr) {
            link *next = head->next;
            release(head);
            head = next;
        }
    }
    count(state, s.blocks);
}

void cycle_ashlar(benchmark::State &state)
{
    cycle_chain(state, ash_malloc, ash_free);
}
BENCHMARK(cycle_ashlar)->Name("cycle/ashlar")->Apply(shapes);

void cycle_glibc(benchmark::State &state)
{
    static void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    if (libc == nullptr) {
        state.SkipWithError("no libc.so.6");
        return;
    }
    auto *allocate = reinterpret_cast<void *(*)(size_t)>(dlsym(libc, "malloc"));
    auto *release = reinterpret_cast<void (*)(void *)>(dlsym(libc, "free"));
    cycle_chain(state, allocate, release);
}
BENCHMARK(cycle_glibc)->Name("cycle/glibc")->Apply(shapes);

/* ---- single calls ---- */

constexpr size_t row = 1000; /* calls between two resets, which are timed too */

template <class Call> void in_rows(benchmark::State &state, Call call)
{
    ash_arena *a = ash_arena_create(nullptr, "rows", ASH_CONFIG(ash_arena_config, 256 * 1024));
    for (auto _ : state) {
        for (size_t i = 0; i < row; i++)
            call(a);
        ash_arena_reset(a);
    }
    ash_arena_destroy(a);
    count(state, row);
}

void alloc_inline(benchmark::State &state)
{
    in_rows(state, [](ash_arena *a) {
        void *p = ash_arena_alloc(a, 64);
        benchmark::DoNotOptimize(p);
        benchmark::ClobberMemory();
    });
}
BENCHMARK(alloc_inline)->Name("alloc/inline");

void alloc_out_of_line(benchmark::State &state)
{
    in_rows(state, [](ash_arena *a) {
        void *p = out_of_line_alloc(a, 64);
        benchmark::DoNotOptimize(p);
    });
}
BENCHMARK(alloc_out_of_line)->Name("alloc/out_of_line");

void alloc_call(benchmark::State &state)
{
    in_rows(state, [](ash_arena *) { benchmark::DoNotOptimize(libc_abs(1)); });
}
BENCHMARK(alloc_call)->Name("alloc/call");

void mark_inline(benchmark::State &state)
{
    in_rows(state, [](ash_arena *a) {
        ash_mark m = ash_arena_mark(a);
        void *p = ash_arena_alloc(a, 64);
        benchmark::DoNotOptimize(p);
        benchmark::ClobberMemory();
        ash_arena_rollback(a, m);
    });
}
BENCHMARK(mark_inline)->Name("mark/inline");

void mark_out_of_line(benchmark::State &state)
{
    in_rows(state, [](ash_arena *a) { out_of_line_rollback(a, out_of_line_mark(a)); });
}
BENCHMARK(mark_out_of_line)->Name("mark/out_of_line");

void nothing(void *)
{
}

/* A savepoint with a cleanup and a child in it. */
void mark_full(benchmark::State &state)
{
    in_rows(state, [](ash_arena *a) {
        ash_mark m = ash_arena_mark(a);
        ash_cleanup node = {nothing, nullptr, nullptr, 0};
        ash_arena_on_reset(a, &node);
        benchmark::DoNotOptimize(ash_arena_create(a, "sub", nullptr));
        ash_arena_rollback(a, m);
    });
}
BENCHMARK(mark_full)->Name("mark/with_child_and_cleanup");

/* ---- threads: each has arenas of its own ---- */

void threads(benchmark::State &state)
{
    for (auto _ : state) {
        ash_arena *a = ash_arena_create(nullptr, "threads", nullptr);
        for (size_t i = 0; i < 64; i++)
            write_to(ash_arena_alloc(a, 64));
        ash_arena_destroy(a);
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations()));
}
BENCHMARK(threads)->Threads(1)->Threads(2)->Threads(4)->UseRealTime();

} /* namespace */

BENCHMARK_MAIN();
