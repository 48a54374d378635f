/* SPDX-License-Identifier: GPL-2.0-only */
/* Mirrors arch/x86/include/asm/processor.h: of a task's thread state what a signal frame says of the last fault. */
#ifndef _ASM_PROCESSOR_H
#define _ASM_PROCESSOR_H

struct thread_struct {
	unsigned long cr2;
	unsigned long trap_nr;
	unsigned long error_code;
};

#define MINSIGSTKSZ 2048

#endif
