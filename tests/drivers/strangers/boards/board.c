// SPDX-License-Identifier: GPL-2.0
/* A driver that makes its file for a device that somebody else registers. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mod_devicetable.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/uaccess.h>

static ssize_t board_read(struct file *file, char __user *buf, size_t count,
			  loff_t *pos)
{
	if (count > 5)
		return -EINVAL;
	return clear_user(buf, count) ? -EFAULT : count;
}

static const struct file_operations board_fops = {
	.owner = THIS_MODULE,
	.read = board_read,
};

static struct miscdevice board_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "board",
	.fops = &board_fops,
};

static void board_gone(void *unused)
{
	misc_deregister(&board_misc);
}

static int board_probe(struct platform_device *pdev)
{
	int err = misc_register(&board_misc);

	return err ? err : devm_add_action_or_reset(&pdev->dev, board_gone, NULL);
}

static const struct platform_device_id board_ids[] = {
	{ .name = "board-two" },
	{ }
};
MODULE_DEVICE_TABLE(platform, board_ids);

static struct platform_driver board_driver = {
	.probe = board_probe,
	.id_table = board_ids,
	.driver = { .name = "any-board" },
};
module_platform_driver(board_driver);

MODULE_DESCRIPTION("A driver for a device that another module registers");
MODULE_LICENSE("GPL");
