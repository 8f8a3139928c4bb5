#include "doctor.h"

#include "ashlar.h"
#include "library.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int help(void)
{
    puts("usage: ashlar doctor [--dry] PROGRAM [ARGUMENT...]\n\n"
         "Says whether PROGRAM will run with libashlar.so preloaded, and what is in the way: a "
         "line\n"
         "for each finding, with the remedy. PROGRAM is not run; its dynamic loader is asked what "
         "it\n"
         "would load, but with --dry.\n\n"
         "Exit status: 0 it will work, 1 it will not, 2 wrong usage.\n");
    return STATUS_OK;
}

void found(struct report *r, enum grade grade, const char *format, ...)
{
    static const char *const words[] = {"ok     ", "warning", "problem"};
    va_list args;
    va_start(args, format);
    printf("%s  ", words[grade]);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
    r->count[grade]++;
}

bool doctor_line(const char *path, char *line, size_t cap)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return false;
    bool read = fgets(line, (int)cap, f) != NULL;
    if (read)
        line[strcspn(line, "\n")] = '\0';
    fclose(f);
    return read;
}

static int verdict(const struct report *r)
{
    if (r->count[GRADE_PROBLEM] > 0)
        printf("It will not work: %u problem%s.\n", r->count[GRADE_PROBLEM],
               r->count[GRADE_PROBLEM] == 1 ? "" : "s");
    else if (r->count[GRADE_WARNING] > 0)
        printf("It will work; see the warning%s.\n", r->count[GRADE_WARNING] == 1 ? "" : "s");
    else
        puts("It will work.");
    return r->count[GRADE_PROBLEM] > 0 ? STATUS_FAILED : STATUS_OK;
}

int command_doctor(int argc, char **argv)
{
    struct report report = {{0}};
    struct binary library, program;
    char path[2 * PATH_MAX];
    bool dry = false;
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--help") == 0)
            return help();
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (strcmp(argv[i], "--dry") != 0)
            return usage_error("doctor: option '%s' is not known; see `ashlar doctor --help`",
                               argv[i]);
        dry = true;
    }
    if (i == argc)
        return usage_error("doctor: no program given; see `ashlar doctor --help`");
    if (!library_find("libashlar.so", path, sizeof path))
        return STATUS_FAILED;
    if (!binary_open(&library, path))
        return failed("doctor: %s cannot be read", path);
    if (doctor_resolve(&report, argv[i], &program)) {
        doctor_program(&report, &program, &library);
        if (!dry)
            doctor_loader(&report, &program, &library);
        binary_close(&program);
    }
    binary_close(&library);
    doctor_system(&report);
    return verdict(&report);
}
