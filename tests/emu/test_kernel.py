"""Boot on both architectures: user programs run, fault, die and oops by the guest's own code; nothing leaks out."""

import pytest

import emu
from kernel_model.errors import BudgetExceededError, KemuError, UnknownProfileError


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    booted = emu.boot(arch=request.param)
    booted.insmod("golden")
    return booted


def test_a_user_program_reads_and_writes_its_memory(kernel):
    _, image = started = kernel.exec("touch")
    result = kernel.run_user(
        "touch", {"address": image.addresses["value"], "value": 0x1234, "operation": 0}, read={"done": 4, "value": 8},
        started=started,
    )
    assert (result.exit_code, result.signal, result.oops) == (0, None, False)
    assert result.values == {"done": b"\1\0\0\0", "value": (0x1234).to_bytes(8, "little")}


@pytest.mark.parametrize("operation", [0, 1, 2])
def test_a_user_access_to_nothing_is_a_segfault(kernel, operation):
    result = kernel.run_user("touch", {"address": 0x1000, "operation": operation.to_bytes(4, "little")})
    assert result.exit_code is None and not result.oops
    assert (result.signal.signo, result.signal.code, result.signal.addr) == (11, 1, 0x1000)
    assert ("segfault at 1000" in result.dmesg) == (kernel.arch.name == "x86_64")


def test_user_code_cannot_touch_the_kernel(kernel):
    result = kernel.run_user("touch", {"address": kernel.arch.layout.kernel_text})
    assert result.signal.signo == 11 and not result.oops


@pytest.mark.parametrize("cpu", [0, 1])
def test_a_null_read_in_the_kernel_oopses_and_the_machine_goes_on(kernel, cpu):
    before = kernel.init_mm.pages.nr_free
    result = kernel.write_golden("null_read", cpu=cpu)
    assert result.oops and result.exit_code is None
    assert "NULL pointer dereference" in result.dmesg and "g_read+" in result.dmesg
    assert f"CPU: {cpu} UID: 0" in result.dmesg
    after = kernel.run_user("touch", {"address": 0x1000}, cpu=cpu)
    assert after.signal.addr == 0x1000, "the next program runs its own code, not the dead one's"
    assert kernel.init_mm.pages.nr_free <= before


def test_the_same_run_on_a_fresh_kernel_prints_the_same(kernel):
    logs = []
    for _ in range(2):
        fresh = emu.boot(arch=kernel.arch.name)
        fresh.insmod("golden")
        logs.append(fresh.write_golden("null_read").dmesg)
    assert logs[0] == logs[1]


def test_guest_functions_can_be_called(kernel):
    source, target = kernel.slab.kzalloc(64), kernel.slab.kzalloc(64)
    kernel.space.write(source, b"fault-safe copy")
    assert kernel.machine.call("copy_from_kernel_nofault", target, source, 15) == 0
    assert kernel.space.read(target, 15) == b"fault-safe copy"
    unmapped = kernel.arch.layout.vmalloc_start + (1 << 40)
    assert kernel.machine.call("copy_from_kernel_nofault", target, unmapped, 8) == (-14) & 0xFFFF_FFFF_FFFF_FFFF


def test_a_wild_guest_ends_with_one_clear_error(kernel):
    jump_to_self = {"x86_64": b"\xeb\xfe", "arm64": b"\0\0\0\x14"}[kernel.arch.name]
    machine = kernel.machine
    for budget, seconds, text in ((10_000, 60.0, "budget of 10000 instructions"), (0, 0.3, "runs wild")):
        task, image = kernel.exec("touch")
        kernel_user = kernel.mms.mms[task.mm.addr]
        page = kernel_user.tree.walk(image.addresses["_start"]).pa
        kernel.memory.write(page, jump_to_self)
        machine.budget, machine.watchdog_seconds = budget, seconds
        with pytest.raises(BudgetExceededError, match=text):
            kernel.run_user("touch", started=(task, image))
        machine.budget, machine.watchdog_seconds = 0, 60.0
    assert kernel.run_user("touch", {"address": 0x1000}).signal.addr == 0x1000


def test_unknown_names_are_kemu_errors():
    with pytest.raises(UnknownProfileError, match="v9.9"):
        emu.boot(profile="v9.9")
    with pytest.raises(KemuError, match="m68k"):
        emu.boot(arch="m68k")
