# src/LAYERS is a total order: every module is listed once, and a file includes only headers of modules that stand before
# its own, libc, and public headers. So no circle can arise.
. "$top_srcdir/tests/tap.sh"
cd "$top_srcdir/src" || exit 99
grep -v '^#' LAYERS | grep . >"$scratch/order"
is "$(sort "$scratch/order" | uniq -d)" "" "no module is listed twice"
is "$(while read -r module; do [ -e "$module.h" ] || [ -e "$module.c" ] || echo "$module"; done <"$scratch/order")" "" \
    "every listed module exists"
is "$(find . -name '*.[ch]' | sed 's,^\./,,; s,\.[ch]$,,' | sort -u | grep -vxF -f "$scratch/order")" "" \
    "every module is listed"
place() {
    grep -nxF "$1" "$scratch/order" | cut -d: -f1
}
upward=$(grep -n '^#include "' */*.[ch] | grep -v '\.def"' | while IFS=: read -r file line include; do
    header=$(printf '%s' "$include" | cut -d'"' -f2)
    case $header in ashlar/*) continue ;; esac
    own=${file%.*}
    [ "${header%.h}" = "$own" ] && continue
    to=$(place "${header%.h}")
    [ -n "$to" ] && [ "$to" -lt "$(place "$own")" ] || echo "$file:$line includes $header"
done)
is "$upward" "" "no include goes upward"
is "$(grep -nE '#include (<[^>]*\.c>|"[^"]*\.c")' */*.[ch])" "" "no file includes a .c file"
tap_done
