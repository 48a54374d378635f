// SPDX-License-Identifier: GPL-2.0-only
/*
 * What becomes of arena pointers in kernel hands. Each program hands an arena address to a kfunc of bpf_testmod, whose
 * body is kernel text, or touches the arena itself; res[] holds what it saw.
 *
 *   [half guard 32K][ 4 GiB window ......................................... ][half guard 32K]
 *    below                pages 0..99 are this arena's: inside, unallocated     upper_guard      beyond
 */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "bpf_experimental.h"
#include "bpf_arena_common.h"
#include "bpf_testmod_kfunc.h"

#define ARENA_START (1ull << 44)
#define ARENA_PAGES 100

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ARENA_PAGES);
	__ulong(map_extra, ARENA_START);
} arena SEC(".maps");

__u64 res[8];
__u64 foreign_kaddr;	/* a kernel address inside another program's arena; set from outside */

static __always_inline void __arena *page(__u32 index)
{
	__u64 addr = ARENA_START + (__u64)index * PAGE_SIZE;

	barrier_var(addr);
	return (void __arena *)addr;
}

/* An allocated page: kernel text and the program see the same memory. */
SEC("syscall")
int inside(void *ctx)
{
	volatile __u64 __arena *p = bpf_arena_alloc_pages(&arena, NULL, 1, NUMA_NO_NODE, 0);

	if (!p)
		return 1;
	bpf_kfunc_arena_write(&arena, (void __arena *)p, 0x1122334455667788);
	res[0] = p[0];
	p[1] = 42;
	res[1] = bpf_kfunc_arena_read_off(&arena, (void __arena *)p, 8);
	bpf_arena_free_pages(&arena, (void __arena *)p, 1);
	return 0;
}

/* Kernel text reads a page that nobody allocated. */
SEC("syscall")
int unallocated_read(void *ctx)
{
	res[0] = bpf_kfunc_arena_read(&arena, page(50) + 0x18);
	res[1] = bpf_kfunc_arena_read(&arena, page(50) + 0x20);
	return 0;
}

/* Kernel text writes to one; what it wrote shows in every scratched page. */
SEC("syscall")
int unallocated_write(void *ctx)
{
	bpf_kfunc_arena_write(&arena, page(60), 0x5c7a7c4);
	res[0] = bpf_kfunc_arena_read(&arena, page(60));
	res[1] = bpf_kfunc_arena_read(&arena, page(61));
	return 0;
}

/* The kfunc is called two BPF functions deep: the report goes to the main program's stream. */
static __noinline int inner(__u32 index)
{
	res[0] = bpf_kfunc_arena_read(&arena, page(index));
	return 0;
}

SEC("syscall")
int from_subprog(void *ctx)
{
	return inner(70);
}

/* At most 32 KiB behind the window: kernel text may get there from a valid pointer, and is recovered. */
SEC("syscall")
int upper_guard(void *ctx)
{
	void __arena *last = page(0xfffff);

	res[0] = bpf_kfunc_arena_read_off(&arena, last, 0x1000 + 0x10);
	bpf_kfunc_arena_write_off(&arena, last, 0x1000 + 0x7ff8, 7);
	res[1] = 1;
	return 0;
}

/* In front of the window: no arena access of a kfunc gets there, so it is another bug. */
SEC("syscall")
int below(void *ctx)
{
	res[0] = bpf_kfunc_arena_read_off(&arena, page(0), -8);
	return 0;
}

/* Behind the half guard. */
SEC("syscall")
int beyond(void *ctx)
{
	res[0] = bpf_kfunc_arena_read_off(&arena, page(0xfffff), 0x1000 + 0x8000);
	return 0;
}

/* Through another program's arena: recovery goes by who is on the stack. */
SEC("syscall")
int foreign(void *ctx)
{
	res[0] = bpf_kfunc_read_kern(foreign_kaddr);
	return 0;
}

/* A fault-safe read fails and installs nothing. */
SEC("syscall")
int nofault(void *ctx)
{
	res[0] = bpf_kfunc_arena_read_nofault(&arena, page(80));
	return 0;
}

/* The program's own instructions: the JIT's exception table, never scratch. */
SEC("syscall")
int own_access(void *ctx)
{
	volatile __u64 __arena *p = page(90);

	asm volatile("" :: "r"(&arena));
	res[0] = 99;
	res[0] = p[1];
	p[2] = 5;
	res[1] = 1;
	return 0;
}

/* A scratched page is allocated later. */
SEC("syscall")
int allocate_scratched(void *ctx)
{
	volatile __u64 __arena *p;

	bpf_kfunc_arena_write(&arena, page(40), 0xdead);
	p = bpf_arena_alloc_pages(&arena, page(40), 1, NUMA_NO_NODE, 0);
	res[0] = !!p;
	p = bpf_arena_alloc_pages(&arena, page(40), 1, NUMA_NO_NODE, 0);
	res[1] = !!p;
	return 0;
}

/* Freeing over scratch clears the entry and frees nothing; the next access faults again. */
SEC("syscall")
int free_scratched(void *ctx)
{
	bpf_kfunc_arena_read(&arena, page(30));
	bpf_kfunc_arena_read(&arena, page(31));
	bpf_arena_free_pages(&arena, page(30), 2);
	bpf_kfunc_arena_read(&arena, page(30));
	res[0] = 1;
	return 0;
}

/* Reserved pages are in nobody's hands until they are freed. */
SEC("syscall")
int reserve(void *ctx)
{
	res[0] = bpf_arena_reserve_pages(&arena, page(10), 4);
	res[1] = bpf_arena_reserve_pages(&arena, page(12), 4);
	res[2] = !!bpf_arena_alloc_pages(&arena, page(11), 1, NUMA_NO_NODE, 0);
	bpf_arena_free_pages(&arena, page(10), 4);
	res[3] = !!bpf_arena_alloc_pages(&arena, page(11), 1, NUMA_NO_NODE, 0);
	return 0;
}

/* Leaves page 20 scratched, for a user-mode access afterwards. */
SEC("syscall")
int scratch_for_user(void *ctx)
{
	bpf_kfunc_arena_read(&arena, page(20));
	return 0;
}

/* One fault a page over `faults` pages: what a recovered fault costs. */
SEC("syscall")
int many_faults(void *ctx)
{
	__u32 i;

	for (i = 0; i < 64 && can_loop; i++)
		bpf_kfunc_arena_write(&arena, page(200 + i), i);
	res[0] = i;
	return 0;
}

char _license[] SEC("license") = "GPL";
