/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Entry from exceptions and system calls, and the gate to functions implemented outside.
 * Mirrors arch/x86/entry/entry_64.S (frame-pointer build: rbp holds pt_regs + 1 across an exception).
 * Left out: page-table isolation, FRED, paranoid entries with a gs check by MSR, and interrupts of devices.
 */
#define __ASSEMBLY__
#include "regs.h"
#include <asm/linkage.h>

#define __USER_DS 0x2b
#define __USER_CS 0x33

.macro PUSH_REGS rax=%rax
	pushq %rdi
	pushq %rsi
	pushq %rdx
	pushq %rcx
	pushq \rax
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
.endm
.macro POP_REGS
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rax
	popq %rcx
	popq %rdx
	popq %rsi
	popq %rdi
.endm

.text

/* \has_error: the CPU pushed an error code, it goes to the second argument and orig_ax becomes -1 */
.macro IDTENTRY name, handler, has_error
FUNC \name
	clac
	cld
	.if \has_error == 0
	pushq $-1
	.endif
	testb $3, 16(%rsp)
	jz 1f
	swapgs
1:	PUSH_REGS
	leaq 1(%rsp), %rbp
	xorl %ebx, %ebx
	movq %rsp, %rdi
	.if \has_error
	movq ORIG_RAX(%rsp), %rsi
	movq $-1, ORIG_RAX(%rsp)
	.endif
	call \handler
	jmp error_return
END \name
.endm

IDTENTRY asm_exc_divide_error, exc_divide_error, 0
IDTENTRY asm_exc_debug, exc_debug, 0
IDTENTRY asm_exc_nmi, exc_nmi, 0
IDTENTRY asm_exc_int3, exc_int3, 0
IDTENTRY asm_exc_overflow, exc_overflow, 0
IDTENTRY asm_exc_bounds, exc_bounds, 0
IDTENTRY asm_exc_device_not_available, exc_device_not_available, 0
IDTENTRY asm_exc_coprocessor_error, exc_coprocessor_error, 0
IDTENTRY asm_exc_simd_coprocessor_error, exc_simd_coprocessor_error, 0
IDTENTRY asm_exc_invalid_tss, exc_invalid_tss, 1
IDTENTRY asm_exc_segment_not_present, exc_segment_not_present, 1
IDTENTRY asm_exc_alignment_check, exc_alignment_check, 1
IDTENTRY asm_exc_invalid_op, exc_invalid_op, 0
IDTENTRY asm_exc_stack_segment, exc_stack_segment, 1
IDTENTRY asm_exc_general_protection, exc_general_protection, 1
IDTENTRY asm_exc_page_fault, exc_page_fault, 1
IDTENTRY asm_exc_double_fault, exc_double_fault, 1
IDTENTRY asm_sysvec_apic_timer_interrupt, sysvec_apic_timer_interrupt, 0
IDTENTRY asm_sysvec_call_function_single, sysvec_call_function_single, 0
IDTENTRY asm_sysvec_irq_work, sysvec_irq_work, 0
IDTENTRY asm_sysvec_reschedule_ipi, sysvec_reschedule_ipi, 0

FUNC error_return
	testb $3, CS(%rsp)
	jz 1f
	swapgs
1:	POP_REGS
	addq $8, %rsp
	iretq
END error_return

FUNC entry_SYSCALL_64
	swapgs
	movq %rsp, %gs:user_rsp_scratch
	movq %gs:cpu_current_top_of_stack, %rsp
	pushq $__USER_DS
	pushq %gs:user_rsp_scratch
	pushq %r11
	pushq $__USER_CS
	pushq %rcx
	.globl entry_SYSCALL_64_after_hwframe
	.type entry_SYSCALL_64_after_hwframe, @function
entry_SYSCALL_64_after_hwframe:
	pushq %rax
	PUSH_REGS rax=$-38
	movq %rsp, %rdi
	movslq %eax, %rsi
	xorl %ebp, %ebp
	xorl %ebx, %ebx
	call do_syscall_64
	testb %al, %al
	jz error_return
	POP_REGS
	addq $8, %rsp
	movq (%rsp), %rcx
	movq 16(%rsp), %r11
	movq 24(%rsp), %rsp
	swapgs
	sysretq
	.size entry_SYSCALL_64_after_hwframe, . - entry_SYSCALL_64_after_hwframe
END entry_SYSCALL_64

/*
 * A new task starts here. Of a kernel thread rbx = function, r12 = argument, and the stack has no frame above; of a user
 * task rbx = 0 and rsp = the struct pt_regs that it returns to user mode with.
 */
FUNC ret_from_fork_asm
	xorl %ebp, %ebp
	movq %rsp, %rdi
	movq %rbx, %rsi
	movq %r12, %rdx
	call ret_from_fork
	jmp error_return
END ret_from_fork_asm

/* Where functions called from outside return to. */
FUNC guest_call_return
	nop
	hlt
	jmp guest_call_return
END guest_call_return

/* Stubs of functions that are implemented outside come here with their index in eax. */
FUNC kcall_entry
	pushq %rbp
	movq %rsp, %rbp
	movl %eax, %eax
	movq %rax, %gs:kcall_mailbox
	movq %rdi, %gs:kcall_mailbox+8
	movq %rsi, %gs:kcall_mailbox+16
	movq %rdx, %gs:kcall_mailbox+24
	movq %rcx, %gs:kcall_mailbox+32
	movq %r8, %gs:kcall_mailbox+40
	movq %r9, %gs:kcall_mailbox+48
	movq %rbp, %gs:kcall_mailbox+64
	.globl kcall_trap
	.globl kcall_trap_end
kcall_trap:
	nop
kcall_trap_end:
	movq %gs:kcall_mailbox+56, %rax
	popq %rbp
	ret
END kcall_entry

/*
 * arch_bpf_timed_may_goto(): r10 = offset of {count, timestamp} from the program's rbp; gives the new count in r10
 * and keeps rax, rdi, rsi, rdx, rcx, r8, which hold R0..R5. Mirrors arch/x86/net/bpf_timed_may_goto.S.
 */
FUNC arch_bpf_timed_may_goto
	addq %rbp, %r10
	pushq %rbp
	movq %rsp, %rbp
	pushq %rax
	pushq %rdi
	pushq %rsi
	pushq %rdx
	pushq %rcx
	pushq %r8
	movq %r10, %rdi
	call bpf_check_timed_may_goto
	movq %rax, %r10
	popq %r8
	popq %rcx
	popq %rdx
	popq %rsi
	popq %rdi
	popq %rax
	popq %rbp
	ret
END arch_bpf_timed_may_goto

.section ".data..percpu", "aw", @progbits
	.balign 64
.macro PERCPU name, size
	.globl \name
	.type \name, @object
	.size \name, \size
\name:	.skip \size
.endm
PERCPU kcall_mailbox, 128
PERCPU current_task, 8
PERCPU cpu_current_top_of_stack, 8
PERCPU user_rsp_scratch, 8
PERCPU cpu_number, 8
