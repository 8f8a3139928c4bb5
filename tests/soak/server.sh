# A threaded C++ program for a while under a limit that it meets now and then, and then with a system that maps no more
# memory for a second at a time: its RLIMIT_AS is lowered and raised from outside. It loses no job, and keeps no memory.
. "$top_srcdir/tests/tap.sh"
. "$top_srcdir/tests/soak/soak.sh"
program=$top_builddir/tests/soak/server

cd "$scratch" || exit 99
ASHLAR_LIMIT=64M
export ASHLAR_LIMIT
(under limited "$program" $((seconds * 2 / 3))) >limited 2>&1 &
pid=$!
watch $pid limited
wait $pid
ok $? "under a limit: $(tail -n 1 limited)"
unset ASHLAR_LIMIT
flat limited.rss 10 "its resident set"
counted limited.json "under a limit"
[ "$(total limited.json limit_hits)" -gt 0 ]
ok $? "the limit was met: $(total limited.json limit_hits) times"

if has prlimit; then
    (under unmapped "$program" $(((seconds + 2) / 3))) >unmapped 2>&1 &
    pid=$!
    until_true [ -s unmapped ] # it has begun
    while prlimit --pid $pid --as=65536: 2>/dev/null && sleep 2; do
        prlimit --pid $pid --as=unlimited: 2>/dev/null
        sleep 1
    done &
    wait $pid
    ok $? "with a system that refuses: $(tail -n 1 unmapped)"
    counted unmapped.json "with a system that refuses"
    grep -q ' refused=[1-9]' unmapped
    ok $? "the system did refuse"
else
    skip "with a system that refuses" "no prlimit"
fi
tap_done
