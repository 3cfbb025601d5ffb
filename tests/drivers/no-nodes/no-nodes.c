// SPDX-License-Identifier: GPL-2.0
/*
 * no-nodes: a driver as they were before there were device classes. It takes two
 * numbers and makes no node; a script was to do that. What it keeps can be seen
 * and changed by other files as well: in /proc, debugfs and sysfs.
 */
#include <linux/cdev.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/proc_fs.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/types.h>
#include <linux/uaccess.h>

#define NO_NODES_SLOTS	2
#define NO_NODES_SIZE	32
#define NO_NODES_MOVE	_IO('N', 1)

/* Each minor of the first number has a text of its own. */
static struct no_nodes_slot {
	size_t length;
	char text[NO_NODES_SIZE];
} slots[NO_NODES_SLOTS];

static int level;
static DEFINE_MUTEX(lock);	/* protects slots and level */

static dev_t first;
static int ctl_major;
static struct cdev cdev;
static struct dentry *directory;
static struct kobject *kobject;

static ssize_t slot_read(struct file *file, char __user *buf, size_t count,
			 loff_t *pos)
{
	struct no_nodes_slot *slot = &slots[iminor(file_inode(file))];
	ssize_t n;

	mutex_lock(&lock);
	n = simple_read_from_buffer(buf, count, pos, slot->text, slot->length);
	mutex_unlock(&lock);
	return n;
}

static ssize_t slot_write(struct file *file, const char __user *buf,
			  size_t count, loff_t *pos)
{
	struct no_nodes_slot *slot = &slots[iminor(file_inode(file))];
	size_t n = min_t(size_t, count, NO_NODES_SIZE);
	ssize_t ret = n;

	mutex_lock(&lock);
	if (copy_from_user(slot->text, buf, n))
		ret = -EFAULT;
	else
		slot->length = n;
	mutex_unlock(&lock);
	return ret;
}

static const struct file_operations slot_fops = {
	.owner = THIS_MODULE,
	.read = slot_read,
	.write = slot_write,
};

/* The second slot gets the first one's text; returns its length. */
static long ctl_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	long length;

	if (cmd != NO_NODES_MOVE)
		return -ENOTTY;
	if (arg > 1)
		return -EINVAL;
	mutex_lock(&lock);
	slots[1] = slots[0];
	if (arg)
		memset(&slots[0], 0, sizeof(slots[0]));
	length = slots[1].length;
	mutex_unlock(&lock);
	return length;
}

static const struct file_operations ctl_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = ctl_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static ssize_t proc_show(struct file *file, char __user *buf, size_t count,
			 loff_t *pos)
{
	char text[64];
	int n;

	mutex_lock(&lock);
	n = scnprintf(text, sizeof(text), "%zu %zu\n", slots[0].length,
		      slots[1].length);
	mutex_unlock(&lock);
	return simple_read_from_buffer(buf, count, pos, text, n);
}

static ssize_t proc_clear(struct file *file, const char __user *buf,
			  size_t count, loff_t *pos)
{
	mutex_lock(&lock);
	memset(slots, 0, sizeof(slots));
	mutex_unlock(&lock);
	return count;
}

static const struct proc_ops proc_ops = {
	.proc_read = proc_show,
	.proc_write = proc_clear,
};

static ssize_t peek_read(struct file *file, char __user *buf, size_t count,
			 loff_t *pos)
{
	ssize_t n;

	mutex_lock(&lock);
	n = simple_read_from_buffer(buf, count, pos, slots, sizeof(slots));
	mutex_unlock(&lock);
	return n;
}

static const struct file_operations peek_fops = {
	.owner = THIS_MODULE,
	.read = peek_read,
};

static ssize_t level_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(level));
}

static ssize_t level_store(struct kobject *kobj, struct kobj_attribute *attr,
			   const char *buf, size_t count)
{
	int value, error = kstrtoint(buf, 0, &value);

	if (error)
		return error;
	WRITE_ONCE(level, value);
	return count;
}

static struct kobj_attribute level_attribute = __ATTR_RW(level);

static int __init no_nodes_init(void)
{
	int error = alloc_chrdev_region(&first, 0, NO_NODES_SLOTS, "no-nodes");

	if (error)
		return error;
	cdev_init(&cdev, &slot_fops);
	cdev.owner = THIS_MODULE;
	error = cdev_add(&cdev, first, NO_NODES_SLOTS);
	if (error)
		goto release_numbers;
	ctl_major = register_chrdev(0, "no-nodes-ctl", &ctl_fops);
	if (ctl_major < 0) {
		error = ctl_major;
		goto delete_cdev;
	}
	error = -ENOMEM;
	if (!proc_create("no-nodes", 0600, NULL, &proc_ops))
		goto release_ctl;
	kobject = kobject_create_and_add("no-nodes", kernel_kobj);
	if (!kobject)
		goto remove_proc;
	error = sysfs_create_file(kobject, &level_attribute.attr);
	if (error)
		goto put_kobject;
	/* Without debugfs it goes on. */
	directory = debugfs_create_dir("no-nodes", NULL);
	debugfs_create_file("peek", 0400, directory, NULL, &peek_fops);
	return 0;

put_kobject:
	kobject_put(kobject);
remove_proc:
	remove_proc_entry("no-nodes", NULL);
release_ctl:
	unregister_chrdev(ctl_major, "no-nodes-ctl");
delete_cdev:
	cdev_del(&cdev);
release_numbers:
	unregister_chrdev_region(first, NO_NODES_SLOTS);
	return error;
}

static void __exit no_nodes_exit(void)
{
	debugfs_remove(directory);
	kobject_put(kobject);
	remove_proc_entry("no-nodes", NULL);
	unregister_chrdev(ctl_major, "no-nodes-ctl");
	cdev_del(&cdev);
	unregister_chrdev_region(first, NO_NODES_SLOTS);
}

module_init(no_nodes_init);
module_exit(no_nodes_exit);
MODULE_DESCRIPTION("A driver whose device nodes are left to user space");
MODULE_LICENSE("GPL");
