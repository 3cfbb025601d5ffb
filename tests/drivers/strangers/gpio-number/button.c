// SPDX-License-Identifier: GPL-2.0
/* Takes GPIO lines by their numbers, and an interrupt of one; reads change the other. */
#include <linux/atomic.h>
#include <linux/gpio.h>
#include <linux/interrupt.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#define LED 21
#define BUTTON 25

static atomic_t n_pressed = ATOMIC_INIT(0);
static int irq;

static irqreturn_t button_pressed(int number, void *data)
{
	atomic_inc(&n_pressed);
	return IRQ_HANDLED;
}

static ssize_t button_read(struct file *file, char __user *buf, size_t count, loff_t *pos)
{
	gpio_set_value(LED, !gpio_get_value(LED));
	if (count > 5 * atomic_read(&n_pressed))
		return -EINVAL;
	return clear_user(buf, count) ? -EFAULT : count;
}

static const struct file_operations button_fops = {
	.owner = THIS_MODULE,
	.read = button_read,
};

static struct miscdevice button_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "button",
	.fops = &button_fops,
};

static int __init button_init(void)
{
	int err = gpio_request(LED, "led");

	if (err)
		return err;
	gpio_direction_output(LED, 0);
	err = gpio_request(BUTTON, "button");
	if (err)
		goto no_button;
	gpio_direction_input(BUTTON);
	irq = gpio_to_irq(BUTTON);
	err = request_irq(irq, button_pressed, IRQF_TRIGGER_RISING, "button", NULL);
	if (err)
		goto no_irq;
	err = misc_register(&button_misc);
	if (!err)
		return 0;
	free_irq(irq, NULL);
no_irq:
	gpio_free(BUTTON);
no_button:
	gpio_free(LED);
	return err;
}
module_init(button_init);

static void __exit button_exit(void)
{
	misc_deregister(&button_misc);
	free_irq(irq, NULL);
	gpio_free(BUTTON);
	gpio_free(LED);
}
module_exit(button_exit);

MODULE_DESCRIPTION("A driver that takes GPIO lines by number");
MODULE_LICENSE("GPL");
