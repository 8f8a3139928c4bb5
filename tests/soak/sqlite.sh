# SQLite's shell, fed with rounds of inserts, updates, deletes, indices and vacuums. Rounds whose numbers are the same modulo
# ROUNDS leave the same database, and the same as without Ashlar. Then the ends: by SIGKILL while transactions are on their
# way, after which all that was committed is there; and statements that need more than the limit on memory, of which SQLite
# says so and goes on.
. "$top_srcdir/tests/tap.sh"
. "$top_srcdir/tests/soak/soak.sh"
need sqlite3 sqlite3 || { skip sqlite "not installed"; tap_done; }
ROUNDS=4
ROWS=50

# setup FILE
setup() {
    sqlite3 "$1" 'pragma journal_mode = wal; create table t(a integer primary key, b text, c blob, d real);
        create table u(b text, n integer); create table log(n integer, b text)' >/dev/null
}

# A round as SQL; the shell command at its end tells how far SQLite is, since the rest of its output waits in a buffer.
round() {
    k=$(($1 % ROUNDS))
    cat <<SQL
pragma synchronous = off;
begin;
with recursive n(x) as (select 1 union all select x + 1 from n where x < 4000)
    insert into t select x, 'row ' || (x * (7919 + $k) % 100003), zeroblob(x * 31 % 3000), x / 3.0 from n;
create index i on t(b);
create index j on t(d, a);
update t set b = b || ' and ' || a, c = hex(c) where a % 5 = $k;
delete from t where a % 3 = $((k % 3));
commit;
insert into u select substr(b, 1, 6), count(*) from t group by 1 having count(*) > $k order by 2 desc;
select $k, count(*), sum(length(b)), sum(length(c)), round(total(d)), group_concat(substr(b, 1, 5)) from t where b like '%7%';
select $k, integrity_check from pragma_integrity_check;
.sha3sum
drop index i;
drop index j;
delete from t;
delete from u;
vacuum;
.shell echo $1 >>turns
SQL
}

# far FILE N: the file says N.
far() {
    [ "$(tail -n 1 "$1")" = "$2" ] || ! kill -0 "$pid"
}

cd "$scratch" || exit 99
setup plain.db
for i in 0 1 2 3; do round $i; done | sqlite3 plain.db >plain 2>&1
is "$(grep -c '|ok$' plain)" $ROUNDS "rounds without Ashlar"
rm turns

setup loaded.db
mkfifo statements
(under sqlite sqlite3 loaded.db) <statements >loaded 2>&1 &
pid=$!
watch $pid sqlite
(
    end=$(($(date +%s) + seconds * 2 / 3)) i=0
    while { [ "$(date +%s)" -lt $end ] || [ $i -lt $((2 * ROUNDS)) ]; } && kill -0 $pid; do
        round $i
        until_true far turns $i
        i=$((i + 1))
    done
) >statements
wait $pid
status=$?
turns=$(wc -l <turns)
is "$status $(grep -c '|ok$' loaded)" "0 $turns" "$turns rounds under Ashlar"
is "$(sort -u loaded | cut -c 1-200)" "$(sort -u plain | cut -c 1-200)" "each with the same results as without"
flat sqlite.rss 10 "the resident set"
counted sqlite.json "sqlite"
[ "$(total sqlite.json live_blocks)" -lt 50 ]
ok $? "hardly anything is left at the end"

# Transactions of ROWS rows, each said to be there once it was committed.
kills=0 lost=''
setup kept.db
echo 0 >said
end=$(($(date +%s) + (seconds + 2) / 3))
while [ "$(date +%s)" -lt $end ] || [ $kills -lt 2 ] || { [ "$(tail -n 1 said)" -le 10 ] && [ $kills -lt 20 ]; }; do
    awk -v n="$(tail -n 1 said)" -v rows=$ROWS 'BEGIN {
        for (;;) {
            n++
            print "pragma synchronous = off; begin; delete from log where n = " n ";"
            for (i = 0; i < rows; i++) print "insert into log values (" n ", hex(zeroblob(" i * 50 ")));"
            print "commit;\n.shell echo " n " >>said"
        } }' 2>/dev/null | (under killed sqlite3 kept.db) >killed 2>&1 &
    pid=$!
    sleep 0.7
    kill -KILL $pid
    wait $pid 2>/dev/null
    kills=$((kills + 1))
    there=$(ASHLAR_STATS=0 LD_PRELOAD=$LIBASHLAR sqlite3 kept.db "select count(*) from (select n from log group by n having count(*) = $ROWS)
        where n <= $(tail -n 1 said); select * from pragma_integrity_check; select count(*) from log where n > 1 + $(tail -n 1 said)")
    [ "$there" = "$(tail -n 1 said)
ok
0" ] || lost="$lost kill $kills: $(tail -n 1 said) said, there: $there;"
done
is "$lost" "" "killed $kills times: all of $(tail -n 1 said) transactions are there"
is "$(wc -l <killed)" 0 "and without a word"
[ "$(tail -n 1 said)" -gt 10 ]
ok $? "there were some"

is "$(for i in 1 2 3; do
    echo "select length(hex(zeroblob(100000000 + $i)));"
    echo "select count(*), $i from t;"
done | ASHLAR_LIMIT=64M LD_PRELOAD=$LIBASHLAR sqlite3 kept.db 2>&1 | sed 's/.*out of memory.*/out of memory/')" "out of memory
0|1
out of memory
0|2
out of memory
0|3" "statements that need more than the limit fail, the next ones do not"
tap_done
