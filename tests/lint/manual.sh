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
# `make install` makes `man FUNCTION` from this.
for page in tools/man/ashlar_*.3; do
    sed '/^\.SH SYNOPSIS/,/^\.SH DESC/!d' "$page" | grep -oE '\bash_[a-z_0-9]+ ?\(' | tr -d ' (' | sort -u
done | sort >"$scratch/declared"
is "$(uniq -d "$scratch/declared")" "" "no function is declared in two pages"
is "$(nm -D --defined-only "$LIBASHLAR" "${LIBASHLAR%.so}-layers.so" | sed -n 's/.* T \(ash_[a-z_0-9]*\)$/\1/p' |
    grep -vE '_slow$|_quickjs_|_block_usable$' | sort -u | grep -vxF -f "$scratch/declared")" "" "every exported function is declared in one, but for what macros and inline functions call"
is "$(ls tools/man/ashlar_*.3 include/ashlar/*.h | sed -n 's,^tools/man/\(.*\)\.3$,BR \1 (3),p; s,^include/\(.*\)$,<\1>,p' |
    while read -r name; do grep -qF "$name" tools/man/ashlar.3 || echo "$name"; done)" "<ashlar/config.h>" \
    "ashlar(3) lists every page and every header, but for the one of macros"
grep -ohE '#include <ashlar/[a-z]+\.h>' tools/man/ashlar_*.3 >"$scratch/included.c"
$CC -M -Iinclude "$scratch/included.c" | grep -oE 'ashlar/[a-z]+\.h' | sort -u >"$scratch/reached"
is "$(cd include && ls ashlar/*.h | grep -vxF -f "$scratch/reached" | tr '\n' ' ')" "ashlar/ashlar.h ashlar/layers.h " \
    "every public header has a manual page, but for those that include all others"
is "$(sed -n 's/.*STAT([a-z_]*.*//p; s/^STAT(\([a-z_0-9]*\),.*/\1/p' src/info/stats.def | while read -r name; do
    grep -qw "$name" tools/man/ashlar_stats.3 || echo "$name"; done)" "" "every statistic is in ashlar_stats(3)"
# Every command of the program, and every option that its help names.
ashlar=$top_builddir/ashlar
is "$("$ashlar" --help | sed -nE 's/^  ([a-z]+) .*/\1/p' | while read -r command; do
    { echo "$command"; "$ashlar" "$command" --help | grep -oE -- '--[a-z][a-z-]*'; } | while read -r word; do
        sed 's/\\-/-/g; s/\\&//g' tools/man/ashlar*.1 | grep -qF -e "$word" || echo "$command: $word"; done; done)" "" \
    "every command and option of the program has a manual page"

# What a page shows is a declaration of what its header declares: the compiler takes one after the other.
for page in tools/man/ashlar_*.3; do
    sed '/^\.SH SYNOPSIS/,/^\.SH DESC/!d' "$page" | sed -nE 's/\\-/-/g; s/^\.B ([^"])/\1/p; t
        s/^\.[BIR]+ //; T; s/"([^"]*)" ?|([^" ]+) ?/\1\2/g; p' >"$scratch/shown.c"
    $CC -std=c11 -Wall -Wextra -Werror -fsyntax-only -Iinclude "$scratch/shown.c" 2>"$scratch/log"
    ok $? "$page: the headers and functions are as it says"
    sed 's/^/# /' "$scratch/log"
    is "$(grep -oE '\bash_[a-z_0-9]+\(' "$scratch/shown.c" | sort -u | while read -r name; do
        grep -qF "$name" include/ashlar/*.h || echo "$name"; done)" "" "$page: names no function that is not there"
done
if has man; then
    for page in tools/man/*.[137]; do
        is "$(man --warnings -l -Tutf8 "$page" 2>&1 >/dev/null)" "" "$page formats without a warning"
    done
else
    skip "the pages format without a warning" "man is not installed"
fi
tap_done
