#include "show.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BAR = 24 };

bool show_colours(FILE *to)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(fileno(to)) && (no == NULL || *no == '\0') && term != NULL &&
           strcmp(term, "dumb") != 0;
}

static bool shown; /* a bar is on the screen */

void show_progress(int64_t elapsed_ns, double done, const char *what)
{
    char bar[BAR + 1], left[32] = "";
    if (!isatty(STDERR_FILENO))
        return;
    int full = (int)(done * BAR);
    memset(bar, '.', BAR);
    memset(bar, '#', (size_t)full);
    bar[BAR] = '\0';
    if (done > 0) {
        int seconds = (int)((double)elapsed_ns * (1 - done) / done / 1e9 + 0.5);
        snprintf(left, sizeof left, ", %d:%02d left", seconds / 60, seconds % 60);
    }
    fprintf(stderr, "\r[%s] %3.0f %%  %s%s\033[K", bar, 100 * done, what, left);
    fflush(stderr);
    shown = true;
}

void show_progress_end(void)
{
    if (shown)
        fputs("\r\033[K", stderr);
    shown = false;
}

/* Bytes of the UTF-8 sequence at `s`; 0: it is none, or a control, as terminals obey. */
static int utf8_length(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    int n = s[0] < 0x80                   ? 1
            : s[0] >= 0xC2 && s[0] < 0xE0 ? 2
            : (s[0] & 0xF0) == 0xE0       ? 3
            : s[0] >= 0xF0 && s[0] < 0xF5 ? 4
                                          : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    bool outside = (s[0] == 0xC2 && s[1] < 0xA0) || (s[0] == 0xE0 && s[1] < 0xA0) ||
                   (s[0] == 0xED && s[1] >= 0xA0) || (s[0] == 0xF0 && s[1] < 0x90) ||
                   (s[0] == 0xF4 && s[1] >= 0x90);
    return outside ? 0 : n;
}

/* At most `letters` of the text, `quote` writing each byte that stands for itself alone. */
static void put_text(FILE *to, const char *s, size_t letters,
                     void (*quote)(FILE *to, unsigned char c))
{
    for (; *s != '\0' && letters > 0; letters--) {
        int n = utf8_length(s);
        if (n == 1)
            quote(to, (unsigned char)*s);
        else if (n == 0)
            fputs("\xEF\xBF\xBD", to);
        else
            fwrite(s, 1, (size_t)n, to);
        s += n == 0 ? 1 : n;
    }
}

/* The same, with dots for the last letter where it is cut. */
static void put_short(FILE *to, const char *s, size_t letters,
                      void (*quote)(FILE *to, unsigned char c))
{
    const char *end = s;
    for (size_t i = 0; i < letters && *end != '\0'; i++) {
        int n = utf8_length(end);
        end += n == 0 ? 1 : n;
    }
    bool cut = *end != '\0';
    put_text(to, s, cut ? letters - 1 : letters, quote);
    if (cut)
        fputs("\xE2\x80\xA6", to);
}

static void json_byte(FILE *to, unsigned char c)
{
    if (c == '"' || c == '\\')
        fprintf(to, "\\%c", c);
    else if (c < ' ' || c == 127)
        fprintf(to, "\\u%04x", c);
    else
        fputc(c, to);
}

void show_json_text(FILE *to, const char *s)
{
    fputc('"', to);
    put_text(to, s, SIZE_MAX, json_byte);
    fputc('"', to);
}

static void xml_byte(FILE *to, unsigned char c)
{
    if (c == '<' || c == '>' || c == '&' || c == '"')
        fprintf(to, "&#%d;", c);
    else
        fputc(c < ' ' || c == 127 ? ' ' : c, to);
}

void show_xml_text(FILE *to, const char *s, size_t letters)
{
    put_short(to, s, letters, xml_byte);
}

static void plain_byte(FILE *to, unsigned char c)
{
    fputc(c < ' ' || c == 127 ? '?' : c, to);
}

void show_text(FILE *to, const char *s, size_t letters)
{
    put_short(to, s, letters, plain_byte);
}

FILE *show_open(const char *path)
{
    FILE *to = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
    if (to == NULL)
        fprintf(stderr, "ashlar: %s: %s\n", path, strerror(errno));
    return to;
}

bool show_close(FILE *to, const char *path)
{
    bool bad = fflush(to) != 0 || ferror(to);
    if (to != stdout && fclose(to) != 0)
        bad = true;
    if (bad)
        fprintf(stderr, "ashlar: %s: %s\n", path, strerror(errno != 0 ? errno : EIO));
    return !bad;
}
