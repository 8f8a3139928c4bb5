# Every header compiles alone; public ones also as C++, and with strict C11.
. "$top_srcdir/tests/tap.sh"
cd "$top_srcdir" || exit 99
for header in src/*/*.h; do
    echo "#include \"${header#src/}\"" |
        $CC -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -fsyntax-only -Isrc -Iinclude -x c - 2>"$scratch/log"
    ok $? "$header alone"
    sed 's/^/# /' "$scratch/log"
done
for header in include/ashlar/*.h; do
    echo "#include <${header#include/}>" >"$scratch/try.c"
    $CC -std=c11 -pedantic -Wall -Wextra -Werror -fsyntax-only -Iinclude "$scratch/try.c" 2>"$scratch/log" &&
        $CXX -std=c++11 -pedantic -Wall -Wextra -Werror -fsyntax-only -Iinclude -x c++ "$scratch/try.c" 2>>"$scratch/log"
    ok $? "$header alone, C11 and C++11"
    sed 's/^/# /' "$scratch/log"
done
tap_done
