// SPDX-License-Identifier: GPL-2.0
/*
 * Fills the free part of the kernel's stack each time that a driver's function is
 * called, for files that it was told of: what the driver then reads there without
 * having set it is known.
 *
 * ioctl(fd, number, byte) has calls on the file with that number come here first. The
 * kernel's way into a driver leaves much behind on the stack, so nothing that is done
 * before the call would do.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

/* A stack has 16 KiB or more. */
#define DEPTH 8192

/* The operations of a file, and those that it had. */
struct watched {
	struct file_operations fops;
	const struct file_operations *former;
	unsigned char byte;
};

static struct watched *watched_of(const struct file *file)
{
	return container_of(file->f_op, struct watched, fops);
}

/* The driver's function gets its frame where this one had its own. */
static noinline void fill(const struct file *file)
{
	unsigned char below[DEPTH];

	memset(below, watched_of(file)->byte, sizeof(below));
	barrier_data(below);
}

static ssize_t watched_read(struct file *file, char __user *to, size_t count,
			    loff_t *at)
{
	fill(file);
	return watched_of(file)->former->read(file, to, count, at);
}

static ssize_t watched_write(struct file *file, const char __user *from,
			     size_t count, loff_t *at)
{
	fill(file);
	return watched_of(file)->former->write(file, from, count, at);
}

static ssize_t watched_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	fill(iocb->ki_filp);
	return watched_of(iocb->ki_filp)->former->read_iter(iocb, to);
}

static ssize_t watched_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	fill(iocb->ki_filp);
	return watched_of(iocb->ki_filp)->former->write_iter(iocb, from);
}

static long watched_ioctl(struct file *file, unsigned int cmd,
			  unsigned long arg)
{
	fill(file);
	return watched_of(file)->former->unlocked_ioctl(file, cmd, arg);
}

static long watched_compat_ioctl(struct file *file, unsigned int cmd,
				 unsigned long arg)
{
	fill(file);
	return watched_of(file)->former->compat_ioctl(file, cmd, arg);
}

/* The kernel looks at the operations once more after this. */
static int watched_release(struct inode *inode, struct file *file)
{
	struct watched *watched = watched_of(file);

	file->f_op = watched->former;
	kfree(watched);
	return file->f_op->release ? file->f_op->release(inode, file) : 0;
}

static int watch(struct file *file, unsigned char byte)
{
	const struct file_operations *former = file->f_op;
	struct watched *watched;

	if (former->release == watched_release)
		return 0;
	watched = kzalloc(sizeof(*watched), GFP_KERNEL);
	if (!watched)
		return -ENOMEM;
	watched->fops = *former;
	watched->former = former;
	watched->byte = byte;
	if (former->read)
		watched->fops.read = watched_read;
	if (former->write)
		watched->fops.write = watched_write;
	if (former->read_iter)
		watched->fops.read_iter = watched_read_iter;
	if (former->write_iter)
		watched->fops.write_iter = watched_write_iter;
	if (former->unlocked_ioctl)
		watched->fops.unlocked_ioctl = watched_ioctl;
	if (former->compat_ioctl)
		watched->fops.compat_ioctl = watched_compat_ioctl;
	watched->fops.release = watched_release;
	file->f_op = &watched->fops;
	return 0;
}

static long pkvfuzz_stack_ioctl(struct file *self, unsigned int number,
				unsigned long byte)
{
	struct file *file = fget(number);
	int error;

	if (!file)
		return -EBADF;
	error = watch(file, byte);
	fput(file);
	return error;
}

static const struct file_operations pkvfuzz_stack_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = pkvfuzz_stack_ioctl,
};

static struct miscdevice pkvfuzz_stack = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "pkvfuzz_stack",
	.fops = &pkvfuzz_stack_fops,
};

module_misc_device(pkvfuzz_stack);

MODULE_DESCRIPTION("Fills free kernel stack with a byte");
MODULE_LICENSE("GPL");
