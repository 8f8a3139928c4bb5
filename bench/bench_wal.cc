/*
 * bench_wal: the write-ahead log (ashlar/wal.h).
 *
 *   log_group    a record of 100 bytes appended and synced, by 1 to 8 threads: group commit; `a_sync` is how
 *                many records one sync served
 *   log_each     the same by a write and an fdatasync for each, one after the other
 *   log_append   appended alone, to a log in memory (/dev/shm)
 *
 * Logs are in the directory ASH_BENCH_DIR, or the working directory.
 */
#include <ashlar/wal.h>

#include "scratch.hh"

#include <benchmark/benchmark.h>

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <mutex>

namespace
{

std::string bench_log;
ash_wal *bench_wal;
int bench_fd;
std::mutex bench_mutex;

const char *bench_base()
{
    const char *set = std::getenv("ASH_BENCH_DIR");
    return set != nullptr ? set : ".";
}

void log_group(benchmark::State &state)
{
    char record[100] = "record";
    iovec piece = {record, sizeof record};
    for (auto _ : state) {
        uint64_t lsn;
        need(ash_wal_append(bench_wal, &piece, 1, &lsn) == 0 && ash_wal_sync(bench_wal, lsn) == 0);
    }
    state.SetItemsProcessed(state.iterations());
    if (state.thread_index() == 0) {
        struct ash_wal_stats s;
        need(ash_wal_stats(bench_wal, &s) == 0);
        state.counters["a_sync"] = static_cast<double>(s.records) / static_cast<double>(s.syncs);
    }
}

void log_group_begin(const benchmark::State &)
{
    bench_log = log_dir(bench_base());
    need(ash_wal_open((bench_log + "/log").c_str(), nullptr, &bench_wal) == 0);
}

void log_group_end(const benchmark::State &)
{
    need(ash_wal_close(bench_wal) == 0);
    std::filesystem::remove_all(bench_log);
}
BENCHMARK(log_group)->Setup(log_group_begin)->Teardown(log_group_end)->ThreadRange(1, 8)->UseRealTime();

/* Appended without a sync: what a record costs. */
void log_append(benchmark::State &state)
{
    char record[100] = "record";
    iovec piece = {record, sizeof record};
    for (auto _ : state)
        need(ash_wal_append(bench_wal, &piece, 1, nullptr) == 0);
    state.SetItemsProcessed(state.iterations());
}

void log_memory_begin(const benchmark::State &)
{
    bench_log = log_dir("/dev/shm");
    ash_wal_config config{};
    config.struct_size = sizeof config;
    need(ash_wal_open((bench_log + "/log").c_str(), &config, &bench_wal) == 0);
}
BENCHMARK(log_append)->Setup(log_memory_begin)->Teardown(log_group_end)->Iterations(500000);

/* One write and one fdatasync for each record, one after the other. */
void log_each(benchmark::State &state)
{
    char record[100] = "record";
    for (auto _ : state) {
        std::lock_guard<std::mutex> hold(bench_mutex);
        need(write(bench_fd, record, sizeof record) == sizeof record && fdatasync(bench_fd) == 0);
    }
    state.SetItemsProcessed(state.iterations());
}

void log_each_begin(const benchmark::State &)
{
    bench_log = log_dir(bench_base());
    bench_fd = open((bench_log + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    need(bench_fd >= 0);
}

void log_each_end(const benchmark::State &)
{
    close(bench_fd);
    std::filesystem::remove_all(bench_log);
}
BENCHMARK(log_each)->Setup(log_each_begin)->Teardown(log_each_end)->ThreadRange(1, 8)->UseRealTime();

} // namespace

BENCHMARK_MAIN();
