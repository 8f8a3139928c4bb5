/* A real engine in a heap: Lua 5.4, where the machine has it. */
#include "tap.h"

#include <ashlar/heap.h>

#include <stdlib.h>

#if !HAVE_LUA
int main(void)
{
    skip("Lua 5.4 is not installed", 1);
    return tap_done();
}
#else
#include <lua5.4/lauxlib.h>
#include <lua5.4/lua.h>
#include <lua5.4/lualib.h>
#include <setjmp.h>

static size_t asked; /* bytes, as Lua counts them */

/* The heap's hook, with Lua's own count beside it. */
static void *counting_alloc(void *ud, void *p, size_t old_size, size_t n)
{
    void *q = ash_heap_lua_alloc(ud, p, old_size, n);
    if (q != NULL || n == 0)
        asked += n - (p != NULL ? old_size : 0);
    return q;
}

static const char start[] = "config = {} for i = 1, 300 do config['key' .. i] = {i, tostring(i), {name = 'n' .. i}} end "
                            "function handle(n) local t = {} for i = 1, n do t[i] = config['key' .. i % 300 + 1][2] .. n end "
                            "seen = (seen or 0) + 1; leak = leak or {}; leak[#leak + 1] = t; config.key1 = t "
                            "return seen * 1000000 + #table.concat(t) end";

/* Every request has the answer of the first: seen is 1 again, config.key1 is what it was. */
static int serve(lua_State *L, int n)
{
    lua_getglobal(L, "handle");
    lua_pushinteger(L, n);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK)
        return -1;
    int answer = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    return answer;
}

static void test_mode(enum ash_reset_mode mode, int cycles)
{
    struct ash_heap *h = ash_heap_create("lua", 16 << 20, 0);
    asked = 0;
    lua_State *L = lua_newstate(counting_alloc, h);
    luaL_openlibs(L);
    if (luaL_dostring(L, start) != LUA_OK)
        abort();
    lua_gc(L, LUA_GCCOLLECT);
    ash_heap_snapshot(h, mode);
    struct ash_heap_stats before, after;
    ash_heap_stats(h, &before);
    double ratio = (double)before.image_bytes / (double)asked;
    ok(ratio <= 1.15, "mode %d: the image is at most 1.15 of what Lua has: %.3f of %zu", mode, ratio, asked);
    int first[50], bad = 0;
    for (int n = 0; n < 50; n++) {
        first[n] = serve(L, n);
        ash_heap_restore(h);
    }
    for (int cycle = 0; cycle < cycles; cycle++) {
        bad += serve(L, cycle % 50) != first[cycle % 50] || first[cycle % 50] / 1000000 != 1;
        bad += ash_heap_restore(h) != 0;
    }
    ash_heap_stats(h, &after);
    ok(bad == 0, "%d requests, each on a fresh engine", cycles);
    ok(ash_heap_verify(h) == 0 && after.used_bytes == before.used_bytes && after.live_bytes == before.live_bytes,
       "the heap is what it was");
    ash_heap_destroy(h); /* the state goes with it */
}

static jmp_buf out_of_script;

static void leave(lua_State *L, lua_Debug *at)
{
    (void)L, (void)at;
    longjmp(out_of_script, 1);
}

/* Scripts that run for ever, or out of memory, are left in the middle and put back. */
static void test_runaway(void)
{
    struct ash_heap *h = ash_heap_create("runaway", 1 << 20, 0);
    lua_State *L = lua_newstate(ash_heap_lua_alloc, h);
    luaL_openlibs(L);
    ash_heap_snapshot(h, ASH_RESET_AUTO);
    volatile int good = 0;
    for (volatile int i = 0; i < 1000; i++) {
        if (setjmp(out_of_script) == 0) {
            lua_sethook(L, leave, LUA_MASKCOUNT, 500 + i);
            good -= luaL_dostring(L, "local t = {} while true do t[#t + 1] = {#t .. ''} end") == LUA_OK;
        }
        ash_heap_restore(h);
        good += luaL_dostring(L, "return x == nil and #string.rep('a', 100) == 100") == LUA_OK && lua_toboolean(L, -1);
        ash_heap_restore(h);
    }
    is_int(good, 1000, "1000 scripts left by longjmp, the engine works after each");
    ok(luaL_dostring(L, "local t = {} while true do t[#t + 1] = string.rep('x', 1000) .. #t end") != LUA_OK,
       "a script that wants more than the heap's limit fails");
    is_str(lua_tostring(L, -1), "not enough memory", "as Lua tells it");
    is_int(ash_heap_restore(h), 0, "and is put back");
    ok(luaL_dostring(L, "return string.rep('x', 100000)") == LUA_OK, "with its memory");
    ash_heap_destroy(h);
}

int main(void)
{
    for (int mode = ASH_RESET_AUTO; mode <= ASH_RESET_DROP; mode++)
        test_mode((enum ash_reset_mode)mode, 3000);
    test_runaway();
    return tap_done();
}
#endif
