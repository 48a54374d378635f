/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Vectors, entry from exceptions, and the gate to functions implemented outside. Mirrors arch/arm64/kernel/entry.S:
 * struct pt_regs on the task's stack, a frame record of zeroes in it that ends or continues a stack walk, and the
 * check for a stack that has run over. Left out: SError, FIQ, AArch32, KPTI, pointer authentication.
 */
#define __ASSEMBLY__
#include "regs.h"
#include <asm/linkage.h>

.macro adr_this_cpu dst, sym, tmp
	adrp \tmp, \sym
	add \dst, \tmp, #:lo12:\sym
	mrs \tmp, tpidr_el1
	add \dst, \dst, \tmp
.endm

/* A stack is aligned to twice its size: bit THREAD_SHIFT of sp is set as soon as sp leaves it downwards. */
.macro kernel_ventry label
	.balign 128
	sub sp, sp, #PT_REGS_SIZE
	add sp, sp, x0
	sub x0, sp, x0
	tbnz x0, #THREAD_SHIFT, 0f
	sub x0, sp, x0
	sub sp, sp, x0
	b \label
0:	/* x0 is the bad sp, sp - x0 the old x0; both are kept in user registers, this task will not return to user */
	msr tpidr_el0, x0
	sub x0, sp, x0
	msr tpidrro_el0, x0
	b __bad_stack
.endm

.macro kernel_ventry_user label
	.balign 128
	sub sp, sp, #PT_REGS_SIZE
	b \label
.endm

.section ".text.vectors", "ax", @progbits
	.balign 2048
	.globl vectors
	.type vectors, %function
vectors:
	kernel_ventry el1t_64_bad	/* EL1 with SP_EL0: never used */
	kernel_ventry el1t_64_bad
	kernel_ventry el1t_64_bad
	kernel_ventry el1t_64_bad
	kernel_ventry el1h_64_sync
	kernel_ventry el1h_64_irq
	kernel_ventry el1h_64_bad
	kernel_ventry el1h_64_bad
	kernel_ventry_user el0t_64_sync
	kernel_ventry_user el0t_64_irq
	kernel_ventry_user el0t_64_bad
	kernel_ventry_user el0t_64_bad
	kernel_ventry_user el0t_64_bad	/* AArch32 */
	kernel_ventry_user el0t_64_bad
	kernel_ventry_user el0t_64_bad
	kernel_ventry_user el0t_64_bad
	.balign 128
	.size vectors, . - vectors

.text

.macro save_x0_x29
	stp x0, x1, [sp, #16 * 0]
	stp x2, x3, [sp, #16 * 1]
	stp x4, x5, [sp, #16 * 2]
	stp x6, x7, [sp, #16 * 3]
	stp x8, x9, [sp, #16 * 4]
	stp x10, x11, [sp, #16 * 5]
	stp x12, x13, [sp, #16 * 6]
	stp x14, x15, [sp, #16 * 7]
	stp x16, x17, [sp, #16 * 8]
	stp x18, x19, [sp, #16 * 9]
	stp x20, x21, [sp, #16 * 10]
	stp x22, x23, [sp, #16 * 11]
	stp x24, x25, [sp, #16 * 12]
	stp x26, x27, [sp, #16 * 13]
	stp x28, x29, [sp, #16 * 14]
.endm

.macro kernel_entry el
	save_x0_x29
	.if \el == 0
	mrs x21, sp_el0
	mov x20, #FRAME_META_TYPE_FINAL
	msr pan, #1
	.else
	add x21, sp, #PT_REGS_SIZE
	mov x20, #FRAME_META_TYPE_PT_REGS
	.endif
	mrs x22, elr_el1
	mrs x23, spsr_el1
	stp x30, x21, [sp, #S_LR]
	stp x22, x23, [sp, #S_PC]
	mov w21, #-1
	str w21, [sp, #S_SYSCALLNO]
	stp xzr, xzr, [sp, #S_STACKFRAME]
	str x20, [sp, #S_STACKFRAME_TYPE]
	add x29, sp, #S_STACKFRAME
.endm

.macro kernel_exit el
	msr daifset, #0xf
	ldp x21, x22, [sp, #S_PC]
	msr elr_el1, x21
	msr spsr_el1, x22
	.if \el == 0
	ldr x23, [sp, #S_SP]
	msr sp_el0, x23
	.endif
	ldp x0, x1, [sp, #16 * 0]
	ldp x2, x3, [sp, #16 * 1]
	ldp x4, x5, [sp, #16 * 2]
	ldp x6, x7, [sp, #16 * 3]
	ldp x8, x9, [sp, #16 * 4]
	ldp x10, x11, [sp, #16 * 5]
	ldp x12, x13, [sp, #16 * 6]
	ldp x14, x15, [sp, #16 * 7]
	ldp x16, x17, [sp, #16 * 8]
	ldp x18, x19, [sp, #16 * 9]
	ldp x20, x21, [sp, #16 * 10]
	ldp x22, x23, [sp, #16 * 11]
	ldp x24, x25, [sp, #16 * 12]
	ldp x26, x27, [sp, #16 * 13]
	ldp x28, x29, [sp, #16 * 14]
	ldr x30, [sp, #S_LR]
	add sp, sp, #PT_REGS_SIZE
	eret
.endm

.macro entry_handler el, name, handler
FUNC \name
	kernel_entry \el
	mov x0, sp
	bl \handler
	.if \el == 0
	b ret_to_user
	.else
	b ret_to_kernel
	.endif
END \name
.endm

entry_handler 1, el1h_64_sync, el1h_64_sync_handler
entry_handler 1, el1h_64_irq, el1h_64_irq_handler
entry_handler 1, el1t_64_bad, el1_bad_handler
entry_handler 1, el1h_64_bad, el1_bad_handler
entry_handler 0, el0t_64_sync, el0t_64_sync_handler
entry_handler 0, el0t_64_irq, el0t_64_irq_handler
entry_handler 0, el0t_64_bad, el0_bad_handler

FUNC ret_to_kernel
	kernel_exit 1
END ret_to_kernel

/* sp = the task's struct pt_regs */
FUNC ret_to_user
	kernel_exit 0
END ret_to_user

/* x0 = struct pt_regs, x1 = what to call with it on this CPU's interrupt stack; the frame record leads back */
FUNC call_on_irq_stack
	stp x29, x30, [sp, #-16]!
	mov x29, sp
	adr_this_cpu x16, irq_stack_ptr, x17
	ldr x16, [x16]
	add sp, x16, #IRQ_STACK_SIZE
	blr x1
	mov sp, x29
	ldp x29, x30, [sp], #16
	ret
END call_on_irq_stack

/* Stack overflow: registers go to the CPU's overflow stack, and the report reads the task's stack by itself. */
FUNC __bad_stack
	adr_this_cpu sp, overflow_stack + OVERFLOW_STACK_SIZE, x0
	mrs x0, tpidrro_el0
	sub sp, sp, #PT_REGS_SIZE
	kernel_entry 1
	mrs x0, tpidr_el0
	add x0, x0, #PT_REGS_SIZE
	str x0, [sp, #S_SP]
	mov x0, sp
	bl handle_bad_stack
	brk #1
END __bad_stack

/*
 * A new task starts here. Of a kernel thread x19 = function, x20 = argument, and the stack has no frame above; of a user
 * task x19 = 0 and sp = the struct pt_regs that it returns to user mode with.
 */
FUNC ret_from_fork
	cbnz x19, 1f
	add x29, sp, #S_STACKFRAME
	mov x0, sp
	bl asm_exit_to_user_mode
	b ret_to_user
1:	mov x29, xzr
	mov x30, xzr
	mov x0, x20
	blr x19
	bl do_group_exit
	brk #1
END ret_from_fork

/* Where functions called from outside return to. */
FUNC guest_call_return
	nop
	wfi
	b guest_call_return
END guest_call_return

/* Stubs of functions that are implemented outside come here with their index in x16. */
FUNC kcall_entry
	stp x29, x30, [sp, #-16]!
	mov x29, sp
	adr_this_cpu x17, kcall_mailbox, x9
	mov w16, w16
	str x16, [x17]
	stp x0, x1, [x17, #8]
	stp x2, x3, [x17, #24]
	stp x4, x5, [x17, #40]
	str x29, [x17, #64]
	.globl kcall_trap
	.globl kcall_trap_end
kcall_trap:
	nop
kcall_trap_end:
	adr_this_cpu x17, kcall_mailbox, x9
	ldr x0, [x17, #56]
	ldp x29, x30, [sp], #16
	ret
END kcall_entry

/*
 * arch_bpf_timed_may_goto(): x9 = offset of {count, timestamp} from the program's x25; gives the new count in x9 and
 * keeps x7 and x0..x4, which hold R0..R5. Mirrors arch/arm64/net/bpf_timed_may_goto.S.
 */
FUNC arch_bpf_timed_may_goto
	stp x29, x30, [sp, #-64]!
	mov x29, sp
	stp x7, x0, [sp, #16]
	stp x1, x2, [sp, #32]
	stp x3, x4, [sp, #48]
	add x0, x9, x25
	bl bpf_check_timed_may_goto
	mov x9, x0
	ldp x7, x0, [sp, #16]
	ldp x1, x2, [sp, #32]
	ldp x3, x4, [sp, #48]
	ldp x29, x30, [sp], #64
	ret
END arch_bpf_timed_may_goto

.section ".data..percpu", "aw", @progbits
	.balign 64
.macro PERCPU name, size
	.globl \name
	.type \name, %object
	.size \name, \size
\name:	.skip \size
.endm
PERCPU kcall_mailbox, 128
PERCPU current_task, 8
PERCPU cpu_current_top_of_stack, 8
PERCPU cpu_number, 8
	.balign 16
PERCPU overflow_stack, OVERFLOW_STACK_SIZE
