/*
 * Statistics that the environment asks for: at exit, and on a signal.
 *
 * Rules:
 *  1. When neither option asks, nothing happens: no handler, no descriptor, no output.
 *  2. PATH is expanded and opened at each dump, so a forked child with %p in it writes its own
 *     file; a file from an earlier dump is replaced. A relative PATH is one from where the process
 *     was started.
 *  3. A PATH that cannot be written gives one line on standard error, and the statistics go nowhere
 *     else.
 *  4. Without PATH they go to standard error as it was when the process was started: a second
 *     descriptor of it is kept, since programs close theirs before destructors run. One that refers
 *     to another file by now is left alone.
 *  5. One dump at a time in a process. A signal that comes during one does nothing; exit waits a
 *     second for it.
 *  6. A dump changes neither errno nor the course of the program: the signal for a broken pipe is
 *     held back.
 */
#ifndef ASH_DUMP_H
#define ASH_DUMP_H

#include "base/base.h"

/* Reads the options, once, before main. */
void dump_init(void);

/*
 * Standard error as it was when the process was started; -1: it is gone. Once `dump_keep_stderr`
 * was called, before main.
 */
void dump_keep_stderr(void);
int dump_stderr(void);

/* Has `fn` called when the signal has come, too. Before main. */
void dump_also(void (*fn)(void));

/* The process ends: dumps where ASHLAR_STATS asks for it. */
void dump_at_exit(void);

/*
 * Expands %p to the process id and %% to a percent sign; other text is copied. False when `out` is
 * too small.
 */
bool dump_expand(char *out, size_t cap, const char *path, int pid);

/*
 * PATH, made absolute while the directory is still the one that the user meant; to be expanded.
 * False when `out` is too small.
 */
bool dump_absolute(char *out, size_t cap, const char *path);

#endif
