"""User side of mm: VMAs, faults, mmap, user copies, signals."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arch.interface import Prot
from kernel_model.mm.fault import FaultHandler, find_vma_or_expand
from kernel_model.mm.mm_types import FAULT_FLAG_DEFAULT, VM_DONTEXPAND, FaultFlag, VmFault
from kernel_model.mm.mmap import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    do_mmap,
    do_munmap,
    mm_get_unmapped_area,
    setup_stack,
)
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.signals import BUS_ADRERR, SEGV_ACCERR, SEGV_MAPERR, SIGBUS, SIGSEGV, segfault_line
from kernel_model.mm.slab import Slab
from kernel_model.mm.uaccess import UserAccessError, UserSpace
from kernel_model.mm.vma import MmStruct

RW = PROT_READ | PROT_WRITE
ANON = MAP_PRIVATE | MAP_ANONYMOUS


class Device:
    """A file whose pages are given out one by one, as an arena does."""

    has_map_pages = False
    has_close = True

    def __init__(self, pages):
        self.pages, self.frames, self.answer, self.log = pages, {}, VmFault.NONE, []

    def get_unmapped_area(self, mm, addr, length, pgoff, flags):
        return mm_get_unmapped_area(mm, addr, length, flags)

    def mmap(self, vma):
        vma.vm_ops, vma.name = self, "device"
        vma.vm_flags |= VM_DONTEXPAND
        return 0

    def open(self, vma):
        self.log.append("open")

    def close(self, vma):
        self.log.append("close")

    def may_split(self, vma, addr):
        return -22

    def fault(self, vmf):
        if self.answer:
            return self.answer
        if vmf.pgoff not in self.frames:
            self.frames[vmf.pgoff] = self.pages.alloc_pages(owner="device", zero=True)
        self.pages.get_page(self.frames[vmf.pgoff])
        vmf.page = self.frames[vmf.pgoff]
        return VmFault.NONE


def test_kernel_half_of_the_root_is_shared_where_the_architecture_does(mm, init_mm):
    root = init_mm.memory.read(mm.pgd, 4096)
    assert root[:2048] == bytes(2048)
    kernel = init_mm.memory.read(init_mm.pgd, 4096)[2048:]
    assert (root[2048:] == kernel) == init_mm.pgtable.SHARED_ROOT


def test_anonymous_memory_reads_the_zero_page_then_copies(mm, user, faults, init_mm):
    va = do_mmap(mm, 0, 0x3000, RW, ANON)
    assert va == mm.mmap_base - 0x3000
    assert user.read(va, 0x3000) == bytes(0x3000)
    walk = mm.tree.walk(va)
    assert walk.pa == faults.zero_pfn << 12 and not walk.prot & Prot.WRITE
    user.write(va + 0xFFE, b"hello")
    assert user.read(va + 0xFFE, 5) == b"hello"
    assert mm.tree.walk(va).prot == Prot.READ | Prot.WRITE | Prot.USER
    assert mm.tree.walk(va + 0x2000).pa == faults.zero_pfn << 12
    assert init_mm.memory.read(faults.zero_pfn << 12, 4096) == bytes(4096)
    assert init_mm.pages.usage()["anonymous memory of test"] == 2
    assert (mm.counters.minor, mm.counters.major) == (5, 0)


def test_user_entries_are_those_of_real_kernels(mm, user):
    va = do_mmap(mm, 0, 0x2000, RW, ANON)
    user.write(va, b"x")
    user.read(va + 0x1000, 1)
    code = do_mmap(mm, 0, 0x1000, RW | PROT_EXEC, ANON)
    user.write(code, b"x")
    got = [e & 0xFFFF_0000_0000_0FFF for v in (va, va + 0x1000, code) for e in [mm.tree.walk(v).entry]]
    tables = {e & 0xFFFF_0000_0000_0FFF for _, e, _ in mm.tree.walk(va).levels[:-1]}
    if mm.init_mm.pgtable.SHARED_ROOT:  # x86_64-6.18.35-user_read, -user_exec
        assert got == [0x8000_0000_0000_0067, 0x8000_0000_0000_0225, 0x067] and tables == {0x067}
    else:  # arm64-6.18.35-user_read, -user_exec
        assert got == [0x00E8_0000_0000_0F43, 0x0160_0000_0000_0FC3, 0x00A8_0000_0000_0F43]
        assert tables == {0x0800_0000_0000_0403}


def test_unmapped_and_forbidden_accesses_say_which_signal(mm, user):
    va = do_mmap(mm, 0, 0x1000, PROT_READ, ANON)
    for addr, write, code in ((va, True, SEGV_ACCERR), (va + 0x1000, False, SEGV_MAPERR), (0, False, SEGV_MAPERR)):
        with pytest.raises(UserAccessError) as caught:
            user.fault_in(addr, write=write)
        assert (caught.value.signal.signo, caught.value.signal.code) == (SIGSEGV, code)
        assert caught.value.signal.addr == addr and caught.value.errno == 14
    with pytest.raises(UserAccessError):
        user.read(mm.task_size, 1)
    with pytest.raises(UserAccessError, match=r"SIGSEGV \(SEGV_MAPERR\) at 0x"):
        user.write(va - 1, b"x")


def test_vm_ops_provide_shared_pages_and_errors(mm, user, init_mm):
    device = Device(init_mm.pages)
    va = do_mmap(mm, 0, 0x4000, RW, MAP_SHARED, device)
    user.write(va + 0x1000, b"shared")
    pfn = device.frames[1]
    assert init_mm.memory.read(pfn << 12, 6) == b"shared"
    assert init_mm.pages.page_count(pfn) == 2 and init_mm.pages.page_mapped(pfn)
    for answer, signo, code in (
        (VmFault.SIGSEGV, SIGSEGV, SEGV_MAPERR),
        (VmFault.SIGBUS, SIGBUS, BUS_ADRERR),
    ):
        device.answer = answer
        with pytest.raises(UserAccessError) as caught:
            user.read(va, 1)
        assert (caught.value.signal.signo, caught.value.signal.code) == (signo, code)
    assert mm.zap_page_range(va, 0x4000) == 1
    assert init_mm.pages.page_count(pfn) == 1 and not init_mm.pages.page_mapped(pfn)
    assert do_munmap(mm, va, 0x1000) == -22 and device.log == []
    assert do_munmap(mm, va, 0x4000) == 0 and device.log == ["close"]


def test_fault_without_map_pages_is_retried_outside_the_vma_lock(mm, faults, init_mm):
    va = do_mmap(mm, 0, 0x1000, RW, MAP_SHARED, Device(init_mm.pages))
    vma = mm.vma_lookup(va)
    flags = FAULT_FLAG_DEFAULT | FaultFlag.USER | FaultFlag.WRITE
    assert faults.handle_mm_fault(vma, va, flags | FaultFlag.VMA_LOCK) == VmFault.RETRY
    assert mm.counters.minor == 0
    assert faults.handle_mm_fault(vma, va, flags | FaultFlag.TRIED) == VmFault.NONE
    assert mm.counters.major == 1


def test_files_do_not_grow_down(mm, init_mm):
    for flags in (MAP_PRIVATE, MAP_SHARED):
        assert do_mmap(mm, 0, 0x2000, RW, flags | MAP_GROWSDOWN, Device(init_mm.pages)) == -22
    assert do_mmap(mm, 0, 0x2000, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_GROWSDOWN) == -22


def test_private_mapping_of_a_device_copies_on_write(mm, user, init_mm):
    device = Device(init_mm.pages)
    va = do_mmap(mm, 0, 0x2000, RW, MAP_PRIVATE, device)
    assert user.read(va, 1) == b"\0"
    user.write(va, b"mine")
    user.write(va + 0x1000, b"mine")
    assert user.read(va, 4) == user.read(va + 0x1000, 4) == b"mine"
    assert init_mm.memory.read(device.frames[0] << 12, 4) == bytes(4)
    assert init_mm.pages.page_count(device.frames[0]) == init_mm.pages.page_count(device.frames[1]) == 1


def test_stack_grows_within_its_limit_and_not_into_neighbours(mm, user):
    vma = setup_stack(mm)
    low = vma.vm_start
    user.write(low - 0x5000, b"deep")
    assert (vma.vm_start, vma.vm_pgoff) == (low - 0x5000, (low - 0x5000) >> 12)
    assert find_vma_or_expand(mm, vma.vm_end - (9 << 20)) is None
    do_mmap(mm, low - 0x200000, 0x1000, RW, ANON | MAP_FIXED)
    assert find_vma_or_expand(mm, low - 0x180000) is None


def test_placement(mm):
    a = do_mmap(mm, 0x10000000, 0x3000, RW, ANON)
    assert a == 0x10000000
    assert do_mmap(mm, a, 0x1000, RW, ANON) == mm.mmap_base - 0x1000
    assert do_mmap(mm, a + 0x3801, 0x1000, RW, ANON) == a + 0x3000, "a hint is rounded down"
    assert do_munmap(mm, a + 0x3000, 0x1000) == 0
    assert do_mmap(mm, 0x1801, 0x1000, RW, ANON) == 0x10000
    assert do_munmap(mm, 0x10000, 0x1000) == 0
    assert do_mmap(mm, a, 0x1000, RW, ANON | MAP_FIXED_NOREPLACE) == -17
    assert do_mmap(mm, a + 0x1000, 0x1000, PROT_READ, ANON | MAP_FIXED) == a + 0x1000
    assert [(v.vm_start, v.vm_end, v.vm_pgoff) for v in mm.vmas()][:3] == [
        (a, a + 0x1000, a >> 12),
        (a + 0x1000, a + 0x2000, (a >> 12) + 1),
        (a + 0x2000, a + 0x3000, (a >> 12) + 2),
    ]
    assert do_mmap(mm, 0, 0, RW, ANON) == -22
    assert do_mmap(mm, 0x1000, 0x1000, RW, ANON | MAP_FIXED) == -1
    assert do_mmap(mm, a + 1, 0x1000, RW, ANON | MAP_FIXED) == -22


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    actions=st.lists(
        st.tuples(st.sampled_from(["map", "unmap", "write"]), st.integers(0, 15), st.integers(1, 6)), max_size=20
    )
)
def test_mmap_and_munmap_agree_with_a_dict_and_nothing_leaks(init_mm, actions):
    before = init_mm.pages.usage()
    slab = Slab(init_mm)
    mm = MmStruct(init_mm, GuestObjects(slab), "test")
    zero = init_mm.pages.alloc_pages(owner="zero page", zero=True)
    user = UserSpace(mm, FaultHandler(zero))
    base, model = 0x20000000, {}
    for what, at, count in actions:
        va = base + at * 0x1000
        span = range(at, at + count)
        if what == "map":
            assert do_mmap(mm, va, count * 0x1000, RW, ANON | MAP_FIXED) == va
            model |= dict.fromkeys(span, 0)
        elif what == "unmap":
            assert do_munmap(mm, va, count * 0x1000) == 0
            model = {k: v for k, v in model.items() if k not in span}
        elif at in model:
            user.write(va, bytes([count]))
            model[at] = count
        else:
            with pytest.raises(UserAccessError):
                user.write(va, b"x")
    for at in range(22):
        vma = mm.vma_lookup(base + at * 0x1000)
        assert (vma is not None) == (at in model)
        if vma:
            assert user.read(base + at * 0x1000, 1) == bytes([model[at]])
    mm.exit_mmap()
    init_mm.pages.free_pages(zero)
    assert slab.live() == []
    assert init_mm.pages.usage() == before


def test_out_of_memory_is_vm_fault_oom(mm, faults, init_mm):
    va = do_mmap(mm, 0, 0x2000, RW, ANON)
    while init_mm.pages.nr_free:
        init_mm.pages.alloc_pages()
    flags = FAULT_FLAG_DEFAULT | FaultFlag.WRITE
    assert faults.handle_mm_fault(mm.vma_lookup(va), va, flags) == VmFault.OOM


def test_text_can_be_filled_though_it_is_read_only(mm, user):
    va = do_mmap(mm, 0, 0x2000, PROT_READ | PROT_EXEC, ANON)
    user.poke(va + 0xFFE, b"code")
    assert user.read(va + 0xFFE, 4) == b"code"
    assert mm.tree.walk(va).prot == Prot.READ | Prot.EXEC | Prot.USER
    with pytest.raises(UserAccessError, match="SEGV_ACCERR"):
        user.write(va, b"x")


def test_log_line_of_a_segfault(mm):
    # golden/kernel-texts/x86_64-6.18.35-lockdep-scheduling_while_atomic.txt
    do_mmap(mm, 0x401000, 0x184000, PROT_READ | PROT_EXEC, ANON | MAP_FIXED, pgoff=1, name="busybox")
    line = segfault_line(mm, "sh", 39, 0x427700, 0x427700, 0x7FFCED6D5CD8, 0x14, 0)
    assert line == (
        "sh[39]: segfault at 427700 ip 0000000000427700 sp 00007ffced6d5cd8 error 14 "
        "in busybox[27700,401000+184000] likely on CPU 0 (core 0, socket 0)"
    )
    assert " in " not in segfault_line(mm, "sh", 39, 0, 0, 0, 4, 0)
