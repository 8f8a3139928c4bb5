# A memory control group that gets full: with a limit below the group's, allocation fails with NULL before the kernel kills;
# and a program that frees as much as it allocates stays inside without one. Needs root, and a group of its own.
. "$top_srcdir/tests/tap.sh"
name=ashlar-test-$$
group=
swap=
enabled=
add_memory() {
    echo +memory >"$1" && enabled=$1
}
# Version 2, where the controller may have to be enabled for groups below the root; then version 1. The file of the limit.
if root=$(findmnt -nt cgroup2 -o TARGET 2>/dev/null | head -n 1) && [ -n "$root" ] &&
    grep -qw memory "$root/cgroup.controllers" 2>/dev/null &&
    { grep -qw memory "$root/cgroup.subtree_control" || add_memory "$root/cgroup.subtree_control"; } 2>/dev/null; then
    group=$root/$name
    limit=memory.max
    swap=memory.swap.max
elif root=$(findmnt -nt cgroup -O memory -o TARGET 2>/dev/null | head -n 1) && [ -n "$root" ]; then
    group=$root/$name
    limit=memory.limit_in_bytes
fi
trap '[ ! -d "$group" ] || rmdir "$group"; [ -z "$enabled" ] || echo -memory >"$enabled"; rm -rf "$scratch"' EXIT
if [ -z "$group" ] || ! mkdir "$group" 2>/dev/null || ! echo 100663296 2>/dev/null >"$group/$limit"; then
    skip "a full memory control group" "${group:-a memory controller} cannot be had"
    tap_done
fi
[ -z "$swap" ] || [ ! -e "$group/$swap" ] || echo 0 >"$group/$swap"
cat >"$scratch/full.c" <<'END_OF_PROGRAM'
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv)
{
    void *first = NULL;
    if (argc > 1) { /* 24 MiB live, 10 GiB through them */
        static char *held[1000];
        unsigned s = 1;
        for (size_t sum = 0; sum < (size_t)10 << 30;) {
            s = s * 1664525 + 1013904223;
            size_t n = 1 + (s >> 8) % (s % 64 == 0 ? 500000 : 40000);
            char **slot = &held[(s >> 5) % 1000];
            free(*slot);
            *slot = malloc(n);
            memset(*slot, 1, n < 8192 ? n : 8192);
            sum += n;
        }
        return puts(argv[1]) < 0;
    }
    for (void **p; (p = malloc(30000)) != NULL; first = p) {
        memset(p, 1, 30000);
        *p = first;
    }
    int error = errno;
    for (void **p = first, *next; p != NULL; p = next) {
        next = *p;
        free(p);
    }
    free(malloc(20 << 20));
    return puts(error == ENOMEM ? "NULL and ENOMEM" : "another error") < 0;
}
END_OF_PROGRAM
$CC -O1 -o "$scratch/full" "$scratch/full.c" 2>"$scratch/log"
inside() {
    sh -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$group" env LD_PRELOAD="$LIBASHLAR" "$@" 2>&1
}
is "$(inside ASHLAR_LIMIT=64M "$scratch/full")" "NULL and ENOMEM" "a limit below the group's is met first"
is "$(inside "$scratch/full" stayed)" "stayed" "freed memory is used again or goes back in time"
inside "$scratch/full" >/dev/null
is $? 137 "without either, the kernel kills: the group is one"
tap_done
