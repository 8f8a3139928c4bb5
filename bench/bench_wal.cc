/*
 * bench_wal: the write-ahead log (ashlar/wal.h).
 *
 *   log_group    a record of so many bytes appended and synced, by 1 to 64 threads: group commit;
 *                `a_sync` is how many records one sync served
 *   log_again    the same with checkpoints: the files are used again
 *   log_each     a write to a file that grows and an fdatasync for each, by as many threads: the
 *                file system may serve several with one commit of its journal
 *   log_filled   the same by one thread in a file that was filled before: what is left without it
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
#include <vector>

namespace
{

std::string bench_log;
ash_wal *bench_wal;
int bench_fd;

const char *bench_base()
{
    const char *set = std::getenv("ASH_BENCH_DIR");
    return set != nullptr ? set : ".";
}

std::vector<char> record_of(const benchmark::State &state)
{
    return std::vector<char>(static_cast<std::size_t>(state.range(0)), 'r');
}

/* What all threads did together. */
void log_figures(benchmark::State &state)
{
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(state.iterations() * state.range(0));
    if (state.thread_index() == 0 && bench_wal != nullptr) {
        struct ash_wal_stats s;
        need(ash_wal_stats(bench_wal, &s) == 0);
        state.counters["a_sync"] = static_cast<double>(s.records) / static_cast<double>(s.syncs);
    }
}

void log_run(benchmark::State &state, bool checkpoints)
{
    std::vector<char> record = record_of(state);
    iovec piece = {record.data(), record.size()};
    std::size_t bytes = 0;
    for (auto _ : state) {
        uint64_t lsn;
        need(ash_wal_append(bench_wal, &piece, 1, &lsn) == 0 && ash_wal_sync(bench_wal, lsn) == 0);
        bytes += record.size();
        if (checkpoints && bytes > 1 << 20) {
            need(ash_wal_truncate(bench_wal, ash_wal_synced(bench_wal)) == 0);
            bytes = 0;
        }
    }
    log_figures(state);
}

void log_group(benchmark::State &state)
{
    log_run(state, false);
}

void log_again(benchmark::State &state)
{
    log_run(state, true);
}

void log_group_begin(const benchmark::State &)
{
    bench_log = log_dir(bench_base());
    need(ash_wal_open((bench_log + "/log").c_str(), nullptr, &bench_wal) == 0);
}

void log_group_end(const benchmark::State &)
{
    need(ash_wal_close(bench_wal) == 0);
    bench_wal = nullptr;
    std::filesystem::remove_all(bench_log);
}

/* Two files that take turns. */
void log_again_begin(const benchmark::State &state)
{
    log_group_begin(state);
    need(ash_wal_prepare(bench_wal) == 0);
}

void log_each(benchmark::State &state)
{
    std::vector<char> record = record_of(state);
    auto n = static_cast<ssize_t>(record.size());
    for (auto _ : state)
        need(write(bench_fd, record.data(), record.size()) == n && fdatasync(bench_fd) == 0);
    log_figures(state);
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

constexpr off_t filled_bytes = 16 << 20;

void log_filled(benchmark::State &state)
{
    std::vector<char> record = record_of(state);
    auto n = static_cast<ssize_t>(record.size());
    off_t at = 0;
    for (auto _ : state) {
        need(pwrite(bench_fd, record.data(), record.size(), at) == n && fdatasync(bench_fd) == 0);
        at = at + 2 * n > filled_bytes ? 0 : at + n;
    }
    log_figures(state);
}

void log_filled_begin(const benchmark::State &)
{
    std::vector<char> zeroes(filled_bytes);
    bench_log = log_dir(bench_base());
    bench_fd = open((bench_log + "/log").c_str(), O_WRONLY | O_CREAT, 0600);
    need(bench_fd >= 0 && pwrite(bench_fd, zeroes.data(), zeroes.size(), 0) == filled_bytes);
    need(fsync(bench_fd) == 0);
}

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
    need(ash_wal_open((bench_log + "/log").c_str(), nullptr, &bench_wal) == 0);
}

void log_sizes(benchmark::internal::Benchmark *b)
{
    b->Arg(100)->Arg(1024)->Arg(65536)->UseRealTime();
}

void log_threads(benchmark::internal::Benchmark *b)
{
    log_sizes(b);
    b->Threads(1)->Threads(2)->Threads(8)->Threads(64);
}

BENCHMARK(log_each)->Setup(log_each_begin)->Teardown(log_each_end)->Apply(log_threads);
BENCHMARK(log_group)->Setup(log_group_begin)->Teardown(log_group_end)->Apply(log_threads);
BENCHMARK(log_again)->Setup(log_again_begin)->Teardown(log_group_end)->Apply(log_threads);
BENCHMARK(log_filled)->Setup(log_filled_begin)->Teardown(log_each_end)->Apply(log_sizes);
BENCHMARK(log_append)->Setup(log_memory_begin)->Teardown(log_group_end)->Iterations(500000);

} // namespace

BENCHMARK_MAIN();
