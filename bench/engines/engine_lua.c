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

static int vm_run(void *root, const char *program, char *out, size_t cap)
{
    lua_State *L = root;
    int status = luaL_loadstring(L, program);
    if (status == LUA_OK)
        status = lua_pcall(L, 0, 1, 0);
    return show(L, status, out, cap);
}

static void *vm_open(struct ash_heap *heap)
{
    lua_State *L =
        heap != NULL ? lua_newstate(ash_heap_lua_alloc, heap) : lua_newstate(plain_alloc, NULL);
    if (L != NULL)
        luaL_openlibs(L);
    return L;
}

static void vm_close(void *root)
{
    lua_close(root);
}

/* A table of globals that inherits from the first one. */
static int vm_context(void *root, const char *program)
{
    lua_State *L = root;
    int status = luaL_loadstring(L, program);
    if (status == LUA_OK) {
        lua_newtable(L);
        lua_newtable(L);
        lua_pushglobaltable(L);
        lua_setfield(L, -2, "__index");
        lua_setmetatable(L, -2);
        lua_setupvalue(L, -2, 1);
        status = lua_pcall(L, 0, 0, 0);
    }
    lua_settop(L, 0);
    return status == LUA_OK ? 0 : -1;
}

static int vm_call(void *root, const char *row, size_t n, char *out, size_t cap)
{
    lua_State *L = root;
    lua_getglobal(L, "handle");
    lua_pushlstring(L, row, n);
    return show(L, lua_pcall(L, 1, 1, 0), out, cap);
}

static void hook(lua_State *L, lua_Debug *at)
{
    (void)L, (void)at;
    engine_ticker();
}

static void vm_watch(void *root, int watched)
{
    lua_sethook(root, watched ? hook : NULL, LUA_MASKCOUNT, 1000);
}

const struct engine engine_lua = {
    .name = "lua",
    .before = "function handle(row) ",
    .after = " end",
    .extract = "return math.tointeger(row:match('\"value\": *(%-?%d+)'))",
    .spoil = "leak = 1; string.poison = 2; job = coroutine.create(function() end); tostring = nil",
    .spoiled = "return type(leak) .. ' ' .. type(('').poison) .. ' ' .. type(job) .. ' ' .. "
               "type(tostring)",
    .clean = "nil nil nil function",
    .endless = "local t = {} while true do t[#t % 1000 + 1] = {#t .. ''} end",
    .hungry = "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end",
    .open = vm_open,
    .close = vm_close,
    .context = vm_context,
    .call = vm_call,
    .run = vm_run,
    .watch = vm_watch,
};
