// SPDX-License-Identifier: GPL-2.0
/* Shelf: has room for some names, all different. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "shelf.h"

#define PLACES	16

static DEFINE_MUTEX(lock);
static struct shelf_book *books;

static bool has(const struct shelf_book *book)
{
	for (u32 i = 0; i < PLACES; i++)
		if (!strcmp(books[i].name, book->name))
			return true;
	return false;
}

/* The bug: when all places are taken there is one more. */
static long put(const struct shelf_book *book)
{
	u32 place = 0;

	while (place < PLACES && books[place].name[0])
		place++;
	books[place] = *book;
	return place;
}

static long shelf_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct shelf_book book;
	long ret;

	if (cmd != SHELF_PUT)
		return -ENOTTY;
	if (copy_from_user(&book, (void __user *)arg, sizeof(book)))
		return -EFAULT;
	book.name[SHELF_NAME - 1] = '\0';
	if (!book.name[0])
		return -EINVAL;
	mutex_lock(&lock);
	ret = has(&book) ? -EEXIST : put(&book);
	mutex_unlock(&lock);
	return ret;
}

static int shelf_open(struct inode *inode, struct file *file)
{
	mutex_lock(&lock);
	memset(books, 0, PLACES * sizeof(*books));
	mutex_unlock(&lock);
	return 0;
}

static const struct file_operations shelf_fops = {
	.owner = THIS_MODULE,
	.open = shelf_open,
	.unlocked_ioctl = shelf_ioctl,
};

static struct miscdevice shelf = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "shelf",
	.fops = &shelf_fops,
};

static int __init shelf_init(void)
{
	int err;

	books = kcalloc(PLACES, sizeof(*books), GFP_KERNEL);
	if (!books)
		return -ENOMEM;
	err = misc_register(&shelf);
	if (err)
		kfree(books);
	return err;
}

static void __exit shelf_exit(void)
{
	misc_deregister(&shelf);
	kfree(books);
}

module_init(shelf_init);
module_exit(shelf_exit);
MODULE_DESCRIPTION("A shelf with room for some names");
MODULE_LICENSE("GPL");
