#include "toy_inner.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void toy_fail(struct toy *t, const char *what)
{
    t->wrong = what;
    longjmp(t->failed, 1);
}

void *toy_take(struct toy *t, size_t n)
{
    void **block = t->alloc(t->ud, n + 16);
    if (block == NULL)
        toy_fail(t, "not enough memory");
    *block = t->blocks;
    t->blocks = block;
    return memset((char *)block + 16, 0, n);
}

/* ---- strings, objects ---- */

struct string *toy_atom(struct toy *t, const char *text, size_t n)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    struct string *s = t->atoms[hash & (t->atom_cap - 1)];
    while (s != NULL && (s->hash != hash || s->len != n || memcmp(s->text, text, n) != 0))
        s = s->chain;
    if (s != NULL)
        return s;
    s = toy_take(t, sizeof *s + n + 1);
    memcpy(s->text, text, n);
    s->hash = hash;
    s->len = (uint32_t)n;
    s->chain = t->atoms[hash & (t->atom_cap - 1)];
    t->atom_count++;
    return t->atoms[hash & (t->atom_cap - 1)] = s;
}

static struct field *find(const struct object *o, const struct string *key)
{
    uint32_t i = key->hash & (o->cap - 1);
    while (o->fields[i].key != NULL && o->fields[i].key != key)
        i = (i + 1) & (o->cap - 1);
    return &o->fields[i];
}

static struct object *object_new(struct toy *t, struct object *proto, uint32_t cap)
{
    struct object *o = toy_take(t, sizeof *o);
    *o =
        (struct object){.proto = proto, .cap = cap, .fields = toy_take(t, cap * sizeof *o->fields)};
    return o;
}

static void set(struct toy *t, struct object *o, struct string *key, struct value v)
{
    struct field *f = find(o, key);
    if (f->key == NULL && 4 * ++o->count > 3 * o->cap) {
        struct object old = *o;
        o->cap = 2 * old.cap;
        o->fields = toy_take(t, o->cap * sizeof *f);
        for (uint32_t i = 0; i < old.cap; i++)
            if (old.fields[i].key != NULL)
                *find(o, old.fields[i].key) = old.fields[i];
        f = find(o, key);
    }
    *f = (struct field){key, v};
}

static struct value get(const struct object *o, const struct string *key)
{
    const struct field *f = find(o, key);
    while (f->key == NULL && (o = o->proto) != NULL)
        f = find(o, key);
    return f->value;
}

static size_t text_of(struct value v, char *out, size_t cap)
{
    static const char *const other[] = {"nil", "", "", "object", "function", "function"};
    if (v.type == NUMBER)
        return (size_t)snprintf(out, cap, "%lld", (long long)v.n);
    return (size_t)snprintf(out, cap, "%s", v.type == STRING ? v.s->text : other[v.type]);
}

static struct value concat(struct toy *t, struct value a, struct value b)
{
    size_t n = text_of(a, NULL, 0), m = text_of(b, NULL, 0);
    char *joined = toy_take(t, n + m + 1);
    text_of(a, joined, n + 1);
    text_of(b, joined + n, m + 1);
    return (struct value){STRING, .s = toy_atom(t, joined, n + m)};
}

/* ---- the machine ---- */

static bool is_true(struct value v)
{
    return v.type != NIL && (v.type != NUMBER || v.n != 0);
}

static struct value arithmetic(struct toy *t, enum op op, struct value a, struct value b)
{
    if (op == EQUAL)
        return (struct value){NUMBER, .n = a.type == b.type && (a.type == NIL || a.n == b.n)};
    if (op == ADD && (a.type == STRING || b.type == STRING))
        return concat(t, a, b);
    if (a.type != NUMBER || b.type != NUMBER)
        toy_fail(t, "numbers are wanted");
    uint64_t x = (uint64_t)a.n, y = (uint64_t)b.n;
    if (op == LESS)
        return (struct value){NUMBER, .n = a.n < b.n};
    return (struct value){NUMBER, .n = (int64_t)(op == ADD ? x + y : op == SUB ? x - y : x * y)};
}

static struct value run(struct toy *t, struct function *f, struct value *sp);

/* Calls what lies below `n` arguments, the last of which is at `sp`. */
static struct value call(struct toy *t, struct value *sp, uint32_t n)
{
    struct value callee = sp[-(int)n];
    if (callee.type == NATIVE)
        return callee.native(t, n > 0 ? *sp : (struct value){NIL, .n = 0});
    if (callee.type != FUNCTION || n != callee.f->code->params)
        toy_fail(t, "no function of that many arguments");
    if (++t->depth > DEPTH || sp + 2 * LOCALS >= t->stack + STACK)
        toy_fail(t, "too deep");
    struct value result = run(t, callee.f, sp - n + 1);
    t->depth--;
    return result;
}

static struct value closure_new(struct toy *t, struct code *code, const struct function *outer,
                                const struct value *base)
{
    struct function *f = toy_take(t, sizeof *f + code->captures * sizeof(struct value));
    f->code = code;
    for (uint32_t i = 0; i < code->captures; i++)
        f->captured[i] =
            code->from[i] < LOCALS ? base[code->from[i]] : outer->captured[code->from[i] - LOCALS];
    return (struct value){FUNCTION, .f = f};
}

static struct object *object_at(struct toy *t, struct value v, struct value key)
{
    if (v.type != OBJECT || key.type != STRING)
        toy_fail(t, "an object and a name are wanted");
    return v.o;
}

static struct value variable(struct toy *t, const struct function *f, const struct value *base,
                             enum op op, uint32_t n)
{
    return op == LOCAL      ? base[n]
           : op == CAPTURED ? f->captured[n]
           : op == CONST    ? f->code->consts[n]
                            : get(t->globals, f->code->consts[n].s);
}

static void before_each(struct toy *t, const struct value *sp)
{
    if (++t->ticks % TICK == 0 && t->tick != NULL)
        t->tick();
    if (sp + 2 >= t->stack + STACK)
        toy_fail(t, "too deep");
}

/* Begins a run; where its values are pushed, behind the locals. */
static struct value *enter(struct toy *t, const struct function *f, struct value *base)
{
    if (base + LOCALS + 2 >= t->stack + STACK)
        toy_fail(t, "too deep");
    memset(base + f->code->params, 0, (LOCALS - f->code->params) * sizeof *base);
    return base + LOCALS - 1;
}

/* `base` holds the locals, arguments first; values are pushed behind them. */
static struct value run(struct toy *t, struct function *f, struct value *base)
{
    const uint32_t *op = f->code->ops;
    const struct value *consts = f->code->consts;
    struct value *sp = enter(t, f, base);
    for (;;) {
        before_each(t, sp);
        uint32_t what = *op & 255, n = *op >> 8;
        op++;
        switch ((enum op)what) {
        case CONST:
        case GLOBAL:
        case LOCAL:
        case CAPTURED:
            *++sp = variable(t, f, base, (enum op)what, n);
            break;
        case SET_GLOBAL:
            set(t, t->globals, consts[n].s, *sp);
            break;
        case SET_LOCAL:
            base[n] = *sp;
            break;
        case GET:
            sp--;
            *sp = get(object_at(t, *sp, sp[1]), sp[1].s);
            break;
        case SET:
            set(t, object_at(t, sp[-2], sp[-1]), sp[-1].s, *sp);
            sp -= 2;
            break;
        case ADD:
        case SUB:
        case MUL:
        case LESS:
        case EQUAL:
            sp--;
            *sp = arithmetic(t, (enum op)what, *sp, sp[1]);
            break;
        case JUMP:
            op = f->code->ops + n;
            break;
        case JUMP_IF_NOT:
            op = is_true(*sp--) ? op : f->code->ops + n;
            break;
        case CALL:
            sp[-(int)n] = call(t, sp, n);
            sp -= n;
            break;
        case RETURN:
            return *sp;
        case NEW:
            *++sp = (struct value){OBJECT, .o = object_new(t, t->object, 4)};
            break;
        case CLOSURE:
            *++sp = closure_new(t, consts[n].code, f, base);
            break;
        case POP:
            sp--;
            break;
        }
    }
}

/* ---- the library ---- */

static struct value json_value(struct toy *t, const char **at);

static struct value json_object(struct toy *t, const char **at)
{
    struct object *o = object_new(t, t->object, 8);
    if (++t->depth > DEPTH)
        toy_fail(t, "too deep");
    do {
        (*at)++;
        *at += strspn(*at, " ");
        if (**at != '"')
            break;
        struct value key = json_value(t, at);
        *at += strspn(*at, " :");
        set(t, o, key.s, json_value(t, at));
        *at += strspn(*at, " ");
    } while (**at == ',');
    *at += **at == '}';
    t->depth--;
    return (struct value){OBJECT, .o = o};
}

/* Of flat text without escapes, as rows of measurements are. */
static struct value json_value(struct toy *t, const char **at)
{
    *at += strspn(*at, " ");
    if (**at == '{')
        return json_object(t, at);
    const char *from = *at;
    if (*from == '"') {
        size_t n = strcspn(from + 1, "\"");
        *at += n + 1 + (from[n + 1] != '\0');
        return (struct value){STRING, .s = toy_atom(t, from + 1, n)};
    }
    char *end;
    struct value v = {NUMBER, .n = strtoll(from, &end, 10)};
    *at = end + strcspn(end, ",}");
    return end == from ? (struct value){NIL, .n = 0} : v;
}

static struct value json(struct toy *t, struct value arg)
{
    const char *at = arg.type == STRING ? arg.s->text : "";
    return json_value(t, &at);
}

static struct value later(struct toy *t, struct value arg)
{
    t->jobs += arg.type == FUNCTION;
    return arg;
}

static struct value jobs(struct toy *t, struct value arg)
{
    (void)arg;
    return (struct value){NUMBER, .n = t->jobs};
}

static struct value length(struct toy *t, struct value arg)
{
    (void)t;
    return (struct value){NUMBER, .n = arg.type == STRING   ? arg.s->len
                                       : arg.type == OBJECT ? arg.o->count
                                                            : 0};
}

static void define(struct toy *t, const char *key, struct value v)
{
    set(t, t->globals, toy_atom(t, key, strlen(key)), v);
}

static struct value evaluate(struct toy *t, const char *source)
{
    struct function *f = toy_take(t, sizeof *f);
    f->code = toy_compile(t, source);
    t->depth = 0;
    return run(t, f, t->stack);
}

/* As the libraries of engines: 40 prototypes with methods, and functions of the language itself. */
static void start(struct toy *t)
{
    char key[64];
    t->atom_cap = 4096;
    t->atoms = toy_take(t, t->atom_cap * sizeof(struct string *));
    t->globals = object_new(t, NULL, 128);
    t->object = object_new(t, NULL, 16);
    define(t, "Object", (struct value){OBJECT, .o = t->object});
    define(t, "json", (struct value){NATIVE, .native = json});
    define(t, "later", (struct value){NATIVE, .native = later});
    define(t, "jobs", (struct value){NATIVE, .native = jobs});
    define(t, "length", (struct value){NATIVE, .native = length});
    for (int i = 0; i < 40; i++) {
        struct object *o = object_new(t, t->object, 8);
        for (int k = 0; k < 20; k++) {
            struct object *method = object_new(t, t->object, 4);
            set(t, method, toy_atom(t, "call", 4), (struct value){NATIVE, .native = length});
            int n = snprintf(key, sizeof key, "method%d_%d", i, k);
            set(t, o, toy_atom(t, key, (size_t)n), (struct value){OBJECT, .o = method});
        }
        snprintf(key, sizeof key, "Library%d", i);
        define(t, key, (struct value){OBJECT, .o = o});
        snprintf(key, sizeof key, "(set f%d (fn (x) (fn (y) (+ x (* y %d)))))", i, i);
        evaluate(t, key);
    }
}

/* ---- the engine ---- */

struct toy *toy_open(void *(*alloc)(void *ud, size_t n), void (*give)(void *ud, void *p), void *ud)
{
    struct toy *t = alloc(ud, sizeof *t);
    if (t == NULL)
        return NULL;
    memset(t, 0, sizeof *t);
    t->alloc = alloc;
    t->give = give;
    t->ud = ud;
    if (setjmp(t->failed) == 0) {
        start(t);
        return t;
    }
    toy_close(t);
    return NULL;
}

void toy_close(struct toy *t)
{
    for (void **block = t->blocks, **before; block != NULL; block = before) {
        before = *block;
        t->give(t->ud, block);
    }
    t->give(t->ud, t);
}

int toy_run(struct toy *t, const char *source, char *out, size_t cap)
{
    if (setjmp(t->failed) != 0) {
        snprintf(out, cap, "%s", t->wrong);
        return -1;
    }
    text_of(evaluate(t, source), out, cap);
    return 0;
}

int toy_call(struct toy *t, const char *callee, const char *arg, size_t n, char *out, size_t cap)
{
    if (setjmp(t->failed) != 0) {
        snprintf(out, cap, "%s", t->wrong);
        return -1;
    }
    t->depth = 0;
    t->stack[0] = get(t->globals, toy_atom(t, callee, strlen(callee)));
    t->stack[1] = (struct value){STRING, .s = toy_atom(t, arg, n)};
    text_of(call(t, t->stack + 1, 1), out, cap);
    return 0;
}

void toy_on_tick(struct toy *t, void (*tick)(void))
{
    t->tick = tick;
}
