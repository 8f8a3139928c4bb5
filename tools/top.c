/*
 * ashlar top: a process's memory as it changes, or the processes that have Ashlar in.
 *
 * With --once, or where standard output is no terminal, pages are written one after the other as
 * plain text; --json writes an object for each instead, on one line.
 */
#include "ashlar.h"
#include "list.h"
#include "screen.h"
#include "show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { INTERVAL_MS = 1000, INTERVAL_MIN = 100, INTERVAL_MAX = 3600 * 1000 };

struct settings {
    int pid; /* 0: the list */
    bool once, json;
    char **argv; /* of the program */
};

static struct target target;
static struct sample samples[2];
static struct view view;

static int help(void)
{
    puts("usage: ashlar top [OPTION...] [PID]\n\n"
         "Shows a running process that has Ashlar in: where its memory is, what it allocates, its\n"
         "size classes and pools. Without PID, lists the processes that have it. The process is\n"
         "neither stopped nor asked. In a terminal, ? lists the keys; q ends it.\n\n"
         "  -d SECONDS            how often it looks, 0.1 or more (1)\n"
         "  --sort=live|rate      classes by live bytes, or by allocations a second\n"
         "  --once                one page, as text\n"
         "  --json                as JSON: an object a line\n");
    return STATUS_OK;
}

/* ---- pages ---- */

static void pause_ms(int ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* Shows what `draw` draws: on the screen, or as a page of text with as many lines as it needs. */
static bool show(void (*draw)(struct canvas *, const void *), const void *arg, bool screen)
{
    struct canvas c;
    int rows, columns;
    size_t n;
    screen_size(&rows, &columns);
    if (!canvas_create(&c, screen ? rows : 160, columns, screen_has_utf8()))
        return false;
    draw(&c, arg);
    char *text = canvas_render(&c, show_colours(stdout), screen ? SCREEN_END : "\n", &n);
    canvas_destroy(&c);
    if (text != NULL && screen)
        screen_show(text, n);
    while (text != NULL && !screen && n > 1 && text[n - 2] == '\n')
        n--;
    if (text != NULL && !screen)
        fwrite(text, 1, n, stdout);
    free(text);
    return fflush(stdout) == 0;
}

static void draw_view(struct canvas *c, const void *arg)
{
    draw_process(c, arg);
}

static void draw_all(struct canvas *c, const void *arg)
{
    const struct list *l = arg;
    draw_list(c, l->all, l->n, l->forbidden);
}

/* ---- JSON ---- */

/* Line ends become blanks: the statistics have them nowhere but between values. */
static bool json_process(void)
{
    char *text;
    size_t n;
    if (sample_text(&target, emit_json, &text, &n) != MIRROR_READY)
        return false;
    for (size_t i = 0; i < n; i++)
        text[i] = text[i] == '\n' ? ' ' : text[i];
    printf("{\"pid\": %d, \"name\": ", target.pid);
    show_json_text(stdout, target.name);
    const struct target_usage *u = &view.now->usage;
    unsigned hits = sample_hits(view.before, view.now);
    printf(", \"uptime_ms\": %llu, \"process_threads\": %u, \"rss_bytes\": %llu, "
           "\"swap_bytes\": %llu, \"interval_ns\": %llu, \"allocations_per_second\": %llu, "
           "\"hit_rate\": %u.%03u, \"statistics\": %.*s}\n",
           (unsigned long long)u->age_ms, u->threads, (unsigned long long)u->rss,
           (unsigned long long)u->swap, (unsigned long long)(view.now->at_ns - view.before->at_ns),
           (unsigned long long)sample_rate(view.before, view.now), hits / 1000, hits % 1000, (int)n,
           text);
    free(text);
    return fflush(stdout) == 0;
}

static bool json_list(const struct list *l)
{
    printf("{\"forbidden\": %zu, \"processes\": [", l->forbidden);
    for (size_t i = 0; i < l->n; i++) {
        const struct listed *one = &l->all[i];
        printf("%s{\"pid\": %d, \"name\": ", i == 0 ? "" : ", ", one->pid);
        show_json_text(stdout, one->name);
        printf(", \"threads\": %u, \"rss_bytes\": %llu", one->threads,
               (unsigned long long)one->rss);
        if (one->note[0] == '\0')
            printf(", \"live_bytes\": %llu, \"allocations\": %llu, "
                   "\"allocations_per_second\": %llu, \"hit_rate\": %u.%03u",
                   (unsigned long long)one->live, (unsigned long long)one->allocations,
                   (unsigned long long)one->rate, one->hits / 1000, one->hits % 1000);
        printf("}");
    }
    printf("]}\n");
    return fflush(stdout) == 0;
}

/* ---- a process ---- */

/* Another sample behind `view.now`; false: there is none, the last one stays. */
static enum mirror_state advance(void)
{
    struct sample *next = view.now == &samples[0] ? &samples[1] : &samples[0];
    const struct sample *now = view.now;
    enum mirror_state state = sample_read(&target, false, next);
    if (state != MIRROR_READY)
        return state;
    view.before = now != NULL ? now : next;
    view.now = next;
    history_add(&view.history, view.before, view.now);
    return state;
}

/* What a key asks for; false: to end. */
static bool obey(int key)
{
    switch (key) {
    case 'q':
    case 'Q':
        return false;
    case 's':
        view.sort = view.sort == DRAW_LIVE ? DRAW_RATE : DRAW_LIVE;
        break;
    case ' ':
        view.paused = !view.paused;
        break;
    case '+':
        view.interval_ms =
            view.interval_ms * 2 > INTERVAL_MAX ? INTERVAL_MAX : view.interval_ms * 2;
        break;
    case '-':
        view.interval_ms =
            view.interval_ms / 2 < INTERVAL_MIN ? INTERVAL_MIN : view.interval_ms / 2;
        break;
    case '?':
    case 'h':
        view.helps = !view.helps;
        break;
    default:
        break;
    }
    return true;
}

/* The last page stays behind, on the ordinary screen. */
static int watch_process(void)
{
    bool on = true;
    view.screen = true;
    while (on) {
        enum screen_event event;
        show(draw_view, &view, true);
        int key = screen_key(view.interval_ms, &event);
        on = key != 0 ? obey(key) : event != SCREEN_ENDED;
        if (on && key == 0 && event == SCREEN_TIME && !view.paused)
            on = advance() != MIRROR_GONE; /* of other trouble, the next look may be free */
        view.ended = !on && key == 0 && event == SCREEN_TIME;
    }
    screen_obey();
    if (view.ended) {
        view.helps = view.screen = false;
        show(draw_view, &view, false);
        printf("\nprocess %d (%s) has ended; these were its last figures\n", target.pid,
               target.name);
    }
    return STATUS_OK;
}

static int print_process(const struct settings *s)
{
    do {
        pause_ms(view.interval_ms);
        if (advance() == MIRROR_GONE) {
            fprintf(stderr, "ashlar: top: process %d (%s) has ended\n", target.pid, target.name);
            return STATUS_OK;
        }
        if (s->json ? !json_process() : !show(draw_view, &view, false))
            return STATUS_OK; /* it has ended meanwhile, or nobody reads any more */
        if (!s->once && !s->json)
            putchar('\n');
    } while (!s->once);
    return STATUS_OK;
}

static int top_process(const struct settings *s)
{
    char why[TARGET_WHY];
    if (target_open(&target, s->pid, false, why) != TARGET_READY)
        return failed("top: %s", why);
    view.target = &target;
    enum mirror_state state = advance();
    if (state == MIRROR_OVERLAP)
        mirror_restart(s->argv);
    if (state != MIRROR_READY) {
        mirror_say(state, &target, why);
        return failed("top: %s", why);
    }
    if (!s->once && !s->json && screen_open())
        return watch_process();
    return print_process(s);
}

/* ---- the list ---- */

/* Ends on 'q', and on a signal; other keys look again at once. */
static int watch_list(struct list *now)
{
    enum screen_event event = SCREEN_TIME;
    int key = 0;
    while (key != 'q' && event != SCREEN_ENDED) {
        show(draw_all, now, true);
        key = screen_key(view.interval_ms, &event);
        struct list next;
        if (event == SCREEN_ENDED || !list_read(&next, now))
            break;
        list_free(now);
        *now = next;
    }
    list_free(now);
    screen_obey();
    return STATUS_OK;
}

static int print_list(const struct settings *s, struct list *now)
{
    bool on = true;
    while (on) {
        struct list next;
        pause_ms(view.interval_ms);
        if (!list_read(&next, now))
            break;
        list_free(now);
        *now = next;
        on = (s->json ? json_list(now) : show(draw_all, now, false)) && !s->once;
    }
    list_free(now);
    return STATUS_OK;
}

static int top_list(const struct settings *s)
{
    struct list now;
    if (!list_read(&now, NULL))
        return failed("top: /proc cannot be read");
    if (now.overlap)
        mirror_restart(s->argv);
    if (!s->once && !s->json && screen_open())
        return watch_list(&now);
    return print_list(s, &now);
}

/* ---- the command line ---- */

static bool interval_read(const char *text)
{
    char *end;
    double seconds = text != NULL ? strtod(text, &end) : 0;
    if (text == NULL || end == text || *end != '\0' || !(seconds * 1000 >= INTERVAL_MIN) ||
        seconds * 1000 > INTERVAL_MAX)
        return false;
    view.interval_ms = (int)(seconds * 1000);
    return true;
}

static bool sort_read(const char *text)
{
    view.sort = text != NULL && strcmp(text, "rate") == 0 ? DRAW_RATE : DRAW_LIVE;
    return text != NULL && (view.sort == DRAW_RATE || strcmp(text, "live") == 0);
}

int command_top(int argc, char **argv)
{
    struct settings s = {.argv = argv - 1};
    view.interval_ms = INTERVAL_MS;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (strcmp(arg, "--help") == 0)
            return help();
        if (strcmp(arg, "--once") == 0) {
            s.once = true;
        } else if (strcmp(arg, "--json") == 0) {
            s.json = true;
        } else if (strncmp(arg, "-d", 2) == 0) {
            if (!interval_read(arg[2] != '\0' ? arg + 2 : argv[++i]))
                return usage_error("top: -d wants seconds, from 0.1 to 3600");
        } else if (strncmp(arg, "--sort", 6) == 0 && (arg[6] == '=' || arg[6] == '\0')) {
            if (!sort_read(arg[6] == '=' ? arg + 7 : argv[++i]))
                return usage_error("top: --sort wants live or rate");
        } else if (s.pid != 0 || !pid_read(arg, &s.pid)) {
            return usage_error("top: '%s' is neither an option nor a process; see `ashlar top "
                               "--help`",
                               arg);
        }
    }
    return s.pid != 0 ? top_process(&s) : top_list(&s);
}
