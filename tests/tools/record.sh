# ashlar record, trace and replay: every call is there, in files that survive whatever happens to the program, and is made
# again under every allocator.
. "$top_srcdir/tests/tap.sh"
ashlar=$top_builddir/ashlar
if [ ! -e "$top_builddir/.libs/libashlar-record.so" ]; then
    skip "record" "built without malloc"
    tap_done
fi
$CC -O1 -pthread -fno-builtin -o "$scratch/traced" "$top_srcdir/tests/tools/traced.c" 2>"$scratch/log" &&
    $CC -O2 -fPIC -shared -I"$top_srcdir/include" -o "$scratch/count.so" "$top_srcdir/tests/preload/count.c" -ldl 2>>"$scratch/log"
ok $? "the programs compile"
sed 's/^/# /' "$scratch/log"
cd "$scratch" || exit 99
# record COMMAND...: to the file t, told in the file told; its exit status is the command's.
record() {
    rm -f t t.*
    timeout 60 "$ashlar" record -o t -- "$@" >out 2>told
}
# field NAME FILE: of `ashlar trace --json`.
field() {
    "$ashlar" trace --json "$2" | sed -n "s/^  \"$1\": \([^,]*\),*$/\1/p"
}
# calls KIND FILE: by the owner of the block and by another thread.
calls() {
    echo $(($(field "$1" "$2") + $(field "$1_remote" "$2")))
}
# whole FILE NAME: it is read without a complaint, and its replay makes every call.
whole() {
    complaints=$("$ashlar" trace "$1" 2>&1 >/dev/null)
    is "$?$complaints" 0 "$2: the trace is whole"
    made=$(timeout 60 "$ashlar" replay --here --json "$1" 2>&1 | sed -n 's/^{"calls": \([0-9]*\),.*"skipped": 0, "refused": 0, "broken": 0, "misaligned": 0, "stuck": false}$/\1/p')
    is "$made" "$(field calls "$1")" "$2: replay makes every call"
}

# ---- what is recorded ----

record ./traced 1 1000
is "$? $(cat out)" "0 done" "one thread"
whole t "one thread"
record ./traced 4 5000
is "$?" 0 "four threads"
whole t "four threads"
is "$(($(field aligned t))) $(($(calls realloc t))) $(field threads t)" "20000 40000 5" "four threads: aligned blocks, reallocs, threads"
is "$(grep -c '^ashlar: .*/t: traced, .* calls, 5 threads, ' told)" 1 "what was written is told"
is "$(field pid t) $(field program t)" "$(field pid t) \"traced\"" "the trace names its program"
[ "$(field free_remote t)" -gt 1000 ]
ok $? "blocks that another thread freed: $(field free_remote t)"

LD_PRELOAD=$scratch/count.so:$LIBASHLAR COUNT_OUT=$scratch/counts timeout 60 "$ashlar" record -o t2 -- ./traced 3 3000 noresize >out 2>told
is "$?" 0 "in front of an interposer that counts, and of Ashlar"
is "equal $(field blocks t2) $(calls free t2)" "$(head -n 1 counts)" "the trace has what the interposer counted"
whole t2 "under Ashlar"
for program in "perl -e print(join(q(x),map{q(y)x\$_}1..500))" "sort -S 1M --parallel=4 $top_srcdir/tests/tools/record.sh"; do
    rm -f counts
    # shellcheck disable=SC2086 # a list of words
    LD_PRELOAD=$scratch/count.so:$LIBASHLAR COUNT_OUT=$scratch/counts timeout 60 "$ashlar" record -o t2 -- $program >out 2>told
    live=$(awk '{ print $2 - $3; exit }' counts) # the first process to end is the program
    is "$(field live_blocks t2)" "$live" "${program%% *}: as many blocks are left as the interposer counted"
    whole t2 "${program%% *}"
done

record ./traced 2 2000 short
whole t "a thread for each round"
is "$(field threads t) $(($(wc -c <t) < 3000000))" "4001 1" "4,000 threads are told apart, and share chunks"
record ./traced 4 400 fork
is "$? $(cat out)" "0 done" "threads that fork"
whole t "the parent"
is "$(set -- t.*; echo $#)" 24 "each child has a file of its own"
bad=$(for file in t.*; do "$ashlar" trace "$file" >/dev/null 2>&1 && "$ashlar" replay --here "$file" >/dev/null 2>&1 || echo "$file"; done)
is "$bad" "" "they are whole"
is "$(for file in t.*; do echo "$(field aligned "$file") $(calls realloc "$file")"; done | sort -u)" "100 200" "each has its own calls, and no one else's"
# An allocator that handlers may call at any instruction, so that they interrupt the recorder.
cat >bump.c <<'END'
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
static _Alignas(4096) char memory[1 << 28];
static _Atomic(size_t) used;
static void *take(size_t align, size_t n)
{
    size_t at = atomic_fetch_add(&used, n + align + 16) + align + 16;
    char *p = memory + at / align * align;
    memcpy(p - 8, &n, 8);
    return at + n < sizeof memory ? p : NULL;
}
void *malloc(size_t n) { return take(16, n); }
void free(void *p) { (void)p; }
void *calloc(size_t a, size_t b) { return take(16, a * b); }
void *realloc(void *p, size_t n)
{
    char *q = take(16, n);
    size_t old;
    if (p != NULL) {
        memcpy(&old, (char *)p - 8, 8);
        memcpy(q, p, old < n ? old : n);
    }
    return q;
}
int posix_memalign(void **p, size_t align, size_t n) { return (*p = take(align, n)) == NULL; }
END
$CC -O1 -fno-builtin -fPIC -shared -o bump.so bump.c
LD_PRELOAD=./bump.so record ./traced 2 3000 signals
is "$? $(cat out)" "0 done" "a handler that allocates, at any instruction"
complaints=$("$ashlar" trace t 2>&1 >/dev/null)
is "$?$complaints" 0 "its trace is whole"
[ "$(field malloc t)" -gt 36000 ] && [ "$(calls realloc t)" = 12000 ]
ok $? "the threads' calls are there, and some of its own"

record ./traced 2 3000 crash
is "$?" 137 "the signal that ends the program is passed on"
whole t "a program that was killed"
is "$(calls realloc t) $(field aligned t)" "12000 6000" "all of its calls are there"
record ./traced 2 100 exec
is "$? $(cat out)" "0 /" "a program that becomes another one"
whole t "before"
is "$(set -- t.*; echo $#) $(field program "$(echo t.*)")" '1 "ls"' "after"
record sh -c 'ls -d /; exit 5'
is "$? $(cat out)" "5 /" "the exit status is the program's"
is "$(for file in t t.*; do field program "$file"; done | sort -u | tr -d '\n')" '"ls""sh"' "programs that it starts are recorded"
(cd / && "$ashlar" record --quiet -o "$scratch/p.%p" -- ls -d / >"$scratch/out" 2>"$scratch/told")
is "$(cat told)$(set -- p.*; echo $#)" 1 "-o with %p, --quiet"
mkdir -p empty
ASH_RECORD=by-hand LD_PRELOAD=$top_builddir/.libs/libashlar-record.so ls -d / >/dev/null
whole by-hand "preloaded by hand, to a relative path"
LD_PRELOAD=$top_builddir/.libs/libashlar-record.so ls empty >out 2>&1
is "$?$(cat out)" 0 "preloaded without being told to record"

# ---- a full disk ----

cat >full.c <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    struct rlimit limit = {300000, 300000};
    setrlimit(RLIMIT_FSIZE, &limit);
    for (int i = 0; i < 1000000; i++)
        free(malloc((size_t)(i % 900)));
    return argc > 9 || argv == NULL;
}
END
$CC -O1 -fno-builtin -o full full.c
record ./full
is "$? $(grep -c 'stopped: File too large; the program goes on$' told)" "0 1" "a file that may not grow: told, and the program goes on"
whole t "what was written before"
if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=512k none small 2>/dev/null; then
    timeout 60 "$ashlar" record -o small/t -- ./traced 2 20000 >out 2>told
    is "$? $(grep -c 'stopped: No space left on device; the program goes on$' told)" "0 1" "a full disk: told, and the program goes on"
    "$ashlar" trace small/t >out 2>told
    is "$(($? < 2))" 1 "what was written is readable"
    umount small
else
    skip "a full disk" "no file system can be mounted here"
fi
chmod 500 empty
if [ "$(id -u)" != 0 ]; then
    "$ashlar" record -o empty/t -- ls -d / >out 2>told
    is "$? $(cat out told)" "1 ashlar: record: $PWD/empty/t: Permission denied" "a directory that cannot be written to"
fi

# ---- replay ----

record ./traced 3 3000
"$ashlar" compare --list | cut -d' ' -f1 >allocators
while read -r allocator; do
    case $allocator in scudo) continue ;; esac # some builds of it do not bear many threads' caches
    figures=$(timeout 60 "$ashlar" replay -n 2 --json --with "$allocator" t 2>told)
    is "$? $(grep -v 'not aligned as was asked for' told)$(echo "$figures" | grep -c "\"allocator\": \"$allocator\".*\"calls\": $(field calls t), \"threads\": 4, ")" "0 1" \
        "replay under $allocator"
done <allocators
is "$(timeout 60 "$ashlar" replay -n 1 t | grep -cE '^  (time a call +[0-9.]+ ns|peak of the blocks +[0-9.]+ [KM]iB)')" 2 "replay for people"
for touch in none first pages all; do
    timeout 60 "$ashlar" replay --here --touch=$touch t >out 2>&1
    ok $? "replay --touch=$touch"
done
is "$(LD_PRELOAD=$scratch/count.so:$LIBASHLAR COUNT_OUT=$scratch/counts2 timeout 60 "$ashlar" replay --here --touch=all t2 >/dev/null 2>&1; head -n 1 counts2 | cut -d' ' -f1)" \
    "equal" "the library's counts of a replay are those of an interposer"
has python3 && {
    "$ashlar" trace --json t | python3 -m json.tool >/dev/null && "$ashlar" replay --here --json t | python3 -m json.tool >/dev/null
    ok $? "JSON parses"
}

# ---- damaged traces ----

size=$(wc -c <t)
head -c $((size - 1000)) t >cut
"$ashlar" trace cut >out 2>told
is "$? $(grep -cE '^ashlar: cut: offset [0-9]+: the file ends in chunk [0-9]+, which has [0-9]+ bytes; the rest is used$' told)" "1 1" "a trace that was cut"
timeout 60 "$ashlar" replay --here cut >out 2>told
is "$? $(grep -c ' calls, ' out)" "1 1" "the rest of it is replayed"
cp t spoilt
printf 'xxxxxxxx' | dd of=spoilt bs=1 seek=100000 conv=notrunc 2>/dev/null
timeout 60 "$ashlar" replay --here spoilt >out 2>told
is "$? $(grep -cE 'offset 65536: chunk 1 does not fit its checksum; the rest is used$' told)" "1 1" "a chunk that was changed is left out"
head -c 300 t >short
is "$("$ashlar" trace short 2>&1)" "ashlar: short: offset 300: the file ends in chunk 0, which has $(od -An -tu4 -j264 -N4 t | tr -d ' ') bytes" "a trace without events"
is "$("$ashlar" trace "$scratch/traced" 2>&1)" "ashlar: $scratch/traced: offset 0: this is no trace of \`ashlar record\`" "another file"
is "$("$ashlar" replay nothing 2>&1)" "ashlar: nothing: No such file or directory" "no file"
"$ashlar" replay nothing 2>/dev/null
is $? 1 "its exit status"

cat >contradiction.c <<'END'
/* Two threads, each of which frees a block of the other before it allocates its own. */
#include "tools/trace.h"
#include <stdio.h>
int main(void)
{
    static _Alignas(8) unsigned char file[4096];
    struct trace_header h = {.magic = TRACE_MAGIC_BYTES, .version = TRACE_VERSION, .chunk_bytes = TRACE_CHUNK};
    struct trace_chunk c = {.magic = TRACE_CHUNK_MAGIC};
    unsigned char *begin = file + sizeof h + sizeof c, *p = begin;
    for (unsigned thread = 1; thread <= 2; thread++) {
        p = trace_put_other(p, TRACE_SECTION, 3, thread, 0, 0);
        p = trace_put_other(p, TRACE_MARK, 2, thread - 1, 0, 0);
        p = trace_put(p, TRACE_FREE_REMOTE, 2, 3 - thread, 0, 0);
        p = trace_put(p, TRACE_MALLOC, 1, 100, 0, 0);
    }
    c.bytes = (uint32_t)(p - begin);
    c.checksum = trace_chunk_checksum(&c, begin);
    h.checksum = trace_header_checksum(&h);
    memcpy(file, &h, sizeof h);
    memcpy(file + sizeof h, &c, sizeof c);
    return fwrite(file, (size_t)(p - file), 1, stdout) != 1;
}
END
$CC -D_GNU_SOURCE -I"$top_srcdir" -I"$top_srcdir/src" -DTRACE_MAGIC_BYTES="{'a','s','h','t','r','a','c','e'}" \
    -o contradiction contradiction.c && ./contradiction >bad
"$ashlar" trace bad >out 2>told
is "$? $(cat told)" "1 ashlar: bad: 2 events end blocks that the trace does not have" "a trace in which threads wait for each other"
timeout 60 "$ashlar" replay --here bad >out 2>told
is "$? $(cat told)" "1 ashlar: bad: threads wait for each other: the trace contradicts itself" "its replay ends"

# ---- the command lines ----

wrong() {
    want=$1
    shift
    got=$("$ashlar" "$@" 2>&1 >/dev/null)
    is "$? $got" "2 ashlar: $want" "$*"
}
wrong "record: no program given; see \`ashlar record --help\`" record
wrong "record: option '--nonsense' is not known or lacks its value; see \`ashlar record --help\`" record --nonsense ls
wrong "trace: no file given; \`ashlar record -o FILE -- PROGRAM\` writes one" trace
wrong "trace: option '--nonsense' is not known; it takes --json" trace --nonsense
wrong "replay: no trace given; \`ashlar record -o FILE -- PROGRAM\` writes one" replay
wrong "replay: 'u' is too much; it takes one trace" replay t u
wrong "replay: -n takes 1 to 1000, not '0'" replay -n 0 t
wrong "replay: --touch takes none, first, pages or all, not 'some'" replay --touch=some t
wrong "replay: option '--with' is not known or lacks its value; see \`ashlar replay --help\`" replay t --with
"$ashlar" replay t --with nonsense 2>/dev/null
is $? 2 "replay --with an unknown allocator"
"$ashlar" record -o t -- /nonexistent 2>told
is "$? $(cat told)" "127 ashlar: /nonexistent: No such file or directory" "record: a program that is not there"
"$ashlar" record -o /nonexistent/t -- ls -d / >out 2>told
is "$? $(cat out told)" "1 ashlar: record: /nonexistent/t: No such file or directory" "record to a directory that is not there"
for command in record trace replay; do
    is "$("$ashlar" $command --help | sed 1q | cut -c1-13)" "usage: ashlar" "$command --help"
done
tap_done
