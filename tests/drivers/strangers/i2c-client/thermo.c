// SPDX-License-Identifier: GPL-2.0
/* A driver of an I2C client, which makes its file in its probe. */
#include <linux/i2c.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

static struct i2c_client *thermo;

static ssize_t thermo_read(struct file *file, char __user *buf, size_t count, loff_t *pos)
{
	int limit = i2c_smbus_read_word_data(thermo, 2);

	if (limit < 0)
		return limit;
	if (count > limit)
		return -EINVAL;
	return clear_user(buf, count) ? -EFAULT : count;
}

static const struct file_operations thermo_fops = {
	.owner = THIS_MODULE,
	.read = thermo_read,
};

static struct miscdevice thermo_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "thermo",
	.fops = &thermo_fops,
};

static int thermo_probe(struct i2c_client *client)
{
	int err = i2c_smbus_write_word_data(client, 2, 5);

	if (err)
		return err;
	thermo = client;
	return misc_register(&thermo_misc);
}

static void thermo_remove(struct i2c_client *client)
{
	misc_deregister(&thermo_misc);
}

static const struct i2c_device_id thermo_ids[] = {
	{ "thermo-9" },
	{ }
};
MODULE_DEVICE_TABLE(i2c, thermo_ids);

static struct i2c_driver thermo_driver = {
	.driver = { .name = "any-thermo" },
	.probe = thermo_probe,
	.remove = thermo_remove,
	.id_table = thermo_ids,
};
module_i2c_driver(thermo_driver);

MODULE_DESCRIPTION("A driver for a device on an I2C bus");
MODULE_LICENSE("GPL");
