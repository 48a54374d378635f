"""x86-64 trampolines by execution on a bare Unicorn CPU."""

import struct

import pytest
from unicorn import UC_ARCH_X86, UC_HOOK_CODE, UC_MODE_64, Uc
from unicorn import x86_const as ux

from arch.interface import TrampolineProg, TrampolineRequest
from arch.x86_64.bpf_trampoline import TRAMPOLINE

FUNCTION, BASE, STACK, STUBS, STOP = 0x100000, 0x180000, 0x200000, 0x300000, 0x400000
ENTER, PROG, EXIT = STUBS, STUBS + 0x100, STUBS + 0x200
ARGUMENTS = [ux.UC_X86_REG_RDI, ux.UC_X86_REG_RSI, ux.UC_X86_REG_RDX, ux.UC_X86_REG_RCX, ux.UC_X86_REG_R8,
             ux.UC_X86_REG_R9]
KEPT = [ux.UC_X86_REG_RBX, ux.UC_X86_REG_RBP, ux.UC_X86_REG_R12, ux.UC_X86_REG_R13, ux.UC_X86_REG_R14,
        ux.UC_X86_REG_R15]


def run(progs, nr_args=6, start=1):
    """Call a traced function: (calls of the stubs in order, with the first three registers and what they point to)."""
    uc = Uc(UC_ARCH_X86, UC_MODE_64)
    for base in (FUNCTION, BASE, STACK, STUBS, STOP):
        uc.mem_map(base, 0x10000)
    uc.mem_write(FUNCTION, TRAMPOLINE.site(FUNCTION, BASE) + b"\xc3")
    uc.mem_write(BASE, TRAMPOLINE.prepare(TrampolineRequest(BASE, nr_args, progs)))
    clobber = b"".join(bytes.fromhex(f"48c7{c}") + struct.pack("<i", 0x111) for c in ("c7", "c6", "c2", "c1"))
    uc.mem_write(ENTER, clobber + b"\x48\xc7\xc0" + struct.pack("<i", start) + b"\xc3")
    uc.mem_write(PROG, clobber + b"\xc3")
    uc.mem_write(EXIT, clobber + b"\xc3")
    sp = STACK + 0x8000
    uc.mem_write(sp, struct.pack("<Q", STOP))
    uc.reg_write(ux.UC_X86_REG_RSP, sp)
    for i, register in enumerate(ARGUMENTS):
        uc.reg_write(register, 0xA0 + i)
    for i, register in enumerate(KEPT):
        uc.reg_write(register, 0xB0 + i)
    calls = []

    def seen(_uc, address, _size, _user):
        if address in (ENTER, PROG, EXIT):
            values = [uc.reg_read(r) for r in ARGUMENTS[:3]]
            args = []
            if address == PROG:
                count = struct.unpack("<Q", uc.mem_read(values[0] - 8, 8))[0]
                args = list(struct.unpack(f"<{count}Q", uc.mem_read(values[0], 8 * count)))
            cookie = struct.unpack("<Q", uc.mem_read(values[1], 8))[0] if address == ENTER else 0
            calls.append((address, values, args, cookie))

    uc.hook_add(UC_HOOK_CODE, seen)
    uc.emu_start(FUNCTION, STOP, 0, 1000)
    assert uc.reg_read(ux.UC_X86_REG_RIP) == STOP and uc.reg_read(ux.UC_X86_REG_RSP) == sp + 8
    assert [uc.reg_read(r) for r in ARGUMENTS[:nr_args]] == [0xA0 + i for i in range(nr_args)]
    assert [uc.reg_read(r) for r in KEPT] == [0xB0 + i for i in range(6)]
    return calls


def prog(address, insnsi=0, cookie=0):
    return TrampolineProg(address, PROG, insnsi, ENTER, EXIT, cookie)


@pytest.mark.parametrize("nr_args", range(7))
def test_arguments_reach_the_program_and_the_function(nr_args):
    calls = run([prog(0x7000)], nr_args)
    assert [c[0] for c in calls] == [ENTER, PROG, EXIT]
    assert calls[1][2] == [0xA0 + i for i in range(nr_args)]
    assert calls[0][1][0] == 0x7000 and calls[2][1][:2] == [0x7000, 1]
    assert calls[2][1][2] == calls[0][1][1], "both are given the run's context"


def test_programs_run_in_order_each_with_its_instructions_and_cookie():
    calls = run([prog(0xFFFF888000007000, 0xFFFF888000008000, 11), prog(0x9000, 0, 12)])
    assert [c[1][0] for c in calls if c[0] == ENTER] == [0xFFFF888000007000, 0x9000]
    assert [c[3] for c in calls if c[0] == ENTER] == [11, 12]
    assert [c[0] for c in calls] == [ENTER, PROG, EXIT] * 2
    assert calls[1][1][1] == 0xFFFF888000008000


def test_a_program_that_must_not_run_is_left_out():
    assert [c[0] for c in run([prog(0x7000), prog(0x7100)], start=0)] == [ENTER, EXIT] * 2


def test_an_entry_without_a_trampoline_is_a_nop():
    assert TRAMPOLINE.site(FUNCTION, None) == TRAMPOLINE.entry() == bytes.fromhex("0f1f440000")
    assert TRAMPOLINE.site(0x1000, 0x2000) == b"\xe8" + struct.pack("<i", 0x1000 - 5)
    with pytest.raises(ValueError, match="out of reach"):
        TRAMPOLINE.site(0, 1 << 32)
