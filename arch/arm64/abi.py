"""How code of this architecture hands things over: system calls and the registers of a task that enters the kernel.

Mirrors AAPCS64 as arch/arm64/kernel/syscall.c uses it, and asm/syscall_wrapper.h.
"""

from __future__ import annotations

SYS_PREFIX = "__arm64_"  # of the functions that SYSCALL_DEFINE makes
# members of struct pt_regs: a system call's result (the first word of the member), and the user stack pointer
RESULT_MEMBER, STACK_MEMBER = "regs", "sp"
