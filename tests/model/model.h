/*
 * The interleaving checker: what scenarios see of it, and how its parts fit together.
 *
 * A scenario is two or three threads that call a few production functions each. The checker runs it again and again,
 * from the same state, until it has seen every execution that the memory model allows, and fails it when an assertion
 * fails, when two plain accesses race, or when a thread does not come to an end, be it that it runs on or sleeps on.
 *
 *   base/atomic.h   production code's accesses to shared words become calls of memory.c
 *   hooks.c         its plain accesses too: the compiler's calls for the thread sanitizer, answered by us
 *   memory.c        the memory model: messages and views
 *   plain.c         races between plain accesses; takes back what a run has written
 *   machine.c       the threads, as coroutines of one program; a word about each failure
 *   search.c        which thread goes next and which message it reads: the depth-first search
 *   system.c        the system calls that production code makes, by simple stand-ins
 *   litmus.c        programs of a few lines whose outcomes are known, and random ones: is the checker right?
 *   *_scenarios.c   what is checked; scenario.c: what they share
 *   sites.c         every use of an atomic wrapper in the production sources, by name
 *   mutants.c       weaker orders and lost atomicity at every site in turn: does some scenario notice?
 *
 * The memory model is the part of RC11 without seq_cst accesses, of which the project has none, and with seq_cst fences
 * that order but do not synchronise, which is less than RC11's do (Lahav, Vafeiadis, Kang, Hur, Dreyer: Repairing
 * sequential consistency in C/C++11, 2017), worked with views as in Kang, Hur,
 * Lahav, Vafeiadis, Dreyer: A promising semantics for relaxed-memory concurrency, 2017. A load returns any message of
 * its word that the thread's view allows; a store goes to any place of the word's modification order behind what the
 * thread has seen; a read-modify-write stands directly behind what it read; views travel with release and acquire, and
 * along the release sequences of C++20, which only read-modify-writes continue.
 *
 * What a good result does not say: anything about more threads or calls than the scenarios have; about loads that read
 * what is yet to be written, which C11 and some machines allow relaxed accesses and RC11 does not; about the words of
 * sites.c that a scenario leaves out; about the system, which is a stand-in.
 */
#ifndef ASH_MODEL_H
#define ASH_MODEL_H

#include "base/atomic.h"

enum {
    THREADS = 3,    /* of a scenario at most */
    LOCATIONS = 96, /* words that the threads of a scenario touch */
    MESSAGES = 32,  /* of a word in one run; a set of choices is 64 bits: see memory_choices */
    STEPS = 600     /* atomic accesses in one run: more is a thread that does not end */
};

struct scenario {
    const char *name;
    const char *invariant;          /* what is checked, in words */
    void (*setup)(void);            /* once, before the first run; what the runs write is taken back */
    void (*thread[THREADS])(void);
    void (*check)(void);            /* after every run: all threads have ended, their effects are seen */
    unsigned spurious;              /* how often in a run a thread's compare-and-swaps fail without a reason */
    bool full_only;                 /* too long for the short form */
    uint64_t most;                  /* runs at most of what cannot be searched in full; 0: all there are */
    const char *const *loud;        /* words of the list in sites.c that this scenario does look at */
};

/* The last one of each has no name. */
extern const struct scenario mem_scenarios[], reserve_scenarios[], remote_scenarios[], heap_scenarios[],
    ring_scenarios[], arena_scenarios[], depot_scenarios[], ringlog_scenarios[], vmidle_scenarios[],
    shown_scenarios[], vm_scenarios[], txn_scenarios[], exec_scenarios[], drive_scenarios[], dispatch_scenarios[],
    txnmgr_scenarios[], gate_scenarios[], lane_scenarios[], replies_scenarios[], map_scenarios[],
    msg_scenarios[], tally_scenarios[], vmpool_scenarios[], bus_scenarios[];

/* Fails the run if `condition` is false; in threads, setup and check. */
#define model_require(condition, ...) ((condition) ? (void)0 : model_fail(__VA_ARGS__))
_Noreturn void model_fail(const char *format, ...) ASH_PRINTF(1, 2);

/* A name for a word in the printed schedule. */
void model_name(const volatile void *p, const char *name);

/* A word of which each thread has its own (ASH_TLS); in setup, with the value that it begins with. */
void model_own(void *p);

/* Which thread calls: 0, 1, 2; setup and check are -1. */
int model_self(void);

/* ---- between the parts ---- */

/* Sleeps until all these bits of the word are clear, in a message that the thread may read; acquires what it says. */
void memory_await(_Atomic(uint64_t) *word, uint64_t bits);

/* A test point, and a line of comment; see tap.h, whose counts are main.c's. */
bool report(bool good, const char *format, ...) ASH_PRINTF(2, 3);
void remark(const char *format, ...) ASH_PRINTF(1, 2);

struct op {
    struct model_site *site;
    enum model_kind kind; /* not always the site's: a mutant may take one apart */
    unsigned location;
    size_t size;
    uint64_t expected; /* of a compare-and-swap */
    uint64_t awaited;  /* of a load: the thread sleeps until it can read a message without these bits */
};

struct view {
    uint8_t seen[LOCATIONS]; /* the last message of each word that has been seen */
    uint16_t clock[THREADS]; /* whose plain accesses up to when come before */
};

/* memory.c */
void memory_begin(void); /* of a run */
void memory_thread_begin(int thread, unsigned spurious);
uint64_t memory_choices(int thread, const struct op *op);
const char *memory_place(unsigned location);
const uint16_t *memory_clocks(void); /* of the running thread */
uint64_t memory_graph(void);         /* a hash of who read from whom and of the modification orders */

/* plain.c */
void plain_begin(void);                                  /* of a run */
void plain_save(void *p, size_t size);                   /* it is about to be written to */
void plain_rewind(void);                                 /* all that was saved since then is taken back */
void plain_access(uintptr_t p, size_t size, bool write); /* by the running thread */
void plain_mapped(void *p, size_t n, bool gone);         /* the running thread has mapped it; or unmapped it */
void plain_atomic(uintptr_t p, size_t size);             /* the running thread touches an atomic word */

/* machine.c */
extern int machine_thread; /* the running thread, -1 outside of threads */
extern bool machine_checking; /* in a scenario's check */
bool machine_run(const struct scenario *s); /* true: the run was good, or was given up as a repetition */
unsigned machine_step(const struct op *op); /* posts the access and returns the choice when it is its turn */
const struct op *machine_pending(int thread); /* NULL: the thread has ended */
bool machine_is_own(uintptr_t p);
void machine_note(const char *format, ...) ASH_PRINTF(1, 2); /* what became of the step, for the printed schedule */

/* search.c */
struct search {
    bool naive;                   /* every schedule, without reduction: to check the reduction itself */
    bool verbose;                 /* print the schedule of a failure */
    const char *replay;           /* run this one path */
    uint64_t limit;               /* executions at most, 0 = no bound */
    uint64_t executions, repeats; /* complete ones; those given up since they would repeat another */
    unsigned deepest;
    bool failed, cut;             /* cut: the limit was reached */
    void (*each)(void);           /* called after each complete execution */
};
extern struct search search;
void search_all(const struct scenario *s);
int search_next(void);            /* the thread whose access comes next, -1: this run is a repetition */
unsigned search_choice(void);     /* what it reads, or where it writes */
void search_causal_read(const uint16_t causal[THREADS]); /* the running step reads a message with this past */
void search_causal_get(uint16_t causal[THREADS]);  /* the past of the running step, itself included */
void search_path(char *out, size_t size);
#endif
