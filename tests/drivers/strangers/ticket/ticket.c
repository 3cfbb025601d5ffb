// SPDX-License-Identifier: GPL-2.0
/* Ticket: two desks hand out numbers, and a board shows one of them. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

#include "ticket.h"

#define NUMBERS	26
#define OF_DESK	20

static DEFINE_MUTEX(lock);
static unsigned int holder[NUMBERS];
static u32 given[2], price, shown;
static bool lit;
static struct task_struct *opener;

/*
 * The first desk begins at the first number and the second one at the last, and each begins
 * anew when it has given its share. The bug: nothing looks whether the other one has been there.
 */
static long take(unsigned int desk, u32 __user *to)
{
	u32 nth = given[desk]++ % OF_DESK;
	u32 number = desk ? NUMBERS - 1 - nth : nth;

	WARN_ON(holder[number] & ~(1u << desk));
	holder[number] = 1u << desk;
	return put_user(number, to);
}

static long set_board(unsigned int cmd, const u32 __user *from)
{
	u32 value;

	if (get_user(value, from))
		return -EFAULT;
	if (cmd == TICKET_SET_PRICE)
		price = value;
	else if (cmd == TICKET_SHOW)
		shown = value;
	else
		lit = value;
	return 0;
}

static long ticket_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	u32 __user *value = (u32 __user *)arg;
	long ret;

	if (current != opener)
		return -EPERM;
	mutex_lock(&lock);
	switch (cmd) {
	case TICKET_FIRST_DESK:
		ret = take(0, value);
		break;
	case TICKET_SECOND_DESK:
		ret = take(1, value);
		break;
	case TICKET_SET_PRICE:
	case TICKET_SHOW:
	case TICKET_LIGHT:
		ret = set_board(cmd, value);
		break;
	case TICKET_PRICE:
		ret = put_user(price, value);
		break;
	case TICKET_SHOWN:
		ret = put_user(lit ? shown : 0, value);
		break;
	default:
		ret = -ENOTTY;
	}
	mutex_unlock(&lock);
	return ret;
}

/* Each program begins anew, and its threads have no part in it. */
static int ticket_open(struct inode *inode, struct file *file)
{
	mutex_lock(&lock);
	memset(holder, 0, sizeof(holder));
	memset(given, 0, sizeof(given));
	opener = current;
	mutex_unlock(&lock);
	return 0;
}

static const struct file_operations ticket_fops = {
	.owner = THIS_MODULE,
	.open = ticket_open,
	.unlocked_ioctl = ticket_ioctl,
};

static struct miscdevice ticket = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "ticket",
	.fops = &ticket_fops,
};

module_misc_device(ticket);
MODULE_DESCRIPTION("Numbers that two desks hand out");
MODULE_LICENSE("GPL");
