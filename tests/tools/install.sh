# make install and uninstall, into a directory of the test's own: what is there is what is listed here; programs find it by
# pkg-config and by CMake, shared and static, also when the tree has moved; and nothing stays behind.
. "$top_srcdir/tests/tap.sh"
unset MAKEFLAGS MFLAGS MAKELEVEL DESTDIR
root=$scratch/root
value() {
    sed -n "s,^$1 = ,,p" "$top_builddir/Makefile"
}
prefix=$(value prefix)
libdir=$(value libdir | sed "s,\${exec_prefix},$(value exec_prefix),; s,\${prefix},$prefix,")
make -s -C "$top_builddir" install DESTDIR="$root" >"$scratch/log" 2>&1
ok $? "make install"
grep -E '(Error|error:)' "$scratch/log" | sed 's/^/# /'

# Every header and every page of the tree, and these.
lib=${libdir#"$prefix/"}
{
    echo bin/ashlar
    (cd "$top_srcdir/include" && find ashlar -name '*.h' | sed 's,^,include/,')
    (cd "$top_srcdir/tools/man" && ls | sed 's,\(.*\)\.\([1-9]\)$,share/man/man\2/&,')
    sed '/^\.SH SYNOPSIS/,/^\.SH DESC/!d' "$top_srcdir"/tools/man/ashlar_*.3 | grep -oE 'ash_[a-z0-9_]+ ?\(' |
        sed 's,\(.*[^ ]\) *($,share/man/man3/\1.3,' | sort -u
    for name in profile record; do
        [ ! -e "$top_builddir/libashlar-$name.la" ] || printf "$lib/ashlar/libashlar-$name%s\n" .la .so
    done
    for name in libashlar libashlar-layers; do
        printf "$lib/$name%s\n" .la .so .so.0 .so.0.0.0
        [ ! -e "$top_builddir/$name.a" ] || echo "$lib/$name.a"
    done
    printf "$lib/%s\n" pkgconfig/ashlar.pc pkgconfig/ashlar-layers.pc cmake/ashlar/ashlar-config.cmake \
        cmake/ashlar/ashlar-config-version.cmake
} | sort >"$scratch/want"
(cd "$root$prefix" && find . ! -type d | sed 's,^\./,,' | sort) | diff - "$scratch/want" >"$scratch/log"
ok $? "what is installed is what there is, and no more"
sed 's/^/# /' "$scratch/log"
if has man; then
    for name in ash_free ash_pool_get ash_router_match ash_2pc_vote ash_wal_append; do
        is "$(man -M "$root$prefix/share/man" 3 $name 2>&1 | grep -cw "$name" | awk '{ print ($1 > 1) }')" 1 "man $name"
    done
else
    skip "man FUNCTION" "not installed"
fi
is "$(cd "$root" && find . -type f ! -path "./$lib/*" -perm /022)" "" "nothing that others may write"
for name in libashlar libashlar-layers; do
    is "$(readelf -d "$root$libdir/$name.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')" "$name.so.0" "$name: its SONAME"
    is "$(readelf -d "$root$libdir/$name.so" | sed -nE 's/.*(RPATH|RUNPATH).*\[(.*)\]/\2/p' | grep -vxF "$libdir")" "" \
        "$name: no path of the build inside"
done
if [ -e "$top_builddir/libashlar.a" ]; then
    is "$("$root$prefix/bin/ashlar" run --stats -- ls -d / 2>&1 | grep -cE 'ashlar: (statistics of )?process')" 1 \
        "the installed program finds the installed library"
fi

mkdir "$scratch/user"
cat >"$scratch/user/layers.c" <<'END'
#include <ashlar/ashlar.h>
#include <ashlar/layers.h>
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    struct ash_callcache *cache = ash_callcache_create("answers", NULL);
    struct ash_stats before = {.struct_size = sizeof before}, after = before;
    ash_stats_get(&before);
    char *volatile p = malloc(100);
    ash_stats_get(&after);
    int ours = after.hits + after.misses > before.hits + before.misses;
    free(p);
    return printf("%s %d\n", cache != NULL ? "layers" : "none", ours) < 0 || ash_callcache_destroy(cache) != 0;
}
END
sed '/layers\.h/d; s/.*_callcache_create.*/    void *cache = ash_malloc(10);/; s/ash_callcache_destroy(cache) != 0/(ash_free(cache), 0)/;
    s/"layers"/"ashlar"/' "$scratch/user/layers.c" >"$scratch/user/ashlar.c"
mv "$root" "$scratch/moved"
installed=$scratch/moved$prefix
LD_LIBRARY_PATH=$scratch/moved$libdir
export LD_LIBRARY_PATH
# `malloc` in the build or not: whether the program's own malloc is ours.
replaced=$(nm -D --defined-only "$scratch/moved$libdir/libashlar.so" | grep -cw malloc)

if ! [ -e "$top_builddir/libashlar.a" ]; then
    skip "programs are built against it" "the libraries are instrumented"
else
    if has pkg-config; then
        PKG_CONFIG_PATH=$scratch/moved$libdir/pkgconfig PKG_CONFIG_SYSROOT_DIR=$scratch/moved
        export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
        for name in ashlar ashlar-layers; do
            program=${name#ashlar-}
            # shellcheck disable=SC2046 # lists of words, here and below
            $CC -o "$scratch/$name" "$scratch/user/$program.c" $(pkg-config --cflags --libs $name) 2>"$scratch/log"
            is "$? $("$scratch/$name")" "0 $program $replaced" "pkg-config $name: a program"
            sed 's/^/# /' "$scratch/log"
            # shellcheck disable=SC2046
            $CC -static -o "$scratch/$name" "$scratch/user/$program.c" $(pkg-config --static --cflags --libs $name) \
                2>"$scratch/log"
            is "$? $("$scratch/$name")" "0 $program $replaced" "pkg-config --static $name: a static program"
            is "$(pkg-config --modversion $name)" "$(value PACKAGE_VERSION)" "pkg-config $name: the version"
        done
        unset PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
    else
        skip "programs by pkg-config" "not installed"
    fi
    if has cmake; then
        cat >"$scratch/user/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.13)
project(user C)
find_package(ashlar ${WANTED} REQUIRED)
foreach(name ashlar layers ashlar_static layers_static)
  string(REPLACE _static "" source ${name})
  add_executable(use_${name} ${source}.c)
  target_link_libraries(use_${name} PRIVATE ashlar::${name})
endforeach()
END
        wanted() { # VERSION: a project that wants it is configured
            cmake -S "$scratch/user" -B "$scratch/cmake$1" -DCMAKE_PREFIX_PATH="$installed" -DCMAKE_C_COMPILER="${CC%% *}" \
                -DWANTED="$1" >"$scratch/log" 2>&1
        }
        version=$(value PACKAGE_VERSION)
        wanted "$version" && cmake --build "$scratch/cmake$version" >>"$scratch/log" 2>&1
        ok $? "CMake: find_package, and programs of every target are built"
        grep -iA 4 error "$scratch/log" | sed 's/^/# /'
        for name in ashlar layers ashlar_static layers_static; do
            is "$("$scratch/cmake$version/use_$name")" "${name%_static} $replaced" "CMake: ashlar::$name"
        done
        is "$(readelf -d "$scratch/cmake$version/use_layers_static" | grep -c 'NEEDED.*ashlar')" 0 "CMake: the static one is"
        wanted "${version%.*}"
        ok $? "CMake: the version without its last number will do"
        ! wanted 99.0 && ! wanted 0.99 && grep -q 'version: ' "$scratch/log"
        ok $? "CMake: versions that do not fit are refused"
    else
        skip "programs by CMake" "not installed"
    fi
fi

mv "$scratch/moved" "$root"
make -s -C "$top_builddir" uninstall DESTDIR="$root" >"$scratch/log" 2>&1
is "$? $(find "$root" ! -type d)" "0 " "make uninstall leaves no file"
tap_done
