// SPDX-License-Identifier: GPL-2.0-only
/*
 * The part of the arena that touches page tables: recovery of faults, allocation, freeing, reservation.
 * Mirrors kernel/bpf/arena.c after Linux kernel commit dc11a4dba246 ("bpf: Recover arena kernel faults with scratch
 * page") and its fix of 1 June 2026; kernel_features says how much of that the chosen kernel has. Map creation, mmap
 * and the user fault are outside. Left out: the locks.
 */
#include <linux/bpf.h>
#include <asm/pgtable.h>

/* pages that one pass of an allocation gets and maps */
#define BATCH 64

static __always_inline u64 clear_lo32(u64 val)
{
	return val & ~0xffffffffULL;
}

u64 bpf_arena_get_kern_vm_start(struct bpf_arena *arena)
{
	return arena ? (u64)arena->kern_vm->addr + GUARD_SZ / 2 : 0;
}

u64 bpf_arena_get_user_vm_start(struct bpf_arena *arena)
{
	return arena ? arena->user_vm_start : 0;
}

u64 bpf_arena_map_kern_vm_start(struct bpf_map *map)
{
	return map->map_type == BPF_MAP_TYPE_ARENA ?
		bpf_arena_get_kern_vm_start(container_of(map, struct bpf_arena, map)) : 0;
}

static __always_inline long compute_pgoff(struct bpf_arena *arena, long uaddr)
{
	return (u32)(uaddr - (u32)arena->user_vm_start) >> PAGE_SHIFT;
}

static int set_scratch_cb(pte_t *ptep, unsigned long addr, void *data)
{
	(void)addr;
	/* whoever loses the race finds a valid entry: a page, or scratch from another CPU */
	if (pte_none(ptep_get(ptep)))
		ptep_try_set(ptep, mk_pte_kernel(data));
	return 0;
}

noinline bool bpf_arena_handle_page_fault(unsigned long addr, bool is_write, unsigned long fault_ip)
{
	unsigned long page_addr = addr & PAGE_MASK;
	struct bpf_arena *arena;
	struct bpf_prog *prog;
	u64 kbase;

	prog = bpf_prog_find_from_stack();
	if (!prog)
		return false;
	arena = prog->aux->arena;
	if (!arena)
		return false;
	kbase = bpf_arena_get_kern_vm_start(arena);
	if (page_addr < kbase || page_addr >= kbase + SZ_4G + GUARD_SZ / 2)
		return false;
	apply_to_page_range(&init_mm, page_addr, PAGE_SIZE, set_scratch_cb, arena->scratch_page);
	/* the stale absence of an entry costs another fault at most: nothing is flushed */
	(void)fault_ip;
	bpf_prog_report_arena_violation(is_write, page_addr - kbase, prog->aux->ksym.start);
	return true;
}

struct apply_range_data {
	struct page **pages;
	int i;
	struct bpf_arena *arena;
};

static int apply_range_set_cb(pte_t *ptep, unsigned long addr, void *data)
{
	struct apply_range_data *d = data;
	struct bpf_arena *arena = d->arena;
	pte_t new = mk_pte_kernel(d->pages[d->i]);

	while (!ptep_try_set(ptep, new)) {
		pte_t old = ptep_get(ptep);

		if (pte_none(old) && kernel_features.arena_scratch_replace)
			continue;
		if (!kernel_features.arena_scratch_replace || pte_page(old) != arena->scratch_page)
			return -EBUSY;
		/* a fault on another CPU may put scratch back in between: go round again */
		ptep_get_and_clear(ptep);
		flush_tlb_before_set(addr);
	}
	d->i++;
	arena->nr_pages++;
	return 0;
}

struct clear_range_data {
	struct bpf_arena *arena;
	struct page *free_pages;	/* linked by lru.next, the last one taken first */
};

static int apply_range_clear_cb(pte_t *ptep, unsigned long addr, void *data)
{
	struct clear_range_data *d = data;
	pte_t old = ptep_get_and_clear(ptep);
	struct page *page;

	(void)addr;
	if (pte_none(old) || !pte_present(old))
		return 0;
	page = pte_page(old);
	if (page == d->arena->scratch_page)
		return 0;
	page->lru.next = (void *)d->free_pages;
	d->free_pages = page;
	d->arena->nr_pages--;
	return 0;
}

static void free_collected(struct clear_range_data *d)
{
	while (d->free_pages) {
		struct page *page = d->free_pages;

		d->free_pages = (struct page *)page->lru.next;
		__free_page(page);
	}
}

/* Take [kaddr, +page_cnt) out of the kernel's tables, then out of user space, then free the pages. */
static void unmap_and_free(struct bpf_arena *arena, u64 kaddr, long page_cnt, u64 full_uaddr)
{
	struct clear_range_data data = { .arena = arena };

	apply_to_existing_page_range(&init_mm, kaddr, page_cnt * PAGE_SIZE, apply_range_clear_cb, &data);
	/* also where only scratch was taken out: it must be gone from the TLBs before anybody looks again */
	flush_tlb_kernel_range(kaddr, kaddr + page_cnt * PAGE_SIZE);
	/* a single page that nobody maps needs no walk over the processes */
	if (page_cnt > 1 || (data.free_pages && data.free_pages->_refcount.counter > 1))
		arena_zap_pages(arena, full_uaddr, page_cnt);
	free_collected(&data);
}

static long arena_alloc_pages(struct bpf_arena *arena, long uaddr, long page_cnt, int node_id)
{
	long page_cnt_max = (arena->user_vm_end - arena->user_vm_start) >> PAGE_SHIFT;
	u64 kern_vm_start = bpf_arena_get_kern_vm_start(arena);
	struct page *pages[BATCH];
	long pgoff = 0, done = 0;
	u32 uaddr32;
	int ret = 0;

	if (page_cnt > page_cnt_max)
		return 0;
	if (uaddr) {
		if (uaddr & ~PAGE_MASK)
			return 0;
		pgoff = compute_pgoff(arena, uaddr);
		if (pgoff > page_cnt_max - page_cnt)
			return 0;
		if (is_range_tree_set(&arena->rt, pgoff, page_cnt))
			return 0;
	} else {
		pgoff = range_tree_find(&arena->rt, page_cnt);
		if (pgoff < 0)
			return 0;
	}
	range_tree_clear(&arena->rt, pgoff, page_cnt);
	uaddr32 = (u32)(arena->user_vm_start + pgoff * PAGE_SIZE);
	while (done < page_cnt) {
		long n = min(page_cnt - done, BATCH);
		struct apply_range_data data = { .pages = pages, .arena = arena };

		ret = bpf_map_alloc_pages(&arena->map, node_id, n, pages);
		if (!ret) {
			ret = apply_to_page_range(&init_mm, kern_vm_start + uaddr32 + done * PAGE_SIZE, n * PAGE_SIZE,
						  apply_range_set_cb, &data);
			done += data.i;
			for (long i = data.i; i < n; i++)
				__free_page(pages[i]);
		}
		if (ret)
			break;
	}
	if (!ret)
		return clear_lo32(arena->user_vm_start) + uaddr32;
	range_tree_set(&arena->rt, pgoff + done, page_cnt - done);
	if (done) {
		unmap_and_free(arena, kern_vm_start + uaddr32, done, clear_lo32(arena->user_vm_start) + uaddr32);
		range_tree_set(&arena->rt, pgoff, done);
	}
	return 0;
}

/* Freed in a context that may not sleep; the pages stay until arena_free_worker() has run. */
struct arena_free_span {
	struct arena_free_span *next;
	unsigned long uaddr;
	u32 page_cnt;
};

static void free_range(struct bpf_arena *arena, u32 uaddr, long page_cnt)
{
	range_tree_set(&arena->rt, compute_pgoff(arena, uaddr), page_cnt);
	unmap_and_free(arena, bpf_arena_get_kern_vm_start(arena) + uaddr, page_cnt,
		       clear_lo32(arena->user_vm_start) + uaddr);
}

static void arena_free_worker(struct work_struct *work)
{
	struct bpf_arena *arena = container_of(work, struct bpf_arena, free_work);

	while (arena->free_spans) {
		struct arena_free_span *span = arena->free_spans;

		arena->free_spans = span->next;
		free_range(arena, (u32)span->uaddr, span->page_cnt);
		kfree_nolock(span);
	}
}

static void arena_free_irq(struct irq_work *work)
{
	struct bpf_arena *arena = container_of(work, struct bpf_arena, free_irq);

	arena->free_work.func = arena_free_worker;
	schedule_work(&arena->free_work);
}

static void arena_free_pages(struct bpf_arena *arena, long uaddr, long page_cnt, bool sleepable)
{
	struct arena_free_span *span;
	u64 full_uaddr, uaddr_end;

	uaddr = (u32)uaddr & PAGE_MASK;
	full_uaddr = clear_lo32(arena->user_vm_start) + uaddr;
	if (full_uaddr < arena->user_vm_start)
		return;
	uaddr_end = min(arena->user_vm_end, full_uaddr + ((u64)page_cnt << PAGE_SHIFT));
	if (full_uaddr >= uaddr_end)
		return;
	page_cnt = (uaddr_end - full_uaddr) >> PAGE_SHIFT;
	if (sleepable) {
		free_range(arena, (u32)uaddr, page_cnt);
		return;
	}
	span = kmalloc_nolock(sizeof(*span), 0, -1);
	/* without memory the range is lost until the map goes away */
	if (!span)
		return;
	span->uaddr = uaddr;
	span->page_cnt = (u32)page_cnt;
	span->next = arena->free_spans;
	arena->free_spans = span;
	arena->free_irq.func = arena_free_irq;
	arena->free_irq.flags = IRQ_WORK_LAZY;	/* not so in Linux: it interrupts the program */
	irq_work_queue(&arena->free_irq);
}

__bpf_kfunc void *bpf_arena_alloc_pages(void *p__map, void *addr__ign, u32 page_cnt, int node_id, u64 flags)
{
	struct bpf_map *map = p__map;

	if (map->map_type != BPF_MAP_TYPE_ARENA || flags || !page_cnt)
		return NULL;
	return (void *)arena_alloc_pages(container_of(map, struct bpf_arena, map), (long)addr__ign, page_cnt, node_id);
}

__bpf_kfunc void bpf_arena_free_pages(void *p__map, void *ptr__ign, u32 page_cnt)
{
	struct bpf_map *map = p__map;

	if (map->map_type != BPF_MAP_TYPE_ARENA || !page_cnt || !ptr__ign)
		return;
	arena_free_pages(container_of(map, struct bpf_arena, map), (long)ptr__ign, page_cnt, true);
}

/* The verifier puts this in its place where the program may not sleep. */
__used noinline void bpf_arena_free_pages_non_sleepable(void *p__map, void *ptr__ign, u32 page_cnt)
{
	struct bpf_map *map = p__map;

	if (map->map_type != BPF_MAP_TYPE_ARENA || !page_cnt || !ptr__ign)
		return;
	arena_free_pages(container_of(map, struct bpf_arena, map), (long)ptr__ign, page_cnt, false);
}

__bpf_kfunc int bpf_arena_reserve_pages(void *p__map, void *ptr__ign, u32 page_cnt)
{
	struct bpf_map *map = p__map;
	struct bpf_arena *arena = container_of(map, struct bpf_arena, map);
	long page_cnt_max, pgoff;

	if (map->map_type != BPF_MAP_TYPE_ARENA)
		return -EINVAL;
	if (!page_cnt || (long)ptr__ign & ~PAGE_MASK)
		return 0;
	page_cnt_max = (arena->user_vm_end - arena->user_vm_start) >> PAGE_SHIFT;
	pgoff = compute_pgoff(arena, (long)ptr__ign);
	if (pgoff + page_cnt > page_cnt_max)
		return -EINVAL;
	if (is_range_tree_set(&arena->rt, pgoff, page_cnt))
		return -EBUSY;
	return range_tree_clear(&arena->rt, pgoff, page_cnt);
}

/*
 * Called from outside when the map goes away, the page-table part of arena_map_free(): every page but the scratch page,
 * which is freed once, by the caller. Nobody can reach the range any more, so nothing is flushed.
 */
__used void arena_free_all_pages(struct bpf_arena *arena)
{
	struct clear_range_data data = { .arena = arena };

	apply_to_existing_page_range(&init_mm, bpf_arena_get_kern_vm_start(arena), SZ_4G + GUARD_SZ / 2,
				     apply_range_clear_cb, &data);
	free_collected(&data);
}
