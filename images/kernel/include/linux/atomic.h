/* SPDX-License-Identifier: GPL-2.0-only */
/* Atomic operations: locked instructions on x86-64, LSE on arm64. Mirrors include/linux/atomic.h by name. */
#ifndef _LINUX_ATOMIC_H
#define _LINUX_ATOMIC_H

#include <linux/rwsem_types.h>

#define atomic_read(v) __atomic_load_n(&(v)->counter, __ATOMIC_RELAXED)
#define atomic_set(v, i) __atomic_store_n(&(v)->counter, (i), __ATOMIC_RELAXED)
#define atomic_fetch_add(i, v) __atomic_fetch_add(&(v)->counter, (i), __ATOMIC_SEQ_CST)
#define atomic_add_return(i, v) __atomic_add_fetch(&(v)->counter, (i), __ATOMIC_SEQ_CST)
#define atomic_or(i, v) ((void)__atomic_fetch_or(&(v)->counter, (i), __ATOMIC_SEQ_CST))
#define atomic_andnot(i, v) ((void)__atomic_fetch_and(&(v)->counter, ~(__typeof__((v)->counter))(i), __ATOMIC_SEQ_CST))
/* `old` is what to expect and, where it is not there, gets what is */
#define atomic_try_cmpxchg(v, old, new) \
	__atomic_compare_exchange_n(&(v)->counter, (old), (new), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#define smp_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define smp_store_release(p, x) __atomic_store_n((p), (x), __ATOMIC_RELEASE)

#endif
