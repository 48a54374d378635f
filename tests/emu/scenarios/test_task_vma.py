"""The mmap_lock deadlock: its three outcomes, every design, replays, and what is left afterwards."""

from __future__ import annotations

import pytest

from emu import scenarios
from emu.explore.oracles import STRATEGIES, DoesNotFitError, Replay, Stage, Steer
from emu.explore.search import explore, minimise, order
from emu.explore.token import TokenError
from emu.scenarios import compare_task_vma
from emu.scenarios.base import Outcome
from emu.scenarios.task_vma import Experiment
from kernel_model.bpf.verifier.errors import VerifierRejected
from kernel_model.errors import KemuError

ARCHES = ["x86_64", "arm64"]
V5 = "series:kf-forbid-fault-v5"


@pytest.fixture(scope="module", params=ARCHES)
def held(request):
    """mmap_lock held from _new() to _destroy()."""
    experiment = Experiment(request.param, "v7.0")
    once(experiment, "default")  # from now on the stacks of threads are cached
    return experiment


@pytest.fixture(scope="module", params=ARCHES)
def snapshot(request):
    return Experiment(request.param, "v7.1")


def once(experiment, schedule, seed=0):
    return experiment(experiment.oracle(schedule, seed))


def test_a_writer_in_between_is_a_deadlock(held):
    run = once(held, "queued")
    assert run.outcome == "deadlock" and run.copied == 0
    assert run.touched == 3, "the third thread faulted through the per-VMA lock while the others were stuck"


@pytest.mark.parametrize("arch", ARCHES)
def test_the_third_thread_faults_on_while_the_other_two_are_blocked(arch):
    held = Experiment(arch, "v7.0")  # its own, for the hooks stay
    runner, mapper, toucher = (held._thread(number) for number in (1, 2, 0))
    entered, kernel = [], held.kernel

    def blocked(who):
        return held._find(who, lambda task: task.blocked)

    def count():
        if blocked(runner) and blocked(mapper):
            entered.append(kernel.current_task().pid)

    symbol = kernel.machine.symbol("lock_vma_under_rcu")
    for cpu in kernel.machine.cpus:
        cpu.engine.hook_address(symbol, count)
        cpu.flush_code()
    stages = [
        Stage(toucher, lambda: held._find(mapper, lambda task: True)),
        Stage(runner, lambda: held._iterates(runner)),
        Stage(mapper, lambda: blocked(mapper)),
        Stage(runner, lambda: blocked(runner)),
        Stage(toucher, lambda: blocked(toucher)),
    ]
    run = held(Steer(stages))
    assert (run.outcome, run.touched, len(entered), len(set(entered))) == ("deadlock", 3, 3, 1)


def test_without_a_writer_it_completes(held):
    run = once(held, "no-writer")
    assert run.outcome == "completes" and run.copied == 1


def test_with_a_writer_that_still_spins_it_completes(held):
    run = once(held, "spinning")
    assert run.outcome == "completes" and run.copied == 1
    assert run.token != once(held, "no-writer").token


@pytest.mark.parametrize("schedule", compare_task_vma.NAMED)
def test_the_snapshot_completes_under_every_named_schedule(snapshot, schedule):
    run = once(snapshot, schedule)
    assert run.outcome == "completes" and run.copied == 1


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_the_snapshot_completes_under_every_random_schedule(snapshot, strategy):
    tally = explore(snapshot, (STRATEGIES[strategy](seed) for seed in range(40)))
    assert set(tally.counts) == {"completes"} and len(tally.schedules) > 10


@pytest.mark.parametrize("arch", ARCHES)
def test_the_series_forbids_the_fault_and_takes_the_release(arch):
    with pytest.raises(VerifierRejected) as error:
        Experiment(arch, V5)
    assert error.value.reason == "sleepable helper bpf_copy_from_user#148 in nofault region"
    released = Experiment(arch, V5, release=True)
    assert {once(released, name).outcome for name in compare_task_vma.NAMED} == {"completes"}


def test_random_schedules_find_the_deadlock_replay_exactly_and_leak_nothing(held):
    pages, found = held.kernel.init_mm.pages, {}
    free = pages.nr_free
    for seed in range(60):
        run = once(held, "pct", seed)
        again = held(Replay(dict(run.deviations)))
        assert (again.outcome, again.token, again.seen, again.copied) == (run.outcome, run.token, run.seen, run.copied)
        found.setdefault(run.outcome, run)
    assert set(found) >= {"completes", "deadlock"} and set(found) <= {"completes", "deadlock", "busy"}
    assert pages.nr_free == free, "what was killed gave everything back"
    small = minimise(held, found["deadlock"])
    assert small.outcome == "deadlock" and order(small) <= order(found["deadlock"])
    assert len(small.deviations) <= 3


@pytest.mark.long
@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("profile", ["v7.0", "v7.1"])
def test_ten_thousand_schedules(arch, profile):
    experiment, names = Experiment(arch, profile), sorted(STRATEGIES)
    for seed in range(10_000):
        run = experiment(STRATEGIES[names[seed % len(names)]](seed))
        assert run.outcome in (("completes", "busy", "deadlock") if profile == "v7.0" else ("completes",))
        assert experiment(Replay(dict(run.deviations))) == run


@pytest.mark.parametrize("arch", ARCHES)
def test_the_story_of_a_deadlock(arch):
    story = scenarios.get("task-vma").run(arch, "v7.0")
    assert not story.ok and {row.outcome for row in story.rows} == {Outcome.DEADLOCK}
    text = "\n".join(story.report)
    assert "dl_runner/60 wants &mm->mmap_lock for reading: dl_mapper/61 is queued in front of it for writing" in text
    assert "dl_mapper/61 wants &mm->mmap_lock for writing: dl_runner/60 holds it for reading" in text
    assert "khungtaskd is silent" in text and text.count("its sleep is killable") == 3
    assert "WARNING: possible recursive locking detected" in text
    again = scenarios.get("task-vma").run(arch, "v7.0", schedule=story.token)
    assert (again.token, again.report) == (story.token, story.report), "a token runs the same schedule, to the byte"


@pytest.mark.parametrize("arch", ARCHES)
def test_the_story_tells_the_system_call_on_either_architecture(arch):
    report = scenarios.get("task-vma").run(arch, "v7.0").report
    assert f"__{'x64' if arch == 'x86_64' else 'arm64'}_sys_bpf" in {line.strip() for line in report}


@pytest.mark.parametrize("arch", ARCHES)
def test_the_story_of_a_rejection_has_the_verifiers_log(arch):
    story = scenarios.get("task-vma").run(arch, V5)
    log = story.report[story.report.index("What the verifier says of sleep_in_iter:") + 2 :]
    assert log[-2] == "sleepable helper bpf_copy_from_user#148 in nofault region"
    assert log[-3].endswith("(85) call bpf_copy_from_user#148") and log[-1].startswith("processed ")
    token = story.token.replace(f"{V5}/", f"{V5}/9", 1)
    with pytest.raises(DoesNotFitError, match="this run is"):
        scenarios.get("task-vma").run(arch, V5, schedule=token)


def test_a_refused_iterator_says_why(held):
    seed = next(seed for seed in range(60) if once(held, "pct", seed).outcome == "busy")
    row = scenarios.get("task-vma").run(held.kernel.arch.name, "v7.0", schedule="pct", seed=seed).rows[0]
    assert (row.outcome, row.detail) == (Outcome.REFUSED, "mmap_read_trylock() refused: nothing iterated")


def test_bad_schedules_get_one_clear_error(held):
    story, arch = scenarios.get("task-vma"), held.kernel.arch.name
    with pytest.raises(KemuError, match="no schedule 'sideways': known are default, queued"):
        story.run(arch, "v7.0", schedule="sideways")
    with pytest.raises(TokenError, match="another version: 'kemu9'"):
        story.run(arch, "v7.0", schedule=f"kemu9/task-vma/{arch}/v7.0/35/1=1")
    with pytest.raises(TokenError, match="the token is for kernel v7.0, not v7.1"):
        story.run(arch, "v7.1", schedule=f"kemu1/task-vma/{arch}/v7.0/35/1=1")
    with pytest.raises(DoesNotFitError, match="decision 1 has 3 options, it asks for number 7"):
        story.run(arch, "v7.0", schedule=f"kemu1/task-vma/{arch}/v7.0/35/1=7")
    with pytest.raises(DoesNotFitError, match="recorded as .*/999/1=1, this run is"):
        story.run(arch, "v7.0", schedule=f"kemu1/task-vma/{arch}/v7.0/999/1=1")


@pytest.mark.parametrize("arch", ARCHES)
def test_comparison(arch):
    rows = compare_task_vma.compare(arch, 60, 0)
    found = {(row.design, row.outcome): row for row in rows}
    assert set(found) >= {("mmap_lock held", "deadlock"), ("mmap_lock held", "completes"),
                          ("KF_FORBID_FAULT v5", "rejected"), ("v5, released first", "completes"),
                          ("per-VMA snapshot", "completes")}
    assert sum(row.count for row in rows if row.design == "mmap_lock held") == 60
    bad = found["mmap_lock held", "deadlock"]
    assert scenarios.get("task-vma").run(arch, "v7.0", schedule=bad.token).rows[0].outcome is Outcome.DEADLOCK
    assert not any(row.token for row in rows if row.outcome != "deadlock")
