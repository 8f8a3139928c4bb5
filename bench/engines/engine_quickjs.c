#include "engines.h"

#include <quickjs.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef QUICKJS_NG
static const JSMallocFunctions functions = ASH_HEAP_QUICKJS_NG;
#else
static const JSMallocFunctions functions = ASH_HEAP_QUICKJS;
#endif

/* It lies in the heap, too. */
struct js {
    JSRuntime *runtime;
    JSContext *context;
    struct ash_heap *heap;
};

static int show(JSContext *c, JSValue v, char *out, size_t cap)
{
    bool wrong = JS_IsException(v);
    JSValue shown = wrong ? JS_GetException(c) : v;
    const char *text = JS_ToCString(c, shown);
    snprintf(out, cap, "%s", text != NULL ? text : "not enough memory");
    JS_FreeCString(c, text);
    JS_FreeValue(c, shown);
    return wrong ? -1 : 0;
}

static JSValue evaluate(JSContext *c, const char *program)
{
    return JS_Eval(c, program, strlen(program), "program", JS_EVAL_TYPE_GLOBAL);
}

static int vm_run(void *root, const char *program, char *out, size_t cap)
{
    struct js *js = root;
    return show(js->context, evaluate(js->context, program), out, cap);
}

static void vm_close(void *root)
{
    struct js *js = root;
    JS_FreeContext(js->context);
    JS_FreeRuntime(js->runtime);
    if (js->heap != NULL)
        ash_heap_free(js->heap, js);
    else
        free(js);
}

static bool start(struct js *js)
{
    js->runtime = js->heap != NULL ? JS_NewRuntime2(&functions, js->heap) : JS_NewRuntime();
    if (js->runtime == NULL)
        return false;
    js->context = JS_NewContext(js->runtime);
    if (js->context == NULL)
        JS_FreeRuntime(js->runtime);
    return js->context != NULL;
}

static void *vm_open(struct ash_heap *heap)
{
    struct js *js = heap != NULL ? ash_heap_malloc(heap, sizeof *js) : malloc(sizeof *js);
    if (js == NULL)
        return NULL;
    js->heap = heap;
    if (start(js))
        return js;
    if (heap == NULL)
        free(js);
    return NULL;
}

static int vm_context(void *root, const char *program)
{
    JSContext *c = JS_NewContext(((struct js *)root)->runtime);
    if (c == NULL)
        return -1;
    JSValue handle = evaluate(c, program);
    int status = JS_IsFunction(c, handle) ? 0 : -1;
    JS_FreeValue(c, handle);
    JS_FreeContext(c);
    return status;
}

static void vm_enter(void *root)
{
    JS_UpdateStackTop(((struct js *)root)->runtime);
}

static int vm_call(void *root, const char *row, size_t n, char *out, size_t cap)
{
    struct js *js = root;
    JSValue global = JS_GetGlobalObject(js->context);
    JSValue handle = JS_GetPropertyStr(js->context, global, "handle");
    JSValue arg = JS_NewStringLen(js->context, row, n);
    JSValue v = JS_Call(js->context, handle, JS_UNDEFINED, 1, &arg);
    JS_FreeValue(js->context, arg);
    JS_FreeValue(js->context, handle);
    JS_FreeValue(js->context, global);
    return show(js->context, v, out, cap);
}

static int interrupt(JSRuntime *runtime, void *opaque)
{
    (void)runtime, (void)opaque;
    engine_ticker();
    return 0;
}

static void vm_watch(void *root, int watched)
{
    JS_SetInterruptHandler(((struct js *)root)->runtime, watched ? interrupt : NULL, NULL);
}

const struct engine engine_quickjs = {
    .name = "quickjs",
    .before = "globalThis.handle = function(row) { ",
    .after = " }",
    .extract = "return JSON.parse(row).value",
    .spoil = "globalThis.leak = 1; Array.prototype.poison = 2; Promise.resolve().then(() => { "
             "globalThis.job = 3 }); JSON = null",
    .spoiled = "typeof leak + ' ' + typeof [].poison + ' ' + typeof job + ' ' + typeof JSON.parse",
    .clean = "undefined undefined undefined function",
    .endless = "var t = []; for (let i = 0;; i++) t[i % 1000] = { i, s: 'v' + i }",
    .hungry = "var t = []; for (;;) t.push('x'.repeat(1000) + t.length)",
    .open = vm_open,
    .close = vm_close,
    .context = vm_context,
    .enter = vm_enter,
    .call = vm_call,
    .run = vm_run,
    .watch = vm_watch,
};
