/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Copies that may fault. Mirrors arch/arm64/lib/copy_{from,to}_user.S and include/asm/uaccess.h: user memory is
 * reached by the unprivileged loads and stores, so PAN stays on.
 */
#define __ASSEMBLY__
#include <asm/extable.h>
#include <asm/linkage.h>

#define NO_REGS (31 | 31 << 5)
#define ERR_X0 (0 | 31 << 5)

.text
/* x0 = to, x1 = from, x2 = length; result: bytes not copied */
FUNC __arch_copy_from_user
	stp x29, x30, [sp, #-16]!
	mov x29, sp
	cbz x2, 2f
1:	ldtrb w3, [x1]
	strb w3, [x0], #1
	add x1, x1, #1
	subs x2, x2, #1
	b.ne 1b
2:	mov x0, x2
	ldp x29, x30, [sp], #16
	ret
	_ASM_EXTABLE_TYPE(1b, 2b, EX_TYPE_UACCESS_ERR_ZERO, NO_REGS)
END __arch_copy_from_user

FUNC __arch_copy_to_user
	stp x29, x30, [sp, #-16]!
	mov x29, sp
	cbz x2, 2f
1:	ldrb w3, [x1], #1
3:	sttrb w3, [x0]
	add x0, x0, #1
	subs x2, x2, #1
	b.ne 1b
2:	mov x0, x2
	ldp x29, x30, [sp], #16
	ret
	_ASM_EXTABLE_TYPE(3b, 2b, EX_TYPE_UACCESS_ERR_ZERO, NO_REGS)
END __arch_copy_to_user

/* Single accesses to kernel memory that may not be there; result 0 or -EFAULT. */
/* x0 = where the value goes, x1 = address that may fault */
.macro GET name, load, store, reg
FUNC \name
	stp x29, x30, [sp, #-16]!
	mov x29, sp
1:	\load \reg, [x1]
	\store \reg, [x0]
	mov x0, xzr
2:	ldp x29, x30, [sp], #16
	ret
	_ASM_EXTABLE_TYPE(1b, 2b, EX_TYPE_KACCESS_ERR_ZERO, ERR_X0)
END \name
.endm
/* x0 = address that may fault, x1 = the value's place */
.macro PUT name, load, store, reg
FUNC \name
	stp x29, x30, [sp, #-16]!
	mov x29, sp
	\load \reg, [x1]
1:	\store \reg, [x0]
	mov x0, xzr
2:	ldp x29, x30, [sp], #16
	ret
	_ASM_EXTABLE_TYPE(1b, 2b, EX_TYPE_KACCESS_ERR_ZERO, ERR_X0)
END \name
.endm

GET __get_kernel_nofault_8, ldr, str, x3
GET __get_kernel_nofault_1, ldrb, strb, w3
PUT __put_kernel_nofault_8, ldr, str, x3
PUT __put_kernel_nofault_1, ldrb, strb, w3
