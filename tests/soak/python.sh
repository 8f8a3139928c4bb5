# Python at work (churn.py) in threads and forked processes, under a limit that it meets in each round: the same hashes in
# every round as without Ashlar, and it stays as large as it is.
. "$top_srcdir/tests/tap.sh"
. "$top_srcdir/tests/soak/soak.sh"
python=/usr/bin/python3
[ -x $python ] || need $python python3 || { skip python "not installed"; tap_done; }

cd "$scratch" || exit 99
PYTHONMALLOC=malloc
export PYTHONMALLOC
$python "$top_srcdir/tests/soak/churn.py" >plain 2>&1
is "$(wc -l <plain)" 12 "units without Ashlar"
(ASHLAR_LIMIT=128M under python $python -W ignore "$top_srcdir/tests/soak/churn.py" "$seconds" python.json hoarded) >loaded 2>&1 &
pid=$!
watch $pid python
wait $pid
ok $? "rounds under Ashlar: $(wc -l <hoarded)"
is "$(cat loaded)" "$(cat plain)" "the same hashes"
is "$(tail -n 1 hoarded | cut -d ' ' -f 2)" "$(wc -l <hoarded)" "the limit was met in each"
flat python.rss 10 "the resident set"
cut -d ' ' -f 1 hoarded >live
flat live 5 "live memory"
counted python.json "python"
tap_done
