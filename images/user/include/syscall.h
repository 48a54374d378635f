/* SPDX-License-Identifier: GPL-2.0-only */
/* System calls of user programs that have no library. Variables marked `shared` are set and read from outside. */
#ifndef _USER_SYSCALL_H
#define _USER_SYSCALL_H

#define shared __attribute__((used, section(".data"))) volatile

#ifdef __x86_64__
#define __NR_write 1
#define __NR_exit_group 231
#define __NR_bpf 321
static inline long syscall3(long nr, long a, long b, long c)
{
	long ret;

	__asm__ __volatile__("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return ret;
}
#else
#define __NR_write 64
#define __NR_exit_group 94
#define __NR_bpf 280
static inline long syscall3(long nr, long a, long b, long c)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;

	__asm__ __volatile__("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
}
#endif

static inline __attribute__((noreturn)) void exit_group(long status)
{
	for (;;)
		syscall3(__NR_exit_group, status, 0, 0);
}

#endif
