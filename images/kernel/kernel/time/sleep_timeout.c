// SPDX-License-Identifier: GPL-2.0-only
/* Sleeping for a time. Mirrors kernel/time/sleep_timeout.c: schedule_timeout(); a jiffy is NSEC_PER_JIFFY. */
#include <linux/sched.h>
#include <linux/sched/timeout.h>

/* kcall: sleep in the state that is set, for `ns` at most; what is left of them */
u64 schedule_timeout_wait(u64 ns);

__frame long schedule_timeout(long timeout)
{
	if (timeout == MAX_SCHEDULE_TIMEOUT) {
		schedule();
		return timeout;
	}
	if (timeout < 0)
		timeout = 0;
	return (long)((schedule_timeout_wait((u64)timeout * NSEC_PER_JIFFY) + NSEC_PER_JIFFY - 1) / NSEC_PER_JIFFY);
}
