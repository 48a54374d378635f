"""Tiny guests for the tests of the vCPUs: assembled by the pinned toolchain, with page tables made by the model."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
from elftools.elf.elffile import ELFFile

import arch as arches
from arch.interface import Prot
from arch.x86_64 import traps as x86_traps
from emu.cpu.arm64 import Cpu as Arm64Cpu
from emu.cpu.x86_64 import Cpu as X86Cpu
from kernel_model.memory import GuestMemory
from kernel_model.mm.access import KernelSpace
from kernel_model.mm.init_mm import mem_init
from kernel_model.mm.pgtable import PageTableTree
from kernel_model.mm.vmalloc import Vmalloc

TARGET = {"x86_64": "x86_64-freestanding-none", "arm64": "aarch64-freestanding-none"}
USER_TEXT, USER_STACK = 0x400000, 0x7FFF0000


def assemble(arch, source, base, tmp):
    (tmp / "t.S").write_text(".text\n" + source + "\n")
    (tmp / "t.ld").write_text(
        f"SECTIONS {{ . = {base:#x}; .text : {{ *(.text*) }} /DISCARD/ : {{ *(.note*) *(.comment) }} }}"
    )
    zig = [sys.executable, "-m", "ziglang"]
    extra = ["-mcpu=generic+lse+pan"] if arch == "arm64" else []
    subprocess.run([*zig, "cc", "-target", TARGET[arch], *extra, "-c", "t.S", "-o", "t.o"], cwd=tmp, check=True)
    emulation = {"x86_64": "elf_x86_64", "arm64": "aarch64elf"}[arch]
    link = [*zig, "ld.lld", "-m", emulation, "-T", "t.ld", "-e", "0", "t.o", "-o", "t.elf"]
    subprocess.run(link, cwd=tmp, check=True)
    with (tmp / "t.elf").open("rb") as stream:
        elf = ELFFile(stream)
        symbols = {s.name: s["st_value"] for s in elf.get_section_by_name(".symtab").iter_symbols() if s.name}
        return elf.get_section_by_name(".text").data(), symbols


@dataclass
class Guest:
    cpu: object
    mm: object
    space: object
    vmalloc: object
    symbols: dict
    stack: int  # top

    def run(self, start="start", *args, count=0):
        self.cpu.enter_kernel(self.symbols[start], self.stack, args)
        self.cpu.run(count)
        return self.cpu.result


@pytest.fixture(scope="module")
def machine(request, tmp_path_factory):
    """make(arch, source): a guest with `source` as kernel text, user text at USER_TEXT where it has a `user` symbol."""

    def make(arch, source):
        layout, pgtable = arches.get(arch).layout, arches.get(arch).pgtable
        memory = GuestMemory(64 << 20, base=layout.phys_base)
        code, symbols = assemble(arch, source, layout.kernel_text, tmp_path_factory.mktemp("asm"))
        mm = mem_init(memory, layout, pgtable, [(layout.kernel_phys, layout.kernel_phys + 0x10000, "text")])
        memory.write(layout.kernel_phys, code)
        mm.map_image(layout.kernel_text, layout.kernel_phys, 0x10000, Prot.READ | Prot.EXEC)
        vmalloc, space = Vmalloc(mm), KernelSpace(mm)
        stack = vmalloc.alloc_thread_stack() + 16384
        cpu = {"x86_64": X86Cpu, "arm64": Arm64Cpu}[arch](0, memory)
        if arch == "x86_64":
            page = vmalloc.vmalloc(12288)
            idt, tss = page + 4096, page + 8192
            space.write(page, x86_traps.gdt(tss))
            space.write_u64(tss + x86_traps.TSS_IST1, vmalloc.alloc_thread_stack() + 8192)
            for vector in range(256):
                name = f"v{vector}"
                if name in symbols:
                    dpl = 3 if vector == 3 else 0
                    space.write(idt + vector * 16, x86_traps.gate(symbols[name], dpl, 1 if vector == 8 else 0))
            cpu.reset(mm.pgd, page, idt, tss, 0, symbols.get("syscall_entry", 0))
            cpu.set_kernel_stack(stack)
            user = PageTableTree(memory, pgtable, mm.pages, owner="user", user=True)
            for i in range(256, 512):
                memory.write_u64(user.root + 8 * i, memory.read_u64(mm.pgd + 8 * i))
        else:
            user = PageTableTree(memory, pgtable, mm.pages, owner="user", user=True)
            cpu.reset(user.root, mm.pgd, symbols["vectors"], 0)
        text = mm.pages.alloc_pages(0, "user text") << 12
        if "user" in symbols:
            at = symbols["user"] - layout.kernel_text
            memory.write(text, code[at : at + 2048])
        user.map_page(USER_TEXT, text, Prot.READ | Prot.EXEC | Prot.USER)
        user.map_page(USER_STACK, mm.pages.alloc_pages(0, "user stack") << 12, Prot.READ | Prot.WRITE | Prot.USER)
        cpu.set_root(user.root)
        return Guest(cpu, mm, space, vmalloc, symbols, stack)

    return make
