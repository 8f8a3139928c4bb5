# Situations that a preloaded library meets: other loaders' games, limits, foreign allocators, secure execution, servers.
. "$top_srcdir/tests/tap.sh"
cd "$scratch" || exit 99

build() { # NAME FLAGS... <source
    name=$1
    shift
    cat >"$name.c"
    $CC -O1 -o "$name" "$name.c" "$@" 2>"$name.log" || { sed 's/^/# /' "$name.log"; ok 1 "$name compiles"; }
}

run() { # COMMAND...: output of both streams under Ashlar
    LD_PRELOAD=$LIBASHLAR "$@" 2>&1
}

# A program linked statically does not see the library.
build static -static <<'END'
#include <stdio.h>
#include <stdlib.h>
int main(void) { char *p = malloc(100); sprintf(p, "static %d", 42); puts(p); free(p); return 0; }
END
[ -x static ] && is "$(run ./static)" "static 42" "a static program is untouched"

# A program with its own malloc keeps it: its definitions come first, and blocks never mix. It need not define all of the
# family: reallocarray goes by realloc.
build own <<'END'
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static char heap[1 << 22]; static size_t top; static int calls;
void *malloc(size_t n) { calls++; void *p = heap + top; top += (n + 31) & ~15ul; return p; }
void free(void *p) { (void)p; }
void *calloc(size_t c, size_t n) { void *p = malloc(c * n); memset(p, 0, c * n); return p; }
void *realloc(void *o, size_t n) { void *p = malloc(n); if (o) memcpy(p, o, n); return p; }
static int mine(char *p) { return p >= heap && p < heap + sizeof heap; }
int main(void) { char *p = strdup("own"), *q = reallocarray(p, 9, 9); return printf("%s %d\n", q, calls && mine(p) && mine(q)) < 0; }
END
is "$(run ./own)" "own 1" "a program with its own malloc uses its own"

# A plugin opened with RTLD_DEEPBIND would find libc's malloc first. The flag is ignored; where it is to be obeyed, the
# plugin's blocks are foreign here and are named. The plugin is found by the RUNPATH of the object that opens it.
mkdir plugins
cat >plugin.c <<'END'
#include <stdlib.h>
#include <string.h>
char *plugin_make(void) { char *p = malloc(64); strcpy(p, "deep"); return p; }
void plugin_free(char *p) { free(p); }
END
$CC -O1 -fPIC -shared -o plugins/plugin.so plugin.c
cat >opener.c <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
void *opener(int mode) { void *h = dlopen("plugin.so", mode); return h; }
END
$CC -O1 -fPIC -shared -o opener.so opener.c -ldl -Wl,-rpath,"$scratch/plugins"
build deep ./opener.so -ldl <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
void *opener(int mode);
int main(int argc, char **argv) {
    void *h = opener(RTLD_NOW | RTLD_DEEPBIND);
    if (h == NULL) return puts(dlerror());
    char *(*make)(void) = (char *(*)(void))dlsym(h, "plugin_make");
    void (*give)(char *) = (void (*)(char *))dlsym(h, "plugin_free");
    char *p = make(); puts(p); fflush(stdout);
    if (argc > 1) { free(p); if (strcmp(argv[1], "both") == 0) give(strdup("ours")); } else give(p);
    dlclose(h);
    return argv == NULL;
}
END
is "$(run ./deep) $(run ./deep both)" "deep deep" "RTLD_DEEPBIND: a plugin has the process's malloc"
is "$(ASHLAR_DEEPBIND=1 run ./deep)" "deep" "RTLD_DEEPBIND, obeyed: a plugin keeps to its own malloc"
is "$(ASHLAR_DEEPBIND=1 ASHLAR_ON_ERROR=warn run ./deep mix | sed 's/0x[0-9a-f]*/P/')" "deep
ashlar: free of foreign pointer P" "RTLD_DEEPBIND, obeyed: a block that crosses over is named, not taken"
if need php php; then
    is "$(run php -r 'echo strlen(json_encode(range(1, 1000))), "\n";')" 3894 "PHP, whose extensions are opened so"
fi

# Programs built with sanitizers have an allocator of their own, and two of them will not have memory anywhere but where they
# expect it.
echo '#include <stdlib.h>
#include <stdio.h>
int main(void) { char *volatile p = malloc(10); p[3] = 1; free(p); return puts("checked") < 0; }' >checked.c
for what in thread undefined leak; do
    if $CC -fsanitize=$what -o checked checked.c 2>/dev/null && [ "$(./checked 2>&1)" = checked ]; then
        is "$(run ./checked)" "checked" "a program built with -fsanitize=$what"
    else
        skip "a program built with -fsanitize=$what" "none can be built or run"
    fi
done

# Plugins that come and go while threads allocate; their blocks stay good, their destructors free what is left.
cat >guest.c <<'END'
#include <stdlib.h>
#include <string.h>
static char *at_load, *last;
__attribute__((constructor)) static void come(void) { at_load = malloc(3000); }
__attribute__((destructor)) static void go(void) { free(at_load); free(last); free(malloc(70000)); }
char *guest_make(size_t n) { free(last); last = strdup("guest"); return memset(malloc(n), 5, n); }
END
$CC -O1 -fPIC -shared -o guest.so guest.c
build host -ldl -pthread <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
static _Atomic int stop;
static void *busy(void *arg) { while (!stop) free(malloc(100 + (size_t)arg * 999)); return NULL; }
int main(void) {
    char *left[300]; pthread_t t[4];
    for (long i = 0; i < 4; i++) pthread_create(&t[i], NULL, busy, (void *)i);
    for (int i = 0; i < 300; i++) {
        void *h = dlopen("./guest.so", RTLD_NOW);
        if (!h) return puts(dlerror());
        left[i] = ((char *(*)(size_t))dlsym(h, "guest_make"))(100 + (size_t)i * 50);
        dlclose(h);
        if (dlopen("./guest.so", RTLD_NOW | RTLD_NOLOAD)) return puts("it stayed");
    }
    stop = 1;
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < 300; i++) { if (left[i][99] != 5) return puts("damaged"); free(left[i]); }
    int (*verify)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "ash_verify");
    return printf("300 plugins, %d faults\n", verify ? verify() : -1) < 0;
}
END
is "$(run ./host)" "300 plugins, 0 faults" "plugins that are closed while threads allocate"

# LD_AUDIT puts a second libc, with its own malloc, beside the first.
cat >audit.c <<'END'
unsigned la_version(unsigned v) { return v; }
END
$CC -fPIC -shared -o audit.so audit.c
is "$(LD_AUDIT=./audit.so run sh -c 'echo audit $((6 * 7))')" "audit 42" "LD_AUDIT"
is "$(LD_AUDIT=./audit.so run ls -d .)" "." "LD_AUDIT, a program that allocates"

# As the auditor itself the library works too.
cat >auditor.c <<'END'
#include <stdlib.h>
unsigned la_version(unsigned v) { free(malloc(10)); return v; }
END
$CC -fPIC -shared -o auditor.so auditor.c "$LIBASHLAR"
is "$(LD_LIBRARY_PATH=$(dirname "$LIBASHLAR") LD_AUDIT=./auditor.so ls -d . 2>&1)" "." "loaded by an auditor"

# Address space limits.
is "$( (ulimit -v 65536; run ls -d .) )" "." "ulimit -v 64 MiB"
is "$( (ulimit -v 200000; run /usr/bin/env perl -e 'my @a = map { "x$_" } 1..50000; print scalar(@a)') )" 50000 "ulimit -v 200 MB, perl"

# 64 threads that allocate, free each other's blocks and end while others run.
build threads -pthread <<'END'
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static _Atomic(char *) slot[512];
static void *work(void *a) {
    unsigned s = (unsigned)(unsigned long)a;
    for (int i = 0; i < 5000; i++) {
        s = s * 1664525 + 1013904223;
        size_t n = 8 + (s >> 9) % 3000;
        char *p = malloc(n);
        memset(p, (int)(n & 127), n);
        memcpy(p, &n, sizeof n);
        char *q = __atomic_exchange_n((char **)&slot[(s >> 3) % 512], p, __ATOMIC_ACQ_REL);
        if (q) { size_t m; memcpy(&m, q, sizeof m); for (size_t k = sizeof m; k < m; k++) if (q[k] != (char)(m & 127)) abort(); free(q); }
    }
    return NULL;
}
int main(void) {
    pthread_t t[64];
    for (int r = 0; r < 3; r++) {
        for (long i = 0; i < 64; i++) pthread_create(&t[i], NULL, work, (void *)(i + r * 64 + 1));
        for (int i = 0; i < 64; i++) pthread_join(t[i], NULL);
    }
    puts("64 threads");
}
END
is "$(run ./threads)" "64 threads" "a program of 64 threads"
is "$(ASHLAR_GRAIN=16 run ./threads)" "64 threads" "a program of 64 threads, grain 16"

# A program that forks under load: each child works on and says so.
build forks -pthread <<'END'
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void *load(void *a) { for (;;) { void *p[50]; for (int i = 0; i < 50; i++) p[i] = malloc(20 + i * 40); for (int i = 0; i < 50; i++) free(p[i]); } return a; }
int main(void) {
    pthread_t t;
    for (int i = 0; i < 4; i++) pthread_create(&t, NULL, load, NULL);
    int good = 0;
    for (int i = 0; i < 200; i++) {
        pid_t pid = fork();
        if (pid == 0) { void *p[100]; for (int k = 0; k < 100; k++) p[k] = malloc(k * 30); for (int k = 0; k < 100; k++) free(p[k]); _exit(7); }
        int status; waitpid(pid, &status, 0); good += WIFEXITED(status) && WEXITSTATUS(status) == 7;
    }
    printf("%d children\n", good); fflush(stdout); _exit(0);
}
END
is "$(run ./forks)" "200 children" "a program that forks under load"

# Secure execution: the loader drops the preload of such programs or the library ignores its options.
if [ "$(id -u)" = 0 ] && has setpriv; then
    cat >env.c <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
int main(void) { free(malloc(10)); printf("secure %lu\n", getauxval(AT_SECURE)); return 0; }
END
    chmod 755 "$scratch"
    $CC -o secure env.c -Wl,-rpath,"$scratch" "$LIBASHLAR" && cp "$LIBASHLAR" "$scratch/libashlar.so.0"
    chown root secure && chmod 4755 secure libashlar.so.0
    got=$(setpriv --reuid=65534 --clear-groups env ASHLAR_STATS=1 ASHLAR_NONSENSE=1 ./secure 2>&1)
    case $got in
    "secure 1") ok 0 "a setuid program ignores ASHLAR_*" ;;
    "secure 0"*) skip "a setuid program ignores ASHLAR_*" "file system mounted nosuid" ;;
    *) is "$got" "secure 1" "a setuid program ignores ASHLAR_*" ;;
    esac
else
    skip "a setuid program ignores ASHLAR_*" "needs root and setpriv"
fi

# The first process of a PID namespace.
if unshare -pf --mount-proc true 2>/dev/null; then
    is "$(run unshare -pf --mount-proc sh -c 'echo $$; ls -d /proc/1')" "1
/proc/1" "process 1 of a PID namespace"
else
    skip "process 1 of a PID namespace" "namespaces are not allowed here"
fi

# redis under its own benchmark.
if need redis-server redis-server && need redis-benchmark redis-tools; then
    for grain in 64 16; do
        LD_PRELOAD=$LIBASHLAR ASHLAR_GRAIN=$grain redis-server --port 0 --unixsocket "$scratch/redis.sock" --save '' \
            --daemonize no --dir "$scratch" >redis.log 2>&1 &
        pid=$!
        i=0
        while [ ! -S redis.sock ] && [ $i -lt 100 ]; do sleep 0.05; i=$((i + 1)); done
        redis-benchmark -s "$scratch/redis.sock" -q -n 20000 -d 200 -P 8 -r 5000 -t set,get,lpush,lrange_100,hset >bench.log 2>&1
        status=$?
        redis-cli -s "$scratch/redis.sock" set answer 42 >/dev/null
        is "$status $(redis-cli -s "$scratch/redis.sock" get answer)" "0 42" "redis under redis-benchmark, grain $grain"
        redis-cli -s "$scratch/redis.sock" shutdown nosave >/dev/null 2>&1
        wait $pid
        is "$? $(grep -c '^ashlar' redis.log)" "0 0" "redis ends well and quiet"
        rm -f redis.sock
    done
else
    skip redis "not installed"
fi

if has java; then
    cat >Try.java <<'END'
public class Try { public static void main(String[] a) { long s = 0; for (int i = 0; i < 100000; i++) s += ("x" + i).hashCode(); System.out.println(s); } }
END
    plain=$(java Try.java 2>&1)
    is "$(run java Try.java)" "$plain" "java"
else
    skip java "not installed"
fi
# C++ that comes as a plugin of a C program still gets its std::bad_alloc.
cat >thrower.cc <<'END'
#include <new>
extern "C" int thrower(unsigned long n) {
    try { char *volatile p = new char[n]; delete[] p; } catch (const std::bad_alloc &) { return 1; }
    return 0;
}
END
if ${CXX:-c++} -O1 -fPIC -shared -o thrower.so thrower.cc 2>/dev/null; then
    build plugged -ldl <<'END'
#include <dlfcn.h>
#include <stdio.h>
int main(void) {
    void *h = dlopen("./thrower.so", RTLD_NOW | RTLD_LOCAL);
    int (*throws)(unsigned long) = h ? (int (*)(unsigned long))dlsym(h, "thrower") : NULL;
    return throws ? printf("%d %d\n", throws(100), throws(1ul << 62)) < 0 : puts(dlerror());
}
END
    is "$(run ./plugged)" "0 1" "bad_alloc is thrown in a C++ plugin of a C program"
fi

# glibc's own names for its malloc give blocks that free takes.
if echo '#include <malloc.h>' | $CC -E - 2>/dev/null | grep -q mallinfo2; then
    build libc_names <<'END'
#include <stdio.h>
#include <stdlib.h>
extern void *__libc_malloc(size_t), *__libc_memalign(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_calloc(size_t, size_t), *__libc_valloc(size_t), *__libc_pvalloc(size_t);
extern void __libc_free(void *);
int main(void) {
    free(__libc_malloc(10)); free(__libc_memalign(256, 10)); free(__libc_calloc(3, 5));
    free(__libc_realloc(malloc(5), 500)); free(__libc_valloc(7)); free(__libc_pvalloc(7)); __libc_free(malloc(9));
    return puts("taken") < 0;
}
END
    is "$(run ./libc_names)" "taken" "blocks from __libc_malloc and its like"
fi
tap_done
