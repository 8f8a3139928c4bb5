/*
 * patterns NAME [SETTING=VALUE...]: runs one pattern of allocations and prints `NAME ns_per_op
 * ops`.
 *
 * The table below is the list of patterns with what each does by default; `patterns --list` prints
 * it.
 */
#include "patterns.h"

#include <stdio.h>
#include <string.h>

#define SETTINGS(ops, blocks, min, max, threads) {1, (ops), (blocks), (min), (max), (threads)}

const struct pattern patterns[] = {
    {"pair", "small", pattern_pair, SETTINGS(20000000, 1, 16, KIB, 1),
     "malloc and free at once, sizes 16 B to 1 KiB"},
    {"pair-medium", "small", pattern_pair, SETTINGS(4000000, 1, 2 * KIB, 64 * KIB, 1),
     "malloc and free at once, sizes 2 to 64 KiB"},
    {"batch32", "small", pattern_batch, SETTINGS(20000000, 32, 16, KIB, 1),
     "32 mallocs, then 32 frees, sizes 16 B to 1 KiB"},
    {"batch32-medium", "small", pattern_batch, SETTINGS(1000000, 32, 2 * KIB, 64 * KIB, 1),
     "32 mallocs, then 32 frees, sizes 2 to 64 KiB"},
    {"calloc", "small", pattern_calloc, SETTINGS(4000000, 32, 16, 4 * KIB, 1),
     "calloc, 32 blocks held, 16 B to 4 KiB"},
    {"aligned64", "small", pattern_aligned, SETTINGS(8000000, 32, 64, KIB, 1),
     "32 times aligned_alloc(64), then 32 frees"},
    {"lifo", "life", pattern_lifo, SETTINGS(6000000, 20000, 16, 512, 1),
     "20,000 blocks, the last is freed first"},
    {"fifo", "life", pattern_fifo, SETTINGS(6000000, 20000, 16, 512, 1),
     "20,000 blocks, the first is freed first"},
    {"random", "life", pattern_random, SETTINGS(4000000, 20000, 16, 512, 1),
     "20,000 blocks, freed in random order"},
    {"mixed", "life", pattern_mixed, SETTINGS(4000000, 4096, 16, 8 * KIB, 1),
     "random replacement among 4,096 blocks, 16 B to 8 KiB"},
    {"replace-1m", "life", pattern_replace, SETTINGS(2000000, 1000000, 64, 512, 1),
     "random replacement among 1 M live blocks, 64 to 512 B"},
    {"replace-6m", "heavy", pattern_replace, SETTINGS(6000000, 6000000, 64, 512, 1),
     "random replacement among 6 M live blocks, 64 to 512 B"},
    {"strings", "life", pattern_strings, SETTINGS(4000000, 3000, 8, 64, 1),
     "word frequency: lines joined, split, changed and counted, texts of some 8 to 64 B"},
    {"mix-python", "mixes", pattern_mix_python, SETTINGS(4000000, 1, 8, 8, 1),
     "sizes and lifetimes recorded from Python, without its own allocator"},
    {"mix-perl", "mixes", pattern_mix_perl, SETTINGS(4000000, 1, 8, 8, 1),
     "the same of Perl indexing words"},
    {"mix-sqlite", "mixes", pattern_mix_sqlite, SETTINGS(4000000, 1, 8, 8, 1),
     "the same of SQLite with a table in memory"},
    {"mix-gcc", "mixes", pattern_mix_gcc, SETTINGS(4000000, 1, 8, 8, 1),
     "the same of the C++ compiler"},
    {"mix-git", "mixes", pattern_mix_git, SETTINGS(2000000, 1, 8, 8, 1),
     "the same of Git showing patches"},
    {"mix-redis", "mixes", pattern_mix_redis, SETTINGS(4000000, 1, 8, 8, 1),
     "the same of the Redis server under its benchmark"},
    {"mix-threads", "mixes", pattern_mix_python, SETTINGS(8000000, 1, 8, 8, 4),
     "four threads, each with the mix of Python"},
    {"live-10m", "heavy", pattern_random, SETTINGS(10000000, 10000000, 16, 256, 1),
     "10 M blocks of 16 to 256 B, freed in random order"},
    {"live", "heavy", pattern_live, SETTINGS(4000000, 262144, 512, 1536, 1),
     "`blocks` blocks stay alive; random replacement among 4,096 of them"},
    {"threads-n", "heavy", pattern_threads_n, SETTINGS(16000000, 512, 16, KIB, 16),
     "`threads` threads, each replaces among `blocks` blocks of its own"},
    {"large", "large", pattern_large, SETTINGS(300, 6, MIB, 32 * MIB, 1),
     "random replacement among 6 blocks of 1 to 32 MiB, each page touched"},
    {"large-64k", "large", pattern_large, SETTINGS(100000, 32, 64 * KIB, MIB, 1),
     "random replacement among 32 blocks of 64 KiB to 1 MiB, each page touched"},
    {"realloc-append", "large", pattern_realloc_append, SETTINGS(2000000, 256, 32, 16 * KIB, 1),
     "256 texts, each lengthened by some 40 B at a time up to 16 KiB"},
    {"realloc-grow", "large", pattern_realloc_grow, SETTINGS(200, 1, 64 * KIB, 128 * MIB, 1),
     "one block grows by an eighth at a time from 64 KiB to 128 MiB"},
    {"realloc-1g", "heavy", pattern_realloc_grow, SETTINGS(1, 1, 64 * KIB, 1024 * MIB, 1),
     "one block grows by an eighth at a time from 64 KiB to 1 GiB"},
    {"pass-1", "threads", pattern_pass, SETTINGS(2000000, 1024, 16, 512, 1),
     "one thread allocates, one frees"},
    {"pass-2", "threads", pattern_pass, SETTINGS(2000000, 1024, 16, 512, 2),
     "two threads allocate, two free, each with each"},
    {"pass-4", "heavy", pattern_pass, SETTINGS(4000000, 1024, 16, 512, 4),
     "four threads allocate, four free, each with each"},
    {"larson-2", "threads", pattern_larson, SETTINGS(16000000, 1000, 16, 512, 2),
     "2 threads replace blocks; every 20,000 a new thread inherits them"},
    {"larson-8", "threads", pattern_larson, SETTINGS(16000000, 1000, 16, 512, 8),
     "8 threads replace blocks; every 20,000 a new thread inherits them"},
    {"stress-2", "threads", pattern_stress, SETTINGS(4000000, 1000, 16, 32 * KIB, 2),
     "2 threads a round, mixed sizes to 1 MiB, blocks swapped and left behind"},
    {"stress-4", "threads", pattern_stress, SETTINGS(4000000, 1000, 16, 32 * KIB, 4),
     "4 threads a round, mixed sizes to 1 MiB, blocks swapped and left behind"},
    {"stress-8", "heavy", pattern_stress, SETTINGS(8000000, 1000, 16, 32 * KIB, 8),
     "8 threads a round, mixed sizes to 1 MiB, blocks swapped and left behind"},
    {"start-stop", "threads", pattern_start_stop, SETTINGS(10000, 4, 64, 64, 1),
     "10,000 threads one after the other, four blocks each"},
    {"sharing-active", "threads", pattern_sharing_active, SETTINGS(2400000, 1, 8, 8, 4),
     "4 threads write to a block of their own, 200 times each"},
    {"sharing-passive", "threads", pattern_sharing_passive, SETTINGS(800000, 1, 8, 8, 4),
     "the same after each freed a block that the first thread made"},
    {"idle-8", "memory", pattern_idle, SETTINGS(8, 1, 64, 64, 8),
     "8 threads hold one block each: look at the memory"},
};
const size_t pattern_count = sizeof patterns / sizeof patterns[0];

static int usage(FILE *to)
{
    fputs("usage: patterns NAME [SETTING=VALUE...]\n"
          "       patterns --list\n"
          "Prints `NAME ns_per_op ops`. Settings, K and M stand for 1024 and its square:\n"
          "  seed  ops  blocks  min  max  threads, and scale=F, which multiplies ops\n",
          to);
    return to == stdout ? 0 : 2;
}

static int list(void)
{
    for (size_t i = 0; i < pattern_count; i++)
        printf("%-16s %-8s %s\n", patterns[i].name, patterns[i].group, patterns[i].help);
    return 0;
}

/* A whole number, at least 1, with K or M behind it; 0 when the text is none. */
static size_t number_parse(const char *text)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    size_t unit = *end == 'K' ? KIB : *end == 'M' ? MIB : 1;
    if (unit != 1)
        end++;
    return *text == '-' || *end != '\0' || n > SIZE_MAX / unit ? 0 : (size_t)n * unit;
}

/* Zero when `text` is a setting and was applied to `s`. */
static int setting_apply(struct settings *s, const char *text)
{
    const char *value = strchr(text, '=');
    if (value == NULL)
        return -1;
    size_t length = (size_t)(value++ - text);
    if (length == 5 && strncmp(text, "scale", length) == 0) {
        double factor = strtod(value, NULL);
        if (!(factor > 0 && factor <= 1e6))
            return -1;
        s->ops = (size_t)((double)s->ops * factor);
        s->ops = s->ops < s->threads ? s->threads : s->ops;
        return 0;
    }
    size_t n = number_parse(value);
    if (length == 4 && strncmp(text, "seed", length) == 0) {
        s->seed = n;
        return 0;
    }
    struct {
        const char *name;
        size_t *field;
    } fields[] = {{"ops", &s->ops}, {"blocks", &s->blocks}, {"min", &s->min},
                  {"max", &s->max}, {"threads", &s->threads}};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (strlen(fields[i].name) == length && strncmp(fields[i].name, text, length) == 0) {
            *fields[i].field = n;
            return n == 0 ? -1 : 0;
        }
    }
    return -1;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return usage(stderr);
    if (strcmp(argv[1], "--help") == 0)
        return usage(stdout);
    if (strcmp(argv[1], "--list") == 0)
        return list();
    const struct pattern *p = NULL;
    for (size_t i = 0; i < pattern_count; i++) {
        if (strcmp(patterns[i].name, argv[1]) == 0)
            p = &patterns[i];
    }
    if (p == NULL) {
        fprintf(stderr, "patterns: no pattern is named %s; see patterns --list\n", argv[1]);
        return 2;
    }
    struct settings s = p->defaults;
    for (int i = 2; i < argc; i++) {
        if (setting_apply(&s, argv[i]) != 0) {
            fprintf(stderr, "patterns: %s is not a setting with a value of its kind\n", argv[i]);
            return usage(stderr);
        }
    }
    if (s.min < 8 || s.max < s.min || s.ops < s.threads) {
        fputs("patterns: min is at least 8 and at most max; ops is at least threads\n", stderr);
        return 2;
    }
    struct result r = p->run(&s);
    printf("%s %.3f %llu\n", p->name, (double)r.ns / (double)r.ops, (unsigned long long)r.ops);
    return 0;
}
