# Python at work (churn.py) in threads and forked processes, under a limit that it meets in each round: the same hashes in
# every round as without Ashlar, and it stays as large as it is: looked at between rounds, since it breathes in them.
. "$top_srcdir/tests/tap.sh"
. "$top_srcdir/tests/soak/soak.sh"
python=/usr/bin/python3
[ -x $python ] || need $python python3 || { skip python "not installed"; tap_done; }

cd "$scratch" || exit 99
PYTHONMALLOC=malloc
export PYTHONMALLOC
$python "$top_srcdir/tests/soak/churn.py" >plain 2>&1
is "$(wc -l <plain)" 12 "units without Ashlar"
(ASHLAR_LIMIT=128M under python $python -W ignore "$top_srcdir/tests/soak/churn.py" "$seconds" python.json rounds) >loaded 2>&1 &
pid=$!
wait $pid
ok $? "rounds under Ashlar: $(wc -l <rounds)"
is "$(cat loaded)" "$(cat plain)" "the same hashes"
is "$(tail -n 1 rounds | cut -d ' ' -f 3)" "$(wc -l <rounds)" "the limit was met in each"
cut -d ' ' -f 1 rounds >live
flat live 5 "live memory"
cut -d ' ' -f 2 rounds >rss
flat rss 10 "the resident set"
counted python.json "python"
tap_done
