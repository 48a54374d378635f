"""Symbols of the running kernel: image, modules and BPF programs.

Mirrors kernel/kallsyms.c (sizes reach to the next symbol), kernel/module/kallsyms.c (names in brackets) and the BPF
part of kallsyms (kernel/bpf/core.c). Leaves out the compressed tables.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field

from kernel_model.image import Image


@dataclass(frozen=True, slots=True)
class Found:
    """Where an address lies."""

    name: str
    offset: int
    size: int
    module: str | None = None

    def __str__(self) -> str:
        """sprint_symbol(): `name+0xoff/0xsize [module]`."""
        where = f"{self.name}+{self.offset:#x}/{self.size:#x}"
        return f"{where} [{self.module}]" if self.module else where


@dataclass(slots=True)
class _Range:
    start: int
    end: int
    module: str | None
    starts: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


def _module(section: str) -> str | None:
    return section.split(".")[2] if section.startswith(".module.") else None


class Kallsyms:
    """Lookup by address. Text is what can stand in a call trace."""

    def __init__(self, image: Image) -> None:
        self._ranges: list[_Range] = []
        by_section: dict[str, list[tuple[int, str]]] = {}
        for symbol in image.symbols:
            by_section.setdefault(symbol.section, []).append((symbol.address, symbol.name))
        for section, symbols in by_section.items():
            address, size = image.sections[section]
            entry = _Range(address, address + size, _module(section))
            for at, name in sorted(symbols):
                if not entry.starts or entry.starts[-1] != at:
                    entry.starts.append(at)
                    entry.names.append(name)
            self._ranges.append(entry)
        self._ranges.sort(key=lambda r: r.start)
        self._text = [(s.va, s.va + s.size) for s in image.segments if s.executable]
        self._bpf: list[tuple[int, int, str]] = []
        self._cache: dict[int, str] = {}

    def add_bpf(self, start: int, end: int, name: str) -> None:
        """bpf_ksym_add(): a JITed program's text."""
        insort(self._bpf, (start, end, name))
        self._cache.clear()

    def remove_bpf(self, start: int) -> None:
        """bpf_ksym_del()."""
        self._bpf = [entry for entry in self._bpf if entry[0] != start]
        self._cache.clear()

    def lookup(self, address: int) -> Found | None:
        """The symbol that holds `address`; None outside all of them."""
        for start, end, name in self._bpf:
            if start <= address < end:
                return Found(name, address - start, end - start)
        for entry in self._ranges:
            if entry.start <= address < entry.end:
                index = bisect_right(entry.starts, address) - 1
                if index < 0:
                    return None
                start = entry.starts[index]
                end = entry.starts[index + 1] if index + 1 < len(entry.starts) else entry.end
                return Found(entry.names[index], address - start, end - start, entry.module)
        return None

    def is_text(self, address: int) -> bool:
        """__kernel_text_address(): image, module or BPF text."""
        if any(start <= address < end for start, end in self._text):
            return True
        return any(start <= address < end for start, end, _ in self._bpf)

    def symbol(self, address: int) -> str:
        """%pS: the symbol, or the bare address `0x...`."""
        text = self._cache.get(address)
        if text is None:
            found = self.lookup(address)
            text = self._cache[address] = str(found) if found is not None else f"0x{address:x}"
        return text

    def return_symbol(self, address: int) -> str:
        """%pB: of a return address; the call before it decides the symbol, so that a call at a function's very end
        names its caller."""
        found = self.lookup(address - 1)
        if found is None:
            return f"0x{address:x}"
        return str(Found(found.name, found.offset + 1, found.size, found.module))

    def function_offset(self, address: int) -> int | None:
        """Bytes from the start of the function that holds `address`."""
        found = self.lookup(address)
        return found.offset if found is not None else None
