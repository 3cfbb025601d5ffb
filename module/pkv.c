// SPDX-License-Identifier: GPL-2.0
/*
 * pkv: an in-kernel key/value store behind /dev/pkv.
 *
 * User memory is never touched with the lock held: a fault there can take as
 * long as user space likes (userfaultfd, FUSE), and everybody else would wait.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/stringhash.h>
#include <linux/uaccess.h>

#include "pkv.h"

/* About three keys a bucket when full, and CLEAR has few buckets to walk. */
#define PKV_HASH_BITS 5

/**
 * struct pkv_slot - one key and its value
 * @node: link in a bucket of the table, or in a list of staged slots
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
	u32 key_len;
	u32 value_len;
	char key[PKV_KEY_MAX];
	char value[] __counted_by(value_len);
};

/**
 * struct pkv - the store and its device
 * @devt: device number
 * @class: class of the device
 * @cdev: the character device
 * @lock: protects @table, @last and @used
 * @table: all slots, hashed by key
 * @last: the last-written slot; NULL when it was deleted or never was
 * @used: slots in @table, at most PKV_SLOTS
 */
struct pkv {
	dev_t devt;
	struct class *class;
	struct cdev cdev;

	struct mutex lock;	/* protects the members below */
	DECLARE_HASHTABLE(table, PKV_HASH_BITS);
	struct pkv_slot *last;
	unsigned int used;
};

static struct pkv pkv;

static struct hlist_head *pkv_bucket(const char *key, u32 key_len)
{
	u32 hash = full_name_hash(NULL, key, key_len);

	return &pkv.table[hash_min(hash, HASH_BITS(pkv.table))];
}

static struct pkv_slot *pkv_find(struct hlist_head *head, const char *key,
				 u32 key_len)
{
	struct pkv_slot *slot;

	hlist_for_each_entry(slot, head, node) {
		if (slot->key_len == key_len &&
		    !memcmp(slot->key, key, key_len))
			return slot;
	}
	return NULL;
}

/* Take a slot out of the table and free it. */
static void pkv_remove(struct pkv_slot *slot)
{
	lockdep_assert_held(&pkv.lock);

	if (pkv.last == slot)
		pkv.last = NULL;
	hlist_del(&slot->node);
	pkv.used--;
	kfree(slot);
}

static void pkv_free_list(struct hlist_head *head)
{
	struct hlist_node *next;
	struct pkv_slot *slot;

	hlist_for_each_entry_safe(slot, next, head, node) {
		hlist_del(&slot->node);
		kfree(slot);
	}
}

static void pkv_clear(void)
{
	unsigned int i;

	mutex_lock(&pkv.lock);
	pkv.last = NULL;
	pkv.used = 0;
	for (i = 0; i < HASH_SIZE(pkv.table); i++)
		pkv_free_list(&pkv.table[i]);
	mutex_unlock(&pkv.lock);
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

	slot = kzalloc(struct_size(slot, value, value_len), GFP_KERNEL);
	if (!slot)
		return ERR_PTR(-ENOMEM);

	slot->key_len = key_len;
	slot->value_len = value_len;
	memcpy(slot->key, record, key_len);
	memcpy(slot->value, equals + 1, value_len);
	return slot;
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

		same = pkv_find(staged, slot->key, slot->key_len);
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

/**
 * pkv_commit() - move staged slots to the table, all or none
 * @staged: what pkv_stage() made; empty on success, unchanged on error
 *
 * Return: 0, or -ENOSPC if there are too few free slots for the new keys.
 */
static int pkv_commit(struct hlist_head *staged)
{
	struct hlist_node *next;
	struct pkv_slot *slot, *last;
	unsigned int added = 0;
	int ret = 0;

	mutex_lock(&pkv.lock);

	hlist_for_each_entry(slot, staged, node) {
		if (!pkv_find(pkv_bucket(slot->key, slot->key_len),
			      slot->key, slot->key_len))
			added++;
	}
	if (pkv.used + added > PKV_SLOTS) {
		ret = -ENOSPC;
		goto out_unlock;
	}

	last = hlist_entry(staged->first, struct pkv_slot, node);
	hlist_for_each_entry_safe(slot, next, staged, node) {
		struct hlist_head *bucket = pkv_bucket(slot->key,
						       slot->key_len);
		struct pkv_slot *old = pkv_find(bucket, slot->key,
						slot->key_len);

		if (old)
			pkv_remove(old);
		hlist_del(&slot->node);
		hlist_add_head(&slot->node, bucket);
		pkv.used++;
	}
	pkv.last = last;

out_unlock:
	mutex_unlock(&pkv.lock);
	return ret;
}

static int pkv_open(struct inode *inode, struct file *file)
{
	pr_debug("opened by %s[%d]\n", current->comm, task_pid_nr(current));
	return 0;
}

static int pkv_release(struct inode *inode, struct file *file)
{
	pr_debug("closed by %s[%d]\n", current->comm, task_pid_nr(current));
	return 0;
}

static ssize_t pkv_read(struct file *file, char __user *buf, size_t count,
			loff_t *ppos)
{
	char value[PKV_VALUE_MAX];
	size_t len;

	mutex_lock(&pkv.lock);
	if (!pkv.last) {
		mutex_unlock(&pkv.lock);
		return -ENODATA;
	}
	len = pkv.last->value_len;
	memcpy(value, pkv.last->value, len);
	mutex_unlock(&pkv.lock);

	return simple_read_from_buffer(buf, count, ppos, value, len);
}

static ssize_t pkv_write(struct file *file, const char __user *buf,
			 size_t count, loff_t *ppos)
{
	HLIST_HEAD(staged);
	ssize_t ret;
	char *data;

	if (count > PKV_WRITE_MAX)
		return -EMSGSIZE;

	data = vmemdup_user(buf, count);
	if (IS_ERR(data))
		return PTR_ERR(data);

	ret = pkv_stage(data, count, &staged);
	if (ret)
		goto out_free;

	ret = pkv_commit(&staged);
	if (ret)
		goto out_free;

	/* There is a new value to read: start at its beginning. */
	*ppos = 0;
	ret = count;

out_free:
	pkv_free_list(&staged);
	kvfree(data);
	return ret;
}

static loff_t pkv_llseek(struct file *file, loff_t offset, int whence)
{
	loff_t size;

	mutex_lock(&pkv.lock);
	size = pkv.last ? pkv.last->value_len : 0;
	mutex_unlock(&pkv.lock);

	return generic_file_llseek_size(file, offset, whence, MAX_LFS_FILESIZE,
					size);
}

static long pkv_ioctl_list(struct pkv_list __user *argp)
{
	struct pkv_entry *entries;
	struct pkv_list list;
	struct pkv_slot *slot;
	unsigned int bucket;
	u32 room, count, n = 0;
	long ret = 0;

	if (copy_from_user(&list, argp, sizeof(list)))
		return -EFAULT;
	if (list.reserved)
		return -EINVAL;

	room = min_t(u32, list.room, PKV_SLOTS);
	entries = kcalloc(room, sizeof(*entries), GFP_KERNEL);
	if (!entries)
		return -ENOMEM;

	mutex_lock(&pkv.lock);
	count = pkv.used;
	hash_for_each(pkv.table, bucket, slot, node) {
		if (n == room)
			break;
		entries[n].key_len = slot->key_len;
		entries[n].value_len = slot->value_len;
		memcpy(entries[n].key, slot->key, slot->key_len);
		n++;
	}
	mutex_unlock(&pkv.lock);

	if (copy_to_user(u64_to_user_ptr(list.buf), entries,
			 n * sizeof(*entries)) ||
	    put_user(count, &argp->count))
		ret = -EFAULT;

	kfree(entries);
	return ret;
}

static long pkv_ioctl_delete(const struct pkv_delete __user *argp)
{
	struct pkv_delete req;
	struct pkv_slot *slot;
	long ret = 0;

	if (copy_from_user(&req, argp, sizeof(req)))
		return -EFAULT;
	if (req.reserved || !req.key_len || req.key_len > PKV_KEY_MAX)
		return -EINVAL;

	mutex_lock(&pkv.lock);
	slot = pkv_find(pkv_bucket(req.key, req.key_len), req.key,
			req.key_len);
	if (slot)
		pkv_remove(slot);
	else
		ret = -ENOENT;
	mutex_unlock(&pkv.lock);

	return ret;
}

static long pkv_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *argp = (void __user *)arg;

	switch (cmd) {
	case PKV_IOC_LIST:
		if (!(file->f_mode & FMODE_READ))
			return -EBADF;
		return pkv_ioctl_list(argp);
	case PKV_IOC_DELETE:
		if (!(file->f_mode & FMODE_WRITE))
			return -EBADF;
		return pkv_ioctl_delete(argp);
	case PKV_IOC_CLEAR:
		if (!(file->f_mode & FMODE_WRITE))
			return -EBADF;
		pkv_clear();
		return 0;
	default:
		return -ENOTTY;
	}
}

static const struct file_operations pkv_fops = {
	.owner = THIS_MODULE,
	.open = pkv_open,
	.release = pkv_release,
	.read = pkv_read,
	.write = pkv_write,
	.llseek = pkv_llseek,
	.unlocked_ioctl = pkv_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static int __init pkv_init(void)
{
	struct device *dev;
	int ret;

	mutex_init(&pkv.lock);
	hash_init(pkv.table);

	ret = alloc_chrdev_region(&pkv.devt, 0, 1, KBUILD_MODNAME);
	if (ret)
		return ret;

	pkv.class = class_create(KBUILD_MODNAME);
	if (IS_ERR(pkv.class)) {
		ret = PTR_ERR(pkv.class);
		goto err_region;
	}

	cdev_init(&pkv.cdev, &pkv_fops);
	pkv.cdev.owner = THIS_MODULE;
	ret = cdev_add(&pkv.cdev, pkv.devt, 1);
	if (ret)
		goto err_class;

	/* Last: the node appears, and the first open may follow at once. */
	dev = device_create(pkv.class, NULL, pkv.devt, NULL, KBUILD_MODNAME);
	if (IS_ERR(dev)) {
		ret = PTR_ERR(dev);
		goto err_cdev;
	}
	return 0;

err_cdev:
	cdev_del(&pkv.cdev);
err_class:
	class_destroy(pkv.class);
err_region:
	unregister_chrdev_region(pkv.devt, 1);
	return ret;
}
module_init(pkv_init);

static void __exit pkv_exit(void)
{
	device_destroy(pkv.class, pkv.devt);
	cdev_del(&pkv.cdev);
	class_destroy(pkv.class);
	unregister_chrdev_region(pkv.devt, 1);
	pkv_clear();
	mutex_destroy(&pkv.lock);
}
module_exit(pkv_exit);

MODULE_DESCRIPTION("In-kernel key/value store behind a character device");
MODULE_AUTHOR("The pkvfuzz authors");
MODULE_LICENSE("GPL");
