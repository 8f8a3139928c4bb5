/*
 * A program that replaces operator new and delete, plain and aligned, and nothing else: every other form goes through
 * its own, as [new.delete] says. Its blocks lie behind a header, so that a form which went past it would be found.
 */
extern "C" {
#include "tap.h"
}

#include <cstdint>
#include <cstdlib>
#include <new>

using std::align_val_t;
using std::nothrow;
using std::size_t;

enum { HEADER = 192, MAGIC = 0x5ca1ab1e };

static int made, given, wrong;
static bool failing;

static void *make(size_t n, size_t align)
{
    if (failing)
        throw std::bad_alloc();
    char *base = static_cast<char *>(aligned_alloc(align, HEADER + (n + align - 1) / align * align));
    reinterpret_cast<unsigned *>(base)[0] = MAGIC;
    made++;
    return base + HEADER;
}

static void give(void *p)
{
    if (p == nullptr)
        return;
    unsigned *base = reinterpret_cast<unsigned *>(static_cast<char *>(p) - HEADER);
    wrong += base[0] != MAGIC;
    base[0] = 0;
    given++;
    free(base);
}

void *operator new(size_t n) { return make(n, 16); }
void *operator new(size_t n, align_val_t a) { return make(n, size_t(a)); }
void operator delete(void *p) noexcept { give(p); }
void operator delete(void *p, align_val_t) noexcept { give(p); }

static const auto at = align_val_t(64);

struct Pair {
    const char *name;
    void *(*make)(size_t);
    void (*give)(void *, size_t);
};

static const Pair pairs[] = {
    {"new, delete", [](size_t n) { return ::operator new(n); }, [](void *p, size_t) { ::operator delete(p); }},
    {"new, sized delete", [](size_t n) { return ::operator new(n); },
     [](void *p, size_t n) { ::operator delete(p, n); }},
    {"new[], delete[]", [](size_t n) { return ::operator new[](n); }, [](void *p, size_t) { ::operator delete[](p); }},
    {"new[], sized delete[]", [](size_t n) { return ::operator new[](n); },
     [](void *p, size_t n) { ::operator delete[](p, n); }},
    {"nothrow new, delete", [](size_t n) { return ::operator new(n, nothrow); },
     [](void *p, size_t) { ::operator delete(p, nothrow); }},
    {"nothrow new[], delete[]", [](size_t n) { return ::operator new[](n, nothrow); },
     [](void *p, size_t) { ::operator delete[](p, nothrow); }},
    {"aligned new, delete", [](size_t n) { return ::operator new(n, at); },
     [](void *p, size_t) { ::operator delete(p, at); }},
    {"aligned new, sized delete", [](size_t n) { return ::operator new(n, at); },
     [](void *p, size_t n) { ::operator delete(p, n, at); }},
    {"aligned new[], delete[]", [](size_t n) { return ::operator new[](n, at); },
     [](void *p, size_t) { ::operator delete[](p, at); }},
    {"aligned new[], sized delete[]", [](size_t n) { return ::operator new[](n, at); },
     [](void *p, size_t n) { ::operator delete[](p, n, at); }},
    {"aligned nothrow new, delete", [](size_t n) { return ::operator new(n, at, nothrow); },
     [](void *p, size_t) { ::operator delete(p, at, nothrow); }},
    {"aligned nothrow new[], delete[]", [](size_t n) { return ::operator new[](n, at, nothrow); },
     [](void *p, size_t) { ::operator delete[](p, at, nothrow); }},
};

int main()
{
    for (const Pair &pair : pairs) {
        made = given = wrong = 0;
        for (size_t n = 1; n < 200000; n = n * 5 + 3)
            pair.give(pair.make(n), n);
        ok(made == 8 && given == 8 && wrong == 0, "%s: the program's own (%d made, %d given back, %d wrong)", pair.name,
           made, given, wrong);
    }
    failing = true;
    ok(::operator new(10, nothrow) == nullptr && ::operator new[](10, nothrow) == nullptr,
       "what the program's own throws becomes NULL in a nothrow form");
    ok(::operator new(10, at, nothrow) == nullptr && ::operator new[](10, at, nothrow) == nullptr,
       "aligned, too");
    return tap_done();
}
