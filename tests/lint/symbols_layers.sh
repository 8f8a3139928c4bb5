# What the second library exports and needs: the functions of its own headers and nothing else, libashlar and libc alone.
. "$top_srcdir/tests/tap.sh"
. "$top_srcdir/tests/lint/libraries.sh"
layers=$top_builddir/.libs/libashlar-layers.so
nm -D --defined-only "$layers" | awk '{ print $3 }' | sed 's/@.*//' | sort >"$scratch/exported"
headers_of libashlar-layers >"$scratch/headers"
headers_of libashlar >"$scratch/first"
is "$(cat "$scratch/first" "$scratch/headers" | sort)" "$(cd "$top_srcdir/include" && ls ashlar/*.h | sort)" \
    "every public header belongs to one of the libraries"
is "$(declared_by libashlar-layers | diff "$scratch/exported" -)" "" "every public function is exported, and nothing else"
is "$(readelf -d "$layers" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sed 's/\.so.*//' | sort | tr '\n' ' ')" "libashlar libc " \
    "needs libashlar and libc alone"
if grep -q __gcov "$layers"; then
    skip "allocates by ash_malloc alone" "it measures coverage"
else
    is "$(nm -D --undefined-only "$layers" | awk '{ print $2 }' | grep -E '^(malloc|calloc|realloc|free|qsort|opendir|fopen)(@|$)')" "" \
        "allocates by ash_malloc alone"
fi
is "$(grep -rhoE '\bSYS_[a-z_0-9]+' "$top_srcdir/src/os/os_dir.c" "$top_srcdir/src/vm" | sort -u | tr '\n' ' ')" \
    "SYS_fdatasync SYS_flock SYS_fsync SYS_getdents64 SYS_mkdirat SYS_mmap SYS_munmap SYS_openat SYS_pread64 \
SYS_pwrite64 SYS_renameat2 SYS_sync_file_range SYS_unlinkat SYS_utimensat " \
    "its own system calls are these"
is "$(readelf -lW "$layers" | grep -cE 'GNU_STACK.* RWE|RWE')" 0 "no page is writable and executable"
readelf -dW "$layers" | grep -q 'NODELETE' && readelf -dW "$layers" | grep -qE 'BIND_NOW|NOW'
ok $? "bound at start, never unloaded"
is "$(readelf -rW "$layers" | grep -cE 'TLSDESC|DTPMOD')" 0 "thread-local storage is initial-exec"
is "$(readelf -SW "$layers" | grep -cE '\.ctors')" 0 "no constructors of its own"
if [ -e "$top_builddir/libashlar-layers.a" ]; then
    is "$(nm -g --defined-only "$top_builddir/libashlar-layers.a" | awk 'NF == 3 { print $3 }' | sort | diff - "$scratch/exported")" "" \
        "the archive's global names are the same"
    cat >"$scratch/program.c" <<'END'
#include <ashlar/layers.h>
int main(void)
{
    struct ash_callcache *c = ash_callcache_create(0, 0);
    return ash_callcache_put(c, 1, "a", 1, "b", 1, 0) != 0 || ash_callcache_destroy(c) != 0;
}
END
    $CC -I"$top_srcdir/include" -o "$scratch/program" "$scratch/program.c" "$top_builddir/libashlar-layers.a" \
        "$top_builddir/libashlar.a" 2>"$scratch/log" && "$scratch/program"
    ok $? "a program links to the archives"
    sed 's/^/# /' "$scratch/log"
fi
tap_done
