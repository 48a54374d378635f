"""Programs around contexts that may sleep, kernel pointers and iterators over them, for comparing verifiers.

Calls and field offsets are symbolic: build(btf) makes instructions for one kernel's BTF. The same program then runs
through the verifier of the machine's kernel and through ours, on the machine's types and on the image's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from arch.bpf_isa import Insn
from kernel_model.bpf.object.secdef import BPF_TRACE_FENTRY, BPF_TRACE_RAW_TP
from kernel_model.bpf.program import ProgType
from kernel_model.types import Btf, Kind

EXIT = Insn(0x95)
Step = Insn | Callable[[Btf], Insn] | Sequence["Step"]


def mov(dst: int, value: int) -> Insn:
    """dst = value."""
    return Insn(0xB7, dst, 0, 0, value)


def copy(dst: int, src: int) -> Insn:
    """dst = src."""
    return Insn(0xBF, dst, src)


def fp(dst: int, off: int) -> Step:
    """dst = r10 + off."""
    return [copy(dst, 10), Insn(0x07, dst, 0, 0, off)]


def helper(number: int) -> Insn:
    """A call of a helper."""
    return Insn(0x85, 0, 0, 0, number)


def kfunc(name: str) -> Step:
    """A call of a kernel function."""
    def call(btf: Btf) -> Insn:
        found = btf.find(name, Kind.FUNC)
        assert found is not None, f"no function {name}"
        return Insn(0x85, 0, 2, 0, found.id)
    return call


def field(dst: int, src: int, struct: str, member: str, size: int = 0x18) -> Step:
    """dst = src->member, of `size` (a BPF size code)."""
    def load(btf: Btf) -> Insn:
        record = btf.find(struct, Kind.STRUCT)
        assert record is not None
        found = btf.find_member(record, member)
        assert found is not None, f"no {struct}.{member}"
        return Insn(0x61 | size, dst, src, found.bit_offset // 8)
    return load


def build(steps: Step, btf: Btf) -> list[Insn]:
    """Instructions of `steps` for a kernel with these types."""
    if isinstance(steps, Insn):
        return [steps.copy()]
    if callable(steps):
        return [steps(btf)]
    return [insn for step in steps for insn in build(step, btf)]


DONE: Step = [mov(0, 0), EXIT]
TASK: Step = [helper(158), copy(6, 0)]  # bpf_get_current_task_btf()
COPY: Step = [fp(1, -64), mov(2, 8), mov(3, 0), helper(148)]  # bpf_copy_from_user()
COPY_STR: Step = [fp(1, -64), mov(2, 8), mov(3, 0), mov(4, 0), kfunc("bpf_copy_from_user_str")]
RCU, UNRCU = kfunc("bpf_rcu_read_lock"), kfunc("bpf_rcu_read_unlock")
NOPREEMPT, PREEMPT = kfunc("bpf_preempt_disable"), kfunc("bpf_preempt_enable")


ZEROS: Step = [Insn(0x7A, 10, 0, off, 0) for off in (-32, -24, -16, -8)]
ANYWHERE: Step = [helper(7), Insn(0x57, 0, 0, 0, 24), copy(6, 10), Insn(0x0F, 6, 0)]


ACQUIRE, RELEASE = kfunc("bpf_task_acquire"), kfunc("bpf_task_release")
FROM_PID = kfunc("bpf_task_from_pid")
PARENT = field(7, 6, "task_struct", "real_parent")
UNLESS_NULL: Step = [Insn(0x15, 0, 0, 2, 0), copy(1, 0), RELEASE]


def tasks_new(task: int = 0, flags: int = 0, off: int = -32) -> Step:
    """bpf_iter_task_new(r10 + off, NULL or register `task`, flags)."""
    return [fp(1, off), copy(2, task) if task else mov(2, 0), mov(3, flags), kfunc("bpf_iter_task_new")]


def tasks(what: str, off: int = -32) -> Step:
    """bpf_iter_task_<what>(r10 + off)."""
    return [fp(1, off), kfunc(f"bpf_iter_task_{what}")]


def task_loop(*steps: Step) -> Step:
    """while ((r0 = bpf_iter_task_next())) steps."""
    body = flat(*steps)
    return [tasks("next"), Insn(0x15, 0, 0, len(body) + 1, 0), *body, Insn(0x05, 0, 0, -(len(body) + 5))]


def irq_save(off: int = -8) -> Step:
    """bpf_local_irq_save(r10 + off)."""
    return [fp(1, off), kfunc("bpf_local_irq_save")]


def irq_restore(off: int = -8) -> Step:
    """bpf_local_irq_restore(r10 + off)."""
    return [fp(1, off), kfunc("bpf_local_irq_restore")]


def vma_new(off: int = -8, task: int = 6) -> Step:
    """bpf_iter_task_vma_new(r10 + off, task, 0)."""
    return [fp(1, off), copy(2, task), mov(3, 0), kfunc("bpf_iter_task_vma_new")]


def vma(what: str, off: int = -8) -> Step:
    """bpf_iter_task_vma_<what>(r10 + off)."""
    return [fp(1, off), kfunc(f"bpf_iter_task_vma_{what}")]


def loop(body: Sequence[Insn | Callable[[Btf], Insn]], off: int = -8) -> Step:
    """while ((r0 = next())) body; body is a flat list, and r0 the element when it begins."""
    n = len(body)
    return [vma("next", off), Insn(0x15, 0, 0, n + 1, 0), *body, Insn(0x05, 0, 0, -(n + 5))]


def flat(*steps: Step) -> list[Insn | Callable[[Btf], Insn]]:
    """Steps without nesting, to count them."""
    out: list[Insn | Callable[[Btf], Insn]] = []
    for step in steps:
        if isinstance(step, Insn) or callable(step):
            out.append(step)
        else:
            out += flat(*step)
    return out


def over_vmas(*body: Step) -> Step:
    """A whole iteration over the current task's VMAs."""
    return [TASK, vma_new(), loop(flat(*body)), vma("destroy")]


PROGRAMS: dict[str, Step] = {
    # regions
    "copy": [COPY, DONE],
    "copy_in_rcu": [RCU, COPY, UNRCU, DONE],
    "copy_without_preemption": [NOPREEMPT, COPY, PREEMPT, DONE],
    "copy_without_interrupts": [irq_save(), COPY, irq_restore(), DONE],
    "copy_after_regions": [RCU, UNRCU, NOPREEMPT, PREEMPT, irq_save(), irq_restore(), COPY, DONE],
    "copy_in_all_regions": [RCU, NOPREEMPT, irq_save(), COPY, DONE],
    "copy_without_preemption_or_interrupts": [NOPREEMPT, irq_save(), COPY, DONE],
    "copy_str": [COPY_STR, DONE],
    "copy_str_in_rcu": [RCU, COPY_STR, UNRCU, DONE],
    "copy_str_without_preemption": [NOPREEMPT, COPY_STR, PREEMPT, DONE],
    "copy_str_without_interrupts": [irq_save(), COPY_STR, irq_restore(), DONE],
    "exit_in_rcu": [RCU, DONE],
    "exit_without_preemption": [NOPREEMPT, NOPREEMPT, PREEMPT, DONE],
    "exit_without_interrupts": [irq_save(), DONE],
    "exit_in_all_regions": [RCU, NOPREEMPT, irq_save(), DONE],
    "nested_rcu": [RCU, RCU, UNRCU, UNRCU, DONE],
    "unmatched_rcu": [UNRCU, DONE],
    "unmatched_preempt": [PREEMPT, DONE],
    # interrupt flags
    "irq_nested": [irq_save(), irq_save(-16), irq_restore(-16), irq_restore(), DONE],
    "irq_out_of_order": [irq_save(), irq_save(-16), irq_restore(), irq_restore(-16), DONE],
    "irq_saved_twice": [irq_save(), irq_save(), DONE],
    "irq_restored_twice": [irq_save(), irq_restore(), irq_restore(), DONE],
    "irq_not_saved": [irq_restore(), DONE],
    "irq_flag_not_on_stack": [copy(6, 1), kfunc("bpf_local_irq_save"), DONE],
    "irq_flag_misaligned": [irq_save(-12), DONE],
    "irq_flag_overwritten": [irq_save(), Insn(0x7A, 10, 0, -8, 1), irq_restore(), DONE],
    "irq_flag_read": [irq_save(), Insn(0x79, 0, 10, -8), EXIT],
    "irq_on_one_branch": [helper(7), Insn(0x15, 0, 0, 3, 0), irq_save(), DONE],
    # kernel pointers
    "task_pid": [TASK, field(0, 6, "task_struct", "pid", 0), EXIT],
    "task_mm": [TASK, field(1, 6, "task_struct", "mm"), field(0, 1, "mm_struct", "map_count", 0), EXIT],
    "task_mm_in_rcu": [TASK, RCU, field(1, 6, "task_struct", "mm"), UNRCU,
                       field(0, 1, "mm_struct", "map_count", 0), EXIT],
    "task_parent": [TASK, field(1, 6, "task_struct", "real_parent"), field(0, 1, "task_struct", "pid", 0), EXIT],
    "task_leader_in_rcu": [TASK, RCU, field(7, 6, "task_struct", "group_leader"),
                           field(0, 7, "task_struct", "pid", 0), UNRCU, field(0, 7, "task_struct", "pid", 0), EXIT],
    "task_leader_iterated": [TASK, RCU, field(7, 6, "task_struct", "group_leader"), vma_new(-8, 7), vma("destroy"),
                             UNRCU, DONE],
    "task_parent_iterated": [TASK, field(7, 6, "task_struct", "real_parent"), vma_new(-8, 7), vma("destroy"), DONE],
    "task_comm": [TASK, field(0, 6, "task_struct", "comm", 0x10), EXIT],
    "task_stack": [TASK, field(1, 6, "task_struct", "stack"), Insn(0x79, 0, 1, 8), EXIT],
    "task_written": [TASK, Insn(0x62, 6, 0, 0, 1), DONE],
    "task_before": [TASK, Insn(0x61, 0, 6, -4), EXIT],
    "task_variable": [TASK, helper(7), Insn(0x57, 0, 0, 0, 7), Insn(0x0F, 6, 0), Insn(0x61, 0, 6, 0), EXIT],
    "task_half_a_pointer": [TASK, field(0, 6, "task_struct", "mm", 0), EXIT],
    "task_as_scalar": [helper(35), Insn(0x79, 0, 0, 0), EXIT],
    # the stack at a variable offset: r6 = r10 + (0, 8, 16 or 24)
    "stack_read": [ZEROS, ANYWHERE, Insn(0x79, 0, 6, -32), EXIT],
    "stack_read_of_data": [ZEROS, Insn(0x7A, 10, 0, -16, 7), ANYWHERE, Insn(0x79, 0, 6, -32), EXIT],
    "stack_read_of_nothing": [ANYWHERE, Insn(0x79, 0, 6, -32), EXIT],
    "stack_read_word": [ZEROS, ANYWHERE, Insn(0x61, 0, 6, -28), EXIT],
    "stack_read_misaligned": [ZEROS, ANYWHERE, Insn(0x79, 0, 6, -28), EXIT],
    "stack_read_beyond": [ZEROS, ANYWHERE, Insn(0x79, 0, 6, -24), EXIT],
    "stack_read_below": [ANYWHERE, Insn(0x79, 0, 6, -520), EXIT],
    "stack_read_unbounded": [helper(7), copy(6, 10), Insn(0x0F, 6, 0), Insn(0x71, 0, 6, -32), EXIT],
    "stack_written": [ZEROS, ANYWHERE, Insn(0x7A, 6, 0, -32, 7), Insn(0x79, 0, 10, -16), EXIT],
    "stack_written_with_zero": [ZEROS, ANYWHERE, Insn(0x7A, 6, 0, -32, 0), Insn(0x79, 0, 10, -16), EXIT],
    "stack_written_with_a_zero_register": [ZEROS, ANYWHERE, mov(1, 0), Insn(0x7B, 6, 1, -32), Insn(0x79, 0, 10, -16),
                                           EXIT],
    "stack_written_over_a_pointer": [Insn(0x7B, 10, 1, -16), ANYWHERE, Insn(0x7A, 6, 0, -32, 7),
                                     Insn(0x79, 1, 10, -16), Insn(0x61, 0, 1, 0), EXIT],
    "stack_written_beyond": [ANYWHERE, Insn(0x7A, 6, 0, -24, 7), DONE],
    "stack_of_a_helper": [ZEROS, ANYWHERE, copy(1, 6), Insn(0x07, 1, 0, 0, -32), mov(2, 8), mov(3, 0), helper(148),
                          Insn(0x79, 0, 10, -16), EXIT],
    "stack_of_a_helper_beyond": [ZEROS, ANYWHERE, copy(1, 6), Insn(0x07, 1, 0, 0, -32), mov(2, 16), mov(3, 0),
                                 helper(148), DONE],
    "stack_of_an_iterator": [TASK, copy(7, 6), ANYWHERE, copy(1, 6), Insn(0x07, 1, 0, 0, -32), copy(2, 7), mov(3, 0),
                             kfunc("bpf_iter_task_vma_new"), DONE],
    # the iterator
    "vma_loop": [over_vmas(), DONE],
    "vma_start": [over_vmas(field(1, 0, "vm_area_struct", "vm_start")), DONE],
    "vma_counted": [mov(7, 0), over_vmas(Insn(0x07, 7, 0, 0, 1)), copy(0, 7), EXIT],
    "vma_mm": [over_vmas(field(1, 0, "vm_area_struct", "vm_mm"), field(2, 1, "mm_struct", "map_count", 0)), DONE],
    "vma_mm_in_rcu": [over_vmas(copy(7, 0), RCU, field(8, 7, "vm_area_struct", "vm_mm"), UNRCU), DONE],
    "vma_sleep": [over_vmas(COPY), DONE],
    "vma_sleep_in_rcu": [over_vmas(RCU, COPY, UNRCU), DONE],
    "vma_in_rcu": [TASK, RCU, vma_new(), loop([]), vma("destroy"), UNRCU, DONE],
    "vma_not_destroyed": [TASK, vma_new(), vma("next"), DONE],
    "vma_not_checked": [TASK, vma_new(), vma("next"), field(1, 0, "vm_area_struct", "vm_start"), vma("destroy"), DONE],
    "vma_after_destroy": [TASK, vma_new(), vma("next"), copy(7, 0), Insn(0x15, 0, 0, 3, 0), vma("destroy"),
                          field(0, 7, "vm_area_struct", "vm_start"), EXIT],
    "vma_after_next": [TASK, vma_new(), vma("next"), Insn(0x15, 0, 0, 6, 0), copy(7, 0), vma("next"),
                       field(1, 7, "vm_area_struct", "vm_start"), mov(1, 0), vma("destroy"), DONE],
    "vma_misaligned": [TASK, vma_new(-12), DONE],
    "vma_next_misaligned": [vma("next", -12), DONE],
    "vma_overwritten": [TASK, vma_new(), Insn(0x7A, 10, 0, -8, 1), vma("destroy"), DONE],
    "vma_spilled": [TASK, vma_new(), vma("next"), Insn(0x7B, 10, 0, -16), Insn(0x15, 0, 0, 2, 0),
                    Insn(0x79, 1, 10, -16), field(2, 1, "vm_area_struct", "vm_end"), vma("destroy"), DONE],
    "vma_subprogram": [over_vmas(copy(1, 0), Insn(0x85, 0, 1, 0, 6)), DONE, field(0, 1, "vm_area_struct", "vm_start"),
                       EXIT],
    "vma_beyond": [over_vmas(Insn(0x79, 1, 0, 4096)), DONE],
    "vma_at_an_odd_place": [over_vmas(Insn(0x79, 1, 0, 4)), DONE],
    "vma_flags": [over_vmas(field(1, 0, "vm_area_struct", "vm_flags")), DONE],
    "vma_file": [over_vmas(field(7, 0, "vm_area_struct", "vm_file"), Insn(0x15, 7, 0, 1, 0),
                           field(1, 7, "file", "f_inode")), DONE],
    "helper_reads_an_iterator": [TASK, vma_new(), fp(1, -8), mov(2, 8), helper(6), vma("destroy"), DONE],
    "helper_writes_an_iterator": [TASK, vma_new(), fp(1, -8), mov(2, 8), mov(3, 0), helper(148), vma("destroy"), DONE],
    "kfunc_writes_an_iterator": [TASK, vma_new(), fp(1, -8), mov(2, 8), mov(3, 0), mov(4, 0),
                                 kfunc("bpf_copy_from_user_str"), vma("destroy"), DONE],
    "task_as_buffer": [TASK, copy(1, 6), mov(2, 8), mov(3, 0), helper(148), DONE],
    "vma_summed": [mov(7, 0), mov(8, 0), over_vmas(field(1, 0, "vm_area_struct", "vm_start"),
                   field(2, 0, "vm_area_struct", "vm_end"), Insn(0x1F, 2, 1), Insn(0x0F, 7, 2), Insn(0x07, 8, 0, 0, 1)),
                   copy(0, 7), EXIT],
    "task_printed": [TASK, copy(1, 6), mov(2, 8), helper(6), DONE],
    "mm_printed": [TASK, field(1, 6, "task_struct", "mm"), mov(2, 8), helper(6), DONE],
    "number_as_buffer": [mov(1, 4096), mov(2, 8), helper(6), DONE],
    "nothing_as_buffer": [mov(1, 0), mov(2, 8), helper(6), DONE],
    "number_as_kfunc_buffer": [mov(1, 4096), mov(2, 8), mov(3, 0), mov(4, 0), kfunc("bpf_copy_from_user_str"), DONE],
    "task_as_kfunc_buffer": [TASK, copy(1, 6), mov(2, 8), mov(3, 0), mov(4, 0), kfunc("bpf_copy_from_user_str"), DONE],
    "vma_index": [mov(7, 0), over_vmas(Insn(0x25, 7, 0, 5, 3), copy(1, 7), Insn(0x67, 1, 0, 0, 3), copy(2, 10),
                  Insn(0x0F, 2, 1), Insn(0x07, 7, 0, 0, 1)), DONE],
    "vma_of_nobody": [mov(6, 0), vma_new(), DONE],
    "vma_of_a_number": [mov(6, 5), vma_new(), DONE],
    "vma_of_the_context": [copy(6, 1), vma_new(), DONE],
    "vma_of_an_mm": [TASK, field(7, 6, "task_struct", "mm"), vma_new(-8, 7), DONE],
    "vma_next_without_new": [vma("next"), DONE],
    "vma_destroyed_twice": [TASK, vma_new(), vma("destroy"), vma("destroy"), DONE],
    "vma_new_twice": [TASK, vma_new(), vma_new(), DONE],
    "vma_next_of_a_number_iterator": [fp(1, -8), mov(2, 0), mov(3, 3), kfunc("bpf_iter_num_new"), vma("next"), DONE],
    "vma_nested": [TASK, vma_new(), loop(flat(vma_new(-16), loop([], -16), vma("destroy", -16))), vma("destroy"),
                   DONE],
    "task_acquired": [TASK, copy(1, 6), ACQUIRE, UNLESS_NULL, DONE],
    "task_read_while_held": [TASK, copy(1, 6), ACQUIRE, Insn(0x15, 0, 0, 4, 0), copy(7, 0),
                             field(1, 7, "task_struct", "pid", 0), copy(1, 7), RELEASE, DONE],
    "task_not_released": [TASK, copy(1, 6), ACQUIRE, DONE],
    "task_released_unchecked": [TASK, copy(1, 6), ACQUIRE, copy(1, 0), RELEASE, DONE],
    "task_released_unacquired": [TASK, copy(1, 6), RELEASE, DONE],
    "task_released_twice": [TASK, copy(1, 6), ACQUIRE, Insn(0x15, 0, 0, 5, 0), copy(7, 0), copy(1, 0), RELEASE,
                            copy(1, 7), RELEASE, DONE],
    "task_read_after_release": [TASK, copy(1, 6), ACQUIRE, Insn(0x15, 0, 0, 4, 0), copy(7, 0), copy(1, 0), RELEASE,
                                field(1, 7, "task_struct", "pid", 0), DONE],
    "task_acquired_null": [mov(1, 0), ACQUIRE, UNLESS_NULL, DONE],
    "task_acquired_on_stack": [fp(1, -8), ACQUIRE, DONE],
    "task_released_on_stack": [fp(1, -8), RELEASE, DONE],
    "task_acquired_number": [mov(1, 4096), ACQUIRE, DONE],
    "task_by_pid": [mov(1, 1), FROM_PID, UNLESS_NULL, DONE],
    "task_by_pid_unchecked": [mov(1, 1), FROM_PID, copy(1, 0), RELEASE, DONE],
    "task_by_pid_of_a_pointer": [copy(1, 10), FROM_PID, UNLESS_NULL, DONE],
    "task_by_pid_vmas": [mov(1, 1), FROM_PID, Insn(0x15, 0, 0, 11, 0), copy(6, 0), vma_new(), vma("destroy"),
                         copy(1, 6), RELEASE, DONE],
    "task_by_pid_copied": [mov(1, 1), FROM_PID, Insn(0x15, 0, 0, 10, 0), copy(6, 0), fp(1, -64), mov(2, 8), mov(3, 0),
                           copy(4, 6), mov(5, 0), helper(191), copy(1, 6), RELEASE, DONE],
    "parent_acquired": [TASK, RCU, PARENT, Insn(0x15, 7, 0, 5, 0), copy(1, 7), ACQUIRE, UNLESS_NULL, UNRCU, DONE],
    "parent_unchecked": [TASK, RCU, PARENT, copy(1, 7), ACQUIRE, UNLESS_NULL, UNRCU, DONE],
    "parent_acquired_outside": [TASK, PARENT, Insn(0x15, 7, 0, 5, 0), copy(1, 7), ACQUIRE, UNLESS_NULL, DONE],
    "parent_acquired_later": [TASK, RCU, PARENT, UNRCU, Insn(0x15, 7, 0, 5, 0), copy(1, 7), ACQUIRE, UNLESS_NULL, DONE],
    "parent_copied": [TASK, RCU, PARENT, UNRCU, fp(1, -64), mov(2, 8), mov(3, 0), copy(4, 7), mov(5, 0), helper(191),
                      DONE],
    "copy_from_task_in_rcu": [TASK, RCU, fp(1, -64), mov(2, 8), mov(3, 0), copy(4, 6), mov(5, 0), helper(191), UNRCU,
                              DONE],
    "copy_str_from_task": [TASK, fp(1, -64), mov(2, 8), mov(3, 0), copy(4, 6), mov(5, 0),
                           kfunc("bpf_copy_from_user_task_str"), DONE],
    "copy_str_from_nobody": [fp(1, -64), mov(2, 8), mov(3, 0), mov(4, 0), mov(5, 0),
                             kfunc("bpf_copy_from_user_task_str"), DONE],
    "copy_from_task_in_vma": [over_vmas(fp(1, -64), mov(2, 8), mov(3, 0), copy(4, 6), mov(5, 0), helper(191)), DONE],
    "tasks": [RCU, tasks_new(), task_loop(field(1, 0, "task_struct", "pid", 0)), tasks("destroy"), UNRCU, DONE],
    "tasks_without_rcu": [tasks_new(), tasks("destroy"), DONE],
    "tasks_unlocked_inside": [RCU, tasks_new(), task_loop(UNRCU, RCU), tasks("destroy"), UNRCU, DONE],
    "tasks_destroyed_outside": [RCU, tasks_new(), UNRCU, tasks("destroy"), DONE],
    "tasks_used_outside": [RCU, tasks_new(), tasks("next"), copy(7, 0), tasks("destroy"), UNRCU,
                           Insn(0x15, 7, 0, 1, 0), field(1, 7, "task_struct", "pid", 0), DONE],
    "tasks_of_one": [TASK, RCU, tasks_new(6, 2), task_loop(), tasks("destroy"), UNRCU, DONE],
    "tasks_of_a_number": [RCU, mov(6, 5), tasks_new(6, 2), tasks("destroy"), UNRCU, DONE],
    "tasks_acquired": [RCU, tasks_new(), task_loop(copy(1, 0), ACQUIRE, UNLESS_NULL), tasks("destroy"), UNRCU, DONE],
    "tasks_vmas": [RCU, tasks_new(), task_loop(copy(6, 0), vma_new(), loop([]), vma("destroy")), tasks("destroy"),
                   UNRCU, DONE],
    "tasks_sleep": [RCU, tasks_new(), task_loop(COPY), tasks("destroy"), UNRCU, DONE],
    "tasks_leaked": [RCU, tasks_new(), UNRCU, DONE],
    "number_loop": [fp(1, -8), mov(2, 0), mov(3, 3), kfunc("bpf_iter_num_new"), fp(1, -8), kfunc("bpf_iter_num_next"),
                    Insn(0x15, 0, 0, 2, 0), Insn(0x61, 1, 0, 0), Insn(0x05, 0, 0, -6), fp(1, -8),
                    kfunc("bpf_iter_num_destroy"), DONE],
    "number_written": [fp(1, -8), mov(2, 0), mov(3, 3), kfunc("bpf_iter_num_new"), fp(1, -8),
                       kfunc("bpf_iter_num_next"), Insn(0x15, 0, 0, 1, 0), Insn(0x62, 0, 0, 0, 1), fp(1, -8),
                       kfunc("bpf_iter_num_destroy"), DONE],
}


@dataclass(frozen=True, slots=True)
class Traced:
    """A tracing program: what kind of it, and where it would be attached."""

    steps: Step
    type: ProgType = ProgType.TRACING
    sleepable: bool = False
    attach_type: int = BPF_TRACE_FENTRY
    target: str = "__x64_sys_getpgid"

    def attach_btf_id(self, btf: Btf) -> int:
        """BTF id of the target, 0 where this type has none."""
        if self.type is not ProgType.TRACING:
            return 0
        found = btf.find(self.target, Kind.TYPEDEF if self.attach_type == BPF_TRACE_RAW_TP else Kind.FUNC)
        return found.id if found is not None else 0


def raw_tp(*steps: Step, sleepable: bool = False) -> Traced:
    """SEC("raw_tp/...")."""
    return Traced(steps, ProgType.RAW_TRACEPOINT, sleepable, 0)


def tp_btf(*steps: Step) -> Traced:
    """SEC("tp_btf/sys_enter")."""
    return Traced(steps, attach_type=BPF_TRACE_RAW_TP, target="btf_trace_sys_enter")


def fentry(*steps: Step, sleepable: bool = False, target: str = "__x64_sys_getpgid") -> Traced:
    """SEC("fentry/...") or SEC("fentry.s/...")."""
    return Traced(steps, sleepable=sleepable, target=target)


ARG0, ARG1, ARG2 = (Insn(0x79, 7, 1, off) for off in (0, 8, 16))
TRACED: dict[str, Traced] = {
    "fentry": fentry(ARG0, Insn(0x79, 2, 7, 8), DONE),
    "fentry_beyond": fentry(ARG1, DONE),
    "fentry_half": fentry(Insn(0x61, 7, 1, 0), DONE),
    "fentry_between": fentry(Insn(0x61, 7, 1, 4), DONE),
    "fentry_far": fentry(Insn(0x79, 7, 1, 96), DONE),
    "fentry_written": fentry(Insn(0x7A, 1, 0, 0, 1), DONE),
    "fentry_returns_one": fentry(mov(0, 1), EXIT),
    "fentry_returns_anything": fentry(helper(7), EXIT),
    "fentry_returns_a_pointer": fentry(copy(0, 10), EXIT),
    "fentry_sleeps_not": fentry(COPY, DONE),
    "fentry_sleeps": fentry(COPY, DONE, sleepable=True),
    "fentry_sleeps_nowhere": fentry(DONE, sleepable=True, target="do_exit"),
    "fentry_copy_str": fentry(COPY_STR, DONE),
    "fentry_vma_sleep": fentry(over_vmas(COPY), DONE, sleepable=True),
    "fentry_vma_mm": fentry(over_vmas(field(1, 0, "vm_area_struct", "vm_mm"),
                                      field(2, 1, "mm_struct", "map_count", 0)), DONE),
    "fentry_scalar": fentry(Insn(0x79, 7, 1, 0), mov(0, 0), EXIT, target="do_exit"),
    "fentry_task_plain": fentry(ARG0, copy(6, 7), vma_new(), vma("destroy"), DONE, target="wake_up_new_task"),
    "raw_tp": raw_tp(ARG0, ARG1, copy(0, 7), EXIT),
    "raw_tp_far": raw_tp(Insn(0x79, 7, 1, 96), DONE),
    "raw_tp_word": raw_tp(Insn(0x61, 7, 1, 4), DONE),
    "raw_tp_written": raw_tp(Insn(0x7A, 1, 0, 0, 1), DONE),
    "raw_tp_sleeps": raw_tp(DONE, sleepable=True),
    "raw_tp_copy": raw_tp(COPY, DONE),
    "raw_tp_vma": raw_tp(over_vmas(field(1, 0, "vm_area_struct", "vm_start"), field(2, 0, "vm_area_struct", "vm_mm"),
                                   field(3, 2, "mm_struct", "map_count", 0)), DONE),
    "tp_btf": tp_btf(ARG0, Insn(0x79, 2, 7, 8), ARG1, DONE),
    "tp_btf_beyond": tp_btf(ARG2, DONE),
    "tp_btf_returns_one": tp_btf(mov(0, 1), EXIT),
    "syscall_without_sleep": Traced(DONE, ProgType.SYSCALL, False, 0),
}
