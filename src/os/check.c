#include "os/check.h"

#include "base/fmt.h"
#include "os/os_file.h"

#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

enum { LINE_CAP = 512 };

static void say(int fd, const char *format, va_list args)
{
    char line[LINE_CAP];
    struct fmt f;
    fmt_init(&f, line, sizeof line - 1, NULL, NULL); /* a byte stays for the newline */
    fmt_printf(&f, "ashlar: ");
    fmt_vprintf(&f, format, args);
    fmt_end(&f);
    for (size_t i = 0; i < f.len; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    line[f.len] = '\n';
    os_write_all(fd, line, f.len + 1);
}

void fatal(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(STDERR_FILENO, format, args);
    va_end(args);
    abort();
}

void warn_line(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(STDERR_FILENO, format, args);
    va_end(args);
}

void warn_line_to(int fd, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(fd, format, args);
    va_end(args);
}
