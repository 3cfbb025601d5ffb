// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel log as it is in the kernel's memory. A driver that prints something in
 * each call says the same again and again, and to have the kernel format that for
 * /dev/kmsg costs more than most calls. So it is looked at here first.
 *
 * The structs are those of kernel/printk/printk_ringbuffer.h since Linux 5.10. A
 * kernel that has others is found out: what is seen here is compared with a record
 * that was read from /dev/kmsg.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "executor.h"

/* Where the kernel's image is mapped on x86-64. */
#define IMAGE		0xffffffff80000000ull
#define MOST_BITS	24

#define STATE_SHIFT	62
#define FINALIZED	2ull
#define NO_DATA		1	/* in a position: the text is empty */

struct data_ring {
	uint32_t size_bits;
	uint64_t data;
};

struct descriptor_ring {
	uint32_t count_bits;
	uint64_t descriptors;
	uint64_t infos;
	uint64_t head_id;
	uint64_t tail_id;
	union {
		struct data_ring text;
		struct {
			uint64_t last_finalized;	/* since Linux 6.7 */
			struct data_ring text;
		} newer;
	};
};

struct descriptor {
	uint64_t state;		/* and id */
	uint64_t begin;		/* of its text */
	uint64_t next;
};

struct info {
	uint64_t seq;
	uint64_t time;
	uint16_t text_length;
	uint8_t facility;
	uint8_t flags_and_level;
	uint32_t caller;
	char device[64];
};

static const volatile struct descriptor *descriptors;
static const volatile struct info *infos;
static const uint8_t *data;
static uint32_t count_bits, size_bits;
/* A record's id is its sequence number and this. */
static uint64_t first_id;

/* Map some of the kernel's image, to read; NULL if it is not there. */
static const void *image_at(int fd, uint64_t address, size_t size)
{
	uint64_t physical = address - IMAGE, start = physical & ~(PAGE - 1ull);
	uint8_t *pages;

	if (address < IMAGE || physical > header->log_ring + (64ull << 20))
		return NULL;
	pages = mmap(NULL, physical - start + size, PROT_READ, MAP_SHARED, fd,
		     start);
	return pages == MAP_FAILED ? NULL : pages + (physical - start);
}

static bool map_ring(int fd)
{
	const uint64_t *at = image_at(fd, IMAGE + header->log_ring, sizeof(*at));
	const struct descriptor_ring *ring = at ?
		image_at(fd, *at, sizeof(*ring)) : NULL;
	const struct data_ring *text;

	if (!ring)
		return false;
	text = ring->text.data >= IMAGE ? &ring->text : &ring->newer.text;
	count_bits = ring->count_bits;
	size_bits = text->size_bits;
	if (count_bits > MOST_BITS || size_bits > MOST_BITS)
		return false;
	descriptors = image_at(fd, ring->descriptors,
			       sizeof(*descriptors) << count_bits);
	infos = image_at(fd, ring->infos, sizeof(*infos) << count_bits);
	data = image_at(fd, text->data, 1ull << size_bits);
	if (!descriptors || !infos || !data)
		return false;
	first_id = ring->head_id -
		   infos[ring->head_id & ((1ull << count_bits) - 1)].seq;
	return true;
}

/* Whether a record reads as it did in /dev/kmsg, where a newline ends it. */
static bool is_record(uint64_t seq, const char *text)
{
	char seen[RING_LINE];
	int length = ring_read(seq, seen, sizeof(seen));

	return length > 0 && !strncmp(text, seen, length) && text[length] == '\n';
}

/*
 * Whether ring_read() can be used. The first time it is tried with a record that was
 * read already: its sequence number and text.
 */
bool ring_open(uint64_t seq, const char *text)
{
	static bool tried, usable;
	int fd;

	if (tried || !header->log_ring)
		return usable;
	tried = true;
	fd = open("/dev/mem", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	usable = map_ring(fd) && is_record(seq, text);
	close(fd);
	return usable;
}

/* Copy a text as /dev/kmsg has it; whether there is room for that. */
static bool escape(char *to, size_t room, const uint8_t *from, size_t *length)
{
	static const char digits[] = "0123456789abcdef";
	const char *start = to, *end = to + room;

	for (size_t i = 0; i < *length; i++) {
		uint8_t c = from[i];

		if (end - to < 4)
			return false;
		if (c >= ' ' && c < 127 && c != '\\') {
			*to++ = c;
			continue;
		}
		*to++ = '\\';
		*to++ = 'x';
		*to++ = digits[c >> 4];
		*to++ = digits[c & 15];
	}
	*length = to - start;
	return true;
}

/*
 * Copy a record's text. Returns its length, RING_NONE if the kernel has not printed
 * that record yet, RING_UNKNOWN if it is gone or too long.
 */
int ring_read(uint64_t seq, char *text, size_t room)
{
	uint64_t id = (seq + first_id) & ~(3ull << STATE_SHIFT);
	uint64_t at = id & ((1ull << count_bits) - 1);
	uint64_t finalized = FINALIZED << STATE_SHIFT | id, begin, next;
	size_t length;

	if (__atomic_load_n(&descriptors[at].state, __ATOMIC_ACQUIRE) != finalized)
		return (int64_t)(infos[at].seq - seq) > 0 ? RING_UNKNOWN : RING_NONE;
	length = infos[at].text_length;
	begin = descriptors[at].begin;
	next = descriptors[at].next;
	if (infos[at].seq != seq)
		return RING_UNKNOWN;
	if (begin & NO_DATA)
		length = 0;
	/* A text that would not fit before the end is at the beginning. */
	if (begin >> size_bits != (next - 1) >> size_bits)
		begin = 0;
	begin &= (1ull << size_bits) - 1;
	begin += sizeof(id);
	if (begin + length > 1ull << size_bits)
		return RING_UNKNOWN;
	if (!escape(text, room, data + begin, &length))
		return RING_UNKNOWN;
	/* It may have been replaced meanwhile. */
	if (__atomic_load_n(&descriptors[at].state, __ATOMIC_ACQUIRE) != finalized)
		return RING_UNKNOWN;
	return length;
}
