# What the soak tests share; sourced after tests/tap.sh. ASH_SOAK_SECONDS is how long each of them loads its program:
# a few seconds in `make check`, ten minutes in `make soak`.
#
# A program under load is watched from outside: its resident set all the time, and twice a second its statistics, which it
# writes when a signal comes. The first quarter of the samples is its warm-up. Of the rest, the median of the last third
# may not lie above that of the first by more than a part: a leak of a few blocks in a thousand does that within seconds.
# A median, since a process that has just given memory back, or is about to, is not what counts.
seconds=${ASH_SOAK_SECONDS:-8}
shell=$$

# under NAME COMMAND...: in place of this (sub)shell, the command runs under Ashlar. Its statistics go to NAME.json, when it
# ends and on SIGUSR2.
under() {
    name=$1
    shift
    exec env LD_PRELOAD="$LIBASHLAR" ASHLAR_STATS="json:$scratch/$name.json" ASHLAR_STATS_SIGNAL=USR2 "$@"
}

# Waits until a condition holds, for a minute at most: until COMMAND...
until_true() {
    tries=0
    until "$@" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 1200 ] && kill -0 "$shell" || return 1
        sleep 0.05
    done
}

# True for a text of statistics that is whole: it ends as it should.
is_whole() {
    [ "$(tail -n 1 "$1" 2>/dev/null)" = "}" ]
}

# total FILE NAME
total() {
    sed -n "s/^    \"$2\": \([0-9]*\),*\$/\1/p" "$1"
}

# watch PID NAME: in the background; samples into NAME.rss (pages) and NAME.live (bytes) until the process ends.
watch() {
    (
        beat=0
        while read -r _ rss _ <"/proc/$1/statm" && [ "$rss" != 0 ]; do
            echo "$rss" >>"$2.rss"
            beat=$((beat + 1))
            if [ $((beat % 5)) = 0 ]; then
                is_whole "$2.json" && total "$2.json" live_bytes >>"$2.live"
                kill -USR2 "$1"
            fi
            sleep 0.1
        done
    ) 2>/dev/null &
}

median() {
    sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# flat FILE PERCENT WHAT
flat() {
    samples=$(wc -l <"$1")
    quarter=$((samples / 4))
    if [ $quarter = 0 ]; then
        skip "$3 is flat" "$samples samples in $seconds seconds"
        return
    fi
    first=$(tail -n $((samples - quarter)) "$1" | head -n $quarter | median)
    last=$(tail -n $quarter "$1" | median)
    [ "$last" -le $((first + first * $2 / 100)) ]
    ok $? "$3 is flat: $first, then $last, of $samples samples"
}

# counted FILE WHAT: statistics at rest, every equation that ashlar/stats.h promises.
counted() {
    if ! is_whole "$1"; then
        ok 1 "$2: the statistics are there"
        return
    fi
    wrong=$(awk '
        function equal(a, b, what) { if (a != b) print what ": " a " is not " b }
        function least(a, b, what) { if (a < b) print what ": " a " is less than " b }
        { gsub(/[",:{}\]]/, "") }
        $1 == "size" {
            for (i = 1; i < NF; i += 2) c[$i] = $(i + 1)
            equal(c["hits"] + c["misses"] - c["frees"], c["live"], "live of class " c["size"])
            least(c["capacity"], c["live"] + c["cached"], "capacity of class " c["size"])
            live += c["live"]; bytes += c["live"] * c["size"]; hits += c["hits"]; classes++
            next
        }
        NF == 2 { t[$1] = $2 }
        END {
            equal(t["hits"] + t["misses"] - t["frees"], t["live_blocks"], "live blocks")
            equal(live + t["large_live_blocks"], t["live_blocks"], "live blocks of the classes")
            equal(bytes + t["large_live_bytes"], t["live_bytes"], "live bytes of the classes")
            equal(hits, t["hits"], "hits of the classes")
            least(t["used_bytes"], t["slab_bytes"] + t["large_live_bytes"], "used bytes")
            least(t["slab_bytes"], bytes + t["cached_bytes"] + t["slab_free_bytes"], "slab bytes")
            least(classes, 3, "classes")
        }' "$1")
    is "$wrong" "" "$2: hits + misses - frees = live, $(total "$1" live_blocks) blocks of $(total "$1" misses) misses"
}
