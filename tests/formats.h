/*
 * Readers of the formats that statistics are written in, no larger than what they have to take: JSON of objects,
 * arrays, unsigned integers and strings without escapes; the text format of Prometheus, line by line.
 */
#ifndef ASH_TESTS_FORMATS_H
#define ASH_TESTS_FORMATS_H

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* ---- JSON ---- */

/* Skips one value of JSON; NULL when there is none. */
static const char *json_value(const char *s);

static const char *json_space(const char *s)
{
    return s + strspn(s, " \n");
}

static const char *json_string(const char *s)
{
    if (*s != '"')
        return NULL;
    for (s++; *s != '"'; s++)
        if (*s == '\0' || *s == '\\' || (unsigned char)*s < ' ')
            return NULL;
    return s + 1;
}

/* The inside of an object or array, from behind its opening to behind `close`. */
static const char *json_members(const char *s, char close)
{
    s = json_space(s);
    if (*s == close)
        return s + 1;
    for (;;) {
        s = json_space(s);
        if (close == '}') {
            s = json_string(s);
            if (s == NULL || *json_space(s) != ':')
                return NULL;
            s = json_space(s) + 1;
        }
        s = json_value(json_space(s));
        if (s == NULL)
            return NULL;
        s = json_space(s);
        if (*s == close)
            return s + 1;
        if (*s++ != ',')
            return NULL;
    }
}

__attribute__((unused)) static const char *json_value(const char *s)
{
    if (*s == '{' || *s == '[')
        return json_members(s + 1, *s == '{' ? '}' : ']');
    if (*s == '"')
        return json_string(s);
    size_t digits = strspn(s, "0123456789");
    return digits > 0 && (digits == 1 || *s != '0') ? s + digits : NULL;
}

/* The value of the member `name` of the object at `s`, all of which is right; NULL when there is none. */
__attribute__((unused)) static const char *json_member(const char *s, const char *name)
{
    size_t n = strlen(name);
    for (s = json_space(s + 1); *s != '}'; s = json_space(s + (*s == ','))) {
        const char *end = json_string(s);
        const char *value = json_space(json_space(end) + 1);
        if ((size_t)(end - s) == n + 2 && memcmp(s + 1, name, n) == 0)
            return value;
        s = json_space(json_value(value));
    }
    return NULL;
}

/* The first item of the array at `s`, or the one behind the item at `s`; NULL when there is none. */
__attribute__((unused)) static const char *json_first(const char *s)
{
    s = json_space(s + 1);
    return *s == ']' ? NULL : s;
}

__attribute__((unused)) static const char *json_next(const char *s)
{
    s = json_space(json_value(s));
    return *s == ',' ? json_space(s + 1) : NULL;
}

/* ---- Prometheus ---- */

static size_t name_length(const char *s)
{
    size_t n = 0;
    while (isalnum((unsigned char)s[n]) || s[n] == '_')
        n++;
    return n > 0 && !isdigit((unsigned char)s[0]) ? n : 0;
}

/* The metric that HELP and TYPE have announced, and which of the two came last. */
struct family {
    char name[80];
    bool typed;
    bool counter;
};

static bool ends_in(const char *s, size_t n, const char *tail)
{
    size_t tail_n = strlen(tail);
    return n >= tail_n && memcmp(s + n - tail_n, tail, tail_n) == 0;
}

/* Takes `# HELP name text` or `# TYPE name kind`. */
static bool prom_comment(const char *line, struct family *family)
{
    const char *name = line + 7;
    size_t n = name_length(name);
    if (n == 0 || n >= sizeof family->name || name[n] != ' ' || strchr(line, '\\') != NULL)
        return false;
    if (strncmp(line, "# HELP ", 7) == 0) {
        bool fresh = strncmp(family->name, name, n) != 0 || family->name[n] != '\0';
        memcpy(family->name, name, n);
        family->name[n] = '\0';
        family->typed = false;
        return fresh && name[n + 1] != '\0';
    }
    family->counter = strcmp(name + n, " counter") == 0;
    bool named = strncmp(family->name, name, n) == 0 && family->name[n] == '\0';
    bool fits = named && !family->typed && family->counter == ends_in(name, n, "_total");
    family->typed = true;
    return strncmp(line, "# TYPE ", 7) == 0 && fits &&
           (family->counter || strcmp(name + n, " gauge") == 0);
}

/* Skips `{size="N"}` or `{name="TEXT"}`; NULL when there is neither. */
static const char *prom_label(const char *s)
{
    bool size = strncmp(s, "{size=\"", 7) == 0;
    if (!size && strncmp(s, "{name=\"", 7) != 0)
        return NULL;
    s += 7;
    s += size ? strspn(s, "0123456789") : strcspn(s, "\"\\");
    return strncmp(s, "\"}", 2) == 0 ? s + 2 : NULL;
}

/* Takes `name value` or `name{label} value`, of the family announced before. */
static bool prom_sample(const char *line, const struct family *family)
{
    size_t n = name_length(line);
    bool known = n > 0 && family->typed && strlen(family->name) == n &&
                 memcmp(family->name, line, n) == 0 && strncmp(line, "ashlar_", 7) == 0;
    const char *s = line + n;
    if (*s == '{' && (s = prom_label(s)) == NULL)
        return false;
    size_t digits = *s == ' ' ? strspn(s + 1, "0123456789.") : 0;
    return known && digits > 0 && s[1 + digits] == '\0';
}

/*
 * The lines of the text that are neither comments nor samples in their places; it is cut into lines. *samples: how many
 * there are.
 */
__attribute__((unused)) static unsigned prom_bad_lines(char *text, unsigned *samples, const char **first_bad)
{
    struct family family = {.typed = false};
    unsigned bad = 0;
    *samples = 0;
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); rest != NULL; line = strsep(&rest, "\n")) {
        bool good = *line == '#' ? prom_comment(line, &family) : prom_sample(line, &family);
        *samples += *line != '#';
        if (!good && bad++ == 0)
            *first_bad = line;
    }
    return bad;
}

#endif
