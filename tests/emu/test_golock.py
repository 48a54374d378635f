"""Every case of module golock, against what a real 6.18.35 kernel with CONFIG_PROVE_LOCKING printed.

Masked: addresses, offsets, pids, numbers of lines and of same-named classes (the order in which file systems were
mounted), registers and code bytes of user mode, stale `? ` words. arm64 has no reference: its text is compared with
the same one without the traces, and of the traces the functions, in order.

What cannot be produced, and is cut from the references: soft interrupts (their two lines in an irq event stamp; our own
say that there were none), and what follows in scheduling_while_atomic after the first report: there the kernel repairs
preempt_count, the case's own preempt_enable() makes it negative, and everything after that complains.
"""

from __future__ import annotations

import re

import pytest

import emu

ALONE = [
    "invalid_wait_context", "might_fault_spinlock", "might_sleep_irqs_off", "might_sleep_mutex", "might_sleep_rcu",
    "might_sleep_spinlock", "mmap_lock_copy_from_user", "mmap_lock_trylock_copy_from_user", "mutex_abba",
    "return_to_user", "rwsem_aa_read", "rwsem_trylock_then_read", "scheduling_while_atomic", "unlock_balance",
    "inconsistent_irq",
]  # fmt: skip
BLOCKING = [
    "hung_completion", "hung_mutex", "hung_task", "mmap_lock_real", "mutex_aa", "mutex_abba_real", "rwsem_aa_write",
    "rwsem_read_then_write", "rwsem_recursive_real", "noprove_mmap_lock_real", "noprove_mutex_abba_real",
    "noprove_rwsem_recursive_real",
]  # fmt: skip
ARCHES = ["x86_64", "arm64"]
_RULES = [
    (re.compile(r"\+0x[0-9a-f]+/0x[0-9a-f]+"), ""),
    (re.compile(r"\b[0-9a-f]{16}\b"), "NUMBER"),
    (re.compile(r"0x[0-9a-f]{5,}$"), "NUMBER"),
    (re.compile(r"(CPU|PID|pid|tgid|ppid): *\d+ *"), r"\1:N "),
    (re.compile(r"(golock_\w+|khungtaskd|sh|init)([/:])\d+"), r"\1\2N"),
    (re.compile(r"golock\.c:\d+"), "golock.c:LINE"),
    (re.compile(r"sb_writers(#\d+)?"), "sb_writers"),
    (re.compile(r"EFLAGS: [0-9a-f]{8}"), "EFLAGS"),
    (re.compile(r"(stamp: |at \()\d+"), r"\1N"),
]
_DROPPED = (" ? ", "Hardware name:", "softirqs last", "#MARK#", "Code: ", "R1", "R8", "RA", "RB", "RD", "PKRU")
_TRACE = re.compile(r" (\S+?)(?: \[\w+\])?(?: \([TPC]\))?$")


def comparable(text: str) -> list[str]:
    """The lines without what differs between two builds or boots."""
    out = []
    for line in text.splitlines():
        if line.startswith(_DROPPED):
            continue
        for pattern, to in _RULES:
            line = pattern.sub(to, line)
        out.append(line.split(":")[0] if line.startswith("RSP: ") else line.rstrip())
    return out


def cut(case: str, text: str) -> str:
    """The part of a reference that is compared."""
    if case == "scheduling_while_atomic":
        return text[: text.index(" </TASK>\n") + len(" </TASK>\n")]
    return text


def provoke(arch: str, case: str, reference: str) -> str:
    """What our kernel prints, asked in the reference's order: khungtaskd every 5 s, sysrq where it was used."""
    kernel = emu.boot(arch, "v6.18", lockdep=True)
    kernel.insmod("golock", "")
    kernel.hung_tasks.timeout = 5
    kernel.lockdep.prove_locking = not case.startswith("noprove_")
    said = kernel.write_golock(case.removeprefix("noprove_"))
    seconds = 0
    for found in re.finditer(r"blocked for more than (\d+) seconds|#MARK# sysrq (\w)", reference):
        if found[2]:
            said += kernel.sysrq(found[2])
            continue
        while int(found[1]) > seconds:
            new = kernel.pass_time(5)
            said += new
            seconds += 5 if new else 0
    return said


@pytest.mark.parametrize("case", ALONE + BLOCKING)
def test_prints_what_the_real_kernel_printed(case, golden):
    reference = cut(case, golden("x86_64", f"lockdep-{case}"))
    assert comparable(cut(case, provoke("x86_64", case, reference))) == comparable(reference)
