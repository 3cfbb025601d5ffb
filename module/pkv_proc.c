// SPDX-License-Identifier: GPL-2.0
/* pkv: /proc/pkv. */
#include <linux/cpumask.h>
#include <linux/percpu.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

#include "pkv_device.h"

static const char * const pkv_op_names[PKV_N_OPS] = {
	[PKV_OP_OPEN] = "open",
	[PKV_OP_READ] = "read",
	[PKV_OP_WRITE] = "write",
	[PKV_OP_LLSEEK] = "llseek",
	[PKV_OP_POLL] = "poll",
	[PKV_OP_LIST] = "list",
	[PKV_OP_DELETE] = "delete",
	[PKV_OP_CLEAR] = "clear",
};

int pkv_proc_show(struct seq_file *seq, void *unused)
{
	struct pkv *pkv = seq->private;
	struct pkv_usage usage;
	unsigned int op;
	int cpu;

	pkv_store_usage(&pkv->store, &usage);
	seq_printf(seq, "lock: %s\n", pkv->store.lock.ops->name);
	seq_printf(seq, "ttl_ms: %u\n", READ_ONCE(pkv->store.ttl_ms));
	seq_printf(seq, "keys: %u of %u\n", usage.keys, PKV_SLOTS);
	seq_printf(seq, "value_bytes: %u\n", usage.bytes);
	seq_printf(seq, "expired: %llu\n", usage.expired);
	seq_printf(seq, "open_files: %d\n", atomic_read(&pkv->files));

	/* An operation that runs right now may be in one column only. */
	seq_puts(seq, "operation calls errors\n");
	for (op = 0; op < PKV_N_OPS; op++) {
		unsigned long calls = 0, errors = 0;

		for_each_possible_cpu(cpu) {
			const struct pkv_counts *counts;

			counts = per_cpu_ptr(pkv->counts, cpu);
			calls += READ_ONCE(counts->calls[op]);
			errors += READ_ONCE(counts->errors[op]);
		}
		seq_printf(seq, "%s %lu %lu\n", pkv_op_names[op], calls,
			   errors);
	}
	return 0;
}

int pkv_proc_create(struct pkv *pkv, const char *name)
{
	/* As the node: what others write is nobody's business. */
	pkv->proc = proc_create_single_data(name, 0400, NULL, pkv_proc_show,
					    pkv);
	return pkv->proc ? 0 : -ENOMEM;
}

/* Waits for those who are reading the file. */
void pkv_proc_remove(struct pkv *pkv)
{
	proc_remove(pkv->proc);
}
