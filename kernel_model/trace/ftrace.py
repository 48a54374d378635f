"""Entries of traceable functions: nops that become calls.

Mirrors kernel/trace/ftrace.c in ftrace_init(), ftrace_location() and what register_ftrace_direct() does to text. Leaves
out tracers, filters, shared entries (an entry calls one trampoline) and functions of modules.
"""

from __future__ import annotations

from typing import Any


class Ftrace:
    """The traceable functions of the kernel's image. `host` is the kernel's parts."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self._trampoline = host.arch.trampoline
        symbol = host.machine.symbol
        start, stop = symbol("__start_mcount_loc"), symbol("__stop_mcount_loc")
        self.locations: frozenset[int] = frozenset(host.space.read_u64(at) for at in range(start, stop, 8))
        for function in sorted(self.locations):  # as boot leaves them
            host.space.write(function, self._trampoline.entry())

    def ftrace_location(self, ip: int) -> int:
        """unsigned long ftrace_location(unsigned long ip): of a function's first byte; 0 for one without an entry."""
        return ip if ip in self.locations else 0

    def direct_call(self, function: int, target: int | None) -> None:
        """Let the entry of `function` call `target`, or nothing (None)."""
        host, at = self._host, function + self._trampoline.SITE_OFFSET
        code = self._trampoline.site(at, target)
        host.space.write(at, code)
        host.machine.flush_icache_range(at, at + len(code))
