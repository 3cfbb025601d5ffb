/* SPDX-License-Identifier: GPL-2.0 */
/* pkv: the store, which knows keys and values but no files and no user memory. */
#ifndef _PKV_STORE_H
#define _PKV_STORE_H

#include <linux/hashtable.h>
#include <linux/rcupdate.h>
#include <linux/types.h>
#include <linux/workqueue.h>

#include "pkv.h"
#include "pkv_compat.h"
#include "pkv_lock.h"

/* About three keys a bucket when full, and clearing has few to walk. */
#define PKV_HASH_BITS 5

/**
 * struct pkv_slot - one key and its value
 * @node: link in a bucket of the table, or in a list of staged slots
 * @hash: of the key
 * @rcu: frees the slot when no reader can see it any more
 * @expires: when the key disappears, in jiffies since boot; 0 for never
 * @key_len: bytes used in @key
 * @value_len: bytes in @value
 * @key: the key, followed by zero bytes
 * @value: the value, not terminated
 *
 * A slot does not change once it is in the table: writing a key again puts a
 * new slot in its place.
 */
struct pkv_slot {
	struct hlist_node node;
	u32 hash;
	struct rcu_head rcu;
	u64 expires;
	u32 key_len;
	u32 value_len;
	char key[PKV_KEY_MAX];
	char value[] __counted_by(value_len);
};

/**
 * struct pkv_store - keys and their values
 * @lock: protects the members from @table to @bytes, @next_expiry and @expired
 * @table: all slots, hashed by key
 * @last: the last-written slot; NULL when it is gone or never was
 * @generation: writes so far, so that one @last is told from another
 * @used: slots in @table, at most PKV_SLOTS
 * @bytes: sum of their values' sizes
 * @expiry: removes slots whose time has come
 * @workqueue: where @expiry runs
 * @next_expiry: when @expiry is to run, in jiffies since boot; 0 for never
 * @expired: slots that @expiry has removed so far
 * @ttl_ms: how long a key lives from now on, in milliseconds; 0 for ever
 */
struct pkv_store {
	struct pkv_lock lock;
	DECLARE_HASHTABLE(table, PKV_HASH_BITS);
	struct pkv_slot __rcu *last;
	u64 generation;
	unsigned int used;
	unsigned int bytes;
	struct delayed_work expiry;
	struct workqueue_struct *workqueue;
	u64 next_expiry;
	u64 expired;
	unsigned int ttl_ms;
};

/**
 * struct pkv_usage - what is in a store
 * @keys: number of keys
 * @bytes: bytes in their values
 * @expired: keys that have expired so far
 */
struct pkv_usage {
	unsigned int keys;
	unsigned int bytes;
	u64 expired;
};

int pkv_store_init(struct pkv_store *store, const struct pkv_lock_ops *ops);
void pkv_store_destroy(struct pkv_store *store);

int pkv_store_write(struct pkv_store *store, const char *data, size_t len);
ssize_t pkv_store_last(struct pkv_store *store, char *value, u64 *generation);
ssize_t pkv_store_last_size(struct pkv_store *store, u64 *generation);
u32 pkv_store_list(struct pkv_store *store, struct pkv_entry *entries, u32 room);
int pkv_store_delete(struct pkv_store *store, const char *key, u32 key_len);
void pkv_store_clear(struct pkv_store *store);
void pkv_store_usage(struct pkv_store *store, struct pkv_usage *usage);

#endif /* _PKV_STORE_H */
