/*
 * What a loop does that waits for another processor for a moment: it lets the other hyperthread go
 * first, and does not fill the pipeline with loads that will be thrown away.
 */
#ifndef ASH_RELAX_H
#define ASH_RELAX_H

#include "base/base.h"

#if defined(__x86_64__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("yield")
#else
#define RELAX() ((void)0)
#endif

ASH_INLINE void relax(void)
{
    RELAX();
}

#endif
