"""The unwinder at the entry of functions that can be traced; the golden oopses test the rest."""

import pytest

from arch.x86_64.oops import PT_REGS_FIELDS, Regs
from arch.x86_64.unwind import unwind

TRACED, CALLER, TRAMPOLINE, STACK = 0x1000, 0x2000, 0x3000, 0x8000
PROLOGUE = bytes.fromhex("554889e5")


def frames(words, entry, **registers):
    """Return addresses found above `registers`; `words` are the stack's from STACK, `entry` what TRACED begins with."""
    text = {TRACED: entry + PROLOGUE + bytes(32), CALLER: PROLOGUE + bytes(60), TRAMPOLINE: PROLOGUE + bytes(60)}

    def start_of(address):
        return next((start for start in text if start <= address < start + 0x40), None)

    def read_code(address, length):
        start = start_of(address)
        return text[start][address - start :][:length] if start is not None else None

    def read(address):
        at = (address - STACK) // 8
        return words[at] if 0 <= at < len(words) else None

    regs = Regs(*[registers.get(name, 0) for name in PT_REGS_FIELDS])
    found = unwind(regs, read, lambda a: start_of(a) is not None,
                   lambda a: a - start_of(a) if start_of(a) is not None else None, read_code, None)
    return [frame.address for frame in found]


def test_a_trampoline_is_called_before_the_function_has_a_frame():
    # trampoline's frame, return into the traced function, into its caller; the caller's frame
    words = [STACK + 24, TRACED + 5, CALLER + 0x20, 0, CALLER + 0x30]
    assert frames(words, b"\xe8\0\0\0\0", ip=TRAMPOLINE + 0x20, bp=STACK, sp=STACK - 64) == [
        TRACED + 5, CALLER + 0x20, CALLER + 0x30]


@pytest.mark.parametrize("entry", [b"\xe8\0\0\0\0", bytes.fromhex("0f1f440000")])
@pytest.mark.parametrize("offset, pushed", [(0, 0), (5, 0), (6, 1), (9, 2)])
def test_inside_the_prologue_of_a_function_that_can_be_traced(entry, offset, pushed):
    words = [STACK + 16, CALLER + 0x20, 0, CALLER + 0x30]  # pushed rbp, return, the caller's frame
    sp = STACK if pushed else STACK + 8
    bp = STACK if pushed == 2 else STACK + 16
    assert frames(words, entry, ip=TRACED + offset, sp=sp, bp=bp) == [CALLER + 0x20, CALLER + 0x30]


def test_a_return_address_at_the_same_place_of_another_function_is_ordinary():
    words = [STACK + 24, CALLER + 5, 0xDEAD, 0, CALLER + 0x30]
    assert frames(words, b"", ip=TRAMPOLINE + 0x20, bp=STACK, sp=STACK - 64) == [CALLER + 5, CALLER + 0x30]
