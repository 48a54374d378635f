"""A bare guest: the kernel image under one vCPU, with kcalls answered by the test. No emu.kernel, no subsystem."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

import arch as arches
from arch.interface import Prot
from arch.x86_64 import traps as x86_traps
from emu.cpu.arm64 import Cpu as Arm64Cpu
from emu.cpu.x86_64 import Cpu as X86Cpu
from images import build
from kernel_model.memory import GuestMemory
from kernel_model.mm.access import KernelSpace
from kernel_model.mm.init_mm import mem_init
from kernel_model.mm.pgtable import PageTableTree
from kernel_model.mm.vmalloc import VM_SPARSE, VM_USERMAP, Vmalloc
from kernel_model.types import Btf, Types

LAYOUTS = {name: arches.get(name).layout for name in ("x86_64", "arm64")}
JIT_TEXT = {"x86_64": 0xFFFFFFFFC0400000, "arm64": 0xFFFF80007C400000}
USER_PAGE = 0x10000000
KERN_VM_SIZE = (4 << 30) + 0x10000
# address -> through `call` a BPF function that calls it; `load`: one that loads from its first argument
CALLER = {
    "x86_64": lambda target: bytes.fromhex("554889e548b8") + struct.pack("<Q", target) + bytes.fromhex("ffd05dc3"),
    "arm64": lambda target: struct.pack("<6IQ", 0xA9BF7BFD, 0x910003FD, 0x58000090, 0xD63F0200, 0xA8C17BFD, 0xD65F03C0,
                                        target),
}  # fmt: skip
LOADER = {  # push frame; load result from [first argument] at offset `LOAD_AT`; pop frame; return
    "x86_64": bytes.fromhex("554889e5488b075dc3"),
    "arm64": struct.pack("<6I", 0xA9BF7BFD, 0x910003FD, 0xF9400007, 0xAA0703E0, 0xA8C17BFD, 0xD65F03C0),
}
LOAD_AT = {"x86_64": 4, "arm64": 8}
LOADER_TABLE = 64


class Died(Exception):
    """The kernel reached the point where it oopses; args: the kcall's name and arguments."""


@dataclass
class BareGuest:
    arch: str
    cpu: Any
    mm: Any
    space: KernelSpace
    vmalloc: Vmalloc
    types: Types
    symbols: dict[str, int]
    spans: list[tuple[int, int, str]]
    stack: int
    user_page: int = USER_PAGE  # mapped, holds 0x5a
    handlers: dict[str, Callable[..., int | None]] = field(default_factory=dict)
    calls: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def call(self, name: str | int, *args: int) -> int:
        """Call a function of the image by the C convention and run it to its return."""
        target = self.symbols[name] if isinstance(name, str) else name
        self.cpu.enter_kernel(target, self.stack - 8 if self.arch == "x86_64" else self.stack, args)
        self.cpu.push_return(self.stack, self.symbols["guest_call_return"])
        self.cpu.run()
        result: int = self.cpu.result
        return result

    def name_of(self, address: int) -> str:
        """Function that holds an address; BPF text is one function, called bpf_prog."""
        if JIT_TEXT[self.arch] <= address < JIT_TEXT[self.arch] + 4096:
            return "bpf_prog"
        if address == self.symbols["guest_call_return"]:
            return "guest_call_return"
        return next(name for start, end, name in self.spans if start <= address < end)

    def answer(self, name: str, arguments: tuple[int, ...]) -> int:
        self.calls.append((name, arguments))
        if name not in self.handlers:
            raise AssertionError(f"nobody expected kcall {name}{arguments}")
        return (self.handlers[name](*arguments) or 0) & 0xFFFF_FFFF_FFFF_FFFF

    def string(self, va: int) -> str:
        return self.space.read(va, 128).split(b"\0")[0].decode()

    def features(self, **switches: int) -> None:
        view = self.types.view("kernel_features", self.symbols["kernel_features"])
        for name, value in switches.items():
            setattr(view, name, value)

    def caller(self, target: str) -> int:
        """A BPF program that calls a kfunc with its own arguments."""
        return self.write_text(CALLER[self.arch](self.symbols[target]))

    def loader(self, fixup: int, kind: bytes) -> tuple[int, int]:
        """A BPF program that loads from its first argument, and its exception table: the addresses of both."""
        table = LOADER_TABLE - LOAD_AT[self.arch]  # as the entry counts from itself to the load
        code = LOADER[self.arch].ljust(LOADER_TABLE, b"\0") + struct.pack("<iI", -table, fixup) + kind
        start = self.write_text(code)
        return start, start + LOADER_TABLE

    def write_text(self, code: bytes) -> int:
        """Put machine code where BPF programs live; gives its address."""
        self.space.write(JIT_TEXT[self.arch], code.ljust(256, b"\0"))
        self.cpu.engine.flush_code()
        return JIT_TEXT[self.arch]


def _load(arch: str, memory: GuestMemory) -> tuple[Any, dict[str, int], list[tuple[int, int, str]], bytes]:
    layout, pgtable = arches.get(arch).layout, arches.get(arch).pgtable
    with (build.ROOT / f"vmlinux.{arch}").open("rb") as stream:
        elf = ELFFile(stream)
        loads = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_memsz"]]
        end = max(s["p_paddr"] + s["p_memsz"] for s in loads)
        mm = mem_init(memory, layout, pgtable, [(layout.kernel_phys, (end + 4095) & -4096, "image")])
        for segment in loads:
            memory.write(segment["p_paddr"], segment.data())
            prot = Prot.READ | (Prot.WRITE if segment["p_flags"] & 2 else 0)
            prot |= Prot.EXEC if segment["p_flags"] & 1 else Prot(0)
            size = (segment["p_memsz"] + 4095) & -4096
            mm.map_image(segment["p_vaddr"], segment["p_paddr"], size, prot)
        table = list(elf.get_section_by_name(".symtab").iter_symbols())
        symbols = {s.name: s["st_value"] for s in table if s.name}
        spans = [
            (s["st_value"], s["st_value"] + s["st_size"], s.name) for s in table if s["st_info"]["type"] == "STT_FUNC"
        ]
        return mm, symbols, spans, elf.get_section_by_name(".BTF").data()


def _x86_reset(cpu: Any, guest_parts: tuple[Any, KernelSpace, Vmalloc, dict[str, int]], gs_base: int) -> None:
    mm, space, vmalloc, symbols = guest_parts
    page = vmalloc.vmalloc(12288)
    idt, tss = page + 4096, page + 8192
    space.write(page, x86_traps.gdt(tss))
    space.write_u64(tss + x86_traps.TSS_IST1, vmalloc.alloc_thread_stack() + 8192)
    for vector, name, dpl, ist in x86_traps.IDT_ENTRIES:
        space.write(idt + vector * 16, x86_traps.gate(symbols[name], dpl, ist))
    cpu.reset(mm.pgd, page, idt, tss, gs_base, symbols["entry_SYSCALL_64"])


def _user_half(arch: str, memory: GuestMemory, mm: Any) -> PageTableTree:
    user = PageTableTree(memory, mm.pgtable, mm.pages, owner="user", user=True)
    if arch == "x86_64":
        for i in range(256, 512):
            memory.write_u64(user.root + 8 * i, memory.read_u64(mm.pgd + 8 * i))
    page = mm.pages.alloc_pages(0, "user page") << 12
    memory.write(page, b"\x5a" + bytes(7))
    user.map_page(USER_PAGE, page, Prot.READ | Prot.WRITE | Prot.USER)
    return user


def make_guest(arch: str) -> BareGuest:
    memory = GuestMemory(64 << 20, base=LAYOUTS[arch].phys_base)
    mm, symbols, spans, btf = _load(arch, memory)
    space, vmalloc = KernelSpace(mm), Vmalloc(mm)
    stack = vmalloc.alloc_thread_stack() + 16384
    task = mm.phys_to_virt(mm.pages.alloc_pages(0, "task", zero=True) << 12)
    area = mm.phys_to_virt(mm.pages.alloc_pages(3, "per-CPU", zero=True) << 12)
    offset = (area - symbols["__per_cpu_start"]) & 0xFFFF_FFFF_FFFF_FFFF
    text = mm.pages.alloc_pages(0, "BPF text")
    mm.map_kernel_range(JIT_TEXT[arch], [text], Prot.READ | Prot.EXEC)
    user = _user_half(arch, memory, mm)
    cpu: Any = {"x86_64": X86Cpu, "arm64": Arm64Cpu}[arch](0, memory)
    if arch == "x86_64":
        _x86_reset(cpu, (mm, space, vmalloc, symbols), offset)
    else:
        cpu.reset(user.root, mm.pgd, symbols["vectors"], offset)
    cpu.set_root(user.root)
    space.write_u64((symbols["current_task"] + offset) & 0xFFFF_FFFF_FFFF_FFFF, task)
    guest = BareGuest(arch, cpu, mm, space, vmalloc, Types(Btf(btf, arch), space), symbols, spans, stack)
    guest.types.view("mm_struct", symbols["init_mm"]).pgd = mm.phys_to_virt(mm.pgd)
    space.write_u64(symbols["bpf_jit_start"], JIT_TEXT[arch])
    space.write_u64(symbols["bpf_jit_end"], JIT_TEXT[arch] + 4096)
    mailbox = (symbols["kcall_mailbox"] + offset) & 0xFFFF_FFFF_FFFF_FFFF
    with (build.ROOT / f"vmlinux.{arch}").open("rb") as stream:
        elf = ELFFile(stream)
        start, end = symbols["__kcall_names_start"], symbols["__kcall_names_end"]
        holder = next(s for s in elf.iter_sections() if s["sh_addr"] <= start < s["sh_addr"] + s["sh_size"])
        table = holder.data()[start - holder["sh_addr"] : end - holder["sh_addr"]].rstrip(b"\0").split(b"\0")
    names = [entry.decode().split(":") for entry in table]

    def gate() -> None:
        index, *arguments = struct.unpack("<7Q", space.read(mailbox, 56))
        name, letters = names[index]
        space.write_u64(mailbox + 56, guest.answer(name, tuple(arguments[: len(letters) - 1])))

    cpu.engine.hook_address(symbols["kcall_trap"], gate)
    cpu.engine.hook_address(symbols["guest_call_return"], cpu.stop)
    return guest


@pytest.fixture(params=["x86_64", "arm64"])
def guest(request: pytest.FixtureRequest) -> BareGuest:
    return make_guest(request.param)


@dataclass
class ArenaGuest:
    """A guest with one arena and one BPF program that has it."""

    guest: BareGuest
    arena: Any
    prog: Any
    aux: Any
    window: int  # kern_vm_start
    reports: list[str]
    frames: list[str]

    def dies(self, *call: str | int) -> bool:
        """True where calling `call` ends in an oops."""
        try:
            self.guest.call(*call)  # type: ignore[arg-type]
        except Died:
            return True
        return False


@pytest.fixture(params=["x86_64", "arm64"])
def arena(request: pytest.FixtureRequest) -> ArenaGuest:
    """Fresh for each test: its page tables change."""
    bare = make_guest(request.param)
    types, mm, space = bare.types, bare.mm, bare.space
    memory = mm.phys_to_virt(mm.pages.alloc_pages(1, "BPF objects", zero=True) << 12)
    arena, prog = types.view("bpf_arena", memory), types.view("bpf_prog", memory + 2048)
    aux, vm = types.view("bpf_prog_aux", memory + 2560), types.view("vm_struct", memory + 1536)
    vm.addr = bare.vmalloc.get_vm_area(KERN_VM_SIZE, VM_SPARSE | VM_USERMAP, "arena").addr
    mm.populate_kernel_range(vm.addr, vm.addr + KERN_VM_SIZE)
    scratch = mm.pages.alloc_pages(0, "scratch", zero=True)
    arena.map.map_type = 33
    arena.user_vm_start, arena.user_vm_end = 1 << 44, (1 << 44) + 0x4000
    arena.kern_vm, arena.scratch_page = vm.address, mm.pages.pfn_to_page(scratch)
    prog.aux, prog.bpf_func = aux.address, JIT_TEXT[bare.arch]
    aux.ksym.start = prog.bpf_func
    aux.prog, aux.main_prog_aux, aux.arena = prog.address, aux.address, arena.address
    made = ArenaGuest(bare, arena, prog, aux, vm.addr + 0x8000, [], [])

    def printk(_stage: int, fmt: int, a: int, b: int, *_rest: int) -> int:
        text = bare.string(fmt)
        if text.startswith("ERROR: Arena"):
            made.reports.append(text.replace("%s", bare.string(a)).replace("%lx", f"{b:x}").rstrip("\n"))
        return 0

    def frames(_stage: int, ips: int, count: int) -> int:
        made.frames += [bare.name_of(space.read_u64(ips + 8 * i)) for i in range(count)]
        return 0

    def died(name: str) -> Callable[..., int]:
        def die(*arguments: int) -> int:
            raise Died(name, *arguments)

        return die

    nothing = lambda *_: 0  # noqa: E731
    bare.handlers.update(
        bpf_prog_ksym_find=lambda ip: prog.address if JIT_TEXT[bare.arch] <= ip < JIT_TEXT[bare.arch] + 4096 else 0,
        bpf_stream_stage_init=nothing, bpf_stream_stage_free=nothing, bpf_stream_stage_commit=nothing,
        bpf_stream_stage_print_task=nothing, bpf_stream_stage_printk=printk, bpf_stream_stage_print_frames=frames,
        kfence_handle_page_fault=nothing, in_task_stack_guard_page=nothing, spurious_kernel_fault=nothing,
        oops_begin=nothing, show_fault_oops=died("show_fault_oops"), die_kernel_fault=died("die_kernel_fault"),
    )  # fmt: skip
    return made
