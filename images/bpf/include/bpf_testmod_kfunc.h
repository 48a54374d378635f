/* SPDX-License-Identifier: GPL-2.0-only */
/* kfuncs of module bpf_testmod (images/kernel/modules/bpf_testmod.c): kernel text that touches arena memory. */
#ifndef __BPF_TESTMOD_KFUNC_H__
#define __BPF_TESTMOD_KFUNC_H__

#include "bpf_arena_common.h"

extern __u64 bpf_kfunc_arena_read(void *p__map, void __arena *addr__ign) __ksym;
extern void bpf_kfunc_arena_write(void *p__map, void __arena *addr__ign, __u64 val) __ksym;
extern __u64 bpf_kfunc_arena_read_off(void *p__map, void __arena *addr__ign, __s64 off) __ksym;
extern void bpf_kfunc_arena_write_off(void *p__map, void __arena *addr__ign, __s64 off, __u64 val) __ksym;
extern __s64 bpf_kfunc_arena_read_nofault(void *p__map, void __arena *addr__ign) __ksym;
extern __u64 bpf_kfunc_arena_kern_vm_start(void *p__map) __ksym;
extern __u64 bpf_kfunc_read_kern(__u64 kaddr) __ksym;
extern void bpf_kfunc_write_kern(__u64 kaddr, __u64 val) __ksym;

#endif
