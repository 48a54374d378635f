// SPDX-License-Identifier: GPL-2.0-only
/* System calls. Mirrors arch/arm64/kernel/syscall.c; numbers are those of scripts/syscall.tbl. */
#include <linux/entry-common.h>
#include <linux/syscalls.h>
#include <asm/ptrace.h>
#include <trace/events/syscalls.h>

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
#define __NR_restart_syscall 128
#define __NR_kill 129
#define __NR_tkill 130
#define __NR_tgkill 131
#define __NR_sigaltstack 132
#define __NR_rt_sigsuspend 133
#define __NR_rt_sigaction 134
#define __NR_rt_sigprocmask 135
#define __NR_rt_sigpending 136
#define __NR_rt_sigreturn 139
#define __NR_prctl 167
#define __NR_getpgid 155
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

static __frame long __arm64_sys_write(struct pt_regs *regs)
{
	return ksys_write((unsigned int)regs->regs[0], (const char *)regs->regs[1], regs->regs[2]);
}

__traceable long __arm64_sys_bpf(struct pt_regs *regs)
{
	return __sys_bpf((int)regs->regs[0], (union bpf_attr *)regs->regs[1], (unsigned int)regs->regs[2]);
}

static __frame long __arm64_sys_mmap(struct pt_regs *regs)
{
	if (regs->regs[5] & ~PAGE_MASK)
		return -EINVAL;
	return (long)ksys_mmap_pgoff(regs->regs[0], regs->regs[1], regs->regs[2], regs->regs[3], regs->regs[4],
				     regs->regs[5] >> PAGE_SHIFT);
}

/* Only the caller's own group: process groups are not modelled beyond that. */
__traceable long __arm64_sys_getpgid(const struct pt_regs *regs)
{
	return do_getpgid((pid_t)regs->regs[0]);
}

static __always_inline long invoke_syscall(struct pt_regs *regs, int scno)
{
	switch (scno) {
	case __NR_write:
		return __arm64_sys_write(regs);
	case __NR_read:
		return ksys_read((unsigned int)regs->regs[0], (char *)regs->regs[1], regs->regs[2]);
	case __NR_pread64:
		return ksys_pread64((unsigned int)regs->regs[0], (char *)regs->regs[1], regs->regs[2],
				    (loff_t)regs->regs[3]);
	case __NR_pwrite64:
		return ksys_pwrite64((unsigned int)regs->regs[0], (const char *)regs->regs[1], regs->regs[2],
				     (loff_t)regs->regs[3]);
	case __NR_lseek:
		return ksys_lseek((unsigned int)regs->regs[0], (loff_t)regs->regs[1], (unsigned int)regs->regs[2]);
	case __NR_ftruncate:
		return ksys_ftruncate((unsigned int)regs->regs[0], (loff_t)regs->regs[1]);
	case __NR_openat:
		return do_sys_openat2((int)regs->regs[0], (const char *)regs->regs[1], (int)regs->regs[2]);
	case __NR_close:
		return close_fd((unsigned int)regs->regs[0]);
	case __NR_memfd_create:
		return __do_sys_memfd_create((const char *)regs->regs[0], (unsigned int)regs->regs[1]);
	case __NR_getpid:
		return current->tgid;
	case __NR_prctl:
		return ksys_prctl((int)regs->regs[0], regs->regs[1]);
	case __NR_munmap:
		return __vm_munmap(regs->regs[0], regs->regs[1]);
	case __NR_brk:
		return (long)__do_sys_brk(regs->regs[0]);
	case __NR_mremap:
		return (long)do_mremap(regs->regs[0], regs->regs[1], regs->regs[2], regs->regs[3], regs->regs[4]);
	case __NR_mmap:
		return __arm64_sys_mmap(regs);
	case __NR_mprotect:
		return do_mprotect_pkey(regs->regs[0], regs->regs[1], regs->regs[2]);
	case __NR_mincore:
		return __do_sys_mincore(regs->regs[0], regs->regs[1], (unsigned char *)regs->regs[2]);
	case __NR_madvise:
		return do_madvise(regs->regs[0], regs->regs[1], (int)regs->regs[2]);
	case __NR_restart_syscall:
		return sys_restart_syscall();
	case __NR_kill:
		return sys_kill((pid_t)regs->regs[0], (int)regs->regs[1]);
	case __NR_tkill:
		return sys_tkill((pid_t)regs->regs[0], (int)regs->regs[1]);
	case __NR_tgkill:
		return sys_tgkill((pid_t)regs->regs[0], (pid_t)regs->regs[1], (int)regs->regs[2]);
	case __NR_sigaltstack:
		return __do_sys_sigaltstack((void *)regs->regs[0], (void *)regs->regs[1], regs->sp);
	case __NR_rt_sigsuspend:
		return __do_sys_rt_sigsuspend((void *)regs->regs[0], regs->regs[1]);
	case __NR_rt_sigaction:
		return __do_sys_rt_sigaction((int)regs->regs[0], (void *)regs->regs[1], (void *)regs->regs[2],
					     regs->regs[3]);
	case __NR_rt_sigprocmask:
		return __do_sys_rt_sigprocmask((int)regs->regs[0], (void *)regs->regs[1], (void *)regs->regs[2],
					       regs->regs[3]);
	case __NR_rt_sigpending:
		return __do_sys_rt_sigpending((void *)regs->regs[0], regs->regs[1]);
	case __NR_rt_sigreturn:
		return __do_sys_rt_sigreturn(regs);
	case __NR_gettid:
		return current->pid;
	case __NR_sched_yield:
		do_sched_yield();
		return 0;
	case __NR_clone:	/* CONFIG_CLONE_BACKWARDS: tls before child_tid */
		return kernel_clone(regs->regs[0], regs->regs[1], regs->regs[2], regs->regs[4], regs->regs[3], regs);
	case __NR_futex:
		return do_futex((u32 *)regs->regs[0], (int)regs->regs[1], (u32)regs->regs[2], regs->regs[3]);
	case __NR_getpgid:
		return __arm64_sys_getpgid(regs);
	case __NR_wait4:
		return __do_sys_wait4((pid_t)regs->regs[0], (int *)regs->regs[1], (unsigned int)regs->regs[2],
				      (void *)regs->regs[3]);
	case __NR_exit:
		do_exit((int)(regs->regs[0] & 0xff) << 8);
	case __NR_exit_group:
		do_group_exit((int)(regs->regs[0] & 0xff) << 8);
	case __NR_bpf:
		return __arm64_sys_bpf(regs);
	}
	return -ENOSYS;
}

__frame void do_el0_svc(struct pt_regs *regs)
{
	regs->orig_x0 = regs->regs[0];
	regs->syscallno = (int)regs->regs[8];
	trace_sys_enter(regs, regs->syscallno);
	regs->regs[0] = (u64)invoke_syscall(regs, regs->syscallno);
	trace_sys_exit(regs, (long)regs->regs[0]);
}
