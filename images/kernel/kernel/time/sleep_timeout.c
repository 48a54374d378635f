// SPDX-License-Identifier: GPL-2.0-only
/* Sleeping for a time. Mirrors kernel/time/sleep_timeout.c: schedule_timeout(), msleep(); a jiffy is NSEC_PER_JIFFY. */
#include <linux/sched.h>
#include <linux/sched/timeout.h>

/* kcalls: a timer that wakes the current task; what is left of it once it is put away, in nanoseconds */
void start_sleep_timer(u64 ns);
u64 stop_sleep_timer(void);

__frame long schedule_timeout(long timeout)
{
	if (timeout == MAX_SCHEDULE_TIMEOUT) {
		schedule();
		return timeout;
	}
	if (timeout < 0)
		timeout = 0;
	start_sleep_timer((u64)timeout * NSEC_PER_JIFFY);
	schedule();
	return (long)((stop_sleep_timer() + NSEC_PER_JIFFY - 1) / NSEC_PER_JIFFY);
}

/* `msecs` milliseconds and a jiffy; wake-ups do not shorten it */
__frame void msleep(unsigned int msecs)
{
	long timeout = (long)msecs + 1;

	while (timeout) {
		__set_current_state(TASK_UNINTERRUPTIBLE);
		timeout = schedule_timeout(timeout);
	}
}
