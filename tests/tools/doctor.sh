# ashlar doctor, and the completion of command lines: every finding by a program that has it.
. "$top_srcdir/tests/tap.sh"
ashlar=$top_builddir/ashlar
if ! nm -D "$LIBASHLAR" 2>/dev/null | grep -q ' malloc$'; then
    skip "doctor" "this build has no malloc"
    tap_done
fi
unset LD_PRELOAD LD_AUDIT

# finds STATUS PATTERN NAME COMMAND...: the status, and a line of the report.
finds() {
    status=$1 pattern=$2 name=$3
    shift 3
    "$@" >"$scratch/report" 2>&1
    got=$?
    [ $got = "$status" ] && grep -qE "$pattern" "$scratch/report"
    ok $? "$name"
    [ $got = "$status" ] && grep -qE "$pattern" "$scratch/report" || sed "s/^/# $got: /" "$scratch/report"
}
doctor="$ashlar doctor"
printf 'int main(void) { return 0; }\n' >"$scratch/empty.c"
$CC -o "$scratch/empty" "$scratch/empty.c"
# shellcheck disable=SC2086 # a list of words, here and below
finds 0 '^It will work' "an ordinary program" $doctor "$scratch/empty"
is "$(grep -cvE '^(ok     |warning|problem)  .|^It will work' "$scratch/report")" 0 "every finding is one line with its grade"
finds 0 "^ok       the loader takes .*/libashlar.so" "the loader is asked" $doctor "$scratch/empty"
finds 0 '^ok       glibc is 2\.[0-9]+, libashlar.so needs 2\.[0-9]+' "versions of glibc" $doctor "$scratch/empty"
$doctor --dry "$scratch/empty" | grep -q 'loader takes'
is $? 1 "--dry: it is not"
touch "$scratch/ran"
printf '#!/bin/sh\nrm %s\n' "$scratch/ran" >"$scratch/script"
chmod +x "$scratch/script"
finds 0 "^ok       $scratch/script is a script; what runs is /bin/sh" "a script" $doctor "$scratch/script"
[ -e "$scratch/ran" ]
ok $? "and nothing runs"
printf '#! /usr/bin/env -S sh -e\n' >"$scratch/by-env"
chmod +x "$scratch/by-env"
finds 0 "what runs is /.*/sh$" "a script by env" $doctor "$scratch/by-env"
printf '#!%s\n' "$scratch/circle" >"$scratch/circle"
chmod +x "$scratch/circle"
finds 1 '^problem  .* leads from script to script' "a script that is its own interpreter" $doctor "$scratch/circle"
PATH="$scratch:$PATH" finds 0 "^ok       .*/empty is for" "by PATH" $doctor empty
finds 1 '^problem  nothing-of-that-name is not there' "a program that is not there" $doctor nothing-of-that-name
finds 1 '^problem  .*/empty.c is not there, or cannot be run' "a file that cannot be run" $doctor "$scratch/empty.c"
cp "$scratch/empty.c" "$scratch/text"
chmod +x "$scratch/text"
finds 1 '^problem  .*/text is neither an ELF program nor a script' "a file that is no program" $doctor "$scratch/text"

if $CC -static -o "$scratch/static" "$scratch/empty.c" 2>/dev/null; then
    finds 1 '^problem  it is linked statically.*: link libashlar.a into it' "a static program" $doctor "$scratch/static"
    if [ -e "$top_builddir/libashlar.a" ]; then
        printf '#include <stdlib.h>\nint main(void) { return malloc(1) == 0; }\n' >"$scratch/malloc.c"
        $CC -fno-builtin -static -o "$scratch/inside" "$scratch/malloc.c" "$top_builddir/libashlar.a" -pthread 2>/dev/null &&
            finds 0 '^ok       Ashlar is linked into it' "a static program with Ashlar" $doctor "$scratch/inside"
    fi
fi
if $CC -m32 -o "$scratch/small" "$scratch/empty.c" 2>/dev/null; then
    finds 1 '^problem  .* is for 32-bit' "a 32-bit program" $doctor "$scratch/small"
fi
# The machine in the header: EM_S390.
cp "$scratch/empty" "$scratch/foreign"
printf '\026\000' | dd of="$scratch/foreign" bs=1 seek=18 conv=notrunc 2>/dev/null
finds 1 '^problem  .* is for s390, libashlar.so for .*: build Ashlar for that machine' "another machine" $doctor "$scratch/foreign"
if has musl-gcc && musl-gcc -o "$scratch/musl" "$scratch/empty.c" 2>/dev/null; then
    finds 1 '^problem  it is built for musl, libashlar.so for glibc' "another libc" $doctor "$scratch/musl"
fi
printf '#include <stddef.h>\nvoid *malloc(size_t n) { (void)n; return NULL; }\nint main(void) { return 0; }\n' >"$scratch/own.c"
$CC -fno-builtin -rdynamic -o "$scratch/own" "$scratch/own.c"
finds 1 '^problem  it has a malloc of its own inside' "a malloc inside" $doctor "$scratch/own"
printf 'int tc_mine(void) { return 0; }\n' | $CC -shared -fPIC -Wl,-soname,libtcmalloc_mine.so.4 -o "$scratch/libtcmalloc_mine.so.4" -x c -
printf 'int tc_mine(void);\nint main(void) { return tc_mine(); }\n' >"$scratch/linked.c"
$CC -o "$scratch/linked" "$scratch/linked.c" "$scratch/libtcmalloc_mine.so.4" -Wl,-rpath,"$scratch"
finds 0 '^warning  it is linked to libtcmalloc_mine.so.4' "linked to another allocator" $doctor "$scratch/linked"
rm "$scratch/libtcmalloc_mine.so.4"
finds 1 '^problem  the loader says: .*libtcmalloc_mine.so.4' "a library that is missing" $doctor "$scratch/linked"
if [ "$(id -u)" = 0 ] && has setpriv; then
    chmod 755 "$scratch"
    cp "$scratch/empty" "$scratch/setuid"
    chmod 4755 "$scratch/setuid"
    finds 0 'rights of its caller' "setuid, and we are its owner" $doctor "$scratch/setuid"
    mkdir "$scratch/bin" && cp "$ashlar" "$LIBASHLAR" "$scratch/bin"
    chmod 755 "$scratch/bin" "$scratch/bin"/*
    finds 1 '^problem  it is setuid, for which the loader ignores LD_PRELOAD' "setuid, and we are not" \
        setpriv --reuid=65534 --regid=65534 --clear-groups "$scratch/bin/ashlar" doctor "$scratch/setuid"
    if has setcap && setcap cap_net_raw+ep "$scratch/empty" 2>/dev/null; then
        finds 1 '^problem  it has file capabilities' "file capabilities" \
            setpriv --reuid=65534 --regid=65534 --clear-groups "$scratch/bin/ashlar" doctor "$scratch/empty"
        setcap -r "$scratch/empty"
    fi
fi
mkdir -p "$scratch/snap/bin"
cp "$scratch/empty" "$scratch/snap/bin/thing"
finds 1 '^problem  snap starts it confined' "snap" $doctor "$scratch/snap/bin/thing"
cp "$scratch/empty" "$scratch/php8.2"
finds 0 '^ok       PHP .* RTLD_DEEPBIND' "PHP" $doctor "$scratch/php8.2"
finds 1 '^problem  PHP .*, unless ASHLAR_DEEPBIND=1' "PHP, with ASHLAR_DEEPBIND=1" env ASHLAR_DEEPBIND=1 $doctor "$scratch/php8.2"
cp "$scratch/empty" "$scratch/image"
printf 'AI\002' | dd of="$scratch/image" bs=1 seek=8 conv=notrunc 2>/dev/null
finds 0 '^warning  .* is an AppImage' "an AppImage" $doctor --dry "$scratch/image"

finds 0 '^warning  unknown option ASHLAR_GRIAN ignored .did you mean ASHLAR_GRAIN' "an unknown variable" \
    env ASHLAR_GRIAN=16 $doctor "$scratch/empty"
finds 0 '^warning  ASHLAR_GRAIN=17 ignored: allowed is 16\|64' "a bad value" env ASHLAR_GRAIN=17 $doctor "$scratch/empty"
finds 0 '^warning  LD_AUDIT=' "LD_AUDIT" env LD_AUDIT="$scratch/none.so" $doctor "$scratch/empty"
finds 0 '^ok       LD_PRELOAD=.*puts libashlar.so first' "LD_PRELOAD" env LD_PRELOAD="$LIBASHLAR" $doctor "$scratch/empty"
(ulimit -v 40000 && finds 1 '^problem  the limit on address space is 39 MiB' "RLIMIT_AS" $doctor --dry "$scratch/empty" | sed "s/^ok .* - /ok 1 - /") |
    grep -q '^ok'
ok $? "a limit on address space"
$doctor --nonsense 2>/dev/null
is $? 2 "an unknown option"
$doctor 2>/dev/null
is $? 2 "no program"

# Damaged files: a byte changed at each place of the headers, and files cut short.
failures=0
for at in 4 5 16 18 24 32 33 39 40 47 52 54 56 58 60 62 64 72 80 96 104 120 200 300; do
    cp "$scratch/empty" "$scratch/damaged"
    printf '\377\377\377\177' | dd of="$scratch/damaged" bs=1 seek=$at conv=notrunc 2>/dev/null
    timeout 10 $doctor "$scratch/damaged" >/dev/null 2>&1
    [ $? -le 1 ] || failures=$((failures + 1))
    head -c $((at * 16)) "$scratch/empty" >"$scratch/damaged"
    timeout 10 $doctor "$scratch/damaged" >/dev/null 2>&1
    [ $? -le 1 ] || failures=$((failures + 1))
done
is "$failures" 0 "damaged files"

# ---- completion ----

if has bash; then
    # complete WORD...: what bash offers for the last one.
    complete() {
        PATH="$top_builddir:$PATH" bash -c 'source <(ashlar completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            _ashlar && printf "%s\n" "${COMPREPLY[@]}"' bash "$@"
    }
    missing=$("$ashlar" --help | sed -n 's/^  \([a-z]*\) .*/\1/p' | while read -r name; do
        complete ashlar "" | grep -qx "$name" || echo "$name"
    done)
    is "$missing" "" "bash: every command is offered"
    is "$("$ashlar" --help | sed -n 's/^  \([a-z]*\) .*/\1/p' | while read -r name; do
        "$ashlar" "$name" --help | grep -oE '^  (-[a-z]\b|--[a-z-]+)' | while read -r option; do
            complete ashlar "$name" - | grep -qx -e "$option" || echo "$name $option"
        done
    done)" "" "bash: every option that a command's help names"
    is "$(complete ashlar run --stats -- ls "$scratch/emp" | sort | tr '\n' ' ')" "$scratch/empty $scratch/empty.c " \
        "bash: files behind a program"
    is "$(complete ashlar doctor tru | sort -u | grep -cx true)" 1 "bash: programs"
    LD_PRELOAD=$LIBASHLAR sleep 100 &
    sleeper=$!
    until grep -q libashlar /proc/$sleeper/maps; do :; done
    is "$(complete ashlar stats "$sleeper")" "$sleeper" "bash: processes with Ashlar"
    kill $sleeper
fi
"$ashlar" completion fish >"$scratch/fish"
is "$? $(grep -c '^complete -c ashlar ' "$scratch/fish")" "0 7" "fish"
if has fish; then
    is "$(fish -N -c "source $scratch/fish; complete -C 'ashlar st'" | cut -f1)" stats "fish: a command"
fi
is "$("$ashlar" completion zsh | head -n 1)" "autoload -U +X bashcompinit && bashcompinit" "zsh"
"$ashlar" completion 2>/dev/null
is $? 2 "no shell"
tap_done
