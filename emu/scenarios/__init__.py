"""Scenarios: programs with a story, run by `kemu run NAME`."""

from __future__ import annotations

from types import ModuleType

from emu.scenarios import arena_oob, compare_task_vma, task_vma_story
from kernel_model.errors import KemuError

SCENARIOS: dict[str, ModuleType] = {module.NAME: module for module in (arena_oob, task_vma_story)}
COMPARISONS: dict[str, ModuleType] = {compare_task_vma.NAME: compare_task_vma}


def get(name: str) -> ModuleType:
    """The scenario called `name`; KemuError lists those there are."""
    if name not in SCENARIOS:
        raise KemuError(f"unknown scenario {name!r}: known are {', '.join(SCENARIOS)}; or name a .bpf.o or .py file")
    return SCENARIOS[name]


def comparison(name: str) -> ModuleType:
    """The comparison of that scenario; KemuError lists the scenarios that have one."""
    if name not in COMPARISONS:
        raise KemuError(f"no comparison {name!r}: there is one of {', '.join(COMPARISONS)}")
    return COMPARISONS[name]
