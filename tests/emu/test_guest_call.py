"""Guest functions that a kcall calls as if from a place in the guest's text."""

import pytest

import emu
from kernel_model.sched.requests import GuestCall, Point


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    return emu.boot(arch=request.param)


def test_text_that_is_returned_to_may_run_for_others(kernel, replaced):
    """strncmp's first instruction is where strcmp returns to, and strncmp is called as well, in all threads."""
    text = kernel.slab.kzalloc(32)
    kernel.space.write(text, b"abc\0abd\0")
    back, seen = kernel.machine.symbol("strncmp"), []

    def compares(*_):
        for other, count in ((0, 3), (4, 2), (4, 3)):
            outcome = [(yield GuestCall("strcmp", text, text + other, return_address=back))]
            yield Point("point")
            outcome.append((yield GuestCall("strncmp", text, text + other, count)))
            yield Point("point")
            seen.append((other, count, *(value & 0xFFFF_FFFF != 0 for value in outcome)))
        yield Point("yield")  # whoever waits does so in a loop
        return 0

    replaced("do_futex", compares)
    result = kernel.run_user("threads")
    assert result.exit_code == 7
    assert set(seen) == {(0, 3, False, False), (4, 2, True, False), (4, 3, True, True)}
    assert len(seen) > 3, "the first thread and others"


def test_frames_lead_from_the_called_function_to_the_kcall(kernel, replaced):
    cookie, frames = kernel.slab.kzalloc(8 * 65), [kernel.machine.symbol(n) + 8 for n in ("memset", "memcpy")]
    back, traces = kernel.machine.symbol("strncmp") + 4, []

    def walks(*_):
        kernel.space.write(cookie + 8 * 64, bytes(4))
        yield GuestCall("arch_bpf_stack_walk", kernel.machine.symbol("dump_stack_cb"), cookie, return_address=back,
                        frames=frames)
        count = int.from_bytes(kernel.space.read(cookie + 8 * 64, 4), "little")
        ips = [kernel.space.read_u64(cookie + 8 * i) for i in range(count)]
        traces.append([kernel.kallsyms.symbol(ip).split("+")[0] for ip in ips])
        yield Point("yield")
        return 0

    replaced("do_futex", walks)
    kernel.run_user("threads")
    assert traces and all(trace[:3] == ["strncmp", "memcpy", "memset"] for trace in traces)
    assert all(trace[3] in ("do_syscall_64", "do_el0_svc") for trace in traces)
