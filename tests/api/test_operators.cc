/*
 * The C++ operators: every form of new and delete by itself; bad_alloc really thrown, new_handler honoured, alignment,
 * wrong sizes reported, and who allocates.
 */
#include "ashlar/ashlar.h"

extern "C" {
#include "again.h"
}

#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <memory>
#include <new>
#include <string>
#include <sys/wait.h>
#include <vector>

using std::align_val_t;
using std::nothrow;
using std::size_t;

/* Some compilers want to be asked for these. */
void operator delete(void *, size_t) noexcept;
void operator delete[](void *, size_t) noexcept;
void operator delete(void *, size_t, align_val_t) noexcept;
void operator delete[](void *, size_t, align_val_t) noexcept;

static const auto at = align_val_t(256), far = align_val_t(64 << 20);

struct Make {
    const char *name;
    void *(*make)(size_t, align_val_t);
    bool aligned, throws;
};

static const Make makes[] = {
    {"new", [](size_t n, align_val_t) { return ::operator new(n); }, false, true},
    {"new[]", [](size_t n, align_val_t) { return ::operator new[](n); }, false, true},
    {"new, nothrow", [](size_t n, align_val_t) { return ::operator new(n, nothrow); }, false, false},
    {"new[], nothrow", [](size_t n, align_val_t) { return ::operator new[](n, nothrow); }, false, false},
    {"new, aligned", [](size_t n, align_val_t a) { return ::operator new(n, a); }, true, true},
    {"new[], aligned", [](size_t n, align_val_t a) { return ::operator new[](n, a); }, true, true},
    {"new, aligned, nothrow", [](size_t n, align_val_t a) { return ::operator new(n, a, nothrow); }, true, false},
    {"new[], aligned, nothrow", [](size_t n, align_val_t a) { return ::operator new[](n, a, nothrow); }, true, false},
};

struct Give {
    const char *name;
    void (*give)(void *, size_t);
    bool aligned, sized;
};

static const Give gives[] = {
    {"delete", [](void *p, size_t) { ::operator delete(p); }, false, false},
    {"delete[]", [](void *p, size_t) { ::operator delete[](p); }, false, false},
    {"delete, nothrow", [](void *p, size_t) { ::operator delete(p, nothrow); }, false, false},
    {"delete[], nothrow", [](void *p, size_t) { ::operator delete[](p, nothrow); }, false, false},
    {"delete, sized", [](void *p, size_t n) { ::operator delete(p, n); }, false, true},
    {"delete[], sized", [](void *p, size_t n) { ::operator delete[](p, n); }, false, true},
    {"delete, aligned", [](void *p, size_t) { ::operator delete(p, at); }, true, false},
    {"delete[], aligned", [](void *p, size_t) { ::operator delete[](p, at); }, true, false},
    {"delete, aligned, nothrow", [](void *p, size_t) { ::operator delete(p, at, nothrow); }, true, false},
    {"delete[], aligned, nothrow", [](void *p, size_t) { ::operator delete[](p, at, nothrow); }, true, false},
    {"delete, sized, aligned", [](void *p, size_t n) { ::operator delete(p, n, at); }, true, true},
    {"delete[], sized, aligned", [](void *p, size_t n) { ::operator delete[](p, n, at); }, true, true},
};

static const size_t sizes[] = {0, 1, 64, 100, 300, 1024, 20000, 65536, 65537, 1 << 20};

static size_t huge()
{
    volatile size_t n = size_t(1) << 62;
    return n;
}

static uint64_t live()
{
    ash_stats s;
    s.struct_size = sizeof s;
    ash_stats_get(&s);
    return s.live_blocks;
}

/* ---- success ---- */

static size_t address(const void *p)
{
    return reinterpret_cast<std::uintptr_t>(p);
}

static bool well_made(const Make &m, size_t n)
{
    enum { HELD = 8 }; /* a single block may be aligned by chance */
    void *p[HELD];
    bool good = true;
    uint64_t before = live();
    for (auto &q : p) {
        q = m.make(n, at);
        good = good && q != nullptr;
        if (m.aligned)
            good = good && address(q) % 256 == 0 && ash_usable_size(q) >= n;
        else
            good = good && ash_usable_size(q) == ash_good_size(n);
    }
    good = good && live() == before + HELD;
    ash_free_batch(p, HELD);
    return good;
}

static void test_make(const Make &m)
{
    size_t failed = 0;
    for (size_t n : sizes)
        failed += !well_made(m, n);
    is_int((long)failed, 0, m.name);
}

static void test_give(const Give &g)
{
    uint64_t before = live();
    size_t failed = 0;
    for (size_t n : sizes) {
        g.give(g.aligned ? ash_aligned_alloc(256, n) : ash_malloc(n), n);
        failed += live() != before;
    }
    g.give(nullptr, 100);
    is_int((long)failed, 0, g.name);
}

/* A block of 1000 bytes, deleted as one of 3000: aborts if sizes are looked at. */
static void test_wrong_size(const Give &g)
{
    pid_t child = fork();
    if (child == 0) {
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        g.give(g.aligned ? ash_aligned_alloc(256, 1000) : ash_malloc(1000), 3000);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    ok(WIFSIGNALED(status) == g.sized, "%s: a wrong size %s", g.name, g.sized ? "aborts" : "cannot be seen");
}

/* Deleted as aligned to 2^62, which no block is. */
static void test_wrong_alignment(bool array)
{
    pid_t child = fork();
    if (child == 0) {
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        void *p = ash_malloc(1000);
        array ? ::operator delete[](p, 1000, align_val_t(huge())) : ::operator delete(p, 1000, align_val_t(huge()));
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    ok(WIFSIGNALED(status), "delete%s: a wrong alignment aborts", array ? "[]" : "");
}

/* ---- failure ---- */

static int handled;

static void handler()
{
    if (++handled == 3)
        std::set_new_handler(nullptr);
}

/* Memory is there after the second call. */
static void helping_handler()
{
    if (++handled == 2)
        ash_limit_set(0);
}

struct thrown {};

static void throwing_handler()
{
    throw thrown();
}

enum Outcome { MADE, REFUSED, BAD_ALLOC, THROWN };

static uint64_t limit_hits()
{
    struct ash_stats s = {};
    s.struct_size = sizeof s;
    ash_stats_get(&s);
    return s.limit_hits;
}

static Outcome outcome(const Make &m, size_t n, align_val_t align)
{
    try {
        void *p = m.make(n, align);
        bool aligned = p == nullptr || !m.aligned || address(p) % size_t(align) == 0;
        ash_free(p);
        return p != nullptr && aligned ? MADE : REFUSED;
    } catch (const std::bad_alloc &) {
        return BAD_ALLOC;
    } catch (const thrown &) {
        return THROWN;
    }
}

static Outcome attempt(const Make &m, size_t n)
{
    return outcome(m, n, far);
}

static void test_failure(const Make &m)
{
    const Outcome failure = m.throws ? BAD_ALLOC : REFUSED;
    ok(attempt(m, huge()) == failure, "%s: %s", m.name, m.throws ? "bad_alloc is thrown" : "NULL");
    handled = 0;
    std::set_new_handler(handler);
    ok(attempt(m, huge()) == failure, "the same after a handler");
    is_int(handled, 3, "which was called until there was none");

    handled = 0;
    std::set_new_handler(helping_handler);
    ash_limit_set(64 << 20);
    ok(attempt(m, 100 << 20) == MADE, "a handler that finds memory");
    is_int(handled, 2, "is called until there is enough");
    ash_limit_set(0);
    std::set_new_handler(throwing_handler);
    ok(attempt(m, huge()) == (m.throws ? THROWN : REFUSED), "a handler's exception %s",
       m.throws ? "passes through" : "becomes NULL");
    std::set_new_handler(nullptr);

    const uint64_t hits = limit_hits();
    ash_limit_set(64 << 20);
    ok(attempt(m, 100 << 20) == failure && limit_hits() == hits + 1, "one refusal at the limit is counted once");
    ash_limit_set(0);
    if (m.aligned)
        for (size_t align : {size_t(0), size_t(48), size_t(0x6001)})
            ok(outcome(m, 65535, align_val_t(align)) == failure, "alignment %zu: no power of two", align);
}

/* ---- as programs use them ---- */

struct alignas(4096) Page {
    char bytes[5000];
};

static void test_expressions()
{
    uint64_t before = live();
    int *one = new int(42);
    ok(live() == before + 1, "new allocates here");
    ok(address(one) % ash_good_size(1) == 0, "aligned to the grain");
    delete one;
    delete[] new char[100];
    Page *page = new Page;
    ok(address(page) % 4096 == 0, "new of an over-aligned type");
    delete page;
    Page *pages = new Page[3];
    ok(address(pages) % 4096 == 0, "new[] of it");
    delete[] pages;
    ok(live() == before, "every delete gives back");
    {
        std::vector<std::string> words;
        for (int i = 0; i < 10000; i++)
            words.push_back(std::string(static_cast<size_t>(i % 300), 'x'));
        auto shared = std::make_shared<std::vector<std::string>>(words);
        ok(shared->size() == 10000 && shared->back().size() == 99, "containers");
    }
    ok(live() == before, "nothing is left");
}

int main(int argc, char **argv)
{
    for (const Make &m : makes)
        test_make(m);
    for (const Give &g : gives) {
        test_give(g);
        test_wrong_size(g);
    }
    test_wrong_alignment(false);
    test_wrong_alignment(true);
    test_failure(makes[0]); /* the first exception allocates for good */
    uint64_t before = live();
    for (const Make &m : makes)
        test_failure(m);
    ok(live() == before, "failures leave nothing");
    test_expressions();
    if (argc == 1)
        run_again_in_grain_16(argv);
    return tap_done();
}
