"""Pieces of BPF programs, and objects of which one program is loaded."""

from pathlib import Path

from arch import bpf_isa as bpf
from arch.bpf_isa import Insn
from emu import Kernel
from emu.loaded import LoadedObject
from kernel_model.bpf.kfunc_ids import absent_kfuncs
from kernel_model.bpf.object import load_object


def mov64(dst: int, value: int) -> list[Insn]:
    """BPF_LD_IMM64(): the pair of slots that loads 64 bits."""
    return [Insn(bpf.LD_IMM64, dst, 0, 0, bpf.s32(value)), Insn(0, imm=bpf.s32(value >> 32))]


def load_one(kernel: Kernel, path: Path, name: str, engine: str) -> LoadedObject:
    """An object with its program `name` only, also where SEC("?...") excludes it."""
    obj = load_object(path, kernel.types.btf, absent=absent_kfuncs(kernel.profile))
    maps = kernel.create_maps(obj)
    spec = next(p for p in obj.progs if p.name == name)
    return LoadedObject(kernel, obj, maps, {name: kernel.load_prog(spec, obj, maps, engine)})
