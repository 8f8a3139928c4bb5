#include "prof/unwind.h"

#include "base/atomic.h"
#include "os/os_syscall.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

/* ---- machines ---- */

/* DWARF numbers of registers, and where the kernel saves them in a signal handler's frame. */
#if defined(__x86_64__)
enum { REG_FP = 6, REG_SP = 7, REG_RA = 16 };
enum { SIGNAL_SP = 160, SIGNAL_FP = 120, SIGNAL_PC = 168 }; /* from the stack pointer */
#define CODE(address) (address)
#elif defined(__aarch64__)
enum { REG_FP = 29, REG_SP = 31, REG_RA = 30 };
enum { SIGNAL_SP = 560, SIGNAL_FP = 544, SIGNAL_PC = 568 };
#define CODE(address) ((address) & (((uintptr_t)1 << 48) - 1)) /* without its signature */
#else
enum { REG_FP = -1, REG_SP = -2, REG_RA = -3 }; /* frame pointers alone */
enum { SIGNAL_SP = 0, SIGNAL_FP = 0, SIGNAL_PC = 0 };
#define CODE(address) (address)
#endif

/* ---- rules ---- */

enum base_kind {
    BASE_STOP = 1, /* the tables end the stack here, or cannot be followed */
    BASE_NONE,     /* no table */
    BASE_SP,
    BASE_FP,
    BASE_AT_FP, /* the word at the frame pointer and the offset */
    BASE_SIGNAL,
};

/*
 * How to get from a frame to its caller's; offsets in words. On aarch64 both registers are saved
 * below the frame's variables, as far from its base as these take room.
 */
struct rule {
    int64_t offset : 24; /* of the base */
    int64_t ra : 18;     /* of the saved return address from the base */
    int64_t fp : 18;     /* of the saved frame pointer, likewise; 0: the register is kept */
    uint64_t kind : 4;   /* enum base_kind */
};
_Static_assert(sizeof(struct rule) == sizeof(uint64_t), "a rule is a word of the cache");

enum {
    WORD = sizeof(uintptr_t),
    FP_ITSELF = -(1 << 17) /* `fp`: it is saved where it points to */
};

/* ---- reading tables ---- */

struct reader {
    const unsigned char *at, *end;
};

/* `n` <= 8 bytes, little end first; behind the end 0. */
static uint64_t get(struct reader *r, unsigned n)
{
    uint64_t v = 0;
    if ((size_t)(r->end - r->at) < n)
        r->at = r->end;
    else
        memcpy(&v, r->at, n);
    r->at += r->at == r->end ? 0 : n;
    return v;
}

static uint64_t get_uleb(struct reader *r)
{
    uint64_t v = 0, byte;
    unsigned shift = 0;
    do {
        byte = get(r, 1);
        v |= shift < 64 ? (byte & 0x7f) << shift : 0;
        shift += 7;
    } while ((byte & 0x80) != 0);
    return v;
}

static int64_t get_sleb(struct reader *r)
{
    const unsigned char *from = r->at;
    uint64_t v = get_uleb(r);
    unsigned bits = 7 * (unsigned)(r->at - from);
    bool minus = r->at > from && (r->at[-1] & 0x40) != 0;
    return (int64_t)(minus && bits < 64 ? v | ~(uint64_t)0 << bits : v);
}

/* An address as `encoding` says (DW_EH_PE_*); 0 for what compilers do not write. */
static uintptr_t get_encoded(struct reader *r, unsigned encoding)
{
    uintptr_t here = (uintptr_t)r->at;
    uintptr_t v;
    switch (encoding & 0x0f) {
    case 0x0b: /* sdata4 */
        v = (uintptr_t)(intptr_t)(int32_t)get(r, 4);
        break;
    case 0x03: /* udata4 */
        v = get(r, 4);
        break;
    default: /* absptr, udata8, sdata8 */
        v = get(r, 8);
    }
    return (encoding & 0x70) == 0x10 ? here + v : v;
}

/* What the instructions of a frame have said so far: a rule, with offsets in bytes. */
struct row {
    int64_t offset, ra, fp;
    enum base_kind kind;
    bool other; /* the base is in a register that is not followed */
};

/* The rule of a row; one that ends the stack, where the row has none or is out of all bounds. */
static struct rule rule_from(const struct row *row)
{
    struct rule rule = {row->offset / WORD, row->ra / WORD, row->fp / WORD, row->kind};
    bool same = (int64_t)rule.offset * WORD == row->offset && (int64_t)rule.ra * WORD == row->ra &&
                (int64_t)rule.fp * WORD == row->fp;
    return same && !row->other && row->ra != 0 ? rule : (struct rule){.kind = BASE_STOP};
}

/* What its common part says of a function's entry. */
struct common {
    uint64_t code_align;
    int64_t data_align;
    unsigned encoding;
    bool augmented, signal;
    struct reader program;
};

enum { OP_ADVANCE = 0x40, OP_OFFSET = 0x80, OP_RESTORE = 0xc0, ROWS = 8 };

static void set_saved(struct row *row, uint64_t reg, int64_t offset)
{
    if (reg == (uint64_t)REG_FP)
        row->fp = offset;
    else if (reg == (uint64_t)REG_RA)
        row->ra = offset;
}

static void set_base(struct row *row, uint64_t reg)
{
    row->other = reg != (uint64_t)REG_SP && reg != (uint64_t)REG_FP;
    row->kind = reg == (uint64_t)REG_SP ? BASE_SP : BASE_FP;
}

/*
 * A base by an expression: `breg FP off; deref`, of functions that align their stack; or that of
 * the linker's stubs, whose base is 8 or 16 above the stack pointer, by place.
 */
static void set_base_expression(struct row *row, struct reader e, uintptr_t pc)
{
    enum { BREG0 = 0x70, DEREF = 0x06 };
    uint64_t op = get(&e, 1);
    int64_t offset = get_sleb(&e);
    row->other = false;
    if (op == (uint64_t)(BREG0 + REG_FP) && get(&e, 1) == DEREF && e.at == e.end) {
        row->kind = BASE_AT_FP;
        row->offset = offset;
    } else if (op == (uint64_t)(BREG0 + REG_SP) && offset == 8) {
        row->kind = BASE_SP;
        row->offset = (pc & 15) >= 11 ? 16 : 8;
    } else {
        row->other = true;
    }
}

/* One instruction of the extended kind; false: none that is known. */
static bool step_extended(unsigned op, struct reader *r, const struct common *c, struct row *row,
                          uintptr_t pc)
{
    uint64_t reg, n;
    switch (op) {
    case 0x00: /* nop */
    case 0x2d: /* negate_ra_state: the address is signed, see CODE */
        return true;
    case 0x05: /* offset_extended */
        reg = get_uleb(r);
        set_saved(row, reg, (int64_t)get_uleb(r) * c->data_align);
        return true;
    case 0x11: /* offset_extended_sf */
        reg = get_uleb(r);
        set_saved(row, reg, get_sleb(r) * c->data_align);
        return true;
    case 0x07: /* undefined: of the return address, the stack ends */
        if (get_uleb(r) == (uint64_t)REG_RA)
            row->ra = 0;
        return true;
    case 0x08: /* same_value */
        set_saved(row, get_uleb(r), 0);
        return true;
    case 0x09: /* register */
        get_uleb(r);
        get_uleb(r);
        return true;
    case 0x0c: /* def_cfa */
        set_base(row, get_uleb(r));
        row->offset = (int64_t)get_uleb(r);
        return true;
    case 0x0d: /* def_cfa_register */
        set_base(row, get_uleb(r));
        return true;
    case 0x0e: /* def_cfa_offset */
        row->offset = (int64_t)get_uleb(r);
        return true;
    case 0x0f: /* def_cfa_expression */
        n = get_uleb(r);
        n = size_min(n, (size_t)(r->end - r->at));
        set_base_expression(row, (struct reader){r->at, r->at + n}, pc);
        r->at += n;
        return true;
    case 0x10: /* expression */
    case 0x16: /* val_expression */
        reg = get_uleb(r);
        n = get_uleb(r);
        if (reg == (uint64_t)REG_FP && n == 2 && r->at + 2 <= r->end && r->at[0] == 0x70 + REG_FP)
            row->fp = FP_ITSELF * WORD;
        r->at += size_min(n, (size_t)(r->end - r->at));
        return true;
    case 0x2e: /* GNU_args_size */
        get_uleb(r);
        return true;
    default:
        return false;
    }
}

/* Carries out instructions up to the place of `pc`, at which `at` stands first. */
static bool run_program(struct reader r, const struct common *c, struct row *row,
                        const struct row *first, uintptr_t at, uintptr_t pc)
{
    struct row kept[ROWS];
    unsigned depth = 0;
    while (r.at < r.end && at <= pc) {
        unsigned op = (unsigned)get(&r, 1);
        unsigned low = op & 0x3f;
        if ((op & 0xc0) == OP_ADVANCE)
            at += low * c->code_align;
        else if ((op & 0xc0) == OP_OFFSET)
            set_saved(row, low, (int64_t)get_uleb(&r) * c->data_align);
        else if ((op & 0xc0) == OP_RESTORE)
            set_saved(row, low, low == (unsigned)REG_FP ? first->fp : first->ra);
        else if (op >= 0x02 && op <= 0x04) /* advance_loc1, 2, 4 */
            at += get(&r, 1u << (op - 2)) * c->code_align;
        else if (op == 0x0a && depth < ROWS) /* remember_state */
            kept[depth++] = *row;
        else if (op == 0x0b && depth > 0) /* restore_state */
            *row = kept[--depth];
        else if (!step_extended(op, &r, c, row, pc))
            return false;
    }
    return true;
}

static bool read_common(const unsigned char *cie, struct common *c)
{
    uint32_t length;
    memcpy(&length, cie, sizeof length);
    struct reader r = {cie + 8, cie + 4 + length};
    unsigned version = (unsigned)get(&r, 1);
    const char *letters = (const char *)r.at;
    while (get(&r, 1) != 0)
        ;
    c->code_align = get_uleb(&r);
    c->data_align = get_sleb(&r);
    if (version == 1)
        get(&r, 1);
    else
        get_uleb(&r); /* the return address's register: REG_RA */
    c->augmented = letters[0] == 'z';
    c->signal = false;
    c->encoding = 0;
    struct reader data = {r.at, r.at};
    if (c->augmented) {
        uint64_t n = get_uleb(&r);
        data = (struct reader){r.at, r.at + n};
        r.at += n;
    } else if (letters[0] != '\0') {
        return false;
    }
    for (const char *l = letters + c->augmented; *l != '\0'; l++) {
        if (*l == 'P')
            get_encoded(&data, (unsigned)get(&data, 1));
        else if (*l == 'L')
            get(&data, 1);
        else if (*l == 'R')
            c->encoding = (unsigned)get(&data, 1);
        else if (*l == 'S')
            c->signal = true;
    }
    c->program = r;
    return r.at <= r.end && length != UINT32_MAX;
}

/* What the entry of a function says of the place `pc`. */
static struct rule read_entry(const unsigned char *fde, uintptr_t pc)
{
    static const struct rule none = {.kind = BASE_NONE}, stop = {.kind = BASE_STOP};
    uint32_t length, back;
    memcpy(&length, fde, sizeof length);
    memcpy(&back, fde + 4, sizeof back);
    struct common c;
    if (length == UINT32_MAX || !read_common(fde + 4 - back, &c))
        return none;
    struct reader r = {fde + 8, fde + 4 + length};
    uintptr_t begin = get_encoded(&r, c.encoding);
    uintptr_t bytes = get_encoded(&r, c.encoding & 0x0f);
    if (pc < begin || pc - begin >= bytes)
        return none;
    if (c.signal)
        return (struct rule){.kind = BASE_SIGNAL};
    if (c.augmented)
        r.at += get_uleb(&r);
    struct row row = {.kind = BASE_STOP};
    if (!run_program(c.program, &c, &row, &row, 0, 0))
        return stop;
    struct row first = row;
    return run_program(r, &c, &row, &first, begin, pc) ? rule_from(&row) : stop;
}

/* ---- finding tables ---- */

/* The table of .eh_frame_hdr, whose entries are sorted: the function that may hold `pc`. */
static struct rule search(const unsigned char *header, uintptr_t pc)
{
    struct reader r = {header + 4, header + 12};
    static const unsigned char known[4] = {1, 0x1b, 0x03, 0x3b};
    if (memcmp(header, known, sizeof known) != 0)
        return (struct rule){.kind = BASE_NONE};
    get(&r, 4);
    const struct {
        int32_t begin, entry; /* from the header */
    } *table = (const void *)(header + 12);
    size_t low = 0, high = (size_t)get(&r, 4);
    intptr_t place = (intptr_t)(pc - (uintptr_t)header);
    while (low < high) { /* the last entry at or before `place` is the one before `low` */
        size_t middle = low + (high - low) / 2;
        if (table[middle].begin <= place)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? (struct rule){.kind = BASE_NONE}
                    : read_entry(header + table[low - 1].entry, pc);
}

#ifdef DLFO_STRUCT_HAS_EH_DBASE
/* Without a lock, since glibc 2.35. */
static const unsigned char *header_of(uintptr_t pc)
{
    struct dl_find_object found;
    return _dl_find_object((void *)pc, &found) == 0 ? found.dlfo_eh_frame : NULL;
}
#else
struct find {
    uintptr_t pc;
    const unsigned char *header;
};

static int find_in(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    struct find *f = arg;
    const unsigned char *header = NULL;
    bool inside = false;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + p->p_vaddr;
        if (p->p_type == PT_GNU_EH_FRAME)
            header = (const unsigned char *)from;
        else if (p->p_type == PT_LOAD)
            inside |= f->pc - from < p->p_memsz;
    }
    f->header = inside ? header : NULL;
    return inside;
}

static const unsigned char *header_of(uintptr_t pc)
{
    struct find f = {pc, NULL};
    dl_iterate_phdr(find_in, &f);
    return f.header;
}
#endif

/*
 * The rules that were needed last. A slot's two words are written one by one: they belong to each
 * other if their exclusive or is the address that is looked for.
 */
enum { CACHE_SLOTS = 2048 };
static struct {
    _Atomic(uint64_t) mixed, rule;
} cache[CACHE_SLOTS];

static struct rule rule_of(uintptr_t pc)
{
    struct rule rule = {.kind = BASE_NONE};
    size_t slot = (pc * 0x9e3779b97f4a7c15u) >> 53;
    uint64_t word = load_relaxed(&cache[slot].rule);
    if (word != 0 && (load_relaxed(&cache[slot].mixed) ^ word) == pc) {
        memcpy(&rule, &word, sizeof rule);
        return rule;
    }
    const unsigned char *header = REG_FP >= 0 ? header_of(pc) : NULL;
    if (header != NULL)
        rule = search(header, pc);
    memcpy(&word, &rule, sizeof word);
    store_relaxed(&cache[slot].rule, word);
    store_relaxed(&cache[slot].mixed, word ^ pc);
    return rule;
}

/* ---- walking ---- */

struct frame {
    uintptr_t pc, sp, fp;
    uintptr_t page;   /* that may be read */
    bool interrupted; /* `pc` is where a signal came, not where a call returns to */
};

enum { PAGE = 4096 };

/* The word at `at`; false: it cannot be read. The kernel tells by whether it can copy a mask. */
static bool word_at(struct frame *f, uintptr_t at, uintptr_t *out)
{
    uintptr_t page = at & ~(uintptr_t)(PAGE - 1);
    if (at % sizeof *out != 0)
        return false;
    if (page != f->page && os_syscall6(SYS_rt_sigprocmask, -1, (long)at, 0, 8, 0, 0) == -EFAULT)
        return false;
    f->page = page;
    memcpy(out, (const void *)at, sizeof *out);
    return true;
}

static bool step_signal(struct frame *f)
{
    uintptr_t sp = f->sp;
    f->interrupted = true;
    return word_at(f, sp + SIGNAL_PC, &f->pc) && word_at(f, sp + SIGNAL_FP, &f->fp) &&
           word_at(f, sp + SIGNAL_SP, &f->sp);
}

/* Without a table: the frame pointer leads to the caller's, beside the return address. */
static bool step_pointer(struct frame *f)
{
    uintptr_t fp = f->fp;
    if (fp < f->sp || !word_at(f, fp, &f->fp) || !word_at(f, fp + sizeof fp, &f->pc))
        return false;
    f->sp = fp + 2 * sizeof fp;
    return true;
}

static uintptr_t bytes(int64_t words)
{
    return (uintptr_t)(words * WORD);
}

/* From a frame to its caller's; false: there is none, or it cannot be told. */
static bool step(struct frame *f)
{
    struct rule rule = rule_of(f->pc - !f->interrupted);
    bool innermost = f->interrupted;
    f->interrupted = false;
    if (rule.kind == BASE_SIGNAL)
        return step_signal(f);
    if (rule.kind == BASE_NONE)
        return step_pointer(f);
    uintptr_t base = (rule.kind == BASE_SP ? f->sp : f->fp) + bytes(rule.offset);
    if (rule.kind == BASE_STOP || (rule.kind == BASE_AT_FP && !word_at(f, base, &base)))
        return false;
    if (base < f->sp || (base == f->sp && !innermost))
        return false;
    uintptr_t fp_at = rule.fp == FP_ITSELF ? f->fp : base + bytes(rule.fp);
    if (!word_at(f, base + bytes(rule.ra), &f->pc) || (rule.fp != 0 && !word_at(f, fp_at, &f->fp)))
        return false;
    f->sp = base;
    return true;
}

static bool is_within(uintptr_t pc, const struct unwind_range *ranges, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (pc >= ranges[i].from && pc < ranges[i].to)
            return true;
    return false;
}

ASH_NOINLINE unsigned unwind(uintptr_t *out, unsigned max, const struct unwind_range *skip,
                             unsigned skips)
{
    const uintptr_t *record = __builtin_frame_address(0);
    struct frame f = {
        .pc = (uintptr_t)__builtin_return_address(0),
        .sp = (uintptr_t)__builtin_dwarf_cfa(),
        .fp = record[0],
    };
    unsigned n = 0;
    for (bool more = true; more && n < max && f.pc != 0; more = step(&f)) {
        f.pc = CODE(f.pc);
        if (n > 0 || !is_within(f.pc, skip, skips))
            out[n++] = f.pc;
    }
    return n;
}
