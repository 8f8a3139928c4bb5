# Redis under its own benchmark: values of many sizes, lists, hashes, sorted sets, scripts, keys that expire, and forks for
# snapshots and rewrites of the log all the time. Then SIGKILL while a client counts: from the log comes back what was
# acknowledged. And the same commands give the same keys and values as without Ashlar, before a kill and after it.
. "$top_srcdir/tests/tap.sh"
. "$top_srcdir/tests/soak/soak.sh"
need redis-server redis-server && need redis-benchmark redis-tools || { skip redis "not installed"; tap_done; }

cd "$scratch" || exit 99
debug=
redis-server --version | grep -qE ' v=[0-6]\.' || debug='--enable-debug-command yes'

cli() {
    redis-cli -s "$scratch/redis.sock" "$@"
}

# start NAME [under NAME]: a server whose log is in NAME.d and which has read it; $pid.
start() {
    mkdir -p "$1.d"
    rm -f redis.sock
    name=$1
    shift
    # shellcheck disable=SC2086 # a list of words
    ("$@" redis-server --port 0 --unixsocket "$scratch/redis.sock" --dir "$scratch/$name.d" --save '' --appendonly yes \
        --appendfsync no --no-appendfsync-on-rewrite yes --activedefrag no --slowlog-max-len 0 $debug) >>"$name.log" 2>&1 &
    pid=$!
    until_true answers
}

answers() {
    [ "$(cli ping)" = PONG ]
}

stop() {
    cli shutdown nosave >/dev/null 2>&1
    wait $pid
}

# Commands of all kinds, the same each time.
commands() {
    awk 'BEGIN {
        s = 1
        for (i = 0; i < 6000; i++) {
            s = (s * 16807) % 2147483647
            k = s % 400
            n = s % 97 == 0 ? 20000 : s % 900
            v = ""
            for (j = 0; j * 10 < n; j++) v = v sprintf("%010d", (s + j) % 9999999967)
            kind = int(s / 1000) % 12
            if (kind == 0) print "set s" k " v" v
            if (kind == 1) print "append s" k " " v "+"
            if (kind == 2) print "hset h" k " f" i % 60 " " v "h"
            if (kind == 3) print "rpush l" k " " v "l"
            if (kind == 4) print "zadd z" k " " s % 1000 " m" i % 50
            if (kind == 5) print "sadd m" k " " v "m"
            if (kind == 6) print "del " substr("shlzm", 1 + i % 5, 1) k
            if (kind == 7) print "setrange s" k " " n " x"
            if (kind == 8) print "lpop l" k
            if (kind == 9) print "hincrby c" k " n " s % 100
            if (kind == 10) print "set e" k " " v "e ex 100000"
            if (kind == 11) print "sort l" k " alpha limit 0 30 store t" k
        }
    }'
}

digest() {
    echo "$(cli dbsize) $(cli debug digest)"
}

start plain
commands >commands
cli <commands >plain 2>&1
plain=$(digest)
stop

# A round of load, with a fork in the middle of it.
load() {
    for command in "set v:__rand_int__ __rand_int__ px 700" "incr n:__rand_int__" "lpush list __rand_int__" "ltrim list 0 999" \
        "hset h:__rand_int__ field __rand_int__" "zadd z __rand_int__ m:__rand_int__" "zremrangebyrank z 0 -3000"; do
        # shellcheck disable=SC2086 # a list of words
        redis-benchmark -s redis.sock -q -n 2000 -P 8 -c 10 -r 1000 $command >>bench 2>&1 || echo "$command" >>failed
    done
    if [ $((rounds % 2)) = 0 ]; then cli bgsave; else cli bgrewriteaof; fi >>forked
    redis-benchmark -s redis.sock -q -n 4000 -P 8 -c 10 -r 1000 eval \
        "return redis.call('set', KEYS[1], string.rep('x', (ARGV[1] * 7919) % 8000))" 1 s:__rand_int__ __rand_int__ >>bench 2>&1 ||
        echo eval >>failed
    rounds=$((rounds + 1))
}

# What is live in a server without keys and scripts.
emptied() {
    cli flushall sync >/dev/null
    cli script flush sync >/dev/null
    rm -f redis.json
    kill -USR2 "$pid"
    until_true is_whole redis.json
    total redis.json live_blocks
}

# Two rounds fill the keys; all after them only replace.
start redis under redis
rounds=0
load
before=$(emptied)
load
load
watch "$pid" redis
end=$(($(date +%s) + seconds * 2 / 3))
while [ "$(date +%s)" -lt $end ] || [ $rounds -lt 6 ]; do
    load
done
is "$(cat failed 2>/dev/null)" "" "$rounds rounds of load"
forks=$(cli info stats | sed -n 's/^total_forks:\([0-9]*\).*/\1/p')
[ "$forks" -gt 0 ] && [ "$(cli info persistence | grep -cE '^(rdb_last_bgsave|aof_last_bgrewrite)_status:ok')" = 2 ]
ok $? "$forks forks, which wrote well"
after=$(emptied)
stop
is "$? $(grep -c '^ashlar' redis.log)" "0 0" "the server ends well and quiet"
flat redis.rss 10 "the resident set"
flat redis.live 10 "live memory"
[ "$after" -lt $((before + before / 20)) ]
ok $? "and without keys what it was after the first round: $before blocks, then $after"
counted redis.json "redis"

# Counting until the server is killed. What it acknowledged is there afterwards, and at most one step more.
kills=0 lost='' said=0
end=$(($(date +%s) + (seconds + 2) / 3))
while [ "$(date +%s)" -lt $end ] || [ $kills -lt 2 ] || { [ "$said" = 0 ] && [ $kills -lt 20 ]; }; do
    start counted under killed
    there=$(cli get count)
    [ "${there:-0}" -ge "$said" ] && [ "${there:-0}" -le $((said + 1)) ] || lost="$lost kill $kills: $said said, ${there:-0} there;"
    yes 'incr count' | redis-cli -s redis.sock >said 2>/dev/null &
    client=$!
    sleep 0.4
    cli bgrewriteaof >/dev/null
    sleep 0.2
    kill -KILL "$pid"
    sleep 0.1
    kill $client # which would wait for a server for ever
    wait "$pid" $client 2>/dev/null
    new=$(grep -E '^[0-9]+$' said | tail -n 1)
    said=${new:-$said}
    kills=$((kills + 1))
done
[ "$said" -gt 0 ]
is "$?$lost" 0 "killed $kills times: all of $said steps are there"

start same under same
cli <commands >same 2>&1 &
client=$!
cli bgrewriteaof >/dev/null
wait $client
is "$(digest)" "$plain" "the same commands give the same keys and values"
cmp -s plain same
ok $? "and the same answers"
kill -KILL "$pid"
wait "$pid" 2>/dev/null
start same under same
is "$(digest)" "$plain" "the same after a kill"
stop
counted same.json "redis, restarted"
tap_done
