#include "toy_inner.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void *grown(struct toy *t, const void *old, uint32_t count, uint32_t *cap, size_t size)
{
    *cap = *cap == 0 ? 8 : 2 * *cap;
    void *p = toy_take(t, *cap * size);
    return count == 0 ? p : memcpy(p, old, count * size);
}

static uint32_t emit(struct toy *t, enum op op, uint32_t n)
{
    struct code *c = t->scope->code;
    if (c->count == c->cap)
        c->ops = grown(t, c->ops, c->count, &c->cap, sizeof *c->ops);
    c->ops[c->count] = (uint32_t)op | n << 8;
    return c->count++;
}

static uint32_t constant(struct toy *t, struct value v)
{
    struct code *c = t->scope->code;
    if (c->const_count == c->const_cap)
        c->consts = grown(t, c->consts, c->const_count, &c->const_cap, sizeof v);
    c->consts[c->const_count] = v;
    return c->const_count++;
}

/* Lets the jump at `from` go to what comes next. */
static void land(struct toy *t, uint32_t from)
{
    t->scope->code->ops[from] |= t->scope->code->count << 8;
}

static char next(struct toy *t)
{
    while (*t->at != '\0' && (*t->at == ' ' || *t->at == '\n' || *t->at == '\t'))
        t->at++;
    return *t->at;
}

static void want(struct toy *t, char c)
{
    if (next(t) != c)
        toy_fail(t, c == '(' ? "( is wanted" : ") is wanted");
    t->at++;
}

static struct string *word(struct toy *t)
{
    next(t);
    size_t n = strcspn(t->at, " \n\t()\"");
    if (n == 0)
        toy_fail(t, "a name is wanted");
    t->at += n;
    return toy_atom(t, t->at - n, n);
}

static uint32_t declare(struct toy *t, const struct string *name)
{
    struct scope *s = t->scope;
    if (s->locals == LOCALS)
        toy_fail(t, "too many variables");
    s->local[s->locals] = name;
    return s->locals++;
}

/* Where the scope finds a name: a local, LOCALS + what it captures, or UINT32_MAX. */
static uint32_t resolve(struct toy *t, struct scope *s, const struct string *name)
{
    for (uint32_t i = s->locals; i-- > 0;)
        if (s->local[i] == name)
            return i;
    for (uint32_t i = 0; i < s->code->captures; i++)
        if (s->captured[i] == name)
            return LOCALS + i;
    uint32_t outer = s->outer == NULL ? UINT32_MAX : resolve(t, s->outer, name);
    if (outer == UINT32_MAX)
        return outer;
    if (s->code->captures == LOCALS)
        toy_fail(t, "too many variables");
    s->captured[s->code->captures] = name;
    s->code->from[s->code->captures] = outer;
    return LOCALS + s->code->captures++;
}

static void expression(struct toy *t);

/* Expressions up to the closing parenthesis; the last one's value stays. */
static void sequence(struct toy *t)
{
    emit(t, CONST, constant(t, (struct value){NIL, .n = 0}));
    while (next(t) != ')' && *t->at != '\0') {
        emit(t, POP, 0);
        expression(t);
    }
}

static struct code *function(struct toy *t, bool whole)
{
    struct scope inner = {.outer = t->scope, .code = toy_take(t, sizeof *inner.code)};
    t->scope = &inner;
    if (!whole) {
        for (want(t, '('); next(t) != ')'; inner.code->params++)
            declare(t, word(t));
        want(t, ')');
    }
    sequence(t);
    emit(t, RETURN, 0);
    t->scope = inner.outer;
    return inner.code;
}

static void text(struct toy *t)
{
    char buf[256];
    size_t n = 0;
    for (t->at++; *t->at != '"'; n++) {
        t->at += *t->at == '\\';
        if (*t->at == '\0' || n == sizeof buf)
            toy_fail(t, "a string has no end");
        buf[n] = *t->at++;
    }
    t->at++;
    emit(t, CONST, constant(t, (struct value){STRING, .s = toy_atom(t, buf, n)}));
}

/* A number, or a variable; `set`: the value on the stack becomes the variable's. */
static void name(struct toy *t, const struct string *s, bool assign)
{
    uint32_t at = resolve(t, t->scope, s);
    if (at < LOCALS)
        emit(t, assign ? SET_LOCAL : LOCAL, at);
    else if (at != UINT32_MAX && assign)
        toy_fail(t, "what is captured does not change");
    else if (at != UINT32_MAX)
        emit(t, CAPTURED, at - LOCALS);
    else
        emit(t, assign ? SET_GLOBAL : GLOBAL,
             constant(t, (struct value){STRING, .s = toy_atom(t, s->text, s->len)}));
}

static void condition(struct toy *t)
{
    expression(t);
    uint32_t skip = emit(t, JUMP_IF_NOT, 0);
    expression(t);
    uint32_t end = emit(t, JUMP, 0);
    land(t, skip);
    if (next(t) == ')')
        emit(t, CONST, constant(t, (struct value){NIL, .n = 0}));
    else
        expression(t);
    land(t, end);
}

static void loop(struct toy *t)
{
    uint32_t start = t->scope->code->count;
    expression(t);
    uint32_t end = emit(t, JUMP_IF_NOT, 0);
    sequence(t);
    emit(t, POP, 0);
    emit(t, JUMP, start);
    land(t, end);
    emit(t, CONST, constant(t, (struct value){NIL, .n = 0}));
}

/* Forms of fixed length: so many expressions, then an instruction. */
static bool simple_form(struct toy *t, const char *head)
{
    static const struct {
        const char *head;
        int expressions;
        enum op op;
    } forms[] = {{"+", 2, ADD},   {"-", 2, SUB},   {"*", 2, MUL},   {"<", 2, LESS},
                 {"=", 2, EQUAL}, {"get", 2, GET}, {"put", 3, SET}, {"new", 0, NEW}};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        if (strcmp(head, forms[i].head) == 0) {
            for (int n = 0; n < forms[i].expressions; n++)
                expression(t);
            emit(t, forms[i].op, 0);
            return true;
        }
    return false;
}

static void form(struct toy *t)
{
    const char *start = t->at;
    const struct string *head = next(t) == '(' ? NULL : word(t), *target;
    const char *is = head == NULL ? "" : head->text;
    bool var = strcmp(is, "var") == 0;
    if (var || strcmp(is, "set") == 0) {
        target = word(t);
        expression(t);
        if (var)
            declare(t, target);
        name(t, target, true);
    } else if (strcmp(is, "if") == 0) {
        condition(t);
    } else if (strcmp(is, "while") == 0) {
        loop(t);
    } else if (strcmp(is, "do") == 0) {
        sequence(t);
    } else if (strcmp(is, "fn") == 0) {
        struct code *c = function(t, false);
        emit(t, CLOSURE, constant(t, (struct value){NIL, .code = c}));
    } else if (!simple_form(t, is)) {
        uint32_t n = 0;
        t->at = start;
        for (expression(t); next(t) != ')'; n++)
            expression(t);
        emit(t, CALL, n);
    }
    want(t, ')');
}

static void expression(struct toy *t)
{
    char c = next(t);
    if (c == '(') {
        t->at++;
        form(t);
    } else if (c == '"') {
        text(t);
    } else if ((c >= '0' && c <= '9') || (c == '-' && t->at[1] >= '0' && t->at[1] <= '9')) {
        char *end;
        struct value v = {NUMBER, .n = strtoll(t->at, &end, 10)};
        t->at = end;
        emit(t, CONST, constant(t, v));
    } else {
        name(t, word(t), false);
    }
}

struct code *toy_compile(struct toy *t, const char *source)
{
    t->at = source;
    t->scope = NULL;
    struct code *c = function(t, true);
    if (*t->at != '\0')
        toy_fail(t, "too many )");
    return c;
}
