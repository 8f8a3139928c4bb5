/*
 * The commands of the `ashlar` program: one file each, listed in tools/ashlar.c. A command gets its
 * own name as argv[0] and returns the exit status: 0, 1 when it could not do its work, 2 for a
 * wrong command line.
 */
#ifndef ASHLAR_TOOLS_ASHLAR_H
#define ASHLAR_TOOLS_ASHLAR_H

#include <stdbool.h>

enum { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

int command_completion(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_options(int argc, char **argv);
int command_report(int argc, char **argv);
int command_run(int argc, char **argv);
int command_trace(int argc, char **argv);
int command_record(int argc, char **argv);
int command_replay(int argc, char **argv);
int command_compare(int argc, char **argv);
int command_stats(int argc, char **argv);
int command_top(int argc, char **argv);

/* Both say "ashlar: …" on standard error; they return STATUS_USAGE and STATUS_FAILED. */
__attribute__((format(printf, 1, 2))) int usage_error(const char *format, ...);
__attribute__((format(printf, 1, 2))) int failed(const char *format, ...);

/* A process id; false: the text is none. */
bool pid_read(const char *text, int *pid);

#endif
