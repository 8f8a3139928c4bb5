"""compare --programs: real programs at work, those of them that are installed.

Each workload is a command that takes about a second, needs nothing but the program and a scratch
directory, and prints the same every time. Interpreters run a short script, compilers compile what
their own package brings, Redis is a server with its own load generator.
"""
import os
import shutil

PYTHON = """
import collections, json
rows = [{"id": i, "name": "n%d" % (i % 977), "tags": [str(i), str(i * 7)]} for i in range(60000)]
text = json.dumps(rows)
groups = collections.defaultdict(list)
for row in json.loads(text):
    groups[row["name"]].append(" ".join(row["tags"]))
print(len(text), sum(len(",".join(g)) for g in groups.values()))
"""

PERL = """
my %h;
for my $i (1 .. 400000) { push @{$h{"key" . ($i % 40000)}}, "value $i"; }
my $t = join ",", map { join "|", sort @{$h{$_}} } sort keys %h;
$t =~ s/(\\d+)/<$1>/g;
print length $t, "\\n";
"""

RUBY = """
h = Hash.new { |a, k| a[k] = [] }
300_000.times { |i| h["key#{i % 30_000}"] << "value #{i}" }
t = h.keys.sort.map { |k| h[k].sort.join("|") }.join(",")
puts t.gsub(/\\d+/) { |d| "<#{d}>" }.size
"""

LUA = """
local h, n = {}, 0
for i = 1, 500000 do
    local k = "key" .. i % 50000
    h[k] = h[k] or {}
    h[k][#h[k] + 1] = {i, "v" .. i}
end
for _, list in pairs(h) do for _, v in ipairs(list) do n = n + #v[2] end end
print(n)
"""

SQLITE = """
create table t(k integer primary key, word text, n int);
create index w on t(word);
with recursive c(x) as (select 1 union all select x + 1 from c where x < 200000)
insert into t select x, printf('word%d', x * 7919 % 5000), x * 31 % 1000 from c;
select count(*) from (select word, count(*), group_concat(n) from t group by word);
select count(*) from t a join t b on a.n = b.k where a.word like '%99%';
update t set word = upper(word) where n < 500;
delete from t where n % 3 = 0;
select count(*), sum(length(word)) from t;
"""

NODE = """
const rows = [...Array(150000).keys()].map(i => ({id: i, name: "n" + i % 977, tags: ["" + i]}));
const groups = new Map();
for (const r of JSON.parse(JSON.stringify(rows)))
  groups.set(r.name, (groups.get(r.name) || []).concat(r.tags));
console.log([...groups.values()].map(g => g.join().length).reduce((a, b) => a + b));
"""

CXX = """
#include <algorithm>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <unordered_map>
#include <vector>
int main()
{
    std::map<std::string, std::vector<int>> m;
    std::unordered_map<int, std::string> u;
    std::regex word("[a-z]+");
    for (int i = 0; i < 9; i++) { m[std::to_string(i)].push_back(i); u[i] = std::to_string(i); }
    std::sort(m["1"].begin(), m["1"].end());
    std::cout << m.size() << u.size() << std::regex_match("abc", word) << std::endl;
}
"""

REDIS = """
redis-server --port 0 --unixsocket socket --save '' >log &
trap "kill $! 2>/dev/null" EXIT
tries=0
until redis-cli -s socket ping 2>&1 | grep -q PONG; do
    tries=$((tries + 1)); [ $tries -lt 100 ] || exit 1; sleep 0.05
done
redis-benchmark -s socket -q -n 150000 -r 200000 -d 200 -P 16 -t set,lpush >/dev/null
redis-cli -s socket shutdown nosave; wait
"""


def pigeons_cnf():
    """A satisfiability problem that keeps a solver busy: pigeons into too few holes."""
    pigeons, holes = 9, 8
    clauses = [[p * holes + h + 1 for h in range(holes)] for p in range(pigeons)]
    clauses += [[-(p * holes + h + 1), -(q * holes + h + 1)]
                for h in range(holes) for p in range(pigeons) for q in range(p)]
    return "p cnf %d %d\n" % (pigeons * holes, len(clauses)) + "".join(
        " ".join(map(str, c)) + " 0\n" for c in clauses)


def all_workloads(directory, root):
    """(name, command) of those whose program is installed; their files go into `directory`."""
    def file(name, text):
        path = os.path.join(directory, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text.lstrip())
        return path

    def in_directory(script):
        return ["sh", "-c", "cd %s || exit 1\n%s" % (directory, script.strip())]

    cxx = file("program.cc", CXX)
    found = [
        ("python3", "python3", ["/usr/bin/env", "python3", file("program.py", PYTHON)]),
        ("perl", "perl", ["perl", file("program.pl", PERL)]),
        ("ruby", "ruby", ["ruby", file("program.rb", RUBY)]),
        ("lua", "lua5.4", ["lua5.4", file("program.lua", LUA)]),
        ("sqlite3", "sqlite3", ["sqlite3", ":memory:", ".read " + file("program.sql", SQLITE)]),
        ("node", "node", ["node", file("program.js", NODE)]),
        ("gcc", "gcc", ["gcc", "-O2", "-S", "-I", os.path.join(root, "src"), "-D_GNU_SOURCE", "-o",
                        os.devnull, os.path.join(root, "src/info/options.c")]),
        ("g++", "g++", ["g++", "-O1", "-S", "-o", os.devnull, cxx]),
        ("clang++", "clang++", ["clang++", "-O1", "-S", "-o", os.devnull, cxx]),
        ("git", "git", ["git", "-C", root, "log", "-p", "--stat", "--no-color"]),
        ("minisat", "minisat", ["minisat", "-verb=0", file("program.cnf", pigeons_cnf())]),
        ("redis", "redis-server", in_directory(REDIS)),
    ]
    if not os.path.exists(os.path.join(root, ".git")):  # a distribution has no history
        found = [entry for entry in found if entry[0] != "git"]
    return [(name, command) for name, program, command in found if shutil.which(program)]
