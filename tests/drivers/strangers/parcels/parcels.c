// SPDX-License-Identifier: GPL-2.0
/* Parcels: an ioctl takes an array of what has addresses itself, and there are eight files. */
#include <linux/cdev.h>
#include <linux/compat.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "parcels.h"

#define FILES	8
#define MOST	4
#define LENGTH	32

static dev_t first;
static struct cdev cdev;
static struct class *class;
static u8 *counters;

/* The bug: each length is checked, and their sum is not. */
static long send(const struct parcel *parcels, u32 count)
{
	u8 *box = kmalloc(2 * LENGTH, GFP_KERNEL);
	long ret = 0;
	u32 at = 0;

	if (!box)
		return -ENOMEM;
	for (u32 i = 0; i < count; i++) {
		const struct parcel *parcel = &parcels[i];

		if (parcel->length > LENGTH) {
			ret = -E2BIG;
			break;
		}
		if (copy_from_user(box + at, u64_to_user_ptr(parcel->content),
				   parcel->length)) {
			ret = -EFAULT;
			break;
		}
		at += parcel->length;
	}
	kfree(box);
	return ret ? ret : at;
}

static long parcels_ioctl(struct file *file, unsigned int cmd,
			  unsigned long arg)
{
	struct parcels_list list;
	struct parcel *parcels;
	long ret;

	if (cmd != PARCELS_SEND)
		return -ENOTTY;
	if (copy_from_user(&list, (void __user *)arg, sizeof(list)))
		return -EFAULT;
	if (!list.count || list.count > MOST)
		return -EINVAL;
	parcels = memdup_user(u64_to_user_ptr(list.parcels),
			      list.count * sizeof(*parcels));
	if (IS_ERR(parcels))
		return PTR_ERR(parcels);
	ret = send(parcels, list.count);
	kfree(parcels);
	return ret;
}

/* The bug: a length with its highest bit set is less than any. */
static long parcels_compat(struct file *file, unsigned int cmd,
			   unsigned long arg)
{
	u8 *box = kmalloc(LENGTH, GFP_KERNEL);
	struct parcel32 parcel;
	long ret = -ENOTTY;

	if (!box)
		return -ENOMEM;
	if (cmd != PARCELS_SEND32)
		goto out;
	ret = -EFAULT;
	if (copy_from_user(&parcel, compat_ptr(arg), sizeof(parcel)))
		goto out;
	ret = -E2BIG;
	if ((s32)parcel.length > LENGTH)
		goto out;
	parcel.length = (u16)parcel.length;
	ret = -EFAULT;
	if (copy_from_user(box, compat_ptr(parcel.content),
			   min_t(u32, parcel.length, LENGTH)))
		goto out;
	ret = parcel.length ? READ_ONCE(box[parcel.length - 1]) : 0;
out:
	kfree(box);
	return ret;
}

/* The bug: the sixth file counts one too far. */
static ssize_t parcels_write(struct file *file, const char __user *from,
			     size_t count, loff_t *offset)
{
	unsigned int minor = iminor(file_inode(file));

	if (count > 4)
		return -EINVAL;
	WRITE_ONCE(counters[minor == 5 && count == 4 ? FILES : minor], count);
	return count;
}

static const struct file_operations parcels_fops = {
	.owner = THIS_MODULE,
	.write = parcels_write,
	.unlocked_ioctl = parcels_ioctl,
	.compat_ioctl = parcels_compat,
};

static int __init parcels_init(void)
{
	int ret = alloc_chrdev_region(&first, 0, FILES, "parcels");

	if (ret)
		return ret;
	ret = -ENOMEM;
	counters = kzalloc(FILES, GFP_KERNEL);
	if (!counters)
		goto no_counters;
	class = class_create("parcels");
	if (IS_ERR(class)) {
		ret = PTR_ERR(class);
		goto no_class;
	}
	cdev_init(&cdev, &parcels_fops);
	ret = cdev_add(&cdev, first, FILES);
	if (ret)
		goto no_cdev;
	for (int i = 0; i < FILES; i++)
		device_create(class, NULL, first + i, NULL, "parcels%d", i);
	return 0;

no_cdev:
	class_destroy(class);
no_class:
	kfree(counters);
no_counters:
	unregister_chrdev_region(first, FILES);
	return ret;
}

static void __exit parcels_exit(void)
{
	for (int i = 0; i < FILES; i++)
		device_destroy(class, first + i);
	cdev_del(&cdev);
	class_destroy(class);
	kfree(counters);
	unregister_chrdev_region(first, FILES);
}

module_init(parcels_init);
module_exit(parcels_exit);
MODULE_DESCRIPTION("Arrays of structs that have addresses, and eight files");
MODULE_LICENSE("GPL");
