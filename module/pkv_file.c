// SPDX-License-Identifier: GPL-2.0
/*
 * pkv: the file operations.
 *
 * User memory is never touched with the store locked: a fault there can take
 * as long as user space likes (userfaultfd, FUSE), and everybody else would
 * wait.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/fs.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "pkv_device.h"

/* Count a call, and that it failed if @ret is negative; returns @ret. */
static loff_t pkv_count(struct pkv *pkv, enum pkv_op op, loff_t ret)
{
	atomic64_inc(&pkv->counts[op].calls);
	if (ret < 0)
		atomic64_inc(&pkv->counts[op].errors);
	return ret;
}

static int pkv_open(struct inode *inode, struct file *file)
{
	struct pkv *pkv = container_of(inode->i_cdev, struct pkv, cdev);

	file->private_data = pkv;
	atomic_inc(&pkv->files);
	pr_debug("opened by %s[%d]\n", current->comm, task_pid_nr(current));
	return pkv_count(pkv, PKV_OP_OPEN, 0);
}

static int pkv_release(struct inode *inode, struct file *file)
{
	struct pkv *pkv = file->private_data;

	atomic_dec(&pkv->files);
	pr_debug("closed by %s[%d]\n", current->comm, task_pid_nr(current));
	return 0;
}

static ssize_t pkv_do_read(struct pkv *pkv, char __user *buf, size_t count,
			   loff_t *ppos)
{
	char value[PKV_VALUE_MAX];
	ssize_t len;

	len = pkv_store_last(&pkv->store, value);
	if (len < 0)
		return len;

	return simple_read_from_buffer(buf, count, ppos, value, len);
}

static ssize_t pkv_read(struct file *file, char __user *buf, size_t count,
			loff_t *ppos)
{
	struct pkv *pkv = file->private_data;

	return pkv_count(pkv, PKV_OP_READ, pkv_do_read(pkv, buf, count, ppos));
}

static ssize_t pkv_do_write(struct pkv *pkv, const char __user *buf,
			    size_t count, loff_t *ppos)
{
	char *data;
	int ret;

	if (count > PKV_WRITE_MAX)
		return -EMSGSIZE;

	data = vmemdup_user(buf, count);
	if (IS_ERR(data))
		return PTR_ERR(data);

	ret = pkv_store_write(&pkv->store, data, count);
	kvfree(data);
	if (ret)
		return ret;

	wake_up_interruptible_poll(&pkv->changed, EPOLLIN | EPOLLRDNORM);

	/* There is a new value to read: start at its beginning. */
	*ppos = 0;
	return count;
}

static ssize_t pkv_write(struct file *file, const char __user *buf,
			 size_t count, loff_t *ppos)
{
	struct pkv *pkv = file->private_data;

	return pkv_count(pkv, PKV_OP_WRITE,
			 pkv_do_write(pkv, buf, count, ppos));
}

static loff_t pkv_llseek(struct file *file, loff_t offset, int whence)
{
	struct pkv *pkv = file->private_data;
	ssize_t size = pkv_store_last_size(&pkv->store);
	loff_t ret;

	ret = generic_file_llseek_size(file, offset, whence, MAX_LFS_FILESIZE,
				       max_t(ssize_t, size, 0));
	return pkv_count(pkv, PKV_OP_LLSEEK, ret);
}

/* Readable while there is a value; a write that stores one wakes pollers. */
static __poll_t pkv_poll(struct file *file, poll_table *wait)
{
	struct pkv *pkv = file->private_data;
	__poll_t events = EPOLLOUT | EPOLLWRNORM;

	poll_wait(file, &pkv->changed, wait);
	if (pkv_store_last_size(&pkv->store) >= 0)
		events |= EPOLLIN | EPOLLRDNORM;
	pkv_count(pkv, PKV_OP_POLL, 0);
	return events;
}

static long pkv_list(struct pkv *pkv, struct pkv_list __user *argp)
{
	struct pkv_entry *entries;
	struct pkv_list list;
	u32 room, count;
	long ret = 0;

	if (copy_from_user(&list, argp, sizeof(list)))
		return -EFAULT;
	if (list.reserved)
		return -EINVAL;

	room = min_t(u32, list.room, PKV_SLOTS);
	entries = kcalloc(room, sizeof(*entries), GFP_KERNEL);
	if (!entries)
		return -ENOMEM;

	count = pkv_store_list(&pkv->store, entries, room);
	if (copy_to_user(u64_to_user_ptr(list.buf), entries,
			 min(count, room) * sizeof(*entries)) ||
	    put_user(count, &argp->count))
		ret = -EFAULT;

	kfree(entries);
	return ret;
}

static long pkv_delete(struct pkv *pkv, const struct pkv_delete __user *argp)
{
	struct pkv_delete req;

	if (copy_from_user(&req, argp, sizeof(req)))
		return -EFAULT;
	if (req.reserved || !req.key_len || req.key_len > PKV_KEY_MAX)
		return -EINVAL;

	return pkv_store_delete(&pkv->store, req.key, req.key_len);
}

static long pkv_clear(struct pkv *pkv)
{
	pkv_store_clear(&pkv->store);
	return 0;
}

static long pkv_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	bool readable = file->f_mode & FMODE_READ;
	bool writable = file->f_mode & FMODE_WRITE;
	struct pkv *pkv = file->private_data;
	void __user *argp = (void __user *)arg;

	switch (cmd) {
	case PKV_IOC_LIST:
		return pkv_count(pkv, PKV_OP_LIST,
				 readable ? pkv_list(pkv, argp) : -EBADF);
	case PKV_IOC_DELETE:
		return pkv_count(pkv, PKV_OP_DELETE,
				 writable ? pkv_delete(pkv, argp) : -EBADF);
	case PKV_IOC_CLEAR:
		return pkv_count(pkv, PKV_OP_CLEAR,
				 writable ? pkv_clear(pkv) : -EBADF);
	default:
		return -ENOTTY;
	}
}

const struct file_operations pkv_fops = {
	.owner = THIS_MODULE,
	.open = pkv_open,
	.release = pkv_release,
	.read = pkv_read,
	.write = pkv_write,
	.llseek = pkv_llseek,
	.poll = pkv_poll,
	.unlocked_ioctl = pkv_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
