/*
 * The parser of the option table.
 *
 * A value, and each alternative of the allowed values, is a span of text. The one string of allowed
 * values is what the check walks and what the message shows, so the two cannot differ.
 */
#include "info/options.h"

#include "base/anchor.h"
#include "os/check.h"

#include <signal.h>
#include <string.h>

struct options options;

#define PREFIX "ASHLAR_"

enum {
    PREFIX_N = sizeof PREFIX - 1,
    NAME_MAX_N = 24, /* without the prefix; longer names are like none of ours */
    SHOWN_MAX = 80,  /* of a name or value in a message */
};

static const struct option table[] = {
#define OPTION(name, field, type, fallback, values, help)                                          \
    {PREFIX #name, fallback, values, help, OPTION_TYPE_##type, offsetof(struct options, field)},
#include "info/options.def"
#undef OPTION
};

struct span {
    const char *s;
    size_t n;
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool same_letters(struct span a, const char *b)
{
    size_t i = 0;
    for (; i < a.n && b[i] != '\0'; i++)
        if (lower(a.s[i]) != lower(b[i]))
            return false;
    return i == a.n && b[i] == '\0';
}

static bool same_text(struct span a, struct span b)
{
    return a.n == b.n && memcmp(a.s, b.s, a.n) == 0;
}

/* Characters before the first `stop`. libc's strcspn costs a small process two pages of its own. */
static size_t length_to(const char *s, char stop)
{
    size_t n = 0;
    while (s[n] != '\0' && s[n] != stop)
        n++;
    return n;
}

/* Takes the next of the alternatives off `rest`; false when there is none left. */
static bool next_alternative(const char **rest, struct span *out)
{
    if (**rest == '\0')
        return false;
    *out = (struct span){*rest, length_to(*rest, '|')};
    *rest += out->n;
    *rest += **rest == '|';
    return true;
}

/* Takes digits off the front of `text`; false when there are none, or they pass 2^64. */
static bool take_digits(struct span *text, uint64_t *out)
{
    uint64_t v = 0;
    size_t i = 0;
    for (; i < text->n && text->s[i] >= '0' && text->s[i] <= '9'; i++)
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (unsigned)(text->s[i] - '0'), &v))
            return false;
    *out = v;
    *text = (struct span){text->s + i, text->n - i};
    return i > 0;
}

/* How many bytes the suffix stands for; 0 when it is none. */
static uint64_t byte_scale(struct span suffix)
{
    static const char letters[] = "kmgt";
    if (suffix.n == 0 || same_letters(suffix, "b"))
        return 1;
    const char *at = memchr(letters, lower(suffix.s[0]), sizeof letters - 1);
    struct span rest = {suffix.s + 1, suffix.n - 1};
    if (at == NULL || !(rest.n == 0 || same_letters(rest, "b") || same_letters(rest, "ib")))
        return 0;
    return (uint64_t)1 << (10 * (at - letters + 1));
}

static uint64_t ms_scale(struct span suffix)
{
    if (suffix.n == 0 || same_letters(suffix, "ms"))
        return 1;
    return same_letters(suffix, "s") ? 1000 : same_letters(suffix, "min") ? 60000 : 0;
}

static bool parse_number(enum option_type type, struct span text, uint64_t *out)
{
    if (!take_digits(&text, out))
        return false;
    uint64_t scale = text.n == 0;
    if (type == OPTION_TYPE_BYTES)
        scale = byte_scale(text);
    else if (type == OPTION_TYPE_MS)
        scale = ms_scale(text);
    return scale != 0 && !__builtin_mul_overflow(*out, scale, out);
}

/* LOW..HIGH, or one number. False when `text` is neither. */
static bool parse_range(enum option_type type, struct span text, uint64_t *low, uint64_t *high)
{
    const char *dots = memchr(text.s, '.', text.n);
    if (dots == NULL || text.s + text.n < dots + 2) {
        bool ok = parse_number(type, text, low);
        *high = *low;
        return ok;
    }
    size_t n = (size_t)(dots - text.s);
    return parse_number(type, (struct span){text.s, n}, low) &&
           parse_number(type, (struct span){dots + 2, text.n - n - 2}, high);
}

static bool number_allowed(const struct option *o, uint64_t v)
{
    const char *rest = o->values;
    struct span one;
    uint64_t low, high;
    while (next_alternative(&rest, &one))
        if (parse_range(o->type, one, &low, &high) && v >= low && v <= high)
            return true;
    return false;
}

static bool set_number(const struct option *o, struct span value, void *field)
{
    uint64_t v;
    if (!parse_number(o->type, value, &v) || !number_allowed(o, v))
        return false;
    if (o->type == OPTION_TYPE_BYTES)
        *(uint64_t *)field = v;
    else
        *(unsigned *)field = (unsigned)v;
    return true;
}

static bool set_choice(const struct option *o, struct span value, unsigned *field)
{
    const char *rest = o->values;
    struct span one;
    for (unsigned i = 0; next_alternative(&rest, &one); i++)
        if (same_text(one, value)) {
            *field = i;
            return true;
        }
    return false;
}

/* `one` is WORD or WORD[:PATH]; the value fits with its path not empty, or without one. */
static bool fits_target(struct span one, struct span value)
{
    const char *bracket = memchr(one.s, '[', one.n);
    struct span word = {one.s, bracket != NULL ? (size_t)(bracket - one.s) : one.n};
    const char *colon = bracket != NULL ? memchr(value.s, ':', value.n) : NULL;
    if (colon == NULL)
        return same_text(word, value);
    size_t n = (size_t)(colon - value.s);
    return same_text(word, (struct span){value.s, n}) && n + 1 < value.n;
}

static bool set_target(const struct option *o, struct span value, const char **field)
{
    const char *rest = o->values;
    struct span one;
    while (next_alternative(&rest, &one))
        if (fits_target(one, value)) {
            *field = value.s;
            return true;
        }
    return false;
}

/* The number of a signal by its name without SIG; 0 when it is not one of those in the table. */
static int signal_number(struct span name)
{
    static const struct {
        const char *name;
        int number;
    } signals[] = {
        {"HUP", SIGHUP},   {"USR1", SIGUSR1},   {"USR2", SIGUSR2}, {"QUIT", SIGQUIT},
        {"PROF", SIGPROF}, {"WINCH", SIGWINCH}, {"URG", SIGURG},   {"IO", SIGIO},
    };
    for (size_t i = 0; i < ASH_COUNT(signals); i++)
        if (same_letters(name, signals[i].name))
            return signals[i].number;
    return 0;
}

/* Signals that cannot be caught, or that say the program is broken and must not return. */
static bool signal_unusable(uint64_t number)
{
    switch (number) {
    case SIGKILL:
    case SIGSTOP:
    case SIGSEGV:
    case SIGBUS:
    case SIGILL:
    case SIGFPE:
    case SIGABRT:
    case SIGTRAP:
        return true;
    default:
        return false;
    }
}

static bool set_signal(const struct option *o, struct span value, int *field)
{
    uint64_t number;
    if (parse_number(o->type, value, &number)) {
        if (!number_allowed(o, number) || signal_unusable(number))
            return false;
        *field = (int)number;
        return true;
    }
    if (value.n > 3 && same_letters((struct span){value.s, 3}, "SIG"))
        value = (struct span){value.s + 3, value.n - 3};
    int named = signal_number(value);
    *field = named != 0 ? named : *field;
    return named != 0;
}

/* Sets the option's field; false, and nothing changed, when the value is not allowed. */
static bool option_set(const struct option *o, const char *text)
{
    void *field = (char *)&options + o->offset;
    struct span value = {text, strlen(text)};
    switch (o->type) {
    case OPTION_TYPE_CHOICE:
        return set_choice(o, value, field);
    case OPTION_TYPE_TARGET:
        return set_target(o, value, field);
    case OPTION_TYPE_PATH:
        *(const char **)field = text;
        return true;
    case OPTION_TYPE_SIGNAL:
        return set_signal(o, value, field);
    default:
        return set_number(o, value, field);
    }
}

/*
 * Letters to change, add or leave out to make `b` of `a`, both at most NAME_MAX_N long; case does
 * not count.
 */
static unsigned edit_distance(struct span a, struct span b)
{
    unsigned row[NAME_MAX_N + 1];
    for (unsigned j = 0; j <= b.n; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a.n; i++) {
        unsigned corner = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b.n; j++) {
            unsigned change = corner + (lower(a.s[i - 1]) != lower(b.s[j - 1]));
            unsigned shift = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);
            corner = row[j];
            row[j] = change < shift ? change : shift;
        }
    }
    return row[b.n];
}

static struct span option_word(const struct option *o)
{
    return (struct span){o->name + PREFIX_N, strlen(o->name + PREFIX_N)};
}

/*
 * The option that `name` was probably meant to be: at most two letters in five differ. NULL for
 * none.
 */
static const struct option *nearest(struct span name)
{
    const struct option *best = NULL;
    unsigned least = NAME_MAX_N;
    for (size_t i = 0; i < ASH_COUNT(table); i++) {
        struct span word = option_word(&table[i]);
        if (name.n > NAME_MAX_N || word.n > NAME_MAX_N)
            continue;
        unsigned distance = edit_distance(name, word);
        if (distance < least && distance * 5 <= 2 * size_max(name.n, word.n)) {
            least = distance;
            best = &table[i];
        }
    }
    return best;
}

static void warn_unknown(struct span name)
{
    const struct option *meant = nearest(name);
    int shown = (int)size_min(name.n, SHOWN_MAX);
    if (meant != NULL)
        warn_line("unknown option " PREFIX "%.*s ignored (did you mean %s?)", shown, name.s,
                  meant->name);
    else
        warn_line("unknown option " PREFIX "%.*s ignored", shown, name.s);
}

static void warn_value(const struct option *o, const char *value)
{
    warn_line("%s=%.*s ignored: allowed is %s (default %s)", o->name, SHOWN_MAX, value, o->values,
              o->fallback);
}

/*
 * One string of the environment that begins with the prefix. `seen` has a flag for each row of the
 * table.
 */
static void parse_variable(const char *variable, bool *seen)
{
    struct span name = {variable + PREFIX_N, length_to(variable + PREFIX_N, '=')};
    const char *value = name.s + name.n;
    value += *value == '=';
    for (size_t i = 0; i < ASH_COUNT(table); i++)
        if (same_text(name, option_word(&table[i]))) {
            if (!seen[i] && *value != '\0' && !option_set(&table[i], value))
                warn_value(&table[i], value);
            seen[i] = true;
            return;
        }
    warn_unknown(name);
}

void options_parse(char **envp, bool secure)
{
    ANCHOR("options", options);
    bool seen[ASH_COUNT(table)] = {false};
    for (size_t i = 0; i < ASH_COUNT(table); i++)
        option_set(&table[i], table[i].fallback);
    if (envp == NULL || secure)
        return;
    for (; *envp != NULL; envp++)
        if (strncmp(*envp, PREFIX, PREFIX_N) == 0)
            parse_variable(*envp, seen);
}

int options_each(int (*fn)(const struct option *, void *), void *arg)
{
    int answer = 0;
    for (size_t i = 0; i < ASH_COUNT(table) && answer == 0; i++)
        answer = fn(&table[i], arg);
    return answer;
}
