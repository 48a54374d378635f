// SPDX-License-Identifier: GPL-2.0-only
/*
 * The cases of module `golock` that no real kernel was asked for: locks in interrupts, locks that go away or stay
 * behind, RCU pointers, and every place that says where it might sleep.
 *
 *      A   taken by interrupts                 B   held with interrupts enabled
 *      C   between A and B, D behind B
 */
#include <linux/bpf.h>
#include <linux/rcupdate.h>
#include <linux/sched/timeout.h>
#include <linux/semaphore.h>
#include <linux/syscalls.h>
#include <linux/uaccess.h>
#include "golock.h"

DEFINE_SPIN(lock_irq, LD_WAIT_CONFIG);		/* A */
DEFINE_SPIN(lock_task, LD_WAIT_CONFIG);		/* B */
DEFINE_SPIN(lock_middle, LD_WAIT_CONFIG);	/* C */
DEFINE_SPIN(lock_behind, LD_WAIT_CONFIG);	/* D */
DEFINE_MUTEX(lock_outer);
DEFINE_MUTEX(lock_inner);
DEFINE_RWSEM(sem);
DEFINE_COMPLETION(done);
static struct semaphore counting;

struct shared {
	int value;
	struct mutex lock;
};
static struct shared *shared;

/* -- interrupts -------------------------------------------------------------------------------------------------- */

static __frame void irq_handler(struct irq_work *work)
{
	(void)work;
	spin_lock(&lock_irq);
	spin_unlock(&lock_irq);
}

static struct irq_work irq_work = { .func = irq_handler };

static __frame void use_in_irq(void)
{
	irq_work_queue(&irq_work);
}

static __frame void use_with_irqs_on(raw_spinlock_t *lock)
{
	spin_lock(lock);
	spin_unlock(lock);
}

/* one inside the other, with interrupts off */
static __frame void nest(raw_spinlock_t *outer, raw_spinlock_t *inner)
{
	local_irq_disable();
	spin_lock(outer);
	spin_lock(inner);
	spin_unlock(inner);
	spin_unlock(outer);
	local_irq_enable();
}

static __frame void enable_irqs_too_early(void)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&lock_irq, flags);
	local_irq_enable();
	local_irq_disable();
	raw_spin_unlock_irqrestore(&lock_irq, flags);
}

static __always_inline bool irq_cases(const char *what)
{
	if (!strcmp(what, "irq_inversion")) {
		use_with_irqs_on(&lock_task);
		nest(&lock_irq, &lock_task);
		use_in_irq();
	} else if (!strcmp(what, "irq_inversion_backwards")) {
		use_in_irq();
		nest(&lock_irq, &lock_task);
		use_with_irqs_on(&lock_task);
	} else if (!strcmp(what, "irq_inversion_chain")) {
		use_with_irqs_on(&lock_behind);
		nest(&lock_middle, &lock_behind);
		nest(&lock_irq, &lock_middle);
		use_in_irq();
	} else if (!strcmp(what, "irq_unsafe_order")) {
		use_in_irq();
		use_with_irqs_on(&lock_task);
		nest(&lock_irq, &lock_task);
	} else if (!strcmp(what, "irq_unsafe_chain")) {
		use_in_irq();
		use_with_irqs_on(&lock_behind);
		nest(&lock_irq, &lock_middle);
		nest(&lock_task, &lock_behind);
		nest(&lock_middle, &lock_task);
	} else if (!strcmp(what, "irqs_on_with_lock")) {
		use_in_irq();
		enable_irqs_too_early();
	} else {
		return false;
	}
	return true;
}

/* -- locks that go away, and locks that stay ---------------------------------------------------------------------- */

static __frame void free_locked(void)
{
	static struct lock_class_key key;
	struct shared *object = kmalloc(sizeof(*object), GFP_KERNEL);

	__mutex_init(&object->lock, "&object->lock", &key);
	mutex_lock(&object->lock);
	kfree(object);
}

static __frame void init_locked(void)
{
	static struct lock_class_key key;

	down_write(&sem);
	__init_rwsem(&sem, "&sem", &key);
}

static __frame int exit_locked(void *data)
{
	(void)data;
	mutex_lock(&lock_outer);
	return 0;
}

static __frame void nest_not_locked(void)
{
	mutex_lock_nest_lock(&lock_inner, &lock_outer);
	mutex_unlock(&lock_inner);
}

#define LONG_MS 3600000

static __frame int hold_semaphore(void *data)
{
	(void)data;
	down(&counting);
	msleep(LONG_MS);
	up(&counting);
	return 0;
}

static __frame int wait_semaphore(void *data)
{
	(void)data;
	down(&counting);
	up(&counting);
	return 0;
}

static __frame void hung_semaphore(void)
{
	sema_init(&counting, 1);
	kthread_run(hold_semaphore, NULL, "golock_holder");
	msleep(100);
	kthread_run(wait_semaphore, NULL, "golock_waiter");
}

static __always_inline bool lifetime_cases(const char *what)
{
	if (!strcmp(what, "free_locked"))
		free_locked();
	else if (!strcmp(what, "init_locked"))
		init_locked();
	else if (!strcmp(what, "exit_locked"))
		kthread_run(exit_locked, NULL, "golock_exit");
	else if (!strcmp(what, "nest_not_locked"))
		nest_not_locked();
	else if (!strcmp(what, "hung_semaphore"))
		hung_semaphore();
	else
		return false;
	return true;
}

/* -- RCU --------------------------------------------------------------------------------------------------------- */

static __frame struct shared *look(void)
{
	return rcu_dereference(shared);
}

static __frame struct shared *look_locked(void)
{
	return rcu_dereference_protected(shared, lockdep_is_held(&lock_outer));
}

static __always_inline bool rcu_cases(const char *what)
{
	if (!strcmp(what, "rcu_dereference")) {
		rcu_read_lock();
		look();		/* this is right */
		rcu_read_unlock();
		look();
		look();		/* said once */
	} else if (!strcmp(what, "rcu_dereference_protected")) {
		mutex_lock(&lock_outer);
		look_locked();	/* this is right */
		mutex_unlock(&lock_outer);
		mutex_lock(&lock_inner);
		look_locked();
		mutex_unlock(&lock_inner);
	} else {
		return false;
	}
	return true;
}

/* -- where things might sleep: each in a section that must not ---------------------------------------------------- */

static __always_inline int sleep_call(const char *what)
{
	u64 value = 0;
	int err = 0;

	if (!strcmp(what, "down_read")) {
		down_read(&sem);
		up_read(&sem);
	} else if (!strcmp(what, "down_read_interruptible")) {
		err = down_read_interruptible(&sem);
		up_read(&sem);
	} else if (!strcmp(what, "down_read_killable")) {
		err = down_read_killable(&sem);
		up_read(&sem);
	} else if (!strcmp(what, "down_write")) {
		down_write(&sem);
		up_write(&sem);
	} else if (!strcmp(what, "down_write_killable")) {
		err = down_write_killable(&sem);
		up_write(&sem);
	} else if (!strcmp(what, "down")) {
		down(&counting);
	} else if (!strcmp(what, "down_interruptible")) {
		err = down_interruptible(&counting);
	} else if (!strcmp(what, "down_killable")) {
		err = down_killable(&counting);
	} else if (!strcmp(what, "down_timeout")) {
		err = down_timeout(&counting, 1);
	} else if (!strcmp(what, "wait_for_completion")) {
		wait_for_completion(&done);
	} else if (!strcmp(what, "copy_to_user")) {
		err = copy_to_user(NULL, &value, sizeof(value)) ? -EFAULT : 0;
	} else {
		err = -EINVAL;
	}
	return err;
}

static __frame int sleep_in_atomic(const char *what)
{
	int err;

	sema_init(&counting, 1);
	complete(&done);
	preempt_disable();
	err = sleep_call(what);
	preempt_enable();
	return err;
}

__frame int more_cases(const char *what)
{
	if (irq_cases(what) || lifetime_cases(what) || rcu_cases(what))
		return 0;
	return sleep_in_atomic(what);
}
