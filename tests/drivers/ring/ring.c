// SPDX-License-Identifier: GPL-2.0
/*
 * ring: a ring buffer of bytes that user space can map.
 *
 * The tail is read from a page that user space can write at any time. So it is
 * read once for an operation, checked, and only the copy is used.
 *
 * The lock is taken by page faults, and so never held where user memory is
 * touched.
 */
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/log2.h>
#include <linux/minmax.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>

#include "ring.h"

/**
 * struct ring_buffer - memory of a ring
 * @data: its bytes, page aligned
 * @control: the control page, right behind them
 * @size: bytes of data, a power of two
 * @n_pages: pages that can be mapped
 * @pages: these
 */
struct ring_buffer {
	u8 *data;
	struct ring_control *control;
	u32 size;
	unsigned int n_pages;
	struct page *pages[];
};

static DEFINE_MUTEX(ring_lock);	/* protects what follows, but for the queue */
static struct ring_buffer *ring;
static u32 ring_head;
static u32 ring_watermark;
static u32 ring_timeout_ms;
static unsigned long ring_changes;	/* counts them; read without the lock */
static DECLARE_WAIT_QUEUE_HEAD(ring_wait);

static struct ring_buffer *ring_alloc(unsigned int data_pages)
{
	unsigned int n_pages = data_pages + 1;
	struct ring_buffer *buf;

	buf = kzalloc(struct_size(buf, pages, n_pages), GFP_KERNEL);
	if (!buf)
		return NULL;
	buf->data = vmalloc_user(n_pages * PAGE_SIZE);
	if (!buf->data) {
		kfree(buf);
		return NULL;
	}

	buf->size = data_pages * PAGE_SIZE;
	buf->control = (void *)(buf->data + buf->size);
	buf->n_pages = n_pages;
	for (unsigned int i = 0; i < n_pages; i++)
		buf->pages[i] = vmalloc_to_page(buf->data + i * PAGE_SIZE);
	return buf;
}

/* Pages that are mapped stay until they are not. */
static void ring_free(struct ring_buffer *buf)
{
	vfree(buf->data);
	kfree(buf);
}

static void ring_changed(void)
{
	WRITE_ONCE(ring_changes, ring_changes + 1);
	wake_up_interruptible(&ring_wait);
}

/* Empty the ring, which gets so many pages. */
static int ring_resize(unsigned long data_pages)
{
	struct ring_buffer *buf;

	if (!is_power_of_2(data_pages) || data_pages > RING_PAGES_MAX)
		return -EINVAL;
	if (ring->size != data_pages * PAGE_SIZE) {
		buf = ring_alloc(data_pages);
		if (!buf)
			return -ENOMEM;
		ring_free(ring);
		ring = buf;
	}
	ring_head = 0;
	ring_watermark = min(ring_watermark, ring->size);
	WRITE_ONCE(ring->control->tail, 0);
	WRITE_ONCE(ring->control->head, 0);
	ring_changed();
	return 0;
}

/* The tail, and how many bytes there are from it on; -EIO if that cannot be. */
static int ring_used(u32 *tail, u32 *used)
{
	*tail = READ_ONCE(ring->control->tail);
	*used = ring_head - *tail;
	return *used > ring->size ? -EIO : 0;
}

static void ring_copy_in(u32 head, const u8 *from, u32 count)
{
	u32 at = head % ring->size;
	u32 first = min(count, ring->size - at);

	memcpy(ring->data + at, from, first);
	memcpy(ring->data, from + first, count - first);
}

static void ring_copy_out(u8 *to, u32 tail, u32 count)
{
	u32 at = tail % ring->size;
	u32 first = min(count, ring->size - at);

	memcpy(to, ring->data + at, first);
	memcpy(to + first, ring->data, count - first);
}

static ssize_t ring_put(const u8 *from, size_t count)
{
	u32 tail, used;
	int ret;

	ret = ring_used(&tail, &used);
	if (ret)
		return ret;
	count = min_t(size_t, count, ring->size - used);
	if (!count)
		return -EAGAIN;
	ring_copy_in(ring_head, from, count);
	ring_head += count;
	WRITE_ONCE(ring->control->head, ring_head);
	ring_changed();
	return count;
}

/* Take up to @count bytes out. They are in memory of its own, to be freed. */
static ssize_t ring_take(u8 **to, size_t count)
{
	u32 tail, used;
	int ret;

	ret = ring_used(&tail, &used);
	if (ret)
		return ret;
	count = min_t(size_t, count, used);
	if (!count)
		return -EAGAIN;
	*to = kmalloc(count, GFP_KERNEL);
	if (!*to)
		return -ENOMEM;
	ring_copy_out(*to, tail, count);
	WRITE_ONCE(ring->control->tail, tail + count);
	return count;
}

static ssize_t ring_read(struct file *file, char __user *buf, size_t count,
			 loff_t *ppos)
{
	unsigned long changes;
	u8 *data = NULL;
	long left = -1;
	ssize_t ret;

	if (!count)
		return 0;
	for (;;) {
		mutex_lock(&ring_lock);
		changes = ring_changes;
		ret = ring_take(&data, count);
		if (left < 0)
			left = msecs_to_jiffies(ring_timeout_ms);
		mutex_unlock(&ring_lock);
		if (ret != -EAGAIN || !left || file->f_flags & O_NONBLOCK)
			break;
		left = wait_event_interruptible_timeout(ring_wait,
							READ_ONCE(ring_changes) != changes,
							left);
		if (left < 0)
			return left;
	}
	if (ret > 0 && copy_to_user(buf, data, ret))
		ret = -EFAULT;
	kfree(data);
	return ret;
}

static ssize_t ring_write(struct file *file, const char __user *buf,
			  size_t count, loff_t *ppos)
{
	ssize_t ret;
	u8 *data;

	if (!count)
		return 0;
	count = min_t(size_t, count, RING_PAGES_MAX * PAGE_SIZE);
	data = memdup_user(buf, count);
	if (IS_ERR(data))
		return PTR_ERR(data);

	mutex_lock(&ring_lock);
	ret = ring_put(data, count);
	mutex_unlock(&ring_lock);

	kfree(data);
	return ret;
}

static __poll_t ring_poll(struct file *file, poll_table *wait)
{
	__poll_t events = 0;
	u32 tail, used;

	poll_wait(file, &ring_wait, wait);
	mutex_lock(&ring_lock);
	if (ring_used(&tail, &used)) {
		events = EPOLLERR;
	} else {
		if (used >= ring_watermark)
			events |= EPOLLIN | EPOLLRDNORM;
		if (used < ring->size)
			events |= EPOLLOUT | EPOLLWRNORM;
	}
	mutex_unlock(&ring_lock);
	return events;
}

static long ring_set_watermark(const struct ring_watermark __user *argp)
{
	struct ring_watermark arg;
	long ret = -EINVAL;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	if (!arg.bytes || arg.timeout_ms > RING_TIMEOUT_MAX)
		return -EINVAL;

	mutex_lock(&ring_lock);
	if (arg.bytes <= ring->size) {
		ring_watermark = arg.bytes;
		ring_timeout_ms = arg.timeout_ms;
		ring_changed();
		ret = 0;
	}
	mutex_unlock(&ring_lock);
	return ret;
}

static long ring_query(struct ring_state __user *argp)
{
	struct ring_state state = { };

	mutex_lock(&ring_lock);
	if (ring_used(&state.tail, &state.used))
		state.used = 0;
	state.size = ring->size;
	state.head = ring_head;
	state.watermark = ring_watermark;
	state.timeout_ms = ring_timeout_ms;
	mutex_unlock(&ring_lock);
	return copy_to_user(argp, &state, sizeof(state)) ? -EFAULT : 0;
}

static long ring_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	long ret;

	switch (cmd) {
	case RING_IOC_SET_WATERMARK:
		return ring_set_watermark((void __user *)arg);
	case RING_IOC_QUERY:
		return ring_query((void __user *)arg);
	case RING_IOC_RESIZE:
		mutex_lock(&ring_lock);
		ret = ring_resize(arg);
		mutex_unlock(&ring_lock);
		return ret;
	case RING_IOC_RESET:
		mutex_lock(&ring_lock);
		ring_watermark = 1;
		ring_timeout_ms = 0;
		ret = ring_resize(1);
		mutex_unlock(&ring_lock);
		return ret;
	default:
		return -ENOTTY;
	}
}

/* The ring may have shrunk since it was mapped. */
static vm_fault_t ring_fault(struct vm_fault *vmf)
{
	vm_fault_t ret = VM_FAULT_SIGBUS;

	mutex_lock(&ring_lock);
	if (vmf->pgoff < ring->n_pages) {
		vmf->page = ring->pages[vmf->pgoff];
		get_page(vmf->page);
		ret = 0;
	}
	mutex_unlock(&ring_lock);
	return ret;
}

static const struct vm_operations_struct ring_vm_ops = {
	.fault = ring_fault,
};

static int ring_mmap(struct file *file, struct vm_area_struct *vma)
{
	int ret = -EINVAL;

	mutex_lock(&ring_lock);
	if (vma->vm_pgoff < ring->n_pages &&
	    vma_pages(vma) <= ring->n_pages - vma->vm_pgoff) {
		vma->vm_ops = &ring_vm_ops;
		ret = 0;
	}
	mutex_unlock(&ring_lock);
	return ret;
}

static const struct file_operations ring_fops = {
	.owner = THIS_MODULE,
	.read = ring_read,
	.write = ring_write,
	.poll = ring_poll,
	.mmap = ring_mmap,
	.unlocked_ioctl = ring_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice ring_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &ring_fops,
	.mode = 0600,
};

static int __init ring_init(void)
{
	int ret;

	ring = ring_alloc(1);
	if (!ring)
		return -ENOMEM;
	ring_watermark = 1;
	ret = misc_register(&ring_device);
	if (ret)
		ring_free(ring);
	return ret;
}
module_init(ring_init);

static void __exit ring_exit(void)
{
	misc_deregister(&ring_device);
	ring_free(ring);
}
module_exit(ring_exit);

MODULE_DESCRIPTION("Ring buffer that user space can map");
MODULE_AUTHOR("The pkvfuzz authors");
MODULE_LICENSE("GPL");
