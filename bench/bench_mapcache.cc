/*
 * bench_mapcache: opening files that are mapped already, against open + fstat + mmap + munmap +
 * close for each use, and against a map of paths behind a mutex, as programs write it themselves.
 */
#include "random.hh"

#include <ashlar/ashlar.h>

#include <benchmark/benchmark.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

constexpr size_t file_bytes = 16384;

/* A directory of files, removed at the end. */
struct files {
    std::string directory;
    std::vector<std::string> paths;

    explicit files(size_t count)
    {
        char name[] = "/tmp/bench_mapcache.XXXXXX";
        if (mkdtemp(name) == nullptr)
            std::abort();
        directory = name;
        std::string bytes(file_bytes, 'x');
        for (size_t i = 0; i < count; i++) {
            paths.push_back(directory + "/page-" + std::to_string(i) + ".html");
            int fd = open(paths.back().c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
            if (fd < 0 || write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
                std::abort();
            close(fd);
        }
    }
    files(const files &) = delete;
    files &operator=(const files &) = delete;

    ~files()
    {
        for (const auto &path : paths)
            unlink(path.c_str());
        rmdir(directory.c_str());
    }
};

const files &pages()
{
    static const files all(256);
    return all;
}

ash_mapcache *cache()
{
    static ash_mapcache *c = ash_mapcache_create(nullptr);
    return c;
}

void count_calls(benchmark::State &state, const ash_mapcache *c)
{
    struct ash_mapcache_stats s;
    ash_mapcache_stats(c, &s);
    if (state.thread_index() == 0 && s.opens > 0)
        state.counters["hit_rate"] = static_cast<double>(s.hits) / static_cast<double>(s.opens);
}

void open_close(benchmark::State &state, ash_mapcache *c)
{
    const auto &paths = pages().paths;
    random_numbers g(static_cast<uint64_t>(state.thread_index()));
    auto among = static_cast<size_t>(state.range(0));
    for (auto _ : state) {
        ash_map map;
        if (ash_mapcache_open(c, paths[g.below(among)].c_str(), 0, 0, 0, &map) != 0)
            std::abort();
        benchmark::DoNotOptimize(map.data);
        ash_mapcache_close(c, &map);
    }
    count_calls(state, c);
}

/* Among 1 and 256 files, by one thread and by four. */
void mapcache(benchmark::State &state)
{
    open_close(state, cache());
}
BENCHMARK(mapcache)->Arg(1)->Arg(256)->Threads(1)->Threads(4)->UseRealTime();

/* The kernel is asked each time. */
void mapcache_validate(benchmark::State &state)
{
    static ash_mapcache *c = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.flags = ASH_MAPCACHE_VALIDATE));
    open_close(state, c);
}
BENCHMARK(mapcache_validate)->Arg(1);

/* A budget of half of the files: every second open or so maps one and unmaps another. */
void mapcache_over_budget(benchmark::State &state)
{
    static ash_mapcache *c = ash_mapcache_create(ASH_MAPCACHE_CONFIG(.max_bytes = 128 * file_bytes));
    open_close(state, c);
}
BENCHMARK(mapcache_over_budget)->Arg(256);

void mmap_each_time(benchmark::State &state)
{
    const char *path = pages().paths[0].c_str();
    for (auto _ : state) {
        struct stat st;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) != 0)
            std::abort();
        void *p = mmap(nullptr, static_cast<size_t>(st.st_size), PROT_READ, MAP_SHARED, fd, 0);
        close(fd);
        benchmark::DoNotOptimize(p);
        munmap(p, static_cast<size_t>(st.st_size));
    }
}
BENCHMARK(mmap_each_time);

struct mapped {
    unsigned users;
    void *data;
};

/* Never unmaps, never looks at the file again. */
void mutex_and_map(benchmark::State &state)
{
    static std::mutex lock;
    static std::unordered_map<std::string, mapped> all;
    const auto &paths = pages().paths;
    random_numbers g(static_cast<uint64_t>(state.thread_index()));
    auto among = static_cast<size_t>(state.range(0));
    for (auto _ : state) {
        mapped *m;
        {
            std::lock_guard<std::mutex> guard(lock);
            m = &all[paths[g.below(among)].c_str()];
            m->users++;
        }
        benchmark::DoNotOptimize(m->data);
        std::lock_guard<std::mutex> guard(lock);
        m->users--;
    }
}
BENCHMARK(mutex_and_map)->Arg(1)->Arg(256)->Threads(1)->Threads(4)->UseRealTime();

} // namespace

BENCHMARK_MAIN();
