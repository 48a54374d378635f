"""Programs as `bpftool prog dump` shows them: rewritten instructions, or machine code."""

from __future__ import annotations

from capstone import CS_ARCH_ARM64, CS_ARCH_X86, CS_MODE_64, CS_MODE_ARM, Cs

from emu.kernel import Kernel
from kernel_model.bpf.prog import Prog, helper_symbol


def jited(prog: Prog, kernel: Kernel) -> list[str]:
    """Machine code of every function, source lines between, call targets as symbols."""
    decoder = Cs(CS_ARCH_X86, CS_MODE_64) if kernel.arch.name == "x86_64" else Cs(CS_ARCH_ARM64, CS_MODE_ARM)
    out = []
    for func, (base, image) in zip(prog.xlated.funcs, prog.images, strict=True):
        out.append(f"{kernel.kallsyms.symbol(base).split('+')[0]}:")
        lines = {image.insn_offsets[i.insn_off]: i for i in func.line_info if i.insn_off < len(image.insn_offsets)}
        for insn in decoder.disasm(image.code, base):
            info = lines.get(insn.address - base)
            if info is not None:
                out.append(f"; {info.line.lstrip()}")
            text = f"{insn.mnemonic}\t{insn.op_str}".rstrip()
            if insn.mnemonic in ("call", "bl", "jmp", "b") and insn.op_str.lstrip("#").startswith("0x"):
                text += f" <{kernel.kallsyms.symbol(int(insn.op_str.lstrip('#'), 16))}>"
            out.append(f"{insn.address - base:4x}:\t{text}")
    return out


def xlated(prog: Prog) -> list[str]:
    """Instructions as the engines run them."""
    from kernel_model.bpf.disasm import insn_text

    names = prog.xlated.kfunc_names

    def call_name(imm: int, kfunc: bool) -> str:
        return names.get(imm, f"kfunc#{imm}") if kfunc else helper_symbol(imm)

    out, at = [], 0
    for func in prog.xlated.funcs:
        lines = {info.insn_off: info for info in func.line_info}
        skip = False
        for index, insn in enumerate(func.insns):
            if skip:
                skip = False
            else:
                if index in lines:
                    out.append(f"; {lines[index].line.lstrip()}")
                out.append(f"{at:4}: {insn_text(func.insns, index, call_name)}")
                skip = insn.is_ld_imm64
            at += 1
    return out
