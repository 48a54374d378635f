/* SPDX-License-Identifier: GPL-2.0-only */
/* Annotations of the kernel's selftests that a program here may carry: they say nothing to the kernel. */
#ifndef __BPF_MISC_H__
#define __BPF_MISC_H__

#define __test_tag(tag) __attribute__((btf_decl_tag("comment:test_" tag)))
#define __success __test_tag("expect_success")
#define __failure __test_tag("expect_failure")
#define __msg(text) __test_tag("expect_msg=" text)
#define __retval(value) __test_tag("retval=" #value)
#define __naked __attribute__((naked))
#define __clobber_all "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "memory"

/*
 * Prefix of a system call's wrapper. The kernel's selftests are built once for each architecture; objects here are
 * built once, and the loader takes the wrapper that the running kernel has (kernel_model/bpf/object/attach.py).
 */
#ifdef __TARGET_ARCH_arm64
#define SYS_PREFIX "__arm64_"
#else
#define SYS_PREFIX "__x64_"
#endif

#endif
