# ashlar report: pages of statistics and profiles, folded stacks, mistakes; and, where Chromium is, what the page looks like.
. "$top_srcdir/tests/tap.sh"
cd "$scratch" || exit 99
ashlar=$top_builddir/ashlar

cat >work.cc <<'END'
#include <map>
#include <string>
#include <cstdlib>
namespace store { struct Shelf { std::map<int, std::string> all; void fill(int n) { for (int i = 0; i < n; i++) all[i] = std::string(200, 'x'); } }; }
int main(int argc, char **argv) { static store::Shelf *s = new store::Shelf; s->fill(argc > 1 ? atoi(argv[1]) : 20000); }
END
$CXX -O1 -o 'work & <b>' work.cc
for n in 1000 20000 60000; do
    LD_PRELOAD=$LIBASHLAR ASHLAR_STATS=json:s$n.json ASHLAR_PROFILE=p.heap ASHLAR_PROFILE_BYTES=64K './work & <b>' $n
done

"$ashlar" report -o page.html s1000.json s20000.json s60000.json p.heap
is $? 0 "a page"
for part in "Over time" "Where the memory is" "Size classes" "Live memory by call stack" "Allocated memory by call stack"; do
    is "$(grep -c "<h2>$part</h2>" page.html)" 1 "with $part"
done
is "$(grep -ciE '<script|src=|href=|url\(|@import|http:|onload' page.html)" 0 "no script, and nothing from elsewhere"
is "$(grep -c 'store::Shelf::fill(int)' page.html | awk '{ print ($1 > 0) }')" 1 "C++ as it is written"
is "$(grep -cF 'work & <b>' page.html)" 0 "names are escaped"
if has python3; then
    python3 - page.html >parsed 2>&1 <<'END'
import sys, html.parser
class Reader(html.parser.HTMLParser):
    def __init__(self): super().__init__(); self.open = []
    def handle_starttag(self, tag, attrs):
        if tag not in ("meta",): self.open.append(tag)
    def handle_startendtag(self, tag, attrs): pass
    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag: print("unbalanced", tag, self.getpos())
r = Reader(); r.feed(open(sys.argv[1], encoding="utf-8").read()); print(r.open)
END
    is "$(cat parsed)" "[]" "every element is closed"
fi
is "$("$ashlar" report s20000.json | grep -c 'Over time')" 0 "of one file there is no course"
"$ashlar" report --folded p.heap >live
is "$(grep -vcE '^[^;]+(;[^;]+)* [0-9]+$' live)" 0 "folded stacks are what tools of flame graphs read"
is "$(awk '{ n += $NF } END { print (n > 12e6 && n < 30e6) }' live)" 1 "and hold what is live"

# Names that want to be more than names, by a symbol table, a file and a pool.
printf '%s\n' 'heap profile: 2: 2000 [2: 2000] @ heap_v2/1' '2: 2000 [2: 2000] @ 0x1001 0x2001' '' 'MAPPED_LIBRARIES:' \
    '00001000-00002000 r-xp 00000000 00:00 0 /nowhere/<script>alert(1)</script>&' >bad.heap
is "$("$ashlar" report bad.heap | grep -ciE '<script')" 0 "a file's name is escaped"
is "$("$ashlar" report --folded bad.heap)" '0x2001;script>&+0x0 2000' "and shown"
printf '{"format": 1, "pid": 7, "totals": {"live_bytes": 1e300, "hits": -5}, "classes": [{"size": 64}, 3, []],
 "po<ols": [{"na\\u003cme": "<img src=x>\\u0000\\ud83d\\ude00", "n_ns": 12345678}, {"name": null}]}' >odd.json
is "$("$ashlar" report odd.json | grep -cE '<img|na<me|Po<ols')" 0 "names in JSON are"

# Rows that are none, and figures that are out of all reason.
printf '{"format": 1, "pid": 1e999, "totals": {"live_bytes": 1e999, "used_bytes": -1e999, "purge_ns": 1e999},
 "classes": [{"size": 1e999, "capacity": 1e999}], "pools": [{"n": 1}, [5], 7]}' >far.json
is "$("$ashlar" report far.json far.json | grep -ciE '[^a-z](nan|inf)[^a-z/.]')/$("$ashlar" report far.json | grep -c '</html>')" 0/1 \
    "figures beyond all numbers"
printf '%s\n' 'heap profile: 1: 1 [1: 1] @ heap_v2/18446744073709551615' '1: 1 [1: 1] @ 0x1001' '' 'MAPPED_LIBRARIES:' >far.heap
is "$("$ashlar" report --folded far.heap)" '0x1001 18446744073709551616' "a sample that stands for all there can be"

# Many stacks, all different: work grows with their number, not with its square.
awk 'BEGIN { print "heap profile: 1: 1 [1: 1] @ heap_v2/1"
    for (i = 1; i <= 150000; i++) printf "1: %d [1: %d] @ 0x%x 0x%x\n", i % 999 + 1, i % 999 + 1, i * 77, i * 16
    print "\nMAPPED_LIBRARIES:" }' >many.heap
timeout 60 "$ashlar" report --folded many.heap >many
is "$? $(wc -l <many)" "0 150000" "a hundred and fifty thousand stacks"

# Mistakes.
fails() { # WANT FILE
    is "$("$ashlar" report "$2" 2>&1 >/dev/null)" "ashlar: report: $2$1" "$2: $1"
    "$ashlar" report "$2" >/dev/null 2>&1
    is $? 1 "$2: its status"
}
fails ": No such file or directory" none
printf 'hello' >foreign
fails ": neither statistics in JSON nor a heap profile" foreign
: >empty
fails ": neither statistics in JSON nor a heap profile" empty
head -c 300 s20000.json >cut.json
fails ": not JSON at byte 300" cut.json
printf '{"a": 1}' >other.json
fails ": JSON, but not statistics of Ashlar" other.json
printf '{"format": 9, "totals": {}}' >later.json
fails ": statistics of another version of Ashlar" later.json
head -c 200 p.heap >cut.heap
is "$("$ashlar" report cut.heap 2>&1 | grep -cE '^ashlar: report: cut.heap:[0-9]+: (not a line of|a) heap profile')" 1 "a profile that is cut"
printf 'heap profile: x' >no.heap
fails ":1: not a heap profile that this program knows" no.heap
is "$("$ashlar" report --folded s20000.json 2>&1)" "ashlar: report: s20000.json: statistics have no stacks to fold" "no stacks to fold"
"$ashlar" report >/dev/null 2>&1
is $? 2 "no file"
"$ashlar" report --nonsense x 2>/dev/null
is $? 2 "an unknown option"
"$ashlar" report -o /dev/full p.heap 2>/dev/null
is $? 1 "a full device"

# What it looks like: not blank, dark where that is preferred, no wider than a phone.
if chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome) && has python3; then
    shot() { # NAME WIDTH [OPTION]
        timeout 60 "$chromium" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$scratch/chromium" \
            --window-size="$2,900" ${3:+"$3"} --screenshot="$scratch/$1.png" "file://$scratch/page.html" >/dev/null 2>&1
        python3 - "$1.png" <<'END'
import sys, struct, zlib
d = open(sys.argv[1], "rb").read(); at = 8; data = b""
while at < len(d):
    n, kind = struct.unpack(">I4s", d[at:at + 8]); body = d[at + 8:at + 8 + n]; at += 12 + n
    if kind == b"IHDR": w, h, depth, color = struct.unpack(">IIBB", body[:10])
    if kind == b"IDAT": data += body
k = {2: 3, 6: 4}[color]; raw = zlib.decompress(data); prior = bytearray(w * k); seen = {}; first = None
for y in range(min(h, 400)):
    f, row = raw[y * (w * k + 1)], bytearray(raw[y * (w * k + 1) + 1:(y + 1) * (w * k + 1)])
    for i in range(w * k):
        a = row[i - k] if i >= k else 0; b = prior[i]; c = prior[i - k] if i >= k else 0
        p = a + b - c; t = (abs(p - a), abs(p - b), abs(p - c))
        row[i] = row[i] + (0, a, b, (a + b) // 2, a if t[0] <= t[1] and t[0] <= t[2] else b if t[1] <= t[2] else c)[f] & 255
    prior = row
    for x in range(0, w, 3): c = bytes(row[x * k:x * k + 3]); seen[c] = seen.get(c, 0) + 1
    first = first or bytes(row[:3])
print("dark" if sum(first) < 200 else "light", "colours" if len(seen) > 20 and max(seen.values()) < 0.93 * sum(seen.values()) else "blank")
END
    }
    is "$(shot light 1280)" "light colours" "a light page"
    is "$(shot dark 1280 --blink-settings=preferredColorScheme=0)" "dark colours" "a dark page"
    is "$(shot phone 400)" "light colours" "on a phone"
else
    skip "what the page looks like" "no Chromium"
fi
tap_done
