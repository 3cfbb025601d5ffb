/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * cmdp: the user space interface of /dev/cmdp, a protocol of commands.
 *
 * Each open file is a session of its own. It begins IDLE; CONFIGURE makes it
 * CONFIGURED; LOAD gives it a table of entries; START makes it RUNNING, and
 * EXECUTE works on the table. STOP goes back to CONFIGURED, RESET to IDLE.
 * A command that does not belong to the state fails with EBUSY.
 *
 * Every structure begins with a header. Fields named reserved must be zero.
 */
#ifndef _UAPI_CMDP_H
#define _UAPI_CMDP_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define CMDP_MAGIC		0x50444d43	/* "CMDP" in memory */
#define CMDP_VERSION		2
#define CMDP_START_KEY		0x1badb002cafef00dULL
#define CMDP_PATCH_KEY		0x600dc0de0ddba115ULL

#define CMDP_CHANNELS		4
#define CMDP_ENTRIES_MAX	64
#define CMDP_NAME_MAX		16
#define CMDP_PACKET_MAX		256

/**
 * struct cmdp_header - what every structure and every packet begins with
 * @magic: CMDP_MAGIC
 * @version: CMDP_VERSION
 * @length: bytes of all of it, with the header
 */
struct cmdp_header {
	__u32 magic;
	__u16 version;
	__u16 length;
};

/**
 * struct cmdp_channel - bounds the values that are set through it
 * @id: its index
 * @flags: CMDP_CHANNEL_LIMITED or nothing
 * @limit: the largest value, if it is limited
 */
struct cmdp_channel {
	__u16 id;
	__u16 flags;
	__u32 limit;
};

#define CMDP_CHANNEL_LIMITED	0x1

enum cmdp_mode {
	CMDP_ONCE = 1,		/* NEXT ends behind the last entry */
	CMDP_AROUND = 2,	/* NEXT begins again there */
};

/**
 * struct cmdp_configure - argument of CMDP_IOC_CONFIGURE
 * @header: as always
 * @mode: of enum cmdp_mode
 * @n_channels: 1 to CMDP_CHANNELS
 * @channels: so many of them count
 */
struct cmdp_configure {
	struct cmdp_header header;
	__u32 mode;
	__u32 n_channels;
	struct cmdp_channel channels[CMDP_CHANNELS];
};

struct cmdp_entry {
	__u32 tag;	/* not 0 */
	__u32 value;
};

/**
 * struct cmdp_load - argument of CMDP_IOC_LOAD
 * @header: as always
 * @entries: address of an array of struct cmdp_entry
 * @n_entries: 1 to CMDP_ENTRIES_MAX
 * @reserved: as always
 */
struct cmdp_load {
	struct cmdp_header header;
	__u64 entries;
	__u32 n_entries;
	__u32 reserved;
};

/**
 * struct cmdp_start - argument of CMDP_IOC_START
 * @header: as always
 * @key: CMDP_START_KEY
 */
struct cmdp_start {
	struct cmdp_header header;
	__u64 key;
};

enum cmdp_op {
	CMDP_OP_SET = 0x53455421,	/* entries[index].value = value */
	CMDP_OP_SUM = 0x53554d21,	/* of count values from first on */
	CMDP_OP_NEXT = 0x4e585421,	/* the next value */
	CMDP_OP_PATCH = 0x50544321,	/* entries[index].tag = tag */
};

/**
 * struct cmdp_execute - argument of CMDP_IOC_EXECUTE
 * @header: as always
 * @op: of enum cmdp_op
 * @channel: the channel to set through
 * @u: what the operation takes
 * @result: what it gives
 */
struct cmdp_execute {
	struct cmdp_header header;
	__u32 op;
	__u32 channel;
	union {
		struct {
			__u32 index;
			__u32 value;
		} set;
		struct {
			__u32 first;
			__u32 count;
		} sum;
		struct {
			__u64 key;	/* CMDP_PATCH_KEY */
			__u32 index;
			__u32 tag;
		} patch;
	} u;
	__u64 result;
};

#define CMDP_IOC_MAGIC		0xB2

#define CMDP_IOC_CONFIGURE	_IOW(CMDP_IOC_MAGIC, 0x10, struct cmdp_configure)
#define CMDP_IOC_LOAD		_IOW(CMDP_IOC_MAGIC, 0x21, struct cmdp_load)
#define CMDP_IOC_START		_IOW(CMDP_IOC_MAGIC, 0x32, struct cmdp_start)
#define CMDP_IOC_EXECUTE	_IOWR(CMDP_IOC_MAGIC, 0x43, struct cmdp_execute)
#define CMDP_IOC_STOP		_IO(CMDP_IOC_MAGIC, 0x54)
#define CMDP_IOC_RESET		_IO(CMDP_IOC_MAGIC, 0x65)

/*
 * write(2) takes one packet, in any state: a header, then records one after
 * the other, without gaps. read(2) gives the name.
 */

/**
 * struct cmdp_record - the beginning of a record
 * @type: of enum cmdp_record_type
 * @length: bytes that follow
 */
struct cmdp_record {
	__u16 type;
	__u16 length;
};

enum cmdp_record_type {
	CMDP_NAME = 1,		/* up to CMDP_NAME_MAX bytes */
	CMDP_GROUP = 2,		/* struct cmdp_group, then records, no groups */
};

/**
 * struct cmdp_group - the beginning of a group's data
 * @flags: CMDP_GROUP_OPTIONAL if what is wrong in the group does not matter
 */
struct cmdp_group {
	__u32 flags;
};

#define CMDP_GROUP_OPTIONAL	0x1

#endif /* _UAPI_CMDP_H */
