// SPDX-License-Identifier: GPL-2.0-only
/* memfd_create(2). Mirrors mm/memfd.c. Left out: huge pages, seals (there is no fcntl() that could set one). */
#include <linux/fs.h>
#include <linux/syscalls.h>

#define MFD_CLOEXEC 0x1U
#define MFD_ALLOW_SEALING 0x2U
#define MFD_HUGETLB 0x4U
#define MFD_NOEXEC_SEAL 0x8U
#define MFD_EXEC 0x10U
#define MFD_ALL_FLAGS (MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_NOEXEC_SEAL | MFD_EXEC)
#define MFD_HUGE_MASK (0x3fU << 26)
#define MFD_NAME_PREFIX "memfd:"
#define MFD_NAME_PREFIX_LEN (sizeof(MFD_NAME_PREFIX) - 1)
#define NAME_MAX 255
#define MFD_NAME_MAX_LEN (NAME_MAX - MFD_NAME_PREFIX_LEN)

/* kcalls: a reference or -errno; what is asked for is not there */
struct file *shmem_file_setup(const char *name, loff_t size, unsigned long flags);
void hugetlb_file_setup_not_modelled(void);

static int sanitize_flags(unsigned int flags)
{
	unsigned int known = MFD_ALL_FLAGS | (flags & MFD_HUGETLB ? MFD_HUGE_MASK : 0);

	if (flags & ~known || (flags & MFD_EXEC && flags & MFD_NOEXEC_SEAL))
		return -EINVAL;
	return 0;
}

__frame long __do_sys_memfd_create(const char *uname, unsigned int flags)
{
	char name[MFD_NAME_PREFIX_LEN + MFD_NAME_MAX_LEN + 1] = MFD_NAME_PREFIX;
	struct file *file;
	long len;
	int fd;

	if (sanitize_flags(flags))
		return -EINVAL;
	len = strncpy_from_user(name + MFD_NAME_PREFIX_LEN, uname, MFD_NAME_MAX_LEN + 1);
	if (len < 0)
		return -EFAULT;
	if (len > (long)MFD_NAME_MAX_LEN)
		return -EINVAL;
	if (flags & MFD_HUGETLB)
		hugetlb_file_setup_not_modelled();
	fd = get_unused_fd_flags(flags & MFD_CLOEXEC);
	if (fd < 0)
		return fd;
	file = shmem_file_setup(name, 0, 0);
	if (IS_ERR_VALUE(file)) {
		put_unused_fd((unsigned int)fd);
		return (long)file;
	}
	fd_install((unsigned int)fd, file);
	return fd;
}
