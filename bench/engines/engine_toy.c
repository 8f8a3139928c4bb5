/*
 * A small script engine for machines that have no other: a compiler to bytecode and its machine. It
 * allocates as engines do: strings, hashed objects, arrays, scopes and closures, and at its start a
 * library of prototypes with methods. What it has made is freed at its end.
 *
 *     { "n": 1, "all": [2, 3] } =t          values are pushed; =t pops a global, !x one of its own
 *     (!x (!y x y + t "n" get +)) =add      a function: its name calls it, 'add pushes it
 *     2 1 add call                          4
 *     (t "n" get 9 <) (t "n" t "n" get 1 + put) while
 *     t "n" get 5 < ("few") ("many") if
 *     'add later                            a pending job, in the array `jobs`; nobody runs it here
 *
 * Commas and colons are blanks, so JSON is a program, and is run as one. Objects inherit from
 * `Object`, scopes from the scope around them, and last from the globals.
 */
#include "engines.h"

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Its name in programs, how many values it pops, which are a[0] and up, and what it does. */
/* clang-format off: a table */
#define INSTRUCTIONS(is)                                                                           \
    is(ADD, "+", 2, push(t, add(t, a[0], a[1]))) is(                                               \
        LESS, "<", 2, push(t, number(a[0].n < a[1].n))) is(GET, "get", 2,                          \
                                                           push(t, get(object(t, a[0]), a[1])))    \
        is(PUT, "put", 3, put(t, object(t, a[0]), a[1], a[2])) is(                                 \
            LENGTH, "length", 1, push(t, number(object(t, a[0])->count))) is(CALL, "call", 1,      \
                                                                             call(t, a[0]))        \
            is(IF, "if", 3,                                                                        \
               call(t, is_true(a[0]) ? a[1] : a[2])) is(WHILE, "while", 2, loop(t, a[0], a[1]))    \
                is(JSON, "json", 1, evaluate(t, text_of(a[0], text)))                              \
                    is(OPEN, "{", 0,                                                               \
                       push(t, (struct value){.type = MARK})) is(CLOSE, "}", 0, collect(t, 1))     \
                        is(OPEN_ARRAY, "[", 0, push(t, (struct value){.type = MARK})) is(          \
                            CLOSE_ARRAY, "]", 0, collect(t, 0)) is(PUSH, NULL, 0, push(t, i->v))   \
                            is(CLOSURE, NULL, 0, push(t, closure(t, i->v.code, scope)))            \
                                is(NAME, NULL, 0, call(t, get(scope, i->v)))                       \
                                    is(QUOTE, NULL, 0, push(t, get(scope, i->v)))                  \
                                        is(SET, NULL, 1, put(t, t->globals, i->v, a[0]))           \
                                            is(DECLARE, NULL, 1, put(t, scope, i->v, a[0]))
/* clang-format on */

#define AS_OP(op, name, pops, what)  op,
#define AS_ROW(op, name, pops, what) {name, pops},
#define AS_CASE(op, name, pops, what)                                                              \
    case op:                                                                                       \
        what;                                                                                      \
        break;

enum op { INSTRUCTIONS(AS_OP) RETURN };
enum type { NIL, NUMBER, STRING, OBJECT, FUNCTION, MARK };
enum { STACK = 512, DEPTH = 100, TICK = 1000, CODE = 128, TEXT = 512 };

static const struct {
    const char *name;
    int pops;
} ops[] = {INSTRUCTIONS(AS_ROW){NULL, 0}};
static const char signs[] = "'=!", blanks[] = " \n\t,:", ends[] = " \n\t,:()[]{}\"";

struct value {
    enum type type;
    union {
        int64_t n;
        struct string *s;
        struct object *o;
        struct function *f;
        const struct instruction *code;
    };
};

struct string {
    uint32_t hash;
    char text[];
};

/* Open addressing, `cap` a power of two; the prototype has what is not there. */
struct object {
    struct object *proto;
    uint32_t count, cap;
    struct field {
        struct value key, value;
    } * fields;
};

struct instruction {
    enum op op;
    struct value v;
};

struct function {
    const struct instruction *code;
    struct object *scope;
};

struct toy {
    struct ash_heap *heap; /* NULL: malloc */
    void **blocks;         /* all there are, each linked to the one before */
    struct object *globals, *object;
    struct value stack[STACK], *sp;
    unsigned depth, ticks;
    int watched;
    const char *at, *wrong; /* of the source; what has failed */
    jmp_buf failed;
};

static _Noreturn void fail(struct toy *t, const char *what)
{
    t->wrong = what;
    longjmp(t->failed, 1);
}

static void *take(struct toy *t, size_t n)
{
    void **block = t->heap != NULL ? ash_heap_calloc(t->heap, 1, n + 16) : calloc(1, n + 16);
    if (block == NULL)
        fail(t, "not enough memory");
    *block = t->blocks;
    t->blocks = block;
    return block + 2;
}

/* What was taken since `mark` was the last block. */
static void give(struct toy *t, void **mark)
{
    for (void **block; (block = t->blocks) != mark;) {
        t->blocks = *block;
        t->heap != NULL ? ash_heap_free(t->heap, block) : free(block);
    }
}

static void deeper(struct toy *t)
{
    if (++t->depth > DEPTH)
        fail(t, "too deep");
}

/* ---- values ---- */

static struct value number(int64_t n)
{
    return (struct value){NUMBER, .n = n};
}

static struct value string(struct toy *t, const char *text, size_t n)
{
    struct string *s = take(t, sizeof *s + n + 1);
    memcpy(s->text, text, n);
    for (size_t i = 0; i < n; i++)
        s->hash = (s->hash ^ (unsigned char)text[i]) * 16777619u;
    return (struct value){STRING, .s = s};
}

static const char *text_of(struct value v, char number[24])
{
    static const char *const other[] = {"nil", "", "", "object", "function", "["};
    snprintf(number, 24, "%lld", (long long)v.n);
    return v.type == NUMBER ? number : v.type == STRING ? v.s->text : other[v.type];
}

static struct object *object_new(struct toy *t, struct object *proto)
{
    struct object *o = take(t, sizeof *o);
    *o = (struct object){.proto = proto, .cap = 4, .fields = take(t, 4 * sizeof *o->fields)};
    return o;
}

static struct object *object(struct toy *t, struct value v)
{
    if (v.type != OBJECT)
        fail(t, "an object is wanted");
    return v.o;
}

static struct field *find(const struct object *o, struct value key)
{
    uint64_t i = key.type == STRING ? key.s->hash : (uint64_t)key.n;
    for (struct field *f;; i++) {
        f = &o->fields[i & (o->cap - 1)];
        if (f->key.type == NIL || (f->key.type == key.type && f->key.n == key.n))
            return f;
        if (f->key.type == STRING && key.type == STRING && strcmp(f->key.s->text, key.s->text) == 0)
            return f;
    }
}

static struct value get(const struct object *o, struct value key)
{
    const struct field *f = find(o, key);
    while (f->key.type == NIL && (o = o->proto) != NULL)
        f = find(o, key);
    return f->value;
}

static void put(struct toy *t, struct object *o, struct value key, struct value v)
{
    struct field *f = find(o, key), *old = o->fields;
    if (f->key.type == NIL && 4 * ++o->count > 3 * o->cap) {
        o->cap *= 2;
        o->fields = take(t, o->cap * sizeof *f);
        for (uint32_t i = 0; i < o->cap / 2; i++)
            *find(o, old[i].key) = old[i]; /* nil's goes nowhere */
        f = find(o, key);
    }
    *f = (struct field){key, v};
}

/* ---- the compiler ---- */

static struct instruction name(struct toy *t, const char *from)
{
    const char *sign = strchr(signs, *from);
    from += sign != NULL;
    size_t n = strchr(ends, *from) != NULL ? 1 : strcspn(from, ends);
    t->at = from + n;
    for (enum op op = 0; sign == NULL && ops[op].name != NULL; op++)
        if (strncmp(ops[op].name, from, n) == 0 && ops[op].name[n] == '\0')
            return (struct instruction){.op = op};
    enum op op = sign != NULL ? QUOTE + (enum op)(sign - signs) : NAME;
    return (struct instruction){op, string(t, from, n)};
}

/* What lies up to `end`. */
static const struct instruction *compile(struct toy *t, char end)
{
    struct instruction code[CODE], *i = code;
    for (deeper(t); *(t->at += strspn(t->at, blanks)) != end; i++) {
        char *after;
        const char *from = t->at++;
        struct value n = number(strtoll(from, &after, 10));
        if (i == code + CODE - 1 || *from == '\0')
            fail(t, "too long, or without an end");
        if (after != from) {
            *i = (struct instruction){PUSH, n};
            t->at = after;
        } else if (*from == '"') {
            t->at += strcspn(t->at, "\"");
            *i = (struct instruction){PUSH, string(t, from + 1, (size_t)(t->at - from - 1))};
            t->at += *t->at == '"';
        } else if (*from == '(') {
            *i = (struct instruction){CLOSURE, {.code = compile(t, ')')}};
        } else
            *i = name(t, from);
    }
    t->depth--;
    t->at += end != '\0';
    *i++ = (struct instruction){.op = RETURN};
    size_t bytes = (size_t)(i - code) * sizeof *i;
    return memcpy(take(t, bytes), code, bytes);
}

/* ---- the machine ---- */

static void run(struct toy *t, const struct instruction *i, struct object *scope);

static void push(struct toy *t, struct value v)
{
    if (t->sp == t->stack + STACK)
        fail(t, "too many values");
    *t->sp++ = v;
}

/* The first of `n` values. */
static const struct value *pop(struct toy *t, int n)
{
    t->sp -= n;
    if (t->sp <= t->stack)
        fail(t, "a value is missing");
    return t->sp;
}

static struct value closure(struct toy *t, const struct instruction *code, struct object *scope)
{
    struct function *f = take(t, sizeof *f);
    *f = (struct function){code, scope};
    return (struct value){FUNCTION, .f = f};
}

static void call(struct toy *t, struct value v)
{
    if (v.type == FUNCTION)
        run(t, v.f->code, object_new(t, v.f->scope));
    else
        push(t, v);
}

static int is_true(struct value v)
{
    return v.type != NIL && (v.type != NUMBER || v.n != 0);
}

static void loop(struct toy *t, struct value condition, struct value body)
{
    for (call(t, condition); is_true(*pop(t, 1)); call(t, condition))
        call(t, body);
}

static void evaluate(struct toy *t, const char *source)
{
    t->at = source;
    run(t, compile(t, '\0'), object_new(t, t->globals));
}

/* Makes an object of what was pushed since a mark. */
static void collect(struct toy *t, int keyed)
{
    struct object *o = object_new(t, t->object);
    struct value *from = t->sp;
    for (; from[-1].type != MARK; from--)
        if (from == t->stack + 1)
            fail(t, "nothing is open");
    for (struct value *v = from; v + keyed < t->sp; v += 1 + keyed)
        put(t, o, keyed ? *v : number(o->count), v[keyed]);
    t->sp = from - 1;
    push(t, (struct value){OBJECT, .o = o});
}

static struct value add(struct toy *t, struct value a, struct value b)
{
    char x[24], y[24], all[TEXT];
    if (a.type == NUMBER && b.type == NUMBER)
        return number((int64_t)((uint64_t)a.n + (uint64_t)b.n));
    snprintf(all, sizeof all, "%s%s", text_of(a, x), text_of(b, y));
    return string(t, all, strlen(all));
}

static void run(struct toy *t, const struct instruction *i, struct object *scope)
{
    char text[24];
    for (deeper(t); i->op != RETURN; i++) {
        if (++t->ticks % TICK == 0 && t->watched)
            engine_ticker();
        const struct value *a = pop(t, ops[i->op].pops);
        switch (i->op) {
            INSTRUCTIONS(AS_CASE)
        case RETURN:
            break;
        }
    }
    t->depth--;
}

/* ---- the engine ---- */

/* Runs a program for an argument, which may be NULL. */
static int serve(struct toy *t, const char *program, const char *arg, size_t n, char *out,
                 size_t cap)
{
    char text[24];
    if (setjmp(t->failed) != 0) {
        snprintf(out, cap, "%s", t->wrong);
        return -1;
    }
    t->depth = 0;
    t->sp = t->stack + 1; /* a nil below what there is */
    if (arg != NULL)
        push(t, string(t, arg, n));
    evaluate(t, program);
    snprintf(out, cap, "%s", text_of(t->sp[-1], text));
    return 0;
}

static int toy_run(void *root, const char *program, char *out, size_t cap)
{
    return serve(root, program, NULL, 0, out, cap);
}

static int toy_call(void *root, const char *row, size_t n, char *out, size_t cap)
{
    return serve(root, "handle", row, n, out, cap);
}

/* The globals of another program, which inherit from the first one's. */
static int toy_context(void *root, const char *program)
{
    struct toy *t = root;
    struct object *outer = t->globals, own = {outer, 0, 4, (struct field[4]){{.key.type = NIL}}};
    void **mark = t->blocks;
    char text[24];
    t->globals = &own;
    int status = toy_run(t, program, text, sizeof text);
    t->globals = outer;
    give(t, mark);
    return status;
}

static void toy_close(void *root)
{
    struct toy *t = root;
    give(t, NULL);
    t->heap != NULL ? ash_heap_free(t->heap, t) : free(t);
}

/* As engines have: prototypes with methods, and functions of the language itself. */
static const char library[] =
    "[] =jobs (!job jobs jobs length 'job put) =later {} =Library 0 =i "
    "(i 12 <) ({} =o 0 =k Library i o put i 1 + =i"
    " (k 12 <) (o \"method\" i + \"_\" + k + {\"call\": 'later} put k 1 + =k) while) while";

static void *toy_open(struct ash_heap *heap, const char *program)
{
    char text[24];
    struct toy *t = heap != NULL ? ash_heap_calloc(heap, 1, sizeof *t) : calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->heap = heap;
    if (setjmp(t->failed) == 0) {
        t->globals = object_new(t, NULL);
        t->object = object_new(t, NULL);
        put(t, t->globals, string(t, "Object", 6), (struct value){OBJECT, .o = t->object});
        if (toy_run(t, library, text, sizeof text) == 0 &&
            toy_run(t, program, text, sizeof text) == 0)
            return t;
    }
    toy_close(t);
    return NULL;
}

static void toy_watch(void *root, int watched)
{
    ((struct toy *)root)->watched = watched;
}

const struct engine engine_toy = {
    .name = "toy",
    .before = "(!row ",
    .after = ") =handle",
    .extract = "row json \"value\" get",
    .spoil = "1 =leak Object \"poison\" 2 put 'later later 7 =later",
    .spoiled = "leak \" \" + {} \"poison\" get + \" \" + jobs length + \" \" + 'later +",
    .clean = "nil nil 0 function",
    .endless = "{} =all 0 =i (1) (i 1 + =i all \"k\" i + {} put) while",
    .hungry = "{} =all 0 =i (1) (i 1 + =i all \"k\" i + {} put) while",
    .open = toy_open,
    .close = toy_close,
    .context = toy_context,
    .call = toy_call,
    .run = toy_run,
    .watch = toy_watch,
};
