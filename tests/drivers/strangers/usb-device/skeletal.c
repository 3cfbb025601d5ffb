// SPDX-License-Identifier: GPL-2.0
/* A driver of a USB device, which makes its file in its probe. */
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/usb.h>

static struct usb_interface *skeletal;
static unsigned int in, out;

static const struct file_operations skeletal_fops;

static struct usb_class_driver skeletal_class = {
	.name = "skeletal%d",
	.fops = &skeletal_fops,
};

static ssize_t skeletal_read(struct file *file, char __user *buf, size_t count, loff_t *pos)
{
	struct usb_device *device = interface_to_usbdev(skeletal);
	u8 *data = kzalloc(512, GFP_KERNEL);
	int err, n;

	if (!data)
		return -ENOMEM;
	err = usb_bulk_msg(device, usb_rcvbulkpipe(device, in), data, 512, &n, 1000);
	if (!err && count > n)
		err = -EINVAL;
	if (!err && copy_to_user(buf, data, count))
		err = -EFAULT;
	kfree(data);
	return err ? err : count;
}

static const struct file_operations skeletal_fops = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
	.read = skeletal_read,
};

static int skeletal_probe(struct usb_interface *interface, const struct usb_device_id *id)
{
	struct usb_endpoint_descriptor *bulk_in, *bulk_out, *int_in, *int_out;
	struct usb_device *device = interface_to_usbdev(interface);
	u8 *data;
	int err, n;

	err = usb_find_common_endpoints(interface->cur_altsetting, &bulk_in, &bulk_out, &int_in,
					&int_out);
	if (err)
		return err;
	data = kzalloc(5, GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	skeletal = interface;
	in = bulk_in->bEndpointAddress;
	out = bulk_out->bEndpointAddress;
	err = usb_bulk_msg(device, usb_sndbulkpipe(device, out), data, 5, &n, 1000);
	kfree(data);
	return err ? err : usb_register_dev(interface, &skeletal_class);
}

static void skeletal_disconnect(struct usb_interface *interface)
{
	usb_deregister_dev(interface, &skeletal_class);
}

static const struct usb_device_id skeletal_ids[] = {
	{ USB_DEVICE(0xfff0, 0x1234) },
	{ }
};
MODULE_DEVICE_TABLE(usb, skeletal_ids);

static struct usb_driver skeletal_driver = {
	.name = "skeletal",
	.probe = skeletal_probe,
	.disconnect = skeletal_disconnect,
	.id_table = skeletal_ids,
};
module_usb_driver(skeletal_driver);

MODULE_DESCRIPTION("A driver for a USB device");
MODULE_LICENSE("GPL");
