/*
 * bench_heap: what a use of an isolated heap costs, and what putting it back costs.
 *
 * restore/MODE/KIB/PAGES/OTHERS: an image of KIB is used by writing to PAGES pages of it, OTHERS of
 * them other ones each time, and put back; the time is the restore's alone, `use_ns` what the
 * writes cost, faults included, and `cycle_ns` both, as the user pays it. The baseline is what one
 * does without: COPY is the memcpy of the image, and lua/create_destroy an engine made anew on malloc, beside lua/restore on the same
 * script. pair and churn: the allocator against the process's malloc.
 */
#include "random.hh"

#include <ashlar/heap.h>

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#if HAVE_LUA
#include <lua5.4/lua.hpp>
#endif

namespace {

constexpr size_t kib = 1024;
constexpr size_t mib = 1024 * kib;
constexpr size_t page_bytes = 4096;
const char *const mode_names[] = {"auto", "copy", "scan", "scan_uffd", "drop"};

int64_t now_ns()
{
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

ash_heap *heap_create(const char *name)
{
    ash_heap *h = ash_heap_create(name, 64 * mib, 0);
    if (h == nullptr)
        std::abort();
    return h;
}

/* ---- restore ---- */

void restore(benchmark::State &state, ash_reset_mode mode)
{
    const size_t bytes = static_cast<size_t>(state.range(0)) * kib;
    const size_t pages = static_cast<size_t>(state.range(1));
    ash_heap *h = heap_create(mode_names[mode]);
    auto *memory = static_cast<unsigned char *>(ash_heap_malloc(h, bytes));
    std::memset(memory, 7, bytes);
    if (ash_heap_snapshot(h, mode) != 0)
        std::abort();
    const size_t same = pages - static_cast<size_t>(state.range(2));
    random_numbers g(1);
    int64_t use = 0, all = 0, uses = 0;
    for (auto _ : state) {
        int64_t begin = now_ns();
        for (size_t i = 0; i < pages; i++) {
            size_t page = i < same ? i * 7 : g.below(bytes / page_bytes);
            memory[page * page_bytes % bytes + 100]++;
        }
        int64_t used = now_ns();
        ash_heap_restore(h);
        int64_t end = now_ns();
        use += used - begin;
        all += end - begin;
        uses++;
        state.SetIterationTime(static_cast<double>(end - used) * 1e-9);
    }
    struct ash_heap_stats s;
    ash_heap_stats(h, &s);
    state.SetLabel(mode_names[s.mode]);
    state.counters["use_ns"] = static_cast<double>(use) / static_cast<double>(uses);
    state.counters["cycle_ns"] = static_cast<double>(all) / static_cast<double>(uses);
    state.counters["dirty_pages"] = static_cast<double>(s.dirty_pages);
    state.counters["fallbacks"] = static_cast<double>(s.fallbacks);
    state.counters["differences"] = ash_heap_verify(h);
    ash_heap_destroy(h);
}

/* ---- a real engine ---- */

#if HAVE_LUA
const char script[] = "local t = {} for i = 1, 50 do t[i] = {i, 'v' .. i} end "
                      "count = (count or 0) + 1 return #t + count";

void lua_serve(benchmark::State &state, lua_State *L)
{
    if (luaL_dostring(L, script) != LUA_OK || lua_tointeger(L, -1) != 51)
        state.SkipWithError("the script went wrong");
}

void *lua_malloc(void *, void *p, size_t, size_t n)
{
    if (n != 0)
        return std::realloc(p, n);
    std::free(p);
    return nullptr;
}

/* With `serving`, a script is run in each engine. */
void lua_create_destroy(benchmark::State &state, bool serving)
{
    for (auto _ : state) {
        lua_State *L = lua_newstate(lua_malloc, nullptr);
        luaL_openlibs(L);
        if (serving)
            lua_serve(state, L);
        lua_close(L);
    }
}

void lua_restore(benchmark::State &state, bool serving)
{
    ash_heap *h = heap_create("lua");
    lua_State *L = lua_newstate(ash_heap_lua_alloc, h);
    luaL_openlibs(L);
    ash_heap_snapshot(h, ASH_RESET_AUTO);
    for (auto _ : state) {
        if (serving)
            lua_serve(state, L);
        ash_heap_restore(h);
    }
    struct ash_heap_stats s;
    ash_heap_stats(h, &s);
    state.counters["image_KiB"] = static_cast<double>(s.image_bytes) / kib;
    state.counters["differences"] = ash_heap_verify(h);
    ash_heap_destroy(h);
}
#endif

/* ---- the allocator ---- */

struct heap_source {
    ash_heap *h = heap_create("source");
    ~heap_source() { ash_heap_destroy(h); }
    void *get(size_t n) { return ash_heap_malloc(h, n); }
    void put(void *p) { ash_heap_free(h, p); }
};

struct malloc_source {
    void *get(size_t n) { return std::malloc(n); }
    void put(void *p) { std::free(p); }
};

template <class Source> void pair(benchmark::State &state)
{
    Source source;
    const auto n = static_cast<size_t>(state.range(0));
    void *other = source.get(n);
    for (auto _ : state) {
        void *p = source.get(n);
        benchmark::DoNotOptimize(p);
        source.put(p);
    }
    source.put(other);
}

/* Blocks of 16 to 400 bytes, replaced at random: an operation is an allocation with its free. */
template <class Source> void churn(benchmark::State &state)
{
    Source source;
    random_numbers g(3);
    std::vector<void *> live(static_cast<size_t>(state.range(0)));
    for (auto &p : live)
        p = source.get(16 + g.below(385));
    for (auto _ : state) {
        void *&p = live[g.below(live.size())];
        source.put(p);
        p = source.get(16 + g.below(385));
        benchmark::DoNotOptimize(p);
    }
    for (auto p : live)
        source.put(p);
}

void add_all()
{
    for (int mode = ASH_RESET_AUTO; mode <= ASH_RESET_DROP; mode++) {
        std::string name = std::string("restore/") + mode_names[mode];
        benchmark::RegisterBenchmark(name.c_str(), restore, static_cast<ash_reset_mode>(mode))
            ->ArgNames({"KiB", "pages", "others"})
            ->Args({44, 8, 2})
            ->Args({200, 31, 0})
            ->Args({200, 31, 8})
            ->Args({1800, 31, 0})
            ->Args({1800, 31, 8})
            ->Args({16384, 100, 0})
            ->Args({16384, 100, 25})
            ->UseManualTime();
    }
#if HAVE_LUA
    for (bool serving : {false, true}) {
        const char *end = serving ? "/serving" : "";
        benchmark::RegisterBenchmark((std::string("lua/create_destroy") + end).c_str(),
                                     lua_create_destroy, serving);
        benchmark::RegisterBenchmark((std::string("lua/restore") + end).c_str(), lua_restore,
                                     serving);
    }
#endif
    benchmark::RegisterBenchmark("pair/malloc", pair<malloc_source>)->Arg(40)->Arg(400);
    benchmark::RegisterBenchmark("pair/heap", pair<heap_source>)->Arg(40)->Arg(400);
    benchmark::RegisterBenchmark("churn/malloc", churn<malloc_source>)->Arg(3000);
    benchmark::RegisterBenchmark("churn/heap", churn<heap_source>)->Arg(3000);
}

} // namespace

int main(int argc, char **argv)
{
    add_all();
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 1;
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
