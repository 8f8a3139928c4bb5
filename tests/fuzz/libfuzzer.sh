#!/bin/sh
# libfuzzer.sh SECONDS [TARGET...]: every target (or those named) in every mode under clang's libFuzzer, SECONDS for
# each target, with AddressSanitizer and UndefinedBehaviorSanitizer; from the directory that the library was built in.
# Inputs that reached something new stay in fuzz-corpus, and those that failed in fuzz-crashes: tests/fuzz/fuzz TARGET
# FILE shows what they do.
set -eu
seconds=$1
shift
top_srcdir=${top_srcdir:-$(dirname "$0")/../..}
build=fuzz-build corpus=fuzz-corpus crashes=fuzz-crashes
flags="-std=gnu11 -D_GNU_SOURCE -g -O1 -w -pthread -fno-builtin -fsanitize=fuzzer,address,undefined
-fno-sanitize-recover=undefined -I$top_srcdir/src -I$top_srcdir/include -I$top_srcdir/tests -I$top_srcdir"
mkdir -p $build $corpus $crashes
if ! echo 'int LLVMFuzzerTestOneInput(const char *s, unsigned long n) { return s == 0 && n != 0; }' |
    clang -fsanitize=fuzzer,address,undefined -x c -o $build/empty - 2>/dev/null; then
    echo "libFuzzer: no clang with it here"
    exit 0
fi
sources=$(for module in $(grep -v '^#' "$top_srcdir/src/LAYERS"); do
    [ -e "$top_srcdir/src/$module.c" ] && echo "$top_srcdir/src/$module.c"; done | grep -vE 'run/start.c|/prof/')
objects=
for source in $sources "$top_srcdir"/preload/malloc.c "$top_srcdir"/preload/api.c "$top_srcdir"/tests/fuzz/[!r]*.c \
    "$top_srcdir"/tools/trace*.c "$top_srcdir"/tools/elf.c \
    "$top_srcdir"/tools/json.c "$top_srcdir"/tools/heapfile.c "$top_srcdir"/tools/page.c "$top_srcdir"/tools/statpage.c \
    "$top_srcdir"/tools/symbols.c "$top_srcdir"/tools/flame.c "$top_srcdir"/tools/show.c; do
    object=$build/$(echo "${source#"$top_srcdir"/}" | tr / -).o
    case $source in */preload/*) first="-include $top_srcdir/tests/fuzz/family.h" ;; *) first= ;; esac
    # shellcheck disable=SC2086 # lists of words, here and below
    clang $flags $first -c -o $object "$source"
    objects="$objects $object"
done
# shellcheck disable=SC2086
clang $flags -Wl,--wrap=os_write_all,--wrap=os_write_fmt,--wrap=ash_stats_class -o $build/libfuzzer $objects -lm

status=0
tests/fuzz/fuzz --list >$build/list
while read -r target mode; do
    case " ${*:-$target} " in *" $target "*) ;; *) continue ;; esac
    modes=$(grep -c "^$target " $build/list)
    mkdir -p "$corpus/$target"
    echo "libFuzzer: $target $mode"
    # shellcheck disable=SC2086
    env $mode ASH_FUZZ_TARGET="$target" $build/libfuzzer -max_total_time=$(((seconds + modes - 1) / modes)) \
        -max_len=4096 -len_control=5 -artifact_prefix="$crashes/$target-" "$corpus/$target" \
        >$build/log 2>&1 </dev/null || {
        status=1
        tail -n 40 $build/log
    }
    grep -E '^(Done|stat::)|DONE' $build/log | tail -n 2
done <$build/list
exit $status
