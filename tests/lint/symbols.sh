# What the library exports and needs: the public functions and nothing else, libc and nothing else, and no lock.
. "$top_srcdir/tests/tap.sh"
nm -D --defined-only "$LIBASHLAR" | awk '{ print $3 }' | sed 's/@.*//' | sort >"$scratch/exported"
cat "$top_srcdir"/include/ashlar/*.h | tr '\n' ' ' | grep -oE '\bash_[a-z_0-9]+\(' | tr -d '(' | sort -u >"$scratch/declared"
is "$(grep '^ash_' "$scratch/exported" | diff - "$scratch/declared")" "" "every public function is exported, and no other ash_"
family="malloc calloc realloc free reallocarray aligned_alloc posix_memalign memalign valloc pvalloc malloc_usable_size
free_sized free_aligned_sized cfree"
is "$(for name in $family; do grep -qx "$name" "$scratch/exported" || echo "$name"; done)" "" "malloc's family is exported"
if echo '#include <malloc.h>' | $CC -E - 2>/dev/null | grep -q mallinfo2; then
    libc_names='|__libc_(malloc|calloc|realloc|free|memalign|valloc|pvalloc)$'
    is "$(for name in mallinfo mallinfo2 malloc_trim malloc_stats malloc_info mallopt; do
        grep -qx "$name" "$scratch/exported" || echo "$name"; done)" "" "glibc's statistics are exported"
fi
is "$(grep -cE '^_Z(nw|na|dl|da)' "$scratch/exported")" 20 "the twenty C++ operators are exported"
is "$(grep -vE '^(ash_|_Z(nw|na|dl|da)|mall|(c|re|v|pv)alloc$|reallocarray$|c?free|aligned_alloc$|posix_memalign$|memalign$)'"${libc_names:-}" \
    "$scratch/exported")" "" "nothing else is"
is "$(readelf -d "$LIBASHLAR" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sed 's/\.so.*//' | tr '\n' ' ')" "libc " "needs libc alone"
is "$(nm -D --undefined-only "$LIBASHLAR" | grep -E 'mutex|cond_|rwlock|spin_|sem_|futex|once|fopen|pthread_create')" \
    "" "no lock, no condition, no thread among what it calls"
is "$(find "$top_builddir/src" "$top_builddir/preload" -name '*.o' ! -name '*operators.o' -exec nm -uA {} + | grep -E ' (dlsym|dlopen)')" \
    "" "nothing is looked up by name but what a failed operator new throws with"
is "$(readelf -lW "$LIBASHLAR" | grep -cE 'GNU_STACK.* RWE|RWE')" 0 "no page is writable and executable"
readelf -dW "$LIBASHLAR" | grep -q 'NODELETE' && readelf -dW "$LIBASHLAR" | grep -qE 'BIND_NOW|NOW'
ok $? "bound at start, never unloaded"
is "$(readelf -rW "$LIBASHLAR" | grep -cE 'TLSDESC|DTPMOD')" 0 "thread-local storage is initial-exec"
strip -o "$scratch/stripped.so" "$LIBASHLAR"
size=$(wc -c <"$scratch/stripped.so")
[ "$size" -le 204800 ]
ok $? "stripped, it is at most 200 KiB: $size bytes"
if [ -e "$top_builddir/libashlar.a" ]; then
    is "$(nm -g --defined-only "$top_builddir/libashlar.a" | awk 'NF == 3 { print $3 }' | sort | diff - "$scratch/exported")" "" \
        "the archive's global names are the same"
fi
tap_done
