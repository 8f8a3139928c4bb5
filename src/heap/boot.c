/*
 * The environment is read from the process's initial stack where libc shows it (glibc's
 * __libc_stack_end), since `environ` is not set yet when the dynamic loader makes the first
 * allocation; else from `environ`.
 *
 * Two threads can meet here only if both were made before anything allocated, which no libc's
 * thread creation and no dynamically linked program does, since the library's constructor boots it;
 * then the second one waits. After that, boot is one load.
 */
#include "heap/boot.h"

#include "base/anchor.h"
#include "base/atomic.h"
#include "heap/canary.h"
#include "heap/sizeclass.h"
#include "heap/slab.h"
#include "heap/thread.h"
#include "info/options.h"
#include "mem/reserve.h"
#include "os/os_mem.h"
#include "os/os_process.h"

#include <sys/auxv.h>

static _Atomic(unsigned) state;
static bool configured;

extern char **environ;
extern void *__libc_stack_end __attribute__((weak));

/* argc, argv, NULL, envp, as the kernel lays them; NULL when it does not look like that. */
static char **stack_environment(void)
{
    if (&__libc_stack_end == NULL || __libc_stack_end == NULL)
        return NULL;
    long *argc = __libc_stack_end;
    char **argv = (char **)(argc + 1);
    if (*argc < 0 || *argc > (1 << 24) || argv[*argc] != NULL)
        return NULL;
    return argv + *argc + 1;
}

static void configure(void)
{
    char **envp = environ != NULL ? environ : stack_environment();
    options_parse(envp, getauxval(AT_SECURE) != 0);
    sizeclass_boot(options.grain);
    slab_boot();
    os_random(&block_key, sizeof block_key);
    block_key |= 1;
    os_random(&canary_secret, sizeof canary_secret);
    canary_secret |= 1;
    thread_boot();
    configured = true;
}

static ASH_COLD bool boot_slow(void)
{
    unsigned seen = BOOT_NONE;
    while (!cas_acquire(&state, &seen, BOOT_RUNNING)) { /* pairs with the releases below */
        if (seen == BOOT_READY)
            return true;
        os_yield();
        seen = BOOT_NONE;
    }
    if (!configured)
        configure();
    ANCHOR("boot", state);
    bool ready = reserve_boot() == 0;
    store_release(&state, ready ? BOOT_READY : BOOT_NONE); /* all of the above; pairs with boot */
    return ready;
}

bool boot(void)
{
    return ASH_LIKELY(load_acquire(&state) == BOOT_READY) || boot_slow();
}
