// SPDX-License-Identifier: GPL-2.0
/* For a device that a board has, and the guest has not. */
#include <linux/mod_devicetable.h>
#include <linux/module.h>
#include <linux/platform_device.h>

static int onboard_probe(struct platform_device *pdev)
{
	return -ENODEV;
}

static const struct platform_device_id onboard_ids[] = {
	{ .name = "onboard-v1" },
	{ .name = "onboard-v2" },
	{ }
};
MODULE_DEVICE_TABLE(platform, onboard_ids);

static struct platform_driver onboard_driver = {
	.probe = onboard_probe,
	.id_table = onboard_ids,
	.driver = { .name = "onboard" },
};
module_platform_driver(onboard_driver);

MODULE_DESCRIPTION("A driver for a device that is not there");
MODULE_LICENSE("GPL");
