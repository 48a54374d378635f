// SPDX-License-Identifier: GPL-2.0-only
/* CO-RE relocations of every kind against core_kernel.c: met, failing under a guard, and one failing without. */
typedef unsigned long long u64;
typedef unsigned int u32;
#define SEC(name) __attribute__((section(name), used))
#define CORE __attribute__((preserve_access_index))
enum { FIELD_BYTE_OFFSET, FIELD_BYTE_SIZE, FIELD_EXISTS, FIELD_SIGNED, FIELD_LSHIFT, FIELD_RSHIFT };

struct list_head {
	struct list_head *next, *prev;
} CORE;

struct mm___small {
	void *pgd;
} CORE;

struct task___mine {
	int pid;
	u32 flags;
	char comm[16];
	void *stack;
	struct mm___small *mm;
	struct list_head tasks;
	u32 first : 3;
	u32 second : 12;
	int third : 9;
	u64 wide : 35;
	int narrow;
	int never_there;
	u64 words[2];
	struct mm___small array[2];
} CORE;

struct only {
	int x;
} CORE;

struct not_in_any_kernel {
	int x, y[4];
} CORE;

enum map_type___few {
	MAP_ARRAY___x = 77,
	MAP_NEVER = 78,
	MAP_NEGATIVE = -9,
};

enum huge___mine {
	HUGE_VALUE___mine = 1ull << 33,
};

typedef u64 not_a_typedef_of_the_kernel;
typedef struct mm___small mm_t;

#define FIELD(expr, kind) sum = sum * 3 + __builtin_preserve_field_info(expr, kind)
#define TYPE(type, kind) sum = sum * 3 + __builtin_preserve_type_info(*(typeof(type) *)0, kind)
#define TYPE_ID(type, kind) sum = sum * 3 + __builtin_btf_type_id(*(typeof(type) *)0, kind)
#define ENUM(type, value, kind) sum = sum * 3 + __builtin_preserve_enum_value(*(typeof(enum type) *)value, kind)
#define BITFIELD(expr)					\
	do {						\
		FIELD(expr, FIELD_BYTE_OFFSET);		\
		FIELD(expr, FIELD_BYTE_SIZE);		\
		FIELD(expr, FIELD_SIGNED);		\
		FIELD(expr, FIELD_LSHIFT);		\
		FIELD(expr, FIELD_RSHIFT);		\
	} while (0)

/* global for the linker, static for the verifier */
__attribute__((visibility("hidden"), noinline)) u64 hidden(u64 a)
{
	asm volatile("");
	return a * 7;
}

__attribute__((noinline)) u64 visible(u64 a)
{
	asm volatile("");
	return a * 5;
}

SEC("raw_tp/fields")
u64 fields(struct task___mine **ctx)
{
	struct task___mine *task = *ctx;
	struct only *only = (void *)task;
	struct not_in_any_kernel *none = (void *)task;
	u64 sum = 0;

	FIELD(task->pid, FIELD_BYTE_OFFSET);
	FIELD(task->comm, FIELD_BYTE_SIZE);
	FIELD(task->comm[3], FIELD_BYTE_OFFSET);
	FIELD(task->tasks.prev, FIELD_BYTE_OFFSET);
	FIELD(task->words[1], FIELD_BYTE_OFFSET);
	FIELD(task->array[1].pgd, FIELD_BYTE_OFFSET);
	FIELD(task[2].stack, FIELD_BYTE_OFFSET);
	FIELD(task->pid, FIELD_SIGNED);
	FIELD(task->flags, FIELD_SIGNED);
	FIELD(task->flags, FIELD_LSHIFT);
	FIELD(task->flags, FIELD_RSHIFT);
	FIELD(task->mm, FIELD_EXISTS);
	FIELD(task->never_there, FIELD_EXISTS);
	FIELD(none->x, FIELD_EXISTS);
	FIELD(only->x, FIELD_BYTE_OFFSET);
	BITFIELD(task->first);
	BITFIELD(task->second);
	BITFIELD(task->third);
	BITFIELD(task->wide);
	if (__builtin_preserve_field_info(none->x, FIELD_EXISTS))
		FIELD(none->y[2], FIELD_BYTE_OFFSET);
	return hidden(sum) + visible(sum);
}

SEC("raw_tp/types")
u64 types(void *ctx)
{
	u64 sum = 0;

	TYPE(struct task___mine, 0);
	TYPE(struct task___mine, 1);
	TYPE(struct task___mine, 2);
	TYPE(struct mm___small, 2);
	TYPE(struct list_head, 2);
	TYPE(struct only, 0);
	TYPE(mm_t, 0);
	TYPE(mm_t, 2);
	TYPE(struct not_in_any_kernel, 0);
	TYPE(struct not_in_any_kernel, 1);
	TYPE(not_a_typedef_of_the_kernel, 0);
	TYPE_ID(struct task___mine, 0);
	TYPE_ID(struct task___mine, 1);
	TYPE_ID(struct not_in_any_kernel, 1);
	ENUM(map_type___few, MAP_ARRAY___x, 0);
	ENUM(map_type___few, MAP_ARRAY___x, 1);
	ENUM(map_type___few, MAP_NEGATIVE, 1);
	ENUM(map_type___few, MAP_NEVER, 0);
	ENUM(huge___mine, HUGE_VALUE___mine, 1);
	return sum;
}

SEC("raw_tp/loads")
u64 loads(struct task___mine **ctx)
{
	struct task___mine *task = *ctx;

	return task->pid + task->flags + (u64)task->mm->pgd + (u64)task->tasks.next + task->comm[5];
}

SEC("raw_tp/width")
u64 width(struct task___mine **ctx)
{
	return (*ctx)->narrow;
}

SEC("raw_tp/gone")
u64 gone(struct not_in_any_kernel **ctx)
{
	return (*ctx)[1].y[2];
}

SEC("raw_tp/gone_value")
u64 gone_value(void *ctx)
{
	u64 sum = 1;

	ENUM(map_type___few, MAP_NEVER, 1);
	return sum;
}

char _license[] SEC("license") = "GPL";
