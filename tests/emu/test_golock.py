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
    "inconsistent_irq", "invalid_wait_context", "might_fault_spinlock", "might_sleep_irqs_off", "might_sleep_mutex",
    "might_sleep_rcu", "might_sleep_spinlock", "mmap_lock_copy_from_user", "mmap_lock_trylock_copy_from_user",
    "mutex_abba", "return_to_user", "rwsem_aa_read", "rwsem_trylock_then_read", "scheduling_while_atomic",
    "unlock_balance",
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
    (re.compile(r"(RIP: 0033:)0x[0-9a-f]+"), r"\1USER"),
    (re.compile(r"(CPU|PID|pid|tgid|ppid): *\d+ *"), r"\1:N "),
    (re.compile(r"(golock_\w+|khungtaskd|sh|init)([/:])\d+"), r"\1\2N"),
    (re.compile(r"golock\.c:\d+"), "golock.c:LINE"),
    (re.compile(r"sb_writers(#\d+)?"), "sb_writers"),
    (re.compile(r"EFLAGS: [0-9a-f]{8}"), "EFLAGS"),
    (re.compile(r"(stamp: |at \()\d+"), r"\1N"),
]
# of interrupt traces: the reference's last interrupt was its timer's, our kernel has none
_TIMER = re.compile(r"asm_sysvec_apic_timer_interrupt$")
_DROPPED = (" ? ", "Hardware name:", "softirqs last", "#MARK#", "Code: ", "R1", "R8", "RA", "RB", "RD", "PKRU")
_ENTRY = re.compile(r"( +)([^ <?]\S*?)(?:\+0x[0-9a-f]+/0x[0-9a-f]+)( \[\w+\])?(?: \([TPC]\))?$")
# frames that one of the architectures has for itself
_ARCH_FRAMES = {
    "do_syscall_64", "entry_SYSCALL_64_after_hwframe", "ret_from_fork_asm", "ret_from_fork", "asm_exc_page_fault",
    "exc_page_fault", "do_user_addr_fault", "_copy_from_user", "show_stack", "__arm64_sys_write", "do_el0_svc",
    "el0_svc", "el0t_64_sync_handler", "el0t_64_sync", "__switch_to", "el1h_64_sync", "el1h_64_sync_handler",
    "el1_abort", "do_mem_abort", "do_translation_fault", "do_page_fault", "__arch_copy_from_user",
    "__sysvec_irq_work", "sysvec_irq_work", "asm_sysvec_irq_work", "ipi_handler", "handle_percpu_devid_irq",
    "handle_irq_desc", "generic_handle_domain_irq", "gic_handle_irq", "call_on_irq_stack", "do_interrupt_handler",
    "el1_interrupt", "el1h_64_irq_handler", "el1h_64_irq", "__ipi_send_mask", "arm64_send_ipi", "arch_irq_work_raise",
    "__irq_work_queue_local",
}  # fmt: skip


def comparable(text: str) -> list[str]:
    """The lines without what differs between two builds or boots."""
    out = []
    for line in text.splitlines():
        if line.startswith(_DROPPED):
            continue
        for pattern, to in _RULES:
            line = pattern.sub(to, line)
        line = _TIMER.sub("do_syscall_64", line)
        out.append(line.split(":")[0] if line.startswith("RSP: ") else line.rstrip())
    return out


def cut(case: str, text: str) -> str:
    """The part of a reference that is compared."""
    if case == "scheduling_while_atomic":
        end = " </TASK>" if " </TASK>" in text else " el0t_64_sync+"
        at = text.index(end)
        return text[: at + len(text[at:].splitlines()[0])]
    return text


def provoke(arch: str, case: str, reference: str) -> str:
    """What our kernel prints, asked in the reference's order: khungtaskd every 5 s, sysrq where it was used."""
    kernel = emu.boot(arch, "v6.18", lockdep=True)
    kernel.insmod("golock", "")
    kernel.hung_tasks.timeout = 5
    kernel.sysrq("d")  # as the reference did when it wrote sysctls: lockdep has seen mmap_lock and procfs
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
            seconds = max([0, *map(int, re.findall(r"blocked for more than (\d+) seconds", new))])
    return said.rstrip("\n")


@pytest.mark.parametrize("case", ALONE + BLOCKING)
def test_prints_what_the_real_kernel_printed(case, golden):
    reference = cut(case, golden("x86_64", f"lockdep-{case}"))
    assert comparable(cut(case, provoke("x86_64", case, reference))) == comparable(reference)


def story(text: str) -> list[str]:
    """What both architectures tell: every line outside of traces, and of traces the functions that both have."""
    out = []
    for line in text.splitlines():
        entry = _ENTRY.match(line)
        if entry is None:
            if not line.startswith((" <", " </", "RIP: ", "RSP: ", "task:")):
                line = re.sub(r"\] (do_syscall_64|el0_svc|asm_sysvec_apic\w+)\+", "] ENTRY+", line)
                line = re.sub(r"\] (sysvec_irq_work|el1_interrupt)\+", "] INTERRUPT+", line)
                out += comparable(line.replace("l T", "l t"))
        elif entry[2] not in _ARCH_FRAMES:
            out.append(entry[1] + entry[2] + (entry[3] or ""))
    return out


@pytest.mark.parametrize("case", ALONE + BLOCKING)
def test_arm64_tells_the_same_story(case, golden):
    reference = cut(case, golden("x86_64", f"lockdep-{case}"))
    printed = cut(case, provoke("arm64", case, reference))
    assert story(printed) == story(reference)
    traces = re.findall(r"Call trace:\n (\S+?)\+\S+ ?(?:\[\w+\])? ?\((\w)\)", printed)
    assert traces or case == "return_to_user"
    assert set(traces) <= {("show_stack", "C"), ("__switch_to", "T")}


def test_arm64_takes_an_interrupt_through_the_functions_of_a_real_kernel(golden):
    def frames(text: str) -> list[str]:
        names = re.findall(r"^ (\w+)\+\S+(?: \[\w+\])?( \(P\))?$", text, re.M)
        inside = [name + mark for name, mark in names]
        return inside[inside.index("irq_work_single") : inside.index("irq_work_queue") + 1]

    reference = golden("arm64", "irq_null_read")  # irq_work of another module, on the kernel without lockdep
    assert frames(provoke("arm64", "inconsistent_irq", "")) == frames(reference)
