/* SPDX-License-Identifier: GPL-2.0-only */
/* System calls. Mirrors include/linux/syscalls.h, and of union bpf_attr the part of BPF_PROG_TEST_RUN. */
#ifndef _LINUX_SYSCALLS_H
#define _LINUX_SYSCALLS_H

#include <linux/bpf.h>
#include <linux/uaccess.h>

#define BPF_PROG_TEST_RUN 10

union bpf_attr {
	struct {
		u32 prog_fd;
		u32 retval;
		u32 data_size_in;
		u32 data_size_out;
		u64 data_in;
		u64 data_out;
		u32 repeat;
		u32 duration;
		u32 ctx_size_in;
		u32 ctx_size_out;
		u64 ctx_in;
		u64 ctx_out;
		u32 flags;
		u32 cpu;
		u32 batch_size;
	} test;
};

struct pt_regs;

/* include/trace/bpf_probe.h: the types of tp_btf programs' contexts, behind the probe's own data */
typedef void (*btf_trace_sys_enter)(void *data, struct pt_regs *regs, long id);
typedef void (*btf_trace_sys_exit)(void *data, struct pt_regs *regs, long ret);

/* kernel/sys.c */
static __always_inline long do_getpgid(pid_t pid)
{
	return !pid || pid == current->tgid || pid == current->pid ? current->tgid : -ESRCH;
}

long __x64_sys_bpf(struct pt_regs *regs);
int __sys_bpf(int cmd, union bpf_attr *uattr, unsigned int size);
ssize_t ksys_read(unsigned int fd, char *buf, size_t count);
ssize_t ksys_write(unsigned int fd, const char *buf, size_t count);
ssize_t ksys_pread64(unsigned int fd, char *buf, size_t count, loff_t pos);
ssize_t ksys_pwrite64(unsigned int fd, const char *buf, size_t count, loff_t pos);
loff_t ksys_lseek(unsigned int fd, loff_t offset, unsigned int whence);
long ksys_ftruncate(unsigned int fd, loff_t length);
int close_fd(unsigned int fd);
long do_sys_openat2(int dfd, const char *filename, int flags);
long __do_sys_memfd_create(const char *uname, unsigned int flags);

long strncpy_from_user(char *dst, const char *src, long count);
long copy_from_kernel_nofault(void *dst, const void *src, size_t size);
long strncpy_from_kernel_nofault(char *dst, const void *unsafe_addr, long count);
long copy_from_user_nofault(void *dst, const void *src, size_t size);
long strncpy_from_user_nofault(char *dst, const void *unsafe_addr, long count);
long copy_to_kernel_nofault(void *dst, const void *src, size_t size);
bool copy_from_kernel_nofault_allowed(const void *unsafe_src, size_t size);

unsigned long ksys_mmap_pgoff(unsigned long addr, unsigned long len, unsigned long prot, unsigned long flags,
			      unsigned long fd, unsigned long pgoff);
unsigned long vm_mmap_pgoff(struct file *file, unsigned long addr, unsigned long len, unsigned long prot,
			    unsigned long flag, unsigned long pgoff);
int __vm_munmap(unsigned long start, size_t len);
int do_mprotect_pkey(unsigned long start, size_t len, unsigned long prot);
int do_vmi_munmap(struct mm_struct *mm, unsigned long start, size_t len);
int do_madvise(unsigned long start, size_t len_in, int behavior);
long __do_sys_mincore(unsigned long start, size_t len, unsigned char *vec);
unsigned long __do_sys_brk(unsigned long brk);
unsigned long do_mremap(unsigned long addr, unsigned long old_len, unsigned long new_len, unsigned long flags,
			unsigned long new_addr);
long ksys_prctl(int option, unsigned long arg2);

/* kernel/signal.c; sets are sigset_t, kernel_sigaction and stack_t of the program */
struct sigaction;
struct sigaltstack;
long __do_sys_rt_sigaction(int sig, const struct sigaction *act, struct sigaction *oact, size_t sigsetsize);
long __do_sys_rt_sigprocmask(int how, u64 *nset, u64 *oset, size_t sigsetsize);
long __do_sys_rt_sigpending(u64 *uset, size_t sigsetsize);
long __do_sys_rt_sigsuspend(u64 *unewset, size_t sigsetsize);
long __do_sys_sigaltstack(const struct sigaltstack *uss, struct sigaltstack *uoss, unsigned long sp);
long __do_sys_rt_sigreturn(struct pt_regs *regs);
long sys_restart_syscall(void);
long sys_tkill(pid_t pid, int sig);
long sys_tgkill(pid_t tgid, pid_t pid, int sig);
/* kcall of it */
long sys_kill(pid_t pid, int sig);

long __do_sys_wait4(pid_t upid, int *stat_addr, unsigned int options, void *ru);

/* kcalls of kernel/fork.c, exit.c, futex/ and sched/ */
long kernel_clone(u64 flags, unsigned long newsp, unsigned long parent_tid, unsigned long child_tid, unsigned long tls,
		  struct pt_regs *regs);
__noreturn void do_exit(int code);
__noreturn void do_task_dead(int code, bool group);	/* with `group` the whole process */
long do_futex(u32 *uaddr, int op, u32 val, u64 timeout);
void do_sched_yield(void);

/* kcalls */
struct bpf_prog *bpf_prog_get(u32 fd);
int bpf_sys_other(int cmd, union bpf_attr *uattr, unsigned int size);
void *kmalloc(size_t size, unsigned int flags);
#define GFP_KERNEL 0xcc0
#define __GFP_ZERO 0x100
void kfree(const void *p);

#endif
