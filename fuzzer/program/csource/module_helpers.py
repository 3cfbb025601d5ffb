# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E101 - C is indented as the kernel does
"""Helpers in C that load the module, and make and open nodes."""

from __future__ import annotations

from fuzzer.program.csource.helper import Helper

MODULE_HELPERS = {
    "unload": Helper(
        """\
static void unload(void)
{
	syscall(SYS_delete_module, MODULE, O_NONBLOCK);
}
""",
        ("fcntl.h", "sys/syscall.h", "unistd.h"),
    ),
    "load": Helper(
        """\
static char *image;
static long image_size;
static int load_error;

static void read_image(const char *path)
{
	FILE *file = fopen(path, "rb");

	if (!file || fseek(file, 0, SEEK_END) || (image_size = ftell(file)) < 0 ||
	    !(image = malloc(image_size + 1)) || fseek(file, 0, SEEK_SET) ||
	    fread(image, 1, image_size, file) != (size_t)image_size) {
		perror(path);
		exit(2);
	}
	fclose(file);
}

static void load(const char *parameters)
{
	load_error = syscall(SYS_init_module, image, image_size, parameters);
}

/* The device's node may come a bit later than the module. */
static void await_device(void)
{
	for (int i = 0; !load_error && access(DEVICE, F_OK) && i < 400; i++)
		usleep(5000);
}
""",
        ("stdio.h", "stdlib.h", "sys/syscall.h", "unistd.h"),
    ),
    "open_either": Helper(
        """\
/* Files of sysfs may allow only one of reading and writing. */
static int open_either(const char *path)
{
	int fd = open(path, O_RDWR);

	if (fd < 0)
		fd = open(path, O_RDONLY);
	return fd < 0 ? open(path, O_WRONLY) : fd;
}
""",
        ("fcntl.h",),
    ),
    "find_major": Helper(
        """\
/* The number that a driver has, by its name in /proc/devices. */
static int find_major(const char *name, int block)
{
	char line[128];
	int major, at = 0, found = -1, in_block = 0;
	FILE *file = fopen("/proc/devices", "r");

	while (file && found < 0 && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\\n")] = 0;
		in_block |= !strncmp(line, "Block", 5);
		if (in_block == block && sscanf(line, "%d %n", &major, &at) == 1 &&
		    !strcmp(line + at, name))
			found = major;
	}
	if (file)
		fclose(file);
	return found;
}
""",
        ("stdio.h", "string.h"),
    ),
    "make_node": Helper(
        """\
/* Make a node that the driver leaves to user space. */
static void make_node(const char *path, mode_t type, int major, int minor)
{
	unlink(path);
	if (major >= 0 && mknod(path, type | 0600, makedev(major, minor)))
		perror(path);
}
""",
        ("stdio.h", "sys/stat.h", "sys/sysmacros.h", "unistd.h"),
    ),
}
