"""The same deadlock by other helpers: reading a task's memory in the iterator, and faulting in bpf_find_vma()."""

import re

import pytest

from emu.scenarios.task_vma import Experiment

PATH = "images/bpf/task_vma_remote.bpf.o"
ITERATOR, FIND_VMA = "copy_task_in_iter", "sleep_in_find_vma"
REMOTE = ["down_read_killable", "mmap_read_lock_killable", "__access_remote_vm", "access_process_vm",
          "bpf_copy_from_user_task", "bpf_prog_copy_task_in_iter"]


@pytest.fixture(params=["x86_64", "arm64"])
def experiment(request):
    """experiment(profile, program, **options): the scenario with another BPF program."""

    def make(profile, program, **options):
        made = Experiment(request.param, profile, **options)
        made.loaded = made.kernel.load(PATH, "jit")
        made.prog = made.loaded.prog(program)
        return made

    return make


def once(experiment, schedule):
    return experiment(experiment.oracle(schedule, 0))


def reader_of(made):
    """Functions on the stack of the thread that reads mmap_lock twice, innermost first; programs without their tag."""
    seen = []
    made.on_stuck = lambda task: seen.extend(made.kernel.show_blocked_tasks())
    assert once(made, "queued").outcome == "deadlock"
    text = "\n".join(seen)
    trace = next(part for part in text.split("task:")[1:] if part.startswith("dl_runner"))
    names = re.findall(r"^ *([\w.]+)\+0x", trace, re.M)
    return [re.sub(r"^bpf_prog_[0-9a-f]{16}_", "bpf_prog_", name) for name in names]


@pytest.mark.parametrize(
    ("profile", "program", "outcome"),
    [
        ("v7.0", ITERATOR, "deadlock"),
        ("v7.1", ITERATOR, "completes"),
        ("v7.0", FIND_VMA, "deadlock"),
        ("v7.1", FIND_VMA, "deadlock"),  # only the iterator was changed
    ],
)
def test_a_writer_in_between(experiment, profile, program, outcome):
    made = experiment(profile, program)
    run = once(made, "queued")
    assert run.outcome == outcome and run.copied == (outcome == "completes")
    for schedule in ("no-writer", "spinning"):
        run = once(made, schedule)
        assert run.outcome == "completes" and run.copied == 1


def test_who_waits_where(experiment):
    reader = reader_of(experiment("v7.0", ITERATOR))
    assert [name for name in reader if name in REMOTE] == REMOTE
    assert "asm_exc_page_fault" not in reader and "el1h_64_sync" not in reader, "no fault is needed for it"


def test_the_callback_of_bpf_find_vma_is_on_the_stack(experiment):
    inner = [name for name in reader_of(experiment("v7.0", FIND_VMA)) if name.startswith("bpf_")]
    assert inner == ["bpf_copy_from_user", "bpf_prog_copy_in_callback", "bpf_find_vma", "bpf_prog_sleep_in_find_vma",
                     "bpf_prog_test_run_syscall"]


def test_lockdep_reports_it_whether_or_not_a_writer_comes(experiment):
    made = experiment("v7.0", ITERATOR, prove=True)
    assert once(made, "no-writer").outcome == "completes"
    text = "\n".join(made.splat)
    assert "WARNING: possible recursive locking detected" in text
    assert "mmap_read_lock_killable+" in text and " __access_remote_vm+" in text
