/* SPDX-License-Identifier: GPL-2.0-only */
/* System calls of user programs that have no library. Variables marked `shared` are set and read from outside. */
#ifndef _USER_SYSCALL_H
#define _USER_SYSCALL_H

#define shared __attribute__((used, section(".data"))) volatile

#ifdef __x86_64__
#define __NR_read 0
#define __NR_write 1
#define __NR_close 3
#define __NR_lseek 8
#define __NR_mmap 9
#define __NR_mprotect 10
#define __NR_munmap 11
#define __NR_brk 12
#define __NR_pread64 17
#define __NR_pwrite64 18
#define __NR_sched_yield 24
#define __NR_mremap 25
#define __NR_mincore 27
#define __NR_madvise 28
#define __NR_getpid 39
#define __NR_clone 56
#define __NR_exit 60
#define __NR_wait4 61
#define __NR_ftruncate 77
#define __NR_getpgid 121
#define __NR_prctl 157
#define __NR_openat 257
#define __NR_gettid 186
#define __NR_futex 202
#define __NR_exit_group 231
#define __NR_memfd_create 319
#define __NR_bpf 321
static inline long syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ __volatile__("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			     : "rcx", "r11", "memory");
	return ret;
}

/* the child begins with an empty stack on which its function and argument lie */
static inline long clone_call(long flags, unsigned long *sp)
{
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = 0;
	long ret;

	__asm__ __volatile__("syscall\n\ttestq %%rax, %%rax\n\tjnz 1f\n\txorl %%ebp, %%ebp\n\tpopq %%rax\n\tpopq %%rdi\n\t"
			     "call *%%rax\n\tud2\n1:"
			     : "=a"(ret) : "a"(__NR_clone), "D"(flags), "S"(sp), "d"(0), "r"(r10), "r"(r8)
			     : "rcx", "r11", "memory");
	return ret;
}
#else
#define __NR_ftruncate 46
#define __NR_openat 56
#define __NR_close 57
#define __NR_lseek 62
#define __NR_read 63
#define __NR_write 64
#define __NR_pread64 67
#define __NR_pwrite64 68
#define __NR_exit 93
#define __NR_exit_group 94
#define __NR_futex 98
#define __NR_sched_yield 124
#define __NR_getpgid 155
#define __NR_prctl 167
#define __NR_getpid 172
#define __NR_gettid 178
#define __NR_brk 214
#define __NR_munmap 215
#define __NR_mremap 216
#define __NR_clone 220
#define __NR_mmap 222
#define __NR_mprotect 226
#define __NR_mincore 232
#define __NR_madvise 233
#define __NR_wait4 260
#define __NR_memfd_create 279
#define __NR_bpf 280
static inline long syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ __volatile__("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}

/* the child begins with an empty stack on which its function and argument lie */
static inline long clone_call(long flags, unsigned long *sp)
{
	register long x8 __asm__("x8") = __NR_clone;
	register long x0 __asm__("x0") = flags;
	register long x1 __asm__("x1") = (long)sp;
	register long x2 __asm__("x2") = 0;
	register long x3 __asm__("x3") = 0;
	register long x4 __asm__("x4") = 0;

	__asm__ __volatile__("svc #0\n\tcbnz x0, 1f\n\tmov x29, xzr\n\tldp x1, x0, [sp], #16\n\tblr x1\n\tbrk #1\n1:"
			     : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory", "x30");
	return x0;
}
#endif

#define syscall3(nr, a, b, c) syscall6(nr, a, b, c, 0, 0, 0)

#define CLONE_VM 0x100
#define CLONE_FS 0x200
#define CLONE_FILES 0x400
#define CLONE_SIGHAND 0x800
#define CLONE_THREAD 0x10000
#define CLONE_SYSVSEM 0x40000
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1

#define PROT_NONE 0
#define PROT_READ 1
#define PROT_WRITE 2
#define MAP_SHARED 1
#define MAP_PRIVATE 2
#define MAP_SHARED_VALIDATE 3
#define MAP_FIXED 0x10
#define MAP_ANONYMOUS 0x20
#define MAP_POPULATE 0x8000
#define MADV_RANDOM 1
#define MADV_DONTNEED 4
#define MADV_FREE 8
#define MADV_DONTFORK 10
#define MADV_WIPEONFORK 18
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#define MREMAP_MAYMOVE 1
#define MREMAP_FIXED 2
#define MREMAP_DONTUNMAP 4
#define SIGCHLD 17
#define WNOHANG 1

/* A thread that runs fn(arg) on `stack` (its top); fn must not return. The thread's id or -errno. */
static inline long thread_create(void (*fn)(void *), void *arg, void *stack)
{
	unsigned long *sp = (unsigned long *)stack - 2;

	sp[0] = (unsigned long)fn;
	sp[1] = (unsigned long)arg;
	return clone_call(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, sp);
}

/* clone(2) as fork(): 0 in the child, its pid or -errno in the parent */
static inline long fork(void)
{
	return syscall6(__NR_clone, SIGCHLD, 0, 0, 0, 0, 0);
}

static inline long wait4(long pid, int *status, long options)
{
	return syscall6(__NR_wait4, pid, (long)status, options, 0, 0, 0);
}

/* prctl(PR_SET_NAME): how the kernel calls this thread */
static inline void set_name(const char *name)
{
	syscall3(__NR_prctl, 15, (long)name, 0);
}

static inline long futex_wait(volatile unsigned int *word, unsigned int value)
{
	return syscall6(__NR_futex, (long)word, FUTEX_WAIT, value, 0, 0, 0);
}

static inline long futex_wake(volatile unsigned int *word, unsigned int count)
{
	return syscall6(__NR_futex, (long)word, FUTEX_WAKE, count, 0, 0, 0);
}

static inline __attribute__((noreturn)) void exit_thread(long status)
{
	for (;;)
		syscall3(__NR_exit, status, 0, 0);
}

static inline __attribute__((noreturn)) void exit_group(long status)
{
	for (;;)
		syscall3(__NR_exit_group, status, 0, 0);
}

#endif
