"""arch/x86_64/pgtable.py against an MMU."""

import pytest

from arch.interface import Prot
from arch.x86_64.pgtable import PGTABLE
from kernel_model.memory import GuestMemory
from kernel_model.mm.page_alloc import PageAllocator
from kernel_model.mm.pgtable import PageTableTree

unicorn = pytest.importorskip("unicorn")
x86 = pytest.importorskip("unicorn.x86_const")

CODE, DATA = 0xFFFFC90000000000, 0xFFFFC90040201000
KERNEL = Prot.READ | Prot.WRITE


@pytest.fixture
def machine():
    memory = GuestMemory(8 << 20)
    pages = PageAllocator(memory, 0xFFFFEA0000000000, memory.end - (128 << 10))
    pages.reserve(memory.end - (128 << 10), memory.end, "struct pages")
    pages.reserve(0, 1 << 20, "low memory")
    tree = PageTableTree(memory, PGTABLE, pages, owner="test")
    tree.map_page(CODE, 0x1000, Prot.READ | Prot.EXEC)
    uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64, x86.UC_CPU_X86_SKYLAKE_CLIENT)
    uc.mem_map_ptr(0, memory.size, unicorn.UC_PROT_ALL, memory.host_address)
    uc.reg_write(x86.UC_X86_REG_MSR, (0xC0000080, 0xD01))
    uc.reg_write(x86.UC_X86_REG_CR3, tree.root)
    uc.reg_write(x86.UC_X86_REG_CR4, uc.reg_read(x86.UC_X86_REG_CR4) | 1 << 5 | 1 << 9 | 1 << 20 | 1 << 21)
    uc.reg_write(x86.UC_X86_REG_CR0, 0x80050033)
    return memory, tree, uc


def run(machine, code, address):
    """Execute `code` with rbx = address, rax = 0x77: (faulted, rax)."""
    memory, _, uc = machine
    memory.write(0x1000, code + b"\xf4")
    faults = []

    def on_interrupt(uc, intno, data):
        faults.append(intno)
        uc.emu_stop()

    uc.hook_add(unicorn.UC_HOOK_INTR, on_interrupt)
    uc.reg_write(x86.UC_X86_REG_RBX, address)
    uc.reg_write(x86.UC_X86_REG_RAX, 0x77)
    uc.emu_start(CODE, 0, count=8)
    return bool(faults), uc.reg_read(x86.UC_X86_REG_RAX)


LOAD, STORE, JUMP = b"\x48\x8b\x03", b"\x48\x89\x03", b"\xff\xe3"


@pytest.mark.parametrize("prot", [Prot.READ, KERNEL, Prot.READ | Prot.EXEC, KERNEL | Prot.USER])
@pytest.mark.parametrize("shift", [12, 21])
def test_walker_and_mmu_agree(machine, prot, shift):
    memory, tree, _ = machine
    pa = 0x400000
    memory.write_u64(tree.ensure(DATA & -(1 << shift), shift), PGTABLE.mk_leaf(pa, prot, shift))
    walk = tree.walk(DATA)
    assert walk.prot == prot
    memory.write_u64(walk.pa, 0x1122334455667788)
    assert run(machine, LOAD, DATA) == (
        (True, 0x77) if prot & Prot.USER else (False, 0x1122334455667788)  # SMAP
    )


@pytest.mark.parametrize(("prot", "faults"), [(Prot.READ, True), (KERNEL, False)])
def test_stores_obey_the_walker(machine, prot, faults):
    machine[1].map_page(DATA, 0x400000, prot)
    assert run(machine, STORE, DATA)[0] == faults
    assert machine[0].read_u64(0x400000) == (0 if faults else 0x77)


@pytest.mark.parametrize(("prot", "faults"), [(Prot.READ, True), (Prot.READ | Prot.EXEC, False)])
def test_fetches_obey_the_walker(machine, prot, faults):
    machine[1].map_page(DATA, 0x400000, prot)
    machine[0].write(0x400000, b"\xf4")
    assert run(machine, JUMP, DATA)[0] == faults


def test_holes_fault_at_every_level(machine):
    machine[1].map_page(DATA, 0x400000, KERNEL)
    for hole, depth in ((DATA + 0x1000, 4), (DATA + (1 << 21), 3), (DATA + (1 << 30), 2), (DATA + (1 << 39), 1)):
        walk = machine[1].walk(hole)
        assert walk.pa is None and len(walk.levels) == depth and walk.entry == 0
    assert run(machine, LOAD, DATA + 0x1000) == (True, 0x77)


def test_kernel_addresses_begin_at_task_size_max():
    assert PGTABLE.is_kernel_va(0x7FFFFFFFF000)
    assert not PGTABLE.is_kernel_va(0x7FFFFFFFEFFF)
