# The manual says what there is: every option with its default and values, every public function.
. "$top_srcdir/tests/tap.sh"
cd "$top_srcdir" || exit 99
missing=$(sed -n 's/^OPTION(\([A-Z_]*\), [a-z_]*, [A-Z]*, "\([^"]*\)", "\([^"]*\)",.*/\1 \2 \3/p' src/info/options.def |
    while read -r name fallback values; do
        sed 's/\\-/-/g; s/\\&//g' tools/man/ashlar.7 | grep -qF "ASHLAR_$name=$values" || echo "ASHLAR_$name=$values"
        sed -n "/ASHLAR_$name=/,/^\.TP/p" tools/man/ashlar.7 | grep -qF "(default $fallback)" || echo "$name default $fallback"
    done)
is "$missing" "" "every option is in ashlar(7), with its values and default"
is "$(grep -ohE '\bash_[a-z_0-9]+\(' include/ashlar/*.h | tr -d '(' | sort -u | while read -r name; do
    grep -qw "$name" tools/man/*.3 || echo "$name"; done)" "" "every public function has a manual page"
is "$(sed -n 's/.*STAT([a-z_]*.*//p; s/^STAT(\([a-z_0-9]*\),.*/\1/p' src/info/stats.def | while read -r name; do
    grep -qw "$name" tools/man/ashlar_stats.3 || echo "$name"; done)" "" "every statistic is in ashlar_stats(3)"
if has man; then
    for page in tools/man/*.[137]; do
        is "$(man --warnings -l -Tutf8 "$page" 2>&1 >/dev/null)" "" "$page formats without a warning"
    done
else
    skip "the pages format without a warning" "man is not installed"
fi
tap_done
