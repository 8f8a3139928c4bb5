/*
 * The options of ASHLAR_* environment variables; options.def is the table of them.
 *
 * options_parse runs once, at boot, before anything is allocated and before libc's constructors: it
 * uses no libc beyond string functions. From then on `options` is constant and any thread may read
 * it.
 *
 * What is set but cannot be used (a name that is no option, a value that is not among the allowed
 * ones) is told in one line on standard error and otherwise left out: the default stands. An empty
 * value is the same as none. Of a name that is there twice the first counts, which is the one
 * getenv finds.
 */
#ifndef ASH_OPTIONS_H
#define ASH_OPTIONS_H

#include "base/base.h"

enum option_type {
    OPTION_TYPE_CHOICE,
    OPTION_TYPE_NUMBER,
    OPTION_TYPE_MS,
    OPTION_TYPE_BYTES,
    OPTION_TYPE_TARGET,
    OPTION_TYPE_PATH,
    OPTION_TYPE_SIGNAL,
};

/* The places of the words of each CHOICE. */
enum { OPTION_ON_ERROR_ABORT, OPTION_ON_ERROR_WARN };
enum { OPTION_DEEPBIND_IGNORE, OPTION_DEEPBIND_OBEY };
enum { OPTION_THP_NEVER, OPTION_THP_DEFAULT, OPTION_THP_ALWAYS };

#define OPTION_FIELD_CHOICE unsigned
#define OPTION_FIELD_NUMBER unsigned
#define OPTION_FIELD_MS     unsigned
#define OPTION_FIELD_BYTES  uint64_t
#define OPTION_FIELD_TARGET const char *
#define OPTION_FIELD_PATH   const char *
#define OPTION_FIELD_SIGNAL int

/*
 * A TARGET or PATH points into the environment, which the program may change: it is good until main
 * runs.
 */
struct options {
#define OPTION(name, field, type, fallback, values, help) OPTION_FIELD_##type field;
#include "info/options.def"
#undef OPTION
};

/* All zero until options_parse. */
extern struct options options;

/*
 * `secure`: the process runs with the rights of another user, so its environment is not obeyed.
 * `envp` may be NULL.
 */
void options_parse(char **envp, bool secure);

/* One row of the table, for help. */
struct option {
    const char *name; /* with ASHLAR_ */
    const char *fallback;
    const char *values;
    const char *help;
    enum option_type type;
    size_t offset; /* in struct options */
};

/*
 * Calls `fn` for each option in the table's order until it answers other than 0; that answer, or 0.
 */
int options_each(int (*fn)(const struct option *, void *), void *arg);

#endif
