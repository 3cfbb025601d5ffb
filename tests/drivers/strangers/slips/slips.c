// SPDX-License-Identifier: GPL-2.0
/* Slips of paper that are spliced in and out, and kept until they are synchronised. */
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pipe_fs_i.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include <linux/uaccess.h>

#define SLIP_SIZE	64

struct slip {
	size_t length;
	char text[SLIP_SIZE];
};

static DEFINE_MUTEX(lock);
static struct slip *slip;

/* The bug: a slip that is spliced in may be longer than there is room. */
static int slips_take(struct pipe_inode_info *pipe, struct pipe_buffer *buffer,
		      struct splice_desc *desc)
{
	char *from;

	if (!slip)
		return -ENODATA;
	from = kmap_local_page(buffer->page);
	memcpy(slip->text, from + buffer->offset, desc->len);
	slip->length = desc->len;
	kunmap_local(from);
	return desc->len;
}

static ssize_t slips_splice_write(struct pipe_inode_info *pipe, struct file *file, loff_t *at,
				  size_t size, unsigned int flags)
{
	struct splice_desc desc = { .total_len = size, .flags = flags, .pos = *at };
	ssize_t ret;

	desc.u.file = file;
	pipe_lock(pipe);
	mutex_lock(&lock);
	ret = __splice_from_pipe(pipe, &desc, slips_take);
	mutex_unlock(&lock);
	pipe_unlock(pipe);
	return ret;
}

static ssize_t slips_write(struct file *file, const char __user *data, size_t size, loff_t *at)
{
	ssize_t ret = size;

	if (size > SLIP_SIZE)
		return -EMSGSIZE;
	mutex_lock(&lock);
	if (!slip)
		slip = kzalloc(sizeof(*slip), GFP_KERNEL);
	if (!slip)
		ret = -ENOMEM;
	else if (copy_from_user(slip->text, data, size))
		ret = -EFAULT;
	else
		slip->length = size;
	mutex_unlock(&lock);
	return ret;
}

static int slips_release(struct inode *inode, struct file *file)
{
	mutex_lock(&lock);
	kfree(slip);
	slip = NULL;
	mutex_unlock(&lock);
	return 0;
}

/* The bug: whether anything was lost is asked of a slip that is gone. */
static int slips_fsync(struct file *file, loff_t from, loff_t to, int only_data)
{
	int ret = 0;

	mutex_lock(&lock);
	if (slip) {
		kfree(slip);
		if (only_data && slip->length)
			ret = -EAGAIN;
		slip = NULL;
	}
	mutex_unlock(&lock);
	return ret;
}

static const struct file_operations slips_fops = {
	.owner = THIS_MODULE,
	.release = slips_release,
	.write = slips_write,
	.splice_write = slips_splice_write,
	.fsync = slips_fsync,
};

static struct miscdevice slips_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "slips",
	.fops = &slips_fops,
};
module_misc_device(slips_device);

MODULE_DESCRIPTION("Slips that are spliced");
MODULE_LICENSE("GPL");
