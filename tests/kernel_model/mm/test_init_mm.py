"""kernel_model/mm/init_mm.py: the kernel's page tables, with the entries that real kernels print."""

import pytest

from arch.interface import Prot

RW = Prot.READ | Prot.WRITE


def entries(init_mm, va):
    return [(name, entry & 0xFFFF_0000_0000_0FFF) for name, entry, _ in init_mm.walk(va).levels]


def test_direct_map_covers_ram_without_execution(init_mm):
    memory = init_mm.memory
    for pa in (memory.base, memory.base + 0x1234567, memory.end - 1):
        walk = init_mm.walk(init_mm.phys_to_virt(pa))
        assert walk.pa == pa
        assert walk.levels[-1][0] == ("pmd" if init_mm.pgtable.LINEAR_BLOCKS else "pte")
        assert walk.prot == RW
    assert init_mm.walk(init_mm.phys_to_virt(memory.end)).pa is None
    assert init_mm.virt_to_phys(init_mm.phys_to_virt(memory.end)) is None


def test_struct_pages_are_mapped_at_vmemmap(init_mm):
    pfn = init_mm.pages.alloc_pages()
    pa = init_mm.walk(init_mm.pages.pfn_to_page(pfn) + 0x34).pa
    assert init_mm.memory.read_u32(pa) == 1


def test_entries_are_those_of_a_real_x86_kernel(x86_mm):
    # golden/kernel-texts: x86_64-6.18.35 nx_exec, ro_text, vmalloc_read
    assert entries(x86_mm, x86_mm.layout.page_offset + 0x400000) == [
        ("pgd", 0x067),
        ("pud", 0x067),
        ("pmd", 0x8000_0000_0000_01E3),
    ]
    x86_mm.map_image(x86_mm.layout.kernel_text, 0x1000000, 0x200000, Prot.READ | Prot.EXEC)
    assert entries(x86_mm, x86_mm.layout.kernel_text) == [("pgd", 0x067), ("pud", 0x063), ("pmd", 0x1A1)]
    va = x86_mm.layout.modules_start
    x86_mm.map_kernel_range(va, [0x100], Prot.READ)
    assert entries(x86_mm, va) == [("pgd", 0x067), ("pud", 0x067), ("pmd", 0x067), ("pte", 0x8000_0000_0000_0121)]
    x86_mm.map_kernel_range(x86_mm.layout.vmalloc_start, [0x100], RW)
    assert entries(x86_mm, x86_mm.layout.vmalloc_start)[-1] == ("pte", 0x8000_0000_0000_0163)


def test_entries_are_those_of_a_real_arm64_kernel(arm64_mm):
    # golden/kernel-texts: arm64-6.18.35 unmapped_direct, vmalloc_read, ro_write, nx_exec_data
    assert entries(arm64_mm, arm64_mm.layout.page_offset + 0x400000) == [
        ("pgd", 0x1800_0000_0000_0403),
        ("pud", 0x1800_0000_0000_0403),
        ("pmd", 0x1800_0000_0000_0403),
        ("pte", 0x00E8_0000_0000_0707),
    ]
    arm64_mm.map_image(arm64_mm.layout.kernel_text, 0x41000000, 0x1000, Prot.READ | Prot.EXEC)
    early = 0x1000_0000_0000_0003
    assert entries(arm64_mm, arm64_mm.layout.kernel_text) == [
        ("pgd", early),
        ("pud", early),
        ("pmd", early),
        ("pte", 0x00C0_0000_0000_0783),
    ]
    va = arm64_mm.layout.modules_start
    arm64_mm.map_kernel_range(va, [0x40100], RW)
    arm64_mm.map_kernel_range(va + 4096, [0x40101], Prot.READ)
    assert entries(arm64_mm, va)[2:] == [("pmd", 0x1000_0000_0000_0403), ("pte", 0x00E8_0000_0000_0703)]
    assert entries(arm64_mm, va + 4096)[3] == ("pte", 0x00E0_0000_0000_0783)


def test_no_root_entry_appears_later_where_user_mms_copy_the_root(x86_mm):
    root = x86_mm.memory.read(x86_mm.pgd, 4096)
    x86_mm.map_kernel_range(x86_mm.layout.vmalloc_start + (5 << 40), [0x100], RW)
    x86_mm.map_kernel_range(x86_mm.layout.modules_start + (1 << 20), [0x100], RW)
    assert x86_mm.memory.read(x86_mm.pgd, 4096) == root


def test_unmapping_and_protecting_flush_and_tell_what_was_there(init_mm):
    flushed = []
    init_mm.flush_tlb_kernel_range = lambda start, end: flushed.append((start, end))
    va = init_mm.layout.vmalloc_start
    pfns = [init_mm.pages.alloc_pages() for _ in range(3)]
    init_mm.map_kernel_range(va, pfns, RW)
    assert flushed == []
    init_mm.protect_kernel_range(va, 4096, Prot.READ | Prot.EXEC)
    assert init_mm.walk(va).prot == Prot.READ | Prot.EXEC
    assert init_mm.unmap_kernel_range(va, 0x8000) == pfns
    assert init_mm.unmap_kernel_range(va, 0x8000) == []
    assert flushed == [(va, va + 4096), (va, va + 0x8000)]


@pytest.mark.parametrize("where", ["kernel image", "struct pages"])
def test_boot_memory_is_reserved(init_mm, where):
    assert init_mm.pages.usage()[where] > 0
