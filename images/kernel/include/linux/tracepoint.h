/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints: lists of functions to call. Mirrors include/linux/tracepoint.h and tracepoint-defs.h. Instead of a static
 * key the list itself is looked at; it is made outside and is never changed while a task may be walking it.
 */
#ifndef _LINUX_TRACEPOINT_H
#define _LINUX_TRACEPOINT_H

#include <linux/types.h>

struct tracepoint_func {
	void *func;	/* NULL ends a list */
	void *data;	/* its first argument */
};

struct tracepoint {
	const char *name;
	void *probestub;	/* the function for BPF programs: __bpf_trace_<name>() */
	struct tracepoint_func *funcs;	/* NULL: nobody listens */
};

#define DECLARE_TRACE(name, proto, data_proto)					\
	extern struct tracepoint __tracepoint_##name;				\
	typedef void (*btf_trace_##name) data_proto;				\
	void __traceiter_##name proto

#define trace_enabled(name) unlikely(READ_ONCE(__tracepoint_##name.funcs))

#endif
