"""Loads through pointers to kernel structures: which field, of which type, and how far it may be trusted.

Mirrors check_ptr_to_btf_access(), type_is_rcu() and kin (kernel/bpf/verifier.c), btf_struct_access(), btf_struct_walk()
(kernel/bpf/btf.c), of 6.18. Left out: stores, MEM_ALLOC objects, per-CPU and user pointers (this BTF has no such tags).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_model.bpf.verifier import refs
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.btfview import BtfView
from kernel_model.bpf.verifier.regs import Reg
from kernel_model.types import BtfType, Kind

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env
    from kernel_model.types.btf import Member

_RECORDS = (Kind.STRUCT, Kind.UNION)
_TRUST = R.MEM_ALLOC | R.PTR_TRUSTED | R.NON_OWN_REF | R.MEM_RCU

_Fields = dict[str, tuple[str, ...]]

# BTF_TYPE_SAFE_*(): fields that keep their parent's protection
_SAFE_RCU: _Fields = {
    "task_struct": ("cpus_ptr", "cgroups", "real_parent", "group_leader"),
    "cgroup": ("kn",),
    "css_set": ("dfl_cgrp",),
    "cgroup_subsys_state": ("cgroup",),
}
_SAFE_RCU_OR_NULL: _Fields = {"mm_struct": ("exe_file",), "sk_buff": ("sk",), "request_sock": ("sk",)}
_SAFE_TRUSTED: _Fields = {
    "bpf_iter_meta": ("seq",), "bpf_iter__task": ("meta", "task"), "linux_binprm": ("file",), "file": ("f_inode",),
}  # fmt: skip
_SAFE_TRUSTED_OR_NULL: _Fields = {"socket": ("sk",), "dentry": ("d_inode",)}
# 4cbee026db54: the snapshot holds references to these two
_SNAPSHOT_TRUSTED_OR_NULL: _Fields = {"vm_area_struct": ("vm_mm", "vm_file")}


class _Walk:
    """btf_struct_access(): the field at an offset. `kind` is the register type of what is loaded."""

    def __init__(self, env: Env, btf: BtfView) -> None:
        self.env = env
        self.btf = btf
        self.flags = 0
        self.kind = R.SCALAR_VALUE
        self.target = 0  # BTF id of what the pointer points to
        self.field = ""

    def run(self, record: BtfType, off: int, size: int) -> None:
        """Walk from `record`; rejects where the access hits no field, or part of one."""
        nested: tuple[BtfType, int] | None = (record, off)
        while nested is not None:
            nested = self._step(*nested, size)

    def _step(self, record: BtfType, off: int, size: int) -> tuple[BtfType, int] | None:
        env = self.env
        if record.kind not in _RECORDS:
            env.inval(f"Type '{record.name or '(anon)'}' is not a struct")
        if record.kind is Kind.UNION and len(record.members) != 1:
            self.flags |= R.PTR_UNTRUSTED
        if off + size > record.size:
            return self._flexible_array(record, off, size)
        for member in record.members:
            start = member.bit_offset // 8
            if off + size <= start:
                break
            if member.bitfield_size:
                end = (member.bit_offset + member.bitfield_size + 7) // 8
                if off <= start and end <= off + size:
                    return None
                continue
            if off < start:
                break
            length = self.btf.size(member.type_id)
            if off < start + length:
                return self._member(record, member, start, length, off, size)
        env.inval(f"struct {record.name or '(anon)'} doesn't have field at offset {off}")

    def _flexible_array(self, record: BtfType, off: int, size: int) -> tuple[BtfType, int] | None:
        """The last member may be an array without a length."""
        if record.members:
            last = record.members[-1]
            array, start = self.btf.resolve(last.type_id), last.bit_offset // 8
            if array.kind is Kind.ARRAY and not array.array[2] and off >= start:
                element = self.btf.resolve(array.array[0])
                if element.kind is Kind.INT:
                    return None
                if element.kind in _RECORDS and element.size:
                    return element, (off - start) % element.size
        self.env.access(f"access beyond struct {record.name or '(anon)'} at off {off} size {size}")

    def _member(
        self, record: BtfType, member: Member, start: int, length: int, off: int, size: int
    ) -> tuple[BtfType, int] | None:
        """The access begins in this member: go into it, or end here."""
        kind = self.btf.resolve(member.type_id)
        end = start + length
        if kind.kind is Kind.ARRAY:
            while kind.kind is Kind.ARRAY:
                kind = self.btf.resolve(kind.array[0])
            width = self.btf.size(kind.id)
            if width:
                start += (off - start) // width * width
                length = width
        if kind.kind in _RECORDS:
            return kind, off - start
        where = f"in struct {record.name or '(anon)'} with off {off} size {size}"
        if kind.kind is Kind.PTR:
            if length != size or off != start:
                self.env.access(f"cannot access ptr member {member.name} with moff {start} {where}")
            self._pointer(member.name, kind)
        elif off + size > end and not self.flags & R.PTR_UNTRUSTED:  # the kernel minds less behind a union
            self.env.access(f"access beyond the end of member {member.name} (mend:{end}) {where}")
        return None

    def _pointer(self, name: str, pointer: BtfType) -> None:
        tags: list[str] = []
        tag = self.btf.type(pointer.type_id) if pointer.type_id else None
        while tag is not None and tag.kind is Kind.TYPE_TAG:
            tags.append(tag.name)
            tag = self.btf.type(tag.type_id) if tag.type_id else None
        target = self.btf.resolve(pointer.type_id) if pointer.type_id else None
        if target is None or target.kind not in _RECORDS:
            self.kind, self.flags = R.PTR_TO_MEM, R.MEM_RDONLY | R.PTR_UNTRUSTED
            return
        self.kind, self.target, self.field = R.PTR_TO_BTF_ID, target.id, name
        if "rcu" in tags:
            self.flags |= R.MEM_RCU
        if "user" in tags or "percpu" in tags:
            self.env.not_modelled(f"field {name}: a pointer to user or per-CPU memory")


def access(env: Env, regno: int, off: int, size: int, write: bool, dst: int | None) -> None:
    """check_ptr_to_btf_access(): `size` bytes at `off` behind register `regno`, loaded into register `dst`."""
    reg = env.regs[regno]
    btf: BtfView = reg.btf
    record = btf.type(reg.btf_id)
    if "GPL" not in env.prog.license:
        env.inval(f"Cannot access kernel 'struct {record.name}' from non-GPL compatible program")
    at = off + reg.off
    if at < 0:
        env.access(f"R{regno} is ptr_{record.name} invalid negative access: off={at}")
    if reg.var_off.mask or reg.var_off.value:
        env.access(f"R{regno} is ptr_{record.name} invalid variable offset: off={at}, var_off={reg.var_off}")
    if write:
        env.access("only read is supported")
    walk = _Walk(env, btf)
    walk.run(btf.resolve(reg.btf_id), at, size)
    kind, flags = walk.kind, walk.flags
    if kind == R.PTR_TO_BTF_ID:
        flags = _inherit(env, reg, record.name, walk)
    if dst is None:
        return
    target = env.regs[dst]
    if kind == R.SCALAR_VALUE:
        target.mark_unknown()
        return
    target.mark_known_zero(kind | flags)
    if kind == R.PTR_TO_BTF_ID:
        target.btf, target.btf_id = btf, walk.target
        if flags & R.PTR_MAYBE_NULL:
            target.id = env.new_id()


def _inherit(env: Env, reg: Reg, parent: str, walk: _Walk) -> int:
    """Flags of a pointer that was loaded through `reg`."""
    def listed(table: _Fields) -> bool:
        return walk.field in table.get(parent, ())

    if reg.type & R.PTR_UNTRUSTED:
        return R.PTR_UNTRUSTED
    if not refs.is_trusted(reg) and not refs.is_rcu(reg):
        return walk.flags & ~_TRUST  # a plain pointer, of old: so are those found by walking it
    if listed(_SAFE_TRUSTED):
        return walk.flags | R.PTR_TRUSTED
    if listed(_SAFE_TRUSTED_OR_NULL) or env.profile.vma_trusted_fields and listed(_SNAPSHOT_TRUSTED_OR_NULL):
        return walk.flags | R.PTR_TRUSTED | R.PTR_MAYBE_NULL
    if not env.in_rcu_cs or reg.maybe_null:
        return R.PTR_UNTRUSTED
    if listed(_SAFE_RCU):
        return walk.flags | R.MEM_RCU
    if walk.flags & R.MEM_RCU or listed(_SAFE_RCU_OR_NULL):
        trusted = walk.flags & ~R.PTR_UNTRUSTED if listed(_SAFE_RCU_OR_NULL) else walk.flags
        return trusted | R.MEM_RCU | R.PTR_MAYBE_NULL
    return walk.flags & ~_TRUST


__all__ = ["access"]
