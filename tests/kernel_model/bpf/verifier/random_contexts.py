"""Random programs about tasks, VMAs, RCU and what must not sleep, of the steps of context_programs.py."""

from __future__ import annotations

import random
from collections.abc import Callable

from arch.bpf_isa import Insn
from kernel_model.bpf.program import ProgType
from tests.kernel_model.bpf.verifier.context_programs import (
    ACQUIRE,
    COPY,
    FROM_PID,
    NOPREEMPT,
    PREEMPT,
    RCU,
    RELEASE,
    TASK,
    UNRCU,
    Step,
    Traced,
    copy,
    field,
    flat,
    fp,
    helper,
    irq_restore,
    irq_save,
    mov,
    tasks,
    tasks_new,
    vma,
    vma_new,
)

EXIT = Insn(0x95)
VMA_SLOTS = (-8, -16, -24, -64)  # the last one is where COPY copies to
TASKS_AT, IRQ_AT, SPILLED_AT, BUFFER_AT = -48, -80, -88, -72
Maker = Callable[[random.Random, int, int], list[Step]]  # of two registers, what is read and what is written


def unless_null(reg: int, *steps: Step) -> list[Step]:
    """if (reg) steps."""
    body = flat(*steps)
    return [Insn(0x15, reg, 0, len(body), 0), *body]


STEPS: tuple[Maker, ...] = (
    lambda r, src, dst: [RCU],
    lambda r, src, dst: [UNRCU],
    lambda r, src, dst: [NOPREEMPT],
    lambda r, src, dst: [PREEMPT],
    lambda r, src, dst: [irq_save(IRQ_AT)],
    lambda r, src, dst: [irq_restore(IRQ_AT)],
    lambda r, src, dst: [helper(158), copy(dst, 0)],
    lambda r, src, dst: [field(dst, src, "task_struct", r.choice(("real_parent", "group_leader", "mm")))],
    lambda r, src, dst: [field(1, src, "task_struct", "pid", 0)],
    lambda r, src, dst: [field(1, src, "vm_area_struct", "vm_start")],
    lambda r, src, dst: [field(dst, src, "vm_area_struct", "vm_mm")],
    lambda r, src, dst: [copy(1, src), ACQUIRE, copy(dst, 0)],
    lambda r, src, dst: [copy(1, src), RELEASE],
    lambda r, src, dst: unless_null(src, copy(1, src), RELEASE),
    lambda r, src, dst: [mov(1, 1), FROM_PID, copy(dst, 0)],
    lambda r, src, dst: [vma_new(r.choice(VMA_SLOTS), src)],
    lambda r, src, dst: [vma("next", r.choice(VMA_SLOTS)), copy(dst, 0)],
    lambda r, src, dst: [vma("destroy", r.choice(VMA_SLOTS))],
    lambda r, src, dst: [tasks_new(r.choice((0, src)), r.choice((0, 2)), TASKS_AT)],
    lambda r, src, dst: [tasks("next", TASKS_AT), copy(dst, 0)],
    lambda r, src, dst: [tasks("destroy", TASKS_AT)],
    lambda r, src, dst: [COPY],
    lambda r, src, dst: [fp(1, BUFFER_AT), mov(2, 8), mov(3, 0), copy(4, src), mov(5, 0), helper(191)],
    lambda r, src, dst: [Insn(0x7B, 10, src, SPILLED_AT)],
    lambda r, src, dst: [Insn(0x79, dst, 10, SPILLED_AT)],
    lambda r, src, dst: [copy(dst, src)],
)
# what makes sense before, and what puts an end to it
FRAMES: tuple[tuple[Step, Step], ...] = (
    ([TASK], []),
    ([TASK, RCU], [UNRCU]),
    ([TASK, RCU, tasks_new(0, 0, TASKS_AT), tasks("next", TASKS_AT), copy(7, 0)], [tasks("destroy", TASKS_AT), UNRCU]),
    ([TASK, vma_new(), vma("next"), copy(8, 0)], [vma("destroy")]),
    ([TASK, copy(1, 6), ACQUIRE, copy(7, 0)], unless_null(7, copy(1, 7), RELEASE)),
)


def _steps(r: random.Random, nested: int = 0) -> list[Step]:
    src, dst = r.choice((6, 7, 8, 9)), r.choice((6, 7, 8, 9))
    if nested < 2 and r.random() < 0.05:
        return unless_null(src, *(step for _ in range(r.randrange(1, 4)) for step in _steps(r, nested + 1)))
    return r.choice(STEPS)(r, src, dst)


def program(seed: int) -> Traced:
    """One program; always the same for the same seed."""
    r = random.Random(seed)
    head = [*(mov(reg, 0) for reg in (6, 7, 8, 9)), Insn(0x7A, 10, 0, SPILLED_AT, 0)]
    before, after = r.choice(FRAMES)
    body = [step for _ in range(r.randrange(1, 5)) for step in _steps(r)]
    end = after if r.random() < 0.8 else []
    return Traced([head, before, body, end, mov(0, 0), EXIT], ProgType.SYSCALL, True, 0)
