# The README and the guides are true: their blocks of commands are run from top to bottom, as they stand, in a fresh copy of
# the tree; files that they show are written, compiled and checked; what they say is printed is. tests/tools/document.awk
# tells which block is which.
#
# The build is a real one, by the README's first command, without optimisation to save time. What is installed goes to a
# directory that stands for the machine's own: DESTDIR, and the paths by which installed things are found.
. "$top_srcdir/tests/tap.sh"
unset MAKEFLAGS MFLAGS MAKELEVEL ASH_BUILD LD_PRELOAD CC CXX
for tool in autoreconf automake libtoolize pkg-config python3; do
    if ! has $tool; then
        skip "README.md and the guides" "$tool is not installed"
        tap_done
    fi
done
tree=$scratch/ashlar
mkdir "$tree"
cd "$top_srcdir" || exit 99
if [ -e .git ] && git ls-files -co --exclude-standard >"$scratch/list" 2>/dev/null; then
    while read -r name; do [ ! -e "$name" ] || echo "$name"; done <"$scratch/list" | tar -cf - -T - | tar -C "$tree" -xf -
else
    tar --exclude=./build --exclude=./build-check --exclude=./build-check-clang --exclude='./_*' -cf - . | tar -C "$tree" -xf -
fi
chmod -R u+w "$tree"
cd "$tree" || exit 99

root=$scratch/root
prefix=$root/usr/local
export DESTDIR="$root" CFLAGS='-O0' CXXFLAGS='-O0' PATH="$prefix/bin:$PATH" LD_LIBRARY_PATH="$prefix/lib" \
    MANPATH="$prefix/share/man:" PKG_CONFIG_PATH="$prefix/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$root" \
    CMAKE_PREFIX_PATH="$prefix" LC_ALL=C

# What one configure has found out, the next need not ask.
echo "cache_file=$scratch/config.cache" >"$scratch/site"
export CONFIG_SITE="$scratch/site"

# ---- what a line of a document's script does ----

run() { # LINE COMMANDS [PROGRAM]
    ran=true
    if [ $# = 3 ] && ! has "$3"; then
        ran=false
        excused "$1"
        return 0
    fi
    printf '%s\n' "$2" >"$scratch/$document/block"
    echo "$1" >>"$scratch/$document/run"
    {
        . "$scratch/$document/block"
    } >"$scratch/$document/out" 2>&1 </dev/null
    if sed 's/error: none//' "$scratch/$document/out" |
        grep -nE '(error:|Error [0-9]|fatal|not found|[Nn]o such file|^usage|ignored:|cannot )'; then
        exit 1
    fi
}

# With every number as N, units of a kind, blanks, rules and bars as one, and without what measuring decides: which is the
# lowest, and whether a difference was shown.
same() {
    sed -E 's/[0-9][0-9,.]*/N/g; s/N ([KMG]iB|B)\b/N B/g; s/N [num]?s\b/N s/g; s/(█|▓|▒|░|▚|·)+/ /g
        s/[ #-]+/ /g; s/^\* / /; s/ same \(/ N (/; s/ $//' | grep .
}

prints() { # LINE TEXT: each line of the text is printed, in this order
    $ran || return 0
    printf '%s' "$2" | grep -vx '\.\.\.' | same >"$scratch/$document/want"
    same <"$scratch/$document/out" >"$scratch/$document/got"
    awk 'NR == FNR { want[++n] = $0; next } $0 == want[at + 1] { at++ } END { if (at < n) { print want[at + 1]; exit 1 } }' \
        "$scratch/$document/want" "$scratch/$document/got" >"$scratch/$document/missing" && return
    echo "line $1: this is not printed, or not there: $(cat "$scratch/$document/missing")"
    exit 1
}

file() { # LINE NAME TEXT
    mkdir -p "$(dirname "$2")"
    printf '%s' "$3" >"$2"
    printf '%s\n' "$2" >>"$scratch/$document/files"
}

add() {
    printf '%s' "$3" >>"$2"
}

excused() {
    printf '%s\n' "$1" >>"$scratch/$document/excused"
}

unknown() {
    echo "line $1: a block of neither commands nor a named file: $2"
    exit 1
}

indented() {
    echo "line $1: an indented block; fence it, so that it is tried"
    exit 1
}

# An alert asks for what there is: service.prom is what the guide has a process write.
is_rule() {
    case $1 in *rules*) ;; *) return 0 ;; esac
    grep -oE 'ashlar_[a-z_]+' "$1" | sort -u | while read -r name; do
        grep -q "^$name " service.prom || {
            echo "$name is no metric"
            exit 1
        }
    done && { ! has promtool || promtool check rules "$1"; }
}

# The files that are configuration are read by what reads them, where that is here.
check_file() {
    case $1 in
    *.yml | *.yaml)
        python3 -c 'import sys
try:
    import yaml
except ImportError:
    sys.exit(0)
list(yaml.safe_load_all(open(sys.argv[1])))' "$1" && is_rule "$1" ;;
    *.conf) grep -qE '^\[[A-Z][a-z]+\]$' "$1" && ! grep -vqE '^(#.*|\[[A-Z][a-z]+\]|[A-Za-z]+=.*|)$' "$1" ;;
    *.json) python3 -m json.tool "$1" >"$scratch/json" ;;
    *.svg) python3 -c 'import sys, xml.dom.minidom as m; sys.exit(m.parse(sys.argv[1]).documentElement.tagName != "svg")' "$1" ;;
    *.c) true ;; # compiled by the document itself
    *) [ -s "$1" ] ;;
    esac
}

# ---- the documents ----

# All of a document's blocks, in a shell of its own.
try() {
    mkdir -p "$scratch/$document"
    touch "$scratch/$document/run" "$scratch/$document/excused" "$scratch/$document/files"
    awk -f tests/tools/document.awk "$document" >"$scratch/$document/script"
    (
        set -e
        . "$scratch/$document/script"
    ) >"$scratch/$document/said" 2>&1
    echo $? >"$scratch/$document/status"
}
# The guides begin with the README's third block: the second installs what they need.
document=README.md
own=$scratch/$document
mkdir "$own"
: >"$own/run"
try &
until [ -e "$own/status" ] || [ "$(wc -l <"$own/run")" -gt 2 ]; do sleep 0.1; done
others=$(ls tools/guide/*.md CONTRIBUTING.md SECURITY.md)
for document in $others; do
    try &
done
wait

for document in README.md $others; do
    own=$scratch/$document
    status=$(cat "$own/status")
    ok "$status" "$document: $(wc -l <"$own/run") blocks of commands run, $(wc -l <"$own/excused") excused"
    if [ "$status" != 0 ]; then
        echo "# in the block at line $(tail -n 1 "$own/run")"
        tail -n 20 "$own/said" "$own/out" | sed 's/^/# /'
    fi
    while read -r name; do
        check_file "$name" >"$scratch/log" 2>&1
        ok $? "$document: $name is well-formed"
        sed 's/^/# /' "$scratch/log"
    done <"$own/files"
    for picture in $(grep -oE '\]\([^)]+\.svg\)' "$document" | sed 's/^](//; s/)$//'); do
        check_file "$(dirname "$document")/$picture" >"$scratch/log" 2>&1
        ok $? "$document: $picture is a picture"
    done
    is "$(grep -oE '\]\([^)]+\)' "$document" | sed 's/^](//; s/)$//; s/#.*//' | grep -vE '^(https?:|$)' | while read -r link; do
        [ -e "$(dirname "$document")/$link" ] || echo "$link"; done)" "" "$document: what it links to is there"
    is "$(grep -oE '`(src|tests|tools|bench|include)/[A-Za-z0-9_./-]*[a-z]`' "$document" | tr -d '`' | while read -r name; do
        [ -e "$name" ] || grep -qF "$name" Makefile.am || echo "$name"; done)" "" "$document: files that it names are there"
done
document=tools/guide/how-it-works.md
is "$(grep -oE '`[a-z]+(_[a-z]+)+(\([^`]*\))?`' $document | tr -d '`' | sed 's/(.*//' | sort -u | while read -r name; do
    grep -rqw -e "$name" src preload || echo "$name"; done)" "" "$document: the functions that it follows are there"
tap_done
