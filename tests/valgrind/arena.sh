# Memcheck sees what is wrong inside of arenas, and nothing where all is right.
. "$top_srcdir/tests/tap.sh"
if ! has valgrind || ! grep -q 'HAVE_VALGRIND_VALGRIND_H=1' "$top_builddir/Makefile"; then
    skip "memcheck" "valgrind or its headers are not here"
    tap_done
fi
if grep -q 'CORE_CFLAGS = .*-fsanitize' "$top_builddir/Makefile"; then
    skip "memcheck" "a sanitizer is there"
    tap_done
fi
if valgrind "$top_builddir/ashlar" --version 2>&1 | grep -q '^###'; then
    skip "memcheck" "valgrind cannot read this compiler's debugging data"
    tap_done
fi
cat >"$scratch/try.c" <<'END'
#include <ashlar/arena.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int seen;

int main(int argc, char **argv)
{
    struct ash_arena *parent = ash_arena_create(NULL, "parent", NULL), *a = ash_arena_create(parent, "a", NULL);
    struct ash_mark mark = ash_arena_mark(a);
    char *p = ash_arena_strdup(a, "a text");
    size_t n = 200000;
    char *large = ash_arena_zalloc(a, n);
    large = ash_arena_realloc(a, large, n, 2 * n);
    switch (argc > 1 ? atoi(argv[1]) : 0) {
    case 1: ash_arena_reset(a); break;
    case 2: ash_arena_rollback(a, mark); break;
    case 3: ash_arena_destroy(a); break;
    case 4: ash_arena_reset(parent); break;
    case 5: p = ash_arena_alloc(a, 7); p += 7; break;
    case 6: p = ash_arena_zalloc(a, 16); p -= 1; break;
    case 7: p = ash_arena_alloc(a, 7); break; /* holds nothing yet */
    case 8: p = ash_arena_realloc(a, p, 7, 3) + 3; break;
    }
    seen = *(volatile char *)p == 'a' ? 1 : 2;
    if (argc == 1) {
        seen += large[n - 1];
        ash_arena_merge(parent, a);
        seen += p[1];
    }
    ash_arena_destroy(parent);
    return 0;
}
END
$CC -g -I"$top_srcdir/include" -o "$scratch/try" "$scratch/try.c" -L"$top_builddir/.libs" -lashlar 2>"$scratch/log"
ok $? "a program is built"
# run CASE: what memcheck says, its first line
run() {
    LD_LIBRARY_PATH="$top_builddir/.libs" valgrind -q "$scratch/try" "$@" 2>&1 | sed 's/^==[0-9]*== *//' | head -n 1
}
nothing="Conditional jump or move depends on uninitialised value(s)"
is "$(run)" "" "nothing is wrong with a right use"
is "$(run 1)" "Invalid read of size 1" "a read after a reset"
is "$(run 2)" "Invalid read of size 1" "after a rollback"
# Chunks that went back to the allocator may be touched, by it, but hold nothing.
is "$(run 3)" "$nothing" "after destroy"
is "$(run 4)" "$nothing" "after a reset of the arena above"
is "$(run 5)" "Invalid read of size 1" "behind a block"
is "$(run 6)" "Invalid read of size 1" "before a block"
is "$(run 7)" "$nothing" "of a block that holds nothing yet"
is "$(run 8)" "Invalid read of size 1" "behind a block that was shortened"
tap_done
