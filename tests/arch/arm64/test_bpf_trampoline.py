"""arm64 trampolines by execution on a bare Unicorn CPU."""

import struct

import pytest
from unicorn import UC_ARCH_ARM64, UC_HOOK_CODE, UC_MODE_ARM, Uc
from unicorn import arm64_const as ua

from arch.arm64 import insn as a64
from arch.arm64.bpf_trampoline import TRAMPOLINE
from arch.interface import TrampolineProg, TrampolineRequest

KERNEL = 0xFFFF_0000_0000_0000
FUNCTION, BASE, STACK, STUBS, STOP = (KERNEL | low for low in (0x100000, 0x180000, 0x200000, 0x300000, 0x400000))
ENTER, PROG, EXIT = STUBS, STUBS + 0x100, STUBS + 0x200
X = [getattr(ua, f"UC_ARM64_REG_X{i}") for i in range(31)]


def run(progs, nr_args=8, start=1):
    """Call a traced function: calls of the stubs in order, with the first three registers and what they point to."""
    uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
    uc.ctl_set_cpu_model(ua.UC_CPU_ARM64_MAX)
    for base in (FUNCTION, BASE, STACK, STUBS, STOP):
        uc.mem_map(base, 0x10000)
    at = FUNCTION + TRAMPOLINE.SITE_OFFSET
    entry = TRAMPOLINE.entry()[:4] + TRAMPOLINE.site(at, BASE)
    uc.mem_write(FUNCTION, entry + struct.pack("<I", a64.RET))
    uc.mem_write(BASE, TRAMPOLINE.prepare(TrampolineRequest(BASE, nr_args, progs)))
    clobber = [word for register in (0, 1, 2, 3, 9, 10, 17) for word in a64.mov_imm(1, register, 0x111)]
    for stub in (ENTER, PROG, EXIT):
        words = [*clobber, *a64.mov_imm(1, 0, start), a64.RET]
        uc.mem_write(stub, struct.pack(f"<{len(words)}I", *words))
    sp = STACK + 0x8000
    uc.reg_write(ua.UC_ARM64_REG_SP, sp)
    for i in range(30):
        uc.reg_write(X[i], 0xA0 + i)
    uc.reg_write(ua.UC_ARM64_REG_X29, STACK + 0x9000)
    uc.reg_write(ua.UC_ARM64_REG_X30, STOP)
    calls = []

    def seen(_uc, address, _size, _user):
        if address in (ENTER, PROG, EXIT):
            values = [uc.reg_read(r) for r in X[:3]]
            args, frames = [], []
            if address == PROG:
                count = struct.unpack("<Q", uc.mem_read(values[0] - 8, 8))[0]
                args = list(struct.unpack(f"<{count}Q", uc.mem_read(values[0], 8 * count)))
                fp = uc.reg_read(ua.UC_ARM64_REG_X29)
                while fp != STACK + 0x9000:
                    fp, lr = struct.unpack("<2Q", uc.mem_read(fp, 16))
                    frames.append(lr)
            cookie = struct.unpack("<Q", uc.mem_read(values[1], 8))[0] if address == ENTER else 0
            calls.append((address, values, args, cookie, frames))

    uc.hook_add(UC_HOOK_CODE, seen)
    uc.emu_start(FUNCTION, STOP, 0, 1000)
    assert uc.reg_read(ua.UC_ARM64_REG_PC) == STOP and uc.reg_read(ua.UC_ARM64_REG_SP) == sp
    kept = [*range(nr_args), *range(19, 29)]
    assert [uc.reg_read(X[i]) for i in kept] == [0xA0 + i for i in kept]
    assert uc.reg_read(ua.UC_ARM64_REG_X29) == STACK + 0x9000 and uc.reg_read(ua.UC_ARM64_REG_X30) == STOP
    return calls


def prog(address, insnsi=0, cookie=0):
    return TrampolineProg(KERNEL | address, PROG, insnsi, ENTER, EXIT, cookie)


@pytest.mark.parametrize("nr_args", range(9))
def test_arguments_reach_the_program_and_the_function(nr_args):
    calls = run([prog(0x7000)], nr_args)
    assert [c[0] for c in calls] == [ENTER, PROG, EXIT]
    assert calls[1][2] == [0xA0 + i for i in range(nr_args)]
    assert calls[0][1][0] == KERNEL | 0x7000 and calls[2][1][:2] == [KERNEL | 0x7000, 1]
    assert calls[2][1][2] == calls[0][1][1], "both are given the run's context"


def test_frame_records_lead_to_the_function_and_its_caller():
    assert run([prog(0x7000)])[1][4] == [FUNCTION + 8, STOP]


def test_programs_run_in_order_each_with_its_instructions_and_cookie():
    calls = run([prog(0x7000, KERNEL | 0x8000, 11), prog(0x9000, 0, 12)])
    assert [c[1][0] for c in calls if c[0] == ENTER] == [KERNEL | 0x7000, KERNEL | 0x9000]
    assert [c[3] for c in calls if c[0] == ENTER] == [11, 12]
    assert [c[0] for c in calls] == [ENTER, PROG, EXIT] * 2
    assert calls[1][1][1] == KERNEL | 0x8000


def test_a_program_that_must_not_run_is_left_out():
    assert [c[0] for c in run([prog(0x7000), prog(0x7100)], start=0)] == [ENTER, EXIT] * 2


def test_an_entry_without_a_trampoline_does_nothing():
    assert TRAMPOLINE.entry() == bytes.fromhex("e9031eaa1f2003d5")
    assert TRAMPOLINE.site(FUNCTION + 4, None) == TRAMPOLINE.entry()[4:]
    with pytest.raises(ValueError, match="branch"):
        TRAMPOLINE.site(FUNCTION + 4, FUNCTION + (1 << 28))
