"""What libbpf makes of the end of a verifier log: causes that only the loader knows.

Mirrors fixup_verifier_log() of tools/lib/bpf/libbpf.c (1.7): among the last ten lines, a call of a poisoned number and
its refusal become the CO-RE relocation or the kfunc behind it. Maps that were not created do not exist here.
"""

from __future__ import annotations

import re

from kernel_model.bpf.object.core_relo import POISON_IMM
from kernel_model.bpf.object.reloc import UNRESOLVED_KFUNC_BASE
from kernel_model.bpf.program import ProgSpec

_LAST_LINES = 10
_SPEC_BUF, _PATCH = 256, 512  # libbpf's buffers, the NUL included
_CALL = re.compile(r"(\d+): \(\d+\) call unknown#(-?\d+)$")
_REFUSED = re.compile(r"invalid func unknown#(\d+)$")


def fixup_verifier_log(log: str, spec: ProgSpec) -> str:
    """`log` with the last familiar pair of lines replaced; unchanged where there is none."""
    lines = log.split("\n")
    for at in range(len(lines) - 1, max(len(lines) - 2 - _LAST_LINES, 0), -1):
        refused = _REFUSED.match(lines[at])
        call = _CALL.match(lines[at - 1]) if refused is not None else None
        if call is None or refused is None or call[2] != refused[1]:
            continue
        patch = _patch(int(call[1]), int(call[2]), spec)
        if patch is not None:
            lines[at - 1 : at + 1] = patch[: _PATCH - 1].split("\n")
        break
    return "\n".join(lines)


def _patch(slot: int, number: int, spec: ProgSpec) -> str | None:
    if number == POISON_IMM and slot in spec.poisoned:
        text = spec.poisoned[slot]
        more = "..." if len(text) >= _SPEC_BUF else ""
        return f"{slot}: <invalid CO-RE relocation>\nfailed to resolve CO-RE relocation {text[: _SPEC_BUF - 1]}{more}"
    if UNRESOLVED_KFUNC_BASE <= number < UNRESOLVED_KFUNC_BASE + len(spec.externs):
        name = spec.externs[number - UNRESOLVED_KFUNC_BASE]
        return f"{slot}: <invalid kfunc call>\nkfunc '{name}' is referenced but wasn't resolved"
    return None
