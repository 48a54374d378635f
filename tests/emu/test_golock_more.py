"""Reports of lockdep that no real kernel was asked for, whole, on both architectures.

The expected texts (data/golock) were not printed by a kernel. They were written by hand from kernel/locking/lockdep.c
of 6.18: print_irq_inversion_bug(), print_bad_irq_dependency(), print_shortest_lock_dependencies() and its twin
backwards, print_lock_class_header(), print_freed_lock_bug(), print_held_locks_bug(), print_lock_nested_lock_not_held(),
lockdep_rcu_suspicious(). The indentation of their stacks is that of reports of real kernels (5.10, 6.5). Which of
lockdep's static functions have a frame of their own is a compiler's choice: it is that of the reference texts as far as
those go.

In them `@` stands for a stack, one function a line; of it WRITE is the way from the system call to the case, IRQ that
from irq_work_queue() to the work's function, FORK the start of a kernel thread, DUMP the way to the log. Masked as in
test_golock.py: addresses, offsets, numbers; registers, code and marks of stacks are left out.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import emu

DATA = Path(__file__).parent / "data" / "golock"
CASES = sorted(path.stem for path in DATA.glob("*.txt"))
ARCHES = ["x86_64", "arm64"]
LINES = {  # of might_sleep() and might_fault(): read in, or counted from anchors in, the files of 6.18
    "down_read": ("kernel/locking/rwsem.c", 1536), "down_read_interruptible": ("kernel/locking/rwsem.c", 1545),
    "down_read_killable": ("kernel/locking/rwsem.c", 1559), "down_write": ("kernel/locking/rwsem.c", 1589),
    "down_write_killable": ("kernel/locking/rwsem.c", 1600), "down": ("kernel/locking/semaphore.c", 95),
    "down_interruptible": ("kernel/locking/semaphore.c", 119), "down_killable": ("kernel/locking/semaphore.c", 146),
    "down_timeout": ("kernel/locking/semaphore.c", 201), "wait_for_completion": ("kernel/sched/completion.c", 116),
    "copy_to_user": ("include/linux/uaccess.h", 192),
}  # fmt: skip

_MODULE = {
    "more_cases", "doit", "trig", "nest", "use_with_irqs_on", "use_in_irq", "irq_handler", "enable_irqs_too_early",
    "free_locked", "init_locked", "exit_locked", "nest_not_locked", "look", "look_locked", "wait_semaphore",
}  # fmt: skip
_COMMON = {
    "WRITE": "more_cases doit trig vfs_write ksys_write SYSCALL",
    "IRQ": "irq_work_single irq_work_run_list irq_work_run VECTOR irq_work_queue",
}
_WORDS = {
    "x86_64": _COMMON | {
        "SYSCALL": "do_syscall_64 entry_SYSCALL_64_after_hwframe", "FORK": "ret_from_fork ret_from_fork_asm",
        "VECTOR": "__sysvec_irq_work sysvec_irq_work asm_sysvec_irq_work arch_irq_work_raise", "DUMP": "dump_stack_lvl",
        "INTERRUPT": "sysvec_irq_work",
    },
    "arm64": _COMMON | {
        "SYSCALL": "__arm64_sys_write do_el0_svc el0_svc el0t_64_sync_handler el0t_64_sync", "FORK": "ret_from_fork",
        "VECTOR": "ipi_handler handle_percpu_devid_irq handle_irq_desc generic_handle_domain_irq gic_handle_irq "
                  "call_on_irq_stack do_interrupt_handler el1_interrupt el1h_64_irq_handler el1h_64_irq "
                  "__ipi_send_mask arm64_send_ipi arch_irq_work_raise __irq_work_queue_local",
        "DUMP": "show_stack dump_stack_lvl", "INTERRUPT": "el1_interrupt",
    },
}  # fmt: skip
_RULES = [
    (re.compile(r"\+0x[0-9a-f]+/0x[0-9a-f]+"), ""),
    (re.compile(r"\b[0-9a-f]{16}\b"), "NUMBER"),
    (re.compile(r"(CPU|PID): \d+"), r"\1: N"),
    (re.compile(r"(golock_\w+|sh)([/:])\d+"), r"\1\2N"),
    (re.compile(r"more than \d+"), "more than N"),
    (re.compile(r"(more_golock\.c):\d+"), r"\1:LINE"),
    (re.compile(r"sb_writers#\d+"), "sb_writers"),
    (re.compile(r"(stamp: |at \()\d+"), r"\1N"),
    (re.compile(r"^Call Trace:"), "Call trace:"),
    (re.compile(r"^RIP: 0010:"), " "),
    (re.compile(r" \([PCT]\)$"), ""),
]
_DROPPED = re.compile(r" \? | </?(IRQ|TASK)>|(Hardware name|Code|RIP|RSP|R\w\w): ")


def printed(text: str) -> list[str]:
    """The lines of a report without what differs between two builds."""
    out = []
    for line in text.rstrip("\n").split("\n"):
        if _DROPPED.match(line) and not line.startswith("RIP: 0010"):
            continue
        for pattern, to in _RULES:
            line = pattern.sub(to, line)
        out.append(line.rstrip())
    return out


def stack(words: str, known: dict[str, str]) -> list[str]:
    """Names of functions, with the words that stand for several written out."""
    return [name for word in words.split() for name in (stack(known[word], known) if word in known else [word])]


def expected(case: str, arch: str) -> list[str]:
    """A text of data/golock as one architecture prints it."""
    known, out = _WORDS[arch], []
    for line in (DATA / f"{case}.txt").read_text().rstrip("\n").split("\n"):
        pad, at, words = line.partition("@ ")
        if not at:
            out.append(line.replace("INTERRUPT", known["INTERRUPT"]))
            continue
        out += [f"{pad}{name} [golock]" if name in _MODULE else pad + name for name in stack(words, known)]
    return out


def boot(arch: str) -> emu.Kernel:
    kernel = emu.boot(arch, "v6.18", lockdep=True)
    kernel.insmod("golock", "")
    kernel.sysrq("d")  # lockdep has seen mmap_lock and procfs
    return kernel


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("case", CASES)
def test_whole_report(case, arch):
    kernel = boot(arch)
    said = kernel.write_golock(case) + kernel.pass_time(1)
    assert printed(said) == expected(case, arch)
    assert kernel.lockdep.debug_locks == case.startswith("rcu_"), "only RCU's complaint leaves lockdep on"


@pytest.mark.parametrize("arch", ARCHES)
def test_a_semaphore_names_its_last_holder(arch):
    """debug_show_blocker() of kernel/hung_task.c 6.18; the frames are those of a real arm64 kernel's report (6.14)."""
    kernel = boot(arch)
    kernel.hung_tasks.timeout = 5
    kernel.write_golock("hung_semaphore")
    lines = printed(kernel.pass_time(5) + kernel.pass_time(5))
    first = lines.index("INFO: task golock_waiter:N blocked for more than N seconds.")
    shown = [line for line in lines[first + 4 :] if line != "Call trace:"]
    trace = "__schedule schedule schedule_timeout __down_common __down down wait_semaphore kthread FORK"
    switch = ["__switch_to"] if arch == "arm64" else []
    names = [*switch, *stack(trace, _WORDS[arch])]
    assert shown[: len(names) + 1] == [
        *(f" {name} [golock]" if name in _MODULE else f" {name}" for name in names),
        "INFO: task golock_waiter:N blocked on a semaphore likely last held by task golock_holder:N",
    ]
    assert shown[len(names) + 1] == "", "the holder hangs too: he has been shown"


@pytest.mark.parametrize("arch", ARCHES)
def test_an_oops_turns_lockdep_off(arch):
    kernel = boot(arch)
    kernel.insmod("golden", "")
    assert "Showing all locks" in kernel.sysrq("d")
    assert kernel.write_golden("null_read").oops
    assert kernel.sysrq("d").endswith("\nINFO: lockdep is turned off.\n")
    assert kernel.write_golock("irq_inversion") == ""


@pytest.mark.parametrize("arch", ARCHES)
def test_a_kernel_without_lockdep_says_nothing(arch):
    kernel = emu.boot(arch, "v6.18")
    for case in CASES:
        if case != "init_locked":  # the lock of one of the other cases' tasks may be gone with it
            assert kernel.write_golock(case) + kernel.pass_time(1) == ""


@pytest.mark.parametrize("arch", ARCHES)
def test_where_it_might_sleep(arch):
    kernel = boot(arch)
    for call, (file, line) in LINES.items():
        said = kernel.write_golock(call)
        assert re.sub(r"pid: \d+", "pid: N", said).split("\n")[:4] == [
            f"BUG: sleeping function called from invalid context at {file}:{line}",
            "in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: N, name: sh",
            "preempt_count: 1, expected: 0",
            "RCU nest depth: 0, expected: 0",
        ]
        kernel.pass_time(2)  # one complaint a second
