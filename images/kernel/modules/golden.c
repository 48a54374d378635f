// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module `golden`: faults on request, under the function names of the module whose oopses are the reference.
 * A write to its debugfs file names a case; what addresses it needs it asks from outside or keeps itself.
 */
#include <linux/bpf.h>
#include <linux/bug.h>
#include <linux/fs.h>
#include <linux/syscalls.h>

#define POISON_NONCANONICAL 0xdead000000000100UL

/* kcalls: addresses that only the memory model knows, and the log */
unsigned long golden_address(const char *what);
void golden_log(const char *text, long ret, unsigned long value);
void golden_warn_text(int number);

const unsigned long golden_const = 0x1122334455667788UL;
/* in front of the words that nx_exec_data jumps to: a Code: line shows what lies there */
__used unsigned long data_head[8] = { 1 };
unsigned long data_words[4] = { 0x1122334455667788UL };

struct golden_struct {
	unsigned long pad[4];
	unsigned long member;	/* at 0x20 */
};

__frame unsigned long g_read(const unsigned long *p)
{
	return *(const volatile unsigned long *)p;
}

__frame void g_write(unsigned long *p)
{
	*(volatile unsigned long *)p = 0xdeadbeef;
}

__frame void g_write4(unsigned int *p)
{
	*(volatile unsigned int *)p = 0xabad1dea;
}

__frame void g_exec(void (*fn)(void))
{
	fn();
}

__frame unsigned long golden_level3(struct golden_struct *s)
{
	return *(volatile unsigned long *)&s->member;
}

__frame unsigned long golden_level2(struct golden_struct *s)
{
	return golden_level3(s) + 1;
}

__frame unsigned long golden_level1(struct golden_struct *s)
{
	return golden_level2(s) + 1;
}

static volatile bool golden_recurse_on = true;

__frame int golden_recurse(int depth)
{
	volatile char fill[256];

	if (!golden_recurse_on)
		return depth;

	for (unsigned int i = 0; i < sizeof(fill); i++)
		fill[i] = (char)depth;
	return golden_recurse(depth + 1) + fill[depth & 255];
}

static void nofault_series(void)
{
	unsigned long vmalloc_hole = golden_address("vmalloc_hole");
	unsigned long user_page = golden_address("user_page");
	unsigned long dst;
	long ret;

#define TRY_READ(text, address)							\
	do {									\
		dst = 0x77;							\
		ret = copy_from_kernel_nofault(&dst, (void *)(address), 8);	\
		golden_log("copy_from_kernel_nofault " text, ret, dst);		\
	} while (0)
	TRY_READ("unmapped vmalloc", vmalloc_hole);
	TRY_READ("NULL+0x28", 0x28);
	TRY_READ("0xdead000000000100", POISON_NONCANONICAL);
	TRY_READ("mapped user page", user_page);
	TRY_READ("mapped kernel", data_words);
	dst = 1;
	golden_log("copy_to_kernel_nofault unmapped vmalloc", copy_to_kernel_nofault((void *)vmalloc_hole, &dst, 8), 0);
	golden_log("copy_to_kernel_nofault read-only", copy_to_kernel_nofault((void *)&golden_const, &dst, 8), 0);
	dst = 0x77;
	golden_log("copy_from_user NULL+0x28", copy_from_user(&dst, (void *)0x28, 8), dst);
	dst = 0x77;
	golden_log("copy_from_user kernel address", copy_from_user(&dst, data_words, 8), dst);
}

__frame void irq_fn(struct irq_work *work)
{
	(void)work;
	g_read((void *)0x28);
}

static struct irq_work irq_work = { .func = irq_fn };

static volatile int zero;
static volatile int quotient;

__frame int doit(const char *what)
{
	if (!strcmp(what, "null_read"))
		g_read(NULL);
	else if (!strcmp(what, "null_read_offset"))
		g_read((void *)0x28);
	else if (!strcmp(what, "irq_null_read"))
		irq_work_queue(&irq_work);
	else if (!strcmp(what, "null_minus"))
		g_read((void *)-8L);
	else if (!strcmp(what, "null_write"))
		g_write4(NULL);
	else if (!strcmp(what, "null_exec"))
		g_exec(NULL);
	else if (!strcmp(what, "nested"))
		golden_level1(NULL);
	else if (!strcmp(what, "vmalloc_read") || !strcmp(what, "intree_vmalloc_read"))
		g_read((void *)golden_address("vmalloc_hole"));
	else if (!strcmp(what, "vmalloc_write"))
		g_write((void *)golden_address("vmalloc_hole"));
	else if (!strcmp(what, "vmalloc_exec"))
		g_exec((void *)(golden_address("vmalloc_hole") & PAGE_MASK));
	else if (!strcmp(what, "ro_write"))
		g_write((unsigned long *)&golden_const);
	else if (!strcmp(what, "rotext_write"))
		g_write4((unsigned int *)(void *)ksys_write);
	else if (!strcmp(what, "nx_exec"))
		g_exec((void *)golden_address("kmalloc"));
	else if (!strcmp(what, "nx_exec_data"))
		g_exec((void *)data_words);
	else if (!strcmp(what, "noncanonical_read"))
		g_read((void *)POISON_NONCANONICAL);
	else if (!strcmp(what, "noncanonical_write"))
		g_write((void *)0x6b6b6b6b6b6b6b6bUL);
	else if (!strcmp(what, "noncanonical_exec"))
		g_exec((void *)POISON_NONCANONICAL);
	else if (!strcmp(what, "unmapped_direct"))
		g_read((void *)golden_address("direct_hole"));
	else if (!strcmp(what, "user_read"))
		g_read((void *)golden_address("user_page"));
	else if (!strcmp(what, "user_write"))
		g_write((void *)golden_address("user_page"));
	else if (!strcmp(what, "user_exec"))
		g_exec((void *)golden_address("user_text"));
	else if (!strcmp(what, "user_read_notpresent"))
		g_read((void *)golden_address("user_notpresent"));
	else if (!strcmp(what, "user_read_novma"))
		g_read((void *)golden_address("user_novma"));
	else if (!strcmp(what, "stack_overflow"))
		golden_recurse(0);
	else if (!strcmp(what, "nofault"))
		nofault_series();
	else if (!strcmp(what, "divide"))
		quotient = 7 / zero;
	else if (!strcmp(what, "ud2") || !strcmp(what, "udf"))
		__asm__ __volatile__(ASM_UNDEFINED);
	else if (!strcmp(what, "brk"))
		__asm__ __volatile__(ASM_BREAKPOINT);
	else if (!strcmp(what, "warn")) {
		golden_warn_text(42);
		__WARN();
	} else if (!strcmp(what, "bug"))
		BUG();
	else
		return -EINVAL;
	return 0;
}

/* the body of kernel thread golden_kt: one case, named by its argument */
__used __frame int kt(void *data)
{
	return doit(data);
}

__frame ssize_t trig(struct file *file, const char *buf, size_t count, loff_t *pos)
{
	char what[32];
	int err;

	(void)file;
	(void)pos;
	if (count >= sizeof(what))
		return -EINVAL;
	if (copy_from_user(what, buf, count))
		return -EFAULT;
	what[count] = 0;
	err = doit(what);
	return err ? err : (ssize_t)count;
}

const struct file_operations golden_fops = { .write = full_proxy_write, .real_write = trig };
__used struct file golden_file = { .f_op = &golden_fops, .sb = &debugfs_sb, .f_mode = FMODE_WRITE | FMODE_CAN_WRITE };
