# The README and the guides are true: their blocks of commands are run from top to bottom, as they stand, in a fresh copy of
# the tree; files that they show are written, compiled and checked; what they say is printed is. tests/tools/document.awk
# tells which block is which.
#
# The build is a real one, by the README's first command, without optimisation to save time. What is installed goes to a
# directory that stands for the machine's own: DESTDIR, and the paths by which installed things are found.
. "$top_srcdir/tests/tap.sh"
unset MAKEFLAGS MFLAGS MAKELEVEL ASH_BUILD LD_PRELOAD
for tool in autoreconf automake libtoolize git pkg-config python3; do
    if ! has $tool && ! { [ $tool = libtoolize ] && has libtool; }; then
        skip "README.md and the guides" "$tool is not installed"
        tap_done
    fi
done
tree=$scratch/ashlar
mkdir "$tree"
if git -C "$top_srcdir" rev-parse --git-dir >/dev/null 2>&1; then
    git -C "$top_srcdir" ls-files -co --exclude-standard -z | (cd "$top_srcdir" && xargs -0 ls -d 2>/dev/null) |
        tar -C "$top_srcdir" -cf - -T - | tar -C "$tree" -xf -
else
    tar -C "$top_srcdir" --exclude='./build*' -cf - . | tar -C "$tree" -xf -
    mkdir -p "$tree/build-aux"
    cp -R "$top_srcdir/build-aux/." "$tree/build-aux"
fi
chmod -R u+w "$tree"
cd "$tree" || exit 99

root=$scratch/root
prefix=$root/usr/local
export DESTDIR="$root" CFLAGS='-O0' CXXFLAGS='-O0' PATH="$prefix/bin:$PATH" LD_LIBRARY_PATH="$prefix/lib" \
    MANPATH="$prefix/share/man:" PKG_CONFIG_PATH="$prefix/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$root" \
    CMAKE_PREFIX_PATH="$prefix" LC_ALL=C

# ---- what a line of a document's script does ----

run() { # LINE COMMANDS
    printf '%s\n' "$2" >"$scratch/block"
    {
        set -e
        . "$scratch/block"
    } >"$scratch/out" 2>&1 </dev/null
    printf '%s\n' "$1" >>"$scratch/done"
    ! grep -nE '(^|[^-a-z_])(error|fatal|not found|no such file|usage|ignored|cannot|failed)([^a-z]|$)' "$scratch/out" \
        >"$scratch/complaint"
}

same() { # TEXT: with every number as N, and blanks and rules of tables as one
    sed -E 's/[0-9][0-9,.]*/N/g; s/[ #-]+/ /g; s/ $//' | grep .
}

prints() { # LINE TEXT: each line of the text is printed, in this order
    printf '%s' "$2" | grep -vx '\.\.\.' | same >"$scratch/want"
    same <"$scratch/out" >"$scratch/got"
    awk 'NR == FNR { want[++n] = $0; next } $0 == want[at + 1] { at++ } END { if (at < n) { print want[at + 1]; exit 1 } }' \
        "$scratch/want" "$scratch/got" >"$scratch/missing" && return
    echo "line $1: this is not printed, or not there: $(cat "$scratch/missing")"
    exit 1
}

file() { # LINE NAME TEXT
    mkdir -p "$(dirname "$2")"
    printf '%s' "$3" >"$2"
    printf '%s\n' "$2" >>"$scratch/files"
}

add() {
    printf '%s' "$3" >>"$2"
}

excused() {
    printf '%s\n' "$1" >>"$scratch/excused"
}

unknown() {
    echo "line $1: a block of neither commands nor a named file: $2"
    exit 1
}

indented() {
    echo "line $1: an indented block; fence it, so that it is tried"
    exit 1
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
list(yaml.safe_load_all(open(sys.argv[1])))' "$1" && { ! has promtool || case $1 in *rules*) promtool check rules "$1" ;; esac; } ;;
    *.conf) grep -qE '^\[[A-Z][a-z]+\]$' "$1" && ! grep -vqE '^(#.*|\[[A-Z][a-z]+\]|[A-Za-z]+=.*|)$' "$1" ;;
    *.json) python3 -m json.tool "$1" >"$scratch/json" ;;
    *.c) true ;; # compiled by the document itself
    *) [ -s "$1" ] ;;
    esac
}

# ---- the documents ----

for document in README.md CONTRIBUTING.md SECURITY.md tools/guide/*.md; do
    : >"$scratch/done"
    : >"$scratch/files"
    : >"$scratch/excused"
    awk -f tests/tools/document.awk "$document" >"$scratch/script"
    : >"$scratch/complaint"
    (
        while read -r word; do :; done <"$scratch/empty" 2>/dev/null
        set -e
        . "$scratch/script"
    ) >"$scratch/said" 2>&1
    status=$?
    ok $status "$document: $(wc -l <"$scratch/done") blocks of commands run, $(wc -l <"$scratch/excused") excused"
    if [ $status != 0 ]; then
        echo "# the last block began: $(head -n 1 "$scratch/block")"
        cat "$scratch/complaint" "$scratch/said" "$scratch/out" 2>/dev/null | tail -n 30 | sed 's/^/# /'
    fi
    while read -r name; do
        check_file "$name" >"$scratch/said" 2>&1
        ok $? "$document: $name is well-formed"
        sed 's/^/# /' "$scratch/said"
    done <"$scratch/files"
    # Links lead somewhere.
    is "$(grep -oE '\]\([^)]+\)' "$document" | sed 's/^](//; s/)$//; s/#.*//' | grep -vE '^(https?:|$)' | while read -r link; do
        [ -e "$(dirname "$document")/$link" ] || echo "$link"; done)" "" "$document: what it links to is there"
    is "$(awk 'length > 500' "$document" | head -n 3)" "" "$document: no line is endless"
done
tap_done
