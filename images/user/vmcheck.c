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
#define BUS_ADRERR 2

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

/* what the last access met: `sig` with `code` at `offset` from `base`; 0 is no fault */
static void check_signal(const char *name, int sig, unsigned long base, int code, long offset)
{
	text(name);
	text(": signal ");
	judge(seen.signo, sig);
	text(" code ");
	judge(seen.code, code);
	text(" at ");
	judge(seen.count ? (long)(seen.addr - base) : offset, offset);
	text(" times ");
	judge(seen.count, sig ? 1 : 0);
	flush();
}

static void check_fault(const char *name, unsigned long base, int code, long offset)
{
	check_signal(name, code ? SIGSEGV : 0, base, code, offset);
}

static void check_bus(const char *name, unsigned long base, long offset)
{
	check_signal(name, SIGBUS, base, BUS_ADRERR, offset);
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
	check("madvise of nothing, unknown", advise(p, 0, 1000), -EINVAL);
	check("madvise, unknown", advise(p, PAGE, 1000), -EINVAL);
	check("madvise, not aligned", advise(p + 1, PAGE, MADV_DONTNEED), -EINVAL);
	check("madvise around the end", advise(p, -PAGE, MADV_DONTNEED), -EINVAL);
	protect(p, 2 * PAGE, RW);
	store(p + PAGE, 4);
	store(p + 3 * PAGE, 5);
	check("madvise over a hole", advise(p + PAGE, 3 * PAGE, MADV_DONTNEED), -ENOMEM);
	check("which did both sides of it", load(p + PAGE) + load(p + 3 * PAGE), 0);
	check("madvise of a hole", advise(p + 2 * PAGE, PAGE, MADV_DONTNEED), -ENOMEM);
	protect(p, PAGE, PROT_READ);
	forget();
	check("write from nowhere", syscall3(__NR_write, 1, (long)(p + 2 * PAGE), 5), -EFAULT);
	protect(p + 3 * PAGE, PAGE, PROT_NONE);
	check("write from none", syscall3(__NR_write, 1, (long)(p + 3 * PAGE), 5), -EFAULT);
	check("write to no file", syscall3(__NR_write, 99, (long)(p + 4 * PAGE), 5), -EBADF);
	check("system call to read-only", sigprocmask(0, 0, (void *)p), -EFAULT);
	check("system call to a fresh page", sigprocmask(0, 0, (void *)(p + 4 * PAGE)), 0);
	check("no such system call", syscall3(1000, 0, 0, 0), -38);
	check_fault("system calls", 0, 0, 0);
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

static long remap(unsigned long at, unsigned long from, unsigned long to, long flags, unsigned long where)
{
	return syscall6(__NR_mremap, (long)at, (long)from, (long)to, flags, (long)where, 0);
}

static void check_mremap(void)
{
	unsigned long p = map(8), q;

	store(p, 1);
	store(p + PAGE, 2);
	store(p + 7 * PAGE, 7);
	check("mremap, not aligned", remap(p + 1, PAGE, PAGE, 0, 0), -EINVAL);
	check("mremap to nothing", remap(p, PAGE, 0, 0, 0), -EINVAL);
	check("mremap, bad flags", remap(p, PAGE, PAGE, 64, 0), -EINVAL);
	check("mremap, fixed but not moving", remap(p, PAGE, PAGE, MREMAP_FIXED, p), -EINVAL);
	check("mremap onto itself", remap(p, 2 * PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + PAGE), -EINVAL);
	check("mremap cannot grow", remap(p, 2 * PAGE, 3 * PAGE, 0, 0), -ENOMEM);
	check("mremap shrinks", remap(p, 8 * PAGE, 4 * PAGE, 0, 0) - (long)p, 0);
	load(p + 7 * PAGE);
	check_fault("what it cut off", p, MAPERR, 7 * PAGE);
	check("mremap of a hole", remap(p + 5 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0), -EFAULT);
	check("mremap grows", remap(p, 4 * PAGE, 6 * PAGE, 0, 0) - (long)p, 0);
	check("what it added", load(p + 5 * PAGE), 0);
	q = map(4);
	check("mremap moves", remap(p, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q) - (long)q, 0);
	check("moved", load(q) * 10 + load(q + PAGE), 12);
	check("added behind it", load(q + 2 * PAGE), 0);
	load(p + 1);
	check_fault("where it was", p, MAPERR, 1);
	store(q, 3);
	check("moved can be written", load(q), 3);
	protect(q, PAGE, PROT_READ);
	check("mremap of two mappings", remap(q, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE, 0), -EFAULT);
	check("dontunmap", remap(q + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_FIXED, p) - (long)p, 0);
	check("took the page along", load(p) * 10 + load(q + PAGE), 20);
	unmap(p, 6 * PAGE);
	unmap(q, 4 * PAGE);
}

static void check_brk(void)
{
	unsigned long old = (unsigned long)syscall3(__NR_brk, 0, 0, 0), p = (old + PAGE - 1) & -PAGE;

	check("brk grows", syscall3(__NR_brk, (long)(p + 2 * PAGE + 5), 0, 0) - (long)p, 2 * PAGE + 5);
	store(p, 1);
	store(p + 2 * PAGE, 2);
	check("the heap keeps", load(p) * 10 + load(p + 2 * PAGE), 12);
	load(p + 3 * PAGE);
	check_fault("beyond the heap", p, MAPERR, 3 * PAGE);
	check("brk below the heap", syscall3(__NR_brk, 16, 0, 0) - (long)p, 2 * PAGE + 5);
	check("brk too far", syscall3(__NR_brk, (long)(1UL << 60), 0, 0) - (long)p, 2 * PAGE + 5);
	check("brk shrinks", syscall3(__NR_brk, (long)(p + PAGE), 0, 0) - (long)p, PAGE);
	load(p + 2 * PAGE);
	check_fault("what was the heap", p, MAPERR, 2 * PAGE);
	check("brk grows again", syscall3(__NR_brk, (long)(p + 3 * PAGE), 0, 0) - (long)p, 3 * PAGE);
	check("with new pages", load(p) * 10 + load(p + 2 * PAGE), 10);
	syscall3(__NR_brk, (long)old, 0, 0);
}

/* -- files ------------------------------------------------------------------------------------------------------- */

static long memfd(void)
{
	return syscall3(__NR_memfd_create, (long)"vmcheck", 0, 0);
}

static unsigned long map_file(long fd, unsigned long pages, long flags)
{
	return (unsigned long)syscall6(__NR_mmap, 0, (long)(pages * PAGE), RW, flags, fd, 0);
}

/* what the file has at `offset` itself, as read(2) sees it */
static long in_file(long fd, unsigned long offset)
{
	unsigned char byte = 0;
	long got = syscall6(__NR_pread64, fd, (long)&byte, 1, (long)offset, 0, 0);

	return got == 1 ? byte : got - 1000;
}

static void check_end_of_file(void)
{
	long fd = memfd();
	unsigned long s, p;

	syscall3(__NR_ftruncate, fd, PAGE + 100, 0);
	s = map_file(fd, 5, MAP_SHARED);
	p = map_file(fd, 4, MAP_PRIVATE);
	unmap(s + 4 * PAGE, PAGE);
	load(s + 2 * PAGE + 5);
	check_bus("read behind the end", s, 2 * PAGE + 5);
	store(s + 3 * PAGE + 6, 1);
	check_bus("write behind the end", s, 3 * PAGE + 6);
	load(p + 3 * PAGE + 7);
	check_bus("private read behind the end", p, 3 * PAGE + 7);
	store(p + 2 * PAGE, 1);
	check_bus("private write behind the end", p, 2 * PAGE);
	load(s + 4 * PAGE);
	check_fault("behind the mapping", s, MAPERR, 4 * PAGE);
	check("the last page reads", load(s + PAGE + 200), 0);
	check_fault("the last page", s, 0, 0);
	store(s + PAGE + 200, 3);
	check("and can be written", load(p + PAGE + 200), 3);
	check("but it is not the file's", in_file(fd, PAGE + 200), -1000);
	forget();
	check("write from behind the end", syscall3(__NR_write, 1, (long)(s + 2 * PAGE), 5), -EFAULT);
	check("system call to behind the end", sigprocmask(0, 0, (void *)(p + 2 * PAGE)), -EFAULT);
	check("read to behind the end", syscall6(__NR_pread64, fd, (long)(s + 2 * PAGE), 5, 0, 0, 0), -EFAULT);
	check("write across the end", syscall6(__NR_pwrite64, fd, (long)(s + 2 * PAGE - 3), 10, 0, 0, 0), 3);
	check_signal("system calls behind the end", 0, 0, 0, 0);
	store(s + 50, 5);
	store(s + 150, 6);
	store(s + PAGE, 7);
	store(p + PAGE + 1, 8);
	check("truncate", syscall3(__NR_ftruncate, fd, 100, 0), 0);
	load(s + PAGE);
	check_bus("read of what was cut off", s, PAGE);
	load(p + PAGE + 1);
	check_bus("read of the copy of it", p, PAGE + 1);
	check("what is left", load(s + 50), 5);
	check("the rest of its page", load(s + 150), 0);
	store(p, 9);
	check("extend", syscall3(__NR_ftruncate, fd, 2 * PAGE, 0), 0);
	check("comes back empty", load(s + PAGE) + load(p + PAGE + 1) + in_file(fd, PAGE + 200), 0);
	check("truncate to nothing", syscall3(__NR_ftruncate, fd, 0, 0), 0);
	store(s, 1);
	check_bus("write to nothing", s, 0);
	load(p);
	check_bus("read of a copied page", p, 0);
	syscall3(__NR_close, fd, 0, 0);
	load(s + 9);
	check_bus("closed", s, 9);
	unmap(s, 4 * PAGE);
	unmap(p, 4 * PAGE);
}

static void check_file_pages(void)
{
	long fd = memfd();
	unsigned long s, p, r;

	syscall3(__NR_ftruncate, fd, 3 * PAGE, 0);
	s = map_file(fd, 3, MAP_SHARED);
	p = map_file(fd, 3, MAP_PRIVATE);
	store(s, 1);
	check("private sees the file", load(p), 1);
	store(s, 2);
	check("and what is written to it", load(p), 2);
	store(p + 1, 3);
	check("a copy keeps the rest", load(p) * 10 + load(p + 1), 23);
	check("the file has none of it", load(s + 1) + in_file(fd, 1), 0);
	store(s, 4);
	check("a copy is no longer the file", load(p), 2);
	check("the file is", load(s) * 10 + in_file(fd, 0), 44);
	store(p + PAGE, 5);
	check("write without a read before", load(p + PAGE) * 10 + load(s + PAGE), 50);
	syscall6(__NR_pwrite64, fd, (long)"A", 1, (long)(2 * PAGE), 0, 0);
	check("write(2) shows in both", load(s + 2 * PAGE) + load(p + 2 * PAGE), 2 * 'A');
	check("dontneed drops the copy", advise(p, PAGE, MADV_DONTNEED), 0);
	check("and the file is there", load(p), 4);
	check("mprotect a shared mapping", protect(s, PAGE, PROT_READ), 0);
	store(s, 1);
	check_fault("write to read-only file pages", s, ACCERR, 0);
	r = (unsigned long)syscall6(__NR_mmap, 0, PAGE, PROT_READ, MAP_PRIVATE, fd, 2 * PAGE);
	store(r + 1, 1);
	check_fault("write to a read-only mapping", r, ACCERR, 1);
	check("made writable", protect(r, PAGE, RW), 0);
	store(r + 1, 6);
	check("writes its own", load(r) * 1000 + load(r + 1) * 10 + load(s + 2 * PAGE + 1), 'A' * 1000 + 60);
	syscall3(__NR_close, fd, 0, 0);
	unmap(s, 3 * PAGE);
	unmap(p, 3 * PAGE);
	unmap(r, PAGE);
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

/* what parent and child have in common, and what not */
static void check_shared(void)
{
	long fd = memfd(), pid;
	unsigned long a = (unsigned long)map_at(0, 3 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS), s, p;

	syscall3(__NR_ftruncate, fd, 2 * PAGE, 0);
	s = map_file(fd, 2, MAP_SHARED);
	p = map_file(fd, 2, MAP_PRIVATE);
	check("shared memory reads", load(a), 0);
	store(a + PAGE, 1);
	store(p, 2);
	protect(a + 2 * PAGE, PAGE, PROT_READ);
	pid = fork();
	if (!pid) {
		wrong = 0;
		check("child shares", load(a + PAGE), 1);
		check("child has the private copy", load(p), 2);
		store(a, 3);
		store(a + PAGE, 4);
		store(s, 5);
		store(s + PAGE, 6);
		store(p, 7);
		store(a + 2 * PAGE, 1);
		check_fault("child writes to shared read-only", a, ACCERR, 2 * PAGE);
		unmap(s, PAGE);
		pid = fork();
		if (!pid) {
			store(a + 1, load(a) + 10);
			syscall3(__NR_ftruncate, fd, PAGE, 0);
			exit_group(0);
		}
		check("grandchild's status", wait_for(pid), 0);
		check("child sees it", load(a + 1), 13);
		load(s + PAGE);
		check_bus("grandchild has cut off", s, PAGE);
		exit_group(wrong ? 1 : 7);
	}
	check("sharing child's status", wait_for(pid), 7 << 8);
	check("parent sees", load(a) * 100 + load(a + 1) * 10 + load(a + PAGE), 434);
	check("parent sees the file", load(s), 5);
	load(s + PAGE + 1);
	check_bus("which is shorter now", s, PAGE + 1);
	check("parent's private copy", load(p), 2);
	pid = fork();
	if (!pid) {
		set_handler(SIGBUS, SIG_DFL, 0, 0);
		load(s + PAGE);
		exit_group(0);
	}
	check("child that reads behind the end", wait_for(pid) & 0x7f, SIGBUS);
	check("dontneed of shared memory", advise(a, PAGE, MADV_DONTNEED), 0);
	check("keeps it", load(a), 3);
	syscall3(__NR_close, fd, 0, 0);
	unmap(a, 3 * PAGE);
	unmap(s, 2 * PAGE);
	unmap(p, 2 * PAGE);
}

__attribute__((noreturn)) void _start(void)
{
	set_handler(SIGSEGV, on_fault, 0, 0);
	set_handler(SIGBUS, on_fault, 0, 0);
	check_contents();
	check_permissions();
	check_errors();
	check_growth();
	check_mremap();
	check_brk();
	check_end_of_file();
	check_file_pages();
	check_fork();
	check_shared();
	check("wrong", wrong, 0);
	exit_group(wrong ? 1 : 0);
}
