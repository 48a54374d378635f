"""Random programs whose helpers call back: loops that count, compare and make things precise, one in another."""

from __future__ import annotations

import random

from arch.bpf_isa import Insn
from tests.kernel_model.bpf.verifier.function_programs import (
    EXIT,
    STATIC,
    Function,
    copy,
    find_vma,
    loop,
    mov,
    stack,
)

CONTEXT, FRAME = 7, 10  # the register that a callback keeps its context in, and the frame pointer
LANDING = [mov(reg, 0) for reg in (1, 2, 3)]  # where jumps may land, none of which goes farther


def _body(r: random.Random, count: int, base: int) -> list[Insn]:
    """Arithmetic on R6 and R8, jumps ahead, loads and stores of two words behind `base`."""
    first, second = (0, -8) if base == CONTEXT else (-8, -16)
    out = []
    for _ in range(count):
        dst, src = r.choice((6, 8)), r.choice((6, 8))
        out.append(r.choice((
            mov(dst, r.choice((0, 1, 2, 5, -1, 100))),
            Insn(r.choice((0x07, 0x17, 0x57, 0x47)), dst, 0, 0, r.choice((1, 3, 7, 8))),
            Insn(r.choice((0x0F, 0x1F, 0x5F)), dst, src),
            Insn(0x79, dst, base, r.choice((first, second))),
            Insn(0x7B, base, src, r.choice((first, second))),
            Insn(r.choice((0x25, 0x15, 0x55, 0xA5, 0x65)), dst, 0, r.randrange(1, 4), r.choice((0, 1, 3, 7))),
            Insn(r.choice((0x2D, 0x1D, 0xAD)), dst, src, r.randrange(1, 3)),
        )))
    return [*out, *LANDING]


def _callback(r: random.Random, vma: bool, nested: bool) -> Function:
    body = [copy(CONTEXT, 3 if vma else 2), mov(6, 3) if vma else copy(6, 1), mov(8, r.choice((0, 1)))]
    body += _body(r, r.randrange(7), CONTEXT)
    if nested:
        body += loop(r.choice((1, 2, 1 << 16)), 2, [copy(3, CONTEXT)])
    body += _body(r, r.randrange(3), CONTEXT)
    body += r.choice(([mov(0, 0)], [mov(0, 1)], [copy(0, 8), Insn(0x57, 0, 0, 0, 1)], [copy(0, 6)],
                      [mov(0, 0), Insn(0x25, 8, 0, 1, 3), mov(0, 1)]))
    return Function([*body, EXIT], ("void *", "void *", "void *") if vma else ("long", "void *"), STATIC)


def program(seed: int) -> list[Function]:
    """One program; always the same for the same seed."""
    r = random.Random(seed)
    vma, nested = r.random() < 0.2, r.random() < 0.25
    body = [Insn(0x7A, 10, 0, -8, r.choice((0, 1))), Insn(0x7A, 10, 0, -16, 0), mov(6, 0), mov(8, r.choice((0, 1, 9)))]
    body += _body(r, r.randrange(4), FRAME)
    if vma:
        body += find_vma(1, stack(4, -8))
    else:
        body += loop(r.choice((1, 2, 3, 1 << 18)) if r.random() < 0.8 else copy(1, 8), 1, stack(3, -8))
    body += _body(r, r.randrange(6), FRAME)
    if r.random() < 0.6:  # a store whose place hangs on a value that the loop may have changed
        body += [Insn(0x57, 6, 0, 0, 7), copy(1, 10), Insn(0x0F, 1, 6), Insn(0x72, 1, 0, -16, 1)]
    main = Function([*body, mov(0, 0), EXIT], ("void *",))
    inner = not vma and nested
    return [main, _callback(r, vma, inner), *([_callback(r, False, False)] if inner else [])]
