// A threaded program as servers are: producers make jobs of strings, maps, vectors and pointers; other threads take them
// over, keep them in sessions that outlive the threads, and check every byte when a later job takes the place. A thread
// serves a few hundred jobs and ends, and another follows it. A hoarder grows now and then until memory is refused, or
// enough, and lets go.
//
//     server SECONDS
//
// Memory may be refused anywhere, by ASHLAR_LIMIT or by a system that maps no more: what was begun is undone and begun
// again. The first line says that it has begun, the last what happened. The exit status is 1 when a job was lost, doubled
// or damaged, or when more is live at the end than at the beginning.
#include "ashlar/stats.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cinttypes>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr unsigned PRODUCERS = 2, CONSUMERS = 4, SHARDS = 16, SESSIONS = 100, QUEUE = 128, JOBS_OF_A_THREAD = 300;
constexpr size_t HOARD_STEP = 16 << 20, HOARD_MAX = 256 << 20;
constexpr uint64_t SPARE_BLOCKS = 64; // of libc: it keeps the records of ended threads for the next ones

Clock::time_point end_time;
std::atomic<uint64_t> refused{0}, threads{0}, hoards{0}, wrong{0};

class Random {
public:
    explicit Random(uint64_t seed) : s((seed + 1) * 0x9e3779b97f4a7c15u) {}

    size_t below(size_t n)
    {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        return static_cast<size_t>((s >> 11) % n);
    }

    std::string text(size_t n)
    {
        std::string t;
        while (n-- > 0) // grows step by step, as texts do
            t += static_cast<char>('a' + below(26));
        return t;
    }

private:
    uint64_t s;
};

// What a job holds follows from its seed.
struct Job {
    const uint64_t seed;
    std::string name;
    std::vector<size_t> numbers;
    std::map<std::string, std::unique_ptr<std::string>> fields;

    explicit Job(uint64_t from) : seed(from)
    {
        Random r(from);
        name = r.text(4 + r.below(200));
        for (size_t n = r.below(r.below(50) == 0 ? 20000 : 300); n > 0; n--)
            numbers.push_back(r.below(1000));
        for (size_t n = r.below(12); n > 0; n--) {
            auto &field = fields[r.text(1 + r.below(30))];
            field = std::make_unique<std::string>(r.text(r.below(3000)));
        }
    }

    bool operator==(const Job &other) const
    {
        return name == other.name && numbers == other.numbers && fields.size() == other.fields.size() &&
               std::equal(fields.begin(), fields.end(), other.fields.begin(),
                          [](const auto &a, const auto &b) { return a.first == b.first && *a.second == *b.second; });
    }
};

// Until it succeeds; `f` leaves nothing behind when it throws. Memory that is refused for ever was lost.
template <class F> auto insist(F f)
{
    for (;; std::this_thread::sleep_for(1ms)) {
        try {
            return f();
        } catch (const std::exception &) { // bad_alloc; system_error of a thread that cannot be started
            refused++;
        }
        if (Clock::now() > end_time + 60s) {
            std::fputs("memory is refused long after the end\n", stderr);
            std::abort();
        }
    }
}

// Seeds of the jobs that were made, and of those that came through; equal in the end.
struct Sums {
    std::atomic<uint64_t> count{0}, sum{0};

    void add(uint64_t seed)
    {
        count++;
        sum += seed * seed;
    }
} made, checked;

void check(const Job &job)
{
    wrong += !insist([&] { return job == Job(job.seed); });
    checked.add(job.seed);
}

// A ring of fixed size: to hand a job over takes no memory.
class Queue {
public:
    void push(std::unique_ptr<Job> job)
    {
        std::unique_lock<std::mutex> lock(mutex);
        room.wait(lock, [&] { return count < QUEUE; });
        ring[(first + count++) % QUEUE] = std::move(job);
        work.notify_one();
    }

    // Null: closed and empty.
    std::unique_ptr<Job> pop()
    {
        std::unique_lock<std::mutex> lock(mutex);
        work.wait(lock, [&] { return count > 0 || closed; });
        if (count == 0)
            return nullptr;
        auto job = std::move(ring[first]);
        first = (first + 1) % QUEUE;
        count--;
        room.notify_one();
        return job;
    }

    void open() { closed = false; } // by the only thread

    void close()
    {
        std::lock_guard<std::mutex> lock(mutex);
        closed = true;
        work.notify_all();
    }

private:
    std::mutex mutex;
    std::condition_variable room, work;
    std::array<std::unique_ptr<Job>, QUEUE> ring;
    size_t first = 0, count = 0;
    bool closed = false;
} queue;

struct Shard {
    std::mutex mutex;
    std::map<uint64_t, std::unique_ptr<Job>> sessions;

    // Gives the job back that had to go, of another thread as a rule, or null.
    std::unique_ptr<Job> keep(std::unique_ptr<Job> &job, Random &r)
    {
        std::lock_guard<std::mutex> lock(mutex);
        sessions.try_emplace(job->seed, std::move(job)); // leaves `job` alone when it throws
        return sessions.size() > SESSIONS ? take(std::next(sessions.begin(), static_cast<long>(r.below(SESSIONS)))) : nullptr;
    }

    std::unique_ptr<Job> take(std::map<uint64_t, std::unique_ptr<Job>>::iterator at)
    {
        auto job = std::move(at->second);
        sessions.erase(at);
        return job;
    }
};
std::array<Shard, SHARDS> shards;
std::atomic<uint64_t> next_seed{0};

// Both true while there is more to do for a thread of their kind.
bool produce()
{
    for (unsigned i = 0; i < JOBS_OF_A_THREAD && Clock::now() < end_time; i++) {
        uint64_t seed = next_seed++;
        queue.push(insist([&] { return std::make_unique<Job>(seed); }));
        made.add(seed);
    }
    return Clock::now() < end_time;
}

bool consume()
{
    for (unsigned i = 0; i < JOBS_OF_A_THREAD; i++) {
        auto job = queue.pop();
        if (job == nullptr)
            return false;
        Random r(job->seed);
        Shard &shard = shards[r.below(SHARDS)];
        if (auto old = insist([&] { return shard.keep(job, r); }))
            check(*old);
    }
    return true;
}

// One thread after the other, each for one call of `work`, until that is false.
void succession(bool (*work)())
{
    for (std::atomic<bool> more{true}; more; threads++)
        insist([&] { return std::thread([&] { more = work(); }); }).join();
}

// Each time for more, so that no memory that was mapped before is enough: the system is asked, and may refuse.
void hoard()
{
    static std::array<std::unique_ptr<char[]>, 4096> held;
    size_t want = HOARD_STEP * ++hoards, sum = 0;
    Random r(want);
    try {
        for (size_t i = 0; i < held.size() && sum < std::min(want, HOARD_MAX); i++) {
            size_t n = 1 + r.below(r.below(8) == 0 ? 1 << 20 : 20000);
            held[i] = std::make_unique<char[]>(n);
            sum += n;
        }
    } catch (const std::bad_alloc &) {
        refused++;
        std::this_thread::sleep_for(20ms); // the others are refused too
    }
    for (auto &block : held)
        block.reset();
}

void serve()
{
    std::array<std::thread, PRODUCERS + CONSUMERS> pool;
    queue.open();
    for (unsigned i = 0; i < pool.size(); i++)
        pool[i] = insist([=] { return std::thread(succession, i < PRODUCERS ? produce : consume); });
    for (auto next = Clock::now() + 1s; next < end_time; next += 2s) {
        std::this_thread::sleep_until(next);
        hoard();
    }
    for (unsigned i = 0; i < pool.size(); i++) {
        if (i == PRODUCERS)
            queue.close();
        pool[i].join();
    }
    for (auto &shard : shards)
        while (!shard.sessions.empty())
            check(*shard.take(shard.sessions.begin()));
}

uint64_t live()
{
    ash_stats stats{};
    stats.struct_size = sizeof stats;
    ash_stats_get(&stats);
    return stats.live_blocks;
}

} // namespace

int main(int argc, char **argv)
{
    end_time = Clock::now();
    serve(); // nothing but its threads, so that libc has its records of them
    uint64_t before = live();
    std::puts("serving");
    std::fflush(stdout);
    end_time = Clock::now() + std::chrono::seconds(argc > 1 ? std::atoi(argv[1]) : 5);
    serve();
    uint64_t after = live();
    bool same = made.count == checked.count && made.sum == checked.sum;
    std::printf("jobs=%" PRIu64 " wrong=%" PRIu64 " refused=%" PRIu64 " hoards=%" PRIu64 " threads=%" PRIu64
                " live=%" PRIu64 "/%" PRIu64 " %s\n",
                checked.count.load(), wrong.load(), refused.load(), hoards.load(), threads.load(), after, before,
                same ? "none lost" : "LOST");
    return same && wrong == 0 && after <= before + SPARE_BLOCKS ? 0 : 1;
}
