// SPDX-License-Identifier: GPL-2.0
/* Letters that are written and read, and commands in a ring that wait for them. */
#include <linux/fs.h>
#include <linux/io_uring/cmd.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include "courier.h"

#define MOST_LETTERS	8
#define LETTER_SIZE	48

struct letter {
	struct list_head list;
	size_t length;
	char text[LETTER_SIZE];
};

struct errand {
	struct list_head list;
	struct io_uring_cmd *command;
	u32 kind;
};

struct courier {
	struct mutex lock;
	struct list_head letters;
	struct list_head errands;
	int count;
};

/* A command has the address of its errand. */
static struct errand **errand_of(struct io_uring_cmd *command)
{
	return io_uring_cmd_to_pdu(command, struct errand *);
}

static int courier_open(struct inode *inode, struct file *file)
{
	struct courier *courier = kzalloc(sizeof(*courier), GFP_KERNEL);

	if (!courier)
		return -ENOMEM;
	mutex_init(&courier->lock);
	INIT_LIST_HEAD(&courier->letters);
	INIT_LIST_HEAD(&courier->errands);
	file->private_data = courier;
	file->f_mode |= FMODE_NOWAIT;
	return 0;
}

static int courier_release(struct inode *inode, struct file *file)
{
	struct courier *courier = file->private_data;
	struct letter *letter, *next;

	list_for_each_entry_safe(letter, next, &courier->letters, list)
		kfree(letter);
	kfree(courier);
	return 0;
}

static void courier_done(struct io_uring_cmd *command, unsigned int flags)
{
	io_uring_cmd_done(command, 0, 0, flags);
}

/* Have the errands complete that wait for a letter of this kind. */
static noinline void courier_deliver(struct courier *courier, u32 kind)
{
	struct errand *errand, *next;

	list_for_each_entry_safe(errand, next, &courier->errands, list) {
		if (errand->kind != kind)
			continue;
		list_del(&errand->list);
		*errand_of(errand->command) = NULL;
		io_uring_cmd_complete_in_task(errand->command, courier_done);
		kfree(errand);
	}
}

static ssize_t courier_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct courier *courier = iocb->ki_filp->private_data;
	size_t length = iov_iter_count(from);
	struct letter *letter;
	u32 kind = 0;

	if (!length || length > LETTER_SIZE)
		return -EMSGSIZE;
	letter = kzalloc(sizeof(*letter), GFP_KERNEL);
	if (!letter)
		return -ENOMEM;
	letter->length = length;
	if (!copy_from_iter_full(letter->text, length, from)) {
		kfree(letter);
		return -EFAULT;
	}
	mutex_lock(&courier->lock);
	if (courier->count < MOST_LETTERS) {
		kind = letter->text[0];
		list_add_tail(&letter->list, &courier->letters);
		courier->count++;
		letter = NULL;
	}
	if (kind)
		courier_deliver(courier, kind);
	mutex_unlock(&courier->lock);
	kfree(letter);
	return letter ? -ENOSPC : length;
}

static ssize_t courier_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct courier *courier = iocb->ki_filp->private_data;
	bool nowait = iocb->ki_flags & IOCB_NOWAIT;
	struct letter *letter;
	ssize_t ret = 0;

	if (!nowait)
		mutex_lock(&courier->lock);
	else if (!mutex_trylock(&courier->lock))
		return -EAGAIN;
	letter = list_first_entry_or_null(&courier->letters, struct letter, list);
	if (letter && letter->length > iov_iter_count(to)) {
		/* The bug: who may not wait throws the letter away, and leaves it in the list. */
		if (nowait)
			kfree(letter);
		ret = nowait ? -EAGAIN : -EMSGSIZE;
	} else if (letter) {
		list_del(&letter->list);
		courier->count--;
		ret = copy_to_iter(letter->text, letter->length, to);
		kfree(letter);
	}
	mutex_unlock(&courier->lock);
	return ret;
}

/* The bug: an errand that is given up stays in the list. */
static int courier_give_up(struct courier *courier, struct io_uring_cmd *command,
			   unsigned int flags)
{
	struct errand *errand;

	mutex_lock(&courier->lock);
	errand = *errand_of(command);
	*errand_of(command) = NULL;
	mutex_unlock(&courier->lock);
	if (errand)
		io_uring_cmd_done(command, -ECANCELED, 0, flags);
	kfree(errand);
	return 0;
}

static int courier_await(struct courier *courier, struct io_uring_cmd *command,
			 const struct courier_await *await, unsigned int flags)
{
	struct errand *errand;

	if (await->reserved || !await->kind)
		return -EINVAL;
	errand = kzalloc(sizeof(*errand), GFP_KERNEL);
	if (!errand)
		return -ENOMEM;
	errand->kind = await->kind;
	errand->command = command;
	*errand_of(command) = errand;
	io_uring_cmd_mark_cancelable(command, flags);
	mutex_lock(&courier->lock);
	list_add(&errand->list, &courier->errands);
	mutex_unlock(&courier->lock);
	return -EIOCBQUEUED;
}

static int courier_uring_cmd(struct io_uring_cmd *command, unsigned int flags)
{
	struct courier *courier = command->file->private_data;

	if (flags & IO_URING_F_CANCEL)
		return courier_give_up(courier, command, flags);
	switch (command->cmd_op) {
	case COURIER_AWAIT:
		return courier_await(courier, command, io_uring_sqe_cmd(command->sqe), flags);
	case COURIER_COUNT:
		return READ_ONCE(courier->count);
	}
	return -ENOTTY;
}

static const struct file_operations courier_fops = {
	.owner = THIS_MODULE,
	.open = courier_open,
	.release = courier_release,
	.read_iter = courier_read_iter,
	.write_iter = courier_write_iter,
	.uring_cmd = courier_uring_cmd,
};

static struct miscdevice courier_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "courier",
	.fops = &courier_fops,
};
module_misc_device(courier_device);

MODULE_DESCRIPTION("Letters, and commands that wait for them");
MODULE_LICENSE("GPL");
