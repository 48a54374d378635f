// SPDX-License-Identifier: GPL-2.0-only
/* Runs a BPF program once: bpf(BPF_PROG_TEST_RUN, attr). The caller fills `attr`; retval comes back in it. */
#include <syscall.h>

#define BPF_PROG_TEST_RUN 10

shared unsigned char attr[128] __attribute__((aligned(8)));
shared unsigned int attr_size = 80;
shared long result;

__attribute__((noreturn)) void _start(void)
{
	result = syscall3(__NR_bpf, BPF_PROG_TEST_RUN, (long)attr, attr_size);
	exit_group(result ? 1 : 0);
}
