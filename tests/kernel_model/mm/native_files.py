"""Run by test_native_files.py in a process of its own: mappings of files in memory, on this machine's kernel.

Reads {"base": ..., "scripts": [[[operation, ...], ...], ...]} from stdin; prints, for each script, what each operation
gave and the window's VMAs after it: [first page, pages, "rwxp", page of the file, number of the file].
"""

import ctypes
import json
import os
import sys

PAGE, WINDOW, FILES = 4096, 64, 2
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.write.argtypes = libc.read.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]


class Native:
    """One script's files, and a pipe through which the kernel reads and writes memory for us: EFAULT, no signal."""

    def __init__(self, base):
        self.base = base
        self.files = [os.memfd_create(f"file {n}") for n in range(FILES)]
        self.inodes = {os.fstat(fd).st_ino: n for n, fd in enumerate(self.files)}
        self.pipe = os.pipe()

    def close(self):
        libc.munmap(self.base, WINDOW * PAGE)
        for fd in [*self.files, *self.pipe]:
            os.close(fd)

    def vmas(self):
        found = []
        with open("/proc/self/maps") as maps:
            for line in maps:
                span, perms, offset, _, inode = line.split()[:5]
                start, end = (int(x, 16) for x in span.split("-"))
                if end > self.base and start < self.base + WINDOW * PAGE:
                    # shared anonymous memory has files too: numbered as they are seen
                    number = self.inodes.setdefault(int(inode), len(self.inodes)) if int(inode) else -1
                    first, pages = (start - self.base) // PAGE, (end - start) // PAGE
                    found.append([first, pages, perms, int(offset, 16) // PAGE, number])
        return found

    def map(self, page, pages, prot, flags, file, pgoff):
        at = self.base + page * PAGE
        got = libc.mmap(at, pages * PAGE, prot, flags, self.files[file] if file >= 0 else -1, pgoff * PAGE)
        return 0 if got == at else -ctypes.get_errno()

    def unmap(self, page, pages):
        return libc.munmap(self.base + page * PAGE, pages * PAGE) and -ctypes.get_errno()

    def protect(self, page, pages, prot):
        return libc.mprotect(self.base + page * PAGE, pages * PAGE, prot) and -ctypes.get_errno()

    def write(self, page, offset, value):
        os.write(self.pipe[1], bytes([value]))
        done = libc.read(self.pipe[0], self.base + page * PAGE + offset, 1)
        if done == 1:
            return 0
        error = -ctypes.get_errno()
        os.read(self.pipe[0], 1)
        return error

    def read(self, page, offset):
        done = libc.write(self.pipe[1], self.base + page * PAGE + offset, 1)
        return os.read(self.pipe[0], 1)[0] if done == 1 else -ctypes.get_errno()

    def truncate(self, file, size):
        os.ftruncate(self.files[file], size)
        return 0

    def pwrite(self, file, pos, value):
        return os.pwrite(self.files[file], bytes([value]), pos)

    def pread(self, file, pos):
        data = os.pread(self.files[file], 1, pos)
        return data[0] if data else -1


def main():
    asked = json.load(sys.stdin)
    answers = []
    for script in asked["scripts"]:
        native = Native(asked["base"])
        if native.vmas():
            sys.exit("the window is in use")
        answers.append([[getattr(native, name)(*rest), native.vmas()] for name, *rest in script])
        native.close()
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
