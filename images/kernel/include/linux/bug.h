/* SPDX-License-Identifier: GPL-2.0-only */
/* BUG() and WARN(): a trapping instruction and an entry that says where. Mirrors include/asm-generic/bug.h. */
#ifndef _LINUX_BUG_H
#define _LINUX_BUG_H

#include <asm/bug.h>

#define BUGFLAG_WARNING 1

/* struct bug_entry: {s32 address, s32 file, u16 line, u16 flags}, relative addresses */
#define __BUG_ENTRY(flags)						\
	".pushsection \"__bug_table\", \"aw\"\n"			\
	".balign 4\n"							\
	".long 1b - .\n"						\
	".long %c0 - .\n"						\
	".short %c1\n"							\
	".short " #flags "\n"						\
	".popsection\n"

#define _BUG_FLAGS(flags)						\
	__asm__ __volatile__("1: " ASM_BUG "\n" __BUG_ENTRY(flags)	\
			     : : "i"(__FILE_NAME__), "i"(__LINE__))

#define BUG() do { _BUG_FLAGS(0); __builtin_unreachable(); } while (0)
#define __WARN() _BUG_FLAGS(1)

#endif
