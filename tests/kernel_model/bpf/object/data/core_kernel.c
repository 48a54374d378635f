// SPDX-License-Identifier: GPL-2.0-only
/* The "kernel" whose types core.bpf.c is relocated against: only its BTF is used. */
typedef unsigned long long u64;
typedef unsigned int u32;

struct list_head {
	struct list_head *next, *prev;
};

struct mm {
	u64 count;
	void *pgd;
};

struct task {
	u64 state;
	void *stack;
	int pid;
	u64 flags;
	char comm[32];
	struct mm *mm;
	struct {
		int depth;
		union {
			struct list_head tasks;
			u64 words[6];
		};
	};
	u32 first : 3;
	u32 second : 12;
	int third : 9;
	u64 wide : 35;
	short narrow;
	struct mm array[4];
};

/* no plain `only`: a flavor in the kernel's own name */
struct only___v2 {
	int pad, x;
};

enum map_type {
	MAP_HASH = 1,
	MAP_ARRAY = 5,
	MAP_NEGATIVE = -3,
};

enum huge {
	HUGE_VALUE = 1ull << 40,
};

typedef struct mm mm_t;

int user(struct task *task, struct only___v2 *only, enum map_type type, enum huge huge, mm_t *mm);
int user(struct task *task, struct only___v2 *only, enum map_type type, enum huge huge, mm_t *mm)
{
	return task->pid + only->x + type + (int)(huge >> 40) + (int)mm->count;
}
