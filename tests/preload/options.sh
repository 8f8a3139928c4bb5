# What a person can set, rightly and wrongly: each mistake is one clear line, and the program runs on.
. "$top_srcdir/tests/tap.sh"
cd "$scratch" || exit 99
echo 'first line' >file

run() { # the program's output, then what the library said
    LD_PRELOAD=$LIBASHLAR "$@" ls file 2>&1
}

is "$(run env)" "file" "quiet when nothing is asked for"
is "$(run env ASHLAR_GRIAN=16)" "ashlar: unknown option ASHLAR_GRIAN ignored (did you mean ASHLAR_GRAIN?)
file" "an unknown option"
is "$(run env ASHLAR_GRAIN=32)" "ashlar: ASHLAR_GRAIN=32 ignored: allowed is 16|64 (default 64)
file" "a bad number"
is "$(run env ASHLAR_ON_ERROR=maybe | head -n 1)" "ashlar: ASHLAR_ON_ERROR=maybe ignored: allowed is abort|warn (default abort)" "a bad word"
is "$(run env ASHLAR_LIMIT=12Q | grep -c '^ashlar: ASHLAR_LIMIT=12Q ignored')" 1 "a bad unit"
is "$(run env ASHLAR_STATS=xml | grep -c '^ashlar: ASHLAR_STATS=xml ignored')" 1 "an unknown format"
is "$(run env ASHLAR_STATS=json:/nonexistent/dir/x.json)" "file
ashlar: cannot write statistics to /nonexistent/dir/x.json: no such file or directory" "a path that cannot be written"
is "$(run env ASHLAR_STATS=1 | head -n 2 | sed 's/[0-9][0-9]*/N/')" "file
ashlar: statistics of process N" "a table on stderr"
run env ASHLAR_STATS=json:out-%p.json >/dev/null
is "$(ls out-*.json | wc -l)" 1 "%p in a path is the process"
if has python3; then
    python3 -m json.tool <"$(ls out-*.json)" >/dev/null
    ok $? "JSON parses"
    is "$(python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); t=d["totals"]
c=d["classes"]; print(t["hits"]+t["misses"]-t["frees"]==t["live_blocks"], sum(x["hits"] for x in c)==t["hits"])' out-*.json)" \
        "True True" "JSON adds up"
fi
run env ASHLAR_STATS=prom:out.prom >/dev/null
bad=$(grep -vcE '^(# (HELP|TYPE) ashlar_[a-z_]+ .+|ashlar_[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+)$' out.prom)
is "$bad $(grep -c '^ashlar_' out.prom | sed 's/^[0-9]\{2,\}$/many/')" "0 many" "Prometheus text has only lines of its format"
LD_PRELOAD=$LIBASHLAR ASHLAR_STATS_SIGNAL=USR2 ASHLAR_STATS=json:sig.json perl -e 'my @a = map { "x$_" } 1..1000; sleep 1; sleep 1; sleep 1' &
pid=$!
sleep 0.5
kill -USR2 $pid
sleep 0.5
[ -s sig.json ]
ok $? "a signal makes a dump while the program runs"
kill $pid
is "$(LD_PRELOAD=$LIBASHLAR ASHLAR_LIMIT=16M perl -e 'my $x = "x" x 100_000_000; print length $x' 2>&1 | tr 'A-Z' 'a-z' | grep -c 'out of memory')" 1 "a limit makes the program run out of memory"
is "$(ASHLAR_ON_ERROR=warn ASHLAR_GRAIN=16 ASHLAR_PURGE_MS=0 ASHLAR_THP=never ASHLAR_CACHE=0 run env)" file "all options at once"
tap_done
