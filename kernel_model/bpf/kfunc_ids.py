"""Which kernel functions programs may call, and how.

Mirrors the BTF_KFUNCS tables of kernel/bpf/{helpers,arena,stream}.c and of module bpf_testmod. All of these are in the
common set (BPF_PROG_TYPE_UNSPEC): every program type may call them. Leaves out the sets of other hooks.
"""

from __future__ import annotations

from kernel_model.profiles import Profile

# include/linux/btf.h (6.18)
KF_ACQUIRE, KF_RELEASE, KF_RET_NULL = 1 << 0, 1 << 1, 1 << 2
KF_TRUSTED_ARGS, KF_SLEEPABLE, KF_DESTRUCTIVE, KF_RCU = 1 << 4, 1 << 5, 1 << 6, 1 << 7
KF_ITER_NEW, KF_ITER_NEXT, KF_ITER_DESTROY, KF_RCU_PROTECTED = 1 << 8, 1 << 9, 1 << 10, 1 << 11
KF_ARENA_RET, KF_ARENA_ARG1, KF_ARENA_ARG2 = 1 << 13, 1 << 14, 1 << 15

_COMMON = {
    "bpf_iter_num_new": KF_ITER_NEW,
    "bpf_iter_num_next": KF_ITER_NEXT | KF_RET_NULL,
    "bpf_iter_num_destroy": KF_ITER_DESTROY,
    "bpf_rcu_read_lock": 0,
    "bpf_rcu_read_unlock": 0,
    "bpf_preempt_disable": 0,
    "bpf_preempt_enable": 0,
    "bpf_stream_vprintk_impl": KF_TRUSTED_ARGS,
    "bpf_stream_vprintk": KF_TRUSTED_ARGS,
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
    return _COMMON.get(name)
