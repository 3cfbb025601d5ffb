// SPDX-License-Identifier: Apache-2.0
/* The driver's files: device nodes, and files in /proc, sysfs and debugfs. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "executor.h"

/* For modules that have none. */
static const struct ch_device none;

/* The number of the device that a program means by a number. */
uint32_t device_number(uint64_t number)
{
	uint32_t n = header->n_devices;

	return n && n <= CH_MAX_DEVICES ? number % n : 0;
}

const struct ch_device *device_at(uint64_t number)
{
	const struct ch_device *list =
		(const struct ch_device *)(channel + CH_DEVICES);

	return header->n_devices ? &list[device_number(number)] : &none;
}

int device_open(uint64_t number, int flags)
{
	return stack_watch(open(device_at(number)->path, flags | O_CLOEXEC));
}

/*
 * As device_open() for reading and writing. In sysfs, files that allow only one
 * of them refuse the other, even to root.
 */
int device_open_usual(uint64_t number)
{
	static const int flags[] = { O_RDWR, O_RDONLY, O_WRONLY };
	int tries = strncmp(device_at(number)->path, "/sys/", 5) ? 1 : 3;
	int fd = -1;

	for (int i = 0; fd < 0 && i < tries && (!i || errno == EACCES); i++)
		fd = device_open(number, flags[i]);
	return fd;
}

/* Whether a line of /proc/devices is that of a driver; then its number. */
static bool is_line_of(const char *line, const char *name, uint32_t *major)
{
	char *end;
	unsigned long number = strtoul(line, &end, 10);
	size_t length = strlen(name);

	if (end == line || *end != ' ' || strncmp(end + 1, name, length) ||
	    strcmp(end + 1 + length, "\n"))
		return false;
	*major = number;
	return true;
}

/* The number that a driver has now, by its name in /proc/devices. */
static bool find_major(const struct ch_device *device, uint32_t *major)
{
	char line[128];
	FILE *file;
	bool block = false, found = false;

	if (!device->major_name[0]) {
		*major = device->major;
		return true;
	}
	file = fopen("/proc/devices", "re");
	while (file && !found && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "Block", 5))
			block = true;
		found = block == (device->node == CH_NODE_BLOCK) &&
			is_line_of(line, device->major_name, major);
	}
	if (file)
		fclose(file);
	return found;
}

static void make_directories(const char *path)
{
	char part[sizeof(none.path)];

	for (const char *at = strchr(path + 1, '/'); at;
	     at = strchr(at + 1, '/')) {
		snprintf(part, sizeof(part), "%.*s", (int)(at - path), path);
		mkdir(part, 0755);
	}
}

static void make_node(const struct ch_device *device)
{
	mode_t type = device->node == CH_NODE_BLOCK ? S_IFBLK : S_IFCHR;
	struct stat st;
	uint32_t major;

	if (!find_major(device, &major)) {
		/* What an earlier load left would be somebody else's. */
		unlink(device->path);
		return;
	}
	if (!lstat(device->path, &st)) {
		if ((st.st_mode & S_IFMT) == type &&
		    st.st_rdev == makedev(major, device->minor))
			return;
		unlink(device->path);
	}
	make_directories(device->path);
	if (mknod(device->path, type | 0600, makedev(major, device->minor)))
		fprintf(stderr, "pkvfuzz: mknod %s: %s\n", device->path,
			strerror(errno));
}

/* Make the nodes that the driver leaves to user space, with the numbers it has now. */
void devices_make_nodes(void)
{
	for (uint32_t i = 0; i < header->n_devices && i < CH_MAX_DEVICES; i++)
		if (device_at(i)->node != CH_NODE_THERE)
			make_node(device_at(i));
}
