/* SPDX-License-Identifier: GPL-2.0-only */
/* schedule_timeout(). In Linux part of linux/sched.h and jiffies.h. */
#ifndef _LINUX_SCHED_TIMEOUT_H
#define _LINUX_SCHED_TIMEOUT_H

#define MAX_SCHEDULE_TIMEOUT ((long)(~0UL >> 1))
#define NSEC_PER_JIFFY 1000000ULL	/* HZ = 1000 */

#define HZ 1000

long schedule_timeout(long timeout);
void msleep(unsigned int msecs);

#endif
