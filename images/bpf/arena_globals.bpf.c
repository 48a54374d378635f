// SPDX-License-Identifier: GPL-2.0-only
/*
 * Global variables that live in the arena: the loader puts them there before the program runs, at the end of the arena
 * (libbpf 1.7 on kernels that take such an offset) or at its start.
 */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "bpf_experimental.h"
#include "bpf_arena_common.h"
#include "bpf_testmod_kfunc.h"

#define ARENA_PAGES 16

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ARENA_PAGES);
	__ulong(map_extra, 3ull << 44);
} arena SEC(".maps");

struct node {
	__u64 value;
	struct node __arena *next;
};

/* two pages of them; the first one fills a page of its own */
__u64 __arena_global table[PAGE_SIZE / 8] = { 11, 22, [PAGE_SIZE / 8 - 1] = 99 };
__u64 __arena_global counter = 40;
struct node __arena_global head;

__u64 res[8];

SEC("syscall")
int use(void *ctx)
{
	struct node __arena *first = &head;

	res[0] = table[0] + table[1] + table[PAGE_SIZE / 8 - 1];
	counter += 2;
	res[1] = counter;
	first->value += 7;
	first->next = first;
	res[2] = first->next->value;
	res[3] = (__u64)first;
	/* kernel text sees the same memory */
	res[4] = bpf_kfunc_arena_read(&arena, (void __arena *)&counter);
	return 0;
}

/* What is left of the arena besides. */
SEC("syscall")
int allocate(void *ctx)
{
	void __arena *all = bpf_arena_alloc_pages(&arena, NULL, ARENA_PAGES - 2, NUMA_NO_NODE, 0);

	res[5] = (__u64)all;
	res[6] = (__u64)bpf_arena_alloc_pages(&arena, NULL, 1, NUMA_NO_NODE, 0);
	if (all)
		bpf_arena_free_pages(&arena, all, ARENA_PAGES - 2);
	return 0;
}

char _license[] SEC("license") = "GPL";
