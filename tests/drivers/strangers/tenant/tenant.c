// SPDX-License-Identifier: GPL-2.0
/* Rooms that belong to the process that opened them, and keep an eye on its memory. */
#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/ioctl.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#define TENANT_VISIT	_IO(0xee, 1)
#define TENANT_COUNT	_IO(0xee, 2)

static atomic_long_t used;

struct guest {
	u32 visits;
};

struct room {
	struct mutex lock;
	pid_t owner;
	struct guest *guest;
};

/* The bug: a guest who comes again is shown out, and still counted. */
static long visit(struct room *room)
{
	if (current->tgid == room->owner)
		return 0;
	if (room->guest) {
		kfree(room->guest);
		return room->guest->visits;
	}
	room->guest = kzalloc(sizeof(*room->guest), GFP_KERNEL);
	return room->guest ? 0 : -ENOMEM;
}

static long tenant_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct room *room = file->private_data;
	long ret = -ENOTTY;

	mutex_lock(&room->lock);
	switch (cmd) {
	case TENANT_VISIT:
		ret = visit(room);
		break;
	case TENANT_COUNT:
		ret = !!room->guest;
		break;
	}
	mutex_unlock(&room->lock);
	return ret;
}

static int tenant_open(struct inode *inode, struct file *file)
{
	struct room *room = kzalloc(sizeof(*room), GFP_KERNEL);

	if (!room)
		return -ENOMEM;
	mutex_init(&room->lock);
	room->owner = current->tgid;
	file->private_data = room;
	return 0;
}

/* The bug: a process that exits has no memory any more when its files are closed. */
static int tenant_release(struct inode *inode, struct file *file)
{
	struct room *room = file->private_data;

	atomic_long_add(READ_ONCE(current->mm->total_vm), &used);
	kfree(room->guest);
	kfree(room);
	return 0;
}

static const struct file_operations tenant_fops = {
	.owner = THIS_MODULE,
	.open = tenant_open,
	.release = tenant_release,
	.unlocked_ioctl = tenant_ioctl,
};

static struct miscdevice tenant_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "tenant",
	.fops = &tenant_fops,
};
module_misc_device(tenant_device);

MODULE_DESCRIPTION("Rooms of processes");
MODULE_LICENSE("GPL");
