/*
 * Artifacts on disk (ashlar/artcache.h): threads, budgets, files that are cut off, damaged or another key's, several
 * processes at one directory, processes that are killed, and fork amid all that.
 */
#include "artcache.h"

static int64_t bytes_on_disk;

static void add_size(const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0)
        bytes_on_disk += st.st_size;
}

static void make_old(const char *path)
{
    struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    utimensat(AT_FDCWD, path, times, 0);
}

static void test_disk_budget(void)
{
    fresh_dir();
    struct recipe r = {.len = 10000};
    struct ash_artcache *c =
        ash_artcache_create(NULL, ASH_ARTCACHE_CONFIG(.dir = dir, .disk_bytes = 1000000, .memory_bytes = 10000));
    char content[16];
    use(c, "old but used", &r);
    for (int i = 0; i < 40; i++) {
        snprintf(content, sizeof content, "old %d", i);
        use(c, content, &r);
    }
    is_int(each_file(make_old), 41, "41 files, made old");
    ash_artcache_trim(c);
    use(c, "old but used", &r);
    is_int(r.builds, 41, "one of them is used");
    for (int i = 0; i < 60; i++) {
        snprintf(content, sizeof content, "new %d", i);
        use(c, content, &r);
    }
    each_file(add_size);
    ok(bytes_on_disk <= 1000000 && bytes_on_disk >= 600000, "the budget holds: %d bytes", (int)bytes_on_disk);
    ok(stats(c).disk_evictions >= 20, "files were removed: %d", (int)stats(c).disk_evictions);
    r.builds = 0;
    ash_artcache_trim(c);
    use(c, "old but used", &r);
    is_int(r.builds, 0, "the one that was used is there");
    int left = 0, recent = 0;
    for (int i = 0; i < 60; i++) {
        struct ash_artifact a;
        snprintf(content, sizeof content, i < 40 ? "old %d" : "new %d", i);
        struct ash_artcache_key key = key_of(content, "config");
        if (ash_artcache_get_or_build(c, &key, NULL, NULL, -1, &a) == 0) {
            *(i < 40 ? &left : &recent) += 1;
            ash_artcache_release(c, &a);
        }
    }
    is_int(recent, 20, "so are new ones");
    ok(left <= 12, "of the 40 old ones %d are", left);
    ash_artcache_destroy(c);

    fresh_dir();
    c = ash_artcache_create(NULL, ASH_ARTCACHE_CONFIG(.dir = dir, .disk_files = 50));
    int most = 0;
    for (int i = 0; i < 200; i++) {
        snprintf(content, sizeof content, "file %d", i);
        use(c, content, &r);
        int files = each_file(NULL);
        most = files > most ? files : most;
    }
    ok(most <= 50 && most >= 35, "never more than 50 files: %d", most);
    ash_artcache_destroy(c);
    c = ash_artcache_create(NULL, ASH_ARTCACHE_CONFIG(.dir = dir, .disk_files = 10));
    is_int(each_file(NULL), 7, "a smaller budget is kept from the beginning, to 70 %");
    ash_artcache_destroy(c);
}

/* ---- damage ---- */

static long damage_at; /* a byte to flip; negative: a length to cut to */

static void damage(const char *path)
{
    int fd = open(path, O_RDWR);
    unsigned char byte;
    if (damage_at < 0) {
        if (ftruncate(fd, -damage_at - 1) != 0)
            _exit(99);
    } else if (pread(fd, &byte, 1, damage_at) == 1) {
        byte ^= 0x10;
        if (pwrite(fd, &byte, 1, damage_at) != 1)
            _exit(99);
    }
    close(fd);
}

static void test_damage(void)
{
    struct recipe r = {.len = 5000};
    fresh_dir();
    struct ash_artcache *c = open_cache();
    use(c, "artifact", &r);
    ash_artcache_destroy(c);
    /* header, key and data; each length that cuts it */
    static const long at[] = {0,    8,    20,   30, 33, 40,  48,  56,  63,   64,   70,    75,   100, 127,  128,
                              1000, 5000, 5127, -1, -2, -64, -65, -66, -128, -129, -2000, -5128};
    int unseen = 0, kept = 0, wrong = 0;
    for (unsigned i = 0; i < sizeof at / sizeof at[0]; i++) {
        damage_at = at[i];
        each_file(damage);
        c = open_cache();
        struct ash_artcache_key key = key_of("artifact", "config");
        struct ash_artifact a;
        unseen += ash_artcache_get_or_build(c, &key, NULL, NULL, -1, &a) != -ENOENT;
        kept += each_file(NULL);
        if (stats(c).damaged != 1)
            tap_line("# not seen: %ld", at[i]);
        wrong += stats(c).damaged != 1;
        wrong += use(c, "artifact", &r) != 0;
        ash_artcache_destroy(c);
    }
    is_int(unseen, 0, "27 kinds of damage are misses");
    is_int(kept, 0, "each time the file is removed");
    is_int(wrong, 0, "counted, and built again");
    is_int(r.builds, 28, "once each");

    /* damage under a cache that has verified the file already */
    c = open_cache();
    use(c, "artifact", &r);
    is_int((int)stats(c).disk_hits, 1, "a whole file is found");
    ash_artcache_trim(c);
    damage_at = 1000;
    each_file(damage);
    use(c, "artifact", &r);
    is_int((int)stats(c).damaged, 1, "damage is seen later too");
    is_int(r.builds, 29, "and built again");
    ash_artcache_trim(c);
    damage_at = 2000;
    each_file(damage);
    use(c, "artifact", &r);
    is_int((int)stats(c).damaged, 2, "of a file that this cache wrote, too");
    ash_artcache_destroy(c);
}

static char file_path[600];

static void keep_path(const char *path)
{
    snprintf(file_path, sizeof file_path, "%s", path);
}

/* Another key's file under the key's name: what a collision of hashes would be. */
static void test_foreign(void)
{
    struct recipe r = {.len = 100};
    char mine[600];
    fresh_dir();
    struct ash_artcache *c = open_cache();
    use(c, "mine", &r);
    each_file(keep_path);
    strcpy(mine, file_path);
    unlink(mine);
    use(c, "other", &r);
    each_file(keep_path);
    ash_artcache_destroy(c);
    rename(file_path, mine);
    c = open_cache();
    is_int(use(c, "mine", &r), 0, "a whole file of another key under this key's name");
    is_int(r.builds, 3, "is not handed out");
    ash_artcache_destroy(c);

    fresh_dir();
    c = open_cache();
    use(c, "mine", &r);
    each_file(keep_path);
    ash_artcache_destroy(c);
    unlink(file_path);
    if (mkdir(file_path, 0700) != 0)
        _exit(99);
    c = open_cache();
    is_int(use(c, "mine", &r), 0, "a directory in the file's place");
    is_int((int)stats(c).disk_errors, 1, "cannot be replaced, which is counted");
    is_int(each_file(NULL), 1, "no temporary file is left");
    ash_artcache_destroy(c);
    rmdir(file_path);
}

static void test_leftovers(void)
{
    char path[600];
    fresh_dir();
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/0123456789abcdef0123456789abcde%d.tmp", dir, i);
        close(open(path, O_WRONLY | O_CREAT, 0600));
        if (i == 0)
            make_old(path);
    }
    snprintf(path, sizeof path, "%s/README", dir);
    close(open(path, O_WRONLY | O_CREAT, 0600));
    make_old(path);
    struct ash_artcache *c = open_cache();
    is_int(each_file(NULL), 2, "an old temporary file is removed; a young one and another's are not");
    ash_artcache_destroy(c);
}

static void test_flags(void)
{
    struct recipe r = {.len = 5000};
    fresh_dir();
    struct ash_artcache *c = ash_artcache_create(NULL, ASH_ARTCACHE_CONFIG(.dir = dir, .flags = ASH_ARTCACHE_SYNC));
    is_int(use(c, "artifact", &r), 0, "written and flushed");
    is_int((int)stats(c).disk_errors, 0, "without an error");
    ash_artcache_destroy(c);
    damage_at = 1000;
    each_file(damage);
    c = ash_artcache_create(NULL, ASH_ARTCACHE_CONFIG(.dir = dir, .flags = ASH_ARTCACHE_TRUST));
    is_int(use(c, "artifact", &r), 1, "who trusts the files does not see damage");
    ash_artcache_destroy(c);
    damage_at = -2000;
    each_file(damage);
    c = ash_artcache_create(NULL, ASH_ARTCACHE_CONFIG(.dir = dir, .flags = ASH_ARTCACHE_TRUST));
    is_int(use(c, "artifact", &r), 0, "but files that are cut off");
    is_int((int)stats(c).damaged, 1, "are removed");
    ash_artcache_destroy(c);
}

/* ---- processes ---- */

/* Four processes at one directory, with budgets that make all of them remove files of each other. */
static int process_uses(unsigned seed)
{
    struct recipe r = {.len = 3000};
    struct ash_artcache *c = ash_artcache_create(
        NULL, ASH_ARTCACHE_CONFIG(.dir = dir, .memory_bytes = 20000, .disk_bytes = 150000, .disk_files = 40));
    uint64_t random = seed;
    int wrong = c == NULL;
    for (int i = 0; i < 1500; i++) {
        char content[16];
        random = random * 6364136223846793005u + 1442695040888963407u;
        snprintf(content, sizeof content, "item %u", (unsigned)(random >> 40) % 60);
        wrong += use(c, content, &r) != 0;
    }
    wrong += stats(c).disk_hits == 0 || stats(c).damaged != 0 || stats(c).disk_errors != 0;
    return wrong != 0;
}

static void test_processes(void)
{
    fresh_dir();
    pid_t child[4];
    for (unsigned i = 0; i < 4; i++)
        if ((child[i] = fork()) == 0) {
            alarm(60);
            _exit(process_uses(i + 1));
        }
    int wrong = 0;
    for (unsigned i = 0; i < 4; i++) {
        int status = -1;
        waitpid(child[i], &status, 0);
        wrong += status != 0;
    }
    is_int(wrong, 0, "4 processes at one directory: all artifacts are right, no file is damaged");
    ok(each_file(NULL) <= 44, "its budget holds but for what the last wrote: %d files", each_file(NULL));
}

/* A process that is killed while it writes leaves no half file under a name that counts. */
static void test_killed(void)
{
    fresh_dir();
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) {
            struct recipe r = {.len = 300000};
            struct ash_artcache *c = open_cache();
            for (int k = 0;; k++) {
                char content[16];
                snprintf(content, sizeof content, "item %d", k % 10);
                struct ash_artcache_key key = key_of(content, "config");
                use(c, content, &r);
                ash_artcache_remove(c, &key);
            }
        }
        sleep_ms(5 + i);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    struct recipe r = {.len = 300000};
    struct ash_artcache *c = open_cache();
    int wrong = 0;
    for (int k = 0; k < 10; k++) {
        char content[16];
        snprintf(content, sizeof content, "item %d", k);
        wrong += use(c, content, &r) != 0;
    }
    is_int(wrong, 0, "after 20 processes that were killed all artifacts are right");
    is_int((int)stats(c).damaged, 0, "and no file was damaged");
    ash_artcache_destroy(c);
}

static void test_fork_amid(void)
{
    struct caller w[3];
    struct recipe r = {.len = 500};
    fresh_dir();
    struct ash_artcache *c =
        ash_artcache_create(NULL, ASH_ARTCACHE_CONFIG(.dir = dir, .memory_bytes = 40 * KIB, .disk_bytes = 100 * KIB));
    for (unsigned i = 0; i < 3; i++) {
        w[i] = (struct caller){.c = c, .r = &r};
        pthread_create(&w[i].thread, NULL, roam, &w[i]);
    }
    int bad = 0;
    for (int i = 0; i < 30; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            int wrong = 0;
            for (unsigned k = 0; k < 200; k++) {
                char content[16];
                snprintf(content, sizeof content, "roam %u", k);
                wrong += use(c, content, &r) != 0;
            }
            _exit(wrong != 0);
        }
        int status = -1;
        waitpid(child, &status, 0);
        bad += status != 0;
    }
    int wrong = 0;
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(w[i].thread, NULL);
        wrong += w[i].wrong;
    }
    is_int(bad, 0, "30 forks amid all that: each child goes on");
    is_int(wrong, 0, "and the parent too");
    ash_artcache_destroy(c);
}

int main(void)
{
    fresh_dir();
    test_threads(4, dir);
    test_disk_budget();
    test_damage();
    test_foreign();
    test_leftovers();
    test_flags();
    test_processes();
    test_killed();
    fresh_dir();
    test_fork_amid();
    each_file(remove_file);
    rmdir(dir);
    return tap_done();
}
