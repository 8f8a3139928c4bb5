/*
 * A system call that touches nothing but registers: no errno, no cancellation point, no lazy
 * binding, so it works before libc has started and inside a thread that is being torn down. Returns
 * the kernel's answer: a value, or a negative errno.
 *
 * On machines without an entry below, libc's syscall() serves and errno is put back.
 */
#ifndef ASH_OS_SYSCALL_H
#define ASH_OS_SYSCALL_H

#include "base/base.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__) && defined(__LP64__)
ASH_INLINE long os_syscall6(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
ASH_INLINE long os_syscall6(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
#else
ASH_INLINE long os_syscall6(long number, long a, long b, long c, long d, long e, long f)
{
    int saved = errno;
    long result = syscall(number, a, b, c, d, e, f);
    result = result == -1 ? -errno : result;
    errno = saved;
    return result;
}
#endif

#define os_syscall3(number, a, b, c) os_syscall6((number), (long)(a), (long)(b), (long)(c), 0, 0, 0)

#endif
