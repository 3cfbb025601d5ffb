// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/jot keeps short notes. Each write is a note; a read returns the newest.
 */
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "jot.h"

#define JOT_LONGEST 64
#define JOT_MOST 16

struct jot_note {
	struct list_head list;
	size_t length;
	char text[];
};

static LIST_HEAD(jot_notes);
static DEFINE_MUTEX(jot_lock);
static struct jot_note *jot_newest;
static u32 jot_count;

static void jot_forget(struct jot_note *note)
{
	list_del(&note->list);
	kfree(note);
	jot_count--;
}

static long jot_drop(u32 index)
{
	struct jot_note *note;

	list_for_each_entry(note, &jot_notes, list) {
		if (index--)
			continue;
		jot_forget(note);
		return 0;
	}
	return -ENOENT;
}

static void jot_clear(void)
{
	struct jot_note *note, *next;

	list_for_each_entry_safe(note, next, &jot_notes, list)
		jot_forget(note);
	jot_newest = NULL;
}

static ssize_t jot_read(struct file *file, char __user *buffer, size_t count, loff_t *ppos)
{
	ssize_t result = 0;

	mutex_lock(&jot_lock);
	if (jot_newest)
		result = simple_read_from_buffer(buffer, count, ppos, jot_newest->text,
						 jot_newest->length);
	mutex_unlock(&jot_lock);
	return result;
}

static ssize_t jot_write(struct file *file, const char __user *buffer, size_t count, loff_t *ppos)
{
	struct jot_note *note;
	ssize_t result = count;

	if (!count || count > JOT_LONGEST)
		return -EINVAL;
	note = kmalloc(sizeof(*note) + count, GFP_KERNEL);
	if (!note)
		return -ENOMEM;
	note->length = count;
	if (copy_from_user(note->text, buffer, count)) {
		kfree(note);
		return -EFAULT;
	}
	mutex_lock(&jot_lock);
	if (jot_count < JOT_MOST) {
		list_add_tail(&note->list, &jot_notes);
		jot_newest = note;
		jot_count++;
	} else {
		kfree(note);
		result = -ENOSPC;
	}
	mutex_unlock(&jot_lock);
	return result;
}

static long jot_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	long result = 0;
	u32 index;

	switch (cmd) {
	case JOT_COUNT:
		return put_user(jot_count, (u32 __user *)arg);
	case JOT_DROP:
		if (get_user(index, (u32 __user *)arg))
			return -EFAULT;
		mutex_lock(&jot_lock);
		result = jot_drop(index);
		mutex_unlock(&jot_lock);
		return result;
	case JOT_CLEAR:
		mutex_lock(&jot_lock);
		jot_clear();
		mutex_unlock(&jot_lock);
		return 0;
	default:
		return -ENOTTY;
	}
}

static const struct file_operations jot_fops = {
	.owner = THIS_MODULE,
	.read = jot_read,
	.write = jot_write,
	.unlocked_ioctl = jot_ioctl,
	.llseek = default_llseek,
};

static struct miscdevice jot_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "jot",
	.fops = &jot_fops,
};

static int __init jot_init(void)
{
	return misc_register(&jot_device);
}

static void __exit jot_exit(void)
{
	misc_deregister(&jot_device);
	jot_clear();
}

module_init(jot_init);
module_exit(jot_exit);
MODULE_DESCRIPTION("A device for notes");
MODULE_LICENSE("GPL");
