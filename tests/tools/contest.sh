# ashlar compare: every allocator takes part and is measured; what commands do otherwise, and wrong command lines, are told.
# No time is asserted.
. "$top_srcdir/tests/tap.sh"
ashlar=$top_builddir/ashlar
cd "$scratch" || exit 99
if [ ! -e "$top_builddir/.libs/libashlar-record.so" ]; then
    skip "compare" "built without malloc"
    tap_done
fi
names=$("$ashlar" compare --list 2>/dev/null | cut -d' ' -f1 | tr '\n' ' ')
is "$(echo "$names" | cut -d' ' -f1-3)" "glibc ashlar ashlar-16" "--list: $names"
compare() {
    timeout 120 "$ashlar" compare "$@" >out 2>told
}

compare --json=r.json --markdown r.md --svg r.svg -n 6 -- sh -c 'ls -d /; echo more'
is "$? $(cat told)" "0 " "a command under all of them"
is "$(sed -n 1p out)" "sh -c 'ls -d /; echo more': 6 rounds in rotation, 1 to warm up" "the command, as a shell takes it"
for name in $names; do
    is "$(grep -cE "^[* ] $name( |$)" out) $(grep -c "^| $name " r.md)" "3 1" "$name has its lines"
done
is "$(grep -cE '^[* ] ashlar .*(same|[0-9.]+) \([0-9.]+ to [0-9.]+\)$' out)" 2 "time and memory against the first, with an interval"
is "$(grep -c "$(printf '\033')" out)" 0 "no colours in a pipe"
(compare --only glibc -n 1 --svg far.svg -- printf "$(printf '\033[31m\302\233')$(printf '%0300d' 0)"; cat out far.svg >far)
is "$(sed -n 1p out | cut -c 1-20) $(grep -cE "$(printf '\033|\302\233|0{200}')" far)" "printf '?[31m$(printf '\357\277\275\357\277\275')0 0" \
    "a command that would command the terminal, and is too long for a title"
if has python3; then
    python3 - $names <<'END' >figures 2>&1
import json, sys
from xml.dom import minidom
r = json.load(open("r.json"))
names = [a["name"] for a in r["allocators"]]
print(names == sys.argv[1:], r["command"] == ["sh", "-c", "ls -d /; echo more"], r["rounds"])
wall = [a["wall_ns"] for a in r["allocators"]]
print(all(len(w["samples"]) == 6 and w["min"] == min(w["samples"]) and w["max"] == max(w["samples"]) and
          w["ratio_low"] <= w["ratio"] <= w["ratio_high"] for w in wall), wall[0]["ratio"], wall[0]["differs"])
print(all(a["minor_faults"]["min"] > 50 and 2**20 < a["peak_rss_bytes"]["min"] < 2**30 and a["cpu_ns"]["min"] > 0 for a in r["allocators"]))
page = minidom.parse("r.svg")
print(len(page.getElementsByTagName("rect")) == 2 * len(names) + 1,
      "prefers-color-scheme:dark" in page.getElementsByTagName("style")[0].firstChild.data)
END
    is "$(cat figures)" "True True 6
True 1 False
True
True True" "JSON and SVG have every allocator and every sample"
else
    skip "JSON and SVG" "python3 is not installed"
fi

compare --only ashlar,glibc -n 1 --warmup 0 --json - -- ls -d /
is "$? $(grep -c '"name": "[a-z]*"' out) $(sed -n 's/^    {"name": "\([a-z]*\)".*/\1/p' out | tr '\n' ' ')" "0 2 ashlar glibc " "--only chooses, and says the order"
compare --only glibc,mine --with "mine=$LIBASHLAR" -n 1 --markdown=- -- ls -d /
is "$? $(grep -c '^| mine ' out)" "0 1" "--with adds a library"
compare --only glibc,ashlar -n 2 -- ls -d /
is "$(grep -c 'too few to tell a difference from noise; -n 6 is the least' out)" 1 "too few rounds are called so"
script -qec "$ashlar compare --only glibc,ashlar -n 2 -- ls -d /" /dev/null >tty 2>&1 </dev/null
is "$(($(grep -c 'round 2 of 2' tty) > 0)) $(($(grep -c "$(printf '\033')\[1m" tty) > 0))" "$(has script && echo 1 1 || echo 0 0)" "on a terminal there are a bar and colours"
is "$(NO_COLOR=1 script -qec "$ashlar compare --only glibc,ashlar -n 2 -- ls -d /" /dev/null 2>&1 </dev/null | grep -c "$(printf '\033')\[1m")" 0 "NO_COLOR"

# ---- commands of all kinds ----

few="--only glibc,ashlar -n 2 --warmup 0"
# shellcheck disable=SC2086 # a list of words, here and below
compare $few -- /nonexistent
is "$? $(cat told)" "1 ashlar: compare: /nonexistent: No such file or directory" "a command that is not there"
compare $few -- sh -c 'echo reason >&2; exit 3'
is "$? $(grep -c "the command's exit status is 3: reason" out)" "0 1" "one that fails under all of them alike"
compare $few -- sh -c 'kill -SEGV $$'
is "$? $(grep -c 'the command dies by signal 11 (Segmentation fault)' out)" "1 1" "one that dies of a signal"
compare $few -- sh -c 'echo "$LD_PRELOAD"'
is "$? $(grep -c 'ashlar: the command prints something else than under glibc$' out)" "1 1" "one that prints something else under another allocator"
compare $few --no-check -- sh -c 'echo "$LD_PRELOAD"'
is "$?" 0 "--no-check"
compare $few -- sh -c 'echo $$; [ -z "$LD_PRELOAD" ]'
is "$? $(grep -c "ashlar: the command's exit status is 1 (left out)" out)" "1 1" "one that fails under another allocator"
compare $few -- sh -c 'cat /proc/sys/kernel/random/uuid'
is "$? $(grep -c 'prints something else each time: outputs are not compared' out)" "0 1" "one that prints something else each time"
echo words >in
compare $few --stdin in -- grep -q words
is "$?$(grep -c 'exit status' out)" 00 "--stdin"
compare $few -- grep -q words <in
is "$?$(grep -c 'exit status' out)" 00 "standard input from a file is read by each run"
echo words | compare $few -- grep -q words
is "$(grep -c "the command's exit status is 1" out)" 1 "a pipe is not"
printf '#!/bin/sh\nls -d /\n' >script && chmod +x script
compare $few -- ./script
is "$?" 0 "a script"
echo 'int main(void) { return 0; }' >static.c
if $CC -static -o static static.c 2>/dev/null; then
    compare $few -- ./static
    is "$? $(grep -c 'ashlar: takes no effect: it is statically linked, so nothing can be preloaded (left out)' out)" "1 1" "a static program"
    is "$(cat told)" "ashlar: compare: preloading takes no effect on this command: there is nothing to compare" "is told"
else
    skip "a static program" "cannot be linked here"
fi
cat >own.c <<'END'
#include <stddef.h>
static char memory[1 << 20];
static size_t used;
void *malloc(size_t n) { used += (n + 31) / 16 * 16; return memory + used - n / 16 * 16 - 16; }
void free(void *p) { (void)p; }
char *strdup(const char *);
int main(void) { return strdup("x") == NULL; }
END
$CC -fno-builtin -rdynamic -o own own.c && compare $few -- ./own
is "$? $(grep -c 'ashlar: takes no effect: malloc comes from ./own (left out)' out)" "1 1" "a program with its own malloc"
timeout -s INT 4 "$ashlar" compare --only glibc,ashlar -n 100 --warmup 0 -- sleep 0.2 >out 2>told
is "$(grep -cE '^sleep 0.2: [0-9]+ rounds? in rotation, 0 to warm up, interrupted$' out)" 1 "an interrupt shows what is there"
(
    "$ashlar" compare --only glibc -n 1 -- sleep 100 &
    sleep 0.5
    kill -TERM $!
    wait $!
) >out 2>told
is "$? $(ps -eo args | grep -c '^sleep 100$')" "143 0" "and ends the command"

# ---- traces ----

"$ashlar" record --quiet -o t -- ls -R "$top_srcdir/src" >/dev/null
compare --trace t -n 2 --json r.json
is "$? $(grep -c '^  time a call ' out) $(grep -c 'ns_per_call' r.json)" "0 1 $(echo "$names" | wc -w)" "--trace"
compare $few --trace in
is "$? $(cat told)" "1 ashlar: in: offset 0: 6 bytes are too few for a trace" "--trace of another file"

# ---- the command line ----

wrong() {
    want=$1
    shift
    got=$("$ashlar" compare "$@" 2>&1 >/dev/null)
    is "$? $got" "2 ashlar: $want" "compare $*"
}
wrong "compare: no command given; see \`ashlar compare --help\`"
wrong "compare: option '--nonsense' is not known or lacks its value; see \`ashlar compare --help\`" --nonsense ls
wrong "compare: option '--svg' is not known or lacks its value; see \`ashlar compare --help\`" --svg
wrong "compare: -n takes 1 to 1000, not '0'" -n 0 ls
wrong "compare: -n takes 1 to 1000, not '2x'" -n=2x ls
wrong "compare: --warmup takes 0 to 1000, not ''" --warmup= ls
wrong "compare: a command and --trace exclude each other" --trace t ls
wrong "compare: two formats for standard output; give one of them a file" --json=- --svg=- ls
wrong "no allocator is named 'nonsense'; there are $(echo "$names" | sed 's/ $//; s/ /, /g')" --only glibc,nonsense ls
wrong "'in' is no library for this machine and no allocator of these: $(echo "$names" | sed 's/ $//; s/ /, /g')" --with in ls
wrong "there are two allocators of the name glibc; give one as NAME=$LIBASHLAR" --with "glibc=$LIBASHLAR" ls
compare --stdin nothing -- ls
is "$? $(cat told)" "1 ashlar: compare: nothing: No such file or directory" "--stdin of a file that is not there"
compare $few --json /nonexistent/f -- ls -d /
is "$? $(cat told)" "1 ashlar: /nonexistent/f: No such file or directory" "--json to a place that is not there"
is "$("$ashlar" compare --help | sed 1q)" "usage: ashlar compare [OPTION...] [--] COMMAND [ARGUMENT...]" "--help"
tap_done
