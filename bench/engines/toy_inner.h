/*
 * What the machine (toy.c) and the compiler (toy_compile.c) of the small engine share. Instructions
 * are words, {operand : 24 | enum op : 8}; each function has its constants.
 */
#ifndef TOY_INNER_H
#define TOY_INNER_H

#include "toy.h"

#include <setjmp.h>

enum { STACK = 512, LOCALS = 32, TICK = 1000, DEPTH = 64 };
enum type { NIL, NUMBER, STRING, OBJECT, FUNCTION, NATIVE };
enum op {
    CONST,
    GLOBAL,
    SET_GLOBAL,
    LOCAL,
    SET_LOCAL,
    CAPTURED,
    GET,
    SET,
    ADD,
    SUB,
    MUL,
    LESS,
    EQUAL,
    JUMP,
    JUMP_IF_NOT,
    CALL,
    RETURN,
    NEW,
    CLOSURE,
    POP
};

struct value {
    enum type type;
    union {
        int64_t n;
        struct string *s;
        struct object *o;
        struct function *f;
        struct code *code; /* a constant of CLOSURE */
        struct value (*native)(struct toy *t, struct value arg);
    };
};

/* Strings are atoms: equal ones are one. */
struct string {
    struct string *chain;
    uint32_t hash, len;
    char text[];
};

/* Open addressing, `cap` a power of two; prototypes are looked at for what is not there. */
struct object {
    struct object *proto;
    uint32_t count, cap;
    struct field {
        struct string *key;
        struct value value;
    } * fields;
};

struct code {
    uint32_t *ops, count, cap;
    struct value *consts;
    uint32_t const_count, const_cap, params, captures;
    uint32_t from[LOCALS]; /* what a closure captures: a local of the outer one, or LOCALS + its */
};

struct function {
    struct code *code;
    struct value captured[];
};

/* While a function is compiled. */
struct scope {
    struct scope *outer;
    struct code *code;
    const struct string *local[LOCALS], *captured[LOCALS];
    uint32_t locals;
};

struct toy {
    void *(*alloc)(void *ud, size_t n);
    void (*give)(void *ud, void *p);
    void *ud, *blocks; /* all that was allocated, each linked to the one before */
    struct string **atoms;
    uint32_t atom_count, atom_cap, depth, jobs, ticks;
    struct object *globals, *object;
    struct value stack[STACK];
    const char *at, *wrong; /* of the source; what has failed */
    struct scope *scope;
    void (*tick)(void);
    jmp_buf failed;
};

/* To toy_run or toy_call, which then fails. */
_Noreturn void toy_fail(struct toy *t, const char *what);

/* Zeroed memory until the end of the engine. */
void *toy_take(struct toy *t, size_t n);

struct string *toy_atom(struct toy *t, const char *text, size_t n);

/* Compiles a whole program, which has no arguments. */
struct code *toy_compile(struct toy *t, const char *source);

#endif
