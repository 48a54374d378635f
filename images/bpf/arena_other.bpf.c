// SPDX-License-Identifier: GPL-2.0-only
/* A second owner of an arena: says where its own lies, and reads through an address it is told. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "bpf_arena_common.h"
#include "bpf_testmod_kfunc.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16);
	__ulong(map_extra, 2ull << 44);
} other SEC(".maps");

__u64 kern_vm_start;
__u64 value;

SEC("syscall")
int where(void *ctx)
{
	kern_vm_start = bpf_kfunc_arena_kern_vm_start(&other);
	return 0;
}

SEC("syscall")
int read_own(void *ctx)
{
	asm volatile("" :: "r"(&other));
	value = bpf_kfunc_read_kern(kern_vm_start + 0x3000);
	return 0;
}

char _license[] SEC("license") = "GPL";
