"""Descriptors: which open file each number of a process means.

Mirrors fs/file.c (alloc_fd, fd_install, file_close_fd, dup_fd, put_files_struct) and struct files_struct. Numbers 0
to 2 are taken, as in a program that a shell has started; where they lead is known elsewhere. Leaves out: RLIMIT_NOFILE
other than the usual one, close-on-exec (there is no execve()), dup() and fcntl().
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kernel_model.fs.file import File

RLIMIT_NOFILE = 1024
_EMFILE = 24
_STANDARD = 3  # stdin, stdout, stderr


def _standard() -> dict[int, File | None]:
    return dict.fromkeys(range(_STANDARD))


@dataclass(slots=True, eq=False)
class FilesStruct:
    """struct files_struct: `fds` holds a reference to each file; None where a number is taken but not (yet) open.

    `held`: references of system calls that are under way in its tasks; a task that dies inside one leaves them here.
    """

    fds: dict[int, File | None] = field(default_factory=_standard)
    count: int = 1  # tasks that have it
    held: list[File] = field(default_factory=list)

    def get_unused_fd(self) -> int:
        """get_unused_fd_flags(): the lowest free number, now taken; -EMFILE."""
        fd = next(n for n in range(RLIMIT_NOFILE + 1) if n not in self.fds)
        if fd == RLIMIT_NOFILE:
            return -_EMFILE
        self.fds[fd] = None
        return fd

    def install(self, file: File) -> int:
        """A descriptor for `file`, whose reference it takes over; -EMFILE leaves it to the caller."""
        fd = self.get_unused_fd()
        if fd >= 0:
            self.fds[fd] = file
        return fd

    def share(self) -> FilesStruct:
        """CLONE_FILES."""
        self.count += 1
        return self

    def dup_fd(self) -> FilesStruct:
        """dup_fd(): a copy with the same open files; numbers that are about to be opened are free in it."""
        copied = {fd: file.get_file() if file else None for fd, file in self.fds.items() if file or fd < _STANDARD}
        return FilesStruct(copied)

    def put(self) -> None:
        """put_files_struct(): the last task closes all, in the order of their numbers."""
        self.count -= 1
        if self.count:
            return
        opened = [file for _, file in sorted(self.fds.items()) if file is not None]
        self.fds.clear()
        for file in [*opened, *self.held]:
            file.fput()
        self.held.clear()


class OpenFiles:
    """The files that guest text knows by address."""

    def __init__(self) -> None:
        self.by_addr: dict[int, File] = {}

    def add(self, file: File) -> File:
        """Make `file` known until it is released."""
        self.by_addr[file.addr] = file
        file.on_release.append(self._forget)
        return file

    def _forget(self, file: File) -> None:
        del self.by_addr[file.addr]
