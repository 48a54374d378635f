// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a program sees of its memory: contents, errors, and where its faults are, one line "name: value" for each look,
 * with what it should have been where it was not. It runs on any Linux; addresses are printed relative to what they
 * belong to. The exit code is 0 where everything was as it should be.
 */
#include <print.h>
#include <signal.h>

#define PAGE 4096UL
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#ifndef PROT_EXEC
#define PROT_EXEC 4
#endif
#ifndef MAP_GROWSDOWN
#define MAP_GROWSDOWN 0x100
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#define EBADF 9
#define ECHILD 10
#define EAGAIN 11
#define ENOMEM 12
#define EFAULT 14
#define EEXIST 17
#define EINVAL 22
#define MAPERR 1
#define ACCERR 2

static int wrong;	/* lines that are not what they should be */

static void judge(long value, long wanted)
{
	number(value);
	if (value == wanted)
		return;
	text(", should be ");
	number(wanted);
	wrong++;
}

static void check(const char *name, long value, long wanted)
{
	text(name);
	text(": ");
	judge(value, wanted);
	flush();
}

/* -- faults ------------------------------------------------------------------------------------------------------ */

static volatile struct { int count, signo, code; unsigned long addr; } seen;
static volatile unsigned long resume;	/* where the next fault goes on */

static void on_fault(int sig, struct siginfo *info, struct ucontext *uc)
{
	seen.count++;
	seen.signo = sig;
	seen.code = info->si_code;
	seen.addr = info->si_addr;
	uc->uc_pc = resume;
}

static void forget(void)
{
	seen.count = seen.signo = seen.code = 0;
	seen.addr = 0;
}

/* what the last access met: SIGSEGV with `code` at `offset` from `base`; a code of 0 is no fault */
static void check_fault(const char *name, unsigned long base, int code, long offset)
{
	text(name);
	text(": signal ");
	judge(seen.signo, code ? SIGSEGV : 0);
	text(" code ");
	judge(seen.code, code);
	text(" at ");
	judge(seen.count ? (long)(seen.addr - base) : offset, offset);
	text(" times ");
	judge(seen.count, code ? 1 : 0);
	flush();
}

#ifdef __x86_64__
#define GUARDED(insn, ...)								\
	__asm__ __volatile__("leaq 1f(%%rip), %%rax\n\tmovq %%rax, resume(%%rip)\n\t"	\
			     insn "\n1:" __VA_ARGS__)

static long load(unsigned long address)
{
	unsigned long value = -1UL;

	forget();
	GUARDED("movzbl (%1), %k0", : "+r"(value) : "r"(address) : "rax", "memory");
	return (long)value;
}

static void store(unsigned long address, unsigned long value)
{
	forget();
	GUARDED("movb %b0, (%1)", : : "q"(value), "r"(address) : "rax", "memory");
}

static void jump(unsigned long address)
{
	forget();
	GUARDED("jmp *%0", : : "r"(address) : "rax", "memory");
}

#define RETURN_INSTRUCTION 0xc3
#else
#define GUARDED(insn, ...)								\
	__asm__ __volatile__("adr x9, 1f\n\tadrp x10, resume\n\tstr x9, [x10, :lo12:resume]\n\t"	\
			     insn "\n1:" __VA_ARGS__)

static long load(unsigned long address)
{
	unsigned long value = -1UL;

	forget();
	GUARDED("ldrb %w0, [%1]", : "+r"(value) : "r"(address) : "x9", "x10", "memory");
	return (long)value;
}

static void store(unsigned long address, unsigned long value)
{
	forget();
	GUARDED("strb %w0, [%1]", : : "r"(value), "r"(address) : "x9", "x10", "memory");
}

static void jump(unsigned long address)
{
	forget();
	GUARDED("br %0", : : "r"(address) : "x9", "x10", "memory");
}

#define RETURN_INSTRUCTION 0xd65f03c0
#endif

/* -- memory ------------------------------------------------------------------------------------------------------ */

static long map_at(unsigned long at, unsigned long length, long prot, long flags)
{
	return syscall6(__NR_mmap, (long)at, (long)length, prot, flags, -1, 0);
}

static unsigned long map(unsigned long pages)
{
	return (unsigned long)map_at(0, pages * PAGE, RW, ANON);
}

static long unmap(unsigned long at, unsigned long length)
{
	return syscall3(__NR_munmap, (long)at, (long)length, 0);
}

static long protect(unsigned long at, unsigned long length, long prot)
{
	return syscall3(__NR_mprotect, (long)at, (long)length, prot);
}

static long advise(unsigned long at, unsigned long length, long advice)
{
	return syscall3(__NR_madvise, (long)at, (long)length, advice);
}

static void check_contents(void)
{
	unsigned long p = map(8);

	check("fresh page reads", load(p), 0);
	check_fault("fresh page", p, 0, 0);
	store(p, 7);
	check("written page reads", load(p), 7);
	check("its end reads", load(p + PAGE - 1), 0);
	store(p + 3 * PAGE + 5, 9);
	check("dontneed", advise(p, 4 * PAGE, MADV_DONTNEED), 0);
	check("after dontneed", load(p) + load(p + 3 * PAGE + 5), 0);
	store(p, 1);
	store(p + PAGE, 2);
	store(p + 2 * PAGE, 3);
	check("munmap in the middle", unmap(p + PAGE, PAGE), 0);
	load(p + PAGE + 17);
	check_fault("read of the hole", p, MAPERR, PAGE + 17);
	store(p + PAGE, 1);
	check_fault("write to the hole", p, MAPERR, PAGE);
	check("below the hole", load(p), 1);
	check("above the hole", load(p + 2 * PAGE), 3);
	check("map into the hole", map_at(p + PAGE, PAGE, RW, ANON | MAP_FIXED) - (long)p, PAGE);
	check("the hole is empty", load(p + PAGE), 0);
	check("map over everything", map_at(p, 3 * PAGE, RW, ANON | MAP_FIXED) - (long)p, 0);
	check("all of it is new", load(p) + load(p + PAGE) + load(p + 2 * PAGE), 0);
	check("munmap all", unmap(p, 8 * PAGE), 0);
	load(p);
	check_fault("after munmap", p, MAPERR, 0);
	p = map(2);
	check("mapped again", load(p) + load(p + PAGE), 0);
	unmap(p, 2 * PAGE);
}

static void check_permissions(void)
{
	unsigned long p = map(4);

	store(p, 5);
	store(p + PAGE, 6);
	check("mprotect to read", protect(p, PAGE, PROT_READ), 0);
	check("read-only reads", load(p), 5);
	store(p + 3, 1);
	check_fault("write to read-only", p, ACCERR, 3);
	check("mprotect to none", protect(p + PAGE, PAGE, PROT_NONE), 0);
	load(p + PAGE + 8);
	check_fault("read of none", p, ACCERR, PAGE + 8);
	store(p + PAGE + 9, 1);
	check_fault("write to none", p, ACCERR, PAGE + 9);
	check("mprotect to all", protect(p, 2 * PAGE, RW), 0);
	check("kept", load(p) * 10 + load(p + PAGE), 56);
	store(p, 8);
	check("writable again", load(p), 8);
	jump(p + 64);
	check_fault("jump to data", p, ACCERR, 64);
	jump(8);
	check_fault("jump to nowhere", 0, MAPERR, 8);
	*(volatile unsigned int *)(p + 2 * PAGE) = RETURN_INSTRUCTION;
	check("mprotect to execute", protect(p + 2 * PAGE, PAGE, PROT_READ | PROT_EXEC), 0);
	forget();
	((void (*)(void))(p + 2 * PAGE))();
	check_fault("call of it", p, 0, 0);
	store(p + 2 * PAGE, 1);
	check_fault("write to text", p, ACCERR, 2 * PAGE);
	load((unsigned long)check_permissions);
	check_fault("read of the program's text", 0, 0, 0);
	store((unsigned long)check_permissions, 1);
	check_fault("write to the program's text", (unsigned long)check_permissions, ACCERR, 0);
	load(0);
	check_fault("null", 0, MAPERR, 0);
	store(8, 1);
	check_fault("near null", 0, MAPERR, 8);
	load(-PAGE);
	check_fault("kernel address", 0, MAPERR, -PAGE);
	unmap(p, 4 * PAGE);
}

static void check_errors(void)
{
	unsigned long p = map(6);

	unmap(p + 2 * PAGE, PAGE);
	check("mmap of nothing", map_at(0, 0, RW, ANON), -EINVAL);
	check("mmap neither shared nor private", map_at(0, PAGE, RW, MAP_ANONYMOUS), -EINVAL);
	check("mmap fixed, not aligned", map_at(p + 1, PAGE, RW, ANON | MAP_FIXED), -EINVAL);
	check("mmap fixed, kernel address", map_at(-16 * PAGE, PAGE, RW, ANON | MAP_FIXED), -ENOMEM);
	check("mmap too long", map_at(0, 1UL << 50, RW, ANON), -ENOMEM);
	check("mmap longer than a long", map_at(0, -1UL, RW, ANON), -ENOMEM);
	check("mmap of a bad descriptor", map_at(0, PAGE, RW, MAP_PRIVATE), -EBADF);
	check("mmap over something", map_at(p, PAGE, RW, ANON | MAP_FIXED_NOREPLACE), -EEXIST);
	check("mmap over a part", map_at(p + PAGE, 2 * PAGE, RW, ANON | MAP_FIXED_NOREPLACE), -EEXIST);
	check("mmap over nothing", map_at(p + 2 * PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE) - (long)p, 2 * PAGE);
	unmap(p + 2 * PAGE, PAGE);
	check("munmap, not aligned", unmap(p + 1, PAGE), -EINVAL);
	check("munmap of nothing", unmap(p, 0), -EINVAL);
	check("munmap of a hole", unmap(p + 2 * PAGE, PAGE), 0);
	check("munmap of kernel memory", unmap(-16 * PAGE, PAGE), -EINVAL);
	check("mprotect, not aligned", protect(p + 1, PAGE, RW), -EINVAL);
	check("mprotect of nothing", protect(p, 0, RW), 0);
	check("mprotect of a hole", protect(p + 2 * PAGE, PAGE, RW), -ENOMEM);
	check("mprotect over a hole", protect(p, 4 * PAGE, PROT_READ), -ENOMEM);
	store(p, 1);
	check_fault("which changed the first part", p, ACCERR, 0);
	store(p + 3 * PAGE, 1);
	check_fault("but not the last", p, 0, 0);
	check("mprotect, bad bits", protect(p, PAGE, 0x40), -EINVAL);
	check("mprotect, both ways", protect(p, PAGE, 0x03000000), -EINVAL);
	check("mprotect around the end", protect(p, -PAGE, RW), -ENOMEM);
	check("madvise of nothing", advise(p, 0, MADV_DONTNEED), 0);
	check("write from nowhere", syscall3(__NR_write, 1, (long)(p + 2 * PAGE), 5), -EFAULT);
	protect(p + 3 * PAGE, PAGE, PROT_NONE);
	check("write from none", syscall3(__NR_write, 1, (long)(p + 3 * PAGE), 5), -EFAULT);
	check("write to no file", syscall3(__NR_write, 99, (long)(p + 4 * PAGE), 5), -EBADF);
	check("system call to read-only", sigprocmask(0, 0, (void *)p), -EFAULT);
	check("system call to a fresh page", sigprocmask(0, 0, (void *)(p + 4 * PAGE)), 0);
	check("no such system call", syscall3(1000, 0, 0, 0), -38);
	unmap(p, 6 * PAGE);
}

static void check_growth(void)
{
	unsigned long here = (unsigned long)&here & -PAGE, p;

	check("stack, 64 KiB down", load(here - 16 * PAGE), 0);
	check("stack, 1 MiB down", load(here - 256 * PAGE), 0);
	store(here - 300 * PAGE, 3);
	check("stack keeps", load(here - 300 * PAGE), 3);
	load(here - 4096 * PAGE);
	check_fault("stack beyond its limit", here, MAPERR, -4096 * (long)PAGE);
	p = map(1024);
	unmap(p, 1024 * PAGE);
	p += 1000 * PAGE;
	check("grows down", map_at(p, PAGE, RW, ANON | MAP_GROWSDOWN | MAP_FIXED) - (long)p, 0);
	check("grown", load(p - 3 * PAGE), 0);
	check("grown is mapped", protect(p - 3 * PAGE, 4 * PAGE, PROT_READ), 0);
	store(p - 2 * PAGE, 1);
	check_fault("grown is protected", p, ACCERR, -2 * (long)PAGE);
	load(p + PAGE);
	check_fault("does not grow up", p, MAPERR, PAGE);
	unmap(p - 3 * PAGE, 4 * PAGE);
}

/* -- processes --------------------------------------------------------------------------------------------------- */

static long wait_for(long pid)
{
	int status = -1;
	long got = wait4(pid, &status, 0);

	return got == pid ? status : got;
}

/* the child's own lines count for it alone */
static void check_fork(void)
{
	unsigned long p = map(4);
	long pid;

	store(p, 1);
	store(p + PAGE, 2);
	store(p + 2 * PAGE, 3);
	protect(p + 2 * PAGE, PAGE, PROT_READ);
	check("wait for nobody", wait_for(-1), -ECHILD);
	pid = fork();
	if (!pid) {
		wrong = 0;
		check("child reads", load(p), 1);
		check("child reads untouched", load(p + 3 * PAGE), 0);
		store(p, 11);
		check("child reads its own", load(p), 11);
		store(p + 2 * PAGE, 1);
		check_fault("child writes to read-only", p, ACCERR, 2 * PAGE);
		check("child unmaps", unmap(p + PAGE, PAGE), 0);
		load(p + PAGE);
		check_fault("child has no", p, MAPERR, PAGE);
		exit_group(wrong ? 1 : 7);
	}
	check("child's status", wait_for(pid), 7 << 8);
	check("parent reads", load(p), 1);
	check("parent keeps", load(p + PAGE) * 10 + load(p + 2 * PAGE), 23);
	store(p, 12);
	check("parent writes again", load(p), 12);
	pid = fork();
	if (!pid) {
		set_handler(SIGSEGV, SIG_DFL, 0, 0);
		store(p + 2 * PAGE, 1);
		exit_group(0);
	}
	check("child that faults", wait_for(pid) & 0x7f, SIGSEGV);
	pid = fork();
	if (!pid) {
		set_handler(SIGSEGV, SIG_IGN, 0, 0);
		store(p + 2 * PAGE, 1);
		exit_group(0);
	}
	check("child that ignores faults", wait_for(pid) & 0x7f, SIGSEGV);
	pid = fork();
	if (!pid) {
		unsigned long mask = sigbit(SIGSEGV);

		sigprocmask(SIG_BLOCK, &mask, 0);
		store(p + 2 * PAGE, 1);
		exit_group(0);
	}
	check("child that blocks faults", wait_for(pid) & 0x7f, SIGSEGV);
	unmap(p, 4 * PAGE);
}

__attribute__((noreturn)) void _start(void)
{
	set_handler(SIGSEGV, on_fault, 0, 0);
	check_contents();
	check_permissions();
	check_errors();
	check_growth();
	check_fork();
	check("wrong", wrong, 0);
	exit_group(wrong ? 1 : 0);
}
