// SPDX-License-Identifier: Apache-2.0
/* Loading and unloading the driver. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <dirent.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "executor.h"

/* Looks at whether its first device is there, 5 ms apart. */
#define DEVICE_TRIES	400
#define PROGRAM_TRIES	20

/*
 * What is done in the background may keep a reference for a moment: a ring of requests
 * that was closed is looked at again each 50 ms. A reference that was forgotten stays.
 */
#define LET_GO_TRIES	60
#define LET_GO_MS	5

/* Kept so that the module can be loaded again. */
static void *kept_image;
static size_t kept_length;
static char kept_params[sizeof(((struct ch_header *)0)->module_params)];

/* Whether it is for programs to load, and absent between them. */
static bool absent;

/* Whether a program was refused to unload it, and whether that is for good. */
static bool refused, held;

/* Whether a program has loaded or unloaded it. */
static bool altered;

/* Whether its first device was there after the last load. */
static bool there;

/* What a program loaded it with, if it is that which is there. */
static bool loaded;
static char loaded_params[sizeof(kept_params)];

static bool read_address(const char *section, uint64_t *address)
{
	char path[256], text[32];
	int fd;
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/module/%s/sections/%s",
		 header->module_name, section);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	*address = strtoull(text, NULL, 16);
	return true;
}

/* Write "NAME ADDRESS\n" for each section of the module to CH_OUTPUT. */
void module_list_sections(void)
{
	char *out = (char *)channel + CH_OUTPUT;
	char path[128];
	size_t used = 0;
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/module/%s/sections",
		 header->module_name);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		uint64_t address;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
		    !read_address(entry->d_name, &address))
			continue;
		if (used + 300 > CH_OUTPUT_SIZE)
			break;
		used += sprintf(out + used, "%s %llx\n", entry->d_name,
				(unsigned long long)address);
	}
	if (dir)
		closedir(dir);
	header->output_length = used;
}

/*
 * The node is made by devtmpfs in the same call, or soon after by a worker. With
 * the parameters of a program there may be none: then it is not waited for much
 * longer than it took with the module's own.
 */
static bool wait_for_device(bool programs)
{
	static uint32_t usual;
	uint32_t most = programs ? PROGRAM_TRIES + 4 * usual : DEVICE_TRIES;
	struct stat st;

	for (uint32_t i = 0; i < most; i++) {
		devices_make_nodes();
		if (!header->n_devices || !stat(device_at(0)->path, &st)) {
			if (!programs && i > usual)
				usual = i;
			return true;
		}
		pause_ms(5);
		note_progress();
	}
	return false;
}

/* What a module needs once it may need again; the host has programs load it less often. */
static void note_load_time(const struct timespec *start,
			   const struct timespec *end)
{
	uint32_t ms = (end->tv_sec - start->tv_sec) * 1000 +
		      (end->tv_nsec - start->tv_nsec) / 1000000;

	if (ms > watched->load_ms)
		header->load_ms = watched->load_ms = ms;
}

/* Load the image that was kept: 0, or -1 and errno. module_await() follows. */
int module_insert(const char *params)
{
	struct timespec start, end;
	int error;

	if (!kept_image) {
		errno = ENOENT;
		return -1;
	}
	/* It is loaded elsewhere. */
	deferred_fold();
	clock_gettime(CLOCK_MONOTONIC, &start);
	slow_begin();
	error = syscall(SYS_init_module, kept_image, kept_length, params);
	slow_end();
	if (!error) {
		clock_gettime(CLOCK_MONOTONIC, &end);
		note_load_time(&start, &end);
	}
	altered |= !error;
	if (!error) {
		loaded = strlen(params) < sizeof(loaded_params);
		snprintf(loaded_params, sizeof(loaded_params), "%s", params);
	}
	return error;
}

/* Unload what module_insert() loads: 0, or -1 and errno. */
int module_remove(void)
{
	int error;

	if (!kept_image) {
		errno = ENOENT;
		return -1;
	}
	slow_begin();
	error = syscall(SYS_delete_module, header->module_name, O_NONBLOCK);
	slow_end();
	altered |= !error;
	refused |= error && errno == EAGAIN;
	if (!error)
		loaded = false;
	return error;
}

/*
 * Find out where it was loaded, and wait for its first device. To open any of the
 * others that is not there is an error like others.
 */
int module_await(bool programs)
{
	if (!read_address(".text", &header->text_start))
		header->text_start = 0;
	there = wait_for_device(programs);
	if (!there)
		return fail(ENOENT, "the module loaded, but %s did not appear",
			    device_at(0)->path);
	return 0;
}

static int load_kept(void)
{
	if (module_insert(kept_params))
		return fail(errno, "init_module: %s", strerror(errno));
	altered = false;
	return module_await(false);
}

int module_load(const void *image, size_t length, const char *params)
{
	free(kept_image);
	kept_image = NULL;
	absent = false;
	/* A part of the kernel is there already. */
	if (!length)
		return module_await(false);
	kept_image = malloc(length);
	if (!kept_image)
		return fail(ENOMEM, "no memory for a module of %zu bytes", length);
	memcpy(kept_image, image, length);
	kept_length = length;
	snprintf(kept_params, sizeof(kept_params), "%s", params);
	if (header->flags & CH_F_KEEP) {
		absent = true;
		return 0;
	}
	return load_kept();
}

/* For the host, which does not want it back after the next program. */
int module_unload(void)
{
	if (syscall(SYS_delete_module, header->module_name, O_NONBLOCK))
		return fail(errno, "delete_module: %s", strerror(errno));
	altered = false;
	return 0;
}

bool module_is_held(void)
{
	return held;
}

static bool has_references(void)
{
	char path[128], text[32];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt",
		 header->module_name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (n <= 0)
		return false;
	text[n] = '\0';
	return strtol(text, NULL, 10) > 0;
}

/*
 * With no file open: where a program was refused to unload it, that can have been
 * for its files. If there still are references, somebody has forgotten one.
 */
int module_let_go(void)
{
	if (!refused)
		return 0;
	refused = false;
	handed_close(true);
	for (int i = 0; i < LET_GO_TRIES; i++) {
		if (!has_references())
			return 0;
		pause_ms(LET_GO_MS);
		note_progress();
	}
	held = true;
	return fail(EAGAIN, "the module cannot be unloaded, with no file open");
}

bool module_is_altered(void)
{
	return altered;
}

/* Have it stay as a program loaded it; false if none did, or it made no file so. */
bool module_keep(void)
{
	if (!altered || !loaded || !there)
		return false;
	memcpy(kept_params, loaded_params, sizeof(kept_params));
	altered = false;
	return true;
}

/* Have it loaded anew with its own parameters, or absent, whatever was done to it. */
int module_restore(void)
{
	int error = module_remove();

	/* Requests in a ring that was closed keep their files for a moment. */
	for (int i = 0; i < LET_GO_TRIES && error && errno == EAGAIN; i++) {
		pause_ms(LET_GO_MS);
		error = module_remove();
	}
	if (error && errno != ENOENT) {
		held |= errno == EAGAIN;
		return fail(errno, "delete_module: %s", strerror(errno));
	}
	if (absent) {
		altered = false;
		return 0;
	}
	return load_kept();
}
