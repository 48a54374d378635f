// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module `bpf_testmod`: kfuncs that touch arena memory as kernel code does, with plain loads and stores.
 * The contract is Documentation/bpf/kfuncs.rst 2.8: at most GUARD_SZ / 2 behind a handed-in pointer.
 */
#include <linux/bpf.h>
#include <linux/syscalls.h>

static __always_inline volatile u64 *arena_kaddr(void *p__map, void *addr, s64 off)
{
	return (volatile u64 *)(bpf_arena_map_kern_vm_start(p__map) + (u32)(uintptr_t)addr + off);
}

__bpf_kfunc u64 bpf_kfunc_arena_read(void *p__map, void *addr__ign)
{
	return *arena_kaddr(p__map, addr__ign, 0);
}

__bpf_kfunc void bpf_kfunc_arena_write(void *p__map, void *addr__ign, u64 val)
{
	*arena_kaddr(p__map, addr__ign, 0) = val;
}

__bpf_kfunc u64 bpf_kfunc_arena_read_off(void *p__map, void *addr__ign, s64 off)
{
	return *arena_kaddr(p__map, addr__ign, off);
}

__bpf_kfunc void bpf_kfunc_arena_write_off(void *p__map, void *addr__ign, s64 off, u64 val)
{
	*arena_kaddr(p__map, addr__ign, off) = val;
}

__bpf_kfunc s64 bpf_kfunc_arena_read_nofault(void *p__map, void *addr__ign)
{
	u64 val = 0;
	long err = copy_from_kernel_nofault(&val, (const void *)arena_kaddr(p__map, addr__ign, 0), sizeof(val));

	return err ? err : (s64)val;
}

__bpf_kfunc u64 bpf_kfunc_arena_kern_vm_start(void *p__map)
{
	return bpf_arena_map_kern_vm_start(p__map);
}

__bpf_kfunc u64 bpf_kfunc_read_kern(u64 kaddr)
{
	return *(volatile u64 *)kaddr;
}

__bpf_kfunc void bpf_kfunc_write_kern(u64 kaddr, u64 val)
{
	*(volatile u64 *)kaddr = val;
}
