/* SPDX-License-Identifier: GPL-2.0-only */
/* Nothing here traces: the file is there for programs that include it. */
#ifndef __BPF_TRACING_H__
#define __BPF_TRACING_H__
#endif
