// SPDX-License-Identifier: GPL-2.0-only
/* The timer of the local APIC. Mirrors arch/x86/kernel/apic/apic.c; it is programmed by nobody and fires by itself. */
#include <asm/idtentry.h>

DEFINE_IDTENTRY_SYSVEC(sysvec_apic_timer_interrupt)
{
	(void)regs;
	hrtimer_interrupt();
}
