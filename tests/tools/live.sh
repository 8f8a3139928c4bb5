# ashlar stats and ashlar top of live processes: the same figures as the process's own, targets that cannot be read, that
# end meanwhile, that move, and the screen as a person sees it.
. "$top_srcdir/tests/tap.sh"
ashlar=$top_builddir/ashlar
export LC_ALL=C.UTF-8 TERM=xterm
unset NO_COLOR COLUMNS LINES
if ! nm -D "$LIBASHLAR" 2>/dev/null | grep -q ' malloc$'; then
    skip "live processes" "this build has no malloc"
    tap_done
fi

# ---- a process and what it says of itself ----

library=$(dirname "$LIBASHLAR")
$CC -O1 -I"$top_srcdir/include" -o "$scratch/target" "$top_srcdir/tests/tools/target.c" -L"$library" -lashlar -pthread \
    -Wl,-rpath,"$library" 2>"$scratch/log"
ok $? "a target builds"
sed 's/^/# /' "$scratch/log"

# start PROGRAM...: runs it with lines from fd 8 and its answers at fd 9; its process id is $pid.
start() {
    rm -f "$scratch/in" "$scratch/out"
    mkfifo "$scratch/in" "$scratch/out"
    "$@" <"$scratch/in" >"$scratch/out" 2>"$scratch/err" &
    pid=$!
    exec 8>"$scratch/in" 9<"$scratch/out"
    read -r answer <&9
}
say() {
    echo "$*" >&8
    read -r answer <&9
}
stop() {
    echo end >&8
    exec 8>&- 9<&-
    wait "$pid"
}
# same FORMAT NAME: it rests, and the tool says to the letter what it says itself.
same() {
    "$ashlar" stats $([ "$1" = text ] || echo "--$1") "$pid" >"$scratch/theirs" 2>&1
    say "$1 $scratch/own"
    cmp -s "$scratch/own" "$scratch/theirs"
    ok $? "$2"
    diff "$scratch/own" "$scratch/theirs" | head -n 20 | sed 's/^/# /'
}

start "$scratch/target"
say "text $scratch/own" # the descriptors' first use is behind it
same text "stats: at rest, the text that the process writes itself"
same json "stats --json: the same"
same prom "stats --prom: the same"
grep -q '^  sessions' "$scratch/own" || grep -q 'name="sessions"' "$scratch/own"
ok $? "with its pools"
say work
same json "after some work, too"
is "$(grep -c . "/proc/$pid/syscall" 2>/dev/null || echo 1)$(grep -c TracerPid:.0 "/proc/$pid/status")" 11 "nobody traces it"
"$ashlar" top --once -d 0.1 "$pid" >"$scratch/page"
is "$? $(grep -cE '^ (live|rss|allocs) |^ memory held|^ (pools|arenas|bufs|heaps) |^ sessions |^ +large ' "$scratch/page")" "0 10" \
    "top --once: a page with all its parts"
is "$(grep -c "$(printf '\033')" "$scratch/page")" 0 "without a terminal's sequences"
for size in 20 40 79 200; do
    is "$(COLUMNS=$size "$ashlar" top --once -d 0.1 "$pid" | awk -v n=$size 'length > n')" "" "no line is longer than $size"
done
is "$(LC_ALL=C "$ashlar" top --once -d 0.1 "$pid" | LC_ALL=C grep -c '[^ -~]')" 0 "without UTF-8, ASCII alone"
"$ashlar" top --once -d 0.1 >"$scratch/page"
is "$(awk -v pid="$pid" '$1 == pid { print $NF }' "$scratch/page")" target "top without PID lists it"
if has python3; then
    "$ashlar" top --once --json -d 0.1 "$pid" >"$scratch/page"
    is "$(python3 -c '
import json, sys
one = json.loads(open(sys.argv[1]).read())
print(one["pid"], one["name"], one["statistics"]["totals"]["threads"], one["rss_bytes"] > 1 << 20)' "$scratch/page")" \
        "$pid target 5 True" "top --json: an object"
    "$ashlar" top --once --json -d 0.1 >"$scratch/page"
    is "$(python3 -c '
import json, sys
print([one["name"] for one in json.load(open(sys.argv[1]))["processes"] if one["pid"] == int(sys.argv[2])])' "$scratch/page" "$pid")" \
        "['target']" "top --json without PID: it is in the list"
fi

# ---- the same, elsewhere ----

if setarch -R true 2>/dev/null; then
    is "$(setarch -R "$ashlar" stats "$pid" | head -n 1)" "ashlar: statistics of process $pid" "a tool at fixed addresses"
    stop
    start setarch -R "$scratch/target"
    say "text $scratch/own"
    same text "a target at fixed addresses"
    is "$(setarch -R "$ashlar" stats "$pid" | head -n 1)" "ashlar: statistics of process $pid" "both"
fi
stop
start env ASHLAR_GRAIN=16 "$scratch/target"
say "text $scratch/own"
same text "grain 16"
stop
if [ -e "$top_builddir/libashlar.a" ] && $CC -static -O1 -I"$top_srcdir/include" -o "$scratch/static" \
    "$top_srcdir/tests/tools/target.c" "$top_builddir/libashlar.a" -pthread 2>/dev/null; then
    strip "$scratch/static"
    start "$scratch/static"
    say "text $scratch/own"
    same json "a static, stripped program"
    stop
else
    skip "a static, stripped program" "none can be linked"
fi

# ---- processes that cannot be shown ----

# refuse NAME SENTENCE PID: both commands say why, and fail.
refuse() {
    for command in stats top; do
        got=$("$ashlar" $command "$3" 2>&1)
        is "$? $got" "1 ashlar: $command: $2" "$command: $1"
    done
}
sleep 100 &
plain=$!
until [ "$(cat /proc/$plain/comm)" = sleep ]; do :; done
refuse "a process without Ashlar" "process $plain (sleep) does not run with Ashlar: start it with \`ashlar run -- PROGRAM\`, \
or with libashlar.so in LD_PRELOAD" $plain
kill $plain
wait $plain 2>/dev/null
refuse "no process" "there is no process $plain" $plain
start "$scratch/target"
if [ "$(id -u)" = 0 ] && has setpriv; then
    chmod 755 "$scratch"
    cp "$ashlar" "$scratch/ashlar"
    got=$(setpriv --reuid=65534 --regid=65534 --clear-groups "$scratch/ashlar" stats "$pid" 2>&1)
    is "$? $got" "1 ashlar: stats: process $pid (target) belongs to user 0: run this as that user or as root" \
        "a process of another user"
    got=$(setpriv --reuid=65534 --regid=65534 --clear-groups "$scratch/ashlar" top --once -d 0.1 | tail -n 1)
    is "${got#* [0-9]* }" "processes may not be read; run this as root" "top: they are counted"
else
    skip "a process of another user" "needs root and setpriv"
fi
for library in "$scratch/older" "$scratch/other"; do
    mkdir "$library"
    cp "$LIBASHLAR" "$library/libashlar.so.0"
done
# The version in the note, and the name of a variable.
sed -i 's/0\.1\.0\x00\x00\x00/9.9.9\x00\x00\x00/' "$scratch/older/libashlar.so.0"
sed -i 's/\x00heap_late\x00/\x00heap_latf\x00/; s/heap_late\x00\x00\x00/heap_latf\x00\x00\x00/' "$scratch/other/libashlar.so.0"
stop
start env LD_LIBRARY_PATH="$scratch/older" LD_PRELOAD="$scratch/older/libashlar.so.0" "$scratch/target"
refuse "another version" "process $pid (target) runs with Ashlar 9.9.9, and this is 0.1.0: use the \`ashlar\` of that version" "$pid"
stop
start env LD_LIBRARY_PATH="$scratch/other" LD_PRELOAD="$scratch/other/libashlar.so.0" "$scratch/target"
refuse "another build" "process $pid (target) runs with an Ashlar that was built from other sources than this program; use the \
\`ashlar\` that was installed with it" "$pid"
stop

# A process that means no good: a sequence for the terminal in a name, then a name that is gone.
cat >"$scratch/bad.c" <<'END'
#include <ashlar/ashlar.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
static int none(size_t *at, char name[ASH_STATS_NAME], uint64_t values[ASH_STATS_VALUES])
{
    (void)at, (void)name, (void)values;
    return 0;
}
int main(void)
{
    static const struct ash_stats_column column = {"x", "X.", ASH_STATS_GAUGE, ASH_STATS_COUNT};
    char line[64], *name = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(name, "evil");
    struct ash_stats_kind kind = {name, "evil", &column, 1, none};
    ash_stats_add(&kind);
    name[0] = 27;
    puts("ready"), fflush(stdout);
    fgets(line, sizeof line, stdin);
    munmap(name, 4096);
    puts("ready"), fflush(stdout);
    fgets(line, sizeof line, stdin);
    return 0;
}
END
$CC -I"$top_srcdir/include" -o "$scratch/bad" "$scratch/bad.c" -L"$(dirname "$LIBASHLAR")" -lashlar \
    -Wl,-rpath,"$(dirname "$LIBASHLAR")" 2>/dev/null
start "$scratch/bad"
is "$("$ashlar" stats --json "$pid" | sed -n 's/^  "\(.*vil\)": .*/\1/p')" "?vil" "no sequences for the terminal are passed on"
say go
got=$("$ashlar" stats --json "$pid" 2>&1)
is "$? $got" "1 ashlar: stats: process $pid (bad) holds records that lead nowhere; try once more" "records that are damaged"
stop

# Programs as they come.
for program in redis-server python3; do
    if ! has $program; then
        skip "$program" "not installed"
        continue
    fi
    case $program in
    redis-server) set -- --port 0 --unixsocket "$scratch/ready" --save "" ;;
    python3) set -- -c 'import sys, time, json
kept = [json.loads("[1, 2, {}]") for i in range(20000)]
open(sys.argv[1], "w").close()
time.sleep(100)' "$scratch/ready" ;;
    esac
    rm -f "$scratch/ready"
    ASHLAR_STATS=json:$scratch/own ASHLAR_STATS_SIGNAL=USR2 LD_PRELOAD=$LIBASHLAR $program "$@" >/dev/null 2>&1 &
    pid=$!
    until [ -e "$scratch/ready" ]; do sleep 0.1; done
    sleep 1
    "$ashlar" stats --json "$pid" >"$scratch/theirs"
    ok $? "$program is read"
    rm -f "$scratch/own" # where python3 is a script, its children have written theirs
    kill -USR2 $pid
    until [ -s "$scratch/own" ] && [ "$(tail -n 1 "$scratch/own")" = "}" ]; do sleep 0.1; done
    # A server's clock allocates now and then.
    [ $program = redis-server ] || diff "$scratch/own" "$scratch/theirs"
    ok $? "$program: its own figures"
    kill -KILL $pid
    wait $pid 2>/dev/null
done

# ---- processes that move, or end ----

start "$scratch/target"
echo work >&8
failures=0
for _ in 1 2 3 4 5 6 7 8 9 10; do
    "$ashlar" stats --json "$pid" >"$scratch/moving" || failures=$((failures + 1))
done
read -r answer <&9
is "$failures" 0 "a process is read while it allocates"
"$ashlar" top -d 0.1 "$pid" >"$scratch/pages" 2>"$scratch/err" &
top=$!
until grep -q '^ live' "$scratch/pages"; do sleep 0.05; done
kill -KILL "$pid"
wait "$top"
is "$? $(cat "$scratch/err")" "0 ashlar: top: process $pid (target) has ended" "top: the process is killed meanwhile"
exec 8>&- 9<&-
wait "$pid" >/dev/null 2>&1
# Processes that begin, become another program, and end, all the time.
(while :; do LD_PRELOAD=$LIBASHLAR sh -c 'exec true'; done) &
storm=$!
failures=0
for _ in 1 2 3 4 5 6 7 8 9 10; do
    "$ashlar" top --once -d 0.1 >"$scratch/page" || failures=$((failures + 1))
done
kill $storm
wait $storm 2>/dev/null
is "$failures" 0 "top lists processes that come and go"

# ---- the screen ----

if ! has python3 || ! python3 -c 'import os; os.waitstatus_to_exitcode' 2>/dev/null; then
    skip "the screen" "python3 is not installed, or older than 3.9"
    tap_done
fi
terminal() {
    timeout 60 python3 "$top_srcdir/tests/tools/terminal.py" "$@" >"$scratch/shown" 2>&1
}
restored='status 0, the terminal is as it was'
start "$scratch/target"
terminal 24x80 wait=sessions show keys=q end -- "$ashlar" top -d 0.1 "$pid"
is "$(tail -n 1 "$scratch/shown")" "$restored" "q ends it"
is "$(grep -cE '^ target  pid [0-9]+   up .* 5 threads +\? help  q quit|^ live  |^ rss  |^ allocs  |^ memory held|^ sessions' \
    "$scratch/shown")" 6 "24 x 80: what one looks for is there"
terminal 24x80 wait=sessions "keys=?" "wait=quit" wait=unpurged "keys=?" wait=sessions "keys= " wait=PAUSED "keys= " gone=PAUSED \
    keys=+ keys=- keys=s keys=q end -- "$ashlar" top -d 0.1 "$pid"
is "$(tail -n 1 "$scratch/shown")" "$restored" "help, pause, sorting, intervals"
terminal 1x1 size=2x5 size=3x20 size=8x40 size=60x200 wait=sessions size=5x500 size=24x80 wait=sessions keys=q end -- \
    "$ashlar" top -d 0.1 "$pid"
is "$(tail -n 1 "$scratch/shown")" "$restored" "terminals of all sizes"
for signal in INT TERM HUP QUIT; do
    terminal 24x80 wait=sessions signal=$signal end -- "$ashlar" top -d 0.1 "$pid"
    is "$(tail -n 1 "$scratch/shown" | sed 's/status -[0-9]*,/status 0,/')" "$restored" "SIG$signal ends it, the terminal is put back"
done
terminal 24x80 wait=sessions signal=SEGV end -- "$ashlar" top -d 0.1 "$pid"
is "$(tail -n 1 "$scratch/shown")" "status -11, the terminal is as it was" "so does a fault"
terminal 24x80 wait=sessions signal=TSTP gone=sessions show signal=CONT wait=sessions keys=q end -- "$ashlar" top -d 0.1 "$pid"
is "$(tail -n 1 "$scratch/shown")" "$restored" "stopped and continued"
terminal 24x80 wait=sessions colours keys=q end -- env NO_COLOR=1 "$ashlar" top -d 0.1 "$pid"
is "$(grep colours "$scratch/shown")" "no colours" "NO_COLOR: none"
terminal 24x80 wait=target keys=q end -- "$ashlar" top -d 0.1
is "$(tail -n 1 "$scratch/shown")" "$restored" "the list"
terminal 24x80 wait=sessions kill="$pid" end -- "$ashlar" top -d 0.1 "$pid"
is "$(tail -n 2 "$scratch/shown")" "process $pid (target) has ended; these were its last figures
$restored" "the process ends: its last figures stay"
exec 8>&- 9<&-
wait "$pid" 2>/dev/null
tap_done
