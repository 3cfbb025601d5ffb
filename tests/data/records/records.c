// SPDX-License-Identifier: GPL-2.0
/*
 * records: takes structs with pointers in them, any number in one write, and
 * tells what it got. Tests of written structs and of positions call it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bug.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#include "records.h"

#define RECORDS_SIZE_MAX	64
#define RECORDS_END		0x200000000ll

static struct records_state records_last;

static int records_add(struct records_state *state,
		       const struct records_item *item)
{
	u8 data[RECORDS_SIZE_MAX];

	if (item->name_len > sizeof(item->name) || item->size > sizeof(data))
		return -EINVAL;
	if (copy_from_user(data, u64_to_user_ptr(item->data), item->size))
		return -EFAULT;
	for (u32 i = 0; i < item->size; i++)
		state->sum += data[i];
	state->names += item->name_len;
	state->items++;
	return 0;
}

static ssize_t records_write(struct file *file, const char __user *buf,
			     size_t count, loff_t *pos)
{
	struct records_state state = { .position = *pos };
	struct records_item item;

	if (!count || count % sizeof(item))
		return -EINVAL;
	for (size_t at = 0; at < count; at += sizeof(item)) {
		int error;

		if (copy_from_user(&item, buf + at, sizeof(item)))
			return -EFAULT;
		error = records_add(&state, &item);
		if (error)
			return error;
	}
	records_last = state;
	return count;
}

/* The planted mistake: an assumption about positions. */
static noinline void records_look_at(loff_t position)
{
	WARN(position > RECORDS_END, "position beyond 8 GiB\n");
}

/* There is no .llseek: the position is what pread() gives. */
static ssize_t records_read(struct file *file, char __user *buf, size_t count,
			    loff_t *pos)
{
	records_look_at(*pos);
	count = min(count, sizeof(records_last));
	return copy_to_user(buf, &records_last, count) ? -EFAULT : count;
}

static const struct file_operations records_fops = {
	.owner = THIS_MODULE,
	.read = records_read,
	.write = records_write,
};

static struct miscdevice records_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "records",
	.fops = &records_fops,
};
module_misc_device(records_device);

MODULE_DESCRIPTION("Takes structs that are written, for tests");
MODULE_LICENSE("GPL");
