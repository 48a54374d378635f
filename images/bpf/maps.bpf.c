// SPDX-License-Identifier: GPL-2.0-only
/* Maps, helpers, global data, CO-RE and iterators: what programs without an arena are made of. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "bpf_experimental.h"

struct pair {
	__u32 a;
	__u32 b;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct pair);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} slots SEC(".maps");

const volatile __u32 step = 3;
__u64 out[8];

SEC("syscall")
int array_and_hash(void *ctx)
{
	struct pair init = { .a = 1, .b = 2 }, *found;
	__u32 key = 7;
	__u64 *slot;

	if (bpf_map_update_elem(&counts, &key, &init, BPF_NOEXIST))
		return 1;
	out[0] = bpf_map_update_elem(&counts, &key, &init, BPF_NOEXIST);
	found = bpf_map_lookup_elem(&counts, &key);
	if (!found)
		return 2;
	found->a += step;
	out[1] = found->a;
	out[2] = found->b;
	bpf_map_delete_elem(&counts, &key);
	out[3] = !bpf_map_lookup_elem(&counts, &key);
	key = 2;
	slot = bpf_map_lookup_elem(&slots, &key);
	if (!slot)
		return 3;
	__sync_fetch_and_add(slot, 5);
	out[4] = *slot;
	key = 4;
	out[5] = !bpf_map_lookup_elem(&slots, &key);
	return 0;
}

SEC("syscall")
int iterate(void *ctx)
{
	struct bpf_iter_num it;
	__u64 sum = 0;
	int *v;

	bpf_iter_num_new(&it, 0, 10);
	while ((v = bpf_iter_num_next(&it)))
		sum += *v;
	bpf_iter_num_destroy(&it);
	out[0] = sum;
	return 0;
}

SEC("syscall")
int identity(void *ctx)
{
	char comm[16];

	out[0] = bpf_get_current_pid_tgid() >> 32;
	out[1] = bpf_get_smp_processor_id();
	bpf_get_current_comm(comm, sizeof(comm));
	out[2] = comm[0];
	out[3] = bpf_core_field_exists(((struct task_struct *)0)->comm);
	out[4] = bpf_core_field_size(((struct task_struct *)0)->comm);
	bpf_printk("pid %d comm %s", (int)out[0], comm);
	return 0;
}

char _license[] SEC("license") = "GPL";
