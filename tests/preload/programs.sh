# Real programs with and without Ashlar, in both grains: the same output, the same exit status, nothing on stderr that
# was not there before, and statistics that equal what a counting interposer saw.
. "$top_srcdir/tests/tap.sh"

counter=$scratch/count.so
$CC -O2 -fPIC -shared -I"$top_srcdir/include" -o "$counter" "$top_srcdir/tests/preload/count.c" -ldl 2>"$scratch/cc" ||
    { cat "$scratch/cc"; ok 1 "the counting interposer compiles"; tap_done; }

# compare NAME COMMAND...
compare() {
    name=$1
    shift
    (cd "$scratch/work" && "$@") >"$scratch/plain.out" 2>"$scratch/plain.err" </dev/null
    plain=$?
    for grain in 64 16; do
        rm -f "$scratch/counts"
        (cd "$scratch/work" && LD_PRELOAD=$counter:$LIBASHLAR ASHLAR_GRAIN=$grain COUNT_OUT=$scratch/counts "$@") \
            >"$scratch/out" 2>"$scratch/err" </dev/null
        status=$?
        same=0
        [ "$status" = "$plain" ] && cmp -s "$scratch/out" "$scratch/plain.out" &&
            cmp -s "$scratch/err" "$scratch/plain.err" || same=1
        ok $same "$name, grain $grain: same output and status"
        if [ $same != 0 ]; then
            echo "# status $status, plain $plain"
            diff "$scratch/plain.out" "$scratch/out" | head -n 5 | sed 's/^/# /'
            diff "$scratch/plain.err" "$scratch/err" | head -n 5 | sed 's/^/# /'
        fi
        [ "$name" = sh ] && continue # dash leaves by _exit: no destructor runs
        wrong=$(grep -cv '^equal' "$scratch/counts" 2>/dev/null)
        exact=1
        [ -s "$scratch/counts" ] && [ "$wrong" = 0 ] && exact=0
        ok $exact "$name, grain $grain: $(wc -l <"$scratch/counts" 2>/dev/null) processes, every count exact"
        [ $exact = 0 ] || grep -v '^equal' "$scratch/counts" | head -n 5 | sed 's/^/# /'
    done
}

# compare_if NAME COMMAND...: where the program is installed.
compare_if() {
    if has "$2"; then compare "$@"; else skip "$1" "not installed"; fi
}

mkdir "$scratch/work"
cd "$scratch/work" || exit 99
cp -r "$top_srcdir/src" source
i=0
while [ $i -lt 20000 ]; do
    echo "$((i * 7919 % 20011)) word$((i % 977)) $i"
    i=$((i + 1))
done >lines

compare sh sh -c 'for i in 1 2 3 4 5 6 7 8 9; do x="$x$i$(echo $i)"; done; echo $x; echo source/*/*.c'
compare ls ls -R /usr/share/man
compare sort sort -k2,2 -k1n lines
compare sort-threads sort --parallel=4 -S 2M lines
compare awk awk '{ n[$2] += $1; s = s substr($0, 1, 3) } END { for (w in n) t += n[w]; print t, length(s) }' lines
compare grep grep -c -E '(w.*d[0-9]+) .*7' lines
compare tar tar -cf /dev/null source
compare git git -C "$scratch/work" init -q repository
(cd repository && git config user.email t@example.org && git config user.name t && cp -r ../source . && git add . &&
    git commit -qm one && cp ../lines . && git add . && git commit -qm two) >/dev/null 2>&1
compare git-log git -C repository log --stat -p
compare git-gc sh -c 'cp -r repository r2 && git -C r2 gc -q && git -C r2 fsck && git -C r2 count-objects; rm -rf r2'
if need perl perl; then
    compare perl perl -e 'my %h; $h{$_ % 5000} .= "x$_" for 1..200000; my $s = join ",", sort map { length } values %h;
        print length($s), substr($s, 0, 60), "\n"; print join(" ", map { sprintf "%s", $_ ** 2 } 1..50), "\n"'
fi
if [ -x /usr/bin/python3 ]; then
    PYTHONMALLOC=malloc
    export PYTHONMALLOC
    compare python3 /usr/bin/python3 -c '
import json, re, collections, hashlib
d = {str(i): [i, str(i * 2), {"k": i}] for i in range(30000)}
text = json.dumps(d); e = json.loads(text); assert e == d
c = collections.Counter(re.findall(r"\d\d", text))
print(len(text), sorted(c.items())[:5], hashlib.sha256(text.encode()).hexdigest())'
    compare python3-threads /usr/bin/python3 -c '
import threading, queue
q = queue.Queue(); total = []
def work():
    while (x := q.get()) is not None: total.append(len(str(x) * 50))
t = [threading.Thread(target=work) for _ in range(8)]
[x.start() for x in t]
[q.put({i: [i] * (i % 100)}) for i in range(5000)]
[q.put(None) for _ in t]; [x.join() for x in t]
print(len(total), sum(total))'
    if /usr/bin/python3 -c 'import test.test_json' 2>/dev/null; then
        compare python3-tests sh -c '/usr/bin/python3 -m test -q test_list test_dict test_json 2>&1 |
            grep -v -i -E "duration|load|sec"'
    else
        skip python3-tests "python3's regression tests are not installed"
    fi
    unset PYTHONMALLOC
fi
if need sqlite3 sqlite3; then
    compare sqlite3 sqlite3 :memory: "create table t(a integer primary key, b text, c real);
        with recursive n(x) as (select 1 union all select x + 1 from n where x < 1000000)
        insert into t select x, 'row ' || (x * 7919 % 1000003), x / 3.0 from n;
        create index i on t(b); select count(*), max(b), round(sum(c)) from t; delete from t where a % 3 = 0;
        select count(*), min(b) from t where b like 'row 99%'; vacuum; pragma integrity_check;"
else
    skip sqlite3 "not installed"
fi
compare cc sh -c '$CC -O2 -Isource -Iinclude -fsyntax-only source/base/fmt.c && $CC -O1 -S -Isource -o - source/base/fmt.c | wc -l'
if [ -n "$CXX" ] && echo '#include <map>' | $CXX -x c++ -fsyntax-only - 2>/dev/null; then
    printf '%s\n' '#include <map>' '#include <string>' '#include <thread>' '#include <vector>' '#include <cstdio>' \
        '#include <new>' 'int main() { std::vector<std::thread> t; long sums[8] = {};' \
        'for (int k = 0; k < 8; k++) t.emplace_back([k, &sums] { std::map<std::string, std::vector<int>> m;' \
        'for (int i = 0; i < 20000; i++) m[std::to_string(i % 1000 * 7919) + "abcdefghijklmnop"].push_back(i);' \
        'for (auto &e : m) sums[k] += e.second.size() * e.first.size(); });' \
        'for (auto &x : t) x.join(); long s = 0; for (long x : sums) s += x;' \
        'try { long n = 1L << 62; char *p = new char[n]; delete[] p; } catch (std::bad_alloc &) { s++; }' \
        'struct alignas(256) A { char c[300]; }; A *a = new A[3]; s += ((unsigned long)a & 255) == 0; delete[] a;' \
        'printf("%ld\n", s); }' >program.cc
    compare c++ sh -c '$CXX -O2 -std=c++17 -pthread program.cc -o program && ./program'
fi
if need ruby ruby; then
    compare ruby ruby -e 'h = Hash.new { |x, k| x[k] = [] }; 100000.times { |i| h[i % 777] << "v#{i}" }
        puts h.values.flatten.join.size; puts (1..2000).map { |i| (i ** 20).to_s }.join.sum'
else
    skip ruby "not installed"
fi
if need lua5.4 lua5.4; then
    compare lua lua5.4 -e 'local t = {} for i = 1, 200000 do t[i % 5000 + 1] = (t[i % 5000 + 1] or "") .. i end
        local n = 0 for _, s in ipairs(t) do n = n + #s end print(n)'
else
    skip lua "not installed"
fi
if has node; then
    compare node node -e 'const a = []; for (let i = 0; i < 100000; i++) a.push({i, s: "x" + i});
        console.log(JSON.stringify(a).length, require("zlib").gzipSync(JSON.stringify(a)).length > 0);'
else
    skip node "not installed"
fi
printf '%s\n' 'for {set i 0} {$i < 100000} {incr i} {append a([expr {$i % 5000}]) [string repeat x [expr {$i % 20}]]}' \
    'set l {}' 'foreach k [array names a] {lappend l [string length $a($k)]}' 'puts [lsort -integer $l]' >program.tcl
compare_if tcl tclsh program.tcl
echo 'print(factor(2^101-1)); v=[]; for(i=1,2000,v=concat(v,i^20)); print(vecsum(v))' >program.gp
compare_if gp gp -q -f program.gp
compare_if xz xz -T4 --block-size=100KiB -c lines
compare_if jq jq -n -c '[range(20000) | {k: tostring, v: [., . * 2]}] | map(.k | length) | add'
compare_if gdb gdb -nx -q -batch -ex 'python print(sum(len(str(i)) for i in range(20000)))' -ex 'print 6 * 7'
tap_done
