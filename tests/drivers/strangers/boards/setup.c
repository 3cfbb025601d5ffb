// SPDX-License-Identifier: GPL-2.0
/* Registers the device that the driver beside it is for. */
#include <linux/err.h>
#include <linux/module.h>
#include <linux/platform_device.h>

static struct platform_device *device;

static int __init setup_init(void)
{
	device = platform_device_register_simple("board-two", PLATFORM_DEVID_NONE, NULL, 0);
	return PTR_ERR_OR_ZERO(device);
}
module_init(setup_init);

static void __exit setup_exit(void)
{
	platform_device_unregister(device);
}
module_exit(setup_exit);

MODULE_DESCRIPTION("The device of a driver that does not name this module");
MODULE_LICENSE("GPL");
