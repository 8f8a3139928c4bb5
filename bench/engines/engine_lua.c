#include "engines.h"

#include <lua5.4/lauxlib.h>
#include <lua5.4/lua.h>
#include <lua5.4/lualib.h>

#include <stdio.h>
#include <stdlib.h>

static void *plain_alloc(void *ud, void *p, size_t old_size, size_t n)
{
    (void)ud, (void)old_size;
    if (n != 0)
        return realloc(p, n);
    free(p);
    return NULL;
}

/* The value on the stack, which goes. */
static int show(lua_State *L, int status, char *out, size_t cap)
{
    const char *text = luaL_tolstring(L, -1, NULL);
    snprintf(out, cap, "%s", text);
    lua_settop(L, 0);
    return status == LUA_OK ? 0 : -1;
}

static int engine_run(void *root, const char *program, char *out, size_t cap)
{
    lua_State *L = root;
    int status = luaL_loadstring(L, program);
    if (status == LUA_OK)
        status = lua_pcall(L, 0, 1, 0);
    return show(L, status, out, cap);
}

static void *engine_open(struct ash_heap *heap, const char *script)
{
    char program[1024], out[64];
    lua_State *L =
        heap != NULL ? lua_newstate(ash_heap_lua_alloc, heap) : lua_newstate(plain_alloc, NULL);
    if (L == NULL)
        return NULL;
    luaL_openlibs(L);
    int n = snprintf(program, sizeof program, "function handle(row) %s end", script);
    if (n < (int)sizeof program && engine_run(L, program, out, sizeof out) == 0)
        return L;
    lua_close(L);
    return NULL;
}

static void engine_close(void *root)
{
    lua_close(root);
}

static void engine_enter(void *root)
{
    (void)root;
}

static int engine_call(void *root, const char *row, size_t n, char *out, size_t cap)
{
    lua_State *L = root;
    lua_getglobal(L, "handle");
    lua_pushlstring(L, row, n);
    return show(L, lua_pcall(L, 1, 1, 0), out, cap);
}

/* Of the engine that runs in this thread. */
static __thread void (*ticker)(void);

static void hook(lua_State *L, lua_Debug *at)
{
    (void)L, (void)at;
    ticker();
}

static void engine_on_tick(void *root, void (*tick)(void))
{
    ticker = tick;
    lua_sethook(root, tick != NULL ? hook : NULL, LUA_MASKCOUNT, 1000);
}

const struct engine engine_lua = {
    .name = "lua",
    .extract = "return math.tointeger(row:match('\"value\": *(%-?%d+)'))",
    .spoil = "leak = 1; string.poison = 2; job = coroutine.create(function() end); tostring = nil",
    .spoiled = "return type(leak) .. ' ' .. type(('').poison) .. ' ' .. type(job) .. ' ' .. "
               "type(tostring)",
    .clean = "nil nil nil function",
    .endless = "local t = {} while true do t[#t % 1000 + 1] = {#t .. ''} end",
    .hungry = "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end",
    .open = engine_open,
    .close = engine_close,
    .enter = engine_enter,
    .call = engine_call,
    .run = engine_run,
    .on_tick = engine_on_tick,
};
