# The other compiler takes the sources without a warning.
. "$top_srcdir/tests/tap.sh"
if ! need clang clang; then
    skip "clang" "not installed"
    tap_done
fi
cd "$top_srcdir" || exit 99
for file in src/*/*.c preload/*.c tools/*.c bench/*.c bench/patterns/*.c; do
    clang -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Wundef -Wshadow -Wcast-qual -Wwrite-strings -Wmissing-prototypes \
        -Wstrict-prototypes -Wvla -Werror -fsyntax-only -Isrc -Iinclude -Itests -DASHLAR_LIBDIR='"/usr/lib"' "$file" \
        2>"$scratch/log"
    ok $? "clang: $file"
    sed 's/^/# /' "$scratch/log"
done
tap_done
