// SPDX-License-Identifier: Apache-2.0
/*
 * Tells the host to look. Batches take milliseconds, and a host that looked all
 * the time would want a core for that. The bell is the console of a virtio-mmio
 * device, which writes a byte to a pipe of the host's: the one thing that this
 * kernel's user space can reach without a driver. No machine is frozen with a
 * bell in use.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "executor.h"

/* Where microvm has its transports, and registers of the legacy interface. */
#define TRANSPORTS	0xfeb00000ul
#define TRANSPORT_SIZE	512
#define N_TRANSPORTS	24
#define MAGIC		0x000
#define DEVICE_ID	0x008
#define GUEST_FEATURES	0x020
#define GUEST_PAGE_SIZE	0x028
#define QUEUE_SEL	0x030
#define QUEUE_NUM	0x038
#define QUEUE_ALIGN	0x03c
#define QUEUE_PFN	0x040
#define QUEUE_NOTIFY	0x050
#define STATUS		0x070

#define IS_VIRTIO	0x74726976
#define IS_CONSOLE	3
#define QUEUE		1	/* what the guest prints */
#define NO_INTERRUPT	1
#define DRIVER_OK	(1 | 2 | 4)

/* A queue of one buffer, which is one byte. */
struct queue {
	uint64_t buffer;
	uint32_t length;
	uint16_t flags, next;
	uint16_t avail_flags, avail, avail_ring, used_event;
	uint8_t byte;
	uint8_t pad[39];
	uint16_t used_flags, used;
};
_Static_assert(offsetof(struct queue, used_flags) == 64, "not as long as the alignment");
_Static_assert(sizeof(struct queue) <= CH_BELL_SIZE, "the queue does not fit");

static volatile uint8_t *device;
static volatile struct queue *queue;

static void set(uint32_t reg, uint32_t value)
{
	*(volatile uint32_t *)(device + reg) = value;
}

static uint32_t get(const volatile uint8_t *transport, uint32_t reg)
{
	return *(const volatile uint32_t *)(transport + reg);
}

static void find_device(void)
{
	size_t size = (N_TRANSPORTS * TRANSPORT_SIZE + PAGE - 1) & -PAGE;
	int fd = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
	uint8_t *all;

	if (fd < 0)
		return;
	all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, TRANSPORTS);
	close(fd);
	if (all == MAP_FAILED)
		return;
	for (uint32_t i = 0; i < N_TRANSPORTS; i++) {
		uint8_t *transport = all + i * TRANSPORT_SIZE;

		if (get(transport, MAGIC) == IS_VIRTIO &&
		    get(transport, DEVICE_ID) == IS_CONSOLE)
			device = transport;
	}
}

/* Before the first batch. Without a bell the host looks now and then. */
void bell_open(void)
{
	static bool tried;

	if (tried)
		return;
	tried = true;
	find_device();
	if (!device)
		return;
	queue = (volatile struct queue *)(channel + CH_BELL);
	*queue = (struct queue){
		.buffer = channel_address + CH_BELL + offsetof(struct queue, byte),
		.length = 1,
		.avail_flags = NO_INTERRUPT,
	};
	set(STATUS, 0);
	set(GUEST_PAGE_SIZE, PAGE);
	set(GUEST_FEATURES, 0);
	set(QUEUE_SEL, QUEUE);
	set(QUEUE_NUM, 1);
	set(QUEUE_ALIGN, offsetof(struct queue, used_flags));
	set(QUEUE_PFN, (channel_address + CH_BELL) / PAGE);
	set(STATUS, DRIVER_OK);
	header->rings = 1;
}

void bell_ring(void)
{
	/* If it has not been heard yet, it will be. */
	if (!device || queue->used != queue->avail)
		return;
	__atomic_store_n(&queue->avail, queue->avail + 1, __ATOMIC_SEQ_CST);
	set(QUEUE_NOTIFY, QUEUE);
}
