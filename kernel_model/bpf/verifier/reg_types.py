"""Arguments that are kernel objects: is the register a pointer to one of that type.

Mirrors check_reg_type() of ARG_PTR_TO_BTF_ID and btf_struct_ids_match() without strictness (kernel/bpf/verifier.c,
6.18), and btf_get_ptr_to_btf_id() (kernel/bpf/btf.c). Left out: types of modules, objects of the program's own BTF.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.btfview import BtfView
from kernel_model.bpf.verifier.regs import Reg
from kernel_model.types import BtfType, Kind

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

_BTF_TYPES = (R.PTR_TO_BTF_ID, R.PTR_TO_BTF_ID | R.PTR_TRUSTED, R.PTR_TO_BTF_ID | R.MEM_RCU)  # btf_ptr_types


def check(env: Env, regno: int, reg: Reg, type_id: int, maybe_null: bool = False) -> None:
    """`reg` points to the vmlinux type `type_id`; it may be NULL if `maybe_null`."""
    assert env.vmlinux is not None
    if (reg.type & ~R.PTR_MAYBE_NULL if maybe_null else reg.type) not in _BTF_TYPES:
        expected = ", ".join(map(R.type_str, _BTF_TYPES))
        env.access(f"R{regno} type={R.type_str(reg.type)} expected={expected}")
    given = reg.btf.resolve(reg.btf_id)
    if reg.btf is not env.vmlinux or not _is_or_begins_with(reg.btf, given, reg.off, type_id):
        wanted = env.vmlinux.name(type_id)
        env.access(f"R{regno} is of type {given.name} but {wanted} is expected")


def _is_or_begins_with(btf: BtfView, record: BtfType, off: int, type_id: int) -> bool:
    """At `off` of `record` lies such an object, maybe as the member of a member."""
    while record.kind is Kind.STRUCT:
        if record.id == type_id and not off:
            return True
        for member in record.members:
            start = member.bit_offset // 8
            if start <= off < start + btf.size(member.type_id):
                record, off = btf.resolve(member.type_id), off - start
                break
        else:
            return False
    return False


def kernel_type(env: Env, i: int, btf: BtfView, type_id: int) -> int:
    """btf_get_ptr_to_btf_id(): the vmlinux type that argument `i`, a pointer in the program's BTF, names."""
    target = btf.pointee(type_id)
    assert env.vmlinux is not None
    if target is None or not target.id:
        env.inval(f"arg#{i} reference type('UNKNOWN ') candidate matching error: -22")
    named = f"arg#{i} reference type('{target.kind.name} {target.name}')"
    found = env.vmlinux.find(re.sub(r"___.*", "", target.name), target.kind)
    if found is None:
        env.fail(errno.ENOENT, f"{named} has no matches")
    return found.id
