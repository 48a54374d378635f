/* SPDX-License-Identifier: GPL-2.0-only */
/* CO-RE: fields found by name at load time. */
#ifndef __BPF_CORE_READ_H__
#define __BPF_CORE_READ_H__

#define bpf_core_field_exists(field) __builtin_preserve_field_info(field, 2)
#define bpf_core_field_offset(field) __builtin_preserve_field_info(field, 0)
#define bpf_core_field_size(field) __builtin_preserve_field_info(field, 1)
#define bpf_core_type_exists(type) __builtin_preserve_type_info(*(__typeof__(type) *)0, 0)
#define bpf_core_type_size(type) __builtin_preserve_type_info(*(__typeof__(type) *)0, 1)
#define bpf_core_read(dst, size, src) \
	bpf_probe_read_kernel(dst, size, (const void *)__builtin_preserve_access_index(src))

#endif
