/* ashlar options: the table of src/info/options.def, as help. */
#include "ashlar.h"

#include "info/options.h"

#include <stdio.h>
#include <string.h>

enum { WIDTH = 76 };

/* Prints `text` in lines of WIDTH columns behind an indent. */
static void print_wrapped(const char *text)
{
    int column = 0;
    while (*text != '\0') {
        int word = (int)strcspn(text, " ");
        if (column == 0 || column + 1 + word > WIDTH - 4) {
            printf("%s    %.*s", column == 0 ? "" : "\n", word, text);
            column = word;
        } else {
            printf(" %.*s", word, text);
            column += 1 + word;
        }
        text += word;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static int print_option(const struct option *o, void *arg)
{
    (void)arg;
    printf("%s=%s (default %s)\n", o->name, o->values, o->fallback);
    print_wrapped(o->help);
    return 0;
}

int command_options(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        puts("usage: ashlar options\n\nLists the environment variables that libashlar.so obeys.");
        return STATUS_OK;
    }
    if (argc > 1)
        return usage_error("options: '%s' is too much; it takes no arguments", argv[1]);
    options_each(print_option, NULL);
    return STATUS_OK;
}
