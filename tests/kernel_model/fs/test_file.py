"""Inodes, open files and descriptors without programs: contents, sizes, references."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arch as arches
from kernel_model.fs.file import FMODE_CAN_READ, FMODE_READ, FMODE_WRITE, File, Inode
from kernel_model.fs.files import RLIMIT_NOFILE, FilesStruct, OpenFiles
from kernel_model.memory import GuestMemory
from kernel_model.mm.filemap import EXT2
from kernel_model.mm.init_mm import mem_init
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.shmem import SHMEM, shmem_file_setup
from kernel_model.mm.slab import Slab

PAGE = 4096
MIB = 1 << 20


def machine():
    x86 = arches.get("x86_64")
    init_mm = mem_init(GuestMemory(16 * MIB), x86.layout, x86.pgtable)
    return init_mm, GuestObjects(Slab(init_mm))


WORLD = machine()
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 5 * PAGE), st.binary(min_size=1, max_size=PAGE + 9)),
        st.tuples(st.just("truncate"), st.integers(0, 6 * PAGE)),
        st.tuples(st.just("page"), st.integers(0, 5)),
        st.tuples(st.just("writeback")),
    ),
    max_size=12,
)


@pytest.mark.parametrize("fs", [EXT2, SHMEM], ids=lambda fs: fs.name)
@settings(max_examples=60, deadline=None)
@given(contents=st.binary(max_size=2 * PAGE + 10), steps=STEPS)
def test_a_file_is_a_string_of_bytes(fs, contents, steps):
    init_mm, objects = WORLD
    usage = init_mm.pages.usage()
    inode = Inode(init_mm, objects, fs, "f", contents=contents if fs.stored else b"")
    if not fs.stored:
        inode.write(0, contents)
    wanted = bytearray(contents)
    for name, *rest in steps:
        if name == "write":
            pos, data = rest
            wanted.extend(bytes(max(0, pos + len(data) - len(wanted))))
            wanted[pos : pos + len(data)] = data
            inode.write(pos, data)
        elif name == "truncate":
            del wanted[rest[0] :]
            wanted.extend(bytes(rest[0] - len(wanted)))
            inode.truncate(rest[0])
        elif name == "page":
            index = rest[0]
            if index * PAGE < len(wanted):
                data = init_mm.memory.read(inode.get_page(index) << 12, PAGE)
                assert data == bytes(wanted[index * PAGE :][:PAGE]).ljust(PAGE, b"\0"), "zero behind the end"
        elif fs.stored:
            inode.writeback()
            assert not inode.i_mapping.dirty
        assert inode.i_size == len(wanted) and inode.read(0, 1 << 20) == wanted
    assert inode.read(len(wanted) // 2, 7) == wanted[len(wanted) // 2 :][:7]
    inode.iput()
    assert init_mm.pages.usage() == usage


def test_an_inode_goes_with_the_last_open_file():
    init_mm, objects = machine()
    usage = init_mm.pages.usage()
    inode = Inode(init_mm, objects, SHMEM, "f")
    opened = OpenFiles()
    first, second = opened.add(File(inode, "f", FMODE_READ)), opened.add(File(inode, "f"))
    assert first.f_mode & FMODE_CAN_READ and not first.f_mode & FMODE_WRITE
    inode.write(0, b"text")
    inode.iput()
    first.fput()
    assert second.f_inode.read(0, 9) == b"text" and list(opened.by_addr) == [second.addr]
    second.get_file().fput()
    second.fput()
    assert not opened.by_addr and init_mm.pages.usage() == usage


def test_descriptors_are_the_lowest_free_numbers_and_shared_or_copied():
    init_mm, objects = machine()
    table = FilesStruct()
    files = [shmem_file_setup(init_mm, objects, f"memfd:{n}", 0) for n in range(3)]
    assert [table.install(file) for file in files] == [3, 4, 5]
    del table.fds[4]
    assert table.get_unused_fd() == 4
    assert table.share() is table and table.count == 2
    copy = table.dup_fd()
    assert sorted(copy.fds) == [0, 1, 2, 3, 5], "what is about to be opened is not open"
    assert [files[n].f_count for n in range(3)] == [2, 1, 2]
    table.put()
    assert table.fds, "one task has it still"
    table.put()
    assert [files[n].f_count for n in (0, 2)] == [1, 1]
    files[0].get_file()
    copy.held.append(files[0])  # a system call that will never end
    copy.put()
    assert [file.f_count for file in files] == [0, 1, 0]
    files[1].fput()
    assert not any(owner.startswith("page cache") for owner in init_mm.pages.usage())


def test_there_is_an_end_of_descriptors():
    table = FilesStruct()
    while (fd := table.get_unused_fd()) >= 0:
        last = fd
    assert (last, fd) == (RLIMIT_NOFILE - 1, -24)
