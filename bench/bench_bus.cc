/*
 * bench_bus: messages end to end (ashlar/bus.h): made, routed, handled and freed, one thread sending and one handling.
 *
 *   send        one by one, in batches of 64, grouped; targets of one subsystem or of four, in rows or mixed. `mps` is
 *               millions of messages a second of the fastest round, `refused` those that found a ring full, for each
 *               that was sent
 *   bus_plain   what a program would write itself: a message of malloc, a queue with a mutex and a condition variable,
 *               handlers in a table of strings by their first segment. `ratio` is ours, one by one, to it, in turns
 *   latency     from before the message is made until its handler runs, in ns, at half the rate that was reached
 */
#include "random.hh"

#include <ashlar/layers.h>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <sched.h>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace
{

using steady = std::chrono::steady_clock;

constexpr unsigned batch_most = 64;
constexpr unsigned round_messages = 256 * 1024;
constexpr size_t body_len = 64;

void need(bool good)
{
    if (!good)
        std::abort();
}

int64_t now_ns()
{
    return std::chrono::duration_cast<std::chrono::nanoseconds>(steady::now().time_since_epoch()).count();
}

const char *const subsystems[] = {"orders", "stock", "users", "billing"};
const char *const patterns[] = {"items", "items/{id}", "items/{id}/lines", "items/{id}/lines/{line}",
                                "search", "status", "health", "config/{*path}"};

/* 256 targets that fit the patterns in turn; of the first `count` subsystems, `row` of one after the other. */
std::vector<std::string> make_targets(unsigned count, unsigned row)
{
    std::vector<std::string> targets;
    random_numbers g(7);
    for (unsigned i = 0; i < 256; i++) {
        std::string target = std::string(subsystems[i / row % count]) + "://";
        for (const char *p = patterns[g.below(8)]; *p != '\0'; p++)
            if (*p == '{') {
                target += std::to_string(1000 + g.below(9000));
                p = std::strchr(p, '}');
            } else
                target += *p;
        targets.push_back(target);
    }
    return targets;
}

uint64_t handled;

void count_message(ash_msg *m, const ash_match *match, void *)
{
    size_t len;
    benchmark::DoNotOptimize(ash_msg_body(m, &len));
    benchmark::DoNotOptimize(match->n);
    handled++;
}

struct service {
    ash_msgpool *pool;
    ash_bus *bus;

    explicit service(void (*fn)(ash_msg *, const ash_match *, void *), void *user = nullptr)
    {
        ash_bus_config config{};
        config.struct_size = sizeof config;
        config.workers = 1;
        config.capacity = 4096;
        pool = ash_msgpool_create(nullptr, nullptr);
        bus = ash_bus_create(&config);
        for (const char *subsystem : subsystems)
            for (const char *pattern : patterns)
                need(ash_bus_on(bus, (std::string(subsystem) + "://" + pattern).c_str(), fn, user) == 0);
    }

    ~service()
    {
        need(ash_bus_destroy(bus) == 0);
        need(ash_msgpool_destroy(pool) == 0);
    }

    struct ash_bus_stats stats() const
    {
        struct ash_bus_stats s;
        need(ash_bus_stats(bus, &s) == 0);
        return s;
    }
};

enum how { SINGLE, BATCH, GROUPED };

/* Makes and sends messages until they have been handled: millions a second. */
double send_round(service &s, how h, const std::vector<std::string> &targets)
{
    char body[body_len] = "";
    ash_msg *m[batch_most];
    unsigned at = 0, size = h == SINGLE ? 1 : batch_most;
    int64_t begin = now_ns();
    for (unsigned sent = 0; sent < round_messages; sent += size) {
        for (unsigned i = 0; i < size; i++) {
            const std::string &target = targets[at++ % targets.size()];
            m[i] = ash_msg_new(s.pool, target.data(), target.size(), body, sizeof body);
        }
        if (h == SINGLE) {
            while (ash_bus_send(s.bus, m[0]) != 0)
                sched_yield();
            continue;
        }
        for (unsigned done = 0; done < size;) {
            auto send = h == BATCH ? ash_bus_send_batch : ash_bus_send_grouped;
            unsigned k = send(s.bus, m + done, size - done);
            done += k;
            if (k == 0)
                sched_yield();
        }
    }
    need(ash_bus_drain(s.bus, -1) == 0);
    return round_messages * 1e3 / static_cast<double>(now_ns() - begin);
}

void send(benchmark::State &state, how h, unsigned count, unsigned row)
{
    auto targets = make_targets(count, row);
    service s(count_message);
    double most = 0;
    send_round(s, h, targets);
    for (auto _ : state)
        most = std::max(most, send_round(s, h, targets));
    struct ash_bus_stats stats = s.stats();
    need(stats.delivered == stats.sent);
    state.SetItemsProcessed(state.iterations() * round_messages);
    state.counters["mps"] = most;
    state.counters["refused"] = static_cast<double>(stats.refused) / static_cast<double>(stats.sent);
    state.counters["parked"] = static_cast<double>(stats.parked);
}
BENCHMARK_CAPTURE(send, single, SINGLE, 1u, 1u)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(send, batch, BATCH, 1u, 1u)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(send, batch_rows_of_4, BATCH, 4u, 16u)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(send, batch_mixed_4, BATCH, 4u, 1u)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(send, grouped_mixed_4, GROUPED, 4u, 1u)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(send, single_4, SINGLE, 4u, 1u)->UseRealTime()->Unit(benchmark::kMillisecond);

/* ---- what a program would write itself ---- */

class plain_bus
{
  public:
    struct message {
        std::string target;
        std::vector<char> body;
    };

    plain_bus()
    {
        for (const char *subsystem : subsystems)
            for (const char *pattern : patterns)
                handlers[std::string(subsystem) + "://" + std::string(pattern, std::strcspn(pattern, "/"))] =
                    [](message *m) {
                        benchmark::DoNotOptimize(m->body.data());
                        handled++;
                    };
        worker = std::thread([this] { run(); });
    }

    ~plain_bus()
    {
        send(nullptr);
        worker.join();
    }

    void send(message *m)
    {
        std::unique_lock<std::mutex> hold(lock);
        room.wait(hold, [this] { return queue.size() < 4096; });
        queue.push_back(m);
        some.notify_one();
    }

    void drain()
    {
        std::unique_lock<std::mutex> hold(lock);
        room.wait(hold, [this] { return queue.empty(); });
    }

  private:
    void run()
    {
        for (;;) {
            std::unique_lock<std::mutex> hold(lock);
            some.wait(hold, [this] { return !queue.empty(); });
            message *m = queue.front();
            queue.pop_front();
            room.notify_one();
            hold.unlock();
            if (m == nullptr)
                return;
            size_t slash = m->target.find('/', m->target.find("://") + 3);
            auto h = handlers.find(m->target.substr(0, slash));
            need(h != handlers.end());
            h->second(m);
            delete m;
        }
    }

    std::mutex lock;
    std::condition_variable some, room;
    std::deque<message *> queue;
    std::unordered_map<std::string, std::function<void(message *)>> handlers;
    std::thread worker;
};

double plain_round(plain_bus &bus, const std::vector<std::string> &targets)
{
    int64_t begin = now_ns();
    for (unsigned sent = 0; sent < round_messages; sent++)
        bus.send(new plain_bus::message{targets[sent % targets.size()], std::vector<char>(body_len)});
    bus.drain();
    return round_messages * 1e3 / static_cast<double>(now_ns() - begin);
}

void bus_plain(benchmark::State &state)
{
    auto targets = make_targets(1, 1);
    double ours = 0, theirs = 0;
    service s(count_message);
    plain_bus plain;
    for (auto _ : state) {
        theirs = std::max(theirs, plain_round(plain, targets));
        ours = std::max(ours, send_round(s, SINGLE, targets));
    }
    state.counters["mps"] = theirs;
    state.counters["ratio"] = ours / theirs;
}
BENCHMARK(bus_plain)->UseRealTime()->Unit(benchmark::kMillisecond);

/* ---- latency ---- */

struct latencies {
    std::vector<uint32_t> ns;
};

void note_latency(ash_msg *m, const ash_match *, void *user)
{
    size_t len;
    int64_t begin;
    std::memcpy(&begin, ash_msg_body(m, &len), sizeof begin);
    static_cast<latencies *>(user)->ns.push_back(static_cast<uint32_t>(std::min<int64_t>(now_ns() - begin, UINT32_MAX)));
}

/* Groups of `size` messages at equal distances, as many a second as half the rate that is sustained. */
void latency(benchmark::State &state, how h)
{
    auto targets = make_targets(1, 1);
    unsigned size = h == SINGLE ? 1 : batch_most, at = 0;
    latencies all;
    service s(note_latency, &all);
    all.ns.reserve(round_messages * 4);
    double rate = send_round(s, h, targets);
    all.ns.clear();
    double gap = 2e3 * size / rate;
    ash_msg *m[batch_most];
    char body[body_len] = "";
    for (auto _ : state) {
        auto due = static_cast<double>(now_ns());
        for (unsigned sent = 0; sent < round_messages; sent += size, due += gap) {
            int64_t begin;
            while (static_cast<double>(begin = now_ns()) < due)
                ;
            std::memcpy(body, &begin, sizeof begin);
            for (unsigned i = 0; i < size; i++) {
                const std::string &target = targets[at++ % targets.size()];
                m[i] = ash_msg_new(s.pool, target.data(), target.size(), body, sizeof body);
            }
            for (unsigned done = 0; done < size;)
                done += ash_bus_send_batch(s.bus, m + done, size - done);
        }
        need(ash_bus_drain(s.bus, -1) == 0);
    }
    std::sort(all.ns.begin(), all.ns.end());
    auto at_part = [&all](double part) {
        return static_cast<double>(all.ns[static_cast<size_t>(part * static_cast<double>(all.ns.size() - 1))]);
    };
    state.counters["mps"] = rate / 2;
    state.counters["p50"] = at_part(0.5);
    state.counters["p90"] = at_part(0.9);
    state.counters["p99"] = at_part(0.99);
    state.counters["p999"] = at_part(0.999);
    state.counters["max"] = at_part(1);
}
BENCHMARK_CAPTURE(latency, single, SINGLE)->UseRealTime()->Iterations(4)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(latency, batch, BATCH)->UseRealTime()->Iterations(4)->Unit(benchmark::kMillisecond);

} // namespace

BENCHMARK_MAIN();
