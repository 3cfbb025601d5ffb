// SPDX-License-Identifier: GPL-2.0
/*
 * Registers GPIO lines 0 to 1023, for drivers whose board is not there. A line
 * has the value that was last given to it. Each line has an interrupt: all that
 * are enabled come when a program changes a line, as if every line were wired
 * to every other. What a handler or a thread of the kernel changes does not
 * count, or there would be no end to it. Each platform device that is added
 * later has a line for each of the functions that are named, from the last one
 * down.
 */
#include <linux/bitmap.h>
#include <linux/device.h>
#include <linux/gpio/driver.h>
#include <linux/gpio/machine.h>
#include <linux/irq.h>
#include <linux/irq_work.h>
#include <linux/irqdomain.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/platform_device.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/slab.h>

#define N_LINES 1024
#define MAX_FUNCTIONS 16
#define MAX_DEVICES 8
#define LABEL "pkvfuzz"

static char *names[MAX_FUNCTIONS];
static int n_names;
module_param_array(names, charp, &n_names, 0444);
MODULE_PARM_DESC(names, "functions that lines have, as drivers ask for them");

static DECLARE_BITMAP(values, N_LINES);
static DECLARE_BITMAP(outputs, N_LINES);
static DECLARE_BITMAP(unmasked, N_LINES);
static struct irq_domain *domain;

static void raise_interrupts(struct irq_work *work)
{
	unsigned int line;

	for_each_set_bit(line, unmasked, N_LINES)
		generic_handle_domain_irq(domain, line);
}

static struct irq_work raising = IRQ_WORK_INIT_HARD(raise_interrupts);

static void change(unsigned int line, int value)
{
	bool differs = test_bit(line, values) != !!value;

	assign_bit(line, values, value);
	if (differs && in_task() && !(current->flags & PF_KTHREAD))
		irq_work_queue(&raising);
}

static int get_direction(struct gpio_chip *chip, unsigned int line)
{
	return test_bit(line, outputs) ? GPIO_LINE_DIRECTION_OUT : GPIO_LINE_DIRECTION_IN;
}

static int direction_input(struct gpio_chip *chip, unsigned int line)
{
	clear_bit(line, outputs);
	return 0;
}

static int direction_output(struct gpio_chip *chip, unsigned int line, int value)
{
	set_bit(line, outputs);
	change(line, value);
	return 0;
}

static int get(struct gpio_chip *chip, unsigned int line)
{
	return test_bit(line, values);
}

static int set(struct gpio_chip *chip, unsigned int line, int value)
{
	change(line, value);
	return 0;
}

static int set_config(struct gpio_chip *chip, unsigned int line, unsigned long config)
{
	return 0;
}

static int to_irq(struct gpio_chip *chip, unsigned int line)
{
	unsigned int irq = irq_create_mapping(domain, line);

	return irq ? irq : -ENXIO;
}

static struct gpio_chip lines = {
	.label = LABEL,
	.owner = THIS_MODULE,
	.base = 0,
	.ngpio = N_LINES,
	.get_direction = get_direction,
	.direction_input = direction_input,
	.direction_output = direction_output,
	.get = get,
	/* Before 6.17 it returns nothing, which does no harm here. */
	.set = (void *)set,
	.set_config = set_config,
	.to_irq = to_irq,
};

static void mask(struct irq_data *data)
{
	clear_bit(irqd_to_hwirq(data), unmasked);
}

static void unmask(struct irq_data *data)
{
	set_bit(irqd_to_hwirq(data), unmasked);
}

static int set_type(struct irq_data *data, unsigned int type)
{
	return 0;
}

static struct irq_chip interrupts = {
	.name = LABEL,
	.irq_mask = mask,
	.irq_unmask = unmask,
	.irq_set_type = set_type,
};

static int map(struct irq_domain *of, unsigned int irq, irq_hw_number_t line)
{
	irq_set_chip_and_handler(irq, &interrupts, handle_simple_irq);
	irq_set_noprobe(irq);
	return 0;
}

static const struct irq_domain_ops domain_ops = {
	.map = map,
};

static void remove_domain(void)
{
	unsigned int line;

	irq_work_sync(&raising);
	for (line = 0; line < N_LINES; line++)
		irq_dispose_mapping(irq_find_mapping(domain, line));
	irq_domain_remove(domain);
}

static struct gpiod_lookup_table *tables[MAX_DEVICES];
static int n_tables;

static void add_lines(struct device *device)
{
	int i, last = N_LINES - 1 - n_tables * n_names;
	struct gpiod_lookup_table *table;

	if (n_tables == MAX_DEVICES)
		return;
	/* One more, which ends it. */
	table = kzalloc(struct_size(table, table, n_names + 1), GFP_KERNEL);
	if (!table)
		return;
	table->dev_id = kstrdup(dev_name(device), GFP_KERNEL);
	for (i = 0; i < n_names; i++)
		table->table[i] = GPIO_LOOKUP(LABEL, last - i, names[i], GPIO_ACTIVE_HIGH);
	gpiod_add_lookup_table(table);
	tables[n_tables++] = table;
}

static int device_event(struct notifier_block *block, unsigned long event, void *device)
{
	if (event == BUS_NOTIFY_ADD_DEVICE)
		add_lines(device);
	return NOTIFY_DONE;
}

static struct notifier_block device_events = {
	.notifier_call = device_event,
};

static void remove_lines(void)
{
	if (n_names)
		bus_unregister_notifier(&platform_bus_type, &device_events);
	while (n_tables--) {
		gpiod_remove_lookup_table(tables[n_tables]);
		kfree(tables[n_tables]->dev_id);
		kfree(tables[n_tables]);
	}
}

static int __init pkvfuzz_gpio_init(void)
{
	int err;

	domain = irq_domain_create_linear(NULL, N_LINES, &domain_ops, NULL);
	if (!domain)
		return -ENOMEM;
	err = gpiochip_add_data(&lines, NULL);
	if (!err && n_names) {
		err = bus_register_notifier(&platform_bus_type, &device_events);
		if (err)
			gpiochip_remove(&lines);
	}
	if (err)
		remove_domain();
	return err;
}

static void __exit pkvfuzz_gpio_exit(void)
{
	remove_lines();
	gpiochip_remove(&lines);
	remove_domain();
}

module_init(pkvfuzz_gpio_init);
module_exit(pkvfuzz_gpio_exit);

MODULE_DESCRIPTION("GPIO lines with interrupts");
MODULE_LICENSE("GPL");
