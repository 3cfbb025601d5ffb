// SPDX-License-Identifier: GPL-2.0
/* Extent: clears parts of a buffer, and makes tables. Both check what may wrap. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "extent.h"

#define SIZE	4096
#define ENTRY	24

/* The bug: the sum wraps. */
static long clear(const struct extent_range *range)
{
	u8 *buffer;

	if (range->flags || !range->length || range->length > SIZE / 4)
		return -EINVAL;
	if (range->start + range->length > SIZE)
		return -ERANGE;
	buffer = kzalloc(SIZE, GFP_KERNEL);
	if (!buffer)
		return -ENOMEM;
	memset(buffer + range->start, 0, range->length);
	kfree(buffer);
	return 0;
}

/* The bug: the product wraps, and the last entry is where it would have been. */
static long resize(const struct extent_table *table)
{
	u32 bytes = table->entries * ENTRY;
	u8 *entries;

	if (table->flags || !table->entries || bytes > SIZE)
		return -E2BIG;
	entries = kzalloc(bytes, GFP_KERNEL);
	if (!entries)
		return -ENOMEM;
	for (u32 i = 0; i < 64 && i < table->entries; i++)
		entries[i * ENTRY] = i;
	kfree(entries);
	return 0;
}

static long extent_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *from = (void __user *)arg;
	struct extent_range range;
	struct extent_table table;

	switch (cmd) {
	case EXTENT_CLEAR:
		if (copy_from_user(&range, from, sizeof(range)))
			return -EFAULT;
		return clear(&range);
	case EXTENT_RESIZE:
		if (copy_from_user(&table, from, sizeof(table)))
			return -EFAULT;
		return resize(&table);
	}
	return -ENOTTY;
}

static const struct file_operations extent_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = extent_ioctl,
};

static struct miscdevice extent = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "extent",
	.fops = &extent_fops,
};

module_misc_device(extent);
MODULE_DESCRIPTION("Extents of a buffer, and tables");
MODULE_LICENSE("GPL");
