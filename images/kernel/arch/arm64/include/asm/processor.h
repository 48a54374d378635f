/* SPDX-License-Identifier: GPL-2.0-only */
/* Mirrors arch/arm64/include/asm/processor.h: of a task's thread state what a signal frame says of the last fault. */
#ifndef _ASM_PROCESSOR_H
#define _ASM_PROCESSOR_H

struct thread_struct {
	unsigned long fault_address;
	unsigned long fault_code;	/* ESR_EL1 */
};

#define MINSIGSTKSZ 5120

#endif
