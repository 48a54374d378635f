/* SPDX-License-Identifier: GPL-2.0-only */
/* BPF structures in guest memory. Mirrors include/linux/bpf.h, filter.h and kernel/bpf/arena.c. */
#ifndef _LINUX_BPF_H
#define _LINUX_BPF_H

#include <linux/sched.h>
#include <asm/extable.h>

#define BPF_OBJ_NAME_LEN 16U
#define KSYM_NAME_LEN 512
#define BPF_MAP_TYPE_ARENA 33
#define BPF_STDOUT 1
#define BPF_STDERR 2
#define BPF_PROG_STREAM_ERROR_CNT 512
#define SZ_4G 0x100000000ULL
/* what a 16-bit signed offset can reach, whole pages on both sides of the window */
#define GUARD_SZ 0x10000ULL
#define KERN_VM_SZ (SZ_4G + GUARD_SZ)

struct bpf_map {
	u32 map_type;
	u32 key_size;
	u32 value_size;
	u32 max_entries;
	u64 map_extra;
	u32 map_flags;
	u32 id;
	char name[BPF_OBJ_NAME_LEN];
};

struct bpf_array {
	struct bpf_map map;
	u32 elem_size;
	u32 index_mask;
	char value[] __aligned(8);
};

/* a function of a program */
typedef u64 (*bpf_callback_t)(u64, u64, u64, u64, u64);

struct range_tree {
	void *it_root[2];
	void *range_size_root[2];
};

/* kernel/irq_work.c, kernel/workqueue.c: what runs later, by its function */
struct irq_work {
	void (*func)(struct irq_work *work);
	u32 flags;
};

struct work_struct {
	void (*func)(struct work_struct *work);
};

struct arena_free_span;

struct bpf_arena {
	struct bpf_map map;
	u64 user_vm_start;
	u64 user_vm_end;
	struct vm_struct *kern_vm;
	struct page *scratch_page;
	struct range_tree rt;
	struct arena_free_span *free_spans;	/* freed where nobody may sleep, the last one first */
	struct irq_work free_irq;
	struct work_struct free_work;
	u64 nr_pages;
};

struct bpf_ksym {
	unsigned long start;
	unsigned long end;
	char name[KSYM_NAME_LEN];
};

struct bpf_prog;

struct bpf_prog_aux {
	u32 id;
	u32 func_cnt;
	u32 real_func_cnt;
	u32 func_idx;
	u32 stack_depth;
	u32 num_exentries;
	struct bpf_prog *prog;
	struct bpf_prog_aux *main_prog_aux;
	struct bpf_arena *arena;
	struct exception_table_entry *extable;
	struct bpf_ksym ksym;
	char name[BPF_OBJ_NAME_LEN];
	atomic_t stream_error_cnt;
};

struct bpf_insn {
	u8 code;
	u8 regs;
	s16 off;
	s32 imm;
};

struct bpf_prog {
	u16 pages;
	bool jited;
	bool sleepable;
	u32 type;
	u32 len;
	u32 jited_len;
	u8 tag[8];
	unsigned int (*bpf_func)(const void *ctx, const struct bpf_insn *insn);
	struct bpf_prog_aux *aux;
	struct bpf_insn *insnsi;
	int active[NR_CPUS];	/* runs under way, by CPU */
	u64 misses;		/* struct bpf_prog_stats: runs left out because one was under way */
};

struct bpf_run_ctx {};

/* on the stack of a trampoline */
struct bpf_tramp_run_ctx {
	struct bpf_run_ctx run_ctx;
	u64 bpf_cookie;
	struct bpf_run_ctx *saved_run_ctx;
};

/* on the stack of a tracepoint's BPF probe */
struct bpf_trace_run_ctx {
	struct bpf_run_ctx run_ctx;
	u64 bpf_cookie;
};

static __always_inline struct bpf_run_ctx *bpf_set_run_ctx(struct bpf_run_ctx *new_ctx)
{
	struct bpf_run_ctx *old_ctx = current->bpf_ctx;

	current->bpf_ctx = new_ctx;
	return old_ctx;
}

static __always_inline void bpf_reset_run_ctx(struct bpf_run_ctx *old_ctx)
{
	current->bpf_ctx = old_ctx;
}

/* False where the program is under way on this CPU already: this run is left out. */
static __always_inline bool bpf_prog_get_recursion_context(struct bpf_prog *prog)
{
	if (likely(++prog->active[current->cpu] == 1))
		return true;
	prog->misses++;
	return false;
}

static __always_inline void bpf_prog_put_recursion_context(struct bpf_prog *prog)
{
	prog->active[current->cpu]--;
}

u64 bpf_arena_get_kern_vm_start(struct bpf_arena *arena);
u64 bpf_arena_get_user_vm_start(struct bpf_arena *arena);
u64 bpf_arena_map_kern_vm_start(struct bpf_map *map);
bool bpf_arena_handle_page_fault(unsigned long addr, bool is_write, unsigned long fault_ip);
void bpf_prog_report_arena_violation(bool write, unsigned long addr, unsigned long fault_ip);
struct bpf_prog *bpf_prog_find_from_stack(void);

/* BPF text lies in here; written by boot. */
extern unsigned long bpf_jit_start, bpf_jit_end;
/* kcall: the program whose text holds `ip`, main or subprogram */
struct bpf_prog *bpf_prog_ksym_find(unsigned long ip);

/* Walk the current stack; stop where `consume` returns false. */
void arch_bpf_stack_walk(bool (*consume)(void *cookie, u64 ip, u64 sp, u64 bp), void *cookie);

struct bpf_stream_stage {
	void *log;
	int len;
};

/* kcalls of kernel/bpf/stream.c */
void bpf_stream_stage_init(struct bpf_stream_stage *ss);
void bpf_stream_stage_free(struct bpf_stream_stage *ss);
int bpf_stream_stage_printk(struct bpf_stream_stage *ss, const char *fmt, u64 a, u64 b, u64 c, u64 d);
int bpf_stream_stage_print_task(struct bpf_stream_stage *ss);
int bpf_stream_stage_print_frames(struct bpf_stream_stage *ss, u64 *ips, int count);
int bpf_stream_stage_commit(struct bpf_stream_stage *ss, struct bpf_prog *prog, int stream_id);
int bpf_stream_stage_dump_stack(struct bpf_stream_stage *ss);

/* kcalls of kernel/bpf/range_tree.c and of the arena's page allocation */
s64 range_tree_find(struct range_tree *rt, u32 len);
int range_tree_set(struct range_tree *rt, u32 start, u32 len);
int range_tree_clear(struct range_tree *rt, u32 start, u32 len);
int is_range_tree_set(struct range_tree *rt, u32 start, u32 len);
int bpf_map_alloc_pages(struct bpf_map *map, int nid, unsigned long nr_pages, struct page **pages);
void arena_zap_pages(struct bpf_arena *arena, unsigned long uaddr, unsigned long page_cnt);
u64 ktime_get_mono_fast_ns(void);
#define IRQ_WORK_LAZY 0x4
#define IRQ_WORK_HARD_IRQ 0x8
bool irq_work_queue(struct irq_work *work);
void irq_work_run(void);
void arch_irq_work_raise(void);
bool schedule_work(struct work_struct *work);
void *kmalloc_nolock(size_t size, unsigned int flags, int node);
void kfree_nolock(const void *p);

#endif
