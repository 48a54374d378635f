"""`kemu run task-vma`: one schedule of the scenario, told with what the kernel itself would say of it.

A deadlock is run three times, always by the same schedule: to see it, with lock tracking for who holds what, and as a
kernel with CONFIG_PROVE_LOCKING. The texts are the kernel's; only the headings are ours.
"""

from __future__ import annotations

from emu.explore.oracles import DoesNotFitError, Replay
from emu.explore.recorder import Recorder, columns
from emu.explore.token import looks_like_token
from emu.kernel import Kernel
from emu.scenarios.base import Outcome, Row, ScenarioResult
from emu.scenarios.task_vma import NAME, OBJECT, SCHEDULES, SUMMARY, Experiment, ScheduleRun, sentence
from kernel_model.bpf.verifier.errors import VerifierRejected
from kernel_model.sched.task import Task

__all__ = ["DEFAULT_SCHEDULE", "NAME", "SCHEDULES", "SUMMARY", "run"]
DEFAULT_SCHEDULE = "queued"
# what is worth telling of an interleaving, by kernel function
TOLD = (
    "__x64_sys_bpf", "__arm64_sys_bpf", "bpf_iter_task_vma_new", "bpf_iter_task_vma_next",
    "bpf_iter_task_vma_release",
    "bpf_iter_task_vma_destroy", "bpf_copy_from_user", "mmap_read_trylock", "mmap_read_lock_killable",
    "mmap_read_unlock", "vm_mmap_pgoff", "__vm_munmap", "down_write_killable", "rwsem_down_read_slowpath",
    "rwsem_down_write_slowpath", "up_write", "lock_vma_under_rcu", "lock_mm_and_find_vma", "handle_mm_fault",
    "schedule",
)  # fmt: skip
_OUTCOMES = {"completes": Outcome.OK, "busy": Outcome.REFUSED, "deadlock": Outcome.DEADLOCK}


def run(
    arch: str, profile: str, engine: str = "jit", schedule: str = DEFAULT_SCHEDULE, seed: int = 0
) -> ScenarioResult:
    """The scenario once. KemuError for a schedule that is unknown, or a token that does not fit."""
    try:
        experiment = Experiment(arch, profile, engine)
    except VerifierRejected as error:
        return _rejected(arch, profile, engine, schedule, seed, error.reason)
    seen = _run(experiment, schedule, seed)
    result = ScenarioResult(NAME, arch, profile, _rows(seen), str(seen.token), [_replay(arch, profile, seen)])
    if seen.outcome == "deadlock":
        result.report.extend(["", *_deadlock(arch, profile, engine, seen)])
    return result


def _run(experiment: Experiment, schedule: str, seed: int) -> ScheduleRun:
    seen = experiment(experiment.oracle(schedule, seed))
    if looks_like_token(schedule) and str(seen.token) != schedule.strip():
        raise DoesNotFitError(f"the schedule does not fit: recorded as {schedule.strip()}, this run is {seen.token}")
    return seen


def _replay(arch: str, profile: str, seen: ScheduleRun) -> str:
    return f"replay: kemu run {NAME} --arch {arch} --profile {profile} --schedule {seen.token}"


def _rows(seen: ScheduleRun) -> list[Row]:
    outcome = _OUTCOMES.get(seen.outcome, Outcome.FAILED)
    copies = f"{seen.seen} VMAs seen, {seen.copied} page{'s' * (seen.copied != 1)} copied"
    stuck = outcome is Outcome.DEADLOCK
    return [
        Row("dl_runner", "walks its VMAs in a BPF program and copies from a page that is not present",
            outcome, copies if outcome is Outcome.OK else seen.reason, "", ""),
        Row("dl_mapper", "mmap() and munmap(), which write mmap_lock", Outcome.DEADLOCK if stuck else Outcome.OK,
            "never gets mmap_lock" if stuck else "mapped and unmapped", "", ""),
        Row("dl", "touches fresh memory, then mmap()", Outcome.DEADLOCK if stuck else Outcome.OK,
            f"{seen.touched} pages by the per-VMA lock" + (", then it queues, too" if stuck else ""), "", ""),
    ]


def _rejected(
    arch: str, profile: str, engine: str, schedule: str, seed: int, reason: str
) -> ScenarioResult:
    """A verifier that forbids the fault: its log, and the variant that it accepts."""
    rows = [Row("sleep_in_iter", "bpf_copy_from_user() while the iterator holds its VMA", Outcome.REJECTED,
                reason, "", "")]
    experiment = Experiment(arch, profile, engine, release=True)
    seen = _run(experiment, schedule, seed)
    outcome = _OUTCOMES.get(seen.outcome, Outcome.FAILED)
    rows.append(Row("release_then_sleep", "bpf_iter_task_vma_release() first", outcome, seen.reason, "", ""))
    report = [_replay(arch, profile, seen), "",
              "What the verifier says of sleep_in_iter:", "", *_log(experiment.kernel, engine)]
    return ScenarioResult(NAME, arch, profile, rows, str(seen.token), report)


def _log(kernel: Kernel, engine: str) -> list[str]:
    """What the verifier writes at log level 1 about the program that it rejects."""
    try:
        kernel.load(OBJECT, engine, log_level=1)
    except VerifierRejected as error:
        return error.log.rstrip().splitlines()
    return []


def _deadlock(arch: str, profile: str, engine: str, seen: ScheduleRun) -> list[str]:
    tracked = Experiment(arch, profile, engine, lockdep=True)
    kernel, lines = tracked.kernel, []
    functions = [name for name in TOLD if name in kernel.image.addresses]
    recorder = Recorder(kernel, functions)
    recorder.on = True

    def look(task: Task) -> None:
        recorder.on = False
        cycle, graph = tracked.wait_for(task).cycle(), tracked.wait_for(task)
        lines.extend(["Nothing can move:", ""])
        lines.extend(f"  {sentence(edge)}" for edge in cycle)
        inside = {edge.waiter for edge in cycle}
        lines.extend(f"  {sentence(edges[0])}" for other in graph.tasks
                     if other not in inside and (edges := graph.edges(other)))
        lines.extend(["", "How it came to that:", ""])
        lines.extend(columns(recorder.events, len(kernel.machine.cpus)))
        lines.extend(["", "What the kernel says of its sleepers (sysrq-w, sysrq-d):", ""])
        lines.extend([*kernel.show_blocked_tasks(), "sysrq: Show Locks Held", *kernel.lockdep.show_all_locks()])
        lines.extend(_hung_tasks(kernel))

    tracked.on_stuck = look
    tracked(Replay(dict(seen.deviations)))
    proving = Experiment(arch, profile, engine, prove=True)
    proving(Replay(dict(seen.deviations)))
    return [*lines, "", "What a kernel with CONFIG_PROVE_LOCKING prints on the way there:", *proving.splat]


def _hung_tasks(kernel: Kernel) -> list[str]:
    """Let ten timeouts of khungtaskd pass, and say what it says."""
    detector, tasks, said = kernel.hung_tasks, kernel.processes.sched.run_list, list[str]()
    for _ in range(10):
        said += detector.check(tasks, kernel.clock.now)
        kernel.clock.now += detector.timeout * 1_000_000_000
    if said:
        return ["khungtaskd reports:", "", *said]
    reasons = [f"  {task.comm}/{task.pid}: {detector.why_not(task)}" for task in tasks if task.blocked]
    return [f"khungtaskd is silent after {10 * detector.timeout} s of virtual time:", *reasons]
