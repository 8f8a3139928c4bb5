# Files as a reader finds them: length, width, marks of unfinished work, and nothing of the machine they were written on.
. "$top_srcdir/tests/tap.sh"
cd "$top_srcdir" || exit 99
files=$(find src include preload tests bench tools -type f \( -name '*.[ch]' -o -name '*.cc' -o -name '*.def' -o -name '*.sh' \))
# shellcheck disable=SC2086 # a list of words, here and below
is "$(wc -l $files | awk '$1 > 600 && $2 != "total"')" "" "no file is longer than 600 lines"
is "$(grep -nE '[[:space:]]$' $files | head -n 5)" "" "no line ends in a blank"
is "$(grep -nP '\t' $files | grep -vE '\.sh:' | head -n 5)" "" "no tabs in sources"
is "$(awk 'length > 100 { print FILENAME ": " FNR }' $(printf '%s\n' $files | grep -E '^(src|include|preload|tools|bench)/.*\.(c|h|def)$') |
    head -n 20)" "" "sources fit 100 columns"
is "$(grep -nE '(TO''DO|FIX''ME|[^X]X''XX[^X])' $files | head -n 5)" "" "no mark of unfinished work"
documents="README.md CONTRIBUTING.md SECURITY.md NEWS tools/guide/*.md tools/man/*"
is "$(grep -nE '(^|[^A-Za-z0-9_.$"}])/(work|farm|home|root)/' $files $documents | head -n 5)" "" "no machine's paths"
is "$(grep -nE '[[:space:]]$|TO''DO|FIX''ME' $documents | head -n 5)" "" "documents: no blanks at ends, nothing unfinished"
is "$(awk 'length > 132 && !/^(\||<!--)/ && !/https?:/ { print FILENAME ": " FNR }' ${documents%% tools/man*} | head -n 5)" "" \
    "documents fit a window, but for tables and links"
is "$(awk '/^[a-z].*\)$/ { name = $0; start = FNR } /^}$/ { if (start && FNR - start > 62) print FILENAME ": " name; start = 0 }' \
    $(printf '%s\n' $files | grep -E '^(src|preload|bench)/.*\.c$'))" "" "no function is longer than 60 lines"
tap_done
