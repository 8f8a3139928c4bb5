# Which public headers and functions belong to which library; sourced.

# Headers that an umbrella header leads to, itself too.
reached_from() {
    $CC -M -I"$top_srcdir/include" "$top_srcdir/include/ashlar/$1" | tr ' \\' '\n\n' | sed -n 's,^.*/\(ashlar/[a-z_0-9]*\.h\)$,\1,p' |
        sort -u
}

# Those of the second library are what its umbrella leads to and the first's does not.
headers_of() {
    reached_from ashlar.h >"$scratch/reached"
    case $1 in
    libashlar) cat "$scratch/reached" ;;
    libashlar-layers) reached_from layers.h | grep -vxF -f "$scratch/reached" ;;
    esac
}

# The functions that a library has to export: all that its headers name, inline ones excepted.
declared_by() {
    headers_of "$1" | (cd "$top_srcdir/include" && xargs cat) | tr '\n' ' ' >"$scratch/text"
    grep -oE '(static inline|ASH_POOL_PART) [a-z_0-9 *]*\bash_[a-z_0-9]+\(' "$scratch/text" | grep -oE 'ash_[a-z_0-9]+\($' | sort -u >"$scratch/inline"
    grep -oE '\bash_[a-z_0-9]+\(' "$scratch/text" | sort -u | grep -vxF -f "$scratch/inline" | tr -d '('
}
