/*
 * bench_containers: what C++ programs do with strings, containers and shared objects, as
 * google-benchmark programs, with one thread and with four.
 *
 * It measures whatever malloc the process has: preload an allocator to see it. Each iteration
 * builds something from a fixed seed, uses it and drops it; with four threads each has its own. An
 * item is an element of the container. Most texts are longer than std::string keeps inside itself.
 *
 *   LD_PRELOAD=.../libashlar.so bench_containers --benchmark_filter=map
 */
#include "random.hh"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

random_numbers numbers_of(const benchmark::State &state)
{
    return random_numbers(static_cast<uint64_t>(state.thread_index()));
}

void count_elements(benchmark::State &state, size_t each)
{
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * each));
}

void one_and_four_threads(benchmark::internal::Benchmark *b)
{
    b->Threads(1)->Threads(4)->UseRealTime();
}

/* Between `min` and `max` letters. */
std::string text_of(random_numbers &g, size_t min, size_t max)
{
    std::string text(min + g.below(max - min + 1), 'a');
    for (auto &c : text)
        c = static_cast<char>('a' + g.below(26));
    return text;
}

/* ---- strings ---- */

/* A vector that grows as texts of 8 to 48 letters are put in, and is then sorted. */
void strings_sort(benchmark::State &state)
{
    constexpr size_t count = 2000;
    random_numbers g = numbers_of(state);
    const std::string letters = text_of(g, 4096, 4096);
    for (auto _ : state) {
        std::vector<std::string> texts;
        for (size_t i = 0; i < count; i++)
            texts.push_back(letters.substr(g.below(4000), 8 + g.below(41)));
        std::sort(texts.begin(), texts.end());
        benchmark::DoNotOptimize(texts.data());
    }
    count_elements(state, count);
}
BENCHMARK(strings_sort)->Apply(one_and_four_threads);

/* Lines made of parts by operator+, and a page made of lines by +=. */
void strings_concatenate(benchmark::State &state)
{
    constexpr size_t lines = 500;
    random_numbers g = numbers_of(state);
    std::array<std::string, 64> parts;
    for (auto &part : parts)
        part = text_of(g, 10, 30);
    for (auto _ : state) {
        std::string page;
        for (size_t i = 0; i < lines; i++) {
            page += parts[g.below(parts.size())] + "=\"" + parts[g.below(parts.size())] + "\"; " +
                    std::to_string(i) + '\n';
        }
        benchmark::DoNotOptimize(page.data());
    }
    count_elements(state, lines);
}
BENCHMARK(strings_concatenate)->Apply(one_and_four_threads);

/* ---- maps ---- */

/* Half of the keys are inserted, all are looked up, every second one found is erased; twice. */
template <class Map, class Keys>
void map_work(benchmark::State &state, const Keys &keys)
{
    random_numbers g = numbers_of(state);
    for (auto _ : state) {
        Map map;
        size_t found = 0;
        for (size_t turn = 0; turn < 2; turn++) {
            for (size_t i = 0; i < keys.size() / 2; i++)
                map.emplace(keys[g.below(keys.size())], i);
            for (const auto &key : keys) {
                auto at = map.find(key);
                if (at != map.end() && ++found % 2 == 0)
                    map.erase(at);
            }
        }
        benchmark::DoNotOptimize(found);
    }
    count_elements(state, 2 * keys.size());
}

constexpr size_t map_keys = 4000;

template <class Map> void map_numbers(benchmark::State &state)
{
    random_numbers g(100);
    std::vector<uint64_t> keys(map_keys);
    for (auto &key : keys)
        key = g.next();
    map_work<Map>(state, keys);
}
BENCHMARK_TEMPLATE(map_numbers, std::map<uint64_t, size_t>)
    ->Name("map_numbers")->Apply(one_and_four_threads);
BENCHMARK_TEMPLATE(map_numbers, std::unordered_map<uint64_t, size_t>)
    ->Name("unordered_map_numbers")->Apply(one_and_four_threads);

/* Keys of 8 to 40 letters. */
template <class Map> void map_texts(benchmark::State &state)
{
    random_numbers g(100);
    std::vector<std::string> keys;
    for (size_t i = 0; i < map_keys; i++)
        keys.push_back(text_of(g, 8, 40));
    map_work<Map>(state, keys);
}
BENCHMARK_TEMPLATE(map_texts, std::map<std::string, size_t>)
    ->Name("map_texts")->Apply(one_and_four_threads);
BENCHMARK_TEMPLATE(map_texts, std::unordered_map<std::string, size_t>)
    ->Name("unordered_map_texts")->Apply(one_and_four_threads);

/* ---- sequences ---- */

/* A list that is filled, thinned out, filled again at random ends, and sorted. */
void list_work(benchmark::State &state)
{
    constexpr size_t count = 2000;
    random_numbers g = numbers_of(state);
    for (auto _ : state) {
        std::list<uint64_t> list;
        for (size_t i = 0; i < count; i++)
            list.push_back(g.next());
        list.remove_if([](uint64_t n) { return n % 3 == 0; });
        while (list.size() < count) {
            if (g.below(2) == 0)
                list.push_front(g.next());
            else
                list.push_back(g.next());
        }
        list.sort();
        benchmark::DoNotOptimize(list.front());
    }
    count_elements(state, count);
}
BENCHMARK(list_work)->Apply(one_and_four_threads);

/* A queue of texts of 20 to 60 letters: bursts go in at the back, smaller ones out in front. */
void deque_work(benchmark::State &state)
{
    constexpr size_t bursts = 200, burst_size = 10;
    random_numbers g = numbers_of(state);
    const std::string model = text_of(g, 60, 60);
    for (auto _ : state) {
        std::deque<std::string> queue;
        size_t letters = 0;
        for (size_t i = 0; i < bursts; i++) {
            for (size_t k = 0; k < burst_size; k++)
                queue.emplace_back(model, 0, 20 + g.below(41));
            for (size_t k = g.below(2 * burst_size); k > 0 && !queue.empty(); k--) {
                letters += queue.front().size();
                queue.pop_front();
            }
        }
        benchmark::DoNotOptimize(letters);
    }
    count_elements(state, bursts * burst_size);
}
BENCHMARK(deque_work)->Apply(one_and_four_threads);

/* Rows that are appended to in turn, so that their buffers grow side by side. */
void vectors_grow(benchmark::State &state)
{
    constexpr size_t rows = 64, cells = 4096;
    random_numbers g = numbers_of(state);
    for (auto _ : state) {
        std::vector<std::vector<uint32_t>> table(rows);
        for (size_t i = 0; i < cells; i++)
            table[g.below(rows)].push_back(static_cast<uint32_t>(i));
        benchmark::DoNotOptimize(table.data());
    }
    count_elements(state, cells);
}
BENCHMARK(vectors_grow)->Apply(one_and_four_threads);

/* ---- objects ---- */

struct tree_node {
    std::shared_ptr<tree_node> left, right;
    std::weak_ptr<tree_node> parent;
    uint64_t key;
};

/* A search tree of random keys: counted references, and back links that do not count. */
void shared_tree(benchmark::State &state)
{
    constexpr size_t count = 2000;
    random_numbers g = numbers_of(state);
    for (auto _ : state) {
        auto root = std::make_shared<tree_node>();
        root->key = uint64_t{1} << 63;
        for (size_t i = 1; i < count; i++) {
            auto node = std::make_shared<tree_node>();
            node->key = g.next();
            tree_node *at = root.get();
            std::shared_ptr<tree_node> *place = &(node->key < at->key ? at->left : at->right);
            std::shared_ptr<tree_node> parent = root;
            while (*place) {
                parent = *place;
                at = parent.get();
                place = &(node->key < at->key ? at->left : at->right);
            }
            node->parent = parent;
            *place = std::move(node);
        }
        benchmark::DoNotOptimize(root.get());
    }
    count_elements(state, count);
}
BENCHMARK(shared_tree)->Apply(one_and_four_threads);

struct shape {
    virtual ~shape() = default;
    virtual uint64_t area() const = 0;
};

struct square : shape {
    explicit square(uint64_t n) : side(n) {}
    uint64_t area() const override { return side * side; }
    uint64_t side;
};

struct rectangle : shape {
    explicit rectangle(uint64_t n) : width(n), height(n / 2) {}
    uint64_t area() const override { return width * height; }
    uint64_t width, height;
};

struct polygon : shape {
    explicit polygon(uint64_t n) : corners(3 + n % 13, n) {}
    uint64_t area() const override { return corners.size() * corners.front(); }
    std::vector<uint64_t> corners;
};

std::unique_ptr<shape> shape_make(uint64_t kind, uint64_t n)
{
    if (kind == 0)
        return std::make_unique<square>(n);
    if (kind == 1)
        return std::make_unique<rectangle>(n);
    return std::make_unique<polygon>(n);
}

/* Objects of three classes: made, called, replaced at random places, dropped. */
void polymorphic_objects(benchmark::State &state)
{
    constexpr size_t places = 512, turns = 2048;
    random_numbers g = numbers_of(state);
    for (auto _ : state) {
        std::vector<std::unique_ptr<shape>> shapes(places);
        uint64_t sum = 0;
        for (size_t i = 0; i < turns; i++) {
            auto &place = shapes[g.below(places)];
            place = shape_make(g.below(3), 1 + i);
            sum += place->area();
        }
        benchmark::DoNotOptimize(sum);
    }
    count_elements(state, turns);
}
BENCHMARK(polymorphic_objects)->Apply(one_and_four_threads);

/* Closures too large to be kept inside std::function, in a queue of tasks that post new ones. */
void function_tasks(benchmark::State &state)
{
    constexpr size_t first = 64, turns = 2048;
    random_numbers g = numbers_of(state);
    for (auto _ : state) {
        std::deque<std::function<uint64_t()>> tasks;
        uint64_t sum = 0;
        auto post = [&tasks, &g] {
            std::array<uint64_t, 4> captured = {g.next(), g.next(), 3, 4};
            tasks.emplace_back([captured] { return captured[0] ^ captured[1]; });
        };
        for (size_t i = 0; i < first; i++)
            post();
        for (size_t i = 0; i < turns; i++) {
            sum += tasks.front()();
            tasks.pop_front();
            post();
        }
        benchmark::DoNotOptimize(sum);
    }
    count_elements(state, first + turns);
}
BENCHMARK(function_tasks)->Apply(one_and_four_threads);

} // namespace

int main(int argc, char **argv)
{
    const char *preloaded = std::getenv("LD_PRELOAD");
    benchmark::AddCustomContext("preloaded", preloaded == nullptr ? "nothing" : preloaded);
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 2;
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
