/* The entry for libFuzzer. ASH_FUZZ_TARGET names the target; the environment is the mode. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n);

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n)
{
    static const struct target *target;
    const char *name = target == NULL ? getenv("ASH_FUZZ_TARGET") : NULL;
    if (name != NULL)
        target = fuzz_target(name);
    if (target == NULL) {
        fprintf(stderr, "ASH_FUZZ_TARGET has to name a target of tests/fuzz/targets.def\n");
        exit(2);
    }
    fuzz_run(target, bytes, n);
    return 0;
}
