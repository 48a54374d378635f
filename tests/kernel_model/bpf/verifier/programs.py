"""Hand-written programs of type syscall, and random ones, for comparing verifiers. No maps, one helper."""

from __future__ import annotations

import random

from arch.bpf_isa import Insn

EXIT = Insn(0x95)
RANDOM = Insn(0x85, imm=7)


def mov(dst: int, value: int) -> Insn:
    """dst = value."""
    return Insn(0xB7, dst, 0, 0, value)


_SIGN = [RANDOM, Insn(0xC7, 0, 0, 0, 63)]  # r0 s>>= 63
_SIGN32 = [RANDOM, Insn(0xC4, 0, 0, 0, 31)]  # w0 s>>= 31

PROGRAMS: dict[str, list[Insn]] = {
    "return_constant": [mov(0, 0), EXIT],
    "uninitialised_register": [Insn(0xBF, 0, 2), EXIT],
    "no_result": [EXIT],
    "store_and_load": [Insn(0x7A, 10, 0, -8, 5), Insn(0x79, 0, 10, -8), EXIT],
    "below_the_stack": [Insn(0x7A, 10, 0, -520, 5), mov(0, 0), EXIT],
    "above_the_stack": [Insn(0x7A, 10, 0, 0, 5), mov(0, 0), EXIT],
    "misaligned_stack": [Insn(0x7A, 10, 0, -12, 5), mov(0, 0), EXIT],
    "branch": [RANDOM, Insn(0x25, 0, 0, 1, 10), Insn(0x07, 0, 0, 0, 3), mov(1, 1), Insn(0x0F, 0, 1), EXIT],
    "branch_32": [RANDOM, Insn(0xA6, 0, 0, 1, 10), mov(0, 1), Insn(0x04, 0, 0, 0, 7), EXIT],
    "context_load": [Insn(0x61, 0, 1, 4), EXIT],
    "context_store": [Insn(0x62, 1, 0, 8, 1), mov(0, 0), EXIT],
    "context_negative": [Insn(0x61, 0, 1, -4), EXIT],
    "context_moved": [Insn(0x07, 1, 0, 0, 8), Insn(0x61, 0, 1, 0), EXIT],
    "subprogram": [Insn(0x85, 0, 1, 0, 1), EXIT, mov(0, 3), EXIT],
    "partial_fill": [Insn(0x62, 10, 0, -8, 7), Insn(0x61, 0, 10, -8), Insn(0x71, 1, 10, -8), EXIT],
    "spilled_pointer": [Insn(0x7B, 10, 1, -8), Insn(0x79, 2, 10, -8), mov(0, 0), EXIT],
    "half_a_pointer": [Insn(0x7B, 10, 1, -8), Insn(0x61, 2, 10, -8), mov(0, 0), EXIT],
    "bounded_loop": [mov(1, 0), Insn(0x07, 1, 0, 0, 1), Insn(0xA5, 1, 0, -2, 10), mov(0, 0), EXIT],
    "infinite_loop": [mov(0, 0), Insn(0x05, 0, 0, -1), EXIT],
    "division_by_zero": [mov(0, 1), Insn(0x37, 0, 0, 0, 0), EXIT],
    "bad_shift": [mov(0, 1), Insn(0x67, 0, 0, 0, 64), EXIT],
    "frame_pointer_written": [mov(10, 1), mov(0, 0), EXIT],
    "pointer_times_two": [Insn(0x27, 1, 0, 0, 2), mov(0, 0), EXIT],
    "pointer_minus_pointer": [Insn(0xBF, 0, 10), Insn(0x1F, 0, 1), EXIT],
    "pointer_plus_pointer": [Insn(0x0F, 1, 10), mov(0, 0), EXIT],
    "scalar_as_pointer": [mov(1, 8), Insn(0x79, 0, 1, 0), EXIT],
    "unreachable": [mov(0, 0), EXIT, mov(0, 1), EXIT],
    "jump_out": [mov(0, 0), Insn(0x05, 0, 0, 5), EXIT],
    "falls_off": [mov(0, 0)],
    "unknown_helper": [Insn(0x85, imm=100000), EXIT],
    "atomic_add": [Insn(0x7A, 10, 0, -8, 1), mov(1, 2), Insn(0xDB, 10, 1, -8, 0), mov(0, 0), EXIT],
    "sign_extension": [RANDOM, Insn(0xBF, 0, 0, 8), Insn(0x57, 0, 0, 0, 15), EXIT],
    "known_bits": [RANDOM, Insn(0x57, 0, 0, 0, 0xF0), Insn(0x77, 0, 0, 0, 4), Insn(0x47, 0, 0, 0, 1), EXIT],
    "sign_and_mask": [*_SIGN, Insn(0x57, 0, 0, 0, -134), Insn(0x15, 0, 0, 1, 0), Insn(0x07, 0, 0, 0, 1), EXIT],
    "sign_and_mask_32": [*_SIGN32, Insn(0x54, 0, 0, 0, -134), Insn(0x16, 0, 0, 1, 0), Insn(0x04, 0, 0, 0, 1), EXIT],
    "sign_and_mask_of_the_half": [*_SIGN32, Insn(0x57, 0, 0, 0, -134), Insn(0x15, 0, 0, 1, 0), Insn(0x04, 0, 0, 0, 1),
                                  EXIT],
    "sign_or_bits": [*_SIGN, Insn(0x47, 0, 0, 0, 3), Insn(0x15, 0, 0, 1, 3), Insn(0x07, 0, 0, 0, 1), EXIT],
    "sign_or_bits_32": [*_SIGN32, Insn(0x44, 0, 0, 0, 3), Insn(0x16, 0, 0, 1, 3), Insn(0x04, 0, 0, 0, 1), EXIT],
    "sign_xor_bits": [*_SIGN, Insn(0xA7, 0, 0, 0, 3), EXIT],
    "sign_and_register": [*_SIGN, Insn(0xBF, 6, 0), mov(1, 12), Insn(0x5F, 6, 1), Insn(0xBF, 0, 6),
                          EXIT],
    "sign_and_unknown": [RANDOM, Insn(0xBF, 6, 0), Insn(0xC7, 6, 0, 0, 63), Insn(0x5F, 6, 0), Insn(0xBF, 0, 6), EXIT],
    "sign_of_a_copy": [*_SIGN, Insn(0xBF, 6, 0), Insn(0x57, 0, 0, 0, 5), Insn(0x0F, 0, 6), Insn(0x25, 0, 0, 1, 5), EXIT,
                       mov(0, 0), EXIT],
    "sign_of_a_copy_32": [*_SIGN32, Insn(0xBC, 6, 0), Insn(0x54, 0, 0, 0, 5), Insn(0x0C, 0, 6), Insn(0x25, 0, 0, 1, 5),
                          EXIT, mov(0, 0), EXIT],
    "sign_as_offset": [*_SIGN, Insn(0x57, 0, 0, 0, -8), Insn(0xBF, 1, 10), Insn(0x0F, 1, 0), Insn(0x7A, 1, 0, -8, 1),
                       mov(0, 0), EXIT],
    "linked_by_additions": [RANDOM, Insn(0xBC, 6, 0), Insn(0xBF, 7, 6), Insn(0x07, 7, 0, 0, 2), Insn(0x25, 7, 0, 1, 9),
                            Insn(0xBF, 0, 6), EXIT],
    "linked_by_additions_32": [RANDOM, Insn(0xBC, 6, 0), Insn(0xBF, 7, 6), Insn(0x04, 7, 0, 0, 2),
                               Insn(0x25, 7, 0, 1, 9), Insn(0xBF, 0, 6), EXIT],
    "linked_by_additions_of_both": [
        RANDOM, Insn(0xBC, 6, 0), Insn(0xBF, 7, 6), Insn(0xBF, 8, 6), Insn(0x07, 7, 0, 0, 2), Insn(0x04, 8, 0, 0, 5),
        Insn(0x25, 7, 0, 1, 9), Insn(0xBF, 0, 8), EXIT],
    "linked_by_additions_of_both_known": [
        RANDOM, Insn(0xBC, 6, 0), Insn(0xBF, 7, 6), Insn(0xBF, 8, 6), Insn(0x07, 7, 0, 0, 2), Insn(0x04, 8, 0, 0, 5),
        Insn(0x55, 8, 0, 2, 1), Insn(0xBF, 0, 7), EXIT, Insn(0x55, 7, 0, 0, 1), Insn(0xBF, 0, 8), EXIT],
    "linked_to_itself": [RANDOM, Insn(0xBC, 6, 0), Insn(0xBF, 7, 6), Insn(0x0F, 7, 7), Insn(0x25, 7, 0, 1, 9),
                         Insn(0xBF, 0, 6), EXIT],
    "linked_where_nothing_was": [
        RANDOM, Insn(0xBF, 6, 0), Insn(0x57, 6, 0, 0, 15), RANDOM, Insn(0xBF, 7, 0), Insn(0x57, 7, 0, 0, 15), RANDOM,
        Insn(0x15, 0, 0, 1, 7), mov(8, 0), Insn(0x25, 0, 0, 1, 9), Insn(0xBF, 7, 6), Insn(0x05), Insn(0xBF, 1, 10),
        Insn(0x0F, 1, 6), Insn(0x0F, 1, 7), Insn(0x72, 1, 0, -64, 1), mov(0, 0), EXIT],
    "sign_in_a_loop": [RANDOM, Insn(0xBF, 6, 0), mov(7, 0), Insn(0xBF, 1, 6), Insn(0xC7, 1, 0, 0, 63),
                       Insn(0x57, 1, 0, 0, 2), Insn(0x07, 7, 0, 0, 1), Insn(0xA5, 7, 0, -5, 4), Insn(0xBF, 0, 1), EXIT],
}

_ALU = (0x00, 0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0xA0, 0xB0, 0xC0)
_JMP = (0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xA0, 0xB0, 0xC0, 0xD0)


def _one(rng: random.Random) -> Insn:
    kind, dst, src = rng.random(), rng.choice((0, 0, 2, 3, 6, 1)), rng.choice((0, 2, 3, 6, 10, 1))
    size, slot = rng.choice((0, 8, 16, 24)), rng.choice((-8, -16, -4, -24))
    if kind < 0.6:
        table, classes = (_ALU, (4, 7)) if kind < 0.45 else (_JMP, (5, 6))
        insn = Insn(rng.choice(table) | rng.choice(classes) | rng.choice((0, 8)), dst)
        if insn.code & 8:
            insn.src = src
        else:
            insn.imm = rng.choice((0, 1, 3, 8, 31, 255, -1, -8, 1 << 20))
        if insn.cls in (5, 6):
            insn.off = rng.randrange(4)
        return insn
    if kind < 0.66:
        return Insn(0x62 | size, 10, 0, rng.choice((slot, -512, -520, -6)), 7)
    if kind < 0.75:
        return Insn(0x63 | size, 10, src, slot)
    return Insn(0x61 | size, dst, 10, slot) if kind < 0.9 else Insn(0xBF, dst, src)


def random_program(seed: int) -> list[Insn]:
    """A program of 8 to 20 instructions; most are rejected, for every kind of reason."""
    rng = random.Random(seed)
    insns = [RANDOM.copy() if rng.random() < 0.5 else mov(0, rng.choice((0, 1, -1, 5)))]
    insns += [mov(r, rng.choice((0, 1, 8, -8, 255, 1 << 30))) for r in range(1, 4) if rng.random() < 0.6]
    insns.append(Insn(0xBF, 6, 0))
    length = rng.randrange(8, 20)
    while len(insns) < length:
        insns.append(_one(rng))
    insns.append(EXIT)
    for index, insn in enumerate(insns):
        if insn.cls in (5, 6) and insn.code not in (0x85, 0x95):
            insn.off = min(insn.off, len(insns) - 2 - index)
    return insns


_CONDITIONS = (0x15, 0x16, 0x25, 0x26, 0x55, 0x56, 0xA5, 0xA6, 0x65, 0x66, 0xC5, 0xC6, 0xB5, 0xD5, 0x45, 0x46)


def _of_scalars(rng: random.Random, room: int) -> Insn:
    dst, src, kind = rng.choice((6, 7, 8)), rng.choice((6, 7, 8)), rng.random()
    if kind < 0.2:
        return Insn(0xC7, dst, 0, 0, 63) if rng.random() < 0.4 else Insn(rng.choice((0xC7, 0xC4)), dst, 0, 0, 31)
    if kind < 0.4:
        mask = rng.choice((1, 3, 8, 255, -1, -8, -134, 0x7FFFFFFF))
        return Insn(rng.choice((0x57, 0x54, 0x47, 0x44)), dst, 0, 0, mask)
    if kind < 0.5:
        return Insn(rng.choice((0xBF, 0xBC)), dst, src)
    if kind < 0.7:
        return Insn(rng.choice((0x07, 0x04, 0x17, 0xA7, 0xA4, 0x27)), dst, 0, 0, rng.choice((1, 2, -1, 5, 100)))
    if kind < 0.8:
        return Insn(rng.choice((0x0F, 0x0C, 0x1F, 0x1C, 0x5F, 0x4F, 0xAF, 0x5C, 0x4C)), dst, src)
    if kind < 0.85:
        return Insn(rng.choice((0x67, 0x64, 0x77, 0x74)), dst, 0, 0, rng.choice((1, 31, 8, 16)))
    if kind < 0.88:
        return Insn(rng.choice((0x87, 0x84)), dst)
    return Insn(rng.choice(_CONDITIONS), dst, 0, rng.randrange(min(4, room)), rng.choice((0, 1, 3, 5, -1, -8, 255)))


def random_scalars(seed: int) -> list[Insn]:
    """A program of signs, masks and comparisons of three unknown numbers; none is rejected."""
    rng = random.Random(seed)
    insns = []
    for register in (6, 7, 8):
        insns += [RANDOM.copy(), Insn(0xBF if rng.random() < 0.7 else 0xBC, register, 0)]
    length = rng.randrange(6, 22)
    insns += [_of_scalars(rng, length - i) for i in range(length)]
    return [*insns, Insn(0xBF, 0, 6), EXIT]
