/*
 * A reader of JSON (RFC 8259) for files that may hold anything: one value with nothing behind it,
 * nested 64 deep at most. The text is read where it lies and changed: strings are decoded in place.
 */
#ifndef ASHLAR_TOOLS_JSON_H
#define ASHLAR_TOOLS_JSON_H

#include <stddef.h>

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_type type;
    const char *name;    /* as a member of an object; else NULL */
    const char *text;    /* of a string, which may hold NULs */
    double number;       /* 1 and 0 of a bool */
    struct json *member; /* the first, of an array or object */
    struct json *next;   /* the next in the same array or object */
};

/*
 * The value that `text`, of `n` bytes and a NUL, holds; to be given to free(). NULL: there is no
 * memory, or, and then *wrong is where, it is not JSON.
 */
struct json *json_read(char *text, size_t n, const char **wrong);

/* The member of the name; NULL: there is none, or `object` is NULL or not an object. */
const struct json *json_get(const struct json *object, const char *name);

/* The number of that name, 0 where there is none; what counts nothing is the nearest that may. */
double json_number(const struct json *object, const char *name);

#endif
