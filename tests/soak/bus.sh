# A bus under load: every message that is taken is delivered or shown as a dead letter, and its memory stays what it is.
ASH_SOAK_SECONDS=${ASH_SOAK_SECONDS:-6}
. "$top_srcdir/tests/tap.sh"
. "$top_srcdir/tests/soak/soak.sh"
program=$top_builddir/tests/soak/bus

cd "$scratch" || exit 99
(under bus "$program" "$seconds") >bus 2>&1 &
pid=$!
watch $pid bus
wait $pid
ok $? "a bus: $(tail -n 1 bus)"
flat bus.rss 2 "its resident set"
counted bus.json "a bus"
tap_done
