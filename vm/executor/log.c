// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel log. Whatever the kernel printed since the last look is handed
 * to the host as it is; the host knows what a splat is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor.h"

/*
 * One open file, shared by PID 1 and the runner it forks, so that they share
 * the position: PID 1 takes over when the runner is dead or stuck.
 */
static int kmsg = -1;

/* Whether records of this command are missing in CH_LOG. */
static bool lost;

/* The record that was read last, and the sequence number of the next to look at. */
static char record[8192];
static uint64_t next_seq;

/* So many were passed over since, and are yet to be read from /dev/kmsg. */
#define MOST_PASSED	256
static uint32_t n_passed;

/*
 * Lines of which the host has said that they are harmless, by a hash of each. A
 * driver that prints something in each call would end each batch.
 */
#define N_KNOWN		4096
#define MOST_KNOWN	(N_KNOWN / 2)
static uint64_t known[N_KNOWN];
static uint32_t n_known;

/* Those of the last program that the host is to look at. */
#define N_NEW		256
static uint64_t new_lines[N_NEW];
static uint32_t n_new;

void log_open(void)
{
	kmsg = descriptor_of_ours(open("/dev/kmsg",
					O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	if (kmsg >= 0)
		lseek(kmsg, 0, SEEK_END);
}

/*
 * What the kernel says of a host that let the guest wait. It is not about the
 * driver, and when it is said is a matter of time: what runs next must not
 * depend on it.
 */
static const char *const of_the_host[] = {
	"hrtimer: interrupt took ",
	"sched: RT throttling activated",
};

#define N_OF_THE_HOST	(sizeof(of_the_host) / sizeof(*of_the_host))

/* The text of the record that was read last. */
static const char *record_text(void)
{
	const char *text = strchr(record, ';');

	return text ? text + 1 : "";
}

static bool is_of_the_host(void)
{
	const char *text = record_text();

	for (size_t i = 0; i < N_OF_THE_HOST; i++) {
		const char *start = of_the_host[i];

		if (!strncmp(text, start, strlen(start)))
			return true;
	}
	return false;
}

/* Take note that a record was read; false: it was passed over before. */
static bool is_next(void)
{
	const char *seq = strchr(record, ',');
	uint64_t read = seq ? strtoull(seq + 1, NULL, 10) : next_seq;

	if (read < next_seq)
		return false;
	next_seq = read + 1;
	return true;
}

/*
 * Append the new records to CH_LOG, each ended by a newline. It is emptied
 * when a command begins: a CH_LOOP's programs add to one log.
 */
void log_drain(void)
{
	uint32_t used = header->log_length;

	if (!used)
		lost = false;
	for (;;) {
		ssize_t n = read(kmsg, record, sizeof(record) - 1);

		if (n < 0 && (errno == EPIPE || errno == EINTR)) {
			/* overrun: go on with what is left */
			lost |= errno == EPIPE;
			continue;
		}
		if (n <= 0)
			break;
		record[n] = '\0';
		if (!is_next() || is_of_the_host())
			continue;
		if (used > CH_LOG_SIZE || used + n > CH_LOG_SIZE) {
			/* full: drop the newest, keep the cause */
			lost = true;
			continue;
		}
		__builtin_memcpy(channel + CH_LOG + used, record, n);
		used += n;
	}
	header->log_length = used;
	n_passed = 0;
}

static bool is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
	       (c >= 'A' && c <= 'Z') || c == '_';
}

/* The same of lines that differ in words with digits only; never 0. */
static uint64_t hash_of(const char *at, const char *end)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	while (at < end) {
		const char *word = at;
		bool number = false;

		for (; at < end && is_word(*at); at++)
			number |= *at >= '0' && *at <= '9';
		if (at == word)
			at++;
		if (number)
			word = at - 1;
		for (; word < at; word++)
			hash = (hash ^ (uint8_t)(number ? '#' : *word)) *
			       0x100000001b3ull;
	}
	return hash | 1;
}

static uint64_t *slot_of(uint64_t hash)
{
	uint32_t at = hash >> 32;

	while (known[at % N_KNOWN] && known[at % N_KNOWN] != hash)
		at++;
	return &known[at % N_KNOWN];
}

/* The host goes on with this machine, after what it was told last. */
void log_heard(bool harmless)
{
	for (uint32_t i = 0; harmless && i < n_new && n_known < MOST_KNOWN; i++) {
		uint64_t *slot = slot_of(new_lines[i]);

		n_known += !*slot;
		*slot = new_lines[i];
	}
	n_new = 0;
}

/* Whether the host knows each line of CH_LOG. */
bool log_is_known(void)
{
	const char *at = (const char *)channel + CH_LOG;
	const char *end = at + header->log_length;
	bool all = !lost;

	while (at < end) {
		const char *line = at;
		const char *text;
		uint64_t hash;

		at = memchr(at, '\n', end - at);
		at = at ? at + 1 : end;
		/* What begins with a blank belongs to the record before. */
		text = memchr(line, ';', at - line);
		if (*line == ' ' || !text)
			continue;
		hash = hash_of(text + 1, at);
		if (*slot_of(hash))
			continue;
		all = false;
		if (n_new < N_NEW)
			new_lines[n_new++] = hash;
	}
	return all;
}

/* Have /dev/kmsg go on behind what was passed over. */
static void catch_up(void)
{
	char text[RING_LINE];

	n_passed = 0;
	lseek(kmsg, 0, SEEK_END);
	/* What has come in between is not to be missed: all is read then. */
	if (ring_read(next_seq, text, sizeof(text)) != RING_NONE)
		lseek(kmsg, 0, SEEK_SET);
}

/*
 * Pass over what the kernel has printed, if the host knows each line of it. Else,
 * and where that cannot be told without reading it, return false.
 */
bool log_pass_known(void)
{
	char line[RING_LINE + 1];
	uint64_t seq = next_seq;
	int length;

	if (!n_known || !ring_open(next_seq - 1, record_text()))
		return false;
	while ((length = ring_read(seq, line, RING_LINE)) >= 0) {
		line[length] = '\n';
		if (!*slot_of(hash_of(line, line + length + 1)))
			return false;
		seq++;
	}
	if (length != RING_NONE)
		return false;
	n_passed += seq - next_seq;
	next_seq = seq;
	if (n_passed > MOST_PASSED)
		catch_up();
	return true;
}

/* Whether the host wants to know which call the kernel said something in. */
bool tracing;

/* Call it before each program; one that is not traced pays for a look at a flag. */
void trace_begin(void)
{
	tracing = header->flags & CH_F_TRACE;
	/*
	 * Else the kernel drops what is written more than ten times in 5 s. It
	 * insists on the newline.
	 */
	if (tracing)
		write_file("/proc/sys/kernel/printk_devkmsg", "on\n");
}

/* Write a mark to the kernel log, for the calling thread. */
void log_mark(const char *what)
{
	char text[64];
	int length = snprintf(text, sizeof(text), "<15>" CH_MARK "%s\n", what);
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, length) < 0)
		perror("pkvfuzz: /dev/kmsg");
	close(fd);
}

void log_mark_call(uint32_t call)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", call);
	log_mark(text);
}
