"""The half of the system calls on files that is no guest text: descriptors and pages.

Mirrors fs/file.c, mm/filemap.c (pagecache_get_page, mapping_seek_hole_data), fs/attr.c (notify_change) and
shmem_file_setup() of mm/shmem.c. What copies and locks is guest text (images/kernel/fs, mm/filemap.c, mm/shmem.c).
"""

from __future__ import annotations

from collections.abc import Callable

from arch.interface import PAGE_SHIFT
from kernel_model.errors import KernelErrno, NotModelledError
from kernel_model.fs.file import FMODE_ATOMIC_POS, File
from kernel_model.fs.files import FilesStruct, OpenFiles
from kernel_model.fs.names import Names
from kernel_model.kcall import kcall
from kernel_model.mm.access import KernelSpace
from kernel_model.mm.init_mm import InitMm
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.page_alloc import OutOfMemoryError
from kernel_model.mm.shmem import shmem_file_setup
from kernel_model.sched.task import Task

_ENXIO, _EBADF, _ENOMEM, _ENOTDIR = 6, 9, 12, 20
_NAME_MAX, _PATH_MAX = 256, 4096
_AT_FDCWD = -100
_SEEK_DATA = 3


class FileSyscalls:
    """kcalls behind the system calls on files; pointers are guest addresses, errors -errno.

    `standard` gives the struct file that descriptor 0, 1 or 2 of a program leads to from the start, 0 where to none.
    """

    def __init__(
        self, current: Callable[[], Task], files: OpenFiles, init_mm: InitMm, objects: GuestObjects, space: KernelSpace,
        names: Names, standard: Callable[[int], int],
    ) -> None:
        self._current = current
        self._files = files
        self._init_mm = init_mm
        self._objects = objects
        self._space = space
        self._names = names
        self._standard = standard

    def _table(self) -> FilesStruct:
        files = self._current().files
        assert files is not None, "a kernel thread makes no system calls"
        return files

    # -- descriptors -------------------------------------------------------------------------------------------------

    @kcall
    def fget(self, fd: int) -> int:
        """struct file *fget(unsigned int fd)"""
        table = self._table()
        file = table.fds.get(fd)
        if file is None:
            return self._standard(fd) if fd in table.fds else 0
        table.held.append(file.get_file())
        return file.addr

    @kcall
    def fput(self, file: int) -> None:
        """void fput(struct file *file); a file of a module is not counted."""
        known = self._files.by_addr.get(file)
        if known is not None:
            self._table().held.remove(known)
            known.fput()

    @kcall
    def file_close_fd(self, fd: int) -> int:
        """struct file *file_close_fd(unsigned int fd): the descriptor's reference is the caller's; NULL without one."""
        table = self._table()
        file = table.fds.get(fd)
        if file is None:
            return 0
        del table.fds[fd]
        table.held.append(file)
        return file.addr

    @kcall
    def get_unused_fd_flags(self, flags: int) -> int:
        """int get_unused_fd_flags(unsigned flags)"""
        return self._table().get_unused_fd()

    @kcall
    def put_unused_fd(self, fd: int) -> None:
        """void put_unused_fd(unsigned int fd)"""
        del self._table().fds[fd]

    @kcall
    def fd_install(self, fd: int, file: int) -> None:
        """void fd_install(unsigned int fd, struct file *file): the caller's reference is the descriptor's now."""
        table, known = self._table(), self._files.by_addr[file]
        table.held.remove(known)
        table.fds[fd] = known

    @kcall
    def file_needs_f_pos_lock(self, file: int) -> bool:
        """bool file_needs_f_pos_lock(struct file *file): __fget_light() takes a reference only from a shared table."""
        known = self._files.by_addr.get(file)
        if known is None or not known.f_mode & FMODE_ATOMIC_POS:
            return False
        return self._table().count > 1 or known.f_count > 2

    @kcall
    def do_filp_open(self, dfd: int, pathname: int, flags: int, created: int) -> int:
        """struct file *do_filp_open(int dfd, const char *pathname, int flags, bool *created): a reference."""
        name = self._space.read_cstr(pathname, _PATH_MAX).decode("latin-1")
        if not name.startswith("/") and dfd != _AT_FDCWD:
            return -_ENOTDIR if self._table().fds.get(dfd) else -_EBADF
        try:
            file, new = self._names.filp_open(name, flags)
        except KernelErrno as error:
            return -error.errno
        except OutOfMemoryError:
            return -_ENOMEM
        self._space.write(created, bytes([new]))
        self._table().held.append(file)
        return file.addr

    @kcall
    def open_flags_not_modelled(self, flags: int) -> None:
        """void open_flags_not_modelled(int flags)"""
        raise NotModelledError(f"openat(2): flags {flags:#o} are not modelled")

    # -- shared memory -----------------------------------------------------------------------------------------------

    @kcall
    def shmem_file_setup(self, name: int, size: int, flags: int) -> int:
        """struct file *shmem_file_setup(const char *name, loff_t size, unsigned long flags)"""
        text = self._space.read_cstr(name, _NAME_MAX).decode("latin-1")
        try:
            file = self._files.add(shmem_file_setup(self._init_mm, self._objects, text, size))
        except OutOfMemoryError:
            return -_ENOMEM
        self._table().held.append(file)
        return file.addr

    @kcall
    def hugetlb_file_setup_not_modelled(self) -> None:
        """void hugetlb_file_setup_not_modelled(void)"""
        raise NotModelledError("memfd_create(2): MFD_HUGETLB: huge pages are not modelled")

    # -- pages -------------------------------------------------------------------------------------------------------

    def _file(self, file: int) -> File:
        return self._files.by_addr[file]

    @kcall
    def pagecache_get_page(self, file: int, index: int, create: bool) -> int:
        """struct page *pagecache_get_page(struct file *file, unsigned long index, bool create): with a reference."""
        inode, pages = self._file(file).f_inode, self._init_mm.pages
        try:
            pfn = inode.get_page(index) if create else inode.i_mapping.i_pages.get(index)
        except OutOfMemoryError:
            return -_ENOMEM
        if pfn is None:
            return 0
        pages.get_page(pfn)
        return pages.pfn_to_page(pfn)

    @kcall
    def folio_write_end(self, file: int, pos: int, copied: int) -> None:
        """void folio_write_end(struct file *file, loff_t pos, size_t copied): a_ops->write_end()."""
        inode = self._file(file).f_inode
        if copied:
            inode.i_mapping.mark_dirty(pos >> PAGE_SHIFT)
            if pos + copied > inode.i_size:
                inode.i_size = pos + copied

    @kcall
    def notify_change(self, file: int, size: int) -> None:
        """void notify_change(struct file *file, loff_t size): ATTR_SIZE."""
        self._file(file).f_inode.truncate(size)

    @kcall
    def mapping_seek_hole_data(self, file: int, start: int, end: int, whence: int) -> int:
        """loff_t mapping_seek_hole_data(struct file *file, loff_t start, loff_t end, int whence): data is what has a
        page; -ENXIO where there is none before `end`."""
        if start >= end:
            return -_ENXIO
        pages = self._file(file).f_mapping.i_pages
        index = start >> PAGE_SHIFT
        if whence == _SEEK_DATA:
            found = next(pages.irange(index), None)
            where = start if found is None else max(start, found << PAGE_SHIFT)
            return where if found is not None and where < end else -_ENXIO
        while index in pages:
            index += 1
        return min(max(start, index << PAGE_SHIFT), end)
