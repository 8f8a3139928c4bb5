/*
 * A small script engine for machines that have no other: a compiler to bytecode and its machine. It
 * allocates as engines do, and has what they have that a use may leave behind: globals, prototypes
 * with methods, a console, jobs.
 *
 *     { "n": 1, "all": [2, 3] } =t       values are pushed; =t pops a global, !x one of the scope
 *     (!x !y x y + t "n" get +) =add     code: its name runs it in a new scope, 'add pushes it
 *     2 1 add                            4; the last value is the program's result
 *     (t "n" get 9 <) (t "n" t "n" get 1 + put) while
 *     t "n" get 5 < ("few") ("many") if  code that runs in the scope around it
 *     "done" print  'add later           a line of the array `console`, a job of the array `jobs`
 *
 * Commas and colons are blanks, so JSON is a program, and is read by running it. Strings have no
 * escapes, nil counts as 0. Objects inherit from `Object`, a scope from its caller's, the first
 * from the globals.
 */
#include "engines.h"

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
#define INSTRUCTIONS(is) /* name in programs, how many it pops: a, b and c, and what it does */    \
    is(ADD,    "+",      2, push(t, NUMBER, .n = (int64_t)((uint64_t)a.n + (uint64_t)b.n)))        \
    is(LESS,   "<",      2, push(t, NUMBER, .n = a.n < b.n))                                       \
    is(GET,    "get",    2, push_value(t, get(want(t, a, OBJECT).o, b)))                           \
    is(PUT,    "put",    3, put(t, want(t, a, OBJECT).o, b, c))                                    \
    is(LENGTH, "length", 1, push(t, NUMBER, .n = want(t, a, OBJECT).o->count))                     \
    is(IF,     "if",     3, run(t, a.n != 0 ? b : c))                                              \
    is(WHILE,  "while",  2, while (run(t, a), pop(t, 1)->n != 0) run(t, b))                        \
    is(JSON,   "json",   1, call(t, compile(t, want(t, a, STRING).s)))                             \
    is(BEGIN,  "{",      0, push(t, OPENED, .n = 0))                                               \
    is(END,    "}",      0, collect(t, 1))                                                         \
    is(OPEN,   "[",      0, push(t, OPENED, .n = 0))                                               \
    is(CLOSE,  "]",      0, collect(t, 0))                                                         \
    is(ROW,    "row",    0, push_string(t, t->row, t->row_bytes))                                  \
    is(ROOT,   "Object", 0, push(t, OBJECT, .o = &t->object))                                      \
    is(CALL,   "call",   1, call(t, get(t->scope, a)))                                             \
    is(QUOTE,  "'",      1, push_value(t, get(t->scope, a)))                                       \
    is(GLOBAL, "=",      2, put(t, &t->globals, b, a))                                             \
    is(LOCAL,  "!",      2, put(t, t->scope, b, a))
#define AS_OP(op, name, pops, what)   DO_##op,
#define AS_ROW(op, name, pops, what)  {name, pops},
#define AS_CASE(op, name, pops, what) case DO_##op: what; break;
/* clang-format on */

enum { INSTRUCTIONS(AS_OP) OPS, STACK = 512, DEPTH = 100, TICK = 1000, BUCKETS = 8 };
enum type { NIL, NUMBER, STRING, OBJECT, CODE, OPENED, OP };

static const struct {
    const char *name;
    int pops;
} ops[] = {INSTRUCTIONS(AS_ROW)};

struct value {
    enum type type;
    union {
        int64_t n; /* which OP, too; not 0 is true */
        const char *s;
        struct object *o;
        const struct value *code; /* OPs, and values that are pushed; NIL is the end */
    };
};

/* The prototype has what is not there. */
struct object {
    struct object *proto;
    int64_t count;
    struct field {
        struct value key, value;
        struct field *next;
    } * bucket[BUCKETS];
};

struct toy {
    struct ash_heap *heap; /* NULL: malloc */
    void **blocks;         /* all there are, each linked to the one before */
    struct object globals, object, *scope;
    struct value stack[STACK], *sp;
    const char *row, *at, *wrong; /* the argument; of the source; what has failed */
    size_t row_bytes;
    unsigned depth, ticks;
    int watched;
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

/* Frees what was taken since `mark` was the last block. */
static void give(struct toy *t, void **mark)
{
    for (void **block; (block = t->blocks) != mark;) {
        t->blocks = *block;
        t->heap != NULL ? ash_heap_free(t->heap, block) : free(block);
    }
}

/* ---- values ---- */

#define push(t, type, member) push_value(t, (struct value){type, member})

static void push_value(struct toy *t, struct value v)
{
    if (t->sp == t->stack + STACK - 2) /* below b and c */
        fail(t, "too many values");
    *t->sp++ = v;
}

/* The first of `n` values. */
static const struct value *pop(struct toy *t, int n)
{
    if (t->sp - t->stack < n)
        fail(t, "a value is missing");
    return t->sp -= n;
}

static struct value want(struct toy *t, struct value v, enum type type)
{
    if (v.type != type)
        fail(t, "a value is of the wrong type");
    return v;
}

static struct object *object_new(struct toy *t, struct object *proto)
{
    struct object *o = take(t, sizeof *o);
    o->proto = proto;
    return o;
}

/* The field, or where it is to be linked. */
static struct field **find(struct object *o, struct value key)
{
    const char *text = key.type == STRING ? key.s : "";
    uint64_t hash = key.type == STRING ? 0 : (uint64_t)key.n;
    for (const char *s = text; *s != '\0'; s++)
        hash = hash * 31 + (unsigned char)*s;
    struct field **f = &o->bucket[hash % BUCKETS];
    for (; *f != NULL; f = &(*f)->next)
        if ((*f)->key.type == key.type &&
            (key.type == STRING ? strcmp((*f)->key.s, text) == 0 : (*f)->key.n == key.n))
            break;
    return f;
}

static struct value get(struct object *o, struct value key)
{
    struct field *f = *find(o, key);
    while (f == NULL && (o = o->proto) != NULL)
        f = *find(o, key);
    return f != NULL ? f->value : (struct value){.type = NIL};
}

static void put(struct toy *t, struct object *o, struct value key, struct value v)
{
    struct field **f = find(o, key);
    if (*f == NULL) {
        *f = take(t, sizeof **f);
        o->count++;
    }
    (*f)->key = key;
    (*f)->value = v;
}

/* Makes an object of what was pushed since the last that was opened. */
static void collect(struct toy *t, int keyed)
{
    struct object *o = object_new(t, &t->object);
    struct value *from = t->sp;
    do
        if (from == t->stack)
            fail(t, "nothing is open");
    while ((--from)->type != OPENED);
    for (struct value *v = from + 1; v + keyed < t->sp; v += 1 + keyed)
        put(t, o, keyed ? *v : (struct value){NUMBER, .n = o->count}, v[keyed]);
    t->sp = from;
    push(t, OBJECT, .o = o);
}

/* ---- the compiler, whose code grows on the stack ---- */

static void push_string(struct toy *t, const char *from, size_t n)
{
    push(t, STRING, .s = memcpy(take(t, n + 1), from, n));
}

/* A string, a name with or without a sign, or an instruction's: behind it. */
static const char *compile_word(struct toy *t, const char *from)
{
    int64_t op = 0;
    size_t sign = strchr("\"'=!", *from) != NULL;
    size_t n = strcspn(from + sign, *from == '"' ? "\"" : " \n\t,:()[]{}\"");
    n += sign + n == 0; /* a bracket */
    size_t length = sign != 0 ? 1 : n;
    while (op < OPS && (strncmp(ops[op].name, from, length) != 0 || ops[op].name[length] != '\0'))
        op++;
    if (sign != 0 || op == OPS)
        push_string(t, from + sign, n);
    if (*from != '"')
        push(t, OP, .n = op == OPS ? DO_CALL : op);
    return from + sign + n + (*from == '"' && from[1 + n] == '"');
}

/* What lies before the end, or a `)`. */
static struct value compile(struct toy *t, const char *from)
{
    char *after;
    struct value *first = t->sp;
    push(t, OPENED, .n = 0); /* so that what is too deep is too many values */
    while (*(from += strspn(from, " \n\t,:")) != '\0' && *from != ')') {
        int64_t n = strtoll(from, &after, 10);
        if (after != from) {
            push(t, NUMBER, .n = n);
            from = after;
        } else if (*from == '(') {
            push_value(t, compile(t, from + 1));
            from = t->at;
        } else
            from = compile_word(t, from);
    }
    t->at = from + (*from == ')');
    push(t, NIL, .n = 0);
    size_t bytes = (size_t)(t->sp - first - 1) * sizeof *first;
    t->sp = first;
    return (struct value){CODE, .code = memcpy(take(t, bytes), first + 1, bytes)};
}

/* ---- the machine ---- */

static void operate(struct toy *t, int64_t op);

/* What is no code is its own value. */
static void run(struct toy *t, struct value code)
{
    if (++t->depth > DEPTH)
        fail(t, "too deep");
    if (code.type != CODE)
        push_value(t, code);
    else
        for (const struct value *i = code.code; i->type != NIL; i++)
            i->type == OP ? operate(t, i->n) : push_value(t, *i);
    t->depth--;
}

static void call(struct toy *t, struct value v)
{
    struct object *outer = t->scope;
    t->scope = v.type == CODE ? object_new(t, outer) : outer;
    run(t, v);
    t->scope = outer;
}

static void operate(struct toy *t, int64_t op)
{
    const struct value *top = pop(t, ops[op].pops);
    struct value a = top[0], b = top[1], c = top[2];
    if (++t->ticks % TICK == 0 && t->watched)
        engine_ticker();
    switch (op) {
        INSTRUCTIONS(AS_CASE)
    }
}

/* ---- the engine ---- */

static int toy_run(void *root, const char *program, char *out, size_t cap)
{
    static const char *const types[] = {"nil", "", "", "object", "code", "", ""};
    struct toy *t = root;
    t->depth = 0;
    t->sp = t->stack;
    t->scope = &t->globals;
    if (setjmp(t->failed) != 0) {
        snprintf(out, cap, "%s", t->wrong);
        return -1;
    }
    call(t, compile(t, program));
    const struct value v = t->sp > t->stack ? t->sp[-1] : (struct value){.type = NIL};
    if (v.type == NUMBER)
        snprintf(out, cap, "%lld", (long long)v.n);
    else
        snprintf(out, cap, "%s", v.type == STRING ? v.s : types[v.type]);
    return 0;
}

static int toy_call(void *root, const char *row, size_t n, char *out, size_t cap)
{
    struct toy *t = root;
    t->row = row;
    t->row_bytes = n;
    return toy_run(t, "handle", out, cap);
}

/* The globals of another program, which inherit from the first one's. */
static int toy_context(void *root, const char *program)
{
    struct toy *t = root;
    struct object outer = t->globals;
    void **mark = t->blocks;
    char text[64];
    t->globals = (struct object){.proto = &outer};
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

static void *toy_open(struct ash_heap *heap)
{
    struct toy *t = heap != NULL ? ash_heap_calloc(heap, 1, sizeof *t) : calloc(1, sizeof *t);
    if (t != NULL)
        t->heap = heap;
    return t;
}

static void toy_watch(void *root, int watched)
{
    ((struct toy *)root)->watched = watched;
}

const struct engine engine_toy = {
    .name = "toy",
    .library = "(!all !item all all length 'item put) =append"
               " [] =console (console append) =print [] =jobs (jobs append) =later"
               " [] =Library 0 =i (i 12 <) ([] =o o Library append i 1 + =i"
               " 0 =k (k 12 <) ({\"number\": k \"call\": 'later} o append k 1 + =k) while) while",
    .before = "(",
    .after = ") =handle",
    .extract = "row json \"value\" get",
    .spoil = "1 =leak Object \"poison\" 2 put 'later later \"seen\" print 7 =later",
    .spoiled = "leak {} \"poison\" get + jobs length + console length + 'later 8 < +",
    .clean = "0",
    .endless = "[] =all (1) (all length all append) while",
    .hungry = "[] =all (1) (all length all append) while",
    .open = toy_open,
    .close = toy_close,
    .context = toy_context,
    .call = toy_call,
    .run = toy_run,
    .watch = toy_watch,
};
