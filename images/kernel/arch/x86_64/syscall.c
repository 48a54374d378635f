// SPDX-License-Identifier: GPL-2.0-only
/* The system-call table. Mirrors arch/x86/entry/syscall_64.c; numbers are those of syscall_64.tbl. */
#include <linux/entry-common.h>
#include <linux/syscalls.h>
#include <asm/ptrace.h>
#include <trace/events/syscalls.h>

/* Only the caller's own group: process groups are not modelled beyond that. */
__traceable long __x64_sys_getpgid(const struct pt_regs *regs)
{
	return do_getpgid((pid_t)regs->di);
}

static __always_inline long x64_sys_call(struct pt_regs *regs, unsigned int nr)
{
	switch (nr) {
	case 0:
		return ksys_read((unsigned int)regs->di, (char *)regs->si, regs->dx);
	case 3:
		return close_fd((unsigned int)regs->di);
	case 8:
		return ksys_lseek((unsigned int)regs->di, (loff_t)regs->si, (unsigned int)regs->dx);
	case 17:
		return ksys_pread64((unsigned int)regs->di, (char *)regs->si, regs->dx, (loff_t)regs->r10);
	case 18:
		return ksys_pwrite64((unsigned int)regs->di, (const char *)regs->si, regs->dx, (loff_t)regs->r10);
	case 77:
		return ksys_ftruncate((unsigned int)regs->di, (loff_t)regs->si);
	case 257:
		return do_sys_openat2((int)regs->di, (const char *)regs->si, (int)regs->dx);
	case 319:
		return __do_sys_memfd_create((const char *)regs->di, (unsigned int)regs->si);
	case 1:
		return ksys_write((unsigned int)regs->di, (const char *)regs->si, regs->dx);
	case 24:
		do_sched_yield();
		return 0;
	case 39:
		return current->tgid;
	case 56:
		return kernel_clone(regs->di, regs->si, regs->dx, regs->r10, regs->r8, regs);
	case 121:
		return __x64_sys_getpgid(regs);
	case 61:
		return __do_sys_wait4((pid_t)regs->di, (int *)regs->si, (unsigned int)regs->dx, (void *)regs->r10);
	case 60:
		do_exit((int)(regs->di & 0xff) << 8);
	case 9:
		if (regs->r9 & ~PAGE_MASK)
			return -EINVAL;
		return (long)ksys_mmap_pgoff(regs->di, regs->si, regs->dx, regs->r10, regs->r8, regs->r9 >> PAGE_SHIFT);
	case 10:
		return do_mprotect_pkey(regs->di, regs->si, regs->dx);
	case 11:
		return __vm_munmap(regs->di, regs->si);
	case 13:
		return __do_sys_rt_sigaction((int)regs->di, (void *)regs->si, (void *)regs->dx, regs->r10);
	case 14:
		return __do_sys_rt_sigprocmask((int)regs->di, (void *)regs->si, (void *)regs->dx, regs->r10);
	case 15:
		return __do_sys_rt_sigreturn(regs);
	case 62:
		return sys_kill((pid_t)regs->di, (int)regs->si);
	case 127:
		return __do_sys_rt_sigpending((void *)regs->di, regs->si);
	case 130:
		return __do_sys_rt_sigsuspend((void *)regs->di, regs->si);
	case 131:
		return __do_sys_sigaltstack((void *)regs->di, (void *)regs->si, regs->sp);
	case 200:
		return sys_tkill((pid_t)regs->di, (int)regs->si);
	case 219:
		return sys_restart_syscall();
	case 234:
		return sys_tgkill((pid_t)regs->di, (pid_t)regs->si, (int)regs->dx);
	case 12:
		return (long)__do_sys_brk(regs->di);
	case 25:
		return (long)do_mremap(regs->di, regs->si, regs->dx, regs->r10, regs->r8);
	case 27:
		return __do_sys_mincore(regs->di, regs->si, (unsigned char *)regs->dx);
	case 28:
		return do_madvise(regs->di, regs->si, (int)regs->dx);
	case 157:
		return ksys_prctl((int)regs->di, regs->si);
	case 186:
		return current->pid;
	case 202:
		return do_futex((u32 *)regs->di, (int)regs->si, (u32)regs->dx, regs->r10);
	case 231:
		do_group_exit((int)(regs->di & 0xff) << 8);
	case 321:
		return __x64_sys_bpf(regs);
	}
	return -ENOSYS;
}

__traceable long __x64_sys_bpf(struct pt_regs *regs)
{
	return __sys_bpf((int)regs->di, (union bpf_attr *)regs->si, (unsigned int)regs->dx);
}

/* True where SYSRET can return: it takes ip and flags from rcx and r11, and a handler begins with others. */
__frame bool do_syscall_64(struct pt_regs *regs, int nr)
{
	enter_from_user_mode();
	local_irq_enable();
	regs->orig_ax = (unsigned int)nr;
	trace_sys_enter(regs, nr);
	regs->ax = x64_sys_call(regs, (unsigned int)nr);
	trace_sys_exit(regs, (long)regs->ax);
	local_irq_disable();
	exit_to_user_mode_prepare(regs);
	if (unlikely(regs->cx != regs->ip || regs->r11 != regs->flags))
		return false;
	if (unlikely(regs->cs != __USER_CS || regs->ss != __USER_DS || regs->ip >= TASK_SIZE_MAX))
		return false;
	return !(regs->flags & (X86_EFLAGS_RF | X86_EFLAGS_TF));
}
