/*
 * bench_vm: what a pool of VMs saves, for each engine there is (bench/engines).
 *
 * engine/create_destroy: an engine made and ended, by malloc and in a heap; engine/context: what an
 * engine offers instead, another set of globals in the same runtime, with the script compiled;
 * engine/cycle: acquire and release of a pooled one, whose parts are in the counters. bare/cycle: a
 * pool whose heaps are almost empty, so what is left is the pool itself, by 1 to 8 threads.
 *
 * rows/ENGINE/WAY/WORKERS: 10,000 rows of JSON, of each of which a script returns the value, in an
 * engine that is as new for each row: made for it by malloc (new), or pooled, in VMs that there are
 * at the beginning. An iteration is all rows. Counters: the CPU time of a row, the memory; the workers' shares stand at the end.
 *
 * memory: 8 engines' worth of 4 MiB each, as blocks of 16 to 512 bytes, of which each use writes to
 * one in 500: the same ones, or others each time. By malloc, and in the heaps of a pool, by the
 * modes of the reset. Counted is the most that there was at the end of any of the last uses: memory
 * of the process's own, images, and page tables. `pss_MiB` is what the system counts as mapped.
 *
 * The ratios stand at the end.
 */
#include "engines/engines.h"
#include "random.hh"

#include <ashlar/vm.h>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

namespace {

constexpr size_t mib = 1 << 20;
constexpr size_t row_count = 10000;
constexpr unsigned workers_most = 8;

/* The best time of each benchmark, for the ratios. */
std::map<std::string, double> best;

void note(const std::string &name, double ns)
{
    auto found = best.find(name);
    if (found == best.end() || found->second > ns)
        best[name] = ns;
}

double now_ns(clockid_t clock = CLOCK_MONOTONIC)
{
    timespec t;
    clock_gettime(clock, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

/* A line of a file of /proc/self that is in KiB. */
size_t proc_bytes(const char *file, const char *format)
{
    char line[256];
    size_t kib = 0;
    if (FILE *f = std::fopen(file, "r")) {
        while (std::fgets(line, sizeof line, f) != nullptr && std::sscanf(line, format, &kib) != 1)
            ;
        std::fclose(f);
    }
    return kib * 1024;
}

/* Memory of the process's own, that is in use; files' pages, an image's among them, do not count. */
size_t own_bytes()
{
    return proc_bytes("/proc/self/smaps_rollup", "Anonymous: %zu");
}

/* ---- pools ---- */

int vm_init(void *user, ash_heap *heap, void **root)
{
    auto *e = static_cast<const engine *>(user);
    *root = engine_open(e, heap, e->extract);
    return *root == nullptr ? -ENOMEM : 0;
}

int vm_enter(void *user, void *root)
{
    engine_enter(static_cast<const engine *>(user), root);
    return 0;
}

ash_vmpool *pool_create(const char *name, const ash_vm_ops &ops, unsigned max, const void *user,
                        ash_reset_mode mode = ASH_RESET_AUTO)
{
    ash_vmpool_config c{};
    c.struct_size = sizeof c;
    c.heap_bytes = 64 * mib;
    c.max = max;
    c.mode = mode;
    c.flags = ASH_VM_STICKY;
    ash_vmpool *p = ash_vmpool_create(name, &ops, &c, const_cast<void *>(user));
    if (p == nullptr)
        std::abort();
    return p;
}

ash_vmpool *engine_pool(const engine *e, unsigned max)
{
    ash_vm_ops ops{};
    ops.init = vm_init;
    ops.enter = vm_enter;
    return pool_create(e->name, ops, max, e);
}

double mean(const ash_vm_time &t)
{
    return t.count == 0 ? 0 : static_cast<double>(t.total_ns) / static_cast<double>(t.count);
}

void show_parts(benchmark::State &state, ash_vmpool *p)
{
    struct ash_vmpool_stats s;
    ash_vmpool_stats(p, &s);
    state.counters["create_ns"] = mean(s.create);
    state.counters["acquire_ns"] = mean(s.acquire);
    state.counters["reset_ns"] = mean(s.reset);
    state.counters["release_ns"] = mean(s.release);
    state.counters["image_KiB"] = static_cast<double>(s.image_bytes) / 1024;
}

/* ---- one engine ---- */

void create_destroy(benchmark::State &state, const engine *e, bool in_heap)
{
    double from = now_ns();
    for (auto _ : state) {
        ash_heap *h = in_heap ? ash_heap_create("engine", 64 * mib, 0) : nullptr;
        void *root = engine_open(e, h, e->extract);
        benchmark::DoNotOptimize(root);
        if (in_heap)
            ash_heap_destroy(h);
        else
            e->close(root);
    }
    if (!in_heap)
        note(std::string("create/") + e->name,
             (now_ns() - from) / static_cast<double>(state.iterations()));
}

void context(benchmark::State &state, const engine *e)
{
    ash_heap *h = ash_heap_create("engine", 64 * mib, 0);
    void *root = engine_open(e, h, e->extract);
    double from = now_ns();
    for (auto _ : state)
        if (engine_context(e, root, e->extract) != 0)
            std::abort();
    note(std::string("context/") + e->name,
         (now_ns() - from) / static_cast<double>(state.iterations()));
    ash_heap_destroy(h);
}

void cycle(benchmark::State &state, const engine *e)
{
    ash_vmpool *p = engine_pool(e, 1);
    ash_vmpool_warm(p, 1);
    double from = now_ns();
    for (auto _ : state) {
        ash_vm *vm;
        ash_vmpool_acquire(p, &vm, -1);
        ash_vmpool_release(p, vm, 0);
    }
    note(std::string("cycle/") + e->name,
         (now_ns() - from) / static_cast<double>(state.iterations()));
    show_parts(state, p);
    ash_vmpool_destroy(p);
}

/* ---- the pool itself ---- */

int bare_init(void *, ash_heap *heap, void **root)
{
    *root = ash_heap_malloc(heap, 16);
    return *root == nullptr ? -ENOMEM : 0;
}

ash_vmpool *bare_pool()
{
    ash_vm_ops ops{};
    ops.init = bare_init;
    static ash_vmpool *p = pool_create("bare", ops, workers_most, nullptr);
    return p;
}

void bare_cycle(benchmark::State &state)
{
    ash_vmpool *p = bare_pool();
    for (auto _ : state) {
        ash_vm *vm;
        ash_vmpool_acquire(p, &vm, -1);
        ash_vmpool_release(p, vm, 0);
    }
}

void bare_restore(benchmark::State &state)
{
    ash_vm *vm;
    ash_vmpool_acquire(bare_pool(), &vm, -1);
    ash_heap *h = ash_vm_heap(vm);
    for (auto _ : state)
        ash_heap_restore(h);
    ash_vmpool_release(bare_pool(), vm, 0);
}

/* ---- rows ---- */

const std::vector<std::string> &rows()
{
    static std::vector<std::string> all;
    random_numbers g(5);
    for (size_t i = all.size(); i < row_count; i++)
        all.push_back("{\"id\": " + std::to_string(i) + ", \"name\": \"row " +
                      std::to_string(g.below(1000)) + "\", \"score\": " +
                      std::to_string(g.below(100)) + ", \"value\": " + std::to_string(7 * i) + "}");
    return all;
}

struct run {
    const engine *e;
    ash_vmpool *pool; /* nullptr: an engine by malloc for each row */
    std::atomic<size_t> next{0}, wrong{0};
};

/* Of each pooled run, the pool's figures by workers. */
std::map<std::string, std::string> breakdown;

bool serve(void *root, const engine *e, size_t i)
{
    char text[64];
    const std::string &row = rows()[i];
    return e->call(root, row.data(), row.size(), text, sizeof text) == 0 &&
           std::strtoull(text, nullptr, 10) == 7 * i;
}

void work(run &r)
{
    for (size_t i; (i = r.next++) < row_count;) {
        bool good;
        if (r.pool == nullptr) {
            void *root = engine_open(r.e, nullptr, r.e->extract);
            good = serve(root, r.e, i);
            r.e->close(root);
        } else {
            ash_vm *vm;
            if (ash_vmpool_acquire(r.pool, &vm, -1) != 0)
                std::abort();
            good = serve(ash_vm_root(vm), r.e, i);
            ash_vmpool_release(r.pool, vm, 0);
        }
        r.wrong += !good;
    }
}

/* A line for each worker: its rows, how many of them in the VM it had before, and the parts. */
std::string worker_lines(ash_vmpool *p)
{
    std::string lines;
    char line[160];
    struct ash_vmpool_stats s;
    for (unsigned i = 0; ash_vmpool_worker_stats(p, i, &s) != -EINVAL; i++)
        if (s.acquires != 0) {
            auto rows_done = static_cast<double>(s.acquires);
            std::snprintf(line, sizeof line,
                          "    worker %-2u %9.0f rows, %5.1f %% in its own VM, %5.1f %% waits; "
                          "acquire %5.0f reset %5.0f release %5.0f ns\n",
                          i, rows_done, 100 * static_cast<double>(s.own) / rows_done,
                          100 * static_cast<double>(s.waits) / rows_done, mean(s.acquire),
                          mean(s.reset), mean(s.release));
            lines += line;
            s.acquires = 0;
        }
    return lines;
}

void extract(benchmark::State &state, const engine *e, bool pooled)
{
    const auto workers = static_cast<unsigned>(state.range(0));
    ash_vmpool *p = pooled ? engine_pool(e, workers) : nullptr;
    double cpu = 0;
    size_t wrong = 0;
    rows();
    if (pooled && ash_vmpool_warm(p, workers) != 0)
        std::abort();
    for (auto _ : state) {
        run r;
        r.e = e;
        r.pool = p;
        double from = now_ns(), cpu_from = now_ns(CLOCK_PROCESS_CPUTIME_ID);
        std::vector<std::thread> threads;
        for (unsigned i = 0; i < workers; i++)
            threads.emplace_back(work, std::ref(r));
        for (auto &t : threads)
            t.join();
        double to = now_ns(), cpu_to = now_ns(CLOCK_PROCESS_CPUTIME_ID);
        state.SetIterationTime((to - from) * 1e-9);
        note(std::string(pooled ? "rows/pooled/" : "rows/new/") + e->name + "/" +
                 std::to_string(workers),
             to - from);
        cpu += cpu_to - cpu_from;
        note(std::string(pooled ? "cpu/pooled/" : "cpu/new/") + e->name + "/" +
                 std::to_string(workers),
             cpu_to - cpu_from);
        wrong += r.wrong;
    }
    if (wrong != 0)
        state.SkipWithError("a row has the wrong value");
    auto all = static_cast<double>(state.iterations()) * row_count;
    state.SetItemsProcessed(static_cast<int64_t>(all));
    state.counters["cpu_ns_row"] = cpu / all;
    state.counters["own_MiB"] = static_cast<double>(own_bytes()) / mib;
    if (p != nullptr) {
        show_parts(state, p);
        breakdown[std::string(e->name) + ", " + std::to_string(workers) + " workers"] =
            worker_lines(p);
        ash_vmpool_destroy(p);
    }
}

/* ---- memory ---- */

constexpr size_t live_bytes = 4 * mib;

/* Blocks of 16 to 512 bytes, linked; `get` takes a size. */
template <class Get> void *fill(Get get)
{
    random_numbers g(11);
    void **first = nullptr;
    for (size_t sum = 0; sum < live_bytes;) {
        size_t n = 16 + g.below(497);
        auto *p = static_cast<void **>(get(n));
        std::memset(p, 1, n);
        *p = first;
        first = p;
        sum += n;
    }
    return first;
}

int live_init(void *, ash_heap *heap, void **root)
{
    *root = fill([heap](size_t n) { return ash_heap_malloc(heap, n); });
    return 0;
}

/* Writes to one block in 500, which `turn` selects. */
void visit(void *root, uint64_t turn)
{
    random_numbers g(turn);
    for (auto **p = static_cast<void **>(root); p != nullptr; p = static_cast<void **>(*p))
        if (g.below(500) == 0)
            reinterpret_cast<volatile char *>(p)[8]++;
}

struct memory_way {
    const char *name;
    bool pooled;
    ash_reset_mode mode;
    bool others;  /* each use writes to other blocks */
    bool trimmed; /* the heaps are idle */
};

constexpr memory_way memory_ways[] = {
    {"malloc", false, ASH_RESET_AUTO, false, false},
    {"auto", true, ASH_RESET_AUTO, false, false},
    {"auto_others", true, ASH_RESET_AUTO, true, false},
    {"auto_trimmed", true, ASH_RESET_AUTO, true, true},
    {"scan", true, ASH_RESET_SCAN, false, false},
    {"scan_others", true, ASH_RESET_SCAN, true, false},
    {"copy", true, ASH_RESET_COPY, false, false},
};

struct memory_sum {
    size_t all, pss;
};

memory_sum memory_now(ash_vmpool *p)
{
    struct ash_vmpool_stats s {};
    if (p != nullptr)
        ash_vmpool_stats(p, &s);
    return {own_bytes() + s.image_bytes + proc_bytes("/proc/self/status", "VmPTE: %zu"),
            proc_bytes("/proc/self/smaps_rollup", "Pss: %zu")};
}

void memory_most(memory_sum &most, ash_vmpool *p)
{
    memory_sum now = memory_now(p);
    most = {std::max(most.all, now.all), std::max(most.pss, now.pss)};
}

constexpr int memory_uses = 130, memory_looks = 66;

void live_in_pool(const memory_way &way, memory_sum &most)
{
    ash_vm *vm[workers_most];
    ash_vm_ops ops{};
    ops.init = live_init;
    ash_vmpool *p = pool_create("memory", ops, workers_most, nullptr, way.mode);
    for (int use = 0; use < memory_uses; use++) {
        for (auto &one : vm)
            if (ash_vmpool_acquire(p, &one, 0) != 0)
                std::abort();
        for (unsigned i = 0; i < workers_most; i++)
            visit(ash_vm_root(vm[i]), way.others ? static_cast<uint64_t>(use) * workers_most + i : 0);
        if (!way.trimmed && use >= memory_uses - memory_looks)
            memory_most(most, p);
        for (auto *one : vm)
            ash_vmpool_release(p, one, 0);
    }
    if (way.trimmed) {
        ash_vm *one[workers_most];
        for (auto &each : one)
            if (ash_vmpool_acquire(p, &each, 0) != 0 || ash_heap_trim(ash_vm_heap(each)) != 0)
                std::abort();
        memory_most(most, p);
    }
}

memory_sum live_memory(const memory_way &way)
{
    memory_sum before = memory_now(nullptr), most{};
    if (way.pooled) {
        live_in_pool(way, most);
    } else {
        for (unsigned i = 0; i < workers_most; i++)
            visit(fill([](size_t n) { return std::malloc(n); }), 0);
        memory_most(most, nullptr);
    }
    return {most.all - before.all, most.pss - before.pss};
}

/* In a child, where nothing else is. */
void memory(benchmark::State &state, const memory_way &way)
{
    memory_sum bytes{};
    for (auto _ : state) {
        int fd[2];
        if (pipe(fd) != 0)
            std::abort();
        pid_t child = fork();
        if (child == 0) {
            memory_sum answer = live_memory(way);
            _exit(write(fd[1], &answer, sizeof answer) != sizeof answer);
        }
        if (read(fd[0], &bytes, sizeof bytes) != sizeof bytes)
            bytes = {};
        close(fd[0]);
        close(fd[1]);
        waitpid(child, nullptr, 0);
    }
    note(std::string("memory/") + way.name, static_cast<double>(bytes.all));
    state.counters["MiB_each"] = static_cast<double>(bytes.all) / mib / workers_most;
    state.counters["pss_MiB"] = static_cast<double>(bytes.pss) / mib / workers_most;
}

/* ---- all ---- */

void add_all()
{
    for (const engine *const *at = engines; *at != nullptr; at++) {
        const engine *e = *at;
        std::string name = std::string("engine/") + e->name;
        benchmark::RegisterBenchmark((name + "/create_destroy/malloc").c_str(), create_destroy, e,
                                     false);
        benchmark::RegisterBenchmark((name + "/create_destroy/heap").c_str(), create_destroy, e,
                                     true);
        benchmark::RegisterBenchmark((name + "/context").c_str(), context, e);
        benchmark::RegisterBenchmark((name + "/cycle").c_str(), cycle, e);
    }
    benchmark::RegisterBenchmark("bare/restore", bare_restore);
    benchmark::RegisterBenchmark("bare/cycle", bare_cycle)->ThreadRange(1, workers_most);
    for (const engine *const *at = engines; *at != nullptr; at++)
        for (bool pooled : {false, true})
            benchmark::RegisterBenchmark(
                (std::string("rows/") + (*at)->name + (pooled ? "/pooled" : "/new")).c_str(),
                extract, *at, pooled)
                ->RangeMultiplier(2)
                ->Range(1, workers_most)
                ->UseManualTime()
                ->Unit(benchmark::kMillisecond);
    for (const memory_way &way : memory_ways)
        benchmark::RegisterBenchmark((std::string("memory/") + way.name).c_str(), memory, way)
            ->Iterations(1);
}

/* One line for each pair that was run: how much less, or how many times as much. */
void show_ratio(const char *what, const std::string &ours, const std::string &other, bool rate)
{
    auto a = best.find(ours), b = best.find(other);
    if (a == best.end() || b == best.end())
        return;
    if (rate)
        std::printf("%-52s %6.1f x\n", what, b->second / a->second);
    else
        std::printf("%-52s %+6.1f %%\n", what, (a->second / b->second - 1) * 100);
}

void show_ratios()
{
    for (const engine *const *at = engines; *at != nullptr; at++) {
        std::string e = (*at)->name;
        show_ratio((e + ": acquire + release to create + destroy").c_str(), "cycle/" + e,
                   "create/" + e, false);
        show_ratio((e + ": acquire + release to a new context").c_str(), "cycle/" + e,
                   "context/" + e, false);
        for (unsigned n = 1; n <= workers_most; n *= 2) {
            std::string workers = "/" + e + "/" + std::to_string(n);
            show_ratio((e + ": rows a second, " + std::to_string(n) + " workers").c_str(),
                       "rows/pooled" + workers, "rows/new" + workers, true);
        }
        show_ratio((e + ": time of all rows, 8 workers to 2").c_str(), "rows/pooled/" + e + "/8",
                   "rows/pooled/" + e + "/2", false);
        show_ratio((e + ": CPU time of a row, 8 workers to 2").c_str(), "cpu/pooled/" + e + "/8",
                   "cpu/pooled/" + e + "/2", false);
    }
    for (const memory_way &way : memory_ways)
        if (way.pooled)
            show_ratio((std::string("memory of 8 VMs of 4 MiB to malloc, ") + way.name).c_str(),
                       std::string("memory/") + way.name, "memory/malloc", false);
}

} // namespace

int main(int argc, char **argv)
{
    if (engine_find("lua") == nullptr)
        std::printf("Lua 5.4 is not here: left out\n");
    if (engine_find("quickjs") == nullptr)
        std::printf("QuickJS is not here (configure --with-quickjs=DIR): left out\n");
    add_all();
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 1;
    benchmark::RunSpecifiedBenchmarks();
    show_ratios();
    for (const auto &run : breakdown)
        std::printf("%s\n%s", run.first.c_str(), run.second.c_str());
    return 0;
}
