# bench/compare at a small scale: the new patterns do the same work under every allocator, --growth makes its tables and
# its picture, --record counts a program's blocks. No time is asserted.
. "$top_srcdir/tests/tap.sh"
if ! has python3 || ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 6))'; then
    skip "bench/compare" "python3 is not installed"
    tap_done
fi

# The programs, built once; compare builds those that it does not find.
warnings="-Wall -Wextra -Wundef -Wshadow -Wcast-qual -Wwrite-strings -Wmissing-prototypes -Wstrict-prototypes -Wvla"
mkdir -p "$scratch/bench/patterns"
patterns=$scratch/bench/patterns/patterns
# shellcheck disable=SC2086 # a list of words
$CC -std=gnu11 -D_GNU_SOURCE -O1 $warnings -Werror -pthread -o "$patterns" "$top_srcdir"/bench/patterns/*.c -lm 2>"$scratch/log"
ok $? "the patterns compile without a warning"
sed 's/^/# /' "$scratch/log"
compare() {
    ASH_BUILD=$scratch "$top_srcdir/bench/compare" --ashlar="$LIBASHLAR" --rounds=1 "$@" 2>"$scratch/log" >"$scratch/out"
    status=$?
    [ $status != 1 ] || cat "$scratch/log" "$scratch/out" >"$scratch/failed"
    return $status
}
# rows PATTERN: how many lines of the last output match.
rows() {
    grep -cE -e "$1" "$scratch/out"
}

compare --only=glibc,ashlar,ashlar-16 --scale=0.004 mixes strings live-10m
ok $? "mixes, strings, live-10m: every allocator does the same work"
is "$(rows '^\| (mix-(python|perl|sqlite|gcc|git|redis|threads)|strings|live-10m) .*\+?[0-9] \|$')" 45 \
    "each has a row in the tables of times, memory and faults"
is "$("$patterns" mix-gcc ops=5000 | awk '{ print $1, $3 }') $("$patterns" mix-threads ops=4001 | awk '{ print $3 }')" \
    "mix-gcc 5000 4000" "operations follow from the settings"
is "$("$patterns" strings ops=5000 | awk '{ print $3 }')" "$("$patterns" strings ops=5000 | awk '{ print $3 }')" \
    "so they do where they are counted"

compare --growth=1 --only=glibc,ashlar --scale=0.002 --svg="$scratch/growth.svg" --markdown="$scratch/growth.md" \
    --json="$scratch/growth.json"
ok $? "--growth runs"
cp "$scratch/out" "$scratch/growth.out"
is "$(rows '^\| 1 MiB +\|') $(rows '^\| (1|2|4|8|16|32|64) +\|')" "3 14" "--growth: a row for each size and number of threads"
is "$(grep -cE '^\| (1 MiB|1) +\| +1\.00 \| +1\.00 \|$' "$scratch/out")" 2 "--growth: the first row is what others are relative to"
cmp -s "$scratch/growth.md" "$scratch/growth.out"
ok $? "--growth: --markdown has what is printed"
is "$(python3 -c '
import json, sys
from xml.dom import minidom
page = minidom.parse(sys.argv[1])
colours = page.getElementsByTagName("style")[0].firstChild.data
print(len(page.getElementsByTagName("polyline")), "prefers-color-scheme:dark" in colours)
print(len(json.load(open(sys.argv[2]))))' "$scratch/growth.svg" "$scratch/growth.json")" "4 True
16" "--growth: a picture of two charts with a line each, and every sample"
compare --only=glibc,ashlar --scale=0.002 --save="$scratch/pair.json" --svg="$scratch/pair.svg" pair lifo
cp "$scratch/out" "$scratch/pair.out"
compare --from="$scratch/pair.json" --svg="$scratch/again.svg"
is "$? $(diff "$scratch/out" "$scratch/pair.out") $(diff "$scratch/again.svg" "$scratch/pair.svg")" "0  " \
    "--from: the report and the picture of what --save left"
compare --growth=1 --only=glibc,ashlar --scale=0.002 --save="$scratch/growth.json" --svg="$scratch/growth.svg" &&
    cp "$scratch/out" "$scratch/growth.out" && compare --from="$scratch/growth.json" --svg="$scratch/again.svg"
is "$? $(diff "$scratch/out" "$scratch/growth.out") $(diff "$scratch/again.svg" "$scratch/growth.svg")" "0  " \
    "--from: of --growth likewise"
compare --startup --rounds=1 --only=glibc,ashlar --save="$scratch/startup.json" && compare --from="$scratch/startup.json"
is "$? $(rows '^\| /bin/true ')" "0 6" "--from: of --startup"
for damage in 's/"version": 1/"version": 2/' 's/"figures"/"figure"/' '$d' 's/"allocator": "ashlar"/"allocator": "nobody"/'; do
    sed "$damage" "$scratch/pair.json" >"$scratch/damaged.json"
    ASH_BUILD=$scratch "$top_srcdir/bench/compare" --from="$scratch/damaged.json" >"$scratch/out" 2>&1
    is "$? $(grep -c '^bench/compare: .*damaged.json' "$scratch/out") $(grep -c Traceback "$scratch/out")" "1 1 0" \
        "--from: a file that is not whole, $damage"
done

# What the README and the guides show is what was stored.
mkdir -p "$scratch/tree/bench" "$scratch/tree/tools"
cp -R "$top_srcdir/README.md" "$scratch/tree" && cp -R "$top_srcdir/tools/guide" "$scratch/tree/tools" &&
    cp -R "$top_srcdir/bench/results" "$top_srcdir"/bench/*.svg "$scratch/tree/bench"
compare --pictures="$scratch/tree"
is "$? $(cd "$scratch/tree" && for file in README.md tools/guide/*.md bench/*.svg; do
    cmp -s "$file" "$top_srcdir/$file" || echo "$file"; done)" "0 " "make pictures: the tables and pictures are those of bench/results"
is "$(python3 -c '
import sys
from xml.dom import minidom
for name in sys.argv[1:]:
    colours = minidom.parse(name).getElementsByTagName("style")[0].firstChild.data
    print("prefers-color-scheme:dark" in colours, end=" ")' "$scratch"/tree/bench/*.svg)" "True True True " "every picture suits dark pages"
compare --programs=perl,gcc --only=glibc,ashlar
ok $? "--programs runs"
is "$(rows '^\| (perl|gcc) .*[0-9] \|$')" 12 "--programs: times, ratios, memory and faults of each"
compare --programs=nothing
is $? 1 "--programs wants names that there are"
compare --growth=0
is $? 2 "--growth wants a size"
compare --growth --startup
is $? 2 "--growth goes alone"

if [ -e "$top_builddir/.libs/libashlar-record.so" ]; then
    compare --record=patterns:texts -- "$patterns" lifo ops=3000 blocks=1000 min=640 max=640
    ok $? "--record runs"
    is "$(rows '^static const struct mix_class texts\[\] = \{$') $(tr '{' '\n' <"$scratch/out" | grep -cE '^640, 3000, 0, ')" "1 1" \
        "--record: 3,000 blocks of 640 bytes, none kept"
    compare --record=patterns -- "$patterns" realloc-append ops=3000 blocks=1 min=8 max=512
    is $? 0 "--record with reallocs"
    ended=$(sed -n 's/.* \([0-9,]*\) of them from realloc.*/\1/p' "$scratch/out" | tr -d ,)
    [ "${ended:-0}" -gt 2800 ] && [ "$ended" -le 3000 ]
    ok $? "--record: they are told apart: ${ended:-none} of 3,000"
    cat >"$scratch/threads.c" <<'END'
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void *body(void *arg)
{
    for (int i = 0; i < 20000; i++) {
        char *volatile p = malloc(2000);
        p = realloc(p, 3000);
        free(p);
    }
    return arg;
}
int main(void)
{
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, body, NULL);
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            char *volatile p = malloc(7000);
            free(p);
            exit(0);
        }
        waitpid(pid, NULL, 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    return 0;
}
END
    $CC -O1 -pthread -o "$scratch/threads" "$scratch/threads.c" && compare --record=threads -- timeout 30 "$scratch/threads"
    is "$? $(tr '{' '\n' <"$scratch/out" | grep -cE '^(2000, 80000, 0, [0-9]+, [0-9]+, 10000, 150|3000, 0, 0, |7000, 20, 0, )')" "0 3" \
        "--record: threads that allocate while others fork"
else
    skip "--record" "built without malloc"
fi
compare --record=patterns
is $? 2 "--record wants a command"
[ ! -e "$scratch/failed" ] || head -n 40 "$scratch/failed" | sed 's/^/# /'
tap_done
