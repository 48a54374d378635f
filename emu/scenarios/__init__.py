"""Scenarios: programs with a story, run by `kemu run NAME`."""

from __future__ import annotations

from types import ModuleType

from emu.scenarios import arena_oob
from kernel_model.errors import KemuError

SCENARIOS: dict[str, ModuleType] = {arena_oob.NAME: arena_oob}


def get(name: str) -> ModuleType:
    """The scenario called `name`; KemuError lists those there are."""
    if name not in SCENARIOS:
        raise KemuError(f"unknown scenario {name!r}: known are {', '.join(SCENARIOS)}; or name a .bpf.o or .py file")
    return SCENARIOS[name]
