/*
 * bench_msg: the message layer (ashlar/msg.h), each part beside what a program would write itself.
 *
 *   create      a message made and freed: pooled, and of three blocks of malloc (Ashlar's, since the
 *               program is linked to it, and libc's); bodies of 64 bytes and 1 KiB
 *   accessors   the parts of the target, metadata, identity
 *   route       the 130 patterns of tests/api/github.h, in turn and shuffled; those of text alone
 *   founding    the same by a tree of segments for text and a list of regular expressions for the
 *               rest: what the layer was first meant to be. `ratio` is ours to that, same paths
 *   batch       submitting calls, the making of batches of 64 included
 */
#include "api/github.h"
#include "random.hh"

#include <ashlar/layers.h>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <memory>
#include <regex.h>
#include <string>
#include <vector>

namespace
{

void need(bool good)
{
    if (!good)
        std::abort();
}

const char target[] = "orders://items/4711?full=1";
constexpr size_t target_len = sizeof target - 1;

/* ---- creation ---- */

void create_pooled(benchmark::State &state)
{
    size_t body = static_cast<size_t>(state.range(0));
    bool copied = state.range(1) != 0;
    std::vector<char> bytes(body, 'x');
    ash_msgpool_config config{};
    config.struct_size = sizeof config;
    config.room = body + 32;
    ash_msgpool *pool = ash_msgpool_create("bench", &config);
    need(pool != nullptr);
    for (auto _ : state) {
        ash_msg *m = ash_msg_new(pool, target, target_len, copied ? bytes.data() : nullptr, body);
        benchmark::DoNotOptimize(m);
        ash_msg_free(m);
    }
    struct ash_msgpool_stats stats;
    ash_msgpool_stats(pool, &stats);
    state.counters["bytes"] = static_cast<double>(stats.bytes);
    state.counters["reuse"] = stats.reuse_rate;
    need(ash_msgpool_destroy(pool) == 0);
}
BENCHMARK(create_pooled)
    ->ArgNames({"body", "copied"})
    ->Args({64, 0})
    ->Args({64, 1})
    ->Args({1024, 0})
    ->Args({1024, 1});

struct plain_message {
    char *target;
    char *body;
    size_t target_len, body_len;
    uint64_t id;
};

using malloc_function = void *(size_t);
using free_function = void(void *);

void create_by(benchmark::State &state, malloc_function *allocate, free_function *release)
{
    size_t body = static_cast<size_t>(state.range(0));
    std::vector<char> bytes(body, 'x');
    uint64_t id = 0;
    for (auto _ : state) {
        auto *m = static_cast<plain_message *>(allocate(sizeof(plain_message)));
        m->target = static_cast<char *>(allocate(target_len));
        m->body = static_cast<char *>(allocate(body));
        std::memcpy(m->target, target, target_len);
        std::memcpy(m->body, bytes.data(), body);
        m->target_len = target_len;
        m->body_len = body;
        m->id = ++id;
        benchmark::DoNotOptimize(m);
        release(m->body);
        release(m->target);
        release(m);
    }
}

void create_malloc_ashlar(benchmark::State &state)
{
    create_by(state, std::malloc, std::free);
}
BENCHMARK(create_malloc_ashlar)->ArgName("body")->Arg(64)->Arg(1024);

void create_malloc_libc(benchmark::State &state)
{
    void *libc = dlopen("libc.so.6", RTLD_NOW);
    if (libc == nullptr)
        return state.SkipWithError("no libc.so.6");
    create_by(state, reinterpret_cast<malloc_function *>(dlsym(libc, "malloc")),
              reinterpret_cast<free_function *>(dlsym(libc, "free")));
    dlclose(libc);
}
BENCHMARK(create_malloc_libc)->ArgName("body")->Arg(64)->Arg(1024);

/* ---- accessors ---- */

struct one_message {
    ash_msgpool *pool = ash_msgpool_create(nullptr, nullptr);
    ash_msg *m = ash_msg_new(pool, target, target_len, nullptr, 16);
    ~one_message()
    {
        ash_msg_free(m);
        ash_msgpool_destroy(pool);
    }
};

void accessors(benchmark::State &state)
{
    one_message one;
    for (auto _ : state) {
        size_t n[3];
        benchmark::DoNotOptimize(ash_msg_subsystem(one.m, &n[0]));
        benchmark::DoNotOptimize(ash_msg_path(one.m, &n[1]));
        benchmark::DoNotOptimize(ash_msg_query(one.m, &n[2]));
        benchmark::DoNotOptimize(n);
    }
    state.SetItemsProcessed(3 * state.iterations());
}
BENCHMARK(accessors);

void metadata(benchmark::State &state)
{
    one_message one;
    uint64_t i = 0;
    for (auto _ : state) {
        uint64_t value;
        ash_msg_set_meta(one.m, 7, ++i);
        ash_msg_set_meta(one.m, 9, i);
        need(ash_msg_meta(one.m, 9, &value) == 0 && value == i);
    }
    state.SetItemsProcessed(3 * state.iterations());
}
BENCHMARK(metadata);

void metadata_map(benchmark::State &state)
{
    uint64_t i = 0;
    for (auto _ : state) {
        std::map<uint32_t, uint64_t> meta;
        meta[7] = ++i;
        meta[9] = i;
        need(meta.find(9)->second == i);
    }
    state.SetItemsProcessed(3 * state.iterations());
}
BENCHMARK(metadata_map);

/* ---- routes ---- */

enum which { ALL, STATIC, DYNAMIC };

std::vector<std::string> github_paths(which w, bool shuffled)
{
    std::vector<std::string> paths;
    for (const char *pattern : github_patterns) {
        bool dynamic = std::strchr(pattern, '{') != nullptr;
        char path[256];
        if (w == ALL || dynamic == (w == DYNAMIC))
            paths.emplace_back(path, github_path(path, pattern));
    }
    random_numbers g(1);
    for (size_t i = paths.size(); shuffled && i > 1; i--)
        std::swap(paths[i - 1], paths[g.below(i)]);
    return paths;
}

ash_router *github_router()
{
    ash_router *r = ash_router_create();
    for (const char *pattern : github_patterns)
        need(ash_router_add(r, pattern, const_cast<char *>(pattern), nullptr) == 0);
    need(ash_router_compile(r) == 0);
    return r;
}

/* Text in a tree of segments; everything else a regular expression, tried in turn. */
class founding_router
{
  public:
    founding_router()
    {
        for (const char *pattern : github_patterns)
            if (std::strchr(pattern, '{') == nullptr)
                add_text(pattern);
            else
                add_expression(pattern);
    }

    ~founding_router()
    {
        for (auto &e : expressions)
            regfree(&e.compiled);
    }

    const char *match(const std::string &path, regmatch_t *captures) const
    {
        const node *n = &root;
        for (size_t from = 1; n != nullptr && from <= path.size();) {
            size_t to = std::min(path.find('/', from), path.size());
            auto child = n->children.find(path.substr(from, to - from));
            n = child == n->children.end() ? nullptr : child->second.get();
            from = to + 1;
        }
        if (n != nullptr && n->handler != nullptr)
            return n->handler;
        for (auto &e : expressions)
            if (regexec(&e.compiled, path.c_str(), 5, captures, 0) == 0)
                return e.handler;
        return nullptr;
    }

  private:
    struct node {
        std::map<std::string, std::unique_ptr<node>> children;
        const char *handler = nullptr;
    };
    struct expression {
        regex_t compiled;
        const char *handler;
    };

    void add_text(const char *pattern)
    {
        std::string path = pattern;
        node *n = &root;
        for (size_t from = 1; from <= path.size();) {
            size_t to = std::min(path.find('/', from), path.size());
            auto &child = n->children[path.substr(from, to - from)];
            if (!child)
                child = std::make_unique<node>();
            n = child.get();
            from = to + 1;
        }
        n->handler = pattern;
    }

    void add_expression(const char *pattern)
    {
        std::string text = "^";
        for (const char *p = pattern; *p != '\0'; p++)
            if (*p == '{') {
                text += "([^/]+)";
                p = std::strchr(p, '}');
            } else
                text += *p;
        expressions.push_back({{}, pattern});
        need(regcomp(&expressions.back().compiled, (text + "$").c_str(), REG_EXTENDED) == 0);
    }

    node root;
    std::vector<expression> expressions;
};

/* ns a path, the least of a few rounds: for ratios of two ways over the same paths. */
template <class Match> double least_ns(const std::vector<std::string> &paths, Match match)
{
    double least = 1e18;
    for (unsigned round = 0; round < 20; round++) {
        auto begin = std::chrono::steady_clock::now();
        for (auto &path : paths)
            match(path);
        std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
        least = std::min(least, took.count() / static_cast<double>(paths.size()));
    }
    return least;
}

void route(benchmark::State &state, which w, bool shuffled)
{
    auto paths = github_paths(w, shuffled);
    ash_router *r = github_router();
    founding_router founding;
    auto ours = [r](const std::string &path) {
        ash_match m;
        int status = ash_router_match(r, path.data(), path.size(), &m);
        benchmark::DoNotOptimize(status);
        benchmark::DoNotOptimize(m);
    };
    for (auto _ : state)
        for (auto &path : paths)
            ours(path);
    double first = least_ns(paths, ours);
    double theirs = least_ns(paths, [&founding](const std::string &path) {
        regmatch_t captures[5];
        const char *found = founding.match(path, captures);
        benchmark::DoNotOptimize(captures);
        need(found != nullptr);
    });
    double least = std::min(first, least_ns(paths, ours));
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(paths.size()));
    state.counters["ns"] = least;
    state.counters["founding"] = theirs;
    state.counters["ratio"] = least / theirs;
    ash_router_destroy(r);
}
BENCHMARK_CAPTURE(route, all, ALL, false);
BENCHMARK_CAPTURE(route, all_shuffled, ALL, true);
BENCHMARK_CAPTURE(route, static, STATIC, false);
BENCHMARK_CAPTURE(route, dynamic, DYNAMIC, false);

void route_compile(benchmark::State &state)
{
    ash_router *r = github_router();
    for (auto _ : state) {
        need(ash_router_compile(r) == 0);
        ash_router_trim(r);
    }
    struct ash_router_stats stats;
    ash_router_stats(r, &stats);
    state.counters["bytes"] = static_cast<double>(stats.bytes);
    ash_router_destroy(r);
}
BENCHMARK(route_compile);

/* A message made, routed and freed. */
void end_to_end(benchmark::State &state)
{
    auto paths = github_paths(ALL, true);
    ash_router *r = github_router();
    ash_msgpool_config config{};
    config.struct_size = sizeof config;
    config.room = 160;
    ash_msgpool *pool = ash_msgpool_create(nullptr, &config);
    for (auto _ : state)
        for (auto &path : paths) {
            ash_match match;
            size_t len;
            ash_msg *m = ash_msg_new(pool, path.data(), path.size(), nullptr, 64);
            const char *text = ash_msg_route(m, &len);
            need(ash_router_match(r, text, len, &match) == 0);
            benchmark::DoNotOptimize(match);
            ash_msg_free(m);
        }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(paths.size()));
    need(ash_msgpool_destroy(pool) == 0);
    ash_router_destroy(r);
}
BENCHMARK(end_to_end);

/* ---- batches ---- */

uint64_t completed;

void run_calls(ash_batch_call *const *calls, unsigned n, void *)
{
    for (unsigned i = 0; i < n; i++)
        calls[i]->result = calls[i]->arg;
}

void call_done(const ash_batch_call *call)
{
    completed += call->result == call->arg;
}

void batch_submit(benchmark::State &state)
{
    auto functions = static_cast<unsigned>(state.range(0));
    bool keys = state.range(1) != 0;
    ash_batcher_config config{};
    config.struct_size = sizeof config;
    config.done = call_done;
    ash_batcher *b = ash_batcher_create(nullptr, &config);
    for (unsigned i = 0; i < functions; i++)
        need(ash_batcher_add(b, run_calls, nullptr) == static_cast<int>(i));
    uint64_t n = 0, before = completed;
    for (auto _ : state) {
        n++;
        need(ash_batcher_submit(b, static_cast<unsigned>(n % functions), nullptr, keys ? n : 0,
                                nullptr, nullptr) == 0);
    }
    ash_batcher_flush(b);
    need(completed - before == n);
    ash_batcher_destroy(b);
}
BENCHMARK(batch_submit)
    ->ArgNames({"functions", "keys"})
    ->Args({1, 0})
    ->Args({4, 0})
    ->Args({1, 1})
    ->Args({4, 1});

} // namespace

BENCHMARK_MAIN();
