/* The C++ operators: every form, bad_alloc really thrown, new_handler honoured, alignment, and who allocates. */
#include "ashlar/ashlar.h"

extern "C" {
#include "tap.h"
}

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

static int handled;

static void handler()
{
    if (++handled == 3)
        std::set_new_handler(nullptr);
}

struct thrown {};

static void throwing_handler()
{
    throw thrown();
}

struct alignas(4096) Page {
    char bytes[5000];
};

static std::size_t huge()
{
    volatile std::size_t n = std::size_t(1) << 62;
    return n;
}

static uint64_t live()
{
    ash_stats s;
    s.struct_size = sizeof s;
    ash_stats_get(&s);
    return s.live_blocks;
}

int main()
{
    uint64_t before = live();
    int *one = new int(42);
    ok(live() == before + 1, "new allocates here");
    ok(reinterpret_cast<std::uintptr_t>(one) % 64 == 0, "aligned to 64");
    delete one;
    delete[] new char[100];
    ::operator delete(::operator new(100), std::size_t(100));
    ::operator delete[](::operator new[](100), std::size_t(100));
    ::operator delete(::operator new(100, std::nothrow), std::nothrow);
    ::operator delete[](::operator new[](100, std::nothrow), std::nothrow);
    ok(live() == before, "every delete gives back");

    Page *page = new Page;
    ok(reinterpret_cast<std::uintptr_t>(page) % 4096 == 0, "new of an over-aligned type");
    delete page;
    Page *pages = new Page[3];
    ok(reinterpret_cast<std::uintptr_t>(pages) % 4096 == 0, "new[] of it");
    delete[] pages;
    auto align = std::align_val_t(256);
    ::operator delete(::operator new(300, align), align);
    ::operator delete(::operator new(300, align), std::size_t(300), align);
    ::operator delete[](::operator new[](300, align, std::nothrow), align, std::nothrow);
    ::operator delete[](::operator new[](300, align), std::size_t(300), align);
    ok(live() == before, "every aligned delete gives back");

    int caught = 0;
    try {
        ::operator delete(::operator new(huge()));
    } catch (const std::bad_alloc &) {
        caught++;
    }
    try {
        ::operator delete[](::operator new[](huge(), align), align);
    } catch (const std::bad_alloc &) {
        caught++;
    }
    is_int(caught, 2, "bad_alloc is thrown");
    ok(::operator new(huge(), std::nothrow) == nullptr, "nothrow returns NULL");

    std::set_new_handler(handler);
    try {
        ::operator delete(::operator new(huge()));
    } catch (const std::bad_alloc &) {
        caught++;
    }
    is_int(handled, 3, "new_handler is called until there is none");
    is_int(caught, 3, "then bad_alloc");
    std::set_new_handler(throwing_handler);
    try {
        ::operator delete(::operator new(huge()));
    } catch (const thrown &) {
        caught++;
    }
    is_int(caught, 4, "a handler's exception passes through");
    std::set_new_handler(nullptr);

    {
        std::vector<std::string> words;
        for (int i = 0; i < 10000; i++)
            words.push_back(std::string(static_cast<std::size_t>(i % 300), 'x'));
        auto shared = std::make_shared<std::vector<std::string>>(words);
        ok(shared->size() == 10000 && shared->back().size() == 99, "containers");
    }
    ok(live() == before, "nothing is left");
    return tap_done();
}
