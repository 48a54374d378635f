"""CO-RE: fields, types and enumerators of a program found again in the running kernel's BTF.

Mirrors tools/lib/bpf/relo_core.c: candidates have the same name up to `___flavor`; a spec is walked by member names;
all candidates that match must agree; an instruction without a target is poisoned, which only matters where a program
runs into it.
"""

from __future__ import annotations

from dataclasses import dataclass

from arch.bpf_isa import BPF_ALU, BPF_ALU64, BPF_CALL, BPF_JMP, BPF_LDX, BPF_ST, BPF_STX, Insn, s32
from kernel_model.bpf.object.btf_ext import CoreRelo
from kernel_model.bpf.object.core_match import ENUMS, essential_name, fields_are_compat, types_match
from kernel_model.errors import ObjectFileError
from kernel_model.types import Btf, BtfType, Kind
from kernel_model.types.btf import Member

(FIELD_BYTE_OFFSET, FIELD_BYTE_SIZE, FIELD_EXISTS, FIELD_SIGNED, FIELD_LSHIFT_U64, FIELD_RSHIFT_U64, TYPE_ID_LOCAL,
 TYPE_ID_TARGET, TYPE_EXISTS, TYPE_SIZE, ENUMVAL_EXISTS, ENUMVAL_VALUE, TYPE_MATCHES) = range(13)
_TYPE_BASED = frozenset({TYPE_ID_TARGET, TYPE_EXISTS, TYPE_SIZE, TYPE_MATCHES})
_ENUM_BASED = frozenset({ENUMVAL_EXISTS, ENUMVAL_VALUE})
POISON_IMM = 0xBAD2310  # 195896080: what libbpf makes an unresolvable instruction call
MAX_SPEC_LEN = 64
KIND_NAMES = ("byte_off", "byte_sz", "field_exists", "signed", "lshift_u64", "rshift_u64", "local_type_id",
              "target_type_id", "type_exists", "type_size", "enumval_exists", "enumval_value", "type_matches")
_SIZE_CODES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
_SIZE_MASK = 0x18


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a spec ends: bit offset from the start of the root type, the type there, bits if it is a bitfield."""

    bit_offset: int
    type_id: int
    bitfield: int
    element: bool  # an array's element or the root itself: no member of its own


@dataclass(frozen=True, slots=True)
class Resolved:
    """What an instruction becomes; `value` None poisons it.

    `original` is what the compiler must have put there, None where that is not certain. `sizes` has the bytes of the
    accessed field (program's view, kernel's view) where they differ; `fits` is False where a load or store of the
    other width would not mean the same.
    """

    value: int | None
    original: int | None = None
    sizes: tuple[int, int] | None = None
    fits: bool = True


def _bitfield(member: Member) -> int:
    """btf_member_bitfield_size(): 0 in structs without kind_flag."""
    return 0 if member.by_type else member.bitfield_size


class Relocator:
    """Computes the CO-RE relocations of one object against one kernel."""

    def __init__(self, local: Btf, target: Btf) -> None:
        self._local = local
        self._target = target
        self._found: dict[tuple[str, bool | Kind], list[BtfType]] = {}

    def _bad(self, relo: CoreRelo, cause: str) -> ObjectFileError:
        return ObjectFileError(f"{self._local.name}: section .BTF.ext: CO-RE relocation {self.describe(relo)}: {cause}")

    def describe(self, relo: CoreRelo) -> str:
        """`struct name (0:1, kind 0)` for messages."""
        local = self._local.type(relo.type_id)
        return f"{local.kind.name.lower()} {local.name or '<anon>'} ({relo.access}, kind {relo.kind})"

    def format_spec(self, relo: CoreRelo) -> str:
        """bpf_core_format_spec() of the program's side: `<byte_off> [5] struct s.member (0:1 @ offset 8)`."""
        btf, local, access = self._local, self._local.type(relo.type_id), self._access(relo)
        text = f"<{KIND_NAMES[relo.kind]}> [{relo.type_id}] {local.kind.name.lower()} {local.name or '<anon>'}"
        if relo.kind in _TYPE_BASED or relo.kind == TYPE_ID_LOCAL:
            return text
        if relo.kind in _ENUM_BASED:
            name, value = btf.resolve(local.id).values[access[0]]
            return f"{text}::{name} = {value}"
        path, spot = self._walk_local(relo, local.id, access)
        for number, (step, _) in enumerate(path):
            text += f".{step}" if isinstance(step, str) else f"[{step}]" if number or step else ""
        byte, bit = divmod(spot.bit_offset, 8)
        return f"{text} ({relo.access} @ offset {byte}{f'.{bit}' if bit else ''})"

    def resolve(self, relo: CoreRelo) -> Resolved:
        """What becomes of the relocation; ObjectFileError where the record is damaged or the kernel is ambiguous."""
        local = self._local.type(relo.type_id)
        access = self._access(relo)
        if not 0 <= relo.kind <= TYPE_MATCHES:
            raise self._bad(relo, "unknown kind")
        if relo.kind == TYPE_ID_LOCAL:
            return Resolved(relo.type_id)
        if not local.name:
            raise self._bad(relo, "anonymous types cannot be looked up")
        if relo.kind in _TYPE_BASED:
            if access != [0]:
                raise self._bad(relo, "bad access string")
            return self._type(relo, local)
        if relo.kind in _ENUM_BASED:
            return self._enumerator(relo, local, access)
        return self._field(relo, local, access)

    def _access(self, relo: CoreRelo) -> list[int]:
        parts = relo.access.split(":")
        if len(parts) > MAX_SPEC_LEN or not all(p.isascii() and p.isdigit() and len(p) <= 10 for p in parts):
            raise self._bad(relo, "bad access string")
        return [int(part) for part in parts]

    def _candidates(self, local: BtfType) -> list[BtfType]:
        """bpf_core_find_cands(): a flavor counts for nothing in the program's name, nor in the kernel's."""
        kinds = ENUMS if local.kind in ENUMS else {local.kind}
        name = essential_name(local.name)
        key = name, local.kind in ENUMS or local.kind
        if key not in self._found:
            found = self._target.find_all(name, *sorted(kinds)) + self._target.find_prefixed(name + "___", *kinds)
            self._found[key] = sorted((t for t in found if essential_name(t.name) == name), key=lambda t: t.id)
        return self._found[key]

    def _agreed(self, relo: CoreRelo, results: list[Resolved]) -> Resolved:
        for other in results[1:]:
            if other.value != results[0].value:
                raise self._bad(relo, f"relocation decision ambiguity: {other.value} != {results[0].value}")
        return results[0]

    # -- types and enumerators ---------------------------------------------------------------------------------------

    def _type(self, relo: CoreRelo, local: BtfType) -> Resolved:
        found = self._candidates(local)
        if relo.kind == TYPE_MATCHES:
            found = [c for c in found if types_match(self._local, local.id, self._target, c.id)]
        original = None if relo.kind == TYPE_ID_TARGET else 1
        if relo.kind == TYPE_SIZE:
            original = self._local.sizeof(local.id)
        if not found:
            return Resolved(0, original)
        if relo.kind in (TYPE_EXISTS, TYPE_MATCHES):
            return Resolved(1, original)
        values = [c.id if relo.kind == TYPE_ID_TARGET else self._target.sizeof(c.id) for c in found]
        return self._agreed(relo, [Resolved(v, original) for v in values])

    def _enumerator(self, relo: CoreRelo, local: BtfType, access: list[int]) -> Resolved:
        enum = self._local.resolve(local.id)
        if enum.kind not in ENUMS or len(access) != 1 or access[0] >= enum.vlen:
            raise self._bad(relo, "no such enumerator")
        name, original = enum.values[access[0]]
        wanted = essential_name(name)
        results = []
        for candidate in self._candidates(local):
            target = self._target.resolve(candidate.id)
            if target.kind not in ENUMS:
                continue
            value = next((v for n, v in target.values if essential_name(n) == wanted), None)
            if value is not None:
                results.append(Resolved(value, original))
        if relo.kind == ENUMVAL_EXISTS:
            return Resolved(int(bool(results)), 1)
        return self._agreed(relo, results) if results else Resolved(None)

    # -- fields ------------------------------------------------------------------------------------------------------

    def _walk_local(self, relo: CoreRelo, root: int, access: list[int]) -> tuple[list[tuple[str | int, int]], _Spot]:
        """Follow member indices in the program's own types; the path as (member name or array index, type id)."""
        btf, type_id, bitfield, element = self._local, root, 0, True
        path: list[tuple[str | int, int]] = [(access[0], root)]
        offset = access[0] * btf.sizeof(root) * 8
        for index in access[1:]:
            current = btf.resolve(type_id)
            if current.kind in (Kind.STRUCT, Kind.UNION):
                if index >= current.vlen:
                    raise self._bad(relo, f"member {index} of {current.name} does not exist")
                member = current.members[index]
                offset, bitfield, type_id = offset + member.bit_offset, _bitfield(member), member.type_id
                element = False
                if member.name:
                    path.append((member.name, type_id))
            elif current.kind is Kind.ARRAY:
                type_id, _, count = current.array
                if count and index >= count:
                    raise self._bad(relo, f"element {index} of an array of {count}")
                offset, bitfield, element = offset + index * btf.sizeof(type_id) * 8, 0, True
                path.append((index, type_id))
            else:
                raise self._bad(relo, f"{current.name or current.kind.name} has no members")
        return path, _Spot(offset, type_id, bitfield, element)

    def _walk_target(self, root: BtfType, path: list[tuple[str | int, int]]) -> _Spot | None:
        """Follow the same path by name in the kernel's types; None where it leads nowhere."""
        btf, type_id, bitfield, element = self._target, root.id, 0, True
        offset = int(path[0][0]) * btf.sizeof(root.id) * 8
        for step, local_id in path[1:]:
            current = btf.resolve(type_id)
            if isinstance(step, str):
                member = btf.find_member(current, step) if current.kind in (Kind.STRUCT, Kind.UNION) else None
                if member is None or not fields_are_compat(self._local, local_id, btf, member.type_id):
                    return None
                offset, bitfield, type_id = offset + member.bit_offset, _bitfield(member), member.type_id
                element = False
                continue
            if current.kind is not Kind.ARRAY:
                return None
            type_id, _, count = current.array
            if count and step >= count:
                return None
            offset, bitfield, element = offset + step * btf.sizeof(type_id) * 8, 0, True
        return _Spot(offset, type_id, bitfield, element)

    def _field(self, relo: CoreRelo, local: BtfType, access: list[int]) -> Resolved:
        path, here = self._walk_local(relo, local.id, access)
        spots = [s for c in self._candidates(local) if (s := self._walk_target(c, path)) is not None]
        if relo.kind == FIELD_EXISTS:
            return Resolved(int(bool(spots)), 1)
        if not spots:
            return Resolved(None)
        for other in spots[1:]:
            if other.bit_offset != spots[0].bit_offset:
                raise self._bad(relo, f"field offset ambiguity: {other.bit_offset} != {spots[0].bit_offset}")
        certain = relo.kind in (FIELD_SIGNED, FIELD_RSHIFT_U64) or relo.kind != FIELD_LSHIFT_U64 and not here.bitfield
        original = self._field_value(relo, self._local, here)
        results = [Resolved(self._field_value(relo, self._target, s), original if certain else None) for s in spots]
        agreed = self._agreed(relo, results)
        if relo.kind != FIELD_BYTE_OFFSET or here.bitfield or spots[0].bitfield:
            return agreed
        return self._sized(agreed, here, spots[0])

    def _sized(self, result: Resolved, here: _Spot, there: _Spot) -> Resolved:
        """A load or store may take the kernel's width only where both are pointers or unsigned integers."""
        sizes = self._local.sizeof(here.type_id), self._target.sizeof(there.type_id)
        if sizes[0] == sizes[1]:
            return result
        ours, theirs = self._local.resolve(here.type_id), self._target.resolve(there.type_id)
        unsigned = all(t.kind is Kind.INT and not t.int_signed for t in (ours, theirs))
        return Resolved(result.value, result.original, sizes, unsigned or ours.kind is theirs.kind is Kind.PTR)

    def _field_value(self, relo: CoreRelo, btf: Btf, spot: _Spot) -> int:
        """bpf_core_calc_field_relo(): a bitfield is read by the smallest aligned integer that has all of it."""
        if spot.element and relo.kind not in (FIELD_BYTE_OFFSET, FIELD_BYTE_SIZE):
            raise self._bad(relo, "an array element has no such property")
        field = btf.resolve(spot.type_id)
        size = btf.sizeof(spot.type_id)
        at, bits = spot.bit_offset // 8, spot.bitfield or size * 8
        if spot.bitfield:
            if not size:
                raise self._bad(relo, "a bitfield without a size")
            at = spot.bit_offset // 8 // size * size
            while spot.bit_offset + bits - at * 8 > size * 8:
                if size >= 8:
                    raise self._bad(relo, "a bitfield that no 64-bit read can hold")
                size *= 2
                at = spot.bit_offset // 8 // size * size
        if relo.kind == FIELD_BYTE_OFFSET:
            return at
        if relo.kind == FIELD_BYTE_SIZE:
            return size
        if relo.kind == FIELD_SIGNED:
            return int(field.kind in ENUMS and field.flag or field.kind is Kind.INT and field.int_signed)
        if relo.kind == FIELD_RSHIFT_U64:
            return 64 - bits & 0xFFFFFFFF
        return 64 - (spot.bit_offset + bits - at * 8) & 0xFFFFFFFF


def _poison(insns: list[Insn], index: int) -> None:
    for slot in range(index, index + (2 if insns[index].is_ld_imm64 and index + 1 < len(insns) else 1)):
        insns[slot] = Insn(BPF_JMP | BPF_CALL, 0, 0, 0, POISON_IMM)


def is_poison(insn: Insn) -> bool:
    """True for what bpf_core_poison_insn() leaves."""
    return insn.code == BPF_JMP | BPF_CALL and not insn.src and insn.imm == POISON_IMM


def patch(insns: list[Insn], index: int, result: Resolved) -> str | None:
    """bpf_core_patch_insn(): write the value where the instruction's class keeps it, or poison the instruction.

    Returns what is wrong with the instruction, None where all is well.
    """
    insn, value, expected = insns[index], result.value, result.original
    if value is None:
        _poison(insns, index)
        return None
    if insn.cls in (BPF_ALU, BPF_ALU64) and not insn.code & 8:
        if expected is not None and s32(expected) != insn.imm:
            return f"unexpected insn value: got {insn.imm}, exp {expected} -> {value}"
        insn.imm = s32(value)
        return None
    if insn.cls in (BPF_LDX, BPF_ST, BPF_STX):
        return _patch_access(insns, index, result, value)
    if insn.is_ld_imm64 and index + 1 < len(insns) and not insn.src:
        got = insn.imm & 0xFFFFFFFF | (insns[index + 1].imm & 0xFFFFFFFF) << 32
        if expected is not None and expected & 0xFFFF_FFFF_FFFF_FFFF != got:
            return f"unexpected insn value: got {got}, exp {expected} -> {value}"
        insn.imm, insns[index + 1].imm = s32(value), s32(value >> 32)
        return None
    return f"opcode 0x{insn.code:02x} cannot be relocated"


def _patch_access(insns: list[Insn], index: int, result: Resolved, value: int) -> str | None:
    insn = insns[index]
    if result.original is not None and insn.off != result.original:
        return f"unexpected insn offset: got {insn.off}, exp {result.original} -> {value}"
    if value > 0x7FFF:
        return f"offset {value} is too big for the instruction"
    if not result.fits:
        _poison(insns, index)
        return None
    insn.off = value
    if result.sizes is not None:
        ours, theirs = result.sizes
        if _SIZE_CODES.get(ours) != insn.code & _SIZE_MASK or theirs not in _SIZE_CODES:
            return f"an access of {ours} bytes cannot become one of {theirs}"
        insn.code = insn.code & ~_SIZE_MASK | _SIZE_CODES[theirs]
    return None
