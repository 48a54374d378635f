"""kcalls that sleep and kcalls that call the guest, on a machine whose tasks take turns."""

import pytest

import emu
from kernel_model.errors import KemuError
from kernel_model.sched.oracle import RunUntilBlock, keep_going
from kernel_model.sched.requests import Block, GuestCall, Point


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    return emu.boot(arch=request.param)


def test_a_kcall_may_call_the_guest_on_its_tasks_stack(kernel, replaced):
    text = kernel.slab.kzalloc(32)
    kernel.space.write(text, b"abc\0abd\0")
    seen = []

    def yields(*_):
        for other in (0, 4):
            seen.append((yield GuestCall("strcmp", text, text + other)))
            yield Point("yield")  # whoever waits does so in a loop
        return 5

    replaced("do_futex", yields)
    result = kernel.run_user("threads")
    assert result.exit_code == 7
    differs = [value & 0xFFFF_FFFF != 0 for value in seen]
    assert seen[0] == 0 and differs.count(True) == differs.count(False) > 1


def test_a_guest_function_of_a_kcall_may_itself_sleep_and_its_trace_names_the_kcall(kernel, replaced):
    sched, traces = kernel.processes.sched, []

    def outer(uaddr, op, *_):
        task = kernel.current_task()
        if task.pid == task.tgid:  # the first thread: asleep below a guest function until a thread ends
            task.state = 2
            yield GuestCall("schedule")
            return 0
        first = kernel.tasks.group(task)[0]
        if first.blocked:
            fp, names = first.frames[-1].frame_pointer, []
            while fp:
                names.append(kernel.kallsyms.symbol(kernel.space.read_u64(fp + 8)).split("+")[0])
                fp = kernel.space.read_u64(fp)
            traces.append(names)
            sched.wake(first, 2)
        yield Point("yield")
        return 0

    replaced("do_futex", outer)
    result = kernel.run_user("threads")
    assert result.exit_code == 7
    own = ["__switch_to"] if kernel.arch.name == "arm64" else []  # out of line there
    syscall = {"x86_64": "do_syscall_64", "arm64": "do_el0_svc"}[kernel.arch.name]
    assert traces[0][: len(own) + 4] == [*own, "__schedule", "schedule", "do_futex", syscall]


def test_a_nested_guest_call_cannot_sleep(kernel, replaced):
    def sleeps(*_):
        kernel.current_task().state = 2
        yield Block()

    replaced("do_futex", sleeps)
    task, image = kernel.exec("threads")
    with pytest.raises(KemuError, match="nothing can move"):
        kernel.run_user("threads", started=(task, image))
    kernel.current_task().state = 2
    with pytest.raises(KemuError, match="context_switch: the task would sleep in a guest function"):
        kernel.machine.call("schedule")
    kernel.current_task().state = 0


def test_a_wake_up_may_come_between_the_setting_of_a_state_and_schedule(kernel, replaced):
    class OthersFirst:
        def choose(self, options, current, kind):
            others = [i for i, task in enumerate(options) if task is not current]
            return others[0] if kind == "sleep" else keep_going(options, current)

    sched, woken = kernel.processes.sched, []

    def outer(uaddr, op, *_):
        task = kernel.current_task()
        first = kernel.tasks.group(task)[0]
        if task is first:
            task.state = 2
            before = task.view.nvcsw
            yield GuestCall("schedule")
            woken.append((task.view.nvcsw - before, task.state))
            return 0
        if first.state == 2 and not first.blocked:
            sched.wake(first, 2)
        yield Point("yield")
        return 0

    replaced("do_futex", outer)
    sched.oracle = OthersFirst()
    try:
        assert kernel.run_user("threads", {"turn": (0).to_bytes(4, "little")}).exit_code == 7
    finally:
        sched.oracle = RunUntilBlock()
    assert woken and set(woken) == {(0, 0)}, "it never left its CPU"
