// SPDX-License-Identifier: GPL-2.0-only
/* What no kernel has, without a guard: a field and a weak kfunc. */
#define SEC(name) __attribute__((section(name), used))

struct not_in_any_kernel {
	int x, y;
} __attribute__((preserve_access_index));

extern int a_missing_kfunc(void) __attribute__((weak, section(".ksyms")));

SEC("syscall")
int field(struct not_in_any_kernel *ctx)
{
	return ctx->y;
}

SEC("syscall")
int kfunc(void *ctx)
{
	return a_missing_kfunc();
}

char _license[] SEC("license") = "GPL";
