/*
 * What `ashlar report` reads may hold anything. JSON is made up, right and damaged, and read: what is right has all its
 * values, and all that is read goes through the page. Heap profiles likewise, whose sums are known.
 */
#include "fuzz.h"

#include "../../tools/flame.h"
#include "../../tools/heapfile.h"
#include "../../tools/json.h"
#include "../../tools/page.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { CAP = 1 << 16, DEEPEST = 6, STACKS = 20, FRAMES = 12 };

static char text[CAP];
static size_t text_n;

__attribute__((format(printf, 1, 2))) static void put(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text + text_n, CAP - text_n, format, args);
    va_end(args);
    if (n > 0)
        text_n = text_n + (size_t)n < CAP - 1 ? text_n + (size_t)n : CAP - 1;
}

/* Changes, drops or doubles some bytes; true when the text is as it was. */
static bool damage(struct input *in)
{
    unsigned times = take_below(in, 4);
    for (unsigned i = 0; i < times && text_n > 0; i++) {
        size_t at = take_below(in, 65535) % text_n;
        switch (take_below(in, 3)) {
        case 0: text[at] = (char)take(in, 1); break;
        case 1: memmove(text + at, text + at + 1, text_n-- - at); break;
        default: text_n = at;
        }
    }
    text[text_n] = '\0';
    return times == 0;
}

/* What is written to it is thrown away. */
static FILE *nowhere(void)
{
    FILE *f = fopen("/dev/null", "w");
    CHECK(f != NULL, "no /dev/null");
    return f;
}

/* ---- JSON ---- */

static unsigned values; /* that were made */

static void make_string(struct input *in)
{
    static const char *const pieces[] = {"live_bytes", "size", "<&'>", "\xc3\xa9", "\\u00e9", "\\\"", "\\ud83d\\ude00",
                                         "\\n", "classes", "\x80", "x_ns", "totals", "\\u0000", "hits"};
    put("\"");
    for (unsigned i = take_below(in, 3); i > 0; i--)
        put("%s", pieces[take_below(in, sizeof pieces / sizeof pieces[0])]);
    put("\"");
}

static void make_value(struct input *in, unsigned depth)
{
    unsigned kind = take_below(in, depth == DEEPEST ? 4 : 6);
    static const char *const numbers[] = {"0", "-0", "-17", "1.5", "2e308", "1E-9", "18446744073709551615", "64"};
    values++;
    switch (kind) {
    case 0: put("%s", take_below(in, 2) != 0 ? "true" : "null"); return;
    case 1: put("%s", numbers[take_below(in, 8)]); return;
    case 2: put("%" PRIu64, take_number(in)); return;
    case 3: make_string(in); return;
    }
    unsigned n = take_below(in, 5);
    put(kind == 4 ? "[" : "{");
    for (unsigned i = 0; i < n && text_n < CAP / 2; i++) {
        put("%s", i > 0 ? ", " : " ");
        if (kind == 5) {
            make_string(in);
            put(":");
        }
        make_value(in, depth + 1);
    }
    put(kind == 4 ? "]" : "\n}");
}

static unsigned count_values(const struct json *v)
{
    unsigned n = 1;
    for (const struct json *m = v->member; m != NULL; m = m->next)
        n += count_values(m);
    return n;
}

static void try_json(struct input *in)
{
    const char *wrong;
    bool stats = take_below(in, 2) != 0;
    values = 0;
    put(stats ? "{\"format\": 1, \"totals\": " : "");
    make_value(in, 0);
    put(stats ? ", \"classes\": " : "");
    if (stats)
        make_value(in, 0);
    put(stats ? ", \"pools\": [{\"name\": \"p\"}]}" : "");
    bool whole = damage(in);
    fuzz_trace("%s JSON: %s\n", whole ? "right" : "damaged", text);
    struct json *v = json_read(text, text_n, &wrong);
    CHECK((v != NULL) != (wrong != NULL), "neither a value nor what is wrong");
    CHECK(!whole || v != NULL, "not read: at %td of %zu", wrong - text, text_n);
    CHECK(v != NULL || (wrong >= text && wrong <= text + text_n), "what is wrong lies outside");
    if (v == NULL)
        return;
    CHECK(!whole || count_values(v) == values + (stats ? 5 : 0), "%u values, not %u", count_values(v),
          values + (stats ? 5 : 0));
    FILE *out = nowhere();
    const struct json *two[] = {v, v};
    const char *const names[] = {"a<b", text};
    page_begin(out, text);
    if (v->type == JSON_OBJECT)
        page_stats(out, v);
    page_timeline(out, two, names, 2);
    fclose(out);
    free(v);
}

/* ---- heap profiles ---- */

static void try_heap(struct input *in)
{
    unsigned stacks = take_below(in, STACKS), line = 0;
    double all = 0;
    put("heap profile: 1: 2 [3: 4] @ %s", take_below(in, 2) != 0 ? "heap_v2/1\n" : "heapprofile\n");
    for (unsigned i = 0; i < stacks; i++) {
        uint64_t blocks = 1 + take_below(in, 100), bytes = blocks * (64 + take_below(in, 1000) * 8);
        uint64_t live = take_below(in, 2);
        all += (double)bytes;
        put("%" PRIu64 ": %" PRIu64 " [%" PRIu64 ": %" PRIu64 "] @", live * blocks, live * bytes, blocks, bytes);
        for (unsigned k = take_below(in, FRAMES); k > 0; k--)
            put(" 0x%x", 0x1000 + take_below(in, 8192));
        put("\n");
    }
    put("\nMAPPED_LIBRARIES:\n1000-1800 r-xp 00000000 00:00 0 /nowhere/a;b<c\n1800-2000 r--p 0 0:0 0 \n"
        "2000-2500 r-xp 00000000 00:00 0 /proc/self/exe\n");
    bool whole = damage(in);
    fuzz_trace("%s profile: %s\n", whole ? "right" : "damaged", text);
    struct heapfile h;
    const char *wrong = heapfile_read(&h, text, &line);
    CHECK(!whole || wrong == NULL, "not read: %s in line %u", wrong, line);
    struct names *names = wrong == NULL ? names_of(&h) : NULL;
    if (names != NULL) {
        double sum = 0;
        FILE *out = nowhere();
        for (size_t i = 0; i < h.stack_count; i++)
            sum += h.stacks[i].all_bytes;
        CHECK(!whole || (h.stack_count == stacks && fabs(sum - all) < 1 + all / 1e6), "%zu stacks, %f bytes of %f",
              h.stack_count, sum, all);
        CHECK(flame_svg(out, &h, names, FLAME_LIVE) && flame_folded(out, &h, names, FLAME_ALL), "no memory");
        fclose(out);
    }
    names_free(names);
    heapfile_free(&h);
}

void fuzz_report(struct input *in)
{
    while (input_left(in)) {
        text_n = 0;
        if (take_below(in, 2) != 0)
            try_json(in);
        else
            try_heap(in);
    }
}
