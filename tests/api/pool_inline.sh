# Where the functions that are compiled into programs are compiled into: programs with any optimisation, C++, a program
# that the archive is linked into, and code that is loaded later, the library along with it.
. "$top_srcdir/tests/tap.sh"
cat >"$scratch/use.c" <<'END'
#include <ashlar/pool.h>
#ifdef __cplusplus
extern "C"
#endif
int use(void);
int use(void)
{
    struct ash_pool_config config = {0};
    config.struct_size = sizeof config;
    config.obj_size = 64;
    struct ash_pool *pool = ash_pool_create(0, &config);
    void *objs[100];
    for (int i = 0; i < 100; i++)
        objs[i] = ash_pool_get(pool);
    for (int i = 0; i < 100; i++)
        ash_pool_put(pool, objs[i]);
    if (ash_pool_get_bulk(pool, objs, 10) != 0)
        return 1;
    ash_pool_put_bulk(pool, objs, 10);
    struct ash_pool_stats s;
    if (ash_pool_stats(pool, &s) != 0 || s.hits + s.misses != 110 || s.hits < 10 || s.in_use != 0)
        return 2;
    return ash_pool_destroy(pool) == 0 ? 0 : 3;
}
END
cat >"$scratch/main.c" <<'END'
int use(void);
int main(void)
{
    return use();
}
END
cat >"$scratch/load.c" <<'END'
#include <dlfcn.h>
int main(int argc, char **argv)
{
    void *code = dlopen(argv[argc - 1], RTLD_NOW);
    int (*use)(void) = code == 0 ? 0 : (int (*)(void))dlsym(code, "use");
    return use == 0 ? 4 : use();
}
END
# try NAME INLINED COMPILER FLAGS…: a program of it; does its code reach the thread's table itself?
try() {
    name=$1 inlined=$2
    shift 2
    # shellcheck disable=SC2086 # flags of the sanitizers are several words
    "$@" $SANITIZE -I"$top_srcdir/include" -c -o "$scratch/use.o" -x "$language" "$scratch/use.c" 2>"$scratch/log" &&
        "$@" $SANITIZE -o "$scratch/program" -x c "$scratch/main.c" -x none "$scratch/use.o" -L"$top_builddir/.libs" \
            -lashlar -Wl,-rpath,"$top_builddir/.libs" 2>>"$scratch/log" && "$scratch/program" 2>>"$scratch/log"
    ok $? "$name"
    sed 's/^/# /' "$scratch/log"
    is "$(nm -u "$scratch/use.o" | grep -c ash_pool_caches)" "$inlined" "$name: compiled in: $inlined"
}
SANITIZE=$(sed -n 's/^SANITIZER_CFLAGS = //p' "$top_builddir/Makefile")
within=1
case $SANITIZE in *thread*) within=0 ;; esac
language=c
try "optimised" $within "$CC" -O2
try "not optimised" 0 "$CC" -O0
try "asked not to" 0 "$CC" -O2 -DASH_POOL_OUT_OF_LINE
try "watched for races" 0 "$CC" -O2 -fsanitize=thread
if has clang; then
    try "clang" $within clang -O2
fi
if [ -n "$CXX" ]; then
    language=c++
    try "C++" $within "$CXX" -O2
fi
if [ -e "$top_builddir/libashlar.a" ]; then
    $CC -O2 -static -I"$top_srcdir/include" -o "$scratch/static" "$scratch/main.c" "$scratch/use.c" "$top_builddir/libashlar.a" \
        -pthread 2>"$scratch/log" && "$scratch/static"
    ok $? "in a program that holds all of the library"
    sed 's/^/# /' "$scratch/log"
    $CC -O2 -shared -fPIC -I"$top_srcdir/include" -o "$scratch/use.so" "$scratch/use.c" -L"$top_builddir/.libs" -lashlar \
        -Wl,-rpath,"$top_builddir/.libs" 2>"$scratch/log" &&
        $CC -o "$scratch/load" "$scratch/load.c" -ldl 2>>"$scratch/log" && "$scratch/load" "$scratch/use.so"
    ok $? "in code that is loaded later"
    sed 's/^/# /' "$scratch/log"
    LD_PRELOAD=$LIBASHLAR "$scratch/load" "$scratch/use.so"
    ok $? "likewise, the library being there before"
fi
tap_done
