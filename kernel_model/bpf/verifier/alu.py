"""Arithmetic instructions: what becomes of registers, scalars and pointers.

Mirrors check_alu_op(), adjust_reg_min_max_vals(), adjust_ptr_min_max_vals() (kernel/bpf/verifier.c, 6.18) for a
privileged loader. Left out: sanitation against speculation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch import bpf_isa as isa
from arch.bpf_isa import Insn
from kernel_model.bpf.verifier import bounds, precision, scalars, tnum
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.regs import S64_MAX, S64_MIN, U32_MAX, U64_MAX, Reg

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

_NAMES = {
    isa.BPF_ADD: "+=", isa.BPF_SUB: "-=", isa.BPF_MUL: "*=", isa.BPF_DIV: "/=", isa.BPF_OR: "|=", isa.BPF_AND: "&=",
    isa.BPF_LSH: "<<=", isa.BPF_RSH: ">>=", isa.BPF_NEG: "neg", isa.BPF_MOD: "%=", isa.BPF_XOR: "^=",
    isa.BPF_ARSH: "s>>=",
}  # fmt: skip
_CAST_KERN, _CAST_USER = 1, 1 << 16
MAX_VAR_OFF = 1 << 29


def assign_scalar_id(env: Env, src: Reg) -> None:
    """assign_scalar_id_before_mov(): copies of an unknown scalar share an identity."""
    if src.type != R.SCALAR_VALUE or not src.var_off.mask:
        return
    if src.id & R.ADD_CONST:
        src.id = src.off = 0
    if not src.id:
        src.id = env.new_id()


def check(env: Env) -> None:
    """check_alu_op()."""
    insn = env.insn
    if insn.op in (isa.BPF_END, isa.BPF_NEG):
        _unary(env, insn)
    elif insn.op == isa.BPF_MOV:
        _mov(env, insn)
    elif insn.op > isa.BPF_END:
        env.inval(f"invalid BPF_ALU opcode {insn.op:x}")
    else:
        _binary(env, insn)


def _unary(env: Env, insn: Insn) -> None:
    if insn.op == isa.BPF_NEG:
        if insn.is_reg or insn.src or insn.off or insn.imm:
            env.inval("BPF_NEG uses reserved fields")
    elif insn.src or insn.off or insn.imm not in (16, 32, 64) or (insn.cls == isa.BPF_ALU64 and insn.is_reg):
        env.inval("BPF_END uses reserved fields")
    dst = env.reg_read(insn.dst)
    env.reg_write(insn.dst, mark=False)
    if insn.op == isa.BPF_NEG and dst.type == R.SCALAR_VALUE:
        dst.id = dst.off = 0
        scalars.apply(isa.BPF_NEG, dst, dst.copy(), insn.cls == isa.BPF_ALU)
    else:
        dst.mark_unknown()


def _mov(env: Env, insn: Insn) -> None:
    if not insn.is_reg:
        if insn.src or insn.off:
            env.inval("BPF_MOV uses reserved fields")
        dst = env.reg_write(insn.dst)
        dst.mark_scalar(insn.imm if insn.cls == isa.BPF_ALU64 else insn.imm & U32_MAX)
        return
    wide = insn.cls == isa.BPF_ALU64
    if wide and insn.off == isa.BPF_ADDR_SPACE_CAST:
        _cast(env, insn)
        return
    if insn.imm or insn.off not in ((0, 8, 16, 32) if wide else (0, 8, 16)):
        env.inval("BPF_MOV uses reserved fields")
    src = env.reg_read(insn.src)
    dst = env.reg_write(insn.dst, mark=False)
    if src.type != R.SCALAR_VALUE:
        if wide and insn.off == 0:
            dst.assign(src)
        else:
            dst.mark_unknown()
            if not wide:
                bounds.zext_32_to_64(dst)
                bounds.sync(dst)
        return
    if insn.off == 0 and wide:
        assign_scalar_id(env, src)
        dst.assign(src)
        return
    keeps = src.umax < 1 << (insn.off - 1) if insn.off else src.umax <= U32_MAX
    if keeps:
        assign_scalar_id(env, src)
    dst.assign(src)
    if not keeps:
        dst.id = dst.off = 0
    if wide:
        bounds.coerce_to_size_sx(dst, insn.off // 8)
        return
    if insn.off:
        bounds.coerce_subreg_to_size_sx(dst, insn.off // 8)
    bounds.zext_32_to_64(dst)
    bounds.sync(dst)


def _cast(env: Env, insn: Insn) -> None:
    if insn.imm not in (_CAST_KERN, _CAST_USER):
        env.inval("addr_space_cast insn can only convert between address space 1 and 0")
    if env.arena_map is None:
        env.inval("addr_space_cast insn can only be used in a program that has an associated arena")
    env.reg_read(insn.src)
    dst = env.reg_write(insn.dst)
    if insn.imm == _CAST_KERN:
        dst.type = R.PTR_TO_ARENA


def _binary(env: Env, insn: Insn) -> None:
    division = insn.op in (isa.BPF_DIV, isa.BPF_MOD)
    if insn.off not in ((0, 1) if division else (0,)) or (insn.is_reg and insn.imm) or (not insn.is_reg and insn.src):
        env.inval("BPF_ALU uses reserved fields")
    if insn.is_reg:
        env.reg_read(insn.src)
    env.reg_read(insn.dst)
    if division and not insn.is_reg and insn.imm == 0:
        env.inval("div by zero")
    width = 64 if insn.cls == isa.BPF_ALU64 else 32
    if insn.op in (isa.BPF_LSH, isa.BPF_RSH, isa.BPF_ARSH) and not insn.is_reg and not 0 <= insn.imm < width:
        env.inval(f"invalid shift {insn.imm}")
    env.reg_write(insn.dst, mark=False)
    _adjust(env, insn)


def _adjust(env: Env, insn: Insn) -> None:
    """adjust_reg_min_max_vals()."""
    dst = env.regs[insn.dst]
    if insn.is_reg:
        src = env.regs[insn.src]
    else:
        src = Reg(R.SCALAR_VALUE)
        src.mark_scalar(insn.imm)
    if R.PTR_TO_ARENA in (dst.type, src.type):
        if insn.cls == isa.BPF_ALU64:
            env.cur_aux.needs_zext = True
        if dst.type != R.PTR_TO_ARENA:
            dst.mark_unknown()
            dst.type = R.PTR_TO_ARENA
        return
    if dst.type != R.SCALAR_VALUE and src.type != R.SCALAR_VALUE:
        if insn.op == isa.BPF_SUB:
            dst.mark_unknown()
            return
        env.access(f"R{insn.dst} pointer {_NAMES[insn.op]} pointer prohibited")
    if src.type != R.SCALAR_VALUE:
        precision.mark(env, insn.dst)
        _pointer(env, insn, src.copy(), dst.copy(), scalar_first=True)
    elif dst.type != R.SCALAR_VALUE:
        if insn.is_reg:
            precision.mark(env, insn.src)
        _pointer(env, insn, dst.copy(), src.copy(), scalar_first=False)
    else:
        if dst.precise and insn.is_reg:
            precision.mark(env, insn.src)
        _scalar(env, insn, dst, src)


def _scalar(env: Env, insn: Insn, dst: Reg, src: Reg) -> None:
    alu32 = insn.cls == isa.BPF_ALU
    ident, src = dst.id, src.copy()
    off = _link_offset(insn, dst, src, alu32)
    if insn.op in (isa.BPF_DIV, isa.BPF_MOD):
        dst.mark_unknown()
    else:
        if insn.op in (isa.BPF_AND, isa.BPF_OR) and tnum.is_const(src.var_off):
            _fork(env, insn, dst)
        scalars.apply(insn.op, dst, src, alu32)
    dst.off = off or 0
    dst.id = ident | (R.ADD_CONST32 if alu32 else R.ADD_CONST64) if off is not None else 0


def _fork(env: Env, insn: Insn, dst: Reg) -> None:
    """maybe_fork_scalars(): of 0 and -1, what arithmetic shifts of a sign leave, each is looked at by itself.

    Came with v7.0 and, in the form without the error (c845894ebd6f), with 6.18.y.
    """
    whole = (dst.smin, dst.smax) == (-1, 0)
    if not whole and (dst.s32min, dst.s32max) != (-1, 0):
        return
    other = env.push_stack(env.insn_idx, env.insn_idx).frame.regs[insn.dst]
    for reg, value in ((other, 0), (dst, -1)):
        if whole:
            reg.mark_known(value)
        else:
            reg.set_low_value(value)


def _link_offset(insn: Insn, dst: Reg, src: Reg, alu32: bool) -> int | None:
    """By how much `dst` moves away from the scalars that it equalled; None where they are no longer linked."""
    if insn.op not in (isa.BPF_ADD, isa.BPF_SUB) or not dst.id or dst.id & R.ADD_CONST or not src.is_const(alu32):
        return None
    if insn.is_reg and insn.src == insn.dst:
        return None
    if alu32 and dst.umax > R.U32_MAX:
        return None
    value = src.const_value(alu32)
    value = bounds.s32(value) if alu32 else bounds.s64(value)
    if not R.S32_MIN <= value <= R.S32_MAX:
        return None
    if insn.op == isa.BPF_SUB:
        return -value if value != R.S32_MIN else None
    return value


def _sane(env: Env, reg: Reg, kind: int) -> None:
    """check_reg_sane_offset()."""
    known = not reg.var_off.mask
    val = bounds.s64(reg.var_off.value)
    name = R.type_str(kind)
    if known and not -MAX_VAR_OFF < val < MAX_VAR_OFF:
        env.inval(f"math between {name} pointer and {val} is not allowed")
    if not -MAX_VAR_OFF < reg.off < MAX_VAR_OFF and reg.type != R.SCALAR_VALUE:
        env.inval(f"{name} pointer offset {reg.off} is not allowed")
    if reg.smin == S64_MIN:
        env.inval(f"math between {name} pointer and register with unbounded min value is not allowed")
    if not -MAX_VAR_OFF < reg.smin < MAX_VAR_OFF:
        env.inval(f"value {reg.smin} makes {name} pointer be out of bounds")


def _pointer(env: Env, insn: Insn, ptr: Reg, off: Reg, scalar_first: bool) -> None:
    """adjust_ptr_min_max_vals(): `ptr` and `off` are copies of the operands."""
    dst, regno = env.regs[insn.dst], insn.dst
    if insn.cls != isa.BPF_ALU64:
        if insn.op == isa.BPF_SUB:
            dst.mark_unknown()
            return
        env.access(f"R{regno} 32-bit pointer arithmetic prohibited")
    kind = R.type_str(ptr.type)
    if ptr.maybe_null:
        env.access(f"R{regno} pointer arithmetic on {kind} prohibited, null-check it first")
    known = not off.var_off.mask
    step = bounds.s64(off.var_off.value)
    if ptr.base == R.CONST_PTR_TO_MAP and not (known and step == 0 and insn.op == isa.BPF_ADD):
        env.access(f"R{regno} pointer arithmetic on {kind} prohibited")
    if ptr.base in (R.PTR_TO_PACKET_END, R.PTR_TO_FUNC, R.CONST_PTR_TO_DYNPTR):
        env.access(f"R{regno} pointer arithmetic on {kind} prohibited")
    if off.smin > off.smax or off.umin > off.umax:
        dst.mark_unknown()
        return
    _sane(env, off, ptr.type)
    _sane(env, ptr, ptr.type)
    if insn.op in (isa.BPF_AND, isa.BPF_OR, isa.BPF_XOR):
        env.access(f"R{regno} bitwise operator {_NAMES[insn.op]} on pointer prohibited")
    if insn.op not in (isa.BPF_ADD, isa.BPF_SUB):
        env.access(f"R{regno} pointer arithmetic with {_NAMES[insn.op]} operator prohibited")
    subtract = insn.op == isa.BPF_SUB
    if subtract and scalar_first:
        env.access(f"R{regno} tried to subtract pointer from scalar")
    if subtract and ptr.type == R.PTR_TO_STACK:
        env.access(f"R{regno} subtraction from stack pointer prohibited")
    if subtract:
        step = -step
    dst.assign(ptr)
    dst.set_unbounded32()
    if known and -(1 << 31) <= ptr.off + step < 1 << 31:
        dst.off = ptr.off + step
    else:
        _move(dst, ptr, off, subtract)
        if ptr.is_pkt:
            dst.id = env.new_id()
            dst.range = 0
    _sane(env, dst, ptr.type)
    bounds.sync(dst)


def _move(dst: Reg, ptr: Reg, off: Reg, subtract: bool) -> None:
    """A variable distance: ranges add up unless they overflow."""
    if subtract:
        smin, smax = ptr.smin - off.smax, ptr.smax - off.smin
        umin, umax = ptr.umin - off.umax, ptr.umax - off.umin
        dst.var_off = tnum.sub(ptr.var_off, off.var_off)
        exact = umin >= 0
    else:
        smin, smax = ptr.smin + off.smin, ptr.smax + off.smax
        umin, umax = ptr.umin + off.umin, ptr.umax + off.umax
        dst.var_off = tnum.add(ptr.var_off, off.var_off)
        exact = umax <= U64_MAX
    fits = smin >= S64_MIN and smax <= S64_MAX
    dst.smin, dst.smax = (smin, smax) if fits else (S64_MIN, S64_MAX)
    dst.umin, dst.umax = (umin, umax) if exact else (0, U64_MAX)
