// SPDX-License-Identifier: GPL-2.0
/*
 * Registers I2C adapters 0 to 2, and clients by name on the first, for drivers
 * whose device is not there. Every address of an adapter answers, as an EEPROM
 * of 256 bytes would: the first byte that is written to it says where the
 * others go, and what is read next comes from.
 */
#include <linux/err.h>
#include <linux/i2c.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/string.h>

#define N_ADAPTERS 3
#define N_ADDRESSES 128
#define FIRST_ADDRESS 0x10
#define MAX_DEVICES 8

static char *names[MAX_DEVICES];
static int n_names;
module_param_array(names, charp, &n_names, 0444);
MODULE_PARM_DESC(names, "names of the clients, as their drivers have them");

struct pkvfuzz_chip {
	u8 next;
	u8 registers[256];
};

struct pkvfuzz_bus {
	struct i2c_adapter adapter;
	struct pkvfuzz_chip chips[N_ADDRESSES];
};

static struct pkvfuzz_bus buses[N_ADAPTERS];

static void read_message(struct pkvfuzz_chip *chip, struct i2c_msg *msg)
{
	int i = 0;

	if (msg->flags & I2C_M_RECV_LEN) {
		/* A block, of which the first byte is the length. */
		u8 length = chip->registers[chip->next++];

		msg->buf[i++] = clamp_t(u8, length, 1, I2C_SMBUS_BLOCK_MAX);
		msg->len += msg->buf[0];
	}
	for (; i < msg->len; i++)
		msg->buf[i] = chip->registers[chip->next++];
}

static void write_message(struct pkvfuzz_chip *chip, const struct i2c_msg *msg)
{
	int i;

	if (msg->len)
		chip->next = msg->buf[0];
	for (i = 1; i < msg->len; i++)
		chip->registers[chip->next++] = msg->buf[i];
}

static int transfer(struct i2c_adapter *adapter, struct i2c_msg *msgs, int n)
{
	struct pkvfuzz_bus *bus = container_of(adapter, struct pkvfuzz_bus, adapter);
	int i;

	for (i = 0; i < n; i++) {
		struct pkvfuzz_chip *chip = &bus->chips[msgs[i].addr % N_ADDRESSES];

		if (msgs[i].flags & I2C_M_RD)
			read_message(chip, &msgs[i]);
		else
			write_message(chip, &msgs[i]);
	}
	return n;
}

static u32 functionality(struct i2c_adapter *adapter)
{
	return I2C_FUNC_I2C | I2C_FUNC_SMBUS_EMUL_ALL;
}

static const struct i2c_algorithm algorithm = {
	.master_xfer = transfer,
	.functionality = functionality,
};

static int add_adapter(struct i2c_adapter *adapter, int number)
{
	adapter->owner = THIS_MODULE;
	adapter->algo = &algorithm;
	adapter->nr = number;
	strscpy(adapter->name, "pkvfuzz", sizeof(adapter->name));
	return i2c_add_numbered_adapter(adapter);
}

static int add_client(const char *name, unsigned short address)
{
	struct i2c_board_info info = { .addr = address };
	struct i2c_client *client;

	strscpy(info.type, name, sizeof(info.type));
	client = i2c_new_client_device(&buses[0].adapter, &info);
	return PTR_ERR_OR_ZERO(client);
}

/* With an adapter, its clients go as well. */
static void delete_adapters(int n)
{
	while (n--)
		i2c_del_adapter(&buses[n].adapter);
}

static int __init pkvfuzz_i2c_init(void)
{
	int i, err;

	for (i = 0; i < N_ADAPTERS; i++) {
		err = add_adapter(&buses[i].adapter, i);
		if (err) {
			delete_adapters(i);
			return err;
		}
	}
	for (i = 0; i < n_names; i++) {
		err = add_client(names[i], FIRST_ADDRESS + i);
		if (err) {
			delete_adapters(N_ADAPTERS);
			return err;
		}
	}
	return 0;
}

static void __exit pkvfuzz_i2c_exit(void)
{
	delete_adapters(N_ADAPTERS);
}

module_init(pkvfuzz_i2c_init);
module_exit(pkvfuzz_i2c_exit);

MODULE_DESCRIPTION("I2C adapters, and clients by name");
MODULE_LICENSE("GPL");
