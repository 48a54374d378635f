"""Words of the reports that no reference text has: the formats of kernel/locking/lockdep.c, line by line."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kernel_model.locking import lockdep_text as text
from kernel_model.locking.classes import LockMap
from kernel_model.locking.problems import Context
from kernel_model.locking.validator import Validator

IRQS_OFF, IN_IRQ = Context(hardirqs_on=False), Context(False, True, irq_config=True)
A, B = LockMap(0xA0, 0xA, "a"), LockMap(0xB0, 0xB, "b")


@pytest.fixture
def validator():
    return Validator(lambda skip: [f"frame+0x{skip}/0x9"])


def scene(held=(), context=IRQS_OFF):
    trace = SimpleNamespace(irq_events=4, hardirq_enable_event=3, hardirq_enable_ip=0x33, hardirq_disable_event=4,
                            hardirq_disable_ip=0x44)  # fmt: skip
    task = SimpleNamespace(comm="t", pid=7, view=SimpleNamespace(irqtrace=trace))
    system = SimpleNamespace(profile=SimpleNamespace(release="6.18.0", version="#1"), taint="Not tainted",
                             kallsyms=SimpleNamespace(symbol=lambda address: f"sym+{address:#x}/0x100"))  # fmt: skip
    return text.Scene(system, task, held, context, ["here+0x1/0x2"])


def section(validator, *locks, context):
    held = []
    for lock in locks:
        assert validator.acquire(held, lock, 0x11, context) is None


def test_inversion(validator):
    section(validator, A, B, context=IRQS_OFF)
    section(validator, B, context=Context())
    problem = validator.acquire([], A, 0x22, IN_IRQ)
    lines = text.report(scene(context=IN_IRQ), problem)
    assert lines[1:8] == [
        "=" * 56, "WARNING: possible irq lock inversion dependency detected", "6.18.0 #1 Not tainted", "-" * 56,
        "t/7 just changed the state of lock:", "00000000000000a0 (a){-...}-{0:0}, at: sym+0x22/0x100",
        "but this lock took another, HARDIRQ-unsafe lock in the past:",
    ]  # fmt: skip
    sentence = "and interrupts could create inverse lock ordering between them."
    assert lines[8:14] == [" (b){+.+.}-{0:0}", "", "", sentence, "", ""]
    scenario = lines[lines.index(" Possible interrupt unsafe locking scenario:") :]
    assert scenario[2:10] == [
        "       CPU0                    CPU1", "       ----                    ----", "  lock(b);",
        " " * 31 + "local_irq_disable();", " " * 31 + "lock(a);", " " * 31 + "lock(b);", "  <Interrupt>",
        "    lock(a);",
    ]  # fmt: skip
    deps = lines[lines.index("the shortest dependencies between 2nd lock and 1st lock:") + 1 :]
    assert deps[0] == " -> (b){+.+.}-{0:0} {" and deps[-1] == "stack backtrace:"
    assert "  ... key      at: [<000000000000000b>] sym+0xb/0x100" in deps
    assert deps[deps.index("  ... acquired at:") + 1] == "   frame+0x2/0x9"


def test_every_use_of_a_class_is_shown_at_its_indentation(validator):
    section(validator, A, B, context=IRQS_OFF)
    validator.acquire([], B, 0x11, Context(softirqs_on=False), read=1)
    lines = text.report(scene(context=IN_IRQ), validator.acquire([], A, 0x22, IN_IRQ))
    first = lines.index(" -> (b){.+..}-{0:0} {")
    assert lines[first + 1 : first + 8] == [
        "    HARDIRQ-ON-R at:", " " * 22 + "frame+0x1/0x9", "    INITIAL USE at:", " " * 21 + "frame+0x1/0x9",
        "    INITIAL READ USE at:", " " * 26 + "frame+0x1/0x9", "  }",
    ]  # fmt: skip


def test_backwards_the_origin_of_an_edge_says_where(validator):
    c = LockMap(0xC0, 0xC, "c")
    section(validator, A, context=IN_IRQ)
    section(validator, c, context=Context())
    section(validator, A, B, context=IRQS_OFF)
    held = []
    validator.acquire(held, B, 0x11, IRQS_OFF)
    lines = text.report(scene(held), validator.acquire(held, c, 0x22, IRQS_OFF))
    start = lines.index("the dependencies between HARDIRQ-irq-safe lock and the holding lock:")
    end = lines.index("the dependencies between the lock to be acquired")
    shown = [line for line in lines[start + 1 : end] if " at:" not in line or "key" in line or "acquired" in line]
    assert [line for line in shown if "frame+0x1/" not in line] == [
        " -> (a){-...}-{0:0} {", "  }", "  ... key      at: [<000000000000000a>] sym+0xa/0x100",
        "-> (b){....}-{0:0} {", " }", " ... key      at: [<000000000000000b>] sym+0xb/0x100", " ... acquired at:",
        "   frame+0x2/0x9", "", "",
    ]  # fmt: skip


def test_safe_to_unsafe(validator):
    section(validator, A, context=IN_IRQ)
    section(validator, B, context=Context())
    held = []
    validator.acquire(held, A, 0x11, IRQS_OFF)
    lines = text.report(scene(held), validator.acquire(held, B, 0x22, IRQS_OFF))
    assert lines[1:12] == [
        "=" * 53, "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected", "6.18.0 #1 Not tainted", "-" * 53,
        "t/7 [HC0[0]:SC0[0]:HE0:SE1] is trying to acquire:", "00000000000000b0 (b){+.+.}-{0:0}, at: sym+0x22/0x100", "",
        "and this task is already holding:", "00000000000000a0 (a){-...}-{0:0}, at: sym+0x11/0x100",
        "which would create a new lock dependency:", " (a){-...}-{0:0} -> (b){+.+.}-{0:0}",
    ]  # fmt: skip
    assert "but this new dependency connects a HARDIRQ-irq-safe lock:" in lines
    assert lines[lines.index("... which became HARDIRQ-irq-safe at:") + 1] == "  frame+0x1/0x9"
    assert lines[lines.index("... which became HARDIRQ-irq-unsafe at:") + 1] == "..."


def test_usage_has_the_irq_events(validator):
    section(validator, A, context=Context())
    lines = text.report(scene(), validator.acquire([], A, 0x22, IN_IRQ))
    at = lines.index("irq event stamp: 4")
    assert lines[at + 1 : at + 5] == [
        "hardirqs last  enabled at (3): [<0000000000000033>] sym+0x33/0x100",
        "hardirqs last disabled at (4): [<0000000000000044>] sym+0x44/0x100",
        "softirqs last  enabled at (0): [<0000000000000000>] sym+0x0/0x100",
        "softirqs last disabled at (0): [<0000000000000000>] sym+0x0/0x100",
    ]


def test_a_chain_of_three(validator):
    c = LockMap(0xC0, 0xC, "c")
    section(validator, A, B, context=Context())
    section(validator, B, c, context=Context())
    held = []
    validator.acquire(held, c, 0x11, Context(), read=1)
    lines = text.report(scene(held), validator.acquire(held, A, 0x22, Context()))
    at = lines.index("Chain exists of:")
    assert lines[at + 1] == "  a --> b --> c"
    assert [line for line in lines if line.startswith("-> #")] == ["-> #2 (c){++++}-{0:0}:", "-> #1 (b){+.+.}-{0:0}:",
                                                                  "-> #0 (a){+.+.}-{0:0}:"]  # fmt: skip
    assert lines[lines.index("  rlock(c);") + 1 :][:3] == [" " * 31 + "lock(b);", " " * 31 + "lock(c);", "  lock(a);"]
    assert lines[lines.index("-> #0 (a){+.+.}-{0:0}:") + 1] == "       here+0x1/0x2"


def test_freed_and_nested(validator):
    held = []
    validator.acquire(held, A, 0x11, Context())
    lines = text.report(scene(held), Validator.freed(held, 0x90, 0x20))
    assert lines[2] == "WARNING: held lock freed!"
    assert lines[5] == "t/7 is freeing memory 0000000000000090-00000000000000af, with a lock still held there!"
    nested = validator.acquire([], B, 0x22, Context(), nest_lock=0xA0, nest_name="outer")
    lines = text.report(scene(), nested)
    assert lines[2:4] == ["WARNING: Nested lock was not taken", "6.18.0 #1 Not tainted"]
    assert lines[5:] == [
        "t/7 is trying to lock:", "00000000000000b0 (b){+.+.}-{0:0}, at: sym+0x22/0x100", "",
        "but this task is not holding:", "outer", "", "stack backtrace:",
    ]  # fmt: skip


def test_suspicious_rcu_with_lockdep_off():
    lines = text.suspicious_rcu(scene(), "kernel/x.c:1", "suspicious y usage", False)
    assert lines[2:4] == ["WARNING: suspicious RCU usage", "6.18.0 #1 Not tainted"]
    assert lines[5:13] == [
        "kernel/x.c:1 suspicious y usage!", "", "other info that might help us debug this:", "", "",
        "rcu_scheduler_active = 2, debug_locks = 0",
        "Possible false positive due to lockdep disabling via debug_locks = 0", "no locks held by t/7.",
    ]  # fmt: skip


def test_frames_of_a_trace():
    trace = ["Call Trace:", " <TASK>", " f+0x1/0x2", " ? stale+0x1/0x2", " g+0x3/0x4 [golock]", "RIP: 0033:0x0",
             " </TASK>"]  # fmt: skip
    assert text.frames(trace) == ["f+0x1/0x2", "g+0x3/0x4 [golock]"]
    interrupted = [" asm_sysvec_irq_work+0x1/0x2", "RIP: 0010:raise+0x3/0x4", "RSP: 0018:ffffc900000ffde0"]
    assert text.frames(interrupted) == ["asm_sysvec_irq_work+0x1/0x2", "raise+0x3/0x4"]
    assert text.frames(["Call trace:", " show_stack+0x1/0x2 (C)", " g+0x3/0x4 [m]"]) == ["show_stack+0x1/0x2",
                                                                                       "g+0x3/0x4 [m]"]  # fmt: skip
