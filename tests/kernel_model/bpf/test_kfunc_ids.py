"""kernel_model/bpf/kfunc_ids.py: flags by profile."""

from kernel_model import profiles
from kernel_model.bpf.kfunc_ids import (
    KF_ARENA_ARG2,
    KF_ARENA_RET,
    KF_ITER_NEXT,
    KF_RET_NULL,
    KF_SLEEPABLE,
    KF_TRUSTED_ARGS,
    kfunc_flags,
)


def test_arena_kfuncs_sleep_only_where_they_take_a_mutex():
    old, new = profiles.get("v6.18"), profiles.get("v7.2")
    assert kfunc_flags("bpf_arena_alloc_pages", old) == KF_ARENA_RET | KF_ARENA_ARG2 | KF_TRUSTED_ARGS | KF_SLEEPABLE
    assert kfunc_flags("bpf_arena_alloc_pages", new) == KF_ARENA_RET | KF_ARENA_ARG2
    assert kfunc_flags("bpf_arena_free_pages", new) == KF_ARENA_ARG2


def test_iterators_and_the_test_module():
    profile = profiles.get("v7.2")
    assert kfunc_flags("bpf_iter_num_next", profile) == KF_ITER_NEXT | KF_RET_NULL
    assert kfunc_flags("bpf_kfunc_arena_read", profile) == 0


def test_other_kernel_functions_are_out_of_reach():
    assert kfunc_flags("do_group_exit", profiles.get("v7.2")) is None
