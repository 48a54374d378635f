// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the timer interrupt does. Mirrors the functions between the clock event device and the scheduler in
 * kernel/time/hrtimer.c, tick-sched.c and timer.c (high resolution mode). Left out: timers of others, jiffies,
 * accounting of times, softirqs. Only code in user mode is interrupted (see Machine.user_slice).
 */
#include <linux/hardirq.h>

void sched_tick(void);	/* kcall: kernel/sched/core.c */

static __frame void update_process_times(void)
{
	sched_tick();
}

static __frame void tick_nohz_handler(void)
{
	update_process_times();
}

static __frame void __hrtimer_run_queues(void)
{
	tick_nohz_handler();
}

__frame void hrtimer_interrupt(void)
{
	__hrtimer_run_queues();
}
