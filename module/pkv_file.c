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
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "pkv_device.h"

/* Count a call, and that it failed if @ret is negative; returns @ret. */
static loff_t pkv_count(struct pkv *pkv, enum pkv_op op, loff_t ret)
{
	this_cpu_inc(pkv->counts->calls[op]);
	if (ret < 0)
		this_cpu_inc(pkv->counts->errors[op]);
	return ret;
}

static struct pkv *pkv_of(struct file *file)
{
	struct pkv_file *pf = file->private_data;

	return pf->pkv;
}

static int pkv_do_open(struct pkv *pkv, struct file *file)
{
	struct pkv_file *pf = kzalloc(sizeof(*pf), GFP_KERNEL_ACCOUNT);

	if (!pf)
		return -ENOMEM;

	pf->pkv = pkv;
	mutex_init(&pf->lock);
	file->private_data = pf;
	/* No call waits for anything but memory and short sections. */
	file->f_mode |= FMODE_NOWAIT;
	atomic_inc(&pkv->files);
	pr_debug("opened by %s[%d]\n", current->comm, task_pid_nr(current));
	return 0;
}

static int pkv_open(struct inode *inode, struct file *file)
{
	struct pkv *pkv = container_of(inode->i_cdev, struct pkv, cdev);

	return pkv_count(pkv, PKV_OP_OPEN, pkv_do_open(pkv, file));
}

static int pkv_release(struct inode *inode, struct file *file)
{
	struct pkv_file *pf = file->private_data;

	atomic_dec(&pf->pkv->files);
	mutex_destroy(&pf->lock);
	kfree(pf);
	pr_debug("closed by %s[%d]\n", current->comm, task_pid_nr(current));
	return 0;
}

/**
 * pkv_file_value() - copy the value that a read at some position is of
 * @pf: the file
 * @ppos: the position; 0 afterwards if another value is begun
 * @value: room for PKV_VALUE_MAX bytes
 *
 * Whoever goes on where the last read ended, goes on in the same value, and at
 * its end begins the next one, if there is one by then. All other reads are of
 * the value that there is now.
 *
 * Return: bytes in the value, or -ENODATA if there is none.
 */
static ssize_t pkv_file_value(struct pkv_file *pf, loff_t *ppos, char *value)
{
	bool goes_on;
	ssize_t len;
	u64 before;

	mutex_lock(&pf->lock);
	goes_on = *ppos && *ppos == pf->next;
	len = pf->len;
	if (!goes_on || *ppos >= len) {
		before = pf->generation;
		len = pkv_store_last(&pf->pkv->store, pf->value,
				     &pf->generation);
		if (goes_on && len >= 0 && pf->generation != before)
			*ppos = 0;
		pf->len = max_t(ssize_t, len, 0);
		pf->next = *ppos;
	}
	memcpy(value, pf->value, pf->len);
	mutex_unlock(&pf->lock);
	return len;
}

static void pkv_file_goes_on_at(struct pkv_file *pf, loff_t pos)
{
	mutex_lock(&pf->lock);
	pf->next = pos;
	mutex_unlock(&pf->lock);
}

static ssize_t pkv_do_read(struct pkv_file *pf, struct iov_iter *to,
			   loff_t *ppos)
{
	char value[PKV_VALUE_MAX];
	loff_t pos = *ppos;
	size_t copied = 0;
	ssize_t len;

	len = pkv_file_value(pf, &pos, value);
	if (len < 0)
		return len;

	if (pos < len && iov_iter_count(to)) {
		copied = copy_to_iter(value + pos, len - pos, to);
		if (!copied)
			return -EFAULT;
	}
	*ppos = pos + copied;
	pkv_file_goes_on_at(pf, *ppos);
	return copied;
}

static ssize_t pkv_read(struct kiocb *iocb, struct iov_iter *to)
{
	struct pkv_file *pf = iocb->ki_filp->private_data;

	return pkv_count(pf->pkv, PKV_OP_READ,
			 pkv_do_read(pf, to, &iocb->ki_pos));
}

/* One write, whatever its segments. */
static ssize_t pkv_do_write(struct pkv *pkv, struct iov_iter *from,
			    loff_t *ppos)
{
	size_t count = iov_iter_count(from);
	int ret = -EFAULT;
	char *data;

	if (count > PKV_WRITE_MAX)
		return -EMSGSIZE;

	data = kvmalloc(count, GFP_KERNEL);
	if (!data)
		return -ENOMEM;

	if (copy_from_iter_full(data, count, from))
		ret = pkv_store_write(&pkv->store, data, count);
	kvfree(data);
	if (ret)
		return ret;

	/* Mostly nobody waits: then no lock is taken. */
	if (wq_has_sleeper(&pkv->changed))
		wake_up_interruptible_poll(&pkv->changed,
					   EPOLLIN | EPOLLRDNORM);

	/* There is a new value to read: start at its beginning. */
	*ppos = 0;
	return count;
}

static ssize_t pkv_write(struct kiocb *iocb, struct iov_iter *from)
{
	struct pkv *pkv = pkv_of(iocb->ki_filp);

	return pkv_count(pkv, PKV_OP_WRITE,
			 pkv_do_write(pkv, from, &iocb->ki_pos));
}

static loff_t pkv_llseek(struct file *file, loff_t offset, int whence)
{
	struct pkv *pkv = pkv_of(file);
	u64 generation;
	ssize_t size;
	loff_t ret;

	size = pkv_store_last_size(&pkv->store, &generation);
	ret = generic_file_llseek_size(file, offset, whence, MAX_LFS_FILESIZE,
				       max_t(ssize_t, size, 0));
	return pkv_count(pkv, PKV_OP_LLSEEK, ret);
}

/* Whether there is something that was not read from this file. */
static bool pkv_file_has_unread(struct pkv_file *pf)
{
	u64 generation;
	ssize_t size;
	bool unread;

	mutex_lock(&pf->lock);
	size = pkv_store_last_size(&pf->pkv->store, &generation);
	unread = pf->next < pf->len ||
		 (size >= 0 && generation != pf->generation);
	mutex_unlock(&pf->lock);
	return unread;
}

/* Readable until what there is was read; each write wakes those who wait. */
static __poll_t pkv_poll(struct file *file, poll_table *wait)
{
	struct pkv *pkv = pkv_of(file);
	__poll_t events = EPOLLOUT | EPOLLWRNORM;

	poll_wait(file, &pkv->changed, wait);
	/* Pairs with that of wq_has_sleeper() in pkv_do_write(). */
	smp_mb();
	if (pkv_file_has_unread(file->private_data))
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
	struct pkv *pkv = pkv_of(file);
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
	.read_iter = pkv_read,
	.write_iter = pkv_write,
	.splice_read = copy_splice_read,
	.splice_write = iter_file_splice_write,
	.llseek = pkv_llseek,
	.poll = pkv_poll,
	.unlocked_ioctl = pkv_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
