// SPDX-License-Identifier: GPL-2.0
/* A driver of an SPI device, which makes its file in its probe. */
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/spi/spi.h>
#include <linux/uaccess.h>

static struct spi_device *flash;

static ssize_t flash_read(struct file *file, char __user *buf, size_t count, loff_t *pos)
{
	u8 limit;
	int err = spi_read(flash, &limit, 1);

	if (err)
		return err;
	if (count > limit)
		return -EINVAL;
	return clear_user(buf, count) ? -EFAULT : count;
}

static const struct file_operations flash_fops = {
	.owner = THIS_MODULE,
	.read = flash_read,
};

static struct miscdevice flash_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "flash",
	.fops = &flash_fops,
};

static int flash_probe(struct spi_device *spi)
{
	u8 limit = 5;
	int err = spi_write(spi, &limit, 1);

	if (err)
		return err;
	flash = spi;
	return misc_register(&flash_misc);
}

static void flash_remove(struct spi_device *spi)
{
	misc_deregister(&flash_misc);
}

static const struct spi_device_id flash_ids[] = {
	{ "flash-9" },
	{ }
};
MODULE_DEVICE_TABLE(spi, flash_ids);

static struct spi_driver flash_driver = {
	.driver = { .name = "any-flash" },
	.probe = flash_probe,
	.remove = flash_remove,
	.id_table = flash_ids,
};
module_spi_driver(flash_driver);

MODULE_DESCRIPTION("A driver for a device on an SPI bus");
MODULE_LICENSE("GPL");
