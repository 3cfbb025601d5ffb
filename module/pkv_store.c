// SPDX-License-Identifier: GPL-2.0
/*
 * pkv: the store.
 *
 * A write is parsed into staged slots first, which allocates and may fail, and
 * then moved to the table under the lock, which does neither: so either all of
 * it is stored or none.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/jiffies.h>
#include <linux/overflow.h>
#include <linux/printk.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/stringhash.h>

#include "pkv_store.h"

static bool pkv_slot_has_key(const struct pkv_slot *slot, const char *key,
			     u32 key_len)
{
	return slot->key_len == key_len && !memcmp(slot->key, key, key_len);
}

static u32 pkv_hash(const char *key, u32 key_len)
{
	return full_name_hash(NULL, key, key_len);
}

static struct hlist_head *pkv_bucket(struct pkv_store *store, u32 hash)
{
	return &store->table[hash_min(hash, HASH_BITS(store->table))];
}

/* Find a slot in the table; the lock is held, as the walk asserts. */
static struct pkv_slot *pkv_find(struct pkv_store *store, u32 hash,
				 const char *key, u32 key_len)
{
	struct pkv_slot *slot;

	hlist_for_each_entry_rcu(slot, pkv_bucket(store, hash), node,
				 pkv_lock_is_held(&store->lock)) {
		if (pkv_slot_has_key(slot, key, key_len))
			return slot;
	}
	return NULL;
}

/* The last-written slot or NULL. The lock is held, for reading or writing. */
static struct pkv_slot *pkv_last(struct pkv_store *store)
{
	return rcu_dereference_check(store->last,
				     pkv_lock_is_held(&store->lock));
}

/* Let go of a slot that is not in the table any more. */
static void pkv_retire(struct pkv_store *store, struct pkv_slot *slot)
{
	lockdep_assert(pkv_lock_is_held_to_write(&store->lock));

	if (pkv_last(store) == slot)
		RCU_INIT_POINTER(store->last, NULL);
	store->used--;
	store->bytes -= slot->value_len;
	if (store->lock.ops->free_after_grace_period)
		kfree_rcu(slot, rcu);
	else
		kfree(slot);
}

static void pkv_remove(struct pkv_store *store, struct pkv_slot *slot)
{
	hlist_del_rcu(&slot->node);
	pkv_retire(store, slot);
}

static void pkv_free_staged(struct hlist_head *staged)
{
	struct hlist_node *next;
	struct pkv_slot *slot;

	hlist_for_each_entry_safe(slot, next, staged, node) {
		hlist_del(&slot->node);
		kfree(slot);
	}
}

/* Have expired slots removed at a time in the future, if not earlier. */
static void pkv_expire_at(struct pkv_store *store, u64 expires)
{
	u64 now = get_jiffies_64();

	lockdep_assert(pkv_lock_is_held_to_write(&store->lock));

	if (store->next_expiry && store->next_expiry <= expires)
		return;

	store->next_expiry = expires;
	mod_delayed_work(store->workqueue, &store->expiry,
			 expires > now ? expires - now : 0);
}

static void pkv_expire(struct work_struct *work)
{
	struct pkv_store *store = container_of(to_delayed_work(work),
					       struct pkv_store, expiry);
	u64 now, next = 0, before;
	struct hlist_node *tmp;
	struct pkv_slot *slot;
	unsigned int bucket;

	pkv_write_begin(&store->lock);
	now = get_jiffies_64();
	before = store->expired;
	hash_for_each_safe(store->table, bucket, tmp, slot, node) {
		if (!slot->expires)
			continue;
		if (slot->expires <= now) {
			pkv_remove(store, slot);
			store->expired++;
		} else if (!next || slot->expires < next) {
			next = slot->expires;
		}
	}
	pr_debug("%llu keys expired\n", store->expired - before);
	store->next_expiry = 0;
	if (next)
		pkv_expire_at(store, next);
	pkv_write_end(&store->lock);
}

/**
 * pkv_parse() - make a slot from one record
 * @record: the record, without its newline
 * @len: bytes in @record
 *
 * The first '=' ends the key.
 *
 * Return: the slot, or an ERR_PTR: -EINVAL if there is no '=' or no key,
 * -EMSGSIZE if key or value is too long, -ENOMEM.
 */
static struct pkv_slot *pkv_parse(const char *record, size_t len)
{
	const char *equals = memchr(record, '=', len);
	size_t key_len, value_len;
	struct pkv_slot *slot;

	if (!equals || equals == record)
		return ERR_PTR(-EINVAL);

	key_len = equals - record;
	value_len = len - key_len - 1;
	if (key_len > PKV_KEY_MAX || value_len > PKV_VALUE_MAX)
		return ERR_PTR(-EMSGSIZE);

	slot = kzalloc(struct_size(slot, value, value_len),
		       GFP_KERNEL_ACCOUNT);
	if (!slot)
		return ERR_PTR(-ENOMEM);

	slot->key_len = key_len;
	slot->value_len = value_len;
	memcpy(slot->key, record, key_len);
	memcpy(slot->value, equals + 1, value_len);
	slot->hash = pkv_hash(slot->key, key_len);
	return slot;
}

static struct pkv_slot *pkv_find_staged(const struct hlist_head *staged,
					const struct pkv_slot *like)
{
	struct pkv_slot *slot;

	hlist_for_each_entry(slot, staged, node) {
		if (pkv_slot_has_key(slot, like->key, like->key_len))
			return slot;
	}
	return NULL;
}

/**
 * pkv_stage() - make slots from the records of one write
 * @data: the records
 * @len: bytes in @data
 * @staged: list to add the slots to, last record first, each key once
 *
 * Return: 0 or a negative errno; @staged may hold slots in either case.
 */
static int pkv_stage(const char *data, size_t len, struct hlist_head *staged)
{
	const char *end = data + len;
	unsigned int keys = 0;

	do {
		const char *newline = memchr(data, '\n', end - data);
		struct pkv_slot *slot, *same;

		if (!newline)
			return -EINVAL;

		slot = pkv_parse(data, newline - data);
		if (IS_ERR(slot))
			return PTR_ERR(slot);

		same = pkv_find_staged(staged, slot);
		if (same) {
			hlist_del(&same->node);
			kfree(same);
			keys--;
		}
		hlist_add_head(&slot->node, staged);

		/* Bounds the list, and with it the time to search it. */
		if (++keys > PKV_SLOTS)
			return -ENOSPC;

		data = newline + 1;
	} while (data < end);

	return 0;
}

/* Put a slot into the table, in the place of one with the same key. */
static void pkv_insert(struct pkv_store *store, struct pkv_slot *slot)
{
	struct pkv_slot *old = pkv_find(store, slot->hash, slot->key,
					slot->key_len);

	store->used++;
	store->bytes += slot->value_len;
	if (old) {
		hlist_replace_rcu(&old->node, &slot->node);
		pkv_retire(store, old);
	} else {
		hlist_add_head_rcu(&slot->node, pkv_bucket(store, slot->hash));
	}
}

/**
 * pkv_commit() - move staged slots to the table, all or none
 * @store: the store
 * @staged: what pkv_stage() made; empty on success, unchanged on error
 *
 * Return: 0, or -ENOSPC if there are too few free slots for the new keys.
 */
static int pkv_commit(struct pkv_store *store, struct hlist_head *staged)
{
	unsigned int ttl_ms = READ_ONCE(store->ttl_ms);
	struct pkv_slot *slot, *last;
	struct hlist_node *next;
	unsigned int added = 0;
	u64 expires = 0;
	int ret = 0;

	/* One tick more: the current one has begun already. */
	if (ttl_ms)
		expires = get_jiffies_64() + msecs_to_jiffies(ttl_ms) + 1;

	pkv_write_begin(&store->lock);

	hlist_for_each_entry(slot, staged, node) {
		if (!pkv_find(store, slot->hash, slot->key, slot->key_len))
			added++;
	}
	if (store->used + added > PKV_SLOTS) {
		ret = -ENOSPC;
		goto out_unlock;
	}

	last = hlist_entry(staged->first, struct pkv_slot, node);
	hlist_for_each_entry_safe(slot, next, staged, node) {
		hlist_del(&slot->node);
		slot->expires = expires;
		pkv_insert(store, slot);
	}
	rcu_assign_pointer(store->last, last);
	store->generation++;
	if (expires)
		pkv_expire_at(store, expires);

out_unlock:
	pkv_write_end(&store->lock);
	return ret;
}

/**
 * pkv_store_write() - store "key=value\n" records, all or none
 * @store: the store
 * @data: one or more records
 * @len: bytes in @data
 *
 * Return: 0 or a negative errno: -EINVAL for a malformed record, -EMSGSIZE
 * for one that is too long, -ENOSPC if the keys do not fit, -ENOMEM.
 */
int pkv_store_write(struct pkv_store *store, const char *data, size_t len)
{
	HLIST_HEAD(staged);
	int ret;

	ret = pkv_stage(data, len, &staged);
	if (!ret)
		ret = pkv_commit(store, &staged);
	pkv_free_staged(&staged);
	return ret;
}

/**
 * pkv_store_last() - copy the value of the last-written key
 * @store: the store
 * @value: room for PKV_VALUE_MAX bytes
 * @generation: set to the number of writes up to that of the value
 *
 * Return: bytes in the value, or -ENODATA if that key is gone or never was.
 */
ssize_t pkv_store_last(struct pkv_store *store, char *value, u64 *generation)
{
	const struct pkv_slot *slot;
	unsigned int seq = 0;
	ssize_t len;

	do {
		pkv_read_begin(&store->lock, &seq);
		slot = pkv_last(store);
		*generation = store->generation;
		len = -ENODATA;
		if (slot) {
			len = slot->value_len;
			memcpy(value, slot->value, len);
		}
	} while (!pkv_read_end(&store->lock, &seq));

	return len;
}

/* Like pkv_store_last(), without the copy. */
ssize_t pkv_store_last_size(struct pkv_store *store, u64 *generation)
{
	const struct pkv_slot *slot;
	unsigned int seq = 0;
	ssize_t len;

	do {
		pkv_read_begin(&store->lock, &seq);
		slot = pkv_last(store);
		*generation = store->generation;
		len = -ENODATA;
		if (slot)
			len = slot->value_len;
	} while (!pkv_read_end(&store->lock, &seq));

	return len;
}

/**
 * pkv_store_list() - describe the keys, in no particular order
 * @store: the store
 * @entries: zeroed array
 * @room: entries in @entries; at most so many are filled
 *
 * Return: the number of keys there are, which may be more than @room.
 */
u32 pkv_store_list(struct pkv_store *store, struct pkv_entry *entries, u32 room)
{
	const struct hlist_head *head;
	const struct pkv_slot *slot;
	unsigned int seq = 0;
	u32 count, n;

	do {
		pkv_read_begin(&store->lock, &seq);
		count = store->used;
		n = 0;
		/* hash_for_each_rcu() takes no condition for lockdep. */
		for (head = store->table;
		     head < store->table + HASH_SIZE(store->table); head++) {
			hlist_for_each_entry_rcu(slot, head, node,
						 pkv_lock_is_held(&store->lock)) {
				if (n == room)
					break;
				entries[n].key_len = slot->key_len;
				entries[n].value_len = slot->value_len;
				/* All of it: a retry must leave nothing behind. */
				memcpy(entries[n].key, slot->key, PKV_KEY_MAX);
				n++;
			}
		}
	} while (!pkv_read_end(&store->lock, &seq));

	return count;
}

/**
 * pkv_store_delete() - delete a key
 * @store: the store
 * @key: the key
 * @key_len: bytes in @key
 *
 * Return: 0, or -ENOENT if there is no such key.
 */
int pkv_store_delete(struct pkv_store *store, const char *key, u32 key_len)
{
	u32 hash = pkv_hash(key, key_len);
	struct pkv_slot *slot;

	pkv_write_begin(&store->lock);
	slot = pkv_find(store, hash, key, key_len);
	if (slot)
		pkv_remove(store, slot);
	pkv_write_end(&store->lock);

	return slot ? 0 : -ENOENT;
}

/* Delete all keys. */
void pkv_store_clear(struct pkv_store *store)
{
	struct hlist_node *next;
	struct pkv_slot *slot;
	unsigned int bucket;

	pkv_write_begin(&store->lock);
	hash_for_each_safe(store->table, bucket, next, slot, node)
		pkv_remove(store, slot);
	store->next_expiry = 0;
	cancel_delayed_work(&store->expiry);
	pkv_write_end(&store->lock);
}

void pkv_store_usage(struct pkv_store *store, struct pkv_usage *usage)
{
	unsigned int seq = 0;

	do {
		pkv_read_begin(&store->lock, &seq);
		usage->keys = store->used;
		usage->bytes = store->bytes;
		usage->expired = store->expired;
	} while (!pkv_read_end(&store->lock, &seq));
}

/* Set up an empty store; returns 0 or -ENOMEM. */
int pkv_store_init(struct pkv_store *store, const struct pkv_lock_ops *ops)
{
	store->workqueue = alloc_workqueue("pkv", WQ_UNBOUND, 0);
	if (!store->workqueue)
		return -ENOMEM;

	pkv_lock_init(&store->lock, ops);
	hash_init(store->table);
	RCU_INIT_POINTER(store->last, NULL);
	INIT_DELAYED_WORK(&store->expiry, pkv_expire);
	return 0;
}

/* Nobody uses the store any more; its work may still be queued or running. */
void pkv_store_destroy(struct pkv_store *store)
{
	cancel_delayed_work_sync(&store->expiry);
	pkv_store_clear(store);
	destroy_workqueue(store->workqueue);
	pkv_lock_destroy(&store->lock);
}
