"""Memory accesses through every kind of pointer.

Mirrors check_mem_access(), check_mem_region_access(), check_atomic(), check_helper_mem_access(), check_mem_size_reg()
(kernel/bpf/verifier.c, 6.18). Kernel structures are in btf_access.py. Left out: packets, sockets, special fields of map
values: such accesses are refused with a text that says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch import bpf_isa as isa
from arch.bpf_isa import Insn
from kernel_model.bpf.program import BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, ProgType
from kernel_model.bpf.verifier import bounds, btf_access, precision, stack, tracing
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.regs import Reg

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

MAX_VAR_OFF = 1 << 29
U16_MAX = 0xFFFF
_RMW = {isa.BPF_ADD, isa.BPF_AND, isa.BPF_OR, isa.BPF_XOR}


def _region(env: Env, regno: int, off: int, size: int, limit: int, zero_ok: bool = False) -> None:
    """check_mem_region_access(): every offset that the register may have stays inside [0, limit)."""
    reg = env.regs[regno]
    if reg.smin < 0 and (reg.smin == R.S64_MIN or off + reg.off + reg.smin < 0 or off + reg.off + reg.smin > 1 << 31):
        env.access(
            f"R{regno} min value is negative, either use unsigned index or do a if (index >=0) check."
        )
    _inside(env, regno, reg, reg.smin + reg.off + off, size, limit, zero_ok, "min")
    if reg.umax >= MAX_VAR_OFF:
        env.access(f"R{regno} unbounded memory access, make sure to bounds check any such access")
    _inside(env, regno, reg, reg.umax + reg.off + off, size, limit, zero_ok, "max")


def _inside(env: Env, regno: int, reg: Reg, at: int, size: int, limit: int, zero_ok: bool, which: str) -> None:
    if at >= 0 and (size > 0 or zero_ok and size == 0) and at + size <= limit:
        return
    if reg.base == R.PTR_TO_MAP_VALUE:
        env.verbose(f"invalid access to map value, value_size={limit} off={at} size={size}\n")
    else:
        env.verbose(f"invalid access to memory, mem_size={limit} off={at} size={size}\n")
    env.access(f"R{regno} {which} value is outside of the allowed memory range")


def _map_value(env: Env, regno: int, off: int, size: int, write: bool, dst: int | None) -> None:
    reg = env.regs[regno]
    found = reg.map
    if found.map_flags & BPF_F_RDONLY_PROG and write:
        env.access(f"write into map forbidden, value_size={found.value_size} off={reg.off + off} size={size}")
    if found.map_flags & BPF_F_WRONLY_PROG and not write:
        env.access(f"read from map forbidden, value_size={found.value_size} off={reg.off + off} size={size}")
    _region(env, regno, off, size, found.value_size)
    if write or dst is None:
        return
    direct = getattr(found, "direct_read", None)
    if direct is not None and not reg.var_off.mask and size <= 8 and found.map_flags & BPF_F_RDONLY_PROG:
        data = direct(reg.off + off + reg.var_off.value, size)
        if data is not None:
            env.regs[dst].mark_scalar(int.from_bytes(data, "little"))
            return
    env.regs[dst].mark_unknown()


def _ctx(env: Env, regno: int, off: int, size: int, write: bool, dst: int | None) -> None:
    reg = env.regs[regno]
    if env.prog.type not in (ProgType.SYSCALL, ProgType.RAW_TRACEPOINT, ProgType.TRACING):
        env.not_modelled(f"context access of program type {env.prog.type.name}")
    if reg.off:
        env.access(f"dereference of modified ctx ptr R{regno} off={reg.off} disallowed")
    if reg.var_off.mask:
        env.access(f"variable ctx access var_off={reg.var_off} disallowed")
    at = off + reg.var_off.value
    if env.prog.type is not ProgType.SYSCALL:
        if not tracing.context(env, at, size, write, dst):
            env.access(f"invalid bpf_context access off={off} size={size}")
        return
    if at < 0 or at + size > U16_MAX or at % size:
        env.access(f"invalid bpf_context access off={off} size={size}")
    if not write and dst is not None:
        env.regs[dst].mark_unknown()


def access(
    env: Env, regno: int, off: int, size: int, write: bool, value: int | None, sign_extend: bool = False
) -> None:
    """check_mem_access(): one load into, or store from, register `value` (None: no register) through `regno`."""
    reg = env.regs[regno]
    dst = None if write else value
    if reg.type == R.PTR_TO_MAP_VALUE:
        _map_value(env, regno, off, size, write, dst)
    elif reg.base == R.PTR_TO_MEM and not reg.maybe_null:
        if write and reg.type & R.MEM_RDONLY:
            env.access(f"R{regno} cannot write into {R.type_str(reg.type)}")
        if not reg.type & R.PTR_UNTRUSTED:  # else a fault of the load is caught: any address will do
            _region(env, regno, off, size, reg.mem_size)
        if dst is not None:
            env.regs[dst].mark_unknown()
    elif reg.type == R.PTR_TO_CTX:
        _ctx(env, regno, off, size, write, dst)
    elif reg.type == R.PTR_TO_STACK:
        if write:
            stack.write(env, regno, off, size, value)
        elif value is not None:
            stack.read(env, regno, off, size, value)
        else:
            stack.helper_access(env, regno, size, False)
    elif reg.type == R.PTR_TO_ARENA:
        if dst is not None:
            env.regs[dst].mark_unknown()
    elif reg.base == R.PTR_TO_BTF_ID and not reg.maybe_null:
        btf_access.access(env, regno, off, size, write, dst)
    elif reg.is_pkt:
        env.not_modelled(f"R{regno}: access through {R.type_str(reg.type)}")
    else:
        env.access(f"R{regno} invalid mem access '{R.type_str(reg.type)}'")
    if dst is not None and size < 8 and env.regs[dst].type == R.SCALAR_VALUE:
        target = env.regs[dst]
        if sign_extend:
            target.id = 0
            bounds.coerce_to_size_sx(target, size)
        else:
            bounds.coerce_to_size(target, size)


def _remember(env: Env, kind: int, load: bool = False) -> None:
    """save_aux_ptr_type(): one instruction is rewritten for one kind of pointer only."""
    aux = env.cur_aux
    known, pointees = aux.ptr_type, (R.PTR_TO_MEM, R.PTR_TO_BTF_ID)
    if not known or known == kind:
        aux.ptr_type = kind
    elif load and known & R.BASE_MASK in pointees and kind & R.BASE_MASK in pointees:
        # trusted on one path, not on another: the load is a probing one wherever one of them is
        bases = {known & R.BASE_MASK, kind & R.BASE_MASK}
        aux.ptr_type = (known | kind) & (R.PTR_UNTRUSTED | R.MEM_RDONLY)
        aux.ptr_type |= R.PTR_TO_MEM if R.PTR_TO_MEM in bases else R.PTR_TO_BTF_ID
        if len(bases) == 2 and R.PTR_TO_BTF_ID in (known, kind):
            aux.ptr_type |= R.PTR_UNTRUSTED | R.MEM_RDONLY
    elif {known & R.BASE_MASK, kind & R.BASE_MASK} & {R.PTR_TO_CTX, R.PTR_TO_ARENA, R.PTR_TO_BTF_ID}:
        env.inval("same insn cannot be used with different pointers")


def check_load(env: Env) -> None:
    """BPF_LDX."""
    insn = env.insn
    if insn.mode not in (isa.BPF_MEM, isa.BPF_MEMSX) or insn.imm:
        env.inval("BPF_LDX uses reserved fields")
    src = env.reg_read(insn.src)
    env.reg_write(insn.dst, mark=False)
    kind = src.type
    access(env, insn.src, insn.off, isa.SIZE_BYTES[insn.size], False, insn.dst, insn.mode == isa.BPF_MEMSX)
    _remember(env, kind, True)


def check_store(env: Env) -> None:
    """BPF_STX and BPF_ST of mode MEM."""
    insn = env.insn
    register = insn.cls == isa.BPF_STX
    if insn.mode != isa.BPF_MEM or (register and insn.imm) or (not register and insn.src):
        env.inval(f"{'BPF_STX' if register else 'BPF_ST'} uses reserved fields")
    if register:
        env.reg_read(insn.src)
    kind = env.reg_read(insn.dst).type
    access(env, insn.dst, insn.off, isa.SIZE_BYTES[insn.size], True, insn.src if register else None)
    _remember(env, kind)


def check_atomic(env: Env) -> None:
    """BPF_STX of mode ATOMIC."""
    insn = env.insn
    size = isa.SIZE_BYTES[insn.size]
    if insn.imm == isa.BPF_LOAD_ACQ:
        src = env.reg_read(insn.src)
        env.reg_write(insn.dst, mark=False)
        kind = _atomic_target(env, insn.src, src)
        access(env, insn.src, insn.off, size, False, insn.dst)
    elif insn.imm == isa.BPF_STORE_REL:
        env.reg_read(insn.src)
        kind = _atomic_target(env, insn.dst, env.reg_read(insn.dst))
        access(env, insn.dst, insn.off, size, True, insn.src)
    else:
        kind = _read_modify_write(env, insn, size)
    _remember(env, kind)


def _atomic_target(env: Env, regno: int, reg: Reg) -> int:
    if reg.base in (R.PTR_TO_CTX, R.PTR_TO_PACKET, R.PTR_TO_PACKET_META):
        env.access(f"BPF_ATOMIC stores into R{regno} {R.type_str(reg.type)} is not allowed")
    return reg.type


def _read_modify_write(env: Env, insn: Insn, size: int) -> int:
    fetch = bool(insn.imm & isa.BPF_FETCH)
    exchange = insn.imm in (isa.BPF_XCHG, isa.BPF_CMPXCHG)
    if not exchange and insn.imm & ~isa.BPF_FETCH not in _RMW:
        env.inval(f"BPF_ATOMIC uses invalid atomic opcode {insn.imm:02x}")
    if size not in (4, 8):
        env.inval("invalid atomic operand size")
    env.reg_read(insn.src)
    dst = env.reg_read(insn.dst)
    if insn.imm == isa.BPF_CMPXCHG:
        env.reg_read(isa.R0)
    kind = _atomic_target(env, insn.dst, dst)
    loaded = isa.R0 if insn.imm == isa.BPF_CMPXCHG else insn.src
    if kind == R.PTR_TO_STACK:
        stack.helper_access(env, insn.dst, 0, False)
        if dst.var_off.mask:
            env.not_modelled(f"R{insn.dst}: atomic access to the stack at a variable offset")
        at = stack.offset(dst, insn.off)
        frame = stack.check_bounds(env, insn.dst, dst, at, size, True)
        env.liveness.mark_read(frame.frameno, env.insn_idx, 1 << (-at - 1) // 8)
        access(env, insn.dst, insn.off, size, True, None)
    else:
        access(env, insn.dst, insn.off, size, False, None)
        access(env, insn.dst, insn.off, size, True, None)
    if fetch:
        target = env.reg_write(loaded)
        if size < 8:
            bounds.coerce_to_size(target, size)
    return kind


def check_helper_access(
    env: Env, regno: int, size: int, write: bool, zero_ok: bool = False, raw: bool = False
) -> None:
    """check_helper_mem_access(): a function touches `size` bytes behind register `regno`; `raw`: it writes them all."""
    reg = env.regs[regno]
    if reg.type == R.PTR_TO_STACK:
        stack.helper_access(env, regno, size, write, raw)
    elif reg.type == R.PTR_TO_MAP_VALUE:
        if write and reg.map.map_flags & BPF_F_RDONLY_PROG:
            env.access(f"write into map forbidden, value_size={reg.map.value_size} off={reg.off} size={size}")
        _region(env, regno, 0, size, reg.map.value_size, zero_ok)
    elif reg.base == R.PTR_TO_MEM and not reg.maybe_null:
        if write and reg.type & R.MEM_RDONLY:
            env.access(f"R{regno} cannot write into {R.type_str(reg.type)}")
        _region(env, regno, 0, size, reg.mem_size, zero_ok)
    elif reg.base == R.PTR_TO_BTF_ID and not reg.maybe_null:
        btf_access.access(env, regno, 0, size, write, None)
    elif reg.is_null() and zero_ok and size == 0:
        return
    else:
        env.access(f"R{regno} type={R.type_str(reg.type)} expected=fp")


def check_mem_size(
    env: Env, mem_regno: int, size_regno: int, write: bool = False, zero_ok: bool = True, raw: bool = False
) -> None:
    """check_mem_size_reg(): memory behind one register, its length in another."""
    size = env.regs[size_regno]
    if size.type != R.SCALAR_VALUE:
        env.access(f"R{size_regno} type={R.type_str(size.type)} expected=scalar")
    if size.smin < 0:
        env.access(f"R{size_regno} min value is negative, either use unsigned or 'var &= const'")
    if size.umin == 0 and not zero_ok:
        env.access(f"R{size_regno} invalid zero-sized read: u64=[{size.umin},{size.umax}]")
    if size.umax >= MAX_VAR_OFF:
        env.access(
            f"R{size_regno} unbounded memory access, use 'var &= const' or 'if (var < const)'"
        )
    check_helper_access(env, mem_regno, size.umax, write, zero_ok, raw)
    precision.mark(env, size_regno)
