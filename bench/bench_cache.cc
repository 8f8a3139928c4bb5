/*
 * bench_cache: the layers for runtimes (ashlar/vm.h), each beside what a program would write itself.
 *
 *   tier        a call counted by ash_tier_hit, and by an atomic add
 *   callcache   results of calls among 64k entries, got, and put in a full cache; and the same with a
 *               std::unordered_map, a list in order of use and a mutex
 *   artcache    an artifact found in memory, against a map of shared pointers and a mutex; 1 MiB
 *               found on disk, met before or for the first time, against reading the file
 *
 * Times of threaded ones are real time per operation and thread.
 */
#include "random.hh"

#include <ashlar/layers.h>
#include <ashlar/malloc.h>

#include <benchmark/benchmark.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unistd.h>
#include <unordered_map>
#include <vector>

namespace {

constexpr unsigned entries = 65536;
constexpr size_t mib = 1024 * 1024;

void need(bool good)
{
    if (!good)
        std::abort();
}

/* Keys in an order that no prefetcher foresees, drawn beforehand. */
std::vector<uint64_t> random_keys(size_t count, uint64_t below, uint64_t seed)
{
    random_numbers g(seed);
    std::vector<uint64_t> keys(count);
    for (auto &key : keys)
        key = g.below(below);
    return keys;
}

/* ---- tier ---- */

int compile(void *, unsigned, void *)
{
    return 0;
}

void tier_hit(benchmark::State &state)
{
    ash_tier_config config{};
    config.struct_size = sizeof config;
    config.compile = compile;
    ash_tier *tiers = ash_tier_create(nullptr, &config);
    ash_tier_fn *fn = ash_tier_register(tiers, "f", nullptr);
    for (auto _ : state) {
        unsigned tier = ash_tier_hit(fn);
        benchmark::DoNotOptimize(tier);
    }
    state.counters["tier"] = ash_tier_level(fn);
    need(ash_tier_destroy(tiers) == 0);
}
BENCHMARK(tier_hit);

void tier_atomic_add(benchmark::State &state)
{
    std::atomic<uint64_t> calls{0};
    std::atomic<unsigned> tier{0};
    for (auto _ : state) {
        if (calls.fetch_add(1, std::memory_order_relaxed) == 100)
            tier.store(1, std::memory_order_release);
        unsigned now = tier.load(std::memory_order_acquire);
        benchmark::DoNotOptimize(now);
    }
}
BENCHMARK(tier_atomic_add);

/* ---- results of calls ---- */

/* Keys far from each other: std::hash leaves numbers as they are. */
uint64_t spread(uint64_t i)
{
    return i * 0x9E3779B97F4A7C15u;
}

/* What stands in many programs. */
class map_cache {
public:
    explicit map_cache(size_t most) : most(most) {}

    bool get(uint64_t key, uint64_t *result)
    {
        std::lock_guard<std::mutex> hold(mutex);
        auto found = index.find(key);
        if (found == index.end())
            return false;
        order.splice(order.begin(), order, found->second);
        *result = found->second->second;
        return true;
    }

    void put(uint64_t key, uint64_t result)
    {
        std::lock_guard<std::mutex> hold(mutex);
        auto found = index.find(key);
        if (found != index.end()) {
            found->second->second = result;
            return;
        }
        order.emplace_front(key, result);
        index[key] = order.begin();
        if (index.size() > most) {
            index.erase(order.back().first);
            order.pop_back();
        }
    }

private:
    const size_t most;
    std::mutex mutex;
    std::list<std::pair<uint64_t, uint64_t>> order;
    std::unordered_map<uint64_t, std::list<std::pair<uint64_t, uint64_t>>::iterator> index;
};

ash_callcache *calls_create(size_t max_bytes)
{
    ash_callcache_config config{};
    config.struct_size = sizeof config;
    config.max_bytes = max_bytes;
    config.max_entries = entries + entries / 16; /* shards fill unevenly */
    ash_callcache *cache = ash_callcache_create(nullptr, &config);
    need(cache != nullptr);
    return cache;
}

bool calls_get(ash_callcache *cache, uint64_t key, uint64_t *result)
{
    size_t len = sizeof *result;
    return ash_callcache_get(cache, 7, &key, sizeof key, result, &len) == 0;
}

void calls_put(ash_callcache *cache, uint64_t key, uint64_t result)
{
    ash_callcache_put(cache, 7, &key, sizeof key, &result, sizeof result, 0);
}

ash_callcache *shared_calls;
std::unique_ptr<map_cache> shared_map;

void callcache_get(benchmark::State &state)
{
    if (state.thread_index() == 0) {
        shared_calls = calls_create(16 * mib);
        for (uint64_t i = 0; i < entries; i++)
            calls_put(shared_calls, spread(i), i * i);
    }
    auto keys = random_keys(1 << 16, static_cast<uint64_t>(state.range(0)), 1 + state.thread_index());
    size_t i = 0, hits = 0;
    for (auto _ : state) {
        uint64_t result = 0;
        hits += calls_get(shared_calls, spread(keys[i++ & 0xffff]), &result);
        benchmark::DoNotOptimize(result);
    }
    state.counters["hit_rate"] = benchmark::Counter(
        static_cast<double>(hits) / static_cast<double>(state.iterations()), benchmark::Counter::kAvgThreads);
    if (state.thread_index() == 0)
        ash_callcache_destroy(shared_calls);
}
BENCHMARK(callcache_get)->ArgName("of")->Arg(1024)->Arg(entries)->ThreadRange(1, 4)->UseRealTime();

void callcache_get_map(benchmark::State &state)
{
    if (state.thread_index() == 0) {
        shared_map.reset(new map_cache(entries));
        for (uint64_t i = 0; i < entries; i++)
            shared_map->put(spread(i), i * i);
    }
    auto keys = random_keys(1 << 16, static_cast<uint64_t>(state.range(0)), 1 + state.thread_index());
    size_t i = 0, hits = 0;
    for (auto _ : state) {
        uint64_t result = 0;
        hits += shared_map->get(spread(keys[i++ & 0xffff]), &result);
        benchmark::DoNotOptimize(result);
    }
    state.counters["hit_rate"] = benchmark::Counter(
        static_cast<double>(hits) / static_cast<double>(state.iterations()), benchmark::Counter::kAvgThreads);
    if (state.thread_index() == 0)
        shared_map.reset();
}
BENCHMARK(callcache_get_map)->ArgName("of")->Arg(1024)->Arg(entries)->ThreadRange(1, 4)->UseRealTime();

/* Every put is of a new key and drops an old one. */
void callcache_put_evict(benchmark::State &state)
{
    constexpr size_t words = 6; /* an entry of 8 bytes in and 8 out */
    ash_callcache *cache = calls_create(entries * words * 8 + 2 * mib);
    uint64_t key = 0;
    while (key < 4 * entries)
        calls_put(cache, spread(key++), 1);
    for (auto _ : state)
        calls_put(cache, spread(key++), 1);
    struct ash_callcache_stats stats;
    ash_callcache_stats(cache, &stats);
    state.counters["entries"] = static_cast<double>(stats.entries);
    state.counters["evictions_a_put"] =
        static_cast<double>(stats.evictions) / static_cast<double>(stats.puts);
    ash_callcache_destroy(cache);
}
BENCHMARK(callcache_put_evict);

void callcache_put_evict_map(benchmark::State &state)
{
    map_cache cache(entries);
    uint64_t key = 0;
    while (key < 4 * entries)
        cache.put(spread(key++), 1);
    for (auto _ : state)
        cache.put(spread(key++), 1);
}
BENCHMARK(callcache_put_evict_map);

/* Skewed use, twice as many keys as entries: what the order of eviction is worth. */
template <class Get, class Put> void skewed(benchmark::State &state, Get get, Put put)
{
    random_numbers g(3);
    std::vector<uint64_t> keys(1 << 20);
    for (auto &key : keys) { /* the smaller the key the more often, about as 1 / key */
        uint64_t bits = g.below(18);
        key = g.below(uint64_t(1) << bits);
    }
    size_t i = 0, hits = 0;
    for (auto _ : state) {
        uint64_t key = keys[i++ & 0xfffff], result = 0;
        if (get(key, &result))
            hits++;
        else
            put(key, key);
        benchmark::DoNotOptimize(result);
    }
    state.counters["hit_rate"] = static_cast<double>(hits) / static_cast<double>(state.iterations());
}

void callcache_skewed(benchmark::State &state)
{
    ash_callcache_config config{};
    config.struct_size = sizeof config;
    config.max_bytes = 8 * mib;
    config.max_entries = entries / 4;
    ash_callcache *cache = ash_callcache_create(nullptr, &config);
    skewed(
        state, [&](uint64_t key, uint64_t *result) { return calls_get(cache, key, result); },
        [&](uint64_t key, uint64_t result) { calls_put(cache, key, result); });
    ash_callcache_destroy(cache);
}
BENCHMARK(callcache_skewed);

void callcache_skewed_map(benchmark::State &state)
{
    map_cache cache(entries / 4);
    skewed(
        state, [&](uint64_t key, uint64_t *result) { return cache.get(key, result); },
        [&](uint64_t key, uint64_t result) { cache.put(key, result); });
}
BENCHMARK(callcache_skewed_map);

/* ---- artifacts ---- */

int build(const ash_artcache_key *key, void **data, size_t *len, void *user)
{
    *len = *static_cast<size_t *>(user);
    *data = ash_malloc(*len);
    std::memset(*data, static_cast<const char *>(key->content)[0], *len);
    return 0;
}

ash_artcache *artifacts_create(const char *dir)
{
    ash_artcache_config config{};
    config.struct_size = sizeof config;
    config.dir = dir;
    ash_artcache *cache = ash_artcache_create(nullptr, &config);
    need(cache != nullptr);
    return cache;
}

std::vector<std::string> sources()
{
    std::vector<std::string> all;
    for (unsigned i = 0; i < 1024; i++)
        all.push_back("function f" + std::to_string(i) + "(x) { return x * x + 1; }   ");
    return all;
}

ash_artcache_key key_of(const std::string &source)
{
    return {source.data(), source.size(), "release-O2", 10};
}

ash_artcache *shared_artifacts;

void artcache_memory(benchmark::State &state)
{
    size_t len = 4096;
    auto all = sources();
    if (state.thread_index() == 0)
        shared_artifacts = artifacts_create(nullptr);
    size_t i = 0, good = 0;
    for (auto _ : state) {
        ash_artcache_key key = key_of(all[i++ * 7 & 1023]);
        ash_artifact a;
        good += ash_artcache_get_or_build(shared_artifacts, &key, build, &len, -1, &a) == 0;
        benchmark::DoNotOptimize(a.data);
        ash_artcache_release(shared_artifacts, &a);
    }
    need(good == i);
    if (state.thread_index() == 0) {
        struct ash_artcache_stats stats;
        ash_artcache_stats(shared_artifacts, &stats);
        state.counters["builds"] = static_cast<double>(stats.builds);
        need(ash_artcache_destroy(shared_artifacts) == 0);
    }
}
BENCHMARK(artcache_memory)->ThreadRange(1, 4)->UseRealTime();

void artcache_memory_map(benchmark::State &state)
{
    std::unordered_map<std::string, std::shared_ptr<std::string>> map;
    std::mutex mutex;
    auto all = sources();
    for (auto &source : all)
        map[source + "release-O2"] = std::make_shared<std::string>(4096, 'x');
    size_t i = 0;
    for (auto _ : state) {
        std::string key = all[i++ * 7 & 1023] + "release-O2";
        std::lock_guard<std::mutex> hold(mutex);
        std::shared_ptr<std::string> found = map.find(key)->second;
        benchmark::DoNotOptimize(found);
    }
}
BENCHMARK(artcache_memory_map);

/* A directory that goes with its files. */
class directory {
public:
    directory()
    {
        const char *tmp = std::getenv("TMPDIR");
        path = std::string(tmp != nullptr ? tmp : "/tmp") + "/ash-bench-XXXXXX";
        need(mkdtemp(&path[0]) != nullptr);
    }
    ~directory()
    {
        std::string command = "rm -rf '" + path + "'";
        need(std::system(command.c_str()) == 0);
    }
    std::string path;
};

/* Memory is emptied before each; the file is in the page cache. */
void artcache_disk_1m(benchmark::State &state)
{
    directory dir;
    size_t len = mib;
    std::string source(64, 's');
    ash_artcache_key key = key_of(source);
    ash_artcache *cache = artifacts_create(dir.path.c_str());
    ash_artifact a;
    need(ash_artcache_get_or_build(cache, &key, build, &len, -1, &a) == 0);
    ash_artcache_release(cache, &a);
    double seconds = 0;
    for (auto _ : state) {
        if (state.range(0) != 0) { /* a process that has not met the file */
            need(ash_artcache_destroy(cache) == 0);
            cache = artifacts_create(dir.path.c_str());
        } else {
            ash_artcache_trim(cache);
        }
        auto begin = std::chrono::steady_clock::now();
        need(ash_artcache_get_or_build(cache, &key, nullptr, nullptr, -1, &a) == 0);
        benchmark::DoNotOptimize(static_cast<const char *>(a.data)[mib / 2]);
        ash_artcache_release(cache, &a);
        seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        state.SetIterationTime(seconds);
    }
    need(ash_artcache_destroy(cache) == 0);
}
BENCHMARK(artcache_disk_1m)->ArgName("first")->Arg(0)->Arg(1)->UseManualTime();

void artcache_disk_1m_read(benchmark::State &state)
{
    directory dir;
    std::string path = dir.path + "/file", bytes(mib, 'x');
    int fd = open(path.c_str(), O_WRONLY | O_CREAT, 0600);
    need(write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(mib));
    close(fd);
    for (auto _ : state) {
        fd = open(path.c_str(), O_RDONLY);
        need(read(fd, &bytes[0], mib) == static_cast<ssize_t>(mib));
        close(fd);
        benchmark::DoNotOptimize(bytes.data());
    }
}
BENCHMARK(artcache_disk_1m_read);

} // namespace

BENCHMARK_MAIN();
