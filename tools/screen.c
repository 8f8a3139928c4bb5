#include "screen.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define ENTER "\033[?1049h\033[?25l\033[2J"
#define LEAVE "\033[0m\033[?25h\033[?1049l"

static struct termios cooked;
static volatile sig_atomic_t taken, resized, ended;

static void write_all(const char *s, size_t n)
{
    while (n > 0) {
        ssize_t k = write(STDOUT_FILENO, s, n);
        if (k < 0 && errno != EINTR)
            return;
        s += k > 0 ? k : 0;
        n -= k > 0 ? (size_t)k : 0;
    }
}

static void take(void)
{
    struct termios raw = cooked;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO); /* Ctrl-C and Ctrl-Z stay signals */
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    write_all(ENTER, sizeof ENTER - 1);
    taken = 1;
}

/* All of it may be called in a signal handler. */
void screen_close(void)
{
    if (!taken)
        return;
    taken = 0;
    write_all(LEAVE, sizeof LEAVE - 1);
    tcsetattr(STDIN_FILENO, TCSANOW, &cooked);
}

/* ---- signals ---- */

static void on_end(int signal)
{
    ended = signal;
}

static void on_resize(int signal)
{
    (void)signal;
    resized = 1;
}

/* A fault: the handler is gone already, so the signal comes again, or is sent again. */
static void on_fault(int signal)
{
    screen_close();
    raise(signal);
}

static void on_stop(int signal)
{
    int saved = errno;
    screen_close();
    (void)signal;
    raise(SIGSTOP);
    errno = saved;
}

static void on_continue(int signal)
{
    int saved = errno;
    (void)signal;
    if (!taken && !ended)
        take();
    resized = 1;
    errno = saved;
}

static void handle(int signal, void (*fn)(int), int flags)
{
    struct sigaction a = {.sa_handler = fn, .sa_flags = flags};
    struct sigaction was;
    if (sigaction(signal, NULL, &was) == 0 && was.sa_handler != SIG_IGN)
        sigaction(signal, &a, NULL);
}

static void handle_all(void)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGALRM};
    static const int faults[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        handle(ends[i], on_end, 0);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        handle(faults[i], on_fault, (int)SA_RESETHAND);
    handle(SIGTSTP, on_stop, SA_RESTART);
    handle(SIGCONT, on_continue, SA_RESTART);
    handle(SIGWINCH, on_resize, 0);
}

bool screen_open(void)
{
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &cooked) != 0)
        return false;
    handle_all();
    atexit(screen_close);
    take();
    return true;
}

void screen_obey(void)
{
    screen_close();
    if (ended == 0)
        return;
    signal(ended, SIG_DFL);
    raise(ended);
}

/* ---- size, pages, keys ---- */

static int number_of(const char *name, int fallback)
{
    const char *text = getenv(name);
    int n = text != NULL ? atoi(text) : 0;
    return n > 0 && n < 10000 ? n : fallback;
}

void screen_size(int *rows, int *columns)
{
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0;
    *rows = known ? size.ws_row : number_of("LINES", 24);
    *columns = known ? size.ws_col : number_of("COLUMNS", 80);
}

/* Without the end of the last line, which would scroll. */
void screen_show(const char *text, size_t length)
{
    size_t end = sizeof "\r\n" - 1;
    write_all("\033[H", 3);
    write_all(text, length > end ? length - end : 0);
    write_all("\033[J", 3);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int screen_key(int ms, enum screen_event *event)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    unsigned char key;
    int64_t until = now_ms() + ms;
    for (;;) {
        int64_t left = until - now_ms();
        if (ended || resized) {
            *event = ended ? SCREEN_ENDED : SCREEN_RESIZED;
            resized = 0;
            return 0;
        }
        *event = SCREEN_TIME;
        int n = left <= 0 ? 0 : poll(&in, 1, (int)left);
        if (n > 0 && read(STDIN_FILENO, &key, 1) == 1)
            return key;
        if (n > 0 && (in.revents & (POLLHUP | POLLERR | POLLIN)) != 0 && errno != EINTR) {
            *event = SCREEN_ENDED; /* nobody is there any more */
            return 0;
        }
        if (n == 0)
            return 0;
    }
}

bool screen_has_utf8(void)
{
    setlocale(LC_CTYPE, "");
    return strcasecmp(nl_langinfo(CODESET), "UTF-8") == 0;
}
