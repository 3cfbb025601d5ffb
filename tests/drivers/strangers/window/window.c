// SPDX-License-Identifier: GPL-2.0
/* Counts its mappings, of which a part counts as one, and can be waited for. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/slab.h>

#define WINDOW_COUNT	_IO('W', 1)
#define WINDOW_FORGET	_IO('W', 2)
#define WINDOW_SPOIL	_IO('W', 3)

struct window {
	wait_queue_head_t wait;
};

static DEFINE_MUTEX(lock);
static long mappings, most;
static bool spoilt;
static u8 *label;

static void window_vm_open(struct vm_area_struct *vma)
{
	mutex_lock(&lock);
	mappings++;
	most = max(most, mappings);
	mutex_unlock(&lock);
}

/* The bug: once spoilt, the label goes with each part of a mapping. */
static void window_vm_close(struct vm_area_struct *vma)
{
	mutex_lock(&lock);
	mappings--;
	if (spoilt)
		kfree(label);
	mutex_unlock(&lock);
}

static vm_fault_t window_fault(struct vm_fault *vmf)
{
	struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);

	if (!page)
		return VM_FAULT_OOM;
	vmf->page = page;
	return 0;
}

static const struct vm_operations_struct window_vm_ops = {
	.open = window_vm_open,
	.close = window_vm_close,
	.fault = window_fault,
};

static int window_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &window_vm_ops;
	window_vm_open(vma);
	return 0;
}

static ssize_t window_read(struct file *file, char __user *data, size_t size, loff_t *at)
{
	return most;
}

static __poll_t window_poll(struct file *file, poll_table *table)
{
	struct window *window = file->private_data;

	if (!window)
		return EPOLLERR;
	poll_wait(file, &window->wait, table);
	return EPOLLIN;
}

static long window_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case WINDOW_COUNT:
		return mappings;
	case WINDOW_FORGET:
		/* The bug: somebody may wait there. */
		kfree(file->private_data);
		file->private_data = NULL;
		return 0;
	case WINDOW_SPOIL:
		label = kzalloc(8, GFP_KERNEL);
		spoilt = label;
		return label ? 0 : -ENOMEM;
	}
	return -ENOTTY;
}

static int window_open(struct inode *inode, struct file *file)
{
	struct window *window = kzalloc(sizeof(*window), GFP_KERNEL);

	if (!window)
		return -ENOMEM;
	init_waitqueue_head(&window->wait);
	file->private_data = window;
	return 0;
}

static int window_release(struct inode *inode, struct file *file)
{
	kfree(file->private_data);
	return 0;
}

static const struct file_operations window_fops = {
	.owner = THIS_MODULE,
	.open = window_open,
	.release = window_release,
	.read = window_read,
	.poll = window_poll,
	.mmap = window_mmap,
	.unlocked_ioctl = window_ioctl,
};

static struct miscdevice window_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "window",
	.fops = &window_fops,
};
module_misc_device(window_device);

MODULE_DESCRIPTION("A window whose mappings are counted");
MODULE_LICENSE("GPL");
