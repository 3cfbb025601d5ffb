// SPDX-License-Identifier: GPL-2.0
/* Asks for an I2C adapter by its number, and makes its client itself. */
#include <linux/err.h>
#include <linux/i2c.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

static struct i2c_client *oled;

static ssize_t oled_read(struct file *file, char __user *buf, size_t count, loff_t *pos)
{
	u8 data[5] = {};
	int n;

	if (count > sizeof(data))
		return -EINVAL;
	n = i2c_master_recv(oled, data, count);
	if (n < 0)
		return n;
	return copy_to_user(buf, data, n) ? -EFAULT : n;
}

static const struct file_operations oled_fops = {
	.owner = THIS_MODULE,
	.read = oled_read,
};

static struct miscdevice oled_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "oled",
	.fops = &oled_fops,
};

static int __init oled_init(void)
{
	struct i2c_board_info info = { I2C_BOARD_INFO("oled", 0x3c) };
	struct i2c_adapter *adapter = i2c_get_adapter(1);
	int err;

	if (!adapter)
		return -ENODEV;
	oled = i2c_new_client_device(adapter, &info);
	i2c_put_adapter(adapter);
	if (IS_ERR(oled))
		return PTR_ERR(oled);
	err = misc_register(&oled_misc);
	if (err)
		i2c_unregister_device(oled);
	return err;
}
module_init(oled_init);

static void __exit oled_exit(void)
{
	misc_deregister(&oled_misc);
	i2c_unregister_device(oled);
}
module_exit(oled_exit);

MODULE_DESCRIPTION("A driver that asks for an I2C adapter");
MODULE_LICENSE("GPL");
