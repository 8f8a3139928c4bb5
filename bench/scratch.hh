/*
 * Directories for benchmarks that write files, and what has to be so for a figure to mean anything.
 */
#ifndef BENCH_SCRATCH_H
#define BENCH_SCRATCH_H

#include <cstdlib>
#include <string>

static inline void need(bool good)
{
    if (!good)
        std::abort();
}

/* A new directory in `base`. */
static inline std::string log_dir(const char *base)
{
    std::string path = std::string(base) + "/ashlar-bench-XXXXXX";
    need(mkdtemp(path.data()) != nullptr);
    return path;
}

#endif
