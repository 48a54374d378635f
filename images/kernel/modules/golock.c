// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module `golock`: locks misused on request, under the function names of the module whose reports are the reference.
 * A write to its debugfs file names a case. Cases that block leave the writer, or kernel threads, blocked for ever.
 */
#include <linux/bpf.h>
#include <linux/fs.h>
#include <linux/mmap_lock.h>
#include <linux/rcupdate.h>
#include <linux/sched/timeout.h>
#include <linux/syscalls.h>
#include <linux/uaccess.h>
#include "golock.h"

/* kcalls: a user page that is mapped and was never touched, and the log */
unsigned long golden_address(const char *what);
void golock_log(long ret);

DEFINE_MUTEX(lock_a);
DEFINE_MUTEX(lock_b);
DEFINE_RWSEM(sem_r);
DEFINE_SPIN(spin_x, LD_WAIT_CONFIG);
DEFINE_SPIN(spin_y, LD_WAIT_CONFIG);
DEFINE_SPIN(raw_z, LD_WAIT_SPIN);
DEFINE_COMPLETION(never);

#define might_sleep_here() might_sleep_at("golock.c", __LINE__)
#define LONG_MS 3600000

/* the kernel's inline function, which the reference's compiler put out of line here */
static __frame void read_lock_mm(struct mm_struct *mm) __asm__("mmap_read_lock");

static __frame void read_lock_mm(struct mm_struct *mm)
{
	down_read(&mm->mmap_lock);
}

static __frame void take_a_then_b(void)
{
	mutex_lock(&lock_a);
	mutex_lock(&lock_b);
	mutex_unlock(&lock_b);
	mutex_unlock(&lock_a);
}

static __frame void take_b_then_a(void)
{
	mutex_lock(&lock_b);
	mutex_lock(&lock_a);
	mutex_unlock(&lock_a);
	mutex_unlock(&lock_b);
}

static __frame int abba1(void *data)
{
	(void)data;
	mutex_lock(&lock_a);
	msleep(500);
	mutex_lock(&lock_b);
	mutex_unlock(&lock_b);
	mutex_unlock(&lock_a);
	return 0;
}

/* the second one: it finds the order of the first already known */
static __frame int abba2(void *data)
{
	(void)data;
	mutex_lock(&lock_b);
	msleep(1000);
	mutex_lock(&lock_a);
	mutex_unlock(&lock_a);
	mutex_unlock(&lock_b);
	return 0;
}

static __frame int rw_reader(void *data)
{
	(void)data;
	down_read(&sem_r);
	msleep(1000);
	down_read(&sem_r);
	up_read(&sem_r);
	up_read(&sem_r);
	return 0;
}

static __frame int rw_writer(void *data)
{
	(void)data;
	msleep(500);
	down_write(&sem_r);
	up_write(&sem_r);
	return 0;
}

static __frame int hold_mutex(void *data)
{
	(void)data;
	mutex_lock(&lock_a);
	msleep(LONG_MS);
	mutex_unlock(&lock_a);
	return 0;
}

static __frame int wait_mutex(void *data)
{
	(void)data;
	mutex_lock(&lock_a);
	mutex_unlock(&lock_a);
	return 0;
}

static __frame int wait_never(void *data)
{
	(void)data;
	wait_for_completion(&never);
	return 0;
}

static __frame int hang(void *data)
{
	(void)data;
	for (;;) {
		__set_current_state(TASK_UNINTERRUPTIBLE);
		schedule_timeout(LONG_MS);
	}
}

/* plain down_write(): unlike mmap() it cannot be killed while it waits */
static __frame int mm_writer(void *data)
{
	struct mm_struct *mm = data;

	msleep(500);
	down_write(&mm->mmap_lock);
	up_write(&mm->mmap_lock);
	return 0;
}

static __frame void irq_spin(struct irq_work *work)
{
	(void)work;
	spin_lock(&spin_x);
	spin_unlock(&spin_x);
}

static struct irq_work irq_work = { .func = irq_spin };

static __frame unsigned long copy_one(const void *from)
{
	u64 value;

	return copy_from_user(&value, from, sizeof(value));
}

static __always_inline int single(const char *what)
{
	const void *page = (const void *)golden_address("user_notpresent");
	struct mm_struct *mm = current->mm;

	if (!strcmp(what, "might_sleep_spinlock")) {
		spin_lock(&spin_x);
		might_sleep_here();
		spin_unlock(&spin_x);
	} else if (!strcmp(what, "might_sleep_mutex")) {
		preempt_disable();
		mutex_lock(&lock_a);
		mutex_unlock(&lock_a);
		preempt_enable();
	} else if (!strcmp(what, "might_sleep_irqs_off")) {
		local_irq_disable();
		might_sleep_here();
		local_irq_enable();
	} else if (!strcmp(what, "might_sleep_rcu")) {
		rcu_read_lock();
		might_sleep_here();
		rcu_read_unlock();
	} else if (!strcmp(what, "might_fault_spinlock")) {
		spin_lock(&spin_x);
		golock_log((long)copy_one(page));
		spin_unlock(&spin_x);
	} else if (!strcmp(what, "scheduling_while_atomic")) {
		preempt_disable();
		__set_current_state(TASK_UNINTERRUPTIBLE);
		schedule_timeout(10);
		preempt_enable();
	} else if (!strcmp(what, "inconsistent_irq")) {
		spin_lock(&spin_x);
		spin_unlock(&spin_x);
		irq_work_queue(&irq_work);
	} else if (!strcmp(what, "invalid_wait_context")) {
		_raw_spin_lock(&raw_z);
		spin_lock(&spin_y);
		spin_unlock(&spin_y);
		_raw_spin_unlock(&raw_z);
	} else if (!strcmp(what, "mmap_lock_copy_from_user")) {
		read_lock_mm(mm);
		golock_log((long)copy_one(page));
		up_read(&mm->mmap_lock);
	} else if (!strcmp(what, "mmap_lock_trylock_copy_from_user")) {
		if (!down_read_trylock(&mm->mmap_lock))
			return -EBUSY;
		golock_log((long)copy_one(page));
		up_read(&mm->mmap_lock);
	} else if (!strcmp(what, "mmap_lock_real")) {
		read_lock_mm(mm);
		kthread_run(mm_writer, mm, "golock_mmwrite");
		msleep(1000);
		golock_log((long)copy_one(page));
		up_read(&mm->mmap_lock);
	} else {
		return more_cases(what);
	}
	return 0;
}

static __frame int doit(const char *what)
{
	if (!strcmp(what, "mutex_aa")) {
		mutex_lock(&lock_a);
		mutex_lock(&lock_a);
	} else if (!strcmp(what, "mutex_abba")) {
		take_a_then_b();
		take_b_then_a();
	} else if (!strcmp(what, "mutex_abba_real")) {
		kthread_run(abba1, NULL, "golock_t1");
		kthread_run(abba2, NULL, "golock_t2");
	} else if (!strcmp(what, "unlock_balance")) {
		mutex_unlock(&lock_a);
	} else if (!strcmp(what, "rwsem_aa_read")) {
		down_read(&sem_r);
		down_read(&sem_r);
		up_read(&sem_r);
		up_read(&sem_r);
	} else if (!strcmp(what, "rwsem_aa_write")) {
		down_write(&sem_r);
		down_write(&sem_r);
	} else if (!strcmp(what, "rwsem_read_then_write")) {
		down_read(&sem_r);
		down_write(&sem_r);
	} else if (!strcmp(what, "rwsem_trylock_then_read")) {
		if (!down_read_trylock(&sem_r))
			return -EBUSY;
		down_read(&sem_r);
		up_read(&sem_r);
		up_read(&sem_r);
	} else if (!strcmp(what, "rwsem_recursive_real")) {
		kthread_run(rw_reader, NULL, "golock_reader");
		kthread_run(rw_writer, NULL, "golock_writer");
	} else if (!strcmp(what, "return_to_user")) {
		down_read(&sem_r);
	} else if (!strcmp(what, "hung_mutex")) {
		kthread_run(hold_mutex, NULL, "golock_holder");
		msleep(100);
		kthread_run(wait_mutex, NULL, "golock_waiter");
	} else if (!strcmp(what, "hung_completion")) {
		kthread_run(wait_never, NULL, "golock_wait");
	} else if (!strcmp(what, "hung_task")) {
		kthread_run(hang, NULL, "golock_hang");
	} else {
		return single(what);
	}
	return 0;
}

static __frame ssize_t trig(struct file *file, const char *buf, size_t count, loff_t *pos)
{
	char what[40];
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

static const struct file_operations golock_fops = { .write = trig };
__used struct file golock_file = { .f_op = &golock_fops, .sb = &debugfs_sb, .f_mode = FMODE_WRITE | FMODE_CAN_WRITE };
