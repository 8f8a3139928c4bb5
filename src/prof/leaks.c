#include "prof/leaks.h"

#include "base/fmt.h"
#include "os/os_file.h"
#include "os/os_mem.h"
#include "os/os_process.h"
#include "os/os_syscall.h"
#include "prof/sites.h"

#include <dlfcn.h>
#include <limits.h>
#include <string.h>
#include <sys/uio.h>

enum {
    PIECE = 32 * 1024, /* bytes of a root that are copied at a time */
    MAPS = 8 * 1024,   /* of /proc/self/maps that are read at a time */
    SIZES = 192,       /* rows of the table, the last of which is for all other sizes */
    STACKS = 64,       /* call stacks that are shown */
    TEXT = 2048,
};

/* A live block. Blocks begin at multiples of 16: bit 0 says that something leads to it. */
struct found {
    uintptr_t at;
    size_t bytes;
    const struct site *site;
};

/* A size of the table. */
struct row {
    size_t size; /* 0: all others */
    uint64_t live, live_bytes, leaked, leaked_bytes;
};

struct stack {
    const struct site *site;
    uint64_t blocks, bytes;
};

/* A search, at the beginning of its own mapping. */
struct search {
    const struct profile_host *host;
    size_t mapped;      /* bytes of the mapping */
    size_t count, room; /* blocks */
    uint32_t *waiting;  /* held blocks whose words are not looked at yet, by index */
    size_t waits;
    uintptr_t stack; /* the caller's, from here on */
    struct row rows[SIZES];
    unsigned row_count;
    struct stack stacks[STACKS];
    unsigned stack_count;
    char maps[MAPS + 1];
    uintptr_t piece[PIECE / sizeof(uintptr_t)];
    struct found block[];
};

/* ---- blocks ---- */

static void count_block(const struct walk_block *b, void *arg)
{
    *(size_t *)arg += !b->pool;
}

static void add_block(const struct walk_block *b, void *arg)
{
    struct search *s = arg;
    if (!b->pool && s->count < s->room)
        s->block[s->count++] = (struct found){(uintptr_t)b->at, b->bytes, b->site};
}

static struct search *search_open(const struct profile_host *host)
{
    size_t room = 0;
    host->walk(count_block, &room);
    room += room / 8 + 64; /* other threads go on */
    size_t head = sizeof(struct search) + room * sizeof(struct found);
    size_t mapped = align_up(head + room * sizeof(uint32_t), 64 * KIB);
    struct search *s = room < UINT32_MAX ? os_map(mapped) : NULL;
    if (s == NULL)
        return NULL;
    s->host = host;
    s->mapped = mapped;
    s->room = room;
    s->waiting = (uint32_t *)(void *)((char *)s + head);
    host->walk(add_block, s);
    return s;
}

/* The block that the address lies in; NULL: none. */
static struct found *block_at(struct search *s, uintptr_t p)
{
    size_t low = 0, high = s->count;
    while (low < high) { /* the last that begins at or before `p` is the one before `low` */
        size_t middle = low + (high - low) / 2;
        if ((s->block[middle].at & ~(uintptr_t)1) <= p)
            low = middle + 1;
        else
            high = middle;
    }
    struct found *b = low > 0 ? &s->block[low - 1] : NULL;
    return b != NULL && p - (b->at & ~(uintptr_t)1) < b->bytes ? b : NULL;
}

/* ---- marking ---- */

static void hold(struct search *s, const uintptr_t *words, size_t n)
{
    if (s->count == 0)
        return;
    uintptr_t low = s->block[0].at & ~(uintptr_t)1;
    uintptr_t span = s->block[s->count - 1].at + s->block[s->count - 1].bytes - low;
    for (size_t i = 0; i < n; i++) {
        uintptr_t word = load_plain(&words[i]);
        struct found *b = ASH_UNLIKELY(word - low < span) ? block_at(s, word) : NULL;
        if (b == NULL || (b->at & 1) != 0)
            continue;
        b->at |= 1;
        s->waiting[s->waits++] = (uint32_t)(b - s->block);
    }
}

/* Looks at what the blocks that were found to be held hold themselves. */
static void hold_deeper(struct search *s)
{
    while (s->waits > 0) {
        const struct found *b = &s->block[s->waiting[--s->waits]];
        hold(s, (const uintptr_t *)(b->at & ~(uintptr_t)1), b->bytes / sizeof(uintptr_t));
    }
}

/* Copies `n` bytes at `from`; how many could be read, up to the first page that cannot. */
static size_t copy(struct search *s, uintptr_t from, size_t n)
{
    struct iovec to = {s->piece, n}, of = {(void *)from, n};
    long got = os_syscall6(SYS_process_vm_readv, os_pid(), (long)&to, 1, (long)&of, 1, 0);
    if (got == -EPERM || got == -ENOSYS) { /* not to be had here: as it is */
        memcpy(s->piece, (const void *)from, n);
        got = (long)n;
    }
    return got > 0 ? (size_t)got : 0;
}

static void hold_range(struct search *s, uintptr_t from, uintptr_t to)
{
    while (from < to) {
        size_t n = size_min(PIECE, to - from);
        size_t got = copy(s, from, n);
        hold(s, s->piece, got / sizeof(uintptr_t));
        from += got > 0 ? got : os_page_size(); /* one that cannot be read */
    }
    hold_deeper(s);
}

/*
 * The parts of a mapping that are roots: not the window nor the word that says where it begins,
 * which is where its first block may lie, not this search, not our own frames.
 */
static void hold_mapping(struct search *s, uintptr_t from, uintptr_t to)
{
    const struct {
        uintptr_t from, to;
    } out[] = {
        {*s->host->window_from, s->host->window_to()},
        {(uintptr_t)s->host->window_from, (uintptr_t)(s->host->window_from + 1)},
        {(uintptr_t)s, (uintptr_t)s + s->mapped},
    };
    for (size_t i = 0; i < ASH_COUNT(out); i++)
        if (out[i].from < to && out[i].to > from) {
            if (from < out[i].from)
                hold_mapping(s, from, out[i].from);
            if (to > out[i].to)
                hold_mapping(s, out[i].to, to);
            return;
        }
    hold_range(s, from <= s->stack && s->stack < to ? s->stack : from, to);
}

static bool take_hex(const char **at, uintptr_t *out)
{
    const char *from = *at;
    for (*out = 0;; (*at)++) {
        char c = **at;
        if (c >= '0' && c <= '9')
            *out = *out << 4 | (uintptr_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            *out = *out << 4 | (uintptr_t)(c - 'a' + 10);
        else
            return *at > from;
    }
}

/* A line of /proc/self/maps: what can be read and written, but for devices. */
static void hold_line(struct search *s, const char *line)
{
    uintptr_t from, to;
    if (!take_hex(&line, &from) || *line++ != '-' || !take_hex(&line, &to))
        return;
    const char *path = strchr(line, '/');
    if (line[1] == 'r' && line[2] == 'w' && (path == NULL || strncmp(path, "/dev/", 5) != 0))
        hold_mapping(s, from, to);
}

static int hold_mappings(struct search *s)
{
    int fd = os_open_read("/proc/self/maps");
    size_t have = 0;
    long n = fd < 0 ? fd : 1;
    while (n > 0 && (n = os_read(fd, s->maps + have, MAPS - have)) > 0) {
        have += (size_t)n;
        s->maps[have] = '\0';
        char *line = s->maps, *end;
        while ((end = strchr(line, '\n')) != NULL) {
            *end = '\0';
            hold_line(s, line);
            line = end + 1;
        }
        have -= (size_t)(line - s->maps);
        if (have == MAPS)
            have = 0; /* a line that is longer than any path */
        memmove(s->maps, line, have);
    }
    if (fd >= 0)
        os_close(fd);
    return n < 0 ? (int)n : 0;
}

static void hold_pool(const struct walk_block *b, void *arg)
{
    if (b->pool)
        hold_range(arg, (uintptr_t)b->at, (uintptr_t)b->at + b->bytes);
}

/* ---- the report ---- */

static struct row *row_of(struct search *s, size_t size)
{
    unsigned i = 0;
    while (i < s->row_count && s->rows[i].size != size)
        i++;
    if (i == s->row_count && i < SIZES - 1)
        s->rows[s->row_count++].size = size;
    return &s->rows[size_min(i, SIZES - 1)];
}

static void add_stack(struct search *s, const struct found *b)
{
    unsigned i = 0;
    while (i < s->stack_count && s->stacks[i].site != b->site)
        i++;
    if (i == STACKS)
        return;
    s->stack_count += i == s->stack_count;
    s->stacks[i].site = b->site;
    s->stacks[i].blocks++;
    s->stacks[i].bytes += b->bytes;
}

static struct row sum_up(struct search *s)
{
    struct row sum = {0};
    for (size_t i = 0; i < s->count; i++) {
        const struct found *b = &s->block[i];
        uint64_t leaked = (b->at & 1) == 0;
        struct row *rows[] = {&sum, row_of(s, b->bytes)};
        for (size_t k = 0; k < ASH_COUNT(rows); k++) {
            rows[k]->live++;
            rows[k]->live_bytes += b->bytes;
            rows[k]->leaked += leaked;
            rows[k]->leaked_bytes += leaked * b->bytes;
        }
        if (leaked && b->site != NULL)
            add_stack(s, b);
    }
    return sum;
}

static void put_row(struct fmt *f, const char *size, const struct row *r)
{
    char live[16], live_bytes[16], leaked[16], leaked_bytes[16];
    fmt_count_text(live, r->live);
    fmt_bytes_text(live_bytes, r->live_bytes);
    fmt_count_text(leaked, r->leaked);
    fmt_bytes_text(leaked_bytes, r->leaked_bytes);
    fmt_printf(f, "%10s %12s %12s %12s %12s\n", size, live, live_bytes, leaked, leaked_bytes);
}

static void put_frame(struct fmt *f, uintptr_t pc)
{
    Dl_info at;
    if (dladdr((const void *)(pc - 1), &at) == 0)
        fmt_printf(f, "    0x%jx\n", (uintmax_t)pc);
    else if (at.dli_sname != NULL)
        fmt_printf(f, "    %s (%s+0x%jx)\n", at.dli_sname, at.dli_fname,
                   (uintmax_t)(pc - 1 - (uintptr_t)at.dli_fbase));
    else
        fmt_printf(f, "    %s+0x%jx\n", at.dli_fname,
                   (uintmax_t)(pc - 1 - (uintptr_t)at.dli_fbase));
}

static void put_stacks(struct fmt *f, const struct search *s)
{
    for (unsigned i = 0; i < s->stack_count; i++) {
        const struct stack *t = &s->stacks[i];
        char blocks[16], bytes[16];
        fmt_count_text(blocks, t->blocks);
        fmt_bytes_text(bytes, t->bytes);
        fmt_printf(f, "%s leaked in %s recorded block%s, allocated by\n", bytes, blocks,
                   t->blocks == 1 ? "" : "s");
        for (unsigned k = 0; k < t->site->frames; k++)
            put_frame(f, t->site->frame[k]);
    }
}

/* Rows by size, the one for all others last. */
static void sort_rows(struct search *s)
{
    for (unsigned i = 1; i < s->row_count; i++)
        for (unsigned k = i; k > 0 && s->rows[k - 1].size > s->rows[k].size; k--) {
            struct row other = s->rows[k];
            s->rows[k] = s->rows[k - 1];
            s->rows[k - 1] = other;
        }
}

static int report(struct search *s, int fd)
{
    char buf[TEXT], size[16];
    struct fmt f;
    struct row sum = sum_up(s);
    sort_rows(s);
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_bytes_text(size, sum.leaked_bytes);
    fmt_printf(&f, "ashlar: process %d: %llu of %llu live blocks leaked, %s\n", os_pid(),
               (unsigned long long)sum.leaked, (unsigned long long)sum.live, size);
    if (sum.leaked != 0) {
        fmt_printf(&f, "%10s %12s %12s %12s %12s\n", "size", "live", "bytes", "leaked", "bytes");
        for (unsigned i = 0; i < s->row_count; i++) {
            fmt_bytes_text(size, s->rows[i].size);
            put_row(&f, size, &s->rows[i]);
        }
        if (s->rows[SIZES - 1].live != 0)
            put_row(&f, "others", &s->rows[SIZES - 1]);
        put_stacks(&f, s);
    }
    int status = fmt_end(&f);
    return status != 0 ? status : (int)size_min(sum.leaked, INT_MAX);
}

/* A function of its own: its frame lies below those that hold what the program holds. */
static ASH_NOINLINE int search(int fd, const struct profile_host *host)
{
    struct search *s = search_open(host);
    if (s == NULL)
        return -ENOMEM;
    s->stack = (uintptr_t)__builtin_dwarf_cfa();
    int status = hold_mappings(s);
    host->walk(hold_pool, s);
    if (status == 0)
        status = report(s, fd);
    os_unmap(s, s->mapped);
    return status;
}

int leaks_put(int fd, const struct profile_host *host)
{
    static _Atomic(int) searcher; /* atomic: process id of the one that searches, or 0 */
    __builtin_unwind_init();      /* all registers are saved in this frame */
    int self = os_pid();
    int holder = load_relaxed(&searcher);
    if (holder == self || !cas_strong_acquire(&searcher, &holder, self))
        return -EBUSY;
    int status = search(fd, host);
    store_release(&searcher, 0);
    return status;
}
