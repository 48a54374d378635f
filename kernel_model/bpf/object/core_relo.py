"""CO-RE: fields, types and enumerators of a program found again in the running kernel's BTF.

Mirrors tools/lib/bpf/relo_core.c: candidates have the same name up to `___flavor`; a spec is walked by member names;
an instruction without a target is poisoned, which only matters where a program runs into it. Leaves out relocations
of bitfields (NotModelledError) and TYPE_MATCHES, which is taken as existence.
"""

from __future__ import annotations

from dataclasses import dataclass

from arch.bpf_isa import BPF_ALU, BPF_ALU64, BPF_CALL, BPF_JMP, BPF_LDX, BPF_ST, BPF_STX, Insn
from kernel_model.bpf.object.btf_ext import CoreRelo
from kernel_model.errors import NotModelledError, ObjectFileError
from kernel_model.types import Btf, BtfType, Kind

(FIELD_BYTE_OFFSET, FIELD_BYTE_SIZE, FIELD_EXISTS, FIELD_SIGNED, FIELD_LSHIFT_U64, FIELD_RSHIFT_U64, TYPE_ID_LOCAL,
 TYPE_ID_TARGET, TYPE_EXISTS, TYPE_SIZE, ENUMVAL_EXISTS, ENUMVAL_VALUE, TYPE_MATCHES) = range(13)
_EXISTENCE = frozenset({FIELD_EXISTS, TYPE_EXISTS, TYPE_SIZE, ENUMVAL_EXISTS, TYPE_MATCHES})
POISON_IMM = 0xBAD2310  # 195896080: what libbpf makes an unresolvable instruction call


def essential_name(name: str) -> str:
    """A type's name without its `___flavor`."""
    at = name.rfind("___")
    return name[:at] if at > 0 and not name.endswith("___") else name


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a spec ends: bit offset from the start of the root type and the type there."""

    bit_offset: int
    type_id: int
    bitfield: bool


def _walk_local(btf: Btf, root: int, access: list[int]) -> tuple[list[str | int], _Spot]:
    """Follow member indices in the program's own types; the path as member names and array indices."""
    path: list[str | int] = [access[0]]
    offset = access[0] * btf.sizeof(root) * 8
    type_id, bitfield = root, False
    for index in access[1:]:
        current = btf.resolve(type_id)
        if current.kind in (Kind.STRUCT, Kind.UNION):
            if index >= current.vlen:
                raise ObjectFileError(f"{btf.name}: CO-RE: member {index} of {current.name} does not exist")
            member = current.members[index]
            if member.name:
                path.append(member.name)
            offset += member.bit_offset
            bitfield = bool(member.bitfield_size)
            type_id = member.type_id
        elif current.kind is Kind.ARRAY:
            type_id = current.array[0]
            path.append(index)
            offset += index * btf.sizeof(type_id) * 8
        else:
            raise ObjectFileError(f"{btf.name}: CO-RE: {current.name or current.kind.name} has no members")
    return path, _Spot(offset, type_id, bitfield)


def _walk_target(btf: Btf, root: BtfType, path: list[str | int]) -> _Spot | None:
    """Follow the same path by name in the kernel's types; None where it leads nowhere."""
    offset = int(path[0]) * btf.sizeof(root.id) * 8
    type_id, bitfield = root.id, False
    for step in path[1:]:
        current = btf.resolve(type_id)
        if isinstance(step, str):
            member = btf.find_member(current, step) if current.kind in (Kind.STRUCT, Kind.UNION) else None
            if member is None:
                return None
            offset += member.bit_offset
            bitfield = bool(member.bitfield_size)
            type_id = member.type_id
        else:
            if current.kind is not Kind.ARRAY:
                return None
            type_id, _, count = current.array
            if count and step >= count:
                return None
            offset += step * btf.sizeof(type_id) * 8
    return _Spot(offset, type_id, bitfield)


class Relocator:
    """Applies the CO-RE relocations of one object against one kernel."""

    def __init__(self, local: Btf, target: Btf) -> None:
        self._local = local
        self._target = target

    def _candidates(self, local: BtfType) -> list[BtfType]:
        name = essential_name(local.name)
        kinds = {local.kind} if local.kind not in (Kind.ENUM, Kind.ENUM64) else {Kind.ENUM, Kind.ENUM64}
        return self._target.find_all(name, *kinds)

    def value(self, relo: CoreRelo) -> int | None:
        """What the instruction's immediate or offset becomes; None where the kernel has nothing to match."""
        local = self._local.type(relo.type_id)
        while local.kind in (Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG):
            local = self._local.type(local.type_id)
        if relo.kind == TYPE_ID_LOCAL:
            return local.id
        if relo.kind in (TYPE_ID_TARGET, TYPE_EXISTS, TYPE_SIZE, TYPE_MATCHES):
            return self._type(relo.kind, local)
        access = [int(part) for part in relo.access.split(":")]
        if relo.kind in (ENUMVAL_EXISTS, ENUMVAL_VALUE):
            return self._enumerator(relo.kind, local, access[0])
        return self._field(relo.kind, local, access)

    def _type(self, kind: int, local: BtfType) -> int | None:
        found = self._candidates(local)
        if kind in (TYPE_EXISTS, TYPE_MATCHES):
            return 1 if found else 0
        if not found:
            return 0 if kind == TYPE_SIZE else None
        return self._target.sizeof(found[0].id) if kind == TYPE_SIZE else found[0].id

    def _enumerator(self, kind: int, local: BtfType, index: int) -> int | None:
        if index >= local.vlen:
            raise ObjectFileError(f"{self._local.name}: CO-RE: enumerator {index} of {local.name} does not exist")
        wanted = essential_name(local.values[index][0])
        for candidate in self._candidates(local):
            for name, value in candidate.values:
                if essential_name(name) == wanted:
                    return 1 if kind == ENUMVAL_EXISTS else value
        return 0 if kind == ENUMVAL_EXISTS else None

    def _field(self, kind: int, local: BtfType, access: list[int]) -> int | None:
        path, here = _walk_local(self._local, local.id, access)
        candidates = self._candidates(self._local.resolve(local.id))
        spots = [spot for c in candidates if (spot := _walk_target(self._target, c, path)) is not None]
        if kind == FIELD_EXISTS:
            return 1 if spots else 0
        if not spots:
            return None
        spot = spots[0]
        if spot.bitfield or here.bitfield:
            raise NotModelledError(f"{self._local.name}: CO-RE relocation of a bitfield ({path[-1]}) is not modelled")
        if kind == FIELD_BYTE_OFFSET:
            return spot.bit_offset // 8
        size = self._target.sizeof(spot.type_id)
        if kind == FIELD_BYTE_SIZE:
            return size
        resolved = self._target.resolve(spot.type_id)
        signed = resolved.kind is Kind.INT and resolved.int_signed
        if kind == FIELD_SIGNED:
            return int(signed)
        return 64 - size * 8  # LSHIFT_U64 and RSHIFT_U64 of a whole field


def describe(btf: Btf, relo: CoreRelo) -> str:
    """`struct name.path (access)` for messages."""
    local = btf.type(relo.type_id)
    return f"{local.kind.name.lower()} {local.name} ({relo.access}, kind {relo.kind})"


def patch(insns: list[Insn], index: int, value: int | None, kind: int) -> None:
    """bpf_core_patch_insn(): write the value where the instruction's class keeps it, or poison the instruction."""
    insn = insns[index]
    if value is None:
        insns[index] = Insn(BPF_JMP | BPF_CALL, 0, 0, 0, POISON_IMM)
        return
    if insn.cls in (BPF_ALU, BPF_ALU64):
        insn.imm = value if value < 1 << 31 else value - (1 << 32)
    elif insn.cls in (BPF_LDX, BPF_ST, BPF_STX):
        if value > 0x7FFF:
            insns[index] = Insn(BPF_JMP | BPF_CALL, 0, 0, 0, POISON_IMM)
        else:
            insn.off = value
    elif insn.is_ld_imm64:
        low, high = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
        insn.imm = low - (1 << 32) if low >> 31 else low
        insns[index + 1].imm = high - (1 << 32) if high >> 31 else high
    else:
        raise ObjectFileError(f"CO-RE: instruction {index} (opcode 0x{insn.code:02x}) cannot be relocated")
