/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * pkv: the user space interface of /dev/pkv, an in-kernel key/value store.
 *
 * write(2) stores one or more complete "key=value\n" records, all or none;
 * read(2) returns the value of the last-written key. README.md has the rules
 * and every errno.
 *
 * All structures have the same layout for 32-bit and 64-bit callers. Reserved
 * fields must be zero on entry and are returned as zero, so that a later
 * version can give them a meaning.
 */
#ifndef _UAPI_PKV_H
#define _UAPI_PKV_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define PKV_SLOTS	100	/* keys that can exist at once */
#define PKV_KEY_MAX	32	/* bytes in a key, at least 1 */
#define PKV_VALUE_MAX	256	/* bytes in a value, may be 0 */

/* Bytes in one write(2): a record for every slot, with '=' and '\n'. */
#define PKV_WRITE_MAX	(PKV_SLOTS * (PKV_KEY_MAX + PKV_VALUE_MAX + 2))

/**
 * struct pkv_entry - one key as PKV_IOC_LIST reports it
 * @key_len: bytes in the key
 * @value_len: bytes in its value
 * @reserved: zero
 * @key: the key, followed by zero bytes; not terminated if it fills the array
 */
struct pkv_entry {
	__u32 key_len;
	__u32 value_len;
	__u32 reserved[2];
	char key[PKV_KEY_MAX];
};

/**
 * struct pkv_list - argument of PKV_IOC_LIST
 * @buf: address of an array of struct pkv_entry
 * @room: entries that fit at @buf; 0 to ask only for @count
 * @count: set to the number of keys that exist; when it is more than @room,
 *	only the first @room entries were filled
 * @reserved: must be zero
 */
struct pkv_list {
	__u64 buf;
	__u32 room;
	__u32 count;
	__u64 reserved;
};

/**
 * struct pkv_delete - argument of PKV_IOC_DELETE
 * @key_len: bytes in the key, 1 to PKV_KEY_MAX
 * @reserved: must be zero
 * @key: the key; bytes after @key_len are ignored
 */
struct pkv_delete {
	__u32 key_len;
	__u32 reserved;
	char key[PKV_KEY_MAX];
};

#define PKV_IOC_MAGIC	0xBB

/* List the keys in no particular order; needs a file open for reading. */
#define PKV_IOC_LIST	_IOWR(PKV_IOC_MAGIC, 0, struct pkv_list)

/* Delete one key; needs a file open for writing. */
#define PKV_IOC_DELETE	_IOW(PKV_IOC_MAGIC, 1, struct pkv_delete)

/* Delete all keys; needs a file open for writing. */
#define PKV_IOC_CLEAR	_IO(PKV_IOC_MAGIC, 2)

#endif /* _UAPI_PKV_H */
