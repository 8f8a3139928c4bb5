/*
 * bench_shards: keys to shards, two-phase commit over logs (ashlar/shard.h, ashlar/wal.h).
 *
 *   shard_of     a key's shard, of so many; and by jump consistent hashing (Lamping, Veach 2014)
 *   transfers    a store of accounts in shards: a queue (ash_ring), an arena, a two-phase-commit
 *                site and a log for each. Arguments: shards, threads, transfers over two shards in
 *                100, and whether one in a single shard is made directly or by the site as well.
 *                The balances are checked at the end of each. Real time; of `cost` it is CPU time
 *
 * Logs are in memory (/dev/shm).
 */
#include <ashlar/arena.h>
#include <ashlar/malloc.h>
#include <ashlar/ring.h>
#include <ashlar/shard.h>
#include <ashlar/wal.h>

#include "random.hh"
#include "scratch.hh"

#include <benchmark/benchmark.h>

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace
{

/* ---- keys ---- */

uint32_t jump(uint64_t key, uint32_t shards)
{
    int64_t b = -1, j = 0;
    while (j < shards) {
        b = j;
        key = key * 2862933555777941757u + 1;
        j = static_cast<int64_t>(static_cast<double>(b + 1) *
                                 (static_cast<double>(1ll << 31) / static_cast<double>((key >> 33) + 1)));
    }
    return static_cast<uint32_t>(b);
}

template <uint32_t shard_of(uint64_t, uint32_t)> void keys(benchmark::State &state)
{
    auto shards = static_cast<uint32_t>(state.range(0));
    uint64_t key = 0;
    uint32_t sum = 0;
    for (auto _ : state)
        sum += shard_of(key++, shards);
    benchmark::DoNotOptimize(sum);
}
BENCHMARK(keys<ash_shard_of>)->Name("shard_of/ashlar")->Arg(4)->Arg(5)->Arg(16)->Arg(17)->Arg(100)->Arg(1000)->Arg(1024);
BENCHMARK(keys<jump>)->Name("shard_of/jump")->Arg(4)->Arg(5)->Arg(16)->Arg(17)->Arg(100)->Arg(1000)->Arg(1024);

/* ---- a store ---- */

constexpr unsigned accounts = 16384, window = 128, block_bytes = 8192;
constexpr size_t holds = 1024;
constexpr int64_t at_first = 1000;

struct part {
    uint32_t account;
    int64_t change;
};

/* What one shard sends to another: a block of messages, each with the data of its part. */
struct letter {
    uint32_t len;
    part data;
    ash_2pc_msg msg; /* as much of it as it has */
};

struct block {
    uint32_t used;
    alignas(8) char bytes[block_bytes];
};

/* What a client asks for: transfers within a shard, or to another. */
struct request {
    uint32_t from, to, other;
    int64_t amount;
};

class shard
{
  public:
    shard(uint32_t number, uint32_t of, const std::string &dir, bool by_site)
        : number(number), of(of), by_site(by_site), random(number), out(of), account(accounts)
    {
        inbox = ash_ring_create(1024, ASH_MPSC);
        arena = ash_arena_create(nullptr, "shard", nullptr);
        ash_2pc_config config{};
        config.struct_size = sizeof config;
        config.shard = number;
        config.shards = of;
        config.retry_ns = 10'000'000'000; /* nothing is lost here */
        site = ash_2pc_create("shard", &config);
        need(inbox != nullptr && arena != nullptr && site != nullptr && ash_2pc_start(site, 0) == 0);
        if (!dir.empty())
            need(ash_wal_open((dir + "/" + std::to_string(number)).c_str(), nullptr, &wal) == 0);
        for (auto &a : account)
            a.balance = at_first;
        held.resize(holds);
    }

    ~shard()
    {
        void *last; /* of what was decided without it */
        while (ash_ring_pop(inbox, &last, 1) > 0)
            ash_free(last);
        need(ash_wal_close(wal) == 0);
        ash_2pc_destroy(site);
        ash_arena_destroy(arena);
        need(ash_ring_destroy(inbox) == 0);
    }

    void meet(std::vector<std::unique_ptr<shard>> *all_shards) { all = all_shards; }

    /*
     * A turn: what came in, then new transfers, then one sync for all, then what follows from it.
     * False: there was nothing to do.
     */
    bool turn(unsigned cross, uint64_t want)
    {
        void *blocks[8];
        unsigned n = ash_ring_pop(inbox, blocks, 8);
        uint64_t before = begun;
        for (unsigned i = 0; i < n; i++)
            receive(static_cast<block *>(blocks[i]));
        while (begun < want && open < window)
            begin(cross);
        act();
        flush();
        ash_arena_reset(arena);
        return n > 0 || begun > before;
    }

    /* Until there is mail, for a moment. */
    void wait() { ash_ring_wait(inbox, 1'000'000); }

    int64_t sum() const
    {
        int64_t s = 0;
        for (auto &a : account)
            s += a.balance;
        return s;
    }

    bool quiet(uint64_t want) const
    {
        struct ash_2pc_stats s;
        need(ash_2pc_stats(site, &s) == 0);
        return begun == want && s.open + s.voting + s.in_doubt + s.actions == 0;
    }

    std::atomic<uint64_t> done{0};
    uint64_t aborted = 0, crossed = 0;

  private:
    struct account_line {
        int64_t balance = 0;
        uint64_t lock = 0;
    };

    struct held_part {
        uint64_t id = 0;
        part data[2]; /* both, of a transfer within the shard */
        unsigned parts = 0;
    };

    /* Spread, so that runs of taken places are short. */
    static size_t home_of(uint64_t id) { return static_cast<size_t>((id ^ id >> 16) * 0x9e3779b97f4a7c15u >> 54); }

    held_part &held_of(uint64_t id)
    {
        size_t at = home_of(id);
        while (held[at % holds].id != 0 && held[at % holds].id != id)
            at++;
        return held[at % holds];
    }

    void held_drop(held_part &h)
    {
        size_t hole = static_cast<size_t>(&h - held.data());
        for (size_t at = (hole + 1) % holds; held[at].id != 0; at = (at + 1) % holds)
            if ((at - home_of(held[at].id)) % holds >= (at - hole) % holds) {
                held[hole] = held[at];
                hole = at;
            }
        held[hole].id = 0;
    }

    void log(const void *head, size_t head_len, const void *data, size_t len)
    {
        iovec pieces[] = {{const_cast<void *>(head), head_len}, {const_cast<void *>(data), len}};
        if (wal != nullptr)
            need(ash_wal_append(wal, pieces, 2, nullptr) == 0);
    }

    /* A transfer in this shard alone: checked, written, made. The sync comes at the turn's end. */
    bool transfer_here(const request &r)
    {
        account_line &from = account[r.from], &to = account[r.to];
        if (from.lock != 0 || to.lock != 0 || from.balance < r.amount)
            return false;
        log(&r, sizeof r, nullptr, 0);
        from.balance -= r.amount;
        to.balance += r.amount;
        force = true;
        direct++;
        return true;
    }

    void begin(unsigned cross)
    {
        request r{};
        r.from = static_cast<uint32_t>(random.below(accounts));
        do
            r.to = static_cast<uint32_t>(random.below(accounts));
        while (r.to == r.from);
        r.amount = static_cast<int64_t>(random.below(10));
        r.other = number;
        if (of > 1 && random.below(100) < cross)
            r.other = static_cast<uint32_t>((number + 1 + random.below(of - 1)) % of);
        begun++;
        if (r.other == number && !by_site) {
            if (!transfer_here(r))
                aborted++, done.store(done.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
            return;
        }
        uint32_t shards[] = {number, r.other};
        uint64_t id;
        need(ash_2pc_prepare(site, shards, r.other == number ? 1 : 2, 0, &id) == 0);
        held_part &h = held_of(id);
        h.id = id;
        h.parts = r.other == number ? 2 : 1;
        h.data[0] = {r.from, -r.amount};
        h.data[1] = {r.to, r.amount};
        if (r.other != number) {
            crossed++;
            pending[(id >> 16) % 4096] = h.data[1]; /* for its message */
        }
        open++;
    }

    void vote(uint64_t id)
    {
        held_part &h = held_of(id);
        bool can = true;
        for (unsigned i = 0; i < h.parts; i++)
            can &= account[h.data[i].account].lock == 0 &&
                   account[h.data[i].account].balance + h.data[i].change >= 0;
        int status = ash_2pc_vote(site, id, can, 0);
        if (status == -ECANCELED)
            return; /* as it will be told */
        need(status == 0);
        for (unsigned i = 0; i < h.parts && can; i++)
            account[h.data[i].account].lock = id;
        if (!can)
            held_drop(h);
    }

    void finish(uint64_t id, bool commit)
    {
        held_part &h = held_of(id);
        for (unsigned i = 0; i < h.parts; i++) {
            account_line &a = account[h.data[i].account];
            a.balance += commit ? h.data[i].change : 0;
            a.lock = a.lock == id ? 0 : a.lock;
        }
        held_drop(h);
    }

    /* Records first, then one sync, then all that waited for it, in order. */
    struct waiting {
        waiting *next;
        ash_2pc_action action;
        ash_2pc_msg msg;
    };

    void act()
    {
        for (bool more = true; more || force;) {
            waiting *first = nullptr, **last = &first;
            ash_2pc_action a;
            more = false;
            while (ash_2pc_next(site, &a) > 0) {
                more = true;
                if (a.kind == ASH_2PC_VOTE) {
                    vote(a.id);
                } else if (a.kind == ASH_2PC_LOG || a.kind == ASH_2PC_FORCE) {
                    held_part *h = a.with_data ? &held_of(a.id) : nullptr;
                    log(a.record, a.record_len, h != nullptr ? h->data : nullptr,
                        h != nullptr ? h->parts * sizeof(part) : 0);
                    force |= a.kind == ASH_2PC_FORCE;
                } else {
                    size_t n = offsetof(waiting, msg) + a.msg_len;
                    auto *w = static_cast<waiting *>(ash_arena_alloc(arena, n));
                    w->next = nullptr;
                    w->action = a;
                    if (a.kind == ASH_2PC_SEND)
                        std::memcpy(static_cast<void *>(&w->msg), a.msg, a.msg_len);
                    *last = w;
                    last = &w->next;
                }
            }
            if (force && wal != nullptr)
                need(ash_wal_sync(wal, UINT64_MAX) == 0);
            force = false;
            done.store(done.load(std::memory_order_relaxed) + direct, std::memory_order_relaxed);
            direct = 0;
            for (waiting *w = first; w != nullptr; w = w->next)
                carry_out(w);
        }
    }

    void carry_out(const waiting *w)
    {
        const ash_2pc_action &a = w->action;
        if (a.kind == ASH_2PC_SEND)
            send(w->msg, a.msg_len);
        else if (a.roles == ASH_2PC_PARTICIPANT)
            finish(a.id, a.kind == ASH_2PC_COMMITTED);
        else if (a.kind != ASH_2PC_ENDED) {
            aborted += a.kind == ASH_2PC_ABORTED;
            done.store(done.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
            open--;
        }
    }

    void send(const ash_2pc_msg &msg, size_t len)
    {
        size_t n = (offsetof(letter, msg) + len + 7) & ~size_t{7};
        block *&b = out[msg.to];
        if (b != nullptr && b->used + n > block_bytes)
            push(msg.to);
        if (b == nullptr) {
            b = static_cast<block *>(ash_malloc(sizeof *b));
            need(b != nullptr);
            b->used = 0;
        }
        auto *l = reinterpret_cast<letter *>(b->bytes + b->used);
        l->len = static_cast<uint32_t>(len);
        if (msg.word == ASH_2PC_PREPARE)
            l->data = pending[(msg.id >> 16) % 4096];
        std::memcpy(static_cast<void *>(&l->msg), &msg, len);
        b->used += static_cast<uint32_t>(n);
    }

    void push(uint32_t to)
    {
        void *item = out[to];
        while (ash_ring_push((*all)[to]->inbox, &item, 1) == 0)
            std::this_thread::yield();
        out[to] = nullptr;
    }

    void flush()
    {
        for (uint32_t to = 0; to < of; to++)
            if (out[to] != nullptr)
                push(to);
    }

    void receive(block *b)
    {
        for (uint32_t at = 0; at < b->used;) {
            auto *l = reinterpret_cast<letter *>(b->bytes + at);
            if (l->msg.word == ASH_2PC_PREPARE) {
                held_part &h = held_of(l->msg.id);
                h.id = l->msg.id;
                h.parts = 1;
                h.data[0] = l->data;
            }
            need(ash_2pc_receive(site, &l->msg, l->len, 0) == 0);
            at += static_cast<uint32_t>((offsetof(letter, msg) + l->len + 7) & ~size_t{7});
        }
        ash_free(b);
    }

    uint32_t number, of;
    bool by_site, force = false;
    random_numbers random;
    ash_ring *inbox;
    ash_arena *arena;
    ash_2pc *site;
    ash_wal *wal = nullptr;
    std::vector<block *> out;
    std::vector<account_line> account;
    std::vector<held_part> held;
    part pending[4096];
    uint64_t begun = 0, open = 0, direct = 0;
    std::vector<std::unique_ptr<shard>> *all = nullptr;
};

/* Threads with shards each, until all transfers are made and acknowledged. */
void run(std::vector<std::unique_ptr<shard>> &shards, unsigned threads, unsigned cross, uint64_t want)
{
    std::vector<std::thread> thread;
    std::atomic<unsigned> busy{threads};
    for (unsigned t = 0; t < threads; t++)
        thread.emplace_back([&, t] {
            bool told = false;
            while (busy.load() > 0) {
                bool worked = false, quiet = true;
                for (size_t i = t; i < shards.size(); i += threads) {
                    worked |= shards[i]->turn(cross, want);
                    quiet &= shards[i]->quiet(want);
                }
                if (quiet != told) { /* a message may make one busy again */
                    told = quiet;
                    told ? busy.fetch_sub(1) : busy.fetch_add(1);
                }
                if (!worked && threads > 1)
                    shards[t]->wait();
            }
        });
    for (auto &t : thread)
        t.join();
}

void transfers(benchmark::State &state, bool logged)
{
    auto number = static_cast<uint32_t>(state.range(0));
    auto threads = static_cast<unsigned>(state.range(1)), cross = static_cast<unsigned>(state.range(2));
    std::string dir = logged ? log_dir(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp") : "";
    uint64_t want = 0, made = 0, aborted = 0, crossed = 0;
    constexpr uint64_t each = 20000;
    {
        std::vector<std::unique_ptr<shard>> shards;
        for (uint32_t i = 0; i < number; i++)
            shards.push_back(std::make_unique<shard>(i, number, dir, state.range(3) != 0));
        for (auto &s : shards)
            s->meet(&shards);
        for (auto _ : state)
            run(shards, threads, cross, want += each);
        int64_t sum = 0;
        for (auto &s : shards) {
            sum += s->sum();
            made += s->done.load();
            aborted += s->aborted;
            crossed += s->crossed;
        }
        need(sum == static_cast<int64_t>(number) * accounts * at_first); /* not one is lost */
        need(made == want * number);
    }
    if (logged)
        std::filesystem::remove_all(dir);
    state.SetItemsProcessed(static_cast<int64_t>(made));
    state.counters["aborted%"] = 100.0 * static_cast<double>(aborted) / static_cast<double>(made);
    state.counters["cross%"] = 100.0 * static_cast<double>(crossed) / static_cast<double>(made);
}

void transfers_in_memory(benchmark::State &state)
{
    transfers(state, false);
}

void transfers_logged(benchmark::State &state)
{
    transfers(state, true);
}

/* What one costs: CPU time. */
void costs(benchmark::internal::Benchmark *b)
{
    b->ArgNames({"shards", "threads", "cross", "by_site"})->MeasureProcessCPUTime();
    b->Args({2, 1, 0, 0})->Args({2, 1, 0, 1})->Args({2, 1, 100, 0});
}
BENCHMARK(transfers_in_memory)->Name("cost_in_memory")->Apply(costs);
BENCHMARK(transfers_logged)->Name("cost_logged")->Apply(costs);

/* How many are made: real time. */
void mixes(benchmark::internal::Benchmark *b)
{
    b->ArgNames({"shards", "threads", "cross", "by_site"})->UseRealTime();
    for (int shards : {1, 2, 4})
        for (int cross : {0, 10, 50})
            if (shards > 1 || cross == 0)
                b->Args({shards, shards, cross, 0});
}
BENCHMARK(transfers_in_memory)->Apply(mixes);
BENCHMARK(transfers_logged)->Apply(mixes);

} // namespace

BENCHMARK_MAIN();
