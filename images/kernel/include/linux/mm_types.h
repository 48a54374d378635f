/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory-management structures that guest text or BPF reads. Mirrors include/linux/mm_types.h and vmalloc.h. */
#ifndef _LINUX_MM_TYPES_H
#define _LINUX_MM_TYPES_H

#include <linux/rwsem_types.h>

struct pt_regs;

typedef struct { u64 pte; } pte_t;
typedef struct { u64 pmd; } pmd_t;
typedef struct { u64 pud; } pud_t;
typedef struct { u64 p4d; } p4d_t;
typedef struct { u64 pgd; } pgd_t;
typedef u32 vm_fault_t;

struct page {
	unsigned long flags;
	struct list_head lru;
	void *mapping;
	unsigned long index;
	unsigned long private;
	atomic_t _mapcount;
	atomic_t _refcount;
	unsigned long memcg_data;
};

struct mm_struct {
	pgd_t *pgd;
	atomic_t mm_users;
	atomic_t mm_count;
	int map_count;
	unsigned int mm_lock_seq;	/* odd while mmap_lock is held for writing */
	struct rw_semaphore mmap_lock;
	struct task_struct *vma_writer_wait;	/* rcuwait: who waits for the readers of a VMA */
	unsigned long task_size;
	unsigned long start_brk;
	unsigned long brk;
	unsigned long start_stack;
	unsigned long mmap_base;
	unsigned long vdso_sigtramp;	/* context.vdso: where a handler returns to, arm64 */
};

struct vm_operations_struct;
struct file;

struct vm_area_struct {
	unsigned long vm_start;
	unsigned long vm_end;
	struct mm_struct *vm_mm;
	unsigned long vm_flags;
	unsigned int vm_lock_seq;	/* write-locked while equal to mm_lock_seq */
	atomic_t vm_refcnt;		/* 0 detached, 1 attached, one more for each reader, VMA_LOCK_OFFSET for a writer */
	struct lockdep_map vmlock_dep_map;
	unsigned long vm_pgoff;
	const struct vm_operations_struct *vm_ops;
	struct file *vm_file;
	void *vm_private_data;
};

struct vm_struct {
	struct vm_struct *next;
	void *addr;
	unsigned long size;
	unsigned long flags;
	struct page **pages;
	unsigned int nr_pages;
};

#define VM_READ 0x1UL
#define VM_WRITE 0x2UL
#define VM_EXEC 0x4UL
#define VM_GROWSDOWN 0x100UL

#define VM_FAULT_OOM 0x1
#define VM_FAULT_SIGBUS 0x2
#define VM_FAULT_MAJOR 0x4
#define VM_FAULT_HWPOISON 0x10
#define VM_FAULT_HWPOISON_LARGE 0x20
#define VM_FAULT_SIGSEGV 0x40
#define VM_FAULT_RETRY 0x400
#define VM_FAULT_FALLBACK 0x800
#define VM_FAULT_COMPLETED 0x4000
#define VM_FAULT_ERROR (VM_FAULT_OOM | VM_FAULT_SIGBUS | VM_FAULT_SIGSEGV | VM_FAULT_HWPOISON | \
			VM_FAULT_HWPOISON_LARGE | VM_FAULT_FALLBACK)

#define FAULT_FLAG_WRITE 0x1
#define FAULT_FLAG_ALLOW_RETRY 0x4
#define FAULT_FLAG_KILLABLE 0x10
#define FAULT_FLAG_TRIED 0x20
#define FAULT_FLAG_USER 0x40
#define FAULT_FLAG_INSTRUCTION 0x100
#define FAULT_FLAG_INTERRUPTIBLE 0x200
#define FAULT_FLAG_VMA_LOCK 0x1000
#define FAULT_FLAG_DEFAULT (FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE | FAULT_FLAG_INTERRUPTIBLE)

extern struct mm_struct init_mm;

typedef int (*pte_fn_t)(pte_t *pte, unsigned long addr, void *data);
int apply_to_page_range(struct mm_struct *mm, unsigned long addr, unsigned long size, pte_fn_t fn, void *data);
int apply_to_existing_page_range(struct mm_struct *mm, unsigned long addr, unsigned long size, pte_fn_t fn,
				 void *data);

/* kcalls: page tables, pages, faults */
pte_t *pte_alloc_kernel(struct mm_struct *mm, unsigned long addr);
void __free_page(struct page *page);
void flush_tlb_kernel_range(unsigned long start, unsigned long end);
vm_fault_t __handle_mm_fault(struct vm_area_struct *vma, unsigned long address, unsigned int flags,
			     struct pt_regs *regs);
/* the VMA that holds `addr` or NULL; the first that ends above it or NULL; 0 or -ENOMEM */
struct vm_area_struct *mas_walk_vma(struct mm_struct *mm, unsigned long addr);
struct vm_area_struct *find_vma(struct mm_struct *mm, unsigned long addr);
int expand_stack_locked(struct vm_area_struct *vma, unsigned long addr);
bool kfence_handle_page_fault(unsigned long addr, bool is_write, struct pt_regs *regs);
void pagefault_out_of_memory(void);

/* mm/memory.c */
vm_fault_t handle_mm_fault(struct vm_area_struct *vma, unsigned long address, unsigned int flags,
			   struct pt_regs *regs);

#endif
