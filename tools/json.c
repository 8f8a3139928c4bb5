#include "json.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 64 };

struct reader {
    char *at, *end;     /* *end is NUL */
    struct json *fresh; /* the next node that is not in use */
    const char *wrong;  /* the first place that is, or NULL */
};

static bool fail(struct reader *r)
{
    if (r->wrong == NULL)
        r->wrong = r->at;
    return false;
}

static void skip_space(struct reader *r)
{
    while (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r')
        r->at++;
}

static bool take(struct reader *r, char c)
{
    skip_space(r);
    if (*r->at != c || r->at == r->end)
        return false;
    r->at++;
    return true;
}

/* Four hexadecimal digits; -1: they are not. */
static long take_hex(struct reader *r)
{
    long v = 0;
    for (int i = 0; i < 4; i++) {
        char c = *r->at;
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        v = v << 4 | digit;
        r->at++;
    }
    return v;
}

static char *put_utf8(char *out, unsigned long c)
{
    if (c < 0x80) {
        *out++ = (char)c;
        return out;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
    *out++ = (char)(lead[more] | c >> (6 * more));
    while (more-- > 0)
        *out++ = (char)(0x80 | (c >> (6 * more) & 0x3f));
    return out;
}

/* What stands behind a backslash; NULL: nothing that may. Never longer than it was. */
static char *take_escape(struct reader *r, char *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = *r->at++;
    const char *place = c != '\0' ? strchr(from, c) : NULL;
    if (place != NULL) {
        *out++ = to[place - from];
        return out;
    }
    if (c != 'u')
        return NULL;
    long unit = take_hex(r);
    if (unit >= 0xd800 && unit < 0xdc00 && r->at[0] == '\\' && r->at[1] == 'u') {
        r->at += 2;
        long low = take_hex(r);
        if (low < 0xdc00 || low > 0xdfff)
            return NULL;
        return put_utf8(out, 0x10000 + ((unsigned long)(unit - 0xd800) << 10) +
                                 (unsigned long)(low - 0xdc00));
    }
    return unit < 0 || (unit >= 0xd800 && unit < 0xe000) ? NULL : put_utf8(out, (unsigned)unit);
}

static const char *take_string(struct reader *r)
{
    if (!take(r, '"')) {
        fail(r);
        return NULL;
    }
    char *text = r->at, *out = text;
    while (*r->at != '"') {
        if ((unsigned char)*r->at < ' ') { /* the end too */
            fail(r);
            return NULL;
        }
        char c = *r->at++;
        if (c != '\\')
            *out++ = c;
        else if ((out = take_escape(r, out)) == NULL) {
            r->at--;
            fail(r);
            return NULL;
        }
    }
    r->at++;
    *out = '\0';
    return text;
}

static bool take_word(struct reader *r, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(r->at, word, n) != 0)
        return false;
    r->at += n;
    return true;
}

static bool take_digits(struct reader *r)
{
    char *from = r->at;
    while (*r->at >= '0' && *r->at <= '9')
        r->at++;
    return r->at > from;
}

static bool take_number(struct reader *r, double *out)
{
    char *from = r->at;
    r->at += *r->at == '-';
    bool zero = *r->at == '0';
    char *digits = r->at;
    if (!take_digits(r) || (zero && r->at - digits > 1))
        return fail(r);
    if (*r->at == '.') {
        r->at++;
        if (!take_digits(r))
            return fail(r);
    }
    if (*r->at == 'e' || *r->at == 'E') {
        r->at++;
        r->at += *r->at == '-' || *r->at == '+';
        if (!take_digits(r))
            return fail(r);
    }
    *out = strtod(from, NULL);
    return true;
}

static bool take_value(struct reader *r, struct json *v, int depth);

/* The inside of an array or object, up to and with `close`. */
static bool take_members(struct reader *r, struct json *v, char close, int depth)
{
    struct json **link = &v->member;
    if (depth == DEEPEST)
        return fail(r);
    if (take(r, close))
        return true;
    do {
        struct json *m = r->fresh++;
        if (close == '}') {
            m->name = take_string(r);
            if (m->name == NULL || !take(r, ':'))
                return fail(r);
        }
        if (!take_value(r, m, depth + 1))
            return false;
        *link = m;
        link = &m->next;
    } while (take(r, ','));
    return take(r, close) || fail(r);
}

static bool take_value(struct reader *r, struct json *v, int depth)
{
    skip_space(r);
    switch (*r->at) {
    case '{':
    case '[':
        v->type = *r->at == '{' ? JSON_OBJECT : JSON_ARRAY;
        return take_members(r, v, *r->at++ == '{' ? '}' : ']', depth);
    case '"':
        v->type = JSON_STRING;
        v->text = take_string(r);
        return v->text != NULL;
    case 't':
    case 'f':
        v->type = JSON_BOOL;
        v->number = *r->at == 't';
        return take_word(r, v->number != 0 ? "true" : "false") || fail(r);
    case 'n':
        return take_word(r, "null") || fail(r);
    default:
        v->type = JSON_NUMBER;
        return take_number(r, &v->number);
    }
}

struct json *json_read(char *text, size_t n, const char **wrong)
{
    size_t nodes = 1; /* before each value stands one of these, but before the first */
    for (size_t i = 0; i < n; i++)
        nodes += text[i] == ',' || text[i] == '[' || text[i] == '{';
    struct json *root = calloc(nodes, sizeof *root);
    struct reader r = {text, text + n, root + 1, NULL};
    *wrong = NULL;
    if (root == NULL)
        return NULL;
    if (take_value(&r, root, 0)) {
        skip_space(&r);
        if (r.at == r.end)
            return root;
        fail(&r);
    }
    *wrong = r.wrong;
    free(root);
    return NULL;
}

const struct json *json_get(const struct json *object, const char *name)
{
    if (object == NULL || object->type != JSON_OBJECT)
        return NULL;
    for (const struct json *m = object->member; m != NULL; m = m->next)
        if (strcmp(m->name, name) == 0)
            return m;
    return NULL;
}

double json_number(const struct json *object, const char *name)
{
    const struct json *m = json_get(object, name);
    double n = m != NULL && m->type == JSON_NUMBER && m->number > 0 ? m->number : 0;
    return n < 0x1p64 ? n : 0x1p64;
}
