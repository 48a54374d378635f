"""Which kernel this is: a profile names a kernel and switches the behaviours that differ between kernels.

Each switch says what changed, with its commit or series. A switch belongs here only if something reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from kernel_model.errors import UnknownProfileError


class Scratch(Enum):
    """What becomes of a kernel-mode access to an unmapped arena page."""

    NONE = "none"  # it oopses
    BUSY = "busy"  # scratch page; a later allocation of that page fails with -EBUSY inside the kernel
    REPLACE = "replace"  # scratch page; a later allocation replaces it atomically


class TaskVma(Enum):
    """How the open-coded task_vma iterator keeps a VMA stable."""

    MMAP_LOCK = "mmap_lock"  # held for reading from _new to _destroy
    SPLIT = "split"  # KF_FORBID_FAULT v5: taken in _next, dropped by bpf_iter_task_vma_release()
    SNAPSHOT = "snapshot"  # per-VMA lock, copied, unlocked before the program sees it


@dataclass(frozen=True, slots=True)
class Profile:
    """One named kernel. `release` is what `uname -r` and oops headers print."""

    name: str
    release: str
    version: str  # first word of UTS version, as oops headers print it
    summary: str
    merged: bool
    scratch: Scratch  # dc11a4dba246 ("bpf: Recover arena kernel faults with scratch page") and its fix, in v7.2
    task_vma: TaskVma  # 4cbee026db54 and bee9ef4a40a2 in v7.1; the series is 20260226161500.775715-1
    vma_trusted_fields: bool  # the same: loads of vm_mm and vm_file stay trusted; 6.18's backport left that out
    trusted_args_default: bool  # 1a5c01d2508a in v7.0: arguments of every kfunc must be trusted, and not NULL
    trusted_results: bool  # "bpf: return PTR_TO_BTF_ID | PTR_TRUSTED from BPF kfuncs by default" in v7.0
    args_by_register: bool  # 20260513045158.2402494-1-yonghong.song@linux.dev in v7.2: messages say R1, not arg#0
    nested_rcu: bool  # 20251117200411.25563-2-puranjay@kernel.org in v6.19: RCU read sections may nest in programs
    consolidated_sleep_messages: bool  # a0d06cf102e4, cd9840c413e3, a2542a91aafd
    stream_error_limit: int | None  # kernel-origin reports per program; None: only the stream's capacity limits
    arena_rqspinlock: bool  # arena->spinlock and kfuncs callable from any context; before: one mutex, sleepable
    arena_prepopulate: bool  # page tables above the PTE level filled in at map creation
    ldimm64_full_range: bool  # 12a1fe6e12db in v7.0: an offset into a map may be 512 MiB and more


_V6_18 = Profile(
    name="v6.18",
    release="6.18.35",
    version="#1",
    summary="Linux 6.18.35: no scratch page, arena faults of kernel text oops",
    merged=True,
    scratch=Scratch.NONE,
    task_vma=TaskVma.SNAPSHOT,
    vma_trusted_fields=False,
    trusted_args_default=False,
    trusted_results=False,
    args_by_register=False,
    nested_rcu=False,
    consolidated_sleep_messages=False,
    stream_error_limit=None,
    arena_rqspinlock=False,
    arena_prepopulate=False,
    ldimm64_full_range=False,
)


def _derive(base: Profile, **changes: object) -> Profile:
    return replace(base, **changes)  # type: ignore[arg-type]


_V7_0 = _derive(
    _V6_18,
    name="v7.0",
    release="7.0.0",
    summary="Linux 7.0: the task_vma iterator holds mmap_lock from _new to _destroy",
    task_vma=TaskVma.MMAP_LOCK,
    trusted_args_default=True,
    trusted_results=True,
    nested_rcu=True,
    stream_error_limit=None,
    arena_rqspinlock=True,
    ldimm64_full_range=True,
)
_V7_1 = _derive(
    _V7_0,
    name="v7.1",
    release="7.1.0",
    summary="Linux 7.1: task_vma works on a snapshot taken under the per-VMA lock",
    task_vma=TaskVma.SNAPSHOT,
    vma_trusted_fields=True,
    consolidated_sleep_messages=True,
)
_DC11 = _derive(
    _V7_1,
    name="commit:dc11a4dba246",
    release="7.1.0-dc11a4dba246",
    summary="arena scratch page as first merged: allocating a scratched page fails with -EBUSY",
    scratch=Scratch.BUSY,
    args_by_register=True,
    arena_prepopulate=True,
)
_V7_2 = _derive(
    _DC11,
    name="v7.2",
    release="7.2.0",
    summary="Linux 7.2: arena faults of kernel text are recovered, allocation replaces the scratch page",
    scratch=Scratch.REPLACE,
)
_KF5 = _derive(
    _V7_0,
    name="series:kf-forbid-fault-v5",
    release="7.0.0-rc1-kf-forbid-fault-v5",
    summary="never merged: KF_FORBID_FAULT v5 (20260226161500.775715-1), task_vma can release mmap_lock",
    merged=False,
    task_vma=TaskVma.SPLIT,
    consolidated_sleep_messages=True,
)

PROFILES: dict[str, Profile] = {p.name: p for p in (_V6_18, _V7_0, _V7_1, _DC11, _V7_2, _KF5)}
DEFAULT = "v7.2"


def get(name: str) -> Profile:
    """The profile called `name`. Raises UnknownProfileError, which lists the known ones."""
    try:
        return PROFILES[name]
    except KeyError:
        raise UnknownProfileError(f"unknown profile {name!r}: known are {', '.join(PROFILES)}") from None
