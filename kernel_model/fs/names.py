"""Files under names: those that somebody outside gives to programs, and those that programs create.

Stands for a mounted file system in what open(2) finds there: one directory, whose names are whole path names, taken as
they are. The files are on a store (ext2) or in memory only (shmem). Leaves out: directories, permissions, and whatever
else fs/namei.c and fs/ext2 do.
"""

from __future__ import annotations

from collections.abc import Iterator

from arch.interface import PAGE_SIZE
from kernel_model.errors import KemuError, KernelErrno
from kernel_model.fs.file import FMODE_ATOMIC_POS, FMODE_READ, FMODE_WRITE, File, FileSystem, Inode
from kernel_model.fs.files import OpenFiles
from kernel_model.mm.filemap import EXT2
from kernel_model.mm.init_mm import InitMm
from kernel_model.mm.mmap import MAP_PRIVATE, PROT_READ, do_mmap
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.page_alloc import OutOfMemoryError
from kernel_model.sched.task import Task

_ENOENT, _EEXIST, _EISDIR, _ENAMETOOLONG = 2, 17, 21, 36
_O_ACCMODE, _O_CREAT, _O_EXCL = 0o3, 0o100, 0o200
_NAME_MAX = 255
_MODES = {"r": FMODE_READ, "w": FMODE_WRITE, "r+": FMODE_READ | FMODE_WRITE}


class Names:
    """The directory. A name holds its inode until it is removed."""

    def __init__(self, init_mm: InitMm, objects: GuestObjects, opened: OpenFiles) -> None:
        self._init_mm = init_mm
        self._objects = objects
        self._opened = opened
        self._inodes: dict[str, Inode] = {}

    def create(self, name: str, contents: bytes = b"", fs: FileSystem = EXT2) -> Inode:
        """A file with `contents`; KemuError where the name is taken. With EXT2 its pages are read when they are first
        needed, with SHMEM they are there. OutOfMemoryError."""
        if name in self._inodes:
            raise KemuError(f"file {name!r} exists")
        inode = Inode(self._init_mm, self._objects, fs, name, contents=contents if fs.stored else b"")
        try:
            if not fs.stored:
                inode.write(0, contents)
        except OutOfMemoryError:
            inode.iput()
            raise
        self._inodes[name] = inode
        return inode

    def __iter__(self) -> Iterator[str]:
        """Every name, sorted."""
        return iter(sorted(self._inodes))

    def __getitem__(self, name: str) -> Inode:
        """KemuError lists the names there are."""
        if name not in self._inodes:
            raise KemuError(f"no file {name!r}; there are: {', '.join(sorted(self._inodes)) or 'none'}")
        return self._inodes[name]

    def read(self, name: str) -> bytes:
        """The whole contents, as read(2) would give them."""
        inode = self[name]
        return inode.read(0, inode.i_size)

    def unlink(self, name: str) -> None:
        """Remove the name; the file goes with the last one that has it open or mapped."""
        self[name].iput()
        del self._inodes[name]

    def filp_open(self, name: str, flags: int) -> tuple[File, bool]:
        """path_openat(): the file, opened and known to guest text, and whether it is new. KernelErrno: ENOENT, EEXIST,
        EISDIR, ENAMETOOLONG."""
        if any(len(part) > _NAME_MAX for part in name.split("/")):
            raise KernelErrno(_ENAMETOOLONG, f"open {name!r}: a part of the name is too long")
        if not name.rpartition("/")[2].strip("."):
            raise KernelErrno(_EISDIR, f"open {name!r}: a directory")
        new = name not in self._inodes
        if new and not flags & _O_CREAT:
            raise KernelErrno(_ENOENT, f"open {name!r}: no such file")
        if not new and flags & _O_CREAT and flags & _O_EXCL:
            raise KernelErrno(_EEXIST, f"open {name!r}: it exists")
        if new:
            self.create(name)
        f_mode = flags + 1 & _O_ACCMODE  # OPEN_FMODE()
        return self._opened.add(File(self._inodes[name], name, f_mode | FMODE_ATOMIC_POS)), new

    def _open(self, name: str, mode: str) -> File:
        if mode not in _MODES:
            raise KemuError(f"open {name!r}: mode {mode!r} is none of {', '.join(_MODES)}")
        return File(self[name], name, _MODES[mode] | FMODE_ATOMIC_POS)

    def map(
        self, task: Task, name: str, prot: int = PROT_READ, flags: int = MAP_PRIVATE, *, mode: str = "r+",
        addr: int = 0, length: int = 0, pgoff: int = 0,
    ) -> int:
        """Map `length` bytes (0: up to the end) of the file from page `pgoff` on into a process that does not run yet;
        the address. KernelErrno is what mmap(2) would give, KemuError as with open()."""
        if task.mm is None:
            raise KemuError(f"map {name!r}: task {task.comm}/{task.pid} has no memory of its own")
        file = self._open(name, mode)
        try:
            length = length or max(file.f_inode.i_size - pgoff * PAGE_SIZE, 0)
            where = do_mmap(task.mm, addr, length, prot, flags, file, pgoff)
        finally:
            file.fput()
        if where < 0:
            raise KernelErrno(-where, f"mmap of file {name!r}")
        return where

    def open(self, task: Task, name: str, mode: str = "r+") -> int:
        """A descriptor of `task` for the file: `mode` "r", "w" or "r+". KemuError for another mode or name, and where
        the task has no room for a descriptor."""
        if task.files is None:
            raise KemuError(f"open {name!r}: task {task.comm}/{task.pid} has no descriptors")
        file = self._open(name, mode)
        fd = task.files.install(file)
        if fd < 0:
            file.fput()
            raise KemuError(f"open {name!r}: task {task.comm}/{task.pid} has too many open files")
        self._opened.add(file)
        return fd
