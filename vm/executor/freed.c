// SPDX-License-Identifier: Apache-2.0
/*
 * Pages that a driver freed while a program has them mapped. The kernel does not see
 * what a program does to these, so they are looked for after each call: KASAN's shadow
 * of the page that is mapped says whether it is free. Of one that is, KASAN is made to
 * tell.
 *
 * Both are found in the machine's memory, by way of page tables: /proc/self/pagemap has
 * nothing of pages that a driver maps without the kernel's struct page. The shadow is
 * where KASAN_SHADOW_OFFSET of x86-64 puts it. The page table of this process is the
 * one by which a word that it writes is found.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "executor.h"

#define DIRECT_MAP	0xffff888000000000ull
#define SHADOW		0xdffffc0000000000ull
#define FREE_PAGE	0xff
#define MOST_RANGES	8

/* Of page tables of four levels: entries, and the shifts of the first and the last. */
#define ENTRIES		512
#define FIRST_LEVEL	39
#define LAST_LEVEL	12
#define LEVEL_BITS	9
#define PRESENT		0x1ull
#define LARGE		0x80ull
#define ADDRESS		0x000ffffffffff000ull
/* The entry of the kernel's that all have. */
#define SHARED_ENTRY	(DIRECT_MAP >> FIRST_LEVEL & (ENTRIES - 1))

/* The machine's memory, as this process has it mapped. */
static struct {
	uint64_t start;
	uint64_t end;
	uint8_t *at;
} ranges[MOST_RANGES];
static int n_ranges;

static pthread_once_t opened = PTHREAD_ONCE_INIT;
static int memory = -1;
static uint64_t own_table;
static bool told;

static const void *at_physical(uint64_t physical)
{
	for (int i = 0; i < n_ranges; i++)
		if (physical >= ranges[i].start && physical < ranges[i].end)
			return ranges[i].at + (physical - ranges[i].start);
	return NULL;
}

/* Where an address is in the machine's memory; 0: nowhere. */
static uint64_t physical_of(uint64_t table, uint64_t address)
{
	for (int shift = FIRST_LEVEL; shift >= LAST_LEVEL; shift -= LEVEL_BITS) {
		uint64_t at = table + (address >> shift & (ENTRIES - 1)) * 8;
		const uint64_t *entry = at_physical(at);
		uint64_t value = entry ? __atomic_load_n(entry, __ATOMIC_RELAXED) : 0;

		if (!(value & PRESENT))
			return 0;
		table = value & ADDRESS;
		if (shift > LAST_LEVEL && value & LARGE) {
			uint64_t inside = (1ull << shift) - 1;

			return (table & ~inside) | (address & inside);
		}
	}
	return table | (address & (PAGE - 1));
}

/* Map the machine's memory, to read; what a process is forked with has it not. */
static void map_memory(void)
{
	unsigned long long start, end;
	char line[128];
	FILE *file = fopen("/proc/iomem", "r");

	while (file && n_ranges < MOST_RANGES && fgets(line, sizeof(line), file)) {
		uint8_t *at;

		if (sscanf(line, "%llx-%llx : System RAM", &start, &end) != 2 ||
		    line[0] == ' ' || !strstr(line, " : System RAM"))
			continue;
		start = (start + PAGE - 1) & ~(PAGE - 1ull);
		end = (end + 1) & ~(PAGE - 1ull);
		at = mmap(NULL, end - start, PROT_READ, MAP_SHARED, memory,
			  (off_t)start);
		if (at == MAP_FAILED)
			continue;
		madvise(at, end - start, MADV_DONTFORK);
		ranges[n_ranges].start = start;
		ranges[n_ranges].end = end;
		ranges[n_ranges++].at = at;
	}
	if (file)
		fclose(file);
}

/* Whether a word that changes is found by way of a page table. */
static bool is_own(uint64_t table)
{
	static volatile uint64_t word;

	for (int i = 0; i < 4; i++) {
		const volatile uint64_t *seen;

		word = ticks();
		seen = at_physical(physical_of(table, (uintptr_t)&word));
		if (!seen || *seen != word)
			return false;
	}
	return true;
}

static uint64_t find_own_table(void)
{
	const uint64_t *kernels = at_physical(header->page_table);

	for (int i = 0; kernels && i < n_ranges; i++) {
		uint64_t start = ranges[i].start;

		for (; start < ranges[i].end; start += PAGE) {
			const uint64_t *table = at_physical(start);

			if (table[SHARED_ENTRY] == kernels[SHARED_ENTRY] &&
			    is_own(start))
				return start;
		}
	}
	return 0;
}

static void begin(void)
{
	slow_begin();
	memory = descriptor_of_ours(open("/dev/mem", O_RDWR | O_CLOEXEC));
	if (memory >= 0) {
		map_memory();
		own_table = find_own_table();
	}
	if (!own_table)
		fprintf(stderr, "pkvfuzz: no page table to look for freed pages\n");
	slow_end();
}

static bool is_free(uint64_t physical)
{
	uint64_t shadow = ((DIRECT_MAP + physical) >> 3) + SHADOW;
	const uint8_t *value;

	value = at_physical(physical_of(header->page_table, shadow));
	return value && __atomic_load_n(value, __ATOMIC_RELAXED) == FREE_PAGE;
}

/* Writing a byte of free memory as it is hurts nobody, and KASAN checks it. */
static void tell(uint64_t physical)
{
	const uint8_t *byte = at_physical(physical);

	told = true;
	if (pwrite(memory, byte, 1, (off_t)physical) != 1)
		perror("pkvfuzz: /dev/mem");
}

/* A program is over. */
void freed_forget(void)
{
	told = false;
}

/*
 * Look at pages of a program. Another thread, or the driver, may unmap one and then
 * free it: so one that is free has to be mapped afterwards, too.
 */
void freed_look(const uint8_t *at, int pages)
{
	if (told || !header->page_table)
		return;
	pthread_once(&opened, begin);
	for (int i = 0; own_table && i < pages; i++) {
		uint64_t address = (uintptr_t)at + i * PAGE;
		uint64_t physical = physical_of(own_table, address);

		if (physical && at_physical(physical) && is_free(physical) &&
		    physical_of(own_table, address) == physical &&
		    is_free(physical)) {
			tell(physical);
			return;
		}
	}
}
