/*
 * The statistics of another process, made by the code that makes a process's own.
 *
 * The library is inside this program as well, in no use. Its variables that statistics are made of
 * are overwritten with the target's, entry by entry of the anchor (base/anchor.h). What they point
 * to is in the target, at addresses where this program has nothing: when the code follows such a
 * pointer, the processor stops it, and the page is copied here, to the same address (rule 2). So
 * there is one description of every record, and the figures are the process's own, at rest to the
 * last digit.
 *
 * Rules
 *  1. Only from the function given to mirror_run the library's reading functions may be called:
 *     ash_stats_get, ash_stats_class, emit_... That function allocates nothing that it would mind
 *     to lose: it may be left at any of them (rule 4).
 *  2. A page is copied once in a run, at first use, and dropped at the end. While the target's
 *     threads run, pages and variables are therefore microseconds to a few milliseconds apart;
 *     each word is whole. Differences that would come out negative are shown as 0, as in the
 *     process.
 *  3. Where a mapping of this program lies at the address of one of the target's, the target's
 *     could not be told from ours. Both are placed at random, so that happens once in some
 *     thousand starts; the program then starts itself again, with other addresses
 *     (mirror_restart).
 *  4. A page that cannot be read ends the run: the target is gone, or its records are damaged. So
 *     do records that lead on for ten seconds.
 *  5. Nothing of the target's is called, nothing is written to it, and none of its texts is printed
 *     as it is: it may be another user's, and we may be root.
 *
 * Things that a program shows of its own (ash_stats_add) are known to functions of that program
 * alone. Their kind is there, without things.
 */
#ifndef ASHLAR_TOOLS_MIRROR_H
#define ASHLAR_TOOLS_MIRROR_H

#include "target.h"

enum mirror_state {
    MIRROR_READY,
    MIRROR_GONE,    /* the target has ended, or runs another program by now */
    MIRROR_TORN,    /* its records lead nowhere */
    MIRROR_OTHER,   /* its library was built from other sources */
    MIRROR_OVERLAP, /* see rule 3 */
    MIRROR_IDLE,    /* it has allocated nothing yet, not even booted */
};

/* Takes the target's variables and calls `fn`, which reads statistics as if they were our own. */
enum mirror_state mirror_run(const struct target *t, void (*fn)(void *arg), void *arg);

/*
 * Starts this program again with its arguments and addresses of its own; returns when that has not
 * helped a few times, or is impossible.
 */
void mirror_restart(char **argv);

/* What a state means, with what to do about it. */
void mirror_say(enum mirror_state state, const struct target *t, char why[TARGET_WHY]);

#endif
