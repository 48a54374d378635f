"""When a type of the program and a type of the kernel are the same for CO-RE.

Mirrors bpf_core_fields_are_compat() and bpf_core_types_match() of tools/lib/bpf/relo_core.c.
"""

from __future__ import annotations

from kernel_model.types import Btf, BtfType, Kind

ENUMS = frozenset({Kind.ENUM, Kind.ENUM64})
_COMPOSITE = frozenset({Kind.STRUCT, Kind.UNION})
_MAX_DEPTH = 32


def essential_name(name: str) -> str:
    """A type's name without its `___flavor`: exactly three underscores between other characters."""
    for at in range(len(name) - 5, -1, -1):
        if name[at + 1 : at + 4] == "___" and name[at] != "_" and name[at + 4] != "_":
            return name[: at + 1]
    return name


def _same_kind(ours: BtfType, theirs: BtfType) -> bool:
    return ours.kind is theirs.kind or ours.kind in ENUMS and theirs.kind in ENUMS


def fields_are_compat(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """May a member of the one type be read as the other? Any struct for any struct, any integer for any integer."""
    for _ in range(_MAX_DEPTH):
        ours, theirs = local.resolve(local_id), target.resolve(target_id)
        if ours.kind in _COMPOSITE and theirs.kind in _COMPOSITE:
            return True
        if not _same_kind(ours, theirs):
            return False
        if ours.kind in ENUMS or ours.kind is Kind.FWD:
            names = essential_name(ours.name), essential_name(theirs.name)
            return not all(names) or names[0] == names[1]
        if ours.kind is not Kind.ARRAY:
            return ours.kind in (Kind.PTR, Kind.FLOAT, Kind.INT)
        local_id, target_id = ours.array[0], theirs.array[0]
    return False


def types_match(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """bpf_core_type_matches(): every member of ours is in theirs, with a matching type; behind pointers only names."""
    return _match(local, local_id, target, target_id, False, {}, 0)


def _match(local: Btf, local_id: int, target: Btf, target_id: int, behind: bool,
           known: dict[tuple[int, int, bool], bool], depth: int) -> bool:
    key = (local_id, target_id, behind)
    if key not in known:
        known[key] = True  # a type that comes back to itself matches if the rest does
        known[key] = depth < _MAX_DEPTH and _match_types(local, local_id, target, target_id, behind, known, depth + 1)
    return known[key]


def _match_types(local: Btf, local_id: int, target: Btf, target_id: int, behind: bool,
                 known: dict[tuple[int, int, bool], bool], depth: int) -> bool:
    ours, theirs = local.resolve(local_id), target.resolve(target_id)
    if essential_name(ours.name) != essential_name(theirs.name):
        return False
    if ours.kind is Kind.FWD and behind and theirs.kind in _COMPOSITE:
        return ours.flag == (theirs.kind is Kind.UNION)
    if ours.kind in _COMPOSITE and behind and theirs.kind is Kind.FWD:
        return theirs.flag == (ours.kind is Kind.UNION)
    if not _same_kind(ours, theirs):
        return False
    if ours.kind is Kind.FWD:
        return ours.flag == theirs.flag
    if ours.kind in ENUMS:
        names = {essential_name(name) for name, _ in theirs.values}
        return ours.size == theirs.size and all(essential_name(name) in names for name, _ in ours.values)
    if ours.kind in _COMPOSITE:
        return behind or _match_members(local, ours, target, theirs, known, depth)
    if ours.kind is Kind.INT:
        return ours.size == theirs.size and ours.int_signed == theirs.int_signed
    if ours.kind is Kind.PTR:
        return _match(local, ours.type_id, target, theirs.type_id, True, known, depth)
    if ours.kind is Kind.ARRAY:
        same = ours.array[2] == theirs.array[2]
        return same and _match(local, ours.array[0], target, theirs.array[0], behind, known, depth)
    if ours.kind is Kind.FUNC_PROTO:
        pairs = [(ours.type_id, theirs.type_id)]
        pairs += [(a[1], b[1]) for a, b in zip(ours.params, theirs.params, strict=False)]
        return ours.vlen == theirs.vlen and all(_match(local, a, target, b, behind, known, depth) for a, b in pairs)
    return ours.kind is Kind.UNKN


def _match_members(local: Btf, ours: BtfType, target: Btf, theirs: BtfType,
                   known: dict[tuple[int, int, bool], bool], depth: int) -> bool:
    by_name: dict[str, list[int]] = {}
    for member in theirs.members:
        by_name.setdefault(essential_name(member.name), []).append(member.type_id)
    return ours.vlen <= theirs.vlen and all(
        any(_match(local, m.type_id, target, other, False, known, depth)
            for other in by_name.get(essential_name(m.name), ()))
        for m in ours.members
    )
