// SPDX-License-Identifier: GPL-2.0
/*
 * A postroom: letters that are written are sorted later, by a workqueue. A bug is behind
 * six of them in a certain order. A call does and returns the same for all letters.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#define MOST 32
#define PIGEONHOLES 16

/* Of a file: how many letters were there in order, and what was put where. */
struct sorter {
	int letters;
	u8 pigeonholes[PIGEONHOLES];
};

struct letter {
	struct work_struct work;
	struct sorter *sorter;
	u8 text[MOST];
};

static struct workqueue_struct *sorting;
static atomic_t sorted[5];

/* The bug: there are as many pigeonholes, and none after the last. */
static noinline void file_letter(struct sorter *sorter, const struct letter *letter)
{
	int number = PIGEONHOLES + letter->text[0] % PIGEONHOLES;

	WRITE_ONCE(sorter->pigeonholes[number], 1);
}

static bool is_next(struct sorter *sorter, const struct letter *letter)
{
	u8 first = letter->text[0];

	switch (sorter->letters) {
	case 0:
		if (first != 's')
			return false;
		atomic_inc(&sorted[0]);
		return true;
	case 1:
		if (first != '1')
			return false;
		atomic_inc(&sorted[1]);
		return true;
	case 2:
		if (first != 'a')
			return false;
		atomic_inc(&sorted[2]);
		return true;
	case 3:
		if (first != '0')
			return false;
		atomic_inc(&sorted[3]);
		return true;
	case 4:
		if (first != 's')
			return false;
		atomic_inc(&sorted[4]);
		return true;
	}
	if (first == '0')
		file_letter(sorter, letter);
	return false;
}

static void sort_letter(struct work_struct *work)
{
	struct letter *letter = container_of(work, struct letter, work);
	struct sorter *sorter = letter->sorter;

	if (is_next(sorter, letter))
		sorter->letters++;
	else
		sorter->letters = 0;
	kfree(letter);
}

static int postroom_open(struct inode *inode, struct file *file)
{
	file->private_data = kzalloc(sizeof(struct sorter), GFP_KERNEL);
	return file->private_data ? 0 : -ENOMEM;
}

static ssize_t postroom_write(struct file *file, const char __user *from,
			      size_t count, loff_t *at)
{
	struct letter *letter;

	if (count > MOST)
		return -EINVAL;
	letter = kzalloc(sizeof(*letter), GFP_KERNEL);
	if (!letter)
		return -ENOMEM;
	if (copy_from_user(letter->text, from, count)) {
		kfree(letter);
		return -EFAULT;
	}
	letter->sorter = file->private_data;
	INIT_WORK(&letter->work, sort_letter);
	queue_work(sorting, &letter->work);
	return count;
}

static int postroom_release(struct inode *inode, struct file *file)
{
	flush_workqueue(sorting);
	kfree(file->private_data);
	return 0;
}

static const struct file_operations postroom_fops = {
	.owner = THIS_MODULE,
	.open = postroom_open,
	.write = postroom_write,
	.release = postroom_release,
};

static struct miscdevice postroom = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "postroom",
	.fops = &postroom_fops,
};

static int __init postroom_init(void)
{
	int error;

	sorting = alloc_ordered_workqueue("postroom", 0);
	if (!sorting)
		return -ENOMEM;
	error = misc_register(&postroom);
	if (error)
		destroy_workqueue(sorting);
	return error;
}

static void __exit postroom_exit(void)
{
	misc_deregister(&postroom);
	destroy_workqueue(sorting);
}

module_init(postroom_init);
module_exit(postroom_exit);
MODULE_DESCRIPTION("A postroom");
MODULE_LICENSE("GPL");
