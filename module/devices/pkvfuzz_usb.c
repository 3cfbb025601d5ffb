// SPDX-License-Identifier: GPL-2.0
/*
 * A USB device with the ids that a driver asks for, on the kernel's dummy_hcd.
 * It has a bulk and an interrupt endpoint for each direction; what is sent to
 * one can be read from the other of its kind, again and again. Requests to the
 * device that only its maker knows are taken, and answered with zeros.
 */
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/usb.h>
#include <linux/usb/ch9.h>
#include <linux/usb/gadget.h>

#define CONTROL_SIZE 4096
#define DATA_SIZE 4096
/* What can be read before anything was written. */
#define FIRST_SIZE 8
#define TEXT "pkvfuzz"
#define WAIT (20 * HZ)

static char *names[1];
static int n_names;
module_param_array(names, charp, &n_names, 0444);
MODULE_PARM_DESC(names, "vendor:product, and for a driver of a class :class, each in hex");

static struct usb_device_descriptor device = {
	.bLength = USB_DT_DEVICE_SIZE,
	.bDescriptorType = USB_DT_DEVICE,
	.bcdUSB = cpu_to_le16(0x0200),
	.bcdDevice = cpu_to_le16(0x0100),
	.iManufacturer = 1,
	.iProduct = 2,
	.iSerialNumber = 3,
	.bNumConfigurations = 1,
};

static struct usb_config_descriptor config = {
	.bLength = USB_DT_CONFIG_SIZE,
	.bDescriptorType = USB_DT_CONFIG,
	.bNumInterfaces = 1,
	.bConfigurationValue = 1,
	.bmAttributes = USB_CONFIG_ATT_ONE | USB_CONFIG_ATT_SELFPOWER,
};

static struct usb_interface_descriptor interface = {
	.bLength = USB_DT_INTERFACE_SIZE,
	.bDescriptorType = USB_DT_INTERFACE,
	.bInterfaceClass = USB_CLASS_VENDOR_SPEC,
};

#define ENDPOINT(address, type, size, interval) { \
	.bLength = USB_DT_ENDPOINT_SIZE, \
	.bDescriptorType = USB_DT_ENDPOINT, \
	.bEndpointAddress = (address), \
	.bmAttributes = (type), \
	.wMaxPacketSize = cpu_to_le16(size), \
	.bInterval = (interval), \
}

/* Of a pair, the first is read from by the host. */
static struct usb_endpoint_descriptor endpoints[] = {
	ENDPOINT(USB_DIR_IN | 1, USB_ENDPOINT_XFER_BULK, 512, 0),
	ENDPOINT(USB_DIR_OUT | 2, USB_ENDPOINT_XFER_BULK, 512, 0),
	ENDPOINT(USB_DIR_IN | 3, USB_ENDPOINT_XFER_INT, 64, 4),
	ENDPOINT(USB_DIR_OUT | 4, USB_ENDPOINT_XFER_INT, 64, 4),
};

#define N_ENDPOINTS ARRAY_SIZE(endpoints)

/* What an endpoint sends or receives, and which one it is. */
struct pkvfuzz_stream {
	struct usb_ep *ep;
	struct usb_request *request;
	u8 *data;
	unsigned int length;
};

static struct pkvfuzz_stream streams[N_ENDPOINTS];
static struct usb_request *control;
static DECLARE_COMPLETION(configured);

static void complete_control(struct usb_ep *ep, struct usb_request *request)
{
}

static void submit(struct pkvfuzz_stream *stream)
{
	struct usb_request *request = stream->request;

	request->length = DATA_SIZE;
	if (stream->ep->desc->bEndpointAddress & USB_DIR_IN) {
		request->length = stream->length;
		memcpy(request->buf, stream->data, stream->length);
	}
	usb_ep_queue(stream->ep, request, GFP_ATOMIC);
}

static void complete_data(struct usb_ep *ep, struct usb_request *request)
{
	struct pkvfuzz_stream *stream = request->context;
	struct pkvfuzz_stream *other = &streams[(stream - streams) ^ 1];
	bool is_out = !(ep->desc->bEndpointAddress & USB_DIR_IN);

	if (request->status == -ESHUTDOWN)
		return;
	if (is_out && !request->status && request->actual) {
		other->length = request->actual;
		memcpy(other->data, request->buf, request->actual);
		/* Ends it, so that it begins anew with the new data. */
		usb_ep_dequeue(other->ep, other->request);
	}
	submit(stream);
}

static void disable(void)
{
	int i;

	for (i = 0; i < N_ENDPOINTS; i++)
		if (streams[i].ep->enabled)
			usb_ep_disable(streams[i].ep);
}

static int enable(void)
{
	int i, err;

	disable();
	for (i = 0; i < N_ENDPOINTS; i++) {
		streams[i].ep->desc = &endpoints[i];
		err = usb_ep_enable(streams[i].ep);
		if (err) {
			disable();
			return err;
		}
		submit(&streams[i]);
	}
	return 0;
}

/* Return the length of what is put into buf. */
static int put_config(u8 *buf)
{
	u8 *end = buf + USB_DT_CONFIG_SIZE;
	int i;

	interface.bNumEndpoints = N_ENDPOINTS;
	memcpy(end, &interface, USB_DT_INTERFACE_SIZE);
	end += USB_DT_INTERFACE_SIZE;
	for (i = 0; i < N_ENDPOINTS; i++, end += USB_DT_ENDPOINT_SIZE)
		memcpy(end, &endpoints[i], USB_DT_ENDPOINT_SIZE);
	config.wTotalLength = cpu_to_le16(end - buf);
	memcpy(buf, &config, USB_DT_CONFIG_SIZE);
	return end - buf;
}

static int put_string(u8 *buf, u8 index)
{
	int i;

	buf[1] = USB_DT_STRING;
	if (index == 0) {
		/* The languages that there are: English. */
		buf[0] = 4;
		buf[2] = 0x09;
		buf[3] = 0x04;
		return buf[0];
	}
	buf[0] = 2 + 2 * strlen(TEXT);
	for (i = 0; TEXT[i]; i++)
		buf[2 + 2 * i] = TEXT[i];
	return buf[0];
}

static int put_descriptor(u8 *buf, u16 which)
{
	switch (which >> 8) {
	case USB_DT_DEVICE:
		memcpy(buf, &device, sizeof(device));
		return sizeof(device);
	case USB_DT_CONFIG:
		return put_config(buf);
	case USB_DT_STRING:
		return put_string(buf, which);
	default:
		return -EOPNOTSUPP;
	}
}

/* Return the length of the answer to a request that every device knows. */
static int answer(const struct usb_ctrlrequest *request, u8 *buf)
{
	u16 value = le16_to_cpu(request->wValue);

	switch (request->bRequest) {
	case USB_REQ_GET_DESCRIPTOR:
		return put_descriptor(buf, value);
	case USB_REQ_SET_CONFIGURATION:
		if (value)
			return enable();
		disable();
		return 0;
	case USB_REQ_GET_CONFIGURATION:
		buf[0] = streams[0].ep->enabled;
		return 1;
	case USB_REQ_SET_INTERFACE:
		return value ? -EOPNOTSUPP : enable();
	case USB_REQ_GET_INTERFACE:
		buf[0] = 0;
		return 1;
	default:
		return -EOPNOTSUPP;
	}
}

static int setup(struct usb_gadget *gadget, const struct usb_ctrlrequest *request)
{
	int wanted = min_t(int, le16_to_cpu(request->wLength), CONTROL_SIZE);
	int length = wanted;
	int err;

	memset(control->buf, 0, CONTROL_SIZE);
	if ((request->bRequestType & USB_TYPE_MASK) == USB_TYPE_STANDARD)
		length = answer(request, control->buf);
	if (length < 0)
		return length;
	control->length = min(length, wanted);
	control->zero = length < wanted;
	err = usb_ep_queue(gadget->ep0, control, GFP_ATOMIC);
	if (request->bRequestType == USB_RECIP_DEVICE &&
	    request->bRequest == USB_REQ_SET_CONFIGURATION && request->wValue)
		complete(&configured);
	return err;
}

static struct usb_request *new_request(struct usb_ep *ep, unsigned int size)
{
	struct usb_request *request = usb_ep_alloc_request(ep, GFP_KERNEL);

	if (!request)
		return NULL;
	request->buf = kzalloc(size, GFP_KERNEL);
	if (!request->buf) {
		usb_ep_free_request(ep, request);
		return NULL;
	}
	return request;
}

static void free_request(struct usb_ep *ep, struct usb_request *request)
{
	if (!request)
		return;
	kfree(request->buf);
	usb_ep_free_request(ep, request);
}

/* Find an endpoint of the controller that no other one of ours has. */
static struct usb_ep *take_endpoint(struct usb_gadget *gadget,
				    const struct usb_endpoint_descriptor *wanted)
{
	struct usb_ep *ep;

	gadget_for_each_ep(ep, gadget) {
		bool direction = usb_endpoint_dir_in(wanted) ? ep->caps.dir_in : ep->caps.dir_out;
		bool type = usb_endpoint_xfer_bulk(wanted) ? ep->caps.type_bulk : ep->caps.type_int;

		if (direction && type && !ep->claimed) {
			ep->claimed = true;
			return ep;
		}
	}
	return NULL;
}

static void unbind(struct usb_gadget *gadget)
{
	int i;

	for (i = 0; i < N_ENDPOINTS; i++) {
		struct pkvfuzz_stream *stream = &streams[i];

		if (!stream->ep)
			continue;
		if (stream->ep->enabled)
			usb_ep_disable(stream->ep);
		free_request(stream->ep, stream->request);
		kfree(stream->data);
		stream->ep->claimed = false;
		memset(stream, 0, sizeof(*stream));
	}
	free_request(gadget->ep0, control);
	control = NULL;
}

static int bind(struct usb_gadget *gadget, struct usb_gadget_driver *driver)
{
	int i;

	control = new_request(gadget->ep0, CONTROL_SIZE);
	if (!control)
		return -ENOMEM;
	control->complete = complete_control;
	device.bMaxPacketSize0 = gadget->ep0->maxpacket;
	for (i = 0; i < N_ENDPOINTS; i++) {
		struct pkvfuzz_stream *stream = &streams[i];

		stream->ep = take_endpoint(gadget, &endpoints[i]);
		if (!stream->ep) {
			unbind(gadget);
			return -ENODEV;
		}
		stream->length = FIRST_SIZE;
		stream->data = kzalloc(DATA_SIZE, GFP_KERNEL);
		stream->request = new_request(stream->ep, DATA_SIZE);
		if (!stream->data || !stream->request) {
			unbind(gadget);
			return -ENOMEM;
		}
		stream->request->complete = complete_data;
		stream->request->context = stream;
	}
	return 0;
}

static void disconnect(struct usb_gadget *gadget)
{
	disable();
}

static struct usb_gadget_driver gadget_driver = {
	.function = "pkvfuzz",
	.max_speed = USB_SPEED_HIGH,
	.bind = bind,
	.unbind = unbind,
	.setup = setup,
	.reset = disconnect,
	.disconnect = disconnect,
	.driver = {
		.name = "pkvfuzz_usb",
		.owner = THIS_MODULE,
	},
};

static int is_ours(struct usb_device *found, void *data)
{
	if (found->descriptor.idVendor != device.idVendor ||
	    found->descriptor.idProduct != device.idProduct)
		return 0;
	*(struct usb_device **)data = usb_get_dev(found);
	return 1;
}

/* Wait until the host's side is done: a driver then probes as soon as it is loaded. */
static int await_host(void)
{
	struct usb_device *found = NULL;

	if (!wait_for_completion_timeout(&configured, WAIT))
		return -ETIMEDOUT;
	usb_for_each_dev(&found, is_ours);
	if (!found)
		return -ENODEV;
	/* It is locked until it has its interfaces. */
	usb_lock_device(found);
	usb_unlock_device(found);
	usb_put_dev(found);
	return 0;
}

static int __init pkvfuzz_usb_init(void)
{
	unsigned short vendor, product;
	int n, err;

	if (!n_names)
		return -EINVAL;
	n = sscanf(names[0], "%4hx:%4hx:%2hhx%2hhx%2hhx", &vendor, &product,
		   &interface.bInterfaceClass, &interface.bInterfaceSubClass,
		   &interface.bInterfaceProtocol);
	if (n < 2)
		return -EINVAL;
	device.idVendor = cpu_to_le16(vendor);
	device.idProduct = cpu_to_le16(product);
	err = usb_gadget_register_driver(&gadget_driver);
	if (err)
		return err;
	err = await_host();
	if (err)
		usb_gadget_unregister_driver(&gadget_driver);
	return err;
}

static void __exit pkvfuzz_usb_exit(void)
{
	usb_gadget_unregister_driver(&gadget_driver);
}

module_init(pkvfuzz_usb_init);
module_exit(pkvfuzz_usb_exit);

MODULE_DESCRIPTION("A USB device by its ids");
MODULE_LICENSE("GPL");
