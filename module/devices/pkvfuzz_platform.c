// SPDX-License-Identifier: GPL-2.0
/*
 * Registers platform devices by name, for drivers whose device is not there:
 * the kernel gives user space no way to do so. They have neither resources
 * nor platform data, as a board without the hardware would have none.
 */
#include <linux/err.h>
#include <linux/module.h>
#include <linux/platform_device.h>

#define MAX_DEVICES 8

static char *names[MAX_DEVICES];
static int n_names;
module_param_array(names, charp, &n_names, 0444);
MODULE_PARM_DESC(names, "names of the devices, as their drivers have them");

static struct platform_device *devices[MAX_DEVICES];

static void unregister_all(void)
{
	int i;

	for (i = 0; i < MAX_DEVICES; i++) {
		platform_device_unregister(devices[i]);
		devices[i] = NULL;
	}
}

static int __init pkvfuzz_platform_init(void)
{
	int i;

	for (i = 0; i < n_names; i++) {
		struct platform_device *device;

		device = platform_device_register_simple(names[i], PLATFORM_DEVID_NONE,
							 NULL, 0);
		if (IS_ERR(device)) {
			unregister_all();
			return PTR_ERR(device);
		}
		devices[i] = device;
	}
	return 0;
}

static void __exit pkvfuzz_platform_exit(void)
{
	unregister_all();
}

module_init(pkvfuzz_platform_init);
module_exit(pkvfuzz_platform_exit);

MODULE_DESCRIPTION("Platform devices by name");
MODULE_LICENSE("GPL");
