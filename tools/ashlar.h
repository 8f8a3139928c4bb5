/*
 * The commands of the `ashlar` program: one file each, listed in tools/ashlar.c. A command gets its
 * own name as argv[0] and returns the exit status: 0, 1 when it could not do its work, 2 for a
 * wrong command line.
 */
#ifndef ASHLAR_TOOLS_ASHLAR_H
#define ASHLAR_TOOLS_ASHLAR_H

enum { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

int command_options(int argc, char **argv);
int command_report(int argc, char **argv);
int command_run(int argc, char **argv);

/* Says "ashlar: …" on standard error and returns STATUS_USAGE. */
__attribute__((format(printf, 1, 2))) int usage_error(const char *format, ...);

#endif
