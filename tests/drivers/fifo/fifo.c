// SPDX-License-Identifier: GPL-2.0
/*
 * fifo: a queue of bytes, whose readers wait for its writers.
 *
 * Who waits looks at the queue that was there when it began. It can be replaced
 * only while nobody waits.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/minmax.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "fifo.h"

#define FIFO_SIZE	64

/**
 * struct fifo_queue - the bytes
 * @size: so many fit
 * @n: so many are there
 * @data: these
 */
struct fifo_queue {
	size_t size;
	size_t n;
	u8 data[];
};

static struct fifo_queue *fifo;
static unsigned int fifo_waiting;
static DECLARE_WAIT_QUEUE_HEAD(fifo_readers);
static DEFINE_MUTEX(fifo_lock);	/* protects fifo, what it points to, fifo_waiting */

static struct fifo_queue *fifo_new(size_t size)
{
	struct fifo_queue *queue;

	if (!size || size > FIFO_SIZE_MAX)
		return ERR_PTR(-EINVAL);
	queue = kzalloc(struct_size(queue, data, size), GFP_KERNEL);
	if (!queue)
		return ERR_PTR(-ENOMEM);
	queue->size = size;
	return queue;
}

/* Wait for the first byte with the lock released. */
static int fifo_wait(void)
{
	struct fifo_queue *queue = fifo;
	int error;

	fifo_waiting++;
	mutex_unlock(&fifo_lock);
	error = wait_event_interruptible(fifo_readers, READ_ONCE(queue->n));
	mutex_lock(&fifo_lock);
	fifo_waiting--;
	return error;
}

static ssize_t fifo_take(char __user *buf, size_t count)
{
	count = min(count, fifo->n);
	if (copy_to_user(buf, fifo->data, count))
		return -EFAULT;
	WRITE_ONCE(fifo->n, fifo->n - count);
	memmove(fifo->data, fifo->data + count, fifo->n);
	return count;
}

static ssize_t fifo_read(struct file *file, char __user *buf, size_t count, loff_t *pos)
{
	ssize_t ret = 0;

	mutex_lock(&fifo_lock);
	while (!fifo->n && !ret)
		ret = file->f_flags & O_NONBLOCK ? -EAGAIN : fifo_wait();
	if (!ret)
		ret = fifo_take(buf, count);
	mutex_unlock(&fifo_lock);
	return ret;
}

static ssize_t fifo_write(struct file *file, const char __user *buf, size_t count, loff_t *pos)
{
	ssize_t ret;

	mutex_lock(&fifo_lock);
	ret = min(count, fifo->size - fifo->n);
	if (count && !ret)
		ret = -ENOSPC;
	else if (copy_from_user(fifo->data + fifo->n, buf, ret))
		ret = -EFAULT;
	else
		WRITE_ONCE(fifo->n, fifo->n + ret);
	if (ret > 0)
		wake_up_interruptible(&fifo_readers);
	mutex_unlock(&fifo_lock);
	return ret;
}

static long fifo_resize(size_t size)
{
	struct fifo_queue *queue = fifo_new(size);

	if (IS_ERR(queue))
		return PTR_ERR(queue);
	if (fifo_waiting) {
		kfree(queue);
		return -EBUSY;
	}
	kfree(fifo);
	fifo = queue;
	return 0;
}

static long fifo_hold(unsigned long ms)
{
	return msleep_interruptible(min_t(unsigned long, ms, FIFO_HOLD_MAX)) ? -EINTR : 0;
}

static long fifo_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	long ret = -ENOTTY;

	mutex_lock(&fifo_lock);
	switch (cmd) {
	case FIFO_IOC_RESET:
		ret = fifo_resize(FIFO_SIZE);
		break;
	case FIFO_IOC_RESIZE:
		ret = fifo_resize(arg);
		break;
	case FIFO_IOC_HOLD:
		ret = fifo_hold(arg);
		break;
	}
	mutex_unlock(&fifo_lock);
	return ret;
}

static const struct file_operations fifo_fops = {
	.owner = THIS_MODULE,
	.read = fifo_read,
	.write = fifo_write,
	.unlocked_ioctl = fifo_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice fifo_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "fifo",
	.fops = &fifo_fops,
};

static int __init fifo_init(void)
{
	int error;

	fifo = fifo_new(FIFO_SIZE);
	if (IS_ERR(fifo))
		return PTR_ERR(fifo);
	error = misc_register(&fifo_device);
	if (error)
		kfree(fifo);
	return error;
}
module_init(fifo_init);

static void __exit fifo_exit(void)
{
	misc_deregister(&fifo_device);
	kfree(fifo);
}
module_exit(fifo_exit);

MODULE_DESCRIPTION("Queue of bytes whose readers wait");
MODULE_AUTHOR("The pkvfuzz authors");
MODULE_LICENSE("GPL");
