"""What instructions refer to: maps, global variables, kernel functions and variables, other functions of the object.

Mirrors bpf_object__relocate_data() and the resolution of ksyms of tools/lib/bpf/libbpf.c. Leaves out typeless ksyms.
"""

from __future__ import annotations

from arch.bpf_isa import (
    BPF_CALL,
    BPF_JMP,
    BPF_PSEUDO_BTF_ID,
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_KFUNC_CALL,
    BPF_PSEUDO_MAP_FD,
    BPF_PSEUDO_MAP_VALUE,
    Insn,
    s32,
)
from kernel_model.bpf.object import elf
from kernel_model.bpf.object.core_match import essential_name
from kernel_model.bpf.object.opened import Function, OpenedObject
from kernel_model.errors import NotModelledError, ObjectFileError
from kernel_model.types import Kind

_CALL = BPF_JMP | BPF_CALL
UNRESOLVED_KFUNC_BASE = 2002000000  # POISON_CALL_KFUNC_BASE plus the extern's index: a weak kfunc the kernel lacks


class Relocations:
    """Resolves the references of one object's functions."""

    def __init__(self, obj: OpenedObject) -> None:
        self._obj = obj

    def relocate(self, function: Function) -> dict[int, tuple[Function, bool]]:
        """Resolve what `function` refers to, in place; slot -> (function referred to, by address) for the rest."""
        references: dict[int, tuple[Function, bool]] = {}
        insns, first = function.insns, function.start
        seen = set()
        for relo in function.section.relocations:
            slot = relo.offset // 8 - first
            if not 0 <= slot < len(insns):
                continue
            if relo.offset % 8:
                raise self._obj.bad(function.section, f"relocation at {relo.offset}: not an instruction")
            seen.add(slot)
            insn = insns[slot]
            if insn.is_ld_imm64 and slot + 1 < len(insns):
                target = self._relocate_ld_imm64(function, insns, slot, relo.symbol)
                if target is not None:
                    references[slot] = (target, True)
            elif insn.code == _CALL:
                callee = self._relocate_call(function, insn, relo.symbol)
                if callee is not None:
                    references[slot] = (callee, False)
            else:
                raise self._obj.bad(function.section, f"relocation at {relo.offset} of opcode 0x{insn.code:02x}")
        for slot, insn in enumerate(insns):
            if slot not in seen and insn.code == _CALL and insn.src == BPF_PSEUDO_CALL:
                at = first + slot + insn.imm + 1
                references[slot] = (self._obj.function_at(function.section.index, at, function.section.name), False)
        return references

    def _relocate_ld_imm64(
        self, function: Function, insns: list[Insn], slot: int, symbol: elf.Symbol
    ) -> Function | None:
        insn = insns[slot]
        if symbol.name in self._obj.map_by_symbol and symbol.kind != elf.STT_SECTION:
            insn.src, insn.imm = BPF_PSEUDO_MAP_FD, self._obj.map_by_symbol[symbol.name]
            insns[slot + 1].imm = 0
            return None
        if symbol.section in self._obj.map_by_section:
            offset = s32(symbol.value + insn.imm + self._obj.data_offset.get(symbol.section, 0))
            insn.src, insn.imm = BPF_PSEUDO_MAP_VALUE, self._obj.map_by_section[symbol.section]
            insns[slot + 1].imm = offset
            return None
        if symbol.section in self._obj.functions:
            return self._obj.function_at(symbol.section, symbol.value // 8 + insn.imm // 8, function.section.name)
        if symbol.section == elf.SHN_UNDEF:
            self._relocate_extern(function, insns, slot, symbol)
            return None
        raise self._obj.bad(function.section, f"unexpected relocation against '{symbol.name}'")

    def _relocate_extern(self, function: Function, insns: list[Insn], slot: int, symbol: elf.Symbol) -> None:
        var = self._obj.btf.find(symbol.name, Kind.VAR) if self._obj.btf is not None else None
        if var is not None and self._obj.btf is not None and self._obj.btf.resolve(var.type_id).kind is Kind.UNKN:
            raise NotModelledError(f"{self._obj.name}: extern '{symbol.name}': typeless ksyms are not modelled")
        found = self._obj.target.find(essential_name(symbol.name), Kind.FUNC, Kind.VAR)
        if found is None:
            if symbol.bind != elf.STB_WEAK:
                raise self._missing(function, "ksym", symbol)
            insns[slot].src = insns[slot].imm = insns[slot + 1].imm = 0
            return
        insns[slot].src, insns[slot].imm, insns[slot + 1].imm = BPF_PSEUDO_BTF_ID, found.id, 0

    def _relocate_call(self, function: Function, insn: Insn, symbol: elf.Symbol) -> Function | None:
        if symbol.section != elf.SHN_UNDEF:
            at = symbol.value // 8 + insn.imm + 1
            return self._obj.function_at(symbol.section, at, function.section.name)
        name = essential_name(symbol.name)
        found = self._obj.target.find(name, Kind.FUNC) if name not in self._obj.absent else None
        if found is not None:
            insn.src, insn.imm, insn.off = BPF_PSEUDO_KFUNC_CALL, found.id, 0
        elif symbol.bind == elf.STB_WEAK:
            if symbol.name not in self._obj.externs:
                raise self._obj.bad(function.section, f"call of '{symbol.name}', which is no extern")
            insn.src, insn.imm, insn.off = 0, UNRESOLVED_KFUNC_BASE + self._obj.externs.index(symbol.name), 0
        else:
            raise self._missing(function, "func ksym", symbol)
        return None

    def _missing(self, function: Function, kind: str, symbol: elf.Symbol) -> ObjectFileError:
        cause = f"extern ({kind}) '{symbol.name}': not found in kernel or module BTFs"
        return self._obj.bad(function.section, cause)
