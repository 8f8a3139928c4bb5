/*
 * The seeded runner.
 *
 *     fuzz                 every target in every mode, as a test: inputs of a fixed seed, and of one of the time
 *     fuzz TARGET          one target in every mode
 *     fuzz TARGET FILE...  inputs from files, each operation shown; the environment is the mode
 *     fuzz --list          the targets with their modes, for scripts
 *
 * ASH_FUZZ_SECONDS=N runs inputs of the second seed until N seconds a target have passed; ASH_FUZZ_SEED sets that seed.
 *
 * A mode is a process with its environment set (--work). It makes the inputs, and forks for each, so that an input
 * fails the same whatever ran before it; a child that ends otherwise than well has failed. The input is then shrunk:
 * parts are left out as long as what remains fails.
 */
#include "fuzz.h"
#include "tap.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

enum {
    FIXED_SEED = 1,
    LONGEST = 1 << 16, /* of all targets */
    HANG_SECONDS = 60,
    SHRINK_SECONDS = 20
};

static uint64_t random_state;

/* xorshift64* */
static uint64_t draw(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 2685821657736338717u;
}

static unsigned draw_below(unsigned bound)
{
    return (unsigned)((draw() >> 33) % bound);
}

static time_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

/* ---- inputs ---- */

struct bytes {
    unsigned char at[LONGEST];
    size_t n;
};

/*
 * Bytes of one kind each: any, a few that come again and again (so that some operations prevail), or a piece of what
 * went before.
 */
static void generate(struct bytes *b, const struct target *target, uint64_t seed, uint64_t number)
{
    random_state = (seed + 1) * 0x9e3779b97f4a7c15u ^ (number + 1) * 0xd1342543de82ef95u;
    draw();
    size_t length = target->longest >> draw_below(6);
    unsigned char favourites[16];
    for (unsigned i = 0; i < sizeof favourites; i++)
        favourites[i] = (unsigned char)draw();
    unsigned few = 1 + draw_below(sizeof favourites);
    for (b->n = 0; b->n < length;) {
        unsigned kind = draw_below(4);
        size_t from = b->n > 0 ? draw_below((unsigned)b->n) : 0;
        for (unsigned left = 1 + draw_below(64); left > 0 && b->n < length; left--) {
            bool copied = kind == 3 && from < b->n && draw_below(16) != 0;
            b->at[b->n] = copied ? b->at[from++] : kind == 2 ? favourites[draw_below(few)] : (unsigned char)draw();
            b->n++;
        }
    }
}

/* ---- running one ---- */

/* The status of a child that runs the input; 0: well. */
static int run_in_child(const struct target *target, const struct bytes *b, bool silent)
{
    pid_t child = fork();
    if (child == 0) {
        int null = silent ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;
        if (null >= 0)
            dup2(null, STDERR_FILENO);
        alarm(HANG_SECONDS);
        fuzz_run(target, b->at, b->n);
        exit(0);
    }
    if (child < 0) {
        perror("fork");
        exit(2);
    }
    int status = -1;
    while (waitpid(child, &status, 0) < 0)
        ;
    return status;
}

static void shrink(const struct target *target, struct bytes *b)
{
    static struct bytes less;
    time_t until = now() + SHRINK_SECONDS;
    for (size_t part = b->n / 2; part > 0 && now() < until; part = part > 1 ? part / 2 : 0)
        for (size_t at = 0; at < b->n && now() < until;) {
            size_t left_out = part < b->n - at ? part : b->n - at;
            memcpy(less.at, b->at, at);
            memcpy(less.at + at, b->at + at + left_out, b->n - at - left_out);
            less.n = b->n - left_out;
            if (run_in_child(target, &less, true) != 0)
                *b = less;
            else
                at += part;
        }
}

static void print_command(const struct target *target, const char *file)
{
    extern char **environ;
    dprintf(STDERR_FILENO, "again:");
    for (char **e = environ; *e != NULL; e++)
        if (strncmp(*e, "ASHLAR_", 7) == 0)
            dprintf(STDERR_FILENO, " %s", *e);
    dprintf(STDERR_FILENO, " tests/fuzz/fuzz %s %s\n", target->name, file);
}

static void report(const struct target *target, struct bytes *b, int status, uint64_t seed, uint64_t number)
{
    static const char digits[] = "0123456789abcdef";
    size_t before = b->n;
    shrink(target, b);
    char file[] = "/tmp/ashlar-fuzz-XXXXXX";
    int fd = mkstemp(file);
    if (fd < 0 || write(fd, b->at, b->n) != (ssize_t)b->n)
        dprintf(STDERR_FILENO, "%s cannot be written\n", file);
    close(fd);
    dprintf(STDERR_FILENO, "%s: input %lu of seed %lu failed with status 0x%x; %zu bytes, shrunk to %zu:\n",
            target->name, (unsigned long)number, (unsigned long)seed, (unsigned)status, before, b->n);
    for (size_t i = 0; i < b->n && i < 400; i++)
        dprintf(STDERR_FILENO, "%c%c", digits[b->at[i] >> 4], digits[b->at[i] & 15]);
    dprintf(STDERR_FILENO, "\n");
    run_in_child(target, b, false);
    print_command(target, file);
}

/* Inputs of one seed: `count` of them, or until `until` where that is not 0. False: one failed. */
static bool run_seed(const struct target *target, uint64_t seed, uint64_t count, time_t until)
{
    static struct bytes b;
    uint64_t number = 0;
    for (; until != 0 ? now() < until : number < count; number++) {
        generate(&b, target, seed, number);
        int status = run_in_child(target, &b, true);
        if (status != 0) {
            report(target, &b, status, seed, number);
            return false;
        }
    }
    tap_line("# %s: %lu inputs of seed %lu", target->name, (unsigned long)number, (unsigned long)seed);
    return true;
}

/* ---- the modes ---- */

static const char *number_from(const char *name, unsigned long *out)
{
    const char *text = getenv(name);
    if (text != NULL)
        *out = strtoul(text, NULL, 0);
    return text;
}

static int work(const char *name)
{
    const struct target *target = fuzz_target(name);
    unsigned long seed = FIXED_SEED, seconds = 0;
    number_from("ASH_FUZZ_SEED", &seed);
    if (target == NULL)
        return 2;
    if (number_from("ASH_FUZZ_SECONDS", &seconds) != NULL)
        return run_seed(target, seed, 0, now() + (time_t)seconds) ? 0 : 1;
    return run_seed(target, FIXED_SEED, target->inputs, 0) && run_seed(target, seed, target->inputs, 0) ? 0 : 1;
}

/* Takes the next mode off `rest`; the last one leaves NULL. */
static char *next_mode(char **rest)
{
    char *mode = *rest;
    char *end = strstr(mode, "; ");
    *rest = end != NULL ? end + 2 : NULL;
    if (end != NULL)
        *end = '\0';
    return mode;
}

static void run_mode(const struct target *target, char *mode, unsigned long seconds)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        char number[24], work_word[] = "--work";
        snprintf(number, sizeof number, "%lu", seconds);
        if (seconds != 0)
            setenv("ASH_FUZZ_SECONDS", number, 1);
        char *args[] = {work_word, work_word, (char *)(uintptr_t)target->name, NULL};
        char *rest = mode;
        for (char *word = strsep(&rest, " "); word != NULL && *word != '\0'; word = strsep(&rest, " ")) {
            char *equals = strchr(word, '=');
            *equals = '\0';
            setenv(word, equals + 1, 1);
        }
        execv("/proc/self/exe", args);
        _exit(99);
    }
    int status = -1;
    waitpid(child, &status, 0);
    ok(status == 0, "%s: %s%s%s", target->name, target->what, *mode != '\0' ? ": " : "", mode);
}

static void run_target(const struct target *target)
{
    unsigned long seconds = 0, modes = 0;
    char copy[4096];
    snprintf(copy, sizeof copy, "%s", target->modes);
    for (char *rest = copy; rest != NULL; modes++)
        next_mode(&rest);
    if (number_from("ASH_FUZZ_SECONDS", &seconds) != NULL)
        seconds = (seconds + modes - 1) / modes;
    snprintf(copy, sizeof copy, "%s", target->modes);
    for (char *rest = copy; rest != NULL;)
        run_mode(target, next_mode(&rest), seconds);
}

static int run_files(const struct target *target, char **files)
{
    static struct bytes b;
    int failed = 0;
    fuzz_tracing = true;
    for (; *files != NULL; files++) {
        int fd = open(*files, O_RDONLY | O_CLOEXEC);
        ssize_t n = read(fd, b.at, sizeof b.at);
        if (n < 0) {
            perror(*files);
            return 2;
        }
        close(fd);
        b.n = (size_t)n;
        int status = run_in_child(target, &b, false);
        tap_line("%s: status 0x%x", *files, (unsigned)status);
        failed |= status != 0;
    }
    return failed;
}

static int list(void)
{
    for (const struct target *target = fuzz_targets; target->name != NULL; target++) {
        char copy[4096];
        snprintf(copy, sizeof copy, "%s", target->modes);
        for (char *rest = copy; rest != NULL;)
            printf("%s %s\n", target->name, next_mode(&rest));
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0)
        return list();
    if (argc == 3 && strcmp(argv[1], "--work") == 0)
        return work(argv[2]);
    const struct target *only = argc > 1 ? fuzz_target(argv[1]) : NULL;
    if (argc > 1 && only == NULL) {
        fprintf(stderr, "usage: fuzz [TARGET [FILE...]]; fuzz --list names the targets\n");
        return 2;
    }
    if (argc > 2)
        return run_files(only, argv + 2);
    char number[24];
    snprintf(number, sizeof number, "%lu", (unsigned long)time(NULL));
    setenv("ASH_FUZZ_SEED", number, 0);
    tap_line("# ASH_FUZZ_SEED=%s", getenv("ASH_FUZZ_SEED"));
    for (const struct target *target = fuzz_targets; target->name != NULL; target++)
        if (only == NULL || only == target)
            run_target(target);
    return tap_done();
}
