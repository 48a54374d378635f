"""arch/arm64/pgtable.py against an MMU."""

import pytest

from arch.arm64.pgtable import PGTABLE
from arch.interface import Prot
from kernel_model.memory import GuestMemory
from kernel_model.mm.page_alloc import PageAllocator
from kernel_model.mm.pgtable import PageTableTree

unicorn = pytest.importorskip("unicorn")
a64 = pytest.importorskip("unicorn.arm64_const")

BASE = 0x40000000
CODE, DATA = 0xFFFF800084000000, 0xFFFF8000C4201000
KERNEL = Prot.READ | Prot.WRITE


@pytest.fixture
def machine():
    memory = GuestMemory(8 << 20, BASE)
    pages = PageAllocator(memory, 0xFFFFFDFFC0000000, memory.end - (128 << 10))
    pages.reserve(memory.end - (128 << 10), memory.end, "struct pages")
    pages.reserve(BASE, BASE + (1 << 20), "code")
    tree = PageTableTree(memory, PGTABLE, pages, owner="test")
    tree.map_page(CODE, BASE, Prot.READ | Prot.EXEC)
    uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM, a64.UC_CPU_ARM64_MAX)
    uc.mem_map_ptr(BASE, memory.size, unicorn.UC_PROT_ALL, memory.host_address)

    def wr(op0, op1, crn, crm, op2, value):
        uc.reg_write(a64.UC_ARM64_REG_CP_REG, (crn, crm, op0, op1, op2, value))

    wr(3, 6, 1, 1, 0, 0x531)  # SCR_EL3
    wr(3, 4, 1, 1, 0, 1 << 31)  # HCR_EL2.RW
    wr(3, 0, 10, 2, 0, 0x000000040044FFFF)  # MAIR_EL1
    wr(3, 0, 2, 0, 2, 16 | 16 << 16 | 0b10 << 30 | 5 << 32)  # TCR_EL1
    wr(3, 0, 2, 0, 0, tree.root)  # TTBR0_EL1
    wr(3, 0, 2, 0, 1, tree.root)  # TTBR1_EL1
    wr(3, 0, 1, 0, 0, 0x30D00800 | 1 | 1 << 2 | 1 << 12)  # SCTLR_EL1
    return memory, tree, uc


def run(machine, code, address):
    """Execute one instruction with x1 = address, x0 = 0x77: (faulted, x0)."""
    memory, _, uc = machine
    memory.write(BASE, code + b"\x00\x00\x00\x14")
    faults = []

    def on_interrupt(uc, intno, data):
        faults.append(intno)
        uc.emu_stop()

    uc.hook_add(unicorn.UC_HOOK_INTR, on_interrupt)
    uc.reg_write(a64.UC_ARM64_REG_X1, address)
    uc.reg_write(a64.UC_ARM64_REG_X0, 0x77)
    uc.emu_start(CODE, 0, count=4)
    return bool(faults), uc.reg_read(a64.UC_ARM64_REG_X0)


LOAD, STORE, JUMP = bytes.fromhex("200040f9"), bytes.fromhex("200000f9"), bytes.fromhex("20001fd6")


@pytest.mark.parametrize("prot", [Prot.READ, KERNEL, Prot.READ | Prot.EXEC])
@pytest.mark.parametrize(("shift", "linear"), [(12, False), (12, True), (21, True)])
def test_walker_and_mmu_agree(machine, prot, shift, linear):
    memory, tree, _ = machine
    where = tree.ensure(DATA & -(1 << shift), shift)
    memory.write_u64(where, PGTABLE.mk_leaf(BASE + 0x400000, prot, shift, linear=linear))
    walk = tree.walk(DATA)
    assert walk.prot == prot
    memory.write_u64(walk.pa, 0x1122334455667788)
    assert run(machine, LOAD, DATA) == (False, 0x1122334455667788)


@pytest.mark.parametrize(("prot", "faults"), [(Prot.READ, True), (KERNEL, False)])
def test_stores_obey_the_walker(machine, prot, faults):
    machine[1].map_page(DATA, BASE + 0x400000, prot)
    assert run(machine, STORE, DATA)[0] == faults
    assert machine[0].read_u64(BASE + 0x400000) == (0 if faults else 0x77)


@pytest.mark.parametrize(("prot", "faults"), [(Prot.READ, True), (Prot.READ | Prot.EXEC, False)])
def test_fetches_obey_the_walker(machine, prot, faults):
    machine[1].map_page(DATA, BASE + 0x400000, prot)
    machine[0].write(BASE + 0x400000, b"\x00\x00\x00\x14")
    assert run(machine, JUMP, DATA)[0] == faults


def test_execution_below_a_linear_map_table_is_forbidden(machine):
    memory, tree, _ = machine
    where = tree.ensure(DATA, linear=True)
    memory.write_u64(where, PGTABLE.mk_leaf(BASE + 0x400000, Prot.READ | Prot.EXEC))
    memory.write(BASE + 0x400000, b"\x00\x00\x00\x14")
    shared_pgd = tree.walk(DATA).levels[0][1]
    assert not shared_pgd & 1 << 59  # made for CODE; the tables below carry PXNTable
    assert tree.walk(DATA).prot == Prot.READ
    assert run(machine, JUMP, DATA)[0]


def test_user_tables_and_pages_forbid_execution_to_el1(machine):
    memory, tree, _ = machine
    va = 0x400000
    tree.map_page(va, BASE + 0x400000, KERNEL | Prot.EXEC | Prot.USER)
    memory.write(BASE + 0x400000, b"\x00\x00\x00\x14")
    assert tree.walk(va).prot & Prot.USER
    assert run(machine, JUMP, va)[0]


def test_holes_fault_at_every_level(machine):
    machine[1].map_page(DATA, BASE, KERNEL)
    for hole, depth in ((DATA + 0x1000, 4), (DATA + (1 << 21), 3), (DATA + (1 << 30), 2), (DATA + (1 << 39), 1)):
        walk = machine[1].walk(hole)
        assert walk.pa is None and len(walk.levels) == depth and walk.entry == 0
    assert run(machine, LOAD, DATA + 0x1000) == (True, 0x77)


def test_addresses_between_the_halves_are_not_kernel_addresses():
    assert PGTABLE.is_kernel_va(0xFFFF000000000000)
    assert not PGTABLE.is_kernel_va(0xDEAD000000000100)
