// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads that map, unmap, protect and touch pages of one region at the same time. Every page belongs to one thread, two
 * in a row, so that the VMAs of all of them split and merge with each other's; what a thread does to its pages, and what
 * it finds there, follows from `seed` alone, whatever the others do meanwhile. Besides, all write to one shared page
 * whose protection one of them changes. Prints a line for each thread that is the same under every schedule; the exit
 * code is 0 where each found what it should have.
 */
#include <print.h>
#include <signal.h>

#define PAGE 4096UL
#define RW (PROT_READ | PROT_WRITE)
#define THREADS 3
#define RUN 2				/* pages of one thread in a row */
#define PAGES 12			/* of one thread */
#define MAPERR 1
#define ACCERR 2

enum state { NONE, READ_ONLY, READ_WRITE };

shared unsigned int seed = 1;
shared unsigned int rounds = 60;
shared unsigned int finished;
shared unsigned int refused;		/* writes to the shared page that had to be tried again */
shared unsigned int first_wrong[4];	/* thread, round, operation, what was found */

struct worker {
	unsigned long resume;		/* where a fault goes on */
	int code;			/* of the last one, 0: none */
	unsigned long addr;
	unsigned int number, random, round, operation;
	unsigned int changes, faults, wrong;
	unsigned char state[PAGES], contents[PAGES];
};

static struct worker workers[THREADS];
static unsigned char stacks[THREADS][32768] __attribute__((aligned(16)));
static unsigned long region, common;

/* The handler runs on the stack of the thread that has faulted. */
static void on_fault(int sig, struct siginfo *info, struct ucontext *uc)
{
	struct worker *me = &workers[((unsigned long)&uc - (unsigned long)stacks) / sizeof(stacks[0])];

	(void)sig;
	me->code = info->si_code;
	me->addr = info->si_addr;
	uc->uc_pc = me->resume;
}

#ifdef __x86_64__
#define GUARDED(me, insn, ...)								\
	__asm__ __volatile__("leaq 1f(%%rip), %%rax\n\tmovq %%rax, %[resume]\n\t" insn "\n1:"	\
			     : [resume] "=m"((me)->resume) __VA_ARGS__)
#define LOAD "movzbl (%[at]), %k[value]"
#define STORE "movb %b[value], (%[at])"
#define SCRATCH "rax"
#else
#define GUARDED(me, insn, ...)								\
	__asm__ __volatile__("adr x9, 1f\n\tstr x9, %[resume]\n\t" insn "\n1:"		\
			     : [resume] "=m"((me)->resume) __VA_ARGS__)
#define LOAD "ldrb %w[value], [%[at]]"
#define STORE "strb %w[value], [%[at]]"
#define SCRATCH "x9"
#endif

static unsigned long load(struct worker *me, unsigned long at)
{
	unsigned long value = 0;

	me->code = 0;
	GUARDED(me, LOAD, , [value] "+r"(value) : [at] "r"(at) : SCRATCH, "memory");
	return value;
}

static void store(struct worker *me, unsigned long at, unsigned long value)
{
	me->code = 0;
	GUARDED(me, STORE, : [value] "r"(value), [at] "r"(at) : SCRATCH, "memory");
}

static void expect(struct worker *me, long found, long wanted)
{
	if (found == wanted)
		return;
	if (!me->wrong++) {
		first_wrong[0] = me->number;
		first_wrong[1] = me->round;
		first_wrong[2] = me->operation;
		first_wrong[3] = (unsigned int)found;
	}
}

/* after an access at `at`: did it fault as it had to? True where it went through. */
static int expect_fault(struct worker *me, unsigned long at, int code)
{
	expect(me, me->code, code);
	if (code) {
		me->faults++;
		expect(me, (long)me->addr, (long)at);
	}
	return !me->code;
}

static unsigned int next(struct worker *me)
{
	me->random = me->random * 1664525 + 1013904223;
	return me->random >> 8;
}

static unsigned long address(struct worker *me, unsigned int page)
{
	return region + ((page / RUN * THREADS + me->number) * RUN + page % RUN) * PAGE;
}

/* mmap() of a whole run */
static void map_run(struct worker *me, unsigned int page)
{
	unsigned long at = address(me, page -= page % RUN);

	expect(me, syscall6(__NR_mmap, (long)at, RUN * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), (long)at);
	for (unsigned int i = 0; i < RUN; i++) {
		me->state[page + i] = READ_WRITE;
		me->contents[page + i] = 0;
	}
}

static void check_page(struct worker *me, unsigned int page, unsigned int offset)
{
	unsigned long at = address(me, page) + offset, value = load(me, at);

	if (expect_fault(me, at, me->state[page] == NONE ? MAPERR : 0))
		expect(me, (long)value, me->contents[page]);
}

static void write_page(struct worker *me, unsigned int page, unsigned char value)
{
	unsigned long at = address(me, page);
	int code = me->state[page] == NONE ? MAPERR : me->state[page] == READ_ONLY ? ACCERR : 0;

	store(me, at, value);
	if (expect_fault(me, at, code))
		me->contents[page] = value;
}

static void step(struct worker *me)
{
	unsigned int page = next(me) % PAGES;
	unsigned long at = address(me, page);

	me->operation = next(me) % 8;
	switch (me->operation) {
	case 0:
		map_run(me, page);
		break;
	case 1:
		expect(me, syscall3(__NR_munmap, (long)at, PAGE, 0), 0);
		me->state[page] = NONE;
		break;
	case 2:
	case 3:
		expect(me, syscall3(__NR_mprotect, (long)at, PAGE, me->operation == 2 ? PROT_READ : RW),
		       me->state[page] == NONE ? -12 : 0);
		if (me->state[page] != NONE)
			me->state[page] = me->operation == 2 ? READ_ONLY : READ_WRITE;
		break;
	case 4:
		if (me->state[page] == NONE)
			break;
		expect(me, syscall3(__NR_madvise, (long)at, PAGE, MADV_DONTNEED), 0);
		me->contents[page] = 0;
		break;
	case 5:
	case 6:
		write_page(me, page, (unsigned char)next(me));
		break;
	default:
		check_page(me, page, 0);
	}
	me->changes += me->operation < 5;
	check_page(me, next(me) % PAGES, 0);
}

/* Each has a byte of the shared page; the first thread takes the right to write away and gives it back. */
static void touch_common(struct worker *me)
{
	unsigned long at = common + me->number * 8;

	if (!me->number)
		syscall3(__NR_mprotect, (long)common, PAGE, me->round % 2 ? RW : PROT_READ);
	while (me->number) {
		store(me, at, me->round);
		if (!me->code)
			break;
		expect(me, me->code, ACCERR);
		expect(me, (long)me->addr, (long)at);
		__atomic_fetch_add(&refused, 1, __ATOMIC_SEQ_CST);
		syscall3(__NR_sched_yield, 0, 0, 0);
	}
	expect(me, (long)load(me, at), me->number ? me->round & 0xff : 0);
}

static void work(void *arg)
{
	struct worker *me = arg;

	for (unsigned int page = 0; page < PAGES; page += RUN)
		map_run(me, page);
	for (me->round = 0; me->round < rounds; me->round++) {
		step(me);
		touch_common(me);
	}
	for (unsigned int page = 0; page < PAGES; page++)
		check_page(me, page, 0);
	if (!me->number)
		syscall3(__NR_mprotect, (long)common, PAGE, RW);
	__atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
	futex_wake(&finished, 1);
	exit_thread(0);
}

static void report(struct worker *me)
{
	unsigned long sum = 0;

	for (unsigned int page = 0; page < PAGES; page++)
		sum = sum * 31 + (me->state[page] == NONE ? 257U : me->contents[page]) + me->state[page];
	text("thread ");
	number(me->number);
	text(": changes ");
	number(me->changes);
	text(" faults ");
	number(me->faults);
	text(" contents ");
	number((long)(sum & 0xffffffff));
	text(" wrong ");
	number(me->wrong);
	flush();
}

__attribute__((noreturn)) void _start(void)
{
	unsigned int ended, wrong = 0;

	set_handler(SIGSEGV, on_fault, 0, 0);
	region = (unsigned long)syscall6(__NR_mmap, 0, THREADS * PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	common = (unsigned long)syscall6(__NR_mmap, 0, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i].number = i;
		workers[i].random = seed * 7919 + i;
		thread_create(work, &workers[i], stacks[i] + sizeof(stacks[i]));
	}
	while ((ended = finished) != THREADS)
		futex_wait(&finished, ended);
	for (unsigned int i = 0; i < THREADS; i++) {
		report(&workers[i]);
		wrong += workers[i].wrong;
	}
	exit_group(wrong ? 1 : 0);
}
