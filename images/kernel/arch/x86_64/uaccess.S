/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Copies that may fault. Mirrors arch/x86/lib/copy_user_64.S, getuser.S and include/asm/uaccess.h.
 * rdi = to, rsi = from, rdx = length; result in rax: bytes not copied.
 */
#define __ASSEMBLY__
#include <asm/extable.h>
#include <asm/linkage.h>

.text
/* rep movsb leaves what is left in rcx: the fixup only has to return it */
FUNC rep_movs_alternative
	pushq %rbp
	movq %rsp, %rbp
	movq %rdx, %rcx
	stac
0:	rep movsb
1:	clac
	movq %rcx, %rax
	popq %rbp
	ret
	_ASM_EXTABLE_TYPE(0b, 1b, EX_TYPE_UACCESS)
END rep_movs_alternative

/* Single accesses to kernel memory that may not be there; result 0, or -EFAULT with a zero where the value goes. */
/* rdi = where the value goes, rsi = address that may fault */
.macro GET name, mov, reg
FUNC \name
	pushq %rbp
	movq %rsp, %rbp
	xorl %eax, %eax
0:	\mov (%rsi), \reg
	\mov \reg, (%rdi)
1:	popq %rbp
	ret
2:	\mov $0, (%rdi)
	movq $-14, %rax
	jmp 1b
	_ASM_EXTABLE_TYPE(0b, 2b, EX_TYPE_DEFAULT)
END \name
.endm
/* rdi = address that may fault, rsi = the value's place */
.macro PUT name, mov, reg
FUNC \name
	pushq %rbp
	movq %rsp, %rbp
	xorl %eax, %eax
	\mov (%rsi), \reg
0:	\mov \reg, (%rdi)
1:	popq %rbp
	ret
2:	movq $-14, %rax
	jmp 1b
	_ASM_EXTABLE_TYPE(0b, 2b, EX_TYPE_DEFAULT)
END \name
.endm

GET __get_kernel_nofault_8, movq, %rdx
GET __get_kernel_nofault_1, movb, %dl
PUT __put_kernel_nofault_8, movq, %rdx
PUT __put_kernel_nofault_1, movb, %dl
