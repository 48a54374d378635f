/* SPDX-License-Identifier: GPL-2.0-only */
/* Arena pointers are of address space 1; clang emits the casts between it and the kernel's. */
#ifndef __BPF_ARENA_COMMON_H__
#define __BPF_ARENA_COMMON_H__

#include <bpf/bpf_helpers.h>

#ifndef PAGE_SIZE
#define PAGE_SIZE 4096
#endif

#define __arena __attribute__((address_space(1)))
#define __arena_global __attribute__((address_space(1)))
#define cast_kern(ptr)	/* emitted by the compiler */
#define cast_user(ptr)

extern void __arena *bpf_arena_alloc_pages(void *map, void __arena *addr, __u32 page_cnt, int node_id,
					   __u64 flags) __ksym __weak;
extern void bpf_arena_free_pages(void *map, void __arena *ptr, __u32 page_cnt) __ksym __weak;
extern int bpf_arena_reserve_pages(void *map, void __arena *ptr, __u32 page_cnt) __ksym __weak;

#endif
