"""Files: inodes, open files, descriptor tables and the system calls on them."""
