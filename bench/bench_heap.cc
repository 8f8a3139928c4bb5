/*
 * bench_heap: what a use of an isolated heap costs, and what putting it back costs.
 *
 * restore/MODE/KIB/PAGES/OTHERS: an image of KIB is used by writing to PAGES pages of it, OTHERS of
 * them other ones each time, and put back; the time is the restore's alone, `use_ns` what the
 * writes cost, faults included, and `cycle_ns` both, as the user pays it, in time that the thread
 * has had. The baseline is what one does without: COPY is the memcpy of the image, and
 * lua/create_destroy an engine made anew on malloc, beside lua/restore on the same script. pair and churn: the allocator against the process's malloc.
 *
 * cycle/MODE/KIB/PERCENT/OTHERS/SCATTERED: a use that writes to so many of the image's pages, all
 * in one stretch or scattered, of which OTHERS of 100 are other ones each time, and the restore, in
 * one time. The table at the end has all modes beside AUTO, as they are after some hundred cycles.
 */
#include "random.hh"

#include <ashlar/heap.h>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <string>
#include <vector>

#if HAVE_LUA
#include <lua5.4/lua.hpp>
#endif

namespace
{

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

/* Time that this thread has had, which other programs do not lengthen. */
double thread_ns()
{
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
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
    int64_t use = 0, uses = 0;
    double from = thread_ns();
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
        uses++;
        state.SetIterationTime(static_cast<double>(end - used) * 1e-9);
    }
    double all = thread_ns() - from;
    struct ash_heap_stats s;
    ash_heap_stats(h, &s);
    state.SetLabel(mode_names[s.mode]);
    state.counters["use_ns"] = static_cast<double>(use) / static_cast<double>(uses);
    state.counters["cycle_ns"] = all / static_cast<double>(uses);
    state.counters["dirty_pages"] = static_cast<double>(s.dirty_pages);
    state.counters["fallbacks"] = static_cast<double>(s.fallbacks);
    state.counters["differences"] = ash_heap_verify(h);
    ash_heap_destroy(h);
}

/* ---- the whole cycle, over sizes and uses ---- */

struct use {
    size_t bytes;
    unsigned percent; /* of the pages are written */
    unsigned others;  /* of 100 of those: other ones each time */
    bool scattered;
};

/* Writes to the pages of one use. */
void use_once(unsigned char *memory, const use &u, random_numbers &g)
{
    const size_t all = u.bytes / page_bytes;
    const size_t written = std::max<size_t>(1, all * u.percent / 100);
    const size_t same = written - written * u.others / 100;
    const size_t elsewhere = u.scattered ? 0 : g.below(all);
    for (size_t i = 0; i < written; i++) {
        size_t page = i;
        if (i >= same)
            page = u.scattered ? g.below(all) : elsewhere + i;
        else if (u.scattered)
            page = i * 1237; /* a prime */
        memory[page % all * page_bytes + 100]++;
    }
}

std::string cell_name(const use &u)
{
    return std::to_string(u.bytes / kib) + " KiB, " + std::to_string(u.percent) + " %, " +
           std::to_string(u.others) + " others, " + (u.scattered ? "scattered" : "clustered");
}

/* The least time of each cell by mode, in ns, and the cells in the order of the table. */
std::map<std::string, std::array<double, ASH_RESET_DROP + 1>> cells;
std::vector<std::string> cell_order;

void cycle(benchmark::State &state, ash_reset_mode mode, const use &u)
{
    ash_heap *h = ash_heap_create(mode_names[mode], 2 * u.bytes + mib, 0);
    auto *memory = static_cast<unsigned char *>(ash_heap_malloc(h, u.bytes));
    std::memset(memory, 7, u.bytes);
    if (ash_heap_snapshot(h, mode) != 0)
        std::abort();
    random_numbers g(1);
    int64_t warm_end = now_ns() + 200 * 1000 * 1000;
    for (int i = 0; i < 300 && now_ns() < warm_end; i++) {
        use_once(memory, u, g);
        ash_heap_restore(h);
    }
    double begin = thread_ns(), cycles = 0;
    for (auto _ : state) {
        use_once(memory, u, g);
        ash_heap_restore(h);
        cycles++;
    }
    double ns = (thread_ns() - begin) / cycles;
    double &least = cells[cell_name(u)][mode];
    least = least == 0 ? ns : std::min(least, ns);
    struct ash_heap_stats s;
    ash_heap_stats(h, &s);
    state.SetLabel(mode_names[s.mode]);
    state.counters["dirty_pages"] = static_cast<double>(s.dirty_pages);
    state.counters["differences"] = ash_heap_verify(h);
    ash_heap_destroy(h);
}

void show_cells()
{
    if (cells.empty())
        return;
    std::printf("%-40s %9s %9s %9s %9s %9s   auto to the best\n", "us a cycle", "copy", "scan",
                "scan_uffd", "drop", "auto");
    for (const std::string &name : cell_order) {
        const auto found = cells.find(name);
        if (found == cells.end())
            continue;
        const auto &ns = found->second;
        double least = 0;
        for (int mode = ASH_RESET_COPY; mode <= ASH_RESET_DROP; mode++)
            if (ns[mode] != 0 && (least == 0 || ns[mode] < least))
                least = ns[mode];
        std::printf("%-40s %9.1f %9.1f %9.1f %9.1f %9.1f   %.2f\n", name.c_str(),
                    ns[ASH_RESET_COPY] / 1e3, ns[ASH_RESET_SCAN] / 1e3,
                    ns[ASH_RESET_SCAN_UFFD] / 1e3, ns[ASH_RESET_DROP] / 1e3,
                    ns[ASH_RESET_AUTO] / 1e3, least > 0 ? ns[ASH_RESET_AUTO] / least : 0);
    }
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
    ~heap_source()
    {
        ash_heap_destroy(h);
    }
    void *get(size_t n)
    {
        return ash_heap_malloc(h, n);
    }
    void put(void *p)
    {
        ash_heap_free(h, p);
    }
};

struct malloc_source {
    void *get(size_t n)
    {
        return std::malloc(n);
    }
    void put(void *p)
    {
        std::free(p);
    }
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
    for (size_t bytes : {64 * kib, 256 * kib, mib, 4 * mib, 16 * mib, 64 * mib})
        for (unsigned percent : {1, 10, 25, 100})
            for (unsigned others : {0, 25})
                for (bool scattered : {false, true}) {
                    use u{bytes, percent, others, scattered};
                    const size_t pages = bytes / page_bytes * percent / 100;
                    cell_order.push_back(cell_name(u));
                    for (int mode = ASH_RESET_AUTO; mode <= ASH_RESET_DROP; mode++)
                        benchmark::RegisterBenchmark(
                            ("cycle/" + std::string(mode_names[mode]) + "/" +
                             std::to_string(bytes / kib) + "/" + std::to_string(percent) + "/" +
                             std::to_string(others) + (scattered ? "/scattered" : "/clustered"))
                                .c_str(),
                            cycle, static_cast<ash_reset_mode>(mode), u)
                            ->Iterations(static_cast<int64_t>(
                                std::max<size_t>(4, std::min<size_t>(300, 30000 / (pages + 1)))));
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
    show_cells();
    return 0;
}
