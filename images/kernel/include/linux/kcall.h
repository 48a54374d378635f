/* SPDX-License-Identifier: GPL-2.0-only */
/* Functions implemented outside that the compiler would not describe on its own: it does so only for direct calls. */
#ifndef _LINUX_KCALL_H
#define _LINUX_KCALL_H

/* The pointer's type carries the prototype into DWARF, its value makes the symbol needed. */
#define KCALL(f) __attribute__((used)) static __typeof__(f) *const __kcall_##f = f

#endif
