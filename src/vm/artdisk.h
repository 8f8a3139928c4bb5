/*
 * Artifacts on disk: one file each, in one directory that any number of processes share.
 *
 *     file    header (64 bytes) | content | configuration | zeroes to a multiple of 64 | data
 *     name    the key's hash in 32 hexadecimal digits, ".art"
 *
 *  1. A file is written under a random name ending in ".tmp" and renamed when it is whole, so a
 *     name ending in ".art" is a whole file, unless power was lost or somebody damaged it.
 *  2. The checksum covers every byte but itself. What was verified (or written) here is remembered
 *     as one word of hashed inode, size and time, so a file is passed over once; on 1 MiB that
 *     takes 90 us, where opening and mapping take 10. Written files are stamped with the fine
 *     clock: later writes get the kernel's coarse one, so their times differ.
 *  3. Use is noted in the time of modification, at most once a minute; access times are off on most
 *     systems.
 *  4. Budgets are looked after by whoever writes: when the files known of and those written since
 *     exceed one, or those written since are 1/16 of it (other processes write too), the directory
 *     is read and the files that were used longest ago are removed until 70 % are left. Two
 *     processes that do so at once remove the same files.
 *
 * Rejected: one file for all (needs a lock between processes and a story for its repair), an index
 * file (likewise; a directory is one).
 */
#ifndef ASH_ARTDISK_H
#define ASH_ARTDISK_H

#include "os/os_lock.h"
#include "vm/artifact.h"

enum { ARTDISK_VERIFIED = 1024 };

struct artdisk {
    int dir;                        /* const: -1 if there is none */
    unsigned flags;                 /* const */
    uint64_t max_bytes;             /* const */
    uint64_t max_files;             /* const */
    struct os_lock look;            /* taken by whoever reads the directory; nobody waits for it */
    _Atomic(uint64_t) bytes, files; /* atomic: at the last look */
    _Atomic(uint64_t) new_bytes, new_files;       /* atomic: written since */
    _Atomic(uint64_t) evictions, damaged, errors; /* atomic: counts */
    _Atomic(uint64_t) verified[ARTDISK_VERIFIED]; /* atomic: rule 2, by the key's hash */
};

/* 0 or a negative errno. `path` NULL: there is no directory, and nothing is ever found or kept. */
int artdisk_open(struct artdisk *d, const char *path, uint64_t max_bytes, uint64_t max_files,
                 unsigned flags);
void artdisk_close(struct artdisk *d);

/* Maps the artifact's file and sets its data; false if there is none. The maker calls. */
bool artdisk_load(struct artdisk *d, struct artifact *a);

/* Writes the artifact. */
void artdisk_store(struct artdisk *d, const struct artifact *a);

/* Notes that it was used: rule 3. */
void artdisk_touch(struct artdisk *d, const struct artifact *a);

/* False if there was none. */
bool artdisk_remove(struct artdisk *d, const uint64_t hash[2]);

/* Reads the directory and keeps to the budgets: rule 4. */
void artdisk_look(struct artdisk *d);

#endif
