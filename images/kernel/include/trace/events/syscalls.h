/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracepoints of system calls. Mirrors include/trace/events/syscalls.h and, for the way to them, kernel/entry/common.c. */
#ifndef _TRACE_EVENTS_SYSCALLS_H
#define _TRACE_EVENTS_SYSCALLS_H

#include <linux/tracepoint.h>

struct pt_regs;

DECLARE_TRACE(sys_enter, (struct pt_regs *regs, long id), (void *__data, struct pt_regs *regs, long id));
DECLARE_TRACE(sys_exit, (struct pt_regs *regs, long ret), (void *__data, struct pt_regs *regs, long ret));

void syscall_trace_enter(struct pt_regs *regs, long syscall);
void syscall_exit_work(struct pt_regs *regs, long ret);

static __always_inline void trace_sys_enter(struct pt_regs *regs, long id)
{
	if (trace_enabled(sys_enter))
		syscall_trace_enter(regs, id);
}

static __always_inline void trace_sys_exit(struct pt_regs *regs, long ret)
{
	if (trace_enabled(sys_exit))
		syscall_exit_work(regs, ret);
}

#endif
