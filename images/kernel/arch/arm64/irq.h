/* SPDX-License-Identifier: GPL-2.0-only */
/* From the vector to the handler of an interrupt: irq.c and smp.c. */
#ifndef _ARM64_IRQ_H
#define _ARM64_IRQ_H

struct pt_regs;

void gic_handle_irq(struct pt_regs *regs);
void do_interrupt_handler(struct pt_regs *regs, void (*handler)(struct pt_regs *regs));
void ipi_handler(int ipinr);

#endif
