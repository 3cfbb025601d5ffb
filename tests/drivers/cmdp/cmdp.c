// SPDX-License-Identifier: GPL-2.0
/*
 * cmdp: a protocol of commands with states, keys and nested structures, as
 * drivers of accelerators have it. cmdp.h describes it.
 */
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "cmdp.h"

enum cmdp_state {
	CMDP_IDLE,
	CMDP_CONFIGURED,
	CMDP_RUNNING,
};

/**
 * struct cmdp_session - an open file
 * @lock: protects all that follows
 * @state: where it is
 * @mode: as configured
 * @n_channels: as configured
 * @channels: as configured
 * @entries: the table, NULL if there is none
 * @cursor: the entry that NEXT is at; NULL unless running
 * @n_entries: in the table
 * @name_len: bytes of the name
 * @name: not terminated
 */
struct cmdp_session {
	struct mutex lock;	/* protects all that follows */
	enum cmdp_state state;
	u32 mode;
	u32 n_channels;
	struct cmdp_channel channels[CMDP_CHANNELS];
	struct cmdp_entry *entries;
	struct cmdp_entry *cursor;
	u32 n_entries;
	u32 name_len;
	char name[CMDP_NAME_MAX];
};

static int cmdp_check(const struct cmdp_header *header, size_t size)
{
	if (header->magic != CMDP_MAGIC)
		return -EBADMSG;
	if (header->version != CMDP_VERSION)
		return -EPROTO;
	return header->length == size ? 0 : -EMSGSIZE;
}

/* Get a structure of so many bytes, which begins with a header. */
static int cmdp_get(void *arg, const void __user *argp, size_t size)
{
	if (copy_from_user(arg, argp, size))
		return -EFAULT;
	return cmdp_check(arg, size);
}

static long cmdp_configure(struct cmdp_session *session,
			   const struct cmdp_configure __user *argp)
{
	struct cmdp_configure arg;
	int ret;

	ret = cmdp_get(&arg, argp, sizeof(arg));
	if (ret)
		return ret;
	if (arg.mode != CMDP_ONCE && arg.mode != CMDP_AROUND)
		return -EINVAL;
	if (!arg.n_channels || arg.n_channels > CMDP_CHANNELS)
		return -ECHRNG;
	for (u32 i = 0; i < arg.n_channels; i++)
		if (arg.channels[i].id != i ||
		    arg.channels[i].flags & ~CMDP_CHANNEL_LIMITED)
			return -ECHRNG;
	if (session->state != CMDP_IDLE)
		return -EBUSY;

	session->mode = arg.mode;
	session->n_channels = arg.n_channels;
	memcpy(session->channels, arg.channels, sizeof(arg.channels));
	session->state = CMDP_CONFIGURED;
	return 0;
}

static long cmdp_load(struct cmdp_session *session,
		      const struct cmdp_load __user *argp)
{
	struct cmdp_entry *entries;
	struct cmdp_load arg;
	int ret;

	ret = cmdp_get(&arg, argp, sizeof(arg));
	if (ret)
		return ret;
	if (!arg.n_entries || arg.n_entries > CMDP_ENTRIES_MAX || arg.reserved)
		return -EINVAL;
	if (session->state != CMDP_CONFIGURED)
		return -EBUSY;

	entries = memdup_user(u64_to_user_ptr(arg.entries),
			      array_size(arg.n_entries, sizeof(*entries)));
	if (IS_ERR(entries))
		return PTR_ERR(entries);
	for (u32 i = 0; i < arg.n_entries; i++) {
		if (!entries[i].tag) {
			kfree(entries);
			return -EINVAL;
		}
	}

	kfree(session->entries);
	session->entries = entries;
	session->n_entries = arg.n_entries;
	return 0;
}

static long cmdp_start(struct cmdp_session *session,
		       const struct cmdp_start __user *argp)
{
	struct cmdp_start arg;
	int ret;

	ret = cmdp_get(&arg, argp, sizeof(arg));
	if (ret)
		return ret;
	if (arg.key != CMDP_START_KEY)
		return -EACCES;
	if (session->state != CMDP_CONFIGURED)
		return -EBUSY;
	if (!session->entries)
		return -ENODATA;

	session->cursor = session->entries;
	session->state = CMDP_RUNNING;
	return 0;
}

static int cmdp_set(struct cmdp_session *session, u32 channel, u32 index,
		    u32 value)
{
	const struct cmdp_channel *through = &session->channels[channel];

	if (index >= session->n_entries)
		return -ERANGE;
	if (through->flags & CMDP_CHANNEL_LIMITED && value > through->limit)
		return -EDOM;
	session->entries[index].value = value;
	return 0;
}

static int cmdp_sum(struct cmdp_session *session, u32 first, u32 count,
		    u64 *sum)
{
	if (first >= session->n_entries || count > session->n_entries - first)
		return -ERANGE;
	for (u32 i = first; i < first + count; i++)
		*sum += session->entries[i].value;
	return 0;
}

static int cmdp_next(struct cmdp_session *session, u64 *value)
{
	if (session->cursor == session->entries + session->n_entries) {
		if (session->mode == CMDP_ONCE)
			return -ENODATA;
		session->cursor = session->entries;
	}
	*value = session->cursor->value;
	session->cursor++;
	return 0;
}

static int cmdp_patch(struct cmdp_session *session, u64 key, u32 index, u32 tag)
{
	if (key != CMDP_PATCH_KEY)
		return -EACCES;
	if (!tag)
		return -EINVAL;
	if (index >= session->n_entries)
		return -ERANGE;
	session->entries[index].tag = tag;
	return 0;
}

static long cmdp_execute(struct cmdp_session *session,
			 struct cmdp_execute __user *argp)
{
	struct cmdp_execute arg;
	int ret;

	ret = cmdp_get(&arg, argp, sizeof(arg));
	if (ret)
		return ret;
	if (session->state != CMDP_RUNNING)
		return -EBUSY;
	if (arg.channel >= session->n_channels)
		return -ECHRNG;

	arg.result = 0;
	switch (arg.op) {
	case CMDP_OP_SET:
		ret = cmdp_set(session, arg.channel, arg.u.set.index,
			       arg.u.set.value);
		break;
	case CMDP_OP_SUM:
		ret = cmdp_sum(session, arg.u.sum.first, arg.u.sum.count,
			       &arg.result);
		break;
	case CMDP_OP_NEXT:
		ret = cmdp_next(session, &arg.result);
		break;
	case CMDP_OP_PATCH:
		ret = cmdp_patch(session, arg.u.patch.key, arg.u.patch.index,
				 arg.u.patch.tag);
		break;
	default:
		ret = -EOPNOTSUPP;
	}
	if (!ret && copy_to_user(argp, &arg, sizeof(arg)))
		ret = -EFAULT;
	return ret;
}

static long cmdp_stop(struct cmdp_session *session)
{
	if (session->state != CMDP_RUNNING)
		return -EBUSY;
	session->cursor = NULL;
	session->state = CMDP_CONFIGURED;
	return 0;
}

static long cmdp_reset(struct cmdp_session *session)
{
	kfree(session->entries);
	session->entries = NULL;
	session->cursor = NULL;
	session->state = CMDP_IDLE;
	session->name_len = 0;
	return 0;
}

static long cmdp_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct cmdp_session *session = file->private_data;
	void __user *argp = (void __user *)arg;
	long ret;

	mutex_lock(&session->lock);
	switch (cmd) {
	case CMDP_IOC_CONFIGURE:
		ret = cmdp_configure(session, argp);
		break;
	case CMDP_IOC_LOAD:
		ret = cmdp_load(session, argp);
		break;
	case CMDP_IOC_START:
		ret = cmdp_start(session, argp);
		break;
	case CMDP_IOC_EXECUTE:
		ret = cmdp_execute(session, argp);
		break;
	case CMDP_IOC_STOP:
		ret = cmdp_stop(session);
		break;
	case CMDP_IOC_RESET:
		ret = cmdp_reset(session);
		break;
	default:
		ret = -ENOTTY;
	}
	mutex_unlock(&session->lock);
	return ret;
}

/* Records one after the other; what comes before a wrong one counts. */
static int cmdp_records(struct cmdp_session *session, const u8 *data,
			size_t left, bool in_group)
{
	struct cmdp_record record;
	struct cmdp_group group;
	int ret = 0;

	for (; !ret && left; data += record.length, left -= record.length) {
		if (left < sizeof(record))
			return -EINVAL;
		memcpy(&record, data, sizeof(record));
		data += sizeof(record);
		left -= sizeof(record);
		if (record.length > left)
			return -EINVAL;
		switch (record.type) {
		case CMDP_NAME:
			if (record.length > CMDP_NAME_MAX)
				return -ENAMETOOLONG;
			memcpy(session->name, data, record.length);
			session->name_len = record.length;
			break;
		case CMDP_GROUP:
			if (in_group || record.length < sizeof(group))
				return -EINVAL;
			memcpy(&group, data, sizeof(group));
			ret = cmdp_records(session, data + sizeof(group),
					   record.length - sizeof(group), true);
			if (group.flags & CMDP_GROUP_OPTIONAL)
				ret = 0;
			break;
		default:
			return -EINVAL;
		}
	}
	return ret;
}

static ssize_t cmdp_write(struct file *file, const char __user *buf,
			  size_t count, loff_t *ppos)
{
	struct cmdp_session *session = file->private_data;
	u8 *packet;
	int ret;

	if (count < sizeof(struct cmdp_header) || count > CMDP_PACKET_MAX)
		return -EMSGSIZE;
	packet = memdup_user(buf, count);
	if (IS_ERR(packet))
		return PTR_ERR(packet);

	ret = cmdp_check((struct cmdp_header *)packet, count);
	if (!ret) {
		mutex_lock(&session->lock);
		ret = cmdp_records(session, packet + sizeof(struct cmdp_header),
				   count - sizeof(struct cmdp_header), false);
		mutex_unlock(&session->lock);
	}
	kfree(packet);
	return ret ? ret : count;
}

static ssize_t cmdp_read(struct file *file, char __user *buf, size_t count,
			 loff_t *ppos)
{
	struct cmdp_session *session = file->private_data;
	ssize_t ret;

	mutex_lock(&session->lock);
	ret = simple_read_from_buffer(buf, count, ppos, session->name,
				      session->name_len);
	mutex_unlock(&session->lock);
	return ret;
}

static int cmdp_open(struct inode *inode, struct file *file)
{
	struct cmdp_session *session = kzalloc(sizeof(*session), GFP_KERNEL);

	if (!session)
		return -ENOMEM;
	mutex_init(&session->lock);
	file->private_data = session;
	return 0;
}

static int cmdp_release(struct inode *inode, struct file *file)
{
	struct cmdp_session *session = file->private_data;

	kfree(session->entries);
	kfree(session);
	return 0;
}

static const struct file_operations cmdp_fops = {
	.owner = THIS_MODULE,
	.open = cmdp_open,
	.release = cmdp_release,
	.read = cmdp_read,
	.write = cmdp_write,
	.unlocked_ioctl = cmdp_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = default_llseek,
};

static struct miscdevice cmdp_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &cmdp_fops,
	.mode = 0600,
};
module_misc_device(cmdp_device);

MODULE_DESCRIPTION("Protocol of commands behind a character device");
MODULE_AUTHOR("The pkvfuzz authors");
MODULE_LICENSE("GPL");
