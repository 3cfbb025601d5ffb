// SPDX-License-Identifier: GPL-2.0
/*
 * Registers SPI controllers 0 and 1, and devices by name on the first, for
 * drivers whose device is not there. What is sent comes back, at once or when
 * something is received later.
 */
#include <linux/err.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/spi/spi.h>
#include <linux/string.h>

#define N_CONTROLLERS 2
#define MAX_DEVICES 8
#define MEMORY 256
#define SPEED 1000000

static char *names[MAX_DEVICES];
static int n_names;
module_param_array(names, charp, &n_names, 0444);
MODULE_PARM_DESC(names, "names of the devices, as their drivers have them");

static struct platform_device *parent;
static struct spi_controller *controllers[N_CONTROLLERS];

static int transfer_one(struct spi_controller *controller, struct spi_device *spi,
			struct spi_transfer *transfer)
{
	u8 *memory = spi_controller_get_devdata(controller);
	const u8 *sent = transfer->tx_buf;
	u8 *received = transfer->rx_buf;
	unsigned int i;

	for (i = 0; i < transfer->len; i++) {
		if (sent)
			memory[i % MEMORY] = sent[i];
		if (received)
			received[i] = memory[i % MEMORY];
	}
	return 0;
}

static struct spi_controller *add_controller(int number)
{
	struct spi_controller *controller;
	int err;

	controller = __spi_alloc_controller(&parent->dev, MEMORY, false);
	if (!controller)
		return ERR_PTR(-ENOMEM);
	controller->bus_num = number;
	controller->num_chipselect = MAX_DEVICES;
	controller->mode_bits = SPI_MODE_X_MASK | SPI_CS_HIGH | SPI_LSB_FIRST |
				SPI_3WIRE | SPI_LOOP | SPI_NO_CS;
	controller->transfer_one = transfer_one;
	err = spi_register_controller(controller);
	if (err) {
		spi_controller_put(controller);
		return ERR_PTR(err);
	}
	return controller;
}

static int add_device(const char *name, int chip_select)
{
	struct spi_board_info info = {
		.max_speed_hz = SPEED,
		.chip_select = chip_select,
	};

	strscpy(info.modalias, name, sizeof(info.modalias));
	return spi_new_device(controllers[0], &info) ? 0 : -ENODEV;
}

/* With a controller, its devices go as well. */
static void unregister_all(int n)
{
	while (n--)
		spi_unregister_controller(controllers[n]);
	platform_device_unregister(parent);
}

static int __init pkvfuzz_spi_init(void)
{
	int i, err;

	parent = platform_device_register_simple("pkvfuzz-spi", PLATFORM_DEVID_NONE,
						 NULL, 0);
	if (IS_ERR(parent))
		return PTR_ERR(parent);
	for (i = 0; i < N_CONTROLLERS; i++) {
		controllers[i] = add_controller(i);
		if (IS_ERR(controllers[i])) {
			err = PTR_ERR(controllers[i]);
			unregister_all(i);
			return err;
		}
	}
	for (i = 0; i < n_names; i++) {
		err = add_device(names[i], i);
		if (err) {
			unregister_all(N_CONTROLLERS);
			return err;
		}
	}
	return 0;
}

static void __exit pkvfuzz_spi_exit(void)
{
	unregister_all(N_CONTROLLERS);
}

module_init(pkvfuzz_spi_init);
module_exit(pkvfuzz_spi_exit);

MODULE_DESCRIPTION("SPI controllers, and devices by name");
MODULE_LICENSE("GPL");
