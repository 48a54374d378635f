"""Which kernel functions programs may call, and how.

Mirrors the BTF_KFUNCS tables of kernel/bpf/{helpers,arena,stream}.c and of module bpf_testmod. All of these are in the
common set (BPF_PROG_TYPE_UNSPEC), those of tasks in a set that tracing and syscall programs have: every program here
may call them. Leaves out the sets of other hooks.
"""

from __future__ import annotations

from kernel_model.profiles import Profile, TaskVma

# include/linux/btf.h (6.18)
KF_ACQUIRE, KF_RELEASE, KF_RET_NULL = 1 << 0, 1 << 1, 1 << 2
KF_TRUSTED_ARGS, KF_SLEEPABLE, KF_DESTRUCTIVE, KF_RCU = 1 << 4, 1 << 5, 1 << 6, 1 << 7
KF_ITER_NEW, KF_ITER_NEXT, KF_ITER_DESTROY, KF_RCU_PROTECTED = 1 << 8, 1 << 9, 1 << 10, 1 << 11
KF_ARENA_RET, KF_ARENA_ARG1, KF_ARENA_ARG2 = 1 << 13, 1 << 14, 1 << 15
# never merged (20260226161500.775715-1); which bit the series chose nothing here can see
KF_FORBID_FAULT = 1 << 31

_COMMON = {
    "bpf_iter_num_new": KF_ITER_NEW,
    "bpf_iter_num_next": KF_ITER_NEXT | KF_RET_NULL,
    "bpf_iter_num_destroy": KF_ITER_DESTROY,
    "bpf_rcu_read_lock": 0,
    "bpf_rcu_read_unlock": 0,
    "bpf_preempt_disable": 0,
    "bpf_preempt_enable": 0,
    "bpf_local_irq_save": 0,
    "bpf_local_irq_restore": 0,
    "bpf_copy_from_user_str": KF_SLEEPABLE,
    "bpf_copy_from_user_task_str": KF_SLEEPABLE,
    "bpf_iter_task_new": KF_ITER_NEW | KF_TRUSTED_ARGS | KF_RCU_PROTECTED,
    "bpf_iter_task_next": KF_ITER_NEXT | KF_RET_NULL,
    "bpf_iter_task_destroy": KF_ITER_DESTROY,
    "bpf_task_acquire": KF_ACQUIRE | KF_RCU | KF_RET_NULL,
    "bpf_task_release": KF_RELEASE,
    "bpf_task_from_pid": KF_ACQUIRE | KF_RET_NULL,
    "bpf_task_from_vpid": KF_ACQUIRE | KF_RET_NULL,
    "bpf_stream_vprintk_impl": KF_TRUSTED_ARGS,
    "bpf_stream_vprintk": KF_TRUSTED_ARGS,
}
# 4ac454682158 ("bpf: Introduce task_vma open-coded iterator kfuncs") (in v6.7)
_TASK_VMA = {
    "bpf_iter_task_vma_new": KF_ITER_NEW | KF_RCU,
    "bpf_iter_task_vma_next": KF_ITER_NEXT | KF_RET_NULL,
    "bpf_iter_task_vma_destroy": KF_ITER_DESTROY,
}
# what KF_FORBID_FAULT v5 makes of them
_TASK_VMA_SPLIT = {
    "bpf_iter_task_vma_next": KF_ITER_NEXT | KF_RET_NULL | KF_ACQUIRE | KF_FORBID_FAULT,
    "bpf_iter_task_vma_release": KF_RELEASE,
}
_TESTMOD = (
    "bpf_kfunc_arena_read",
    "bpf_kfunc_arena_write",
    "bpf_kfunc_arena_read_off",
    "bpf_kfunc_arena_write_off",
    "bpf_kfunc_arena_read_nofault",
    "bpf_kfunc_arena_kern_vm_start",
    "bpf_kfunc_read_kern",
    "bpf_kfunc_write_kern",
)
_ARENA = {
    "bpf_arena_alloc_pages": KF_ARENA_RET | KF_ARENA_ARG2,
    "bpf_arena_free_pages": KF_ARENA_ARG2,
    "bpf_arena_reserve_pages": KF_ARENA_ARG2,
}


def kfunc_flags(name: str, profile: Profile) -> int | None:
    """KF_* flags of the kfunc called `name`; None where programs may not call it.

    Arena kfuncs need trusted arguments and a sleepable context until arena->spinlock came (Profile.arena_rqspinlock).
    """
    if name in _ARENA:
        return _ARENA[name] | (0 if profile.arena_rqspinlock else KF_TRUSTED_ARGS | KF_SLEEPABLE)
    if name in _TESTMOD:
        return 0
    if profile.task_vma is TaskVma.SPLIT and name in _TASK_VMA_SPLIT:
        return _TASK_VMA_SPLIT[name]
    if name in _TASK_VMA:
        return _TASK_VMA[name]
    return _COMMON.get(name)


def absent_kfuncs(profile: Profile) -> frozenset[str]:
    """Functions of the image that the profile's kernel does not have: one image stands for all of them."""
    return frozenset() if profile.task_vma is TaskVma.SPLIT else frozenset(_TASK_VMA_SPLIT) - frozenset(_TASK_VMA)
