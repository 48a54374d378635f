// SPDX-License-Identifier: GPL-2.0-only
/*
 * mmap_lock and the locks of single VMAs. Mirrors mm/mmap_lock.c of 6.18. Left out: lock_next_vma(), counters,
 * tracepoints, freeing an mm with its last reference (mmdrop() only counts).
 *
 * Decision points of the per-VMA lock, besides those of mmap_lock itself: between the reader's first look at the
 * sequence number and its reference, between that and the second look; after a reference is dropped; before a writer
 * announces itself; each sleep and wake-up.
 */
#include <linux/mmap_lock.h>
#include <linux/rcupdate.h>
#include <asm/extable.h>
#include <asm/ptrace.h>

/* how lockdep knows the two locks of every mm */
struct lock_class_key mmap_lock_key, vma_lock_key;
const char mmap_lock_name[] = "&mm->mmap_lock";
const char vma_lock_name[] = "vm_lock";

/* -- mmap_lock --------------------------------------------------------------------------------------------------- */

__frame void mmap_read_lock(struct mm_struct *mm)
{
	down_read(&mm->mmap_lock);
}

__frame int mmap_read_lock_killable(struct mm_struct *mm)
{
	return down_read_killable(&mm->mmap_lock);
}

__frame bool mmap_read_trylock(struct mm_struct *mm)
{
	return down_read_trylock(&mm->mmap_lock);
}

__frame void mmap_read_unlock(struct mm_struct *mm)
{
	up_read(&mm->mmap_lock);
}

/* The inline functions under their own names, for callers outside. */
#define OUTSIDE(result, name, type)		\
	result (name)(type arg);		\
	__frame __used result (name)(type arg)	\
	{					\
		return inline_##name(arg);	\
	}

OUTSIDE(void, mmap_write_lock, struct mm_struct *)
OUTSIDE(int, mmap_write_lock_killable, struct mm_struct *)
OUTSIDE(bool, mmap_write_trylock, struct mm_struct *)
OUTSIDE(void, mmap_write_unlock, struct mm_struct *)
OUTSIDE(void, mmap_write_downgrade, struct mm_struct *)
OUTSIDE(void, vma_start_write, struct vm_area_struct *)

/* -- writers of a VMA -------------------------------------------------------------------------------------------- */

/* Wait until nobody but `left` (1: the tree that it is attached to) refers to the VMA; false where it was detached. */
static __always_inline bool __vma_enter_locked(struct vm_area_struct *vma, int left)
{
	struct mm_struct *mm = vma->vm_mm;
	int refs;

	sched_point();
	refs = atomic_read(&vma->vm_refcnt);
	do {
		if (!refs)
			return false;
	} while (!atomic_try_cmpxchg(&vma->vm_refcnt, &refs, refs + VMA_LOCK_OFFSET));
	rwsem_acquire(&vma->vmlock_dep_map, 0, 0, _RET_IP_);
	WRITE_ONCE(mm->vma_writer_wait, current);
	for (;;) {
		set_current_state(TASK_UNINTERRUPTIBLE);
		if (atomic_read(&vma->vm_refcnt) == VMA_LOCK_OFFSET + left)
			break;
		schedule();
	}
	WRITE_ONCE(mm->vma_writer_wait, NULL);
	__set_current_state(TASK_RUNNING);
	return true;
}

static __always_inline void __vma_exit_locked(struct vm_area_struct *vma)
{
	atomic_fetch_add(-VMA_LOCK_OFFSET, &vma->vm_refcnt);
	rwsem_release(&vma->vmlock_dep_map, _RET_IP_);
}

__frame void __vma_start_write(struct vm_area_struct *vma, unsigned int mm_lock_seq)
{
	bool locked = __vma_enter_locked(vma, 1);

	WRITE_ONCE(vma->vm_lock_seq, mm_lock_seq);
	if (locked)
		__vma_exit_locked(vma);
}

__frame __used void vma_mark_attached(struct vm_area_struct *vma)
{
	smp_store_release(&vma->vm_refcnt.counter, 1);
}

/* The VMA is write-locked. Readers that have not yet seen that leave soon. */
__frame __used void vma_mark_detached(struct vm_area_struct *vma)
{
	if (atomic_add_return(-1, &vma->vm_refcnt) && __vma_enter_locked(vma, 0))
		__vma_exit_locked(vma);
}

/* -- readers of a VMA -------------------------------------------------------------------------------------------- */

__frame void vma_refcount_put(struct vm_area_struct *vma)
{
	struct mm_struct *mm = vma->vm_mm;	/* the VMA may be gone once it is dropped */
	struct task_struct *writer;
	int refs;

	rwsem_release(&vma->vmlock_dep_map, _RET_IP_);
	refs = atomic_add_return(-1, &vma->vm_refcnt);
	sched_point();
	/* only the writer is left */
	if (refs & VMA_LOCK_OFFSET && refs <= VMA_LOCK_OFFSET + 1) {
		writer = READ_ONCE(mm->vma_writer_wait);
		if (writer)
			wake_up_process(writer);
	}
}

__frame void vma_end_read(struct vm_area_struct *vma)
{
	vma_refcount_put(vma);
}

#define VMA_DETACHED ((struct vm_area_struct *)-EAGAIN)

/*
 * Within an RCU read section, which goes on where it succeeds and has ended where not. NULL: someone writes, or may;
 * VMA_DETACHED: the VMA is no longer the tree's.
 */
static __always_inline struct vm_area_struct *vma_start_read(struct mm_struct *mm, struct vm_area_struct *vma)
{
	struct mm_struct *other;
	int refs;

	/* without the lock: saves the reference where it would be in vain */
	if (READ_ONCE(vma->vm_lock_seq) == READ_ONCE(mm->mm_lock_seq)) {
		rcu_read_unlock();
		return NULL;
	}
	sched_point();
	refs = atomic_read(&vma->vm_refcnt);
	do {
		if (!refs || refs + 1 > VMA_REF_LIMIT) {
			rcu_read_unlock();
			return refs ? NULL : VMA_DETACHED;
		}
	} while (!atomic_try_cmpxchg(&vma->vm_refcnt, &refs, refs + 1));
	rwsem_acquire_read(&vma->vmlock_dep_map, 0, 1, _RET_IP_);
	sched_point();
	if (unlikely(vma->vm_mm != mm)) {
		/* it was freed and serves another mm, which must outlive the wake-up of its writer */
		other = vma->vm_mm;
		rcu_read_unlock();
		atomic_fetch_add(1, &other->mm_count);
		vma_refcount_put(vma);
		atomic_fetch_add(-1, &other->mm_count);
		return NULL;
	}
	/* no writer can get in from here on; one that was in before has left its number */
	if (unlikely(vma->vm_lock_seq == smp_load_acquire(&mm->mm_lock_seq))) {
		vma_refcount_put(vma);
		rcu_read_unlock();
		return NULL;
	}
	return vma;
}

__frame struct vm_area_struct *lock_vma_under_rcu(struct mm_struct *mm, unsigned long address)
{
	struct vm_area_struct *vma;

	do {
		rcu_read_lock();
		vma = mas_walk_vma(mm, address);
		if (!vma) {
			rcu_read_unlock();
			return NULL;
		}
		vma = vma_start_read(mm, vma);
	} while (vma == VMA_DETACHED);
	if (!vma)
		return NULL;
	rcu_read_unlock();
	/* it may have shrunk or moved between lookup and lock */
	if (unlikely(address < vma->vm_start || address >= vma->vm_end)) {
		vma_end_read(vma);
		return NULL;
	}
	return vma;
}

/* -- faults ------------------------------------------------------------------------------------------------------ */

/* A kernel-mode fault without a fixup is a bug, maybe one that happened with mmap_lock held: it must not wait. */
static __always_inline bool may_wait(struct pt_regs *regs)
{
	return !regs || user_mode(regs) || search_exception_tables(exception_ip(regs));
}

/* With mmap_lock held for reading; NULL without it. */
__frame struct vm_area_struct *lock_mm_and_find_vma(struct mm_struct *mm, unsigned long addr, struct pt_regs *regs)
{
	struct vm_area_struct *vma;

	if (!mmap_read_trylock(mm) && (!may_wait(regs) || mmap_read_lock_killable(mm)))
		return NULL;
	vma = find_vma(mm, addr);
	if (likely(vma && vma->vm_start <= addr))
		return vma;
	if (!vma || !(vma->vm_flags & VM_GROWSDOWN)) {
		mmap_read_unlock(mm);
		return NULL;
	}
	/* a stack that may grow: that needs the lock for writing, and a second look */
	mmap_read_unlock(mm);
	if (!may_wait(regs) || mmap_write_lock_killable(mm))
		return NULL;
	vma = find_vma(mm, addr);
	if (!vma || (vma->vm_start > addr && (!(vma->vm_flags & VM_GROWSDOWN) || expand_stack_locked(vma, addr)))) {
		mmap_write_unlock(mm);
		return NULL;
	}
	mmap_write_downgrade(mm);
	return vma;
}
