/*
 * Fuzzing. An input is a string of bytes; a target decodes it into operations, which it carries out and checks against
 * a model of its own. Every byte string is an input: what is read behind the end is 0. One decoder thus serves two
 * drivers:
 *
 *   runner.c      makes inputs from seeds, each run in a child process; one that fails is shrunk and kept in a file
 *   libfuzzer.c   the entry for clang's libFuzzer, which looks for inputs that reach new code
 *
 * A target is a line in targets.def and a function fuzz_NAME. It starts from the same state each time, leaves none
 * behind, and does not go by the clock, so that an input fails wherever it is run.
 */
#ifndef ASH_TESTS_FUZZ_H
#define ASH_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct input {
    const unsigned char *at, *end;
};

struct target {
    const char *name;
    const char *what;
    const char *modes; /* environments to run in: NAME=VALUE words, "; " between two modes */
    size_t longest;    /* bytes that an input of the runner may have */
    uint64_t inputs;   /* of each seed in the short form */
    void (*run)(struct input *in);
};

extern const struct target fuzz_targets[];
const struct target *fuzz_target(const char *name); /* NULL: there is none */

/* Runs a target from the state of a process that has just begun; afterwards nothing may have been said. */
void fuzz_run(const struct target *target, const unsigned char *bytes, size_t n);

/* ---- decoding ---- */

static inline bool input_left(const struct input *in)
{
    return in->at < in->end;
}

/* The next `n` <= 8 bytes as a number. */
static inline uint64_t take(struct input *in, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v = v << 8 | (input_left(in) ? *in->at++ : 0);
    return v;
}

/* A number below `bound` <= 65536. */
static inline unsigned take_below(struct input *in, unsigned bound)
{
    return (unsigned)take(in, bound <= 256 ? 1 : 2) % bound;
}

/* A number of any size, edges of powers of two more often than others. */
uint64_t take_number(struct input *in);

/* ---- checking ---- */

#define CHECK(condition, ...) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition, __VA_ARGS__))

__attribute__((format(printf, 4, 5))) _Noreturn void fuzz_fail(const char *file, int line, const char *condition,
                                                               const char *format, ...);

/* What the library wrote to standard error since the last call. */
const char *fuzz_said(void);

/* Checks that it was nothing, or one line: this, behind "ashlar: ". */
void fuzz_expect_silence(void);
__attribute__((format(printf, 1, 2))) void fuzz_expect_said(const char *format, ...);

/* Blocks are sampled as for a heap profile (ASH_FUZZ_SAMPLE=BYTES): these lie inside others. */
extern bool fuzz_sampling;

/* When an input is run again from a file, each operation is shown. */
extern bool fuzz_tracing;
__attribute__((format(printf, 1, 2))) void fuzz_trace(const char *format, ...);

#endif
