# What the library exports and needs: the public functions and nothing else, libc and nothing else, and no lock.
. "$top_srcdir/tests/tap.sh"
. "$top_srcdir/tests/lint/libraries.sh"
nm -D --defined-only "$LIBASHLAR" | awk '{ print $3 }' | sed 's/@.*//' | sort >"$scratch/exported"
declared_by libashlar >"$scratch/declared"
# The one variable: a thread's caches of pools, for functions that are compiled into programs.
is "$(nm -D --defined-only "$LIBASHLAR" | sed -n 's/^[0-9a-f]* \([BDR]\) \(ash_[a-z_]*\)\(@.*\)\{0,1\}$/\1 \2/p')" \
    "B ash_pool_caches" "one variable is exported"
is "$(grep '^ash_' "$scratch/exported" | grep -vx ash_pool_caches | diff - "$scratch/declared")" "" \
    "every public function is exported, and no other ash_"
family="malloc calloc realloc free reallocarray aligned_alloc posix_memalign memalign valloc pvalloc malloc_usable_size
free_sized free_aligned_sized cfree"
is "$(for name in $family; do grep -qx "$name" "$scratch/exported" || echo "$name"; done)" "" "malloc's family is exported"
if echo '#include <malloc.h>' | $CC -E - 2>/dev/null | grep -q mallinfo2; then
    libc_names='|dlopen$|__libc_(malloc|calloc|realloc|free|memalign|valloc|pvalloc)$'
    is "$(for name in mallinfo mallinfo2 malloc_trim malloc_stats malloc_info mallopt; do
        grep -qx "$name" "$scratch/exported" || echo "$name"; done)" "" "glibc's statistics are exported"
fi
is "$(grep -cE '^_Z(nw|na|dl|da)' "$scratch/exported")" 20 "the twenty C++ operators are exported"
is "$(grep -vE '^(ash_|_Z(nw|na|dl|da)|mall|(c|re|v|pv)alloc$|reallocarray$|c?free|aligned_alloc$|posix_memalign$|memalign$)'"${libc_names:-}" \
    "$scratch/exported")" "" "nothing else is"
is "$(readelf -d "$LIBASHLAR" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sed 's/\.so.*//' | tr '\n' ' ')" "libc " "needs libc alone"

# No lock. What every object of the library takes from outside is listed here, with who needs it; nobody waits in it:
#   errno, environ, getauxval, clock_gettime    words of libc, the vDSO
#   mem*, str*                                  leaves
#   pthread_key_create, pthread_setspecific     heap/thread alone: the first at boot; the other at a thread's first slow path,
#                                               where neither glibc nor musl takes a lock
#   sigaction, fstat, fstatat                    system calls, for statistics and mapped files
#   abort                                       the end
#   __tsan_init, __msan_init                    asked whether they are there
#   fprintf, fwrite, fflush, fileno, stderr     preload/glibc alone: malloc_info and malloc_stats write to a FILE, by
#                                               fputs where the compiler does not make it fwrite
#   __ehdr_start, etext                         run/profile: where the library's code lies, from the linker
#   profile_open                                run/profile: preload/profiler, in the shared object alone, before main
#   dlopen, dlsym, dlclose, the C++ runtime     preload/operators alone: an operator new that has failed
#   __start_ashlar_anchor, __stop_ashlar_anchor are the linker's
# (tests/cover.c is inside where coverage is measured, and nowhere else)
archives="$top_builddir/.libs/libcore.a $top_builddir/.libs/libfront.a"
# shellcheck disable=SC2086 # a list of words, here and below
nm -uA $archives | sed -E 's,^.*:(libfront_la-)?([a-z_]*)\.o: *[UwvV] ,\2 ,; s,@.*,,; s, fputs$, fwrite,' | sort -u >"$scratch/needs"
# shellcheck disable=SC2086
nm -gA --defined-only $archives | awk '{ print $NF }' | sort -u >"$scratch/own"
is "$(awk 'NR == FNR { own[$1]; next } !($2 in own)' "$scratch/own" "$scratch/needs" |
    grep -vE ' (_*errno_location|_*environ|getauxval|__ehdr_start|etext|profile_open|__libc_stack_end|clock_gettime|_GLOBAL_OFFSET_TABLE_|__st(art|op)_ashlar_anchor)$' |
    grep -vE ' (bcmp|mem(chr|cmp|cpy|move|set)|str(chr|cmp|cspn|len|ncmp)|strnlen)$' |
    grep -v '^cover ' |
    grep -vE ' (__[a-z]*di2|__[a-z]*_chk|__stack_chk_.*|__aarch64_.*|_*gcov_.*|__(asan|ubsan|tsan|msan|llvm)_.*)$' | tr '\n' ',')" \
    "check abort,glibc fflush,glibc fileno,glibc fprintf,glibc fwrite,glibc stderr,\
operators _ZSt15get_new_handlerv,operators _ZSt17__throw_bad_allocv,operators abort,operators dlclose,operators dlopen,\
operators dlsym,os_file fstat,os_file fstatat,os_process sigaction,thread pthread_key_create,thread pthread_setspecific," \
    "no object calls anything that could wait"
is "$(awk '$2 == "os_yield" { print $1 }' "$scratch/needs" | tr '\n' ' ')" "boot dump " \
    "two may yield: the second of two first calls of a process, and statistics at exit, for a second at most"
is "$(awk '$2 == "thread_boot" || $2 == "os_signal_handle" { print $1 }' "$scratch/needs" | tr '\n' ' ')" "boot dump " \
    "the exit key is made at boot alone, signals are handled for statistics alone"
# The system calls that are made without libc; those of the layers are in symbols_layers.sh. ppoll waits for a pipe that
# is full, in a write of statistics or a message.
is "$(grep -rhoE --exclude=os_dir.c '\bSYS_[a-z_0-9]+' "$top_srcdir/src" "$top_srcdir/preload" | sort -u | tr '\n' ' ')" \
    "SYS_close SYS_fcntl SYS_futex SYS_getcwd SYS_getpid SYS_getrandom SYS_ioctl SYS_madvise SYS_memfd_create SYS_mmap \
SYS_mprotect SYS_mremap SYS_munmap SYS_openat SYS_ppoll SYS_prlimit64 SYS_process_madvise SYS_process_vm_readv SYS_read SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigtimedwait \
SYS_sched_yield SYS_userfaultfd SYS_write " "the system calls are these"
is "$(awk '$2 == "os_wait" || $2 == "os_wake" { print $1 }' "$scratch/needs" | tr '\n' ' ')" "" \
    "nothing of malloc's family waits for a futex"
is "$(find "$top_builddir/src" "$top_builddir/preload" -name '*.o' ! -name '*operators.o' ! -name '*deepbind.o' ! -name '*profiler.o' -exec nm -uA {} + | grep -E ' (dlsym|dlopen)')" \
    "" "nothing is looked up by name but what a failed operator new throws with, dlopen at its first call, and the profile's library"
is "$(readelf -lW "$LIBASHLAR" | grep -cE 'GNU_STACK.* RWE|RWE')" 0 "no page is writable and executable"
readelf -dW "$LIBASHLAR" | grep -q 'NODELETE' && readelf -dW "$LIBASHLAR" | grep -qE 'BIND_NOW|NOW'
ok $? "bound at start, never unloaded"
is "$(readelf -rW "$LIBASHLAR" | grep -cE 'TLSDESC|DTPMOD')" 0 "thread-local storage is initial-exec"
strip -o "$scratch/stripped.so" "$LIBASHLAR"
size=$(wc -c <"$scratch/stripped.so")
if grep -q gcov "$scratch/needs"; then
    skip "stripped, it is at most 200 KiB" "it measures coverage"
elif $CC --version | grep -q clang; then
    skip "stripped, it is at most 200 KiB" "clang's code is larger: $size bytes"
else
    [ "$size" -le 204800 ]
    ok $? "stripped, it is at most 200 KiB: $size bytes"
fi
profile=$(dirname "$LIBASHLAR")/libashlar-profile.so
is "$(nm -gD --defined-only "$profile" | awk '{ print $3 }')" "ash_profile_attach" "the profile's library has one entry"
is "$(readelf -d "$profile" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sed 's/\.so.*//' | tr '\n' ' ')" "libc " "and needs libc alone"
is "$(nm -D --undefined-only "$profile" | grep -cE ' (malloc|calloc|realloc|free|pthread_[a-z_]*|_Unwind_[A-Za-z]*)(@|$)')" 0 \
    "it neither allocates, nor locks, nor needs an unwinder"
if [ -e "$top_builddir/libashlar.a" ]; then
    is "$(nm -g --defined-only "$top_builddir/libashlar.a" | awk 'NF == 3 { print $3 }' | sort)" "$(grep -vx dlopen "$scratch/exported")" \
        "the archive's global names are the same but for dlopen"
fi
tap_done
