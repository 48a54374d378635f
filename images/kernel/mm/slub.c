// SPDX-License-Identifier: GPL-2.0-only
/* Giving an object back. Mirrors mm/slub.c:kfree() and slab_free_hook(); the allocator itself is outside. */
#include <linux/lockdep.h>
#include <linux/syscalls.h>

/* kcalls */
size_t ksize(const void *object);
void slab_free(const void *object);

__frame void kfree(const void *object)
{
	if (!object)
		return;
	if (unlikely(kernel_features.prove_locking))
		debug_check_no_locks_freed(object, ksize(object));
	slab_free(object);
}
