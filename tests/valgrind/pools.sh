# memcheck knows the objects of pools that are not for debugging: the mistakes of tests/api/test_pool_wrong.c that only a
# tool can see are reported, and use as it should be is not.
. "$top_srcdir/tests/tap.sh"
program=$top_builddir/tests/api/test_pool_wrong
if ! need valgrind valgrind || ! grep -q 'HAVE_VALGRIND_MEMCHECK_H=1' "$top_builddir/Makefile"; then
    skip "memcheck and pools" "valgrind or its header is not installed"
    tap_done
fi
if ! valgrind -q true 2>/dev/null; then
    skip "memcheck and pools" "valgrind does not run here"
    tap_done
fi
if valgrind "$top_builddir/ashlar" --version 2>&1 | grep -q '^###'; then
    skip "memcheck and pools" "valgrind cannot read this compiler's debugging data"
    tap_done
fi
memcheck() {
    "$top_builddir/libtool" --mode=execute valgrind --soname-synonyms=somalloc='libashlar*' --leak-check="$2" \
        "$program" "$1" >"$scratch/log" 2>&1
    sed 's/^==[0-9]*== //' "$scratch/log"
}
reports() {
    memcheck "$1" "$2" | grep -q "$3"
    ok $? "$4"
    [ "$tap_failures" -eq 0 ] || sed 's/^/# /' "$scratch/log"
}
reports write-after-put no 'Invalid write of size 1' "a write after put"
grep -q "42 bytes inside a block of size 100 free'd" "$scratch/log"
ok $? "with the object and who put it"
reports read-after-put no 'Invalid read of size 1' "a read after a put by another thread"
reports write-behind no 'Invalid write of size 1' "a write behind an object"
reports use-unset no 'depends on uninitialised' "use of what an object held before"
reports leak full 'blocks are definitely lost' "objects that nobody refers to"
reports nothing no 'ERROR SUMMARY: 0 errors' "nothing else"
tap_done
