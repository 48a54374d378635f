// SPDX-License-Identifier: GPL-2.0-only
/* The current task's stack into the log. Mirrors lib/dump_stack.c, and arm64's show_stack(). */
#include <linux/lockdep.h>

/* kcall: who, and the trace from its caller on */
void __dump_stack(void);

#ifdef __aarch64__
/* out of line there, and not left out of the trace */
static __frame void show_stack(void)
{
	__dump_stack();
}
#else
#define show_stack() __dump_stack()
#endif

__frame void dump_stack_lvl(void)
{
	show_stack();
}
