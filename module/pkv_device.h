/* SPDX-License-Identifier: GPL-2.0 */
/* pkv: a store as a character device, and what is counted of its use. */
#ifndef _PKV_DEVICE_H
#define _PKV_DEVICE_H

#include <linux/atomic.h>
#include <linux/cdev.h>
#include <linux/device/class.h>
#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/types.h>
#include <linux/wait.h>

#include "pkv_store.h"

struct proc_dir_entry;
struct seq_file;

/* Operations that are counted. */
enum pkv_op {
	PKV_OP_OPEN,
	PKV_OP_READ,
	PKV_OP_WRITE,
	PKV_OP_LLSEEK,
	PKV_OP_POLL,
	PKV_OP_LIST,
	PKV_OP_DELETE,
	PKV_OP_CLEAR,
	PKV_N_OPS
};

/**
 * struct pkv_counts - how often each operation was asked for on one CPU
 * @calls: all of them
 * @errors: those that failed
 */
struct pkv_counts {
	unsigned long calls[PKV_N_OPS];
	unsigned long errors[PKV_N_OPS];
};

/**
 * struct pkv - a store and its device
 * @store: the keys and values
 * @changed: woken by each write that stored something
 * @counts: use since the device was registered, by CPU and operation
 * @files: open files
 * @devt: device number
 * @class: class of the device
 * @cdev: the character device
 * @proc: its file in /proc, if the kernel has that
 */
struct pkv {
	struct pkv_store store;
	wait_queue_head_t changed;
	struct pkv_counts __percpu *counts;
	atomic_t files;

	dev_t devt;
	struct class class;
	struct cdev cdev;
	struct proc_dir_entry *proc;
};

/**
 * struct pkv_file - an open file, and the value that it reads
 * @pkv: its device
 * @lock: protects what follows
 * @generation: of @value; 0 if there was none yet
 * @next: position in @value at which reading goes on
 * @len: bytes in @value
 * @value: a copy, so that it is read whole whatever becomes of the key
 */
struct pkv_file {
	struct pkv *pkv;
	struct mutex lock;	/* protects the rest */
	u64 generation;
	loff_t next;
	size_t len;
	char value[PKV_VALUE_MAX];
};

extern const struct file_operations pkv_fops;

int pkv_register(struct pkv *pkv, const char *name, const char *strategy);
void pkv_unregister(struct pkv *pkv);

#ifdef CONFIG_PROC_FS
int pkv_proc_create(struct pkv *pkv, const char *name);
void pkv_proc_remove(struct pkv *pkv);
int pkv_proc_show(struct seq_file *seq, void *unused);
#else
static inline int pkv_proc_create(struct pkv *pkv, const char *name)
{
	return 0;
}

static inline void pkv_proc_remove(struct pkv *pkv)
{
}
#endif

#endif /* _PKV_DEVICE_H */
