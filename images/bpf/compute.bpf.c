// SPDX-License-Identifier: GPL-2.0-only
/* Arithmetic and nothing else: what an engine makes of it. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "bpf_experimental.h"

__u32 rounds = 60000;
__u64 result;

SEC("syscall")
int compute(void *ctx)
{
	__u64 a = 0x9e3779b97f4a7c15, b = 1, c = 2;
	__u32 n = rounds, i;

	for (i = 0; i < n && can_loop; i++) {
		a ^= a << 13;
		a ^= a >> 7;
		a ^= a << 17;
		b += a;
		b ^= b >> 31;
		c = c * 0x5851f42d + b;
		c ^= c >> 27;
		a += c;
	}
	result = a ^ b ^ c;
	return 0;
}

char _license[] SEC("license") = "GPL";
