// SPDX-License-Identifier: GPL-2.0-only
/* Variables that boot fills in. */
#include <linux/bpf.h>
#include <linux/kcall.h>
#include <linux/syscalls.h>

struct kernel_features kernel_features;
struct mm_struct init_mm;
unsigned long bpf_jit_start, bpf_jit_end;
unsigned long __per_cpu_offset[NR_CPUS];

/* they do not return, so their callers leave no description of them */
KCALL(do_task_dead);
